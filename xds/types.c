#include "xds/types.h"

#include <string.h>

#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/trace/v3/trace.pb-c.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "envoy/extensions/access_loggers/open_telemetry/v3/open_telemetry.pb-c.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb-c.h"
#include "envoy/extensions/clusters/aggregate/v3/aggregate.pb-c.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb-c.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb-c.h"
#include "envoy/extensions/filters/http/grpc_stats/v3/grpc_stats.pb-c.h"
#include "envoy/extensions/filters/http/jwt_authn/v3/jwt_authn.pb-c.h"
#include "envoy/extensions/filters/http/local_ratelimit/v3/local_ratelimit.pb-c.h"
#include "envoy/extensions/filters/http/on_demand/v3/on_demand.pb-c.h"
#include "envoy/extensions/filters/http/rbac/v3/rbac.pb-c.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb-c.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb-c.h"
#include "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.pb-c.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "envoy/extensions/filters/network/local_ratelimit/v3/local_ratelimit.pb-c.h"
#include "envoy/extensions/filters/network/rbac/v3/rbac.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.pb-c.h"
#include "envoy/extensions/load_balancing_policies/least_request/v3/least_request.pb-c.h"
#include "envoy/extensions/load_balancing_policies/pick_first/v3/pick_first.pb-c.h"
#include "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.pb-c.h"
#include "envoy/extensions/path/match/uri_template/v3/uri_template.pb-c.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb-c.h"
#include "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.pb-c.h"
#include "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities.pb-c.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "envoy/extensions/upstreams/http/v3/http.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "pillion/config/v1/destination.pb-c.h"
#include "udpa/type/v1/type.pb-c.h"

#include "xds/type/matcher/v3/matcher.pb-c.h"
#include "xds/type/v3/type.pb-c.h"

#define PREFIX "type.googleapis.com/"

/* Extensions with a message: kind, name for logs, verdict, descriptor, full name. */
#define EXTENSIONS(X)                                                                                                     \
    X(LISTENER_FILTER, "original_dst", IMPLEMENT,                                                                         \
      envoy__extensions__filters__listener__original_dst__v3__original_dst,                                               \
      "envoy.extensions.filters.listener.original_dst.v3.OriginalDst")                                                    \
    X(LISTENER_FILTER, "tls_inspector", IMPLEMENT,                                                                        \
      envoy__extensions__filters__listener__tls_inspector__v3__tls_inspector,                                             \
      "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")                                                  \
    X(LISTENER_FILTER, "http_inspector", IMPLEMENT,                                                                       \
      envoy__extensions__filters__listener__http_inspector__v3__http_inspector,                                           \
      "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")                                                \
    X(LISTENER_FILTER, "proxy_protocol", REFUSE,                                                                          \
      envoy__extensions__filters__listener__proxy_protocol__v3__proxy_protocol,                                           \
      "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")                                                \
    X(NETWORK_FILTER, "http_connection_manager", IMPLEMENT,                                                               \
      envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager,                          \
      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")                                \
    X(NETWORK_FILTER, "tcp_proxy", IMPLEMENT,                                                                             \
      envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy,                                                      \
      "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")                                                           \
    X(NETWORK_FILTER, "network rbac", IMPLEMENT,                                                                          \
      envoy__extensions__filters__network__rbac__v3__rbac,                                                                \
      "envoy.extensions.filters.network.rbac.v3.RBAC")                                                                    \
    X(NETWORK_FILTER, "network local_ratelimit", REFUSE,                                                                  \
      envoy__extensions__filters__network__local_ratelimit__v3__local_rate_limit,                                         \
      "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit")                                               \
    X(HTTP_FILTER, "router", IMPLEMENT, envoy__extensions__filters__http__router__v3__router,                             \
      "envoy.extensions.filters.http.router.v3.Router")                                                                   \
    X(HTTP_FILTER, "cors", IMPLEMENT, envoy__extensions__filters__http__cors__v3__cors,                                   \
      "envoy.extensions.filters.http.cors.v3.Cors")                                                                       \
    X(ROUTE_FILTER, "cors policy", IMPLEMENT,                                                                             \
      envoy__extensions__filters__http__cors__v3__cors_policy,                                                            \
      "envoy.extensions.filters.http.cors.v3.CorsPolicy")                                                                 \
    X(HTTP_FILTER, "fault", IMPLEMENT, envoy__extensions__filters__http__fault__v3__httpfault,                            \
      "envoy.extensions.filters.http.fault.v3.HTTPFault")                                                                 \
    X(HTTP_FILTER, "rbac", IMPLEMENT, envoy__extensions__filters__http__rbac__v3__rbac,                                   \
      "envoy.extensions.filters.http.rbac.v3.RBAC")                                                                       \
    X(ROUTE_FILTER, "rbac of a route", IMPLEMENT,                                                                         \
      envoy__extensions__filters__http__rbac__v3__rbacper_route,                                                          \
      "envoy.extensions.filters.http.rbac.v3.RBACPerRoute")                                                               \
    X(HTTP_FILTER, "jwt_authn", IMPLEMENT,                                                                                \
      envoy__extensions__filters__http__jwt_authn__v3__jwt_authentication,                                                \
      "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication")                                                     \
    X(HTTP_FILTER, "local_ratelimit", IMPLEMENT,                                                                          \
      envoy__extensions__filters__http__local_ratelimit__v3__local_rate_limit,                                            \
      "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit")                                                  \
    X(HTTP_FILTER, "grpc_stats", IGNORE,                                                                                  \
      envoy__extensions__filters__http__grpc_stats__v3__filter_config,                                                    \
      "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig")                                                         \
    X(HTTP_FILTER, "on_demand", REFUSE,                                                                                   \
      envoy__extensions__filters__http__on_demand__v3__on_demand,                                                         \
      "envoy.extensions.filters.http.on_demand.v3.OnDemand")                                                              \
    X(ROUTE_FILTER, "filter config", IMPLEMENT, envoy__config__route__v3__filter_config,                                  \
      "envoy.config.route.v3.FilterConfig")                                                                               \
    X(TRANSPORT_SOCKET, "upstream tls", IMPLEMENT,                                                                        \
      envoy__extensions__transport_sockets__tls__v3__upstream_tls_context,                                                \
      "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext")                                                     \
    X(TRANSPORT_SOCKET, "downstream tls", IMPLEMENT,                                                                      \
      envoy__extensions__transport_sockets__tls__v3__downstream_tls_context,                                              \
      "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext")                                                   \
    X(TRANSPORT_SOCKET, "raw_buffer", IMPLEMENT,                                                                          \
      envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer,                                                   \
      "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")                                                       \
    X(ACCESS_LOGGER, "file access log", IMPLEMENT,                                                                        \
      envoy__extensions__access_loggers__file__v3__file_access_log,                                                       \
      "envoy.extensions.access_loggers.file.v3.FileAccessLog")                                                            \
    X(ACCESS_LOGGER, "stdout access log", IMPLEMENT,                                                                      \
      envoy__extensions__access_loggers__stream__v3__stdout_access_log,                                                   \
      "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog")                                                        \
    X(ACCESS_LOGGER, "stderr access log", IMPLEMENT,                                                                      \
      envoy__extensions__access_loggers__stream__v3__stderr_access_log,                                                   \
      "envoy.extensions.access_loggers.stream.v3.StderrAccessLog")                                                        \
    X(ACCESS_LOGGER, "open_telemetry access log", IGNORE,                                                                 \
      envoy__extensions__access_loggers__open_telemetry__v3__open_telemetry_access_log_config,                            \
      "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig")                                   \
    X(TRACER, "open_telemetry", IMPLEMENT, envoy__config__trace__v3__open_telemetry_config,                               \
      "envoy.config.trace.v3.OpenTelemetryConfig")                                                                        \
    X(TRACER, "zipkin", IGNORE, envoy__config__trace__v3__zipkin_config,                                                  \
      "envoy.config.trace.v3.ZipkinConfig")                                                                               \
    X(PROTOCOL_OPTIONS, "http protocol options", IMPLEMENT,                                                               \
      envoy__extensions__upstreams__http__v3__http_protocol_options,                                                      \
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")                                                           \
    X(RETRY_HOST_PREDICATE, "previous_hosts", IMPLEMENT,                                                                  \
      envoy__extensions__retry__host__previous_hosts__v3__previous_hosts_predicate,                                       \
      "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")                                             \
    X(RETRY_PRIORITY, "previous_priorities", IMPLEMENT,                                                                   \
      envoy__extensions__retry__priority__previous_priorities__v3__previous_priorities_config,                            \
      "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig")                                  \
    X(REQUEST_ID, "uuid", IMPLEMENT,                                                                                      \
      envoy__extensions__request_id__uuid__v3__uuid_request_id_config,                                                    \
      "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig")                                                          \
    X(LB_POLICY, "round_robin", IMPLEMENT,                                                                                \
      envoy__extensions__load_balancing_policies__round_robin__v3__round_robin,                                           \
      "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin")                                               \
    X(LB_POLICY, "least_request", IMPLEMENT,                                                                              \
      envoy__extensions__load_balancing_policies__least_request__v3__least_request,                                       \
      "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest")                                           \
    X(LB_POLICY, "ring_hash", REFUSE,                                                                                     \
      envoy__extensions__load_balancing_policies__ring_hash__v3__ring_hash,                                               \
      "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash")                                                   \
    X(LB_POLICY, "pick_first", REFUSE,                                                                                    \
      envoy__extensions__load_balancing_policies__pick_first__v3__pick_first,                                             \
      "envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst")                                                 \
    X(LB_POLICY, "wrr_locality", REFUSE,                                                                                  \
      envoy__extensions__load_balancing_policies__wrr_locality__v3__wrr_locality,                                         \
      "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality")                                             \
    X(LB_POLICY, "client_side_weighted_round_robin", REFUSE,                                                              \
      envoy__extensions__load_balancing_policies__client_side_weighted_round_robin__v3__client_side_weighted_round_robin, \
      "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3."                                     \
      "ClientSideWeightedRoundRobin")                                                                                     \
    X(CLUSTER_TYPE, "aggregate", REFUSE,                                                                                  \
      envoy__extensions__clusters__aggregate__v3__cluster_config,                                                         \
      "envoy.extensions.clusters.aggregate.v3.ClusterConfig")                                                             \
    X(VALIDATOR, "spiffe", REFUSE,                                                                                        \
      envoy__extensions__transport_sockets__tls__v3__spiffecert_validator_config,                                         \
      "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig")                                              \
    X(MATCHER, "uri_template", REFUSE,                                                                                    \
      envoy__extensions__path__match__uri_template__v3__uri_template_match_config,                                        \
      "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig")                                               \
    X(MATCHER, "ip matcher", REFUSE, xds__type__matcher__v3__ipmatcher,                                                   \
      "xds.type.matcher.v3.IPMatcher")                                                                                    \
    X(VALUE, "bootstrap", IMPLEMENT, envoy__config__bootstrap__v3__bootstrap,                                             \
      "envoy.config.bootstrap.v3.Bootstrap")                                                                              \
    X(VALUE, "TypedStruct", IMPLEMENT, xds__type__v3__typed_struct, "xds.type.v3.TypedStruct")                            \
    X(VALUE, "TypedStruct", IMPLEMENT, udpa__type__v1__typed_struct, "udpa.type.v1.TypedStruct")                          \
    X(VALUE, "Struct", IMPLEMENT, google__protobuf__struct, "google.protobuf.Struct")                                     \
    X(VALUE, "Value", IMPLEMENT, google__protobuf__value, "google.protobuf.Value")                                        \
    X(VALUE, "Duration", IMPLEMENT, google__protobuf__duration, "google.protobuf.Duration")                               \
    X(VALUE, "StringValue", IMPLEMENT, google__protobuf__string_value,                                                    \
      "google.protobuf.StringValue")                                                                                      \
    X(VALUE, "BoolValue", IMPLEMENT, google__protobuf__bool_value, "google.protobuf.BoolValue")                           \
    X(VALUE, "UInt32Value", IMPLEMENT, google__protobuf__uint32_value,                                                    \
      "google.protobuf.UInt32Value")

/* Known by URL alone: kind, name, verdict, full name. The first two come inside a TypedStruct. */
#define BY_URL(X)                                                                                  \
    X(HTTP_FILTER, "peer_metadata", IGNORE, "io.istio.http.peer_metadata.Config")                  \
    X(NETWORK_FILTER, "metadata_exchange", IGNORE,                                                 \
      "envoy.tcp.metadataexchange.config.MetadataExchange")                                        \
    X(HTTP_FILTER, "istio.stats", IGNORE, "stats.PluginConfig")                                    \
    X(HTTP_FILTER, "ext_authz", REFUSE, "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz")     \
    X(NETWORK_FILTER, "ext_authz", REFUSE,                                                         \
      "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz")                                    \
    X(HTTP_FILTER, "ext_proc", REFUSE,                                                             \
      "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor")                               \
    X(HTTP_FILTER, "wasm", REFUSE, "envoy.extensions.filters.http.wasm.v3.Wasm")                   \
    X(HTTP_FILTER, "lua", REFUSE, "envoy.extensions.filters.http.lua.v3.Lua")

/* clang-format off */
static const struct xds_type types[] = {
#define X(id, name, judgement, message, full) \
    {PREFIX full, name, &message##__descriptor, XDS_RESOURCE, XDS_##judgement, XDS_RESOURCE_##id},
    XDS_RESOURCES(X)
#undef X
#define X(where, name, judgement, message, full) \
    {PREFIX full, name, &message##__descriptor, XDS_##where, XDS_##judgement, XDS_RESOURCE_COUNT},
    EXTENSIONS(X)
#undef X
#define X(where, name, judgement, full) \
    {PREFIX full, name, NULL, XDS_##where, XDS_##judgement, XDS_RESOURCE_COUNT},
    BY_URL(X)
#undef X
};
/* clang-format on */

static_assert(COUNT_OF(types) > XDS_RESOURCE_COUNT, "resources come first in the table");

const struct xds_type *xds_type_find(const char *type_url)
{
    CHECK(type_url != NULL);
    const char *slash = strrchr(type_url, '/');
    if (slash == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (strcmp(types[i].url + sizeof PREFIX - 1, slash + 1) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

const struct xds_type *xds_type_of_resource(enum xds_resource resource)
{
    CHECK(resource < XDS_RESOURCE_COUNT);
    return &types[resource];
}

const struct xds_type *xds_types(size_t *count)
{
    *count = COUNT_OF(types);
    return types;
}

const char *xds_kind_name(enum xds_kind kind)
{
    switch (kind) {
#define X(name, text)                                                                              \
    case XDS_##name:                                                                               \
        return text;
        XDS_KINDS(X)
#undef X
    }
    check_failed("the kind is one of XDS_KINDS", __FILE__, __LINE__);
}

const char *xds_verdict_name(enum xds_verdict verdict)
{
    switch (verdict) {
#define X(name)                                                                                    \
    case XDS_##name:                                                                               \
        return #name;
        XDS_VERDICTS(X)
#undef X
    }
    check_failed("the verdict is one of XDS_VERDICTS", __FILE__, __LINE__);
}
