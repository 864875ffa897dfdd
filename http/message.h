#pragma once
/* The head of a request or a response, whichever protocol brought it. What a codec hands up borrows
 * from the codec and its input until the next call; message_copy makes it last. HTTP/1's framing
 * fields (Connection and what it names, Content-Length, Transfer-Encoding, Upgrade, TE but
 * `trailers`, Expect, Host) are turned into members here and are not among `headers`; each writer
 * makes its own protocol's framing from them. */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/slice.h"
#include "http/headers.h"

#define MESSAGE_LENGTH_UNKNOWN UINT64_MAX

enum message_kind { MESSAGE_REQUEST, MESSAGE_RESPONSE };

/* The version in which the message came; a writer uses its own. */
enum message_version { MESSAGE_HTTP_1_0, MESSAGE_HTTP_1_1, MESSAGE_HTTP_2 };

/* Of names that came over HTTP/2 in lower case, but for fields that are `spelled`: whether an
 * HTTP/1 sender stands behind it, and how it wrote them (h2_case.h). */
enum message_spelling {
    MESSAGE_SPELLING_NONE, /* HTTP/2 behind HTTP/2: HTTP/1 is written Title-Case */
    MESSAGE_SPELLING_TITLE,
    MESSAGE_SPELLING_LOWER
};

struct message {
    enum message_kind kind;
    enum message_version version;
    enum message_spelling spelling; /* HTTP/2 only */
    /* Request. */
    struct slice method;
    struct slice scheme;    /* "http" where the request did not say */
    struct slice authority; /* Host or :authority, as it came; may be empty for HTTP/1.0 */
    struct slice path;      /* origin form with query; "*" for OPTIONS *; empty for CONNECT */
    struct slice protocol; /* HTTP/1 Upgrade's value, or :protocol of extended CONNECT (RFC 8441) */
    bool connect;          /* a CONNECT without :protocol (a tunnel to `authority`) */
    bool expect_continue;  /* Expect: 100-continue */
    bool te_trailers;      /* TE: trailers */
    /* Response. */
    uint16_t status;
    struct slice reason; /* HTTP/1 only; empty otherwise */
    /* Both. */
    struct headers headers;
    struct slice block; /* one piece of memory that holds most of the bytes above; empty: none */
    /* As the sender said it, also where no body follows (HEAD, 304). MESSAGE_LENGTH_UNKNOWN: it
     * said nothing: chunked, until close, HTTP/2 without it, or no body at all. */
    uint64_t content_length;
    bool has_body; /* false: the head ends the message, or a tunnel may follow it */
    /* Read: the sender lets the connection live on after this message (HTTP/2: true). Written by a
     * server codec of HTTP/1: false makes it say `Connection: close`; whoever passes on an
     * upstream's head sets it anew, because it speaks of the other connection. */
    bool keep_alive;
};

/* A copy whose bytes live in the arena; room for `extra` more header fields. */
void message_copy(struct message *to, struct arena *arena, const struct message *from,
                  unsigned extra);

/* Whether its sender spoke HTTP/2: ours, or the one behind a sidecar. */
static inline bool message_spoke_http2(const struct message *message)
{
    return message->version == MESSAGE_HTTP_2 && message->spelling == MESSAGE_SPELLING_NONE;
}

static inline bool message_is_informational(const struct message *message)
{
    return message->status >= 100 && message->status < 200;
}

/* Methods that may be repeated without harm (RFC 9110 9.2.2: GET HEAD OPTIONS TRACE PUT DELETE). */
bool message_method_idempotent(struct slice method);
