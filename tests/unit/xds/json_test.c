#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/core/v3/core.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "envoy/service/status/v3/status.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

#include "xds/decode.h"
#include "xds/json.h"

#include <cmocka.h>

#define BOOTSTRAP (&envoy__config__bootstrap__v3__bootstrap__descriptor)
#define CLUSTER   (&envoy__config__cluster__v3__cluster__descriptor)

static struct arena arena;
static struct error err;

static int begin(void **state)
{
    (void)state;
    arena_init(&arena, NULL);
    err.text[0] = '\0';
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

static void *read_text(const ProtobufCMessageDescriptor *type, const char *text)
{
    json_t *value = json_parse(slice_of_text(text), NULL, &err);
    assert_non_null(value);
    void *message = xds_json_read(&arena, type, value, &err);
    json_decref(value);
    return message;
}

/* The message as compact JSON. */
static const char *text_of(const void *message)
{
    json_t *value = xds_json_write(&arena, message);
    struct slice text = json_text(&arena, value, false);
    json_decref(value);
    return arena_text(&arena, text);
}

static void assert_refused(const ProtobufCMessageDescriptor *type, const char *text,
                           const char *reason)
{
    assert_null(read_text(type, text));
    assert_string_equal(err.text, reason);
}

static void assert_same(const ProtobufCMessageDescriptor *type, const char *text)
{
    void *message = read_text(type, text);
    if (message == NULL) {
        print_message("%s\n", err.text);
    }
    assert_non_null(message);
    assert_string_equal(text_of(message), text);
}

static const char bootstrap[] =
    "{\"node\":{\"id\":\"n\",\"metadata\":{\"NAMESPACE\":\"shop\",\"N\":1.5,\"L\":[true,null]}},"
    "\"static_resources\":{\"listeners\":[{\"name\":\"in\",\"address\":{\"socket_address\":{"
    "\"address\":\"127.0.0.1\",\"port_value\":8080}},\"filter_chains\":[{\"filters\":[{"
    "\"name\":\"hcm\",\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.extensions.filters."
    "network.http_connection_manager.v3.HttpConnectionManager\",\"stat_prefix\":\"in\","
    "\"route_config\":{\"virtual_hosts\":[{\"name\":\"all\",\"domains\":[\"*\"],\"routes\":[{"
    "\"match\":{\"prefix\":\"/\"},\"route\":{\"cluster\":\"app\",\"timeout\":\"0s\"}}]}]},"
    "\"http_filters\":[{\"name\":\"router\",\"typed_config\":{\"@type\":\"type.googleapis.com/"
    "envoy.extensions.filters.http.router.v3.Router\"}}]}}]}]}],"
    "\"clusters\":[{\"name\":\"app\",\"type\":\"STATIC\",\"connect_timeout\":\"0.250s\","
    "\"load_assignment\":{\"cluster_name\":\"app\",\"endpoints\":[{\"lb_endpoints\":[{"
    "\"endpoint\":{\"address\":{\"socket_address\":{\"address\":\"127.0.0.1\",\"port_value\":9"
    "}}},\"load_balancing_weight\":3}]}]}}]}}";

static void a_bootstrap_survives_both_ways(void **state)
{
    (void)state;
    assert_same(BOOTSTRAP, bootstrap);
    Envoy__Config__Bootstrap__V3__Bootstrap *read = read_text(BOOTSTRAP, bootstrap);
    assert_non_null(read);
    const Envoy__Config__Cluster__V3__Cluster *cluster = read->static_resources->clusters[0];
    assert_int_equal(cluster->connect_timeout->nanos, 250000000);
    assert_int_equal(
        cluster->load_assignment->endpoints[0]->lb_endpoints[0]->load_balancing_weight->value, 3);
    const Google__Protobuf__Any *any =
        read->static_resources->listeners[0]->filter_chains[0]->filters[0]->typed_config;
    Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager *manager =
        decode_any(
            &arena,
            &envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__descriptor,
            any->type_url, any->value, &err);
    assert_non_null(manager);
    assert_string_equal(manager->stat_prefix, "in");
}

static void an_unknown_field_is_refused_with_its_path(void **state)
{
    (void)state;
    assert_refused(BOOTSTRAP, "{\"static_resources\":{\"clusters\":[{\"foo\":1}]}}",
                   "static_resources.clusters[0].foo: envoy.config.cluster.v3.Cluster has no such "
                   "field, or it is not supported");
    assert_refused(BOOTSTRAP, "{\"nodes\":{}}",
                   "nodes: envoy.config.bootstrap.v3.Bootstrap has no such field, or it is not "
                   "supported");
    assert_refused(CLUSTER,
                   "{\"metadata\":{\"typed_filter_metadata\":{\"x.y\":{\"@type\":"
                   "\"type.googleapis.com/envoy.config.cluster.v3.Cluster\",\"bar\":1}}}}",
                   "metadata.typed_filter_metadata[\"x.y\"].bar: envoy.config.cluster.v3.Cluster "
                   "has no such field, or it is not supported");
}

static void an_unknown_extension_is_refused_with_its_path(void **state)
{
    (void)state;
    assert_refused(CLUSTER,
                   "{\"transport_socket\":{\"name\":\"x\",\"typed_config\":{\"@type\":"
                   "\"type.googleapis.com/a.B\"}}}",
                   "transport_socket.typed_config: unknown or unsupported type "
                   "type.googleapis.com/a.B");
    assert_refused(CLUSTER, "{\"transport_socket\":{\"typed_config\":{\"name\":1}}}",
                   "transport_socket.typed_config: has no \"@type\"");
}

static void wrong_types_and_ranges_are_refused(void **state)
{
    (void)state;
    assert_refused(CLUSTER, "{\"name\":1}", "name: wants a string, has an integer");
    assert_refused(CLUSTER, "{\"health_checks\":{}}",
                   "health_checks: wants an array, has an object");
    assert_refused(CLUSTER, "{\"lb_policy\":\"BEST\"}",
                   "lb_policy: envoy.config.cluster.v3.Cluster.LbPolicy has no value \"BEST\"");
    assert_refused(CLUSTER, "{\"connect_timeout\":\"5\"}",
                   "connect_timeout: \"5\" is no duration such as \"1.5s\"");
    assert_refused(CLUSTER, "{\"per_connection_buffer_limit_bytes\":-1}",
                   "per_connection_buffer_limit_bytes: -1 is out of range (0 to 4294967295)");
    assert_refused(CLUSTER, "{\"per_connection_buffer_limit_bytes\":4294967296}",
                   "per_connection_buffer_limit_bytes: 4294967296 is out of range (0 to "
                   "4294967295)");
    assert_refused(CLUSTER, "[]", "wants an object, has an array");
}

static void two_members_of_a_oneof_are_refused(void **state)
{
    (void)state;
    assert_refused(CLUSTER, "{\"type\":\"EDS\",\"cluster_type\":{\"name\":\"x\"}}",
                   "cluster_type: cannot be set together with type");
}

static void both_names_of_a_field_are_taken_but_not_at_once(void **state)
{
    (void)state;
    Envoy__Config__Cluster__V3__Cluster *cluster =
        read_text(CLUSTER, "{\"connectTimeout\":\"1s\",\"lbPolicy\":1}");
    assert_non_null(cluster);
    assert_string_equal(text_of(cluster),
                        "{\"connect_timeout\":\"1s\",\"lb_policy\":\"LEAST_REQUEST\"}");
    assert_refused(CLUSTER, "{\"connectTimeout\":\"1s\",\"connect_timeout\":\"1s\"}",
                   "connect_timeout: given twice");
}

static void null_is_absent_except_in_a_struct(void **state)
{
    (void)state;
    Envoy__Config__Cluster__V3__Cluster *cluster =
        read_text(CLUSTER, "{\"name\":null,\"connect_timeout\":null,"
                           "\"metadata\":{\"filter_metadata\":{\"a\":{\"k\":null}}}}");
    assert_non_null(cluster);
    assert_string_equal(text_of(cluster),
                        "{\"metadata\":{\"filter_metadata\":{\"a\":{\"k\":null}}}}");
}

static void numbers_in_their_spellings(void **state)
{
    (void)state;
    Envoy__Config__Cluster__V3__Cluster *cluster = read_text(
        CLUSTER, "{\"ring_hash_lb_config\":{\"minimum_ring_size\":\"18446744073709551615\"}}");
    assert_non_null(cluster);
    assert_true(cluster->ring_hash_lb_config->minimum_ring_size->value == UINT64_MAX);
    assert_string_equal(text_of(cluster), "{\"ring_hash_lb_config\":{\"minimum_ring_size\":"
                                          "\"18446744073709551615\"}}");
    cluster = read_text(CLUSTER, "{\"per_connection_buffer_limit_bytes\":1e3}");
    assert_non_null(cluster);
    assert_int_equal(cluster->per_connection_buffer_limit_bytes->value, 1000);
    assert_refused(CLUSTER, "{\"per_connection_buffer_limit_bytes\":1.5}",
                   "per_connection_buffer_limit_bytes: wants a whole number, has a fraction");

    Google__Protobuf__DoubleValue *number =
        read_text(&google__protobuf__double_value__descriptor, "\"-Infinity\"");
    assert_non_null(number);
    assert_string_equal(text_of(number), "\"-Infinity\"");
    number = read_text(&google__protobuf__double_value__descriptor, "\"2.5e1\"");
    assert_non_null(number);
    assert_string_equal(text_of(number), "25");
    assert_refused(&google__protobuf__double_value__descriptor, "\"0x10\"",
                   "wants a number, has a string");
}

static void durations_times_and_bytes(void **state)
{
    (void)state;
    static const char *const same[] = {
        "{\"connect_timeout\":\"3s\"}", "{\"connect_timeout\":\"-0.500s\"}",
        "{\"connect_timeout\":\"1.000001s\"}", "{\"connect_timeout\":\"0.000000001s\"}"};
    for (size_t i = 0; i < COUNT_OF(same); i++) {
        assert_same(CLUSTER, same[i]);
    }
    static const char *const bad[] = {"s",    "1",    "1.s", "1.0000000001s",
                                      "--1s", "1e3s", "+1s", "999999999999999s"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_null(
            read_text(CLUSTER, arena_printf(&arena, "{\"connect_timeout\":\"%s\"}", bad[i])));
    }

#define CONFIG (&envoy__service__status__v3__client_config__generic_xds_config__descriptor)
    assert_same(CONFIG, "{\"last_updated\":\"2026-02-28T23:59:59.500Z\"}");
    assert_same(CONFIG, "{\"last_updated\":\"2000-02-29T00:00:00Z\"}");
    assert_same(CONFIG, "{\"last_updated\":\"0001-01-01T00:00:00Z\"}");
    assert_same(CONFIG, "{\"last_updated\":\"9999-12-31T23:59:59.999999999Z\"}");
    void *east = read_text(CONFIG, "{\"last_updated\":\"2026-01-01T01:30:00+02:00\"}");
    assert_non_null(east);
    assert_string_equal(text_of(east), "{\"last_updated\":\"2025-12-31T23:30:00Z\"}");
    assert_null(read_text(CONFIG, "{\"last_updated\":\"2026-02-29T00:00:00Z\"}"));
    assert_null(read_text(CONFIG, "{\"last_updated\":\"2026-01-01\"}"));

#define SOURCE (&envoy__config__core__v3__data_source__descriptor)
    assert_same(SOURCE, "{\"inline_bytes\":\"/+8=\"}");
    assert_same(SOURCE, "{\"inline_bytes\":\"\"}");
    void *url = read_text(SOURCE, "{\"inline_bytes\":\"_-8\"}");
    assert_non_null(url);
    assert_string_equal(text_of(url), "{\"inline_bytes\":\"/+8=\"}");
    assert_refused(SOURCE, "{\"inline_bytes\":\"a\"}", "inline_bytes: not base64");
    assert_refused(SOURCE, "{\"inline_bytes\":\"ab!=\"}", "inline_bytes: not base64");
}

static void an_any_of_a_well_known_type_has_a_value(void **state)
{
    (void)state;
    assert_same(CLUSTER, "{\"metadata\":{\"typed_filter_metadata\":{\"k\":{\"@type\":"
                         "\"type.googleapis.com/google.protobuf.StringValue\",\"value\":\"v\"}}}}");
    assert_refused(CLUSTER,
                   "{\"metadata\":{\"typed_filter_metadata\":{\"k\":{\"@type\":"
                   "\"type.googleapis.com/google.protobuf.StringValue\"}}}}",
                   "metadata.typed_filter_metadata[\"k\"]: wants \"@type\" and \"value\", nothing "
                   "else");
}

static void an_any_that_nobody_knows_is_written_as_bytes(void **state)
{
    (void)state;
    Google__Protobuf__Any any;
    google__protobuf__any__init(&any);
    char url[] = "type.googleapis.com/a.B";
    uint8_t bytes[] = {1, 2};
    any.type_url = url;
    any.value = (ProtobufCBinaryData){.len = 2, .data = bytes};
    assert_string_equal(text_of(&any),
                        "{\"@type\":\"type.googleapis.com/a.B\",\"value\":\"AQI=\"}");
}

static void private_keys_do_not_get_out(void **state)
{
    (void)state;
    void *secret = read_text(
        &envoy__extensions__transport_sockets__tls__v3__secret__descriptor,
        "{\"name\":\"default\",\"tls_certificate\":{\"certificate_chain\":{\"inline_string\":"
        "\"CERT\"},\"private_key\":{\"inline_string\":\"KEY\"}}}");
    assert_non_null(secret);
    assert_string_equal(text_of(secret),
                        "{\"name\":\"default\",\"tls_certificate\":{\"certificate_chain\":{"
                        "\"inline_string\":\"CERT\"},\"private_key\":\"[redacted]\"}}");
}

static void depth_is_bounded_both_ways(void **state)
{
    (void)state;
    /* A Value in a ListValue in a Value: each array is two messages. */
    json_t *value = json_integer(1);
    for (unsigned i = 0; i < 60; i++) {
        json_t *array = json_array();
        (void)json_array_append_new(array, value);
        value = array;
    }
    assert_null(xds_json_read(&arena, &google__protobuf__value__descriptor, value, &err));
    assert_non_null(strstr(err.text, "nested deeper than 100"));
    json_decref(value);

    Google__Protobuf__ListValue lists[120];
    Google__Protobuf__Value values[120];
    Google__Protobuf__Value *at[120];
    for (unsigned i = 0; i < 120; i++) {
        google__protobuf__list_value__init(&lists[i]);
        google__protobuf__value__init(&values[i]);
        values[i].kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        values[i].list_value = &lists[i];
        if (i > 0) {
            at[i] = &values[i - 1];
            lists[i].n_values = 1;
            lists[i].values = &at[i];
        }
    }
    assert_non_null(strstr(text_of(&values[119]), "[nested too deeply]"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_bootstrap_survives_both_ways, begin, end),
        cmocka_unit_test_setup_teardown(an_unknown_field_is_refused_with_its_path, begin, end),
        cmocka_unit_test_setup_teardown(an_unknown_extension_is_refused_with_its_path, begin, end),
        cmocka_unit_test_setup_teardown(wrong_types_and_ranges_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(two_members_of_a_oneof_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(both_names_of_a_field_are_taken_but_not_at_once, begin,
                                        end),
        cmocka_unit_test_setup_teardown(null_is_absent_except_in_a_struct, begin, end),
        cmocka_unit_test_setup_teardown(numbers_in_their_spellings, begin, end),
        cmocka_unit_test_setup_teardown(durations_times_and_bytes, begin, end),
        cmocka_unit_test_setup_teardown(an_any_of_a_well_known_type_has_a_value, begin, end),
        cmocka_unit_test_setup_teardown(an_any_that_nobody_knows_is_written_as_bytes, begin, end),
        cmocka_unit_test_setup_teardown(private_keys_do_not_get_out, begin, end),
        cmocka_unit_test_setup_teardown(depth_is_bounded_both_ways, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
