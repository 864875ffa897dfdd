#pragma once
/* One request and its answer, from the head's arrival to the report: a fixed row of steps, run from
 * the top each time something woke it (exchange.c reads as the way of a request). It owns its
 * arena, its two streams and its timer; it is buried at the end and lives in its own arena's first
 * block.
 *
 * An opaque TCP connection is an exchange too: its downstream speaks no protocol, its request is a
 * CONNECT that was made up, and everything else is the same. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "http/channel.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/exchange/attempt.h"
#include "sidecar/exchange/record.h"
#include "sidecar/fail.h"
#include "sidecar/resilience/timeout.h"
#include "sidecar/upstream/directory.h"

struct server;
struct worker;

/* X(STEP, function, meaning). A step says NEXT, WAIT or FAIL. */
#define EXCHANGE_STEPS(X)                                                                          \
    X(MATCH, match, "find the route; none is a 404")                                               \
    X(ADMIT, admit, "what policy and limits say before an endpoint is asked")                      \
    X(ATTEMPT, attempt, "pick an endpoint, one try, perhaps again")                                \
    X(RELAY, relay, "the way down is open; until both ends end")                                   \
    X(REPORT, report, "access log, metrics, span")                                                 \
    X(DONE, done, "nothing left to do")

enum exchange_step {
#define X(value, function, meaning) STEP_##value,
    EXCHANGE_STEPS(X)
#undef X
        STEP_COUNT
};

/* Where the answer comes from. */
enum answer_source { ANSWER_UPSTREAM, ANSWER_LOCAL };

struct exchange {
    struct list link; /* in server->exchanges */
    struct worker *worker;
    struct server *server; /* stays until every exchange of its connection has ended */
    struct service
        *service; /* a reference: what the request began with, whatever changes meanwhile */
    struct service_choice *choice; /* which service it is for is being asked; null: it is not */
    struct arena arena;            /* holds this struct too */
    struct task task;
    struct timer timer;
    struct grave grave;
    uint64_t id;
    enum exchange_step step;
    enum answer_source source;
    enum fail fail; /* why it ended early; FAIL_NONE: it did not */

    struct stream down;            /* towards the client */
    struct message request;        /* as it goes upstream; the arena's */
    struct message *answer;        /* as it goes down; null before there is one */
    struct slice client_authority; /* as it came, before any rewrite */
    struct slice client_path;
    struct buf local_body; /* of a local reply */

    struct route_found found;
    const struct route_target *target; /* drawn once; null: the cluster comes otherwise */
    struct cluster *cluster;           /* held; null: none */
    struct timeout_plan plan;
    struct attempt attempt;
    struct endpoint *tried[8];      /* references */
    struct endpoint *last_endpoint; /* a reference: of the attempt that ended last; null: none */
    uint32_t tried_count;
    uint32_t attempts;    /* begun */
    uint64_t retry_at_us; /* a retry waits for its back-off; 0: none does */
    struct buf replay;    /* the request's body so far, while it may be needed again */
    struct buf resend;    /* what the present attempt has yet to be sent of it */
    uint64_t idle_at_us;  /* stream idle deadline; 0: off */
    uint64_t probe_by_us; /* what its server said first is passed on by then, undecided; 0: none */
    uint64_t discard_by_us;    /* an upload that nobody wants is read until then */
    struct slice reply_detail; /* for Proxy-Status */

    struct record record; /* what was decided */
    uint64_t begun_us;
    uint64_t head_us; /* the final head went down */
    uint64_t request_bytes;
    uint64_t answer_bytes;
    uint64_t told_request_bytes; /* of these, of opaque connections: in the metrics already */
    uint64_t told_answer_bytes;
    uint64_t told_us;
    uint8_t bad;              /* enum codec_bad, with FAIL_REQUEST_BAD */
    uint16_t status;          /* sent to the client */
    bool replayable;          /* all of the body that went out is in `replay` */
    const char *tried_detail; /* what people are told of the last failed attempt; may be null */
    bool retry_charged;       /* a retry breaker unit is taken */
    bool seen;                /* an attempt before this one may have reached an application */
    bool tunnel;              /* both directions are bytes: upgrade, CONNECT, opaque TCP */
    bool head_sent;           /* the final head went down */
    bool grpc;
    bool websocket_key_made; /* the client sent none, because it speaks HTTP/2 */
    bool reported;
    bool up_ended;      /* the request's end went upstream */
    bool down_ended;    /* the answer's end went down */
    uint32_t runs_idle; /* runs in a row that no event called for and that moved nothing */
};

/* Begins one for a request whose head is in *ev (borrowed; copied). */
void exchange_begin(struct server *server, const struct codec_event *ev);
/* The same for a head that the codec refused: it is answered with the status of `bad`, and
 * reported. */
void exchange_begin_refused(struct server *server, uint32_t stream, enum codec_bad bad);
/* For a head whose time is over: 408. */
void exchange_begin_late(struct server *server, uint32_t stream);
/* Begins an opaque one on a raw downstream; its request is made up. */
void exchange_begin_opaque(struct server *server);

/* Whether it stands for a connection of bytes: one that speaks no protocol here, or one that a
 * sidecar of ours brings as a stream. */
bool exchange_is_opaque(const struct exchange *exchange) MUST_USE;

/* Why nothing of it may go on: the one door to REPORT for what ends early. Once an exchange has
 * failed, later reasons are ignored. */
void exchange_finish(struct exchange *exchange, enum fail fail);

/* A fact that only this exchange depends on. It ends with FAIL_BUG; the process
 * aborts in every build but the release. */
#define EXPECT(exchange, fact)                                                                     \
    (LIKELY(fact) ? true : (exchange_broken((exchange), #fact, __FILE__, __LINE__), false))
void exchange_broken(struct exchange *exchange, const char *fact, const char *file, int line);

const char *exchange_step_name(enum exchange_step step);
