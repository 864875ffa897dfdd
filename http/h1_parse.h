#pragma once
/* Strict parser of HTTP/1 heads and trailer sections (RFC 9112 2 to 5): syntax only, what the
 * fields mean is h1_head's. No I/O, no memory of its own: a head that is not complete yet stays
 * with the caller, who presents it again with more behind it.
 *
 * Resuming costs nothing twice: lines that are whole are checked once while the head is incomplete,
 * bytes of the last line are looked at once, and only when the end has come is everything parsed
 * again in one pass. The verdict depends on the bytes alone, never on how they were cut, because
 * each line is first scanned to its end and then parsed, in order. */

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"
#include "http/codec.h"
#include "http/message.h"

/* A method longer than this is answered 501 (RFC 9112 3). */
#define H1_METHOD_MAX 64

struct h1_limits {
    uint32_t head_bytes; /* start line, fields and the empty line; also of a trailer section */
    uint32_t line_bytes; /* request line with its CRLF; at most H1_LINE_BYTES_MAX */
    uint16_t fields;     /* at most HEADERS_MAX */
};

#define H1_LINE_BYTES_MAX 16384
/* 60 KiB and 100 fields for a head, 8 KiB for a request line. */
#define H1_LIMITS_DEFAULT ((struct h1_limits){61440, 8192, 100})

enum h1_parsed {
    H1_PARSED_DONE, /* *used bytes made a whole head */
    H1_PARSED_MORE,
    H1_PARSED_BAD /* parser->bad says why */
};

/* Where the parser stands between calls; zeroed before each head. Positions count from the head's
 * first byte, so the bytes may move between calls. */
struct h1_parser {
    uint32_t line;    /* the first line that is not checked yet */
    uint32_t scanned; /* bytes before this hold no end of that line */
    uint16_t fields;  /* fields in the lines before */
    uint8_t bad;      /* enum codec_bad, after H1_PARSED_BAD */
};

/* A request's (out->kind MESSAGE_REQUEST) or response's head at the start of `in`. On DONE the
 * members that the start line gives are set, and out->headers holds all fields, borrowed from `in`.
 * out->headers.field must have room for limits->fields. For a request: method, version, and scheme,
 * authority and path as far as the target says them; a bare query of absolute form stays as it is.
 */
enum h1_parsed h1_parse_head(struct h1_parser *parser, const struct h1_limits *limits,
                             struct slice in, struct message *out, size_t *used) MUST_USE;
/* A trailer section, up to and with its empty line; `out` as above, only headers are set. */
enum h1_parsed h1_parse_trailers(struct h1_parser *parser, const struct h1_limits *limits,
                                 struct slice in, struct message *out, size_t *used) MUST_USE;
