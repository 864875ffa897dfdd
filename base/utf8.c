#include "base/utf8.h"

#include "base/check.h"

size_t utf8_length(struct slice s)
{
    CHECK(s.len > 0);
    uint8_t c = s.at[0];
    if (c < 0x80) {
        return 1;
    }
    if (c < 0xC2 || c > 0xF4) {
        return 0;
    }
    size_t len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (s.len < len) {
        return 0;
    }
    /* The second byte has narrower bounds after four of the first (RFC 3629 4). */
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (s.at[1] < low || s.at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((s.at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool utf8_valid(struct slice s)
{
    while (s.len > 0) {
        size_t len = utf8_length(s);
        if (len == 0) {
            return false;
        }
        s = slice_from(s, len);
    }
    return true;
}
