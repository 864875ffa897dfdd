#pragma once
/* An application behind a sidecar: an HTTP/1.1 server that answers as a mix of habits says, good
 * and bad, and tells the ledger what it saw. Or an echo of bytes. Its listener may go and come
 * back. */

#include "tests/sim/ledger.h"
#include "tests/sim/world.h"

/* X(NAME, meaning) */
#define APP_HABITS(X)                                                                              \
    X(ANSWER, "answers with a length")                                                             \
    X(CHUNKED, "answers in chunks")                                                                \
    X(UNTIL_CLOSE, "its answer ends with the connection")                                          \
    X(LAST, "answers and closes the connection")                                                   \
    X(QUIET_LAST, "closes behind the answer without saying so in it")                              \
    X(EARLY, "answers before the request's body is there, and closes")                             \
    X(INTERIM, "103 before the answer")                                                            \
    X(SLOW, "waits, then answers")                                                                 \
    X(DRIP, "answers piece by piece")                                                              \
    X(ERROR, "503")                                                                                \
    X(BROKEN, "500")                                                                               \
    X(EMPTY, "204")                                                                                \
    X(CLOSE, "closes instead of answering")                                                        \
    X(RESET, "resets instead of answering")                                                        \
    X(HALF_CLOSE, "closes in the middle of its answer")                                            \
    X(HALF_RESET, "resets in the middle of its answer")                                            \
    X(HANG, "never answers")                                                                       \
    X(GARBAGE, "sends what is no HTTP")

enum app_habit {
#define X(name, meaning) APP_##name,
    APP_HABITS(X)
#undef X
        APP_HABIT_COUNT
};

struct app_mix {
    unsigned weight[APP_HABIT_COUNT];
    uint64_t answer_max; /* bytes */
    uint64_t slow_max_us;
    bool echo; /* opaque TCP: bytes come back, FIN too */
};

struct app {
    struct host *host;
    struct ledger *ledger;
    struct app_mix mix;
    struct addr at;
    unsigned number;
    struct net_listener *net; /* null: it is down */
    struct task task;
    struct list conns;
    uint64_t requests;
    uint64_t echoed;
};

/* Listens at once. */
void app_init(struct app *app, struct host *host, struct ledger *ledger, const struct addr *at,
              unsigned number, const struct app_mix *mix);
/* Stops listening and resets or closes every connection. */
void app_stop(struct app *app);
void app_start(struct app *app);
void app_fini(struct app *app);
