#pragma once
/* Transport sockets and secrets. */

#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"

#include "sidecar/config/compile_base.h"

/* *out is null for plain (no socket, or raw_buffer). `server`: downstream. */
bool compile_transport(struct compiler *c, const char *field,
                       const Envoy__Config__Core__V3__TransportSocket *socket, bool server,
                       const struct tls_config **out) MUST_USE;
bool compile_secret(struct compiler *c,
                    const Envoy__Extensions__TransportSockets__Tls__V3__Secret *secret,
                    struct named_secret *out) MUST_USE;
