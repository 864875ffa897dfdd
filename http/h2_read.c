/* Bytes in, events out. Frames are taken one by one; all but DATA are read whole. What a frame
 * leaves to be told beyond its first event (END, WINDOW, streams that GOAWAY ends) is kept in a few
 * marks in struct h2 and told first on the next call, so there is no queue.
 *
 * Errors: of the connection, h2_bad; of a stream that the caller knows, h2_stream_error; of a
 * message (RFC 9113 8.1.1), h2_refuse: the caller may still answer. */
#include <string.h>

#include "base/alloc.h"
#include "http/h2_core.h"

enum h2_next h2_bad(struct h2 *h2, enum codec_bad reason)
{
    (void)h2_fail(h2, reason);
    return H2_NEXT_BAD;
}

enum h2_next h2_tell(struct codec_event *ev, enum codec_event_kind kind, uint32_t stream)
{
    *ev = (struct codec_event){.kind = kind, .stream = stream};
    return H2_NEXT_EVENT;
}

enum h2_next h2_tell_reset(struct codec_event *ev, uint32_t stream, uint32_t code)
{
    (void)h2_tell(ev, CODEC_EV_RESET, stream);
    ev->code = code;
    return H2_NEXT_EVENT;
}

enum h2_next h2_stream_error(struct h2 *h2, struct h2_stream *stream, enum h2_code code,
                             struct codec_event *ev)
{
    uint32_t id = stream->id;
    bool told = stream->state != H2_STATE_NEW;
    h2_owe_reset(h2, id, code);
    h2_stream_forget(h2, stream);
    if (!h2_spend(h2, H2_BUDGET_GLITCH, 1)) {
        return H2_NEXT_BAD;
    }
    return told ? h2_tell_reset(ev, id, code) : H2_NEXT_FRAME;
}

enum h2_next h2_late_error(struct h2 *h2, uint32_t id, enum h2_code code)
{
    h2_owe_reset(h2, id, code);
    return h2_spend(h2, H2_BUDGET_GLITCH, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
}

void h2_absorb_end(struct h2 *h2, struct h2_stream *stream)
{
    if (stream->state == H2_STATE_OPEN) {
        h2_stream_end_remote(h2, stream);
    }
}

enum h2_next h2_refuse(struct h2 *h2, struct h2_stream *stream, enum codec_bad reason, bool end,
                       struct codec_event *ev)
{
    (void)h2_tell(ev, CODEC_EV_REFUSED, stream->id);
    ev->bad = reason;
    stream->refused = (uint8_t)reason;
    if (h2_is_server(h2) && stream->state == H2_STATE_HALF_LOCAL) {
        h2_owe_reset(h2, stream->id, codec_bad_code(reason));
        h2_stream_forget(h2, stream);
    } else if (end) {
        h2_absorb_end(h2, stream);
    }
    return h2_spend(h2, H2_BUDGET_GLITCH, 1) ? H2_NEXT_EVENT : H2_NEXT_BAD;
}

bool h2_is_idle(const struct h2 *h2, uint32_t id)
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
static enum h2_next count_body(struct h2 *h2, struct h2_stream *stream, uint32_t body,
                               struct codec_event *ev)
{
    if (stream->body_left == MESSAGE_LENGTH_UNKNOWN) {
        return H2_NEXT_FRAME;
    }
    if (body > stream->body_left || (h2->data.end && body < stream->body_left)) {
        return h2_refuse(h2, stream, CODEC_BAD_CONTENT_LENGTH, false, ev);
    }
    stream->body_left -= body;
    return H2_NEXT_FRAME;
}

/* The head of a DATA frame (RFC 9113 6.1); `padding` is 1 + Pad Length where there is one. */
static enum h2_next begin_data(struct h2 *h2, const struct h2_frame *frame, uint32_t padding,
                               struct codec_event *ev)
{
    if (frame->stream == 0 || padding > frame->len) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    struct h2_stream *stream = h2_stream_find(h2, frame->stream);
    if (stream != NULL ? stream->state == H2_STATE_NEW : h2_is_idle(h2, frame->stream)) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (frame->len > h2->recv_window) {
        return h2_bad(h2, CODEC_BAD_FLOW);
    }
    h2->recv_window -= frame->len;
    return_connection_window(h2);
    uint32_t body = frame->len - padding;
    h2->data = (struct h2_data){.left = body,
                                .padding = (uint16_t)(padding > 0 ? padding - 1 : 0),
                                .reading = true,
                                .end = (frame->flags & H2_FLAG_END_STREAM) != 0};
    if (body == 0 && !h2->data.end && !h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return H2_NEXT_BAD;
    }
    if (body >= 1024) {
        h2_earn(h2, H2_BUDGET_CONTROL, 1);
    }
    if (stream == NULL) {
        bool dropped = h2_is_forgotten(h2, frame->stream) || frame->stream > h2->goaway_sent;
        return dropped ? H2_NEXT_FRAME : h2_late_error(h2, frame->stream, H2_STREAM_CLOSED);
    }
    if (stream->state == H2_STATE_HALF_REMOTE) {
        return h2_stream_error(h2, stream, H2_STREAM_CLOSED, ev);
    }
    if (frame->len > stream->recv_window) {
        return h2_stream_error(h2, stream, H2_FLOW_CONTROL_ERROR, ev);
    }
    stream->recv_window -= frame->len;
    stream->returnable += padding;
    h2->data.stream = stream->id;
    if (h2->probe_stream == stream->id) {
        h2->probe_bytes += frame->len;
    }
    if (stream->refused != CODEC_BAD_NONE) {
        return H2_NEXT_FRAME;
    }
    if (!stream->head_read) {
        return h2_refuse(h2, stream, CODEC_BAD_PROTOCOL, false, ev);
    }
    return count_body(h2, stream, body, ev);
}

/* As much of the frame's body as is there. */
static enum h2_next read_data(struct h2 *h2, struct slice *in, struct codec_event *ev)
{
    struct slice part = slice_head(*in, h2->data.left);
    *in = slice_from(*in, part.len);
    h2->data.left -= (uint32_t)part.len;
    struct h2_stream *stream = h2->data.stream != 0 ? h2_stream_find(h2, h2->data.stream) : NULL;
    if (stream == NULL || stream->refused != CODEC_BAD_NONE) {
        return H2_NEXT_FRAME;
    }
    stream->unconsumed += (uint32_t)part.len;
    (void)h2_tell(ev, CODEC_EV_DATA, stream->id);
    ev->data = part;
    ev->end = h2->data.left == 0 && h2->data.end;
    return H2_NEXT_EVENT;
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
static enum h2_next tell_end(struct h2 *h2, struct codec_event *ev)
{
    struct h2_stream *stream = h2_stream_find(h2, h2->end_due);
    h2->end_due = 0;
    if (stream == NULL || stream->state == H2_STATE_HALF_REMOTE) {
        return H2_NEXT_FRAME;
    }
    uint32_t id = stream->id;
    if (stream->refused != CODEC_BAD_NONE) {
        h2_absorb_end(h2, stream);
        return H2_NEXT_FRAME;
    }
    CHECK(stream->body_left == MESSAGE_LENGTH_UNKNOWN || stream->body_left == 0);
    h2_stream_end_remote(h2, stream);
    return h2_tell(ev, CODEC_EV_END, id);
}

/* --- one frame after another ----------------------------------------------------------------- */

static enum h2_next read_frame(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                               struct codec_event *ev)
{
    switch (frame->type) {
    case H2_FRAME_HEADERS:
        return h2_read_headers(h2, frame, payload, ev);
    case H2_FRAME_PRIORITY:
        return h2_read_priority(h2, frame, payload, ev);
    case H2_FRAME_RST_STREAM:
        return h2_read_rst(h2, frame, payload, ev);
    case H2_FRAME_SETTINGS:
        return h2_read_settings(h2, frame, payload);
    case H2_FRAME_PUSH_PROMISE: /* we never allow it */
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    case H2_FRAME_PING:
        return h2_read_ping(h2, frame, payload, ev);
    case H2_FRAME_GOAWAY:
        return h2_read_goaway(h2, frame, payload, ev);
    case H2_FRAME_WINDOW_UPDATE:
        return h2_read_window_update(h2, frame, payload, ev);
    case H2_FRAME_CONTINUATION:
        return h2_read_continuation(h2, frame, payload, ev);
    default: /* PEER, and what nobody knows, which is ignored (RFC 9113 5.5) */
        if (frame->type == H2_FRAME_PEER) {
            return h2_read_peer(h2, frame, payload, ev);
        }
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
    }
}

static bool above_goaway(const struct h2 *h2, const struct h2_stream *stream)
{
    return stream->id > h2->goaway_read && stream->state != H2_STATE_NEW;
}

/* What is still to be told of frames that were read before. */
static enum h2_next tell_due(struct h2 *h2, struct codec_event *ev)
{
    if (h2->end_due != 0) {
        return tell_end(h2, ev);
    }
    if (h2->settings_due) {
        h2->settings_due = false;
        return h2_tell(ev, CODEC_EV_SETTINGS, 0);
    }
    if (h2->sweep_due) {
        struct h2_stream *stream = h2_stream_any(h2, above_goaway);
        if (stream != NULL) {
            uint32_t id = stream->id;
            h2_stream_forget(h2, stream);
            return h2_tell_reset(ev, id, H2_REFUSED_STREAM);
        }
        h2->sweep_due = false;
    }
    if (h2->window_due) {
        h2->window_due = false;
        h2->blocked = false;
        return h2_tell(ev, CODEC_EV_WINDOW, 0);
    }
    return H2_NEXT_FRAME;
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
static enum h2_next take_frame(struct h2 *h2, struct slice *in, struct codec_event *ev, bool *more)
{
    if (h2->data.reading) {
        if (h2->data.left > 0) {
            *more = in->len == 0;
            return *more ? H2_NEXT_FRAME : read_data(h2, in, ev);
        }
        *more = !finish_data(h2, in);
        return H2_NEXT_FRAME;
    }
    *more = in->len < H2_FRAME_HEAD_BYTES;
    if (*more) {
        return H2_NEXT_FRAME;
    }
    struct h2_frame frame = h2_frame_read(in->at);
    enum codec_bad reason = check_order(h2, &frame);
    if (reason != CODEC_BAD_NONE) {
        return h2_bad(h2, reason);
    }
    if (frame.type == H2_FRAME_DATA) {
        bool padded = (frame.flags & H2_FLAG_PADDED) != 0;
        *more = padded && frame.len > 0 && in->len < H2_FRAME_HEAD_BYTES + 1;
        if (*more) {
            return H2_NEXT_FRAME;
        }
        uint32_t padding = !padded ? 0 : frame.len == 0 ? 1 : 1U + in->at[H2_FRAME_HEAD_BYTES];
        size_t head = H2_FRAME_HEAD_BYTES + (padded && frame.len > 0 ? 1U : 0U);
        *in = slice_from(*in, head);
        return begin_data(h2, &frame, padding, ev);
    }
    *more = in->len < H2_FRAME_HEAD_BYTES + (size_t)frame.len;
    if (*more) {
        return H2_NEXT_FRAME;
    }
    struct slice payload = slice_of(in->at + H2_FRAME_HEAD_BYTES, frame.len);
    *in = slice_from(*in, H2_FRAME_HEAD_BYTES + (size_t)frame.len);
    if (h2->phase == H2_PHASE_SETTINGS) {
        h2->phase = H2_PHASE_FRAMES;
        h2->peer_streams = UINT32_MAX; /* unless they say less (RFC 9113 6.5.2) */
    }
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
        enum h2_next next = tell_due(h2, ev);
        if (next == H2_NEXT_FRAME && !h2->failed) {
            if (more) {
                return CODEC_MORE;
            }
            next = take_frame(h2, in, ev, &more);
        }
        if (next == H2_NEXT_EVENT && !h2->failed) {
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
    (void)h2_tell_reset(ev, id, H2_INTERNAL_ERROR);
    return CODEC_EVENT;
}
