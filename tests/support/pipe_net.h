#pragma once
/* A net table over memory for unit tests: pairs of connections, each with a bounded queue towards
 * the other, that can hand out and take bytes in small pieces. Stepped loops only. */

#include "base/loop.h"
#include "base/net.h"

const struct net_ops *pipe_net(void);

struct pipe_limits {
    size_t recv_max; /* bytes a call; 0: any */
    size_t send_max; /* bytes a call; 0: any */
    size_t room;     /* bytes under way; 0: any */
};

/* Two connected ends; each call of either end obeys the limits. Freed by net->ops->close. */
void pipe_net_pair(struct loop *loop, const struct pipe_limits *limits, struct net_conn *ends[2]);
/* Bytes that wait to be received at this end. */
size_t pipe_net_waiting(const struct net_conn *end);
/* Calls of recv and send that this end has seen. */
unsigned pipe_net_calls(const struct net_conn *end);
