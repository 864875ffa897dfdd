#pragma once
/* What the name that a TLS handshake agreed on means: the one table. Pure; any thread. */

#include "base/slice.h"

enum alpn_codec { ALPN_NONE, ALPN_HTTP1, ALPN_HTTP2, ALPN_OPAQUE };

/* X(name, codec, meaning) */
#define ALPN_NAMES(X)                                                                              \
    X("pillion-h2", HTTP2, "between Pillion's sidecars: HTTP/2 with PEER frames")                  \
    X("istio-h2", HTTP2, "from meshes of the Istio kind")                                          \
    X("h2", HTTP2, "RFC 9113 3.2")                                                                 \
    X("istio-http/1.1", HTTP1, "from meshes of the Istio kind")                                    \
    X("istio-http/1.0", HTTP1, "from meshes of the Istio kind")                                    \
    X("http/1.1", HTTP1, "RFC 7301 6")                                                             \
    X("istio", OPAQUE, "from meshes that carry one connection to one")

/* ALPN_NONE for names that are not in the table, and for none. */
enum alpn_codec alpn_codec_of(struct slice name);
/* True for our own: PEER frames are spoken, strings need no Huffman code. */
static inline bool alpn_is_pillion(struct slice name)
{
    return slice_eq(name, SLICE("pillion-h2"));
}
