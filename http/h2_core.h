#pragma once
/* The inside of the HTTP/2 codec, shared by h2.c (life, streams, budgets), h2_read.c and h2_write.c
 * and by nobody else. */

#include "base/check.h"
#include "http/h2.h"
#include "http/h2_hpack.h"
#include "http/h2_message.h"

/* RFC 9113 5.1, without push. Idle streams have no object, closed ones lose it.
 * X(name, meaning, moves to) */
#define H2_STATES(X)                                                                               \
    X(NEW, "numbered by codec_open, no head written yet", 0x12)                                    \
    X(OPEN, "both directions flow", 0x1c)                                                          \
    X(HALF_LOCAL, "we ended, the peer has not", 0x10)                                              \
    X(HALF_REMOTE, "the peer ended, we have not", 0x10)                                            \
    X(CLOSED, "both ended, or it was reset", 0x00)

enum h2_state {
#define X(name, meaning, moves) H2_STATE_##name,
    H2_STATES(X)
#undef X
};

struct h2_stream {
    struct h2_stream *next; /* in its bucket, or among the pool's idle ones */
    uint32_t id;
    uint8_t state;       /* enum h2_state */
    uint8_t refused;     /* enum codec_bad; not NONE: what comes is dropped */
    bool head_read : 1;  /* the final head came: DATA, or trailers, may follow */
    bool asked_head : 1; /* client: the request is a HEAD, its answer has no body */
    bool tunnel : 1;     /* CONNECT, plain or extended */
    bool blocked : 1;    /* FULL was answered for want of window; WINDOW is owed */
    int64_t send_window;
    int64_t recv_window;  /* what the peer may still send */
    uint32_t recv_target; /* size that the window is kept at */
    uint32_t unconsumed;  /* handed up as DATA, not CONSUMED yet */
    uint32_t returnable;  /* consumed (or padding), not given back yet */
    uint64_t body_left;   /* by content-length; MESSAGE_LENGTH_UNKNOWN: any */
};

#define H2_BUCKETS_MIN  4
#define H2_STREAMS_KEPT 64  /* idle stream objects in a pool */
#define H2_FIELDS_MAX   256 /* of one block, cookie crumbs included */

struct h2_pool {
    struct h2_stream *idle;
    unsigned kept;
    struct message message;
    struct hpack_list list;
    struct header fields[H2_FIELDS_MAX];
};

enum h2_phase { H2_PHASE_PREFACE, H2_PHASE_SETTINGS, H2_PHASE_FRAMES };

/* The DATA frame that is being read. */
struct h2_data {
    uint32_t stream; /* 0: its bytes are dropped */
    uint32_t left;
    uint16_t padding;
    bool reading;
    bool end;
};

/* A field block that came in pieces. */
struct h2_block {
    uint8_t *at; /* null: none */
    uint32_t len;
    uint32_t room;
    uint32_t stream;
    uint16_t frames;
    bool end_stream;
    bool self_dependent;
};

struct h2 {
    struct codec codec;
    const struct h2_options *options;
    struct h2_pool *pool;
    struct hpack_decoder decoder;
    struct hpack_encoder encoder;

    struct h2_stream **buckets;
    struct h2_stream *few[H2_BUCKETS_MIN];
    struct h2_stream *recent; /* the last one found */
    uint32_t bucket_mask;
    uint32_t streams;
    uint32_t last_id;   /* highest number of a stream that was opened, by the client side */
    uint32_t next_id;   /* client: the next to give out */
    uint32_t head_id;   /* client: of the last head that was written */
    uint64_t opened;    /* bit n: last_id - 2n was really opened */
    uint64_t forgotten; /* bit n: we reset last_id - 2n, what still comes for it is dropped */

    int64_t send_window;
    int64_t recv_window;
    uint32_t peer_window; /* the peer's SETTINGS_INITIAL_WINDOW_SIZE */
    uint32_t our_window;  /* ours, as far as acknowledged */
    uint32_t window_max;
    uint32_t peer_streams; /* the peer's SETTINGS_MAX_CONCURRENT_STREAMS */

    uint32_t end_due;      /* stream whose END is to be told next; 0: none */
    uint32_t goaway_sent;  /* last number in it; UINT32_MAX: none was sent */
    uint32_t goaway_read;  /* the same of the peer's */
    uint32_t probe_stream; /* stream whose bytes are counted over a round trip; 0: none */
    uint32_t probe_bytes;
    uint64_t now_us; /* as h2_tick said it last */
    uint64_t probe_us;
    uint64_t trip_us;      /* the shortest round trip of late; 0: none was measured */
    uint64_t trip_seen_us; /* when it was */
    struct h2_data data;
    struct h2_block block;

    uint8_t *owed; /* frames that answer what was read; null: none */
    uint32_t owed_len;
    uint32_t owed_room;
    uint32_t budget[H2_BUDGET_COUNT];
    uint64_t tick_ms;

    uint8_t phase; /* enum h2_phase */
    uint8_t preface_read;
    uint8_t pong[8];
    bool opening_due : 1; /* our preface and SETTINGS are still to be written */
    bool settings_acked : 1;
    bool failed : 1;
    bool ticked : 1;
    bool blocked : 1;      /* FULL was answered for want of the connection's window */
    bool settings_due : 1; /* events to tell */
    bool window_due : 1;
    bool sweep_due : 1;
    bool peer_connect : 1;
    bool gone : 1; /* codec_eof was called */
};

static inline struct h2 *h2_of(struct codec *codec)
{
    return CONTAINER_OF(codec, struct h2, codec);
}

static inline const struct h2 *h2_const(const struct codec *codec)
{
    return (const struct h2 *)(const void *)codec;
}

static_assert(offsetof(struct h2, codec) == 0, "h2_const relies on it");

static inline bool h2_is_server(const struct h2 *h2)
{
    return h2->options->side == CODEC_SERVER;
}

/* --- h2.c --- */

/* A new stream in `state`; its number must be the highest so far. */
struct h2_stream *h2_stream_new(struct h2 *h2, uint32_t id, enum h2_state state);
/* Null when there is none with that number. */
struct h2_stream *h2_stream_find(struct h2 *h2, uint32_t id);
/* The only setter of states; CLOSED frees the stream. */
void h2_stream_move(struct h2 *h2, struct h2_stream *stream, enum h2_state to);
/* This direction is complete. */
void h2_stream_end_local(struct h2 *h2, struct h2_stream *stream);
void h2_stream_end_remote(struct h2 *h2, struct h2_stream *stream);
/* Frees it; what still comes under its number is dropped. */
void h2_stream_forget(struct h2 *h2, struct h2_stream *stream);
/* Notes that a number was used, and (`forgotten`) that frames for it are to be dropped. */
void h2_note_id(struct h2 *h2, uint32_t id, bool forgotten);
bool h2_was_opened(const struct h2 *h2, uint32_t id);
bool h2_is_forgotten(const struct h2 *h2, uint32_t id);
/* First stream of any that the predicate wants; null when none. */
struct h2_stream *h2_stream_any(struct h2 *h2,
                                bool (*wanted)(const struct h2 *, const struct h2_stream *));

/* Spends from a budget; false: it is used up, and the connection has failed. */
bool h2_spend(struct h2 *h2, enum h2_budget budget, uint32_t cost) MUST_USE;
void h2_earn(struct h2 *h2, enum h2_budget budget, uint32_t gain);

/* Keeps frames until the next write. Over the cap: the connection has failed. */
void h2_owe(struct h2 *h2, const uint8_t *bytes, size_t len);
void h2_owe_reset(struct h2 *h2, uint32_t id, uint32_t code);
void h2_owe_window(struct h2 *h2, uint32_t id, uint32_t increment);
/* The connection cannot go on: GOAWAY is owed. Returns CODEC_BAD. */
enum codec_step h2_fail(struct h2 *h2, enum codec_bad bad);

/* --- reading: h2_read.c, h2_read_blocks.c, h2_read_control.c --- */

/* What a handler says: an event is filled, go on reading, or the connection has failed. */
enum h2_next { H2_NEXT_EVENT, H2_NEXT_FRAME, H2_NEXT_BAD };

enum h2_next h2_bad(struct h2 *h2, enum codec_bad reason);
enum h2_next h2_tell(struct codec_event *ev, enum codec_event_kind kind, uint32_t stream);
enum h2_next h2_tell_reset(struct codec_event *ev, uint32_t stream, uint32_t code);
/* An error of one stream: it is reset and gone. */
enum h2_next h2_stream_error(struct h2 *h2, struct h2_stream *stream, enum h2_code code,
                             struct codec_event *ev);
/* The same for a number without a stream. */
enum h2_next h2_late_error(struct h2 *h2, uint32_t id, enum h2_code code);
/* The END_STREAM of a message that nobody wants any more. A client's stream stays until it is
 * reset. */
void h2_absorb_end(struct h2 *h2, struct h2_stream *stream);
/* The message cannot be used. The stream lives until the caller has answered or reset it; a server
 * that has answered already resets it here. `end`: the message is complete. */
enum h2_next h2_refuse(struct h2 *h2, struct h2_stream *stream, enum codec_bad reason, bool end,
                       struct codec_event *ev);
/* A number that no stream of ours or the peer's can have had yet (RFC 9113 5.1, idle). */
bool h2_is_idle(const struct h2 *h2, uint32_t id);

/* One whole frame each. */
#define H2_READERS(X)                                                                              \
    X(headers) X(continuation) X(rst) X(ping) X(goaway) X(window_update) X(priority) X(peer)
#define X(name)                                                                                    \
    enum h2_next h2_read_##name(struct h2 *h2, const struct h2_frame *frame, struct slice payload, \
                                struct codec_event *ev);
H2_READERS(X)
#undef X
enum h2_next h2_read_settings(struct h2 *h2, const struct h2_frame *frame, struct slice payload);

/* --- h2_read.c, h2_write.c: the operations of codec.h --- */
enum codec_step h2_read(struct codec *codec, struct slice *in, struct codec_event *ev);
enum codec_step h2_eof(struct codec *codec, struct codec_event *ev);
enum codec_room h2_write(struct codec *codec, struct buf *out, struct codec_cmd *cmd);
