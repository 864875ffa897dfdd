#include "sidecar/exchange/report.h"

#include "sidecar/exchange/exchange.h"
#include "sidecar/worker.h"

void report_verdict(struct exchange *exchange, const struct retry_verdict *verdict)
{
    (void)exchange;
    (void)verdict;
}

void report_exchange(struct exchange *exchange)
{
    (void)exchange;
}
