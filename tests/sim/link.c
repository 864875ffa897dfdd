#include "tests/sim/link.h"

#include <string.h>

#include "base/alloc.h"

static const char *const segment_names[] = {"syn",  "established", "refused", "data",
                                            "room", "fin",         "rst"};

static void drop_segments(struct end *end)
{
    for (struct list *node = list_pop(&end->arriving); node != NULL;
         node = list_pop(&end->arriving)) {
        mem_free(LIST_ITEM(node, struct segment, link));
    }
    end->under_way = 0;
}

void link_unref(struct sim_link *link)
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

void end_hold(struct end *end)
{
    CHECK(!end->held);
    end->held = true;
    end->link->references++;
    list_append(&end->link->world->ends, &end->in_world);
}

void end_let_go(struct end *end)
{
    CHECK(end->held);
    end->held = false;
    end->conn.owner = NULL;
    list_remove(&end->in_world);
    link_unref(end->link);
}

static uint64_t latency(struct world *world, const struct world_shape *shape)
{
    return world_between(world, shape->latency_min_us, shape->latency_max_us);
}

struct segment *end_deliver(struct end *to, enum segment_kind kind, size_t len)
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
    world_at(world, at_us, to);
    return segment;
}

void end_kill(struct end *end, enum net_error error)
{
    if (end->dead) {
        return;
    }
    end->dead = true;
    end->error = error;
    if (!end->link->shape.gentle && rng_below(&end->link->world->rng, 2) == 0) {
        end->queue_at = end->queue_len; /* what was not read is lost, or not */
    }
}

struct sim_socket *socket_find(struct world *world, const struct addr *at)
{
    LIST_EACH(&world->sockets, node)
    {
        struct sim_socket *socket = LIST_ITEM(node, struct sim_socket, in_world);
        if (addr_eq(&socket->addr, at)) {
            return socket;
        }
    }
    return NULL;
}

static void arrive_syn(struct end *end)
{
    struct sim_link *link = end->link;
    struct world *world = link->world;
    struct sim_socket *socket = socket_find(world, &link->to);
    if (world_chance(world, link->shape.swallow_ppm)) {
        link->silent = true;
        return;
    }
    if (socket == NULL || world_chance(world, link->shape.refuse_ppm)) {
        (void)end_deliver(peer_of(end), SEGMENT_REFUSED, 0);
        return;
    }
    end->conn.loop = NULL; /* whose it is shows at accept */
    end_hold(end);
    list_append(&socket->backlog, &link->backlog);
    (void)end_deliver(peer_of(end), SEGMENT_ESTABLISHED, 0);
}

static void arrive_data(struct end *end, const struct segment *segment)
{
    struct world *world = end->link->world;
    end->under_way -= segment->len;
    if (!end->held) {
        (void)end_deliver(peer_of(end), SEGMENT_RST, 0); /* RFC 9293 3.10.7.1 */
        return;
    }
    if (world_chance(world, end->link->shape.reset_ppm)) {
        world_note(world, "torn down", end->link->number, side_of(end), 0);
        end_kill(&end->link->end[0], NET_ERROR_RESET);
        end_kill(&end->link->end[1], NET_ERROR_RESET);
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

void end_arrive(struct end *end)
{
    struct sim_link *link = end->link;
    struct world *world = link->world;
    struct list *node = list_pop(&end->arriving);
    if (node == NULL) {
        return; /* dropped by a reset */
    }
    struct segment *segment = LIST_ITEM(node, struct segment, link);
    bool falls_silent = (link->pods[0] != NULL && link->pods[0]->silent) ||
                        (link->pods[1] != NULL && link->pods[1]->silent) ||
                        (segment->kind == SEGMENT_DATA && !link->silent &&
                         world_chance(world, link->shape.silence_ppm));
    link->silent = link->silent || falls_silent;
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
        end->established = true; /* a connect that waits for its answer has one now */
        end_kill(end, NET_ERROR_RESET);
        break;
    }
    mem_free(segment);
}

size_t end_room(const struct end *end)
{
    const struct end *peer = peer_of(end);
    size_t most = end->link->shape.room;
    size_t used = peer->under_way + (peer->queue_len - peer->queue_at);
    if (most == 0) {
        return SIZE_MAX;
    }
    return used < most ? most - used : 0;
}

void end_finish(struct end *end, enum segment_kind kind)
{
    struct end *peer = peer_of(end);
    bool destroys = kind == SEGMENT_RST && !end->link->shape.gentle &&
                    rng_below(&end->link->world->rng, 2) == 0 && !end->conn.connecting;
    if (destroys) {
        drop_segments(peer);
    }
    (void)end_deliver(peer, kind, 0);
    end->shut = true;
}

unsigned end_events(const struct end *end)
{
    if (end->conn.connecting) {
        return end->established ? NET_READ | NET_WRITE : 0;
    }
    bool readable = end->queue_at < end->queue_len || end->fin || end->dead;
    bool writable = end->dead || (end_room(end) > 0 && !end->blocked);
    return (readable ? NET_READ : 0U) | (writable ? NET_WRITE : 0U);
}
