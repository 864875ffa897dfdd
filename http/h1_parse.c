#include "http/h1_parse.h"

#include "http/scan.h"
#include "http/uri.h"

/* What one walk over the lines needs. */
struct walk {
    struct h1_parser at;
    const struct h1_limits *limits;
    struct slice in;
    struct message *out;
    bool start_line; /* false: a trailer section */
};

static enum h1_parsed bad(struct walk *walk, enum codec_bad reason)
{
    walk->at.bad = (uint8_t)reason;
    return H1_PARSED_BAD;
}

/* "HTTP/1.x". A minor version above 1 is handled as 1 (RFC 9110 2.5). */
static enum codec_bad parse_version(const uint8_t *at, enum message_version *version)
{
    bool shaped = memcmp(at, "HTTP/", 5) == 0 && (uint8_t)(at[5] - '0') < 10 && at[6] == '.' &&
                  (uint8_t)(at[7] - '0') < 10;
    if (!shaped) {
        return CODEC_BAD_REQUEST_LINE;
    }
    if (at[5] != '1') {
        return CODEC_BAD_VERSION;
    }
    *version = at[7] == '0' ? MESSAGE_HTTP_1_0 : MESSAGE_HTTP_1_1;
    return CODEC_BAD_NONE;
}

/* method SP request-target SP HTTP-version (RFC 9112 3), with exactly one space each. */
static enum codec_bad parse_request_line(struct slice line, struct message *out)
{
    size_t method_len = scan_token_from(line.at, 0, line.len);
    if (method_len == 0 || method_len == line.len || line.at[method_len] != ' ') {
        return CODEC_BAD_REQUEST_LINE;
    }
    if (method_len > H1_METHOD_MAX) {
        return CODEC_BAD_METHOD;
    }
    /* Shortest rest: SP target SP HTTP/1.x */
    if (line.len < method_len + 11 || line.at[line.len - 9] != ' ') {
        return CODEC_BAD_REQUEST_LINE;
    }
    enum codec_bad reason = parse_version(line.at + line.len - 8, &out->version);
    if (reason != CODEC_BAD_NONE) {
        return reason;
    }
    out->method = slice_head(line, method_len);
    struct uri_target target;
    if (!uri_parse_target(
            out->method, slice_of(line.at + method_len + 1, line.len - method_len - 10), &target)) {
        return CODEC_BAD_TARGET;
    }
    out->scheme = target.form == URI_ABSOLUTE ? target.scheme : (struct slice){NULL, 0};
    out->authority = target.authority;
    out->path = target.path;
    out->connect = target.form == URI_AUTHORITY;
    return CODEC_BAD_NONE;
}

/* HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 4). The space behind the code is the
 * one thing forgiven: without a reason many servers leave it out, and nothing hangs on it. */
static enum codec_bad parse_status_line(struct slice line, struct message *out)
{
    if (line.len < 12 || line.at[8] != ' ' ||
        parse_version(line.at, &out->version) != CODEC_BAD_NONE) {
        return CODEC_BAD_STATUS_LINE;
    }
    unsigned hundreds = line.at[9] - (unsigned)'0';
    unsigned tens = line.at[10] - (unsigned)'0';
    unsigned ones = line.at[11] - (unsigned)'0';
    if (hundreds > 9 || tens > 9 || ones > 9 || hundreds == 0) {
        return CODEC_BAD_STATUS_LINE;
    }
    if (line.len > 12 && line.at[12] != ' ') {
        return CODEC_BAD_STATUS_LINE;
    }
    out->status = (uint16_t)(hundreds * 100 + tens * 10 + ones);
    out->reason = slice_from(line, 13);
    return CODEC_BAD_NONE;
}

/* Of the bytes of a line: nothing else below is text. */
static bool is_blank(uint8_t byte)
{
    return byte <= ' ';
}

/* field-name ":" OWS field-value OWS (RFC 9112 5). Space before the colon: refused in a request,
 * removed from a response, as 5.1 demands of a proxy. A folded line (5.2) is refused in both: 400,
 * and 502 for the response. `name_len` is what scan_token says of the line. */
static enum codec_bad parse_field(struct slice line, size_t name_len, enum message_kind kind,
                                  struct header *field)
{
    size_t colon = name_len;
    if (name_len == 0) {
        return line.at[0] == ' ' || line.at[0] == '\t' ? CODEC_BAD_OBS_FOLD : CODEC_BAD_FIELD;
    }
    if (UNLIKELY(colon == line.len || line.at[colon] != ':')) {
        while (colon < line.len && (line.at[colon] == ' ' || line.at[colon] == '\t')) {
            colon++;
        }
        if (colon == name_len || colon == line.len || line.at[colon] != ':') {
            return CODEC_BAD_FIELD;
        }
        if (kind == MESSAGE_REQUEST && !MUTANT(8)) {
            return CODEC_BAD_FIELD_SPACE;
        }
    }
    const uint8_t *value = line.at + colon + 1;
    const uint8_t *end = line.at + line.len;
    if (LIKELY(value < end && *value == ' ')) {
        value++;
    }
    field->name = slice_of(line.at, name_len);
    field->value = slice_of(value, (size_t)(end - value));
    if (value < end && UNLIKELY(is_blank(*value) || is_blank(end[-1]))) {
        field->value = slice_trim(field->value);
    }
    field->id = (uint8_t)header_id_of(field->name);
    field->dropped = false;
    field->no_index = false;
    field->spelled = true;
    return CODEC_BAD_NONE;
}

/* Why a byte that no line may hold stands where it stands; `control` for those without a name. */
static enum codec_bad bad_byte(uint8_t byte, enum codec_bad control)
{
    switch (byte) {
    case '\r':
        return CODEC_BAD_BARE_CR;
    case '\n':
        return CODEC_BAD_BARE_LF;
    case 0:
        return CODEC_BAD_NUL;
    default: /* every other control byte */
        return control;
    }
}

/* What a line may reach, and what it is when it goes wrong. */
struct line_rule {
    size_t limit; /* from the head's start */
    enum codec_bad too_long;
    enum codec_bad control;
};

/* Finds the end of the line that begins at walk->at.line, of which the bytes before `from` are
 * known to be text. DONE: *end is where its CRLF stands. */
static inline enum h1_parsed find_end(struct walk *walk, size_t from, const struct line_rule *rule,
                                      size_t *end)
{
    const uint8_t *bytes = walk->in.at;
    size_t available = walk->in.len < rule->limit ? walk->in.len : rule->limit;
    size_t at = from < available ? scan_text_from(bytes, from, available) : from;
    if (LIKELY(at + 1 < available && memcmp(bytes + at, "\r\n", 2) == 0)) {
        *end = at;
        return H1_PARSED_DONE;
    }
    bool waits = at >= available || (bytes[at] == '\r' && at + 1 == available);
    if (!waits) {
        return bad(walk, bad_byte(bytes[at], rule->control));
    }
    if (walk->in.len >= rule->limit) {
        return bad(walk, rule->too_long);
    }
    walk->at.scanned = (uint32_t)at;
    return H1_PARSED_MORE;
}

static enum h1_parsed walk_start_line(struct walk *walk)
{
    bool request = walk->out->kind == MESSAGE_REQUEST;
    uint32_t head = walk->limits->head_bytes;
    uint32_t line = walk->limits->line_bytes;
    const struct line_rule rule = {
        .limit = request && line < head ? line : head,
        .too_long = request ? CODEC_BAD_TARGET_LONG : CODEC_BAD_HEAD_LARGE,
        .control = request ? CODEC_BAD_REQUEST_LINE : CODEC_BAD_STATUS_LINE,
    };
    size_t end = 0;
    enum h1_parsed found = find_end(walk, walk->at.scanned, &rule, &end);
    if (found != H1_PARSED_DONE) {
        return found;
    }
    struct slice text = slice_of(walk->in.at, end);
    enum codec_bad reason =
        request ? parse_request_line(text, walk->out) : parse_status_line(text, walk->out);
    walk->at.line = (uint32_t)end + 2;
    return reason == CODEC_BAD_NONE ? H1_PARSED_DONE : bad(walk, reason);
}

/* One line of the section, which begins at `line`; its bytes before `known` are text. DONE: *end is
 * where its CRLF stands, and at `line` itself for the empty line. A name is looked at once: what
 * scan_token passes is text too. */
static inline enum h1_parsed walk_field(struct walk *walk, size_t line, size_t known,
                                        const struct line_rule *rule, size_t *end)
{
    const uint8_t *bytes = walk->in.at;
    size_t available = walk->in.len < rule->limit ? walk->in.len : rule->limit;
    size_t name_end = line;
    if (LIKELY(known == line && line < available && bytes[line] != '\r')) {
        name_end = scan_token_from(bytes, line, available);
        known = name_end;
    }
    enum h1_parsed found = find_end(walk, known, rule, end);
    if (found != H1_PARSED_DONE || *end == line) {
        return found;
    }
    if (walk->at.fields == walk->limits->fields) {
        return bad(walk, CODEC_BAD_HEAD_COUNT);
    }
    if (UNLIKELY(name_end == line)) { /* none, or it was looked at in an earlier call */
        name_end = line + scan_token(bytes + line, *end - line);
    }
    enum codec_bad reason =
        parse_field(slice_of(bytes + line, *end - line), name_end - line, walk->out->kind,
                    &walk->out->headers.field[walk->at.fields]);
    walk->at.fields++;
    return reason == CODEC_BAD_NONE ? H1_PARSED_DONE : bad(walk, reason);
}

/* Goes on field by field to the empty line; *used is set on DONE. */
static enum h1_parsed walk_fields(struct walk *walk, size_t *used)
{
    const struct line_rule rule = {walk->limits->head_bytes, CODEC_BAD_HEAD_LARGE, CODEC_BAD_FIELD};
    size_t line = walk->at.line;
    size_t known = walk->at.scanned > line ? walk->at.scanned : line;
    for (;;) {
        size_t end = 0;
        enum h1_parsed found = walk_field(walk, line, known, &rule, &end);
        if (found != H1_PARSED_DONE) {
            walk->at.line = (uint32_t)line;
            return found;
        }
        if (end == line) {
            *used = end + 2;
            return H1_PARSED_DONE;
        }
        line = end + 2;
        known = line;
    }
}

static enum h1_parsed walk_lines(struct walk *walk, size_t *used)
{
    if (walk->start_line && walk->at.line == 0) {
        enum h1_parsed parsed = walk_start_line(walk);
        if (parsed != H1_PARSED_DONE) {
            return parsed;
        }
    }
    return walk_fields(walk, used);
}

static enum h1_parsed parse(struct walk *walk, struct h1_parser *parser, size_t *used)
{
    CHECK(walk->out->headers.capacity >= walk->limits->fields);
    bool resumed = walk->at.line > 0;
    enum h1_parsed parsed = walk_lines(walk, used);
    if (parsed == H1_PARSED_DONE && resumed) {
        /* What the earlier calls parsed was not kept. */
        walk->at = (struct h1_parser){.line = 0};
        parsed = walk_lines(walk, used);
        CHECK(parsed == H1_PARSED_DONE);
    }
    if (parsed == H1_PARSED_DONE) {
        walk->out->headers.count = walk->at.fields;
        walk->at = (struct h1_parser){.line = 0};
    }
    *parser = walk->at;
    return parsed;
}

enum h1_parsed h1_parse_head(struct h1_parser *parser, const struct h1_limits *limits,
                             struct slice in, struct message *out, size_t *used)
{
    struct walk walk = {*parser, limits, in, out, true};
    return parse(&walk, parser, used);
}

enum h1_parsed h1_parse_trailers(struct h1_parser *parser, const struct h1_limits *limits,
                                 struct slice in, struct message *out, size_t *used)
{
    struct walk walk = {*parser, limits, in, out, false};
    return parse(&walk, parser, used);
}
