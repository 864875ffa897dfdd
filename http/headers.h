#pragma once
/* Header fields in the order in which they came, names as they were spelled. Names of fields that
 * the proxy itself reads are recognised once, by the parser, and carry an id: later look-ups
 * compare a byte, not text. Values are without surrounding whitespace. The list does not own the
 * bytes of its fields. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/slice.h"

/* X(id, "lower-case name"): fields with a meaning to the proxy. Adding one is a line here. */
#define HEADER_IDS(X)                                                                              \
    X(OTHER, "")                                                                                   \
    X(HOST, "host")                                                                                \
    X(CONTENT_LENGTH, "content-length")                                                            \
    X(TRANSFER_ENCODING, "transfer-encoding")                                                      \
    X(CONNECTION, "connection")                                                                    \
    X(KEEP_ALIVE, "keep-alive")                                                                    \
    X(PROXY_CONNECTION, "proxy-connection")                                                        \
    X(UPGRADE, "upgrade")                                                                          \
    X(TE, "te")                                                                                    \
    X(TRAILER, "trailer")                                                                          \
    X(EXPECT, "expect")                                                                            \
    X(HTTP2_SETTINGS, "http2-settings")                                                            \
    X(DATE, "date")                                                                                \
    X(SERVER, "server")                                                                            \
    X(VIA, "via")                                                                                  \
    X(COOKIE, "cookie")                                                                            \
    X(CONTENT_TYPE, "content-type")                                                                \
    X(USER_AGENT, "user-agent")                                                                    \
    X(RETRY_AFTER, "retry-after")                                                                  \
    X(PROXY_STATUS, "proxy-status")                                                                \
    X(X_REQUEST_ID, "x-request-id")                                                                \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                                          \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                      \
    X(X_FORWARDED_HOST, "x-forwarded-host")                                                        \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")                                          \
    X(TRACEPARENT, "traceparent")                                                                  \
    X(TRACESTATE, "tracestate")                                                                    \
    X(B3, "b3")                                                                                    \
    X(X_B3_TRACEID, "x-b3-traceid")                                                                \
    X(X_B3_SPANID, "x-b3-spanid")                                                                  \
    X(X_B3_PARENTSPANID, "x-b3-parentspanid")                                                      \
    X(X_B3_SAMPLED, "x-b3-sampled")                                                                \
    X(X_B3_FLAGS, "x-b3-flags")                                                                    \
    X(GRPC_STATUS, "grpc-status")                                                                  \
    X(GRPC_MESSAGE, "grpc-message")                                                                \
    X(GRPC_TIMEOUT, "grpc-timeout")                                                                \
    X(GRPC_RETRY_PUSHBACK_MS, "grpc-retry-pushback-ms")                                            \
    X(X_ENVOY_RETRY_ON, "x-envoy-retry-on")                                                        \
    X(X_ENVOY_MAX_RETRIES, "x-envoy-max-retries")                                                  \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, "x-envoy-upstream-rq-timeout-ms")                            \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "x-envoy-expected-rq-timeout-ms")                            \
    X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")                                              \
    X(X_PILLION_CASE, "x-pillion-case")

enum header_id {
#define X(id, name) HEADER_##id,
    HEADER_IDS(X)
#undef X
        HEADER_ID_COUNT
};

struct header {
    struct slice name; /* as spelled by the sender (HTTP/2: lower case) */
    struct slice value;
    uint8_t id;    /* enum header_id */
    bool dropped;  /* removed: skipped by every reader and writer */
    bool no_index; /* HTTP/2: not to be indexed by HPACK (ids, credentials) */
    bool spelled; /* the name is as an HTTP/1 sender spelled it, here or behind a hop (h2_case.h) */
};

#define HEADERS_MAX 128 /* fields of one head that a codec hands up; the option lowers it (100) */

struct headers {
    struct header *field; /* storage of the owner */
    uint16_t count;
    uint16_t capacity;
    uint64_t absent; /* a bit for each id that is known not to be there; 0: nobody has looked */
};

static_assert(HEADER_ID_COUNT <= 64, "a bit each");

/* The id of a name in any case; HEADER_OTHER where it is none of ours. */
enum header_id header_id_of(struct slice name);
/* Lower-case name of an id. */
struct slice header_name(enum header_id id);

/* Spells a lower-case name Title-Case, in place. Its bytes are those of a token. */
void header_name_to_title(uint8_t *name, size_t len);

/* First field with that id that is not dropped; null when none. Borrowed until the list changes. */
struct header *headers_find(const struct headers *headers, enum header_id id);
/* First field with that name, compared without case, not dropped; null when none. */
struct header *headers_find_name(const struct headers *headers, struct slice name);
/* The value of the first, or the empty slice. */
struct slice headers_value(const struct headers *headers, enum header_id id);
/* Adds a field at the end. The bytes stay the caller's. False when the list is at HEADERS_MAX; the
 * list's storage grows from the arena where it must. */
bool headers_add(struct headers *headers, struct arena *arena, struct slice name,
                 struct slice value) MUST_USE;
/* The same for a name of ours; the field, or null when the list is at HEADERS_MAX. */
struct header *headers_add_known(struct headers *headers, struct arena *arena, enum header_id id,
                                 struct slice value);
/* Drops every field with that id / name. */
void headers_drop(struct headers *headers, enum header_id id);
void headers_drop_name(struct headers *headers, struct slice name);
/* Slices on their way into an arena: those that lie in one block go there in one stroke, which is
 * what a head of HTTP/1 is; others each for itself. */
struct block_copy {
    struct arena *arena;
    struct slice from;
    const uint8_t *to;
    bool lower; /* names are in lower case: those that are ours need no copy */
};
struct block_copy block_copy_begin(struct arena *arena, struct slice block);
static inline struct slice block_copy_slice(const struct block_copy *copy, struct slice bytes)
{
    size_t at = (uintptr_t)bytes.at - (uintptr_t)copy->from.at;
    if (at < copy->from.len) {
        return slice_of(copy->to + at, bytes.len);
    }
    return bytes.len > 0 ? arena_put(copy->arena, bytes) : (struct slice){NULL, 0};
}

/* A copy of fields and bytes in the arena, dropped fields left out, with room for `extra` more. */
void headers_copy(struct headers *to, struct arena *arena, const struct headers *from,
                  unsigned extra);
void headers_copy_with(struct headers *to, const struct block_copy *bytes,
                       const struct headers *from, unsigned extra);
/* True when `token` stands in the comma-separated value(s) of that field, compared without case. */
bool headers_has_token(const struct headers *headers, enum header_id id, struct slice token);
