#include "http/h2_hpack.h"

#include <string.h>

#include "http/h2_huffman.h"
#include "http/h2_table.h"
#include "http/scan.h"

static bool has_upper(struct slice name)
{
    size_t at = 0;
    uint64_t upper = 0;
    for (; at + 8 <= name.len; at += 8) {
        uint64_t word;
        memcpy(&word, name.at + at, 8);
        upper |= slice_word_range(word, 'A', 'Z');
    }
    for (; at < name.len; at++) {
        upper |= (uint8_t)(name.at[at] - 'A') < 26;
    }
    return upper != 0;
}

/* Token characters without upper case, behind a colon perhaps (RFC 9113 8.2.1). */
static bool name_ok(struct slice name)
{
    struct slice token = slice_from(name, name.len > 0 && name.at[0] == ':' ? 1 : 0);
    return token.len > 0 && scan_token(token.at, token.len) == token.len && !has_upper(token);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* No control character but tab, no blank at either end (RFC 9113 8.2.1, RFC 9110 5.5). */
static bool value_ok(struct slice value)
{
    return value.len == 0 || (!is_blank(value.at[0]) && !is_blank(value.at[value.len - 1]) &&
                              scan_text(value.at, value.len) == value.len);
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

/* The bytes of an integer behind its prefix (RFC 7541 5.1). False: cut, or above 2^28. */
static bool read_int_rest(struct slice *in, uint32_t *value)
{
    for (unsigned shift = 0; shift <= 21; shift += 7) {
        if (in->len == 0) {
            return false;
        }
        uint8_t byte = in->at[0];
        *in = slice_from(*in, 1);
        *value += (uint32_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return true;
        }
    }
    return false;
}

static inline bool read_int(struct slice *in, unsigned prefix_bits, uint32_t *value)
{
    uint32_t mask = (1U << prefix_bits) - 1;
    *value = in->at[0] & mask;
    *in = (struct slice){in->at + 1, in->len - 1};
    return LIKELY(*value < mask) || read_int_rest(in, value);
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
static inline bool look_up(const struct hpack_table *table, uint32_t index, struct header *field,
                           bool *malformed)
{
    uint32_t age = index - HPACK_STATIC_COUNT - 1;
    if (index - 1 < HPACK_STATIC_COUNT) {
        *field = hpack_static[index - 1];
        *malformed = false;
        return true;
    }
    if (index == 0 || age >= table->count) {
        return false;
    }
    const struct hpack_entry *entry = hpack_table_entry(table, age);
    *field = (struct header){.name = hpack_entry_name(table, entry),
                             .value = hpack_entry_value(table, entry),
                             .id = entry->id};
    *malformed = entry->malformed;
    return true;
}

/* Where the next field is made: at the list's end, or beside a list that is full. */
static inline struct header *list_next(const struct hpack_list *list, struct header *beside)
{
    return LIKELY(list->count < list->capacity) ? &list->field[list->count] : beside;
}

/* Keeps what stands in list_next's place. */
static inline void list_keep(struct hpack_list *list, const struct header *field, bool malformed)
{
    list->malformed |= malformed;
    list->list_size += field->name.len + field->value.len + HPACK_ENTRY_EXTRA;
    list->over_size |= list->list_size > list->list_max && !MUTANT(15);
    list->over_count |= list->count == list->capacity;
    if (UNLIKELY(list->over_size || list->over_count)) {
        list->count = 0;
        list->used = 0; /* nothing is kept: each later field may use all of the scratch */
        return;
    }
    list->count++;
}

/* RFC 7541 6.2. */
static bool read_literal(struct hpack_decoder *decoder, struct slice *in, struct hpack_list *list)
{
    uint8_t first = in->at[0];
    bool insert = (first & 0x40) != 0;
    struct header beside;
    struct header *field = list_next(list, &beside);
    uint32_t index;
    bool malformed = false;
    *field = (struct header){.id = HEADER_OTHER};
    if (!read_int(in, insert ? 6 : 4, &index)) {
        return false;
    }
    bool cut = false;
    if (index == 0) {
        if (!read_string(in, list, &field->name, &cut)) {
            return false;
        }
    } else if (!look_up(&decoder->table, index, field, &malformed)) {
        return false;
    }
    if (!read_string(in, list, &field->value, &cut)) {
        return false;
    }
    if (cut) {
        list->over_size = true;
    } else {
        if (index == 0) {
            field->id = id_of_name(field->name);
            /* A name that is one of ours can only be wrong in its case. */
            malformed = field->id == HEADER_OTHER || field->id == HPACK_PSEUDO_UNKNOWN
                            ? !name_ok(field->name)
                            : has_upper(field->name);
        } else {
            malformed = malformed && !name_ok(field->name);
        }
        malformed |= !value_ok(field->value);
    }
    field->no_index = !insert && (first & 0x10) != 0;
    if (insert) {
        (void)hpack_table_insert(&decoder->table, field, malformed, list);
    }
    list_keep(list, field, malformed);
    return true;
}

/* RFC 7541 6.3. */
static bool read_update(struct hpack_decoder *decoder, struct slice *in)
{
    uint32_t max;
    if (!read_int(in, 5, &max) || max > decoder->allowed) {
        return false;
    }
    hpack_table_set_max(&decoder->table, max);
    return true;
}

void hpack_decoder_init(struct hpack_decoder *decoder)
{
    *decoder = (struct hpack_decoder){.table = {.max = HPACK_TABLE_DEFAULT},
                                      .allowed = HPACK_TABLE_DEFAULT};
}

void hpack_decoder_fini(struct hpack_decoder *decoder)
{
    hpack_table_fini(&decoder->table);
}

size_t hpack_decoder_memory(const struct hpack_decoder *decoder)
{
    return hpack_table_memory(&decoder->table);
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
            struct header beside;
            struct header *field = list_next(list, &beside);
            uint32_t index;
            bool malformed;
            if (!read_int(&in, 7, &index) || !look_up(&decoder->table, index, field, &malformed)) {
                return false;
            }
            list_keep(list, field, malformed);
        } else if ((first & 0xe0) == 0x20 || !read_literal(decoder, &in, list)) {
            return false;
        }
    }
    return true;
}
