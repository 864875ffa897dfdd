#pragma once
/* A listening socket in one worker: takes connections and gives each to intake. What a connection
 * is served by was made ready when the configuration was applied: a service for each filter chain.
 * One worker. */

#include "base/loop.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/exchange/server.h"

struct worker;

struct listener {
    struct list link; /* in worker->listeners */
    struct worker *worker;
    struct net_listener *net;
    struct task task;
    const struct listener_config *config;
    unsigned last_run;         /* connections that the last run took */
    struct service **services; /* by chain; the fallback's last */
};

/* Takes *net, which listens on the worker's loop already. The config outlives the listener. */
struct listener *listener_new(struct worker *worker, const struct listener_config *config,
                              struct net_listener **net);
void listener_free(struct listener **listener);
/* What serves connections of that chain. */
struct service *listener_service(struct listener *listener, const struct filter_chain *chain);
