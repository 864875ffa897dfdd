/* What a control plane or a file says, compiled: defaults where it says nothing, and a refusal that
 * names the field where it says something wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/sidecar/config_json.h"

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

#define EDS       "'type':'EDS','eds_cluster_config':{'eds_config':{'ads':{}}}"
#define TYPE(url) "'@type':'type.googleapis.com/" url "'"
#define TLS(what) TYPE("envoy.extensions.transport_sockets.tls.v3." what)

static void assert_slice(struct slice got, const char *wanted)
{
    if (!slice_eq(got, slice_of_text(wanted))) {
        fail_msg("'%.*s' is not '%s'", SLICE_ARG(got), wanted);
    }
}

/* ---- clusters ---- */

static void cluster_defaults_are_envoys(void **state)
{
    (void)state;
    struct compiled out = config_good(XDS_RESOURCE_CLUSTER, "c", "{'name':'c'," EDS "}");
    const struct cluster_config *cluster = out.cluster;
    assert_int_equal(cluster->type, CLUSTER_EDS);
    assert_slice(cluster->service_name, "c");
    assert_slice(cluster->stat_name, "c");
    assert_int_equal(cluster->lb, LB_ROUND_ROBIN);
    assert_int_equal(cluster->protocol, CLUSTER_PROTOCOL_HTTP1);
    assert_int_equal(cluster->connect_timeout_us, 5 * SECOND);
    assert_int_equal(cluster->idle_us, 3600 * SECOND);
    assert_int_equal(cluster->panic_percent, 50);
    assert_int_equal(cluster->limits[0].connections, 1024);
    assert_int_equal(cluster->limits[0].pending, 1024);
    assert_int_equal(cluster->limits[1].requests, 1024);
    assert_int_equal(cluster->limits[0].retries, 3);
    assert_false(cluster->limits[0].has_budget);
    assert_false(cluster->has_outlier);
    assert_null(cluster->tls);
    assert_null(cluster->endpoints);
    assert_null(cluster->origin);
    compiled_free(&out);
}

static void outlier_defaults_are_envoys(void **state)
{
    (void)state;
    struct compiled out =
        config_good(XDS_RESOURCE_CLUSTER, "c", "{'name':'c'," EDS ",'outlier_detection':{}}");
    const struct outlier_config *outlier = &out.cluster->outlier;
    assert_true(out.cluster->has_outlier);
    assert_int_equal(outlier->consecutive_5xx, 5);
    assert_int_equal(outlier->enforce_5xx, 100);
    assert_int_equal(outlier->enforce_gateway, 0);
    assert_int_equal(outlier->enforce_success_rate, 100);
    assert_int_equal(outlier->success_rate_factor, 1900);
    assert_int_equal(outlier->max_ejection_percent, 10);
    assert_int_equal(outlier->failure_percentage, 85);
    assert_int_equal(outlier->interval_us, 10 * SECOND);
    assert_int_equal(outlier->base_ejection_us, 30 * SECOND);
    assert_int_equal(outlier->max_ejection_us, 300 * SECOND);
    compiled_free(&out);
}

/* The JSON is laid out by hand. */
/* clang-format off */
static const char mesh_cluster[] =
    "{'name':'outbound|8000|v1|o'," EDS ",'lb_policy':'LEAST_REQUEST','connect_timeout':'1s',"
    "'circuit_breakers':{'thresholds':["
        "{'max_connections':1,"
         "'retry_budget':{'budget_percent':{'value':20},'min_retry_concurrency':3}},"
        "{'priority':'HIGH','max_requests':7}]},"
    "'outlier_detection':{'consecutive_5xx':7,'interval':'1s','max_ejection_percent':50},"
    "'common_lb_config':{'healthy_panic_threshold':{}},"
    "'typed_extension_protocol_options':{"
        "'envoy.extensions.upstreams.http.v3.HttpProtocolOptions':{"
        TYPE("envoy.extensions.upstreams.http.v3.HttpProtocolOptions") ","
        "'explicit_http_config':{'http2_protocol_options':{}},"
        "'common_http_protocol_options':{'idle_timeout':'55s'}}},"
    "'transport_socket_matches':["
        "{'name':'mesh','match':{'tlsMode':'istio'},"
         "'transport_socket':{'name':'tls','typed_config':{" TLS("UpstreamTlsContext") ","
            "'sni':'outbound_.8000_.v1_.o',"
            "'common_tls_context':{"
                "'alpn_protocols':['pillion-h2'],"
                "'tls_params':{'tls_maximum_protocol_version':'TLSv1_3'},"
                "'tls_certificate_sds_secret_configs':[{'name':'default'}],"
                "'combined_validation_context':{"
                    "'default_validation_context':{'match_typed_subject_alt_names':["
                        "{'san_type':'URI',"
                         "'matcher':{'exact':'spiffe://cluster.local/ns/default/sa/order'}}]},"
                    "'validation_context_sds_secret_config':{'name':'ROOTCA'}}}}}},"
        "{'name':'plain','match':{}}],"
    "'upstream_bind_config':{"
        "'source_address':{'address':'127.0.0.6','port_value':0},"
        "'extra_source_addresses':[{'address':{'address':'::6','port_value':0}}]},"
    "'metadata':{'filter_metadata':{'pillion.io':{"
        "'object':'DestinationRule/default/o','generation':7,'file':'o.yaml','line':12}}}}";
/* clang-format on */

static void a_whole_mesh_cluster(void **state)
{
    (void)state;
    struct compiled out = config_good(XDS_RESOURCE_CLUSTER, "outbound|8000|v1|o", mesh_cluster);
    const struct cluster_config *cluster = out.cluster;
    assert_int_equal(cluster->lb, LB_LEAST_REQUEST);
    assert_int_equal(cluster->choice_count, 2);
    assert_int_equal(cluster->connect_timeout_us, SECOND);
    assert_int_equal(cluster->idle_us, 55 * SECOND);
    assert_int_equal(cluster->protocol, CLUSTER_PROTOCOL_HTTP2);
    assert_int_equal(cluster->panic_percent, 0);
    assert_int_equal(cluster->limits[0].connections, 1);
    assert_int_equal(cluster->limits[0].budget_ppm, 200000);
    assert_int_equal(cluster->limits[0].budget_concurrency, 3);
    assert_int_equal(cluster->limits[1].requests, 7);
    assert_int_equal(cluster->outlier.consecutive_5xx, 7);
    assert_int_equal(cluster->outlier.max_ejection_percent, 50);
    assert_int_equal(cluster->match_count, 2);
    assert_null(cluster->matches[1].tls);
    const struct tls_config *tls = cluster->matches[0].tls;
    assert_slice(tls->sni, "outbound_.8000_.v1_.o");
    assert_slice(tls->alpn[0], "pillion-h2");
    assert_slice(tls->certificate_sds, "default");
    assert_slice(tls->validation_sds, "ROOTCA");
    assert_true(tls->verify);
    assert_int_equal(tls->max_version, TLS_PROTOCOL_1_3);
    assert_int_equal(tls->validation.san_count, 1);
    assert_int_equal(tls->validation.sans[0].kind, SAN_URI);
    assert_int_equal(cluster->bind[0].family, ADDR_IPV4);
    assert_int_equal(cluster->bind[1].family, ADDR_IPV6);
    assert_slice(cluster->origin->object, "DestinationRule/default/o");
    assert_int_equal(cluster->origin->generation, 7);
    assert_int_equal(cluster->origin->line, 12);
    assert_int_not_equal(cluster->origin->id, 0);
    compiled_free(&out);
}

static void bad_clusters_are_refused_by_field(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error;
    } rows[] = {
        {"{'name':'c','type':'EDS'}", "eds_cluster_config: is required with type EDS"},
        {"{'name':'c'," EDS ",'connect_timeout':'0s'}", "connect_timeout: must be above 0"},
        {"{'name':'c'," EDS ",'connect_timeout':'-1s'}",
         "connect_timeout: is no duration from 0 to 10000 years"},
        {"{'name':'c'," EDS ",'lb_policy':'RING_HASH'}",
         "lb_policy: RING_HASH and MAGLEV are not supported"},
        {"{'name':'c'," EDS ",'lb_policy':'CLUSTER_PROVIDED'}",
         "lb_policy: CLUSTER_PROVIDED and type ORIGINAL_DST belong together"},
        {"{'name':'c'," EDS ",'outlier_detection':{'max_ejection_percent':101}}",
         "outlier_detection.max_ejection_percent: is 101; allowed is 0 to 100"},
        {"{'name':'c'," EDS ",'outlier_detection':{'interval':'0s'}}",
         "outlier_detection.interval: must be above 0"},
        {"{'name':'c'," EDS ",'least_request_lb_config':{'choice_count':1},'lb_policy':"
         "'LEAST_REQUEST'}",
         "choice_count: is 1; allowed is 2 to 1000"},
        {"{'name':'c'," EDS ",'common_lb_config':{'healthy_panic_threshold':{'value':101}}}",
         "common_lb_config.healthy_panic_threshold: must be 0 to 100"},
        {"{'name':'c','type':'STRICT_DNS'}", "load_assignment: is required with a DNS type"},
        {"{'name':'c','load_assignment':{'cluster_name':'c','endpoints':[{'lb_endpoints':[{"
         "'endpoint':{'address':{'socket_address':{'address':'host','port_value':1}}}}]}]}}",
         "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "
         "'host' is no IP address"},
        {"{'name':'c'," EDS ",'health_checks':[{}]}", "health_checks: are not supported"},
        {"{'name':'c'," EDS ",'transport_socket':{'name':'t'}}",
         "transport_socket: typed_config is required"},
        {"{'name':'c'," EDS
         ",'transport_socket':{'name':'t','typed_config':{" TLS("DownstreamTlsContext") "}}}",
         "transport_socket.typed_config: type.googleapis.com/"
         "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext cannot stand here"},
        {"{'name':'c'," EDS ",'transport_socket':{'name':'t','typed_config':{" TLS(
             "UpstreamTlsContext") ",'common_tls_context':{'alpn_protocols':['']}}}}",
         "transport_socket.typed_config.common_tls_context.alpn_protocols: [0] must have 1 to 255 "
         "bytes"},
        {"{'name':'c'," EDS ",'cluster_type':{'name':'x'}}", NULL},
        {"{'name':'other'," EDS "}", "name: is 'other', but the resource is named 'c'"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].error != NULL) {
            config_bad(XDS_RESOURCE_CLUSTER, "c", rows[i].text, rows[i].error);
        }
    }
    config_bad(XDS_RESOURCE_CLUSTER, "", "{" EDS "}", "name: must not be empty");
}

/* ---- endpoints ---- */

#define AT(address, port)                                                                          \
    "'endpoint':{'address':{'socket_address':{'address':'" address "','port_value':" #port "}}}"

/* The JSON is laid out by hand. */
/* clang-format off */
static const char known_endpoints[] =
    "{'cluster_name':'c','endpoints':["
        "{'locality':{'region':'r','zone':'z'},'lb_endpoints':["
            "{" AT("10.0.0.1", 80) ",'metadata':{'filter_metadata':{"
                "'pillion.io':{'identity':'spiffe://td/ns/n/sa/s','uid':'u1'},"
                "'envoy.transport_socket_match':{'tlsMode':'istio'},"
                "'istio':{'workload':'w;n;c;r;k'}}}},"
            "{" AT("10.0.0.2", 80) ",'health_status':'DRAINING','load_balancing_weight':5},"
            "{" AT("10.0.0.1", 80) "}]},"
        "{'priority':3,'lb_endpoints':[{" AT("::1", 81) "}]}]}";
static const char weightless_endpoint[] =
    "{'cluster_name':'c','endpoints':[{'lb_endpoints':["
        "{" AT("10.0.0.1", 80) ",'load_balancing_weight':0}]}]}";
/* clang-format on */

static void endpoints_with_what_we_know(void **state)
{
    (void)state;
    struct compiled out = config_good(XDS_RESOURCE_ENDPOINTS, "c", known_endpoints);
    const struct endpoint_set *set = out.endpoints;
    assert_int_equal(set->endpoint_count, 3); /* the repeated address counts once */
    assert_int_equal(set->locality_count, 2);
    assert_int_equal(set->priority_count, 4);
    assert_int_equal(set->overprovisioning, 140);
    assert_slice(set->endpoints[0].identity, "spiffe://td/ns/n/sa/s");
    assert_slice(set->endpoints[0].uid, "u1");
    assert_slice(set->endpoints[0].workload, "w;n;c;r;k");
    assert_int_equal(set->endpoints[0].label_count, 1);
    assert_slice(set->endpoints[0].labels[0].value, "istio");
    assert_int_equal(set->endpoints[0].weight, 1);
    assert_int_equal(set->endpoints[1].health, ENDPOINT_DRAINING);
    assert_int_equal(set->endpoints[1].weight, 5);
    assert_int_equal(set->endpoints[2].locality, 1);
    assert_slice(set->localities[0].zone, "z");
    compiled_free(&out);

    out = config_good(XDS_RESOURCE_ENDPOINTS, "c", "{'cluster_name':'c'}");
    assert_int_equal(out.endpoints->endpoint_count, 0);
    compiled_free(&out);

    config_bad(XDS_RESOURCE_ENDPOINTS, "c", "{'cluster_name':'c','endpoints':[{'priority':129}]}",
               "endpoints[0].priority: is 129; at most 128 is allowed");
    config_bad(XDS_RESOURCE_ENDPOINTS, "c", weightless_endpoint,
               "endpoints[0].lb_endpoints[0].load_balancing_weight: is 0; allowed is 1 to "
               "4294967295");
    config_bad(XDS_RESOURCE_ENDPOINTS, "c",
               "{'cluster_name':'c','endpoints':[{'lb_endpoints':[{}]}]}",
               "endpoints[0].lb_endpoints[0].endpoint: is required");
}

/* ---- routes ---- */

#define TABLE(routes)                                                                              \
    "{'name':'t','virtual_hosts':[{'name':'v','domains':['*'],'routes':[" routes "]}]}"
#define ACTION(action) TABLE("{'match':{'prefix':'/'},'route':{" action "}}")

static const struct route_forward *forward(const struct compiled *table)
{
    return &table->routes->hosts[0].routes[0].forward;
}

static void route_defaults_are_envoys(void **state)
{
    (void)state;
    struct compiled table = config_good(XDS_RESOURCE_ROUTES, "t", ACTION("'cluster':'c'"));
    assert_int_equal(forward(&table)->timeout_us, 15 * SECOND);
    assert_false(forward(&table)->has_idle);
    assert_false(forward(&table)->honour_grpc_timeout);
    assert_null(forward(&table)->retry);
    assert_int_equal(forward(&table)->split, ROUTE_NO_SPLIT);
    assert_int_equal(forward(&table)->cluster_missing_status, 503);
    assert_slice(table.routes->clusters[0], "c");
    compiled_free(&table);

    table = config_good(XDS_RESOURCE_ROUTES, "t",
                        ACTION("'cluster':'c','timeout':'0s','max_grpc_timeout':'0s',"
                               "'retry_policy':{'retry_on':'5xx,503'}"));
    const struct retry_policy *retry = forward(&table)->retry;
    assert_int_equal(forward(&table)->timeout_us, 0);
    assert_true(forward(&table)->honour_grpc_timeout);
    assert_true(forward(&table)->grpc_timeout_replaces);
    assert_true(forward(&table)->grpc_timeout_max_us == UINT64_MAX);
    assert_int_equal(retry->max_retries, 1);
    assert_int_equal(retry->backoff_base_us, 25000);
    assert_int_equal(retry->backoff_max_us, 250000);
    assert_int_equal(retry->on, RETRY_ON_5XX | RETRY_ON_STATUS_CODES);
    assert_int_equal(retry->code_count, 1);
    assert_false(retry->avoid_tried);
    compiled_free(&table);
}

static void operations_run_route_host_table(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        "{'name':'t','request_headers_to_add':[{'header':{'key':'t','value':'1'}}],"
        "'virtual_hosts':[{'name':'v','domains':['*'],'request_headers_to_remove':['v'],"
        "'routes':[{'match':{'prefix':'/"
        "'},'request_headers_to_add':[{'header':{'key':'X-R','value':"
        "'a %REQ(X-Id)% "
        "100%%'},'append_action':'ADD_IF_ABSENT'}],'response_headers_to_remove':['s'],"
        "'route':{'weighted_clusters':{'clusters':[{'name':'a','weight':1,'request_headers_to_add':"
        "[{'header':{'key':'w'}}]},{'name':'b','weight':0}]}}}]}]}");
    const struct route *route = &table.routes->hosts[0].routes[0];
    assert_slice(route->request_levels.level[0]->adds[0].name, "X-R");
    assert_slice(route->request_levels.level[1]->removes[0].name, "v");
    assert_slice(route->request_levels.level[2]->adds[0].name, "t");
    assert_null(route->request_levels.level[3]);
    assert_slice(route->response_levels.level[0]->removes[0].name, "s");
    const struct header_add *add = &route->request_levels.level[0]->adds[0];
    assert_int_equal(add->action, HEADER_ADD_IF_ABSENT);
    assert_int_equal(add->part_count, 4);
    assert_slice(add->parts[0].text, "a ");
    assert_int_equal(add->parts[1].variable, HEADER_VARIABLE_REQ);
    assert_slice(add->parts[1].text, "x-id");
    assert_slice(add->parts[2].text, " 100");
    assert_slice(add->parts[3].text, "%");
    assert_int_equal(route->forward.split, 0);
    assert_int_equal(table.routes->split_count, 1);
    assert_int_equal(route->forward.targets[1].weight, 0);
    assert_slice(route->forward.targets[0].request_ops->adds[0].name, "w");
    compiled_free(&table);
}

static void bad_routes_are_refused_by_field(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error;
    } rows[] = {
        {TABLE("{'route':{'cluster':'c'}}"), "virtual_hosts[0].routes[0].match: is required"},
        {TABLE("{'match':{},'route':{'cluster':'c'}}"),
         "virtual_hosts[0].routes[0].match: one of prefix, path, safe_regex, connect_matcher, "
         "path_separated_prefix is required"},
        {TABLE("{'match':{'prefix':'/'}}"),
         "virtual_hosts[0].routes[0]: one of route, redirect, direct_response, "
         "non_forwarding_action is required"},
        {ACTION(""), "virtual_hosts[0].routes[0].route: one of cluster, cluster_header, "
                     "weighted_clusters is required"},
        {ACTION("'cluster':''"), "virtual_hosts[0].routes[0].route.cluster: must not be empty"},
        {ACTION("'weighted_clusters':{'clusters':[{'name':'a','weight':0}]}"),
         "virtual_hosts[0].routes[0].route.weighted_clusters.clusters: the weights' sum is 0; "
         "allowed is 1 to 4294967295"},
        {ACTION("'weighted_clusters':{'clusters':[{'weight':1}]}"),
         "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0].name: must not be empty"},
        {ACTION("'weighted_clusters':{}"), "virtual_hosts[0].routes[0].route.weighted_clusters."
                                           "clusters: must have 1 to 1024 items"},
        {ACTION("'cluster':'c','retry_policy':{'retry_back_off':{}}"),
         "virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.base_interval: is required"},
        {ACTION("'cluster':'c','retry_policy':{'retry_back_off':{'base_interval':'1s',"
                "'max_interval':'0.5s'}}"),
         "virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.max_interval: is below "
         "base_interval"},
        {ACTION("'cluster':'c','request_mirror_policies':[{'cluster':'d'}]"),
         "virtual_hosts[0].routes[0].route.request_mirror_policies: is not supported"},
        {"{'name':'t','virtual_hosts':[{'name':'a','domains':['x'],'require_tls':'ALL'}]}",
         "virtual_hosts[0].require_tls: only NONE is supported"},
        {TABLE("{'match':{'safe_regex':{'regex':'(a'}},'route':{'cluster':'c'}}"), NULL},
        {TABLE("{'match':{'path_separated_prefix':'/a/'},'route':{'cluster':'c'}}"),
         "virtual_hosts[0].routes[0].match.path_separated_prefix: must be longer than 1, without "
         "'?' and '#', and not end with '/'"},
        {TABLE("{'match':{'prefix':'/','headers':[{'name':'a b'}]},'route':{'cluster':'c'}}"),
         "virtual_hosts[0].routes[0].match.headers[0].name: 'a b' is no name of a header field"},
        {TABLE("{'match':{'prefix':'/'},'direct_response':{'status':600}}"),
         "virtual_hosts[0].routes[0].direct_response.status: is 600; allowed is 200 to 599"},
        {TABLE("{'match':{'prefix':'/'},'route':{'cluster':'c'},'request_headers_to_add':[{"
               "'header':{'key':'Host','value':'x'}}]}"),
         "virtual_hosts[0].routes[0].request_headers_to_add[0].header.key: :-prefixed or host "
         "headers may not be modified"},
        {TABLE("{'match':{'prefix':'/'},'route':{'cluster':'c'},'request_headers_to_add':[{"
               "'header':{'key':'x','value':'%NO_SUCH%'}}]}"),
         "virtual_hosts[0].routes[0].request_headers_to_add[0].header.value: %NO_SUCH% is not "
         "supported"},
        {"{'name':'t','virtual_hosts':[{'name':'a','domains':['x']},{'name':'b','domains':['X']}]}",
         "virtual_hosts: domain 'x' comes twice"},
        {"{'name':'t','virtual_hosts':[{'name':'a','domains':['*']},{'name':'b','domains':['*']}]}",
         "virtual_hosts[1].domains[0]: only a single wildcard domain is permitted"},
        {"{'name':'t','virtual_hosts':[{'name':'a'}]}",
         "virtual_hosts[0].domains: must not be empty"},
        {"{'name':'t','virtual_hosts':[{'domains':['a']}]}",
         "virtual_hosts[0].name: must not be empty"},
        {TABLE("{'match':{'prefix':'/"
               "'},'route':{'cluster':'c'},'typed_per_filter_config':{'cors':{" TYPE(
                   "envoy.extensions.filters.http.cors.v3.CorsPolicy") "}}}"),
         "virtual_hosts[0].routes[0].typed_per_filter_config[\"cors\"]: type.googleapis.com/"
         "envoy.extensions.filters.http.cors.v3.CorsPolicy is not supported"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (rows[i].error != NULL) {
            config_bad(XDS_RESOURCE_ROUTES, "t", rows[i].text, rows[i].error);
        }
    }
    struct compiled out;
    struct error err = {.text = ""};
    assert_false(config_compile(XDS_RESOURCE_ROUTES, "t",
                                TABLE("{'match':{'safe_regex':{'regex':'a(?=b)'}},"
                                      "'route':{'cluster':'c'}}"),
                                NULL, &out, &err));
    assert_true(slice_starts(slice_of_text(err.text),
                             SLICE("virtual_hosts[0].routes[0].match.safe_regex: ")));
}

/* ---- listeners ---- */

#define HCM                                                                                        \
    TYPE("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")      \
    ",'stat_prefix':'s'"
#define ROUTER                                                                                     \
    "{'name':'router','typed_config':{" TYPE("envoy.extensions.filters.http.router.v3.Router") "}" \
                                                                                               "}"
#define HTTP(filters, rest)                                                                        \
    "{'name':'l','address':{'socket_address':{'address':'127.0.0.1','port_value':80}},"            \
    "'filter_chains':[{'name':'only','filters':[{'name':'hcm','typed_config':{" HCM                \
    ",'http_filters':[" filters "]" rest "}}]}]}"
#define ROUTED ",'route_config':{'name':'r'}"

static void http_defaults_are_envoys(void **state)
{
    (void)state;
    struct compiled out = config_good(XDS_RESOURCE_LISTENER, "l", HTTP(ROUTER, ROUTED));
    assert_int_equal(out.listener->chain_count, 1);
    assert_true(out.listener->bind);
    assert_int_equal(out.listener->inspect_timeout_us, 15 * SECOND);
    const struct filter_chain *chain = &out.listener->chains[0];
    assert_int_equal(chain->kind, CHAIN_HTTP);
    assert_null(chain->tls);
    const struct hcm_config *http = chain->http;
    assert_int_equal(http->stream_idle_us, 300 * SECOND);
    assert_int_equal(http->max_head_bytes, 60 * 1024);
    assert_int_equal(http->max_head_count, 100);
    assert_slice(http->server_name, "envoy");
    assert_true(http->generate_request_id);
    assert_false(http->use_remote_address);
    assert_int_equal(http->xfcc, XFCC_SANITIZE);
    assert_non_null(http->routes);
    compiled_free(&out);
}

#define NAMED(type) "{'name':'x','typed_config':{" TYPE(type) "}},"

static void filters_are_done_ignored_or_refused(void **state)
{
    (void)state;
    /* Empty cors and fault, which istiod always sends, and what is known to be harmless. */
    struct compiled out = config_good(
        XDS_RESOURCE_LISTENER, "l",
        HTTP(NAMED("envoy.extensions.filters.http.cors.v3.Cors")
                 NAMED("envoy.extensions.filters.http.fault.v3.HTTPFault")
                     NAMED("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig") ROUTER,
             ROUTED));
    compiled_free(&out);
    config_bad(XDS_RESOURCE_LISTENER, "l", HTTP("", ROUTED),
               "filter_chains[0].filters[0].typed_config.http_filters: the last filter must be "
               "the router");
    config_bad(XDS_RESOURCE_LISTENER, "l", HTTP(ROUTER, ""),
               "filter_chains[0].filters[0].typed_config: one of route_config, rds is required");
    static const char *const rbac =
        HTTP(NAMED("envoy.extensions.filters.http.rbac.v3.RBAC") ROUTER, ROUTED);
    static const char *const reason =
        "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config: "
        "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC is not supported";
    config_bad(XDS_RESOURCE_LISTENER, "l", rbac, reason);
    /* Another control plane: the chain is quarantined, never passed, the rest lives. */
    struct compile_options options = {.quarantine = true};
    struct error err = {.text = ""};
    assert_true(config_compile(XDS_RESOURCE_LISTENER, "l", rbac, &options, &out, &err));
    assert_int_equal(out.listener->chains[0].kind, CHAIN_QUARANTINED);
    assert_slice(out.listener->chains[0].quarantine, reason);
    compiled_free(&out);
    /* A mistake is a mistake there too. */
    assert_false(
        config_compile(XDS_RESOURCE_LISTENER, "l", HTTP(ROUTER, ""), &options, &out, &err));
}

/* To pass over what narrows trust, or changes what rules on paths see, would be to fail open. */
static void what_is_not_done_is_refused_not_forgotten(void **state)
{
    (void)state;
    static const struct {
        const char *rest;
        const char *error;
    } managers[] = {
        {ROUTED ",'normalize_path':false", "normalize_path: false is not supported"},
        {ROUTED ",'merge_slashes':true", "merge_slashes: is not supported"},
        {ROUTED ",'path_with_escaped_slashes_action':'REJECT_REQUEST'",
         "path_with_escaped_slashes_action: only KEEP_UNCHANGED is supported"},
        {ROUTED ",'request_timeout':'5s'",
         "request_timeout: is not supported; a route's timeout is"},
    };
    for (size_t i = 0; i < COUNT_OF(managers); i++) {
        char text[1024];
        char error[256];
        (void)snprintf(text, sizeof text, HTTP(ROUTER, "%s"), managers[i].rest);
        (void)snprintf(error, sizeof error, "filter_chains[0].filters[0].typed_config.%s",
                       managers[i].error);
        config_bad(XDS_RESOURCE_LISTENER, "l", text, error);
    }
    struct compiled out =
        config_good(XDS_RESOURCE_LISTENER, "l",
                    HTTP(ROUTER, ROUTED ",'normalize_path':true,'request_timeout':'0s',"
                                        "'path_with_escaped_slashes_action':'KEEP_UNCHANGED'"));
    compiled_free(&out);
    config_bad(XDS_RESOURCE_SECRET, "ROOTCA",
               "{'name':'ROOTCA','validation_context':{'trusted_ca':{'inline_string':'R'},"
               "'crl':{'inline_string':'L'}}}",
               "validation_context.crl: is not supported");
    config_bad(XDS_RESOURCE_SECRET, "ROOTCA",
               "{'name':'ROOTCA','validation_context':{'verify_certificate_spki':["
               "'NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=']}}",
               "validation_context.verify_certificate_spki: is not supported");
}

static void listeners_refuse_by_field(void **state)
{
    (void)state;
    config_bad(XDS_RESOURCE_LISTENER, "l", "{'name':'l'}", "address: is required");
    config_bad(XDS_RESOURCE_LISTENER, "l",
               "{'name':'l','address':{'socket_address':{'address':'x','port_value':1}}}",
               "address.socket_address.address: 'x' is no IP address");
    config_bad(XDS_RESOURCE_LISTENER, "l",
               "{'name':'l','address':{'socket_address':{'address':'::1','port_value':65536}}}",
               "address.socket_address.port_value: is 65536; at most 65535 is allowed");
    config_bad(XDS_RESOURCE_LISTENER, "l",
               "{'name':'l','address':{'socket_address':{'address':'::1','port_value':1}}}",
               "filter_chains: must not be empty");
    config_bad(XDS_RESOURCE_LISTENER, "l",
               "{'name':'l','address':{'socket_address':{'address':'::1','port_value':1}},"
               "'filter_chains':[{'filters':[]}]}",
               "filter_chains[0].filters: must not be empty");
}

/* ---- destinations ---- */

#define KEY "ip//10.96.0.10:8000"

static void a_destination_is_complete(void **state)
{
    (void)state;
    struct compiled out = config_good(
        XDS_RESOURCE_DESTINATION, KEY,
        "{'outcome':'SERVICE','canonical_name':'svc/default/o:8000','covers':[{'addr':'CmAACg==',"
        "'prefix_len':32,'port_lo':8000,'port_hi':8000}],'protocol':'HTTP1','default_cluster':'c',"
        "'clusters':[{'name':'c'," EDS "}],'first_endpoints':[{'cluster_name':'c'}],"
        "'route_config':{'name':'t','virtual_hosts':[{'name':'v','domains':['*'],'routes':[{"
        "'match':{'prefix':'/'},'route':{'cluster':'c'}}]}]}}");
    const struct destination *destination = out.destination;
    assert_ptr_equal(destination->owner, out.owner);
    assert_slice(destination->key, KEY);
    assert_slice(destination->name, "svc/default/o:8000");
    assert_int_equal(destination->outcome, DESTINATION_SERVICE);
    assert_int_equal(destination->protocol, DESTINATION_HTTP1);
    assert_int_equal(destination->covers[0].prefix.addr.ip[0], 10);
    assert_int_equal(destination->covers[0].port_hi, 8000);
    assert_ptr_equal(destination->default_cluster, &destination->clusters[0]);
    assert_int_equal(destination->first_endpoint_count, 1);
    assert_int_equal(destination->idle_us, 900 * SECOND);
    assert_int_equal(destination->negative_us, 10 * SECOND);
    compiled_free(&out);
    out = config_good(XDS_RESOURCE_DESTINATION, "host/a.b:80", "{'outcome':'PASSTHROUGH'}");
    compiled_free(&out);
}

static void a_destination_never_names_what_is_not_there(void **state)
{
    (void)state;
    config_bad(XDS_RESOURCE_DESTINATION, KEY, "{}", "outcome: has no value 0");
    config_bad(XDS_RESOURCE_DESTINATION, KEY, "{'outcome':'SERVICE'}",
               "neither routes nor default_cluster nor by_authority");
    config_bad(XDS_RESOURCE_DESTINATION, KEY, "{'outcome':'SERVICE','default_cluster':'c'}",
               "default_cluster: 'c' is not among clusters");
    config_bad(XDS_RESOURCE_DESTINATION, KEY,
               "{'outcome':'SERVICE','route_config':{'virtual_hosts':[{'name':'v','domains':['*'],"
               "'routes':[{'match':{'prefix':'/'},'route':{'cluster':'c'}}]}]}}",
               "route_config: names the cluster 'c', which is not among clusters");
    config_bad(XDS_RESOURCE_DESTINATION, KEY,
               "{'outcome':'BLOCK','covers':[{'addr':'CmAA','port_hi':1}]}",
               "covers[0].addr: has 3 bytes; 4 or 16 are allowed");
    config_bad(XDS_RESOURCE_DESTINATION, KEY,
               "{'outcome':'BLOCK','covers':[{'addr':'CmAACg==','port_lo':2,'port_hi':1}]}",
               "covers[0].port_lo: 2 to 1 is no range of ports");
    config_bad(XDS_RESOURCE_DESTINATION, KEY,
               "{'outcome':'BLOCK','clusters':[{'name':'c'," EDS "},{'name':'c'," EDS "}]}",
               "clusters: 'c' comes twice");
}

/* ---- secrets and bytes ---- */

static void secrets(void **state)
{
    (void)state;
    struct compiled out = config_good(
        XDS_RESOURCE_SECRET, "default",
        "{'name':'default','tls_certificate':{'certificate_chain':{'inline_string':'CHAIN'},"
        "'private_key':{'inline_bytes':'S0VZ'}}}");
    assert_slice(out.secret->certificate->chain_pem, "CHAIN");
    assert_slice(out.secret->certificate->key_pem, "KEY");
    compiled_free(&out);
    config_bad(XDS_RESOURCE_SECRET, "default",
               "{'name':'default','tls_certificate':{'certificate_chain':{'inline_string':'C'}}}",
               "tls_certificate.private_key: is required");
    config_bad(
        XDS_RESOURCE_SECRET, "ROOTCA",
        "{'name':'ROOTCA','validation_context':{'trusted_ca':{'filename':'/etc/passwd'}}}",
        "validation_context.trusted_ca.filename: files are read for a static bootstrap only");
    struct error err = {.text = ""};
    assert_false(
        compile_resource(XDS_RESOURCE_CLUSTER, SLICE("c"), SLICE("\x0a\xff"), NULL, &out, &err));
    assert_true(err.text[0] != '\0');
    assert_false(compile_resource(XDS_RESOURCE_EXTENSION, SLICE("c"), SLICE(""), NULL, &out, &err));
}

/* ---- the static bootstrap ---- */

static bool read_pretend(void *reader, const char *path, struct arena *arena, struct slice *bytes,
                         struct error *err)
{
    (void)reader;
    if (strcmp(path, "/there") != 0) {
        return error_set(err, "no such file");
    }
    *bytes = arena_dup(arena, SLICE("BYTES"));
    return true;
}

static struct bootstrap *boot(const char *text, struct error *err)
{
    const struct compile_options options = {.read_file = read_pretend};
    json_t *file = config_json(text);
    struct bootstrap *out = compile_bootstrap(file, &options, err);
    json_decref(file);
    return out;
}

#define BOOT(cluster, listener, rest)                                                              \
    "{'static_resources':{'clusters':[{'name':'" cluster                                           \
    "','type':'STRICT_DNS','load_assignment':{'cluster_name':'x','endpoints':[{'lb_endpoints':[{"  \
    "'endpoint':{'address':{'socket_address':{'address':'App.local','port_value':8080}}}}]}]}}],"  \
    "'listeners':[" listener "]}" rest "}"

static void a_file_is_a_whole_configuration(void **state)
{
    (void)state;
    struct error err = {.text = ""};
    struct bootstrap *out =
        boot(BOOT("c",
                  HTTP(ROUTER, ",'route_config':{'virtual_hosts':[{'name':'v','domains':['*'],"
                               "'routes':[{'match':{'prefix':'/'},'route':{'cluster':'c'}}]}]}"),
                  ",'admin':{'address':{'socket_address':{'address':'127.0.0.1','port_value':"
                  "15000}}},'node':{'id':'n'}"),
             &err);
    assert_non_null(out);
    assert_int_equal(out->cluster_count, 1);
    assert_slice(out->clusters[0].endpoints->endpoints[0].hostname, "app.local");
    assert_int_equal(out->clusters[0].endpoints->endpoints[0].port, 8080);
    assert_int_equal(out->listener_count, 1);
    assert_int_equal(out->admin.port, 15000);
    assert_slice(out->node_id, "n");
    snapshot_free(&out->owner);
}

static void a_bad_file_is_refused_by_field(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error;
    } rows[] = {
        {"{'static_resources':{'clusters':[{'name':'c','foo':1}]}}", NULL},
        {BOOT("c",
              HTTP(ROUTER, ",'route_config':{'virtual_hosts':[{'name':'v','domains':['*'],"
                           "'routes':[{'match':{'prefix':'/'},'route':{'cluster':'d'}}]}]}"),
              ""),
         "static_resources.listeners[0].filter_chains[0]: names the cluster 'd', which does not "
         "exist"},
        {"{'dynamic_resources':{'lds_config':{'ads':{}}}}",
         "dynamic_resources.ads_config: is required"},
        {"{'dynamic_resources':{'ads_config':{'api_type':'REST'}}}",
         "dynamic_resources.ads_config.api_type: only GRPC and DELTA_GRPC are supported"},
        {"{'static_resources':{'secrets':[{'name':'s','validation_context':{'trusted_ca':{"
         "'filename':'/gone'}}}]}}",
         "static_resources.secrets[0].validation_context.trusted_ca.filename: no such file"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct error err = {.text = ""};
        assert_null(boot(rows[i].text, &err));
        if (rows[i].error != NULL) {
            assert_string_equal(err.text, rows[i].error);
        } else {
            assert_true(slice_search(slice_of_text(err.text), SLICE("clusters[0].foo")) <
                        strlen(err.text));
        }
    }
    struct error err = {.text = ""};
    struct bootstrap *out = boot("{'static_resources':{'secrets':[{'name':'s','validation_context':"
                                 "{'trusted_ca':{'filename':'/there'}}}]}}",
                                 &err);
    assert_non_null(out);
    assert_slice(out->secrets[0].validation->ca_pem, "BYTES");
    snapshot_free(&out->owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cluster_defaults_are_envoys),
        cmocka_unit_test(outlier_defaults_are_envoys),
        cmocka_unit_test(a_whole_mesh_cluster),
        cmocka_unit_test(bad_clusters_are_refused_by_field),
        cmocka_unit_test(endpoints_with_what_we_know),
        cmocka_unit_test(route_defaults_are_envoys),
        cmocka_unit_test(operations_run_route_host_table),
        cmocka_unit_test(bad_routes_are_refused_by_field),
        cmocka_unit_test(http_defaults_are_envoys),
        cmocka_unit_test(filters_are_done_ignored_or_refused),
        cmocka_unit_test(what_is_not_done_is_refused_not_forgotten),
        cmocka_unit_test(listeners_refuse_by_field),
        cmocka_unit_test(a_destination_is_complete),
        cmocka_unit_test(a_destination_never_names_what_is_not_there),
        cmocka_unit_test(secrets),
        cmocka_unit_test(a_file_is_a_whole_configuration),
        cmocka_unit_test(a_bad_file_is_refused_by_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
