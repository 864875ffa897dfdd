#include "sidecar/exchange/record.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/exchange/server.h"
#include "sidecar/resilience/retry.h"
#include "sidecar/worker.h"

#define KEEP_RECENT  256U
#define KEEP_FAILED  64U
#define ID_BYTES     40U
#define OBJECT_BYTES 72U
#define NAME_BYTES   80U

static_assert(sizeof(struct record) <= 128, "two cache lines");

/* ---- filling ---- */

static struct slice request_id(const struct exchange *x)
{
    return headers_value(&x->request.headers, HEADER_X_REQUEST_ID);
}

void record_begin(struct exchange *x)
{
    const struct loop *loop = x->worker->loop;
    x->record.id = x->id;
    x->record.begun_wall_us = loop->wall_us;
    x->record.bits = (uint8_t)((x->service->direction == LISTENER_INBOUND ? RECORD_INBOUND : 0) |
                               (x->service->http == NULL ? RECORD_OPAQUE : 0));
}

static void note_origin(struct exchange *x, const struct origin *origin)
{
    if (origin != NULL) {
        x->record.object = origin->id;
        x->record.generation = origin->generation;
        x->record.line = origin->line;
    }
}

void record_route(struct exchange *x)
{
    note_origin(x, x->found.route->origin);
}

void record_tcp(struct exchange *x, const struct tcp_config *tcp, int drawn)
{
    note_origin(x, tcp->origin);
    if (drawn >= 0 && tcp->target_count > 1) {
        x->record.drawn = (uint16_t)drawn;
        x->record.drawn_of = tcp->target_count;
    }
}

void record_target(struct exchange *x)
{
    const struct route_forward *forward = &x->found.route->forward;
    if (x->target != NULL) {
        x->record.drawn = (uint16_t)(x->target - forward->targets);
        x->record.drawn_of = forward->target_count;
        x->record.target = x->target->origin != NULL ? x->target->origin->id : 0;
    }
}

void record_span(struct exchange *x, enum record_span span)
{
    uint64_t spent_us = x->worker->loop->now_us - x->begun_us;
    x->record.span_us[span] = spent_us < UINT32_MAX ? (uint32_t)spent_us : UINT32_MAX;
}

void record_try(struct exchange *x)
{
    const struct attempt *attempt = &x->attempt;
    struct record *record = &x->record;
    if (attempt->endpoint == NULL || record->try_count == RECORD_TRIES_MAX) {
        return;
    }
    const struct addr *addr = &attempt->endpoint->config.addr;
    struct record_try *one = &record->tries[record->try_count++];
    one->ipv6 = addr->family == ADDR_IPV6;
    (void)memcpy(one->ip, addr->ip + (one->ipv6 ? 12 : 0), sizeof one->ip);
    one->port = addr->port;
    bool silent = attempt->fail == FAIL_NONE && attempt->recv < RECV_HELD;
    one->fail = (uint8_t)(silent ? x->fail : attempt->fail); /* the client left, or time was up */
}

void record_end(struct exchange *x)
{
    struct record *record = &x->record;
    record_span(x, RECORD_SPAN_ENDED);
    record->status = x->status;
    record->fail = (uint8_t)x->fail;
    record->bad = x->bad;
    record->attempts = x->attempts < UINT8_MAX ? (uint8_t)x->attempts : UINT8_MAX;
    record->request_bytes = x->request_bytes < UINT32_MAX ? (uint32_t)x->request_bytes : UINT32_MAX;
    record->answer_bytes = x->answer_bytes;
    record->bits |=
        (uint8_t)((x->grpc ? RECORD_GRPC : 0) | (x->source == ANSWER_LOCAL ? RECORD_LOCAL : 0));
}

/* ---- keeping ---- */

/* Text that is longer loses its end. */
struct kept {
    struct record record;
    uint8_t id_len;
    uint8_t object_len;
    uint8_t cluster_len;
    char id[ID_BYTES];
    char object[OBJECT_BYTES];
    char cluster[NAME_BYTES];
};

struct ring {
    struct kept *kept;
    uint32_t room;
    uint64_t count; /* ever kept */
};

struct recorder {
    struct ring recent;
    struct ring failed;
};

struct recorder *recorder_new(void)
{
    struct recorder *recorder = NEW(struct recorder);
    recorder->recent = (struct ring){NEW_ARRAY(struct kept, KEEP_RECENT), KEEP_RECENT, 0};
    recorder->failed = (struct ring){NEW_ARRAY(struct kept, KEEP_FAILED), KEEP_FAILED, 0};
    return recorder;
}

void recorder_free(struct recorder **recorder)
{
    if (*recorder != NULL) {
        mem_free((*recorder)->recent.kept);
        mem_free((*recorder)->failed.kept);
        FREE(*recorder);
    }
}

static uint8_t keep_text(char *to, size_t room, struct slice text)
{
    size_t len = text.len < room ? text.len : room;
    if (len > 0) {
        (void)memcpy(to, text.at, len);
    }
    return (uint8_t)len;
}

void recorder_keep(struct recorder *recorder, const struct exchange *x)
{
    struct ring *ring = x->fail != FAIL_NONE ? &recorder->failed : &recorder->recent;
    struct kept *kept = &ring->kept[ring->count++ % ring->room];
    const struct route *route = x->found.route;
    kept->record = x->record;
    kept->id_len = keep_text(kept->id, sizeof kept->id, request_id(x));
    kept->object_len = 0;
    if (route != NULL && route->origin != NULL) {
        kept->object_len = keep_text(kept->object, sizeof kept->object, route->origin->object);
    }
    kept->cluster_len = 0;
    if (x->cluster != NULL) {
        kept->cluster_len =
            keep_text(kept->cluster, sizeof kept->cluster, x->cluster->config->name);
    }
}

/* ---- showing ---- */

static void set(json_t *object, const char *key, json_t *value)
{
    CHECK(json_object_set_new(object, key, value) == 0);
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    set(object, key, json_integer((json_int_t)value));
}

/* Bytes of a peer's choosing may be no UTF-8: those are left out. */
static void set_text(json_t *object, const char *key, const char *text, size_t len)
{
    json_t *value = json_stringn(text, len);
    if (value != NULL) {
        set(object, key, value);
    }
}

static json_t *tries_json(const struct record *record)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < record->try_count; i++) {
        const struct record_try *one = &record->tries[i];
        char text[ADDR_TEXT_MAX];
        if (one->ipv6) {
            (void)snprintf(text, sizeof text, "[...%02x%02x:%02x%02x]:%u", one->ip[0], one->ip[1],
                           one->ip[2], one->ip[3], one->port);
        } else {
            (void)snprintf(text, sizeof text, "%u.%u.%u.%u:%u", one->ip[0], one->ip[1], one->ip[2],
                           one->ip[3], one->port);
        }
        json_t *object = json_object();
        set(object, "endpoint", json_string(text));
        set(object, "fail", json_string(fail_name((enum fail)one->fail)));
        CHECK(json_array_append_new(list, object) == 0);
    }
    return list;
}

static json_t *spans_json(const struct record *record)
{
    static const char *const names[] = {
#define X(value, name, until) [RECORD_SPAN_##value] = (name),
        RECORD_SPANS(X)
#undef X
    };
    json_t *object = json_object();
    for (unsigned i = 0; i < RECORD_SPAN_COUNT; i++) {
        set_number(object, names[i], record->span_us[i]);
    }
    return object;
}

static json_t *route_json(const struct kept *kept)
{
    const struct record *record = &kept->record;
    json_t *route = json_object();
    set_text(route, "object", kept->object, kept->object_len);
    set_number(route, "generation", record->generation);
    set_number(route, "line", record->line);
    set_number(route, "id", record->object);
    if (record->drawn_of > 0) {
        set_number(route, "target", record->drawn);
        set_number(route, "targets", record->drawn_of);
    }
    return route;
}

static json_t *kept_json(const struct kept *kept, unsigned worker)
{
    const struct record *record = &kept->record;
    char time[CLOCK_TEXT_BYTES];
    clock_text(record->begun_wall_us, time);
    json_t *object = json_object();
    set_number(object, "worker", worker);
    set_number(object, "number", record->id);
    set(object, "begun", json_string(time));
    set_text(object, "request_id", kept->id, kept->id_len);
    set(object, "direction",
        json_string((record->bits & RECORD_INBOUND) != 0 ? "inbound" : "outbound"));
    set(object, "protocol",
        json_string((record->bits & RECORD_OPAQUE) != 0 ? "tcp"
                    : (record->bits & RECORD_GRPC) != 0 ? "grpc"
                                                        : "http"));
    set_number(object, "status", record->status);
    set(object, "fail", json_string(fail_name((enum fail)record->fail)));
    if (record->bad != CODEC_BAD_NONE) {
        set(object, "bad", json_string(codec_bad_name((enum codec_bad)record->bad)));
    }
    set(object, "local", json_boolean((record->bits & RECORD_LOCAL) != 0));
    set_text(object, "cluster", kept->cluster, kept->cluster_len);
    set(object, "route", route_json(kept));
    set_number(object, "attempts", record->attempts);
    set(object, "tries", tries_json(record));
    if (record->attempts > 0) {
        set(object, "verdict", json_string(retry_why_name((enum retry_why)record->why)));
    }
    set(object, "microseconds", spans_json(record));
    set_number(object, "request_bytes", record->request_bytes);
    set_number(object, "answer_bytes", record->answer_bytes);
    return object;
}

static void ring_json(const struct ring *ring, unsigned worker, struct slice id, json_t *list)
{
    uint64_t have = ring->count < ring->room ? ring->count : ring->room;
    struct slice wanted = slice_head(id, ID_BYTES);
    for (uint64_t i = 0; i < have; i++) {
        const struct kept *kept = &ring->kept[(ring->count - 1 - i) % ring->room];
        if (wanted.len == 0 || slice_eq(wanted, slice_of(kept->id, kept->id_len))) {
            CHECK(json_array_append_new(list, kept_json(kept, worker)) == 0);
        }
    }
}

json_t *recorder_json(const struct recorder *recorder, unsigned worker, struct slice id)
{
    json_t *list = json_array();
    ring_json(&recorder->failed, worker, id, list);
    ring_json(&recorder->recent, worker, id, list);
    return list;
}
