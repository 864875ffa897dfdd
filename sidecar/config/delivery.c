#include "sidecar/config/delivery.h"

#include <string.h>

#include "base/alloc.h"
#include "sidecar/accept/listener.h"
#include "sidecar/config/destinations.h"
#include "sidecar/worker.h"

struct delivery {
    struct mail mail;
    struct worker *worker;
    enum delivery_kind kind;
    struct parcel *parcel; /* keeps `config`; null: there is none */
    const void *config;
    struct slice name;
    char text[];
};

static void apply_listener(struct worker *worker, const struct listener_config *config,
                           struct parcel *parcel)
{
    worker_set_workload(worker, config->workload);
    LIST_EACH(&worker->listeners, node)
    {
        struct listener *listener = LIST_ITEM(node, struct listener, link);
        if (listener->place != NULL && listener->place->direction == LISTENER_INBOUND) {
            listener_apply(listener, config, parcel);
        }
    }
}

/* On the worker's thread. */
static void deliver(struct mail *mail, struct loop *loop)
{
    struct delivery *delivery = CONTAINER_OF(mail, struct delivery, mail);
    struct worker *worker = delivery->worker;
    switch (delivery->kind) {
    case DELIVERY_DESTINATION:
        destinations_put(worker->destinations, delivery->config, delivery->parcel);
        break;
    case DELIVERY_UNKNOWN:
        destinations_put_unknown(worker->destinations, delivery->name);
        break;
    case DELIVERY_REFUSED:
        destinations_put_refused(worker->destinations, delivery->name);
        break;
    case DELIVERY_CLUSTER:
        directory_put(&worker->clusters, delivery->config, delivery->parcel, loop->now_us,
                      rng_u64(&worker->rng));
        worker_clusters_changed(worker);
        break;
    case DELIVERY_CLUSTER_GONE:
        directory_remove(&worker->clusters, delivery->name);
        break;
    case DELIVERY_ENDPOINTS:
        directory_put_endpoints(&worker->clusters, delivery->config, loop->now_us);
        break;
    case DELIVERY_RESOLVED:
        directory_put_resolved(&worker->clusters, delivery->config, loop->now_us);
        break;
    case DELIVERY_LISTENER:
        apply_listener(worker, delivery->config, delivery->parcel);
        break;
    }
    parcel_unref(&delivery->parcel);
    mem_free(delivery);
}

void delivery_send(struct worker *worker, enum delivery_kind kind, struct published *published,
                   const void *config, struct slice name)
{
    struct delivery *delivery = mem_new(sizeof(*delivery) + name.len);
    *delivery = (struct delivery){.mail.deliver = deliver,
                                  .worker = worker,
                                  .kind = kind,
                                  .parcel = published != NULL ? parcel_new(published) : NULL,
                                  .config = config,
                                  .name = slice_of((uint8_t *)delivery->text, name.len)};
    if (name.len > 0) {
        memcpy(delivery->text, name.at, name.len);
    }
    loop_send(worker->loop, &delivery->mail);
}
