#pragma once
/* A queue of bytes, held as pieces: owned (in counted chunks, of 16 KiB from a per-worker pool) or
 * borrowed (somebody else's memory, by default the loop's shared receive buffer). A body that can
 * be written on in the tick in which it came is never copied: it is borrowed from the receive
 * buffer and handed to sendmsg. What cannot is settled: copied into chunks before the lender takes
 * its memory back. The lender keeps the list of those who still borrow, so correctness never
 * depends on the order in which things run.
 *
 * An empty buf holds no memory. Budgets: each chunk is charged to the pool's budget, which a worker
 * checks before it takes more work (memory ceiling). One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/check.h"
#include "base/list.h"
#include "base/slice.h"

#define BUF_CHUNK_BYTES 16384

struct buf_chunk;
struct buf_piece;

/* Chunks and pieces for all bufs of a worker. */
struct buf_pool {
    struct buf_chunk *free;
    struct buf_piece *free_pieces;
    unsigned kept; /* chunks in `free` */
    unsigned kept_pieces;
    unsigned keep_max;     /* more go back to the heap */
    unsigned spare;        /* the fewest chunks in `free` since the last trim */
    uint64_t bytes;        /* charged now: chunks that a buf holds */
    struct list borrowers; /* bufs with a piece borrowed from `lent` memory */
};

struct buf {
    struct buf_pool *pool;
    struct buf_piece *first;
    struct buf_piece *last;
    size_t len;            /* bytes queued */
    struct list borrowing; /* in pool->borrowers while a piece is borrowed */
};

void buf_pool_init(struct buf_pool *pool, unsigned keep_max);
void buf_pool_fini(struct buf_pool *pool);
/* Gives the chunks that nobody asked for since the last trim back to the heap. */
void buf_pool_trim(struct buf_pool *pool);
/* Copies what every borrower still holds into chunks. The lender calls it before it uses its memory
 * again. */
void buf_pool_settle(struct buf_pool *pool);

void buf_init(struct buf *buf, struct buf_pool *pool);
void buf_drop_pieces(struct buf *buf);
/* Drops all bytes; the buf may be used again. */
static inline void buf_clear(struct buf *buf)
{
    if (buf->first != NULL) {
        buf_drop_pieces(buf);
    }
}

static inline bool buf_empty(const struct buf *buf)
{
    return buf->len == 0;
}

/* Copies bytes to the end. */
void buf_append(struct buf *buf, struct slice bytes);
/* Queues bytes without a copy; they stay valid until buf_pool_settle. */
void buf_borrow(struct buf *buf, struct slice bytes);
/* Room for at least `min` bytes (<= BUF_CHUNK_BYTES) at the end, to be written and then committed.
 */
struct span buf_reserve(struct buf *buf, size_t min) MUST_USE;
void buf_commit(struct buf *buf, size_t len);
/* The first contiguous bytes; empty when the buf is. Valid until the next change of the buf. */
struct slice buf_front(const struct buf *buf);
/* Drops the first `len` bytes (<= len of the buf). */
void buf_consume(struct buf *buf, size_t len);
/* Drops the last `len` bytes (<= len of the buf). */
void buf_cut_end(struct buf *buf, size_t len);
/* Moves the first `len` bytes of `from` to the end of `to` without a copy; both use one pool. */
void buf_move(struct buf *to, struct buf *from, size_t len);
/* Appends the bytes [from, from + len) of `source` to `to` by counting its chunks, without a copy
 * where they are owned; borrowed ones are copied. For replay and mirrors. */
void buf_share(struct buf *to, const struct buf *source, size_t from, size_t len);
/* Up to `max` vectors over the front; returns how many. */
int buf_iovec(const struct buf *buf, struct iovec *vectors, int max);
/* Copies up to `into.len` bytes from the front without consuming; returns how many. */
size_t buf_peek(const struct buf *buf, struct span into);
