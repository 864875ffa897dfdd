/* HEADERS and CONTINUATION: which stream a field block belongs to, what it may be there, and the
 * message that it makes (RFC 9113 5.1, 6.2, 6.10, 8.1). */
#include <string.h>

#include "base/alloc.h"
#include "http/h2_core.h"

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
                                     .connect_protocol = h2->options->enable_connect_protocol,
                                     .spelling = h2->options->peer_frames};
}

static enum h2_next tell_message(struct h2 *h2, const struct h2_stream *stream,
                                 enum codec_event_kind kind, bool end, struct codec_event *ev)
{
    (void)h2_tell(ev, kind, stream->id);
    ev->message = message_of(h2);
    ev->end = end;
    if (end) {
        h2->end_due = stream->id;
    }
    return H2_NEXT_EVENT;
}

static enum h2_next read_request(struct h2 *h2, struct h2_stream *stream, const struct block *block,
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
        return h2_refuse(h2, stream, reason, block->end_stream, ev);
    }
    h2_earn(h2, H2_BUDGET_CONTROL, 8);
    stream->tunnel = message->connect || message->protocol.len > 0;
    stream->body_left = message->content_length;
    message->has_body = !block->end_stream && !stream->tunnel;
    return tell_message(h2, stream, CODEC_EV_HEAD, block->end_stream, ev);
}

static enum h2_next read_response(struct h2 *h2, struct h2_stream *stream,
                                  const struct block *block, struct codec_event *ev)
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
        return h2_refuse(h2, stream, reason, block->end_stream, ev);
    }
    if (interim) {
        return h2_spend(h2, H2_BUDGET_CONTROL, 1)
                   ? tell_message(h2, stream, CODEC_EV_INTERIM, false, ev)
                   : H2_NEXT_BAD;
    }
    stream->head_read = true;
    message->has_body = !block->end_stream && !tunnel && !bodiless;
    if (tunnel) {
        message->content_length = MESSAGE_LENGTH_UNKNOWN;
    }
    return tell_message(h2, stream, CODEC_EV_HEAD, block->end_stream, ev);
}

static enum h2_next read_trailers(struct h2 *h2, struct h2_stream *stream,
                                  const struct block *block, struct codec_event *ev)
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
        return h2_refuse(h2, stream, reason, block->end_stream, ev);
    }
    return tell_message(h2, stream, CODEC_EV_TRAILERS, true, ev);
}

/* A request's first block: the stream begins, or is refused. */
static enum h2_next begin_stream(struct h2 *h2, const struct block *block, struct codec_event *ev)
{
    if (block->stream > h2->goaway_sent) {
        h2_note_id(h2, block->stream, true); /* RFC 9113 6.8: ignored */
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
    }
    if (h2->streams >= h2->options->max_concurrent_streams) {
        h2_note_id(h2, block->stream, true);
        h2_owe_reset(h2, block->stream, H2_REFUSED_STREAM);
        return h2_spend(h2, H2_BUDGET_RESET, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
    }
    if (block->self_dependent) {
        h2_note_id(h2, block->stream, true);
        return h2_late_error(h2, block->stream, H2_PROTOCOL_ERROR);
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
    bool dropped = h2_is_forgotten(h2, id) || MUTANT(14);
    return dropped ? CODEC_BAD_NONE : CODEC_BAD_STREAM_CLOSED;
}

static enum h2_next read_block(struct h2 *h2, const struct block *block, struct codec_event *ev)
{
    struct h2_stream *stream = h2_stream_find(h2, block->stream);
    enum codec_bad reason = misplaced(h2, stream, block->stream);
    if (reason != CODEC_BAD_NONE) {
        return h2_bad(h2, reason);
    }
    struct hpack_list *list = &h2->pool->list;
    list->list_max = h2->options->max_header_list;
    if (!hpack_decode(&h2->decoder, block->bytes, list)) {
        return h2_bad(h2, CODEC_BAD_COMPRESSION);
    }
    if (stream == NULL) {
        if (block->stream > h2->last_id) {
            return begin_stream(h2, block, ev);
        }
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD; /* forgotten */
    }
    if (stream->state == H2_STATE_HALF_REMOTE) {
        return h2_stream_error(h2, stream, H2_STREAM_CLOSED, ev);
    }
    if (block->self_dependent) {
        return h2_stream_error(h2, stream, H2_PROTOCOL_ERROR, ev);
    }
    if (stream->refused != CODEC_BAD_NONE) {
        if (block->end_stream) {
            h2_absorb_end(h2, stream);
        }
        return H2_NEXT_FRAME;
    }
    return stream->head_read ? read_trailers(h2, stream, block, ev)
                             : read_response(h2, stream, block, ev);
}

/* Keeps a piece of a block. The sum is capped: what is larger decompressed to more than we take in
 * any case, or was made to cost us memory. */
static enum h2_next keep_block(struct h2 *h2, struct slice piece)
{
    struct h2_block *block = &h2->block;
    uint32_t cap = 2 * h2->options->max_header_list;
    if (block->len + piece.len > cap) {
        return h2_bad(h2, CODEC_BAD_FLOOD);
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
    return H2_NEXT_FRAME;
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

enum h2_next h2_read_headers(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                             struct codec_event *ev)
{
    struct block block = {.stream = frame->stream,
                          .end_stream = (frame->flags & H2_FLAG_END_STREAM) != 0};
    if (frame->stream == 0 || !strip_headers(frame, &payload, &block.self_dependent)) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
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

enum h2_next h2_read_continuation(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                                  struct codec_event *ev)
{
    if (h2->block.stream == 0 || frame->stream != h2->block.stream) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (++h2->block.frames > h2->options->max_continuations) {
        return h2_bad(h2, CODEC_BAD_FLOOD);
    }
    enum h2_next next = keep_block(h2, payload);
    if (next == H2_NEXT_BAD || (frame->flags & H2_FLAG_END_HEADERS) == 0) {
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
