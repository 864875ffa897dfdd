#pragma once
/* What every request of a run was, what the applications saw of it and what its client got: the
 * oracles compare the two. Bodies are a function of the request's number, so that nothing is stored
 * and a byte at the wrong place is seen where it comes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/world.h"

enum ledger_method { LEDGER_GET, LEDGER_HEAD, LEDGER_PUT, LEDGER_POST };

enum ledger_end {
    LEDGER_OPEN,      /* the client still waits */
    LEDGER_ANSWERED,  /* whole, by the application */
    LEDGER_LOCAL,     /* whole, by a sidecar */
    LEDGER_CUT,       /* the answer began and its end is marked cut */
    LEDGER_LOST,      /* the connection ended before an answer */
    LEDGER_ABANDONED, /* the client gave it up */
    LEDGER_END_COUNT
};

#define LEDGER_TRIES_MAX 16

/* One arrival at an application. */
struct ledger_try {
    unsigned app;
    unsigned status;     /* of the answer that it means to give */
    uint64_t answer_len; /* its whole body */
    uint64_t at_us;
    bool whole; /* all of it was written */
};

struct ledger_row {
    enum ledger_method method;
    enum ledger_end end;
    unsigned client; /* its number */
    unsigned status; /* what the client got */
    uint64_t body_len;
    unsigned heads; /* how often an application got the whole head */
    struct ledger_try tries[LEDGER_TRIES_MAX];
    uint64_t begun_us;
    uint64_t ended_us;
};

struct ledger {
    struct world *world;
    struct ledger_row *rows; /* by number, from 1 */
    uint64_t count;
    uint64_t cap;
    bool posts_may_repeat; /* the policy asks for it */
};

void ledger_init(struct ledger *ledger, struct world *world);
void ledger_fini(struct ledger *ledger);
/* The number of a new request. */
uint64_t ledger_begin(struct ledger *ledger, unsigned client, enum ledger_method method,
                      uint64_t body_len);
/* Null with a failure when there is no such request. */
struct ledger_row *ledger_row(struct ledger *ledger, uint64_t number);
const char *ledger_method_name(enum ledger_method method);
bool ledger_idempotent(enum ledger_method method);

/* An application got the whole head. The number of this try, from 0; the answer carries it. */
unsigned ledger_seen(struct ledger *ledger, uint64_t number, unsigned app);
/* The client is done with it; what it got of an answer. */
struct ledger_got {
    unsigned status;
    unsigned tried; /* the try that the answer names */
    uint64_t len;
};
void ledger_end(struct ledger *ledger, uint64_t number, enum ledger_end end,
                const struct ledger_got *got);
/* Ends that are the same for every run: nothing is open. */
void ledger_close(struct ledger *ledger);
uint64_t ledger_ends(const struct ledger *ledger, enum ledger_end end);

enum { LEDGER_REQUEST_BODY = 1, LEDGER_ANSWER_BODY = 2 };
void ledger_fill(uint64_t number, unsigned which, uint64_t from, uint8_t *bytes, size_t len);
/* Fails the run at a wrong byte. */
void ledger_check(struct ledger *ledger, uint64_t number, unsigned which, uint64_t from,
                  const uint8_t *bytes, size_t len);
