/* Bytes in, events out. Frames are taken one by one; all but DATA are read whole. What a frame
 * leaves to be told beyond its first event (END, WINDOW, streams that GOAWAY ends) is kept in a few
 * marks in struct h2 and told first on the next call, so there is no queue.
 *
 * Errors: of the connection, h2_fail; of a stream that the caller knows, stream_error; of a message
 * (RFC 9113 8.1.1), refuse: the caller may still answer. */
#include <string.h>

#include "base/alloc.h"
#include "http/h2_core.h"

/* What a handler says: an event is filled, go on reading, or the connection has failed. */
enum next { NEXT_EVENT, NEXT_FRAME, NEXT_BAD };

#define PROBE_BYTES 8
static const uint8_t probe_mark[PROBE_BYTES] = {'r', 'o', 'u', 'n', 'd', 0, 0, 1};

static enum next bad(struct h2 *h2, enum codec_bad reason)
{
    (void)h2_fail(h2, reason);
    return NEXT_BAD;
}

static enum next tell(struct codec_event *ev, enum codec_event_kind kind, uint32_t stream)
{
    *ev = (struct codec_event){.kind = kind, .stream = stream};
    return NEXT_EVENT;
}

static enum next tell_reset(struct codec_event *ev, uint32_t stream, uint32_t code)
{
    (void)tell(ev, CODEC_EV_RESET, stream);
    ev->code = code;
    return NEXT_EVENT;
}

/* An error of one stream: it is reset and gone. */
static enum next stream_error(struct h2 *h2, struct h2_stream *stream, enum h2_code code,
                              struct codec_event *ev)
{
    uint32_t id = stream->id;
    bool told = stream->state != H2_STATE_NEW;
    h2_owe_reset(h2, id, code);
    h2_stream_forget(h2, stream);
    if (!h2_spend(h2, H2_BUDGET_GLITCH, 1)) {
        return NEXT_BAD;
    }
    return told ? tell_reset(ev, id, code) : NEXT_FRAME;
}

/* The same for a number without a stream. */
static enum next late_error(struct h2 *h2, uint32_t id, enum h2_code code)
{
    h2_owe_reset(h2, id, code);
    return h2_spend(h2, H2_BUDGET_GLITCH, 1) ? NEXT_FRAME : NEXT_BAD;
}

/* The END_STREAM of a message that nobody wants any more. A client's stream stays until it is
 * reset.
 */
static void absorb_end(struct h2 *h2, struct h2_stream *stream)
{
    if (stream->state == H2_STATE_OPEN) {
        h2_stream_end_remote(h2, stream);
    }
}

/* The message cannot be used. The stream lives until the caller has answered or reset it; a server
 * that has answered already resets it here. `end`: the message is complete. */
static enum next refuse(struct h2 *h2, struct h2_stream *stream, enum codec_bad reason, bool end,
                        struct codec_event *ev)
{
    (void)tell(ev, CODEC_EV_REFUSED, stream->id);
    ev->bad = reason;
    stream->refused = (uint8_t)reason;
    if (h2_is_server(h2) && stream->state == H2_STATE_HALF_LOCAL) {
        h2_owe_reset(h2, stream->id, codec_bad_code(reason));
        h2_stream_forget(h2, stream);
    } else if (end) {
        absorb_end(h2, stream);
    }
    return h2_spend(h2, H2_BUDGET_GLITCH, 1) ? NEXT_EVENT : NEXT_BAD;
}

/* A number that no stream of ours or the peer's can have had yet (RFC 9113 5.1, idle). */
static bool is_idle(const struct h2 *h2, uint32_t id)
{
    return id % 2 == 0 || id > h2->last_id || !h2_was_opened(h2, id);
}

/* --- DATA ------------------------------------------------------------------------------------ */

static void return_connection_window(struct h2 *h2)
{
    if (h2->recv_window < H2_WINDOW_MAX / 2) {
        h2_owe_window(h2, 0, (uint32_t)(H2_WINDOW_MAX - h2->recv_window));
        h2->recv_window = H2_WINDOW_MAX;
    }
}

/* Against content-length (RFC 9113 8.1.1); by the frame's head, so that the verdict does not depend
 * on how the input was cut. */
static enum next count_body(struct h2 *h2, struct h2_stream *stream, uint32_t body,
                            struct codec_event *ev)
{
    if (stream->body_left == MESSAGE_LENGTH_UNKNOWN) {
        return NEXT_FRAME;
    }
    if (body > stream->body_left || (h2->data.end && body < stream->body_left)) {
        return refuse(h2, stream, CODEC_BAD_CONTENT_LENGTH, false, ev);
    }
    stream->body_left -= body;
    return NEXT_FRAME;
}

/* The head of a DATA frame (RFC 9113 6.1); `padding` is 1 + Pad Length where there is one. */
static enum next begin_data(struct h2 *h2, const struct h2_frame *frame, uint32_t padding,
                            struct codec_event *ev)
{
    if (frame->stream == 0 || padding > frame->len) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    struct h2_stream *stream = h2_stream_find(h2, frame->stream);
    if (stream != NULL ? stream->state == H2_STATE_NEW : is_idle(h2, frame->stream)) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (frame->len > h2->recv_window) {
        return bad(h2, CODEC_BAD_FLOW);
    }
    h2->recv_window -= frame->len;
    return_connection_window(h2);
    uint32_t body = frame->len - padding;
    h2->data = (struct h2_data){.left = body,
                                .padding = (uint16_t)(padding > 0 ? padding - 1 : 0),
                                .reading = true,
                                .end = (frame->flags & H2_FLAG_END_STREAM) != 0};
    if (body == 0 && !h2->data.end && !h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return NEXT_BAD;
    }
    if (body >= 1024) {
        h2_earn(h2, H2_BUDGET_CONTROL, 1);
    }
    if (stream == NULL) {
        bool dropped = h2_is_forgotten(h2, frame->stream) || frame->stream > h2->goaway_sent;
        return dropped ? NEXT_FRAME : late_error(h2, frame->stream, H2_STREAM_CLOSED);
    }
    if (stream->state == H2_STATE_HALF_REMOTE) {
        return stream_error(h2, stream, H2_STREAM_CLOSED, ev);
    }
    if (frame->len > stream->recv_window) {
        return stream_error(h2, stream, H2_FLOW_CONTROL_ERROR, ev);
    }
    stream->recv_window -= frame->len;
    stream->returnable += padding;
    h2->data.stream = stream->id;
    if (h2->probe_stream == stream->id) {
        h2->probe_bytes += frame->len;
    }
    if (stream->refused != CODEC_BAD_NONE) {
        return NEXT_FRAME;
    }
    if (!stream->head_read) {
        return refuse(h2, stream, CODEC_BAD_PROTOCOL, false, ev);
    }
    return count_body(h2, stream, body, ev);
}

/* As much of the frame's body as is there. */
static enum next read_data(struct h2 *h2, struct slice *in, struct codec_event *ev)
{
    struct slice part = slice_head(*in, h2->data.left);
    *in = slice_from(*in, part.len);
    h2->data.left -= (uint32_t)part.len;
    struct h2_stream *stream = h2->data.stream != 0 ? h2_stream_find(h2, h2->data.stream) : NULL;
    if (stream == NULL || stream->refused != CODEC_BAD_NONE) {
        return NEXT_FRAME;
    }
    stream->unconsumed += (uint32_t)part.len;
    (void)tell(ev, CODEC_EV_DATA, stream->id);
    ev->data = part;
    ev->end = h2->data.left == 0 && h2->data.end;
    return NEXT_EVENT;
}

/* Padding and the end of the frame. False: more input is needed. */
static bool finish_data(struct h2 *h2, struct slice *in)
{
    size_t skip = h2->data.padding < in->len ? h2->data.padding : in->len;
    *in = slice_from(*in, skip);
    h2->data.padding -= (uint16_t)skip;
    if (h2->data.padding > 0) {
        return false;
    }
    h2->data.reading = false;
    if (h2->data.end) {
        h2->end_due = h2->data.stream;
    }
    return true;
}

/* The peer's direction is complete: END, or what is wrong with the message. */
static enum next tell_end(struct h2 *h2, struct codec_event *ev)
{
    struct h2_stream *stream = h2_stream_find(h2, h2->end_due);
    h2->end_due = 0;
    if (stream == NULL || stream->state == H2_STATE_HALF_REMOTE) {
        return NEXT_FRAME;
    }
    uint32_t id = stream->id;
    if (stream->refused != CODEC_BAD_NONE) {
        absorb_end(h2, stream);
        return NEXT_FRAME;
    }
    CHECK(stream->body_left == MESSAGE_LENGTH_UNKNOWN || stream->body_left == 0);
    h2_stream_end_remote(h2, stream);
    return tell(ev, CODEC_EV_END, id);
}

/* --- field blocks ---------------------------------------------------------------------------- */

struct block {
    struct slice bytes;
    uint32_t stream;
    bool end_stream;
    bool self_dependent; /* RFC 7540 5.3.1: a stream error still */
};

static struct message *message_of(struct h2 *h2)
{
    return &h2->pool->message;
}

static struct h2_message_rules rules_of(const struct h2 *h2)
{
    return (struct h2_message_rules){.max_headers = h2->options->max_headers,
                                     .connect_protocol = h2->options->enable_connect_protocol};
}

static enum next tell_message(struct h2 *h2, const struct h2_stream *stream,
                              enum codec_event_kind kind, bool end, struct codec_event *ev)
{
    (void)tell(ev, kind, stream->id);
    ev->message = message_of(h2);
    ev->end = end;
    if (end) {
        h2->end_due = stream->id;
    }
    return NEXT_EVENT;
}

static enum next read_request(struct h2 *h2, struct h2_stream *stream, const struct block *block,
                              struct codec_event *ev)
{
    struct message *message = message_of(h2);
    struct h2_message_rules rules = rules_of(h2);
    enum codec_bad reason = h2_message_request(&h2->pool->list, &rules, message);
    if (reason == CODEC_BAD_NONE && block->end_stream &&
        message->content_length != MESSAGE_LENGTH_UNKNOWN && message->content_length > 0) {
        reason = CODEC_BAD_CONTENT_LENGTH;
    }
    stream->head_read = true;
    if (reason != CODEC_BAD_NONE) {
        return refuse(h2, stream, reason, block->end_stream, ev);
    }
    h2_earn(h2, H2_BUDGET_CONTROL, 8);
    stream->tunnel = message->connect || message->protocol.len > 0;
    stream->body_left = message->content_length;
    message->has_body = !block->end_stream && !stream->tunnel;
    return tell_message(h2, stream, CODEC_EV_HEAD, block->end_stream, ev);
}

static enum next read_response(struct h2 *h2, struct h2_stream *stream, const struct block *block,
                               struct codec_event *ev)
{
    struct message *message = message_of(h2);
    struct h2_message_rules rules = rules_of(h2);
    enum codec_bad reason = h2_message_response(&h2->pool->list, &rules, message);
    bool interim = reason == CODEC_BAD_NONE && message_is_informational(message);
    if (interim && block->end_stream) {
        reason = CODEC_BAD_PROTOCOL; /* RFC 9113 8.1 */
    }
    bool tunnel = stream->tunnel && message->status / 100 == 2;
    bool bodiless = stream->asked_head || message->status == 204 || message->status == 304;
    if (reason == CODEC_BAD_NONE && !interim) {
        stream->body_left = tunnel     ? MESSAGE_LENGTH_UNKNOWN
                            : bodiless ? 0
                                       : message->content_length;
        if (block->end_stream && stream->body_left != MESSAGE_LENGTH_UNKNOWN &&
            stream->body_left > 0) {
            reason = CODEC_BAD_CONTENT_LENGTH;
        }
    }
    if (reason != CODEC_BAD_NONE) {
        return refuse(h2, stream, reason, block->end_stream, ev);
    }
    if (interim) {
        return h2_spend(h2, H2_BUDGET_CONTROL, 1)
                   ? tell_message(h2, stream, CODEC_EV_INTERIM, false, ev)
                   : NEXT_BAD;
    }
    stream->head_read = true;
    message->has_body = !block->end_stream && !tunnel && !bodiless;
    if (tunnel) {
        message->content_length = MESSAGE_LENGTH_UNKNOWN;
    }
    return tell_message(h2, stream, CODEC_EV_HEAD, block->end_stream, ev);
}

static enum next read_trailers(struct h2 *h2, struct h2_stream *stream, const struct block *block,
                               struct codec_event *ev)
{
    struct h2_message_rules rules = rules_of(h2);
    enum codec_bad reason = h2_message_trailers(&h2->pool->list, &rules, message_of(h2));
    if (!block->end_stream) {
        reason = CODEC_BAD_PROTOCOL; /* RFC 9113 8.1 */
    } else if (reason == CODEC_BAD_NONE && stream->body_left != MESSAGE_LENGTH_UNKNOWN &&
               stream->body_left > 0) {
        reason = CODEC_BAD_CONTENT_LENGTH;
    }
    if (reason != CODEC_BAD_NONE) {
        return refuse(h2, stream, reason, block->end_stream, ev);
    }
    return tell_message(h2, stream, CODEC_EV_TRAILERS, true, ev);
}

/* A request's first block: the stream begins, or is refused. */
static enum next begin_stream(struct h2 *h2, const struct block *block, struct codec_event *ev)
{
    if (block->stream > h2->goaway_sent) {
        h2_note_id(h2, block->stream, true); /* RFC 9113 6.8: ignored */
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? NEXT_FRAME : NEXT_BAD;
    }
    if (h2->streams >= h2->options->max_concurrent_streams) {
        h2_note_id(h2, block->stream, true);
        h2_owe_reset(h2, block->stream, H2_REFUSED_STREAM);
        return h2_spend(h2, H2_BUDGET_RESET, 1) ? NEXT_FRAME : NEXT_BAD;
    }
    if (block->self_dependent) {
        h2_note_id(h2, block->stream, true);
        return late_error(h2, block->stream, H2_PROTOCOL_ERROR);
    }
    struct h2_stream *stream = h2_stream_new(h2, block->stream, H2_STATE_OPEN);
    return read_request(h2, stream, block, ev);
}

/* Where a block may not stand at all (RFC 9113 5.1, 5.1.1). */
static enum codec_bad misplaced(const struct h2 *h2, const struct h2_stream *stream, uint32_t id)
{
    if (stream != NULL) {
        return stream->state == H2_STATE_NEW ? CODEC_BAD_PROTOCOL : CODEC_BAD_NONE;
    }
    if (id % 2 == 0) {
        return CODEC_BAD_PROTOCOL;
    }
    if (id > h2->last_id) {
        return h2_is_server(h2) ? CODEC_BAD_NONE : CODEC_BAD_PROTOCOL;
    }
    if (!h2_was_opened(h2, id)) {
        return CODEC_BAD_PROTOCOL;
    }
    return h2_is_forgotten(h2, id) ? CODEC_BAD_NONE : CODEC_BAD_STREAM_CLOSED;
}

static enum next read_block(struct h2 *h2, const struct block *block, struct codec_event *ev)
{
    struct h2_stream *stream = h2_stream_find(h2, block->stream);
    enum codec_bad reason = misplaced(h2, stream, block->stream);
    if (reason != CODEC_BAD_NONE) {
        return bad(h2, reason);
    }
    struct hpack_list *list = &h2->pool->list;
    list->list_max = h2->options->max_header_list;
    if (!hpack_decode(&h2->decoder, block->bytes, list)) {
        return bad(h2, CODEC_BAD_COMPRESSION);
    }
    if (stream == NULL) {
        if (block->stream > h2->last_id) {
            return begin_stream(h2, block, ev);
        }
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? NEXT_FRAME : NEXT_BAD; /* forgotten */
    }
    if (stream->state == H2_STATE_HALF_REMOTE) {
        return stream_error(h2, stream, H2_STREAM_CLOSED, ev);
    }
    if (block->self_dependent) {
        return stream_error(h2, stream, H2_PROTOCOL_ERROR, ev);
    }
    if (stream->refused != CODEC_BAD_NONE) {
        if (block->end_stream) {
            absorb_end(h2, stream);
        }
        return NEXT_FRAME;
    }
    return stream->head_read ? read_trailers(h2, stream, block, ev)
                             : read_response(h2, stream, block, ev);
}

/* Keeps a piece of a block. The sum is capped: what is larger decompressed to more than we take in
 * any case, or was made to cost us memory. */
static enum next keep_block(struct h2 *h2, struct slice piece)
{
    struct h2_block *block = &h2->block;
    uint32_t cap = 2 * h2->options->max_header_list;
    if (block->len + piece.len > cap) {
        return bad(h2, CODEC_BAD_FLOOD);
    }
    if (block->at == NULL || block->len + piece.len > block->room) {
        uint32_t room = block->room > 0 ? block->room : 1024;
        while (room < block->len + piece.len) {
            room *= 2;
        }
        block->at = mem_resize(block->at, room);
        block->room = room;
    }
    if (piece.len > 0) {
        memcpy(block->at + block->len, piece.at, piece.len);
    }
    block->len += (uint32_t)piece.len;
    return NEXT_FRAME;
}

/* Cuts padding and priority off (RFC 9113 6.2). False: the frame is too short for them. */
static bool strip_headers(const struct h2_frame *frame, struct slice *payload, bool *self_dependent)
{
    size_t padding = 0;
    if ((frame->flags & H2_FLAG_PADDED) != 0) {
        if (payload->len == 0) {
            return false;
        }
        padding = payload->at[0];
        *payload = slice_from(*payload, 1);
    }
    if ((frame->flags & H2_FLAG_PRIORITY) != 0) {
        if (payload->len < 5) {
            return false;
        }
        *self_dependent = h2_get_u31(payload->at) == frame->stream;
        *payload = slice_from(*payload, 5);
    }
    if (padding > payload->len) {
        return false;
    }
    *payload = slice_head(*payload, payload->len - padding);
    return true;
}

static enum next read_headers(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                              struct codec_event *ev)
{
    struct block block = {.stream = frame->stream,
                          .end_stream = (frame->flags & H2_FLAG_END_STREAM) != 0};
    if (frame->stream == 0 || !strip_headers(frame, &payload, &block.self_dependent)) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if ((frame->flags & H2_FLAG_END_HEADERS) != 0) {
        block.bytes = payload;
        return read_block(h2, &block, ev);
    }
    h2->block.stream = frame->stream;
    h2->block.len = 0;
    h2->block.frames = 0;
    h2->block.end_stream = block.end_stream;
    h2->block.self_dependent = block.self_dependent;
    return keep_block(h2, payload);
}

static enum next read_continuation(struct h2 *h2, const struct h2_frame *frame,
                                   struct slice payload, struct codec_event *ev)
{
    if (h2->block.stream == 0 || frame->stream != h2->block.stream) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (++h2->block.frames > h2->options->max_continuations) {
        return bad(h2, CODEC_BAD_FLOOD);
    }
    enum next next = keep_block(h2, payload);
    if (next == NEXT_BAD || (frame->flags & H2_FLAG_END_HEADERS) == 0) {
        return next;
    }
    struct block block = {.bytes = {h2->block.at, h2->block.len},
                          .stream = h2->block.stream,
                          .end_stream = h2->block.end_stream,
                          .self_dependent = h2->block.self_dependent};
    next = read_block(h2, &block, ev);
    h2->block.stream = 0; /* its bytes stay for the event; freed at the next call */
    return next;
}

/* --- the small frames ------------------------------------------------------------------------ */

static enum next read_rst(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                          struct codec_event *ev)
{
    if (payload.len != 4) {
        return bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    struct h2_stream *stream = h2_stream_find(h2, frame->stream);
    if (frame->stream == 0 || (stream == NULL && is_idle(h2, frame->stream)) ||
        (stream != NULL && stream->state == H2_STATE_NEW)) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (stream == NULL) {
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? NEXT_FRAME : NEXT_BAD;
    }
    uint32_t id = stream->id;
    bool early = h2_is_server(h2) && stream->state != H2_STATE_HALF_LOCAL;
    h2_stream_move(h2, stream, H2_STATE_CLOSED);
    if (early && !h2_spend(h2, H2_BUDGET_RESET, 1)) {
        return NEXT_BAD;
    }
    return tell_reset(ev, id, h2_get_u32(payload.at));
}

/* Moves the windows of all streams when one side's initial window changes (RFC 9113 6.9.2). */
static bool shift_send_windows(struct h2 *h2, int64_t by)
{
    for (uint32_t i = 0; i <= h2->bucket_mask; i++) {
        for (struct h2_stream *stream = h2->buckets[i]; stream != NULL; stream = stream->next) {
            stream->send_window += by;
            if (stream->send_window > H2_WINDOW_MAX) {
                return false;
            }
            stream->blocked = stream->blocked && stream->send_window <= 0;
        }
    }
    h2->window_due |= by > 0;
    return true;
}

static void our_settings_acked(struct h2 *h2)
{
    if (h2->settings_acked) {
        return;
    }
    h2->settings_acked = true;
    hpack_decoder_limit(&h2->decoder, h2->options->header_table_bytes);
    uint32_t window = h2->options->initial_window;
    if (window >= h2->our_window) {
        return;
    }
    for (uint32_t i = 0; i <= h2->bucket_mask; i++) {
        for (struct h2_stream *stream = h2->buckets[i]; stream != NULL; stream = stream->next) {
            stream->recv_window -= (int64_t)h2->our_window - window;
            stream->recv_target = window;
        }
    }
    h2->our_window = window;
}

static enum codec_bad apply_setting(struct h2 *h2, uint16_t name, uint32_t value)
{
    switch (name) {
    case H2_SETTING_HEADER_TABLE_SIZE:
        hpack_encoder_limit(&h2->encoder, value);
        return CODEC_BAD_NONE;
    case H2_SETTING_ENABLE_PUSH: /* a server may only say 0 */
        return value > (h2_is_server(h2) ? 1 : 0) ? CODEC_BAD_PROTOCOL : CODEC_BAD_NONE;
    case H2_SETTING_MAX_CONCURRENT_STREAMS:
        h2->peer_streams = value;
        return CODEC_BAD_NONE;
    case H2_SETTING_INITIAL_WINDOW_SIZE: {
        int64_t by = (int64_t)value - h2->peer_window;
        if (value > H2_WINDOW_MAX || !shift_send_windows(h2, by)) {
            return CODEC_BAD_FLOW;
        }
        h2->peer_window = value;
        return CODEC_BAD_NONE;
    }
    case H2_SETTING_MAX_FRAME_SIZE: /* we never write more than the least */
        return value < H2_FRAME_MAX || value > 0xffffff ? CODEC_BAD_PROTOCOL : CODEC_BAD_NONE;
    case H2_SETTING_ENABLE_CONNECT_PROTOCOL:
        if (value > 1 || (h2->peer_connect && value == 0)) {
            return CODEC_BAD_PROTOCOL;
        }
        h2->peer_connect = value == 1;
        return CODEC_BAD_NONE;
    default: /* MAX_HEADER_LIST_SIZE is advice; unknown ones are ignored (RFC 9113 6.5.2) */
        return CODEC_BAD_NONE;
    }
}

static enum next read_settings(struct h2 *h2, const struct h2_frame *frame, struct slice payload)
{
    static const uint8_t ack[] = {0, 0, 0, H2_FRAME_SETTINGS, H2_FLAG_ACK, 0, 0, 0, 0};
    if (frame->stream != 0) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if ((frame->flags & H2_FLAG_ACK) != 0) {
        if (payload.len != 0) {
            return bad(h2, CODEC_BAD_FRAME_SIZE);
        }
        our_settings_acked(h2);
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? NEXT_FRAME : NEXT_BAD;
    }
    if (payload.len % 6 != 0) {
        return bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, (uint32_t)(1 + payload.len / 48))) {
        return NEXT_BAD;
    }
    for (; payload.len > 0; payload = slice_from(payload, 6)) {
        enum codec_bad reason =
            apply_setting(h2, h2_get_u16(payload.at), h2_get_u32(payload.at + 2));
        if (reason != CODEC_BAD_NONE) {
            return bad(h2, reason);
        }
    }
    h2_owe(h2, ack, sizeof ack);
    h2->settings_due = true;
    return NEXT_FRAME;
}

/* The answer to our own measuring. With half-window updates a stream needs twice what a round trip
 * carries, and twice again to have room to grow: up to there its window is what holds it back,
 * provided that its bytes were drained meanwhile. */
static void finish_probe(struct h2 *h2)
{
    struct h2_stream *stream = h2_stream_find(h2, h2->probe_stream);
    h2->probe_stream = 0;
    if (stream == NULL || stream->state == H2_STATE_HALF_REMOTE ||
        h2->probe_bytes < stream->recv_target / 4 || stream->unconsumed > stream->recv_target / 2 ||
        stream->recv_target >= h2->window_max) {
        return;
    }
    uint32_t target =
        stream->recv_target < h2->window_max / 2 ? stream->recv_target * 2 : h2->window_max;
    uint32_t increment = target - stream->recv_target + stream->returnable;
    stream->recv_target = target;
    stream->returnable = 0;
    stream->recv_window += increment;
    h2_owe_window(h2, stream->id, increment);
}

static enum next read_ping(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                           struct codec_event *ev)
{
    if (frame->stream != 0) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (payload.len != 8) {
        return bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if ((frame->flags & H2_FLAG_ACK) != 0) {
        if (h2->probe_stream != 0 && memcmp(payload.at, probe_mark, PROBE_BYTES) == 0) {
            finish_probe(h2);
            return NEXT_FRAME;
        }
        if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
            return NEXT_BAD;
        }
        memcpy(h2->pong, payload.at, sizeof h2->pong);
        (void)tell(ev, CODEC_EV_PONG, 0);
        ev->data = slice_of(h2->pong, sizeof h2->pong);
        return NEXT_EVENT;
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return NEXT_BAD;
    }
    uint8_t answer[H2_FRAME_HEAD_BYTES + 8];
    memcpy(h2_frame_write(answer, 8, H2_FRAME_PING, H2_FLAG_ACK, 0), payload.at, 8);
    h2_owe(h2, answer, sizeof answer);
    return NEXT_FRAME;
}

static enum next read_goaway(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                             struct codec_event *ev)
{
    if (frame->stream != 0) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (payload.len < 8) {
        return bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return NEXT_BAD;
    }
    uint32_t last = h2_get_u31(payload.at);
    h2->goaway_read = last < h2->goaway_read ? last : h2->goaway_read;
    h2->sweep_due = !h2_is_server(h2);
    (void)tell(ev, CODEC_EV_GOAWAY, h2->goaway_read);
    ev->code = h2_get_u32(payload.at + 4);
    return NEXT_EVENT;
}

static enum next read_window_update(struct h2 *h2, const struct h2_frame *frame,
                                    struct slice payload, struct codec_event *ev)
{
    if (payload.len != 4) {
        return bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return NEXT_BAD;
    }
    uint32_t increment = h2_get_u31(payload.at);
    if (frame->stream == 0) {
        if (increment == 0) {
            return bad(h2, CODEC_BAD_PROTOCOL);
        }
        h2->send_window += increment;
        if (h2->send_window > H2_WINDOW_MAX) {
            return bad(h2, CODEC_BAD_FLOW);
        }
        h2->window_due |= h2->blocked;
        return NEXT_FRAME;
    }
    struct h2_stream *stream = h2_stream_find(h2, frame->stream);
    if (stream == NULL || stream->state == H2_STATE_NEW) {
        return stream != NULL || is_idle(h2, frame->stream) ? bad(h2, CODEC_BAD_PROTOCOL)
                                                            : NEXT_FRAME;
    }
    if (increment == 0) {
        return stream_error(h2, stream, H2_PROTOCOL_ERROR, ev);
    }
    stream->send_window += increment;
    if (stream->send_window > H2_WINDOW_MAX) {
        return stream_error(h2, stream, H2_FLOW_CONTROL_ERROR, ev);
    }
    if (!stream->blocked || stream->send_window <= 0) {
        return NEXT_FRAME;
    }
    stream->blocked = false;
    return tell(ev, CODEC_EV_WINDOW, stream->id);
}

static enum next read_priority(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                               struct codec_event *ev)
{
    if (frame->stream == 0) {
        return bad(h2, CODEC_BAD_PROTOCOL);
    }
    bool short_or_long = payload.len != 5;
    if (short_or_long || h2_get_u31(payload.at) == frame->stream) {
        enum h2_code code = short_or_long ? H2_FRAME_SIZE_ERROR : H2_PROTOCOL_ERROR;
        struct h2_stream *stream = h2_stream_find(h2, frame->stream);
        if (stream != NULL && stream->state != H2_STATE_NEW) {
            return stream_error(h2, stream, code, ev);
        }
        /* An idle stream cannot be reset (RFC 9113 5.1), so the connection pays. */
        return is_idle(h2, frame->stream)
                   ? bad(h2, short_or_long ? CODEC_BAD_FRAME_SIZE : CODEC_BAD_PROTOCOL)
                   : late_error(h2, frame->stream, code);
    }
    return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? NEXT_FRAME : NEXT_BAD;
}

static enum next read_peer(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                           struct codec_event *ev)
{
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return NEXT_BAD;
    }
    if (!h2->options->peer_frames || payload.len > H2_PEER_FRAME_BYTES) {
        return NEXT_FRAME;
    }
    (void)tell(ev, CODEC_EV_PEER, frame->stream);
    ev->data = payload;
    return NEXT_EVENT;
}

static enum next read_frame(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                            struct codec_event *ev)
{
    switch (frame->type) {
    case H2_FRAME_HEADERS:
        return read_headers(h2, frame, payload, ev);
    case H2_FRAME_PRIORITY:
        return read_priority(h2, frame, payload, ev);
    case H2_FRAME_RST_STREAM:
        return read_rst(h2, frame, payload, ev);
    case H2_FRAME_SETTINGS:
        return read_settings(h2, frame, payload);
    case H2_FRAME_PUSH_PROMISE: /* we never allow it */
        return bad(h2, CODEC_BAD_PROTOCOL);
    case H2_FRAME_PING:
        return read_ping(h2, frame, payload, ev);
    case H2_FRAME_GOAWAY:
        return read_goaway(h2, frame, payload, ev);
    case H2_FRAME_WINDOW_UPDATE:
        return read_window_update(h2, frame, payload, ev);
    case H2_FRAME_CONTINUATION:
        return read_continuation(h2, frame, payload, ev);
    default: /* PEER, and what nobody knows, which is ignored (RFC 9113 5.5) */
        if (frame->type == H2_FRAME_PEER) {
            return read_peer(h2, frame, payload, ev);
        }
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? NEXT_FRAME : NEXT_BAD;
    }
}

/* --- the loop -------------------------------------------------------------------------------- */

static bool above_goaway(const struct h2 *h2, const struct h2_stream *stream)
{
    return stream->id > h2->goaway_read && stream->state != H2_STATE_NEW;
}

/* What is still to be told of frames that were read before. */
static enum next tell_due(struct h2 *h2, struct codec_event *ev)
{
    if (h2->end_due != 0) {
        return tell_end(h2, ev);
    }
    if (h2->settings_due) {
        h2->settings_due = false;
        return tell(ev, CODEC_EV_SETTINGS, 0);
    }
    if (h2->sweep_due) {
        struct h2_stream *stream = h2_stream_any(h2, above_goaway);
        if (stream != NULL) {
            uint32_t id = stream->id;
            h2_stream_forget(h2, stream);
            return tell_reset(ev, id, H2_REFUSED_STREAM);
        }
        h2->sweep_due = false;
    }
    if (h2->window_due) {
        h2->window_due = false;
        h2->blocked = false;
        return tell(ev, CODEC_EV_WINDOW, 0);
    }
    return NEXT_FRAME;
}

/* The client's preface (RFC 9113 3.4). False: MORE, or it failed. */
static bool read_preface(struct h2 *h2, struct slice *in)
{
    static const uint8_t preface[] = H2_PREFACE;
    size_t wanted = H2_PREFACE_BYTES - h2->preface_read;
    size_t len = in->len < wanted ? in->len : wanted;
    if (len > 0 && memcmp(in->at, preface + h2->preface_read, len) != 0) {
        (void)h2_fail(h2, CODEC_BAD_PROTOCOL);
        return false;
    }
    *in = slice_from(*in, len);
    h2->preface_read = (uint8_t)(h2->preface_read + len);
    if (len < wanted) {
        return false;
    }
    h2->phase = H2_PHASE_SETTINGS;
    return true;
}

/* Whether this frame may stand here, by its head alone. */
static enum codec_bad check_order(const struct h2 *h2, const struct h2_frame *frame)
{
    if (h2->phase == H2_PHASE_SETTINGS &&
        (frame->type != H2_FRAME_SETTINGS || (frame->flags & H2_FLAG_ACK) != 0)) {
        return CODEC_BAD_PROTOCOL;
    }
    if (h2->block.stream != 0 && frame->type != H2_FRAME_CONTINUATION) {
        return CODEC_BAD_PROTOCOL;
    }
    return frame->len > H2_FRAME_MAX ? CODEC_BAD_FRAME_SIZE : CODEC_BAD_NONE;
}

/* Takes one frame from the front, or as much of a DATA frame as is there. *more: input is short. */
static enum next take_frame(struct h2 *h2, struct slice *in, struct codec_event *ev, bool *more)
{
    if (h2->data.reading) {
        if (h2->data.left > 0) {
            *more = in->len == 0;
            return *more ? NEXT_FRAME : read_data(h2, in, ev);
        }
        *more = !finish_data(h2, in);
        return NEXT_FRAME;
    }
    *more = in->len < H2_FRAME_HEAD_BYTES;
    if (*more) {
        return NEXT_FRAME;
    }
    struct h2_frame frame = h2_frame_read(in->at);
    enum codec_bad reason = check_order(h2, &frame);
    if (reason != CODEC_BAD_NONE) {
        return bad(h2, reason);
    }
    if (frame.type == H2_FRAME_DATA) {
        bool padded = (frame.flags & H2_FLAG_PADDED) != 0;
        *more = padded && frame.len > 0 && in->len < H2_FRAME_HEAD_BYTES + 1;
        if (*more) {
            return NEXT_FRAME;
        }
        uint32_t padding = !padded ? 0 : frame.len == 0 ? 1 : 1U + in->at[H2_FRAME_HEAD_BYTES];
        size_t head = H2_FRAME_HEAD_BYTES + (padded && frame.len > 0 ? 1U : 0U);
        *in = slice_from(*in, head);
        return begin_data(h2, &frame, padding, ev);
    }
    *more = in->len < H2_FRAME_HEAD_BYTES + (size_t)frame.len;
    if (*more) {
        return NEXT_FRAME;
    }
    struct slice payload = slice_of(in->at + H2_FRAME_HEAD_BYTES, frame.len);
    *in = slice_from(*in, H2_FRAME_HEAD_BYTES + (size_t)frame.len);
    h2->phase = H2_PHASE_FRAMES;
    return read_frame(h2, &frame, payload, ev);
}

enum codec_step h2_read(struct codec *codec, struct slice *in, struct codec_event *ev)
{
    struct h2 *h2 = h2_of(codec);
    if (h2->block.stream == 0 && h2->block.at != NULL) {
        FREE(h2->block.at); /* the last event's message was in it */
        h2->block.room = 0;
    }
    bool more = false;
    while (!h2->failed) {
        if (h2->phase == H2_PHASE_PREFACE && !read_preface(h2, in)) {
            break;
        }
        enum next next = tell_due(h2, ev);
        if (next == NEXT_FRAME && !h2->failed) {
            if (more) {
                return CODEC_MORE;
            }
            next = take_frame(h2, in, ev, &more);
        }
        if (next == NEXT_EVENT && !h2->failed) {
            return CODEC_EVENT;
        }
    }
    return h2->failed ? CODEC_BAD : CODEC_MORE;
}

static bool any_stream(const struct h2 *h2, const struct h2_stream *stream)
{
    (void)h2;
    return stream->state != H2_STATE_NEW;
}

enum codec_step h2_eof(struct codec *codec, struct codec_event *ev)
{
    struct h2 *h2 = h2_of(codec);
    h2->gone = true;
    struct h2_stream *stream = h2_stream_any(h2, any_stream);
    if (stream == NULL) {
        return CODEC_MORE;
    }
    uint32_t id = stream->id;
    h2_stream_forget(h2, stream);
    (void)tell_reset(ev, id, H2_INTERNAL_ERROR);
    return CODEC_EVENT;
}
