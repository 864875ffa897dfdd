#include "sidecar/route/match.h"

#include <stdio.h>

#include "base/regex.h"

static bool ends_nocase(struct slice value, struct slice suffix)
{
    return value.len >= suffix.len &&
           slice_eq_nocase(slice_from(value, value.len - suffix.len), suffix);
}

static bool contains(struct slice value, struct slice part, bool ignore_case)
{
    if (part.len == 0) {
        return true;
    }
    if (!ignore_case) {
        return slice_search(value, part) < value.len;
    }
    for (; value.len >= part.len; value = slice_from(value, 1)) {
        if (slice_starts_nocase(value, part)) {
            return true;
        }
    }
    return false;
}

static bool match_regex(struct matcher *matcher, const struct regex *regex, struct slice text)
{
    enum regex_result result = regex_match(regex, matcher->scratch, text);
    matcher->given_up += result == REGEX_LIMIT;
    return result == REGEX_MATCH;
}

bool match_string(struct matcher *matcher, const struct string_match *match, struct slice value)
{
    bool fold = match->ignore_case;
    switch (match->kind) {
    case STRING_MATCH_EXACT:
        return fold ? slice_eq_nocase(value, match->text) : slice_eq(value, match->text);
    case STRING_MATCH_PREFIX:
        return fold ? slice_starts_nocase(value, match->text) : slice_starts(value, match->text);
    case STRING_MATCH_SUFFIX:
        return fold ? ends_nocase(value, match->text) : slice_ends(value, match->text);
    case STRING_MATCH_CONTAINS:
        return contains(value, match->text, fold);
    case STRING_MATCH_REGEX:
        return match_regex(matcher, match->regex, value);
    }
    return false;
}

/* Decimal with a sign, the whole value. */
static bool to_i64(struct slice text, int64_t *value)
{
    bool negative = slice_starts(text, SLICE("-"));
    uint64_t number;
    if (!slice_to_u64(slice_from(text, negative ? 1 : 0), INT64_MAX, &number)) {
        return false;
    }
    *value = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

static bool value_fits(struct matcher *matcher, const struct header_match *match,
                       struct slice value)
{
    int64_t number;
    switch ((enum header_match_kind)match->kind) {
    case HEADER_MATCH_PRESENT:
        return true;
    case HEADER_MATCH_STRING:
        return match_string(matcher, &match->string, value);
    case HEADER_MATCH_RANGE:
        return to_i64(value, &number) && number >= match->range_start && number < match->range_end;
    }
    return false;
}

struct seen {
    struct matcher *matcher;
    bool any;  /* the field is there */
    bool fits; /* one of its lines does */
};

static void see(struct seen *seen, const struct header_match *match, struct slice value)
{
    seen->any = true;
    seen->fits = seen->fits || value_fits(seen->matcher, match, value);
}

/* Fields that the codec turned into members are still matched by name. */
static void see_framing(struct seen *seen, const struct header_match *match,
                        const struct message *message)
{
    if (match->id == HEADER_UPGRADE && message->protocol.len > 0) {
        see(seen, match, message->protocol);
    } else if (match->id == HEADER_TE && message->te_trailers) {
        see(seen, match, SLICE("trailers"));
    } else if (match->id == HEADER_EXPECT && message->expect_continue) {
        see(seen, match, SLICE("100-continue"));
    } else if (match->id == HEADER_CONTENT_LENGTH &&
               message->content_length != MESSAGE_LENGTH_UNKNOWN) {
        char text[24];
        int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)message->content_length);
        see(seen, match, slice_of(text, (size_t)len));
    }
}

static void see_fields(struct seen *seen, const struct header_match *match,
                       const struct message *message)
{
    const struct headers *headers = &message->headers;
    for (unsigned i = 0; i < headers->count; i++) {
        const struct header *field = &headers->field[i];
        if (field->dropped || field->id != match->id) {
            continue;
        }
        if (field->id != HEADER_OTHER || slice_eq_nocase(field->name, match->name)) {
            see(seen, match, field->value);
        }
    }
    if (!seen->any) {
        see_framing(seen, match, message);
    }
}

static void see_member(struct seen *seen, const struct header_match *match, struct slice value)
{
    if (value.len > 0) {
        see(seen, match, value);
    }
}

static struct seen look(struct matcher *matcher, const struct header_match *match,
                        const struct message *message)
{
    struct seen seen = {matcher, false, false};
    char status[8];
    switch ((enum header_source)match->source) {
    case HEADER_SOURCE_FIELD:
        see_fields(&seen, match, message);
        break;
    case HEADER_SOURCE_METHOD:
        see_member(&seen, match, message->method);
        break;
    case HEADER_SOURCE_PATH:
        see_member(&seen, match, message->path);
        break;
    case HEADER_SOURCE_AUTHORITY:
        see_member(&seen, match, message->authority);
        break;
    case HEADER_SOURCE_SCHEME:
        see_member(&seen, match, message->scheme);
        break;
    case HEADER_SOURCE_STATUS:
        (void)snprintf(status, sizeof(status), "%u", (unsigned)message->status);
        see_member(&seen, match, slice_of_text(status));
        break;
    }
    return seen;
}

bool match_header(struct matcher *matcher, const struct header_match *match,
                  const struct message *message)
{
    uint64_t given_up = matcher->given_up;
    struct seen seen = look(matcher, match, message);
    if (!seen.any && match->missing_is_empty) {
        see(&seen, match, SLICE(""));
    }
    if (match->kind == HEADER_MATCH_PRESENT) {
        return (seen.any == match->present) != match->invert;
    }
    /* An absent field fits nothing, not even the inverse (Envoy route.proto, HeaderMatcher). */
    return seen.any && seen.fits != match->invert && matcher->given_up == given_up;
}

bool match_headers(struct matcher *matcher, const struct header_match *matches, size_t count,
                   const struct message *message)
{
    for (size_t i = 0; i < count; i++) {
        if (!match_header(matcher, &matches[i], message)) {
            return false;
        }
    }
    return true;
}

bool match_query(struct matcher *matcher, const struct query_match *match, struct slice query)
{
    while (query.at != NULL) {
        struct slice value = slice_cut(&query, '&');
        struct slice name = slice_cut(&value, '=');
        if (slice_eq(name, match->name)) {
            /* The first of a name decides (Envoy). */
            return match->any || match_string(matcher, &match->string, value);
        }
    }
    return false;
}

bool match_fraction(const struct fraction *fraction, uint64_t draw)
{
    return fraction->denominator == 0 || draw % fraction->denominator < fraction->numerator;
}

struct slice match_path_of(const struct message *request)
{
    return slice_head(request->path, slice_find(request->path, '?'));
}

struct slice match_query_of(const struct message *request)
{
    return slice_from(request->path, slice_find(request->path, '?') + 1);
}

bool match_is_grpc(const struct message *message)
{
    struct slice type = headers_value(&message->headers, HEADER_CONTENT_TYPE);
    struct slice grpc = SLICE("application/grpc");
    if (!slice_starts_nocase(type, grpc)) {
        return false;
    }
    struct slice rest = slice_from(type, grpc.len);
    return rest.len == 0 || rest.at[0] == '+' || rest.at[0] == ';';
}

static bool path_fits(struct matcher *matcher, const struct route_match *match,
                      const struct message *request)
{
    if (match->path_kind == PATH_MATCH_CONNECT) {
        return request->connect;
    }
    if (request->connect) {
        return false; /* it has no path */
    }
    struct slice path = match_path_of(request);
    bool fold = match->ignore_case;
    switch ((enum path_match_kind)match->path_kind) {
    case PATH_MATCH_PREFIX:
        return fold ? slice_starts_nocase(path, match->path) : slice_starts(path, match->path);
    case PATH_MATCH_EXACT:
        return fold ? slice_eq_nocase(path, match->path) : slice_eq(path, match->path);
    case PATH_MATCH_SEPARATED_PREFIX:
        return (fold ? slice_starts_nocase(path, match->path) : slice_starts(path, match->path)) &&
               (path.len == match->path.len || path.at[match->path.len] == '/');
    case PATH_MATCH_REGEX:
        return match_regex(matcher, match->path_regex, path);
    case PATH_MATCH_CONNECT:
        break;
    }
    return false;
}

bool match_route(struct matcher *matcher, const struct route_match *match,
                 const struct message *request, uint64_t draw)
{
    if (!path_fits(matcher, match, request) ||
        !match_headers(matcher, match->headers, match->header_count, request) ||
        (match->grpc_only && !match_is_grpc(request)) || !match_fraction(&match->fraction, draw)) {
        return false;
    }
    if (match->query_count == 0) {
        return true;
    }
    struct slice query = match_query_of(request);
    for (unsigned i = 0; i < match->query_count; i++) {
        if (!match_query(matcher, &match->queries[i], query)) {
            return false;
        }
    }
    return true;
}
