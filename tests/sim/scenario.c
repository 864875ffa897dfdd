#include "tests/sim/scenario.h"

#include <string.h>

#define MS UINT64_C(1000)
#define S  UINT64_C(1000000)

#define PREVIOUS_HOSTS                                                                             \
    "'retry_host_predicate':[{'name':'envoy.retry_host_predicates.previous_hosts','typed_config':" \
    "{'@type':'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3."                 \
    "PreviousHostsPredicate'}}],'host_selection_retry_max_attempts':'5','retry_back_off':{"        \
    "'base_interval':'0.025s','max_interval':'0.250s'}"
/* What behaviour.md says where nothing is set, as policy/translate writes it. */
#define RETRY_DEFAULT                                                                              \
    "{'retry_on':'connect-failure,refused-stream,reset-before-request,idempotent-reset',"          \
    "'num_retries':2," PREVIOUS_HOSTS "}"
#define RETRY_5XX                                                                                  \
    "{'retry_on':'5xx,connect-failure,refused-stream','num_retries':3," PREVIOUS_HOSTS "}"
#define RETRY_PER_TRY                                                                              \
    "{'retry_on':'5xx,reset','num_retries':2,'per_try_timeout':'0.5s'," PREVIOUS_HOSTS "}"
#define OUTLIER(enough)                                                                            \
    "{'consecutive_5xx':" enough ",'interval':'0.2s','base_ejection_time':'0.4s',"                 \
    "'max_ejection_percent':100,'enforcing_consecutive_5xx':100,'enforcing_success_rate':0}"
#define BUDGET "'retry_budget':{'budget_percent':{'value':20},'min_retry_concurrency':3}"

static bool half(struct rng *rng)
{
    return rng_below(rng, 2) == 0;
}

static uint32_t between(struct rng *rng, uint32_t low, uint32_t high)
{
    return low + (uint32_t)rng_below(rng, high - low + 1);
}

/* A network that is only slow, narrow and torn: nothing that a request could notice. */
static struct world_shape fair_shape(struct rng *rng)
{
    static const uint32_t torn[] = {0, 0, 1, 3, 17, 700};
    static const uint32_t rooms[] = {0, 0, 1, 100, 4096, 65536};
    struct world_shape shape = {.latency_min_us = between(rng, 10, 500)};
    shape.latency_max_us = shape.latency_min_us + (half(rng) ? 0 : between(rng, 0, 3000));
    shape.us_per_kib = half(rng) ? 0 : between(rng, 1, 50);
    shape.torn_max = torn[rng_below(rng, COUNT_OF(torn))];
    shape.room = rooms[rng_below(rng, COUNT_OF(rooms))];
    if (shape.torn_max < 100) {
        shape.room = shape.room == 0 || shape.room > 100 ? 0 : shape.room;
    }
    if (shape.room != 0 && shape.room < 1000) {
        shape.latency_max_us = shape.latency_min_us = 20; /* a byte a round trip */
    }
    return shape;
}

static bool is_fine_grained(const struct world_shape *shape)
{
    return (shape->torn_max != 0 && shape->torn_max < 100) ||
           (shape->room != 0 && shape->room < 1000);
}

static void add_faults(struct world_shape *shape, struct rng *rng)
{
    shape->refuse_ppm = half(rng) ? 0 : between(rng, 0, 200000);
    shape->swallow_ppm = half(rng) ? 0 : between(rng, 0, 50000);
    shape->reset_ppm = half(rng) ? 0 : between(rng, 0, is_fine_grained(shape) ? 1000 : 50000);
    shape->silence_ppm = half(rng) ? 0 : between(rng, 0, is_fine_grained(shape) ? 300 : 10000);
}

/* Bodies that fit the network's grain, so that a run stays short. */
static void size_bodies(struct plan *plan, struct rng *rng)
{
    static const uint32_t coarse[] = {0, 100, 5000, 40000, 200000};
    static const uint32_t fine[] = {0, 10, 100, 600};
    bool small = is_fine_grained(&plan->client_shape) || is_fine_grained(&plan->hop_shape) ||
                 is_fine_grained(&plan->app_shape);
    if (small) {
        plan->client.requests = (plan->client.requests + 2) / 3;
        plan->client.body_max = fine[rng_below(rng, COUNT_OF(fine))];
        plan->mix.answer_max = fine[rng_below(rng, COUNT_OF(fine))];
        return;
    }
    plan->client.body_max = coarse[rng_below(rng, COUNT_OF(coarse))];
    plan->mix.answer_max = coarse[rng_below(rng, COUNT_OF(coarse))];
}

/* The common ground: two versions, some clients, a fair network, applications that answer. */
static void base(struct plan *plan, struct rng *rng)
{
    *plan = (struct plan){.clusters = 1,
                          .endpoints = between(rng, 1, 3),
                          .clients = between(rng, 1, 4),
                          .weight = {100},
                          .timeout = "15s",
                          .retry = RETRY_DEFAULT,
                          .two_hops = half(rng)};
    plan->client_shape = fair_shape(rng);
    plan->hop_shape = fair_shape(rng);
    plan->app_shape = fair_shape(rng);
    plan->client = (struct client_plan){.requests = between(rng, 4, 16),
                                        .depth = 1,
                                        .method = {5, 1, 2, 3},
                                        .gap_max_us = between(rng, 0, 5000),
                                        .patience_us = 100 * S,
                                        .chunked_ppm = half(rng) ? 0 : 500000,
                                        .drip_ppm = half(rng) ? 0 : 200000,
                                        .deaf_ppm = half(rng) ? 0 : 200000,
                                        .drip_max_us = between(rng, 100, 20000),
                                        .reconnect_ppm = half(rng) ? 0 : 200000};
    plan->client.depth = half(rng) ? 1 : between(rng, 2, CLIENT_DEPTH_MAX);
    plan->workers = half(rng) ? 1 : between(rng, 2, 3);
    plan->mix = (struct app_mix){.slow_max_us = between(rng, 1000, 200000)};
    plan->mix.weight[APP_ANSWER] = 10;
    plan->mix.weight[APP_CHUNKED] = 5;
    plan->mix.weight[APP_LAST] = 1;
    plan->mix.weight[APP_INTERIM] = 1;
    plan->mix.weight[APP_SLOW] = 2;
    plan->mix.weight[APP_DRIP] = 1;
    plan->mix.weight[APP_EMPTY] = 1;
    plan->mix.weight[APP_UNTIL_CLOSE] = 1;
    size_bodies(plan, rng);
    if (plan->mix.answer_max > 5000) {
        plan->mix.weight[APP_DRIP] = 0;
    }
    if (plan->client.body_max > 5000) {
        plan->client.drip_ppm = 0;
    }
}

static void draw_plain(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->all_answered = true;
}

static void draw_weights(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->clusters = between(rng, 2, 3);
    plan->endpoints = between(rng, 1, 2);
    for (unsigned i = 0; i < plan->clusters; i++) {
        plan->weight[i] = between(rng, 1, 100);
        plan->weight_later[i] = between(rng, 0, 100) + (i == 0);
    }
    if (half(rng)) {
        plan->weight[0] = 90;
        plan->weight[1] = 10;
    }
    plan->client.requests = between(rng, 20, 40);
    plan->client.body_max = 100;
    plan->mix.answer_max = 100;
    plan->all_answered = true;
    plan->exact_weights = true;
}

static void draw_errors(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->mix.weight[APP_ERROR] = 3;
    plan->mix.weight[APP_BROKEN] = 3;
    plan->mix.weight[APP_EARLY] = 2;
    plan->posts_may_repeat = half(rng);
    plan->retry = plan->posts_may_repeat ? RETRY_5XX : RETRY_DEFAULT;
}

static void draw_rude(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->mix.weight[APP_CLOSE] = 2;
    plan->mix.weight[APP_RESET] = 2;
    plan->mix.weight[APP_HALF_CLOSE] = 2;
    plan->mix.weight[APP_HALF_RESET] = 2;
    plan->mix.weight[APP_QUIET_LAST] = 2;
    plan->mix.weight[APP_GARBAGE] = 1;
    plan->mix.weight[APP_EARLY] = 1;
}

static void draw_network(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    add_faults(&plan->hop_shape, rng);
    add_faults(&plan->app_shape, rng);
    if (half(rng)) {
        add_faults(&plan->client_shape, rng);
        plan->client.hasty_is_fine = true;
    }
}

static void draw_impatient(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->client.abort_ppm = between(rng, 50000, 500000);
    plan->client.abort_max_us = between(rng, 100, 50000);
    plan->mix.weight[APP_EARLY] = 1;
}

static void draw_timeouts(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->timeout = half(rng) ? "2s" : "0.7s";
    plan->mix.weight[APP_HANG] = between(rng, 1, 6);
    plan->mix.slow_max_us = 3 * S;
    plan->posts_may_repeat = half(rng);
    plan->retry = plan->posts_may_repeat ? RETRY_PER_TRY : RETRY_DEFAULT;
}

static void draw_outage(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->endpoints = between(rng, 1, 3);
    plan->outage_every_us = (half(rng) ? between(rng, 20, 300) : between(rng, 500, 4000)) * MS;
    plan->outage_us = between(rng, 1, 200) * MS;
    plan->client.gap_max_us = (half(rng) ? between(rng, 1, 50) : between(rng, 50, 2000)) * MS;
    plan->recovers = true;
}

static void draw_breakers(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->clients = 6;
    plan->breakers = half(rng) ? "{'max_connections':1,'max_pending_requests':1,'max_requests':1}"
                               : "{'max_connections':2,'max_pending_requests':1,'max_requests':3,"
                                 "'max_retries':1}";
    plan->mix.weight[APP_SLOW] = 10;
    plan->mix.slow_max_us = between(rng, 1, 100) * MS;
}

static void draw_budget(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->clients = half(rng) ? 6 : SCENARIO_CLIENTS_MAX;
    plan->client.requests = plan->clients > 6 ? 3 : plan->client.requests;
    plan->retries_max = plan->clients / 5 > 3 ? plan->clients / 5 : 3; /* 20 %, at least 3 */
    plan->breakers = "{" BUDGET "}";
    plan->retry = RETRY_5XX;
    plan->posts_may_repeat = true;
    plan->mix.weight[APP_ERROR] = between(rng, 5, 50);
    plan->mix.weight[APP_RESET] = 3;
}

static void draw_ejection(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->endpoints = between(rng, 2, 3);
    plan->outlier = half(rng) ? OUTLIER("2") : OUTLIER("5");
    plan->has_bad_mix = true;
    plan->bad_mix = (struct app_mix){.answer_max = 50};
    plan->bad_mix.weight[half(rng) ? APP_BROKEN : APP_RESET] = 1;
    plan->all_bad = rng_below(rng, 4) == 0;
    plan->heal_at_us = plan->all_bad ? 0 : between(rng, 10, 2000) * MS;
    plan->client.requests = between(rng, 10, 40);
    plan->client.gap_max_us = between(rng, 1, 100) * MS;
}

static void draw_drain(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->drain_at_us = between(rng, 1, 100) * MS;
    plan->all_answered = true;
}

static void draw_failing_calls(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->fail_a_call = true;
}

static void draw_opaque(struct plan *plan, struct rng *rng)
{
    base(plan, rng);
    plan->opaque = true;
    plan->endpoints = 1;
    plan->client.opaque = true;
    plan->client.depth = 1;
    plan->mix.echo = true;
}

static void draw_opaque_faults(struct plan *plan, struct rng *rng)
{
    draw_opaque(plan, rng);
    add_faults(&plan->hop_shape, rng);
    plan->hop_shape.swallow_ppm = 0;
    plan->client.hasty_is_fine =
        true; /* the other end is silently gone: the tunnel's hour ends it */
    plan->client.abort_ppm = half(rng) ? 0 : 300000;
    plan->client.abort_max_us = between(rng, 100, 50000);
}

static void draw_opaque_refused(struct plan *plan, struct rng *rng)
{
    draw_opaque(plan, rng);
    plan->endpoints = 3;
    plan->down = between(rng, 1, 2);
    plan->client.body_max = plan->client.body_max > 40000 ? 40000 : plan->client.body_max;
    plan->all_answered = true;
}

const struct scenario scenarios[] = {
    {"plain", "every request is answered by its application", 2, .draw = draw_plain},
    {"weights", "exact shares, also over a change", 2, .draw = draw_weights},
    {"errors", "500, 503, answers before the request's end", 2, .draw = draw_errors},
    {"rude", "applications that close, reset, stop in the middle, talk nonsense", 2,
     .draw = draw_rude},
    {"network", "connects refused and swallowed, resets, silence", 2, .draw = draw_network},
    {"impatient", "clients that leave", 2, .draw = draw_impatient},
    {"timeouts", "applications that hang; route and per-try timeouts", 2, .draw = draw_timeouts},
    {"outage", "applications that go and come back", 2, .draw = draw_outage},
    {"breakers", "limits of 1 and 2 under six clients", 2, .draw = draw_breakers},
    {"budget", "retries within their budget", 2, .draw = draw_budget},
    {"ejection", "an endpoint that fails is left out and comes back", 2, .draw = draw_ejection},
    {"drain", "a sidecar that leaves under load", 2, .draw = draw_drain},
    {"calls", "one call of the sidecar to the kernel fails", 2, .draw = draw_failing_calls},
    {"opaque", "bytes that come back", 2, .draw = draw_opaque},
    {"opaque-faults", "the same over connections that break", 2, .draw = draw_opaque_faults},
    {"opaque-refused", "bytes that come back, although some applications are down", 2,
     .draw = draw_opaque_refused},
    {"control", "control killed and back under load", 1, .draw_mesh = draw_mesh_control},
    {"change", "weights written while clients run", 1, .draw_mesh = draw_mesh_change},
    {"nack", "control sends what is no good, and then what is", 1, .draw_mesh = draw_mesh_nack},
    {"demand", "destinations asked for, denied, forgotten, taken away", 1,
     .draw_mesh = draw_mesh_demand},
    {"silence", "control answers nothing", 1, .draw_mesh = draw_mesh_silence},
    {"intruder", "peers that are not who they should be", 1, .draw_mesh = draw_mesh_intruder},
    {"renewal", "certificates that end while clients run", 1, .draw_mesh = draw_mesh_renewal},
    {"mesh-calls", "one call of a sidecar fails, also of those to control", 1,
     .draw_mesh = draw_mesh_calls},
    {"killed", "a server's sidecar dies and comes back", 1, .draw_mesh = draw_mesh_killed},
};
const unsigned scenario_count = COUNT_OF(scenarios);

const struct scenario *scenario_find(const char *name)
{
    for (unsigned i = 0; i < scenario_count; i++) {
        if (strcmp(scenarios[i].name, name) == 0) {
            return &scenarios[i];
        }
    }
    return NULL;
}

const struct scenario *scenario_draw(struct rng *rng)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < scenario_count; i++) {
        sum += scenarios[i].share;
    }
    uint64_t draw = rng_below(rng, sum);
    unsigned at = 0;
    for (; draw >= scenarios[at].share; at++) {
        draw -= scenarios[at].share;
    }
    return &scenarios[at];
}
