#include "sidecar/upstream/directory.h"

#include "base/alloc.h"

void directory_init(struct directory *directory, struct shared_registry *registry, uint64_t seed)
{
    *directory = (struct directory){.registry = registry, .version = 1};
    map_init(&directory->by_name, seed, MAP_KEYS_COPIED);
}

void directory_fini(struct directory *directory)
{
    MAP_EACH(&directory->by_name, entry)
    {
        struct cluster *cluster = entry->value;
        cluster_release(&cluster);
    }
    map_fini(&directory->by_name);
}

struct cluster *directory_find(const struct directory *directory, struct slice name)
{
    return map_get(&directory->by_name, name);
}

static void apply_set(struct directory *directory, struct cluster *cluster,
                      const struct endpoint_set *set, uint64_t now_us)
{
    struct shared_endpoint **shared =
        shared_registry_endpoints(directory->registry, cluster->config->name, set);
    cluster_apply_endpoints(cluster, set, &shared, now_us);
}

void directory_put(struct directory *directory, const struct cluster_config *config,
                   struct parcel *pin, uint64_t now_us, uint64_t draw)
{
    struct cluster *cluster = directory_find(directory, config->name);
    if (cluster == NULL) {
        struct shared_cluster *shared = shared_registry_cluster(directory->registry, config->name);
        cluster = cluster_new(config, &shared, draw);
        (void)map_set(&directory->by_name, config->name, cluster);
        directory->version++;
    } else {
        cluster_apply_config(cluster, config);
    }
    cluster_set_pin(cluster, pin);
    if (config->endpoints != NULL && !cluster_is_named(config)) {
        apply_set(directory, cluster, config->endpoints, now_us);
    }
}

static bool fed_by(const struct cluster *cluster, const struct endpoint_set *set)
{
    const struct cluster_config *config = cluster->config;
    struct slice service = config->service_name.len > 0 ? config->service_name : config->name;
    return config->type == CLUSTER_EDS && slice_eq(service, set->cluster);
}

void directory_put_endpoints(struct directory *directory, const struct endpoint_set *set,
                             uint64_t now_us)
{
    MAP_EACH(&directory->by_name, entry)
    {
        if (fed_by(entry->value, set)) {
            apply_set(directory, entry->value, set, now_us);
        }
    }
}

void directory_put_resolved(struct directory *directory, const struct endpoint_set *set,
                            uint64_t now_us)
{
    struct cluster *cluster = directory_find(directory, set->cluster);
    if (cluster != NULL && cluster_is_named(cluster->config)) {
        apply_set(directory, cluster, set, now_us);
    }
}

void directory_put_first_endpoints(struct directory *directory, const struct endpoint_set *set,
                                   uint64_t now_us)
{
    MAP_EACH(&directory->by_name, entry)
    {
        struct cluster *cluster = entry->value;
        if (fed_by(cluster, set) && !cluster->warm) {
            apply_set(directory, cluster, set, now_us);
        }
    }
}

void directory_remove(struct directory *directory, struct slice name)
{
    struct cluster *cluster = map_remove(&directory->by_name, name);
    if (cluster != NULL) {
        cluster_release(&cluster);
        directory->version++;
    }
}

void binding_init(struct binding *binding, const struct route_table *table, uint64_t draw)
{
    *binding = (struct binding){.table = table, .splits = splits_new(table, draw)};
    binding->clusters = NEW_ARRAY(struct cluster *, table->cluster_count);
}

void binding_update(struct binding *binding, const struct route_table *table, uint64_t draw)
{
    splits_update(binding->splits, table, draw);
    binding->table = table;
    binding->version = 0;
    mem_free(binding->clusters);
    binding->clusters = NEW_ARRAY(struct cluster *, table->cluster_count);
}

void binding_succeed(struct binding *next, struct binding *before, uint64_t draw)
{
    CHECK(next->splits != NULL && before->splits != NULL);
    splits_update(before->splits, next->table, draw);
    splits_free(&next->splits);
    next->splits = before->splits;
    before->splits = NULL;
}

void binding_fini(struct binding *binding)
{
    splits_free(&binding->splits);
    FREE(binding->clusters);
}

struct cluster *binding_cluster(struct binding *binding, const struct directory *directory,
                                unsigned index)
{
    CHECK(index < binding->table->cluster_count);
    if (UNLIKELY(binding->version != directory->version)) {
        for (unsigned i = 0; i < binding->table->cluster_count; i++) {
            binding->clusters[i] = directory_find(directory, binding->table->clusters[i]);
        }
        binding->version = directory->version;
    }
    return binding->clusters[index];
}
