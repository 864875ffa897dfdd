#include "tests/sim/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"

void reader_init(struct reader *reader, bool response, reader_body *body, void *owner)
{
    reader->response = response;
    reader->body = body;
    reader->owner = owner;
    reader_next(reader);
}

void reader_next(struct reader *reader)
{
    reader->state = READER_HEAD;
    reader->head_len = 0;
    reader->head[0] = '\0';
    reader->line_len = 0;
    reader->left = 0;
    reader->body_len = 0;
    reader->status = 0;
    reader->interims = 0;
    reader->bodiless = false;
    reader->tunnel = false;
    reader->close = false;
    reader->head_done = false;
}

bool reader_field(const struct reader *reader, const char *name, char *value, size_t size)
{
    size_t len = strlen(name);
    for (const char *line = strchr(reader->head, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            line += len + 1;
            line += strspn(line, " ");
            size_t part = strcspn(line, "\r\n");
            part = part < size ? part : size - 1;
            (void)memcpy(value, line, part);
            value[part] = '\0';
            return true;
        }
    }
    return false;
}

uint64_t reader_number(const struct reader *reader, const char *name, uint64_t otherwise)
{
    char value[32];
    char *end;
    if (!reader_field(reader, name, value, sizeof value)) {
        return otherwise;
    }
    uint64_t number = strtoull(value, &end, 10);
    return *end == '\0' && end != value ? number : otherwise;
}

static bool field_is(const struct reader *reader, const char *name, const char *wanted)
{
    char value[64];
    return reader_field(reader, name, value, sizeof value) && strcasecmp(value, wanted) == 0;
}

/* RFC 9112 6.3, for what a correct sender writes. */
static enum reader_state framing(const struct reader *reader, uint64_t *left)
{
    bool chunked = field_is(reader, "transfer-encoding", "chunked");
    uint64_t length = reader_number(reader, "content-length", UINT64_MAX);
    char value[64];
    if (reader_field(reader, "transfer-encoding", value, sizeof value) &&
        (!chunked || length != UINT64_MAX)) {
        return READER_BAD;
    }
    bool no_body = reader->bodiless || reader->status == 204 || reader->status == 304;
    if (reader->response && no_body) {
        return READER_DONE;
    }
    *left = length;
    if (chunked) {
        return READER_CHUNK_LINE;
    }
    if (length != UINT64_MAX) {
        return length > 0 ? READER_BODY : READER_DONE;
    }
    return reader->response ? READER_UNTIL_CLOSE : READER_DONE;
}

static void end_head(struct reader *reader)
{
    if (reader->response) {
        if (sscanf(reader->head, "HTTP/1.%*1[01] %3u", &reader->status) != 1) {
            reader->state = READER_BAD;
            return;
        }
        if (reader->status / 100 == 1 && reader->status != 101) {
            reader->interims++;
            reader->head_len = 0;
            reader->head[0] = '\0';
            return;
        }
    } else if (strstr(reader->head, " HTTP/1.1\r\n") == NULL) {
        reader->state = READER_BAD;
        return;
    }
    reader->head_done = true;
    reader->close = field_is(reader, "connection", "close");
    if (reader->tunnel && (reader->status == 101 || reader->status / 100 == 2)) {
        reader->state = READER_TUNNEL;
        return;
    }
    reader->state = framing(reader, &reader->left);
}

static void take_head_byte(struct reader *reader, uint8_t byte)
{
    if (reader->head_len == READER_HEAD_MAX || byte == '\0') {
        reader->state = READER_BAD;
        return;
    }
    reader->head[reader->head_len++] = (char)byte;
    reader->head[reader->head_len] = '\0';
    if (reader->head_len >= 4 && memcmp(reader->head + reader->head_len - 4, "\r\n\r\n", 4) == 0) {
        end_head(reader);
    }
}

/* True when the line is whole: in reader->line without CRLF. */
static bool take_line_byte(struct reader *reader, uint8_t byte)
{
    if (reader->line_len + 1 >= sizeof reader->line) {
        reader->state = READER_BAD;
        return false;
    }
    reader->line[reader->line_len++] = (char)byte;
    reader->line[reader->line_len] = '\0';
    if (byte != '\n') {
        return false;
    }
    if (reader->line_len < 2 || reader->line[reader->line_len - 2] != '\r') {
        reader->state = READER_BAD;
        return false;
    }
    reader->line[reader->line_len - 2] = '\0';
    reader->line_len = 0;
    return true;
}

static void take_chunk_line(struct reader *reader, uint8_t byte)
{
    char *end;
    if (!take_line_byte(reader, byte)) {
        return;
    }
    reader->left = strtoull(reader->line, &end, 16);
    if (end == reader->line || *end != '\0') {
        reader->state = READER_BAD;
        return;
    }
    reader->state = reader->left > 0 ? READER_CHUNK : READER_TRAILERS;
}

static size_t take_body(struct reader *reader, const uint8_t *bytes, size_t len, bool bounded)
{
    size_t part = bounded && reader->left < len ? (size_t)reader->left : len;
    reader->body(reader->owner, bytes, part);
    reader->body_len += part;
    if (bounded) {
        reader->left -= part;
    }
    return part;
}

static size_t step(struct reader *reader, const uint8_t *bytes, size_t len)
{
    size_t part;
    switch (reader->state) {
    case READER_HEAD:
        take_head_byte(reader, bytes[0]);
        return 1;
    case READER_BODY:
        part = take_body(reader, bytes, len, true);
        reader->state = reader->left > 0 ? READER_BODY : READER_DONE;
        return part;
    case READER_CHUNK_LINE:
        take_chunk_line(reader, bytes[0]);
        return 1;
    case READER_CHUNK:
        part = take_body(reader, bytes, len, true);
        reader->state = reader->left > 0 ? READER_CHUNK : READER_CHUNK_END;
        return part;
    case READER_CHUNK_END:
        if (take_line_byte(reader, bytes[0])) {
            reader->state = reader->line[0] == '\0' ? READER_CHUNK_LINE : READER_BAD;
        }
        return 1;
    case READER_TRAILERS:
        if (take_line_byte(reader, bytes[0]) && reader->line[0] == '\0') {
            reader->state = READER_DONE;
        }
        return 1;
    case READER_UNTIL_CLOSE:
    case READER_TUNNEL:
        return take_body(reader, bytes, len, false);
    case READER_DONE:
    case READER_BAD:
        break;
    }
    return 0;
}

size_t reader_feed(struct reader *reader, const uint8_t *bytes, size_t len)
{
    size_t used = 0;
    while (used < len && reader->state != READER_DONE && reader->state != READER_BAD) {
        used += step(reader, bytes + used, len - used);
    }
    return used;
}

bool reader_eof(struct reader *reader)
{
    if (reader->state == READER_UNTIL_CLOSE) {
        reader->state = READER_DONE;
    }
    return reader->state == READER_DONE || reader->state == READER_TUNNEL;
}
