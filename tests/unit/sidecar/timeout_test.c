#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "sidecar/resilience/timeout.h"

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

struct call {
    struct message message;
    struct header fields[4];
};

static void call_init(struct call *call)
{
    *call = (struct call){.message = {.kind = MESSAGE_REQUEST}};
    call->message.headers.field = call->fields;
    call->message.headers.capacity = COUNT_OF(call->fields);
}

static void add(struct call *call, const char *name, const char *value)
{
    struct header *field = &call->fields[call->message.headers.count++];
    field->name = slice_of_text(name);
    field->value = slice_of_text(value);
    field->id = (uint8_t)header_id_of(field->name);
}

static struct timeout_plan plan_of(const struct route_forward *route, const struct call *call,
                                   bool trust)
{
    struct timeout_plan plan;
    timeout_plan(&plan, route, &call->message, trust, 10 * SECOND, 300 * SECOND, 0);
    return plan;
}

static void route_time_runs_from_the_request_end(void **state)
{
    (void)state;
    struct call call;
    call_init(&call);
    struct route_forward route = {.timeout_us = 15 * SECOND};
    struct timeout_plan plan = plan_of(&route, &call, false);
    enum fail fail;
    assert_int_equal(timeout_of_request(&plan, &fail), 0);
    assert_int_equal(plan.idle_us, 300 * SECOND);
    timeout_request_ended(&plan, 20 * SECOND);
    timeout_request_ended(&plan, 21 * SECOND); /* once only */
    assert_int_equal(timeout_of_request(&plan, &fail), 35 * SECOND);
    assert_int_equal(fail, FAIL_ROUTE_TIMEOUT);
    assert_int_equal(timeout_expected_us(&plan, 30 * SECOND), 5 * SECOND);
    assert_int_equal(timeout_expected_us(&plan, 40 * SECOND), 1);
}

static void no_limit_is_no_limit(void **state)
{
    (void)state;
    struct call call;
    call_init(&call);
    struct route_forward route = {.has_idle = true};
    struct timeout_plan plan = plan_of(&route, &call, true);
    timeout_request_ended(&plan, 20 * SECOND);
    enum fail fail;
    assert_int_equal(timeout_of_try(&plan, 20 * SECOND, &fail), 0);
    assert_int_equal(fail, FAIL_NONE);
    assert_int_equal(timeout_expected_us(&plan, 20 * SECOND), 0);
    assert_int_equal(plan.idle_us, 0);
}

static void a_try_has_its_own_limit(void **state)
{
    (void)state;
    struct call call;
    call_init(&call);
    struct retry_policy retry = {.try_timeout_us = 2 * SECOND};
    struct route_forward route = {.timeout_us = 5 * SECOND, .retry = &retry};
    struct timeout_plan plan = plan_of(&route, &call, false);
    timeout_request_ended(&plan, 10 * SECOND);
    enum fail fail;
    assert_int_equal(timeout_of_try(&plan, 10 * SECOND, &fail), 12 * SECOND);
    assert_int_equal(fail, FAIL_TRY_TIMEOUT);
    assert_int_equal(timeout_of_try(&plan, 14 * SECOND, &fail), 15 * SECOND);
    assert_int_equal(fail, FAIL_ROUTE_TIMEOUT);
    assert_int_equal(timeout_expected_us(&plan, 10 * SECOND), 2 * SECOND);
    retry.try_timeout_us = 5 * SECOND; /* says nothing beside the whole */
    plan = plan_of(&route, &call, false);
    assert_int_equal(plan.try_us, 0);
}

static void headers_of_the_caller(void **state)
{
    (void)state;
    struct route_forward route = {.timeout_us = 15 * SECOND};
    struct call call;
    call_init(&call);
    add(&call, "x-envoy-upstream-rq-timeout-ms", "300");
    struct timeout_plan plan = plan_of(&route, &call, false);
    assert_int_equal(plan.route_us, 15 * SECOND);
    plan = plan_of(&route, &call, true);
    assert_int_equal(plan.route_us, 300000);
    call_init(&call);
    add(&call, "x-envoy-upstream-rq-timeout-ms", "0");
    plan = plan_of(&route, &call, true);
    assert_int_equal(plan.route_us, 0);
    call_init(&call);
    add(&call, "x-envoy-upstream-rq-timeout-ms", "12x");
    plan = plan_of(&route, &call, true);
    assert_int_equal(plan.route_us, 15 * SECOND);

    call_init(&call);
    add(&call, "x-envoy-expected-rq-timeout-ms", "1000");
    plan = plan_of(&route, &call, false);
    enum fail fail;
    assert_int_equal(timeout_of_request(&plan, &fail), 11 * SECOND);
    assert_int_equal(fail, FAIL_ROUTE_TIMEOUT);
}

static void grpc_deadlines(void **state)
{
    (void)state;
    struct route_forward route = {.timeout_us = 15 * SECOND,
                                  .honour_grpc_timeout = true,
                                  .grpc_timeout_replaces = true,
                                  .grpc_timeout_max_us = UINT64_MAX};
    struct call call;
    call_init(&call);
    add(&call, "content-type", "application/grpc+proto");
    struct timeout_plan plan = plan_of(&route, &call, false);
    assert_int_equal(plan.route_us, 0); /* replaced by none */
    assert_int_equal(plan.idle_us, 0);  /* a watch is silent before its first message */
    add(&call, "grpc-timeout", "2S");
    plan = plan_of(&route, &call, false);
    enum fail fail;
    assert_int_equal(timeout_of_request(&plan, &fail), 12 * SECOND);
    assert_int_equal(fail, FAIL_DEADLINE);
    assert_int_equal(timeout_left_us(&plan, 11 * SECOND), SECOND);
    route.grpc_timeout_max_us = SECOND;
    plan = plan_of(&route, &call, false);
    assert_int_equal(timeout_of_request(&plan, &fail), 11 * SECOND);
    route.honour_grpc_timeout = false;
    plan = plan_of(&route, &call, false);
    assert_int_equal(plan.caller_at_us, 0);
    assert_int_equal(plan.route_us, 15 * SECOND);
    call.fields[0].value = SLICE("application/json");
    route.honour_grpc_timeout = true;
    plan = plan_of(&route, &call, false);
    assert_int_equal(plan.caller_at_us, 0);
}

static void greatest_duration(void **state)
{
    (void)state;
    struct call call;
    call_init(&call);
    struct route_forward route = {.has_max_duration = true, .max_duration_us = 3 * SECOND};
    struct timeout_plan plan = plan_of(&route, &call, false);
    enum fail fail;
    assert_int_equal(timeout_of_request(&plan, &fail), 13 * SECOND);
    assert_int_equal(fail, FAIL_MAX_DURATION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route_time_runs_from_the_request_end),
        cmocka_unit_test(no_limit_is_no_limit),
        cmocka_unit_test(a_try_has_its_own_limit),
        cmocka_unit_test(headers_of_the_caller),
        cmocka_unit_test(grpc_deadlines),
        cmocka_unit_test(greatest_duration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
