#pragma once
/* Header operations: request_headers_to_add and the like. */

#include "sidecar/config/compile_base.h"

/* One level's four lists, as every message has them; empty lists may be null. */
struct compile_header_lists {
    Envoy__Config__Core__V3__HeaderValueOption *const *adds;
    char *const *removes;
    size_t add_count;
    size_t remove_count;
};

/* `name` is "request" or "response". *out is null where there is nothing to do. */
bool compile_header_ops(struct compiler *c, const char *name,
                        const struct compile_header_lists *lists,
                        const struct header_ops **out) MUST_USE;
