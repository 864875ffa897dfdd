#include "base/base64.h"

static const char *alphabet(enum base64 kind)
{
    return kind == BASE64_URL ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                              : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

size_t base64_encode(enum base64 kind, struct slice bytes, char *text)
{
    const char *letters = alphabet(kind);
    size_t at = 0;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t have = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t group = (uint32_t)bytes.at[i] << 16;
        if (have > 1) {
            group |= (uint32_t)bytes.at[i + 1] << 8;
        }
        if (have > 2) {
            group |= bytes.at[i + 2];
        }
        for (size_t j = 0; j < have + 1; j++) {
            text[at++] = letters[(group >> (18 - 6 * j)) & 63];
        }
        for (size_t j = have; j < 3 && kind == BASE64_STANDARD; j++) {
            text[at++] = '=';
        }
    }
    text[at] = '\0';
    return at;
}

/* The six bits of a letter, or -1. */
static int letter_value(enum base64 kind, uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == (kind == BASE64_URL ? '-' : '+')) {
        return 62;
    }
    return c == (kind == BASE64_URL ? '_' : '/') ? 63 : -1;
}

/* Drops the padding of the standard form; false where it is missing or too long. */
static bool strip_padding(struct slice *text)
{
    if (text->len % 4 != 0) {
        return false;
    }
    size_t padding = 0;
    while (padding < 2 && text->len > 0 && text->at[text->len - 1] == '=') {
        text->len--;
        padding++;
    }
    return true;
}

bool base64_decode(enum base64 kind, struct slice text, struct span into, size_t *len)
{
    CHECK(len != NULL);
    *len = 0;
    if (kind == BASE64_STANDARD && !strip_padding(&text)) {
        return false;
    }
    if (text.len % 4 == 1) {
        return false; /* six bits make no byte */
    }
    uint32_t group = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = letter_value(kind, text.at[i]);
        if (value < 0) {
            return false;
        }
        group = group << 6 | (uint32_t)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            if (*len == into.len) {
                return false;
            }
            into.at[(*len)++] = (uint8_t)(group >> bits);
        }
    }
    return (group & ((1U << bits) - 1)) == 0;
}
