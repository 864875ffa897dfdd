#include "base/map.h"

#include "base/alloc.h"

#define MIN_SLOTS 8U
#define GRAVE     UINT32_MAX /* a slot whose entry was removed: a search goes on behind it */
#define NO_SLOT   UINT32_MAX

void map_init(struct map *map, uint64_t seed, enum map_keys keys)
{
    *map = (struct map){.seed = seed, .keys = keys};
}

static void key_free(const struct map *map, struct map_entry *entry)
{
    if (map->keys == MAP_KEYS_COPIED) {
        /* The copy was ours to write; const only towards readers. */
        mem_free((void *)(uintptr_t)entry->key.at);
    }
}

void map_fini(struct map *map)
{
    for (uint32_t i = 0; i < map->used; i++) {
        if (map->entries[i].value != NULL) {
            key_free(map, &map->entries[i]);
        }
    }
    mem_free(map->entries);
    mem_free(map->slots);
    map_init(map, map->seed, map->keys);
}

/* How many entries fit before the table must be made anew; three quarters keep probes short. */
static uint32_t entry_room(uint32_t slot_count)
{
    return slot_count / 4 * 3;
}

/* The slot that holds the key, or NO_SLOT. */
static uint32_t find_slot(const struct map *map, struct slice key, uint64_t hash)
{
    if (map->slot_count == 0) {
        return NO_SLOT;
    }
    uint32_t mask = map->slot_count - 1;
    for (uint32_t at = (uint32_t)hash & mask;; at = (at + 1) & mask) {
        uint32_t slot = map->slots[at];
        if (slot == 0) {
            return NO_SLOT; /* there is a free one always: a quarter of all */
        }
        if (slot != GRAVE && map->entries[slot - 1].hash == hash &&
            slice_eq(map->entries[slot - 1].key, key)) {
            return at;
        }
    }
}

static void place(struct map *map, uint32_t entry)
{
    uint32_t mask = map->slot_count - 1;
    uint32_t at = (uint32_t)map->entries[entry].hash & mask;
    while (map->slots[at] != 0) {
        at = (at + 1) & mask;
    }
    map->slots[at] = entry + 1;
}

/* A new table for the living entries and one more: graves go, the size follows the count. */
static void rebuild(struct map *map)
{
    CHECK(map->count < UINT32_MAX / 4);
    uint32_t slot_count = MIN_SLOTS;
    while (entry_room(slot_count) < map->count + map->count / 2 + 1) {
        slot_count *= 2;
    }
    struct map_entry *entries = NEW_ARRAY(struct map_entry, entry_room(slot_count));
    uint32_t used = 0;
    for (uint32_t i = 0; i < map->used; i++) {
        if (map->entries[i].value != NULL) {
            entries[used++] = map->entries[i];
        }
    }
    mem_free(map->entries);
    mem_free(map->slots);
    map->entries = entries;
    map->slots = NEW_ARRAY(uint32_t, slot_count);
    map->slot_count = slot_count;
    map->used = used;
    for (uint32_t i = 0; i < used; i++) {
        place(map, i);
    }
}

void *map_get(const struct map *map, struct slice key)
{
    uint32_t at = find_slot(map, key, slice_hash(key, map->seed));
    return at == NO_SLOT ? NULL : map->entries[map->slots[at] - 1].value;
}

void *map_set(struct map *map, struct slice key, void *value)
{
    CHECK(value != NULL);
    uint64_t hash = slice_hash(key, map->seed);
    uint32_t at = find_slot(map, key, hash);
    if (at != NO_SLOT) {
        struct map_entry *entry = &map->entries[map->slots[at] - 1];
        void *before = entry->value;
        entry->value = value;
        entry->key = map->keys == MAP_KEYS_BORROWED ? key : entry->key;
        return before;
    }
    if (map->used >= entry_room(map->slot_count)) {
        rebuild(map);
    }
    if (map->keys == MAP_KEYS_COPIED) {
        key.at = (const uint8_t *)mem_dup(key.at, key.len);
    }
    map->entries[map->used] = (struct map_entry){.key = key, .value = value, .hash = hash};
    place(map, map->used++);
    map->count++;
    return NULL;
}

void *map_remove(struct map *map, struct slice key)
{
    uint32_t at = find_slot(map, key, slice_hash(key, map->seed));
    if (at == NO_SLOT) {
        return NULL;
    }
    struct map_entry *entry = &map->entries[map->slots[at] - 1];
    void *before = entry->value;
    map->slots[at] = GRAVE;
    map->count--;
    key_free(map, entry);
    *entry = (struct map_entry){.hash = 0};
    return before;
}

struct map_entry *map_entry_from(const struct map *map, uint32_t from)
{
    while (from < map->used && map->entries[from].value == NULL) {
        from++;
    }
    return from < map->used ? &map->entries[from] : NULL;
}
