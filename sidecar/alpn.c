#include "sidecar/alpn.h"

enum alpn_codec alpn_codec_of(struct slice name)
{
#define X(text, codec, meaning)                                                                    \
    if (slice_eq(name, SLICE(text))) {                                                             \
        return ALPN_##codec;                                                                       \
    }
    ALPN_NAMES(X)
#undef X
    return ALPN_NONE;
}
