#pragma once
/* From a compiled TLS configuration to the context that connections are made from (base/tls). Admin
 * thread, when the configuration is compiled, so that a certificate that does not load is an error
 * of the configuration. */

#include "base/error.h"
#include "base/tls.h"
#include "sidecar/config/snapshot.h"

/* Null with *err. The config outlives the context. */
struct tls_context *tls_make(const struct tls_config *config, struct error *err) MUST_USE;
