/* The encoder finds entries by one hash over name and value into a small array without chains: a
 * slot names the newest entry with that hash, and comparing decides. A peer that makes collisions
 * loses compression and nothing else. */
#include <string.h>

#include "base/alloc.h"
#include "http/h2_hpack.h"
#include "http/h2_huffman.h"
#include "http/h2_table.h"

#define NAME_LOWER_MAX 128 /* longer names are written as literals without a look-up */
#define SLOT_COUNT     128 /* one for each entry of a table of 4 KiB */

/* Indexes into the static table that the encoder knows without a search. */
enum static_index {
    STATIC_AUTHORITY = 1,
    STATIC_METHOD_GET = 2,
    STATIC_METHOD_POST = 3,
    STATIC_PATH = 4,
    STATIC_SCHEME_HTTP = 6,
    STATIC_SCHEME_HTTPS = 7,
    STATIC_STATUS_200 = 8,
    STATIC_FIRST_FIELD = 15, /* no pseudo field from here on */
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
    hpack_table_fini(&encoder->table);
    FREE(encoder->slots);
}

size_t hpack_encoder_memory(const struct hpack_encoder *encoder)
{
    return hpack_table_memory(&encoder->table) +
           (encoder->slots != NULL ? SLOT_COUNT * sizeof *encoder->slots : 0);
}

void hpack_encoder_limit(struct hpack_encoder *encoder, uint32_t peer_max)
{
    uint32_t max = peer_max < encoder->cap ? peer_max : encoder->cap;
    if (max == encoder->table.max) {
        return;
    }
    hpack_table_set_max(&encoder->table, max);
    encoder->update_min = max < encoder->update_min ? max : encoder->update_min;
    encoder->update_due = true;
}

static inline uint8_t *write_int(uint8_t *at, uint8_t pattern, unsigned prefix_bits, size_t value)
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

/* Eight bytes from `from` to `to`, in lower case; true when that changed one. */
static inline bool lower_word(uint8_t *to, const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, 8);
    uint64_t bits = slice_word_range(word, 'A', 'Z') >> 2;
    word |= bits;
    memcpy(to, &word, 8);
    return bits != 0;
}

/* Name in lower case; `lower` holds NAME_LOWER_MAX bytes. */
static void lower_name(struct slice *name, uint8_t *lower)
{
    bool changed = false;
    if (name->len >= 8) {
        for (size_t i = 0; i + 8 < name->len; i += 8) {
            changed |= lower_word(lower + i, name->at + i);
        }
        /* The last eight, some of them for the second time. */
        changed |= lower_word(lower + name->len - 8, name->at + name->len - 8);
    } else {
        for (size_t i = 0; i < name->len; i++) {
            lower[i] = slice_lower(name->at[i]);
            changed |= lower[i] != name->at[i];
        }
    }
    if (changed) {
        name->at = lower;
    }
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
    return entry->id == HEADER_OTHER && slice_eq(hpack_entry_name(table, entry), name);
}

/* The entry that a slot names, if it is still in the table and has that name; null otherwise. */
static const struct hpack_entry *slot_entry(const struct hpack_encoder *encoder, uint32_t hash,
                                            const struct header *field, uint32_t *age)
{
    if (encoder->slots == NULL) {
        return NULL;
    }
    *age = (uint16_t)(encoder->inserted - encoder->slots[hash % SLOT_COUNT]);
    if (*age >= encoder->table.count) {
        return NULL;
    }
    const struct hpack_entry *entry = hpack_table_entry(&encoder->table, *age);
    return entry_has_name(&encoder->table, entry, field->id, field->name) ? entry : NULL;
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
    for (uint32_t i = STATIC_FIRST_FIELD; i <= HPACK_STATIC_COUNT; i++) {
        if (slice_eq(hpack_static[i - 1].name, name)) {
            return i;
        }
    }
    return 0;
}

/* Index of an entry of either table with that name; 0: none. */
static uint32_t name_index(const struct hpack_encoder *encoder, const struct header *field,
                           uint32_t name_hash)
{
    uint32_t age;
    uint32_t index = static_name(field->id, field->name);
    if (index == 0 && slot_entry(encoder, name_hash, field, &age) != NULL) {
        index = HPACK_STATIC_COUNT + 1 + age;
    }
    return index;
}

static void encoder_insert(struct hpack_encoder *encoder, struct header *field, uint32_t name_hash,
                           uint32_t hash)
{
    if (!hpack_table_insert(&encoder->table, field, false, NULL)) {
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

/* A field that is not in the table as it is. */
static uint8_t *encode_literal(struct hpack_encoder *encoder, uint8_t *at, struct header *field,
                               uint32_t name_hash, uint32_t hash, bool may_insert)
{
    if (field->id != HEADER_OTHER && field->id < HEADER_ID_COUNT) {
        field->name = header_name((enum header_id)field->id);
    }
    uint32_t index = name_index(encoder, field, name_hash);
    if (is_secret(field)) {
        return write_literal(encoder, at, 0x10, index, field);
    }
    size_t size = field->name.len + field->value.len + HPACK_ENTRY_EXTRA;
    if (!may_insert || size > encoder->table.max / 2 || !seen_before(encoder, hash)) {
        return write_literal(encoder, at, 0x00, index, field);
    }
    at = write_literal(encoder, at, 0x40, index, field);
    encoder_insert(encoder, field, name_hash, hash);
    return at;
}

/* `field`: name in lower case; not read where the id says it, but for pseudo fields. */
static uint8_t *encode(struct hpack_encoder *encoder, uint8_t *at, struct header *field)
{
    bool plain = field->no_index ||
                 (field->id < HEADER_ID_COUNT && indexing_of_id[field->id] == INDEXING_NONE);
    uint32_t name_hash =
        field->id != HEADER_OTHER ? field->id * UINT32_C(0x9e3779b1) >> 7 : digest(field->name);
    if (plain) {
        return encode_literal(encoder, at, field, name_hash, 0, false);
    }
    /* The newest entry of that name mostly has the value, too. */
    uint32_t age;
    const struct hpack_entry *entry = slot_entry(encoder, name_hash, field, &age);
    if (entry != NULL && slice_eq(hpack_entry_value(&encoder->table, entry), field->value)) {
        return write_int(at, 0x80, 7, HPACK_STATIC_COUNT + 1 + age);
    }
    uint32_t hash = name_hash * 31 + digest(field->value);
    entry = slot_entry(encoder, hash, field, &age);
    if (entry != NULL && slice_eq(hpack_entry_value(&encoder->table, entry), field->value)) {
        return write_int(at, 0x80, 7, HPACK_STATIC_COUNT + 1 + age);
    }
    return encode_literal(encoder, at, field, name_hash, hash, true);
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
    CHECK(field->id < HEADER_ID_COUNT);
    struct header copy = *field;
    if (field->id != HEADER_OTHER) {
        return encode(encoder, at, &copy);
    }
    if (field->name.len <= NAME_LOWER_MAX) {
        uint8_t lower[NAME_LOWER_MAX];
        lower_name(&copy.name, lower);
        return encode(encoder, at, &copy);
    }
    at = write_int(at, field->no_index ? 0x10 : 0x00, 4, 0);
    at = write_int(at, 0x00, 7, field->name.len);
    for (size_t i = 0; i < field->name.len; i++) {
        *at++ = slice_lower(field->name.at[i]);
    }
    return write_string(encoder, at, field->value);
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
