/* Detection. Oracles: the verdict, once there, never changes when more bytes come; a request line
 * that was recognised is one to the parser too, unless its version or target is refused. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "http/detect.h"
#include "http/h1.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void check_stays(enum detected (*detect)(struct slice first), struct slice input)
{
    enum detected verdict = DETECTED_MORE;
    for (size_t len = 0; len <= input.len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        CHECK(exact != NULL);
        if (len > 0) {
            memcpy(exact, input.at, len);
        }
        enum detected now = detect(slice_of(exact, len));
        CHECK(verdict == DETECTED_MORE || now == verdict);
        verdict = now;
        free(exact);
    }
}

static void check_parser_agrees(struct slice input)
{
    static struct h1_scratch scratch;
    const struct h1_limits limits = H1_LIMITS_DEFAULT;
    struct codec_event ev;
    struct codec *codec = h1_server_new(&limits, &scratch);
    enum codec_step step = codec_read(codec, &input, &ev);
    CHECK(step != CODEC_EVENT || ev.kind != CODEC_EV_REFUSED || ev.bad != CODEC_BAD_REQUEST_LINE);
    codec_free(&codec);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice input = slice_of(bytes, len < 300 ? len : 300);
    check_stays(detect_client, input);
    check_stays(detect_server, input);
    if (detect_client(input) == DETECTED_HTTP1) {
        check_parser_agrees(input);
    }
    return 0;
}
