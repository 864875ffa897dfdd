#include "base/utf8.h"
#include "tests/support/unit.h"

static void test_lengths(void **state)
{
    (void)state;
    assert_int_equal(utf8_length(SLICE("a")), 1);
    assert_int_equal(utf8_length(SLICE("\xC2\x80")), 2);
    assert_int_equal(utf8_length(SLICE("\xE0\xA0\x80")), 3);
    assert_int_equal(utf8_length(SLICE("\xED\x9F\xBF")), 3);
    assert_int_equal(utf8_length(SLICE("\xF0\x90\x80\x80")), 4);
    assert_int_equal(utf8_length(SLICE("\xF4\x8F\xBF\xBF")), 4);
}

static void test_what_is_none(void **state)
{
    (void)state;
    static const char *const none[] = {
        "\x80",             /* a follower alone */
        "\xC1\xBF",         /* overlong */
        "\xE0\x9F\xBF",     /* overlong */
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",     /* a surrogate */
        "\xF4\x90\x80\x80", /* above U+10FFFF */
        "\xF5\x80\x80\x80", /* above U+10FFFF */
        "\xE2\x82",         /* cut off */
        "\xE2\x82x",        /* broken off */
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_equal(utf8_length(slice_of_text(none[i])), 0);
        assert_false(utf8_valid(slice_of_text(none[i])));
    }
}

static void test_texts(void **state)
{
    (void)state;
    assert_true(utf8_valid(SLICE("")));
    assert_true(utf8_valid(SLICE("gr\xC3\xBC\xC3\x9F"
                                 "e \xF0\x9F\x98\x80")));
    assert_false(utf8_valid(SLICE("good \xFF bad")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
