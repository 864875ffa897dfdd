/* An arrival looks up its destination first and reads nothing meanwhile: whether a byte is worth
 * waiting for depends on the answer. Then its first bytes decide, as far as the destination leaves
 * that open (architecture.md, detection). What is refused is answered where the client speaks HTTP
 * and reset where it does not, so that also runs through detection. */
#include "sidecar/accept/outbound.h"

#include <string.h>

#include "base/alloc.h"
#include "base/client_hello.h"
#include "base/log.h"
#include "http/detect.h"
#include "http/h1.h"
#include "http/raw.h"
#include "sidecar/accept/listener.h"
#include "sidecar/config/destinations.h"
#include "sidecar/worker.h"
#include "xds/destination_key.h"

/* X(value, meaning) */
#define ARRIVAL_STEPS(X)                                                                           \
    X(LOOKUP, "the answer about its destination is awaited")                                       \
    X(FIRST, "its first bytes are")                                                                \
    X(PROBE, "it is served as bytes, unless its server shows that it speaks HTTP")                 \
    X(DONE, "a server has it, or it is gone")

enum arrival_step {
#define X(value, meaning) ARRIVAL_##value,
    ARRIVAL_STEPS(X)
#undef X
};

struct arrival {
    struct list link; /* in worker->arrivals */
    struct listener *listener;
    struct net_conn *net;
    struct arena arena; /* holds this struct too */
    struct task task;
    struct timer timer;
    struct grave grave;
    enum arrival_step step;
    struct addr original; /* ADDR_NONE: not captured */
    struct slice key;
    struct destination_entry *entry; /* held */
    struct destination_waiter waiter;
    struct service *http;   /* a reference, from FIRST on */
    struct service *opaque; /* a reference; null: bytes have no way */
    enum destination_protocol protocol;
    struct server_probe probe;
    uint64_t first_by_us; /* its first bytes must have decided by then */
    uint8_t *first;
    uint32_t first_len;
    bool peer_closed;
};

static struct worker *worker_of(const struct arrival *arrival)
{
    return arrival->listener->worker;
}

static void free_arrival(struct grave *grave)
{
    struct arrival *arrival = CONTAINER_OF(grave, struct arrival, grave);
    struct arena arena = arrival->arena;
    mem_free(arrival->first);
    arena_fini(&arena);
}

static void end(struct arrival *arrival)
{
    struct worker *worker = worker_of(arrival);
    arrival->step = ARRIVAL_DONE;
    worker_weigh(worker, -1);
    destinations_leave(worker->destinations, &arrival->waiter);
    server_probe_leave(&arrival->probe);
    if (arrival->entry != NULL) {
        destination_release(&arrival->entry);
    }
    service_unref(&arrival->http);
    service_unref(&arrival->opaque);
    list_remove(&arrival->link);
    task_cancel(&arrival->task);
    timer_clear(&arrival->timer);
    loop_bury(worker->loop, &arrival->grave);
}

static void reset(struct arrival *arrival)
{
    if (arrival->net != NULL) {
        arrival->net->ops->reset(&arrival->net);
    }
    conn_reset(&arrival->probe.conn);
    end(arrival);
}

void outbound_close_all(struct worker *worker)
{
    LIST_EACH(&worker->arrivals, node)
    {
        reset(LIST_ITEM(node, struct arrival, link));
    }
}

/* ---- handing over ---- */

static void serve(struct arrival *arrival, struct service *service, struct codec *codec)
{
    net_want(arrival->net, NET_READ);
    struct conn *conn = conn_plain(&arrival->net, slice_of(arrival->first, arrival->first_len));
    struct server_start start = {
        .conn = conn, .codec = codec, .service = service, .original = arrival->original};
    server_begin(worker_of(arrival), &start);
    end(arrival);
}

/* Its server may speak first, and may show that HTTP is meant. */
static void probe(struct arrival *arrival)
{
    net_want(arrival->net, NET_READ);
    struct server_start start = {.conn = conn_plain(&arrival->net, (struct slice){NULL, 0}),
                                 .codec = codec_raw_new(),
                                 .service = arrival->opaque,
                                 .original = arrival->original,
                                 .probe = &arrival->probe};
    arrival->step = ARRIVAL_PROBE;
    timer_clear(&arrival->timer);
    server_begin(worker_of(arrival), &start);
}

static void serve_opaque(struct arrival *arrival)
{
    if (arrival->opaque == NULL) {
        log_limited(LOG_LEVEL_WARNING, "no way for bytes to this destination",
                    LOG_SLICE("key", arrival->key));
        reset(arrival);
        return;
    }
    serve(arrival, arrival->opaque, codec_raw_new());
}

static void serve_http1(struct arrival *arrival)
{
    struct worker *worker = worker_of(arrival);
    serve(arrival, arrival->http, h1_server_new(&worker->h1_limits, worker->h1));
}

static void serve_http2(struct arrival *arrival)
{
    serve(arrival, arrival->http, worker_h2(worker_of(arrival), CODEC_SERVER, SLICE("h2")));
}

/* ---- first bytes ---- */

static bool declared_http(const struct arrival *arrival)
{
    return arrival->protocol == DESTINATION_HTTP1 || arrival->protocol == DESTINATION_HTTP2;
}

/* Reads what is there. False: the connection is gone. */
static bool read_first(struct arrival *arrival)
{
    struct span span = loop_recv_span(worker_of(arrival)->loop);
    size_t room = DETECT_BYTES_MAX - arrival->first_len;
    size_t got = 0;
    if ((arrival->net->ready & NET_READ) == 0 || room == 0 || arrival->peer_closed) {
        return true;
    }
    span.len = room < span.len ? room : span.len;
    switch (net_recv(arrival->net, span, &got)) {
    case IO_OK:
        break;
    case IO_AGAIN:
        return true;
    case IO_EOF:
        arrival->peer_closed = true;
        net_want(arrival->net, 0);
        return arrival->first_len > 0;
    case IO_RESET:
        return false;
    }
    arrival->first = mem_resize(arrival->first, arrival->first_len + got);
    memcpy(arrival->first + arrival->first_len, span.at, got);
    arrival->first_len += (uint32_t)got;
    return true;
}

/* What does not become clear: HTTP answers for itself where it is declared, else it is bytes. */
static void serve_undecided(struct arrival *arrival)
{
    if (declared_http(arrival)) {
        serve_http1(arrival);
    } else {
        serve_opaque(arrival);
    }
}

/* TLS that passes: its name may choose the way. */
static enum detected find_sni(struct arrival *arrival)
{
    struct client_hello hello;
    struct slice first = slice_of(arrival->first, arrival->first_len);
    if (arrival->entry == NULL || !destination_asks_sni(arrival->entry)) {
        return DETECTED_TLS;
    }
    switch (client_hello_parse(first, &hello)) {
    case CLIENT_HELLO_MORE:
        return first.len < DETECT_BYTES_MAX ? DETECTED_MORE : DETECTED_TLS;
    case CLIENT_HELLO_BAD:
        return DETECTED_OPAQUE;
    case CLIENT_HELLO_DONE:
        break;
    }
    struct service *named = destination_find_sni(arrival->entry, client_hello_sni(&hello));
    if (named != NULL) {
        service_unref(&arrival->opaque);
        arrival->opaque = named;
        service_ref(named);
    }
    return DETECTED_TLS;
}

static enum detected detect_first(struct arrival *arrival)
{
    enum detected detected = detect_client(slice_of(arrival->first, arrival->first_len));
    return detected == DETECTED_TLS ? find_sni(arrival) : detected;
}

static void detect(struct arrival *arrival)
{
    switch (detect_first(arrival)) {
    case DETECTED_HTTP1:
        if (arrival->entry != NULL) {
            destination_note_http(arrival->entry);
        }
        serve_http1(arrival);
        return;
    case DETECTED_HTTP2:
        if (arrival->entry != NULL) {
            destination_note_http(arrival->entry);
        }
        serve_http2(arrival);
        return;
    case DETECTED_TLS:
    case DETECTED_TARGET_LONG:
    case DETECTED_OPAQUE:
        serve_undecided(arrival);
        return;
    case DETECTED_MORE:
        break;
    }
    bool over = timer_due(&arrival->timer, worker_of(arrival)->loop) || arrival->peer_closed;
    if (over) {
        serve_undecided(arrival);
        return;
    }
    timer_set(worker_of(arrival)->loop, &arrival->timer, arrival->first_by_us);
}

static void run_silent(struct arrival *arrival)
{
    struct loop *loop = worker_of(arrival)->loop;
    if (!timer_due(&arrival->timer, loop)) {
        return;
    }
    if (declared_http(arrival)) {
        reset(arrival);
        return;
    }
    if (arrival->entry != NULL) {
        destination_note_silent(arrival->entry, loop->now_us);
    }
    if (arrival->opaque != NULL) {
        probe(arrival);
    } else {
        serve_opaque(arrival);
    }
}

static void run_first(struct arrival *arrival)
{
    if (!read_first(arrival)) {
        reset(arrival);
    } else if (arrival->first_len > 0) {
        detect(arrival);
    } else {
        run_silent(arrival);
    }
}

static void begin_first(struct arrival *arrival)
{
    struct worker *worker = worker_of(arrival);
    uint64_t now_us = worker->loop->now_us;
    arrival->step = ARRIVAL_FIRST;
    timer_clear(&arrival->timer);
    switch (arrival->protocol) {
    case DESTINATION_TCP:
    case DESTINATION_SERVER_FIRST:
        serve_opaque(arrival);
        return;
    case DESTINATION_TLS:
        if (arrival->entry == NULL || !destination_asks_sni(arrival->entry)) {
            serve_opaque(arrival);
            return;
        }
        break;
    case DESTINATION_AUTO:
    case DESTINATION_HTTP1:
    case DESTINATION_HTTP2:
        break;
    }
    arrival->first_by_us = now_us + worker->settings->head_timeout_us;
    net_want(arrival->net, NET_READ);
    uint64_t hold_us = worker->settings->detect_hold_us;
    if (arrival->entry != NULL && destination_skips_hold(arrival->entry, now_us)) {
        hold_us = 0;
    }
    timer_set(worker->loop, &arrival->timer,
              declared_http(arrival) ? arrival->first_by_us : now_us + hold_us);
    run_first(arrival);
}

/* It was bytes, or its server has shown that it speaks HTTP: then its request is waited for. */
static void run_probe(struct arrival *arrival)
{
    struct loop *loop = worker_of(arrival)->loop;
    if (arrival->probe.server != NULL) {
        return;
    }
    if (arrival->probe.conn == NULL) {
        end(arrival);
        return;
    }
    arrival->net = conn_plain_take(&arrival->probe.conn);
    arrival->net->owner = &arrival->task;
    if (arrival->entry != NULL) {
        destination_note_http(arrival->entry);
    }
    arrival->step = ARRIVAL_FIRST;
    arrival->protocol = DESTINATION_HTTP1;
    arrival->first_by_us = loop->now_us + worker_of(arrival)->settings->head_timeout_us;
    timer_set(loop, &arrival->timer, arrival->first_by_us);
    run_first(arrival);
}

/* ---- the destination ---- */

/* No answer in time, or too many wait: whoever speaks HTTP is told. */
static void refuse(struct arrival *arrival)
{
    struct destinations *destinations = worker_of(arrival)->destinations;
    arrival->http = arrival->entry != NULL ? destinations_refusal(destinations, arrival->entry)
                                           : destinations->refusing;
    service_ref(arrival->http);
    arrival->protocol = DESTINATION_AUTO;
    begin_first(arrival);
}

static void take_answer(struct arrival *arrival)
{
    const struct destination_entry *entry = arrival->entry;
    const struct destination *config = entry->config;
    bool passes = config != NULL && config->outcome == DESTINATION_PASSTHROUGH;
    bool nowhere = passes && arrival->original.family == ADDR_NONE;
    arrival->http = entry->http;
    service_ref(arrival->http);
    if (entry->opaque != NULL && !nowhere) {
        arrival->opaque = entry->opaque;
        service_ref(arrival->opaque);
    }
    arrival->protocol = config != NULL ? config->protocol : DESTINATION_AUTO;
    const struct listener_place *place = arrival->listener->place;
    if (place->tcp || (passes && !nowhere)) {
        arrival->protocol = DESTINATION_TCP;
    }
    begin_first(arrival);
}

static void run_lookup(struct arrival *arrival)
{
    struct worker *worker = worker_of(arrival);
    struct destinations *destinations = worker->destinations;
    if (arrival->entry == NULL) {
        const struct addr *addr = arrival->original.family != ADDR_NONE ? &arrival->original : NULL;
        arrival->entry = destinations_get(destinations, arrival->key, addr);
        if (arrival->entry == NULL) {
            refuse(arrival);
            return;
        }
        destination_hold(arrival->entry);
    }
    if (arrival->entry->state != DESTINATION_ASKED) {
        take_answer(arrival);
        return;
    }
    if (timer_due(&arrival->timer, worker->loop)) {
        destinations_time_out(destinations, &arrival->waiter);
        log_limited(LOG_LEVEL_WARNING, "no answer about a destination in time",
                    LOG_SLICE("key", arrival->key));
        refuse(arrival);
        return;
    }
    if (list_linked(&arrival->waiter.link)) {
        return;
    }
    if (!destinations_wait(destinations, arrival->entry, &arrival->waiter)) {
        log_limited(LOG_LEVEL_WARNING, "too many connections wait for configuration",
                    LOG_SLICE("key", arrival->key));
        refuse(arrival);
        return;
    }
    net_want(arrival->net, 0);
    uint64_t wait_us = worker->settings->on_demand_timeout_us * (MUTANT(34) ? 2 : 1);
    timer_set(worker->loop, &arrival->timer, worker->loop->now_us + wait_us);
}

static void run(struct task *task)
{
    struct arrival *arrival = CONTAINER_OF(task, struct arrival, task);
    switch (arrival->step) {
    case ARRIVAL_LOOKUP:
        run_lookup(arrival);
        return;
    case ARRIVAL_FIRST:
        run_first(arrival);
        return;
    case ARRIVAL_PROBE:
        run_probe(arrival);
        return;
    case ARRIVAL_DONE:
        return;
    }
}

/* The key; false where the connection was not redirected: whoever came here by themselves gets no
 * identity lent. */
static bool find_key(struct arrival *arrival)
{
    const struct listener_place *place = arrival->listener->place;
    if (!place->captured) {
        arrival->key = place->key;
        return true;
    }
    struct addr local;
    struct addr peer;
    arrival->net->ops->addrs(arrival->net, &local, &peer);
    if (!arrival->net->ops->original_dst(arrival->net, &arrival->original) ||
        addr_eq(&arrival->original, &local)) {
        return false;
    }
    arrival->key =
        slice_of_text(destination_key_of_addr(&arrival->arena, place->network, &arrival->original));
    return true;
}

void outbound_begin(struct listener *listener, struct net_conn **net)
{
    struct worker *worker = listener->worker;
    struct arena arena;
    arena_init(&arena, &worker->loop->arenas);
    struct arrival *arrival = ARENA_NEW(&arena, struct arrival);
    arrival->arena = arena;
    arrival->listener = listener;
    arrival->net = *net;
    *net = NULL;
    arrival->task.run = run;
    arrival->timer.task = &arrival->task;
    arrival->waiter.task = &arrival->task;
    arrival->grave.free = free_arrival;
    arrival->probe.task = &arrival->task;
    arrival->net->owner = &arrival->task;
    list_append(&worker->arrivals, &arrival->link);
    worker_weigh(worker, 1);
    if (find_key(arrival)) {
        run_lookup(arrival);
    } else {
        log_limited(LOG_LEVEL_WARNING, "a connection came to the capture port by itself",
                    LOG_SLICE("direction", SLICE("outbound")));
        reset(arrival);
    }
}
