#pragma once
/* Outlier detection: endpoints that fail are left out for a while. Every end of an attempt is
 * reported; consecutive failures eject at once; each interval lets back in whose time is over, and
 * judges rates. State is shared by all workers (upstream/shared). Never the last available
 * endpoint, and at most max(1, floor(n * percent / 100)) of n: Envoy since 1.31 ejects none of few,
 * which would leave a small service without the detection that its owner asked for. */

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/fail.h"
#include "sidecar/upstream/cluster.h"

/* X(value, meaning) */
#define OUTLIER_CAUSES(X)                                                                          \
    X(NONE, "not ejected")                                                                         \
    X(CONSECUTIVE_5XX, "failures in a row")                                                        \
    X(CONSECUTIVE_GATEWAY, "502, 503, 504 or no answer in a row")                                  \
    X(CONSECUTIVE_LOCAL, "no answer in a row, told apart from answers")                            \
    X(SUCCESS_RATE, "fewer successes than the others")                                             \
    X(FAILURE_PERCENTAGE, "more failures than allowed")

enum outlier_cause {
#define X(value, meaning) OUTLIER_##value,
    OUTLIER_CAUSES(X)
#undef X
};

const char *outlier_cause_name(enum outlier_cause cause);

/* What became of an attempt. */
struct outlier_event {
    enum fail fail;  /* FAIL_NONE: an answer came */
    uint16_t status; /* of the answer; for gRPC the HTTP status that its grpc-status means */
};

/* Reports it. When it ejects the endpoint: the cause, and the pools should close its idle
 * connections. `draw` decides where enforcing_* is below 100. */
enum outlier_cause outlier_report(struct cluster *cluster, struct endpoint *endpoint,
                                  const struct outlier_event *event, uint64_t now_us,
                                  uint64_t draw);

struct outlier_swept {
    uint32_t returned;
    uint32_t ejected; /* by rates */
};

/* At the turn of an interval; a call before that does nothing, so every worker may call it on a
 * timer of its own. */
struct outlier_swept outlier_sweep(struct cluster *cluster, uint64_t now_us, uint64_t draw);
/* When outlier_sweep should run next; 0: detection is off. */
uint64_t outlier_next_us(const struct cluster *cluster);

/* How many of n may be ejected at once. */
uint32_t outlier_limit(uint32_t endpoints, uint8_t max_percent);
/* base * times, at most max (but never below base): Envoy outlier_detection.proto. */
uint64_t outlier_ejection_us(const struct outlier_config *config, uint32_t times);
