#pragma once
/* One try of a request at one endpoint: pick, connect, send, hold the final head for the retry's
 * decision. Embedded in its exchange, which runs it; it ends before the next one begins. One
 * worker. */

#include <stdbool.h>
#include <stdint.h>

#include "http/channel.h"
#include "sidecar/fail.h"
#include "sidecar/upstream/pool.h"

struct exchange;

/* Each direction has its own state: an answer may come while the request still goes out. */
#define SEND_STATES(X)                                                                             \
    X(IDLE, "no endpoint picked yet")                                                              \
    X(WAIT, "queued in the connection pool")                                                       \
    X(BODY, "head sent; body flowing")                                                             \
    X(ENDED, "end of request sent")                                                                \
    X(CUT, "reset or given up")
#define RECV_STATES(X)                                                                             \
    X(NONE, "no head yet")                                                                         \
    X(INTERIM, "1xx passed on")                                                                    \
    X(HELD, "final head here, a retry still possible")                                             \
    X(BODY, "head passed on; body flowing")                                                        \
    X(ENDED, "complete")                                                                           \
    X(CUT, "reset or short")

enum send_state {
#define X(value, meaning) SEND_##value,
    SEND_STATES(X)
#undef X
        SEND_COUNT
};
enum recv_state {
#define X(value, meaning) RECV_##value,
    RECV_STATES(X)
#undef X
        RECV_COUNT
};

struct attempt {
    struct stream up;
    struct ticket ticket;
    struct endpoint *endpoint; /* a reference; null: none picked */
    enum send_state send;
    enum recv_state recv;
    enum fail fail;       /* how it failed; FAIL_NONE: it has not */
    enum fail refusal;    /* refused or reset: why, in its sidecar's words; FAIL_NONE: not said */
    uint64_t begun_us;    /* 0: none is under way */
    uint64_t deadline_us; /* per-try timeout; 0: none */
    uint64_t idle_at_us;  /* per-try idle; 0: none */
    bool counted;         /* by the requests breaker and the endpoint */
    bool sent_continue;   /* a 100 was passed on */
};

enum attempt_step {
    ATTEMPT_WAIT,  /* something is armed that will wake the exchange */
    ATTEMPT_HEAD,  /* RECV is HELD: a final head is there */
    ATTEMPT_FAILED /* attempt->fail says how */
};

/* Picks an endpoint and asks its pool. */
void attempt_begin(struct exchange *exchange);
/* Goes on with whatever woke the exchange. */
enum attempt_step attempt_run(struct exchange *exchange);
/* A byte of it went or came: per-try idleness begins anew. */
void attempt_moved(struct exchange *exchange);
/* Reports to outlier detection and gives everything back. Resets the stream where it is not
 * complete. */
void attempt_end(struct exchange *exchange);

const char *send_state_name(enum send_state state);
const char *recv_state_name(enum recv_state state);
void attempt_set_send(struct attempt *attempt, enum send_state state);
void attempt_set_recv(struct attempt *attempt, enum recv_state state);
