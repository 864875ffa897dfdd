/* The body of /api/wait, asked of an empty mesh: what is wanted and not there is absent. */

#include <stdint.h>
#include <string.h>

#include "control/serve/api.h"
#include "control/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct error err = {.text = ""};
    struct status_wanted *wanted = NULL;
    size_t count = 0;
    uint64_t timeout_ms = 0;
    arena_init(&arena, NULL);
    if (status_wait_read(&arena, slice_of(data, size), &wanted, &count, &timeout_ms, &err)) {
        struct picture picture = {0};
        struct status_sources sources = {.picture = &picture};
        bool live = true;
        CHECK(timeout_ms <= API_WAIT_MAX_MS);
        json_t *answer = status_wait_to_json(&sources, wanted, count, &live);
        CHECK(!live);
        CHECK(json_array_size(json_at(answer, "/objects")) == count);
        json_decref(answer);
    } else {
        CHECK(err.text[0] != '\0');
    }
    arena_fini(&arena);
    return 0;
}
