#pragma once
/* Circuit breakers: limits on what a cluster may have open, counted for the whole process in
 * upstream/shared. Each begin that returned true is ended once. Any worker. */

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/resilience/budget.h"
#include "sidecar/upstream/cluster.h"

enum breaker { BREAKER_CONNECTIONS, BREAKER_PENDING, BREAKER_REQUESTS, BREAKER_RETRIES };

const char *breaker_name(enum breaker breaker);

struct stats_worker;

/* An attempt was refused for it: in the metrics. */
void breaker_count_overflow(struct stats_worker *stats, enum breaker breaker);
/* Takes one of what the limit allows. False: the limit is reached, the overflow is counted, and the
 * request fails with FAIL_OVERFLOW (BREAKER_RETRIES: is not retried). `high` is the route's
 * priority. Pending requests that find a ready connection never begin PENDING. */
bool breaker_begin(struct cluster *cluster, enum breaker breaker, bool high) MUST_USE;
void breaker_end(struct cluster *cluster, enum breaker breaker);
/* Whether breaker_begin would refuse; takes nothing. */
bool breaker_open(const struct cluster *cluster, enum breaker breaker, bool high) MUST_USE;
/* For retry_decide. */
struct budget_state breaker_budget(const struct cluster *cluster);
const struct breaker_limits *breaker_limits(const struct cluster *cluster, bool high);
/* By their shared state alone, when the cluster's twin may be gone at the end. */
void breaker_end_shared(struct shared_cluster *shared, enum breaker breaker);
