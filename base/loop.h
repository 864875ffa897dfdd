#pragma once
/* One thread's loop: what is ready runs, once, in this order of a tick: events mark what is ready
 * and post its owner's task; posted tasks run until none is left; flush tasks run (output of the
 * whole tick leaves in one call); what was buried is freed; then the loop blocks. Nothing below a
 * task calls up into it: a codec, pool or timer posts. libev stands behind it; the simulator steps
 * the same loop over its own net table and time.
 *
 * A loop, its timers and tasks belong to one thread. loop_send alone may be called from any. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/net.h"

struct ev_loop;
struct loop;

/* Something that runs when it is woken. Embedded in its owner; zeroed before first use. */
struct task {
    struct list link; /* in the loop's queue while it waits to run */
    void (*run)(struct task *);
};

/* Freed at the end of the tick. Embedded in what is freed. */
struct grave {
    struct list link;
    void (*free)(struct grave *);
};

/* One deadline of its owner. Moving it later is free: the wheel finds out when the old time comes.
 */
struct timer {
    struct list link;
    uint64_t at_us;    /* the deadline; 0: none */
    uint64_t wheel_us; /* the time under which it is filed; at most at_us where that is set */
    struct task *task; /* posted at the deadline, which stays set until timer_clear */
};

/* A message to another loop. The sender gives it away; deliver runs on the receiver's thread. */
struct mail {
    struct mail *next;
    void (*deliver)(struct mail *, struct loop *);
};

#define LOOP_WHEEL_LEVELS 5
#define LOOP_WHEEL_SLOTS  64
#define LOOP_RECV_BYTES   65536

struct loop {
    uint64_t now_us;  /* monotonic; one value per tick */
    uint64_t wall_us; /* Unix time of this tick */
    struct list posted;
    struct list later; /* posted for the next tick */
    struct list flushes;
    struct list graves;
    struct arena_pool arenas;
    struct buf_pool bufs;
    const struct net_ops *net;
    void *world; /* the simulator's; null over sockets */
    _Atomic(struct mail *) inbox;
    /* Timer wheel: level L has slots of 64^L ms. */
    struct list slots[LOOP_WHEEL_LEVELS][LOOP_WHEEL_SLOTS];
    uint64_t occupied[LOOP_WHEEL_LEVELS];
    uint64_t wheel_ms;      /* all slots before it have been looked at */
    uint64_t next_ms;       /* when a slot has to be looked at next; UINT64_MAX: all are empty */
    int64_t wall_ahead_us;  /* how far Unix time is before the monotonic clock */
    uint64_t wall_asked_us; /* when that was found out */
    /* libev, null in the simulator. */
    struct ev_loop *ev;
    struct loop_ev *parts; /* watchers of the loop itself */
    uint8_t *recv_buffer;
    bool stopped;
};

/* A loop over sockets. Never null: what it cannot get at start (an epoll or event fd) ends the
 * process. */
struct loop *loop_new(void) MUST_USE;
/* A loop for the simulator: time and readiness come from loop_step's caller. */
struct loop *loop_new_stepped(const struct net_ops *net, void *world) MUST_USE;
void loop_free(struct loop **loop);

/* Runs until loop_stop. */
void loop_run(struct loop *loop);
/* Ends loop_run after this tick; own thread (others: send a mail that calls it). */
void loop_stop(struct loop *loop);
/* Runs what is posted and frees what is buried until nothing is left, without looking at time or
 * events. For the end of a program or a test. */
void loop_drain(struct loop *loop);
/* One tick at `now_us` without blocking, for stepped loops. *next_us: when it has to run again at
 * the latest (UINT64_MAX: only for events). False when there was nothing to do. */
bool loop_step(struct loop *loop, uint64_t now_us, uint64_t wall_us, uint64_t *next_us);

/* Runs the task later in this tick (or the next, from outside one); once, however often it is
 * posted. */
void loop_post(struct loop *loop, struct task *task);
/* As loop_post, but before everything else that waits. */
void loop_post_next(struct loop *loop, struct task *task);
/* Runs the task in the next tick, which comes without blocking: for what may have work without end,
 * so that it takes turns with what else happens. Posting it meanwhile does not bring it forward. */
void loop_post_later(struct loop *loop, struct task *task);
/* Runs the task when nothing posted is left, before the loop blocks. */
void loop_flush_later(struct loop *loop, struct task *task);
/* Takes the task out of every queue. */
static inline void task_cancel(struct task *task)
{
    list_remove(&task->link);
}
/* Calls grave->free at the end of the tick; nobody else may free it. */
void loop_bury(struct loop *loop, struct grave *grave);

/* Sets the deadline (absolute, monotonic µs, not 0); later deadlines cost nothing. */
void timer_set(struct loop *loop, struct timer *timer, uint64_t at_us);
/* Takes it out of the wheel: at the latest before its memory goes. */
void timer_clear(struct timer *timer);
/* No deadline until it is set again, which will be soon: it stays filed, so that both cost nothing.
 */
static inline void timer_pause(struct timer *timer)
{
    timer->at_us = 0;
}
static inline bool timer_due(const struct timer *timer, const struct loop *loop)
{
    return timer->at_us != 0 && loop->now_us >= timer->at_us;
}

/* Any thread: gives the mail to `to`. */
void loop_send(struct loop *to, struct mail *mail);

/* The thread's one receive buffer. What was borrowed from it (buf_borrow) is settled by this call,
 * so the whole of it may be written. Its contents are good until the next call. */
struct span loop_recv_span(struct loop *loop);

/* Foreign descriptors, for c-ares, curl and inotify only (lint holds the list). Not in stepped
 * loops. */
struct loop_watch;
struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned read_write,
                                  struct task *task) MUST_USE;
/* Events since the last call. */
unsigned loop_watch_ready(struct loop_watch *watch);
void loop_watch_free(struct loop_watch **watch);
/* Posts the task when the process gets the signal. */
void loop_on_signal(struct loop *loop, int signal_number, struct task *task);
