#pragma once

/* Sockets of the benchmark's own programs: loopback TCP, non-blocking, no delay. What cannot be
 * done ends the program with a message; there is nobody to recover for. */

#include <stddef.h>
#include <stdint.h>

/* Prints the message with errno's text and exits with 1. */
_Noreturn void socket_die(const char *what);

/* A listening socket on 127.0.0.1. */
int socket_listen(uint16_t port);

/* The next accepted connection, or -1 when none is left. */
int socket_accept(int listener);

/* A connection to 127.0.0.1 that may still be under way; -1 with errno when refused at once. */
int socket_connect(uint16_t port);

/* Adds or changes the events that epoll watches for fd. */
void socket_watch(int epoll, int fd, uint32_t events, void *owner, int add);

/* A whole number between low and high from a command line argument; exits with 2 otherwise. */
long socket_number(const char *option, const char *text, long low, long high);
