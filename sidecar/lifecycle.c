#include "sidecar/lifecycle.h"

#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/yaml.h"
#include "sidecar/accept/listener.h"
#include "sidecar/admin/admin.h"
#include "sidecar/config/compile.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/shared.h"

#define BACKLOG         4096
#define DRAIN_LOOK_US   50000U
#define CONFIG_FILE_MAX ((size_t)16 << 20)
#define SECONDS         UINT64_C(1000000)

struct worker_thread {
    struct worker worker;
    /* Mail to it, embedded: each is sent at most once. */
    struct mail drain;
    struct mail stop;
};

static void deliver_drain(struct mail *mail, struct loop *loop)
{
    (void)loop;
    worker_drain(&CONTAINER_OF(mail, struct worker_thread, drain)->worker);
}

static void deliver_stop(struct mail *mail, struct loop *loop)
{
    (void)mail;
    loop_stop(loop);
}

uint32_t sidecar_exchanges_open(const struct sidecar *sidecar)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        sum += worker_exchanges_open(&sidecar->workers[i].worker);
    }
    return sum;
}

/* ---- drain ---- */

static void on_terminate(struct task *task)
{
    struct sidecar *sidecar = CONTAINER_OF(task, struct sidecar, terminate);
    if (sidecar->drain_began_us != 0) {
        return;
    }
    log_info("draining", LOG_U64("exchanges", sidecar_exchanges_open(sidecar)));
    sidecar->drain_began_us = sidecar->loop->now_us;
    admin_set_ready(sidecar->admin, false);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        loop_send(sidecar->workers[i].worker.loop, &sidecar->workers[i].drain);
    }
    timer_set(sidecar->loop, &sidecar->drain_timer, sidecar->loop->now_us + DRAIN_LOOK_US);
}

static void on_drain(struct task *task)
{
    struct sidecar *sidecar = CONTAINER_OF(task, struct sidecar, drain);
    uint64_t spent_us = sidecar->loop->now_us - sidecar->drain_began_us;
    uint32_t open = sidecar_exchanges_open(sidecar);
    bool over = (open == 0 && spent_us >= sidecar->options.drain_min_us) ||
                spent_us >= sidecar->options.drain_max_us;
    if (!over) {
        timer_set(sidecar->loop, &sidecar->drain_timer, sidecar->loop->now_us + DRAIN_LOOK_US);
        return;
    }
    log_info("stopped", LOG_U64("cut", open));
    loop_stop(sidecar->loop);
}

/* ---- start ---- */

static void fill_settings(struct sidecar *sidecar)
{
    struct worker_settings *settings = &sidecar->settings;
    const struct sidecar_options *options = &sidecar->options;
    worker_settings_init(settings);
    settings->head_timeout_us = options->head_timeout_us;
    settings->detect_hold_us = options->detect_hold_us;
    settings->replay_bytes = (uint32_t)options->replay_bytes;
    settings->max_head_bytes = (uint32_t)options->max_head_bytes;
    settings->memory_limit = options->memory_limit;
}

static bool open_listener(struct sidecar *sidecar, const struct listener_config *config,
                          struct error *err)
{
    if (!config->bind || config->addr.family == ADDR_NONE) {
        return true;
    }
    struct worker *first = &sidecar->workers[0].worker;
    struct net_listener *net = net_listen(first->loop, &config->addr, BACKLOG, err);
    if (net == NULL) {
        return error_wrap(err, "listener %.*s", SLICE_ARG(config->name));
    }
    for (unsigned i = 1; i < sidecar->worker_count; i++) {
        struct worker *worker = &sidecar->workers[i].worker;
        struct net_listener *shared = net->ops->share(net, worker->loop);
        (void)listener_new(worker, config, &shared);
    }
    (void)listener_new(first, config, &net);
    char text[ADDR_TEXT_MAX];
    log_info("listening", LOG_SLICE("listener", config->name),
             LOG_TEXT("address", addr_format(&config->addr, text)));
    return true;
}

static bool ends_with(const char *path, const char *ending)
{
    return slice_ends(slice_of_text(path), slice_of_text(ending));
}

static bool read_for_config(void *reader, const char *path, struct arena *arena,
                            struct slice *bytes, struct error *err)
{
    (void)reader;
    return file_read(path, CONFIG_FILE_MAX, arena, bytes, err);
}

/* JSON, or YAML by its ending. */
static json_t *parse_config(const char *path, struct slice text, struct arena *arena,
                            struct error *err)
{
    if (!ends_with(path, ".yaml") && !ends_with(path, ".yml")) {
        return json_parse(text, NULL, err);
    }
    struct yaml_node *root = yaml_parse(arena, text, NULL, err);
    return root != NULL ? yaml_to_json(root) : NULL;
}

static struct bootstrap *read_bootstrap(const char *path, struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct bootstrap *bootstrap = NULL;
    struct slice text;
    if (file_read(path, CONFIG_FILE_MAX, &arena, &text, err)) {
        json_t *json = parse_config(path, text, &arena, err);
        if (json != NULL) {
            struct compile_options options = {.read_file = read_for_config};
            bootstrap = compile_bootstrap(json, &options, err);
            json_decref(json);
        }
        if (bootstrap == NULL) {
            (void)error_wrap(err, "%s", path);
        }
    }
    arena_fini(&arena);
    return bootstrap;
}

/* Static configuration: the threads do not run yet, so it is applied from here. */
static bool apply_bootstrap(struct sidecar *sidecar, struct error *err)
{
    const struct bootstrap *bootstrap = sidecar->bootstrap;
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        struct worker *worker = &sidecar->workers[i].worker;
        for (uint32_t c = 0; c < bootstrap->cluster_count; c++) {
            directory_put(&worker->clusters, &bootstrap->clusters[c], NULL, worker->loop->now_us,
                          rng_u64(&worker->rng));
        }
        worker_clusters_changed(worker);
    }
    for (uint32_t l = 0; l < bootstrap->listener_count; l++) {
        if (!open_listener(sidecar, &bootstrap->listeners[l], err)) {
            return false;
        }
    }
    return true;
}

/* ---- observation ---- */

/* Our own labels: as far as --workload, or else the bootstrap's node, tells. */
static struct stats_workload own_workload(const struct sidecar *sidecar)
{
    struct slice name = slice_of_text(sidecar->options.workload); /* NS/NAME */
    struct slice namespace = {NULL, 0};
    if (slice_find(name, '/') < name.len) {
        namespace = slice_cut(&name, '/');
    }
    struct slice service = name;
    if (sidecar->bootstrap != NULL && sidecar->bootstrap->node_cluster.len > 0) {
        struct slice cluster = sidecar->bootstrap->node_cluster; /* istio's SERVICE.NS */
        service = slice_cut(&cluster, '.');
        name = name.len > 0 ? name : service;
        namespace = namespace.len > 0 ? namespace : cluster;
    }
    return (struct stats_workload){.name = name,
                                   .namespace = namespace,
                                   .app = service,
                                   .canonical_service = service,
                                   .canonical_revision = SLICE("latest")};
}

static void start_counting(struct sidecar *sidecar, uint64_t seed)
{
    struct stats_workload self = own_workload(sidecar);
    sidecar->stats = stats_new(&self, STATS_SERIES_MAX, seed);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        sidecar->workers[i].worker.stats = stats_worker_new(sidecar->stats);
    }
}

static void open_admin(struct sidecar *sidecar)
{
    const struct bootstrap *bootstrap = sidecar->bootstrap;
    struct worker **workers = NEW_ARRAY(struct worker *, sidecar->worker_count);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        workers[i] = &sidecar->workers[i].worker;
    }
    bool said = bootstrap != NULL && bootstrap->admin.family != ADDR_NONE;
    struct admin_parts parts = {.loop = sidecar->loop,
                                .workers = workers,
                                .worker_count = sidecar->worker_count,
                                .stats = sidecar->stats,
                                .drain = &sidecar->terminate,
                                .admin = said ? bootstrap->admin : sidecar->options.admin,
                                .metrics = sidecar->options.metrics};
    sidecar->admin = admin_new(&parts);
    mem_free(workers);
}

bool sidecar_init(struct sidecar *sidecar, const struct sidecar_options *options, struct error *err)
{
    *sidecar = (struct sidecar){.options = *options,
                                .terminate.run = on_terminate,
                                .drain.run = on_drain,
                                .worker_count = (unsigned)options->workers};
    fill_settings(sidecar);
    if (options->config == NULL) {
        return error_set(err, "nothing to do: neither --config nor --control-address is given");
    }
    sidecar->bootstrap = read_bootstrap(options->config, err);
    if (sidecar->bootstrap == NULL) {
        return false;
    }
    struct rng rng;
    rng_seed_from_system(&rng);
    sidecar->loop = loop_new();
    sidecar->drain_timer.task = &sidecar->drain;
    sidecar->registry = shared_registry_new();
    sidecar->workers = NEW_ARRAY(struct worker_thread, sidecar->worker_count);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        struct worker_thread *at = &sidecar->workers[i];
        at->drain.deliver = deliver_drain;
        at->stop.deliver = deliver_stop;
        worker_init(&at->worker, i, loop_new(), sidecar->registry, &sidecar->settings,
                    rng_u64(&rng));
    }
    start_counting(sidecar, rng_u64(&rng));
    open_admin(sidecar);
    if (!apply_bootstrap(sidecar, err)) {
        return false;
    }
    admin_set_ready(sidecar->admin, true);
    return true;
}

void sidecar_run(struct sidecar *sidecar)
{
    loop_on_signal(sidecar->loop, SIGTERM, &sidecar->terminate);
    loop_on_signal(sidecar->loop, SIGINT, &sidecar->terminate);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        worker_start(&sidecar->workers[i].worker);
    }
    loop_run(sidecar->loop);
}

void sidecar_fini(struct sidecar *sidecar)
{
    for (unsigned i = 0; i < sidecar->worker_count && sidecar->workers != NULL; i++) {
        struct worker_thread *at = &sidecar->workers[i];
        if (at->worker.started) {
            loop_send(at->worker.loop, &at->stop);
            worker_join(&at->worker);
        } else {
            worker_fini(&at->worker);
        }
        loop_free(&at->worker.loop);
    }
    admin_free(&sidecar->admin);
    for (unsigned i = 0; i < sidecar->worker_count && sidecar->workers != NULL; i++) {
        stats_worker_free(&sidecar->workers[i].worker.stats);
    }
    stats_free(&sidecar->stats);
    FREE(sidecar->workers);
    shared_registry_free(&sidecar->registry);
    if (sidecar->bootstrap != NULL) {
        snapshot_free(&sidecar->bootstrap->owner);
        sidecar->bootstrap = NULL;
    }
    loop_free(&sidecar->loop);
}
