#include "sidecar/exchange/report.h"

#include "base/log.h"
#include "http/codec.h"
#include "http/grpc.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/exchange/record.h"
#include "sidecar/exchange/server.h"
#include "sidecar/observe/access_log.h"
#include "sidecar/observe/stats.h"
#include "sidecar/worker.h"

/* How much of an opaque connection may be missing in the metrics while it lasts, and for how long
 * while bytes move. */
#define TELL_BYTES (1024U * 1024)
#define TELL_US    5000000U

void report_attempt(struct exchange *x)
{
    struct stats_worker *stats = x->worker->stats;
    enum fail fail = x->attempt.fail;
    record_try(x);
    stats_count(stats, STAT_ATTEMPTS, 1);
    if (fail != FAIL_NONE) {
        stats_count_by(stats, STAT_ATTEMPT_FAILURES, fail, fail_name(fail));
    }
}

void report_verdict(struct exchange *x, const struct retry_verdict *verdict)
{
    x->record.why = (uint8_t)verdict->why;
    if (verdict->why == RETRY_WHY_FINAL) {
        return; /* the common case is no news */
    }
    stats_count_by(x->worker->stats, STAT_RETRY_VERDICTS, verdict->why,
                   retry_why_name(verdict->why));
    if (verdict->why == RETRY_WHY_BODY) {
        stats_count(x->worker->stats, STAT_REPLAY_TOO_LARGE, 1);
        log_limited(LOG_LEVEL_WARNING, "not retried: more was sent already than is held",
                    LOG_U64("exchange", x->id));
    }
    if (verdict->limit_hit && verdict->why == RETRY_WHY_EXHAUSTED) {
        x->record.bits |= RECORD_RETRIES_ENDED;
    }
}

/* ---- metrics ---- */

static int16_t grpc_status(const struct exchange *x)
{
    bool theirs = x->source == ANSWER_UPSTREAM;
    return (int16_t)grpc_status_of(x->answer, theirs ? x->attempt.up.trailers : NULL);
}

static const struct endpoint *endpoint_of(const struct exchange *x)
{
    return x->attempt.endpoint != NULL ? x->attempt.endpoint : x->last_endpoint;
}

static struct stats_key key_of(const struct exchange *x)
{
    const struct endpoint *endpoint = endpoint_of(x);
    bool opaque = exchange_is_opaque(x);
    struct stats_key key = {
        .cluster = x->cluster != NULL ? x->cluster->stats_hash : 0,
        .peer = x->server->peer_hash,
        .status = opaque ? 0 : x->status,
        .grpc = -1,
        .fail = (uint8_t)x->fail,
        .protocol = opaque    ? STATS_TCP
                    : x->grpc ? STATS_GRPC
                              : STATS_HTTP,
        .inbound = x->service->direction == LISTENER_INBOUND,
        .retries_ended = (x->record.bits & RECORD_RETRIES_ENDED) != 0,
    };
    if (key.inbound) {
        key.cluster = 0; /* says nothing that labels show */
    } else if (endpoint != NULL) {
        key.endpoint = endpoint->stats_hash;
    }
    if (key.protocol == STATS_GRPC) {
        key.grpc = grpc_status(x);
    }
    return key;
}

static struct stats_names names_of(const struct exchange *x)
{
    const struct endpoint *endpoint = endpoint_of(x);
    return (struct stats_names){
        .cluster = x->cluster != NULL ? x->cluster->config->name : (struct slice){NULL, 0},
        .endpoint = endpoint != NULL ? &endpoint->config : NULL,
        .peer = x->server->peer_identity,
        .peer_says = x->server->peer_names != NULL ? &x->server->peer_names->workload : NULL,
    };
}

void report_opened(struct exchange *x)
{
    struct stats_key key = key_of(x);
    struct stats_names names = names_of(x);
    stats_opened(x->worker->stats, &key, &names, x->worker->loop->now_us);
    x->told_us = x->worker->loop->now_us;
}

/* What moved since it was last told, which it is with this. */
static struct stats_amounts amounts_of(struct exchange *x)
{
    uint64_t now_us = x->worker->loop->now_us;
    struct stats_amounts amounts = {.duration_us = now_us - x->begun_us,
                                    .request_bytes = x->request_bytes - x->told_request_bytes,
                                    .answer_bytes = x->answer_bytes - x->told_answer_bytes};
    x->told_request_bytes = x->request_bytes;
    x->told_answer_bytes = x->answer_bytes;
    x->told_us = now_us;
    return amounts;
}

void report_moved(struct exchange *x)
{
    uint64_t now_us = x->worker->loop->now_us;
    uint64_t untold =
        x->request_bytes + x->answer_bytes - x->told_request_bytes - x->told_answer_bytes;
    if (!exchange_is_opaque(x) || (untold < TELL_BYTES && now_us < x->told_us + TELL_US)) {
        return;
    }
    struct stats_key key = key_of(x);
    struct stats_names names = names_of(x);
    struct stats_amounts amounts = amounts_of(x);
    stats_moved(x->worker->stats, &key, &names, &amounts, now_us);
}

/* HTTP/1 has room for trailers behind a chunked body only (RFC 9112 7.1.2). */
static bool trailers_lost(const struct exchange *x)
{
    bool chunked = x->answer != NULL && x->answer->content_length == MESSAGE_LENGTH_UNKNOWN &&
                   x->request.version != MESSAGE_HTTP_1_0;
    return x->source == ANSWER_UPSTREAM && x->attempt.up.trailers != NULL && !chunked &&
           x->request.version != MESSAGE_HTTP_2;
}

static void count(struct exchange *x)
{
    struct stats_worker *stats = x->worker->stats;
    uint64_t now_us = x->worker->loop->now_us;
    struct stats_key key = key_of(x);
    struct stats_names names = names_of(x);
    struct stats_amounts amounts = amounts_of(x);
    if (key.protocol == STATS_TCP && !x->head_sent) {
        stats_opened(stats, &key, &names, now_us); /* in vain, but none closes that did not open */
    }
    stats_ended(stats, &key, &names, &amounts, now_us);
    if (x->fail != FAIL_NONE) {
        stats_count_by(stats, STAT_FAILURES, x->fail, fail_name(x->fail));
    }
    if (trailers_lost(x)) {
        stats_count(stats, STAT_TRAILERS_DROPPED, 1);
    }
    if (x->bad != CODEC_BAD_NONE) {
        stats_count_by(stats, STAT_CODEC_REFUSALS, x->bad, codec_bad_name((enum codec_bad)x->bad));
    }
}

/* ---- the access log ---- */

/* As Envoy says it where the answer is the endpoint's; else our own word for the ending. */
static struct slice details_of(const struct exchange *x, char text[FAIL_DETAILS_MAX])
{
    if (x->fail == FAIL_NONE) {
        return x->source == ANSWER_UPSTREAM ? SLICE("via_upstream") : SLICE("direct_response");
    }
    return fail_details(x->fail, text);
}

/* What names have to say; empty where nothing was found. */
static void name_facts(const struct exchange *x, struct access_facts *facts)
{
    const struct route *route = x->found.route;
    if (route != NULL) {
        facts->route = route->name;
        facts->object = route->origin != NULL ? route->origin->object : facts->object;
    }
    if (x->cluster != NULL) {
        facts->cluster = x->cluster->config->name;
        facts->cluster_stat = x->cluster->config->stat_name;
    }
    const struct endpoint *endpoint = endpoint_of(x);
    facts->upstream = endpoint != NULL ? &endpoint->config.addr : NULL;
    if (fail_cause(x->fail) == FAIL_CAUSE_CONNECT) {
        facts->transport_failure = x->reply_detail;
    }
}

static void write_access_logs(struct exchange *x)
{
    const struct hcm_config *http = x->service->http;
    const struct tcp_config *tcp = x->service->tcp;
    const struct access_log_config *logs = http != NULL ? http->access_logs : tcp->access_logs;
    unsigned count = http != NULL ? http->access_log_count : tcp->access_log_count;
    if (count == 0 || x->worker->access == NULL) {
        return;
    }
    char flags[16];
    char details[FAIL_DETAILS_MAX];
    struct access_facts facts = {
        .request = http != NULL ? &x->request : NULL,
        .answer = x->answer,
        .trailers = x->source == ANSWER_UPSTREAM ? x->attempt.up.trailers : NULL,
        .original_path = x->client_path,
        .details = details_of(x, details),
        .client_identity = x->server->peer_identity,
        .flags = stats_flags(x->fail, (x->record.bits & RECORD_RETRIES_ENDED) != 0, flags),
        .client = &x->server->peer,
        .local = server_get_local(x->server),
        .start_wall_us = x->record.begun_wall_us,
        .duration_us = x->worker->loop->now_us - x->begun_us,
        .response_us = x->head_us != 0 ? x->head_us - x->begun_us : 0,
        .bytes_received = x->request_bytes,
        .bytes_sent = x->answer_bytes,
        .attempts = x->attempts,
        .status = http != NULL ? x->status : 0,
        .grpc = x->grpc ? grpc_status(x) : -1,
    };
    name_facts(x, &facts);
    for (unsigned i = 0; i < count; i++) {
        access_logs_write(x->worker->access, &logs[i], &facts);
    }
}

/* ---- the log of failures ---- */

static void log_failure(const struct exchange *x)
{
    const struct route *route = x->found.route;
    struct slice none = {NULL, 0};
    char text[ADDR_TEXT_MAX];
    log_limited(
        LOG_LEVEL_INFO, "exchange failed", LOG_TEXT("fail", fail_name(x->fail)),
        LOG_U64("status", x->status), LOG_U64("attempts", x->attempts),
        LOG_SLICE("cluster", x->cluster != NULL ? x->cluster->config->name : none),
        LOG_SLICE("object", route != NULL && route->origin != NULL ? route->origin->object : none),
        LOG_SLICE("request_id", headers_value(&x->request.headers, HEADER_X_REQUEST_ID)),
        LOG_TEXT("client", addr_format(&x->server->peer, text)));
}

void report_exchange(struct exchange *x)
{
    record_end(x);
    count(x);
    recorder_keep(x->worker->recorder, x);
    write_access_logs(x);
    if (x->fail != FAIL_NONE && x->fail != FAIL_CLIENT_GONE) {
        log_failure(x);
    }
}
