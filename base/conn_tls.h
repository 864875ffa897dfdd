#pragma once
/* TLS over a net_conn, as a conn. Nothing here blocks or calls up; the handshake is driven by its
 * owner through conn_handshake, and has no deadline of its own.
 *
 * The end of the stream: IO_EOF from conn_recv means that the peer ended it with close_notify. A
 * FIN without one may be an attacker's cut (RFC 8446 6.1) and is IO_RESET, for every protocol
 * alike; conn_tls_failure says so. conn_shutdown_send sends close_notify, then FIN; conn_close
 * sends it too where the handshake was done; conn_reset never does, so that what is cut looks cut.
 */

#include "base/conn.h"
#include "base/tls.h"

struct tls_client {
    struct tls_keys *keys; /* outlive the connection */
    struct tls_context *context;
    struct slice sni;         /* server_name; empty: none */
    const struct slice *alpn; /* in place of the context's, when alpn_count is not 0 */
    size_t alpn_count;
    struct slice identity; /* the peer's SPIFFE id, exactly; empty: the context's matches decide */
    struct slice uid;      /* the pod's unique id, exactly; empty: any or none */
};

struct tls_server {
    struct tls_keys *keys; /* outlive the connection */
    struct tls_context *context;
};

/* Takes *net, still connecting or connected. What `how` names is copied or counted. Never null:
 * what is missing (a certificate that has not come yet) is an error of conn_handshake. */
struct conn *conn_tls_client(struct net_conn **net, const struct tls_client *how) MUST_USE;
/* `early`: bytes that were read already, from the ClientHello's first on; copied. */
struct conn *conn_tls_server(struct net_conn **net, const struct tls_server *how,
                             struct slice early) MUST_USE;

/* Why the connection failed, as one line; empty while it has not, and for connections of others.
 * A server's refusal of our certificate comes here after our handshake was done (TLS 1.3). */
struct slice conn_tls_failure(const struct conn *conn);

/* Would the peer's certificate, and the names that it was accepted for, still be accepted under the
 * thread's trust of today? For when a root was removed. False with *err. */
bool conn_tls_recheck(struct conn *conn, struct error *err) MUST_USE;
