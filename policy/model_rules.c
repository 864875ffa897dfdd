/* Which rule holds: VirtualServices and DestinationRules by host, PeerAuthentications by workload.
 */
#include <stdlib.h>
#include <string.h>

#include "policy/array.h"
#include "policy/model_private.h"

#define ISTIO_ROOT_NAMESPACE "istio-system"

int model_age_compare(const struct object *a, const struct object *b)
{
    if (a->born != b->born) {
        return a->born < b->born ? -1 : 1;
    }
    return strcmp(a->id, b->id);
}

/* ---- claims ---- */

static int claim_place_compare(const struct model_claim *a, const struct model_claim *b)
{
    int order = strcmp(a->host, b->host);
    return order != 0 ? order : strcmp(a->namespace, b->namespace);
}

static int claim_compare(const void *left, const void *right)
{
    const struct model_claim *a = left;
    const struct model_claim *b = right;
    int order = claim_place_compare(a, b);
    return order != 0 ? order : model_age_compare(a->objects[0], b->objects[0]);
}

/* The longest suffix first. */
static int wild_compare(const void *left, const void *right)
{
    const struct model_claim *a = left;
    const struct model_claim *b = right;
    size_t first = strlen(a->host);
    size_t second = strlen(b->host);
    if (first != second) {
        return first > second ? -1 : 1;
    }
    return claim_compare(left, right);
}

static void claim_add(struct model *model, struct model_claims *claims, struct text host,
                      const char *namespace, const struct object *object)
{
    if (host.value == NULL) {
        return;
    }
    struct model_claim claim = {
        .host = model_full_host(model, &model->arena, slice_of_text(host.value), object->namespace),
        .namespace = namespace,
    };
    ARRAY_PUSH(&model->arena, claim.objects, claim.object_count, object);
    ARRAY_PUSH(&model->arena, claims->at, claims->count, claim);
}

/* Sorts, and puts those that claim the same together: of VirtualServices the younger ones are
 * conflicts. */
static void claims_finish(struct model *model, struct model_claims *claims)
{
    struct arena *arena = &model->arena;
    if (claims->count == 0) {
        return;
    }
    qsort(claims->at, claims->count, sizeof *claims->at, claim_compare);
    size_t kept = 0;
    for (size_t i = 0; i < claims->count; i++) {
        struct model_claim claim = claims->at[i];
        struct model_claim *before = kept > 0 ? &claims->at[kept - 1] : NULL;
        if (before == NULL || claim_place_compare(before, &claim) != 0) {
            claims->at[kept++] = claim;
        } else if (before->objects[before->object_count - 1] != claim.objects[0]) {
            ARRAY_PUSH(arena, before->objects, before->object_count, claim.objects[0]);
        }
    }
    claims->count = kept;
    for (size_t i = 0; i < kept; i++) {
        if (claims->at[i].host[0] == '*') {
            ARRAY_PUSH(arena, claims->wild, claims->wild_count, claims->at[i]);
        }
    }
    if (claims->wild_count > 0) {
        qsort(claims->wild, claims->wild_count, sizeof *claims->wild, wild_compare);
    }
}

/* VirtualServices: only the oldest for a host is followed. */
static void conflicts_note(struct model *model, const struct model_claims *claims)
{
    for (size_t i = 0; i < claims->count; i++) {
        const struct model_claim *claim = &claims->at[i];
        for (size_t o = 1; o < claim->object_count; o++) {
            struct model_conflict conflict = {claim->objects[0], claim->objects[o], claim->host};
            ARRAY_PUSH(&model->arena, model->conflicts, model->conflict_count, conflict);
        }
    }
}

static const struct model_claim *claim_exact(const struct model_claims *claims, const char *host,
                                             const char *namespace)
{
    struct model_claim wanted = {host, namespace, NULL, 0};
    for (size_t low = 0, high = claims->count; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = claim_place_compare(&claims->at[middle], &wanted);
        if (order == 0) {
            return &claims->at[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static const struct model_claim *claim_find(const struct model_claims *claims, const char *host,
                                            const char *namespace)
{
    const struct model_claim *exact = claim_exact(claims, host, namespace);
    for (size_t i = 0; exact == NULL && i < claims->wild_count; i++) {
        const struct model_claim *wild = &claims->wild[i];
        if (strcmp(wild->namespace, namespace) == 0 &&
            slice_ends(slice_of_text(host), slice_of_text(wild->host + 1))) {
            return wild;
        }
    }
    return exact;
}

const struct object *model_virtual_service(const struct model *model, const char *host)
{
    const struct model_claim *claim = claim_find(&model->virtual_services, host, "");
    return claim != NULL ? claim->objects[0] : NULL;
}

static struct model_rules rules_of_claim(const struct model_claim *claim)
{
    return claim != NULL ? (struct model_rules){claim->objects, claim->object_count}
                         : (struct model_rules){NULL, 0};
}

struct model_rules model_destination_rules(const struct model *model, const char *host,
                                           const struct model_service *service,
                                           const char *namespace)
{
    const char *order[] = {
        namespace,
        service != NULL ? service->namespace : namespace,
        model->options.root_namespace,
        ISTIO_ROOT_NAMESPACE,
    };
    const struct model_claim *claim = NULL;
    for (size_t i = 0; claim == NULL && i < COUNT_OF(order); i++) {
        claim = claim_find(&model->destination_rules, host, order[i]);
    }
    return rules_of_claim(claim);
}

struct model_rules model_rules_of(const struct model *model, const struct object *rule)
{
    struct arena scratch;
    arena_init(&scratch, NULL);
    struct text host = object_destination_rule(rule)->host;
    const char *full =
        host.value != NULL
            ? model_full_host(model, &scratch, slice_of_text(host.value), rule->namespace)
            : "";
    struct model_rules rules =
        rules_of_claim(claim_exact(&model->destination_rules, full, rule->namespace));
    arena_fini(&scratch);
    return rules;
}

/* Istio: one that says nothing of traffic leaves that to the next. */
static bool says_traffic(const struct object *rule)
{
    const struct destination_rule *spec = object_destination_rule(rule);
    return spec->policy.settings.line > 0 || spec->policy.ports.count > 0;
}

const struct object *model_rules_policy(struct model_rules rules)
{
    for (size_t i = 0; i < rules.count; i++) {
        if (says_traffic(rules.at[i])) {
            return rules.at[i];
        }
    }
    return NULL;
}

const struct subset *model_find_subset(struct model_rules rules, const char *name,
                                       const struct object **owner)
{
    for (size_t r = 0; r < rules.count; r++) {
        const struct destination_rule *spec = object_destination_rule(rules.at[r]);
        for (size_t i = 0; i < spec->subsets.count; i++) {
            const char *given = spec->subsets.at[i].name.value;
            if (given != NULL && strcmp(given, name) == 0) {
                *owner = rules.at[r];
                return &spec->subsets.at[i];
            }
        }
    }
    return NULL;
}

/* ---- PeerAuthentication ---- */

static int peer_compare(const void *left, const void *right)
{
    return model_age_compare(*(const struct object *const *)left,
                             *(const struct object *const *)right);
}

static bool is_root(const struct model *model, const char *namespace)
{
    return strcmp(namespace, model->options.root_namespace) == 0 ||
           strcmp(namespace, ISTIO_ROOT_NAMESPACE) == 0;
}

enum peer_scope { PEER_SCOPE_WORKLOAD, PEER_SCOPE_NAMESPACE, PEER_SCOPE_MESH };

/* Whether a PeerAuthentication speaks for the workload in that scope. One of the root namespace
 * without a selector speaks for the mesh; with a selector for the workloads of that namespace. */
static bool peer_in_scope(const struct model *model, const struct object *object,
                          enum peer_scope scope, const char *namespace, const struct labels *labels)
{
    const struct labels *selector = &object_peer_authentication(object)->selector.match_labels;
    switch (scope) {
    case PEER_SCOPE_WORKLOAD:
        return selector->count > 0 && strcmp(object->namespace, namespace) == 0 &&
               labels_match(selector, labels);
    case PEER_SCOPE_NAMESPACE:
        return selector->count == 0 && strcmp(object->namespace, namespace) == 0;
    case PEER_SCOPE_MESH:
        return selector->count == 0 && is_root(model, object->namespace);
    }
    return false;
}

/* What one object says of a port; UNSET when it leaves that to the next scope. */
static enum mtls_mode peer_mode(const struct object *object, uint32_t port)
{
    const struct peer_authentication *spec = object_peer_authentication(object);
    for (size_t i = 0; i < spec->ports.count; i++) {
        enum mtls_mode mode = (enum mtls_mode)spec->ports.at[i].mtls.mode.value;
        if (spec->ports.at[i].port == port && mode != MTLS_MODE_UNSET) {
            return mode;
        }
    }
    return (enum mtls_mode)spec->mtls.mode.value;
}

enum mtls_mode model_mtls_mode(const struct model *model, const char *namespace,
                               const struct labels *labels, uint32_t port,
                               const struct object **object)
{
    static const enum peer_scope scopes[] = {PEER_SCOPE_WORKLOAD, PEER_SCOPE_NAMESPACE,
                                             PEER_SCOPE_MESH};
    if (object != NULL) {
        *object = NULL;
    }
    for (size_t s = 0; s < COUNT_OF(scopes); s++) {
        for (size_t i = 0; i < model->peer_authentication_count; i++) {
            const struct object *peer = model->peer_authentications[i];
            if (!peer_in_scope(model, peer, scopes[s], namespace, labels)) {
                continue;
            }
            enum mtls_mode mode = peer_mode(peer, port);
            if (mode != MTLS_MODE_UNSET) {
                if (object != NULL) {
                    *object = peer;
                }
                return mode;
            }
            break; /* the oldest of a scope speaks for it */
        }
    }
    return MTLS_MODE_PERMISSIVE;
}

const struct object *model_namespace_peer(const struct model *model, const char *namespace)
{
    static const struct labels none = {0};
    for (size_t i = 0; i < model->peer_authentication_count; i++) {
        const struct object *peer = model->peer_authentications[i];
        if (peer_in_scope(model, peer, PEER_SCOPE_NAMESPACE, namespace, &none)) {
            return peer;
        }
    }
    return NULL;
}

const uint32_t *model_peer_ports(const struct model *model, struct arena *arena,
                                 const char *namespace, const struct labels *labels, size_t *count)
{
    uint32_t *ports = NULL;
    *count = 0;
    for (size_t i = 0; i < model->peer_authentication_count; i++) {
        const struct object *peer = model->peer_authentications[i];
        const struct peer_authentication *spec = object_peer_authentication(peer);
        if (peer_in_scope(model, peer, PEER_SCOPE_WORKLOAD, namespace, labels)) {
            for (size_t p = 0; p < spec->ports.count; p++) {
                ARRAY_PUSH(arena, ports, *count, spec->ports.at[p].port);
            }
        }
    }
    return ports;
}

void model_build_rules(struct model *model)
{
    struct arena *arena = &model->arena;
    for (size_t i = 0; i < model->object_count; i++) {
        const struct object *object = model->objects[i];
        if (object->kind == OBJECT_KIND_VIRTUAL_SERVICE) {
            const struct texts *hosts = &object_virtual_service(object)->hosts;
            for (size_t h = 0; h < hosts->count; h++) {
                claim_add(model, &model->virtual_services, hosts->at[h], "", object);
            }
        } else if (object->kind == OBJECT_KIND_DESTINATION_RULE) {
            claim_add(model, &model->destination_rules, object_destination_rule(object)->host,
                      object->namespace, object);
        } else if (object->kind == OBJECT_KIND_PEER_AUTHENTICATION) {
            ARRAY_PUSH(arena, model->peer_authentications, model->peer_authentication_count,
                       object);
        }
    }
    claims_finish(model, &model->virtual_services);
    claims_finish(model, &model->destination_rules);
    conflicts_note(model, &model->virtual_services);
    if (model->peer_authentication_count > 0) {
        qsort(model->peer_authentications, model->peer_authentication_count,
              sizeof *model->peer_authentications, peer_compare);
    }
}
