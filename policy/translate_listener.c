/* Listeners: what a sidecar does with connections to its own pod, and what a gRPC client calls.
 *
 * Inbound chains are chosen by port, then by what the first bytes are (xds.md 2.3). Between
 * sidecars everything is HTTP/2 under the ALPN name pillion-h2: requests, and opaque TCP as
 * CONNECT. With PERMISSIVE, TLS with another ALPN is the application's own and passes, plain bytes
 * too; STRICT has the TLS chains only; DISABLE has none that ends TLS. Each port has its whole set
 * of chains, since Envoy's choice of a port is final: there is no falling back to those without a
 * port. */
#include <stdlib.h>

#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb-c.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb-c.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"

#include "policy/translate_private.h"
#include "policy/translate_tls.h"

#define HCM(type)    Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__##type
#define HCM_IS(name) ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__##name

#define SECOND_US          UINT64_C(1000000)
#define INBOUND_PORT       15006
#define HEAD_KIB           60
#define HEADERS_MAX        100
#define HEAD_TIMEOUT_US    (10 * SECOND_US)
#define STREAM_IDLE_US     (300 * SECOND_US)
#define DOWNSTREAM_IDLE_US (3600 * SECOND_US)
#define TUNNEL_IDLE_US     (3600 * SECOND_US)

/* ---- ports ---- */

static int port_compare(const void *left, const void *right)
{
    const struct inbound_port *a = left;
    const struct inbound_port *b = right;
    if (a->number != b->number) {
        return a->number < b->number ? -1 : 1;
    }
    /* The one that a service names goes first: it knows the protocol. */
    return (a->served == NULL) - (b->served == NULL);
}

const struct inbound_port *inbound_ports(struct translation *t, size_t *count)
{
    const struct model_workload *workload = t->node->workload;
    struct inbound_port *ports = NULL;
    *count = 0;
    for (size_t i = 0; workload != NULL && i < workload->served_count; i++) {
        struct inbound_port port = {workload->served[i].target, &workload->served[i]};
        ARRAY_PUSH(t->arena, ports, *count, port);
    }
    size_t named = 0;
    const uint32_t *numbers =
        model_peer_ports(t->model, t->arena, t->node->namespace, &t->node->labels, &named);
    for (size_t i = 0; i < named; i++) {
        struct inbound_port port = {numbers[i], NULL};
        ARRAY_PUSH(t->arena, ports, *count, port);
    }
    if (*count == 0) {
        return NULL;
    }
    qsort(ports, *count, sizeof *ports, port_compare);
    size_t kept = 1;
    for (size_t i = 1; i < *count; i++) {
        if (ports[i].number != ports[kept - 1].number) {
            ports[kept++] = ports[i];
        }
    }
    *count = kept;
    return ports;
}

/* ---- filters ---- */

static LISTENER(Filter) * filter_of(struct arena *arena, const char *name, const void *config)
{
    LISTENER(Filter) *filter = MESSAGE(arena, envoy__config__listener__v3__filter);
    filter->name = pb_text(arena, name);
    filter->config_type_case = ENVOY__CONFIG__LISTENER__V3__FILTER__CONFIG_TYPE_TYPED_CONFIG;
    filter->typed_config = pb_any(arena, config);
    return filter;
}

static LISTENER(Filter) * tcp_filter(struct arena *arena, const char *cluster)
{
    Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy *tcp =
        MESSAGE(arena, envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy);
    tcp->stat_prefix = pb_text(arena, cluster);
    tcp->cluster_specifier_case =
        ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER;
    tcp->cluster = pb_text(arena, cluster);
    tcp->idle_timeout = pb_duration(arena, TUNNEL_IDLE_US);
    return filter_of(arena, "envoy.filters.network.tcp_proxy", tcp);
}

static void router_add(struct arena *arena, HCM(HttpConnectionManager) * manager)
{
    HCM(HttpFilter) *router = MESSAGE(
        arena, envoy__extensions__filters__network__http_connection_manager__v3__http_filter);
    router->name = pb_text(arena, "envoy.filters.http.router");
    router->config_type_case = HCM_IS(HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG);
    router->typed_config =
        pb_any(arena, MESSAGE(arena, envoy__extensions__filters__http__router__v3__router));
    ARRAY_PUSH(arena, manager->http_filters, manager->n_http_filters, router);
}

static void upgrade_add(struct arena *arena, HCM(HttpConnectionManager) * manager, const char *type)
{
    HCM(HttpConnectionManager__UpgradeConfig) *upgrade = MESSAGE(
        arena,
        envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__upgrade_config);
    upgrade->upgrade_type = pb_text(arena, type);
    ARRAY_PUSH(arena, manager->upgrade_configs, manager->n_upgrade_configs, upgrade);
}

/* Opaque TCP of the mesh: a CONNECT that ends here and goes on as bytes. */
static ROUTE(Route) *
    tunnel_route(struct translation *t, const char *cluster, const struct object *object)
{
    struct arena *arena = t->arena;
    ROUTE(Route) *route = MESSAGE(arena, envoy__config__route__v3__route);
    route->name = pb_text(arena, "tunnel");
    route->match = MESSAGE(arena, envoy__config__route__v3__route_match);
    route->match->path_specifier_case = ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_CONNECT_MATCHER);
    route->match->connect_matcher =
        MESSAGE(arena, envoy__config__route__v3__route_match__connect_matcher);
    ROUTE(RouteAction) *action = MESSAGE(arena, envoy__config__route__v3__route_action);
    action->cluster_specifier_case = ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER);
    action->cluster = pb_text(arena, cluster);
    action->timeout = pb_duration(arena, 0);
    action->idle_timeout = pb_duration(arena, TUNNEL_IDLE_US);
    ROUTE(RouteAction__UpgradeConfig) *connect =
        MESSAGE(arena, envoy__config__route__v3__route_action__upgrade_config);
    connect->upgrade_type = pb_text(arena, "CONNECT");
    connect->connect_config =
        MESSAGE(arena, envoy__config__route__v3__route_action__upgrade_config__connect_config);
    ARRAY_PUSH(arena, action->upgrade_configs, action->n_upgrade_configs, connect);
    route->action_case = ROUTE_IS(ROUTE__ACTION_ROUTE);
    route->route = action;
    route->metadata = pb_origin(t, object, 0);
    return route;
}

/* One set of chains: a port, or all that have none of their own. */
struct chain_set {
    struct translation *t;
    LISTENER(Listener) * listener;
    uint32_t port; /* 0: any other */
    const char *cluster;
    const char *label; /* of names and statistics */
    enum model_protocol protocol;
    enum mtls_mode mode;
    const struct object *service; /* null: none names the port */
    const struct object *peer; /* the PeerAuthentication that chose the mode; null: the default */
};

static ROUTE(RouteConfiguration) * inbound_routes(const struct chain_set *set, bool mesh, bool http)
{
    struct arena *arena = set->t->arena;
    ROUTE(RouteConfiguration) *table =
        MESSAGE(arena, envoy__config__route__v3__route_configuration);
    ROUTE(VirtualHost) *host = MESSAGE(arena, envoy__config__route__v3__virtual_host);
    table->name = pb_text(arena, set->cluster);
    table->validate_clusters = pb_bool(arena, false);
    host->name = arena_printf(arena, "inbound|http|%u", (unsigned)set->port);
    char *any = pb_text(arena, "*");
    ARRAY_PUSH(arena, host->domains, host->n_domains, any);
    if (mesh) {
        ROUTE(Route) *tunnel = tunnel_route(set->t, set->cluster, set->service);
        ARRAY_PUSH(arena, host->routes, host->n_routes, tunnel);
    }
    if (http) {
        /* Retries are the caller's; those that provably reached no application stay on. */
        ROUTE(Route) *route =
            make_default_route(set->t, set->cluster, set->service, 0, TRANSLATE_FORM_DESTINATION);
        route->route->retry_policy = NULL;
        ARRAY_PUSH(arena, host->routes, host->n_routes, route);
    }
    ARRAY_PUSH(arena, table->virtual_hosts, table->n_virtual_hosts, host);
    return table;
}

static void forwarded_certificate(struct arena *arena, HCM(HttpConnectionManager) * manager,
                                  bool mesh)
{
    if (!mesh) {
        manager->forward_client_cert_details =
            HCM_IS(HTTP_CONNECTION_MANAGER__FORWARD_CLIENT_CERT_DETAILS__SANITIZE);
        return;
    }
    manager->forward_client_cert_details =
        HCM_IS(HTTP_CONNECTION_MANAGER__FORWARD_CLIENT_CERT_DETAILS__SANITIZE_SET);
    manager->set_current_client_cert_details = MESSAGE(
        arena,
        envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__set_current_client_cert_details);
    manager->set_current_client_cert_details->uri = true;
}

static LISTENER(Filter) * http_filter(const struct chain_set *set, bool mesh, bool http)
{
    struct arena *arena = set->t->arena;
    HCM(HttpConnectionManager) *manager = MESSAGE(
        arena,
        envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager);
    manager->stat_prefix = arena_printf(arena, "inbound_%s", set->label);
    manager->route_specifier_case = HCM_IS(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG);
    manager->route_config = inbound_routes(set, mesh, http);
    router_add(arena, manager);
    forwarded_certificate(arena, manager, mesh);
    upgrade_add(arena, manager, "websocket");
    if (mesh) {
        upgrade_add(arena, manager, "CONNECT");
    }
    manager->http2_protocol_options =
        MESSAGE(arena, envoy__config__core__v3__http2_protocol_options);
    manager->http2_protocol_options->allow_connect = mesh;
    manager->http_protocol_options =
        MESSAGE(arena, envoy__config__core__v3__http1_protocol_options);
    manager->http_protocol_options->accept_http_10 = true;
    manager->common_http_protocol_options =
        MESSAGE(arena, envoy__config__core__v3__http_protocol_options);
    manager->common_http_protocol_options->idle_timeout = pb_duration(arena, DOWNSTREAM_IDLE_US);
    manager->common_http_protocol_options->max_headers_count = pb_u32(arena, HEADERS_MAX);
    manager->max_request_headers_kb = pb_u32(arena, HEAD_KIB);
    manager->request_headers_timeout = pb_duration(arena, HEAD_TIMEOUT_US);
    manager->stream_idle_timeout = pb_duration(arena, STREAM_IDLE_US);
    manager->use_remote_address = pb_bool(arena, false);
    manager->generate_request_id = pb_bool(arena, true);
    manager->normalize_path = pb_bool(arena, true);
    manager->path_with_escaped_slashes_action =
        HCM_IS(HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__KEEP_UNCHANGED);
    manager->server_header_transformation =
        HCM_IS(HTTP_CONNECTION_MANAGER__SERVER_HEADER_TRANSFORMATION__PASS_THROUGH);
    manager->proxy_100_continue = true;
    return filter_of(arena, "envoy.filters.network.http_connection_manager", manager);
}

/* ---- chains ---- */

static LISTENER(FilterChain) * chain_add(const struct chain_set *set, const char *what,
                                         const char *transport, const char *const *alpn,
                                         LISTENER(Filter) * filter)
{
    struct arena *arena = set->t->arena;
    LISTENER(FilterChain) *chain = MESSAGE(arena, envoy__config__listener__v3__filter_chain);
    LISTENER(FilterChainMatch) *match =
        MESSAGE(arena, envoy__config__listener__v3__filter_chain_match);
    if (set->port > 0) {
        match->destination_port = pb_u32(arena, set->port);
    }
    match->transport_protocol = pb_text(arena, transport);
    for (size_t i = 0; alpn != NULL && alpn[i] != NULL; i++) {
        char *name = pb_text(arena, alpn[i]);
        ARRAY_PUSH(arena, match->application_protocols, match->n_application_protocols, name);
    }
    chain->filter_chain_match = match;
    chain->name = arena_printf(arena, "inbound-%s-%s", set->label, what);
    chain->metadata = pb_origin(set->t, set->peer, 0);
    ARRAY_PUSH(arena, chain->filters, chain->n_filters, filter);
    ARRAY_PUSH(arena, set->listener->filter_chains, set->listener->n_filter_chains, chain);
    return chain;
}

static bool speaks_http(enum model_protocol protocol)
{
    switch (protocol) {
    case MODEL_PROTOCOL_AUTO:
    case MODEL_PROTOCOL_HTTP1:
    case MODEL_PROTOCOL_HTTP2:
        return true;
    case MODEL_PROTOCOL_TCP:
    case MODEL_PROTOCOL_TLS:
    case MODEL_PROTOCOL_SERVER_FIRST:
        return false;
    }
    return false;
}

/* Chains that end TLS: the mesh's own, and with STRICT whatever else comes with a certificate. */
static void chains_mesh(const struct chain_set *set)
{
    static const char *const mesh_alpn[] = {"pillion-h2", NULL};
    struct arena *arena = set->t->arena;
    const char *trust_domain = model_get_options(set->t->model)->trust_domain;
    LISTENER(FilterChain) *mesh = chain_add(set, "mesh", "tls", mesh_alpn,
                                            http_filter(set, true, speaks_http(set->protocol)));
    mesh->transport_socket = tls_downstream(arena, trust_domain);
    if (set->mode == MTLS_MODE_STRICT) {
        LISTENER(FilterChain) *other =
            chain_add(set, "tls", "tls", NULL, tcp_filter(arena, set->cluster));
        other->transport_socket = tls_downstream(arena, trust_domain);
    }
}

/* Chains for what comes without the mesh. */
static void chains_plain(const struct chain_set *set)
{
    static const char *const http_alpn[] = {"http/1.0", "http/1.1", "h2c", NULL};
    struct arena *arena = set->t->arena;
    (void)chain_add(set, "passthrough", "tls", NULL, tcp_filter(arena, set->cluster));
    bool declared = set->protocol == MODEL_PROTOCOL_HTTP1 || set->protocol == MODEL_PROTOCOL_HTTP2;
    if (declared) {
        /* Declared HTTP never becomes opaque. */
        (void)chain_add(set, "http", "raw_buffer", NULL, http_filter(set, false, true));
        return;
    }
    if (speaks_http(set->protocol)) {
        (void)chain_add(set, "http", "raw_buffer", http_alpn, http_filter(set, false, true));
    }
    (void)chain_add(set, "tcp", "raw_buffer", NULL, tcp_filter(arena, set->cluster));
}

static void chains_add(const struct chain_set *set)
{
    switch (set->mode) {
    case MTLS_MODE_STRICT:
        chains_mesh(set);
        return;
    case MTLS_MODE_DISABLE:
        chains_plain(set);
        return;
    case MTLS_MODE_UNSET:
    case MTLS_MODE_PERMISSIVE:
        chains_mesh(set);
        chains_plain(set);
        return;
    }
}

/* The listener's own port as a destination would be a loop. */
static void chain_blackhole(struct translation *t, LISTENER(Listener) * listener)
{
    LISTENER(FilterChain) *chain = MESSAGE(t->arena, envoy__config__listener__v3__filter_chain);
    chain->filter_chain_match = MESSAGE(t->arena, envoy__config__listener__v3__filter_chain_match);
    chain->filter_chain_match->destination_port = pb_u32(t->arena, INBOUND_PORT);
    chain->name = pb_text(t->arena, "virtualInbound-blackhole");
    LISTENER(Filter) *filter = tcp_filter(t->arena, "BlackHoleCluster");
    ARRAY_PUSH(t->arena, chain->filters, chain->n_filters, filter);
    ARRAY_PUSH(t->arena, listener->filter_chains, listener->n_filter_chains, chain);
}

static void listener_filter_add(struct arena *arena, LISTENER(Listener) * listener,
                                const char *name, const void *config)
{
    LISTENER(ListenerFilter) *filter = MESSAGE(arena, envoy__config__listener__v3__listener_filter);
    filter->name = pb_text(arena, name);
    filter->config_type_case =
        ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG;
    filter->typed_config = pb_any(arena, config);
    ARRAY_PUSH(arena, listener->listener_filters, listener->n_listener_filters, filter);
}

static void inspectors_add(struct arena *arena, LISTENER(Listener) * listener)
{
    listener_filter_add(
        arena, listener, "envoy.filters.listener.original_dst",
        MESSAGE(arena, envoy__extensions__filters__listener__original_dst__v3__original_dst));
    listener_filter_add(
        arena, listener, "envoy.filters.listener.tls_inspector",
        MESSAGE(arena, envoy__extensions__filters__listener__tls_inspector__v3__tls_inspector));
    listener_filter_add(
        arena, listener, "envoy.filters.listener.http_inspector",
        MESSAGE(arena, envoy__extensions__filters__listener__http_inspector__v3__http_inspector));
    /* How long silence is waited out is the sidecar's option. */
    listener->listener_filters_timeout = pb_duration(arena, 0);
    listener->continue_on_listener_filters_timeout = true;
}

LISTENER(Listener) * make_inbound_listener(struct translation *t)
{
    struct arena *arena = t->arena;
    LISTENER(Listener) *listener = MESSAGE(arena, envoy__config__listener__v3__listener);
    listener->name = pb_text(arena, "virtualInbound");
    listener->address = pb_address(arena, "0.0.0.0", INBOUND_PORT);
    LISTENER(AdditionalAddress) *v6 =
        MESSAGE(arena, envoy__config__listener__v3__additional_address);
    v6->address = pb_address(arena, "::", INBOUND_PORT);
    ARRAY_PUSH(arena, listener->additional_addresses, listener->n_additional_addresses, v6);
    listener->traffic_direction = CORE_IS(TRAFFIC_DIRECTION__INBOUND);
    inspectors_add(arena, listener);
    chain_blackhole(t, listener);
    if (t->node->workload != NULL) {
        /* Who it is: the sidecar itself knows its name only. */
        pb_metadata_text(arena, &listener->metadata, ISTIO_METADATA, "workload",
                         workload_text(arena, t->node->workload));
        translation_uses(t, t->node->workload->object);
    }

    size_t count = 0;
    const struct inbound_port *ports = inbound_ports(t, &count);
    for (size_t i = 0; i < count; i++) {
        const struct model_served *served = ports[i].served;
        struct chain_set set = {
            .t = t,
            .listener = listener,
            .port = ports[i].number,
            .cluster = arena_printf(arena, "inbound|%u||", (unsigned)ports[i].number),
            .label = arena_printf(arena, "%u", (unsigned)ports[i].number),
            .protocol = served != NULL ? served->port->protocol : MODEL_PROTOCOL_AUTO,
            .service = served != NULL ? served->service->object : NULL,
        };
        set.mode = model_mtls_mode(t->model, t->node->namespace, &t->node->labels, ports[i].number,
                                   &set.peer);
        chains_add(&set);
    }
    struct chain_set any = {
        .t = t,
        .listener = listener,
        .cluster = "InboundPassthroughCluster",
        .label = "any",
        .protocol = MODEL_PROTOCOL_AUTO,
    };
    any.mode = model_mtls_mode(t->model, t->node->namespace, &t->node->labels, 0, &any.peer);
    chains_add(&any);
    return listener;
}

LISTENER(Listener) *
    make_api_listener(struct translation *t, const char *name, const struct place *place)
{
    struct arena *arena = t->arena;
    HCM(HttpConnectionManager) *manager = MESSAGE(
        arena,
        envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager);
    const char *routes = arena_printf(arena, "%s:%u", place->host, (unsigned)place->number);
    manager->stat_prefix = pb_text(arena, routes);
    manager->route_specifier_case = HCM_IS(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS);
    manager->rds =
        MESSAGE(arena, envoy__extensions__filters__network__http_connection_manager__v3__rds);
    manager->rds->config_source = pb_ads(arena);
    manager->rds->route_config_name = pb_text(arena, routes);
    router_add(arena, manager);

    LISTENER(Listener) *listener = MESSAGE(arena, envoy__config__listener__v3__listener);
    listener->name = pb_text(arena, name);
    listener->api_listener = MESSAGE(arena, envoy__config__listener__v3__api_listener);
    listener->api_listener->api_listener = pb_any(arena, manager);
    translation_uses(t, place->service->object);
    return listener;
}
