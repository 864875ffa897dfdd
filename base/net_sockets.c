/* The kernel's sockets as a net table, over libev. One ev_io a connection, whose events follow
 * `wanted`. */
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/loop.h"
#include "base/net.h"

/* linux/netfilter_ipv4.h and netfilter_ipv6/ip6_tables.h, which clash with netinet/in.h, call
 * it 80. */
#define ORIGINAL_DST 80

struct socket_conn {
    struct net_conn conn; /* first: the table's functions cast */
    ev_io watcher;
    struct addr peer; /* of an accepted connection; ADDR_NONE: ask the kernel */
    enum net_error error;
};

struct socket_listener {
    struct net_listener listener;
    ev_io watcher;
    int fd;
};

static struct socket_conn *socket_of(struct net_conn *conn)
{
    return CONTAINER_OF(conn, struct socket_conn, conn);
}

static int fd_of(const struct net_conn *conn)
{
    return CONTAINER_OF_CONST(conn, struct socket_conn, conn)->watcher.fd;
}

static enum net_error error_of(int number)
{
    switch (number) {
    case 0:
        return NET_ERROR_NONE;
    case ECONNREFUSED:
        return NET_ERROR_REFUSED;
    case ETIMEDOUT:
        return NET_ERROR_TIMEOUT;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
        return NET_ERROR_UNREACHABLE;
    case ECONNRESET:
    case EPIPE:
        return NET_ERROR_RESET;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EAGAIN:
        return NET_ERROR_LIMIT;
    default:
        return NET_ERROR_OTHER;
    }
}

static void finish_connect(struct socket_conn *socket_at)
{
    int number = 0;
    socklen_t len = sizeof number;
    (void)getsockopt(socket_at->watcher.fd, SOL_SOCKET, SO_ERROR, &number, &len);
    socket_at->error = error_of(number);
    socket_at->conn.connecting = false;
}

static void on_event(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    struct socket_conn *socket_at = CONTAINER_OF(watcher, struct socket_conn, watcher);
    struct net_conn *conn = &socket_at->conn;
    if (conn->connecting && (events & EV_WRITE) != 0) {
        finish_connect(socket_at);
    }
    conn->ready |= (events & EV_READ) != 0 ? NET_READ : 0;
    conn->ready |= (events & EV_WRITE) != 0 ? NET_WRITE : 0;
    if (conn->owner != NULL) {
        loop_post(conn->loop, conn->owner);
    }
}

static void socket_want(struct net_conn *conn, unsigned events)
{
    struct socket_conn *socket_at = socket_of(conn);
    conn->wanted = (uint8_t)events;
    int wanted =
        ((events & NET_READ) != 0 ? EV_READ : 0) | ((events & NET_WRITE) != 0 ? EV_WRITE : 0);
    ev_io_stop(conn->loop->ev, &socket_at->watcher);
    if (wanted != 0) {
        ev_io_modify(&socket_at->watcher, wanted);
        ev_io_start(conn->loop->ev, &socket_at->watcher);
    }
}

static const struct net_ops socket_ops;

static struct net_conn *socket_new(struct loop *loop, int fd)
{
    struct socket_conn *socket_at = NEW(struct socket_conn);
    socket_at->conn.ops = &socket_ops;
    socket_at->conn.loop = loop;
    ev_io_init(&socket_at->watcher, on_event, fd, EV_READ);
    return &socket_at->conn;
}

static struct net_listener *socket_listen(struct loop *loop, const struct addr *at, int backlog,
                                          struct error *err)
{
    struct sockaddr_storage name;
    socklen_t len = addr_to_socket(at, &name);
    char text[ADDR_TEXT_MAX];
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0) {
        (void)error_errno(err, "listen on %s", addr_format(at, text));
        return NULL;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted ones inherit it */
    if (name.ss_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (bind(fd, (struct sockaddr *)&name, len) != 0 || listen(fd, backlog) != 0) {
        (void)error_errno(err, "listen on %s", addr_format(at, text));
        (void)close(fd);
        return NULL;
    }
    struct socket_listener *listener = NEW(struct socket_listener);
    listener->listener = (struct net_listener){.ops = &socket_ops, .loop = loop};
    listener->fd = fd;
    return &listener->listener;
}

static void on_connection(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    (void)events;
    struct socket_listener *listener = CONTAINER_OF(watcher, struct socket_listener, watcher);
    if (listener->listener.owner != NULL) {
        loop_post(listener->listener.loop, listener->listener.owner);
    }
}

static void socket_local(const struct net_listener *listener, struct addr *local)
{
    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof name;
    (void)getsockname(CONTAINER_OF_CONST(listener, struct socket_listener, listener)->fd,
                      (struct sockaddr *)&name, &len);
    *local = addr_from_socket(&name);
}

static void socket_listener_accepting(struct net_listener *base, bool accepting)
{
    struct socket_listener *listener = CONTAINER_OF(base, struct socket_listener, listener);
    if (accepting && !ev_is_active(&listener->watcher)) {
        ev_io_init(&listener->watcher, on_connection, listener->fd, EV_READ);
        ev_io_start(base->loop->ev, &listener->watcher);
    } else if (!accepting) {
        ev_io_stop(base->loop->ev, &listener->watcher);
    }
}

static struct net_listener *socket_share(struct net_listener *base, struct loop *loop)
{
    struct socket_listener *listener = CONTAINER_OF(base, struct socket_listener, listener);
    int fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
    CHECK(fd >= 0);
    struct socket_listener *other = NEW(struct socket_listener);
    other->listener = (struct net_listener){.ops = &socket_ops, .loop = loop};
    other->fd = fd;
    return &other->listener;
}

static void socket_unlisten(struct net_listener **base)
{
    struct socket_listener *listener = CONTAINER_OF(*base, struct socket_listener, listener);
    ev_io_stop((*base)->loop->ev, &listener->watcher);
    (void)close(listener->fd);
    mem_free(listener);
    *base = NULL;
}

static struct net_conn *socket_connect(struct loop *loop, const struct addr *to,
                                       const struct addr *from, enum net_error *error)
{
    struct sockaddr_storage name;
    socklen_t len = addr_to_socket(to, &name);
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *error = error_of(errno);
        return NULL;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (from != NULL) {
        struct sockaddr_storage source;
        socklen_t source_len = addr_to_socket(from, &source);
        /* The port is chosen at connect, by the four-tuple: else one source address has 28,000 in
         * all. */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&source, source_len) != 0) {
            *error = error_of(errno);
            (void)close(fd);
            return NULL;
        }
    }
    if (connect(fd, (struct sockaddr *)&name, len) != 0 && errno != EINPROGRESS) {
        *error = error_of(errno);
        (void)close(fd);
        return NULL;
    }
    *error = NET_ERROR_NONE;
    struct net_conn *conn = socket_new(loop, fd);
    conn->connecting = true;
    socket_want(conn, NET_READ | NET_WRITE);
    return conn;
}

static struct net_conn *socket_accept(struct net_listener *base)
{
    struct socket_listener *listener = CONTAINER_OF(base, struct socket_listener, listener);
    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof name;
    int fd = accept4(listener->fd, (struct sockaddr *)&name, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    struct net_conn *conn = socket_new(base->loop, fd);
    socket_of(conn)->peer = addr_from_socket(&name);
    socket_want(conn, NET_READ);
    return conn;
}

static enum io socket_failed(struct net_conn *conn, int number, unsigned event)
{
    if (number == EAGAIN || number == EINTR) {
        conn->ready &= (uint8_t)~event;
        return IO_AGAIN;
    }
    socket_of(conn)->error = error_of(number);
    return IO_RESET;
}

/* recv and send without glibc's readiness to have the thread cancelled in them, which nobody does:
 * in a process with threads it takes more instructions than all the rest of such a call. */
static ssize_t plain_recv(int fd, void *at, size_t len)
{
    return syscall(SYS_recvfrom, fd, at, len, 0, NULL, NULL);
}

static ssize_t plain_send(int fd, const void *at, size_t len)
{
    return syscall(SYS_sendto, fd, at, len, MSG_NOSIGNAL, NULL, 0);
}

static enum io socket_recv(struct net_conn *conn, struct span into, size_t *got)
{
    ssize_t len = plain_recv(fd_of(conn), into.at, into.len);
    *got = len > 0 ? (size_t)len : 0;
    if (len < 0) {
        return socket_failed(conn, errno, NET_READ);
    }
    if (len == 0) {
        return IO_EOF;
    }
    if ((size_t)len < into.len) {
        conn->ready &=
            (uint8_t)~NET_READ; /* a short read: nothing is left, spare the call that says so */
    }
    return IO_OK;
}

static enum io socket_send(struct net_conn *conn, const struct iovec *vectors, int count,
                           size_t *sent)
{
    union {
        const struct iovec *in;
        struct iovec *out;
    } iov = {.in = vectors};
    ssize_t len;
    if (count == 1) {
        len = plain_send(fd_of(conn), vectors->iov_base, vectors->iov_len);
    } else {
        struct msghdr message = {.msg_iov = iov.out, .msg_iovlen = (size_t)count};
        len = sendmsg(fd_of(conn), &message, MSG_NOSIGNAL);
    }
    *sent = len > 0 ? (size_t)len : 0;
    return len < 0 ? socket_failed(conn, errno, NET_WRITE) : IO_OK;
}

static bool socket_original_dst(const struct net_conn *conn, struct addr *dst)
{
    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof name;
    if (getsockopt(fd_of(conn), SOL_IP, ORIGINAL_DST, &name, &len) != 0) {
        len = sizeof name;
        if (getsockopt(fd_of(conn), SOL_IPV6, ORIGINAL_DST, &name, &len) != 0) {
            return false;
        }
    }
    *dst = addr_from_socket(&name);
    return dst->family != ADDR_NONE;
}

static void socket_shutdown_send(struct net_conn *conn)
{
    (void)shutdown(fd_of(conn), SHUT_WR);
}

static void socket_close(struct net_conn **conn)
{
    struct socket_conn *socket_at = socket_of(*conn);
    if ((*conn)->loop != NULL) {
        ev_io_stop((*conn)->loop->ev, &socket_at->watcher);
    }
    (void)close(socket_at->watcher.fd);
    mem_free(socket_at);
    *conn = NULL;
}

static void socket_reset(struct net_conn **conn)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd_of(*conn), SOL_SOCKET, SO_LINGER, &none, sizeof none);
    socket_close(conn);
}

static void socket_detach(struct net_conn *conn)
{
    socket_want(conn, 0);
    conn->loop = NULL;
    conn->owner = NULL;
    conn->ready = 0;
}

static void socket_adopt(struct loop *loop, struct net_conn *conn)
{
    CHECK(conn->loop == NULL);
    conn->loop = loop;
    socket_want(conn, NET_READ);
}

static void socket_addrs(const struct net_conn *conn, struct addr *local, struct addr *peer)
{
    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof name;
    if (local != NULL) {
        (void)getsockname(fd_of(conn), (struct sockaddr *)&name, &len);
        *local = addr_from_socket(&name);
    }
    if (peer != NULL &&
        CONTAINER_OF_CONST(conn, struct socket_conn, conn)->peer.family != ADDR_NONE) {
        *peer = CONTAINER_OF_CONST(conn, struct socket_conn, conn)->peer;
    } else if (peer != NULL) {
        name.ss_family = AF_UNSPEC;
        len = sizeof name;
        (void)getpeername(fd_of(conn), (struct sockaddr *)&name, &len);
        *peer = addr_from_socket(&name);
    }
}

static void socket_set_option(struct net_conn *conn, enum net_option option, int value)
{
    int fd = fd_of(conn);
    switch (option) {
    case NET_NODELAY:
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value);
        break;
    case NET_NOTSENT_LOWAT:
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof value);
        break;
    case NET_KEEPALIVE_S: {
        int on = value > 0;
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        if (on) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value);
            (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &value, sizeof value);
        }
        break;
    }
    case NET_USER_TIMEOUT_MS:
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value);
        break;
    }
}

static enum net_error socket_error(const struct net_conn *conn)
{
    return CONTAINER_OF_CONST(conn, struct socket_conn, conn)->error;
}

static const struct net_ops socket_ops = {
    .listen = socket_listen,
    .local = socket_local,
    .accepting = socket_listener_accepting,
    .share = socket_share,
    .unlisten = socket_unlisten,
    .connect = socket_connect,
    .accept = socket_accept,
    .recv = socket_recv,
    .send = socket_send,
    .original_dst = socket_original_dst,
    .want = socket_want,
    .shutdown_send = socket_shutdown_send,
    .reset = socket_reset,
    .close = socket_close,
    .detach = socket_detach,
    .adopt = socket_adopt,
    .addrs = socket_addrs,
    .set_option = socket_set_option,
    .error = socket_error,
};

const struct net_ops *net_sockets(void)
{
    return &socket_ops;
}

static bool is_reachable(const struct ifaddrs *entry, struct addr *addr)
{
    struct sockaddr_storage socket = {.ss_family = AF_UNSPEC};
    if (entry->ifa_addr == NULL || (entry->ifa_flags & IFF_UP) == 0) {
        return false;
    }
    sa_family_t family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) {
        return false;
    }
    (void)memcpy(&socket, entry->ifa_addr,
                 family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    *addr = addr_from_socket(&socket);
    addr->port = 0;
    bool link_only =
        addr->family == ADDR_IPV6 && addr->ip[0] == 0xfe && (addr->ip[1] & 0xc0) == 0x80;
    return addr->family != ADDR_NONE && !addr_is_loopback(addr) && !link_only;
}

bool net_own_addr(struct addr *addr)
{
    struct ifaddrs *list;
    struct addr each;
    *addr = (struct addr){.family = ADDR_NONE};
    if (getifaddrs(&list) != 0) {
        return false;
    }
    for (const struct ifaddrs *entry = list; entry != NULL; entry = entry->ifa_next) {
        bool better =
            is_reachable(entry, &each) &&
            (addr->family == ADDR_NONE || (addr->family == ADDR_IPV6 && each.family == ADDR_IPV4));
        if (better) {
            *addr = each;
        }
    }
    freeifaddrs(list);
    return addr->family != ADDR_NONE;
}
