#include "tests/support/pipe_net.h"

#include "base/alloc.h"

struct pipe_end {
    struct net_conn conn;
    struct pipe_end *peer; /* null: it is gone */
    uint8_t *queue;        /* towards this end */
    size_t len;
    size_t cap;
    struct pipe_limits limits;
    unsigned calls;
    bool fin;
    bool reset;
    bool shut;
};

static struct pipe_end *end_of(struct net_conn *conn)
{
    return CONTAINER_OF(conn, struct pipe_end, conn);
}

static void wake(struct pipe_end *end, unsigned event)
{
    end->conn.ready |= (uint8_t)event;
    if (end->conn.owner != NULL && (end->conn.wanted & event) != 0) {
        loop_post(end->conn.loop, end->conn.owner);
    }
}

static enum io pipe_recv(struct net_conn *conn, struct span into, size_t *got)
{
    struct pipe_end *end = end_of(conn);
    end->calls++;
    *got = 0;
    if (end->reset) {
        return IO_RESET;
    }
    if (end->len == 0) {
        if (end->fin) {
            return IO_EOF;
        }
        conn->ready &= (uint8_t)~NET_READ;
        return IO_AGAIN;
    }
    size_t part = into.len < end->len ? into.len : end->len;
    if (end->limits.recv_max > 0 && part > end->limits.recv_max) {
        part = end->limits.recv_max;
    }
    (void)memcpy(into.at, end->queue, part);
    end->len -= part;
    (void)memmove(end->queue, end->queue + part, end->len);
    *got = part;
    if (end->len == 0 && !end->fin) {
        conn->ready &= (uint8_t)~NET_READ;
    }
    if (end->peer != NULL) {
        wake(end->peer, NET_WRITE);
    }
    return IO_OK;
}

static size_t room_for(const struct pipe_end *from, const struct pipe_end *to)
{
    size_t room = SIZE_MAX;
    if (from->limits.room > 0) {
        room = from->limits.room > to->len ? from->limits.room - to->len : 0;
    }
    return from->limits.send_max > 0 && from->limits.send_max < room ? from->limits.send_max : room;
}

static void enqueue(struct pipe_end *to, const void *bytes, size_t len)
{
    if (to->len + len > to->cap) {
        to->cap = 2 * (to->len + len);
        to->queue = mem_resize(to->queue, to->cap);
    }
    (void)memcpy(to->queue + to->len, bytes, len);
    to->len += len;
}

static enum io pipe_send(struct net_conn *conn, const struct iovec *vectors, int count,
                         size_t *sent)
{
    struct pipe_end *end = end_of(conn);
    end->calls++;
    *sent = 0;
    CHECK(!end->shut);
    if (end->peer == NULL || end->reset) {
        end->reset = true;
        return IO_RESET;
    }
    size_t room = room_for(end, end->peer);
    for (int i = 0; i < count && room > 0; i++) {
        size_t part = vectors[i].iov_len < room ? vectors[i].iov_len : room;
        enqueue(end->peer, vectors[i].iov_base, part);
        room -= part;
        *sent += part;
    }
    if (*sent == 0) {
        conn->ready &= (uint8_t)~NET_WRITE;
        return IO_AGAIN;
    }
    wake(end->peer, NET_READ);
    return IO_OK;
}

static void pipe_want(struct net_conn *conn, unsigned events)
{
    conn->wanted = (uint8_t)events;
    if ((conn->ready & events) != 0 && conn->owner != NULL) {
        loop_post(conn->loop, conn->owner);
    }
}

static void pipe_shutdown_send(struct net_conn *conn)
{
    struct pipe_end *end = end_of(conn);
    end->shut = true;
    if (end->peer != NULL) {
        end->peer->fin = true;
        wake(end->peer, NET_READ);
    }
}

static void pipe_close(struct net_conn **conn)
{
    struct pipe_end *end = end_of(*conn);
    *conn = NULL;
    if (end->peer != NULL) {
        end->peer->fin = true;
        end->peer->peer = NULL;
        wake(end->peer, NET_READ);
    }
    mem_free(end->queue);
    mem_free(end);
}

static void pipe_reset(struct net_conn **conn)
{
    struct pipe_end *peer = end_of(*conn)->peer;
    pipe_close(conn);
    if (peer != NULL) {
        peer->reset = true;
    }
}

static enum net_error pipe_error(const struct net_conn *conn)
{
    const struct pipe_end *end = CONTAINER_OF_CONST(conn, struct pipe_end, conn);
    return end->reset ? NET_ERROR_RESET : NET_ERROR_NONE;
}

static void pipe_set_option(struct net_conn *conn, enum net_option option, int value)
{
    (void)conn;
    (void)option;
    (void)value;
}

static const struct net_ops pipe_ops = {
    .recv = pipe_recv,
    .send = pipe_send,
    .want = pipe_want,
    .shutdown_send = pipe_shutdown_send,
    .reset = pipe_reset,
    .close = pipe_close,
    .set_option = pipe_set_option,
    .error = pipe_error,
};

const struct net_ops *pipe_net(void)
{
    return &pipe_ops;
}

void pipe_net_pair(struct loop *loop, const struct pipe_limits *limits, struct net_conn *ends[2])
{
    struct pipe_end *pair[2];
    for (unsigned i = 0; i < 2; i++) {
        pair[i] = NEW(struct pipe_end);
        pair[i]->conn.ops = &pipe_ops;
        pair[i]->conn.loop = loop;
        pair[i]->conn.ready = NET_WRITE;
        pair[i]->conn.wanted = NET_READ;
        pair[i]->limits = *limits;
        ends[i] = &pair[i]->conn;
    }
    pair[0]->peer = pair[1];
    pair[1]->peer = pair[0];
}

size_t pipe_net_waiting(const struct net_conn *end)
{
    return CONTAINER_OF_CONST(end, struct pipe_end, conn)->len;
}

unsigned pipe_net_calls(const struct net_conn *end)
{
    return CONTAINER_OF_CONST(end, struct pipe_end, conn)->calls;
}
