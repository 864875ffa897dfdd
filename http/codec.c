#include "http/codec.h"

#include "base/check.h"

const char *codec_event_name(enum codec_event_kind kind)
{
    static const char *const names[] = {
#define X(value, meaning) [CODEC_EV_##value] = #value,
        CODEC_EVENTS(X)
#undef X
    };
    CHECK((size_t)kind < COUNT_OF(names));
    return names[kind];
}

static const struct {
    const char *label;
    uint32_t code;
    uint16_t status;
} bads[CODEC_BAD_COUNT] = {
#define X(value, answer, error, text)                                                              \
    [CODEC_BAD_##value] = {.label = (text), .code = (error), .status = (answer)},
    CODEC_BADS(X)
#undef X
};

const char *codec_bad_name(enum codec_bad bad)
{
    CHECK(bad < CODEC_BAD_COUNT);
    return bads[bad].label;
}

uint16_t codec_bad_status(enum codec_bad bad)
{
    CHECK(bad < CODEC_BAD_COUNT);
    return bads[bad].status;
}

uint32_t codec_bad_code(enum codec_bad bad)
{
    CHECK(bad < CODEC_BAD_COUNT);
    return bads[bad].code;
}
