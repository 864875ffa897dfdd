#pragma once
/* What the fields of an HTTP/1 head mean: where the body ends (RFC 9112 6.3), whom the request is
 * for (3.2, 3.3), whether the connection lives on (9.3), what belongs to this hop only (RFC 9110
 * 7.6.1). Turns them into members of the message and drops the fields. Pure. */

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"
#include "http/codec.h"
#include "http/h1_body.h"
#include "http/message.h"

struct h1_framing {
    enum h1_body_kind kind;
    uint64_t length; /* LENGTH */
};

/* What a response answers, which its framing hangs on. */
struct h1_asked {
    bool head;
    bool connect;
    bool upgrade;
};

/* A request as h1_parse_head left it. `room`, at least as long as the path and one byte, takes a
 * path that had to be normalised. NONE, or why it must be refused. After NONE the message is
 * complete; message->protocol is set for an Upgrade that may be followed (HTTP/1.1, no body, not
 * h2c). */
enum codec_bad h1_head_request(struct message *message, struct span room,
                               struct h1_framing *framing) MUST_USE;
/* The same for a response; framing CLOSE is a body until the connection ends, or a tunnel. */
enum codec_bad h1_head_response(struct message *message, const struct h1_asked *asked,
                                struct h1_framing *framing) MUST_USE;
/* Drops from a trailer section what may only stand in a head (RFC 9110 6.5.1). False: nothing is
 * left of it. */
bool h1_head_trailers(struct message *message) MUST_USE;
