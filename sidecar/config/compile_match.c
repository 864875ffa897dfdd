#include "sidecar/config/compile_match.h"

#include "base/regex.h"
#include "http/headers.h"

#define MATCHER(type)    Envoy__Type__Matcher__V3__##type
#define ROUTE(type)      Envoy__Config__Route__V3__##type
#define STRING_IS(value) ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_##value
#define HEADER_IS(value) ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_##value
#define QUERY_IS(value)                                                                            \
    ENVOY__CONFIG__ROUTE__V3__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_##value

static struct regex *new_regex(struct compiler *c, const char *field, const char *pattern)
{
    struct error reason = {.text = ""};
    struct regex *regex = regex_new(slice_of_text(pattern), &reason);
    if (regex == NULL) {
        (void)compile_refuse(c, field, "%.400s", reason.text);
    }
    return regex;
}

bool compile_regex(struct compiler *c, const char *field, const MATCHER(RegexMatcher) * matcher,
                   const struct regex **out)
{
    if (matcher == NULL) {
        return compile_refuse(c, field, "is required");
    }
    if (matcher->regex[0] == '\0') {
        return compile_refuse(c, field, "regex must not be empty");
    }
    struct regex *regex = new_regex(c, field, matcher->regex);
    if (regex == NULL) {
        return false;
    }
    *out = snapshot_take_regex(c->out, &regex);
    return true;
}

static bool rewrite_of(struct compiler *c, const MATCHER(RegexMatchAndSubstitute) * rewrite,
                       struct regex_rewrite *out)
{
    struct error reason = {.text = ""};
    if (!compile_regex(c, "pattern", rewrite->pattern, &out->regex)) {
        return false;
    }
    out->substitution = compile_text(c, rewrite->substitution);
    if (!regex_check_rewrite(out->regex, out->substitution, &reason)) {
        return compile_refuse(c, "substitution", "%.400s", reason.text);
    }
    return true;
}

bool compile_regex_rewrite(struct compiler *c, const char *field,
                           const MATCHER(RegexMatchAndSubstitute) * rewrite,
                           struct regex_rewrite *out)
{
    return rewrite == NULL || COMPILE_IN(c, rewrite_of(c, rewrite, out), "%s", field);
}

static bool text_match(struct compiler *c, enum string_match_kind kind, const char *field,
                       const char *text, struct string_match *out)
{
    out->kind = kind;
    out->text = compile_text(c, text);
    return kind == STRING_MATCH_EXACT || compile_required(c, field, text);
}

static bool string_match_of(struct compiler *c, const MATCHER(StringMatcher) * matcher,
                            struct string_match *out)
{
    out->ignore_case = matcher->ignore_case;
    switch (matcher->match_pattern_case) {
    case STRING_IS(EXACT):
        return text_match(c, STRING_MATCH_EXACT, "exact", matcher->exact, out);
    case STRING_IS(PREFIX):
        return text_match(c, STRING_MATCH_PREFIX, "prefix", matcher->prefix, out);
    case STRING_IS(SUFFIX):
        return text_match(c, STRING_MATCH_SUFFIX, "suffix", matcher->suffix, out);
    case STRING_IS(CONTAINS):
        return text_match(c, STRING_MATCH_CONTAINS, "contains", matcher->contains, out);
    case STRING_IS(SAFE_REGEX):
        out->kind = STRING_MATCH_REGEX;
        out->ignore_case = false; /* "has no effect for safe_regex" (string.proto) */
        out->text = compile_text(c, matcher->safe_regex->regex);
        return compile_regex(c, "safe_regex", matcher->safe_regex, &out->regex);
    default:
        return compile_refuse(c, NULL,
                              "one of exact, prefix, suffix, contains, safe_regex is "
                              "required");
    }
}

bool compile_string_match(struct compiler *c, const char *field,
                          const MATCHER(StringMatcher) * matcher, struct string_match *out)
{
    if (matcher == NULL) {
        return compile_refuse(c, field, "is required");
    }
    return field == NULL ? string_match_of(c, matcher, out)
                         : COMPILE_IN(c, string_match_of(c, matcher, out), "%s", field);
}

/* ---- header fields ---- */

static bool header_source(struct compiler *c, const char *name, bool response, uint8_t *source)
{
    static const struct {
        const char *name;
        enum header_source source;
        bool response;
    } pseudo[] = {
        {":method", HEADER_SOURCE_METHOD, false},       {":path", HEADER_SOURCE_PATH, false},
        {":authority", HEADER_SOURCE_AUTHORITY, false}, {"host", HEADER_SOURCE_AUTHORITY, false},
        {":scheme", HEADER_SOURCE_SCHEME, false},       {":status", HEADER_SOURCE_STATUS, true},
    };
    struct slice wanted = slice_of_text(name);
    for (size_t i = 0; i < COUNT_OF(pseudo); i++) {
        if (slice_eq_nocase(wanted, slice_of_text(pseudo[i].name)) &&
            pseudo[i].response == response) {
            *source = (uint8_t)pseudo[i].source;
            return true;
        }
    }
    *source = HEADER_SOURCE_FIELD;
    return compile_header_name(c, "name", name);
}

static bool string_header(struct compiler *c, enum string_match_kind kind, const char *field,
                          const char *text, struct header_match *out)
{
    out->kind = HEADER_MATCH_STRING;
    return text_match(c, kind, field, text, &out->string);
}

static bool header_condition(struct compiler *c, const ROUTE(HeaderMatcher) * matcher,
                             struct header_match *out)
{
    switch (matcher->header_match_specifier_case) {
    case HEADER_IS(_NOT_SET):
        out->kind = HEADER_MATCH_PRESENT;
        out->present = true;
        return true;
    case HEADER_IS(PRESENT_MATCH):
        out->kind = HEADER_MATCH_PRESENT;
        out->present = matcher->present_match;
        return true;
    case HEADER_IS(RANGE_MATCH):
        out->kind = HEADER_MATCH_RANGE;
        out->range_start = matcher->range_match->start;
        out->range_end = matcher->range_match->end;
        return out->range_start <= out->range_end ||
               compile_refuse(c, "range_match", "starts behind its end");
    case HEADER_IS(STRING_MATCH):
        out->kind = HEADER_MATCH_STRING;
        return compile_string_match(c, "string_match", matcher->string_match, &out->string);
    case HEADER_IS(SAFE_REGEX_MATCH):
        out->kind = HEADER_MATCH_STRING;
        out->string.kind = STRING_MATCH_REGEX;
        out->string.text = compile_text(c, matcher->safe_regex_match->regex);
        return compile_regex(c, "safe_regex_match", matcher->safe_regex_match, &out->string.regex);
    case HEADER_IS(EXACT_MATCH):
        return string_header(c, STRING_MATCH_EXACT, "exact_match", matcher->exact_match, out);
    case HEADER_IS(PREFIX_MATCH):
        return string_header(c, STRING_MATCH_PREFIX, "prefix_match", matcher->prefix_match, out);
    case HEADER_IS(SUFFIX_MATCH):
        return string_header(c, STRING_MATCH_SUFFIX, "suffix_match", matcher->suffix_match, out);
    case HEADER_IS(CONTAINS_MATCH):
        return string_header(c, STRING_MATCH_CONTAINS, "contains_match", matcher->contains_match,
                             out);
    default:
        return compile_refuse(c, NULL, "an unknown kind of match");
    }
}

static bool header_match_of(struct compiler *c, const ROUTE(HeaderMatcher) * matcher, bool response,
                            struct header_match *out)
{
    if (!header_source(c, matcher->name, response, &out->source)) {
        return false;
    }
    out->name = compile_lower(c, matcher->name);
    out->id = (uint8_t)header_id_of(out->name);
    out->invert = matcher->invert_match;
    out->missing_is_empty = matcher->treat_missing_header_as_empty;
    return header_condition(c, matcher, out);
}

bool compile_header_matches(struct compiler *c, const char *field,
                            ROUTE(HeaderMatcher) *const *matchers, size_t count, bool response,
                            const struct header_match **out, uint16_t *out_count)
{
    if (!compile_count(c, field, count, out_count)) {
        return false;
    }
    struct header_match *list = COMPILE_ARRAY(c, struct header_match, count);
    for (size_t i = 0; i < count; i++) {
        if (!COMPILE_IN(c, header_match_of(c, matchers[i], response, &list[i]), "%s[%zu]", field,
                        i)) {
            return false;
        }
    }
    *out = list;
    return true;
}

static bool query_match_of(struct compiler *c, const ROUTE(QueryParameterMatcher) * matcher,
                           struct query_match *out)
{
    if (!compile_required(c, "name", matcher->name)) {
        return false;
    }
    out->name = compile_text(c, matcher->name);
    if (matcher->query_parameter_match_specifier_case == QUERY_IS(STRING_MATCH)) {
        return compile_string_match(c, "string_match", matcher->string_match, &out->string);
    }
    out->any = true;
    if (matcher->query_parameter_match_specifier_case == QUERY_IS(PRESENT_MATCH) &&
        !matcher->present_match) {
        return compile_refuse(c, "present_match", "false is not supported");
    }
    return true;
}

bool compile_query_matches(struct compiler *c, ROUTE(QueryParameterMatcher) *const *matchers,
                           size_t count, const struct query_match **out, uint16_t *out_count)
{
    if (!compile_count(c, "query_parameters", count, out_count)) {
        return false;
    }
    struct query_match *list = COMPILE_ARRAY(c, struct query_match, count);
    for (size_t i = 0; i < count; i++) {
        if (!COMPILE_IN(c, query_match_of(c, matchers[i], &list[i]), "query_parameters[%zu]", i)) {
            return false;
        }
    }
    *out = list;
    return true;
}
