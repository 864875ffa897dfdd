/* Header names and tokens. Oracles: an id is found exactly where a plain comparison finds the name;
 * a copy holds the same fields. */
#include "base/check.h"
#include "http/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void check_id(struct slice name)
{
    enum header_id expected = HEADER_OTHER;
    for (int id = HEADER_OTHER + 1; id < HEADER_ID_COUNT; id++) {
        if (slice_eq_nocase(name, header_name((enum header_id)id))) {
            expected = (enum header_id)id;
        }
    }
    CHECK(header_id_of(name) == expected);
}

/* The input as lines of "name:value". */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct arena arena;
    struct headers list = {.count = 0};
    struct headers copy;
    arena_init(&arena, NULL);
    struct slice rest = slice_of(bytes, len);
    while (rest.at != NULL) {
        struct slice line = slice_cut(&rest, '\n');
        struct slice value = line;
        struct slice name = slice_cut(&value, ':');
        check_id(name);
        if (name.len == 0 || !headers_add(&list, &arena, name, value)) {
            break;
        }
    }
    headers_drop(&list, HEADER_CONNECTION);
    headers_copy(&copy, &arena, &list, 1);
    unsigned at = 0;
    for (unsigned i = 0; i < list.count; i++) {
        if (!list.field[i].dropped) {
            CHECK(slice_eq(copy.field[at].name, list.field[i].name));
            CHECK(slice_eq(copy.field[at].value, list.field[i].value));
            CHECK(headers_find_name(&copy, list.field[i].name) != NULL);
            at++;
        }
    }
    CHECK(at == copy.count);
    arena_fini(&arena);
    return 0;
}
