#pragma once
/* Mesh TLS as Envoy's transport sockets. Certificates and roots come by SDS names that mean the
 * sidecar's own identity. Private to policy/. */

#include "policy/translate_private.h"

/* Towards peers whose SPIFFE id is one of `identities`; none known: any of the trust domain. */
CORE(TransportSocket) * tls_upstream(struct arena *arena, const char *sni,
                                     const char *const *identities, size_t count,
                                     const char *trust_domain);
/* Ends TLS of a peer that must show a certificate of the trust domain. */
CORE(TransportSocket) * tls_downstream(struct arena *arena, const char *trust_domain);
