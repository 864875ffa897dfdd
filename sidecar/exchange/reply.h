#pragma once
/* Answers that the sidecar gives itself: redirects, direct responses, and failures with their
 * Proxy-Status (RFC 9209). They fill exchange->answer and local_body; the RELAY step sends them.
 * One worker. */

#include "sidecar/config/snapshot.h"

struct exchange;

void reply_direct(struct exchange *exchange, const struct route_direct *direct);
void reply_redirect(struct exchange *exchange, const struct route_redirect *redirect);
/* For exchange->fail: the status of its row (a refused head: the codec's), for gRPC a trailers-only
 * 200. */
void reply_failure(struct exchange *exchange);
