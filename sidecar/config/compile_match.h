#pragma once
/* Matchers: texts, header fields, query parameters. */

#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/type/matcher/v3/matcher.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_regex(struct compiler *c, const char *field,
                   const Envoy__Type__Matcher__V3__RegexMatcher *matcher,
                   const struct regex **out) MUST_USE;
bool compile_regex_rewrite(struct compiler *c, const char *field,
                           const Envoy__Type__Matcher__V3__RegexMatchAndSubstitute *rewrite,
                           struct regex_rewrite *out) MUST_USE;
/* field null: the path stands at it already. */
bool compile_string_match(struct compiler *c, const char *field,
                          const Envoy__Type__Matcher__V3__StringMatcher *matcher,
                          struct string_match *out) MUST_USE;
/* `response`: ":status" may be matched, request's pseudo fields may not. */
bool compile_header_matches(struct compiler *c, const char *field,
                            Envoy__Config__Route__V3__HeaderMatcher *const *matchers, size_t count,
                            bool response, const struct header_match **out,
                            uint16_t *out_count) MUST_USE;
bool compile_query_matches(struct compiler *c,
                           Envoy__Config__Route__V3__QueryParameterMatcher *const *matchers,
                           size_t count, const struct query_match **out,
                           uint16_t *out_count) MUST_USE;
