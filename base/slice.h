#pragma once
/* Bytes that somebody else owns: a slice is read, a span is written. Neither is null-terminated.
 * Plain values. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *at; /* may be null when len is 0 */
    size_t len;
};

struct span {
    uint8_t *at;
    size_t len;
};

/* A slice of a string literal. */
#define SLICE(literal) ((struct slice){(const uint8_t *)("" literal), sizeof(literal) - 1})
/* For "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (const char *)(s).at

static inline struct slice slice_of(const void *at, size_t len)
{
    return (struct slice){(const uint8_t *)at, len};
}

/* text may be null: the empty slice. */
static inline struct slice slice_of_text(const char *text)
{
    return (struct slice){(const uint8_t *)text, text != NULL ? strlen(text) : 0};
}

/* memcpy for what is short: a header's name, a value. Two looks that overlap copy what one does not
 * reach. */
static inline void slice_put(uint8_t *to, struct slice s)
{
    const uint8_t *from = s.at;
    size_t len = s.len;
    if (len >= 16) {
        for (size_t at = 0; at + 16 < len; at += 16) {
            (void)memcpy(to + at, from + at, 16);
        }
        (void)memcpy(to + len - 16, from + len - 16, 16);
    } else if (len >= 8) {
        (void)memcpy(to, from, 8);
        (void)memcpy(to + len - 8, from + len - 8, 8);
    } else if (len >= 4) {
        (void)memcpy(to, from, 4);
        (void)memcpy(to + len - 4, from + len - 4, 4);
    } else if (len > 0) {
        to[0] = from[0];
        to[len / 2] = from[len / 2];
        to[len - 1] = from[len - 1];
    }
}

/* Eight bytes as one word: bit 0x80 of each that lies in [first, last], both below 0x80. */
static inline uint64_t slice_word_range(uint64_t word, uint8_t first, uint8_t last)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t low = word & ones * 0x7f;
    return (low + ones * (0x80U - first)) & ~(low + ones * (0x7fU - last)) & ~word & ones << 7;
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* The bytes from `from` on; `from` is cut to the length. */
static inline struct slice slice_from(struct slice s, size_t from)
{
    size_t skip = from < s.len ? from : s.len;
    return (struct slice){s.len > 0 ? s.at + skip : s.at, s.len - skip};
}

/* At most the first `len` bytes. */
static inline struct slice slice_head(struct slice s, size_t len)
{
    return (struct slice){s.at, len < s.len ? len : s.len};
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.at, prefix.at, prefix.len) == 0);
}

static inline bool slice_ends(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.at + s.len - suffix.len, suffix.at, suffix.len) == 0);
}

/* ASCII only, as HTTP's tokens want (RFC 9110 5.1). */
static inline uint8_t slice_lower(uint8_t c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

bool slice_eq_nocase(struct slice a, struct slice b);
bool slice_starts_nocase(struct slice s, struct slice prefix);
/* memcmp's order, then length. */
int slice_compare(struct slice a, struct slice b);
/* Position of `byte`, or s.len when it is not there. */
size_t slice_find(struct slice s, uint8_t byte);
/* Position of `part` (not empty), or s.len. */
size_t slice_search(struct slice s, struct slice part);
/* Cuts what stands before `byte` off *rest and returns it; the byte is dropped. Without the byte:
 * all of it, and *rest gets a null pointer, which ends a loop `while (rest.at != NULL)`. */
struct slice slice_cut(struct slice *rest, uint8_t byte);
/* Without spaces and tabs at both ends (OWS, RFC 9110 5.6.3). */
struct slice slice_trim(struct slice s);
/* The whole slice as decimal digits; false when empty, not digits, or above `max`. */
bool slice_to_u64(struct slice s, uint64_t max, uint64_t *value);
/* Hash under a seed, which must be secret where peers choose the bytes. */
uint64_t slice_hash(struct slice s, uint64_t seed);
