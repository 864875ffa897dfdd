#pragma once
/* What the workers share about a cluster: relaxed atomics, a cache line each, so that limits,
 * ejection and budgets hold for the process. A reader may be one event behind, a limit may be
 * passed by one per worker; a request never locks anything here.
 *
 * The registry finds both kinds by name and address; so what was learnt of an endpoint survives its
 * next EDS answer, and is the same for every worker. Workers ask it when configuration is applied,
 * each on its own thread, so it has a lock. References are given back from any thread. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/check.h"
#include "sidecar/config/snapshot.h"

#define CACHE_LINE 64

/* A counter that shares its cache line with no other. */
struct shared_count {
    atomic_uint value;
    uint8_t apart[CACHE_LINE - sizeof(atomic_uint)];
};

struct shared_cluster {
    struct shared_count active; /* requests that have an endpoint, with those that wait there */
    struct shared_count pending;
    struct shared_count connections;
    struct shared_count retries;
    struct shared_count version; /* raised with every ejection and return */
    atomic_flag ejecting;        /* one worker at a time decides on ejections */
    atomic_uint references;
    atomic_uint_least64_t next_sweep_us; /* outlier_sweep runs once an interval */
    atomic_uint_least64_t overflows;     /* refused by a breaker, ever */
    atomic_uint_least64_t ejections;     /* ever */
};

struct shared_endpoint {
    struct shared_count active; /* requests, for the balancers */
    atomic_uint connections;
    atomic_uint references;
    atomic_uint consecutive_5xx;
    atomic_uint consecutive_gateway;
    atomic_uint consecutive_local;
    atomic_uint times_ejected;  /* multiplies the ejection's time; falls with each good interval */
    atomic_uint interval_total; /* requests of this interval, for rates */
    atomic_uint interval_success;
    atomic_uint_least64_t ejected_at_us; /* 0: not ejected */
    atomic_bool identity_refused; /* its certificate was another's: not used until EDS speaks */
};

struct shared_registry;

struct shared_registry *shared_registry_new(void) MUST_USE;
/* References that workers hold stay valid. */
void shared_registry_free(struct shared_registry **registry);
/* Finds or makes; a reference for the caller. */
struct shared_cluster *shared_registry_cluster(struct shared_registry *registry,
                                               struct slice cluster) MUST_USE;
/* One for each endpoint of the set, in its order, a reference each; a heap array that
 * cluster_apply_endpoints takes (null when the set is empty). Call it once per worker. */
struct shared_endpoint **shared_registry_endpoints(struct shared_registry *registry,
                                                   struct slice cluster,
                                                   const struct endpoint_set *set) MUST_USE;
/* Forgets what nobody but the registry refers to; after a configuration was applied everywhere. */
void shared_registry_sweep(struct shared_registry *registry);

/* Without a registry: a cluster of one worker's own, or an endpoint that a worker finds itself
 * (ORIGINAL_DST). One reference. */
struct shared_cluster *shared_cluster_new(void) MUST_USE;
struct shared_endpoint *shared_endpoint_new(void) MUST_USE;
void shared_cluster_ref(struct shared_cluster *cluster);
void shared_cluster_unref(struct shared_cluster **cluster);
void shared_endpoint_ref(struct shared_endpoint *endpoint);
void shared_endpoint_unref(struct shared_endpoint **endpoint);
