#pragma once
/* Numbers that look random, from a state that its owner holds: the simulator seeds it with a number
 * that it prints, a program from the kernel. Fast, and no secret: keys and tokens come from
 * base/crypto. One thread. */

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

/* The same seed gives the same numbers, on every machine. */
void rng_seed(struct rng *rng, uint64_t seed);
/* From the kernel; aborts where it has none to give. */
void rng_seed_from_system(struct rng *rng);

uint64_t rng_u64(struct rng *rng);
/* 0 to bound - 1 (bound > 0), each as likely as the other. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* 0 to below 1, in steps of 2^-53. */
double rng_unit(struct rng *rng);
