#include "sidecar/config/compile_cluster.h"

#include <math.h>

#include "envoy/extensions/load_balancing_policies/least_request/v3/least_request.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "envoy/extensions/upstreams/http/v3/http.pb-c.h"

#include "sidecar/config/compile_endpoint.h"
#include "sidecar/config/compile_tls.h"

#define CLUSTER(type)    Envoy__Config__Cluster__V3__##type
#define CLUSTER_IS(name) ENVOY__CONFIG__CLUSTER__V3__##name
#define CORE(type)       Envoy__Config__Core__V3__##type
#define UP(type)         Envoy__Extensions__Upstreams__Http__V3__##type
#define UP_IS(name)      ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__##name
#define BALANCER(name)   envoy__extensions__load_balancing_policies__##name##__descriptor

#define CONNECT_TIMEOUT_US (5 * SECOND_US)
#define IDLE_US            (3600 * SECOND_US)
#define DNS_REFRESH_US     (5 * SECOND_US)
#define CLEANUP_US         (5 * SECOND_US)
#define STREAMS_ABSENT     1024
#define STREAMS_MAX        2147483647U

#define PROTOCOL_OPTIONS "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

/* ---- discovery ---- */

static bool discovery_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                         struct cluster_config *out)
{
    if (cluster->cluster_discovery_type_case ==
        CLUSTER_IS(CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)) {
        return compile_unknown(c, "cluster_type", cluster->cluster_type->name);
    }
    int type = CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__STATIC);
    if (cluster->cluster_discovery_type_case == CLUSTER_IS(CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE)) {
        type = (int)cluster->type;
    }
    switch (type) {
    case CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__STATIC):
        out->type = CLUSTER_STATIC;
        return true;
    case CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__STRICT_DNS):
        out->type = CLUSTER_STRICT_DNS;
        return true;
    case CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS):
        out->type = CLUSTER_LOGICAL_DNS;
        return true;
    case CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST):
        out->type = CLUSTER_ORIGINAL_DST;
        return true;
    case CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__EDS):
        out->type = CLUSTER_EDS;
        return cluster->eds_cluster_config != NULL ||
               compile_refuse(c, "eds_cluster_config", "is required with type EDS");
    default:
        return compile_refuse(c, "type", "has no value %d", type);
    }
}

static bool dns_of(struct compiler *c, const CLUSTER(Cluster) * cluster, struct cluster_config *out)
{
    switch (cluster->dns_lookup_family) {
    case CLUSTER_IS(CLUSTER__DNS_LOOKUP_FAMILY__AUTO):
        out->dns_family = DNS_AUTO;
        break;
    case CLUSTER_IS(CLUSTER__DNS_LOOKUP_FAMILY__V4_ONLY):
        out->dns_family = DNS_V4;
        break;
    case CLUSTER_IS(CLUSTER__DNS_LOOKUP_FAMILY__V6_ONLY):
        out->dns_family = DNS_V6;
        break;
    case CLUSTER_IS(CLUSTER__DNS_LOOKUP_FAMILY__V4_PREFERRED):
        out->dns_family = DNS_V4_PREFERRED;
        break;
    case CLUSTER_IS(CLUSTER__DNS_LOOKUP_FAMILY__ALL):
        out->dns_family = DNS_ALL;
        break;
    default:
        return compile_refuse(c, "dns_lookup_family", "has no value %d",
                              (int)cluster->dns_lookup_family);
    }
    out->dns_respect_ttl = cluster->respect_dns_ttl;
    return compile_duration_positive(c, "dns_refresh_rate", cluster->dns_refresh_rate,
                                     DNS_REFRESH_US, &out->dns_refresh_us) &&
           compile_duration(c, "dns_jitter", cluster->dns_jitter, 0, &out->dns_jitter_us);
}

static bool endpoints_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                         struct cluster_config *out)
{
    bool names = cluster_is_named(out);
    if (cluster->load_assignment == NULL) {
        return !names || compile_refuse(c, "load_assignment", "is required with a DNS type");
    }
    if (out->type == CLUSTER_EDS || out->type == CLUSTER_ORIGINAL_DST) {
        return compile_refuse(c, "load_assignment", "is for STATIC and DNS types only");
    }
    struct endpoint_set *set = ARENA_NEW(c->arena, struct endpoint_set);
    out->endpoints = set;
    if (!COMPILE_IN(c, compile_endpoints(c, cluster->load_assignment, names, set),
                    "load_assignment")) {
        return false;
    }
    return out->type != CLUSTER_LOGICAL_DNS || set->endpoint_count == 1 ||
           compile_refuse(c, "load_assignment", "LOGICAL_DNS has exactly one endpoint");
}

/* ---- balancing ---- */

static bool slow_start_of(struct compiler *c, const char *field,
                          const Google__Protobuf__Duration *window,
                          const CORE(RuntimeDouble) * aggression,
                          const Envoy__Type__V3__Percent *least, struct slow_start *out)
{
    double percent;
    out->aggression = aggression != NULL ? aggression->default_value : 1.0;
    if (!(out->aggression > 0 && out->aggression < 1e6)) {
        return compile_refuse(c, field, "aggression must be above 0");
    }
    if (!compile_percent(c, field, least, 10, &percent)) {
        return false;
    }
    out->min_weight_percent = (uint8_t)percent;
    return compile_duration(c, field, window, 0, &out->window_us);
}

static bool least_request(struct compiler *c, const char *field,
                          const Google__Protobuf__UInt32Value *choices,
                          const CORE(RuntimeDouble) * bias, struct cluster_config *out)
{
    out->lb = LB_LEAST_REQUEST;
    out->active_request_bias = bias != NULL ? bias->default_value : 1.0;
    if (!(out->active_request_bias >= 0)) {
        return compile_refuse(c, field, "active_request_bias must not be negative");
    }
    return compile_u32(c, "choice_count", choices, 2, 2, 1000, &out->choice_count);
}

/* load_balancing_policy: the first of the list that we have (Envoy). */
static bool typed_balancer(struct compiler *c, const CLUSTER(LoadBalancingPolicy) * policy,
                           struct cluster_config *out)
{
    for (size_t i = 0; i < policy->n_policies; i++) {
        const CORE(TypedExtensionConfig) *extension = policy->policies[i]->typed_extension_config;
        if (extension == NULL || extension->typed_config == NULL) {
            return compile_refuse(c, "policies", "[%zu] has no typed_config", i);
        }
        const struct xds_type *type = xds_type_find(extension->typed_config->type_url);
        if (type == NULL || type->verdict != XDS_IMPLEMENT) {
            continue;
        }
        void *message;
        if (!compile_any(c, "policies", extension->typed_config, XDS_LB_POLICY, &type, &message)) {
            return false;
        }
        if (type->descriptor == &BALANCER(round_robin__v3__round_robin)) {
            const Envoy__Extensions__LoadBalancingPolicies__RoundRobin__V3__RoundRobin *config =
                message;
            out->lb = LB_ROUND_ROBIN;
            return config->slow_start_config == NULL ||
                   slow_start_of(c, "slow_start_config",
                                 config->slow_start_config->slow_start_window,
                                 config->slow_start_config->aggression,
                                 config->slow_start_config->min_weight_percent, &out->slow_start);
        }
        if (type->descriptor == &BALANCER(least_request__v3__least_request)) {
            const Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest *config =
                message;
            return least_request(c, "least_request", config->choice_count,
                                 config->active_request_bias, out) &&
                   (config->slow_start_config == NULL ||
                    slow_start_of(c, "slow_start_config",
                                  config->slow_start_config->slow_start_window,
                                  config->slow_start_config->aggression,
                                  config->slow_start_config->min_weight_percent, &out->slow_start));
        }
    }
    return compile_unknown(c, "policies", "none of the load balancing policies");
}

static bool named_balancer(struct compiler *c, const CLUSTER(Cluster) * cluster,
                           struct cluster_config *out)
{
    const CLUSTER(Cluster__LeastRequestLbConfig) *least = NULL;
    if (cluster->lb_config_case == CLUSTER_IS(CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG)) {
        least = cluster->least_request_lb_config;
    }
    const CLUSTER(Cluster__SlowStartConfig) *slow = least != NULL ? least->slow_start_config : NULL;
    if (cluster->lb_config_case == CLUSTER_IS(CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG)) {
        slow = cluster->round_robin_lb_config->slow_start_config;
    }
    if (slow != NULL &&
        !slow_start_of(c, "slow_start_config", slow->slow_start_window, slow->aggression,
                       slow->min_weight_percent, &out->slow_start)) {
        return false;
    }
    switch (cluster->lb_policy) {
    case CLUSTER_IS(CLUSTER__LB_POLICY__ROUND_ROBIN):
        out->lb = LB_ROUND_ROBIN;
        return true;
    case CLUSTER_IS(CLUSTER__LB_POLICY__LEAST_REQUEST):
        return least_request(c, "least_request_lb_config",
                             least != NULL ? least->choice_count : NULL,
                             least != NULL ? least->active_request_bias : NULL, out);
    case CLUSTER_IS(CLUSTER__LB_POLICY__RANDOM):
        out->lb = LB_RANDOM;
        return true;
    case CLUSTER_IS(CLUSTER__LB_POLICY__CLUSTER_PROVIDED):
        out->lb = LB_ORIGINAL_DST;
        return true;
    case CLUSTER_IS(CLUSTER__LB_POLICY__RING_HASH):
    case CLUSTER_IS(CLUSTER__LB_POLICY__MAGLEV):
        return compile_refuse(c, "lb_policy", "RING_HASH and MAGLEV are not supported");
    case CLUSTER_IS(CLUSTER__LB_POLICY__LOAD_BALANCING_POLICY_CONFIG):
        return compile_refuse(c, "load_balancing_policy", "is required");
    default:
        return compile_refuse(c, "lb_policy", "has no value %d", (int)cluster->lb_policy);
    }
}

static bool original_dst(struct compiler *c, const CLUSTER(Cluster) * cluster,
                         struct cluster_config *out)
{
    bool provided = out->lb == LB_ORIGINAL_DST;
    if (provided != (out->type == CLUSTER_ORIGINAL_DST)) {
        return compile_refuse(c, "lb_policy",
                              "CLUSTER_PROVIDED and type ORIGINAL_DST belong together");
    }
    if (cluster->lb_config_case != CLUSTER_IS(CLUSTER__LB_CONFIG_ORIGINAL_DST_LB_CONFIG)) {
        return true;
    }
    const CLUSTER(Cluster__OriginalDstLbConfig) *config = cluster->original_dst_lb_config;
    if (config->use_http_header || config->metadata_key != NULL) {
        return compile_refuse(c, "original_dst_lb_config",
                              "only upstream_port_override is "
                              "supported");
    }
    uint32_t port;
    if (!compile_u32(c, "original_dst_lb_config.upstream_port_override",
                     config->upstream_port_override, 0, 0, UINT16_MAX, &port)) {
        return false;
    }
    out->original_port = (uint16_t)port;
    return true;
}

static bool common_balancing(struct compiler *c, const CLUSTER(Cluster) * cluster,
                             struct cluster_config *out)
{
    const CLUSTER(Cluster__CommonLbConfig) *common = cluster->common_lb_config;
    double panic = 50;
    if (common != NULL) {
        out->locality_weighted =
            common->locality_config_specifier_case ==
            CLUSTER_IS(
                CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG);
        if (!compile_percent(c, "common_lb_config.healthy_panic_threshold",
                             common->healthy_panic_threshold, 50, &panic)) {
            return false;
        }
    }
    out->panic_percent = (uint8_t)panic;
    return true;
}

static bool balancing_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                         struct cluster_config *out)
{
    out->choice_count = 2;
    out->slow_start = (struct slow_start){.aggression = 1.0, .min_weight_percent = 10};
    bool good = cluster->load_balancing_policy != NULL
                    ? COMPILE_IN(c, typed_balancer(c, cluster->load_balancing_policy, out),
                                 "load_balancing_policy")
                    : named_balancer(c, cluster, out);
    return good && original_dst(c, cluster, out) && common_balancing(c, cluster, out);
}

/* ---- breakers ---- */

static bool thresholds_of(struct compiler *c, const CLUSTER(CircuitBreakers__Thresholds) * given,
                          struct breaker_limits *out)
{
    const CLUSTER(CircuitBreakers__Thresholds__RetryBudget) *budget = given->retry_budget;
    double percent;
    if (!compile_u32(c, "max_connections", given->max_connections, 1024, 0, UINT32_MAX,
                     &out->connections) ||
        !compile_u32(c, "max_pending_requests", given->max_pending_requests, 1024, 0, UINT32_MAX,
                     &out->pending) ||
        !compile_u32(c, "max_requests", given->max_requests, 1024, 0, UINT32_MAX, &out->requests) ||
        !compile_u32(c, "max_retries", given->max_retries, 3, 0, UINT32_MAX, &out->retries)) {
        return false;
    }
    out->has_budget = budget != NULL;
    if (budget == NULL) {
        return true;
    }
    if (!compile_percent(c, "retry_budget.budget_percent", budget->budget_percent, 20, &percent)) {
        return false;
    }
    out->budget_ppm = (uint32_t)(percent * 10000 + 0.5);
    return compile_u32(c, "retry_budget.min_retry_concurrency", budget->min_retry_concurrency, 3, 0,
                       UINT32_MAX, &out->budget_concurrency);
}

static bool breakers_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                        struct cluster_config *out)
{
    const struct breaker_limits absent = {
        .connections = 1024, .pending = 1024, .requests = 1024, .retries = 3};
    const CLUSTER(CircuitBreakers) *given = cluster->circuit_breakers;
    out->limits[0] = absent;
    out->limits[1] = absent;
    out->host_connections = UINT32_MAX;
    for (size_t i = 0; given != NULL && i < given->n_thresholds; i++) {
        unsigned priority = (unsigned)given->thresholds[i]->priority;
        if (priority > 1) {
            return compile_refuse(c, "thresholds", "[%zu] has no priority %u", i, priority);
        }
        if (!COMPILE_IN(c, thresholds_of(c, given->thresholds[i], &out->limits[priority]),
                        "thresholds[%zu]", i)) {
            return false;
        }
    }
    for (size_t i = 0; given != NULL && i < given->n_per_host_thresholds; i++) {
        if (!COMPILE_IN(c,
                        compile_u32(c, "max_connections",
                                    given->per_host_thresholds[i]->max_connections, UINT32_MAX, 0,
                                    UINT32_MAX, &out->host_connections),
                        "per_host_thresholds[%zu]", i)) {
            return false;
        }
    }
    return true;
}

/* ---- outlier detection ---- */

static bool outlier_of(struct compiler *c, const CLUSTER(OutlierDetection) * given,
                       struct outlier_config *out)
{
    CHECK(given != NULL);
    const struct {
        const char *field;
        const Google__Protobuf__UInt32Value *value;
        uint32_t absent;
        uint8_t *out;
    } percents[] = {
        {"max_ejection_percent", given->max_ejection_percent, 10, &out->max_ejection_percent},
        {"enforcing_consecutive_5xx", given->enforcing_consecutive_5xx, 100, &out->enforce_5xx},
        {"enforcing_success_rate", given->enforcing_success_rate, 100, &out->enforce_success_rate},
        {"enforcing_consecutive_gateway_failure", given->enforcing_consecutive_gateway_failure, 0,
         &out->enforce_gateway},
        {"enforcing_consecutive_local_origin_failure",
         given->enforcing_consecutive_local_origin_failure, 100, &out->enforce_local},
        {"enforcing_failure_percentage", given->enforcing_failure_percentage, 0,
         &out->enforce_failure_percentage},
        {"failure_percentage_threshold", given->failure_percentage_threshold, 85,
         &out->failure_percentage},
    };
    const struct {
        const char *field;
        const Google__Protobuf__UInt32Value *value;
        uint32_t absent;
        uint32_t *out;
    } counts[] = {
        {"consecutive_5xx", given->consecutive_5xx, 5, &out->consecutive_5xx},
        {"consecutive_gateway_failure", given->consecutive_gateway_failure, 5,
         &out->consecutive_gateway},
        {"consecutive_local_origin_failure", given->consecutive_local_origin_failure, 5,
         &out->consecutive_local},
        {"success_rate_minimum_hosts", given->success_rate_minimum_hosts, 5,
         &out->success_rate_hosts},
        {"success_rate_request_volume", given->success_rate_request_volume, 100,
         &out->success_rate_volume},
        {"success_rate_stdev_factor", given->success_rate_stdev_factor, 1900,
         &out->success_rate_factor},
        {"failure_percentage_minimum_hosts", given->failure_percentage_minimum_hosts, 5,
         &out->failure_percentage_hosts},
        {"failure_percentage_request_volume", given->failure_percentage_request_volume, 50,
         &out->failure_percentage_volume},
    };
    uint32_t percent;
    for (size_t i = 0; i < COUNT_OF(percents); i++) {
        if (!compile_u32(c, percents[i].field, percents[i].value, percents[i].absent, 0, 100,
                         &percent)) {
            return false;
        }
        *percents[i].out = (uint8_t)percent;
    }
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (!compile_u32(c, counts[i].field, counts[i].value, counts[i].absent, 0, UINT32_MAX,
                         counts[i].out)) {
            return false;
        }
    }
    out->split_local = given->split_external_local_origin_errors;
    return compile_duration_positive(c, "interval", given->interval, 10 * SECOND_US,
                                     &out->interval_us) &&
           compile_duration_positive(c, "base_ejection_time", given->base_ejection_time,
                                     30 * SECOND_US, &out->base_ejection_us) &&
           compile_duration_positive(c, "max_ejection_time", given->max_ejection_time,
                                     300 * SECOND_US, &out->max_ejection_us);
}

/* ---- HTTP options ---- */

static bool http2_of(struct compiler *c, const CORE(Http2ProtocolOptions) * options,
                     struct cluster_config *out)
{
    return options == NULL ||
           compile_u32(c, "max_concurrent_streams", options->max_concurrent_streams, STREAMS_ABSENT,
                       1, STREAMS_MAX, &out->max_streams);
}

static bool upstream_protocol(struct compiler *c, const UP(HttpProtocolOptions) * options,
                              struct cluster_config *out)
{
    const UP(HttpProtocolOptions__ExplicitHttpConfig) * explicit;
    switch (options->upstream_protocol_options_case) {
    case UP_IS(HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG):
        explicit = options->explicit_http_config;
        if (explicit->protocol_config_case ==
            UP_IS(
                HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS)) {
            out->protocol = CLUSTER_PROTOCOL_HTTP2;
            return http2_of(c, explicit->http2_protocol_options, out);
        }
        out->protocol = CLUSTER_PROTOCOL_HTTP1;
        return explicit->protocol_config_case ==
                   UP_IS(
                       HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS) ||
               compile_refuse(c, "explicit_http_config",
                              "one of http_protocol_options, "
                              "http2_protocol_options is required");
    case UP_IS(HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG):
        out->protocol = CLUSTER_PROTOCOL_DOWNSTREAM;
        return http2_of(c, options->use_downstream_protocol_config->http2_protocol_options, out);
    case UP_IS(HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_AUTO_CONFIG):
        out->protocol = CLUSTER_PROTOCOL_ALPN;
        return http2_of(c, options->auto_config->http2_protocol_options, out);
    default:
        return compile_refuse(c, NULL,
                              "one of explicit_http_config, "
                              "use_downstream_protocol_config, auto_config is required");
    }
}

static bool http_options(struct compiler *c, const UP(HttpProtocolOptions) * options,
                         struct cluster_config *out)
{
    const CORE(HttpProtocolOptions) *common = options->common_http_protocol_options;
    if (common != NULL &&
        (!compile_duration(c, "common_http_protocol_options.idle_timeout", common->idle_timeout,
                           IDLE_US, &out->idle_us) ||
         !compile_duration(c, "common_http_protocol_options.max_connection_duration",
                           common->max_connection_duration, 0, &out->max_connection_us) ||
         !compile_u32(c, "common_http_protocol_options.max_requests_per_connection",
                      common->max_requests_per_connection, 0, 0, UINT32_MAX,
                      &out->max_requests_per_connection))) {
        return false;
    }
    if (options->upstream_http_protocol_options != NULL) {
        out->sni_from_host = options->upstream_http_protocol_options->auto_sni;
        if (options->upstream_http_protocol_options->auto_san_validation) {
            return compile_refuse(c, "upstream_http_protocol_options.auto_san_validation",
                                  "is not supported");
        }
    }
    return upstream_protocol(c, options, out);
}

static bool protocol_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                        struct cluster_config *out)
{
    out->idle_us = IDLE_US;
    out->max_streams = STREAMS_ABSENT;
    if (cluster->http2_protocol_options != NULL) {
        out->protocol = CLUSTER_PROTOCOL_HTTP2;
        if (!COMPILE_IN(c, http2_of(c, cluster->http2_protocol_options, out),
                        "http2_protocol_options")) {
            return false;
        }
    }
    for (size_t i = 0; i < cluster->n_typed_extension_protocol_options; i++) {
        const char *key = cluster->typed_extension_protocol_options[i]->key;
        const struct xds_type *type;
        void *message;
        compile_enter(c, "typed_extension_protocol_options[\"%.80s\"]", key);
        bool good = compile_any(c, NULL, cluster->typed_extension_protocol_options[i]->value,
                                XDS_PROTOCOL_OPTIONS, &type, &message);
        if (good && message != NULL) {
            good = strcmp(key, PROTOCOL_OPTIONS) == 0 ? http_options(c, message, out)
                                                      : compile_unknown(c, NULL, key);
        }
        if (!compile_leave(c, good)) {
            return false;
        }
    }
    return true;
}

/* ---- transport and the rest ---- */

static bool matches_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                       struct cluster_config *out)
{
    struct transport_match *list =
        COMPILE_ARRAY(c, struct transport_match, cluster->n_transport_socket_matches);
    for (size_t i = 0; i < cluster->n_transport_socket_matches; i++) {
        const CLUSTER(Cluster__TransportSocketMatch) *match = cluster->transport_socket_matches[i];
        list[i].name = compile_name(c, match->name);
        list[i].labels = compile_labels(c, match->match, &list[i].label_count);
        compile_enter(c, "transport_socket_matches[%zu]", i);
        bool good =
            compile_required(c, "name", match->name) &&
            (match->match == NULL || list[i].label_count == match->match->n_fields ||
             compile_refuse(c, "match", "only texts, numbers and booleans are supported")) &&
            compile_transport(c, "transport_socket", match->transport_socket, false, &list[i].tls);
        if (!compile_leave(c, good)) {
            return false;
        }
    }
    out->matches = list;
    return compile_transport(c, "transport_socket", cluster->transport_socket, false, &out->tls) &&
           compile_count(c, "transport_socket_matches", cluster->n_transport_socket_matches,
                         &out->match_count);
}

static bool bind_to(struct compiler *c, const CORE(SocketAddress) * address,
                    struct cluster_config *out)
{
    struct addr addr;
    if (!compile_socket_address(c, address, &addr)) {
        return false;
    }
    out->bind[addr.family == ADDR_IPV4 ? 0 : 1] = addr;
    return true;
}

static bool bind_of(struct compiler *c, const CORE(BindConfig) * bind, struct cluster_config *out)
{
    if (bind == NULL) {
        return true;
    }
    if (bind->source_address != NULL &&
        !COMPILE_IN(c, bind_to(c, bind->source_address, out), "source_address")) {
        return false;
    }
    for (size_t i = 0; i < bind->n_extra_source_addresses; i++) {
        if (bind->extra_source_addresses[i]->address == NULL) {
            return compile_refuse(c, "extra_source_addresses", "[%zu].address is required", i);
        }
        if (!COMPILE_IN(c, bind_to(c, bind->extra_source_addresses[i]->address, out),
                        "extra_source_addresses[%zu].address", i)) {
            return false;
        }
    }
    return true;
}

static bool keepalive_of(struct compiler *c, const CLUSTER(Cluster) * cluster,
                         struct cluster_config *out)
{
    const CLUSTER(UpstreamConnectionOptions) *options = cluster->upstream_connection_options;
    const CORE(TcpKeepalive) *keepalive = options != NULL ? options->tcp_keepalive : NULL;
    if (keepalive == NULL) {
        return true;
    }
    return compile_u32(c, "tcp_keepalive.keepalive_time", keepalive->keepalive_time, 0, 1, 32767,
                       &out->keepalive_time_s) &&
           compile_u32(c, "tcp_keepalive.keepalive_interval", keepalive->keepalive_interval, 0, 1,
                       32767, &out->keepalive_interval_s) &&
           compile_u32(c, "tcp_keepalive.keepalive_probes", keepalive->keepalive_probes, 0, 1, 127,
                       &out->keepalive_probes);
}

static bool unsupported(struct compiler *c, const CLUSTER(Cluster) * cluster)
{
    if (cluster->n_health_checks > 0) {
        return compile_refuse(c, "health_checks", "are not supported");
    }
    for (size_t i = 0; i < cluster->n_filters; i++) {
        const struct xds_type *type;
        void *message;
        if (!COMPILE_IN(c,
                        compile_any(c, "typed_config", cluster->filters[i]->typed_config,
                                    XDS_NETWORK_FILTER, &type, &message),
                        "filters[%zu]", i)) {
            return false;
        }
        if (message != NULL) {
            return compile_unknown(c, "filters", type->url);
        }
    }
    return true;
}

bool compile_cluster(struct compiler *c, const CLUSTER(Cluster) * cluster,
                     struct cluster_config *out)
{
    if (!compile_required(c, "name", cluster->name)) {
        return false;
    }
    *out = (struct cluster_config){.name = compile_name(c, cluster->name)};
    out->stat_name =
        cluster->alt_stat_name[0] != '\0' ? compile_name(c, cluster->alt_stat_name) : out->name;
    out->service_name = out->name;
    if (cluster->eds_cluster_config != NULL &&
        cluster->eds_cluster_config->service_name[0] != '\0') {
        out->service_name = compile_name(c, cluster->eds_cluster_config->service_name);
    }
    out->origin = compile_origin(c, cluster->metadata);
    out->close_on_unhealthy = cluster->close_connections_on_host_health_failure;
    out->has_outlier = cluster->outlier_detection != NULL;
    return discovery_of(c, cluster, out) && dns_of(c, cluster, out) &&
           compile_duration_positive(c, "connect_timeout", cluster->connect_timeout,
                                     CONNECT_TIMEOUT_US, &out->connect_timeout_us) &&
           compile_duration_positive(c, "cleanup_interval", cluster->cleanup_interval, CLEANUP_US,
                                     &out->cleanup_us) &&
           balancing_of(c, cluster, out) &&
           COMPILE_IN(c, breakers_of(c, cluster, out), "circuit_breakers") &&
           (!out->has_outlier ||
            COMPILE_IN(c, outlier_of(c, cluster->outlier_detection, &out->outlier),
                       "outlier_detection")) &&
           protocol_of(c, cluster, out) && matches_of(c, cluster, out) &&
           COMPILE_IN(c, bind_of(c, cluster->upstream_bind_config, out), "upstream_bind_config") &&
           COMPILE_IN(c, keepalive_of(c, cluster, out), "upstream_connection_options") &&
           unsupported(c, cluster) && endpoints_of(c, cluster, out);
}
