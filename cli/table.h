#pragma once
/* Text for people at a terminal: columns as wide as they must be, and no bytes that a terminal
 * would obey. What a sidecar says of itself is a peer's text. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/slice.h"

/* `rows` rows of `columns` cells, the first of them the heading; the last column is not padded.
 * Cells are null-terminated and shown as they are. A character counts as one column. */
void table_print(FILE *out, const char *const *cells, size_t rows, size_t columns);

/* A copy in which every control character (C0, DEL, C1) and everything that is no UTF-8 is "?". */
const char *table_text(struct arena *arena, struct slice text);

/* "59s", "1m05s", "23h05m", "11d02h": two units, cut, not rounded. */
const char *table_duration(struct arena *arena, uint64_t seconds);
