#pragma once
/* Reading whole files that an operator named. Blocks: at start, or on an admin thread. Secrets have
 * their own door (base/crypto: mode and owner are checked). */

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"

/* The file's bytes, in the arena. False with "<path>: <reason>"; one above `max` bytes is refused.
 */
bool file_read(const char *path, size_t max, struct arena *arena, struct slice *bytes,
               struct error *err) MUST_USE;
