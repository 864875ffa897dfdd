/* One pass over the bytes, from the start each time that more have come: a hello comes in one or
 * two packets, so keeping the place would save nothing. Lengths are checked against what encloses
 * them before the bytes themselves are there, so that a wrong length is known at once. Fragments of
 * records are joined by the reader; what is kept is copied, so nothing here points into the input.
 */
#include "base/client_hello.h"

#define RECORD_HANDSHAKE 22
#define RECORD_MAX       16384 /* RFC 8446 5.1 */
#define CLIENT_HELLO     1

enum { EXTENSION_SERVER_NAME = 0, EXTENSION_ALPN = 16, EXTENSION_SUPPORTED_VERSIONS = 43 };

struct reader {
    struct slice in;
    size_t record_left; /* of the fragment that is being read */
    enum client_hello_step step;
};

static bool stop(struct reader *reader, enum client_hello_step step)
{
    reader->step = step;
    return false;
}

/* Reads the header of a record as far as it is there, and judges each byte on its own, so that
 * what is no TLS is known by its first byte. */
static bool open_record(struct reader *reader)
{
    struct slice in = reader->in;
    size_t len = in.len > 4 ? (size_t)in.at[3] << 8 | in.at[4] : 0;
    if ((in.len > 0 && in.at[0] != RECORD_HANDSHAKE) || (in.len > 1 && in.at[1] != 3) ||
        (in.len > 2 && in.at[2] > 4) || (in.len > 3 && in.at[3] > RECORD_MAX >> 8) ||
        (in.len > 4 && (len == 0 || len > RECORD_MAX))) {
        return stop(reader, CLIENT_HELLO_BAD);
    }
    if (in.len < 5) {
        return stop(reader, CLIENT_HELLO_MORE);
    }
    reader->record_left = len;
    reader->in = slice_from(in, 5);
    return true;
}

/* Reads `len` bytes of the message across records; `into` may be null. `*bound` is what is left of
 * the vector that encloses them. */
static bool read_bytes(struct reader *reader, size_t *bound, uint8_t *into, size_t len)
{
    if (len > *bound) {
        return stop(reader, CLIENT_HELLO_BAD);
    }
    *bound -= len;
    while (len > 0) {
        if (reader->record_left == 0 && !open_record(reader)) {
            return false;
        }
        size_t part = len < reader->record_left ? len : reader->record_left;
        part = part < reader->in.len ? part : reader->in.len;
        if (part == 0) {
            return stop(reader, CLIENT_HELLO_MORE);
        }
        if (into != NULL) {
            (void)memcpy(into, reader->in.at, part);
            into += part;
        }
        reader->in = slice_from(reader->in, part);
        reader->record_left -= part;
        len -= part;
    }
    return true;
}

/* A number of `width` bytes, big-endian. */
static bool read_number(struct reader *reader, size_t *bound, unsigned width, size_t *value)
{
    uint8_t bytes[3];
    CHECK(width <= sizeof bytes);
    *value = 0;
    if (!read_bytes(reader, bound, bytes, width)) {
        return false;
    }
    for (unsigned i = 0; i < width; i++) {
        *value = *value << 8 | bytes[i];
    }
    return true;
}

/* The length of a vector, between `min` and `max` and within *bound, from which the whole vector is
 * taken. */
static bool read_length(struct reader *reader, size_t *bound, unsigned width, size_t min,
                        size_t max, size_t *len)
{
    if (!read_number(reader, bound, width, len)) {
        return false;
    }
    if (*len < min || *len > max || *len > *bound) {
        return stop(reader, CLIENT_HELLO_BAD);
    }
    *bound -= *len;
    return true;
}

static bool skip(struct reader *reader, size_t len)
{
    return read_bytes(reader, &len, NULL, len);
}

/* RFC 6066 3. The first host_name is kept; another one is forbidden. */
static bool read_server_name(struct reader *reader, size_t bound, struct client_hello *hello)
{
    size_t names = 0;
    if (!read_length(reader, &bound, 2, 1, UINT16_MAX, &names)) {
        return false;
    }
    while (names > 0) {
        size_t type = 0;
        size_t len = 0;
        if (!read_number(reader, &names, 1, &type) ||
            !read_length(reader, &names, 2, 1, UINT16_MAX, &len)) {
            return false;
        }
        if (type != 0) {
            if (!skip(reader, len)) {
                return false;
            }
            continue;
        }
        if (len > sizeof hello->sni || hello->sni_len > 0) {
            return stop(reader, CLIENT_HELLO_BAD);
        }
        size_t name = len;
        if (!read_bytes(reader, &name, hello->sni, len)) {
            return false;
        }
        if (memchr(hello->sni, 0, len) != NULL) {
            return stop(reader, CLIENT_HELLO_BAD);
        }
        hello->sni_len = (uint8_t)len;
    }
    return bound == 0 || stop(reader, CLIENT_HELLO_BAD);
}

/* RFC 7301 3.1. */
static bool read_alpn(struct reader *reader, size_t bound, struct client_hello *hello)
{
    size_t list = 0;
    bool room = true;
    if (!read_length(reader, &bound, 2, 2, UINT16_MAX, &list)) {
        return false;
    }
    while (list > 0) {
        size_t len = 0;
        if (!read_length(reader, &list, 1, 1, UINT8_MAX, &len)) {
            return false;
        }
        room = room && hello->alpn_len + 1 + len <= sizeof hello->alpn;
        uint8_t *at = hello->alpn + hello->alpn_len;
        size_t name = len;
        if (!read_bytes(reader, &name, room ? at + 1 : NULL, len)) {
            return false;
        }
        if (room) {
            at[0] = (uint8_t)len;
            hello->alpn_len = (uint16_t)(hello->alpn_len + 1 + len);
        }
    }
    return bound == 0 || stop(reader, CLIENT_HELLO_BAD);
}

/* RFC 8446 4.2.1. */
static bool read_supported_versions(struct reader *reader, size_t bound, struct client_hello *hello)
{
    size_t list = 0;
    if (!read_length(reader, &bound, 1, 2, 254, &list)) {
        return false;
    }
    while (list > 0) {
        size_t version = 0;
        if (!read_number(reader, &list, 2, &version)) {
            return false;
        }
        hello->tls13 = hello->tls13 || version == 0x0304;
    }
    return bound == 0 || stop(reader, CLIENT_HELLO_BAD);
}

static bool read_extensions(struct reader *reader, size_t bound, struct client_hello *hello)
{
    uint64_t seen = 0; /* of the types that are read here: none may come twice (RFC 8446 4.2) */
    while (bound > 0) {
        size_t type = 0;
        size_t len = 0;
        if (!read_number(reader, &bound, 2, &type) ||
            !read_length(reader, &bound, 2, 0, UINT16_MAX, &len)) {
            return false;
        }
        uint64_t bit = type < 64 ? (uint64_t)1 << type : 0;
        if ((seen & bit) != 0) {
            return stop(reader, CLIENT_HELLO_BAD);
        }
        seen |= bit;
        bool read = type == EXTENSION_SERVER_NAME ? read_server_name(reader, len, hello)
                    : type == EXTENSION_ALPN      ? read_alpn(reader, len, hello)
                    : type == EXTENSION_SUPPORTED_VERSIONS
                        ? read_supported_versions(reader, len, hello)
                        : skip(reader, len);
        if (!read) {
            return false;
        }
    }
    return true;
}

/* RFC 8446 4.1.2, RFC 5246 7.4.1.2. */
static bool read_hello(struct reader *reader, struct client_hello *hello)
{
    size_t bound = CLIENT_HELLO_MAX_BYTES;
    size_t type = 0;
    size_t body = 0;
    size_t version = 0;
    size_t len = 0;
    if (!read_number(reader, &bound, 1, &type)) {
        return false;
    }
    if (type != CLIENT_HELLO) {
        return stop(reader, CLIENT_HELLO_BAD);
    }
    if (!read_length(reader, &bound, 3, 2 + 32 + 1 + 4 + 2, CLIENT_HELLO_MAX_BYTES, &body) ||
        !read_number(reader, &body, 1, &version)) {
        return false;
    }
    if (version != 3) {
        return stop(reader, CLIENT_HELLO_BAD);
    }
    if (!read_bytes(reader, &body, NULL, 1 + 32) || !read_length(reader, &body, 1, 0, 32, &len) ||
        !skip(reader, len) || !read_length(reader, &body, 2, 2, UINT16_MAX, &len) ||
        !skip(reader, len) || !read_length(reader, &body, 1, 1, UINT8_MAX, &len) ||
        !skip(reader, len)) {
        return false;
    }
    if (body == 0) {
        return true; /* without extensions, before TLS 1.3 */
    }
    if (!read_length(reader, &body, 2, 0, UINT16_MAX, &len)) {
        return false;
    }
    if (body != 0) {
        return stop(reader, CLIENT_HELLO_BAD);
    }
    return read_extensions(reader, len, hello);
}

enum client_hello_step client_hello_parse(struct slice bytes, struct client_hello *hello)
{
    CHECK(hello != NULL);
    hello->sni_len = 0;
    hello->alpn_len = 0;
    hello->tls13 = false;
    struct reader reader = {.in = slice_head(bytes, CLIENT_HELLO_MAX_BYTES),
                            .step = CLIENT_HELLO_DONE};
    (void)read_hello(&reader, hello);
    bool full = bytes.len >= CLIENT_HELLO_MAX_BYTES;
    return reader.step == CLIENT_HELLO_MORE && full ? CLIENT_HELLO_BAD : reader.step;
}

struct slice client_hello_next_alpn(struct slice *alpn)
{
    if (alpn->len == 0) {
        return (struct slice){NULL, 0};
    }
    size_t len = alpn->at[0];
    CHECK(len < alpn->len);
    struct slice name = slice_of(alpn->at + 1, len);
    *alpn = slice_from(*alpn, 1 + len);
    return name;
}
