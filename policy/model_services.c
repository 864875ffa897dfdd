/* Services and what stands behind them. Everything is found by binary search in sorted arrays: the
 * order never depends on addresses in memory or on a hash, so a picture is the same on every
 * machine. Workloads are chosen for a selector through an index of (namespace, key, value), so the
 * cost is that of the matches, not services times workloads. */
#include <stdlib.h>
#include <string.h>

#include "policy/array.h"
#include "policy/model_private.h"

#define TLS_MODE_LABEL     "security.istio.io/tlsMode"
#define SERVICE_NAME_LABEL "kubernetes.io/service-name"

/* A workload that may still change. */
struct building {
    struct model *model;
    struct model_workload **workloads;
    size_t count;
    struct label_entry {
        const char *namespace;
        const char *key;
        const char *value;
        struct model_workload *workload;
    } * labels; /* sorted */
    size_t label_count;
    struct model_service **services; /* sorted by host */
    size_t service_count;
};

/* ---- protocols ---- */

enum model_protocol model_protocol_of(const char *app_protocol, const char *port_name)
{
    static const struct {
        const char *name;
        enum model_protocol protocol;
    } names[] = {
        {"http", MODEL_PROTOCOL_HTTP1},
        {"http2", MODEL_PROTOCOL_HTTP2},
        {"h2c", MODEL_PROTOCOL_HTTP2},
        {"kubernetes.io/h2c", MODEL_PROTOCOL_HTTP2},
        {"kubernetes.io/ws", MODEL_PROTOCOL_HTTP1},
        {"grpc", MODEL_PROTOCOL_HTTP2},
        {"tcp", MODEL_PROTOCOL_TCP},
        {"mongo", MODEL_PROTOCOL_TCP},
        {"redis", MODEL_PROTOCOL_TCP},
        {"mysql", MODEL_PROTOCOL_SERVER_FIRST},
        {"tls", MODEL_PROTOCOL_TLS},
        {"https", MODEL_PROTOCOL_TLS},
    };
    /* "grpc-web" is a protocol of its own (HTTP/1.1 or 2); else the name ends at the first dash. */
    struct slice prefix = slice_of_text(port_name);
    bool web = slice_eq(prefix, SLICE("grpc-web")) || slice_starts(prefix, SLICE("grpc-web-"));
    prefix = web ? SLICE("http") : slice_head(prefix, slice_find(prefix, '-'));
    struct slice tries[] = {slice_of_text(app_protocol), prefix};
    for (size_t t = 0; t < COUNT_OF(tries); t++) {
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            if (slice_eq_nocase(tries[t], slice_of_text(names[i].name))) {
                return names[i].protocol;
            }
        }
    }
    return MODEL_PROTOCOL_AUTO;
}

/* ---- workloads ---- */

static const char *text_or_empty(struct text text)
{
    return text.value != NULL ? text.value : "";
}

/* Labels of the spec and of metadata in one; metadata's win, as in Istio. */
static struct labels labels_merge(struct arena *arena, const struct labels *spec,
                                  const struct labels *metadata)
{
    struct labels merged = {.line = spec->line > 0 ? spec->line : metadata->line};
    if (spec->count + metadata->count == 0) {
        return merged;
    }
    merged.at = ARENA_ARRAY(arena, struct label, spec->count + metadata->count);
    for (size_t i = 0; i < metadata->count; i++) {
        merged.at[merged.count++] = metadata->at[i];
    }
    for (size_t i = 0; i < spec->count; i++) {
        if (labels_get(metadata, spec->at[i].key) == NULL) {
            merged.at[merged.count++] = spec->at[i];
        }
    }
    return merged;
}

/* "region/zone/sub_zone", each part may be missing. */
static void locality_cut(struct arena *arena, struct slice text, struct model_workload *workload)
{
    struct slice rest = text;
    workload->region = arena_text(arena, slice_cut(&rest, '/'));
    workload->zone = rest.at != NULL ? arena_text(arena, slice_cut(&rest, '/')) : "";
    workload->sub_zone = rest.at != NULL ? arena_text(arena, rest) : "";
}

static struct model_workload *workload_new(struct building *building, const struct object *object,
                                           const struct addr *addr)
{
    struct arena *arena = &building->model->arena;
    char text[ADDR_TEXT_MAX];
    struct model_workload *workload = ARENA_NEW(arena, struct model_workload);
    workload->object = object;
    workload->namespace = object->namespace;
    workload->name = object->name;
    workload->addr = *addr;
    workload->addr.port = 0;
    workload->address = arena_text(arena, slice_of_text(addr_format_ip(addr, text)));
    workload->network = "";
    workload->uid = "";
    workload->region = "";
    workload->zone = "";
    workload->sub_zone = "";
    workload->weight = 1;
    ARRAY_PUSH(arena, building->workloads, building->count, workload);
    return workload;
}

static void workload_from_entry(struct building *building, const struct object *object)
{
    const struct workload_entry *entry = object_workload_entry(object);
    struct arena *arena = &building->model->arena;
    struct addr addr;
    if (!addr_parse_ip(slice_of_text(entry->address.value), &addr)) {
        return; /* refused by policy/validate */
    }
    struct model_workload *workload = workload_new(building, object, &addr);
    workload->network = text_or_empty(entry->network);
    workload->uid = object->uid;
    workload->labels = labels_merge(arena, &entry->labels, &object->labels);
    if (entry->weight.value > 0) {
        workload->weight = entry->weight.value;
    }
    if (text_or_empty(entry->locality)[0] != '\0') {
        locality_cut(arena, slice_of_text(entry->locality.value), workload);
    }
    if (text_or_empty(entry->service_account)[0] != '\0') {
        workload->identity =
            arena_printf(arena, "spiffe://%s/ns/%s/sa/%s", building->model->options.trust_domain,
                         object->namespace, entry->service_account.value);
    }
    const char *tls_mode = labels_get(&workload->labels, TLS_MODE_LABEL);
    workload->mesh_tls = tls_mode != NULL && strcmp(tls_mode, "istio") == 0;
}

int model_addr_compare(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    return memcmp(a->ip, b->ip, sizeof a->ip);
}

static int workload_place_compare(const struct model_workload *a, const struct model_workload *b)
{
    int order = strcmp(a->network, b->network);
    return order != 0 ? order : model_addr_compare(&a->addr, &b->addr);
}

static int workload_compare(const void *left, const void *right)
{
    const struct model_workload *a = *(struct model_workload *const *)left;
    const struct model_workload *b = *(struct model_workload *const *)right;
    int order = workload_place_compare(a, b);
    return order != 0 ? order : strcmp(a->object->id, b->object->id);
}

static void workloads_sort(struct building *building)
{
    if (building->count > 0) {
        qsort(building->workloads, building->count, sizeof *building->workloads, workload_compare);
    }
}

/* The first workload at an address of the default network, and how many are there. */
static size_t workloads_at(struct model_workload *const *workloads, size_t count,
                           const char *network, const struct addr *addr, size_t *first)
{
    struct model_workload wanted = {.network = network, .addr = *addr};
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (workload_place_compare(workloads[middle], &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *first = low;
    size_t found = 0;
    while (low + found < count && workload_place_compare(workloads[low + found], &wanted) == 0) {
        found++;
    }
    return found;
}

/* An address of an EndpointSlice: the WorkloadEntry that has it, else a workload of its own. New
 * ones stand behind `sorted` until the next sort. */
static void workload_from_address(struct building *building, size_t sorted,
                                  const struct object *object, const char *ip,
                                  const struct target_ref *target, const char *zone)
{
    struct addr addr;
    size_t first = 0;
    if (!addr_parse_ip(slice_of_text(ip), &addr) ||
        workloads_at(building->workloads, sorted, "", &addr, &first) > 0) {
        return;
    }
    struct model_workload *workload = workload_new(building, object, &addr);
    workload->zone = zone;
    workload->name = workload->address;
    if (target != NULL && target->name.value != NULL) {
        workload->name = target->name.value;
        workload->uid = text_or_empty(target->uid);
    }
}

static void workloads_of_object(struct building *building, size_t sorted,
                                const struct object *object)
{
    if (object->kind == OBJECT_KIND_ENDPOINT_SLICE) {
        const struct endpoint_slice *slice = object_endpoint_slice(object);
        for (size_t i = 0; i < slice->endpoints.count; i++) {
            const struct slice_endpoint *endpoint = &slice->endpoints.at[i];
            for (size_t a = 0; a < endpoint->addresses.count; a++) {
                workload_from_address(building, sorted, object, endpoint->addresses.at[a].value,
                                      endpoint->target, text_or_empty(endpoint->zone));
            }
        }
    } else if (object->kind == OBJECT_KIND_ENDPOINTS) {
        const struct endpoints *endpoints = object_endpoints(object);
        for (size_t s = 0; s < endpoints->subsets.count; s++) {
            const struct endpoints_subset *subset = &endpoints->subsets.at[s];
            for (size_t a = 0; a < subset->addresses.count; a++) {
                const struct endpoints_address *address = &subset->addresses.at[a];
                workload_from_address(building, sorted, object, address->ip.value, address->target,
                                      "");
            }
        }
    }
}

/* Two slices may name one address: the first stays. Only for those without a WorkloadEntry. */
static void workloads_unique(struct building *building)
{
    size_t kept = 0;
    for (size_t i = 0; i < building->count; i++) {
        const struct model_workload *workload = building->workloads[i];
        bool again = kept > 0 && workload->object->kind != OBJECT_KIND_WORKLOAD_ENTRY &&
                     workload_place_compare(building->workloads[kept - 1], workload) == 0;
        if (!again) {
            building->workloads[kept++] = building->workloads[i];
        }
    }
    building->count = kept;
}

static void workloads_build(struct building *building)
{
    const struct model *model = building->model;
    for (size_t i = 0; i < model->object_count; i++) {
        if (model->objects[i]->kind == OBJECT_KIND_WORKLOAD_ENTRY) {
            workload_from_entry(building, model->objects[i]);
        }
    }
    workloads_sort(building);
    size_t sorted = building->count;
    for (size_t i = 0; i < model->object_count; i++) {
        workloads_of_object(building, sorted, model->objects[i]);
    }
    workloads_sort(building);
    workloads_unique(building);
}

/* ---- the index of labels ---- */

static int label_key_compare(const struct label_entry *a, const struct label_entry *b)
{
    int order = strcmp(a->namespace, b->namespace);
    if (order == 0) {
        order = strcmp(a->key, b->key);
    }
    return order != 0 ? order : strcmp(a->value, b->value);
}

static int label_compare(const void *left, const void *right)
{
    const struct label_entry *a = left;
    const struct label_entry *b = right;
    int order = label_key_compare(a, b);
    if (order != 0) {
        return order;
    }
    struct model_workload *const first = a->workload;
    struct model_workload *const second = b->workload;
    return workload_compare(&first, &second);
}

static void labels_build(struct building *building)
{
    struct arena *arena = &building->model->arena;
    for (size_t i = 0; i < building->count; i++) {
        struct model_workload *workload = building->workloads[i];
        for (size_t l = 0; l < workload->labels.count; l++) {
            struct label_entry entry = {workload->namespace, workload->labels.at[l].key,
                                        workload->labels.at[l].value, workload};
            ARRAY_PUSH(arena, building->labels, building->label_count, entry);
        }
    }
    if (building->label_count > 0) {
        qsort(building->labels, building->label_count, sizeof *building->labels, label_compare);
    }
}

/* The workloads of a namespace with one label: where they begin in the index, and how many. */
static size_t labels_find(const struct building *building, const char *namespace,
                          const struct label *label, size_t *first)
{
    struct label_entry wanted = {namespace, label->key, label->value, NULL};
    size_t low = 0;
    size_t high = building->label_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (label_key_compare(&building->labels[middle], &wanted) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *first = low;
    size_t found = 0;
    while (low + found < building->label_count &&
           label_key_compare(&building->labels[low + found], &wanted) == 0) {
        found++;
    }
    return found;
}

/* ---- services ---- */

static void service_address_add(struct arena *arena, struct model_service *service,
                                const char *text)
{
    struct addr addr;
    if (text == NULL || !addr_parse_ip(slice_of_text(text), &addr)) {
        return; /* "None", "" or refused by policy/validate */
    }
    addr.port = 0;
    for (size_t i = 0; i < service->address_count; i++) {
        if (addr_ip_eq(&service->addrs[i], &addr)) {
            return;
        }
    }
    char canonical[ADDR_TEXT_MAX];
    const char *copy = arena_text(arena, slice_of_text(addr_format_ip(&addr, canonical)));
    size_t count = service->address_count;
    ARRAY_PUSH(arena, service->addrs, count, addr);
    ARRAY_PUSH(arena, service->addresses, service->address_count, copy);
}

static void service_add(struct building *building, const struct object *object)
{
    struct model *model = building->model;
    struct arena *arena = &model->arena;
    const struct service *spec = object_service(object);
    struct model_service *service = ARENA_NEW(arena, struct model_service);
    service->object = object;
    service->namespace = object->namespace;
    service->name = object->name;
    service->host = arena_printf(arena, "%s.%s.svc.%s", object->name, object->namespace,
                                 model->options.cluster_domain);
    service_address_add(arena, service, spec->cluster_ip.value);
    for (size_t i = 0; i < spec->cluster_ips.count; i++) {
        service_address_add(arena, service, spec->cluster_ips.at[i].value);
    }
    for (size_t i = 0; i < spec->ports.count; i++) {
        const struct service_port *port = &spec->ports.at[i];
        if (port->protocol.value != PORT_PROTOCOL_TCP) {
            continue; /* not captured */
        }
        const char *name = text_or_empty(port->name);
        struct model_port item = {
            .spec = port,
            .number = port->port.value,
            .name = name,
            .protocol = model_protocol_of(text_or_empty(port->app_protocol), name),
        };
        ARRAY_PUSH(arena, service->ports, service->port_count, item);
    }
    ARRAY_PUSH(arena, building->services, building->service_count, service);
}

static int service_compare(const void *left, const void *right)
{
    const struct model_service *a = *(struct model_service *const *)left;
    const struct model_service *b = *(struct model_service *const *)right;
    return strcmp(a->host, b->host);
}

static void services_build(struct building *building)
{
    const struct model *model = building->model;
    for (size_t i = 0; i < model->object_count; i++) {
        if (model->objects[i]->kind == OBJECT_KIND_SERVICE) {
            service_add(building, model->objects[i]);
        }
    }
    if (building->service_count > 0) {
        qsort(building->services, building->service_count, sizeof *building->services,
              service_compare);
    }
}

/* ---- endpoints ---- */

static void endpoint_add(struct arena *arena, const struct model_service *service,
                         struct model_port *port, struct model_workload *workload,
                         const struct object *object, uint32_t target)
{
    for (size_t i = 0; i < port->endpoint_count; i++) {
        const struct model_endpoint *other = &port->endpoints[i];
        if (other->port == target && workload_place_compare(other->workload, workload) == 0) {
            return; /* an EndpointSlice and its mirrored Endpoints, say */
        }
    }
    struct model_endpoint endpoint = {workload, object, target};
    ARRAY_PUSH(arena, port->endpoints, port->endpoint_count, endpoint);
    struct model_served served = {service, port, target};
    ARRAY_PUSH(arena, workload->served, workload->served_count, served);
}

/* Where a WorkloadEntry serves a port of a service: its `ports` by the name of the port, then by
 * the name of targetPort, then targetPort's number, then the number of the port. 0: nowhere. */
static uint32_t target_of(const struct model_port *port, const struct workload_entry *entry)
{
    const char *names[] = {port->name, text_or_empty(port->spec->target_port_name)};
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        for (size_t i = 0; names[n][0] != '\0' && i < entry->ports.count; i++) {
            if (strcmp(entry->ports.at[i].name, names[n]) == 0) {
                return entry->ports.at[i].port;
            }
        }
    }
    if (port->spec->target_port_name.value != NULL) {
        return 0;
    }
    return port->spec->target_port.value > 0 ? port->spec->target_port.value : port->number;
}

/* WorkloadEntries that the selector of the service matches. No selector matches none. */
static void endpoints_by_selector(struct building *building, struct model_service *service)
{
    const struct labels *selector = &object_service(service->object)->selector;
    if (selector->count == 0) {
        return;
    }
    size_t first = 0;
    size_t fewest = SIZE_MAX;
    for (size_t i = 0; i < selector->count; i++) {
        size_t begin = 0;
        size_t found = labels_find(building, service->namespace, &selector->at[i], &begin);
        if (found < fewest) {
            fewest = found;
            first = begin;
        }
    }
    for (size_t i = first; i < first + fewest; i++) {
        struct model_workload *workload = building->labels[i].workload;
        if (workload->object->kind != OBJECT_KIND_WORKLOAD_ENTRY ||
            !labels_match(selector, &workload->labels)) {
            continue;
        }
        const struct workload_entry *entry = object_workload_entry(workload->object);
        for (size_t p = 0; p < service->port_count; p++) {
            uint32_t target = target_of(&service->ports[p], entry);
            if (target > 0) {
                endpoint_add(&building->model->arena, service, &service->ports[p], workload,
                             workload->object, target);
            }
        }
    }
}

static struct model_service *service_named(const struct building *building, const char *namespace,
                                           const char *name)
{
    const char *host = arena_printf(&building->model->arena, "%s.%s.svc.%s", name, namespace,
                                    building->model->options.cluster_domain);
    for (size_t low = 0, high = building->service_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        struct model_service *service = building->services[middle];
        int order = strcmp(service->host, host);
        if (order == 0) {
            return service;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* The addresses of an EndpointSlice or of one subset of Endpoints, on all ports that both name. */
static void endpoint_on_ports(struct building *building, struct model_service *service,
                              const struct object *object, const struct endpoint_port *ports,
                              size_t port_count, const char *ip)
{
    struct addr addr;
    size_t first = 0;
    if (!addr_parse_ip(slice_of_text(ip), &addr) ||
        workloads_at(building->workloads, building->count, "", &addr, &first) == 0) {
        return;
    }
    CHECK(first < building->count && building->workloads != NULL);
    for (size_t i = 0; i < port_count; i++) {
        for (size_t p = 0; p < service->port_count; p++) {
            if (ports[i].port.value > 0 &&
                strcmp(text_or_empty(ports[i].name), service->ports[p].name) == 0) {
                endpoint_add(&building->model->arena, service, &service->ports[p],
                             building->workloads[first], object, ports[i].port.value);
            }
        }
    }
}

static void endpoints_of_slice(struct building *building, const struct object *object)
{
    const struct endpoint_slice *slice = object_endpoint_slice(object);
    const char *name = labels_get(&object->labels, SERVICE_NAME_LABEL);
    struct model_service *service =
        name != NULL ? service_named(building, object->namespace, name) : NULL;
    if (service == NULL) {
        return;
    }
    for (size_t i = 0; i < slice->endpoints.count; i++) {
        const struct slice_endpoint *endpoint = &slice->endpoints.at[i];
        const struct slice_conditions *conditions = endpoint->conditions;
        bool ready = conditions == NULL || conditions->ready.line == 0 || conditions->ready.value;
        for (size_t a = 0; ready && a < endpoint->addresses.count; a++) {
            endpoint_on_ports(building, service, object, slice->ports.at, slice->ports.count,
                              endpoint->addresses.at[a].value);
        }
    }
}

static void endpoints_of_endpoints(struct building *building, const struct object *object)
{
    const struct endpoints *endpoints = object_endpoints(object);
    struct model_service *service = service_named(building, object->namespace, object->name);
    for (size_t s = 0; service != NULL && s < endpoints->subsets.count; s++) {
        const struct endpoints_subset *subset = &endpoints->subsets.at[s];
        for (size_t a = 0; a < subset->addresses.count; a++) {
            endpoint_on_ports(building, service, object, subset->ports.at, subset->ports.count,
                              subset->addresses.at[a].ip.value);
        }
    }
}

static void endpoints_build(struct building *building)
{
    const struct model *model = building->model;
    for (size_t i = 0; i < building->service_count; i++) {
        endpoints_by_selector(building, building->services[i]);
    }
    for (size_t i = 0; i < model->object_count; i++) {
        if (model->objects[i]->kind == OBJECT_KIND_ENDPOINT_SLICE) {
            endpoints_of_slice(building, model->objects[i]);
        } else if (model->objects[i]->kind == OBJECT_KIND_ENDPOINTS) {
            endpoints_of_endpoints(building, model->objects[i]);
        }
    }
}

/* ---- what is found by what ---- */

static int vip_compare(const void *left, const void *right)
{
    const struct model_vip *a = left;
    const struct model_vip *b = right;
    int order = model_addr_compare(&a->addr, &b->addr);
    return order != 0 ? order : model_age_compare(a->service->object, b->service->object);
}

static int known_compare(const void *left, const void *right)
{
    return model_addr_compare(left, right);
}

static int named_compare(const void *left, const void *right)
{
    const struct model_workload *a = *(const struct model_workload *const *)left;
    const struct model_workload *b = *(const struct model_workload *const *)right;
    int order = strcmp(a->namespace, b->namespace);
    return order != 0 ? order : strcmp(a->name, b->name);
}

static void indexes_build(struct building *building)
{
    struct model *model = building->model;
    struct arena *arena = &model->arena;
    for (size_t i = 0; i < building->service_count; i++) {
        const struct model_service *service = building->services[i];
        ARRAY_PUSH(arena, model->services, model->service_count, service);
        for (size_t a = 0; a < service->address_count; a++) {
            struct model_vip vip = {service->addrs[a], service};
            ARRAY_PUSH(arena, model->vips, model->vip_count, vip);
            ARRAY_PUSH(arena, model->known, model->known_count, service->addrs[a]);
        }
    }
    for (size_t i = 0; i < building->count; i++) {
        const struct model_workload *workload = building->workloads[i];
        ARRAY_PUSH(arena, model->workloads, model->workload_count, workload);
        ARRAY_PUSH(arena, model->known, model->known_count, workload->addr);
        if (workload->object->kind == OBJECT_KIND_WORKLOAD_ENTRY) {
            ARRAY_PUSH(arena, model->named, model->named_count, workload);
        }
    }
    if (model->vip_count > 0) {
        qsort(model->vips, model->vip_count, sizeof *model->vips, vip_compare);
    }
    if (model->known_count > 0) {
        qsort(model->known, model->known_count, sizeof *model->known, known_compare);
    }
    if (model->named_count > 0) {
        qsort(model->named, model->named_count, sizeof *model->named, named_compare);
    }
}

void model_build_services(struct model *model)
{
    struct building building = {.model = model};
    workloads_build(&building);
    labels_build(&building);
    services_build(&building);
    endpoints_build(&building);
    indexes_build(&building);
}
