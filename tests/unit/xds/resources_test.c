#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "xds/resources.h"

#include <cmocka.h>

static struct resource *make(const char *name, const char *body, const char *alias)
{
    struct slice aliases[] = {slice_of_text(alias)};
    return resource_new(slice_of_text(name), slice_of_text(body), aliases, alias != NULL ? 1 : 0,
                        0);
}

static bool put(struct resources *set, const char *name, const char *body, const char *alias)
{
    struct resource *resource = make(name, body, alias);
    bool changed = resources_put_take(set, &resource);
    assert_null(resource);
    return changed;
}

static void equal_content_has_an_equal_version(void **state)
{
    (void)state;
    struct resource *a = make("a", "body", NULL);
    struct resource *b = make("b", "body", NULL);
    struct resource *other = make("a", "bodz", NULL);
    struct resource *named = make("a", "body", "alias");
    assert_string_equal(a->version, b->version);
    assert_string_not_equal(a->version, other->version);
    assert_string_not_equal(a->version, named->version);
    assert_int_equal(strlen(a->version), 32);
    /* Versions outlive the process: a client that reconnects compares them. */
    assert_string_equal(a->version, "1b196fba5f6b75bd206a26e305b5b423");
    resource_unref(&a);
    resource_unref(&b);
    resource_unref(&other);
    resource_unref(&named);
}

static void a_put_says_whether_anything_changed(void **state)
{
    (void)state;
    struct resources set;
    resources_init(&set, 1);
    assert_true(put(&set, "a", "1", NULL));
    assert_false(put(&set, "a", "1", NULL));
    assert_true(put(&set, "a", "2", NULL));
    assert_true(resources_remove(&set, SLICE("a")));
    assert_false(resources_remove(&set, SLICE("a")));
    assert_null(resources_get(&set, SLICE("a")));
    resources_fini(&set);
}

static void aliases_lead_to_the_resource_and_names_win(void **state)
{
    (void)state;
    struct resources set;
    resources_init(&set, 1);
    (void)put(&set, "a", "1", "x");
    (void)put(&set, "b", "2", "a");
    assert_true(slice_eq(resources_get(&set, SLICE("x"))->name, SLICE("a")));
    assert_true(slice_eq(resources_get(&set, SLICE("a"))->name, SLICE("a")));
    (void)put(&set, "a", "1", "y");
    assert_null(resources_get(&set, SLICE("x")));
    assert_true(slice_eq(resources_get(&set, SLICE("y"))->name, SLICE("a")));
    (void)put(&set, "c", "3", "y"); /* takes the alias over */
    assert_true(resources_remove(&set, SLICE("a")));
    assert_true(slice_eq(resources_get(&set, SLICE("y"))->name, SLICE("c")));
    resources_fini(&set);
}

static void a_resource_lives_as_long_as_somebody_counts_it(void **state)
{
    (void)state;
    struct resources set;
    resources_init(&set, 1);
    (void)put(&set, "a", "1", "x");
    struct resource *mine = resource_ref(resources_get(&set, SLICE("a")));
    resources_fini(&set);
    assert_true(slice_eq(mine->body, SLICE("1")));
    resource_unref(&mine);
    assert_null(mine);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_content_has_an_equal_version),
        cmocka_unit_test(a_put_says_whether_anything_changed),
        cmocka_unit_test(aliases_lead_to_the_resource_and_names_win),
        cmocka_unit_test(a_resource_lives_as_long_as_somebody_counts_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
