#pragma once
/* Whether a failed attempt is made again: one pure function of what was asked, what happened, and
 * what may still be spent. Called once per attempt, while its final head is held back.
 *
 * Two rules stand side by side. The policy's: retry_on, as Envoy reads it, for any method that the
 * policy's author let pass. And one that is always on, unless a policy says num_retries 0: what
 * provably reached no application is tried again, whatever the method, and charged to no budget. */

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/fail.h"
#include "sidecar/resilience/budget.h"
#include "sidecar/route/match.h"

/* Retries where a route has no policy: the free ones. */
#define RETRY_FREE_MAX        2
#define RETRY_BACKOFF_BASE_US 25000
#define RETRY_BACKOFF_MAX_US  250000
/* A server that asks for more patience than this is not waited for. */
#define RETRY_SERVER_WAIT_MAX_US 10000000

struct retry_asked {
    const struct retry_policy *policy; /* null: only the free retries */
    struct slice method;
    struct matcher *matcher; /* for retriable_headers */
    bool body_replayable;    /* false: more of the body went out than is held for replay */
    uint32_t free_max;       /* retries where there is no policy */
    uint32_t retries_done;
};

struct retry_happened {
    enum fail fail;               /* FAIL_NONE: an answer came */
    const struct message *answer; /* its head; null when fail is set */
    int grpc_status;              /* of a trailers-only answer; -1: none seen */
    bool request_sent;            /* a byte of the request was written to a ready connection */
    bool answer_passed_on;        /* its head went to the client: nothing can be taken back */
    bool peer_overloaded;         /* a PEER frame said: do not retry */
    bool death_charged; /* the connection died, and another of its streams was charged already */
};

struct retry_means {
    const struct breaker_limits *limits;
    struct budget_state budget;
    uint64_t now_us;
    uint64_t deadline_us; /* of the whole request; 0: none */
    uint64_t draw;        /* uniform, for the jitter */
};

/* X(value, meaning): the reason, for the decision record and metrics */
#define RETRY_WHYS(X)                                                                              \
    X(FINAL, "an answer that no rule retries")                                                     \
    X(FREE, "provably reached no application")                                                     \
    X(POLICY, "retry_on covers it")                                                                \
    X(NOT_COVERED, "no rule covers it")                                                            \
    X(PASSED_ON, "the answer's head had gone to the client")                                       \
    X(BODY, "the body is not held for replay")                                                     \
    X(EXHAUSTED, "as many retries as allowed were made")                                           \
    X(BUDGET, "the cluster's retry budget is spent")                                               \
    X(PUSHBACK, "the server asked for no retry")                                                   \
    X(DEADLINE, "the request's time would be over first")                                          \
    X(OFF, "num_retries is 0")

enum retry_why {
#define X(value, meaning) RETRY_WHY_##value,
    RETRY_WHYS(X)
#undef X
};

const char *retry_why_name(enum retry_why why);

struct retry_verdict {
    bool again;
    bool avoid_tried; /* prefer endpoints that this request has not tried */
    bool charge;      /* counts as a retry under way until it ends (breaker_retry_begin) */
    bool limit_hit;   /* not again, although a rule wanted it: flag URX (EXHAUSTED), or the
                         overflow of the retry budget (BUDGET) is counted */
    enum retry_why why;
    uint64_t delay_us; /* 0: at once */
};

struct retry_verdict retry_decide(const struct retry_asked *asked,
                                  const struct retry_happened *happened,
                                  const struct retry_means *means);

/* Whether the policy's retry_on covers what happened. Grpc conditions hold for answers that carry a
 * grpc-status; every condition but those needs no body. */
bool retry_covers(const struct retry_asked *asked, const struct retry_happened *happened) MUST_USE;
/* Full jitter: uniform in [0, min(base * 2^retries_done, max)]. */
uint64_t retry_backoff_us(const struct retry_policy *policy, uint32_t retries_done, uint64_t draw);
/* What the answer says about waiting: grpc-retry-pushback-ms (negative or no number: do not retry;
 * gRFC A6), Retry-After in seconds (RFC 9110 10.2.3; its date form is not honoured). False: do not
 * retry; *wait_us 0: it says nothing. */
bool retry_server_wait(const struct message *answer, uint64_t *wait_us) MUST_USE;
/* retry_on's list, as the route and x-envoy-retry-on write it: tokens are or'ed into *on; numbers
 * 100 to 599 (Istio writes them) go to `codes`, at most `max`. Returns how many numbers; unknown
 * tokens are skipped, as Envoy skips them. */
unsigned retry_parse_on(struct slice list, uint32_t *on, uint16_t *codes, unsigned max);
