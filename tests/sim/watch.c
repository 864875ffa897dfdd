#include "tests/sim/watch.h"

#include <inttypes.h>
#include <stdio.h>

#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/cluster.h"
#include "sidecar/upstream/outlier.h"

#define TIMER_US 2000 /* the wheel rounds up to a millisecond */

static struct world *world_of(const struct watch *watch)
{
    return watch->node->options.world;
}

static const struct cluster *cluster_of(const struct watch *watch, unsigned index)
{
    char name[16];
    (void)snprintf(name, sizeof name, "v%u", index + 1);
    return node_cluster(watch->node, name);
}

void watch_init(struct watch *watch, const struct node *node, struct ledger *ledger,
                unsigned clusters, unsigned endpoints)
{
    CHECK(clusters * endpoints <= WATCH_ENDPOINTS_MAX);
    *watch = (struct watch){.node = node,
                            .ledger = ledger,
                            .clusters = clusters,
                            .endpoints = endpoints,
                            .retries_max = UINT32_MAX};
}

/* ---- breakers ---- */

/* In the simulator workers never race for the last place, so none may be passed. */
static void look_at_limits(const struct watch *watch, const struct cluster *cluster)
{
    const struct breaker_limits *limits = breaker_limits(cluster, false);
    const struct shared_cluster *shared = cluster->shared;
    uint32_t retries = limits->has_budget ? watch->retries_max : limits->retries;
    const struct {
        const char *name;
        uint32_t is;
        uint32_t most;
    } counts[] = {{"requests", atomic_load(&shared->active.value), limits->requests},
                  {"waiting requests", atomic_load(&shared->pending.value), limits->pending},
                  {"connections", atomic_load(&shared->connections.value), limits->connections},
                  {"retries", atomic_load(&shared->retries.value), retries}};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        if (counts[i].is > counts[i].most) {
            world_fail(world_of(watch), "%s: %" PRIu32 " %s, %" PRIu32 " are allowed",
                       watch->node->options.name, counts[i].is, counts[i].name, counts[i].most);
        }
    }
}

/* ---- ejection ---- */

static void begin_ejection(struct watch *watch, unsigned app)
{
    struct watch_endpoint *at = &watch->at[app];
    at->ejected = true;
    at->times++;
    at->from_us = world_of(watch)->now_us;
    world_note(world_of(watch), "ejected", app, at->times, 0);
    if (watch->ejection_count < WATCH_EJECTIONS_MAX) {
        watch->ejections[watch->ejection_count++] =
            (struct watch_ejection){app, at->from_us, UINT64_MAX};
    }
}

static void end_ejection(struct watch *watch, unsigned app, const struct outlier_config *config)
{
    struct watch_endpoint *at = &watch->at[app];
    uint64_t now_us = world_of(watch)->now_us;
    at->ejected = false;
    world_note(world_of(watch), "let back", app, 0, 0);
    if (now_us - at->from_us < config->base_ejection_us) {
        world_fail(world_of(watch), "endpoint %u was let back after %" PRIu64 " us", app,
                   now_us - at->from_us);
    }
    for (unsigned i = 0; i < watch->ejection_count; i++) {
        struct watch_ejection *ejection = &watch->ejections[i];
        if (ejection->app == app && ejection->to_us == UINT64_MAX) {
            ejection->to_us = now_us;
        }
    }
}

static void look_at_endpoint(struct watch *watch, unsigned app, const struct endpoint *endpoint,
                             const struct outlier_config *config)
{
    struct watch_endpoint *at = &watch->at[app];
    struct world *world = world_of(watch);
    bool ejected = endpoint_ejected(endpoint);
    unsigned active = endpoint_active(endpoint);
    if (ejected && !at->ejected) {
        begin_ejection(watch, app);
    } else if (!ejected && at->ejected) {
        end_ejection(watch, app, config);
    } else if (ejected && active > at->active) {
        world_fail(world, "endpoint %u was given a request while it was left out", app);
    }
    uint64_t most_us = outlier_ejection_us(config, at->times) + config->interval_us + TIMER_US;
    if (at->ejected && world->now_us - at->from_us > most_us) {
        world_fail(world, "endpoint %u is still left out after %" PRIu64 " us", app,
                   world->now_us - at->from_us);
    }
    at->active = active;
}

static void look_at_endpoints(struct watch *watch, unsigned number, const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        look_at_endpoint(watch, number * watch->endpoints + i, cluster->endpoints[i],
                         &cluster->config->outlier);
    }
    if (cluster_available(cluster) == 0) {
        world_fail(world_of(watch), "every endpoint is left out");
    }
}

void watch_look(struct watch *watch)
{
    for (unsigned i = 0; i < watch->clusters; i++) {
        const struct cluster *cluster = cluster_of(watch, i);
        look_at_limits(watch, cluster);
        if (cluster->config->has_outlier) {
            look_at_endpoints(watch, i, cluster);
        }
    }
}

/* What began after the endpoint was left out cannot have been given to it before. */
static void check_ejection(const struct watch *watch, const struct watch_ejection *ejection)
{
    for (uint64_t i = 0; i < watch->ledger->count; i++) {
        const struct ledger_row *row = &watch->ledger->rows[i];
        for (unsigned k = 0; k < row->heads && row->begun_us > ejection->from_us; k++) {
            if (row->tries[k].app == ejection->app && row->tries[k].at_us < ejection->to_us) {
                world_fail(world_of(watch),
                           "request %" PRIu64 " came to endpoint %u while it was left out", i + 1,
                           ejection->app);
            }
        }
    }
}

/* Tries that the application saw from then until then. */
static unsigned count_tries(const struct watch *watch, unsigned app, uint64_t from_us,
                            uint64_t to_us)
{
    unsigned count = 0;
    for (uint64_t i = 0; i < watch->ledger->count; i++) {
        const struct ledger_row *row = &watch->ledger->rows[i];
        for (unsigned k = 0; k < row->heads; k++) {
            const struct ledger_try *one = &row->tries[k];
            count += one->app == app && one->at_us >= from_us && one->at_us <= to_us;
        }
    }
    return count;
}

void watch_check_ejections(const struct watch *watch)
{
    for (unsigned i = 0; i < watch->ejection_count; i++) {
        check_ejection(watch, &watch->ejections[i]);
    }
}

void watch_check_failures(const struct watch *watch, unsigned bad, uint64_t healed_us,
                          unsigned under_way)
{
    const struct cluster *cluster = cluster_of(watch, bad / watch->endpoints);
    uint32_t enough = cluster->config->outlier.consecutive_5xx;
    uint64_t from_us = 0;
    for (unsigned i = 0; i < watch->ejection_count; i++) {
        const struct watch_ejection *ejection = &watch->ejections[i];
        if (ejection->app != bad || ejection->from_us > healed_us) {
            continue;
        }
        unsigned tries = count_tries(watch, bad, from_us, ejection->from_us);
        if (tries > enough + under_way) {
            world_fail(world_of(watch), "endpoint %u failed %u times before it was left out", bad,
                       tries);
        }
        from_us = ejection->to_us;
    }
    unsigned rest = from_us < healed_us ? count_tries(watch, bad, from_us, healed_us) : 0;
    if (watch->ejection_count < WATCH_EJECTIONS_MAX && rest > enough + under_way) {
        world_fail(world_of(watch), "endpoint %u failed %u times and was not left out", bad, rest);
    }
}
