#pragma once
/* What is told of an exchange: metrics, the decision record, the access log. One worker. */

#include "sidecar/resilience/retry.h"

struct exchange;

/* An attempt ended, well or not. */
void report_attempt(struct exchange *exchange);
/* A retry was decided on, or against. */
void report_verdict(struct exchange *exchange, const struct retry_verdict *verdict);
/* An opaque connection reached its endpoint. */
void report_opened(struct exchange *exchange);
/* Bytes of a tunnel moved: they are counted now and then, not only at its end. */
void report_moved(struct exchange *exchange);
/* The end; once for each exchange, while its attempt still stands. */
void report_exchange(struct exchange *exchange);
