/* Why a mutex at resolve and not a registry per thread: series are found when routes are compiled
 * and peers are met, not per request, and one registry means that a series' label values exist once
 * whatever the number of workers.
 *
 * Cells of a series that went are zeroed by the thread that expires it and given to the next one:
 * the last holder's writes come before its release, which comes before the expiry, which comes
 * before the next resolve, all ordered by the mutex. So nobody but the owner writes to a cell that
 * is in use. */
#include "base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/map.h"
#include "base/utf8.h"

#define BLOCK_CELLS 256U
#define CLASSES_MAX 8U /* different numbers of cells that series of one table have */

typedef _Atomic uint64_t metric_cell;

struct cell_block {
    metric_cell cells[BLOCK_CELLS];
};

typedef _Atomic(struct cell_block *) block_pointer;

struct metrics_shard {
    struct metrics_shard *next;
    const struct metrics *metrics;
    block_pointer *blocks; /* block_count of the metrics; null until first written */
};

struct series {
    struct list in_family;
    uint32_t family;
    uint32_t number; /* in metrics.table */
    uint32_t cell;   /* the first of its cells */
    uint32_t holders;
    bool overflow;
    uint64_t idle_since_us; /* 0: held, or let go since the last expiry */
    size_t key_len;
    uint8_t key[]; /* the family's number, then each value behind its length: two bytes each */
};

/* Series with the same number of cells share blocks; a series never spans two. */
struct cell_class {
    uint32_t cells; /* of each series; 0: class not in use */
    uint32_t next;  /* first cell never used */
    uint32_t end;   /* of the class's open block */
    uint32_t *free; /* cells of series that went */
    uint32_t free_count;
    uint32_t free_room;
};

struct family_state {
    struct list series;
    struct series *overflow; /* null: never needed */
    struct cell_class *class;
    uint32_t label_count;
};

struct metrics {
    const struct metric_family *families;
    uint32_t family_count;
    uint32_t block_count;
    size_t max_series;
    pthread_mutex_t mutex; /* all below */
    struct map by_key;
    struct family_state *states;
    struct cell_class classes[CLASSES_MAX];
    uint32_t blocks_used;
    struct series **table;
    uint32_t table_room;
    uint32_t table_used;
    uint32_t *free_numbers; /* as many as table_room */
    uint32_t free_number_count;
    size_t series_count;
    uint64_t overflowed;
    struct metrics_shard *shards;
};

const uint64_t metrics_duration_bounds_us[METRICS_DURATION_BOUNDS_COUNT] = {
    500,      1000,      5000,      10000,      25000,     50000,    100000,
    250000,   500000,    1000000,   2500000,    5000000,   10000000, 30000000,
    60000000, 300000000, 600000000, 1800000000, 3600000000};

const uint64_t metrics_size_bounds[METRICS_SIZE_BOUNDS_COUNT] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

static void lock(struct metrics *metrics)
{
    CHECK(pthread_mutex_lock(&metrics->mutex) == 0);
}

static void unlock(struct metrics *metrics)
{
    CHECK(pthread_mutex_unlock(&metrics->mutex) == 0);
}

/* A histogram's cells: one a bound, one for what is above all, the sum. */
static uint32_t cells_of(const struct metric_family *family)
{
    return family->kind == METRIC_HISTOGRAM ? (uint32_t)family->bound_count + 2 : 1;
}

/* ---- set-up ---- */

static struct cell_class *class_for(struct metrics *metrics, uint32_t cells)
{
    struct cell_class *class = metrics->classes;
    while (class->cells != 0 && class->cells != cells) {
        class ++;
        CHECK(class < metrics->classes + CLASSES_MAX);
    }
    class->cells = cells;
    return class;
}

static void check_family(const struct metric_family *family)
{
    CHECK(
        strspn(family->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:") ==
        strlen(family->name));
    CHECK(cells_of(family) < BLOCK_CELLS);
    CHECK((family->kind == METRIC_HISTOGRAM) == (family->bound_count > 0));
    for (size_t i = 1; i < family->bound_count; i++) {
        CHECK(family->bounds[i - 1] < family->bounds[i]);
    }
    for (uint64_t scale = family->scale; scale > 1; scale /= 10) {
        CHECK(scale % 10 == 0);
    }
}

struct metrics *metrics_new(const struct metric_family *families, size_t count, size_t max_series,
                            uint64_t seed)
{
    CHECK(count < UINT16_MAX);
    CHECK(max_series < UINT32_MAX / BLOCK_CELLS);
    struct metrics *metrics = NEW(struct metrics);
    metrics->families = families;
    metrics->family_count = (uint32_t)count;
    metrics->max_series = max_series;
    metrics->states = NEW_ARRAY(struct family_state, count);
    CHECK(pthread_mutex_init(&metrics->mutex, NULL) == 0);
    map_init(&metrics->by_key, seed, MAP_KEYS_BORROWED);
    for (size_t i = 0; i < count; i++) {
        struct family_state *state = &metrics->states[i];
        check_family(&families[i]);
        list_init(&state->series);
        state->class = class_for(metrics, cells_of(&families[i]));
        while (families[i].labels != NULL && families[i].labels[state->label_count] != NULL) {
            state->label_count++;
        }
        CHECK(state->label_count <= METRICS_LABELS_MAX);
    }
    /* Cells never change their class, so each class has room for all: taking cells cannot fail. */
    for (size_t i = 0; i < CLASSES_MAX && metrics->classes[i].cells > 0; i++) {
        uint32_t fit = BLOCK_CELLS / metrics->classes[i].cells;
        metrics->block_count += (uint32_t)(max_series + count) / fit + 2;
    }
    return metrics;
}

static void shard_free(struct metrics_shard *shard, uint32_t block_count)
{
    for (uint32_t i = 0; i < block_count; i++) {
        mem_free(atomic_load_explicit(&shard->blocks[i], memory_order_relaxed));
    }
    mem_free(shard->blocks);
    mem_free(shard);
}

void metrics_free(struct metrics **metrics)
{
    struct metrics *m = *metrics;
    if (m == NULL) {
        return;
    }
    *metrics = NULL;
    while (m->shards != NULL) {
        struct metrics_shard *shard = m->shards;
        m->shards = shard->next;
        shard_free(shard, m->block_count);
    }
    for (uint32_t i = 0; i < m->table_used; i++) {
        mem_free(m->table[i]);
    }
    for (size_t i = 0; i < CLASSES_MAX; i++) {
        mem_free(m->classes[i].free);
    }
    map_fini(&m->by_key);
    mem_free(m->table);
    mem_free(m->free_numbers);
    mem_free(m->states);
    CHECK(pthread_mutex_destroy(&m->mutex) == 0);
    mem_free(m);
}

struct metrics_shard *metrics_shard_new(struct metrics *metrics)
{
    struct metrics_shard *shard = NEW(struct metrics_shard);
    shard->metrics = metrics;
    shard->blocks = NEW_ARRAY(block_pointer, metrics->block_count);
    lock(metrics);
    shard->next = metrics->shards;
    metrics->shards = shard;
    unlock(metrics);
    return shard;
}

/* ---- writing: the shard's own thread ---- */

static metric_cell *own_cell(struct metrics_shard *shard, uint32_t cell)
{
    block_pointer *slot = &shard->blocks[cell / BLOCK_CELLS];
    struct cell_block *block = atomic_load_explicit(slot, memory_order_relaxed);
    if (UNLIKELY(block == NULL)) {
        block = NEW(struct cell_block);
        atomic_store_explicit(slot, block, memory_order_release);
    }
    return &block->cells[cell % BLOCK_CELLS];
}

/* Not a read-modify-write: nobody else writes here. */
static void grow_cell(metric_cell *cell, uint64_t by)
{
    uint64_t value = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, value + by, memory_order_relaxed);
}

static const struct metric_family *family_of(const struct metrics_shard *shard,
                                             struct metric metric)
{
    return &shard->metrics->families[metric.family];
}

void metrics_add(struct metrics_shard *shard, struct metric counter, uint64_t amount)
{
    if (counter.cell != 0) {
        CHECK(family_of(shard, counter)->kind == METRIC_COUNTER);
        grow_cell(own_cell(shard, counter.cell), amount);
    }
}

void metrics_change(struct metrics_shard *shard, struct metric gauge, int64_t by)
{
    if (gauge.cell != 0) {
        CHECK(family_of(shard, gauge)->kind == METRIC_GAUGE);
        grow_cell(own_cell(shard, gauge.cell), (uint64_t)by);
    }
}

void metrics_set(struct metrics_shard *shard, struct metric gauge, int64_t value)
{
    if (gauge.cell != 0) {
        CHECK(family_of(shard, gauge)->kind == METRIC_GAUGE);
        atomic_store_explicit(own_cell(shard, gauge.cell), (uint64_t)value, memory_order_relaxed);
    }
}

void metrics_observe(struct metrics_shard *shard, struct metric histogram, uint64_t value)
{
    if (histogram.cell == 0) {
        return;
    }
    const struct metric_family *family = family_of(shard, histogram);
    CHECK(family->kind == METRIC_HISTOGRAM);
    size_t bucket = 0;
    while (bucket < family->bound_count && value > family->bounds[bucket]) {
        bucket++;
    }
    metric_cell *first = own_cell(shard, histogram.cell);
    grow_cell(first + bucket, 1);
    grow_cell(first + family->bound_count + 1, value);
}

/* ---- reading: any thread ---- */

static uint64_t sum_cell(const struct metrics_shard *shards, uint32_t cell)
{
    uint64_t sum = 0;
    for (const struct metrics_shard *shard = shards; shard != NULL; shard = shard->next) {
        const struct cell_block *block =
            atomic_load_explicit(&shard->blocks[cell / BLOCK_CELLS], memory_order_acquire);
        if (block != NULL) {
            sum += atomic_load_explicit(&block->cells[cell % BLOCK_CELLS], memory_order_relaxed);
        }
    }
    return sum;
}

/* The list of shards as it is now; shards are never taken out and `next` never changes, so that it
 * may be walked without the mutex. */
static const struct metrics_shard *shards_now(struct metrics *metrics)
{
    lock(metrics);
    const struct metrics_shard *shards = metrics->shards;
    unlock(metrics);
    return shards;
}

uint64_t metrics_read(struct metrics *metrics, struct metric metric)
{
    if (metric.cell == 0) {
        return 0;
    }
    const struct metrics_shard *shards = shards_now(metrics);
    const struct metric_family *family = &metrics->families[metric.family];
    uint32_t cells = family->kind == METRIC_HISTOGRAM ? (uint32_t)family->bound_count + 1 : 1;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < cells; i++) {
        sum += sum_cell(shards, metric.cell + i);
    }
    return sum;
}

struct metrics_counts metrics_counts(struct metrics *metrics)
{
    lock(metrics);
    struct metrics_counts counts = {.series = metrics->series_count,
                                    .overflowed = metrics->overflowed};
    for (const struct metrics_shard *shard = metrics->shards; shard != NULL; shard = shard->next) {
        for (uint32_t i = 0; i < metrics->block_count; i++) {
            bool taken = atomic_load_explicit(&shard->blocks[i], memory_order_acquire) != NULL;
            counts.shard_bytes += taken ? sizeof(struct cell_block) : 0;
        }
    }
    unlock(metrics);
    return counts;
}

/* ---- series: under the mutex ---- */

/* The first cell for a series of the class. */
static uint32_t take_cells(struct metrics *metrics, struct cell_class *class)
{
    if (class->free_count > 0) {
        return class->free[--class->free_count];
    }
    if (class->end - class->next < class->cells) {
        CHECK(metrics->blocks_used < metrics->block_count);
        class->next = metrics->blocks_used * BLOCK_CELLS;
        class->end = class->next + BLOCK_CELLS;
        class->next += class->next == 0; /* cell 0 stands for none */
        metrics->blocks_used++;
    }
    uint32_t cell = class->next;
    class->next += class->cells;
    return cell;
}

static void give_cells(struct metrics *metrics, struct cell_class *class, uint32_t cell)
{
    for (const struct metrics_shard *shard = metrics->shards; shard != NULL; shard = shard->next) {
        struct cell_block *block =
            atomic_load_explicit(&shard->blocks[cell / BLOCK_CELLS], memory_order_acquire);
        for (uint32_t i = 0; block != NULL && i < class->cells; i++) {
            atomic_store_explicit(&block->cells[cell % BLOCK_CELLS + i], 0, memory_order_relaxed);
        }
    }
    if (class->free_count == class->free_room) {
        class->free_room = class->free_room > 0 ? class->free_room * 2 : 16;
        class->free = mem_resize(class->free, class->free_room * sizeof class->free[0]);
    }
    class->free[class->free_count++] = cell;
}

static uint32_t take_number(struct metrics *metrics)
{
    if (metrics->free_number_count > 0) {
        return metrics->free_numbers[--metrics->free_number_count];
    }
    if (metrics->table_used == metrics->table_room) {
        metrics->table_room = metrics->table_room > 0 ? metrics->table_room * 2 : 64;
        metrics->table = mem_resize(metrics->table, metrics->table_room * sizeof metrics->table[0]);
        metrics->free_numbers = mem_resize(metrics->free_numbers,
                                           metrics->table_room * sizeof metrics->free_numbers[0]);
    }
    return metrics->table_used++;
}

struct key {
    size_t len;
    uint8_t bytes[2 + METRICS_LABELS_MAX * (2 + METRICS_VALUE_MAX)];
};

static void key_put(struct key *key, struct slice value)
{
    size_t len = value.len;
    if (len > METRICS_VALUE_MAX) {
        /* Not in the middle of a character. */
        for (len = METRICS_VALUE_MAX; len > 0 && (value.at[len] & 0xC0) == 0x80; len--) {
        }
    }
    key->bytes[key->len++] = (uint8_t)(len >> 8);
    key->bytes[key->len++] = (uint8_t)len;
    if (len > 0) {
        (void)memcpy(key->bytes + key->len, value.at, len);
    }
    key->len += len;
}

static void key_start(struct key *key, uint32_t family)
{
    key->bytes[0] = (uint8_t)(family >> 8);
    key->bytes[1] = (uint8_t)family;
    key->len = 2;
}

/* Cuts the next value off. */
static struct slice key_next(struct slice *rest)
{
    size_t len = (size_t)rest->at[0] << 8 | rest->at[1];
    struct slice value = slice_of(rest->at + 2, len);
    *rest = slice_from(*rest, len + 2);
    return value;
}

static struct slice series_key(const struct series *series)
{
    return slice_of(series->key, series->key_len);
}

static struct series *series_make(struct metrics *metrics, uint32_t family, struct slice key)
{
    struct family_state *state = &metrics->states[family];
    struct series *series = mem_new(sizeof *series + key.len);
    series->family = family;
    series->cell = take_cells(metrics, state->class);
    series->number = take_number(metrics);
    series->key_len = key.len;
    (void)memcpy(series->key, key.at, key.len);
    metrics->table[series->number] = series;
    list_append(&state->series, &series->in_family);
    return series;
}

static struct series *overflow_series(struct metrics *metrics, uint32_t family)
{
    struct family_state *state = &metrics->states[family];
    metrics->overflowed++;
    if (state->overflow == NULL) {
        struct key key;
        key_start(&key, family);
        for (uint32_t i = 0; i < state->label_count; i++) {
            key_put(&key, SLICE(METRICS_OVERFLOW));
        }
        state->overflow = series_make(metrics, family, slice_of(key.bytes, key.len));
        state->overflow->overflow = true;
    }
    return state->overflow;
}

struct metric metrics_resolve(struct metrics *metrics, uint32_t family, const struct slice *values)
{
    CHECK(family < metrics->family_count);
    struct key key;
    key_start(&key, family);
    for (uint32_t i = 0; i < metrics->states[family].label_count; i++) {
        key_put(&key, values[i]);
    }
    struct slice bytes = slice_of(key.bytes, key.len);
    lock(metrics);
    struct series *series = map_get(&metrics->by_key, bytes);
    if (series == NULL && metrics->series_count < metrics->max_series) {
        series = series_make(metrics, family, bytes);
        (void)map_set(&metrics->by_key, series_key(series), series);
        metrics->series_count++;
    }
    if (series == NULL) {
        series = overflow_series(metrics, family);
    }
    series->holders++;
    series->idle_since_us = 0;
    struct metric metric = {.cell = series->cell, .series = series->number, .family = family};
    unlock(metrics);
    return metric;
}

static void let_go(struct metrics *metrics, uint32_t number)
{
    CHECK(number < metrics->table_used);
    struct series *series = metrics->table[number];
    CHECK(series != NULL);
    CHECK(series->holders > 0);
    series->holders--;
}

void metrics_release(struct metrics *metrics, struct metric *metric)
{
    if (metric->cell == 0) {
        return;
    }
    lock(metrics);
    let_go(metrics, metric->series);
    unlock(metrics);
    *metric = (struct metric){0};
}

static void series_drop(struct metrics *metrics, struct series *series)
{
    list_remove(&series->in_family);
    CHECK(map_remove(&metrics->by_key, series_key(series)) == series);
    give_cells(metrics, metrics->states[series->family].class, series->cell);
    metrics->table[series->number] = NULL;
    metrics->free_numbers[metrics->free_number_count++] = series->number;
    metrics->series_count--;
    mem_free(series);
}

void metrics_expire(struct metrics *metrics, uint64_t now_us, uint64_t idle_us)
{
    CHECK(now_us > 0);
    lock(metrics);
    for (uint32_t i = 0; i < metrics->table_used; i++) {
        struct series *series = metrics->table[i];
        if (series == NULL || series->holders > 0 || series->overflow) {
            continue;
        }
        if (series->idle_since_us == 0) {
            series->idle_since_us = now_us;
        } else if (now_us - series->idle_since_us >= idle_us) {
            series_drop(metrics, series);
        }
    }
    unlock(metrics);
}

/* ---- the text ---- */

struct text_out {
    metrics_sink *sink;
    void *owner;
    size_t len;
    char bytes[4096];
};

static void text_flush(struct text_out *out)
{
    if (out->len > 0) {
        out->sink(out->owner, slice_of(out->bytes, out->len));
        out->len = 0;
    }
}

static void text_put(struct text_out *out, struct slice text)
{
    while (text.len > 0) {
        size_t room = sizeof out->bytes - out->len;
        struct slice part = slice_head(text, room);
        (void)memcpy(out->bytes + out->len, part.at, part.len);
        out->len += part.len;
        text = slice_from(text, part.len);
        if (out->len == sizeof out->bytes) {
            text_flush(out);
        }
    }
}

static void text_word(struct text_out *out, const char *word)
{
    text_put(out, slice_of_text(word));
}

/* A label's value, or (without quotes escaped) a help text. Bytes that are no UTF-8 would make the
 * reader refuse the whole page. */
static void text_escaped(struct text_out *out, struct slice text, bool quotes)
{
    while (text.len > 0) {
        size_t len = utf8_length(text);
        if (len == 0) {
            text_word(out, UTF8_REPLACEMENT);
        } else if (text.at[0] == '\\') {
            text_word(out, "\\\\");
        } else if (text.at[0] == '\n') {
            text_word(out, "\\n");
        } else if (quotes && text.at[0] == '"') {
            text_word(out, "\\\"");
        } else {
            text_put(out, slice_head(text, len));
        }
        text = slice_from(text, len > 0 ? len : 1);
    }
}

/* value / scale, exact. */
static void format_scaled(uint64_t value, uint64_t scale, char text[48])
{
    uint64_t whole = scale > 1 ? value / scale : value;
    int used = snprintf(text, 48, "%" PRIu64, whole);
    uint64_t rest = scale > 1 ? value % scale : 0;
    if (rest > 0) {
        text[used++] = '.';
        for (scale /= 10; rest > 0 && scale > 0; scale /= 10) {
            text[used++] = (char)('0' + rest / scale);
            rest %= scale;
        }
        text[used] = '\0';
    }
}

static void text_value(struct text_out *out, const struct metric_family *family, uint64_t value)
{
    char number[48];
    bool negative = family->kind == METRIC_GAUGE && (int64_t)value < 0;
    format_scaled(negative ? 0 - value : value, family->scale, number);
    text_word(out, negative ? " -" : " ");
    text_word(out, number);
    text_word(out, "\n");
}

/* name_suffix{label="value",le="bound"}; bound may be null. */
static void text_series(struct text_out *out, const struct metric_family *family,
                        const struct series *series, const char *suffix, const char *bound)
{
    struct slice rest = slice_from(series_key(series), 2);
    const char *before = "{";
    text_word(out, family->name);
    text_word(out, suffix);
    for (size_t i = 0; rest.len > 0; i++) {
        text_word(out, before);
        text_word(out, family->labels[i]);
        text_word(out, "=\"");
        text_escaped(out, key_next(&rest), true);
        text_word(out, "\"");
        before = ",";
    }
    if (bound != NULL) {
        text_word(out, before);
        text_word(out, "le=\"");
        text_word(out, bound);
        text_word(out, "\"");
        before = ",";
    }
    text_word(out, before[0] == ',' ? "}" : "");
}

static void text_count(struct text_out *out, uint64_t count)
{
    char number[24];
    (void)snprintf(number, sizeof number, " %" PRIu64 "\n", count);
    text_word(out, number);
}

static void text_histogram(struct text_out *out, const struct metric_family *family,
                           const struct series *series, const struct metrics_shard *shards)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i <= family->bound_count; i++) {
        char bound[48] = "+Inf";
        if (i < family->bound_count) {
            format_scaled(family->bounds[i], family->scale, bound);
        }
        count += sum_cell(shards, series->cell + i);
        text_series(out, family, series, "_bucket", bound);
        text_count(out, count);
    }
    uint32_t sum_at = series->cell + (uint32_t)family->bound_count + 1;
    text_series(out, family, series, "_sum", NULL);
    text_value(out, family, sum_cell(shards, sum_at));
    text_series(out, family, series, "_count", NULL);
    text_count(out, count); /* of the buckets just read, so that the two agree */
}

static void text_head(struct text_out *out, const struct metric_family *family)
{
    static const char *const kinds[] = {
#define METRIC_KIND_TEXT(name, text, meaning) text,
        METRIC_KINDS(METRIC_KIND_TEXT)
#undef METRIC_KIND_TEXT
    };
    text_word(out, "# HELP ");
    text_word(out, family->name);
    text_word(out, " ");
    text_escaped(out, slice_of_text(family->help), false);
    text_word(out, "\n# TYPE ");
    text_word(out, family->name);
    text_word(out, " ");
    text_word(out, kinds[family->kind]);
    text_word(out, "\n");
}

/* All series in the order of the text, each held. */
static const struct series **hold_all(struct metrics *metrics, size_t *count)
{
    lock(metrics);
    const struct series **all = NEW_ARRAY(const struct series *, metrics->table_used);
    size_t used = 0;
    for (uint32_t i = 0; i < metrics->family_count; i++) {
        LIST_EACH(&metrics->states[i].series, node)
        {
            struct series *series = LIST_ITEM(node, struct series, in_family);
            series->holders++;
            all[used++] = series;
        }
    }
    unlock(metrics);
    *count = used;
    return all;
}

void metrics_write(struct metrics *metrics, metrics_sink *sink, void *owner)
{
    size_t count;
    const struct series **all = hold_all(metrics, &count);
    const struct metrics_shard *shards = shards_now(metrics);
    struct text_out out;
    out.sink = sink;
    out.owner = owner;
    out.len = 0;
    for (size_t i = 0; i < count; i++) {
        const struct series *series = all[i];
        const struct metric_family *family = &metrics->families[series->family];
        if (i == 0 || all[i - 1]->family != series->family) {
            text_head(&out, family);
        }
        if (family->kind == METRIC_HISTOGRAM) {
            text_histogram(&out, family, series, shards);
        } else {
            text_series(&out, family, series, "", NULL);
            text_value(&out, family, sum_cell(shards, series->cell));
        }
    }
    text_flush(&out);
    lock(metrics);
    for (size_t i = 0; i < count; i++) {
        let_go(metrics, all[i]->number);
    }
    unlock(metrics);
    mem_free(all);
}
