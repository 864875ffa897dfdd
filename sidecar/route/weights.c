#include "sidecar/route/weights.h"

#include <math.h>

#include "base/alloc.h"

/* A credit says how many picks a destination is owed, in units of 1/unit of a pick. One step adds
 * each destination's share and takes a whole unit from the one picked, so all credits sum to 0.
 *
 * Tijdeman's rule ("The chairman assignment problem", 1980): with n destinations let e = 1/(2n-2).
 * Candidates are those whose credit, this step's share included, is at least e; of them the one
 * whose credit would first pass 1-e is picked. Then every credit stays within [-(1-e), 1-e]. */

/* Shares are scaled so that a unit has at least this resolution, or a credit kept over a change
 * from 1000:1 to 1:1 would be lost in rounding. */
#define UNIT_MIN (INT64_C(1) << 24)
/* Schedules up to this length start at an exactly uniform step of theirs. */
#define PERIOD_MAX 4096

struct entry {
    struct slice name;
    uint32_t weight;
    int64_t share;
    int64_t credit;
};

struct weights {
    struct entry *entries;
    char *names;
    size_t count;
    size_t live; /* entries with a weight */
    int64_t unit;
};

static uint64_t next_draw(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void set_shares(struct weights *weights)
{
    uint64_t sum = 0;
    weights->live = 0;
    for (size_t i = 0; i < weights->count; i++) {
        sum += weights->entries[i].weight;
        weights->live += weights->entries[i].weight > 0;
    }
    CHECK(sum <= UINT32_MAX);
    int64_t scale = sum == 0 ? 1 : (UNIT_MIN + (int64_t)sum - 1) / (int64_t)sum;
    weights->unit = (int64_t)sum * scale;
    for (size_t i = 0; i < weights->count; i++) {
        weights->entries[i].share = (int64_t)weights->entries[i].weight * scale;
    }
}

static struct weights *build(const struct weights_share *shares, size_t count)
{
    struct weights *weights = NEW(struct weights);
    weights->count = count;
    weights->entries = NEW_ARRAY(struct entry, count);
    size_t bytes = 1;
    for (size_t i = 0; i < count; i++) {
        bytes += shares[i].name.len;
    }
    weights->names = mem_new(bytes);
    char *at = weights->names;
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = &weights->entries[i];
        if (shares[i].name.len > 0) {
            memcpy(at, shares[i].name.at, shares[i].name.len);
        }
        entry->name = slice_of(at, shares[i].name.len);
        entry->weight = shares[i].weight;
        at += shares[i].name.len;
    }
    set_shares(weights);
    return weights;
}

/* Takes `owed` from the entries that are marked, in proportion to their shares. */
static void spread(struct weights *weights, const bool *among, int64_t owed)
{
    int64_t shares = 0;
    struct entry *greatest = NULL;
    for (size_t i = 0; i < weights->count; i++) {
        struct entry *entry = &weights->entries[i];
        if (among[i] && entry->share > 0) {
            shares += entry->share;
            greatest = greatest == NULL || entry->share > greatest->share ? entry : greatest;
        }
    }
    if (greatest == NULL) {
        return;
    }
    int64_t rest = owed;
    for (size_t i = 0; i < weights->count; i++) {
        struct entry *entry = &weights->entries[i];
        if (among[i] && entry->share > 0) {
            int64_t part = (int64_t)((double)owed * ((double)entry->share / (double)shares));
            entry->credit -= part;
            rest -= part;
        }
    }
    greatest->credit -= rest;
}

static int64_t sum_of_credits(const struct weights *weights)
{
    int64_t sum = 0;
    for (size_t i = 0; i < weights->count; i++) {
        sum += weights->entries[i].credit;
    }
    return sum;
}

/* Gives each entry that is fresh a credit uniform in [-1/2, 1/2) of a pick. They come in pairs of
 * opposite sign, so that what the others must make up for stays below half a pick. */
static void randomise(struct weights *weights, const bool *fresh, uint64_t *draw)
{
    int64_t last = 0;
    bool mirror = false;
    for (size_t i = 0; i < weights->count; i++) {
        struct entry *entry = &weights->entries[i];
        if (!fresh[i] || entry->share == 0) {
            continue;
        }
        if (mirror) {
            entry->credit = -last;
        } else {
            last = (int64_t)(next_draw(draw) % (uint64_t)weights->unit) - weights->unit / 2;
            entry->credit = last;
        }
        mirror = !mirror;
    }
}

/* A random point of the schedule. For two destinations the credit of one is uniform over the whole
 * width, which is exact. For more, a uniform step of the period is exact too; of a period too long
 * to be walked it is a uniform step among the first PERIOD_MAX, off by less than 2/PERIOD_MAX, from
 * random credits, so that what is rarer than that has its part. */
static void start(struct weights *weights, uint64_t draw)
{
    if (weights->live < 2) {
        return;
    }
    uint64_t divisor = 0;
    uint64_t sum = 0;
    size_t greatest = 0;
    for (size_t i = 0; i < weights->count; i++) {
        divisor = greatest_divisor(divisor, weights->entries[i].weight);
        sum += weights->entries[i].weight;
        greatest = weights->entries[i].share > weights->entries[greatest].share ? i : greatest;
    }
    CHECK(divisor > 0);
    uint64_t period = sum / divisor;
    if (weights->live == 2 || period > PERIOD_MAX) {
        bool *marks = NEW_ARRAY(bool, weights->count);
        for (size_t i = 0; i < weights->count; i++) {
            marks[i] = i != greatest;
        }
        randomise(weights, marks, &draw);
        weights->entries[greatest].credit = -sum_of_credits(weights);
        FREE(marks);
    }
    if (weights->live > 2) {
        uint64_t walk = period < PERIOD_MAX ? period : PERIOD_MAX;
        for (uint64_t steps = next_draw(&draw) % walk; steps > 0; steps--) {
            (void)weights_pick(weights);
        }
    }
}

struct weights *weights_new(const struct weights_share *shares, size_t count, uint64_t draw)
{
    struct weights *weights = build(shares, count);
    start(weights, draw);
    return weights;
}

void weights_free(struct weights **weights)
{
    if (*weights != NULL) {
        mem_free((*weights)->entries);
        mem_free((*weights)->names);
        FREE(*weights);
    }
}

/* The entry of that name that stands for the same occurrence: a route may name a cluster twice. */
static const struct entry *same_entry(const struct weights *weights, const struct weights *newer,
                                      size_t index)
{
    size_t skip = 0;
    for (size_t i = 0; i < index; i++) {
        skip += slice_eq(newer->entries[i].name, newer->entries[index].name);
    }
    for (size_t i = 0; i < weights->count; i++) {
        if (slice_eq(weights->entries[i].name, newer->entries[index].name) && skip-- == 0) {
            return &weights->entries[i];
        }
    }
    return NULL;
}

void weights_update(struct weights *weights, const struct weights_share *shares, size_t count,
                    uint64_t draw)
{
    struct weights *newer = build(shares, count);
    if (weights->live < 2) {
        start(newer, draw); /* nothing to remember: all credits were 0, here as in every sidecar */
    } else if (newer->live >= 2) {
        bool *fresh = NEW_ARRAY(bool, count);
        bool *kept = NEW_ARRAY(bool, count);
        for (size_t i = 0; i < count; i++) {
            const struct entry *old = same_entry(weights, newer, i);
            kept[i] = old != NULL && old->share > 0 && newer->entries[i].share > 0;
            fresh[i] = !kept[i];
            if (kept[i] && !MUTANT(2)) {
                newer->entries[i].credit =
                    llround((double)old->credit * ((double)newer->unit / (double)weights->unit));
            }
        }
        randomise(newer, fresh, &draw);
        spread(newer, kept, sum_of_credits(newer));
        int64_t rest = sum_of_credits(newer); /* not 0 only where nothing was kept */
        spread(newer, fresh, rest);
        FREE(fresh);
        FREE(kept);
    }
    struct weights old = *weights;
    *weights = *newer;
    *newer = old;
    weights_free(&newer);
}

int weights_pick(struct weights *weights)
{
    if (weights->live == 0) {
        return -1;
    }
    int64_t width = weights->live > 1 ? 2 * (int64_t)weights->live - 2 : 1;
    size_t picked = 0;
    double soonest = HUGE_VAL;
    for (size_t i = 0; i < weights->count; i++) {
        struct entry *entry = &weights->entries[i];
        if (entry->share == 0) {
            continue;
        }
        entry->credit += entry->share;
        if (entry->credit * width < weights->unit) {
            continue;
        }
        double room = (double)(weights->unit * (width - 1) - entry->credit * width);
        double steps_left = room / (double)entry->share;
        if (steps_left < soonest) {
            soonest = steps_left;
            picked = i;
        }
    }
    CHECK(soonest < HUGE_VAL);
    weights->entries[picked].credit -= weights->unit;
    return (int)picked;
}
