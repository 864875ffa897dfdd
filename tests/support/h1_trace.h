#pragma once
/* Drives HTTP/1 codecs over bytes and writes down what they say, as text, for unit tests and fuzz
 * targets. Header only: not every test links http/.
 *
 * Each presentation of the input is a copy of exact size, so that AddressSanitizer sees a byte read
 * too far; DATA events are joined, so that the text does not depend on how the input was cut. */

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/slice.h"
#include "http/codec.h"
#include "http/h1.h"

struct trace {
    char *text;
    size_t len;
    size_t room;
    bool in_data;
};

static inline void trace_bytes(struct trace *trace, struct slice bytes)
{
    if (trace->room - trace->len <= bytes.len) {
        trace->room = 2 * trace->room + bytes.len + 1;
        trace->text = realloc(trace->text, trace->room);
        CHECK(trace->text != NULL);
    }
    if (bytes.len > 0) {
        memcpy(trace->text + trace->len, bytes.at, bytes.len);
    }
    trace->len += bytes.len;
    trace->text[trace->len] = '\0';
}

static inline void trace_init(struct trace *trace)
{
    *trace = (struct trace){.room = 512, .text = malloc(512)};
    CHECK(trace->text != NULL);
    trace->text[0] = '\0';
}

static inline void trace_fini(struct trace *trace)
{
    free(trace->text);
}

PRINTF_LIKE(2, 3) static inline void trace_line(struct trace *trace, const char *format, ...)
{
    if (trace->in_data) {
        trace_bytes(trace, SLICE("]\n"));
        trace->in_data = false;
    }
    va_list args;
    va_start(args, format);
    char line[512];
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CHECK(len >= 0);
    trace_bytes(trace, slice_of(line, (size_t)len < sizeof line ? (size_t)len : sizeof line - 1));
}

static inline void trace_value(struct trace *trace, const char *name, struct slice value)
{
    trace_line(trace, "  %s: ", name);
    trace_bytes(trace, value);
    trace_line(trace, "\n");
}

static inline void trace_message(struct trace *trace, const struct message *message)
{
    if (message->kind == MESSAGE_REQUEST) {
        trace_value(trace, ":method", message->method);
        trace_value(trace, ":authority", message->authority);
        trace_value(trace, ":path", message->path);
        trace_value(trace, ":protocol", message->protocol);
        trace_line(trace, "  connect=%d expect=%d te=%d\n", message->connect,
                   message->expect_continue, message->te_trailers);
    } else {
        trace_line(trace, "  status=%d\n", message->status);
        trace_value(trace, "reason", message->reason);
    }
    trace_line(trace, "  body=%d length=%lld\n", message->has_body,
               (long long)message->content_length);
}

static inline void trace_fields(struct trace *trace, const struct message *message)
{
    for (unsigned i = 0; i < message->headers.count; i++) {
        const struct header *field = &message->headers.field[i];
        /* The writer keeps x-pillion-case for itself. */
        if (!field->dropped && field->id != HEADER_X_PILLION_CASE) {
            trace_line(trace, "  ");
            trace_bytes(trace, field->name);
            trace_value(trace, "", field->value);
        }
    }
}

static inline void trace_event(struct trace *trace, const struct codec_event *ev)
{
    if (ev->kind == CODEC_EV_DATA) {
        if (!trace->in_data) {
            trace_line(trace, "DATA %u [", ev->stream);
            trace->in_data = true;
        }
        trace_bytes(trace, ev->data);
        return;
    }
    trace_line(trace, "%s %u\n", codec_event_name(ev->kind), ev->stream);
    if (ev->kind == CODEC_EV_HEAD || ev->kind == CODEC_EV_INTERIM) {
        trace_message(trace, ev->message);
    }
    if (ev->message != NULL) {
        trace_fields(trace, ev->message);
    }
    if (ev->kind == CODEC_EV_REFUSED) {
        trace_line(trace, "  %s\n", codec_bad_name(ev->bad));
    }
}

/* A server that answers every request with an empty 200 and, where `client` runs, sends it on to an
 * upstream that answers likewise. */
struct relay {
    struct h1_limits limits;
    struct h1_scratch *scratch;
    struct buf_pool pool;
    struct buf down; /* what the client of the server would get */
    struct buf up;   /* what the upstream would get */
    struct codec *server;
    struct codec *client;
    uint32_t upstream_stream;
    uint32_t answered; /* the newest request that has its answer */
    struct trace trace;
    unsigned requests; /* complete ones */
    size_t left;       /* bytes that were not consumed at the end */
    enum codec_bad refused;
    bool switch_protocols; /* answer 101 to an Upgrade, 200 to CONNECT as a tunnel */
    bool stopped;
};

static inline void relay_init(struct relay *relay)
{
    *relay = (struct relay){.limits = H1_LIMITS_DEFAULT};
    relay->scratch = calloc(1, sizeof *relay->scratch);
    CHECK(relay->scratch != NULL);
    buf_pool_init(&relay->pool, 4);
    buf_init(&relay->down, &relay->pool);
    buf_init(&relay->up, &relay->pool);
    relay->server = h1_server_new(&relay->limits, relay->scratch);
    trace_init(&relay->trace);
}

static inline void relay_fini(struct relay *relay)
{
    codec_free(&relay->server);
    codec_free(&relay->client);
    buf_clear(&relay->down);
    buf_clear(&relay->up);
    buf_pool_fini(&relay->pool);
    free(relay->scratch);
    trace_fini(&relay->trace);
}

static inline void relay_command(struct codec *codec, struct buf *out, struct codec_cmd cmd)
{
    CHECK(codec_write(codec, out, &cmd) == CODEC_DONE);
}

/* Once a request. */
static inline void relay_answer(struct relay *relay, uint32_t stream, uint16_t status)
{
    if (relay->answered == stream) {
        return;
    }
    relay->answered = stream;
    struct message message = {.kind = MESSAGE_RESPONSE,
                              .version = MESSAGE_HTTP_1_1,
                              .status = status,
                              .content_length = MESSAGE_LENGTH_UNKNOWN,
                              .keep_alive = true};
    relay_command(
        relay->server, &relay->down,
        (struct codec_cmd){
            .kind = CODEC_CMD_HEAD, .stream = stream, .message = &message, .end = status != 101});
}

static inline void relay_up_head(struct relay *relay, const struct codec_event *ev)
{
    if (relay->client == NULL || (relay->upstream_stream = codec_open(relay->client)) == 0) {
        codec_free(&relay->client);
        relay->client = h1_client_new(&relay->limits, relay->scratch);
        relay->upstream_stream = codec_open(relay->client);
    }
    relay_command(relay->client, &relay->up,
                  (struct codec_cmd){.kind = CODEC_CMD_HEAD,
                                     .stream = relay->upstream_stream,
                                     .message = ev->message,
                                     .end = ev->end});
}

static inline void relay_up(struct relay *relay, const struct codec_event *ev)
{
    struct codec_cmd cmd = {.stream = relay->upstream_stream};
    struct buf data;
    switch (ev->kind) {
    case CODEC_EV_HEAD:
        relay_up_head(relay, ev);
        break;
    case CODEC_EV_DATA:
        buf_init(&data, &relay->pool);
        buf_append(&data, ev->data);
        cmd.kind = CODEC_CMD_DATA;
        cmd.data = &data;
        relay_command(relay->client, &relay->up, cmd);
        buf_clear(&data);
        break;
    case CODEC_EV_TRAILERS:
        cmd.kind = CODEC_CMD_TRAILERS;
        cmd.message = ev->message;
        relay_command(relay->client, &relay->up, cmd);
        break;
    case CODEC_EV_END:
        cmd.kind = CODEC_CMD_END;
        relay_command(relay->client, &relay->up, cmd);
        break;
    default: /* nothing that an upstream would see */
        break;
    }
}

/* The upstream answers what it got, so that the client codec is free again. */
static inline void relay_upstream_answers(struct relay *relay)
{
    struct slice answer = SLICE("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    struct codec_event ev;
    while (codec_read(relay->client, &answer, &ev) == CODEC_EVENT) {
    }
    CHECK(answer.len == 0);
}

static inline void relay_take(struct relay *relay, const struct codec_event *ev)
{
    trace_event(&relay->trace, ev);
    bool tunnel = ev->kind == CODEC_EV_HEAD && !ev->end &&
                  (ev->message->connect || ev->message->protocol.len > 0);
    bool connect = tunnel && ev->message->connect;
    relay_up(relay, ev);
    if (tunnel) {
        relay_answer(relay, ev->stream, !relay->switch_protocols ? 404 : connect ? 200 : 101);
    }
    if (ev->kind == CODEC_EV_END) {
        relay->requests++;
        relay_upstream_answers(relay);
        relay_answer(relay, ev->stream, 200);
    }
    if (ev->kind == CODEC_EV_REFUSED) {
        relay->refused = ev->bad;
        relay_answer(relay, ev->stream, codec_bad_status(ev->bad));
        relay->stopped = true;
    }
}

/* Presents input[from, to) with exact bounds until MORE; returns how much was consumed. */
static inline size_t relay_present(struct relay *relay, const uint8_t *input, size_t from,
                                   size_t to)
{
    uint8_t *copy = malloc(to - from + 1);
    CHECK(copy != NULL);
    if (to > from) {
        memcpy(copy, input + from, to - from);
    }
    uint8_t *exact = realloc(copy, to > from ? to - from : 1);
    CHECK(exact != NULL);
    struct slice in = slice_of(exact, to - from);
    struct codec_event ev;
    while (codec_read(relay->server, &in, &ev) == CODEC_EVENT) {
        relay_take(relay, &ev);
    }
    size_t used = to - from - in.len;
    free(exact);
    return used;
}

/* Feeds all of the input, a new byte count at each step as `next_cut` says (null: all at once). */
static inline void relay_run(struct relay *relay, struct slice input,
                             size_t (*next_cut)(void *cuts, size_t at), void *cuts)
{
    size_t from = 0;
    size_t to = 0;
    do {
        size_t step = next_cut != NULL ? next_cut(cuts, to) : input.len;
        to = step < input.len - to ? to + (step > 0 ? step : 1) : input.len;
        from += relay_present(relay, input.at, from, to);
    } while (to < input.len);
    relay->left = input.len - from;
    trace_line(&relay->trace, "finished=%d\n", codec_finished(relay->server));
}

static inline size_t cut_every_byte(void *cuts, size_t at)
{
    (void)cuts;
    (void)at;
    return 1;
}

/* *cuts is a position: everything before it, then the rest. */
static inline size_t cut_once(void *cuts, size_t at)
{
    const size_t *position = cuts;
    return at < *position ? *position - at : SIZE_MAX;
}

/* Small steps that a seed chooses; `cuts` is a uint32_t. */
static inline size_t cut_by_seed(void *cuts, size_t at)
{
    uint32_t *seed = cuts;
    (void)at;
    *seed = *seed * 1664525U + 1013904223U;
    return 1 + (*seed >> 24) % 40;
}

/* Cuts the text before what does not survive being passed on: verdicts, and how it ended. */
static inline void trace_keep_messages(struct trace *trace)
{
    static const char *const ends[] = {"\nREFUSED", "\nRESET", "\nBAD", "\nfinished="};
    char *first = trace->text + trace->len;
    for (unsigned i = 0; i < COUNT_OF(ends); i++) {
        char *at = strstr(trace->text, ends[i]);
        first = at != NULL && at < first ? at : first;
        if (strncmp(trace->text, ends[i] + 1, strlen(ends[i]) - 1) == 0) {
            first = trace->text;
        }
    }
    *first = '\0';
    trace->len = (size_t)(first - trace->text);
}

/* All bytes of a buf, to be freed by the caller. */
static inline struct slice trace_flatten(const struct buf *buf)
{
    uint8_t *bytes = malloc(buf->len + 1);
    CHECK(bytes != NULL);
    CHECK(buf_peek(buf, (struct span){bytes, buf->len}) == buf->len);
    return slice_of(bytes, buf->len);
}

/* A client codec with one request in flight, fed with a response's bytes. */
struct reply {
    struct h1_limits limits;
    struct h1_scratch *scratch;
    struct buf_pool pool;
    struct buf out;
    struct codec *client;
    struct trace trace;
    enum codec_step last;
};

static inline void reply_init(struct reply *reply, const struct message *request)
{
    *reply = (struct reply){.limits = H1_LIMITS_DEFAULT};
    reply->scratch = calloc(1, sizeof *reply->scratch);
    CHECK(reply->scratch != NULL);
    buf_pool_init(&reply->pool, 4);
    buf_init(&reply->out, &reply->pool);
    reply->client = h1_client_new(&reply->limits, reply->scratch);
    trace_init(&reply->trace);
    struct codec_cmd cmd = {.kind = CODEC_CMD_HEAD,
                            .stream = codec_open(reply->client),
                            .message = request,
                            .end = !request->has_body};
    CHECK(codec_write(reply->client, &reply->out, &cmd) == CODEC_DONE);
}

static inline void reply_fini(struct reply *reply)
{
    codec_free(&reply->client);
    buf_clear(&reply->out);
    buf_pool_fini(&reply->pool);
    free(reply->scratch);
    trace_fini(&reply->trace);
}

static inline size_t reply_present(struct reply *reply, const uint8_t *input, size_t from,
                                   size_t to)
{
    uint8_t *exact = malloc(to > from ? to - from : 1);
    CHECK(exact != NULL);
    if (to > from) {
        memcpy(exact, input + from, to - from);
    }
    struct slice in = slice_of(exact, to - from);
    struct codec_event ev;
    while ((reply->last = codec_read(reply->client, &in, &ev)) == CODEC_EVENT) {
        trace_event(&reply->trace, &ev);
    }
    size_t used = to - from - in.len;
    free(exact);
    return used;
}

/* All bytes, cut as for relay_run, then FIN where `eof`. Stops at BAD. */
static inline void reply_run(struct reply *reply, struct slice input,
                             size_t (*next_cut)(void *cuts, size_t at), void *cuts, bool eof)
{
    size_t from = 0;
    size_t to = 0;
    do {
        size_t step = next_cut != NULL ? next_cut(cuts, to) : input.len;
        to = step < input.len - to ? to + (step > 0 ? step : 1) : input.len;
        from += reply_present(reply, input.at, from, to);
    } while (to < input.len && reply->last != CODEC_BAD);
    struct codec_event ev;
    while (eof && reply->last != CODEC_BAD &&
           (reply->last = codec_eof(reply->client, &ev)) == CODEC_EVENT) {
        trace_event(&reply->trace, &ev);
    }
    if (reply->last == CODEC_BAD) {
        trace_line(&reply->trace, "BAD %s\n", codec_bad_name(reply->client->bad));
    }
    trace_line(&reply->trace, "finished=%d\n", codec_finished(reply->client));
}
