/* JSON to a bootstrap and back: what was read once reads again to the same text. */

#include <stdint.h>
#include <string.h>

#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"

#include "xds/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice text_of(struct arena *arena, const ProtobufCMessage *message)
{
    json_t *value = xds_json_write(arena, message);
    struct slice text = json_text(arena, value, false);
    json_decref(value);
    return text;
}

static ProtobufCMessage *read_text(struct arena *arena, struct slice text, struct error *err)
{
    json_t *value = json_parse(text, NULL, err);
    if (value == NULL) {
        return NULL;
    }
    ProtobufCMessage *message =
        xds_json_read(arena, &envoy__config__bootstrap__v3__bootstrap__descriptor, value, err);
    json_decref(value);
    return message;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    ProtobufCMessage *message = read_text(&arena, slice_of(data, size), &err);
    if (message == NULL) {
        CHECK(err.text[0] != '\0');
    } else {
        struct slice text = text_of(&arena, message);
        bool hidden = slice_search(text, SLICE("[redacted]")) < text.len;
        if (!hidden) {
            ProtobufCMessage *again = read_text(&arena, text, &err);
            CHECK(again != NULL);
            CHECK(slice_eq(text, text_of(&arena, again)));
        }
    }
    arena_fini(&arena);
    return 0;
}
