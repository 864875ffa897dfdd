#include "http/h2_frame.h"

const char *h2_frame_name(uint8_t type)
{
    switch (type) {
#define X(name, number)                                                                            \
    case number:                                                                                   \
        return #name;
        H2_FRAMES(X)
#undef X
    default: /* any byte may stand on the wire */
        return "unknown";
    }
}

const char *h2_code_name(uint32_t code)
{
    static const char *const names[] = {
#define X(name, number) [number] = #name,
        H2_CODES(X)
#undef X
    };
    return code < sizeof names / sizeof names[0] ? names[code] : "unknown";
}
