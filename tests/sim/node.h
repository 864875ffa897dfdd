#pragma once
/* A sidecar of the simulated mesh: one to three real workers, each on a stepped loop of its own,
 * that share what a process shares. Its configuration is the text of a bootstrap, compiled as
 * `--config FILE` would be, or comes from a simulated control plane through the real feed and
 * identity, on a loop for the admin thread; either is applied as the lifecycle applies it. */

#include "sidecar/accept/listener.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/observe/stats.h"
#include "sidecar/worker.h"
#include "tests/sim/world.h"

#define NODE_CONFIGS_MAX 8
#define NODE_WORKERS_MAX 3
#define NODE_PLACES_MAX  3

struct control_place;
struct feed;
struct identity;
struct names;

/* What a sidecar with a control plane is started with. Texts and files outlive the node. */
struct node_control {
    const char *at;        /* IP:PORT */
    const char *mesh_root; /* files */
    const char *token_file;
    const char *address; /* its own */
    const char *name;    /* of the workload, in namespace default */
    const char *account;
    struct listener_place places[NODE_PLACES_MAX];
    unsigned place_count;
    uint64_t negative_us;
    uint64_t idle_us;
};

struct node_options {
    struct world *world;
    struct pod *pod;
    const char *name;     /* in traces */
    unsigned workers;     /* 1 to NODE_WORKERS_MAX */
    const char *identity; /* without a control plane: SPIFFE id */
    const char *config;   /* JSON with ' for "; null: from `control` */
    struct node_control control;
    /* With `config`: OpenSSL's TLS, and who it shows itself as; null: the simulator's TLS. */
    struct tls_identity *certificate;
    struct tls_trust *trust;
};

struct node {
    struct node_options options;
    struct host *hosts[NODE_WORKERS_MAX];
    struct host *admin; /* null: static configuration */
    struct worker workers[NODE_WORKERS_MAX];
    struct worker *list[NODE_WORKERS_MAX];
    unsigned worker_count;
    struct worker_settings settings;
    struct shared_registry *registry;
    struct stats *stats;
    struct bootstrap *configs[NODE_CONFIGS_MAX]; /* requests pin what they began with: all stay */
    unsigned config_count;
    struct arena arena;
    struct control_place *place;
    struct names *names;
    struct identity *ident;
    struct feed *feed;
    struct task changed;
    bool open;
};

/* Texts outlive it. A configuration that is refused ends the program: it is the scenario that is
 * wrong. */
void node_init(struct node *node, const struct node_options *options);
/* The process has died, and what the kernel closes for it is closed. node_start brings it back. */
void node_kill(struct node *node);
void node_start(struct node *node);
void node_fini(struct node *node);

/* A newer configuration: clusters and routes change, listeners stay. */
void node_update(struct node *node, const char *config);
void node_drain(struct node *node);
/* It serves: always, or once the control plane has told it enough. */
bool node_is_ready(const struct node *node);
/* When its certificate in use ends, wall time; 0: it has none of the control plane. */
uint64_t node_certificate_end(const struct node *node);
uint64_t node_exchanges(const struct node *node);
/* Its clusters' shared state; null: no cluster of that name. */
const struct cluster *node_cluster(const struct node *node, const char *name);
/* Sum over the series of that metric whose labels contain both texts (may be ""). */
uint64_t node_metric(const struct node *node, const char *name, const char *label,
                     const char *other);

/* Between ticks: a request that waits for a connection has one that is under way or busy. */
void node_check_waiters(const struct node *node);
/* After everything ended: what the workers still hold on behalf of requests fails the run. */
void node_check_idle(const struct node *node);
