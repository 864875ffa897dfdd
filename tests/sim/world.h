#pragma once
/* A network in one process, in virtual time: the second table behind base/net.h. Pods hold hosts (a
 * stepped loop each: a sidecar's worker, or the applications and clients); connections between them
 * have latency, bandwidth and a window, lose their peer, are torn into short reads and writes,
 * refused, swallowed or reset. All of it is drawn from one seed, and every event goes into a trace
 * whose hash must be the same in a second run.
 *
 * What is modelled of TCP, because proxies depend on it: bytes and FIN arrive in order; bytes that
 * reach a closed end are answered with RST; closing with unread bytes sends RST; RST may or may not
 * destroy what was under way and what waits to be read; a half-closed connection goes on in its
 * other direction. Readiness is level-triggered, as epoll's: who leaves an event wanted and does
 * not take what is there is posted again each tick, and a world that spins at one instant fails.
 *
 * One thread. Nothing here is freed by the actors but their connections and listeners. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/net.h"
#include "base/rng.h"

/* How connections to one listening address behave. Rates are parts in a million. */
struct world_shape {
    uint32_t latency_min_us; /* one way; at least 1 */
    uint32_t latency_max_us;
    uint32_t us_per_kib;  /* bandwidth; 0: no limit */
    uint32_t room;        /* bytes under way and unread, each way; 0: no limit */
    uint32_t torn_max;    /* recv and send move 1 to so many bytes; 0: as many as there are */
    uint32_t refuse_ppm;  /* of connects: refused */
    uint32_t swallow_ppm; /* of connects: never answered */
    uint32_t reset_ppm;   /* of segments: the connection is torn down under way */
    uint32_t silence_ppm; /* of segments: nothing arrives any more, either way */
    bool gentle;          /* RST destroys nothing that was sent before it */
};

/* Who redirects what, as nftables would; ADDR_NONE: nothing. */
struct pod {
    struct addr ip;       /* the port is 0 */
    struct addr outbound; /* connects by its applications go there */
    struct addr inbound;  /* connects from elsewhere to its address go there */
    bool silent;          /* no segment of a connection from or to it arrives any more */
};

enum world_call { WORLD_CONNECT, WORLD_ACCEPT, WORLD_RECV, WORLD_SEND, WORLD_CALL_COUNT };

/* How a call to the kernel can fail, as base/net's table over sockets would tell it.
 * X(NAME, call, the kernel's word) */
#define WORLD_FAILINGS(X)                                                                          \
    X(CONNECT_LIMIT, CONNECT, "EMFILE")                                                            \
    X(CONNECT_UNREACHABLE, CONNECT, "ENETUNREACH")                                                 \
    X(CONNECT_REFUSED, CONNECT, "ECONNREFUSED")                                                    \
    X(CONNECT_TIMEOUT, CONNECT, "SO_ERROR ETIMEDOUT")                                              \
    X(ACCEPT_LIMIT, ACCEPT, "EMFILE")                                                              \
    X(ACCEPT_ABORTED, ACCEPT, "ECONNABORTED")                                                      \
    X(RECV_RESET, RECV, "ECONNRESET")                                                              \
    X(RECV_TIMEOUT, RECV, "ETIMEDOUT")                                                             \
    X(RECV_AGAIN, RECV, "EAGAIN, EINTR")                                                           \
    X(SEND_RESET, SEND, "ECONNRESET, EPIPE")                                                       \
    X(SEND_TIMEOUT, SEND, "ETIMEDOUT")                                                             \
    X(SEND_AGAIN, SEND, "EAGAIN, EINTR")

enum world_failing {
#define X(name, call, word) WORLD_FAIL_##name,
    WORLD_FAILINGS(X)
#undef X
        WORLD_FAILING_COUNT
};
enum world_call world_failing_call(enum world_failing failing);
const char *world_failing_name(enum world_failing failing);

struct world;

struct host {
    struct world *world;
    struct loop *loop;
    struct pod *pod;
    const char *name;
    bool sidecar; /* not redirected, and its calls are those that fail_at counts */
    uint64_t next_us;
};

#define WORLD_FIRST_US       UINT64_C(1000000)
#define WORLD_WALL_OFFSET_US UINT64_C(1790000000000000) /* wall time less virtual time */

#define WORLD_HOSTS_MAX  32
#define WORLD_SHAPES_MAX 32
#define WORLD_PODS_MAX   16

struct world_event;

struct world {
    struct rng rng;
    uint64_t now_us;
    uint64_t sequence;
    struct host hosts[WORLD_HOSTS_MAX];
    unsigned host_count;
    uint8_t order[WORLD_HOSTS_MAX]; /* in which they run, in this round */
    struct pod pods[WORLD_PODS_MAX];
    unsigned pod_count;
    struct list sockets;        /* that somebody listens on */
    struct list ends;           /* every end that somebody holds */
    struct world_event *events; /* a heap */
    size_t event_count;
    size_t event_cap;
    struct {
        struct addr at;
        struct world_shape shape;
    } shapes[WORLD_SHAPES_MAX];
    unsigned shape_count;
    struct world_shape shape; /* of all other addresses */
    uint16_t next_port;
    uint64_t next_link;
    unsigned quiet_rounds; /* rounds since time moved */
    /* Failing calls: call number fail_at (from 1) of that kind by a sidecar; 0: none. */
    enum world_failing fail_how;
    uint64_t fail_at;
    uint64_t calls[WORLD_CALL_COUNT];
    const struct host *failed; /* whose call failed; null: none did */
    struct addr failed_peer;   /* of the connection whose call failed; ADDR_NONE: none ended so */
    uint64_t hash;
    uint64_t notes;
    FILE *trace; /* null: only hashed */
    unsigned failures;
    char failure[512]; /* the first */
};

void world_init(struct world *world, uint64_t seed, FILE *trace);
/* Frees loops, and what nobody closed. */
void world_fini(struct world *world);

/* The pod's ip is a.b.c.d of `ip`; stays until world_fini. */
struct pod *world_pod(struct world *world, const struct addr *ip);
struct host *world_host(struct world *world, struct pod *pod, const char *name, bool sidecar);
/* Before its actors are given something to do from outside its loop: the loop learns what time it
 * is, and will look at its timers. */
void world_touch(struct host *host);
/* From now on, for connections that begin; the newest shape of an address wins. */
void world_shape_at(struct world *world, const struct addr *at, const struct world_shape *shape);

/* The process of that loop is gone: its sockets are closed by the kernel, with FIN or RST. What its
 * code still holds is dead, and is to be freed. */
void world_kill(struct world *world, const struct host *host);

/* Moves time to the next thing that happens, not beyond `until_us`, and lets everything run that
 * can. False when nothing is left to happen before then; time is `until_us` afterwards. */
bool world_step(struct world *world, uint64_t until_us);
void world_run(struct world *world, uint64_t until_us);

/* A line of the trace. */
void world_note(struct world *world, const char *what, uint64_t a, uint64_t b, uint64_t c);
/* An oracle says no: the run fails; the first text is kept. */
void world_fail(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);

static inline bool world_chance(struct world *world, uint32_t ppm)
{
    return ppm > 0 && rng_below(&world->rng, 1000000) < ppm;
}
static inline uint64_t world_between(struct world *world, uint64_t low, uint64_t high)
{
    return low + rng_below(&world->rng, high - low + 1);
}
