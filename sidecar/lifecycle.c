#include "sidecar/lifecycle.h"

#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spiffe.h"
#include "base/yaml.h"
#include "sidecar/accept/listener.h"
#include "sidecar/admin/admin.h"
#include "sidecar/config/compile.h"
#include "sidecar/config/control_place.h"
#include "sidecar/config/destinations.h"
#include "sidecar/config/feed.h"
#include "sidecar/config/identity.h"
#include "sidecar/config/names.h"
#include "sidecar/observe/access_log.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/resolve.h"
#include "sidecar/upstream/shared.h"
#include "xds/destination_key.h"

#define BACKLOG         4096
#define DRAIN_LOOK_US   50000U
#define CONFIG_FILE_MAX ((size_t)16 << 20)
#define SECONDS         UINT64_C(1000000)
#define WAITERS_MAX     1024U
#define ENTRIES_MAX     65536U

struct worker_thread {
    struct worker worker;
    /* Mail to it, embedded: each is sent at most once. */
    struct mail drain;
    struct mail stop;
};

static void deliver_drain(struct mail *mail, struct loop *loop)
{
    (void)loop;
    worker_drain(&CONTAINER_OF(mail, struct worker_thread, drain)->worker);
}

static void deliver_stop(struct mail *mail, struct loop *loop)
{
    (void)mail;
    loop_stop(loop);
}

uint32_t sidecar_exchanges_open(const struct sidecar *sidecar)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        sum += worker_exchanges_open(&sidecar->workers[i].worker);
    }
    return sum;
}

/* ---- drain ---- */

static void on_terminate(struct task *task)
{
    struct sidecar *sidecar = CONTAINER_OF(task, struct sidecar, terminate);
    if (sidecar->drain_began_us != 0) {
        return;
    }
    log_info("draining", LOG_U64("exchanges", sidecar_exchanges_open(sidecar)));
    sidecar->drain_began_us = sidecar->loop->now_us;
    admin_set_ready(sidecar->admin, false);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        loop_send(sidecar->workers[i].worker.loop, &sidecar->workers[i].drain);
    }
    timer_set(sidecar->loop, &sidecar->drain_timer, sidecar->loop->now_us + DRAIN_LOOK_US);
}

static void on_drain(struct task *task)
{
    struct sidecar *sidecar = CONTAINER_OF(task, struct sidecar, drain);
    uint64_t spent_us = sidecar->loop->now_us - sidecar->drain_began_us;
    uint32_t open = sidecar_exchanges_open(sidecar);
    bool over = (open == 0 && spent_us >= sidecar->options.drain_min_us) ||
                spent_us >= sidecar->options.drain_max_us;
    if (!over) {
        timer_set(sidecar->loop, &sidecar->drain_timer, sidecar->loop->now_us + DRAIN_LOOK_US);
        return;
    }
    log_info("stopped", LOG_U64("cut", open));
    loop_stop(sidecar->loop);
}

/* ---- readiness ---- */

bool sidecar_is_ready(const struct sidecar *sidecar)
{
    if (sidecar->drain_began_us != 0) {
        return false;
    }
    return sidecar->feed == NULL ||
           (identity_is_valid(sidecar->identity) && feed_is_ready(sidecar->feed));
}

static void on_changed(struct task *task)
{
    struct sidecar *sidecar = CONTAINER_OF(task, struct sidecar, changed);
    loop_post(sidecar->loop, feed_task(sidecar->feed));
    if (!sidecar->ready && sidecar_is_ready(sidecar)) {
        sidecar->ready = true;
        admin_set_ready(sidecar->admin, true);
        log_info("ready", LOG_SLICE("identity", identity_get_id(sidecar->identity)));
    }
}

/* ---- start ---- */

static void fill_settings(struct sidecar *sidecar)
{
    struct worker_settings *settings = &sidecar->settings;
    const struct sidecar_options *options = &sidecar->options;
    worker_settings_init(settings);
    settings->head_timeout_us = options->head_timeout_us;
    settings->detect_hold_us = options->detect_hold_us;
    settings->on_demand_timeout_us = options->on_demand_timeout_us;
    settings->ping_us = options->ping_us;
    settings->h2_max_streams = (uint32_t)options->h2_max_streams;
    settings->h2_budget[H2_BUDGET_RESET] = (uint32_t)options->h2_resets;
    settings->h2_budget[H2_BUDGET_GLITCH] = (uint32_t)options->h2_errors;
    settings->h2_budget[H2_BUDGET_CONTROL] = (uint32_t)options->h2_control;
    settings->replay_bytes = (uint32_t)options->replay_bytes;
    settings->max_head_bytes = (uint32_t)options->max_head_bytes;
    settings->memory_limit = options->memory_limit;
    settings->trace_headers = (enum trace_headers)options->trace_headers;
}

/* The same socket in every worker; `add` makes the listener of one, which takes *net. */
static bool open_socket(struct sidecar *sidecar, const struct addr *at,
                        void (*add)(struct worker *, const void *, struct net_listener **),
                        const void *what, struct error *err)
{
    struct worker *first = &sidecar->workers[0].worker;
    struct net_listener *net = net_listen(first->loop, at, BACKLOG, err);
    if (net == NULL) {
        return false;
    }
    for (unsigned i = 1; i < sidecar->worker_count; i++) {
        struct worker *worker = &sidecar->workers[i].worker;
        struct net_listener *shared = net->ops->share(net, worker->loop);
        add(worker, what, &shared);
    }
    add(first, what, &net);
    return true;
}

static void log_listening(struct slice name, const struct addr *at)
{
    char text[ADDR_TEXT_MAX];
    log_info("listening", LOG_SLICE("listener", name), LOG_TEXT("address", addr_format(at, text)));
}

static void add_listener(struct worker *worker, const void *config, struct net_listener **net)
{
    (void)listener_new(worker, config, net);
}

static bool open_listener(struct sidecar *sidecar, const struct listener_config *config,
                          struct error *err)
{
    if (!config->bind || config->addr.family == ADDR_NONE) {
        return true;
    }
    if (!open_socket(sidecar, &config->addr, add_listener, config, err)) {
        return error_wrap(err, "listener %.*s", SLICE_ARG(config->name));
    }
    log_listening(config->name, &config->addr);
    return true;
}

static void add_place(struct worker *worker, const void *place, struct net_listener **net)
{
    (void)listener_new_at(worker, place, net);
}

static bool open_places(struct sidecar *sidecar, struct error *err)
{
    for (size_t i = 0; i < sidecar->place_count; i++) {
        const struct listener_place *place = &sidecar->places[i];
        char text[ADDR_TEXT_MAX];
        if (!open_socket(sidecar, &place->at, add_place, place, err)) {
            return error_wrap(err, "listen on %s", addr_format(&place->at, text));
        }
        log_listening(place->direction == LISTENER_INBOUND ? SLICE("inbound") : SLICE("outbound"),
                      &place->at);
    }
    return true;
}

static bool ends_with(const char *path, const char *ending)
{
    return slice_ends(slice_of_text(path), slice_of_text(ending));
}

static bool read_for_config(void *reader, const char *path, struct arena *arena,
                            struct slice *bytes, struct error *err)
{
    (void)reader;
    return file_read(path, CONFIG_FILE_MAX, arena, bytes, err);
}

/* JSON, or YAML by its ending. */
static json_t *parse_config(const char *path, struct slice text, struct arena *arena,
                            struct error *err)
{
    if (!ends_with(path, ".yaml") && !ends_with(path, ".yml")) {
        return json_parse(text, NULL, err);
    }
    struct yaml_node *root = yaml_parse(arena, text, NULL, err);
    return root != NULL ? yaml_to_json(root) : NULL;
}

static struct bootstrap *read_bootstrap(const char *path, struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct bootstrap *bootstrap = NULL;
    struct slice text;
    if (file_read(path, CONFIG_FILE_MAX, &arena, &text, err)) {
        json_t *json = parse_config(path, text, &arena, err);
        if (json != NULL) {
            struct compile_options options = {.read_file = read_for_config};
            bootstrap = compile_bootstrap(json, &options, err);
            json_decref(json);
        }
        if (bootstrap == NULL) {
            (void)error_wrap(err, "%s", path);
        }
    }
    arena_fini(&arena);
    return bootstrap;
}

/* Static configuration: the threads do not run yet, so it is applied from here. */
static bool apply_bootstrap(struct sidecar *sidecar, struct error *err)
{
    const struct bootstrap *bootstrap = sidecar->bootstrap;
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        struct worker *worker = &sidecar->workers[i].worker;
        for (uint32_t c = 0; c < bootstrap->cluster_count; c++) {
            directory_put(&worker->clusters, &bootstrap->clusters[c], NULL, worker->loop->now_us,
                          rng_u64(&worker->rng));
        }
        worker_clusters_changed(worker);
    }
    for (uint32_t c = 0; c < bootstrap->cluster_count; c++) {
        names_put(sidecar->names, &bootstrap->clusters[c], NULL);
    }
    for (uint32_t l = 0; l < bootstrap->listener_count; l++) {
        if (!open_listener(sidecar, &bootstrap->listeners[l], err)) {
            return false;
        }
    }
    return true;
}

/* ---- observation ---- */

/* What our certificate will say, into `text`; empty where there will be none. */
static struct slice own_identity(const struct sidecar *sidecar, char text[SPIFFE_TEXT_MAX + 1])
{
    struct slice account = slice_of_text(sidecar->options.service_account); /* NS/SA */
    struct spiffe_id id = {.trust_domain = slice_of_text(sidecar->options.trust_domain),
                           .namespace = slice_cut(&account, '/'),
                           .account = account};
    return slice_of(text, account.len > 0 ? spiffe_format(&id, text) : 0);
}

/* --label; empty where none was given. */
static const struct label *given_labels(struct sidecar *sidecar, unsigned *count)
{
    const struct option_list *given = &sidecar->options.label;
    struct label *labels = ARENA_ARRAY(&sidecar->arena, struct label, given->count + 1);
    *count = 0;
    for (size_t i = 0; i < given->count; i++) {
        struct slice value = slice_of_text(given->items[i]);
        labels[*count].key = slice_cut(&value, '=');
        labels[*count].value = value;
        *count += 1;
    }
    return labels;
}

/* Who we are as far as --workload and --label, or else the bootstrap's node, tell. */
static struct stats_workload own_workload(struct sidecar *sidecar, struct slice identity)
{
    struct slice name = slice_of_text(sidecar->options.workload); /* NS/NAME */
    struct slice namespace = {NULL, 0};
    unsigned count;
    const struct label *labels = given_labels(sidecar, &count);
    if (slice_find(name, '/') < name.len) {
        namespace = slice_cut(&name, '/');
    }
    const struct bootstrap *bootstrap = sidecar->bootstrap;
    if (bootstrap != NULL) {
        struct slice cluster = bootstrap->node_cluster; /* istio's SERVICE.NS */
        struct slice service = slice_cut(&cluster, '.');
        name = name.len > 0 ? name : bootstrap->node_workload;
        name = name.len > 0 ? name : service;
        namespace = namespace.len > 0 ? namespace : bootstrap->node_namespace;
        namespace = namespace.len > 0 ? namespace : cluster;
        labels = count > 0 ? labels : bootstrap->node_labels;
        count = count > 0 ? count : bootstrap->node_label_count;
    }
    struct stats_workload self = stats_workload_of_labels(name, namespace, labels, count);
    self.principal = identity;
    return self;
}

static void start_counting(struct sidecar *sidecar, uint64_t seed)
{
    char identity[SPIFFE_TEXT_MAX + 1];
    struct stats_workload self = own_workload(sidecar, own_identity(sidecar, identity));
    sidecar->stats = stats_new(&self, STATS_SERIES_MAX, seed);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        struct worker *worker = &sidecar->workers[i].worker;
        worker->stats = stats_worker_new(sidecar->stats);
        worker->access = access_logs_new(worker->loop, worker->stats);
        worker_set_workload(worker, (struct slice){NULL, 0});
    }
}

static void open_admin(struct sidecar *sidecar)
{
    const struct bootstrap *bootstrap = sidecar->bootstrap;
    bool said = bootstrap != NULL && bootstrap->admin.family != ADDR_NONE;
    struct admin_parts parts = {.loop = sidecar->loop,
                                .workers = sidecar->worker_list,
                                .worker_count = sidecar->worker_count,
                                .stats = sidecar->stats,
                                .drain = &sidecar->terminate,
                                .admin = said ? bootstrap->admin : sidecar->options.admin,
                                .metrics = sidecar->options.metrics};
    sidecar->admin = admin_new(&parts);
}

/* ---- names ---- */

static void ask_resolver(void *resolver, struct resolve_query *query, const char *name,
                         enum resolve_families families)
{
    resolver_ask(resolver, query, name, families);
}

static bool start_names(struct sidecar *sidecar, uint64_t seed, struct error *err)
{
    sidecar->resolver = resolver_new(sidecar->loop, sidecar->options.dns_server, err);
    if (sidecar->resolver == NULL) {
        return error_wrap(err, "--dns-server");
    }
    struct names_options options = {.loop = sidecar->loop,
                                    .workers = sidecar->worker_list,
                                    .worker_count = sidecar->worker_count,
                                    .seed = seed,
                                    .ask = ask_resolver,
                                    .asker = sidecar->resolver};
    sidecar->names = names_new(&options);
    return true;
}

/* ---- with a control plane ---- */

/* "A=B" */
static bool split_pair(const char *text, const char *option, struct slice *left,
                       struct slice *right, struct error *err)
{
    *right = slice_of_text(text);
    *left = slice_cut(right, '=');
    return (left->len > 0 && right->len > 0) ||
           error_set(err, "--%s %s: expected A=B", option, text);
}

static bool parse_listen(const char *text, const char *option, struct slice at, struct addr *addr,
                         struct error *err)
{
    return (addr_parse(at, addr) && addr->port != 0) ||
           error_set(err, "--%s %s: %.*s is not IP:PORT", option, text, SLICE_ARG(at));
}

static bool inbound_place(const char *text, struct listener_place *place, struct error *err)
{
    struct slice at;
    struct slice app;
    place->direction = LISTENER_INBOUND;
    return split_pair(text, "inbound", &at, &app, err) &&
           parse_listen(text, "inbound", at, &place->at, err) &&
           parse_listen(text, "inbound", app, &place->app, err);
}

static bool outbound_place(struct sidecar *sidecar, const char *text, struct listener_place *place,
                           struct error *err)
{
    struct slice at;
    struct slice target;
    place->direction = LISTENER_OUTBOUND;
    if (!split_pair(text, "outbound", &at, &target, err) ||
        !parse_listen(text, "outbound", at, &place->at, err)) {
        return false;
    }
    place->tcp = slice_ends(target, SLICE("/tcp"));
    target.len -= place->tcp ? strlen("/tcp") : 0;
    size_t colon = target.len;
    while (colon > 0 && target.at[colon - 1] != ':') {
        colon--;
    }
    uint64_t port;
    if (colon < 2 ||
        !slice_to_u64(slice_of(target.at + colon, target.len - colon), UINT16_MAX, &port)) {
        return error_set(err, "--outbound %s: expected LISTEN=HOST:PORT[/tcp]", text);
    }
    const char *key = destination_key_of_host(&sidecar->arena, slice_of(target.at, colon - 1),
                                              (uint16_t)port, err);
    if (key == NULL) {
        return error_wrap(err, "--outbound %s", text);
    }
    place->key = slice_of_text(key);
    return true;
}

/* The sockets that redirected connections come to. The outbound one is never wider than loopback:
 * it would lend the pod's identity to whoever can reach it. */
static bool captured_places(struct sidecar *sidecar, struct error *err)
{
    const struct sidecar_options *options = &sidecar->options;
    char text[ADDR_TEXT_MAX];
    if (!addr_is_loopback(&options->outbound_port)) {
        return error_set(err, "--outbound-address %s: only loopback is allowed",
                         addr_format(&options->outbound_port, text));
    }
    uint16_t *refused = ARENA_ARRAY(&sidecar->arena, uint16_t, 3);
    refused[0] = options->admin.port;
    refused[1] = options->outbound_port.port;
    refused[2] = options->inbound_port.port;
    struct listener_place outbound = {.direction = LISTENER_OUTBOUND,
                                      .at = options->outbound_port,
                                      .captured = true,
                                      .network = slice_of_text(options->network)};
    struct listener_place inbound = {.direction = LISTENER_INBOUND,
                                     .at = options->inbound_port,
                                     .captured = true,
                                     .refused = refused,
                                     .refused_count = 3};
    struct addr v6 = {.family = ADDR_IPV6, .port = options->outbound_port.port};
    v6.ip[15] = 1;
    struct addr any6 = {.family = ADDR_IPV6, .port = options->inbound_port.port};
    sidecar->places = ARENA_ARRAY(&sidecar->arena, struct listener_place, 4);
    sidecar->places[sidecar->place_count++] = outbound;
    sidecar->places[sidecar->place_count++] = inbound;
    if (options->outbound_port.family == ADDR_IPV4) {
        outbound.at = v6;
        sidecar->places[sidecar->place_count++] = outbound;
    }
    const struct addr any4 = {.family = ADDR_IPV4, .port = options->inbound_port.port};
    if (addr_eq(&options->inbound_port, &any4)) {
        inbound.at = any6;
        sidecar->places[sidecar->place_count++] = inbound;
    }
    return true;
}

static bool make_places(struct sidecar *sidecar, struct error *err)
{
    const struct sidecar_options *options = &sidecar->options;
    if (options->capture == CAPTURE_NFT) {
        return captured_places(sidecar, err);
    }
    size_t count = options->inbound.count + options->outbound.count;
    sidecar->places = ARENA_ARRAY(&sidecar->arena, struct listener_place, count + 1);
    for (size_t i = 0; i < options->inbound.count; i++) {
        if (!inbound_place(options->inbound.items[i], &sidecar->places[sidecar->place_count++],
                           err)) {
            return false;
        }
    }
    for (size_t i = 0; i < options->outbound.count; i++) {
        if (!outbound_place(sidecar, options->outbound.items[i],
                            &sidecar->places[sidecar->place_count++], err)) {
            return false;
        }
    }
    return true;
}

static bool require(const char *value, const char *option, struct error *err)
{
    return (value != NULL && value[0] != '\0') ||
           error_set(err, "--control-address needs --%s", option);
}

/* "NS/NAME", both in the arena. */
static bool split_name(struct sidecar *sidecar, const char *text, const char *option,
                       const char **namespace, const char **name, struct error *err)
{
    struct slice right = slice_of_text(text);
    struct slice left = slice_cut(&right, '/');
    *namespace = arena_text(&sidecar->arena, left);
    *name = arena_text(&sidecar->arena, right);
    return (left.len > 0 && right.len > 0) ||
           error_set(err, "--%s %s: expected NS/NAME", option, text);
}

static bool make_place(struct sidecar *sidecar, struct error *err)
{
    struct control_place_options options = {
        .loop = sidecar->loop, .ask = ask_resolver, .asker = sidecar->resolver};
    sidecar->place = control_place_new(&options, sidecar->options.control_address, err);
    return sidecar->place != NULL;
}

static const char *own_address(struct sidecar *sidecar)
{
    char text[ADDR_TEXT_MAX];
    if (sidecar->options.address != NULL) {
        return sidecar->options.address;
    }
    for (size_t i = 0; i < sidecar->place_count; i++) {
        const struct listener_place *place = &sidecar->places[i];
        if (place->direction == LISTENER_INBOUND && !place->captured) {
            return arena_text(&sidecar->arena, slice_of_text(addr_format_ip(&place->at, text)));
        }
    }
    struct addr addr;
    return net_own_addr(&addr)
               ? arena_text(&sidecar->arena, slice_of_text(addr_format_ip(&addr, text)))
               : "127.0.0.1";
}

static bool make_identity(struct sidecar *sidecar, struct feed_node *node, uint64_t seed,
                          struct error *err)
{
    const struct sidecar_options *options = &sidecar->options;
    const char *account_namespace;
    struct identity_options identity = {.loop = sidecar->loop,
                                        .authority = options->control_address,
                                        .mesh_root = options->mesh_root,
                                        .token_file = options->token_file,
                                        .trust_domain = options->trust_domain,
                                        .workers = sidecar->worker_list,
                                        .worker_count = sidecar->worker_count,
                                        .changed = &sidecar->changed,
                                        .seed = seed};
    if (!split_name(sidecar, options->workload, "workload", &node->namespace, &node->name, err) ||
        !split_name(sidecar, options->service_account, "service-account", &account_namespace,
                    &node->account, err) ||
        !make_place(sidecar, err)) {
        return false;
    }
    identity.place = sidecar->place;
    identity.namespace = account_namespace;
    identity.account = node->account;
    sidecar->identity = identity_new(&identity, err);
    return sidecar->identity != NULL;
}

static bool start_feed(struct sidecar *sidecar, struct rng *rng, struct error *err)
{
    const struct sidecar_options *options = &sidecar->options;
    if (!require(options->mesh_root, "mesh-root", err) ||
        !require(options->token_file, "token-file", err) ||
        !require(options->workload, "workload", err) ||
        !require(options->service_account, "service-account", err) || !make_places(sidecar, err)) {
        return false;
    }
    unsigned label_count;
    struct feed_node node = {.address = own_address(sidecar),
                             .network = options->network,
                             .labels = given_labels(sidecar, &label_count),
                             .capture = options->capture == CAPTURE_NFT ? "nft" : "none"};
    if (!make_identity(sidecar, &node, rng_u64(rng), err)) {
        return false;
    }
    node.label_count = label_count;
    struct feed_options feed = {.loop = sidecar->loop,
                                .identity = sidecar->identity,
                                .registry = sidecar->registry,
                                .names = sidecar->names,
                                .workers = sidecar->worker_list,
                                .worker_count = sidecar->worker_count,
                                .node = feed_node_encode(&sidecar->arena, &node),
                                .message_max = (uint32_t)options->xds_max_message,
                                .seed = rng_u64(rng),
                                .stats = admin_get_stats(sidecar->admin),
                                .changed = &sidecar->changed};
    sidecar->feed = feed_new(&feed);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        struct destinations_options destinations = {.negative_us = options->negative_us,
                                                    .idle_us = options->idle_us,
                                                    .waiters_max = WAITERS_MAX,
                                                    .entries_max = ENTRIES_MAX,
                                                    .ask = feed_ask,
                                                    .asker = feed_asker(sidecar->feed, i)};
        struct worker *worker = sidecar->worker_list[i];
        worker->destinations = destinations_new(worker, &destinations);
    }
    return open_places(sidecar, err);
}

static bool read_static(struct sidecar *sidecar, struct error *err)
{
    const struct sidecar_options *options = &sidecar->options;
    if ((options->config == NULL) == (options->control_address == NULL)) {
        return error_set(err, "exactly one of --config and --control-address is needed");
    }
    if (options->config != NULL) {
        sidecar->bootstrap = read_bootstrap(options->config, err);
    }
    return options->config == NULL || sidecar->bootstrap != NULL;
}

bool sidecar_init(struct sidecar *sidecar, const struct sidecar_options *options, struct error *err)
{
    *sidecar = (struct sidecar){.options = *options,
                                .terminate.run = on_terminate,
                                .drain.run = on_drain,
                                .changed.run = on_changed,
                                .worker_count = (unsigned)options->workers};
    fill_settings(sidecar);
    arena_init(&sidecar->arena, NULL);
    if (!read_static(sidecar, err)) {
        return false;
    }
    struct rng rng;
    rng_seed_from_system(&rng);
    sidecar->loop = loop_new();
    sidecar->drain_timer.task = &sidecar->drain;
    sidecar->registry = shared_registry_new();
    sidecar->workers = NEW_ARRAY(struct worker_thread, sidecar->worker_count);
    sidecar->worker_list = NEW_ARRAY(struct worker *, sidecar->worker_count);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        struct worker_thread *at = &sidecar->workers[i];
        sidecar->worker_list[i] = &at->worker;
        at->drain.deliver = deliver_drain;
        at->stop.deliver = deliver_stop;
        worker_init(&at->worker, i, loop_new(), sidecar->registry, &sidecar->settings,
                    rng_u64(&rng));
        at->worker.siblings = sidecar->worker_list;
        at->worker.sibling_count = sidecar->worker_count;
    }
    start_counting(sidecar, rng_u64(&rng));
    open_admin(sidecar);
    if (!start_names(sidecar, rng_u64(&rng), err)) {
        return false;
    }
    bool applied =
        sidecar->bootstrap != NULL ? apply_bootstrap(sidecar, err) : start_feed(sidecar, &rng, err);
    if (applied) {
        admin_set_ready(sidecar->admin, sidecar_is_ready(sidecar));
    }
    return applied;
}

void sidecar_run(struct sidecar *sidecar)
{
    loop_on_signal(sidecar->loop, SIGTERM, &sidecar->terminate);
    loop_on_signal(sidecar->loop, SIGINT, &sidecar->terminate);
    for (unsigned i = 0; i < sidecar->worker_count; i++) {
        worker_start(&sidecar->workers[i].worker);
    }
    loop_run(sidecar->loop);
}

/* Each thread closes what its worker has. Mail that waits is delivered before the one that stops.
 */
static void end_workers(struct sidecar *sidecar)
{
    for (unsigned i = 0; i < sidecar->worker_count && sidecar->workers != NULL; i++) {
        struct worker_thread *at = &sidecar->workers[i];
        if (at->worker.started) {
            loop_send(at->worker.loop, &at->stop);
            worker_join(&at->worker);
        } else {
            loop_drain(at->worker.loop);
            worker_fini(&at->worker);
        }
    }
    /* Connections that one gave to another which had ended. */
    for (unsigned i = 0; i < sidecar->worker_count && sidecar->workers != NULL; i++) {
        loop_drain(sidecar->workers[i].worker.loop);
    }
}

void sidecar_fini(struct sidecar *sidecar)
{
    end_workers(sidecar);
    feed_free(&sidecar->feed);
    identity_free(&sidecar->identity);
    control_place_free(&sidecar->place);
    names_free(&sidecar->names);
    resolver_free(&sidecar->resolver);
    for (unsigned i = 0; i < sidecar->worker_count && sidecar->workers != NULL; i++) {
        access_logs_free(&sidecar->workers[i].worker.access);
        loop_free(&sidecar->workers[i].worker.loop);
    }
    admin_free(&sidecar->admin);
    for (unsigned i = 0; i < sidecar->worker_count && sidecar->workers != NULL; i++) {
        stats_worker_free(&sidecar->workers[i].worker.stats);
    }
    stats_free(&sidecar->stats);
    FREE(sidecar->workers);
    FREE(sidecar->worker_list);
    shared_registry_free(&sidecar->registry);
    if (sidecar->bootstrap != NULL) {
        snapshot_free(&sidecar->bootstrap->owner);
        sidecar->bootstrap = NULL;
    }
    loop_free(&sidecar->loop);
    arena_fini(&sidecar->arena);
}
