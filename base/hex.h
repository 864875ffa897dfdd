#pragma once
/* Numbers as lower-case hexadecimal digits, most significant first, for ids that are made per
 * request. */

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Eight digits at once: the nibbles are spread over the bytes of a word, then turned to letters
 * together. */
static inline void hex_u32(uint32_t value, char text[8])
{
    uint64_t word =
        __builtin_bswap32(value); /* the first byte in memory is the most significant one */
    word = (word | (word << 16)) & UINT64_C(0x0000FFFF0000FFFF);
    word = (word | (word << 8)) & UINT64_C(0x00FF00FF00FF00FF);
    word = ((word >> 4) | (word << 8)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    uint64_t letters = ((word + UINT64_C(0x0606060606060606)) >> 4) & UINT64_C(0x0101010101010101);
    word += UINT64_C(0x3030303030303030) + letters * ('a' - '0' - 10);
    (void)memcpy(text, &word, 8);
}

#if defined(__SSE2__)

/* Sixteen digits at once, the same way. */
static inline void hex_u64(uint64_t value, char text[16])
{
    const __m128i low_nibble = _mm_set1_epi8(0x0F);
    __m128i bytes = _mm_cvtsi64_si128((long long)__builtin_bswap64(value));
    __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), low_nibble);
    __m128i digits = _mm_unpacklo_epi8(high, _mm_and_si128(bytes, low_nibble));
    __m128i letters = _mm_cmpgt_epi8(digits, _mm_set1_epi8(9));
    __m128i shift = _mm_and_si128(letters, _mm_set1_epi8('a' - '0' - 10));
    digits = _mm_add_epi8(digits, _mm_add_epi8(shift, _mm_set1_epi8('0')));
    _mm_storeu_si128((__m128i *)(void *)text, digits);
}

#else

static inline void hex_u64(uint64_t value, char text[16])
{
    hex_u32((uint32_t)(value >> 32), text);
    hex_u32((uint32_t)value, text + 8);
}

#endif
