#pragma once
/* (picture of the mesh, who asks) -> xDS resources, as packed protobuf. Every resource knows from
 * which objects it was made, so that an acknowledged resource acknowledges their generations.
 *
 * Names. Listener: "virtualInbound" is a sidecar's own; HOST[:PORT] an api_listener for gRPC.
 * RouteConfiguration: "HOST:PORT". Cluster and ClusterLoadAssignment: "outbound|PORT|SUBSET|HOST";
 * clusters also "inbound|PORT||", "InboundPassthroughCluster", "BlackHoleCluster" and
 * "PassthroughCluster". Destination: "ip/<network>/<addr>:<port>" and "host/<authority>:<port>".
 * What is made for a name is the same for every kind of client, in the forms that gRPC, Envoy and
 * pillion-sidecar all take; a Destination may say more. Pure; results live in the caller's arena.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/slice.h"
#include "policy/model.h"

#define TRANSLATE_LISTENER    "type.googleapis.com/envoy.config.listener.v3.Listener"
#define TRANSLATE_ROUTE       "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
#define TRANSLATE_CLUSTER     "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define TRANSLATE_ENDPOINTS   "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
#define TRANSLATE_DESTINATION "type.googleapis.com/pillion.config.v1.Destination"

/* Who asks. Texts are borrowed and never null. */
struct translate_node {
    const char *namespace;
    const char *name;    /* of the workload; "" where the id does not say */
    const char *address; /* as the id says; "" where it does not */
    const char *network;
    const struct model_workload *workload; /* null where the model does not know it */
    struct labels labels;                  /* of the workload; what sourceLabels and
                                              PeerAuthentication's selector look at */
    const char *region;                    /* "" where it is not known */
    const char *zone;
    const char *sub_zone;
};

/* From node.id "TYPE~IP~NAME.NAMESPACE~DOMAIN" (else all of it is the name, in `default`) and node
 * metadata NETWORK (may be null). Labels and locality come from the WorkloadEntry of that name.
 * Texts live in the arena; the workload in the model. */
void translate_node_init(struct translate_node *node, const struct model *model,
                         struct arena *arena, const char *id, const char *network);

enum translate_outcome {
    TRANSLATE_FOUND,
    TRANSLATE_MISSING,  /* nothing has that name: a negative answer */
    TRANSLATE_BAD_TYPE, /* not a type that is made here */
};

struct translate_result {
    enum translate_outcome outcome;
    const char *type_url;
    const char *name;     /* as asked for */
    struct slice bytes;   /* the packed message; empty unless FOUND */
    const char **aliases; /* other names of the same thing; of a Destination only */
    size_t alias_count;
    const struct object **objects; /* it was made from these, each once; borrowed from the model */
    size_t object_count;
    uint64_t generation; /* the newest of theirs */
};

/* The one door for a server of xDS. */
enum translate_outcome translate_resource(const struct model *model,
                                          const struct translate_node *node, const char *type_url,
                                          const char *name, struct arena *arena,
                                          struct translate_result *result);

/* The names that a wildcard subscription of this node stands for: its own inbound Listener, the
 * clusters of that. Empty for every other type. */
const char **translate_wildcard(const struct model *model, const struct translate_node *node,
                                const char *type_url, struct arena *arena, size_t *count);
