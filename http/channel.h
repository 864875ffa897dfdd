#pragma once
/* A connection that speaks a codec. It reads once a run, hands out the codec's events one by one,
 * gathers output and sends it once: at the end of the tick where many streams share it, else when
 * its one exchange has run. It holds no buffer while it is idle.
 *
 * The owner (a server's connection, a pool's connection) is a task; it runs on readiness, pulls
 * events with channel_next until CHANNEL_QUIET, and gives those of a stream to channel_deliver,
 * which keeps them on the stream and posts the stream's owner. Nothing here calls up. One thread.
 *
 * A stream is one end of an exchange: what came and was not passed on yet, and the way out. It is
 * embedded in its exchange or attempt, which outlives neither the channel nor the reverse: either
 * may go first. */

#include <stdbool.h>
#include <stdint.h>

#include "base/conn.h"
#include "base/loop.h"
#include "http/codec.h"

/* Marks of one stream and one channel. Above the high mark reading (or writing) pauses, below the
 * low one it goes on. */
#define STREAM_IN_HIGH   (64U * 1024)
#define STREAM_IN_LOW    (32U * 1024)
#define CHANNEL_OUT_HIGH (64U * 1024)
#define CHANNEL_OUT_LOW  (16U * 1024)
/* A shared connection sends once a tick, or as soon as this much waits: then it is still where it
 * was received, in the receive buffer and in the processor's cache. */
#define CHANNEL_OUT_MUCH (32U * 1024)
/* Bytes of pipelined requests that are held while an answer is pending. */
#define CHANNEL_PIPELINE_MAX (16U * 1024)
/* Received from one connection in a tick, before others have their turn. */
#define CHANNEL_TURN_BYTES (128U * 1024)

struct stream;

enum channel_step {
    CHANNEL_EVENT, /* *ev is filled */
    CHANNEL_QUIET, /* nothing more in this run */
    CHANNEL_EOF,   /* the peer sent FIN and all that it meant was handed out; once */
    CHANNEL_BAD,   /* the codec gave up: codec->bad */
    CHANNEL_GONE   /* the connection was reset: net error */
};

struct channel {
    struct loop *loop;
    struct conn *conn;   /* owned */
    struct codec *codec; /* owned */
    struct task *owner;  /* runs on readiness */
    struct buf out;      /* bytes on their way to the peer */
    struct slice input;  /* the receive buffer's unread part, during a run */
    uint8_t *tail;       /* an incomplete frame or head, or pipelined bytes; null: none */
    uint32_t tail_len;
    uint32_t stream_count;
    uint32_t bucket_mask;
    struct stream **buckets; /* its streams, in chains by id: `one`, or an array that grew */
    struct stream *one;
    struct list starved; /* streams that wait for room in `out`, and got none when there was some */
    struct list blocked; /* those that wait and had their turn */
    struct task flush;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t turn_us;    /* the tick in which it last received */
    uint32_t turn_bytes; /* in that tick */
    bool filled;         /* this run has received */
    bool again;          /* the codec may go on without new bytes */
    bool eof;            /* FIN seen */
    bool eof_told;
    bool hears_out; /* the owner's wish: what came before a reset is read, as an answer may be */
    bool deaf;      /* sending was answered by a reset; what came before it is read, then gone */
    bool gone;      /* no more I/O */
    bool paused;    /* a stream is above its high mark (HTTP/1, raw) */
    bool fin;       /* send FIN when `out` is empty */
    bool fin_sent;
    bool death_told; /* a stream has learnt that the connection ended */
    bool cut;        /* a tunnel on it ended short: FIN would tell its peer that it is whole */
};

/* Takes conn and codec. `owner` becomes the connection's owner. */
void channel_init(struct channel *channel, struct loop *loop, struct conn **conn,
                  struct codec **codec, struct task *owner);
/* Loses every stream, closes the connection (`reset`: with RST) and frees codec and buffers. */
void channel_fini(struct channel *channel, bool reset);

/* Takes the connection out of a channel on which nothing came and nothing went; what is left of the
 * channel is for channel_fini. */
struct conn *channel_release(struct channel *channel) MUST_USE;

/* First in each run of the owner. */
void channel_begin(struct channel *channel);
/* The next event; receives at most once a run (the owner is posted again where more may wait). */
enum channel_step channel_next(struct channel *channel, struct codec_event *ev);
/* Keeps an event of a stream on it and posts its owner. False: no such stream here (it ended, or
 * the event begins one). A message is copied into the stream's arena. */
bool channel_deliver(struct channel *channel, const struct codec_event *ev);

/* Sends what is in `out`; wakes streams that waited for room. IO_AGAIN: goes on at the next write
 * event. IO_RESET: the connection is gone, and all streams are lost. Also writes what the codec
 * owes. */
enum io channel_flush(struct channel *channel);
/* The same at the end of this tick. */
void channel_flush_soon(struct channel *channel);
/* Many streams: at the end of the tick; one: now. */
void channel_push(struct channel *channel);
/* What was written may let the codec say more without new bytes: the owner is posted to ask it. */
void channel_ask_again(struct channel *channel);
/* Every stream learns that its connection is gone. */
void channel_lose_streams(struct channel *channel);
/* Whether output waits for the peer: here, or inside TLS (which then wants the write event). */
static inline bool channel_unsent(const struct channel *channel)
{
    return !buf_empty(&channel->out) || (channel->conn->net->wanted & NET_WRITE) != 0;
}
/* True when nothing is open on it and it cannot be used again: close it once `out` is empty. */
bool channel_finished(const struct channel *channel);

/* What woke a stream's owner; the owner clears what it has dealt with. */
enum stream_event {
    STREAM_HEAD = 1,    /* final head in `head` */
    STREAM_INTERIM = 2, /* 1xx in `interims` */
    STREAM_DATA = 4,    /* bytes in `in` */
    STREAM_END = 8,     /* the peer's direction is complete (in_end); trailers may be there */
    STREAM_RESET = 16,  /* the peer gave it up: reset_code */
    STREAM_LOST =
        32, /* the connection is gone; channel is null; bad: what the codec held against it */
    STREAM_ROOM = 64,    /* writing may go on */
    STREAM_REFUSED = 128 /* the message is bad: bad */
};

/* In the stream's arena: several may come in one read. */
struct stream_interim {
    struct stream_interim *next;
    struct message *message;
};

struct stream {
    struct channel *channel; /* null: not on a channel, or no longer */
    struct stream *next_in_bucket;
    struct list blocked;             /* in channel->starved or ->blocked */
    struct task *owner;              /* posted when an event bit is set */
    struct arena *arena;             /* for heads and trailers */
    struct message *head;            /* client side: the final head */
    struct stream_interim *interims; /* not passed on yet, the oldest first */
    struct message *trailers;
    struct slice note;  /* the first PEER frame on it; the arena's; empty: none came */
    struct buf in;      /* body bytes that came and were not passed on */
    uint64_t in_bytes;  /* body bytes that ever came */
    uint64_t out_bytes; /* body bytes that were ever written */
    uint32_t id;
    uint32_t reset_code;
    uint16_t events;   /* enum stream_event */
    uint8_t bad;       /* enum codec_bad */
    bool shared_death; /* LOST, or RESET by it: another stream was told before of the same end */
    /* Lost to the peer's alert, before it had sent a byte: it took no request. Null: not so. */
    const char *refusal;
    bool in_end;  /* nothing will follow what is in `in` */
    bool out_end; /* we have written the end */
    bool tunnel;  /* the connection is this stream's bytes now: its end is FIN */
};

void stream_init(struct stream *stream, struct loop *loop, struct arena *arena, struct task *owner);
/* Puts it on a channel: server side under the id of the HEAD event; client side under 0, which
 * keeps a place for it until stream_open. */
void stream_attach(struct stream *stream, struct channel *channel, uint32_t id);
/* Client side: gets its id; its head must be written next. False: the codec has no stream left, or
 * the connection is gone. */
bool stream_open(struct stream *stream) MUST_USE;
/* Takes it off its channel, if it is on one, and drops what it holds. A direction that is not
 * complete is not reset by this: stream_reset does that first. */
void stream_fini(struct stream *stream);
void stream_detach(struct stream *stream);

/* Writing. On a stream without channel nothing happens and CODEC_DONE is returned: STREAM_LOST says
 * it. */
void stream_write_head(struct stream *stream, const struct message *message, bool end);
/* From now on the stream carries bytes: on HTTP/1 and raw connections its end is a FIN, also one
 * that was written before anybody knew. */
void stream_become_tunnel(struct stream *stream);
void stream_write_interim(struct stream *stream, const struct message *message);
/* Takes from the front of `from` what there is room for. FULL: STREAM_ROOM follows. `end`: the
 * message ends with the last byte of `from` (also when it is empty). */
enum codec_room stream_write_data(struct stream *stream, struct buf *from, bool end);
void stream_write_trailers(struct stream *stream, const struct message *trailers);
/* Gives the stream up with an HTTP/2 error code and detaches it. HTTP/1: the connection cannot go
 * on. */
void stream_reset(struct stream *stream, uint32_t code);
/* `len` bytes of `in` were passed on: gives window back, or lets reading go on. */
void stream_consumed(struct stream *stream, size_t len);
