#pragma once
/* Small pieces of gRPC over HTTP/2 (the PROTOCOL-HTTP2 document of gRPC): timeouts, status codes,
 * percent-encoded messages, and the framing of messages. Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/slice.h"
#include "http/message.h"

/* X(name, number) */
#define GRPC_STATUSES(X)                                                                           \
    X(OK, 0)                                                                                       \
    X(CANCELLED, 1)                                                                                \
    X(UNKNOWN, 2)                                                                                  \
    X(INVALID_ARGUMENT, 3)                                                                         \
    X(DEADLINE_EXCEEDED, 4)                                                                        \
    X(NOT_FOUND, 5)                                                                                \
    X(ALREADY_EXISTS, 6)                                                                           \
    X(PERMISSION_DENIED, 7)                                                                        \
    X(RESOURCE_EXHAUSTED, 8)                                                                       \
    X(FAILED_PRECONDITION, 9)                                                                      \
    X(ABORTED, 10)                                                                                 \
    X(OUT_OF_RANGE, 11)                                                                            \
    X(UNIMPLEMENTED, 12)                                                                           \
    X(INTERNAL, 13)                                                                                \
    X(UNAVAILABLE, 14)                                                                             \
    X(DATA_LOSS, 15)                                                                               \
    X(UNAUTHENTICATED, 16)

enum grpc_status {
#define X(name, number) GRPC_##name = (number),
    GRPC_STATUSES(X)
#undef X
        GRPC_STATUS_COUNT
};

/* "DEADLINE_EXCEEDED". */
const char *grpc_status_name(enum grpc_status status);
/* The value of grpc-status; false where it is not a number that is defined. */
bool grpc_status_parse(struct slice value, enum grpc_status *status) MUST_USE;
/* The status of an answer: of its trailers, else of its head, which a trailers-only answer has; -1:
 * none, or no number. Either may be null. */
int grpc_status_of(const struct message *head, const struct message *trailers);
/* What a client makes of an HTTP status that came without grpc-status (gRPC's
 * http-grpc-status-mapping). */
enum grpc_status grpc_status_of_http(uint16_t http_status);
/* The HTTP status that stands for a gRPC status where one is counted as the other
 * (google.rpc.Code). */
uint16_t grpc_status_to_http(enum grpc_status status);

/* grpc-timeout in microseconds, rounded up from nanoseconds: at most eight digits and a unit of
 * HMSmun. False where it is not one. */
bool grpc_timeout_parse(struct slice value, uint64_t *timeout_us) MUST_USE;
#define GRPC_TIMEOUT_TEXT 10 /* eight digits, the unit, a zero byte */
/* The shortest exact text, else rounded up to the next unit; above what the format holds, its
 * largest. Returns the text, which lies in `text`. */
struct slice grpc_timeout_format(uint64_t timeout_us, char text[GRPC_TIMEOUT_TEXT]);

/* grpc-message: bytes outside 0x20 to 0x7e, and '%', as %XX. */
struct slice grpc_message_encode(struct arena *arena, struct slice message);
/* Broken escapes stay as they are, as gRPC wants. */
struct slice grpc_message_decode(struct arena *arena, struct slice value);

#define GRPC_FRAME_HEAD 5

/* Puts the five bytes that go before a message of `len` bytes (not compressed). */
void grpc_frame_head(uint8_t head[GRPC_FRAME_HEAD], uint32_t len);

enum grpc_read {
    GRPC_READ_MESSAGE,    /* *message holds a whole message */
    GRPC_READ_MORE,       /* all input is consumed */
    GRPC_READ_LARGE,      /* the message is above the limit: RESOURCE_EXHAUSTED */
    GRPC_READ_COMPRESSED, /* a compressed message, which we never offered: UNIMPLEMENTED */
    GRPC_READ_BAD         /* a flag that is not defined: INTERNAL */
};

/* Messages out of a stream's DATA. A message that lies whole in the input is borrowed from it, one
 * that comes in pieces is gathered in memory of the reader's own, which grows with what has really
 * come, never with what was announced. One thread. */
struct grpc_reader {
    uint32_t max_bytes; /* of one message */
    uint32_t want;      /* bytes of the message that is being gathered */
    uint32_t have;
    uint8_t head[GRPC_FRAME_HEAD];
    uint8_t head_len;
    uint8_t *gathered;
    uint32_t room;
};

void grpc_reader_init(struct grpc_reader *reader, uint32_t max_bytes);
void grpc_reader_fini(struct grpc_reader *reader);
/* The next message from the front of *in, which is advanced; *message is valid until the next call
 * and while the input is. After an error the stream is to be ended. */
enum grpc_read grpc_reader_next(struct grpc_reader *reader, struct slice *in,
                                struct slice *message) MUST_USE;
/* True between messages: where a stream may end. */
bool grpc_reader_idle(const struct grpc_reader *reader);
