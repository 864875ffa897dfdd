#pragma once
/* What the value of a header that a route adds may say between two '%': of Envoy's command
 * operators those that the sidecar has. Where policy is written they are checked, where xDS arrives
 * they are compiled. */

/* X(value, "operator", whether an argument in parentheses follows) */
#define HEADER_OPERATORS(X)                                                                        \
    X(REQ, "REQ", true)                                                                            \
    X(RESP, "RESP", true)                                                                          \
    X(PROTOCOL, "PROTOCOL", false)                                                                 \
    X(DOWNSTREAM_REMOTE, "DOWNSTREAM_REMOTE_ADDRESS", false)                                       \
    X(DOWNSTREAM_REMOTE_IP, "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", false)                       \
    X(DOWNSTREAM_LOCAL, "DOWNSTREAM_LOCAL_ADDRESS", false)                                         \
    X(DOWNSTREAM_LOCAL_IP, "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false)                         \
    X(DOWNSTREAM_PEER_URI, "DOWNSTREAM_PEER_URI_SAN", false)                                       \
    X(UPSTREAM_REMOTE, "UPSTREAM_REMOTE_ADDRESS", false)                                           \
    X(UPSTREAM_CLUSTER, "UPSTREAM_CLUSTER", false)                                                 \
    X(ROUTE_NAME, "ROUTE_NAME", false)                                                             \
    X(RESPONSE_CODE, "RESPONSE_CODE", false)                                                       \
    X(RESPONSE_FLAGS, "RESPONSE_FLAGS", false)
