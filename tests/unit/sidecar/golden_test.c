/* Both ends of the wire agree: whatever policy/translate is held to by tests/golden for a sidecar,
 * the sidecar's compiler takes. What the golden files hold for gRPC clients is not for it. */

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/unit/sidecar/config_json.h"

#include <cmocka.h>

#define GOLDEN "tests/golden"

static struct slice read_file(struct arena *arena, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("cannot open %s", path);
        return slice_of_text("");
    }
    static uint8_t bytes[1 << 20];
    size_t len = fread(bytes, 1, sizeof(bytes), file);
    assert_true(len < sizeof(bytes));
    (void)fclose(file);
    return arena_dup(arena, slice_of(bytes, len));
}

static bool resource_type(struct slice word, enum xds_resource *type)
{
    static const struct {
        const char *word;
        enum xds_resource type;
    } known[] = {
        {"Listener", XDS_RESOURCE_LISTENER},
        {"RouteConfiguration", XDS_RESOURCE_ROUTES},
        {"Cluster", XDS_RESOURCE_CLUSTER},
        {"ClusterLoadAssignment", XDS_RESOURCE_ENDPOINTS},
        {"Destination", XDS_RESOURCE_DESTINATION},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (slice_eq(word, slice_of_text(known[i].word))) {
            *type = known[i].type;
            return true;
        }
    }
    return false;
}

/* A resource of the golden file, as bytes; false when the file holds none (a negative answer). */
static bool golden_bytes(struct arena *arena, const char *path, enum xds_resource type,
                         struct slice *bytes)
{
    struct error err = {.text = ""};
    json_t *whole = json_parse(read_file(arena, path), NULL, &err);
    if (whole == NULL) {
        fail_msg("%s: %s", path, err.text);
    }
    json_t *resource = json_object_get(whole, "resource");
    if (json_is_object(resource)) {
        const ProtobufCMessage *message =
            xds_json_read(arena, xds_type_of_resource(type)->descriptor, resource, &err);
        if (message == NULL) {
            fail_msg("%s: %s", path, err.text);
        }
        *bytes = encode_message(arena, message);
    }
    bool there = json_is_object(resource);
    json_decref(whole);
    return there;
}

static unsigned compile_line(struct arena *arena, const char *folder, struct slice line)
{
    struct slice rest = slice_trim(line);
    struct slice word = slice_cut(&rest, ' ');
    struct slice name = slice_cut(&rest, ' ');
    enum xds_resource type;
    struct slice bytes;
    if (!resource_type(word, &type) || rest.at == NULL || slice_starts(rest, SLICE("grpc_"))) {
        return 0;
    }
    char *path = arena_printf(arena, GOLDEN "/%s/expect/%.*s.json", folder, SLICE_ARG(rest));
    if (!golden_bytes(arena, path, type, &bytes)) {
        return 0;
    }
    struct compiled out;
    struct error err = {.text = ""};
    if (!compile_resource(type, name, bytes, NULL, &out, &err)) {
        fail_msg("%s: %s", path, err.text);
    }
    compiled_free(&out);
    return 1;
}

static void what_translate_says_compiles(void **state)
{
    (void)state;
    unsigned compiled = 0;
    DIR *folders = opendir(GOLDEN);
    assert_non_null(folders);
    for (struct dirent *entry = readdir(folders); entry != NULL; entry = readdir(folders)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        struct arena arena;
        arena_init(&arena, NULL);
        char *path = arena_printf(&arena, GOLDEN "/%s/ask", entry->d_name);
        struct slice lines = read_file(&arena, path);
        while (lines.at != NULL) {
            compiled += compile_line(&arena, entry->d_name, slice_cut(&lines, '\n'));
        }
        arena_fini(&arena);
    }
    (void)closedir(folders);
    assert_true(compiled > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_translate_says_compiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
