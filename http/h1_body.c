#include "http/h1_body.h"

#include "http/scan.h"

/* Fifteen digits hold any size below 2^60; a sixteenth can only be a leading zero's. */
#define SIZE_DIGITS_MAX 16
#define SIZE_MAX_LEFT   ((uint64_t)1 << 60)

/* X(value, what stands at this place) */
#define CHUNK_STATES(X)                                                                            \
    X(SIZE, "digits of the size")                                                                  \
    X(GAP, "spaces that must lead to the ';' of an extension")                                     \
    X(NAME_GAP, "spaces before an extension's name")                                               \
    X(NAME, "an extension's name")                                                                 \
    X(NAME_END, "spaces behind a name: '=' or ';' must follow")                                    \
    X(VALUE_GAP, "spaces before an extension's value")                                             \
    X(TOKEN, "a value that is a token")                                                            \
    X(QUOTED, "inside a quoted value")                                                             \
    X(ESCAPED, "the byte behind a backslash in a quoted value")                                    \
    X(QUOTED_END, "behind a quoted value")                                                         \
    X(SIZE_LF, "the LF that ends the size line")                                                   \
    X(BYTES, "the chunk's bytes")                                                                  \
    X(BYTES_CR, "the CR behind them")                                                              \
    X(BYTES_LF, "the LF behind them")

enum chunk_state {
#define X(value, meaning) CHUNK_##value,
    CHUNK_STATES(X)
#undef X
        CHUNK_BROKEN
};

void h1_body_init(struct h1_body *body, enum h1_body_kind kind, uint64_t length)
{
    *body = (struct h1_body){
        .left = kind == H1_BODY_LENGTH ? length : 0,
        .kind = (uint8_t)kind,
        .state = CHUNK_SIZE,
    };
}

bool h1_body_complete(const struct h1_body *body)
{
    return body->kind == H1_BODY_NONE || (body->kind == H1_BODY_LENGTH && body->left == 0);
}

static struct slice take(struct slice *in, uint64_t max)
{
    size_t len = in->len < max ? in->len : (size_t)max;
    struct slice taken = slice_of(in->at, len);
    *in = slice_from(*in, len);
    return taken;
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static enum chunk_state after_size(struct h1_body *body, uint8_t byte)
{
    uint8_t lower = slice_lower(byte);
    unsigned digit = byte >= '0' && byte <= '9'     ? byte - (unsigned)'0'
                     : lower >= 'a' && lower <= 'f' ? lower - (unsigned)'a' + 10
                                                    : 16;
    if (digit < 16) {
        if (body->digits == SIZE_DIGITS_MAX) {
            return CHUNK_BROKEN;
        }
        body->digits++;
        body->left = body->left * 16 + digit;
        return body->left < SIZE_MAX_LEFT || MUTANT(10) ? CHUNK_SIZE : CHUNK_BROKEN;
    }
    if (body->digits == 0) {
        return CHUNK_BROKEN;
    }
    return byte == '\r'     ? CHUNK_SIZE_LF
           : byte == ';'    ? CHUNK_NAME_GAP
           : is_space(byte) ? CHUNK_GAP
                            : CHUNK_BROKEN;
}

/* What may follow a whole extension: the next one, or the end of the line. Bad whitespace is only
 * allowed before a ';' or '=' (RFC 9112 7.1.1). */
static enum chunk_state after_extension(uint8_t byte, enum chunk_state with_space)
{
    return byte == ';' ? CHUNK_NAME_GAP : is_space(byte) ? with_space : CHUNK_BROKEN;
}

static bool is_quoted_text(uint8_t byte)
{
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

/* One byte of the size line or of a chunk's end: a table of states and bytes, written as a switch.
 * NOLINTNEXTLINE(readability-function-cognitive-complexity) */
static enum chunk_state next_state(struct h1_body *body, uint8_t byte)
{
    switch ((enum chunk_state)body->state) {
    case CHUNK_SIZE:
        return after_size(body, byte);
    case CHUNK_GAP:
        return after_extension(byte, CHUNK_GAP);
    case CHUNK_NAME_GAP:
        return is_space(byte) ? CHUNK_NAME_GAP : scan_is_token(byte) ? CHUNK_NAME : CHUNK_BROKEN;
    case CHUNK_NAME:
        if (scan_is_token(byte)) {
            return CHUNK_NAME;
        }
        return byte == '='    ? CHUNK_VALUE_GAP
               : byte == '\r' ? CHUNK_SIZE_LF
                              : after_extension(byte, CHUNK_NAME_END);
    case CHUNK_NAME_END:
        return byte == '=' ? CHUNK_VALUE_GAP : after_extension(byte, CHUNK_NAME_END);
    case CHUNK_VALUE_GAP:
        return is_space(byte)        ? CHUNK_VALUE_GAP
               : byte == '"'         ? CHUNK_QUOTED
               : scan_is_token(byte) ? CHUNK_TOKEN
                                     : CHUNK_BROKEN;
    case CHUNK_TOKEN:
        return scan_is_token(byte) ? CHUNK_TOKEN
               : byte == '\r'      ? CHUNK_SIZE_LF
                                   : after_extension(byte, CHUNK_GAP);
    case CHUNK_QUOTED:
        return byte == '"'            ? CHUNK_QUOTED_END
               : byte == '\\'         ? CHUNK_ESCAPED
               : is_quoted_text(byte) ? CHUNK_QUOTED
                                      : CHUNK_BROKEN;
    case CHUNK_ESCAPED:
        return is_quoted_text(byte) ? CHUNK_QUOTED : CHUNK_BROKEN;
    case CHUNK_QUOTED_END:
        return byte == '\r' ? CHUNK_SIZE_LF : after_extension(byte, CHUNK_GAP);
    case CHUNK_SIZE_LF:
        return byte == '\n' ? CHUNK_BYTES : CHUNK_BROKEN;
    case CHUNK_BYTES_CR:
        return byte == '\r' ? CHUNK_BYTES_LF : CHUNK_BROKEN;
    case CHUNK_BYTES_LF:
        return byte == '\n' ? CHUNK_SIZE : CHUNK_BROKEN;
    case CHUNK_BYTES:
    case CHUNK_BROKEN:
        break;
    }
    return CHUNK_BROKEN;
}

static bool in_extension(uint8_t state)
{
    return state >= CHUNK_GAP && state <= CHUNK_QUOTED_END;
}

static enum h1_body_step next_chunked(struct h1_body *body, struct slice *in, struct slice *data)
{
    while (in->len > 0) {
        if (body->state == CHUNK_BYTES) {
            *data = take(in, body->left);
            body->left -= data->len;
            if (body->left == 0) {
                body->state = CHUNK_BYTES_CR;
                body->digits = 0;
            }
            return H1_BODY_DATA;
        }
        body->state = (uint8_t)next_state(body, in->at[0]);
        *in = slice_from(*in, 1);
        if (in_extension(body->state) && ++body->extension_bytes > H1_EXTENSION_BYTES_MAX) {
            body->state = CHUNK_BROKEN;
        }
        if (body->state == CHUNK_BROKEN) {
            return H1_BODY_BAD;
        }
        if (body->state == CHUNK_BYTES && body->left == 0) {
            return H1_BODY_TRAILERS;
        }
    }
    return H1_BODY_MORE;
}

enum h1_body_step h1_body_next(struct h1_body *body, struct slice *in, struct slice *data)
{
    switch ((enum h1_body_kind)body->kind) {
    case H1_BODY_NONE:
        return H1_BODY_END;
    case H1_BODY_LENGTH:
        if (body->left == 0) {
            return H1_BODY_END;
        }
        break;
    case H1_BODY_CHUNKED:
        return next_chunked(body, in, data);
    case H1_BODY_CLOSE:
        break;
    }
    if (in->len == 0) {
        return H1_BODY_MORE;
    }
    *data = take(in, body->kind == H1_BODY_LENGTH ? body->left : UINT64_MAX);
    if (body->kind == H1_BODY_LENGTH) {
        body->left -= data->len;
    }
    return H1_BODY_DATA;
}
