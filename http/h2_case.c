#include "http/h2_case.h"

#include <string.h>

#include "base/check.h"

#define AS_TITLE 1U
#define AS_LOWER 2U

/* Which of the two spellings a name has; one without letters has both. */
static unsigned spelling_of(struct slice name)
{
    unsigned spelling = AS_TITLE | AS_LOWER;
    bool first = true;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = name.at[i];
        bool upper = (uint8_t)(byte - 'A') < 26;
        bool lower = (uint8_t)(byte - 'a') < 26;
        if (upper) {
            spelling &= first ? AS_TITLE : 0;
        } else if (lower && first) {
            spelling &= AS_LOWER;
        }
        first = byte == '-';
    }
    return spelling;
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
        if (!headers->field[i].dropped) {
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
        bool other = !headers->field[i].dropped && (spelling_of(name) & usual) == 0;
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
