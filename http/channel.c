#include "http/channel.h"

#include <string.h>

#include "base/alloc.h"
#include "http/raw.h"

#define HEAD_EXTRA_FIELDS 2 /* that an answer may gain on its way down */

/* ---- streams of a channel ---- */

static struct stream **bucket_of(struct channel *channel, uint32_t id)
{
    return &channel
                ->buckets[id >> 1 & channel->bucket_mask]; /* a side's ids are all odd, or even */
}

static struct stream *find_stream(struct channel *channel, uint32_t id)
{
    struct stream *stream = *bucket_of(channel, id);
    while (stream != NULL && stream->id != id) {
        stream = stream->next_in_bucket;
    }
    return stream;
}

static void wake(struct stream *stream, unsigned event)
{
    stream->events |= (uint16_t)event;
    if (stream->owner != NULL && stream->channel != NULL) {
        /* One exchange a connection: it runs next, while what was received is still in the receive
         * buffer. */
        if (stream->channel->codec->ops->multiplexes) {
            loop_post(stream->channel->loop, stream->owner);
        } else {
            loop_post_next(stream->channel->loop, stream->owner);
        }
    }
}

void stream_init(struct stream *stream, struct loop *loop, struct arena *arena, struct task *owner)
{
    *stream = (struct stream){.owner = owner, .arena = arena};
    buf_init(&stream->in, &loop->bufs);
}

static void put_in_bucket(struct stream *stream)
{
    struct stream **bucket = bucket_of(stream->channel, stream->id);
    stream->next_in_bucket = *bucket;
    *bucket = stream;
}

static void take_from_bucket(struct stream *stream)
{
    struct stream **at = bucket_of(stream->channel, stream->id);
    while (*at != stream) {
        CHECK(*at != NULL);
        at = &(*at)->next_in_bucket;
    }
    *at = stream->next_in_bucket;
}

static void grow_buckets(struct channel *channel)
{
    uint32_t old_count = channel->bucket_mask + 1;
    struct stream **old = channel->buckets;
    channel->bucket_mask = old_count * 8 - 1;
    channel->buckets = NEW_ARRAY(struct stream *, old_count * 8);
    for (uint32_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct stream *stream = old[i];
            old[i] = stream->next_in_bucket;
            put_in_bucket(stream);
        }
    }
    if (old != &channel->one) {
        mem_free(old);
    }
}

void stream_attach(struct stream *stream, struct channel *channel, uint32_t id)
{
    CHECK(stream->channel == NULL);
    if (channel->stream_count > 2 * channel->bucket_mask) {
        grow_buckets(channel);
    }
    stream->channel = channel;
    stream->id = id;
    put_in_bucket(stream);
    channel->stream_count++;
}

bool stream_open(struct stream *stream)
{
    if (stream->channel == NULL) {
        return false;
    }
    CHECK(stream->id == 0);
    uint32_t id = codec_open(stream->channel->codec);
    if (id == 0) {
        return false;
    }
    take_from_bucket(stream);
    stream->id = id;
    put_in_bucket(stream);
    return true;
}

/* The owner has more to read. In this tick, unless the connection has had its share of it: where
 * what is read can leave at once, a bulk transfer would go on for as long as the kernel holds some,
 * and whoever else the thread serves would wait. */
static void run_again(struct channel *channel)
{
    if (channel->turn_us == channel->loop->now_us && channel->turn_bytes >= CHANNEL_TURN_BYTES) {
        loop_post_later(channel->loop, channel->owner);
    } else {
        loop_post(channel->loop, channel->owner);
    }
}

static void update_pause(struct channel *channel, bool paused)
{
    channel->paused = paused;
    if (channel->gone || channel->eof) {
        return;
    }
    struct net_conn *net = channel->conn->net;
    unsigned without = net->wanted & ~(unsigned)NET_READ;
    net_want(net, paused ? without : without | NET_READ);
    if (!paused && ((net->ready & NET_READ) != 0 || conn_pending(channel->conn))) {
        run_again(channel);
    }
}

void stream_detach(struct stream *stream)
{
    struct channel *channel = stream->channel;
    if (channel == NULL) {
        return;
    }
    take_from_bucket(stream);
    list_remove(&stream->blocked);
    stream->channel = NULL;
    CHECK(channel->stream_count > 0);
    channel->stream_count--;
    if (channel->codec->ops->multiplexes) {
        buf_clear(&stream->in);
        loop_post(channel->loop,
                  channel->owner); /* it may be the last, or one that waits has room now */
        return;
    }
    if (channel->paused) {
        update_pause(channel, false);
    }
    /* The next pipelined request may be in the tail; and the owner decides whether the connection
     * lives on. */
    channel->again = channel->tail_len > 0;
    loop_post(channel->loop, channel->owner);
}

void stream_fini(struct stream *stream)
{
    stream_detach(stream);
    buf_clear(&stream->in);
}

/* ---- life ---- */

static void run_flush(struct task *task)
{
    struct channel *channel = CONTAINER_OF(task, struct channel, flush);
    if (channel_flush(channel) == IO_RESET) {
        loop_post(channel->loop, channel->owner);
    }
}

void channel_init(struct channel *channel, struct loop *loop, struct conn **conn,
                  struct codec **codec, struct task *owner)
{
    *channel = (struct channel){
        .loop = loop, .conn = *conn, .codec = *codec, .owner = owner, .flush.run = run_flush};
    *conn = NULL;
    *codec = NULL;
    channel->buckets = &channel->one;
    buf_init(&channel->out, &loop->bufs);
    list_init(&channel->starved);
    list_init(&channel->blocked);
    channel->conn->net->owner = owner;
}

void channel_lose_streams(struct channel *channel)
{
    bool unheard = channel->conn != NULL && channel->bytes_in == 0;
    const char *refusal = unheard ? channel->conn->refused_us : NULL;
    for (uint32_t i = 0; i <= channel->bucket_mask; i++) {
        while (channel->buckets[i] != NULL) {
            struct stream *stream = channel->buckets[i];
            channel->buckets[i] = stream->next_in_bucket;
            list_remove(&stream->blocked);
            stream->events |= STREAM_LOST;
            stream->shared_death = channel->death_told;
            channel->death_told = true;
            stream->bad = (uint8_t)channel->codec->bad;
            stream->refusal = refusal;
            stream->channel = NULL;
            if (stream->owner != NULL) {
                loop_post(channel->loop, stream->owner);
            }
        }
    }
    channel->stream_count = 0;
}

void channel_fini(struct channel *channel, bool reset)
{
    channel_lose_streams(channel);
    task_cancel(&channel->flush);
    if (reset || channel->cut) {
        conn_reset(&channel->conn);
    } else {
        conn_close(&channel->conn);
    }
    codec_free(&channel->codec);
    if (channel->buckets != &channel->one) {
        FREE(channel->buckets);
    }
    buf_clear(&channel->out);
    FREE(channel->tail);
    channel->tail_len = 0;
}

struct conn *channel_release(struct channel *channel)
{
    CHECK(channel->stream_count == 0);
    CHECK(channel->bytes_in == 0);
    CHECK(channel->bytes_out == 0);
    CHECK(buf_empty(&channel->out));
    struct conn *conn = channel->conn;
    channel->conn = NULL;
    channel->gone = true;
    task_cancel(&channel->flush);
    return conn;
}

void channel_ask_again(struct channel *channel)
{
    channel->again = true;
    loop_post(channel->loop, channel->owner);
}

bool channel_finished(const struct channel *channel)
{
    return channel->stream_count == 0 && codec_finished(channel->codec);
}

/* ---- reading ---- */

void channel_begin(struct channel *channel)
{
    channel->filled = false;
    codec_tick(channel->codec, channel->loop->now_us);
}

static bool readable(const struct channel *channel)
{
    return !channel->paused && !channel->eof && !channel->gone &&
           ((channel->conn->net->ready & NET_READ) != 0 || conn_pending(channel->conn));
}

/* Puts the tail and one receive behind it into the shared buffer. */
static enum io fill(struct channel *channel)
{
    struct span span = loop_recv_span(channel->loop);
    size_t have = channel->tail_len;
    CHECK(have <= span.len);
    if (have > 0) {
        (void)memcpy(span.at, channel->tail, have);
        FREE(channel->tail);
        channel->tail_len = 0;
    }
    channel->input = slice_of(span.at, have);
    if (!readable(channel) || have == span.len) {
        return IO_OK;
    }
    size_t got = 0;
    enum io result = conn_recv(channel->conn, (struct span){span.at + have, span.len - have}, &got);
    channel->input.len += got;
    channel->bytes_in += got;
    if (channel->turn_us != channel->loop->now_us) {
        channel->turn_us = channel->loop->now_us;
        channel->turn_bytes = 0;
    }
    channel->turn_bytes += (uint32_t)got;
    return result;
}

/* Whether a message of HTTP/1, which has one stream at a time, is being read, whose next piece (a
 * section of trailers) may be as long as a head: only what lies behind its end is pipelined. */
static bool inside_message(const struct channel *channel)
{
    return channel->one != NULL && !channel->one->in_end;
}

static void pause_pipeline(struct channel *channel, size_t len)
{
    bool waits = channel->stream_count > 0 || codec_finished(channel->codec);
    size_t limit = waits && inside_message(channel) ? LOOP_RECV_BYTES : CHANNEL_PIPELINE_MAX;
    if (!channel->codec->ops->multiplexes && !channel->paused && waits && len >= limit) {
        update_pause(channel, true);
    }
}

/* What the codec did not take is kept for the next run. */
static void keep_rest(struct channel *channel)
{
    size_t len = channel->input.len;
    if (len > 0) {
        CHECK(channel->tail == NULL);
        channel->tail = mem_raw(len);
        (void)memcpy(channel->tail, channel->input.at, len);
        channel->tail_len = (uint32_t)len;
        channel->input = (struct slice){NULL, 0};
    }
    if (UNLIKELY(len >= CHANNEL_PIPELINE_MAX)) {
        pause_pipeline(channel, len);
    }
}

static enum channel_step end_of_run(struct channel *channel)
{
    if (channel->gone) {
        return CHANNEL_GONE;
    }
    if (readable(channel) || (channel->deaf && !channel->paused)) {
        run_again(channel);
    }
    return CHANNEL_QUIET;
}

static enum channel_step read_eof(struct channel *channel, struct codec_event *ev)
{
    switch (codec_eof(channel->codec, ev)) {
    case CODEC_EVENT:
        return CHANNEL_EVENT;
    case CODEC_BAD:
        return CHANNEL_BAD;
    case CODEC_MORE:
        break;
    }
    channel->eof_told = true;
    return CHANNEL_EOF;
}

/* The run's one receive. */
static NOINLINE void begin_reading(struct channel *channel)
{
    channel->again = false;
    switch (fill(channel)) {
    case IO_OK:
        break;
    case IO_AGAIN:
        channel->gone = channel->deaf; /* that was all */
        break;
    case IO_EOF:
        channel->gone = channel->deaf; /* it was reset: this is no clean end */
        channel->eof = true;
        net_want(channel->conn->net, channel->conn->net->wanted & ~(unsigned)NET_READ);
        break;
    case IO_RESET:
        channel->gone = true;
        break;
    }
}

/* The codec has no more events in what was received. */
static NOINLINE enum channel_step end_reading(struct channel *channel, struct codec_event *ev)
{
    keep_rest(channel);
    if (channel->eof && !channel->eof_told && !channel->gone) {
        return read_eof(channel, ev);
    }
    return end_of_run(channel);
}

enum channel_step channel_next(struct channel *channel, struct codec_event *ev)
{
    if (!channel->filled) {
        channel->filled = true;
        channel->conn->net->ready |= channel->deaf ? NET_READ : 0;
        if (!readable(channel) && !channel->again) {
            return channel->gone ? CHANNEL_GONE : CHANNEL_QUIET;
        }
        begin_reading(channel);
    }
    enum codec_step step = codec_read(channel->codec, &channel->input, ev);
    if (LIKELY(step == CODEC_EVENT)) {
        return CHANNEL_EVENT;
    }
    if (step == CODEC_BAD) {
        channel->input = (struct slice){NULL, 0};
        return CHANNEL_BAD;
    }
    return end_reading(channel, ev);
}

static struct message *copy_message(struct stream *stream, const struct message *message)
{
    struct message *copy = ARENA_ROOM(stream->arena, struct message, 1);
    message_copy(copy, stream->arena, message, HEAD_EXTRA_FIELDS);
    return copy;
}

static void keep_interim(struct stream *stream, const struct message *message)
{
    struct stream_interim **last = &stream->interims;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = ARENA_NEW(stream->arena, struct stream_interim);
    **last = (struct stream_interim){.message = copy_message(stream, message)};
}

static void take_data(struct channel *channel, struct stream *stream, struct slice bytes)
{
    buf_borrow(&stream->in, bytes);
    stream->in_bytes += bytes.len;
    if (!channel->codec->ops->multiplexes && stream->in.len >= STREAM_IN_HIGH && !channel->paused) {
        update_pause(channel, true);
    }
}

static void wake_all(struct channel *channel)
{
    for (uint32_t i = 0; i <= channel->bucket_mask; i++) {
        for (struct stream *each = channel->buckets[i]; each != NULL; each = each->next_in_bucket) {
            wake(each, STREAM_ROOM);
        }
    }
}

bool channel_deliver(struct channel *channel, const struct codec_event *ev)
{
    if (ev->kind == CODEC_EV_SETTINGS) {
        wake_all(channel); /* whoever waits for what they say; the owner may as well */
        return false;
    }
    if (ev->kind == CODEC_EV_WINDOW && ev->stream == 0) {
        wake_all(channel);
        return true;
    }
    struct stream *stream = ev->stream != 0 ? find_stream(channel, ev->stream) : NULL;
    if (stream == NULL) {
        return false;
    }
    switch (ev->kind) {
    case CODEC_EV_HEAD:
        stream->head = copy_message(stream, ev->message);
        wake(stream, STREAM_HEAD);
        return true;
    case CODEC_EV_INTERIM:
        keep_interim(stream, ev->message);
        wake(stream, STREAM_INTERIM);
        return true;
    case CODEC_EV_DATA:
        take_data(channel, stream, ev->data);
        wake(stream, STREAM_DATA);
        return true;
    case CODEC_EV_TRAILERS:
        stream->trailers = copy_message(stream, ev->message);
        return true;
    case CODEC_EV_END:
        stream->in_end = true;
        wake(stream, STREAM_END);
        return true;
    case CODEC_EV_REFUSED:
        stream->bad = (uint8_t)ev->bad;
        wake(stream, STREAM_REFUSED);
        return true;
    case CODEC_EV_RESET:
        stream->reset_code = ev->code;
        if (channel->eof) { /* the codec ends what the connection's end leaves open */
            stream->shared_death = channel->death_told;
            channel->death_told = true;
        }
        wake(stream, STREAM_RESET);
        return true;
    case CODEC_EV_WINDOW:
        wake(stream, STREAM_ROOM);
        return true;
    case CODEC_EV_PEER: /* a later one could only make us keep more */
        if (stream->note.len == 0) {
            stream->note = arena_dup(stream->arena, ev->data);
        }
        return true;
    case CODEC_EV_GOAWAY:
    case CODEC_EV_SETTINGS:
    case CODEC_EV_PONG:
        return false;
    }
    return false;
}

/* ---- writing ---- */

/* The peer takes nothing any more. What it said before that is still to be read: an early answer,
 * or the alert that says why. */
static void peer_is_deaf(struct channel *channel)
{
    buf_clear(&channel->out);
    channel->deaf = channel->hears_out;
    if (!channel->hears_out || channel->eof || channel->paused) {
        channel->gone = true;
        channel_lose_streams(channel);
    }
    loop_post(channel->loop, channel->owner);
}

static void give_turns(struct list *waiting)
{
    for (struct list *node = list_pop(waiting); node != NULL; node = list_pop(waiting)) {
        wake(LIST_ITEM(node, struct stream, blocked), STREAM_ROOM);
    }
}

static NOINLINE enum io flush(struct channel *channel)
{
    task_cancel(&channel->flush);
    if (channel->gone) {
        return IO_RESET;
    }
    codec_write_owed(channel->codec, &channel->out);
    enum io result = IO_OK;
    if (channel->deaf) {
        buf_clear(&channel->out);
    } else if (channel_unsent(channel)) {
        size_t before = channel->out.len;
        result = conn_send(channel->conn, &channel->out);
        channel->bytes_out += before - channel->out.len;
    }
    if (result == IO_RESET) {
        peer_is_deaf(channel);
        return IO_RESET;
    }
    if (channel->out.len <= CHANNEL_OUT_LOW && !MUTANT(17)) {
        give_turns(&channel->starved);
        give_turns(&channel->blocked);
    }
    if (channel->fin && !channel->fin_sent && result == IO_OK) {
        channel->fin_sent = true;
        conn_shutdown_send(channel->conn);
    }
    return result;
}

/* One exchange at a time: nothing to send, nobody who waits for it. */
static bool is_calm(const struct channel *channel)
{
    return !channel->codec->ops->multiplexes && !channel->gone && !channel_unsent(channel) &&
           list_empty(&channel->starved) && list_empty(&channel->blocked) &&
           channel->fin == channel->fin_sent;
}

enum io channel_flush(struct channel *channel)
{
    return is_calm(channel) ? IO_OK : flush(channel);
}

void channel_flush_soon(struct channel *channel)
{
    loop_flush_later(channel->loop, &channel->flush);
}

void channel_push(struct channel *channel)
{
    if (channel->codec->ops->multiplexes) {
        channel_flush_soon(channel);
    } else {
        (void)channel_flush(channel);
    }
}

static enum codec_room command(struct stream *stream, struct codec_cmd *cmd)
{
    if (stream->channel == NULL) {
        return CODEC_DONE;
    }
    cmd->stream = stream->id;
    enum codec_room room = codec_write(stream->channel->codec, &stream->channel->out, cmd);
    if (cmd->end && room == CODEC_DONE) {
        stream->out_end = true;
        if (stream->tunnel && !stream->channel->codec->ops->multiplexes) {
            stream->channel->fin = true;
        }
    }
    if (stream->channel->codec->ops->multiplexes) {
        channel_flush_soon(stream->channel);
    }
    return room;
}

void stream_write_head(struct stream *stream, const struct message *message, bool end)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_HEAD, .message = message, .end = end};
    CHECK(command(stream, &cmd) == CODEC_DONE);
}

void stream_write_interim(struct stream *stream, const struct message *message)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_INTERIM, .message = message};
    CHECK(command(stream, &cmd) == CODEC_DONE);
}

void stream_become_tunnel(struct stream *stream)
{
    stream->tunnel = true;
    struct channel *channel = stream->channel;
    if (channel != NULL && stream->out_end && !channel->codec->ops->multiplexes) {
        channel->fin = true;
    }
}

/* Who writes much would have filled whatever room there is again before others are run: they stand
 * before it in the queue, each until it has written once. */
static enum codec_room block(struct stream *stream, bool wrote)
{
    struct channel *channel = stream->channel;
    if (!list_linked(&stream->blocked)) {
        list_append(wrote ? &channel->blocked : &channel->starved, &stream->blocked);
    }
    return CODEC_FULL;
}

/* Whether others have waited for longer. */
static bool must_queue(const struct stream *stream)
{
    const struct channel *channel = stream->channel;
    const struct list *queue =
        !list_empty(&channel->starved) ? &channel->starved : &channel->blocked;
    return !list_empty(queue) && queue->next != &stream->blocked;
}

/* A shared connection with much to send, whose socket has not said that it is full. */
static bool sends_early(const struct channel *channel)
{
    return channel->out.len >= CHANNEL_OUT_MUCH && channel->codec->ops->multiplexes &&
           (channel->conn->net->wanted & NET_WRITE) == 0;
}

enum codec_room stream_write_data(struct stream *stream, struct buf *from, bool end)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_DATA, .data = from, .end = end};
    enum codec_room room = CODEC_FULL;
    bool wrote = false;
    while (room == CODEC_FULL && stream->channel != NULL) {
        if (stream->channel->out.len >= CHANNEL_OUT_HIGH || must_queue(stream)) {
            return block(stream, wrote);
        }
        list_remove(&stream->blocked);
        wrote = true;
        size_t before = from->len;
        room = command(stream, &cmd);
        stream->out_bytes += before - from->len;
        bool marked = stream->channel->out.len >= CHANNEL_OUT_HIGH;
        if (sends_early(stream->channel)) {
            (void)flush(stream->channel); /* its streams may be lost by it */
        }
        if (!marked) {
            return room;
        }
        /* The codec stopped at its own mark: no WINDOW event follows, but there is room again. */
    }
    return stream->channel == NULL ? CODEC_DONE : room;
}

void stream_write_trailers(struct stream *stream, const struct message *trailers)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_TRAILERS, .message = trailers, .end = true};
    CHECK(command(stream, &cmd) == CODEC_DONE);
}

void stream_reset(struct stream *stream, uint32_t code)
{
    if (stream->channel == NULL) {
        return;
    }
    if (stream->id != 0) {
        struct codec_cmd cmd = {.kind = CODEC_CMD_RESET, .code = code};
        struct channel *channel = stream->channel;
        channel->cut = stream->tunnel && !channel->codec->ops->multiplexes && !stream->out_end;
        (void)command(stream, &cmd);
    }
    stream_detach(stream);
}

void stream_consumed(struct stream *stream, size_t len)
{
    struct channel *channel = stream->channel;
    if (channel == NULL || len == 0) {
        return;
    }
    if (channel->codec->ops->multiplexes) {
        struct codec_cmd cmd = {.kind = CODEC_CMD_CONSUMED, .len = len};
        (void)command(stream, &cmd);
    } else if (channel->paused && stream->in.len <= STREAM_IN_LOW &&
               channel->tail_len < CHANNEL_PIPELINE_MAX) {
        update_pause(channel, false);
    }
}
