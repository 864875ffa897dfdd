#pragma once
/* HTTP/1.0 and 1.1 behind the codec contract (codec.h), at both ends of a connection.
 *
 * One request at a time. A server codec hands up request n+1 only when n's response has been
 * written whole and n's END has been handed up: until then codec_read returns MORE and leaves
 * pipelined bytes with the caller, who presents them again after it wrote the end of the response.
 * The ordinal of a request is its stream. A client codec gives a stream by codec_open when the
 * connection is free for a request, else 0.
 *
 * Scratch. What an event borrows (message, fields, a normalised path) lies in the h1_scratch that
 * all codecs of a thread share, so that an idle connection costs only its codec: it is valid until
 * the next codec_read or codec_eof on any codec of that scratch. codec_write does not touch it.
 *
 * Server, reading:
 *   - Bad input gives REFUSED with the reason, once, with the stream that the request has or would
 *     have had. What follows is read and thrown away. The caller writes the answer, if it has
 * written no head yet, and closes: the codec adds Connection: close and says finished.
 *   - An Upgrade (message->protocol) or CONNECT (message->connect) gives HEAD without `end`; END is
 *     held back until the response decides. A HEAD of 101 (to an upgrade; a 2xx of HTTP/2 is turned
 *     into one) or 2xx (to CONNECT) makes DATA of all that comes, until eof gives END; any other
 *     final HEAD lets END out. So that it can pass the same way over extended CONNECT, an Upgrade
 *     with a body, and one to h2c, is handed up without protocol: the server may ignore it.
 *   - codec_eof: in the middle of a head CODEC_BAD with CODEC_BAD_CUT; in the middle of a body, or
 *     while a response is owed, RESET with code 8 (CANCEL: the client is gone); in a tunnel END;
 *     between requests MORE.
 *
 * Server, writing: HEAD's framing is made from content_length, has_body and the request: no body
 * for HEAD, 1xx, 204, 304 (DATA is then thrown away, so that a local reply needs no case for HEAD);
 * Content-Length where it is known; else chunked; to HTTP/1.0 until close. `Connection: close` is
 * said when the message has keep_alive false, the client wants it, the body ends with the
 * connection, GOAWAY was commanded, or the client was not told to send the body that it announced
 * with Expect. INTERIM is not written to HTTP/1.0. TRAILERS are dropped where the body is not
 * chunked (whether the receiver said `TE: trailers` is the caller's to look at).
 *
 * A response that ends before its request: DATA goes on coming, for the caller to throw away as
 * long as it wants; a connection that is to close counts as finished only behind that request's
 * END.
 *
 * Client, reading: 1xx give INTERIM (at most H1_INTERIM_MAX), 101 gives HEAD and a tunnel where an
 * Upgrade was sent, else BAD. All that is malformed, and bytes without a request, are CODEC_BAD:
 * the connection is lost. codec_eof: a body until close gets its END; a response that is owed or
 * cut gets RESET with code 8; an idle connection MORE.
 *
 * A message whose DATA is less or more than its content_length is not repaired: what is too much is
 * dropped, and the connection counts as unusable (finished). codec_write always returns DONE: how
 * much output may wait is the caller's to bound. GOAWAY with len 1 makes the next response the last
 * one; with len 0 an idle connection is finished too. */

#include "http/codec.h"
#include "http/h1_parse.h"
#include "http/headers.h"
#include "http/message.h"

#define H1_INTERIM_MAX     32
#define H1_EMPTY_LINES_MAX 4 /* before a request (RFC 9112 2.2 asks for one) */

/* One a thread; where every codec of that thread parses. */
struct h1_scratch {
    struct message message;
    struct header fields[HEADERS_MAX];
    uint8_t path[H1_LINE_BYTES_MAX];
};

/* Freed by codec_free. `limits` and `scratch` outlive the codec; limits within what h1_parse.h
 * allows. */
struct codec *h1_server_new(const struct h1_limits *limits, struct h1_scratch *scratch);
struct codec *h1_client_new(const struct h1_limits *limits, struct h1_scratch *scratch);
