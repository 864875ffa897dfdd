#pragma once
/* What one worker tells of itself, as JSON: made on the worker's thread, from what it owns, and
 * given away whole. admin.c asks for it by mail and puts the workers' answers together. */

#include "base/json.h"
#include "base/slice.h"

struct worker;

/* Each returns a new reference. `argument`: what the asker wants to narrow it to; may be empty. */

/* Brings the worker's gauges up to date; the answer is null (JSON's). */
json_t *show_gauges(struct worker *worker, struct slice argument) MUST_USE;
/* Clusters and endpoints, what is known of them, connections in their pools. */
json_t *show_clusters(struct worker *worker, struct slice argument) MUST_USE;
/* Listeners, chains, routes, as they are applied. */
json_t *show_config(struct worker *worker, struct slice argument) MUST_USE;
/* Certificates in use, never keys. */
json_t *show_certs(struct worker *worker, struct slice argument) MUST_USE;
/* Decision records; argument: an x-request-id. */
json_t *show_exchanges(struct worker *worker, struct slice argument) MUST_USE;

/* Puts `more`, another worker's clusters, to `sum`: what the workers share is the same in both,
 * what each counts for itself is added. */
void show_add_clusters(json_t *sum, const json_t *more);
