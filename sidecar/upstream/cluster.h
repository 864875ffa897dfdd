#pragma once
/* A cluster in one worker: the mutable twin of a cluster_config, found by name. New configuration
 * and new endpoints are applied to it in place; endpoints are matched by address, so that what was
 * learnt of them (ejections, pools, credits) stays. One worker.
 *
 * Who may be picked is kept as a view: per priority, per locality, the available endpoints. It is
 * made again when the configuration, a health, or an ejection (shared->version) changes, never per
 * request. */

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/config/snapshot.h"
#include "sidecar/fail.h"
#include "sidecar/upstream/endpoint.h"
#include "sidecar/upstream/shared.h"

struct cluster_view; /* upstream/lb */
struct parcel;       /* config/parcel */

struct cluster_locality {
    uint32_t weight;
    uint32_t priority;
};

struct cluster {
    const struct cluster_config *config; /* the newest */
    struct parcel *pin;                  /* keeps the config; null: it outlives the worker */
    struct shared_cluster *shared;
    struct endpoint **endpoints; /* listed, in the set's order */
    struct cluster_locality *localities;
    struct cluster_view *view;
    uint64_t stats_hash; /* of its name, for metrics */
    uint64_t turn;       /* of the round robin; starts at random */
    uint32_t endpoint_count;
    uint32_t locality_count;
    uint32_t priority_count;
    uint32_t overprovisioning; /* percent */
    uint32_t view_version;     /* of shared->version */
    bool view_stale;
    uint32_t holders; /* the directory, and exchanges under way */
    bool warm;        /* endpoints were told at least once (EDS: the first answer came) */
};

/* `shared` is taken over (a reference from the registry). `draw` sets the round robin's start. */
struct cluster *cluster_new(const struct cluster_config *config, struct shared_cluster **shared,
                            uint64_t draw) MUST_USE;
/* Unlists its endpoints; those that are still referred to live on without it. */
void cluster_free(struct cluster **cluster);
/* It was made with one holder; the last one's release frees it. Null is allowed. */
void cluster_hold(struct cluster *cluster);
void cluster_release(struct cluster **cluster);

/* Keeps the snapshot of the config that is applied next; null: it outlives the cluster. */
void cluster_set_pin(struct cluster *cluster, struct parcel *pin);
/* The config must stay valid until the next one, or cluster_free (cluster_set_pin sees to that).
 * Endpoints' transports are chosen anew. Does not look at config->endpoints: apply those as a set.
 */
void cluster_apply_config(struct cluster *cluster, const struct cluster_config *config);
/* `shared` as shared_registry_endpoints gave it, taken over whole. Endpoints that are new start
 * now_us; those that are gone are unlisted and drain. The set is copied. */
void cluster_apply_endpoints(struct cluster *cluster, const struct endpoint_set *set,
                             struct shared_endpoint ***shared, uint64_t now_us);
/* A PEER frame, or a refused identity, changed whether an endpoint should be used. */
void cluster_touch(struct cluster *cluster);

/* The listed endpoint of that address; null: none. */
struct endpoint *cluster_find(const struct cluster *cluster, const struct addr *addr);
/* ORIGINAL_DST: the endpoint of that address, made when missing. It is listed until
 * cluster_forget. */
struct endpoint *cluster_original(struct cluster *cluster, const struct addr *addr,
                                  uint64_t now_us) MUST_USE;
/* ORIGINAL_DST: unlists what nobody used for config->cleanup_us. Returns how many. */
uint32_t cluster_forget(struct cluster *cluster, uint64_t now_us);

/* How many of its endpoints are available now (endpoint_available). */
uint32_t cluster_available(const struct cluster *cluster);
