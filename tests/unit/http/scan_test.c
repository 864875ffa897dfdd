#include <stdlib.h>
#include <string.h>

#include "http/scan.h"
#include "tests/support/unit.h"

typedef size_t scan_function(const uint8_t *at, size_t len);

static const struct {
    scan_function *simd;
    scan_function *scalar;
    const char *common; /* bytes that are mostly allowed, so that scans go far */
} twins[] = {
    {scan_token, scan_token_scalar, "abcXYZ019-_!#~"},
    {scan_text, scan_text_scalar, "abc \t\x80\xff~!"},
    {scan_visible, scan_visible_scalar, "abc/?%~!"},
    {scan_target, scan_target_scalar, "abc/?%~!"},
    {scan_host, scan_host_scalar, "app-1.bench"},
    {scan_plain_path, scan_plain_path_scalar, "abc/-_~"},
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

/* Exact heap blocks, so that AddressSanitizer sees a byte read outside. */
static void test_twins_agree_on_random_input(void **state)
{
    (void)state;
    uint32_t seed = 7;
    for (unsigned round = 0; round < 40000; round++) {
        unsigned which = round % COUNT_OF(twins);
        size_t len = next_random(&seed) % 80;
        uint8_t *bytes = malloc(len > 0 ? len : 1);
        assert_non_null(bytes);
        const char *common = twins[which].common;
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)common[next_random(&seed) % strlen(common)];
        }
        if (len > 0 && next_random(&seed) % 4 != 0) {
            bytes[next_random(&seed) % len] = (uint8_t)next_random(&seed);
        }
        assert_int_equal(twins[which].simd(bytes, len), twins[which].scalar(bytes, len));
        size_t from = len > 0 ? next_random(&seed) % len : 0;
        assert_int_equal(scan_text_from(bytes, from, len),
                         from + scan_text_scalar(bytes + from, len - from));
        assert_int_equal(scan_token_from(bytes, from, len),
                         from + scan_token_scalar(bytes + from, len - from));
        free(bytes);
    }
}

static void test_every_byte_at_every_place(void **state)
{
    (void)state;
    uint8_t bytes[40];
    for (unsigned which = 0; which < COUNT_OF(twins); which++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            for (size_t at = 0; at < sizeof bytes; at++) {
                memset(bytes, 'a', sizeof bytes);
                bytes[at] = (uint8_t)byte;
                size_t found = twins[which].simd(bytes, sizeof bytes);
                assert_int_equal(found, twins[which].scalar(bytes, sizeof bytes));
                assert_true(found == at || found == sizeof bytes);
            }
        }
    }
}

static void test_token_is_tchar(void **state)
{
    (void)state;
    const char *tchars = "!#$%&'*+-.^_`|~0123456789"
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (int byte = 0; byte < 256; byte++) {
        bool expected = byte != 0 && strchr(tchars, byte) != NULL;
        assert_int_equal(scan_is_token((uint8_t)byte), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twins_agree_on_random_input),
        cmocka_unit_test(test_every_byte_at_every_place),
        cmocka_unit_test(test_token_is_tchar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
