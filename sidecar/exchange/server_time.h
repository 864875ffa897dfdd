#pragma once
/* What a downstream connection has time for, all of it on one timer: a head that does not come, a
 * client without requests, an age, the second step of leaving, and over HTTP/2 a client that has
 * streams open and says nothing. Embedded in struct server. One worker. */

#include <stdbool.h>
#include <stdint.h>

struct server;

/* A silent client is asked so often before it is given up: an application may be busy for a while.
 */
#define SERVER_PINGS_MAX 3
/* Between the two steps of leaving, where the PING with the first is not answered sooner. */
#define SERVER_LAST_STEP_US UINT64_C(1000000)

/* X(value, meaning) */
#define SERVER_DUES(X)                                                                             \
    X(NOTHING, "all in good time")                                                                 \
    X(END, "it has been idle for too long, or does not finish a head (HTTP/1: 408)")               \
    X(SETTINGS, "HTTP/2: its SETTINGS did not come (RFC 9113 3.4)")                                \
    X(SILENT, "HTTP/2: streams are open and PINGs unanswered: it is gone")                         \
    X(OLD, "it has lived for as long as it may: no new request")                                   \
    X(LAST_STEP, "HTTP/2: what came until now is all that will be served")

enum server_due {
#define X(value, meaning) SERVER_DUE_##value,
    SERVER_DUES(X)
#undef X
};

/* Moments of the loop's clock; 0: none. */
struct server_time {
    uint64_t end_at_us;       /* closed then */
    uint64_t head_at_us;      /* an incomplete head must be there by then */
    uint64_t old_at_us;       /* no new request from then on */
    uint64_t last_step_at_us; /* GOAWAY names the last stream */
    uint64_t look_at_us;      /* has anything come since the last look? */
    uint64_t bytes_seen;      /* received at that time */
    uint32_t head_stream;     /* HTTP/2: whose block is incomplete */
    uint8_t pings;            /* unanswered */
};

/* At the end of each run: sets the connection's timer. */
void server_time_arm(struct server *server);
/* At its beginning: what has come due, the gravest first. Writes a PING where one is. */
enum server_due server_time_take(struct server *server);
