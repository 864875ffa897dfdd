#pragma once
/* The mesh as one client sees it: its node, and the resources that it has asked for, made from the
 * picture when they are first looked at and again when the picture has changed. One thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/map.h"
#include "base/slice.h"
#include "control/picture.h"
#include "policy/translate.h"
#include "xds/resources.h"
#include "xds/types.h"

struct Envoy__Config__Core__V3__Node;

/* What a client says of itself; texts are in the view's arena and never null. */
struct view_node {
    const char *id;
    const char *agent;     /* "pillion-sidecar 0.1.0" */
    const char *network;   /* metadata NETWORK */
    const char *namespace; /* metadata NAMESPACE; "" where it says none */
    const char *account;   /* metadata SERVICE_ACCOUNT; "" where it says none */
    struct labels labels;  /* metadata LABELS: for clients that no WorkloadEntry describes */
};

struct view {
    const struct picture *picture;
    struct arena arena; /* of `said` */
    struct view_node said;
    struct translate_node node; /* as the picture of `epoch` has it */
    struct arena node_arena;
    uint64_t epoch;
    struct map made[XDS_RESOURCE_COUNT]; /* name -> struct view_entry */
};

struct view_entry {
    struct resource *resource; /* null: there is none */
    uint64_t epoch;
    char **objects; /* ids of what it was made from */
    size_t object_count;
};

/* `seed`: secret, since clients choose the names. */
void view_init(struct view *view, const struct picture *picture, uint64_t seed);
void view_fini(struct view *view);

/* Notes what the client says of itself. */
void view_set_node(struct view *view, const struct Envoy__Config__Core__V3__Node *node);
/* The node under the picture of now. Borrowed until the picture changes. */
const struct translate_node *view_get_node(struct view *view);

/* What has that name now; borrowed until the next call with this view. Never null. */
const struct view_entry *view_get(struct view *view, enum xds_resource type, struct slice name);
/* True when the entry was made from that object. */
bool view_entry_uses(const struct view_entry *entry, const char *object_id);
/* Names that a wildcard stands for, in the arena. */
const char **view_wildcard(struct view *view, enum xds_resource type, struct arena *arena,
                           size_t *count);
/* Forgets what was made when it is far more than `names` in use; it is made again when needed. */
void view_trim(struct view *view, uint32_t names);
