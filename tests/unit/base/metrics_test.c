#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/metrics.h"
#include "tests/support/unit.h"

enum { REQUESTS, ACTIVE, DURATION, UPTIME };

static const char *const request_labels[] = {"code", "peer", NULL};
static const char *const peer_label[] = {"peer", NULL};

static const struct metric_family families[] = {
    [REQUESTS] = {.name = "requests_total",
                  .kind = METRIC_COUNTER,
                  .help = "Requests\nand \\ more",
                  .labels = request_labels},
    [ACTIVE] = {.name = "active", .kind = METRIC_GAUGE, .help = "Now", .labels = peer_label},
    [DURATION] = {.name = "duration_milliseconds",
                  .kind = METRIC_HISTOGRAM,
                  .help = "Time",
                  .labels = peer_label,
                  .bounds = metrics_duration_bounds_us,
                  .bound_count = METRICS_DURATION_BOUNDS_COUNT,
                  .scale = 1000},
    [UPTIME] = {.name = "uptime_seconds", .kind = METRIC_GAUGE, .help = "Up", .scale = 1000000},
};

struct page {
    size_t len;
    char text[65536];
};

static void take(void *owner, struct slice part)
{
    struct page *page = owner;
    assert_true(page->len + part.len < sizeof page->text);
    (void)memcpy(page->text + page->len, part.at, part.len);
    page->len += part.len;
    page->text[page->len] = '\0';
}

static const char *text_of(struct metrics *metrics)
{
    static struct page page;
    page = (struct page){.len = 0};
    metrics_write(metrics, take, &page);
    return page.text;
}

static struct metrics *fresh(size_t max_series)
{
    return metrics_new(families, COUNT_OF(families), max_series, 42);
}

static struct metric request(struct metrics *metrics, const char *code, const char *peer)
{
    return metrics_resolve(metrics, REQUESTS,
                           (struct slice[]){slice_of_text(code), slice_of_text(peer)});
}

static void test_shards_add_up(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(100);
    struct metrics_shard *one = metrics_shard_new(metrics);
    struct metrics_shard *two = metrics_shard_new(metrics);
    struct metric ok = request(metrics, "200", "a");
    struct metric again = request(metrics, "200", "a");
    struct metric active = metrics_resolve(metrics, ACTIVE, (struct slice[]){SLICE("a")});
    assert_int_equal(ok.cell, again.cell);
    metrics_add(one, ok, 2);
    metrics_add(two, again, 3);
    metrics_change(one, active, 1);
    metrics_change(two, active, -4);
    metrics_add(one, (struct metric){0}, 1);
    assert_int_equal(metrics_read(metrics, ok), 5);
    assert_int_equal((int64_t)metrics_read(metrics, active), -3);
    assert_string_equal(text_of(metrics), "# HELP requests_total Requests\\nand \\\\ more\n"
                                          "# TYPE requests_total counter\n"
                                          "requests_total{code=\"200\",peer=\"a\"} 5\n"
                                          "# HELP active Now\n# TYPE active gauge\n"
                                          "active{peer=\"a\"} -3\n");
    metrics_free(&metrics);
    assert_null(metrics);
}

static void test_values_are_escaped_and_scaled(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(100);
    struct metrics_shard *shard = metrics_shard_new(metrics);
    struct metric uptime = metrics_resolve(metrics, UPTIME, NULL);
    struct metric odd = request(metrics, "a\"b\\c\nd", "gr\xC3\xBC\xFFn");
    metrics_set(shard, uptime, 12500000);
    metrics_add(shard, odd, 1);
    assert_string_equal(
        text_of(metrics),
        "# HELP requests_total Requests\\nand \\\\ more\n"
        "# TYPE requests_total counter\n"
        "requests_total{code=\"a\\\"b\\\\c\\nd\",peer=\"gr\xC3\xBC\xEF\xBF\xBDn\"} 1\n"
        "# HELP uptime_seconds Up\n# TYPE uptime_seconds gauge\n"
        "uptime_seconds 12.5\n");
    metrics_set(shard, uptime, -1);
    assert_non_null(strstr(text_of(metrics), "uptime_seconds -0.000001\n"));
    metrics_free(&metrics);
}

static void test_histogram(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(100);
    struct metrics_shard *shard = metrics_shard_new(metrics);
    struct metric time = metrics_resolve(metrics, DURATION, (struct slice[]){SLICE("a")});
    metrics_observe(shard, time, 500); /* 0.5 ms: a bound includes its value */
    metrics_observe(shard, time, 501);
    metrics_observe(shard, time, 4000000000); /* above all */
    assert_int_equal(metrics_read(metrics, time), 3);
    const char *text = text_of(metrics);
    assert_non_null(strstr(text, "# TYPE duration_milliseconds histogram\n"
                                 "duration_milliseconds_bucket{peer=\"a\",le=\"0.5\"} 1\n"
                                 "duration_milliseconds_bucket{peer=\"a\",le=\"1\"} 2\n"
                                 "duration_milliseconds_bucket{peer=\"a\",le=\"5\"} 2\n"));
    assert_non_null(strstr(text, "duration_milliseconds_bucket{peer=\"a\",le=\"3600000\"} 2\n"
                                 "duration_milliseconds_bucket{peer=\"a\",le=\"+Inf\"} 3\n"
                                 "duration_milliseconds_sum{peer=\"a\"} 4000001.001\n"
                                 "duration_milliseconds_count{peer=\"a\"} 3\n"));
    metrics_free(&metrics);
}

static void test_series_are_limited(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(3);
    struct metrics_shard *shard = metrics_shard_new(metrics);
    for (int i = 0; i < 10; i++) {
        char peer[16];
        (void)snprintf(peer, sizeof peer, "p%d", i);
        struct metric metric = request(metrics, "200", peer);
        metrics_add(shard, metric, 1);
        metrics_release(metrics, &metric);
        assert_int_equal(metric.cell, 0);
    }
    struct metrics_counts counts = metrics_counts(metrics);
    assert_int_equal(counts.series, 3);
    assert_int_equal(counts.overflowed, 7);
    assert_non_null(
        strstr(text_of(metrics), "requests_total{code=\"_overflow\",peer=\"_overflow\"} 7\n"));
    metrics_free(&metrics);
}

static void test_idle_series_go_and_their_cells_start_at_zero(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(2);
    struct metrics_shard *shard = metrics_shard_new(metrics);
    struct metric held = request(metrics, "200", "held");
    struct metric idle = request(metrics, "200", "idle");
    struct metric copy = idle;
    metrics_add(shard, held, 1);
    metrics_add(shard, idle, 5);
    metrics_release(metrics, &idle);
    metrics_expire(metrics, 1000, 600);
    metrics_expire(metrics, 1599, 600);
    assert_int_equal(metrics_counts(metrics).series, 2);
    metrics_expire(metrics, 1600, 600);
    assert_int_equal(metrics_counts(metrics).series, 1);
    assert_null(strstr(text_of(metrics), "idle"));
    struct metric next = request(metrics, "200", "next");
    assert_int_equal(next.cell, copy.cell);
    assert_int_equal(metrics_read(metrics, next), 0);
    assert_int_equal(metrics_read(metrics, held), 1);
    /* Found again in time, a series goes on counting. */
    metrics_release(metrics, &held);
    metrics_expire(metrics, 2000, 600);
    held = request(metrics, "200", "held");
    metrics_expire(metrics, 9000, 600);
    assert_int_equal(metrics_read(metrics, held), 1);
    metrics_free(&metrics);
}

static void test_long_values_are_cut_between_characters(void **state)
{
    (void)state;
    char value[METRICS_VALUE_MAX + 10];
    struct metrics *metrics = fresh(10);
    (void)memset(value, 'x', sizeof value);
    (void)memcpy(value + METRICS_VALUE_MAX - 1, "\xC3\xBC", 2);
    struct metric metric =
        metrics_resolve(metrics, ACTIVE, (struct slice[]){slice_of(value, sizeof value)});
    (void)metric;
    const char *text = text_of(metrics);
    assert_non_null(strstr(text, "x\"} 0\n"));
    assert_null(strstr(text, "\xC3"));
    metrics_free(&metrics);
}

static void test_memory_follows_use(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(20000);
    struct metrics_shard *shard = metrics_shard_new(metrics);
    struct metrics_shard *unused = metrics_shard_new(metrics);
    assert_non_null(unused);
    assert_int_equal(metrics_counts(metrics).shard_bytes, 0);
    for (int i = 0; i < 20000; i++) {
        char peer[16];
        (void)snprintf(peer, sizeof peer, "p%d", i);
        struct slice labels[] = {slice_of_text(peer)};
        struct metric metric = metrics_resolve(metrics, i % 2 ? ACTIVE : DURATION, labels);
        if (i == 0) {
            metrics_observe(shard, metric, 1);
        }
    }
    assert_int_equal(metrics_counts(metrics).shard_bytes, 2048);
    assert_int_equal(metrics_counts(metrics).series, 20000);
    assert_int_equal(metrics_counts(metrics).overflowed, 0);
    metrics_free(&metrics);
}

/* Cells of one kind that went free do not starve another kind. */
static void test_kinds_in_turn_fill_the_limit(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(500);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 500; i++) {
            char peer[16];
            (void)snprintf(peer, sizeof peer, "p%u", i);
            struct slice labels[] = {slice_of_text(peer)};
            struct metric metric =
                metrics_resolve(metrics, round % 2 == 0 ? ACTIVE : DURATION, labels);
            metrics_release(metrics, &metric);
        }
        assert_int_equal(metrics_counts(metrics).series, 500);
        assert_int_equal(metrics_counts(metrics).overflowed, 0);
        metrics_expire(metrics, 1, 0);
        metrics_expire(metrics, 2, 0);
        assert_int_equal(metrics_counts(metrics).series, 0);
    }
    metrics_free(&metrics);
}

/* ---- threads ---- */

enum { WRITERS = 3, ROUNDS = 3000 };

struct writer {
    struct metrics *metrics;
    struct metrics_shard *shard;
    struct metric shared;
    unsigned number;
};

static _Atomic unsigned writers_done;

static void *write_some(void *argument)
{
    struct writer *writer = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char peer[16];
        (void)snprintf(peer, sizeof peer, "p%u", i % 50);
        struct metric own = request(writer->metrics, "200", peer);
        struct metric time =
            metrics_resolve(writer->metrics, DURATION, (struct slice[]){slice_of_text(peer)});
        metrics_add(writer->shard, own, 1);
        metrics_observe(writer->shard, time, i);
        metrics_add(writer->shard, writer->shared, 1);
        metrics_release(writer->metrics, &own);
        metrics_release(writer->metrics, &time);
    }
    (void)atomic_fetch_add(&writers_done, 1);
    return NULL;
}

static void ignore(void *owner, struct slice part)
{
    *(size_t *)owner += part.len;
}

/* Writers resolve and count while this thread reads and expires; the thread sanitizer watches. */
static void test_threads(void **state)
{
    (void)state;
    struct metrics *metrics = fresh(60);
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    struct metric shared = request(metrics, "500", "shared");
    writers_done = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){metrics, metrics_shard_new(metrics), shared, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_some, &writers[i]), 0);
    }
    size_t bytes = 0;
    for (uint64_t now = 1; writers_done < WRITERS; now++) {
        metrics_write(metrics, ignore, &bytes);
        metrics_expire(metrics, now, 1);
        (void)metrics_counts(metrics);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(metrics_read(metrics, shared), WRITERS * ROUNDS);
    metrics_free(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_add_up),
        cmocka_unit_test(test_values_are_escaped_and_scaled),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_series_are_limited),
        cmocka_unit_test(test_idle_series_go_and_their_cells_start_at_zero),
        cmocka_unit_test(test_long_values_are_cut_between_characters),
        cmocka_unit_test(test_memory_follows_use),
        cmocka_unit_test(test_kinds_in_turn_fill_the_limit),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
