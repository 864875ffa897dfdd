/* A connection is a link with two ends. What one end sends becomes a segment on its way to the
 * other; a heap of events says when the next segment of which end arrives. SYN, its answers and
 * freed window are segments too, so that everything between two hosts goes one way and in order.
 *
 * Refused: a real TCP (loss, retransmission): the sidecar cannot see them through recv and send but
 * as delay and reset, which are here. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"

#define ROUNDS_MAX      200000U
#define FIRST_TIME_US   UINT64_C(1000000)
#define WALL_OFFSET_US  UINT64_C(1790000000000000)
#define FIRST_PORT      20000
#define ACCEPT_RETRY_US 1000

enum segment_kind {
    SEGMENT_SYN,
    SEGMENT_ESTABLISHED,
    SEGMENT_REFUSED,
    SEGMENT_DATA,
    SEGMENT_ROOM, /* the peer has read: its window is open again */
    SEGMENT_FIN,
    SEGMENT_RST
};

static const char *const segment_names[] = {"syn",  "established", "refused", "data",
                                            "room", "fin",         "rst"};

struct segment {
    struct list link; /* in end->arriving */
    enum segment_kind kind;
    size_t len;
    uint8_t bytes[];
};

struct sim_link;

struct end {
    struct net_conn conn;
    struct list in_world; /* in world->ends while held */
    struct sim_link *link;
    struct list arriving;
    uint8_t *queue; /* arrived, not read */
    size_t queue_at;
    size_t queue_len; /* end of what arrived */
    size_t queue_cap;
    size_t under_way; /* bytes in `arriving` */
    uint64_t last_at_us;
    struct addr addr;
    enum net_error error;
    bool held;        /* has an owner, or waits in a backlog */
    bool established; /* a connect that was answered, either way */
    bool fin;         /* the peer's has arrived */
    bool dead;        /* reset */
    bool shut;        /* our FIN is sent */
    bool blocked;     /* wants SEGMENT_ROOM */
};

struct sim_link {
    struct world *world;
    struct end end[2]; /* who connected, who accepted */
    struct list backlog;
    struct world_shape shape;
    struct addr to;       /* where it goes, behind redirects */
    struct addr original; /* where it meant to go */
    uint64_t number;
    unsigned references; /* held ends and events */
    bool silent;
};

struct sim_listener {
    struct net_listener listener;
    struct list in_world;
    struct list backlog;
    struct addr addr;
    uint64_t failed_until_us; /* accept failed: tried again then */
    bool accepting;
};

struct world_event {
    uint64_t at_us;
    uint64_t sequence;
    struct end *to; /* null: only a time to wake at */
};

static const struct net_ops world_ops;

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

static void push_event(struct world *world, uint64_t at_us, struct end *to)
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

/* ---- links ---- */

static struct end *end_of(struct net_conn *conn)
{
    return CONTAINER_OF(conn, struct end, conn);
}

static struct end *peer_of(const struct end *end)
{
    struct sim_link *link = end->link;
    return end == &link->end[0] ? &link->end[1] : &link->end[0];
}

static unsigned side_of(const struct end *end)
{
    return end == &end->link->end[1];
}

static void drop_segments(struct end *end)
{
    for (struct list *node = list_pop(&end->arriving); node != NULL;
         node = list_pop(&end->arriving)) {
        mem_free(LIST_ITEM(node, struct segment, link));
    }
    end->under_way = 0;
}

static void unref_link(struct sim_link *link)
{
    CHECK(link->references > 0);
    if (--link->references > 0) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        drop_segments(&link->end[i]);
        mem_free(link->end[i].queue);
    }
    mem_free(link);
}

static void hold(struct end *end)
{
    CHECK(!end->held);
    end->held = true;
    end->link->references++;
    list_append(&end->link->world->ends, &end->in_world);
}

static void let_go(struct end *end)
{
    CHECK(end->held);
    end->held = false;
    end->conn.owner = NULL;
    list_remove(&end->in_world);
    unref_link(end->link);
}

static uint64_t latency(struct world *world, const struct world_shape *shape)
{
    return world_between(world, shape->latency_min_us, shape->latency_max_us);
}

/* Something on its way to `to`; it arrives behind what is under way already. */
static struct segment *send_segment(struct end *to, enum segment_kind kind, size_t len)
{
    struct sim_link *link = to->link;
    struct world *world = link->world;
    struct segment *segment = mem_raw(sizeof *segment + len);
    *segment = (struct segment){.kind = kind, .len = len};
    uint64_t at_us = world->now_us + latency(world, &link->shape);
    at_us = at_us < to->last_at_us ? to->last_at_us : at_us;
    at_us += link->shape.us_per_kib * (uint64_t)len / 1024;
    to->last_at_us = at_us;
    to->under_way += len;
    list_append(&to->arriving, &segment->link);
    push_event(world, at_us, to);
    return segment;
}

static void kill_end(struct end *end)
{
    if (end->dead) {
        return;
    }
    end->dead = true;
    end->error = NET_ERROR_RESET;
    if (rng_below(&end->link->world->rng, 2) == 0) {
        end->queue_at = end->queue_len; /* what was not read is lost, or not */
    }
}

static struct sim_listener *find_listener(struct world *world, const struct addr *to)
{
    LIST_EACH(&world->listeners, node)
    {
        struct sim_listener *listener = LIST_ITEM(node, struct sim_listener, in_world);
        if (addr_eq(&listener->addr, to)) {
            return listener;
        }
    }
    return NULL;
}

static void arrive_syn(struct end *end)
{
    struct sim_link *link = end->link;
    struct world *world = link->world;
    struct sim_listener *listener = find_listener(world, &link->to);
    if (world_chance(world, link->shape.swallow_ppm)) {
        link->silent = true;
        return;
    }
    if (listener == NULL || world_chance(world, link->shape.refuse_ppm)) {
        (void)send_segment(peer_of(end), SEGMENT_REFUSED, 0);
        return;
    }
    end->conn.loop = listener->listener.loop;
    hold(end);
    list_append(&listener->backlog, &link->backlog);
    (void)send_segment(peer_of(end), SEGMENT_ESTABLISHED, 0);
}

static void arrive_data(struct end *end, const struct segment *segment)
{
    struct world *world = end->link->world;
    end->under_way -= segment->len;
    if (!end->held) {
        (void)send_segment(peer_of(end), SEGMENT_RST, 0); /* RFC 9293 3.10.7.1 */
        return;
    }
    if (world_chance(world, end->link->shape.reset_ppm)) {
        world_note(world, "torn down", end->link->number, side_of(end), 0);
        kill_end(&end->link->end[0]);
        kill_end(&end->link->end[1]);
        return;
    }
    if (end->dead) {
        return;
    }
    if (end->queue_at == end->queue_len) {
        end->queue_at = 0;
        end->queue_len = 0;
    }
    if (end->queue_len + segment->len > end->queue_cap) {
        end->queue_cap = 2 * (end->queue_len + segment->len);
        end->queue = mem_resize(end->queue, end->queue_cap);
    }
    (void)memcpy(end->queue + end->queue_len, segment->bytes, segment->len);
    end->queue_len += segment->len;
}

static void arrive(struct end *end)
{
    struct sim_link *link = end->link;
    struct world *world = link->world;
    struct list *node = list_pop(&end->arriving);
    if (node == NULL) {
        return; /* dropped by a reset */
    }
    struct segment *segment = LIST_ITEM(node, struct segment, link);
    if (!link->silent && segment->kind == SEGMENT_DATA &&
        world_chance(world, link->shape.silence_ppm)) {
        link->silent = true;
    }
    world_note(world, link->silent ? "lost" : segment_names[segment->kind], link->number,
               side_of(end), segment->len);
    if (link->silent) {
        end->under_way -= segment->len;
        mem_free(segment);
        return;
    }
    switch (segment->kind) {
    case SEGMENT_SYN:
        arrive_syn(end);
        break;
    case SEGMENT_ESTABLISHED:
        end->established = true;
        break;
    case SEGMENT_REFUSED:
        end->established = true;
        end->dead = true;
        end->error = NET_ERROR_REFUSED;
        break;
    case SEGMENT_DATA:
        arrive_data(end, segment);
        break;
    case SEGMENT_ROOM:
        end->blocked = false;
        break;
    case SEGMENT_FIN:
        end->fin = true;
        break;
    case SEGMENT_RST:
        kill_end(end);
        break;
    }
    mem_free(segment);
}

/* ---- the table ---- */

static struct world *world_of(const struct loop *loop)
{
    return ((struct host *)loop->world)->world;
}

/* Whether this call is the one that fails. */
static bool fails(const struct loop *loop, enum world_call call)
{
    const struct host *host = loop->world;
    struct world *world = host->world;
    if (!host->sidecar) {
        return false;
    }
    world->calls[call]++;
    bool now =
        world->fail_at != 0 && world->fail_call == call && world->calls[call] == world->fail_at;
    if (now) {
        world_note(world, "call fails", call, world->fail_at, 0);
    }
    return now;
}

static struct net_listener *sim_listen(struct loop *loop, const struct addr *at, int backlog,
                                       struct error *err)
{
    struct world *world = world_of(loop);
    (void)backlog;
    if (find_listener(world, at) != NULL) {
        (void)error_set(err, "listen: address in use");
        return NULL;
    }
    struct sim_listener *listener = NEW(struct sim_listener);
    listener->listener = (struct net_listener){.ops = &world_ops, .loop = loop};
    listener->addr = *at;
    list_init(&listener->backlog);
    list_append(&world->listeners, &listener->in_world);
    return &listener->listener;
}

static void sim_local(const struct net_listener *base, struct addr *addr)
{
    *addr = CONTAINER_OF_CONST(base, struct sim_listener, listener)->addr;
}

static void sim_accepting(struct net_listener *base, bool accepting)
{
    CONTAINER_OF(base, struct sim_listener, listener)->accepting = accepting;
}

static void end_send(struct end *end, enum segment_kind kind);

static void sim_unlisten(struct net_listener **base)
{
    struct sim_listener *listener = CONTAINER_OF(*base, struct sim_listener, listener);
    for (struct list *node = list_pop(&listener->backlog); node != NULL;
         node = list_pop(&listener->backlog)) {
        struct sim_link *link = LIST_ITEM(node, struct sim_link, backlog);
        end_send(&link->end[1], SEGMENT_RST);
        let_go(&link->end[1]);
    }
    list_remove(&listener->in_world);
    mem_free(listener);
    *base = NULL;
}

static void redirect(const struct host *host, struct sim_link *link)
{
    const struct world *world = host->world;
    if (!host->sidecar && host->pod->outbound.family != ADDR_NONE) {
        link->to = host->pod->outbound;
        return;
    }
    for (unsigned i = 0; i < world->pod_count; i++) {
        const struct pod *pod = &world->pods[i];
        bool from_elsewhere = pod != host->pod;
        if (pod->inbound.family != ADDR_NONE && from_elsewhere && addr_ip_eq(&pod->ip, &link->to)) {
            link->to = pod->inbound;
            return;
        }
    }
}

static const struct world_shape *shape_of(const struct world *world, const struct addr *to)
{
    for (unsigned i = world->shape_count; i-- > 0;) {
        if (addr_eq(&world->shapes[i].at, to)) {
            return &world->shapes[i].shape;
        }
    }
    return &world->shape;
}

static struct net_conn *sim_connect(struct loop *loop, const struct addr *to,
                                    const struct addr *from, enum net_error *error)
{
    struct host *host = loop->world;
    struct world *world = host->world;
    if (fails(loop, WORLD_CONNECT)) {
        *error = NET_ERROR_LIMIT;
        return NULL;
    }
    struct sim_link *link = NEW(struct sim_link);
    link->world = world;
    link->number = ++world->next_link;
    link->to = *to;
    link->original = *to;
    redirect(host, link);
    link->shape = *shape_of(world, &link->to);
    for (unsigned i = 0; i < 2; i++) {
        struct end *end = &link->end[i];
        end->link = link;
        end->conn = (struct net_conn){.ops = &world_ops, .loop = loop, .wanted = NET_READ};
        list_init(&end->arriving);
    }
    struct end *end = &link->end[0];
    end->addr = from != NULL ? *from : host->pod->ip;
    end->addr.port = world->next_port++;
    link->end[1].addr = *to;
    link->end[1].established = true;
    end->conn.connecting = true;
    end->conn.wanted = NET_READ | NET_WRITE;
    hold(end);
    world_note(world, "connect", link->number, to->ip[3], to->port);
    (void)send_segment(&link->end[1], SEGMENT_SYN, 0);
    *error = NET_ERROR_NONE;
    return &end->conn;
}

static struct net_conn *sim_accept(struct net_listener *base)
{
    struct sim_listener *listener = CONTAINER_OF(base, struct sim_listener, listener);
    struct world *world = world_of(base->loop);
    if (list_empty(&listener->backlog)) {
        return NULL;
    }
    if (fails(base->loop, WORLD_ACCEPT)) {
        listener->failed_until_us = world->now_us + ACCEPT_RETRY_US;
        push_event(world, listener->failed_until_us, NULL);
        return NULL;
    }
    struct sim_link *link = LIST_ITEM(listener->backlog.next, struct sim_link, backlog);
    list_remove(&link->backlog);
    world_note(world, "accept", link->number, 0, 0);
    return &link->end[1].conn;
}

static size_t torn(struct end *end, size_t len)
{
    uint32_t most = end->link->shape.torn_max;
    if (most == 0 || len <= 1) {
        return len;
    }
    return (size_t)world_between(end->link->world, 1, most < len ? most : len);
}

static enum io sim_recv(struct net_conn *conn, struct span into, size_t *got)
{
    struct end *end = end_of(conn);
    *got = 0;
    CHECK(into.len > 0);
    if (fails(conn->loop, WORLD_RECV)) {
        kill_end(end);
        end->queue_at = end->queue_len;
        end_send(end, SEGMENT_RST);
        return IO_RESET;
    }
    size_t waiting = end->queue_len - end->queue_at;
    if (waiting > 0) {
        size_t part = torn(end, waiting < into.len ? waiting : into.len);
        (void)memcpy(into.at, end->queue + end->queue_at, part);
        end->queue_at += part;
        *got = part;
        if (part < into.len) {
            conn->ready &= (uint8_t)~NET_READ;
        }
        struct end *peer = peer_of(end);
        if (peer->blocked) {
            (void)send_segment(peer, SEGMENT_ROOM, 0);
        }
        return IO_OK;
    }
    if (end->dead) {
        return IO_RESET;
    }
    if (end->fin) {
        return IO_EOF;
    }
    conn->ready &= (uint8_t)~NET_READ;
    return IO_AGAIN;
}

static size_t room_of(const struct end *end)
{
    const struct end *peer = peer_of(end);
    size_t most = end->link->shape.room;
    size_t used = peer->under_way + (peer->queue_len - peer->queue_at);
    if (most == 0) {
        return SIZE_MAX;
    }
    return used < most ? most - used : 0;
}

static enum io sim_send(struct net_conn *conn, const struct iovec *vectors, int count, size_t *sent)
{
    struct end *end = end_of(conn);
    size_t len = 0;
    *sent = 0;
    CHECK(!end->shut || end->dead);
    if (fails(conn->loop, WORLD_SEND)) {
        kill_end(end);
        end_send(end, SEGMENT_RST);
        return IO_RESET;
    }
    if (end->dead) {
        return IO_RESET;
    }
    for (int i = 0; i < count; i++) {
        len += vectors[i].iov_len;
    }
    CHECK(len > 0);
    size_t room = room_of(end);
    if (room == 0 || conn->connecting) {
        end->blocked = room == 0;
        conn->ready &= (uint8_t)~NET_WRITE;
        return IO_AGAIN;
    }
    len = torn(end, len < room ? len : room);
    struct segment *segment = send_segment(peer_of(end), SEGMENT_DATA, len);
    uint64_t sum = 0;
    for (int i = 0; i < count && *sent < len; i++) {
        size_t part = vectors[i].iov_len < len - *sent ? vectors[i].iov_len : len - *sent;
        (void)memcpy(segment->bytes + *sent, vectors[i].iov_base, part);
        *sent += part;
    }
    for (size_t i = 0; i < len; i++) {
        sum = sum * 31 + segment->bytes[i];
    }
    world_note(end->link->world, "send", end->link->number, side_of(end), sum);
    return IO_OK;
}

static bool sim_original_dst(const struct net_conn *conn, struct addr *addr)
{
    const struct end *end = CONTAINER_OF_CONST(conn, struct end, conn);
    *addr = end->link->original;
    return true;
}

static void sim_want(struct net_conn *conn, unsigned events)
{
    conn->wanted = (uint8_t)events;
}

/* FIN or RST, once; RST may destroy what is still under way. */
static void end_send(struct end *end, enum segment_kind kind)
{
    struct end *peer = peer_of(end);
    bool destroys =
        kind == SEGMENT_RST && rng_below(&end->link->world->rng, 2) == 0 && !end->conn.connecting;
    if (destroys) {
        drop_segments(peer);
    }
    (void)send_segment(peer, kind, 0);
    end->shut = true;
}

static void sim_shutdown_send(struct net_conn *conn)
{
    struct end *end = end_of(conn);
    CHECK(!end->shut || end->dead);
    if (!end->dead) {
        end_send(end, SEGMENT_FIN);
    }
    end->shut = true;
}

static void sim_reset(struct net_conn **conn)
{
    struct end *end = end_of(*conn);
    *conn = NULL;
    world_note(end->link->world, "reset", end->link->number, side_of(end), 0);
    if (!end->dead) {
        end_send(end, SEGMENT_RST);
    }
    let_go(end);
}

static void sim_close(struct net_conn **conn)
{
    struct end *end = end_of(*conn);
    *conn = NULL;
    bool unread = end->queue_at < end->queue_len;
    world_note(end->link->world, "close", end->link->number, side_of(end), unread);
    if (!end->dead && (unread || end->conn.connecting)) {
        end_send(end, SEGMENT_RST);
    } else if (!end->dead && !end->shut) {
        end_send(end, SEGMENT_FIN);
    }
    let_go(end);
}

static void sim_detach(struct net_conn *conn)
{
    conn->loop = NULL;
    conn->owner = NULL;
    conn->ready = 0;
}

static void sim_adopt(struct loop *loop, struct net_conn *conn)
{
    CHECK(conn->loop == NULL);
    conn->loop = loop;
    conn->wanted = NET_READ;
}

static void sim_addrs(const struct net_conn *conn, struct addr *local, struct addr *peer)
{
    const struct end *end = CONTAINER_OF_CONST(conn, struct end, conn);
    if (local != NULL) {
        *local = side_of(end) == 1 ? end->link->to : end->addr;
    }
    if (peer != NULL) {
        *peer = peer_of(end)->addr;
    }
}

static void sim_set_option(struct net_conn *conn, enum net_option option, int value)
{
    (void)conn;
    (void)option;
    (void)value;
}

static enum net_error sim_error(const struct net_conn *conn)
{
    return CONTAINER_OF_CONST(conn, struct end, conn)->error;
}

static const struct net_ops world_ops = {
    .listen = sim_listen,
    .local = sim_local,
    .accepting = sim_accepting,
    .unlisten = sim_unlisten,
    .connect = sim_connect,
    .accept = sim_accept,
    .recv = sim_recv,
    .send = sim_send,
    .original_dst = sim_original_dst,
    .want = sim_want,
    .shutdown_send = sim_shutdown_send,
    .reset = sim_reset,
    .close = sim_close,
    .detach = sim_detach,
    .adopt = sim_adopt,
    .addrs = sim_addrs,
    .set_option = sim_set_option,
    .error = sim_error,
};

/* ---- time ---- */

/* What epoll would report, to who wants it. */
static unsigned events_of(const struct end *end)
{
    if (end->conn.connecting) {
        return end->established ? NET_READ | NET_WRITE : 0;
    }
    bool readable = end->queue_at < end->queue_len || end->fin || end->dead;
    bool writable = end->dead || (room_of(end) > 0 && !end->blocked);
    return (readable ? NET_READ : 0U) | (writable ? NET_WRITE : 0U);
}

static void announce(struct world *world)
{
    LIST_EACH(&world->ends, node)
    {
        struct end *end = LIST_ITEM(node, struct end, in_world);
        unsigned events = events_of(end) & end->conn.wanted;
        if (events == 0 || end->conn.owner == NULL) {
            continue;
        }
        if ((events & NET_WRITE) != 0) {
            end->conn.connecting = false;
        }
        end->conn.ready |= (uint8_t)events;
        loop_post(end->conn.loop, end->conn.owner);
    }
    LIST_EACH(&world->listeners, node)
    {
        struct sim_listener *listener = LIST_ITEM(node, struct sim_listener, in_world);
        if (listener->accepting && !list_empty(&listener->backlog) &&
            world->now_us >= listener->failed_until_us) {
            loop_post(listener->listener.loop, listener->listener.owner);
        }
    }
}

static bool run_round(struct world *world)
{
    bool any = false;
    unsigned first = (unsigned)rng_below(&world->rng, world->host_count);
    announce(world);
    for (unsigned i = 0; i < world->host_count; i++) {
        struct host *host = &world->hosts[(first + i) % world->host_count];
        any |= loop_step(host->loop, world->now_us, world->now_us + WALL_OFFSET_US, &host->next_us);
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
        if ((events_of(end) & end->conn.wanted) != 0 && end->conn.owner != NULL) {
            who = ((const struct host *)end->conn.loop->world)->name;
            link = end->link->number;
            events = events_of(end) & end->conn.wanted;
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
            arrive(event.to);
            unref_link(link);
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
    *world = (struct world){.now_us = FIRST_TIME_US, .next_port = FIRST_PORT, .trace = trace};
    rng_seed(&world->rng, seed);
    world->hash = UINT64_C(0xCBF29CE484222325);
    world->shape = (struct world_shape){.latency_min_us = 50, .latency_max_us = 50};
    list_init(&world->listeners);
    list_init(&world->ends);
}

void world_fini(struct world *world)
{
    while (world->event_count > 0) {
        struct world_event event = pop_event(world);
        if (event.to != NULL) {
            unref_link(event.to->link);
        }
    }
    LIST_EACH(&world->listeners, node)
    {
        struct net_listener *base = &LIST_ITEM(node, struct sim_listener, in_world)->listener;
        sim_unlisten(&base);
    }
    while (world->event_count > 0) { /* of those resets */
        struct world_event event = pop_event(world);
        unref_link(event.to->link);
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
    struct host *host = &world->hosts[world->host_count++];
    *host = (struct host){
        .world = world, .pod = pod, .name = name, .sidecar = sidecar, .next_us = UINT64_MAX};
    host->loop = loop_new_stepped(&world_ops, host);
    uint64_t next_us;
    (void)loop_step(host->loop, world->now_us, world->now_us + WALL_OFFSET_US, &next_us);
    return host;
}

void world_shape_at(struct world *world, const struct addr *at, const struct world_shape *shape)
{
    CHECK(shape->latency_min_us > 0);
    CHECK(world->shape_count < WORLD_SHAPES_MAX);
    world->shapes[world->shape_count].at = *at;
    world->shapes[world->shape_count++].shape = *shape;
}
