#pragma once
/* The only place that reads the kernel's clocks. Whoever decides gets `now` as a parameter (a loop
 * reads it once a tick); these are for the loop itself, for the log, and for start-up. Any thread.
 */

#include <stddef.h>
#include <stdint.h>

/* Microseconds since an arbitrary point; never goes back. */
uint64_t clock_monotonic_us(void);
/* Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted; may jump. */
uint64_t clock_wall_us(void);

#define CLOCK_TEXT_BYTES 28 /* "2026-11-20T14:15:53.123456Z" and the zero byte */

/* Writes a wall time as RFC 3339 in UTC with microseconds; after the year 9999 the last instant of
 * that year. */
void clock_text(uint64_t wall_us, char text[CLOCK_TEXT_BYTES]);

#define CLOCK_HTTP_DATE_BYTES 30 /* "Sun, 06 Nov 1994 08:49:37 GMT" and the zero byte */

/* Writes a wall time as the Date field wants it (RFC 9110 5.6.7). */
void clock_http_date(uint64_t wall_us, char text[CLOCK_HTTP_DATE_BYTES]);
