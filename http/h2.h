#pragma once
/* HTTP/2 at either end of a connection (RFC 9113, RFC 7541, RFC 8441) behind codec.h. Pure: no I/O,
 * no time but what codec_tick says. One codec per connection, one thread.
 *
 * What the contract means here:
 * - A frame's payload but DATA's is read whole, so the caller keeps at most 16 KiB and 9 bytes of
 *   unread input. DATA is handed up as it comes.
 * - Messages borrow from the pool's scratch: until the next codec_read with the same pool.
 * - RESET: the stream is gone, by the peer's RST_STREAM, by an error of the stream that the codec
 *   answered itself, by GOAWAY below its number (code REFUSED_STREAM), or by the connection's end
 *   (codec_eof: INTERNAL_ERROR). Commands on a stream that is gone are taken and do nothing.
 * - REFUSED: a message that is malformed or too large. Nothing more comes on that stream; a server
 *   may answer (codec_bad_status) and END, after which the codec resets what must be reset; a
 *   client gives RESET.
 * - CONSUMED gives window back to the stream, half a window at a time. The connection's window is
 *   as large as it can be and returned on receipt: only streams push back.
 * - HEAD must directly follow codec_open: a stream's number counts as used from its HEADERS on.
 * - Upgrade: message->protocol is written as extended CONNECT, and read as a GET with a protocol; a
 *   101 is written as the 200 that extended CONNECT wants (RFC 8441 5).
 * - DATA answers FULL when the window is used up (a WINDOW event follows), or while `out` holds
 *   output_mark bytes. */

#include <stdbool.h>
#include <stdint.h>

#include "http/codec.h"
#include "http/h2_frame.h"

/* What a peer may do without use before the connection ends with ENHANCE_YOUR_CALM. Each is a
 * bucket, refilled by codec_tick, and by what the peer does with use.
 * X(name, burst, refill per second, meaning) */
#define H2_BUDGETS(X)                                                                              \
    X(RESET, 1000, 100, "streams opened and reset before our answer's end; an answer gives one")   \
    X(GLITCH, 500, 50, "errors of one stream, that make us reset it; an answer gives one")         \
    X(CONTROL, 2000, 200, "PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown frames")

enum h2_budget {
#define X(name, burst, refill, meaning) H2_BUDGET_##name,
    H2_BUDGETS(X)
#undef X
        H2_BUDGET_COUNT
};

struct h2_options {
    enum codec_side side;
    bool huffman;                 /* code our strings; not worth its time between sidecars */
    bool peer_frames;             /* ALPN pillion-h2: PEER frames, and how names are spelled */
    bool enable_connect_protocol; /* server: take extended CONNECT (RFC 8441) */
    uint32_t
        max_concurrent_streams;   /* that the peer may open, or that we open before its SETTINGS */
    uint32_t initial_window;      /* of a stream, bytes */
    uint32_t window_max;          /* to which a stream's window grows, bytes */
    uint32_t header_table_bytes;  /* of the decoder; at most HPACK_TABLE_MAX */
    uint32_t encoder_table_bytes; /* at most HPACK_TABLE_MAX */
    uint32_t max_header_list;     /* bytes as RFC 9113 6.5.2 counts; at most H2_HEADER_LIST_MAX */
    uint16_t max_headers;         /* fields of one message; at most HEADERS_MAX */
    uint16_t max_continuations;   /* CONTINUATION frames of one block */
    uint32_t output_mark;         /* DATA is not written while `out` holds as much */
    uint32_t owed_max;            /* bytes of answers kept until they are written */
    struct {
        uint32_t burst;
        uint32_t per_second;
    } budget[H2_BUDGET_COUNT];
};

#define H2_HEADER_LIST_MAX 65536

/* Defaults: 100 streams, 64 KiB windows that grow to 1 MiB, 60 KiB and 100 fields a head. */
struct h2_options h2_options_default(enum codec_side side);

/* What all codecs of a thread share: scratch for the message being read, idle stream objects. */
struct h2_pool;
struct h2_pool *h2_pool_new(void) MUST_USE;
/* After every codec that used it. */
void h2_pool_free(struct h2_pool **pool);

/* Both outlive the codec. Never null. */
struct codec *h2_new(struct h2_pool *pool, const struct h2_options *options) MUST_USE;

/* What codec_tick calls: refills the budgets by the time since the last call; any clock that does
 * not go back. */
void h2_tick(struct codec *codec, uint64_t now_us);
/* Memory pressure: no stream's window is grown beyond `bytes`, larger ones shrink as they are
 * consumed. At least the initial window. */
void h2_limit_windows(struct codec *codec, uint32_t bytes);

/* Streams alive. */
uint32_t h2_streams(const struct codec *codec);
/* Streams that codec_open may have alive at once, by the peer's SETTINGS. */
uint32_t h2_peer_max_streams(const struct codec *codec);
/* Client: the peer takes extended CONNECT (its SETTINGS_ENABLE_CONNECT_PROTOCOL). */
bool h2_peer_takes_connect_protocol(const struct codec *codec);
/* The peer's SETTINGS arrived. */
bool h2_heard_settings(const struct codec *codec);
/* The peer's SETTINGS arrived and it acknowledged ours (RFC 9113 6.5.3; the caller's timer). */
bool h2_settled(const struct codec *codec);
/* The stream whose field block has begun and not ended; 0: none. Nothing else may come meanwhile.
 */
uint32_t h2_unfinished_block(const struct codec *codec);
/* Answers wait for a codec_write, with or without a command. */
bool h2_owes(const struct codec *codec);
/* Heap bytes of this connection, its streams included. */
size_t h2_memory(const struct codec *codec);
