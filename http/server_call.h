#pragma once
/* One request of the small server, from its head until its answer has gone: between http/server.c,
 * which owns connections, and http/server_call.c, which owns calls. A call is on its connection's
 * list while it has one; it outlives it while a handler holds it. */

#include "base/loop.h"
#include "http/grpc_pipe.h"
#include "http/server.h"

struct http_conn;

/* X(value, meaning) */
#define CALL_STATES(X)                                                                             \
    X(BODY, "the request is coming")                                                               \
    X(HELD, "a handler has it")                                                                    \
    X(SENDING, "the handler gave it back; the answer goes out")                                    \
    X(DISCARDING, "HTTP/2: answered before the request's end, which is read away for a while")     \
    X(ENDED, "buried")

enum call_state {
#define X(value, meaning) CALL_##value,
    CALL_STATES(X)
#undef X
};

/* How the answer of a gRPC call stands. */
enum call_ending {
    ENDING_NONE, /* messages may be sent */
    ENDING_DUE,  /* status and text are known; they go behind what is queued */
    ENDING_SENT  /* nothing more goes out */
};

struct http_call {
    struct list link; /* in its connection's calls */
    struct loop *loop;
    struct http_conn *conn; /* null: it left us */
    const struct http_server_options *options;
    const struct http_route *route; /* null: nobody's, the server answers */
    struct arena arena;
    struct grpc_pipe pipe; /* a plain call uses its stream and `out` alone */
    struct task task;      /* owns the stream */
    struct timer timer;
    struct grave grave;
    struct task *owner; /* the handler's; may be null */
    struct http_request request;
    struct buf body;
    uint8_t *body_bytes;  /* the whole body in one piece; null: none */
    uint64_t moved_bytes; /* SENDING: sent when the timer was set; DISCARDING: come when it began */
    struct slice text;    /* ENDING_DUE: for grpc-message */
    enum grpc_status status;
    uint64_t charged; /* of *place.bodies_bytes, while it has a connection */
    uint32_t body_max;
    uint8_t state;  /* enum call_state */
    uint8_t ending; /* enum call_ending */
    bool grpc;      /* the client speaks it */
    bool head_sent;
};

struct grpc_stream {
    struct http_call call;
};

/* A request's head came. */
void call_begin(struct http_conn *conn, const struct codec_event *ev);
/* A request that the codec refused before there was a call. */
void call_begin_refused(struct http_conn *conn, const struct codec_event *ev);
/* The connection is going: the call is on its own. */
void call_lose(struct http_call *call);

/* ---- what a call needs of its connection; http/server.c ---- */

struct call_place {
    struct loop *loop;
    struct channel *channel;
    const struct http_server_options *options;
    struct list *calls;
    uint64_t *bodies_bytes; /* what the bodies of all calls hold */
    struct addr peer;
    struct addr local;
    const struct conn_peer *identity; /* null: no certificate */
    bool tls;
    bool http2;
    bool closing; /* no request follows: say so */
};

struct call_place conn_place(struct http_conn *conn);
/* The request cannot be told from what follows, or the client misbehaves: this answer is the last.
 */
void conn_close_after(struct http_conn *conn);
/* The call is off the list; the connection looks at itself again. */
void conn_call_left(struct http_conn *conn);
