#include "policy/translate.h"

#include <stdlib.h>
#include <string.h>

#include "pillion/config/v1/destination.pb-c.h"

#include "policy/translate_private.h"
#include "xds/decode.h"

/* ---- what a resource is made from ---- */

void translation_uses(struct translation *t, const struct object *object)
{
    if (object == NULL) {
        return;
    }
    if (t->object_count > 0 && t->objects[t->object_count - 1] == object) {
        return; /* the common repetition; the rest goes at the end */
    }
    ARRAY_PUSH(t->arena, t->objects, t->object_count, object);
}

void rules_used(struct translation *t, struct model_rules rules)
{
    for (size_t i = 0; i < rules.count; i++) {
        translation_uses(t, rules.at[i]);
    }
}

static int object_compare(const void *left, const void *right)
{
    return strcmp((*(const struct object *const *)left)->id,
                  (*(const struct object *const *)right)->id);
}

static void uses_finish(struct translation *t, struct translate_result *result)
{
    size_t kept = 0;
    if (t->object_count > 0) {
        qsort(t->objects, t->object_count, sizeof *t->objects, object_compare);
    }
    for (size_t i = 0; i < t->object_count; i++) {
        if (kept == 0 || t->objects[kept - 1] != t->objects[i]) {
            t->objects[kept++] = t->objects[i];
        }
        if (t->objects[i]->generation > result->generation) {
            result->generation = t->objects[i]->generation;
        }
    }
    result->objects = t->objects;
    result->object_count = kept;
}

/* ---- who asks ---- */

static const char *text_cut(struct arena *arena, struct slice *rest, uint8_t byte)
{
    return rest->at != NULL ? arena_text(arena, slice_cut(rest, byte)) : "";
}

void translate_node_init(struct translate_node *node, const struct model *model,
                         struct arena *arena, const char *id, const char *network)
{
    *node = (struct translate_node){
        .namespace = "default",
        .name = "",
        .address = "",
        .network = network != NULL ? arena_text(arena, slice_of_text(network)) : "",
        .region = "",
        .zone = "",
        .sub_zone = "",
    };
    struct slice rest = slice_of_text(id);
    (void)text_cut(arena, &rest, '~');
    if (rest.at == NULL) {
        node->name = arena_text(arena, slice_of_text(id));
        return;
    }
    node->address = text_cut(arena, &rest, '~');
    struct slice name = slice_of_text(text_cut(arena, &rest, '~'));
    /* A name may have dots, a namespace has none: "NAME.NAMESPACE" is cut at the last. */
    size_t dot = name.len;
    while (dot > 0 && name.at[dot - 1] != '.') {
        dot--;
    }
    node->name = arena_text(arena, slice_head(name, dot > 0 ? dot - 1 : name.len));
    if (dot > 0 && dot < name.len) {
        node->namespace = arena_text(arena, slice_from(name, dot));
    }
    node->workload = model_find_workload_named(model, node->namespace, node->name);
    if (node->workload != NULL) {
        node->labels = node->workload->labels;
        node->region = node->workload->region;
        node->zone = node->workload->zone;
        node->sub_zone = node->workload->sub_zone;
    }
}

/* ---- names ---- */

struct place place_of(const struct translation *t, const char *host, uint32_t number)
{
    struct place place = {.host = host, .number = number};
    place.service = model_find_service(t->model, slice_of_text(host));
    if (place.service != NULL) {
        place.port = model_find_port(place.service, number);
    }
    return place;
}

/* "outbound|8000|v1|HOST", of a service and a port that exist, or that a route may name. */
static bool outbound_cut(const struct translation *t, const char *name, struct place *place,
                         const char **subset)
{
    struct slice rest = slice_of_text(name);
    uint64_t port = 0;
    if (!slice_eq(slice_cut(&rest, '|'), SLICE("outbound")) || rest.at == NULL ||
        !slice_to_u64(slice_cut(&rest, '|'), 65535, &port) || port == 0 || rest.at == NULL) {
        return false;
    }
    *subset = arena_text(t->arena, slice_cut(&rest, '|'));
    *subset = (*subset)[0] != '\0' ? *subset : NULL;
    if (rest.at == NULL || rest.len == 0) {
        return false;
    }
    *place = place_of(t, arena_text(t->arena, rest), (uint32_t)port);
    return true;
}

/* "HOST[:PORT]" as gRPC names a Listener, or the name of a RouteConfiguration. Without a port: the
 * service's only one. */
static bool place_cut(const struct translation *t, const char *name, struct place *place)
{
    struct slice host = slice_of_text(name);
    uint64_t port = 0;
    size_t colon = host.len;
    while (colon > 0 && host.at[colon - 1] != ':') {
        colon--;
    }
    if (colon > 0) {
        if (!slice_to_u64(slice_from(host, colon), 65535, &port)) {
            return false;
        }
        host = slice_head(host, colon - 1);
    }
    const char *full = model_full_host(t->model, t->arena, host, t->node->namespace);
    *place = place_of(t, full, (uint32_t)port);
    if (place->service != NULL && port == 0 && place->service->port_count == 1) {
        *place = place_of(t, full, place->service->ports[0].number);
    }
    return place->port != NULL;
}

/* ---- one function for each type ---- */

static const void *listener_make(struct translation *t, const char *name,
                                 struct translate_result *result)
{
    struct place place;
    (void)result;
    if (strcmp(name, "virtualInbound") == 0) {
        return make_inbound_listener(t);
    }
    return place_cut(t, name, &place) ? make_api_listener(t, name, &place) : NULL;
}

static const void *routes_make(struct translation *t, const char *name,
                               struct translate_result *result)
{
    struct place place;
    (void)result;
    if (!place_cut(t, name, &place)) {
        return NULL;
    }
    ROUTE(RouteConfiguration) *table = make_routes(t, &place, TRANSLATE_FORM_NAMED, NULL, NULL);
    table->name = pb_text(t->arena, name); /* a resource has the name that it was asked by */
    return table;
}

static const void *cluster_make(struct translation *t, const char *name,
                                struct translate_result *result)
{
    struct place place;
    const char *subset = NULL;
    uint64_t port = 0;
    (void)result;
    if (outbound_cut(t, name, &place, &subset)) {
        bool known = place.port != NULL;
        return known ? make_cluster(t, &place, subset, TRANSLATE_FORM_NAMED) : NULL;
    }
    struct slice rest = slice_of_text(name);
    if (slice_eq(slice_cut(&rest, '|'), SLICE("inbound")) && rest.at != NULL &&
        slice_to_u64(slice_cut(&rest, '|'), 65535, &port)) {
        return make_inbound_cluster(t, (uint32_t)port);
    }
    return make_fixed_cluster(t, name);
}

static const void *endpoints_make(struct translation *t, const char *name,
                                  struct translate_result *result)
{
    struct place place;
    const char *subset = NULL;
    (void)result;
    return outbound_cut(t, name, &place, &subset) ? make_endpoints(t, &place, subset) : NULL;
}

static const void *destination_make(struct translation *t, const char *name,
                                    struct translate_result *result)
{
    return make_destination(t, name, result);
}

static const struct {
    const char *type_url;
    const void *(*make)(struct translation *t, const char *name, struct translate_result *result);
} types[] = {
    {TRANSLATE_LISTENER, listener_make},       {TRANSLATE_ROUTE, routes_make},
    {TRANSLATE_CLUSTER, cluster_make},         {TRANSLATE_ENDPOINTS, endpoints_make},
    {TRANSLATE_DESTINATION, destination_make},
};

enum translate_outcome translate_resource(const struct model *model,
                                          const struct translate_node *node, const char *type_url,
                                          const char *name, struct arena *arena,
                                          struct translate_result *result)
{
    struct translation t = {.model = model, .node = node, .arena = arena};
    *result = (struct translate_result){
        .outcome = TRANSLATE_BAD_TYPE,
        .type_url = type_url,
        .name = arena_text(arena, slice_of_text(name)),
    };
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (strcmp(types[i].type_url, type_url) == 0) {
            const void *message = types[i].make(&t, result->name, result);
            result->outcome = message != NULL ? TRANSLATE_FOUND : TRANSLATE_MISSING;
            if (message != NULL) {
                result->bytes = encode_message(arena, message);
                uses_finish(&t, result);
            }
            break;
        }
    }
    return result->outcome;
}

const char **translate_wildcard(const struct model *model, const struct translate_node *node,
                                const char *type_url, struct arena *arena, size_t *count)
{
    struct translation t = {.model = model, .node = node, .arena = arena};
    const char **names = NULL;
    *count = 0;
    if (strcmp(type_url, TRANSLATE_LISTENER) == 0) {
        ARRAY_PUSH(arena, names, *count, "virtualInbound");
    } else if (strcmp(type_url, TRANSLATE_CLUSTER) == 0) {
        size_t ports = 0;
        const struct inbound_port *at = inbound_ports(&t, &ports);
        for (size_t i = 0; i < ports; i++) {
            ARRAY_PUSH(arena, names, *count,
                       arena_printf(arena, "inbound|%u||", (unsigned)at[i].number));
        }
        ARRAY_PUSH(arena, names, *count, "InboundPassthroughCluster");
        ARRAY_PUSH(arena, names, *count, "BlackHoleCluster");
    }
    return names;
}
