#pragma once
/* What a new connection is: its original destination, its first bytes where they matter, TLS ended
 * here or not, the filter chain, the protocol; then a server has it. One worker. */

#include "base/net.h"

struct listener;
struct worker;

/* Takes *net. */
void intake_begin(struct listener *listener, struct net_conn **net);

/* Ends all that no server has yet. */
void intake_close_all(struct worker *worker);
