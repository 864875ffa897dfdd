#pragma once
/* A connection of the simulated network: a link with two ends. What one end sends becomes a segment
 * on its way to the other; the world's heap of events says when the next segment of which end
 * arrives. SYN, its answers and freed window are segments too, so that everything between two hosts
 * goes one way and in order. For world.c and net.c. */

#include "tests/sim/world.h"

enum segment_kind {
    SEGMENT_SYN,
    SEGMENT_ESTABLISHED,
    SEGMENT_REFUSED,
    SEGMENT_DATA,
    SEGMENT_ROOM, /* the peer has read: its window is open again */
    SEGMENT_FIN,
    SEGMENT_RST
};

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
    struct addr to;            /* where it goes, behind redirects */
    struct addr original;      /* where it meant to go */
    const struct pod *pods[2]; /* of both ends; null: nobody's */
    uint64_t number;
    unsigned references; /* held ends and events */
    bool silent;
};

/* A listening socket; one or more loops take from its backlog. */
struct sim_socket {
    struct list in_world;
    struct list backlog;
    struct list listeners;
    struct addr addr;
};

struct sim_listener {
    struct net_listener listener;
    struct list in_socket;
    struct sim_socket *socket;
    uint64_t failed_until_us; /* accept failed: tried again then */
    bool accepting;
};

static inline struct end *end_of(struct net_conn *conn)
{
    return CONTAINER_OF(conn, struct end, conn);
}

static inline struct end *peer_of(const struct end *end)
{
    struct sim_link *link = end->link;
    return end == &link->end[0] ? &link->end[1] : &link->end[0];
}

/* 0: who connected. */
static inline unsigned side_of(const struct end *end)
{
    return end == &end->link->end[1];
}

/* An end that somebody holds keeps its link; so does each event. */
void end_hold(struct end *end);
void end_let_go(struct end *end);
void link_unref(struct sim_link *link);

/* Something on its way to `to`; it arrives behind what is under way already. */
struct segment *end_deliver(struct end *to, enum segment_kind kind, size_t len);
/* FIN or RST to the peer, once; RST may destroy what is still under way. */
void end_finish(struct end *end, enum segment_kind kind);
/* It was reset: what was not read is lost, or not. */
void end_kill(struct end *end, enum net_error error);
/* The event of its next segment has come. */
void end_arrive(struct end *end);
/* Bytes that it may send now. */
size_t end_room(const struct end *end);
/* What epoll would report of it. */
unsigned end_events(const struct end *end);

struct sim_socket *socket_find(struct world *world, const struct addr *at);

/* ---- of world.c ---- */

/* `to` gets its next segment then; null: only a time to wake at. */
void world_at(struct world *world, uint64_t at_us, struct end *to);

/* The table itself. */
const struct net_ops *world_net(void);
