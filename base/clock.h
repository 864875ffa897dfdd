#pragma once
/* The only reader of the system's clocks. Everything else takes the loop's `now_us` or is told the
 * time. */

#include <stdint.h>

/* Microseconds since an unknown start; never goes back. */
uint64_t clock_monotonic_us(void);
/* Microseconds since 1970-01-01 UTC. */
uint64_t clock_wall_us(void);
