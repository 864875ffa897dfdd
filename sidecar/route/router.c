#include "sidecar/route/router.h"

#include "base/alloc.h"
#include "sidecar/route/weights.h"

struct splits {
    const struct route_table *table;
    struct weights **of; /* by route_forward.split */
};

/* ---- domains ---- */

/* Where the port of an authority begins, its ':' included; its length when there is none. */
static size_t port_at(struct slice authority)
{
    size_t at = authority.len;
    while (at > 0 && authority.at[at - 1] >= '0' && authority.at[at - 1] <= '9') {
        at--;
    }
    bool colon = at > 0 && authority.at[at - 1] == ':';
    bool bare_ipv6 = authority.len > 0 && authority.at[0] != '[' && colon &&
                     slice_find(authority, ':') != at - 1;
    return colon && !bare_ipv6 ? at - 1 : authority.len;
}

/* As slice_compare, the host folded to lower case; domains are. */
static int compare_domain(struct slice host, struct slice domain)
{
    size_t common = host.len < domain.len ? host.len : domain.len;
    for (size_t i = 0; i < common; i++) {
        int difference = (int)slice_lower(host.at[i]) - (int)domain.at[i];
        if (difference != 0) {
            return difference;
        }
    }
    return host.len < domain.len ? -1 : host.len > domain.len;
}

static int64_t find_exact(const struct route_table *table, struct slice host)
{
    uint32_t low = 0;
    uint32_t high = table->exact_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_domain(host, table->exact[middle].text);
        if (order == 0) {
            return table->exact[middle].host;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

/* A wildcard stands for at least one character. */
static int64_t find_wildcard(const struct domain *domains, uint32_t count, struct slice host,
                             bool suffix)
{
    for (uint32_t i = 0; i < count; i++) {
        struct slice text = domains[i].text;
        if (host.len <= text.len) {
            continue;
        }
        struct slice part = suffix ? slice_from(host, host.len - text.len) : host;
        if (slice_starts_nocase(part, text)) {
            return domains[i].host;
        }
    }
    return -1;
}

const struct virtual_host *router_host(const struct route_table *table, struct slice authority)
{
    struct slice host = table->ignore_port ? slice_head(authority, port_at(authority)) : authority;
    int64_t found = find_exact(table, host);
    if (found < 0) {
        found = find_wildcard(table->suffixes, table->suffix_count, host, true);
    }
    if (found < 0) {
        found = find_wildcard(table->prefixes, table->prefix_count, host, false);
    }
    if (found < 0) {
        found = table->any;
    }
    return found < 0 ? NULL : &table->hosts[found];
}

enum fail router_find(const struct route_table *table, const struct message *request,
                      struct matcher *matcher, uint64_t draw, struct route_found *found)
{
    CHECK(request->kind == MESSAGE_REQUEST);
    *found = (struct route_found){.host = router_host(table, request->authority)};
    if (found->host == NULL) {
        return FAIL_NO_ROUTE;
    }
    for (uint32_t i = 0; i < found->host->route_count; i++) {
        const struct route *route = &found->host->routes[i];
        if (match_route(matcher, &route->match, request, draw)) {
            found->route = route;
            return FAIL_NONE;
        }
    }
    return FAIL_NO_ROUTE;
}

/* ---- weighted routes ---- */

static bool is_split(const struct route *route)
{
    return route->kind == ROUTE_FORWARD && route->forward.split != ROUTE_NO_SPLIT;
}

/* The route of another table version that continues this one: same virtual host, same name, and the
 * same place among the weighted routes of that name. */
static const struct route *same_route(const struct route_table *table,
                                      const struct virtual_host *host, const struct route *route)
{
    unsigned place = 0;
    for (const struct route *r = host->routes; r != route; r++) {
        place += is_split(r) && slice_eq(r->name, route->name);
    }
    for (uint32_t h = 0; h < table->host_count; h++) {
        const struct virtual_host *other = &table->hosts[h];
        if (!slice_eq(other->name, host->name)) {
            continue;
        }
        for (uint32_t i = 0; i < other->route_count; i++) {
            const struct route *candidate = &other->routes[i];
            if (is_split(candidate) && slice_eq(candidate->name, route->name) && place-- == 0) {
                return candidate;
            }
        }
        return NULL;
    }
    return NULL;
}

/* The weights of this route, continued from `old` where it has some. */
static struct weights *weights_of(const struct route_table *table, const struct route *route,
                                  struct weights **old, uint64_t draw)
{
    const struct route_forward *forward = &route->forward;
    struct weights_share *shares = NEW_ARRAY(struct weights_share, forward->target_count);
    for (unsigned i = 0; i < forward->target_count; i++) {
        shares[i].name = table->clusters[forward->targets[i].cluster];
        shares[i].weight = forward->targets[i].weight;
    }
    /* Routes of one table must not all start in step. */
    uint64_t own_draw = draw + forward->split * UINT64_C(0x9e3779b97f4a7c15);
    struct weights *weights;
    if (old != NULL && *old != NULL) {
        weights = *old;
        *old = NULL;
        weights_update(weights, shares, forward->target_count, own_draw);
    } else {
        weights = weights_new(shares, forward->target_count, own_draw);
    }
    FREE(shares);
    return weights;
}

static struct weights **build(const struct route_table *table, struct splits *old, uint64_t draw)
{
    struct weights **of = NEW_ARRAY(struct weights *, table->split_count);
    for (uint32_t h = 0; h < table->host_count; h++) {
        const struct virtual_host *host = &table->hosts[h];
        for (uint32_t i = 0; i < host->route_count; i++) {
            const struct route *route = &host->routes[i];
            if (!is_split(route)) {
                continue;
            }
            CHECK(route->forward.split < table->split_count);
            const struct route *before = old != NULL ? same_route(old->table, host, route) : NULL;
            struct weights **kept = before != NULL ? &old->of[before->forward.split] : NULL;
            of[route->forward.split] = weights_of(table, route, kept, draw);
        }
    }
    return of;
}

static void free_weights(struct weights ***of, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        weights_free(&(*of)[i]);
    }
    FREE(*of);
}

struct splits *splits_new(const struct route_table *table, uint64_t draw)
{
    struct splits *splits = NEW(struct splits);
    splits->table = table;
    splits->of = build(table, NULL, draw);
    return splits;
}

void splits_update(struct splits *splits, const struct route_table *table, uint64_t draw)
{
    struct weights **of = build(table, splits, draw);
    free_weights(&splits->of, splits->table->split_count);
    splits->table = table;
    splits->of = of;
}

void splits_free(struct splits **splits)
{
    if (*splits != NULL) {
        free_weights(&(*splits)->of, (*splits)->table->split_count);
        FREE(*splits);
    }
}

int splits_pick(struct splits *splits, const struct route *route)
{
    CHECK(route->kind == ROUTE_FORWARD);
    if (route->forward.split != ROUTE_NO_SPLIT) {
        CHECK(route->forward.split < splits->table->split_count);
        return weights_pick(splits->of[route->forward.split]);
    }
    return route->forward.target_count == 1 && route->forward.targets[0].weight > 0 ? 0 : -1;
}
