#pragma once
/* One end of an HTTP/2 connection for tests and fuzz targets: bytes go in, events come out as text
 * (bodies joined, so that the text does not depend on how the input was cut), what the codec writes
 * is kept, and can be shown as text. Input is presented in blocks of exact size, so that
 * AddressSanitizer sees an over-read. Header only: not every test links http/. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "http/h2.h"
#include "http/h2_frame.h"

struct h2_end {
    struct h2_options options;
    struct h2_pool *pool;
    struct codec *codec;
    struct buf_pool bufs;
    struct buf out;
    uint8_t *tail;
    size_t tail_len;
    char *text; /* events since the last clear */
    size_t text_len;
    size_t text_room;
    void (*on_event)(struct h2_end *, const struct codec_event *); /* may be null */
    void *owner;                                                   /* of the test */
    uint32_t data_stream; /* a DATA line is open for this stream */
    uint32_t last_head;   /* stream of the last HEAD event */
    bool keep_window;     /* do not give DATA back */
    bool quiet;           /* write no text */
    bool bad;
    uint64_t data_bytes;
    unsigned heads, resets, refused, ends;
};

static inline void h2_end_init(struct h2_end *end, const struct h2_options *options)
{
    *end = (struct h2_end){.options = *options};
    end->pool = h2_pool_new();
    end->codec = h2_new(end->pool, &end->options);
    buf_pool_init(&end->bufs, 4);
    buf_init(&end->out, &end->bufs);
    end->text_room = 4096;
    end->text = NEW_ARRAY(char, end->text_room);
}

static inline void h2_end_fini(struct h2_end *end)
{
    codec_free(&end->codec);
    h2_pool_free(&end->pool);
    buf_clear(&end->out);
    buf_pool_fini(&end->bufs);
    mem_free(end->text);
    mem_free(end->tail);
}

PRINTF_LIKE(2, 3) static inline void h2_end_say(struct h2_end *end, const char *format, ...)
{
    while (!end->quiet) {
        va_list args;
        va_start(args, format);
        size_t room = end->text_room - end->text_len;
        int len = vsnprintf(end->text + end->text_len, room, format, args);
        va_end(args);
        CHECK(len >= 0);
        if ((size_t)len < room) {
            end->text_len += (size_t)len;
            return;
        }
        end->text_room = (end->text_room + (size_t)len) * 2;
        end->text = mem_resize(end->text, end->text_room);
    }
}

static inline void h2_end_clear(struct h2_end *end)
{
    end->text_len = 0;
    end->text[0] = '\0';
    end->data_stream = 0;
}

/* Body bytes; those that are not visible as dots. */
static inline void h2_end_body(struct h2_end *end, struct slice bytes)
{
    char part[256];
    while (bytes.len > 0 && !end->quiet) {
        size_t len = bytes.len < sizeof part - 1 ? bytes.len : sizeof part - 1;
        for (size_t i = 0; i < len; i++) {
            uint8_t c = bytes.at[i];
            part[i] = (char)(c >= ' ' && c < 0x7f ? c : '.');
        }
        part[len] = '\0';
        h2_end_say(end, "%s", part);
        bytes = slice_from(bytes, len);
    }
}

static inline void h2_end_headers(struct h2_end *end, const struct headers *headers)
{
    for (unsigned i = 0; i < headers->count; i++) {
        const struct header *field = &headers->field[i];
        if (!field->dropped) {
            h2_end_say(end, " %.*s=%.*s", SLICE_ARG(field->name), SLICE_ARG(field->value));
        }
    }
}

static inline void h2_end_message(struct h2_end *end, const struct codec_event *ev)
{
    const struct message *message = ev->message;
    h2_end_say(end, "%s %u", codec_event_name(ev->kind), ev->stream);
    if (ev->kind == CODEC_EV_TRAILERS) {
        h2_end_headers(end, &message->headers);
    } else if (message->kind == MESSAGE_REQUEST) {
        h2_end_say(end, " %.*s %.*s %.*s %.*s", SLICE_ARG(message->method),
                   SLICE_ARG(message->scheme), SLICE_ARG(message->authority),
                   SLICE_ARG(message->path));
        if (message->protocol.len > 0) {
            h2_end_say(end, " protocol:%.*s", SLICE_ARG(message->protocol));
        }
        h2_end_say(end, "%s%s%s", message->connect ? " connect" : "",
                   message->expect_continue ? " expect" : "", message->te_trailers ? " te" : "");
        h2_end_headers(end, &message->headers);
    } else {
        h2_end_say(end, " %u", message->status);
        h2_end_headers(end, &message->headers);
    }
    if (ev->kind != CODEC_EV_TRAILERS && message->content_length != MESSAGE_LENGTH_UNKNOWN) {
        h2_end_say(end, " length:%llu", (unsigned long long)message->content_length);
    }
    h2_end_say(end, "%s\n", ev->end ? " end" : "");
}

static inline enum codec_room h2_end_write(struct h2_end *end, struct codec_cmd cmd)
{
    return codec_write(end->codec, &end->out, &cmd);
}

static inline void h2_end_event(struct h2_end *end, const struct codec_event *ev)
{
    if (end->data_stream != 0 && (ev->kind != CODEC_EV_DATA || ev->stream != end->data_stream)) {
        h2_end_say(end, "\n");
        end->data_stream = 0;
    }
    switch (ev->kind) {
    case CODEC_EV_HEAD:
        end->heads++;
        end->last_head = ev->stream;
        h2_end_message(end, ev);
        break;
    case CODEC_EV_INTERIM:
    case CODEC_EV_TRAILERS:
        h2_end_message(end, ev);
        break;
    case CODEC_EV_DATA:
        if (end->data_stream == 0) {
            h2_end_say(end, "DATA %u ", ev->stream);
            end->data_stream = ev->stream;
        }
        end->data_bytes += ev->data.len;
        h2_end_body(end, ev->data);
        if (!end->keep_window && ev->data.len > 0) {
            (void)h2_end_write(end, (struct codec_cmd){.kind = CODEC_CMD_CONSUMED,
                                                       .stream = ev->stream,
                                                       .len = ev->data.len});
        }
        break;
    case CODEC_EV_END:
        end->ends++;
        h2_end_say(end, "END %u\n", ev->stream);
        break;
    case CODEC_EV_REFUSED:
        end->refused++;
        h2_end_say(end, "REFUSED %u %s\n", ev->stream, codec_bad_name(ev->bad));
        break;
    case CODEC_EV_RESET:
        end->resets++;
        h2_end_say(end, "RESET %u %s\n", ev->stream, h2_code_name(ev->code));
        break;
    case CODEC_EV_GOAWAY:
        h2_end_say(end, "GOAWAY %u %s\n", ev->stream, h2_code_name(ev->code));
        break;
    case CODEC_EV_WINDOW:
        h2_end_say(end, "WINDOW %u\n", ev->stream);
        break;
    case CODEC_EV_SETTINGS:
        h2_end_say(end, "SETTINGS\n");
        break;
    case CODEC_EV_PONG:
    case CODEC_EV_PEER:
        h2_end_say(end, "%s %u %.*s\n", codec_event_name(ev->kind), ev->stream,
                   SLICE_ARG(ev->data));
        break;
    }
}

/* Presents tail and bytes, keeps what was not taken. */
static inline void h2_end_present(struct h2_end *end, struct slice bytes)
{
    size_t len = end->tail_len + bytes.len;
    uint8_t *exact = mem_raw(len > 0 ? len : 1);
    if (end->tail_len > 0) {
        memcpy(exact, end->tail, end->tail_len);
    }
    if (bytes.len > 0) {
        memcpy(exact + end->tail_len, bytes.at, bytes.len);
    }
    FREE(end->tail);
    end->tail_len = 0;
    struct slice in = slice_of(exact, len);
    struct codec_event ev;
    enum codec_step step;
    while ((step = codec_read(end->codec, &in, &ev)) == CODEC_EVENT) {
        h2_end_event(end, &ev);
        if (end->on_event != NULL) {
            end->on_event(end, &ev);
        }
    }
    if (step == CODEC_BAD) {
        if (!end->bad) {
            h2_end_say(end, "%sBAD %s\n", end->data_stream != 0 ? "\n" : "",
                       codec_bad_name(end->codec->bad));
        }
        end->bad = true;
    } else if (in.len > 0) {
        end->tail = mem_raw(in.len);
        memcpy(end->tail, in.at, in.len);
        end->tail_len = in.len;
    }
    mem_free(exact);
}

/* In steps of at most `step` bytes; 0: at once. */
static inline void h2_end_feed(struct h2_end *end, struct slice bytes, size_t step)
{
    while (bytes.len > 0) {
        struct slice part = slice_head(bytes, step > 0 ? step : bytes.len);
        h2_end_present(end, part);
        bytes = slice_from(bytes, part.len);
    }
}

static inline void h2_end_eof(struct h2_end *end)
{
    struct codec_event ev;
    while (codec_eof(end->codec, &ev) == CODEC_EVENT) {
        h2_end_event(end, &ev);
    }
}

/* Everything written so far, also what is owed; *len bytes, freed by the caller. */
static inline uint8_t *h2_end_take(struct h2_end *end, size_t *len)
{
    (void)codec_write(end->codec, &end->out, NULL);
    *len = end->out.len;
    uint8_t *bytes = mem_raw(*len > 0 ? *len : 1);
    if (*len > 0) {
        CHECK(buf_peek(&end->out, (struct span){bytes, *len}) == *len);
    }
    buf_clear(&end->out);
    return bytes;
}

/* Moves what one end wrote to the other; false: there was nothing. */
static inline bool h2_end_carry(struct h2_end *from, struct h2_end *to, size_t step)
{
    size_t len;
    uint8_t *bytes = h2_end_take(from, &len);
    h2_end_feed(to, slice_of(bytes, len), step);
    mem_free(bytes);
    return len > 0;
}

/* Frames that the codec wrote, a line each: type, stream, flags in hex, length, and the code of
 * RST_STREAM and GOAWAY or the increment of WINDOW_UPDATE. Freed by the caller. */
static inline char *h2_end_frames(struct h2_end *end)
{
    size_t len;
    uint8_t *bytes = h2_end_take(end, &len);
    size_t room = 64 + (len / 9 + 1) * 80;
    char *text = NEW_ARRAY(char, room);
    size_t at = len >= H2_PREFACE_BYTES && memcmp(bytes, H2_PREFACE, H2_PREFACE_BYTES) == 0
                    ? H2_PREFACE_BYTES
                    : 0;
    size_t made = 0;
    while (at < len) {
        CHECK(len - at >= H2_FRAME_HEAD_BYTES);
        struct h2_frame frame = h2_frame_read(bytes + at);
        at += H2_FRAME_HEAD_BYTES;
        CHECK(len - at >= frame.len);
        made += (size_t)snprintf(text + made, room - made, "%s %u %x %u", h2_frame_name(frame.type),
                                 frame.stream, frame.flags, frame.len);
        if (frame.type == H2_FRAME_RST_STREAM) {
            made += (size_t)snprintf(text + made, room - made, " %s",
                                     h2_code_name(h2_get_u32(bytes + at)));
        } else if (frame.type == H2_FRAME_GOAWAY) {
            made += (size_t)snprintf(text + made, room - made, " %u %s", h2_get_u31(bytes + at),
                                     h2_code_name(h2_get_u32(bytes + at + 4)));
        } else if (frame.type == H2_FRAME_WINDOW_UPDATE) {
            made += (size_t)snprintf(text + made, room - made, " %u", h2_get_u32(bytes + at));
        }
        made += (size_t)snprintf(text + made, room - made, "\n");
        at += frame.len;
    }
    text[made] = '\0';
    mem_free(bytes);
    return text;
}
