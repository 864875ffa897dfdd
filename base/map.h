#pragma once
/* From bytes to a pointer. Entries are walked in the order in which their keys were first set, so
 * that a walk is the same in every run whatever the seed: what depends on hash order cannot be
 * replayed. The seed must be secret where peers choose the keys (base/rng), and a number that is
 * printed in the simulator. An empty map holds no memory. One thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum map_keys {
    MAP_KEYS_BORROWED, /* the key's bytes live at least as long as its entry */
    MAP_KEYS_COPIED,
};

struct map_entry {
    struct slice key;
    void *value; /* null: removed, seen by nobody */
    uint64_t hash;
};

struct map {
    struct map_entry *entries; /* in order of insertion, removed ones among them */
    uint32_t *slots;           /* open addressing: entry number + 1, 0 free, or a grave */
    uint32_t used;             /* entries written, removed ones too */
    uint32_t count;            /* entries that live */
    uint32_t slot_count;       /* a power of two, or 0 */
    enum map_keys keys;
    uint64_t seed;
};

void map_init(struct map *map, uint64_t seed, enum map_keys keys);
/* Frees the map's own memory and copied keys; the values are the caller's. May be used again. */
void map_fini(struct map *map);

/* The value of the key, or null. */
void *map_get(const struct map *map, struct slice key);
/* Sets the key's value, which is not null; returns the one before, or null. A borrowed key is
 * borrowed anew, in the place of the old bytes; the entry keeps its place in the order. */
void *map_set(struct map *map, struct slice key, void *value);
/* Takes the entry out; returns its value, or null when there was none. */
void *map_remove(struct map *map, struct slice key);

static inline uint32_t map_count(const struct map *map)
{
    return map->count;
}

/* The first living entry at or behind number `from`; null at the end. */
struct map_entry *map_entry_from(const struct map *map, uint32_t from);

/* Walks the entries; the body may remove any entry and set the value of one that is there, but add
 * none. */
#define MAP_EACH(map, entry)                                                                       \
    for (struct map_entry *entry = map_entry_from((map), 0); entry != NULL;                        \
         entry = map_entry_from((map), (uint32_t)(entry - (map)->entries) + 1))
