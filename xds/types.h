#pragma once
/* THE table of the type URLs that Pillion knows: what each is, where it may stand, and what becomes
 * of it. Extensions are found by type URL alone, never by the name that a filter goes under: names
 * are free, and control planes differ in them. Adding a type is one line below. Constant data; any
 * thread. */

#include <protobuf-c/protobuf-c.h>

#include "base/check.h"

/* Where the message may stand. */
#define XDS_KINDS(X)                                                                               \
    X(RESOURCE, "resource") /* answers a subscription; has a rank */                               \
    X(LISTENER_FILTER, "listener filter")                                                          \
    X(NETWORK_FILTER, "network filter")                                                            \
    X(HTTP_FILTER, "HTTP filter")       /* also in typed_per_filter_config */                      \
    X(ROUTE_FILTER, "per-route filter") /* in typed_per_filter_config only */                      \
    X(TRANSPORT_SOCKET, "transport socket")                                                        \
    X(ACCESS_LOGGER, "access logger")                                                              \
    X(TRACER, "tracer")                                                                            \
    X(PROTOCOL_OPTIONS, "protocol options") /* in typed_extension_protocol_options */              \
    X(RETRY_HOST_PREDICATE, "retry host predicate")                                                \
    X(RETRY_PRIORITY, "retry priority")                                                            \
    X(REQUEST_ID, "request id extension")                                                          \
    X(LB_POLICY, "load balancing policy")                                                          \
    X(CLUSTER_TYPE, "cluster type")                                                                \
    X(VALIDATOR, "certificate validator")                                                          \
    X(MATCHER, "matcher")                                                                          \
    X(VALUE, "value") /* data: in metadata, or wrapping something else */

/* What becomes of it (a type that is not in the table is refused too, as unknown). */
#define XDS_VERDICTS(X)                                                                            \
    X(IMPLEMENT) /* compiled; what cannot be done of it is refused by field */                     \
    X(IGNORE)    /* known to be harmless: skipped */                                               \
    X(REFUSE)    /* known, not done: never skipped in silence */

/* Type URLs of resources, in the order in which a control plane must send them
 * (make before break: a route never names a cluster that has not come). */
#define XDS_RESOURCES(X)                                                                           \
    X(CLUSTER, "CDS", IMPLEMENT, envoy__config__cluster__v3__cluster,                              \
      "envoy.config.cluster.v3.Cluster")                                                           \
    X(ENDPOINTS, "EDS", IMPLEMENT, envoy__config__endpoint__v3__cluster_load_assignment,           \
      "envoy.config.endpoint.v3.ClusterLoadAssignment")                                            \
    X(LISTENER, "LDS", IMPLEMENT, envoy__config__listener__v3__listener,                           \
      "envoy.config.listener.v3.Listener")                                                         \
    X(ROUTES, "RDS", IMPLEMENT, envoy__config__route__v3__route_configuration,                     \
      "envoy.config.route.v3.RouteConfiguration")                                                  \
    X(VIRTUAL_HOST, "VHDS", REFUSE, envoy__config__route__v3__virtual_host,                        \
      "envoy.config.route.v3.VirtualHost")                                                         \
    X(SECRET, "SDS", IMPLEMENT, envoy__extensions__transport_sockets__tls__v3__secret,             \
      "envoy.extensions.transport_sockets.tls.v3.Secret")                                          \
    X(EXTENSION, "ECDS", REFUSE, envoy__config__core__v3__typed_extension_config,                  \
      "envoy.config.core.v3.TypedExtensionConfig")                                                 \
    X(DESTINATION, "destinations", IMPLEMENT, pillion__config__v1__destination,                    \
      "pillion.config.v1.Destination")

enum xds_kind {
#define X(name, text) XDS_##name,
    XDS_KINDS(X)
#undef X
};

enum xds_verdict {
#define X(name) XDS_##name,
    XDS_VERDICTS(X)
#undef X
};

/* Index of a resource type: small, dense, in sending order. */
enum xds_resource {
#define X(name, ...) XDS_RESOURCE_##name,
    XDS_RESOURCES(X)
#undef X
        XDS_RESOURCE_COUNT,
};

struct xds_type {
    const char *url;        /* "type.googleapis.com/" + the message's full name */
    const char *short_name; /* for logs: "CDS", "http router" */
    const ProtobufCMessageDescriptor *descriptor; /* null: known by URL only */
    enum xds_kind kind;
    enum xds_verdict verdict;
    enum xds_resource resource; /* of XDS_RESOURCE kind; else XDS_RESOURCE_COUNT */
};

/* The type that the URL names by its last segment, or null when it is not in the table. */
const struct xds_type *xds_type_find(const char *type_url);
/* Of a resource; never null. */
const struct xds_type *xds_type_of_resource(enum xds_resource resource);
/* The whole table, for tests and documentation. */
const struct xds_type *xds_types(size_t *count);

const char *xds_kind_name(enum xds_kind kind);
const char *xds_verdict_name(enum xds_verdict verdict);
