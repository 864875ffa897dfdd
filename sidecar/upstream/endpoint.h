#pragma once
/* One endpoint of a cluster in one worker: the mutable twin of an endpoint_config. It lives while
 * its cluster lists it or an attempt or a pool refers to it; an EDS answer that still has the
 * address keeps it, with its ejection and its pool. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/upstream/shared.h"

struct pool; /* upstream/pool */

struct endpoint {
    struct cluster *cluster;       /* null once its cluster is gone */
    struct endpoint_config config; /* a copy: outlives the set it came with; text is its own */
    const struct transport_match *transport; /* null: the cluster's own */
    const struct tls_config *tls; /* how it is spoken to; null: plain. Changes with the cluster */
    struct shared_endpoint *shared;
    struct pool *pool;     /* the pool's business; null until the first use */
    uint64_t listed_at_us; /* slow start counts from here */
    uint64_t last_used_us;
    uint32_t references;
    uint32_t order; /* place in the cluster's list */
    uint32_t priority;
    int64_t credit;     /* of the round robin */
    bool listed;        /* the cluster still has it; else it only drains */
    bool peer_draining; /* a PEER frame said so: others are preferred at once */
    char *text;         /* storage of the texts in `config` */
    struct label *labels;
};

void endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint **endpoint);

/* Whether new requests should go there: listed, healthy by EDS, not ejected, not draining. */
bool endpoint_available(const struct endpoint *endpoint) MUST_USE;
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

/* An attempt begins and ends there; for the balancers. */
static inline void endpoint_begin(struct endpoint *endpoint, uint64_t now_us)
{
    endpoint->last_used_us = now_us;
    (void)atomic_fetch_add_explicit(&endpoint->shared->active, 1, memory_order_relaxed);
}
static inline void endpoint_end(struct endpoint *endpoint)
{
    CHECK(atomic_load_explicit(&endpoint->shared->active, memory_order_relaxed) > 0);
    (void)atomic_fetch_sub_explicit(&endpoint->shared->active, 1, memory_order_relaxed);
}
