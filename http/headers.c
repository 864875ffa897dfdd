/* Names are recognised by a hash without collisions among ours (length, first, middle and last
 * byte), then one compare of eight bytes at a time. A new id needs a line in headers.h and one in
 * `slots` here; the unit test names a line that is missing, the compiler one that collides (then
 * other factors are needed). A generated table (gperf) would say the same in 300 lines. */
#include "http/headers.h"

#include <endian.h>

#include "base/check.h"
#include "http/scan.h"

#define NAME_BYTES 31 /* with its length, two vectors */
#define SLOTS      256
#define SLOT(len, first, middle, last)                                                             \
    (((len)*1u + ((first) | 0x20u) + ((last) | 0x20u) * 1u + ((middle) | 0x20u) * 13u) % SLOTS)

struct known_name {
    uint8_t text[NAME_BYTES]; /* zero behind the name */
    uint8_t len;
};

static const struct known_name names[HEADER_ID_COUNT] = {
#define X(id, name) [HEADER_##id] = {.text = name, .len = sizeof(name) - 1},
    HEADER_IDS(X)
#undef X
};

static const uint8_t slots[SLOTS] = {
    [SLOT(4, 'h', 's', 't')] = HEADER_HOST,
    [SLOT(14, 'c', '-', 'h')] = HEADER_CONTENT_LENGTH,
    [SLOT(17, 't', '-', 'g')] = HEADER_TRANSFER_ENCODING,
    [SLOT(10, 'c', 'c', 'n')] = HEADER_CONNECTION,
    [SLOT(10, 'k', 'a', 'e')] = HEADER_KEEP_ALIVE,
    [SLOT(16, 'p', 'n', 'n')] = HEADER_PROXY_CONNECTION,
    [SLOT(7, 'u', 'r', 'e')] = HEADER_UPGRADE,
    [SLOT(2, 't', 'e', 'e')] = HEADER_TE,
    [SLOT(7, 't', 'i', 'r')] = HEADER_TRAILER,
    [SLOT(6, 'e', 'e', 't')] = HEADER_EXPECT,
    [SLOT(14, 'h', 'e', 's')] = HEADER_HTTP2_SETTINGS,
    [SLOT(4, 'd', 't', 'e')] = HEADER_DATE,
    [SLOT(6, 's', 'v', 'r')] = HEADER_SERVER,
    [SLOT(3, 'v', 'i', 'a')] = HEADER_VIA,
    [SLOT(6, 'c', 'k', 'e')] = HEADER_COOKIE,
    [SLOT(12, 'c', 't', 'e')] = HEADER_CONTENT_TYPE,
    [SLOT(10, 'u', 'a', 't')] = HEADER_USER_AGENT,
    [SLOT(11, 'r', '-', 'r')] = HEADER_RETRY_AFTER,
    [SLOT(12, 'p', 's', 's')] = HEADER_PROXY_STATUS,
    [SLOT(12, 'x', 'e', 'd')] = HEADER_X_REQUEST_ID,
    [SLOT(15, 'x', 'r', 'r')] = HEADER_X_FORWARDED_FOR,
    [SLOT(17, 'x', 'd', 'o')] = HEADER_X_FORWARDED_PROTO,
    [SLOT(16, 'x', 'd', 't')] = HEADER_X_FORWARDED_HOST,
    [SLOT(23, 'x', '-', 't')] = HEADER_X_FORWARDED_CLIENT_CERT,
    [SLOT(11, 't', 'p', 't')] = HEADER_TRACEPARENT,
    [SLOT(10, 't', 's', 'e')] = HEADER_TRACESTATE,
    [SLOT(2, 'b', '3', '3')] = HEADER_B3,
    [SLOT(12, 'x', 'r', 'd')] = HEADER_X_B3_TRACEID,
    [SLOT(11, 'x', 's', 'd')] = HEADER_X_B3_SPANID,
    [SLOT(17, 'x', 'e', 'd')] = HEADER_X_B3_PARENTSPANID,
    [SLOT(12, 'x', 'a', 'd')] = HEADER_X_B3_SAMPLED,
    [SLOT(10, 'x', 'f', 's')] = HEADER_X_B3_FLAGS,
    [SLOT(11, 'g', 's', 's')] = HEADER_GRPC_STATUS,
    [SLOT(12, 'g', 'e', 'e')] = HEADER_GRPC_MESSAGE,
    [SLOT(12, 'g', 'i', 't')] = HEADER_GRPC_TIMEOUT,
    [SLOT(22, 'g', 'p', 's')] = HEADER_GRPC_RETRY_PUSHBACK_MS,
    [SLOT(16, 'x', 'r', 'n')] = HEADER_X_ENVOY_RETRY_ON,
    [SLOT(19, 'x', 'a', 's')] = HEADER_X_ENVOY_MAX_RETRIES,
    [SLOT(30, 'x', 'm', 's')] = HEADER_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    [SLOT(30, 'x', 'd', 's')] = HEADER_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    [SLOT(21, 'x', 't', 't')] = HEADER_X_ENVOY_ATTEMPT_COUNT,
    [SLOT(14, 'x', 'o', 'e')] = HEADER_X_PILLION_CASE,
};

/* Equal but for the case of letters. `known` is lower case; a letter there has bit 0x40, which
 * digits and '-' have not: only then may the bytes differ by 0x20. */
static bool word_matches(uint64_t word, uint64_t known)
{
    uint64_t may_differ = (known & UINT64_C(0x4040404040404040)) >> 1;
    return ((word ^ known) & ~may_differ) == 0;
}

static uint64_t load_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* A name shorter than a word, the same bytes in the same places for the same length. */
static uint64_t load_short(const uint8_t *at, size_t len)
{
    if (len >= 4) {
        uint32_t first;
        uint32_t last;
        memcpy(&first, at, sizeof first);
        memcpy(&last, at + len - sizeof last, sizeof last);
        return (uint64_t)first << 32 | last;
    }
    return (uint64_t)at[0] << 16 | (uint64_t)at[len / 2] << 8 | at[len - 1];
}

/* Sixteen bytes, as word_matches. */
static inline bool half_matches(const uint8_t *name, const uint8_t *known)
{
#if defined(__SSE2__)
    __m128i ours = scan_load(known);
    __m128i may_differ = _mm_and_si128(_mm_srli_epi16(ours, 1), _mm_set1_epi8(0x20));
    __m128i differs = _mm_andnot_si128(may_differ, _mm_xor_si128(scan_load(name), ours));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(differs, _mm_setzero_si128())) == 0xffff;
#else
    return word_matches(load_word(name), load_word(known)) &&
           word_matches(load_word(name + 8), load_word(known + 8));
#endif
}

/* Lengths are equal. The second look may see again what the first saw. */
static bool name_matches(struct slice name, const struct known_name *known)
{
    if (name.len < 8) {
        return word_matches(load_short(name.at, name.len), load_short(known->text, name.len));
    }
    if (name.len < 16) {
        size_t last = name.len - 8;
        return word_matches(load_word(name.at), load_word(known->text)) &&
               word_matches(load_word(name.at + last), load_word(known->text + last));
    }
    size_t last = name.len - 16;
    return half_matches(name.at, known->text) && half_matches(name.at + last, known->text + last);
}

enum header_id header_id_of(struct slice name)
{
    if (name.len == 0) {
        return HEADER_OTHER;
    }
    unsigned id =
        slots[SLOT((unsigned)name.len, name.at[0], name.at[name.len / 2], name.at[name.len - 1])];
    if (names[id].len != name.len || !name_matches(name, &names[id])) {
        return HEADER_OTHER;
    }
    return (enum header_id)id;
}

struct slice header_name(enum header_id id)
{
    CHECK(id < HEADER_ID_COUNT);
    return slice_of(names[id].text, names[id].len);
}

static bool is_absent(const struct headers *headers, enum header_id id)
{
    return (headers->absent >> id & 1U) != 0;
}

void header_name_to_title(uint8_t *name, size_t len)
{
    uint64_t begins = 0x80; /* the byte begins a word; the lowest is the first */
    size_t at = 0;
    for (; at + 8 <= len; at += 8) {
        uint64_t word;
        memcpy(&word, name + at, 8);
        word = le64toh(word);
        uint64_t dashes = slice_word_range(word, '-', '-');
        word -= (slice_word_range(word, 'a', 'z') & (begins | dashes << 8)) >> 2;
        begins = dashes >> 56;
        word = htole64(word);
        memcpy(name + at, &word, 8);
    }
    for (bool first = begins != 0; at < len; at++) {
        bool lower = (uint8_t)(name[at] - 'a') < 26;
        name[at] = (uint8_t)(name[at] - (first && lower ? 0x20 : 0));
        first = name[at] == '-';
    }
}

struct header *headers_find(const struct headers *headers, enum header_id id)
{
    CHECK(id != HEADER_OTHER);
    if (is_absent(headers, id)) {
        return NULL;
    }
    for (unsigned i = 0; i < headers->count; i++) {
        struct header *field = &headers->field[i];
        if (field->id == id && !field->dropped) {
            return field;
        }
    }
    return NULL;
}

static bool is_field(const struct header *field, enum header_id id, struct slice name)
{
    return !field->dropped && field->id == id &&
           (id != HEADER_OTHER || slice_eq_nocase(field->name, name));
}

struct header *headers_find_name(const struct headers *headers, struct slice name)
{
    enum header_id id = header_id_of(name);
    for (unsigned i = 0; i < headers->count; i++) {
        if (is_field(&headers->field[i], id, name)) {
            return &headers->field[i];
        }
    }
    return NULL;
}

struct slice headers_value(const struct headers *headers, enum header_id id)
{
    const struct header *field = headers_find(headers, id);
    return field != NULL ? field->value : (struct slice){NULL, 0};
}

static NOINLINE void grow(struct headers *headers, struct arena *arena)
{
    unsigned wanted = headers->capacity < 8 ? 16 : headers->capacity * 2U;
    unsigned capacity = wanted < HEADERS_MAX ? wanted : HEADERS_MAX;
    struct header *grown = ARENA_ROOM(arena, struct header, capacity);
    if (headers->count > 0) {
        memcpy(grown, headers->field, headers->count * sizeof *grown);
    }
    headers->field = grown;
    headers->capacity = (uint16_t)capacity;
}

/* A place at the end for a field with that id; null where the list is at HEADERS_MAX. */
static struct header *append(struct headers *headers, struct arena *arena, enum header_id id)
{
    CHECK(headers->count <= headers->capacity);
    if (UNLIKELY(headers->count >= HEADERS_MAX)) {
        return NULL;
    }
    if (UNLIKELY(headers->count == headers->capacity)) {
        grow(headers, arena);
    }
    struct header *field = &headers->field[headers->count++];
    field->id = (uint8_t)id;
    field->dropped = false;
    field->no_index = false;
    field->spelled = false;
    headers->absent &= ~(UINT64_C(1) << id);
    return field;
}

bool headers_add(struct headers *headers, struct arena *arena, struct slice name,
                 struct slice value)
{
    struct header *field = append(headers, arena, header_id_of(name));
    if (field == NULL) {
        return false;
    }
    field->name = name;
    field->value = value;
    return true;
}

struct header *headers_add_known(struct headers *headers, struct arena *arena, enum header_id id,
                                 struct slice value)
{
    struct header *field = append(headers, arena, id);
    if (field != NULL) {
        field->name = header_name(id);
        field->value = value;
    }
    return field;
}

void headers_drop(struct headers *headers, enum header_id id)
{
    CHECK(id != HEADER_OTHER);
    if (is_absent(headers, id)) {
        return;
    }
    for (unsigned i = 0; i < headers->count; i++) {
        if (headers->field[i].id == id) {
            headers->field[i].dropped = true;
        }
    }
}

void headers_drop_name(struct headers *headers, struct slice name)
{
    enum header_id id = header_id_of(name);
    for (unsigned i = 0; i < headers->count; i++) {
        if (is_field(&headers->field[i], id, name)) {
            headers->field[i].dropped = true;
        }
    }
}

struct block_copy block_copy_begin(struct arena *arena, struct slice block)
{
    struct block_copy copy = {.arena = arena, .from = block, .to = NULL};
    if (block.len > 0) {
        uint8_t *to = arena_bytes(arena, block.len);
        memcpy(to, block.at, block.len);
        copy.to = to;
    }
    return copy;
}

void headers_copy(struct headers *to, struct arena *arena, const struct headers *from,
                  unsigned extra)
{
    struct block_copy copy = block_copy_begin(arena, (struct slice){NULL, 0});
    headers_copy_with(to, &copy, from, extra);
}

void headers_copy_with(struct headers *to, const struct block_copy *bytes,
                       const struct headers *from, unsigned extra)
{
    CHECK(to != from);
    unsigned wanted = from->count + extra;
    unsigned capacity = wanted < HEADERS_MAX ? wanted : HEADERS_MAX;
    CHECK(capacity >= from->count);
    *to = (struct headers){.capacity = (uint16_t)capacity, .absent = from->absent};
    if (capacity == 0) {
        return;
    }
    to->field = ARENA_ROOM(bytes->arena, struct header, capacity);
    struct header *copy = to->field;
    for (unsigned i = 0; i < from->count; i++) {
        const struct header *field = &from->field[i];
        if (field->dropped) {
            continue;
        }
        *copy = *field;
        bool ours = bytes->lower && field->id != HEADER_OTHER && !field->spelled;
        copy->name =
            ours ? header_name((enum header_id)field->id) : block_copy_slice(bytes, field->name);
        copy->value = block_copy_slice(bytes, field->value);
        copy++;
    }
    to->count = (uint16_t)(copy - to->field);
}

bool headers_has_token(const struct headers *headers, enum header_id id, struct slice token)
{
    CHECK(id != HEADER_OTHER);
    for (unsigned i = 0; i < headers->count; i++) {
        const struct header *field = &headers->field[i];
        if (field->id != id || field->dropped) {
            continue;
        }
        struct slice rest = field->value;
        while (rest.at != NULL) {
            if (slice_eq_nocase(slice_trim(slice_cut(&rest, ',')), token)) {
                return true;
            }
        }
    }
    return false;
}
