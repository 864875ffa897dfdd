#include "base/conn.h"

#include <string.h>

#include "base/alloc.h"
#include "base/loop.h"

#define SEND_VECTORS 32

/* `early` stands behind the struct until it has been read. */
struct plain_conn {
    struct conn conn;
    uint32_t early_len;
    uint32_t early_at;
    uint8_t early[];
};

static NOINLINE enum io send_pieces(struct net_conn *net, const struct buf *out, size_t *wanted,
                                    size_t *sent)
{
    struct iovec vectors[SEND_VECTORS];
    int count = buf_iovec(out, vectors, SEND_VECTORS);
    *wanted = 0;
    for (int i = 0; i < count; i++) {
        *wanted += vectors[i].iov_len;
    }
    return net_send(net, vectors, count, sent);
}

/* A head with a short body, a record: one piece, mostly. */
static enum io send_front(struct net_conn *net, const struct buf *out, size_t *wanted, size_t *sent)
{
    struct iovec one;
    *sent = 0;
    if (buf_iovec(out, &one, 1) == 1 && one.iov_len == out->len) {
        *wanted = one.iov_len;
        return net_send(net, &one, 1, sent);
    }
    return send_pieces(net, out, wanted, sent);
}

enum io conn_send_net(struct net_conn *net, struct buf *out)
{
    while (!buf_empty(out)) {
        size_t wanted;
        size_t sent;
        enum io result = send_front(net, out, &wanted, &sent);
        buf_consume(out, sent);
        if (result == IO_OK && sent < wanted) {
            net->ready &= (uint8_t)~NET_WRITE; /* a short write: the next would say IO_AGAIN */
            result = IO_AGAIN;
        }
        if (result == IO_AGAIN) {
            net_want(net, net->wanted | NET_WRITE);
            return IO_AGAIN;
        }
        if (result != IO_OK) {
            return result;
        }
    }
    if ((net->wanted & NET_WRITE) != 0 && !net->connecting) {
        net_want(net, net->wanted & ~(unsigned)NET_WRITE);
    }
    return IO_OK;
}

static struct plain_conn *plain_of(struct conn *conn)
{
    return CONTAINER_OF(conn, struct plain_conn, conn);
}

static enum io plain_handshake(struct conn *conn, struct error *err)
{
    if (conn->net->connecting) {
        return IO_AGAIN;
    }
    enum net_error failed = conn->net->ops->error(conn->net);
    if (failed != NET_ERROR_NONE) {
        (void)error_set(err, "%s", net_error_text(failed));
        return IO_RESET;
    }
    /* The write event has told what it was wanted for; left wanted, it comes in every tick. */
    net_want(conn->net, conn->net->wanted & ~(unsigned)NET_WRITE);
    return IO_OK;
}

static enum io plain_recv(struct conn *conn, struct span into, size_t *got)
{
    struct plain_conn *plain = plain_of(conn);
    uint32_t left = plain->early_len - plain->early_at;
    if (LIKELY(left == 0)) {
        return net_recv(conn->net, into, got);
    }
    size_t part = left < into.len ? left : into.len;
    (void)memcpy(into.at, plain->early + plain->early_at, part);
    plain->early_at += (uint32_t)part;
    *got = part;
    return IO_OK;
}

static enum io plain_send(struct conn *conn, struct buf *out)
{
    return conn_send_net(conn->net, out);
}

static bool plain_pending(const struct conn *conn)
{
    const struct plain_conn *plain = CONTAINER_OF_CONST(conn, struct plain_conn, conn);
    return plain->early_at < plain->early_len;
}

static void plain_shutdown_send(struct conn *conn)
{
    conn->net->ops->shutdown_send(conn->net);
}

static const struct conn_peer *plain_peer(const struct conn *conn)
{
    (void)conn;
    return NULL;
}

static struct slice plain_no_name(const struct conn *conn)
{
    (void)conn;
    return (struct slice){NULL, 0};
}

static void plain_free(struct conn *conn)
{
    mem_free(plain_of(conn));
}

static const struct conn_ops plain_ops = {
    .tls = false,
    .handshake = plain_handshake,
    .recv = plain_recv,
    .send = plain_send,
    .pending = plain_pending,
    .shutdown_send = plain_shutdown_send,
    .peer = plain_peer,
    .alpn = plain_no_name,
    .sni = plain_no_name,
    .free = plain_free,
};

struct conn *conn_plain(struct net_conn **net, struct slice early)
{
    CHECK(early.len <= UINT32_MAX);
    struct plain_conn *plain = mem_new(sizeof *plain + early.len);
    plain->conn.ops = &plain_ops;
    plain->conn.net = *net;
    *net = NULL;
    plain->early_len = (uint32_t)early.len;
    if (early.len > 0) {
        (void)memcpy(plain->early, early.at, early.len);
    }
    return &plain->conn;
}

struct net_conn *conn_plain_take(struct conn **conn)
{
    CHECK((*conn)->ops == &plain_ops);
    CHECK(!plain_pending(*conn));
    struct net_conn *net = (*conn)->net;
    plain_free(*conn);
    *conn = NULL;
    return net;
}

void conn_close(struct conn **conn)
{
    if (*conn != NULL) {
        struct net_conn *net = (*conn)->net;
        if ((*conn)->ops->tls) {
            (*conn)->ops->shutdown_send(*conn); /* close_notify: this end is no cut */
        }
        (*conn)->ops->free(*conn);
        net->ops->close(&net);
        *conn = NULL;
    }
}

void conn_reset(struct conn **conn)
{
    if (*conn != NULL) {
        struct net_conn *net = (*conn)->net;
        (*conn)->ops->free(*conn);
        net->ops->reset(&net);
        *conn = NULL;
    }
}
