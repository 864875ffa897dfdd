#include "sidecar/config/compile_endpoint.h"

#include "base/map.h"

#define ENDPOINT(type)   Envoy__Config__Endpoint__V3__##type
#define CORE(type)       Envoy__Config__Core__V3__##type
#define CORE_IS(name)    ENVOY__CONFIG__CORE__V3__##name
#define PRIORITY_MAX     128
#define LOCALITIES_MAX   65535
#define HOSTNAME_MAX     253 /* RFC 1035 2.3.4 */
#define OVERPROVISIONING 140

static bool health_of(struct compiler *c, CORE(HealthStatus) status, uint8_t *health)
{
    switch (status) {
    case CORE_IS(HEALTH_STATUS__UNKNOWN):
    case CORE_IS(HEALTH_STATUS__HEALTHY):
        *health = ENDPOINT_HEALTHY;
        return true;
    case CORE_IS(HEALTH_STATUS__DEGRADED):
        *health = ENDPOINT_DEGRADED;
        return true;
    case CORE_IS(HEALTH_STATUS__DRAINING):
        *health = ENDPOINT_DRAINING;
        return true;
    case CORE_IS(HEALTH_STATUS__UNHEALTHY):
    case CORE_IS(HEALTH_STATUS__TIMEOUT):
        *health = ENDPOINT_UNHEALTHY;
        return true;
    default:
        return compile_refuse(c, "health_status", "has no value %d", (int)status);
    }
}

/* A name to be resolved stands where others have an IP address. */
static bool name_address(struct compiler *c, const CORE(SocketAddress) * address,
                         struct endpoint_config *out)
{
    struct addr addr;
    if (addr_parse_ip(slice_of_text(address->address), &addr)) {
        return compile_socket_address(c, address, &out->addr);
    }
    size_t len = strlen(address->address);
    if (len == 0 || len > HOSTNAME_MAX ||
        strspn(address->address, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789-_.") != len) {
        return compile_refuse(c, "address", "'%.80s' is no IP address and no host name",
                              address->address);
    }
    if (address->port_specifier_case != CORE_IS(SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE) ||
        address->port_value > UINT16_MAX) {
        return compile_refuse(c, "port_value", "0 to 65535 is required");
    }
    out->addr = (struct addr){.family = ADDR_NONE};
    out->hostname = compile_lower(c, address->address);
    out->port = (uint16_t)address->port_value;
    return true;
}

static bool address_of(struct compiler *c, const ENDPOINT(Endpoint) * endpoint, bool names,
                       struct endpoint_config *out)
{
    const CORE(Address) *address = endpoint->address;
    if (!names || address == NULL ||
        address->address_case != CORE_IS(ADDRESS__ADDRESS_SOCKET_ADDRESS)) {
        if (!compile_address(c, "address", address, &out->addr)) {
            return false;
        }
    } else if (!COMPILE_IN(c, name_address(c, address->socket_address, out),
                           "address.socket_address")) {
        return false;
    }
    if (out->addr.family != ADDR_NONE) {
        out->hostname = compile_name(c, endpoint->hostname);
        out->port = out->addr.port;
    }
    return endpoint->n_additional_addresses == 0 ||
           compile_refuse(c, "additional_addresses", "are not supported");
}

static bool endpoint_of(struct compiler *c, const ENDPOINT(LbEndpoint) * endpoint, bool names,
                        struct endpoint_config *out)
{
    if (endpoint->host_identifier_case !=
        ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT) {
        return compile_refuse(c, "endpoint", "is required");
    }
    const Google__Protobuf__Struct *ours = compile_metadata(endpoint->metadata, "pillion.io");
    const Google__Protobuf__Struct *istio = compile_metadata(endpoint->metadata, "istio");
    out->identity = compile_struct_text(c, ours, "identity");
    out->uid = compile_struct_text(c, ours, "uid");
    out->workload = compile_struct_text(c, istio, "workload");
    out->labels = compile_labels(
        c, compile_metadata(endpoint->metadata, "envoy.transport_socket_match"), &out->label_count);
    return COMPILE_IN(c, address_of(c, endpoint->endpoint, names, out), "endpoint") &&
           health_of(c, endpoint->health_status, &out->health) &&
           compile_u32(c, "load_balancing_weight", endpoint->load_balancing_weight, 1, 1,
                       UINT32_MAX, &out->weight);
}

/* An address that comes twice keeps its first place (Envoy). */
static bool seen_before(struct compiler *c, struct map *seen,
                        const struct endpoint_config *endpoint)
{
    char text[ADDR_TEXT_MAX];
    const char *key = endpoint->addr.family == ADDR_NONE
                          ? arena_printf(c->scratch, "%.*s:%u", SLICE_ARG(endpoint->hostname),
                                         (unsigned)endpoint->port)
                          : arena_printf(c->scratch, "%s", addr_format(&endpoint->addr, text));
    return map_set(seen, slice_of_text(key), c->scratch) != NULL;
}

static bool locality_of(struct compiler *c, const ENDPOINT(LocalityLbEndpoints) * locality,
                        struct locality *out)
{
    if (locality->priority > PRIORITY_MAX) {
        return compile_refuse(c, "priority", "is %u; at most %d is allowed", locality->priority,
                              PRIORITY_MAX);
    }
    out->priority = locality->priority;
    if (locality->locality != NULL) {
        out->region = compile_name(c, locality->locality->region);
        out->zone = compile_name(c, locality->locality->zone);
        out->sub_zone = compile_name(c, locality->locality->sub_zone);
    }
    return compile_u32(c, "load_balancing_weight", locality->load_balancing_weight, 0, 1,
                       UINT32_MAX, &out->weight);
}

static bool locality_endpoints(struct compiler *c, const ENDPOINT(LocalityLbEndpoints) * locality,
                               bool names, uint16_t number, struct map *seen,
                               struct endpoint_config *endpoints, uint32_t *count)
{
    for (size_t i = 0; i < locality->n_lb_endpoints; i++) {
        struct endpoint_config *endpoint = &endpoints[*count];
        *endpoint = (struct endpoint_config){.locality = number};
        if (!COMPILE_IN(c, endpoint_of(c, locality->lb_endpoints[i], names, endpoint),
                        "lb_endpoints[%zu]", i)) {
            return false;
        }
        *count += !seen_before(c, seen, endpoint);
    }
    return true;
}

static bool all_endpoints(struct compiler *c, const ENDPOINT(ClusterLoadAssignment) * assignment,
                          bool names, struct map *seen, struct endpoint_set *out)
{
    size_t count = 0;
    for (size_t i = 0; i < assignment->n_endpoints; i++) {
        count += assignment->endpoints[i]->n_lb_endpoints;
    }
    struct endpoint_config *endpoints = COMPILE_ARRAY(c, struct endpoint_config, count);
    struct locality *localities = COMPILE_ARRAY(c, struct locality, assignment->n_endpoints);
    for (size_t i = 0; i < assignment->n_endpoints; i++) {
        const ENDPOINT(LocalityLbEndpoints) *locality = assignment->endpoints[i];
        compile_enter(c, "endpoints[%zu]", i);
        bool good = locality_of(c, locality, &localities[i]) &&
                    locality_endpoints(c, locality, names, (uint16_t)i, seen, endpoints,
                                       &out->endpoint_count);
        if (!compile_leave(c, good)) {
            return false;
        }
        if (localities[i].priority >= out->priority_count) {
            out->priority_count = localities[i].priority + 1;
        }
    }
    out->endpoints = endpoints;
    out->localities = localities;
    return compile_count(c, "endpoints", assignment->n_endpoints, &out->locality_count);
}

static bool drops_of(struct compiler *c, const ENDPOINT(ClusterLoadAssignment__Policy) * policy,
                     struct endpoint_set *out)
{
    struct drop_overload *drops = COMPILE_ARRAY(c, struct drop_overload, policy->n_drop_overloads);
    for (size_t i = 0; i < policy->n_drop_overloads; i++) {
        const ENDPOINT(ClusterLoadAssignment__Policy__DropOverload) *drop =
            policy->drop_overloads[i];
        drops[i].category = compile_name(c, drop->category);
        drops[i].fraction = (struct fraction){0, 100};
        compile_enter(c, "drop_overloads[%zu]", i);
        bool good = compile_required(c, "category", drop->category) &&
                    (drop->drop_percentage == NULL ||
                     compile_fraction(c, drop->drop_percentage, &drops[i].fraction));
        if (!compile_leave(c, good)) {
            return false;
        }
    }
    out->drops = drops;
    return compile_count(c, "drop_overloads", policy->n_drop_overloads, &out->drop_count) &&
           compile_u32(c, "overprovisioning_factor", policy->overprovisioning_factor,
                       OVERPROVISIONING, 1, UINT32_MAX, &out->overprovisioning);
}

bool compile_endpoints(struct compiler *c, const ENDPOINT(ClusterLoadAssignment) * assignment,
                       bool names, struct endpoint_set *out)
{
    if (!compile_required(c, "cluster_name", assignment->cluster_name)) {
        return false;
    }
    if (assignment->n_endpoints > LOCALITIES_MAX) {
        return compile_refuse(c, "endpoints", "has more than %d localities", LOCALITIES_MAX);
    }
    *out = (struct endpoint_set){.cluster = compile_name(c, assignment->cluster_name),
                                 .overprovisioning = OVERPROVISIONING};
    struct map seen;
    map_init(&seen, 0, MAP_KEYS_BORROWED);
    bool good = all_endpoints(c, assignment, names, &seen, out);
    map_fini(&seen);
    return good && (assignment->policy == NULL ||
                    COMPILE_IN(c, drops_of(c, assignment->policy, out), "policy"));
}
