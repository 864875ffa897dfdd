/* The load of the benchmark: one thread, epoll, no allocation while it runs.
 *
 *   closed loop   every connection sends its next request when the answer to the last is whole
 *   open loop     --rate R: requests are due at fixed times, whatever the answers do, and a latency
 *                 counts from the time when the request was due: a proxy that stalls is not spared
 *   --fresh       a new connection for each request; with --tls a full mutual handshake each
 *   --idle        every connection makes one request, then is left alone until stdin ends
 *
 * HTTP mode sends GET /SIZE and wants SIZE bytes; tcp mode sends SIZE bytes and wants as many back.
 * Prints one JSON object. An answer that is not what was asked for is an error, and the run goes on
 * with a new connection; after 100 of them it ends with exit code 1.
 *
 * Alternatives refused: wrk and h2load (no open loop without correction, no raw TCP, not equal over
 * all rows), threads (the load has one core, which it shares with the backend). */

#include <errno.h>
#include <getopt.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/histogram.h"
#include "tests/bench/socket.h"

enum { EVENTS = 512, RECV_BYTES = 256 * 1024, HEAD_BYTES = 4096, ERRORS_MAX = 100 };

#define CLIENT_STATES(X)                                                                           \
    X(CONNECT, "the connection is under way")                                                      \
    X(HANDSHAKE, "TLS")                                                                            \
    X(FREE, "open, nothing asked")                                                                 \
    X(SEND, "request going out")                                                                   \
    X(HEAD, "waiting for the answer, or within its head")                                          \
    X(BODY, "within the body")

enum client_state {
#define X(name, meaning) CLIENT_##name,
    CLIENT_STATES(X)
#undef X
};

struct client {
    enum client_state state;
    int fd;
    SSL *ssl; /* null without --tls */
    bool want_write;
    bool wanted; /* a request waits for this connection, since started_ns */
    size_t sent, left;
    size_t head_len;
    uint64_t started_ns;
    struct client *next_free;
    char head[HEAD_BYTES];
};

struct load {
    uint16_t port;
    bool tcp, fresh, idle;
    size_t size;
    long connections, requests, rate; /* rate 0: closed loop */
    SSL_CTX *tls;                     /* null: plain */
    int epoll, timer;

    char *request;
    size_t request_len;
    struct client *clients, *free;
    long free_count, started, done, errors, connects;
    long due; /* open loop: requests whose time has come */
    uint64_t begin_ns, end_ns;
    struct histogram latencies;
    char buffer[RECV_BYTES];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Bytes moved, 0 where it has to wait, -1 at the end or on an error. */
static ssize_t client_recv(struct client *client, void *into, size_t len)
{
    if (client->ssl == NULL) {
        ssize_t got = recv(client->fd, into, len, 0);
        return got > 0 ? got : got < 0 && errno == EAGAIN ? 0 : -1;
    }
    int got = SSL_read(client->ssl, into, (int)len);
    return got > 0 ? got : SSL_get_error(client->ssl, got) == SSL_ERROR_WANT_READ ? 0 : -1;
}

static ssize_t client_send(struct client *client, const void *from, size_t len)
{
    if (client->ssl == NULL) {
        ssize_t sent = send(client->fd, from, len, MSG_NOSIGNAL);
        return sent > 0 ? sent : sent < 0 && errno == EAGAIN ? 0 : -1;
    }
    int sent = SSL_write(client->ssl, from, (int)len);
    return sent > 0 ? sent : SSL_get_error(client->ssl, sent) == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static void watch(struct load *load, struct client *client, bool want_write)
{
    if (client->want_write != want_write) {
        client->want_write = want_write;
        uint32_t events = EPOLLIN | (want_write ? (uint32_t)EPOLLOUT : 0U);
        socket_watch(load->epoll, client->fd, events, client, 0);
    }
}

static void client_close(struct client *client)
{
    SSL_free(client->ssl);
    client->ssl = NULL;
    (void)close(client->fd);
}

static void client_open(struct load *load, struct client *client)
{
    client->fd = socket_connect(load->port);
    if (client->fd < 0) {
        socket_die("connect");
    }
    client->state = CLIENT_CONNECT;
    client->want_write = true;
    socket_watch(load->epoll, client->fd, EPOLLIN | EPOLLOUT, client, 1);
    if (load->tls != NULL) {
        client->ssl = SSL_new(load->tls);
        if (client->ssl == NULL || SSL_set_fd(client->ssl, client->fd) != 1) {
            socket_die("SSL_new");
        }
        SSL_set_connect_state(client->ssl);
    }
    load->connects++;
}

static void request_begin(struct load *load, struct client *client);

static void free_push(struct load *load, struct client *client)
{
    client->state = CLIENT_FREE;
    client->next_free = load->free;
    load->free = client;
    load->free_count++;
}

static struct client *free_pop(struct load *load)
{
    struct client *client = load->free;
    load->free = client->next_free;
    load->free_count--;
    return client;
}

/* Gives the connection its next request, if one is due, or leaves it free. */
static void client_ready(struct load *load, struct client *client)
{
    bool more = load->rate > 0 ? load->started < load->due : load->started < load->requests;
    if (client->wanted || more) {
        request_begin(load, client);
        return;
    }
    watch(load, client, false);
    free_push(load, client);
}

/* When the request with this number, from 0, is due: at the timer's tick for it. */
static uint64_t due_ns(const struct load *load, long number)
{
    uint64_t interval_ns = 1000000000U / (uint64_t)load->rate;
    return load->begin_ns + ((uint64_t)number + 1) * interval_ns;
}

static void request_claim(struct load *load, struct client *client)
{
    client->wanted = true;
    client->started_ns = load->rate > 0 ? due_ns(load, load->started) : now_ns();
    load->started++;
}

/* After an answer, or instead of one: the connection goes on, or makes way for the next. */
static void request_over(struct load *load, struct client *client, bool broken)
{
    load->done += client->wanted;
    client->wanted = false;
    if (!load->fresh && !broken) {
        client_ready(load, client);
        return;
    }
    client_close(client);
    if (load->fresh && load->rate > 0) {
        free_push(load, client); /* opened when a request is due */
        return;
    }
    if (load->fresh && load->started < load->requests) {
        request_claim(load, client);
    }
    if (!load->fresh || client->wanted) {
        client_open(load, client);
    }
}

static void client_fail(struct load *load, struct client *client)
{
    if (++load->errors > ERRORS_MAX) {
        (void)fprintf(stderr, "load: more than %d failed requests\n", ERRORS_MAX);
        exit(1);
    }
    request_over(load, client, true);
}

static void request_end(struct load *load, struct client *client)
{
    histogram_add(&load->latencies, now_ns() - client->started_ns);
    request_over(load, client, false);
}

static void request_send(struct load *load, struct client *client)
{
    while (client->sent < load->request_len) {
        ssize_t sent =
            client_send(client, load->request + client->sent, load->request_len - client->sent);
        if (sent < 0) {
            client_fail(load, client);
            return;
        }
        if (sent == 0) {
            watch(load, client, true);
            return;
        }
        client->sent += (size_t)sent;
    }
    watch(load, client, false);
    client->state = load->tcp ? CLIENT_BODY : CLIENT_HEAD;
}

static void request_begin(struct load *load, struct client *client)
{
    if (!client->wanted) {
        request_claim(load, client);
    }
    client->sent = 0;
    client->head_len = 0;
    client->left = load->size;
    client->state = CLIENT_SEND;
    request_send(load, client);
}

/* The size of the body that this head announces, or -1 where the answer is not the one asked for.
 */
static long head_size(const char *head)
{
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0) {
        return -1;
    }
    const char *field = strcasestr(head, "\r\ncontent-length:");
    return field != NULL ? strtol(field + 17, NULL, 10) : -1;
}

/* Takes len bytes into the head; true once it is whole, with the rest counted as body. */
static bool head_take(struct load *load, struct client *client, size_t len)
{
    size_t room = HEAD_BYTES - 1 - client->head_len;
    size_t took = len < room ? len : room;
    memcpy(client->head + client->head_len, load->buffer, took);
    size_t before = client->head_len;
    client->head_len += took;
    client->head[client->head_len] = '\0';
    const char *end = strstr(client->head, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    size_t of_head = (size_t)(end - client->head) + 4 - before;
    size_t of_body = len - of_head;
    client->left = head_size(client->head) == (long)load->size && of_body <= load->size
                       ? load->size - of_body
                       : SIZE_MAX;
    return true;
}

static void client_read(struct load *load, struct client *client)
{
    for (;;) {
        ssize_t got = client_recv(client, load->buffer, RECV_BYTES);
        bool unasked = got > 0 && client->state == CLIENT_FREE;
        if (got < 0 || unasked) {
            client_fail(load, client);
            return;
        }
        if (got == 0) {
            return;
        }
        if (client->state == CLIENT_HEAD) {
            if (head_take(load, client, (size_t)got)) {
                client->state = CLIENT_BODY;
            } else if (client->head_len == HEAD_BYTES - 1) {
                client->left = SIZE_MAX;
            }
        } else {
            client->left = (size_t)got <= client->left ? client->left - (size_t)got : SIZE_MAX;
        }
        if (client->left == SIZE_MAX) {
            client_fail(load, client);
            return;
        }
        if (client->state == CLIENT_BODY && client->left == 0) {
            request_end(load, client);
            return;
        }
        if ((size_t)got < RECV_BYTES && client->ssl == NULL) {
            return;
        }
    }
}

static void client_connected(struct load *load, struct client *client)
{
    if (client->ssl == NULL) {
        client_ready(load, client);
        return;
    }
    client->state = CLIENT_HANDSHAKE;
    int done = SSL_do_handshake(client->ssl);
    if (done == 1) {
        client_ready(load, client);
        return;
    }
    int why = SSL_get_error(client->ssl, done);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        watch(load, client, why == SSL_ERROR_WANT_WRITE);
        return;
    }
    ERR_print_errors_fp(stderr);
    client_fail(load, client);
}

static void client_event(struct load *load, struct client *client, uint32_t events)
{
    if (events & EPOLLERR) {
        client_fail(load, client);
        return;
    }
    switch (client->state) {
    case CLIENT_CONNECT:
        if (events & EPOLLOUT) {
            client_connected(load, client);
        }
        return;
    case CLIENT_HANDSHAKE:
        client_connected(load, client);
        return;
    case CLIENT_SEND:
        if (events & EPOLLOUT) {
            request_send(load, client);
        }
        if ((events & EPOLLIN) && client->state != CLIENT_CONNECT) {
            client_read(load, client); /* an echo begins early; an HTTP answer now is a refusal */
        }
        return;
    case CLIENT_FREE:
    case CLIENT_HEAD:
    case CLIENT_BODY:
        client_read(load, client);
        return;
    }
}

/* Open loop: hands the requests whose time has come to connections that are free. */
static void timer_event(struct load *load)
{
    uint64_t ticks = 0;
    if (read(load->timer, &ticks, sizeof ticks) != (ssize_t)sizeof ticks) {
        return;
    }
    load->due += (long)ticks;
    if (load->due > load->requests) {
        load->due = load->requests;
    }
    while (load->started < load->due && load->free != NULL) {
        struct client *client = free_pop(load);
        if (load->fresh) {
            request_claim(load, client);
            client_open(load, client);
        } else {
            request_begin(load, client);
        }
    }
}

/* Runs until the counter, one of load's own, has reached the goal. */
static void run_until(struct load *load, const long *counter, long goal)
{
    struct epoll_event events[EVENTS];
    while (*counter < goal) {
        int count = epoll_wait(load->epoll, events, EVENTS, 10000);
        if (count == 0) {
            (void)fprintf(stderr, "load: nothing happened for 10 s (%ld of %ld requests done)\n",
                          load->done, load->requests);
            exit(1);
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                timer_event(load);
            } else {
                client_event(load, events[i].data.ptr, events[i].events);
            }
        }
    }
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000U),
                             .tv_nsec = (long)(ns % 1000000000U)};
}

static void timer_start(struct load *load)
{
    load->begin_ns = now_ns();
    load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec spec = {.it_interval = timespec_of(1000000000U / (uint64_t)load->rate),
                              .it_value = timespec_of(due_ns(load, 0))};
    if (load->timer < 0 || timerfd_settime(load->timer, TFD_TIMER_ABSTIME, &spec, NULL) != 0) {
        socket_die("timerfd");
    }
    socket_watch(load->epoll, load->timer, EPOLLIN, NULL, 1);
}

static void load_run(struct load *load)
{
    load->begin_ns = now_ns();
    for (long i = 0; i < load->connections; i++) {
        struct client *client = &load->clients[i];
        if (load->rate > 0 && load->fresh) {
            free_push(load, client);
            continue;
        }
        if (load->fresh || load->idle) {
            request_claim(load, client); /* one for each */
        }
        client_open(load, client);
    }
    if (load->rate > 0) {
        run_until(load, &load->free_count, load->connections);
        timer_start(load);
    }
    run_until(load, &load->done, load->requests);
    load->end_ns = now_ns();
}

static void report(const struct load *load)
{
    const struct histogram *latencies = &load->latencies;
    double seconds = (double)(load->end_ns - load->begin_ns) / 1e9;
    (void)printf("{\"requests\": %ld, \"errors\": %ld, \"connects\": %ld, \"seconds\": %.6f, "
                 "\"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f}\n",
                 load->done, load->errors, load->connects, seconds,
                 (double)histogram_quantile(latencies, 0.50) / 1e3,
                 (double)histogram_quantile(latencies, 0.99) / 1e3,
                 (double)latencies->max_ns / 1e3);
    (void)fflush(stdout);
}

static SSL_CTX *tls_new(const char *folder)
{
    char cert[512];
    char key[512];
    char ca[512];
    (void)snprintf(cert, sizeof cert, "%s/client.pem", folder);
    (void)snprintf(key, sizeof key, "%s/client.key", folder);
    (void)snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(tls, ca, NULL) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    (void)SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION);
    (void)SSL_CTX_set_alpn_protos(tls, (const unsigned char *)"\x08http/1.1", 9);
    return tls;
}

static void request_prepare(struct load *load)
{
    load->request = malloc(load->size + 512);
    if (load->request == NULL) {
        socket_die("malloc");
    }
    if (load->tcp) {
        memset(load->request, 0xff, load->size); /* no byte that could begin HTTP or TLS */
        load->request_len = load->size;
        return;
    }
    int len = snprintf(load->request, 512,
                       "GET /%zu HTTP/1.1\r\nHost: app.bench\r\nUser-Agent: bench-load\r\n"
                       "Accept: */*\r\n\r\n",
                       load->size);
    load->request_len = (size_t)len;
}

static void options_read(struct load *load, int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},     {"mode", required_argument, NULL, 'm'},
        {"size", required_argument, NULL, 's'},     {"connections", required_argument, NULL, 'c'},
        {"requests", required_argument, NULL, 'n'}, {"rate", required_argument, NULL, 'r'},
        {"tls", required_argument, NULL, 't'},      {"fresh", no_argument, NULL, 'f'},
        {"idle", no_argument, NULL, 'i'},           {NULL, 0, NULL, 0},
    };
    for (int option = getopt_long(argc, argv, "", options, NULL); option != -1;
         option = getopt_long(argc, argv, "", options, NULL)) {
        switch (option) {
        case 'p':
            load->port = (uint16_t)socket_number("--port", optarg, 1, 65535);
            break;
        case 'm':
            load->tcp = strcmp(optarg, "tcp") == 0;
            break;
        case 's':
            load->size = (size_t)socket_number("--size", optarg, 1, 1 << 26);
            break;
        case 'c':
            load->connections = socket_number("--connections", optarg, 1, 100000);
            break;
        case 'n':
            load->requests = socket_number("--requests", optarg, 1, 1000000000);
            break;
        case 'r':
            load->rate = socket_number("--rate", optarg, 1, 1000000);
            break;
        case 't':
            load->tls = tls_new(optarg);
            break;
        case 'f':
            load->fresh = true;
            break;
        case 'i':
            load->idle = true;
            break;
        default:
            (void)fprintf(stderr, "usage: bench-load --port N [--mode http|tcp] [--size N] "
                                  "[--connections N] [--requests N] [--rate N] [--fresh] [--idle] "
                                  "[--tls FOLDER]\n");
            exit(2);
        }
    }
}

static void load_free(struct load *load)
{
    for (long i = 0; i < load->connections; i++) {
        SSL_free(load->clients[i].ssl);
    }
    SSL_CTX_free(load->tls);
    free(load->clients);
    free(load->request);
    free(load);
}

int main(int argc, char **argv)
{
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) {
        socket_die("calloc");
    }
    load->size = 128;
    load->connections = 1;
    load->requests = 1000;
    options_read(load, argc, argv);
    if (load->idle) {
        load->requests = load->connections;
    }
    if (load->connections > load->requests) {
        load->connections = load->requests;
    }
    load->clients = calloc((size_t)load->connections, sizeof *load->clients);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->clients == NULL || load->epoll < 0) {
        socket_die("start");
    }
    request_prepare(load);
    load_run(load);
    report(load);
    char byte;
    while (load->idle && read(STDIN_FILENO, &byte, 1) > 0) {
    }
    int code = load->errors == 0 ? 0 : 1;
    load_free(load);
    return code;
}
