#pragma once
/* RetryPolicy -> struct retry_policy. */

#include "envoy/config/route/v3/route.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_retry(struct compiler *c, const Envoy__Config__Route__V3__RetryPolicy *policy,
                   const struct retry_policy **out) MUST_USE;
