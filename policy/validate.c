/* What one object must say to mean anything. Rules that Istio's own webhook has are the same here;
 * what it lets through although it cannot mean anything is refused too. */
#include "policy/validate.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/regex.h"
#include "xds/header_operators.h"

#define MILLISECOND_US     1000
#define SECOND_US          1000000
#define WEIGHT_MAX         1000000
#define LABEL_MAX          63 /* RFC 1035 2.3.4 */
#define TEMPLATE_PARTS_MAX 16
#define TARGETS_MAX        1024

struct checker {
    const struct object *object;
    struct policy_problems *problems;
    bool good;
};

static void refuse(struct checker *checker, uint32_t line, const char *path, const char *format,
                   ...) PRINTF_LIKE(4, 5);

static void refuse(struct checker *checker, uint32_t line, const char *path, const char *format,
                   ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct object *object = checker->object;
    struct policy_where where = {object->file, line > 0 ? line : object->line, object->id, path};
    policy_problem_add(checker->problems, POLICY_SEVERITY_ERROR, where, "%s", text);
    checker->good = false;
}

/* A path, in the arena of the problems. */
#define PATH(checker, ...) arena_printf((checker)->problems->arena, __VA_ARGS__)

static bool is_set(struct text text)
{
    return text.value != NULL && text.value[0] != '\0';
}

/* ---- words ---- */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* tchar of RFC 9110 5.6.2. */
static bool is_token(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (!is_alnum(*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL) {
            return false;
        }
    }
    return text[0] != '\0';
}

/* Labels of letters, digits and dashes with dots between them; at most 253 characters. */
static bool is_host(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 253) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        bool inner = text[i] == '-' || text[i] == '_';
        bool dot = text[i] == '.' && i > 0 && text[i - 1] != '.';
        if (!is_alnum(text[i]) && !inner && !dot) {
            return false;
        }
    }
    return true;
}

static bool is_wild_host(const char *text)
{
    return strcmp(text, "*") == 0 || (strncmp(text, "*.", 2) == 0 && is_host(text + 2));
}

static bool is_ip(const char *text)
{
    struct addr addr;
    return addr_parse_ip(slice_of_text(text), &addr);
}

/* Field values: no control characters but the tab (RFC 9110 5.5). */
static bool is_field_value(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f) {
            return false;
        }
    }
    return true;
}

static void host_check(struct checker *checker, struct text host, const char *path, bool wild)
{
    if (!is_set(host)) {
        refuse(checker, host.line, path, "a host is needed");
    } else if (!is_host(host.value) && !(wild && is_wild_host(host.value))) {
        refuse(checker, host.line, path, "\"%.64s\" is not a host name; allowed: a DNS name%s",
               host.value, wild ? ", \"*\", or \"*.\" before one" : "");
    }
}

static void duration_check(struct checker *checker, struct duration duration, uint64_t least_us,
                           const char *path)
{
    if (duration.line > 0 && duration.us < least_us) {
        refuse(checker, duration.line, path, "too short; allowed: %s or more",
               least_us == SECOND_US ? "1s" : "1ms");
    }
}

/* ---- Service, Endpoints, EndpointSlice, WorkloadEntry ---- */

static void service_address_check(struct checker *checker, struct text address, const char *path)
{
    if (is_set(address) && strcmp(address.value, "None") != 0 && !is_ip(address.value)) {
        refuse(checker, address.line, path, "\"%.64s\" is no address; allowed: an IP or None",
               address.value);
    }
}

static void service_port_check(struct checker *checker, const struct service *spec, size_t index)
{
    const struct service_port *port = &spec->ports.at[index];
    if (port->port.line == 0) {
        refuse(checker, port->line, PATH(checker, "spec.ports[%zu].port", index),
               "a port needs a number");
    }
    if (spec->ports.count > 1 && !is_set(port->name)) {
        refuse(checker, port->line, PATH(checker, "spec.ports[%zu].name", index),
               "each of several ports needs a name");
    }
    for (size_t i = 0; i < index; i++) {
        const struct service_port *other = &spec->ports.at[i];
        if (is_set(port->name) && is_set(other->name) &&
            strcmp(port->name.value, other->name.value) == 0) {
            refuse(checker, port->name.line, PATH(checker, "spec.ports[%zu].name", index),
                   "the name is used twice");
        }
        if (other->port.value == port->port.value &&
            other->protocol.value == port->protocol.value) {
            refuse(checker, port->port.line, PATH(checker, "spec.ports[%zu].port", index),
                   "the port is there twice");
        }
    }
}

static void service_check(struct checker *checker)
{
    const struct service *spec = object_service(checker->object);
    /* It becomes the first label of a host. */
    if (strlen(checker->object->name) > LABEL_MAX || strchr(checker->object->name, '.') != NULL) {
        refuse(checker, 0, "metadata.name", "a Service's name has no dots and at most %d letters",
               LABEL_MAX);
    }
    service_address_check(checker, spec->cluster_ip, "spec.clusterIP");
    for (size_t i = 0; i < spec->cluster_ips.count; i++) {
        service_address_check(checker, spec->cluster_ips.at[i],
                              PATH(checker, "spec.clusterIPs[%zu]", i));
    }
    for (size_t i = 0; i < spec->ports.count; i++) {
        service_port_check(checker, spec, i);
    }
}

static void ip_check(struct checker *checker, struct text address, uint32_t line, const char *path)
{
    if (!is_set(address) || !is_ip(address.value)) {
        refuse(checker, address.line > 0 ? address.line : line, path,
               "\"%.64s\" is no address; allowed: an IPv4 or IPv6 address",
               is_set(address) ? address.value : "");
    }
}

static void endpoints_check(struct checker *checker)
{
    const struct endpoints *spec = object_endpoints(checker->object);
    for (size_t s = 0; s < spec->subsets.count; s++) {
        const struct endpoints_subset *subset = &spec->subsets.at[s];
        for (size_t a = 0; a < subset->addresses.count; a++) {
            ip_check(checker, subset->addresses.at[a].ip, subset->addresses.at[a].line,
                     PATH(checker, "subsets[%zu].addresses[%zu].ip", s, a));
        }
    }
}

static void endpoint_slice_check(struct checker *checker)
{
    const struct endpoint_slice *spec = object_endpoint_slice(checker->object);
    if (is_set(spec->address_type) && strcmp(spec->address_type.value, "IPv4") != 0 &&
        strcmp(spec->address_type.value, "IPv6") != 0) {
        refuse(checker, spec->address_type.line, "addressType",
               "\"%.64s\" is not supported; allowed: IPv4, IPv6", spec->address_type.value);
        return;
    }
    for (size_t i = 0; i < spec->endpoints.count; i++) {
        const struct slice_endpoint *endpoint = &spec->endpoints.at[i];
        for (size_t a = 0; a < endpoint->addresses.count; a++) {
            ip_check(checker, endpoint->addresses.at[a], endpoint->line,
                     PATH(checker, "endpoints[%zu].addresses[%zu]", i, a));
        }
    }
}

static void workload_entry_check(struct checker *checker)
{
    const struct workload_entry *spec = object_workload_entry(checker->object);
    ip_check(checker, spec->address, spec->line, "spec.address");
    if (spec->weight.value > WEIGHT_MAX) {
        refuse(checker, spec->weight.line, "spec.weight", "allowed: 0 to %d", WEIGHT_MAX);
    }
    if (is_set(spec->service_account) && !is_host(spec->service_account.value)) {
        refuse(checker, spec->service_account.line, "spec.serviceAccount",
               "\"%.64s\" is no service account; allowed: a DNS name", spec->service_account.value);
    }
}

/* ---- VirtualService ---- */

static void regex_check(struct checker *checker, const struct string_match *match, const char *path)
{
    struct error err = {0};
    struct regex *regex = regex_new(slice_of_text(match->value), &err);
    if (regex == NULL) {
        refuse(checker, match->line, path, "regex: %s; allowed: RE2's syntax", err.text);
    }
    regex_free(&regex);
}

static void string_match_check(struct checker *checker, const struct string_match *match,
                               const char *path)
{
    if (match->line == 0 || match->kind == STRING_MATCH_PRESENT) {
        return;
    }
    if (match->value[0] == '\0') {
        refuse(checker, match->line, path,
               "an empty value matches nothing; allowed: {} for "
               "\"it is there\"");
    } else if (match->kind == STRING_MATCH_REGEX) {
        regex_check(checker, match, path);
    }
}

static void uri_check(struct checker *checker, const struct string_match *uri, const char *path)
{
    if (uri->line == 0) {
        return;
    }
    if (uri->kind == STRING_MATCH_PRESENT) {
        refuse(checker, uri->line, path, "one of exact, prefix, regex is needed");
    } else if (uri->kind == STRING_MATCH_REGEX) {
        regex_check(checker, uri, path);
    } else if (uri->value[0] != '/' && strcmp(uri->value, "*") != 0) {
        refuse(checker, uri->line, path,
               "\"%.64s\" never matches; allowed: a path that begins "
               "with \"/\"",
               uri->value);
    }
}

static void named_matches_check(struct checker *checker, const struct named_matches *list,
                                const char *path, bool headers)
{
    static const char *const ignored[] = {"uri", "scheme", "method", "authority"};
    for (size_t i = 0; i < list->count; i++) {
        const struct named_match *named = &list->at[i];
        const char *item = PATH(checker, "%s[\"%.64s\"]", path, named->name);
        if (headers && !is_token(named->name)) {
            refuse(checker, named->match.line, item,
                   "not a header name; allowed: letters, digits and !#$%%&'*+-.^_`|~");
        } else if (named->name[0] == '\0') {
            refuse(checker, named->match.line, item, "a name is needed");
        }
        for (size_t n = 0; headers && n < COUNT_OF(ignored); n++) {
            if (strcmp(named->name, ignored[n]) == 0) {
                refuse(checker, named->match.line, item,
                       "not a header; use the match field of that name");
            }
        }
        string_match_check(checker, &named->match, item);
    }
}

static void http_match_check(struct checker *checker, const struct http_match *match,
                             const char *path)
{
    uri_check(checker, &match->uri, PATH(checker, "%s.uri", path));
    string_match_check(checker, &match->scheme, PATH(checker, "%s.scheme", path));
    string_match_check(checker, &match->method, PATH(checker, "%s.method", path));
    string_match_check(checker, &match->authority, PATH(checker, "%s.authority", path));
    named_matches_check(checker, &match->headers, PATH(checker, "%s.headers", path), true);
    named_matches_check(checker, &match->without_headers, PATH(checker, "%s.withoutHeaders", path),
                        true);
    named_matches_check(checker, &match->query_params, PATH(checker, "%s.queryParams", path),
                        false);
}

/* "REQ(x-name)", without the signs around it. */
static bool is_operator(struct checker *checker, struct slice inside)
{
    static const struct {
        const char *name;
        bool argument;
    } operators[] = {
#define X(value, name, argument) {name, argument},
        HEADER_OPERATORS(X)
#undef X
    };
    struct slice rest = inside;
    struct slice name = slice_cut(&rest, '(');
    bool argument = rest.len > 1 && rest.at[rest.len - 1] == ')' &&
                    is_token(PATH(checker, "%.*s", (int)rest.len - 1, (const char *)rest.at));
    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        if (slice_eq(name, slice_of_text(operators[i].name))) {
            return operators[i].argument ? argument : rest.at == NULL;
        }
    }
    return false;
}

/* A percent sign begins an operator, or is doubled. */
static void header_template_check(struct checker *checker, const struct label *header,
                                  const char *path)
{
    struct slice rest = slice_of_text(header->value);
    unsigned parts = 0;
    while (rest.len > 0) {
        size_t sign = slice_find(rest, '%');
        parts += sign > 0;
        if (sign == rest.len) {
            break;
        }
        rest = slice_from(rest, sign + 1);
        size_t end = slice_find(rest, '%');
        if (end == rest.len || (end > 0 && !is_operator(checker, slice_head(rest, end)))) {
            refuse(checker, header->line, path,
                   "\"%%%.*s\" is no operator; allowed: Envoy's, as %%REQ(x-name)%%, and %%%% for "
                   "the sign",
                   SLICE_ARG(slice_head(rest, end < 64 ? end : 64)));
            return;
        }
        parts++;
        rest = slice_from(rest, end + 1);
    }
    if (parts > TEMPLATE_PARTS_MAX) {
        refuse(checker, header->line, path, "the value has more than %d parts", TEMPLATE_PARTS_MAX);
    }
}

static void header_values_check(struct checker *checker, const struct labels *values,
                                const char *path, bool authority)
{
    for (size_t i = 0; i < values->count; i++) {
        const struct label *header = &values->at[i];
        const char *item = PATH(checker, "%s[\"%.64s\"]", path, header->key);
        if (authority && strcmp(header->key, ":authority") == 0) {
            continue;
        }
        if (!is_token(header->key)) {
            refuse(checker, header->line, item,
                   "not a header name; allowed: letters, digits and !#$%%&'*+-.^_`|~");
        }
        if (!is_field_value(header->value)) {
            refuse(checker, header->line, item, "the value has control characters");
        }
        header_template_check(checker, header, item);
        if (!authority && slice_eq_nocase(slice_of_text(header->key), SLICE("host"))) {
            refuse(checker, header->line, item, "Host can only be set, and only on requests");
        }
    }
}

static void header_edits_check(struct checker *checker, const struct header_edits *edits,
                               const char *path)
{
    const struct {
        const char *name;
        const struct header_edit *edit;
    } sides[] = {{"request", &edits->request}, {"response", &edits->response}};
    for (size_t s = 0; s < COUNT_OF(sides); s++) {
        const char *side = PATH(checker, "%s.%s", path, sides[s].name);
        const struct header_edit *edit = sides[s].edit;
        header_values_check(checker, &edit->set, PATH(checker, "%s.set", side), s == 0);
        header_values_check(checker, &edit->add, PATH(checker, "%s.add", side), false);
        for (size_t i = 0; i < edit->remove.count; i++) {
            const char *name = edit->remove.at[i].value;
            if (!is_token(name) || slice_eq_nocase(slice_of_text(name), SLICE("host"))) {
                refuse(checker, edit->remove.at[i].line, PATH(checker, "%s.remove[%zu]", side, i),
                       "\"%.64s\" cannot be removed; allowed: header names but Host", name);
            }
        }
    }
}

/* Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on, as Istio allows them. */
static bool retry_token_known(struct slice token)
{
    static const char *const known[] = {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (slice_eq(token, slice_of_text(known[i]))) {
            return true;
        }
    }
    uint64_t status = 0;
    return slice_to_u64(token, 599, &status) && status >= 100;
}

static void retries_check(struct checker *checker, const struct retries *retries, const char *path)
{
    bool more = retries->per_try_timeout.line > 0 || retries->retry_on.line > 0 ||
                retries->retry_remote_localities.line > 0;
    if (retries->line > 0 && retries->attempts.value == 0 && more) {
        refuse(checker, retries->line, PATH(checker, "%s.attempts", path),
               "0 attempts turn retries off, so nothing else can be set; allowed: 1 or more");
    }
    duration_check(checker, retries->per_try_timeout, MILLISECOND_US,
                   PATH(checker, "%s.perTryTimeout", path));
    struct slice rest = slice_of_text(retries->retry_on.value);
    while (rest.at != NULL) {
        struct slice token = slice_trim(slice_cut(&rest, ','));
        if (token.len > 0 && !retry_token_known(token)) {
            refuse(checker, retries->retry_on.line, PATH(checker, "%s.retryOn", path),
                   "\"%.*s\" is not a condition; allowed: Envoy's (5xx, gateway-error, reset, "
                   "connect-failure, ...) and statuses",
                   SLICE_ARG(slice_head(token, 64)));
        }
    }
}

/* Where a rule sends what it matches. */
struct targets {
    const struct route_destination *at;
    size_t count;
    uint32_t line; /* of the list, else of the rule */
};

static void targets_check(struct checker *checker, struct targets targets, const char *path)
{
    uint64_t sum = 0;
    if (targets.count == 0 || targets.count > TARGETS_MAX) {
        refuse(checker, targets.line, path, "a rule needs a route; allowed: 1 to %d destinations",
               TARGETS_MAX);
    }
    for (size_t i = 0; i < targets.count; i++) {
        const struct route_destination *target = &targets.at[i];
        const char *item = PATH(checker, "%s[%zu]", path, i);
        struct text host = target->destination.host;
        host.line = host.line > 0 ? host.line : target->line;
        host_check(checker, host, PATH(checker, "%s.destination.host", item), false);
        header_edits_check(checker, &target->headers, PATH(checker, "%s.headers", item));
        sum += target->weight.value;
    }
    if (targets.count > 1 && sum == 0 && !MUTANT(25)) {
        refuse(checker, targets.line, path, "the weights sum to 0; allowed: at least one above 0");
    }
    if (sum > UINT32_MAX) {
        refuse(checker, targets.line, path, "the weights sum to more than %u",
               (unsigned)UINT32_MAX);
    }
}

#define TARGETS_OF(rule)                                                                           \
    (struct targets)                                                                               \
    {                                                                                              \
        (rule)->route.at, (rule)->route.count,                                                     \
            (rule)->route.line > 0 ? (rule)->route.line : (rule)->line                             \
    }

static void http_rule_check(struct checker *checker, const struct http_rule *rule, const char *path)
{
    for (size_t i = 0; i < rule->match.count; i++) {
        http_match_check(checker, &rule->match.at[i], PATH(checker, "%s.match[%zu]", path, i));
    }
    targets_check(checker, TARGETS_OF(rule), PATH(checker, "%s.route", path));
    if (rule->timeout.line > 0 && rule->timeout.us == 0) {
        refuse(checker, rule->timeout.line, PATH(checker, "%s.timeout", path),
               "0s is not a timeout; allowed: 1ms or more; leave it out for none");
    } else {
        duration_check(checker, rule->timeout, MILLISECOND_US, PATH(checker, "%s.timeout", path));
    }
    retries_check(checker, &rule->retries, PATH(checker, "%s.retries", path));
    header_edits_check(checker, &rule->headers, PATH(checker, "%s.headers", path));
}

/* "10.0.0.0/8"; an address alone is its whole length. */
static void subnet_check(struct checker *checker, struct text subnet, const char *path)
{
    struct addr addr;
    unsigned prefix;
    if (!policy_subnet_parse(subnet.value, &addr, &prefix)) {
        refuse(checker, subnet.line, path,
               "\"%.64s\" is no subnet; allowed: an address, or ADDRESS/BITS", subnet.value);
    }
}

static void l4_rule_check(struct checker *checker, const struct l4_rule *rule, const char *path,
                          bool tls)
{
    for (size_t i = 0; i < rule->match.count; i++) {
        const struct l4_match *match = &rule->match.at[i];
        const char *item = PATH(checker, "%s.match[%zu]", path, i);
        for (size_t s = 0; s < match->destination_subnets.count; s++) {
            subnet_check(checker, match->destination_subnets.at[s],
                         PATH(checker, "%s.destinationSubnets[%zu]", item, s));
        }
        for (size_t h = 0; h < match->sni_hosts.count; h++) {
            host_check(checker, match->sni_hosts.at[h], PATH(checker, "%s.sniHosts[%zu]", item, h),
                       true);
        }
        if (tls && match->sni_hosts.count == 0) {
            refuse(checker, match->line, PATH(checker, "%s.sniHosts", item),
                   "at least one name is needed");
        }
    }
    if (tls && rule->match.count == 0) {
        refuse(checker, rule->line, PATH(checker, "%s.match", path),
               "a rule of tls needs a match with sniHosts");
    }
    targets_check(checker, TARGETS_OF(rule), PATH(checker, "%s.route", path));
}

static void virtual_service_check(struct checker *checker)
{
    const struct virtual_service *spec = object_virtual_service(checker->object);
    if (spec->hosts.count == 0) {
        refuse(checker, spec->line, "spec.hosts", "at least one host is needed");
    }
    for (size_t i = 0; i < spec->hosts.count; i++) {
        host_check(checker, spec->hosts.at[i], PATH(checker, "spec.hosts[%zu]", i), true);
    }
    if (spec->http.count + spec->tls.count + spec->tcp.count == 0) {
        refuse(checker, spec->line, "spec.http", "at least one rule of http, tls or tcp is needed");
    }
    for (size_t i = 0; i < spec->http.count; i++) {
        http_rule_check(checker, &spec->http.at[i], PATH(checker, "spec.http[%zu]", i));
    }
    for (size_t i = 0; i < spec->tls.count; i++) {
        l4_rule_check(checker, &spec->tls.at[i], PATH(checker, "spec.tls[%zu]", i), true);
    }
    for (size_t i = 0; i < spec->tcp.count; i++) {
        l4_rule_check(checker, &spec->tcp.at[i], PATH(checker, "spec.tcp[%zu]", i), false);
    }
}

/* ---- DestinationRule ---- */

static void settings_check(struct checker *checker, const struct traffic_settings *settings,
                           const char *path)
{
    const struct outlier_detection *outlier = &settings->outlier_detection;
    const struct connection_pool *pool = &settings->connection_pool;
    duration_check(checker, outlier->interval, MILLISECOND_US,
                   PATH(checker, "%s.outlierDetection.interval", path));
    duration_check(checker, outlier->base_ejection_time, MILLISECOND_US,
                   PATH(checker, "%s.outlierDetection.baseEjectionTime", path));
    duration_check(checker, pool->tcp.connect_timeout, MILLISECOND_US,
                   PATH(checker, "%s.connectionPool.tcp.connectTimeout", path));
    duration_check(checker, pool->tcp.max_connection_duration, MILLISECOND_US,
                   PATH(checker, "%s.connectionPool.tcp.maxConnectionDuration", path));
    duration_check(checker, pool->tcp.keepalive.time, SECOND_US,
                   PATH(checker, "%s.connectionPool.tcp.tcpKeepalive.time", path));
    duration_check(checker, pool->tcp.keepalive.interval, SECOND_US,
                   PATH(checker, "%s.connectionPool.tcp.tcpKeepalive.interval", path));
    duration_check(checker, pool->http.idle_timeout, MILLISECOND_US,
                   PATH(checker, "%s.connectionPool.http.idleTimeout", path));
    if (outlier->consecutive_local_origin_failures.line > 0 &&
        !outlier->split_external_local_origin_errors.value) {
        refuse(checker, outlier->consecutive_local_origin_failures.line,
               PATH(checker, "%s.outlierDetection.consecutiveLocalOriginFailures", path),
               "only with splitExternalLocalOriginErrors: true");
    }
    if (settings->tls.line > 0 && settings->tls.mode.line == 0) {
        refuse(checker, settings->tls.line, PATH(checker, "%s.tls.mode", path),
               "a mode is needed; allowed: ISTIO_MUTUAL, DISABLE");
    }
}

static void traffic_policy_check(struct checker *checker, const struct traffic_policy *policy,
                                 const char *path)
{
    settings_check(checker, &policy->settings, path);
    for (size_t i = 0; i < policy->ports.count; i++) {
        const struct port_settings *port = &policy->ports.at[i];
        const char *item = PATH(checker, "%s.portLevelSettings[%zu]", path, i);
        if (port->port.number.line == 0) {
            refuse(checker, port->settings.line, PATH(checker, "%s.port.number", item),
                   "settings of a port need its number");
        }
        for (size_t other = 0; other < i; other++) {
            if (policy->ports.at[other].port.number.value == port->port.number.value) {
                refuse(checker, port->port.number.line, PATH(checker, "%s.port.number", item),
                       "the port is there twice");
            }
        }
        settings_check(checker, &port->settings, item);
    }
}

static void destination_rule_check(struct checker *checker)
{
    const struct destination_rule *spec = object_destination_rule(checker->object);
    struct text host = spec->host;
    host.line = host.line > 0 ? host.line : spec->line;
    host_check(checker, host, "spec.host", true);
    traffic_policy_check(checker, &spec->policy, "spec.trafficPolicy");
    for (size_t i = 0; i < spec->subsets.count; i++) {
        const struct subset *subset = &spec->subsets.at[i];
        const char *name = PATH(checker, "spec.subsets[%zu].name", i);
        /* It becomes part of names of clusters, which are cut at "|". */
        if (!is_set(subset->name) || !is_host(subset->name.value) ||
            strlen(subset->name.value) > LABEL_MAX) {
            refuse(checker, subset->line, name,
                   "a subset needs a name; allowed: at most %d letters, digits, \"-\" and \".\"",
                   LABEL_MAX);
        }
        for (size_t other = 0; other < i && is_set(subset->name); other++) {
            if (is_set(spec->subsets.at[other].name) &&
                strcmp(spec->subsets.at[other].name.value, subset->name.value) == 0) {
                refuse(checker, subset->name.line, name, "the name is used twice");
            }
        }
        traffic_policy_check(checker, &subset->policy,
                             PATH(checker, "spec.subsets[%zu].trafficPolicy", i));
    }
}

/* ---- PeerAuthentication ---- */

static void peer_authentication_check(struct checker *checker)
{
    const struct peer_authentication *spec = object_peer_authentication(checker->object);
    if (spec->ports.count > 0 && spec->selector.match_labels.count == 0) {
        refuse(checker, spec->ports.line, "spec.portLevelMtls",
               "only with a selector: ports are those of workloads");
    }
}

bool policy_validate_object(const struct object *object, struct policy_problems *problems)
{
    struct checker checker = {object, problems, true};
    switch (object->kind) {
    case OBJECT_KIND_SERVICE:
        service_check(&checker);
        break;
    case OBJECT_KIND_ENDPOINTS:
        endpoints_check(&checker);
        break;
    case OBJECT_KIND_ENDPOINT_SLICE:
        endpoint_slice_check(&checker);
        break;
    case OBJECT_KIND_WORKLOAD_ENTRY:
        workload_entry_check(&checker);
        break;
    case OBJECT_KIND_VIRTUAL_SERVICE:
        virtual_service_check(&checker);
        break;
    case OBJECT_KIND_DESTINATION_RULE:
        destination_rule_check(&checker);
        break;
    case OBJECT_KIND_PEER_AUTHENTICATION:
        peer_authentication_check(&checker);
        break;
    }
    return checker.good;
}
