#pragma once
/* What the programs under test log, in virtual time: into the trace, for people, and counted where
 * an oracle wants a line. Never part of a trace's hash. */

#include <stdio.h>

#include "base/slice.h"

struct world;

#define SIM_LOG_WANTED_MAX 4

struct sim_log {
    struct world *world; /* of the run; null: between runs */
    const char *wanted[SIM_LOG_WANTED_MAX];
    unsigned hits[SIM_LOG_WANTED_MAX];
};

/* From now on the process logs there; the log outlives it. */
void sim_log_open(struct sim_log *log);
void sim_log_begin(struct sim_log *log, struct world *world);
void sim_log_end(struct sim_log *log);
