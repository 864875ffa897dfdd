#include "sidecar/resilience/timeout.h"

#include "http/grpc.h"
#include "sidecar/route/match.h"

static uint64_t after(uint64_t now_us, uint64_t length_us)
{
    return length_us > UINT64_MAX - now_us ? UINT64_MAX : now_us + length_us;
}

static uint64_t header_ms(const struct message *request, enum header_id id, bool *there)
{
    uint64_t ms = 0;
    *there = slice_to_u64(headers_value(&request->headers, id), UINT32_MAX, &ms);
    return ms * 1000;
}

/* grpc-timeout, cut to what the route allows; 0: no limit (Envoy FilterUtility::finalTimeout). */
static uint64_t grpc_limit(const struct route_forward *route, const struct message *request,
                           bool *there)
{
    uint64_t limit = 0;
    *there = grpc_timeout_parse(headers_value(&request->headers, HEADER_GRPC_TIMEOUT), &limit);
    return limit > route->grpc_timeout_max_us ? route->grpc_timeout_max_us : limit;
}

/* Looked at in every run, so found out once. */
static void find_first(struct timeout_plan *plan)
{
    const struct {
        uint64_t at_us;
        enum fail fail;
    } limits[] = {
        {plan->caller_at_us, FAIL_DEADLINE},
        {plan->route_at_us, FAIL_ROUTE_TIMEOUT},
        {plan->hop_at_us, FAIL_ROUTE_TIMEOUT},
        {plan->max_at_us, FAIL_MAX_DURATION},
    };
    plan->first_at_us = 0;
    plan->first_fail = FAIL_NONE;
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        if (limits[i].at_us != 0 &&
            (plan->first_at_us == 0 || limits[i].at_us < plan->first_at_us)) {
            plan->first_at_us = limits[i].at_us;
            plan->first_fail = limits[i].fail;
        }
    }
}

void timeout_plan(struct timeout_plan *plan, const struct route_forward *route,
                  const struct message *request, bool trust_envoy_headers, uint64_t now_us,
                  uint64_t default_idle_us, uint64_t default_max_us)
{
    bool there;
    bool grpc = match_is_grpc(request);
    *plan = (struct timeout_plan){
        .route_us = route->timeout_us,
        .try_us = route->retry != NULL ? route->retry->try_timeout_us : 0,
        .try_idle_us = route->retry != NULL ? route->retry->try_idle_us : 0,
        .idle_us = route->has_idle ? route->idle_us
                   : grpc          ? 0
                                   : default_idle_us,
    };
    uint64_t max_us = route->has_max_duration ? route->max_duration_us : default_max_us;
    if (max_us != 0) {
        plan->max_at_us = after(now_us, max_us);
    }
    if (route->honour_grpc_timeout && grpc) {
        uint64_t limit = grpc_limit(route, request, &there);
        if (there) {
            /* 0 from the caller means: already over. */
            plan->caller_at_us = after(now_us, limit);
            plan->max_at_us = 0;
        }
        if (route->grpc_timeout_replaces) {
            plan->route_us =
                there || route->grpc_timeout_max_us == UINT64_MAX ? 0 : route->grpc_timeout_max_us;
        }
    }
    if (trust_envoy_headers) {
        uint64_t limit = header_ms(request, HEADER_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &there);
        plan->route_us = there ? limit : plan->route_us;
    }
    uint64_t left = header_ms(request, HEADER_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, &there);
    if (there && left > 0) {
        plan->hop_at_us = after(now_us, left);
    }
    /* A try that may last longer than the whole says nothing (Envoy). */
    if (plan->route_us != 0 && plan->try_us >= plan->route_us) {
        plan->try_us = 0;
    }
    find_first(plan);
}

void timeout_request_ended(struct timeout_plan *plan, uint64_t now_us)
{
    if (plan->route_us != 0 && plan->route_at_us == 0) {
        plan->route_at_us = after(now_us, plan->route_us);
        find_first(plan);
    }
}

uint64_t timeout_of_try(const struct timeout_plan *plan, uint64_t try_started_us, enum fail *fail)
{
    uint64_t whole = timeout_of_request(plan, fail);
    if (plan->try_us == 0) {
        return whole;
    }
    uint64_t of_try = after(try_started_us, plan->try_us);
    if (whole != 0 && whole <= of_try) {
        return whole;
    }
    *fail = FAIL_TRY_TIMEOUT;
    return of_try;
}

uint64_t timeout_left_us(const struct timeout_plan *plan, uint64_t now_us)
{
    enum fail fail;
    uint64_t end = timeout_of_request(plan, &fail);
    uint64_t left = end == 0 ? 0 : end > now_us ? end - now_us : 1;
    /* The route's own time has not begun while the request streams: the next hop may have it all.
     */
    if (plan->route_us != 0 && plan->route_at_us == 0 && (left == 0 || plan->route_us < left)) {
        left = plan->route_us;
    }
    return left;
}

uint64_t timeout_expected_us(const struct timeout_plan *plan, uint64_t now_us)
{
    uint64_t left = timeout_left_us(plan, now_us);
    return plan->try_us != 0 && (left == 0 || plan->try_us < left) ? plan->try_us : left;
}
