/* Targets, authorities, paths. Oracles: a normalised path is a fixed point, not longer, without dot
 * segments, with the query untouched; parts of an authority put together again are the authority.
 */
#include <stdio.h>
#include <stdlib.h>

#include "http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void check_no_dot_segments(struct slice path)
{
    struct slice rest = slice_head(path, slice_find(path, '?'));
    while (rest.at != NULL) {
        struct slice segment = slice_cut(&rest, '/');
        CHECK(!slice_eq(segment, SLICE(".")));
        CHECK(!slice_eq(segment, SLICE("..")));
    }
}

static void check_path(struct slice path)
{
    uint8_t *room = malloc(path.len + 1);
    uint8_t *again_room = malloc(path.len + 1);
    struct slice result;
    struct slice again;
    CHECK(room != NULL && again_room != NULL);
    if (path.len > 0 && path.at[0] == '/' &&
        uri_normalise(path, (struct span){room, path.len}, &result)) {
        CHECK(result.len <= path.len);
        CHECK(result.len > 0 && result.at[0] == '/');
        CHECK(slice_eq(slice_from(path, slice_find(path, '?')),
                       slice_from(result, slice_find(result, '?'))));
        check_no_dot_segments(result);
        CHECK(uri_normalise(result, (struct span){again_room, path.len}, &again));
        CHECK(slice_eq(again, result));
    }
    free(room);
    free(again_room);
}

static void check_authority(struct slice authority)
{
    struct uri_authority parts;
    if (!uri_parse_authority(authority, &parts)) {
        return;
    }
    size_t len = parts.host.len + (parts.ipv6 ? 2 : 0);
    CHECK(parts.host.len > 0);
    CHECK(len == authority.len || authority.at[len] == ':');
    CHECK(memchr(parts.host.at, '@', parts.host.len) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const methods[] = {"GET", "OPTIONS", "CONNECT"};
    struct slice input = slice_of(bytes, len);
    check_path(input);
    check_authority(input);
    for (unsigned i = 0; i < 3; i++) {
        struct uri_target target;
        if (uri_parse_target(slice_of_text(methods[i]), input, &target)) {
            CHECK(memchr(bytes, ' ', len) == NULL);
            check_authority(target.authority);
            check_path(target.path);
        }
    }
    return 0;
}
