#pragma once
/* What was decided about one exchange, in at most 128 bytes: which objects routed it, what was
 * drawn, which endpoints were tried and how each attempt ended, and where the time went. Whoever
 * decides sets its field; Proxy-Status, the access log, /exchanges and `pillion why` read this and
 * nothing else.
 *
 * The recorder keeps the newest of a worker, and apart from them the newest that failed, so that a
 * rush of good requests does not wash a failure away. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/fail.h"

struct exchange;

/* X(STEP, "name", "until") */
#define RECORD_SPANS(X)                                                                            \
    X(ENDPOINT, "endpoint", "the first endpoint was picked")                                       \
    X(SENT, "sent", "the last attempt's head was written to a connection")                         \
    X(ANSWERED, "answered", "the final head went to the client")                                   \
    X(ENDED, "ended", "everything was over")

enum record_span {
#define X(value, name, until) RECORD_SPAN_##value,
    RECORD_SPANS(X)
#undef X
        RECORD_SPAN_COUNT
};

enum record_bit {
    RECORD_INBOUND = 1,
    RECORD_GRPC = 2,
    RECORD_OPAQUE = 4,
    RECORD_LOCAL = 8,         /* answered by the sidecar itself */
    RECORD_RETRIES_ENDED = 16 /* as many retries as allowed were made */
};

#define RECORD_TRIES_MAX 5

struct record_try {
    uint8_t ip[4]; /* of IPv6 the last four bytes */
    uint16_t port;
    uint8_t fail; /* enum fail; FAIL_NONE: it answered */
    bool ipv6;
};

struct record {
    uint64_t id;            /* the exchange's number in its worker */
    uint64_t begun_wall_us; /* Unix time */
    uint64_t generation;    /* of the route's object */
    uint32_t object;        /* the route's origin id; 0: none */
    uint32_t line;          /* of the route in its object's file */
    uint32_t target;        /* origin id of the weighted target, where it has its own */
    uint32_t policy;        /* origin id of what refused it */
    uint32_t span_us[RECORD_SPAN_COUNT]; /* since the beginning; 0: not reached, or at once */
    struct record_try tries[RECORD_TRIES_MAX];
    uint16_t drawn;    /* the target's number */
    uint16_t drawn_of; /* how many targets; 0: nothing was drawn */
    uint16_t status;   /* 0: nothing was answered */
    uint8_t attempts;
    uint8_t try_count;      /* of `tries`; attempts beyond are only counted */
    uint8_t fail;           /* enum fail */
    uint8_t why;            /* enum retry_why of the last verdict */
    uint8_t bad;            /* enum codec_bad */
    uint8_t bits;           /* enum record_bit */
    uint32_t request_bytes; /* UINT32_MAX: that many or more */
    uint64_t answer_bytes;
};

/* At the beginning; the other setters are one line where something is decided. */
void record_begin(struct exchange *exchange);
/* The route that matched, and the target that was drawn: the objects that they come from. */
void record_route(struct exchange *exchange);
void record_target(struct exchange *exchange);
/* Opaque TCP: of its targets that one; -1: none. */
void record_tcp(struct exchange *exchange, const struct tcp_config *tcp, int drawn);
void record_span(struct exchange *exchange, enum record_span span);
/* An attempt ended at its endpoint, or without one. */
void record_try(struct exchange *exchange);
/* The rest, once everything is over. */
void record_end(struct exchange *exchange);

struct recorder;

struct recorder *recorder_new(void) MUST_USE;
void recorder_free(struct recorder **recorder);
/* Keeps the exchange's record, and what people look for: its request id, cluster and object. */
void recorder_keep(struct recorder *recorder, const struct exchange *exchange);
/* Newest first, as an array of objects; `id` not empty: only those of that x-request-id. A new
 * reference. */
json_t *recorder_json(const struct recorder *recorder, unsigned worker, struct slice id) MUST_USE;
