#pragma once
/* One downstream connection: reads requests, begins an exchange for each, sends what they write.
 * Knows which listener it came through and who the peer is. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "http/channel.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/exchange/server_time.h"
#include "sidecar/fail.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/directory.h"
#include "sidecar/upstream/peer_link.h"

struct worker;

struct parcel;
struct rng;
struct service;
struct weights;

/* The versions of one service, oldest to newest, as configuration changed: a connection lives
 * through many, a request stays with its own. Counted by those versions and by who makes them. */
struct service_line {
    uint32_t references;
    struct service *newest; /* a reference; null once the owner has given up */
};
struct service_line *service_line_new(void) MUST_USE;
/* Makes `service` (whose reference it takes) the newest, which goes on with the credits of the one
 * before; null ends the line. `draw`: the start phase of routes that are new. */
void service_line_put_take(struct service_line *line, struct service **service, uint64_t draw);
void service_line_unref(struct service_line **line);

/* A request that asks which of several services it is for. */
struct service_question {
    struct arena *arena;         /* the request's: the choice lies in it */
    struct task *task;           /* posted when it is worth another look */
    struct slice authority;      /* as it came */
    const struct addr *original; /* ADDR_NONE: not captured */
};

/* The way to the answer. */
struct service_choice {
    /* A reference for the caller; null: not known yet. After it gave one it has nothing left. */
    struct service *(*take)(struct service_choice *);
    /* The request goes without it. */
    void (*leave)(struct service_choice *);
};

/* What a connection is served by: the filter chain's HTTP settings and routes, or a TCP cluster.
 * Owned by the listener or the destination that made it, counted, so that a request keeps what it
 * started with. */
struct service {
    uint32_t references;
    enum fail refusal;             /* what every request ends with; FAIL_NONE: none does */
    struct service_line *line;     /* a reference; null: there is only this version */
    struct parcel *pin;            /* keeps its configuration; null: that outlives the worker */
    const struct hcm_config *http; /* null: opaque TCP */
    const struct tcp_config *tcp;
    struct weights *weights; /* of the targets of `tcp`; null: there is one */
    struct binding binding;  /* of the route table; table null for opaque TCP */
    enum listener_direction direction;
    struct slice name; /* for metrics and logs */
    /* Its requests may be for other services, by their authority; null: they are for this one. */
    struct service_choice *(*choose)(struct service *, const struct service_question *);
    void (*free)(struct service *);
};
/* Opaque TCP, whose configuration lives as long as the service. Weights start by the numbers. */
void service_set_tcp(struct service *service, const struct tcp_config *tcp, struct rng *rng);
void service_ref(struct service *service);
void service_unref(struct service **service);
/* Releases what every service holds; its `free` calls it. */
void service_fini(struct service *service);
/* Swaps the reference for one to the newest version. */
void service_renew(struct service **service);

/* A client that was silent is served as bytes, so that its server may speak first. Where that shows
 * by its first bytes that it speaks HTTP, its connection was a mistake: the client's comes back to
 * whoever accepted it, who waits for its request (docs/detection.md). Embedded in that one. */
struct server_probe {
    struct server *server; /* whose client it is; null: it is decided, or has not begun */
    struct conn *conn;     /* decided: the client's again; null: it is bytes, or over */
    struct task *task;     /* posted when it is decided */
};
/* Does not want to know any more. */
void server_probe_leave(struct server_probe *probe);

/* A peer's own words for metrics' labels, with their text. */
struct peer_names {
    struct stats_workload workload;
    uint8_t text[];
};

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
    uint16_t tunnel_port;       /* inbound: the one port that a CONNECT may name; 0: any */
    struct slice peer_identity; /* SPIFFE id; borrowed from the connection; empty: none */
    uint64_t peer_hash;         /* of all that metrics say of the peer; 0: nothing is known */
    struct server_probe *probe; /* null: nobody waits for what its server says first */
    struct peer_link peer_link;
    struct peer_names *peer_names; /* what it says of itself; null: nothing yet */
    uint64_t begun_us;
    struct server_time time;
    uint64_t requests;
    uint8_t weight;     /* among the worker's connections */
    bool leaving;       /* its client was told */
    bool closing;       /* no further request; close when the output is gone */
    bool client_closes; /* behind its present request */
    bool lingering;     /* all is said; what still comes is read and dropped */
    uint32_t lingered;  /* bytes of it */
    bool closed;
};

struct server_start {
    struct conn *conn;       /* taken */
    struct codec *codec;     /* taken */
    struct service *service; /* referenced */
    struct addr original;
    uint16_t tunnel_port;
    struct server_probe *probe; /* with a raw codec over a plain connection only; may be null */
};

/* Begins to serve a connection whose codec is known. */
void server_begin(struct worker *worker, struct server_start *start);
/* Called by an exchange that has ended. */
void server_left(struct server *server);
/* Its server has shown that it speaks no HTTP, or the client spoke. */
void server_decide_bytes(struct server *server);
/* Its server speaks HTTP: the probe gets the connection, and this ends. No stream may be on it. */
void server_give_back(struct server *server);
/* The address that the client connected to. */
const struct addr *server_get_local(struct server *server);
/* No new request: HTTP/2 GOAWAY, HTTP/1 `Connection: close` on the next answer. */
void server_drain(struct server *server);
/* At once, exchanges lost. */
void server_close(struct server *server);
