#pragma once
/* From a request to its route, and from the route to its cluster. Pure; the only state is the
 * credits of weighted routes, one struct splits a worker and route table. */

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/fail.h"
#include "sidecar/route/match.h"

/* What a request matched; borrowed from the table. */
struct route_found {
    const struct virtual_host *host; /* null: no domain fits */
    const struct route *route;       /* null with FAIL_NO_ROUTE */
};

/* Envoy's precedence: exact domain, longest suffix wildcard, longest prefix wildcard, "*"
 * (route_components.proto, VirtualHost.domains). Null: none. */
const struct virtual_host *router_host(const struct route_table *table, struct slice authority);
/* The first route of the request's virtual host that matches. FAIL_NONE or FAIL_NO_ROUTE. `draw` is
 * uniform: a fraction's chance. */
enum fail router_find(const struct route_table *table, const struct message *request,
                      struct matcher *matcher, uint64_t draw, struct route_found *found) MUST_USE;

/* A worker's credits for every weighted route of one table. */
struct splits;

/* The table must outlive the splits, or splits_update come first. `draw` sets the start phase. */
struct splits *splits_new(const struct route_table *table, uint64_t draw) MUST_USE;
/* Goes over to another version of the table: a route of the same virtual host and name keeps its
 * credits, cluster by cluster. */
void splits_update(struct splits *splits, const struct route_table *table, uint64_t draw);
void splits_free(struct splits **splits);

/* Which target a request takes: index into forward.targets. Drawn once a request; a retry goes to
 * the same. -1: no target has weight, or the route takes its cluster from a header. */
int splits_pick(struct splits *splits, const struct route *route);
