#pragma once
/* The arithmetic of time limits: which deadline a request has, which an attempt, and what is told
 * to the next hop. Pure; any thread. All times in microseconds of the loop's clock; 0: none. */

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/fail.h"

/* Every member that ends in _at_us is a moment, 0: none; the others are lengths, 0: none. */
struct timeout_plan {
    uint64_t route_us;     /* runs from the end of the request on (Envoy) */
    uint64_t route_at_us;  /* set by timeout_request_ended */
    uint64_t hop_at_us;    /* what the hop before has left */
    uint64_t caller_at_us; /* the caller's own deadline: grpc-timeout */
    uint64_t max_at_us;    /* the stream's greatest duration */
    uint64_t first_at_us;  /* of these four the first, and what it is called */
    enum fail first_fail;
    uint64_t try_us; /* of each attempt */
    uint64_t try_idle_us;
    uint64_t idle_us; /* nothing moves; until the final head is passed on */
};

/* `now_us` is when the request's head was complete. The caller's limits are honoured as the route
 * says: grpc-timeout where honour_grpc_timeout, x-envoy-upstream-rq-timeout-ms (milliseconds; 0:
 * none) where `trust_envoy_headers`; x-envoy-expected-rq-timeout-ms, what the hop before has left,
 * always, and only to shorten. `default_idle_us` and `default_max_us` are the listener's; the
 * former is not gRPC's: a watch may be silent before its first message, which is when most servers
 * send the head. */
void timeout_plan(struct timeout_plan *plan, const struct route_forward *route,
                  const struct message *request, bool trust_envoy_headers, uint64_t now_us,
                  uint64_t default_idle_us, uint64_t default_max_us);
/* The request's last byte is here: the route's time starts. */
void timeout_request_ended(struct timeout_plan *plan, uint64_t now_us);

/* The first moment at which the request as a whole is over, and as what; 0: never. */
static inline uint64_t timeout_of_request(const struct timeout_plan *plan, enum fail *fail)
{
    *fail = plan->first_fail;
    return plan->first_at_us;
}
/* The same for an attempt that starts at `try_started_us`. */
uint64_t timeout_of_try(const struct timeout_plan *plan, uint64_t try_started_us, enum fail *fail);
/* What is left of the request at now_us for the next hop; 0: no limit; at least 1. */
uint64_t timeout_left_us(const struct timeout_plan *plan, uint64_t now_us);
/* What the next hop is told (x-envoy-expected-rq-timeout-ms, grpc-timeout): the shorter of what is
 * left and one attempt's limit; 0: no limit, nothing to tell. */
uint64_t timeout_expected_us(const struct timeout_plan *plan, uint64_t now_us);
