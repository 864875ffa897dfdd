#pragma once
/* Configuration on its way from the admin thread to a worker. Mail to a worker arrives in the order
 * in which it was sent, so a listener never overtakes the clusters that it names, nor endpoints
 * their cluster. */

#include "base/slice.h"
#include "sidecar/config/parcel.h"

struct worker;

/* X(value, meaning) */
#define DELIVERIES(X)                                                                              \
    X(DESTINATION, "an answer")                                                                    \
    X(UNKNOWN, "there is no such destination")                                                     \
    X(REFUSED, "there is one that does not compile")                                               \
    X(CLUSTER, "a cluster of our own listener")                                                    \
    X(CLUSTER_GONE, "it is no longer there")                                                       \
    X(ENDPOINTS, "of clusters by service name (EDS)")                                              \
    X(RESOLVED, "endpoints of one cluster, by its name (DNS)")                                     \
    X(LISTENER, "the inbound listener")

enum delivery_kind {
#define X(value, meaning) DELIVERY_##value,
    DELIVERIES(X)
#undef X
};

/* Admin thread. `config` is what the kind says, kept by `published`; both null where there is only
 * a name (UNKNOWN, REFUSED, CLUSTER_GONE), which is copied. */
void delivery_send(struct worker *worker, enum delivery_kind kind, struct published *published,
                   const void *config, struct slice name);
