#include "base/yaml.h"
#include "tests/support/unit.h"

static struct arena arena;

static int fresh_arena(void **state)
{
    (void)state;
    arena_init(&arena, NULL);
    return 0;
}

static int free_arena(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

/* The YAML as compact JSON. */
static void reads_as(const char *yaml, const char *json)
{
    struct error err = {""};
    struct yaml_node *root = yaml_parse(&arena, slice_of_text(yaml), NULL, &err);
    assert_string_equal(err.text, "");
    assert_non_null(root);
    json_t *value = yaml_to_json(root);
    struct slice text = json_text(&arena, value, false);
    assert_string_equal(arena_text(&arena, text), json);
    json_decref(value);
}

static void refused(const char *yaml, const char *why)
{
    struct error err = {""};
    assert_null(yaml_parse(&arena, slice_of_text(yaml), NULL, &err));
    assert_string_equal(err.text, why);
}

static void test_scalars_mean_what_kubernetes_reads(void **state)
{
    (void)state;
    reads_as("[true, True, yes, on, Y]", "[true,true,true,true,true]");
    reads_as("[false, no, OFF, n]", "[false,false,false,false]");
    reads_as("[~, null, NULL]", "[null,null,null]");
    reads_as("{a: , b: 1}", "{\"a\":null,\"b\":1}");
    reads_as("[\"true\", 'yes', \"1\", '']", "[\"true\",\"yes\",\"1\",\"\"]");
    reads_as("[0, 12, -7, +3, 0x1F, 0o17, 017, 0b101, 1_000]", "[0,12,-7,3,31,15,15,5,1000]");
    reads_as("[9223372036854775807, -9223372036854775808]",
             "[9223372036854775807,-9223372036854775808]");
    reads_as("[1.5, .5, 1., 1e3, -2.5E-1, 08]", "[1.5,0.5,1.0,1000.0,-0.25,8.0]");
    reads_as("[1.2.3, 10s, 25%, 190:20:30, 0x, -, +, ., 1e, 1e999]",
             "[\"1.2.3\",\"10s\",\"25%\",\"190:20:30\",\"0x\",\"-\",\"+\",\".\",\"1e\",\"1e999\"]");
    reads_as("[2024-01-31, 2024-01-31T10:00:00Z]", "[\"2024-01-31\",\"2024-01-31T10:00:00Z\"]");
    reads_as("{8080: x, true: w, yes: z}", "{\"8080\":\"x\",\"true\":\"w\",\"yes\":\"z\"}");
    reads_as("[!!str 12, !!int \"12\", !!float 3, ! 5]", "[\"12\",12,3.0,\"5\"]");
    reads_as("a: |\n  x\n  y\nb: >-\n  p\n  q\n", "{\"a\":\"x\\ny\\n\",\"b\":\"p q\"}");
}

static void test_json_is_yaml(void **state)
{
    (void)state;
    reads_as("{\"a\": [1, {\"b\": null}], \"c\": \"d\\n\"}",
             "{\"a\":[1,{\"b\":null}],\"c\":\"d\\n\"}");
}

static void test_json_becomes_the_same_tree(void **state)
{
    (void)state;
    static const char text[] =
        "{\"b\":[1,-0.5,{\"c\":null,\"\":{}}],\"a\":true,\"s\":\"\xC3\xBC\"}";
    struct error err = {""};
    json_t *value = json_parse(slice_of_text(text), NULL, &err);
    assert_non_null(value);
    struct yaml_node *tree = yaml_from_json(&arena, value);
    json_decref(value);
    assert_int_equal(tree->weight, 9);
    assert_int_equal(tree->height, 4);
    assert_int_equal(tree->count, 3);
    assert_int_equal(tree->line, 0);
    assert_true(slice_eq(yaml_get(tree, "b")->first->text, SLICE("1")));
    assert_true(slice_eq(yaml_get(tree, "b")->first->next->text, SLICE("-0.5")));
    value = yaml_to_json(tree);
    assert_string_equal(arena_text(&arena, json_text(&arena, value, false)), text);
    json_decref(value);
}

static void test_positions(void **state)
{
    (void)state;
    struct error err = {""};
    struct yaml_node *root =
        yaml_parse(&arena, SLICE("# head\nkind: A\nspec:\n  http:\n  - name: x\n"), NULL, &err);
    assert_non_null(root);
    assert_int_equal(root->line, 2);
    struct yaml_node *http = yaml_get(yaml_get(root, "spec"), "http");
    assert_int_equal(http->key_line, 4);
    assert_int_equal(http->key_column, 3);
    assert_int_equal(http->line, 5);
    assert_int_equal(http->count, 1);
    struct yaml_node *name = yaml_get(http->first, "name");
    assert_int_equal(name->line, 5);
    assert_int_equal(name->column, 11);
    assert_true(slice_eq(name->text, SLICE("x")));
    assert_null(yaml_get(name, "deeper"));
    assert_null(yaml_get(NULL, "x"));
}

static void test_documents_are_read_alone(void **state)
{
    (void)state;
    struct slice text = SLICE("\xEF\xBB\xBF# licence\n%YAML 1.1\n---\na: 1\n---\n# only a comment\n"
                              "---\nb: [\n--- # third\r\nc: |\n  --- not a marker\n...\n\nd: 4\n");
    struct yaml_reader reader;
    struct yaml_node *root = NULL;
    struct error err = {""};
    yaml_reader_init(&reader, text, NULL);
    assert_int_equal(yaml_read(&reader, &arena, &root, &err), YAML_READ_DOCUMENT);
    assert_int_equal(reader.document_line, 4);
    assert_non_null(yaml_get(root, "a"));
    assert_int_equal(yaml_read(&reader, &arena, &root, &err), YAML_READ_BAD);
    assert_in_range(reader.error_line, 8, 9);
    assert_int_equal(yaml_read(&reader, &arena, &root, &err), YAML_READ_DOCUMENT);
    assert_int_equal(yaml_get(root, "c")->line, 10);
    assert_true(slice_eq(yaml_get(root, "c")->text, SLICE("--- not a marker\n")));
    assert_int_equal(yaml_read(&reader, &arena, &root, &err), YAML_READ_DOCUMENT);
    assert_int_equal(yaml_get(root, "d")->integer, 4);
    assert_int_equal(yaml_read(&reader, &arena, &root, &err), YAML_READ_END);
    assert_int_equal(yaml_read(&reader, &arena, &root, &err), YAML_READ_END);
}

static void test_refusals_name_the_place(void **state)
{
    (void)state;
    refused("a: 1\nb: 2\na: 3\n", "line 3, column 1: this name stands in the mapping already: a");
    refused("a: !secret x", "line 1, column 4: a tag outside of YAML's core schema");
    refused("a: !!binary aGk=", "line 1, column 4: a tag outside of YAML's core schema");
    refused("a: !!int x", "line 1, column 4: the value does not fit its tag");
    refused("a: .inf", "line 1, column 4: infinity and NaN are not numbers here");
    refused("a: \"\\0\"", "line 1, column 4: a zero character");
    refused("a: *b", "line 1, column 4: an alias that no anchor defines");
    refused("a: &b\n  c: *b", "line 2, column 6: an alias inside of what it stands for");
    refused("? [x]\n: y", "line 1, column 3: a mapping's name must be a plain value");
    refused("~: y", "line 1, column 1: a mapping's name cannot be null");
    refused("", "line 1, column 1: no document");
    refused("a: 1\n---\nb: 1\n", "line 3, column 1: a second document");
    refused("a: 1\r---\rb: 1\r", "line 2, column 1: a document must begin on a line of its own");
}

static void test_syntax_error(void **state)
{
    (void)state;
    struct error err = {""};
    assert_null(yaml_parse(&arena, SLICE("a: 1\n  b: 2\n"), NULL, &err));
    assert_non_null(strstr(err.text, "line 2, column 4: "));
    assert_null(yaml_parse(&arena, SLICE("a: \xFF\n"), NULL, &err));
    assert_null(yaml_parse(&arena, SLICE("\tb: 1\n"), NULL, &err));
}

static void test_aliases_and_merge_keys(void **state)
{
    (void)state;
    reads_as("a: &x {p: 1}\nb: *x\n", "{\"a\":{\"p\":1},\"b\":{\"p\":1}}");
    reads_as("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n",
             "{\"a\":{\"p\":1,\"q\":2},\"b\":{\"q\":3,\"p\":1}}");
    reads_as("- &x {p: 1}\n- &y {p: 2, r: 4}\n- {<<: [*x, *y], s: 5}\n",
             "[{\"p\":1},{\"p\":2,\"r\":4},{\"s\":5,\"p\":1,\"r\":4}]");
    reads_as("- &x {p: 1}\n- {<<: *x}\n", "[{\"p\":1},{\"p\":1}]");
    reads_as("\"<<\": 1", "{\"<<\":1}");
    refused("<<: 5", "line 1, column 5: a merge key wants a mapping or a list of mappings");
}

static void test_a_small_text_is_not_a_large_tree(void **state)
{
    (void)state;
    char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 9; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used,
                       "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i,
                       i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    }
    struct error err = {""};
    assert_null(yaml_parse(&arena, slice_of_text(text), NULL, &err));
    assert_non_null(strstr(err.text, "too many values"));
}

static void test_bounds(void **state)
{
    (void)state;
    struct error err = {""};
    struct yaml_limits tight = {.bytes = 40, .depth = 3, .nodes = 5};
    assert_non_null(yaml_parse(&arena, SLICE("[[[1]]]"), &tight, &err));
    assert_null(yaml_parse(&arena, SLICE("[[[[1]]]]"), &tight, &err));
    assert_string_equal(err.text, "line 1, column 4: nested too deeply");
    assert_null(yaml_parse(&arena, SLICE("[&a [[1]], [*a]]"), &tight, &err));
    assert_non_null(strstr(err.text, "nested too deeply"));
    assert_null(yaml_parse(&arena, SLICE("[1, 2, 3, 4, 5]"), &tight, &err));
    assert_null(
        yaml_parse(&arena, SLICE("0123456789012345678901234567890123456789x"), &tight, &err));
    assert_string_equal(err.text, "line 1, column 1: 41 bytes of YAML, allowed are 40");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh_arena, free_arena)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_scalars_mean_what_kubernetes_reads),
        TEST(test_json_is_yaml),
        TEST(test_json_becomes_the_same_tree),
        TEST(test_positions),
        TEST(test_documents_are_read_alone),
        TEST(test_refusals_name_the_place),
        TEST(test_syntax_error),
        TEST(test_aliases_and_merge_keys),
        TEST(test_a_small_text_is_not_a_large_tree),
        TEST(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
