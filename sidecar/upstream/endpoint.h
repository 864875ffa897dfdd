#pragma once
/* One endpoint of a cluster in one worker: the mutable twin of an endpoint_config. It lives while
 * its cluster lists it or an attempt or a pool refers to it; an EDS answer that still has the
 * address keeps it, with its ejection and its pool. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/upstream/shared.h"

struct pool; /* upstream/pool */

struct endpoint {
    struct cluster *cluster;       /* null once it is unlisted */
    struct endpoint_config config; /* text and labels are its own: it outlives the set it came in */
    struct label *block;           /* their storage */
    const struct tls_config *tls;  /* how it is spoken to; null: plain. Changes with the cluster */
    struct shared_endpoint *shared;
    uint64_t stats_hash;   /* of what metrics' labels say about it */
    struct pool *pool;     /* the pool's business; null until the first use and at the end */
    uint64_t listed_at_us; /* slow start counts from here */
    uint64_t last_used_us;
    uint32_t references;
    uint32_t priority;
    int64_t credit;       /* of the weighted round robin */
    bool listed;          /* the cluster still has it; else it only drains */
    bool peer_shy;        /* its sidecar drains, or is short of memory: others are preferred */
    bool chose_http1;     /* by ALPN, where HTTP/2 was offered as well */
    bool peer_overloaded; /* what failed there is not tried again for any policy's sake */
    struct task peer_task;
    struct timer peer_timer; /* a word that is not repeated is forgotten then */
};

/* A copy of the config; takes the reference to `shared` over. One reference. */
struct endpoint *endpoint_new(struct cluster *cluster, const struct endpoint_config *config,
                              struct shared_endpoint **shared, uint64_t now_us) MUST_USE;
/* Another config for the same address. */
void endpoint_apply(struct endpoint *endpoint, const struct endpoint_config *config);
void endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint **endpoint);

/* What its sidecar says of itself. */
void endpoint_take_word(struct endpoint *endpoint, struct loop *loop, bool draining,
                        bool overloaded);

static inline bool endpoint_ejected(const struct endpoint *endpoint)
{
    return atomic_load_explicit(&endpoint->shared->ejected_at_us, memory_order_relaxed) != 0;
}
/* Whether EDS calls it usable at all (HEALTHY or DEGRADED). */
static inline bool endpoint_healthy(const struct endpoint *endpoint)
{
    return endpoint->config.health == ENDPOINT_HEALTHY ||
           endpoint->config.health == ENDPOINT_DEGRADED;
}

/* Whether requests may go there at all: listed, healthy by EDS, not ejected, its identity its own.
 */
static inline bool endpoint_available(const struct endpoint *endpoint)
{
    return endpoint->listed && endpoint_healthy(endpoint) && !endpoint_ejected(endpoint) &&
           !atomic_load_explicit(&endpoint->shared->identity_refused, memory_order_relaxed);
}

static inline uint32_t endpoint_active(const struct endpoint *endpoint)
{
    return atomic_load_explicit(&endpoint->shared->active.value, memory_order_relaxed);
}

/* An attempt begins and ends there; for the balancers. */
static inline void endpoint_begin(struct endpoint *endpoint, uint64_t now_us)
{
    endpoint->last_used_us = now_us;
    (void)atomic_fetch_add_explicit(&endpoint->shared->active.value, 1, memory_order_relaxed);
}
static inline void endpoint_end(struct endpoint *endpoint)
{
    CHECK(endpoint_active(endpoint) > 0);
    (void)atomic_fetch_sub_explicit(&endpoint->shared->active.value, 1, memory_order_relaxed);
}
