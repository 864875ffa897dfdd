/* Listeners and connections. What a connection speaks is decided once: TLS says it by ALPN, on a
 * plain one the first bytes are HTTP/2's preface or they are HTTP/1's. From then on it is a channel
 * whose events go to calls (http/server_call.c).
 *
 * Each connection has one timer, set to the earliest of what it waits for; when it fires, whatever
 * is due decides. Nothing is closed with unread bytes behind it if that can be helped: the kernel
 * would send RST, which destroys an answer that the client has not read. So the last answer is
 * followed by FIN, and what still comes is read away for a while (LINGER). */
#include "http/server.h"

#include <string.h>

#include "base/alloc.h"
#include "base/conn_tls.h"
#include "base/log.h"
#include "http/h1.h"
#include "http/h2.h"
#include "http/server_call.h"

#define BACKLOG           512
#define ACCEPTS_PER_RUN   64
#define ACCEPT_PAUSE_US   UINT64_C(100000) /* no file descriptor left */
#define LINGER_US         UINT64_C(1000000)
#define LINGER_BYTES      (256U * 1024)
#define GOAWAY_WAIT_US    UINT64_C(1000000) /* requests under way when the first GOAWAY goes out */
#define GOAWAY_FIRST_STEP 1U
#define USER_TIMEOUT_MS   30000
#define US_PER_MS         1000

#define S UINT64_C(1000000)

static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_BYTES (sizeof preface - 1)

/* X(value, meaning) */
#define CONN_STATES(X)                                                                             \
    X(FIRST, "plain: the bytes that tell HTTP/2 from HTTP/1 are awaited")                          \
    X(HANDSHAKE, "TLS")                                                                            \
    X(OPEN, "requests")                                                                            \
    X(LINGER, "our FIN is sent, or will be; what comes is thrown away")                            \
    X(CLOSED, "buried")

enum conn_state {
#define X(value, meaning) CONN_##value,
    CONN_STATES(X)
#undef X
};

struct http_conn {
    struct list link; /* in server->conns */
    struct http_server *server;
    struct net_conn *net;   /* FIRST */
    struct conn *conn;      /* HANDSHAKE */
    struct channel channel; /* OPEN, LINGER */
    struct list calls;
    struct task task;
    struct timer timer;
    struct grave grave;
    struct addr peer;
    struct addr local;
    uint64_t since_us;  /* accepted; later: without a request since */
    uint64_t head_us;   /* an incomplete head is here since; 0: none */
    uint64_t in_us;     /* when a byte came last */
    uint64_t out_us;    /* when waiting output moved last, or began to wait; 0: none waits */
    uint64_t goaway_us; /* when the second GOAWAY is due; 0: none */
    uint64_t bytes_in;  /* the channel's, when in_us was set */
    uint64_t bytes_out; /* when out_us was set */
    uint64_t linger_in; /* the channel's bytes_in when LINGER began */
    uint8_t first[PREFACE_BYTES];
    uint8_t first_len;
    uint8_t state; /* enum conn_state */
    bool tls;
    bool http2;
    bool pinged;  /* no byte since */
    bool closing; /* no request follows the one that is answered */
};

struct server_listener {
    struct list link;
    struct http_server *server;
    struct net_listener *net;
    struct tls_context *tls; /* null: plain */
    struct tls_keys *keys;
    struct task task;
};

struct http_server {
    struct loop *loop;
    struct http_server_options options;
    struct h1_limits h1_limits;
    struct h1_scratch *h1;
    struct h2_options h2_options;
    struct h2_pool *h2;
    struct list listeners;
    struct list conns;
    uint32_t conn_count;
    struct task resume; /* accept again */
    struct timer resume_timer;
    struct task *drained;
    uint64_t bodies_bytes; /* of the calls' bodies */
    bool draining;
    bool paused; /* nothing is accepted */
};

/* ---- life of a connection ---- */

static void state_set(struct http_conn *conn, enum conn_state to)
{
    static const uint8_t allowed[] = {
        [CONN_FIRST] = 1U << CONN_OPEN | 1U << CONN_CLOSED,
        [CONN_HANDSHAKE] = 1U << CONN_OPEN | 1U << CONN_CLOSED,
        [CONN_OPEN] = 1U << CONN_LINGER | 1U << CONN_CLOSED,
        [CONN_LINGER] = 1U << CONN_CLOSED,
        [CONN_CLOSED] = 0,
    };
    CHECK((allowed[conn->state] & 1U << to) != 0);
    conn->state = (uint8_t)to;
}

static void free_conn(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct http_conn, grave));
}

static void accept_again(struct http_server *server)
{
    if (server->paused && !server->draining) {
        server->paused = false;
        LIST_EACH(&server->listeners, node)
        {
            struct net_listener *net = LIST_ITEM(node, struct server_listener, link)->net;
            net->ops->accepting(net, true);
        }
    }
}

static void close_conn(struct http_conn *conn, bool reset)
{
    struct http_server *server = conn->server;
    enum conn_state was = (enum conn_state)conn->state;
    state_set(conn, CONN_CLOSED);
    LIST_EACH(&conn->calls, node)
    {
        call_lose(LIST_ITEM(node, struct http_call, link));
    }
    if (was == CONN_FIRST) {
        conn->net->ops->close(&conn->net);
    } else if (was == CONN_HANDSHAKE) {
        conn_reset(&conn->conn);
    } else {
        channel_fini(&conn->channel, reset);
    }
    timer_clear(&conn->timer);
    task_cancel(&conn->task);
    list_remove(&conn->link);
    server->conn_count--;
    accept_again(server);
    if (server->draining && server->conn_count == 0 && server->drained != NULL) {
        loop_post(server->loop, server->drained);
    }
    loop_bury(server->loop, &conn->grave);
}

/* ---- what calls ask ---- */

struct call_place conn_place(struct http_conn *conn)
{
    return (struct call_place){.loop = conn->server->loop,
                               .channel = &conn->channel,
                               .options = &conn->server->options,
                               .calls = &conn->calls,
                               .bodies_bytes = &conn->server->bodies_bytes,
                               .peer = conn->peer,
                               .local = conn->local,
                               .identity = conn_peer(conn->channel.conn),
                               .tls = conn->tls,
                               .http2 = conn->http2,
                               .closing = conn->closing};
}

void conn_close_after(struct http_conn *conn)
{
    conn->closing |= !conn->http2; /* there it is one stream's matter */
}

void conn_call_left(struct http_conn *conn)
{
    conn->since_us = conn->server->loop->now_us;
    loop_post(conn->server->loop, &conn->task);
}

/* ---- deadlines ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return b != 0 && b < a ? b : a;
}

/* Notes what moved since the last look. */
static void look_at_traffic(struct http_conn *conn)
{
    uint64_t now = conn->server->loop->now_us;
    if (conn->channel.bytes_in != conn->bytes_in) {
        conn->bytes_in = conn->channel.bytes_in;
        conn->in_us = now;
        conn->pinged = false;
    }
    if (!channel_unsent(&conn->channel)) {
        conn->out_us = 0;
    } else if (conn->channel.bytes_out != conn->bytes_out || conn->out_us == 0) {
        conn->bytes_out = conn->channel.bytes_out;
        conn->out_us = now;
    }
    bool partial = conn->channel.tail_len > 0 && list_empty(&conn->calls) && !conn->http2;
    conn->head_us = !partial ? 0 : conn->head_us != 0 ? conn->head_us : now;
}

/* The connection's deadlines while it is OPEN. */
static uint64_t open_deadline(const struct http_conn *conn)
{
    const struct http_server_options *options = &conn->server->options;
    uint64_t at = UINT64_MAX;
    at = sooner(at, conn->goaway_us);
    if (conn->out_us != 0) {
        at = sooner(at, conn->out_us + options->stall_us);
    }
    if (conn->head_us != 0) {
        at = sooner(at, conn->head_us + options->head_us);
    } else if (list_empty(&conn->calls)) {
        at = sooner(at, conn->since_us + options->idle_us);
    } else if (conn->http2) {
        at = sooner(at, conn->in_us + options->ping_us * (conn->pinged ? 2 : 1));
    }
    return at;
}

static uint64_t deadline(const struct http_conn *conn)
{
    const struct http_server_options *options = &conn->server->options;
    switch ((enum conn_state)conn->state) {
    case CONN_FIRST:
        return conn->since_us + (conn->first_len > 0 ? options->head_us : options->idle_us);
    case CONN_HANDSHAKE:
        return conn->since_us + options->head_us;
    case CONN_OPEN:
        return open_deadline(conn);
    case CONN_LINGER:
        return conn->since_us + (conn->channel.fin_sent ? LINGER_US : options->stall_us);
    case CONN_CLOSED:
        break;
    }
    return UINT64_MAX;
}

static void arm(struct http_conn *conn)
{
    uint64_t at = deadline(conn);
    if (at == UINT64_MAX) {
        timer_clear(&conn->timer);
    } else {
        timer_set(conn->server->loop, &conn->timer, at);
    }
}

static void command(struct http_conn *conn, struct codec_cmd *cmd)
{
    (void)codec_write(conn->channel.codec, &conn->channel.out, cmd);
    channel_flush_soon(&conn->channel);
}

static void goaway(struct http_conn *conn, uint64_t step)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_GOAWAY, .len = step};
    command(conn, &cmd);
}

static void ping(struct http_conn *conn)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_PING, .bytes = SLICE("idleness")};
    conn->pinged = true;
    command(conn, &cmd);
}

/* An OPEN connection's deadline has come. False: it was closed. */
static bool expire(struct http_conn *conn)
{
    uint64_t now = conn->server->loop->now_us;
    const struct http_server_options *options = &conn->server->options;
    if (conn->out_us != 0 && now >= conn->out_us + options->stall_us) {
        close_conn(conn, true);
        return false;
    }
    if (conn->goaway_us != 0 && now >= conn->goaway_us) {
        conn->goaway_us = 0;
        goaway(conn, 0);
    }
    if (conn->head_us != 0) {
        if (now >= conn->head_us + options->head_us) {
            close_conn(conn, false);
            return false;
        }
    } else if (list_empty(&conn->calls)) {
        if (now >= conn->since_us + options->idle_us) {
            if (conn->http2) {
                goaway(conn, 0);
                (void)channel_flush(&conn->channel);
            }
            close_conn(conn, false);
            return false;
        }
    } else if (conn->http2 && now >= conn->in_us + options->ping_us) {
        if (conn->pinged && now >= conn->in_us + 2 * options->ping_us) {
            close_conn(conn, true);
            return false;
        }
        if (!conn->pinged) {
            ping(conn);
        }
    }
    return true;
}

/* ---- LINGER ---- */

static void run_linger(struct http_conn *conn)
{
    struct channel *channel = &conn->channel;
    struct codec_event ev;
    if (timer_due(&conn->timer, conn->server->loop)) {
        close_conn(conn, !channel->fin_sent);
        return;
    }
    bool sent_before = channel->fin_sent;
    if (channel_flush(channel) == IO_RESET) {
        close_conn(conn, true);
        return;
    }
    if (channel->fin_sent && !sent_before) {
        conn->since_us = conn->server->loop->now_us;
    }
    channel_begin(channel);
    enum channel_step step;
    do {
        step = channel_next(channel, &ev);
    } while (step == CHANNEL_EVENT);
    bool over =
        step != CHANNEL_QUIET || channel->eof || channel->bytes_in - conn->linger_in > LINGER_BYTES;
    if (over && (channel->fin_sent || step == CHANNEL_GONE)) {
        close_conn(conn, false);
        return;
    }
    arm(conn);
}

static void begin_linger(struct http_conn *conn)
{
    state_set(conn, CONN_LINGER);
    conn->since_us = conn->server->loop->now_us;
    conn->linger_in = conn->channel.bytes_in;
    conn->channel.fin = true;
    timer_clear(&conn->timer); /* what it was set for is over */
    run_linger(conn);
}

/* ---- OPEN ---- */

static void take_event(struct http_conn *conn, const struct codec_event *ev)
{
    if (ev->kind == CODEC_EV_HEAD) {
        call_begin(conn, ev);
    } else if (ev->kind == CODEC_EV_REFUSED) {
        call_begin_refused(conn, ev);
    }
}

static enum channel_step read_events(struct http_conn *conn)
{
    struct codec_event ev;
    channel_begin(&conn->channel);
    enum channel_step step = channel_next(&conn->channel, &ev);
    for (; step == CHANNEL_EVENT; step = channel_next(&conn->channel, &ev)) {
        if (!channel_deliver(&conn->channel, &ev)) {
            take_event(conn, &ev);
        }
    }
    return step;
}

static void run_open(struct http_conn *conn)
{
    struct channel *channel = &conn->channel;
    if (conn->http2) {
        h2_tick(channel->codec, conn->server->loop->now_us / US_PER_MS);
    }
    enum channel_step step = read_events(conn);
    if (step == CHANNEL_GONE) {
        close_conn(conn, true);
        return;
    }
    if (step == CHANNEL_BAD) {
        (void)channel_flush(channel); /* what the codec owes: GOAWAY */
        close_conn(conn, false);
        return;
    }
    if (step == CHANNEL_EOF && (!list_empty(&conn->calls) || !channel_unsent(channel))) {
        close_conn(conn, false); /* who leaves does not wait for answers */
        return;
    }
    bool last = list_empty(&conn->calls) &&
                (channel->eof || channel_finished(channel) || (conn->closing && !conn->http2));
    if (last) {
        begin_linger(conn);
        return;
    }
    if (conn->http2) {
        channel_flush_soon(channel);
    } else if (channel_flush(channel) == IO_RESET) {
        close_conn(conn, true);
        return;
    }
    look_at_traffic(conn);
    if (!timer_due(&conn->timer, conn->server->loop) || expire(conn)) {
        arm(conn);
    }
}

/* ---- what a connection speaks ---- */

static void open_conn(struct http_conn *conn, struct conn **stream, bool http2)
{
    struct http_server *server = conn->server;
    struct codec *codec = http2 ? h2_new(server->h2, &server->h2_options)
                                : h1_server_new(&server->h1_limits, server->h1);
    state_set(conn, CONN_OPEN);
    conn->http2 = http2;
    conn->since_us = server->loop->now_us;
    conn->in_us = conn->since_us;
    conn->closing = server->draining;
    channel_init(&conn->channel, server->loop, stream, &codec, &conn->task);
    run_open(conn);
    if (server->draining && http2 && conn->state == CONN_OPEN) {
        goaway(conn, 0);
    }
}

/* Reads until the first bytes are the preface, or cannot become it. */
static void run_first(struct http_conn *conn)
{
    struct span span = loop_recv_span(conn->server->loop);
    if (timer_due(&conn->timer, conn->server->loop)) {
        close_conn(conn, false);
        return;
    }
    if ((conn->net->ready & NET_READ) == 0) {
        arm(conn);
        return;
    }
    size_t have = conn->first_len;
    (void)memcpy(span.at, conn->first, have);
    size_t got = 0;
    switch (net_recv(conn->net, (struct span){span.at + have, span.len - have}, &got)) {
    case IO_OK:
        break;
    case IO_AGAIN:
        arm(conn);
        return;
    case IO_EOF:
    case IO_RESET:
        close_conn(conn, false);
        return;
    }
    struct slice bytes = slice_of(span.at, have + got);
    struct slice wanted = slice_of(preface, PREFACE_BYTES);
    bool fits = slice_starts(wanted, slice_head(bytes, PREFACE_BYTES));
    if (fits && bytes.len < PREFACE_BYTES) {
        (void)memcpy(conn->first, bytes.at, bytes.len);
        conn->first_len = (uint8_t)bytes.len;
        arm(conn);
        return;
    }
    struct conn *stream = conn_plain(&conn->net, bytes);
    open_conn(conn, &stream, fits);
}

static void run_handshake(struct http_conn *conn)
{
    struct error err = {.text = ""};
    char text[ADDR_TEXT_MAX];
    enum io done =
        timer_due(&conn->timer, conn->server->loop) ? IO_RESET : conn_handshake(conn->conn, &err);
    if (done == IO_AGAIN) {
        arm(conn);
    } else if (done == IO_OK) {
        open_conn(conn, &conn->conn, slice_eq(conn_alpn(conn->conn), SLICE("h2")));
    } else {
        log_limited(LOG_LEVEL_INFO, "TLS refused", LOG_TEXT("peer", addr_format(&conn->peer, text)),
                    LOG_CAUSE(&err));
        close_conn(conn, true);
    }
}

static void run(struct task *task)
{
    struct http_conn *conn = CONTAINER_OF(task, struct http_conn, task);
    switch ((enum conn_state)conn->state) {
    case CONN_FIRST:
        run_first(conn);
        break;
    case CONN_HANDSHAKE:
        run_handshake(conn);
        break;
    case CONN_OPEN:
        run_open(conn);
        break;
    case CONN_LINGER:
        run_linger(conn);
        break;
    case CONN_CLOSED:
        break;
    }
}

/* ---- accepting ---- */

static void begin_conn(struct server_listener *listener, struct net_conn *net)
{
    struct http_server *server = listener->server;
    struct http_conn *conn = NEW(struct http_conn);
    conn->server = server;
    conn->task.run = run;
    conn->timer.task = &conn->task;
    conn->grave.free = free_conn;
    conn->since_us = server->loop->now_us;
    conn->tls = listener->tls != NULL;
    list_init(&conn->calls);
    net->ops->addrs(net, &conn->local, &conn->peer);
    net->ops->set_option(net, NET_USER_TIMEOUT_MS, USER_TIMEOUT_MS);
    net->owner = &conn->task;
    if (conn->tls) {
        struct tls_server how = {.keys = listener->keys, .context = listener->tls};
        conn->state = CONN_HANDSHAKE;
        conn->conn = listener->keys->provider->server(&net, &how, (struct slice){NULL, 0});
    } else {
        conn->state = CONN_FIRST;
        conn->net = net;
    }
    list_append(&server->conns, &conn->link);
    server->conn_count++;
    loop_post(server->loop, &conn->task);
}

static void pause_accepting(struct http_server *server)
{
    server->paused = true;
    LIST_EACH(&server->listeners, node)
    {
        struct net_listener *net = LIST_ITEM(node, struct server_listener, link)->net;
        net->ops->accepting(net, false);
    }
}

static void run_listener(struct task *task)
{
    struct server_listener *listener = CONTAINER_OF(task, struct server_listener, task);
    struct http_server *server = listener->server;
    for (unsigned i = 0; i < ACCEPTS_PER_RUN; i++) {
        if (server->conn_count >= server->options.max_connections) {
            pause_accepting(server); /* until one leaves */
            return;
        }
        struct net_conn *net = listener->net->ops->accept(listener->net);
        if (net == NULL) {
            if (i == 0) { /* woken for nothing: what waits cannot be accepted now */
                pause_accepting(server);
                timer_set(server->loop, &server->resume_timer,
                          server->loop->now_us + ACCEPT_PAUSE_US);
            }
            return;
        }
        begin_conn(listener, net);
    }
}

static void run_resume(struct task *task)
{
    struct http_server *server = CONTAINER_OF(task, struct http_server, resume);
    timer_clear(&server->resume_timer);
    accept_again(server);
}

bool http_server_listen(struct http_server *server, const struct addr *at, struct tls_context *tls,
                        struct tls_keys *keys, struct addr *bound, struct error *err)
{
    CHECK(tls == NULL || keys != NULL);
    CHECK(!server->draining);
    struct net_listener *net = net_listen(server->loop, at, BACKLOG, err);
    if (net == NULL) {
        return false;
    }
    struct server_listener *listener = NEW(struct server_listener);
    listener->server = server;
    listener->net = net;
    listener->tls = tls;
    listener->keys = keys;
    listener->task.run = run_listener;
    net->owner = &listener->task;
    net->ops->accepting(net, !server->paused);
    if (bound != NULL) {
        net->ops->local(net, bound);
    }
    list_append(&server->listeners, &listener->link);
    return true;
}

static void unlisten_all(struct http_server *server)
{
    for (struct list *node = list_pop(&server->listeners); node != NULL;
         node = list_pop(&server->listeners)) {
        struct server_listener *listener = LIST_ITEM(node, struct server_listener, link);
        task_cancel(&listener->task);
        listener->net->ops->unlisten(&listener->net);
        mem_free(listener);
    }
}

/* ---- life of the server ---- */

static uint64_t or_default_us(uint64_t value, uint64_t seconds)
{
    return value != 0 ? value : seconds * S;
}

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options)
{
    struct http_server *server = NEW(struct http_server);
    server->loop = loop;
    server->options = *options;
    struct http_server_options *own = &server->options;
    own->max_connections = own->max_connections != 0 ? own->max_connections : 1024;
    own->max_streams = own->max_streams != 0 ? own->max_streams : 100;
    own->body_max = own->body_max != 0 ? own->body_max : 1U << 20;
    own->bodies_max = own->bodies_max != 0 ? own->bodies_max : 64U << 20;
    own->head_us = or_default_us(own->head_us, 10);
    own->body_us = or_default_us(own->body_us, 30);
    own->idle_us = or_default_us(own->idle_us, 60);
    own->stall_us = or_default_us(own->stall_us, 30);
    own->ping_us = or_default_us(own->ping_us, 30);
    server->h1_limits = H1_LIMITS_DEFAULT;
    server->h1 = NEW(struct h1_scratch);
    server->h2_options = h2_options_default(CODEC_SERVER);
    server->h2_options.huffman = true;
    server->h2_options.max_concurrent_streams = own->max_streams;
    server->h2 = h2_pool_new();
    list_init(&server->listeners);
    list_init(&server->conns);
    server->resume.run = run_resume;
    server->resume_timer.task = &server->resume;
    return server;
}

void http_server_free(struct http_server **server_at)
{
    struct http_server *server = *server_at;
    if (server == NULL) {
        return;
    }
    server->drained = NULL;
    server->draining = true;
    unlisten_all(server);
    LIST_EACH(&server->conns, node)
    {
        close_conn(LIST_ITEM(node, struct http_conn, link), false);
    }
    timer_clear(&server->resume_timer);
    task_cancel(&server->resume);
    h2_pool_free(&server->h2);
    mem_free(server->h1);
    FREE(*server_at);
}

static void drain_conn(struct http_conn *conn)
{
    switch ((enum conn_state)conn->state) {
    case CONN_FIRST:
        close_conn(conn, false);
        break;
    case CONN_OPEN:
        conn->closing = true;
        if (conn->http2) {
            goaway(conn, GOAWAY_FIRST_STEP);
            conn->goaway_us = conn->server->loop->now_us + GOAWAY_WAIT_US;
        }
        loop_post(conn->server->loop, &conn->task);
        break;
    case CONN_HANDSHAKE:
    case CONN_LINGER:
    case CONN_CLOSED:
        break;
    }
}

void http_server_drain(struct http_server *server, struct task *drained)
{
    server->draining = true;
    server->drained = drained;
    unlisten_all(server);
    LIST_EACH(&server->conns, node)
    {
        drain_conn(LIST_ITEM(node, struct http_conn, link));
    }
    if (server->conn_count == 0 && drained != NULL) {
        loop_post(server->loop, drained);
    }
}

uint32_t http_server_connections(const struct http_server *server)
{
    return server->conn_count;
}
