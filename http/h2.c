/* Life of a connection and its streams, the budgets, and what the codec owes its peer.
 *
 * Streams sit in a small hash of chains that grows with them; an idle connection has none. For
 * streams that are gone the codec remembers, of the last 64 numbers, which were opened and which it
 * reset itself: enough to tell late frames, which are dropped, from wrong ones. Older numbers get
 * the benefit of the doubt. */
#include "http/h2.h"

#include <string.h>

#include "base/alloc.h"
#include "http/h2_core.h"

#define MAP_BITS    64
#define OWED_START  64
#define OWED_GOAWAY 64 /* beyond owed_max: the last frame always fits */

struct h2_options h2_options_default(enum codec_side side)
{
    return (struct h2_options){
        .side = side,
        .max_concurrent_streams = 100,
        .initial_window = H2_WINDOW_DEFAULT,
        .window_max = 1U << 20,
        .header_table_bytes = HPACK_TABLE_DEFAULT,
        .encoder_table_bytes = HPACK_TABLE_DEFAULT,
        .max_header_list = 61440,
        .max_headers = 100,
        .max_continuations = 16,
        .output_mark = 65536,
        .owed_max = 16384,
        .budget =
            {
#define X(name, full, refill, meaning)                                                             \
    [H2_BUDGET_##name] = {.burst = (full), .per_second = (refill)},
                H2_BUDGETS(X)
#undef X
            },
    };
}

struct h2_pool *h2_pool_new(void)
{
    struct h2_pool *pool = NEW(struct h2_pool);
    size_t scratch = HPACK_SCRATCH(H2_HEADER_LIST_MAX);
    pool->list = (struct hpack_list){
        .field = pool->fields, .capacity = H2_FIELDS_MAX, .scratch = {mem_raw(scratch), scratch}};
    return pool;
}

void h2_pool_free(struct h2_pool **pool)
{
    if (*pool == NULL) {
        return;
    }
    while ((*pool)->idle != NULL) {
        struct h2_stream *stream = (*pool)->idle;
        (*pool)->idle = stream->next;
        mem_free(stream);
    }
    mem_free((*pool)->list.scratch.at);
    FREE(*pool);
}

/* --- streams --------------------------------------------------------------------------------- */

static struct h2_stream **bucket_of(const struct h2 *h2, uint32_t id)
{
    return &h2->buckets[(id * UINT32_C(0x9e3779b1) >> 16) & h2->bucket_mask];
}

static void grow_buckets(struct h2 *h2)
{
    uint32_t old_count = h2->bucket_mask + 1;
    struct h2_stream **old = h2->buckets;
    h2->bucket_mask = old_count * 4 - 1;
    h2->buckets = NEW_ARRAY(struct h2_stream *, old_count * 4);
    for (uint32_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct h2_stream *stream = old[i];
            struct h2_stream **bucket = bucket_of(h2, stream->id);
            old[i] = stream->next;
            stream->next = *bucket;
            *bucket = stream;
        }
    }
    if (old != h2->few) {
        mem_free(old);
    }
}

void h2_note_id(struct h2 *h2, uint32_t id, bool forgotten)
{
    if (id > h2->last_id) {
        uint32_t steps = (id - h2->last_id + 1) / 2;
        h2->opened = steps < MAP_BITS ? h2->opened << steps : 0;
        h2->forgotten = steps < MAP_BITS ? h2->forgotten << steps : 0;
        h2->last_id = id;
    }
    uint32_t age = (h2->last_id - id) / 2;
    if (age < MAP_BITS) {
        h2->opened |= UINT64_C(1) << age;
        h2->forgotten |= (uint64_t)forgotten << age;
    }
}

bool h2_was_opened(const struct h2 *h2, uint32_t id)
{
    uint32_t age = (h2->last_id - id) / 2;
    return id <= h2->last_id && (age >= MAP_BITS || (h2->opened >> age & 1) != 0);
}

bool h2_is_forgotten(const struct h2 *h2, uint32_t id)
{
    uint32_t age = (h2->last_id - id) / 2;
    return id <= h2->last_id && (age >= MAP_BITS || (h2->forgotten >> age & 1) != 0);
}

struct h2_stream *h2_stream_new(struct h2 *h2, uint32_t id, enum h2_state state)
{
    CHECK(id > h2->last_id);
    if (h2->streams > 2 * h2->bucket_mask) {
        grow_buckets(h2);
    }
    struct h2_stream *stream = h2->pool->idle;
    if (stream != NULL) {
        h2->pool->idle = stream->next;
        h2->pool->kept--;
    } else {
        stream = NEW(struct h2_stream);
    }
    struct h2_stream **bucket = bucket_of(h2, id);
    *stream = (struct h2_stream){.next = *bucket,
                                 .id = id,
                                 .state = (uint8_t)state,
                                 .send_window = h2->peer_window,
                                 .recv_window = h2->our_window,
                                 .recv_target = h2->our_window,
                                 .body_left = MESSAGE_LENGTH_UNKNOWN};
    *bucket = stream;
    h2->streams++;
    h2->recent = stream;
    h2_note_id(h2, id, false);
    return stream;
}

struct h2_stream *h2_stream_find(struct h2 *h2, uint32_t id)
{
    if (h2->recent != NULL && h2->recent->id == id) {
        return h2->recent;
    }
    struct h2_stream *stream = *bucket_of(h2, id);
    while (stream != NULL && stream->id != id) {
        stream = stream->next;
    }
    if (stream != NULL) {
        h2->recent = stream;
    }
    return stream;
}

static void stream_free(struct h2 *h2, struct h2_stream *stream)
{
    struct h2_stream **at = bucket_of(h2, stream->id);
    while (*at != stream) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = stream->next;
    h2->streams--;
    if (h2->recent == stream) {
        h2->recent = NULL;
    }
    if (h2->probe_stream == stream->id) {
        h2->probe_stream = 0;
    }
    if (h2->end_due == stream->id) {
        h2->end_due = 0;
    }
    struct h2_pool *pool = h2->pool;
    if (pool->kept < H2_STREAMS_KEPT) {
        stream->next = pool->idle;
        pool->idle = stream;
        pool->kept++;
    } else {
        mem_free(stream);
    }
}

void h2_stream_move(struct h2 *h2, struct h2_stream *stream, enum h2_state to)
{
    static const uint8_t moves[] = {
#define X(name, meaning, allowed) allowed,
        H2_STATES(X)
#undef X
    };
    CHECK((moves[stream->state] >> to & 1) != 0);
    stream->state = (uint8_t)to;
    if (to == H2_STATE_CLOSED) {
        stream_free(h2, stream);
    }
}

static void completed(struct h2 *h2, struct h2_stream *stream)
{
    h2_earn(h2, H2_BUDGET_RESET, 1);
    h2_earn(h2, H2_BUDGET_GLITCH, 1);
    h2_stream_move(h2, stream, H2_STATE_CLOSED);
}

void h2_stream_end_local(struct h2 *h2, struct h2_stream *stream)
{
    if (stream->state == H2_STATE_HALF_REMOTE) {
        completed(h2, stream);
    } else {
        h2_stream_move(h2, stream, H2_STATE_HALF_LOCAL);
    }
}

void h2_stream_end_remote(struct h2 *h2, struct h2_stream *stream)
{
    if (stream->state == H2_STATE_HALF_LOCAL) {
        completed(h2, stream);
    } else {
        h2_stream_move(h2, stream, H2_STATE_HALF_REMOTE);
    }
}

void h2_stream_forget(struct h2 *h2, struct h2_stream *stream)
{
    h2_note_id(h2, stream->id, true);
    h2_stream_move(h2, stream, H2_STATE_CLOSED);
}

struct h2_stream *h2_stream_any(struct h2 *h2,
                                bool (*wanted)(const struct h2 *, const struct h2_stream *))
{
    for (uint32_t i = 0; i <= h2->bucket_mask && h2->streams > 0; i++) {
        for (struct h2_stream *stream = h2->buckets[i]; stream != NULL; stream = stream->next) {
            if (wanted(h2, stream)) {
                return stream;
            }
        }
    }
    return NULL;
}

/* --- budgets --------------------------------------------------------------------------------- */

bool h2_spend(struct h2 *h2, enum h2_budget budget, uint32_t cost)
{
    if (h2->budget[budget] < cost) {
        (void)h2_fail(h2, CODEC_BAD_FLOOD);
        return false;
    }
    h2->budget[budget] -= cost;
    return true;
}

void h2_earn(struct h2 *h2, enum h2_budget budget, uint32_t gain)
{
    uint32_t burst = h2->options->budget[budget].burst;
    uint32_t left = h2->budget[budget];
    h2->budget[budget] = left < burst && burst - left > gain ? left + gain : burst;
}

void h2_tick(struct codec *codec, uint64_t now_us)
{
    struct h2 *h2 = h2_of(codec);
    uint64_t now_ms = now_us / 1000;
    uint64_t passed = h2->ticked && now_ms > h2->tick_ms ? now_ms - h2->tick_ms : 0;
    h2->now_us = now_us;
    if (h2->ticked && passed < 100) {
        return;
    }
    h2->ticked = true;
    h2->tick_ms = now_ms;
    passed = passed < 60000 ? passed : 60000;
    for (unsigned i = 0; i < H2_BUDGET_COUNT; i++) {
        uint64_t gain = passed * h2->options->budget[i].per_second / 1000;
        h2_earn(h2, (enum h2_budget)i, (uint32_t)(gain < UINT32_MAX ? gain : UINT32_MAX));
    }
}

/* --- what is owed ---------------------------------------------------------------------------- */

static void keep(struct h2 *h2, const uint8_t *bytes, size_t len)
{
    if (h2->owed_len + len > h2->owed_room) {
        uint32_t room = h2->owed_room > 0 ? h2->owed_room : OWED_START;
        while (room < h2->owed_len + len) {
            room *= 2;
        }
        h2->owed = mem_resize(h2->owed, room);
        h2->owed_room = room;
    }
    memcpy(h2->owed + h2->owed_len, bytes, len);
    h2->owed_len += (uint32_t)len;
}

void h2_owe(struct h2 *h2, const uint8_t *bytes, size_t len)
{
    if (h2->failed) {
        return;
    }
    if (h2->owed_len + len > h2->options->owed_max) {
        (void)h2_fail(h2, CODEC_BAD_FLOOD); /* it asks, and does not read the answers */
        return;
    }
    keep(h2, bytes, len);
}

void h2_owe_reset(struct h2 *h2, uint32_t id, uint32_t code)
{
    uint8_t frame[H2_FRAME_HEAD_BYTES + 4];
    (void)h2_put_u32(h2_frame_write(frame, 4, H2_FRAME_RST_STREAM, 0, id), code);
    h2_owe(h2, frame, sizeof frame);
}

void h2_owe_window(struct h2 *h2, uint32_t id, uint32_t increment)
{
    uint8_t frame[H2_FRAME_HEAD_BYTES + 4];
    (void)h2_put_u32(h2_frame_write(frame, 4, H2_FRAME_WINDOW_UPDATE, 0, id), increment);
    h2_owe(h2, frame, sizeof frame);
}

enum codec_step h2_fail(struct h2 *h2, enum codec_bad bad)
{
    if (h2->failed) {
        return CODEC_BAD;
    }
    struct slice label = slice_of_text(codec_bad_name(bad));
    uint8_t frame[OWED_GOAWAY];
    CHECK(H2_FRAME_HEAD_BYTES + 8 + label.len <= sizeof frame);
    uint8_t *at = h2_frame_write(frame, (uint32_t)(8 + label.len), H2_FRAME_GOAWAY, 0, 0);
    at = h2_put_u32(at, h2_is_server(h2) ? h2->last_id : 0);
    at = h2_put_u32(at, codec_bad_code(bad));
    memcpy(at, label.at, label.len);
    keep(h2, frame, H2_FRAME_HEAD_BYTES + 8 + label.len);
    h2->codec.bad = bad;
    h2->failed = true;
    return CODEC_BAD;
}

/* --- life ------------------------------------------------------------------------------------ */

static uint32_t h2_open(struct codec *codec)
{
    struct h2 *h2 = h2_of(codec);
    CHECK(!h2_is_server(h2));
    if (h2->failed || h2->gone || h2->goaway_read != UINT32_MAX || h2->goaway_sent != UINT32_MAX ||
        h2->streams >= h2->peer_streams || h2->next_id > H2_STREAM_MAX) {
        return 0;
    }
    uint32_t id = h2->next_id;
    h2->next_id += 2;
    (void)h2_stream_new(h2, id, H2_STATE_NEW);
    return id;
}

static uint32_t h2_window(const struct codec *codec, uint32_t id)
{
    const struct h2 *h2 = h2_const(codec);
    const struct h2_stream *stream = *bucket_of(h2, id);
    while (stream != NULL && stream->id != id) {
        stream = stream->next;
    }
    if (stream == NULL) {
        return 0;
    }
    int64_t room = stream->send_window < h2->send_window ? stream->send_window : h2->send_window;
    return room > 0 ? (uint32_t)room : 0;
}

static bool h2_finished(const struct codec *codec)
{
    const struct h2 *h2 = h2_const(codec);
    bool last = h2->goaway_read != UINT32_MAX ||
                (h2->goaway_sent != UINT32_MAX && h2->goaway_sent != H2_STREAM_MAX);
    return h2->failed || (h2->streams == 0 && (h2->gone || last));
}

static void h2_free(struct codec *codec)
{
    struct h2 *h2 = h2_of(codec);
    for (uint32_t i = 0; i <= h2->bucket_mask; i++) {
        while (h2->buckets[i] != NULL) {
            stream_free(h2, h2->buckets[i]);
        }
    }
    if (h2->buckets != h2->few) {
        mem_free(h2->buckets);
    }
    hpack_decoder_fini(&h2->decoder);
    hpack_encoder_fini(&h2->encoder);
    mem_free(h2->block.at);
    mem_free(h2->owed);
    mem_free(h2);
}

struct codec *h2_new(struct h2_pool *pool, const struct h2_options *options)
{
    static const struct codec_ops ops = {
        .name = "HTTP/2",
        .multiplexes = true,
        .read = h2_read,
        .eof = h2_eof,
        .write = h2_write,
        .open = h2_open,
        .window = h2_window,
        .finished = h2_finished,
        .tick = h2_tick,
        .free = h2_free,
    };
    CHECK(options->max_header_list <= H2_HEADER_LIST_MAX);
    CHECK(options->max_headers <= HEADERS_MAX);
    CHECK(options->initial_window <= options->window_max);
    CHECK(options->window_max <= H2_WINDOW_MAX);
    struct h2 *h2 = NEW(struct h2);
    h2->codec.ops = &ops;
    h2->options = options;
    h2->pool = pool;
    hpack_decoder_init(&h2->decoder);
    hpack_encoder_init(&h2->encoder, options->encoder_table_bytes, options->huffman);
    h2->buckets = h2->few;
    h2->bucket_mask = H2_BUCKETS_MIN - 1;
    h2->next_id = 1;
    h2->send_window = H2_WINDOW_DEFAULT;
    h2->recv_window = H2_WINDOW_MAX;
    h2->peer_window = H2_WINDOW_DEFAULT;
    /* A smaller window of ours binds the peer only once it knows of it. */
    h2->our_window =
        options->initial_window > H2_WINDOW_DEFAULT ? options->initial_window : H2_WINDOW_DEFAULT;
    h2->window_max = options->window_max;
    h2->peer_streams = options->max_concurrent_streams;
    h2->goaway_sent = UINT32_MAX;
    h2->goaway_read = UINT32_MAX;
    for (unsigned i = 0; i < H2_BUDGET_COUNT; i++) {
        h2->budget[i] = options->budget[i].burst;
    }
    h2->phase = h2_is_server(h2) ? H2_PHASE_PREFACE : H2_PHASE_SETTINGS;
    h2->opening_due = true;
    return &h2->codec;
}

void h2_limit_windows(struct codec *codec, uint32_t bytes)
{
    struct h2 *h2 = h2_of(codec);
    uint32_t least = h2->options->initial_window;
    uint32_t most = h2->options->window_max;
    h2->window_max = bytes < least ? least : bytes > most ? most : bytes;
}

uint32_t h2_streams(const struct codec *codec)
{
    return h2_const(codec)->streams;
}

uint32_t h2_peer_max_streams(const struct codec *codec)
{
    return h2_const(codec)->peer_streams;
}

bool h2_peer_takes_connect_protocol(const struct codec *codec)
{
    return h2_const(codec)->peer_connect;
}

bool h2_heard_settings(const struct codec *codec)
{
    return h2_const(codec)->phase == H2_PHASE_FRAMES;
}

bool h2_settled(const struct codec *codec)
{
    const struct h2 *h2 = h2_const(codec);
    return h2->phase == H2_PHASE_FRAMES && h2->settings_acked;
}

uint32_t h2_unfinished_block(const struct codec *codec)
{
    return h2_const(codec)->block.stream;
}

bool h2_owes(const struct codec *codec)
{
    const struct h2 *h2 = h2_const(codec);
    return h2->owed_len > 0 || h2->opening_due;
}

size_t h2_memory(const struct codec *codec)
{
    const struct h2 *h2 = h2_const(codec);
    size_t buckets = h2->buckets != h2->few ? (h2->bucket_mask + 1) * sizeof(void *) : 0;
    return sizeof *h2 + h2->streams * sizeof(struct h2_stream) + buckets + h2->owed_room +
           h2->block.room + hpack_decoder_memory(&h2->decoder) + hpack_encoder_memory(&h2->encoder);
}
