#pragma once
/* How many retries a cluster may have under way at once. Pure; any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "sidecar/config/snapshot.h"

/* Of the whole process (upstream/breaker). */
struct budget_state {
    uint32_t active;  /* requests at endpoints */
    uint32_t pending; /* requests that wait for a connection */
    uint32_t retries; /* charged retries under way */
};

/* How many charged retries may be under way: budget_ppm of what is active and waiting, at least
 * budget_concurrency; or max_retries where no budget is set (Envoy circuit_breaker.proto). */
uint32_t budget_limit(const struct breaker_limits *limits, const struct budget_state *state);
/* One more? */
bool budget_allows(const struct breaker_limits *limits, const struct budget_state *state) MUST_USE;
