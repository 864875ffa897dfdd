#pragma once
/* What the mesh is like, as JSON: which client has what in force, which objects are live. The forms
 * are in control/serve/api.h. Pure but for reading; one thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "control/picture.h"
#include "control/serve/ads.h"
#include "control/serve/ca_service.h"

struct status_sources {
    const struct picture *picture;
    const struct ads *ads;
    const struct ca_service *certificates; /* may be null */
    uint64_t wall_us;
};

/* New references, never null. */
json_t *status_to_json(const struct status_sources *sources) MUST_USE;
json_t *status_objects_to_json(const struct picture *picture) MUST_USE;

/* An object that is waited for. */
struct status_wanted {
    const char *id; /* "VirtualService/default/order-service" */
    uint64_t hash;
    bool any_version; /* the hash does not matter */
};

/* Reads the body of /api/wait; *wanted in the arena. False with what is wrong. */
bool status_wait_read(struct arena *arena, struct slice body, struct status_wanted **wanted,
                      size_t *count, uint64_t *timeout_ms, struct error *err) MUST_USE;
/* The answer of now; *live: all of them are. */
json_t *status_wait_to_json(const struct status_sources *sources,
                            const struct status_wanted *wanted, size_t count, bool *live) MUST_USE;
