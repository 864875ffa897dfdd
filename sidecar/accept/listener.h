#pragma once
/* A listening socket in one worker: takes connections and gives each to intake, or to outbound.
 * What a connection is served by was made ready when the configuration was applied: a service for
 * each filter chain. One worker. */

#include "base/loop.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/exchange/server.h"

struct parcel;
struct worker;

/* What a socket stands for whose configuration comes from a control plane. The owner keeps it as
 * long as its listeners. */
struct listener_place {
    enum listener_direction direction;
    struct addr at;       /* where it listens */
    bool captured;        /* connections come redirected, with their original destination */
    struct addr app;      /* inbound, not captured: dialled in place of an original destination */
    struct slice key;     /* outbound, not captured: the destination that it is the way to */
    bool tcp;             /* the same: its bytes are never taken for HTTP */
    struct slice network; /* outbound, captured: of the keys */
    const uint16_t *refused; /* inbound, captured: our own ports, which nobody may be sent to */
    unsigned refused_count;
};

/* What serves connections of one filter chain. */
struct listener_chain {
    struct service *service; /* the line's newest */
    struct service_line *line;
};

struct listener {
    struct list link; /* in worker->listeners */
    struct worker *worker;
    struct net_listener *net;
    struct task task;
    const struct listener_place *place;   /* null: all is in the config */
    const struct listener_config *config; /* null: none came yet, or outbound */
    struct parcel *pin;                   /* keeps the config; null: it outlives the listener */
    struct listener_chain *chains;        /* as the config's; the fallback's last */
    unsigned last_run;                    /* connections that the last run took */
};

/* Takes *net, which listens on the worker's loop already. The config outlives the listener. */
struct listener *listener_new(struct worker *worker, const struct listener_config *config,
                              struct net_listener **net);
/* The same for a place. Inbound: connections wait in the kernel until the first
 * listener_apply. */
struct listener *listener_new_at(struct worker *worker, const struct listener_place *place,
                                 struct net_listener **net);
void listener_free(struct listener **listener);

/* A new version of the config; `pin` is referenced. Connections go over to the new version of their
 * chain with the next request; those whose chain is gone are told to go. */
void listener_apply(struct listener *listener, const struct listener_config *config,
                    struct parcel *pin);
/* Whether it has what it takes to serve a connection. */
bool listener_is_ready(const struct listener *listener);
/* Begins with a connection of its socket, on this worker's loop. */
void listener_take(struct listener *listener, struct net_conn **net);
/* What serves connections of that chain, which is the config's. */
struct service *listener_service(struct listener *listener, const struct filter_chain *chain);
