#include "sidecar/route/chain.h"

/* Every level gives each chain that is still in the race a score: -1 excludes it, 0 is a match that
 * asks nothing, more is more specific. The best score stays; nobody comes back. */

#define ASKS_NOTHING 0
#define NO_MATCH     (-1)
#define EXACT_NAME   100000 /* longer than any wildcard */

typedef int (*level_score)(const struct chain_match *match, const struct chain_query *query);

static int score_prefixes(const struct cidr *prefixes, unsigned count, const struct addr *addr)
{
    if (count == 0) {
        return ASKS_NOTHING;
    }
    int best = NO_MATCH;
    for (unsigned i = 0; i < count; i++) {
        if (addr_in_prefix(addr, &prefixes[i].addr, prefixes[i].prefix_len) &&
            (int)prefixes[i].prefix_len > best) {
            best = (int)prefixes[i].prefix_len;
        }
    }
    return best;
}

static int score_port(const struct chain_match *match, const struct chain_query *query)
{
    if (match->destination_port == 0) {
        return ASKS_NOTHING;
    }
    return match->destination_port == query->destination.port ? 1 : NO_MATCH;
}

static int score_destination(const struct chain_match *match, const struct chain_query *query)
{
    return score_prefixes(match->destinations, match->destination_count, &query->destination);
}

static int score_server_name(const struct chain_match *match, const struct chain_query *query)
{
    if (match->server_name_count == 0) {
        return ASKS_NOTHING;
    }
    int best = NO_MATCH;
    for (unsigned i = 0; i < match->server_name_count; i++) {
        struct slice name = match->server_names[i];
        int score = NO_MATCH;
        if (slice_eq(name, query->server_name) && name.len > 0) {
            score = EXACT_NAME;
        } else if (slice_starts(name, SLICE("*.")) && query->server_name.len >= name.len &&
                   slice_ends(query->server_name, slice_from(name, 1))) {
            score = (int)name.len;
        }
        best = score > best ? score : best;
    }
    return best;
}

static int score_transport(const struct chain_match *match, const struct chain_query *query)
{
    if (match->transport.len == 0) {
        return ASKS_NOTHING;
    }
    return slice_eq(match->transport, query->transport) ? 1 : NO_MATCH;
}

/* The client's order decides: the first of its protocols that any chain names. */
static int score_alpn(const struct chain_match *match, const struct chain_query *query)
{
    if (match->alpn_count == 0) {
        return ASKS_NOTHING;
    }
    for (unsigned offer = 0; offer < query->alpn_count; offer++) {
        for (unsigned i = 0; i < match->alpn_count; i++) {
            if (slice_eq(match->alpn[i], query->alpn[offer])) {
                return (int)(query->alpn_count - offer);
            }
        }
    }
    return NO_MATCH;
}

static int score_direct_source(const struct chain_match *match, const struct chain_query *query)
{
    return score_prefixes(match->direct_sources, match->direct_source_count, &query->direct_source);
}

static int score_source_type(const struct chain_match *match, const struct chain_query *query)
{
    bool local =
        addr_is_loopback(&query->source) || addr_ip_eq(&query->source, &query->destination);
    switch ((enum source_type)match->source_type) {
    case SOURCE_ANY:
        return ASKS_NOTHING;
    case SOURCE_LOCAL:
        return local ? 1 : NO_MATCH;
    case SOURCE_EXTERNAL:
        return local ? NO_MATCH : 1;
    }
    return NO_MATCH;
}

static int score_source(const struct chain_match *match, const struct chain_query *query)
{
    return score_prefixes(match->sources, match->source_count, &query->source);
}

static int score_source_port(const struct chain_match *match, const struct chain_query *query)
{
    if (match->source_port_count == 0) {
        return ASKS_NOTHING;
    }
    for (unsigned i = 0; i < match->source_port_count; i++) {
        if (match->source_ports[i] == query->source.port) {
            return 1;
        }
    }
    return NO_MATCH;
}

static const level_score levels[] = {
    score_port,          score_destination, score_server_name, score_transport,   score_alpn,
    score_direct_source, score_source_type, score_source,      score_source_port,
};

const struct filter_chain *chain_find(const struct listener_config *listener,
                                      const struct chain_query *query)
{
    uint64_t racing[LISTENER_CHAINS_MAX / 64];
    CHECK(listener->chain_count <= LISTENER_CHAINS_MAX);
    size_t bytes = (listener->chain_count + 63) / 64 * sizeof(racing[0]); /* mostly one word */
    memset(racing, 0xff, bytes);
    for (size_t level = 0; level < COUNT_OF(levels); level++) {
        uint64_t winners[LISTENER_CHAINS_MAX / 64];
        memset(winners, 0, bytes);
        int best = NO_MATCH;
        for (uint32_t i = 0; i < listener->chain_count; i++) {
            if ((racing[i / 64] >> (i % 64) & 1) == 0) {
                continue;
            }
            int score = levels[level](&listener->chains[i].match, query);
            if (score > best) {
                best = score;
                memset(winners, 0, bytes);
            }
            if (score == best && score != NO_MATCH) {
                winners[i / 64] |= UINT64_C(1) << (i % 64);
            }
        }
        if (best == NO_MATCH) {
            return listener->fallback;
        }
        memcpy(racing, winners, bytes);
    }
    for (uint32_t i = 0; i < listener->chain_count; i++) {
        if ((racing[i / 64] >> (i % 64) & 1) != 0) {
            return &listener->chains[i];
        }
    }
    return listener->fallback;
}
