/* Reading a folder: what counts as a file, where documents begin, what is said of the rest; and
 * that a change is told once it is quiet. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "control/source/files.h"
#include "tests/support/unit.h"

struct place {
    char folder[48];
    char path[256];
    struct loop *loop;
    struct files *files;
    struct task changed;
    unsigned times;
};

static void on_changed(struct task *task)
{
    struct place *place = CONTAINER_OF(task, struct place, changed);
    place->times++;
    loop_stop(place->loop);
}

static const char *inside(struct place *place, const char *name)
{
    (void)snprintf(place->path, sizeof place->path, "%s/%s", place->folder, name);
    return place->path;
}

static void put(struct place *place, const char *name, const char *text)
{
    FILE *file = fopen(inside(place, name), "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void place_init(struct place *place)
{
    struct error err = {{0}};
    *place = (struct place){.folder = "/tmp/pillion-files-XXXXXX"};
    assert_non_null(mkdtemp(place->folder));
    place->loop = loop_new();
    place->changed.run = on_changed;
    place->files = files_open(place->loop, place->folder, &place->changed, &err);
    assert_non_null(place->files);
}

static void place_fini(struct place *place)
{
    char command[128];
    files_free(&place->files);
    loop_free(&place->loop);
    (void)snprintf(command, sizeof command, "rm -rf %s", place->folder);
    assert_int_equal(system(command), 0);
}

static bool said(const struct files_look *look, const char *file, const char *text)
{
    for (size_t i = 0; i < look->problems.count; i++) {
        if (strcmp(look->problems.at[i].file, file) == 0 &&
            strstr(look->problems.at[i].text, text) != NULL) {
            return true;
        }
    }
    return false;
}

#define SERVICE(name)                                                                              \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: 10.0.0.1, "      \
    "ports: [{name: http, port: 80}]}\n"

static void test_what_is_read(void **unused)
{
    (void)unused;
    struct place place;
    struct files_look look;
    place_init(&place);
    assert_int_equal(mkdir(inside(&place, "b"), 0700), 0);
    assert_int_equal(mkdir(inside(&place, ".git"), 0700), 0);
    put(&place, "b/two.yml", SERVICE("two"));
    put(&place, "a.yaml", SERVICE("one"));
    put(&place, "c.json", "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[]}");
    put(&place, ".git/x.yaml", "kind: [");
    put(&place, ".a.yaml.swp", "kind: [");
    put(&place, "readme.md", "kind: [");
    assert_int_equal(mkfifo(inside(&place, "pipe.yaml"), 0600), 0);
    assert_int_equal(symlink("nowhere", inside(&place, "link.yaml")), 0);
    assert_int_equal(symlink(".", inside(&place, "loop")), 0);
    files_read(place.files, &look);
    assert_int_equal(look.tree.file_count, 4);
    assert_string_equal(look.tree.files[0], "a.yaml");
    assert_string_equal(look.tree.files[1], "b/two.yml");
    assert_string_equal(look.tree.files[2], "c.json");
    assert_string_equal(look.tree.files[3], "link.yaml");
    assert_int_equal(look.documents.count, 2);
    assert_int_equal(look.documents.broken_count, 1);
    assert_true(said(&look, "pipe.yaml", "not a file"));
    assert_true(said(&look, "link.yaml", "No such file"));
    assert_int_equal(look.problems.count, 2);
    files_look_fini(&look);
    place_fini(&place);
}

static void test_where_documents_stand(void **unused)
{
    (void)unused;
    struct place place;
    struct files_look look;
    place_init(&place);
    put(&place, "a.yaml", "# first\n" SERVICE("one") "---\nkind: [\n---\n" SERVICE("two"));
    put(&place, "b.yaml", SERVICE("three"));
    files_read(place.files, &look);
    assert_int_equal(look.documents.count, 3);
    assert_int_equal(look.text_count, 3);
    for (size_t i = 0; i < look.documents.count; i++) {
        const struct object *object = look.documents.objects[i];
        const struct files_text *text = files_look_find(&look, object->file, object->line);
        assert_non_null(text);
        /* The document alone, at its place, is the object again. */
        struct policy_documents again;
        policy_documents_init(&again);
        policy_parse(text->text, object->file, &again, &look.problems);
        assert_int_equal(again.count, 1);
        assert_string_equal(again.objects[0]->id, object->id);
        assert_int_equal(again.objects[0]->hash, object->hash);
        assert_int_equal(again.objects[0]->line + text->line - 1, object->line);
        policy_documents_fini(&again);
    }
    assert_null(files_look_find(&look, "c.yaml", 1));
    files_look_fini(&look);
    place_fini(&place);
}

static void test_a_change_is_told_when_it_is_quiet(void **unused)
{
    (void)unused;
    struct place place;
    struct files_look look;
    place_init(&place);
    files_read(place.files, &look);
    files_look_fini(&look);
    for (unsigned i = 0; i < 20; i++) {
        put(&place, "a.yaml", SERVICE("one"));
    }
    loop_run(place.loop);
    assert_int_equal(place.times, 1);
    files_read(place.files, &look);
    assert_int_equal(look.documents.count, 1);
    files_look_fini(&look);
    assert_int_equal(unlink(inside(&place, "a.yaml")), 0);
    place.loop->stopped = false;
    loop_run(place.loop);
    assert_int_equal(place.times, 2);
    files_read(place.files, &look);
    assert_int_equal(look.documents.count, 0);
    files_look_fini(&look);
    place_fini(&place);
}

static void test_a_folder_that_is_gone(void **unused)
{
    (void)unused;
    struct place place;
    struct files_look look;
    place_init(&place);
    assert_int_equal(rmdir(place.folder), 0);
    files_read(place.files, &look);
    assert_int_equal(look.unread_count, 1);
    assert_int_equal(look.tree.trouble_count, 1);
    assert_string_equal(look.tree.troubles[0].path, "");
    assert_true(said(&look, place.folder, "cannot be read"));
    files_look_fini(&look);
    place_fini(&place);
}

static void test_no_folder(void **unused)
{
    (void)unused;
    struct error err = {{0}};
    struct loop *loop = loop_new();
    struct task task = {.run = on_changed};
    assert_null(files_open(loop, "/no/such/folder", &task, &err));
    assert_string_equal(err.text, "/no/such/folder: No such file or directory");
    loop_free(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_where_documents_stand),
        cmocka_unit_test(test_a_change_is_told_when_it_is_quiet),
        cmocka_unit_test(test_a_folder_that_is_gone),
        cmocka_unit_test(test_no_folder),
    };
    return cmocka_run_group_tests_name("control/files", tests, NULL, NULL);
}
