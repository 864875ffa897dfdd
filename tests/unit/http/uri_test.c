#include <string.h>

#include "http/uri.h"
#include "tests/support/unit.h"

static void assert_slice(struct slice got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.at, expected, got.len);
}

static void test_paths_are_normalised(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *expected; /* null: refused */
    } cases[] = {
        {"/", "/"},
        {"/a/b.html?x=../%2e", "/a/b.html?x=../%2e"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/a/b/..", "/a/"},
        {"/a/b/.", "/a/b/"},
        {"/..", "/"},
        {"/../../x", "/x"},
        {"/a/.../b", "/a/.../b"},
        {"/a/..b/.c", "/a/..b/.c"},
        {"/%2e%2E/admin", "/admin"},
        {"/a/%2e/b", "/a/b"},
        {"/%61%7E%2d", "/a~-"},
        {"/a%2Fb", "/a%2Fb"},
        {"/a%2fb", "/a%2fb"},
        {"/%252e%252e/x", "/%252e%252e/x"},
        {"//a//b", "//a//b"},
        {"//..", "/"},
        {"/a//../b", "/a/b"},
        {"/a\\..\\b", "/b"},
        {"/..?q", "/?q"},
        {"/a?b/../c", "/a?b/../c"},
        {"/%", NULL},
        {"/%4", NULL},
        {"/%zz", NULL},
        {"/%00", NULL},
        {"/a%%0000", NULL},
        {"/ok?%", "/ok?%"},
        {"*", "*"},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        uint8_t room[64];
        struct slice result;
        bool good =
            uri_normalise(slice_of_text(cases[i].path), (struct span){room, sizeof room}, &result);
        assert_int_equal(good, cases[i].expected != NULL);
        if (good) {
            assert_slice(result, cases[i].expected);
        }
    }
}

static void test_authorities(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host; /* null: refused */
        int port;         /* -1: none */
    } cases[] = {
        {"example.com", "example.com", -1},
        {"example.com:", "example.com", -1},
        {"example.com:80", "example.com", 80},
        {"order_service:65535", "order_service", 65535},
        {"10.0.0.1:1", "10.0.0.1", 1},
        {"[::1]:8080", "::1", 8080},
        {"[2001:db8::7]", "2001:db8::7", -1},
        {"a%20b", "a%20b", -1},
        {"", NULL, 0},
        {":80", NULL, 0},
        {"a:65536", NULL, 0},
        {"a:8x", NULL, 0},
        {"a:-1", NULL, 0},
        {"a:80:80", NULL, 0},
        {"user@host", NULL, 0},
        {"a b", NULL, 0},
        {"a/b", NULL, 0},
        {"a,b", "a,b", -1},
        {"a%2", NULL, 0},
        {"[::1", NULL, 0},
        {"[]", NULL, 0},
        {"[::1]x", NULL, 0},
        {"[fe80::1%eth0]", NULL, 0},
        {"[1.2.3.4]", NULL, 0},
        {"::1", NULL, 0},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct uri_authority parts;
        bool good = uri_parse_authority(slice_of_text(cases[i].text), &parts);
        assert_int_equal(good, cases[i].host != NULL);
        if (good) {
            assert_slice(parts.host, cases[i].host);
            assert_int_equal(parts.has_port ? parts.port : -1, cases[i].port);
        }
    }
}

static void test_target_forms(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        const char *target;
        int form; /* -1: refused */
        const char *authority;
        const char *path;
    } cases[] = {
        {"GET", "/", URI_ORIGIN, "", "/"},
        {"GET", "//x?y", URI_ORIGIN, "", "//x?y"},
        {"GET", "http://h", URI_ABSOLUTE, "h", "/"},
        {"GET", "HTTPS://h:1/a?b", URI_ABSOLUTE, "h:1", "/a?b"},
        {"GET", "http://h?b", URI_ABSOLUTE, "h", "?b"},
        {"OPTIONS", "http://h", URI_ABSOLUTE, "h", "*"},
        {"OPTIONS", "*", URI_ASTERISK, "", "*"},
        {"CONNECT", "h:443", URI_AUTHORITY, "h:443", ""},
        {"CONNECT", "[::1]:443", URI_AUTHORITY, "[::1]:443", ""},
        {"CONNECT", "h", -1, "", ""},
        {"CONNECT", "h:0", -1, "", ""},
        {"CONNECT", "/", -1, "", ""},
        {"CONNECT", "http://h:80/", -1, "", ""},
        {"GET", "*", -1, "", ""},
        {"OPTIONS", "**", -1, "", ""},
        {"GET", "h:443", -1, "", ""},
        {"GET", "x", -1, "", ""},
        {"GET", "", -1, "", ""},
        {"GET", "/a#b", -1, "", ""},
        {"GET", "/a b", -1, "", ""},
        {"GET", "/\x80", -1, "", ""},
        {"GET", "http:///x", -1, "", ""},
        {"GET", "http://u@h/", -1, "", ""},
        {"GET", "ftp://h/", -1, "", ""},
        {"GET", "http:/h", -1, "", ""},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct uri_target target;
        bool good = uri_parse_target(slice_of_text(cases[i].method), slice_of_text(cases[i].target),
                                     &target);
        assert_int_equal(good, cases[i].form >= 0);
        if (good) {
            assert_int_equal(target.form, cases[i].form);
            assert_slice(target.authority, cases[i].authority);
            assert_slice(target.path, cases[i].path);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths_are_normalised),
        cmocka_unit_test(test_authorities),
        cmocka_unit_test(test_target_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
