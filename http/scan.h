#pragma once
/* Finds the first byte that a piece of HTTP may not hold. Every function returns the position of
 * that byte, or `len` when all bytes are allowed. It never reads outside [at, at + len). The
 * `_scalar` twins keep the same contract without SIMD: they are the only code on machines without
 * SSE2, and what the tests compare with. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* tchar (RFC 9110 5.6.2): names, methods. */
size_t scan_token(const uint8_t *at, size_t len);
size_t scan_token_scalar(const uint8_t *at, size_t len);
/* Field content: HTAB, SP, VCHAR, obs-text (RFC 9110 5.5). Stops at the CR of a line's end, and at
 * every other control byte. */
size_t scan_text(const uint8_t *at, size_t len);
size_t scan_text_scalar(const uint8_t *at, size_t len);
/* VCHAR: 0x21 to 0x7e; what a request-target is made of. */
size_t scan_visible(const uint8_t *at, size_t len);
size_t scan_visible_scalar(const uint8_t *at, size_t len);
/* The same but for '#': a target has no fragment (RFC 9112 3.2). */
size_t scan_target(const uint8_t *at, size_t len);
size_t scan_target_scalar(const uint8_t *at, size_t len);
/* Letters, digits, '-' and '.': all of most hosts. */
size_t scan_host(const uint8_t *at, size_t len);
size_t scan_host_scalar(const uint8_t *at, size_t len);
/* Path bytes that need no second look: stops at `%`, `.`, `\` and `?`. */
size_t scan_plain_path(const uint8_t *at, size_t len);
size_t scan_plain_path_scalar(const uint8_t *at, size_t len);

bool scan_is_token(uint8_t byte);

/* The same within a buffer [at, at + len), from a place in it: the place of the first byte that may
 * not stand there, or len. For the fields of a head: nearly all of their names end within sixteen
 * bytes, and what stands before `from` spares the byte-wise look at a buffer's last bytes. */
static inline size_t scan_token_from(const uint8_t *at, size_t from, size_t len);
static inline size_t scan_text_from(const uint8_t *at, size_t from, size_t len);

#if defined(__SSE2__)

#define SCAN_STEP 16U

static inline __m128i scan_load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* Bytes of v in [low, low + span], unsigned. */
static inline __m128i scan_in_range(__m128i v, char low, char span)
{
    __m128i from_low = _mm_sub_epi8(v, _mm_set1_epi8(low));
    return _mm_cmpeq_epi8(_mm_min_epu8(from_low, _mm_set1_epi8(span)), from_low);
}

static inline __m128i scan_is_byte(__m128i v, char byte)
{
    return _mm_cmpeq_epi8(v, _mm_set1_epi8(byte));
}

/* Each gives a bit for every byte that ends the scan. */
static inline unsigned scan_stops_text(__m128i v)
{
    __m128i control = _mm_andnot_si128(scan_is_byte(v, '\t'), scan_in_range(v, 0, 0x1f));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(control, scan_is_byte(v, 0x7f)));
}

/* Letters, digits and '-': nearly every token; the rare other tchar is looked up by the caller. */
static inline unsigned scan_stops_common_token(__m128i v)
{
    __m128i letter = scan_in_range(_mm_or_si128(v, _mm_set1_epi8(0x20)), 'a', 25);
    __m128i digit = scan_in_range(v, '0', 9);
    __m128i all = _mm_or_si128(_mm_or_si128(letter, digit), scan_is_byte(v, '-'));
    return ~(unsigned)_mm_movemask_epi8(all) & 0xffffU;
}

static inline size_t scan_token_from(const uint8_t *at, size_t from, size_t len)
{
    if (LIKELY(from + SCAN_STEP <= len)) {
        unsigned found = scan_stops_common_token(scan_load(at + from));
        size_t end = from + (unsigned)__builtin_ctz(found | 1U << SCAN_STEP);
        if (LIKELY(found != 0 && (at[end] == ':' || !scan_is_token(at[end])))) {
            return end;
        }
    }
    return from + scan_token(at + from, len - from);
}

static inline size_t scan_text_from(const uint8_t *at, size_t from, size_t len)
{
    for (; from + SCAN_STEP <= len; from += SCAN_STEP) {
        unsigned found = scan_stops_text(scan_load(at + from));
        if (found != 0) {
            return from + (unsigned)__builtin_ctz(found);
        }
    }
    if (UNLIKELY(len < SCAN_STEP)) {
        return from + scan_text_scalar(at + from, len - from);
    }
    unsigned seen = (unsigned)(from - (len - SCAN_STEP));
    unsigned found = scan_stops_text(scan_load(at + len - SCAN_STEP)) >> seen;
    return found != 0 ? from + (unsigned)__builtin_ctz(found) : len;
}

#else

static inline size_t scan_token_from(const uint8_t *at, size_t from, size_t len)
{
    return from + scan_token(at + from, len - from);
}

static inline size_t scan_text_from(const uint8_t *at, size_t from, size_t len)
{
    return from + scan_text(at + from, len - from);
}

#endif
