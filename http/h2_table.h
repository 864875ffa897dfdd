#pragma once
/* HPACK's two tables (RFC 7541 2.3 and 4), for the encoder and the decoder and nobody else.
 *
 * The dynamic one is a ring of entries and, behind it in the same memory, their bytes, appended in
 * order and moved to the front when the end is reached. Eviction moves nothing. */

#include "base/check.h"
#include "http/h2_hpack.h"

struct hpack_entry {
    uint16_t at; /* of the name; the value follows */
    uint16_t name_len;
    uint16_t value_len;
    uint8_t id;
    bool malformed;
};

static_assert(sizeof(struct hpack_entry) == 8, "a quarter of what HPACK counts for it");

/* RFC 7541 Appendix A; index 1 stands at 0. */
extern const struct header hpack_static[HPACK_STATIC_COUNT];

static inline struct hpack_entry *hpack_table_ring(const struct hpack_table *table)
{
    return (struct hpack_entry *)(void *)table->memory;
}

static inline uint8_t *hpack_table_bytes(const struct hpack_table *table)
{
    return table->memory + sizeof(struct hpack_entry) * (table->room / HPACK_ENTRY_EXTRA);
}

/* age 0 is the newest entry. */
static inline struct hpack_entry *hpack_table_entry(const struct hpack_table *table, uint32_t age)
{
    CHECK(age < table->count);
    uint32_t mask = table->room / HPACK_ENTRY_EXTRA - 1;
    return &hpack_table_ring(table)[(table->newest - age) & mask];
}

static inline struct slice hpack_entry_name(const struct hpack_table *table,
                                            const struct hpack_entry *entry)
{
    return slice_of(hpack_table_bytes(table) + entry->at, entry->name_len);
}

static inline struct slice hpack_entry_value(const struct hpack_table *table,
                                             const struct hpack_entry *entry)
{
    return slice_of(hpack_table_bytes(table) + entry->at + entry->name_len, entry->value_len);
}

void hpack_table_fini(struct hpack_table *table);
/* A new size limit; entries that are too many go. */
void hpack_table_set_max(struct hpack_table *table, uint32_t max);
/* Inserts a field; one that is larger than the table empties it and is not inserted: false (RFC
 * 7541 4.4). The field's bytes may lie in the table itself. `list`: the fields that may point into
 * the table, and scratch to copy them to when it moves; null for an encoder, whose fields never
 * do. */
bool hpack_table_insert(struct hpack_table *table, struct header *field, bool malformed,
                        struct hpack_list *list);
/* Heap bytes. */
size_t hpack_table_memory(const struct hpack_table *table);
