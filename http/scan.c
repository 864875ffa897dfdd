/* Heads are short: a name is 10 bytes, a value 30, so sixteen bytes a step (SSE2, which every
 * x86-64 has) finds most ends in one or two steps. Wider vectors with a choice at run time gained
 * nothing on heads of a few hundred bytes, and were left out. */
#include "http/scan.h"

/* tchar: one bit a byte. */
static const uint32_t token_bits[8] = {
    0x00000000, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff, 0, 0, 0, 0,
};

bool scan_is_token(uint8_t byte)
{
    return ((token_bits[byte >> 5] >> (byte & 31U)) & 1U) != 0;
}

static bool is_text(uint8_t byte)
{
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

static bool is_visible(uint8_t byte)
{
    return byte > 0x20 && byte < 0x7f;
}

static bool is_target(uint8_t byte)
{
    return is_visible(byte) && byte != '#';
}

static bool is_host(uint8_t byte)
{
    return (uint8_t)((byte | 0x20) - 'a') < 26 || (uint8_t)(byte - '0') < 10 || byte == '-' ||
           byte == '.';
}

static bool is_plain_path(uint8_t byte)
{
    return byte != '%' && byte != '.' && byte != '\\' && byte != '?';
}

#define SCALAR_SCAN(name, allowed)                                                                 \
    size_t name(const uint8_t *at, size_t len)                                                     \
    {                                                                                              \
        size_t i = 0;                                                                              \
        while (i < len && allowed(at[i])) {                                                        \
            i++;                                                                                   \
        }                                                                                          \
        return i;                                                                                  \
    }

SCALAR_SCAN(scan_token_scalar, scan_is_token)
SCALAR_SCAN(scan_text_scalar, is_text)
SCALAR_SCAN(scan_visible_scalar, is_visible)
SCALAR_SCAN(scan_target_scalar, is_target)
SCALAR_SCAN(scan_host_scalar, is_host)
SCALAR_SCAN(scan_plain_path_scalar, is_plain_path)

#if defined(__SSE2__)

static inline unsigned stops_visible(__m128i v)
{
    return ~(unsigned)_mm_movemask_epi8(scan_in_range(v, 0x21, 0x7e - 0x21)) & 0xffffU;
}

static inline unsigned stops_target(__m128i v)
{
    return stops_visible(v) | (unsigned)_mm_movemask_epi8(scan_is_byte(v, '#'));
}

static inline unsigned stops_host(__m128i v)
{
    return scan_stops_common_token(v) & ~(unsigned)_mm_movemask_epi8(scan_is_byte(v, '.'));
}

static inline unsigned stops_plain_path(__m128i v)
{
    __m128i dots = _mm_or_si128(scan_is_byte(v, '.'), scan_is_byte(v, '%'));
    __m128i ends = _mm_or_si128(scan_is_byte(v, '?'), scan_is_byte(v, '\\'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(dots, ends));
}

/* The last, short step looks again at bytes before it, which are known to be allowed. */
#define SIMD_SCAN(name, stops)                                                                     \
    size_t name(const uint8_t *at, size_t len)                                                     \
    {                                                                                              \
        if (len < SCAN_STEP) {                                                                     \
            return name##_scalar(at, len);                                                         \
        }                                                                                          \
        for (size_t i = 0;;) {                                                                     \
            unsigned found = stops(scan_load(at + i));                                             \
            if (found != 0) {                                                                      \
                return i + (unsigned)__builtin_ctz(found);                                         \
            }                                                                                      \
            i += SCAN_STEP;                                                                        \
            if (i == len) {                                                                        \
                return len;                                                                        \
            }                                                                                      \
            i = i + SCAN_STEP <= len ? i : len - SCAN_STEP;                                        \
        }                                                                                          \
    }

SIMD_SCAN(scan_text, scan_stops_text)
SIMD_SCAN(scan_visible, stops_visible)
SIMD_SCAN(scan_target, stops_target)
SIMD_SCAN(scan_host, stops_host)
SIMD_SCAN(scan_plain_path, stops_plain_path)

size_t scan_token(const uint8_t *at, size_t len)
{
    size_t i = 0;
    while (i + SCAN_STEP <= len) {
        unsigned found = scan_stops_common_token(scan_load(at + i));
        if (found == 0) {
            i += SCAN_STEP;
            continue;
        }
        i += (unsigned)__builtin_ctz(found);
        if (!scan_is_token(at[i])) {
            return i;
        }
        i++;
    }
    return i + scan_token_scalar(at + i, len - i);
}

#else

size_t scan_token(const uint8_t *at, size_t len)
{
    return scan_token_scalar(at, len);
}

size_t scan_text(const uint8_t *at, size_t len)
{
    return scan_text_scalar(at, len);
}

size_t scan_visible(const uint8_t *at, size_t len)
{
    return scan_visible_scalar(at, len);
}

size_t scan_target(const uint8_t *at, size_t len)
{
    return scan_target_scalar(at, len);
}

size_t scan_host(const uint8_t *at, size_t len)
{
    return scan_host_scalar(at, len);
}

size_t scan_plain_path(const uint8_t *at, size_t len)
{
    return scan_plain_path_scalar(at, len);
}

#endif
