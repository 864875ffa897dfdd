#include "sidecar/exchange/relay.h"

/* Copies what is about to be taken from the source, or gives the copy up where it would be too
 * large. */
static void tee(const struct relay_way *way)
{
    struct buf *in = &way->from->in;
    if (way->tee == NULL || !*way->tee_ok || in->len == 0) {
        return;
    }
    if (way->tee->len + in->len > way->tee_max) {
        *way->tee_ok = false;
        buf_clear(way->tee);
        return;
    }
    buf_share(way->tee, in, 0, in->len);
}

static void untee(const struct relay_way *way, size_t len)
{
    /* What was not taken after all will be shared again: cut it off the copy's end. */
    if (way->tee != NULL && *way->tee_ok && len > 0 && !MUTANT(30)) {
        buf_cut_end(way->tee, len);
    }
}

static enum relay_result finish(const struct relay_way *way)
{
    if (way->from->trailers != NULL && way->trailers) {
        stream_write_trailers(way->to, way->from->trailers);
        way->to->out_end = true;
        return RELAY_ENDED;
    }
    if (!way->to->out_end) {
        struct buf *in = &way->from->in;
        if (stream_write_data(way->to, in, true) == CODEC_FULL) {
            return RELAY_OPEN;
        }
        way->to->out_end = true;
    }
    return RELAY_ENDED;
}

enum relay_result relay_move(const struct relay_way *way, uint64_t *moved)
{
    *moved = 0;
    if (way->to->out_end) {
        return RELAY_ENDED;
    }
    if (way->first != NULL && !buf_empty(way->first)) {
        size_t before = way->first->len;
        enum codec_room room = stream_write_data(way->to, way->first, false);
        *moved += before - way->first->len;
        if (room == CODEC_FULL) {
            return RELAY_OPEN;
        }
    }
    struct buf *in = &way->from->in;
    bool trailers = way->from->trailers != NULL && way->trailers;
    bool end = way->from->in_end && !trailers;
    if (in->len > 0) {
        size_t before = in->len;
        tee(way);
        enum codec_room room = stream_write_data(way->to, in, end);
        size_t taken = before - in->len;
        untee(way, in->len);
        *moved += taken;
        stream_consumed(way->from, taken);
        if (room == CODEC_FULL) {
            return RELAY_OPEN;
        }
        if (end) {
            return RELAY_ENDED;
        }
    }
    return way->from->in_end && !MUTANT(31) ? finish(way) : RELAY_OPEN;
}
