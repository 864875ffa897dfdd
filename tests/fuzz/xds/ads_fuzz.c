/* Both ends of a Delta stream against each other, under a script of one byte a step: resources come
 * and go, names are wanted and given up, messages arrive late, streams break, content is rejected,
 * garbage arrives. Oracle: once all is delivered, the client has exactly what the server has, of
 * what it wants, and the server knows that it has. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "envoy/config/core/v3/core.pb-c.h"

#include "base/alloc.h"
#include "xds/ads_client.h"
#include "xds/ads_server.h"
#include "xds/decode.h"

#define NAMES 5
#define QUEUE 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct queue {
    struct slice message[QUEUE];
    size_t first;
    size_t last;
};

struct run {
    struct resources world[XDS_RESOURCE_COUNT];
    struct ads_source source;
    struct ads_stream *stream; /* null while closed */
    struct ads_client *client;
    struct queue to_server;
    struct queue to_client;
    uint64_t now_ms;
    unsigned bodies;
    bool wanted[XDS_RESOURCE_COUNT][NAMES];
    unsigned has[XDS_RESOURCE_COUNT][NAMES]; /* number of the body that is in force; 0: none */
    bool reject_next;
};

static const enum xds_resource types[] = {XDS_RESOURCE_CLUSTER, XDS_RESOURCE_ENDPOINTS,
                                          XDS_RESOURCE_ROUTES, XDS_RESOURCE_DESTINATION};
static const char *const names[NAMES] = {"a", "b", "c", "d", "e"};

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
    queue->message[queue->last++] = slice_of(mem_dup(message.at, message.len), message.len);
}

static bool pop(struct queue *queue, struct slice *message)
{
    if (queue->first == queue->last) {
        queue->first = 0;
        queue->last = 0;
        return false;
    }
    *message = queue->message[queue->first++];
    return true;
}

static void drop(struct slice message)
{
    mem_free((void *)(uintptr_t)message.at);
}

static void close_stream(struct run *run)
{
    struct slice message;
    while (pop(&run->to_server, &message) || pop(&run->to_client, &message)) {
        drop(message);
    }
    if (run->stream != NULL) {
        ads_stream_free(&run->stream);
        ads_client_closed(run->client, run->now_ms);
    }
}

static void open_stream(struct run *run)
{
    if (run->stream == NULL) {
        struct ads_stream_options options = {.source = &run->source, .only = XDS_RESOURCE_COUNT};
        run->stream = ads_stream_new(&options);
        ads_client_opened(run->client, run->now_ms);
    }
}

static void send_all(struct run *run)
{
    struct arena arena;
    struct slice message;
    arena_init(&arena, NULL);
    while (run->stream != NULL && run->to_server.last < QUEUE &&
           ads_client_request(run->client, &arena, &message)) {
        push(&run->to_server, message);
    }
    while (run->stream != NULL && run->to_client.last < QUEUE &&
           ads_stream_response(run->stream, run->now_ms, &arena, &message)) {
        push(&run->to_client, message);
    }
    arena_fini(&arena);
}

static void settle_all(struct run *run)
{
    const struct ads_update *update = NULL;
    while ((update = ads_client_update(run->client)) != NULL) {
        unsigned number = 0;
        for (size_t i = 0; i < update->body.len && i < 6; i++) {
            number = number * 10 + (unsigned)(update->body.at[i] - '0');
        }
        unsigned *has = NULL;
        for (unsigned i = 0; i < NAMES; i++) {
            if (slice_eq(update->name, slice_of_text(names[i]))) {
                has = &run->has[update->type][i];
            }
        }
        struct error reason = {.text = "because"};
        bool reject = run->reject_next && update->kind == ADS_UPDATE_PUT;
        if (has != NULL && !reject && update->kind != ADS_UPDATE_SILENCE) {
            *has = update->kind == ADS_UPDATE_PUT ? number : 0;
        }
        run->reject_next = false;
        ads_client_settle(run->client, reject ? &reason : NULL);
    }
}

static bool deliver_to_server(struct run *run)
{
    struct slice message;
    struct error err;
    if (!pop(&run->to_server, &message)) {
        return false;
    }
    bool good = ads_stream_receive(run->stream, message, &err);
    CHECK(good);
    drop(message);
    return true;
}

static bool deliver_to_client(struct run *run)
{
    struct slice message;
    struct error err;
    if (!pop(&run->to_client, &message)) {
        return false;
    }
    bool good = ads_client_receive(run->client, message, &err);
    CHECK(good);
    drop(message);
    settle_all(run);
    return true;
}

static void put(struct run *run, enum xds_resource type, unsigned name)
{
    char body[16];
    (void)snprintf(body, sizeof body, "%u", ++run->bodies);
    struct resource *resource =
        resource_new(slice_of_text(names[name]), slice_of_text(body), NULL, 0, run->bodies);
    (void)resources_put_take(&run->world[type], &resource);
    if (run->stream != NULL) {
        ads_stream_changed(run->stream, type);
    }
}

static void take_away(struct run *run, enum xds_resource type, unsigned name)
{
    (void)resources_remove(&run->world[type], slice_of_text(names[name]));
    if (run->stream != NULL) {
        ads_stream_changed(run->stream, type);
    }
}

static void want(struct run *run, enum xds_resource type, unsigned name, bool wanted)
{
    if (type == XDS_RESOURCE_CLUSTER) {
        return; /* wanted by wildcard */
    }
    struct slice text = slice_of_text(names[name]);
    if (wanted) {
        ads_client_want(run->client, type, text, run->now_ms);
    } else if (run->wanted[type][name]) {
        ads_client_unwant(run->client, type, text);
    }
    run->wanted[type][name] = wanted;
}

/* Bytes of nobody to one end; what they did is undone by a new stream. */
static void garbage(struct run *run, const uint8_t *data, size_t size, bool to_client)
{
    struct error err;
    if (run->stream == NULL) {
        return;
    }
    if (to_client) {
        (void)(ads_client_receive(run->client, slice_of(data, size), &err) || err.text[0] != '\0');
        settle_all(run);
    } else {
        (void)(ads_stream_receive(run->stream, slice_of(data, size), &err) || err.text[0] != '\0');
        send_all(run);
    }
    close_stream(run);
}

static void step(struct run *run, uint8_t byte, const uint8_t *rest, size_t size)
{
    enum xds_resource type = types[byte >> 3 & 3];
    unsigned name = (byte >> 5) % NAMES;
    switch (byte & 7) {
    case 0:
        put(run, type, name);
        break;
    case 1:
        take_away(run, type, name);
        break;
    case 2:
        want(run, type, name, true);
        break;
    case 3:
        want(run, type, name, false);
        break;
    case 4:
        (void)deliver_to_server(run);
        break;
    case 5:
        (void)deliver_to_client(run);
        break;
    case 6:
        run->reject_next = true;
        run->now_ms += byte >> 3;
        ads_client_tick(run->client, run->now_ms * 100);
        settle_all(run);
        break;
    default:
        if ((byte >> 3) == 0) {
            garbage(run, rest, size, (size & 1) != 0);
        } else if ((byte >> 3) < 16) {
            open_stream(run);
        } else {
            close_stream(run);
        }
    }
    send_all(run);
}

static unsigned body_of(struct run *run, enum xds_resource type, unsigned name)
{
    const struct resource *resource = resources_get(&run->world[type], slice_of_text(names[name]));
    unsigned number = 0;
    for (size_t i = 0; resource != NULL && i < resource->body.len; i++) {
        number = number * 10 + (unsigned)(resource->body.at[i] - '0');
    }
    return number;
}

/* New content for all, so that no rejection stands; then everything is delivered. */
static void converge(struct run *run)
{
    run->reject_next = false;
    open_stream(run);
    for (unsigned t = 0; t < COUNT_OF(types); t++) {
        for (unsigned i = 0; i < NAMES; i++) {
            if (resources_get(&run->world[types[t]], slice_of_text(names[i])) != NULL) {
                put(run, types[t], i);
            }
        }
    }
    send_all(run);
    unsigned rounds = 0;
    while (deliver_to_server(run) || deliver_to_client(run)) {
        send_all(run);
        CHECK(++rounds < 1000); /* it comes to rest */
    }
    for (unsigned t = 0; t < COUNT_OF(types); t++) {
        for (unsigned i = 0; i < NAMES; i++) {
            if (types[t] == XDS_RESOURCE_CLUSTER || run->wanted[types[t]][i]) {
                CHECK(run->has[types[t]][i] == body_of(run, types[t], i));
            }
        }
    }
    CHECK(ads_stream_progress(run->stream).settled);
    CHECK(ads_stream_progress(run->stream).pending == 0);
    CHECK(ads_stream_progress(run->stream).rejected == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {.bodies = 0};
    run.source = (struct ads_source){.owner = &run, .get = get, .each = each};
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        resources_init(&run.world[i], 1);
    }
    uint8_t node[] = {0x0a, 1, 'n'};
    struct ads_client_options options = {.node = slice_of(node, sizeof node), .seed = 1};
    run.client = ads_client_new(&options);
    ads_client_want_all(run.client, XDS_RESOURCE_CLUSTER);
    open_stream(&run);
    send_all(&run);
    for (size_t i = 0; i < size && i < 300; i++) {
        step(&run, data[i], data + i + 1, size - i - 1);
    }
    converge(&run);
    close_stream(&run);
    ads_client_free(&run.client);
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        resources_fini(&run.world[i]);
    }
    return 0;
}
