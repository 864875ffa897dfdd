#pragma once
/* Listener -> struct listener_config. */

#include "envoy/config/listener/v3/listener.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_listener(struct compiler *c, const Envoy__Config__Listener__V3__Listener *listener,
                      struct listener_config *out) MUST_USE;
