/* The answer to "where does this connection go?" (xds.md 5.2). A key of the mesh's own names is
 * answered by the service, or by nothing where there is no such service; an address that the mesh
 * does not know passes, and so does the widest prefix around it in which the mesh knows nobody. */
#include <string.h>

#include "pillion/config/v1/destination.pb-c.h"

#include "policy/translate_private.h"
#include "xds/destination_key.h"

#define DESTINATION(type)    Pillion__Config__V1__##type
#define DESTINATION_IS(name) PILLION__CONFIG__V1__DESTINATION__##name

/* The widest covers: a single answer never stands for more than this. */
#define FREE_PREFIX_V4 8
#define FREE_PREFIX_V6 32

static void cover_add(struct arena *arena, DESTINATION(Destination) * answer,
                      const struct addr *addr, unsigned prefix, uint32_t port_lo, uint32_t port_hi)
{
    DESTINATION(Destination__Cover) *cover =
        MESSAGE(arena, pillion__config__v1__destination__cover);
    size_t len = addr->family == ADDR_IPV4 ? 4 : 16;
    cover->addr.len = len;
    cover->addr.data = arena_alloc(arena, len);
    for (size_t i = 0; i < len; i++) {
        unsigned left = prefix > i * 8 ? prefix - (unsigned)(i * 8) : 0;
        unsigned mask = left >= 8 ? 0xff : (0xff00U >> left) & 0xff;
        cover->addr.data[i] = (uint8_t)(addr->ip[i] & mask);
    }
    cover->prefix_len = prefix;
    cover->port_lo = port_lo;
    cover->port_hi = port_hi;
    ARRAY_PUSH(arena, answer->covers, answer->n_covers, cover);
}

static unsigned whole_prefix(const struct addr *addr)
{
    return addr->family == ADDR_IPV4 ? 32 : 128;
}

/* An L7 rule makes a port HTTP, whatever it was declared or not. */
static DESTINATION(Destination__Protocol) protocol_of(enum model_protocol protocol, bool ruled)
{
    switch (protocol) {
    case MODEL_PROTOCOL_AUTO:
        return ruled ? DESTINATION_IS(PROTOCOL__HTTP1) : DESTINATION_IS(PROTOCOL__AUTO);
    case MODEL_PROTOCOL_TCP:
        return DESTINATION_IS(PROTOCOL__TCP);
    case MODEL_PROTOCOL_HTTP1:
        return DESTINATION_IS(PROTOCOL__HTTP1);
    case MODEL_PROTOCOL_HTTP2:
        return DESTINATION_IS(PROTOCOL__HTTP2);
    case MODEL_PROTOCOL_TLS:
        return DESTINATION_IS(PROTOCOL__TLS);
    case MODEL_PROTOCOL_SERVER_FIRST:
        return DESTINATION_IS(PROTOCOL__SERVER_FIRST);
    }
    return DESTINATION_IS(PROTOCOL__AUTO);
}

static bool has_routes(enum model_protocol protocol)
{
    return protocol == MODEL_PROTOCOL_AUTO || protocol == MODEL_PROTOCOL_HTTP1 ||
           protocol == MODEL_PROTOCOL_HTTP2;
}

/* HTTP, by declaration or by a rule, never becomes opaque, so it needs no cluster for that. */
static bool may_be_opaque(DESTINATION(Destination__Protocol) protocol)
{
    return protocol != DESTINATION_IS(PROTOCOL__HTTP1) &&
           protocol != DESTINATION_IS(PROTOCOL__HTTP2);
}

/* ---- a service ---- */

static void cluster_give(struct translation *t, DESTINATION(Destination) * answer,
                         const struct route_cluster *cluster)
{
    struct arena *arena = t->arena;
    CLUSTER(Cluster) *made =
        make_cluster(t, &cluster->place, cluster->subset, TRANSLATE_FORM_DESTINATION);
    ENDPOINT(ClusterLoadAssignment) *endpoints =
        make_endpoints(t, &cluster->place, cluster->subset);
    ARRAY_PUSH(arena, answer->clusters, answer->n_clusters, made);
    ARRAY_PUSH(arena, answer->first_endpoints, answer->n_first_endpoints, endpoints);
}

static bool clusters_have(const struct route_clusters *clusters, const char *name)
{
    for (size_t i = 0; i < clusters->count; i++) {
        if (strcmp(clusters->at[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void alias_give(struct arena *arena, const char *alias, const char *name,
                       struct translate_result *result)
{
    if (alias != NULL && strcmp(alias, name) != 0) {
        ARRAY_PUSH(arena, result->aliases, result->alias_count, alias);
    }
}

/* How many services have the address and the port; *first: the oldest of them. */
static size_t sharing(struct translation *t, const struct addr *addr, uint32_t port,
                      const struct model_service **first)
{
    const struct model_service *service;
    size_t count = 0;
    for (size_t i = 0; (service = model_find_vip(t->model, addr, i)) != NULL; i++) {
        if (model_find_port(service, port) != NULL) {
            *first = count == 0 ? service : *first;
            count++;
        }
    }
    return count;
}

static bool is_shared(struct translation *t, const struct addr *addr, uint32_t port)
{
    const struct model_service *first;
    return sharing(t, addr, port, &first) > 1;
}

/* Other names of the same answer, and the addresses for which it holds. One that others have too is
 * no name of this service alone. */
static void names_give(struct translation *t, const struct place *place, const char *name,
                       DESTINATION(Destination) * answer, struct translate_result *result)
{
    struct arena *arena = t->arena;
    alias_give(
        arena,
        destination_key_of_host(arena, slice_of_text(place->host), (uint16_t)place->number, NULL),
        name, result);
    for (size_t i = 0; i < place->service->address_count; i++) {
        struct addr addr = place->service->addrs[i];
        addr.port = (uint16_t)place->number;
        if (is_shared(t, &addr, place->number)) {
            continue;
        }
        cover_add(arena, answer, &addr, whole_prefix(&addr), place->number, place->number);
        alias_give(arena, destination_key_of_addr(arena, slice_of_text(t->node->network), &addr),
                   name, result);
    }
}

static DESTINATION(Destination) * service_answer(struct translation *t, const struct place *place)
{
    struct arena *arena = t->arena;
    const struct model_service *service = place->service;
    DESTINATION(Destination) *answer = MESSAGE(arena, pillion__config__v1__destination);
    struct route_clusters clusters = {0};
    bool ruled = false;
    answer->outcome = DESTINATION_IS(OUTCOME__SERVICE);
    answer->canonical_name = arena_printf(arena, "svc/%s/%s:%u", service->namespace, service->name,
                                          (unsigned)place->number);
    if (has_routes(place->port->protocol)) {
        answer->routes_case = DESTINATION_IS(ROUTES_ROUTE_CONFIG);
        answer->route_config = make_routes(t, place, TRANSLATE_FORM_DESTINATION, &clusters, &ruled);
    }
    answer->protocol = protocol_of(place->port->protocol, ruled);

    if (may_be_opaque(answer->protocol)) {
        make_tcp_routes(t, place, answer, &clusters);
        struct route_cluster plain = {*place, NULL, cluster_name_of(arena, place, NULL)};
        if (!clusters_have(&clusters, plain.name)) {
            ARRAY_PUSH(arena, clusters.at, clusters.count, plain);
        }
        answer->default_cluster = pb_text(arena, plain.name);
    }
    for (size_t i = 0; i < clusters.count; i++) {
        cluster_give(t, answer, &clusters.at[i]);
    }
    translation_uses(t, service->object);
    return answer;
}

/* The oldest service's answer, for bytes and for requests that name nobody; others by authority. */
static DESTINATION(Destination) *
    shared_answer(struct translation *t, const struct addr *addr, const struct model_service *first)
{
    struct place place = place_of(t, first->host, addr->port);
    DESTINATION(Destination) *answer = service_answer(t, &place);
    const struct model_service *service;
    for (size_t i = 0; (service = model_find_vip(t->model, addr, i)) != NULL; i++) {
        const struct model_port *port = model_find_port(service, addr->port);
        if (port != NULL) {
            translation_uses(t, service->object);
            answer->by_authority = answer->by_authority || has_routes(port->protocol);
            if (port->protocol != place.port->protocol) {
                answer->protocol = DESTINATION_IS(PROTOCOL__AUTO);
            }
        }
    }
    cover_add(t->arena, answer, addr, whole_prefix(addr), addr->port, addr->port);
    return answer;
}

static DESTINATION(Destination) * named_answer(struct translation *t, const char *host,
                                               uint32_t port, const char *name,
                                               struct translate_result *result)
{
    struct place place = place_of(t, host, port);
    DESTINATION(Destination) *answer = service_answer(t, &place);
    names_give(t, &place, name, answer, result);
    return answer;
}

/* ---- a workload, called by its own address ---- */

static const struct model_served *served_at(const struct model_workload *workload, uint32_t port)
{
    for (size_t i = 0; i < workload->served_count; i++) {
        if (workload->served[i].target == port) {
            return &workload->served[i];
        }
    }
    return NULL;
}

static DESTINATION(Destination) *
    workload_answer(struct translation *t, const struct model_workload *workload, uint32_t port)
{
    struct arena *arena = t->arena;
    const struct model_served *served = served_at(workload, port);
    enum model_protocol protocol = served != NULL ? served->port->protocol : MODEL_PROTOCOL_AUTO;
    DESTINATION(Destination) *answer = MESSAGE(arena, pillion__config__v1__destination);
    answer->outcome = DESTINATION_IS(OUTCOME__WORKLOAD);
    answer->canonical_name = arena_printf(arena, "workload/%s/%s:%u", workload->namespace,
                                          workload->name, (unsigned)port);
    answer->protocol = protocol_of(protocol, false);

    CLUSTER(Cluster) *cluster = make_workload_cluster(t, workload, port, served);
    ARRAY_PUSH(arena, answer->clusters, answer->n_clusters, cluster);
    if (may_be_opaque(answer->protocol)) {
        answer->default_cluster = pb_text(arena, cluster->name);
    }
    if (has_routes(protocol)) {
        ROUTE(RouteConfiguration) *table =
            MESSAGE(arena, envoy__config__route__v3__route_configuration);
        ROUTE(VirtualHost) *host = MESSAGE(arena, envoy__config__route__v3__virtual_host);
        table->name = pb_text(arena, cluster->name);
        table->validate_clusters = pb_bool(arena, false);
        host->name = pb_text(arena, cluster->name);
        char *any = pb_text(arena, "*");
        ARRAY_PUSH(arena, host->domains, host->n_domains, any);
        ROUTE(Route) *route =
            make_default_route(t, cluster->name, workload->object, 0, TRANSLATE_FORM_DESTINATION);
        ARRAY_PUSH(arena, host->routes, host->n_routes, route);
        ARRAY_PUSH(arena, table->virtual_hosts, table->n_virtual_hosts, host);
        answer->routes_case = DESTINATION_IS(ROUTES_ROUTE_CONFIG);
        answer->route_config = table;
    }
    cover_add(arena, answer, &workload->addr, whole_prefix(&workload->addr), port, port);
    return answer;
}

/* ---- outside ---- */

static DESTINATION(Destination) * outside_answer(struct translation *t)
{
    DESTINATION(Destination) *answer = MESSAGE(t->arena, pillion__config__v1__destination);
    answer->outcome = model_get_options(t->model)->block_unknown
                          ? DESTINATION_IS(OUTCOME__BLOCK)
                          : DESTINATION_IS(OUTCOME__PASSTHROUGH);
    return answer;
}

static DESTINATION(Destination) * addr_answer(struct translation *t, const char *network,
                                              const struct addr *addr, const char *name,
                                              struct translate_result *result)
{
    const struct model_service *service = NULL;
    size_t count = sharing(t, addr, addr->port, &service);
    if (count > 1) {
        return shared_answer(t, addr, service);
    }
    if (count == 1) {
        return named_answer(t, service->host, addr->port, name, result);
    }
    const struct model_workload *workload = model_find_workload(t->model, network, addr);
    if (workload != NULL && model_find_vip(t->model, addr, 0) == NULL) {
        return workload_answer(t, workload, addr->port);
    }
    DESTINATION(Destination) *answer = outside_answer(t);
    unsigned floor = addr->family == ADDR_IPV4 ? FREE_PREFIX_V4 : FREE_PREFIX_V6;
    unsigned prefix = model_free_prefix(t->model, addr, floor);
    if (prefix < whole_prefix(addr)) {
        cover_add(t->arena, answer, addr, prefix, 0, 65535);
    } else {
        cover_add(t->arena, answer, addr, prefix, addr->port, addr->port);
    }
    return answer;
}

static bool in_mesh_domain(const struct translation *t, const char *host)
{
    const char *suffix =
        arena_printf(t->arena, ".svc.%s", model_get_options(t->model)->cluster_domain);
    return slice_ends(slice_of_text(host), slice_of_text(suffix));
}

static DESTINATION(Destination) * host_answer(struct translation *t,
                                              const struct destination_key *key, const char *name,
                                              struct translate_result *result)
{
    struct addr addr;
    bool bracketed = key->host.len > 2 && key->host.at[0] == '[';
    struct slice literal = bracketed ? slice_of(key->host.at + 1, key->host.len - 2) : key->host;
    if (addr_parse_ip(literal, &addr)) {
        addr.port = key->port;
        return addr_answer(t, t->node->network, &addr, name, result);
    }
    const char *host = model_full_host(t->model, t->arena, key->host, t->node->namespace);
    struct place place = place_of(t, host, key->port);
    if (place.port != NULL) {
        return named_answer(t, host, key->port, name, result);
    }
    /* A name of the mesh that is not there may appear: a negative answer, not a way out. */
    return place.service != NULL || in_mesh_domain(t, host) ? NULL : outside_answer(t);
}

DESTINATION(Destination) *
    make_destination(struct translation *t, const char *name, struct translate_result *result)
{
    struct destination_key key;
    if (!destination_key_parse(slice_of_text(name), &key, NULL)) {
        return NULL;
    }
    switch (key.kind) {
    case DESTINATION_IP:
        return addr_answer(t, arena_text(t->arena, key.network), &key.addr, name, result);
    case DESTINATION_HOST:
        return host_answer(t, &key, name, result);
    }
    return NULL;
}
