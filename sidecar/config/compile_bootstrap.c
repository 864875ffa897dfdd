/* A static bootstrap, as Envoy takes it: node, static_resources, dynamic_resources, admin. What its
 * clusters, listeners and routes name must be there: there is nobody to bring it later. */

#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"

#include "sidecar/config/compile_cluster.h"
#include "sidecar/config/compile_listener.h"
#include "sidecar/config/compile_tls.h"
#include "xds/json.h"

#define BOOT(type)    Envoy__Config__Bootstrap__V3__##type
#define CORE(type)    Envoy__Config__Core__V3__##type
#define CORE_IS(name) ENVOY__CONFIG__CORE__V3__##name

/* ---- static resources ---- */

static const struct cluster_config *find_cluster(const struct bootstrap *out, struct slice name)
{
    for (uint32_t i = 0; i < out->cluster_count; i++) {
        if (slice_eq(out->clusters[i].name, name)) {
            return &out->clusters[i];
        }
    }
    return NULL;
}

static bool clusters_of(struct compiler *c, const BOOT(Bootstrap__StaticResources) * given,
                        struct bootstrap *out)
{
    struct cluster_config *list = COMPILE_ARRAY(c, struct cluster_config, given->n_clusters);
    out->clusters = list;
    for (size_t i = 0; i < given->n_clusters; i++) {
        if (!COMPILE_IN(c, compile_cluster(c, given->clusters[i], &list[i]), "clusters[%zu]", i)) {
            return false;
        }
        if (find_cluster(out, list[i].name) != NULL) {
            return compile_refuse(c, "clusters", "'%.*s' comes twice", SLICE_ARG(list[i].name));
        }
        out->cluster_count++;
    }
    return true;
}

static bool listeners_of(struct compiler *c, const BOOT(Bootstrap__StaticResources) * given,
                         struct bootstrap *out)
{
    struct listener_config *list = COMPILE_ARRAY(c, struct listener_config, given->n_listeners);
    for (size_t i = 0; i < given->n_listeners; i++) {
        if (!COMPILE_IN(c, compile_listener(c, given->listeners[i], &list[i]), "listeners[%zu]",
                        i)) {
            return false;
        }
    }
    out->listeners = list;
    out->listener_count = (uint32_t)given->n_listeners;
    return true;
}

static bool secrets_of(struct compiler *c, const BOOT(Bootstrap__StaticResources) * given,
                       struct bootstrap *out)
{
    struct named_secret *list = COMPILE_ARRAY(c, struct named_secret, given->n_secrets);
    for (size_t i = 0; i < given->n_secrets; i++) {
        if (!COMPILE_IN(c, compile_secret(c, given->secrets[i], &list[i]), "secrets[%zu]", i)) {
            return false;
        }
    }
    out->secrets = list;
    out->secret_count = (uint32_t)given->n_secrets;
    return true;
}

/* ---- references ---- */

static bool cluster_is_there(struct compiler *c, const struct bootstrap *out, struct slice name)
{
    return out->cds_dynamic || find_cluster(out, name) != NULL ||
           compile_refuse(c, NULL, "names the cluster '%.*s', which does not exist",
                          SLICE_ARG(name));
}

static bool chain_refers(struct compiler *c, const struct bootstrap *out,
                         const struct filter_chain *chain)
{
    if (chain->kind == CHAIN_TCP) {
        for (unsigned i = 0; i < chain->tcp->target_count; i++) {
            if (!cluster_is_there(c, out, chain->tcp->targets[i].cluster)) {
                return false;
            }
        }
    }
    if (chain->kind != CHAIN_HTTP) {
        return true;
    }
    if (chain->http->routes == NULL) {
        return out->ads_cluster.len > 0 ||
               compile_refuse(c, NULL, "rds needs dynamic_resources.ads_config");
    }
    for (uint32_t i = 0; i < chain->http->routes->cluster_count; i++) {
        if (!cluster_is_there(c, out, chain->http->routes->clusters[i])) {
            return false;
        }
    }
    return true;
}

static bool listeners_refer(struct compiler *c, const struct bootstrap *out)
{
    for (uint32_t i = 0; i < out->listener_count; i++) {
        const struct listener_config *listener = &out->listeners[i];
        for (uint32_t n = 0; n < listener->chain_count; n++) {
            if (!COMPILE_IN(c, chain_refers(c, out, &listener->chains[n]),
                            "static_resources.listeners[%u].filter_chains[%u]", i, n)) {
                return false;
            }
        }
        if (listener->fallback != NULL &&
            !COMPILE_IN(c, chain_refers(c, out, listener->fallback),
                        "static_resources.listeners[%u].default_filter_chain", i)) {
            return false;
        }
    }
    return true;
}

/* ---- the control plane ---- */

static bool ads_of(struct compiler *c, const CORE(ApiConfigSource) * source, struct bootstrap *out)
{
    switch (source->api_type) {
    case CORE_IS(API_CONFIG_SOURCE__API_TYPE__DELTA_GRPC):
        out->ads_delta = true;
        break;
    case CORE_IS(API_CONFIG_SOURCE__API_TYPE__GRPC):
        break;
    default:
        return compile_refuse(c, "api_type", "only GRPC and DELTA_GRPC are supported");
    }
    if (source->n_grpc_services != 1 || source->grpc_services[0]->target_specifier_case !=
                                            CORE_IS(GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC)) {
        return compile_refuse(c, "grpc_services", "one envoy_grpc is required");
    }
    const CORE(GrpcService__EnvoyGrpc) *grpc = source->grpc_services[0]->envoy_grpc;
    out->ads_cluster = compile_name(c, grpc->cluster_name);
    out->ads_authority = compile_name(c, grpc->authority);
    if (!compile_required(c, "grpc_services[0].envoy_grpc.cluster_name", grpc->cluster_name)) {
        return false;
    }
    return find_cluster(out, out->ads_cluster) != NULL ||
           compile_refuse(c, "grpc_services[0].envoy_grpc.cluster_name",
                          "'%.200s' is not among static_resources.clusters", grpc->cluster_name);
}

static bool over_ads(struct compiler *c, const char *field, const CORE(ConfigSource) * source,
                     bool *dynamic)
{
    *dynamic = source != NULL;
    return source == NULL ||
           source->config_source_specifier_case ==
               CORE_IS(CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS) ||
           compile_refuse(c, field, "only ads is supported");
}

static bool dynamic_of(struct compiler *c, const BOOT(Bootstrap__DynamicResources) * given,
                       struct bootstrap *out)
{
    if (!over_ads(c, "lds_config", given->lds_config, &out->lds_dynamic) ||
        !over_ads(c, "cds_config", given->cds_config, &out->cds_dynamic)) {
        return false;
    }
    if (given->ads_config == NULL) {
        return (!out->lds_dynamic && !out->cds_dynamic) ||
               compile_refuse(c, "ads_config", "is required");
    }
    return COMPILE_IN(c, ads_of(c, given->ads_config, out), "ads_config");
}

/* ---- the node ---- */

static void node_metadata(struct compiler *c, const Google__Protobuf__Struct *given,
                          struct bootstrap *out)
{
    const Google__Protobuf__Value *labels = compile_struct_get(given, "LABELS");
    out->node_workload = compile_struct_text(c, given, "WORKLOAD_NAME");
    out->node_namespace = compile_struct_text(c, given, "NAMESPACE");
    if (labels != NULL && labels->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE) {
        out->node_labels = compile_labels(c, labels->struct_value, &out->node_label_count);
    }
}

/* ---- the file ---- */

static bool bootstrap_of(struct compiler *c, const BOOT(Bootstrap) * given, struct bootstrap *out)
{
    if (given->node != NULL) {
        out->node_id = compile_text(c, given->node->id);
        out->node_cluster = compile_text(c, given->node->cluster);
        node_metadata(c, given->node->metadata, out);
    }
    const BOOT(Bootstrap__StaticResources) *fixed = given->static_resources;
    if (fixed != NULL) {
        compile_enter(c, "static_resources");
        bool good =
            clusters_of(c, fixed, out) && listeners_of(c, fixed, out) && secrets_of(c, fixed, out);
        if (!compile_leave(c, good)) {
            return false;
        }
    }
    if (given->dynamic_resources != NULL &&
        !COMPILE_IN(c, dynamic_of(c, given->dynamic_resources, out), "dynamic_resources")) {
        return false;
    }
    if (given->admin != NULL && given->admin->address != NULL &&
        !COMPILE_IN(c, compile_address(c, "address", given->admin->address, &out->admin),
                    "admin")) {
        return false;
    }
    return listeners_refer(c, out);
}

struct bootstrap *compile_bootstrap(const json_t *file, const struct compile_options *options,
                                    struct error *err)
{
    struct arena scratch;
    arena_init(&scratch, NULL);
    struct snapshot *owner = snapshot_new();
    struct bootstrap *out = ARENA_NEW(&owner->arena, struct bootstrap);
    out->owner = owner;
    const BOOT(Bootstrap) *given =
        xds_json_read(&scratch, &envoy__config__bootstrap__v3__bootstrap__descriptor, file, err);
    bool good = false;
    if (given != NULL) {
        struct compiler c;
        compiler_init(&c, owner, &scratch, options, err);
        good = bootstrap_of(&c, given, out);
        compiler_fini(&c);
    }
    arena_fini(&scratch);
    if (!good) {
        snapshot_free(&owner);
        return NULL;
    }
    return out;
}
