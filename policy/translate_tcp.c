/* tls: and tcp: of a VirtualService as routes of connections. Port, caller and address are known
 * when a destination is asked for, so only names of TLS are left to match: of the rules for bytes
 * the first that holds is all there is. Istio: TLS first, then TCP, each in order. */
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "pillion/config/v1/destination.pb-c.h"

#include "policy/translate_private.h"

#define TCP(type)    Envoy__Extensions__Filters__Network__TcpProxy__V3__##type
#define TCP_IS(name) ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__##name
typedef Pillion__Config__V1__Destination__TcpRoute tcp_route_t;

struct tcp_routing {
    struct translation *t;
    const struct place *place;
    const struct object *object; /* the VirtualService */
    struct route_clusters *clusters;
    Pillion__Config__V1__Destination *answer;
};

static bool in_subnets(const struct place *place, const struct texts *subnets)
{
    for (size_t s = 0; s < subnets->count; s++) {
        struct addr subnet;
        unsigned prefix;
        if (!policy_subnet_parse(subnets->at[s].value, &subnet, &prefix)) {
            continue;
        }
        for (size_t i = 0; i < place->service->address_count; i++) {
            if (addr_in_prefix(&place->service->addrs[i], &subnet, prefix)) {
                return true;
            }
        }
    }
    return subnets->count == 0;
}

static bool possible(const struct tcp_routing *routing, const struct l4_match *match)
{
    return (match->port.line == 0 || match->port.value == routing->place->number) &&
           labels_match(&match->source_labels, &routing->t->node->labels) &&
           in_subnets(routing->place, &match->destination_subnets);
}

static const char *target_of(const struct tcp_routing *routing,
                             const struct route_destination *target)
{
    return route_target_cluster(routing->t, routing->place, routing->object, &target->destination,
                                routing->clusters);
}

/* A weight of 0 is never drawn, and Envoy has no such weight here. */
static TCP(TcpProxy__WeightedCluster) *
    weighted_of(const struct tcp_routing *routing, const struct l4_rule *rule)
{
    struct arena *arena = routing->t->arena;
    TCP(TcpProxy__WeightedCluster) *weighted = MESSAGE(
        arena, envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__weighted_cluster);
    for (size_t i = 0; i < rule->route.count; i++) {
        const struct route_destination *target = &rule->route.at[i];
        if (target->weight.value == 0) {
            continue;
        }
        TCP(TcpProxy__WeightedCluster__ClusterWeight) *share = MESSAGE(
            arena,
            envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__weighted_cluster__cluster_weight);
        share->name = pb_text(arena, target_of(routing, target));
        share->weight = target->weight.value;
        ARRAY_PUSH(arena, weighted->clusters, weighted->n_clusters, share);
    }
    return weighted;
}

static tcp_route_t *route_add(const struct tcp_routing *routing, const struct l4_rule *rule)
{
    struct arena *arena = routing->t->arena;
    tcp_route_t *route = MESSAGE(arena, pillion__config__v1__destination__tcp_route);
    TCP(TcpProxy) *proxy =
        MESSAGE(arena, envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy);
    proxy->stat_prefix = pb_text(arena, cluster_name_of(arena, routing->place, NULL));
    if (rule->route.count == 1) {
        proxy->cluster_specifier_case = TCP_IS(TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER);
        proxy->cluster = pb_text(arena, target_of(routing, &rule->route.at[0]));
    } else {
        proxy->cluster_specifier_case = TCP_IS(TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS);
        proxy->weighted_clusters = weighted_of(routing, rule);
    }
    route->tcp_proxy = proxy;
    route->metadata = pb_origin(routing->t, routing->object, rule->line);
    ARRAY_PUSH(arena, routing->answer->tcp_routes, routing->answer->n_tcp_routes, route);
    return route;
}

static void tls_rule(const struct tcp_routing *routing, const struct l4_rule *rule)
{
    struct arena *arena = routing->t->arena;
    tcp_route_t *route = NULL;
    for (size_t i = 0; i < rule->match.count; i++) {
        const struct l4_match *match = &rule->match.at[i];
        if (!possible(routing, match)) {
            continue;
        }
        route = route != NULL ? route : route_add(routing, rule);
        for (size_t h = 0; h < match->sni_hosts.count; h++) {
            char *host = pb_text(arena, match->sni_hosts.at[h].value);
            ARRAY_PUSH(arena, route->sni_hosts, route->n_sni_hosts, host);
        }
    }
}

/* True: it holds for every connection of this caller to this place. */
static bool tcp_rule_holds(const struct tcp_routing *routing, const struct l4_rule *rule)
{
    for (size_t i = 0; i < rule->match.count; i++) {
        if (possible(routing, &rule->match.at[i])) {
            return true;
        }
    }
    return rule->match.count == 0;
}

void make_tcp_routes(struct translation *t, const struct place *place,
                     Pillion__Config__V1__Destination *answer, struct route_clusters *clusters)
{
    struct tcp_routing routing = {.t = t,
                                  .place = place,
                                  .object = model_virtual_service(t->model, place->host),
                                  .clusters = clusters,
                                  .answer = answer};
    if (routing.object == NULL) {
        return;
    }
    const struct virtual_service *spec = object_virtual_service(routing.object);
    translation_uses(t, routing.object);
    enum model_protocol protocol = place->port->protocol;
    bool may_be_tls = protocol == MODEL_PROTOCOL_TLS || protocol == MODEL_PROTOCOL_AUTO;
    for (size_t i = 0; may_be_tls && i < spec->tls.count; i++) {
        tls_rule(&routing, &spec->tls.at[i]);
    }
    for (size_t i = 0; i < spec->tcp.count; i++) {
        if (tcp_rule_holds(&routing, &spec->tcp.at[i])) {
            (void)route_add(&routing, &spec->tcp.at[i]);
            return;
        }
    }
}
