#pragma once
/* Configuration as the request path sees it: compiled, validated whole, and from then on immutable.
 * config/compile_* makes it from xDS; protobuf types stop there.
 *
 * Every tree is owned by one struct snapshot (an arena and the regular expressions in it) and is
 * freed with it, in one stroke, by the admin thread. Workers only read; what changes per worker
 * (balancer state, weights' credits, pools) lives in twins beside it (upstream/cluster,
 * route/weights), which refer to clusters by name and to routes by ordinal.
 *
 * Times are microseconds (_us); 0 means off unless a line says otherwise. Text is a slice into the
 * snapshot. Names of header fields are lower case. Absent fields have become what Envoy means by
 * their absence before anything here is read. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/slice.h"
#include "xds/header_operators.h"

struct regex;       /* base/regex */
struct tls_context; /* base/tls */

/* What owns a compiled tree. One thread at a time; readers need nothing of it. */
struct snapshot {
    struct arena arena;
    struct snapshot_regex *regexes;
    struct snapshot_tls *contexts;
};

struct snapshot *snapshot_new(void) MUST_USE;
/* Frees the tree, every regular expression and every TLS context in it. The pointer may itself lie
 * in the tree. */
void snapshot_free(struct snapshot **snapshot);
/* Takes a compiled expression over; what is returned lives as long as the snapshot. */
const struct regex *snapshot_take_regex(struct snapshot *snapshot, struct regex **regex);
struct tls_context *snapshot_take_tls(struct snapshot *snapshot, struct tls_context **context);

/* The policy object that asked for something: filter_metadata["pillion.io"]. */
struct origin {
    struct slice object; /* "VirtualService/default/order-service" */
    struct slice file;   /* empty where the source is not a file */
    uint64_t generation;
    uint32_t line;
    uint32_t id; /* hash of the above; 0: no origin. What the decision record keeps */
};

/* ---- matching ---------------------------------------------------------------------------- */

enum string_match_kind {
    STRING_MATCH_EXACT,
    STRING_MATCH_PREFIX,
    STRING_MATCH_SUFFIX,
    STRING_MATCH_CONTAINS,
    STRING_MATCH_REGEX /* the whole value */
};

struct string_match {
    enum string_match_kind kind;
    bool ignore_case;          /* never with REGEX: the expression carries it */
    struct slice text;         /* REGEX: the pattern, for people */
    const struct regex *regex; /* REGEX only; owned by the snapshot */
};

/* Where a header match finds its value. */
enum header_source {
    HEADER_SOURCE_FIELD,
    HEADER_SOURCE_METHOD,
    HEADER_SOURCE_PATH, /* with the query, as Envoy's :path */
    HEADER_SOURCE_AUTHORITY,
    HEADER_SOURCE_SCHEME,
    HEADER_SOURCE_STATUS /* responses: retriable headers */
};

enum header_match_kind { HEADER_MATCH_PRESENT, HEADER_MATCH_STRING, HEADER_MATCH_RANGE };

struct header_match {
    struct slice name;
    uint8_t source; /* enum header_source */
    uint8_t kind;   /* enum header_match_kind */
    uint8_t id;     /* enum header_id of the name (http/headers.h) */
    bool invert;
    bool missing_is_empty; /* an absent field counts as an empty value */
    bool present;          /* PRESENT: wanted presence */
    struct string_match string;
    int64_t range_start; /* RANGE: start <= value < end, decimal */
    int64_t range_end;
};

struct query_match {
    struct slice name;
    bool any; /* the name alone must be there */
    struct string_match string;
};

enum path_match_kind {
    PATH_MATCH_PREFIX,
    PATH_MATCH_EXACT,
    PATH_MATCH_SEPARATED_PREFIX, /* "/a" matches "/a" and "/a/b", not "/ab" */
    PATH_MATCH_REGEX,            /* the whole path, without the query */
    PATH_MATCH_CONNECT           /* CONNECT requests, whatever they name */
};

/* A chance of numerator/denominator; denominator 0: always. */
struct fraction {
    uint32_t numerator;
    uint32_t denominator;
};

struct route_match {
    uint8_t path_kind; /* enum path_match_kind */
    bool ignore_case;
    bool grpc_only;
    struct slice path;
    const struct regex *path_regex;
    const struct header_match *headers;
    const struct query_match *queries;
    uint16_t header_count;
    uint16_t query_count;
    struct fraction fraction;
};

/* ---- header operations ---------------------------------------------------------------------- */

enum header_variable {
    HEADER_VARIABLE_LITERAL,
#define X(value, text, argument) HEADER_VARIABLE_##value,
    HEADER_OPERATORS(X)
#undef X
};

/* A value is its parts in a row. */
struct header_part {
    enum header_variable variable;
    struct slice text; /* LITERAL: the text; REQ, RESP: the field's name, lower case */
};

enum header_append { /* HeaderValueOption.HeaderAppendAction */
                     HEADER_APPEND,
                     HEADER_ADD_IF_ABSENT,
                     HEADER_OVERWRITE,
                     HEADER_OVERWRITE_IF_PRESENT
};

struct header_add {
    struct slice name; /* as it was written */
    const struct header_part *parts;
    uint16_t part_count; /* 0: the empty value */
    uint8_t action;      /* enum header_append */
    bool keep_empty;     /* an empty value is written, not skipped */
    uint8_t id;          /* enum header_id */
};

struct header_remove {
    struct slice name;
    uint8_t id; /* enum header_id */
};

/* Of one level: removals run first, then additions (Envoy). */
struct header_ops {
    const struct header_remove *removes;
    const struct header_add *adds;
    uint16_t remove_count;
    uint16_t add_count;
};

/* Levels of one request, in the order in which they run: weighted cluster (its own pair), route,
 * virtual host, table. Empty levels are left out; the end is a null pointer. */
#define HEADER_LEVELS_MAX 4
struct header_levels {
    const struct header_ops *level[HEADER_LEVELS_MAX];
};

/* ---- routes ------------------------------------------------------------------------------------
 */

/* retry_on's conditions. X(value, "token", meaning) (Envoy: x-envoy-retry-on,
 * x-envoy-retry-grpc-on)
 */
#define RETRY_ONS(X)                                                                               \
    X(5XX, "5xx", "any answer of 5xx, or none")                                                    \
    X(GATEWAY_ERROR, "gateway-error", "502, 503, 504, or no answer")                               \
    X(RESET, "reset", "no answer at all: reset, close, per-try timeout")                           \
    X(RESET_BEFORE_REQUEST, "reset-before-request", "ended before the request's head was sent")    \
    X(CONNECT_FAILURE, "connect-failure", "no connection")                                         \
    X(REFUSED_STREAM, "refused-stream", "REFUSED_STREAM")                                          \
    X(RETRIABLE_4XX, "retriable-4xx", "409")                                                       \
    X(STATUS_CODES, "retriable-status-codes", "one of retriable_status_codes")                     \
    X(HEADERS, "retriable-headers", "the answer matches one of retriable_headers")                 \
    X(RATELIMITED, "envoy-ratelimited", "the answer carries x-envoy-ratelimited")                  \
    X(HTTP3, "http3-post-connect-failure", "accepted; there is no HTTP/3 here")                    \
    X(IDEMPOTENT_RESET, "idempotent-reset",                                                        \
      "Pillion's default: no answer at all, where the method may be repeated (RFC 9110 9.2.2)")    \
    X(GRPC_CANCELLED, "cancelled", "grpc-status 1")                                                \
    X(GRPC_DEADLINE, "deadline-exceeded", "grpc-status 4")                                         \
    X(GRPC_EXHAUSTED, "resource-exhausted", "grpc-status 8")                                       \
    X(GRPC_INTERNAL, "internal", "grpc-status 13")                                                 \
    X(GRPC_UNAVAILABLE, "unavailable", "grpc-status 14")

enum retry_on_bit {
#define X(value, token, meaning) RETRY_ON_BIT_##value,
    RETRY_ONS(X)
#undef X
        RETRY_ON_COUNT
};

enum retry_on {
#define X(value, token, meaning) RETRY_ON_##value = 1 << RETRY_ON_BIT_##value,
    RETRY_ONS(X)
#undef X
};

struct retry_policy {
    uint32_t on;              /* bits of enum retry_on */
    uint32_t max_retries;     /* 0: none at all, the free ones included */
    uint64_t try_timeout_us;  /* of one attempt */
    uint64_t try_idle_us;     /* without a byte, of one attempt */
    uint64_t backoff_base_us; /* never 0 */
    uint64_t backoff_max_us;
    const uint16_t *codes;              /* retriable_status_codes, and numbers in retry_on */
    const struct header_match *headers; /* retriable_headers */
    uint16_t code_count;
    uint16_t header_count;
    bool avoid_tried;    /* previous_hosts; always so for the free retries */
    bool leave_priority; /* previous_priorities: prefer endpoints of priorities not tried yet */
};

enum hash_policy_kind {
    HASH_HEADER,
    HASH_COOKIE,
    HASH_SOURCE_IP,
    HASH_QUERY,
    HASH_FILTER_STATE /* there is none here: never gives a hash */
};

struct hash_policy {
    uint8_t kind; /* enum hash_policy_kind */
    bool terminal;
    struct slice name; /* header, cookie, parameter */
    struct slice cookie_path;
    bool cookie_make; /* a cookie is made where the request has none */
    uint64_t cookie_ttl_us;
};

/* One of the clusters that a route's requests may go to. */
struct route_target {
    uint16_t cluster;                      /* index into the table's cluster names */
    uint32_t weight;                       /* 0: never; a single cluster has 1 */
    const struct header_ops *request_ops;  /* null: none; run before the route's levels */
    const struct header_ops *response_ops; /* null: none */
    struct slice host_rewrite;             /* empty: the route's */
    const struct origin *origin;           /* null: the route's */
};

struct upgrade_config {
    struct slice type; /* "websocket"; "CONNECT" */
    bool enabled;
    bool terminate; /* CONNECT: the tunnel ends here and goes on as TCP (connect_config) */
};

struct regex_rewrite {
    const struct regex *regex;
    struct slice substitution; /* "\1" names a group */
};

enum host_rewrite_kind {
    HOST_REWRITE_NONE,
    HOST_REWRITE_LITERAL,
    HOST_REWRITE_AUTO,  /* the endpoint's hostname */
    HOST_REWRITE_HEADER /* the value of that field */
};

enum route_action_kind { ROUTE_FORWARD, ROUTE_REDIRECT, ROUTE_DIRECT, ROUTE_NOT_FORWARDING };

struct route_forward {
    const struct route_target *targets;
    const struct hash_policy *hashes;
    const struct upgrade_config *upgrades;
    const struct retry_policy *retry; /* null: only the free retries */
    struct slice cluster_header;      /* not empty: the field that names the cluster; no targets */
    struct slice prefix_rewrite;
    struct regex_rewrite path_rewrite; /* regex null: none */
    struct slice host_rewrite;
    uint64_t timeout_us;          /* from the request's end to the answer's, retries included */
    uint64_t idle_us;             /* meaningful where has_idle: else the listener's */
    uint64_t max_duration_us;     /* meaningful where has_max_duration */
    uint64_t grpc_timeout_max_us; /* UINT64_MAX: grpc-timeout is taken as it is */
    uint32_t split;               /* ordinal of the table's weighted routes; ROUTE_NO_SPLIT */
    uint16_t target_count;
    uint16_t hash_count;
    uint16_t upgrade_count;
    uint16_t cluster_missing_status; /* 503, 404, 500 */
    uint8_t host_rewrite_kind;       /* enum host_rewrite_kind */
    bool has_idle;
    bool has_max_duration;
    bool honour_grpc_timeout;   /* as the request's greatest duration */
    bool grpc_timeout_replaces; /* also takes the place of timeout_us, absent or not */
    bool append_forwarded_host;
    bool high_priority; /* which of the cluster's breaker limits holds */
};

#define ROUTE_NO_SPLIT UINT32_MAX

struct route_redirect {
    struct slice host;   /* empty: kept */
    struct slice scheme; /* empty: kept */
    struct slice path;   /* path_redirect, whole */
    struct slice prefix; /* prefix_rewrite, where has_prefix */
    struct regex_rewrite path_rewrite;
    uint16_t port; /* 0: kept */
    uint16_t status;
    bool has_prefix;
    bool strip_query;
};

struct route_direct {
    uint16_t status;
    struct slice body;
};

struct route {
    struct slice name;
    struct route_match match;
    enum route_action_kind kind;
    union {
        struct route_forward forward;
        struct route_redirect redirect;
        struct route_direct direct;
    };
    struct header_levels request_levels;
    struct header_levels response_levels;
    struct slice operation;      /* decorator: the span's name; empty: the route's */
    const struct origin *origin; /* null: none */
    bool attempt_count_in_request;
    bool attempt_count_in_response;
};

struct virtual_host {
    struct slice name;
    const struct route *routes;
    uint32_t route_count;
};

struct domain {
    struct slice text; /* lower case; without its '*' */
    uint32_t host;     /* index of the virtual host */
};

/* Domains are sorted for Envoy's precedence: exact names by text, for bisection; "*.suffix" and
 * "prefix*" longest first. */
struct route_table {
    struct slice name;
    const struct virtual_host *hosts;
    const struct domain *exact;
    const struct domain *suffixes;
    const struct domain *prefixes;
    const struct slice *clusters; /* every cluster that a route names, each once */
    uint32_t host_count;
    uint32_t exact_count;
    uint32_t suffix_count;
    uint32_t prefix_count;
    uint32_t cluster_count;
    uint32_t split_count; /* weighted routes */
    int64_t any;          /* virtual host of the domain "*"; -1: none */
    bool ignore_port;     /* a port in Host does not count */
};

/* ---- TLS ----------------------------------------------------------------------------------------
 */

enum san_kind { SAN_ANY, SAN_EMAIL, SAN_DNS, SAN_URI, SAN_IP };

struct san_match {
    uint8_t kind; /* enum san_kind */
    struct string_match string;
};

struct tls_certificate {
    struct slice chain_pem;
    struct slice key_pem; /* never logged or dumped */
};

struct tls_validation {
    struct slice ca_pem;
    const struct san_match *sans; /* one must match; none: any name that the chain proves */
    uint16_t san_count;
    bool accept_untrusted;
};

enum tls_protocol { TLS_PROTOCOL_AUTO, TLS_PROTOCOL_1_2 = 3, TLS_PROTOCOL_1_3 = 4 };

struct tls_config {
    bool server;
    bool require_client_certificate; /* server */
    bool verify;                     /* a validation context is there */
    bool auto_sni;                   /* client: SNI is the request's host */
    uint8_t min_version;             /* enum tls_protocol; never AUTO */
    uint8_t max_version;
    struct slice sni;                           /* client; empty: none is sent */
    const struct slice *alpn;                   /* in order of preference */
    const struct tls_certificate *certificates; /* inline */
    struct slice certificate_sds;               /* "default": the sidecar's own identity */
    struct slice validation_sds;                /* "ROOTCA": the mesh's roots */
    struct tls_validation validation;           /* with validation_sds: what is added to it */
    struct slice ciphers;                       /* OpenSSL's list for TLS 1.2; empty: built in */
    struct slice curves;                        /* OpenSSL's list; empty: built in */
    uint16_t alpn_count;
    uint16_t certificate_count;
    struct tls_context *context; /* made with the configuration; the snapshot's */
};

/* ---- clusters and endpoints
 * ------------------------------------------------------------------------ */

enum cluster_type {
    CLUSTER_STATIC,
    CLUSTER_EDS,
    CLUSTER_ORIGINAL_DST,
    CLUSTER_STRICT_DNS,
    CLUSTER_LOGICAL_DNS
};

enum lb_kind {
    LB_ROUND_ROBIN,
    LB_LEAST_REQUEST,
    LB_RANDOM,
    LB_ORIGINAL_DST /* CLUSTER_PROVIDED */
};

enum cluster_protocol {
    CLUSTER_PROTOCOL_HTTP1,
    CLUSTER_PROTOCOL_HTTP2,
    CLUSTER_PROTOCOL_DOWNSTREAM, /* as the request came */
    CLUSTER_PROTOCOL_ALPN        /* as the TLS handshake says, else HTTP/1 */
};

enum dns_family { DNS_AUTO, DNS_V4, DNS_V6, DNS_V4_PREFERRED, DNS_ALL };

/* UINT32_MAX: no limit. */
struct breaker_limits {
    uint32_t connections;
    uint32_t pending;
    uint32_t requests;
    uint32_t retries;            /* where has_budget is false */
    bool has_budget;             /* retries are a share of what is active instead */
    uint32_t budget_ppm;         /* millionths of active and waiting requests */
    uint32_t budget_concurrency; /* at least so many, whatever the share is */
};

/* Each count 0: that detector is off. Percentages are 0 to 100. */
struct outlier_config {
    uint32_t consecutive_5xx;
    uint32_t consecutive_gateway;
    uint32_t consecutive_local; /* only where split_local */
    bool split_local;           /* failures of our own making do not count as 5xx */
    uint8_t enforce_5xx;
    uint8_t enforce_gateway;
    uint8_t enforce_local;
    uint8_t enforce_success_rate;
    uint8_t enforce_failure_percentage;
    uint8_t max_ejection_percent;
    uint8_t failure_percentage; /* threshold */
    uint32_t success_rate_hosts;
    uint32_t success_rate_volume;
    uint32_t success_rate_factor; /* thousandths of a standard deviation */
    uint32_t failure_percentage_hosts;
    uint32_t failure_percentage_volume;
    uint64_t interval_us;
    uint64_t base_ejection_us;
    uint64_t max_ejection_us;
};

struct label {
    struct slice key;
    struct slice value; /* text; numbers and booleans as JSON writes them */
};

/* The first whose labels are all among the endpoint's decides its transport. */
struct transport_match {
    struct slice name;
    const struct label *labels;
    uint16_t label_count; /* 0: matches every endpoint */
    const struct tls_config *tls;
};

struct slow_start {
    uint64_t window_us; /* 0: off */
    double aggression;
    uint8_t min_weight_percent;
};

struct cluster_config {
    struct slice name;
    struct slice stat_name;    /* alt_stat_name, else the name */
    struct slice service_name; /* EDS: the resource to ask for */
    enum cluster_type type;
    enum lb_kind lb;
    enum cluster_protocol protocol;
    enum dns_family dns_family;
    uint32_t choice_count;      /* LEAST_REQUEST */
    double active_request_bias; /* LEAST_REQUEST, unequal weights */
    struct slow_start slow_start;
    uint8_t panic_percent;  /* below this share of available endpoints, all are used */
    bool locality_weighted; /* localities by their weight, not by their endpoints' */
    bool sni_from_host;     /* auto_sni */
    bool dns_respect_ttl;   /* the answer's time to live instead of dns_refresh_us */
    uint64_t connect_timeout_us;
    uint64_t idle_us; /* of a pooled connection */
    uint64_t max_connection_us;
    uint64_t dns_refresh_us;
    uint64_t dns_jitter_us;               /* up to so much later */
    uint64_t cleanup_us;                  /* ORIGINAL_DST: an unused endpoint is forgotten */
    uint32_t max_requests_per_connection; /* 0: no limit */
    uint32_t max_streams;                 /* HTTP/2, of one connection */
    uint32_t keepalive_time_s;            /* TCP keep-alive; 0: the program's default */
    uint32_t keepalive_interval_s;
    uint32_t keepalive_probes;
    struct breaker_limits limits[2]; /* by priority: default, high */
    uint32_t host_connections;       /* per endpoint; UINT32_MAX: no limit */
    bool has_outlier;
    struct outlier_config outlier;
    const struct transport_match *matches;
    const struct tls_config *tls; /* where no match decides; null: plain */
    uint16_t match_count;
    uint16_t original_port; /* ORIGINAL_DST: upstream_port_override; 0: the original */
    struct addr bind[2];    /* source address for IPv4, IPv6; ADDR_NONE: the kernel chooses */
    bool close_on_unhealthy;
    const struct endpoint_set *endpoints; /* load_assignment; null for EDS */
    const struct origin *origin;
};

/* Its endpoints are names; what these resolve to comes later, and again (config/names). */
static inline bool cluster_is_named(const struct cluster_config *cluster)
{
    return cluster->type == CLUSTER_STRICT_DNS || cluster->type == CLUSTER_LOGICAL_DNS;
}

enum endpoint_health { ENDPOINT_HEALTHY, ENDPOINT_DEGRADED, ENDPOINT_DRAINING, ENDPOINT_UNHEALTHY };

struct endpoint_config {
    struct addr addr;      /* ADDR_NONE where only a name is known (DNS) */
    struct slice hostname; /* endpoint.hostname, or the name to resolve */
    uint16_t port;         /* with a name to resolve */
    uint16_t locality;     /* index into the set's localities */
    uint8_t health;        /* enum endpoint_health */
    uint32_t weight;       /* >= 1 */
    struct slice identity; /* SPIFFE id that the client must see; empty: not said */
    struct slice uid;      /* pod uid that the certificate must carry; empty: not said */
    struct slice workload; /* istio's "name;namespace;canonical;revision;cluster"; may be empty */
    const struct label *labels; /* of envoy.transport_socket_match */
    uint16_t label_count;
};

struct locality {
    struct slice region;
    struct slice zone;
    struct slice sub_zone;
    uint32_t weight; /* 0: no load where localities are weighted */
    uint32_t priority;
};

struct drop_overload {
    struct slice category;
    struct fraction fraction;
};

/* A cluster's endpoints, as one EDS answer or load_assignment gave them. */
struct endpoint_set {
    struct slice cluster; /* cluster_name: the EDS resource's */
    const struct endpoint_config *endpoints;
    const struct locality *localities;
    const struct drop_overload *drops;
    uint32_t endpoint_count;
    uint16_t locality_count;
    uint16_t drop_count;
    uint32_t priority_count;   /* greatest priority + 1 */
    uint32_t overprovisioning; /* percent; 140 */
};

/* ---- listeners
 * ------------------------------------------------------------------------------------- */

enum listener_direction { LISTENER_UNSPECIFIED, LISTENER_INBOUND, LISTENER_OUTBOUND };

struct cidr {
    struct addr addr;
    uint8_t prefix_len;
};

enum source_type { SOURCE_ANY, SOURCE_LOCAL, SOURCE_EXTERNAL };

/* An empty list, 0 or the empty slice matches all that no other chain matches better. */
struct chain_match {
    uint16_t destination_port;
    uint8_t source_type;    /* enum source_type */
    struct slice transport; /* "tls", "raw_buffer" */
    const struct cidr *destinations;
    const struct cidr *sources;
    const struct cidr *direct_sources;
    const uint16_t *source_ports;
    const struct slice *alpn;
    const struct slice *server_names; /* lower case; "*.suffix" keeps its '*' */
    uint16_t destination_count;
    uint16_t source_count;
    uint16_t direct_source_count;
    uint16_t source_port_count;
    uint16_t alpn_count;
    uint16_t server_name_count;
};

struct access_format; /* observe/access_log */

enum access_log_kind { ACCESS_LOG_FILE, ACCESS_LOG_STDOUT, ACCESS_LOG_STDERR };

struct access_log_config {
    uint8_t kind;                         /* enum access_log_kind */
    struct slice path;                    /* FILE */
    struct slice format;                  /* Envoy's operators; empty: the default line */
    struct slice json;                    /* the JSON object's text instead; empty: text */
    const struct access_format *compiled; /* of the two; never null */
};

enum xfcc_mode { XFCC_SANITIZE, XFCC_FORWARD_ONLY, XFCC_APPEND, XFCC_SANITIZE_SET, XFCC_ALWAYS };

enum codec_choice { CODEC_CHOICE_AUTO, CODEC_CHOICE_HTTP1, CODEC_CHOICE_HTTP2 };

enum server_header { SERVER_HEADER_OVERWRITE, SERVER_HEADER_IF_ABSENT, SERVER_HEADER_PASS };

struct hcm_config {
    struct slice stat_prefix;
    struct slice server_name;
    const struct route_table *routes; /* inline; null: `rds` names it */
    struct slice rds;
    const struct upgrade_config *upgrades;
    const struct access_log_config *access_logs;
    uint64_t stream_idle_us;
    uint64_t request_headers_timeout_us;
    uint64_t idle_us; /* of a connection without a request */
    uint64_t max_connection_us;
    uint64_t max_stream_us;
    uint64_t drain_us;
    uint32_t max_head_bytes;
    uint32_t max_head_count;
    uint32_t max_requests_per_connection; /* 0: no limit */
    uint32_t max_streams;                 /* HTTP/2 */
    uint32_t xff_trusted_hops;
    uint32_t sampling_ppm; /* of traces; UINT32_MAX: the program's default */
    uint16_t upgrade_count;
    uint16_t access_log_count;
    uint8_t codec;         /* enum codec_choice */
    uint8_t xfcc;          /* enum xfcc_mode */
    uint8_t server_header; /* enum server_header */
    bool xfcc_subject, xfcc_cert, xfcc_chain, xfcc_dns, xfcc_uri;
    bool use_remote_address;
    bool generate_request_id;
    bool strip_port; /* the port in Host goes, where it is the listener's */
    bool strip_any_port;
    bool accept_http_10;
    bool allow_connect; /* HTTP/2: extended CONNECT */
    bool trailers;      /* HTTP/1: passed on */
    bool suppress_envoy_headers;
};

struct tcp_target {
    struct slice cluster;
    uint32_t weight;
};

struct tcp_config {
    struct slice stat_prefix;
    const struct tcp_target *targets; /* one, unless weighted */
    const struct access_log_config *access_logs;
    struct slice tunnel_host; /* tunneling_config.hostname; empty: as TCP */
    bool tunnel_post;
    uint16_t target_count;
    uint16_t access_log_count;
    uint32_t max_attempts; /* of connecting; 0: nothing said, the free retries as for requests */
    uint64_t idle_us;
    uint64_t max_connection_us;
    const struct origin *origin; /* null: none */
};

enum chain_kind {
    CHAIN_HTTP,
    CHAIN_TCP,
    CHAIN_QUARANTINED /* holds what we do not know: 503, or reset; never passed */
};

struct filter_chain {
    struct slice name;
    struct chain_match match;
    enum chain_kind kind;
    const struct hcm_config *http; /* HTTP */
    const struct tcp_config *tcp;  /* TCP */
    const struct tls_config *tls;  /* null: raw */
    struct slice quarantine;       /* why, for people */
    uint64_t tls_timeout_us;
    const struct origin *origin;
};

#define LISTENER_CHAINS_MAX 1024

struct listener_config {
    struct slice name;
    struct slice stat_prefix;
    struct addr addr;        /* ADDR_NONE: never bound (api_listener) */
    const struct addr *more; /* additional addresses */
    const struct filter_chain *chains;
    const struct filter_chain *fallback; /* default_filter_chain; null: close */
    const struct access_log_config *access_logs;
    uint32_t chain_count;
    uint16_t more_count;
    uint16_t access_log_count;
    enum listener_direction direction;
    bool bind;         /* false: reached only from another listener by original destination */
    bool original_dst; /* the original destination's listener takes over */
    bool inspect_tls;
    bool inspect_http;
    bool restore_original_dst; /* the listener filter original_dst */
    bool go_on_at_timeout;
    uint64_t inspect_timeout_us; /* 0: no limit */
    struct slice workload; /* inbound: whose it is, as endpoint_config.workload; empty: not said */
    const struct origin *origin;
};

/* ---- destinations and bootstrap
 * ------------------------------------------------------------------------ */

enum destination_outcome {
    DESTINATION_SERVICE = 1,
    DESTINATION_WORKLOAD,
    DESTINATION_PASSTHROUGH,
    DESTINATION_BLOCK,
    DESTINATION_EXTERNAL
};

enum destination_protocol {
    DESTINATION_AUTO,
    DESTINATION_TCP,
    DESTINATION_HTTP1,
    DESTINATION_HTTP2,
    DESTINATION_TLS,
    DESTINATION_SERVER_FIRST
};

struct destination_cover {
    struct cidr prefix;
    uint16_t port_lo;
    uint16_t port_hi; /* inclusive */
};

/* Where connections without HTTP go. */
struct tcp_route {
    const struct slice *sni_hosts; /* lower case; "*.suffix" keeps its '*', "*" is any name */
    uint16_t sni_host_count;       /* 0: bytes of any kind */
    struct tcp_config tcp;
};

/* The answer to "where does this connection go?"; the root of its snapshot. */
struct destination {
    struct snapshot *owner; /* frees all of it */
    struct slice key;       /* the resource's name */
    struct slice name;      /* canonical_name: key of metrics and policy */
    enum destination_outcome outcome;
    enum destination_protocol protocol;
    const struct destination_cover *covers;
    const struct route_table *routes; /* null: none inline */
    struct slice rds;                 /* route_config_name instead; empty: none */
    const struct cluster_config *clusters;
    const struct endpoint_set *first_endpoints;   /* until EDS answers */
    const struct tcp_route *tcp_routes;           /* before the default cluster */
    const struct cluster_config *default_cluster; /* opaque TCP; null: none */
    uint32_t cover_count;
    uint32_t cluster_count;
    uint32_t first_endpoint_count;
    uint16_t tcp_route_count;
    bool by_authority;
    uint64_t idle_us;     /* unsubscribe after so long without use */
    uint64_t negative_us; /* a missing name is remembered for so long */
};

struct named_secret {
    struct slice name;
    const struct tls_certificate *certificate; /* one of the two */
    const struct tls_validation *validation;
};

/* `--config FILE`, whole; the root of its snapshot. */
struct bootstrap {
    struct snapshot *owner;
    struct slice node_id;
    struct slice node_cluster;
    struct slice
        node_workload; /* metadata WORKLOAD_NAME, NAMESPACE, LABELS, as Istio writes them */
    struct slice node_namespace;
    const struct label *node_labels;
    const struct listener_config *listeners;
    const struct cluster_config *clusters;
    const struct named_secret *secrets;
    struct addr admin;          /* ADDR_NONE: not said */
    struct slice ads_cluster;   /* ads_config's envoy_grpc cluster; empty: static only */
    struct slice ads_authority; /* may be empty */
    uint32_t listener_count;
    uint32_t cluster_count;
    uint32_t secret_count;
    uint16_t node_label_count;
    bool ads_delta;
    bool lds_dynamic;
    bool cds_dynamic;
};
