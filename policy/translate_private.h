#pragma once
/* What the files of translate share: one resource on its way, and the small messages of which all
 * of Envoy's are made. Types and constants of the generated headers go by short names here.
 * Private to policy/. */

#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/core.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "pillion/config/v1/destination.pb-c.h"

#include "policy/array.h"
#include "policy/translate.h"

#define CORE(type)       Envoy__Config__Core__V3__##type
#define CORE_IS(name)    ENVOY__CONFIG__CORE__V3__##name
#define ROUTE(type)      Envoy__Config__Route__V3__##type
#define ROUTE_IS(name)   ENVOY__CONFIG__ROUTE__V3__##name
#define CLUSTER(type)    Envoy__Config__Cluster__V3__##type
#define CLUSTER_IS(name) ENVOY__CONFIG__CLUSTER__V3__##name
#define ENDPOINT(type)   Envoy__Config__Endpoint__V3__##type
#define LISTENER(type)   Envoy__Config__Listener__V3__##type

/* A fresh message in the arena: MESSAGE(arena, envoy__config__core__v3__address). */
#define MESSAGE(arena, name) pb_new(arena, &name##__descriptor)

/* For whom a message is made. What stands in a Destination is read by pillion-sidecar only; the
 * named resources by gRPC (which refuses what it does not know) and by Envoy. */
enum translate_form { TRANSLATE_FORM_DESTINATION, TRANSLATE_FORM_NAMED };

/* One resource on its way. */
struct translation {
    const struct model *model;
    const struct translate_node *node;
    struct arena *arena;
    const struct object **objects; /* that were looked at */
    size_t object_count;
};

/* A service's port, as something that can be called: HOST:PORT, whether it exists or not. */
struct place {
    const char *host;                    /* whole name */
    const struct model_service *service; /* null: no Service has that name */
    const struct model_port *port;       /* null: the service has no such port */
    uint32_t number;
};

/* The settings of a DestinationRule for one place and subset; null: not set. */
struct settings {
    const struct object *rule; /* null: none holds */
    const struct load_balancer *load_balancer;
    const struct connection_pool *connection_pool;
    const struct outlier_detection *outlier_detection;
    const struct client_tls *tls;
    const struct subset *subset; /* null: none was asked for, or the rule has none of that name */
    uint32_t line;               /* of the subset, else of the rule */
};

/* What a metric says of it, as istio.workload has it: "name;namespace;canonical service;canonical
 * revision;cluster". */
const char *workload_text(struct arena *arena, const struct model_workload *workload);
/* A resource is made from this object; null is ignored. */
void translation_uses(struct translation *t, const struct object *object);

void rules_used(struct translation *t, struct model_rules rules);

struct place place_of(const struct translation *t, const char *host, uint32_t number);
struct settings settings_of(struct translation *t, const struct place *place, const char *subset);
/* "outbound|8000|v1|order-service.default.svc.cluster.local"; subset may be null. */
const char *cluster_name_of(struct arena *arena, const struct place *place, const char *subset);

/* ---- resources; null when there is nothing of that name ---- */

/* subset may be null. */
CLUSTER(Cluster) * make_cluster(struct translation *t, const struct place *place,
                                const char *subset, enum translate_form form);
/* Towards one workload, with its address inside; `served` null: nobody's port. */
CLUSTER(Cluster) * make_workload_cluster(struct translation *t,
                                         const struct model_workload *workload, uint32_t port,
                                         const struct model_served *served);
/* "inbound|PORT||" for a port of the application, and the fixed ones. */
CLUSTER(Cluster) * make_inbound_cluster(struct translation *t, uint32_t port);
CLUSTER(Cluster) * make_fixed_cluster(struct translation *t, const char *name);
ENDPOINT(ClusterLoadAssignment) *
    make_endpoints(struct translation *t, const struct place *place, const char *subset);
ENDPOINT(LbEndpoint) *
    make_endpoint(struct translation *t, const struct model_workload *workload, uint32_t port);

/* A cluster that a route names. */
struct route_cluster {
    struct place place;
    const char *subset; /* null: none */
    const char *name;
};

struct route_clusters {
    struct route_cluster *at;
    size_t count;
};

/* The table of a place for this node; every cluster that it names, once, in `clusters`, which may
 * be null. `*ruled` is true when a VirtualService made it; may be null. */
ROUTE(RouteConfiguration) * make_routes(struct translation *t, const struct place *place,
                                        enum translate_form form, struct route_clusters *clusters,
                                        bool *ruled);
/* One route to one cluster with all defaults written out. */
ROUTE(Route) * make_default_route(struct translation *t, const char *cluster,
                                  const struct object *object, uint32_t line,
                                  enum translate_form form);

/* The cluster that a destination of this VirtualService means, noted in `clusters`. */
const char *route_target_cluster(struct translation *t, const struct place *place,
                                 const struct object *object, const struct route_target *target,
                                 struct route_clusters *clusters);
/* Adds what tls: and tcp: of the place's VirtualService say to the answer. */
void make_tcp_routes(struct translation *t, const struct place *place,
                     Pillion__Config__V1__Destination *answer, struct route_clusters *clusters);

LISTENER(Listener) * make_inbound_listener(struct translation *t);
LISTENER(Listener) *
    make_api_listener(struct translation *t, const char *name, const struct place *place);
/* Ports of the application at which this node has chains of its own, ascending. */
struct inbound_port {
    uint32_t number;
    const struct model_served *served; /* null: only a PeerAuthentication names it */
};
const struct inbound_port *inbound_ports(struct translation *t, size_t *count);

/* Fills in aliases. Null: a negative answer. */
Pillion__Config__V1__Destination *make_destination(struct translation *t, const char *name,
                                                   struct translate_result *result);

/* ---- small messages ---- */

void *pb_new(struct arena *arena, const ProtobufCMessageDescriptor *type);
/* A copy that protobuf-c's structs can point to. */
char *pb_text(struct arena *arena, const char *text);
Google__Protobuf__UInt32Value *pb_u32(struct arena *arena, uint32_t value);
Google__Protobuf__BoolValue *pb_bool(struct arena *arena, bool value);
Google__Protobuf__Duration *pb_duration(struct arena *arena, uint64_t us);
Google__Protobuf__Any *pb_any(struct arena *arena, const void *message);
/* An Any with a type URL of its own and bytes as they are. */
Google__Protobuf__Any *pb_any_bytes(struct arena *arena, const char *type_url, struct slice bytes);
CORE(Address) * pb_address(struct arena *arena, const char *ip, uint32_t port);
CORE(ConfigSource) * pb_ads(struct arena *arena);

/* Puts filter_metadata[space][key] = text into *metadata, which is made when it is null. */
void pb_metadata_text(struct arena *arena, CORE(Metadata) * *metadata, const char *space,
                      const char *key, const char *text);
void pb_metadata_number(struct arena *arena, CORE(Metadata) * *metadata, const char *space,
                        const char *key, double number);
/* filter_metadata["pillion.io"] = {object, generation, file, line}; also notes the use. */
CORE(Metadata) * pb_origin(struct translation *t, const struct object *object, uint32_t line);

#define PILLION_METADATA "pillion.io"
#define ISTIO_METADATA   "istio"
