/* Retries, as a table of what happened against what is done. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "sidecar/resilience/retry.h"

#include <cmocka.h>

#define MAX_HEADERS 4

struct answer {
    struct message message;
    struct header fields[MAX_HEADERS];
};

static void add_header(struct answer *answer, const char *name, const char *value)
{
    struct header *field = &answer->fields[answer->message.headers.count++];
    field->name = slice_of_text(name);
    field->value = slice_of_text(value);
    field->id = (uint8_t)header_id_of(field->name);
}

static void answer_init(struct answer *answer, uint16_t status)
{
    *answer = (struct answer){.message = {.kind = MESSAGE_RESPONSE, .status = status}};
    answer->message.headers.field = answer->fields;
    answer->message.headers.capacity = MAX_HEADERS;
}

static const struct breaker_limits plenty = {.retries = 100};

static struct retry_policy policy_of(const char *retry_on, uint32_t max_retries)
{
    static uint16_t codes[8];
    struct retry_policy policy = {.max_retries = max_retries,
                                  .backoff_base_us = 25000,
                                  .backoff_max_us = 250000,
                                  .codes = codes,
                                  .avoid_tried = true};
    policy.code_count =
        (uint16_t)retry_parse_on(slice_of_text(retry_on), &policy.on, codes, COUNT_OF(codes));
    return policy;
}

struct scene {
    struct matcher matcher;
    struct retry_policy policy;
    struct retry_asked asked;
    struct retry_happened happened;
    struct retry_means means;
    struct answer answer;
};

/* The request was sent whole, can be replayed, and failed as said (0: `status` was answered). */
static void scene_init(struct scene *scene, const char *retry_on, enum fail fail, uint16_t status)
{
    *scene = (struct scene){.means = {.limits = &plenty, .now_us = 1000000, .draw = 12345}};
    scene->asked = (struct retry_asked){.method = SLICE("GET"),
                                        .body_replayable = true,
                                        .free_max = RETRY_FREE_MAX,
                                        .matcher = &scene->matcher};
    if (retry_on != NULL) {
        scene->policy = policy_of(retry_on, 2);
        scene->asked.policy = &scene->policy;
    }
    scene->happened =
        (struct retry_happened){.fail = fail, .request_sent = true, .grpc_status = -1};
    if (fail == FAIL_NONE) {
        answer_init(&scene->answer, status);
        scene->happened.answer = &scene->answer.message;
    }
}

static struct retry_verdict decide(const struct scene *scene)
{
    return retry_decide(&scene->asked, &scene->happened, &scene->means);
}

static void retry_on_covers_what_envoy_says(void **state)
{
    (void)state;
    static const struct {
        const char *retry_on;
        enum fail fail;
        uint16_t status;
        bool again;
    } rows[] = {
        {"5xx", FAIL_NONE, 500, true},
        {"5xx", FAIL_NONE, 599, true},
        {"5xx", FAIL_NONE, 404, false},
        {"5xx", FAIL_UPSTREAM_CLOSED, 0, true},
        {"5xx", FAIL_TRY_TIMEOUT, 0, true},
        {"5xx", FAIL_ROUTE_TIMEOUT, 0, false},
        {"5xx", FAIL_CLIENT_GONE, 0, false},
        {"5xx", FAIL_OVERFLOW, 0, false},
        {"5xx", FAIL_NO_HOST, 0, false},
        {"gateway-error", FAIL_NONE, 500, false},
        {"gateway-error", FAIL_NONE, 502, true},
        {"gateway-error", FAIL_NONE, 504, true},
        {"gateway-error", FAIL_NONE, 505, false},
        {"gateway-error", FAIL_UPSTREAM_RESET, 0, true},
        {"reset", FAIL_NONE, 503, false},
        {"reset", FAIL_UPSTREAM_RESET, 0, true},
        {"reset", FAIL_TRY_TIMEOUT, 0, true},
        {"reset", FAIL_ANSWER_BAD, 0, true},
        {"reset-before-request", FAIL_UPSTREAM_RESET, 0, false},
        {"connect-failure", FAIL_UPSTREAM_RESET, 0, false},
        {"refused-stream", FAIL_UPSTREAM_RESET, 0, false},
        {"retriable-4xx", FAIL_NONE, 409, true},
        {"retriable-4xx", FAIL_NONE, 429, false},
        {"503", FAIL_NONE, 503, true},
        {"503", FAIL_NONE, 500, false},
        {"503", FAIL_UPSTREAM_RESET, 0, false},
        {"idempotent-reset", FAIL_UPSTREAM_CLOSED, 0, true},
        {"idempotent-reset", FAIL_TRY_TIMEOUT, 0, false},
        {"idempotent-reset", FAIL_NONE, 503, false},
        {"", FAIL_NONE, 503, false},
        {"unknown-word, 5xx", FAIL_NONE, 503, true},
        {"connect-failure,refused-stream,unavailable,cancelled,503", FAIL_NONE, 503, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scene scene;
        scene_init(&scene, rows[i].retry_on, rows[i].fail, rows[i].status);
        struct retry_verdict verdict = decide(&scene);
        if (verdict.again != rows[i].again) {
            fail_msg("row %zu: %s on %s %u", i, rows[i].retry_on, fail_name(rows[i].fail),
                     (unsigned)rows[i].status);
        }
        if (verdict.again) {
            assert_true(verdict.charge);
            assert_true(verdict.avoid_tried);
            assert_int_equal(verdict.why, RETRY_WHY_POLICY);
            assert_in_range(verdict.delay_us, 0, 25000);
        }
    }
}

static void grpc_conditions_read_the_status(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        int status;
    } rows[] = {{"cancelled", 1},
                {"deadline-exceeded", 4},
                {"resource-exhausted", 8},
                {"internal", 13},
                {"unavailable", 14}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (int status = -1; status < 17; status++) {
            struct scene scene;
            scene_init(&scene, rows[i].token, FAIL_NONE, 200);
            scene.happened.grpc_status = status;
            assert_int_equal(decide(&scene).again, status == rows[i].status);
        }
    }
}

/* The free retry: every way in which nothing was asked of an application, whatever the method. */
static void what_reached_nobody_is_tried_again(void **state)
{
    (void)state;
    for (unsigned i = 1; i < FAIL_COUNT; i++) {
        enum fail_cause cause = fail_cause((enum fail)i);
        struct scene scene;
        scene_init(&scene, NULL, (enum fail)i, 0);
        scene.asked.method = SLICE("POST");
        scene.means.limits = &(const struct breaker_limits){.retries = 0};
        struct retry_verdict verdict = decide(&scene);
        bool wanted = cause == FAIL_CAUSE_CONNECT || cause == FAIL_CAUSE_REFUSED ||
                      cause == FAIL_CAUSE_UNSENT;
        assert_int_equal(verdict.again, wanted);
        if (wanted) {
            assert_int_equal(verdict.why, RETRY_WHY_FREE);
            assert_int_equal(verdict.delay_us, 0);
            assert_false(verdict.charge);
            assert_true(verdict.avoid_tried);
        }
    }
}

/* A POST whose bytes went out may have been seen: never without its author's word. */
static void a_post_that_may_have_been_seen_is_not_repeated(void **state)
{
    (void)state;
    static const enum fail fails[] = {FAIL_UPSTREAM_CLOSED, FAIL_UPSTREAM_RESET, FAIL_ANSWER_CUT};
    for (size_t i = 0; i < COUNT_OF(fails); i++) {
        struct scene scene;
        scene_init(&scene, NULL, fails[i], 0);
        scene.asked.method = SLICE("POST");
        assert_false(decide(&scene).again);
        scene.happened.request_sent = false;
        assert_true(decide(&scene).again);
        scene_init(&scene, "idempotent-reset,connect-failure,refused-stream", fails[i], 0);
        scene.asked.method = SLICE("POST");
        assert_false(decide(&scene).again);
        scene.asked.method = SLICE("PUT");
        assert_true(decide(&scene).again);
        scene_init(&scene, "5xx", fails[i], 0);
        scene.asked.method = SLICE("POST");
        assert_true(decide(&scene).again); /* the policy says so */
    }
}

static void zero_turns_all_off(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, "5xx", FAIL_CONNECT_REFUSED, 0);
    scene.policy.max_retries = 0;
    struct retry_verdict verdict = decide(&scene);
    assert_false(verdict.again);
    assert_int_equal(verdict.why, RETRY_WHY_OFF);
    assert_false(verdict.limit_hit);
}

static void limits_end_it(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, "5xx", FAIL_NONE, 503);
    scene.asked.retries_done = 2;
    struct retry_verdict verdict = decide(&scene);
    assert_int_equal(verdict.why, RETRY_WHY_EXHAUSTED);
    assert_true(verdict.limit_hit);

    scene_init(&scene, NULL, FAIL_CONNECT_REFUSED, 0);
    scene.asked.retries_done = RETRY_FREE_MAX;
    assert_int_equal(decide(&scene).why, RETRY_WHY_EXHAUSTED);

    scene_init(&scene, NULL, FAIL_CONNECT_REFUSED, 0);
    scene.asked.free_max = 0;
    assert_int_equal(decide(&scene).why, RETRY_WHY_OFF);

    scene_init(&scene, "5xx", FAIL_NONE, 503);
    scene.means.budget.retries = 100;
    verdict = decide(&scene);
    assert_int_equal(verdict.why, RETRY_WHY_BUDGET);
    assert_true(verdict.limit_hit);

    scene_init(&scene, "5xx", FAIL_NONE, 503);
    scene.asked.body_replayable = false;
    assert_int_equal(decide(&scene).why, RETRY_WHY_BODY);

    scene_init(&scene, "5xx", FAIL_UPSTREAM_CLOSED, 0);
    scene.happened.answer_passed_on = true;
    assert_int_equal(decide(&scene).why, RETRY_WHY_PASSED_ON);

    scene_init(&scene, "5xx", FAIL_NONE, 503);
    scene.means.deadline_us = scene.means.now_us;
    assert_int_equal(decide(&scene).why, RETRY_WHY_DEADLINE);

    scene_init(&scene, "5xx", FAIL_NONE, 200);
    assert_int_equal(decide(&scene).why, RETRY_WHY_FINAL);
    scene_init(&scene, "5xx", FAIL_CLIENT_GONE, 0);
    assert_int_equal(decide(&scene).why, RETRY_WHY_NOT_COVERED);
}

/* A dead connection under many streams is one event for the budget. */
static void a_dead_connection_is_charged_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, "5xx", FAIL_UPSTREAM_CLOSED, 0);
    assert_true(decide(&scene).charge);
    scene.happened.death_charged = true;
    scene.means.budget.retries = 100;
    struct retry_verdict verdict = decide(&scene);
    assert_true(verdict.again);
    assert_false(verdict.charge);
}

static void servers_may_ask_for_patience(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *value;
        bool again;
        uint64_t delay_us;
    } rows[] = {
        {"retry-after", "1", true, 1000000},           {"retry-after", "3600", false, 0},
        {"grpc-retry-pushback-ms", "40", true, 40000}, {"grpc-retry-pushback-ms", "-1", false, 0},
        {"grpc-retry-pushback-ms", "soon", false, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct scene scene;
        scene_init(&scene, "5xx", FAIL_NONE, 503);
        add_header(&scene.answer, rows[i].name, rows[i].value);
        struct retry_verdict verdict = decide(&scene);
        assert_int_equal(verdict.again, rows[i].again);
        if (verdict.again) {
            assert_int_equal(verdict.delay_us, rows[i].delay_us);
        } else {
            assert_int_equal(verdict.why, RETRY_WHY_PUSHBACK);
        }
    }
    struct scene scene;
    scene_init(&scene, "5xx", FAIL_REFUSED_STREAM, 0);
    scene.happened.peer_overloaded = true;
    assert_int_equal(decide(&scene).why, RETRY_WHY_PUSHBACK);
    scene_init(&scene, "5xx", FAIL_NONE, 503);
    add_header(&scene.answer, "retry-after", "Wed, 21 Oct 2026 07:28:00 GMT");
    assert_true(decide(&scene).again);
}

static void rate_limited_only_by_name(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, "5xx,503", FAIL_NONE, 503);
    add_header(&scene.answer, "x-envoy-ratelimited", "true");
    assert_false(decide(&scene).again);
    scene_init(&scene, "envoy-ratelimited", FAIL_NONE, 429);
    assert_false(decide(&scene).again);
    add_header(&scene.answer, "x-envoy-ratelimited", "true");
    assert_true(decide(&scene).again);
}

static void retriable_headers_match_the_answer(void **state)
{
    (void)state;
    const struct header_match matches[] = {
        {.name = SLICE("x-try-again"), .kind = HEADER_MATCH_PRESENT, .present = true},
        {.name = SLICE(":status"),
         .source = HEADER_SOURCE_STATUS,
         .kind = HEADER_MATCH_RANGE,
         .range_start = 420,
         .range_end = 421},
    };
    struct scene scene;
    scene_init(&scene, "retriable-headers", FAIL_NONE, 200);
    scene.policy.headers = matches;
    scene.policy.header_count = COUNT_OF(matches);
    assert_false(decide(&scene).again);
    add_header(&scene.answer, "X-Try-Again", "");
    assert_true(decide(&scene).again);
    scene.answer.message.headers.count = 0;
    scene.answer.message.status = 420;
    assert_true(decide(&scene).again);
}

static void backoff_doubles_up_to_its_cap(void **state)
{
    (void)state;
    struct retry_policy policy = policy_of("5xx", 9);
    static const uint64_t widths[] = {25000, 50000, 100000, 200000, 250000, 250000};
    for (uint32_t n = 0; n < COUNT_OF(widths); n++) {
        uint64_t greatest = 0;
        for (uint64_t draw = 0; draw < 3000; draw++) {
            uint64_t delay = retry_backoff_us(&policy, n, draw * UINT64_C(0x9e3779b97f4a7c15) >> 7);
            assert_true(delay <= widths[n]);
            greatest = delay > greatest ? delay : greatest;
        }
        assert_true(greatest > widths[n] - widths[n] / 50);
    }
    assert_in_range(retry_backoff_us(NULL, 40, UINT64_MAX), 0, RETRY_BACKOFF_MAX_US);
}

static void parse_takes_numbers_and_tokens(void **state)
{
    (void)state;
    uint32_t on = 0;
    uint16_t codes[2];
    assert_int_equal(retry_parse_on(SLICE(" 5xx ,reset,, 503,429,404, 99, 600"), &on, codes, 2), 2);
    assert_int_equal(on, RETRY_ON_5XX | RETRY_ON_RESET | RETRY_ON_STATUS_CODES);
    assert_int_equal(codes[0], 503);
    assert_int_equal(codes[1], 429);
    on = 0;
    assert_int_equal(retry_parse_on(SLICE(""), &on, codes, 2), 0);
    assert_int_equal(on, 0);
    assert_string_equal(retry_why_name(RETRY_WHY_FREE), "FREE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retry_on_covers_what_envoy_says),
        cmocka_unit_test(grpc_conditions_read_the_status),
        cmocka_unit_test(what_reached_nobody_is_tried_again),
        cmocka_unit_test(a_post_that_may_have_been_seen_is_not_repeated),
        cmocka_unit_test(zero_turns_all_off),
        cmocka_unit_test(limits_end_it),
        cmocka_unit_test(a_dead_connection_is_charged_once),
        cmocka_unit_test(servers_may_ask_for_patience),
        cmocka_unit_test(rate_limited_only_by_name),
        cmocka_unit_test(retriable_headers_match_the_answer),
        cmocka_unit_test(backoff_doubles_up_to_its_cap),
        cmocka_unit_test(parse_takes_numbers_and_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
