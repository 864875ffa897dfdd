#pragma once
/* A worker's clusters by name, and the bindings that spare a request the look-up: for each route
 * table in use, its cluster indices resolved to twins and its weighted routes' credits. One worker.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/route/router.h"
#include "sidecar/upstream/cluster.h"

struct parcel;
struct worker;

struct directory {
    struct map by_name; /* struct cluster */
    struct shared_registry *registry;
    uint64_t version; /* raised when a name's cluster came or went: bindings resolve again */
};

/* The twin of one route table in one worker. */
struct binding {
    const struct route_table *table;
    struct splits *splits;
    struct cluster **clusters; /* by the table's index; null: no such cluster */
    uint64_t version;          /* of the directory */
};

void directory_init(struct directory *directory, struct shared_registry *registry, uint64_t seed);
void directory_fini(struct directory *directory);

/* Adds the cluster or gives it its new configuration, and its inline endpoints where there are any.
 * `pin` keeps the config's snapshot (counted by the cluster); null: it outlives the directory. */
void directory_put(struct directory *directory, const struct cluster_config *config,
                   struct parcel *pin, uint64_t now_us, uint64_t draw);
/* Endpoints of an EDS answer, for every cluster whose service name it is. */
void directory_put_endpoints(struct directory *directory, const struct endpoint_set *set,
                             uint64_t now_us);
/* What names have resolved to, for the cluster of the set's name; nothing where it is not of a DNS
 * type (any more). */
void directory_put_resolved(struct directory *directory, const struct endpoint_set *set,
                            uint64_t now_us);
/* What a cluster without endpoints yet may be served with; ignored once it is warm. */
void directory_put_first_endpoints(struct directory *directory, const struct endpoint_set *set,
                                   uint64_t now_us);
void directory_remove(struct directory *directory, struct slice name);
/* Null: there is none. */
struct cluster *directory_find(const struct directory *directory, struct slice name);

void binding_init(struct binding *binding, const struct route_table *table, uint64_t draw);
/* Goes over to a new version of the table, credits kept. */
void binding_update(struct binding *binding, const struct route_table *table, uint64_t draw);
/* Takes the credits of the binding for the version before, which serves no new request any more.
 * Both have splits before; only `next` has afterwards. */
void binding_succeed(struct binding *next, struct binding *before, uint64_t draw);
void binding_fini(struct binding *binding);
/* The cluster of a target; null: it does not exist now. */
struct cluster *binding_cluster(struct binding *binding, const struct directory *directory,
                                unsigned index);
