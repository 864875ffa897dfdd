/* The example's server: answers every request with who it is, and counts. An instance can be told
 * to go bad after a number of requests, and to be well again.
 *
 *   canary-order-service --listen IP:PORT --version V --instance NAME --control PATH [--fail-from
 * N]
 *
 * On the port: any request gets {"version", "instance", "id"}, id being its x-request-id; from the
 * N-th on with status 500. On the Unix socket PATH, for whoever runs the example: GET /stats,
 * POST /heal, POST /reset (counts only). That is a file, not a port, so that it stays reachable
 * where the mesh has taken over the network. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "examples/canary/app/http1.h"
#include "examples/canary/app/net.h"

enum { IN_BYTES = 16384, OUT_BYTES = 4096, EVENTS = 256, PEERS = 4, PEER_BYTES = 512 };

struct service {
    const char *version, *instance;
    long fail_from; /* the n-th request and those after it fail; 0: none */
    long requests, failed;
    long unidentified; /* requests without x-forwarded-client-cert */
    int peer_count;
    char peers[PEERS][PEER_BYTES]; /* distinct values of it, the first few */
    int epoll, port, control;      /* the epoll owner of a listener is the address of its member */
};

struct client {
    int fd;
    bool control;
    bool last; /* close once the answer is out */
    bool writing;
    size_t in_len, skip; /* skip: bytes of a request's body still to come */
    size_t out_len, out_sent;
    char in[IN_BYTES], out[OUT_BYTES];
};

/* Text in JSON's form, cut to fit. */
static void json_text(const char *text, char *out, size_t size)
{
    size_t at = 0;
    for (; *text != '\0' && at + 3 < size; text++) {
        if (*text == '"' || *text == '\\') {
            out[at++] = '\\';
        }
        if ((unsigned char)*text >= ' ') {
            out[at++] = *text;
        }
    }
    out[at] = '\0';
}

static void answer(struct client *client, int status, const char *body)
{
    int len = snprintf(client->out, sizeof client->out,
                       "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n%s\r\n%s",
                       status,
                       status == 200   ? "OK"
                       : status == 404 ? "Not Found"
                                       : "Broken",
                       strlen(body), client->last ? "Connection: close\r\n" : "", body);
    client->out_len = (size_t)len < sizeof client->out ? (size_t)len : sizeof client->out - 1;
    client->out_sent = 0;
}

static void remember_peer(struct service *service, const char *peer)
{
    for (int i = 0; i < service->peer_count; i++) {
        if (strcmp(service->peers[i], peer) == 0) {
            return;
        }
    }
    if (service->peer_count < PEERS) {
        (void)snprintf(service->peers[service->peer_count++], PEER_BYTES, "%s", peer);
    }
}

static void answer_order(struct service *service, struct client *client, size_t head_len)
{
    char id[128] = "", safe[260], peer[PEER_BYTES], body[512];
    (void)http1_header(client->in, head_len, "x-request-id", id, sizeof id);
    if (http1_header(client->in, head_len, "x-forwarded-client-cert", peer, sizeof peer)) {
        remember_peer(service, peer);
    } else {
        service->unidentified++;
    }
    service->requests++;
    bool fails = service->fail_from > 0 && service->requests >= service->fail_from;
    service->failed += fails;
    json_text(id, safe, sizeof safe);
    (void)snprintf(body, sizeof body, "{\"version\":\"%s\",\"instance\":\"%s\",\"id\":\"%s\"}\n",
                   service->version, service->instance, safe);
    answer(client, fails ? 500 : 200, body);
}

static void answer_stats(const struct service *service, struct client *client)
{
    char body[PEERS * (2 * PEER_BYTES + 4) + 256];
    int len = snprintf(body, sizeof body,
                       "{\"version\":\"%s\",\"instance\":\"%s\",\"requests\":%ld,\"failed\":%ld,"
                       "\"unidentified\":%ld,\"peers\":[",
                       service->version, service->instance, service->requests, service->failed,
                       service->unidentified);
    size_t at = (size_t)len;
    for (int i = 0; i < service->peer_count; i++) {
        char safe[2 * PEER_BYTES];
        json_text(service->peers[i], safe, sizeof safe);
        at += (size_t)snprintf(body + at, sizeof body - at, "%s\"%s\"", i > 0 ? "," : "", safe);
    }
    (void)snprintf(body + at, sizeof body - at, "]}\n");
    answer(client, 200, body);
}

static void answer_control(struct service *service, struct client *client)
{
    if (strncmp(client->in, "GET /stats ", 11) == 0) {
        answer_stats(service, client);
    } else if (strncmp(client->in, "POST /heal ", 11) == 0) {
        service->fail_from = 0;
        answer_stats(service, client);
    } else if (strncmp(client->in, "POST /reset ", 12) == 0) {
        service->requests = service->failed = service->unidentified = 0;
        service->peer_count = 0;
        answer_stats(service, client);
    } else {
        answer(client, 404, "{\"paths\":[\"GET /stats\",\"POST /heal\",\"POST /reset\"]}\n");
    }
}

/* Takes n bytes off the front of what was read. */
static void consume(struct client *client, size_t n)
{
    client->in_len -= n;
    memmove(client->in, client->in + n, client->in_len);
}

/* 1: all is written; 0: the socket is full; -1: broken. */
static int flush(struct client *client)
{
    while (client->out_sent < client->out_len) {
        ssize_t sent = send(client->fd, client->out + client->out_sent,
                            client->out_len - client->out_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        client->out_sent += (size_t)sent;
    }
    return 1;
}

static void watch_writing(struct service *service, struct client *client, bool writing)
{
    if (client->writing != writing) {
        client->writing = writing;
        net_watch(service->epoll, client->fd, writing ? EPOLLOUT : EPOLLIN, client, false);
    }
}

/* Answers every whole request in the buffer. False: close. */
static bool run(struct service *service, struct client *client)
{
    for (;;) {
        int wrote = flush(client);
        if (wrote <= 0) {
            watch_writing(service, client, true);
            return wrote == 0;
        }
        if (client->last) {
            return false;
        }
        watch_writing(service, client, false);
        size_t body = client->skip < client->in_len ? client->skip : client->in_len;
        client->skip -= body;
        consume(client, body);
        size_t head_len = http1_head_size(client->in, client->in_len);
        if (client->skip > 0 || head_len == 0) {
            return client->in_len < IN_BYTES;
        }
        char text[32] = "";
        bool sized = http1_body_size(client->in, head_len, &client->skip);
        bool chunked =
            !sized && http1_header(client->in, head_len, "transfer-encoding", text, sizeof text);
        bool closes = http1_header(client->in, head_len, "connection", text, sizeof text) &&
                      strcasecmp(text, "close") == 0;
        client->last = closes || chunked; /* a chunked body is not read, so nothing can follow it */
        if (client->control) {
            answer_control(service, client);
        } else {
            answer_order(service, client, head_len);
        }
        consume(client, head_len);
    }
}

static bool readable(struct service *service, struct client *client)
{
    ssize_t got = recv(client->fd, client->in + client->in_len, IN_BYTES - client->in_len, 0);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN;
    }
    client->in_len += (size_t)got;
    return run(service, client);
}

static void client_free(struct client *client)
{
    (void)close(client->fd);
    free(client);
}

static void client_event(struct service *service, struct client *client)
{
    bool open = client->writing ? run(service, client) : readable(service, client);
    if (!open) {
        client_free(client);
    }
}

static void accept_all(struct service *service, const int *listener)
{
    for (int fd = net_accept(*listener); fd >= 0; fd = net_accept(*listener)) {
        struct client *client = calloc(1, sizeof *client);
        if (client == NULL) {
            net_die("calloc");
        }
        client->fd = fd;
        client->control = listener == &service->control;
        net_watch(service->epoll, fd, EPOLLIN, client, true);
    }
}

_Noreturn static void serve(struct service *service)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(service->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &service->port || owner == &service->control) {
                accept_all(service, owner);
            } else {
                client_event(service, owner);
            }
        }
    }
}

static const struct option options[] = {
    {"listen", required_argument, NULL, 'l'},    {"version", required_argument, NULL, 'v'},
    {"instance", required_argument, NULL, 'i'},  {"control", required_argument, NULL, 'c'},
    {"fail-from", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL) {
        net_die("calloc");
    }
    const char *listen_on = NULL, *control = NULL;
    for (int got = 0; (got = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (got) {
        case 'l':
            listen_on = optarg;
            break;
        case 'v':
            service->version = optarg;
            break;
        case 'i':
            service->instance = optarg;
            break;
        case 'c':
            control = optarg;
            break;
        case 'f':
            service->fail_from = net_number("--fail-from", optarg, 1, 1000000000);
            break;
        default:
            return 2;
        }
    }
    if (listen_on == NULL || control == NULL || service->version == NULL ||
        service->instance == NULL || optind != argc) {
        (void)fputs("usage: canary-order-service --listen IP:PORT --version V --instance NAME "
                    "--control PATH [--fail-from N]\n",
                    stderr);
        return 2;
    }
    service->epoll = epoll_create1(EPOLL_CLOEXEC);
    service->port = net_listen_tcp(listen_on);
    service->control = net_listen_unix(control);
    net_watch(service->epoll, service->port, EPOLLIN, &service->port, true);
    net_watch(service->epoll, service->control, EPOLLIN, &service->control, true);
    serve(service);
}
