#pragma once
/* Addresses of names, from the hosts file and the name servers of /etc/resolv.conf (or those that
 * were given), through c-ares, which stops here. A query is embedded in its owner, whose task is
 * posted when the answer is there. The admin thread's: a worker never waits for a name. What an
 * answer means for the endpoints of a cluster is upstream/name_rules' to say. */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/check.h"
#include "base/error.h"
#include "base/loop.h"

/* X(value, meaning) */
#define RESOLVE_OUTCOMES(X)                                                                        \
    X(FOUND, "there is at least one address")                                                      \
    X(NONE, "the name servers say that the name has none")                                         \
    X(FAILED, "no server answered, or one refused to: nothing is known")

enum resolve_outcome {
#define X(value, meaning) RESOLVE_##value,
    RESOLVE_OUTCOMES(X)
#undef X
};

struct resolve_answer {
    enum resolve_outcome outcome;
    struct addr *addrs; /* FOUND: of both families, port 0, in the servers' order */
    uint32_t count;
    uint32_t ttl_s;  /* FOUND: the shortest; 0: not said (hosts file) */
    const char *why; /* else, for people; constant */
};

enum resolve_families { RESOLVE_BOTH, RESOLVE_V4, RESOLVE_V6 };

enum resolve_state {
    RESOLVE_IDLE,
    RESOLVE_ASKED,   /* under way */
    RESOLVE_ANSWERED /* `answer` is new; its reader makes it IDLE */
};

/* Zeroed before first use but for `task`. */
struct resolve_query {
    enum resolve_state state;
    struct task *task;            /* posted with the answer */
    struct resolve_job *job;      /* the resolver's, while ASKED */
    struct resolve_answer answer; /* until the next question; addrs are the query's */
};

struct resolver;

/* `servers`: "IP[:PORT]" separated by commas; null: those of /etc/resolv.conf. Null with *err where
 * they make no sense. */
struct resolver *resolver_new(struct loop *loop, const char *servers, struct error *err) MUST_USE;
/* After every query has left. */
void resolver_free(struct resolver **resolver);

/* Asks; never answers within this call. The query is not under way. */
void resolver_ask(struct resolver *resolver, struct resolve_query *query, const char *name,
                  enum resolve_families families);
/* Ends it, whatever its state; frees its answer. */
void resolve_query_fini(struct resolve_query *query);
