#pragma once
/* Exact shares: over any n consecutive picks under unchanged weights, a destination's count differs
 * from n * weight / sum by less than 1 for two destinations, by less than 2 for more. The schedule
 * is Tijdeman's for the chairman assignment problem, whose every prefix stays within 1 - 1/(2n-2);
 * plain smooth weighted round robin gives the same picks for two, but has no such bound for many.
 *
 * The start is a random point of the schedule: many sidecars that each send a few requests still
 * give a small share its part. Credits are kept as fractions of a pick over a change of weights,
 * by name; a weight of 0 is never picked, and its credit is spread over the others.
 *
 * One worker's, for one route. */

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

struct weights;

struct weights_share {
    struct slice name; /* copied */
    uint32_t weight;
};

/* `draw` (uniform) chooses the start. The sum of the weights fits 32 bits (Envoy's rule too). */
struct weights *weights_new(const struct weights_share *shares, size_t count,
                            uint64_t draw) MUST_USE;
/* Other weights, perhaps other destinations; takes effect on the next pick. */
void weights_update(struct weights *weights, const struct weights_share *shares, size_t count,
                    uint64_t draw);
void weights_free(struct weights **weights);

/* Index into the shares; -1 when no weight is above 0. */
int weights_pick(struct weights *weights);
