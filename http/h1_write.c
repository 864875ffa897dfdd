#include "http/h1_write.h"

#include "base/check.h"

#define HEAD_USUAL       1024 /* asked for in one piece */
#define SIZE_LINE_MAX    18   /* sixteen digits and CRLF */
#define COPIED_CHUNK_MAX 2048

/* Writes into one reserved span while there is room, which for a usual head is always; a head
 * larger than a chunk goes on in the next. */
struct pen {
    struct buf *out;
    uint8_t *start;
    uint8_t *at;
    uint8_t *end;
};

static void pen_open(struct pen *pen, struct buf *out, size_t wanted)
{
    struct span room = buf_reserve(out, wanted);
    *pen = (struct pen){out, room.at, room.at, room.at + room.len};
}

static void pen_close(struct pen *pen)
{
    buf_commit(pen->out, (size_t)(pen->at - pen->start));
}

static NOINLINE void put_slow(struct pen *pen, const void *bytes, size_t len)
{
    pen_close(pen);
    buf_append(pen->out, slice_of(bytes, len));
    pen_open(pen, pen->out, 1);
}

static inline void put(struct pen *pen, const void *bytes, size_t len)
{
    if (UNLIKELY((size_t)(pen->end - pen->at) < len)) {
        put_slow(pen, bytes, len);
    } else if (len > 0) {
        memcpy(pen->at, bytes, len);
        pen->at += len;
    }
}

static inline void put_slice(struct pen *pen, struct slice bytes)
{
    if (UNLIKELY((size_t)(pen->end - pen->at) < bytes.len)) {
        put_slow(pen, bytes.at, bytes.len);
    } else {
        slice_put(pen->at, bytes);
        pen->at += bytes.len;
    }
}

#define PUT(pen, literal) put((pen), "" literal, sizeof(literal) - 1)

static void put_number(struct pen *pen, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(pen, digits + at, sizeof digits - at);
}

#define ID_BIT(id) (UINT64_C(1) << HEADER_##id)

/* What is said of this hop is made anew, whatever is among the fields. */
static bool is_framing(uint8_t id)
{
    const uint64_t framing = ID_BIT(HOST) | ID_BIT(CONTENT_LENGTH) | ID_BIT(TRANSFER_ENCODING) |
                             ID_BIT(CONNECTION) | ID_BIT(KEEP_ALIVE) | ID_BIT(PROXY_CONNECTION) |
                             ID_BIT(UPGRADE) | ID_BIT(TE) | ID_BIT(EXPECT) |
                             ID_BIT(HTTP2_SETTINGS) | ID_BIT(X_PILLION_CASE);
    return (framing >> id & 1U) != 0;
}

/* For one more than the room: a name may be cut there, so each byte knows what stands before it. */
static NOINLINE void put_field_slow(struct pen *pen, const struct header *field, bool title)
{
    uint8_t before = '-';
    for (size_t i = 0; i < field->name.len; i++) {
        uint8_t byte = field->name.at[i];
        bool raised = title && before == '-' && byte >= 'a' && byte <= 'z';
        before = byte;
        byte = (uint8_t)(byte - (raised ? 0x20 : 0));
        put(pen, &byte, 1);
    }
    PUT(pen, ": ");
    put_slice(pen, field->value);
    PUT(pen, "\r\n");
}

static void put_fields(struct pen *pen, const struct message *message)
{
    bool lower = message->version == MESSAGE_HTTP_2 && message->spelling != MESSAGE_SPELLING_LOWER;
    for (unsigned i = 0; i < message->headers.count; i++) {
        const struct header *field = &message->headers.field[i];
        if (field->dropped || is_framing(field->id)) {
            continue;
        }
        size_t size = field->name.len + field->value.len + 4;
        bool title = lower && !field->spelled;
        if (UNLIKELY((size_t)(pen->end - pen->at) < size)) {
            put_field_slow(pen, field, title);
            continue;
        }
        uint8_t *at = pen->at;
        slice_put(at, field->name);
        if (title) {
            header_name_to_title(at, field->name.len);
        }
        at += field->name.len;
        memcpy(at, ": ", 2);
        slice_put(at + 2, field->value);
        memcpy(at + 2 + field->value.len, "\r\n", 2);
        pen->at += size;
    }
}

static void put_framing(struct pen *pen, const struct h1_style *style)
{
    switch (style->framing) {
    case H1_BODY_LENGTH:
        PUT(pen, "Content-Length: ");
        put_number(pen, style->length);
        PUT(pen, "\r\n");
        break;
    case H1_BODY_CHUNKED:
        PUT(pen, "Transfer-Encoding: chunked\r\n");
        break;
    case H1_BODY_NONE:
    case H1_BODY_CLOSE:
        break;
    }
}

/* `te`: TE must be named by Connection too (RFC 9110 10.1.4). */
static void put_connection(struct pen *pen, const struct h1_style *style, bool te)
{
    if (te) {
        PUT(pen, "TE: trailers\r\n");
    }
    switch (style->connection) {
    case H1_CONNECTION_NONE:
        if (te) {
            PUT(pen, "Connection: TE\r\n");
        }
        return;
    case H1_CONNECTION_CLOSE:
        PUT(pen, "Connection: close");
        break;
    case H1_CONNECTION_KEEP_ALIVE:
        PUT(pen, "Connection: keep-alive");
        break;
    case H1_CONNECTION_UPGRADE:
        PUT(pen, "Upgrade: ");
        put_slice(pen, style->protocol);
        PUT(pen, "\r\nConnection: Upgrade");
        break;
    }
    if (te) {
        PUT(pen, ", TE");
    }
    PUT(pen, "\r\n");
}

void h1_write_request(struct buf *out, const struct message *message, const struct h1_style *style)
{
    CHECK(message->kind == MESSAGE_REQUEST);
    struct pen pen;
    pen_open(&pen, out, HEAD_USUAL);
    /* Extended CONNECT (RFC 8441) is HTTP/1.1's GET with Upgrade (RFC 6455). */
    bool extended = message->protocol.len > 0 && slice_eq(message->method, SLICE("CONNECT"));
    put_slice(&pen, extended ? SLICE("GET") : message->method);
    PUT(&pen, " ");
    put_slice(&pen, message->connect ? message->authority : message->path);
    PUT(&pen, " HTTP/1.1\r\nHost: ");
    put_slice(&pen, message->authority);
    PUT(&pen, "\r\n");
    put_fields(&pen, message);
    put_framing(&pen, style);
    if (message->expect_continue) {
        PUT(&pen, "Expect: 100-continue\r\n");
    }
    put_connection(&pen, style, message->te_trailers);
    PUT(&pen, "\r\n");
    pen_close(&pen);
}

void h1_write_response(struct buf *out, const struct message *message, const struct h1_style *style)
{
    CHECK(message->kind == MESSAGE_RESPONSE);
    uint16_t status = style->status != 0 ? style->status : message->status;
    CHECK(status >= 100 && status <= 999);
    struct pen pen;
    pen_open(&pen, out, HEAD_USUAL);
    char line[] = "HTTP/1.1 000 ";
    line[9] = (char)('0' + status / 100);
    line[10] = (char)('0' + status / 10 % 10);
    line[11] = (char)('0' + status % 10);
    put(&pen, line, sizeof line - 1);
    /* HTTP/2 has no phrase; what an HTTP/1 server said is kept, also when it said nothing. */
    bool made = style->status != 0 || message->version == MESSAGE_HTTP_2;
    put_slice(&pen, made ? h1_reason(status) : message->reason);
    PUT(&pen, "\r\n");
    put_fields(&pen, message);
    put_framing(&pen, style);
    put_connection(&pen, style, false);
    PUT(&pen, "\r\n");
    pen_close(&pen);
}

/* The size line of a chunk at the end of `line`; returns how long it is. */
static size_t size_line(uint8_t line[SIZE_LINE_MAX], size_t size)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = SIZE_LINE_MAX;
    line[--at] = '\n';
    line[--at] = '\r';
    for (size_t left = size; left > 0; left /= 16) {
        line[--at] = (uint8_t)hex[left % 16];
    }
    return SIZE_LINE_MAX - at;
}

/* Small pieces (server-sent events, dribbled answers) are copied between their two lines: moved,
 * they would leave three pieces and a fresh chunk of output for the two bytes behind them. */
void h1_write_chunk(struct buf *out, struct buf *data)
{
    CHECK(data->len > 0);
    uint8_t line[SIZE_LINE_MAX];
    size_t line_len = size_line(line, data->len);
    const uint8_t *line_at = line + SIZE_LINE_MAX - line_len;
    if (data->len > COPIED_CHUNK_MAX) {
        buf_append(out, slice_of(line_at, line_len));
        buf_move(out, data, data->len);
        buf_append(out, SLICE("\r\n"));
        return;
    }
    size_t size = line_len + data->len + 2;
    struct span room = buf_reserve(out, size);
    memcpy(room.at, line_at, line_len);
    size_t copied = buf_peek(data, (struct span){room.at + line_len, data->len});
    CHECK(copied == data->len);
    memcpy(room.at + line_len + copied, "\r\n", 2);
    buf_commit(out, size);
    buf_consume(data, copied);
}

void h1_write_last_chunk(struct buf *out)
{
    buf_append(out, SLICE("0\r\n\r\n"));
}

void h1_write_trailers(struct buf *out, const struct message *message)
{
    struct pen pen;
    pen_open(&pen, out, HEAD_USUAL);
    PUT(&pen, "0\r\n");
    put_fields(&pen, message);
    PUT(&pen, "\r\n");
    pen_close(&pen);
}

struct slice h1_reason(uint16_t status)
{
    switch (status) {
#define REASON(code, phrase)                                                                       \
    case code:                                                                                     \
        return SLICE(phrase)
        REASON(100, "Continue");
        REASON(101, "Switching Protocols");
        REASON(103, "Early Hints");
        REASON(200, "OK");
        REASON(201, "Created");
        REASON(202, "Accepted");
        REASON(203, "Non-Authoritative Information");
        REASON(204, "No Content");
        REASON(205, "Reset Content");
        REASON(206, "Partial Content");
        REASON(300, "Multiple Choices");
        REASON(301, "Moved Permanently");
        REASON(302, "Found");
        REASON(303, "See Other");
        REASON(304, "Not Modified");
        REASON(307, "Temporary Redirect");
        REASON(308, "Permanent Redirect");
        REASON(400, "Bad Request");
        REASON(401, "Unauthorized");
        REASON(402, "Payment Required");
        REASON(403, "Forbidden");
        REASON(404, "Not Found");
        REASON(405, "Method Not Allowed");
        REASON(406, "Not Acceptable");
        REASON(407, "Proxy Authentication Required");
        REASON(408, "Request Timeout");
        REASON(409, "Conflict");
        REASON(410, "Gone");
        REASON(411, "Length Required");
        REASON(412, "Precondition Failed");
        REASON(413, "Content Too Large");
        REASON(414, "URI Too Long");
        REASON(415, "Unsupported Media Type");
        REASON(416, "Range Not Satisfiable");
        REASON(417, "Expectation Failed");
        REASON(421, "Misdirected Request");
        REASON(422, "Unprocessable Content");
        REASON(425, "Too Early");
        REASON(426, "Upgrade Required");
        REASON(428, "Precondition Required");
        REASON(429, "Too Many Requests");
        REASON(431, "Request Header Fields Too Large");
        REASON(500, "Internal Server Error");
        REASON(501, "Not Implemented");
        REASON(502, "Bad Gateway");
        REASON(503, "Service Unavailable");
        REASON(504, "Gateway Timeout");
        REASON(505, "HTTP Version Not Supported");
#undef REASON
    default: /* a status that no RFC names */
        return SLICE("");
    }
}
