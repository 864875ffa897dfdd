#pragma once
/* One run of one seed: builds the world that the scenario drew, lets it live, and asks every
 * oracle. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/sim/world.h"

struct authority;
struct ledger;
struct scenario;
struct sim_log;

struct run_result {
    uint64_t hash;  /* of the trace */
    uint64_t notes; /* its lines */
    uint64_t requests;
    uint64_t exchanges;
    uint64_t ends[8];                 /* by enum ledger_end */
    uint64_t calls[WORLD_CALL_COUNT]; /* that sidecars made */
    bool failed;
    char failure[512];
};

/* What runs of one process share. */
struct run_process {
    struct authority *authority;
    struct sim_log *log;
};

struct run_start {
    uint64_t seed;
    const struct scenario *only; /* null: the one that the seed picks */
    FILE *trace;                 /* null, or where its lines go */
    /* For a scenario that fails a call: not the seed's, but this one (from 1), in that way. */
    bool calls;
    enum world_failing fail_how;
    uint64_t fail_at; /* 0: none fails */
};

void run_seed(const struct run_process *process, const struct run_start *start,
              struct run_result *result);
/* The one that the seed picks. */
const struct scenario *run_scenario_of(uint64_t seed);
/* What the run came to so far. */
void run_take_result(const struct world *world, const struct ledger *ledger, uint64_t exchanges,
                     struct run_result *result);
