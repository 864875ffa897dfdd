#include "sidecar/resilience/retry.h"

const char *retry_why_name(enum retry_why why)
{
    static const char *const names[] = {
#define X(value, meaning) #value,
        RETRY_WHYS(X)
#undef X
    };
    CHECK((unsigned)why < COUNT_OF(names));
    return names[why];
}

/* ---- what happened, against retry_on ---- */

static bool covers_status(const struct retry_policy *policy, uint16_t status)
{
    if ((policy->on & RETRY_ON_5XX) != 0 && status >= 500 && status <= 599) {
        return true;
    }
    if ((policy->on & RETRY_ON_GATEWAY_ERROR) != 0 && status >= 502 && status <= 504) {
        return true;
    }
    if ((policy->on & RETRY_ON_RETRIABLE_4XX) != 0 && status == 409) {
        return true;
    }
    if ((policy->on & RETRY_ON_STATUS_CODES) != 0) {
        for (unsigned i = 0; i < policy->code_count; i++) {
            if (policy->codes[i] == status) {
                return true;
            }
        }
    }
    return false;
}

static bool covers_grpc_status(const struct retry_policy *policy, int status)
{
    switch (status) {
    case 1:
        return (policy->on & RETRY_ON_GRPC_CANCELLED) != 0;
    case 4:
        return (policy->on & RETRY_ON_GRPC_DEADLINE) != 0;
    case 8:
        return (policy->on & RETRY_ON_GRPC_EXHAUSTED) != 0;
    case 13:
        return (policy->on & RETRY_ON_GRPC_INTERNAL) != 0;
    case 14:
        return (policy->on & RETRY_ON_GRPC_UNAVAILABLE) != 0;
    default:
        return false;
    }
}

static bool covers_headers(const struct retry_policy *policy, struct matcher *matcher,
                           const struct message *answer)
{
    if ((policy->on & RETRY_ON_HEADERS) == 0) {
        return false;
    }
    for (unsigned i = 0; i < policy->header_count; i++) {
        if (match_header(matcher, &policy->headers[i], answer)) {
            return true;
        }
    }
    return false;
}

static bool covers_answer(const struct retry_asked *asked, const struct retry_happened *happened)
{
    const struct retry_policy *policy = asked->policy;
    CHECK(happened->answer != NULL);
    /* A rate limiter's answer is retried only where it is asked for by name (Envoy). */
    if (headers_find_name(&happened->answer->headers, SLICE("x-envoy-ratelimited")) != NULL) {
        return (policy->on & RETRY_ON_RATELIMITED) != 0;
    }
    return covers_status(policy, happened->answer->status) ||
           covers_grpc_status(policy, happened->grpc_status) ||
           covers_headers(policy, asked->matcher, happened->answer);
}

/* The conditions that a failure without an answer meets. */
static uint32_t conditions_of(const struct retry_happened *happened)
{
    uint32_t any = RETRY_ON_5XX | RETRY_ON_GATEWAY_ERROR | RETRY_ON_RESET;
    uint32_t unsent = happened->request_sent ? 0 : (uint32_t)RETRY_ON_RESET_BEFORE_REQUEST;
    switch (fail_cause(happened->fail)) {
    case FAIL_CAUSE_CONNECT:
        return any | RETRY_ON_CONNECT_FAILURE | RETRY_ON_RESET_BEFORE_REQUEST;
    case FAIL_CAUSE_REFUSED:
        return any | RETRY_ON_REFUSED_STREAM | unsent;
    case FAIL_CAUSE_UNSENT:
        return any | RETRY_ON_RESET_BEFORE_REQUEST;
    case FAIL_CAUSE_RESET:
    case FAIL_CAUSE_TRY_TIMEOUT:
    case FAIL_CAUSE_BAD_ANSWER:
        return any | unsent;
    case FAIL_CAUSE_NONE:
    case FAIL_CAUSE_LOCAL:
    case FAIL_CAUSE_DEADLINE:
    case FAIL_CAUSE_CLIENT:
        return 0;
    }
    return 0;
}

bool retry_covers(const struct retry_asked *asked, const struct retry_happened *happened)
{
    if (happened->fail == FAIL_NONE) {
        return covers_answer(asked, happened);
    }
    uint32_t conditions = conditions_of(happened);
    bool ended_by_peer = fail_cause(happened->fail) != FAIL_CAUSE_TRY_TIMEOUT;
    if (conditions != 0 && ended_by_peer && message_method_idempotent(asked->method)) {
        conditions |= RETRY_ON_IDEMPOTENT_RESET;
    }
    return (asked->policy->on & conditions) != 0;
}

/* ---- waiting ---- */

static uint64_t add_capped(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t retry_backoff_us(const struct retry_policy *policy, uint32_t retries_done, uint64_t draw)
{
    uint64_t base = policy != NULL ? policy->backoff_base_us : RETRY_BACKOFF_BASE_US;
    uint64_t most = policy != NULL ? policy->backoff_max_us : RETRY_BACKOFF_MAX_US;
    uint64_t width = base;
    for (uint32_t i = 0; i < retries_done && width < most; i++) {
        width *= 2;
    }
    width = width < most ? width : most;
    return width == UINT64_MAX ? draw : draw % (width + 1);
}

bool retry_server_wait(const struct message *answer, uint64_t *wait_us)
{
    *wait_us = 0;
    const struct header *pushback = headers_find(&answer->headers, HEADER_GRPC_RETRY_PUSHBACK_MS);
    uint64_t number;
    if (pushback != NULL) {
        if (!slice_to_u64(pushback->value, INT32_MAX, &number)) {
            return false;
        }
        *wait_us = number * 1000;
        return true;
    }
    if (slice_to_u64(headers_value(&answer->headers, HEADER_RETRY_AFTER), UINT32_MAX, &number)) {
        *wait_us = number * 1000000;
    }
    return true;
}

/* ---- the decision ---- */

/* Nothing of it reached an application: the always-on retry. Failures of our own (no endpoint, an
 * open breaker) would only repeat themselves. */
static bool reached_nobody(const struct retry_happened *happened)
{
    switch (fail_cause(happened->fail)) {
    case FAIL_CAUSE_CONNECT:
    case FAIL_CAUSE_REFUSED:
    case FAIL_CAUSE_UNSENT:
        return true;
    case FAIL_CAUSE_RESET:
        return !happened->request_sent || MUTANT(1);
    case FAIL_CAUSE_NONE:
    case FAIL_CAUSE_LOCAL:
    case FAIL_CAUSE_TRY_TIMEOUT:
    case FAIL_CAUSE_BAD_ANSWER:
    case FAIL_CAUSE_DEADLINE:
    case FAIL_CAUSE_CLIENT:
        return false;
    }
    return false;
}

static struct retry_verdict give_up(enum retry_why why)
{
    return (struct retry_verdict){
        .why = why, .limit_hit = why == RETRY_WHY_EXHAUSTED || why == RETRY_WHY_BUDGET};
}

struct retry_verdict retry_decide(const struct retry_asked *asked,
                                  const struct retry_happened *happened,
                                  const struct retry_means *means)
{
    const struct retry_policy *policy = asked->policy;
    uint32_t retries_max = policy != NULL ? policy->max_retries : asked->free_max;
    bool answered = happened->fail == FAIL_NONE;
    CHECK(answered == (happened->answer != NULL));
    bool free_of_charge = reached_nobody(happened);
    if (!free_of_charge && (policy == NULL || !retry_covers(asked, happened))) {
        return give_up(answered ? RETRY_WHY_FINAL : RETRY_WHY_NOT_COVERED);
    }
    if (retries_max == 0) {
        return give_up(RETRY_WHY_OFF);
    }
    if (happened->answer_passed_on) {
        return give_up(RETRY_WHY_PASSED_ON);
    }
    if (!asked->body_replayable && !MUTANT(32)) {
        return give_up(RETRY_WHY_BODY);
    }
    if (asked->retries_done >= retries_max) {
        return give_up(RETRY_WHY_EXHAUSTED);
    }
    uint64_t wait_us = 0;
    if (happened->peer_overloaded || (answered && !retry_server_wait(happened->answer, &wait_us)) ||
        wait_us > RETRY_SERVER_WAIT_MAX_US) {
        return give_up(RETRY_WHY_PUSHBACK);
    }
    bool charge = !free_of_charge && !happened->death_charged;
    if (charge && !budget_allows(means->limits, &means->budget)) {
        return give_up(RETRY_WHY_BUDGET);
    }
    bool at_once = free_of_charge && asked->retries_done == 0;
    uint64_t delay_us = wait_us > 0 ? wait_us
                        : at_once   ? 0
                                    : retry_backoff_us(policy, asked->retries_done, means->draw);
    if (means->deadline_us != 0 && add_capped(means->now_us, delay_us) >= means->deadline_us) {
        return give_up(RETRY_WHY_DEADLINE);
    }
    return (struct retry_verdict){
        .again = true,
        .avoid_tried = (free_of_charge || policy->avoid_tried) && !MUTANT(6),
        .charge = charge,
        .why = free_of_charge ? RETRY_WHY_FREE : RETRY_WHY_POLICY,
        .delay_us = delay_us,
    };
}

/* ---- retry_on's text ---- */

unsigned retry_parse_on(struct slice list, uint32_t *on, uint16_t *codes, unsigned max)
{
    static const char *const tokens[RETRY_ON_COUNT] = {
#define X(value, token, meaning) token,
        RETRY_ONS(X)
#undef X
    };
    unsigned code_count = 0;
    while (list.at != NULL) {
        struct slice token = slice_trim(slice_cut(&list, ','));
        uint64_t number;
        if (slice_to_u64(token, 599, &number) && number >= 100) {
            if (code_count < max) {
                codes[code_count++] = (uint16_t)number;
                *on |= RETRY_ON_STATUS_CODES;
            }
            continue;
        }
        for (unsigned i = 0; i < RETRY_ON_COUNT; i++) {
            if (slice_eq(token, slice_of_text(tokens[i]))) {
                *on |= UINT32_C(1) << i;
            }
        }
    }
    return code_count;
}
