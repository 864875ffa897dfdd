#pragma once
/* HTTP/2's frames on the wire (RFC 9113 4 and 6): numbers, names, headers in and out. Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define H2_PREFACE          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2_PREFACE_BYTES    24
#define H2_FRAME_HEAD_BYTES 9
#define H2_FRAME_MAX        16384 /* the default of SETTINGS_MAX_FRAME_SIZE; we never ask for more */
#define H2_WINDOW_DEFAULT   65535
#define H2_WINDOW_MAX       0x7fffffffU
#define H2_STREAM_MAX       0x7fffffffU
#define H2_PEER_FRAME_BYTES 1024 /* of a PEER frame's payload; more is ignored */

/* X(name, number) */
#define H2_FRAMES(X)                                                                               \
    X(DATA, 0)                                                                                     \
    X(HEADERS, 1)                                                                                  \
    X(PRIORITY, 2)                                                                                 \
    X(RST_STREAM, 3)                                                                               \
    X(SETTINGS, 4)                                                                                 \
    X(PUSH_PROMISE, 5)                                                                             \
    X(PING, 6)                                                                                     \
    X(GOAWAY, 7)                                                                                   \
    X(WINDOW_UPDATE, 8)                                                                            \
    X(CONTINUATION, 9)                                                                             \
    X(PEER, 0xe7)

enum h2_frame_type {
#define X(name, number) H2_FRAME_##name = (number),
    H2_FRAMES(X)
#undef X
};

enum h2_flag {
    H2_FLAG_ACK = 0x1,
    H2_FLAG_END_STREAM = 0x1,
    H2_FLAG_END_HEADERS = 0x4,
    H2_FLAG_PADDED = 0x8,
    H2_FLAG_PRIORITY = 0x20
};

/* RFC 9113 7. X(name, number) */
#define H2_CODES(X)                                                                                \
    X(NO_ERROR, 0)                                                                                 \
    X(PROTOCOL_ERROR, 1)                                                                           \
    X(INTERNAL_ERROR, 2)                                                                           \
    X(FLOW_CONTROL_ERROR, 3)                                                                       \
    X(SETTINGS_TIMEOUT, 4)                                                                         \
    X(STREAM_CLOSED, 5)                                                                            \
    X(FRAME_SIZE_ERROR, 6)                                                                         \
    X(REFUSED_STREAM, 7)                                                                           \
    X(CANCEL, 8)                                                                                   \
    X(COMPRESSION_ERROR, 9)                                                                        \
    X(CONNECT_ERROR, 10)                                                                           \
    X(ENHANCE_YOUR_CALM, 11)                                                                       \
    X(INADEQUATE_SECURITY, 12)                                                                     \
    X(HTTP_1_1_REQUIRED, 13)

enum h2_code {
#define X(name, number) H2_##name = (number),
    H2_CODES(X)
#undef X
};

enum h2_setting {
    H2_SETTING_HEADER_TABLE_SIZE = 1,
    H2_SETTING_ENABLE_PUSH = 2,
    H2_SETTING_MAX_CONCURRENT_STREAMS = 3,
    H2_SETTING_INITIAL_WINDOW_SIZE = 4,
    H2_SETTING_MAX_FRAME_SIZE = 5,
    H2_SETTING_MAX_HEADER_LIST_SIZE = 6,
    H2_SETTING_ENABLE_CONNECT_PROTOCOL = 8 /* RFC 8441 3 */
};

struct h2_frame {
    uint32_t len; /* of the payload */
    uint8_t type;
    uint8_t flags;
    uint32_t stream;
};

/* For logs; "unknown" for a number without a name. */
const char *h2_frame_name(uint8_t type);
const char *h2_code_name(uint32_t code);

static inline uint16_t h2_get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t h2_get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Without the reserved bit in front, which a receiver ignores. */
static inline uint32_t h2_get_u31(const uint8_t *at)
{
    return h2_get_u32(at) & 0x7fffffffU;
}

static inline uint8_t *h2_put_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static inline uint8_t *h2_put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
    return at + 4;
}

/* Reads the nine bytes at `at` (RFC 9113 4.1). */
static inline struct h2_frame h2_frame_read(const uint8_t *at)
{
    return (struct h2_frame){
        .len = h2_get_u32(at) >> 8, .type = at[3], .flags = at[4], .stream = h2_get_u31(at + 5)};
}

/* Writes nine bytes; returns the position behind them. */
static inline uint8_t *h2_frame_write(uint8_t *at, uint32_t len, enum h2_frame_type type,
                                      uint8_t flags, uint32_t stream)
{
    at[0] = (uint8_t)(len >> 16);
    at[1] = (uint8_t)(len >> 8);
    at[2] = (uint8_t)len;
    at[3] = (uint8_t)type;
    at[4] = flags;
    return h2_put_u32(at + 5, stream);
}
