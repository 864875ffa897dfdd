#pragma once
/* A reader of HTTP/1.1 messages that shares no line with http/: the judge of what the sidecar
 * writes, at both of its ends. It knows only what a correct sender writes, and calls everything
 * else bad. Bytes go in as they come; body bytes come out through a function. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READER_HEAD_MAX 16384

enum reader_state {
    READER_HEAD,
    READER_BODY, /* `left` bytes */
    READER_CHUNK_LINE,
    READER_CHUNK,
    READER_CHUNK_END,
    READER_TRAILERS,
    READER_UNTIL_CLOSE,
    READER_TUNNEL, /* behind a 101 or a CONNECT: all is body */
    READER_DONE,
    READER_BAD
};

typedef void reader_body(void *owner, const uint8_t *bytes, size_t len);

struct reader {
    enum reader_state state;
    char head[READER_HEAD_MAX + 1]; /* the whole head, zero byte behind */
    size_t head_len;
    char line[64];
    size_t line_len;
    uint64_t left;
    uint64_t body_len; /* so far */
    unsigned status;   /* of a response */
    unsigned interims;
    bool response;
    bool bodiless; /* of a response: the request was HEAD */
    bool tunnel;   /* of a response: 101 or 2xx begins a tunnel */
    bool close;    /* the message says Connection: close */
    bool head_done;
    reader_body *body;
    void *owner;
};

void reader_init(struct reader *reader, bool response, reader_body *body, void *owner);
/* Ready for the next message of the same connection. */
void reader_next(struct reader *reader);
/* Takes bytes up to the end of the message; returns how many. */
size_t reader_feed(struct reader *reader, const uint8_t *bytes, size_t len);
/* The peer's FIN: ends a body until close, cuts everything else. True when the message is whole. */
bool reader_eof(struct reader *reader);
/* The field's value up to the line's end, copied; false when there is none. */
bool reader_field(const struct reader *reader, const char *name, char *value, size_t size);
/* As a number; `otherwise` when there is none. */
uint64_t reader_number(const struct reader *reader, const char *name, uint64_t otherwise);
