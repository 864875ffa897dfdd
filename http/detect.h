#pragma once
/* What speaks on a connection, from its first bytes. Pure and without state: the caller presents
 * all bytes so far, at most DETECT_BYTES_MAX are looked at, and the verdict never changes when more
 * come behind. HTTP is only believed after a whole request line or the whole HTTP/2 preface; the
 * first byte that fits nothing makes it opaque. */

#include "base/slice.h"

/* A request line with its CRLF; enough for every other verdict. */
#define DETECT_BYTES_MAX 8192

/* Of a server's, for every verdict: the head of a frame (RFC 9113 4.1). */
#define DETECT_SERVER_BYTES 9

/* X(value, meaning) */
#define DETECTED(X)                                                                                \
    X(MORE, "all bytes so far fit a protocol; more are needed")                                    \
    X(HTTP1, "a whole HTTP/1 request line")                                                        \
    X(HTTP2, "the whole client preface of HTTP/2 (RFC 9113 3.4)")                                  \
    X(TLS, "the beginning of a TLS ClientHello (RFC 8446 4, 5.1)")                                 \
    X(TARGET_LONG, "a request line that does not end in time; opaque, or 414 where HTTP is known") \
    X(OPAQUE, "none of these")

enum detected {
#define X(value, meaning) DETECTED_##value,
    DETECTED(X)
#undef X
};

/* Bytes from a client, where only HTTP is possible: HTTP2, MORE, or OPAQUE as soon as it is not
 * HTTP/2's preface. */
enum detected detect_preface(struct slice first);
/* Bytes from a client. */
enum detected detect_client(struct slice first);
/* Bytes from a server that spoke before its client: an HTTP/2 SETTINGS frame gives HTTP2, `HTTP/1.`
 * HTTP1. Never TLS or TARGET_LONG. */
enum detected detect_server(struct slice first);
const char *detected_name(enum detected detected);
