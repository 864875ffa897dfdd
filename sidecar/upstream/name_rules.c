/* A failure changes nothing but the time: what was known serves on. An answer that says that there
 * is no address is none: the endpoints of STRICT_DNS go (Envoy), the one of LOGICAL_DNS stays.
 *
 * Order does not count: servers rotate their answers, and a set that is the same must not look like
 * a change. So one address of LOGICAL_DNS stays while the answer still has it, where Envoy takes
 * the first of each answer and keeps old connections beside. */
#include "sidecar/upstream/name_rules.h"

#include <string.h>

#include "base/alloc.h"

#define SECONDS      UINT64_C(1000000)
#define FAILURES_MAX 10U /* doublings of the pause */
#define PAUSE_MAX_US (60 * SECONDS)

struct name_rules name_rules_of(const struct cluster_config *cluster)
{
    return (struct name_rules){.family = cluster->dns_family,
                               .refresh_us = cluster->dns_refresh_us,
                               .jitter_us = cluster->dns_jitter_us,
                               .respect_ttl = cluster->dns_respect_ttl,
                               .logical = cluster->type == CLUSTER_LOGICAL_DNS};
}

enum resolve_families name_rules_families(const struct name_rules *rules)
{
    switch (rules->family) {
    case DNS_V4:
        return RESOLVE_V4;
    case DNS_V6:
        return RESOLVE_V6;
    case DNS_AUTO:
    case DNS_V4_PREFERRED:
    case DNS_ALL:
        return RESOLVE_BOTH;
    }
    return RESOLVE_BOTH;
}

static bool has_family(const struct resolve_answer *answer, enum addr_family family)
{
    for (uint32_t i = 0; i < answer->count; i++) {
        if (answer->addrs[i].family == family) {
            return true;
        }
    }
    return false;
}

/* The family whose addresses count; ADDR_NONE: both (Envoy, dns_lookup_family: AUTO is the sixth
 * version where there is one, else the fourth). */
static enum addr_family chosen_family(const struct name_rules *rules,
                                      const struct resolve_answer *answer)
{
    switch (rules->family) {
    case DNS_AUTO:
        return has_family(answer, ADDR_IPV6) ? ADDR_IPV6 : ADDR_IPV4;
    case DNS_V4_PREFERRED:
        return has_family(answer, ADDR_IPV4) ? ADDR_IPV4 : ADDR_IPV6;
    case DNS_V4:
        return ADDR_IPV4;
    case DNS_V6:
        return ADDR_IPV6;
    case DNS_ALL:
        return ADDR_NONE;
    }
    return ADDR_NONE;
}

static bool contains(const struct addr *addrs, uint32_t count, const struct addr *addr)
{
    for (uint32_t i = 0; i < count; i++) {
        if (addr_eq(&addrs[i], addr)) {
            return true;
        }
    }
    return false;
}

/* The answer's addresses that count, each once, into `out`, which has room for all. */
static uint32_t choose(const struct name_rules *rules, const struct resolve_answer *answer,
                       struct addr *out)
{
    enum addr_family family = chosen_family(rules, answer);
    uint32_t count = 0;
    for (uint32_t i = 0; i < answer->count; i++) {
        const struct addr *addr = &answer->addrs[i];
        if ((family == ADDR_NONE || addr->family == family) && !contains(out, count, addr)) {
            out[count++] = *addr;
        }
    }
    return count;
}

static bool same_set(const struct name_state *state, const struct addr *addrs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!contains(state->addrs, state->count, &addrs[i])) {
            return false;
        }
    }
    return state->count == count;
}

static bool take_found(struct name_state *state, const struct name_rules *rules,
                       const struct resolve_answer *answer)
{
    struct addr *addrs = NEW_ARRAY(struct addr, answer->count);
    uint32_t count = choose(rules, answer, addrs);
    if (rules->logical && count > 1) {
        bool stays = state->count == 1 && contains(addrs, count, &state->addrs[0]);
        addrs[0] = stays ? state->addrs[0] : addrs[0];
        count = 1;
    }
    if (same_set(state, addrs, count)) {
        mem_free(addrs);
        return false;
    }
    mem_free(state->addrs);
    state->addrs = addrs;
    state->count = count;
    return true;
}

static bool take_none(struct name_state *state, const struct name_rules *rules)
{
    bool had = state->count > 0;
    if (rules->logical || !had) {
        return false;
    }
    FREE(state->addrs);
    state->count = 0;
    return true;
}

/* Doubled with each failure, from the refresh rate on (or the pause's greatest, where that is
 * less): Envoy's back-off when dns_failure_refresh_rate is not given is the refresh rate itself;
 * the doubling spares servers that are down. */
static uint64_t pause_of(const struct name_state *state, const struct name_rules *rules,
                         const struct resolve_answer *answer)
{
    if (answer->outcome == RESOLVE_FOUND && rules->respect_ttl && answer->ttl_s > 0) {
        return answer->ttl_s * SECONDS;
    }
    if (state->failures == 0) {
        return rules->refresh_us;
    }
    uint32_t doublings = state->failures - 1 < FAILURES_MAX ? state->failures - 1 : FAILURES_MAX;
    uint64_t most_us = rules->refresh_us > PAUSE_MAX_US ? rules->refresh_us : PAUSE_MAX_US;
    uint64_t pause_us = rules->refresh_us << doublings;
    return pause_us < most_us ? pause_us : most_us;
}

bool name_state_take(struct name_state *state, const struct name_rules *rules,
                     const struct resolve_answer *answer, uint64_t now_us, uint64_t draw)
{
    bool changed = false;
    CHECK(rules->refresh_us > 0);
    switch (answer->outcome) {
    case RESOLVE_FOUND:
        changed = take_found(state, rules, answer);
        break;
    case RESOLVE_NONE:
        changed = take_none(state, rules);
        break;
    case RESOLVE_FAILED:
        break;
    }
    state->failures = answer->outcome == RESOLVE_FAILED ? state->failures + 1 : 0;
    changed = changed || (!state->known && answer->outcome != RESOLVE_FAILED);
    state->known = state->known || answer->outcome != RESOLVE_FAILED;
    uint64_t jitter_us = rules->jitter_us > 0 ? draw % rules->jitter_us : 0;
    state->ask_at_us = now_us + pause_of(state, rules, answer) + jitter_us;
    return changed;
}

void name_state_fini(struct name_state *state)
{
    mem_free(state->addrs);
    *state = (struct name_state){.addrs = NULL};
}
