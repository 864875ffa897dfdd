#pragma once
/* Where an HTTP/1 body begins and ends (RFC 9112 6 and 7.1): by length, in chunks, or with the
 * connection. A framer consumes as it goes, keeps no bytes and never looks at one twice. Trailer
 * fields after the last chunk are left to h1_parse_trailers. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

/* Extensions are read and dropped (RFC 9112 7.1.1); a peer may not spend more than this on them in
 * one message, or it would make us work for bytes that carry nothing. */
#define H1_EXTENSION_BYTES_MAX 16384

enum h1_body_kind {
    H1_BODY_NONE,
    H1_BODY_LENGTH,
    H1_BODY_CHUNKED,
    H1_BODY_CLOSE, /* until the connection ends; tunnels too */
};

enum h1_body_step {
    H1_BODY_DATA,     /* *data is a piece of the body, borrowed from the input */
    H1_BODY_MORE,     /* all input is consumed */
    H1_BODY_END,      /* the body is complete */
    H1_BODY_TRAILERS, /* the last chunk was read; a trailer section follows */
    H1_BODY_BAD       /* the chunk framing is wrong */
};

struct h1_body {
    uint64_t left;            /* bytes of this body (LENGTH) or chunk */
    uint32_t extension_bytes; /* so far in this message */
    uint8_t kind;             /* enum h1_body_kind */
    uint8_t state;            /* inside the chunk framing */
    uint8_t digits;           /* of the chunk size so far */
};

/* `length` counts where kind is LENGTH. */
void h1_body_init(struct h1_body *body, enum h1_body_kind kind, uint64_t length);
/* The next piece from the front of *in, which is advanced. After END or TRAILERS it is not called
 * again before h1_body_init; CLOSE never ends by itself. */
enum h1_body_step h1_body_next(struct h1_body *body, struct slice *in, struct slice *data) MUST_USE;
/* True when END is known to follow without another byte. */
bool h1_body_complete(const struct h1_body *body);
