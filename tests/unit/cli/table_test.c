#include <stdio.h>
#include <stdlib.h>

#include "cli/table.h"
#include "tests/support/unit.h"

static void test_columns_are_as_wide_as_they_must_be(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    static const char *const cells[] = {
        "NAME",
        "N",
        "LAST", /* */
        "a",
        "1",
        "", /* */
        "",
        "",
        "x y", /* */
        "h\xC3\xA4user",
        "1000",
        "z",
    };
    table_print(out, cells, 4, 3);
    (void)fclose(out);
    assert_string_equal(text, "NAME    N     LAST\n"
                              "a       1     \n"
                              "              x y\n"
                              "h\xC3\xA4user  1000  z\n");
    free(text);
}

static void test_one_column(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    static const char *const cells[] = {"A", "bcd"};
    table_print(out, cells, 2, 1);
    (void)fclose(out);
    assert_string_equal(text, "A\nbcd\n");
    free(text);
}

struct shown {
    struct slice text;
    const char *shown;
};

static void test_nothing_that_a_terminal_obeys(void **state)
{
    (void)state;
    const struct shown texts[] = {
        {SLICE(""), ""},
        {SLICE("plain ~ text"), "plain ~ text"},
        {SLICE("\x1b[2Jgone\r\n\x7f\0x"), "?[2Jgone????x"},
        {SLICE("K\xC3\xB6ln"), "K\xC3\xB6ln"},
        {SLICE("\xC2\x9B"
               "31m red"),
         "??31m red"}, /* C1's own way to say ESC [ */
        {SLICE("\xC2\xA0"), "\xC2\xA0"},
        {SLICE("a\xFF\xC3"), "a??"},
        {SLICE("\xC2"), "?"},
    };
    struct arena arena;
    arena_init(&arena, NULL);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        assert_string_equal(table_text(&arena, texts[i].text), texts[i].shown);
    }
    arena_fini(&arena);
}

static void test_durations(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    assert_string_equal(table_duration(&arena, 0), "0s");
    assert_string_equal(table_duration(&arena, 59), "59s");
    assert_string_equal(table_duration(&arena, 65), "1m05s");
    assert_string_equal(table_duration(&arena, 3599), "59m59s");
    assert_string_equal(table_duration(&arena, 23 * 3600 + 5 * 60 + 59), "23h05m");
    assert_string_equal(table_duration(&arena, 11 * 86400 + 2 * 3600), "11d02h");
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_are_as_wide_as_they_must_be),
        cmocka_unit_test(test_one_column),
        cmocka_unit_test(test_nothing_that_a_terminal_obeys),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
