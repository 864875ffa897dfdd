/* Each SIMD scan against its scalar twin, from every start. */
#include "base/check.h"
#include "http/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    for (size_t from = 0; from < len && from < 64; from++) {
        const uint8_t *at = bytes + from;
        size_t rest = len - from;
        CHECK(scan_token(at, rest) == scan_token_scalar(at, rest));
        CHECK(scan_text(at, rest) == scan_text_scalar(at, rest));
        CHECK(scan_visible(at, rest) == scan_visible_scalar(at, rest));
        CHECK(scan_target(at, rest) == scan_target_scalar(at, rest));
        CHECK(scan_host(at, rest) == scan_host_scalar(at, rest));
        CHECK(scan_plain_path(at, rest) == scan_plain_path_scalar(at, rest));
    }
    return 0;
}
