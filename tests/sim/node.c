#include "tests/sim/node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "sidecar/accept/listener.h"
#include "sidecar/config/compile.h"
#include "sidecar/upstream/pool.h"
#include "tests/sim/tls_sim.h"

static struct bootstrap *compile(const char *config)
{
    struct arena arena;
    arena_init(&arena, NULL);
    char *text = arena_text(&arena, slice_of_text(config));
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    struct error err = {.text = ""};
    json_t *json = json_parse(slice_of_text(text), NULL, &err);
    struct bootstrap *out = json != NULL ? compile_bootstrap(json, NULL, &err) : NULL;
    if (out == NULL) {
        (void)fprintf(stderr, "%s\n%s\n", text, err.text);
    }
    CHECK(out != NULL);
    json_decref(json);
    arena_fini(&arena);
    return out;
}

static void put_clusters(struct node *node, const struct bootstrap *config)
{
    struct worker *worker = &node->worker;
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        directory_put(&worker->clusters, &config->clusters[i], NULL, node->host->world->now_us,
                      rng_u64(&worker->rng));
    }
    worker_clusters_changed(worker);
}

static void listen_all(struct node *node, const struct bootstrap *config)
{
    for (uint32_t i = 0; i < config->listener_count; i++) {
        struct error err = {.text = ""};
        struct net_listener *net =
            net_listen(node->host->loop, &config->listeners[i].addr, 1024, &err);
        CHECK(net != NULL);
        (void)listener_new(&node->worker, &config->listeners[i], &net);
    }
}

void node_init(struct node *node, struct host *host, const char *identity, const char *config,
               uint64_t seed)
{
    *node = (struct node){.host = host};
    worker_settings_init(&node->settings);
    node->registry = shared_registry_new();
    worker_init(&node->worker, 0, host->loop, node->registry, &node->settings, seed);
    const struct stats_workload self = {.name = slice_of_text("sim")};
    node->stats = stats_new(&self, STATS_SERIES_MAX, seed);
    node->worker.stats = stats_worker_new(node->stats);
    node->worker.keys.provider = tls_sim();
    node->worker.identity = slice_of_text(identity);
    node->configs[node->config_count++] = compile(config);
    put_clusters(node, node->configs[0]);
    listen_all(node, node->configs[0]);
}

static const struct listener_config *find_listener(const struct bootstrap *config,
                                                   struct slice name)
{
    for (uint32_t i = 0; i < config->listener_count; i++) {
        if (slice_eq(config->listeners[i].name, name)) {
            return &config->listeners[i];
        }
    }
    return NULL;
}

void node_update(struct node *node, const char *config)
{
    CHECK(node->config_count < NODE_CONFIGS_MAX);
    struct bootstrap *next = compile(config);
    node->configs[node->config_count++] = next;
    put_clusters(node, next);
    LIST_EACH(&node->worker.listeners, link)
    {
        struct listener *listener = LIST_ITEM(link, struct listener, link);
        const struct listener_config *to = find_listener(next, listener->config->name);
        CHECK(to != NULL);
        listener_apply(listener, to, NULL);
    }
}

static void check_cluster(struct node *node, const struct cluster *cluster)
{
    const struct shared_cluster *shared = cluster->shared;
    const struct {
        const char *name;
        unsigned value;
    } counts[] = {{"active requests", atomic_load(&shared->active.value)},
                  {"pending requests", atomic_load(&shared->pending.value)},
                  {"connections", atomic_load(&shared->connections.value)},
                  {"retries", atomic_load(&shared->retries.value)}};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (counts[i].value != 0) {
            world_fail(node->host->world, "%s: cluster %.*s still counts %u %s", node->host->name,
                       SLICE_ARG(cluster->config->name), counts[i].value, counts[i].name);
        }
    }
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        struct endpoint *endpoint = cluster->endpoints[i];
        unsigned connections = atomic_load(&endpoint->shared->connections);
        if (endpoint_active(endpoint) != 0 || connections != 0) {
            world_fail(node->host->world,
                       "%s: an endpoint still counts %u requests and %u connections",
                       node->host->name, endpoint_active(endpoint), connections);
        }
    }
}

void node_check_waiters(struct node *node)
{
    MAP_EACH(&node->worker.clusters.by_name, entry)
    {
        const struct cluster *cluster = entry->value;
        for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
            const struct pool *pool = cluster->endpoints[i]->pool;
            struct pool_counts counts = {.waiting = 0};
            if (pool != NULL) {
                counts = pool_counts(pool);
            }
            if (counts.waiting > 0 && counts.connecting + counts.busy == 0) {
                world_fail(node->host->world,
                           "%s: %u requests wait for a connection that nobody opens",
                           node->host->name, counts.waiting);
            }
        }
    }
}

static void check_pools(struct node *node)
{
    MAP_EACH(&node->worker.clusters.by_name, entry)
    {
        const struct cluster *cluster = entry->value;
        for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
            const struct pool *pool = cluster->endpoints[i]->pool;
            if (pool != NULL) {
                struct pool_counts counts = pool_counts(pool);
                world_fail(node->host->world,
                           "%s: a pool still has %u connecting, %u idle, %u busy, %u waiting",
                           node->host->name, counts.connecting, counts.idle, counts.busy,
                           counts.waiting);
            }
        }
    }
    if (!list_empty(&node->worker.pools)) {
        world_fail(node->host->world, "%s: a pool is left over", node->host->name);
    }
}

struct total {
    char line[1024]; /* the one that came so far */
    size_t len;
    uint64_t reports;
};

static void end_line(struct total *total)
{
    static const char *const counted[] = {"istio_requests_total{",
                                          "istio_tcp_connections_closed_total{"};
    total->line[total->len] = '\0';
    for (size_t i = 0; i < COUNT_OF(counted); i++) {
        const char *value = strrchr(total->line, ' ');
        if (strncmp(total->line, counted[i], strlen(counted[i])) == 0 && value != NULL) {
            total->reports += strtoull(value, NULL, 10);
        }
    }
    total->len = 0;
}

static void take_metrics(void *owner, struct slice text)
{
    struct total *total = owner;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\n') {
            end_line(total);
        } else if (total->len + 1 < sizeof total->line) {
            total->line[total->len++] = (char)text.at[i];
        }
    }
}

/* Each exchange reports once: what was counted is what was begun. */
static void check_reports(struct node *node)
{
    struct total total = {.len = 0};
    metrics_write(stats_get_metrics(node->stats), take_metrics, &total);
    if (total.reports != node->worker.exchanges_begun) {
        world_fail(node->host->world, "%s: %" PRIu64 " exchanges made %" PRIu64 " reports",
                   node->host->name, node->worker.exchanges_begun, total.reports);
    }
}

void node_check_idle(struct node *node)
{
    struct worker *worker = &node->worker;
    struct world *world = node->host->world;
    uint32_t open = worker_exchanges_open(worker);
    if (open != 0) {
        world_fail(world, "%s: %u exchanges never ended", node->host->name, open);
    }
    check_pools(node);
    check_reports(node);
    if (!list_empty(&worker->servers) || !list_empty(&worker->intakes)) {
        world_fail(world, "%s: a downstream connection never ended", node->host->name);
    }
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        check_cluster(node, entry->value);
    }
    world_note(world, "exchanges", worker->exchanges_begun, open, 0);
}

void node_fini(struct node *node)
{
    worker_fini(&node->worker);
    loop_drain(node->host->loop);
    for (unsigned i = 0; i < node->config_count; i++) {
        snapshot_free(&node->configs[i]->owner);
    }
    shared_registry_free(&node->registry);
    stats_worker_free(&node->worker.stats);
    stats_free(&node->stats);
}
