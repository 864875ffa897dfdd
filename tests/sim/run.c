#include "tests/sim/run.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "tests/sim/app.h"
#include "tests/sim/client.h"
#include "tests/sim/mesh.h"
#include "tests/sim/node.h"
#include "tests/sim/scenario.h"
#include "tests/sim/watch.h"

#define APPS_MAX        9
#define S               UINT64_C(1000000)
#define LOAD_MAX_US     (20000 * S)
#define IDLE_US         (8000 * S) /* past every idle limit that a sidecar has */
#define CALLS_TO_FAIL   300
#define OUTAGES_MAX     512
#define RECOVERY_US     S
#define CLIENT_IDENTITY "spiffe://cluster.local/ns/default/sa/client"

struct run {
    struct world world;
    struct plan plan;
    struct ledger ledger;
    struct node client_node;
    struct node server_node; /* with two_hops */
    struct app apps[APPS_MAX];
    unsigned app_count;
    struct client clients[SCENARIO_CLIENTS_MAX];
    struct host *client_host;
    struct host *server_host;
    struct arena arena;
    uint64_t begun_us;
    uint64_t next_outage_us;
    uint64_t outage_ends_us;
    unsigned outage_app;
    struct {
        uint64_t from_us;
        uint64_t to_us;
    } outages[OUTAGES_MAX];
    unsigned outage_count;
    struct watch watch;
    uint64_t changed_at; /* requests begun at the change of weights; 0: none yet */
    uint64_t phase_counts[2][SCENARIO_CLUSTERS_MAX];
    bool drained;
    bool healed;
};

const struct scenario *run_scenario_of(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    return scenario_draw(&rng);
}

/* ---- set-up ---- */

/* So that each call can have its turn: a few requests, one at a time, over a network whose calls
 * move all that there is. */
static void shrink(struct plan *plan)
{
    plan->clients = 2;
    plan->client.requests = 3;
    plan->client.depth = 1;
    plan->client.body_max = plan->client.body_max > 3000 ? 3000 : plan->client.body_max;
    plan->mix.answer_max = plan->mix.answer_max > 3000 ? 3000 : plan->mix.answer_max;
    struct world_shape *shapes[] = {&plan->client_shape, &plan->hop_shape, &plan->app_shape};
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        shapes[i]->torn_max = 0;
        shapes[i]->room = 0;
    }
}

static void set_shapes(struct run *run)
{
    struct addr outbound = addr_ipv4(10, 0, 0, 1, 15001);
    struct addr inbound = addr_ipv4(10, 0, 0, 2, 15006);
    world_shape_at(&run->world, &outbound, &run->plan.client_shape);
    world_shape_at(&run->world, &inbound, &run->plan.hop_shape);
    for (unsigned i = 0; i < run->app_count; i++) {
        struct addr at = scenario_app_addr(&run->plan, i);
        world_shape_at(&run->world, &at,
                       run->plan.two_hops ? &run->plan.app_shape : &run->plan.hop_shape);
    }
}

static void make_hosts(struct run *run)
{
    struct world *world = &run->world;
    struct addr client_ip = addr_ipv4(10, 0, 0, 1, 0);
    struct addr server_ip = addr_ipv4(10, 0, 0, 2, 0);
    struct pod *client = world_pod(world, &client_ip);
    struct pod *server = world_pod(world, &server_ip);
    client->outbound = addr_ipv4(10, 0, 0, 1, 15001);
    run->client_host = world_host(world, client, "clients", false);
    run->server_host = world_host(world, server, "applications", false);
    struct node_options options = {.world = world,
                                   .pod = client,
                                   .name = "outbound sidecar",
                                   .workers = run->plan.workers,
                                   .identity = CLIENT_IDENTITY,
                                   .config =
                                       scenario_client_config(&run->arena, &run->plan, false)};
    node_init(&run->client_node, &options);
    if (run->plan.two_hops) {
        server->inbound = addr_ipv4(10, 0, 0, 2, 15006);
        options.pod = server;
        options.name = "inbound sidecar";
        options.identity = SCENARIO_SERVER_IDENTITY;
        options.config = scenario_server_config(&run->arena, &run->plan);
        node_init(&run->server_node, &options);
    }
}

static void make_actors(struct run *run)
{
    const struct plan *plan = &run->plan;
    for (unsigned i = 0; i < run->app_count; i++) {
        bool bad = plan->all_bad || (plan->has_bad_mix && i + 1 == run->app_count);
        struct addr at = scenario_app_addr(plan, i);
        app_init(&run->apps[i], run->server_host, &run->ledger, &at, i,
                 bad ? &plan->bad_mix : &plan->mix);
        if (i < plan->down) {
            app_stop(&run->apps[i]);
        }
    }
    struct addr to = scenario_app_addr(plan, 0);
    for (unsigned i = 0; i < plan->clients; i++) {
        client_init(&run->clients[i], i, run->client_host, &run->ledger, &to, "server.default:8001",
                    &plan->client);
    }
}

static void set_up(struct run *run, const struct run_start *start, const struct scenario *scenario,
                   struct rng *rng)
{
    world_init(&run->world, rng_u64(rng), start->trace);
    arena_init(&run->arena, NULL);
    ledger_init(&run->ledger, &run->world);
    scenario->draw(&run->plan, rng);
    if (start->calls) {
        shrink(&run->plan);
    }
    run->ledger.posts_may_repeat = run->plan.posts_may_repeat;
    run->app_count = run->plan.clusters * run->plan.endpoints;
    CHECK(run->app_count <= APPS_MAX);
    set_shapes(run);
    make_hosts(run);
    make_actors(run);
    run->begun_us = run->world.now_us;
    watch_init(&run->watch, &run->client_node, &run->ledger, run->plan.clusters,
               run->plan.endpoints);
    if (run->plan.retries_max != 0) {
        run->watch.retries_max = run->plan.retries_max;
    }
    if (start->calls) {
        run->world.fail_how = start->fail_how;
        run->world.fail_at = start->fail_at;
    } else if (run->plan.fail_a_call) {
        run->world.fail_how = (enum world_failing)rng_below(rng, WORLD_FAILING_COUNT);
        run->world.fail_at = 1 + rng_below(rng, CALLS_TO_FAIL);
    }
    if (run->plan.outage_every_us != 0) {
        run->next_outage_us = run->begun_us + run->plan.outage_every_us;
    }
}

/* ---- what happens from outside ---- */

static bool clients_done(const struct run *run)
{
    for (unsigned i = 0; i < run->plan.clients; i++) {
        if (!run->clients[i].done) {
            return false;
        }
    }
    return true;
}

static void drive_outage(struct run *run)
{
    uint64_t now_us = run->world.now_us;
    if (run->outage_ends_us != 0 && now_us >= run->outage_ends_us) {
        app_start(&run->apps[run->outage_app]);
        run->outages[run->outage_count - 1].to_us = now_us;
        run->outage_ends_us = 0;
        run->next_outage_us = now_us + run->plan.outage_every_us;
    } else if (run->outage_ends_us == 0 && run->next_outage_us != 0 &&
               run->outage_count < OUTAGES_MAX && now_us >= run->next_outage_us) {
        run->outage_app = (unsigned)rng_below(&run->world.rng, run->app_count);
        app_stop(&run->apps[run->outage_app]);
        run->outages[run->outage_count].from_us = now_us;
        run->outages[run->outage_count++].to_us = UINT64_MAX;
        run->outage_ends_us = now_us + run->plan.outage_us;
    }
}

static void count_phase(struct run *run, unsigned phase, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        const struct ledger_row *row = &run->ledger.rows[i];
        if (row->heads > 0) {
            run->phase_counts[phase][row->tries[0].app / run->plan.endpoints]++;
        }
    }
}

/* The second half: every client has stopped, so that each pick belongs to one configuration. */
static void change_weights(struct run *run)
{
    run->changed_at = run->ledger.count;
    count_phase(run, 0, 0, run->changed_at);
    world_note(&run->world, "weights change", run->changed_at, 0, 0);
    node_update(&run->client_node, scenario_client_config(&run->arena, &run->plan, true));
    for (unsigned i = 0; i < run->plan.clients; i++) {
        client_more(&run->clients[i], run->plan.client.requests);
    }
}

static void drive(struct run *run)
{
    const struct plan *plan = &run->plan;
    uint64_t since_us = run->world.now_us - run->begun_us;
    drive_outage(run);
    if (plan->drain_at_us != 0 && !run->drained && since_us >= plan->drain_at_us) {
        run->drained = true;
        world_note(&run->world, "drain", 0, 0, 0);
        node_drain(&run->client_node);
    }
    if (plan->heal_at_us != 0 && !run->healed && since_us >= plan->heal_at_us) {
        run->healed = true;
        run->apps[run->app_count - 1].mix = plan->mix;
    }
}

/* Whatever comes first of the things that happen from outside. */
static uint64_t next_act(const struct run *run, uint64_t limit_us)
{
    const struct plan *plan = &run->plan;
    const uint64_t times[] = {
        run->outage_ends_us, run->outage_ends_us == 0 ? run->next_outage_us : 0,
        plan->drain_at_us != 0 && !run->drained ? run->begun_us + plan->drain_at_us : 0,
        plan->heal_at_us != 0 && !run->healed ? run->begun_us + plan->heal_at_us : 0};
    uint64_t next = limit_us;
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        next = times[i] != 0 && times[i] < next ? times[i] : next;
    }
    return next;
}

static void live(struct run *run)
{
    uint64_t limit_us = run->begun_us + LOAD_MAX_US;
    while (!clients_done(run) && run->world.failures == 0 && run->world.now_us < limit_us) {
        uint64_t act_us = next_act(run, limit_us);
        while (world_step(&run->world, act_us) && !clients_done(run) && run->world.failures == 0) {
            node_check_waiters(&run->client_node);
            watch_look(&run->watch);
        }
        drive(run);
    }
}

/* ---- oracles ---- */

static void check_share(struct run *run, unsigned phase, const unsigned *weight)
{
    const struct plan *plan = &run->plan;
    uint64_t sum = 0;
    uint64_t total = 0;
    for (unsigned i = 0; i < plan->clusters; i++) {
        sum += weight[i];
        total += run->phase_counts[phase][i];
    }
    uint64_t bound = (plan->clusters == 2 ? 1 : 2) * (uint64_t)plan->workers;
    for (unsigned i = 0; i < plan->clusters; i++) {
        /* |count - total * w / sum| < bound for each worker, without fractions */
        uint64_t is = run->phase_counts[phase][i] * sum;
        uint64_t should = total * weight[i];
        uint64_t off = is > should ? is - should : should - is;
        if (off >= bound * sum || (weight[i] == 0 && is > 0)) {
            world_fail(&run->world,
                       "weights: v%u got %" PRIu64 " of %" PRIu64 " with %u of %" PRIu64, i + 1,
                       run->phase_counts[phase][i], total, weight[i], sum);
        }
    }
}

/* Neither during an outage nor within a second of its end. */
static bool is_undisturbed(const struct run *run, const struct ledger_row *row)
{
    for (unsigned i = 0; i < run->outage_count; i++) {
        uint64_t to_us = run->outages[i].to_us;
        bool before = row->ended_us < run->outages[i].from_us;
        bool behind = to_us != UINT64_MAX && row->begun_us >= to_us + RECOVERY_US;
        if (!before && !behind) {
            return false;
        }
    }
    return true;
}

static void check_outage(struct run *run)
{
    for (uint64_t i = 0; i < run->ledger.count; i++) {
        const struct ledger_row *row = &run->ledger.rows[i];
        bool answered =
            row->end == LEDGER_ANSWERED || (row->end == LEDGER_LOST && run->plan.client.depth > 1);
        if (!answered && is_undisturbed(run, row)) {
            world_fail(&run->world, "request %" PRIu64 ": end %u, status %u, and no outage near it",
                       i + 1, row->end, row->status);
        } else if (row->end == LEDGER_LOCAL && row->status != 503) {
            world_fail(&run->world, "request %" PRIu64 ": %u in an outage", i + 1, row->status);
        }
    }
    const struct node *last = run->plan.two_hops ? &run->server_node : &run->client_node;
    if (node_metric(last, "istio_requests_total", "response_code=\"503\"", "response_flags=\"-\"") >
        0) {
        world_fail(&run->world, "a 503 of an outage has no response flag");
    }
}

/* A call that failed has a price, and it is counted: who got no answer of an application was told
 * by a sidecar that counted it, or stood behind the connection that the call took along. */
static void check_failed_call(struct run *run)
{
    const struct world *world = &run->world;
    uint64_t without = run->ledger.count - ledger_ends(&run->ledger, LEDGER_ANSWERED);
    uint64_t counted = node_metric(&run->client_node, "pillion_exchange_failures_total", "", "");
    if (run->plan.two_hops) {
        counted += node_metric(&run->server_node, "pillion_exchange_failures_total", "", "");
    }
    bool client = world->failed_peer.family != ADDR_NONE && world->failed_peer.port != 0 &&
                  world->failed != NULL && world->failed->pod == run->client_host->pod &&
                  addr_ip_eq(&world->failed_peer, &run->client_host->pod->ip);
    uint64_t allowed = counted + (client ? run->plan.client.depth : 0);
    enum world_failing how = world->fail_how;
    bool harmless = how == WORLD_FAIL_ACCEPT_LIMIT || how == WORLD_FAIL_RECV_AGAIN ||
                    how == WORLD_FAIL_SEND_AGAIN || world->failed == NULL;
    if (without > (harmless ? 0 : allowed) && run->plan.client.depth == 1) {
        world_fail(&run->world,
                   "%s: %" PRIu64 " requests without an answer, %" PRIu64 " failures counted",
                   world_failing_name(how), without, counted);
    }
}

static void check_ledger(struct run *run)
{
    const struct plan *plan = &run->plan;
    ledger_close(&run->ledger);
    for (uint64_t i = 0; i < run->ledger.count && plan->all_answered; i++) {
        const struct ledger_row *row = &run->ledger.rows[i];
        bool whole = plan->opaque && row->end == LEDGER_LOCAL;
        if (row->end != LEDGER_ANSWERED && row->end != LEDGER_LOST && !whole) {
            world_fail(&run->world, "request %" PRIu64 " was not answered: end %u, status %u",
                       i + 1, row->end, row->status);
        }
    }
    if (plan->exact_weights) {
        count_phase(run, 1, run->changed_at, run->ledger.count);
        check_share(run, 0, plan->weight);
        check_share(run, 1, plan->weight_later);
    }
    if (plan->recovers) {
        check_outage(run);
    }
    if (plan->fail_a_call) {
        check_failed_call(run);
    }
    if (plan->has_bad_mix) {
        watch_check_ejections(&run->watch);
    }
    if (plan->has_bad_mix && !plan->all_bad) {
        watch_check_failures(&run->watch, run->app_count - 1,
                             run->healed ? run->begun_us + plan->heal_at_us : UINT64_MAX,
                             plan->clients);
    }
}

static void finish(struct run *run)
{
    for (unsigned i = 0; i < run->plan.clients; i++) {
        client_fini(&run->clients[i]);
    }
    if (run->world.failures == 0) {
        world_run(&run->world, run->world.now_us + IDLE_US);
    }
    if (run->world.failures == 0) {
        check_ledger(run);
        node_check_idle(&run->client_node);
    }
    if (run->world.failures == 0 && run->plan.two_hops) {
        node_check_idle(&run->server_node);
    }
}

static void tear_down(struct run *run)
{
    node_fini(&run->client_node);
    if (run->plan.two_hops) {
        node_fini(&run->server_node);
    }
    for (unsigned i = 0; i < run->app_count; i++) {
        app_fini(&run->apps[i]);
    }
    loop_drain(run->client_host->loop);
    world_fini(&run->world);
    ledger_fini(&run->ledger);
    arena_fini(&run->arena);
}

void run_take_result(const struct world *world, const struct ledger *ledger, uint64_t exchanges,
                     struct run_result *result)
{
    *result = (struct run_result){.calls = {0},
                                  .hash = world->hash,
                                  .notes = world->notes,
                                  .requests = ledger->count,
                                  .exchanges = exchanges,
                                  .failed = world->failures > 0};
    for (unsigned i = 0; i < WORLD_CALL_COUNT; i++) {
        result->calls[i] = world->calls[i];
    }
    for (unsigned i = 0; i < LEDGER_END_COUNT; i++) {
        result->ends[i] = ledger_ends(ledger, (enum ledger_end)i);
    }
    (void)snprintf(result->failure, sizeof result->failure, "%s", world->failure);
}

static void run_hop(const struct run_start *start, const struct scenario *scenario, struct rng *rng,
                    struct run_result *result)
{
    struct run *run = NEW(struct run);
    set_up(run, start, scenario, rng);
    live(run);
    if (run->plan.exact_weights && run->world.failures == 0) {
        change_weights(run);
        live(run);
    }
    if (!clients_done(run)) {
        world_fail(&run->world, "the clients never came to an end");
    }
    finish(run);
    run_take_result(&run->world, &run->ledger, node_exchanges(&run->client_node), result);
    tear_down(run);
    mem_free(run);
}

void run_seed(const struct run_process *process, const struct run_start *start,
              struct run_result *result)
{
    struct rng rng;
    rng_seed(&rng, start->seed);
    const struct scenario *scenario = scenario_draw(&rng);
    scenario = start->only != NULL ? start->only : scenario;
    if (scenario->draw_mesh == NULL) {
        run_hop(start, scenario, &rng, result);
        return;
    }
    struct mesh_start mesh = {
        .run = start, .scenario = scenario, .authority = process->authority, .log = process->log};
    mesh_run(&mesh, &rng, result);
}
