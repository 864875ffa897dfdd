/* Requests through the server codec and out of the client codec. Oracles: the events do not depend
 * on how the input is cut; what is written upstream parses to the same requests. */
#include "tests/support/h1_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void check_cuts(struct slice input, const char *expected,
                       size_t (*cut)(void *cuts, size_t at), uint32_t seed)
{
    struct relay relay;
    relay_init(&relay);
    relay_run(&relay, input, cut, &seed);
    CHECK(strcmp(relay.trace.text, expected) == 0);
    relay_fini(&relay);
}

/* Our own spelling may be a little longer than the sender's. */
static void check_again(struct relay *first)
{
    struct slice up = trace_flatten(&first->up);
    struct relay again;
    relay_init(&again);
    again.limits = (struct h1_limits){1 << 20, H1_LINE_BYTES_MAX, HEADERS_MAX};
    relay_run(&again, up, NULL, NULL);
    CHECK(!again.stopped);
    CHECK(again.requests == first->requests);
    trace_keep_messages(&first->trace);
    trace_keep_messages(&again.trace);
    CHECK(strcmp(first->trace.text, again.trace.text) == 0);
    relay_fini(&again);
    free((void *)(uintptr_t)up.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct slice input = slice_of(bytes, len);
    struct relay relay;
    relay_init(&relay);
    relay_run(&relay, input, NULL, NULL);
    check_cuts(input, relay.trace.text, cut_by_seed, (uint32_t)len);
    if (len < 512) {
        check_cuts(input, relay.trace.text, cut_every_byte, 0);
    }
    check_again(&relay);
    relay_fini(&relay);
    return 0;
}
