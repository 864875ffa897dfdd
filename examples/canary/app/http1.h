#pragma once

/* As much of HTTP/1.1 as two small applications need of each other and of a proxy between them:
 * heads in a text buffer, bodies by Content-Length. Anything else is called unreadable. */

#include <stdbool.h>
#include <stddef.h>

/* The bytes of the whole head (with its empty line) at the beginning of text[0..len); 0: not all
 * there yet. */
size_t http1_head_size(const char *text, size_t len);

/* The value of a header of the head, copied to value[0..size) and cut there; false: not in it. */
bool http1_header(const char *head, size_t head_len, const char *name, char *value, size_t size);

/* Bytes of the body after this head, as Content-Length says; false: it does not say (*bytes is 0),
 * or the body is chunked. */
bool http1_body_size(const char *head, size_t head_len, size_t *bytes);
