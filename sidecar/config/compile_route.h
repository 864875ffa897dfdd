#pragma once
/* RouteConfiguration -> struct route_table. */

#include "envoy/config/route/v3/route.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_routes(struct compiler *c, const Envoy__Config__Route__V3__RouteConfiguration *config,
                    const struct route_table **out) MUST_USE;
