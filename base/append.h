#pragma once
/* Appends whole lines to a file, a pipe or a terminal, and never waits for whoever reads it: what
 * it does not take now is given back to the caller, to be counted as lost. The path is opened anew,
 * also for /dev/stdout, so that not waiting is a property of our own open file and not of one that
 * other processes share. One thread; several may have the same path open: lines do not mix (files:
 * O_APPEND; pipes: at most PIPE_BUF at once). */

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

struct append;

/* Creates a file that is missing with mode 0640. Null with *err. */
struct append *append_open(const char *path, struct error *err) MUST_USE;
void append_close(struct append **append);

/* Each line ends with its line feed. Returns how many bytes were taken, whole lines always: a line
 * that a full disk cuts counts as taken, and its rest is lost. */
size_t append_lines(struct append *append, struct slice lines) MUST_USE;
