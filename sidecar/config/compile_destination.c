#include "sidecar/config/compile_destination.h"

#include "sidecar/config/compile_cluster.h"
#include "sidecar/config/compile_endpoint.h"
#include "sidecar/config/compile_http.h"
#include "sidecar/config/compile_route.h"
#include "xds/decode.h"
#include "xds/destination_key.h"

#define DEST(type)    Pillion__Config__V1__Destination##type
#define DEST_IS(name) PILLION__CONFIG__V1__DESTINATION__##name

#define IDLE_US     (900 * SECOND_US)
#define NEGATIVE_US (10 * SECOND_US)

static bool outcome_of(struct compiler *c, const DEST() * given, struct destination *out)
{
    switch (given->outcome) {
    case DEST_IS(OUTCOME__SERVICE):
        out->outcome = DESTINATION_SERVICE;
        return true;
    case DEST_IS(OUTCOME__WORKLOAD):
        out->outcome = DESTINATION_WORKLOAD;
        return true;
    case DEST_IS(OUTCOME__PASSTHROUGH):
        out->outcome = DESTINATION_PASSTHROUGH;
        return true;
    case DEST_IS(OUTCOME__BLOCK):
        out->outcome = DESTINATION_BLOCK;
        return true;
    case DEST_IS(OUTCOME__EXTERNAL):
        out->outcome = DESTINATION_EXTERNAL;
        return true;
    default:
        return compile_refuse(c, "outcome", "has no value %d", (int)given->outcome);
    }
}

static bool protocol_of(struct compiler *c, const DEST() * given, struct destination *out)
{
    switch (given->protocol) {
    case DEST_IS(PROTOCOL__AUTO):
        out->protocol = DESTINATION_AUTO;
        return true;
    case DEST_IS(PROTOCOL__TCP):
        out->protocol = DESTINATION_TCP;
        return true;
    case DEST_IS(PROTOCOL__HTTP1):
        out->protocol = DESTINATION_HTTP1;
        return true;
    case DEST_IS(PROTOCOL__HTTP2):
        out->protocol = DESTINATION_HTTP2;
        return true;
    case DEST_IS(PROTOCOL__TLS):
        out->protocol = DESTINATION_TLS;
        return true;
    case DEST_IS(PROTOCOL__SERVER_FIRST):
        out->protocol = DESTINATION_SERVER_FIRST;
        return true;
    default:
        return compile_refuse(c, "protocol", "has no value %d", (int)given->protocol);
    }
}

static bool cover_of(struct compiler *c, const DEST(__Cover) * given, struct destination_cover *out)
{
    if (given->addr.len != 4 && given->addr.len != 16) {
        return compile_refuse(c, "addr", "has %zu bytes; 4 or 16 are allowed", given->addr.len);
    }
    uint32_t bits = given->addr.len == 4 ? 32 : 128;
    if (given->prefix_len > bits) {
        return compile_refuse(c, "prefix_len", "is %u; at most %u is allowed", given->prefix_len,
                              bits);
    }
    if (given->port_lo > given->port_hi || given->port_hi > UINT16_MAX) {
        return compile_refuse(c, "port_lo", "%u to %u is no range of ports", given->port_lo,
                              given->port_hi);
    }
    struct addr *addr = &out->prefix.addr;
    addr->family = given->addr.len == 4 ? ADDR_IPV4 : ADDR_IPV6;
    memcpy(addr->ip, given->addr.data, given->addr.len);
    out->prefix.prefix_len = (uint8_t)given->prefix_len;
    out->port_lo = (uint16_t)given->port_lo;
    out->port_hi = (uint16_t)given->port_hi;
    return true;
}

static bool covers_of(struct compiler *c, const DEST() * given, struct destination *out)
{
    struct destination_cover *list = COMPILE_ARRAY(c, struct destination_cover, given->n_covers);
    for (size_t i = 0; i < given->n_covers; i++) {
        if (!COMPILE_IN(c, cover_of(c, given->covers[i], &list[i]), "covers[%zu]", i)) {
            return false;
        }
    }
    out->covers = list;
    out->cover_count = (uint32_t)given->n_covers;
    return true;
}

static const struct cluster_config *find_cluster(const struct destination *destination,
                                                 struct slice name)
{
    for (uint32_t i = 0; i < destination->cluster_count; i++) {
        if (slice_eq(destination->clusters[i].name, name)) {
            return &destination->clusters[i];
        }
    }
    return NULL;
}

static bool clusters_of(struct compiler *c, const DEST() * given, struct destination *out)
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
    struct endpoint_set *sets = COMPILE_ARRAY(c, struct endpoint_set, given->n_first_endpoints);
    for (size_t i = 0; i < given->n_first_endpoints; i++) {
        if (!COMPILE_IN(c, compile_endpoints(c, given->first_endpoints[i], false, &sets[i]),
                        "first_endpoints[%zu]", i)) {
            return false;
        }
    }
    out->first_endpoints = sets;
    out->first_endpoint_count = (uint32_t)given->n_first_endpoints;
    return true;
}

/* One answer is complete: no route may name a cluster that is not in it. */
static bool routes_fit(struct compiler *c, const char *field, const struct destination *out)
{
    for (uint32_t i = 0; i < out->routes->cluster_count; i++) {
        if (find_cluster(out, out->routes->clusters[i]) == NULL) {
            return compile_refuse(c, field, "names the cluster '%.*s', which is not among clusters",
                                  SLICE_ARG(out->routes->clusters[i]));
        }
    }
    return true;
}

/* Of another resource, which came by itself. */
static bool named_routes(struct compiler *c, struct destination *out)
{
    struct error err = {.text = ""};
    struct slice bytes = c->options->routes;
    if (bytes.len == 0) {
        return true;
    }
    const Envoy__Config__Route__V3__RouteConfiguration *given = decode_message(
        c->scratch, &envoy__config__route__v3__route_configuration__descriptor, bytes, &err);
    if (given == NULL) {
        return compile_refuse(c, "route_config_name", "%.400s", err.text);
    }
    return COMPILE_IN(c, compile_routes(c, given, &out->routes), "route_config_name") &&
           routes_fit(c, "route_config_name", out);
}

static bool routes_of(struct compiler *c, const DEST() * given, struct destination *out)
{
    switch (given->routes_case) {
    case DEST_IS(ROUTES_ROUTE_CONFIG):
        if (!COMPILE_IN(c, compile_routes(c, given->route_config, &out->routes), "route_config")) {
            return false;
        }
        return routes_fit(c, "route_config", out);
    case DEST_IS(ROUTES_ROUTE_CONFIG_NAME):
        out->rds = compile_name(c, given->route_config_name);
        return compile_required(c, "route_config_name", given->route_config_name) &&
               named_routes(c, out);
    default:
        return true;
    }
}

static bool sni_hosts(struct compiler *c, const DEST(__TcpRoute) * given, struct tcp_route *out)
{
    struct slice *hosts = COMPILE_ARRAY(c, struct slice, given->n_sni_hosts);
    for (size_t i = 0; i < given->n_sni_hosts; i++) {
        hosts[i] = compile_lower(c, given->sni_hosts[i]);
        size_t star = slice_find(hosts[i], '*');
        bool whole = hosts[i].len == 1 || (hosts[i].len > 1 && hosts[i].at[1] == '.');
        if (hosts[i].len == 0 || (star < hosts[i].len && (star != 0 || !whole))) {
            return compile_refuse(c, "sni_hosts", "[%zu] is no name, \"*.suffix\" or \"*\"", i);
        }
    }
    out->sni_hosts = hosts;
    return compile_count(c, "sni_hosts", given->n_sni_hosts, &out->sni_host_count);
}

static bool tcp_route(struct compiler *c, const DEST(__TcpRoute) * given,
                      const struct destination *destination, struct tcp_route *out)
{
    if (given->tcp_proxy == NULL) {
        return compile_refuse(c, "tcp_proxy", "is required");
    }
    if (!sni_hosts(c, given, out) ||
        !COMPILE_IN(c, compile_tcp_proxy(c, given->tcp_proxy, &out->tcp), "tcp_proxy")) {
        return false;
    }
    out->tcp.origin = compile_origin(c, given->metadata);
    for (unsigned i = 0; i < out->tcp.target_count; i++) {
        if (find_cluster(destination, out->tcp.targets[i].cluster) == NULL) {
            return compile_refuse(c, "tcp_proxy",
                                  "names the cluster '%.*s', which is not among "
                                  "clusters",
                                  SLICE_ARG(out->tcp.targets[i].cluster));
        }
    }
    return true;
}

static bool tcp_routes(struct compiler *c, const DEST() * given, struct destination *out)
{
    struct tcp_route *list = COMPILE_ARRAY(c, struct tcp_route, given->n_tcp_routes);
    for (size_t i = 0; i < given->n_tcp_routes; i++) {
        if (!COMPILE_IN(c, tcp_route(c, given->tcp_routes[i], out, &list[i]), "tcp_routes[%zu]",
                        i)) {
            return false;
        }
    }
    out->tcp_routes = list;
    return compile_count(c, "tcp_routes", given->n_tcp_routes, &out->tcp_route_count);
}

static bool default_cluster(struct compiler *c, const DEST() * given, struct destination *out)
{
    if (given->default_cluster[0] == '\0') {
        return true;
    }
    out->default_cluster = find_cluster(out, slice_of_text(given->default_cluster));
    return out->default_cluster != NULL ||
           compile_refuse(c, "default_cluster", "'%.200s' is not among clusters",
                          given->default_cluster);
}

static bool has_a_way(struct compiler *c, const struct destination *out)
{
    switch (out->outcome) {
    case DESTINATION_SERVICE:
    case DESTINATION_WORKLOAD:
    case DESTINATION_EXTERNAL:
        return out->routes != NULL || out->rds.len > 0 || out->default_cluster != NULL ||
               out->tcp_route_count > 0 || out->by_authority ||
               compile_refuse(c, NULL, "neither routes nor default_cluster nor by_authority");
    case DESTINATION_PASSTHROUGH:
    case DESTINATION_BLOCK:
        return true;
    }
    return true;
}

bool compile_destination(struct compiler *c, struct slice name, const DEST() * given,
                         struct destination *out)
{
    struct destination_key key;
    struct error reason = {.text = ""};
    *out = (struct destination){.owner = c->out, .key = arena_dup(c->arena, name)};
    if (!destination_key_parse(name, &key, &reason)) {
        return compile_refuse(c, "name", "%.400s", reason.text);
    }
    out->name = compile_name(c, given->canonical_name);
    out->by_authority = given->by_authority;
    return outcome_of(c, given, out) && protocol_of(c, given, out) && covers_of(c, given, out) &&
           clusters_of(c, given, out) && routes_of(c, given, out) && tcp_routes(c, given, out) &&
           default_cluster(c, given, out) && has_a_way(c, out) &&
           compile_duration(c, "idle", given->idle, IDLE_US, &out->idle_us) &&
           compile_duration(c, "negative", given->negative, NEGATIVE_US, &out->negative_us);
}
