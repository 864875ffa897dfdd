#include "base/alloc.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Counted without atomics on a request's way: each thread adds to its own counter and folds it into
 * the process's when it passes a step. */
#define FOLD_STEP (64 * 1024)

static _Thread_local int64_t unfolded;
static _Thread_local uint64_t calls;
/* What this thread took less what it gave back, since it began, and the most since alloc_fallen. */
static _Thread_local int64_t held;
static _Thread_local int64_t held_most;
static _Atomic int64_t live_total;

static void account(int64_t change)
{
    unfolded += change;
    held += change;
    held_most = held > held_most ? held : held_most;
    if (unfolded > FOLD_STEP || unfolded < -FOLD_STEP) {
        (void)atomic_fetch_add_explicit(&live_total, unfolded, memory_order_relaxed);
        unfolded = 0;
    }
}

static void *counted(void *memory)
{
    if (LIKELY(memory != NULL)) {
        calls++;
        account((int64_t)malloc_usable_size(memory));
    }
    return memory;
}

void *alloc_for_library(size_t size)
{
    return counted(malloc(size > 0 ? size : 1));
}

void *alloc_resize_for_library(void *old, size_t size)
{
    int64_t before = old != NULL ? (int64_t)malloc_usable_size(old) : 0;
    void *memory = realloc(old, size > 0 ? size : 1);
    if (LIKELY(memory != NULL)) {
        calls++;
        account((int64_t)malloc_usable_size(memory) - before);
    }
    return memory;
}

void alloc_free_for_library(void *memory)
{
    if (memory != NULL) {
        account(-(int64_t)malloc_usable_size(memory));
        free(memory);
    }
}

void *mem_raw(size_t size)
{
    CHECK(size > 0);
    void *memory = alloc_for_library(size);
    CHECK(memory != NULL);
    return memory;
}

void *mem_new(size_t size)
{
    CHECK(size > 0);
    void *memory = counted(calloc(1, size));
    CHECK(memory != NULL);
    return memory;
}

void *mem_resize(void *old, size_t size)
{
    CHECK(size > 0);
    void *memory = alloc_resize_for_library(old, size);
    CHECK(memory != NULL);
    return memory;
}

char *mem_dup(const void *bytes, size_t len)
{
    char *copy = mem_raw(len + 1);
    if (len > 0) {
        (void)memcpy(copy, bytes, len);
    }
    copy[len] = '\0';
    return copy;
}

char *mem_dup_text(const char *text)
{
    return mem_dup(text, strlen(text));
}

void mem_free(void *memory)
{
    alloc_free_for_library(memory);
}

struct alloc_counts alloc_counts(void)
{
    int64_t live = atomic_load_explicit(&live_total, memory_order_relaxed) + unfolded;
    return (struct alloc_counts){.live_bytes = live > 0 ? (uint64_t)live : 0, .calls = calls};
}

size_t alloc_fallen(void)
{
    size_t fallen = (size_t)(held_most - held);
    held_most = held;
    return fallen;
}

void alloc_trim(void)
{
    (void)malloc_trim(0);
}

void alloc_init(void)
{
    /* NOLINTBEGIN(concurrency-mt-unsafe): before any thread */
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    /* NOLINTEND(concurrency-mt-unsafe) */
}
