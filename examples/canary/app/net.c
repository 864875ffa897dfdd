#include "examples/canary/app/net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

_Noreturn void net_die(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

struct net_target net_resolve(const char *name_and_port)
{
    char name[256];
    const char *colon = strrchr(name_and_port, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - name_and_port);
    if (len == 0 || len >= sizeof name) {
        (void)fprintf(stderr, "%s: must be NAME:PORT or IP:PORT\n", name_and_port);
        exit(2);
    }
    memcpy(name, name_and_port, len);
    name[len] = '\0';
    struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int why = getaddrinfo(name, colon + 1, &wanted, &found);
    if (why != 0) {
        (void)fprintf(stderr, "%s: %s\n", name_and_port, gai_strerror(why));
        exit(1);
    }
    struct net_target target = {.len = found->ai_addrlen};
    memcpy(&target.addr, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return target;
}

static void no_delay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int listen_on(const struct sockaddr *addr, socklen_t len, const char *name)
{
    int on = 1;
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, addr, len) != 0 || listen(fd, SOMAXCONN) != 0) {
        net_die(name);
    }
    return fd;
}

int net_listen_tcp(const char *address)
{
    struct net_target at = net_resolve(address);
    return listen_on((const struct sockaddr *)&at.addr, at.len, address);
}

int net_listen_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof addr.sun_path) {
        (void)fprintf(stderr, "%s: longer than the path of a socket may be\n", path);
        exit(2);
    }
    memcpy(addr.sun_path, path, len);
    return listen_on((const struct sockaddr *)&addr, sizeof addr, path);
}

int net_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        no_delay(fd);
    }
    return fd;
}

int net_connect(const struct net_target *to)
{
    int fd = socket(to->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    no_delay(fd);
    if (connect(fd, (const struct sockaddr *)&to->addr, to->len) != 0 && errno != EINPROGRESS) {
        int why = errno;
        (void)close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

void net_watch(int epoll, int fd, uint32_t events, void *owner, bool add)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0) {
        net_die("epoll_ctl");
    }
}

long net_number(const char *option, const char *text, long low, long high)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        (void)fprintf(stderr, "%s %s: must be a whole number from %ld to %ld\n", option, text, low,
                      high);
        exit(2);
    }
    return value;
}

static uint64_t clock_us(clockid_t which)
{
    struct timespec now;
    (void)clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t net_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

uint64_t net_now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}
