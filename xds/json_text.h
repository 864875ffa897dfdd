#pragma once
/* The texts that protobuf's JSON mapping uses for what JSON has no type for: base64, durations,
 * times, numbers in strings. Pure; any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/slice.h"

/* RFC 4648, standard alphabet, padded. */
struct slice json_text_write_base64(struct arena *arena, struct slice bytes);
/* The standard alphabet with padding, or the one for URLs without; false when it is neither. */
bool json_text_read_base64(struct arena *arena, struct slice text, struct slice *bytes) MUST_USE;

/* "-12"; the whole text. */
bool json_text_read_i64(struct slice text, int64_t *number) MUST_USE;
/* "1.5", "NaN", "Infinity", "-Infinity"; the whole text. */
bool json_text_read_double(struct slice text, double *number) MUST_USE;

/* "1.5s": at most 9 digits behind the point, at most 10,000 years. Both parts have one sign. */
bool json_text_read_duration(struct slice text, int64_t *seconds, int32_t *nanos) MUST_USE;
const char *json_text_write_duration(struct arena *arena, int64_t seconds, int32_t nanos);

/* RFC 3339, "2026-01-31T12:00:00.5Z" or with an offset; years 1 to 9999. */
bool json_text_read_time(struct slice text, int64_t *seconds, int32_t *nanos) MUST_USE;
const char *json_text_write_time(struct arena *arena, int64_t seconds, int32_t nanos);
