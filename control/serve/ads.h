#pragma once
/* xDS over gRPC: one stream of a client is one step machine (xds/ads_server) over one view of the
 * mesh (control/serve/view). Who asks is decided once for a stream, at its beginning: by the
 * client's certificate, else by its token, else (on the plain port) not at all; the node that it
 * then names must agree. Everything belongs to the loop's thread.
 *
 * When the picture changes every stream looks at what it is subscribed to again, and is sent what
 * differs. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "control/picture.h"
#include "control/serve/credentials.h"
#include "control/serve/view.h"
#include "http/server.h"
#include "xds/ads_server.h"

struct loop;
struct metrics;
struct metrics_shard;

/* What a client may open: path, protocol, type (XDS_RESOURCE_COUNT: all, aggregated). */
#define ADS_SERVICES(X)                                                                            \
    X("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",           \
      ADS_DELTA, XDS_RESOURCE_COUNT)                                                               \
    X("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",          \
      ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_COUNT)                                                  \
    X("/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners", ADS_DELTA,             \
      XDS_RESOURCE_LISTENER)                                                                       \
    X("/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",                       \
      ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_LISTENER)                                               \
    X("/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes", ADS_DELTA, XDS_RESOURCE_ROUTES) \
    X("/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes", ADS_STATE_OF_THE_WORLD,        \
      XDS_RESOURCE_ROUTES)                                                                         \
    X("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters", ADS_DELTA,                \
      XDS_RESOURCE_CLUSTER)                                                                        \
    X("/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters", ADS_STATE_OF_THE_WORLD,  \
      XDS_RESOURCE_CLUSTER)                                                                        \
    X("/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints", ADS_DELTA,             \
      XDS_RESOURCE_ENDPOINTS)                                                                      \
    X("/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",                       \
      ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_ENDPOINTS)

#define ADS_REQUEST_BYTES ((uint32_t)4 << 20) /* of one request; names fill it, at most */

struct ads;

/* What /metrics shows of it. */
struct ads_counts {
    uint32_t streams;
    uint64_t opened;
    uint64_t refused;  /* streams, for their credentials or their node */
    uint64_t pushes;   /* responses sent */
    uint64_t rejected; /* responses that a client rejected */
};

/* All borrowed, and outliving it. `progress` (may be null) is posted when a client has come, gone
 * or answered. `seed` is secret, since clients choose the names that are hashed. */
struct ads *ads_new(struct loop *loop, const struct picture *picture,
                    const struct credentials *credentials, struct task *progress,
                    uint64_t seed) MUST_USE;
/* Ends all streams with UNAVAILABLE. */
void ads_free(struct ads **ads);

/* Of a row of ADS_SERVICES. */
void ads_accept_take(struct ads *ads, struct grpc_stream **stream);
/* The picture is another one. A client whose node does not agree with its credentials any more
 * loses its stream. */
void ads_picture_changed(struct ads *ads);
struct ads_counts ads_get_counts(const struct ads *ads);

/* A client, for those who look. Borrowed for the call. */
struct ads_client {
    const struct ads_stream *stream;
    struct view *view;
    const struct view_node *node; /* id is "" until its first request */
    struct slice identity;        /* empty: not proved */
    struct slice uid;
    struct addr peer;
    uint64_t since_us;           /* wall time */
    uint64_t acknowledged_us;    /* wall time of its last answer that left none due; 0: never */
    uint64_t certificate_end_us; /* of the one it came with, wall time; 0: none */
    bool delta;
};
void ads_each_client(const struct ads *ads, void (*show)(void *to, const struct ads_client *client),
                     void *to);
