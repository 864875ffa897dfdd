#include "sidecar/exchange/attempt.h"

#include "http/grpc.h"
#include "http/h2.h"
#include "http/raw.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/exchange/record.h"
#include "sidecar/exchange/report.h"
#include "sidecar/exchange/rewrite.h"
#include "sidecar/exchange/server.h"
#include "sidecar/exchange/websocket.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/dial.h"
#include "sidecar/upstream/lb.h"
#include "sidecar/upstream/outlier.h"
#include "sidecar/upstream/peer_link.h"
#include "sidecar/worker.h"

#define H2_CANCEL         8U /* RFC 9113 7 */
#define H2_REFUSED_STREAM 7U

const char *send_state_name(enum send_state state)
{
    static const char *const names[] = {
#define X(value, meaning) [SEND_##value] = #value,
        SEND_STATES(X)
#undef X
    };
    CHECK(state < SEND_COUNT);
    return names[state];
}

const char *recv_state_name(enum recv_state state)
{
    static const char *const names[] = {
#define X(value, meaning) [RECV_##value] = #value,
        RECV_STATES(X)
#undef X
    };
    CHECK(state < RECV_COUNT);
    return names[state];
}

#define BIT(state) (1U << (state))

void attempt_set_send(struct attempt *attempt, enum send_state state)
{
    static const uint8_t allowed[SEND_COUNT] = {
        [SEND_IDLE] = BIT(SEND_WAIT) | BIT(SEND_CUT),
        [SEND_WAIT] = BIT(SEND_BODY) | BIT(SEND_ENDED) | BIT(SEND_CUT),
        [SEND_BODY] = BIT(SEND_ENDED) | BIT(SEND_CUT),
        [SEND_ENDED] = BIT(SEND_CUT),
        [SEND_CUT] = 0,
    };
    CHECK((allowed[attempt->send] & BIT(state)) != 0);
    attempt->send = state;
}

void attempt_set_recv(struct attempt *attempt, enum recv_state state)
{
    static const uint8_t allowed[RECV_COUNT] = {
        [RECV_NONE] = BIT(RECV_INTERIM) | BIT(RECV_HELD) | BIT(RECV_CUT),
        [RECV_INTERIM] = BIT(RECV_INTERIM) | BIT(RECV_HELD) | BIT(RECV_CUT),
        [RECV_HELD] = BIT(RECV_BODY) | BIT(RECV_ENDED) | BIT(RECV_CUT),
        [RECV_BODY] = BIT(RECV_ENDED) | BIT(RECV_CUT),
        [RECV_ENDED] = BIT(RECV_CUT),
        [RECV_CUT] = 0,
    };
    CHECK((allowed[attempt->recv] & BIT(state)) != 0);
    attempt->recv = state;
}

static void fail_with(struct attempt *attempt, enum fail fail)
{
    if (attempt->fail == FAIL_NONE) {
        attempt->fail = fail;
    }
}

/* Where every endpoint is left out and one of them for who it is, that is the reason to tell. */
static enum fail why_nobody(const struct cluster *cluster, enum fail fail)
{
    for (uint32_t i = 0; i < cluster->endpoint_count && fail == FAIL_NO_HOST; i++) {
        const struct endpoint *endpoint = cluster->endpoints[i];
        if (atomic_load_explicit(&endpoint->shared->identity_refused, memory_order_relaxed)) {
            return FAIL_TLS_PEER;
        }
    }
    return fail;
}

void attempt_moved(struct exchange *exchange)
{
    uint64_t idle_us = exchange->plan.try_idle_us;
    exchange->attempt.idle_at_us = idle_us != 0 ? exchange->worker->loop->now_us + idle_us : 0;
}

void attempt_begin(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct worker *worker = exchange->worker;
    struct loop *loop = worker->loop;
    if (exchange->attempts++ > 0) { /* before the first it is zero, as all of the exchange was */
        *attempt = (struct attempt){.sent_continue = attempt->sent_continue};
    }
    attempt->begun_us = loop->now_us;
    stream_init(&attempt->up, loop, &exchange->arena, &exchange->task);
    struct lb_query query = {.tried = exchange->tried,
                             .tried_count = exchange->tried_count,
                             .original = exchange->server->original,
                             .draw = rng_u64(&worker->rng),
                             .now_us = loop->now_us};
    struct lb_choice choice = lb_pick(exchange->cluster, &query);
    if (choice.endpoint == NULL) {
        fail_with(attempt, why_nobody(exchange->cluster, choice.fail));
        return;
    }
    bool high = exchange->found.route != NULL && exchange->found.route->kind == ROUTE_FORWARD &&
                exchange->found.route->forward.high_priority;
    attempt->endpoint = choice.endpoint;
    endpoint_ref(attempt->endpoint);
    if (!breaker_begin(exchange->cluster, BREAKER_REQUESTS, high)) {
        fail_with(attempt, FAIL_OVERFLOW);
        breaker_count_overflow(worker->stats, BREAKER_REQUESTS);
        return;
    }
    attempt->counted = true;
    if (exchange->attempts == 1) {
        record_span(exchange, RECORD_SPAN_ENDPOINT);
    }
    endpoint_begin(attempt->endpoint, loop->now_us);
    attempt_set_send(attempt, SEND_WAIT);
    attempt->ticket.stream = &attempt->up;
    attempt->ticket.high = high;
    enum fail at_deadline;
    attempt->deadline_us = timeout_of_try(&exchange->plan, loop->now_us, &at_deadline);
    attempt_moved(exchange);
    pool_ask(worker, attempt->endpoint, dial_protocol(attempt->endpoint, &exchange->request),
             &attempt->ticket);
}

/* An opaque connection answers nothing: being connected is its final head. */
static void answer_for_raw(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct message *head = ARENA_NEW(&exchange->arena, struct message);
    *head = (struct message){.kind = MESSAGE_RESPONSE,
                             .version = MESSAGE_HTTP_1_1,
                             .status = 200,
                             .content_length = MESSAGE_LENGTH_UNKNOWN,
                             .has_body = true,
                             .keep_alive = true};
    attempt->up.head = head;
    attempt->up.tunnel = true; /* its end may be written before the head is looked at */
    attempt->up.events |= STREAM_HEAD;
}

/* A tunnel names the port at which its peer was reached, which is what the peer allows; services
 * may have another. */
static void name_endpoint(struct exchange *exchange)
{
    char text[ADDR_TEXT_MAX];
    const struct addr *addr = &exchange->attempt.endpoint->config.addr;
    exchange->request.authority =
        arena_dup(&exchange->arena, slice_of_text(addr_format(addr, text)));
}

/* Over HTTP/2 an upgrade waits until the peer has said whether it takes one (RFC 8441 3). False:
 * not yet, or never. */
static bool peer_takes_upgrade(struct attempt *attempt, const struct message *request)
{
    const struct codec *codec = attempt->up.channel->codec;
    if (request->protocol.len == 0 || !codec->ops->multiplexes ||
        h2_peer_takes_connect_protocol(codec)) {
        return true;
    }
    if (h2_heard_settings(codec)) {
        fail_with(attempt, FAIL_UPGRADE_UNKNOWN);
    }
    return false;
}

static void send_head(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    if (!peer_takes_upgrade(attempt, &exchange->request)) {
        return;
    }
    struct stream *down = &exchange->down;
    bool nothing_follows = down->in_end && buf_empty(&down->in) && down->trailers == NULL &&
                           buf_empty(&exchange->resend);
    /* An upgrade's own end waits for the answer: it may become a tunnel. */
    bool upgrade = exchange->request.protocol.len > 0 || exchange->request.connect;
    /* gRPC servers wait for the end on DATA, and some for ever (gRPC over HTTP/2, Requests). */
    bool late = nothing_follows && !exchange->grpc;
    bool end = !upgrade && (!exchange->request.has_body || late);
    if (!stream_open(&attempt->up)) {
        fail_with(attempt, FAIL_UNSENT);
        return;
    }
    if (exchange->service->http == NULL) {
        name_endpoint(exchange);
    }
    rewrite_deadline(exchange);
    if (!attempt->up.channel->codec->ops->multiplexes) {
        websocket_key_for_server(exchange);
    }
    stream_write_head(&attempt->up, &exchange->request, end);
    record_span(exchange, RECORD_SPAN_SENT);
    attempt_set_send(attempt, end ? SEND_ENDED : SEND_BODY);
    exchange->up_ended = end;
    if (codec_is_raw(attempt->up.channel->codec)) {
        answer_for_raw(exchange);
    }
}

static void pass_interim_on(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    const struct message *interim = attempt->up.interims->message;
    attempt->up.interims = attempt->up.interims->next;
    bool second_continue = interim->status == 100 && attempt->sent_continue;
    if (exchange->request.version != MESSAGE_HTTP_1_0 && !second_continue) {
        stream_write_interim(&exchange->down, interim);
    }
    attempt->sent_continue = attempt->sent_continue || interim->status == 100;
    attempt_set_recv(attempt, RECV_INTERIM);
}

static enum fail fail_of_bad(uint8_t bad)
{
    bool large = bad == CODEC_BAD_HEAD_LARGE || bad == CODEC_BAD_HEAD_COUNT;
    return large ? FAIL_ANSWER_HEAD_LARGE : FAIL_ANSWER_BAD;
}

static enum fail fail_of_loss(const struct attempt *attempt)
{
    if (attempt->up.bad != CODEC_BAD_NONE) {
        return fail_of_bad(attempt->up.bad);
    }
    if (attempt->up.refusal != NULL) {
        return FAIL_TLS;
    }
    if (attempt->send == SEND_WAIT) {
        return FAIL_UNSENT;
    }
    return attempt->recv == RECV_BODY ? FAIL_ANSWER_CUT : FAIL_UPSTREAM_CLOSED;
}

/* HTTP/1 has no reset of a stream: its codec says so of a connection that ended under an answer. */
static enum fail fail_of_reset(const struct attempt *attempt)
{
    if (attempt->up.channel == NULL || !attempt->up.channel->codec->ops->multiplexes) {
        return fail_of_loss(attempt);
    }
    if (attempt->up.reset_code == H2_REFUSED_STREAM && attempt->recv == RECV_NONE) {
        return FAIL_REFUSED_STREAM;
    }
    if (attempt->recv == RECV_BODY) {
        return FAIL_ANSWER_CUT;
    }
    bool told = fail_cause(attempt->refusal) == FAIL_CAUSE_RESET;
    return told ? attempt->refusal : FAIL_UPSTREAM_RESET;
}

/* What the stream says since the last run. */
static void take_events(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    struct stream *up = &attempt->up;
    unsigned events = up->events;
    up->events = 0;
    while (up->interims != NULL) {
        pass_interim_on(exchange);
    }
    if ((events & STREAM_HEAD) != 0) {
        attempt_set_recv(attempt, RECV_HELD);
        /* The peer could not open the tunnel; its words about that are not the server's bytes. */
        if (exchange->service->http == NULL && up->head->status / 100 != 2) {
            fail_with(attempt, FAIL_CONNECT_RESET);
        }
    }
    if ((events & STREAM_REFUSED) != 0) {
        fail_with(attempt, fail_of_bad(up->bad));
    }
    bool complete = up->in_end && attempt->recv != RECV_NONE && attempt->recv != RECV_INTERIM;
    if ((events & STREAM_RESET) != 0 && !complete) {
        attempt->refusal = peer_link_refusal(up);
        fail_with(attempt, fail_of_reset(attempt));
    }
    if ((events & STREAM_LOST) != 0 && !complete) {
        fail_with(attempt, fail_of_loss(attempt));
    }
}

enum attempt_step attempt_run(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    if (attempt->fail == FAIL_NONE) {
        switch (attempt->ticket.state) {
        case TICKET_IDLE:
            CHECK(attempt->fail != FAIL_NONE);
            break;
        case TICKET_WAITING:
            return ATTEMPT_WAIT;
        case TICKET_FAILED:
            fail_with(attempt, attempt->ticket.fail);
            break;
        case TICKET_READY:
            if (attempt->send == SEND_WAIT && attempt->up.channel != NULL) {
                send_head(exchange);
            }
            take_events(exchange);
            break;
        }
    }
    if (attempt->fail != FAIL_NONE) {
        return ATTEMPT_FAILED;
    }
    return attempt->recv == RECV_HELD ? ATTEMPT_HEAD : ATTEMPT_WAIT;
}

/* gRPC says how it went in grpc-status; its HTTP status is 200 whatever happened. */
static uint16_t status_of(const struct exchange *exchange)
{
    const struct stream *up = &exchange->attempt.up;
    int grpc = exchange->grpc ? grpc_status_of(up->head, up->trailers) : -1;
    return grpc >= 0 && up->head->status == 200 ? grpc_status_to_http((enum grpc_status)grpc)
                                                : up->head->status;
}

/* What an attempt tells of its endpoint: nothing when it was the client that left. */
static void report_outcome(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    bool answered =
        attempt->recv == RECV_HELD || attempt->recv == RECV_BODY || attempt->recv == RECV_ENDED;
    if (attempt->endpoint == NULL || attempt->endpoint->cluster == NULL ||
        (attempt->fail == FAIL_NONE && !answered) || attempt->fail == FAIL_OVERFLOW) {
        return;
    }
    struct worker *worker = exchange->worker;
    struct outlier_event event = {.fail = attempt->fail};
    if (attempt->fail == FAIL_NONE && attempt->up.head != NULL) {
        event.status = status_of(exchange);
    }
    enum outlier_cause cause = outlier_report(attempt->endpoint->cluster, attempt->endpoint, &event,
                                              worker->loop->now_us, rng_u64(&worker->rng));
    if (cause != OUTLIER_NONE) {
        worker_note_ejection(worker, attempt->endpoint, cause);
        if (attempt->endpoint->pool != NULL) {
            pool_retire(attempt->endpoint->pool);
        }
    }
}

void attempt_end(struct exchange *exchange)
{
    struct attempt *attempt = &exchange->attempt;
    report_outcome(exchange);
    if (attempt->begun_us != 0) {
        attempt->begun_us = 0;
        report_attempt(exchange);
    }
    if (attempt->up.channel != NULL) {
        bool whole = attempt->up.in_end && attempt->up.out_end;
        if (whole) {
            stream_detach(&attempt->up);
        } else {
            stream_reset(&attempt->up, H2_CANCEL);
        }
    }
    stream_fini(&attempt->up);
    pool_finish(&attempt->ticket);
    if (attempt->counted && !MUTANT(33)) {
        attempt->counted = false;
        breaker_end(exchange->cluster, BREAKER_REQUESTS);
        endpoint_end(attempt->endpoint);
    }
    if (attempt->endpoint != NULL) {
        endpoint_unref(&exchange->last_endpoint);
        exchange->last_endpoint = attempt->endpoint;
        attempt->endpoint = NULL;
    }
}
