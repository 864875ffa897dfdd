/* xoshiro256** of Blackman and Vigna (2018), seeded through splitmix64 as its authors advise: four
 * words of state, a period of 2^256 - 1. */
#include "base/rng.h"

#include <sys/random.h>

#include "base/check.h"

static uint64_t rotate(uint64_t value, unsigned by)
{
    return value << by | value >> (64 - by);
}

void rng_seed(struct rng *rng, uint64_t seed)
{
    for (size_t i = 0; i < COUNT_OF(rng->state); i++) {
        seed += 0x9E3779B97F4A7C15U;
        uint64_t mixed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9U;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBU;
        rng->state[i] = mixed ^ (mixed >> 31);
    }
}

void rng_seed_from_system(struct rng *rng)
{
    uint64_t seed;
    CHECK(getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed);
    rng_seed(rng, seed);
}

uint64_t rng_u64(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    CHECK(bound > 0);
    /* The high half of bound * random is the result; a low half below 2^64 mod bound would make
     * some results likelier, so those are drawn again (Lemire 2019). Terminates: each draw is
     * taken with a likelihood over one half. */
    __extension__ typedef unsigned __int128 u128;
    uint64_t unfair = (0 - bound) % bound;
    for (;;) {
        u128 wide = (u128)rng_u64(rng) * bound;
        if ((uint64_t)wide >= unfair) {
            return (uint64_t)(wide >> 64);
        }
    }
}

double rng_unit(struct rng *rng)
{
    return (double)(rng_u64(rng) >> 11) * 0x1p-53;
}
