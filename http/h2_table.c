#include "http/h2_table.h"

#include <string.h>

#include "base/alloc.h"

/* RFC 7541 Appendix A. X(name, value, id) */
#define STATIC_FIELDS(X)                                                                           \
    X(":authority", "", HPACK_AUTHORITY)                                                           \
    X(":method", "GET", HPACK_METHOD)                                                              \
    X(":method", "POST", HPACK_METHOD)                                                             \
    X(":path", "/", HPACK_PATH)                                                                    \
    X(":path", "/index.html", HPACK_PATH)                                                          \
    X(":scheme", "http", HPACK_SCHEME)                                                             \
    X(":scheme", "https", HPACK_SCHEME)                                                            \
    X(":status", "200", HPACK_STATUS)                                                              \
    X(":status", "204", HPACK_STATUS)                                                              \
    X(":status", "206", HPACK_STATUS)                                                              \
    X(":status", "304", HPACK_STATUS)                                                              \
    X(":status", "400", HPACK_STATUS)                                                              \
    X(":status", "404", HPACK_STATUS)                                                              \
    X(":status", "500", HPACK_STATUS)                                                              \
    X("accept-charset", "", HEADER_OTHER)                                                          \
    X("accept-encoding", "gzip, deflate", HEADER_OTHER)                                            \
    X("accept-language", "", HEADER_OTHER)                                                         \
    X("accept-ranges", "", HEADER_OTHER)                                                           \
    X("accept", "", HEADER_OTHER)                                                                  \
    X("access-control-allow-origin", "", HEADER_OTHER)                                             \
    X("age", "", HEADER_OTHER)                                                                     \
    X("allow", "", HEADER_OTHER)                                                                   \
    X("authorization", "", HEADER_OTHER)                                                           \
    X("cache-control", "", HEADER_OTHER)                                                           \
    X("content-disposition", "", HEADER_OTHER)                                                     \
    X("content-encoding", "", HEADER_OTHER)                                                        \
    X("content-language", "", HEADER_OTHER)                                                        \
    X("content-length", "", HEADER_CONTENT_LENGTH)                                                 \
    X("content-location", "", HEADER_OTHER)                                                        \
    X("content-range", "", HEADER_OTHER)                                                           \
    X("content-type", "", HEADER_CONTENT_TYPE)                                                     \
    X("cookie", "", HEADER_COOKIE)                                                                 \
    X("date", "", HEADER_DATE)                                                                     \
    X("etag", "", HEADER_OTHER)                                                                    \
    X("expect", "", HEADER_EXPECT)                                                                 \
    X("expires", "", HEADER_OTHER)                                                                 \
    X("from", "", HEADER_OTHER)                                                                    \
    X("host", "", HEADER_HOST)                                                                     \
    X("if-match", "", HEADER_OTHER)                                                                \
    X("if-modified-since", "", HEADER_OTHER)                                                       \
    X("if-none-match", "", HEADER_OTHER)                                                           \
    X("if-range", "", HEADER_OTHER)                                                                \
    X("if-unmodified-since", "", HEADER_OTHER)                                                     \
    X("last-modified", "", HEADER_OTHER)                                                           \
    X("link", "", HEADER_OTHER)                                                                    \
    X("location", "", HEADER_OTHER)                                                                \
    X("max-forwards", "", HEADER_OTHER)                                                            \
    X("proxy-authenticate", "", HEADER_OTHER)                                                      \
    X("proxy-authorization", "", HEADER_OTHER)                                                     \
    X("range", "", HEADER_OTHER)                                                                   \
    X("referer", "", HEADER_OTHER)                                                                 \
    X("refresh", "", HEADER_OTHER)                                                                 \
    X("retry-after", "", HEADER_RETRY_AFTER)                                                       \
    X("server", "", HEADER_SERVER)                                                                 \
    X("set-cookie", "", HEADER_OTHER)                                                              \
    X("strict-transport-security", "", HEADER_OTHER)                                               \
    X("transfer-encoding", "", HEADER_TRANSFER_ENCODING)                                           \
    X("user-agent", "", HEADER_USER_AGENT)                                                         \
    X("vary", "", HEADER_OTHER)                                                                    \
    X("via", "", HEADER_VIA)                                                                       \
    X("www-authenticate", "", HEADER_OTHER)

const struct header hpack_static[HPACK_STATIC_COUNT] = {
#define X(text, content, of)                                                                       \
    {.name = {(const uint8_t *)(text), sizeof(text) - 1},                                          \
     .value = {(const uint8_t *)(content), sizeof(content) - 1},                                   \
     .id = (of)},
    STATIC_FIELDS(X)
#undef X
};

void hpack_table_fini(struct hpack_table *table)
{
    FREE(table->memory);
    table->room = 0;
    table->size = 0;
    table->count = 0;
    table->end = 0;
}

size_t hpack_table_memory(const struct hpack_table *table)
{
    return table->room + sizeof(struct hpack_entry) * (table->room / HPACK_ENTRY_EXTRA);
}

/* Drops the oldest entries until `needed` more fit. Their bytes stay where they are. */
static void table_evict(struct hpack_table *table, size_t needed)
{
    while (table->count > 0 && table->size + needed > table->max) {
        const struct hpack_entry *oldest = hpack_table_entry(table, table->count - 1U);
        table->size -= (uint32_t)oldest->name_len + oldest->value_len + HPACK_ENTRY_EXTRA;
        table->count--;
    }
}

void hpack_table_set_max(struct hpack_table *table, uint32_t max)
{
    table->max = max;
    table_evict(table, 0);
    if (table->count == 0) {
        hpack_table_fini(table);
    }
}

/* Copies out of the table what a field still points at there. */
static void settle_slice(const struct hpack_table *table, struct hpack_list *list,
                         struct slice *slice)
{
    const uint8_t *bytes = hpack_table_bytes(table);
    if (slice->len == 0 || slice->at < bytes || slice->at >= bytes + table->room) {
        return;
    }
    CHECK(slice->len <= list->scratch.len - list->used);
    uint8_t *to = list->scratch.at + list->used;
    memcpy(to, slice->at, slice->len);
    list->used += slice->len;
    slice->at = to;
}

static void settle(const struct hpack_table *table, struct hpack_list *list, struct header *extra)
{
    if (table->memory == NULL || list == NULL) {
        return;
    }
    for (unsigned i = 0; i < list->count; i++) {
        settle_slice(table, list, &list->field[i].name);
        settle_slice(table, list, &list->field[i].value);
    }
    settle_slice(table, list, &extra->name);
}

/* Moves the live entries to memory cut for `room` bytes (the same: to the front of it). */
static void table_move(struct hpack_table *table, uint32_t room)
{
    if (room == table->room) {
        uint32_t start =
            table->count > 0 ? hpack_table_entry(table, table->count - 1U)->at : table->end;
        uint8_t *bytes = hpack_table_bytes(table);
        memmove(bytes, bytes + start, table->end - start);
        for (uint32_t age = 0; age < table->count; age++) {
            hpack_table_entry(table, age)->at =
                (uint16_t)(hpack_table_entry(table, age)->at - start);
        }
        table->end -= start;
        return;
    }
    struct hpack_table grown = {.room = room, .max = table->max, .size = table->size};
    grown.memory = mem_raw(room + sizeof(struct hpack_entry) * (room / HPACK_ENTRY_EXTRA));
    for (uint32_t age = table->count; age > 0; age--) {
        struct hpack_entry entry = *hpack_table_entry(table, age - 1);
        size_t len = (size_t)entry.name_len + entry.value_len;
        memcpy(hpack_table_bytes(&grown) + grown.end, hpack_table_bytes(table) + entry.at, len);
        entry.at = (uint16_t)grown.end;
        grown.end += (uint32_t)len;
        grown.newest++;
        grown.count++;
        *hpack_table_entry(&grown, 0) = entry;
    }
    mem_free(table->memory);
    *table = grown;
}

bool hpack_table_insert(struct hpack_table *table, struct header *field, bool malformed,
                        struct hpack_list *list)
{
    size_t len = field->name.len + field->value.len;
    size_t size = len + HPACK_ENTRY_EXTRA;
    table_evict(table, size);
    if (size > table->max) {
        return false;
    }
    uint32_t room = table->room > 0 ? table->room : 512;
    while (room < table->size + size) {
        room *= 2;
    }
    if (room != table->room || table->end + len > table->room) {
        settle(table, list, field);
        table_move(table, room);
    }
    uint8_t *bytes = hpack_table_bytes(table) + table->end;
    if (field->name.len > 0) {
        memcpy(bytes, field->name.at, field->name.len);
    }
    if (field->value.len > 0) {
        memcpy(bytes + field->name.len, field->value.at, field->value.len);
    }
    table->newest++;
    table->count++;
    *hpack_table_entry(table, 0) = (struct hpack_entry){.at = (uint16_t)table->end,
                                                        .name_len = (uint16_t)field->name.len,
                                                        .value_len = (uint16_t)field->value.len,
                                                        .id = field->id,
                                                        .malformed = malformed};
    table->end += (uint32_t)len;
    table->size += (uint32_t)size;
    return true;
}
