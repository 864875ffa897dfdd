#pragma once
/* Random bytes for OpenSSL that come from the seed, so that keys, certificates and handshakes are
 * the same in every run of it. The process's: OpenSSL asks without saying for whom. */

#include <stdint.h>

/* From now on. */
void chance_seed(uint64_t seed);
