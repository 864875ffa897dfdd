#pragma once
/* The two ports by which people and machines look at a sidecar: the admin port (loopback), and the
 * metrics port, which probes and collectors reach. What only a worker knows is asked of all workers
 * by mail; the request is answered when the last has answered, or when one takes too long.
 *
 * Everything belongs to the admin thread. */

#include <stdbool.h>

#include "base/addr.h"
#include "base/check.h"

struct admin;
struct loop;
struct stats;
struct stats_worker;
struct task;
struct worker;

struct admin_parts {
    struct loop *loop;             /* the admin thread's */
    struct worker *const *workers; /* copied; each outlives the admin */
    unsigned worker_count;
    struct stats *stats;
    struct task *drain;  /* posted by POST /drain */
    struct addr admin;   /* ADDR_NONE: not served */
    struct addr metrics; /* ADDR_NONE: not served */
};

/* Listens. A port that cannot be had is logged, and not served: traffic does not depend on it. */
struct admin *admin_new(const struct admin_parts *parts) MUST_USE;
/* The workers' threads have ended. */
void admin_free(struct admin **admin);

/* The admin thread's own counters, for what it does beside: configuration, certificates. Borrowed.
 */
struct stats_worker *admin_get_stats(struct admin *admin);

/* What readiness says; false at first. */
void admin_set_ready(struct admin *admin, bool ready);
