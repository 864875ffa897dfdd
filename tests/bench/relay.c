/* The floor of the benchmark: accepts on one port, connects to another, and copies bytes both ways.
 * It parses nothing, keeps no time and has no limits, so no proxy that reads its traffic in user
 * space can cost less. One thread, epoll, one shared buffer; six system calls for a request and its
 * answer, as every one of them is needed by the model that the proxies use too.
 *
 * usage: bench-relay LISTEN-PORT TARGET-PORT */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/socket.h"

enum { RECV_BYTES = 64 * 1024, EVENTS = 256 };

/* One end of a pair. What could not be written yet waits in pending, and the other end is not read
 * meanwhile, so there is never more than one buffer of it. */
struct end {
    int fd;
    struct end *peer;
    uint8_t *pending;
    size_t pending_begin, pending_len;
    uint32_t events;     /* what epoll watches */
    bool ended;          /* FIN received */
    bool closed;         /* both ends are gone; freed after this batch of events */
    struct end *to_free; /* next in the list of closed ends */
};

struct relay {
    int epoll, listener;
    uint16_t target;
    struct end *closed;
    uint8_t buffer[RECV_BYTES];
};

static void watch(struct relay *relay, struct end *end, uint32_t events)
{
    if (end->events != events) {
        end->events = events;
        socket_watch(relay->epoll, end->fd, events, end, 0);
    }
}

static struct end *end_new(struct relay *relay, int fd, uint32_t events)
{
    struct end *end = calloc(1, sizeof *end);
    if (end == NULL) {
        socket_die("calloc");
    }
    end->fd = fd;
    end->events = events;
    socket_watch(relay->epoll, fd, events, end, 1);
    return end;
}

static void pair_close(struct relay *relay, struct end *end)
{
    struct end *both[] = {end, end->peer};
    for (size_t i = 0; i < 2; i++) {
        (void)close(both[i]->fd);
        both[i]->closed = true;
        both[i]->to_free = relay->closed;
        relay->closed = both[i];
    }
}

static void accept_all(struct relay *relay)
{
    for (int fd = socket_accept(relay->listener); fd >= 0; fd = socket_accept(relay->listener)) {
        int upstream = socket_connect(relay->target);
        if (upstream < 0) {
            (void)close(fd);
            continue;
        }
        struct end *client = end_new(relay, fd, EPOLLIN);
        struct end *server = end_new(relay, upstream, EPOLLIN);
        client->peer = server;
        server->peer = client;
    }
}

/* Writes what it can; the rest waits. False: the connection is broken. */
static bool end_write(struct relay *relay, struct end *end, const uint8_t *bytes, size_t len)
{
    ssize_t sent = send(end->fd, bytes, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != ENOTCONN) {
        return false;
    }
    size_t done = sent > 0 ? (size_t)sent : 0;
    if (done == len) {
        return true;
    }
    if (end->pending == NULL && (end->pending = malloc(RECV_BYTES)) == NULL) {
        socket_die("malloc");
    }
    memcpy(end->pending, bytes + done, len - done);
    end->pending_begin = 0;
    end->pending_len = len - done;
    watch(relay, end, end->events | EPOLLOUT);
    watch(relay, end->peer, end->peer->events & ~(uint32_t)EPOLLIN);
    return true;
}

/* False: the pair is to be closed. */
static bool end_readable(struct relay *relay, struct end *end)
{
    ssize_t got = recv(end->fd, relay->buffer, sizeof relay->buffer, 0);
    if (got > 0) {
        return end_write(relay, end->peer, relay->buffer, (size_t)got);
    }
    if (got < 0) {
        return errno == EAGAIN;
    }
    end->ended = true;
    watch(relay, end, end->events & ~(uint32_t)EPOLLIN);
    (void)shutdown(end->peer->fd, SHUT_WR);
    return !end->peer->ended;
}

static bool end_writable(struct relay *relay, struct end *end)
{
    ssize_t sent = send(end->fd, end->pending + end->pending_begin, end->pending_len, MSG_NOSIGNAL);
    if (sent < 0) {
        return errno == EAGAIN;
    }
    end->pending_begin += (size_t)sent;
    end->pending_len -= (size_t)sent;
    if (end->pending_len == 0) {
        watch(relay, end, end->events & ~(uint32_t)EPOLLOUT);
        if (!end->peer->ended) {
            watch(relay, end->peer, end->peer->events | EPOLLIN);
        }
    }
    return true;
}

static void end_event(struct relay *relay, struct end *end, uint32_t events)
{
    bool alive = !(events & EPOLLERR);
    if (alive && (events & EPOLLOUT)) {
        alive = end_writable(relay, end);
    }
    if (alive && (events & (EPOLLIN | EPOLLHUP)) && (end->events & EPOLLIN)) {
        alive = end_readable(relay, end);
    } else if (events & EPOLLHUP) {
        alive = false;
    }
    if (!alive) {
        pair_close(relay, end);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: bench-relay LISTEN-PORT TARGET-PORT\n");
        return 2;
    }
    struct relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL) {
        socket_die("calloc");
    }
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    relay->listener = socket_listen((uint16_t)socket_number("port", argv[1], 1, 65535));
    relay->target = (uint16_t)socket_number("target", argv[2], 1, 65535);
    socket_watch(relay->epoll, relay->listener, EPOLLIN, NULL, 1);
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(relay->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct end *end = events[i].data.ptr;
            if (end == NULL) {
                accept_all(relay);
            } else if (!end->closed) {
                end_event(relay, end, events[i].events);
            }
        }
        while (relay->closed != NULL) {
            struct end *end = relay->closed;
            relay->closed = end->to_free;
            free(end->pending);
            free(end);
        }
    }
}
