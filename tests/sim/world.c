#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>

#include "base/alloc.h"
#include "tests/sim/link.h"

#define ROUNDS_MAX 200000U
#define FIRST_PORT 20000

struct world_event {
    uint64_t at_us;
    uint64_t sequence;
    struct end *to; /* null: only a time to wake at */
};

/* ---- trace ---- */

static void mix(struct world *world, uint64_t value)
{
    world->hash = (world->hash ^ value) * UINT64_C(0x100000001B3);
    world->hash ^= world->hash >> 29;
}

void world_note(struct world *world, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    world->notes++;
    mix(world, world->now_us);
    for (const char *at = what; *at != '\0'; at++) {
        mix(world, (uint8_t)*at);
    }
    mix(world, a);
    mix(world, b);
    mix(world, c);
    if (world->trace != NULL) {
        (void)fprintf(world->trace, "%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                      world->now_us, what, a, b, c);
    }
}

void world_fail(struct world *world, const char *format, ...)
{
    va_list args;
    if (world->failures++ == 0) {
        va_start(args, format);
        (void)vsnprintf(world->failure, sizeof world->failure, format, args);
        va_end(args);
        world_note(world, "FAILED", 0, 0, 0);
        if (world->trace != NULL) {
            (void)fprintf(world->trace, "%" PRIu64 " # %s\n", world->now_us, world->failure);
        }
    }
}

/* ---- events ---- */

static bool sooner(const struct world_event *a, const struct world_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->sequence < b->sequence;
}

void world_at(struct world *world, uint64_t at_us, struct end *to)
{
    if (world->event_count == world->event_cap) {
        world->event_cap = world->event_cap == 0 ? 256 : 2 * world->event_cap;
        world->events = mem_resize(world->events, world->event_cap * sizeof *world->events);
    }
    struct world_event event = {at_us, world->sequence++, to};
    size_t at = world->event_count++;
    for (; at > 0 && sooner(&event, &world->events[(at - 1) / 2]); at = (at - 1) / 2) {
        world->events[at] = world->events[(at - 1) / 2];
    }
    world->events[at] = event;
    if (to != NULL) {
        to->link->references++;
    }
}

static struct world_event pop_event(struct world *world)
{
    struct world_event first = world->events[0];
    struct world_event last = world->events[--world->event_count];
    size_t at = 0;
    for (size_t child = 1; child < world->event_count; child = 2 * at + 1) {
        if (child + 1 < world->event_count &&
            sooner(&world->events[child + 1], &world->events[child])) {
            child++;
        }
        if (!sooner(&world->events[child], &last)) {
            break;
        }
        world->events[at] = world->events[child];
        at = child;
    }
    world->events[at] = last;
    return first;
}

/* Whoever takes from it, as the kernel wakes them all. */
static void announce_backlog(const struct world *world, struct sim_socket *socket)
{
    LIST_EACH(&socket->listeners, node)
    {
        struct sim_listener *listener = LIST_ITEM(node, struct sim_listener, in_socket);
        if (listener->accepting && world->now_us >= listener->failed_until_us) {
            loop_post(listener->listener.loop, listener->listener.owner);
        }
    }
}

static void announce(struct world *world)
{
    LIST_EACH(&world->ends, node)
    {
        struct end *end = LIST_ITEM(node, struct end, in_world);
        unsigned events = end_events(end) & end->conn.wanted;
        if (events == 0 || end->conn.owner == NULL) {
            continue;
        }
        if ((events & NET_WRITE) != 0) {
            end->conn.connecting = false;
        }
        end->conn.ready |= (uint8_t)events;
        loop_post(end->conn.loop, end->conn.owner);
    }
    LIST_EACH(&world->sockets, node)
    {
        struct sim_socket *socket = LIST_ITEM(node, struct sim_socket, in_world);
        if (!list_empty(&socket->backlog)) {
            announce_backlog(world, socket);
        }
    }
}

/* Who runs before whom at one instant is the seed's to say. */
static void shuffle_hosts(struct world *world)
{
    for (unsigned i = world->host_count; i-- > 1;) {
        unsigned other = (unsigned)rng_below(&world->rng, i + 1);
        uint8_t kept = world->order[i];
        world->order[i] = world->order[other];
        world->order[other] = kept;
    }
}

/* A tick would do nothing. */
static bool is_quiet(const struct host *host)
{
    const struct loop *loop = host->loop;
    return host->next_us > host->world->now_us && list_empty(&loop->posted) &&
           list_empty(&loop->flushes) && list_empty(&loop->graves) &&
           atomic_load_explicit(&loop->inbox, memory_order_relaxed) == NULL;
}

static bool run_round(struct world *world)
{
    bool any = false;
    announce(world);
    shuffle_hosts(world);
    for (unsigned i = 0; i < world->host_count; i++) {
        struct host *host = &world->hosts[world->order[i]];
        if (!is_quiet(host)) {
            any |= loop_step(host->loop, world->now_us, world->now_us + WORLD_WALL_OFFSET_US,
                             &host->next_us);
        }
    }
    return any;
}

static uint64_t next_time(const struct world *world)
{
    uint64_t next = world->event_count > 0 ? world->events[0].at_us : UINT64_MAX;
    for (unsigned i = 0; i < world->host_count; i++) {
        next = world->hosts[i].next_us < next ? world->hosts[i].next_us : next;
    }
    return next;
}

static void fail_spinning(struct world *world)
{
    const char *who = "a task that posts itself";
    uint64_t link = 0;
    unsigned events = 0;
    LIST_EACH(&world->ends, node)
    {
        const struct end *end = LIST_ITEM(node, struct end, in_world);
        if ((end_events(end) & end->conn.wanted) != 0 && end->conn.owner != NULL) {
            who = ((const struct host *)end->conn.loop->world)->name;
            link = end->link->number;
            events = end_events(end) & end->conn.wanted;
        }
    }
    world_fail(world, "the world spins: %s, connection %" PRIu64 ", events %u", who, link, events);
}

bool world_step(struct world *world, uint64_t until_us)
{
    while (run_round(world)) {
        if (++world->quiet_rounds > ROUNDS_MAX) {
            fail_spinning(world);
            return false;
        }
    }
    uint64_t next = next_time(world);
    if (next >= until_us) {
        world->now_us = until_us > world->now_us ? until_us : world->now_us;
        return false;
    }
    if (next > world->now_us) {
        world->now_us = next;
        world->quiet_rounds = 0;
    } else if (++world->quiet_rounds > ROUNDS_MAX) {
        world_fail(world, "the world spins: time does not move");
        return false;
    }
    while (world->event_count > 0 && world->events[0].at_us <= world->now_us) {
        struct world_event event = pop_event(world);
        if (event.to != NULL) {
            struct sim_link *link = event.to->link;
            end_arrive(event.to);
            link_unref(link);
        }
    }
    return true;
}

void world_run(struct world *world, uint64_t until_us)
{
    while (world_step(world, until_us) && world->failures == 0) {
    }
}

/* ---- life ---- */

void world_init(struct world *world, uint64_t seed, FILE *trace)
{
    *world = (struct world){.now_us = WORLD_FIRST_US, .next_port = FIRST_PORT, .trace = trace};
    rng_seed(&world->rng, seed);
    world->hash = UINT64_C(0xCBF29CE484222325);
    world->shape = (struct world_shape){.latency_min_us = 50, .latency_max_us = 50};
    list_init(&world->sockets);
    list_init(&world->ends);
}

void world_fini(struct world *world)
{
    while (world->event_count > 0) {
        struct world_event event = pop_event(world);
        if (event.to != NULL) {
            link_unref(event.to->link);
        }
    }
    while (!list_empty(&world->sockets)) {
        struct sim_socket *socket = LIST_ITEM(world->sockets.next, struct sim_socket, in_world);
        struct net_listener *base =
            &LIST_ITEM(socket->listeners.next, struct sim_listener, in_socket)->listener;
        base->ops->unlisten(&base);
    }
    while (world->event_count > 0) { /* of those resets */
        struct world_event event = pop_event(world);
        link_unref(event.to->link);
    }
    CHECK(list_empty(&world->ends));
    for (unsigned i = 0; i < world->host_count; i++) {
        loop_free(&world->hosts[i].loop);
    }
    mem_free(world->events);
}

struct pod *world_pod(struct world *world, const struct addr *ip)
{
    CHECK(world->pod_count < WORLD_PODS_MAX);
    struct pod *pod = &world->pods[world->pod_count++];
    *pod = (struct pod){.ip = *ip};
    return pod;
}

struct host *world_host(struct world *world, struct pod *pod, const char *name, bool sidecar)
{
    CHECK(world->host_count < WORLD_HOSTS_MAX);
    world->order[world->host_count] = (uint8_t)world->host_count;
    struct host *host = &world->hosts[world->host_count++];
    *host = (struct host){
        .world = world, .pod = pod, .name = name, .sidecar = sidecar, .next_us = UINT64_MAX};
    host->loop = loop_new_stepped(world_net(), host);
    world_touch(host);
    return host;
}

void world_touch(struct host *host)
{
    uint64_t next_us;
    (void)loop_step(host->loop, host->world->now_us, host->world->now_us + WORLD_WALL_OFFSET_US,
                    &next_us);
    host->next_us = 0;
}

void world_kill(struct world *world, const struct host *host)
{
    world_note(world, "killed", (uint64_t)(host - world->hosts), 0, 0);
    LIST_EACH(&world->ends, node)
    {
        struct end *end = LIST_ITEM(node, struct end, in_world);
        if (end->conn.loop != host->loop || end->dead) {
            continue;
        }
        bool unread = end->queue_at < end->queue_len || end->conn.connecting;
        if (unread || !end->shut) {
            end_finish(end, unread ? SEGMENT_RST : SEGMENT_FIN);
        }
        end_kill(end, NET_ERROR_RESET);
    }
}

void world_shape_at(struct world *world, const struct addr *at, const struct world_shape *shape)
{
    CHECK(shape->latency_min_us > 0);
    CHECK(world->shape_count < WORLD_SHAPES_MAX);
    world->shapes[world->shape_count].at = *at;
    world->shapes[world->shape_count++].shape = *shape;
}
