/* One list a state: a connection is connecting, idle, busy (may be lent: HTTP/2 with room) or
 * leaving (never lent again), and being in the list is the state. A connection is not bound to the
 * ticket that caused it: whoever waits first takes whichever is ready first, so a slow handshake
 * delays nobody who could be served by a connection that came back meanwhile. */
#include "sidecar/upstream/pool.h"

#include "base/alloc.h"
#include "base/conn_tls.h"
#include "base/log.h"
#include "base/loop.h"
#include "http/h1.h"
#include "http/h2.h"
#include "http/raw.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/dial.h"
#include "sidecar/upstream/peer_link.h"
#include "sidecar/worker.h"

/* A connection for many requests is replaced after about an hour, so that load finds new pods'
 * workers and keys do not grow old; without jitter all would be replaced at once. */
#define MUX_AGE_US    UINT64_C(3600000000)
#define MUX_JITTER_US (MUX_AGE_US / 10)
/* Before the peer's certificate ends: this, or a tenth of what is left, if that is less. */
#define CERTIFICATE_MARGIN_US UINT64_C(300000000)
/* Where a new connection did not come about, the old one serves on for as long. */
#define RENEW_AGAIN_US UINT64_C(10000000)

struct pool {
    struct list link; /* in worker->pools */
    struct worker *worker;
    struct endpoint *endpoint; /* a reference */
    struct shared_cluster *shared;
    struct list queue[POOL_PROTOCOL_COUNT]; /* waiting tickets */
    struct list connecting;
    struct list idle;
    struct list busy;
    struct list leaving;
    uint32_t connecting_count[POOL_PROTOCOL_COUNT];
    uint32_t waiting_count[POOL_PROTOCOL_COUNT];
    uint32_t connection_count;
    uint32_t mux_count; /* HTTP/2 connections, those that leave not counted */
    struct grave grave;
};

struct pool_conn {
    struct list link; /* in one of the pool's lists: its state */
    struct pool *pool;
    struct conn *conn;      /* until the handshake is done; then the channel has it */
    struct channel channel; /* from then on */
    struct peer_link peer_link;
    struct task task;
    struct timer timer;
    struct grave grave;
    uint64_t opened_us;
    uint64_t old_at_us;   /* not lent again once there is another; 0: never */
    uint64_t renew_at_us; /* another is asked for then, when it is old and needed */
    uint64_t bytes_seen;  /* received when the timer was set while streams are open */
    uint32_t served;
    enum pool_protocol protocol;
    bool ready;   /* the handshake is done */
    bool watched; /* it has streams; the timer asks whether its peer lives */
    bool pinged;  /* and nothing came since */
    bool counted; /* by the connections breaker */
    bool leaving; /* in `leaving`: never lent again */
    bool owing;   /* no stream, but output that the peer does not take; the timer runs */
    bool closed;  /* buried */
};

/* ---- life of a pool ---- */

static void free_pool(struct grave *grave)
{
    struct pool *pool = CONTAINER_OF(grave, struct pool, grave);
    shared_cluster_unref(&pool->shared);
    endpoint_unref(&pool->endpoint);
    mem_free(pool);
}

static struct pool *pool_of(struct worker *worker, struct endpoint *endpoint)
{
    if (endpoint->pool != NULL) {
        return endpoint->pool;
    }
    struct pool *pool = NEW(struct pool);
    pool->worker = worker;
    pool->endpoint = endpoint;
    endpoint_ref(endpoint);
    pool->shared = endpoint->cluster->shared;
    shared_cluster_ref(pool->shared);
    for (unsigned i = 0; i < POOL_PROTOCOL_COUNT; i++) {
        list_init(&pool->queue[i]);
    }
    list_init(&pool->connecting);
    list_init(&pool->idle);
    list_init(&pool->busy);
    list_init(&pool->leaving);
    pool->grave.free = free_pool;
    list_append(&worker->pools, &pool->link);
    endpoint->pool = pool;
    return pool;
}

/* Buries a pool that has neither connections nor waiters. */
static void drop_if_empty(struct pool *pool)
{
    uint32_t waiting = 0;
    for (unsigned i = 0; i < POOL_PROTOCOL_COUNT; i++) {
        waiting += pool->waiting_count[i];
    }
    if (pool->connection_count == 0 && waiting == 0 && !list_linked(&pool->grave.link)) {
        list_remove(&pool->link);
        pool->endpoint->pool = NULL;
        loop_bury(pool->worker->loop, &pool->grave);
    }
}

/* ---- tickets ---- */

static void settle_ticket(struct ticket *ticket, enum ticket_state state)
{
    ticket->state = state;
    if (ticket->stream->owner != NULL) {
        loop_post(ticket->pool->worker->loop, ticket->stream->owner);
    }
    ticket->pool = NULL;
}

static void unqueue(struct ticket *ticket, enum pool_protocol protocol)
{
    CHECK(ticket->pool != NULL);
    list_remove(&ticket->link);
    ticket->pool->waiting_count[protocol]--;
    breaker_end_shared(ticket->pool->shared, BREAKER_PENDING);
}

static void fail_ticket(struct ticket *ticket, enum pool_protocol protocol, enum fail fail,
                        const char *detail)
{
    unqueue(ticket, protocol);
    ticket->fail = fail;
    ticket->detail =
        detail[0] != '\0' ? arena_text(ticket->stream->arena, slice_of_text(detail)) : NULL;
    settle_ticket(ticket, TICKET_FAILED);
}

/* Fails the first `count` of those who wait. */
static void fail_waiting(struct pool *pool, enum pool_protocol protocol, uint32_t count,
                         enum fail fail, const char *detail)
{
    while (count-- > 0 && !list_empty(&pool->queue[protocol])) {
        fail_ticket(LIST_ITEM(pool->queue[protocol].next, struct ticket, link), protocol, fail,
                    detail);
    }
}

/* ---- connections ---- */

static void free_conn(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct pool_conn, grave));
}

/* Ends the connection, whatever it was doing. Its streams are lost. */
static void close_conn(struct pool_conn *at)
{
    if (at->closed) {
        return;
    }
    at->closed = true;
    struct pool *pool = at->pool;
    list_remove(&at->link);
    timer_clear(&at->timer);
    if (!at->ready) {
        pool->connecting_count[at->protocol]--;
        conn_close(&at->conn);
    } else {
        channel_fini(&at->channel, false);
    }
    task_cancel(&at->task);
    if (at->counted) {
        breaker_end_shared(pool->shared, BREAKER_CONNECTIONS);
    }
    if (at->protocol == POOL_HTTP2 && !at->leaving) {
        pool->mux_count--;
    }
    (void)atomic_fetch_sub_explicit(&pool->endpoint->shared->connections, 1, memory_order_relaxed);
    pool->connection_count--;
    loop_bury(pool->worker->loop, &at->grave);
    drop_if_empty(pool);
}

static bool is_old(const struct pool_conn *at)
{
    return at->old_at_us != 0 && at->pool->worker->loop->now_us >= at->old_at_us;
}

static bool at_request_limit(const struct pool_conn *at)
{
    const struct endpoint *endpoint = at->pool->endpoint;
    uint32_t limit =
        endpoint->cluster != NULL ? endpoint->cluster->config->max_requests_per_connection : 0;
    return at->protocol == POOL_HTTP1 && limit != 0 && at->served >= limit;
}

/* Whether it may be lent once more, when it carries nothing. */
static bool reusable(const struct pool_conn *at)
{
    bool used_up = at->protocol == POOL_RAW && at->served > 0;
    bool too_old = at->protocol == POOL_HTTP1 && is_old(at);
    return !at->leaving && !used_up && !too_old && !at_request_limit(at) &&
           !codec_finished(at->channel.codec);
}

static void replace_lost(struct pool *pool);

/* Closes it, and looks after those who may have hoped for it. */
static void lose_conn(struct pool_conn *at)
{
    struct pool *pool = at->pool;
    close_conn(at);
    replace_lost(pool);
}

static void move_to(struct pool_conn *at, struct list *list)
{
    list_remove(&at->link);
    list_push(list, &at->link);
}

static void leave(struct pool_conn *at)
{
    if (at->protocol == POOL_HTTP2 && !at->leaving) {
        at->pool->mux_count--;
    }
    at->leaving = true;
    move_to(at, &at->pool->leaving);
}

/* A mux connection that carries requests and brings nothing is asked whether it lives, and given up
 * when the answer takes as long again. */
static void watch_again(struct pool_conn *at)
{
    struct loop *loop = at->pool->worker->loop;
    uint64_t every_us = at->pool->worker->settings->ping_us;
    if (every_us != 0) {
        timer_set(loop, &at->timer, loop->now_us + every_us);
    } else {
        timer_clear(&at->timer);
    }
}

/* Puts the ticket's stream on a ready connection; the attempt opens it when it writes the head. */
static void lend(struct pool_conn *at, struct ticket *ticket)
{
    at->owing = false;
    if (at->protocol != POOL_HTTP2) {
        timer_pause(&at->timer);
    } else if (!at->watched) {
        at->watched = true;
        at->pinged = false;
        at->bytes_seen = at->channel.bytes_in;
        watch_again(at);
    }
    stream_attach(ticket->stream, &at->channel, 0);
    ticket->reused = at->served > 0;
    at->served++;
    if (!at->leaving) {
        move_to(at, &at->pool->busy);
    }
}

/* A new connection is worth its handshake while there are few; beyond them what the peer allows is
 * shared. */
static bool has_room(const struct pool_conn *at)
{
    if (!reusable(at)) {
        return false;
    }
    if (at->protocol != POOL_HTTP2) {
        return at->channel.stream_count == 0;
    }
    const struct worker_settings *settings = at->pool->worker->settings;
    bool may_open = at->pool->mux_count < settings->mux_connections;
    uint32_t peers = h2_peer_max_streams(at->channel.codec);
    uint32_t limit = may_open && settings->mux_streams < peers ? settings->mux_streams : peers;
    return at->channel.stream_count < limit;
}

/* Over HTTP/2 a stream stands for the connection that it would have been (behaviour.md, breakers).
 */
static bool count_stream(struct pool *pool, struct ticket *ticket)
{
    struct cluster *cluster = pool->endpoint->cluster;
    if (cluster == NULL) {
        return true; /* unlisted meanwhile: who waits is served, and counted nowhere */
    }
    if (!breaker_begin(cluster, BREAKER_CONNECTIONS, ticket->high)) {
        return false;
    }
    ticket->counted = pool->shared;
    shared_cluster_ref(pool->shared);
    return true;
}

static void uncount(struct ticket *ticket)
{
    if (ticket->counted != NULL) {
        breaker_end_shared(ticket->counted, BREAKER_CONNECTIONS);
        shared_cluster_unref(&ticket->counted);
    }
}

/* Whether a stream is under way whose end will have the queue looked at again. */
static bool carries_streams(const struct pool *pool)
{
    LIST_EACH(&pool->busy, node)
    {
        const struct pool_conn *at = LIST_ITEM(node, struct pool_conn, link);
        if (at->protocol == POOL_HTTP2 && at->channel.stream_count > 0) {
            return true;
        }
    }
    return false;
}

/* Serves those who wait with one ready connection, as far as it has room. */
static void serve(struct pool_conn *at)
{
    struct pool *pool = at->pool;
    struct list *queue = &pool->queue[at->protocol];
    while (has_room(at) && !list_empty(queue)) {
        struct ticket *ticket = LIST_ITEM(queue->next, struct ticket, link);
        if (at->protocol == POOL_HTTP2 && !count_stream(pool, ticket)) {
            if (carries_streams(pool)) {
                return; /* stays queued until a stream ends */
            }
            /* Other endpoints have what the limit allows: nothing here would wake it. */
            fail_ticket(ticket, POOL_HTTP2, FAIL_OVERFLOW, "");
            breaker_count_overflow(pool->worker->stats, BREAKER_CONNECTIONS);
            continue;
        }
        lend(at, ticket);
        unqueue(ticket, at->protocol);
        settle_ticket(ticket, TICKET_READY);
    }
}

static uint64_t idle_limit(const struct pool *pool)
{
    uint64_t limit = pool->worker->settings->upstream_idle_us;
    const struct cluster *cluster = pool->endpoint->cluster;
    if (cluster != NULL && cluster->config->idle_us != 0 && cluster->config->idle_us < limit) {
        limit = cluster->config->idle_us;
    }
    return limit;
}

/* After a run without streams: kept, or closed. */
static void rest(struct pool_conn *at)
{
    struct pool *pool = at->pool;
    serve(at);
    if (at->channel.stream_count > 0) {
        return;
    }
    bool keep = at->protocol != POOL_RAW && reusable(at) && pool->endpoint->listed &&
                !channel_unsent(&at->channel);
    if (!keep && channel_unsent(&at->channel) && !codec_finished(at->channel.codec)) {
        /* Still sending what a mux connection owes; not for ever to a peer that is not there. */
        if (!at->owing) {
            at->owing = true;
            at->watched = false;
            timer_set(pool->worker->loop, &at->timer,
                      pool->worker->loop->now_us + idle_limit(pool));
        }
        return;
    }
    if (!keep) {
        lose_conn(at);
        return;
    }
    if (list_linked(&at->link) && (at->timer.at_us == 0 || at->owing || at->watched)) {
        at->owing = false;
        at->watched = false;
        move_to(at, &pool->idle);
        timer_set(pool->worker->loop, &at->timer, pool->worker->loop->now_us + idle_limit(pool));
    }
}

static struct codec *make_codec(struct pool_conn *at)
{
    switch (at->protocol) {
    case POOL_HTTP1:
        return h1_client_new(&at->pool->worker->h1_limits, at->pool->worker->h1);
    case POOL_HTTP2:
        return dial_mux_codec(at->pool->worker, at->conn);
    case POOL_RAW:
        return codec_raw_new();
    case POOL_PROTOCOL_COUNT:
        break;
    }
    CHECK(false);
    return NULL;
}

static void connect_failed(struct pool_conn *at, enum fail fail, const char *detail)
{
    struct pool *pool = at->pool;
    enum pool_protocol protocol = at->protocol;
    close_conn(at);
    /* Those who can no longer hope for one of the connections that are left fail with it. */
    uint32_t hopes = pool->connecting_count[protocol];
    if (protocol == POOL_HTTP2) {
        hopes = pool->mux_count > 0 ? UINT32_MAX : 0;
    }
    uint32_t waiting = pool->waiting_count[protocol];
    fail_waiting(pool, protocol, waiting > hopes ? waiting - hopes : 0, fail, detail);
    drop_if_empty(pool);
}

/* Somebody else answers at this address: a pod that took it over. No worker asks there again until
 * EDS has spoken. A chain that we do not trust says nothing of the kind: our own roots may be late.
 * Nor does a name that only the cluster demands, which no endpoint could meet any better. */
static void note_refusal(struct pool_conn *at, const struct error *why)
{
    struct endpoint *endpoint = at->pool->endpoint;
    bool demanded = endpoint->config.identity.len + endpoint->config.uid.len > 0;
    if (!at->conn->peer_is_other || !demanded) {
        return;
    }
    char text[ADDR_TEXT_MAX];
    log_limited(LOG_LEVEL_WARNING, "another workload answers at an endpoint's address",
                LOG_TEXT("address", addr_format(&endpoint->config.addr, text)), LOG_CAUSE(why));
    atomic_store_explicit(&endpoint->shared->identity_refused, true, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&at->pool->shared->version.value, 1, memory_order_relaxed);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static void set_age(struct pool_conn *at)
{
    struct worker *worker = at->pool->worker;
    const struct cluster *cluster = at->pool->endpoint->cluster;
    uint64_t now_us = worker->loop->now_us;
    uint64_t limit_us = cluster != NULL ? cluster->config->max_connection_us : 0;
    if (at->protocol == POOL_HTTP2) {
        uint64_t age_us = MUX_AGE_US - MUX_JITTER_US + rng_u64(&worker->rng) % (2 * MUX_JITTER_US);
        limit_us = sooner(limit_us, age_us);
        const struct conn_peer *peer = conn_peer(at->channel.conn);
        uint64_t wall_us = worker->loop->wall_us;
        if (peer != NULL && peer->not_after_us > wall_us) {
            uint64_t left_us = peer->not_after_us - wall_us;
            bool tenth = left_us / 10 < CERTIFICATE_MARGIN_US;
            limit_us = sooner(limit_us, left_us - (tenth ? left_us / 10 : CERTIFICATE_MARGIN_US));
        }
    }
    at->old_at_us = limit_us != 0 ? now_us + limit_us : 0;
}

/* There is a new connection: those that it replaces take no more requests. */
static void retire_old(struct pool *pool)
{
    struct list *const lists[] = {&pool->idle, &pool->busy};
    for (unsigned i = 0; i < COUNT_OF(lists); i++) {
        LIST_EACH(lists[i], node)
        {
            struct pool_conn *at = LIST_ITEM(node, struct pool_conn, link);
            if (at->protocol == POOL_HTTP2 && is_old(at)) {
                leave(at);
                loop_post(pool->worker->loop, &at->task);
            }
        }
    }
}

/* The handshake made HTTP/1 of it: who waits for HTTP/2 here waits for a connection of that kind.
 */
static void become_http1(struct pool_conn *at)
{
    struct pool *pool = at->pool;
    CHECK(at->protocol == POOL_HTTP2);
    pool->endpoint->chose_http1 = true;
    pool->connecting_count[POOL_HTTP2]--;
    pool->mux_count--;
    at->protocol = POOL_HTTP1;
    pool->connecting_count[POOL_HTTP1]++;
    while (!list_empty(&pool->queue[POOL_HTTP2])) {
        struct ticket *ticket = LIST_ITEM(pool->queue[POOL_HTTP2].next, struct ticket, link);
        list_remove(&ticket->link);
        list_append(&pool->queue[POOL_HTTP1], &ticket->link);
        ticket->protocol = POOL_HTTP1;
        pool->waiting_count[POOL_HTTP2]--;
        pool->waiting_count[POOL_HTTP1]++;
    }
}

static void run_connecting(struct pool_conn *at)
{
    struct worker *worker = at->pool->worker;
    struct error err = {.text = ""};
    enum fail fail = FAIL_NONE;
    if (timer_due(&at->timer, worker->loop)) {
        connect_failed(at, FAIL_CONNECT_TIMEOUT, "connect timeout");
        return;
    }
    enum pool_protocol agreed = at->protocol;
    switch (dial_drive(at->conn, at->pool->endpoint, &agreed, &fail, &err)) {
    case DIAL_WAIT:
        return;
    case DIAL_FAILED:
        note_refusal(at, &err);
        connect_failed(at, fail, err.text);
        return;
    case DIAL_READY:
        break;
    }
    bool turned = agreed != at->protocol;
    if (turned) {
        become_http1(at);
    }
    struct codec *codec = make_codec(at);
    channel_init(&at->channel, worker->loop, &at->conn, &codec, &at->task);
    at->channel.hears_out = true;
    at->ready = true;
    set_age(at);
    at->pool->connecting_count[at->protocol]--;
    timer_clear(&at->timer);
    if (at->protocol == POOL_HTTP2) {
        channel_flush_soon(&at->channel); /* preface and SETTINGS */
        peer_link_open(&at->peer_link, worker, &at->channel);
        retire_old(at->pool);
    }
    move_to(at, &at->pool->busy);
    struct pool *pool = at->pool;
    rest(at);
    for (uint32_t n = pool->waiting_count[POOL_HTTP1]; turned && n > 0; n--) {
        replace_lost(pool); /* each who waits needs one */
    }
}

static void take_note(struct pool_conn *at, const struct codec_event *ev)
{
    struct worker *worker = at->pool->worker;
    struct peer_note note;
    struct arena arena;
    arena_init(&arena, &worker->loop->arenas);
    if (peer_link_read(&at->peer_link, worker, ev, &arena, &note)) {
        endpoint_take_word(at->pool->endpoint, worker->loop, note.draining, note.overloaded);
    }
    arena_fini(&arena);
}

/* Events that belong to no stream. */
static void take_event(struct pool_conn *at, const struct codec_event *ev)
{
    if (ev->kind == CODEC_EV_GOAWAY) {
        leave(at);
        channel_flush_soon(&at->channel);
    } else if (ev->kind == CODEC_EV_PEER) {
        take_note(at, ev);
    }
    /* SETTINGS: limits are the codec's business. */
}

/* The timer of a connection with streams is due. False: its peer is gone without a word. */
static bool check_alive(struct pool_conn *at)
{
    bool silent = at->channel.bytes_in == at->bytes_seen;
    if (silent && at->pinged) {
        stats_count(at->pool->worker->stats, STAT_SILENT_PEERS, 1);
        return false;
    }
    at->pinged = silent;
    at->bytes_seen = at->channel.bytes_in;
    if (silent) {
        struct codec_cmd cmd = {.kind = CODEC_CMD_PING, .bytes = SLICE("pillion?")};
        (void)codec_write(at->channel.codec, &at->channel.out, &cmd);
        channel_flush_soon(&at->channel);
    }
    watch_again(at);
    return true;
}

static void run_ready(struct pool_conn *at)
{
    struct channel *channel = &at->channel;
    struct codec_event ev;
    bool was_idle = channel->stream_count == 0;
    if (timer_due(&at->timer, at->pool->worker->loop) && (!at->watched || !check_alive(at))) {
        lose_conn(at);
        return;
    }
    channel_begin(channel);
    enum channel_step step = channel_next(channel, &ev);
    for (; step == CHANNEL_EVENT; step = channel_next(channel, &ev)) {
        if (!channel_deliver(channel, &ev)) {
            take_event(at, &ev);
        }
    }
    bool lost = step == CHANNEL_GONE || step == CHANNEL_BAD ||
                (step == CHANNEL_EOF &&
                 (channel->codec->ops->multiplexes || was_idle || channel->stream_count == 0));
    if (lost) {
        lose_conn(at);
        return;
    }
    if (channel->codec->ops->multiplexes) {
        channel_flush_soon(channel);
    } else if (channel_flush(channel) == IO_RESET) {
        return; /* posted again; then CHANNEL_GONE */
    }
    if (channel->stream_count == 0) {
        rest(at);
    } else if (at->protocol == POOL_HTTP2) {
        serve(at);
    }
}

static void run_conn(struct task *task)
{
    struct pool_conn *at = CONTAINER_OF(task, struct pool_conn, task);
    if (at->ready) {
        run_ready(at);
    } else {
        run_connecting(at);
    }
}

static enum fail dial_new(struct pool *pool, enum pool_protocol protocol, bool counted)
{
    struct loop *loop = pool->worker->loop;
    enum fail fail = FAIL_NONE;
    struct conn *conn = dial_start(pool->worker, pool->endpoint, &fail);
    if (conn == NULL) {
        return fail;
    }
    struct pool_conn *at = NEW(struct pool_conn);
    at->pool = pool;
    at->conn = conn;
    at->protocol = protocol;
    at->counted = counted;
    at->opened_us = loop->now_us;
    at->task.run = run_conn;
    at->timer.task = &at->task;
    at->grave.free = free_conn;
    conn->net->owner = &at->task;
    list_push(&pool->connecting, &at->link);
    pool->connecting_count[protocol]++;
    pool->connection_count++;
    if (protocol == POOL_HTTP2) {
        pool->mux_count++;
    }
    (void)atomic_fetch_add_explicit(&pool->endpoint->shared->connections, 1, memory_order_relaxed);
    timer_set(loop, &at->timer, loop->now_us + pool->endpoint->cluster->config->connect_timeout_us);
    return FAIL_NONE;
}

/* Opens what those who wait need, within the limits. Not an error when a limit stops it while
 * another connection can be hoped for. */
static enum fail open_for_waiting(struct pool *pool, enum pool_protocol protocol, bool high)
{
    if (protocol == POOL_HTTP2) {
        uint32_t capacity = pool->worker->settings->mux_streams * pool->connecting_count[protocol];
        if (pool->waiting_count[protocol] <= capacity ||
            pool->mux_count >= pool->worker->settings->mux_connections) {
            return FAIL_NONE;
        }
        return dial_new(pool, protocol, false);
    }
    if (pool->connecting_count[protocol] >= pool->waiting_count[protocol]) {
        return FAIL_NONE;
    }
    if (!breaker_begin(pool->endpoint->cluster, BREAKER_CONNECTIONS, high)) {
        if (pool->connection_count > 0) {
            return FAIL_NONE; /* one of them comes back */
        }
        breaker_count_overflow(pool->worker->stats, BREAKER_CONNECTIONS);
        return FAIL_OVERFLOW;
    }
    enum fail fail = dial_new(pool, protocol, true);
    if (fail != FAIL_NONE) {
        breaker_end_shared(pool->shared, BREAKER_CONNECTIONS);
    }
    return fail;
}

/* A connection went. Who hoped that it would come back gets another, or learns that there is none.
 */
static void replace_lost(struct pool *pool)
{
    for (unsigned i = 0; i < POOL_PROTOCOL_COUNT; i++) {
        enum pool_protocol protocol = (enum pool_protocol)i;
        if (list_empty(&pool->queue[protocol])) {
            continue;
        }
        const struct ticket *first = LIST_ITEM(pool->queue[protocol].next, struct ticket, link);
        enum fail fail = pool->endpoint->cluster != NULL
                             ? open_for_waiting(pool, protocol, first->high)
                             : FAIL_CONNECT_UNREACHABLE;
        if (fail != FAIL_NONE && (pool->connection_count == 0 || pool->endpoint->cluster == NULL)) {
            fail_waiting(pool, protocol, UINT32_MAX, fail, "");
            drop_if_empty(pool);
        }
    }
}

/* An idle HTTP/1 server has nothing to say: what came is its end, or bytes that nobody asked for,
 * and the connection's own run, later in this tick, closes it. */
static bool has_spoken(const struct pool_conn *at)
{
    return at->protocol == POOL_HTTP1 && (at->channel.conn->net->ready & NET_READ) != 0;
}

/* HTTP/1: the one that was used last; HTTP/2: the one with the fewest streams. */
static struct pool_conn *find_ready(struct pool *pool, enum pool_protocol protocol)
{
    struct pool_conn *best = NULL;
    if (protocol == POOL_RAW) {
        return NULL;
    }
    LIST_EACH(&pool->idle, node)
    {
        struct pool_conn *at = LIST_ITEM(node, struct pool_conn, link);
        if (at->protocol == protocol && !has_spoken(at)) {
            return at;
        }
    }
    if (protocol == POOL_HTTP1) {
        return NULL;
    }
    LIST_EACH(&pool->busy, node)
    {
        struct pool_conn *at = LIST_ITEM(node, struct pool_conn, link);
        bool fewer = best == NULL || at->channel.stream_count < best->channel.stream_count;
        if (at->protocol == protocol && has_room(at) && fewer) {
            best = at;
        }
    }
    return best;
}

/* Goes on with the old one until the new one is there, so that nobody waits for a handshake. */
static void renew_where_old(struct pool_conn *at)
{
    struct pool *pool = at->pool;
    uint64_t now_us = pool->worker->loop->now_us;
    if (at->protocol == POOL_HTTP2 && is_old(at) && now_us >= at->renew_at_us) {
        at->renew_at_us = now_us + RENEW_AGAIN_US;
        (void)dial_new(pool, POOL_HTTP2, false);
    }
}

static void refuse(struct ticket *ticket, enum fail fail)
{
    ticket->state = TICKET_FAILED;
    ticket->fail = fail;
    ticket->detail = NULL;
    ticket->pool = NULL;
}

void pool_ask(struct worker *worker, struct endpoint *endpoint, enum pool_protocol protocol,
              struct ticket *ticket)
{
    CHECK(ticket->state == TICKET_IDLE);
    CHECK(endpoint->cluster != NULL);
    struct pool *pool = pool_of(worker, endpoint);
    ticket->pool = pool;
    bool counted = protocol != POOL_HTTP2 || count_stream(pool, ticket);
    if (!counted && !carries_streams(pool)) {
        refuse(ticket, FAIL_OVERFLOW);
        breaker_count_overflow(worker->stats, BREAKER_CONNECTIONS);
        drop_if_empty(pool);
        return;
    }
    struct pool_conn *at = counted ? find_ready(pool, protocol) : NULL;
    if (at != NULL) {
        renew_where_old(at);
        lend(at, ticket);
        ticket->state = TICKET_READY;
        ticket->pool = NULL;
        return;
    }
    uncount(ticket);
    if (!breaker_begin(endpoint->cluster, BREAKER_PENDING, ticket->high)) {
        refuse(ticket, FAIL_OVERFLOW);
        breaker_count_overflow(worker->stats, BREAKER_PENDING);
        drop_if_empty(pool);
        return;
    }
    ticket->state = TICKET_WAITING;
    list_append(&pool->queue[protocol], &ticket->link);
    pool->waiting_count[protocol]++;
    ticket->protocol = (uint8_t)protocol;
    enum fail fail = counted ? open_for_waiting(pool, protocol, ticket->high) : FAIL_NONE;
    if (fail != FAIL_NONE) {
        unqueue(ticket, protocol);
        refuse(ticket, fail);
        drop_if_empty(pool);
    }
}

void pool_finish(struct ticket *ticket)
{
    struct pool *pool = ticket->pool;
    if (ticket->state == TICKET_WAITING) {
        unqueue(ticket, (enum pool_protocol)ticket->protocol);
        drop_if_empty(pool);
    }
    uncount(ticket);
    ticket->state = TICKET_IDLE;
    ticket->pool = NULL;
}

void pool_retire(struct pool *pool)
{
    LIST_EACH(&pool->idle, node)
    {
        close_conn(LIST_ITEM(node, struct pool_conn, link));
    }
    LIST_EACH(&pool->busy, node)
    {
        leave(LIST_ITEM(node, struct pool_conn, link));
    }
    /* Nothing will come free for those who wait at an endpoint that is no longer listed. */
    for (unsigned i = 0; i < POOL_PROTOCOL_COUNT && !pool->endpoint->listed; i++) {
        fail_waiting(pool, (enum pool_protocol)i, UINT32_MAX, FAIL_CONNECT_UNREACHABLE, "");
    }
    drop_if_empty(pool);
}

void pool_close(struct pool *pool)
{
    struct list *const lists[] = {&pool->connecting, &pool->idle, &pool->busy, &pool->leaving};
    for (unsigned i = 0; i < POOL_PROTOCOL_COUNT; i++) {
        fail_waiting(pool, (enum pool_protocol)i, UINT32_MAX, FAIL_DRAINING, "worker ends");
    }
    for (unsigned i = 0; i < COUNT_OF(lists); i++) {
        while (!list_empty(lists[i])) {
            close_conn(LIST_ITEM(lists[i]->next, struct pool_conn, link));
        }
    }
    drop_if_empty(pool);
}

void pool_close_all(struct worker *worker)
{
    LIST_EACH(&worker->pools, node)
    {
        pool_close(LIST_ITEM(node, struct pool, link));
    }
}

static void recheck(struct list *conns)
{
    LIST_EACH(conns, node)
    {
        struct pool_conn *at = LIST_ITEM(node, struct pool_conn, link);
        struct error err = {.text = ""};
        if (!conn_tls_recheck(at->channel.conn, &err)) {
            log_limited(LOG_LEVEL_WARNING, "an endpoint is trusted no more", LOG_CAUSE(&err));
            lose_conn(at);
        }
    }
}

void pool_recheck_all(struct worker *worker)
{
    LIST_EACH(&worker->pools, node)
    {
        struct pool *pool = LIST_ITEM(node, struct pool, link);
        recheck(&pool->idle);
        recheck(&pool->busy);
        recheck(&pool->leaving);
    }
}

static uint32_t list_length(const struct list *list)
{
    uint32_t count = 0;
    LIST_EACH(list, node)
    {
        count++;
    }
    return count;
}

struct pool_counts pool_counts(const struct pool *pool)
{
    struct pool_counts counts = {
        .connecting = list_length(&pool->connecting),
        .idle = list_length(&pool->idle),
        .busy = list_length(&pool->busy) + list_length(&pool->leaving),
    };
    for (unsigned i = 0; i < POOL_PROTOCOL_COUNT; i++) {
        counts.waiting += pool->waiting_count[i];
    }
    return counts;
}
