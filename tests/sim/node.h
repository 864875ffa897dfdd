#pragma once
/* A sidecar of the simulated mesh: one real worker on a stepped loop, its configuration compiled
 * from the text of a bootstrap as `--config FILE` would be, and applied as the lifecycle applies
 * it. */

#include "sidecar/config/snapshot.h"
#include "sidecar/observe/stats.h"
#include "sidecar/worker.h"
#include "tests/sim/world.h"

#define NODE_CONFIGS_MAX 8

struct node {
    struct host *host;
    struct worker worker;
    struct worker_settings settings;
    struct shared_registry *registry;
    struct stats *stats;
    struct bootstrap *configs[NODE_CONFIGS_MAX]; /* requests pin what they began with: all stay */
    unsigned config_count;
};

/* `identity`: its SPIFFE id; text that outlives it. `config`: JSON with ' for ". A configuration
 * that is refused ends the program: it is the scenario that is wrong. */
void node_init(struct node *node, struct host *host, const char *identity, const char *config,
               uint64_t seed);
/* A newer configuration: clusters and routes change, listeners stay. */
void node_update(struct node *node, const char *config);
/* Between ticks: a request that waits for a connection has one that is under way or busy. */
void node_check_waiters(struct node *node);
/* After everything ended: what the worker still holds on behalf of requests fails the run. */
void node_check_idle(struct node *node);
void node_fini(struct node *node);
