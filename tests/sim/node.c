#include "tests/sim/node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "sidecar/config/compile.h"
#include "sidecar/config/control_place.h"
#include "sidecar/config/destinations.h"
#include "sidecar/config/feed.h"
#include "sidecar/config/identity.h"
#include "sidecar/config/names.h"
#include "sidecar/upstream/pool.h"
#include "tests/sim/tls_sim.h"

#define MESSAGE_MAX (8U << 20)
#define WAITERS_MAX 64U
#define ENTRIES_MAX 64U

static void touch(struct node *node)
{
    for (unsigned i = 0; i < node->worker_count; i++) {
        world_touch(node->hosts[i]);
    }
    if (node->admin != NULL) {
        world_touch(node->admin);
    }
}

/* ---- static configuration ---- */

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
    for (unsigned w = 0; w < node->worker_count; w++) {
        struct worker *worker = &node->workers[w];
        for (uint32_t i = 0; i < config->cluster_count; i++) {
            directory_put(&worker->clusters, &config->clusters[i], NULL,
                          node->options.world->now_us, rng_u64(&worker->rng));
        }
        worker_clusters_changed(worker);
    }
}

/* The same socket in every worker; `add` makes the listener of one, which takes *net. */
static void open_socket(struct node *node, const struct addr *at,
                        void (*add)(struct worker *, const void *, struct net_listener **),
                        const void *what)
{
    struct error err = {.text = ""};
    struct net_listener *net = net_listen(node->hosts[0]->loop, at, 1024, &err);
    CHECK(net != NULL);
    for (unsigned i = 1; i < node->worker_count; i++) {
        struct net_listener *shared = net->ops->share(net, node->hosts[i]->loop);
        add(&node->workers[i], what, &shared);
    }
    add(&node->workers[0], what, &net);
}

static void add_listener(struct worker *worker, const void *config, struct net_listener **net)
{
    (void)listener_new(worker, config, net);
}

static void add_place(struct worker *worker, const void *place, struct net_listener **net)
{
    (void)listener_new_at(worker, place, net);
}

static void start_static(struct node *node)
{
    node->configs[node->config_count++] = compile(node->options.config);
    const struct bootstrap *config = node->configs[0];
    put_clusters(node, config);
    for (uint32_t i = 0; i < config->listener_count; i++) {
        open_socket(node, &config->listeners[i].addr, add_listener, &config->listeners[i]);
    }
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
    touch(node);
    struct bootstrap *next = compile(config);
    node->configs[node->config_count++] = next;
    put_clusters(node, next);
    for (unsigned i = 0; i < node->worker_count; i++) {
        LIST_EACH(&node->workers[i].listeners, link)
        {
            struct listener *listener = LIST_ITEM(link, struct listener, link);
            const struct listener_config *to = find_listener(next, listener->config->name);
            CHECK(to != NULL);
            listener_apply(listener, to, NULL);
        }
    }
}

/* ---- with a control plane ---- */

static void on_changed(struct task *task)
{
    struct node *node = CONTAINER_OF(task, struct node, changed);
    loop_post(node->admin->loop, feed_task(node->feed));
}

/* All that a simulated mesh has is named by address. */
static void ask_nobody(void *asker, struct resolve_query *query, const char *name,
                       enum resolve_families families)
{
    (void)asker;
    (void)query;
    (void)name;
    (void)families;
    CHECK(false);
}

static void start_names(struct node *node, uint64_t seed)
{
    struct error err = {.text = ""};
    struct control_place_options place = {.loop = node->admin->loop, .ask = ask_nobody};
    struct names_options names = {.loop = node->admin->loop,
                                  .workers = node->list,
                                  .worker_count = node->worker_count,
                                  .seed = seed,
                                  .ask = ask_nobody};
    node->place = control_place_new(&place, node->options.control.at, &err);
    CHECK(node->place != NULL);
    node->names = names_new(&names);
}

static void start_identity(struct node *node, uint64_t seed)
{
    const struct node_control *control = &node->options.control;
    struct identity_options options = {.loop = node->admin->loop,
                                       .place = node->place,
                                       .authority = control->at,
                                       .mesh_root = control->mesh_root,
                                       .token_file = control->token_file,
                                       .trust_domain = "cluster.local",
                                       .namespace = "default",
                                       .account = control->account,
                                       .workers = node->list,
                                       .worker_count = node->worker_count,
                                       .changed = &node->changed,
                                       .seed = seed};
    struct error err = {.text = ""};
    node->ident = identity_new(&options, &err);
    CHECK(node->ident != NULL);
}

static void start_feed(struct node *node, uint64_t seed)
{
    const struct node_control *control = &node->options.control;
    struct feed_node said = {.address = control->address,
                             .namespace = "default",
                             .name = control->name,
                             .account = control->account,
                             .network = "",
                             .capture = "nft"};
    struct feed_options options = {.loop = node->admin->loop,
                                   .identity = node->ident,
                                   .registry = node->registry,
                                   .names = node->names,
                                   .workers = node->list,
                                   .worker_count = node->worker_count,
                                   .node = feed_node_encode(&node->arena, &said),
                                   .message_max = MESSAGE_MAX,
                                   .seed = seed,
                                   .changed = &node->changed};
    node->feed = feed_new(&options);
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct destinations_options destinations = {.negative_us = control->negative_us,
                                                    .idle_us = control->idle_us,
                                                    .waiters_max = WAITERS_MAX,
                                                    .entries_max = ENTRIES_MAX,
                                                    .ask = feed_ask,
                                                    .asker = feed_asker(node->feed, i)};
        node->workers[i].destinations = destinations_new(&node->workers[i], &destinations);
    }
    for (unsigned i = 0; i < control->place_count; i++) {
        open_socket(node, &control->places[i].at, add_place, &control->places[i]);
    }
}

/* ---- life ---- */

static void start_worker(struct node *node, unsigned index)
{
    struct worker *worker = &node->workers[index];
    worker_init(worker, index, node->hosts[index]->loop, node->registry, &node->settings,
                rng_u64(&node->options.world->rng));
    worker->stats = stats_worker_new(node->stats);
    worker->siblings = node->list;
    worker->sibling_count = node->worker_count;
    if (node->options.config == NULL) {
        return;
    }
    worker->identity = slice_of_text(node->options.identity);
    if (node->options.certificate == NULL) {
        worker->keys.provider = tls_sim();
        return;
    }
    struct tls_identity *certificate = tls_identity_ref(node->options.certificate);
    struct tls_trust *trust = tls_trust_ref(node->options.trust);
    tls_keys_set_identity_take(&worker->keys, &certificate);
    tls_keys_set_trust_take(&worker->keys, &trust);
}

void node_start(struct node *node)
{
    struct rng *rng = &node->options.world->rng;
    CHECK(!node->open);
    touch(node);
    node->open = true;
    arena_init(&node->arena, NULL);
    node->registry = shared_registry_new();
    const struct stats_workload self = {.name = slice_of_text("sim")};
    node->stats = stats_new(&self, STATS_SERIES_MAX, rng_u64(rng));
    for (unsigned i = 0; i < node->worker_count; i++) {
        start_worker(node, i);
    }
    if (node->options.config != NULL) {
        start_static(node);
    } else {
        start_names(node, rng_u64(rng));
        start_identity(node, rng_u64(rng));
        start_feed(node, rng_u64(rng));
    }
}

void node_init(struct node *node, const struct node_options *options)
{
    CHECK(options->workers >= 1);
    CHECK(options->workers <= NODE_WORKERS_MAX);
    *node = (struct node){.options = *options, .worker_count = options->workers};
    node->changed.run = on_changed;
    worker_settings_init(&node->settings);
    node->settings.trim_bytes = UINT64_MAX; /* the heap is that of all runs: it knows no seed */
    for (unsigned i = 0; i < node->worker_count; i++) {
        node->hosts[i] = world_host(options->world, options->pod, options->name, true);
        node->list[i] = &node->workers[i];
    }
    if (options->config == NULL) {
        node->admin = world_host(options->world, options->pod, options->name, true);
    }
    node_start(node);
}

void node_kill(struct node *node)
{
    for (unsigned i = 0; i < node->worker_count; i++) {
        world_kill(node->options.world, node->hosts[i]);
    }
    if (node->admin != NULL) {
        world_kill(node->options.world, node->admin);
    }
    node_fini(node);
}

static void drain_loops(struct node *node)
{
    for (unsigned i = 0; i < node->worker_count; i++) {
        loop_drain(node->hosts[i]->loop);
    }
}

void node_fini(struct node *node)
{
    if (!node->open) {
        return;
    }
    node->open = false;
    drain_loops(node); /* mail that waits */
    for (unsigned i = 0; i < node->worker_count; i++) {
        worker_fini(&node->workers[i]);
    }
    drain_loops(node); /* connections that one gave to another which had ended */
    if (node->admin != NULL) {
        task_cancel(&node->changed);
        feed_free(&node->feed);
        identity_free(&node->ident);
        control_place_free(&node->place);
        names_free(&node->names);
        loop_drain(node->admin->loop);
    }
    for (unsigned i = 0; i < node->config_count; i++) {
        snapshot_free(&node->configs[i]->owner);
    }
    node->config_count = 0;
    shared_registry_free(&node->registry);
    for (unsigned i = 0; i < node->worker_count; i++) {
        stats_worker_free(&node->workers[i].stats);
    }
    stats_free(&node->stats);
    arena_fini(&node->arena);
}

void node_drain(struct node *node)
{
    touch(node);
    for (unsigned i = 0; i < node->worker_count; i++) {
        worker_drain(&node->workers[i]);
    }
}

/* ---- what it is like ---- */

bool node_is_ready(const struct node *node)
{
    return node->open &&
           (node->feed == NULL || (identity_is_valid(node->ident) && feed_is_ready(node->feed)));
}

uint64_t node_certificate_end(const struct node *node)
{
    const struct tls_validity *validity =
        node->ident != NULL ? identity_get_validity(node->ident) : NULL;
    return validity != NULL ? validity->not_after_us : 0;
}

uint64_t node_exchanges(const struct node *node)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < node->worker_count; i++) {
        sum += node->workers[i].exchanges_begun;
    }
    return sum;
}

const struct cluster *node_cluster(const struct node *node, const char *name)
{
    return directory_find(&node->workers[0].clusters, slice_of_text(name));
}

struct total {
    char line[1024]; /* the one that came so far */
    size_t len;
    const char *name;
    const char *labels[2];
    uint64_t sum;
};

static void end_line(struct total *total)
{
    total->line[total->len] = '\0';
    size_t len = strlen(total->name);
    const char *value = strrchr(total->line, ' ');
    if (value != NULL && strncmp(total->line, total->name, len) == 0 &&
        (total->line[len] == '{' || total->line[len] == ' ') &&
        strstr(total->line, total->labels[0]) != NULL &&
        strstr(total->line, total->labels[1]) != NULL) {
        total->sum += strtoull(value, NULL, 10);
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

uint64_t node_metric(const struct node *node, const char *name, const char *label,
                     const char *other)
{
    struct total total = {.name = name, .labels = {label, other}};
    metrics_write(stats_get_metrics(node->stats), take_metrics, &total);
    return total.sum;
}

/* ---- oracles ---- */

static void check_cluster(const struct node *node, const struct cluster *cluster)
{
    const struct shared_cluster *shared = cluster->shared;
    struct world *world = node->options.world;
    const struct {
        const char *name;
        unsigned value;
    } counts[] = {{"active requests", atomic_load(&shared->active.value)},
                  {"pending requests", atomic_load(&shared->pending.value)},
                  {"connections", atomic_load(&shared->connections.value)},
                  {"retries", atomic_load(&shared->retries.value)}};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (counts[i].value != 0) {
            world_fail(world, "%s: cluster %.*s still counts %u %s", node->options.name,
                       SLICE_ARG(cluster->config->name), counts[i].value, counts[i].name);
        }
    }
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        struct endpoint *endpoint = cluster->endpoints[i];
        unsigned connections = atomic_load(&endpoint->shared->connections);
        if (endpoint_active(endpoint) != 0 || connections != 0) {
            world_fail(world, "%s: an endpoint still counts %u requests and %u connections",
                       node->options.name, endpoint_active(endpoint), connections);
        }
    }
}

static void check_pool_waiters(const struct node *node, const struct pool *pool)
{
    struct pool_counts counts = pool_counts(pool);
    if (counts.waiting > 0 && counts.connecting + counts.busy == 0) {
        world_fail(node->options.world, "%s: %u requests wait for a connection that nobody opens",
                   node->options.name, counts.waiting);
    }
}

/* Every pool of every worker, as `look` sees it. */
static void each_pool(const struct node *node,
                      void (*look)(const struct node *node, const struct pool *pool))
{
    for (unsigned w = 0; w < node->worker_count; w++) {
        MAP_EACH(&node->workers[w].clusters.by_name, entry)
        {
            const struct cluster *cluster = entry->value;
            for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
                if (cluster->endpoints[i]->pool != NULL) {
                    look(node, cluster->endpoints[i]->pool);
                }
            }
        }
    }
}

void node_check_waiters(const struct node *node)
{
    if (node->open) {
        each_pool(node, check_pool_waiters);
    }
}

static void check_no_pool(const struct node *node, const struct pool *pool)
{
    struct pool_counts counts = pool_counts(pool);
    world_fail(node->options.world,
               "%s: a pool still has %u connecting, %u idle, %u busy, %u waiting",
               node->options.name, counts.connecting, counts.idle, counts.busy, counts.waiting);
}

/* Each exchange reports once: what was counted is what was begun. */
static void check_reports(const struct node *node)
{
    uint64_t reports = node_metric(node, "istio_requests_total", "", "") +
                       node_metric(node, "istio_tcp_connections_closed_total", "", "");
    uint64_t begun = node_exchanges(node);
    if (reports != begun) {
        world_fail(node->options.world, "%s: %" PRIu64 " exchanges made %" PRIu64 " reports",
                   node->options.name, begun, reports);
    }
}

static void check_worker_idle(const struct node *node, const struct worker *worker)
{
    struct world *world = node->options.world;
    uint32_t open = worker_exchanges_open(worker);
    if (open != 0) {
        world_fail(world, "%s: %u exchanges never ended", node->options.name, open);
    }
    if (!list_empty(&worker->pools)) {
        world_fail(world, "%s: a pool is left over", node->options.name);
    }
    if (!list_empty(&worker->servers) || !list_empty(&worker->intakes) ||
        !list_empty(&worker->arrivals)) {
        world_fail(world, "%s: a downstream connection never ended", node->options.name);
    }
    if (worker_get_load(worker) != 0) {
        world_fail(world, "%s: a worker without connections weighs %u", node->options.name,
                   worker_get_load(worker));
    }
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        check_cluster(node, entry->value);
    }
    world_note(world, "exchanges", worker->exchanges_begun, open, 0);
}

void node_check_idle(const struct node *node)
{
    if (!node->open) {
        return;
    }
    each_pool(node, check_no_pool);
    check_reports(node);
    for (unsigned i = 0; i < node->worker_count; i++) {
        check_worker_idle(node, &node->workers[i]);
    }
}
