#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "sidecar/fail.h"

#include <cmocka.h>

/* RFC 9209 2.3.1 to 2.3.32. */
static const char *const proxy_status_errors[] = {
    "dns_timeout",
    "dns_error",
    "destination_not_found",
    "destination_unavailable",
    "destination_ip_prohibited",
    "destination_ip_unroutable",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "connection_read_timeout",
    "connection_write_timeout",
    "connection_limit_reached",
    "tls_protocol_error",
    "tls_certificate_error",
    "tls_alert_received",
    "http_request_error",
    "http_request_denied",
    "http_response_incomplete",
    "http_response_header_section_size",
    "http_response_header_size",
    "http_response_body_size",
    "http_response_trailer_section_size",
    "http_response_trailer_size",
    "http_response_transfer_coding",
    "http_response_content_coding",
    "http_response_timeout",
    "http_upgrade_failed",
    "http_protocol_error",
    "proxy_internal_response",
    "proxy_internal_error",
    "proxy_configuration_error",
    "proxy_loop_detected",
};

static const char *const envoy_flags[] = {"NR",  "NC", "UH",  "UO", "UF", "UC",    "UR", "UT",
                                          "UPE", "DC", "DPE", "LR", "OM", "UMSDR", "SI", "DF"};

static bool among(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i], text) == 0) {
            return true;
        }
    }
    return false;
}

static void every_row_uses_registered_words(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FAIL_COUNT; i++) {
        const struct fail_facts *facts = fail_facts((enum fail)i);
        assert_true(facts->flag[0] == '\0' ||
                    among(facts->flag, envoy_flags, COUNT_OF(envoy_flags)));
        assert_true(facts->proxy_status[0] == '\0' ||
                    among(facts->proxy_status, proxy_status_errors, COUNT_OF(proxy_status_errors)));
        assert_true(facts->meaning[0] != '\0');
    }
}

/* What Envoy answers on gRPC for an HTTP status (Grpc::Utility::httpToGrpcStatus), but for the
 * deadline that the caller set and the client that is gone. */
static uint8_t grpc_of(uint16_t http)
{
    switch (http) {
    case 400:
        return 13;
    case 401:
        return 16;
    case 403:
        return 7;
    case 404:
        return 12;
    case 429:
    case 502:
    case 503:
    case 504:
        return 14;
    default:
        return 2;
    }
}

static void grpc_status_follows_from_http_status(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FAIL_COUNT; i++) {
        const struct fail_facts *facts = fail_facts((enum fail)i);
        if (facts->http == 0) { /* nothing can be sent */
            assert_string_equal(facts->proxy_status, "");
        } else if (i == FAIL_DEADLINE) {
            assert_int_equal(facts->grpc, 4);
        } else {
            assert_in_range(facts->http, 400, 599);
            assert_int_equal(facts->grpc, grpc_of(facts->http));
        }
    }
}

/* What is called unseen is retried whatever the method, so its causes are held narrow. */
static void unseen_only_where_nothing_was_asked(void **state)
{
    (void)state;
    for (unsigned i = 1; i < FAIL_COUNT; i++) {
        enum fail_cause cause = fail_cause((enum fail)i);
        bool before = cause == FAIL_CAUSE_LOCAL || cause == FAIL_CAUSE_CONNECT ||
                      cause == FAIL_CAUSE_REFUSED || cause == FAIL_CAUSE_UNSENT;
        assert_int_equal(fail_unseen((enum fail)i), before && i != FAIL_BUG);
    }
}

static void names_round_trip(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FAIL_COUNT; i++) {
        enum fail fail;
        assert_true(fail_from_name(slice_of_text(fail_name((enum fail)i)), &fail));
        assert_int_equal(fail, i);
    }
    enum fail fail;
    assert_false(fail_from_name(SLICE("NO_SUCH"), &fail));
    assert_false(fail_from_name(SLICE(""), &fail));
}

static void the_ones_that_users_know(void **state)
{
    (void)state;
    assert_int_equal(fail_facts(FAIL_OVERFLOW)->http, 503);
    assert_string_equal(fail_facts(FAIL_OVERFLOW)->flag, "UO");
    assert_string_equal(fail_facts(FAIL_UPSTREAM_CLOSED)->flag, "UC");
    assert_string_equal(fail_facts(FAIL_NO_CONFIG)->flag, "NC");
    assert_string_equal(fail_facts(FAIL_NO_HOST)->flag, "UH");
    assert_int_equal(fail_facts(FAIL_ROUTE_TIMEOUT)->grpc, 14);
    assert_int_equal(fail_facts(FAIL_NO_ROUTE)->http, 404);
    assert_string_equal(fail_facts(FAIL_MEMORY)->flag, "OM");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_uses_registered_words),
        cmocka_unit_test(grpc_status_follows_from_http_status),
        cmocka_unit_test(unseen_only_where_nothing_was_asked),
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(the_ones_that_users_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
