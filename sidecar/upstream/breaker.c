#include "sidecar/upstream/breaker.h"

#include "sidecar/observe/stats.h"

const char *breaker_name(enum breaker breaker)
{
    switch (breaker) {
    case BREAKER_CONNECTIONS:
        return "connections";
    case BREAKER_PENDING:
        return "pending";
    case BREAKER_REQUESTS:
        return "requests";
    case BREAKER_RETRIES:
        return "retries";
    }
    return "unknown";
}

void breaker_count_overflow(struct stats_worker *stats, enum breaker breaker)
{
    stats_count_by(stats, STAT_OVERFLOWS, breaker, breaker_name(breaker));
}

static atomic_uint *count_of(struct shared_cluster *shared, enum breaker breaker)
{
    switch (breaker) {
    case BREAKER_CONNECTIONS:
        return &shared->connections.value;
    case BREAKER_PENDING:
        return &shared->pending.value;
    case BREAKER_REQUESTS:
        return &shared->active.value;
    case BREAKER_RETRIES:
        return &shared->retries.value;
    }
    check_failed("a breaker", __FILE__, __LINE__);
}

static uint32_t load(const atomic_uint *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

const struct breaker_limits *breaker_limits(const struct cluster *cluster, bool high)
{
    return &cluster->config->limits[high ? 1 : 0];
}

struct budget_state breaker_budget(const struct cluster *cluster)
{
    const struct shared_cluster *shared = cluster->shared;
    uint32_t begun = load(&shared->active.value); /* those that wait are among them */
    uint32_t pending = load(&shared->pending.value);
    uint32_t waiting = MUTANT(39) ? 0 : pending;
    return (struct budget_state){.active = begun > waiting ? begun - waiting : 0,
                                 .pending = pending,
                                 .retries = load(&shared->retries.value)};
}

static uint32_t limit_of(const struct cluster *cluster, enum breaker breaker, bool high)
{
    const struct breaker_limits *limits = breaker_limits(cluster, high);
    struct budget_state state;
    switch (breaker) {
    case BREAKER_CONNECTIONS:
        return limits->connections;
    case BREAKER_PENDING:
        return limits->pending;
    case BREAKER_REQUESTS:
        return limits->requests;
    case BREAKER_RETRIES:
        state = breaker_budget(cluster);
        return budget_limit(limits, &state);
    }
    return 0;
}

bool breaker_open(const struct cluster *cluster, enum breaker breaker, bool high)
{
    return load(count_of(cluster->shared, breaker)) >= limit_of(cluster, breaker, high);
}

bool breaker_begin(struct cluster *cluster, enum breaker breaker, bool high)
{
    uint32_t limit = limit_of(cluster, breaker, high);
    atomic_uint *count = count_of(cluster->shared, breaker);
    /* Taken first and given back, so that workers that arrive together do not all pass. */
    uint32_t before = atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    if (before < limit || (MUTANT(5) && before == limit)) {
        return true;
    }
    (void)atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&cluster->shared->overflows, 1, memory_order_relaxed);
    return false;
}

void breaker_end_shared(struct shared_cluster *shared, enum breaker breaker)
{
    uint32_t before = atomic_fetch_sub_explicit(count_of(shared, breaker), 1, memory_order_relaxed);
    CHECK(before > 0);
}

void breaker_end(struct cluster *cluster, enum breaker breaker)
{
    breaker_end_shared(cluster->shared, breaker);
}
