#include "base/json.h"
#include "tests/support/unit.h"

static json_t *must(const char *text)
{
    struct error err = {""};
    json_t *root = json_parse(slice_of_text(text), NULL, &err);
    assert_string_equal(err.text, "");
    assert_non_null(root);
    return root;
}

static void refused(const char *text, const char *why)
{
    struct error err = {""};
    assert_null(json_parse(slice_of_text(text), NULL, &err));
    assert_non_null(strstr(err.text, why));
}

static void test_errors_have_a_position(void **state)
{
    (void)state;
    refused("{\"a\": 1,\n \"b\": }", "line 2, column");
    refused("{\"a\": 1, \"a\": 2}", "duplicate object key");
    refused("\"\\u0000\"", "\\u0000");
    refused("", "line 1");
    refused("{} {}", "line 1");
}

static void test_bounds(void **state)
{
    (void)state;
    struct error err = {""};
    struct json_limits tight = {.bytes = 12, .depth = 2};
    assert_null(json_parse(SLICE("[[[1]]]"), &tight, &err));
    assert_string_equal(err.text, "line 1, column 3: nested too deeply");
    assert_null(json_parse(SLICE("[1,2,3,4,5,6,7]"), &tight, &err));
    assert_non_null(strstr(err.text, "allowed are 12"));
    json_t *brackets = json_parse(SLICE("[\"[[\\\"[[\"]"), &tight, &err);
    assert_non_null(brackets);
    json_decref(brackets);
}

static void test_pointer(void **state)
{
    (void)state;
    json_t *root = must("{\"spec\":{\"http\":[{\"name\":\"x\"}]},\"a/b\":{\"~\":7}}");
    assert_string_equal(json_string_value(json_at(root, "/spec/http/0/name")), "x");
    assert_int_equal(json_integer_value(json_at(root, "/a~1b/~0")), 7);
    assert_ptr_equal(json_at(root, ""), root);
    assert_null(json_at(root, "/spec/http/1"));
    assert_null(json_at(root, "/spec/http/x"));
    assert_null(json_at(root, "/spec/http/0/name/deeper"));
    assert_null(json_at(root, "/bad~2"));
    json_decref(root);
}

static void test_typed_members(void **state)
{
    (void)state;
    struct error err = {""};
    json_t *root = must("{\"s\":\"x\",\"i\":5,\"n\":null,\"b\":true,\"f\":0.5,\"o\":{},\"l\":[]}");
    struct slice text = SLICE("kept");
    uint64_t number = 9;
    bool flag = false;
    double fraction = 0;
    json_t *part = NULL;
    assert_true(json_get_text(root, "n", &text, &err) && slice_eq(text, SLICE("kept")));
    assert_true(json_get_text(root, "s", &text, &err) && slice_eq(text, SLICE("x")));
    assert_false(json_get_text(root, "i", &text, &err));
    assert_string_equal(err.text, "i: wants a string, has an integer");
    assert_true(json_get_u64(root, "absent", 9, &number, &err) && number == 9);
    assert_true(json_get_u64(root, "i", 5, &number, &err) && number == 5);
    assert_false(json_get_u64(root, "i", 4, &number, &err));
    assert_string_equal(err.text, "i: 5 is outside 0 to 4");
    assert_false(json_get_u64(root, "f", 4, &number, &err));
    assert_true(json_get_bool(root, "b", &flag, &err) && flag);
    assert_false(json_get_bool(root, "s", &flag, &err));
    assert_true(json_get_double(root, "f", &fraction, &err) && fraction > 0.4);
    assert_true(json_get_double(root, "i", &fraction, &err) && fraction > 4.9);
    assert_true(json_get_object(root, "o", &part, &err) && json_is_object(part));
    assert_false(json_get_object(root, "l", &part, &err));
    assert_true(json_get_array(root, "l", &part, &err) && json_is_array(part));
    assert_false(json_get_array(root, "o", &part, &err));
    assert_string_equal(err.text, "o: wants an array, has an object");
    json_decref(root);
}

static void test_text(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    json_t *root = must("{ \"b\" : [1, 2.5], \"a\" : \"\\n\" }");
    struct slice plain = json_text(&arena, root, false);
    struct slice sorted = json_text(&arena, root, true);
    assert_true(slice_eq(plain, SLICE("{\"b\":[1,2.5],\"a\":\"\\n\"}")));
    assert_true(slice_eq(sorted, SLICE("{\"a\":\"\\n\",\"b\":[1,2.5]}")));
    json_decref(root);
    arena_fini(&arena);
}

static void escaped(struct slice in, const char *out)
{
    uint8_t room[64];
    size_t len = json_escape((struct span){room, sizeof room}, in);
    assert_true(slice_eq(slice_of(room, len), slice_of_text(out)));
}

static void test_escape(void **state)
{
    (void)state;
    escaped(SLICE("a\"\\\n\x01z\x7F"), "a\\\"\\\\\\n\\u0001z\\u007f");
    escaped(SLICE("gr\xC3\xBC\xC3\x9F"), "gr\xC3\xBC\xC3\x9F");
    escaped(SLICE("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");                 /* overlong */
    escaped(SLICE("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* surrogate */
    escaped(SLICE("\xF0\x9F\x98"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* cut off */
    uint8_t room[3];
    assert_int_equal(json_escape((struct span){room, 3}, SLICE("ab\n")), 2);
    assert_int_equal(json_escape((struct span){room, 0}, SLICE("ab")), 0);
}

int main(void)
{
    json_init_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_have_a_position),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_pointer),
        cmocka_unit_test(test_typed_members),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
