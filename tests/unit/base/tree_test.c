/* Which names below a folder count, and what is said of the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tree.h"
#include "tests/support/unit.h"

static const char *const endings[] = {".yaml", ".json", NULL};

struct place {
    char root[48];
    char path[256];
    struct arena arena;
    unsigned entered;
};

static const char *inside(struct place *place, const char *name)
{
    (void)snprintf(place->path, sizeof place->path, "%s/%s", place->root, name);
    return place->path;
}

static void put(struct place *place, const char *name)
{
    FILE *file = fopen(inside(place, name), "we");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

static void place_init(struct place *place)
{
    *place = (struct place){.root = "/tmp/pillion-tree-XXXXXX"};
    assert_non_null(mkdtemp(place->root));
    arena_init(&place->arena, NULL);
}

static void place_fini(struct place *place)
{
    char command[128];
    arena_fini(&place->arena);
    (void)snprintf(command, sizeof command, "rm -rf %s", place->root);
    assert_int_equal(system(command), 0);
}

static void on_folder(void *owner, const char *folder)
{
    struct place *place = owner;
    place->entered++;
    assert_int_equal(access(folder, F_OK), 0);
}

static struct tree look(struct place *place)
{
    return tree_list(&place->arena, &(struct tree_plan){.root = place->root,
                                                        .endings = endings,
                                                        .before = on_folder,
                                                        .owner = place});
}

static void test_names_by_their_endings_sorted(void **unused)
{
    (void)unused;
    struct place place;
    place_init(&place);
    assert_int_equal(mkdir(inside(&place, "sub"), 0700), 0);
    assert_int_equal(mkdir(inside(&place, ".git"), 0700), 0);
    put(&place, "z.yaml");
    put(&place, "a.json");
    put(&place, "a.txt");
    put(&place, ".a.yaml");
    put(&place, ".git/b.yaml");
    put(&place, "sub/m.yaml");
    struct tree tree = look(&place);
    assert_int_equal(tree.file_count, 3);
    assert_string_equal(tree.files[0], "a.json");
    assert_string_equal(tree.files[1], "sub/m.yaml");
    assert_string_equal(tree.files[2], "z.yaml");
    assert_int_equal(tree.trouble_count, 0);
    assert_int_equal(place.entered, 2);
    place_fini(&place);
}

static void test_a_pipe_and_a_link_that_leads_nowhere(void **unused)
{
    (void)unused;
    struct place place;
    place_init(&place);
    assert_int_equal(mkfifo(inside(&place, "pipe.yaml"), 0600), 0);
    assert_int_equal(symlink("nowhere", inside(&place, "link.yaml")), 0);
    struct tree tree = look(&place);
    assert_int_equal(tree.file_count, 1);
    assert_string_equal(tree.files[0], "link.yaml");
    assert_int_equal(tree.trouble_count, 1);
    assert_string_equal(tree.troubles[0].path, "pipe.yaml");
    assert_string_equal(tree.troubles[0].text, "not a file");
    assert_false(tree.troubles[0].unread);
    place_fini(&place);
}

static void test_a_link_to_a_folder_is_not_followed(void **unused)
{
    (void)unused;
    struct place place;
    place_init(&place);
    assert_int_equal(symlink(".", inside(&place, "round")), 0);
    put(&place, "a.yaml");
    assert_int_equal(look(&place).file_count, 1);
    place_fini(&place);
}

static void test_depth_is_bounded(void **unused)
{
    (void)unused;
    struct place place;
    char path[64] = "d";
    place_init(&place);
    for (unsigned depth = 1; depth <= TREE_DEPTH_MAX + 1; depth++) {
        assert_int_equal(mkdir(inside(&place, path), 0700), 0);
        (void)strncat(path, "/d", sizeof path - strlen(path) - 1);
    }
    struct tree tree = look(&place);
    assert_int_equal(tree.trouble_count, 1);
    assert_non_null(strstr(tree.troubles[0].text, "16 are allowed"));
    assert_int_equal(place.entered, TREE_DEPTH_MAX + 1);
    place_fini(&place);
}

static void test_a_root_that_is_not_there(void **unused)
{
    (void)unused;
    struct place place;
    place_init(&place);
    assert_int_equal(rmdir(place.root), 0);
    struct tree_plan plan = {.root = place.root, .endings = endings};
    struct tree tree = tree_list(&place.arena, &plan);
    assert_int_equal(tree.trouble_count, 1);
    assert_true(tree.troubles[0].unread);
    assert_non_null(strstr(tree.troubles[0].text, "No such file"));
    place_fini(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_by_their_endings_sorted),
        cmocka_unit_test(test_a_pipe_and_a_link_that_leads_nowhere),
        cmocka_unit_test(test_a_link_to_a_folder_is_not_followed),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_a_root_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
