#include "http/h2_hpack.h"

#include <string.h>

#include "base/alloc.h"
#include "http/h2_huffman.h"

#define NAME_LOWER_MAX 128 /* longer names are written as literals without a look-up */
#define SLOT_COUNT     128 /* one for each entry of a table of 4 KiB */

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

struct static_field {
    const char *name;
    const char *value;
    uint8_t name_len;
    uint8_t value_len;
    uint8_t id;
};

static const struct static_field static_fields[HPACK_STATIC_COUNT] = {
#define X(name, value, id) {name, value, sizeof(name) - 1, sizeof(value) - 1, id},
    STATIC_FIELDS(X)
#undef X
};

/* Indexes into the static table that the encoder knows without a search. */
enum static_index {
    STATIC_AUTHORITY = 1,
    STATIC_METHOD_GET = 2,
    STATIC_METHOD_POST = 3,
    STATIC_PATH = 4,
    STATIC_SCHEME_HTTP = 6,
    STATIC_SCHEME_HTTPS = 7,
    STATIC_STATUS_200 = 8,
};

/* First static index of a name that has an id; 0: none. */
static const uint8_t static_of_id[HEADER_ID_COUNT] = {
    [HEADER_HOST] = 38,       [HEADER_CONTENT_LENGTH] = 28, [HEADER_TRANSFER_ENCODING] = 57,
    [HEADER_EXPECT] = 35,     [HEADER_DATE] = 33,           [HEADER_SERVER] = 54,
    [HEADER_VIA] = 60,        [HEADER_COOKIE] = 32,         [HEADER_CONTENT_TYPE] = 31,
    [HEADER_USER_AGENT] = 58, [HEADER_RETRY_AFTER] = 53,
};

/* How the encoder treats a field: what is the same in many messages is worth an entry; ids, times
 * and lengths are not even looked up. */
enum indexing { INDEXING_WHEN_SEEN_TWICE, INDEXING_NONE };

static const uint8_t indexing_of_id[HEADER_ID_COUNT] = {
    [HEADER_CONTENT_LENGTH] = INDEXING_NONE,
    [HEADER_X_REQUEST_ID] = INDEXING_NONE,
    [HEADER_TRACEPARENT] = INDEXING_NONE,
    [HEADER_TRACESTATE] = INDEXING_NONE,
    [HEADER_B3] = INDEXING_NONE,
    [HEADER_X_B3_TRACEID] = INDEXING_NONE,
    [HEADER_X_B3_SPANID] = INDEXING_NONE,
    [HEADER_X_B3_PARENTSPANID] = INDEXING_NONE,
    [HEADER_GRPC_TIMEOUT] = INDEXING_NONE,
    [HEADER_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS] = INDEXING_NONE,
};

/* --- the dynamic table ----------------------------------------------------------------------- */

struct hpack_entry {
    uint16_t at; /* of the name; the value follows */
    uint16_t name_len;
    uint16_t value_len;
    uint8_t id;
    uint8_t malformed;
};

static_assert(sizeof(struct hpack_entry) == 8, "a quarter of what HPACK counts for it");

static uint32_t ring_mask(const struct hpack_table *table)
{
    return table->room / HPACK_ENTRY_EXTRA - 1;
}

static struct hpack_entry *table_ring(const struct hpack_table *table)
{
    return (struct hpack_entry *)(void *)table->memory;
}

static uint8_t *table_bytes(const struct hpack_table *table)
{
    return table->memory + sizeof(struct hpack_entry) * (table->room / HPACK_ENTRY_EXTRA);
}

/* age 0 is the newest entry. */
static struct hpack_entry *table_entry(const struct hpack_table *table, uint32_t age)
{
    CHECK(age < table->count);
    return &table_ring(table)[(table->newest - age) & ring_mask(table)];
}

static struct header entry_header(const struct hpack_table *table, const struct hpack_entry *entry)
{
    const uint8_t *at = table_bytes(table) + entry->at;
    return (struct header){.name = {at, entry->name_len},
                           .value = {at + entry->name_len, entry->value_len},
                           .id = entry->id};
}

static void table_fini(struct hpack_table *table)
{
    FREE(table->memory);
    table->room = 0;
    table->size = 0;
    table->count = 0;
    table->end = 0;
}

static size_t table_memory(const struct hpack_table *table)
{
    return table->room + sizeof(struct hpack_entry) * (table->room / HPACK_ENTRY_EXTRA);
}

/* Drops the oldest entries until `needed` more fit. Their bytes stay where they are. */
static void table_evict(struct hpack_table *table, size_t needed)
{
    while (table->count > 0 && table->size + needed > table->max) {
        const struct hpack_entry *oldest = table_entry(table, table->count - 1U);
        table->size -= (uint32_t)oldest->name_len + oldest->value_len + HPACK_ENTRY_EXTRA;
        table->count--;
    }
}

static void table_set_max(struct hpack_table *table, uint32_t max)
{
    table->max = max;
    table_evict(table, 0);
    if (table->count == 0) {
        table_fini(table);
    }
}

/* Copies out of the table what a field still points at there. */
static void settle_slice(const struct hpack_table *table, struct hpack_list *list,
                         struct slice *slice)
{
    const uint8_t *bytes = table_bytes(table);
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
        uint32_t start = table->count > 0 ? table_entry(table, table->count - 1U)->at : table->end;
        uint8_t *bytes = table_bytes(table);
        memmove(bytes, bytes + start, table->end - start);
        for (uint32_t age = 0; age < table->count; age++) {
            table_entry(table, age)->at = (uint16_t)(table_entry(table, age)->at - start);
        }
        table->end -= start;
        return;
    }
    struct hpack_table grown = {.room = room, .max = table->max, .size = table->size};
    grown.memory = mem_raw(room + sizeof(struct hpack_entry) * (room / HPACK_ENTRY_EXTRA));
    for (uint32_t age = table->count; age > 0; age--) {
        struct hpack_entry entry = *table_entry(table, age - 1);
        size_t len = (size_t)entry.name_len + entry.value_len;
        memcpy(table_bytes(&grown) + grown.end, table_bytes(table) + entry.at, len);
        entry.at = (uint16_t)grown.end;
        grown.end += (uint32_t)len;
        grown.newest++;
        grown.count++;
        *table_entry(&grown, 0) = entry;
    }
    mem_free(table->memory);
    *table = grown;
}

/* Inserts a field; one that is larger than the table empties it (RFC 7541 4.4). The field's bytes
 * may lie in the table itself. `list`: the fields that may point into the table; null for an
 * encoder, whose fields never do. */
static bool table_insert(struct hpack_table *table, struct header *field, bool malformed,
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
    uint8_t *bytes = table_bytes(table) + table->end;
    if (field->name.len > 0) {
        memcpy(bytes, field->name.at, field->name.len);
    }
    if (field->value.len > 0) {
        memcpy(bytes + field->name.len, field->value.at, field->value.len);
    }
    table->newest++;
    table->count++;
    *table_entry(table, 0) = (struct hpack_entry){.at = (uint16_t)table->end,
                                                  .name_len = (uint16_t)field->name.len,
                                                  .value_len = (uint16_t)field->value.len,
                                                  .id = field->id,
                                                  .malformed = malformed};
    table->end += (uint32_t)len;
    table->size += (uint32_t)size;
    return true;
}

/* --- decoding -------------------------------------------------------------------------------- */

/* Bytes of a field name in HTTP/2: token characters without upper case (RFC 9113 8.2.1). */
static bool name_byte_ok(uint8_t c)
{
    static const uint64_t allowed[4] = {
        /* ! # $ % & ' * + - . 0-9 */ 0x03ff6cfa00000000,
        /* ^ _ ` a-z | ~ */ 0x57ffffffc0000000,
        0,
        0,
    };
    return (allowed[c >> 6] >> (c & 63) & 1) != 0;
}

static bool name_ok(struct slice name)
{
    size_t at = name.len > 0 && name.at[0] == ':' ? 1 : 0;
    bool ok = name.len > at;
    for (; at < name.len; at++) {
        ok &= name_byte_ok(name.at[at]);
    }
    return ok;
}

static bool value_byte_ok(uint8_t c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* No control character but tab, no blank at either end (RFC 9113 8.2.1, RFC 9110 5.5). */
static bool value_ok(struct slice value)
{
    if (value.len == 0) {
        return true;
    }
    uint8_t first = value.at[0];
    uint8_t last = value.at[value.len - 1];
    if (first == ' ' || first == '\t' || last == ' ' || last == '\t') {
        return false;
    }
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t high = ones << 7;
    size_t at = 0;
    for (; at + 8 <= value.len; at += 8) {
        uint64_t word;
        memcpy(&word, value.at + at, 8);
        uint64_t low = (word - ones * 0x20) & ~word;
        uint64_t del = word ^ ones * 0x7f;
        del = (del - ones) & ~del;
        if (((low | del) & high) != 0) {
            break; /* a suspect, perhaps only a tab: look byte by byte */
        }
    }
    for (; at < value.len; at++) {
        if (!value_byte_ok(value.at[at])) {
            return false;
        }
    }
    return true;
}

static uint8_t id_of_name(struct slice name)
{
    static const struct {
        struct slice name;
        uint8_t id;
    } pseudos[] = {
#define PSEUDO(text, id) {{(const uint8_t *)(text), sizeof(text) - 1}, id}
        PSEUDO(":authority", HPACK_AUTHORITY), PSEUDO(":method", HPACK_METHOD),
        PSEUDO(":path", HPACK_PATH),           PSEUDO(":scheme", HPACK_SCHEME),
        PSEUDO(":status", HPACK_STATUS),       PSEUDO(":protocol", HPACK_PROTOCOL),
#undef PSEUDO
    };
    if (name.len == 0 || name.at[0] != ':') {
        return (uint8_t)header_id_of(name);
    }
    for (size_t i = 0; i < COUNT_OF(pseudos); i++) {
        if (slice_eq(name, pseudos[i].name)) {
            return pseudos[i].id;
        }
    }
    return HPACK_PSEUDO_UNKNOWN;
}

/* RFC 7541 5.1. False: cut, or above 2^28. */
static bool read_int(struct slice *in, unsigned prefix_bits, uint32_t *value)
{
    uint32_t mask = (1U << prefix_bits) - 1;
    uint32_t sum = in->at[0] & mask;
    *in = slice_from(*in, 1);
    if (sum == mask) {
        for (unsigned shift = 0;; shift += 7) {
            if (in->len == 0 || shift > 21) {
                return false;
            }
            uint8_t byte = in->at[0];
            *in = slice_from(*in, 1);
            sum += (uint32_t)(byte & 0x7f) << shift;
            if ((byte & 0x80) == 0) {
                break;
            }
        }
    }
    *value = sum;
    return true;
}

/* RFC 7541 5.2. *cut: the string does not fit the scratch, so it is larger than any list or table
 * that we take; its length is true, its bytes are not. */
static bool read_string(struct slice *in, struct hpack_list *list, struct slice *string, bool *cut)
{
    uint32_t len;
    if (in->len == 0) {
        return false;
    }
    bool huffman = (in->at[0] & 0x80) != 0;
    if (!read_int(in, 7, &len) || len > in->len) {
        return false;
    }
    struct slice raw = slice_head(*in, len);
    *in = slice_from(*in, len);
    if (!huffman) {
        *string = raw;
        return true;
    }
    struct span room = {list->scratch.at + list->used, list->scratch.len - list->used};
    size_t decoded;
    if (!huffman_decode(raw, room, &decoded)) {
        return false;
    }
    *cut |= decoded > room.len;
    list->used += decoded < room.len ? decoded : room.len;
    *string = slice_of(room.at, decoded);
    return true;
}

/* The field at an index of both tables (RFC 7541 2.3.3). */
static bool look_up(const struct hpack_table *table, uint32_t index, struct header *field,
                    bool *malformed)
{
    if (index == 0) {
        return false;
    }
    if (index <= HPACK_STATIC_COUNT) {
        const struct static_field *known = &static_fields[index - 1];
        *field = (struct header){.name = slice_of(known->name, known->name_len),
                                 .value = slice_of(known->value, known->value_len),
                                 .id = known->id};
        *malformed = false;
        return true;
    }
    uint32_t age = index - HPACK_STATIC_COUNT - 1;
    if (age >= table->count) {
        return false;
    }
    const struct hpack_entry *entry = table_entry(table, age);
    *field = entry_header(table, entry);
    *malformed = entry->malformed;
    return true;
}

static void list_add(struct hpack_list *list, const struct header *field, bool malformed)
{
    list->malformed |= malformed;
    list->list_size += field->name.len + field->value.len + HPACK_ENTRY_EXTRA;
    list->over_size |= list->list_size > list->list_max;
    list->over_count |= list->count == list->capacity;
    if (list->over_size || list->over_count) {
        list->count = 0;
        list->used = 0; /* nothing is kept: each later field may use all of the scratch */
        return;
    }
    list->field[list->count++] = *field;
}

/* RFC 7541 6.2. */
static bool read_literal(struct hpack_decoder *decoder, struct slice *in, struct hpack_list *list)
{
    uint8_t first = in->at[0];
    bool insert = (first & 0x40) != 0;
    struct header field = {.id = HEADER_OTHER};
    uint32_t index;
    bool malformed = false;
    if (!read_int(in, insert ? 6 : 4, &index)) {
        return false;
    }
    bool cut = false;
    if (index == 0) {
        if (!read_string(in, list, &field.name, &cut)) {
            return false;
        }
    } else if (!look_up(&decoder->table, index, &field, &malformed)) {
        return false;
    }
    if (!read_string(in, list, &field.value, &cut)) {
        return false;
    }
    if (cut) {
        list->over_size = true;
    } else {
        if (index == 0) {
            field.id = id_of_name(field.name);
        }
        malformed = ((index == 0 || malformed) && !name_ok(field.name)) || !value_ok(field.value);
    }
    field.no_index = !insert && (first & 0x10) != 0;
    if (insert) {
        (void)table_insert(&decoder->table, &field, malformed, list);
    }
    list_add(list, &field, malformed);
    return true;
}

/* RFC 7541 6.3. */
static bool read_update(struct hpack_decoder *decoder, struct slice *in)
{
    uint32_t max;
    if (!read_int(in, 5, &max) || max > decoder->allowed) {
        return false;
    }
    table_set_max(&decoder->table, max);
    return true;
}

void hpack_decoder_init(struct hpack_decoder *decoder)
{
    *decoder = (struct hpack_decoder){.table = {.max = HPACK_TABLE_DEFAULT},
                                      .allowed = HPACK_TABLE_DEFAULT};
}

void hpack_decoder_fini(struct hpack_decoder *decoder)
{
    table_fini(&decoder->table);
}

size_t hpack_decoder_memory(const struct hpack_decoder *decoder)
{
    return table_memory(&decoder->table);
}

void hpack_decoder_limit(struct hpack_decoder *decoder, uint32_t allowed)
{
    CHECK(allowed <= HPACK_TABLE_MAX);
    decoder->allowed = allowed;
}

bool hpack_decode(struct hpack_decoder *decoder, struct slice in, struct hpack_list *list)
{
    CHECK(list->scratch.len >= HPACK_SCRATCH(list->list_max));
    list->count = 0;
    list->used = 0;
    list->list_size = 0;
    list->over_size = false;
    list->over_count = false;
    list->malformed = false;
    while (in.len > 0 && (in.at[0] & 0xe0) == 0x20) { /* only in front (RFC 7541 4.2) */
        if (!read_update(decoder, &in)) {
            return false;
        }
    }
    if (decoder->table.max > decoder->allowed && in.len > 0) {
        return false; /* the peer owed us an update */
    }
    while (in.len > 0) {
        uint8_t first = in.at[0];
        if ((first & 0x80) != 0) {
            struct header field;
            uint32_t index;
            bool malformed;
            if (!read_int(&in, 7, &index) || !look_up(&decoder->table, index, &field, &malformed)) {
                return false;
            }
            list_add(list, &field, malformed);
        } else if ((first & 0xe0) == 0x20 || !read_literal(decoder, &in, list)) {
            return false;
        }
    }
    return true;
}

/* --- encoding -------------------------------------------------------------------------------- */

void hpack_encoder_init(struct hpack_encoder *encoder, uint32_t cap, bool huffman)
{
    CHECK(cap <= HPACK_TABLE_MAX);
    *encoder = (struct hpack_encoder){.table = {.max = HPACK_TABLE_DEFAULT},
                                      .cap = cap,
                                      .update_min = HPACK_TABLE_DEFAULT,
                                      .huffman = huffman};
    if (cap < HPACK_TABLE_DEFAULT) {
        hpack_encoder_limit(encoder, HPACK_TABLE_DEFAULT);
    }
}

void hpack_encoder_fini(struct hpack_encoder *encoder)
{
    table_fini(&encoder->table);
    FREE(encoder->slots);
}

size_t hpack_encoder_memory(const struct hpack_encoder *encoder)
{
    return table_memory(&encoder->table) +
           (encoder->slots != NULL ? SLOT_COUNT * sizeof *encoder->slots : 0);
}

void hpack_encoder_limit(struct hpack_encoder *encoder, uint32_t peer_max)
{
    uint32_t max = peer_max < encoder->cap ? peer_max : encoder->cap;
    if (max == encoder->table.max) {
        return;
    }
    table_set_max(&encoder->table, max);
    encoder->update_min = max < encoder->update_min ? max : encoder->update_min;
    encoder->update_due = true;
}

static uint8_t *write_int(uint8_t *at, uint8_t pattern, unsigned prefix_bits, size_t value)
{
    size_t mask = (1U << prefix_bits) - 1;
    if (value < mask) {
        *at++ = (uint8_t)(pattern | value);
        return at;
    }
    *at++ = (uint8_t)(pattern | mask);
    for (value -= mask; value >= 0x80; value >>= 7) {
        *at++ = (uint8_t)(value | 0x80);
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *write_string(const struct hpack_encoder *encoder, uint8_t *at, struct slice string)
{
    if (encoder->huffman) {
        size_t len = huffman_length(string);
        if (len < string.len) {
            return huffman_encode(string, write_int(at, 0x80, 7, len));
        }
    }
    at = write_int(at, 0, 7, string.len);
    if (string.len > 0) {
        memcpy(at, string.at, string.len);
    }
    return at + string.len;
}

/* Name in lower case; `lower` holds NAME_LOWER_MAX bytes. False: too long for it. */
static bool lower_name(struct slice *name, uint8_t *lower)
{
    if (name->len > NAME_LOWER_MAX) {
        return false;
    }
    uint8_t upper = 0;
    for (size_t i = 0; i < name->len; i++) {
        uint8_t c = name->at[i];
        uint8_t is_upper = (uint8_t)(c - 'A') < 26 ? 0x20 : 0;
        lower[i] = c | is_upper;
        upper |= is_upper;
    }
    if (upper != 0) {
        name->at = lower;
    }
    return true;
}

/* A few words of the string, not all of it: equality is decided by comparing. A peer that makes
 * collisions only loses compression. */
static uint32_t digest(struct slice s)
{
    uint64_t head = 0;
    uint64_t tail = 0;
    uint64_t middle = 0;
    if (s.len >= 8) {
        memcpy(&head, s.at, 8);
        memcpy(&tail, s.at + s.len - 8, 8);
        memcpy(&middle, s.at + (s.len - 8) / 2, 8);
    } else if (s.len >= 4) {
        uint32_t low;
        uint32_t high;
        memcpy(&low, s.at, 4);
        memcpy(&high, s.at + s.len - 4, 4);
        head = low;
        tail = high;
    } else if (s.len > 0) {
        head = s.at[0];
        middle = s.at[s.len / 2];
        tail = s.at[s.len - 1];
    }
    uint64_t hash = (head + s.len) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 29 ^ tail) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 32 ^ middle) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(hash >> 32);
}

static bool entry_has_name(const struct hpack_table *table, const struct hpack_entry *entry,
                           uint8_t id, struct slice name)
{
    if (id != HEADER_OTHER) {
        return entry->id == id;
    }
    return entry->id == HEADER_OTHER &&
           slice_eq(slice_of(table_bytes(table) + entry->at, entry->name_len), name);
}

/* The entry that a slot names, if it is still in the table; null otherwise. */
static const struct hpack_entry *slot_entry(const struct hpack_encoder *encoder, uint32_t hash,
                                            uint32_t *age)
{
    if (encoder->slots == NULL) {
        return NULL;
    }
    *age = (uint16_t)(encoder->inserted - encoder->slots[hash % SLOT_COUNT]);
    return *age < encoder->table.count ? table_entry(&encoder->table, *age) : NULL;
}

/* True when a field with this hash was met before: then an entry pays. On a collision the older
 * mark mostly gives way, not always, so that fields that share a mark do not starve each other. */
static bool seen_before(struct hpack_encoder *encoder, uint32_t hash)
{
    uint8_t *seen = &encoder->seen[hash / SLOT_COUNT % HPACK_SEEN];
    uint8_t mark = (uint8_t)(hash >> 24 | 1);
    if (*seen == mark) {
        *seen = 0;
        return true;
    }
    encoder->turn = (uint8_t)(encoder->turn * 5 + 13);
    if (*seen == 0 || (encoder->turn & 0x30) != 0) {
        *seen = mark;
    }
    return false;
}

static uint32_t static_name(uint8_t id, struct slice name)
{
    if (id >= HPACK_AUTHORITY) {
        static const uint8_t of_pseudo[] = {1, 2, 4, 6, 8, 0};
        return of_pseudo[id - HPACK_AUTHORITY];
    }
    if (id != HEADER_OTHER) {
        return static_of_id[id];
    }
    for (uint32_t i = 14; i < HPACK_STATIC_COUNT; i++) {
        const struct static_field *known = &static_fields[i];
        if (known->name_len == name.len && memcmp(known->name, name.at, name.len) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static void encoder_insert(struct hpack_encoder *encoder, struct header *field, uint32_t name_hash,
                           uint32_t hash)
{
    if (!table_insert(&encoder->table, field, false, NULL)) {
        return;
    }
    if (encoder->slots == NULL) {
        encoder->slots = NEW_ARRAY(uint16_t, SLOT_COUNT);
    }
    encoder->inserted++;
    encoder->slots[hash % SLOT_COUNT] = (uint16_t)encoder->inserted;
    encoder->slots[name_hash % SLOT_COUNT] = (uint16_t)encoder->inserted;
}

static uint8_t *write_literal(struct hpack_encoder *encoder, uint8_t *at, uint8_t pattern,
                              uint32_t name_index, const struct header *field)
{
    at = write_int(at, pattern, pattern == 0x40 ? 6 : 4, name_index);
    if (name_index == 0) {
        at = write_string(encoder, at, field->name);
    }
    return write_string(encoder, at, field->value);
}

/* Credentials are never indexed, here or at any later hop (RFC 7541 7.1.3). */
static bool is_secret(const struct header *field)
{
    if (field->no_index) {
        return true;
    }
    if (field->id == HEADER_COOKIE) {
        return field->value.len < 20;
    }
    return field->id == HEADER_OTHER && (slice_eq(field->name, SLICE("authorization")) ||
                                         slice_eq(field->name, SLICE("proxy-authorization")));
}

/* `field`: name in lower case, or empty where the id says it. */
static uint8_t *encode(struct hpack_encoder *encoder, uint8_t *at, struct header *field)
{
    bool pseudo = field->id >= HPACK_AUTHORITY;
    bool plain = !pseudo && indexing_of_id[field->id] == INDEXING_NONE;
    bool secret = is_secret(field);
    uint32_t name_hash =
        field->id != HEADER_OTHER ? field->id * UINT32_C(0x9e3779b1) >> 7 : digest(field->name);
    uint32_t age = 0;
    const struct hpack_entry *entry;
    if (!plain && !secret) {
        uint32_t hash = name_hash * 31 + digest(field->value);
        entry = slot_entry(encoder, hash, &age);
        if (entry != NULL && entry_has_name(&encoder->table, entry, field->id, field->name) &&
            slice_eq(entry_header(&encoder->table, entry).value, field->value)) {
            return write_int(at, 0x80, 7, HPACK_STATIC_COUNT + 1 + age);
        }
        size_t size = field->name.len + field->value.len + HPACK_ENTRY_EXTRA;
        if (size <= encoder->table.max / 2 && seen_before(encoder, hash)) {
            uint32_t index = static_name(field->id, field->name);
            entry = index == 0 ? slot_entry(encoder, name_hash, &age) : NULL;
            if (entry != NULL && entry_has_name(&encoder->table, entry, field->id, field->name)) {
                index = HPACK_STATIC_COUNT + 1 + age;
            }
            at = write_literal(encoder, at, 0x40, index, field);
            encoder_insert(encoder, field, name_hash, hash);
            return at;
        }
    }
    uint32_t index = static_name(field->id, field->name);
    if (index == 0) {
        entry = slot_entry(encoder, name_hash, &age);
        if (entry != NULL && entry_has_name(&encoder->table, entry, field->id, field->name)) {
            index = HPACK_STATIC_COUNT + 1 + age;
        }
    }
    return write_literal(encoder, at, secret ? 0x10 : 0, index, field);
}

uint8_t *hpack_encode_start(struct hpack_encoder *encoder, uint8_t *at)
{
    if (encoder->update_due) {
        if (encoder->update_min < encoder->table.max) {
            at = write_int(at, 0x20, 5, encoder->update_min);
        }
        at = write_int(at, 0x20, 5, encoder->table.max);
        encoder->update_due = false;
        encoder->update_min = encoder->table.max;
    }
    return at;
}

uint8_t *hpack_encode_field(struct hpack_encoder *encoder, uint8_t *at, const struct header *field)
{
    struct header copy = *field;
    uint8_t lower[NAME_LOWER_MAX];
    if (field->id != HEADER_OTHER) {
        CHECK(field->id < HEADER_ID_COUNT);
        copy.name = header_name(field->id);
    } else if (!lower_name(&copy.name, lower)) {
        at = write_int(at, 0x00, 4, 0);
        at = write_int(at, 0, 7, copy.name.len);
        for (size_t i = 0; i < copy.name.len; i++) {
            *at++ = slice_lower(copy.name.at[i]);
        }
        return write_string(encoder, at, copy.value);
    }
    return encode(encoder, at, &copy);
}

uint8_t *hpack_encode_pseudo(struct hpack_encoder *encoder, uint8_t *at, enum hpack_pseudo pseudo,
                             struct slice value)
{
    static const struct slice names[] = {
#define NAME(text) {(const uint8_t *)(text), sizeof(text) - 1}
        NAME(":authority"), NAME(":method"), NAME(":path"),
        NAME(":scheme"),    NAME(":status"), NAME(":protocol"),
#undef NAME
    };
    CHECK(pseudo < HPACK_PSEUDO_UNKNOWN);
    uint32_t index = 0;
    if (pseudo == HPACK_METHOD) {
        index = slice_eq(value, SLICE("GET"))    ? STATIC_METHOD_GET
                : slice_eq(value, SLICE("POST")) ? STATIC_METHOD_POST
                                                 : 0;
    } else if (pseudo == HPACK_SCHEME) {
        index = slice_eq(value, SLICE("http"))    ? STATIC_SCHEME_HTTP
                : slice_eq(value, SLICE("https")) ? STATIC_SCHEME_HTTPS
                                                  : 0;
    } else if (pseudo == HPACK_PATH && slice_eq(value, SLICE("/"))) {
        index = STATIC_PATH;
    }
    if (index > 0) {
        *at++ = (uint8_t)(0x80 | index);
        return at;
    }
    struct header field = {
        .name = names[pseudo - HPACK_AUTHORITY], .value = value, .id = (uint8_t)pseudo};
    return encode(encoder, at, &field);
}

uint8_t *hpack_encode_status(struct hpack_encoder *encoder, uint8_t *at, uint16_t status)
{
    static const uint16_t known[] = {200, 204, 206, 304, 400, 404, 500};
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i] == status) {
            *at++ = (uint8_t)(0x80 | (STATIC_STATUS_200 + i));
            return at;
        }
    }
    CHECK(status >= 100 && status <= 999);
    const uint8_t text[3] = {(uint8_t)('0' + status / 100), (uint8_t)('0' + status / 10 % 10),
                             (uint8_t)('0' + status % 10)};
    return hpack_encode_pseudo(encoder, at, HPACK_STATUS, slice_of(text, sizeof text));
}
