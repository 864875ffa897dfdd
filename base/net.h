#pragma once
/* The seam to the kernel. Above it a connection is opaque: no file descriptor, no errno. Two tables
 * fulfil it: sockets (base/net_sockets.c) and the simulator's (tests/sim). A connection belongs to
 * the thread of its loop; detach and adopt hand it to another.
 *
 * Readiness: an event sets bits in `ready` and posts the owner's task; recv and send clear their
 * bit when the kernel has no more. Read events are wanted from the start and stay wanted over idle
 * (stopping them costs a system call and hides FIN and RST); an owner that does not read must say
 * so with net_want, or it is posted again each tick. Write events are wanted only after IO_AGAIN
 * from send. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/addr.h"
#include "base/error.h"
#include "base/slice.h"

struct loop;
struct task;

enum io {
    IO_OK,    /* at least one byte went; for recv of what is left see `ready` */
    IO_AGAIN, /* nothing now; the owner is posted when there is */
    IO_EOF,   /* the peer sent FIN; sending may still work */
    IO_RESET  /* the connection is gone: net_error says how */
};

enum { NET_READ = 1, NET_WRITE = 2 };

/* X(value, text for logs and Proxy-Status details) */
#define NET_ERRORS(X)                                                                              \
    X(NONE, "no error")                                                                            \
    X(REFUSED, "connection refused")                                                               \
    X(TIMEOUT, "connection timed out")                                                             \
    X(UNREACHABLE, "no route to host")                                                             \
    X(RESET, "connection reset by peer")                                                           \
    X(LIMIT, "no file descriptor or port left")                                                    \
    X(OTHER, "connection failed")

enum net_error {
#define X(value, text) NET_ERROR_##value,
    NET_ERRORS(X)
#undef X
};
const char *net_error_text(enum net_error error);

enum net_option {
    NET_NODELAY,        /* bool */
    NET_NOTSENT_LOWAT,  /* bytes (TCP_NOTSENT_LOWAT) */
    NET_KEEPALIVE_S,    /* seconds of idleness before and between TCP keep-alive probes; 0: off */
    NET_USER_TIMEOUT_MS /* TCP_USER_TIMEOUT */
};

/* Common beginning of every table's connection. */
struct net_conn {
    const struct net_ops *ops;
    struct loop *loop;
    struct task *owner; /* posted on readiness; null while parked in a mailbox */
    uint8_t ready;      /* NET_READ | NET_WRITE */
    uint8_t wanted;     /* the events that the owner waits for */
    bool connecting;    /* until the first write event */
};

struct net_listener {
    const struct net_ops *ops;
    struct loop *loop;
    struct task *owner; /* posted when a connection waits */
};

struct net_ops {
    struct net_listener *(*listen)(struct loop *, const struct addr *, int backlog, struct error *);
    void (*local)(const struct net_listener *,
                  struct addr *); /* where it listens: port 0 was chosen */
    /* Whether waiting connections post the owner; off at first, and while file descriptors are used
     * up. */
    void (*accepting)(struct net_listener *, bool accepting);
    /* The same listening socket in another thread's loop: both take from one queue. */
    struct net_listener *(*share)(struct net_listener *, struct loop *);
    void (*unlisten)(struct net_listener **);
    /* `from`: null or the source address to bind. The first write event completes it; net_error
     * tells. */
    struct net_conn *(*connect)(struct loop *, const struct addr *to, const struct addr *from,
                                enum net_error *);
    struct net_conn *(*accept)(struct net_listener *); /* null: none left */
    enum io (*recv)(struct net_conn *, struct span, size_t *got);
    enum io (*send)(struct net_conn *, const struct iovec *, int count, size_t *sent);
    /* Where the client meant to go before a redirect; false where the kernel has no record of one.
     * Without a redirect it may return the listener's own address. */
    bool (*original_dst)(const struct net_conn *, struct addr *);
    void (*want)(struct net_conn *, unsigned read_write);
    void (*shutdown_send)(struct net_conn *);
    void (*reset)(struct net_conn **); /* RST to the peer, then gone */
    void (*close)(struct net_conn **);
    void (*detach)(struct net_conn *); /* out of its loop, without owner */
    void (*adopt)(struct loop *, struct net_conn *);
    /* Either may be null, which spares its system call. */
    void (*addrs)(const struct net_conn *, struct addr *local, struct addr *peer);
    void (*set_option)(struct net_conn *, enum net_option, int);
    enum net_error (*error)(const struct net_conn *);
};

static inline enum io net_recv(struct net_conn *conn, struct span into, size_t *got)
{
    return conn->ops->recv(conn, into, got);
}

static inline enum io net_send(struct net_conn *conn, const struct iovec *vectors, int count,
                               size_t *sent)
{
    return conn->ops->send(conn, vectors, count, sent);
}

/* Which events post the owner; a combination of NET_READ and NET_WRITE. */
static inline void net_want(struct net_conn *conn, unsigned events)
{
    if (conn->wanted != events) {
        conn->ops->want(conn, events);
    }
}

/* Listening and connecting through the table of a loop. See net_ops. */
struct net_listener *net_listen(struct loop *loop, const struct addr *at, int backlog,
                                struct error *err) MUST_USE;
struct net_conn *net_connect(struct loop *loop, const struct addr *to, const struct addr *from,
                             enum net_error *error) MUST_USE;
/* An address under which others may reach this machine or namespace: the first of an interface that
 * is up, IPv4 before IPv6, neither loopback nor of the link alone; port 0. False: there is none. At
 * start. */
bool net_own_addr(struct addr *addr) MUST_USE;
/* The kernel's sockets. */
const struct net_ops *net_sockets(void);
