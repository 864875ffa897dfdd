#include <string.h>

#include "base/check.h"
#include "http/detect.h"
#include "tests/support/unit.h"

typedef enum detected detector(struct slice first);

struct detect_case {
    struct slice bytes;
    enum detected expected;
    size_t decided; /* bytes after which the verdict is known; before, MORE */
};

/* The verdict comes at exactly one place and stays, whatever follows. */
static void check(detector *detect, const struct detect_case *one)
{
    uint8_t bytes[512];
    memcpy(bytes, one->bytes.at, one->bytes.len);
    memset(bytes + one->bytes.len, 'z', 64);
    for (size_t len = 0; len <= one->bytes.len + 64; len++) {
        enum detected expected = len < one->decided ? DETECTED_MORE : one->expected;
        assert_string_equal(detected_name(detect(slice_of(bytes, len))), detected_name(expected));
    }
}

static void test_clients(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        enum detected expected;
        size_t decided;
    } cases[] = {
#define C(text, verdict, at) {text, sizeof(text) - 1, DETECTED_##verdict, (at)}
        C("GET / HTTP/1.1\r\n", HTTP1, 16),
        C("\r\n\r\nGET / HTTP/1.0\r\n", HTTP1, 20),
        C("M-SEARCH * HTTP/1.1\r\n", HTTP1, 21),
        C("POST /x HTTP/1.1\r\n", HTTP1, 18),
        C("PRI /x HTTP/1.1\r\n", HTTP1, 17),
        C("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP2, 24),
        C("PRI * HTTP/2.0\r\n\r\nSX", OPAQUE, 20),
        C("GET / HTTP/2.0\r\n", OPAQUE, 12),
        C("GET / HTTP/1.1\n", OPAQUE, 15),
        C("GET / HTTP/1.1 \r\n", OPAQUE, 15),
        C("GET  /", OPAQUE, 5),
        C("GET /\x80", OPAQUE, 6),
        C("GET\r\n", OPAQUE, 4),
        C("\rX", OPAQUE, 2),
        C("\nGET", OPAQUE, 1),
        C("*1\r\n$4\r\nPING\r\n", OPAQUE, 3),
        C("SSH-2.0-x\r\n", OPAQUE, 10),
        C("\x16\x03\x01\x02\x00\x01\x00", TLS, 6),
        C("\x16\x03\x01\x02\x00\x02", OPAQUE, 6),
        C("\x16\x03\x05", OPAQUE, 3),
        C("\x16\x03\x01\x41", OPAQUE, 4),
        C("\x16\x03\x01\x40\x01", OPAQUE, 5),
        C("\x16\x03\x01\x00\x03", OPAQUE, 5),
        C("\x00", OPAQUE, 1),
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct detect_case one = {slice_of(cases[i].text, cases[i].len), cases[i].expected,
                                  cases[i].decided};
        check(detect_client, &one);
    }
}

static void test_servers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        enum detected expected;
        size_t decided;
    } cases[] = {
        C("\0\0\0\4\0\0\0\0\0", HTTP2, 9),
        C("\0\0\x12\4\0\0\0\0\0", HTTP2, 9),
        C("\0\0\7", OPAQUE, 3),
        C("\0\4", OPAQUE, 2),
        C("\0\0\6\3", OPAQUE, 4),
        C("\0\0\6\4\1", OPAQUE, 5),
        C("\0\0\6\4\0\0\0\0\1", OPAQUE, 9),
        C("HTTP/1.1 408 x\r\n", HTTP1, 7),
        C("HTTP/2", OPAQUE, 6),
        C("220 smtp\r\n", OPAQUE, 1),
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct detect_case one = {slice_of(cases[i].text, cases[i].len), cases[i].expected,
                                  cases[i].decided};
        check(detect_server, &one);
    }
}

static void test_a_request_line_has_8_kib(void **state)
{
    (void)state;
    static uint8_t bytes[DETECT_BYTES_MAX + 64];
    static const char end[] = " HTTP/1.1\r\n";
    memset(bytes, 'a', sizeof bytes);
    memcpy(bytes, "GET /", 5);
    assert_int_equal(detect_client(slice_of(bytes, DETECT_BYTES_MAX - 1)), DETECTED_MORE);
    assert_int_equal(detect_client(slice_of(bytes, DETECT_BYTES_MAX)), DETECTED_TARGET_LONG);
    assert_int_equal(detect_client(slice_of(bytes, sizeof bytes)), DETECTED_TARGET_LONG);
    memcpy(bytes + DETECT_BYTES_MAX - (sizeof end - 1), end, sizeof end - 1);
    assert_int_equal(detect_client(slice_of(bytes, DETECT_BYTES_MAX - 1)), DETECTED_MORE);
    assert_int_equal(detect_client(slice_of(bytes, DETECT_BYTES_MAX)), DETECTED_HTTP1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_servers),
        cmocka_unit_test(test_a_request_line_has_8_kib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
