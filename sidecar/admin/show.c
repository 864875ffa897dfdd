#include "sidecar/admin/show.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/spiffe.h"
#include "base/tls.h"
#include "sidecar/accept/listener.h"
#include "sidecar/config/destinations.h"
#include "sidecar/exchange/record.h"
#include "sidecar/exchange/server.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/cluster.h"
#include "sidecar/upstream/pool.h"
#include "sidecar/worker.h"

/* ---- JSON ---- */

static void set(json_t *object, const char *key, json_t *value)
{
    CHECK(json_object_set_new(object, key, value) == 0);
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    set(object, key, json_integer((json_int_t)value));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    set(object, key, json_string(text));
}

/* Left out where it is empty, or (a peer's bytes) no UTF-8. */
static void set_slice(json_t *object, const char *key, struct slice text)
{
    json_t *value = text.len > 0 ? json_stringn((const char *)text.at, text.len) : NULL;
    if (value != NULL) {
        set(object, key, value);
    }
}

static void set_addr(json_t *object, const char *key, const struct addr *addr)
{
    char text[ADDR_TEXT_MAX];
    if (addr->family != ADDR_NONE) {
        set_text(object, key, addr_format(addr, text));
    }
}

static void append(json_t *list, json_t *value)
{
    CHECK(json_array_append_new(list, value) == 0);
}

static void set_origin(json_t *object, const struct origin *origin)
{
    if (origin == NULL) {
        return;
    }
    json_t *from = json_object();
    set_slice(from, "object", origin->object);
    set_slice(from, "file", origin->file);
    set_number(from, "line", origin->line);
    set_number(from, "generation", origin->generation);
    set_number(from, "id", origin->id);
    set(object, "origin", from);
}

/* ---- gauges ---- */

static uint64_t upstream_connections(const struct worker *worker)
{
    uint64_t sum = 0;
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        const struct cluster *cluster = entry->value;
        for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
            const struct pool *pool = cluster->endpoints[i]->pool;
            if (pool != NULL) {
                struct pool_counts counts = pool_counts(pool);
                sum += counts.connecting + counts.idle + counts.busy;
            }
        }
    }
    return sum;
}

json_t *show_gauges(struct worker *worker, struct slice argument)
{
    (void)argument;
    uint64_t downstream = 0;
    LIST_EACH(&worker->servers, node)
    {
        downstream++;
    }
    struct stats_worker *stats = worker->stats;
    stats_set(stats, STAT_EXCHANGES_OPEN, worker_exchanges_open(worker));
    stats_set_by(stats, STAT_CONNECTIONS_OPEN, STATS_DOWNSTREAM, "downstream", (int64_t)downstream);
    stats_set_by(stats, STAT_CONNECTIONS_OPEN, STATS_UPSTREAM, "upstream",
                 (int64_t)upstream_connections(worker));
    if (worker->index == 0 && worker->keys.identity != NULL) { /* all workers have the same */
        stats_set(
            stats, STAT_CERTIFICATE_EXPIRY,
            (int64_t)(tls_identity_get_validity(worker->keys.identity)->not_after_us / 1000000));
    }
    stats_count_up_to(stats, STAT_ALLOCATIONS, alloc_counts().calls);
    stats_worker_sweep(stats, worker->loop->now_us);
    return json_null();
}

/* ---- clusters ---- */

/* What each worker counts for itself. */
#define POOL_COUNTS(X) X(connecting) X(idle) X(busy) X(waiting)

static const char *health_name(enum endpoint_health health)
{
    switch (health) {
    case ENDPOINT_HEALTHY:
        return "healthy";
    case ENDPOINT_DEGRADED:
        return "degraded";
    case ENDPOINT_DRAINING:
        return "draining";
    case ENDPOINT_UNHEALTHY:
        break;
    }
    return "unhealthy";
}

static json_t *endpoint_json(const struct endpoint *endpoint)
{
    const struct endpoint_config *config = &endpoint->config;
    json_t *object = json_object();
    set_addr(object, "address", &config->addr);
    set_slice(object, "hostname", config->hostname);
    set_slice(object, "identity", config->identity);
    set_slice(object, "workload", config->workload);
    set_number(object, "weight", config->weight);
    set_number(object, "priority", endpoint->priority);
    set_text(object, "health", health_name((enum endpoint_health)config->health));
    set(object, "available", json_boolean(endpoint_available(endpoint)));
    set(object, "ejected", json_boolean(endpoint_ejected(endpoint)));
    set(object, "peer_draining", json_boolean(endpoint->peer_shy));
    set(object, "tls", json_boolean(endpoint->tls != NULL));
    set_number(object, "active", endpoint_active(endpoint));
    struct pool_counts counts = {.connecting = 0};
    if (endpoint->pool != NULL) {
        counts = pool_counts(endpoint->pool);
    }
#define X(member) set_number(object, #member, counts.member);
    POOL_COUNTS(X)
#undef X
    return object;
}

static uint32_t shared_count(const struct shared_count *count)
{
    return atomic_load_explicit(&count->value, memory_order_relaxed);
}

static json_t *cluster_json(const struct cluster *cluster)
{
    const struct shared_cluster *shared = cluster->shared;
    json_t *object = json_object();
    set_slice(object, "name", cluster->config->name);
    set_origin(object, cluster->config->origin);
    set(object, "warm", json_boolean(cluster->warm));
    set_number(object, "endpoints_available", cluster_available(cluster));
    set_number(object, "active", shared_count(&shared->active));
    set_number(object, "pending", shared_count(&shared->pending));
    set_number(object, "connections", shared_count(&shared->connections));
    set_number(object, "retries", shared_count(&shared->retries));
    set_number(object, "overflows", atomic_load_explicit(&shared->overflows, memory_order_relaxed));
    set_number(object, "ejections", atomic_load_explicit(&shared->ejections, memory_order_relaxed));
    json_t *endpoints = json_array();
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        append(endpoints, endpoint_json(cluster->endpoints[i]));
    }
    set(object, "endpoints", endpoints);
    return object;
}

json_t *show_clusters(struct worker *worker, struct slice argument)
{
    (void)argument;
    json_t *list = json_array();
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        append(list, cluster_json(entry->value));
    }
    return list;
}

/* The element of a list of objects whose text member is the same as in `like`. */
static json_t *find_like(const json_t *list, const json_t *like, const char *member)
{
    size_t i;
    json_t *element;
    json_array_foreach(list, i, element)
    {
        if (json_equal(json_object_get(element, member), json_object_get(like, member))) {
            return element;
        }
    }
    return NULL;
}

static void add_endpoint(json_t *sum, const json_t *more)
{
    static const char *const members[] = {
#define X(member) #member,
        POOL_COUNTS(X)
#undef X
    };
    for (unsigned i = 0; i < COUNT_OF(members); i++) {
        json_int_t value = json_integer_value(json_object_get(sum, members[i])) +
                           json_integer_value(json_object_get(more, members[i]));
        set(sum, members[i], json_integer(value));
    }
}

void show_add_clusters(json_t *sum, const json_t *more)
{
    size_t c;
    json_t *cluster;
    json_array_foreach(more, c, cluster)
    {
        json_t *same = find_like(sum, cluster, "name");
        if (same == NULL) { /* applied between the two answers */
            CHECK(json_array_append(sum, cluster) == 0);
            continue;
        }
        size_t e;
        json_t *endpoint;
        json_array_foreach(json_object_get(cluster, "endpoints"), e, endpoint)
        {
            json_t *known = find_like(json_object_get(same, "endpoints"), endpoint, "address");
            if (known != NULL) {
                add_endpoint(known, endpoint);
            }
        }
    }
}

/* ---- configuration ---- */

static json_t *targets_json(const struct route_table *table, const struct route_forward *forward)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < forward->target_count; i++) {
        const struct route_target *target = &forward->targets[i];
        json_t *object = json_object();
        set_slice(object, "cluster", table->clusters[target->cluster]);
        set_number(object, "weight", target->weight);
        set_origin(object, target->origin);
        append(list, object);
    }
    return list;
}

static const char *path_kind_name(enum path_match_kind kind)
{
    switch (kind) {
    case PATH_MATCH_PREFIX:
        return "prefix";
    case PATH_MATCH_EXACT:
        return "exact";
    case PATH_MATCH_SEPARATED_PREFIX:
        return "separated_prefix";
    case PATH_MATCH_REGEX:
        return "regex";
    case PATH_MATCH_CONNECT:
        break;
    }
    return "connect";
}

static json_t *route_json(const struct route_table *table, const struct route *route)
{
    json_t *object = json_object();
    set_slice(object, "name", route->name);
    set_text(object, "path_match", path_kind_name((enum path_match_kind)route->match.path_kind));
    set_slice(object, "path", route->match.path);
    set_number(object, "header_matches", route->match.header_count);
    set_number(object, "query_matches", route->match.query_count);
    set_origin(object, route->origin);
    switch (route->kind) {
    case ROUTE_FORWARD:
        set(object, "targets", targets_json(table, &route->forward));
        set_slice(object, "cluster_header", route->forward.cluster_header);
        set_number(object, "timeout_us", route->forward.timeout_us);
        if (route->forward.retry != NULL) {
            set_number(object, "max_retries", route->forward.retry->max_retries);
            set_number(object, "try_timeout_us", route->forward.retry->try_timeout_us);
        }
        break;
    case ROUTE_REDIRECT:
        set_number(object, "redirect", route->redirect.status);
        break;
    case ROUTE_DIRECT:
        set_number(object, "direct", route->direct.status);
        break;
    case ROUTE_NOT_FORWARDING:
        set(object, "not_forwarding", json_true());
        break;
    }
    return object;
}

static void append_domains(json_t *list, const struct domain *domains, uint32_t count,
                           uint32_t host, const char *before, const char *behind)
{
    char text[300];
    for (uint32_t i = 0; i < count; i++) {
        if (domains[i].host == host) {
            (void)snprintf(text, sizeof text, "%s%.*s%s", before, SLICE_ARG(domains[i].text),
                           behind);
            append(list, json_string(text));
        }
    }
}

static json_t *host_json(const struct route_table *table, uint32_t number)
{
    const struct virtual_host *host = &table->hosts[number];
    json_t *object = json_object();
    set_slice(object, "name", host->name);
    json_t *domains = json_array();
    append_domains(domains, table->exact, table->exact_count, number, "", "");
    append_domains(domains, table->suffixes, table->suffix_count, number, "*", "");
    append_domains(domains, table->prefixes, table->prefix_count, number, "", "*");
    if (table->any == (int64_t)number) {
        append(domains, json_string("*"));
    }
    set(object, "domains", domains);
    json_t *routes = json_array();
    for (uint32_t i = 0; i < host->route_count; i++) {
        append(routes, route_json(table, &host->routes[i]));
    }
    set(object, "routes", routes);
    return object;
}

static json_t *table_json(const struct route_table *table)
{
    json_t *object = json_object();
    set_slice(object, "name", table->name);
    json_t *hosts = json_array();
    for (uint32_t i = 0; i < table->host_count; i++) {
        append(hosts, host_json(table, i));
    }
    set(object, "virtual_hosts", hosts);
    return object;
}

static json_t *chain_json(struct listener *listener, const struct filter_chain *chain)
{
    json_t *object = json_object();
    set_slice(object, "name", chain->name);
    set(object, "tls", json_boolean(chain->tls != NULL));
    set_origin(object, chain->origin);
    switch (chain->kind) {
    case CHAIN_HTTP: {
        const struct service *service = listener_service(listener, chain);
        set_text(object, "kind", "http");
        set_slice(object, "rds", chain->http->rds);
        if (service->binding.table != NULL) {
            set(object, "route_table", table_json(service->binding.table));
        }
        break;
    }
    case CHAIN_TCP:
        set_text(object, "kind", "tcp");
        set_slice(object, "cluster", chain->tcp->targets[0].cluster);
        break;
    case CHAIN_QUARANTINED:
        set_text(object, "kind", "quarantined");
        set_slice(object, "why", chain->quarantine);
        break;
    }
    return object;
}

/* A listener of a place has a config only once an inbound one came. */
static json_t *listener_json(struct listener *listener)
{
    static const char *const directions[] = {"unspecified", "inbound", "outbound"};
    const struct listener_config *config = listener->config;
    const struct listener_place *place = listener->place;
    json_t *object = json_object();
    if (place != NULL) {
        set_addr(object, "listens", &place->at);
        set(object, "captured", json_boolean(place->captured));
        set_slice(object, "key", place->key);
    }
    if (config == NULL) {
        CHECK(place != NULL);
        set_text(object, "direction", directions[place->direction]);
        return object;
    }
    set_slice(object, "name", config->name);
    set_origin(object, config->origin);
    json_t *chains = json_array();
    for (uint32_t i = 0; i < config->chain_count; i++) {
        append(chains, chain_json(listener, &config->chains[i]));
    }
    if (config->fallback != NULL) {
        append(chains, chain_json(listener, config->fallback));
    }
    set(object, "chains", chains);
    return object;
}

static json_t *destinations_json(const struct destinations *destinations)
{
    static const char *const outcomes[] = {"",      "service", "workload", "passthrough",
                                           "block", "external"};
    json_t *list = json_array();
    MAP_EACH(&destinations->entries, at)
    {
        const struct destination_entry *entry = at->value;
        json_t *object = json_object();
        set_slice(object, "key", entry->key);
        set_text(object, "state", destination_state_name(entry->state));
        if (entry->config != NULL) {
            set_slice(object, "name", entry->config->name);
            set_text(object, "outcome", outcomes[entry->config->outcome]);
            set_number(object, "covers", entry->config->cover_count);
        }
        append(list, object);
    }
    return list;
}

json_t *show_config(struct worker *worker, struct slice argument)
{
    (void)argument;
    json_t *object = json_object();
    json_t *listeners = json_array();
    LIST_EACH(&worker->listeners, node)
    {
        append(listeners, listener_json(LIST_ITEM(node, struct listener, link)));
    }
    set(object, "listeners", listeners);
    json_t *clusters = json_array();
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        const struct cluster_config *config = ((const struct cluster *)entry->value)->config;
        json_t *cluster = json_object();
        set_slice(cluster, "name", config->name);
        set_slice(cluster, "service_name", config->service_name);
        set_number(cluster, "connect_timeout_us", config->connect_timeout_us);
        set(cluster, "tls", json_boolean(config->tls != NULL || config->match_count > 0));
        set_origin(cluster, config->origin);
        append(clusters, cluster);
    }
    set(object, "clusters", clusters);
    if (worker->destinations != NULL) {
        set(object, "destinations", destinations_json(worker->destinations));
    }
    return object;
}

/* ---- certificates ---- */

static json_t *identity_json(const struct tls_identity *identity, struct slice where)
{
    const struct tls_validity *validity = tls_identity_get_validity(identity);
    const struct spiffe_names *names = tls_identity_get_names(identity);
    char from[CLOCK_TEXT_BYTES];
    char until[CLOCK_TEXT_BYTES];
    clock_text(validity->not_before_us, from);
    clock_text(validity->not_after_us, until);
    json_t *object = json_object();
    set_slice(object, "used_by", where);
    set_slice(object, "identity", slice_of_text(names->identity));
    set_slice(object, "uid", slice_of_text(names->uid));
    set_text(object, "serial", validity->serial);
    set_text(object, "valid_from", from);
    set_text(object, "expires", until);
    return object;
}

static void append_context(json_t *list, const struct tls_config *tls, struct slice where)
{
    const struct tls_identity *identity =
        tls != NULL && tls->context != NULL ? tls_context_get_identity(tls->context) : NULL;
    if (identity != NULL) {
        append(list, identity_json(identity, where));
    }
}

json_t *show_certs(struct worker *worker, struct slice argument)
{
    (void)argument;
    json_t *list = json_array();
    if (worker->keys.identity != NULL) {
        append(list, identity_json(worker->keys.identity, SLICE("workload")));
    }
    LIST_EACH(&worker->listeners, node)
    {
        const struct listener_config *config = LIST_ITEM(node, struct listener, link)->config;
        for (uint32_t i = 0; config != NULL && i < config->chain_count; i++) {
            append_context(list, config->chains[i].tls, config->name);
        }
    }
    MAP_EACH(&worker->clusters.by_name, entry)
    {
        const struct cluster_config *config = ((const struct cluster *)entry->value)->config;
        append_context(list, config->tls, config->name);
        for (unsigned i = 0; i < config->match_count; i++) {
            append_context(list, config->matches[i].tls, config->name);
        }
    }
    return list;
}

/* ---- exchanges ---- */

json_t *show_exchanges(struct worker *worker, struct slice argument)
{
    return recorder_json(worker->recorder, worker->index, argument);
}
