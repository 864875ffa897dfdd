/* The loop, in three parts: the queues of a tick (the same over sockets and in the simulator), the
 * timer wheel, and libev.
 *
 * Why a wheel of our own before libev's heap: each exchange and each connection has one deadline
 * that moves with every request. Moving it later is one store here; the node stays filed under its
 * old time and is filed again when that comes. libev sees one timer. */
#include "base/loop.h"

#include <ev.h>
#include <signal.h>

#include "base/alloc.h"
#include "base/clock.h"

#define ARENA_BLOCKS_KEPT 64
#define BUF_CHUNKS_KEPT   16
#define SLOT_BITS         6
/* How long a step of Unix time may go unseen. */
#define WALL_ASK_US 100000U

/* ---- queues ---- */

void loop_post(struct loop *loop, struct task *task)
{
    if (!list_linked(&task->link)) {
        list_append(&loop->posted, &task->link);
    }
}

void loop_post_next(struct loop *loop, struct task *task)
{
    list_remove(&task->link);
    list_push(&loop->posted, &task->link);
}

void loop_post_later(struct loop *loop, struct task *task)
{
    if (!list_linked(&task->link)) {
        list_append(&loop->later, &task->link);
    }
}

void loop_flush_later(struct loop *loop, struct task *task)
{
    if (!list_linked(&task->link)) {
        list_append(&loop->flushes, &task->link);
    }
}

void loop_bury(struct loop *loop, struct grave *grave)
{
    CHECK(grave->free != NULL);
    list_append(&loop->graves, &grave->link);
}

void loop_send(struct loop *to, struct mail *mail)
{
    struct mail *head = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do {
        mail->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&to->inbox, &head, mail, memory_order_release,
                                                    memory_order_relaxed));
    if (head == NULL && to->ev != NULL) {
        ev_async_send(to->ev, (ev_async *)to->parts);
    }
}

/* Mail is pushed as a stack and delivered in the order of sending. */
static bool deliver_mail(struct loop *loop)
{
    struct mail *stack = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
    struct mail *ordered = NULL;
    while (stack != NULL) {
        struct mail *next = stack->next;
        stack->next = ordered;
        ordered = stack;
        stack = next;
    }
    bool any = ordered != NULL;
    while (ordered != NULL) {
        struct mail *mail = ordered;
        ordered = mail->next;
        mail->deliver(mail, loop);
    }
    return any;
}

static bool run_queue(struct list *queue)
{
    bool any = false;
    for (struct list *node = list_pop(queue); node != NULL; node = list_pop(queue)) {
        struct task *task = LIST_ITEM(node, struct task, link);
        task->run(task);
        any = true;
    }
    return any;
}

/* Runs all that is posted, then flushes, until both are quiet; then frees the buried. */
static bool run_tick(struct loop *loop)
{
    bool any = deliver_mail(loop);
    bool more = true;
    list_splice(&loop->posted, &loop->later);
    while (more) {
        more = run_queue(&loop->posted);
        struct list *node = list_pop(&loop->flushes);
        if (node != NULL) {
            struct task *task = LIST_ITEM(node, struct task, link);
            task->run(task);
            more = true;
        }
        any = any || more;
    }
    for (struct list *node = list_pop(&loop->graves); node != NULL;
         node = list_pop(&loop->graves)) {
        struct grave *grave = LIST_ITEM(node, struct grave, link);
        grave->free(grave);
        any = true;
    }
    return any;
}

void loop_drain(struct loop *loop)
{
    while (run_tick(loop)) {
    }
}

struct span loop_recv_span(struct loop *loop)
{
    buf_pool_settle(&loop->bufs);
    if (loop->recv_buffer == NULL) {
        loop->recv_buffer = mem_raw(LOOP_RECV_BYTES);
    }
    return (struct span){loop->recv_buffer, LOOP_RECV_BYTES};
}

/* ---- timer wheel ---- */

/* The finest level whose slots reach from `from_ms` to `at_ms`. */
static unsigned level_of(uint64_t from_ms, uint64_t at_ms)
{
    uint64_t far = (at_ms - from_ms) | 1;
    unsigned level = (63U - (unsigned)__builtin_clzll(far)) / SLOT_BITS;
    if (level >= LOOP_WHEEL_LEVELS) {
        return LOOP_WHEEL_LEVELS - 1;
    }
    uint64_t units = (at_ms >> (SLOT_BITS * level)) - (from_ms >> (SLOT_BITS * level));
    return level + (units >= LOOP_WHEEL_SLOTS && level < LOOP_WHEEL_LEVELS - 1);
}

/* Files the timer under its deadline, rounded up to a millisecond so that it never fires early.
 * Level L holds what is less than 64^(L+1) ms away; what lies further waits in the last slot of the
 * last level and is filed again from there. */
static void wheel_file(struct loop *loop, struct timer *timer)
{
    uint64_t at_ms = (timer->wheel_us + 999) / 1000;
    if (at_ms < loop->wheel_ms) {
        at_ms = loop->wheel_ms;
    }
    unsigned level = level_of(loop->wheel_ms, at_ms);
    uint64_t base = loop->wheel_ms >> (SLOT_BITS * level);
    uint64_t at = at_ms >> (SLOT_BITS * level);
    if (at - base >= LOOP_WHEEL_SLOTS) {
        at = base + LOOP_WHEEL_SLOTS - 1;
    }
    unsigned slot = (unsigned)(at % LOOP_WHEEL_SLOTS);
    list_append(&loop->slots[level][slot], &timer->link);
    loop->occupied[level] |= UINT64_C(1) << slot;
    /* A coarse slot is looked at when it begins. */
    uint64_t look_ms = at << (SLOT_BITS * level);
    loop->next_ms = look_ms < loop->next_ms ? look_ms : loop->next_ms;
}

void timer_set(struct loop *loop, struct timer *timer, uint64_t at_us)
{
    CHECK(at_us != 0);
    CHECK(timer->task != NULL);
    timer->at_us = at_us;
    if (list_linked(&timer->link) && timer->wheel_us <= at_us) {
        return;
    }
    list_remove(&timer->link);
    timer->wheel_us = at_us;
    wheel_file(loop, timer);
}

void timer_clear(struct timer *timer)
{
    timer->at_us = 0;
    list_remove(&timer->link);
}

/* Takes everything out of one slot: what is due is posted, what was moved or lies further is filed
 * again; what was paused is in no slot any more. */
static void wheel_empty_slot(struct loop *loop, unsigned level, unsigned slot)
{
    struct list due;
    list_init(&due);
    list_splice(&due, &loop->slots[level][slot]);
    loop->occupied[level] &= ~(UINT64_C(1) << slot);
    for (struct list *node = list_pop(&due); node != NULL; node = list_pop(&due)) {
        struct timer *timer = LIST_ITEM(node, struct timer, link);
        if (timer->at_us == 0) {
            continue;
        }
        if (timer->at_us <= loop->now_us) {
            loop_post(loop, timer->task);
            continue;
        }
        timer->wheel_us = timer->at_us;
        wheel_file(loop, timer);
    }
}

/* The first occupied slot of a level at or after the wheel's position there, as an absolute count
 * of that level's units; UINT64_MAX where the level is empty. */
static uint64_t wheel_next_unit(const struct loop *loop, unsigned level)
{
    if (loop->occupied[level] == 0) {
        return UINT64_MAX;
    }
    uint64_t base = loop->wheel_ms >> (SLOT_BITS * level);
    unsigned turn = (unsigned)(base % LOOP_WHEEL_SLOTS);
    uint64_t bits = loop->occupied[level];
    uint64_t rotated = turn == 0 ? bits : (bits >> turn) | (bits << (LOOP_WHEEL_SLOTS - turn));
    return base + (unsigned)__builtin_ctzll(rotated);
}

/* What loop->next_ms has to be once slots were emptied. */
static uint64_t wheel_find_next(const struct loop *loop)
{
    uint64_t next = UINT64_MAX;
    for (unsigned level = 0; level < LOOP_WHEEL_LEVELS; level++) {
        uint64_t unit = wheel_next_unit(loop, level);
        if (unit != UINT64_MAX) {
            uint64_t at = unit << (SLOT_BITS * level);
            at = at < loop->wheel_ms ? loop->wheel_ms : at;
            next = at < next ? at : next;
        }
    }
    return next;
}

/* Looks at every occupied slot up to now. It jumps from one to the next, so a long sleep costs
 * nothing. What is filed again lies after now (deadlines are rounded up), so the walk ends. */
static void wheel_advance(struct loop *loop)
{
    uint64_t now_ms = loop->now_us / 1000;
    while (loop->next_ms <= now_ms) {
        uint64_t next = loop->next_ms;
        loop->wheel_ms = next;
        for (unsigned level = LOOP_WHEEL_LEVELS; level-- > 0;) {
            uint64_t unit = next >> (SLOT_BITS * level);
            if (wheel_next_unit(loop, level) == unit) {
                wheel_empty_slot(loop, level, (unsigned)(unit % LOOP_WHEEL_SLOTS));
            }
        }
        loop->next_ms = wheel_find_next(loop);
    }
    if (loop->wheel_ms < now_ms) {
        loop->wheel_ms = now_ms;
    }
}

/* ---- life ---- */

static struct loop *loop_common(const struct net_ops *net)
{
    struct loop *loop = NEW(struct loop);
    list_init(&loop->posted);
    list_init(&loop->later);
    list_init(&loop->flushes);
    list_init(&loop->graves);
    for (unsigned level = 0; level < LOOP_WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < LOOP_WHEEL_SLOTS; slot++) {
            list_init(&loop->slots[level][slot]);
        }
    }
    arena_pool_init(&loop->arenas, ARENA_BLOCKS_KEPT);
    buf_pool_init(&loop->bufs, BUF_CHUNKS_KEPT);
    atomic_init(&loop->inbox, NULL);
    loop->net = net;
    loop->next_ms = UINT64_MAX;
    return loop;
}

struct loop *loop_new_stepped(const struct net_ops *net, void *world)
{
    struct loop *loop = loop_common(net);
    loop->world = world;
    return loop;
}

bool loop_step(struct loop *loop, uint64_t now_us, uint64_t wall_us, uint64_t *next_us)
{
    CHECK(loop->ev == NULL);
    CHECK(now_us >= loop->now_us);
    loop->now_us = now_us;
    loop->wall_us = wall_us;
    wheel_advance(loop);
    bool any = run_tick(loop);
    *next_us = !list_empty(&loop->later)     ? now_us
               : loop->next_ms == UINT64_MAX ? UINT64_MAX
                                             : loop->next_ms * 1000;
    return any;
}

/* ---- libev ---- */

#define SIGNALS_MAX 4

struct loop_signal {
    ev_signal watcher;
    struct task *task;
    struct loop *loop;
};

struct loop_ev {
    ev_async wake; /* first: loop_send casts */
    ev_timer timer;
    uint64_t timer_ms; /* what libev's timer is set to; UINT64_MAX: not running */
    struct loop_signal signals[SIGNALS_MAX];
    unsigned signal_count;
};

struct loop_watch {
    ev_io watcher;
    struct loop *loop;
    struct task *task;
    unsigned ready;
};

static void *ev_memory(void *old, long size)
{
    if (size == 0) {
        alloc_free_for_library(old);
        return NULL;
    }
    return alloc_resize_for_library(old, (size_t)size);
}

static void on_wake(struct ev_loop *ev, ev_async *watcher, int events)
{
    (void)ev;
    (void)watcher;
    (void)events; /* the tick delivers the mail */
}

static void on_timer(struct ev_loop *ev, ev_timer *watcher, int events)
{
    (void)events;
    ev_timer_stop(ev, watcher);
    struct loop_ev *parts = CONTAINER_OF(watcher, struct loop_ev, timer);
    parts->timer_ms = UINT64_MAX;
}

/* Unix time is asked for now and then only: between, both clocks go alike. */
static void tell_time(struct loop *loop)
{
    loop->now_us = clock_monotonic_us();
    if (loop->now_us - loop->wall_asked_us >= WALL_ASK_US) {
        loop->wall_asked_us = loop->now_us;
        loop->wall_ahead_us = (int64_t)(clock_wall_us() - loop->now_us);
    }
    loop->wall_us = loop->now_us + (uint64_t)loop->wall_ahead_us;
}

struct loop *loop_new(void)
{
    ev_set_allocator(ev_memory);
    struct loop *loop = loop_common(net_sockets());
    loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    CHECK(loop->ev != NULL);
    loop->parts = NEW(struct loop_ev);
    loop->parts->timer_ms = UINT64_MAX;
    ev_async_init(&loop->parts->wake, on_wake);
    ev_async_start(loop->ev, &loop->parts->wake);
    ev_timer_init(&loop->parts->timer, on_timer, 0., 0.);
    loop->wall_asked_us = clock_monotonic_us() - WALL_ASK_US;
    tell_time(loop);
    loop->wheel_ms = loop->now_us / 1000;
    return loop;
}

void loop_free(struct loop **loop_at)
{
    struct loop *loop = *loop_at;
    if (loop == NULL) {
        return;
    }
    for (struct list *node = list_pop(&loop->graves); node != NULL;
         node = list_pop(&loop->graves)) {
        struct grave *grave = LIST_ITEM(node, struct grave, link);
        grave->free(grave);
    }
    if (loop->ev != NULL) {
        for (unsigned i = 0; i < loop->parts->signal_count; i++) {
            ev_signal_stop(loop->ev, &loop->parts->signals[i].watcher);
        }
        ev_async_stop(loop->ev, &loop->parts->wake);
        ev_timer_stop(loop->ev, &loop->parts->timer);
        ev_loop_destroy(loop->ev);
    }
    FREE(loop->parts);
    arena_pool_fini(&loop->arenas);
    buf_pool_fini(&loop->bufs);
    FREE(loop->recv_buffer);
    mem_free(loop);
    *loop_at = NULL;
}

/* libev's one timer follows the wheel. It is left alone while it fires no later than needed: an
 * early wake-up is one empty tick, a moved timer is work on each request. */
static void arm_timer(struct loop *loop)
{
    uint64_t next_ms = loop->next_ms;
    struct loop_ev *parts = loop->parts;
    if (next_ms >= parts->timer_ms) {
        return;
    }
    uint64_t now_us = loop->now_us;
    double wait_s = next_ms * 1000 > now_us ? (double)(next_ms * 1000 - now_us) / 1e6 : 0.;
    ev_timer_stop(loop->ev, &parts->timer);
    ev_now_update(loop->ev);
    ev_timer_set(&parts->timer, wait_s, 0.);
    ev_timer_start(loop->ev, &parts->timer);
    parts->timer_ms = next_ms;
}

void loop_run(struct loop *loop)
{
    CHECK(loop->ev != NULL);
    while (!loop->stopped) {
        wheel_advance(loop);
        (void)run_tick(loop);
        if (loop->stopped) {
            break;
        }
        arm_timer(loop);
        (void)ev_run(loop->ev, list_empty(&loop->later) ? EVRUN_ONCE : EVRUN_NOWAIT);
        tell_time(loop);
    }
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

static void on_signal(struct ev_loop *ev, ev_signal *watcher, int events)
{
    (void)ev;
    (void)events;
    struct loop_signal *signal_at = CONTAINER_OF(watcher, struct loop_signal, watcher);
    loop_post(signal_at->loop, signal_at->task);
}

void loop_on_signal(struct loop *loop, int signal_number, struct task *task)
{
    CHECK(loop->ev != NULL);
    CHECK(loop->parts->signal_count < SIGNALS_MAX);
    struct loop_signal *entry = &loop->parts->signals[loop->parts->signal_count++];
    entry->loop = loop;
    entry->task = task;
    ev_signal_init(&entry->watcher, on_signal, signal_number);
    ev_signal_start(loop->ev, &entry->watcher);
}

static void on_watch(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    struct loop_watch *watch = CONTAINER_OF(watcher, struct loop_watch, watcher);
    watch->ready |= (events & EV_READ) != 0 ? NET_READ : 0U;
    watch->ready |= (events & EV_WRITE) != 0 ? NET_WRITE : 0U;
    loop_post(watch->loop, watch->task);
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned read_write, struct task *task)
{
    CHECK(loop->ev != NULL);
    struct loop_watch *watch = NEW(struct loop_watch);
    watch->loop = loop;
    watch->task = task;
    int events = ((read_write & NET_READ) != 0 ? EV_READ : 0) |
                 ((read_write & NET_WRITE) != 0 ? EV_WRITE : 0);
    ev_io_init(&watch->watcher, on_watch, fd, events);
    ev_io_start(loop->ev, &watch->watcher);
    return watch;
}

unsigned loop_watch_ready(struct loop_watch *watch)
{
    unsigned ready = watch->ready;
    watch->ready = 0;
    return ready;
}

void loop_watch_free(struct loop_watch **watch)
{
    if (*watch != NULL) {
        ev_io_stop((*watch)->loop->ev, &(*watch)->watcher);
        FREE(*watch);
    }
}
