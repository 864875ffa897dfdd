#pragma once
/* A connection of our own application, from accept until a server has it: where it goes (its
 * original destination, or what its listener stands for), what is known of that, what its first
 * bytes are. One worker. */

#include "base/net.h"

struct listener;
struct worker;

/* Takes *net. */
void outbound_begin(struct listener *listener, struct net_conn **net);

/* Ends all that no server has yet. */
void outbound_close_all(struct worker *worker);
