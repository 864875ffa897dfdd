#pragma once
/* The contract of a protocol: bytes in, events out; commands in, bytes out. No I/O, no time, no
 * threads, no call upward. HTTP/1 (h1.h) and HTTP/2 (h2.h) fulfil it at both ends of a connection;
 * the exchange, the pools and the small server know nothing else of either.
 *
 * Reading is pulled: one event a call, until MORE. An event borrows from the input and from the
 * codec until the next call on that codec. Writing is pulled too: FULL means that this stream's
 * window (or the codec's own output mark) is used up; a later CODEC_WINDOW event, or the out buf
 * having drained, makes room. */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "http/message.h"

enum codec_side { CODEC_SERVER, CODEC_CLIENT };

enum codec_step {
    CODEC_EVENT, /* *ev is filled */
    CODEC_MORE,  /* all input that can be used is consumed; more bytes are needed */
    CODEC_BAD /* the connection cannot go on: codec->bad says why; write what the codec owes, then
                 close */
};

enum codec_room {
    CODEC_DONE, /* the whole command was taken */
    CODEC_FULL  /* no room: cmd->data was advanced by what was taken; try again later */
};

/* X(value, meaning) */
#define CODEC_EVENTS(X)                                                                            \
    X(HEAD,                                                                                        \
      "a request's head, or a final response's (also 101, which opens a tunnel); ev->message")     \
    X(INTERIM, "a 1xx response; ev->message")                                                      \
    X(DATA, "body bytes; ev->data")                                                                \
    X(TRAILERS, "trailer fields; ev->message.headers; END follows")                                \
    X(END, "this direction of the stream is complete")                                             \
    X(REFUSED, "the message is bad, the connection is not (HTTP/1: answer, then close); ev->bad")  \
    X(RESET, "the peer gave the stream up; ev->code (RFC 9113 7)")                                 \
    X(WINDOW, "the stream may write again; stream 0: every stream may")                            \
    X(GOAWAY, "the peer takes no stream above ev->stream; ev->code")                               \
    X(SETTINGS, "the peer's first SETTINGS arrived, or its limits changed")                        \
    X(PONG, "the answer to our PING; ev->data is its eight bytes")                                 \
    X(PEER, "a PEER frame of pillion-h2; ev->data is its payload, ev->stream its stream")

enum codec_event_kind {
#define X(value, meaning) CODEC_EV_##value,
    CODEC_EVENTS(X)
#undef X
};

/* Why a codec gives up or refuses. X(value, HTTP status to answer, HTTP/2 error code, metric label)
 */
#define CODEC_BADS(X)                                                                              \
    X(NONE, 0, 0, "none")                                                                          \
    X(REQUEST_LINE, 400, 1, "request_line")                                                        \
    X(VERSION, 505, 1, "version")                                                                  \
    X(METHOD, 501, 1, "method")                                                                    \
    X(TARGET, 400, 1, "target")                                                                    \
    X(TARGET_LONG, 414, 1, "target_too_long")                                                      \
    X(STATUS_LINE, 502, 1, "status_line")                                                          \
    X(FIELD, 400, 1, "field")                                                                      \
    X(FIELD_SPACE, 400, 1, "space_before_colon")                                                   \
    X(OBS_FOLD, 400, 1, "obs_fold")                                                                \
    X(BARE_CR, 400, 1, "bare_cr")                                                                  \
    X(BARE_LF, 400, 1, "bare_lf")                                                                  \
    X(NUL, 400, 1, "nul")                                                                          \
    X(HOST, 400, 1, "host")                                                                        \
    X(CONTENT_LENGTH, 400, 1, "content_length")                                                    \
    X(LENGTH_AND_CODING, 400, 1, "length_and_coding")                                              \
    X(CODING, 501, 1, "transfer_coding")                                                           \
    X(CODING_ORDER, 400, 1, "transfer_coding_order")                                               \
    X(CODING_VERSION, 400, 1, "transfer_coding_in_1_0")                                            \
    X(CHUNK, 400, 1, "chunk")                                                                      \
    X(HEAD_LARGE, 431, 11, "head_too_large")                                                       \
    X(HEAD_COUNT, 431, 11, "too_many_fields")                                                      \
    X(EXPECT, 417, 1, "expect")                                                                    \
    X(CUT, 400, 1, "cut_message")                                                                  \
    X(PROTOCOL, 400, 1, "protocol_error")                                                          \
    X(FLOW, 400, 3, "flow_control")                                                                \
    X(STREAM_CLOSED, 400, 5, "stream_closed")                                                      \
    X(FRAME_SIZE, 400, 6, "frame_size")                                                            \
    X(COMPRESSION, 400, 9, "compression")                                                          \
    X(FLOOD, 429, 11, "flood")                                                                     \
    X(SETTINGS_LATE, 400, 4, "settings_timeout")                                                   \
    X(HTTP_1_1_REQUIRED, 400, 13, "http_1_1_required")

enum codec_bad {
#define X(value, status, code, label) CODEC_BAD_##value,
    CODEC_BADS(X)
#undef X
        CODEC_BAD_COUNT
};

const char *codec_event_name(enum codec_event_kind kind);
const char *codec_bad_name(enum codec_bad bad); /* the metric label */
uint16_t codec_bad_status(enum codec_bad bad);
uint32_t codec_bad_code(enum codec_bad bad);

struct codec_event {
    enum codec_event_kind kind;
    uint32_t stream; /* HTTP/1: the request's ordinal on its connection, from 1 */
    struct message
        *message;      /* HEAD, INTERIM, TRAILERS; borrowed, the caller may edit it in place */
    struct slice data; /* DATA, PONG, PEER; borrowed */
    bool end;      /* HEAD, DATA, TRAILERS: the END that follows is known now; END still comes */
    uint32_t code; /* RESET, GOAWAY */
    enum codec_bad bad; /* REFUSED */
};

/* X(value, meaning) */
#define CODEC_COMMANDS(X)                                                                          \
    X(HEAD, "a request's head or a final response's (also 101); cmd->message, cmd->end")           \
    X(INTERIM, "a 1xx response; cmd->message")                                                     \
    X(DATA, "body bytes from cmd->data, moved or borrowed as far as there is room; cmd->end")      \
    X(TRAILERS, "trailer fields, which end the message; cmd->message->headers")                    \
    X(END, "the message is complete")                                                              \
    X(RESET, "give the stream up with cmd->code; HTTP/1: the connection must be closed")           \
    X(CONSUMED, "cmd->len body bytes were passed on: give that much window back")                  \
    X(GOAWAY, "take no new stream; cmd->code; cmd->len 1: first step only (RFC 9113 6.8)")         \
    X(PING, "cmd->bytes: eight bytes that come back as PONG")                                      \
    X(PEER, "a PEER frame on cmd->stream; cmd->bytes")

enum codec_cmd_kind {
#define X(value, meaning) CODEC_CMD_##value,
    CODEC_COMMANDS(X)
#undef X
};

struct codec_cmd {
    enum codec_cmd_kind kind;
    uint32_t stream;
    const struct message *message;
    struct buf *data;   /* DATA: the codec takes from its front */
    struct slice bytes; /* PING, PEER */
    bool end;
    uint32_t code;
    uint64_t len;
};

struct codec;

struct codec_ops {
    const char *name; /* "HTTP/1.1", "HTTP/2" */
    bool multiplexes; /* many streams at once */
    enum codec_step (*read)(struct codec *, struct slice *in, struct codec_event *ev);
    enum codec_step (*eof)(struct codec *, struct codec_event *ev);
    enum codec_room (*write)(struct codec *, struct buf *out, struct codec_cmd *cmd);
    /* Client side: the number of a new stream; 0 when the peer's limit, or the id space, is used
     * up. */
    uint32_t (*open)(struct codec *);
    /* Body bytes that the stream may write now (HTTP/1: UINT32_MAX). */
    uint32_t (*window)(const struct codec *, uint32_t stream);
    /* Server side of HTTP/1: gives up the head that is being read, for which there is no more time,
     * and all that follows it; the number of the stream on which that is answered, or 0 where no
     * head is awaited. Null: a head that is late holds up nobody but its stream. */
    uint32_t (*give_up_head)(struct codec *);
    /* True when no stream is open and none can follow (Connection: close, GOAWAY, bad input):
     * close the connection once its output is flushed. */
    bool (*finished)(const struct codec *);
    /* What time it is, in microseconds of any clock that does not go back; null: no use for it. */
    void (*tick)(struct codec *, uint64_t now_us);
    void (*free)(struct codec *);
};

/* Common beginning of every codec. */
struct codec {
    const struct codec_ops *ops;
    enum codec_bad bad; /* set with CODEC_BAD */
};

/* Takes from the front of *in what it can; *in is advanced past what was consumed. What is left
 * over after MORE (an incomplete head) the caller keeps and presents again with more behind it. */
static inline enum codec_step codec_read(struct codec *codec, struct slice *in,
                                         struct codec_event *ev)
{
    return codec->ops->read(codec, in, ev);
}

/* The peer sent FIN; called until MORE. Ends a body that lasts until close, and says what was cut.
 */
static inline enum codec_step codec_eof(struct codec *codec, struct codec_event *ev)
{
    return codec->ops->eof(codec, ev);
}

/* Appends the command's bytes to `out`. A null command: what the codec itself owes (preface,
 * SETTINGS and PING answers, windows, an error's GOAWAY or 4xx), which it keeps, capped. */
static inline enum codec_room codec_write(struct codec *codec, struct buf *out,
                                          struct codec_cmd *cmd)
{
    return codec->ops->write(codec, out, cmd);
}

/* What the codec itself owes. A codec of one stream at a time owes nothing that no command wrote.
 */
static inline void codec_write_owed(struct codec *codec, struct buf *out)
{
    if (codec->ops->multiplexes) {
        (void)codec->ops->write(codec, out, NULL);
    }
}

static inline uint32_t codec_open(struct codec *codec)
{
    return codec->ops->open(codec);
}

static inline uint32_t codec_give_up_head(struct codec *codec)
{
    return codec->ops->give_up_head != NULL ? codec->ops->give_up_head(codec) : 0;
}

/* Before reading, once a run: refills what a peer may do per second. */
static inline void codec_tick(struct codec *codec, uint64_t now_us)
{
    if (codec->ops->tick != NULL) {
        codec->ops->tick(codec, now_us);
    }
}

static inline bool codec_finished(const struct codec *codec)
{
    return codec->ops->finished(codec);
}

/* Frees the codec; sets the caller's pointer to null. */
static inline void codec_free(struct codec **codec)
{
    if (*codec != NULL) {
        (*codec)->ops->free(*codec);
        *codec = NULL;
    }
}
