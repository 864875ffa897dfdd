/* The example's client: a fixed number of GETs at a fixed rate over a few kept connections, and one
 * line of JSON for each, in the order in which they ended.
 *
 *   canary-client --to NAME:PORT [--via IP:PORT]... [--requests N] [--rate PER_SECOND]
 *                 [--connections N] [--id PREFIX] [--header "NAME: VALUE"] [--header-every K]
 *
 * The loop is open: requests start by the clock, whether or not earlier ones have been answered,
 * and the time of an answer is counted from when its request was due. So a server that stalls is
 * seen by all the requests that it delays, not by one. --via connects there instead of where the
 * name points (several: in turn), and leaves the Host as it is.
 *
 * Of an answer, "by" says who gave it: "application" (its body names its instance and repeats the
 * id of this very request), "other" (anything else with a status), "none" (no answer, "why" says
 * how that came). Times "at" and "end" are microseconds since 1970. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "examples/canary/app/http1.h"
#include "examples/canary/app/net.h"

enum { IN_BYTES = 16384, OUT_BYTES = 2048, LINKS_MAX = 256, VIA_MAX = 16, EVENTS = 256 };
#define ANSWER_WITHIN_US UINT64_C(15000000)

struct link {
    int fd; /* -1: not connected */
    bool busy;
    bool tagged;         /* this request carries the header */
    long number;         /* of the request */
    uint64_t due_us;     /* monotonic */
    uint64_t sent_at_us; /* wall clock */
    size_t in_len, out_len, out_sent;
    char in[IN_BYTES + 1], out[OUT_BYTES];
};

struct load {
    const char *host, *id, *header;
    long requests, rate, connections, header_every;
    struct net_target via[VIA_MAX];
    long via_count, via_next;
    int epoll;
    long started, ended;
    uint64_t begin_us; /* when request 0 is due */
    struct link *links;
};

static void link_close(struct link *link)
{
    if (link->fd >= 0) {
        (void)close(link->fd);
        link->fd = -1;
    }
}

/* One string value of the small flat JSON that the application answers with; "" where absent. */
static void json_value(const char *body, const char *name, char *value, size_t size)
{
    char key[32];
    (void)snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *begin = strstr(body, key);
    value[0] = '\0';
    if (begin != NULL) {
        begin += strlen(key);
        size_t len = strcspn(begin, "\"\\");
        len = len < size - 1 ? len : size - 1;
        memcpy(value, begin, len);
        value[len] = '\0';
    }
}

static void print_start(const struct load *load, struct link *link, int status)
{
    uint64_t late_us = net_now_us() - link->due_us;
    (void)printf("{\"n\":%ld,\"at\":%llu,\"end\":%llu,\"us\":%llu,\"tagged\":%s,\"status\":%d",
                 link->number, (unsigned long long)link->sent_at_us,
                 (unsigned long long)net_wall_us(), (unsigned long long)late_us,
                 link->tagged && load->header != NULL ? "true" : "false", status);
}

static void request_end(struct load *load, struct link *link)
{
    link->busy = false;
    load->ended++;
}

static void request_fail(struct load *load, struct link *link, const char *why)
{
    print_start(load, link, 0);
    (void)printf(",\"by\":\"none\",\"why\":\"%s\"}\n", why);
    request_end(load, link);
    link_close(link);
}

/* The whole answer is in link->in: head_len bytes of head, then its body. */
static void request_answered(struct load *load, struct link *link, size_t head_len)
{
    char id[128], expected[128], version[32], instance[32], connection[16];
    const char *body = link->in + head_len;
    json_value(body, "id", id, sizeof id);
    json_value(body, "version", version, sizeof version);
    json_value(body, "instance", instance, sizeof instance);
    (void)snprintf(expected, sizeof expected, "%s-%ld", load->id, link->number);
    bool ours = instance[0] != '\0' && strcmp(id, expected) == 0;
    long status = strtol(link->in + strlen("HTTP/1.1 "), NULL, 10);
    print_start(load, link, (int)status);
    if (ours) {
        (void)printf(",\"by\":\"application\",\"version\":\"%s\",\"instance\":\"%s\"}\n", version,
                     instance);
    } else {
        char why[256] = "";
        (void)http1_header(link->in, head_len, "proxy-status", why, sizeof why);
        for (char *at = why; *at != '\0'; at++) {
            *at = *at == '"' || *at == '\\' ? '\'' : *at;
        }
        (void)printf(",\"by\":\"other\",\"why\":\"%s\"}\n", why);
    }
    bool closes = http1_header(link->in, head_len, "connection", connection, sizeof connection) &&
                  strcasecmp(connection, "close") == 0;
    request_end(load, link);
    link->in_len = 0;
    if (closes) {
        link_close(link);
    }
}

static void link_write(struct load *load, struct link *link)
{
    while (link->out_sent < link->out_len) {
        ssize_t sent = send(link->fd, link->out + link->out_sent, link->out_len - link->out_sent,
                            MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            return;
        }
        if (sent < 0) {
            request_fail(load, link, strerror(errno));
            return;
        }
        link->out_sent += (size_t)sent;
    }
    net_watch(load->epoll, link->fd, EPOLLIN, link, false);
}

static void link_read(struct load *load, struct link *link)
{
    ssize_t got = recv(link->fd, link->in + link->in_len, IN_BYTES - link->in_len, 0);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0 && link->busy) {
        request_fail(load, link, got == 0 ? "closed without an answer" : strerror(errno));
        return;
    }
    if (!link->busy) { /* closed, or bytes that nobody asked for: either way it ends here */
        link_close(link);
        return;
    }
    link->in_len += (size_t)got;
    link->in[link->in_len] = '\0';
    size_t head_len = http1_head_size(link->in, link->in_len);
    size_t body = 0;
    if (head_len == 0 || strncmp(link->in, "HTTP/1.1 ", 9) != 0) {
        if (head_len != 0 || link->in_len == IN_BYTES) {
            request_fail(load, link, "not HTTP/1.1");
        }
        return;
    }
    if (!http1_body_size(link->in, head_len, &body) || head_len + body > IN_BYTES) {
        request_fail(load, link, "an answer without Content-Length");
    } else if (link->in_len >= head_len + body) {
        request_answered(load, link, head_len);
    }
}

/* Writes the next request into the link and sends it, connecting first where needed. */
static void request_start(struct load *load, struct link *link)
{
    link->number = load->started++;
    link->busy = true;
    link->tagged = load->header_every > 0 && link->number % load->header_every == 0;
    link->due_us = load->rate == 0
                       ? net_now_us()
                       : load->begin_us + (uint64_t)link->number * 1000000 / (uint64_t)load->rate;
    link->sent_at_us = net_wall_us();
    bool tag = link->tagged && load->header != NULL;
    int len = snprintf(link->out, sizeof link->out,
                       "GET /orders/%ld HTTP/1.1\r\nHost: %s\r\nx-request-id: %s-%ld\r\n%s%s\r\n",
                       link->number, load->host, load->id, link->number, tag ? load->header : "",
                       tag ? "\r\n" : "");
    link->out_len = (size_t)len < sizeof link->out ? (size_t)len : sizeof link->out - 1;
    link->out_sent = link->in_len = 0;
    if (link->fd >= 0) {
        link_write(load, link);
        return;
    }
    link->fd = net_connect(&load->via[load->via_next++ % load->via_count]);
    if (link->fd < 0) {
        request_fail(load, link, strerror(errno));
        return;
    }
    net_watch(load->epoll, link->fd, EPOLLOUT, link, true);
}

static void expire(struct load *load)
{
    uint64_t now = net_now_us();
    for (long i = 0; i < load->connections; i++) {
        struct link *link = &load->links[i];
        if (link->busy && now - link->due_us > ANSWER_WITHIN_US) {
            request_fail(load, link, "no answer within 15 s");
        }
    }
}

/* Starts what is due. Returns how long nothing more is, at most 100 ms. */
static uint64_t start_due(struct load *load)
{
    const uint64_t longest = 100000;
    for (long i = 0; i < load->connections && load->started < load->requests; i++) {
        struct link *link = &load->links[i];
        if (link->busy) {
            continue;
        }
        uint64_t now = net_now_us();
        uint64_t due = load->begin_us;
        if (load->rate > 0) {
            due += (uint64_t)load->started * 1000000 / (uint64_t)load->rate;
        }
        if (due > now) {
            return due - now < longest ? due - now : longest;
        }
        request_start(load, link);
    }
    return longest;
}

static void run(struct load *load)
{
    load->begin_us = net_now_us();
    while (load->ended < load->requests) {
        uint64_t wait_us = start_due(load);
        struct timespec wait = {.tv_sec = 0, .tv_nsec = (long)wait_us * 1000};
        struct epoll_event events[EVENTS];
        int count = epoll_pwait2(load->epoll, events, EVENTS, &wait, NULL);
        for (int i = 0; i < count; i++) {
            struct link *link = events[i].data.ptr;
            if (link->fd < 0) {
                continue;
            }
            if (link->busy && (events[i].events & EPOLLOUT) != 0) {
                link_write(load, link);
            }
            if (link->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
                link_read(load, link);
            }
        }
        expire(load);
    }
}

static const struct option options[] = {
    {"to", required_argument, NULL, 't'},
    {"via", required_argument, NULL, 'v'},
    {"requests", required_argument, NULL, 'n'},
    {"rate", required_argument, NULL, 'r'},
    {"id", required_argument, NULL, 'i'},
    {"connections", required_argument, NULL, 'c'},
    {"header", required_argument, NULL, 'h'},
    {"header-every", required_argument, NULL, 'k'},
    {NULL, 0, NULL, 0},
};

static void options_read(struct load *load, int argc, char **argv)
{
    for (int got = 0; (got = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (got) {
        case 't':
            load->host = optarg;
            break;
        case 'v':
            if (load->via_count == VIA_MAX) {
                (void)fputs("--via: too many\n", stderr);
                exit(2);
            }
            load->via[load->via_count++] = net_resolve(optarg);
            break;
        case 'n':
            load->requests = net_number("--requests", optarg, 1, 10000000);
            break;
        case 'r':
            load->rate = net_number("--rate", optarg, 0, 1000000);
            break;
        case 'i':
            load->id = optarg;
            break;
        case 'c':
            load->connections = net_number("--connections", optarg, 1, LINKS_MAX);
            break;
        case 'h':
            load->header = optarg;
            break;
        case 'k':
            load->header_every = net_number("--header-every", optarg, 1, 1000000);
            break;
        default:
            exit(2);
        }
    }
    if (load->host == NULL || optind != argc) {
        (void)fputs("usage: canary-client --to NAME:PORT [--via IP:PORT]... [--requests N] "
                    "[--rate PER_SECOND] [--connections N] [--id PREFIX] "
                    "[--header \"NAME: VALUE\"] [--header-every K]\n",
                    stderr);
        exit(2);
    }
    if (load->via_count == 0) {
        load->via[load->via_count++] = net_resolve(load->host);
    }
}

int main(int argc, char **argv)
{
    struct load load = {
        .id = "canary", .requests = 1000, .rate = 0, .connections = 8, .header_every = 1};
    options_read(&load, argc, argv);
    load.links = calloc((size_t)load.connections, sizeof *load.links);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load.links == NULL || load.epoll < 0) {
        net_die("canary-client");
    }
    for (long i = 0; i < load.connections; i++) {
        load.links[i].fd = -1;
    }
    run(&load);
    free(load.links);
    return 0;
}
