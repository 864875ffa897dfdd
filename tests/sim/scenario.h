#pragma once
/* What a run is about: the topology, what the sidecars are told, how applications, clients and the
 * network behave, and what must come out. Each row of the table draws its details from the seed. */

#include "tests/sim/app.h"
#include "tests/sim/client.h"
#include "tests/sim/world.h"

#define SCENARIO_CLUSTERS_MAX    3
#define SCENARIO_CLIENTS_MAX     24
#define SCENARIO_SERVER_IDENTITY "spiffe://cluster.local/ns/default/sa/server"

struct mesh_plan;

struct plan {
    /* Topology: a client pod with a sidecar; a server pod with `clusters` x `endpoints`
     * applications, behind a sidecar of its own with mutual TLS where two_hops says so. */
    bool two_hops;
    bool opaque;
    unsigned workers; /* of each sidecar */
    unsigned clusters;
    unsigned endpoints; /* of each cluster */
    unsigned clients;
    const char *server_ip; /* null: 10.0.0.2 */
    uint16_t first_port;   /* of the applications; 0: 8001 */
    /* Policy, as JSON members with ' for "; null: nothing said. */
    unsigned weight[SCENARIO_CLUSTERS_MAX];
    unsigned
        weight_later[SCENARIO_CLUSTERS_MAX]; /* from half of the requests on; all 0: no change */
    const char *timeout;
    const char *retry;
    const char *breakers;
    const char *outlier;
    /* Behaviour. */
    struct app_mix mix;
    struct app_mix bad_mix; /* of the last application */
    bool has_bad_mix;
    bool all_bad; /* of all applications, and nobody heals */
    struct client_plan client;
    struct world_shape client_shape;
    struct world_shape hop_shape; /* between sidecars, or to the application of a plain hop */
    struct world_shape app_shape; /* from the inbound sidecar */
    uint64_t outage_every_us;     /* one application goes; 0: none does */
    uint64_t outage_us;
    uint64_t drain_at_us; /* after the start; 0: no drain */
    uint64_t heal_at_us;  /* bad_mix becomes mix; 0: never */
    unsigned down;        /* the first so many applications listen never */
    bool fail_a_call;
    uint32_t retries_max; /* charged ones under way that the policy allows; 0: no budget */
    /* What must come out. */
    bool all_answered; /* every request, by the application */
    bool exact_weights;
    bool recovers; /* what lies a second or more from an outage is answered */
    bool posts_may_repeat;
};

struct scenario {
    const char *name;
    const char *meaning;
    unsigned share; /* of all seeds that name no scenario, beside the others' */
    /* One of the two: a hop, or a mesh with its control plane. */
    void (*draw)(struct plan *plan, struct rng *rng);
    void (*draw_mesh)(struct mesh_plan *plan, struct rng *rng);
};

extern const struct scenario scenarios[];
extern const unsigned scenario_count;
/* Null: none of that name. */
const struct scenario *scenario_find(const char *name);
/* One of them, as often as its share says. */
const struct scenario *scenario_draw(struct rng *rng);

/* Bootstraps of the two sidecars; `later`: with the later weights. */
const char *scenario_client_config(struct arena *arena, const struct plan *plan, bool later);
const char *scenario_server_config(struct arena *arena, const struct plan *plan);
/* Of an intruder in a mesh: the client's sidecar, in front of server 10.0.1.1, or that server's. */
const char *scenario_intruding_client(struct arena *arena);
const char *scenario_intruding_server(struct arena *arena);
struct addr scenario_app_addr(const struct plan *plan, unsigned app);

/* Of scenario_mesh.c. */
void draw_mesh_control(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_change(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_nack(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_demand(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_silence(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_intruder(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_renewal(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_calls(struct mesh_plan *plan, struct rng *rng);
void draw_mesh_killed(struct mesh_plan *plan, struct rng *rng);
