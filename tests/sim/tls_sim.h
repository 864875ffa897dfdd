#pragma once
/* The simulator's TLS: connections that say who they are instead of proving it. On the wire there
 * are records, a ClientHello that intake can read, an answer, and close_notify, so that torn
 * handshakes, refused identities and cut streams happen as they do with the real one; nothing is
 * encrypted. */

#include "base/tls.h"

const struct tls_provider *tls_sim(void);
