#include "sidecar/config/compile_listener.h"

#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb-c.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb-c.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"

#include "sidecar/config/compile_http.h"
#include "sidecar/config/compile_tls.h"

#define LIS(type)       Envoy__Config__Listener__V3__##type
#define LIS_IS(name)    ENVOY__CONFIG__LISTENER__V3__##name
#define CORE(type)      Envoy__Config__Core__V3__##type
#define NETWORK(name)   envoy__extensions__filters__network__##name##__descriptor
#define INSPECTOR(name) envoy__extensions__filters__listener__##name##__descriptor

#define INSPECT_TIMEOUT_US (15 * SECOND_US)

/* ---- chain matches ---- */

static bool cidrs_of(struct compiler *c, const char *field, CORE(CidrRange) *const *ranges,
                     size_t count, const struct cidr **out, uint16_t *out_count)
{
    struct cidr *list = COMPILE_ARRAY(c, struct cidr, count);
    for (size_t i = 0; i < count; i++) {
        if (!COMPILE_IN(c, compile_cidr(c, ranges[i], &list[i]), "%s[%zu]", field, i)) {
            return false;
        }
    }
    *out = list;
    return compile_count(c, field, count, out_count);
}

static bool server_names(struct compiler *c, const LIS(FilterChainMatch) * match,
                         struct chain_match *out)
{
    struct slice *list = COMPILE_ARRAY(c, struct slice, match->n_server_names);
    for (size_t i = 0; i < match->n_server_names; i++) {
        const char *name = match->server_names[i];
        const char *star = strchr(name, '*');
        if (star != NULL && (star != name || (name[1] != '.' && name[1] != '\0') ||
                             strchr(star + 1, '*') != NULL)) {
            return compile_refuse(c, "server_names",
                                  "[%zu]: '%.80s': a '*' stands at the front, "
                                  "before a dot",
                                  i, name);
        }
        list[i] = compile_lower(c, name);
    }
    out->server_names = list;
    return compile_count(c, "server_names", match->n_server_names, &out->server_name_count);
}

static bool source_ports(struct compiler *c, const LIS(FilterChainMatch) * match,
                         struct chain_match *out)
{
    uint16_t *list = COMPILE_ARRAY(c, uint16_t, match->n_source_ports);
    for (size_t i = 0; i < match->n_source_ports; i++) {
        if (match->source_ports[i] == 0 || match->source_ports[i] > UINT16_MAX) {
            return compile_refuse(c, "source_ports", "[%zu] is %u; allowed is 1 to 65535", i,
                                  match->source_ports[i]);
        }
        list[i] = (uint16_t)match->source_ports[i];
    }
    out->source_ports = list;
    return compile_count(c, "source_ports", match->n_source_ports, &out->source_port_count);
}

static bool chain_match_of(struct compiler *c, const LIS(FilterChainMatch) * match,
                           struct chain_match *out)
{
    if (match == NULL) {
        return true;
    }
    uint32_t port;
    if (!compile_u32(c, "destination_port", match->destination_port, 0, 1, UINT16_MAX, &port)) {
        return false;
    }
    out->destination_port = (uint16_t)port;
    out->transport = compile_name(c, match->transport_protocol);
    out->alpn = compile_texts(c, match->application_protocols, match->n_application_protocols);
    switch (match->source_type) {
    case LIS_IS(FILTER_CHAIN_MATCH__CONNECTION_SOURCE_TYPE__ANY):
        out->source_type = SOURCE_ANY;
        break;
    case LIS_IS(FILTER_CHAIN_MATCH__CONNECTION_SOURCE_TYPE__SAME_IP_OR_LOOPBACK):
        out->source_type = SOURCE_LOCAL;
        break;
    case LIS_IS(FILTER_CHAIN_MATCH__CONNECTION_SOURCE_TYPE__EXTERNAL):
        out->source_type = SOURCE_EXTERNAL;
        break;
    default:
        return compile_refuse(c, "source_type", "has no value %d", (int)match->source_type);
    }
    return compile_count(c, "application_protocols", match->n_application_protocols,
                         &out->alpn_count) &&
           server_names(c, match, out) && source_ports(c, match, out) &&
           cidrs_of(c, "prefix_ranges", match->prefix_ranges, match->n_prefix_ranges,
                    &out->destinations, &out->destination_count) &&
           cidrs_of(c, "source_prefix_ranges", match->source_prefix_ranges,
                    match->n_source_prefix_ranges, &out->sources, &out->source_count) &&
           cidrs_of(c, "direct_source_prefix_ranges", match->direct_source_prefix_ranges,
                    match->n_direct_source_prefix_ranges, &out->direct_sources,
                    &out->direct_source_count);
}

/* ---- filters ---- */

static bool network_filter(struct compiler *c, const LIS(Filter) * filter, bool last,
                           struct filter_chain *out)
{
    const struct xds_type *type;
    void *message;
    if (!compile_required(c, "name", filter->name)) {
        return false;
    }
    if (filter->config_type_case != LIS_IS(FILTER__CONFIG_TYPE_TYPED_CONFIG)) {
        return compile_unknown(c, "config_type", filter->name);
    }
    if (!compile_any(c, "typed_config", filter->typed_config, XDS_NETWORK_FILTER, &type,
                     &message)) {
        return false;
    }
    if (message == NULL) {
        return !last || compile_refuse(c, NULL, "the last filter must handle the connection");
    }
    compile_enter(c, "typed_config");
    bool good;
    if (type->descriptor == &NETWORK(http_connection_manager__v3__http_connection_manager)) {
        struct hcm_config *http = ARENA_NEW(c->arena, struct hcm_config);
        out->kind = CHAIN_HTTP;
        out->http = http;
        good = compile_hcm(c, message, http);
    } else if (type->descriptor == &NETWORK(tcp_proxy__v3__tcp_proxy)) {
        struct tcp_config *tcp = ARENA_NEW(c->arena, struct tcp_config);
        out->kind = CHAIN_TCP;
        out->tcp = tcp;
        good = compile_tcp_proxy(c, message, tcp);
    } else {
        good = compile_unknown(c, NULL, type->url);
    }
    return compile_leave(c, good) &&
           (last || compile_refuse(c, NULL, "nothing may follow this filter"));
}

static bool chain_filters(struct compiler *c, const LIS(FilterChain) * chain,
                          struct filter_chain *out)
{
    if (chain->n_filters == 0) {
        return compile_refuse(c, "filters", "must not be empty");
    }
    for (size_t i = 0; i < chain->n_filters; i++) {
        bool last = i + 1 == chain->n_filters;
        if (!COMPILE_IN(c, network_filter(c, chain->filters[i], last, out), "filters[%zu]", i)) {
            return false;
        }
    }
    return true;
}

static bool chain_of(struct compiler *c, const LIS(FilterChain) * chain, struct filter_chain *out)
{
    out->name = compile_name(c, chain->name);
    out->origin = compile_origin(c, chain->metadata);
    if (!COMPILE_IN(c, chain_match_of(c, chain->filter_chain_match, &out->match),
                    "filter_chain_match") ||
        !compile_duration(c, "transport_socket_connect_timeout",
                          chain->transport_socket_connect_timeout, 0, &out->tls_timeout_us) ||
        !compile_transport(c, "transport_socket", chain->transport_socket, true, &out->tls)) {
        return false;
    }
    c->unknown_extension = false;
    if (chain_filters(c, chain, out)) {
        return true;
    }
    if (!c->unknown_extension || !c->options->quarantine) {
        return false;
    }
    out->kind = CHAIN_QUARANTINED;
    out->quarantine = compile_text(c, c->err != NULL ? c->err->text : "an unknown extension");
    return true;
}

static bool cidrs_equal(const struct cidr *a, unsigned a_count, const struct cidr *b,
                        unsigned b_count)
{
    if (a_count != b_count) {
        return false;
    }
    for (unsigned i = 0; i < a_count; i++) {
        if (a[i].prefix_len != b[i].prefix_len || !addr_ip_eq(&a[i].addr, &b[i].addr)) {
            return false;
        }
    }
    return true;
}

static bool texts_equal(const struct slice *a, unsigned a_count, const struct slice *b,
                        unsigned b_count)
{
    if (a_count != b_count) {
        return false;
    }
    for (unsigned i = 0; i < a_count; i++) {
        if (!slice_eq(a[i], b[i])) {
            return false;
        }
    }
    return true;
}

/* Written alike. Envoy refuses such a pair, and what overlaps only in part too; the latter is
 * decided here by the order of the chains. */
static bool matches_equal(const struct chain_match *a, const struct chain_match *b)
{
    return a->destination_port == b->destination_port && a->source_type == b->source_type &&
           slice_eq(a->transport, b->transport) &&
           texts_equal(a->alpn, a->alpn_count, b->alpn, b->alpn_count) &&
           texts_equal(a->server_names, a->server_name_count, b->server_names,
                       b->server_name_count) &&
           cidrs_equal(a->destinations, a->destination_count, b->destinations,
                       b->destination_count) &&
           cidrs_equal(a->sources, a->source_count, b->sources, b->source_count) &&
           cidrs_equal(a->direct_sources, a->direct_source_count, b->direct_sources,
                       b->direct_source_count) &&
           a->source_port_count == b->source_port_count &&
           (a->source_port_count == 0 ||
            memcmp(a->source_ports, b->source_ports,
                   sizeof(*a->source_ports) * a->source_port_count) == 0);
}

static bool chains_of(struct compiler *c, const LIS(Listener) * listener,
                      struct listener_config *out)
{
    if (listener->n_filter_chains > LISTENER_CHAINS_MAX) {
        return compile_refuse(c, "filter_chains", "has %zu items; at most %d are allowed",
                              listener->n_filter_chains, LISTENER_CHAINS_MAX);
    }
    struct filter_chain *chains = COMPILE_ARRAY(c, struct filter_chain, listener->n_filter_chains);
    for (size_t i = 0; i < listener->n_filter_chains; i++) {
        if (!COMPILE_IN(c, chain_of(c, listener->filter_chains[i], &chains[i]),
                        "filter_chains[%zu]", i)) {
            return false;
        }
        for (size_t before = 0; before < i; before++) {
            if (matches_equal(&chains[before].match, &chains[i].match)) {
                return compile_refuse(c, "filter_chains",
                                      "[%zu] and [%zu] have the same matching rules", before, i);
            }
        }
    }
    out->chains = chains;
    out->chain_count = (uint32_t)listener->n_filter_chains;
    if (listener->default_filter_chain != NULL) {
        struct filter_chain *fallback = ARENA_NEW(c->arena, struct filter_chain);
        out->fallback = fallback;
        return COMPILE_IN(c, chain_of(c, listener->default_filter_chain, fallback),
                          "default_filter_chain");
    }
    return out->chain_count > 0 || listener->use_original_dst != NULL ||
           compile_refuse(c, "filter_chains", "must not be empty");
}

/* ---- the listener ---- */

static bool listener_filter(struct compiler *c, const LIS(ListenerFilter) * filter,
                            struct listener_config *out)
{
    const struct xds_type *type;
    void *message;
    if (!compile_required(c, "name", filter->name) ||
        !compile_any(c, "typed_config",
                     filter->config_type_case == LIS_IS(LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG)
                         ? filter->typed_config
                         : NULL,
                     XDS_LISTENER_FILTER, &type, &message)) {
        return false;
    }
    if (filter->filter_disabled != NULL) {
        return compile_refuse(c, "filter_disabled", "is not supported");
    }
    if (type->descriptor == &INSPECTOR(original_dst__v3__original_dst)) {
        out->restore_original_dst = true;
    } else if (type->descriptor == &INSPECTOR(tls_inspector__v3__tls_inspector)) {
        out->inspect_tls = true;
    } else if (type->descriptor == &INSPECTOR(http_inspector__v3__http_inspector)) {
        out->inspect_http = true;
    } else if (message != NULL) {
        return compile_unknown(c, "typed_config", type->url);
    }
    return true;
}

static bool addresses_of(struct compiler *c, const LIS(Listener) * listener,
                         struct listener_config *out)
{
    if (!compile_address(c, "address", listener->address, &out->addr)) {
        return false;
    }
    struct addr *more = COMPILE_ARRAY(c, struct addr, listener->n_additional_addresses);
    for (size_t i = 0; i < listener->n_additional_addresses; i++) {
        if (!COMPILE_IN(
                c,
                compile_address(c, "address", listener->additional_addresses[i]->address, &more[i]),
                "additional_addresses[%zu]", i)) {
            return false;
        }
    }
    out->more = more;
    return compile_count(c, "additional_addresses", listener->n_additional_addresses,
                         &out->more_count);
}

static bool unsupported(struct compiler *c, const LIS(Listener) * listener)
{
    if (listener->listener_specifier_case != LIS_IS(LISTENER__LISTENER_SPECIFIER__NOT_SET)) {
        return compile_refuse(c, "internal_listener", "is not supported");
    }
    if (listener->filter_chain_matcher != NULL) {
        return compile_refuse(c, "filter_chain_matcher", "is not supported");
    }
    if (compile_bool(listener->transparent, false)) {
        return compile_refuse(c, "transparent", "is not supported");
    }
    return listener->n_socket_options == 0 ||
           compile_refuse(c, "socket_options", "are not supported");
}

static bool direction_of(struct compiler *c, const LIS(Listener) * listener,
                         struct listener_config *out)
{
    if ((unsigned)listener->traffic_direction > LISTENER_OUTBOUND) {
        return compile_refuse(c, "traffic_direction", "has no value %d",
                              (int)listener->traffic_direction);
    }
    out->direction = (enum listener_direction)listener->traffic_direction;
    return true;
}

bool compile_listener(struct compiler *c, const LIS(Listener) * listener,
                      struct listener_config *out)
{
    *out = (struct listener_config){.name = compile_name(c, listener->name)};
    out->stat_prefix = compile_name(c, listener->stat_prefix);
    out->origin = compile_origin(c, listener->metadata);
    out->workload =
        compile_struct_text(c, compile_metadata(listener->metadata, "istio"), "workload");
    out->bind = compile_bool(listener->bind_to_port, true);
    out->original_dst = compile_bool(listener->use_original_dst, false);
    out->go_on_at_timeout = listener->continue_on_listener_filters_timeout;
    if (listener->api_listener != NULL) {
        return compile_refuse(c, "api_listener", "is for gRPC clients only");
    }
    for (size_t i = 0; i < listener->n_listener_filters; i++) {
        if (!COMPILE_IN(c, listener_filter(c, listener->listener_filters[i], out),
                        "listener_filters[%zu]", i)) {
            return false;
        }
    }
    return unsupported(c, listener) && direction_of(c, listener, out) &&
           addresses_of(c, listener, out) &&
           compile_duration(c, "listener_filters_timeout", listener->listener_filters_timeout,
                            INSPECT_TIMEOUT_US, &out->inspect_timeout_us) &&
           compile_access_logs(c, listener->access_log, listener->n_access_log, &out->access_logs,
                               &out->access_log_count) &&
           chains_of(c, listener, out);
}
