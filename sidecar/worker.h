#pragma once
/* One data-plane thread: a loop, and everything that the requests on it touch without asking anyone
 * else: its clusters and pools, its connections, its random numbers, its scratch memory. Workers
 * share nothing but upstream/shared's counters; configuration and connections come by mail. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/loop.h"
#include "base/rng.h"
#include "base/tls.h"
#include "http/h1.h"
#include "http/h2.h"
#include "sidecar/route/match.h"
#include "sidecar/upstream/directory.h"
#include "sidecar/upstream/outlier.h"
#include "xds/peer.h"

struct destinations;
struct endpoint;
struct access_logs;
struct recorder;
struct stats_worker;

/* The form in which trace ids are made where a request brings none. */
enum trace_headers { TRACE_W3C, TRACE_B3, TRACE_BOTH };

/* What options and environment say about every connection; the owner keeps it for the worker's
 * life. */
struct worker_settings {
    uint64_t head_timeout_us;    /* a request's head, from its first byte */
    uint64_t downstream_idle_us; /* a client's connection without a request */
    uint64_t upstream_idle_us;   /* a pooled connection; a cluster's own value wins when shorter */
    uint64_t tunnel_idle_us;
    uint64_t half_closed_us;
    uint64_t detect_hold_us;
    uint64_t on_demand_timeout_us; /* for the answer about a destination */
    uint64_t ping_us;      /* an HTTP/2 peer with streams is asked after so long; 0: never */
    uint32_t replay_bytes; /* of a request's body, held for a retry */
    uint32_t max_head_bytes;
    uint16_t max_head_count;
    uint32_t mux_streams;     /* of one HTTP/2 connection before another is opened */
    uint32_t mux_streams_max; /* that a sidecar of ours may have open on one */
    uint32_t h2_max_streams;  /* that another client may */
    uint32_t
        h2_budget[H2_BUDGET_COUNT]; /* what a peer may do at once without use; a tenth a second */
    uint32_t mux_connections;       /* per endpoint */
    uint32_t sampling_ppm;          /* of traces, where the listener does not say */
    enum trace_headers trace_headers;
    uint64_t memory_limit; /* bytes; 0: none */
    uint64_t trim_bytes;   /* freed ones that are worth giving back to the kernel */
};

/* Behaviour.md's defaults. */
void worker_settings_init(struct worker_settings *settings);

struct worker {
    unsigned index;
    struct loop *loop;
    struct rng rng;
    const struct worker_settings *settings;
    struct directory clusters;
    struct h1_limits h1_limits;
    struct h1_scratch *h1;
    struct h2_pool *h2;
    struct h2_options h2_options[2][2]; /* by enum codec_side; 1: between Pillion's sidecars */
    struct matcher matcher;             /* with the thread's scratch for regular expressions */
    struct tls_keys keys;               /* our certificate and the roots, as this thread has them */
    struct list intakes;                /* connections that no server has yet */
    struct list arrivals;               /* the same, outbound: accept/outbound */
    struct list pools;                  /* every pool with a connection or a waiter */
    struct list listeners;
    struct list servers;               /* downstream connections */
    struct slice identity;             /* our own SPIFFE id; empty: none */
    struct peer_note self;             /* what peers are told of us; its text is the stats' */
    struct destinations *destinations; /* null: static configuration */
    struct task trim;                  /* gives memory back after a burst */
    struct timer trim_timer;
    size_t trim_owed;  /* bytes that lie in the heap since the kernel got some */
    struct task sweep; /* outlier detection's turn of an interval */
    struct timer sweep_timer;
    struct recorder *recorder;       /* its newest decision records */
    struct stats_worker *stats;      /* its counters, the owner's; null: nothing is counted */
    struct access_logs *access;      /* the owner's; null: nothing is logged */
    uint64_t exchanges_begun;        /* its last exchange's number */
    _Atomic uint32_t exchanges_open; /* written here, read by the admin thread */
    bool draining;
    bool overloaded;     /* memory is short, and peers were told */
    struct task recover; /* looks whether it still is */
    struct timer recover_timer;
    bool started;                   /* worker_start was called */
    bool ended;                     /* worker_fini has begun */
    struct worker *const *siblings; /* all of the process, itself too; null: it is alone */
    unsigned sibling_count;
    _Atomic uint32_t load; /* weighted connections, those that are on their way to it included */
    pthread_t thread;
};

/* A worker over a loop that its caller made and steps or runs. */
void worker_init(struct worker *worker, unsigned index, struct loop *loop,
                 struct shared_registry *registry, const struct worker_settings *settings,
                 uint64_t seed);
/* Runs the worker's loop in a thread of its own, with all signals blocked; worker_fini runs there
 * too. */
void worker_start(struct worker *worker);
/* After its loop was stopped. */
void worker_join(struct worker *worker);
/* Closes every connection. The loop must not run again, but may free what is buried. */
void worker_fini(struct worker *worker);

/* Whose sidecar it is, as endpoint_config.workload says it; empty: what was known holds. */
void worker_set_workload(struct worker *worker, struct slice workload);
/* After clusters have come or changed: outlier detection may have to begin, or run sooner. */
void worker_clusters_changed(struct worker *worker);
/* An HTTP/2 codec for a connection that agreed on this ALPN name. */
struct codec *worker_h2(struct worker *worker, enum codec_side side, struct slice alpn) MUST_USE;
/* Goes on serving, tells clients to go elsewhere. */
void worker_drain(struct worker *worker);
/* Memory is short: peers are told to prefer others, until it is not. */
void worker_shed(struct worker *worker);
/* Memory was given back, or will not be needed for a while: the kernel gets it after a moment. */
void worker_trim_soon(struct worker *worker);
/* One more, or one less, exchange is open. */
void worker_count_exchange(struct worker *worker, bool begun);
/* Any thread. */
uint32_t worker_exchanges_open(const struct worker *worker);
/* Any thread: a connection comes to it, or goes. */
void worker_weigh(struct worker *worker, int32_t by);
uint32_t worker_get_load(const struct worker *worker);
/* Bytes that the process has allocated, for the ceiling. */
uint64_t worker_memory_used(void);
/* An endpoint was ejected: logged and counted. */
void worker_note_ejection(struct worker *worker, const struct endpoint *endpoint,
                          enum outlier_cause cause);
