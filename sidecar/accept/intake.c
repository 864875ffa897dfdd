/* A connection is an intake from accept until a server has it. What must be known first decides how
 * far it goes: a listener whose chains all look the same from outside hands over at once, without
 * reading a byte; one that inspects reads into a small buffer of its own, and what was read goes on
 * as the connection's early bytes. Nothing here outlives the listener's time limit. */
#include "sidecar/accept/intake.h"

#include <string.h>

#include "base/alloc.h"
#include "base/client_hello.h"
#include "base/conn_tls.h"
#include "base/log.h"
#include "http/detect.h"
#include "http/raw.h"
#include "sidecar/accept/listener.h"
#include "sidecar/alpn.h"
#include "sidecar/fail.h"
#include "sidecar/observe/access_log.h"
#include "sidecar/observe/stats.h"
#include "sidecar/route/chain.h"
#include "sidecar/worker.h"

#define FIRST_BYTES_MAX CLIENT_HELLO_MAX_BYTES
#define ALPN_MAX        16
#define TLS_TIMEOUT_US  UINT64_C(10000000)

/* X(value, meaning) */
#define INTAKE_STEPS(X)                                                                            \
    X(FIRST, "its first bytes decide about its chain")                                             \
    X(PREFACE, "they decide between the versions of HTTP")                                         \
    X(TLS, "the handshake")                                                                        \
    X(PROBE, "it is served as bytes, unless the application shows that it speaks HTTP")            \
    X(DONE, "a server has it, or it is gone")

enum intake_step {
#define X(value, meaning) INTAKE_##value,
    INTAKE_STEPS(X)
#undef X
};

struct intake {
    struct list link; /* in worker->intakes */
    struct listener *listener;
    struct net_conn *net;             /* until there is a conn */
    struct conn *conn;                /* during the TLS handshake */
    const struct filter_chain *chain; /* chosen; kept by `service` */
    struct service *service;          /* a reference, with `chain` */
    struct task task;
    struct timer timer;
    struct grave grave;
    enum intake_step step;
    struct server_probe probe;
    struct addr original; /* where the connection was meant to go; chooses the chain */
    struct addr upstream; /* where it goes on to, where a cluster asks for that */
    struct addr peer;
    uint64_t begun_us;
    uint8_t *first; /* bytes that were read; null: none */
    uint32_t first_len;
    bool http2; /* they are HTTP/2's preface */
    bool peer_closed;
    bool speaks_http; /* the application does, as it showed: silence is no sign of bytes */
};

static void free_intake(struct grave *grave)
{
    struct intake *intake = CONTAINER_OF(grave, struct intake, grave);
    mem_free(intake->first);
    mem_free(intake);
}

/* The intake is over, whoever has the connection now. */
static void end(struct intake *intake)
{
    intake->step = INTAKE_DONE;
    server_probe_leave(&intake->probe);
    worker_weigh(intake->listener->worker, -1);
    service_unref(&intake->service);
    list_remove(&intake->link);
    task_cancel(&intake->task);
    timer_clear(&intake->timer);
    loop_bury(intake->listener->worker->loop, &intake->grave);
}

/* Counted, and logged where the listener asks for it, as Envoy does with connections that no filter
 * chain got. `cause`: more than the kind of failure says; may be empty. */
static void report(const struct intake *intake, enum fail why, struct slice cause)
{
    const struct worker *worker = intake->listener->worker;
    const struct listener_config *config = intake->listener->config;
    stats_count_by(worker->stats, STAT_FAILURES, why, fail_name(why));
    if (worker->access == NULL) {
        return;
    }
    char details[FAIL_DETAILS_MAX];
    char flags[16];
    uint64_t duration_us = worker->loop->now_us - intake->begun_us;
    struct access_facts facts = {.details = fail_details(why, details),
                                 .transport_failure = cause,
                                 .flags = stats_flags(why, false, flags),
                                 .client = &intake->peer,
                                 .local = &intake->original,
                                 .start_wall_us = worker->loop->wall_us - duration_us,
                                 .duration_us = duration_us,
                                 .bytes_received = intake->first_len,
                                 .grpc = -1};
    for (unsigned i = 0; i < config->access_log_count; i++) {
        access_logs_write(worker->access, &config->access_logs[i], &facts);
    }
}

static void drop(struct intake *intake)
{
    conn_reset(&intake->conn);
    conn_reset(&intake->probe.conn);
    if (intake->net != NULL) {
        intake->net->ops->reset(&intake->net);
    }
    end(intake);
}

static void refuse(struct intake *intake, enum fail why, struct slice cause)
{
    report(intake, why, cause);
    drop(intake);
}

/* The client went before its first bytes said anything; without a byte it only looked whether
 * somebody listens, as probes do. */
static void leave(struct intake *intake)
{
    if (intake->first_len == 0 && intake->peer_closed) {
        intake->net->ops->close(&intake->net);
        end(intake);
    } else if (intake->first_len == 0) {
        drop(intake);
    } else {
        refuse(intake, FAIL_CLIENT_GONE, SLICE(""));
    }
}

void intake_close_all(struct worker *worker)
{
    LIST_EACH(&worker->intakes, node)
    {
        drop(LIST_ITEM(node, struct intake, link));
    }
}

static struct worker *worker_of(const struct intake *intake)
{
    return intake->listener->worker;
}

/* Reads what is there into `first`. False when the connection is gone. */
static bool read_first(struct intake *intake)
{
    struct span span = loop_recv_span(worker_of(intake)->loop);
    size_t room = FIRST_BYTES_MAX - intake->first_len;
    size_t got = 0;
    if ((intake->net->ready & NET_READ) == 0 || room == 0) {
        return true;
    }
    switch (
        net_recv(intake->net, (struct span){span.at, room < span.len ? room : span.len}, &got)) {
    case IO_OK:
        break;
    case IO_AGAIN:
        return true;
    case IO_EOF:
        intake->peer_closed = true;
        net_want(intake->net, 0);
        return intake->first_len > 0;
    case IO_RESET:
        return false;
    }
    intake->first = mem_resize(intake->first, intake->first_len + got);
    (void)memcpy(intake->first + intake->first_len, span.at, got);
    intake->first_len += (uint32_t)got;
    return true;
}

/* ---- handing over ---- */

static struct server_start start_of(const struct intake *intake, struct codec *codec)
{
    return (struct server_start){.conn = intake->conn,
                                 .codec = codec,
                                 .service = intake->service,
                                 .original = intake->upstream,
                                 .tunnel_port =
                                     intake->listener->place != NULL ? intake->original.port : 0};
}

static void serve(struct intake *intake, struct codec *codec)
{
    struct server_start start = start_of(intake, codec);
    intake->conn = NULL;
    server_begin(worker_of(intake), &start);
    end(intake);
}

/* A client that said nothing: its server may speak first, and may show that HTTP is meant. */
static void serve_bytes(struct intake *intake)
{
    bool silent = intake->first_len == 0 && !intake->conn->ops->tls &&
                  intake->listener->config->inspect_http && !intake->speaks_http;
    if (!silent) {
        serve(intake, codec_raw_new());
        return;
    }
    struct server_start start = start_of(intake, codec_raw_new());
    start.probe = &intake->probe;
    intake->conn = NULL;
    intake->step = INTAKE_PROBE;
    server_begin(worker_of(intake), &start);
}

/* Prior knowledge (RFC 9113 3.3), where the chain does not say that HTTP/1 is all that it takes. */
static bool may_be_h2c(const struct intake *intake)
{
    return intake->http2 && intake->chain->tls == NULL &&
           intake->chain->http->codec == CODEC_CHOICE_AUTO;
}

static void serve_chain(struct intake *intake)
{
    struct worker *worker = worker_of(intake);
    struct slice alpn = conn_alpn(intake->conn);
    if (intake->chain->kind == CHAIN_TCP) {
        serve_bytes(intake);
    } else if (alpn_codec_of(alpn) == ALPN_HTTP2 ||
               intake->chain->http->codec == CODEC_CHOICE_HTTP2 || may_be_h2c(intake)) {
        serve(intake, worker_h2(worker, CODEC_SERVER, alpn));
    } else {
        serve(intake, h1_server_new(&worker->h1_limits, worker->h1));
    }
}

/* ---- TLS that ends here, or none ---- */

static void run_handshake(struct intake *intake)
{
    struct error err = {.text = ""};
    char text[ADDR_TEXT_MAX];
    switch (conn_handshake(intake->conn, &err)) {
    case IO_OK:
        serve_chain(intake);
        return;
    case IO_AGAIN:
        return;
    case IO_EOF:
    case IO_RESET:
        break;
    }
    log_limited(LOG_LEVEL_WARNING, "inbound TLS refused",
                LOG_TEXT("peer", addr_format(&intake->peer, text)), LOG_CAUSE(&err));
    refuse(intake, FAIL_CLIENT_TLS, slice_of_text(err.text));
}

static void serve_plain(struct intake *intake)
{
    net_want(intake->net, NET_READ);
    intake->conn = conn_plain(&intake->net, slice_of(intake->first, intake->first_len));
    serve_chain(intake);
}

/* Nobody looked at the first bytes, and the chain takes HTTP/1 and HTTP/2. */
static bool is_undecided(const struct intake *intake)
{
    return intake->chain->kind == CHAIN_HTTP && !intake->listener->config->inspect_http &&
           intake->chain->http->codec == CODEC_CHOICE_AUTO;
}

/* One byte is mostly enough. Who is silent is left to HTTP/1 after a while, which has its own
 * limits for that. */
static void run_preface(struct intake *intake)
{
    if (!read_first(intake)) {
        leave(intake);
        return;
    }
    enum detected preface = detect_preface(slice_of(intake->first, intake->first_len));
    intake->http2 = preface == DETECTED_HTTP2;
    if (preface != DETECTED_MORE || intake->peer_closed ||
        timer_due(&intake->timer, worker_of(intake)->loop)) {
        timer_clear(&intake->timer);
        serve_plain(intake);
    }
}

static void begin_preface(struct intake *intake)
{
    intake->step = INTAKE_PREFACE;
    struct worker *worker = worker_of(intake);
    uint64_t idle_us = intake->chain->http->idle_us;
    uint64_t wait_us = worker->settings->head_timeout_us;
    wait_us = idle_us != 0 && idle_us < wait_us ? idle_us : wait_us;
    timer_set(worker->loop, &intake->timer, worker->loop->now_us + wait_us);
    run_preface(intake);
}

static void begin_chain(struct intake *intake)
{
    struct worker *worker = worker_of(intake);
    struct slice early = slice_of(intake->first, intake->first_len);
    if (intake->chain->tls == NULL) {
        if (is_undecided(intake)) {
            begin_preface(intake);
        } else {
            serve_plain(intake);
        }
        return;
    }
    uint64_t limit =
        intake->chain->tls_timeout_us != 0 ? intake->chain->tls_timeout_us : TLS_TIMEOUT_US;
    timer_set(worker->loop, &intake->timer, worker->loop->now_us + limit);
    struct tls_server how = {.keys = &worker->keys, .context = intake->chain->tls->context};
    intake->step = INTAKE_TLS;
    intake->conn = worker->keys.provider->server(&intake->net, &how, early);
    run_handshake(intake);
}

/* ---- first bytes ---- */

struct seen {
    bool decided;
    bool tls;
    struct client_hello hello; /* with tls */
    bool http1;
    bool http2;
};

static void look_for_http(const struct intake *intake, struct slice bytes, struct seen *seen)
{
    if (!intake->listener->config->inspect_http) {
        seen->decided = true;
        return;
    }
    switch (detect_client(bytes)) {
    case DETECTED_MORE:
        seen->decided = intake->peer_closed;
        break;
    case DETECTED_HTTP1:
        seen->decided = true;
        seen->http1 = true;
        break;
    case DETECTED_HTTP2:
        seen->decided = true;
        seen->http2 = true;
        break;
    case DETECTED_TLS:
    case DETECTED_TARGET_LONG:
    case DETECTED_OPAQUE:
        seen->decided = true;
        break;
    }
}

static void look(const struct intake *intake, struct seen *seen)
{
    struct slice bytes = slice_of(intake->first, intake->first_len);
    if (intake->listener->config->inspect_tls) {
        switch (client_hello_parse(bytes, &seen->hello)) {
        case CLIENT_HELLO_MORE:
            seen->decided = intake->peer_closed;
            return;
        case CLIENT_HELLO_DONE:
            seen->decided = true;
            seen->tls = true;
            return;
        case CLIENT_HELLO_BAD:
            break;
        }
    }
    look_for_http(intake, bytes, seen);
}

static void lower(uint8_t *to, struct slice from)
{
    for (size_t i = 0; i < from.len; i++) {
        to[i] = slice_lower(from.at[i]);
    }
}

static const struct filter_chain *find_chain(const struct intake *intake, const struct seen *seen)
{
    struct slice alpn[ALPN_MAX];
    uint8_t sni[256];
    struct chain_query query = {.destination = intake->original,
                                .source = intake->peer,
                                .direct_source = intake->peer,
                                .transport = seen->tls ? SLICE("tls") : SLICE("raw_buffer"),
                                .alpn = alpn};
    if (seen->tls) {
        struct slice name = client_hello_sni(&seen->hello);
        lower(sni, name);
        query.server_name = slice_of(sni, name.len);
        struct slice rest = client_hello_alpn(&seen->hello);
        for (struct slice each = client_hello_next_alpn(&rest);
             each.len > 0 && query.alpn_count < ALPN_MAX; each = client_hello_next_alpn(&rest)) {
            alpn[query.alpn_count++] = each;
        }
    } else if (seen->http1 || seen->http2) {
        alpn[query.alpn_count++] = seen->http1 ? SLICE("http/1.1") : SLICE("h2c");
    }
    return chain_find(intake->listener->config, &query);
}

/* X(value, name) */
#define DETECTIONS(X) X(TLS, "tls") X(HTTP1, "http/1.1") X(HTTP2, "http/2") X(OPAQUE, "opaque")

enum detection {
#define X(value, name) DETECTION_##value,
    DETECTIONS(X)
#undef X
};

static void count_detection(const struct intake *intake, const struct seen *seen)
{
    static const char *const names[] = {
#define X(value, name) [DETECTION_##value] = (name),
        DETECTIONS(X)
#undef X
    };
    const struct listener_config *config = intake->listener->config;
    if (config->inspect_tls || config->inspect_http) {
        enum detection detection = seen->tls     ? DETECTION_TLS
                                   : seen->http1 ? DETECTION_HTTP1
                                   : seen->http2 ? DETECTION_HTTP2
                                                 : DETECTION_OPAQUE;
        stats_count_by(worker_of(intake)->stats, STAT_DETECTIONS, detection, names[detection]);
    }
}

static void choose_chain(struct intake *intake, const struct seen *seen)
{
    count_detection(intake, seen);
    intake->http2 = seen->http2;
    intake->chain = find_chain(intake, seen);
    if (intake->chain == NULL || intake->chain->kind == CHAIN_QUARANTINED) {
        char text[ADDR_TEXT_MAX];
        log_limited(LOG_LEVEL_WARNING, "no filter chain takes this connection",
                    LOG_TEXT("peer", addr_format(&intake->peer, text)),
                    LOG_SLICE("listener", intake->listener->config->name));
        refuse(intake, FAIL_NO_CHAIN, SLICE(""));
        return;
    }
    timer_clear(&intake->timer);
    intake->service = listener_service(intake->listener, intake->chain);
    service_ref(intake->service);
    net_want(intake->net, NET_READ);
    begin_chain(intake);
}

/* Silence: bytes may be the server's to send first, but only where a chain takes bytes. What has
 * sent some, and what only a chain for HTTP or TLS would take, has as long as a head has. */
static void run_silent(struct intake *intake)
{
    struct worker *worker = worker_of(intake);
    uint64_t last_us = intake->begun_us + worker->settings->head_timeout_us;
    struct seen nothing = {.decided = true};
    const struct filter_chain *chain = find_chain(intake, &nothing);
    bool silent = intake->first_len == 0 && !intake->speaks_http;
    if (silent && chain != NULL && chain->kind == CHAIN_TCP) {
        choose_chain(intake, &nothing);
    } else if (worker->loop->now_us < last_us) {
        timer_set(worker->loop, &intake->timer, last_us);
    } else {
        choose_chain(intake, &nothing);
    }
}

static void run_first(struct intake *intake)
{
    struct seen seen = {.decided = false};
    if (!read_first(intake)) {
        leave(intake);
        return;
    }
    look(intake, &seen);
    bool out_of_time = timer_due(&intake->timer, worker_of(intake)->loop);
    if (seen.decided) {
        choose_chain(intake, &seen);
    } else if (out_of_time && intake->listener->place != NULL) {
        run_silent(intake);
    } else if (out_of_time && intake->listener->config->go_on_at_timeout) {
        choose_chain(intake, &seen);
    } else if (out_of_time || intake->first_len == FIRST_BYTES_MAX) {
        refuse(intake, FAIL_CLIENT_SILENT, SLICE(""));
    }
}

/* It was bytes, or the application has shown that it speaks HTTP: then the request is waited for.
 */
static void run_probe(struct intake *intake)
{
    struct worker *worker = worker_of(intake);
    if (intake->probe.server != NULL) {
        return;
    }
    if (intake->probe.conn == NULL) {
        end(intake);
        return;
    }
    intake->net = conn_plain_take(&intake->probe.conn);
    intake->net->owner = &intake->task;
    service_unref(&intake->service);
    intake->chain = NULL;
    intake->speaks_http = true;
    intake->step = INTAKE_FIRST;
    intake->begun_us = worker->loop->now_us;
    timer_set(worker->loop, &intake->timer, intake->begun_us + worker->settings->head_timeout_us);
    run_first(intake);
}

static void run(struct task *task)
{
    struct intake *intake = CONTAINER_OF(task, struct intake, task);
    switch (intake->step) {
    case INTAKE_FIRST:
        run_first(intake);
        return;
    case INTAKE_PREFACE:
        run_preface(intake);
        return;
    case INTAKE_TLS:
        if (timer_due(&intake->timer, worker_of(intake)->loop)) {
            refuse(intake, FAIL_CLIENT_SILENT, SLICE(""));
        } else {
            run_handshake(intake);
        }
        return;
    case INTAKE_PROBE:
        run_probe(intake);
        return;
    case INTAKE_DONE:
        return;
    }
}

/* Where it was meant to go, and where it goes on to. False: to one of our own ports, which would be
 * a loop, or a way to them from outside. */
static bool find_destination(struct intake *intake)
{
    const struct listener_place *place = intake->listener->place;
    const struct listener_config *config = intake->listener->config;
    const struct addr *at = place != NULL ? &place->at : &config->addr;
    bool one_address = at->family != ADDR_NONE && !addr_is_any(at);
    intake->original = *at;
    intake->net->ops->addrs(intake->net, one_address ? NULL : &intake->original, &intake->peer);
    bool restore =
        place != NULL ? place->captured : config->restore_original_dst || config->original_dst;
    if (restore) {
        (void)intake->net->ops->original_dst(intake->net, &intake->original);
    }
    intake->upstream = intake->original;
    if (place == NULL) {
        return true;
    }
    if (!place->captured) {
        intake->upstream = place->app;
        return true;
    }
    for (unsigned i = 0; i < place->refused_count; i++) {
        if (intake->original.port == place->refused[i]) {
            return false;
        }
    }
    return true;
}

void intake_begin(struct listener *listener, struct net_conn **net)
{
    struct worker *worker = listener->worker;
    const struct listener_config *config = listener->config;
    struct intake *intake = NEW(struct intake);
    intake->listener = listener;
    intake->net = *net;
    *net = NULL;
    intake->task.run = run;
    intake->timer.task = &intake->task;
    intake->grave.free = free_intake;
    intake->probe.task = &intake->task;
    intake->net->owner = &intake->task;
    list_append(&worker->intakes, &intake->link);
    worker_weigh(worker, 1);
    intake->begun_us = worker->loop->now_us;
    if (!find_destination(intake)) {
        refuse(intake, FAIL_LOOP, SLICE(""));
        return;
    }
    if (!config->inspect_tls && !config->inspect_http) {
        struct seen nothing = {.decided = true};
        choose_chain(intake, &nothing);
        return;
    }
    bool holds = listener->place != NULL; /* for no time, perhaps; in a file 0 means for ever */
    uint64_t limit_us = holds ? worker->settings->detect_hold_us : config->inspect_timeout_us;
    if (holds || limit_us != 0) {
        timer_set(worker->loop, &intake->timer, worker->loop->now_us + limit_us);
    }
}
