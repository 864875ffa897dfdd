/* The entries lie in one map by key. A miss of the key walks the covers of all that are known: that
 * happens once a connection, over what one pod calls, and needs no index that could go stale.
 *
 * A cluster may come in several answers (a service by address and by name); the directory has it as
 * long as one of them does. */
#include "sidecar/config/destinations.h"

#include "base/alloc.h"
#include "base/log.h"
#include "sidecar/config/destinations_choice.h"
#include "sidecar/config/parcel.h"
#include "sidecar/observe/stats.h"
#include "sidecar/worker.h"
#include "xds/destination_key.h"

/* A slice where the language wants a constant. */
#define TEXT(literal)                                                                              \
    {                                                                                              \
        (const uint8_t *)("" literal), sizeof(literal) - 1                                         \
    }

#define SECONDS          UINT64_C(1000000)
#define SILENT_ENOUGH    3
#define SERVER_FIRST_FOR (3600 * SECONDS)

/* What a service of ours needs beside it. */
struct own_service {
    struct service service;
    struct tcp_config tcp;
    struct tcp_target target;
    struct destinations *destinations; /* where other services are asked for */
    uint16_t port;                     /* of the key */
};

/* How many entries have a cluster. */
struct held {
    uint32_t count;
};

const char *destination_state_name(enum destination_state state)
{
    static const char *const names[] = {
#define X(value, meaning) [DESTINATION_##value] = #value,
        DESTINATION_STATES(X)
#undef X
    };
    CHECK((size_t)state < COUNT_OF(names));
    return names[state];
}

/* ---- counting ---- */

enum event {
#define X(value, label) EVENT_##value,
    DESTINATION_EVENTS(X)
#undef X
};

static void count(const struct destinations *destinations, enum event event)
{
    static const char *const labels[] = {
#define X(value, label) [EVENT_##value] = label,
        DESTINATION_EVENTS(X)
#undef X
    };
    stats_count_by(destinations->worker->stats, STAT_DESTINATIONS, event, labels[event]);
}

/* ---- what is fixed ---- */

static const struct upgrade_config websocket = {.type = TEXT("websocket"), .enabled = true};

/* No HttpConnectionManager comes with a Destination: these are the defaults of the mesh
 * (docs/behaviour.md), as the control plane writes them out for inbound. */
static const struct hcm_config outbound_http = {
    .stat_prefix = TEXT("outbound"),
    .upgrades = &websocket,
    .upgrade_count = 1,
    .stream_idle_us = 300 * SECONDS,
    .request_headers_timeout_us = 10 * SECONDS,
    .idle_us = 3600 * SECONDS,
    .max_head_bytes = 60 * 1024,
    .max_head_count = 100,
    .max_streams = 100,
    .sampling_ppm = UINT32_MAX,
    .xfcc = XFCC_SANITIZE,
    .server_header = SERVER_HEADER_PASS,
    .generate_request_id = true,
    .accept_http_10 = true,
    .trailers = true,
};

/* The way out of the mesh: to the address that the client meant. */
static const struct cluster_config passthrough = {
    .name = TEXT("PassthroughCluster"),
    .stat_name = TEXT("PassthroughCluster"),
    .type = CLUSTER_ORIGINAL_DST,
    .lb = LB_ORIGINAL_DST,
    .protocol = CLUSTER_PROTOCOL_DOWNSTREAM,
    .connect_timeout_us = 5 * SECONDS,
    .cleanup_us = 60 * SECONDS,
    .max_streams = 100,
    .limits = {{.connections = UINT32_MAX,
                .pending = UINT32_MAX,
                .requests = UINT32_MAX,
                .retries = UINT32_MAX},
               {.connections = UINT32_MAX,
                .pending = UINT32_MAX,
                .requests = UINT32_MAX,
                .retries = UINT32_MAX}},
    .host_connections = UINT32_MAX,
};

/* ---- services ---- */

static void free_service(struct service *service)
{
    struct own_service *own = CONTAINER_OF(service, struct own_service, service);
    service_fini(service);
    mem_free(own);
}

static struct own_service *new_service(struct slice name, struct parcel *pin)
{
    struct own_service *own = NEW(struct own_service);
    own->service = (struct service){.references = 1,
                                    .refusal = FAIL_NONE,
                                    .direction = LISTENER_OUTBOUND,
                                    .name = name,
                                    .pin = pin != NULL ? parcel_ref(pin) : NULL,
                                    .free = free_service};
    return own;
}

static struct service *refusing_service(enum fail refusal)
{
    struct own_service *own = new_service(SLICE("unknown"), NULL);
    own->service.http = &outbound_http;
    own->service.refusal = refusal;
    return &own->service;
}

static struct service_choice *choose(struct service *service,
                                     const struct service_question *question)
{
    struct own_service *own = CONTAINER_OF(service, struct own_service, service);
    return destinations_choose(own->destinations, service, own->port, question);
}

/* One among several under its address. */
static void share(struct destinations *destinations, const struct destination *config,
                  struct own_service *own)
{
    struct destination_key key;
    if (config->by_authority && destination_key_parse(config->key, &key, NULL)) {
        own->destinations = destinations;
        own->port = key.port;
        own->service.choose = choose;
    }
}

static struct service *http_service(struct destinations *destinations,
                                    const struct destination *config, struct parcel *pin)
{
    if (config->outcome == DESTINATION_BLOCK) {
        return refusing_service(FAIL_BLOCKED);
    }
    if (config->routes == NULL && !config->by_authority) {
        return refusing_service(FAIL_NO_CONFIG);
    }
    struct own_service *own = new_service(config->name, pin);
    own->service.http = &outbound_http;
    if (config->routes != NULL) {
        binding_init(&own->service.binding, config->routes, rng_u64(&destinations->worker->rng));
    }
    share(destinations, config, own);
    return &own->service;
}

static struct service *tcp_service(struct destinations *destinations,
                                   const struct destination *config, const struct tcp_config *tcp,
                                   struct parcel *pin)
{
    struct own_service *own = new_service(config->name, pin);
    service_set_tcp(&own->service, tcp, &destinations->worker->rng);
    return &own->service;
}

static struct service *cluster_service(struct destinations *destinations,
                                       const struct destination *config,
                                       const struct cluster_config *to, struct parcel *pin)
{
    struct own_service *own = new_service(config->name, pin);
    own->target = (struct tcp_target){.cluster = to->name, .weight = 1};
    /* Where the address is the only one there is, its client learns at once that it is dead. */
    own->tcp = (struct tcp_config){.stat_prefix = to->name,
                                   .targets = &own->target,
                                   .target_count = 1,
                                   .max_attempts = to == &passthrough ? 1 : 0,
                                   .idle_us = 3600 * SECONDS};
    service_set_tcp(&own->service, &own->tcp, &destinations->worker->rng);
    return &own->service;
}

/* Null: bytes have no way there. */
static struct service *opaque_service(struct destinations *destinations,
                                      const struct destination *config, struct parcel *pin)
{
    if (config->outcome == DESTINATION_BLOCK) {
        return NULL;
    }
    if (config->outcome == DESTINATION_PASSTHROUGH) {
        return cluster_service(destinations, config, &passthrough, pin);
    }
    for (unsigned i = 0; i < config->tcp_route_count; i++) {
        if (config->tcp_routes[i].sni_host_count == 0) {
            return tcp_service(destinations, config, &config->tcp_routes[i].tcp, pin);
        }
    }
    return config->default_cluster != NULL
               ? cluster_service(destinations, config, config->default_cluster, pin)
               : NULL;
}

/* ---- by the name in a ClientHello ---- */

static struct service **sni_services(struct destinations *destinations,
                                     const struct destination *config, struct parcel *pin)
{
    struct service **list = NEW_ARRAY(struct service *, config->tcp_route_count);
    for (unsigned i = 0; i < config->tcp_route_count; i++) {
        if (config->tcp_routes[i].sni_host_count > 0) {
            list[i] = tcp_service(destinations, config, &config->tcp_routes[i].tcp, pin);
        }
    }
    return list;
}

static void drop_sni_services(struct destination_entry *entry)
{
    for (unsigned i = 0; entry->by_sni != NULL && i < entry->config->tcp_route_count; i++) {
        service_unref(&entry->by_sni[i]);
    }
    FREE(entry->by_sni);
}

/* As Istio's hosts: "*.suffix" is any name below the suffix. */
static bool names_host(struct slice pattern, struct slice sni)
{
    if (pattern.len > 0 && pattern.at[0] == '*') {
        struct slice suffix = slice_from(pattern, 1);
        return sni.len > suffix.len &&
               slice_eq_nocase(slice_from(sni, sni.len - suffix.len), suffix);
    }
    return slice_eq_nocase(pattern, sni);
}

static bool takes_sni(const struct tcp_route *route, struct slice sni)
{
    for (unsigned i = 0; i < route->sni_host_count; i++) {
        if (names_host(route->sni_hosts[i], sni)) {
            return true;
        }
    }
    return false;
}

struct service *destination_find_sni(const struct destination_entry *entry, struct slice sni)
{
    for (unsigned i = 0; entry->by_sni != NULL && i < entry->config->tcp_route_count; i++) {
        if (entry->by_sni[i] != NULL && takes_sni(&entry->config->tcp_routes[i], sni)) {
            return entry->by_sni[i];
        }
    }
    return NULL;
}

bool destination_asks_sni(const struct destination_entry *entry)
{
    for (unsigned i = 0; entry->by_sni != NULL && i < entry->config->tcp_route_count; i++) {
        if (entry->by_sni[i] != NULL) {
            return true;
        }
    }
    return false;
}

/* Both are taken; `opaque` may be null. */
static void set_services(struct destinations *destinations, struct destination_entry *entry,
                         struct service *http, struct service *opaque)
{
    uint64_t draw = rng_u64(&destinations->worker->rng);
    if (entry->http_line == NULL) {
        entry->http_line = service_line_new();
        entry->plain_line = service_line_new();
    }
    entry->http = http;
    service_line_put_take(entry->http_line, &http, draw);
    entry->opaque = opaque;
    service_line_put_take(entry->plain_line, &opaque, draw);
}

/* ---- clusters ---- */

static void hold_clusters(struct destinations *destinations, const struct destination *config)
{
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        struct held *held = map_get(&destinations->held, config->clusters[i].name);
        if (held == NULL) {
            held = NEW(struct held);
            (void)map_set(&destinations->held, config->clusters[i].name, held);
        }
        held->count++;
    }
}

static void release_clusters(struct destinations *destinations, const struct destination *config)
{
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        struct slice name = config->clusters[i].name;
        struct held *held = map_get(&destinations->held, name);
        CHECK(held != NULL && held->count > 0);
        if (--held->count == 0) {
            directory_remove(&destinations->worker->clusters, name);
            (void)map_remove(&destinations->held, name);
            mem_free(held);
        }
    }
}

static void apply_clusters(struct destinations *destinations, const struct destination *config,
                           struct parcel *pin)
{
    struct worker *worker = destinations->worker;
    uint64_t now_us = worker->loop->now_us;
    hold_clusters(destinations, config);
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        directory_put(&worker->clusters, &config->clusters[i], pin, now_us, rng_u64(&worker->rng));
    }
    for (uint32_t i = 0; i < config->first_endpoint_count; i++) {
        directory_put_first_endpoints(&worker->clusters, &config->first_endpoints[i], now_us);
    }
    worker_clusters_changed(worker);
}

/* ---- forgetting ---- */

static uint64_t now_of(const struct destinations *destinations)
{
    return destinations->worker->loop->now_us;
}

static void arm(struct destinations *destinations, uint64_t at_us)
{
    if (destinations->timer.at_us == 0 || at_us < destinations->timer.at_us) {
        timer_set(destinations->worker->loop, &destinations->timer, at_us);
    }
}

static void forget_at(struct destinations *destinations, struct destination_entry *entry,
                      uint64_t at_us)
{
    entry->forget_us = at_us;
    arm(destinations, at_us);
}

static void drop_config(struct destinations *destinations, struct destination_entry *entry)
{
    if (entry->config != NULL) {
        drop_sni_services(entry);
        release_clusters(destinations, entry->config);
        entry->config = NULL;
        parcel_unref(&entry->pin);
    }
}

static void free_entry(struct destinations *destinations, struct destination_entry *entry)
{
    struct service *none = NULL;
    CHECK(list_empty(&entry->waiters) && entry->holders == 0);
    if (entry->http_line != NULL) {
        service_line_put_take(entry->http_line, &none, 0);
        service_line_put_take(entry->plain_line, &none, 0);
        service_line_unref(&entry->http_line);
        service_line_unref(&entry->plain_line);
    }
    drop_config(destinations, entry);
    mem_free(entry);
}

/* Connections, requests or older versions with such refer to a line beside ours. */
static bool line_in_use(const struct service_line *line)
{
    uint32_t own = line->newest != NULL ? 2 : 1;
    return line->references > own || (line->newest != NULL && line->newest->references > 1);
}

static bool in_use(const struct destination_entry *entry)
{
    for (unsigned i = 0; entry->by_sni != NULL && i < entry->config->tcp_route_count; i++) {
        if (entry->by_sni[i] != NULL && entry->by_sni[i]->references > 1) {
            return true;
        }
    }
    return entry->http_line != NULL &&
           (line_in_use(entry->http_line) || line_in_use(entry->plain_line));
}

static uint64_t idle_of(const struct destinations *destinations,
                        const struct destination_entry *entry)
{
    uint64_t own_us = entry->config->idle_us;
    return own_us != 0 && own_us < destinations->options.idle_us ? own_us
                                                                 : destinations->options.idle_us;
}

/* False: it was forgotten. */
static bool keep(struct destinations *destinations, struct destination_entry *entry)
{
    uint64_t now_us = now_of(destinations);
    if (entry->forget_us == 0 || now_us < entry->forget_us) {
        return true;
    }
    if (entry->holders > 0) {
        entry->forget_us = now_us + SECONDS;
        return true;
    }
    if (entry->state == DESTINATION_KNOWN) {
        uint64_t idle_us = idle_of(destinations, entry);
        if (in_use(entry)) {
            entry->used_us = now_us;
        }
        if (now_us - entry->used_us < idle_us || MUTANT(35)) {
            entry->forget_us = entry->used_us + idle_us;
            return true;
        }
    }
    (void)map_remove(&destinations->entries, entry->key);
    destinations->options.ask(destinations->options.asker, entry->key, false);
    count(destinations, EVENT_EVICTED);
    free_entry(destinations, entry);
    return false;
}

static void run_sweep(struct task *task)
{
    struct destinations *destinations = CONTAINER_OF(task, struct destinations, sweep);
    uint64_t next_us = UINT64_MAX;
    timer_clear(&destinations->timer);
    MAP_EACH(&destinations->entries, at)
    {
        struct destination_entry *entry = at->value;
        if (keep(destinations, entry) && entry->forget_us != 0 && entry->forget_us < next_us) {
            next_us = entry->forget_us;
        }
    }
    if (next_us != UINT64_MAX) {
        arm(destinations, next_us);
    }
}

/* ---- looking ---- */

struct destinations *destinations_new(struct worker *worker,
                                      const struct destinations_options *options)
{
    struct destinations *destinations = NEW(struct destinations);
    destinations->worker = worker;
    destinations->options = *options;
    map_init(&destinations->entries, rng_u64(&worker->rng), MAP_KEYS_BORROWED);
    map_init(&destinations->held, rng_u64(&worker->rng), MAP_KEYS_COPIED);
    destinations->sweep.run = run_sweep;
    destinations->timer.task = &destinations->sweep;
    destinations->refusing = refusing_service(FAIL_NO_CONFIG);
    directory_put(&worker->clusters, &passthrough, NULL, worker->loop->now_us, 0);
    return destinations;
}

void destinations_free(struct destinations **destinations)
{
    struct destinations *it = *destinations;
    *destinations = NULL;
    if (it == NULL) {
        return;
    }
    MAP_EACH(&it->entries, at)
    {
        free_entry(it, at->value);
    }
    map_fini(&it->entries);
    CHECK(map_count(&it->held) == 0);
    map_fini(&it->held);
    service_unref(&it->refusing);
    timer_clear(&it->timer);
    task_cancel(&it->sweep);
    mem_free(it);
}

/* Bits of the narrowest prefix of the entry that the address lies in; -1: none. */
static int covered(const struct destination_entry *entry, const struct addr *addr)
{
    int bits = -1;
    for (uint32_t i = 0; entry->config != NULL && i < entry->config->cover_count; i++) {
        const struct destination_cover *cover = &entry->config->covers[i];
        if (addr->port >= cover->port_lo && addr->port <= cover->port_hi &&
            addr_in_prefix(addr, &cover->prefix.addr, cover->prefix.prefix_len) &&
            cover->prefix.prefix_len > bits) {
            bits = cover->prefix.prefix_len;
        }
    }
    return bits;
}

static struct destination_entry *find_cover(const struct destinations *destinations,
                                            const struct addr *addr)
{
    struct destination_entry *best = NULL;
    int best_bits = -1;
    MAP_EACH(&destinations->entries, at)
    {
        int bits = covered(at->value, addr);
        if (bits > best_bits) {
            best = at->value;
            best_bits = bits;
        }
    }
    return best;
}

static struct destination_entry *ask(struct destinations *destinations, struct slice key)
{
    if (map_count(&destinations->entries) >= destinations->options.entries_max) {
        log_limited(LOG_LEVEL_WARNING, "too many destinations are known", LOG_SLICE("key", key));
        return NULL;
    }
    struct destination_entry *entry = mem_new(sizeof(*entry) + key.len);
    *entry = (struct destination_entry){.key = slice_of((uint8_t *)entry->text, key.len),
                                        .state = DESTINATION_ASKED};
    memcpy(entry->text, key.at, key.len);
    list_init(&entry->waiters);
    (void)map_set(&destinations->entries, entry->key, entry);
    destinations->options.ask(destinations->options.asker, entry->key, true);
    count(destinations, EVENT_ASKED);
    return entry;
}

struct destination_entry *destinations_get(struct destinations *destinations, struct slice key,
                                           const struct addr *addr)
{
    struct destination_entry *entry = map_get(&destinations->entries, key);
    if (entry == NULL && addr != NULL) {
        entry = find_cover(destinations, addr);
    }
    if (entry == NULL) {
        entry = ask(destinations, key);
    }
    if (entry != NULL) {
        entry->used_us = now_of(destinations);
    }
    return entry;
}

bool destinations_wait(struct destinations *destinations, struct destination_entry *entry,
                       struct destination_waiter *waiter)
{
    CHECK(entry->state == DESTINATION_ASKED);
    if (destinations->waiter_count >= destinations->options.waiters_max) {
        return false;
    }
    if (!list_empty(&entry->waiters)) {
        count(destinations, EVENT_COALESCED);
    }
    destinations->waiter_count++;
    list_append(&entry->waiters, &waiter->link);
    return true;
}

void destinations_time_out(struct destinations *destinations, struct destination_waiter *waiter)
{
    count(destinations, EVENT_TIMED_OUT);
    destinations_leave(destinations, waiter);
}

void destinations_leave(struct destinations *destinations, struct destination_waiter *waiter)
{
    if (list_linked(&waiter->link)) {
        CHECK(destinations->waiter_count > 0);
        destinations->waiter_count--;
        list_remove(&waiter->link);
    }
}

static void wake(struct destinations *destinations, struct destination_entry *entry)
{
    LIST_EACH(&entry->waiters, node)
    {
        struct destination_waiter *waiter = LIST_ITEM(node, struct destination_waiter, link);
        destinations_leave(destinations, waiter);
        loop_post(destinations->worker->loop, waiter->task);
    }
}

void destination_hold(struct destination_entry *entry)
{
    entry->holders++;
}

void destination_release(struct destination_entry **entry)
{
    CHECK((*entry)->holders > 0);
    (*entry)->holders--;
    *entry = NULL;
}

struct service *destinations_refusal(struct destinations *destinations,
                                     struct destination_entry *entry)
{
    if (entry->http == NULL) {
        set_services(destinations, entry, refusing_service(FAIL_NO_CONFIG), NULL);
    }
    return entry->http;
}

/* ---- answers ---- */

void destinations_put(struct destinations *destinations, const struct destination *config,
                      struct parcel *pin)
{
    struct destination_entry *entry = map_get(&destinations->entries, config->key);
    if (entry == NULL) {
        return; /* forgotten meanwhile */
    }
    const struct destination *old = entry->config;
    struct parcel *old_pin = entry->pin;
    apply_clusters(destinations, config, pin);
    set_services(destinations, entry, http_service(destinations, config, pin),
                 opaque_service(destinations, config, pin));
    drop_sni_services(entry);
    entry->by_sni = sni_services(destinations, config, pin);
    if (old != NULL) {
        release_clusters(destinations, old);
        parcel_unref(&old_pin);
    } else {
        entry->used_us = now_of(destinations);
    }
    if (entry->state == DESTINATION_ASKED) {
        count(destinations, EVENT_ANSWERED);
    }
    entry->config = config;
    entry->pin = pin != NULL ? parcel_ref(pin) : NULL;
    entry->state = DESTINATION_KNOWN;
    forget_at(destinations, entry, entry->used_us + idle_of(destinations, entry));
    wake(destinations, entry);
}

static void put_negative(struct destinations *destinations, struct destination_entry *entry,
                         enum destination_state state)
{
    drop_config(destinations, entry);
    set_services(destinations, entry, refusing_service(FAIL_NO_CONFIG), NULL);
    entry->state = state;
    count(destinations, state == DESTINATION_UNKNOWN ? EVENT_NEGATIVE : EVENT_REFUSED);
    forget_at(destinations, entry, now_of(destinations) + destinations->options.negative_us);
    wake(destinations, entry);
}

void destinations_put_unknown(struct destinations *destinations, struct slice key)
{
    struct destination_entry *entry = map_get(&destinations->entries, key);
    if (entry != NULL) {
        put_negative(destinations, entry, DESTINATION_UNKNOWN);
    }
}

void destinations_put_refused(struct destinations *destinations, struct slice key)
{
    struct destination_entry *entry = map_get(&destinations->entries, key);
    if (entry != NULL && entry->state != DESTINATION_KNOWN) {
        put_negative(destinations, entry, DESTINATION_REFUSED);
    }
}

/* ---- habits ---- */

void destination_note_silent(struct destination_entry *entry, uint64_t now_us)
{
    struct destination_habit *habit = &entry->habit;
    if (!habit->http_seen && ++habit->silent >= SILENT_ENOUGH) {
        habit->skip_by_us = now_us + SERVER_FIRST_FOR;
    }
}

void destination_note_http(struct destination_entry *entry)
{
    entry->habit = (struct destination_habit){.http_seen = true};
}

bool destination_skips_hold(const struct destination_entry *entry, uint64_t now_us)
{
    return now_us < entry->habit.skip_by_us;
}
