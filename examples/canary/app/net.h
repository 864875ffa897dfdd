#pragma once

/* Sockets, time and numbers of the example's two applications. They are ordinary programs that
 * know nothing of the mesh, so they use nothing of it. What cannot be done ends the program with a
 * message: there is nobody to recover for. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Prints the message with errno's text and exits with 1. */
_Noreturn void net_die(const char *what);

/* A listening socket, non-blocking, on IP:PORT; text that is no such thing exits with 2. */
int net_listen_tcp(const char *address);

/* A listening socket, non-blocking, at this path, which must not exist yet. */
int net_listen_unix(const char *path);

/* The next accepted connection, or -1 when none is left. */
int net_accept(int listener);

struct net_target {
    struct sockaddr_storage addr;
    socklen_t len;
};

/* NAME:PORT or IP:PORT as an address to connect to, asking the resolver; exits with 1 if unknown.
 */
struct net_target net_resolve(const char *name_and_port);

/* A connection, without delay, that may still be under way; -1 with errno when refused at once. */
int net_connect(const struct net_target *to);

/* Adds fd to epoll, or changes what is watched for. */
void net_watch(int epoll, int fd, uint32_t events, void *owner, bool add);

/* A whole number between low and high; exits with 2 otherwise, naming the option. */
long net_number(const char *option, const char *text, long low, long high);

/* Microseconds since 1970, and since some moment of this boot. */
uint64_t net_wall_us(void);
uint64_t net_now_us(void);
