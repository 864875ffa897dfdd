/* Endpoints of a cluster. Localities are always written, with a weight, since gRPC drops one
 * without; priorities without gaps, since gRPC refuses them (xds.md 3.2). */
#include <stdlib.h>
#include <string.h>

#include "policy/translate_private.h"

#define TLS_MATCH_METADATA "envoy.transport_socket_match"

/* The value of the first label that is there, else the last word. */
static const char *label_or(const struct labels *labels, const char *const *keys,
                            const char *otherwise)
{
    for (; *keys != NULL; keys++) {
        const char *value = labels_get(labels, *keys);
        if (value != NULL && value[0] != '\0') {
            return value;
        }
    }
    return otherwise;
}

/* What the caller's metrics call the workload: "name;namespace;canonical name;canonical
 * revision;cluster", the canonical words by the labels that Istio looks for. */
const char *workload_text(struct arena *arena, const struct model_workload *workload)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                        "app", NULL};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version", NULL};
    return arena_printf(arena, "%s;%s;%s;%s;", workload->name, workload->namespace,
                        label_or(&workload->labels, names, workload->name),
                        label_or(&workload->labels, revisions, "latest"));
}

ENDPOINT(LbEndpoint) *
    make_endpoint(struct translation *t, const struct model_workload *workload, uint32_t port)
{
    struct arena *arena = t->arena;
    ENDPOINT(LbEndpoint) *item = MESSAGE(arena, envoy__config__endpoint__v3__lb_endpoint);
    item->host_identifier_case = ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
    item->endpoint = MESSAGE(arena, envoy__config__endpoint__v3__endpoint);
    item->endpoint->address = pb_address(arena, workload->address, port);
    item->health_status = CORE_IS(HEALTH_STATUS__HEALTHY);
    item->load_balancing_weight = pb_u32(arena, workload->weight);
    if (workload->identity != NULL) {
        pb_metadata_text(arena, &item->metadata, PILLION_METADATA, "identity", workload->identity);
    }
    if (workload->uid[0] != '\0') {
        pb_metadata_text(arena, &item->metadata, PILLION_METADATA, "uid", workload->uid);
    }
    pb_metadata_text(arena, &item->metadata, ISTIO_METADATA, "workload",
                     workload_text(arena, workload));
    const struct object *peer = NULL;
    if (workload->mesh_tls && model_mtls_mode(t->model, workload->namespace, &workload->labels,
                                              port, &peer) != MTLS_MODE_DISABLE) {
        pb_metadata_text(arena, &item->metadata, TLS_MATCH_METADATA, "tlsMode", "istio");
    }
    translation_uses(t, workload->object);
    translation_uses(t, peer);
    return item;
}

static int locality_compare(const struct model_workload *a, const struct model_workload *b)
{
    int order = strcmp(a->region, b->region);
    if (order == 0) {
        order = strcmp(a->zone, b->zone);
    }
    return order != 0 ? order : strcmp(a->sub_zone, b->sub_zone);
}

/* By locality, then address and port: the same set always gives the same bytes. */
static int endpoint_compare(const void *left, const void *right)
{
    const struct model_endpoint *a = *(const struct model_endpoint *const *)left;
    const struct model_endpoint *b = *(const struct model_endpoint *const *)right;
    int order = locality_compare(a->workload, b->workload);
    if (order == 0) {
        order = strcmp(a->workload->address, b->workload->address);
    }
    if (order == 0 && a->port != b->port) {
        order = a->port < b->port ? -1 : 1;
    }
    return order != 0 ? order : strcmp(a->workload->object->id, b->workload->object->id);
}

/* How far a locality is from who asks: 0 the same, 3 another region (Istio, locality failover). */
static uint32_t locality_rank(const struct translate_node *node,
                              const struct model_workload *workload)
{
    if (strcmp(node->region, workload->region) != 0) {
        return 3;
    }
    if (strcmp(node->zone, workload->zone) != 0) {
        return 2;
    }
    return strcmp(node->sub_zone, workload->sub_zone) != 0 ? 1 : 0;
}

/* Ranks become priorities without gaps. */
static void priorities_close(ENDPOINT(ClusterLoadAssignment) * assignment)
{
    uint32_t next = 0;
    for (uint32_t rank = 0; rank <= 3; rank++) {
        bool any = false;
        for (size_t i = 0; i < assignment->n_endpoints; i++) {
            if (assignment->endpoints[i]->priority == rank) {
                assignment->endpoints[i]->priority = next;
                any = true;
            }
        }
        next += any;
    }
}

static ENDPOINT(LocalityLbEndpoints) *
    locality_new(struct translation *t, const struct model_workload *workload, bool prefer_near)
{
    struct arena *arena = t->arena;
    ENDPOINT(LocalityLbEndpoints) *group =
        MESSAGE(arena, envoy__config__endpoint__v3__locality_lb_endpoints);
    group->locality = MESSAGE(arena, envoy__config__core__v3__locality);
    group->locality->region = pb_text(arena, workload->region);
    group->locality->zone = pb_text(arena, workload->zone);
    group->locality->sub_zone = pb_text(arena, workload->sub_zone);
    group->load_balancing_weight = pb_u32(arena, 0);
    group->priority = prefer_near ? locality_rank(t->node, workload) : 0;
    return group;
}

/* Those of the port that the subset's labels choose; a subset that nobody defined chooses none. */
static const struct model_endpoint **endpoints_choose(struct translation *t,
                                                      const struct place *place, const char *subset,
                                                      const struct settings *settings,
                                                      size_t *count)
{
    const struct model_endpoint **chosen = NULL;
    *count = 0;
    if (place->port == NULL || (subset != NULL && settings->subset == NULL)) {
        return NULL;
    }
    for (size_t i = 0; i < place->port->endpoint_count; i++) {
        const struct model_endpoint *endpoint = &place->port->endpoints[i];
        if (settings->subset == NULL ||
            labels_match(&settings->subset->labels, &endpoint->workload->labels)) {
            ARRAY_PUSH(t->arena, chosen, *count, endpoint);
        }
    }
    if (*count > 0) {
        qsort(chosen, *count, sizeof *chosen, endpoint_compare);
    }
    return chosen;
}

ENDPOINT(ClusterLoadAssignment) *
    make_endpoints(struct translation *t, const struct place *place, const char *subset)
{
    struct arena *arena = t->arena;
    struct settings settings = settings_of(t, place, subset);
    size_t count = 0;
    const struct model_endpoint **chosen = endpoints_choose(t, place, subset, &settings, &count);
    ENDPOINT(ClusterLoadAssignment) *assignment =
        MESSAGE(arena, envoy__config__endpoint__v3__cluster_load_assignment);
    assignment->cluster_name = pb_text(arena, cluster_name_of(arena, place, subset));

    /* As in Istio, nearness counts only where outlier detection can say that near is broken. */
    bool prefer_near = settings.outlier_detection != NULL && t->node->region[0] != '\0';
    ENDPOINT(LocalityLbEndpoints) *group = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct model_workload *workload = chosen[i]->workload;
        if (i == 0 || locality_compare(chosen[i - 1]->workload, workload) != 0) {
            group = locality_new(t, workload, prefer_near);
            ARRAY_PUSH(arena, assignment->endpoints, assignment->n_endpoints, group);
        }
        CHECK(group != NULL);
        ENDPOINT(LbEndpoint) *endpoint = make_endpoint(t, workload, chosen[i]->port);
        ARRAY_PUSH(arena, group->lb_endpoints, group->n_lb_endpoints, endpoint);
        group->load_balancing_weight->value += workload->weight;
        translation_uses(t, chosen[i]->object);
    }
    priorities_close(assignment);
    if (place->service != NULL) {
        translation_uses(t, place->service->object);
    }
    return assignment;
}
