#pragma once
/* Which worker serves a new connection. The kernel gives connections to whichever worker wakes
 * first, so a few long-lived ones may all end up with one thread. A worker that has clearly more
 * than another therefore gives a connection away: by mail, before a byte of it was read, when there
 * is nothing yet but the socket.
 *
 * Refused: SO_REUSEPORT's hash, which spreads connections by chance, not by load, and resets half
 * of a queue when one of its sockets closes. */

#include <stdint.h>

#include "base/net.h"

struct listener;
struct worker;

/* Ours must have so much more than the other, or connections would go back and forth. */
#define HANDOVER_GAP 2U

/* Gives *net to the worker with the least to do, where ours has enough more. False: it stays. */
bool handover_give(struct listener *listener, struct net_conn **net) MUST_USE;
