#include <stdio.h>
#include <stdlib.h>

#include "cli/wait.h"
#include "tests/support/unit.h"

static void test_the_question_names_exact_versions(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct policy_documents documents;
    struct policy_problems problems;
    policy_documents_init(&documents);
    policy_problems_init(&problems, &arena);
    policy_parse(SLICE("apiVersion: v1\n"
                       "kind: Service\n"
                       "metadata: {name: a, namespace: shop}\n"
                       "spec: {ports: [{port: 80}]}\n"),
                 "a.yaml", &documents, &problems);
    assert_int_equal(problems.count, 0);
    assert_int_equal(documents.count, 1);
    json_t *question = wait_question(&documents, 1500);
    json_t *object = json_at(question, "/objects/0");
    struct slice hash = json_slice(json_object_get(object, "hash"));
    assert_int_equal(hash.len, 16);
    const char *wanted = arena_printf(&arena,
                                      "{\"objects\":[{\"kind\":\"Service\",\"namespace\":\"shop\","
                                      "\"name\":\"a\",\"hash\":\"%.*s\"}],"
                                      "\"timeout_ms\":1500}",
                                      SLICE_ARG(hash));
    assert_true(slice_eq(json_text(&arena, question, false), slice_of_text(wanted)));
    json_decref(question);
    policy_documents_fini(&documents);
    arena_fini(&arena);
}

static bool print(const char *answer, char **text, bool *live, struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    json_t *json = json_parse(slice_of_text(answer), NULL, err);
    assert_non_null(json);
    size_t len = 0;
    FILE *out = open_memstream(text, &len);
    bool printed = wait_print(out, json, &arena, live, err);
    (void)fclose(out);
    json_decref(json);
    arena_fini(&arena);
    return printed;
}

static void test_every_state_in_words(void **state)
{
    (void)state;
    char *text = NULL;
    bool live = true;
    struct error err = {.text = ""};
    assert_true(
        print("{\"live\":false,\"generation\":9,\"objects\":["
              "{\"id\":\"Service/d/a\",\"state\":\"live\",\"generation\":3,\"holders\":2,"
              "\"acknowledged\":2,\"behind\":[],\"problem\":null},"
              "{\"id\":\"Service/d/b\",\"state\":\"live\",\"generation\":4,\"holders\":0},"
              "{\"id\":\"Service/d/c\",\"state\":\"behind\",\"generation\":9,\"holders\":3,"
              "\"acknowledged\":1,\"behind\":[\"sidecar~1.1.1.1~x.d~d\",\"y\"]},"
              "{\"id\":\"Service/d/e\",\"state\":\"other\",\"problem\":\"a.yaml:3: error: no\"},"
              "{\"id\":\"Service/d/f\",\"state\":\"other\"},"
              "{\"id\":\"Service/d/g\",\"state\":\"absent\"},"
              "{\"id\":\"Service/d/h\",\"state\":\"new word\"}]}",
              &text, &live, &err));
    assert_false(live);
    assert_string_equal(
        text, "Service/d/a: live at generation 3 in all 2 sidecars that hold it\n"
              "Service/d/b: in force at generation 4; no connected sidecar holds it\n"
              "Service/d/c: in force at generation 9; 1 of 3 sidecars have it, behind: x.d, y\n"
              "Service/d/e: refused: a.yaml:3: error: no\n"
              "Service/d/f: another version is in force; pillion-control does not have this one\n"
              "Service/d/g: not in force: pillion-control does not have it\n"
              "Service/d/h: new word\n");
    free(text);
}

static void test_another_form_is_an_error(void **state)
{
    (void)state;
    char *text = NULL;
    bool live = true;
    struct error err = {.text = ""};
    assert_false(print("{\"live\":\"yes\"}", &text, &live, &err));
    assert_string_equal(err.text, "live: wants true or false, has a string");
    free(text);
    assert_false(print("{\"live\":true,\"objects\":[{\"id\":1}]}", &text, &live, &err));
    assert_string_equal(err.text, "objects[0]: id: wants a string, has an integer");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_question_names_exact_versions),
        cmocka_unit_test(test_every_state_in_words),
        cmocka_unit_test(test_another_form_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
