#pragma once
/* From xDS to the snapshot: the one door through which protobuf messages become configuration.
 * Everything is validated here, whole, by Envoy's own rules (xds.md 1.3: required fields, bounds,
 * required oneofs) and ours; what is refused names its field by its path. What is absent becomes
 * what Envoy means by its absence (1.4). Runs on the admin thread; pure, but for the files that a
 * static bootstrap may name, which a function of the caller's reads.
 *
 * The other compile_* headers are the parts, for each other and for tests. */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "sidecar/config/snapshot.h"
#include "xds/types.h"

struct compile_options {
    /* Reads a file that a DataSource names, into the arena. Null: files are refused. */
    bool (*read_file)(void *reader, const char *path, struct arena *arena, struct slice *bytes,
                      struct error *err);
    void *reader;
    /* The control plane is not ours: a filter chain with an extension that we do not have is
     * quarantined instead of refusing the whole listener. */
    bool quarantine;
    /* The RouteConfiguration that a Destination names (route_config_name), encoded; empty: it has
     * not come yet, and the destination is compiled without. */
    struct slice routes;
};

/* One resource, compiled; frees as one. */
struct compiled {
    struct snapshot *owner;
    enum xds_resource type;
    const struct listener_config *listener; /* the one that `type` says; the others are null */
    const struct route_table *routes;
    const struct cluster_config *cluster;
    const struct endpoint_set *endpoints;
    const struct destination *destination;
    const struct named_secret *secret;
};

/* The resource's bytes (an Any's value) under the name that it came with. False: err says
 * "<field path>: <reason>", and *out is empty. `options` may be null. */
bool compile_resource(enum xds_resource type, struct slice name, struct slice bytes,
                      const struct compile_options *options, struct compiled *out,
                      struct error *err) MUST_USE;
void compiled_free(struct compiled *compiled);

/* `--config FILE`: an Envoy v3 bootstrap, as parsed JSON (or YAML made JSON). Null with the field's
 * path in err. Freed with snapshot_free(&bootstrap->owner). */
struct bootstrap *compile_bootstrap(const json_t *file, const struct compile_options *options,
                                    struct error *err) MUST_USE;
