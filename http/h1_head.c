#include "http/h1_head.h"

#include "http/scan.h"
#include "http/uri.h"

/* What one pass over the fields found; spans of repeated fields stay in the list. */
struct found {
    struct slice host;
    struct slice upgrade;
    uint64_t length;
    unsigned hosts;
    unsigned lengths;
    unsigned codings; /* Transfer-Encoding lines */
    bool length_bad;
    bool close;
    bool keep_alive;
    bool upgrade_named;
    bool names_others; /* Connection names fields of its own */
    bool expect;
    bool expect_unknown;
    bool te_trailers;
};

static void read_length(struct found *found, struct slice value)
{
    found->lengths++;
    if (!slice_to_u64(value, INT64_MAX, &found->length)) {
        found->length_bad = true;
    }
}

static void read_connection(struct found *found, struct slice value)
{
    while (value.at != NULL) {
        struct slice option = slice_trim(slice_cut(&value, ','));
        if (slice_eq_nocase(option, SLICE("close"))) {
            found->close = true;
        } else if (slice_eq_nocase(option, SLICE("keep-alive"))) {
            found->keep_alive = true;
        } else if (slice_eq_nocase(option, SLICE("upgrade"))) {
            found->upgrade_named = true;
        } else if (option.len > 0 && !slice_eq_nocase(option, SLICE("te"))) {
            found->names_others = true;
        }
    }
}

static void read_te(struct found *found, struct slice value)
{
    while (value.at != NULL) {
        struct slice coding = slice_trim(slice_cut(&value, ','));
        if (slice_eq_nocase(coding, SLICE("trailers"))) {
            found->te_trailers = true;
        }
    }
}

/* The first protocol of the list that can be followed. HTTP/2 over cleartext is none: an upgrade to
 * it that passed through us would carry requests past every policy. */
static struct slice pick_protocol(struct slice value)
{
    while (value.at != NULL) {
        struct slice protocol = slice_trim(slice_cut(&value, ','));
        bool http = slice_starts_nocase(protocol, SLICE("h2")) ||
                    slice_starts_nocase(protocol, SLICE("http/")) ||
                    slice_starts_nocase(protocol, SLICE("tls/"));
        size_t name = protocol.len > 0 ? scan_token(protocol.at, protocol.len) : 0;
        bool shaped = name > 0 && (name == protocol.len || protocol.at[name] == '/');
        if (shaped && !http) {
            return protocol;
        }
    }
    return (struct slice){NULL, 0};
}

/* True when the field belongs to this hop and is no field of the message. */
static bool read_field(struct found *found, const struct header *field)
{
    switch (field->id) {
    case HEADER_HOST:
        found->hosts++;
        found->host = field->value;
        return true;
    case HEADER_CONTENT_LENGTH:
        read_length(found, field->value);
        return true;
    case HEADER_TRANSFER_ENCODING:
        found->codings++;
        return true;
    case HEADER_CONNECTION:
        read_connection(found, field->value);
        return true;
    case HEADER_UPGRADE:
        if (found->upgrade.len == 0) {
            found->upgrade = pick_protocol(field->value);
        }
        return true;
    case HEADER_TE:
        read_te(found, field->value);
        return true;
    case HEADER_EXPECT:
        found->expect = true;
        found->expect_unknown |= !slice_eq_nocase(field->value, SLICE("100-continue"));
        return true;
    case HEADER_KEEP_ALIVE:
    case HEADER_PROXY_CONNECTION:
    case HEADER_HTTP2_SETTINGS:
        return true;
    default: /* the other ids, known and unknown: ordinary fields */
        return false;
    }
}

static void read_fields(struct message *message, struct found *found)
{
    uint64_t present = 0;
    *found = (struct found){.hosts = 0};
    for (unsigned i = 0; i < message->headers.count; i++) {
        struct header *field = &message->headers.field[i];
        present |= UINT64_C(1) << field->id;
        if (field->id != HEADER_OTHER) {
            field->dropped = read_field(found, field);
        }
    }
    message->headers.absent = ~present;
}

/* Connection may name what belongs to the hop, not what others rely on end to end: a client could
 * strip what a hop before us, or we ourselves, said about it. Fields that the proxy knows are all
 * of that kind. */
static bool may_be_named(struct slice name)
{
    static const struct {
        uint8_t text[20];
        uint8_t len;
        bool prefix;
    } kept[] = {
        {"authorization", 13, false}, {"proxy-", 6, true},     {"forwarded", 9, false},
        {"x-forwarded-", 12, true},   {"x-envoy-", 8, true},   {"x-pillion-", 10, true},
        {"x-b3-", 5, true},           {"x-real-ip", 9, false}, {"cache-control", 13, false},
        {"set-cookie", 10, false},    {"content-", 8, true},   {"grpc-", 5, true},
        {"baggage", 7, false},
    };
    if (header_id_of(name) != HEADER_OTHER) {
        return false;
    }
    for (unsigned i = 0; i < COUNT_OF(kept); i++) {
        struct slice text = slice_of(kept[i].text, kept[i].len);
        if (kept[i].prefix ? slice_starts_nocase(name, text) : slice_eq_nocase(name, text)) {
            return false;
        }
    }
    return true;
}

static void drop_named_by(struct headers *headers, struct slice value)
{
    while (value.at != NULL) {
        struct slice name = slice_trim(slice_cut(&value, ','));
        if (name.len > 0 && may_be_named(name)) {
            headers_drop_name(headers, name);
        }
    }
}

static void drop_named(struct headers *headers)
{
    for (unsigned i = 0; i < headers->count; i++) {
        if (headers->field[i].id == HEADER_CONNECTION) {
            drop_named_by(headers, headers->field[i].value);
        }
    }
}

/* The one coding that is understood is chunked, once and last (RFC 9112 6.1, 6.3, 7). */
static enum codec_bad check_codings(const struct message *message)
{
    unsigned chunked = 0;
    unsigned others = 0;
    bool last_is_chunked = false;
    for (unsigned i = 0; i < message->headers.count; i++) {
        if (message->headers.field[i].id != HEADER_TRANSFER_ENCODING) {
            continue;
        }
        struct slice rest = message->headers.field[i].value;
        while (rest.at != NULL) {
            struct slice coding = slice_trim(slice_cut(&rest, ','));
            if (coding.len == 0) {
                continue; /* empty list elements are legal (RFC 9110 5.6.1.2) */
            }
            last_is_chunked = slice_eq_nocase(coding, SLICE("chunked"));
            chunked += last_is_chunked;
            others += !last_is_chunked;
        }
    }
    if (!last_is_chunked || chunked != 1) {
        return CODEC_BAD_CODING_ORDER;
    }
    return others > 0 ? CODEC_BAD_CODING : CODEC_BAD_NONE;
}

/* The checks on framing that requests and responses share. */
static enum codec_bad check_framing(const struct message *message, const struct found *found)
{
    if (found->codings > 0) {
        if (message->version == MESSAGE_HTTP_1_0) {
            return CODEC_BAD_CODING_VERSION;
        }
        if (found->lengths > 0 && !MUTANT(7)) {
            return CODEC_BAD_LENGTH_AND_CODING;
        }
        return check_codings(message);
    }
    return found->lengths > 1 || found->length_bad ? CODEC_BAD_CONTENT_LENGTH : CODEC_BAD_NONE;
}

static bool lives_on(const struct message *message, const struct found *found)
{
    return !found->close && (message->version == MESSAGE_HTTP_1_1 || found->keep_alive);
}

/* RFC 9112 3.2: exactly one Host, in HTTP/1.0 at most one. A target in absolute form wins over it
 * (3.2.2); an empty one is a name that nobody has (3.3). */
static bool read_host(struct message *message, const struct found *found)
{
    struct uri_authority parts;
    bool missing = found->hosts == 0 && message->version == MESSAGE_HTTP_1_1;
    if (found->hosts > 1 || (missing && !MUTANT(9))) {
        return false;
    }
    if (found->host.len > 0 && !uri_parse_authority(found->host, &parts)) {
        return false;
    }
    if (message->authority.len == 0) {
        message->authority = found->host;
    }
    return true;
}

static bool read_path(struct message *message, struct span room)
{
    if (message->path.len > 0 && message->path.at[0] == '?') {
        CHECK(room.len > message->path.len);
        room.at[0] = '/';
        memcpy(room.at + 1, message->path.at, message->path.len);
        message->path = slice_of(room.at, message->path.len + 1);
        return true;
    }
    return uri_normalise(message->path, room, &message->path);
}

static void set_body(struct message *message, const struct found *found, struct h1_framing *framing)
{
    *framing = (struct h1_framing){.kind = H1_BODY_NONE};
    message->content_length = MESSAGE_LENGTH_UNKNOWN;
    if (found->codings > 0) {
        framing->kind = H1_BODY_CHUNKED;
    } else if (found->lengths > 0) {
        message->content_length = found->length;
        framing->kind = found->length > 0 ? H1_BODY_LENGTH : H1_BODY_NONE;
        framing->length = found->length;
    }
    message->has_body = framing->kind != H1_BODY_NONE;
}

enum codec_bad h1_head_request(struct message *message, struct span room,
                               struct h1_framing *framing)
{
    CHECK(message->kind == MESSAGE_REQUEST);
    struct found found;
    read_fields(message, &found);
    enum codec_bad reason = check_framing(message, &found);
    if (reason != CODEC_BAD_NONE) {
        return reason;
    }
    if (!read_host(message, &found)) {
        return CODEC_BAD_HOST;
    }
    if (!read_path(message, room)) {
        return CODEC_BAD_TARGET;
    }
    if (found.names_others && !MUTANT(11)) {
        drop_named(&message->headers);
    }
    set_body(message, &found, framing);
    bool modern = message->version == MESSAGE_HTTP_1_1;
    /* A CONNECT has no content (RFC 9110 9.3.6): bytes behind it belong to the tunnel, and a length
     * would let two readers disagree on where that begins. */
    if (message->connect && message->has_body) {
        return found.codings > 0 ? CODEC_BAD_CODING_ORDER : CODEC_BAD_CONTENT_LENGTH;
    }
    /* HTTP/1.0 knows no expectations (RFC 9110 10.1.1). */
    if (modern && found.expect_unknown) {
        return CODEC_BAD_EXPECT;
    }
    if (message->scheme.len == 0) {
        message->scheme = SLICE("http");
    }
    message->expect_continue = modern && found.expect && message->has_body;
    message->te_trailers = found.te_trailers;
    bool may_upgrade = modern && found.upgrade_named && !message->has_body && !message->connect;
    message->protocol = may_upgrade ? found.upgrade : (struct slice){NULL, 0};
    message->keep_alive = lives_on(message, &found);
    return CODEC_BAD_NONE;
}

enum codec_bad h1_head_response(struct message *message, const struct h1_asked *asked,
                                struct h1_framing *framing)
{
    CHECK(message->kind == MESSAGE_RESPONSE);
    struct found found;
    read_fields(message, &found);
    enum codec_bad reason = check_framing(message, &found);
    if (reason != CODEC_BAD_NONE) {
        return reason;
    }
    bool switches = message->status == 101;
    if (switches && (!asked->upgrade || found.upgrade.len == 0 || !found.upgrade_named ||
                     message->version == MESSAGE_HTTP_1_0)) {
        return CODEC_BAD_PROTOCOL;
    }
    if (found.names_others) {
        drop_named(&message->headers);
    }
    set_body(message, &found, framing);
    message->keep_alive = lives_on(message, &found);
    message->protocol = switches ? found.upgrade : (struct slice){NULL, 0};
    bool tunnel = switches || (asked->connect && message->status / 100 == 2);
    bool never_a_body = message->status < 200 || message->status == 204;
    if (tunnel || never_a_body) {
        /* RFC 9110 8.6 and RFC 9112 6.1 forbid both fields here; 6.3 says to go by the status. */
        message->content_length = MESSAGE_LENGTH_UNKNOWN;
        message->has_body = false;
        framing->kind = tunnel ? H1_BODY_CLOSE : H1_BODY_NONE;
    } else if ((asked->head && !MUTANT(12)) || message->status == 304) {
        message->has_body = false;
        framing->kind = H1_BODY_NONE;
    } else if (found.codings == 0 && found.lengths == 0) {
        message->has_body = true;
        message->keep_alive = false;
        framing->kind = H1_BODY_CLOSE;
    }
    return CODEC_BAD_NONE;
}

bool h1_head_trailers(struct message *message)
{
    bool any = false;
    for (unsigned i = 0; i < message->headers.count; i++) {
        struct header *field = &message->headers.field[i];
        bool ours = field->id == HEADER_GRPC_STATUS || field->id == HEADER_GRPC_MESSAGE ||
                    field->id == HEADER_GRPC_RETRY_PUSHBACK_MS || field->id == HEADER_DATE ||
                    field->id == HEADER_SERVER || field->id == HEADER_PROXY_STATUS;
        if (field->id != HEADER_OTHER) {
            field->dropped = !ours;
            any = any || ours;
            continue;
        }
        bool digest = slice_eq_nocase(field->name, SLICE("content-digest"));
        bool grpc = slice_starts_nocase(field->name, SLICE("grpc-"));
        field->dropped = !digest && !grpc && !may_be_named(field->name);
        any = any || !field->dropped;
    }
    return any;
}
