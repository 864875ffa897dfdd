/* OpenSSL 3.0 has kept its old table of random functions, which its newer generators ask first. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "tests/sim/chance.h"

#include <openssl/rand.h>

#include "base/check.h"
#include "base/rng.h"

static struct rng source;

static int bytes(unsigned char *into, int len)
{
    for (int i = 0; i < len; i++) {
        into[i] = (unsigned char)rng_u64(&source);
    }
    return 1;
}

static int status(void)
{
    return 1;
}

static const RAND_METHOD table = {.bytes = bytes, .pseudorand = bytes, .status = status};

void chance_seed(uint64_t seed)
{
    rng_seed(&source, seed);
    CHECK(RAND_set_rand_method(&table) == 1);
}
