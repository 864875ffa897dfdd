#include "base/slice.h"

bool slice_eq_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (slice_lower(a.at[i]) != slice_lower(b.at[i])) {
            return false;
        }
    }
    return true;
}

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_eq_nocase(slice_head(s, prefix.len), prefix);
}

int slice_compare(struct slice a, struct slice b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared > 0 ? memcmp(a.at, b.at, shared) : 0;
    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

size_t slice_find(struct slice s, uint8_t byte)
{
    const uint8_t *hit = s.len > 0 ? memchr(s.at, byte, s.len) : NULL;
    return hit != NULL ? (size_t)(hit - s.at) : s.len;
}

size_t slice_search(struct slice s, struct slice part)
{
    const uint8_t *hit = s.len > 0 ? memmem(s.at, s.len, part.at, part.len) : NULL;
    return hit != NULL ? (size_t)(hit - s.at) : s.len;
}

struct slice slice_cut(struct slice *rest, uint8_t byte)
{
    size_t at = slice_find(*rest, byte);
    struct slice before = slice_head(*rest, at);
    *rest = at == rest->len ? (struct slice){NULL, 0} : slice_from(*rest, at + 1);
    return before;
}

struct slice slice_trim(struct slice s)
{
    while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s = slice_from(s, 1);
    }
    while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

bool slice_to_u64(struct slice s, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;
    if (s.len == 0) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        uint8_t digit = (uint8_t)(s.at[i] - '0');
        if (digit > 9 || sum > (UINT64_MAX - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    if (sum > max) {
        return false;
    }
    *value = sum;
    return true;
}

/* Multiply and fold: one 64x64 product mixes every bit of both. __extension__: 128 bits are GNU C.
 */
static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 u128;
    u128 wide = (u128)a * b;
    return (uint64_t)wide ^ (uint64_t)(wide >> 64);
}

uint64_t slice_hash(struct slice s, uint64_t seed)
{
    uint64_t hash = seed ^ (s.len * 0x9E3779B97F4A7C15U);
    size_t at = 0;
    for (; at + 8 <= s.len; at += 8) {
        uint64_t word;
        (void)memcpy(&word, s.at + at, 8);
        hash = mix(hash ^ word, 0xD6E8FEB86659FD93U);
    }
    uint64_t tail = 0;
    for (unsigned shift = 0; at < s.len; at++, shift += 8) {
        tail |= (uint64_t)s.at[at] << shift;
    }
    hash = mix(hash ^ tail, 0xA0761D6478BD642FU);
    return hash ^ (hash >> 29);
}
