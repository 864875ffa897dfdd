#pragma once
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD, for bytes that are none */

/* Bytes of the character at the front of `s` (not empty), or 0 where none stands there whole. */
size_t utf8_length(struct slice s);
/* True when the whole slice is UTF-8; the empty one is. */
bool utf8_valid(struct slice s);
