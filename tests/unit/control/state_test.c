/* What STATE/objects.json keeps, and what becomes of one that is not as it should be. */
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "control/state.h"
#include "policy/parse.h"
#include "tests/support/unit.h"

struct world {
    struct policy_set set;
    struct state_texts texts;
};

static void world_init(struct world *world)
{
    policy_set_init(&world->set);
    state_texts_init(&world->texts);
}

static void world_fini(struct world *world)
{
    policy_set_fini(&world->set);
    state_texts_fini(&world->texts);
}

/* Takes the text as the only file, and notes it as the document of all its objects. */
static void world_apply(struct world *world, const char *file, const char *text)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct policy_problems problems;
    policy_problems_init(&problems, &arena);
    struct policy_documents documents;
    policy_documents_init(&documents);
    policy_parse(slice_of_text(text), file, &documents, &problems);
    (void)policy_set_apply(&world->set, &documents, NULL, &problems);
    policy_documents_fini(&documents);
    arena_fini(&arena);
    struct state_document *document = state_document_new(file, 1, slice_of_text(text));
    for (size_t i = 0; i < world->set.count; i++) {
        state_texts_set(&world->texts, world->set.objects[i]->id, document);
    }
    state_document_unref(&document);
}

static char *world_write(const struct world *world)
{
    size_t len = 0;
    char *bytes = state_write(&world->set, &world->texts, &len);
    assert_int_equal(strlen(bytes), len);
    return bytes;
}

#define SERVICE(name)                                                                              \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: 10.0.0.1, "      \
    "ports: [{name: http, port: 80}]}\n"

static void test_back_as_it_was(void **unused)
{
    (void)unused;
    struct world before;
    struct world after;
    struct error err = {{0}};
    size_t lost = 0;
    world_init(&before);
    world_init(&after);
    world_apply(&before, "a.yaml", "\n\n" SERVICE("one") "---\n" SERVICE("two"));
    world_apply(&before, "a.yaml", "\n\n" SERVICE("one") "---\n" SERVICE("three"));
    char *bytes = world_write(&before);
    assert_true(state_read(slice_of_text(bytes), &after.set, &after.texts, &lost, &err));
    assert_int_equal(lost, 0);
    assert_int_equal(after.set.count, 2);
    assert_int_equal(after.set.generation, before.set.generation);
    for (size_t i = 0; i < 2; i++) {
        const struct object *old = before.set.objects[i];
        const struct object *new = after.set.objects[i];
        assert_string_equal(new->id, old->id);
        assert_string_equal(new->file, "a.yaml");
        assert_int_equal(new->line, old->line);
        assert_int_equal(new->hash, old->hash);
        assert_int_equal(new->generation, old->generation);
        assert_int_equal(new->born, old->born);
    }
    /* Written again it is the same, byte for byte: an unchanged state is not saved again. */
    char *again = world_write(&after);
    assert_string_equal(again, bytes);
    mem_free(again);
    mem_free(bytes);
    world_fini(&before);
    world_fini(&after);
}

static void test_removals_count(void **unused)
{
    (void)unused;
    struct world before;
    struct world after;
    struct error err = {{0}};
    size_t lost = 0;
    world_init(&before);
    world_init(&after);
    world_apply(&before, "a.yaml", SERVICE("one") "---\n" SERVICE("two"));
    world_apply(&before, "a.yaml", SERVICE("one"));
    assert_int_equal(before.set.generation, 3);
    char *bytes = world_write(&before);
    assert_true(state_read(slice_of_text(bytes), &after.set, &after.texts, &lost, &err));
    assert_int_equal(after.set.generation, 3);
    mem_free(bytes);
    world_fini(&before);
    world_fini(&after);
}

/* At its place in the file, behind other documents. */
static void test_places(void **unused)
{
    (void)unused;
    struct world before;
    struct world after;
    struct error err = {{0}};
    size_t lost = 0;
    world_init(&before);
    world_init(&after);
    world_apply(&before, "a.yaml", SERVICE("one"));
    struct state_document *document =
        state_document_new("a.yaml", 41, slice_of_text("---\n" SERVICE("one")));
    state_texts_set(&before.texts, "Service/default/one", document);
    state_document_unref(&document);
    char *bytes = world_write(&before);
    assert_true(state_read(slice_of_text(bytes), &after.set, &after.texts, &lost, &err));
    assert_int_equal(after.set.objects[0]->line, 42);
    mem_free(bytes);
    world_fini(&before);
    world_fini(&after);
}

static void expect_bad(const char *bytes, const char *why)
{
    struct world world;
    struct error err = {{0}};
    size_t lost = 0;
    world_init(&world);
    assert_false(state_read(slice_of_text(bytes), &world.set, &world.texts, &lost, &err));
    if (strstr(err.text, why) == NULL) {
        fail_msg("%s: said \"%s\", not \"%s\"", bytes, err.text, why);
    }
    assert_int_equal(world.set.count, 0);
    assert_int_equal(map_count(&world.texts.by_id), 0);
    world_fini(&world);
}

static void test_refused(void **unused)
{
    (void)unused;
    expect_bad("", "line 1");
    expect_bad("[]", "version 0");
    expect_bad("{\"version\": 2}", "version 2 of the state is not known here");
    expect_bad("{\"version\": 1, \"documents\": [{}]}", "documents[0]: a document needs");
    expect_bad("{\"version\": 1, \"documents\": [{\"file\":\"a\",\"text\":\"\",\"line\":1e9}]}",
               "documents[0]");
    expect_bad("{\"version\": 1, \"objects\": [{\"id\":\"x\",\"document\":0}]}",
               "objects[0]: an object needs");
    expect_bad("{\"version\": 1, \"generation\": -1}", "generation");
}

static void test_what_is_not_understood_is_counted(void **unused)
{
    (void)unused;
    struct world world;
    struct error err = {{0}};
    size_t lost = 0;
    world_init(&world);
    assert_true(state_read(SLICE("{\"version\":1,\"generation\":9,\"documents\":[{\"file\":\"a\","
                                 "\"line\":1,\"text\":\"kind: Unknown\"}],\"objects\":[{\"id\":"
                                 "\"Unknown/default/x\",\"document\":0,\"generation\":4}]}"),
                           &world.set, &world.texts, &lost, &err));
    assert_int_equal(lost, 1);
    assert_int_equal(world.set.count, 0);
    assert_int_equal(world.set.generation, 9);
    world_fini(&world);
}

int main(void)
{
    json_init_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_as_it_was),
        cmocka_unit_test(test_removals_count),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_what_is_not_understood_is_counted),
    };
    return cmocka_run_group_tests_name("control/state", tests, NULL, NULL);
}
