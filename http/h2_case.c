#include "http/h2_case.h"

#include <endian.h>
#include <string.h>

#include "base/check.h"

#define AS_TITLE 1U
#define AS_LOWER 2U

/* Up to eight bytes from `at` on, zeros behind the last. */
static uint64_t word_at(struct slice name, size_t at)
{
    uint64_t word = 0;
    if (name.len - at >= 8) {
        memcpy(&word, name.at + at, 8);
        return le64toh(word);
    }
    if (name.len >= 8) {
        memcpy(&word, name.at + name.len - 8, 8);
        return le64toh(word) >> 8 * (8 - (name.len - at));
    }
    memcpy(&word, name.at, name.len);
    return le64toh(word);
}

/* Which of the two spellings a name has; one without letters has both. Eight bytes at a time; the
 * zeros behind a short name are no letters. */
static unsigned spelling_of(struct slice name)
{
    uint64_t no_title = 0;
    uint64_t no_lower = 0;
    uint64_t begins = 0x80; /* the byte begins a word; the lowest is the first */
    for (size_t at = 0; at < name.len; at += 8) {
        uint64_t word = word_at(name, at);
        uint64_t upper = slice_word_range(word, 'A', 'Z');
        uint64_t lower = slice_word_range(word, 'a', 'z');
        uint64_t dashes = slice_word_range(word, '-', '-');
        uint64_t first = begins | dashes << 8;
        begins = dashes >> 56;
        no_title |= (upper & ~first) | (lower & first);
        no_lower |= upper;
    }
    return (no_title == 0 ? AS_TITLE : 0) | (no_lower == 0 ? AS_LOWER : 0);
}

/* Fields that we added were spelled by nobody. */
static bool is_told(const struct header *field)
{
    return field->spelled && !field->dropped;
}

static bool listed(struct slice list, struct slice name)
{
    while (list.at != NULL) {
        if (slice_eq(slice_cut(&list, ','), name)) {
            return true;
        }
    }
    return false;
}

struct slice h2_case_write(const struct headers *headers, uint8_t *room)
{
    unsigned title = 0;
    unsigned lower = 0;
    unsigned all = 0;
    for (unsigned i = 0; i < headers->count; i++) {
        if (is_told(&headers->field[i])) {
            unsigned spelling = spelling_of(headers->field[i].name);
            title += (spelling & AS_TITLE) != 0;
            lower += (spelling & AS_LOWER) != 0;
            all++;
        }
    }
    unsigned usual = lower > title ? AS_LOWER : AS_TITLE;
    room[0] = usual == AS_LOWER ? 'l' : 'T';
    size_t len = 1;
    if ((usual == AS_LOWER ? lower : title) == all) {
        return slice_of(room, len);
    }
    for (unsigned i = 0; i < headers->count; i++) {
        struct slice name = headers->field[i].name;
        bool other = is_told(&headers->field[i]) && (spelling_of(name) & usual) == 0;
        if (other && len + 1 + name.len <= H2_CASE_BYTES_MAX &&
            !listed(slice_of(room, len), name)) {
            room[len] = ',';
            memcpy(room + len + 1, name.at, name.len);
            len += 1 + name.len;
        }
    }
    return slice_of(room, len);
}

void h2_case_read(struct message *message, struct slice value)
{
    struct slice list = slice_head(value, H2_CASE_BYTES_MAX);
    struct slice usual = slice_cut(&list, ',');
    message->spelling =
        slice_eq(usual, SLICE("l")) ? MESSAGE_SPELLING_LOWER : MESSAGE_SPELLING_TITLE;
    while (list.at != NULL) {
        struct slice name = slice_cut(&list, ',');
        for (unsigned i = 0; i < message->headers.count; i++) {
            struct header *field = &message->headers.field[i];
            if (slice_eq_nocase(field->name, name)) {
                field->name = name;
                field->spelled = true;
            }
        }
    }
}
