#include "http/h2_message.h"

#include <string.h>

#include "http/h2_case.h"
#include "http/scan.h"
#include "http/uri.h"

/* What one pass over the fields found. */
struct found {
    uint32_t pseudos; /* bit per enum hpack_pseudo */
    struct slice status;
    struct slice host;
    struct slice spelling; /* x-pillion-case */
    unsigned hosts;
    unsigned cookies;
    unsigned dropped;
    bool lengths;
    bool expect_unknown;
    enum codec_bad bad;
};

#define PSEUDO_BIT(pseudo) (1U << ((pseudo)-HPACK_AUTHORITY))
#define REQUEST_PSEUDOS                                                                            \
    (PSEUDO_BIT(HPACK_AUTHORITY) | PSEUDO_BIT(HPACK_METHOD) | PSEUDO_BIT(HPACK_PATH) |             \
     PSEUDO_BIT(HPACK_SCHEME) | PSEUDO_BIT(HPACK_PROTOCOL))

static bool has(const struct found *found, enum hpack_pseudo pseudo)
{
    return (found->pseudos & PSEUDO_BIT(pseudo)) != 0;
}

static void note_bad(struct found *found, enum codec_bad bad)
{
    if (found->bad == CODEC_BAD_NONE) {
        found->bad = bad;
    }
}

/* Pseudo fields stand in front, each at most once, only those that the message's kind allows (RFC
 * 9113 8.3). Returns how many there are. */
static unsigned read_pseudos(struct hpack_list *list, struct found *found, struct message *out,
                             uint32_t allowed)
{
    unsigned at = 0;
    for (; at < list->count && list->field[at].id >= HPACK_AUTHORITY; at++) {
        const struct header *field = &list->field[at];
        if (field->id == HPACK_PSEUDO_UNKNOWN) {
            note_bad(found, CODEC_BAD_FIELD);
            continue;
        }
        uint32_t bit = PSEUDO_BIT(field->id);
        if ((allowed & bit) == 0 || (found->pseudos & bit) != 0) {
            note_bad(found, CODEC_BAD_FIELD);
        }
        found->pseudos |= bit;
        switch ((enum hpack_pseudo)field->id) {
        case HPACK_AUTHORITY:
            out->authority = field->value;
            break;
        case HPACK_METHOD:
            out->method = field->value;
            break;
        case HPACK_PATH:
            out->path = field->value;
            break;
        case HPACK_SCHEME:
            out->scheme = field->value;
            break;
        case HPACK_STATUS:
            found->status = field->value;
            break;
        case HPACK_PROTOCOL:
            out->protocol = field->value;
            break;
        case HPACK_PSEUDO_UNKNOWN:
            break;
        }
    }
    return at;
}

static void read_length(struct found *found, struct message *out, struct slice value)
{
    if (found->lengths || !slice_to_u64(value, INT64_MAX, &out->content_length)) {
        note_bad(found, CODEC_BAD_CONTENT_LENGTH);
    }
    found->lengths = true;
}

/* One field with a meaning to the codec. True: it is no field of the message. */
static bool read_field(struct found *found, struct message *out, const struct header *field)
{
    switch (field->id) {
    case HEADER_CONNECTION: /* of one connection only (RFC 9113 8.2.2) */
    case HEADER_KEEP_ALIVE:
    case HEADER_PROXY_CONNECTION:
    case HEADER_TRANSFER_ENCODING:
    case HEADER_UPGRADE:
        note_bad(found, CODEC_BAD_FIELD);
        return true;
    case HEADER_TE:
        if (!slice_eq_nocase(field->value, SLICE("trailers"))) {
            note_bad(found, CODEC_BAD_FIELD);
        }
        out->te_trailers = true;
        return true;
    case HEADER_HTTP2_SETTINGS:
        return true;
    case HEADER_CONTENT_LENGTH:
        read_length(found, out, field->value);
        return true;
    case HEADER_HOST:
        found->hosts++;
        found->host = field->value;
        return true;
    case HEADER_EXPECT:
        found->expect_unknown |= !slice_eq_nocase(field->value, SLICE("100-continue"));
        out->expect_continue = true;
        return true;
    case HEADER_COOKIE:
        found->cookies++;
        return false;
    case HEADER_X_PILLION_CASE:
        found->spelling = field->value;
        return true;
    default: /* the other ids: ordinary fields */
        if (field->id >= HPACK_AUTHORITY) {
            note_bad(found, CODEC_BAD_FIELD); /* a pseudo field behind a field */
        }
        return false;
    }
}

/* Cookie crumbs become one field again (RFC 9113 8.2.3). */
static void join_cookies(struct hpack_list *list, struct headers *headers, struct found *found)
{
    struct header *first = NULL;
    uint8_t *start = list->scratch.at + list->used;
    uint8_t *at = start;
    for (unsigned i = 0; i < headers->count; i++) {
        struct header *field = &headers->field[i];
        if (field->id != HEADER_COOKIE) {
            continue;
        }
        CHECK(list->scratch.len - (size_t)(at - list->scratch.at) >= field->value.len + 2);
        if (first == NULL) {
            first = field;
        } else {
            *at++ = ';';
            *at++ = ' ';
            field->dropped = true;
            found->dropped++;
            first->no_index |= field->no_index;
        }
        if (field->value.len > 0) {
            memcpy(at, field->value.at, field->value.len);
            at += field->value.len;
        }
    }
    CHECK(first != NULL);
    first->value = slice_of(start, (size_t)(at - start));
    list->used += first->value.len;
}

/* The part that all kinds share. */
static enum codec_bad read_list(struct hpack_list *list, const struct h2_message_rules *rules,
                                struct message *out, struct found *found, uint32_t allowed)
{
    if (list->over_size) {
        return CODEC_BAD_HEAD_LARGE;
    }
    if (list->over_count) {
        return CODEC_BAD_HEAD_COUNT;
    }
    unsigned front = read_pseudos(list, found, out, allowed);
    out->headers = (struct headers){.field = list->field + front,
                                    .count = (uint16_t)(list->count - front),
                                    .capacity = (uint16_t)(list->capacity - front)};
    for (unsigned i = 0; i < out->headers.count; i++) {
        struct header *field = &out->headers.field[i];
        if (field->id != HEADER_OTHER && read_field(found, out, field)) {
            field->dropped = true;
            found->dropped++;
        }
    }
    if (list->malformed) {
        return CODEC_BAD_FIELD;
    }
    if (found->bad != CODEC_BAD_NONE) {
        return found->bad;
    }
    if (found->cookies > 1) {
        join_cookies(list, &out->headers, found);
    }
    if (found->spelling.len > 0 && rules->spelling) {
        h2_case_read(out, found->spelling);
    }
    return out->headers.count - found->dropped > rules->max_headers ? CODEC_BAD_HEAD_COUNT
                                                                    : CODEC_BAD_NONE;
}

static void start(struct message *out, enum message_kind kind)
{
    *out = (struct message){.kind = kind,
                            .version = MESSAGE_HTTP_2,
                            .content_length = MESSAGE_LENGTH_UNKNOWN,
                            .keep_alive = true};
}

/* RFC 9113 8.3.1: Host may stand for :authority, and may not say otherwise. */
static bool read_authority(struct message *out, const struct found *found)
{
    struct uri_authority parts;
    if (found->hosts > 1) {
        return false;
    }
    if (!has(found, HPACK_AUTHORITY)) {
        out->authority = found->host;
    } else if (found->hosts == 1 && !slice_eq_nocase(found->host, out->authority)) {
        return false;
    }
    return uri_parse_authority(out->authority, &parts);
}

static bool read_path(struct hpack_list *list, struct message *out)
{
    if (slice_eq(out->path, SLICE("*"))) {
        return slice_eq(out->method, SLICE("OPTIONS"));
    }
    if (out->path.len == 0 || out->path.at[0] != '/' ||
        scan_visible(out->path.at, out->path.len) < out->path.len ||
        slice_find(out->path, '#') < out->path.len) {
        return false;
    }
    struct span room = {list->scratch.at + list->used, list->scratch.len - list->used};
    CHECK(room.len >= out->path.len);
    return uri_normalise(out->path, room, &out->path);
}

/* RFC 9113 8.5 and RFC 8441 4. */
static enum codec_bad check_connect(const struct message *out, const struct found *found,
                                    const struct h2_message_rules *rules)
{
    bool extended = has(found, HPACK_PROTOCOL);
    if (extended != (has(found, HPACK_SCHEME) && has(found, HPACK_PATH))) {
        return CODEC_BAD_FIELD;
    }
    if (!extended && (has(found, HPACK_SCHEME) || has(found, HPACK_PATH))) {
        return CODEC_BAD_FIELD;
    }
    if (extended && (!rules->connect_protocol || out->protocol.len == 0 ||
                     scan_token(out->protocol.at, out->protocol.len) < out->protocol.len)) {
        return CODEC_BAD_FIELD;
    }
    if (!has(found, HPACK_AUTHORITY)) {
        return CODEC_BAD_HOST;
    }
    return found->lengths ? CODEC_BAD_CONTENT_LENGTH : CODEC_BAD_NONE;
}

enum codec_bad h2_message_request(struct hpack_list *list, const struct h2_message_rules *rules,
                                  struct message *out)
{
    struct found found = {.bad = CODEC_BAD_NONE};
    start(out, MESSAGE_REQUEST);
    enum codec_bad bad = read_list(list, rules, out, &found, REQUEST_PSEUDOS);
    if (bad != CODEC_BAD_NONE) {
        return bad;
    }
    if (out->method.len == 0 || scan_token(out->method.at, out->method.len) < out->method.len) {
        return CODEC_BAD_FIELD;
    }
    bool connect = slice_eq(out->method, SLICE("CONNECT"));
    if (connect) {
        bad = check_connect(out, &found, rules);
        out->connect = !has(&found, HPACK_PROTOCOL);
    } else if (!has(&found, HPACK_SCHEME) || !has(&found, HPACK_PATH) ||
               has(&found, HPACK_PROTOCOL)) {
        bad = CODEC_BAD_FIELD;
    }
    if (bad != CODEC_BAD_NONE) {
        return bad;
    }
    if (!read_authority(out, &found)) {
        return CODEC_BAD_HOST;
    }
    if (!out->connect) {
        if (out->scheme.len == 0 || scan_token(out->scheme.at, out->scheme.len) < out->scheme.len) {
            return CODEC_BAD_FIELD;
        }
        if (!read_path(list, out)) {
            return CODEC_BAD_TARGET;
        }
    }
    if (connect && !out->connect) {
        out->method = SLICE("GET"); /* what an Upgrade is elsewhere (RFC 8441 5) */
    }
    return found.expect_unknown ? CODEC_BAD_EXPECT : CODEC_BAD_NONE;
}

static bool read_status(struct slice text, uint16_t *status)
{
    uint64_t value;
    if (text.len != 3 || !slice_to_u64(text, 999, &value) || value < 100) {
        return false;
    }
    *status = (uint16_t)value;
    return true;
}

enum codec_bad h2_message_response(struct hpack_list *list, const struct h2_message_rules *rules,
                                   struct message *out)
{
    struct found found = {.bad = CODEC_BAD_NONE};
    start(out, MESSAGE_RESPONSE);
    enum codec_bad bad = read_list(list, rules, out, &found, PSEUDO_BIT(HPACK_STATUS));
    if (bad != CODEC_BAD_NONE) {
        return bad;
    }
    if (!has(&found, HPACK_STATUS) || !read_status(found.status, &out->status) ||
        out->status == 101) { /* RFC 9113 8.6 */
        return CODEC_BAD_STATUS_LINE;
    }
    out->expect_continue = false;
    out->te_trailers = false;
    if (message_is_informational(out) || out->status == 204) {
        out->content_length = MESSAGE_LENGTH_UNKNOWN; /* RFC 9110 8.6 */
    }
    return CODEC_BAD_NONE;
}

/* Fields that would change what the head said (RFC 9110 6.5.1): of those that the proxy knows, only
 * a few may come late. */
static bool may_trail(uint8_t id)
{
    return id == HEADER_OTHER || id == HEADER_GRPC_STATUS || id == HEADER_GRPC_MESSAGE ||
           id == HEADER_GRPC_RETRY_PUSHBACK_MS || id == HEADER_DATE || id == HEADER_SERVER ||
           id == HEADER_PROXY_STATUS;
}

enum codec_bad h2_message_trailers(struct hpack_list *list, const struct h2_message_rules *rules,
                                   struct message *out)
{
    struct found found = {.bad = CODEC_BAD_NONE};
    start(out, MESSAGE_REQUEST);
    enum codec_bad bad = read_list(list, rules, out, &found, 0);
    if (bad != CODEC_BAD_NONE) {
        return bad;
    }
    for (unsigned i = 0; i < out->headers.count; i++) {
        out->headers.field[i].dropped |= !may_trail(out->headers.field[i].id);
    }
    return CODEC_BAD_NONE;
}

/* --- writing --------------------------------------------------------------------------------- */

#define LENGTH_TEXT_MAX 20

/* Made from members, or of the connection only. */
static bool skipped(const struct header *field)
{
    static const bool of_connection[HEADER_ID_COUNT] = {
        [HEADER_HOST] = true,           [HEADER_CONTENT_LENGTH] = true,
        [HEADER_CONNECTION] = true,     [HEADER_TRANSFER_ENCODING] = true,
        [HEADER_KEEP_ALIVE] = true,     [HEADER_PROXY_CONNECTION] = true,
        [HEADER_UPGRADE] = true,        [HEADER_TE] = true,
        [HEADER_EXPECT] = true,         [HEADER_HTTP2_SETTINGS] = true,
        [HEADER_X_PILLION_CASE] = true,
    };
    return field->dropped || of_connection[field->id];
}

static bool tells_spelling(const struct message *message, const struct h2_message_style *style)
{
    return style->spelling && message->version != MESSAGE_HTTP_2;
}

size_t h2_message_bound(const struct message *message, const struct h2_message_style *style)
{
    size_t bound = HPACK_START_BOUND + 8 * HPACK_FIELD_BOUND(LENGTH_TEXT_MAX, LENGTH_TEXT_MAX) +
                   message->method.len + message->scheme.len + message->authority.len +
                   message->path.len + message->protocol.len;
    bool spelling = tells_spelling(message, style);
    for (unsigned i = 0; i < message->headers.count; i++) {
        const struct header *field = &message->headers.field[i];
        bound += HPACK_FIELD_BOUND(field->name.len, field->value.len);
        bound += spelling ? field->name.len + 1 : 0;
    }
    return bound;
}

static uint8_t *write_request(struct hpack_encoder *encoder, uint8_t *at,
                              const struct message *message)
{
    bool extended = message->protocol.len > 0;
    struct slice method = extended ? SLICE("CONNECT") : message->method;
    at = hpack_encode_pseudo(encoder, at, HPACK_METHOD, method);
    if (!message->connect) {
        struct slice scheme = message->scheme.len > 0 ? message->scheme : SLICE("http");
        struct slice path = message->path.len > 0 ? message->path : SLICE("/");
        at = hpack_encode_pseudo(encoder, at, HPACK_SCHEME, scheme);
        at = hpack_encode_pseudo(encoder, at, HPACK_PATH, path);
    }
    if (message->authority.len > 0) {
        at = hpack_encode_pseudo(encoder, at, HPACK_AUTHORITY, message->authority);
    }
    if (extended) {
        at = hpack_encode_pseudo(encoder, at, HPACK_PROTOCOL, message->protocol);
    }
    return at;
}

static uint8_t *write_value(struct hpack_encoder *encoder, uint8_t *at, enum header_id id,
                            struct slice value)
{
    struct header field = {.id = (uint8_t)id, .value = value};
    return hpack_encode_field(encoder, at, &field);
}

static uint8_t *write_length(struct hpack_encoder *encoder, uint8_t *at, uint64_t length)
{
    uint8_t text[LENGTH_TEXT_MAX];
    size_t first = sizeof text;
    do {
        text[--first] = (uint8_t)('0' + length % 10);
        length /= 10;
    } while (length > 0);
    return write_value(encoder, at, HEADER_CONTENT_LENGTH,
                       slice_of(text + first, sizeof text - first));
}

/* RFC 9110 8.6: not with 1xx or 204. RFC 9113 8.5: not in a tunnel. */
static bool has_length(const struct message *message)
{
    if (message->content_length == MESSAGE_LENGTH_UNKNOWN || message->connect ||
        message->protocol.len > 0) {
        return false;
    }
    return message->kind == MESSAGE_REQUEST || (message->status >= 200 && message->status != 204);
}

static uint8_t *write_spelling(struct hpack_encoder *encoder, uint8_t *at,
                               const struct message *message, bool trailers)
{
    uint8_t room[H2_CASE_BYTES_MAX];
    struct slice value = h2_case_write(&message->headers, room);
    bool usual = value.len == 1 && value.at[0] == 'T';
    /* Trailers have nothing to tell but their names. */
    return trailers && usual ? at : write_value(encoder, at, HEADER_X_PILLION_CASE, value);
}

uint8_t *h2_message_write(struct hpack_encoder *encoder, uint8_t *at, const struct message *message,
                          const struct h2_message_style *style)
{
    bool trailers = style->trailers;
    at = hpack_encode_start(encoder, at);
    if (!trailers) {
        if (message->kind == MESSAGE_REQUEST) {
            at = write_request(encoder, at, message);
        } else {
            at = hpack_encode_status(encoder, at, message->status == 101 ? 200 : message->status);
        }
    }
    for (unsigned i = 0; i < message->headers.count; i++) {
        const struct header *field = &message->headers.field[i];
        if (!skipped(field)) {
            at = hpack_encode_field(encoder, at, field);
        }
    }
    if (tells_spelling(message, style)) {
        at = write_spelling(encoder, at, message, trailers);
    }
    if (trailers) {
        return at;
    }
    if (has_length(message)) {
        at = write_length(encoder, at, message->content_length);
    }
    if (message->te_trailers) {
        at = write_value(encoder, at, HEADER_TE, SLICE("trailers"));
    }
    if (message->expect_continue) {
        at = write_value(encoder, at, HEADER_EXPECT, SLICE("100-continue"));
    }
    return at;
}
