#pragma once
/* A whole mesh: a control plane, a client pod and server pods, each with a sidecar that gets its
 * certificate and its configuration from there. A run is a few rounds of load; before a round, and
 * while it lasts, things are done to the mesh. */

#include "tests/sim/app.h"
#include "tests/sim/client.h"
#include "tests/sim/world.h"

struct authority;
struct run_result;
struct run_start;
struct scenario;
struct sim_log;

#define MESH_SERVERS_MAX 4
#define MESH_CLIENTS_MAX 8
#define MESH_ROUNDS_MAX  4
#define MESH_ACTS_MAX    3

/* X(NAME, meaning) */
#define MESH_ACTS(X)                                                                               \
    X(NONE, "nothing")                                                                             \
    X(CONTROL_KILL, "control's process is gone")                                                   \
    X(CONTROL_BACK, "it is started again")                                                         \
    X(CHANGE, "the later weights are written")                                                     \
    X(LEAVE, "the first server is no endpoint any more, though it still serves")                   \
    X(SPOIL, "control sends what is no Destination")                                               \
    X(SERVER_KILL, "the first server's sidecar is gone")                                           \
    X(SERVER_BACK, "it is started again")                                                          \
    X(SILENCE, "nothing from or to control arrives any more")                                      \
    X(SPEECH, "new connections to control work again")                                             \
    X(REMOVE, "the service's objects are taken away")                                              \
    X(RESTORE, "they are there again")

enum mesh_act {
#define X(name, meaning) MESH_##name,
    MESH_ACTS(X)
#undef X
        MESH_ACT_COUNT
};

/* What a round waits for, between its act and its load. */
enum mesh_wait {
    MESH_WAIT_NONE,
    MESH_WAIT_ACK,      /* every sidecar has all that control has */
    MESH_WAIT_FORGOTTEN /* no sidecar is subscribed to a destination */
};

/* What becomes of a round's requests to the service. */
enum mesh_expect {
    MESH_ANSWERED, /* all */
    MESH_REFUSED,  /* none reaches an application: 503 */
    MESH_REMOVED,  /* the same, or 502 where unknown destinations are blocked */
    MESH_SILENT,   /* the same, when the time for an answer about the destination is over */
    MESH_COUNTED,  /* who gets no answer of the service has a counted reason */
    MESH_KILLED    /* idempotent ones are answered; those begun a second after the kill all are */
};

struct mesh_round {
    unsigned requests; /* of each client */
    enum mesh_act first;
    uint64_t pause_us;
    enum mesh_wait wait;
    struct {
        enum mesh_act act;
        uint64_t at_us; /* of the round's load */
    } acts[MESH_ACTS_MAX];
    enum mesh_expect expect;
};

/* Who stands at the other end of a connection between sidecars, or pretends to. */
#define MESH_INTRUDERS(X)                                                                          \
    X(NOBODY, "everybody is who they should be")                                                   \
    X(OTHER_SERVER, "a server that may be another endpoint of the service, but not this one")      \
    X(EXPIRED_SERVER, "a server whose certificate has ended")                                      \
    X(STRANGE_SERVER, "a server with another authority's certificate")                             \
    X(EXPIRED_CLIENT, "a client whose certificate has ended")                                      \
    X(STRANGE_CLIENT, "a client with another authority's certificate")

enum mesh_intruder {
#define X(name, meaning) MESH_##name,
    MESH_INTRUDERS(X)
#undef X
        MESH_INTRUDER_COUNT
};

struct mesh_plan {
    unsigned servers; /* the first of them are v1, the others v2 */
    unsigned first;
    unsigned workers;
    unsigned clients; /* of the service */
    unsigned bytes;   /* of a service of opaque bytes, behind the same servers */
    unsigned lost;    /* of a name that nobody has */
    unsigned outside; /* of an address that the mesh does not know */
    struct client_plan client;
    struct app_mix mix;
    struct world_shape shape;
    unsigned weight[2];
    unsigned weight_later[2];
    uint32_t ttl_s; /* of certificates; 0: a day */
    bool block_unknown;
    bool forget; /* a killed control loses its state */
    uint64_t negative_us;
    uint64_t idle_us;
    enum mesh_intruder intruder;
    bool exact_weights; /* also of what was begun after the last acknowledgement of a change */
    bool fail_a_call;
    bool must_nack;
    bool must_renew;
    struct mesh_round rounds[MESH_ROUNDS_MAX];
    unsigned round_count;
};

/* One run of that scenario; as run_seed. */
struct mesh_start {
    const struct run_start *run;
    const struct scenario *scenario;
    struct authority *authority;
    struct sim_log *log;
};
void mesh_run(const struct mesh_start *start, struct rng *rng, struct run_result *result);

/* What people have written, so far. */
struct mesh_objects {
    const unsigned *weight;
    bool removed; /* the service */
    bool left;    /* the first server's WorkloadEntry is gone */
};
/* As YAML. */
const char *mesh_policy(struct arena *arena, const struct mesh_plan *plan,
                        const struct mesh_objects *objects);
/* The service account of that server: not all of a service's have the same. */
const char *mesh_account(unsigned server);
