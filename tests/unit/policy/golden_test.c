/* Golden tests of the translation. Each folder of tests/golden holds objects (*.yaml), what is
 * asked for (`ask`), and the answers as JSON (expect/NAME.json) with the problems of the objects
 * (expect/problems). PILLION_GOLDEN_UPDATE=1 writes them anew: read the diff before a commit. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/json.h"
#include "policy/array.h"
#include "policy/set.h"
#include "policy/translate.h"
#include "policy/validate.h"
#include "xds/decode.h"
#include "xds/json.h"
#include "xds/types.h"

#include <cmocka.h>

#define GOLDEN_ROOT "tests/golden"

struct golden {
    struct arena arena;
    const char *folder;
    struct policy_set set;
    struct model *model;
    struct translate_node node;
    unsigned wrong;
};

static const char *names_compare_key(const void *name)
{
    return *(const char *const *)name;
}

static int names_compare(const void *a, const void *b)
{
    return strcmp(names_compare_key(a), names_compare_key(b));
}

static const char **folder_names(struct arena *arena, const char *folder, const char *suffix,
                                 size_t *count)
{
    const char **names = NULL;
    *count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL;
         entry = readdir(dir)) {
        if (entry->d_name[0] != '.' &&
            slice_ends(slice_of_text(entry->d_name), slice_of_text(suffix))) {
            ARRAY_PUSH(arena, names, *count, arena_printf(arena, "%s", entry->d_name));
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    if (*count > 0) {
        qsort(names, *count, sizeof *names, names_compare);
    }
    return names;
}

/* A whole file; a null pointer when it is not there. */
static struct slice file_read(struct arena *arena, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return (struct slice){NULL, 0};
    }
    struct stat info;
    assert_int_equal(fstat(fileno(file), &info), 0);
    uint8_t *bytes = arena_bytes(arena, (size_t)info.st_size + 1);
    size_t len = fread(bytes, 1, (size_t)info.st_size, file);
    assert_int_equal(fclose(file), 0);
    return slice_of(bytes, len);
}

static bool updating(void)
{
    const char *update = getenv("PILLION_GOLDEN_UPDATE");
    return update != NULL && strcmp(update, "1") == 0;
}

static void golden_check(struct golden *golden, const char *name, const char *text)
{
    const char *folder = arena_printf(&golden->arena, "%s/expect", golden->folder);
    const char *path = arena_printf(&golden->arena, "%s/%s", folder, name);
    if (updating()) {
        assert_true(mkdir(folder, 0777) == 0 || errno == EEXIST);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        return;
    }
    struct slice expected = file_read(&golden->arena, path);
    if (!slice_eq(expected, slice_of_text(text))) {
        golden->wrong++;
        print_error("%s differs. Now:\n%s\n", path, text);
    }
}

/* ---- one case ---- */

static void golden_load(struct golden *golden)
{
    struct arena *arena = &golden->arena;
    struct policy_problems problems;
    policy_problems_init(&problems, arena);
    struct policy_documents documents;
    policy_documents_init(&documents);
    size_t count = 0;
    const char **names = folder_names(arena, golden->folder, ".yaml", &count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        const char *path = arena_printf(arena, "%s/%s", golden->folder, names[i]);
        policy_parse(file_read(arena, path), names[i], &documents, &problems);
    }
    policy_set_init(&golden->set);
    (void)policy_set_apply(&golden->set, &documents, NULL, &problems);
    policy_documents_fini(&documents);
    golden->model = model_new(golden->set.objects, golden->set.count, NULL);

    const char *text = "";
    for (size_t i = 0; i < problems.count; i++) {
        text = arena_printf(arena, "%s%s\n", text, policy_problem_text(arena, &problems.at[i]));
    }
    golden_check(golden, "problems", text);
}

static const char *type_url_of(const char *name)
{
    static const char *const urls[] = {TRANSLATE_LISTENER, TRANSLATE_ROUTE, TRANSLATE_CLUSTER,
                                       TRANSLATE_ENDPOINTS, TRANSLATE_DESTINATION};
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        if (slice_ends(slice_of_text(urls[i]), slice_of_text(name))) {
            return urls[i];
        }
    }
    fail_msg("ask: %s is no type", name);
    return NULL;
}

static json_t *texts_json(const char *const *texts, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(json_array_append_new(list, json_string(texts[i])), 0);
    }
    return list;
}

static void golden_ask(struct golden *golden, const char *type, const char *name, const char *file)
{
    struct arena *arena = &golden->arena;
    struct translate_result result;
    const char *url = type_url_of(type);
    enum translate_outcome outcome =
        translate_resource(golden->model, &golden->node, url, name, arena, &result);
    json_t *root = json_object();
    (void)json_object_set_new(root, "name", json_string(name));
    if (outcome == TRANSLATE_FOUND) {
        const char **objects = NULL;
        size_t count = 0;
        for (size_t i = 0; i < result.object_count; i++) {
            ARRAY_PUSH(arena, objects, count, result.objects[i]->id);
        }
        struct error err = {0};
        const ProtobufCMessageDescriptor *descriptor = xds_type_find(url)->descriptor;
        const void *message = decode_message(arena, descriptor, result.bytes, &err);
        if (message == NULL) {
            fail_msg("%s: %s", name, err.text);
        }
        (void)json_object_set_new(root, "aliases", texts_json(result.aliases, result.alias_count));
        (void)json_object_set_new(root, "objects", texts_json(objects, count));
        (void)json_object_set_new(root, "generation", json_integer((json_int_t)result.generation));
        (void)json_object_set_new(root, "resource", xds_json_write(arena, message));
    } else {
        (void)json_object_set_new(root, "resource", json_null());
    }
    char *text = json_dumps(root, JSON_INDENT(1));
    assert_non_null(text);
    golden_check(golden, arena_printf(arena, "%s.json", file), arena_printf(arena, "%s\n", text));
    alloc_free_for_library(text);
    json_decref(root);
}

static void golden_line(struct golden *golden, struct slice line)
{
    char *words[3];
    struct slice rest = line;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        words[i] = arena_text(&golden->arena,
                              rest.at != NULL ? slice_cut(&rest, ' ') : slice_head(line, 0));
    }
    if (words[0][0] == '\0' || words[0][0] == '#') {
        return;
    }
    if (strcmp(words[0], "node") == 0) {
        translate_node_init(&golden->node, golden->model, &golden->arena, words[1], words[2]);
    } else {
        golden_ask(golden, words[0], words[1], words[2]);
    }
}

static void golden_case(const char *folder, unsigned *wrong)
{
    struct golden golden = {.folder = folder};
    arena_init(&golden.arena, NULL);
    golden_load(&golden);
    translate_node_init(&golden.node, golden.model, &golden.arena, "nobody", NULL);
    struct slice ask =
        file_read(&golden.arena, arena_printf(&golden.arena, "%s/ask", golden.folder));
    while (ask.at != NULL) {
        golden_line(&golden, slice_cut(&ask, '\n'));
    }
    *wrong += golden.wrong;
    model_free(&golden.model);
    policy_set_fini(&golden.set);
    arena_fini(&golden.arena);
}

static void test_golden_cases(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    size_t count = 0;
    unsigned wrong = 0;
    const char **cases = folder_names(&arena, GOLDEN_ROOT, "", &count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        golden_case(arena_printf(&arena, "%s/%s", GOLDEN_ROOT, cases[i]), &wrong);
    }
    arena_fini(&arena);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    json_init_library();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_cases)};
    return cmocka_run_group_tests_name("policy/golden", tests, NULL, NULL);
}
