/* A format that is taken writes one line within its room, whatever the fields hold; one in JSON
 * writes JSON. */

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "sidecar/observe/access_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool fact)
{
    if (!fact) {
        abort();
    }
}

/* The input's own bytes are the fields' values too. */
static void write_line(const struct access_format *format, struct arena *arena, struct slice input,
                       bool json)
{
    static uint8_t line[1U << 20];
    struct message request = {.method = SLICE("GET"), .path = input, .authority = SLICE("a")};
    struct message answer = {.status = 200};
    must(headers_add(&request.headers, arena, SLICE("user-agent"), input));
    must(headers_add(&answer.headers, arena, SLICE("b"), input));
    struct access_facts facts = {.request = &request,
                                 .answer = &answer,
                                 .original_path = SLICE("/"),
                                 .details = SLICE("via_upstream"),
                                 .flags = "-",
                                 .grpc = -1};
    size_t cut = access_format_write(format, &facts, (struct span){line, 64});
    must(cut >= 1 && cut <= 64 && line[cut - 1] == '\n');
    size_t len = access_format_write(format, &facts, (struct span){line, sizeof line});
    must(len >= 1 && len <= sizeof line && line[len - 1] == '\n');
    if (json && len < sizeof line / 2) {
        json_t *value = json_parse(slice_of(line, len), NULL, NULL);
        must(value != NULL);
        json_decref(value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice input = slice_of(bytes, size < 2048 ? size : 2048);
    if (slice_find(input, 0) < input.len) {
        return 0; /* no field holds one, and base/json would not read it back */
    }
    struct arena arena;
    arena_init(&arena, NULL);
    const struct access_format *text = access_format_compile(&arena, input, NULL);
    if (text != NULL) {
        write_line(text, &arena, input, false);
    }
    const struct access_format *json = access_format_compile_json(&arena, input, NULL);
    if (json != NULL) {
        write_line(json, &arena, input, true);
    }
    arena_fini(&arena);
    return 0;
}
