#pragma once
/* Oracles that look at a sidecar between ticks: breakers, retry budget, ejection. They know the
 * policy from the configuration that is in force, and what endpoints get from the ledger. */

#include "tests/sim/ledger.h"
#include "tests/sim/node.h"

#define WATCH_ENDPOINTS_MAX 9
#define WATCH_EJECTIONS_MAX 64

/* One time that an endpoint was left out. */
struct watch_ejection {
    unsigned app;
    uint64_t from_us;
    uint64_t to_us; /* UINT64_MAX: it still is */
};

struct watch_endpoint {
    bool ejected;
    unsigned times;   /* ejected so far */
    unsigned active;  /* requests, at the last look */
    uint64_t from_us; /* ejected */
};

struct watch {
    const struct node *node;
    struct ledger *ledger;
    unsigned clusters; /* v1, v2, ... of `endpoints` each: the applications in their order */
    unsigned endpoints;
    uint32_t retries_max; /* charged ones under way at once; UINT32_MAX: not looked at */
    struct watch_endpoint at[WATCH_ENDPOINTS_MAX];
    struct watch_ejection ejections[WATCH_EJECTIONS_MAX];
    unsigned ejection_count;
};

void watch_init(struct watch *watch, const struct node *node, struct ledger *ledger,
                unsigned clusters, unsigned endpoints);
/* Now, between ticks. */
void watch_look(struct watch *watch);
/* At the end: while an endpoint was left out it got nothing that had not begun before. */
void watch_check_ejections(const struct watch *watch);
/* At the end: an application that failed each request until `healed_us`, and alone, got no more of
 * them before it was left out, each time, than the policy says and `under_way` more. */
void watch_check_failures(const struct watch *watch, unsigned bad, uint64_t healed_us,
                          unsigned under_way);
