/* The application of the benchmark, as cheap as it can be, since it shares a core with the load:
 * on one port an HTTP/1.1 server that answers GET /N with N bytes, on another an echo of bytes.
 * It understands just the requests that bench-load and the proxies send: no body, head below 8 KiB.
 *
 * usage: bench-backend HTTP-PORT ECHO-PORT */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/bench/socket.h"

enum { HEAD_BYTES = 8192, BODY_MAX = 1 << 20, ECHO_BYTES = 256 * 1024, EVENTS = 256 };

struct client {
    int fd;
    bool echo;
    bool last; /* close once the answer is out */
    bool writing;
    size_t in_len;
    uint8_t *in; /* HTTP: the head so far; echo: bytes not yet sent back */
    char head[160];
    size_t head_begin, head_len, body_left;
};

struct backend {
    int epoll;
    int http, echo; /* listeners; their epoll owner is the address of the member */
    char body[BODY_MAX];
};

static void client_new(struct backend *backend, int fd, bool echo)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || (client->in = malloc(echo ? ECHO_BYTES : HEAD_BYTES)) == NULL) {
        socket_die("calloc");
    }
    client->fd = fd;
    client->echo = echo;
    socket_watch(backend->epoll, fd, EPOLLIN, client, 1);
}

static void client_free(struct client *client)
{
    (void)close(client->fd);
    free(client->in);
    free(client);
}

static void watch_writing(struct backend *backend, struct client *client, bool writing)
{
    if (client->writing != writing) {
        client->writing = writing;
        socket_watch(backend->epoll, client->fd, writing ? EPOLLOUT : EPOLLIN, client, 0);
    }
}

/* The answer to the request head in head[0..len), ready to be written. False: not understood. */
static bool answer_prepare(struct client *client, const char *head)
{
    const char *path = strchr(head, ' ');
    if (path == NULL || path[1] != '/') {
        return false;
    }
    char *end = NULL;
    unsigned long size = strtoul(path + 2, &end, 10);
    if (*end != ' ' || size > BODY_MAX) {
        return false;
    }
    client->last = strcasestr(head, "\r\nconnection: close") != NULL;
    int len = snprintf(client->head, sizeof client->head,
                       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %lu\r\n\r\n",
                       size);
    client->head_begin = 0;
    client->head_len = (size_t)len;
    client->body_left = size;
    return true;
}

/* 1: all is written; 0: the socket is full; -1: broken. */
static int answer_write(struct backend *backend, struct client *client)
{
    while (client->head_len + client->body_left > 0) {
        struct iovec parts[] = {
            {client->head + client->head_begin, client->head_len},
            {backend->body, client->body_left},
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t sent = sendmsg(client->fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        size_t of_head = (size_t)sent < client->head_len ? (size_t)sent : client->head_len;
        client->head_begin += of_head;
        client->head_len -= of_head;
        client->body_left -= (size_t)sent - of_head;
    }
    return 1;
}

/* Answers every whole request that is in the buffer. False: close. */
static bool http_run(struct backend *backend, struct client *client)
{
    for (;;) {
        int wrote = answer_write(backend, client);
        if (wrote <= 0) {
            watch_writing(backend, client, true);
            return wrote == 0;
        }
        if (client->last) {
            return false;
        }
        watch_writing(backend, client, false);
        uint8_t *end = memmem(client->in, client->in_len, "\r\n\r\n", 4);
        if (end == NULL) {
            return client->in_len < HEAD_BYTES - 1;
        }
        size_t used = (size_t)(end - client->in) + 4;
        *end = '\0';
        if (!answer_prepare(client, (const char *)client->in)) {
            return false;
        }
        client->in_len -= used;
        memmove(client->in, client->in + used, client->in_len);
    }
}

static bool http_readable(struct backend *backend, struct client *client)
{
    ssize_t got = recv(client->fd, client->in + client->in_len, HEAD_BYTES - 1 - client->in_len, 0);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN;
    }
    client->in_len += (size_t)got;
    return http_run(backend, client);
}

/* Sends back what was read; reads again only when all of it is out. False: close. */
static bool echo_run(struct backend *backend, struct client *client)
{
    if (client->in_len == 0) {
        ssize_t got = recv(client->fd, client->in, ECHO_BYTES, 0);
        if (got <= 0) {
            return got < 0 && errno == EAGAIN;
        }
        client->in_len = (size_t)got;
    }
    ssize_t sent = send(client->fd, client->in, client->in_len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        return false;
    }
    size_t done = sent > 0 ? (size_t)sent : 0;
    client->in_len -= done;
    memmove(client->in, client->in + done, client->in_len);
    watch_writing(backend, client, client->in_len > 0);
    return true;
}

static void client_event(struct backend *backend, struct client *client)
{
    bool open = client->echo      ? echo_run(backend, client)
                : client->writing ? http_run(backend, client)
                                  : http_readable(backend, client);
    if (!open) {
        client_free(client);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: bench-backend HTTP-PORT ECHO-PORT\n");
        return 2;
    }
    struct backend *backend = calloc(1, sizeof *backend);
    if (backend == NULL) {
        socket_die("calloc");
    }
    memset(backend->body, 'x', sizeof backend->body);
    backend->epoll = epoll_create1(EPOLL_CLOEXEC);
    backend->http = socket_listen((uint16_t)socket_number("port", argv[1], 1, 65535));
    backend->echo = socket_listen((uint16_t)socket_number("port", argv[2], 1, 65535));
    socket_watch(backend->epoll, backend->http, EPOLLIN, &backend->http, 1);
    socket_watch(backend->epoll, backend->echo, EPOLLIN, &backend->echo, 1);
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(backend->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *owner = events[i].data.ptr;
            if (owner != &backend->http && owner != &backend->echo) {
                client_event(backend, owner);
                continue;
            }
            int *listener = owner;
            for (int fd = socket_accept(*listener); fd >= 0; fd = socket_accept(*listener)) {
                client_new(backend, fd, owner == &backend->echo);
            }
        }
    }
}
