#include "base/alloc.h"
#include "base/regex.h"
#include "tests/support/unit.h"

static struct regex_scratch *scratch;

static struct regex *must(const char *pattern)
{
    struct error err = {""};
    struct regex *regex = regex_new(slice_of_text(pattern), &err);
    assert_string_equal(err.text, "");
    assert_non_null(regex);
    return regex;
}

static void matches(const char *pattern, const char *text, enum regex_result expected)
{
    struct regex *regex = must(pattern);
    assert_int_equal(regex_match(regex, scratch, slice_of_text(text)), expected);
    regex_free(&regex);
    assert_null(regex);
}

static void refused(const char *pattern, const char *why)
{
    struct error err = {""};
    assert_null(regex_new(slice_of_text(pattern), &err));
    assert_string_equal(err.text, why);
}

static void test_both_ends(void **state)
{
    (void)state;
    matches("/api/v[0-9]+", "/api/v12", REGEX_MATCH);
    matches("/api/v[0-9]+", "/api/v12/x", REGEX_NO_MATCH);
    matches("/api/v[0-9]+", "x/api/v12", REGEX_NO_MATCH);
    matches("a|ab", "ab", REGEX_MATCH); /* the alternative that reaches the end is found */
    matches("", "", REGEX_MATCH);
    matches("", "a", REGEX_NO_MATCH);
    matches("a.*?", "abc", REGEX_MATCH);
}

static void test_what_is_as_in_re2(void **state)
{
    (void)state;
    matches("a$", "a\n", REGEX_NO_MATCH);
    matches("a.b", "a\nb", REGEX_NO_MATCH);
    matches("(?s)a.b", "a\nb", REGEX_MATCH);
    matches("(?i:AB)c", "abc", REGEX_MATCH);
    matches("(?P<name>x)(?<other>y)(?:z)", "xyz", REGEX_MATCH);
    matches("\\s", "\x0B", REGEX_NO_MATCH);
    matches("\\S", "\x0B", REGEX_MATCH);
    matches("[\\s\\S]", "\x0B", REGEX_MATCH);
    matches("[\\s]\\v", " \x0B", REGEX_MATCH);
    matches("\\v", "\n", REGEX_NO_MATCH);
    matches("a{,2}", "a{,2}", REGEX_MATCH);
    matches("a{x", "a{x", REGEX_MATCH);
    matches("a{2,3}?b", "aaab", REGEX_MATCH);
    matches("[[:alpha:]][[=a]", "x=", REGEX_MATCH);
    matches("[]a]+[^]]", "a]b", REGEX_MATCH);
    matches("\\Qa.*b\\E.", "a.*bc", REGEX_MATCH);
    matches("\\x41\\x{42}\\pL\\p{Greek}", "ABc\xCE\xB1", REGEX_MATCH);
    matches("\\x{41}+?[\\x{42}\\P{Lu}]{2}", "AAB-", REGEX_MATCH);
    matches(".", "\xC3\xBC", REGEX_MATCH);
    matches(".*", "\xFF", REGEX_NO_MATCH);
    matches("a.*|[^b]+", "a\xFF", REGEX_NO_MATCH);
    matches("\\d+\\.\\w\\-", "12._-", REGEX_MATCH);
}

static void test_what_re2_lacks_is_refused(void **state)
{
    (void)state;
    refused("(a)\\1", "at byte 3: back-references are not in RE2's syntax");
    refused("(?P<x>a)(?P=x)", "at byte 8: back-references are not in RE2's syntax");
    refused("a(?=b)", "at byte 1: look-ahead is not in RE2's syntax");
    refused("a(?!b)", "at byte 1: look-ahead is not in RE2's syntax");
    refused("(?<=a)b", "at byte 0: look-behind is not in RE2's syntax");
    refused("(?<!a)b", "at byte 0: look-behind is not in RE2's syntax");
    refused("(?>a)", "at byte 0: atomic groups are not in RE2's syntax");
    refused("a*+", "at byte 2: possessive quantifiers are not in RE2's syntax");
    refused("a{2}+", "at byte 4: possessive quantifiers are not in RE2's syntax");
    refused("a+?+", "at byte 3: possessive quantifiers are not in RE2's syntax");
    refused("a**", "at byte 2: a quantifier behind a quantifier");
    refused("(?R)", "at byte 0: recursion is not in RE2's syntax");
    refused("(a)(?1)", "at byte 3: this group is not in RE2's syntax");
    refused("(?&x)", "at byte 0: recursion is not in RE2's syntax");
    refused("(?(1)a|b)", "at byte 0: conditions are not in RE2's syntax");
    refused("(?C1)", "at byte 0: callouts are not in RE2's syntax");
    refused("(*UTF)a", "at byte 0: verbs are not in RE2's syntax");
    refused("(?x) a", "at byte 0: this group is not in RE2's syntax");
    refused("(?^)", "at byte 0: this group is not in RE2's syntax");
    static const char *const escapes[] = {"\\G", "\\K", "\\C",  "\\R", "\\X", "\\h", "\\N",  "\\Z",
                                          "\\k", "\\g", "\\cA", "\\e", "\\E", "\\y", "[\\b]"};
    for (size_t i = 0; i < COUNT_OF(escapes); i++) {
        struct error err = {""};
        assert_null(regex_new(slice_of_text(escapes[i]), &err));
        assert_non_null(strstr(err.text, "this escape is not in RE2's syntax"));
    }
}

static void test_broken_ones_are_refused(void **state)
{
    (void)state;
    refused("a\\", "at byte 1: a backslash at the end");
    refused("a[b", "at byte 1: a class without its closing bracket");
    refused("\\x{41}++", "at byte 7: possessive quantifiers are not in RE2's syntax");
    refused("a{1001}", "at byte 1: more than 1000 repetitions");
    refused("a{99999999999999999999}", "at byte 1: more than 1000 repetitions");
    static const char *const broken[] = {"(a",     "a)",          "*a",       "[b-a]",
                                         "a{3,2}", "\\x{110000}", "\\p{Nope}"};
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        struct error err = {""};
        assert_null(regex_new(slice_of_text(broken[i]), &err));
        assert_true(slice_starts(slice_of_text(err.text), SLICE("at byte ")));
    }
    struct error err;
    static const char long_one[REGEX_PATTERN_MAX + 1] = {0};
    assert_null(regex_new(slice_of(long_one, sizeof long_one), &err));
    assert_null(regex_new(SLICE("a\0b"), &err));
    assert_string_equal(err.text, "at byte 1: a zero character");
    char deep[403];
    (void)memset(deep, '(', 200);
    (void)memset(deep + 200, ')', 200);
    assert_null(regex_new(slice_of(deep, 400), &err));
}

static void test_backtracking_is_limited(void **state)
{
    (void)state;
    matches("(a+)+[bd]", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", REGEX_LIMIT);
    struct regex *regex = must("(?:a|b)*[cd]");
    static char text[1 << 20];
    (void)memset(text, 'a', sizeof text);
    assert_int_equal(regex_match(regex, scratch, slice_of(text, sizeof text)), REGEX_LIMIT);
    /* The scratch goes on, and does not keep what the long match took. */
    uint64_t large = alloc_counts().live_bytes;
    assert_int_equal(regex_match(regex, scratch, SLICE("abc")), REGEX_MATCH);
    assert_true(alloc_counts().live_bytes <= large);
    struct arena arena;
    struct slice out;
    arena_init(&arena, NULL);
    assert_int_equal(
        regex_replace(regex, scratch, slice_of(text, sizeof text), SLICE(""), 10, &arena, &out),
        REGEX_LIMIT);
    arena_fini(&arena);
    regex_free(&regex);
}

static void replaced(const char *pattern, const char *text, const char *rewrite,
                     enum regex_result expected, const char *result)
{
    struct arena arena;
    struct error err = {""};
    struct slice out;
    struct regex *regex = must(pattern);
    arena_init(&arena, NULL);
    assert_true(regex_check_rewrite(regex, slice_of_text(rewrite), &err));
    assert_int_equal(regex_replace(regex, scratch, slice_of_text(text), slice_of_text(rewrite), 64,
                                   &arena, &out),
                     expected);
    assert_string_equal(arena_text(&arena, out), result);
    arena_fini(&arena);
    regex_free(&regex);
}

static void test_replace(void **state)
{
    (void)state;
    replaced("^/service/([^/]+)(/.*)$", "/service/foo/v1/api", "\\2/instance/\\1", REGEX_MATCH,
             "/v1/api/instance/foo");
    replaced("one", "/xxx/one/yyy/one/zzz", "two", REGEX_MATCH, "/xxx/two/yyy/two/zzz");
    replaced("(?i)/xxx/", "/aaa/XxX/bbb", "/yyy/", REGEX_MATCH, "/aaa/yyy/bbb");
    replaced("q", "/abc", "x", REGEX_NO_MATCH, "/abc");
    replaced("a", "a\xFF", "b", REGEX_NO_MATCH, "a\xFF");
    replaced("b*", "abc", "-", REGEX_MATCH, "-a-c-");
    replaced("", "\xC3\xBC", "-", REGEX_MATCH, "-\xC3\xBC-");
    replaced("(a)|(b)", "ab", "[\\1\\2\\0\\\\]", REGEX_MATCH, "[aa\\][bb\\]");
    replaced("a", "aaaaaaaaaa", "\\0\\0\\0\\0\\0\\0\\0\\0", REGEX_LIMIT, "aaaaaaaaaa");
}

static void test_rewrites_are_checked(void **state)
{
    (void)state;
    struct error err = {""};
    struct regex *regex = must("(a)");
    assert_false(regex_check_rewrite(regex, SLICE("\\2"), &err));
    assert_string_equal(err.text, "at byte 1: group 2, of which the expression has 1");
    assert_false(regex_check_rewrite(regex, SLICE("x\\"), &err));
    assert_false(regex_check_rewrite(regex, SLICE("\\n"), &err));
    assert_true(regex_check_rewrite(regex, SLICE("\\0\\1\\\\9"), &err));
    regex_free(&regex);
}

static int open_scratch(void **state)
{
    (void)state;
    scratch = regex_scratch_new();
    return 0;
}

static int close_scratch(void **state)
{
    (void)state;
    regex_scratch_free(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ends),
        cmocka_unit_test(test_what_is_as_in_re2),
        cmocka_unit_test(test_what_re2_lacks_is_refused),
        cmocka_unit_test(test_broken_ones_are_refused),
        cmocka_unit_test(test_backtracking_is_limited),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_rewrites_are_checked),
    };
    return cmocka_run_group_tests(tests, open_scratch, close_scratch);
}
