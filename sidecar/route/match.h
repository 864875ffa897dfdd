#pragma once
/* Does a request (or a response, for retriable headers) fit one match of the configuration? Pure.
 */

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"
#include "sidecar/config/snapshot.h"

struct regex_scratch; /* base/regex */

/* What matching needs of its thread. */
struct matcher {
    struct regex_scratch *scratch;
    uint64_t given_up; /* expressions that ran into their limits, ever: a metric */
};

/* An expression that gives up has not matched, and no inversion makes a match of it. */
bool match_string(struct matcher *matcher, const struct string_match *match,
                  struct slice value) MUST_USE;
/* A field that came in several lines fits when one of its lines does; with `invert`, when none
 * does (measured against Envoy under istiod). */
bool match_header(struct matcher *matcher, const struct header_match *match,
                  const struct message *message) MUST_USE;
/* All of them. */
bool match_headers(struct matcher *matcher, const struct header_match *matches, size_t count,
                   const struct message *message) MUST_USE;
/* Values are compared as they stand in the query, undecoded (Envoy). */
bool match_query(struct matcher *matcher, const struct query_match *match,
                 struct slice query) MUST_USE;
/* The chance that `draw` (uniform) is within the fraction. */
bool match_fraction(const struct fraction *fraction, uint64_t draw) MUST_USE;
/* The whole of a route's match (Envoy route.proto, RouteMatch). */
bool match_route(struct matcher *matcher, const struct route_match *match,
                 const struct message *request, uint64_t draw) MUST_USE;

/* The path without its query, and the query without its '?'. */
struct slice match_path_of(const struct message *request);
struct slice match_query_of(const struct message *request);
/* content-type application/grpc, alone or with a suffix ("+proto") or parameter. */
bool match_is_grpc(const struct message *message) MUST_USE;
