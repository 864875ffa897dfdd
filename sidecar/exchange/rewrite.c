#include "sidecar/exchange/rewrite.h"

#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "base/regex.h"
#include "http/grpc.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/exchange/server.h"
#include "sidecar/route/match.h"
#include "sidecar/worker.h"

#define UUID_BYTES        36
#define TRACEPARENT_BYTES 55
#define B3_BYTES          51

/* ---- our own fields ---- */

/* Said only between sidecars, or by the control plane's leave: not believed from outside. */
static bool is_private(const struct header *field)
{
    if (field->id == HEADER_X_FORWARDED_CLIENT_CERT) {
        return true;
    }
    struct slice name = field->name;
    return name.len > 8 && name.at[1] == '-' && (name.at[0] | 0x20) == 'x' &&
           (slice_starts_nocase(name, SLICE("x-envoy-")) ||
            slice_starts_nocase(name, SLICE("x-pillion-")));
}

/* Outbound: from the application. Inbound: from peers without a mesh identity; those with one are
 * believed in all but x-forwarded-client-cert, which says who *they* are. */
void rewrite_prepare(struct exchange *x)
{
    const struct server *server = x->server;
    bool trusted = x->service->direction == LISTENER_INBOUND && server->peer_identity.len > 0;
    struct headers *headers = &x->request.headers;
    for (unsigned i = 0; i < headers->count; i++) {
        struct header *field = &headers->field[i];
        bool strip = trusted ? field->id == HEADER_X_FORWARDED_CLIENT_CERT : is_private(field);
        field->dropped = field->dropped || strip;
    }
}

static void set(struct exchange *x, struct headers *headers, struct slice name, struct slice value)
{
    if (!headers_add(headers, &x->arena, name, value)) {
        return; /* the list is at its greatest: the request goes on without */
    }
}

/* A random UUID, version 4 (RFC 9562 5.4): 8-4-4-4-12 digits. */
static struct slice make_uuid(struct exchange *x)
{
    uint64_t high = (rng_u64(&x->worker->rng) & ~UINT64_C(0xF000)) | 0x4000;
    uint64_t low = (rng_u64(&x->worker->rng) >> 2) | (UINT64_C(1) << 63);
    char digits[32];
    hex_u64(high, digits);
    hex_u64(low, digits + 16);
    char *text = (char *)arena_bytes(&x->arena, UUID_BYTES);
    (void)memset(text, '-', UUID_BYTES);
    (void)memcpy(text, digits, 8);
    (void)memcpy(text + 9, digits + 8, 4);
    (void)memcpy(text + 14, digits + 12, 4);
    (void)memcpy(text + 19, digits + 16, 4);
    (void)memcpy(text + 24, digits + 20, 12);
    return slice_of(text, UUID_BYTES);
}

/* ---- trace ids ---- */

struct trace {
    char id[32];
    char span[16];
    bool sampled;
};

/* Never all zero, which would be invalid (W3C Trace Context 1, 3.2.2.3). */
static struct trace make_trace(struct rng *rng, bool sampled)
{
    struct trace trace = {.sampled = sampled};
    hex_u64(rng_u64(rng), trace.id);
    hex_u64(rng_u64(rng) | 1, trace.id + 16);
    hex_u64(rng_u64(rng) | 1, trace.span);
    return trace;
}

/* version-traceid-parentid-flags, flag 01: sampled (W3C Trace Context 1, 3.2). */
static struct slice traceparent(struct arena *arena, const struct trace *trace)
{
    char *text = (char *)arena_bytes(arena, TRACEPARENT_BYTES);
    (void)memcpy(text, "00-", 3);
    (void)memcpy(text + 3, trace->id, 32);
    text[35] = '-';
    (void)memcpy(text + 36, trace->span, 16);
    (void)memcpy(text + 52, trace->sampled ? "-01" : "-00", 3);
    return slice_of(text, TRACEPARENT_BYTES);
}

/* traceid-spanid-sampled, the single header of B3 (openzipkin/b3-propagation). */
static struct slice b3(struct arena *arena, const struct trace *trace)
{
    char *text = (char *)arena_bytes(arena, B3_BYTES);
    (void)memcpy(text, trace->id, 32);
    text[32] = '-';
    (void)memcpy(text + 33, trace->span, 16);
    text[49] = '-';
    text[50] = trace->sampled ? '1' : '0';
    return slice_of(text, B3_BYTES);
}

/* Adds a field of which no two requests have the same: kept out of HPACK's table. */
static void set_unique(struct exchange *x, enum header_id id, struct slice value)
{
    struct header *field = headers_add_known(&x->request.headers, &x->arena, id, value);
    if (field != NULL) { /* else the list is at its greatest: the request goes on without */
        field->no_index = true;
    }
}

static void set_trace(struct exchange *x)
{
    const struct worker_settings *settings = x->worker->settings;
    uint32_t ppm = x->service->http->sampling_ppm;
    if (ppm == 0) {
        return;
    }
    ppm = ppm == UINT32_MAX ? settings->sampling_ppm : ppm;
    struct trace trace = make_trace(&x->worker->rng, rng_below(&x->worker->rng, 1000000) < ppm);
    if (settings->trace_headers != TRACE_B3) {
        set_unique(x, HEADER_TRACEPARENT, traceparent(&x->arena, &trace));
    }
    if (settings->trace_headers != TRACE_W3C) {
        set_unique(x, HEADER_B3, b3(&x->arena, &trace));
    }
}

static void set_ids(struct exchange *x)
{
    const struct hcm_config *http = x->service->http;
    struct headers *headers = &x->request.headers;
    struct header *parent = headers_find(headers, HEADER_TRACEPARENT);
    struct header *id = headers_find(headers, HEADER_X_REQUEST_ID);
    bool traced = parent != NULL || headers_find(headers, HEADER_B3) != NULL ||
                  headers_find(headers, HEADER_X_B3_TRACEID) != NULL;
    if (parent != NULL) {
        parent->no_index = true;
    }
    if (id != NULL) {
        id->no_index = true;
    } else if (http->generate_request_id) {
        set_unique(x, HEADER_X_REQUEST_ID, make_uuid(x));
    }
    if (headers_find(headers, HEADER_X_FORWARDED_PROTO) == NULL) {
        (void)headers_add_known(headers, &x->arena, HEADER_X_FORWARDED_PROTO,
                                x->request.scheme.len > 0 ? x->request.scheme : SLICE("http"));
    }
    if (!traced) {
        set_trace(x);
    }
}

/* "By=...;Hash=...;URI=..." (Envoy's x-forwarded-client-cert): who the peer proved to be. */
static void set_client_certificate(struct exchange *x)
{
    const struct conn_peer *peer = conn_peer(x->server->channel.conn);
    if (x->service->direction != LISTENER_INBOUND || peer == NULL || peer->identity.len == 0) {
        return;
    }
    char hash[2 * sizeof peer->leaf_hash];
    for (size_t i = 0; i < sizeof peer->leaf_hash; i += 4) {
        uint32_t word;
        (void)memcpy(&word, peer->leaf_hash + i, 4);
        hex_u32(__builtin_bswap32(word), hash + 2 * i);
    }
    struct slice by = x->worker->identity;
    char *text = arena_printf(&x->arena, "By=%.*s;Hash=%.64s;URI=%.*s", SLICE_ARG(by), hash,
                              SLICE_ARG(peer->identity));
    set(x, &x->request.headers, SLICE("x-forwarded-client-cert"), slice_of_text(text));
}

/* In the place of the one that came, if one did: an attempt after the first says less again. */
static void replace(struct exchange *x, enum header_id id, struct slice value)
{
    struct header *field = headers_find(&x->request.headers, id);
    if (field != NULL) {
        field->value = value;
    } else {
        set(x, &x->request.headers, header_name(id), value);
    }
}

void rewrite_deadline(struct exchange *x)
{
    uint64_t left_us = timeout_expected_us(&x->plan, x->worker->loop->now_us);
    if (left_us == 0) {
        return;
    }
    uint64_t left_ms = left_us < 1000 ? 1 : left_us / 1000;
    char *text = arena_printf(&x->arena, "%llu", (unsigned long long)left_ms);
    replace(x, HEADER_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, slice_of_text(text));
    if (x->grpc) {
        char *room = (char *)arena_bytes(&x->arena, GRPC_TIMEOUT_TEXT);
        replace(x, HEADER_GRPC_TIMEOUT, grpc_timeout_format(left_us, room));
    }
}

/* ---- operations of routes ---- */

static struct slice format_addr(struct exchange *x, const struct addr *addr, bool port)
{
    char text[ADDR_TEXT_MAX];
    return arena_dup(&x->arena,
                     slice_of_text(port ? addr_format(addr, text) : addr_format_ip(addr, text)));
}

static struct slice field_text(const struct headers *headers, struct slice name)
{
    const struct header *field = headers_find_name(headers, name);
    return field != NULL ? field->value : SLICE("");
}

/* %REQ(name)%, pseudo fields included. */
static struct slice request_text(const struct exchange *x, struct slice name)
{
    if (slice_eq(name, SLICE(":authority"))) {
        return x->client_authority;
    }
    if (slice_eq(name, SLICE(":path"))) {
        return x->client_path;
    }
    if (slice_eq(name, SLICE(":method"))) {
        return x->request.method;
    }
    return field_text(&x->request.headers, name);
}

static struct slice version_text(enum message_version version)
{
    static const char *const texts[] = {[MESSAGE_HTTP_1_0] = "HTTP/1.0",
                                        [MESSAGE_HTTP_1_1] = "HTTP/1.1",
                                        [MESSAGE_HTTP_2] = "HTTP/2"};
    return slice_of_text(texts[version]);
}

/* A table in disguise: one line an operator. */
static struct slice variable(struct exchange *x, const struct header_part *part)
{
    struct server *server = x->server;
    switch (part->variable) {
    case HEADER_VARIABLE_LITERAL:
        return part->text;
    case HEADER_VARIABLE_REQ:
        return request_text(x, part->text);
    case HEADER_VARIABLE_RESP:
        return x->answer != NULL ? field_text(&x->answer->headers, part->text) : SLICE("");
    case HEADER_VARIABLE_PROTOCOL:
        return version_text(x->request.version);
    case HEADER_VARIABLE_DOWNSTREAM_REMOTE:
        return format_addr(x, &server->peer, true);
    case HEADER_VARIABLE_DOWNSTREAM_REMOTE_IP:
        return format_addr(x, &server->peer, false);
    case HEADER_VARIABLE_DOWNSTREAM_LOCAL:
        return format_addr(x, server_get_local(server), true);
    case HEADER_VARIABLE_DOWNSTREAM_LOCAL_IP:
        return format_addr(x, server_get_local(server), false);
    case HEADER_VARIABLE_DOWNSTREAM_PEER_URI:
        return server->peer_identity;
    case HEADER_VARIABLE_UPSTREAM_REMOTE:
        return x->attempt.endpoint != NULL ? format_addr(x, &x->attempt.endpoint->config.addr, true)
                                           : SLICE("-");
    case HEADER_VARIABLE_UPSTREAM_CLUSTER:
        return x->cluster != NULL ? x->cluster->config->name : SLICE("-");
    case HEADER_VARIABLE_ROUTE_NAME:
        return x->found.route != NULL ? x->found.route->name : SLICE("-");
    case HEADER_VARIABLE_RESPONSE_CODE:
        return slice_of_text(
            arena_printf(&x->arena, "%u", x->answer != NULL ? x->answer->status : 0));
    case HEADER_VARIABLE_RESPONSE_FLAGS:
        return slice_of_text(fail_facts(x->fail)->flag[0] != '\0' ? fail_facts(x->fail)->flag
                                                                  : "-");
    }
    return SLICE("");
}

static struct slice value_of(struct exchange *x, const struct header_add *add)
{
    if (add->part_count == 1) {
        return variable(x, &add->parts[0]);
    }
    struct slice parts[16];
    size_t len = 0;
    unsigned count = add->part_count < 16 ? add->part_count : 16;
    for (unsigned i = 0; i < count; i++) {
        parts[i] = variable(x, &add->parts[i]);
        len += parts[i].len;
    }
    uint8_t *text = arena_bytes(&x->arena, len + 1);
    size_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        if (parts[i].len > 0) {
            (void)memcpy(text + at, parts[i].at, parts[i].len);
        }
        at += parts[i].len;
    }
    return slice_of(text, len);
}

static void apply_add(struct exchange *x, struct message *message, const struct header_add *add)
{
    struct headers *headers = &message->headers;
    struct slice value = value_of(x, add);
    if (value.len == 0 && !add->keep_empty) {
        return;
    }
    if (message->kind == MESSAGE_REQUEST && add->id == HEADER_HOST) {
        message->authority = value; /* Istio's way of rewriting the authority: `set: host` */
        return;
    }
    bool there = headers_find_name(headers, add->name) != NULL;
    switch ((enum header_append)add->action) {
    case HEADER_APPEND:
        break;
    case HEADER_ADD_IF_ABSENT:
        if (there) {
            return;
        }
        break;
    case HEADER_OVERWRITE_IF_PRESENT:
        if (!there) {
            return;
        }
        headers_drop_name(headers, add->name);
        break;
    case HEADER_OVERWRITE:
        headers_drop_name(headers, add->name);
        break;
    }
    set(x, headers, add->name, value);
}

static void apply_ops(struct exchange *x, struct message *message, const struct header_ops *ops)
{
    if (ops == NULL) {
        return;
    }
    for (unsigned i = 0; i < ops->remove_count; i++) {
        headers_drop_name(&message->headers, ops->removes[i].name);
    }
    for (unsigned i = 0; i < ops->add_count; i++) {
        apply_add(x, message, &ops->adds[i]);
    }
}

static void apply_levels(struct exchange *x, struct message *message,
                         const struct header_levels *levels)
{
    for (unsigned i = 0; i < HEADER_LEVELS_MAX && levels->level[i] != NULL; i++) {
        apply_ops(x, message, levels->level[i]);
    }
}

/* ---- path and authority ---- */

#define PATH_BYTES_MAX 16384

static struct slice join(struct exchange *x, struct slice a, struct slice b)
{
    uint8_t *text = arena_bytes(&x->arena, a.len + b.len + 1);
    if (a.len > 0) {
        (void)memcpy(text, a.at, a.len);
    }
    if (b.len > 0) {
        (void)memcpy(text + a.len, b.at, b.len);
    }
    return slice_of(text, a.len + b.len);
}

static void rewrite_path(struct exchange *x, const struct route_forward *forward)
{
    struct slice path = match_path_of(&x->request);
    struct slice query = slice_from(x->request.path, path.len); /* with its '?' */
    if (forward->prefix_rewrite.len > 0) {
        const struct route_match *match = &x->found.route->match;
        /* A prefix goes; an exact path or a regular expression is replaced whole. */
        bool prefix = match->path_kind == PATH_MATCH_PREFIX ||
                      match->path_kind == PATH_MATCH_SEPARATED_PREFIX;
        struct slice rest = prefix ? slice_from(path, match->path.len) : SLICE("");
        x->request.path = join(x, join(x, forward->prefix_rewrite, rest), query);
    } else if (forward->path_rewrite.regex != NULL) {
        struct slice changed;
        if (regex_replace(forward->path_rewrite.regex, x->worker->matcher.scratch, path,
                          forward->path_rewrite.substitution, PATH_BYTES_MAX, &x->arena,
                          &changed) == REGEX_MATCH) {
            x->request.path = join(x, changed, query);
        }
    }
}

static void rewrite_host(struct exchange *x, const struct route_forward *forward)
{
    struct slice host = {NULL, 0};
    if (x->target != NULL && x->target->host_rewrite.len > 0) {
        host = x->target->host_rewrite;
    } else if (forward->host_rewrite_kind == HOST_REWRITE_LITERAL) {
        host = forward->host_rewrite;
    } else if (forward->host_rewrite_kind == HOST_REWRITE_HEADER) {
        const struct header *field = headers_find_name(&x->request.headers, forward->host_rewrite);
        host = field != NULL ? field->value : host;
    }
    if (host.len == 0) {
        return;
    }
    if (forward->append_forwarded_host) {
        set(x, &x->request.headers, SLICE("x-forwarded-host"), x->client_authority);
    }
    x->request.authority = host;
}

void rewrite_request(struct exchange *x)
{
    const struct route *route = x->found.route;
    const struct route_forward *forward = &route->forward;
    if (x->target != NULL) {
        apply_ops(x, &x->request, x->target->request_ops);
    }
    apply_levels(x, &x->request, &route->request_levels);
    rewrite_path(x, forward);
    rewrite_host(x, forward);
    set_ids(x);
    set_client_certificate(x);
}

void rewrite_answer(struct exchange *x)
{
    const struct route *route = x->found.route;
    x->answer->keep_alive = x->server == NULL || !(x->server->closing || x->worker->draining);
    if (route == NULL) {
        return;
    }
    if (x->target != NULL) {
        apply_ops(x, x->answer, x->target->response_ops);
    }
    apply_levels(x, x->answer, &route->response_levels);
    if (route->attempt_count_in_response) {
        set(x, &x->answer->headers, SLICE("x-envoy-attempt-count"),
            slice_of_text(arena_printf(&x->arena, "%u", x->attempts)));
    }
}
