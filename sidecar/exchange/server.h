#pragma once
/* One downstream connection: reads requests, begins an exchange for each, sends what they write.
 * Knows which listener it came through and who the peer is. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "http/channel.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/upstream/directory.h"

struct worker;

/* What a connection is served by: the filter chain's HTTP settings and routes, or a TCP cluster.
 * Owned by the listener or the destination that made it, counted, so that a request keeps what it
 * started with. */
struct service {
    uint32_t references;
    const struct hcm_config *http; /* null: opaque TCP */
    const struct tcp_config *tcp;
    struct binding binding; /* of the route table; table null for opaque TCP */
    enum listener_direction direction;
    struct slice name; /* for metrics and logs */
    void (*free)(struct service *);
};
void service_ref(struct service *service);
void service_unref(struct service **service);

struct server {
    struct list link; /* in worker->servers */
    struct worker *worker;
    struct channel channel;
    struct task task;
    struct timer timer;
    struct grave grave;
    struct list exchanges;
    struct service *service; /* a reference */
    struct addr peer;
    struct addr local;          /* once server_get_local was asked */
    struct addr original;       /* original destination; ADDR_NONE: not captured */
    struct slice peer_identity; /* SPIFFE id; borrowed from the connection; empty: none */
    uint64_t peer_hash;         /* of peer_identity, for metrics; 0: none */
    uint64_t begun_us;
    uint64_t head_at_us; /* an incomplete head must be there by then; 0: none begun */
    uint64_t requests;
    bool closing; /* no further request; close when the output is gone */
    bool closed;
};

struct server_start {
    struct conn *conn;       /* taken */
    struct codec *codec;     /* taken */
    struct service *service; /* referenced */
    struct addr original;
};

/* Begins to serve a connection whose codec is known. */
void server_begin(struct worker *worker, struct server_start *start);
/* Called by an exchange that has ended. */
void server_left(struct server *server);
/* The address that the client connected to. */
const struct addr *server_get_local(struct server *server);
/* No new request: HTTP/2 GOAWAY, HTTP/1 `Connection: close` on the next answer. */
void server_drain(struct server *server);
/* At once, exchanges lost. */
void server_close(struct server *server);
