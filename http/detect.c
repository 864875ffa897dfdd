#include "http/detect.h"

#include "base/check.h"
#include "http/scan.h"

#define VERSION_BYTES   8 /* HTTP/1.x */
#define SETTINGS_FRAME  4
#define SETTINGS_BYTES  6   /* of one setting */
#define SETTINGS_MAX    128 /* in a first frame that we believe; about a dozen exist */
#define TLS_HANDSHAKE   22
#define TLS_HELLO       1
#define TLS_RECORD_MAX  16384
#define TLS_HELLO_BYTES 6 /* record head and the handshake's type */

const char *detected_name(enum detected detected)
{
    static const char *const names[] = {
#define X(value, meaning) [DETECTED_##value] = #value,
        DETECTED(X)
#undef X
    };
    CHECK((size_t)detected < COUNT_OF(names));
    return names[detected];
}

/* The whole of `text` gives `verdict`, its beginning MORE, anything else OPAQUE. */
static enum detected match_text(struct slice first, struct slice text, enum detected verdict)
{
    if (slice_starts(first, text)) {
        return verdict;
    }
    return slice_starts(text, first) ? DETECTED_MORE : DETECTED_OPAQUE;
}

/* One byte at a time, so that the first that does not fit decides. */
static enum detected detect_tls(struct slice first)
{
    for (size_t i = 0; i < first.len && i < TLS_HELLO_BYTES; i++) {
        uint8_t byte = first.at[i];
        bool fits = true;
        switch (i) {
        case 0:
            fits = byte == TLS_HANDSHAKE;
            break;
        case 1:
            fits = byte == 3;
            break;
        case 2:
            fits = byte <= 4;
            break;
        case 3:
            fits = byte <= TLS_RECORD_MAX >> 8;
            break;
        case 4:
            fits = first.at[3] * 256 + byte >= 4 && first.at[3] * 256 + byte <= TLS_RECORD_MAX;
            break;
        default: /* the last of them */
            fits = byte == TLS_HELLO;
            break;
        }
        if (!fits) {
            return DETECTED_OPAQUE;
        }
    }
    return first.len >= TLS_HELLO_BYTES ? DETECTED_TLS : DETECTED_MORE;
}

static enum detected need_more(struct slice first)
{
    return first.len >= DETECT_BYTES_MAX && !MUTANT(29) ? DETECTED_TARGET_LONG : DETECTED_MORE;
}

/* `HTTP/1.` DIGIT CRLF, as far as it is there. */
static enum detected match_version(struct slice rest)
{
    static const uint8_t shape[] = "HTTP/1.d\r\n";
    for (size_t i = 0; i < rest.len && i < sizeof shape - 1; i++) {
        bool digit = i == VERSION_BYTES - 1;
        bool fits = digit ? (uint8_t)(rest.at[i] - '0') < 10 : rest.at[i] == shape[i];
        if (!fits) {
            return DETECTED_OPAQUE;
        }
    }
    return rest.len >= sizeof shape - 1 ? DETECTED_HTTP1 : DETECTED_MORE;
}

/* token SP target SP HTTP/1.x CRLF. */
static enum detected detect_http1(struct slice first)
{
    size_t method = scan_token(first.at, first.len);
    if (method == first.len) {
        return need_more(first);
    }
    if (method == 0 || first.at[method] != ' ') {
        return DETECTED_OPAQUE;
    }
    struct slice target = slice_from(first, method + 1);
    size_t end = target.len > 0 ? scan_visible(target.at, target.len) : 0;
    if (end == target.len) {
        return need_more(first);
    }
    if (end == 0 || target.at[end] != ' ') {
        return DETECTED_OPAQUE;
    }
    enum detected version = match_version(slice_from(target, end + 1));
    return version == DETECTED_MORE ? need_more(first) : version;
}

/* Empty lines before a request line (RFC 9112 2.2), a few; a lone CR waits. */
static struct slice skip_empty_lines(struct slice first)
{
    for (int i = 0; i < 4 && slice_starts(first, SLICE("\r\n")); i++) {
        first = slice_from(first, 2);
    }
    return first;
}

enum detected detect_preface(struct slice first)
{
    return match_text(first, SLICE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), DETECTED_HTTP2);
}

enum detected detect_client(struct slice first)
{
    first = slice_head(first, DETECT_BYTES_MAX);
    if (first.len == 0) {
        return DETECTED_MORE;
    }
    if (first.at[0] == TLS_HANDSHAKE) {
        return detect_tls(first);
    }
    enum detected preface = detect_preface(first);
    if (preface != DETECTED_OPAQUE) {
        return preface;
    }
    struct slice line = skip_empty_lines(first);
    bool waits = line.len == 0 || (line.len == 1 && line.at[0] == '\r' && line.len < first.len);
    waits |= first.len == 1 && first.at[0] == '\r';
    return waits ? DETECTED_MORE : detect_http1(line);
}

/* A frame of type SETTINGS, not an acknowledgement, on stream 0, with whole settings (RFC 9113 4.1,
 * 6.5). */
static enum detected detect_settings(struct slice first)
{
    for (size_t i = 0; i < first.len && i < DETECT_SERVER_BYTES; i++) {
        uint8_t byte = first.at[i];
        bool fits = byte == 0;
        if (i == 1) {
            fits = byte <= SETTINGS_MAX * SETTINGS_BYTES >> 8;
        } else if (i == 2) {
            unsigned len = first.at[1] * 256U + byte;
            fits = len % SETTINGS_BYTES == 0 && len <= SETTINGS_MAX * SETTINGS_BYTES;
        } else if (i == 3) {
            fits = byte == SETTINGS_FRAME;
        }
        if (!fits) {
            return DETECTED_OPAQUE;
        }
    }
    return first.len >= DETECT_SERVER_BYTES ? DETECTED_HTTP2 : DETECTED_MORE;
}

enum detected detect_server(struct slice first)
{
    if (first.len == 0) {
        return DETECTED_MORE;
    }
    return first.at[0] == 'H' ? match_text(first, SLICE("HTTP/1."), DETECTED_HTTP1)
                              : detect_settings(first);
}
