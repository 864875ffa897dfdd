#pragma once
/* A client in front of a sidecar: one connection at a time, requests one after the other or
 * pipelined, with bodies whole, in chunks or dripping, impatient or slow to read; it judges every
 * answer. Or opaque bytes that have to come back. */

#include "tests/sim/ledger.h"
#include "tests/sim/reader.h"
#include "tests/sim/wire.h"
#include "tests/sim/world.h"

#define CLIENT_DEPTH_MAX 8

struct client_plan {
    unsigned requests;
    unsigned depth;       /* pipelined, at most */
    unsigned method[4];   /* weights by enum ledger_method */
    uint64_t body_max;    /* of a request */
    uint64_t gap_max_us;  /* between an answer and the next request */
    uint64_t patience_us; /* without an answer: gives up */
    uint32_t abort_ppm;   /* of requests: closes or resets at some moment */
    uint64_t abort_max_us;
    uint32_t chunked_ppm; /* of bodies */
    uint32_t drip_ppm;    /* of bodies: piece by piece */
    uint32_t deaf_ppm;    /* of answers: reads nothing for a while */
    uint64_t drip_max_us;
    uint32_t reconnect_ppm; /* of answers: closes the connection behind it */
    bool opaque;            /* bytes that an echo returns */
    bool hasty_is_fine;     /* running out of patience is no failure */
};

struct client {
    struct host *host;
    struct ledger *ledger;
    struct client_plan plan;
    struct addr to;
    const char *authority;
    unsigned number;
    struct wire wire;
    struct task task;
    struct timer timer;
    struct reader reader;
    uint64_t waiting[CLIENT_DEPTH_MAX]; /* numbers of requests without an answer, in order */
    unsigned waiting_count;
    unsigned left;    /* requests to begin */
    uint64_t sending; /* whose body is not written whole; 0: none */
    uint64_t sent;    /* of it */
    bool sending_chunked;
    bool sending_drip;
    uint64_t next_at_us; /* the next request, connection or piece */
    uint64_t give_up_at_us;
    uint64_t abort_at_us; /* 0: never */
    uint64_t hear_at_us;
    uint64_t echo_got;
    bool done;
};

/* `number`: of its rows in the ledger. */
void client_init(struct client *client, unsigned number, struct host *host, struct ledger *ledger,
                 const struct addr *to, const char *authority, const struct client_plan *plan);
/* More requests, after it was done. */
void client_more(struct client *client, unsigned requests);
void client_fini(struct client *client);
