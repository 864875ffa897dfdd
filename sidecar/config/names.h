#pragma once
/* Clusters whose endpoints are names (STRICT_DNS, LOGICAL_DNS): each name is asked for, and asked
 * again as upstream/name_rules say, as long as somebody has its cluster; what comes goes to every
 * worker as endpoints. Until a name's first answer its cluster has none. The admin thread's. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/loop.h"
#include "sidecar/config/parcel.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/upstream/resolve.h"

struct worker;

struct names_options {
    struct loop *loop;       /* the admin thread's */
    struct worker **workers; /* as long as the names */
    unsigned worker_count;
    uint64_t seed; /* of jitter */
    /* resolver_ask, with `asker` for its resolver. */
    void (*ask)(void *asker, struct resolve_query *query, const char *name,
                enum resolve_families families);
    void *asker;
};

struct names;

struct names *names_new(const struct names_options *options) MUST_USE;
/* The workers' threads have ended. */
void names_free(struct names **names);

/* A cluster of CDS or of the bootstrap, new or changed. `published` keeps it; null: it outlives the
 * names. One that is not of a DNS type is none of ours: what had its name before goes. */
void names_put(struct names *names, const struct cluster_config *config,
               struct published *published);
void names_remove(struct names *names, struct slice cluster);

/* The clusters of an answer, in which they are kept: counted, as several answers may have one. */
void names_hold(struct names *names, const struct destination *destination,
                struct published *published);
void names_release(struct names *names, const struct destination *destination);
/* What is known already of its clusters, for a worker that is new to it. */
void names_send(struct names *names, struct worker *worker, const struct destination *destination);
