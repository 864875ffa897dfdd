#pragma once
/* Counters, gauges and histograms, in Prometheus' text form.
 *
 * Families are one table of the user layer. A series (a family with its label values) is resolved
 * once, when a route is compiled or a peer is met, to a `struct metric` that stands for its cells;
 * on a request's way nothing is looked up and nothing is locked. Each thread writes to a shard of
 * its own, with plain loads and stores that are atomic only so that a reader sees whole values; a
 * reader adds the shards up. Cells come in blocks of 2 KiB that a shard takes when it first writes
 * there.
 *
 * Values are whole numbers in the family's base unit (microseconds, bytes); `scale` says by what
 * the text divides them. Series are counted by those who hold them, go some time after the last
 * one let go, and are limited: past the limit a family's new series are one, whose labels all say
 * METRICS_OVERFLOW.
 *
 * Any thread, but for a shard, which belongs to one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

#define METRICS_OVERFLOW   "_overflow"
#define METRICS_LABELS_MAX 32
#define METRICS_VALUE_MAX  200U /* bytes of a label's value; the rest is cut off */

#define METRIC_KINDS(X)                                                                            \
    X(COUNTER, "counter", "only grows")                                                            \
    X(GAUGE, "gauge", "the sum of what the shards say, may shrink")                                \
    X(HISTOGRAM, "histogram", "how many values fell below each bound, and their sum")

enum metric_kind {
#define METRIC_KIND_ENUM(name, text, meaning) METRIC_##name,
    METRIC_KINDS(METRIC_KIND_ENUM)
#undef METRIC_KIND_ENUM
};

struct metric_family {
    const char *name; /* [a-zA-Z_:][a-zA-Z0-9_:]* */
    enum metric_kind kind;
    const char *help;
    const char *const *labels; /* names; null behind the last; may be null: none */
    const uint64_t *bounds;    /* HISTOGRAM: upper bounds, rising, in the base unit */
    size_t bound_count;
    uint64_t scale; /* a power of ten: 1000 shows microseconds as milliseconds; 0 is 1 */
};

/* The bounds of Istio's duration histograms, 0.5 ms to 1 h, in microseconds (scale 1000). */
#define METRICS_DURATION_BOUNDS_COUNT 19
extern const uint64_t metrics_duration_bounds_us[METRICS_DURATION_BOUNDS_COUNT];
/* Istio's sizes, 1 byte to 100 MB in powers of ten (scale 1). */
#define METRICS_SIZE_BOUNDS_COUNT 9
extern const uint64_t metrics_size_bounds[METRICS_SIZE_BOUNDS_COUNT];

struct metrics;
struct metrics_shard;

/* A series that is held. A zeroed one is none: writing to it does nothing. */
struct metric {
    uint32_t cell;
    uint32_t series;
    uint32_t family;
};

/* `families` is borrowed for good. max_series: of all families together, not counting overflow.
 * `seed`: secret where peers choose label values. */
struct metrics *metrics_new(const struct metric_family *families, size_t count, size_t max_series,
                            uint64_t seed) MUST_USE;
/* Frees the shards too; no thread may use any of it any more. */
void metrics_free(struct metrics **metrics);

/* A shard for the calling thread, or for the thread that is about to start. It lives as long as the
 * metrics: what a thread counted stays when the thread ends. */
struct metrics_shard *metrics_shard_new(struct metrics *metrics);

/* Finds or makes the series and holds it until metrics_release. values: one per label of the
 * family, copied; may be null where it has none. Takes a mutex. */
struct metric metrics_resolve(struct metrics *metrics, uint32_t family,
                              const struct slice *values) MUST_USE;
/* Lets go of a series; *metric is none afterwards. */
void metrics_release(struct metrics *metrics, struct metric *metric);

/* Counters. */
void metrics_add(struct metrics_shard *shard, struct metric counter, uint64_t amount);
/* Gauges: each shard holds its part of the sum. */
void metrics_change(struct metrics_shard *shard, struct metric gauge, int64_t by);
/* Sets this shard's part; for gauges that only one thread writes. */
void metrics_set(struct metrics_shard *shard, struct metric gauge, int64_t value);
void metrics_observe(struct metrics_shard *shard, struct metric histogram, uint64_t value);

/* The sum over the shards: a counter's or gauge's value (a gauge's in two's complement), how many
 * values a histogram saw. */
uint64_t metrics_read(struct metrics *metrics, struct metric metric);

/* Drops series that nobody held since `idle_us` before now_us. To be called every minute or so; it
 * is also what starts the clock of a series that was let go. */
void metrics_expire(struct metrics *metrics, uint64_t now_us, uint64_t idle_us);

struct metrics_counts {
    size_t series;       /* that exist, overflow not counted */
    uint64_t overflowed; /* resolutions that got an overflow series, ever */
    size_t shard_bytes;  /* of cells */
};
struct metrics_counts metrics_counts(struct metrics *metrics);

/* Takes the next part of the text. */
typedef void metrics_sink(void *owner, struct slice text);
/* Everything in Prometheus' text format 0.0.4, families in the order of the table, series in the
 * order in which they came. The mutex is not held while the sink runs. */
void metrics_write(struct metrics *metrics, metrics_sink *sink, void *owner);
