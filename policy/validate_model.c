/* How objects go together. Nothing here refuses an object: what is not there yet may come. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "policy/validate.h"

struct mesh_check {
    const struct model *model;
    struct policy_problems *problems;
    struct arena *arena;
};

static void note(struct mesh_check *check, enum policy_severity severity,
                 const struct object *object, uint32_t line, const char *path, const char *format,
                 ...) PRINTF_LIKE(6, 7);

static void note(struct mesh_check *check, enum policy_severity severity,
                 const struct object *object, uint32_t line, const char *path, const char *format,
                 ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct policy_where where = {object->file, line > 0 ? line : object->line, object->id, path};
    policy_problem_add(check->problems, severity, where, "%s", text);
}

/* Endpoints of a port that a subset's labels choose; all of them without a subset. */
static size_t endpoints_count(const struct model_port *port, const struct subset *subset)
{
    size_t count = 0;
    for (size_t i = 0; i < port->endpoint_count; i++) {
        count +=
            subset == NULL || labels_match(&subset->labels, &port->endpoints[i].workload->labels);
    }
    return count;
}

/* Where a rule sends what it matches. */
struct targets {
    const struct route_destination *at;
    size_t count;
};

/* The share of a rule's requests that one of its destinations gets, in percent. */
static double share_of(const struct targets *targets, size_t index)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < targets->count; i++) {
        sum += targets->at[i].weight.value;
    }
    return targets->count == 1
               ? 100.0
               : 100.0 * targets->at[index].weight.value / (double)(sum > 0 ? sum : 1);
}

static const struct model_port *target_port(const struct model_service *service,
                                            const struct route_target *target)
{
    if (target->port.number.value > 0) {
        return model_find_port(service, target->port.number.value);
    }
    return service->port_count > 0 ? &service->ports[0] : NULL;
}

static void target_check(struct mesh_check *check, const struct object *object,
                         const struct targets *targets, size_t index, const char *path)
{
    const struct route_target *target = &targets->at[index].destination;
    double share = share_of(targets, index);
    const char *host = model_full_host(check->model, check->arena,
                                       slice_of_text(target->host.value), object->namespace);
    const struct model_service *service = model_find_service(check->model, slice_of_text(host));
    if (service == NULL) {
        note(check, POLICY_SEVERITY_PENDING, object, target->host.line,
             arena_printf(check->arena, "%s.destination.host", path),
             "no Service is named %s; %.4g %% of the requests would fail", host, share);
        return;
    }
    const char *subset = target->subset.value;
    const struct subset *chosen = NULL;
    if (subset != NULL && subset[0] != '\0') {
        const struct object *owner;
        chosen = model_find_subset(
            model_destination_rules(check->model, host, service, object->namespace), subset,
            &owner);
        if (chosen == NULL) {
            note(check, POLICY_SEVERITY_PENDING, object, target->subset.line,
                 arena_printf(check->arena, "%s.destination.subset", path),
                 "no DestinationRule defines subset %s of %s; %.4g %% of the requests would fail",
                 subset, host, share);
            return;
        }
    }
    const struct model_port *port = target_port(service, target);
    if (port == NULL) {
        note(check, POLICY_SEVERITY_WARNING, object, target->port.number.line,
             arena_printf(check->arena, "%s.destination.port.number", path),
             "%s has no port %u; %.4g %% of the requests fail", host,
             (unsigned)target->port.number.value, share);
    } else if (share > 0 && endpoints_count(port, chosen) == 0) {
        note(check, POLICY_SEVERITY_WARNING, object, targets->at[index].line,
             arena_printf(check->arena, "%s.destination", path),
             "%s%s%s has no endpoint; %.4g %% of the requests fail", chosen != NULL ? subset : "",
             chosen != NULL ? " of " : "", host, share);
    }
}

/* A name of the mesh without a Service behind it. Wildcards and outside names may be meant so. */
static void host_known(struct mesh_check *check, const struct object *object, struct text host,
                       const char *path)
{
    if (host.value == NULL || host.value[0] == '*') {
        return;
    }
    const char *full =
        model_full_host(check->model, check->arena, slice_of_text(host.value), object->namespace);
    if (model_find_service(check->model, slice_of_text(full)) == NULL) {
        note(check, POLICY_SEVERITY_WARNING, object, host.line, path,
             "no Service is named %s: nothing follows this", full);
    }
}

static void targets_check(struct mesh_check *check, const struct object *object,
                          struct targets targets, const char *path)
{
    for (size_t i = 0; i < targets.count; i++) {
        target_check(check, object, &targets, i, arena_printf(check->arena, "%s[%zu]", path, i));
    }
}

static void virtual_service_check(struct mesh_check *check, const struct object *object)
{
    const struct virtual_service *spec = object_virtual_service(object);
    for (size_t i = 0; i < spec->hosts.count; i++) {
        host_known(check, object, spec->hosts.at[i],
                   arena_printf(check->arena, "spec.hosts[%zu]", i));
    }
    for (size_t r = 0; r < spec->tls.count; r++) {
        const struct l4_rule *rule = &spec->tls.at[r];
        targets_check(check, object, (struct targets){rule->route.at, rule->route.count},
                      arena_printf(check->arena, "spec.tls[%zu].route", r));
    }
    for (size_t r = 0; r < spec->tcp.count; r++) {
        const struct l4_rule *rule = &spec->tcp.at[r];
        targets_check(check, object, (struct targets){rule->route.at, rule->route.count},
                      arena_printf(check->arena, "spec.tcp[%zu].route", r));
    }
    for (size_t r = 0; r < spec->http.count; r++) {
        const struct http_rule *rule = &spec->http.at[r];
        targets_check(check, object, (struct targets){rule->route.at, rule->route.count},
                      arena_printf(check->arena, "spec.http[%zu].route", r));
        if (rule->match.count == 0 && r + 1 < spec->http.count) {
            note(check, POLICY_SEVERITY_WARNING, object, spec->http.at[r + 1].line,
                 arena_printf(check->arena, "spec.http[%zu]", r + 1),
                 "never reached: the rule before it takes every request");
            return;
        }
    }
}

/* What an older rule for the host has said already. */
static void destination_rule_check(struct mesh_check *check, const struct object *object)
{
    struct model_rules rules = model_rules_of(check->model, object);
    const struct destination_rule *spec = object_destination_rule(object);
    if (rules.count < 2 || rules.at[0] == object) {
        return;
    }
    note(check, POLICY_SEVERITY_WARNING, object, spec->host.line, "spec.host",
         "merged with %s (%s:%u), which is older", rules.at[0]->id, rules.at[0]->file,
         (unsigned)rules.at[0]->line);
    const struct object *policy = model_rules_policy(rules);
    if (policy != object && spec->policy.settings.line > 0) {
        note(check, POLICY_SEVERITY_WARNING, object, spec->policy.settings.line,
             "spec.trafficPolicy", "ignored: that of %s (%s:%u) holds", policy->id, policy->file,
             (unsigned)policy->line);
    }
    for (size_t i = 0; i < spec->subsets.count; i++) {
        const struct subset *subset = &spec->subsets.at[i];
        const struct object *owner = object;
        const char *name = subset->name.value != NULL ? subset->name.value : "";
        (void)model_find_subset(rules, name, &owner);
        if (owner != object) {
            note(check, POLICY_SEVERITY_WARNING, object, subset->line,
                 arena_printf(check->arena, "spec.subsets[%zu]", i),
                 "ignored: %s (%s:%u) has a subset %s", owner->id, owner->file,
                 (unsigned)owner->line, name);
        }
    }
}

static void conflicts_check(struct mesh_check *check)
{
    size_t count = 0;
    const struct model_conflict *conflicts = model_get_conflicts(check->model, &count);
    for (size_t i = 0; i < count; i++) {
        note(check, POLICY_SEVERITY_WARNING, conflicts[i].ignored, 0, "spec",
             "ignored for %s: %s (%s:%u) is older", conflicts[i].host, conflicts[i].winner->id,
             conflicts[i].winner->file, (unsigned)conflicts[i].winner->line);
    }
}

static void addresses_check(struct mesh_check *check, const struct model_service *service)
{
    for (size_t i = 0; i < service->address_count; i++) {
        const struct model_service *owner = model_find_vip(check->model, &service->addrs[i], 0);
        if (owner != NULL && owner != service) {
            note(check, POLICY_SEVERITY_WARNING, service->object, 0, "spec.clusterIP",
                 "%s belongs to %s already: on a port of both requests go by their authority, and "
                 "what names nobody goes there",
                 service->addresses[i], owner->object->id);
        }
    }
}

/* Two without a selector in one namespace: only the older speaks. */
static void peers_check(struct mesh_check *check, const struct object *object)
{
    if (object_peer_authentication(object)->selector.match_labels.count > 0) {
        return;
    }
    const struct object *first = model_namespace_peer(check->model, object->namespace);
    if (first != NULL && first != object) {
        note(check, POLICY_SEVERITY_WARNING, object, 0, "spec", "ignored: %s (%s:%u) is older",
             first->id, first->file, (unsigned)first->line);
    }
}

void policy_validate_model(const struct model *model, struct policy_problems *problems)
{
    struct mesh_check check = {model, problems, problems->arena};
    size_t count = 0;
    struct object *const *objects = model_get_objects(model, &count);
    for (size_t i = 0; i < count; i++) {
        const struct object *object = objects[i];
        if (object->kind == OBJECT_KIND_VIRTUAL_SERVICE) {
            virtual_service_check(&check, object);
        } else if (object->kind == OBJECT_KIND_DESTINATION_RULE) {
            host_known(&check, object, object_destination_rule(object)->host, "spec.host");
            destination_rule_check(&check, object);
        } else if (object->kind == OBJECT_KIND_PEER_AUTHENTICATION) {
            peers_check(&check, object);
        }
    }
    size_t service_count = 0;
    const struct model_service *const *services = model_get_services(model, &service_count);
    for (size_t i = 0; i < service_count; i++) {
        addresses_check(&check, services[i]);
    }
    conflicts_check(&check);
}
