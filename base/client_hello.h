#pragma once
/* Reads a TLS ClientHello out of the first bytes of a connection, before any TLS library sees them:
 * whose TLS it is (ours or the application's own) hangs on its names. Pure; everything in it was
 * chosen by a peer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

/* A ClientHello with its record headers that is longer than this is not waited for. */
#define CLIENT_HELLO_MAX_BYTES 16384
#define CLIENT_HELLO_ALPN_MAX  512

enum client_hello_step {
    CLIENT_HELLO_MORE, /* all bytes so far can begin a ClientHello */
    CLIENT_HELLO_DONE,
    CLIENT_HELLO_BAD /* they cannot: it is something else, or broken */
};

struct client_hello {
    uint8_t sni[255]; /* server_name, type host_name (RFC 6066 3), as sent */
    uint8_t sni_len;  /* 0: none */
    bool tls13;       /* supported_versions offers TLS 1.3 */
    uint16_t alpn_len;
    /* The offered protocols as on the wire, each with its length before it (RFC 7301 3.1): the
     * first ones that fit whole. Read with client_hello_next_alpn. */
    uint8_t alpn[CLIENT_HELLO_ALPN_MAX];
};

/* `bytes`: all that came so far, from the connection's first byte on. Says BAD at the first byte
 * that no ClientHello can have there. The message may be split over records (RFC 8446 5.1). Bytes
 * after it are ignored. *hello is whole only after DONE. */
enum client_hello_step client_hello_parse(struct slice bytes, struct client_hello *hello) MUST_USE;

/* Cuts the next protocol off *alpn, which begins as client_hello_alpn; empty at the end. */
struct slice client_hello_next_alpn(struct slice *alpn);

static inline struct slice client_hello_alpn(const struct client_hello *hello)
{
    return slice_of(hello->alpn, hello->alpn_len);
}

static inline struct slice client_hello_sni(const struct client_hello *hello)
{
    return slice_of(hello->sni, hello->sni_len);
}
