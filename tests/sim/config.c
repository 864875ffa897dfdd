/* The sidecars' configuration as text, in the shape that policy/translate writes and Envoy takes.
 */
#include "base/arena.h"
#include "tests/sim/scenario.h"

#define TYPE "type.googleapis.com/envoy.extensions."
#define ROUTER                                                                                     \
    "'http_filters':[{'name':'envoy.filters.http.router','typed_config':{'@type':'" TYPE           \
    "filters.http.router.v3.Router'}}]"
#define SDS(name)        "{'name':'" name "','sds_config':{'ads':{},'resource_api_version':'V3'}}"
#define SOCKET(ip, port) "{'socket_address':{'address':'" ip "','port_value':" port "}}"

static const char tls_common[] =
    "'common_tls_context':{'tls_params':{'tls_minimum_protocol_version':'TLSv1_3',"
    "'tls_maximum_protocol_version':'TLSv1_3'},'alpn_protocols':['pillion-h2'],"
    "'tls_certificate_sds_secret_configs':[" SDS(
        "default") "],'combined_validation_context':{"
                   "'default_validation_context':{'match_typed_subject_alt_names':[{'san_type':'"
                   "URI','matcher':{"
                   "'prefix':'spiffe://cluster.local/"
                   "'}}]},'validation_context_sds_secret_config':" SDS("ROOTCA") "}}";

static const char *join(struct arena *arena, const char *list, const char *item)
{
    return arena_printf(arena, "%s%s%s", list, list[0] != '\0' ? "," : "", item);
}

static const char *member(struct arena *arena, const char *name, const char *value)
{
    return value != NULL ? arena_printf(arena, ",'%s':%s", name, value) : "";
}

static const char *http_filter(struct arena *arena, const char *routes, const char *more)
{
    return arena_printf(
        arena,
        "{'name':'envoy.filters.network.http_connection_manager','typed_config':{'@type':'" TYPE
        "filters.network.http_connection_manager.v3.HttpConnectionManager','stat_prefix':'sim',"
        "'route_config':{'name':'r','virtual_hosts':[{'name':'v','domains':['*'],'routes':[%s]}]}"
        "," ROUTER "%s}}",
        routes, more);
}

static const char *tcp_filter(struct arena *arena, const char *cluster, const char *more)
{
    return arena_printf(arena,
                        "{'name':'envoy.filters.network.tcp_proxy','typed_config':{'@type':'" TYPE
                        "filters.network.tcp_proxy.v3.TcpProxy','stat_prefix':'sim',"
                        "'cluster':'%s'%s}}",
                        cluster, more);
}

struct addr scenario_app_addr(const struct plan *plan, unsigned app)
{
    (void)plan;
    return addr_ipv4(10, 0, 0, 2, (uint16_t)(8001 + app));
}

static const char *endpoints(struct arena *arena, const struct plan *plan, unsigned cluster)
{
    const char *list = "";
    const char *identity =
        plan->two_hops
            ? ",'metadata':{'filter_metadata':{'pillion.io':{'identity':'" SCENARIO_SERVER_IDENTITY
              "'}}}"
            : "";
    for (unsigned i = 0; i < plan->endpoints; i++) {
        list = join(arena, list,
                    arena_printf(arena, "{'endpoint':{'address':" SOCKET("%s", "%u") "}%s}",
                                 plan->server_ip != NULL ? plan->server_ip : "10.0.0.2",
                                 (plan->first_port != 0 ? plan->first_port : 8001) +
                                     cluster * plan->endpoints + i,
                                 identity));
    }
    return list;
}

static const char *upstream_tls(struct arena *arena, const struct plan *plan)
{
    if (!plan->two_hops) {
        return "";
    }
    return arena_printf(arena,
                        ",'transport_socket':{'name':'envoy.transport_sockets.tls','typed_config':{"
                        "'@type':'" TYPE "transport_sockets.tls.v3.UpstreamTlsContext',"
                        "'sni':'server.default.svc.cluster.local',%s}}",
                        tls_common);
}

static const char *cluster(struct arena *arena, const struct plan *plan, unsigned number)
{
    const char *breakers =
        plan->breakers != NULL
            ? arena_printf(arena, ",'circuit_breakers':{'thresholds':[%s]}", plan->breakers)
            : "";
    return arena_printf(
        arena,
        "{'name':'v%u','type':'STATIC','connect_timeout':'1s','lb_policy':"
        "'LEAST_REQUEST','common_lb_config':{'healthy_panic_threshold':{'value':0}},"
        "'load_assignment':{'cluster_name':'v%u','endpoints':[{"
        "'lb_endpoints':[%s]}]}%s%s%s}",
        number + 1, number + 1, endpoints(arena, plan, number), breakers,
        member(arena, "outlier_detection", plan->outlier), upstream_tls(arena, plan));
}

static const char *weighted(struct arena *arena, const struct plan *plan, const unsigned *weight)
{
    const char *list = "";
    for (unsigned i = 0; i < plan->clusters; i++) {
        list =
            join(arena, list, arena_printf(arena, "{'name':'v%u','weight':%u}", i + 1, weight[i]));
    }
    return list;
}

const char *scenario_client_config(struct arena *arena, const struct plan *plan, bool later)
{
    const char *clusters = "";
    for (unsigned i = 0; i < plan->clusters; i++) {
        clusters = join(arena, clusters, cluster(arena, plan, i));
    }
    const char *route = arena_printf(
        arena,
        "{'match':{'prefix':'/'},'route':{'weighted_clusters':{'clusters':[%s]},'timeout':'%s'%s}}",
        weighted(arena, plan, later ? plan->weight_later : plan->weight),
        plan->timeout != NULL ? plan->timeout : "15s", member(arena, "retry_policy", plan->retry));
    const char *tunnel = plan->two_hops ? ",'tunneling_config':{'hostname':'10.0.0.2:8001'}" : "";
    const char *filter =
        plan->opaque ? tcp_filter(arena, "v1", tunnel) : http_filter(arena, route, "");
    return arena_printf(
        arena,
        "{'node':{'id':'client'},'static_resources':{'listeners':[{'name':'outbound',"
        "'traffic_direction':'OUTBOUND','address':" SOCKET(
            "10.0.0.1", "15001") ",'filter_chains':[{'filters':[%s]}]}],'clusters':[%s]}}",
        filter, clusters);
}

/* Of a sidecar on that address, which listens on 15006. */
static const char *server_config(struct arena *arena, const char *ip)
{
    const char *routes =
        "{'match':{'connect_matcher':{}},'route':{'cluster':'inbound','timeout':'0s',"
        "'upgrade_configs':[{'upgrade_type':'CONNECT','connect_config':{}}]}},"
        "{'match':{'prefix':'/'},'route':{'cluster':'inbound','timeout':'0s'}}";
    const char *http = http_filter(arena, routes,
                                   ",'http2_protocol_options':{'allow_connect':true},"
                                   "'upgrade_configs':[{'upgrade_type':'CONNECT'}]");
    return arena_printf(
        arena,
        "{'node':{'id':'server'},'static_resources':{'listeners':[{'name':'inbound',"
        "'traffic_direction':'INBOUND','address':" SOCKET(
            "%s",
            "15006") ",'listener_filters':[{'name':'envoy.filters.listener.original_dst','typed_"
                     "config':{"
                     "'@type':'" TYPE "filters.listener.original_dst.v3.OriginalDst'}},"
                     "{'name':'envoy.filters.listener.tls_inspector','typed_config':{'@type':'" TYPE
                     "filters.listener.tls_inspector.v3.TlsInspector'}}],"
                     "'filter_chains':[{'filter_chain_match':{'transport_protocol':'tls',"
                     "'application_protocols':['pillion-h2']},'filters':[%s],'transport_socket':{"
                     "'name':'envoy.transport_sockets.tls','typed_config':{'@type':'" TYPE
                     "transport_sockets.tls.v3.DownstreamTlsContext',%s,'require_client_"
                     "certificate':true}}}]}],"
                     "'clusters':[{'name':'inbound','type':'ORIGINAL_DST','connect_timeout':'1s','"
                     "lb_policy':"
                     "'CLUSTER_PROVIDED','upstream_bind_config':{'source_address':{'address':'127."
                     "0.0.6',"
                     "'port_value':0}}}]}}",
        ip, http, tls_common);
}

const char *scenario_server_config(struct arena *arena, const struct plan *plan)
{
    (void)plan;
    return server_config(arena, "10.0.0.2");
}

const char *scenario_intruding_client(struct arena *arena)
{
    const struct plan plan = {.two_hops = true,
                              .clusters = 1,
                              .endpoints = 1,
                              .weight = {1},
                              .server_ip = "10.0.1.1",
                              .first_port = 8000};
    return scenario_client_config(arena, &plan, false);
}

const char *scenario_intruding_server(struct arena *arena)
{
    return server_config(arena, "10.0.1.1");
}
