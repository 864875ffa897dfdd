#pragma once
/* The only door to the heap. Out of memory aborts here: every amount that a peer can drive has a
 * budget long before (base/buf.h). What libraries allocate comes through here too, so that the
 * counters, and the memory ceiling that reads them, are true. Any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/* Zeroed memory of `size` bytes (> 0); never null. Freed by mem_free. */
void *mem_new(size_t size) MUST_USE;
/* Memory with undefined contents; never null. */
void *mem_raw(size_t size) MUST_USE;
/* Grows or shrinks; `old` may be null; never null. */
void *mem_resize(void *old, size_t size) MUST_USE;
/* A copy of `len` bytes with a zero byte behind. */
char *mem_dup(const void *bytes, size_t len) MUST_USE;
char *mem_dup_text(const char *text) MUST_USE;
/* null is allowed. */
void mem_free(void *memory);

#define NEW(type)              ((type *)mem_new(sizeof(type)))
#define NEW_ARRAY(type, count) ((type *)mem_new(sizeof(type) * ((count) > 0 ? (count) : 1)))
/* Frees what `pointer` names and sets it to null. */
#define FREE(pointer) (mem_free(pointer), (pointer) = NULL)

struct alloc_counts {
    uint64_t live_bytes; /* allocated now by the whole process; may lag by 64 KiB a thread */
    uint64_t calls;      /* allocations ever made by the calling thread */
};

struct alloc_counts alloc_counts(void);

/* The same under the signatures that libraries want; counted; null when out of memory. */
void *alloc_for_library(size_t size);
void *alloc_resize_for_library(void *old, size_t size);
void alloc_free_for_library(void *memory);

/* Gives freed memory back to the kernel; for after a burst. */
void alloc_trim(void);
/* How far what this thread holds has fallen below the most that it held since it last asked: bytes
 * that lie in the heap, and may be many pages of it. */
size_t alloc_fallen(void);
/* Once, first in main: few arenas for threads, low thresholds. Library hooks are set where a
 * library is wrapped (base/crypto, base/json, base/loop). */
void alloc_init(void);
