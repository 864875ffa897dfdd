/* Bytes as a control plane might send them: decoded, compiled, and then used as a worker uses what
 * was accepted. The first byte picks the type and whether chains may be quarantined. The oracles: a
 * refusal says why, the same bytes give the same verdict, no route leads to a target without
 * weight, and a balancer picks only what is available (or panics aloud). */

#include <stdint.h>

#include "base/alloc.h"
#include "base/regex.h"
#include "sidecar/config/compile.h"
#include "sidecar/route/chain.h"
#include "sidecar/route/router.h"
#include "sidecar/upstream/lb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_routes(const struct route_table *table)
{
    static const char *const paths[] = {"/", "/a?b=c&d", "/api/v1/x", "*"};
    struct matcher matcher = {.scratch = regex_scratch_new()};
    struct splits *splits = splits_new(table, 42);
    struct header fields[1] = {{.name = SLICE("x-canary"), .value = SLICE("1")}};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct message request = {.kind = MESSAGE_REQUEST,
                                  .method = SLICE("GET"),
                                  .scheme = SLICE("http"),
                                  .authority = SLICE("order-service.default:8000"),
                                  .path = slice_of_text(paths[i]),
                                  .content_length = MESSAGE_LENGTH_UNKNOWN,
                                  .headers = {.field = fields, .count = 1, .capacity = 1}};
        struct route_found found;
        enum fail fail = router_find(table, &request, &matcher, i, &found);
        CHECK((fail == FAIL_NONE) == (found.route != NULL));
        if (fail != FAIL_NONE || found.route->kind != ROUTE_FORWARD) {
            continue;
        }
        int picked = splits_pick(splits, found.route);
        CHECK(picked >= 0 || found.route->forward.cluster_header.len > 0);
        if (picked >= 0) {
            const struct route_target *target = &found.route->forward.targets[picked];
            CHECK(target->weight > 0);
            CHECK(target->cluster < table->cluster_count);
        }
    }
    splits_update(splits, table, 43);
    splits_free(&splits);
    regex_scratch_free(&matcher.scratch);
}

static void use_endpoints(const struct cluster_config *config, const struct endpoint_set *set)
{
    struct shared_registry *registry = shared_registry_new();
    struct shared_cluster *shared = shared_registry_cluster(registry, config->name);
    struct cluster *cluster = cluster_new(config, &shared, 7);
    for (unsigned again = 0; again < 2; again++) {
        struct shared_endpoint **list = shared_registry_endpoints(registry, config->name, set);
        cluster_apply_endpoints(cluster, set, &list, 1);
    }
    CHECK(cluster->endpoint_count == set->endpoint_count);
    for (uint64_t draw = 0; draw < 8; draw++) {
        struct lb_query query = {.draw = draw * UINT64_C(0x9e3779b97f4a7c15), .now_us = 2};
        struct lb_choice choice = lb_pick(cluster, &query);
        CHECK((choice.endpoint == NULL) == (choice.fail == FAIL_NO_HOST));
        CHECK(choice.endpoint == NULL || choice.panic || endpoint_available(choice.endpoint));
    }
    cluster_free(&cluster);
    shared_registry_free(&registry);
}

static void use_listener(const struct listener_config *listener)
{
    const struct slice alpn[] = {SLICE("pillion-h2"), SLICE("http/1.1")};
    struct chain_query query = {.destination = addr_ipv4(10, 0, 0, 1, 8000),
                                .source = addr_ipv4(10, 0, 0, 2, 40000),
                                .direct_source = addr_ipv4(10, 0, 0, 2, 40000),
                                .server_name = SLICE("a.b"),
                                .transport = SLICE("tls"),
                                .alpn = alpn,
                                .alpn_count = COUNT_OF(alpn)};
    (void)chain_find(listener, &query);
    for (uint32_t i = 0; i < listener->chain_count; i++) {
        const struct filter_chain *chain = &listener->chains[i];
        if (chain->kind == CHAIN_HTTP && chain->http->routes != NULL) {
            use_routes(chain->http->routes);
        }
    }
}

static void use(const struct compiled *compiled)
{
    const struct cluster_config plain = {
        .name = SLICE("c"), .type = CLUSTER_EDS, .slow_start = {.aggression = 1}};
    if (compiled->routes != NULL) {
        use_routes(compiled->routes);
    }
    if (compiled->listener != NULL) {
        use_listener(compiled->listener);
    }
    if (compiled->endpoints != NULL) {
        use_endpoints(&plain, compiled->endpoints);
    }
    if (compiled->cluster != NULL && compiled->cluster->endpoints != NULL) {
        /* Names of DNS clusters are resolved before they are endpoints. */
        if (compiled->cluster->type == CLUSTER_STATIC) {
            use_endpoints(compiled->cluster, compiled->cluster->endpoints);
        }
    }
    const struct destination *destination = compiled->destination;
    if (destination != NULL && destination->routes != NULL) {
        use_routes(destination->routes);
    }
}

/* Field 1 of every named type is its name. The resource is asked for under that name: a mismatch
 * would end most runs at the door. */
static struct slice name_in(struct slice bytes)
{
    if (bytes.len >= 2 && bytes.at[0] == 0x0a && bytes.at[1] < 0x80 &&
        bytes.len >= (size_t)bytes.at[1] + 2) {
        return slice_of(bytes.at + 2, bytes.at[1]);
    }
    return slice_of_text("");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    enum xds_resource type = (enum xds_resource)((data[0] & 0x7f) % XDS_RESOURCE_COUNT);
    struct compile_options options = {.quarantine = (data[0] & 0x80) != 0};
    struct slice bytes = slice_of(data + 1, size - 1);
    struct slice name = name_in(bytes);
    if (type == XDS_RESOURCE_DESTINATION) {
        name = SLICE("ip//10.96.0.10:8000");
    }
    struct compiled first;
    struct compiled second;
    struct error why = {.text = ""};
    struct error again = {.text = ""};
    bool good = compile_resource(type, name, bytes, &options, &first, &why);
    CHECK(good == compile_resource(type, name, bytes, &options, &second, &again));
    CHECK(good || (why.text[0] != '\0' && strcmp(why.text, again.text) == 0));
    if (good) {
        use(&first);
        compiled_free(&first);
        compiled_free(&second);
    }
    return 0;
}
