#pragma once
/* What must hold for the events of an HTTP/2 codec whatever bytes came: the order that codec.h
 * promises, stream by stream. For fuzz targets. */

#include "tests/support/h2_end.h"

#define H2_RULES_STREAMS 512

struct h2_rules {
    struct {
        uint32_t id;
        bool head, trailers, over, promised_end;
    } stream[H2_RULES_STREAMS];
    unsigned count;
    bool client;
};

static inline void h2_rules_check(struct h2_rules *rules, const struct codec_event *ev)
{
    if (ev->stream == 0 || ev->kind == CODEC_EV_GOAWAY || ev->kind == CODEC_EV_PEER) {
        return;
    }
    unsigned i = 0;
    while (i < rules->count && rules->stream[i].id != ev->stream) {
        i++;
    }
    if (i == H2_RULES_STREAMS) {
        return;
    }
    if (i == rules->count) {
        CHECK(rules->client || ev->kind == CODEC_EV_HEAD || ev->kind == CODEC_EV_REFUSED);
        rules->stream[i].id = ev->stream;
        rules->count++;
    }
    if (ev->kind == CODEC_EV_RESET) {
        CHECK(rules->client || rules->stream[i].head || rules->stream[i].over);
        rules->stream[i].over = true;
        return;
    }
    if (ev->kind == CODEC_EV_WINDOW) {
        return;
    }
    CHECK(!rules->stream[i].over); /* nothing after END or REFUSED */
    CHECK(!rules->stream[i].promised_end || ev->kind == CODEC_EV_END);
    switch (ev->kind) {
    case CODEC_EV_HEAD:
        CHECK(!rules->stream[i].head);
        rules->stream[i].head = true;
        rules->stream[i].promised_end = ev->end;
        break;
    case CODEC_EV_INTERIM:
        CHECK(rules->client);
        CHECK(!rules->stream[i].head);
        break;
    case CODEC_EV_DATA:
        CHECK(rules->stream[i].head);
        CHECK(!rules->stream[i].trailers);
        CHECK(ev->data.len > 0);
        rules->stream[i].promised_end = ev->end;
        break;
    case CODEC_EV_TRAILERS:
        CHECK(rules->stream[i].head);
        CHECK(ev->end);
        rules->stream[i].trailers = true;
        rules->stream[i].promised_end = true;
        break;
    case CODEC_EV_END:
        CHECK(rules->stream[i].head);
        rules->stream[i].over = true;
        break;
    case CODEC_EV_REFUSED:
        CHECK(ev->bad != CODEC_BAD_NONE);
        rules->stream[i].over = true;
        break;
    case CODEC_EV_RESET:
    case CODEC_EV_WINDOW:
    case CODEC_EV_GOAWAY:
    case CODEC_EV_SETTINGS:
    case CODEC_EV_PONG:
    case CODEC_EV_PEER:
        break;
    }
}

/* What a codec wrote consists of whole frames, none larger than the least that a peer must take. */
static inline void h2_rules_output(struct h2_end *end)
{
    size_t len;
    uint8_t *bytes = h2_end_take(end, &len);
    size_t at = len >= H2_PREFACE_BYTES && memcmp(bytes, H2_PREFACE, H2_PREFACE_BYTES) == 0
                    ? H2_PREFACE_BYTES
                    : 0;
    while (at < len) {
        CHECK(len - at >= H2_FRAME_HEAD_BYTES);
        struct h2_frame frame = h2_frame_read(bytes + at);
        CHECK(frame.len <= H2_FRAME_MAX);
        CHECK(len - at - H2_FRAME_HEAD_BYTES >= frame.len);
        at += H2_FRAME_HEAD_BYTES + frame.len;
    }
    mem_free(bytes);
}
