#pragma once
/* The objects that people write, as typed C: Kubernetes Service, Endpoints and EndpointSlice;
 * Istio's WorkloadEntry, VirtualService, DestinationRule and PeerAuthentication. policy/parse makes
 * them from YAML or JSON; nothing changes them afterwards, but the generation that policy/set gives
 * once. Every value remembers the line it stands on, for problems and for the decision record of
 * the sidecars.
 *
 * An object owns an arena, from which all of it is; it is counted, since one picture of the mesh
 * after the other shares what did not change. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/check.h"

/* Every kind that is read: enum name, kind as written, API group, field of union object_spec. A new
 * kind is a line here, a struct below, a table in policy/parse_tables.c and a function in
 * policy/validate.c. Versions v1, v1beta1 and v1alpha3 of Istio's groups mean the same. */
#define OBJECT_KINDS(X)                                                                            \
    X(SERVICE, "Service", "", service)                                                             \
    X(ENDPOINTS, "Endpoints", "", endpoints)                                                       \
    X(ENDPOINT_SLICE, "EndpointSlice", "discovery.k8s.io", endpoint_slice)                         \
    X(WORKLOAD_ENTRY, "WorkloadEntry", "networking.istio.io", workload_entry)                      \
    X(VIRTUAL_SERVICE, "VirtualService", "networking.istio.io", virtual_service)                   \
    X(DESTINATION_RULE, "DestinationRule", "networking.istio.io", destination_rule)                \
    X(PEER_AUTHENTICATION, "PeerAuthentication", "security.istio.io", peer_authentication)

enum object_kind {
#define OBJECT_KIND_ENUM(name, kind, group, member) OBJECT_KIND_##name,
    OBJECT_KINDS(OBJECT_KIND_ENUM)
#undef OBJECT_KIND_ENUM
};

/* Values with the line they stand on; line 0: not set. */
struct text {
    const char *value; /* null when not set; never null when set */
    uint32_t line;
};

struct number {
    uint32_t value;
    uint32_t line;
};

struct flag {
    bool value;
    uint32_t line;
};

struct duration {
    uint64_t us;
    uint32_t line;
};

struct label {
    const char *key;
    const char *value;
    uint32_t line;
};

struct labels {
    struct label *at;
    size_t count;
    uint32_t line;
};

struct texts {
    struct text *at;
    size_t count;
    uint32_t line;
};

/* Enumerations of the APIs, each value as it is written. The first value is "not set". */
#define PORT_PROTOCOLS(X)                                                                          \
    X(TCP, "TCP")                                                                                  \
    X(UDP, "UDP")                                                                                  \
    X(SCTP, "SCTP")

#define LB_SIMPLES(X)                                                                              \
    X(UNSPECIFIED, "UNSPECIFIED")                                                                  \
    X(ROUND_ROBIN, "ROUND_ROBIN")                                                                  \
    X(RANDOM, "RANDOM")                                                                            \
    X(LEAST_REQUEST, "LEAST_REQUEST")                                                              \
    X(LEAST_CONN, "LEAST_CONN")

#define TLS_MODES(X)                                                                               \
    X(UNSET, "")                                                                                   \
    X(DISABLE, "DISABLE")                                                                          \
    X(ISTIO_MUTUAL, "ISTIO_MUTUAL")

#define MTLS_MODES(X)                                                                              \
    X(UNSET, "UNSET")                                                                              \
    X(DISABLE, "DISABLE")                                                                          \
    X(PERMISSIVE, "PERMISSIVE")                                                                    \
    X(STRICT, "STRICT")

enum port_protocol {
#define X(name, text) PORT_PROTOCOL_##name,
    PORT_PROTOCOLS(X)
#undef X
};
enum lb_simple {
#define X(name, text) LB_SIMPLE_##name,
    LB_SIMPLES(X)
#undef X
};
enum tls_mode {
#define X(name, text) TLS_MODE_##name,
    TLS_MODES(X)
#undef X
};
enum mtls_mode {
#define X(name, text) MTLS_MODE_##name,
    MTLS_MODES(X)
#undef X
};

/* An enumeration's value, an `enum ...` as number. */
struct choice {
    unsigned value;
    uint32_t line;
};

/* A list of structs: the items follow each other in the object's arena. */
#define OBJECT_LIST(type)                                                                          \
    struct {                                                                                       \
        type *at;                                                                                  \
        size_t count;                                                                              \
        uint32_t line;                                                                             \
    }

/* ---- core/v1 Service ---- */
struct service_port {
    uint32_t line;
    struct text name;
    struct number port;
    struct number target_port;    /* where it is a number */
    struct text target_port_name; /* where it is a name */
    struct choice protocol;       /* enum port_protocol */
    struct text app_protocol;
};

struct service {
    uint32_t line;
    struct labels selector;
    OBJECT_LIST(struct service_port) ports;
    struct text cluster_ip; /* "None": headless */
    struct texts cluster_ips;
};

/* ---- core/v1 Endpoints, discovery.k8s.io/v1 EndpointSlice ---- */
struct target_ref {
    uint32_t line;
    struct text kind;
    struct text namespace;
    struct text name;
    struct text uid;
};

struct endpoint_port {
    uint32_t line;
    struct text name;
    struct number port;
    struct choice protocol;
    struct text app_protocol;
};

struct endpoints_address {
    uint32_t line;
    struct text ip;
    struct text hostname;
    struct text node_name;
    struct target_ref *target; /* null: none */
};

struct endpoints_subset {
    uint32_t line;
    OBJECT_LIST(struct endpoints_address) addresses;
    OBJECT_LIST(struct endpoints_address) not_ready;
    OBJECT_LIST(struct endpoint_port) ports;
};

struct endpoints {
    uint32_t line;
    OBJECT_LIST(struct endpoints_subset) subsets;
};

struct slice_conditions {
    uint32_t line;
    struct flag ready; /* not set: true */
    struct flag serving;
    struct flag terminating;
};

struct slice_endpoint {
    uint32_t line;
    struct texts addresses;
    struct slice_conditions *conditions; /* null: ready */
    struct text hostname;
    struct text node_name;
    struct text zone;
    struct target_ref *target;
};

struct endpoint_slice {
    uint32_t line;
    struct text address_type;
    OBJECT_LIST(struct slice_endpoint) endpoints;
    OBJECT_LIST(struct endpoint_port) ports;
};

/* ---- networking.istio.io WorkloadEntry ---- */
struct named_port {
    const char *name;
    uint32_t port;
    uint32_t line;
};

struct workload_entry {
    uint32_t line;
    struct text address;
    OBJECT_LIST(struct named_port) ports;
    struct labels labels;
    struct text network;
    struct text locality; /* region/zone/subzone */
    struct number weight;
    struct text service_account;
};

/* ---- networking.istio.io VirtualService ---- */
enum string_match_kind {
    STRING_MATCH_PRESENT, /* nothing is said of the value */
    STRING_MATCH_EXACT,
    STRING_MATCH_PREFIX,
    STRING_MATCH_REGEX,
};

struct string_match {
    uint32_t line; /* 0: not set */
    enum string_match_kind kind;
    const char *value; /* null where PRESENT */
};

struct named_match {
    const char *name;
    struct string_match match;
};

struct named_matches {
    struct named_match *at;
    size_t count;
    uint32_t line;
};

struct http_match {
    uint32_t line;
    struct text name;
    struct string_match uri;
    struct string_match scheme;
    struct string_match method;
    struct string_match authority;
    struct flag ignore_uri_case;
    struct named_matches headers;
    struct named_matches without_headers;
    struct named_matches query_params;
    struct number port;
    struct labels source_labels;
};

struct header_edit {
    uint32_t line;
    struct labels set;
    struct labels add;
    struct texts remove;
};

struct header_edits {
    uint32_t line;
    struct header_edit request;
    struct header_edit response;
};

struct port_selector {
    uint32_t line;
    struct number number;
};

struct route_target {
    uint32_t line;
    struct text host;
    struct text subset;
    struct port_selector port;
};

struct route_destination {
    uint32_t line;
    struct route_target destination;
    struct number weight;
    struct header_edits headers;
};

struct retries {
    uint32_t line; /* 0: the mesh's default */
    struct number attempts;
    struct duration per_try_timeout;
    struct text retry_on;
    struct flag retry_remote_localities;
};

struct http_rule {
    uint32_t line;
    struct text name;
    OBJECT_LIST(struct http_match) match;
    OBJECT_LIST(struct route_destination) route;
    struct duration timeout;
    struct retries retries;
    struct header_edits headers;
};

/* L4MatchAttributes; with sniHosts, TLSMatchAttributes. */
struct l4_match {
    uint32_t line;
    struct texts sni_hosts;
    struct texts destination_subnets;
    struct number port;
    struct labels source_labels;
};

/* TCPRoute, TLSRoute. */
struct l4_rule {
    uint32_t line;
    OBJECT_LIST(struct l4_match) match;
    OBJECT_LIST(struct route_destination) route; /* without headers */
};

struct virtual_service {
    uint32_t line;
    struct texts hosts;
    struct texts gateways; /* only `mesh` is allowed */
    OBJECT_LIST(struct http_rule) http;
    OBJECT_LIST(struct l4_rule) tls;
    OBJECT_LIST(struct l4_rule) tcp;
};

/* ---- networking.istio.io DestinationRule ---- */
struct tcp_keepalive {
    uint32_t line;
    struct number probes;
    struct duration time;
    struct duration interval;
};

struct tcp_pool {
    uint32_t line;
    struct number max_connections;
    struct duration connect_timeout;
    struct duration max_connection_duration;
    struct tcp_keepalive keepalive;
};

struct http_pool {
    uint32_t line;
    struct number http1_max_pending_requests;
    struct number http2_max_requests;
    struct number max_requests_per_connection;
    struct number max_retries;
    struct duration idle_timeout;
};

struct connection_pool {
    uint32_t line;
    struct tcp_pool tcp;
    struct http_pool http;
};

struct load_balancer {
    uint32_t line;
    struct choice simple; /* enum lb_simple */
};

struct outlier_detection {
    uint32_t line; /* 0: off */
    struct number consecutive_5xx_errors;
    struct number consecutive_gateway_errors;
    struct flag split_external_local_origin_errors;
    struct number consecutive_local_origin_failures;
    struct duration interval;
    struct duration base_ejection_time;
    struct number max_ejection_percent;
    struct number min_health_percent;
};

struct client_tls {
    uint32_t line;      /* 0: automatic, by the endpoint's label */
    struct choice mode; /* enum tls_mode */
};

/* What both a host, a port and a subset can set. */
struct traffic_settings {
    uint32_t line;
    struct load_balancer load_balancer;
    struct connection_pool connection_pool;
    struct outlier_detection outlier_detection;
    struct client_tls tls;
};

struct port_settings {
    struct traffic_settings settings;
    struct port_selector port;
};

struct traffic_policy {
    struct traffic_settings settings;
    OBJECT_LIST(struct port_settings) ports;
};

struct subset {
    uint32_t line;
    struct text name;
    struct labels labels;
    struct traffic_policy policy;
};

struct destination_rule {
    uint32_t line;
    struct text host;
    struct traffic_policy policy;
    OBJECT_LIST(struct subset) subsets;
};

/* ---- security.istio.io PeerAuthentication ---- */
struct mutual_tls {
    uint32_t line;
    struct choice mode; /* enum mtls_mode */
};

struct port_mutual_tls {
    uint32_t port; /* of the workload */
    struct mutual_tls mtls;
};

struct workload_selector {
    uint32_t line;
    struct labels match_labels;
};

struct peer_authentication {
    uint32_t line;
    struct workload_selector selector;
    struct mutual_tls mtls;
    OBJECT_LIST(struct port_mutual_tls) ports;
};

/* ---- any of them ---- */
union object_spec {
#define OBJECT_SPEC_MEMBER(name, kind, group, member) struct member member;
    OBJECT_KINDS(OBJECT_SPEC_MEMBER)
#undef OBJECT_SPEC_MEMBER
};

struct object {
    enum object_kind kind;
    const char *namespace; /* "default" where the file says nothing */
    const char *name;
    const char *id;  /* "VirtualService/default/order-service" */
    const char *uid; /* metadata.uid; "" where there is none */
    struct labels labels;
    struct labels annotations;
    const char *file; /* as the caller of policy_parse named it */
    uint32_t line;    /* where the object begins */
    uint32_t refs;
    uint64_t hash;       /* of all that matters, places not included */
    uint64_t generation; /* 0 until policy/set gives one */
    uint64_t born;       /* the generation of its first version: its age */
    union object_spec spec;
    struct arena arena;
};

/* An object without content, with one reference. For policy/parse and tests. */
struct object *object_new(enum object_kind kind, const char *file, uint32_t line) MUST_USE;
struct object *object_ref(struct object *object);
/* Ends one reference and nulls the pointer; null is allowed. */
void object_unref(struct object **object);

/* "VirtualService"; the API group, "" for core. Static text. */
const char *object_kind_name(enum object_kind kind);
const char *object_kind_group(enum object_kind kind);
/* The kind that is written so in that group (its part before the "/"); false when it is none. */
bool object_kind_find(const char *group, const char *name, enum object_kind *kind) MUST_USE;

/* The text of a value, as the API writes it. */
const char *mtls_mode_name(enum mtls_mode mode);
const char *tls_mode_name(enum tls_mode mode);

/* `labels` by key; null when it is not there. Borrowed. */
const char *labels_get(const struct labels *labels, const char *key);
/* True when every pair of `wanted` is in `labels`; nothing wanted: true. */
/* "10.0.0.0/8", "fd00::/8"; an address alone is its whole length. False: it is none. */
bool policy_subnet_parse(const char *text, struct addr *addr, unsigned *prefix);
bool labels_match(const struct labels *wanted, const struct labels *labels);

#define OBJECT_ACCESSOR(NAME, kind_name, group, member)                                            \
    static inline const struct member *object_##member(const struct object *object)                \
    {                                                                                              \
        CHECK(object->kind == OBJECT_KIND_##NAME);                                                 \
        return &object->spec.member;                                                               \
    }
OBJECT_KINDS(OBJECT_ACCESSOR)
#undef OBJECT_ACCESSOR
