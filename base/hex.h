#pragma once
/* Numbers as lower-case hexadecimal digits, most significant first, for ids that are made per
 * request. */

#include <stdint.h>
#include <string.h>

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

static inline void hex_u64(uint64_t value, char text[16])
{
    hex_u32((uint32_t)(value >> 32), text);
    hex_u32((uint32_t)value, text + 8);
}
