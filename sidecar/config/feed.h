#pragma once
/* Where a sidecar's configuration comes from: one Delta ADS stream to the control plane, driven
 * over xds/ads_client. Each resource is compiled whole here, on the admin thread, and goes to the
 * workers as an immutable snapshot; what does not compile is refused with the field's path, and
 * what was there before serves on. Asks for a destination as long as at least one worker wants it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/loop.h"
#include "base/slice.h"

struct identity;
struct label;
struct names;
struct shared_registry;
struct stats_worker;
struct worker;

struct feed_options {
    struct loop *loop; /* the admin thread's */
    struct identity *identity;
    struct shared_registry *registry;
    struct names *names;     /* outlives the feed */
    struct worker **workers; /* as long as the feed */
    unsigned worker_count;   /* at most FEED_WORKERS_MAX */
    struct slice node;       /* encoded; feed_node makes one */
    uint32_t message_max;    /* bytes of one response */
    uint64_t seed;
    struct stats_worker *stats; /* the admin thread's; may be null */
    struct task *changed;       /* posted when feed_is_ready has become true; may be null */
};

#define FEED_WORKERS_MAX 64

struct feed;

/* Who says hello. Texts may be empty, but for address, namespace, name and account. */
struct feed_node {
    const char *address; /* IP */
    const char *namespace;
    const char *name; /* of the workload */
    const char *account;
    const char *network;
    const char *capture; /* "nft", "none" */
    const struct label *labels;
    unsigned label_count;
};
/* node.id "sidecar~ADDRESS~NAME.NS~NS.svc.cluster.local" and its metadata, encoded. */
struct slice feed_node_encode(struct arena *arena, const struct feed_node *node);

struct feed *feed_new(const struct feed_options *options) MUST_USE;
/* After the workers' threads have ended; their last mail to us may still wait in the loop. */
void feed_free(struct feed **feed);
/* Post it when the identity has changed. */
struct task *feed_task(struct feed *feed);

/* Any thread: the worker of that index wants the destination, or no longer. `feed` as void, to be
 * destinations_options.ask's; see feed_asker. */
void feed_ask(void *asker, struct slice key, bool want);
/* What worker `index` gives to feed_ask. As long as the feed. */
void *feed_asker(struct feed *feed, unsigned index);

/* The first inbound listener is with the workers. */
bool feed_is_ready(const struct feed *feed);
bool feed_is_connected(const struct feed *feed);
