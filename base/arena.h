#pragma once
/* Memory that lives as long as one thing (an exchange, a decoded configuration) and goes in one
 * stroke. Blocks come from a pool of 4 KiB blocks (one per worker), so that a steady request
 * allocates nothing; what is larger gets a block of its own. An arena and its pool belong to one
 * thread. */

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

#define ARENA_BLOCK_BYTES 4096

struct arena_block;

/* Free blocks, kept for the next arena; above keep_max they go back to the heap, and so do those
 * that no arena asked for between two trims. */
struct arena_pool {
    struct arena_block *free;
    unsigned kept;
    unsigned keep_max;
    unsigned spare; /* the fewest that lay here since the last trim */
};

struct arena {
    struct arena_pool *pool; /* may be null: blocks come from the heap */
    struct arena_block *blocks;
    uint8_t *at; /* free bytes of the newest common block */
    uint8_t *end;
    size_t bytes;         /* what this arena costs */
    uint32_t next_bytes;  /* of the next block */
    uint32_t later_bytes; /* of those after it */
};

void arena_pool_init(struct arena_pool *pool, unsigned keep_max);
void arena_pool_fini(struct arena_pool *pool);
void arena_pool_trim(struct arena_pool *pool);

/* pool may be null. No memory is taken before the first allocation. */
void arena_init(struct arena *arena, struct arena_pool *pool);
/* For what lives long and needs little: its blocks come from the heap, the first with `first`
 * bytes, later ones with `later`, header included. */
void arena_init_small(struct arena *arena, struct arena_pool *pool, uint32_t first, uint32_t later);
/* Frees all that was allocated; the arena may be used again. */
void arena_fini(struct arena *arena);

/* Zeroed, aligned to 16; never null. */
void *arena_alloc(struct arena *arena, size_t size) MUST_USE;
/* As arena_alloc, but not zeroed. */
void *arena_room(struct arena *arena, size_t size) MUST_USE;
/* Uninitialised bytes, not aligned; never null. */
uint8_t *arena_bytes(struct arena *arena, size_t size) MUST_USE;
/* A copy of the bytes (a zero byte stands behind it, not counted). */
struct slice arena_dup(struct arena *arena, struct slice bytes);
/* A copy without the zero byte, for what is short. */
static inline struct slice arena_put(struct arena *arena, struct slice bytes)
{
    uint8_t *to = arena->at;
    if (UNLIKELY(bytes.len >= (size_t)(arena->end - to))) {
        return arena_dup(arena, bytes);
    }
    arena->at += bytes.len;
    slice_put(to, bytes);
    return slice_of(to, bytes.len);
}
/* A null-terminated copy. */
char *arena_text(struct arena *arena, struct slice bytes);
char *arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

/* The array at `at`, of `count` elements of that size, with room for one more: doubled where count
 * is a power of two, so it is filled only by this. Null with count 0 begins one. */
void *arena_room_for_one(struct arena *arena, void *at, size_t count, size_t size) MUST_USE;

#define ARENA_NEW(arena, type)          ((type *)arena_alloc(arena, sizeof(type)))
#define ARENA_ARRAY(arena, type, count) ((type *)arena_alloc(arena, sizeof(type) * (count)))
#define ARENA_ROOM(arena, type, count)  ((type *)arena_room(arena, sizeof(type) * (count)))
