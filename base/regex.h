#pragma once
/* Regular expressions in RE2's syntax, which Envoy and Istio promise, matched by PCRE2. What RE2
 * lacks (back-references, look-around, possessive and atomic groups, recursion, callouts,
 * conditionals, verbs, \G, \K, \C) is refused when the expression is compiled, and the few signs
 * that mean something else to PCRE2 are translated (\s, \v, $, a lone brace). Texts are UTF-8;
 * bytes that are none match nothing.
 *
 * PCRE2 backtracks where RE2 does not, so each match has limits, and passing them is a result of
 * its own: the caller must not take it for "no match" where that would open a door.
 *
 * A struct regex never changes and may be shared by threads; a scratch belongs to one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

#define REGEX_PATTERN_MAX 4096U /* bytes */
#define REGEX_REPEAT_MAX  1000U /* in {n,m}, as in RE2 */

struct regex;
struct regex_scratch;

enum regex_result {
    REGEX_MATCH,
    REGEX_NO_MATCH,
    REGEX_LIMIT, /* given up: too many steps or too much memory */
};

/* Null with "at byte N: what is wrong" in err. */
struct regex *regex_new(struct slice pattern, struct error *err) MUST_USE;
void regex_free(struct regex **regex);

/* What a thread needs to match: one for all expressions. */
struct regex_scratch *regex_scratch_new(void);
void regex_scratch_free(struct regex_scratch **scratch);

/* The whole text, both ends (RE2::FullMatch). */
enum regex_result regex_match(const struct regex *regex, struct regex_scratch *scratch,
                              struct slice text) MUST_USE;

/* Checks a rewrite for this expression: \0 to \9 stand for groups that it has, \\ for a backslash.
 */
bool regex_check_rewrite(const struct regex *regex, struct slice rewrite,
                         struct error *err) MUST_USE;
/* Every part of the text that matches, replaced by the rewrite (RE2::GlobalReplace; checked
 * before). MATCH: *out is the new text, in the arena; NO_MATCH: *out is `text`. LIMIT also where
 * the new text would be over max_bytes; *out is `text` then. */
enum regex_result regex_replace(const struct regex *regex, struct regex_scratch *scratch,
                                struct slice text, struct slice rewrite, size_t max_bytes,
                                struct arena *arena, struct slice *out) MUST_USE;
