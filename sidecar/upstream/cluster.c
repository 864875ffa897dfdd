#include "sidecar/upstream/cluster.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "sidecar/config/parcel.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/lb.h"
#include "sidecar/upstream/pool.h"

/* ---- transports ---- */

static bool has_label(const struct endpoint_config *endpoint, const struct label *wanted)
{
    for (unsigned i = 0; i < endpoint->label_count; i++) {
        if (slice_eq(endpoint->labels[i].key, wanted->key)) {
            return slice_eq(endpoint->labels[i].value, wanted->value);
        }
    }
    return false;
}

static bool fits(const struct transport_match *match, const struct endpoint_config *endpoint)
{
    for (unsigned i = 0; i < match->label_count; i++) {
        if (!has_label(endpoint, &match->labels[i])) {
            return false;
        }
    }
    return true;
}

/* The first match in order (Envoy cluster.proto, transport_socket_matches). */
static void choose_transport(const struct cluster *cluster, struct endpoint *endpoint)
{
    const struct cluster_config *config = cluster->config;
    endpoint->tls = config->tls;
    for (unsigned i = 0; i < config->match_count; i++) {
        if (fits(&config->matches[i], &endpoint->config)) {
            endpoint->tls = config->matches[i].tls;
            return;
        }
    }
}

/* ---- life ---- */

struct cluster *cluster_new(const struct cluster_config *config, struct shared_cluster **shared,
                            uint64_t draw)
{
    CHECK(*shared != NULL);
    struct cluster *cluster = NEW(struct cluster);
    cluster->config = config;
    cluster->stats_hash = stats_hash_text(config->name);
    cluster->holders = 1;
    cluster->shared = *shared;
    *shared = NULL;
    cluster->turn = draw;
    cluster->overprovisioning = 140;
    cluster->priority_count = 1;
    cluster->view_stale = true;
    return cluster;
}

/* Its cluster and its transport may be gone before its last user is. */
static void unlist(struct endpoint *endpoint)
{
    endpoint->listed = false;
    endpoint->cluster = NULL;
    endpoint->tls = NULL;
    if (endpoint->pool != NULL) {
        pool_retire(endpoint->pool);
    }
    endpoint_unref(&endpoint);
}

void cluster_free(struct cluster **cluster)
{
    struct cluster *it = *cluster;
    *cluster = NULL;
    if (it == NULL) {
        return;
    }
    for (uint32_t i = 0; i < it->endpoint_count; i++) {
        unlist(it->endpoints[i]);
    }
    lb_view_free(&it->view);
    shared_cluster_unref(&it->shared);
    parcel_unref(&it->pin);
    mem_free(it->endpoints);
    mem_free(it->localities);
    mem_free(it);
}

void cluster_touch(struct cluster *cluster)
{
    cluster->view_stale = true;
}

void cluster_set_pin(struct cluster *cluster, struct parcel *pin)
{
    struct parcel *old = cluster->pin;
    cluster->pin = pin != NULL ? parcel_ref(pin) : NULL;
    parcel_unref(&old);
}

void cluster_apply_config(struct cluster *cluster, const struct cluster_config *config)
{
    CHECK(slice_eq(cluster->config->name, config->name));
    cluster->config = config;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        choose_transport(cluster, cluster->endpoints[i]);
    }
    cluster->view_stale = true;
}

/* ---- endpoints ---- */

static int compare_addr(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    int order = memcmp(a->ip, b->ip, sizeof(a->ip));
    if (order != 0 || a->port == b->port) {
        return order;
    }
    return a->port < b->port ? -1 : 1;
}

static int compare_endpoints(const void *a, const void *b)
{
    const struct endpoint *const *left = a;
    const struct endpoint *const *right = b;
    return compare_addr(&(*left)->config.addr, &(*right)->config.addr);
}

/* Index into `sorted`, or -1. */
static int64_t search(struct endpoint *const *sorted, uint32_t count, const struct addr *addr)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_addr(addr, &sorted[middle]->config.addr);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

static void apply_localities(struct cluster *cluster, const struct endpoint_set *set)
{
    FREE(cluster->localities);
    cluster->localities = NEW_ARRAY(struct cluster_locality, set->locality_count);
    cluster->locality_count = set->locality_count;
    for (unsigned i = 0; i < set->locality_count; i++) {
        cluster->localities[i].weight = set->localities[i].weight;
        cluster->localities[i].priority = set->localities[i].priority;
    }
    cluster->priority_count = set->priority_count > 0 ? set->priority_count : 1;
    cluster->overprovisioning = set->overprovisioning;
}

void cluster_apply_endpoints(struct cluster *cluster, const struct endpoint_set *set,
                             struct shared_endpoint ***shared, uint64_t now_us)
{
    CHECK(*shared != NULL || set->endpoint_count == 0);
    uint32_t old_count = cluster->endpoint_count;
    struct endpoint **old = cluster->endpoints;
    if (old_count > 1) {
        qsort(old, old_count, sizeof(*old), compare_endpoints);
    }
    bool *kept = NEW_ARRAY(bool, old_count);
    struct endpoint **list = NEW_ARRAY(struct endpoint *, set->endpoint_count);
    uint32_t count = 0;
    for (uint32_t i = 0; i < set->endpoint_count; i++) {
        const struct endpoint_config *config = &set->endpoints[i];
        CHECK(config->locality < set->locality_count);
        int64_t at = search(old, old_count, &config->addr);
        struct endpoint *endpoint;
        if (at < 0) {
            endpoint = endpoint_new(cluster, config, &(*shared)[i], now_us);
        } else if (!kept[at]) {
            endpoint = old[at];
            kept[at] = true;
            /* EDS spoke: what was held against the address may be another pod now. */
            atomic_store_explicit(&endpoint->shared->identity_refused, false, memory_order_relaxed);
            endpoint_apply(endpoint, config);
            shared_endpoint_unref(&(*shared)[i]);
        } else {
            shared_endpoint_unref(&(*shared)[i]); /* listed twice: the first place counts */
            continue;
        }
        endpoint->priority = set->localities[config->locality].priority;
        choose_transport(cluster, endpoint);
        list[count++] = endpoint;
    }
    for (uint32_t i = 0; i < old_count; i++) {
        if (!kept[i]) {
            unlist(old[i]);
        }
    }
    FREE(kept);
    mem_free(old);
    FREE(*shared);
    cluster->endpoints = list;
    cluster->endpoint_count = count;
    cluster->warm = true;
    cluster->view_stale = true;
    apply_localities(cluster, set);
}

struct endpoint *cluster_find(const struct cluster *cluster, const struct addr *addr)
{
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        if (addr_eq(&cluster->endpoints[i]->config.addr, addr)) {
            return cluster->endpoints[i];
        }
    }
    return NULL;
}

uint32_t cluster_available(const struct cluster *cluster)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        count += endpoint_available(cluster->endpoints[i]);
    }
    return count;
}

/* ---- original destinations ---- */

struct endpoint *cluster_original(struct cluster *cluster, const struct addr *addr, uint64_t now_us)
{
    CHECK(cluster->config->type == CLUSTER_ORIGINAL_DST);
    struct endpoint *endpoint = cluster_find(cluster, addr);
    if (endpoint == NULL) {
        struct endpoint_config config = {.addr = *addr, .weight = 1};
        struct shared_endpoint *shared = shared_endpoint_new();
        endpoint = endpoint_new(cluster, &config, &shared, now_us);
        choose_transport(cluster, endpoint);
        cluster->endpoints = mem_resize(cluster->endpoints,
                                        sizeof(struct endpoint *) * (cluster->endpoint_count + 1));
        cluster->endpoints[cluster->endpoint_count++] = endpoint;
    }
    endpoint->last_used_us = now_us;
    return endpoint;
}

uint32_t cluster_forget(struct cluster *cluster, uint64_t now_us)
{
    CHECK(cluster->config->type == CLUSTER_ORIGINAL_DST);
    uint32_t kept = 0;
    uint32_t count = cluster->endpoint_count;
    for (uint32_t i = 0; i < count; i++) {
        struct endpoint *endpoint = cluster->endpoints[i];
        bool idle = endpoint_active(endpoint) == 0 &&
                    now_us - endpoint->last_used_us >= cluster->config->cleanup_us;
        if (idle) {
            unlist(endpoint);
        } else {
            cluster->endpoints[kept++] = endpoint;
        }
    }
    cluster->endpoint_count = kept;
    return count - kept;
}

void cluster_hold(struct cluster *cluster)
{
    CHECK(cluster->holders > 0);
    cluster->holders++;
}

void cluster_release(struct cluster **cluster)
{
    if (*cluster == NULL) {
        return;
    }
    CHECK((*cluster)->holders > 0);
    if (--(*cluster)->holders == 0) {
        cluster_free(cluster);
    }
    *cluster = NULL;
}
