#pragma once
/* What the sidecar counts: one table of families, Istio's under Istio's names and labels (so that
 * dashboards and canary controllers work unchanged), ours under pillion_.
 *
 * A request's series is found without touching text: endpoints, clusters and peers carry a hash of
 * their names, made when they come, and a worker's cache goes from these hashes and the answer's
 * status to the resolved cells. Only a miss formats labels and takes the registry's mutex. What
 * nobody used for a while is let go.
 *
 * Hashes of 64 bits stand for names: two names of one hash would share a series. Names come from
 * the control plane and from certificates that it signed, so nobody can gain by making two collide.
 *
 * struct stats is the process's, any thread. struct stats_worker is one worker's; a null one counts
 * nothing, which is how tests of other things run. */

#include <stdbool.h>
#include <stdint.h>

#include "base/metrics.h"
#include "base/slice.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/fail.h"

/* X(id, "name", kind, label set, bounds, scale, "help"). Label sets: HTTP, TCP, or the only label's
 * name; bounds: of histograms. */
#define STATS_FAMILIES(X)                                                                          \
    X(REQUESTS, "istio_requests_total", COUNTER, HTTP, NONE, 1, "Requests that were answered")     \
    X(REQUEST_DURATION, "istio_request_duration_milliseconds", HISTOGRAM, HTTP, DURATION, 1000,    \
      "From a request's head to the end of its answer")                                            \
    X(REQUEST_BYTES, "istio_request_bytes", HISTOGRAM, HTTP, SIZE, 1, "Bodies of requests")        \
    X(RESPONSE_BYTES, "istio_response_bytes", HISTOGRAM, HTTP, SIZE, 1, "Bodies of answers")       \
    X(TCP_OPENED, "istio_tcp_connections_opened_total", COUNTER, TCP, NONE, 1,                     \
      "Opaque connections that reached an endpoint, or ended without")                             \
    X(TCP_CLOSED, "istio_tcp_connections_closed_total", COUNTER, TCP, NONE, 1,                     \
      "Opaque connections that ended")                                                             \
    X(TCP_SENT, "istio_tcp_sent_bytes_total", COUNTER, TCP, NONE, 1,                               \
      "Bytes of opaque connections towards the client")                                            \
    X(TCP_RECEIVED, "istio_tcp_received_bytes_total", COUNTER, TCP, NONE, 1,                       \
      "Bytes of opaque connections from the client")                                               \
    X(FAILURES, "pillion_exchange_failures_total", COUNTER, FAIL, NONE, 1,                         \
      "Requests and opaque connections that ended early")                                          \
    X(ATTEMPT_FAILURES, "pillion_attempt_failures_total", COUNTER, FAIL, NONE, 1,                  \
      "Attempts at an endpoint that failed, retried or not")                                       \
    X(ATTEMPTS, "pillion_attempts_total", COUNTER, NONE, NONE, 1, "Attempts at an endpoint")       \
    X(RETRY_VERDICTS, "pillion_retry_verdicts_total", COUNTER, WHY, NONE, 1,                       \
      "What was decided about another attempt, and why")                                           \
    X(EJECTIONS, "pillion_ejections_total", COUNTER, CAUSE, NONE, 1,                               \
      "Endpoints that outlier detection left out")                                                 \
    X(OVERFLOWS, "pillion_breaker_overflows_total", COUNTER, BREAKER, NONE, 1,                     \
      "Attempts that an open circuit breaker refused")                                             \
    X(CODEC_REFUSALS, "pillion_codec_refusals_total", COUNTER, BAD, NONE, 1,                       \
      "Messages and connections of clients that break their protocol")                             \
    X(SILENT_PEERS, "pillion_silent_peers_total", COUNTER, NONE, NONE, 1,                          \
      "HTTP/2 connections given up because nothing came, not even the answer to a PING")           \
    X(REPLAY_TOO_LARGE, "pillion_replay_too_large_total", COUNTER, NONE, NONE, 1,                  \
      "Failed attempts not made again because more of the body was gone than is held")             \
    X(TRAILERS_DROPPED, "pillion_trailers_dropped_total", COUNTER, NONE, NONE, 1,                  \
      "Trailers that the receiver could not be sent")                                              \
    X(DETECTIONS, "pillion_detections_total", COUNTER, PROTOCOL, NONE, 1,                          \
      "Connections by what their first bytes said")                                                \
    X(LOG_DROPPED, "pillion_access_log_dropped_total", COUNTER, NONE, NONE, 1,                     \
      "Access log lines that their file or reader did not take")                                   \
    X(ALLOCATIONS, "pillion_allocations_total", COUNTER, NONE, NONE, 1,                            \
      "Allocations by data-plane threads")                                                         \
    X(EXCHANGES_OPEN, "pillion_exchanges_open", GAUGE, NONE, NONE, 1,                              \
      "Requests and opaque connections under way")                                                 \
    X(CONNECTIONS_OPEN, "pillion_connections_open", GAUGE, SIDE, NONE, 1, "Connections")           \
    X(MEMORY_LIVE, "pillion_memory_live_bytes", GAUGE, NONE, NONE, 1, "Allocated memory")          \
    X(DESTINATIONS, "pillion_destinations_total", COUNTER, EVENT, NONE, 1,                         \
      "What became of destinations that were looked up on demand")                                 \
    X(CONFIG_GENERATION, "pillion_config_generation", GAUGE, NONE, NONE, 1,                        \
      "Newest generation of the mesh's configuration that is applied")                             \
    X(CONFIG_ANSWERS, "pillion_config_answers_total", COUNTER, RESULT, NONE, 1,                    \
      "Resources that were acknowledged or refused")                                               \
    X(CERTIFICATE_EXPIRY, "pillion_certificate_expiry_seconds", GAUGE, NONE, NONE, 1,              \
      "Unix time at which the workload's certificate ends")

enum stats_family {
#define X(id, name, kind, labels, bounds, scale, help) STAT_##id,
    STATS_FAMILIES(X)
#undef X
        STAT_COUNT
};

/* The label of connections_open. */
enum stats_side { STATS_DOWNSTREAM, STATS_UPSTREAM };

/* A workload in labels' words; empty parts are shown as unknown. */
struct stats_workload {
    struct slice name;
    struct slice namespace;
    struct slice principal; /* SPIFFE id */
    struct slice app;
    struct slice version;
    struct slice canonical_service;
    struct slice canonical_revision;
};

/* A service in labels' words. */
struct stats_service {
    struct slice host;
    struct slice name;
    struct slice namespace;
};

struct stats;
struct stats_worker;

#define STATS_SERIES_MAX 10000

/* `self` is copied. `seed` is secret. */
struct stats *stats_new(const struct stats_workload *self, size_t max_series,
                        uint64_t seed) MUST_USE;
/* Its workers are freed before. */
void stats_free(struct stats **stats);
struct metrics *stats_get_metrics(struct stats *stats);
/* Every minute or so, admin thread: drops series that nobody holds. */
void stats_expire(struct stats *stats, uint64_t now_us);

/* As its workload's labels say: Istio's order of what is looked for. `name` stands in for a service
 * that they do not name. */
struct stats_workload stats_workload_of_labels(struct slice name, struct slice namespace,
                                               const struct label *labels, unsigned count);
struct stats_worker *stats_worker_new(struct stats *stats) MUST_USE;
void stats_worker_free(struct stats_worker **worker);
/* Who we are, which the control plane knows better than the start did; copied. An empty principal
 * stays what it was. What was counted stays under the old labels. */
void stats_worker_set_self(struct stats_worker *worker, const struct stats_workload *self);
/* Until the next one. */
const struct stats_workload *stats_worker_get_self(const struct stats_worker *worker);
/* Lets go of what no request used lately. Every minute or so, the worker's own thread. */
void stats_worker_sweep(struct stats_worker *worker, uint64_t now_us);

/* ---- plain counts ---- */

/* A family without labels. */
void stats_count(struct stats_worker *worker, enum stats_family stat, uint64_t amount);
/* A counter that somebody else keeps: adds what came since the last call. */
void stats_count_up_to(struct stats_worker *worker, enum stats_family stat, uint64_t total);
void stats_set(struct stats_worker *worker, enum stats_family stat, int64_t value);
#define STATS_INDEX_MAX 64
/* A family with one label, whose value is `name`; index (< STATS_INDEX_MAX) is the value's number
 * in its enum, by which the series is found the next time. `name` lives for ever. */
void stats_count_by(struct stats_worker *worker, enum stats_family stat, unsigned index,
                    const char *name);
void stats_set_by(struct stats_worker *worker, enum stats_family stat, unsigned index,
                  const char *name, int64_t value);

/* ---- requests ---- */

enum stats_protocol { STATS_HTTP, STATS_GRPC, STATS_TCP };

/* Whom a request concerned, by hash of its name; 0: nobody. All of it compares as bytes. */
struct stats_key {
    uint64_t cluster;
    uint64_t endpoint;
    uint64_t peer;
    uint16_t status;    /* HTTP */
    int16_t grpc;       /* grpc-status; -1: none was seen */
    uint8_t fail;       /* enum fail */
    uint8_t protocol;   /* enum stats_protocol */
    bool inbound;       /* we are the server's sidecar */
    bool retries_ended; /* as many retries as allowed were made: flag URX */
};

/* The names behind the hashes, read when the key is new. */
struct stats_names {
    struct slice cluster;
    const struct endpoint_config *endpoint; /* null: none was picked */
    struct slice peer;                      /* SPIFFE id of the client's certificate */
    const struct stats_workload *peer_says; /* what the client's sidecar tells of itself (PEER
                                               frame), in the key's hash too; null: nothing */
};

struct stats_amounts {
    uint64_t duration_us;
    uint64_t request_bytes;
    uint64_t answer_bytes;
};

uint64_t stats_hash_text(struct slice text);
/* Of all that labels say about it. For a peer that told of itself the key takes this, with the
 * proven identity as its principal. */
uint64_t stats_hash_workload(const struct stats_workload *of);
uint64_t stats_hash_endpoint(const struct endpoint_config *config);

/* An HTTP or gRPC request ended, or (STATS_TCP) an opaque connection did; of its bytes, those that
 * stats_moved has not been told. */
void stats_ended(struct stats_worker *worker, const struct stats_key *key,
                 const struct stats_names *names, const struct stats_amounts *amounts,
                 uint64_t now_us);
/* An opaque connection reached its endpoint. */
void stats_opened(struct stats_worker *worker, const struct stats_key *key,
                  const struct stats_names *names, uint64_t now_us);
/* Bytes of an opaque connection that goes on. */
void stats_moved(struct stats_worker *worker, const struct stats_key *key,
                 const struct stats_names *names, const struct stats_amounts *amounts,
                 uint64_t now_us);

/* ---- names into labels; pure ---- */

/* From istio's "name;namespace;canonical service;revision;cluster" and the endpoint's labels. */
struct stats_workload stats_workload_of_endpoint(const struct endpoint_config *config);
/* What a SPIFFE id tells: the namespace. */
struct stats_workload stats_workload_of_peer(struct slice identity);
/* Of "outbound|PORT|SUBSET|HOST", else the name itself is the host. */
struct stats_service stats_service_of_cluster(struct slice cluster);
/* Envoy's flags of an ending; "-" for none. */
const char *stats_flags(enum fail fail, bool retries_ended, char text[16]);
