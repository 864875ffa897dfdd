#pragma once
/* Lists that grow in an arena: an array and its count, doubled when the count reaches a power of
 * two. What was outgrown stays in the arena: at most as much again. Private to policy/. */

#include <stddef.h>
#include <string.h>

#include "base/arena.h"

/* Room for one more item behind `count` items of `size` bytes. */
static inline void *array_room(struct arena *arena, const void *at, size_t count, size_t size)
{
    void *grown = arena_alloc(arena, size * (count > 0 ? count * 2 : 1));
    if (count > 0) {
        memcpy(grown, at, count * size);
    }
    return grown;
}

/* Puts `item` behind the `count` items at `at`; both are changed. */
#define ARRAY_PUSH(arena, at, count, item)                                                         \
    do {                                                                                           \
        if (((count) & ((count)-1)) == 0) {                                                        \
            (at) = array_room(arena, at, count, sizeof *(at));                                     \
        }                                                                                          \
        (at)[(count)++] = (item);                                                                  \
    } while (0)
