/* YAML bytes -> objects -> set -> picture -> resources, as an operator's directory would give them.
 * What holds of every input: a second look at the same bytes changes nothing; every object in force
 * has a generation; every resource decodes; every cluster that a Destination's routes name is in
 * it, and those of its TCP routes; total_weight is the sum of the weights, and not 0; covers hold
 * the address that was asked for. */
#include <string.h>

#include "pillion/config/v1/destination.pb-c.h"

#include "base/check.h"
#include "base/json.h"
#include "policy/set.h"
#include "policy/translate.h"
#include "xds/decode.h"
#include "xds/types.h"

typedef void check_fn(const void *message);

static bool destination_has(const Pillion__Config__V1__Destination *answer, const char *cluster)
{
    for (size_t i = 0; i < answer->n_clusters; i++) {
        if (strcmp(answer->clusters[i]->name, cluster) == 0) {
            return true;
        }
    }
    return false;
}

static void check_action(const Pillion__Config__V1__Destination *answer,
                         const Envoy__Config__Route__V3__RouteAction *action)
{
    if (action->cluster_specifier_case ==
        ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER) {
        CHECK(destination_has(answer, action->cluster));
        return;
    }
    const Envoy__Config__Route__V3__WeightedCluster *weighted = action->weighted_clusters;
    uint64_t sum = 0;
    for (size_t i = 0; i < weighted->n_clusters; i++) {
        CHECK(destination_has(answer, weighted->clusters[i]->name));
        sum += weighted->clusters[i]->weight->value;
    }
    CHECK(sum > 0);
    CHECK(sum == weighted->total_weight->value);
}

static void check_tcp_route(const Pillion__Config__V1__Destination *answer,
                            const Pillion__Config__V1__Destination__TcpRoute *route)
{
    const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *proxy = route->tcp_proxy;
    CHECK(route->metadata != NULL && proxy != NULL);
    if (proxy->cluster_specifier_case ==
        ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER) {
        CHECK(destination_has(answer, proxy->cluster));
        return;
    }
    CHECK(proxy->weighted_clusters->n_clusters > 0);
    for (size_t i = 0; i < proxy->weighted_clusters->n_clusters; i++) {
        CHECK(proxy->weighted_clusters->clusters[i]->weight > 0);
        CHECK(destination_has(answer, proxy->weighted_clusters->clusters[i]->name));
    }
}

static void check_destination(const void *message)
{
    const Pillion__Config__V1__Destination *answer = message;
    CHECK(answer->outcome != PILLION__CONFIG__V1__DESTINATION__OUTCOME__UNSPECIFIED);
    CHECK(answer->default_cluster[0] == '\0' || destination_has(answer, answer->default_cluster));
    for (size_t i = 0; i < answer->n_tcp_routes; i++) {
        check_tcp_route(answer, answer->tcp_routes[i]);
    }
    if (answer->routes_case != PILLION__CONFIG__V1__DESTINATION__ROUTES_ROUTE_CONFIG) {
        return;
    }
    const Envoy__Config__Route__V3__VirtualHost *host = answer->route_config->virtual_hosts[0];
    CHECK(strcmp(host->domains[host->n_domains - 1], "*") == 0);
    CHECK(host->n_routes > 0);
    for (size_t i = 0; i < host->n_routes; i++) {
        CHECK(host->routes[i]->metadata != NULL);
        check_action(answer, host->routes[i]->route);
    }
}

static void check_nothing(const void *message)
{
    (void)message;
}

static void ask(const struct model *model, const struct translate_node *node, const char *type_url,
                const char *name, check_fn *check)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct translate_result result;
    struct error err = {0};
    if (translate_resource(model, node, type_url, name, &arena, &result) == TRANSLATE_FOUND) {
        const void *message =
            decode_message(&arena, xds_type_find(type_url)->descriptor, result.bytes, &err);
        CHECK(message != NULL);
        check(message);
        CHECK(result.generation <= model_generation(model));
    }
    arena_fini(&arena);
}

/* Bounded: a large input with many services would only take long. */
#define SERVICES_MAX 8

static void ask_service(const struct model *model, const struct translate_node *node,
                        const struct model_service *service, struct arena *arena)
{
    for (size_t p = 0; p < service->port_count && p < SERVICES_MAX; p++) {
        unsigned port = (unsigned)service->ports[p].number;
        ask(model, node, TRANSLATE_DESTINATION,
            arena_printf(arena, "host/%s:%u", service->host, port), check_destination);
        for (size_t a = 0; a < service->address_count && a < 2; a++) {
            bool v6 = service->addrs[a].family == ADDR_IPV6;
            ask(model, node, TRANSLATE_DESTINATION,
                arena_printf(arena, v6 ? "ip//[%s]:%u" : "ip//%s:%u", service->addresses[a], port),
                check_destination);
        }
        const char *cluster = arena_printf(arena, "outbound|%u||%s", port, service->host);
        const char *host = arena_printf(arena, "%s:%u", service->host, port);
        ask(model, node, TRANSLATE_CLUSTER, cluster, check_nothing);
        ask(model, node, TRANSLATE_ENDPOINTS, cluster, check_nothing);
        ask(model, node, TRANSLATE_ROUTE, host, check_nothing);
        ask(model, node, TRANSLATE_LISTENER, host, check_nothing);
    }
}

static void ask_workload(const struct model *model, const struct model_workload *workload,
                         struct arena *arena)
{
    struct translate_node node;
    const char *id = arena_printf(arena, "sidecar~%s~%s.%s~d", workload->address, workload->name,
                                  workload->namespace);
    translate_node_init(&node, model, arena, id, NULL);
    ask(model, &node, TRANSLATE_LISTENER, "virtualInbound", check_nothing);
    size_t count = 0;
    const char **names = translate_wildcard(model, &node, TRANSLATE_CLUSTER, arena, &count);
    for (size_t i = 0; i < count && i < SERVICES_MAX; i++) {
        ask(model, &node, TRANSLATE_CLUSTER, names[i], check_nothing);
    }
    bool v6 = workload->addr.family == ADDR_IPV6;
    ask(model, &node, TRANSLATE_DESTINATION,
        arena_printf(arena, v6 ? "ip//[%s]:80" : "ip//%s:80", workload->address),
        check_destination);
}

static void ask_all(const struct policy_set *set)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct model *model = model_new(set->objects, set->count, NULL);
    struct translate_node node;
    translate_node_init(&node, model, &arena, "sidecar~10.0.0.1~client.default~d", NULL);
    size_t count = 0;
    const struct model_service *const *services = model_get_services(model, &count);
    for (size_t i = 0; i < count && i < SERVICES_MAX; i++) {
        ask_service(model, &node, services[i], &arena);
    }
    const struct model_workload *const *workloads = model_get_workloads(model, &count);
    for (size_t i = 0; i < count && i < SERVICES_MAX; i++) {
        ask_workload(model, workloads[i], &arena);
    }
    ask(model, &node, TRANSLATE_DESTINATION, "ip//192.0.2.1:443", check_destination);
    model_free(&model);
    arena_fini(&arena);
}

static bool look(struct policy_set *set, struct slice text)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct policy_problems problems;
    policy_problems_init(&problems, &arena);
    struct policy_documents documents;
    policy_documents_init(&documents);
    policy_parse(text, "fuzz.yaml", &documents, &problems);
    bool changed = policy_set_apply(set, &documents, NULL, &problems);
    for (size_t i = 0; i < problems.count; i++) {
        CHECK(policy_problem_text(&arena, &problems.at[i])[0] != '\0');
    }
    policy_documents_fini(&documents);
    arena_fini(&arena);
    return changed;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct policy_set set;
    policy_set_init(&set);
    (void)look(&set, slice_of(input, len));
    for (size_t i = 0; i < set.count; i++) {
        CHECK(set.objects[i]->generation > 0);
        CHECK(set.objects[i]->generation <= set.generation);
    }
    CHECK(!look(&set, slice_of(input, len)));
    ask_all(&set);
    policy_set_fini(&set);
    return 0;
}
