#pragma once
/* What the answers about one name come to: which addresses stand for it now, and when to ask again.
 * Envoy's rules (cluster.proto: dns_refresh_rate, respect_dns_ttl, dns_jitter, dns_lookup_family;
 * service discovery, strict and logical DNS). Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/config/snapshot.h"
#include "sidecar/upstream/resolve.h"

struct name_rules {
    enum dns_family family;
    uint64_t refresh_us; /* between an answer and the next question */
    uint64_t jitter_us;  /* up to so much more */
    bool respect_ttl;    /* the answer's time to live instead, where it has one */
    bool logical;        /* one address stands for the name (LOGICAL_DNS) */
};

/* What a cluster's fields make of them. */
struct name_rules name_rules_of(const struct cluster_config *cluster);
/* Which families to ask for. */
enum resolve_families name_rules_families(const struct name_rules *rules);

/* Zeroed at first. */
struct name_state {
    struct addr *addrs; /* what stands for the name now; the state's */
    uint32_t count;
    uint64_t ask_at_us; /* the next question */
    uint32_t failures;  /* in a row */
    bool known;         /* a server has answered at least once */
};

/* Takes an answer in; `draw` is uniform. True: the addresses are others than before. */
bool name_state_take(struct name_state *state, const struct name_rules *rules,
                     const struct resolve_answer *answer, uint64_t now_us, uint64_t draw);
void name_state_fini(struct name_state *state);
