#pragma once
/* Which filter chain of a listener takes a connection. Pure; any thread. */

#include "sidecar/config/snapshot.h"

/* What is known of a connection once its first bytes were looked at. */
struct chain_query {
    struct addr destination; /* original, where restored */
    struct addr source;
    struct addr direct_source; /* the socket's, where a proxy protocol gave `source` */
    struct slice server_name;  /* SNI in lower case; empty: none */
    struct slice transport;    /* "tls" or "raw_buffer" */
    const struct slice *alpn;  /* as offered, in the client's order; or what was detected */
    uint32_t alpn_count;
};

/* Envoy's order (listener_components.proto, FilterChainMatch): destination port, destination
 * address, server name, transport, application protocols, direct source address, source type,
 * source address, source port. At each level the most specific value decides, and there is no way
 * back. The listener's fallback where none fits; null: close the connection. */
const struct filter_chain *chain_find(const struct listener_config *listener,
                                      const struct chain_query *query);
