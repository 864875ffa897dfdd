#pragma once
/* What model.c, model_rules.c and model_services.c share. Private to policy/. */

#include "policy/model.h"

struct model_vip {
    struct addr addr;
    const struct model_service *service;
};

/* A host that VirtualServices or DestinationRules claim. Sorted by host and namespace (of
 * DestinationRules only). */
struct model_claim {
    const char *host;              /* whole, lower case; "*.suffix" */
    const char *namespace;         /* "" for VirtualServices: they hold everywhere */
    const struct object **objects; /* the oldest first; of VirtualServices it alone holds */
    size_t object_count;
};

struct model_claims {
    struct model_claim *at; /* sorted */
    size_t count;
    struct model_claim *wild; /* those that begin with "*", the longest first */
    size_t wild_count;
};

struct model {
    struct arena arena;
    struct model_options options;
    struct object **objects; /* a reference each */
    size_t object_count;
    uint64_t generation;

    const struct model_service **services; /* by host */
    size_t service_count;
    struct model_vip *vips; /* by address */
    size_t vip_count;
    const struct model_workload **workloads; /* by network, address, id of the object */
    size_t workload_count;
    const struct model_workload **named; /* WorkloadEntries by namespace, name */
    size_t named_count;
    struct addr *known; /* every address, sorted, port 0 */
    size_t known_count;

    struct model_claims virtual_services;
    struct model_claims destination_rules;
    const struct object **peer_authentications; /* the oldest first */
    size_t peer_authentication_count;
    struct model_conflict *conflicts;
    size_t conflict_count;
};

/* Services, workloads, endpoints. */
void model_build_services(struct model *model);
/* Claims and PeerAuthentications; after the services, since names are completed by them. */
void model_build_rules(struct model *model);

/* By family, then bytes; ports do not matter. */
int model_addr_compare(const struct addr *a, const struct addr *b);
/* The older first: the generation of the first version, then the id. */
int model_age_compare(const struct object *a, const struct object *b);
/* slice_cut for names: the port that a named or numbered protocol stands for. */
enum model_protocol model_protocol_of(const char *app_protocol, const char *port_name);
