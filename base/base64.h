#pragma once
/* Base64 in its two alphabets (RFC 4648): standard with padding, and the one for URLs without, as
 * JWS wants it (RFC 7515 2). Decoding is strict: no white space, no missing or superfluous padding,
 * no bits set that carry nothing, so that one text stands for one value. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum base64 {
    BASE64_STANDARD, /* RFC 4648 4: "+/", padded with "=" */
    BASE64_URL       /* RFC 4648 5: "-_", without padding */
};

/* Room that encoding `len` bytes takes, with a zero byte behind; and that decoding at most takes.
 */
#define BASE64_TEXT_MAX(len)    (((len) + 2) / 3 * 4 + 1)
#define BASE64_DECODED_MAX(len) ((len) / 4 * 3 + 3)

/* Writes the text and a zero byte to `text` (BASE64_TEXT_MAX(bytes.len) of room); returns its
 * length. */
size_t base64_encode(enum base64 kind, struct slice bytes, char *text);
/* False when `text` is not base64 of this kind, or more than `into` holds. */
bool base64_decode(enum base64 kind, struct slice text, struct span into, size_t *len) MUST_USE;
