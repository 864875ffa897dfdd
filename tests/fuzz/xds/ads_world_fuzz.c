/* The state-of-the-world server against a small model of a gRPC client: one request a type with all
 * its names, ACK or NACK, requests that cross with pushes. Oracle: once all is delivered, the
 * client has what the server has of what it asked for. One byte a step. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "envoy/service/discovery/v3/discovery.pb-c.h"

#include "base/alloc.h"
#include "xds/ads_server.h"
#include "xds/decode.h"

#define NAMES 4
#define QUEUE 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct queue {
    struct slice message[QUEUE];
    size_t first;
    size_t last;
};

struct subscription {
    bool wanted[NAMES];
    unsigned has[NAMES];
    char nonce[32];
    bool used;
};

struct run {
    struct arena arena; /* of every message in flight */
    struct resources world[XDS_RESOURCE_COUNT];
    struct ads_source source;
    struct ads_stream *stream;
    struct queue to_server;
    struct queue to_client;
    struct subscription of[XDS_RESOURCE_COUNT];
    bool node_sent;
    bool reject_next;
    unsigned bodies;
};

static const enum xds_resource types[] = {XDS_RESOURCE_CLUSTER, XDS_RESOURCE_ENDPOINTS,
                                          XDS_RESOURCE_LISTENER, XDS_RESOURCE_ROUTES};
static const char *const names[NAMES] = {"a", "b", "c", "d"};

static struct resource *get(void *owner, void *viewer, enum xds_resource type, struct slice name)
{
    (void)viewer;
    struct run *run = owner;
    return resources_get(&run->world[type], name);
}

static void each(void *owner, void *viewer, enum xds_resource type,
                 void (*show)(void *to, struct resource *resource), void *to)
{
    (void)viewer;
    struct run *run = owner;
    MAP_EACH(&run->world[type].by_name, entry)
    {
        show(to, entry->value);
    }
}

static void push(struct queue *queue, struct slice message)
{
    CHECK(queue->last < QUEUE);
    queue->message[queue->last++] = message;
}

static void request(struct run *run, enum xds_resource type, const char *rejected)
{
    struct subscription *subscription = &run->of[type];
    Envoy__Service__Discovery__V3__DiscoveryRequest message;
    Envoy__Config__Core__V3__Node node;
    Google__Rpc__Status status;
    char *wanted[NAMES];
    envoy__service__discovery__v3__discovery_request__init(&message);
    envoy__config__core__v3__node__init(&node);
    google__rpc__status__init(&status);
    message.node = run->node_sent ? NULL : &node;
    message.type_url = arena_text(&run->arena, slice_of_text(xds_type_of_resource(type)->url));
    message.response_nonce = subscription->nonce;
    message.resource_names = wanted;
    for (unsigned i = 0; i < NAMES; i++) {
        if (subscription->wanted[i]) {
            wanted[message.n_resource_names++] = arena_text(&run->arena, slice_of_text(names[i]));
        }
    }
    if (rejected != NULL) {
        status.message = arena_text(&run->arena, slice_of_text(rejected));
        message.error_detail = &status;
    }
    run->node_sent = true;
    subscription->used = true;
    push(&run->to_server, encode_message(&run->arena, &message.base));
}

static void respond(struct run *run)
{
    struct slice message;
    while (ads_stream_response(run->stream, 0, &run->arena, &message)) {
        push(&run->to_client, message);
    }
}

static bool deliver_to_server(struct run *run)
{
    struct error err;
    if (run->to_server.first == run->to_server.last) {
        return false;
    }
    bool good =
        ads_stream_receive(run->stream, run->to_server.message[run->to_server.first++], &err);
    CHECK(good);
    respond(run);
    return true;
}

static void take(struct subscription *subscription,
                 const Envoy__Service__Discovery__V3__DiscoveryResponse *response, bool whole)
{
    unsigned fresh[NAMES] = {0};
    for (size_t i = 0; i < response->n_resources; i++) {
        ProtobufCBinaryData body = response->resources[i]->value;
        unsigned name = body.data[0] - (unsigned)'a';
        CHECK(name < NAMES);
        CHECK(fresh[name] == 0); /* none twice */
        for (size_t k = 1; k < body.len; k++) {
            fresh[name] = fresh[name] * 10 + (unsigned)(body.data[k] - '0');
        }
    }
    for (unsigned i = 0; i < NAMES; i++) {
        if (subscription->wanted[i] && (whole || fresh[i] != 0)) {
            subscription->has[i] = fresh[i];
        }
    }
}

static bool deliver_to_client(struct run *run)
{
    if (run->to_client.first == run->to_client.last) {
        return false;
    }
    const Envoy__Service__Discovery__V3__DiscoveryResponse *response =
        decode_message(&run->arena, &envoy__service__discovery__v3__discovery_response__descriptor,
                       run->to_client.message[run->to_client.first++], NULL);
    CHECK(response != NULL);
    enum xds_resource type = xds_type_find(response->type_url)->resource;
    struct subscription *subscription = &run->of[type];
    (void)snprintf(subscription->nonce, sizeof subscription->nonce, "%s", response->nonce);
    bool reject = run->reject_next;
    run->reject_next = false;
    if (!reject) {
        take(subscription, response, type == XDS_RESOURCE_CLUSTER || type == XDS_RESOURCE_LISTENER);
    }
    request(run, type, reject ? "because" : NULL);
    return true;
}

static void put(struct run *run, enum xds_resource type, unsigned name)
{
    char body[16];
    (void)snprintf(body, sizeof body, "%s%u", names[name], ++run->bodies);
    struct resource *resource =
        resource_new(slice_of_text(names[name]), slice_of_text(body), NULL, 0, run->bodies);
    (void)resources_put_take(&run->world[type], &resource);
    ads_stream_changed(run->stream, type);
}

static void step(struct run *run, uint8_t byte)
{
    enum xds_resource type = types[byte >> 3 & 3];
    unsigned name = byte >> 5 & 3;
    struct subscription *subscription = &run->of[type];
    switch (byte & 7) {
    case 0:
        put(run, type, name);
        break;
    case 1:
        (void)resources_remove(&run->world[type], slice_of_text(names[name]));
        ads_stream_changed(run->stream, type);
        break;
    case 2:
        if (!subscription->wanted[name]) {
            subscription->wanted[name] = true;
            request(run, type, NULL);
        }
        break;
    case 3:
        if (subscription->wanted[name]) {
            subscription->wanted[name] = false;
            subscription->has[name] = 0;
            request(run, type, NULL);
        }
        break;
    case 4:
        (void)deliver_to_server(run);
        break;
    case 5:
        (void)deliver_to_client(run);
        break;
    case 6:
        run->reject_next = true;
        break;
    default:
        break;
    }
    respond(run);
}

static unsigned number_of(struct run *run, enum xds_resource type, unsigned name)
{
    const struct resource *resource = resources_get(&run->world[type], slice_of_text(names[name]));
    unsigned number = 0;
    for (size_t i = 1; resource != NULL && i < resource->body.len; i++) {
        number = number * 10 + (unsigned)(resource->body.at[i] - '0');
    }
    return number;
}

static void deliver_all(struct run *run)
{
    respond(run);
    while (deliver_to_server(run) || deliver_to_client(run)) {
    }
}

/* New content for every name, so that no rejection stands; then what the script had not put is
 * taken away again, which shows in whole types only. */
static void converge(struct run *run)
{
    bool there[XDS_RESOURCE_COUNT][NAMES];
    run->reject_next = false;
    for (unsigned t = 0; t < COUNT_OF(types); t++) {
        for (unsigned i = 0; i < NAMES; i++) {
            there[types[t]][i] = number_of(run, types[t], i) != 0;
            put(run, types[t], i);
        }
    }
    deliver_all(run);
    for (unsigned t = 0; t < COUNT_OF(types); t++) {
        for (unsigned i = 0; i < NAMES; i++) {
            if (!there[types[t]][i]) {
                (void)resources_remove(&run->world[types[t]], slice_of_text(names[i]));
                ads_stream_changed(run->stream, types[t]);
            }
        }
    }
    deliver_all(run);
    for (unsigned t = 0; t < COUNT_OF(types); t++) {
        bool whole = types[t] == XDS_RESOURCE_CLUSTER || types[t] == XDS_RESOURCE_LISTENER;
        for (unsigned i = 0; i < NAMES; i++) {
            const struct subscription *subscription = &run->of[types[t]];
            unsigned number = number_of(run, types[t], i);
            CHECK(!subscription->wanted[i] || subscription->has[i] == number ||
                  (!whole && number == 0));
        }
    }
    CHECK(ads_stream_progress(run->stream).settled);
    CHECK(ads_stream_progress(run->stream).pending == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {.bodies = 0};
    arena_init(&run.arena, NULL);
    run.source = (struct ads_source){.owner = &run, .get = get, .each = each};
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        resources_init(&run.world[i], 1);
    }
    struct ads_stream_options options = {
        .source = &run.source, .protocol = ADS_STATE_OF_THE_WORLD, .only = XDS_RESOURCE_COUNT};
    run.stream = ads_stream_new(&options);
    for (size_t i = 0; i < size && i < 150; i++) {
        step(&run, data[i]);
    }
    converge(&run);
    ads_stream_free(&run.stream);
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        resources_fini(&run.world[i]);
    }
    arena_fini(&run.arena);
    return 0;
}
