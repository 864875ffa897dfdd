#include "sidecar/config/compile_http.h"

#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb-c.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb-c.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb-c.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"

#include "sidecar/config/compile_route.h"
#include "sidecar/observe/access_log.h"
#include "xds/json.h"

#define HCM(type)     Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__##type
#define HCM_IS(name)  ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__##name
#define TCP(type)     Envoy__Extensions__Filters__Network__TcpProxy__V3__##type
#define TCP_IS(name)  ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__##name
#define CORE(type)    Envoy__Config__Core__V3__##type
#define CORE_IS(name) ENVOY__CONFIG__CORE__V3__##name
#define LOG(type)     Envoy__Config__Accesslog__V3__##type
#define LOGGER(name)  envoy__extensions__access_loggers__##name##__descriptor
#define FILTER(name)  envoy__extensions__filters__http__##name##__descriptor

#define STREAM_IDLE_US (300 * SECOND_US)
#define IDLE_US        (3600 * SECOND_US)
#define DRAIN_US       (5 * SECOND_US)
#define HEAD_KB        60
#define HEAD_COUNT     100
#define STREAMS_ABSENT 1024
#define STREAMS_MAX    2147483647U

/* ---- access logs ---- */

static struct slice struct_as_json(struct compiler *c, const Google__Protobuf__Struct *fields)
{
    json_t *value = xds_json_write(c->scratch, &fields->base);
    struct slice kept = json_text(c->arena, value, false);
    json_decref(value);
    return kept;
}

static bool format_of(struct compiler *c, const CORE(SubstitutionFormatString) * format,
                      struct access_log_config *out)
{
    if (format == NULL) {
        return true;
    }
    if (format->n_formatters > 0) {
        return compile_unknown(c, "formatters", "a formatter extension");
    }
    switch (format->format_case) {
    case CORE_IS(SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT):
        out->format = compile_text(c, format->text_format);
        return true;
    case CORE_IS(SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT):
        out->json = struct_as_json(c, format->json_format);
        return true;
    case CORE_IS(SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE):
        return compile_data(c, "text_format_source", format->text_format_source, &out->format);
    default:
        return compile_refuse(c, "log_format",
                              "one of text_format_source, json_format is required");
    }
}

static bool file_log(struct compiler *c,
                     const Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog *log,
                     struct access_log_config *out)
{
    out->kind = ACCESS_LOG_FILE;
    out->path = compile_text(c, log->path);
    if (!compile_required(c, "path", log->path)) {
        return false;
    }
    switch (log->access_log_format_case) {
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_FORMAT:
        out->format = compile_text(c, log->format);
        return true;
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_JSON_FORMAT:
        out->json = struct_as_json(c, log->json_format);
        return true;
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_TYPED_JSON_FORMAT:
        out->json = struct_as_json(c, log->typed_json_format);
        return true;
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT:
        return format_of(c, log->log_format, out);
    default:
        return true;
    }
}

static bool compile_format(struct compiler *c, struct access_log_config *out)
{
    struct error err = {.text = ""};
    out->compiled = out->json.len > 0 ? access_format_compile_json(c->arena, out->json, &err)
                                      : access_format_compile(c->arena, out->format, &err);
    return out->compiled != NULL || compile_refuse(c, "log_format", "%s", err.text);
}

/* A log that we do not write harms nobody: *written is false for what the table ignores. */
static bool log_of(struct compiler *c, const LOG(AccessLog) * log, struct access_log_config *out,
                   bool *written)
{
    const struct xds_type *type;
    void *message;
    *written = false;
    if (log->config_type_case !=
        ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG) {
        return compile_refuse(c, "typed_config", "is required");
    }
    if (!compile_any(c, "typed_config", log->typed_config, XDS_ACCESS_LOGGER, &type, &message)) {
        return false;
    }
    if (message == NULL) {
        return true;
    }
    if (log->filter != NULL) {
        return compile_refuse(c, "filter", "is not supported");
    }
    *written = true;
    if (type->descriptor == &LOGGER(file__v3__file_access_log)) {
        return COMPILE_IN(c, file_log(c, message, out) && compile_format(c, out), "typed_config");
    }
    if (type->descriptor == &LOGGER(stream__v3__stdout_access_log)) {
        const Envoy__Extensions__AccessLoggers__Stream__V3__StdoutAccessLog *stream = message;
        out->kind = ACCESS_LOG_STDOUT;
        return COMPILE_IN(c, format_of(c, stream->log_format, out) && compile_format(c, out),
                          "typed_config");
    }
    if (type->descriptor == &LOGGER(stream__v3__stderr_access_log)) {
        const Envoy__Extensions__AccessLoggers__Stream__V3__StderrAccessLog *stream = message;
        out->kind = ACCESS_LOG_STDERR;
        return COMPILE_IN(c, format_of(c, stream->log_format, out) && compile_format(c, out),
                          "typed_config");
    }
    return compile_unknown(c, "typed_config", type->url);
}

bool compile_access_logs(struct compiler *c, LOG(AccessLog) *const *logs, size_t count,
                         const struct access_log_config **out, uint16_t *out_count)
{
    struct access_log_config *list = COMPILE_ARRAY(c, struct access_log_config, count);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        bool written;
        if (!COMPILE_IN(c, log_of(c, logs[i], &list[used], &written), "access_log[%zu]", i)) {
            return false;
        }
        used += written;
    }
    *out = list;
    return compile_count(c, "access_log", used, out_count);
}

/* ---- HTTP filters ---- */

/* CORS and faults do nothing without a route's own configuration, which compile_route refuses until
 * it can be done; so the empty filters that Istio always sends are let pass. */
static bool harmless(const struct xds_type *type, const void *message)
{
    if (type->descriptor == &FILTER(cors__v3__cors)) {
        return true;
    }
    if (type->descriptor == &FILTER(fault__v3__httpfault)) {
        const Envoy__Extensions__Filters__Http__Fault__V3__HTTPFault *fault = message;
        return fault->delay == NULL && fault->abort == NULL;
    }
    return false;
}

static bool http_filter(struct compiler *c, const HCM(HttpFilter) * filter, bool last,
                        struct hcm_config *out)
{
    const struct xds_type *type;
    void *message;
    if (!compile_required(c, "name", filter->name)) {
        return false;
    }
    if (filter->disabled) {
        return true;
    }
    if (filter->config_type_case != HCM_IS(HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG)) {
        return filter->is_optional || compile_unknown(c, "config_type", filter->name);
    }
    if (filter->is_optional) {
        type = xds_type_find(filter->typed_config->type_url);
        if (type == NULL || type->verdict != XDS_IMPLEMENT) {
            return true;
        }
    }
    if (!compile_any(c, "typed_config", filter->typed_config, XDS_HTTP_FILTER, &type, &message)) {
        return false;
    }
    if (message == NULL || harmless(type, message)) {
        return true;
    }
    if (type->descriptor != &FILTER(router__v3__router)) {
        return compile_unknown(c, "typed_config", type->url);
    }
    const Envoy__Extensions__Filters__Http__Router__V3__Router *router = message;
    out->suppress_envoy_headers = router->suppress_envoy_headers;
    return last || compile_refuse(c, NULL, "the router must be the last filter");
}

static bool http_filters(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                         struct hcm_config *out)
{
    bool routed = false;
    for (size_t i = 0; i < manager->n_http_filters; i++) {
        const HCM(HttpFilter) *filter = manager->http_filters[i];
        bool last = i + 1 == manager->n_http_filters;
        if (!COMPILE_IN(c, http_filter(c, filter, last, out), "http_filters[%zu]", i)) {
            return false;
        }
        if (last && filter->config_type_case == HCM_IS(HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG)) {
            const struct xds_type *type = xds_type_find(filter->typed_config->type_url);
            routed = type != NULL && type->descriptor == &FILTER(router__v3__router) &&
                     !filter->disabled;
        }
    }
    return routed || compile_refuse(c, "http_filters", "the last filter must be the router");
}

/* ---- the connection manager ---- */

static bool hcm_codec(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                      struct hcm_config *out)
{
    switch (manager->codec_type) {
    case HCM_IS(HTTP_CONNECTION_MANAGER__CODEC_TYPE__AUTO):
        out->codec = CODEC_CHOICE_AUTO;
        return true;
    case HCM_IS(HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP1):
        out->codec = CODEC_CHOICE_HTTP1;
        return true;
    case HCM_IS(HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP2):
        out->codec = CODEC_CHOICE_HTTP2;
        return true;
    default:
        return compile_refuse(c, "codec_type", "has no supported value %d",
                              (int)manager->codec_type);
    }
}

static bool hcm_routes(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                       struct hcm_config *out)
{
    switch (manager->route_specifier_case) {
    case HCM_IS(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG):
        return COMPILE_IN(c, compile_routes(c, manager->route_config, &out->routes),
                          "route_config");
    case HCM_IS(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS):
        out->rds = compile_name(c, manager->rds->route_config_name);
        return manager->rds->config_source != NULL ||
               compile_refuse(c, "rds.config_source", "is required");
    default:
        return compile_refuse(c, NULL, "one of route_config, rds is required");
    }
}

static bool hcm_enums(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                      struct hcm_config *out)
{
    unsigned server = (unsigned)manager->server_header_transformation;
    unsigned xfcc = (unsigned)manager->forward_client_cert_details;
    /* The order of enum xfcc_mode is FORWARD_ONLY before APPEND, like the wire's. */
    if (server > SERVER_HEADER_PASS) {
        return compile_refuse(c, "server_header_transformation", "has no value %u", server);
    }
    if (xfcc > XFCC_ALWAYS) {
        return compile_refuse(c, "forward_client_cert_details", "has no value %u", xfcc);
    }
    out->server_header = (uint8_t)server;
    out->xfcc = (uint8_t)xfcc;
    return true;
}

/* Paths are normalised by the codecs, always and in one way (uri_normalise): what asks for another
 * way is refused, since rules on paths would not see what the application sees. */
static bool hcm_refused(struct compiler *c, const HCM(HttpConnectionManager) * manager)
{
    if (!compile_bool(manager->normalize_path, true)) {
        return compile_refuse(c, "normalize_path", "false is not supported");
    }
    if (manager->merge_slashes) {
        return compile_refuse(c, "merge_slashes", "is not supported");
    }
    if (manager->path_with_escaped_slashes_action >
        HCM_IS(HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__KEEP_UNCHANGED)) {
        return compile_refuse(c, "path_with_escaped_slashes_action",
                              "only KEEP_UNCHANGED is supported");
    }
    uint64_t limit_us = 0;
    if (!compile_duration(c, "request_timeout", manager->request_timeout, 0, &limit_us)) {
        return false;
    }
    return limit_us == 0 || compile_refuse(c, "request_timeout",
                                           "is not supported; a route's "
                                           "timeout is");
}

static bool hcm_times(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                      struct hcm_config *out)
{
    const CORE(HttpProtocolOptions) *common = manager->common_http_protocol_options;
    return compile_duration(c, "stream_idle_timeout", manager->stream_idle_timeout, STREAM_IDLE_US,
                            &out->stream_idle_us) &&
           compile_duration(c, "request_headers_timeout", manager->request_headers_timeout, 0,
                            &out->request_headers_timeout_us) &&
           compile_duration(c, "drain_timeout", manager->drain_timeout, DRAIN_US, &out->drain_us) &&
           compile_duration(c, "common_http_protocol_options.idle_timeout",
                            common != NULL ? common->idle_timeout : NULL, IDLE_US, &out->idle_us) &&
           compile_duration(c, "common_http_protocol_options.max_connection_duration",
                            common != NULL ? common->max_connection_duration : NULL, 0,
                            &out->max_connection_us) &&
           compile_duration(c, "common_http_protocol_options.max_stream_duration",
                            common != NULL ? common->max_stream_duration : NULL, 0,
                            &out->max_stream_us);
}

static bool hcm_limits(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                       struct hcm_config *out)
{
    const CORE(HttpProtocolOptions) *common = manager->common_http_protocol_options;
    const CORE(Http2ProtocolOptions) *http2 = manager->http2_protocol_options;
    uint32_t head_kb;
    if (!compile_u32(c, "max_request_headers_kb", manager->max_request_headers_kb, HEAD_KB, 1, 8192,
                     &head_kb)) {
        return false;
    }
    out->max_head_bytes = head_kb * 1024;
    out->allow_connect = http2 != NULL && http2->allow_connect;
    return compile_u32(c, "common_http_protocol_options.max_headers_count",
                       common != NULL ? common->max_headers_count : NULL, HEAD_COUNT, 1, UINT32_MAX,
                       &out->max_head_count) &&
           compile_u32(c, "common_http_protocol_options.max_requests_per_connection",
                       common != NULL ? common->max_requests_per_connection : NULL, 0, 0,
                       UINT32_MAX, &out->max_requests_per_connection) &&
           compile_u32(c, "http2_protocol_options.max_concurrent_streams",
                       http2 != NULL ? http2->max_concurrent_streams : NULL, STREAMS_ABSENT, 1,
                       STREAMS_MAX, &out->max_streams);
}

static void hcm_switches(const HCM(HttpConnectionManager) * manager, struct hcm_config *out)
{
    const HCM(HttpConnectionManager__SetCurrentClientCertDetails) *set =
        manager->set_current_client_cert_details;
    const CORE(Http1ProtocolOptions) *http1 = manager->http_protocol_options;
    out->use_remote_address = compile_bool(manager->use_remote_address, false);
    out->generate_request_id = compile_bool(manager->generate_request_id, true);
    out->xff_trusted_hops = manager->xff_num_trusted_hops;
    out->strip_port = manager->strip_matching_host_port;
    out->strip_any_port =
        manager->strip_port_mode_case ==
            HCM_IS(HTTP_CONNECTION_MANAGER__STRIP_PORT_MODE_STRIP_ANY_HOST_PORT) &&
        manager->strip_any_host_port;
    out->accept_http_10 = http1 != NULL && http1->accept_http_10;
    out->trailers = http1 != NULL && http1->enable_trailers;
    if (set != NULL) {
        out->xfcc_subject = compile_bool(set->subject, false);
        out->xfcc_cert = set->cert;
        out->xfcc_chain = set->chain;
        out->xfcc_dns = set->dns;
        out->xfcc_uri = set->uri;
    }
}

static bool hcm_upgrades(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                         struct hcm_config *out)
{
    struct upgrade_config *list =
        COMPILE_ARRAY(c, struct upgrade_config, manager->n_upgrade_configs);
    for (size_t i = 0; i < manager->n_upgrade_configs; i++) {
        list[i].type = compile_name(c, manager->upgrade_configs[i]->upgrade_type);
        list[i].enabled = compile_bool(manager->upgrade_configs[i]->enabled, true);
    }
    out->upgrades = list;
    return compile_count(c, "upgrade_configs", manager->n_upgrade_configs, &out->upgrade_count);
}

/* Without a tracing object nothing is sampled here; a caller's own decision is still honoured. */
static bool hcm_tracing(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                        struct hcm_config *out)
{
    double percent = 100;
    out->sampling_ppm = UINT32_MAX;
    if (manager->tracing == NULL) {
        return true;
    }
    if (!compile_percent(c, "tracing.random_sampling", manager->tracing->random_sampling, 100,
                         &percent)) {
        return false;
    }
    out->sampling_ppm = (uint32_t)(percent * 10000 + 0.5);
    return true;
}

bool compile_hcm(struct compiler *c, const HCM(HttpConnectionManager) * manager,
                 struct hcm_config *out)
{
    if (!compile_required(c, "stat_prefix", manager->stat_prefix)) {
        return false;
    }
    out->stat_prefix = compile_name(c, manager->stat_prefix);
    out->server_name =
        compile_name(c, manager->server_name[0] != '\0' ? manager->server_name : "envoy");
    if (manager->local_reply_config != NULL) {
        return compile_refuse(c, "local_reply_config", "is not supported");
    }
    if (manager->n_original_ip_detection_extensions > 0) {
        return compile_unknown(c, "original_ip_detection_extensions",
                               "original_ip_detection_extensions");
    }
    if (manager->append_x_forwarded_port) {
        return compile_refuse(c, "append_x_forwarded_port", "is not supported");
    }
    hcm_switches(manager, out);
    return hcm_codec(c, manager, out) && hcm_enums(c, manager, out) && hcm_refused(c, manager) &&
           hcm_times(c, manager, out) && hcm_limits(c, manager, out) &&
           hcm_upgrades(c, manager, out) && hcm_tracing(c, manager, out) &&
           compile_access_logs(c, manager->access_log, manager->n_access_log, &out->access_logs,
                               &out->access_log_count) &&
           http_filters(c, manager, out) && hcm_routes(c, manager, out);
}

/* ---- opaque TCP ---- */

static bool tcp_targets(struct compiler *c, const TCP(TcpProxy) * proxy, struct tcp_config *out)
{
    struct tcp_target *targets;
    if (proxy->cluster_specifier_case == TCP_IS(TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER)) {
        targets = ARENA_NEW(c->arena, struct tcp_target);
        *targets = (struct tcp_target){compile_name(c, proxy->cluster), 1};
        out->targets = targets;
        out->target_count = 1;
        return compile_required(c, "cluster", proxy->cluster);
    }
    if (proxy->cluster_specifier_case != TCP_IS(TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS)) {
        return compile_refuse(c, NULL, "one of cluster, weighted_clusters is required");
    }
    const TCP(TcpProxy__WeightedCluster) *weighted = proxy->weighted_clusters;
    if (weighted->n_clusters == 0) {
        return compile_refuse(c, "weighted_clusters.clusters", "must not be empty");
    }
    targets = COMPILE_ARRAY(c, struct tcp_target, weighted->n_clusters);
    uint64_t sum = 0;
    for (size_t i = 0; i < weighted->n_clusters; i++) {
        targets[i].cluster = compile_name(c, weighted->clusters[i]->name);
        targets[i].weight = weighted->clusters[i]->weight;
        sum += targets[i].weight;
        if (targets[i].cluster.len == 0 || targets[i].weight == 0) {
            return compile_refuse(c, "weighted_clusters", "[%zu] needs a name and a weight", i);
        }
    }
    out->targets = targets;
    return (sum <= UINT32_MAX ||
            compile_refuse(c, "weighted_clusters", "the weights' sum is above 4294967295")) &&
           compile_count(c, "weighted_clusters", weighted->n_clusters, &out->target_count);
}

bool compile_tcp_proxy(struct compiler *c, const TCP(TcpProxy) * proxy, struct tcp_config *out)
{
    if (!compile_required(c, "stat_prefix", proxy->stat_prefix)) {
        return false;
    }
    out->stat_prefix = compile_name(c, proxy->stat_prefix);
    if (proxy->on_demand != NULL) {
        return compile_refuse(c, "on_demand", "is not supported");
    }
    if (proxy->tunneling_config != NULL) {
        out->tunnel_host = compile_text(c, proxy->tunneling_config->hostname);
        out->tunnel_post = proxy->tunneling_config->use_post;
        if (!compile_required(c, "tunneling_config.hostname", proxy->tunneling_config->hostname)) {
            return false;
        }
        if (proxy->tunneling_config->n_headers_to_add > 0) {
            return compile_refuse(c, "tunneling_config.headers_to_add", "is not supported");
        }
    }
    return tcp_targets(c, proxy, out) &&
           compile_u32(c, "max_connect_attempts", proxy->max_connect_attempts, 0, 1, UINT32_MAX,
                       &out->max_attempts) &&
           compile_duration(c, "idle_timeout", proxy->idle_timeout, IDLE_US, &out->idle_us) &&
           compile_duration(c, "max_downstream_connection_duration",
                            proxy->max_downstream_connection_duration, 0,
                            &out->max_connection_us) &&
           compile_access_logs(c, proxy->access_log, proxy->n_access_log, &out->access_logs,
                               &out->access_log_count);
}
