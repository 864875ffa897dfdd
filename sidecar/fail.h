#pragma once
/* The one table of ways a request, or an attempt at one, ends early. Nothing else ends a request;
 * local replies, Proxy-Status, the access log's response flags, retries, outlier detection and the
 * decision record all read this table. Adding a way is one line here. Any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

/* What kind of ending it is; retry and outlier detection go by this, not by the value.
 * X(value, meaning) */
#define FAIL_CAUSES(X)                                                                             \
    X(NONE, "nothing failed")                                                                      \
    X(LOCAL, "decided here before an endpoint was asked")                                          \
    X(CONNECT, "no connection to the endpoint came about")                                         \
    X(REFUSED, "the endpoint, or its sidecar, gave the request back unseen")                       \
    X(UNSENT, "the connection ended before a byte of the request was written")                     \
    X(RESET, "the connection or stream ended after the request began")                             \
    X(TRY_TIMEOUT, "this attempt took too long")                                                   \
    X(BAD_ANSWER, "the endpoint's answer breaks its protocol")                                     \
    X(DEADLINE, "the request as a whole took too long")                                            \
    X(CLIENT, "the client's doing")

enum fail_cause {
#define X(value, meaning) FAIL_CAUSE_##value,
    FAIL_CAUSES(X)
#undef X
};

/* X(value, cause, HTTP status (0: nothing can be sent), gRPC status, Envoy's response flag ("":
 * none; config/accesslog.proto), Proxy-Status error (RFC 9209 2.3; "": none), unseen: the
 * application provably saw nothing of this request, meaning) A gRPC status is what Envoy makes of
 * the HTTP status (400: 13, 401: 16, 403: 7, 404: 12, 429/502/503/504: 14, else 2); only a deadline
 * that the caller set is 4 (measured). */
#define FAILS(X)                                                                                   \
    X(NONE, NONE, 0, 0, "", "", false, "no failure")                                               \
    X(NO_ROUTE, LOCAL, 404, 12, "NR", "destination_not_found", true, "no route matches")           \
    X(NO_CLUSTER, LOCAL, 503, 14, "NC", "proxy_configuration_error", true,                         \
      "the route's cluster does not exist")                                                        \
    X(NO_CONFIG, LOCAL, 503, 14, "NC", "proxy_configuration_error", true,                          \
      "no answer about this destination in time, or a refused one")                                \
    X(BLOCKED, LOCAL, 502, 14, "", "destination_ip_prohibited", true,                              \
      "policy sends nothing to this destination")                                                  \
    X(LOOP, LOCAL, 502, 14, "", "proxy_loop_detected", true, "the destination is this sidecar")    \
    X(NO_HOST, LOCAL, 503, 14, "UH", "destination_unavailable", true, "no healthy endpoint")       \
    X(DNS, LOCAL, 503, 14, "DF", "dns_error", true, "none of the cluster's names has resolved")    \
    X(OVERFLOW, LOCAL, 503, 14, "UO", "connection_limit_reached", true, "a breaker is open")       \
    X(MEMORY, LOCAL, 503, 14, "OM", "proxy_internal_response", true,                               \
      "shed: the memory ceiling is near")                                                          \
    X(DRAINING, LOCAL, 503, 14, "LR", "proxy_internal_response", true, "this sidecar is leaving")  \
    X(DENIED, LOCAL, 403, 7, "", "http_request_denied", true, "policy refuses the caller")         \
    X(TUNNEL_PORT, LOCAL, 403, 7, "", "http_request_denied", true,                                 \
      "a tunnel asks for another port than its connection's")                                      \
    X(UPGRADE_DENIED, LOCAL, 403, 7, "", "http_upgrade_failed", true,                              \
      "an upgrade that is not configured")                                                         \
    X(UPGRADE_UNKNOWN, LOCAL, 502, 14, "", "http_upgrade_failed", true,                            \
      "the endpoint takes no upgrade over HTTP/2 (RFC 8441)")                                      \
    X(CONNECT_REFUSED, CONNECT, 503, 14, "UF", "connection_refused", true,                         \
      "the endpoint refused the connection")                                                       \
    X(CONNECT_TIMEOUT, CONNECT, 503, 14, "UF", "connection_timeout", true,                         \
      "the endpoint did not accept in time")                                                       \
    X(CONNECT_UNREACHABLE, CONNECT, 503, 14, "UF", "destination_ip_unroutable", true,              \
      "no way to the endpoint")                                                                    \
    X(CONNECT_RESET, CONNECT, 503, 14, "UF", "connection_terminated", true,                        \
      "the connection ended before it was ready")                                                  \
    X(TLS, CONNECT, 503, 14, "UF", "tls_protocol_error", true, "the TLS handshake failed")         \
    X(TLS_PEER, CONNECT, 503, 14, "UF", "tls_certificate_error", true,                             \
      "the endpoint is not who it should be")                                                      \
    X(REFUSED_STREAM, REFUSED, 503, 14, "UR", "destination_unavailable", true,                     \
      "the peer refused the stream, or left before it (RFC 9113 8.7)")                             \
    X(UNSENT, UNSENT, 503, 14, "UC", "connection_terminated", true,                                \
      "the connection ended before the request was written")                                       \
    X(UPSTREAM_CLOSED, RESET, 503, 14, "UC", "connection_terminated", false,                       \
      "the connection ended under the request")                                                    \
    X(UPSTREAM_RESET, RESET, 503, 14, "UR", "connection_terminated", false,                        \
      "the peer reset the stream")                                                                 \
    X(ANSWER_CUT, RESET, 502, 14, "UPE", "http_response_incomplete", false,                        \
      "the answer ended short")                                                                    \
    X(ANSWER_BAD, BAD_ANSWER, 502, 14, "UPE", "http_protocol_error", false,                        \
      "the answer breaks the protocol")                                                            \
    X(ANSWER_HEAD_LARGE, BAD_ANSWER, 502, 14, "UPE", "http_response_header_section_size", false,   \
      "the answer's head is above the limit")                                                      \
    X(TRY_TIMEOUT, TRY_TIMEOUT, 504, 14, "UT", "http_response_timeout", false,                     \
      "the attempt's time limit passed")                                                           \
    X(TRY_IDLE, TRY_TIMEOUT, 504, 14, "SI", "http_response_timeout", false,                        \
      "the attempt was silent for too long")                                                       \
    X(ROUTE_TIMEOUT, DEADLINE, 504, 14, "UT", "http_response_timeout", false,                      \
      "the route's time limit passed")                                                             \
    X(DEADLINE, DEADLINE, 504, 4, "UT", "http_response_timeout", false,                            \
      "the caller's own deadline passed (grpc-timeout)")                                           \
    X(MAX_DURATION, DEADLINE, 504, 14, "UMSDR", "http_response_timeout", false,                    \
      "the stream's greatest duration passed")                                                     \
    X(STREAM_IDLE, DEADLINE, 504, 14, "SI", "connection_read_timeout", false,                      \
      "nothing moved for too long while an answer was awaited")                                    \
    X(REQUEST_STALLED, CLIENT, 408, 2, "SI", "http_request_error", false,                          \
      "the rest of the request did not come in time")                                              \
    X(REQUEST_BAD, CLIENT, 400, 13, "DPE", "http_request_error", false,                            \
      "the request breaks the protocol; the codec says which status")                              \
    X(CLIENT_GONE, CLIENT, 0, 1, "DC", "", false, "the client left before the answer's end")       \
    X(NO_CHAIN, LOCAL, 0, 2, "NR", "", true, "no filter chain takes the connection")               \
    X(CLIENT_TLS, LOCAL, 0, 2, "", "", true, "the client's TLS handshake failed")                  \
    X(CLIENT_SILENT, LOCAL, 0, 2, "", "", true,                                                    \
      "what the connection begins with did not come, or not in time")                              \
    X(BUG, LOCAL, 500, 2, "LR", "proxy_internal_error", false, "a check of our own failed")

enum fail {
#define X(value, cause, http, grpc, flag, proxy_status, unseen, meaning) FAIL_##value,
    FAILS(X)
#undef X
        FAIL_COUNT
};

#define FAIL_DETAILS_MAX 32

struct fail_facts {
    const char *name; /* as in the enum ("NO_ROUTE"): logs, metrics, the PEER frame */
    const char *flag;
    const char *proxy_status;
    const char *meaning;
    uint16_t http;
    uint8_t grpc;
    uint8_t cause; /* enum fail_cause */
    bool unseen;
};

/* Never null; lives for ever. */
const struct fail_facts *fail_facts(enum fail fail);
const char *fail_name(enum fail fail);
/* The name as access logs say it, in lower case; `text` holds it. */
struct slice fail_details(enum fail fail, char text[FAIL_DETAILS_MAX]);
/* By the name that fail_name gives; false when it is none of ours. A peer's word, so that a newer
 * peer's value is not an error. */
bool fail_from_name(struct slice name, enum fail *fail) MUST_USE;

static inline enum fail_cause fail_cause(enum fail fail)
{
    return (enum fail_cause)fail_facts(fail)->cause;
}

static inline bool fail_unseen(enum fail fail)
{
    return fail_facts(fail)->unseen;
}
