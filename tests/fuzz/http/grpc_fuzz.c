/* gRPC's small formats. Oracles: messages do not depend on how the bytes are cut; a message encoded
 * and decoded is the same; a timeout formatted and read is never shorter. */
#include "http/grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static uint64_t run(const uint8_t *bytes, size_t len, size_t piece)
{
    struct grpc_reader reader;
    uint64_t hash = 17;
    enum grpc_read step = GRPC_READ_MORE;
    grpc_reader_init(&reader, 64);
    for (size_t from = 0; from < len && step == GRPC_READ_MORE; from += piece) {
        struct slice in = slice_of(bytes + from, len - from < piece ? len - from : piece);
        struct slice message;
        while ((step = grpc_reader_next(&reader, &in, &message)) == GRPC_READ_MESSAGE) {
            hash = slice_hash(message, hash) + 1;
        }
        CHECK(step != GRPC_READ_MORE || in.len == 0);
    }
    grpc_reader_fini(&reader);
    return hash * 8 + step;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) {
        return 0;
    }
    struct slice input = slice_of(bytes, len);
    uint64_t whole = run(bytes, len, len);
    CHECK(run(bytes, len, 1) == whole);
    CHECK(run(bytes, len, 7) == whole);
    struct arena arena;
    arena_init(&arena, NULL);
    struct slice back = grpc_message_decode(&arena, grpc_message_encode(&arena, input));
    CHECK(slice_eq(back, input));
    CHECK(grpc_message_decode(&arena, input).len <= len);
    arena_fini(&arena);
    uint64_t us = 0;
    uint64_t again = 0;
    char text[GRPC_TIMEOUT_TEXT];
    if (grpc_timeout_parse(input, &us)) {
        CHECK(grpc_timeout_parse(grpc_timeout_format(us, text), &again));
        CHECK(again >= us);
    }
    return 0;
}
