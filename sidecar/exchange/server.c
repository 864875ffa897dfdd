#include "sidecar/exchange/server.h"

#include <string.h>

#include "base/alloc.h"
#include "http/raw.h"
#include "sidecar/config/parcel.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/observe/stats.h"
#include "sidecar/route/weights.h"
#include "sidecar/upstream/dial.h"
#include "sidecar/worker.h"

#define GOAWAY_FIRST_STEP   1U
#define GOAWAY_LAST_STEP    0U
#define LEAVING_PING        SLICE("leaving!")
#define H2_NO_ERROR         0U /* RFC 9113 7 */
#define H2_SETTINGS_TIMEOUT 4U
#define AGE_JITTER_PART     10 /* of a connection's greatest age */
/* A TLS connection carries a sidecar's many requests, a plain one a client's (worker->load). */
#define SERVER_TLS_WEIGHT 8
#define LINGER_US         UINT64_C(1000000)
#define LINGER_BYTES_MAX  (256U * 1024)

void service_ref(struct service *service)
{
    CHECK(service->references > 0);
    service->references++;
}

void service_unref(struct service **service)
{
    if (*service != NULL) {
        CHECK((*service)->references > 0);
        if (--(*service)->references == 0) {
            (*service)->free(*service);
        }
        *service = NULL;
    }
}

void service_fini(struct service *service)
{
    if (service->binding.table != NULL) {
        binding_fini(&service->binding);
    }
    weights_free(&service->weights);
    service_line_unref(&service->line);
    parcel_unref(&service->pin);
}

static struct weights_share *shares_of(const struct tcp_config *tcp)
{
    struct weights_share *shares = NEW_ARRAY(struct weights_share, tcp->target_count);
    for (unsigned i = 0; i < tcp->target_count; i++) {
        shares[i] = (struct weights_share){tcp->targets[i].cluster, tcp->targets[i].weight};
    }
    return shares;
}

void service_set_tcp(struct service *service, const struct tcp_config *tcp, struct rng *rng)
{
    service->tcp = tcp;
    if (tcp->target_count > 1) {
        struct weights_share *shares = shares_of(tcp);
        service->weights = weights_new(shares, tcp->target_count, rng_u64(rng));
        mem_free(shares);
    }
}

/* Goes on with the credits of the version before, which takes no new connection. */
static void succeed_weights(struct service *next, struct service *before, uint64_t draw)
{
    struct weights_share *shares = shares_of(next->tcp);
    weights_update(before->weights, shares, next->tcp->target_count, draw);
    mem_free(shares);
    weights_free(&next->weights);
    next->weights = before->weights;
    before->weights = NULL;
}

struct service_line *service_line_new(void)
{
    struct service_line *line = NEW(struct service_line);
    line->references = 1;
    return line;
}

void service_line_unref(struct service_line **line)
{
    struct service_line *it = *line;
    *line = NULL;
    if (it != NULL) {
        CHECK(it->references > 0);
        if (--it->references == 0) {
            CHECK(it->newest == NULL);
            mem_free(it);
        }
    }
}

void service_line_put_take(struct service_line *line, struct service **service, uint64_t draw)
{
    struct service *old = line->newest;
    struct service *next = *service;
    *service = NULL;
    if (next != NULL && next->line == NULL) {
        next->line = line;
        line->references++;
    }
    if (old != NULL && next != NULL && old->binding.splits != NULL &&
        next->binding.splits != NULL) {
        binding_succeed(&next->binding, &old->binding, draw);
    }
    if (old != NULL && next != NULL && old->weights != NULL && next->weights != NULL) {
        succeed_weights(next, old, draw);
    }
    line->newest = next;
    service_unref(&old);
}

void service_renew(struct service **service)
{
    const struct service_line *line = (*service)->line;
    if (LIKELY(line == NULL || line->newest == NULL || line->newest == *service)) {
        return;
    }
    struct service *newest = line->newest;
    service_ref(newest);
    service_unref(service);
    *service = newest;
}

/* ---- probes ---- */

void server_probe_leave(struct server_probe *probe)
{
    if (probe->server != NULL) {
        probe->server->probe = NULL;
        probe->server = NULL;
    }
}

void server_decide_bytes(struct server *server)
{
    struct server_probe *probe = server->probe;
    if (probe != NULL) {
        server_probe_leave(probe);
        loop_post(server->worker->loop, probe->task);
    }
}

void server_give_back(struct server *server)
{
    struct server_probe *probe = server->probe;
    CHECK(probe != NULL);
    probe->conn = channel_release(&server->channel);
    server_decide_bytes(server);
    server_close(server);
}

/* ---- life ---- */

static void free_server(struct grave *grave)
{
    struct server *server = CONTAINER_OF(grave, struct server, grave);
    mem_free(server->peer_names);
    mem_free(server);
}

void server_close(struct server *server)
{
    if (server->closed) {
        return;
    }
    server->closed = true;
    server_decide_bytes(server);
    worker_weigh(server->worker, -(int32_t)server->weight);
    worker_trim_soon(server->worker);
    /* Exchanges outlive their connection by a run at most: they end in this tick, and are freed
     * with it. */
    channel_lose_streams(&server->channel);
    LIST_EACH(&server->exchanges, node)
    {
        struct exchange *exchange = LIST_ITEM(node, struct exchange, link);
        loop_post(server->worker->loop, &exchange->task);
    }
    list_remove(&server->link);
    timer_clear(&server->timer);
    server->channel.gone = true;
    loop_post(server->worker->loop, &server->task);
}

/* The last run: when every exchange has ended, the connection goes. */
static void run_closed(struct server *server)
{
    if (!list_empty(&server->exchanges) || list_linked(&server->grave.link)) {
        return; /* the last exchange's stream posts us again, or server_left does */
    }
    channel_fini(&server->channel, false);
    service_unref(&server->service);
    task_cancel(&server->task);
    loop_bury(server->worker->loop, &server->grave);
}

void server_left(struct server *server)
{
    loop_post(server->worker->loop, &server->task);
}

static bool is_raw(const struct server *server)
{
    return codec_is_raw(server->channel.codec);
}

static void say_goodbye(struct server *server, uint32_t code, uint64_t step)
{
    struct codec_cmd cmd = {.kind = CODEC_CMD_GOAWAY, .code = code, .len = step};
    (void)codec_write(server->channel.codec, &server->channel.out, &cmd);
    channel_flush_soon(&server->channel);
}

/* The client has had a round trip to hear that we leave: what came until now is served, and when it
 * is, the connection ends (RFC 9113 6.8). */
static void take_last_step(struct server *server)
{
    server->time.last_step_at_us = 0;
    if (server->leaving) {
        say_goodbye(server, H2_NO_ERROR, GOAWAY_LAST_STEP);
    }
}

/* It has carried what it may: what was begun is finished, nothing more is taken. */
static void end_after_these(struct server *server)
{
    server->time.old_at_us = 0;
    if (server->channel.codec->ops->multiplexes) {
        server_drain(server);
    } else if (!is_raw(server)) {
        server->closing = true;
    }
}

/* ---- the peer's own words ---- */

static struct slice keep(uint8_t **at, struct slice text)
{
    struct slice kept = slice_of(*at, text.len);
    if (text.len > 0) {
        memcpy(*at, text.at, text.len);
        *at += text.len;
    }
    return kept;
}

/* Once: labels follow what it calls itself; who it is stays what its certificate proves. */
static void take_names(struct server *server, const struct peer_note *note)
{
    size_t len = note->workload.len + note->app.len + note->version.len;
    if (len == 0 || server->peer_names != NULL || server->peer_identity.len == 0) {
        return;
    }
    struct peer_names *names = mem_new(sizeof *names + len);
    uint8_t *at = names->text;
    names->workload = stats_workload_of_peer(server->peer_identity);
    names->workload.name = keep(&at, note->workload);
    names->workload.app = keep(&at, note->app);
    names->workload.version = keep(&at, note->version);
    names->workload.canonical_service = names->workload.app;
    names->workload.canonical_revision = names->workload.version;
    server->peer_names = names;
    server->peer_hash = stats_hash_workload(&names->workload);
}

static void take_note(struct server *server, const struct codec_event *ev)
{
    struct worker *worker = server->worker;
    struct peer_note note;
    struct arena arena;
    arena_init(&arena, &worker->loop->arenas);
    if (peer_link_read(&server->peer_link, worker, ev, &arena, &note)) {
        take_names(server, &note);
    }
    arena_fini(&arena);
}

static void take_event(struct server *server, const struct codec_event *ev)
{
    if (ev->kind == CODEC_EV_HEAD) {
        server->requests++;
        const struct hcm_config *http = server->service->http;
        if (http != NULL && server->requests == http->max_requests_per_connection) {
            end_after_these(server);
        }
        server->client_closes = !ev->message->keep_alive;
        server->time.head_at_us = 0;
        exchange_begin(server, ev);
    } else if (ev->kind == CODEC_EV_REFUSED) {
        /* Over HTTP/1 nobody knows where the next message begins; over HTTP/2 its stream ends. */
        server->closing = server->closing || !server->channel.codec->ops->multiplexes;
        exchange_begin_refused(server, ev->stream, ev->bad);
    } else if (ev->kind == CODEC_EV_PEER) {
        take_note(server, ev);
    } else if (ev->kind == CODEC_EV_PONG && slice_eq(ev->data, LEAVING_PING)) {
        take_last_step(server);
    }
}

/* An HTTP/1 client whose FIN comes under a request is gone; one that tunnels has only ended its
 * half. */
static bool gone_at_eof(const struct server *server)
{
    LIST_EACH(&server->exchanges, node)
    {
        if (LIST_ITEM(node, struct exchange, link)->tunnel) {
            return false;
        }
    }
    return true;
}

/* Closing with unread bytes resets the connection, and may take the last answer with it (RFC 9112
 * 9.6): where the client did not say that this was its last request, only our half ends, and what
 * still comes is read for a while. A tunnel that was cut is to be seen as cut. */
static bool has_to_linger(const struct server *server)
{
    const struct channel *channel = &server->channel;
    return !server->client_closes && !channel->codec->ops->multiplexes && !channel->eof &&
           !channel->fin && !channel->cut;
}

static void begin_linger(struct server *server)
{
    struct loop *loop = server->worker->loop;
    server->lingering = true;
    conn_shutdown_send(server->channel.conn);
    net_want(server->channel.conn->net, server->channel.conn->net->wanted | NET_READ);
    timer_set(loop, &server->timer, loop->now_us + LINGER_US);
    loop_post(loop, &server->task);
}

static void run_linger(struct server *server)
{
    struct loop *loop = server->worker->loop;
    size_t got = 0;
    enum io result = conn_recv(server->channel.conn, loop_recv_span(loop), &got);
    server->lingered += (uint32_t)got;
    bool over = timer_due(&server->timer, loop) || server->lingered > LINGER_BYTES_MAX;
    if (over || result == IO_EOF || result == IO_RESET) {
        server_close(server);
    } else if (result == IO_OK) {
        loop_post(loop, &server->task);
    }
}

/* A head of HTTP/1 that began and did not end in time: its client is told so. False: there is none,
 * or no way to answer it. */
static bool answer_late_head(struct server *server)
{
    uint32_t stream = 0;
    if (server->time.head_at_us != 0) {
        stream = codec_give_up_head(server->channel.codec);
    }
    if (stream == 0) {
        return false;
    }
    server->closing = true;
    exchange_begin_late(server, stream);
    return true;
}

/* False: the connection is over. */
static bool take_time(struct server *server)
{
    switch (server_time_take(server)) {
    case SERVER_DUE_NOTHING:
        return true;
    case SERVER_DUE_OLD:
        end_after_these(server);
        return true;
    case SERVER_DUE_LAST_STEP:
        take_last_step(server);
        return true;
    case SERVER_DUE_SETTINGS:
        say_goodbye(server, H2_SETTINGS_TIMEOUT, 0);
        (void)channel_flush(&server->channel);
        return false;
    case SERVER_DUE_SILENT:
        stats_count(server->worker->stats, STAT_SILENT_PEERS, 1);
        return false;
    case SERVER_DUE_END:
        return answer_late_head(server);
    }
    return false;
}

/* A client that came while we drain gets through what it had to ask, and is told then. */
static bool came_while_draining(const struct server *server)
{
    return server->worker->draining && !server->leaving && server->requests > 0 &&
           server->channel.stream_count == 0 && server->channel.codec->ops->multiplexes;
}

/* False: the connection is over. */
static bool read_events(struct server *server)
{
    struct channel *channel = &server->channel;
    struct codec_event ev;
    channel_begin(channel);
    enum channel_step step = channel_next(channel, &ev);
    for (; step == CHANNEL_EVENT; step = channel_next(channel, &ev)) {
        if (!channel_deliver(channel, &ev)) {
            take_event(server, &ev);
        }
    }
    if (step == CHANNEL_BAD) {
        stats_count_by(server->worker->stats, STAT_CODEC_REFUSALS, channel->codec->bad,
                       codec_bad_name(channel->codec->bad));
        (void)channel_flush(channel); /* what the codec owes: GOAWAY */
        return false;
    }
    return step != CHANNEL_GONE && (step != CHANNEL_EOF || !gone_at_eof(server));
}

/* All is served and sent: closes, where nothing has to be waited for. */
static bool end_if_finished(struct server *server)
{
    struct channel *channel = &server->channel;
    bool finished = channel_finished(channel) || (server->closing && channel->stream_count == 0);
    if (finished && channel->codec->ops->multiplexes) {
        (void)channel_flush(channel); /* nobody would post us when it has left later in this tick */
    }
    if (!finished || channel_unsent(channel) || !list_empty(&server->exchanges)) {
        return false;
    }
    if (has_to_linger(server)) {
        begin_linger(server);
    } else {
        server_close(server);
    }
    return true;
}

static void run_open(struct server *server)
{
    struct channel *channel = &server->channel;
    bool late = timer_due(&server->timer, server->worker->loop) && !take_time(server);
    if (late || !read_events(server)) {
        server_close(server);
        return;
    }
    if (channel->codec->ops->multiplexes) {
        channel_flush_soon(channel);
    } else if (channel_unsent(channel) || channel->stream_count == 0) {
        (void)channel_flush(channel);
    }
    if (came_while_draining(server)) {
        server_drain(server);
    }
    if (!end_if_finished(server)) {
        server_time_arm(server);
    }
}

static void run(struct task *task)
{
    struct server *server = CONTAINER_OF(task, struct server, task);
    if (server->closed) {
        run_closed(server);
    } else if (server->lingering) {
        run_linger(server);
    } else {
        run_open(server);
    }
}

void server_begin(struct worker *worker, struct server_start *start)
{
    struct server *server = NEW(struct server);
    server->worker = worker;
    server->task.run = run;
    server->timer.task = &server->task;
    server->grave.free = free_server;
    server->service = start->service;
    service_ref(server->service);
    list_init(&server->exchanges);
    server->begun_us = worker->loop->now_us;
    struct net_conn *net = start->conn->net;
    net->ops->addrs(net, NULL, &server->peer);
    server->original = start->original;
    server->tunnel_port = start->tunnel_port;
    server->probe = start->probe;
    if (server->probe != NULL) {
        CHECK(codec_is_raw(start->codec) && !start->conn->ops->tls);
        server->probe->server = server;
    }
    const struct conn_peer *peer = conn_peer(start->conn);
    server->peer_identity = peer != NULL ? peer->identity : (struct slice){NULL, 0};
    server->peer_hash = stats_hash_text(server->peer_identity);
    channel_init(&server->channel, worker->loop, &start->conn, &start->codec, &server->task);
    server->weight = server->channel.conn->ops->tls ? SERVER_TLS_WEIGHT : 1;
    worker_weigh(worker, server->weight);
    list_append(&worker->servers, &server->link);
    peer_link_open(&server->peer_link, worker, &server->channel);
    if (server->peer_link.mesh) {
        dial_watch_peer(server->channel.conn->net);
    }
    if (server->service->http != NULL && server->service->http->max_connection_us != 0) {
        /* Without jitter all that came together would come again together. */
        uint64_t most_us = server->service->http->max_connection_us;
        server->time.old_at_us =
            server->begun_us + most_us - rng_u64(&worker->rng) % (most_us / AGE_JITTER_PART + 1);
    }
    if (worker->draining && server->peer_link.mesh) {
        server_drain(server); /* a sidecar knows other pods */
    }
    if (is_raw(server)) {
        exchange_begin_opaque(server);
    }
    loop_post(worker->loop, &server->task); /* bytes may be waiting already */
}

const struct addr *server_get_local(struct server *server)
{
    if (server->local.family == ADDR_NONE && server->channel.conn != NULL) {
        struct net_conn *net = server->channel.conn->net;
        net->ops->addrs(net, &server->local, NULL);
    }
    return &server->local;
}

void server_drain(struct server *server)
{
    if (is_raw(server)) {
        return;
    }
    server->leaving = true;
    say_goodbye(server, H2_NO_ERROR, GOAWAY_FIRST_STEP);
    if (server->channel.codec->ops->multiplexes) {
        struct codec_cmd ping = {.kind = CODEC_CMD_PING, .bytes = LEAVING_PING};
        (void)codec_write(server->channel.codec, &server->channel.out, &ping);
        server->time.last_step_at_us = server->worker->loop->now_us + SERVER_LAST_STEP_US;
        loop_post(server->worker->loop, &server->task); /* to have its timer set */
    }
}
