/* The check before PCRE2 is a list of what is allowed, not of what is forbidden: a sign that PCRE2
 * learns in its next version stays refused. Just-in-time code was refused: it wants memory that is
 * both written and executed, and expressions here are short. */
#include "base/regex.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_STEPS  200000U  /* of one full match; a few milliseconds */
#define SEARCH_STEPS 2000000U /* of one replace over all its starts */
#define LEAST_STEPS  100U     /* of one start in a long text */
#define HEAP_KIB     1024U
#define KEEP_BYTES   65536U /* more than this is not kept for the next match */
#define NEST_MAX     100U
#define GROUPS_MAX   64U

struct regex {
    pcre2_code *code;
    uint32_t groups;
};

struct regex_scratch {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_match_data *data;
    size_t largest; /* allocation since data was made */
};

/* ---- memory ---- */

static void *take_memory(size_t size, void *owner)
{
    struct regex_scratch *scratch = owner;
    if (scratch != NULL && size > scratch->largest) {
        scratch->largest = size;
    }
    return alloc_for_library(size);
}

static void give_memory(void *memory, void *owner)
{
    (void)owner;
    alloc_free_for_library(memory);
}

/* ---- RE2's syntax ---- */

/* Reads the pattern and writes what PCRE2 shall see. */
struct scan {
    struct slice pattern;
    size_t at;
    char *out; /* four times the pattern's length and some */
    size_t out_len;
    struct error *err;
};

static bool refuse(const struct scan *scan, const char *what)
{
    return error_set(scan->err, "at byte %zu: %s", scan->at, what);
}

/* The byte `ahead` of the position; 0 behind the end (a zero byte itself is refused first). */
static char peek(const struct scan *scan, size_t ahead)
{
    size_t at = scan->at + ahead;
    return (char)(at < scan->pattern.len ? scan->pattern.at[at] : 0);
}

static void put(struct scan *scan, const char *text)
{
    size_t len = strlen(text);
    (void)memcpy(scan->out + scan->out_len, text, len);
    scan->out_len += len;
}

static void copy(struct scan *scan, size_t len)
{
    CHECK(len <= scan->pattern.len - scan->at);
    (void)memcpy(scan->out + scan->out_len, scan->pattern.at + scan->at, len);
    scan->out_len += len;
    scan->at += len;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* \Q...\E: up to and with \E, or to the end. */
static void scan_quote(struct scan *scan)
{
    struct slice rest = slice_from(scan->pattern, scan->at);
    size_t end = slice_search(rest, SLICE("\\E"));
    copy(scan, end < rest.len ? end + 2 : rest.len);
}

/* \x, \p or \P with the braces behind it, which are no quantifier. PCRE2 checks what is inside. */
static void scan_braced(struct scan *scan)
{
    struct slice rest = slice_from(scan->pattern, scan->at);
    size_t end = peek(scan, 2) == '{' ? slice_find(rest, '}') : rest.len;
    copy(scan, end < rest.len ? end + 1 : 2);
}

static bool scan_escape(struct scan *scan, bool in_class)
{
    char c = peek(scan, 1);
    if (c == '\0') {
        return refuse(scan, "a backslash at the end");
    }
    if (is_digit(c) && c != '0') {
        return refuse(scan, "back-references are not in RE2's syntax");
    }
    if (c == 's') {
        /* RE2's does not hold the vertical tab. */
        put(scan, in_class ? "\t\n\f\r " : "[\t\n\f\r ]");
    } else if (c == 'S') {
        put(scan, in_class ? "\\S\\x0B" : "[^\t\n\f\r ]");
    } else if (c == 'v') {
        put(scan, "\\x0B"); /* to PCRE2 a class of its own */
    } else if (c == 'Q' && !in_class) {
        scan_quote(scan);
        return true;
    } else if (c == 'x' || c == 'p' || c == 'P') {
        scan_braced(scan);
        return true;
    } else if (!is_letter(c) && !is_digit(c)) {
        if ((uint8_t)c >= 0x80) {
            return refuse(scan, "a backslash before a letter that needs none");
        }
        copy(scan, 2);
        return true;
    } else if (strchr("dDwWaftnr0", c) != NULL || (!in_class && strchr("bBAz", c) != NULL)) {
        copy(scan, 2);
        return true;
    } else {
        return refuse(scan, "this escape is not in RE2's syntax");
    }
    scan->at += 2;
    return true;
}

/* [:alpha:] inside a class; its length, or 0. */
static size_t named_class(const struct scan *scan)
{
    size_t len = 2;
    if (peek(scan, 1) != ':') {
        return 0;
    }
    while (is_letter(peek(scan, len)) || peek(scan, len) == '^') {
        len++;
    }
    return peek(scan, len) == ':' && peek(scan, len + 1) == ']' ? len + 2 : 0;
}

static bool scan_class(struct scan *scan)
{
    size_t start = scan->at;
    copy(scan, peek(scan, 1) == '^' ? 2 : 1);
    for (bool first = true; scan->at < scan->pattern.len; first = false) {
        char c = peek(scan, 0);
        if (c == ']' && !first) {
            copy(scan, 1);
            return true;
        }
        if (c == '\\') {
            if (!scan_escape(scan, true)) {
                return false;
            }
        } else if (c == '[' && named_class(scan) == 0) {
            put(scan, "\\["); /* to PCRE2 perhaps the start of something */
            scan->at++;
        } else {
            copy(scan, c == '[' ? named_class(scan) : 1);
        }
    }
    scan->at = start;
    return refuse(scan, "a class without its closing bracket");
}

/* What stands behind "(?". */
static bool scan_group(struct scan *scan)
{
    static const struct {
        const char *start;
        const char *what;
    } foreign[] = {
        {"(?=", "look-ahead is not in RE2's syntax"},
        {"(?!", "look-ahead is not in RE2's syntax"},
        {"(?<=", "look-behind is not in RE2's syntax"},
        {"(?<!", "look-behind is not in RE2's syntax"},
        {"(?>", "atomic groups are not in RE2's syntax"},
        {"(?|", "branch reset is not in RE2's syntax"},
        {"(?(", "conditions are not in RE2's syntax"},
        {"(?P=", "back-references are not in RE2's syntax"},
        {"(?P>", "recursion is not in RE2's syntax"},
        {"(?&", "recursion is not in RE2's syntax"},
        {"(?R", "recursion is not in RE2's syntax"},
        {"(?C", "callouts are not in RE2's syntax"},
        {"(?#", "comments are not in RE2's syntax"},
        {"(*", "verbs are not in RE2's syntax"},
    };
    struct slice rest = slice_from(scan->pattern, scan->at);
    for (size_t i = 0; i < COUNT_OF(foreign); i++) {
        if (slice_starts(rest, slice_of_text(foreign[i].start))) {
            return refuse(scan, foreign[i].what);
        }
    }
    if (peek(scan, 1) != '?') {
        copy(scan, 1);
        return true;
    }
    if (slice_starts(rest, SLICE("(?P<")) || slice_starts(rest, SLICE("(?<"))) {
        copy(scan, slice_find(rest, '<') + 1); /* PCRE2 checks the name */
        return true;
    }
    size_t len = 2;
    while (peek(scan, len) != '\0' && strchr("imsU-", peek(scan, len)) != NULL) {
        len++;
    }
    if (peek(scan, len) != ')' && peek(scan, len) != ':') {
        return refuse(scan, "this group is not in RE2's syntax");
    }
    copy(scan, len + 1);
    return true;
}

/* Length of {n}, {n,} or {n,m} at the position; 0 where the brace stands for itself. Sets *most to
 * the larger number. */
static size_t braces(const struct scan *scan, unsigned *most)
{
    size_t len = 1;
    *most = 0;
    for (unsigned part = 0; part < 2; part++) {
        unsigned number = 0;
        size_t digits = 0;
        for (; is_digit(peek(scan, len)); len++, digits++) {
            number = number > REGEX_REPEAT_MAX ? number
                                               : number * 10 + (unsigned)(peek(scan, len) - '0');
        }
        *most = number > *most ? number : *most;
        if (digits == 0 && part == 0) {
            return 0;
        }
        if (peek(scan, len) == '}') {
            return len + 1;
        }
        if (peek(scan, len) != ',' || part == 1) {
            return 0;
        }
        len++;
    }
    return 0;
}

/* A quantifier at the position, with its "?"; *taken says whether there was one. */
static bool scan_quantifier(struct scan *scan, bool after_quantifier, bool *taken)
{
    char c = peek(scan, 0);
    size_t len = 1;
    *taken = false;
    if (c == '{') {
        unsigned most;
        len = braces(scan, &most);
        if (len == 0) {
            return true;
        }
        if (most > REGEX_REPEAT_MAX) {
            return refuse(scan, "more than 1000 repetitions");
        }
    } else if (c != '*' && c != '+' && c != '?') {
        return true;
    }
    if (after_quantifier) {
        return refuse(scan, c == '+' ? "possessive quantifiers are not in RE2's syntax"
                                     : "a quantifier behind a quantifier");
    }
    *taken = true;
    copy(scan, len);
    if (peek(scan, 0) == '?') {
        copy(scan, 1);
    }
    return true;
}

static bool translate(struct scan *scan)
{
    bool after_quantifier = false;
    while (scan->at < scan->pattern.len) {
        bool taken;
        if (!scan_quantifier(scan, after_quantifier, &taken)) {
            return false;
        }
        after_quantifier = taken;
        if (taken) {
            continue;
        }
        bool good = true;
        switch (peek(scan, 0)) {
        case '\\':
            good = scan_escape(scan, false);
            break;
        case '[':
            good = scan_class(scan);
            break;
        case '(':
            good = scan_group(scan);
            break;
        case '{':
            put(scan, "\\{");
            scan->at++;
            break;
        default:
            copy(scan, 1);
            break;
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

/* ---- compile ---- */

static pcre2_code *compile(const struct scan *scan)
{
    int code;
    size_t offset;
    char reason[128];
    pcre2_general_context *memory = pcre2_general_context_create(take_memory, give_memory, NULL);
    pcre2_compile_context *settings = pcre2_compile_context_create(memory);
    CHECK(settings != NULL);
    (void)pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(settings, NEST_MAX);
    uint32_t flags =
        PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)scan->out, scan->out_len, flags, &code, &offset, settings);
    pcre2_compile_context_free(settings);
    pcre2_general_context_free(memory);
    if (compiled == NULL) {
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
        /* The offset is one of the translated text: near enough, and never beyond. */
        size_t near = offset < scan->pattern.len ? offset : scan->pattern.len;
        (void)error_set(scan->err, "at byte %zu: %s", near, reason);
    }
    return compiled;
}

struct regex *regex_new(struct slice pattern, struct error *err)
{
    if (pattern.len > REGEX_PATTERN_MAX) {
        (void)error_set(err, "%zu bytes, allowed are %u", pattern.len, REGEX_PATTERN_MAX);
        return NULL;
    }
    size_t zero = slice_find(pattern, 0);
    if (zero < pattern.len) {
        (void)error_set(err, "at byte %zu: a zero character", zero);
        return NULL;
    }
    struct scan scan = {.pattern = pattern, .out = mem_raw(pattern.len * 4 + 8), .err = err};
    pcre2_code *code = translate(&scan) ? compile(&scan) : NULL;
    mem_free(scan.out);
    if (code == NULL) {
        return NULL;
    }
    struct regex *regex = NEW(struct regex);
    regex->code = code;
    CHECK(pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &regex->groups) == 0);
    return regex;
}

void regex_free(struct regex **regex)
{
    if (*regex != NULL) {
        pcre2_code_free((*regex)->code);
        FREE(*regex);
    }
}

/* ---- match ---- */

static void make_data(struct regex_scratch *scratch)
{
    scratch->data = pcre2_match_data_create(GROUPS_MAX, scratch->memory);
    CHECK(scratch->data != NULL);
    scratch->largest = 0;
}

struct regex_scratch *regex_scratch_new(void)
{
    struct regex_scratch *scratch = NEW(struct regex_scratch);
    scratch->memory = pcre2_general_context_create(take_memory, give_memory, scratch);
    scratch->limits = pcre2_match_context_create(scratch->memory);
    CHECK(scratch->limits != NULL);
    (void)pcre2_set_heap_limit(scratch->limits, HEAP_KIB);
    make_data(scratch);
    return scratch;
}

void regex_scratch_free(struct regex_scratch **scratch)
{
    if (*scratch != NULL) {
        pcre2_match_data_free((*scratch)->data);
        pcre2_match_context_free((*scratch)->limits);
        pcre2_general_context_free((*scratch)->memory);
        FREE(*scratch);
    }
}

/* From `start` on; positions are in the scratch's data after MATCH. The text was checked to be
 * UTF-8: PCRE2 would check it anew for each part that is replaced, and what it offers for texts
 * that are none (PCRE2_MATCH_INVALID_UTF) takes the last byte before a broken one for the end. */
static enum regex_result run(const struct regex *regex, struct regex_scratch *scratch,
                             struct slice text, size_t start, uint32_t flags, uint32_t steps)
{
    if (scratch->largest > KEEP_BYTES) {
        pcre2_match_data_free(scratch->data);
        make_data(scratch);
    }
    (void)pcre2_set_match_limit(scratch->limits, steps);
    int result = pcre2_match(regex->code, text.at, text.len, start, flags | PCRE2_NO_UTF_CHECK,
                             scratch->data, scratch->limits);
    if (result >= 0) { /* 0: more groups than the data holds */
        return REGEX_MATCH;
    }
    if (result == PCRE2_ERROR_NOMATCH) {
        return REGEX_NO_MATCH;
    }
    /* Match, depth and heap limit, no memory; and whatever else: the caller errs on the safe side.
     */
    return REGEX_LIMIT;
}

enum regex_result regex_match(const struct regex *regex, struct regex_scratch *scratch,
                              struct slice text)
{
    text = text.len > 0 ? text : SLICE("");
    if (!utf8_valid(text)) {
        return REGEX_NO_MATCH;
    }
    return run(regex, scratch, text, 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED, MATCH_STEPS);
}

/* ---- replace ---- */

bool regex_check_rewrite(const struct regex *regex, struct slice rewrite, struct error *err)
{
    for (size_t i = 0; i < rewrite.len; i++) {
        if (rewrite.at[i] != '\\') {
            continue;
        }
        uint8_t c = i + 1 < rewrite.len ? rewrite.at[++i] : 0;
        if (c != '\\' && (c < '0' || c > '9')) {
            return error_set(err, "at byte %zu: a backslash must stand before a digit or another",
                             i);
        }
        if (c != '\\' && c - (unsigned)'0' > regex->groups) {
            return error_set(err, "at byte %zu: group %c, of which the expression has %u", i, c,
                             regex->groups);
        }
    }
    return true;
}

/* What has been written so far; `full` once it would pass its limit. */
struct output {
    uint8_t *bytes;
    size_t len;
    size_t room;
    size_t max;
    bool full;
};

static void output_put(struct output *out, struct slice text)
{
    if (out->full || text.len > out->max - out->len) {
        out->full = true;
        return;
    }
    if (text.len > out->room - out->len) {
        size_t wanted = (out->len + text.len) * 2 + 64;
        out->room = wanted < out->max ? wanted : out->max;
        out->bytes = mem_resize(out->bytes, out->room);
    }
    if (text.len > 0) {
        (void)memcpy(out->bytes + out->len, text.at, text.len);
        out->len += text.len;
    }
}

static void output_rewrite(struct output *out, struct slice text, struct slice rewrite,
                           pcre2_match_data *data)
{
    const size_t *spans = pcre2_get_ovector_pointer(data);
    for (size_t i = 0; i < rewrite.len; i++) {
        if (rewrite.at[i] != '\\' || i + 1 == rewrite.len) {
            output_put(out, slice_of(rewrite.at + i, 1));
            continue;
        }
        uint8_t c = rewrite.at[++i];
        if (c < '0' || c > '9') {
            output_put(out, slice_of(rewrite.at + i, 1));
            continue;
        }
        size_t group = c - (size_t)'0';
        if (spans[2 * group] != PCRE2_UNSET && spans[2 * group + 1] >= spans[2 * group]) {
            output_put(
                out, slice_of(text.at + spans[2 * group], spans[2 * group + 1] - spans[2 * group]));
        }
    }
}

/* Bytes of the character at `at`, so that a search never starts inside of one. */
static size_t step_over(struct slice text, size_t at)
{
    size_t end = at + 1;
    while (end < text.len && (text.at[end] & 0xC0) == 0x80) {
        end++;
    }
    return end - at;
}

/* All matches from left to right; an empty one directly behind another is skipped, as RE2 does. */
static enum regex_result replace_all(const struct regex *regex, struct regex_scratch *scratch,
                                     struct slice text, struct slice rewrite, struct output *out)
{
    /* PCRE2 counts steps for each start anew, so the whole is bounded by dividing. */
    size_t share = SEARCH_STEPS / (text.len + 1);
    uint32_t steps = share > LEAST_STEPS ? (uint32_t)share : LEAST_STEPS;
    size_t done = 0; /* text up to here is in the output */
    size_t last_end = SIZE_MAX;
    bool any = false;
    for (size_t start = 0; start <= text.len && !out->full;) {
        enum regex_result result = run(regex, scratch, text, start, 0, steps);
        if (result == REGEX_LIMIT) {
            return REGEX_LIMIT;
        }
        if (result == REGEX_NO_MATCH) {
            break;
        }
        const size_t *spans = pcre2_get_ovector_pointer(scratch->data);
        size_t from = spans[0];
        size_t to = spans[1];
        if (from == to && from == last_end) {
            /* Nothing more here: the next character is text, and the search goes on behind it. */
            start = from < text.len ? from + step_over(text, from) : text.len + 1;
            last_end = SIZE_MAX;
            continue;
        }
        any = true;
        output_put(out, slice_of(text.at + done, from - done));
        output_rewrite(out, text, rewrite, scratch->data);
        done = to;
        last_end = to;
        start = to;
    }
    if (any) {
        output_put(out, slice_from(text, done));
    }
    return any ? REGEX_MATCH : REGEX_NO_MATCH;
}

enum regex_result regex_replace(const struct regex *regex, struct regex_scratch *scratch,
                                struct slice text, struct slice rewrite, size_t max_bytes,
                                struct arena *arena, struct slice *out)
{
    struct output output = {.max = max_bytes};
    *out = text;
    if (!utf8_valid(text)) {
        return REGEX_NO_MATCH;
    }
    struct slice subject = text.len > 0 ? text : SLICE("");
    enum regex_result result = replace_all(regex, scratch, subject, rewrite, &output);
    result = output.full ? REGEX_LIMIT : result;
    if (result == REGEX_MATCH) {
        *out = arena_dup(arena, slice_of(output.bytes, output.len));
    }
    mem_free(output.bytes);
    return result;
}
