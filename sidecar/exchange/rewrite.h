#pragma once
/* What the sidecar changes in heads: which fields it takes away or adds at the edge of the mesh and
 * of the application, and the header operations of routes (behaviour.md, "Headers"). One worker. */

#include <stdbool.h>

struct exchange;

/* Fields that a request may gain on its way, beyond what its route adds. */
#define REWRITE_EXTRA_FIELDS 12

/* Before matching: takes away what the other side must not say. Paths are normal already: both
 * codecs see to that, whatever a listener says. */
void rewrite_prepare(struct exchange *exchange);
/* After matching: the route's operations and rewrites, then our own fields. */
void rewrite_request(struct exchange *exchange);
/* Before each attempt's head: what is left of the request's time, for the next hop. */
void rewrite_deadline(struct exchange *exchange);
/* The answer's head, the upstream's or a local one, before it goes down. */
void rewrite_answer(struct exchange *exchange);
