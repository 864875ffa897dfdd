#pragma once
/* The seam to the kernel's nf_tables, through libnftables. The network namespace is the caller's.
 * One thread. */

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"

/* Whether rules can be read and written here; else *err says what is missing. The other functions
 * ask by themselves. */
bool nft_check_kernel(struct error *err) MUST_USE;

/* Runs one transaction: all of it or nothing. False with *err in words for people. */
bool nft_run(const char *script, struct error *err) MUST_USE;

/* The text of a table, or null in *text where there is none. In the arena. */
bool nft_list(const char *table, struct arena *arena, const char **text,
              struct error *err) MUST_USE;
