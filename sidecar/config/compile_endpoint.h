#pragma once
/* ClusterLoadAssignment -> struct endpoint_set. */

#include "envoy/config/endpoint/v3/endpoint.pb-c.h"

#include "sidecar/config/compile_base.h"

/* `names`: an endpoint's address may be a name (DNS clusters) instead of an IP address. */
bool compile_endpoints(struct compiler *c,
                       const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *assignment,
                       bool names, struct endpoint_set *out) MUST_USE;
