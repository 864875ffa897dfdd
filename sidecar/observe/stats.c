/* The cache is a table of fixed size with open addressing: a worker sees few combinations of
 * endpoint and status, and where a peer makes it see many, the rest is counted under overflow
 * labels instead of growing the table. Refused: handles kept in the endpoint (a request's labels
 * also say status and flags, so it would be a table in each endpoint). */
#include "sidecar/observe/stats.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/spiffe.h"

#define CACHE_SLOTS   1024U /* a power of two */
#define CACHE_ENTRIES 768U
#define IDLE_US       UINT64_C(900000000)

/* ---- the table ---- */

/* TCP's labels are the first of HTTP's. */
enum label_index {
    LABEL_REPORTER,
    LABEL_SOURCE, /* one a member of struct stats_workload */
    LABEL_DESTINATION = LABEL_SOURCE + 7,
    LABEL_SERVICE = LABEL_DESTINATION + 7,
    LABEL_SERVICE_NAME,
    LABEL_SERVICE_NAMESPACE,
    LABEL_PROTOCOL,
    LABEL_FLAGS,
    LABEL_SECURITY,
    LABEL_TCP_END,
    LABEL_CODE = LABEL_TCP_END,
    LABEL_GRPC,
    LABEL_HTTP_END
};

#define WORKLOAD_LABELS(side)                                                                      \
    side "_workload", side "_workload_namespace", side "_principal", side "_app", side "_version", \
        side "_canonical_service", side "_canonical_revision"
#define TCP_LABELS                                                                                 \
    "reporter", WORKLOAD_LABELS("source"), WORKLOAD_LABELS("destination"), "destination_service",  \
        "destination_service_name", "destination_service_namespace", "request_protocol",           \
        "response_flags", "connection_security_policy"

static const char *const labels_TCP[] = {TCP_LABELS, NULL};
static const char *const labels_HTTP[] = {TCP_LABELS, "response_code", "grpc_response_status",
                                          NULL};
static const char *const labels_FAIL[] = {"fail", NULL};
static const char *const labels_WHY[] = {"why", NULL};
static const char *const labels_CAUSE[] = {"cause", NULL};
static const char *const labels_BAD[] = {"bad", NULL};
static const char *const labels_PROTOCOL[] = {"protocol", NULL};
static const char *const labels_RESULT[] = {"result", NULL};
static const char *const labels_BREAKER[] = {"breaker", NULL};
static const char *const labels_EVENT[] = {"event", NULL};
static const char *const labels_SIDE[] = {"side", NULL};
static const char *const labels_NONE[] = {NULL};

static_assert(COUNT_OF(labels_TCP) == LABEL_TCP_END + 1, "each label has its index");
static_assert(COUNT_OF(labels_HTTP) == LABEL_HTTP_END + 1, "each label has its index");

#define BOUNDS_NONE     NULL, .bound_count = 0
#define BOUNDS_DURATION metrics_duration_bounds_us, .bound_count = METRICS_DURATION_BOUNDS_COUNT
#define BOUNDS_SIZE     metrics_size_bounds, .bound_count = METRICS_SIZE_BOUNDS_COUNT

static const struct metric_family families[STAT_COUNT] = {
#define X(id, name_, kind_, set, limits, scale_, help_)                                            \
    [STAT_##id] = {.name = (name_),                                                                \
                   .kind = METRIC_##kind_,                                                         \
                   .help = (help_),                                                                \
                   .labels = labels_##set,                                                         \
                   .scale = (scale_),                                                              \
                   .bounds = BOUNDS_##limits},
    STATS_FAMILIES(X)
#undef X
};

/* ---- the process's ---- */

struct stats {
    struct metrics *metrics;
    struct arena arena; /* of self */
    struct stats_workload self;
};

static struct stats_workload copy_workload(struct arena *arena, const struct stats_workload *of)
{
    return (struct stats_workload){
        .name = arena_dup(arena, of->name),
        .namespace = arena_dup(arena, of->namespace),
        .principal = arena_dup(arena, of->principal),
        .app = arena_dup(arena, of->app),
        .version = arena_dup(arena, of->version),
        .canonical_service = arena_dup(arena, of->canonical_service),
        .canonical_revision = arena_dup(arena, of->canonical_revision),
    };
}

struct stats *stats_new(const struct stats_workload *self, size_t max_series, uint64_t seed)
{
    struct stats *stats = NEW(struct stats);
    arena_init(&stats->arena, NULL);
    stats->metrics = metrics_new(families, STAT_COUNT, max_series, seed);
    stats->self = copy_workload(&stats->arena, self);
    return stats;
}

void stats_free(struct stats **stats)
{
    if (*stats != NULL) {
        metrics_free(&(*stats)->metrics);
        arena_fini(&(*stats)->arena);
        FREE(*stats);
    }
}

struct metrics *stats_get_metrics(struct stats *stats)
{
    return stats->metrics;
}

void stats_expire(struct stats *stats, uint64_t now_us)
{
    metrics_expire(stats->metrics, now_us, IDLE_US);
}

/* ---- names into labels ---- */

static struct slice label_of(const struct endpoint_config *config, struct slice key)
{
    for (unsigned i = 0; i < config->label_count; i++) {
        if (slice_eq(config->labels[i].key, key)) {
            return config->labels[i].value;
        }
    }
    return (struct slice){NULL, 0};
}

static struct slice either(struct slice first, struct slice second)
{
    return first.len > 0 ? first : second;
}

struct stats_workload stats_workload_of_endpoint(const struct endpoint_config *config)
{
    struct slice rest = config->workload;
    struct stats_workload of = {.principal = config->identity};
    of.name = slice_cut(&rest, ';');
    of.namespace = slice_cut(&rest, ';');
    of.canonical_service = slice_cut(&rest, ';');
    of.canonical_revision = slice_cut(&rest, ';');
    of.app = either(label_of(config, SLICE("app")), of.canonical_service);
    of.version = either(label_of(config, SLICE("version")), of.canonical_revision);
    return of;
}

/* The first of them that there is. */
static struct slice first_label(const struct label *labels, unsigned count, const char *const *keys,
                                unsigned key_count)
{
    for (unsigned k = 0; k < key_count; k++) {
        for (unsigned i = 0; i < count; i++) {
            if (slice_eq(labels[i].key, slice_of_text(keys[k])) && labels[i].value.len > 0) {
                return labels[i].value;
            }
        }
    }
    return (struct slice){NULL, 0};
}

struct stats_workload stats_workload_of_labels(struct slice name, struct slice namespace,
                                               const struct label *labels, unsigned count)
{
    static const char *const services[] = {"service.istio.io/canonical-name",
                                           "app.kubernetes.io/name", "app"};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version"};
    struct stats_workload of = {.name = name, .namespace = namespace};
    of.canonical_service = either(first_label(labels, count, services, COUNT_OF(services)), name);
    of.canonical_revision =
        either(first_label(labels, count, revisions, COUNT_OF(revisions)), SLICE("latest"));
    of.app = either(first_label(labels, count, &services[2], 1), of.canonical_service);
    of.version = either(first_label(labels, count, &revisions[2], 1), of.canonical_revision);
    return of;
}

struct stats_workload stats_workload_of_peer(struct slice identity)
{
    struct stats_workload of = {.principal = identity};
    struct spiffe_id id;
    if (spiffe_parse(identity, &id)) {
        of.namespace = id.namespace;
    }
    return of;
}

struct stats_service stats_service_of_cluster(struct slice cluster)
{
    struct slice host = cluster;
    if (slice_starts(cluster, SLICE("outbound|"))) {
        for (int i = 0; i < 3; i++) {
            (void)slice_cut(&host, '|');
        }
    }
    struct stats_service of = {.host = host, .name = host};
    if (slice_search(host, SLICE(".svc.")) < host.len) {
        struct slice rest = host;
        of.name = slice_cut(&rest, '.');
        of.namespace = slice_cut(&rest, '.');
    }
    return of;
}

const char *stats_flags(enum fail fail, bool retries_ended, char text[16])
{
    const char *flag = fail_facts(fail)->flag;
    if (!retries_ended) {
        return flag[0] != '\0' ? flag : "-";
    }
    (void)snprintf(text, 16, "%s%sURX", flag, flag[0] != '\0' ? "," : "");
    return text;
}

/* ---- keys ---- */

#define NAME_SEED UINT64_C(0x9E3779B97F4A7C15)

uint64_t stats_hash_text(struct slice text)
{
    return text.len > 0 ? slice_hash(text, NAME_SEED) | 1 : 0;
}

uint64_t stats_hash_workload(const struct stats_workload *of)
{
    const struct slice parts[] = {
        of->name,    of->namespace,         of->principal,         of->app,
        of->version, of->canonical_service, of->canonical_revision};
    uint64_t hash = NAME_SEED;
    for (unsigned i = 0; i < COUNT_OF(parts); i++) {
        hash = slice_hash(parts[i], hash);
    }
    return hash | 1;
}

uint64_t stats_hash_endpoint(const struct endpoint_config *config)
{
    uint64_t hash = slice_hash(config->workload, NAME_SEED);
    hash = slice_hash(config->identity, hash);
    hash = slice_hash(label_of(config, SLICE("app")), hash);
    return slice_hash(label_of(config, SLICE("version")), hash) | 1;
}

/* ---- a worker's ---- */

/* The series of one key; TCP's and HTTP's share the places. */
struct cached {
    struct stats_key key;
    uint64_t used_us; /* 0: free */
    struct metric metric[4];
};

struct stats_worker {
    struct stats *stats;
    struct stats_workload self;
    struct arena self_arena; /* of a self of its own */
    struct metrics_shard *shard;
    struct metric plain[STAT_COUNT];
    uint64_t told[STAT_COUNT];           /* by stats_count_up_to */
    struct metric *by_index[STAT_COUNT]; /* null: none was counted yet */
    struct cached *slots;
    uint32_t used;
    struct metric overflow[2][4]; /* HTTP, TCP: what the cache has no room for */
};

static const enum stats_family http_stats[4] = {STAT_REQUESTS, STAT_REQUEST_DURATION,
                                                STAT_REQUEST_BYTES, STAT_RESPONSE_BYTES};
static const enum stats_family tcp_stats[4] = {STAT_TCP_OPENED, STAT_TCP_CLOSED, STAT_TCP_SENT,
                                               STAT_TCP_RECEIVED};

struct stats_worker *stats_worker_new(struct stats *stats)
{
    struct stats_worker *worker = NEW(struct stats_worker);
    worker->stats = stats;
    worker->self = stats->self;
    arena_init(&worker->self_arena, NULL);
    worker->shard = metrics_shard_new(stats->metrics);
    worker->slots = NEW_ARRAY(struct cached, CACHE_SLOTS);
    for (unsigned i = 0; i < STAT_COUNT; i++) {
        if (families[i].labels[0] == NULL) {
            worker->plain[i] = metrics_resolve(stats->metrics, i, NULL);
        }
    }
    return worker;
}

static void release_four(struct stats_worker *worker, struct metric metric[4])
{
    for (unsigned i = 0; i < 4; i++) {
        metrics_release(worker->stats->metrics, &metric[i]);
    }
}

void stats_worker_free(struct stats_worker **worker_at)
{
    struct stats_worker *worker = *worker_at;
    if (worker == NULL) {
        return;
    }
    *worker_at = NULL;
    for (unsigned i = 0; i < STAT_COUNT; i++) {
        metrics_release(worker->stats->metrics, &worker->plain[i]);
        for (unsigned k = 0; worker->by_index[i] != NULL && k < STATS_INDEX_MAX; k++) {
            metrics_release(worker->stats->metrics, &worker->by_index[i][k]);
        }
        mem_free(worker->by_index[i]);
    }
    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        release_four(worker, worker->slots[i].metric);
    }
    release_four(worker, worker->overflow[0]);
    release_four(worker, worker->overflow[1]);
    mem_free(worker->slots);
    arena_fini(&worker->self_arena);
    mem_free(worker);
}

/* Series are found by whom a request concerned, which does not say who we are. */
static void forget_series(struct stats_worker *worker)
{
    for (unsigned i = 0; i < CACHE_SLOTS; i++) {
        if (worker->slots[i].used_us != 0) {
            release_four(worker, worker->slots[i].metric);
            worker->slots[i] = (struct cached){.used_us = 0};
        }
    }
    worker->used = 0;
}

void stats_worker_set_self(struct stats_worker *worker, const struct stats_workload *self)
{
    struct arena old = worker->self_arena;
    struct stats_workload next = *self;
    next.principal = either(self->principal, worker->self.principal);
    arena_init(&worker->self_arena, NULL);
    worker->self = copy_workload(&worker->self_arena, &next);
    arena_fini(&old);
    forget_series(worker);
}

const struct stats_workload *stats_worker_get_self(const struct stats_worker *worker)
{
    return &worker->self;
}

void stats_count(struct stats_worker *worker, enum stats_family stat, uint64_t amount)
{
    if (worker != NULL) {
        metrics_add(worker->shard, worker->plain[stat], amount);
    }
}

void stats_count_up_to(struct stats_worker *worker, enum stats_family stat, uint64_t total)
{
    if (worker != NULL) {
        metrics_add(worker->shard, worker->plain[stat], total - worker->told[stat]);
        worker->told[stat] = total;
    }
}

void stats_set(struct stats_worker *worker, enum stats_family stat, int64_t value)
{
    if (worker != NULL) {
        metrics_set(worker->shard, worker->plain[stat], value);
    }
}

static struct metric indexed(struct stats_worker *worker, enum stats_family stat, unsigned index,
                             const char *name)
{
    CHECK(index < STATS_INDEX_MAX);
    if (worker->by_index[stat] == NULL) {
        worker->by_index[stat] = NEW_ARRAY(struct metric, STATS_INDEX_MAX);
    }
    struct metric *metric = &worker->by_index[stat][index];
    if (metric->cell == 0) {
        struct slice value = slice_of_text(name);
        *metric = metrics_resolve(worker->stats->metrics, stat, &value);
    }
    return *metric;
}

void stats_count_by(struct stats_worker *worker, enum stats_family stat, unsigned index,
                    const char *name)
{
    if (worker != NULL) {
        metrics_add(worker->shard, indexed(worker, stat, index, name), 1);
    }
}

void stats_set_by(struct stats_worker *worker, enum stats_family stat, unsigned index,
                  const char *name, int64_t value)
{
    if (worker != NULL) {
        metrics_set(worker->shard, indexed(worker, stat, index, name), value);
    }
}

/* ---- the cache ---- */

static void put_workload(struct slice *values, const struct stats_workload *of)
{
    const struct slice parts[7] = {
        of->name,    of->namespace,         of->principal,         of->app,
        of->version, of->canonical_service, of->canonical_revision};
    for (unsigned i = 0; i < 7; i++) {
        values[i] = either(parts[i], SLICE("unknown"));
    }
}

/* Our own service: what an inbound cluster's name does not say. */
static struct stats_service own_service(const struct stats_workload *self)
{
    return (struct stats_service){.host = self->canonical_service,
                                  .name = self->canonical_service,
                                  .namespace = self->namespace};
}

static const char *const protocol_names[] = {"http", "grpc", "tcp"};

static void resolve(struct stats_worker *worker, const struct stats_key *key,
                    const struct stats_names *names, struct metric metric[4])
{
    struct stats_workload self = worker->self;
    struct stats_workload other = {.name = {NULL, 0}};
    struct stats_service service;
    if (key->inbound) {
        other = names->peer_says != NULL ? *names->peer_says : stats_workload_of_peer(names->peer);
        other.principal = names->peer; /* proven, not said */
        service = own_service(&self);
    } else {
        if (names->endpoint != NULL) {
            other = stats_workload_of_endpoint(names->endpoint);
        }
        service = stats_service_of_cluster(names->cluster);
    }
    bool proven = key->inbound ? names->peer.len > 0
                               : names->endpoint != NULL && names->endpoint->identity.len > 0;
    if (!proven) {
        self.principal = (struct slice){NULL, 0}; /* nobody was shown a certificate */
    }
    char code[8];
    char grpc[8] = "";
    char flags[16];
    (void)snprintf(code, sizeof code, "%u", key->status);
    if (key->grpc >= 0) {
        (void)snprintf(grpc, sizeof grpc, "%d", key->grpc);
    }
    struct slice values[LABEL_HTTP_END];
    values[LABEL_REPORTER] = key->inbound ? SLICE("destination") : SLICE("source");
    put_workload(&values[LABEL_SOURCE], key->inbound ? &other : &self);
    put_workload(&values[LABEL_DESTINATION], key->inbound ? &self : &other);
    values[LABEL_SERVICE] = either(service.host, SLICE("unknown"));
    values[LABEL_SERVICE_NAME] = either(service.name, SLICE("unknown"));
    values[LABEL_SERVICE_NAMESPACE] = either(service.namespace, SLICE("unknown"));
    values[LABEL_PROTOCOL] = slice_of_text(protocol_names[key->protocol]);
    values[LABEL_FLAGS] =
        slice_of_text(stats_flags((enum fail)key->fail, key->retries_ended, flags));
    values[LABEL_SECURITY] = !key->inbound    ? SLICE("unknown")
                             : key->peer != 0 ? SLICE("mutual_tls")
                                              : SLICE("none");
    values[LABEL_CODE] = slice_of_text(code);
    values[LABEL_GRPC] = slice_of_text(grpc);
    const enum stats_family *stats = key->protocol == STATS_TCP ? tcp_stats : http_stats;
    for (unsigned i = 0; i < 4; i++) {
        metric[i] = metrics_resolve(worker->stats->metrics, stats[i], values);
    }
}

static const struct metric *overflowing(struct stats_worker *worker, bool tcp)
{
    struct metric *metric = worker->overflow[tcp];
    if (metric[0].cell == 0) {
        struct slice values[LABEL_HTTP_END];
        for (unsigned i = 0; i < LABEL_HTTP_END; i++) {
            values[i] = SLICE(METRICS_OVERFLOW);
        }
        for (unsigned i = 0; i < 4; i++) {
            metric[i] =
                metrics_resolve(worker->stats->metrics, tcp ? tcp_stats[i] : http_stats[i], values);
        }
    }
    return metric;
}

static uint32_t slot_of(const struct stats_key *key)
{
    uint64_t small = (uint64_t)key->status << 32 | (uint64_t)(uint16_t)key->grpc << 16 |
                     (uint64_t)key->fail << 8 | key->protocol;
    uint64_t mixed = key->cluster ^ key->endpoint * 3 ^ key->peer * 5 ^ small;
    return (uint32_t)(mixed * UINT64_C(0x9E3779B97F4A7C15) >> 40) % CACHE_SLOTS;
}

static_assert(sizeof(struct stats_key) == 32, "compared as bytes: no holes");

static const struct metric *find(struct stats_worker *worker, const struct stats_key *key,
                                 const struct stats_names *names, uint64_t now_us)
{
    uint32_t at = slot_of(key);
    while (worker->slots[at].used_us != 0) {
        struct cached *cached = &worker->slots[at];
        if (memcmp(&cached->key, key, sizeof *key) == 0) {
            cached->used_us = now_us;
            return cached->metric;
        }
        at = (at + 1) % CACHE_SLOTS;
    }
    if (worker->used >= CACHE_ENTRIES) {
        return overflowing(worker, key->protocol == STATS_TCP);
    }
    struct cached *fresh = &worker->slots[at];
    fresh->key = *key;
    fresh->used_us = now_us > 0 ? now_us : 1;
    worker->used++;
    resolve(worker, key, names, fresh->metric);
    return fresh->metric;
}

/* Open addressing has no holes: what stays is put into a new table. */
void stats_worker_sweep(struct stats_worker *worker, uint64_t now_us)
{
    if (worker == NULL || worker->used == 0) {
        return;
    }
    struct cached *old = worker->slots;
    worker->slots = NEW_ARRAY(struct cached, CACHE_SLOTS);
    worker->used = 0;
    for (uint32_t i = 0; i < CACHE_SLOTS; i++) {
        if (old[i].used_us == 0) {
            continue;
        }
        if (now_us - old[i].used_us >= IDLE_US) {
            release_four(worker, old[i].metric);
            continue;
        }
        uint32_t at = slot_of(&old[i].key);
        while (worker->slots[at].used_us != 0) {
            at = (at + 1) % CACHE_SLOTS;
        }
        worker->slots[at] = old[i];
        worker->used++;
    }
    mem_free(old);
}

static void add_bytes(struct stats_worker *worker, const struct metric tcp[4],
                      const struct stats_amounts *amounts)
{
    metrics_add(worker->shard, tcp[2], amounts->answer_bytes);
    metrics_add(worker->shard, tcp[3], amounts->request_bytes);
}

void stats_moved(struct stats_worker *worker, const struct stats_key *key,
                 const struct stats_names *names, const struct stats_amounts *amounts,
                 uint64_t now_us)
{
    CHECK(key->protocol == STATS_TCP);
    if (worker != NULL) {
        add_bytes(worker, find(worker, key, names, now_us), amounts);
    }
}

void stats_ended(struct stats_worker *worker, const struct stats_key *key,
                 const struct stats_names *names, const struct stats_amounts *amounts,
                 uint64_t now_us)
{
    if (worker == NULL) {
        return;
    }
    const struct metric *metric = find(worker, key, names, now_us);
    if (key->protocol == STATS_TCP) {
        metrics_add(worker->shard, metric[1], 1);
        add_bytes(worker, metric, amounts);
        return;
    }
    metrics_add(worker->shard, metric[0], 1);
    metrics_observe(worker->shard, metric[1], amounts->duration_us);
    metrics_observe(worker->shard, metric[2], amounts->request_bytes);
    metrics_observe(worker->shard, metric[3], amounts->answer_bytes);
}

void stats_opened(struct stats_worker *worker, const struct stats_key *key,
                  const struct stats_names *names, uint64_t now_us)
{
    CHECK(key->protocol == STATS_TCP);
    if (worker != NULL) {
        metrics_add(worker->shard, find(worker, key, names, now_us)[0], 1);
    }
}
