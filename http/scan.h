#pragma once
/* Finds the first byte that a piece of HTTP may not hold. Every function returns the position of
 * that byte, or `len` when all bytes are allowed. It never reads outside [at, at + len). The
 * `_scalar` twins keep the same contract without SIMD: they are the only code on machines without
 * SSE2, and what the tests compare with. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
/* Path bytes that need no second look: stops at `%`, `.`, `\` and `?`. */
size_t scan_plain_path(const uint8_t *at, size_t len);
size_t scan_plain_path_scalar(const uint8_t *at, size_t len);

bool scan_is_token(uint8_t byte);
