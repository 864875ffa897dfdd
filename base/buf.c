#include "base/buf.h"

#include <stdalign.h>
#include <string.h>

#include "base/alloc.h"

/* A chunk is shared when a replay buffer or a mirror counts it too; only its newest piece may grow
 * it, and only while nobody else counts it. */
struct buf_chunk {
    struct buf_chunk *next_free;
    uint32_t refs;
    uint32_t used; /* bytes handed out from the front */
    uint32_t room; /* BUF_CHUNK_BYTES, or less where a few bytes were settled */
    alignas(16) uint8_t bytes[];
};

struct buf_piece {
    struct buf_piece *next;
    struct buf_chunk *chunk; /* null: borrowed */
    const uint8_t *at;
    size_t len;
};

/* Pieces come from the heap by the slab: one allocation serves many, and an idle pool keeps them.
 */
#define PIECES_KEEP 256
#define COPY_MAX    512
#define TIGHT_MAX   2048

void buf_pool_init(struct buf_pool *pool, unsigned keep_max)
{
    *pool = (struct buf_pool){.keep_max = keep_max};
    list_init(&pool->borrowers);
}

void buf_pool_fini(struct buf_pool *pool)
{
    CHECK(list_empty(&pool->borrowers));
    while (pool->free != NULL) {
        struct buf_chunk *chunk = pool->free;
        pool->free = chunk->next_free;
        mem_free(chunk);
    }
    while (pool->free_pieces != NULL) {
        struct buf_piece *piece = pool->free_pieces;
        pool->free_pieces = piece->next;
        mem_free(piece);
    }
    pool->kept = 0;
    pool->kept_pieces = 0;
}

void buf_pool_trim(struct buf_pool *pool)
{
    CHECK(pool->spare <= pool->kept);
    for (; pool->spare > 0; pool->spare--) {
        struct buf_chunk *chunk = pool->free;
        pool->free = chunk->next_free;
        pool->kept--;
        mem_free(chunk);
    }
    pool->spare = pool->kept;
}

static struct buf_chunk *chunk_get(struct buf_pool *pool, uint32_t room)
{
    struct buf_chunk *chunk = pool->free;
    if (chunk != NULL && room == BUF_CHUNK_BYTES) {
        pool->free = chunk->next_free;
        pool->kept--;
        pool->spare = pool->kept < pool->spare ? pool->kept : pool->spare;
    } else {
        chunk = mem_raw(sizeof *chunk + room);
    }
    chunk->refs = 1;
    chunk->used = 0;
    chunk->room = room;
    pool->bytes += room;
    return chunk;
}

static void chunk_put(struct buf_pool *pool, struct buf_chunk *chunk)
{
    CHECK(chunk->refs > 0);
    if (--chunk->refs > 0) {
        return;
    }
    pool->bytes -= chunk->room;
    if (chunk->room == BUF_CHUNK_BYTES && pool->kept < pool->keep_max) {
        chunk->next_free = pool->free;
        pool->free = chunk;
        pool->kept++;
        return;
    }
    mem_free(chunk);
}

static struct buf_piece *piece_get(struct buf_pool *pool)
{
    struct buf_piece *piece = pool->free_pieces;
    if (piece == NULL) {
        return NEW(struct buf_piece);
    }
    pool->free_pieces = piece->next;
    pool->kept_pieces--;
    *piece = (struct buf_piece){.next = NULL};
    return piece;
}

static void piece_put(struct buf_pool *pool, struct buf_piece *piece)
{
    if (piece->chunk != NULL) {
        chunk_put(pool, piece->chunk);
    }
    if (pool->kept_pieces < PIECES_KEEP) {
        piece->next = pool->free_pieces;
        pool->free_pieces = piece;
        pool->kept_pieces++;
        return;
    }
    mem_free(piece);
}

void buf_init(struct buf *buf, struct buf_pool *pool)
{
    *buf = (struct buf){.pool = pool};
}

void buf_drop_pieces(struct buf *buf)
{
    while (buf->first != NULL) {
        struct buf_piece *piece = buf->first;
        buf->first = piece->next;
        piece_put(buf->pool, piece);
    }
    buf->last = NULL;
    buf->len = 0;
    list_remove(&buf->borrowing);
}

static void push_piece(struct buf *buf, struct buf_piece *piece)
{
    piece->next = NULL;
    if (buf->last != NULL) {
        buf->last->next = piece;
    } else {
        buf->first = piece;
    }
    buf->last = piece;
    buf->len += piece->len;
    if (piece->chunk == NULL && !list_linked(&buf->borrowing)) {
        list_append(&buf->pool->borrowers, &buf->borrowing);
    }
}

/* True when the last piece ends where its chunk's free space begins and nobody else counts the
 * chunk. */
static bool can_grow(const struct buf_piece *last)
{
    return last != NULL && last->chunk != NULL && last->chunk->refs == 1 &&
           last->at + last->len == last->chunk->bytes + last->chunk->used;
}

static void push_chunk(struct buf *buf, uint32_t room)
{
    struct buf_piece *piece = piece_get(buf->pool);
    piece->chunk = chunk_get(buf->pool, room);
    piece->at = piece->chunk->bytes;
    push_piece(buf, piece);
}

struct span buf_reserve(struct buf *buf, size_t min)
{
    CHECK(min <= BUF_CHUNK_BYTES);
    const struct buf_piece *last = buf->last;
    if (last == NULL || !can_grow(last) || last->chunk->room - last->chunk->used < min) {
        push_chunk(buf, BUF_CHUNK_BYTES);
    }
    struct buf_chunk *chunk = buf->last->chunk;
    return (struct span){chunk->bytes + chunk->used, chunk->room - chunk->used};
}

/* Takes the piece at the front out once it is empty. */
static void drop_first(struct buf *buf)
{
    struct buf_piece *piece = buf->first;
    buf->first = piece->next;
    if (buf->first == NULL) {
        buf->last = NULL;
        list_remove(&buf->borrowing);
    }
    piece_put(buf->pool, piece);
}

void buf_commit(struct buf *buf, size_t len)
{
    CHECK(can_grow(buf->last));
    CHECK(len <= buf->last->chunk->room - buf->last->chunk->used);
    buf->last->chunk->used += (uint32_t)len;
    buf->last->len += len;
    buf->len += len;
    if (buf->len == 0) {
        buf_clear(buf);
    }
}

void buf_append(struct buf *buf, struct slice bytes)
{
    while (bytes.len > 0) {
        struct span room = buf_reserve(buf, 1);
        size_t part = bytes.len < room.len ? bytes.len : room.len;
        (void)memcpy(room.at, bytes.at, part);
        buf_commit(buf, part);
        bytes = slice_from(bytes, part);
    }
}

/* What is short and alone (the first words of a tunnel whose other end is still connecting) gets a
 * chunk of its own size: else a thousand such bufs hold 16 MiB. */
static void append_tight(struct buf *buf, struct slice bytes)
{
    if (bytes.len <= TIGHT_MAX && !can_grow(buf->last)) {
        push_chunk(buf, (uint32_t)bytes.len);
    }
    buf_append(buf, bytes);
}

void buf_borrow(struct buf *buf, struct slice bytes)
{
    if (bytes.len == 0) {
        return;
    }
    struct buf_piece *piece = piece_get(buf->pool);
    piece->at = bytes.at;
    piece->len = bytes.len;
    push_piece(buf, piece);
}

struct slice buf_front(const struct buf *buf)
{
    const struct buf_piece *piece = buf->first;
    while (piece != NULL && piece->len == 0) {
        piece = piece->next;
    }
    return piece != NULL ? slice_of(piece->at, piece->len) : (struct slice){NULL, 0};
}

void buf_consume(struct buf *buf, size_t len)
{
    CHECK(len <= buf->len);
    if (LIKELY(len == buf->len)) {
        buf_clear(buf); /* it left in one call */
        return;
    }
    buf->len -= len;
    while (buf->first != NULL && (len > 0 || buf->first->len == 0)) {
        struct buf_piece *piece = buf->first;
        size_t part = len < piece->len ? len : piece->len;
        piece->at += part;
        piece->len -= part;
        len -= part;
        if (piece->len > 0) {
            break;
        }
        drop_first(buf);
    }
}

void buf_cut_end(struct buf *buf, size_t len)
{
    CHECK(len <= buf->len);
    struct buf keep;
    buf_init(&keep, buf->pool);
    buf_move(&keep, buf, buf->len - len);
    buf_clear(buf);
    buf_move(buf, &keep, keep.len);
}

/* The first piece with at most `len` bytes, as a piece that is in no buf. */
static struct buf_piece *cut_front(struct buf *buf, size_t len)
{
    struct buf_piece *piece = buf->first;
    if (piece->len <= len) {
        buf->len -= piece->len;
        buf->first = piece->next;
        if (buf->first == NULL) {
            buf->last = NULL;
            list_remove(&buf->borrowing);
        }
        return piece;
    }
    struct buf_piece *part = piece_get(buf->pool);
    part->chunk = piece->chunk;
    if (part->chunk != NULL) {
        part->chunk->refs++;
    }
    part->at = piece->at;
    part->len = len;
    piece->at += len;
    piece->len -= len;
    buf->len -= len;
    return part;
}

/* A few bytes are cheaper copied behind what is there (a head) than sent as a vector of their own.
 */
static bool worth_copying(const struct buf *to, size_t len)
{
    return len <= COPY_MAX && can_grow(to->last) &&
           to->last->chunk->room - to->last->chunk->used >= len;
}

void buf_move(struct buf *to, struct buf *from, size_t len)
{
    CHECK(len <= from->len);
    CHECK(to->pool == from->pool);
    while (len > 0) {
        struct buf_piece *piece = cut_front(from, len);
        len -= piece->len;
        if (piece->len == 0) {
            piece_put(to->pool, piece);
        } else if (worth_copying(to, piece->len)) {
            buf_append(to, slice_of(piece->at, piece->len));
            piece_put(to->pool, piece);
        } else {
            push_piece(to, piece);
        }
    }
}

void buf_share(struct buf *to, const struct buf *source, size_t from, size_t len)
{
    CHECK(from <= source->len);
    CHECK(len <= source->len - from);
    CHECK(to->pool == source->pool);
    for (const struct buf_piece *piece = source->first; len > 0; piece = piece->next) {
        CHECK(piece != NULL);
        if (from >= piece->len) {
            from -= piece->len;
            continue;
        }
        size_t part = piece->len - from < len ? piece->len - from : len;
        if (piece->chunk == NULL) {
            append_tight(to, slice_of(piece->at + from, part));
        } else {
            struct buf_piece *copy = piece_get(to->pool);
            copy->chunk = piece->chunk;
            copy->chunk->refs += MUTANT(19) ? 0 : 1;
            copy->at = piece->at + from;
            copy->len = part;
            push_piece(to, copy);
        }
        from = 0;
        len -= part;
    }
}

int buf_iovec(const struct buf *buf, struct iovec *vectors, int max)
{
    int count = 0;
    for (const struct buf_piece *piece = buf->first; piece != NULL && count < max;
         piece = piece->next) {
        if (piece->len > 0) {
            /* iov_base is not const, though sendmsg does not write. */
            union {
                const uint8_t *in;
                void *out;
            } base = {.in = piece->at};
            vectors[count++] = (struct iovec){.iov_base = base.out, .iov_len = piece->len};
        }
    }
    return count;
}

size_t buf_peek(const struct buf *buf, struct span into)
{
    size_t copied = 0;
    for (const struct buf_piece *piece = buf->first; piece != NULL && copied < into.len;
         piece = piece->next) {
        size_t part = piece->len < into.len - copied ? piece->len : into.len - copied;
        if (part > 0) {
            (void)memcpy(into.at + copied, piece->at, part);
        }
        copied += part;
    }
    return copied;
}

/* Rebuilds the queue with every borrowed piece copied. Runs only when output did not leave in its
 * tick. */
static void settle(struct buf *buf)
{
    struct buf_piece *piece = buf->first;
    bool alone = piece == buf->last;
    buf->first = NULL;
    buf->last = NULL;
    buf->len = 0;
    while (piece != NULL) {
        struct buf_piece *next = piece->next;
        if (piece->chunk == NULL) {
            struct slice bytes = slice_of(piece->at, piece->len);
            if (alone) {
                append_tight(buf, bytes);
            } else {
                buf_append(buf, bytes);
            }
            piece_put(buf->pool, piece);
        } else {
            push_piece(buf, piece);
        }
        piece = next;
    }
}

void buf_pool_settle(struct buf_pool *pool)
{
    struct list *node = list_pop(&pool->borrowers);
    while (node != NULL && !MUTANT(18)) {
        settle(LIST_ITEM(node, struct buf, borrowing));
        node = list_pop(&pool->borrowers);
    }
}
