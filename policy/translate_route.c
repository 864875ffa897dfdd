/* Routes of one place for one caller. What depends on the caller or the port (sourceLabels, port)
 * is decided here; the rest becomes matchers. Matchers take the forms that gRPC's C-core 1.51 reads
 * (exact_match, prefix_match, safe_regex_match: xds.md 3.2), which every other client reads too. */
#include <stdlib.h>
#include <string.h>

#include "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.pb-c.h"

#include "policy/translate_private.h"

/* Where nothing is set (behaviour.md, "Defaults"). */
#define RETRY_DEFAULT         2
#define RETRY_ON_DEFAULT      "connect-failure,refused-stream,reset-before-request,idempotent-reset"
#define RETRY_ON_DEFAULT_WIRE "connect-failure,refused-stream,reset-before-request"
#define RETRY_BASE_US         25000
#define RETRY_MAX_US          250000
#define RETRY_HOST_ATTEMPTS   5

/* PreviousPrioritiesConfig{update_frequency: 2}, as Istio sends it for retryRemoteLocalities. */
#define PREVIOUS_PRIORITIES_URL                                                                    \
    "type.googleapis.com/"                                                                         \
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
#define PREVIOUS_PRIORITIES_BYTES "\x08\x02"

/* The table that is being made. */
struct routing {
    struct translation *t;
    const struct place *place;
    enum translate_form form;
    struct route_clusters *clusters;
    const struct object *object; /* the VirtualService */
};

/* ---- matchers ---- */

static Envoy__Type__Matcher__V3__RegexMatcher *regex_of(struct arena *arena, const char *regex)
{
    Envoy__Type__Matcher__V3__RegexMatcher *matcher =
        MESSAGE(arena, envoy__type__matcher__v3__regex_matcher);
    matcher->regex = pb_text(arena, regex);
    return matcher;
}

static ROUTE(HeaderMatcher) * header_matcher(struct arena *arena, const char *name,
                                             const struct string_match *match, bool inverted)
{
    ROUTE(HeaderMatcher) *header = MESSAGE(arena, envoy__config__route__v3__header_matcher);
    header->name = pb_text(arena, name);
    header->invert_match = inverted;
    switch (match->kind) {
    case STRING_MATCH_PRESENT:
        header->header_match_specifier_case =
            ROUTE_IS(HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PRESENT_MATCH);
        header->present_match = true;
        return header;
    case STRING_MATCH_EXACT:
        header->header_match_specifier_case =
            ROUTE_IS(HEADER_MATCHER__HEADER_MATCH_SPECIFIER_EXACT_MATCH);
        header->exact_match = pb_text(arena, match->value);
        break;
    case STRING_MATCH_PREFIX:
        header->header_match_specifier_case =
            ROUTE_IS(HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PREFIX_MATCH);
        header->prefix_match = pb_text(arena, match->value);
        break;
    case STRING_MATCH_REGEX:
        header->header_match_specifier_case =
            ROUTE_IS(HEADER_MATCHER__HEADER_MATCH_SPECIFIER_SAFE_REGEX_MATCH);
        header->safe_regex_match = regex_of(arena, match->value);
        break;
    }
    /* A request without the header is not one that withoutHeaders excludes. */
    header->treat_missing_header_as_empty = inverted;
    return header;
}

static void header_add(struct arena *arena, ROUTE(RouteMatch) * match, const char *name,
                       const struct string_match *value, bool inverted)
{
    if (value->line > 0) {
        ROUTE(HeaderMatcher) *header = header_matcher(arena, name, value, inverted);
        ARRAY_PUSH(arena, match->headers, match->n_headers, header);
    }
}

static void query_add(struct arena *arena, ROUTE(RouteMatch) * match,
                      const struct named_match *named)
{
    ROUTE(QueryParameterMatcher) *query =
        MESSAGE(arena, envoy__config__route__v3__query_parameter_matcher);
    query->name = pb_text(arena, named->name);
    ARRAY_PUSH(arena, match->query_parameters, match->n_query_parameters, query);
    if (named->match.kind == STRING_MATCH_PRESENT) {
        query->query_parameter_match_specifier_case =
            ROUTE_IS(QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH);
        query->present_match = true;
        return;
    }
    Envoy__Type__Matcher__V3__StringMatcher *text =
        MESSAGE(arena, envoy__type__matcher__v3__string_matcher);
    if (named->match.kind == STRING_MATCH_REGEX) {
        text->match_pattern_case =
            ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX;
        text->safe_regex = regex_of(arena, named->match.value);
    } else if (named->match.kind == STRING_MATCH_PREFIX) {
        text->match_pattern_case = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX;
        text->prefix = pb_text(arena, named->match.value);
    } else {
        text->match_pattern_case = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT;
        text->exact = pb_text(arena, named->match.value);
    }
    query->query_parameter_match_specifier_case =
        ROUTE_IS(QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH);
    query->string_match = text;
}

static void path_set(struct arena *arena, ROUTE(RouteMatch) * match, const struct string_match *uri)
{
    match->path_specifier_case = ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PREFIX);
    match->prefix = pb_text(arena, "/");
    if (uri == NULL || uri->line == 0) {
        return;
    }
    switch (uri->kind) {
    case STRING_MATCH_PRESENT:
        return;
    case STRING_MATCH_PREFIX:
        match->prefix = pb_text(arena, uri->value);
        return;
    case STRING_MATCH_EXACT:
        match->path_specifier_case = ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PATH);
        match->path = pb_text(arena, uri->value);
        return;
    case STRING_MATCH_REGEX:
        match->path_specifier_case = ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX);
        match->safe_regex = regex_of(arena, uri->value);
        return;
    }
}

/* Headers of withoutHeaders that are told apart by presence for gRPC; see host_route. */
#define ABSENT_MAX 4

/* spec may be null: everything matches. Bit n of `absent`: the header n of withoutHeaders has to be
 * missing, else it must not have the value, and may be missing only where the client knows
 * treat_missing_header_as_empty. */
static ROUTE(RouteMatch) *
    match_of(struct arena *arena, const struct http_match *spec, unsigned absent)
{
    ROUTE(RouteMatch) *match = MESSAGE(arena, envoy__config__route__v3__route_match);
    path_set(arena, match, spec != NULL ? &spec->uri : NULL);
    if (spec == NULL) {
        return match;
    }
    /* Not for regular expressions, which say themselves what they ignore (Istio). */
    if (spec->ignore_uri_case.value && spec->uri.kind != STRING_MATCH_REGEX) {
        match->case_sensitive = pb_bool(arena, false);
    }
    for (size_t i = 0; i < spec->headers.count; i++) {
        header_add(arena, match, spec->headers.at[i].name, &spec->headers.at[i].match, false);
    }
    for (size_t i = 0; i < spec->without_headers.count; i++) {
        static const struct string_match present = {.line = 1, .kind = STRING_MATCH_PRESENT};
        bool missing = i < ABSENT_MAX && (absent & (1U << i)) != 0;
        header_add(arena, match, spec->without_headers.at[i].name,
                   missing ? &present : &spec->without_headers.at[i].match, true);
    }
    header_add(arena, match, ":scheme", &spec->scheme, false);
    header_add(arena, match, ":method", &spec->method, false);
    header_add(arena, match, ":authority", &spec->authority, false);
    for (size_t i = 0; i < spec->query_params.count; i++) {
        query_add(arena, match, &spec->query_params.at[i]);
    }
    return match;
}

/* What can be said before any request comes: the caller's labels, the port. */
static bool match_possible(const struct routing *routing, const struct http_match *spec)
{
    if (spec->port.line > 0 && spec->port.value != routing->place->number) {
        return false;
    }
    return labels_match(&spec->source_labels, &routing->t->node->labels);
}

/* ---- actions ---- */

static void ops_add(struct arena *arena, const struct labels *values, bool overwrite,
                    CORE(HeaderValueOption) * **list, size_t *count)
{
    for (size_t i = 0; i < values->count; i++) {
        CORE(HeaderValueOption) *option =
            MESSAGE(arena, envoy__config__core__v3__header_value_option);
        option->header = MESSAGE(arena, envoy__config__core__v3__header_value);
        option->header->key = pb_text(arena, values->at[i].key);
        option->header->value = pb_text(arena, values->at[i].value);
        option->append_action =
            overwrite
                ? CORE_IS(HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD)
                : CORE_IS(HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD);
        ARRAY_PUSH(arena, *list, *count, option);
    }
}

static void removes_add(struct arena *arena, const struct texts *names, char ***list, size_t *count)
{
    for (size_t i = 0; i < names->count; i++) {
        char *name = pb_text(arena, names->at[i].value);
        ARRAY_PUSH(arena, *list, *count, name);
    }
}

static bool names_host(const char *name)
{
    return slice_eq_nocase(slice_of_text(name), SLICE("host")) || strcmp(name, ":authority") == 0;
}

/* `set` of Host is a rewrite of the authority (Istio). Takes it out of *set; null: not there. */
static const char *host_taken(struct arena *arena, struct labels *set)
{
    const char *host = NULL;
    struct labels rest = {.line = set->line};
    for (size_t i = 0; i < set->count; i++) {
        if (names_host(set->at[i].key)) {
            host = set->at[i].value;
        } else {
            ARRAY_PUSH(arena, rest.at, rest.count, set->at[i]);
        }
    }
    *set = rest;
    return host;
}

static void route_edits(struct arena *arena, ROUTE(Route) * route, const struct header_edits *edits)
{
    struct labels set = edits->request.set;
    const char *host = host_taken(arena, &set);
    if (host != NULL) {
        route->route->host_rewrite_specifier_case =
            ROUTE_IS(ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL);
        route->route->host_rewrite_literal = pb_text(arena, host);
    }
    ops_add(arena, &set, true, &route->request_headers_to_add, &route->n_request_headers_to_add);
    ops_add(arena, &edits->request.add, false, &route->request_headers_to_add,
            &route->n_request_headers_to_add);
    ops_add(arena, &edits->response.set, true, &route->response_headers_to_add,
            &route->n_response_headers_to_add);
    ops_add(arena, &edits->response.add, false, &route->response_headers_to_add,
            &route->n_response_headers_to_add);
    removes_add(arena, &edits->request.remove, &route->request_headers_to_remove,
                &route->n_request_headers_to_remove);
    removes_add(arena, &edits->response.remove, &route->response_headers_to_remove,
                &route->n_response_headers_to_remove);
}

static void weight_edits(struct arena *arena, ROUTE(WeightedCluster__ClusterWeight) * weight,
                         const struct header_edits *edits)
{
    struct labels set = edits->request.set;
    const char *host = host_taken(arena, &set);
    if (host != NULL) {
        weight->host_rewrite_specifier_case =
            ROUTE_IS(WEIGHTED_CLUSTER__CLUSTER_WEIGHT__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL);
        weight->host_rewrite_literal = pb_text(arena, host);
    }
    ops_add(arena, &set, true, &weight->request_headers_to_add, &weight->n_request_headers_to_add);
    ops_add(arena, &edits->request.add, false, &weight->request_headers_to_add,
            &weight->n_request_headers_to_add);
    ops_add(arena, &edits->response.set, true, &weight->response_headers_to_add,
            &weight->n_response_headers_to_add);
    ops_add(arena, &edits->response.add, false, &weight->response_headers_to_add,
            &weight->n_response_headers_to_add);
    removes_add(arena, &edits->request.remove, &weight->request_headers_to_remove,
                &weight->n_request_headers_to_remove);
    removes_add(arena, &edits->response.remove, &weight->response_headers_to_remove,
                &weight->n_response_headers_to_remove);
}

/* retryOn's numbers are statuses, the rest is Envoy's (Istio, HTTPRetry.retryOn). */
static void retry_on_cut(struct arena *arena, const char *text, ROUTE(RetryPolicy) * policy)
{
    const char *tokens = "";
    bool by_status = false;
    struct slice rest = slice_of_text(text);
    while (rest.at != NULL) {
        struct slice token = slice_trim(slice_cut(&rest, ','));
        uint64_t status = 0;
        if (slice_to_u64(token, 599, &status)) {
            ARRAY_PUSH(arena, policy->retriable_status_codes, policy->n_retriable_status_codes,
                       (uint32_t)status);
            continue;
        }
        by_status = by_status || slice_eq(token, SLICE("retriable-status-codes"));
        if (token.len > 0) {
            tokens = arena_printf(arena, "%s%s%.*s", tokens, tokens[0] != '\0' ? "," : "",
                                  SLICE_ARG(token));
        }
    }
    if (policy->n_retriable_status_codes > 0 && !by_status) {
        tokens =
            arena_printf(arena, "%s%sretriable-status-codes", tokens, tokens[0] != '\0' ? "," : "");
    }
    policy->retry_on = pb_text(arena, tokens);
}

static ROUTE(RetryPolicy) * retries_off(struct arena *arena, enum translate_form form)
{
    if (form == TRANSLATE_FORM_NAMED) {
        return NULL; /* gRPC refuses num_retries 0; absent means none to all of them */
    }
    ROUTE(RetryPolicy) *policy = MESSAGE(arena, envoy__config__route__v3__retry_policy);
    policy->num_retries = pb_u32(arena, 0); /* the free retries are off too */
    return policy;
}

static ROUTE(RetryPolicy) *
    retries_of(struct arena *arena, const struct retries *spec, enum translate_form form)
{
    if (spec != NULL && spec->line > 0 && spec->attempts.value == 0) {
        return retries_off(arena, form);
    }
    bool given = spec != NULL && spec->line > 0;
    ROUTE(RetryPolicy) *policy = MESSAGE(arena, envoy__config__route__v3__retry_policy);
    policy->num_retries = pb_u32(arena, given ? spec->attempts.value : RETRY_DEFAULT);
    if (given && spec->retry_on.value != NULL && spec->retry_on.value[0] != '\0') {
        retry_on_cut(arena, spec->retry_on.value, policy);
    } else {
        policy->retry_on = pb_text(
            arena, form == TRANSLATE_FORM_DESTINATION ? RETRY_ON_DEFAULT : RETRY_ON_DEFAULT_WIRE);
    }
    if (given && spec->per_try_timeout.line > 0) {
        policy->per_try_timeout = pb_duration(arena, spec->per_try_timeout.us);
    }
    policy->retry_back_off = MESSAGE(arena, envoy__config__route__v3__retry_policy__retry_back_off);
    policy->retry_back_off->base_interval = pb_duration(arena, RETRY_BASE_US);
    policy->retry_back_off->max_interval = pb_duration(arena, RETRY_MAX_US);

    ROUTE(RetryPolicy__RetryHostPredicate) *avoid =
        MESSAGE(arena, envoy__config__route__v3__retry_policy__retry_host_predicate);
    avoid->name = pb_text(arena, "envoy.retry_host_predicates.previous_hosts");
    avoid->config_type_case =
        ROUTE_IS(RETRY_POLICY__RETRY_HOST_PREDICATE__CONFIG_TYPE_TYPED_CONFIG);
    avoid->typed_config = pb_any(
        arena,
        MESSAGE(arena,
                envoy__extensions__retry__host__previous_hosts__v3__previous_hosts_predicate));
    ARRAY_PUSH(arena, policy->retry_host_predicate, policy->n_retry_host_predicate, avoid);
    policy->host_selection_retry_max_attempts = RETRY_HOST_ATTEMPTS;

    if (given && spec->retry_remote_localities.value) {
        policy->retry_priority =
            MESSAGE(arena, envoy__config__route__v3__retry_policy__retry_priority);
        policy->retry_priority->name = pb_text(arena, "envoy.retry_priorities.previous_priorities");
        policy->retry_priority->config_type_case =
            ROUTE_IS(RETRY_POLICY__RETRY_PRIORITY__CONFIG_TYPE_TYPED_CONFIG);
        policy->retry_priority->typed_config =
            pb_any_bytes(arena, PREVIOUS_PRIORITIES_URL, SLICE(PREVIOUS_PRIORITIES_BYTES));
    }
    return policy;
}

/* Timeout and retries; what the application asks for by grpc-timeout is at most the timeout. */
static ROUTE(RouteAction) *
    action_new(struct arena *arena, const struct http_rule *rule, enum translate_form form)
{
    ROUTE(RouteAction) *action = MESSAGE(arena, envoy__config__route__v3__route_action);
    uint64_t timeout_us = rule != NULL && rule->timeout.line > 0 ? rule->timeout.us : 0;
    action->timeout = pb_duration(arena, timeout_us);
    action->max_stream_duration =
        MESSAGE(arena, envoy__config__route__v3__route_action__max_stream_duration);
    action->max_stream_duration->grpc_timeout_header_max = pb_duration(arena, timeout_us);
    action->retry_policy = retries_of(arena, rule != NULL ? &rule->retries : NULL, form);
    if (form == TRANSLATE_FORM_DESTINATION) {
        ROUTE(RouteAction__UpgradeConfig) *upgrade =
            MESSAGE(arena, envoy__config__route__v3__route_action__upgrade_config);
        upgrade->upgrade_type = pb_text(arena, "websocket");
        ARRAY_PUSH(arena, action->upgrade_configs, action->n_upgrade_configs, upgrade);
    }
    return action;
}

static void action_cluster(ROUTE(RouteAction) * action, struct arena *arena, const char *cluster)
{
    action->cluster_specifier_case = ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER);
    action->cluster = pb_text(arena, cluster);
}

/* ---- destinations ---- */

static void cluster_note(const struct routing *routing, const struct place *place,
                         const char *subset, const char *name)
{
    struct route_clusters *clusters = routing->clusters;
    for (size_t i = 0; clusters != NULL && i < clusters->count; i++) {
        if (strcmp(clusters->at[i].name, name) == 0) {
            return;
        }
    }
    if (clusters != NULL) {
        struct route_cluster cluster = {*place, subset, name};
        ARRAY_PUSH(routing->t->arena, clusters->at, clusters->count, cluster);
    }
}

/* Without a port: the only one of the service, else the port that was called. */
static const char *target_cluster(const struct routing *routing, const struct route_target *target)
{
    struct translation *t = routing->t;
    const char *host = model_full_host(t->model, t->arena, slice_of_text(target->host.value),
                                       routing->object->namespace);
    uint32_t number = target->port.number.value;
    if (number == 0) {
        const struct model_service *service = model_find_service(t->model, slice_of_text(host));
        bool only = service != NULL && service->port_count == 1;
        number = only ? service->ports[0].number : routing->place->number;
    }
    struct place place = place_of(t, host, number);
    const char *subset = target->subset.value != NULL && target->subset.value[0] != '\0'
                             ? target->subset.value
                             : NULL;
    const char *name = cluster_name_of(t->arena, &place, subset);
    cluster_note(routing, &place, subset, name);
    if (place.service != NULL) {
        translation_uses(t, place.service->object);
    }
    rules_used(t, model_destination_rules(t->model, host, place.service, t->node->namespace));
    return name;
}

const char *route_target_cluster(struct translation *t, const struct place *place,
                                 const struct object *object, const struct route_target *target,
                                 struct route_clusters *clusters)
{
    struct routing routing = {.t = t, .place = place, .clusters = clusters, .object = object};
    return target_cluster(&routing, target);
}

static void action_weights(struct routing *routing, ROUTE(RouteAction) * action,
                           const struct http_rule *rule)
{
    struct arena *arena = routing->t->arena;
    ROUTE(WeightedCluster) *weighted = MESSAGE(arena, envoy__config__route__v3__weighted_cluster);
    uint32_t total = 0;
    for (size_t i = 0; i < rule->route.count; i++) {
        const struct route_destination *target = &rule->route.at[i];
        ROUTE(WeightedCluster__ClusterWeight) *weight =
            MESSAGE(arena, envoy__config__route__v3__weighted_cluster__cluster_weight);
        uint32_t share = rule->route.count > 1 ? target->weight.value : 100;
        weight->name = pb_text(arena, target_cluster(routing, &target->destination));
        weight->weight = pb_u32(arena, share);
        /* Envoy looks at the space "envoy.lb" of it only; it is the one place for metadata here. */
        weight->metadata_match = pb_origin(routing->t, routing->object, target->line);
        weight_edits(arena, weight, &target->headers);
        total += share;
        ARRAY_PUSH(arena, weighted->clusters, weighted->n_clusters, weight);
    }
    weighted->total_weight = pb_u32(arena, total); /* C-core 1.51 wants it to be the sum */
    action->cluster_specifier_case = ROUTE_IS(ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS);
    action->weighted_clusters = weighted;
}

static ROUTE(Route) * rule_route(struct routing *routing, const struct http_rule *rule,
                                 const struct http_match *match, unsigned absent)
{
    struct arena *arena = routing->t->arena;
    ROUTE(Route) *route = MESSAGE(arena, envoy__config__route__v3__route);
    route->match = match_of(arena, match, absent);
    route->action_case = ROUTE_IS(ROUTE__ACTION_ROUTE);
    route->route = action_new(arena, rule, routing->form);
    const char *name = rule->name.value != NULL ? rule->name.value : "";
    if (match != NULL && match->name.value != NULL) {
        name = arena_printf(arena, "%s%s%s", name, name[0] != '\0' ? "." : "", match->name.value);
    }
    route->name = pb_text(arena, name);
    route->metadata = pb_origin(routing->t, routing->object, rule->line);
    if (rule->route.count == 1 && rule->route.at[0].headers.line == 0) {
        action_cluster(route->route, arena,
                       target_cluster(routing, &rule->route.at[0].destination));
    } else {
        action_weights(routing, route->route, rule);
    }
    route_edits(arena, route, &rule->headers);
    return route;
}

ROUTE(Route) * make_default_route(struct translation *t, const char *cluster,
                                  const struct object *object, uint32_t line,
                                  enum translate_form form)
{
    ROUTE(Route) *route = MESSAGE(t->arena, envoy__config__route__v3__route);
    route->match = match_of(t->arena, NULL, 0);
    route->action_case = ROUTE_IS(ROUTE__ACTION_ROUTE);
    route->route = action_new(t->arena, NULL, form);
    route->name = pb_text(t->arena, "default");
    route->metadata = pb_origin(t, object, line);
    action_cluster(route->route, t->arena, cluster);
    return route;
}

/* ---- tables ---- */

static bool matches_all(const ROUTE(Route) * route)
{
    const ROUTE(RouteMatch) *match = route->match;
    return match->path_specifier_case == ROUTE_IS(ROUTE_MATCH__PATH_SPECIFIER_PREFIX) &&
           strcmp(match->prefix, "/") == 0 && match->n_headers == 0 &&
           match->n_query_parameters == 0;
}

/* gRPC knows no treat_missing_header_as_empty: there a header that is missing never matches, not
 * even inverted. So its table gets a route for each way of being without: missing, or of another
 * value. */
static void host_route(struct routing *routing, ROUTE(VirtualHost) * host,
                       const struct http_rule *rule, const struct http_match *match)
{
    unsigned ways = 1;
    if (routing->form == TRANSLATE_FORM_NAMED && match != NULL) {
        size_t count = match->without_headers.count;
        ways = 1U << (count < ABSENT_MAX ? count : ABSENT_MAX);
    }
    for (unsigned absent = 0; absent < ways; absent++) {
        ROUTE(Route) *route = rule_route(routing, rule, match, absent);
        ARRAY_PUSH(routing->t->arena, host->routes, host->n_routes, route);
    }
}

/* The routes of a VirtualService for this caller; none: as if it were not there. What stands behind
 * a route that takes everything is never reached and left out. */
static void host_rules(struct routing *routing, ROUTE(VirtualHost) * host)
{
    const struct virtual_service *spec = object_virtual_service(routing->object);
    for (size_t r = 0; r < spec->http.count; r++) {
        const struct http_rule *rule = &spec->http.at[r];
        if (rule->match.count == 0) {
            host_route(routing, host, rule, NULL);
            return;
        }
        for (size_t m = 0; m < rule->match.count; m++) {
            if (!match_possible(routing, &rule->match.at[m])) {
                continue;
            }
            host_route(routing, host, rule, &rule->match.at[m]);
            if (matches_all(host->routes[host->n_routes - 1])) {
                return;
            }
        }
    }
}

static void host_domain(struct arena *arena, ROUTE(VirtualHost) * host, const char *domain)
{
    char *copy = pb_text(arena, domain);
    ARRAY_PUSH(arena, host->domains, host->n_domains, copy);
}

/* All names under which the place is called, and "*" at the end: the original destination decided
 * already, so an unknown Host is no error. */
static void host_domains(struct translation *t, ROUTE(VirtualHost) * host,
                         const struct place *place)
{
    struct arena *arena = t->arena;
    const struct model_service *service = place->service;
    host_domain(arena, host, place->host);
    if (service != NULL) {
        if (strcmp(service->namespace, t->node->namespace) == 0) {
            host_domain(arena, host, service->name);
        }
        host_domain(arena, host, arena_printf(arena, "%s.%s", service->name, service->namespace));
        host_domain(arena, host,
                    arena_printf(arena, "%s.%s.svc", service->name, service->namespace));
        for (size_t i = 0; i < service->address_count; i++) {
            bool v6 = service->addrs[i].family == ADDR_IPV6;
            host_domain(arena, host,
                        arena_printf(arena, v6 ? "[%s]" : "%s", service->addresses[i]));
        }
    }
    host_domain(arena, host, "*");
}

ROUTE(RouteConfiguration) * make_routes(struct translation *t, const struct place *place,
                                        enum translate_form form, struct route_clusters *clusters,
                                        bool *ruled)
{
    struct arena *arena = t->arena;
    struct routing routing = {
        .t = t,
        .place = place,
        .form = form,
        .clusters = clusters,
        .object = model_virtual_service(t->model, place->host),
    };
    ROUTE(RouteConfiguration) *table =
        MESSAGE(arena, envoy__config__route__v3__route_configuration);
    ROUTE(VirtualHost) *host = MESSAGE(arena, envoy__config__route__v3__virtual_host);
    const char *name = arena_printf(arena, "%s:%u", place->host, (unsigned)place->number);
    table->name = pb_text(arena, name);
    table->validate_clusters = pb_bool(arena, false);
    table->ignore_port_in_host_matching = true;
    host->name = pb_text(arena, name);
    host_domains(t, host, place);
    ARRAY_PUSH(arena, table->virtual_hosts, table->n_virtual_hosts, host);

    if (routing.object != NULL) {
        translation_uses(t, routing.object);
        host_rules(&routing, host);
    }
    if (ruled != NULL) {
        *ruled = host->n_routes > 0;
    }
    if (host->n_routes == 0) {
        const struct object *object = place->service != NULL ? place->service->object : NULL;
        const char *cluster = cluster_name_of(arena, place, NULL);
        ROUTE(Route) *route = make_default_route(
            t, cluster, object, place->port != NULL ? place->port->spec->line : 0, form);
        ARRAY_PUSH(arena, host->routes, host->n_routes, route);
        cluster_note(&routing, place, NULL, cluster);
    }
    return table;
}
