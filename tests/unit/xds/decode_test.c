#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "envoy/config/core/v3/core.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

#include "xds/decode.h"

#include <cmocka.h>

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

#define ADDRESS       (&envoy__config__core__v3__socket_address__descriptor)
#define FULL_ADDRESS  (&envoy__config__core__v3__address__descriptor)
#define CLA           (&envoy__config__endpoint__v3__cluster_load_assignment__descriptor)
#define CHAIN_MATCH   (&envoy__config__listener__v3__filter_chain_match__descriptor)
#define VALUE         (&google__protobuf__value__descriptor)
#define WIRE(literal) SLICE(literal)
#define REFUSED(type, bytes, reason)                                                               \
    do {                                                                                           \
        err.text[0] = '\0';                                                                        \
        assert_null(decode_message(&arena, (type), (bytes), &err));                                \
        assert_string_equal(err.text, (reason));                                                   \
    } while (0)

static void scalars_strings_and_oneofs(void **state)
{
    (void)state;
    /* 1 protocol=UDP, 2 address="::1", 3 port_value=8000 */
    Envoy__Config__Core__V3__SocketAddress *address =
        decode_message(&arena, ADDRESS, WIRE("\x08\x01\x12\x03::1\x18\xc0\x3e"), &err);
    assert_non_null(address);
    assert_int_equal(address->protocol, ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__UDP);
    assert_string_equal(address->address, "::1");
    assert_int_equal(address->port_specifier_case,
                     ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE);
    assert_int_equal(address->port_value, 8000);
}

static void absent_fields_have_their_defaults(void **state)
{
    (void)state;
    Envoy__Config__Core__V3__SocketAddress *address =
        decode_message(&arena, ADDRESS, WIRE(""), &err);
    assert_non_null(address);
    assert_string_equal(address->address, "");
    assert_int_equal(address->port_specifier_case, 0);
}

static void unknown_fields_of_every_wire_type_are_skipped(void **state)
{
    (void)state;
    Envoy__Config__Core__V3__SocketAddress *address =
        decode_message(&arena, ADDRESS,
                       WIRE("\xf8\x07\x96\x01" /* 127: varint */
                            "\xf9\x07"
                            "12345678"       /* 127: 64 bits */
                            "\xfa\x07\x02xy" /* 127: bytes */
                            "\xfd\x07"
                            "1234" /* 127: 32 bits */
                            "\x12\x01z"),
                       &err);
    assert_non_null(address);
    assert_string_equal(address->address, "z");
    assert_int_equal(address->base.n_unknown_fields, 0);
}

static void repeated_scalars_packed_or_not(void **state)
{
    (void)state;
    /* 7 source_ports: packed {1, 300}, then one by one 7, then packed nothing */
    Envoy__Config__Listener__V3__FilterChainMatch *match =
        decode_message(&arena, CHAIN_MATCH, WIRE("\x3a\x03\x01\xac\x02\x38\x07\x3a\x00"), &err);
    assert_non_null(match);
    assert_int_equal(match->n_source_ports, 3);
    assert_int_equal(match->source_ports[0], 1);
    assert_int_equal(match->source_ports[1], 300);
    assert_int_equal(match->source_ports[2], 7);
}

static void a_message_that_comes_twice_is_merged(void **state)
{
    (void)state;
    /* Address.socket_address {address="a"} and then {port_value=1}: one message with both */
    Envoy__Config__Core__V3__Address *address = decode_message(&arena, FULL_ADDRESS,
                                                               WIRE("\x0a\x03\x12\x01"
                                                                    "a\x0a\x02\x18\x01"),
                                                               &err);
    assert_non_null(address);
    assert_string_equal(address->socket_address->address, "a");
    assert_int_equal(address->socket_address->port_value, 1);
}

static void the_last_member_of_a_oneof_wins(void **state)
{
    (void)state;
    /* Address.socket_address {port 1}, then Address.pipe {path "/p"} */
    Envoy__Config__Core__V3__Address *address =
        decode_message(&arena, FULL_ADDRESS, WIRE("\x0a\x02\x18\x01\x12\x04\x0a\x02/p"), &err);
    assert_non_null(address);
    assert_int_equal(address->address_case, ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE);
    assert_string_equal(address->pipe->path, "/p");
}

static void merging_keeps_the_elements_of_repeated_fields(void **state)
{
    (void)state;
    /* CLA.policy.drop_overloads {category "a"}; CLA.policy.drop_overloads {category "b"} */
    Envoy__Config__Endpoint__V3__ClusterLoadAssignment *cla =
        decode_message(&arena, CLA,
                       WIRE("\x22\x05\x12\x03\x0a\x01"
                            "a\x22\x05\x12\x03\x0a\x01"
                            "b"),
                       &err);
    assert_non_null(cla);
    assert_int_equal(cla->policy->n_drop_overloads, 2);
    assert_string_equal(cla->policy->drop_overloads[0]->category, "a");
    assert_string_equal(cla->policy->drop_overloads[1]->category, "b");
}

static void broken_framing_is_refused_by_name(void **state)
{
    (void)state;
    REFUSED(ADDRESS,
            WIRE("\x12\x05"
                 "ab"),
            "truncated");
    REFUSED(ADDRESS, WIRE("\x80"), "bad field tag");
    REFUSED(ADDRESS, WIRE("\x02\x00"), "field number out of range");
    REFUSED(ADDRESS, WIRE("\x08"), "bad varint");
    REFUSED(ADDRESS, WIRE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), "bad varint");
    REFUSED(ADDRESS, WIRE("\x0b"), "unknown wire type (groups are not supported)");
    REFUSED(ADDRESS,
            WIRE("\x0d"
                 "1234"),
            "protocol: another wire type than the field's");
    REFUSED(CHAIN_MATCH, WIRE("\x3a\x01\x80"), "source_ports[0]: bad varint");
}

static void text_must_be_utf8_without_a_zero_byte(void **state)
{
    (void)state;
    const struct slice bad[] = {
        SLICE("\x12\x03"
              "a\0b"),
        SLICE("\x12\x01\x80"),             /* a continuation alone */
        SLICE("\x12\x02\xc0\x80"),         /* overlong zero */
        SLICE("\x12\x03\xed\xa0\x80"),     /* a surrogate */
        SLICE("\x12\x04\xf4\x90\x80\x80"), /* above U+10FFFF */
        SLICE("\x12\x02\xe2\x82"),         /* cut short */
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        REFUSED(ADDRESS, bad[i], "address: not UTF-8, or a zero byte in it");
    }
    assert_non_null(decode_message(&arena, ADDRESS,
                                   WIRE("\x12\x09\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), &err));
}

static void an_error_names_the_path(void **state)
{
    (void)state;
    /* CLA.endpoints[1].lb_endpoints[0].health_status as bytes */
    REFUSED(CLA, WIRE("\x12\x00\x12\x04\x12\x02\x12\x00"),
            "endpoints[1].lb_endpoints[0]."
            "health_status: another wire type than "
            "the field's");
}

/* google.protobuf.Value {list_value {values {list_value ...}}}, `deep` lists, from the inside out.
 * Each level writes its length in two bytes, or three. */
static struct slice nested_lists(uint8_t *room, size_t size, unsigned deep)
{
    size_t at = size;
    for (unsigned i = 0; i < deep; i++) {
        static const uint8_t tags[] = {0x0a, 0x32}; /* ListValue.values, Value.list_value */
        for (unsigned k = 0; k < 2; k++) {
            size_t len = size - at;
            assert_true(at >= 4);
            room[--at] = (uint8_t)(len >> 14 & 0x7f);
            room[--at] = (uint8_t)((len >> 7 & 0x7f) | 0x80);
            room[--at] = (uint8_t)((len & 0x7f) | 0x80);
            room[--at] = tags[k];
        }
    }
    return slice_of(room + at, size - at);
}

static void depth_64_passes_and_66_is_refused(void **state)
{
    (void)state;
    uint8_t room[1024];
    /* n lists are 2n+1 messages: 63 and 65 */
    assert_non_null(decode_message(&arena, VALUE, nested_lists(room, sizeof room, 31), &err));
    assert_null(decode_message(&arena, VALUE, nested_lists(room, sizeof room, 32), &err));
    assert_non_null(strstr(err.text, "nested deeper than 64 messages"));
}

static void seventy_four_kilobytes_of_nesting_are_refused(void **state)
{
    (void)state;
    static uint8_t room[76 * 1024];
    assert_null(decode_message(&arena, VALUE, nested_lists(room, sizeof room, 9400), &err));
    assert_non_null(strstr(err.text, "nested deeper than 64 messages"));
}

static void a_small_message_cannot_take_much_memory(void **state)
{
    (void)state;
    /* 100,000 empty clusters of a RouteConfiguration's virtual hosts: 2 bytes each on the wire */
    static uint8_t room[400 * 1024];
    for (size_t i = 0; i < sizeof room; i += 2) {
        room[i] = 0x12;
        room[i + 1] = 0;
    }
    assert_null(decode_message(&arena, &envoy__config__route__v3__route_configuration__descriptor,
                               slice_of(room, sizeof room), &err));
    assert_non_null(strstr(err.text, "more memory than a message of this size may"));
    assert_true(arena.bytes <= DECODE_MEMORY_BASE + 40U * sizeof room);
}

static void an_any_must_name_the_type(void **state)
{
    (void)state;
    uint8_t bytes[] = {0x12, 0x01, 'a'};
    ProtobufCBinaryData value = {.len = sizeof bytes, .data = bytes};
    Envoy__Config__Core__V3__SocketAddress *address = decode_any(
        &arena, ADDRESS, "type.googleapis.com/envoy.config.core.v3.SocketAddress", value, &err);
    assert_non_null(address);
    assert_string_equal(address->address, "a");
    assert_null(
        decode_any(&arena, ADDRESS, "type.googleapis.com/envoy.config.core.v3.Pipe", value, &err));
    assert_string_equal(err.text, "envoy.config.core.v3.SocketAddress expected, not "
                                  "type.googleapis.com/envoy.config.core.v3.Pipe");
    assert_null(decode_any(&arena, ADDRESS, "", value, &err));
    assert_string_equal(err.text, "envoy.config.core.v3.SocketAddress expected, not an empty Any");
}

static void encode_and_decode_agree(void **state)
{
    (void)state;
    Envoy__Config__Core__V3__SocketAddress address;
    envoy__config__core__v3__socket_address__init(&address);
    char text[] = "10.0.0.1";
    address.address = text;
    address.port_specifier_case =
        ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    address.port_value = 80;
    struct slice bytes = encode_message(&arena, &address.base);
    Envoy__Config__Core__V3__SocketAddress *again = decode_message(&arena, ADDRESS, bytes, &err);
    assert_non_null(again);
    assert_string_equal(again->address, "10.0.0.1");
    assert_int_equal(again->port_value, 80);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scalars_strings_and_oneofs, begin, end),
        cmocka_unit_test_setup_teardown(absent_fields_have_their_defaults, begin, end),
        cmocka_unit_test_setup_teardown(unknown_fields_of_every_wire_type_are_skipped, begin, end),
        cmocka_unit_test_setup_teardown(repeated_scalars_packed_or_not, begin, end),
        cmocka_unit_test_setup_teardown(a_message_that_comes_twice_is_merged, begin, end),
        cmocka_unit_test_setup_teardown(the_last_member_of_a_oneof_wins, begin, end),
        cmocka_unit_test_setup_teardown(merging_keeps_the_elements_of_repeated_fields, begin, end),
        cmocka_unit_test_setup_teardown(broken_framing_is_refused_by_name, begin, end),
        cmocka_unit_test_setup_teardown(text_must_be_utf8_without_a_zero_byte, begin, end),
        cmocka_unit_test_setup_teardown(an_error_names_the_path, begin, end),
        cmocka_unit_test_setup_teardown(depth_64_passes_and_66_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(seventy_four_kilobytes_of_nesting_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(a_small_message_cannot_take_much_memory, begin, end),
        cmocka_unit_test_setup_teardown(an_any_must_name_the_type, begin, end),
        cmocka_unit_test_setup_teardown(encode_and_decode_agree, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
