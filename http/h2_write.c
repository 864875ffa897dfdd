/* Commands in, bytes out. Whatever is owed goes first, so answers never wait behind a command, and
 * the connection's opening always leads. Small DATA is copied beside its frame head, so that a
 * short answer is one piece; large DATA is moved. */
#include <string.h>

#include "base/alloc.h"
#include "http/h2_core.h"

#define COPY_MAX 1024 /* DATA up to this is copied */
#define EARN_MIN 256

static void put(struct buf *out, const uint8_t *bytes, size_t len)
{
    struct span room = buf_reserve(out, len);
    memcpy(room.at, bytes, len);
    buf_commit(out, len);
}

static uint8_t *put_setting(uint8_t *at, enum h2_setting name, uint32_t value)
{
    return h2_put_u32(h2_put_u16(at, (uint32_t)name), value);
}

/* Preface, SETTINGS and the connection's window (RFC 9113 3.4). */
static void write_opening(struct h2 *h2, struct buf *out)
{
    const struct h2_options *options = h2->options;
    bool server = h2_is_server(h2);
    uint8_t bytes[H2_PREFACE_BYTES + 2 * H2_FRAME_HEAD_BYTES + 7 * 6 + 4];
    uint8_t *head = bytes;
    if (!server) {
        memcpy(head, H2_PREFACE, H2_PREFACE_BYTES);
        head += H2_PREFACE_BYTES;
    }
    uint8_t *at = head + H2_FRAME_HEAD_BYTES;
    if (server) {
        at = put_setting(at, H2_SETTING_MAX_CONCURRENT_STREAMS, options->max_concurrent_streams);
    } else {
        at = put_setting(at, H2_SETTING_ENABLE_PUSH, 0);
    }
    if (options->header_table_bytes != HPACK_TABLE_DEFAULT) {
        at = put_setting(at, H2_SETTING_HEADER_TABLE_SIZE, options->header_table_bytes);
    }
    if (options->initial_window != H2_WINDOW_DEFAULT) {
        at = put_setting(at, H2_SETTING_INITIAL_WINDOW_SIZE, options->initial_window);
    }
    at = put_setting(at, H2_SETTING_MAX_HEADER_LIST_SIZE, options->max_header_list);
    if (server && options->enable_connect_protocol) {
        at = put_setting(at, H2_SETTING_ENABLE_CONNECT_PROTOCOL, 1);
    }
    uint32_t len = (uint32_t)(at - head) - H2_FRAME_HEAD_BYTES;
    (void)h2_frame_write(head, len, H2_FRAME_SETTINGS, 0, 0);
    at = h2_frame_write(at, 4, H2_FRAME_WINDOW_UPDATE, 0, 0);
    at = h2_put_u32(at, H2_WINDOW_MAX - H2_WINDOW_DEFAULT);
    put(out, bytes, (size_t)(at - bytes));
    h2->opening_due = false;
}

static void write_owed(struct h2 *h2, struct buf *out)
{
    if (h2->opening_due) {
        write_opening(h2, out);
    }
    if (h2->owed_len > 0) {
        buf_append(out, slice_of(h2->owed, h2->owed_len));
        FREE(h2->owed);
        h2->owed_len = 0;
        h2->owed_room = 0;
    }
}

static void write_word_frame(struct buf *out, enum h2_frame_type type, uint32_t id, uint32_t word)
{
    uint8_t frame[H2_FRAME_HEAD_BYTES + 4];
    (void)h2_put_u32(h2_frame_write(frame, 4, type, 0, id), word);
    put(out, frame, sizeof frame);
}

static void write_reset(struct h2 *h2, struct buf *out, struct h2_stream *stream, uint32_t code)
{
    if (stream->state != H2_STATE_NEW) {
        write_word_frame(out, H2_FRAME_RST_STREAM, stream->id, code);
    }
    h2_stream_forget(h2, stream);
}

/* --- field blocks ---------------------------------------------------------------------------- */

/* A block that may be larger than a frame: HEADERS and CONTINUATION. */
static void write_large_block(struct h2 *h2, struct buf *out, uint32_t id, uint8_t flags,
                              const struct message *message, const struct h2_message_style *style)
{
    uint8_t *block = mem_raw(h2_message_bound(message, style));
    uint8_t *end = h2_message_write(&h2->encoder, block, message, style);
    struct slice rest = slice_of(block, (size_t)(end - block));
    enum h2_frame_type type = H2_FRAME_HEADERS;
    do {
        struct slice part = slice_head(rest, H2_FRAME_MAX);
        rest = slice_from(rest, part.len);
        uint8_t head[H2_FRAME_HEAD_BYTES];
        flags |= rest.len == 0 ? H2_FLAG_END_HEADERS : 0;
        (void)h2_frame_write(head, (uint32_t)part.len, type, flags, id);
        put(out, head, sizeof head);
        buf_append(out, part);
        type = H2_FRAME_CONTINUATION;
        flags = 0;
    } while (rest.len > 0);
    mem_free(block);
}

static void write_block(struct h2 *h2, struct buf *out, uint32_t id, const struct message *message,
                        bool trailers, bool end)
{
    uint8_t flags = end ? H2_FLAG_END_STREAM : 0;
    const struct h2_message_style style = {.trailers = trailers,
                                           .spelling = h2->options->peer_frames};
    size_t bound = H2_FRAME_HEAD_BYTES + h2_message_bound(message, &style);
    if (bound > H2_FRAME_MAX) {
        write_large_block(h2, out, id, flags, message, &style);
        return;
    }
    uint8_t *head = buf_reserve(out, bound).at;
    uint8_t *from = head + H2_FRAME_HEAD_BYTES;
    uint8_t *to = h2_message_write(&h2->encoder, from, message, &style);
    (void)h2_frame_write(head, (uint32_t)(to - from), H2_FRAME_HEADERS,
                         (uint8_t)(flags | H2_FLAG_END_HEADERS), id);
    buf_commit(out, (size_t)(to - head));
}

/* Our direction is complete. A request that was refused is now given up, if the peer would go on
 * with it or must know that it was malformed (RFC 9113 8.1, 8.1.1). */
static void end_local(struct h2 *h2, struct buf *out, struct h2_stream *stream)
{
    enum codec_bad refused = (enum codec_bad)stream->refused;
    if (refused == CODEC_BAD_NONE || !h2_is_server(h2)) {
        h2_stream_end_local(h2, stream);
        return;
    }
    bool well_formed = refused == CODEC_BAD_HEAD_LARGE || refused == CODEC_BAD_HEAD_COUNT ||
                       refused == CODEC_BAD_EXPECT;
    if (well_formed && stream->state == H2_STATE_HALF_REMOTE) {
        h2_stream_end_local(h2, stream);
    } else {
        write_reset(h2, out, stream, well_formed ? H2_NO_ERROR : codec_bad_code(refused));
    }
}

static bool may_write(const struct h2_stream *stream)
{
    return stream->state == H2_STATE_OPEN || stream->state == H2_STATE_HALF_REMOTE;
}

static void write_head(struct h2 *h2, struct buf *out, struct h2_stream *stream,
                       const struct codec_cmd *cmd)
{
    const struct message *message = cmd->message;
    if (stream->state == H2_STATE_NEW) {
        CHECK(message->kind == MESSAGE_REQUEST);
        CHECK(stream->id > h2->head_id); /* heads go out in the order of their numbers */
        h2->head_id = stream->id;
        stream->asked_head = slice_eq(message->method, SLICE("HEAD"));
        stream->tunnel = message->connect || message->protocol.len > 0;
        h2_stream_move(h2, stream, H2_STATE_OPEN);
    }
    CHECK(may_write(stream));
    bool end = cmd->end && cmd->kind == CODEC_CMD_HEAD;
    write_block(h2, out, stream->id, message, false, end);
    if (end) {
        end_local(h2, out, stream);
    }
}

/* --- DATA ------------------------------------------------------------------------------------ */

static void write_data_frame(struct buf *out, uint32_t id, struct buf *data, uint32_t len, bool end)
{
    uint8_t flags = end ? H2_FLAG_END_STREAM : 0;
    if (len <= COPY_MAX) {
        struct span room = buf_reserve(out, H2_FRAME_HEAD_BYTES + len);
        uint8_t *at = h2_frame_write(room.at, len, H2_FRAME_DATA, flags, id);
        if (len > 0) {
            (void)buf_peek(data, (struct span){at, len});
            buf_consume(data, len);
        }
        buf_commit(out, H2_FRAME_HEAD_BYTES + len);
        return;
    }
    uint8_t head[H2_FRAME_HEAD_BYTES];
    (void)h2_frame_write(head, len, H2_FRAME_DATA, flags, id);
    put(out, head, sizeof head);
    buf_move(out, data, len);
}

static enum codec_room write_data(struct h2 *h2, struct buf *out, struct h2_stream *stream,
                                  const struct codec_cmd *cmd)
{
    struct buf *data = cmd->data;
    CHECK(may_write(stream));
    while (data->len > 0) {
        if (out->len >= h2->options->output_mark) {
            return CODEC_FULL;
        }
        int64_t window =
            stream->send_window < h2->send_window ? stream->send_window : h2->send_window;
        if (window <= 0) {
            stream->blocked |= stream->send_window <= 0;
            h2->blocked |= h2->send_window <= 0;
            return CODEC_FULL;
        }
        size_t wanted = data->len < H2_FRAME_MAX ? data->len : H2_FRAME_MAX;
        uint32_t len = (uint32_t)((int64_t)wanted < window ? (int64_t)wanted : window);
        stream->send_window -= MUTANT(13) ? 0 : len;
        h2->send_window -= len;
        bool end = cmd->end && len == data->len;
        write_data_frame(out, stream->id, data, len, end);
        /* The peer answers DATA with WINDOW_UPDATE; who hands out windows by the byte earns none.
         */
        if (len == wanted || len >= EARN_MIN) {
            h2_earn(h2, H2_BUDGET_CONTROL, 2);
        }
        if (end) {
            end_local(h2, out, stream);
            return CODEC_DONE;
        }
    }
    if (cmd->end) {
        write_data_frame(out, stream->id, data, 0, true);
        end_local(h2, out, stream);
    }
    return CODEC_DONE;
}

static void write_end(struct h2 *h2, struct buf *out, struct h2_stream *stream)
{
    CHECK(may_write(stream));
    write_data_frame(out, stream->id, NULL, 0, true);
    end_local(h2, out, stream);
}

/* Half of a window is returned at a time. Then, where the stream may get a larger one, the next
 * round trip is measured (h2_read.c, finish_probe). */
static void consumed(struct h2 *h2, struct buf *out, struct h2_stream *stream, uint64_t len)
{
    static const uint8_t probe[] = {0,   0,   0x08, H2_FRAME_PING, 0,   0, 0, 0, 0,
                                    'r', 'o', 'u',  'n',           'd', 0, 0, 1};
    CHECK(len <= stream->unconsumed);
    stream->unconsumed -= (uint32_t)len;
    stream->returnable += (uint32_t)len;
    if (stream->state == H2_STATE_HALF_REMOTE) {
        return;
    }
    if (stream->recv_target > h2->window_max) { /* memory is short: keep some back */
        uint32_t excess = stream->recv_target - h2->window_max;
        uint32_t kept = stream->returnable < excess ? stream->returnable : excess;
        stream->returnable -= kept;
        stream->recv_target -= kept;
    }
    if (stream->returnable == 0 || stream->returnable < stream->recv_target / 2) {
        return;
    }
    write_word_frame(out, H2_FRAME_WINDOW_UPDATE, stream->id, stream->returnable);
    stream->recv_window += stream->returnable;
    stream->returnable = 0;
    if (h2->probe_stream == 0 && stream->recv_target < h2->window_max &&
        stream->unconsumed <= stream->recv_target / 4) {
        h2->probe_stream = stream->id;
        h2->probe_bytes = 0;
        h2->probe_us = h2->now_us;
        put(out, probe, sizeof probe);
    }
}

/* --- frames of the connection ---------------------------------------------------------------- */

static void write_goaway(struct h2 *h2, struct buf *out, const struct codec_cmd *cmd)
{
    uint32_t last = h2_is_server(h2) ? h2->last_id : 0;
    if (cmd->len == 1) {
        last = H2_STREAM_MAX;
    }
    if (last > h2->goaway_sent) {
        last = h2->goaway_sent; /* it may not rise (RFC 9113 6.8) */
    }
    h2->goaway_sent = last;
    uint8_t frame[H2_FRAME_HEAD_BYTES + 8];
    uint8_t *at = h2_frame_write(frame, 8, H2_FRAME_GOAWAY, 0, 0);
    (void)h2_put_u32(h2_put_u32(at, last), cmd->code);
    put(out, frame, sizeof frame);
}

static void write_ping(struct buf *out, struct slice bytes)
{
    CHECK(bytes.len == 8);
    uint8_t frame[H2_FRAME_HEAD_BYTES + 8];
    memcpy(h2_frame_write(frame, 8, H2_FRAME_PING, 0, 0), bytes.at, 8);
    put(out, frame, sizeof frame);
}

static void write_peer(const struct h2 *h2, struct buf *out, const struct codec_cmd *cmd)
{
    if (!h2->options->peer_frames) {
        return;
    }
    CHECK(cmd->bytes.len <= H2_PEER_FRAME_BYTES);
    uint8_t frame[H2_FRAME_HEAD_BYTES + H2_PEER_FRAME_BYTES];
    uint8_t *at = h2_frame_write(frame, (uint32_t)cmd->bytes.len, H2_FRAME_PEER, 0, cmd->stream);
    if (cmd->bytes.len > 0) {
        memcpy(at, cmd->bytes.at, cmd->bytes.len);
    }
    put(out, frame, H2_FRAME_HEAD_BYTES + cmd->bytes.len);
}

static enum codec_room write_to_stream(struct h2 *h2, struct buf *out, struct codec_cmd *cmd)
{
    struct h2_stream *stream = h2_stream_find(h2, cmd->stream);
    if (stream == NULL) { /* it was reset, or is over: nobody reads this */
        if (cmd->kind == CODEC_CMD_DATA) {
            buf_consume(cmd->data, cmd->data->len);
        }
        return CODEC_DONE;
    }
    switch (cmd->kind) {
    case CODEC_CMD_HEAD:
    case CODEC_CMD_INTERIM:
        write_head(h2, out, stream, cmd);
        return CODEC_DONE;
    case CODEC_CMD_DATA:
        return write_data(h2, out, stream, cmd);
    case CODEC_CMD_TRAILERS:
        CHECK(may_write(stream));
        write_block(h2, out, stream->id, cmd->message, true, true);
        end_local(h2, out, stream);
        return CODEC_DONE;
    case CODEC_CMD_END:
        write_end(h2, out, stream);
        return CODEC_DONE;
    case CODEC_CMD_RESET:
        write_reset(h2, out, stream, cmd->code);
        return CODEC_DONE;
    case CODEC_CMD_CONSUMED:
        consumed(h2, out, stream, cmd->len);
        return CODEC_DONE;
    case CODEC_CMD_GOAWAY:
    case CODEC_CMD_PING:
    case CODEC_CMD_PEER:
        break;
    }
    CHECK(false);
    return CODEC_DONE;
}

enum codec_room h2_write(struct codec *codec, struct buf *out, struct codec_cmd *cmd)
{
    struct h2 *h2 = h2_of(codec);
    if (h2->opening_due || h2->owed_len > 0) {
        write_owed(h2, out);
    }
    if (cmd == NULL) {
        return CODEC_DONE;
    }
    if (h2->failed) {
        if (cmd->kind == CODEC_CMD_DATA) {
            buf_consume(cmd->data, cmd->data->len);
        }
        return CODEC_DONE;
    }
    switch (cmd->kind) {
    case CODEC_CMD_GOAWAY:
        write_goaway(h2, out, cmd);
        return CODEC_DONE;
    case CODEC_CMD_PING:
        write_ping(out, cmd->bytes);
        return CODEC_DONE;
    case CODEC_CMD_PEER:
        write_peer(h2, out, cmd);
        return CODEC_DONE;
    case CODEC_CMD_HEAD:
    case CODEC_CMD_INTERIM:
    case CODEC_CMD_DATA:
    case CODEC_CMD_TRAILERS:
    case CODEC_CMD_END:
    case CODEC_CMD_RESET:
    case CODEC_CMD_CONSUMED:
        break;
    }
    return write_to_stream(h2, out, cmd);
}
