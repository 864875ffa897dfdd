#include "sidecar/resilience/budget.h"

uint32_t budget_limit(const struct breaker_limits *limits, const struct budget_state *state)
{
    if (!limits->has_budget) {
        return limits->retries;
    }
    uint64_t busy = (uint64_t)state->active + state->pending;
    uint64_t share = busy * limits->budget_ppm / 1000000;
    if (share < limits->budget_concurrency) {
        return limits->budget_concurrency;
    }
    return share < UINT32_MAX ? (uint32_t)share : UINT32_MAX;
}

bool budget_allows(const struct breaker_limits *limits, const struct budget_state *state)
{
    return state->retries < budget_limit(limits, state);
}
