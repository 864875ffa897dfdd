#include "sidecar/worker.h"

#include <signal.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/regex.h"
#include "sidecar/accept/intake.h"
#include "sidecar/accept/listener.h"
#include "sidecar/accept/outbound.h"
#include "sidecar/alpn.h"
#include "sidecar/config/destinations.h"
#include "sidecar/exchange/record.h"
#include "sidecar/exchange/server.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/endpoint.h"
#include "sidecar/upstream/pool.h"

#define SECONDS UINT64_C(1000000)

#define ENDED_LOAD (1 << 30)

/* So often it is looked whether memory is still short. */
#define RECOVER_AFTER_US 500000U

void worker_settings_init(struct worker_settings *settings)
{
    *settings = (struct worker_settings){
        .head_timeout_us = 10 * SECONDS,
        .downstream_idle_us = 3600 * SECONDS,
        .upstream_idle_us = 55 * SECONDS,
        .tunnel_idle_us = 3600 * SECONDS,
        .half_closed_us = 50 * SECONDS,
        .detect_hold_us = 20000,
        .on_demand_timeout_us = 5 * SECONDS,
        .ping_us = 30 * SECONDS,
        .replay_bytes = 64 * 1024,
        .max_head_bytes = 60 * 1024,
        .max_head_count = 100,
        .mux_streams = 100,
        .mux_streams_max = 8192,
        .h2_max_streams = 1000,
        .h2_budget =
            {[H2_BUDGET_RESET] = 1000, [H2_BUDGET_GLITCH] = 500, [H2_BUDGET_CONTROL] = 2000},
        .mux_connections = 4,
        .trim_bytes = 64 * 1024,
        .sampling_ppm = 10000,
    };
}

/* ---- outlier detection's intervals ---- */

static void arm_sweep(struct worker *worker)
{
    uint64_t next_us = 0;
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        uint64_t at_us = outlier_next_us(entry->value);
        next_us = at_us != 0 && (next_us == 0 || at_us < next_us) ? at_us : next_us;
    }
    if (next_us != 0) {
        timer_set(worker->loop, &worker->sweep_timer, next_us);
    } else {
        timer_clear(&worker->sweep_timer);
    }
}

static void run_sweep(struct task *task)
{
    struct worker *worker = CONTAINER_OF(task, struct worker, sweep);
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        struct cluster *cluster = entry->value;
        struct outlier_swept swept =
            outlier_sweep(cluster, worker->loop->now_us, rng_u64(&worker->rng));
        if (swept.returned > 0 || swept.ejected > 0) {
            log_info("outlier detection", LOG_SLICE("cluster", cluster->config->name),
                     LOG_U64("returned", swept.returned), LOG_U64("ejected", swept.ejected));
        }
    }
    arm_sweep(worker);
}

/* A cluster that is new, or has a new interval, has its clock started by a sweep. */
void worker_clusters_changed(struct worker *worker)
{
    loop_post(worker->loop, &worker->sweep);
}

/* ---- who we are ---- */

void worker_set_workload(struct worker *worker, struct slice workload)
{
    if (worker->stats == NULL) {
        return;
    }
    if (workload.len > 0) {
        struct endpoint_config as_endpoint = {.workload = workload};
        struct stats_workload self = stats_workload_of_endpoint(&as_endpoint);
        stats_worker_set_self(worker->stats, &self);
    }
    const struct stats_workload *self = stats_worker_get_self(worker->stats);
    worker->self = (struct peer_note){.workload = self->name,
                                      .namespace = self->namespace,
                                      .app = self->app,
                                      .version = self->version};
}

/* ---- memory after a burst ---- */

#define TRIM_AFTER_US 100000U

void worker_trim_soon(struct worker *worker)
{
    if (worker->trim_timer.at_us == 0) {
        timer_set(worker->loop, &worker->trim_timer, worker->loop->now_us + TRIM_AFTER_US);
    }
}

/* Free lists shrink to what was used since the last time; and what a burst took and gave back lies
 * in the heap, page by page among what lives on: the kernel gets it once the burst is over. Under
 * steady load it would only come back page by page. */
static void run_trim(struct task *task)
{
    struct worker *worker = CONTAINER_OF(task, struct worker, trim);
    struct loop *loop = worker->loop;
    timer_pause(&worker->trim_timer);
    arena_pool_trim(&loop->arenas);
    buf_pool_trim(&loop->bufs);
    size_t fallen = alloc_fallen();
    bool moving = fallen > worker->settings->trim_bytes;
    worker->trim_owed += fallen;
    if (!moving && worker->trim_owed > worker->settings->trim_bytes) {
        worker->trim_owed = 0;
        alloc_trim();
    }
    if (moving || loop->arenas.kept + loop->bufs.kept > 0) {
        worker_trim_soon(worker);
    }
}

/* ---- memory is short ---- */

static void tell_peers(struct worker *worker)
{
    LIST_EACH(&worker->servers, node)
    {
        struct server *server = LIST_ITEM(node, struct server, link);
        peer_link_tell(&server->peer_link, worker, &server->channel);
    }
}

static void run_recover(struct task *task)
{
    struct worker *worker = CONTAINER_OF(task, struct worker, recover);
    timer_clear(&worker->recover_timer);
    if (worker_memory_used() > worker->settings->memory_limit) {
        timer_set(worker->loop, &worker->recover_timer, worker->loop->now_us + RECOVER_AFTER_US);
        return;
    }
    worker->overloaded = false;
    tell_peers(worker);
}

void worker_shed(struct worker *worker)
{
    if (!worker->overloaded) {
        worker->overloaded = true;
        tell_peers(worker);
        timer_set(worker->loop, &worker->recover_timer, worker->loop->now_us + RECOVER_AFTER_US);
    }
}

/* ---- life ---- */

static uint32_t streams_at_once(const struct worker_settings *settings, enum codec_side side,
                                bool mesh)
{
    if (mesh) {
        return settings->mux_streams_max;
    }
    /* As a client: until the server has said what it takes, one, so that it has none to refuse. */
    return side == CODEC_SERVER ? settings->h2_max_streams : 1;
}

/* Between our own sidecars: PEER frames, tunnels, and no Huffman code, which costs more than it
 * saves there. */
static void init_h2_options(struct worker *worker, enum codec_side side)
{
    for (unsigned mesh = 0; mesh < 2; mesh++) {
        struct h2_options *options = &worker->h2_options[side][mesh];
        *options = h2_options_default(side);
        options->peer_frames = mesh == 1;
        options->huffman = mesh == 0;
        options->enable_connect_protocol = side == CODEC_SERVER;
        options->max_concurrent_streams = streams_at_once(worker->settings, side, mesh == 1);
        for (unsigned i = 0; i < H2_BUDGET_COUNT; i++) {
            uint32_t burst = worker->settings->h2_budget[i];
            options->budget[i].burst = burst;
            options->budget[i].per_second = burst / 10 > 0 ? burst / 10 : 1;
        }
    }
}

struct codec *worker_h2(struct worker *worker, enum codec_side side, struct slice alpn)
{
    return h2_new(worker->h2, &worker->h2_options[side][alpn_is_pillion(alpn) ? 1 : 0]);
}

void worker_init(struct worker *worker, unsigned index, struct loop *loop,
                 struct shared_registry *registry, const struct worker_settings *settings,
                 uint64_t seed)
{
    *worker = (struct worker){.index = index, .loop = loop, .settings = settings};
    rng_seed(&worker->rng, seed);
    directory_init(&worker->clusters, registry, rng_u64(&worker->rng));
    worker->h1_limits = H1_LIMITS_DEFAULT;
    worker->h1_limits.head_bytes = settings->max_head_bytes;
    worker->h1_limits.fields = settings->max_head_count;
    worker->h1 = NEW(struct h1_scratch);
    worker->recorder = recorder_new();
    worker->h2 = h2_pool_new();
    init_h2_options(worker, CODEC_SERVER);
    init_h2_options(worker, CODEC_CLIENT);
    worker->matcher.scratch = regex_scratch_new();
    tls_keys_init(&worker->keys, tls_openssl());
    list_init(&worker->intakes);
    worker->trim.run = run_trim;
    worker->trim_timer.task = &worker->trim;
    list_init(&worker->arrivals);
    worker->sweep.run = run_sweep;
    worker->sweep_timer.task = &worker->sweep;
    list_init(&worker->pools);
    list_init(&worker->listeners);
    list_init(&worker->servers);
    worker->recover.run = run_recover;
    worker->recover_timer.task = &worker->recover;
}

void worker_fini(struct worker *worker)
{
    worker->ended = true;
    worker_weigh(worker, ENDED_LOAD); /* nobody gives it any more */
    intake_close_all(worker);         /* first: what is not served yet refers to its listener */
    outbound_close_all(worker);
    LIST_EACH(&worker->listeners, node)
    {
        struct listener *listener = LIST_ITEM(node, struct listener, link);
        listener_free(&listener);
    }
    LIST_EACH(&worker->servers, node)
    {
        server_close(LIST_ITEM(node, struct server, link));
    }
    loop_drain(worker->loop);
    pool_close_all(worker);
    loop_drain(worker->loop);
    timer_clear(&worker->sweep_timer);
    timer_clear(&worker->trim_timer);
    timer_clear(&worker->recover_timer);
    destinations_free(&worker->destinations);
    directory_fini(&worker->clusters);
    tls_keys_fini(&worker->keys);
    regex_scratch_free(&worker->matcher.scratch);
    h2_pool_free(&worker->h2);
    FREE(worker->h1);
    recorder_free(&worker->recorder);
}

void worker_drain(struct worker *worker)
{
    worker->draining = true;
    LIST_EACH(&worker->servers, node)
    {
        struct server *server = LIST_ITEM(node, struct server, link);
        peer_link_tell(&server->peer_link, worker, &server->channel);
        server_drain(server);
    }
}

uint32_t worker_exchanges_open(const struct worker *worker)
{
    return atomic_load_explicit(&worker->exchanges_open, memory_order_relaxed);
}

void worker_weigh(struct worker *worker, int32_t by)
{
    (void)atomic_fetch_add_explicit(&worker->load, (uint32_t)by, memory_order_relaxed);
}

uint32_t worker_get_load(const struct worker *worker)
{
    return atomic_load_explicit(&worker->load, memory_order_relaxed);
}

void worker_count_exchange(struct worker *worker, bool begun)
{
    uint32_t open = atomic_load_explicit(&worker->exchanges_open, memory_order_relaxed);
    CHECK(begun || open > 0);
    atomic_store_explicit(&worker->exchanges_open, begun ? open + 1 : open - 1,
                          memory_order_relaxed);
    if (!begun) {
        worker_trim_soon(worker);
    }
}

static void *run_thread(void *argument)
{
    struct worker *worker = argument;
    loop_run(worker->loop);
    worker_fini(worker);
    return NULL;
}

void worker_start(struct worker *worker)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals go to the admin thread */
    CHECK(pthread_create(&worker->thread, NULL, run_thread, worker) == 0);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    worker->started = true;
}

void worker_join(struct worker *worker)
{
    CHECK(worker->started);
    (void)pthread_join(worker->thread, NULL);
}

uint64_t worker_memory_used(void)
{
    return alloc_counts().live_bytes;
}

void worker_note_ejection(struct worker *worker, const struct endpoint *endpoint,
                          enum outlier_cause cause)
{
    char text[ADDR_TEXT_MAX];
    stats_count_by(worker->stats, STAT_EJECTIONS, cause, outlier_cause_name(cause));
    log_info("endpoint ejected", LOG_TEXT("address", addr_format(&endpoint->config.addr, text)),
             LOG_TEXT("cause", outlier_cause_name(cause)));
}
