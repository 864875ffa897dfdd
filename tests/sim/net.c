/* The table behind base/net.h. Refused: a real TCP (loss, retransmission): the sidecar cannot see
 * them through recv and send but as delay and reset, which are here. */
#include <string.h>

#include "base/alloc.h"
#include "tests/sim/link.h"

#define ACCEPT_RETRY_US 1000

static const struct net_ops world_ops;

static struct world *world_of(const struct loop *loop)
{
    return ((struct host *)loop->world)->world;
}

static const struct {
    enum world_call call;
    const char *name;
} failings[] = {
#define X(name, call, word) {WORLD_##call, #name},
    WORLD_FAILINGS(X)
#undef X
};

enum world_call world_failing_call(enum world_failing failing)
{
    return failings[failing].call;
}

const char *world_failing_name(enum world_failing failing)
{
    return failings[failing].name;
}

/* Whether this call is the one that fails. */
static bool fails(const struct loop *loop, enum world_call call)
{
    const struct host *host = loop->world;
    struct world *world = host->world;
    if (!host->sidecar) {
        return false;
    }
    world->calls[call]++;
    bool now = world->fail_at != 0 && failings[world->fail_how].call == call &&
               world->calls[call] == world->fail_at;
    if (now) {
        world->failed = host;
        world_note(world, "call fails", world->fail_how, world->fail_at, 0);
    }
    return now;
}

/* The connection of that end is gone by a call that failed. */
static enum io fail_end(struct end *end, enum net_error error)
{
    end->link->world->failed_peer = peer_of(end)->addr;
    end_kill(end, error);
    end->queue_at = end->queue_len;
    end_finish(end, SEGMENT_RST);
    return IO_RESET;
}

static struct sim_listener *new_listener(struct loop *loop, struct sim_socket *socket)
{
    struct sim_listener *listener = NEW(struct sim_listener);
    listener->listener = (struct net_listener){.ops = &world_ops, .loop = loop};
    listener->socket = socket;
    list_append(&socket->listeners, &listener->in_socket);
    return listener;
}

static struct sim_listener *listener_of(struct net_listener *base)
{
    return CONTAINER_OF(base, struct sim_listener, listener);
}

static struct net_listener *sim_listen(struct loop *loop, const struct addr *at, int backlog,
                                       struct error *err)
{
    struct world *world = world_of(loop);
    (void)backlog;
    if (socket_find(world, at) != NULL) {
        (void)error_set(err, "listen: address in use");
        return NULL;
    }
    struct sim_socket *socket = NEW(struct sim_socket);
    socket->addr = *at;
    list_init(&socket->backlog);
    list_init(&socket->listeners);
    list_append(&world->sockets, &socket->in_world);
    return &new_listener(loop, socket)->listener;
}

static struct net_listener *sim_share(struct net_listener *base, struct loop *loop)
{
    return &new_listener(loop, listener_of(base)->socket)->listener;
}

static void sim_local(const struct net_listener *base, struct addr *addr)
{
    *addr = CONTAINER_OF_CONST(base, struct sim_listener, listener)->socket->addr;
}

static void sim_accepting(struct net_listener *base, bool accepting)
{
    listener_of(base)->accepting = accepting;
}

static void close_socket(struct sim_socket *socket)
{
    for (struct list *node = list_pop(&socket->backlog); node != NULL;
         node = list_pop(&socket->backlog)) {
        struct sim_link *link = LIST_ITEM(node, struct sim_link, backlog);
        end_finish(&link->end[1], SEGMENT_RST);
        end_let_go(&link->end[1]);
    }
    list_remove(&socket->in_world);
    mem_free(socket);
}

static void sim_unlisten(struct net_listener **base)
{
    struct sim_listener *listener = listener_of(*base);
    *base = NULL;
    list_remove(&listener->in_socket);
    if (list_empty(&listener->socket->listeners)) {
        close_socket(listener->socket);
    }
    mem_free(listener);
}

static void redirect(const struct host *host, struct sim_link *link)
{
    const struct world *world = host->world;
    bool own = addr_ip_eq(&host->pod->ip, &link->to);
    if (!host->sidecar && !own && host->pod->outbound.family != ADDR_NONE) {
        link->to = host->pod->outbound;
        return;
    }
    for (unsigned i = 0; i < world->pod_count; i++) {
        const struct pod *pod = &world->pods[i];
        bool from_elsewhere = pod != host->pod;
        if (pod->inbound.family != ADDR_NONE && from_elsewhere && addr_ip_eq(&pod->ip, &link->to)) {
            link->to = pod->inbound;
            return;
        }
    }
}

static const struct world_shape *shape_of(const struct world *world, const struct addr *to)
{
    for (unsigned i = world->shape_count; i-- > 0;) {
        if (addr_eq(&world->shapes[i].at, to)) {
            return &world->shapes[i].shape;
        }
    }
    return &world->shape;
}

static const struct pod *pod_of(const struct world *world, const struct addr *at)
{
    for (unsigned i = 0; i < world->pod_count; i++) {
        if (addr_ip_eq(&world->pods[i].ip, at)) {
            return &world->pods[i];
        }
    }
    return NULL;
}

static enum net_error connect_error(enum world_failing how)
{
    return how == WORLD_FAIL_CONNECT_LIMIT     ? NET_ERROR_LIMIT
           : how == WORLD_FAIL_CONNECT_REFUSED ? NET_ERROR_REFUSED
                                               : NET_ERROR_UNREACHABLE;
}

static struct net_conn *sim_connect(struct loop *loop, const struct addr *to,
                                    const struct addr *from, enum net_error *error)
{
    struct host *host = loop->world;
    struct world *world = host->world;
    bool failed = fails(loop, WORLD_CONNECT);
    if (failed && world->fail_how != WORLD_FAIL_CONNECT_TIMEOUT) {
        *error = connect_error(world->fail_how);
        return NULL;
    }
    struct sim_link *link = NEW(struct sim_link);
    link->world = world;
    link->number = ++world->next_link;
    link->to = *to;
    link->original = *to;
    redirect(host, link);
    link->shape = *shape_of(world, &link->to);
    link->pods[0] = host->pod;
    link->pods[1] = pod_of(world, &link->to);
    for (unsigned i = 0; i < 2; i++) {
        struct end *end = &link->end[i];
        end->link = link;
        end->conn = (struct net_conn){.ops = &world_ops, .loop = loop, .wanted = NET_READ};
        list_init(&end->arriving);
    }
    struct end *end = &link->end[0];
    end->addr = from != NULL ? *from : host->pod->ip;
    end->addr.port = world->next_port++;
    link->end[1].addr = *to;
    link->end[1].established = true;
    end->conn.connecting = true;
    end->conn.wanted = NET_READ | NET_WRITE;
    end_hold(end);
    world_note(world, "connect", link->number, to->ip[3], to->port);
    if (failed) {
        end->established = true; /* as far as the write event goes */
        end_kill(end, NET_ERROR_TIMEOUT);
        world_at(world, world->now_us + 1, NULL);
    } else {
        (void)end_deliver(&link->end[1], SEGMENT_SYN, 0);
    }
    *error = NET_ERROR_NONE;
    return &end->conn;
}

static struct net_conn *sim_accept(struct net_listener *base)
{
    struct sim_listener *listener = listener_of(base);
    struct world *world = world_of(base->loop);
    if (list_empty(&listener->socket->backlog)) {
        return NULL;
    }
    bool failed = fails(base->loop, WORLD_ACCEPT);
    if (failed && world->fail_how == WORLD_FAIL_ACCEPT_LIMIT) {
        listener->failed_until_us = world->now_us + ACCEPT_RETRY_US;
        world_at(world, listener->failed_until_us, NULL);
        return NULL;
    }
    struct sim_link *link = LIST_ITEM(listener->socket->backlog.next, struct sim_link, backlog);
    list_remove(&link->backlog);
    struct end *end = &link->end[1];
    if (failed) {
        (void)fail_end(end, NET_ERROR_RESET);
        end_let_go(end);
        return NULL;
    }
    world_note(world, "accept", link->number, 0, 0);
    end->conn.loop = base->loop;
    return &end->conn;
}

static size_t torn(struct end *end, size_t len)
{
    uint32_t most = end->link->shape.torn_max;
    if (most == 0 || len <= 1) {
        return len;
    }
    return (size_t)world_between(end->link->world, 1, most < len ? most : len);
}

static enum io sim_recv(struct net_conn *conn, struct span into, size_t *got)
{
    struct end *end = end_of(conn);
    *got = 0;
    CHECK(into.len > 0);
    if (fails(conn->loop, WORLD_RECV)) {
        enum world_failing how = end->link->world->fail_how;
        conn->ready &= (uint8_t)~NET_READ;
        return how == WORLD_FAIL_RECV_AGAIN     ? IO_AGAIN
               : how == WORLD_FAIL_RECV_TIMEOUT ? fail_end(end, NET_ERROR_TIMEOUT)
                                                : fail_end(end, NET_ERROR_RESET);
    }
    size_t waiting = end->queue_len - end->queue_at;
    if (waiting > 0) {
        size_t part = torn(end, waiting < into.len ? waiting : into.len);
        (void)memcpy(into.at, end->queue + end->queue_at, part);
        end->queue_at += part;
        *got = part;
        if (part < into.len) {
            conn->ready &= (uint8_t)~NET_READ;
        }
        struct end *peer = peer_of(end);
        if (peer->blocked) {
            (void)end_deliver(peer, SEGMENT_ROOM, 0);
        }
        return IO_OK;
    }
    if (end->dead) {
        return IO_RESET;
    }
    if (end->fin) {
        return IO_EOF;
    }
    conn->ready &= (uint8_t)~NET_READ;
    return IO_AGAIN;
}

static enum io sim_send(struct net_conn *conn, const struct iovec *vectors, int count, size_t *sent)
{
    struct end *end = end_of(conn);
    size_t len = 0;
    *sent = 0;
    CHECK(!end->shut || end->dead);
    if (fails(conn->loop, WORLD_SEND)) {
        enum world_failing how = end->link->world->fail_how;
        conn->ready &= (uint8_t)~NET_WRITE;
        return how == WORLD_FAIL_SEND_AGAIN     ? IO_AGAIN
               : how == WORLD_FAIL_SEND_TIMEOUT ? fail_end(end, NET_ERROR_TIMEOUT)
                                                : fail_end(end, NET_ERROR_RESET);
    }
    if (end->dead) {
        return IO_RESET;
    }
    for (int i = 0; i < count; i++) {
        len += vectors[i].iov_len;
    }
    CHECK(len > 0);
    size_t room = end_room(end);
    if (room == 0 || conn->connecting) {
        end->blocked = room == 0;
        conn->ready &= (uint8_t)~NET_WRITE;
        return IO_AGAIN;
    }
    len = torn(end, len < room ? len : room);
    struct segment *segment = end_deliver(peer_of(end), SEGMENT_DATA, len);
    uint64_t sum = 0;
    for (int i = 0; i < count && *sent < len; i++) {
        size_t part = vectors[i].iov_len < len - *sent ? vectors[i].iov_len : len - *sent;
        (void)memcpy(segment->bytes + *sent, vectors[i].iov_base, part);
        *sent += part;
    }
    for (size_t i = 0; i < len; i++) {
        sum = sum * 31 + segment->bytes[i];
    }
    world_note(end->link->world, "send", end->link->number, side_of(end), sum);
    return IO_OK;
}

static bool sim_original_dst(const struct net_conn *conn, struct addr *addr)
{
    const struct end *end = CONTAINER_OF_CONST(conn, struct end, conn);
    *addr = end->link->original;
    return true;
}

static void sim_want(struct net_conn *conn, unsigned events)
{
    conn->wanted = (uint8_t)events;
}
static void sim_shutdown_send(struct net_conn *conn)
{
    struct end *end = end_of(conn);
    CHECK(!end->shut || end->dead);
    if (!end->dead) {
        end_finish(end, SEGMENT_FIN);
    }
    end->shut = true;
}

static void sim_reset(struct net_conn **conn)
{
    struct end *end = end_of(*conn);
    *conn = NULL;
    world_note(end->link->world, "reset", end->link->number, side_of(end), 0);
    if (!end->dead) {
        end_finish(end, SEGMENT_RST);
    }
    end_let_go(end);
}

static void sim_close(struct net_conn **conn)
{
    struct end *end = end_of(*conn);
    *conn = NULL;
    bool unread = end->queue_at < end->queue_len;
    world_note(end->link->world, "close", end->link->number, side_of(end), unread);
    if (!end->dead && (unread || end->conn.connecting)) {
        end_finish(end, SEGMENT_RST);
    } else if (!end->dead && !end->shut) {
        end_finish(end, SEGMENT_FIN);
    }
    end_let_go(end);
}

static void sim_detach(struct net_conn *conn)
{
    conn->loop = NULL;
    conn->owner = NULL;
    conn->ready = 0;
}

static void sim_adopt(struct loop *loop, struct net_conn *conn)
{
    CHECK(conn->loop == NULL);
    conn->loop = loop;
    conn->wanted = NET_READ;
}

static void sim_addrs(const struct net_conn *conn, struct addr *local, struct addr *peer)
{
    const struct end *end = CONTAINER_OF_CONST(conn, struct end, conn);
    if (local != NULL) {
        *local = side_of(end) == 1 ? end->link->to : end->addr;
    }
    if (peer != NULL) {
        *peer = peer_of(end)->addr;
    }
}

static void sim_set_option(struct net_conn *conn, enum net_option option, int value)
{
    (void)conn;
    (void)option;
    (void)value;
}

static enum net_error sim_error(const struct net_conn *conn)
{
    return CONTAINER_OF_CONST(conn, struct end, conn)->error;
}

static const struct net_ops world_ops = {
    .listen = sim_listen,
    .local = sim_local,
    .accepting = sim_accepting,
    .share = sim_share,
    .unlisten = sim_unlisten,
    .connect = sim_connect,
    .accept = sim_accept,
    .recv = sim_recv,
    .send = sim_send,
    .original_dst = sim_original_dst,
    .want = sim_want,
    .shutdown_send = sim_shutdown_send,
    .reset = sim_reset,
    .close = sim_close,
    .detach = sim_detach,
    .adopt = sim_adopt,
    .addrs = sim_addrs,
    .set_option = sim_set_option,
    .error = sim_error,
};

const struct net_ops *world_net(void)
{
    return &world_ops;
}
