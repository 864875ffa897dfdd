/* Which version of each object is in force, as traces of what the source held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "policy/set.h"

#include <cmocka.h>

struct source {
    struct arena arena;
    struct policy_set set;
    struct policy_problems problems; /* of the last look */
};

struct source_file {
    const char *name;
    const char *text; /* null: cannot be read */
};

static void source_init(struct source *source)
{
    arena_init(&source->arena, NULL);
    policy_set_init(&source->set);
}

static void source_fini(struct source *source)
{
    policy_set_fini(&source->set);
    arena_fini(&source->arena);
}

static bool look(struct source *source, const struct source_file *files, size_t count)
{
    struct policy_documents documents;
    policy_documents_init(&documents);
    policy_problems_init(&source->problems, &source->arena);
    for (size_t i = 0; i < count; i++) {
        if (files[i].text != NULL) {
            policy_parse(slice_of_text(files[i].text), files[i].name, &documents,
                         &source->problems);
        } else {
            policy_parse_failed(files[i].name, &documents);
        }
    }
    bool changed = policy_set_apply(&source->set, &documents, NULL, &source->problems);
    policy_documents_fini(&documents);
    return changed;
}

#define LOOK(source, ...)                                                                          \
    look(source, (const struct source_file[]){__VA_ARGS__},                                        \
         sizeof((const struct source_file[]){__VA_ARGS__}) / sizeof(struct source_file))

static uint64_t generation_of(const struct source *source, const char *id)
{
    const struct object *object = policy_set_find(&source->set, id);
    return object != NULL ? object->generation : 0;
}

/* Whether the last look said a line that holds all of `text`. */
static void expect_said(struct source *source, const char *text)
{
    for (size_t i = 0; i < source->problems.count; i++) {
        const char *said = policy_problem_text(&source->arena, &source->problems.at[i]);
        if (strstr(said, text) != NULL) {
            return;
        }
    }
    for (size_t i = 0; i < source->problems.count; i++) {
        print_error("%s\n", policy_problem_text(&source->arena, &source->problems.at[i]));
    }
    fail_msg("nobody said: %s", text);
}

#define SERVICE(name)                                                                              \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {clusterIP: 10.0.0.1, "      \
    "selector: {app: " name "}, ports: [{name: http, port: 80}]}\n---\n"
#define PEER(mode)                                                                                 \
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\n"            \
    "spec: {mtls: {mode: " mode "}}\n---\n"
#define ROUTE_TO(name, subset)                                                                     \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name "}\n"       \
    "spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: " subset "}}]}]}\n---\n"
#define SUBSETS(list)                                                                              \
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\n"             \
    "spec: {host: a, subsets: [" list "]}\n---\n"
#define SUBSET(name) "{name: " name ", labels: {version: " name "}}"

static void test_generations_follow_changes(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") PEER("STRICT")}));
    assert_int_equal(generation_of(&source, "PeerAuthentication/default/p"), 1);
    assert_int_equal(generation_of(&source, "Service/default/a"), 2);
    assert_int_equal(source.set.generation, 2);

    /* Moved to another line and file: nothing changed, but the place is the new one. */
    assert_false(LOOK(&source, {"a.yaml", PEER("STRICT")}, {"b.yaml", "\n\n" SERVICE("a")}));
    assert_string_equal(policy_set_find(&source.set, "Service/default/a")->file, "b.yaml");
    assert_int_equal(policy_set_find(&source.set, "Service/default/a")->line, 3);

    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") PEER("PERMISSIVE")}));
    assert_int_equal(generation_of(&source, "PeerAuthentication/default/p"), 3);
    assert_int_equal(generation_of(&source, "Service/default/a"), 2);
    assert_int_equal(policy_set_find(&source.set, "PeerAuthentication/default/p")->born, 1);

    /* A removal is a change of the mesh. */
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a")}));
    assert_int_equal(source.set.count, 1);
    assert_int_equal(source.set.generation, 4);
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") PEER("STRICT")}));
    assert_int_equal(generation_of(&source, "PeerAuthentication/default/p"), 5);
    source_fini(&source);
}

static void test_bad_version_leaves_the_last_good(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") PEER("STRICT")}));
    const struct object *good = policy_set_find(&source.set, "PeerAuthentication/default/p");

    assert_false(LOOK(&source, {"a.yaml", SERVICE("a") PEER("ALWAYS")}));
    expect_said(&source, "a.yaml:9: error: PeerAuthentication/default/p: spec.mtls.mode: ");
    assert_ptr_equal(policy_set_find(&source.set, "PeerAuthentication/default/p"), good);

    /* No YAML at all, and a file that cannot be read: all that came from it stays. */
    assert_false(LOOK(&source, {"a.yaml", "{ nothing"}));
    expect_said(&source, "a.yaml:2: error: ");
    assert_int_equal(source.set.count, 2);
    assert_false(LOOK(&source, {"a.yaml", NULL}));
    assert_int_equal(source.set.count, 2);

    /* A document that never was good is only named. */
    assert_false(LOOK(&source, {"a.yaml", SERVICE("a") PEER("STRICT")},
                      {"b.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: b}\n"}));
    expect_said(&source, "b.yaml:1: error: Service/default/b: an object of this kind needs a spec");
    assert_int_equal(source.set.count, 2);
    source_fini(&source);
}

static void test_one_object_in_two_files_is_refused(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(&source, {"a.yaml", PEER("STRICT")}));
    assert_false(LOOK(&source, {"a.yaml", PEER("DISABLE")}, {"b.yaml", PEER("PERMISSIVE")}));
    expect_said(&source, "a.yaml:1: error: PeerAuthentication/default/p: it is also in b.yaml:1; "
                         "none of them counts");
    expect_said(&source, "b.yaml:1: error: PeerAuthentication/default/p: it is also in a.yaml:1; "
                         "none of them counts");
    const struct object *kept = policy_set_find(&source.set, "PeerAuthentication/default/p");
    assert_int_equal(object_peer_authentication(kept)->mtls.mode.value, MTLS_MODE_STRICT);
    source_fini(&source);
}

static const char *subset_in_force(const struct source *source)
{
    const struct object *object = policy_set_find(&source->set, "VirtualService/default/v");
    return object_virtual_service(object)->http.at[0].route.at[0].destination.subset.value;
}

static void test_route_waits_for_its_subset(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") SUBSETS(SUBSET("v1")) ROUTE_TO("v", "v1")}));
    assert_false(LOOK(&source, {"a.yaml", SERVICE("a") SUBSETS(SUBSET("v1")) ROUTE_TO("v", "v2")}));
    expect_said(&source, "pending: VirtualService/default/v: "
                         "spec.http[0].route[0].destination.subset: no DestinationRule defines "
                         "subset v2 of a.default.svc.cluster.local; 100 % of the requests would "
                         "fail; the version before it stays until then");
    assert_string_equal(subset_in_force(&source), "v1");
    /* The rule alone is enough: the route follows by itself. */
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") SUBSETS(SUBSET("v1") "," SUBSET("v2"))
                                             ROUTE_TO("v", "v2")}));
    assert_string_equal(subset_in_force(&source), "v2");
    /* Without a version before it, what is written holds. */
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a")}));
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") ROUTE_TO("v", "v3")}));
    assert_string_equal(subset_in_force(&source), "v3");
    source_fini(&source);
}

static void test_what_goes_together_badly_is_named(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(
        &source,
        {"a.yaml",
         SERVICE("a") SUBSETS(SUBSET("v1") "," SUBSET("v2")) "apiVersion: networking.istio.io/v1\n"
                                                             "kind: WorkloadEntry\n"
                                                             "metadata: {name: w}\n"
                                                             "spec: {address: 10.1.0.1, labels: "
                                                             "{app: a, version: v1}}\n"},
        {"b.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                   "metadata: {name: v}\nspec:\n  hosts: [a, gone]\n  http:\n  - route:\n"
                   "    - {destination: {host: a, subset: v1}, weight: 90}\n"
                   "    - {destination: {host: a, subset: v2}, weight: 10}\n"
                   "  - route:\n    - destination: {host: b.other}\n"},
        {"c.yaml", SERVICE("z")}));
    expect_said(&source, "b.yaml:9: warning: VirtualService/default/v: "
                         "spec.http[0].route[1].destination: v2 of a.default.svc.cluster.local has "
                         "no endpoint; 10 % of the requests fail");
    expect_said(&source, "b.yaml:5: warning: VirtualService/default/v: spec.hosts[1]: no Service "
                         "is named gone.default.svc.cluster.local: nothing follows this");
    expect_said(&source, "b.yaml:10: warning: VirtualService/default/v: spec.http[1]: never "
                         "reached: the rule before it takes every request");
    expect_said(&source, "c.yaml:1: warning: Service/default/z: spec.clusterIP: 10.0.0.1 belongs "
                         "to Service/default/a already: on a port of both requests go by their "
                         "authority, and what names nobody goes there");
    source_fini(&source);
}

static void test_older_virtual_service_wins_and_stays_older(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") SUBSETS(SUBSET("v1") "," SUBSET("v2"))
                                             ROUTE_TO("z", "v1")}));
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") SUBSETS(SUBSET("v1") "," SUBSET("v2"))
                                             ROUTE_TO("z", "v2") ROUTE_TO("b", "v1")}));
    expect_said(&source, "warning: VirtualService/default/b: spec: ignored for "
                         "a.default.svc.cluster.local: VirtualService/default/z (a.yaml:");
    struct model *model = model_new(source.set.objects, source.set.count, NULL);
    assert_string_equal(model_virtual_service(model, "a.default.svc.cluster.local")->id,
                        "VirtualService/default/z");
    model_free(&model);
    source_fini(&source);
}

static void test_restore_brings_generations_back(void **state)
{
    (void)state;
    struct source source;
    source_init(&source);
    assert_true(LOOK(&source, {"a.yaml", SERVICE("a") PEER("STRICT")}));
    struct policy_set later;
    policy_set_init(&later);
    for (size_t i = 0; i < source.set.count; i++) {
        struct object *object = object_ref(source.set.objects[i]);
        policy_set_restore(&later, &object, 40 + i, 7);
        assert_null(object);
    }
    policy_set_fini(&source.set);
    source.set = later;
    assert_int_equal(source.set.generation, 41);
    /* A restart finds the same files: nothing changed. */
    assert_false(LOOK(&source, {"a.yaml", SERVICE("a") PEER("STRICT")}));
    assert_int_equal(generation_of(&source, "Service/default/a"), 41);
    assert_int_equal(policy_set_find(&source.set, "Service/default/a")->born, 7);
    source_fini(&source);
}

int main(void)
{
    json_init_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generations_follow_changes),
        cmocka_unit_test(test_bad_version_leaves_the_last_good),
        cmocka_unit_test(test_one_object_in_two_files_is_refused),
        cmocka_unit_test(test_route_waits_for_its_subset),
        cmocka_unit_test(test_what_goes_together_badly_is_named),
        cmocka_unit_test(test_older_virtual_service_wins_and_stays_older),
        cmocka_unit_test(test_restore_brings_generations_back),
    };
    return cmocka_run_group_tests_name("policy/set", tests, NULL, NULL);
}
