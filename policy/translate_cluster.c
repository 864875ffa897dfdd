/* Clusters: how to call a port of a service, a single workload, or the own application. Defaults of
 * the mesh are written out, so that a sidecar never has to know them. */
#include <stdlib.h>
#include <string.h>

#include "envoy/extensions/load_balancing_policies/least_request/v3/least_request.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "envoy/extensions/upstreams/http/v3/http.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

#include "policy/translate_private.h"
#include "policy/translate_tls.h"

#define UPSTREAM(type)    Envoy__Extensions__Upstreams__Http__V3__##type
#define UPSTREAM_IS(name) ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__##name

#define SECOND_US UINT64_C(1000000)

/* Where nothing is set (behaviour.md, "Defaults"). */
#define CONNECT_MESH_US          (1 * SECOND_US)
#define CONNECT_OUTSIDE_US       (5 * SECOND_US)
#define UPSTREAM_IDLE_US         (55 * SECOND_US)
#define BREAKER_DEFAULT          1024
#define RETRY_BUDGET_PERCENT     20
#define RETRY_BUDGET_LEAST       3
#define OUTLIER_ERRORS           5
#define OUTLIER_INTERVAL_US      (10 * SECOND_US)
#define OUTLIER_EJECTION_US      (30 * SECOND_US)
#define OUTLIER_EJECTION_PERCENT 10
#define LEAST_REQUEST_CHOICES    2

const char *cluster_name_of(struct arena *arena, const struct place *place, const char *subset)
{
    return arena_printf(arena, "outbound|%u|%s|%s", (unsigned)place->number,
                        subset != NULL ? subset : "", place->host);
}

/* ---- which settings hold ---- */

static void settings_take(struct settings *settings, const struct traffic_settings *from,
                          bool whole)
{
    if (whole || from->load_balancer.line > 0) {
        settings->load_balancer = from->load_balancer.line > 0 ? &from->load_balancer : NULL;
    }
    if (whole || from->connection_pool.line > 0) {
        settings->connection_pool = from->connection_pool.line > 0 ? &from->connection_pool : NULL;
    }
    if (whole || from->outlier_detection.line > 0) {
        settings->outlier_detection =
            from->outlier_detection.line > 0 ? &from->outlier_detection : NULL;
    }
    if (whole || from->tls.line > 0) {
        settings->tls = from->tls.line > 0 ? &from->tls : NULL;
    }
}

/* A subset's settings hide the host's one by one; those of a port take nothing over (Istio,
 * DestinationRule.TrafficPolicy.PortTrafficPolicy). */
static void settings_merge(struct settings *settings, const struct traffic_policy *policy,
                           uint32_t port)
{
    settings_take(settings, &policy->settings, false);
    for (size_t i = 0; i < policy->ports.count; i++) {
        if (policy->ports.at[i].port.number.value == port) {
            settings_take(settings, &policy->ports.at[i].settings, true);
            return;
        }
    }
}

/* The rules of a host hold together; what is said of a cluster is said by the one that has the
 * subset, else by the one that has the traffic policy. */
struct settings settings_of(struct translation *t, const struct place *place, const char *subset)
{
    struct settings settings = {0};
    struct model_rules rules =
        model_destination_rules(t->model, place->host, place->service, t->node->namespace);
    if (rules.count == 0) {
        return settings;
    }
    rules_used(t, rules);
    const struct object *policy = model_rules_policy(rules);
    settings.rule = policy != NULL ? policy : rules.at[0];
    const struct destination_rule *spec = object_destination_rule(settings.rule);
    settings_merge(&settings, &spec->policy, place->number);
    settings.line = spec->line;
    settings.subset = subset != NULL ? model_find_subset(rules, subset, &settings.rule) : NULL;
    if (settings.subset != NULL) {
        settings_merge(&settings, &settings.subset->policy, place->number);
        settings.line = settings.subset->line;
    }
    return settings;
}

/* ---- the parts of a cluster ---- */

static uint32_t number_or(struct number number, uint32_t otherwise)
{
    /* 0 is Istio's "not set" for limits. */
    return number.line > 0 && number.value > 0 ? number.value : otherwise;
}

static uint64_t duration_or(struct duration duration, uint64_t otherwise)
{
    return duration.line > 0 ? duration.us : otherwise;
}

static CLUSTER(CircuitBreakers) *
    make_breakers(struct arena *arena, const struct connection_pool *pool, uint32_t limit)
{
    static const struct connection_pool none = {0};
    const struct connection_pool *given = pool != NULL ? pool : &none;
    CLUSTER(CircuitBreakers__Thresholds) *limits =
        MESSAGE(arena, envoy__config__cluster__v3__circuit_breakers__thresholds);
    limits->max_connections = pb_u32(arena, number_or(given->tcp.max_connections, limit));
    limits->max_pending_requests =
        pb_u32(arena, number_or(given->http.http1_max_pending_requests, limit));
    limits->max_requests = pb_u32(arena, number_or(given->http.http2_max_requests, limit));
    if (number_or(given->http.max_retries, 0) > 0) {
        limits->max_retries = pb_u32(arena, given->http.max_retries.value);
    } else {
        limits->retry_budget =
            MESSAGE(arena, envoy__config__cluster__v3__circuit_breakers__thresholds__retry_budget);
        limits->retry_budget->budget_percent = MESSAGE(arena, envoy__type__v3__percent);
        limits->retry_budget->budget_percent->value = RETRY_BUDGET_PERCENT;
        limits->retry_budget->min_retry_concurrency = pb_u32(arena, RETRY_BUDGET_LEAST);
    }
    limits->track_remaining = true;
    CLUSTER(CircuitBreakers) *breakers =
        MESSAGE(arena, envoy__config__cluster__v3__circuit_breakers);
    ARRAY_PUSH(arena, breakers->thresholds, breakers->n_thresholds, limits);
    return breakers;
}

/* Unset fields take Istio's defaults. At least one endpoint may be ejected whatever the percentage,
 * as it was in Envoy before 1.31; success rates are off, as in Istio. */
static CLUSTER(OutlierDetection) *
    make_outlier(struct arena *arena, const struct outlier_detection *spec)
{
    CLUSTER(OutlierDetection) *outlier =
        MESSAGE(arena, envoy__config__cluster__v3__outlier_detection);
    uint32_t errors =
        spec->consecutive_5xx_errors.line > 0 ? spec->consecutive_5xx_errors.value : OUTLIER_ERRORS;
    outlier->consecutive_5xx = pb_u32(arena, errors);
    outlier->enforcing_consecutive_5xx = pb_u32(arena, errors > 0 ? 100 : 0);
    uint32_t gateway = spec->consecutive_gateway_errors.value;
    if (spec->consecutive_gateway_errors.line > 0) {
        outlier->consecutive_gateway_failure = pb_u32(arena, gateway);
    }
    outlier->enforcing_consecutive_gateway_failure = pb_u32(arena, gateway > 0 ? 100 : 0);
    outlier->interval = pb_duration(arena, duration_or(spec->interval, OUTLIER_INTERVAL_US));
    outlier->base_ejection_time =
        pb_duration(arena, duration_or(spec->base_ejection_time, OUTLIER_EJECTION_US));
    outlier->max_ejection_percent =
        pb_u32(arena, number_or(spec->max_ejection_percent, OUTLIER_EJECTION_PERCENT));
    outlier->enforcing_success_rate = pb_u32(arena, 0);
    outlier->always_eject_one_host = pb_bool(arena, true);
    if (spec->split_external_local_origin_errors.value) {
        outlier->split_external_local_origin_errors = true;
        outlier->enforcing_local_origin_success_rate = pb_u32(arena, 0);
        uint32_t local = number_or(spec->consecutive_local_origin_failures, OUTLIER_ERRORS);
        outlier->consecutive_local_origin_failure = pb_u32(arena, local);
        outlier->enforcing_consecutive_local_origin_failure = pb_u32(arena, 100);
    }
    return outlier;
}

static void policy_add(struct arena *arena, CLUSTER(LoadBalancingPolicy) * list, const char *name,
                       const void *config)
{
    CLUSTER(LoadBalancingPolicy__Policy) *policy =
        MESSAGE(arena, envoy__config__cluster__v3__load_balancing_policy__policy);
    policy->typed_extension_config =
        MESSAGE(arena, envoy__config__core__v3__typed_extension_config);
    policy->typed_extension_config->name = pb_text(arena, name);
    policy->typed_extension_config->typed_config = pb_any(arena, config);
    ARRAY_PUSH(arena, list->policies, list->n_policies, policy);
}

/* gRPC refuses lb_policy LEAST_REQUEST and takes the first policy of the list that it knows; this
 * form is the one that every client accepts (xds.md 0.5). */
static void balance_named(struct arena *arena, CLUSTER(Cluster) * cluster, bool least_request)
{
    cluster->lb_policy = CLUSTER_IS(CLUSTER__LB_POLICY__ROUND_ROBIN);
    cluster->load_balancing_policy =
        MESSAGE(arena, envoy__config__cluster__v3__load_balancing_policy);
    if (least_request) {
        Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest *config = MESSAGE(
            arena, envoy__extensions__load_balancing_policies__least_request__v3__least_request);
        config->choice_count = pb_u32(arena, LEAST_REQUEST_CHOICES);
        policy_add(arena, cluster->load_balancing_policy,
                   "envoy.load_balancing_policies.least_request", config);
    }
    policy_add(
        arena, cluster->load_balancing_policy, "envoy.load_balancing_policies.round_robin",
        MESSAGE(arena, envoy__extensions__load_balancing_policies__round_robin__v3__round_robin));
}

static void balance(struct arena *arena, CLUSTER(Cluster) * cluster,
                    const struct load_balancer *spec, enum translate_form form)
{
    enum lb_simple simple =
        spec != NULL ? (enum lb_simple)spec->simple.value : LB_SIMPLE_UNSPECIFIED;
    bool least_request = false;
    switch (simple) {
    case LB_SIMPLE_ROUND_ROBIN:
        cluster->lb_policy = CLUSTER_IS(CLUSTER__LB_POLICY__ROUND_ROBIN);
        break;
    case LB_SIMPLE_RANDOM:
        cluster->lb_policy = CLUSTER_IS(CLUSTER__LB_POLICY__RANDOM);
        break;
    case LB_SIMPLE_UNSPECIFIED:
    case LB_SIMPLE_LEAST_REQUEST:
    case LB_SIMPLE_LEAST_CONN:
        least_request = true;
        break;
    }
    if (form == TRANSLATE_FORM_NAMED) {
        balance_named(arena, cluster, least_request);
    } else if (least_request) {
        cluster->lb_policy = CLUSTER_IS(CLUSTER__LB_POLICY__LEAST_REQUEST);
        cluster->lb_config_case = CLUSTER_IS(CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG);
        cluster->least_request_lb_config =
            MESSAGE(arena, envoy__config__cluster__v3__cluster__least_request_lb_config);
        cluster->least_request_lb_config->choice_count = pb_u32(arena, LEAST_REQUEST_CHOICES);
    }
}

static UPSTREAM(HttpProtocolOptions__ExplicitHttpConfig) *
    explicit_http(struct arena *arena, bool http2)
{
    UPSTREAM(HttpProtocolOptions__ExplicitHttpConfig) *config = MESSAGE(
        arena, envoy__extensions__upstreams__http__v3__http_protocol_options__explicit_http_config);
    if (http2) {
        config->protocol_config_case = UPSTREAM_IS(
            HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS);
        config->http2_protocol_options =
            MESSAGE(arena, envoy__config__core__v3__http2_protocol_options);
    } else {
        config->protocol_config_case = UPSTREAM_IS(
            HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS);
        config->http_protocol_options =
            MESSAGE(arena, envoy__config__core__v3__http1_protocol_options);
    }
    return config;
}

/* Which HTTP a server is spoken to in. Where nobody declared it: as the client speaks, which the
 * hop between sidecars, that is always HTTP/2, passes on. */
static void http_options(struct arena *arena, CLUSTER(Cluster) * cluster,
                         enum model_protocol protocol, const struct connection_pool *pool)
{
    UPSTREAM(HttpProtocolOptions) *options =
        MESSAGE(arena, envoy__extensions__upstreams__http__v3__http_protocol_options);
    if (protocol == MODEL_PROTOCOL_AUTO) {
        UPSTREAM(HttpProtocolOptions__UseDownstreamHttpConfig) *config = MESSAGE(
            arena,
            envoy__extensions__upstreams__http__v3__http_protocol_options__use_downstream_http_config);
        config->http_protocol_options =
            MESSAGE(arena, envoy__config__core__v3__http1_protocol_options);
        config->http2_protocol_options =
            MESSAGE(arena, envoy__config__core__v3__http2_protocol_options);
        options->upstream_protocol_options_case = UPSTREAM_IS(
            HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG);
        options->use_downstream_protocol_config = config;
    } else {
        options->upstream_protocol_options_case =
            UPSTREAM_IS(HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG);
        options->explicit_http_config = explicit_http(arena, protocol == MODEL_PROTOCOL_HTTP2);
    }

    CORE(HttpProtocolOptions) *common =
        MESSAGE(arena, envoy__config__core__v3__http_protocol_options);
    common->idle_timeout = pb_duration(arena, UPSTREAM_IDLE_US);
    if (pool != NULL) {
        common->idle_timeout =
            pb_duration(arena, duration_or(pool->http.idle_timeout, UPSTREAM_IDLE_US));
        if (pool->http.max_requests_per_connection.value > 0) {
            common->max_requests_per_connection =
                pb_u32(arena, pool->http.max_requests_per_connection.value);
        }
        if (pool->tcp.max_connection_duration.line > 0) {
            common->max_connection_duration =
                pb_duration(arena, pool->tcp.max_connection_duration.us);
        }
    }
    options->common_http_protocol_options = common;

    CLUSTER(Cluster__TypedExtensionProtocolOptionsEntry) *entry =
        MESSAGE(arena, envoy__config__cluster__v3__cluster__typed_extension_protocol_options_entry);
    entry->key = pb_text(arena, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    entry->value = pb_any(arena, options);
    ARRAY_PUSH(arena, cluster->typed_extension_protocol_options,
               cluster->n_typed_extension_protocol_options, entry);
}

static void keepalive(struct arena *arena, CLUSTER(Cluster) * cluster,
                      const struct connection_pool *pool)
{
    if (pool == NULL || pool->tcp.keepalive.line == 0) {
        return;
    }
    const struct tcp_keepalive *spec = &pool->tcp.keepalive;
    CORE(TcpKeepalive) *keep = MESSAGE(arena, envoy__config__core__v3__tcp_keepalive);
    if (spec->probes.line > 0) {
        keep->keepalive_probes = pb_u32(arena, spec->probes.value);
    }
    if (spec->time.line > 0) {
        keep->keepalive_time = pb_u32(arena, (uint32_t)(spec->time.us / SECOND_US));
    }
    if (spec->interval.line > 0) {
        keep->keepalive_interval = pb_u32(arena, (uint32_t)(spec->interval.us / SECOND_US));
    }
    cluster->upstream_connection_options =
        MESSAGE(arena, envoy__config__cluster__v3__upstream_connection_options);
    cluster->upstream_connection_options->tcp_keepalive = keep;
}

/* ---- mutual TLS towards a service ---- */

static int text_compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The identities behind a port, each once, in order. Of the whole port, not only of the subset, so
 * that an endpoint that changes its labels is not refused until the cluster follows. */
static const char **port_identities(struct translation *t, const struct model_port *port,
                                    size_t *count)
{
    const char **names = NULL;
    *count = 0;
    for (size_t i = 0; port != NULL && i < port->endpoint_count; i++) {
        if (port->endpoints[i].workload->identity != NULL) {
            translation_uses(t, port->endpoints[i].workload->object);
            ARRAY_PUSH(t->arena, names, *count, port->endpoints[i].workload->identity);
        }
    }
    if (*count == 0) {
        return NULL;
    }
    qsort(names, *count, sizeof *names, text_compare);
    size_t kept = 1;
    for (size_t i = 1; i < *count; i++) {
        if (strcmp(names[i], names[kept - 1]) != 0) {
            names[kept++] = names[i];
        }
    }
    *count = kept;
    return names;
}

static bool port_meshed(const struct model_port *port)
{
    for (size_t i = 0; port != NULL && i < port->endpoint_count; i++) {
        if (port->endpoints[i].workload->mesh_tls) {
            return true;
        }
    }
    return false;
}

static CLUSTER(Cluster__TransportSocketMatch) * socket_match(struct arena *arena, const char *name,
                                                             CORE(TransportSocket) * socket,
                                                             bool mesh_only)
{
    CLUSTER(Cluster__TransportSocketMatch) *match =
        MESSAGE(arena, envoy__config__cluster__v3__cluster__transport_socket_match);
    match->name = pb_text(arena, name);
    match->match = MESSAGE(arena, google__protobuf__struct);
    if (mesh_only) {
        Google__Protobuf__Struct__FieldsEntry *entry =
            MESSAGE(arena, google__protobuf__struct__fields_entry);
        entry->key = pb_text(arena, "tlsMode");
        entry->value = MESSAGE(arena, google__protobuf__value);
        entry->value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        entry->value->string_value = pb_text(arena, "istio");
        ARRAY_PUSH(arena, match->match->fields, match->match->n_fields, entry);
    }
    match->transport_socket = socket;
    return match;
}

/* By the endpoint's label: mesh TLS for those that have a sidecar, plain for the others. */
static void transport_by_label(struct arena *arena, CLUSTER(Cluster) * cluster,
                               CORE(TransportSocket) * tls)
{
    CORE(TransportSocket) *plain = MESSAGE(arena, envoy__config__core__v3__transport_socket);
    plain->name = pb_text(arena, "envoy.transport_sockets.raw_buffer");
    plain->config_type_case = CORE_IS(TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG);
    plain->typed_config = pb_any(
        arena, MESSAGE(arena, envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer));
    CLUSTER(Cluster__TransportSocketMatch) * matches[] = {
        socket_match(arena, "tlsMode-istio", tls, true),
        socket_match(arena, "tlsMode-disabled", plain, false),
    };
    for (size_t i = 0; i < COUNT_OF(matches); i++) {
        ARRAY_PUSH(arena, cluster->transport_socket_matches, cluster->n_transport_socket_matches,
                   matches[i]);
    }
}

static void transport(struct translation *t, CLUSTER(Cluster) * cluster, const struct place *place,
                      const char *subset, const struct settings *settings, enum translate_form form)
{
    size_t count = 0;
    const char **identities = port_identities(t, place->port, &count);
    const char *sni = arena_printf(t->arena, "outbound_.%u_.%s_.%s", (unsigned)place->number,
                                   subset != NULL ? subset : "", place->host);
    CORE(TransportSocket) *tls =
        tls_upstream(t->arena, sni, identities, count, model_get_options(t->model)->trust_domain);
    enum tls_mode mode =
        settings->tls != NULL ? (enum tls_mode)settings->tls->mode.value : TLS_MODE_UNSET;
    switch (mode) {
    case TLS_MODE_DISABLE:
        return;
    case TLS_MODE_ISTIO_MUTUAL:
        cluster->transport_socket = tls;
        return;
    case TLS_MODE_UNSET:
        /* grpc-go refuses transport_socket_matches: without a meshed endpoint they are not needed
         * there. A sidecar always gets them: an endpoint may become meshed by EDS alone. */
        if (form == TRANSLATE_FORM_DESTINATION || port_meshed(place->port)) {
            transport_by_label(t->arena, cluster, tls);
        }
        return;
    }
}

/* ---- clusters ---- */

static CLUSTER(Cluster) * cluster_new(struct arena *arena, const char *name,
                                      Envoy__Config__Cluster__V3__Cluster__DiscoveryType type,
                                      uint64_t connect_us)
{
    CLUSTER(Cluster) *cluster = MESSAGE(arena, envoy__config__cluster__v3__cluster);
    cluster->name = pb_text(arena, name);
    cluster->cluster_discovery_type_case = CLUSTER_IS(CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE);
    cluster->type = type;
    cluster->connect_timeout = pb_duration(arena, connect_us);
    return cluster;
}

/* All that a policy says of a cluster towards a port. */
static void cluster_policy(struct arena *arena, CLUSTER(Cluster) * cluster,
                           const struct settings *settings, enum model_protocol protocol,
                           enum translate_form form)
{
    const struct connection_pool *pool = settings->connection_pool;
    if (pool != NULL) {
        cluster->connect_timeout =
            pb_duration(arena, duration_or(pool->tcp.connect_timeout, CONNECT_MESH_US));
    }
    balance(arena, cluster, settings->load_balancer, form);
    cluster->circuit_breakers = make_breakers(arena, pool, BREAKER_DEFAULT);
    http_options(arena, cluster, protocol, pool);
    keepalive(arena, cluster, pool);
    /* Never to endpoints that are known to be broken, unless minHealthPercent says so (Istio). */
    cluster->common_lb_config =
        MESSAGE(arena, envoy__config__cluster__v3__cluster__common_lb_config);
    cluster->common_lb_config->healthy_panic_threshold = MESSAGE(arena, envoy__type__v3__percent);
    if (settings->outlier_detection != NULL) {
        cluster->outlier_detection = make_outlier(arena, settings->outlier_detection);
        cluster->common_lb_config->healthy_panic_threshold->value =
            settings->outlier_detection->min_health_percent.value;
    }
}

CLUSTER(Cluster) * make_cluster(struct translation *t, const struct place *place,
                                const char *subset, enum translate_form form)
{
    struct arena *arena = t->arena;
    struct settings settings = settings_of(t, place, subset);
    const char *name = cluster_name_of(arena, place, subset);
    CLUSTER(Cluster) *cluster =
        cluster_new(arena, name, CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__EDS), CONNECT_MESH_US);
    cluster->eds_cluster_config =
        MESSAGE(arena, envoy__config__cluster__v3__cluster__eds_cluster_config);
    cluster->eds_cluster_config->eds_config = pb_ads(arena);
    cluster->eds_cluster_config->service_name = pb_text(arena, name);
    cluster_policy(arena, cluster, &settings,
                   place->port != NULL ? place->port->protocol : MODEL_PROTOCOL_AUTO, form);
    transport(t, cluster, place, subset, &settings, form);

    const struct object *service = place->service != NULL ? place->service->object : NULL;
    translation_uses(t, service);
    cluster->metadata = settings.rule != NULL ? pb_origin(t, settings.rule, settings.line)
                                              : pb_origin(t, service, 0);
    return cluster;
}

CLUSTER(Cluster) * make_workload_cluster(struct translation *t,
                                         const struct model_workload *workload, uint32_t port,
                                         const struct model_served *served)
{
    struct arena *arena = t->arena;
    /* Addresses as they are: brackets are for people. */
    const char *name = arena_printf(arena, "workload|%u||%s", (unsigned)port, workload->address);
    struct settings settings = {0};
    struct place place = {0};
    if (served != NULL) {
        place = (struct place){served->service->host, served->service, served->port,
                               served->port->number};
        settings = settings_of(t, &place, NULL);
    } else {
        place = (struct place){.host = workload->address, .number = port};
    }
    CLUSTER(Cluster) *cluster =
        cluster_new(arena, name, CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__STATIC), CONNECT_MESH_US);
    cluster_policy(arena, cluster, &settings,
                   served != NULL ? served->port->protocol : MODEL_PROTOCOL_AUTO,
                   TRANSLATE_FORM_DESTINATION);
    if (settings.tls == NULL || settings.tls->mode.value != TLS_MODE_DISABLE) {
        const char *sni =
            arena_printf(arena, "outbound_.%u_._.%s", (unsigned)place.number, place.host);
        const char *identity = workload->identity;
        transport_by_label(arena, cluster,
                           tls_upstream(arena, sni, &identity, identity != NULL ? 1 : 0,
                                        model_get_options(t->model)->trust_domain));
    }
    cluster->load_assignment = MESSAGE(arena, envoy__config__endpoint__v3__cluster_load_assignment);
    cluster->load_assignment->cluster_name = pb_text(arena, name);
    ENDPOINT(LocalityLbEndpoints) *group =
        MESSAGE(arena, envoy__config__endpoint__v3__locality_lb_endpoints);
    group->locality = MESSAGE(arena, envoy__config__core__v3__locality);
    group->load_balancing_weight = pb_u32(arena, 1);
    ENDPOINT(LbEndpoint) *endpoint = make_endpoint(t, workload, port);
    ARRAY_PUSH(arena, group->lb_endpoints, group->n_lb_endpoints, endpoint);
    ARRAY_PUSH(arena, cluster->load_assignment->endpoints, cluster->load_assignment->n_endpoints,
               group);
    cluster->metadata = settings.rule != NULL ? pb_origin(t, settings.rule, settings.line)
                                              : pb_origin(t, workload->object, 0);
    return cluster;
}

/* Calls the original destination from an address that the capture rules let pass (xds.md 2.2). */
static CLUSTER(Cluster) *
    cluster_to_application(struct arena *arena, const char *name, enum model_protocol protocol)
{
    CLUSTER(Cluster) *cluster = cluster_new(
        arena, name, CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST), CONNECT_MESH_US);
    cluster->lb_policy = CLUSTER_IS(CLUSTER__LB_POLICY__CLUSTER_PROVIDED);
    cluster->circuit_breakers = make_breakers(arena, NULL, UINT32_MAX);
    http_options(arena, cluster, protocol, NULL);
    CORE(BindConfig) *bind = MESSAGE(arena, envoy__config__core__v3__bind_config);
    bind->source_address = pb_address(arena, "127.0.0.6", 0)->socket_address;
    CORE(ExtraSourceAddress) *extra = MESSAGE(arena, envoy__config__core__v3__extra_source_address);
    extra->address = pb_address(arena, "::6", 0)->socket_address;
    ARRAY_PUSH(arena, bind->extra_source_addresses, bind->n_extra_source_addresses, extra);
    cluster->upstream_bind_config = bind;
    return cluster;
}

CLUSTER(Cluster) * make_inbound_cluster(struct translation *t, uint32_t port)
{
    size_t count = 0;
    const struct inbound_port *ports = inbound_ports(t, &count);
    for (size_t i = 0; i < count; i++) {
        if (ports[i].number == port) {
            const struct model_served *served = ports[i].served;
            const char *name = arena_printf(t->arena, "inbound|%u||", (unsigned)port);
            CLUSTER(Cluster) *cluster = cluster_to_application(
                t->arena, name, served != NULL ? served->port->protocol : MODEL_PROTOCOL_AUTO);
            cluster->metadata = pb_origin(t, served != NULL ? served->service->object : NULL, 0);
            return cluster;
        }
    }
    return NULL;
}

CLUSTER(Cluster) * make_fixed_cluster(struct translation *t, const char *name)
{
    struct arena *arena = t->arena;
    if (strcmp(name, "InboundPassthroughCluster") == 0) {
        return cluster_to_application(arena, name, MODEL_PROTOCOL_AUTO);
    }
    if (strcmp(name, "PassthroughCluster") == 0) {
        CLUSTER(Cluster) *cluster = cluster_new(
            arena, name, CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__ORIGINAL_DST), CONNECT_OUTSIDE_US);
        cluster->lb_policy = CLUSTER_IS(CLUSTER__LB_POLICY__CLUSTER_PROVIDED);
        cluster->circuit_breakers = make_breakers(arena, NULL, UINT32_MAX);
        http_options(arena, cluster, MODEL_PROTOCOL_AUTO, NULL);
        return cluster;
    }
    if (strcmp(name, "BlackHoleCluster") == 0) {
        return cluster_new(arena, name, CLUSTER_IS(CLUSTER__DISCOVERY_TYPE__STATIC),
                           CONNECT_MESH_US);
    }
    return NULL;
}
