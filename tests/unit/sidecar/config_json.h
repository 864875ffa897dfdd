#pragma once
/* For tests: configuration written as JSON, with ' for " so that it can stand in C. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "sidecar/config/compile.h"
#include "xds/decode.h"
#include "xds/json.h"

#include <cmocka.h>

static inline json_t *config_json(const char *text)
{
    struct arena arena;
    arena_init(&arena, NULL);
    char *quoted = arena_text(&arena, slice_of_text(text));
    for (char *at = quoted; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    struct error err = {.text = ""};
    json_t *value = json_parse(slice_of_text(quoted), NULL, &err);
    if (value == NULL) {
        fail_msg("%s", err.text);
    }
    arena_fini(&arena);
    return value;
}

/* As if the control plane had sent it. */
static inline bool config_compile(enum xds_resource type, const char *name, const char *text,
                                  const struct compile_options *options, struct compiled *out,
                                  struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    json_t *value = config_json(text);
    const ProtobufCMessage *message =
        xds_json_read(&arena, xds_type_of_resource(type)->descriptor, value, err);
    if (message == NULL) {
        fail_msg("%s", err->text);
    }
    struct slice bytes = encode_message(&arena, message);
    bool good = compile_resource(type, slice_of_text(name), bytes, options, out, err);
    json_decref(value);
    arena_fini(&arena);
    return good;
}

/* Must compile. */
static inline struct compiled config_good(enum xds_resource type, const char *name,
                                          const char *text)
{
    struct compiled out;
    struct error err = {.text = ""};
    if (!config_compile(type, name, text, NULL, &out, &err)) {
        fail_msg("%s", err.text);
    }
    return out;
}

/* Must be refused with exactly this text. */
static inline void config_bad(enum xds_resource type, const char *name, const char *text,
                              const char *wanted)
{
    struct compiled out;
    struct error err = {.text = ""};
    if (config_compile(type, name, text, NULL, &out, &err)) {
        compiled_free(&out);
        fail_msg("accepted: %s", text);
    }
    assert_string_equal(err.text, wanted);
    assert_null(out.owner);
}
