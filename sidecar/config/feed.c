/* Who wants a destination is kept as a set of bits, one a worker: an answer goes to those only, and
 * the last one to let go ends the subscription. Endpoints of a held destination's clusters are
 * subscribed to by themselves (EDS), so that their comings and goings do not send the destination
 * again; each answer of EDS goes to all workers, which drop what they have no cluster for.
 *
 * Routes that a destination names instead of having them (RDS) are subscribed to the same way. They
 * are compiled into it, so that a worker gets both as one thing and nothing below knows of it.
 */
#include "sidecar/config/feed.h"

#include <string.h>

#include "envoy/config/core/v3/core.pb-c.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/map.h"
#include "base/version.h"
#include "http/grpc.h"
#include "http/grpc_client.h"
#include "sidecar/accept/listener.h"
#include "sidecar/config/compile.h"
#include "sidecar/config/delivery.h"
#include "sidecar/config/destinations.h"
#include "sidecar/config/identity.h"
#include "sidecar/config/names.h"
#include "sidecar/config/parcel.h"
#include "sidecar/observe/stats.h"
#include "sidecar/worker.h"
#include "xds/ads_client.h"
#include "xds/decode.h"

#define DELTA_STREAM                                                                               \
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
#define INBOUND_LISTENER "virtualInbound"
#define SWEEP_US         UINT64_C(60000000)

struct feed_asker {
    struct feed *feed;
    unsigned index;
};

/* A destination that a worker wants. */
struct record {
    enum destination_state state;
    uint64_t wanted_by;               /* a bit a worker */
    struct published *published;      /* KNOWN */
    const struct destination *config; /* KNOWN */
    struct slice rds;                 /* the routes that it names; empty: it has its own. Heap */
    struct slice body; /* with `rds`: the newest, to be compiled with each version of them. Heap */
};

/* Routes that a destination names (RDS). */
struct table {
    uint32_t users;
    struct slice body; /* the newest that fitted; empty: no answer yet. Heap */
};

/* Endpoints that a held destination needs. */
struct endpoints {
    uint32_t users;              /* clusters of destinations */
    struct published *published; /* null: no answer yet */
    const struct endpoint_set *set;
};

struct feed {
    struct feed_options options;
    struct ads_client *ads;
    struct grpc_client *client; /* null: not connected */
    struct grpc_call *call;
    struct arena unsent_arena; /* of `unsent` */
    struct slice unsent;       /* a request that found no room; empty: none */
    struct task task;
    struct timer timer;
    struct map records;   /* key -> struct record */
    struct map endpoints; /* service name -> struct endpoints */
    struct map tables;    /* name of routes -> struct table */
    struct published *listener;
    const struct listener_config *listener_config;
    struct feed_asker askers[FEED_WORKERS_MAX];
    uint64_t sweep_at_us;
    bool clusters_seen; /* the first answer of CDS came */
    bool ready;
    bool heard; /* this stream has brought something */
    bool ended; /* the workers are gone */
};

static const struct slice no_name = {NULL, 0};

static void deliver_to_all(struct feed *feed, enum delivery_kind kind, struct published *published,
                           const void *config, struct slice name)
{
    for (unsigned i = 0; i < feed->options.worker_count; i++) {
        delivery_send(feed->options.workers[i], kind, published, config, name);
    }
}

/* ---- endpoints ---- */

static uint64_t now_ms(const struct feed *feed)
{
    return feed->options.loop->now_us / 1000;
}

static struct slice service_of(const struct cluster_config *cluster)
{
    return cluster->service_name.len > 0 ? cluster->service_name : cluster->name;
}

static void want_endpoints(struct feed *feed, const struct destination *config)
{
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        struct slice name = service_of(&config->clusters[i]);
        if (config->clusters[i].type != CLUSTER_EDS) {
            continue;
        }
        struct endpoints *endpoints = map_get(&feed->endpoints, name);
        if (endpoints == NULL) {
            endpoints = NEW(struct endpoints);
            (void)map_set(&feed->endpoints, name, endpoints);
            ads_client_want(feed->ads, XDS_RESOURCE_ENDPOINTS, name, now_ms(feed));
        }
        endpoints->users++;
    }
}

static void leave_endpoints(struct feed *feed, const struct destination *config)
{
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        struct slice name = service_of(&config->clusters[i]);
        if (config->clusters[i].type != CLUSTER_EDS) {
            continue;
        }
        struct endpoints *endpoints = map_get(&feed->endpoints, name);
        CHECK(endpoints != NULL && endpoints->users > 0);
        if (--endpoints->users == 0) {
            ads_client_unwant(feed->ads, XDS_RESOURCE_ENDPOINTS, name);
            (void)map_remove(&feed->endpoints, name);
            published_unref(&endpoints->published);
            mem_free(endpoints);
        }
    }
}

/* What EDS has said already of a destination's clusters, for a worker that is new to it. */
static void send_endpoints(struct feed *feed, struct worker *worker,
                           const struct destination *config)
{
    names_send(feed->options.names, worker, config);
    for (uint32_t i = 0; i < config->cluster_count; i++) {
        const struct endpoints *endpoints =
            map_get(&feed->endpoints, service_of(&config->clusters[i]));
        if (endpoints != NULL && endpoints->published != NULL) {
            delivery_send(worker, DELIVERY_ENDPOINTS, endpoints->published, endpoints->set,
                          no_name);
        }
    }
}

/* ---- destinations ---- */

static void send_record(struct feed *feed, const struct record *record, struct slice key,
                        unsigned index)
{
    struct worker *worker = feed->options.workers[index];
    switch (record->state) {
    case DESTINATION_ASKED:
        return;
    case DESTINATION_KNOWN:
        delivery_send(worker, DELIVERY_DESTINATION, record->published, record->config, no_name);
        send_endpoints(feed, worker, record->config);
        return;
    case DESTINATION_UNKNOWN:
        delivery_send(worker, DELIVERY_UNKNOWN, NULL, NULL, key);
        return;
    case DESTINATION_REFUSED:
        delivery_send(worker, DELIVERY_REFUSED, NULL, NULL, key);
        return;
    }
}

static void send_to_wanting(struct feed *feed, const struct record *record, struct slice key)
{
    for (unsigned i = 0; i < feed->options.worker_count; i++) {
        if ((record->wanted_by >> i & 1) != 0 && !(MUTANT(37) && i > 0)) {
            send_record(feed, record, key, i);
        }
    }
}

static void drop_config(struct feed *feed, struct record *record)
{
    if (record->config != NULL) {
        leave_endpoints(feed, record->config);
        names_release(feed->options.names, record->config);
        record->config = NULL;
        published_unref(&record->published);
    }
}

static void put_destination(struct feed *feed, struct record *record, struct slice key,
                            const struct destination *config, struct snapshot **snapshot)
{
    struct published *published = published_new_take(feed->options.loop, snapshot);
    want_endpoints(feed, config);
    names_hold(feed->options.names, config, published);
    drop_config(feed, record);
    record->published = published;
    record->config = config;
    record->state = DESTINATION_KNOWN;
    send_to_wanting(feed, record, key);
}

static void put_negative(struct feed *feed, struct slice key, enum destination_state state)
{
    struct record *record = map_get(&feed->records, key);
    bool serves_on = state == DESTINATION_REFUSED && !MUTANT(36);
    if (record == NULL || (serves_on && record->state == DESTINATION_KNOWN)) {
        return;
    }
    drop_config(feed, record);
    record->state = state;
    send_to_wanting(feed, record, key);
}

/* ---- routes by name ---- */

static void set_copy(struct slice *kept, struct slice bytes)
{
    void *old = (void *)(uintptr_t)kept->at;
    *kept = bytes.len > 0 ? slice_of((uint8_t *)mem_dup(bytes.at, bytes.len), bytes.len) : no_name;
    mem_free(old);
}

static void drop_routes(struct feed *feed, struct record *record)
{
    if (record->rds.len > 0) {
        struct table *table = map_get(&feed->tables, record->rds);
        CHECK(table != NULL && table->users > 0);
        if (--table->users == 0) {
            ads_client_unwant(feed->ads, XDS_RESOURCE_ROUTES, record->rds);
            (void)map_remove(&feed->tables, record->rds);
            set_copy(&table->body, no_name);
            mem_free(table);
        }
    }
    set_copy(&record->rds, no_name);
    set_copy(&record->body, no_name);
}

/* Subscribes to the routes that the body names, and keeps it for them; empty: it names none. */
static void name_routes(struct feed *feed, struct record *record, struct slice rds,
                        struct slice body)
{
    struct record before = *record;
    record->rds = no_name;
    record->body = no_name;
    if (rds.len > 0) {
        struct table *table = map_get(&feed->tables, rds);
        if (table == NULL) {
            table = NEW(struct table);
            (void)map_set(&feed->tables, rds, table);
            ads_client_want(feed->ads, XDS_RESOURCE_ROUTES, rds, now_ms(feed));
        }
        table->users++;
        set_copy(&record->rds, rds);
        set_copy(&record->body, body);
    }
    drop_routes(feed, &before);
}

static bool compile_with(struct slice key, struct slice body, struct slice routes,
                         struct compiled *compiled, struct error *err)
{
    struct compile_options options = {.routes = routes};
    return compile_resource(XDS_RESOURCE_DESTINATION, key, body, &options, compiled, err);
}

/* The two are one configuration: both change in one stroke, or neither. */
static bool put_with_routes(struct feed *feed, struct record *record, struct slice key,
                            struct slice routes, struct error *err)
{
    struct compiled compiled;
    if (!compile_with(key, record->body, routes, &compiled, err)) {
        return false;
    }
    put_destination(feed, record, key, compiled.destination, &compiled.owner);
    return true;
}

/* What a destination says now. Where its routes are not here, or do not fit it yet (they are on
 * their way, as a server sends them last), what was there before serves on. */
static bool take_body(struct feed *feed, struct record *record, struct slice key, struct slice body,
                      struct error *err)
{
    struct compiled compiled;
    if (!compile_with(key, body, no_name, &compiled, err)) {
        put_negative(feed, key, DESTINATION_REFUSED);
        return false;
    }
    name_routes(feed, record, compiled.destination->rds, body);
    if (record->rds.len == 0) {
        put_destination(feed, record, key, compiled.destination, &compiled.owner);
        return true;
    }
    compiled_free(&compiled);
    const struct table *table = map_get(&feed->tables, record->rds);
    struct error reason = {.text = ""};
    if (table->body.len > 0 && !put_with_routes(feed, record, key, table->body, &reason)) {
        log_warning("a destination waits for other routes", LOG_SLICE("key", key),
                    LOG_CAUSE(&reason));
    }
    return true;
}

static void take_unknown(struct feed *feed, struct slice key)
{
    struct record *record = map_get(&feed->records, key);
    if (record != NULL) {
        drop_routes(feed, record);
        put_negative(feed, key, DESTINATION_UNKNOWN);
    }
}

static bool take_routes(struct feed *feed, const struct ads_update *update, struct error *err)
{
    struct table *table = map_get(&feed->tables, update->name);
    bool good = true;
    if (table == NULL) {
        return true;
    }
    MAP_EACH(&feed->records, entry)
    {
        struct record *record = entry->value;
        if (slice_eq(record->rds, update->name) &&
            !put_with_routes(feed, record, entry->key, update->body, err)) {
            put_negative(feed, entry->key, DESTINATION_REFUSED);
            good = false;
        }
    }
    if (good) {
        set_copy(&table->body, update->body);
    }
    return good;
}

/* ---- what workers ask ---- */

struct question {
    struct mail mail;
    struct feed *feed;
    unsigned index;
    bool want;
    struct slice key;
    char text[];
};

static void take_want(struct feed *feed, struct slice key, unsigned index)
{
    struct record *record = map_get(&feed->records, key);
    if (record == NULL) {
        record = NEW(struct record);
        record->state = DESTINATION_ASKED;
        (void)map_set(&feed->records, key, record);
        ads_client_want(feed->ads, XDS_RESOURCE_DESTINATION, key, now_ms(feed));
    }
    record->wanted_by |= UINT64_C(1) << index;
    send_record(feed, record, key, index);
}

static void take_leave(struct feed *feed, struct slice key, unsigned index)
{
    struct record *record = map_get(&feed->records, key);
    if (record == NULL) {
        return;
    }
    record->wanted_by &= ~(UINT64_C(1) << index);
    if (record->wanted_by == 0) {
        ads_client_unwant(feed->ads, XDS_RESOURCE_DESTINATION, key);
        (void)map_remove(&feed->records, key);
        drop_config(feed, record);
        drop_routes(feed, record);
        mem_free(record);
    }
}

static void take_question(struct mail *mail, struct loop *loop)
{
    struct question *question = CONTAINER_OF(mail, struct question, mail);
    struct feed *feed = question->feed;
    if (feed->ended) {
        mem_free(question);
        return;
    }
    if (question->want) {
        take_want(feed, question->key, question->index);
    } else {
        take_leave(feed, question->key, question->index);
    }
    loop_post(loop, &feed->task);
    mem_free(question);
}

void *feed_asker(struct feed *feed, unsigned index)
{
    CHECK(index < feed->options.worker_count);
    return &feed->askers[index];
}

void feed_ask(void *asker, struct slice key, bool want)
{
    const struct feed_asker *from = asker;
    struct question *question = mem_new(sizeof(*question) + key.len);
    *question = (struct question){.mail.deliver = take_question,
                                  .feed = from->feed,
                                  .index = from->index,
                                  .want = want,
                                  .key = slice_of((uint8_t *)question->text, key.len)};
    memcpy(question->text, key.at, key.len);
    loop_send(from->feed->options.loop, &question->mail);
}

/* ---- what the control plane says ---- */

static void publish_listener(struct feed *feed)
{
    if (feed->listener == NULL || !feed->clusters_seen) {
        return;
    }
    deliver_to_all(feed, DELIVERY_LISTENER, feed->listener, feed->listener_config, no_name);
    if (!feed->ready) {
        feed->ready = true;
        if (feed->options.changed != NULL) {
            loop_post(feed->options.loop, feed->options.changed);
        }
    }
}

/* Under its name, and under those of its other names that nothing answered yet. */
static bool take_destination(struct feed *feed, const struct ads_update *update, struct error *err)
{
    bool good = true;
    for (size_t i = 0; i <= update->alias_count; i++) {
        struct slice key = i == 0 ? update->name : update->aliases[i - 1];
        struct record *record = map_get(&feed->records, key);
        if (record == NULL || (i > 0 && record->state != DESTINATION_ASKED)) {
            continue;
        }
        good = take_body(feed, record, key, update->body, err) && good;
    }
    return good;
}

static bool take_put(struct feed *feed, const struct ads_update *update, struct error *err)
{
    struct compiled compiled;
    if (update->type == XDS_RESOURCE_DESTINATION) {
        return take_destination(feed, update, err);
    }
    if (!compile_resource(update->type, update->name, update->body, NULL, &compiled, err)) {
        return false;
    }
    struct published *published = published_new_take(feed->options.loop, &compiled.owner);
    bool good = true;
    if (compiled.cluster != NULL) {
        feed->clusters_seen = true;
        deliver_to_all(feed, DELIVERY_CLUSTER, published, compiled.cluster, no_name);
        names_put(feed->options.names, compiled.cluster, published);
    } else if (compiled.endpoints != NULL) {
        struct endpoints *endpoints = map_get(&feed->endpoints, update->name);
        if (endpoints != NULL) {
            published_unref(&endpoints->published);
            endpoints->published = published_ref(published);
            endpoints->set = compiled.endpoints;
            deliver_to_all(feed, DELIVERY_ENDPOINTS, published, compiled.endpoints, no_name);
        }
    } else if (compiled.routes != NULL) {
        good = take_routes(feed, update, err);
    } else if (compiled.listener != NULL && slice_eq(update->name, SLICE(INBOUND_LISTENER))) {
        published_unref(&feed->listener);
        feed->listener = published_ref(published);
        feed->listener_config = compiled.listener;
    }
    published_unref(&published);
    return good;
}

static void take_removed(struct feed *feed, const struct ads_update *update)
{
    switch (update->type) {
    case XDS_RESOURCE_DESTINATION:
        take_unknown(feed, update->name);
        return;
    case XDS_RESOURCE_CLUSTER:
        deliver_to_all(feed, DELIVERY_CLUSTER_GONE, NULL, NULL, update->name);
        names_remove(feed->options.names, update->name);
        return;
    case XDS_RESOURCE_ENDPOINTS: /* what was there serves on, as with Envoy */
    case XDS_RESOURCE_LISTENER:  /* a pod keeps its inbound listener: without one it is cut off */
    case XDS_RESOURCE_ROUTES:
    case XDS_RESOURCE_VIRTUAL_HOST:
    case XDS_RESOURCE_SECRET:
    case XDS_RESOURCE_EXTENSION:
    case XDS_RESOURCE_COUNT:
        return;
    }
}

static void count_answer(const struct feed *feed, bool good)
{
    stats_count_by(feed->options.stats, STAT_CONFIG_ANSWERS, good,
                   good ? "acknowledged" : "refused");
}

static void take_updates(struct feed *feed)
{
    bool listener = false;
    for (const struct ads_update *update = ads_client_update(feed->ads); update != NULL;
         update = ads_client_update(feed->ads)) {
        struct error err = {.text = ""};
        bool good = true;
        switch (update->kind) {
        case ADS_UPDATE_PUT:
            good = take_put(feed, update, &err);
            count_answer(feed, good);
            listener = listener || update->type == XDS_RESOURCE_LISTENER ||
                       (update->type == XDS_RESOURCE_CLUSTER && !feed->ready);
            break;
        case ADS_UPDATE_REMOVED:
            take_removed(feed, update);
            break;
        case ADS_UPDATE_SILENCE:
            log_limited(LOG_LEVEL_WARNING, "the control plane does not answer",
                        LOG_SLICE("name", update->name));
            break;
        }
        if (!good) {
            log_warning("configuration refused", LOG_SLICE("name", update->name), LOG_CAUSE(&err));
        }
        ads_client_settle(feed->ads, good ? NULL : &err);
    }
    stats_set(feed->options.stats, STAT_CONFIG_GENERATION,
              (int64_t)ads_client_generation(feed->ads));
    if (listener) {
        publish_listener(feed);
    }
}

/* ---- the stream ---- */

static void close_stream(struct feed *feed)
{
    if (feed->client == NULL) {
        return;
    }
    grpc_call_free(&feed->call);
    grpc_client_free(&feed->client);
    feed->unsent = no_name;
    arena_fini(&feed->unsent_arena);
    arena_init(&feed->unsent_arena, NULL);
    ads_client_closed(feed->ads, now_ms(feed));
}

/* Says why, and wonders about our certificate where it may be the reason: a refusal, or a
 * connection that never came about. */
static void note_end(const struct feed *feed)
{
    unsigned status = grpc_call_get_status(feed->call);
    if (status == GRPC_UNAUTHENTICATED || !feed->heard) {
        identity_doubt(feed->options.identity);
    }
    struct slice why = grpc_client_get_state(feed->client) == GRPC_CLIENT_CLOSED
                           ? grpc_client_why(feed->client)
                           : grpc_call_get_text(feed->call);
    log_limited(LOG_LEVEL_WARNING, "the control plane's stream ended",
                LOG_TEXT("status", grpc_status_name((enum grpc_status)status)),
                LOG_SLICE("reason", why));
}

static void open_stream(struct feed *feed)
{
    struct error err = {.text = ""};
    struct arena arena;
    arena_init(&arena, NULL);
    struct slice authorization;
    feed->client =
        identity_connect(feed->options.identity, &feed->task, &arena, &authorization, &err);
    if (feed->client != NULL) {
        struct grpc_call_options options = {.path = SLICE(DELTA_STREAM),
                                            .authorization = authorization,
                                            .message_max = feed->options.message_max,
                                            .owner = &feed->task};
        feed->call = grpc_client_stream(feed->client, &options);
        feed->heard = false;
        ads_client_opened(feed->ads, now_ms(feed));
    }
    arena_fini(&arena);
}

/* False: the stream is over. */
static bool receive(struct feed *feed)
{
    for (;;) {
        struct error err = {.text = ""};
        struct slice message;
        switch (grpc_call_next(feed->call, &message)) {
        case GRPC_NEXT_MESSAGE:
            if (!ads_client_receive(feed->ads, message, &err)) {
                log_warning("the control plane's stream makes no sense", LOG_CAUSE(&err));
                return false;
            }
            feed->heard = true;
            take_updates(feed);
            break;
        case GRPC_NEXT_NONE:
            return true;
        case GRPC_NEXT_END:
        case GRPC_NEXT_CLOSED:
            note_end(feed);
            return false;
        }
    }
}

static void send_requests(struct feed *feed)
{
    for (;;) {
        if (feed->unsent.len == 0 &&
            !ads_client_request(feed->ads, &feed->unsent_arena, &feed->unsent)) {
            return;
        }
        if (!grpc_call_send(feed->call, feed->unsent)) {
            return; /* posted again when there is room */
        }
        feed->unsent = no_name;
        arena_fini(&feed->unsent_arena);
        arena_init(&feed->unsent_arena, NULL);
    }
}

static void arm(struct feed *feed)
{
    uint64_t at_ms = ads_client_deadline(feed->ads);
    uint64_t at_us = at_ms >= UINT64_MAX / 1000 ? UINT64_MAX : at_ms * 1000;
    if (feed->client == NULL) {
        uint64_t connect_us = ads_client_connect_at(feed->ads) * 1000;
        at_us = connect_us < at_us ? connect_us : at_us;
    }
    at_us = feed->sweep_at_us < at_us ? feed->sweep_at_us : at_us;
    uint64_t least_us = feed->options.loop->now_us + 1000;
    timer_set(feed->options.loop, &feed->timer, at_us > least_us ? at_us : least_us);
}

static void run(struct task *task)
{
    struct feed *feed = CONTAINER_OF(task, struct feed, task);
    struct loop *loop = feed->options.loop;
    if (!identity_is_valid(feed->options.identity) && feed->client == NULL) {
        return; /* posted with the first certificate */
    }
    if (feed->client != NULL && !receive(feed)) {
        close_stream(feed);
    }
    if (ads_client_deadline(feed->ads) <= now_ms(feed)) {
        ads_client_tick(feed->ads, now_ms(feed));
        take_updates(feed);
    }
    if (feed->client == NULL && ads_client_connect_at(feed->ads) <= now_ms(feed)) {
        open_stream(feed);
    }
    if (feed->client != NULL) {
        send_requests(feed);
    }
    if (loop->now_us >= feed->sweep_at_us) {
        shared_registry_sweep(feed->options.registry);
        feed->sweep_at_us = loop->now_us + SWEEP_US;
    }
    arm(feed);
}

/* ---- node ---- */

struct field {
    const char *key;
    const char *value;
};

static Google__Protobuf__Value *add_field(struct arena *arena, Google__Protobuf__Struct *to,
                                          struct slice key)
{
    Google__Protobuf__Value *value = ARENA_NEW(arena, Google__Protobuf__Value);
    Google__Protobuf__Struct__FieldsEntry *entry =
        ARENA_NEW(arena, Google__Protobuf__Struct__FieldsEntry);
    google__protobuf__value__init(value);
    google__protobuf__struct__fields_entry__init(entry);
    entry->key = arena_text(arena, key);
    entry->value = value;
    to->fields[to->n_fields++] = entry;
    return value;
}

static void add_text(struct arena *arena, Google__Protobuf__Struct *to, struct slice key,
                     struct slice text)
{
    Google__Protobuf__Value *value = add_field(arena, to, key);
    value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
    value->string_value = arena_text(arena, text);
}

static Google__Protobuf__Struct *new_struct(struct arena *arena, size_t fields_max)
{
    Google__Protobuf__Struct *made = ARENA_NEW(arena, Google__Protobuf__Struct);
    google__protobuf__struct__init(made);
    made->fields = ARENA_ARRAY(arena, Google__Protobuf__Struct__FieldsEntry *, fields_max + 1);
    return made;
}

static Google__Protobuf__Struct *node_metadata(struct arena *arena, const struct feed_node *node)
{
    const struct field fields[] = {
        {"NAMESPACE", node->namespace},  {"SERVICE_ACCOUNT", node->account},
        {"WORKLOAD_NAME", node->name},   {"NETWORK", node->network},
        {"INSTANCE_IPS", node->address}, {"CAPTURE", node->capture},
    };
    Google__Protobuf__Struct *made = new_struct(arena, COUNT_OF(fields) + 1);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if (fields[i].value != NULL && fields[i].value[0] != '\0') {
            add_text(arena, made, slice_of_text(fields[i].key), slice_of_text(fields[i].value));
        }
    }
    if (node->label_count > 0) {
        Google__Protobuf__Value *labels = add_field(arena, made, SLICE("LABELS"));
        labels->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        labels->struct_value = new_struct(arena, node->label_count);
        for (unsigned i = 0; i < node->label_count; i++) {
            add_text(arena, labels->struct_value, node->labels[i].key, node->labels[i].value);
        }
    }
    return made;
}

struct slice feed_node_encode(struct arena *arena, const struct feed_node *node)
{
    Envoy__Config__Core__V3__Node message;
    envoy__config__core__v3__node__init(&message);
    message.id = arena_printf(arena, "sidecar~%s~%s.%s~%s.svc.cluster.local", node->address,
                              node->name, node->namespace, node->namespace);
    message.cluster = arena_printf(arena, "%s.%s", node->name, node->namespace);
    message.metadata = node_metadata(arena, node);
    message.user_agent_name = arena_text(arena, SLICE("pillion-sidecar"));
    message.user_agent_version_type_case =
        ENVOY__CONFIG__CORE__V3__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION;
    message.user_agent_version = arena_text(arena, SLICE(PILLION_VERSION));
    return encode_message(arena, &message.base);
}

/* ---- life ---- */

struct feed *feed_new(const struct feed_options *options)
{
    CHECK(options->worker_count <= FEED_WORKERS_MAX);
    struct feed *feed = NEW(struct feed);
    feed->options = *options;
    feed->task.run = run;
    feed->timer.task = &feed->task;
    arena_init(&feed->unsent_arena, NULL);
    map_init(&feed->records, options->seed, MAP_KEYS_COPIED);
    map_init(&feed->endpoints, options->seed, MAP_KEYS_COPIED);
    map_init(&feed->tables, options->seed, MAP_KEYS_COPIED);
    struct ads_client_options ads = {.node = options->node, .seed = options->seed};
    feed->ads = ads_client_new(&ads);
    ads_client_want_all(feed->ads, XDS_RESOURCE_CLUSTER);
    ads_client_want_all(feed->ads, XDS_RESOURCE_LISTENER);
    for (unsigned i = 0; i < options->worker_count; i++) {
        feed->askers[i] = (struct feed_asker){.feed = feed, .index = i};
    }
    return feed;
}

void feed_free(struct feed **feed)
{
    struct feed *it = *feed;
    *feed = NULL;
    if (it == NULL) {
        return;
    }
    close_stream(it);
    it->ended = true;
    timer_clear(&it->timer);
    task_cancel(&it->task);
    loop_drain(it->options.loop); /* the workers' last questions, and parcels that come home */
    MAP_EACH(&it->records, entry)
    {
        struct record *record = entry->value;
        drop_config(it, record);
        drop_routes(it, record);
        mem_free(record);
    }
    map_fini(&it->records);
    CHECK(map_count(&it->endpoints) == 0);
    CHECK(map_count(&it->tables) == 0);
    map_fini(&it->tables);
    map_fini(&it->endpoints);
    published_unref(&it->listener);
    ads_client_free(&it->ads);
    arena_fini(&it->unsent_arena);
    mem_free(it);
}

struct task *feed_task(struct feed *feed)
{
    return &feed->task;
}

bool feed_is_ready(const struct feed *feed)
{
    return feed->ready;
}

bool feed_is_connected(const struct feed *feed)
{
    return feed->client != NULL && grpc_client_get_state(feed->client) == GRPC_CLIENT_OPEN;
}
