#pragma once
/* Bytes of HTTP/1 from messages: heads, chunks, trailers. Nothing is passed on as it came: every
 * line is made anew from what was parsed, with one space where one belongs, and the framing fields
 * are the writer's own. Fields that frame a message are skipped should somebody have put them among
 * message->headers. Names keep their spelling; those of an HTTP/2 message (lower case) leave in
 * Title-Case. Pure; appends to `out`. */

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"
#include "http/h1_body.h"
#include "http/message.h"

enum h1_connection {
    H1_CONNECTION_NONE, /* the version's default */
    H1_CONNECTION_CLOSE,
    H1_CONNECTION_KEEP_ALIVE, /* said to HTTP/1.0 */
    H1_CONNECTION_UPGRADE     /* with `protocol` */
};

/* The part of a head that is this connection's own. */
struct h1_style {
    enum h1_body_kind framing; /* LENGTH and CHUNKED write their field, NONE and CLOSE none */
    uint64_t length;
    enum h1_connection connection;
    struct slice protocol;
    uint16_t status; /* response: written instead of the message's where not 0 */
};

void h1_write_request(struct buf *out, const struct message *message, const struct h1_style *style);
void h1_write_response(struct buf *out, const struct message *message,
                       const struct h1_style *style);
/* All of `data` (not empty) as one chunk; moved without a copy but where it is small. */
void h1_write_chunk(struct buf *out, struct buf *data);
/* The last chunk and the end of a body without trailers. */
void h1_write_last_chunk(struct buf *out);
/* The last chunk with trailer fields. */
void h1_write_trailers(struct buf *out, const struct message *message);

/* RFC 9110 15's phrase; the empty slice for a status that has none. */
struct slice h1_reason(uint16_t status);
