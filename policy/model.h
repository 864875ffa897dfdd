#pragma once
/* One picture of the mesh: services by host and by address, their endpoints, which rule holds for
 * which host, which mutual TLS mode for which workload. Built whole from the objects in force and
 * never changed; it holds a reference to each of them. What depends on who asks (sourceLabels,
 * localities, the caller's namespace) is policy/translate's. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/slice.h"
#include "policy/object.h"

struct model_options {
    const char *trust_domain;   /* null: cluster.local */
    const char *root_namespace; /* null: pillion-system; istio-system is taken as the same */
    const char *cluster_domain; /* null: cluster.local, as in NAME.NS.svc.cluster.local */
    bool block_unknown; /* outbound to what the mesh does not know: BLOCK, not PASSTHROUGH */
};

/* A thing with an address that runs an application: a WorkloadEntry, or an address of an
 * EndpointSlice or Endpoints that no WorkloadEntry has. */
struct model_workload {
    const struct object *object;
    const char *namespace;
    const char *name;
    const char *address; /* canonical text (RFC 5952) */
    struct addr addr;    /* port 0 */
    const char *network; /* "" by default */
    struct labels labels;
    const char *identity; /* spiffe://...; null where the service account is not known */
    const char *uid;      /* "" where it is not known */
    const char *region;   /* "" where it is not known; zone and sub_zone too */
    const char *zone;
    const char *sub_zone;
    uint32_t weight;             /* at least 1 */
    bool mesh_tls;               /* label security.istio.io/tlsMode: istio */
    struct model_served *served; /* ports of services behind which it stands, by host */
    size_t served_count;
};

/* A port of a service that a workload serves. */
struct model_served {
    const struct model_service *service;
    const struct model_port *port;
    uint32_t target; /* of the application, as captured */
};

struct model_endpoint {
    const struct model_workload *workload;
    const struct object *object; /* that made it an endpoint of this port */
    uint32_t port;               /* of the application, as captured */
};

enum model_protocol {
    MODEL_PROTOCOL_AUTO,
    MODEL_PROTOCOL_TCP,
    MODEL_PROTOCOL_HTTP1,
    MODEL_PROTOCOL_HTTP2,
    MODEL_PROTOCOL_TLS,
    MODEL_PROTOCOL_SERVER_FIRST,
};

struct model_port {
    const struct service_port *spec;
    uint32_t number;
    const char *name; /* "" where it has none */
    enum model_protocol protocol;
    struct model_endpoint *endpoints;
    size_t endpoint_count;
};

struct model_service {
    const struct object *object;
    const char *host; /* "order-service.default.svc.cluster.local" */
    const char *namespace;
    const char *name;
    const char **addresses; /* canonical texts of the cluster IPs */
    struct addr *addrs;
    size_t address_count; /* 0: headless */
    struct model_port *ports;
    size_t port_count;
};

struct model;

/* `objects`: at most one for each id; a reference to each is taken. options may be null. */
struct model *model_new(struct object *const *objects, size_t count,
                        const struct model_options *options) MUST_USE;
void model_free(struct model **model);

/* Borrowed from the model, like all that follows. Texts in it are never null. */
const struct model_options *model_get_options(const struct model *model);
/* The newest generation of all its objects. */
uint64_t model_generation(const struct model *model);
struct object *const *model_get_objects(const struct model *model, size_t *count);
const struct model_service *const *model_get_services(const struct model *model, size_t *count);
const struct model_workload *const *model_get_workloads(const struct model *model, size_t *count);

/* The service of a whole host name, in lower case; null when there is none. */
const struct model_service *model_find_service(const struct model *model, struct slice host);
/* The services that have the address, the oldest first; null behind the last. */
const struct model_service *model_find_vip(const struct model *model, const struct addr *addr,
                                           size_t number);
/* The workload at an address of a network that serves addr->port, else the only one at that
 * address; null when there is none, or several and none serves the port. */
const struct model_workload *model_find_workload(const struct model *model, const char *network,
                                                 const struct addr *addr);
/* By namespace and name of the WorkloadEntry. */
const struct model_workload *model_find_workload_named(const struct model *model,
                                                       const char *namespace, const char *name);
/* The port with that number; null when the service has none. */
const struct model_port *model_find_port(const struct model_service *service, uint32_t number);
/* The length of the longest prefix around `addr` in which the model knows no address, at least
 * `floor`: an answer for `addr` holds for all of it. */
unsigned model_free_prefix(const struct model *model, const struct addr *addr, unsigned floor);

/* A name as written in an object or an authority, seen from a namespace: "order-service" ->
 * "order-service.<namespace>.svc.cluster.local"; a name of several labels is completed when it is
 * NAME.NAMESPACE[.svc] of a service that exists, else kept. Lower case, without a final dot. */
const char *model_full_host(const struct model *model, struct arena *arena, struct slice name,
                            const char *namespace);

/* The VirtualService in force for a host: its exact name wins over the longest wildcard, the older
 * object over the younger; null when there is none. */
const struct object *model_virtual_service(const struct model *model, const char *host);
/* The DestinationRules of one host and namespace, the oldest first. They hold together, as in
 * Istio: the subsets of all, and the first traffic policy. */
struct model_rules {
    const struct object *const *at;
    size_t count; /* 0: there is none */
};
/* Those for a host, as seen by a caller in `namespace`: of the caller's namespace, else of the
 * service's, else of the root's; an exact name hides a wildcard whole. `service` may be null. */
struct model_rules model_destination_rules(const struct model *model, const char *host,
                                           const struct model_service *service,
                                           const char *namespace);
/* Whose traffic policy holds; null: none has one. */
const struct object *model_rules_policy(struct model_rules rules);
/* The first subset of that name, and whose it is; null when there is none. */
const struct subset *model_find_subset(struct model_rules rules, const char *name,
                                       const struct object **owner);
/* Those that hold together with this one, itself among them. */
struct model_rules model_rules_of(const struct model *model, const struct object *rule);
/* Two VirtualServices for one host, of which one is ignored. */
struct model_conflict {
    const struct object *winner;
    const struct object *ignored;
    const char *host;
};
const struct model_conflict *model_get_conflicts(const struct model *model, size_t *count);

/* The mode for a workload's port (of the application); never UNSET. `*object` gets the
 * PeerAuthentication that says so, null where none does; object may be null. */
enum mtls_mode model_mtls_mode(const struct model *model, const char *namespace,
                               const struct labels *labels, uint32_t port,
                               const struct object **object);

/* The PeerAuthentication without a selector that speaks for a namespace; null: none. */
const struct object *model_namespace_peer(const struct model *model, const char *namespace);
/* Ports of the application that the PeerAuthentications of that workload name; in the arena. */
const uint32_t *model_peer_ports(const struct model *model, struct arena *arena,
                                 const char *namespace, const struct labels *labels, size_t *count);
