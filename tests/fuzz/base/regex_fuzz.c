/* First line: a pattern; second: a rewrite; the rest: the text. Beyond "no crash": a refusal says
 * where; a text that is UTF-8, quoted as a pattern, matches itself; replacing what matches with
 * itself changes nothing. */
#include <stdint.h>

#include "base/alloc.h"
#include "base/regex.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

/* A backslash before every ASCII byte that is neither a letter nor a digit. */
static struct slice quote(struct arena *arena, struct slice text)
{
    uint8_t *quoted = arena_bytes(arena, text.len * 2 + 1);
    size_t used = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        uint8_t lower = slice_lower(c);
        if (c < 0x80 && !(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9')) {
            quoted[used++] = '\\';
        }
        quoted[used++] = c;
    }
    return slice_of(quoted, used);
}

static void check_quoted(struct arena *arena, struct regex_scratch *scratch, struct slice text)
{
    struct error err = {""};
    if (text.len > 200 || !utf8_valid(text) || slice_find(text, 0) < text.len) {
        return;
    }
    struct regex *regex = regex_new(quote(arena, text), &err);
    CHECK(regex != NULL);
    CHECK(regex_match(regex, scratch, text) == REGEX_MATCH);
    regex_free(&regex);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct arena arena;
    struct error err = {""};
    struct regex_scratch *scratch = regex_scratch_new();
    struct slice text = slice_of(input, len);
    struct slice pattern = slice_cut(&text, '\n');
    struct slice rewrite = slice_cut(&text, '\n');
    arena_init(&arena, NULL);
    struct regex *regex = regex_new(pattern, &err);
    CHECK((regex == NULL) == (err.text[0] != '\0'));
    if (regex != NULL) {
        struct slice out;
        CHECK(regex_match(regex, scratch, text) <= REGEX_LIMIT);
        if (regex_replace(regex, scratch, text, SLICE("\\0"), text.len, &arena, &out) ==
            REGEX_MATCH) {
            CHECK(slice_eq(out, text));
        }
        if (regex_check_rewrite(regex, rewrite, &err)) {
            enum regex_result result =
                regex_replace(regex, scratch, text, rewrite, 256, &arena, &out);
            CHECK(result != REGEX_MATCH || out.len <= 256);
        }
    }
    check_quoted(&arena, scratch, text);
    regex_free(&regex);
    regex_scratch_free(&scratch);
    arena_fini(&arena);
    return 0;
}
