/* The picture of the mesh: what is found by what, and which rule holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "policy/parse.h"
#include "policy/translate.h"

#include <cmocka.h>

struct mesh {
    struct arena arena;
    struct policy_documents documents;
    struct model *model;
};

static void mesh_init(struct mesh *mesh, const char *text)
{
    struct policy_problems problems;
    arena_init(&mesh->arena, NULL);
    policy_problems_init(&problems, &mesh->arena);
    policy_documents_init(&mesh->documents);
    policy_parse(slice_of_text(text), "f.yaml", &mesh->documents, &problems);
    for (size_t i = 0; i < problems.count; i++) {
        print_error("%s\n", policy_problem_text(&mesh->arena, &problems.at[i]));
    }
    assert_int_equal(problems.count, 0);
    mesh->model = model_new(mesh->documents.objects, mesh->documents.count, NULL);
}

static void mesh_fini(struct mesh *mesh)
{
    model_free(&mesh->model);
    policy_documents_fini(&mesh->documents);
    arena_fini(&mesh->arena);
}

#define SERVICE(name, ns, ip, ports)                                                               \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: " ns "}\n"               \
    "spec: {clusterIP: " ip ", selector: {app: " name "}, ports: [" ports "]}\n---\n"
#define ENTRY(name, ns, spec)                                                                      \
    "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"                                    \
    "metadata: {name: " name ", namespace: " ns "}\nspec: {" spec "}\n---\n"
#define RULE(name, ns, host)                                                                       \
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                                  \
    "metadata: {name: " name ", namespace: " ns "}\nspec: {host: '" host "'}\n---\n"
#define VIRTUAL(name, ns, host)                                                                    \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"                                   \
    "metadata: {name: " name ", namespace: " ns "}\nspec: {hosts: ['" host "'], http: [{route: "   \
    "[{destination: {host: a}}]}]}\n---\n"
#define PEER(name, ns, spec)                                                                       \
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"                                 \
    "metadata: {name: " name ", namespace: " ns "}\nspec: {" spec "}\n---\n"

static struct addr ip(const char *text, uint16_t port)
{
    struct addr addr;
    assert_true(addr_parse_ip(slice_of_text(text), &addr));
    addr.port = port;
    return addr;
}

static void test_names_are_completed_as_in_kubernetes(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh, SERVICE("a", "shop", "10.0.0.1", "{port: 80}"));
    static const struct {
        const char *name;
        const char *host;
    } rows[] = {
        {"a", "a.default.svc.cluster.local"},
        {"A.", "a.default.svc.cluster.local"},
        {"a.shop", "a.shop.svc.cluster.local"},
        {"a.shop.svc", "a.shop.svc.cluster.local"},
        {"a.shop.svc.cluster.local", "a.shop.svc.cluster.local"},
        {"a.shop.svc.cluster.local.", "a.shop.svc.cluster.local"},
        {"example.org", "example.org"},
        {"b.shop", "b.shop"},
        {"*.shop.svc.cluster.local", "*.shop.svc.cluster.local"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_string_equal(
            model_full_host(mesh.model, &mesh.arena, slice_of_text(rows[i].name), "default"),
            rows[i].host);
    }
    mesh_fini(&mesh);
}

static void test_found_by_address_and_name(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh, SERVICE("a", "shop", "10.0.0.1", "{port: 80, targetPort: 8080}")
                         ENTRY("one", "shop", "address: 10.1.0.1, labels: {app: a}")
                             ENTRY("two", "shop", "address: 10.1.0.1, labels: {app: b}")
                                 ENTRY("far", "shop", "address: 10.1.0.1, network: far"));
    struct addr vip = ip("10.0.0.1", 99);
    assert_string_equal(model_find_vip(mesh.model, &vip, 0)->host, "a.shop.svc.cluster.local");
    struct addr other = ip("10.0.0.2", 80);
    assert_null(model_find_vip(mesh.model, &other, 0));

    /* Two at one address: the one that serves the port; none: nobody can tell. */
    struct addr serving = ip("10.1.0.1", 8080);
    assert_string_equal(model_find_workload(mesh.model, "", &serving)->name, "one");
    struct addr unknown = ip("10.1.0.1", 9999);
    assert_null(model_find_workload(mesh.model, "", &unknown));
    assert_string_equal(model_find_workload(mesh.model, "far", &unknown)->name, "far");
    assert_string_equal(model_find_workload_named(mesh.model, "shop", "two")->name, "two");
    assert_null(model_find_workload_named(mesh.model, "default", "two"));
    mesh_fini(&mesh);
}

static void test_target_ports(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh,
              SERVICE("a", "shop", "10.0.0.1",
                      "{name: http, port: 80}, {name: b, port: 81, targetPort: 8081}, "
                      "{name: c, port: 82, targetPort: web}")
                  ENTRY("one", "shop", "address: 10.1.0.1, labels: {app: a}")
                      ENTRY("two", "shop",
                            "address: 10.1.0.2, labels: {app: a}, ports: {http: 9080, b: 9081, "
                            "web: 9082}"));
    const struct model_service *service =
        model_find_service(mesh.model, SLICE("a.shop.svc.cluster.local"));
    static const struct {
        uint32_t port;
        size_t count;
        uint32_t one;
        uint32_t two;
    } rows[] = {{80, 2, 80, 9080}, {81, 2, 8081, 9081}, {82, 1, 0, 9082}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct model_port *port = model_find_port(service, rows[i].port);
        assert_int_equal(port->endpoint_count, rows[i].count);
        for (size_t e = 0; e < port->endpoint_count; e++) {
            bool first = strcmp(port->endpoints[e].workload->name, "one") == 0;
            assert_int_equal(port->endpoints[e].port, first ? rows[i].one : rows[i].two);
        }
    }
    assert_null(model_find_port(service, 83));
    mesh_fini(&mesh);
}

static void test_protocols_of_ports(void **state)
{
    (void)state;
    static const struct {
        const char *port;
        enum model_protocol protocol;
    } rows[] = {
        {"{name: web, port: 80}", MODEL_PROTOCOL_AUTO},
        {"{name: http, port: 80}", MODEL_PROTOCOL_HTTP1},
        {"{name: http-web, port: 80}", MODEL_PROTOCOL_HTTP1},
        {"{name: httpweb, port: 80}", MODEL_PROTOCOL_AUTO},
        {"{name: http2-x, port: 80}", MODEL_PROTOCOL_HTTP2},
        {"{name: grpc, port: 80}", MODEL_PROTOCOL_HTTP2},
        {"{name: grpc-web, port: 80}", MODEL_PROTOCOL_HTTP1},
        {"{name: tcp-db, port: 80}", MODEL_PROTOCOL_TCP},
        {"{name: https, port: 80}", MODEL_PROTOCOL_TLS},
        {"{name: mysql, port: 80}", MODEL_PROTOCOL_SERVER_FIRST},
        {"{name: http, appProtocol: tcp, port: 80}", MODEL_PROTOCOL_TCP},
        {"{name: http, appProtocol: kubernetes.io/h2c, port: 80}", MODEL_PROTOCOL_HTTP2},
        {"{name: http, appProtocol: example.com/own, port: 80}", MODEL_PROTOCOL_HTTP1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct mesh mesh;
        char text[512];
        assert_true(snprintf(text, sizeof text, SERVICE("a", "b", "None", "%s"), rows[i].port) > 0);
        mesh_init(&mesh, text);
        const struct model_service *service =
            model_find_service(mesh.model, SLICE("a.b.svc.cluster.local"));
        assert_int_equal(service->ports[0].protocol, rows[i].protocol);
        mesh_fini(&mesh);
    }
}

static void test_exact_rule_hides_wildcards_and_callers_come_first(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh,
              SERVICE("a", "shop", "10.0.0.1", "{port: 80}")
                  SERVICE("b", "shop", "10.0.0.2", "{port: 80}") RULE("exact", "shop", "a")
                      RULE("wide", "shop", "*.cluster.local") RULE("wider", "shop", "*")
                          RULE("mine", "caller", "a.shop") RULE("root", "pillion-system", "*"));
    static const struct {
        const char *host;
        const char *namespace;
        const char *rule;
    } rows[] = {
        {"a.shop.svc.cluster.local", "shop", "exact"},
        {"a.shop.svc.cluster.local", "elsewhere", "exact"},
        {"a.shop.svc.cluster.local", "caller", "mine"},
        {"b.shop.svc.cluster.local", "caller", "wide"},
        {"example.org", "shop", "wider"},
        {"example.org", "caller", "root"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct model_service *service =
            model_find_service(mesh.model, slice_of_text(rows[i].host));
        assert_string_equal(
            model_destination_rules(mesh.model, rows[i].host, service, rows[i].namespace)
                .at[0]
                ->name,
            rows[i].rule);
    }
    mesh_fini(&mesh);
}

static void test_virtual_service_of_a_host(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh, SERVICE("a", "shop", "10.0.0.1", "{port: 80}") VIRTUAL("exact", "shop", "a")
                         VIRTUAL("second", "other", "a.shop")
                             VIRTUAL("wild", "shop", "*.shop.svc.cluster.local"));
    mesh.documents.objects[1]->born = 5; /* exact: younger than second */
    mesh.documents.objects[2]->born = 4;
    struct model *model = model_new(mesh.documents.objects, mesh.documents.count, NULL);
    assert_string_equal(model_virtual_service(model, "a.shop.svc.cluster.local")->name, "second");
    assert_string_equal(model_virtual_service(model, "z.shop.svc.cluster.local")->name, "wild");
    assert_null(model_virtual_service(model, "shop.svc.cluster.local"));
    size_t count = 0;
    const struct model_conflict *conflicts = model_get_conflicts(model, &count);
    assert_int_equal(count, 1);
    assert_string_equal(conflicts[0].ignored->name, "exact");
    assert_string_equal(conflicts[0].winner->name, "second");
    model_free(&model);
    mesh_fini(&mesh);
}

static void test_mutual_tls_mode(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh, PEER("mesh", "istio-system", "mtls: {mode: STRICT}")
                         PEER("space", "shop", "mtls: {mode: PERMISSIVE}")
                             PEER("unset", "quiet", "mtls: {mode: UNSET}")
                                 PEER("one", "shop",
                                      "selector: {matchLabels: {app: a}}, mtls: {mode: DISABLE}, "
                                      "portLevelMtls: {80: {mode: STRICT}, 81: {mode: UNSET}}")
                                     PEER("ports", "shop",
                                          "selector: {matchLabels: {app: b}}, "
                                          "portLevelMtls: {80: {mode: STRICT}}"));
    struct label a = {"app", "a", 1};
    struct label b = {"app", "b", 1};
    static const struct {
        char app;
        const char *namespace;
        uint32_t port;
        enum mtls_mode mode;
        const char *object;
    } rows[] = {
        {'a', "other", 80, MTLS_MODE_STRICT, "mesh"},
        {'a', "quiet", 80, MTLS_MODE_STRICT, "mesh"},
        {'c', "shop", 80, MTLS_MODE_PERMISSIVE, "space"},
        {'a', "shop", 80, MTLS_MODE_STRICT, "one"},
        {'a', "shop", 81, MTLS_MODE_DISABLE, "one"},
        {'a', "shop", 82, MTLS_MODE_DISABLE, "one"},
        {'b', "shop", 80, MTLS_MODE_STRICT, "ports"},
        {'b', "shop", 81, MTLS_MODE_PERMISSIVE, "space"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct labels labels = {rows[i].app == 'a' ? &a : &b, rows[i].app == 'c' ? 0 : 1, 1};
        const struct object *object = NULL;
        assert_int_equal(
            model_mtls_mode(mesh.model, rows[i].namespace, &labels, rows[i].port, &object),
            rows[i].mode);
        assert_string_equal(object->name, rows[i].object);
    }
    mesh_fini(&mesh);
    mesh_init(&mesh, "");
    struct labels none = {0};
    assert_int_equal(model_mtls_mode(mesh.model, "x", &none, 80, NULL), MTLS_MODE_PERMISSIVE);
    mesh_fini(&mesh);
}

static void test_free_prefix_holds_nobody(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh, SERVICE("a", "shop", "10.96.0.10", "{port: 80}")
                         ENTRY("one", "shop", "address: 10.1.0.1"));
    static const struct {
        const char *addr;
        unsigned prefix;
    } rows[] = {
        {"93.184.216.34", 8}, {"10.2.0.1", 15},   {"10.1.0.2", 31}, {"10.96.0.11", 32},
        {"10.128.0.1", 9},    {"2001:db8::1", 8}, {"11.0.0.1", 8},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct addr addr = ip(rows[i].addr, 0);
        unsigned prefix = model_free_prefix(mesh.model, &addr, 8);
        assert_int_equal(prefix, rows[i].prefix);
        struct addr known[] = {ip("10.96.0.10", 0), ip("10.1.0.1", 0)};
        for (size_t k = 0; k < COUNT_OF(known); k++) {
            assert_false(addr_in_prefix(&known[k], &addr, prefix));
        }
    }
    mesh_fini(&mesh);
}

/* Ten thousand objects must be an ordinary size: each workload stands behind its own service. */
static void test_a_large_mesh(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    const char *text = "";
    size_t room = 4U << 20;
    char *all = (char *)arena_bytes(&arena, room);
    size_t len = 0;
    for (unsigned i = 0; i < 5000; i++) {
        len += (size_t)snprintf(
            all + len, room - len,
            "apiVersion: v1\nkind: Service\nmetadata: {name: s%u}\nspec: {clusterIP: 10.%u.%u.1, "
            "selector: {app: s%u, tier: all}, ports: [{name: http, port: 80}]}\n---\n"
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w%u}\n"
            "spec: {address: 10.%u.%u.2, labels: {tier: all, app: s%u}}\n---\n",
            i, i / 250, i % 250, i, i, i / 250, i % 250, i);
    }
    text = all;
    struct mesh mesh;
    mesh_init(&mesh, text);
    size_t count = 0;
    const struct model_service *const *services = model_get_services(mesh.model, &count);
    assert_int_equal(count, 5000);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(services[i]->ports[0].endpoint_count, 1);
        assert_string_equal(services[i]->ports[0].endpoints[0].workload->name + 1,
                            services[i]->name + 1);
    }
    mesh_fini(&mesh);
    arena_fini(&arena);
}

static void test_node_ids(void **state)
{
    (void)state;
    struct mesh mesh;
    mesh_init(&mesh, ENTRY("one.a", "shop", "address: 10.1.0.1, locality: eu/a, labels: {app: a}"));
    static const struct {
        const char *id;
        const char *name;
        const char *namespace;
        const char *region;
    } rows[] = {
        {"sidecar~10.1.0.1~one.a.shop~shop.svc.cluster.local", "one.a", "shop", "eu"},
        {"sidecar~10.1.0.1~one.shop~shop.svc.cluster.local", "one", "shop", ""},
        {"sidecar~10.1.0.1~one", "one", "default", ""},
        {"sidecar~", "", "default", ""},
        {"any-text", "any-text", "default", ""},
        {"", "", "default", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct translate_node node;
        translate_node_init(&node, mesh.model, &mesh.arena, rows[i].id, NULL);
        assert_string_equal(node.name, rows[i].name);
        assert_string_equal(node.namespace, rows[i].namespace);
        assert_string_equal(node.region, rows[i].region);
    }
    mesh_fini(&mesh);
}

int main(void)
{
    json_init_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_completed_as_in_kubernetes),
        cmocka_unit_test(test_found_by_address_and_name),
        cmocka_unit_test(test_target_ports),
        cmocka_unit_test(test_protocols_of_ports),
        cmocka_unit_test(test_exact_rule_hides_wildcards_and_callers_come_first),
        cmocka_unit_test(test_virtual_service_of_a_host),
        cmocka_unit_test(test_mutual_tls_mode),
        cmocka_unit_test(test_free_prefix_holds_nobody),
        cmocka_unit_test(test_a_large_mesh),
        cmocka_unit_test(test_node_ids),
    };
    return cmocka_run_group_tests_name("policy/model", tests, NULL, NULL);
}
