/* Runs of whole meshes with their control plane. */
#include "tests/sim/mesh.h"
#include "tests/sim/scenario.h"

#define MS UINT64_C(1000)
#define S  UINT64_C(1000000)

static bool half(struct rng *rng)
{
    return rng_below(rng, 2) == 0;
}

static uint32_t between(struct rng *rng, uint32_t low, uint32_t high)
{
    return low + (uint32_t)rng_below(rng, high - low + 1);
}

/* One request at a time, patient, to applications that answer; a network that is no worse than
 * slow and torn. */
static void base(struct mesh_plan *plan, struct rng *rng)
{
    static const uint32_t torn[] = {0, 0, 700, 100};
    *plan = (struct mesh_plan){.negative_us = 10 * S, .idle_us = 900 * S, .round_count = 1};
    plan->servers = between(rng, 2, 3);
    plan->first = between(rng, 1, plan->servers - 1);
    plan->workers = half(rng) ? 1 : between(rng, 2, 3);
    plan->clients = between(rng, 1, 4);
    plan->bytes = rng_below(rng, 4) == 0;
    plan->client.depth = 1;
    plan->client.method[LEDGER_GET] = 3;
    plan->client.method[LEDGER_PUT] = between(rng, 0, 2);
    plan->client.method[LEDGER_POST] = between(rng, 0, 2);
    plan->client.body_max = half(rng) ? 100 : 3000;
    plan->client.gap_max_us = between(rng, 1, 60) * MS;
    plan->client.patience_us = 100 * S;
    plan->client.reconnect_ppm = half(rng) ? 0 : 200000;
    plan->mix.answer_max = half(rng) ? 100 : 3000;
    plan->mix.slow_max_us = 20 * MS;
    plan->mix.weight[APP_ANSWER] = 10;
    plan->mix.weight[APP_CHUNKED] = 3;
    plan->mix.weight[APP_SLOW] = 2;
    plan->shape.latency_min_us = between(rng, 10, 300);
    plan->shape.latency_max_us = plan->shape.latency_min_us + (half(rng) ? 0 : 1000);
    plan->shape.torn_max = torn[rng_below(rng, COUNT_OF(torn))];
    plan->weight[0] = between(rng, 0, 4) * 25;
    plan->weight[1] = 100 - plan->weight[0];
    plan->weight_later[0] = half(rng) ? plan->weight[1] : between(rng, 0, 100);
    plan->weight_later[1] = 100 - plan->weight_later[0];
    plan->exact_weights = true;
    plan->rounds[0].requests = between(rng, 8, 25);
}

/* About how long a round's load lasts. */
static uint64_t span_us(const struct mesh_plan *plan)
{
    return plan->rounds[0].requests * (plan->client.gap_max_us / 2 + 2 * MS);
}

static uint64_t moment(const struct mesh_plan *plan, struct rng *rng)
{
    return 1 + rng_below(rng, span_us(plan));
}

void draw_mesh_control(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    struct mesh_round *round = &plan->rounds[0];
    plan->forget = half(rng);
    round->acts[0].act = MESH_CONTROL_KILL;
    round->acts[0].at_us = moment(plan, rng);
    round->acts[1].act = MESH_CONTROL_BACK;
    round->acts[1].at_us = round->acts[0].at_us + moment(plan, rng) * (half(rng) ? 1 : 20);
    if (half(rng)) {
        round->acts[2].act = MESH_CHANGE;
        round->acts[2].at_us = round->acts[1].at_us + moment(plan, rng);
    }
    /* What nobody has asked for yet is not known without control: that is silence's affair. */
    plan->rounds[1] = plan->rounds[0];
    plan->rounds[0] = (struct mesh_round){.requests = 2};
    plan->round_count = 2;
}

void draw_mesh_change(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->rounds[0].requests = between(rng, 20, 50);
    plan->rounds[0].acts[0].act = MESH_CHANGE;
    plan->rounds[0].acts[0].at_us = moment(plan, rng);
    if (rng_below(rng, 3) == 0) {
        plan->servers = between(rng, 3, 4);
        plan->first = between(rng, 2, 3);
        plan->first -= plan->first == plan->servers;
        plan->rounds[0].acts[0].act = MESH_LEAVE;
    } else if (half(rng)) {
        plan->weight[0] = half(rng) ? 100 : 0;
        plan->weight[1] = 100 - plan->weight[0];
        plan->weight_later[0] = plan->weight[1];
        plan->weight_later[1] = plan->weight[0];
    }
}

void draw_mesh_nack(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->must_nack = true;
    plan->round_count = 3;
    plan->rounds[0].requests = 5;
    plan->rounds[1] = (struct mesh_round){.requests = 8, .first = MESH_SPOIL, .pause_us = 3 * S};
    plan->rounds[2] =
        (struct mesh_round){.requests = 10, .first = MESH_CHANGE, .wait = MESH_WAIT_ACK};
}

void draw_mesh_demand(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->clients = between(rng, 1, 3);
    plan->lost = between(rng, 0, 2);
    plan->outside = between(rng, 0, 1);
    plan->block_unknown = half(rng);
    plan->client.method[LEDGER_PUT] = 0;
    plan->client.method[LEDGER_POST] = 0;
    plan->negative_us = between(rng, 1, 5) * S;
    plan->idle_us = between(rng, 5, 20) * S;
    plan->exact_weights = false;
    plan->round_count = 4;
    plan->rounds[0].requests = 6;
    plan->rounds[1] = (struct mesh_round){.requests = 6, .wait = MESH_WAIT_FORGOTTEN};
    plan->rounds[2] = (struct mesh_round){
        .requests = 4, .first = MESH_REMOVE, .wait = MESH_WAIT_ACK, .expect = MESH_REMOVED};
    plan->rounds[3] =
        (struct mesh_round){.requests = 4, .first = MESH_RESTORE, .wait = MESH_WAIT_ACK};
}

void draw_mesh_silence(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->exact_weights = false;
    plan->client.method[LEDGER_PUT] = 0;
    plan->client.method[LEDGER_POST] = 0;
    plan->round_count = 2;
    plan->rounds[0] =
        (struct mesh_round){.requests = 3, .first = MESH_SILENCE, .expect = MESH_SILENT};
    /* Both ends find out by pings that the connection is dead, and the next try comes later. */
    plan->rounds[1] = (struct mesh_round){
        .requests = 8, .first = MESH_SPEECH, .pause_us = 150 * S, .wait = MESH_WAIT_ACK};
}

void draw_mesh_intruder(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->bytes = 0;
    plan->intruder = (enum mesh_intruder)(1 + rng_below(rng, MESH_INTRUDER_COUNT - 1));
    bool client = plan->intruder >= MESH_EXPIRED_CLIENT;
    bool alone = client || half(rng); /* else the other server's rescues every request */
    plan->servers = alone ? 1 : 2;
    plan->first = plan->servers;
    plan->weight[0] = 100;
    plan->weight[1] = 0;
    plan->rounds[0].requests = 6;
    plan->rounds[0].pause_us = 3 * S; /* by then what was to end has ended */
    plan->rounds[0].expect = alone ? MESH_REFUSED : MESH_ANSWERED;
    plan->exact_weights = false;
    plan->shape.torn_max = 0; /* alerts come whole, as from a kernel's buffer */
    plan->shape.gentle = true;
}

void draw_mesh_renewal(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->ttl_s = between(rng, 100, 200);
    plan->must_renew = true;
    plan->servers = 2;
    plan->first = 1;
    plan->clients = between(rng, 1, 2);
    plan->rounds[0].requests = 24;
    plan->client.gap_max_us = plan->ttl_s * S / 8;
    plan->client.reconnect_ppm = half(rng) ? 0 : 500000;
}

void draw_mesh_killed(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    struct mesh_round *round = &plan->rounds[0];
    plan->servers = 3;
    plan->first = between(rng, 2, 3);
    plan->weight[0] = 100;
    plan->weight[1] = 0;
    plan->mix.weight[APP_SLOW] = between(rng, 2, 20);
    plan->client.gap_max_us = between(rng, 1, 200) * MS;
    round->requests = between(rng, 10, 30);
    round->acts[0].act = MESH_SERVER_KILL;
    round->acts[0].at_us = moment(plan, rng);
    round->acts[1].act = MESH_SERVER_BACK;
    round->acts[1].at_us = round->acts[0].at_us + moment(plan, rng);
    round->expect = MESH_KILLED;
    plan->exact_weights = false;
}

void draw_mesh_calls(struct mesh_plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->fail_a_call = true;
    plan->workers = 1;
    plan->servers = 2;
    plan->first = 1;
    plan->clients = 1;
    plan->bytes = 0;
    plan->rounds[0].requests = 4;
    plan->rounds[0].expect = MESH_COUNTED;
    plan->exact_weights = false;
}
