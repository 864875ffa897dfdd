#include "tests/sim/mesh.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/log.h"
#include "tests/sim/authority.h"
#include "tests/sim/chance.h"
#include "tests/sim/control.h"
#include "tests/sim/node.h"
#include "tests/sim/run.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_log.h"

#define S               UINT64_C(1000000)
#define READY_US        (60 * S)
#define ROUND_US        (3000 * S)
#define WAIT_US         (400 * S)
#define IDLE_US         (130 * S) /* past a pooled connection's idle limit */
#define RECOVERY_US     S
#define DEMAND_US       (5 * S)
#define DEMAND_SLACK_US (S / 2)
#define CALLS_TO_FAIL   400
#define SERVER_ID       "spiffe://cluster.local/ns/default/sa/server"
#define CLIENT_ID       "spiffe://cluster.local/ns/default/sa/client"
#define OTHER_ID        "spiffe://cluster.local/ns/default/sa/second"

/* Whom a client calls. */
enum target { TARGET_SERVICE, TARGET_BYTES, TARGET_LOST, TARGET_OUTSIDE };

struct mesh {
    struct world world;
    struct mesh_plan plan;
    struct ledger ledger;
    struct authority *authority;
    struct pod *control_pod;
    struct control *control;
    struct pod *client_pod;
    struct node client_node;
    struct node server_nodes[MESH_SERVERS_MAX];
    struct mesh_objects objects;
    struct app apps[MESH_SERVERS_MAX];
    struct app echoes[MESH_SERVERS_MAX];
    struct client clients[MESH_CLIENTS_MAX];
    enum target targets[MESH_CLIENTS_MAX];
    unsigned client_count;
    struct host *client_host;
    struct arena arena;
    struct tls_identity *forged; /* of an intruder */
    struct tls_trust *trust;
    unsigned round;
    uint64_t round_us;   /* its load began */
    uint64_t round_from; /* rows of it come behind */
    unsigned acts_done;
    uint64_t changed_us; /* the weights or endpoints were written anew; 0: not yet */
    uint64_t acked_us;   /* and were acknowledged by all */
    uint64_t acked_rows; /* rows begun until then */
    uint64_t killed_us;
    bool all_known; /* when control was killed, sidecars had all that they ever asked for */
};

/* ---- set-up ---- */

static bool intruder_is_server(const struct mesh_plan *plan)
{
    return plan->intruder == MESH_OTHER_SERVER || plan->intruder == MESH_EXPIRED_SERVER ||
           plan->intruder == MESH_STRANGE_SERVER;
}

static bool intruder_is_client(const struct mesh_plan *plan)
{
    return plan->intruder == MESH_EXPIRED_CLIENT || plan->intruder == MESH_STRANGE_CLIENT;
}

/* Sidecars that control knows of. */
static unsigned known_nodes(const struct mesh *mesh)
{
    return mesh->plan.servers + 1 - (mesh->plan.intruder != MESH_NOBODY ? 1 : 0);
}

static void add_place(struct node_control *to, struct listener_place place)
{
    CHECK(to->place_count < NODE_PLACES_MAX);
    to->places[to->place_count++] = place;
}

static struct node_options base_options(struct mesh *mesh, struct pod *pod, const char *name,
                                        const char *account)
{
    char text[ADDR_TEXT_MAX];
    char at[ADDR_TEXT_MAX];
    const struct addr control = control_get_addr(mesh->control);
    return (struct node_options){
        .world = &mesh->world,
        .pod = pod,
        .name = name,
        .workers = mesh->plan.workers,
        .control = {.at = arena_text(&mesh->arena, slice_of_text(addr_format(&control, at))),
                    .mesh_root = mesh->authority->mesh_root,
                    .token_file = authority_token(mesh->authority, account),
                    .address =
                        arena_text(&mesh->arena, slice_of_text(addr_format_ip(&pod->ip, text))),
                    .name = name,
                    .account = account,
                    .negative_us = mesh->plan.negative_us,
                    .idle_us = mesh->plan.idle_us}};
}

/* Shows what it should not have, or what has ended, or what nobody signed that the mesh knows. */
static void forge(struct mesh *mesh, struct node_options *options)
{
    static const struct {
        const char *identity;
        bool stranger;
        uint32_t ttl_s;
    } forged[MESH_INTRUDER_COUNT] = {[MESH_OTHER_SERVER] = {OTHER_ID, false, 3600},
                                     [MESH_EXPIRED_SERVER] = {SERVER_ID, false, 1},
                                     [MESH_STRANGE_SERVER] = {SERVER_ID, true, 3600},
                                     [MESH_EXPIRED_CLIENT] = {CLIENT_ID, false, 1},
                                     [MESH_STRANGE_CLIENT] = {CLIENT_ID, true, 3600}};
    enum mesh_intruder who = mesh->plan.intruder;
    const struct ca *ca = forged[who].stranger ? mesh->authority->stranger : mesh->authority->mesh;
    mesh->forged = authority_issue(ca, forged[who].identity, forged[who].ttl_s,
                                   mesh->world.now_us + WORLD_WALL_OFFSET_US);
    mesh->trust = authority_trust(mesh->authority);
    options->certificate = mesh->forged;
    options->trust = mesh->trust;
    options->identity = forged[who].identity;
}

static void make_client_node(struct mesh *mesh)
{
    const struct addr ip = addr_ipv4(10, 0, 0, 1, 0);
    struct addr at = addr_ipv4(10, 0, 0, 1, 15001);
    mesh->client_pod = world_pod(&mesh->world, &ip);
    mesh->client_pod->outbound = at;
    mesh->client_host = world_host(&mesh->world, mesh->client_pod, "clients", false);
    struct node_options options = base_options(mesh, mesh->client_pod, "client", "client");
    if (intruder_is_client(&mesh->plan)) {
        forge(mesh, &options);
        options.config = scenario_intruding_client(&mesh->arena);
    }
    add_place(&options.control, (struct listener_place){.direction = LISTENER_OUTBOUND,
                                                        .at = at,
                                                        .captured = true,
                                                        .network = SLICE("")});
    at.port = 16001;
    add_place(&options.control,
              (struct listener_place){.direction = LISTENER_OUTBOUND,
                                      .at = at,
                                      .key = SLICE("host/nobody.default.svc.cluster.local:80")});
    node_init(&mesh->client_node, &options);
}

static void make_server(struct mesh *mesh, unsigned index)
{
    static const uint16_t refused[] = {15000, 15001, 15006};
    static const char *const names[MESH_SERVERS_MAX] = {"server-0", "server-1", "server-2",
                                                        "server-3"};
    const struct addr ip = addr_ipv4(10, 0, 1, (uint8_t)(index + 1), 0);
    struct addr at = ip;
    struct pod *pod = world_pod(&mesh->world, &ip);
    at.port = 15006;
    pod->inbound = at;
    struct host *host = world_host(&mesh->world, pod, "application", false);
    struct node_options options = base_options(mesh, pod, names[index], mesh_account(index));
    if (index == 0 && intruder_is_server(&mesh->plan)) {
        forge(mesh, &options);
        options.config = scenario_intruding_server(&mesh->arena);
    }
    add_place(&options.control, (struct listener_place){.direction = LISTENER_INBOUND,
                                                        .at = at,
                                                        .captured = true,
                                                        .refused = refused,
                                                        .refused_count = COUNT_OF(refused)});
    node_init(&mesh->server_nodes[index], &options);
    at.port = 8000;
    app_init(&mesh->apps[index], host, &mesh->ledger, &at, index, &mesh->plan.mix);
    const struct app_mix echo = {.echo = true};
    at.port = 9000;
    app_init(&mesh->echoes[index], host, &mesh->ledger, &at, MESH_SERVERS_MAX + index, &echo);
}

/* What people have written goes into force. */
static void write_objects(struct mesh *mesh)
{
    control_apply(mesh->control, mesh_policy(&mesh->arena, &mesh->plan, &mesh->objects));
}

static void set_up(struct mesh *mesh, const struct mesh_start *start, struct rng *rng)
{
    world_init(&mesh->world, rng_u64(rng), start->run->trace);
    sim_log_begin(start->log, &mesh->world);
    start->log->wanted[0] = "inbound TLS refused";
    start->log->wanted[1] = "fail=TLS";
    log_set_level(LOG_LEVEL_INFO);
    arena_init(&mesh->arena, NULL);
    ledger_init(&mesh->ledger, &mesh->world);
    mesh->authority = start->authority;
    authority_open(mesh->authority);
    chance_seed(rng_u64(rng));
    start->scenario->draw_mesh(&mesh->plan, rng);
    mesh->world.shape = mesh->plan.shape;
    if (start->run->calls) {
        mesh->world.shape.torn_max = 0;
        mesh->world.fail_how = start->run->fail_how;
        mesh->world.fail_at = start->run->fail_at;
    } else if (mesh->plan.fail_a_call) {
        mesh->world.fail_how = (enum world_failing)rng_below(rng, WORLD_FAILING_COUNT);
        mesh->world.fail_at = 1 + rng_below(rng, CALLS_TO_FAIL);
    }
    const struct addr ip = addr_ipv4(10, 0, 0, 9, 0);
    mesh->control_pod = world_pod(&mesh->world, &ip);
    struct control_options options = {.world = &mesh->world,
                                      .pod = mesh->control_pod,
                                      .authority = mesh->authority,
                                      .ttl_s = mesh->plan.ttl_s,
                                      .block_unknown = mesh->plan.block_unknown};
    mesh->control = control_new(&options);
    mesh->objects.weight = mesh->plan.weight;
    write_objects(mesh);
    control_start(mesh->control);
    make_client_node(mesh);
    for (unsigned i = 0; i < mesh->plan.servers; i++) {
        make_server(mesh, i);
    }
}

static bool all_ready(const struct mesh *mesh)
{
    bool ready = node_is_ready(&mesh->client_node);
    for (unsigned i = 0; i < mesh->plan.servers; i++) {
        ready = ready && node_is_ready(&mesh->server_nodes[i]);
    }
    return ready;
}

/* ---- time ---- */

static void note_acknowledged(struct mesh *mesh)
{
    if (mesh->changed_us != 0 && mesh->acked_us == 0 &&
        control_is_acknowledged(mesh->control, known_nodes(mesh))) {
        mesh->acked_us = mesh->world.now_us;
        mesh->acked_rows = mesh->ledger.count;
        world_note(&mesh->world, "acknowledged", mesh->acked_rows, 0, 0);
    }
}

static bool step(struct mesh *mesh, uint64_t until_us)
{
    bool more = world_step(&mesh->world, until_us) && mesh->world.failures == 0;
    node_check_waiters(&mesh->client_node);
    for (unsigned i = 0; i < mesh->plan.servers; i++) {
        node_check_waiters(&mesh->server_nodes[i]);
    }
    note_acknowledged(mesh);
    return more;
}

/* Until `wanted` holds; fails the run where it does not within `us`. */
static void wait_until(struct mesh *mesh, bool (*wanted)(const struct mesh *), uint64_t us,
                       const char *what)
{
    uint64_t until_us = mesh->world.now_us + us;
    while (!wanted(mesh) && mesh->world.failures == 0) {
        if (!step(mesh, until_us) && mesh->world.now_us >= until_us) {
            world_fail(&mesh->world, "%s: not within %" PRIu64 " s", what, us / S);
        }
    }
}

static bool is_acknowledged(const struct mesh *mesh)
{
    return control_is_acknowledged(mesh->control, known_nodes(mesh));
}

static bool is_forgotten(const struct mesh *mesh)
{
    return control_destinations(mesh->control) == 0;
}

/* Destinations that the client's sidecar ever has to ask for. */
static unsigned count_called(const struct mesh *mesh)
{
    const struct mesh_plan *plan = &mesh->plan;
    const unsigned kinds[] = {plan->clients, plan->bytes, plan->lost, plan->outside};
    unsigned called = 0;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        called += kinds[i] > 0;
    }
    return called;
}

/* ---- acts ---- */

static void restart_control(struct mesh *mesh)
{
    if (mesh->plan.forget) {
        write_objects(mesh);
    }
    control_start(mesh->control);
}

static void act(struct mesh *mesh, enum mesh_act what)
{
    static const char *const names[] = {
#define X(name, meaning) #name,
        MESH_ACTS(X)
#undef X
    };
    if (what != MESH_NONE) {
        world_note(&mesh->world, names[what], mesh->ledger.count, 0, 0);
    }
    switch (what) {
    case MESH_NONE:
        break;
    case MESH_CONTROL_KILL:
        mesh->all_known =
            is_acknowledged(mesh) && control_destinations(mesh->control) == count_called(mesh);
        control_kill(mesh->control, mesh->plan.forget);
        break;
    case MESH_CONTROL_BACK:
        restart_control(mesh);
        break;
    case MESH_CHANGE:
        mesh->changed_us = mesh->world.now_us;
        mesh->objects.weight = mesh->plan.weight_later;
        write_objects(mesh);
        break;
    case MESH_LEAVE:
        mesh->changed_us = mesh->world.now_us;
        mesh->objects.left = true;
        write_objects(mesh);
        break;
    case MESH_SPOIL:
        control_spoil(mesh->control);
        break;
    case MESH_SERVER_KILL:
        mesh->killed_us = mesh->world.now_us;
        node_kill(&mesh->server_nodes[0]);
        break;
    case MESH_SERVER_BACK:
        node_start(&mesh->server_nodes[0]);
        break;
    case MESH_SILENCE:
        mesh->control_pod->silent = true;
        break;
    case MESH_SPEECH:
        mesh->control_pod->silent = false;
        break;
    case MESH_REMOVE:
    case MESH_RESTORE:
        mesh->objects.removed = what == MESH_REMOVE;
        write_objects(mesh);
        break;
    case MESH_ACT_COUNT:
        CHECK(false);
    }
}

/* ---- a round ---- */

static void make_clients(struct mesh *mesh)
{
    const struct mesh_plan *plan = &mesh->plan;
    const struct {
        unsigned count;
        enum target target;
        struct addr to;
        const char *authority;
    } kinds[] = {
        {plan->clients, TARGET_SERVICE, addr_ipv4(10, 96, 0, 10, 8000), "order-service:8000"},
        {plan->bytes, TARGET_BYTES, addr_ipv4(10, 96, 0, 20, 9000), ""},
        {plan->lost, TARGET_LOST, addr_ipv4(10, 0, 0, 1, 16001), "nobody"},
        {plan->outside, TARGET_OUTSIDE, addr_ipv4(10, 96, 0, 77, 8000), "outside:8000"}};
    struct client_plan first = plan->client;
    first.requests = plan->rounds[0].requests;
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        for (unsigned i = 0; i < kinds[k].count; i++) {
            unsigned number = mesh->client_count++;
            CHECK(number < MESH_CLIENTS_MAX);
            mesh->targets[number] = kinds[k].target;
            first.opaque = kinds[k].target == TARGET_BYTES;
            client_init(&mesh->clients[number], number, mesh->client_host, &mesh->ledger,
                        &kinds[k].to, kinds[k].authority, &first);
        }
    }
}

static bool clients_done(const struct mesh *mesh)
{
    for (unsigned i = 0; i < mesh->client_count; i++) {
        if (!mesh->clients[i].done) {
            return false;
        }
    }
    return true;
}

static uint64_t next_act_us(const struct mesh *mesh, const struct mesh_round *round)
{
    bool any = mesh->acts_done < MESH_ACTS_MAX && round->acts[mesh->acts_done].act != MESH_NONE;
    return any ? mesh->round_us + round->acts[mesh->acts_done].at_us : UINT64_MAX;
}

/* Acts that are late for the load happen all the same. */
static void load(struct mesh *mesh, const struct mesh_round *round)
{
    uint64_t limit_us = mesh->world.now_us + ROUND_US;
    mesh->round_us = mesh->world.now_us;
    mesh->acts_done = 0;
    for (;;) {
        uint64_t act_us = next_act_us(mesh, round);
        if (mesh->world.failures > 0 || (clients_done(mesh) && act_us == UINT64_MAX)) {
            return;
        }
        if (mesh->world.now_us >= act_us) {
            act(mesh, round->acts[mesh->acts_done++].act);
            continue;
        }
        (void)step(mesh, act_us < limit_us ? act_us : limit_us);
        if (mesh->world.now_us >= limit_us) {
            world_fail(&mesh->world, "the clients never came to an end");
        }
    }
}

/* ---- what must come out ---- */

static void check_refused(struct mesh *mesh, uint64_t number, const struct ledger_row *row,
                          unsigned status)
{
    bool told = row->end == LEDGER_LOCAL && row->status == status;
    if (row->heads > 0) {
        world_fail(&mesh->world, "request %" PRIu64 " reached an application", number);
    } else if (!told && row->end != LEDGER_LOST) {
        world_fail(&mesh->world, "request %" PRIu64 ": end %u, status %u, not %u", number, row->end,
                   row->status, status);
    }
}

static void check_answered(struct mesh *mesh, uint64_t number, const struct ledger_row *row)
{
    if (row->end != LEDGER_ANSWERED) {
        world_fail(&mesh->world, "request %" PRIu64 " was not answered: end %u, status %u", number,
                   row->end, row->status);
    }
}

/* Time runs from the connection's arrival, which is before the request. */
static void check_silence(struct mesh *mesh, uint64_t number, const struct ledger_row *row)
{
    uint64_t took_us = row->ended_us - row->begun_us;
    check_refused(mesh, number, row, 503);
    if (took_us > DEMAND_US + DEMAND_SLACK_US) {
        world_fail(&mesh->world, "request %" PRIu64 " waited %" PRIu64 " us for control", number,
                   took_us);
    }
}

static void check_killed(struct mesh *mesh, uint64_t number, const struct ledger_row *row)
{
    bool in_flight = mesh->killed_us != 0 && row->begun_us < mesh->killed_us + RECOVERY_US;
    bool may_fail = in_flight && !ledger_idempotent(row->method);
    bool cut = in_flight && row->end == LEDGER_CUT; /* its head was passed on */
    bool told = may_fail && row->end == LEDGER_LOCAL && row->status == 503;
    if (!cut && !told) {
        check_answered(mesh, number, row);
    }
}

/* Bytes that all came back are LEDGER_LOCAL. A connection that began with others' is theirs: it
 * ends with its server. */
static void check_bytes(struct mesh *mesh, const struct mesh_round *round, uint64_t number,
                        const struct ledger_row *row)
{
    bool silent = round->expect == MESH_SILENT;
    bool killed = round->expect == MESH_KILLED && mesh->killed_us != 0 &&
                  row->begun_us < mesh->killed_us + RECOVERY_US;
    bool whole = row->end == LEDGER_LOCAL;
    if (silent ? whole && row->body_len > 0 : !whole && !killed) {
        world_fail(&mesh->world, "the bytes of %" PRIu64 ": end %u", number, row->end);
    } else if (silent && row->ended_us - row->begun_us > DEMAND_US + DEMAND_SLACK_US) {
        world_fail(&mesh->world, "the bytes of %" PRIu64 " waited too long for control", number);
    }
}

static void check_row(struct mesh *mesh, const struct mesh_round *round, uint64_t number)
{
    const struct ledger_row *row = &mesh->ledger.rows[number - 1];
    switch (mesh->targets[row->client]) {
    case TARGET_BYTES:
        check_bytes(mesh, round, number, row);
        return;
    case TARGET_LOST:
        check_refused(mesh, number, row, 503);
        return;
    case TARGET_OUTSIDE:
        check_refused(mesh, number, row, mesh->plan.block_unknown ? 502 : 503);
        return;
    case TARGET_SERVICE:
        break;
    }
    switch (round->expect) {
    case MESH_ANSWERED:
        check_answered(mesh, number, row);
        return;
    case MESH_REFUSED:
        check_refused(mesh, number, row, 503);
        return;
    case MESH_REMOVED:
        check_refused(mesh, number, row, mesh->plan.block_unknown ? 502 : 503);
        return;
    case MESH_SILENT:
        check_silence(mesh, number, row);
        return;
    case MESH_COUNTED: /* all together: check_counted */
        return;
    case MESH_KILLED:
        check_killed(mesh, number, row);
        return;
    }
}

/* Rows behind `from` that were seen until `until_us`, under these weights: never one of weight 0,
 * and shares off by less than one a worker, and by what was under way at the ends. */
static void check_weights(struct mesh *mesh, uint64_t from, uint64_t until_us,
                          const unsigned *weight)
{
    uint64_t counts[2] = {0, 0};
    for (uint64_t i = from; i < mesh->ledger.count; i++) {
        const struct ledger_row *row = &mesh->ledger.rows[i];
        bool counted = row->heads > 0 && row->tries[0].at_us < until_us &&
                       mesh->targets[row->client] == TARGET_SERVICE;
        unsigned version = counted && row->tries[0].app >= mesh->plan.first;
        counts[version] += counted;
        if (counted && weight[version] == 0) {
            world_fail(&mesh->world, "request %" PRIu64 " went to v%u, whose weight is 0", i + 1,
                       version + 1);
        }
    }
    uint64_t sum = weight[0] + weight[1];
    uint64_t is = counts[0] * sum;
    uint64_t should = (counts[0] + counts[1]) * weight[0];
    uint64_t off = is > should ? is - should : should - is;
    uint64_t bound = mesh->plan.workers + mesh->plan.clients;
    if (off >= bound * sum) {
        world_fail(&mesh->world, "weights: v1 got %" PRIu64 " of %" PRIu64 " with %u of %" PRIu64,
                   counts[0], counts[0] + counts[1], weight[0], sum);
    }
}

static void check_all_weights(struct mesh *mesh)
{
    if (mesh->changed_us == 0) {
        check_weights(mesh, 0, UINT64_MAX, mesh->plan.weight);
        return;
    }
    if (mesh->acked_us == 0) {
        world_fail(&mesh->world, "the change was never acknowledged");
        return;
    }
    check_weights(mesh, 0, mesh->changed_us, mesh->plan.weight);
    check_weights(mesh, mesh->acked_rows, UINT64_MAX, mesh->objects.weight);
}

/* Whoever began after all knew that the first server has left never came to it. */
static void check_left(struct mesh *mesh)
{
    for (uint64_t i = mesh->acked_rows; i < mesh->ledger.count; i++) {
        const struct ledger_row *row = &mesh->ledger.rows[i];
        for (unsigned k = 0; k < row->heads; k++) {
            if (row->tries[k].app == 0) {
                world_fail(&mesh->world, "request %" PRIu64 " came to a server that has left",
                           i + 1);
            }
        }
    }
}

/* Refused, and named at both ends. */
static void check_intruder(struct mesh *mesh, const struct sim_log *log)
{
    if (mesh->apps[0].requests > 0) {
        world_fail(&mesh->world, "an application was reached through an intruder");
    }
    if (log->hits[0] == 0) {
        world_fail(&mesh->world,
                   "the server's sidecar never said whom it refused, or was refused by");
    }
    if (node_metric(&mesh->client_node, "pillion_attempt_failures_total", "fail=\"TLS", "") == 0) {
        world_fail(&mesh->world, "the client's sidecar never counted a refused peer");
    }
}

static void check_renewed(struct mesh *mesh, const struct node *node)
{
    uint64_t first_us = WORLD_FIRST_US + WORLD_WALL_OFFSET_US + mesh->plan.ttl_s * S;
    if (node_certificate_end(node) < first_us + mesh->plan.ttl_s * S / 4) {
        world_fail(&mesh->world, "%s: its certificate is still the first", node->options.name);
    }
}

/* A call that failed may cost the requests of one connection, and one of its owner's own. */
static void check_counted(struct mesh *mesh)
{
    uint64_t without = mesh->ledger.count - ledger_ends(&mesh->ledger, LEDGER_ANSWERED);
    uint64_t counted = node_metric(&mesh->client_node, "pillion_exchange_failures_total", "", "");
    if (without > counted + 1) {
        world_fail(&mesh->world,
                   "%s: %" PRIu64 " requests without an answer, %" PRIu64 " failures counted",
                   world_failing_name(mesh->world.fail_how), without, counted);
    }
}

/* A control plane that comes back is told what is there: it sends the wildcards' answers, a
 * listener and clusters, and nothing that it is asked for by name. */
static void check_resent(struct mesh *mesh)
{
    uint64_t pushes = control_pushes(mesh->control);
    if (pushes > 2 * known_nodes(mesh)) {
        world_fail(&mesh->world,
                   "control came back and sent %" PRIu64 " responses to %u sidecars that had all",
                   pushes, known_nodes(mesh));
    }
}

static void check_plan(struct mesh *mesh, const struct sim_log *log)
{
    const struct mesh_plan *plan = &mesh->plan;
    if (plan->fail_a_call) {
        check_counted(mesh);
    }
    if (plan->exact_weights) {
        check_all_weights(mesh);
    }
    if (mesh->all_known && !plan->forget && mesh->changed_us == 0) {
        check_resent(mesh);
    }
    if (mesh->objects.left) {
        check_left(mesh);
    }
    if (plan->intruder != MESH_NOBODY) {
        check_intruder(mesh, log);
    }
    if (plan->must_nack && control_rejections(mesh->control) == 0) {
        world_fail(&mesh->world, "what is no Destination was not refused");
    }
    for (unsigned i = 0; i < plan->servers && plan->must_renew; i++) {
        check_renewed(mesh, &mesh->server_nodes[i]);
    }
}

/* However many connections and workers ask for a destination, the sidecar does once. */
static void check_subscriptions(struct mesh *mesh)
{
    unsigned called = count_called(mesh);
    unsigned held = control_destinations(mesh->control);
    if (held > called) {
        world_fail(&mesh->world, "%u destinations are subscribed to, %u were called", held, called);
    }
}

/* ---- the run ---- */

static void run_round(struct mesh *mesh, const struct mesh_round *round)
{
    act(mesh, round->first);
    uint64_t until_us = mesh->world.now_us + round->pause_us;
    while (mesh->world.now_us < until_us && mesh->world.failures == 0) {
        (void)step(mesh, until_us);
    }
    if (round->wait == MESH_WAIT_ACK) {
        wait_until(mesh, is_acknowledged, WAIT_US, "every sidecar acknowledges");
    } else if (round->wait == MESH_WAIT_FORGOTTEN) {
        wait_until(mesh, is_forgotten, WAIT_US, "unused destinations are forgotten");
    }
    uint64_t from = mesh->ledger.count;
    if (mesh->client_count == 0) {
        make_clients(mesh);
    } else {
        for (unsigned i = 0; i < mesh->client_count; i++) {
            client_more(&mesh->clients[i], round->requests);
        }
    }
    load(mesh, round);
    if (mesh->changed_us != 0 && mesh->acked_us == 0 && mesh->world.failures == 0) {
        wait_until(mesh, is_acknowledged, WAIT_US, "every sidecar acknowledges the change");
    }
    for (uint64_t i = from; i < mesh->ledger.count && mesh->world.failures == 0; i++) {
        check_row(mesh, round, i + 1);
    }
    check_subscriptions(mesh);
}

static void finish(struct mesh *mesh, const struct sim_log *log)
{
    for (unsigned i = 0; i < mesh->client_count; i++) {
        client_fini(&mesh->clients[i]);
    }
    if (mesh->world.failures == 0) {
        check_plan(mesh, log);
        world_run(&mesh->world, mesh->world.now_us + IDLE_US);
    }
    if (mesh->world.failures == 0) {
        ledger_close(&mesh->ledger);
        node_check_idle(&mesh->client_node);
    }
    for (unsigned i = 0; i < mesh->plan.servers && mesh->world.failures == 0; i++) {
        node_check_idle(&mesh->server_nodes[i]);
    }
}

static void tear_down(struct mesh *mesh)
{
    node_fini(&mesh->client_node);
    for (unsigned i = 0; i < mesh->plan.servers; i++) {
        node_fini(&mesh->server_nodes[i]);
        app_fini(&mesh->apps[i]);
        app_fini(&mesh->echoes[i]);
    }
    control_free(&mesh->control);
    loop_drain(mesh->client_host->loop);
    world_fini(&mesh->world);
    tls_identity_unref(&mesh->forged);
    tls_trust_unref(&mesh->trust);
    ledger_fini(&mesh->ledger);
    arena_fini(&mesh->arena);
}

void mesh_run(const struct mesh_start *start, struct rng *rng, struct run_result *result)
{
    struct mesh *mesh = NEW(struct mesh);
    set_up(mesh, start, rng);
    wait_until(mesh, all_ready, READY_US, "every sidecar is ready");
    for (unsigned i = 0; i < mesh->plan.round_count && mesh->world.failures == 0; i++) {
        run_round(mesh, &mesh->plan.rounds[i]);
    }
    finish(mesh, start->log);
    run_take_result(&mesh->world, &mesh->ledger, node_exchanges(&mesh->client_node), result);
    log_set_level(LOG_LEVEL_ERROR);
    tear_down(mesh);
    sim_log_end(start->log);
    mem_free(mesh);
}
