#pragma once
/* Request targets, authorities and paths (RFC 9112 3.2, RFC 3986). Pure; results borrow from the
 * input. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum uri_form { URI_ORIGIN, URI_ABSOLUTE, URI_AUTHORITY, URI_ASTERISK };

struct uri_target {
    enum uri_form form;
    struct slice scheme;    /* "http" or "https" as spelled; absolute form only */
    struct slice authority; /* absolute and authority form */
    struct slice path;      /* with the query; "*"; empty in authority form. "/" where an absolute
                               form has none (it may begin with '?': see uri_parse_target) */
    bool rootless;          /* absolute form: path is a bare query, a '/' must go before it */
};

struct uri_authority {
    struct slice host; /* without brackets */
    uint16_t port;     /* valid where has_port */
    bool has_port;     /* false for "host" and for "host:" (RFC 3986 3.2.3) */
    bool ipv6;
};

/* Splits a request-target by the form that the method calls for: authority form for CONNECT and
 * only there, asterisk form for OPTIONS only. False: not a target (RFC 9112 3.2; also '#', user
 * information, bytes that are not visible ASCII, schemes other than http and https). */
bool uri_parse_target(struct slice method, struct slice target, struct uri_target *out) MUST_USE;

/* uri-host [ ":" port ]; no user information, host not empty, port at most 65535, IPv6 in brackets
 * without zone. */
bool uri_parse_authority(struct slice authority, struct uri_authority *out) MUST_USE;

/* Normalises a path (with its query, which stays as it is) as RFC 3986 6.2.2 says: escapes of
 * unreserved characters are decoded, '\' becomes '/', dot segments are removed; slashes are neither
 * merged nor unescaped. *result is `path` itself where nothing changes, else it lies in `room`,
 * which must be as long as `path`. False: a broken escape or %00 in the path. The result is a fixed
 * point: normalised again it stays the same. */
bool uri_normalise(struct slice path, struct span room, struct slice *result) MUST_USE;
