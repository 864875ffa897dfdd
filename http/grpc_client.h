#pragma once
/* gRPC calls over one HTTP/2 connection that this opens: long-lived streams (xDS) and unary calls
 * (certificates). A client is one connection and lives as long: when it is CLOSED its owner frees
 * it and makes a new one when it thinks fit; nothing here reconnects. Names are resolved by the
 * caller.
 *
 * The owner's task is posted when the client's state changes, a call's when something comes for it
 * or it may send again. One thread: the loop's. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/check.h"
#include "base/slice.h"
#include "http/server.h" /* enum grpc_next */

struct loop;
struct task;
struct tls_context;
struct tls_keys;

/* X(value, meaning) */
#define GRPC_CLIENT_STATES(X)                                                                      \
    X(CONNECTING, "TCP and TLS; calls may be made already and wait")                               \
    X(OPEN, "calls go out")                                                                        \
    X(DRAINING, "the server takes no new calls; those that are open go on")                        \
    X(CLOSED, "gone; grpc_client_why says why")

enum grpc_client_state {
#define X(value, meaning) GRPC_CLIENT_##value,
    GRPC_CLIENT_STATES(X)
#undef X
};
const char *grpc_client_state_name(enum grpc_client_state state);

struct grpc_client_options {
    struct addr to;
    struct slice authority;  /* ":authority", and what messages name; copied */
    struct tls_context *tls; /* a client's, which offers "h2"; null: plaintext HTTP/2. Borrowed */
    struct tls_keys *keys;   /* with tls; outlive the client */
    struct slice sni;        /* with tls; empty: none */
    struct slice
        identity; /* with tls: the server's SPIFFE id, exactly; empty: the context decides */
    struct slice user_agent; /* empty: "pillion"; copied */
    uint64_t connect_us;     /* for TCP and TLS; 0: 5 s */
    uint64_t ping_us;        /* without a byte received: PING; as long again: closed; 0: 30 s */
    struct task *owner;      /* may be null */
};

struct grpc_client;
struct grpc_call;

/* Begins to connect. Never null: what fails at once is found in the state. */
struct grpc_client *grpc_client_new(struct loop *loop,
                                    const struct grpc_client_options *options) MUST_USE;
/* Closes the connection. Calls stay their owners', closed with UNAVAILABLE. */
void grpc_client_free(struct grpc_client **client);
enum grpc_client_state grpc_client_get_state(const struct grpc_client *client);
/* Why it is CLOSED, for people: "connect to 10.0.0.1:15012: connection refused"; empty before. */
struct slice grpc_client_why(const struct grpc_client *client);

struct grpc_call_options {
    struct slice path;          /* "/package.Service/Method"; copied */
    struct slice authorization; /* "Bearer ..."; empty: none. Never indexed, never logged; copied */
    uint64_t deadline_us;       /* from now on; 0: none */
    uint32_t message_max;       /* bytes of a message that comes; 0: 4 MiB */
    struct task *owner;
};

/* A stream: send and receive until it ends. Owned by the caller. */
struct grpc_call *grpc_client_stream(struct grpc_client *client,
                                     const struct grpc_call_options *options) MUST_USE;
/* One message each way; grpc_call_next gives the answer, then CLOSED. */
struct grpc_call *grpc_client_unary(struct grpc_client *client,
                                    const struct grpc_call_options *options,
                                    struct slice message) MUST_USE;
/* Cancels it where it is still open. */
void grpc_call_free(struct grpc_call **call);

/* *message is borrowed until the next call with this one, and no longer than this run of the
 * caller's task. Messages that came whole are given before
 * CLOSED, after which status and text say how it ended. Never GRPC_NEXT_END. */
enum grpc_next grpc_call_next(struct grpc_call *call, struct slice *message) MUST_USE;
/* Queues a copy; false: GRPC_STREAM_BACKLOG bytes are waiting, nothing was queued, and the owner is
 * posted when there is room. Dropped (true) on a closed call. */
bool grpc_call_send(struct grpc_call *call, struct slice message) MUST_USE;
/* No more messages from us. */
void grpc_call_end(struct grpc_call *call);
bool grpc_call_closed(const struct grpc_call *call);
/* After CLOSED: a status of http/grpc.h. What ended without the server's word gets the one that
 * gRPC's own clients give: UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, or what the HTTP status maps
 * to. */
unsigned grpc_call_get_status(const struct grpc_call *call);
/* For people; may be empty. As long as the call. */
struct slice grpc_call_get_text(const struct grpc_call *call);
