#pragma once
/* pillion.config.v1.Destination -> struct destination. */

#include "pillion/config/v1/destination.pb-c.h"

#include "sidecar/config/compile_base.h"

bool compile_destination(struct compiler *c, struct slice name,
                         const Pillion__Config__V1__Destination *destination,
                         struct destination *out) MUST_USE;
