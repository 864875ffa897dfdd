#include "sidecar/accept/listener.h"

#include "base/alloc.h"
#include "sidecar/accept/handover.h"
#include "sidecar/accept/intake.h"
#include "sidecar/accept/outbound.h"
#include "sidecar/config/parcel.h"
#include "sidecar/worker.h"

/* In one run; the rest of the backlog posts the listener again. */
#define ACCEPTS_PER_RUN 32

static bool is_outbound(const struct listener *listener)
{
    return listener->place != NULL && listener->place->direction == LISTENER_OUTBOUND;
}

bool listener_is_ready(const struct listener *listener)
{
    return is_outbound(listener) || listener->config != NULL;
}

void listener_take(struct listener *listener, struct net_conn **net)
{
    CHECK(listener_is_ready(listener));
    if (is_outbound(listener)) {
        outbound_begin(listener, net);
    } else {
        intake_begin(listener, net);
    }
}

static void run(struct task *task)
{
    struct listener *listener = CONTAINER_OF(task, struct listener, task);
    /* As many as came last time and one more: a lone connection costs no second call that says
     * "none". */
    unsigned most = listener->last_run < ACCEPTS_PER_RUN ? listener->last_run + 1 : ACCEPTS_PER_RUN;
    unsigned count = 0;
    while (count < most) {
        struct net_conn *net = listener->net->ops->accept(listener->net);
        if (net == NULL) {
            break;
        }
        if (!handover_give(listener, &net)) {
            listener_take(listener, &net);
        }
        count++;
    }
    listener->last_run = count > 1 ? count : 0;
}

/* ---- services ---- */

static void free_service(struct service *service)
{
    service_fini(service);
    mem_free(service);
}

static struct service *new_service(struct listener *listener, const struct filter_chain *chain)
{
    struct service *service = NEW(struct service);
    *service = (struct service){.references = 1,
                                .refusal = FAIL_NONE,
                                .pin = listener->pin != NULL ? parcel_ref(listener->pin) : NULL,
                                .http = chain->http,
                                .direction = listener->config->direction,
                                .name = chain->name,
                                .free = free_service};
    if (chain->http != NULL && chain->http->routes != NULL) {
        binding_init(&service->binding, chain->http->routes, rng_u64(&listener->worker->rng));
    }
    if (chain->tcp != NULL) {
        service_set_tcp(service, chain->tcp, &listener->worker->rng);
    }
    return service;
}

static uint32_t chain_count(const struct listener_config *config)
{
    return config == NULL ? 0 : config->chain_count + (config->fallback != NULL ? 1 : 0);
}

static const struct filter_chain *chain_at(const struct listener_config *config, uint32_t at)
{
    return at < config->chain_count ? &config->chains[at] : config->fallback;
}

/* A chain goes on under its name, or its place where it has none, as long as it stays of one kind.
 */
static struct service_line *take_line(struct listener_chain *old,
                                      const struct listener_config *before,
                                      const struct listener_config *now, uint32_t at)
{
    const struct filter_chain *chain = chain_at(now, at);
    for (uint32_t i = 0; i < chain_count(before); i++) {
        const struct filter_chain *was = chain_at(before, i);
        bool same = was->kind == chain->kind && slice_eq(was->name, chain->name) &&
                    (chain->name.len > 0 || i == at);
        if (same && old[i].line != NULL) {
            struct service_line *line = old[i].line;
            old[i].line = NULL;
            return line;
        }
    }
    return service_line_new();
}

static void end_lines(struct listener_chain *chains, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct service *none = NULL;
        if (chains[i].line != NULL) {
            service_line_put_take(chains[i].line, &none, 0);
            service_line_unref(&chains[i].line);
        }
    }
    mem_free(chains);
}

/* Connections that came through a chain which is there no more. */
static void drain_orphans(struct worker *worker)
{
    LIST_EACH(&worker->servers, node)
    {
        struct server *server = LIST_ITEM(node, struct server, link);
        const struct service_line *line = server->service->line;
        if (line != NULL && line->newest == NULL && !server->closed) {
            server_drain(server);
        }
    }
}

void listener_apply(struct listener *listener, const struct listener_config *config,
                    struct parcel *pin)
{
    const struct listener_config *before = listener->config;
    struct parcel *old_pin = listener->pin;
    struct listener_chain *old = listener->chains;
    uint32_t count = chain_count(config);
    listener->config = config;
    listener->pin = pin != NULL ? parcel_ref(pin) : NULL;
    listener->chains = NEW_ARRAY(struct listener_chain, count);
    for (uint32_t i = 0; i < count; i++) {
        struct service *service = new_service(listener, chain_at(config, i));
        struct listener_chain *at = &listener->chains[i];
        *at =
            (struct listener_chain){.service = service, .line = take_line(old, before, config, i)};
        service_line_put_take(at->line, &service, rng_u64(&listener->worker->rng));
    }
    end_lines(old, chain_count(before));
    drain_orphans(listener->worker);
    parcel_unref(&old_pin);
    listener->net->ops->accepting(listener->net, true);
}

/* ---- life ---- */

static struct listener *new_listener(struct worker *worker, struct net_listener **net)
{
    struct listener *listener = NEW(struct listener);
    listener->worker = worker;
    listener->net = *net;
    *net = NULL;
    listener->task.run = run;
    listener->net->owner = &listener->task;
    list_append(&worker->listeners, &listener->link);
    return listener;
}

struct listener *listener_new(struct worker *worker, const struct listener_config *config,
                              struct net_listener **net)
{
    struct listener *listener = new_listener(worker, net);
    listener_apply(listener, config, NULL);
    return listener;
}

struct listener *listener_new_at(struct worker *worker, const struct listener_place *place,
                                 struct net_listener **net)
{
    struct listener *listener = new_listener(worker, net);
    listener->place = place;
    if (is_outbound(listener)) {
        listener->net->ops->accepting(listener->net, true);
    }
    return listener;
}

void listener_free(struct listener **listener_at)
{
    struct listener *listener = *listener_at;
    list_remove(&listener->link);
    task_cancel(&listener->task);
    listener->net->ops->unlisten(&listener->net);
    end_lines(listener->chains, chain_count(listener->config));
    parcel_unref(&listener->pin);
    mem_free(listener);
    *listener_at = NULL;
}

struct service *listener_service(struct listener *listener, const struct filter_chain *chain)
{
    const struct listener_config *config = listener->config;
    uint32_t at =
        chain == config->fallback ? config->chain_count : (uint32_t)(chain - config->chains);
    return listener->chains[at].service;
}
