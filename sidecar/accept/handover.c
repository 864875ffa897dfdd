#include "sidecar/accept/handover.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "sidecar/accept/listener.h"
#include "sidecar/worker.h"

struct handover {
    struct mail mail;
    struct net_conn *net;
    struct worker *from;
    struct worker *to;
    const void *socket; /* which listening socket it came through: the same in every worker */
};

/* Places and static configuration are shared by the workers, each of which has a listener of it. */
static const void *socket_of(const struct listener *listener)
{
    return listener->place != NULL ? (const void *)listener->place : (const void *)listener->config;
}

static struct listener *find_listener(struct worker *worker, const void *socket)
{
    LIST_EACH(&worker->listeners, node)
    {
        struct listener *listener = LIST_ITEM(node, struct listener, link);
        if (socket_of(listener) == socket) {
            return listener;
        }
    }
    return NULL;
}

static void send_to(struct handover *handover, struct worker *to)
{
    handover->to = to;
    worker_weigh(to, 1);
    loop_send(to->loop, &handover->mail);
}

static void deliver(struct mail *mail, struct loop *loop)
{
    struct handover *handover = CONTAINER_OF(mail, struct handover, mail);
    struct worker *worker = handover->to;
    struct listener *listener = worker->ended ? NULL : find_listener(worker, handover->socket);
    worker_weigh(worker, -1);
    if (listener != NULL && listener_is_ready(listener)) {
        handover->net->ops->adopt(loop, handover->net);
        listener_take(listener, &handover->net);
    } else if (!worker->ended && handover->from != worker) {
        send_to(handover, handover->from); /* our configuration is still on its way; its is not */
        return;
    } else {
        handover->net->ops->reset(&handover->net);
    }
    mem_free(handover);
}

bool handover_give(struct listener *listener, struct net_conn **net)
{
    struct worker *worker = listener->worker;
    struct worker *least = worker;
    for (unsigned i = 0; i < worker->sibling_count; i++) {
        struct worker *each = worker->siblings[i];
        least = worker_get_load(each) < worker_get_load(least) ? each : least;
    }
    if (least == worker || worker_get_load(least) + HANDOVER_GAP > worker_get_load(worker)) {
        return false;
    }
    struct handover *handover = NEW(struct handover);
    *handover = (struct handover){
        .mail.deliver = deliver, .net = *net, .from = worker, .socket = socket_of(listener)};
    *net = NULL;
    handover->net->ops->detach(handover->net);
    send_to(handover, least);
    return true;
}
