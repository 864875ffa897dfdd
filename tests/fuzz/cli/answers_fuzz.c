/* JSON as pillion-control, or whoever listens there, may answer it -> what `pillion status` and
 * `pillion wait` show. What holds of every answer: an answer that is refused says why and shows
 * nothing of the mesh; what is shown ends with a line feed, and holds no other control character
 * and nothing but UTF-8, whatever the sidecars called themselves. */
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/status.h"
#include "cli/wait.h"

static void check_shown(const char *text, size_t len)
{
    CHECK(utf8_valid(slice_of(text, len)));
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];
        CHECK(c >= 0x20 || c == '\n');
        CHECK(c != 0x7F);
        CHECK(c != 0xC2 || (uint8_t)text[i + 1] >= 0xA0);
    }
    CHECK(len == 0 || text[len - 1] == '\n');
}

static void show(const json_t *answer, bool waited)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    char *text = NULL;
    size_t len = 0;
    bool live = false;
    FILE *out = open_memstream(&text, &len);
    CHECK(out != NULL);
    bool shown = waited ? wait_print(out, answer, &arena, &live, &err)
                        : status_print(out, answer, &arena, &err);
    (void)fclose(out);
    check_shown(text, len);
    CHECK(shown == (err.text[0] == '\0'));
    CHECK(waited || shown == (len > 0));
    free(text);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = {.text = ""};
    json_t *answer = json_parse(slice_of(bytes, len), NULL, &err);
    if (answer != NULL && json_is_object(answer)) { /* the others are refused before */
        show(answer, false);
        show(answer, true);
    }
    json_decref(answer);
    return 0;
}
