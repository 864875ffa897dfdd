#pragma once
/* A byte stream, plain or TLS, behind one table. It owns its net_conn. Readiness is the net_conn's
 * (conn->net->ready), but TLS may hold bytes that no event announces: read until IO_AGAIN, or ask
 * conn_pending. One thread.
 *
 * Output goes through a buf: conn_send takes from its front what fits. TLS encrypts in records of
 * at most 16 KiB; a mux connection gathers the frames of a tick in the buf and sends once. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/net.h"
#include "base/slice.h"

/* What is known of the other end of a TLS connection. Valid as long as the connection. */
struct conn_peer {
    struct slice identity; /* SPIFFE id (URI SAN), empty without a certificate */
    struct slice uid;      /* Subject serialNumber: the pod's unique id, or empty */
    uint8_t leaf_hash[32]; /* SHA-256 of the leaf certificate */
    uint64_t not_after_us; /* wall time */
};

struct conn {
    const struct conn_ops *ops;
    struct net_conn *net; /* owned; null after close */
    bool peer_refused;    /* the handshake failed for who the peer is, or is not */
    bool peer_is_other;   /* of those: we trust its certificate, but it is another's */
    /* The alert by which the peer ended it, in words that live for ever; null: none. With TLS 1.3 a
     * server's verdict on its client comes when the client's handshake is done (RFC 8446 4.4.2.4).
     */
    const char *refused_us;
};

struct conn_ops {
    bool tls;
    /* Drives the handshake: IO_OK when done (plain: at once after connect), IO_AGAIN, IO_RESET with
     * *err. */
    enum io (*handshake)(struct conn *, struct error *err);
    enum io (*recv)(struct conn *, struct span, size_t *got);
    /* Sends from the front of `out`. IO_OK: nothing is left, in `out` or inside; IO_AGAIN: some is,
     * and the write event is wanted; IO_RESET. */
    enum io (*send)(struct conn *, struct buf *out);
    bool (*pending)(const struct conn *); /* bytes to read that no event will announce */
    /* End of our output: FIN; TLS: close_notify first. */
    void (*shutdown_send)(struct conn *);
    const struct conn_peer *(*peer)(const struct conn *); /* null on plain */
    struct slice (*alpn)(const struct conn *);            /* empty where none was agreed */
    struct slice (*sni)(const struct conn *);             /* server side: what the client named */
    void (*free)(struct conn *);                          /* releases all but the net_conn */
};

/* A plain stream over *net, which it takes. `early`: bytes that were read from it already (by
 * intake); they are copied and come first. */
struct conn *conn_plain(struct net_conn **net, struct slice early) MUST_USE;

/* The socket of a plain stream again, of which nothing was read that is not with the caller; frees
 * the stream. */
struct net_conn *conn_plain_take(struct conn **conn) MUST_USE;

static inline enum io conn_handshake(struct conn *conn, struct error *err)
{
    return conn->ops->handshake(conn, err);
}
static inline enum io conn_recv(struct conn *conn, struct span into, size_t *got)
{
    return conn->ops->recv(conn, into, got);
}
static inline enum io conn_send(struct conn *conn, struct buf *out)
{
    return conn->ops->send(conn, out);
}
static inline bool conn_pending(const struct conn *conn)
{
    return conn->ops->pending(conn);
}
static inline void conn_shutdown_send(struct conn *conn)
{
    conn->ops->shutdown_send(conn);
}
static inline const struct conn_peer *conn_peer(const struct conn *conn)
{
    return conn->ops->peer(conn);
}
static inline struct slice conn_alpn(const struct conn *conn)
{
    return conn->ops->alpn(conn);
}
static inline struct slice conn_sni(const struct conn *conn)
{
    return conn->ops->sni(conn);
}
/* Closes the socket (FIN where all was read, as the kernel decides; TLS sends close_notify first)
 * and frees; nulls the pointer. What is cut short must be conn_reset, or a TLS peer takes it for
 * whole. */
void conn_close(struct conn **conn);
/* Closes with RST. */
void conn_reset(struct conn **conn);
/* Sends the front of `out` straight to the socket: what plain streams and TLS output share. */
enum io conn_send_net(struct net_conn *net, struct buf *out);
