#include "tests/sim/tls_sim.h"

const struct tls_provider *tls_sim(void)
{
    return tls_openssl();
}
