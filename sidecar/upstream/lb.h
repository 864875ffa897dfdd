#pragma once
/* Which endpoint an attempt goes to. One decision in three steps: priority (overprovisioning and
 * spill-over), locality, endpoint (round robin, random, least request of a few random choices).
 * Pure but for the round robin's credits; `draw` is the only randomness. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/fail.h"
#include "sidecar/upstream/cluster.h"

struct lb_query {
    struct endpoint *const *tried; /* avoided while another may be had */
    uint32_t tried_count;
    bool leave_priorities; /* once two were tried, prefer priorities without any of them (Envoy,
                              previous_priorities with the frequency that Istio sends) */
    struct addr original;  /* ORIGINAL_DST clusters only */
    uint64_t draw;         /* uniform */
    uint64_t now_us;
};

struct lb_choice {
    struct endpoint *endpoint; /* borrowed: endpoint_ref to keep it over this tick */
    enum fail fail;            /* FAIL_NO_HOST or FAIL_DNS where endpoint is null */
    bool panic;                /* too few were available: all were candidates */
    bool repeated;             /* one of `tried`, as there was no other */
};

struct lb_choice lb_pick(struct cluster *cluster, const struct lb_query *query);

/* Percent of the load that each priority takes (sums to 100, or to 0 when nothing is there):
 * Envoy's overprovisioning. `available` and `total` are endpoint counts of each priority; `load` is
 * filled.
 */
void lb_priority_load(const uint32_t *available, const uint32_t *total, uint32_t count,
                      uint32_t overprovisioning, uint32_t *load);
void lb_view_free(struct cluster_view **view);
const char *lb_kind_name(enum lb_kind kind);
