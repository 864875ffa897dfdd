#include "sidecar/config/compile_retry.h"

#include "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities.pb-c.h"

#include "sidecar/config/compile_match.h"
#include "sidecar/resilience/retry.h"

#define ROUTE(type)    Envoy__Config__Route__V3__##type
#define ROUTE_IS(name) ENVOY__CONFIG__ROUTE__V3__##name

#define CODES_MAX       500 /* 100 to 599 */
#define BACKOFF_BASE_US 25000

static bool retry_codes(struct compiler *c, const ROUTE(RetryPolicy) * policy,
                        struct retry_policy *out)
{
    if (policy->n_retriable_status_codes > CODES_MAX) {
        return compile_refuse(c, "retriable_status_codes", "has more than %d items", CODES_MAX);
    }
    uint16_t codes[CODES_MAX];
    unsigned count = 0;
    for (size_t i = 0; i < policy->n_retriable_status_codes; i++) {
        uint32_t code = policy->retriable_status_codes[i];
        if (code >= 100 && code <= 599) { /* others no answer can have */
            codes[count++] = (uint16_t)code;
        }
    }
    count +=
        retry_parse_on(slice_of_text(policy->retry_on), &out->on, codes + count, CODES_MAX - count);
    uint16_t *kept = COMPILE_ARRAY(c, uint16_t, count);
    for (unsigned i = 0; i < count; i++) {
        kept[i] = codes[i];
    }
    out->codes = kept;
    out->code_count = (uint16_t)count;
    return true;
}

static bool retry_hosts(struct compiler *c, const ROUTE(RetryPolicy) * policy,
                        struct retry_policy *out)
{
    for (size_t i = 0; i < policy->n_retry_host_predicate; i++) {
        const ROUTE(RetryPolicy__RetryHostPredicate) *predicate = policy->retry_host_predicate[i];
        const struct xds_type *type;
        void *message;
        if (!COMPILE_IN(
                c,
                compile_any(
                    c, "typed_config",
                    predicate->config_type_case ==
                            ROUTE_IS(RETRY_POLICY__RETRY_HOST_PREDICATE__CONFIG_TYPE_TYPED_CONFIG)
                        ? predicate->typed_config
                        : NULL,
                    XDS_RETRY_HOST_PREDICATE, &type, &message),
                "retry_host_predicate[%zu]", i)) {
            return false;
        }
        out->avoid_tried = true;
    }
    return true;
}

static bool retry_priority(struct compiler *c, const ROUTE(RetryPolicy) * policy,
                           struct retry_policy *out)
{
    const ROUTE(RetryPolicy__RetryPriority) *priority = policy->retry_priority;
    if (priority == NULL) {
        return true;
    }
    const struct xds_type *type;
    void *message;
    bool typed = priority->config_type_case ==
                 ROUTE_IS(RETRY_POLICY__RETRY_PRIORITY__CONFIG_TYPE_TYPED_CONFIG);
    if (!COMPILE_IN(c,
                    compile_any(c, "typed_config", typed ? priority->typed_config : NULL,
                                XDS_RETRY_PRIORITY, &type, &message),
                    "retry_priority")) {
        return false;
    }
    const Envoy__Extensions__Retry__Priority__PreviousPriorities__V3__PreviousPrioritiesConfig
        *config = message;
    if (config->update_frequency <= 0) {
        return compile_refuse(c, "retry_priority.typed_config.update_frequency", "must be above 0");
    }
    out->leave_priority = true;
    return true;
}

static bool retry_backoff(struct compiler *c, const ROUTE(RetryPolicy) * policy,
                          struct retry_policy *out)
{
    const ROUTE(RetryPolicy__RetryBackOff) *backoff = policy->retry_back_off;
    out->backoff_base_us = BACKOFF_BASE_US;
    if (backoff != NULL) {
        if (backoff->base_interval == NULL) {
            return compile_refuse(c, "retry_back_off.base_interval", "is required");
        }
        if (!compile_duration_positive(c, "retry_back_off.base_interval", backoff->base_interval, 0,
                                       &out->backoff_base_us)) {
            return false;
        }
    }
    if (!compile_duration_positive(c, "retry_back_off.max_interval",
                                   backoff != NULL ? backoff->max_interval : NULL,
                                   out->backoff_base_us * 10, &out->backoff_max_us)) {
        return false;
    }
    return out->backoff_max_us >= out->backoff_base_us ||
           compile_refuse(c, "retry_back_off.max_interval", "is below base_interval");
}

bool compile_retry(struct compiler *c, const ROUTE(RetryPolicy) * policy,
                   const struct retry_policy **out)
{
    struct retry_policy *retry = ARENA_NEW(c->arena, struct retry_policy);
    *out = retry;
    return compile_u32(c, "num_retries", policy->num_retries, 1, 0, UINT32_MAX,
                       &retry->max_retries) &&
           compile_duration(c, "per_try_timeout", policy->per_try_timeout, 0,
                            &retry->try_timeout_us) &&
           compile_duration(c, "per_try_idle_timeout", policy->per_try_idle_timeout, 0,
                            &retry->try_idle_us) &&
           retry_codes(c, policy, retry) && retry_hosts(c, policy, retry) &&
           retry_priority(c, policy, retry) && retry_backoff(c, policy, retry) &&
           compile_header_matches(c, "retriable_headers", policy->retriable_headers,
                                  policy->n_retriable_headers, true, &retry->headers,
                                  &retry->header_count);
}
