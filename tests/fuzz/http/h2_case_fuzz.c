/* How names are spelled over the hop, there and back. Oracles: a name stays the same name whatever
 * the peer says of its spelling; what we say of a message brings back each spelling, but where it
 * is too long or one name is spelled in two ways. */
#include <string.h>

#include "base/check.h"
#include "http/h2_case.h"
#include "http/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define FIELDS_MAX 100

struct list {
    struct header field[FIELDS_MAX];
    struct headers headers;
};

static struct slice lowered(struct arena *arena, struct slice name)
{
    uint8_t *text = arena_bytes(arena, name.len + 1);
    for (size_t i = 0; i < name.len; i++) {
        text[i] = slice_lower(name.at[i]);
    }
    return slice_of(text, name.len);
}

/* What HTTP/1 writes of a field: RFC 9110 has no word for Title-Case, so it is said again here. */
static bool is_written_as(const struct message *message, const struct header *field,
                          struct slice expected)
{
    bool title = !field->spelled && message->spelling != MESSAGE_SPELLING_LOWER;
    for (size_t i = 0; i < field->name.len; i++) {
        uint8_t byte = field->name.at[i];
        bool first = i == 0 || field->name.at[i - 1] == '-';
        byte = title && first && byte >= 'a' && byte <= 'z' ? (uint8_t)(byte - 0x20) : byte;
        if (byte != expected.at[i]) {
            return false;
        }
    }
    return true;
}

static bool spelled_twice(const struct list *list)
{
    for (unsigned i = 0; i < list->headers.count; i++) {
        for (unsigned j = 0; j < i; j++) {
            struct slice a = list->field[i].name;
            struct slice b = list->field[j].name;
            if (slice_eq_nocase(a, b) && !slice_eq(a, b)) {
                return true;
            }
        }
    }
    return false;
}

static void check(struct arena *arena, const struct list *sent, struct slice value, bool ours)
{
    struct list *got = ARENA_NEW(arena, struct list);
    got->headers =
        (struct headers){.field = got->field, .count = sent->headers.count, .capacity = FIELDS_MAX};
    for (unsigned i = 0; i < sent->headers.count; i++) {
        got->field[i].name = lowered(arena, sent->field[i].name);
    }
    struct message message = {.version = MESSAGE_HTTP_2, .headers = got->headers};
    h2_case_read(&message, value);
    CHECK(!message_spoke_http2(&message));
    for (unsigned i = 0; i < sent->headers.count; i++) {
        CHECK(slice_eq_nocase(got->field[i].name, sent->field[i].name));
        CHECK(!ours || is_written_as(&message, &got->field[i], sent->field[i].name));
    }
}

/* A line is a name; the first one is a peer's value. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct list *list = ARENA_NEW(&arena, struct list);
    struct slice rest = slice_of(bytes, len);
    struct slice value = slice_cut(&rest, '\n');
    size_t total = 1;
    while (rest.at != NULL && list->headers.count < FIELDS_MAX) {
        struct slice name = slice_cut(&rest, '\n');
        if (name.len > 0 && scan_token(name.at, name.len) == name.len) {
            list->field[list->headers.count++] = (struct header){.name = name, .spelled = true};
            total += 1 + name.len;
        }
    }
    list->headers.field = list->field;
    check(&arena, list, value, false);
    uint8_t *room = arena_bytes(&arena, H2_CASE_BYTES_MAX);
    struct slice told = h2_case_write(&list->headers, room);
    CHECK(told.len >= 1);
    CHECK(told.len <= H2_CASE_BYTES_MAX);
    check(&arena, list, told, total <= H2_CASE_BYTES_MAX && !spelled_twice(list));
    arena_fini(&arena);
    return 0;
}
