#pragma once
/* Access logs: Envoy's format strings, compiled once into parts, and the files that lines go to.
 *
 * A format is checked where configuration enters; an operator that is not in the table is refused
 * there. Lines are gathered and written once at the end of a tick; a disk that is full or a reader
 * that stalls loses lines, which are counted, and never delays a request.
 *
 * Formats are immutable and belong to their arena. struct access_logs is one worker's. */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"
#include "http/message.h"
#include "sidecar/config/snapshot.h"

struct loop;
struct stats_worker;

/* X(id, "OPERATOR", argument, "meaning"). Arguments: NONE; FIELD: a header's name, perhaps "?" and
 * another to take where the first is absent. Any operator may be cut with ":LENGTH". */
#define ACCESS_OPERATORS(X)                                                                        \
    X(START_TIME, "START_TIME", NONE, "when the request's head came, RFC 3339")                    \
    X(REQ, "REQ", FIELD, "a field of the request; :METHOD, :PATH, :AUTHORITY, :SCHEME")            \
    X(REQ_PLAIN, "REQ_WITHOUT_QUERY", FIELD, "the same, cut at the first question mark")           \
    X(RESP, "RESP", FIELD, "a field of the answer; :STATUS")                                       \
    X(TRAILER, "TRAILER", FIELD, "a field of the answer's trailers")                               \
    X(PROTOCOL, "PROTOCOL", NONE, "the request's: HTTP/1.1, HTTP/2")                               \
    X(RESPONSE_CODE, "RESPONSE_CODE", NONE, "0: nothing was answered")                             \
    X(RESPONSE_CODE_DETAILS, "RESPONSE_CODE_DETAILS", NONE, "via_upstream, or what ended it")      \
    X(RESPONSE_FLAGS, "RESPONSE_FLAGS", NONE, "Envoy's letters")                                   \
    X(GRPC_STATUS, "GRPC_STATUS_NUMBER", NONE, "of trailers or head")                              \
    X(TERMINATION, "CONNECTION_TERMINATION_DETAILS", NONE, "always empty here")                    \
    X(TRANSPORT_FAILURE, "UPSTREAM_TRANSPORT_FAILURE_REASON", NONE, "why no connection came")      \
    X(BYTES_RECEIVED, "BYTES_RECEIVED", NONE, "of the request's body")                             \
    X(BYTES_SENT, "BYTES_SENT", NONE, "of the answer's body")                                      \
    X(DURATION, "DURATION", NONE, "milliseconds until the end")                                    \
    X(RESPONSE_DURATION, "RESPONSE_DURATION", NONE, "milliseconds until the answer's head")        \
    X(UPSTREAM_HOST, "UPSTREAM_HOST", NONE, "address of the endpoint that was tried last")         \
    X(UPSTREAM_CLUSTER, "UPSTREAM_CLUSTER", NONE, "the cluster's name in metrics")                 \
    X(UPSTREAM_CLUSTER_RAW, "UPSTREAM_CLUSTER_RAW", NONE, "the cluster's name")                    \
    X(UPSTREAM_LOCAL, "UPSTREAM_LOCAL_ADDRESS", NONE, "always empty here")                         \
    X(ATTEMPTS, "UPSTREAM_REQUEST_ATTEMPT_COUNT", NONE, "attempts that were begun")                \
    X(ROUTE_NAME, "ROUTE_NAME", NONE, "the route's")                                               \
    X(CLIENT, "DOWNSTREAM_REMOTE_ADDRESS", NONE, "the client's address")                           \
    X(CLIENT_IP, "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", NONE, "the same without port")          \
    X(CLIENT_DIRECT, "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", NONE, "the same as the client's")         \
    X(LOCAL, "DOWNSTREAM_LOCAL_ADDRESS", NONE, "where the client connected to")                    \
    X(LOCAL_IP, "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", NONE, "the same without port")            \
    X(CLIENT_URI, "DOWNSTREAM_PEER_URI_SAN", NONE, "the client certificate's SPIFFE id")           \
    X(SNI, "REQUESTED_SERVER_NAME", NONE, "always empty here")                                     \
    X(OBJECT, "PILLION_OBJECT", NONE, "the policy object that the route comes from")

enum access_operator {
#define X(id, name, argument, meaning) ACCESS_##id,
    ACCESS_OPERATORS(X)
#undef X
        ACCESS_OPERATOR_COUNT,
    ACCESS_LITERAL = ACCESS_OPERATOR_COUNT
};

struct access_format;

/* Text in Envoy's way; empty: Envoy's default line. Null with *err. */
const struct access_format *access_format_compile(struct arena *arena, struct slice text,
                                                  struct error *err) MUST_USE;
/* `object`: a JSON object's text, whose strings hold operators. Null with *err. */
const struct access_format *access_format_compile_json(struct arena *arena, struct slice object,
                                                       struct error *err) MUST_USE;

/* What is known of an exchange at its end. Null messages and empty slices: there was none. */
struct access_facts {
    const struct message *request;
    const struct message *answer;
    const struct message *trailers;
    struct slice original_path; /* as the client sent it */
    struct slice details;
    struct slice transport_failure;
    struct slice cluster;
    struct slice cluster_stat;
    struct slice route;
    struct slice client_identity;
    struct slice object;
    const char *flags;
    const struct addr *client;
    const struct addr *local;
    const struct addr *upstream; /* null: no endpoint was picked */
    uint64_t start_wall_us;
    uint64_t duration_us;
    uint64_t response_us; /* 0: no head was sent */
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint32_t attempts;
    uint16_t status;
    int16_t grpc; /* -1: none */
};

/* Writes the line; returns its length. A line that does not fit is cut, and still ends with a line
 * feed. `to`: at least 2 bytes. */
size_t access_format_write(const struct access_format *format, const struct access_facts *facts,
                           struct span to);

/* ---- a worker's files ---- */

struct access_logs;

/* `stats` counts the lines that are lost; may be null. */
struct access_logs *access_logs_new(struct loop *loop, struct stats_worker *stats) MUST_USE;
void access_logs_free(struct access_logs **logs);
/* Queues the line for the log's file, which is opened when it is first used; one that cannot be
 * opened is tried again after a second. */
void access_logs_write(struct access_logs *logs, const struct access_log_config *config,
                       const struct access_facts *facts);
