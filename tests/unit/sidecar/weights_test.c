/* The shares of weighted routes, as properties over many seeds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "sidecar/route/weights.h"

#include <cmocka.h>

#define DESTINATIONS_MAX 8

static const char *const names[DESTINATIONS_MAX] = {"a", "b", "c", "d", "e", "f", "g", "h"};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t x = *state ^ (*state >> 29);
    return x * UINT64_C(0x9e3779b97f4a7c15) ^ (x >> 31);
}

static void fill(struct weights_share *shares, const uint32_t *weights, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        shares[i] = (struct weights_share){slice_of_text(names[i]), weights[i]};
    }
}

/* Counts over every window of one run: the deviation of a window is a difference of two prefix
 * deviations, so the widest is max - min. */
struct spans {
    double low[DESTINATIONS_MAX];
    double high[DESTINATIONS_MAX];
    double now[DESTINATIONS_MAX];
    uint64_t picks[DESTINATIONS_MAX];
};

static void run(struct weights *weights, const uint32_t *shares, size_t count, unsigned steps,
                struct spans *spans)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += shares[i];
    }
    for (unsigned step = 0; step < steps; step++) {
        int picked = weights_pick(weights);
        assert_in_range(picked, 0, count - 1);
        assert_true(shares[picked] > 0);
        spans->picks[picked]++;
        for (size_t i = 0; i < count; i++) {
            spans->now[i] += (i == (size_t)picked ? 1.0 : 0.0) - shares[i] / sum;
            spans->low[i] = spans->now[i] < spans->low[i] ? spans->now[i] : spans->low[i];
            spans->high[i] = spans->now[i] > spans->high[i] ? spans->now[i] : spans->high[i];
        }
    }
}

static void assert_spans_below(const struct spans *spans, size_t count, double bound)
{
    for (size_t i = 0; i < count; i++) {
        if (!(spans->high[i] - spans->low[i] < bound)) {
            fail_msg("destination %zu strays by %f", i, spans->high[i] - spans->low[i]);
        }
    }
}

static size_t random_weights(uint64_t *seed, uint32_t *weights, size_t count)
{
    size_t live = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t kind = next_random(seed) % 5;
        uint64_t value = next_random(seed);
        weights[i] = (uint32_t)(kind == 0   ? value % 3
                                : kind == 1 ? value % 1000000
                                : kind == 2 ? 1
                                            : value % 101);
        live += weights[i] > 0;
    }
    return live;
}

static void two_destinations_stay_within_one(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned trial = 0; trial < 400; trial++) {
        uint32_t shares[2];
        if (random_weights(&seed, shares, 2) == 0) {
            continue;
        }
        struct weights_share list[2];
        fill(list, shares, 2);
        struct weights *weights = weights_new(list, 2, next_random(&seed));
        struct spans spans = {0};
        run(weights, shares, 2, 3000, &spans);
        assert_spans_below(&spans, 2, 1.0);
        weights_free(&weights);
    }
}

static void many_destinations_stay_within_two(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (unsigned trial = 0; trial < 600; trial++) {
        size_t count = 3 + next_random(&seed) % (DESTINATIONS_MAX - 2);
        uint32_t shares[DESTINATIONS_MAX];
        if (random_weights(&seed, shares, count) == 0) {
            continue;
        }
        struct weights_share list[DESTINATIONS_MAX];
        fill(list, shares, count);
        struct weights *weights = weights_new(list, count, next_random(&seed));
        struct spans spans = {0};
        run(weights, shares, count, 2000, &spans);
        assert_spans_below(&spans, count, 2.0);
        weights_free(&weights);
    }
}

/* Across changes nothing is lost: counts against the sum of what each step promised. */
static void changes_keep_credits(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (unsigned trial = 0; trial < 400; trial++) {
        uint32_t shares[2] = {90, 10};
        struct weights_share list[2];
        fill(list, shares, 2);
        struct weights *weights = weights_new(list, 2, next_random(&seed));
        struct spans spans = {0};
        for (unsigned change = 0; change < 60; change++) {
            run(weights, shares, 2, (unsigned)(next_random(&seed) % 7), &spans);
            shares[0] = 1 + (uint32_t)(next_random(&seed) % 100);
            shares[1] = 1 + (uint32_t)(next_random(&seed) % 100);
            fill(list, shares, 2);
            weights_update(weights, list, 2, next_random(&seed));
        }
        assert_spans_below(&spans, 2, 1.001); /* roundings: 60 changes at 2^-24 */
        weights_free(&weights);
    }
}

static void many_keep_within_three_across_changes(void **state)
{
    (void)state;
    uint64_t seed = 4;
    for (unsigned trial = 0; trial < 300; trial++) {
        size_t count = 3 + next_random(&seed) % (DESTINATIONS_MAX - 2);
        uint32_t shares[DESTINATIONS_MAX];
        struct weights_share list[DESTINATIONS_MAX];
        for (size_t i = 0; i < count; i++) {
            shares[i] = 1 + (uint32_t)(next_random(&seed) % 100);
        }
        fill(list, shares, count);
        struct weights *weights = weights_new(list, count, next_random(&seed));
        struct spans spans = {0};
        for (unsigned change = 0; change < 40; change++) {
            run(weights, shares, count, (unsigned)(next_random(&seed) % 20), &spans);
            for (size_t i = 0; i < count; i++) {
                shares[i] = 1 + (uint32_t)(next_random(&seed) % 100);
            }
            fill(list, shares, count);
            weights_update(weights, list, count, next_random(&seed));
        }
        assert_spans_below(&spans, count, 3.0);
        weights_free(&weights);
    }
}

static void zero_and_hundred_hold_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct weights_share list[2] = {{SLICE("a"), 50}, {SLICE("b"), 50}};
        struct weights *weights = weights_new(list, 2, seed);
        for (unsigned i = 0; i < seed % 7; i++) {
            (void)weights_pick(weights);
        }
        list[0].weight = 100;
        list[1].weight = 0;
        weights_update(weights, list, 2, seed);
        for (unsigned i = 0; i < 50; i++) {
            assert_int_equal(weights_pick(weights), 0);
        }
        list[0].weight = 0;
        list[1].weight = 100;
        weights_update(weights, list, 2, seed);
        assert_int_equal(weights_pick(weights), 1);
        list[1].weight = 0;
        weights_update(weights, list, 2, seed);
        assert_int_equal(weights_pick(weights), -1);
        weights_free(&weights);
    }
}

/* A fleet that sends five requests a sidecar still gives each share its part. */
static void assert_fleet(const uint32_t *shares, size_t count, bool after_change)
{
    enum { FLEET = 4000, REQUESTS = 5 };
    uint64_t seed = 5;
    uint64_t picks[DESTINATIONS_MAX] = {0};
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += shares[i];
    }
    for (unsigned sidecar = 0; sidecar < FLEET; sidecar++) {
        struct weights_share list[DESTINATIONS_MAX];
        fill(list, shares, count);
        struct weights *weights;
        if (after_change) {
            struct weights_share alone = {SLICE("a"), 100};
            weights = weights_new(&alone, 1, next_random(&seed));
            weights_update(weights, list, count, next_random(&seed));
        } else {
            weights = weights_new(list, count, next_random(&seed));
        }
        for (unsigned i = 0; i < REQUESTS; i++) {
            picks[weights_pick(weights)]++;
        }
        weights_free(&weights);
    }
    for (size_t i = 0; i < count; i++) {
        double wanted = shares[i] / sum;
        double got = (double)picks[i] / (FLEET * REQUESTS);
        assert_true(got > wanted - 0.01 - wanted * 0.1);
        assert_true(got < wanted + 0.01 + wanted * 0.1);
    }
}

static void a_fleet_that_just_started_is_fair(void **state)
{
    (void)state;
    assert_fleet((uint32_t[]){90, 10}, 2, false);
    assert_fleet((uint32_t[]){90, 10}, 2, true);
    assert_fleet((uint32_t[]){80, 15, 5}, 3, false);
    assert_fleet((uint32_t[]){80, 15, 5}, 3, true);
    assert_fleet((uint32_t[]){1000003, 100019, 50021}, 3, false);
}

static void a_cluster_named_twice_keeps_both_credits(void **state)
{
    (void)state;
    struct weights_share list[3] = {{SLICE("a"), 40}, {SLICE("a"), 40}, {SLICE("b"), 20}};
    struct weights *weights = weights_new(list, 3, 7);
    unsigned picks[3] = {0};
    for (unsigned i = 0; i < 100; i++) {
        picks[weights_pick(weights)]++;
        weights_update(weights, list, 3, i);
    }
    assert_in_range(picks[0], 39, 41);
    assert_in_range(picks[1], 39, 41);
    assert_in_range(picks[2], 19, 21);
    weights_free(&weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_destinations_stay_within_one),
        cmocka_unit_test(many_destinations_stay_within_two),
        cmocka_unit_test(changes_keep_credits),
        cmocka_unit_test(many_keep_within_three_across_changes),
        cmocka_unit_test(zero_and_hundred_hold_at_once),
        cmocka_unit_test(a_fleet_that_just_started_is_fair),
        cmocka_unit_test(a_cluster_named_twice_keeps_both_credits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
