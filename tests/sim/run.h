#pragma once
/* One run of one seed: builds the world that the scenario drew, lets it live, and asks every
 * oracle. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct scenario;

struct run_result {
    uint64_t hash;  /* of the trace */
    uint64_t notes; /* its lines */
    uint64_t requests;
    uint64_t exchanges;
    uint64_t ends[8]; /* by enum ledger_end */
    bool failed;
    char failure[512];
};

/* `only`: null for the one that the seed picks. `trace`: null, or where its lines go. */
void run_seed(uint64_t seed, const struct scenario *only, FILE *trace, struct run_result *result);
/* The one that the seed picks. */
const struct scenario *run_scenario_of(uint64_t seed);
