#include "policy/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "policy/model_private.h"

#define DEFAULT_TRUST_DOMAIN   "cluster.local"
#define DEFAULT_ROOT_NAMESPACE "pillion-system"
#define DEFAULT_CLUSTER_DOMAIN "cluster.local"

static const char *option_text(struct arena *arena, const char *text, const char *otherwise)
{
    return arena_text(arena, slice_of_text(text != NULL && text[0] != '\0' ? text : otherwise));
}

static int object_id_compare(const void *left, const void *right)
{
    const struct object *a = *(struct object *const *)left;
    const struct object *b = *(struct object *const *)right;
    return strcmp(a->id, b->id);
}

struct model *model_new(struct object *const *objects, size_t count,
                        const struct model_options *options)
{
    static const struct model_options none = {0};
    const struct model_options *given = options != NULL ? options : &none;
    struct model *model = NEW(struct model);
    arena_init(&model->arena, NULL);
    struct arena *arena = &model->arena;
    model->options = (struct model_options){
        .trust_domain = option_text(arena, given->trust_domain, DEFAULT_TRUST_DOMAIN),
        .root_namespace = option_text(arena, given->root_namespace, DEFAULT_ROOT_NAMESPACE),
        .cluster_domain = option_text(arena, given->cluster_domain, DEFAULT_CLUSTER_DOMAIN),
        .block_unknown = given->block_unknown,
    };
    model->objects = NEW_ARRAY(struct object *, count);
    model->object_count = count;
    for (size_t i = 0; i < count; i++) {
        model->objects[i] = object_ref(objects[i]);
        if (objects[i]->generation > model->generation) {
            model->generation = objects[i]->generation;
        }
    }
    if (count > 0) {
        qsort(model->objects, count, sizeof(struct object *), object_id_compare);
    }
    model_build_services(model);
    model_build_rules(model);
    return model;
}

void model_free(struct model **model)
{
    struct model *gone = *model;
    *model = NULL;
    if (gone == NULL) {
        return;
    }
    for (size_t i = 0; i < gone->object_count; i++) {
        object_unref(&gone->objects[i]);
    }
    mem_free(gone->objects);
    arena_fini(&gone->arena);
    mem_free(gone);
}

const struct model_options *model_get_options(const struct model *model)
{
    return &model->options;
}

uint64_t model_generation(const struct model *model)
{
    return model->generation;
}

struct object *const *model_get_objects(const struct model *model, size_t *count)
{
    *count = model->object_count;
    return model->objects;
}

const struct model_service *const *model_get_services(const struct model *model, size_t *count)
{
    *count = model->service_count;
    return model->services;
}

const struct model_workload *const *model_get_workloads(const struct model *model, size_t *count)
{
    *count = model->workload_count;
    return model->workloads;
}

const struct model_conflict *model_get_conflicts(const struct model *model, size_t *count)
{
    *count = model->conflict_count;
    return model->conflicts;
}

/* ---- finding ---- */

const struct model_service *model_find_service(const struct model *model, struct slice host)
{
    for (size_t low = 0, high = model->service_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct model_service *service = model->services[middle];
        int order = slice_compare(slice_of_text(service->host), host);
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

const struct model_service *model_find_vip(const struct model *model, const struct addr *addr,
                                           size_t number)
{
    size_t low = 0;
    size_t high = model->vip_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (model_addr_compare(&model->vips[middle].addr, addr) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (number >= model->vip_count - low) {
        return NULL;
    }
    const struct model_vip *vip = &model->vips[low + number];
    return addr_ip_eq(&vip->addr, addr) ? vip->service : NULL;
}

static int place_compare(const struct model_workload *workload, const char *network,
                         const struct addr *addr)
{
    int order = strcmp(workload->network, network);
    return order != 0 ? order : model_addr_compare(&workload->addr, addr);
}

static bool workload_serves(const struct model_workload *workload, uint32_t port)
{
    for (size_t i = 0; i < workload->served_count; i++) {
        if (workload->served[i].target == port) {
            return true;
        }
    }
    return false;
}

const struct model_workload *model_find_workload(const struct model *model, const char *network,
                                                 const struct addr *addr)
{
    size_t low = 0;
    size_t high = model->workload_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (place_compare(model->workloads[middle], network, addr) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    size_t count = 0;
    for (size_t i = low; i < model->workload_count; i++, count++) {
        if (place_compare(model->workloads[i], network, addr) != 0) {
            break;
        }
        if (workload_serves(model->workloads[i], addr->port)) {
            return model->workloads[i];
        }
    }
    return count == 1 ? model->workloads[low] : NULL;
}

const struct model_workload *model_find_workload_named(const struct model *model,
                                                       const char *namespace, const char *name)
{
    for (size_t low = 0, high = model->named_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct model_workload *workload = model->named[middle];
        int order = strcmp(workload->namespace, namespace);
        if (order == 0) {
            order = strcmp(workload->name, name);
        }
        if (order == 0) {
            return workload;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const struct model_port *model_find_port(const struct model_service *service, uint32_t number)
{
    for (size_t i = 0; i < service->port_count; i++) {
        if (service->ports[i].number == number) {
            return &service->ports[i];
        }
    }
    return NULL;
}

/* How many leading bits two addresses of a family share. */
static unsigned common_bits(const struct addr *a, const struct addr *b, unsigned max)
{
    for (unsigned bit = 0; bit < max; bit++) {
        unsigned mask = 0x80U >> (bit % 8);
        if (((a->ip[bit / 8] ^ b->ip[bit / 8]) & mask) != 0) {
            return bit;
        }
    }
    return max;
}

unsigned model_free_prefix(const struct model *model, const struct addr *addr, unsigned floor)
{
    unsigned max = addr->family == ADDR_IPV4 ? 32 : 128;
    size_t low = 0;
    size_t high = model->known_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (model_addr_compare(&model->known[middle], addr) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    /* In sorted order the longest common prefix is that with a neighbour. */
    unsigned prefix = floor;
    for (size_t i = low > 0 ? low - 1 : 0; i < model->known_count && i <= low; i++) {
        if (model->known[i].family == addr->family) {
            unsigned needed = common_bits(&model->known[i], addr, max) + 1;
            prefix = needed > prefix ? needed : prefix;
        }
    }
    return prefix < max ? prefix : max;
}

/* ---- names ---- */

static const char *lower_text(struct arena *arena, struct slice name)
{
    if (name.len > 0 && name.at[name.len - 1] == '.') {
        name.len--;
    }
    char *text = arena_text(arena, name);
    for (char *c = text; *c != '\0'; c++) {
        *c = (char)slice_lower((uint8_t)*c);
    }
    return text;
}

const char *model_full_host(const struct model *model, struct arena *arena, struct slice name,
                            const char *namespace)
{
    const char *host = lower_text(arena, name);
    if (host[0] == '\0' || host[0] == '*') {
        return host;
    }
    const char *domain = model->options.cluster_domain;
    if (strchr(host, '.') == NULL) {
        return arena_printf(arena, "%s.%s.svc.%s", host, namespace, domain);
    }
    if (model_find_service(model, slice_of_text(host)) != NULL) {
        return host;
    }
    const char *svc = slice_ends(slice_of_text(host), SLICE(".svc")) ? "" : ".svc";
    const char *longer = arena_printf(arena, "%s%s.%s", host, svc, domain);
    return model_find_service(model, slice_of_text(longer)) != NULL ? longer : host;
}
