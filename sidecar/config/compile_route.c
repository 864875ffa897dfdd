#include "sidecar/config/compile_route.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "sidecar/config/compile_headers.h"
#include "sidecar/config/compile_match.h"
#include "sidecar/config/compile_retry.h"

#define ROUTE(type)    Envoy__Config__Route__V3__##type
#define ROUTE_IS(name) ENVOY__CONFIG__ROUTE__V3__##name

#define TIMEOUT_ABSENT_US    (15 * SECOND_US)
#define DIRECT_BODY_MAX      4096
#define TABLE_CLUSTERS_MAX   65535
#define WEIGHTED_TARGETS_MAX 1024

/* The table in the making. */
struct routing {
    struct compiler *c;
    struct map clusters; /* name -> index + 1 */
    struct slice *cluster_names;
    uint32_t cluster_count;
    uint32_t cluster_room;
    uint32_t split_count;
    uint32_t body_max;
    const ROUTE(RouteConfiguration) * config;
    const struct header_ops *request_ops; /* of the table */
    const struct header_ops *response_ops;
};

static bool cluster_index(struct routing *r, const char *field, const char *name, uint16_t *index)
{
    struct compiler *c = r->c;
    if (!compile_required(c, field, name)) {
        return false;
    }
    struct slice key = compile_name(c, name);
    void *known = map_get(&r->clusters, key);
    if (known == NULL) {
        if (r->cluster_count == TABLE_CLUSTERS_MAX) {
            return compile_refuse(c, field, "the table names more than %d clusters",
                                  TABLE_CLUSTERS_MAX);
        }
        if (r->cluster_count == r->cluster_room) {
            r->cluster_room = r->cluster_room > 0 ? r->cluster_room * 2 : 8;
            r->cluster_names = mem_resize(r->cluster_names, sizeof(struct slice) * r->cluster_room);
        }
        r->cluster_names[r->cluster_count++] = key;
        known = (void *)(uintptr_t)r->cluster_count;
        (void)map_set(&r->clusters, key, known);
    }
    *index = (uint16_t)((uintptr_t)known - 1);
    return true;
}

/* ---- matches ---- */

static bool match_path(struct compiler *c, const char *field, enum path_match_kind kind,
                       const char *text, struct route_match *out)
{
    out->path_kind = (uint8_t)kind;
    out->path = compile_name(c, text);
    if (kind != PATH_MATCH_SEPARATED_PREFIX) {
        return true;
    }
    /* Envoy's pattern: ^[^?#]+[^?#/]$ */
    size_t len = strlen(text);
    return (len > 1 && strcspn(text, "?#") == len && text[len - 1] != '/') ||
           compile_refuse(c, field,
                          "must be longer than 1, without '?' and '#', and not end "
                          "with '/'");
}

static bool match_specifier(struct compiler *c, const ROUTE(RouteMatch) * match,
                            struct route_match *out)
{
    switch (match->path_specifier_case) {
    case ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PREFIX):
        return match_path(c, "prefix", PATH_MATCH_PREFIX, match->prefix, out);
    case ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PATH):
        return match_path(c, "path", PATH_MATCH_EXACT, match->path, out);
    case ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PATH_SEPARATED_PREFIX):
        return match_path(c, "path_separated_prefix", PATH_MATCH_SEPARATED_PREFIX,
                          match->path_separated_prefix, out);
    case ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX):
        out->path_kind = PATH_MATCH_REGEX;
        out->path = compile_text(c, match->safe_regex->regex);
        return compile_regex(c, "safe_regex", match->safe_regex, &out->path_regex);
    case ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_CONNECT_MATCHER):
        out->path_kind = PATH_MATCH_CONNECT;
        return true;
    case ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PATH_MATCH_POLICY):
        return compile_unknown(c, "path_match_policy", "path_match_policy");
    default:
        return compile_refuse(c, NULL,
                              "one of prefix, path, safe_regex, connect_matcher, "
                              "path_separated_prefix is required");
    }
}

static bool match_of(struct compiler *c, const ROUTE(RouteMatch) * match, struct route_match *out)
{
    out->ignore_case = !compile_bool(match->case_sensitive, true);
    out->grpc_only = match->grpc != NULL;
    if (match->n_dynamic_metadata > 0) {
        return compile_refuse(c, "dynamic_metadata", "is not supported");
    }
    return match_specifier(c, match, out) &&
           compile_header_matches(c, "headers", match->headers, match->n_headers, false,
                                  &out->headers, &out->header_count) &&
           compile_query_matches(c, match->query_parameters, match->n_query_parameters,
                                 &out->queries, &out->query_count) &&
           compile_runtime_fraction(c, "runtime_fraction", match->runtime_fraction, &out->fraction);
}

/* ---- per-route filters ---- */

/* Configuration of filters that this program does not have is never skipped in silence, unless the
 * control plane marks it so. */
static bool per_filter(struct compiler *c, const char *key, const Google__Protobuf__Any *any)
{
    const struct xds_type *type;
    void *message;
    if (any == NULL || any->type_url[0] == '\0') {
        return compile_refuse(c, NULL, "is empty");
    }
    if (strcmp(any->type_url, "type.googleapis.com/envoy.config.route.v3.FilterConfig") == 0) {
        if (!compile_any(c, NULL, any, XDS_ROUTE_FILTER, &type, &message)) {
            return false;
        }
        const ROUTE(FilterConfig) *wrapper = message;
        return wrapper->is_optional || wrapper->disabled || per_filter(c, key, wrapper->config);
    }
    type = xds_type_find(any->type_url);
    return (type != NULL && type->verdict == XDS_IGNORE) || compile_unknown(c, NULL, any->type_url);
}

#define PER_FILTERS(c, holder)                                                                     \
    per_filters((c), (const void *const *)(holder)->typed_per_filter_config,                       \
                (holder)->n_typed_per_filter_config)

/* Every ...TypedPerFilterConfigEntry has the same two fields behind the same base. */
static bool per_filters(struct compiler *c, const void *const *entries, size_t count)
{
    static_assert(sizeof(ROUTE(Route__TypedPerFilterConfigEntry)) ==
                      sizeof(ROUTE(VirtualHost__TypedPerFilterConfigEntry)),
                  "map entries of one type are laid out alike");
    for (size_t i = 0; i < count; i++) {
        const ROUTE(Route__TypedPerFilterConfigEntry) *entry = entries[i];
        if (!COMPILE_IN(c, per_filter(c, entry->key, entry->value),
                        "typed_per_filter_config[\"%.80s\"]", entry->key)) {
            return false;
        }
    }
    return true;
}

/* ---- forwarding ---- */

static bool target_of(struct routing *r, const ROUTE(WeightedCluster__ClusterWeight) * weight,
                      struct route_target *out)
{
    struct compiler *c = r->c;
    const struct compile_header_lists request = {
        weight->request_headers_to_add, weight->request_headers_to_remove,
        weight->n_request_headers_to_add, weight->n_request_headers_to_remove};
    const struct compile_header_lists response = {
        weight->response_headers_to_add, weight->response_headers_to_remove,
        weight->n_response_headers_to_add, weight->n_response_headers_to_remove};
    if (weight->weight == NULL) {
        return compile_refuse(c, "weight", "is required");
    }
    out->weight = weight->weight->value;
    out->origin = compile_origin(c, weight->metadata_match);
    if (weight->host_rewrite_specifier_case ==
        ROUTE_IS(WEIGHTED_CLUSTER__CLUSTER_WEIGHT__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL)) {
        out->host_rewrite = compile_name(c, weight->host_rewrite_literal);
    }
    return cluster_index(r, "name", weight->name, &out->cluster) && PER_FILTERS(c, weight) &&
           compile_header_ops(c, "request", &request, &out->request_ops) &&
           compile_header_ops(c, "response", &response, &out->response_ops);
}

static bool weighted_targets(struct routing *r, const ROUTE(WeightedCluster) * weighted,
                             struct route_forward *out)
{
    struct compiler *c = r->c;
    if (weighted->n_clusters == 0 || weighted->n_clusters > WEIGHTED_TARGETS_MAX) {
        return compile_refuse(c, "clusters", "must have 1 to %d items", WEIGHTED_TARGETS_MAX);
    }
    if (weighted->random_value_specifier_case !=
        ROUTE_IS(WEIGHTED_CLUSTER__RANDOM_VALUE_SPECIFIER__NOT_SET)) {
        return compile_refuse(c, "header_name", "is not supported");
    }
    struct route_target *targets = COMPILE_ARRAY(c, struct route_target, weighted->n_clusters);
    uint64_t sum = 0;
    for (size_t i = 0; i < weighted->n_clusters; i++) {
        if (!COMPILE_IN(c, target_of(r, weighted->clusters[i], &targets[i]), "clusters[%zu]", i)) {
            return false;
        }
        sum += targets[i].weight;
    }
    if (sum == 0 || sum > UINT32_MAX) {
        return compile_refuse(c, "clusters", "the weights' sum is %llu; allowed is 1 to 4294967295",
                              (unsigned long long)sum);
    }
    out->targets = targets;
    out->target_count = (uint16_t)weighted->n_clusters;
    out->split = r->split_count++;
    return true;
}

static bool single_target(struct routing *r, const char *cluster, struct route_forward *out)
{
    struct route_target *target = ARENA_NEW(r->c->arena, struct route_target);
    target->weight = 1;
    out->targets = target;
    out->target_count = 1;
    return cluster_index(r, "cluster", cluster, &target->cluster);
}

static bool forward_targets(struct routing *r, const ROUTE(RouteAction) * action,
                            struct route_forward *out)
{
    struct compiler *c = r->c;
    out->split = ROUTE_NO_SPLIT;
    switch (action->cluster_specifier_case) {
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER):
        return single_target(r, action->cluster, out);
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS):
        return COMPILE_IN(c, weighted_targets(r, action->weighted_clusters, out),
                          "weighted_clusters");
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER_HEADER):
        out->cluster_header = compile_lower(c, action->cluster_header);
        return slice_eq(out->cluster_header, SLICE(":authority")) ||
               compile_header_name(c, "cluster_header", action->cluster_header);
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER_SPECIFIER_PLUGIN):
        return compile_unknown(c, "cluster_specifier_plugin", action->cluster_specifier_plugin);
    default:
        return compile_refuse(c, NULL,
                              "one of cluster, cluster_header, weighted_clusters is required");
    }
}

static bool hash_policy_of(struct compiler *c, const ROUTE(RouteAction__HashPolicy) * policy,
                           struct hash_policy *out)
{
    out->terminal = policy->terminal;
    switch (policy->policy_specifier_case) {
    case ROUTE_IS(ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_HEADER):
        if (policy->header->regex_rewrite != NULL) {
            return compile_refuse(c, "header.regex_rewrite", "is not supported");
        }
        out->kind = HASH_HEADER;
        out->name = compile_lower(c, policy->header->header_name);
        return compile_header_name(c, "header.header_name", policy->header->header_name);
    case ROUTE_IS(ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_COOKIE):
        out->kind = HASH_COOKIE;
        out->name = compile_text(c, policy->cookie->name);
        out->cookie_path = compile_text(c, policy->cookie->path);
        out->cookie_make = policy->cookie->ttl != NULL;
        return compile_required(c, "cookie.name", policy->cookie->name) &&
               compile_duration(c, "cookie.ttl", policy->cookie->ttl, 0, &out->cookie_ttl_us);
    case ROUTE_IS(ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES):
        out->kind = policy->connection_properties->source_ip ? HASH_SOURCE_IP : HASH_FILTER_STATE;
        return true;
    case ROUTE_IS(ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_QUERY_PARAMETER):
        out->kind = HASH_QUERY;
        out->name = compile_text(c, policy->query_parameter->name);
        return compile_required(c, "query_parameter.name", policy->query_parameter->name);
    case ROUTE_IS(ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_FILTER_STATE):
        out->kind = HASH_FILTER_STATE;
        return true;
    default:
        return compile_refuse(c, NULL,
                              "one of header, cookie, connection_properties, "
                              "query_parameter, filter_state is required");
    }
}

static bool forward_hashes(struct compiler *c, const ROUTE(RouteAction) * action,
                           struct route_forward *out)
{
    struct hash_policy *list = COMPILE_ARRAY(c, struct hash_policy, action->n_hash_policy);
    for (size_t i = 0; i < action->n_hash_policy; i++) {
        if (!COMPILE_IN(c, hash_policy_of(c, action->hash_policy[i], &list[i]), "hash_policy[%zu]",
                        i)) {
            return false;
        }
    }
    out->hashes = list;
    return compile_count(c, "hash_policy", action->n_hash_policy, &out->hash_count);
}

static bool forward_upgrades(struct compiler *c, const ROUTE(RouteAction) * action,
                             struct route_forward *out)
{
    struct upgrade_config *list =
        COMPILE_ARRAY(c, struct upgrade_config, action->n_upgrade_configs);
    for (size_t i = 0; i < action->n_upgrade_configs; i++) {
        const ROUTE(RouteAction__UpgradeConfig) *upgrade = action->upgrade_configs[i];
        if (!COMPILE_IN(c, compile_required(c, "upgrade_type", upgrade->upgrade_type),
                        "upgrade_configs[%zu]", i)) {
            return false;
        }
        list[i].type = compile_name(c, upgrade->upgrade_type);
        list[i].enabled = compile_bool(upgrade->enabled, true);
        list[i].terminate = upgrade->connect_config != NULL;
        if (list[i].terminate && !slice_eq_nocase(list[i].type, SLICE("CONNECT"))) {
            return compile_refuse(c, "upgrade_configs", "connect_config is for CONNECT only");
        }
    }
    out->upgrades = list;
    return compile_count(c, "upgrade_configs", action->n_upgrade_configs, &out->upgrade_count);
}

/* The route's own mirrors, else the table's: a copy that nobody sends is refused, not forgotten. */
static bool refuse_mirrors(struct routing *r, const ROUTE(RouteAction) * action)
{
    return action->n_request_mirror_policies + r->config->n_request_mirror_policies == 0 ||
           compile_refuse(r->c, "request_mirror_policies", "is not supported");
}

static bool forward_rewrites(struct compiler *c, const ROUTE(RouteAction) * action,
                             struct route_forward *out)
{
    out->prefix_rewrite = compile_name(c, action->prefix_rewrite);
    if (out->prefix_rewrite.len > 0 && action->regex_rewrite != NULL) {
        return compile_refuse(c, "regex_rewrite", "and prefix_rewrite may not both be set");
    }
    switch (action->host_rewrite_specifier_case) {
    case ROUTE_IS(ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL):
        out->host_rewrite_kind = HOST_REWRITE_LITERAL;
        out->host_rewrite = compile_name(c, action->host_rewrite_literal);
        break;
    case ROUTE_IS(ROUTE_ACTION__HOST_REWRITE_SPECIFIER_AUTO_HOST_REWRITE):
        out->host_rewrite_kind =
            compile_bool(action->auto_host_rewrite, false) ? HOST_REWRITE_AUTO : HOST_REWRITE_NONE;
        break;
    case ROUTE_IS(ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER):
        out->host_rewrite_kind = HOST_REWRITE_HEADER;
        out->host_rewrite = compile_lower(c, action->host_rewrite_header);
        if (!compile_header_name(c, "host_rewrite_header", action->host_rewrite_header)) {
            return false;
        }
        break;
    default:
        break;
    }
    return compile_regex_rewrite(c, "regex_rewrite", action->regex_rewrite, &out->path_rewrite);
}

/* A length of 0 in Envoy's gRPC limits means: as the caller says. */
static bool grpc_limit(struct compiler *c, const char *field,
                       const Google__Protobuf__Duration *duration, struct route_forward *out)
{
    if (duration == NULL) {
        return true;
    }
    out->honour_grpc_timeout = true;
    if (!compile_duration(c, field, duration, 0, &out->grpc_timeout_max_us)) {
        return false;
    }
    if (out->grpc_timeout_max_us == 0) {
        out->grpc_timeout_max_us = UINT64_MAX;
    }
    return true;
}

static bool forward_times(struct compiler *c, const ROUTE(RouteAction) * action,
                          struct route_forward *out)
{
    const ROUTE(RouteAction__MaxStreamDuration) *max = action->max_stream_duration;
    out->grpc_timeout_max_us = UINT64_MAX;
    out->has_idle = action->idle_timeout != NULL;
    out->grpc_timeout_replaces = action->max_grpc_timeout != NULL;
    out->has_max_duration = max != NULL && max->max_stream_duration != NULL;
    return compile_duration(c, "timeout", action->timeout, TIMEOUT_ABSENT_US, &out->timeout_us) &&
           compile_duration(c, "idle_timeout", action->idle_timeout, 0, &out->idle_us) &&
           grpc_limit(c, "max_grpc_timeout", action->max_grpc_timeout, out) &&
           compile_duration(c, "max_stream_duration.max_stream_duration",
                            max != NULL ? max->max_stream_duration : NULL, 0,
                            &out->max_duration_us) &&
           grpc_limit(c, "max_stream_duration.grpc_timeout_header_max",
                      max != NULL ? max->grpc_timeout_header_max : NULL, out);
}

static bool forward_missing(struct compiler *c, const ROUTE(RouteAction) * action,
                            struct route_forward *out)
{
    switch (action->cluster_not_found_response_code) {
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_NOT_FOUND_RESPONSE_CODE__SERVICE_UNAVAILABLE):
        out->cluster_missing_status = 503;
        return true;
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_NOT_FOUND_RESPONSE_CODE__NOT_FOUND):
        out->cluster_missing_status = 404;
        return true;
    case ROUTE_IS(ROUTE_ACTION__CLUSTER_NOT_FOUND_RESPONSE_CODE__INTERNAL_SERVER_ERROR):
        out->cluster_missing_status = 500;
        return true;
    default:
        return compile_refuse(c, "cluster_not_found_response_code", "has no value %d",
                              (int)action->cluster_not_found_response_code);
    }
}

static bool forward_of(struct routing *r, const ROUTE(VirtualHost) * host,
                       const ROUTE(RouteAction) * action, struct route_forward *out)
{
    struct compiler *c = r->c;
    const ROUTE(RetryPolicy) *retry =
        action->retry_policy != NULL ? action->retry_policy : host->retry_policy;
    out->append_forwarded_host = action->append_x_forwarded_host;
    out->high_priority = action->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH;
    return forward_targets(r, action, out) && forward_rewrites(c, action, out) &&
           forward_times(c, action, out) && forward_missing(c, action, out) &&
           forward_hashes(c, action, out) && forward_upgrades(c, action, out) &&
           refuse_mirrors(r, action) &&
           (retry == NULL || COMPILE_IN(c, compile_retry(c, retry, &out->retry), "retry_policy"));
}

/* ---- other actions ---- */

static bool redirect_status(struct compiler *c, const ROUTE(RedirectAction) * action,
                            uint16_t *status)
{
    static const uint16_t statuses[] = {301, 302, 303, 307, 308};
    unsigned code = (unsigned)action->response_code;
    if (code >= COUNT_OF(statuses)) {
        return compile_refuse(c, "response_code", "has no value %u", code);
    }
    *status = statuses[code];
    return true;
}

static bool redirect_of(struct compiler *c, const ROUTE(RedirectAction) * action,
                        struct route_redirect *out)
{
    out->host = compile_text(c, action->host_redirect);
    out->strip_query = action->strip_query;
    if (action->port_redirect > UINT16_MAX) {
        return compile_refuse(c, "port_redirect", "is %u; at most 65535 is allowed",
                              action->port_redirect);
    }
    out->port = (uint16_t)action->port_redirect;
    if (action->scheme_rewrite_specifier_case ==
        ROUTE_IS(REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT)) {
        out->scheme = compile_lower(c, action->scheme_redirect);
    } else if (action->scheme_rewrite_specifier_case ==
                   ROUTE_IS(REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_HTTPS_REDIRECT) &&
               action->https_redirect) {
        out->scheme = SLICE("https");
    }
    switch (action->path_rewrite_specifier_case) {
    case ROUTE_IS(REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PATH_REDIRECT):
        out->path = compile_text(c, action->path_redirect);
        break;
    case ROUTE_IS(REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PREFIX_REWRITE):
        out->prefix = compile_text(c, action->prefix_rewrite);
        out->has_prefix = true;
        break;
    case ROUTE_IS(REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_REGEX_REWRITE):
        if (!compile_regex_rewrite(c, "regex_rewrite", action->regex_rewrite, &out->path_rewrite)) {
            return false;
        }
        break;
    default:
        break;
    }
    return redirect_status(c, action, &out->status);
}

static bool direct_of(struct routing *r, const ROUTE(DirectResponseAction) * action,
                      struct route_direct *out)
{
    struct compiler *c = r->c;
    if (action->status < 200 || action->status > 599) {
        return compile_refuse(c, "status", "is %u; allowed is 200 to 599", action->status);
    }
    out->status = (uint16_t)action->status;
    if (!compile_data(c, "body", action->body, &out->body)) {
        return false;
    }
    return out->body.len <= r->body_max ||
           compile_refuse(c, "body", "has %zu bytes; at most %u are allowed", out->body.len,
                          r->body_max);
}

static bool action_of(struct routing *r, const ROUTE(VirtualHost) * host,
                      const ROUTE(Route) * route, struct route *out)
{
    struct compiler *c = r->c;
    switch (route->action_case) {
    case ROUTE_IS(ROUTE__ACTION_ROUTE):
        out->kind = ROUTE_FORWARD;
        return COMPILE_IN(c, forward_of(r, host, route->route, &out->forward), "route");
    case ROUTE_IS(ROUTE__ACTION_REDIRECT):
        out->kind = ROUTE_REDIRECT;
        return COMPILE_IN(c, redirect_of(c, route->redirect, &out->redirect), "redirect");
    case ROUTE_IS(ROUTE__ACTION_DIRECT_RESPONSE):
        out->kind = ROUTE_DIRECT;
        return COMPILE_IN(c, direct_of(r, route->direct_response, &out->direct), "direct_response");
    case ROUTE_IS(ROUTE__ACTION_NON_FORWARDING_ACTION):
        out->kind = ROUTE_NOT_FORWARDING;
        return true;
    default:
        return compile_refuse(c, NULL,
                              "one of route, redirect, direct_response, "
                              "non_forwarding_action is required");
    }
}

/* ---- routes and virtual hosts ---- */

static void add_level(struct header_levels *levels, const struct header_ops *ops)
{
    for (unsigned i = 0; ops != NULL && i < HEADER_LEVELS_MAX; i++) {
        if (levels->level[i] == NULL) {
            levels->level[i] = ops;
            return;
        }
    }
}

/* A virtual host in the making, and what its routes inherit. */
struct host_scope {
    const ROUTE(VirtualHost) * config;
    const struct header_ops *request_ops;
    const struct header_ops *response_ops;
};

/* Route, virtual host, table: so the table overwrites (measured against Envoy). */
static bool route_levels(struct routing *r, const struct host_scope *scope,
                         const ROUTE(Route) * route, struct route *out)
{
    struct compiler *c = r->c;
    const struct compile_header_lists request = {
        route->request_headers_to_add, route->request_headers_to_remove,
        route->n_request_headers_to_add, route->n_request_headers_to_remove};
    const struct compile_header_lists response = {
        route->response_headers_to_add, route->response_headers_to_remove,
        route->n_response_headers_to_add, route->n_response_headers_to_remove};
    const struct header_ops *ops;
    if (!compile_header_ops(c, "request", &request, &ops)) {
        return false;
    }
    add_level(&out->request_levels, ops);
    add_level(&out->request_levels, scope->request_ops);
    add_level(&out->request_levels, r->request_ops);
    if (!compile_header_ops(c, "response", &response, &ops)) {
        return false;
    }
    add_level(&out->response_levels, ops);
    add_level(&out->response_levels, scope->response_ops);
    add_level(&out->response_levels, r->response_ops);
    return true;
}

static bool route_of(struct routing *r, const struct host_scope *scope, const ROUTE(Route) * route,
                     struct route *out)
{
    struct compiler *c = r->c;
    if (route->match == NULL) {
        return compile_refuse(c, "match", "is required");
    }
    out->name = compile_name(c, route->name);
    out->origin = compile_origin(c, route->metadata);
    out->attempt_count_in_request = scope->config->include_request_attempt_count;
    out->attempt_count_in_response = scope->config->include_attempt_count_in_response;
    if (route->decorator != NULL) {
        out->operation = compile_text(c, route->decorator->operation);
        if (!compile_required(c, "decorator.operation", route->decorator->operation)) {
            return false;
        }
    }
    return COMPILE_IN(c, match_of(c, route->match, &out->match), "match") &&
           action_of(r, scope->config, route, out) && PER_FILTERS(c, route) &&
           route_levels(r, scope, route, out);
}

static bool host_routes(struct routing *r, const struct host_scope *scope, struct virtual_host *out)
{
    struct compiler *c = r->c;
    const ROUTE(VirtualHost) *host = scope->config;
    struct route *routes = COMPILE_ARRAY(c, struct route, host->n_routes);
    for (size_t i = 0; i < host->n_routes; i++) {
        if (!COMPILE_IN(c, route_of(r, scope, host->routes[i], &routes[i]), "routes[%zu]", i)) {
            return false;
        }
    }
    out->routes = routes;
    out->route_count = (uint32_t)host->n_routes;
    return true;
}

static bool host_of(struct routing *r, const ROUTE(VirtualHost) * host, struct virtual_host *out)
{
    struct compiler *c = r->c;
    if (!compile_required(c, "name", host->name)) {
        return false;
    }
    if (host->n_domains == 0) {
        return compile_refuse(c, "domains", "must not be empty");
    }
    out->name = compile_name(c, host->name);
    if (host->require_tls != ROUTE_IS(VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__NONE)) {
        return compile_refuse(c, "require_tls", "only NONE is supported");
    }
    struct host_scope scope = {.config = host};
    const struct compile_header_lists request = {
        host->request_headers_to_add, host->request_headers_to_remove,
        host->n_request_headers_to_add, host->n_request_headers_to_remove};
    const struct compile_header_lists response = {
        host->response_headers_to_add, host->response_headers_to_remove,
        host->n_response_headers_to_add, host->n_response_headers_to_remove};
    return PER_FILTERS(c, host) && compile_header_ops(c, "request", &request, &scope.request_ops) &&
           compile_header_ops(c, "response", &response, &scope.response_ops) &&
           host_routes(r, &scope, out);
}

/* ---- domains ---- */

struct domain_lists {
    struct domain *exact;
    struct domain *suffixes;
    struct domain *prefixes;
};

static int by_text(const void *a, const void *b)
{
    const struct domain *left = a;
    const struct domain *right = b;
    return slice_compare(left->text, right->text);
}

static int longest_first(const void *a, const void *b)
{
    const struct domain *left = a;
    const struct domain *right = b;
    if (left->text.len != right->text.len) {
        return left->text.len > right->text.len ? -1 : 1;
    }
    return slice_compare(left->text, right->text);
}

static bool add_domain(struct compiler *c, const char *text, uint32_t host,
                       struct domain_lists *lists, struct route_table *table)
{
    struct slice domain = compile_lower(c, text);
    if (domain.len == 0) {
        return compile_refuse(c, NULL, "must not be empty");
    }
    if (slice_eq(domain, SLICE("*"))) {
        if (table->any >= 0) {
            return compile_refuse(c, NULL, "only a single wildcard domain is permitted");
        }
        table->any = host;
    } else if (domain.at[0] == '*') {
        lists->suffixes[table->suffix_count++] = (struct domain){slice_from(domain, 1), host};
    } else if (domain.at[domain.len - 1] == '*') {
        lists->prefixes[table->prefix_count++] =
            (struct domain){slice_head(domain, domain.len - 1), host};
    } else {
        lists->exact[table->exact_count++] = (struct domain){domain, host};
    }
    return true;
}

static bool sort_domains(struct compiler *c, struct domain *list, uint32_t count,
                         int (*compare)(const void *, const void *))
{
    if (count > 1) {
        CHECK(list != NULL);
        qsort(list, count, sizeof(*list), compare);
    }
    for (uint32_t i = 1; i < count; i++) {
        if (slice_eq(list[i - 1].text, list[i].text)) {
            return compile_refuse(c, "virtual_hosts", "domain '%.*s' comes twice",
                                  SLICE_ARG(list[i].text));
        }
    }
    return true;
}

static bool table_domains(struct routing *r, struct route_table *table)
{
    struct compiler *c = r->c;
    size_t count = 0;
    for (size_t i = 0; i < r->config->n_virtual_hosts; i++) {
        count += r->config->virtual_hosts[i]->n_domains;
    }
    struct domain_lists lists = {COMPILE_ARRAY(c, struct domain, count),
                                 COMPILE_ARRAY(c, struct domain, count),
                                 COMPILE_ARRAY(c, struct domain, count)};
    table->any = -1;
    for (size_t h = 0; h < r->config->n_virtual_hosts; h++) {
        const ROUTE(VirtualHost) *host = r->config->virtual_hosts[h];
        for (size_t i = 0; i < host->n_domains; i++) {
            if (!COMPILE_IN(c, add_domain(c, host->domains[i], (uint32_t)h, &lists, table),
                            "virtual_hosts[%zu].domains[%zu]", h, i)) {
                return false;
            }
        }
    }
    table->exact = lists.exact;
    table->suffixes = lists.suffixes;
    table->prefixes = lists.prefixes;
    return sort_domains(c, lists.exact, table->exact_count, by_text) &&
           sort_domains(c, lists.suffixes, table->suffix_count, longest_first) &&
           sort_domains(c, lists.prefixes, table->prefix_count, longest_first);
}

/* ---- the table ---- */

static bool table_hosts(struct routing *r, struct route_table *table)
{
    struct compiler *c = r->c;
    size_t count = r->config->n_virtual_hosts;
    struct virtual_host *hosts = COMPILE_ARRAY(c, struct virtual_host, count);
    for (size_t i = 0; i < count; i++) {
        if (!COMPILE_IN(c, host_of(r, r->config->virtual_hosts[i], &hosts[i]), "virtual_hosts[%zu]",
                        i)) {
            return false;
        }
    }
    table->hosts = hosts;
    table->host_count = (uint32_t)count;
    return true;
}

static bool table_of(struct routing *r, struct route_table *table)
{
    struct compiler *c = r->c;
    const ROUTE(RouteConfiguration) *config = r->config;
    const struct compile_header_lists request = {
        config->request_headers_to_add, config->request_headers_to_remove,
        config->n_request_headers_to_add, config->n_request_headers_to_remove};
    const struct compile_header_lists response = {
        config->response_headers_to_add, config->response_headers_to_remove,
        config->n_response_headers_to_add, config->n_response_headers_to_remove};
    if (config->vhds != NULL) {
        return compile_refuse(c, "vhds", "is not supported");
    }
    if (config->n_cluster_specifier_plugins > 0) {
        return compile_unknown(c, "cluster_specifier_plugins", "cluster_specifier_plugins");
    }
    table->name = compile_name(c, config->name);
    table->ignore_port = config->ignore_port_in_host_matching;
    return compile_u32(c, "max_direct_response_body_size_bytes",
                       config->max_direct_response_body_size_bytes, DIRECT_BODY_MAX, 0,
                       16 * 1024 * 1024, &r->body_max) &&
           PER_FILTERS(c, config) && compile_header_ops(c, "request", &request, &r->request_ops) &&
           compile_header_ops(c, "response", &response, &r->response_ops) &&
           table_hosts(r, table) && table_domains(r, table);
}

bool compile_routes(struct compiler *c, const ROUTE(RouteConfiguration) * config,
                    const struct route_table **out)
{
    struct routing r = {.c = c, .config = config};
    map_init(&r.clusters, 0, MAP_KEYS_BORROWED);
    struct route_table *table = ARENA_NEW(c->arena, struct route_table);
    bool good = table_of(&r, table);
    struct slice *names = COMPILE_ARRAY(c, struct slice, r.cluster_count);
    if (names != NULL) {
        memcpy(names, r.cluster_names, sizeof(*names) * r.cluster_count);
    }
    table->clusters = names;
    table->cluster_count = r.cluster_count;
    table->split_count = r.split_count;
    mem_free(r.cluster_names);
    map_fini(&r.clusters);
    *out = table;
    return good;
}
