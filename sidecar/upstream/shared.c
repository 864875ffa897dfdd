#include "sidecar/upstream/shared.h"

#include <pthread.h>

#include "base/alloc.h"
#include "base/map.h"

/* Keys come from the control plane, not from peers, and nothing depends on their order. */
#define KEY_SEED 0x70696c6c696f6e

struct registered {
    struct shared_cluster *cluster;
    struct map endpoints; /* endpoint_key -> struct shared_endpoint */
};

struct shared_registry {
    pthread_mutex_t lock; /* of the map and what it holds; never taken for a request */
    struct map clusters;  /* name -> struct registered */
};

/* ---- counted references ---- */

struct shared_cluster *shared_cluster_new(void)
{
    struct shared_cluster *cluster = NEW(struct shared_cluster);
    atomic_flag_clear(&cluster->ejecting);
    atomic_init(&cluster->references, 1);
    return cluster;
}

struct shared_endpoint *shared_endpoint_new(void)
{
    struct shared_endpoint *endpoint = NEW(struct shared_endpoint);
    atomic_init(&endpoint->references, 1);
    return endpoint;
}

void shared_cluster_ref(struct shared_cluster *cluster)
{
    CHECK(atomic_fetch_add_explicit(&cluster->references, 1, memory_order_relaxed) > 0);
}

void shared_endpoint_ref(struct shared_endpoint *endpoint)
{
    CHECK(atomic_fetch_add_explicit(&endpoint->references, 1, memory_order_relaxed) > 0);
}

/* The last one to let go must see all that the others wrote. */
static bool was_last(atomic_uint *references)
{
    unsigned before = atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    return before == 1;
}

void shared_cluster_unref(struct shared_cluster **cluster)
{
    if (*cluster != NULL && was_last(&(*cluster)->references)) {
        mem_free(*cluster);
    }
    *cluster = NULL;
}

void shared_endpoint_unref(struct shared_endpoint **endpoint)
{
    if (*endpoint != NULL && was_last(&(*endpoint)->references)) {
        mem_free(*endpoint);
    }
    *endpoint = NULL;
}

/* ---- the registry ---- */

struct shared_registry *shared_registry_new(void)
{
    struct shared_registry *registry = NEW(struct shared_registry);
    map_init(&registry->clusters, KEY_SEED, MAP_KEYS_COPIED);
    CHECK(pthread_mutex_init(&registry->lock, NULL) == 0);
    return registry;
}

static void free_registered(struct registered *registered)
{
    MAP_EACH(&registered->endpoints, entry)
    {
        struct shared_endpoint *endpoint = entry->value;
        shared_endpoint_unref(&endpoint);
    }
    map_fini(&registered->endpoints);
    shared_cluster_unref(&registered->cluster);
    mem_free(registered);
}

void shared_registry_free(struct shared_registry **registry)
{
    if (*registry == NULL) {
        return;
    }
    MAP_EACH(&(*registry)->clusters, entry)
    {
        free_registered(entry->value);
    }
    map_fini(&(*registry)->clusters);
    CHECK(pthread_mutex_destroy(&(*registry)->lock) == 0);
    FREE(*registry);
}

static void lock(struct shared_registry *registry)
{
    CHECK(pthread_mutex_lock(&registry->lock) == 0);
}

static void unlock(struct shared_registry *registry)
{
    CHECK(pthread_mutex_unlock(&registry->lock) == 0);
}

static struct registered *find_or_make(struct shared_registry *registry, struct slice name)
{
    struct registered *registered = map_get(&registry->clusters, name);
    if (registered == NULL) {
        registered = NEW(struct registered);
        registered->cluster = shared_cluster_new();
        map_init(&registered->endpoints, KEY_SEED, MAP_KEYS_COPIED);
        (void)map_set(&registry->clusters, name, registered);
    }
    return registered;
}

struct shared_cluster *shared_registry_cluster(struct shared_registry *registry,
                                               struct slice cluster)
{
    lock(registry);
    struct shared_cluster *found = find_or_make(registry, cluster)->cluster;
    shared_cluster_ref(found);
    unlock(registry);
    return found;
}

/* An address, in the one form that struct addr has. */
struct endpoint_key {
    uint8_t bytes[19];
};

static struct slice key_of(const struct addr *addr, struct endpoint_key *key)
{
    memcpy(key->bytes, addr->ip, sizeof(addr->ip));
    key->bytes[16] = (uint8_t)(addr->port >> 8);
    key->bytes[17] = (uint8_t)(addr->port & 0xff);
    key->bytes[18] = addr->family;
    return slice_of(key->bytes, sizeof(key->bytes));
}

struct shared_endpoint **shared_registry_endpoints(struct shared_registry *registry,
                                                   struct slice cluster,
                                                   const struct endpoint_set *set)
{
    if (set->endpoint_count == 0) {
        return NULL;
    }
    lock(registry);
    struct registered *registered = find_or_make(registry, cluster);
    struct shared_endpoint **list = NEW_ARRAY(struct shared_endpoint *, set->endpoint_count);
    for (uint32_t i = 0; i < set->endpoint_count; i++) {
        struct endpoint_key key;
        struct slice bytes = key_of(&set->endpoints[i].addr, &key);
        list[i] = map_get(&registered->endpoints, bytes);
        if (list[i] == NULL) {
            list[i] = shared_endpoint_new();
            (void)map_set(&registered->endpoints, bytes, list[i]);
        }
        shared_endpoint_ref(list[i]);
    }
    unlock(registry);
    return list;
}

/* Only the registry itself holds a reference. A worker gets its own under the lock alone, so the
 * answer cannot change meanwhile. */
static bool unused(const atomic_uint *references)
{
    return atomic_load_explicit(references, memory_order_acquire) == 1;
}

void shared_registry_sweep(struct shared_registry *registry)
{
    lock(registry);
    MAP_EACH(&registry->clusters, entry)
    {
        struct registered *registered = entry->value;
        MAP_EACH(&registered->endpoints, known)
        {
            struct shared_endpoint *endpoint = known->value;
            if (unused(&endpoint->references)) {
                (void)map_remove(&registered->endpoints, known->key);
                shared_endpoint_unref(&endpoint);
            }
        }
        if (unused(&registered->cluster->references) && map_count(&registered->endpoints) == 0) {
            (void)map_remove(&registry->clusters, entry->key);
            free_registered(registered);
        }
    }
    unlock(registry);
}
