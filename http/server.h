#pragma once
/* A small HTTP server on one loop: for the admin port, /metrics, and what pillion-control offers
 * (API, webhook, xDS, certificates). HTTP/1.1 and HTTP/2, plain or TLS. It is not the way of mesh
 * traffic, which is sidecar/exchange's.
 *
 * What it serves is a table of rows. A plain or a unary row's function is called once, when the
 * whole request is there, with a call that it owns from then on: it answers at once or later, but
 * always exactly once. A stream row's function is called when the request's head is there, with a
 * stream that it owns, and that it finishes exactly once. Both stay valid when the client leaves or
 * the server is freed meanwhile; what is sent then goes nowhere. From there on nothing calls up:
 * what changes posts the owner's task.
 *
 * Everything belongs to the loop's thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"
#include "http/headers.h"

struct loop;
struct task;
struct tls_context;
struct tls_keys;

struct http_server;
struct http_call;
struct grpc_stream;

/* ---- what is served ---- */

enum http_route_kind {
    HTTP_ROUTE_PLAIN, /* `plain` is called with the whole request */
    HTTP_ROUTE_UNARY, /* gRPC: `plain` is called with the one message as the request's body */
    HTTP_ROUTE_STREAM /* gRPC: `stream` is called with the head */
};

/* A row. Rows are tried in their order; the first whose path fits decides (and, among rows of one
 * path, the one whose method fits). No row: 404, or UNIMPLEMENTED for gRPC. No method: 405. */
struct http_route {
    const char *path;   /* "/stats", or with `prefix` what the path begins with: "/app-health/" */
    const char *method; /* "GET" serves HEAD too; null: every method. Not for gRPC */
    bool prefix;
    enum http_route_kind kind;
    uint32_t body_max; /* bytes of a body or message; 0: the server's */
    void (*plain)(void *owner, struct http_call *call);
    void (*stream)(void *owner, struct grpc_stream *stream);
};

struct http_server_options {
    const struct http_route *routes; /* outlive the server */
    size_t route_count;
    void *owner;              /* first argument of the rows' functions */
    uint32_t max_connections; /* more wait to be accepted; 0: 1024 */
    uint32_t max_streams;     /* at once on one HTTP/2 connection; 0: 100 */
    uint32_t body_max;        /* bytes; a larger body is 413; 0: 1 MiB */
    uint64_t
        bodies_max;    /* bytes of all bodies and unary messages together; above: 503; 0: 64 MiB */
    uint64_t head_us;  /* for the TLS handshake, and for each head from its first byte; 0: 10 s */
    uint64_t body_us;  /* for a body, from its head on; 0: 30 s */
    uint64_t idle_us;  /* without a request; 0: 60 s */
    uint64_t stall_us; /* without a byte taken of what waits to be sent; 0: 30 s */
    uint64_t ping_us;  /* HTTP/2 with open streams, without a byte received: PING; as long
                          again without one and the connection is gone; 0: 30 s */
};

/* Never null. The options are copied, what they point to is not. */
struct http_server *http_server_new(struct loop *loop,
                                    const struct http_server_options *options) MUST_USE;
/* Closes listeners and connections at once. Not from within a row's function. */
void http_server_free(struct http_server **server);

/* Listens; may be called for several addresses. A TLS context (base/tls.h, a server's) offers "h2"
 * and "http/1.1" by ALPN; null: plain, where the first bytes tell HTTP/2 from HTTP/1. Context and
 * keys are borrowed and outlive the server. *bound (may be null): where it listens, with the
 * kernel's port where that was 0. */
bool http_server_listen(struct http_server *server, const struct addr *at, struct tls_context *tls,
                        struct tls_keys *keys, struct addr *bound, struct error *err) MUST_USE;

/* Stops listening, ends idle connections, lets each other end with the answers that it owes:
 * GOAWAY, Connection: close. Streams are their owners' to finish. `drained` (may be null) is posted
 * when no connection is left. */
void http_server_drain(struct http_server *server, struct task *drained);
uint32_t http_server_connections(const struct http_server *server);

/* ---- a request ---- */

/* Valid as long as its call or stream. */
struct http_request {
    struct slice method;
    struct slice path;  /* without query, dot segments and escapes of plain characters */
    struct slice rest;  /* of the path, behind a prefix row's */
    struct slice query; /* without "?"; empty: none */
    struct slice authority;
    const struct headers *headers;
    struct slice body; /* or the unary call's message; empty for a stream */
    struct addr peer;
    struct addr local;
    bool loopback; /* the peer's address is one */
    bool tls;
    struct slice identity;       /* SPIFFE id of the client's certificate, empty without one */
    struct slice uid;            /* the pod's unique id in it, or empty */
    uint64_t certificate_end_us; /* when it ends, wall time; 0 without one */
};

/* The value of `name` in the query, as it is written (no escape is decoded). False: not there. */
bool http_request_query(const struct http_request *request, struct slice name, struct slice *value);
/* The token of "authorization: Bearer TOKEN"; empty where there is none. */
struct slice http_request_bearer(const struct http_request *request);

const struct http_request *http_call_get_request(const struct http_call *call);
/* The client left: an answer would go nowhere. The call must still be answered. */
bool http_call_gone(const struct http_call *call);
/* `owner` is posted when the client leaves before the answer; null: nobody. */
void http_call_set_owner(struct http_call *call, struct task *owner);

struct http_reply {
    uint16_t status;              /* 0: 200 */
    const char *content_type;     /* null: "text/plain; charset=utf-8" where there is a body */
    struct slice body;            /* copied */
    struct buf *from;             /* in place of body: emptied; of the same loop's pool */
    const struct header *headers; /* more fields; copied */
    size_t header_count;
};

/* Both consume the call. */
void http_call_answer_take(struct http_call **call, const struct http_reply *reply);
/* Of a unary row: the message for status 0 (OK), else `text` as grpc-message (may be empty).
 * Statuses: http/grpc.h. */
void http_call_answer_grpc_take(struct http_call **call, unsigned status, struct slice text,
                                struct slice message);

/* ---- a gRPC stream, the server's end ---- */

enum grpc_next {
    GRPC_NEXT_MESSAGE, /* *message is filled */
    GRPC_NEXT_NONE,    /* not now: the owner's task is posted when that changes */
    GRPC_NEXT_END,     /* the peer sends no more messages */
    GRPC_NEXT_CLOSED   /* the stream is gone: cancelled, connection lost, or a bad message */
};

const struct http_request *grpc_stream_get_request(const struct grpc_stream *stream);
/* Posted for each message, at the client's end, when it leaves, and when sending may go on. Posted
 * at once too: what came earlier may be waiting. */
void grpc_stream_set_owner(struct grpc_stream *stream, struct task *owner);
/* *message is borrowed until the next call with this stream, and no longer than this run of the
 * caller's task: what must last is copied. While messages are not taken the
 * client's window stays shut: at most a window's bytes wait. A message above the row's body_max
 * ends the stream with RESOURCE_EXHAUSTED (the caller sees CLOSED). */
enum grpc_next grpc_stream_next(struct grpc_stream *stream, struct slice *message) MUST_USE;
/* Queues a copy. False: too much is waiting (GRPC_STREAM_BACKLOG), nothing was queued, and the
 * owner is posted when there is room. On a closed stream the message is dropped and the result is
 * true. */
bool grpc_stream_send(struct grpc_stream *stream, struct slice message) MUST_USE;
/* Bytes that were sent and that the connection has not taken. */
size_t grpc_stream_backlog(const struct grpc_stream *stream);
bool grpc_stream_closed(const struct grpc_stream *stream);
/* Consumes it: what is queued goes out, then status and text. */
void grpc_stream_finish_take(struct grpc_stream **stream, unsigned status, struct slice text);

#define GRPC_STREAM_BACKLOG (256U * 1024)
