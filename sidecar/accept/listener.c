#include "sidecar/accept/listener.h"

#include "base/alloc.h"
#include "sidecar/accept/intake.h"
#include "sidecar/worker.h"

/* In one run; the rest of the backlog posts the listener again. */
#define ACCEPTS_PER_RUN 32

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
        intake_begin(listener, &net);
        count++;
    }
    listener->last_run = count > 1 ? count : 0;
}

static void free_service(struct service *service)
{
    if (service->binding.table != NULL) {
        binding_fini(&service->binding);
    }
    mem_free(service);
}

static struct service *new_service(struct listener *listener, const struct filter_chain *chain)
{
    struct service *service = NEW(struct service);
    *service = (struct service){.references = 1,
                                .http = chain->http,
                                .tcp = chain->tcp,
                                .direction = listener->config->direction,
                                .name = chain->name,
                                .free = free_service};
    if (chain->http != NULL && chain->http->routes != NULL) {
        binding_init(&service->binding, chain->http->routes, rng_u64(&listener->worker->rng));
    }
    return service;
}

struct listener *listener_new(struct worker *worker, const struct listener_config *config,
                              struct net_listener **net)
{
    struct listener *listener = NEW(struct listener);
    listener->worker = worker;
    listener->config = config;
    listener->net = *net;
    *net = NULL;
    listener->task.run = run;
    listener->services = NEW_ARRAY(struct service *, config->chain_count + 1);
    for (uint32_t i = 0; i < config->chain_count; i++) {
        listener->services[i] = new_service(listener, &config->chains[i]);
    }
    if (config->fallback != NULL) {
        listener->services[config->chain_count] = new_service(listener, config->fallback);
    }
    listener->net->owner = &listener->task;
    listener->net->ops->accepting(listener->net, true);
    list_append(&worker->listeners, &listener->link);
    return listener;
}

void listener_free(struct listener **listener_at)
{
    struct listener *listener = *listener_at;
    list_remove(&listener->link);
    task_cancel(&listener->task);
    listener->net->ops->unlisten(&listener->net);
    for (uint32_t i = 0; i <= listener->config->chain_count; i++) {
        service_unref(&listener->services[i]);
    }
    mem_free(listener->services);
    mem_free(listener);
    *listener_at = NULL;
}

struct service *listener_service(struct listener *listener, const struct filter_chain *chain)
{
    const struct listener_config *config = listener->config;
    if (chain == config->fallback) {
        return listener->services[config->chain_count];
    }
    return listener->services[chain - config->chains];
}
