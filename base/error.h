#pragma once
/* The error of set-up and configuration: one line of text, wrapped outward by its callers
 * ("listener 15006: filter chain 2: tls: no such file"). The request path does not use it
 * (sidecar/fail.h). Caller's storage. */

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

#define ERROR_TEXT_MAX 1024

struct error {
    char text[ERROR_TEXT_MAX]; /* empty: no error; ends with "..." where it was cut */
};

/* Sets the text; returns false, so that `return error_set(err, ...)` ends a function. err may be
 * null. */
bool error_set(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* Puts "<formatted>: " before the text that is there; returns false. err may be null. */
bool error_wrap(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* As error_set, with ": <reason of errno>" behind it. */
bool error_errno(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);
