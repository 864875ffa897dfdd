#include "http/grpc.h"

#include "base/alloc.h"

#define TIMEOUT_MAX 99999999U /* eight digits */

const char *grpc_status_name(enum grpc_status status)
{
    static const char *const names[] = {
#define X(name, number) [number] = #name,
        GRPC_STATUSES(X)
#undef X
    };
    CHECK((size_t)status < COUNT_OF(names));
    return names[status];
}

bool grpc_status_parse(struct slice value, enum grpc_status *status)
{
    uint64_t number = 0;
    if (!slice_to_u64(value, GRPC_STATUS_COUNT - 1, &number)) {
        return false;
    }
    *status = (enum grpc_status)number;
    return true;
}

int grpc_status_of(const struct message *head, const struct message *trailers)
{
    const struct message *const places[] = {trailers, head};
    for (unsigned i = 0; i < COUNT_OF(places); i++) {
        enum grpc_status status;
        if (places[i] != NULL &&
            grpc_status_parse(headers_value(&places[i]->headers, HEADER_GRPC_STATUS), &status)) {
            return (int)status;
        }
    }
    return -1;
}

enum grpc_status grpc_status_of_http(uint16_t http_status)
{
    switch (http_status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default: /* every other status */
        return GRPC_UNKNOWN;
    }
}

uint16_t grpc_status_to_http(enum grpc_status status)
{
    static const uint16_t codes[GRPC_STATUS_COUNT] = {
        [GRPC_OK] = 200,
        [GRPC_CANCELLED] = 499,
        [GRPC_UNKNOWN] = 500,
        [GRPC_INVALID_ARGUMENT] = 400,
        [GRPC_DEADLINE_EXCEEDED] = 504,
        [GRPC_NOT_FOUND] = 404,
        [GRPC_ALREADY_EXISTS] = 409,
        [GRPC_PERMISSION_DENIED] = 403,
        [GRPC_RESOURCE_EXHAUSTED] = 429,
        [GRPC_FAILED_PRECONDITION] = 400,
        [GRPC_ABORTED] = 409,
        [GRPC_OUT_OF_RANGE] = 400,
        [GRPC_UNIMPLEMENTED] = 501,
        [GRPC_INTERNAL] = 500,
        [GRPC_UNAVAILABLE] = 503,
        [GRPC_DATA_LOSS] = 500,
        [GRPC_UNAUTHENTICATED] = 401,
    };
    CHECK(status < GRPC_STATUS_COUNT);
    return codes[status];
}

/* Units from the finest, each in nanoseconds. */
static const struct {
    uint64_t ns;
    char letter;
} units[] = {
    {1, 'n'},
    {1000, 'u'},
    {1000000, 'm'},
    {1000000000, 'S'},
    {UINT64_C(60000000000), 'M'},
    {UINT64_C(3600000000000), 'H'},
};

bool grpc_timeout_parse(struct slice value, uint64_t *timeout_us)
{
    uint64_t number = 0;
    if (value.len < 2 || value.len > 9 ||
        !slice_to_u64(slice_head(value, value.len - 1), TIMEOUT_MAX, &number)) {
        return false;
    }
    for (unsigned i = 0; i < COUNT_OF(units); i++) {
        if (value.at[value.len - 1] == (uint8_t)units[i].letter) {
            uint64_t per_us = units[i].ns / 1000;
            *timeout_us = per_us > 0 ? number * per_us : (number + 999) / 1000;
            return true;
        }
    }
    return false;
}

struct slice grpc_timeout_format(uint64_t timeout_us, char text[GRPC_TIMEOUT_TEXT])
{
    uint64_t number = timeout_us;
    unsigned unit = 1; /* microseconds */
    while (unit + 1 < COUNT_OF(units)) {
        uint64_t factor = units[unit + 1].ns / units[unit].ns;
        bool exact = number > 0 && number % factor == 0;
        if (number <= TIMEOUT_MAX && !exact) {
            break;
        }
        number = number / factor + (number % factor != 0);
        unit++;
    }
    number = number < TIMEOUT_MAX ? number : TIMEOUT_MAX;
    size_t at = GRPC_TIMEOUT_TEXT - 1;
    text[at] = '\0';
    text[--at] = units[unit].letter;
    do {
        CHECK(at > 0);
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return slice_of(text + at, GRPC_TIMEOUT_TEXT - 1 - at);
}

struct slice grpc_message_encode(struct arena *arena, struct slice message)
{
    static const char hex[] = "0123456789ABCDEF";
    uint8_t *text = arena_bytes(arena, message.len * 3 + 1);
    size_t len = 0;
    for (size_t i = 0; i < message.len; i++) {
        uint8_t byte = message.at[i];
        if (byte >= 0x20 && byte <= 0x7e && byte != '%') {
            text[len++] = byte;
            continue;
        }
        text[len++] = '%';
        text[len++] = (uint8_t)hex[byte >> 4];
        text[len++] = (uint8_t)hex[byte & 15];
    }
    return slice_of(text, len);
}

static int hex_digit(uint8_t byte)
{
    uint8_t lower = slice_lower(byte);
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

struct slice grpc_message_decode(struct arena *arena, struct slice value)
{
    uint8_t *text = arena_bytes(arena, value.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) {
        bool escape = value.at[i] == '%' && value.len - i > 2;
        int high = escape ? hex_digit(value.at[i + 1]) : -1;
        int low = escape ? hex_digit(value.at[i + 2]) : -1;
        if (high >= 0 && low >= 0) {
            text[len++] = (uint8_t)(high * 16 + low);
            i += 2;
        } else {
            text[len++] = value.at[i];
        }
    }
    return slice_of(text, len);
}

void grpc_frame_head(uint8_t head[GRPC_FRAME_HEAD], uint32_t len)
{
    head[0] = 0;
    head[1] = (uint8_t)(len >> 24);
    head[2] = (uint8_t)(len >> 16);
    head[3] = (uint8_t)(len >> 8);
    head[4] = (uint8_t)len;
}

void grpc_reader_init(struct grpc_reader *reader, uint32_t max_bytes)
{
    CHECK(max_bytes <= INT32_MAX);
    *reader = (struct grpc_reader){.max_bytes = max_bytes};
}

void grpc_reader_fini(struct grpc_reader *reader)
{
    FREE(reader->gathered);
    *reader = (struct grpc_reader){.max_bytes = 0};
}

bool grpc_reader_idle(const struct grpc_reader *reader)
{
    return reader->head_len == 0;
}

static struct slice take(struct slice *in, size_t max)
{
    struct slice taken = slice_head(*in, max);
    *in = slice_from(*in, taken.len);
    return taken;
}

static enum grpc_read read_head(struct grpc_reader *reader, struct slice *in)
{
    struct slice part = take(in, GRPC_FRAME_HEAD - (size_t)reader->head_len);
    if (part.len > 0) {
        memcpy(reader->head + reader->head_len, part.at, part.len);
        reader->head_len = (uint8_t)(reader->head_len + part.len);
    }
    if (reader->head_len < GRPC_FRAME_HEAD) {
        return GRPC_READ_MORE;
    }
    const uint8_t *head = reader->head;
    reader->want = (uint32_t)head[1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 |
                   (uint32_t)head[4];
    reader->have = 0;
    if (head[0] > 1) {
        return GRPC_READ_BAD;
    }
    if (head[0] == 1) {
        return GRPC_READ_COMPRESSED;
    }
    return reader->want > reader->max_bytes ? GRPC_READ_LARGE : GRPC_READ_MESSAGE;
}

static void gather(struct grpc_reader *reader, struct slice part)
{
    uint32_t needed = reader->have + (uint32_t)part.len;
    if (needed > reader->room) {
        uint32_t doubled = reader->room < reader->want / 2 ? reader->room * 2 : reader->want;
        reader->room = needed > doubled ? needed : doubled;
        reader->gathered = mem_resize(reader->gathered, reader->room);
    }
    memcpy(reader->gathered + reader->have, part.at, part.len);
    reader->have = needed;
}

enum grpc_read grpc_reader_next(struct grpc_reader *reader, struct slice *in, struct slice *message)
{
    if (reader->head_len < GRPC_FRAME_HEAD) {
        /* What an earlier message was gathered in is not kept: streams are silent for hours. */
        FREE(reader->gathered);
        reader->room = 0;
        enum grpc_read step = read_head(reader, in);
        if (step != GRPC_READ_MESSAGE) {
            return step;
        }
    }
    if (reader->have == 0 && in->len >= reader->want) {
        *message = take(in, reader->want);
        reader->head_len = 0;
        return GRPC_READ_MESSAGE;
    }
    struct slice part = take(in, reader->want - reader->have);
    if (part.len > 0) {
        gather(reader, part);
    }
    if (reader->have < reader->want) {
        return GRPC_READ_MORE;
    }
    *message = slice_of(reader->gathered, reader->want);
    reader->head_len = 0;
    return GRPC_READ_MESSAGE;
}
