#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "xds/destination_key.h"

#include <cmocka.h>

static void addresses_are_spelled_in_one_way(void **state)
{
    (void)state;
    static const struct {
        const char *ip;
        uint16_t port;
        const char *network;
        const char *name;
    } cases[] = {
        {"10.96.0.10", 8000, "", "ip//10.96.0.10:8000"},
        {"::ffff:10.0.0.1", 80, "", "ip//10.0.0.1:80"},
        {"FD00:0:0::1", 443, "east", "ip/east/[fd00::1]:443"},
        {"1.2.3.4", 0, "", "ip//1.2.3.4:0"},
    };
    struct arena arena;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct addr addr;
        assert_true(addr_parse_ip(slice_of_text(cases[i].ip), &addr));
        addr.port = cases[i].port;
        const char *name = destination_key_of_addr(&arena, slice_of_text(cases[i].network), &addr);
        assert_string_equal(name, cases[i].name);
        struct destination_key key;
        assert_true(destination_key_parse(slice_of_text(name), &key, NULL));
        assert_int_equal(key.kind, DESTINATION_IP);
        assert_true(addr_eq(&key.addr, &addr));
        assert_int_equal(key.port, cases[i].port);
        assert_true(slice_eq(key.network, slice_of_text(cases[i].network)));
    }
    arena_fini(&arena);
}

static void hosts_are_folded(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        const char *name;
    } cases[] = {
        {"Order-Service", "host/order-service:80"},
        {"a.b.svc.cluster.local.", "host/a.b.svc.cluster.local:80"},
        {"[::1]", "host/[::1]:80"},
        {"10.0.0.1", "host/10.0.0.1:80"},
    };
    struct arena arena;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *name = destination_key_of_host(&arena, slice_of_text(cases[i].host), 80, NULL);
        assert_non_null(name);
        assert_string_equal(name, cases[i].name);
        struct destination_key key;
        assert_true(destination_key_parse(slice_of_text(name), &key, NULL));
        assert_int_equal(key.kind, DESTINATION_HOST);
        assert_int_equal(key.port, 80);
    }
    static const char *const bad[] = {"",     ".",   "a/b",       "a b", "a:1",
                                      "[::1", "[x]", "a\xc3\xa9", "a.."};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_null(destination_key_of_host(&arena, slice_of_text(bad[i]), 80, NULL));
    }
    char longest[255];
    (void)memset(longest, 'a', sizeof longest);
    assert_non_null(destination_key_of_host(&arena, slice_of(longest, 253), 80, NULL));
    assert_null(destination_key_of_host(&arena, slice_of(longest, 254), 80, NULL));
    arena_fini(&arena);
}

static void other_spellings_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "svc/a:1",
        "ip/10.0.0.1:80",
        "ip//10.0.0.1",
        "ip//10.0.0.1:080",
        "ip//10.0.0.1:65536",
        "ip//[::ffff:10.0.0.1]:80",
        "ip//fd00::1:80",
        "ip//[FD00::1]:80",
        "ip//[fd00:0::1]:80",
        "ip//10.0.0.1:",
        "ip/a b/10.0.0.1:80",
        "host/:80",
        "host/A:80",
        "host/a.:80",
        "host/a",
        "host/a:+1",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct destination_key key;
        struct error err = {.text = ""};
        assert_false(destination_key_parse(slice_of_text(bad[i]), &key, &err));
        assert_true(err.text[0] != '\0');
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_spelled_in_one_way),
        cmocka_unit_test(hosts_are_folded),
        cmocka_unit_test(other_spellings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
