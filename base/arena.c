#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define ALIGNMENT 16U

struct arena_block {
    struct arena_block *next;
    size_t size; /* of the whole block, header included */
};

static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "a block's bytes must begin aligned");

void arena_pool_init(struct arena_pool *pool, unsigned keep_max)
{
    *pool = (struct arena_pool){.keep_max = keep_max};
}

void arena_pool_fini(struct arena_pool *pool)
{
    while (pool->free != NULL) {
        struct arena_block *block = pool->free;
        pool->free = block->next;
        mem_free(block);
    }
    pool->kept = 0;
}

void arena_pool_trim(struct arena_pool *pool)
{
    CHECK(pool->spare <= pool->kept);
    for (; pool->spare > 0; pool->spare--) {
        struct arena_block *block = pool->free;
        pool->free = block->next;
        pool->kept--;
        mem_free(block);
    }
    pool->spare = pool->kept;
}

void arena_init(struct arena *arena, struct arena_pool *pool)
{
    *arena = (struct arena){
        .pool = pool, .next_bytes = ARENA_BLOCK_BYTES, .later_bytes = ARENA_BLOCK_BYTES};
}

void arena_init_small(struct arena *arena, struct arena_pool *pool, uint32_t first, uint32_t later)
{
    CHECK(first < ARENA_BLOCK_BYTES);
    CHECK(later < ARENA_BLOCK_BYTES);
    *arena = (struct arena){.pool = pool, .next_bytes = first, .later_bytes = later};
}

static struct arena_block *block_get(struct arena_pool *pool, size_t size)
{
    if (size == ARENA_BLOCK_BYTES && pool != NULL && pool->free != NULL) {
        struct arena_block *block = pool->free;
        pool->free = block->next;
        pool->kept--;
        pool->spare = pool->kept < pool->spare ? pool->kept : pool->spare;
        return block;
    }
    struct arena_block *block = mem_raw(size);
    block->size = size;
    return block;
}

static void block_put(struct arena_pool *pool, struct arena_block *block)
{
    if (block->size == ARENA_BLOCK_BYTES && pool != NULL && pool->kept < pool->keep_max) {
        block->next = pool->free;
        pool->free = block;
        pool->kept++;
        return;
    }
    mem_free(block);
}

void arena_fini(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        block_put(arena->pool, block);
    }
    arena->at = NULL;
    arena->end = NULL;
    arena->bytes = 0;
}

/* A block of its own for what is large, put behind the newest block, whose rest stays usable. */
static uint8_t *grow_own(struct arena *arena, size_t size)
{
    CHECK(size < SIZE_MAX / 2);
    struct arena_block *own = block_get(NULL, size + sizeof *own + 1);
    arena->bytes += own->size;
    if (arena->blocks != NULL) {
        own->next = arena->blocks->next;
        arena->blocks->next = own;
    } else {
        own->next = NULL;
        arena->blocks = own;
    }
    return (uint8_t *)(own + 1);
}

static NOINLINE uint8_t *grow(struct arena *arena, size_t size)
{
    size_t room = arena->next_bytes - sizeof(struct arena_block);
    /* The first thing in an arena may fill its block (what lives in its own arena does). */
    if (size > (arena->blocks != NULL ? room / 2 : room)) {
        return grow_own(arena, size);
    }
    struct arena_block *block = block_get(arena->pool, arena->next_bytes);
    arena->next_bytes = arena->later_bytes;
    arena->bytes += block->size;
    block->next = arena->blocks;
    arena->blocks = block;
    uint8_t *result = (uint8_t *)(block + 1);
    arena->at = result + size;
    arena->end = (uint8_t *)block + block->size;
    return result;
}

void *arena_room(struct arena *arena, size_t size)
{
    size_t pad = (0 - (uintptr_t)arena->at) % ALIGNMENT;
    size_t left = (size_t)(arena->end - arena->at);
    if (UNLIKELY(arena->at == NULL || left < pad || size > left - pad)) {
        return grow(arena, size);
    }
    uint8_t *result = arena->at + pad;
    arena->at = result + size;
    return result;
}

/* Not inlined: where the size is known, "rep stos" would stand for the library's wider stores. */
NOINLINE void *arena_alloc(struct arena *arena, size_t size)
{
    return memset(arena_room(arena, size), 0, size);
}

uint8_t *arena_bytes(struct arena *arena, size_t size)
{
    if (arena->at != NULL && size <= (size_t)(arena->end - arena->at)) {
        uint8_t *result = arena->at;
        arena->at += size;
        return result;
    }
    return grow(arena, size);
}

struct slice arena_dup(struct arena *arena, struct slice bytes)
{
    uint8_t *copy = arena_bytes(arena, bytes.len + 1);
    if (bytes.len > 0) {
        (void)memcpy(copy, bytes.at, bytes.len);
    }
    copy[bytes.len] = 0;
    return slice_of(copy, bytes.len);
}

char *arena_text(struct arena *arena, struct slice bytes)
{
    uint8_t *copy = arena_bytes(arena, bytes.len + 1);
    if (bytes.len > 0) {
        (void)memcpy(copy, bytes.at, bytes.len);
    }
    copy[bytes.len] = 0;
    return (char *)copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(len >= 0);
    char *text = (char *)arena_bytes(arena, (size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}

void *arena_room_for_one(struct arena *arena, void *at, size_t count, size_t size)
{
    CHECK(at != NULL || count == 0);
    if ((count & (count - 1)) != 0) {
        return at;
    }
    void *grown = arena_alloc(arena, size * (count > 0 ? count * 2 : 1));
    if (count > 0) {
        (void)memcpy(grown, at, count * size);
    }
    return grown;
}
