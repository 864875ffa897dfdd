#include "http/uri.h"

#include <arpa/inet.h>

#include "http/scan.h"

static bool is_alpha(uint8_t c)
{
    return (uint8_t)((c | 0x20) - 'a') < 26;
}

static bool is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') < 10;
}

static bool is_unreserved(uint8_t c)
{
    return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

static int hex_digit(uint8_t c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    uint8_t lower = slice_lower(c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The byte that the escape at `at` stands for, or -1. */
static int escaped_byte(struct slice s, size_t at)
{
    if (s.len - at < 3) {
        return -1;
    }
    int high = hex_digit(s.at[at + 1]);
    int low = hex_digit(s.at[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* unreserved and sub-delims (RFC 3986 2.2, 2.3), one bit a byte. */
static bool is_name_byte(uint8_t c)
{
    static const uint32_t bits[8] = {0, 0x2bff7fd2, 0x87fffffe, 0x47fffffe, 0, 0, 0, 0};
    return ((bits[c >> 5] >> (c & 31U)) & 1U) != 0;
}

/* reg-name or IPv4 address (RFC 3986 3.2.2): how far it goes; s.len + 1 for a broken escape. */
static size_t name_end(struct slice s)
{
    size_t i = scan_host(s.at, s.len);
    while (i < s.len) {
        if (is_name_byte(s.at[i])) {
            i++;
        } else if (s.at[i] == '%') {
            if (escaped_byte(s, i) < 0) {
                return s.len + 1;
            }
            i += 3;
        } else {
            break;
        }
    }
    return i;
}

static bool is_ipv6(struct slice host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (host.len >= sizeof text || memchr(host.at, 0, host.len) != NULL) {
        return false;
    }
    memcpy(text, host.at, host.len);
    text[host.len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

bool uri_parse_authority(struct slice authority, struct uri_authority *out)
{
    *out = (struct uri_authority){.has_port = false};
    size_t end = 0;
    if (authority.len > 0 && authority.at[0] == '[') {
        size_t bracket = slice_find(authority, ']');
        if (bracket == authority.len) {
            return false;
        }
        out->host = slice_of(authority.at + 1, bracket - 1);
        out->ipv6 = true;
        end = bracket + 1;
        if (!is_ipv6(out->host)) {
            return false;
        }
    } else {
        end = name_end(authority);
        if (end == 0 || end > authority.len) {
            return false;
        }
        out->host = slice_of(authority.at, end);
    }
    if (end == authority.len) {
        return true;
    }
    if (authority.at[end] != ':') {
        return false;
    }
    struct slice port = slice_from(authority, end + 1);
    if (port.len == 0) {
        return true;
    }
    uint64_t number = 0;
    if (!slice_to_u64(port, UINT16_MAX, &number)) {
        return false;
    }
    out->port = (uint16_t)number;
    out->has_port = true;
    return true;
}

static bool parse_absolute(struct slice target, struct uri_target *out)
{
    size_t skip = 0;
    if (slice_starts_nocase(target, SLICE("http://"))) {
        skip = 7;
    } else if (slice_starts_nocase(target, SLICE("https://"))) {
        skip = 8;
    } else {
        return false;
    }
    out->form = URI_ABSOLUTE;
    out->scheme = slice_of(target.at, skip - 3);
    struct slice rest = slice_from(target, skip);
    size_t end = 0;
    while (end < rest.len && rest.at[end] != '/' && rest.at[end] != '?') {
        end++;
    }
    out->authority = slice_of(rest.at, end);
    out->path = slice_from(rest, end);
    out->rootless = out->path.len == 0 || out->path.at[0] == '?';
    struct uri_authority parts;
    return uri_parse_authority(out->authority, &parts);
}

bool uri_parse_target(struct slice method, struct slice target, struct uri_target *out)
{
    *out = (struct uri_target){.form = URI_ORIGIN};
    if (target.len == 0 || scan_target(target.at, target.len) != target.len) {
        return false;
    }
    if (slice_eq(method, SLICE("CONNECT"))) {
        struct uri_authority parts;
        out->form = URI_AUTHORITY;
        out->authority = target;
        /* RFC 9110 9.3.6: a port is required, and not an invalid one. */
        return uri_parse_authority(target, &parts) && parts.has_port && parts.port != 0;
    }
    bool options = slice_eq(method, SLICE("OPTIONS"));
    if (target.at[0] == '/') {
        out->path = target;
        return true;
    }
    if (target.at[0] == '*') {
        out->form = URI_ASTERISK;
        out->path = target;
        return options && target.len == 1;
    }
    if (!parse_absolute(target, out)) {
        return false;
    }
    if (out->path.len == 0) {
        /* RFC 9112 3.2.4: OPTIONS for an authority without a path means the server as a whole. */
        out->path = options ? SLICE("*") : SLICE("/");
        out->rootless = false;
    }
    return true;
}

/* True when the path holds nothing that normalising could change. */
static bool is_normal(struct slice path)
{
    size_t at = 0;
    for (;;) {
        at += scan_plain_path(path.at + at, path.len - at);
        if (at == path.len || path.at[at] == '?') {
            return true;
        }
        if (path.at[at] != '.' || at == 0 || path.at[at - 1] == '/') {
            return false;
        }
        at++;
    }
}

/* Decodes into `out` up to the query; false on a broken escape. *read: where the query begins. */
static bool decode_path(struct slice path, uint8_t *out, size_t *read, size_t *written)
{
    size_t from = 0;
    size_t to = 0;
    while (from < path.len && path.at[from] != '?') {
        uint8_t byte = path.at[from];
        if (byte == '%') {
            int value = escaped_byte(path, from);
            if (value <= 0) {
                return false;
            }
            if (is_unreserved((uint8_t)value)) {
                out[to++] = (uint8_t)value;
            } else {
                memcpy(out + to, path.at + from, 3);
                to += 3;
            }
            from += 3;
            continue;
        }
        out[to++] = byte == '\\' ? '/' : byte;
        from++;
    }
    *read = from;
    *written = to;
    return true;
}

/* RFC 3986 5.2.4, in place, on a path that begins with '/'; returns the new length. What is written
 * never overtakes what is read. */
static size_t remove_dot_segments(uint8_t *at, size_t len)
{
    size_t to = 0;
    size_t from = 0;
    while (from < len) {
        size_t end = from + 1;
        while (end < len && at[end] != '/') {
            end++;
        }
        size_t segment = end - from - 1;
        bool one = segment == 1 && at[from + 1] == '.';
        bool two = segment == 2 && at[from + 1] == '.' && at[from + 2] == '.';
        if (two) {
            while (to > 0 && at[--to] != '/') {
            }
        }
        if (!one && !two) {
            memmove(at + to, at + from, end - from);
            to += end - from;
        } else if (end == len) {
            at[to++] = '/';
        }
        from = end;
    }
    return to;
}

bool uri_normalise(struct slice path, struct span room, struct slice *result)
{
    *result = path;
    if (path.len == 0 || path.at[0] != '/' || is_normal(path)) {
        return true;
    }
    CHECK(room.len >= path.len);
    size_t query = 0;
    size_t len = 0;
    if (!decode_path(path, room.at, &query, &len)) {
        return false;
    }
    len = remove_dot_segments(room.at, len);
    memcpy(room.at + len, path.at + query, path.len - query);
    *result = slice_of(room.at, len + path.len - query);
    return true;
}
