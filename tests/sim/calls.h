#pragma once
/* Every call of the sidecars to the kernel fails in turn: a run of a small hop without a failure
 * says how many there are; then each fails once, in each way in which its kind can, in a run of its
 * own, which must pass the oracles of every run and leave nobody without a counted reason. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/sim/run.h"

/* One call; `at` 0: all. */
struct calls_asked {
    uint64_t seed;
    const struct scenario *scenario; /* one that fails a call */
    enum world_failing how;
    uint64_t at;
    FILE *trace; /* null, or where the lines of a single one go */
};

/* False when a run failed; prints each that did, and how to repeat it. */
bool calls_run(const struct run_process *process, const struct calls_asked *asked);
/* "RECV_RESET:17". False where that is none. */
bool calls_parse(const char *text, enum world_failing *how, uint64_t *at);
