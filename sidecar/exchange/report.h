#pragma once
/* What is told of an exchange when it ends: metrics, access log, span. Handles are resolved when
 * routes are compiled; nothing here looks names up. One worker. */

#include "sidecar/resilience/retry.h"

struct exchange;

/* A retry was decided on, or against. */
void report_verdict(struct exchange *exchange, const struct retry_verdict *verdict);
/* The end; once for each exchange. */
void report_exchange(struct exchange *exchange);
