/* Every field of every kind, a line each. FIELD: read. FIELD_LATER: known, refused by name until it
 * is supported. FIELD_TOLERATED: of no meaning for a mesh. What stands in no table is refused as
 * unknown. Names and meanings: Kubernetes' API reference (core/v1, discovery.k8s.io/v1) and Istio's
 * (networking, security). */
#include "policy/parse_tables.h"

#include <string.h>

/* ---- fields with a form of their own ---- */

/* StringMatch: one of exact, prefix, regex; nothing in it: the value only has to be there. */
static void read_string_match(struct field_reader *reader, const struct yaml_node *node, void *to,
                              const struct field *field)
{
    static const struct {
        const char *name;
        enum string_match_kind kind;
    } forms[] = {
        {"exact", STRING_MATCH_EXACT},
        {"prefix", STRING_MATCH_PREFIX},
        {"regex", STRING_MATCH_REGEX},
    };
    (void)field;
    if (!field_expect(reader, node, YAML_KIND_MAPPING)) {
        return;
    }
    struct string_match *match = to;
    match->line = node->line;
    match->kind = STRING_MATCH_PRESENT;
    YAML_EACH(node, child)
    {
        size_t path = field_enter(reader, child->key);
        size_t form = 0;
        while (form < COUNT_OF(forms) && !slice_eq(slice_of_text(forms[form].name), child->key)) {
            form++;
        }
        if (form == COUNT_OF(forms)) {
            field_problem(reader, child->key_line,
                          "unknown field; allowed: one of exact, prefix, regex");
        } else if (match->value != NULL) {
            field_problem(reader, child->key_line, "only one of exact, prefix, regex can be set");
        } else if (field_expect(reader, child, YAML_KIND_STRING)) {
            match->kind = forms[form].kind;
            match->value = field_copy(reader, child);
            match->line = child->line;
        }
        field_leave(reader, path);
    }
}

static void read_named_matches(struct field_reader *reader, const struct yaml_node *node, void *to,
                               const struct field *field)
{
    if (!field_expect(reader, node, YAML_KIND_MAPPING) || node->count == 0) {
        return;
    }
    struct named_matches *list = to;
    list->line = node->line;
    list->at = ARENA_ARRAY(&reader->object->arena, struct named_match, node->count);
    YAML_EACH(node, child)
    {
        size_t path = field_enter_key(reader, child->key);
        struct named_match *named = &list->at[list->count++];
        named->name = arena_text(&reader->object->arena, child->key);
        named->match.line = child->line;
        if (child->kind != YAML_KIND_NULL) {
            read_string_match(reader, child, &named->match, field);
        }
        field_leave(reader, path);
    }
}

/* WorkloadEntry.ports: name -> port of the application. */
static void read_named_ports(struct field_reader *reader, const struct yaml_node *node, void *to,
                             const struct field *field)
{
    if (!field_expect(reader, node, YAML_KIND_MAPPING) || node->count == 0) {
        return;
    }
    struct named_port *at = ARENA_ARRAY(&reader->object->arena, struct named_port, node->count);
    OBJECT_LIST(struct named_port) list = {at, 0, node->line};
    YAML_EACH(node, child)
    {
        size_t path = field_enter_key(reader, child->key);
        struct number port = {0};
        field_port(reader, child, &port, field);
        at[list.count++] = (struct named_port){arena_text(&reader->object->arena, child->key),
                                               port.value, child->line};
        field_leave(reader, path);
    }
    memcpy(to, &list, sizeof list);
}

/* ServicePort.targetPort: a number or the name of a port of the workload. */
static void read_target_port(struct field_reader *reader, const struct yaml_node *node, void *to,
                             const struct field *field)
{
    struct service_port *port = to;
    if (node->kind == YAML_KIND_STRING) {
        field_text(reader, node, &port->target_port_name, field);
    } else {
        field_port(reader, node, &port->target_port, field);
    }
}

static const field_values mtls_modes = {
#define X(name, text) text,
    MTLS_MODES(X)
#undef X
        NULL};
static const struct field mutual_tls_fields[] = {
    FIELD(struct mutual_tls, mode, "mode", field_choice, mtls_modes),
};
static const struct field_shape mutual_tls_shape =
    FIELD_SHAPE(struct mutual_tls, mutual_tls_fields);

/* PeerAuthentication.portLevelMtls: port -> mode. */
static void read_port_mtls(struct field_reader *reader, const struct yaml_node *node, void *to,
                           const struct field *field)
{
    (void)field;
    if (!field_expect(reader, node, YAML_KIND_MAPPING) || node->count == 0) {
        return;
    }
    struct port_mutual_tls *at =
        ARENA_ARRAY(&reader->object->arena, struct port_mutual_tls, node->count);
    OBJECT_LIST(struct port_mutual_tls) list = {at, 0, node->line};
    YAML_EACH(node, child)
    {
        size_t path = field_enter_key(reader, child->key);
        uint64_t port = 0;
        if (!slice_to_u64(child->key, 65535, &port) || port == 0) {
            field_problem(reader, child->key_line, "the name must be a port; allowed: 1 to 65535");
        } else if (child->kind != YAML_KIND_NULL) {
            struct port_mutual_tls *item = &at[list.count++];
            item->port = (uint32_t)port;
            fields_read(reader, child, &item->mtls, &mutual_tls_shape);
        }
        field_leave(reader, path);
    }
    memcpy(to, &list, sizeof list);
}

/* ---- metadata ---- */

static const struct field metadata_fields[] = {
    FIELD(struct parse_metadata, name, "name", field_text, NULL),
    FIELD(struct parse_metadata, namespace, "namespace", field_text, NULL),
    FIELD(struct parse_metadata, uid, "uid", field_text, NULL),
    FIELD(struct parse_metadata, labels, "labels", field_labels, NULL),
    FIELD(struct parse_metadata, annotations, "annotations", field_labels, NULL),
    FIELD_TOLERATED("creationTimestamp"),
    FIELD_TOLERATED("deletionGracePeriodSeconds"),
    FIELD_TOLERATED("deletionTimestamp"),
    FIELD_TOLERATED("finalizers"),
    FIELD_TOLERATED("generateName"),
    FIELD_TOLERATED("generation"),
    FIELD_TOLERATED("managedFields"),
    FIELD_TOLERATED("ownerReferences"),
    FIELD_TOLERATED("resourceVersion"),
    FIELD_TOLERATED("selfLink"),
};
const struct field_shape parse_metadata_shape = FIELD_SHAPE(struct parse_metadata, metadata_fields);

/* ---- Service ---- */

static const field_values port_protocols = {
#define X(name, text) text,
    PORT_PROTOCOLS(X)
#undef X
        NULL};
static const field_values none_only = {"None", NULL};
static const field_values cluster_only = {"Cluster", NULL};
static const field_values service_types = {"ClusterIP", "NodePort", "LoadBalancer", NULL};

static const struct field service_port_fields[] = {
    FIELD(struct service_port, name, "name", field_text, NULL),
    FIELD(struct service_port, port, "port", field_port, NULL),
    {"targetPort", read_target_port, 0, NULL},
    FIELD(struct service_port, protocol, "protocol", field_choice, port_protocols),
    FIELD(struct service_port, app_protocol, "appProtocol", field_text, NULL),
    FIELD_TOLERATED("nodePort"),
};
static const struct field_shape service_port_shape =
    FIELD_SHAPE(struct service_port, service_port_fields);

static const struct field service_fields[] = {
    FIELD(struct service, selector, "selector", field_labels, NULL),
    FIELD(struct service, ports, "ports", field_list, &service_port_shape),
    FIELD(struct service, cluster_ip, "clusterIP", field_text, NULL),
    FIELD(struct service, cluster_ips, "clusterIPs", field_texts, NULL),
    {"type", field_only, 0, service_types},
    {"sessionAffinity", field_only, 0, none_only},
    {"internalTrafficPolicy", field_only, 0, cluster_only},
    FIELD_LATER("externalName"),
    FIELD_LATER("publishNotReadyAddresses"),
    FIELD_LATER("sessionAffinityConfig"),
    FIELD_LATER("trafficDistribution"),
    FIELD_TOLERATED("allocateLoadBalancerNodePorts"),
    FIELD_TOLERATED("externalIPs"),
    FIELD_TOLERATED("externalTrafficPolicy"),
    FIELD_TOLERATED("healthCheckNodePort"),
    FIELD_TOLERATED("ipFamilies"),
    FIELD_TOLERATED("ipFamilyPolicy"),
    FIELD_TOLERATED("loadBalancerClass"),
    FIELD_TOLERATED("loadBalancerIP"),
    FIELD_TOLERATED("loadBalancerSourceRanges"),
};
static const struct field_shape service_shape = FIELD_SHAPE(struct service, service_fields);

/* ---- Endpoints, EndpointSlice ---- */

static const struct field target_ref_fields[] = {
    FIELD(struct target_ref, kind, "kind", field_text, NULL),
    FIELD(struct target_ref, namespace, "namespace", field_text, NULL),
    FIELD(struct target_ref, name, "name", field_text, NULL),
    FIELD(struct target_ref, uid, "uid", field_text, NULL),
    FIELD_TOLERATED("apiVersion"),
    FIELD_TOLERATED("fieldPath"),
    FIELD_TOLERATED("resourceVersion"),
};
static const struct field_shape target_ref_shape =
    FIELD_SHAPE(struct target_ref, target_ref_fields);

static const struct field endpoint_port_fields[] = {
    FIELD(struct endpoint_port, name, "name", field_text, NULL),
    FIELD(struct endpoint_port, port, "port", field_port, NULL),
    FIELD(struct endpoint_port, protocol, "protocol", field_choice, port_protocols),
    FIELD(struct endpoint_port, app_protocol, "appProtocol", field_text, NULL),
};
static const struct field_shape endpoint_port_shape =
    FIELD_SHAPE(struct endpoint_port, endpoint_port_fields);

static const struct field endpoints_address_fields[] = {
    FIELD(struct endpoints_address, ip, "ip", field_text, NULL),
    FIELD(struct endpoints_address, hostname, "hostname", field_text, NULL),
    FIELD(struct endpoints_address, node_name, "nodeName", field_text, NULL),
    FIELD(struct endpoints_address, target, "targetRef", field_pointer, &target_ref_shape),
};
static const struct field_shape endpoints_address_shape =
    FIELD_SHAPE(struct endpoints_address, endpoints_address_fields);

static const struct field endpoints_subset_fields[] = {
    FIELD(struct endpoints_subset, addresses, "addresses", field_list, &endpoints_address_shape),
    FIELD(struct endpoints_subset, not_ready, "notReadyAddresses", field_list,
          &endpoints_address_shape),
    FIELD(struct endpoints_subset, ports, "ports", field_list, &endpoint_port_shape),
};
static const struct field_shape endpoints_subset_shape =
    FIELD_SHAPE(struct endpoints_subset, endpoints_subset_fields);

static const struct field endpoints_fields[] = {
    FIELD(struct endpoints, subsets, "subsets", field_list, &endpoints_subset_shape),
};
static const struct field_shape endpoints_shape = FIELD_SHAPE(struct endpoints, endpoints_fields);

static const struct field conditions_fields[] = {
    FIELD(struct slice_conditions, ready, "ready", field_flag, NULL),
    FIELD(struct slice_conditions, serving, "serving", field_flag, NULL),
    FIELD(struct slice_conditions, terminating, "terminating", field_flag, NULL),
};
static const struct field_shape conditions_shape =
    FIELD_SHAPE(struct slice_conditions, conditions_fields);

static const struct field slice_endpoint_fields[] = {
    FIELD(struct slice_endpoint, addresses, "addresses", field_texts, NULL),
    FIELD(struct slice_endpoint, conditions, "conditions", field_pointer, &conditions_shape),
    FIELD(struct slice_endpoint, hostname, "hostname", field_text, NULL),
    FIELD(struct slice_endpoint, node_name, "nodeName", field_text, NULL),
    FIELD(struct slice_endpoint, zone, "zone", field_text, NULL),
    FIELD(struct slice_endpoint, target, "targetRef", field_pointer, &target_ref_shape),
    FIELD_TOLERATED("deprecatedTopology"),
    FIELD_TOLERATED("hints"),
};
static const struct field_shape slice_endpoint_shape =
    FIELD_SHAPE(struct slice_endpoint, slice_endpoint_fields);

static const struct field endpoint_slice_fields[] = {
    FIELD(struct endpoint_slice, address_type, "addressType", field_text, NULL),
    FIELD(struct endpoint_slice, endpoints, "endpoints", field_list, &slice_endpoint_shape),
    FIELD(struct endpoint_slice, ports, "ports", field_list, &endpoint_port_shape),
};
static const struct field_shape endpoint_slice_shape =
    FIELD_SHAPE(struct endpoint_slice, endpoint_slice_fields);

/* ---- WorkloadEntry ---- */

static const struct field workload_entry_fields[] = {
    FIELD(struct workload_entry, address, "address", field_text, NULL),
    FIELD(struct workload_entry, ports, "ports", read_named_ports, NULL),
    FIELD(struct workload_entry, labels, "labels", field_labels, NULL),
    FIELD(struct workload_entry, network, "network", field_text, NULL),
    FIELD(struct workload_entry, locality, "locality", field_text, NULL),
    FIELD(struct workload_entry, weight, "weight", field_number, NULL),
    FIELD(struct workload_entry, service_account, "serviceAccount", field_text, NULL),
};
static const struct field_shape workload_entry_shape =
    FIELD_SHAPE(struct workload_entry, workload_entry_fields);

/* ---- VirtualService ---- */

static const field_values mesh_only = {"mesh", NULL};
static const field_values star_only = {"*", NULL};

static const struct field port_selector_fields[] = {
    FIELD(struct port_selector, number, "number", field_port, NULL),
};
static const struct field_shape port_selector_shape =
    FIELD_SHAPE(struct port_selector, port_selector_fields);

static const struct field http_match_fields[] = {
    FIELD(struct http_match, name, "name", field_text, NULL),
    FIELD(struct http_match, uri, "uri", read_string_match, NULL),
    FIELD(struct http_match, scheme, "scheme", read_string_match, NULL),
    FIELD(struct http_match, method, "method", read_string_match, NULL),
    FIELD(struct http_match, authority, "authority", read_string_match, NULL),
    FIELD(struct http_match, ignore_uri_case, "ignoreUriCase", field_flag, NULL),
    FIELD(struct http_match, headers, "headers", read_named_matches, NULL),
    FIELD(struct http_match, without_headers, "withoutHeaders", read_named_matches, NULL),
    FIELD(struct http_match, query_params, "queryParams", read_named_matches, NULL),
    FIELD(struct http_match, port, "port", field_port, NULL),
    FIELD(struct http_match, source_labels, "sourceLabels", field_labels, NULL),
    {"gateways", field_only, 0, mesh_only},
    FIELD_LATER("sourceNamespace"),
    FIELD_LATER("statPrefix"),
};
static const struct field_shape http_match_shape =
    FIELD_SHAPE(struct http_match, http_match_fields);

static const struct field header_edit_fields[] = {
    FIELD(struct header_edit, set, "set", field_labels, NULL),
    FIELD(struct header_edit, add, "add", field_labels, NULL),
    FIELD(struct header_edit, remove, "remove", field_texts, NULL),
};
static const struct field_shape header_edit_shape =
    FIELD_SHAPE(struct header_edit, header_edit_fields);

static const struct field header_edits_fields[] = {
    FIELD(struct header_edits, request, "request", field_message, &header_edit_shape),
    FIELD(struct header_edits, response, "response", field_message, &header_edit_shape),
};
static const struct field_shape header_edits_shape =
    FIELD_SHAPE(struct header_edits, header_edits_fields);

static const struct field route_target_fields[] = {
    FIELD(struct route_target, host, "host", field_text, NULL),
    FIELD(struct route_target, subset, "subset", field_text, NULL),
    FIELD(struct route_target, port, "port", field_message, &port_selector_shape),
};
static const struct field_shape route_target_shape =
    FIELD_SHAPE(struct route_target, route_target_fields);

static const struct field route_destination_fields[] = {
    FIELD(struct route_destination, destination, "destination", field_message, &route_target_shape),
    FIELD(struct route_destination, weight, "weight", field_number, NULL),
    FIELD(struct route_destination, headers, "headers", field_message, &header_edits_shape),
};
static const struct field_shape route_destination_shape =
    FIELD_SHAPE(struct route_destination, route_destination_fields);

static const struct field retries_fields[] = {
    FIELD(struct retries, attempts, "attempts", field_number, NULL),
    FIELD(struct retries, per_try_timeout, "perTryTimeout", field_duration, NULL),
    FIELD(struct retries, retry_on, "retryOn", field_text, NULL),
    FIELD(struct retries, retry_remote_localities, "retryRemoteLocalities", field_flag, NULL),
    FIELD_LATER("backoff"),
    FIELD_LATER("retryIgnorePreviousHosts"),
};
static const struct field_shape retries_shape = FIELD_SHAPE(struct retries, retries_fields);

static const struct field http_rule_fields[] = {
    FIELD(struct http_rule, name, "name", field_text, NULL),
    FIELD(struct http_rule, match, "match", field_list, &http_match_shape),
    FIELD(struct http_rule, route, "route", field_list, &route_destination_shape),
    FIELD(struct http_rule, timeout, "timeout", field_duration, NULL),
    FIELD(struct http_rule, retries, "retries", field_message, &retries_shape),
    FIELD(struct http_rule, headers, "headers", field_message, &header_edits_shape),
    FIELD_LATER("corsPolicy"),
    FIELD_LATER("delegate"),
    FIELD_LATER("directResponse"),
    FIELD_LATER("fault"),
    FIELD_LATER("mirror"),
    FIELD_LATER("mirrorPercent"),
    FIELD_LATER("mirrorPercentage"),
    FIELD_LATER("mirrors"),
    FIELD_LATER("redirect"),
    FIELD_LATER("rewrite"),
};
static const struct field_shape http_rule_shape = FIELD_SHAPE(struct http_rule, http_rule_fields);

/* Of connections: without headers. */
static const struct field l4_destination_fields[] = {
    FIELD(struct route_destination, destination, "destination", field_message, &route_target_shape),
    FIELD(struct route_destination, weight, "weight", field_number, NULL),
};
static const struct field_shape l4_destination_shape =
    FIELD_SHAPE(struct route_destination, l4_destination_fields);

static const struct field tcp_match_fields[] = {
    FIELD(struct l4_match, destination_subnets, "destinationSubnets", field_texts, NULL),
    FIELD(struct l4_match, port, "port", field_port, NULL),
    FIELD(struct l4_match, source_labels, "sourceLabels", field_labels, NULL),
    {"gateways", field_only, 0, mesh_only},
    FIELD_LATER("sourceNamespace"),
    FIELD_LATER("sourceSubnet"),
};
static const struct field_shape tcp_match_shape = FIELD_SHAPE(struct l4_match, tcp_match_fields);

static const struct field tls_match_fields[] = {
    FIELD(struct l4_match, sni_hosts, "sniHosts", field_texts, NULL),
    FIELD(struct l4_match, destination_subnets, "destinationSubnets", field_texts, NULL),
    FIELD(struct l4_match, port, "port", field_port, NULL),
    FIELD(struct l4_match, source_labels, "sourceLabels", field_labels, NULL),
    {"gateways", field_only, 0, mesh_only},
    FIELD_LATER("sourceNamespace"),
};
static const struct field_shape tls_match_shape = FIELD_SHAPE(struct l4_match, tls_match_fields);

static const struct field tcp_rule_fields[] = {
    FIELD(struct l4_rule, match, "match", field_list, &tcp_match_shape),
    FIELD(struct l4_rule, route, "route", field_list, &l4_destination_shape),
};
static const struct field_shape tcp_rule_shape = FIELD_SHAPE(struct l4_rule, tcp_rule_fields);

static const struct field tls_rule_fields[] = {
    FIELD(struct l4_rule, match, "match", field_list, &tls_match_shape),
    FIELD(struct l4_rule, route, "route", field_list, &l4_destination_shape),
};
static const struct field_shape tls_rule_shape = FIELD_SHAPE(struct l4_rule, tls_rule_fields);

static const struct field virtual_service_fields[] = {
    FIELD(struct virtual_service, hosts, "hosts", field_texts, NULL),
    FIELD(struct virtual_service, http, "http", field_list, &http_rule_shape),
    {"gateways", field_only, 0, mesh_only},
    {"exportTo", field_only, 0, star_only},
    FIELD(struct virtual_service, tls, "tls", field_list, &tls_rule_shape),
    FIELD(struct virtual_service, tcp, "tcp", field_list, &tcp_rule_shape),
};
static const struct field_shape virtual_service_shape =
    FIELD_SHAPE(struct virtual_service, virtual_service_fields);

/* ---- DestinationRule ---- */

static const field_values lb_simples = {
#define X(name, text) text,
    LB_SIMPLES(X)
#undef X
        NULL};
static const field_values tls_modes = {
#define X(name, text) text,
    TLS_MODES(X)
#undef X
        NULL};

static const struct field tcp_keepalive_fields[] = {
    FIELD(struct tcp_keepalive, probes, "probes", field_number, NULL),
    FIELD(struct tcp_keepalive, time, "time", field_duration, NULL),
    FIELD(struct tcp_keepalive, interval, "interval", field_duration, NULL),
};
static const struct field_shape tcp_keepalive_shape =
    FIELD_SHAPE(struct tcp_keepalive, tcp_keepalive_fields);

static const struct field tcp_pool_fields[] = {
    FIELD(struct tcp_pool, max_connections, "maxConnections", field_number, NULL),
    FIELD(struct tcp_pool, connect_timeout, "connectTimeout", field_duration, NULL),
    FIELD(struct tcp_pool, max_connection_duration, "maxConnectionDuration", field_duration, NULL),
    FIELD(struct tcp_pool, keepalive, "tcpKeepalive", field_message, &tcp_keepalive_shape),
    FIELD_LATER("idleTimeout"),
};
static const struct field_shape tcp_pool_shape = FIELD_SHAPE(struct tcp_pool, tcp_pool_fields);

static const struct field http_pool_fields[] = {
    FIELD(struct http_pool, http1_max_pending_requests, "http1MaxPendingRequests", field_number,
          NULL),
    FIELD(struct http_pool, http2_max_requests, "http2MaxRequests", field_number, NULL),
    FIELD(struct http_pool, max_requests_per_connection, "maxRequestsPerConnection", field_number,
          NULL),
    FIELD(struct http_pool, max_retries, "maxRetries", field_number, NULL),
    FIELD(struct http_pool, idle_timeout, "idleTimeout", field_duration, NULL),
    FIELD_LATER("h2UpgradePolicy"),
    FIELD_LATER("maxConcurrentStreams"),
    FIELD_LATER("useClientProtocol"),
};
static const struct field_shape http_pool_shape = FIELD_SHAPE(struct http_pool, http_pool_fields);

static const struct field connection_pool_fields[] = {
    FIELD(struct connection_pool, tcp, "tcp", field_message, &tcp_pool_shape),
    FIELD(struct connection_pool, http, "http", field_message, &http_pool_shape),
};
static const struct field_shape connection_pool_shape =
    FIELD_SHAPE(struct connection_pool, connection_pool_fields);

static const struct field load_balancer_fields[] = {
    FIELD(struct load_balancer, simple, "simple", field_choice, lb_simples),
    FIELD_LATER("consistentHash"),
    FIELD_LATER("localityLbSetting"),
    FIELD_LATER("warmup"),
    FIELD_LATER("warmupDurationSecs"),
};
static const struct field_shape load_balancer_shape =
    FIELD_SHAPE(struct load_balancer, load_balancer_fields);

static const struct field outlier_detection_fields[] = {
    FIELD(struct outlier_detection, consecutive_5xx_errors, "consecutive5xxErrors", field_number,
          NULL),
    FIELD(struct outlier_detection, consecutive_gateway_errors, "consecutiveGatewayErrors",
          field_number, NULL),
    FIELD(struct outlier_detection, split_external_local_origin_errors,
          "splitExternalLocalOriginErrors", field_flag, NULL),
    FIELD(struct outlier_detection, consecutive_local_origin_failures,
          "consecutiveLocalOriginFailures", field_number, NULL),
    FIELD(struct outlier_detection, interval, "interval", field_duration, NULL),
    FIELD(struct outlier_detection, base_ejection_time, "baseEjectionTime", field_duration, NULL),
    FIELD(struct outlier_detection, max_ejection_percent, "maxEjectionPercent", field_percent,
          NULL),
    FIELD(struct outlier_detection, min_health_percent, "minHealthPercent", field_percent, NULL),
    FIELD_LATER("consecutiveErrors"),
};
static const struct field_shape outlier_detection_shape =
    FIELD_SHAPE(struct outlier_detection, outlier_detection_fields);

static const struct field client_tls_fields[] = {
    FIELD(struct client_tls, mode, "mode", field_choice, tls_modes),
    FIELD_LATER("caCertificates"),
    FIELD_LATER("caCrl"),
    FIELD_LATER("clientCertificate"),
    FIELD_LATER("credentialName"),
    FIELD_LATER("insecureSkipVerify"),
    FIELD_LATER("privateKey"),
    FIELD_LATER("sni"),
    FIELD_LATER("subjectAltNames"),
};
static const struct field_shape client_tls_shape =
    FIELD_SHAPE(struct client_tls, client_tls_fields);

/* The four settings that a host, a port and a subset share. */
#define TRAFFIC_SETTINGS_FIELDS(type, prefix)                                                      \
    FIELD(type, prefix.load_balancer, "loadBalancer", field_message, &load_balancer_shape),        \
        FIELD(type, prefix.connection_pool, "connectionPool", field_message,                       \
              &connection_pool_shape),                                                             \
        FIELD(type, prefix.outlier_detection, "outlierDetection", field_message,                   \
              &outlier_detection_shape),                                                           \
        FIELD(type, prefix.tls, "tls", field_message, &client_tls_shape)

static const struct field port_settings_fields[] = {
    TRAFFIC_SETTINGS_FIELDS(struct port_settings, settings),
    FIELD(struct port_settings, port, "port", field_message, &port_selector_shape),
};
static const struct field_shape port_settings_shape =
    FIELD_SHAPE(struct port_settings, port_settings_fields);

static const struct field traffic_policy_fields[] = {
    TRAFFIC_SETTINGS_FIELDS(struct traffic_policy, settings),
    FIELD(struct traffic_policy, ports, "portLevelSettings", field_list, &port_settings_shape),
    FIELD_LATER("proxyProtocol"),
    FIELD_LATER("retryBudget"),
    FIELD_LATER("tunnel"),
};
static const struct field_shape traffic_policy_shape =
    FIELD_SHAPE(struct traffic_policy, traffic_policy_fields);

static const struct field subset_fields[] = {
    FIELD(struct subset, name, "name", field_text, NULL),
    FIELD(struct subset, labels, "labels", field_labels, NULL),
    FIELD(struct subset, policy, "trafficPolicy", field_message, &traffic_policy_shape),
};
static const struct field_shape subset_shape = FIELD_SHAPE(struct subset, subset_fields);

static const struct field destination_rule_fields[] = {
    FIELD(struct destination_rule, host, "host", field_text, NULL),
    FIELD(struct destination_rule, policy, "trafficPolicy", field_message, &traffic_policy_shape),
    FIELD(struct destination_rule, subsets, "subsets", field_list, &subset_shape),
    {"exportTo", field_only, 0, star_only},
    FIELD_LATER("workloadSelector"),
};
static const struct field_shape destination_rule_shape =
    FIELD_SHAPE(struct destination_rule, destination_rule_fields);

/* ---- PeerAuthentication ---- */

static const struct field workload_selector_fields[] = {
    FIELD(struct workload_selector, match_labels, "matchLabels", field_labels, NULL),
};
static const struct field_shape workload_selector_shape =
    FIELD_SHAPE(struct workload_selector, workload_selector_fields);

static const struct field peer_authentication_fields[] = {
    FIELD(struct peer_authentication, selector, "selector", field_message,
          &workload_selector_shape),
    FIELD(struct peer_authentication, mtls, "mtls", field_message, &mutual_tls_shape),
    FIELD(struct peer_authentication, ports, "portLevelMtls", read_port_mtls, NULL),
};
static const struct field_shape peer_authentication_shape =
    FIELD_SHAPE(struct peer_authentication, peer_authentication_fields);

const struct parse_kind *parse_kind_get(enum object_kind kind)
{
    static const struct parse_kind kinds[] = {
        [OBJECT_KIND_SERVICE] = {&service_shape, true},
        [OBJECT_KIND_ENDPOINTS] = {&endpoints_shape, false},
        [OBJECT_KIND_ENDPOINT_SLICE] = {&endpoint_slice_shape, false},
        [OBJECT_KIND_WORKLOAD_ENTRY] = {&workload_entry_shape, true},
        [OBJECT_KIND_VIRTUAL_SERVICE] = {&virtual_service_shape, true},
        [OBJECT_KIND_DESTINATION_RULE] = {&destination_rule_shape, true},
        [OBJECT_KIND_PEER_AUTHENTICATION] = {&peer_authentication_shape, true},
    };
    CHECK((size_t)kind < COUNT_OF(kinds));
    return &kinds[kind];
}
