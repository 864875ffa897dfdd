#pragma once
/* Connections to one endpoint from one worker, and the attempts that wait for one. HTTP/1: a
 * connection a request, idle ones kept and lent newest first; HTTP/2: many streams on few
 * connections; raw: a connection a tunnel, never kept. An idle connection keeps its read event:
 * whatever comes on it (FIN, RST, a stray byte) evicts it before it is lent.
 *
 * An attempt asks with a ticket. It is answered at once, or the owner of its stream is posted when
 * the ticket's state has changed. A pool lives while it has a connection or a waiting ticket; it
 * refers to its endpoint as long. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "http/channel.h"
#include "sidecar/fail.h"
#include "sidecar/upstream/cluster.h"

struct worker;
struct pool;

/* X(value, meaning) */
#define POOL_PROTOCOLS(X)                                                                          \
    X(HTTP1, "a connection a request")                                                             \
    X(HTTP2, "streams on shared connections")                                                      \
    X(RAW, "a connection a tunnel")

enum pool_protocol {
#define X(value, meaning) POOL_##value,
    POOL_PROTOCOLS(X)
#undef X
        POOL_PROTOCOL_COUNT
};

/* X(value, meaning) */
#define TICKET_STATES(X)                                                                           \
    X(IDLE, "nothing asked")                                                                       \
    X(WAITING, "queued for a connection")                                                          \
    X(READY, "the stream is on a connection")                                                      \
    X(FAILED, "there will be none: fail says why")

enum ticket_state {
#define X(value, meaning) TICKET_##value,
    TICKET_STATES(X)
#undef X
};

struct ticket {
    enum ticket_state state;
    enum fail fail;                 /* FAILED */
    struct list link;               /* in the pool's queue while WAITING */
    struct stream *stream;          /* attached when READY */
    struct pool *pool;              /* WAITING */
    struct shared_cluster *counted; /* READY over HTTP/2: where the stream counts as a connection */
    uint8_t protocol;               /* enum pool_protocol, while WAITING */
    bool high;                      /* the route's priority, for the breakers */
    bool reused;                    /* READY: the connection had served before */
    const char *detail; /* FAILED: the reason for people, in the stream's arena; or null */
};

/* Asks for a stream of that protocol at the endpoint. The ticket is IDLE and stays where it is
 * until pool_finish. HTTP2 may turn out as what the handshake agreed on: see
 * stream->channel->codec. */
void pool_ask(struct worker *worker, struct endpoint *endpoint, enum pool_protocol protocol,
              struct ticket *ticket);
/* Ends the ticket, whatever its state: out of the queue, out of the counts. The stream is the
 * caller's to complete, reset or detach before. */
void pool_finish(struct ticket *ticket);

/* Closes idle connections and lets the busy ones end. For an endpoint that was ejected or went
 * away. */
void pool_retire(struct pool *pool);
/* Closes everything; waiting tickets fail with FAIL_DRAINING. When the worker ends. */
void pool_close(struct pool *pool);
void pool_close_all(struct worker *worker);

/* The roots have changed: connections whose peer they would not let in now end at once, with what
 * they carry. */
void pool_recheck_all(struct worker *worker);

struct pool_counts {
    uint32_t connecting;
    uint32_t idle;
    uint32_t busy;
    uint32_t waiting;
};
struct pool_counts pool_counts(const struct pool *pool);
