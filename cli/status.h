#pragma once
/* What `pillion status` shows, from control's answer. Pure. */

#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

/* The answer to GET /api/status as text: a line about the mesh, a row for each sidecar, then what
 * was refused, by sidecars and by control. Members that are missing count as empty; one of another
 * type is false with *err, and nothing is written. */
bool status_print(FILE *out, const json_t *answer, struct arena *arena, struct error *err) MUST_USE;

/* "NAME.NS" of a sidecar's node id "sidecar~IP~NAME.NS~DOMAIN"; any other id as it is. */
struct slice status_name(struct slice node_id);
