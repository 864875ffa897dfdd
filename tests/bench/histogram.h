#pragma once

/* Latencies in buckets that are never wider than 1/64 of their value: quantiles within 1.6 % from
 * nanoseconds to minutes, in 20 KB, without keeping the samples. */

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 6,
    HISTOGRAM_BUCKETS = (41 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS
};

struct histogram {
    uint64_t count, max_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Adds one latency; above 18 minutes it counts as that. */
void histogram_add(struct histogram *histogram, uint64_t ns);

/* The upper edge, in ns, of the bucket that holds the given share (0 to 1) of the samples; 0 if
 * empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
