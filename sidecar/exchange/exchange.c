/* The way of a request, top to bottom. Each step does what it can with what is there and says NEXT,
 * WAIT or FAIL; whatever wakes the exchange runs the step again from its beginning, so a step is
 * written to be run any number of times. Nothing else enters here: codecs, pools and timers only
 * post the task.
 *
 * Refused: a chain of filters with callbacks (the order of a request's handling would be data, and
 * each filter could free the exchange under its caller); a coroutine per request (a stack per idle
 * stream). */
#include "sidecar/exchange/exchange.h"

#include "base/log.h"
#include "http/detect.h"
#include "http/grpc.h"
#include "sidecar/exchange/record.h"
#include "sidecar/exchange/relay.h"
#include "sidecar/exchange/reply.h"
#include "sidecar/exchange/report.h"
#include "sidecar/exchange/rewrite.h"
#include "sidecar/exchange/server.h"
#include "sidecar/exchange/websocket.h"
#include "sidecar/resilience/retry.h"
#include "sidecar/route/weights.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/peer_link.h"
#include "sidecar/worker.h"

#define DISCARD_BYTES_MAX (256U * 1024)
#define DISCARD_US        1000000U
#define RUNS_IDLE_MAX     1000U
#define PROBE_US          100000U /* for the rest of a server's first bytes */
#define H2_NO_ERROR       0U
#define H2_INTERNAL_ERROR 2U
#define H2_CANCEL         8U

enum result { NEXT, WAIT, FAIL };

/* ---- match ---- */

static enum result match_opaque(struct exchange *x)
{
    const struct tcp_config *tcp = x->service->tcp;
    int drawn = x->service->weights != NULL ? weights_pick(x->service->weights) : 0;
    record_tcp(x, tcp, drawn);
    x->cluster =
        drawn >= 0 ? directory_find(&x->worker->clusters, tcp->targets[drawn].cluster) : NULL;
    if (x->cluster == NULL) {
        x->fail = FAIL_NO_CLUSTER;
        return FAIL;
    }
    cluster_hold(x->cluster);
    x->plan.idle_us = tcp->idle_us; /* also until the peer's sidecar has answered the CONNECT */
    x->idle_at_us = tcp->idle_us != 0 ? x->begun_us + tcp->idle_us : 0;
    return NEXT;
}

/* An upgrade passes only where route or listener allow its kind (Envoy: 403 where none does). */
static bool upgrade_allowed(const struct exchange *x)
{
    struct slice kind = x->request.connect ? SLICE("CONNECT") : x->request.protocol;
    const struct route_forward *forward = &x->found.route->forward;
    for (unsigned i = 0; i < forward->upgrade_count; i++) {
        if (slice_eq_nocase(forward->upgrades[i].type, kind)) {
            return forward->upgrades[i].enabled;
        }
    }
    const struct hcm_config *http = x->service->http;
    for (unsigned i = 0; i < http->upgrade_count; i++) {
        if (slice_eq_nocase(http->upgrades[i].type, kind)) {
            return http->upgrades[i].enabled;
        }
    }
    return false;
}

/* Whoever may come to one port must not get to another through it. */
static bool tunnel_port_fits(const struct exchange *x)
{
    struct slice rest = x->client_authority;
    uint16_t allowed = x->server->tunnel_port;
    uint64_t port;
    size_t at = rest.len;
    while (at > 0 && rest.at[at - 1] != ':') {
        at--;
    }
    return allowed == 0 ||
           (at > 0 && slice_to_u64(slice_of(rest.at + at, rest.len - at), UINT16_MAX, &port) &&
            port == allowed);
}

static enum result match_forward(struct exchange *x)
{
    if (x->request.connect && x->service->direction == LISTENER_INBOUND && !tunnel_port_fits(x)) {
        x->fail = FAIL_TUNNEL_PORT;
        return FAIL;
    }
    const struct route_forward *forward = &x->found.route->forward;
    struct binding *binding = &x->service->binding;
    if (forward->cluster_header.len > 0) {
        const struct header *field =
            headers_find_name(&x->request.headers, forward->cluster_header);
        x->cluster = field != NULL ? directory_find(&x->worker->clusters, field->value) : NULL;
    } else {
        int drawn = splits_pick(binding->splits, x->found.route);
        x->target = drawn >= 0 ? &forward->targets[drawn] : NULL;
        record_target(x);
        x->cluster = x->target != NULL
                         ? binding_cluster(binding, &x->worker->clusters, x->target->cluster)
                         : NULL;
    }
    if (x->cluster == NULL) {
        x->fail = FAIL_NO_CLUSTER;
        return FAIL;
    }
    cluster_hold(x->cluster);
    if ((x->request.protocol.len > 0 || x->request.connect) && !upgrade_allowed(x)) {
        x->fail = FAIL_UPGRADE_DENIED;
        return FAIL;
    }
    const struct hcm_config *http = x->service->http;
    timeout_plan(&x->plan, forward, &x->request, false, x->begun_us, http->stream_idle_us,
                 http->max_stream_us);
    if (x->down.in_end) {
        timeout_request_ended(&x->plan, x->worker->loop->now_us);
    }
    x->idle_at_us = x->plan.idle_us != 0 ? x->begun_us + x->plan.idle_us : 0;
    rewrite_request(x);
    return NEXT;
}

/* Several services have the address that was called: the request's authority says which is meant.
 */
static enum result choose(struct exchange *x)
{
    if (x->choice == NULL) {
        struct service_question question = {.arena = &x->arena,
                                            .task = &x->task,
                                            .authority = x->client_authority,
                                            .original = &x->server->original};
        x->choice = x->service->choose(x->service, &question);
    }
    struct service *chosen = x->choice->take(x->choice);
    if (chosen == NULL) {
        return WAIT;
    }
    x->choice = NULL;
    service_unref(&x->service);
    x->service = chosen;
    return NEXT;
}

static enum result match(struct exchange *x)
{
    service_renew(&x->service); /* it may have changed since the head came */
    if (UNLIKELY(x->service->choose != NULL) && choose(x) == WAIT) {
        return WAIT;
    }
    if (x->service->refusal != FAIL_NONE) {
        x->fail = x->service->refusal;
        return FAIL;
    }
    if (x->service->http == NULL) {
        return match_opaque(x);
    }
    if (x->service->binding.table == NULL) {
        x->fail = FAIL_NO_CONFIG;
        return FAIL;
    }
    rewrite_prepare(x);
    x->grpc = match_is_grpc(&x->request);
    x->fail = router_find(x->service->binding.table, &x->request, &x->worker->matcher,
                          rng_u64(&x->worker->rng), &x->found);
    if (x->fail != FAIL_NONE) {
        return FAIL;
    }
    record_route(x);
    switch (x->found.route->kind) {
    case ROUTE_FORWARD:
        return match_forward(x);
    case ROUTE_REDIRECT:
        reply_redirect(x, &x->found.route->redirect);
        return NEXT;
    case ROUTE_DIRECT:
        reply_direct(x, &x->found.route->direct);
        return NEXT;
    case ROUTE_NOT_FORWARDING:
        break;
    }
    x->fail = FAIL_NO_ROUTE;
    return FAIL;
}

/* ---- admit ---- */

static enum result admit(struct exchange *x)
{
    const struct worker_settings *settings = x->worker->settings;
    if (settings->memory_limit != 0 && worker_memory_used() > settings->memory_limit) {
        worker_shed(x->worker);
        x->fail = FAIL_MEMORY;
        return FAIL;
    }
    return NEXT;
}

/* ---- attempt ---- */

/* HTTP/1 gets trailers only where it said that it reads them (RFC 9110 6.5.1). */
static bool takes_trailers(const struct stream *to, bool asked)
{
    return asked || (to->channel != NULL && to->channel->codec->ops->multiplexes);
}

/* The request's body, as far as there is some and there is room. */
static void move_up(struct exchange *x)
{
    struct attempt *attempt = &x->attempt;
    if (attempt->send != SEND_BODY || attempt->up.channel == NULL) {
        return;
    }
    struct relay_way way = {.from = &x->down,
                            .to = &attempt->up,
                            .first = &x->resend,
                            .tee = x->head_sent ? NULL : &x->replay,
                            .tee_max = x->worker->settings->replay_bytes,
                            .tee_ok = &x->replayable,
                            .trailers = takes_trailers(&attempt->up, false)};
    uint64_t moved;
    if (relay_move(&way, &moved) == RELAY_ENDED) {
        attempt_set_send(attempt, SEND_ENDED);
        x->up_ended = true;
    }
    if (moved > 0) {
        attempt_moved(x);
    }
    x->request_bytes += moved;
    x->runs_idle = moved > 0 ? 0 : x->runs_idle;
}

static void remember_tried(struct exchange *x)
{
    struct endpoint *endpoint = x->attempt.endpoint;
    if (endpoint != NULL && x->tried_count < COUNT_OF(x->tried)) {
        endpoint_ref(endpoint);
        x->tried[x->tried_count++] = endpoint;
    }
}

static void end_charge(struct exchange *x)
{
    if (x->retry_charged) {
        x->retry_charged = false;
        breaker_end(x->cluster, BREAKER_RETRIES);
    }
}

/* The status of a gRPC answer without a message: trailers-only, or with trailers that came with the
 * head; -1: none. */
static int grpc_status(const struct attempt *attempt)
{
    const struct stream *up = &attempt->up;
    return grpc_status_of(up->head, buf_empty(&up->in) ? up->trailers : NULL);
}

/* Whether this request may be given back to a sidecar of ours for it to try elsewhere. */
static bool has_mesh_caller(const struct exchange *x)
{
    return x->service->direction == LISTENER_INBOUND && x->server->peer_link.mesh;
}

/* How often what reached no application is tried again where no policy of a route says it. */
static uint32_t free_retries(const struct exchange *x)
{
    const struct tcp_config *tcp = x->service->tcp;
    return tcp != NULL && tcp->max_attempts != 0 ? tcp->max_attempts - 1 : RETRY_FREE_MAX;
}

/* Decides, once an attempt has failed or a head is held, whether there is another. */
static bool try_again(struct exchange *x)
{
    struct attempt *attempt = &x->attempt;
    const struct route *route = x->found.route;
    const struct retry_policy *policy = route != NULL ? route->forward.retry : NULL;
    bool held = attempt->fail == FAIL_NONE;
    struct retry_asked asked = {.policy = policy,
                                .method = x->request.method,
                                .matcher = &x->worker->matcher,
                                .body_replayable = x->replayable,
                                .free_max = free_retries(x),
                                .retries_done = x->attempts - 1};
    struct retry_happened happened = {.fail = attempt->fail,
                                      .answer = held ? attempt->up.head : NULL,
                                      .grpc_status = -1,
                                      .request_sent =
                                          attempt->send != SEND_WAIT && attempt->send != SEND_IDLE,
                                      .answer_passed_on = x->head_sent,
                                      .death_charged = attempt->up.shared_death};
    happened.peer_overloaded = attempt->endpoint != NULL && attempt->endpoint->peer_overloaded &&
                               !fail_unseen(attempt->fail);
    if (held) {
        happened.grpc_status = grpc_status(attempt);
    }
    if (attempt->endpoint == NULL) {
        return false; /* nobody to ask, and asking again would find the same */
    }
    bool high = route != NULL && route->forward.high_priority;
    enum fail at_deadline;
    struct retry_means means = {.limits = breaker_limits(x->cluster, high),
                                .budget = breaker_budget(x->cluster),
                                .now_us = x->worker->loop->now_us,
                                .deadline_us = timeout_of_request(&x->plan, &at_deadline),
                                .draw = rng_u64(&x->worker->rng)};
    struct retry_verdict verdict = retry_decide(&asked, &happened, &means);
    report_verdict(x, &verdict);
    bool elsewhere = fail_cause(attempt->fail) == FAIL_CAUSE_CONNECT && !x->seen &&
                     has_mesh_caller(x); /* the caller knows other pods; we have one application */
    if (!verdict.again || x->worker->draining || elsewhere) {
        return false;
    }
    x->seen = x->seen || held || !fail_unseen(attempt->fail);
    end_charge(x);
    if (verdict.charge) {
        x->retry_charged = breaker_begin(x->cluster, BREAKER_RETRIES, high);
        if (!x->retry_charged) {
            breaker_count_overflow(x->worker->stats, BREAKER_RETRIES);
            return false;
        }
    }
    if (attempt->ticket.state == TICKET_FAILED && attempt->ticket.detail != NULL) {
        x->tried_detail = attempt->ticket.detail;
    }
    if (verdict.avoid_tried) {
        remember_tried(x);
    }
    attempt_end(x);
    attempt->ticket.state = TICKET_IDLE;
    attempt->send = SEND_IDLE;
    x->up_ended = false;
    buf_clear(&x->resend);
    buf_share(&x->resend, &x->replay, 0, x->replay.len);
    x->retry_at_us = verdict.delay_us != 0 ? x->worker->loop->now_us + verdict.delay_us : 0;
    return true;
}

static enum result attempt(struct exchange *x)
{
    if (x->source == ANSWER_LOCAL) {
        return NEXT;
    }
    for (;;) {
        if (x->retry_at_us != 0) {
            if (x->worker->loop->now_us < x->retry_at_us) {
                return WAIT;
            }
            x->retry_at_us = 0;
        }
        if (x->attempt.send == SEND_IDLE && x->attempt.fail == FAIL_NONE) {
            attempt_begin(x);
        }
        enum attempt_step step = attempt_run(x);
        move_up(x);
        if (step == ATTEMPT_WAIT) {
            return WAIT;
        }
        if (!try_again(x)) {
            x->fail = x->attempt.fail;
            return x->attempt.fail == FAIL_NONE ? NEXT : FAIL;
        }
        x->attempt.fail = FAIL_NONE;
    }
}

/* ---- relay ---- */

/* 101; 2xx to CONNECT; over HTTP/2, 2xx to extended CONNECT, which is how 101 is said there (RFC
 * 8441 5). */
static bool opens_tunnel(const struct exchange *x)
{
    bool success = x->status / 100 == 2;
    bool upgrade = x->request.protocol.len > 0 && x->answer->version == MESSAGE_HTTP_2;
    return x->status == 101 || (success && (x->request.connect || upgrade));
}

static void send_answer_head(struct exchange *x)
{
    struct attempt *attempt = &x->attempt;
    x->answer = attempt->up.head;
    x->status = x->answer->status;
    x->tunnel = x->tunnel || opens_tunnel(x);
    buf_clear(&x->replay); /* there is no retry behind a head */
    if (x->tunnel) {
        stream_become_tunnel(&x->down);
        stream_become_tunnel(&attempt->up);
    }
    rewrite_answer(x);
    websocket_answer_for_client(x);
    bool end = !x->tunnel && attempt->up.in_end && buf_empty(&attempt->up.in) &&
               attempt->up.trailers == NULL;
    end = end || (!x->answer->has_body && !x->tunnel);
    stream_write_head(&x->down, x->answer, end);
    if (x->down.channel != NULL && (x->request.protocol.len > 0 || x->request.connect)) {
        channel_ask_again(x->down.channel); /* the request's end waited for this head */
    }
    attempt_set_recv(attempt, end && attempt->up.in_end ? RECV_ENDED : RECV_BODY);
    x->down_ended = end;
    x->head_sent = true;
    x->head_us = x->worker->loop->now_us;
    x->idle_at_us = 0;
    record_span(x, RECORD_SPAN_ANSWERED);
    if (exchange_is_opaque(x)) {
        report_opened(x);
    }
}

static void move_down(struct exchange *x)
{
    struct attempt *attempt = &x->attempt;
    struct relay_way way = {.from = &attempt->up,
                            .to = &x->down,
                            .trailers = takes_trailers(&x->down, x->request.te_trailers)};
    uint64_t moved;
    if (relay_move(&way, &moved) == RELAY_ENDED) {
        x->down_ended = true;
    }
    if (attempt->up.in_end && attempt->recv == RECV_BODY) {
        attempt_set_recv(attempt, RECV_ENDED);
    }
    x->answer_bytes += moved;
    x->runs_idle = moved > 0 ? 0 : x->runs_idle;
}

static void send_local(struct exchange *x)
{
    if (!x->head_sent) {
        rewrite_answer(x);
        bool end = buf_empty(&x->local_body);
        stream_write_head(&x->down, x->answer, end);
        if (x->request.protocol.len > 0 || x->request.connect) {
            channel_ask_again(x->down.channel);
        }
        x->head_sent = true;
        x->down_ended = end;
        x->status = x->answer->status;
    }
    if (!x->down_ended) {
        size_t before = x->local_body.len;
        x->down_ended = stream_write_data(&x->down, &x->local_body, true) == CODEC_DONE;
        x->answer_bytes += before - x->local_body.len;
    }
}

/* The answer is out and the rest of the upload is nobody's: HTTP/1 reads a little of it, so that
 * the client gets to read the answer before its connection ends (RFC 9112 9.6); HTTP/2 resets the
 * stream. */
static enum result discard_upload(struct exchange *x)
{
    struct stream *down = &x->down;
    uint64_t now_us = x->worker->loop->now_us;
    if (down->in_end || down->channel == NULL) {
        return NEXT;
    }
    if (down->channel->codec->ops->multiplexes) {
        stream_reset(down, H2_NO_ERROR);
        return NEXT;
    }
    if (x->discard_by_us == 0) {
        x->discard_by_us = now_us + DISCARD_US;
    }
    size_t len = down->in.len;
    buf_consume(&down->in, len);
    stream_consumed(down, len);
    if (down->in_bytes > x->request_bytes + DISCARD_BYTES_MAX || now_us >= x->discard_by_us) {
        stream_reset(down, H2_NO_ERROR);
        return NEXT;
    }
    return WAIT;
}

/* A tunnel has no end of its own where a peer is silently gone. What is open in one direction only
 * gets less: connection tracking forgets it after a minute. */
static void watch_tunnel(struct exchange *x)
{
    const struct worker_settings *settings = x->worker->settings;
    const struct tcp_config *tcp = x->service->tcp;
    bool half = x->up_ended || x->down_ended;
    uint64_t idle_us = half          ? settings->half_closed_us
                       : tcp != NULL ? tcp->idle_us
                                     : settings->tunnel_idle_us;
    x->idle_at_us = idle_us != 0 ? x->worker->loop->now_us + idle_us : 0;
}

/* After the head: what goes wrong upstream can only be told by cutting the answer short. */
/* HTTP: this was no way for bytes. Nothing went either way yet, so nobody will know. */
static enum result give_back(struct exchange *x)
{
    stream_detach(&x->down);
    server_give_back(x->server);
    attempt_end(x);
    x->step = STEP_DONE;
    return NEXT;
}

/* Looks at what its server says before the client has said anything (docs/detection.md). NEXT: it
 * is bytes. */
static enum result probe(struct exchange *x)
{
    struct stream *up = &x->attempt.up;
    uint64_t now_us = x->worker->loop->now_us;
    (void)attempt_run(x);
    move_up(x);
    uint8_t first[DETECT_SERVER_BYTES];
    size_t len = buf_peek(&up->in, (struct span){first, sizeof first});
    enum detected detected = detect_server(slice_of(first, len));
    bool spoke = x->down.in_bytes > 0 || x->down.in_end || up->in_end;
    bool over =
        spoke || x->attempt.fail != FAIL_NONE || (x->probe_by_us != 0 && now_us >= x->probe_by_us);
    if (over || detected == DETECTED_OPAQUE) {
        x->probe_by_us = 0;
        server_decide_bytes(x->server);
        return NEXT;
    }
    if (detected != DETECTED_MORE) {
        return give_back(x);
    }
    if (len > 0 && x->probe_by_us == 0) {
        x->probe_by_us = now_us + PROBE_US;
    }
    return WAIT;
}

static enum result relay_upstream(struct exchange *x)
{
    if (UNLIKELY(x->server->probe != NULL)) {
        enum result result = probe(x);
        if (result != NEXT || x->step == STEP_DONE) {
            return result;
        }
    }
    struct attempt *attempt = &x->attempt;
    uint64_t bytes = x->request_bytes + x->answer_bytes;
    bool first = !x->head_sent;
    bool half = x->up_ended || x->down_ended;
    if (!x->head_sent) {
        send_answer_head(x);
    } else {
        (void)attempt_run(x);
    }
    move_up(x);
    if (!x->down_ended) {
        move_down(x);
    }
    bool news = first || x->request_bytes + x->answer_bytes != bytes ||
                (x->up_ended || x->down_ended) != half;
    if (x->tunnel && news) {
        watch_tunnel(x);
        report_moved(x);
    }
    if (x->down_ended && (x->up_ended || !x->tunnel)) {
        return discard_upload(x);
    }
    if (attempt->fail != FAIL_NONE) {
        x->fail = attempt->fail;
        return FAIL;
    }
    return WAIT;
}

static enum result relay(struct exchange *x)
{
    if (x->source == ANSWER_UPSTREAM) {
        return relay_upstream(x);
    }
    send_local(x);
    return x->down_ended ? discard_upload(x) : WAIT;
}

/* ---- report, done ---- */

static enum result report(struct exchange *x)
{
    CHECK(!x->reported);
    x->reported = true;
    attempt_end(x);
    end_charge(x);
    report_exchange(x);
    return NEXT;
}

static void free_exchange(struct grave *grave)
{
    struct exchange *x = CONTAINER_OF(grave, struct exchange, grave);
    struct arena arena = x->arena; /* the exchange lies in it */
    arena_fini(&arena);
}

static enum result done(struct exchange *x)
{
    for (uint32_t i = 0; i < x->tried_count; i++) {
        endpoint_unref(&x->tried[i]);
    }
    endpoint_unref(&x->last_endpoint);
    stream_fini(&x->down);
    buf_clear(&x->replay);
    buf_clear(&x->resend);
    buf_clear(&x->local_body);
    timer_clear(&x->timer);
    task_cancel(&x->task);
    list_remove(&x->link);
    worker_count_exchange(x->worker, false);
    cluster_release(&x->cluster);
    if (x->choice != NULL) {
        x->choice->leave(x->choice);
    }
    service_unref(&x->service);
    server_left(x->server);
    loop_bury(x->worker->loop, &x->grave);
    return WAIT;
}

/* ---- the run ---- */

static const struct {
    const char *name;
    enum result (*run)(struct exchange *);
} steps[STEP_COUNT] = {
#define X(value, function, meaning) [STEP_##value] = {#value, function},
    EXCHANGE_STEPS(X)
#undef X
};

const char *exchange_step_name(enum exchange_step step)
{
    CHECK(step < STEP_COUNT);
    return steps[step].name;
}

/* What no application saw is given back to a sidecar of ours, which tries elsewhere, free of its
 * budget and whatever the method. What policy decided here would be decided so everywhere. */
static bool may_give_back(const struct exchange *x)
{
    if (x->head_sent || x->seen || x->down.channel == NULL || !has_mesh_caller(x)) {
        return false;
    }
    switch (fail_cause(x->fail)) {
    case FAIL_CAUSE_CONNECT:
    case FAIL_CAUSE_REFUSED:
    case FAIL_CAUSE_UNSENT:
        return true;
    case FAIL_CAUSE_LOCAL:
        return x->fail == FAIL_OVERFLOW || x->fail == FAIL_MEMORY || x->fail == FAIL_DRAINING ||
               x->fail == FAIL_NO_HOST;
    case FAIL_CAUSE_NONE:
    case FAIL_CAUSE_RESET:
    case FAIL_CAUSE_TRY_TIMEOUT:
    case FAIL_CAUSE_BAD_ANSWER:
    case FAIL_CAUSE_DEADLINE:
    case FAIL_CAUSE_CLIENT:
        return false;
    }
    return false;
}

/* An application that went away under a request that may be repeated, which the caller can do at
 * another pod: a local reply would look like an answer. What may not be repeated gets that reply.
 */
static bool caller_may_repeat(const struct exchange *x)
{
    return !x->head_sent && !x->tunnel && x->request.protocol.len == 0 && x->down.channel != NULL &&
           has_mesh_caller(x) && fail_cause(x->fail) == FAIL_CAUSE_RESET &&
           message_method_idempotent(x->request.method);
}

/* Before the final head a failure becomes a local reply; after it, or towards a client that speaks
 * no HTTP, the answer is cut. */
static void fail_exchange(struct exchange *x)
{
    if (may_give_back(x)) {
        x->status = fail_facts(x->fail)->http;
        peer_link_refuse(&x->server->peer_link, &x->down, x->fail);
        exchange_finish(x, x->fail);
        return;
    }
    if (caller_may_repeat(x)) {
        x->status = fail_facts(x->fail)->http;
        peer_link_cut(&x->server->peer_link, &x->down, x->fail);
        exchange_finish(x, x->fail);
        return;
    }
    bool can_answer = !x->head_sent && x->down.channel != NULL && fail_facts(x->fail)->http != 0 &&
                      x->service->http != NULL;
    if (!can_answer) {
        exchange_finish(x, x->fail);
        return;
    }
    x->source = ANSWER_LOCAL;
    x->idle_at_us = 0;
    reply_failure(x);
    attempt_end(x);
    x->step = STEP_RELAY;
}

void exchange_finish(struct exchange *x, enum fail fail)
{
    if (x->reported) {
        return;
    }
    if (x->fail == FAIL_NONE) {
        x->fail = fail;
    }
    stream_reset(&x->down, x->fail == FAIL_CLIENT_GONE ? H2_CANCEL : H2_INTERNAL_ERROR);
    x->step = STEP_REPORT;
}

void exchange_broken(struct exchange *x, const char *fact, const char *file, int line)
{
#ifdef PILLION_RELEASE
    log_error("broken", LOG_TEXT("fact", fact), LOG_TEXT("file", file), LOG_I64("line", line));
    exchange_finish(x, FAIL_BUG);
#else
    (void)x;
    check_failed(fact, file, line);
#endif
}

/* What the client and the clock say; both win over whatever the step waits for. */
static void take_events(struct exchange *x)
{
    struct stream *down = &x->down;
    unsigned events = down->events;
    down->events = 0;
    x->runs_idle = (events | x->attempt.up.events) != 0 ? 0 : x->runs_idle;
    if (x->attempt.up.events != 0) {
        attempt_moved(x);
    }
    if (x->step >= STEP_REPORT) {
        return;
    }
    if ((events & (STREAM_LOST | STREAM_RESET)) != 0) {
        bool finished = x->down_ended && !x->tunnel;
        if (!finished) {
            exchange_finish(x, FAIL_CLIENT_GONE);
        }
        return;
    }
    if ((events & STREAM_REFUSED) != 0) { /* a bad chunk, a cut body */
        x->bad = down->bad;
        x->fail = FAIL_REQUEST_BAD;
        fail_exchange(x);
        return;
    }
    if ((events & STREAM_END) != 0) {
        timeout_request_ended(&x->plan, x->worker->loop->now_us);
    }
    if (events != 0 && x->idle_at_us != 0 && !x->head_sent) {
        x->idle_at_us = x->worker->loop->now_us + x->plan.idle_us;
    }
}

static bool passed(uint64_t deadline_us, uint64_t now_us)
{
    return deadline_us != 0 && now_us >= deadline_us;
}

static void take_time(struct exchange *x)
{
    uint64_t now_us = x->worker->loop->now_us;
    if (x->step >= STEP_REPORT || x->fail != FAIL_NONE) {
        return;
    }
    enum fail at_deadline;
    if (passed(timeout_of_request(&x->plan, &at_deadline), now_us)) {
        x->fail = at_deadline;
    } else if (passed(x->idle_at_us, now_us)) {
        bool theirs = !x->tunnel && !x->up_ended && !x->down.in_end;
        x->fail = theirs ? FAIL_REQUEST_STALLED : FAIL_STREAM_IDLE;
    } else if (x->step == STEP_RELAY && x->source == ANSWER_UPSTREAM &&
               passed(x->attempt.idle_at_us, now_us)) {
        x->fail = FAIL_TRY_IDLE;
    }
    if (x->fail != FAIL_NONE) {
        fail_exchange(x);
        return;
    }
    struct attempt *at = &x->attempt;
    bool trying = x->step == STEP_ATTEMPT && at->endpoint != NULL && at->recv < RECV_HELD;
    if (trying && passed(at->deadline_us, now_us) && at->fail == FAIL_NONE) {
        at->fail = FAIL_TRY_TIMEOUT;
    } else if (trying && passed(at->idle_at_us, now_us) && at->fail == FAIL_NONE) {
        at->fail = FAIL_TRY_IDLE;
    }
}

/* Only what take_time and the step still look at: a deadline that is past and that nobody takes
 * down would wake the exchange in every tick. */
static void arm(struct exchange *x)
{
    bool open = x->fail == FAIL_NONE;
    bool attempting = x->step == STEP_ATTEMPT;
    bool upstream = open && x->attempt.endpoint != NULL && x->source == ANSWER_UPSTREAM;
    enum fail at_deadline;
    const uint64_t deadlines[] = {open ? timeout_of_request(&x->plan, &at_deadline) : 0,
                                  open ? x->idle_at_us : 0,
                                  attempting ? x->retry_at_us : 0,
                                  x->discard_by_us,
                                  x->probe_by_us,
                                  attempting && x->attempt.endpoint != NULL ? x->attempt.deadline_us
                                                                            : 0,
                                  upstream ? x->attempt.idle_at_us : 0};
    uint64_t first = UINT64_MAX;
    for (unsigned i = 0; i < COUNT_OF(deadlines); i++) {
        first = deadlines[i] != 0 && deadlines[i] < first ? deadlines[i] : first;
    }
    if (first != UINT64_MAX) {
        timer_set(x->worker->loop, &x->timer, first);
    } else {
        timer_clear(&x->timer);
    }
}

/* Output of one exchange leaves when it has run; that of shared connections at the end of the tick.
 */
static void push(struct exchange *x)
{
    if (x->down.channel != NULL) {
        channel_push(x->down.channel);
    }
    if (x->attempt.up.channel != NULL) {
        channel_push(x->attempt.up.channel);
    }
}

static void run(struct task *task)
{
    struct exchange *x = CONTAINER_OF(task, struct exchange, task);
    check_set_running(x->id);
    take_events(x);
    take_time(x);
    enum result result = NEXT;
    while (result != WAIT) {
        enum exchange_step step = x->step;
        result = steps[step].run(x);
        if (result == NEXT && x->step == step) {
            x->step = (enum exchange_step)(step + 1);
        } else if (result == FAIL) {
            fail_exchange(x);
        }
        if (x->step >= STEP_REPORT && step < STEP_REPORT) {
            push(x); /* what was written must leave before the streams come off */
        }
    }
    if (x->step != STEP_DONE) {
        push(x);
        arm(x);
        x->runs_idle++;
        if (!EXPECT(x, x->runs_idle < RUNS_IDLE_MAX)) {
            loop_post(x->worker->loop, &x->task);
        }
    }
    check_set_running(0);
}

bool exchange_is_opaque(const struct exchange *x)
{
    bool from_sidecar = x->service->direction == LISTENER_INBOUND && x->server->tunnel_port != 0;
    return x->service->http == NULL || (from_sidecar && x->request.connect);
}

/* ---- beginnings ---- */

/* A tunnel may idle for hours, and needs little beside this struct: what an opaque connection, or
 * the CONNECT of another sidecar, takes in its arena until bytes flow, with a few bytes to spare.
 * More of them is no error but a block more. */
#define OPAQUE_ARENA_BYTES  (sizeof(struct exchange) + 352)
#define CONNECT_ARENA_BYTES (sizeof(struct exchange) + 480)
#define TUNNEL_LATER_BYTES  1008
#define TUNNEL_EXTRA_FIELDS 4

static_assert(sizeof(struct exchange) <= 1536, "an idle tunnel holds one at either end");

/* `small`: size of the arena's first block; 0: an ordinary one. */
static struct exchange *new_exchange(struct server *server, size_t small)
{
    struct worker *worker = server->worker;
    struct arena arena;
    if (small > 0) {
        arena_init_small(&arena, &worker->loop->arenas, (uint32_t)small, TUNNEL_LATER_BYTES);
    } else {
        arena_init(&arena, &worker->loop->arenas);
    }
    struct exchange *x = ARENA_NEW(&arena, struct exchange);
    x->arena = arena;
    x->worker = worker;
    x->server = server;
    service_renew(&server->service);
    x->service = server->service;
    service_ref(x->service);
    x->task.run = run;
    x->timer.task = &x->task;
    x->grave.free = free_exchange;
    x->id = ++worker->exchanges_begun;
    x->begun_us = worker->loop->now_us;
    x->replayable = true;
    stream_init(&x->down, worker->loop, &x->arena, &x->task);
    buf_init(&x->replay, &worker->loop->bufs);
    buf_init(&x->resend, &worker->loop->bufs);
    buf_init(&x->local_body, &worker->loop->bufs);
    list_append(&server->exchanges, &x->link);
    worker_count_exchange(worker, true);
    record_begin(x);
    return x;
}

static void start(struct exchange *x, uint32_t stream)
{
    stream_attach(&x->down, &x->server->channel, stream);
    if (x->server->channel.codec->ops->multiplexes) {
        loop_post(x->worker->loop, &x->task);
    } else {
        loop_post_next(x->worker->loop, &x->task);
    }
}

void exchange_begin(struct server *server, const struct codec_event *ev)
{
    bool tunnel = ev->message->connect;
    struct exchange *x = new_exchange(server, tunnel ? CONNECT_ARENA_BYTES : 0);
    message_copy(&x->request, &x->arena, ev->message,
                 tunnel ? TUNNEL_EXTRA_FIELDS : REWRITE_EXTRA_FIELDS);
    x->client_authority = x->request.authority;
    x->client_path = x->request.path;
    uint64_t length = x->request.content_length;
    x->replayable =
        length == MESSAGE_LENGTH_UNKNOWN || length <= server->worker->settings->replay_bytes;
    start(x, ev->stream);
}

static void begin_failed(struct server *server, uint32_t stream, enum fail fail, enum codec_bad bad)
{
    struct exchange *x = new_exchange(server, 0);
    x->request = (struct message){.kind = MESSAGE_REQUEST, .version = MESSAGE_HTTP_1_1};
    x->bad = (uint8_t)bad;
    x->fail = fail;
    start(x, stream);
    fail_exchange(x);
}

void exchange_begin_refused(struct server *server, uint32_t stream, enum codec_bad bad)
{
    begin_failed(server, stream, FAIL_REQUEST_BAD, bad);
}

void exchange_begin_late(struct server *server, uint32_t stream)
{
    begin_failed(server, stream, FAIL_REQUEST_STALLED, CODEC_BAD_NONE);
}

void exchange_begin_opaque(struct server *server)
{
    struct exchange *x = new_exchange(server, OPAQUE_ARENA_BYTES);
    char text[ADDR_TEXT_MAX];
    x->tunnel = true;
    x->down.tunnel = true;
    x->request = (struct message){
        .kind = MESSAGE_REQUEST,
        .version = MESSAGE_HTTP_2,
        .method = SLICE("CONNECT"),
        .authority = arena_dup(&x->arena, slice_of_text(addr_format(&server->original, text))),
        .connect = true,
        .content_length = MESSAGE_LENGTH_UNKNOWN,
        .has_body = true,
        .keep_alive = true,
    };
    start(x, 1);
}
