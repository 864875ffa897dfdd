/* The body framer. Oracles: bytes, verdict and bytes consumed do not depend on how the input is
 * cut; what it gives is never more than what it took. */
#include <stdlib.h>

#include "http/h1_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

struct outcome {
    uint64_t hash;
    size_t given;
    size_t taken;
    enum h1_body_step last;
};

static struct outcome run(const uint8_t *bytes, size_t len, enum h1_body_kind kind, size_t piece)
{
    struct h1_body body;
    struct outcome outcome = {.hash = 14695981039346656037U, .last = H1_BODY_MORE};
    h1_body_init(&body, kind, 100);
    for (size_t from = 0; from < len && outcome.last == H1_BODY_MORE; from += piece) {
        struct slice in = slice_of(bytes + from, len - from < piece ? len - from : piece);
        size_t before = in.len;
        struct slice data;
        while ((outcome.last = h1_body_next(&body, &in, &data)) == H1_BODY_DATA) {
            for (size_t i = 0; i < data.len; i++) {
                outcome.hash = (outcome.hash ^ data.at[i]) * 1099511628211U;
            }
            outcome.given += data.len;
        }
        CHECK(outcome.last != H1_BODY_MORE || in.len == 0);
        outcome.taken += before - in.len;
    }
    /* An end that is only known from the next call. */
    if (outcome.last == H1_BODY_MORE && h1_body_complete(&body)) {
        outcome.last = H1_BODY_END;
    }
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) {
        return 0;
    }
    enum h1_body_kind kind = (enum h1_body_kind)(H1_BODY_LENGTH + bytes[0] % 3);
    struct outcome whole = run(bytes + 1, len - 1, kind, len);
    CHECK(whole.given <= whole.taken);
    for (size_t piece = 1; piece < 8; piece++) {
        struct outcome cut = run(bytes + 1, len - 1, kind, piece);
        CHECK(cut.hash == whole.hash);
        CHECK(cut.given == whole.given);
        CHECK(cut.taken == whole.taken);
        CHECK(cut.last == whole.last);
    }
    return 0;
}
