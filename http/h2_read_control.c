/* The frames that carry no part of a message: resets, settings, windows, PING, GOAWAY. */
#include <string.h>

#include "http/h2_core.h"

#define PROBE_BYTES 8
/* A path may change: the shortest round trip is forgotten after so long. */
#define TRIP_KEPT_US 60000000U
/* Up to here a window may grow on a busy path too: less would wait for every turn that a busy
 * machine gives to its processes. */
#define WINDOW_ALWAYS (256U * 1024)

static const uint8_t probe_mark[PROBE_BYTES] = {'r', 'o', 'u', 'n', 'd', 0, 0, 1};

enum h2_next h2_read_rst(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                         struct codec_event *ev)
{
    if (payload.len != 4) {
        return h2_bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    struct h2_stream *stream = h2_stream_find(h2, frame->stream);
    if (frame->stream == 0 || (stream == NULL && h2_is_idle(h2, frame->stream)) ||
        (stream != NULL && stream->state == H2_STATE_NEW)) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (stream == NULL) {
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
    }
    uint32_t id = stream->id;
    bool early = h2_is_server(h2) && stream->state != H2_STATE_HALF_LOCAL;
    h2_stream_move(h2, stream, H2_STATE_CLOSED);
    if (early && !MUTANT(16) && !h2_spend(h2, H2_BUDGET_RESET, 1)) {
        return H2_NEXT_BAD;
    }
    return h2_tell_reset(ev, id, h2_get_u32(payload.at));
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

enum h2_next h2_read_settings(struct h2 *h2, const struct h2_frame *frame, struct slice payload)
{
    static const uint8_t ack[] = {0, 0, 0, H2_FRAME_SETTINGS, H2_FLAG_ACK, 0, 0, 0, 0};
    if (frame->stream != 0) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    if ((frame->flags & H2_FLAG_ACK) != 0) {
        if (payload.len != 0) {
            return h2_bad(h2, CODEC_BAD_FRAME_SIZE);
        }
        our_settings_acked(h2);
        return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
    }
    if (payload.len % 6 != 0) {
        return h2_bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, (uint32_t)(1 + payload.len / 48))) {
        return H2_NEXT_BAD;
    }
    for (; payload.len > 0; payload = slice_from(payload, 6)) {
        enum codec_bad reason =
            apply_setting(h2, h2_get_u16(payload.at), h2_get_u32(payload.at + 2));
        if (reason != CODEC_BAD_NONE) {
            return h2_bad(h2, reason);
        }
    }
    h2_owe(h2, ack, sizeof ack);
    h2->settings_due = true;
    return H2_NEXT_FRAME;
}

/* Whether a round trip of late was as short as that path can be. A longer one was spent in queues,
 * mostly behind this very stream's bytes: a larger window would only lengthen them for everybody.
 */
static bool trip_was_short(struct h2 *h2)
{
    uint64_t trip_us = h2->now_us - h2->probe_us;
    bool old = h2->now_us - h2->trip_seen_us > TRIP_KEPT_US;
    if (h2->trip_us == 0 || trip_us <= h2->trip_us || old) {
        h2->trip_us = trip_us > 0 ? trip_us : 1;
        h2->trip_seen_us = h2->now_us;
    }
    return trip_us <= 2 * h2->trip_us;
}

/* The answer to our own measuring. With half-window updates a stream needs twice what a round trip
 * carries, and twice again to have room to grow: up to there its window is what holds it back,
 * provided that its bytes were drained meanwhile. */
static void finish_probe(struct h2 *h2)
{
    struct h2_stream *stream = h2_stream_find(h2, h2->probe_stream);
    h2->probe_stream = 0;
    bool may_grow = trip_was_short(h2);
    if (stream == NULL || (!may_grow && stream->recv_target >= WINDOW_ALWAYS) ||
        stream->state == H2_STATE_HALF_REMOTE || h2->probe_bytes < stream->recv_target / 4 ||
        stream->unconsumed > stream->recv_target / 2 || stream->recv_target >= h2->window_max) {
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

enum h2_next h2_read_ping(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                          struct codec_event *ev)
{
    if (frame->stream != 0) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (payload.len != 8) {
        return h2_bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if ((frame->flags & H2_FLAG_ACK) != 0) {
        if (h2->probe_stream != 0 && memcmp(payload.at, probe_mark, PROBE_BYTES) == 0) {
            finish_probe(h2);
            return H2_NEXT_FRAME;
        }
        if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
            return H2_NEXT_BAD;
        }
        memcpy(h2->pong, payload.at, sizeof h2->pong);
        (void)h2_tell(ev, CODEC_EV_PONG, 0);
        ev->data = slice_of(h2->pong, sizeof h2->pong);
        return H2_NEXT_EVENT;
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return H2_NEXT_BAD;
    }
    uint8_t answer[H2_FRAME_HEAD_BYTES + 8];
    memcpy(h2_frame_write(answer, 8, H2_FRAME_PING, H2_FLAG_ACK, 0), payload.at, 8);
    h2_owe(h2, answer, sizeof answer);
    return H2_NEXT_FRAME;
}

enum h2_next h2_read_goaway(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                            struct codec_event *ev)
{
    if (frame->stream != 0) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    if (payload.len < 8) {
        return h2_bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return H2_NEXT_BAD;
    }
    uint32_t last = h2_get_u31(payload.at);
    h2->goaway_read = last < h2->goaway_read ? last : h2->goaway_read;
    h2->sweep_due = !h2_is_server(h2);
    (void)h2_tell(ev, CODEC_EV_GOAWAY, h2->goaway_read);
    ev->code = h2_get_u32(payload.at + 4);
    return H2_NEXT_EVENT;
}

enum h2_next h2_read_window_update(struct h2 *h2, const struct h2_frame *frame,
                                   struct slice payload, struct codec_event *ev)
{
    if (payload.len != 4) {
        return h2_bad(h2, CODEC_BAD_FRAME_SIZE);
    }
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return H2_NEXT_BAD;
    }
    uint32_t increment = h2_get_u31(payload.at);
    if (frame->stream == 0) {
        if (increment == 0) {
            return h2_bad(h2, CODEC_BAD_PROTOCOL);
        }
        h2->send_window += increment;
        if (h2->send_window > H2_WINDOW_MAX) {
            return h2_bad(h2, CODEC_BAD_FLOW);
        }
        h2->window_due |= h2->blocked;
        return H2_NEXT_FRAME;
    }
    struct h2_stream *stream = h2_stream_find(h2, frame->stream);
    if (stream == NULL || stream->state == H2_STATE_NEW) {
        return stream != NULL || h2_is_idle(h2, frame->stream) ? h2_bad(h2, CODEC_BAD_PROTOCOL)
                                                               : H2_NEXT_FRAME;
    }
    if (increment == 0) {
        return h2_stream_error(h2, stream, H2_PROTOCOL_ERROR, ev);
    }
    stream->send_window += increment;
    if (stream->send_window > H2_WINDOW_MAX) {
        return h2_stream_error(h2, stream, H2_FLOW_CONTROL_ERROR, ev);
    }
    if (!stream->blocked || stream->send_window <= 0) {
        return H2_NEXT_FRAME;
    }
    stream->blocked = false;
    return h2_tell(ev, CODEC_EV_WINDOW, stream->id);
}

enum h2_next h2_read_priority(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                              struct codec_event *ev)
{
    if (frame->stream == 0) {
        return h2_bad(h2, CODEC_BAD_PROTOCOL);
    }
    bool short_or_long = payload.len != 5;
    if (short_or_long || h2_get_u31(payload.at) == frame->stream) {
        enum h2_code code = short_or_long ? H2_FRAME_SIZE_ERROR : H2_PROTOCOL_ERROR;
        struct h2_stream *stream = h2_stream_find(h2, frame->stream);
        if (stream != NULL && stream->state != H2_STATE_NEW) {
            return h2_stream_error(h2, stream, code, ev);
        }
        /* An idle stream cannot be reset (RFC 9113 5.1), so the connection pays. */
        return h2_is_idle(h2, frame->stream)
                   ? h2_bad(h2, short_or_long ? CODEC_BAD_FRAME_SIZE : CODEC_BAD_PROTOCOL)
                   : h2_late_error(h2, frame->stream, code);
    }
    return h2_spend(h2, H2_BUDGET_CONTROL, 1) ? H2_NEXT_FRAME : H2_NEXT_BAD;
}

enum h2_next h2_read_peer(struct h2 *h2, const struct h2_frame *frame, struct slice payload,
                          struct codec_event *ev)
{
    if (!h2_spend(h2, H2_BUDGET_CONTROL, 1)) {
        return H2_NEXT_BAD;
    }
    if (!h2->options->peer_frames || payload.len > H2_PEER_FRAME_BYTES) {
        return H2_NEXT_FRAME;
    }
    (void)h2_tell(ev, CODEC_EV_PEER, frame->stream);
    ev->data = payload;
    return H2_NEXT_EVENT;
}
