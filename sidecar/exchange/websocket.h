#pragma once
/* The key that a WebSocket handshake carries over HTTP/1 and not over HTTP/2 (RFC 6455 4, RFC 8441
 * 5): made for a server that needs one and whose client sent none; answered for a client whose
 * server speaks HTTP/2. Everything else of the handshake passes as it is. One worker. */

struct exchange;

/* Before the head goes to an HTTP/1 server. */
void websocket_key_for_server(struct exchange *exchange);
/* Before the head of an answer that opens the tunnel goes down. */
void websocket_answer_for_client(struct exchange *exchange);
