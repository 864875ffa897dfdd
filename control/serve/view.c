#include "control/serve/view.h"

#include <string.h>

#include "envoy/config/core/v3/core.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

#include "base/alloc.h"

#define LABELS_MAX 128U
#define SPARE      1000U

/* ---- life ---- */

void view_init(struct view *view, const struct picture *picture, uint64_t seed)
{
    *view = (struct view){.picture = picture};
    arena_init(&view->arena, NULL);
    arena_init(&view->node_arena, NULL);
    view->said =
        (struct view_node){.id = "", .agent = "", .network = "", .namespace = "", .account = ""};
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        map_init(&view->made[i], seed, MAP_KEYS_COPIED);
    }
}

static void entry_clear(struct view_entry *entry)
{
    resource_unref(&entry->resource);
    FREE(entry->objects);
    entry->object_count = 0;
}

static void made_clear(struct map *made)
{
    MAP_EACH(made, entry)
    {
        entry_clear(entry->value);
        mem_free(entry->value);
    }
    map_fini(made);
}

void view_fini(struct view *view)
{
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        made_clear(&view->made[i]);
    }
    arena_fini(&view->node_arena);
    arena_fini(&view->arena);
}

/* ---- the node ---- */

static const Google__Protobuf__Value *
metadata_find(const struct Envoy__Config__Core__V3__Node *node, const char *key)
{
    for (size_t i = 0; node->metadata != NULL && i < node->metadata->n_fields; i++) {
        const Google__Protobuf__Struct__FieldsEntry *entry = node->metadata->fields[i];
        if (entry->value != NULL && strcmp(entry->key, key) == 0) {
            return entry->value;
        }
    }
    return NULL;
}

static bool is_text(const Google__Protobuf__Value *value)
{
    return value != NULL && value->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
}

static const char *metadata_text(struct view *view,
                                 const struct Envoy__Config__Core__V3__Node *node, const char *key)
{
    const Google__Protobuf__Value *value = metadata_find(node, key);
    return is_text(value) ? arena_text(&view->arena, slice_of_text(value->string_value)) : "";
}

static struct labels metadata_labels(struct view *view,
                                     const struct Envoy__Config__Core__V3__Node *node)
{
    struct labels labels = {0};
    const Google__Protobuf__Value *value = metadata_find(node, "LABELS");
    if (value == NULL || value->kind_case != GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE) {
        return labels;
    }
    const Google__Protobuf__Struct *map = value->struct_value;
    size_t count = map->n_fields < LABELS_MAX ? map->n_fields : LABELS_MAX;
    labels.at = ARENA_ARRAY(&view->arena, struct label, count + 1);
    for (size_t i = 0; i < count; i++) {
        const Google__Protobuf__Struct__FieldsEntry *entry = map->fields[i];
        if (is_text(entry->value)) {
            labels.at[labels.count++] = (struct label){
                .key = arena_text(&view->arena, slice_of_text(entry->key)),
                .value = arena_text(&view->arena, slice_of_text(entry->value->string_value))};
        }
    }
    return labels;
}

void view_set_node(struct view *view, const struct Envoy__Config__Core__V3__Node *node)
{
    const char *version = "";
    if (node->user_agent_version_type_case ==
        ENVOY__CONFIG__CORE__V3__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION) {
        version = node->user_agent_version;
    }
    view->said = (struct view_node){
        .id = arena_text(&view->arena, slice_of_text(node->id)),
        .agent = arena_printf(&view->arena, "%s%s%s", node->user_agent_name,
                              version[0] != '\0' ? " " : "", version),
        .network = metadata_text(view, node, "NETWORK"),
        .namespace = metadata_text(view, node, "NAMESPACE"),
        .account = metadata_text(view, node, "SERVICE_ACCOUNT"),
        .labels = metadata_labels(view, node),
    };
    view->epoch = 0;
}

const struct translate_node *view_get_node(struct view *view)
{
    if (view->epoch == view->picture->epoch) {
        return &view->node;
    }
    arena_fini(&view->node_arena);
    translate_node_init(&view->node, view->picture->model, &view->node_arena, view->said.id,
                        view->said.network);
    if (view->node.workload == NULL) {
        view->node.labels = view->said.labels;
        /* An id of another form than a sidecar's says no namespace. */
        if (view->node.address[0] == '\0' && view->said.namespace[0] != '\0') {
            view->node.namespace = view->said.namespace;
        }
    }
    view->epoch = view->picture->epoch;
    return &view->node;
}

/* ---- resources ---- */

/* One block: the pointers, then the texts. */
static void objects_note(struct view_entry *entry, const struct translate_result *result)
{
    size_t bytes = result->object_count * sizeof(char *) + 1;
    for (size_t i = 0; i < result->object_count; i++) {
        bytes += strlen(result->objects[i]->id) + 1;
    }
    entry->objects = mem_raw(bytes);
    entry->object_count = result->object_count;
    char *at = (char *)(entry->objects + result->object_count);
    for (size_t i = 0; i < result->object_count; i++) {
        size_t len = strlen(result->objects[i]->id) + 1;
        memcpy(at, result->objects[i]->id, len);
        entry->objects[i] = at;
        at += len;
    }
}

static void entry_make(struct view *view, struct view_entry *entry, enum xds_resource type,
                       struct slice name)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct translate_result result;
    entry_clear(entry);
    if (translate_resource(view->picture->model, view_get_node(view),
                           xds_type_of_resource(type)->url, arena_text(&arena, name), &arena,
                           &result) == TRANSLATE_FOUND) {
        struct slice *aliases = ARENA_ARRAY(&arena, struct slice, result.alias_count + 1);
        for (size_t i = 0; i < result.alias_count; i++) {
            aliases[i] = slice_of_text(result.aliases[i]);
        }
        entry->resource =
            resource_new(name, result.bytes, aliases, result.alias_count, result.generation);
        objects_note(entry, &result);
    }
    entry->epoch = view->picture->epoch;
    arena_fini(&arena);
}

const struct view_entry *view_get(struct view *view, enum xds_resource type, struct slice name)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    struct view_entry *entry = map_get(&view->made[type], name);
    if (entry == NULL) {
        entry = NEW(struct view_entry);
        (void)map_set(&view->made[type], name, entry);
    }
    if (entry->epoch != view->picture->epoch) {
        entry_make(view, entry, type, name);
    }
    return entry;
}

bool view_entry_uses(const struct view_entry *entry, const char *object_id)
{
    for (size_t i = 0; i < entry->object_count; i++) {
        if (strcmp(entry->objects[i], object_id) == 0) {
            return true;
        }
    }
    return false;
}

const char **view_wildcard(struct view *view, enum xds_resource type, struct arena *arena,
                           size_t *count)
{
    return translate_wildcard(view->picture->model, view_get_node(view),
                              xds_type_of_resource(type)->url, arena, count);
}

void view_trim(struct view *view, uint32_t names)
{
    uint64_t made = 0;
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        made += map_count(&view->made[i]);
    }
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT && made > 2 * (uint64_t)names + SPARE; i++) {
        uint64_t seed = view->made[i].seed;
        made_clear(&view->made[i]);
        map_init(&view->made[i], seed, MAP_KEYS_COPIED);
    }
}
