#include "policy/parse.h"

#include <string.h>

#include "base/yaml.h"
#include "policy/array.h"
#include "policy/parse_tables.h"

void policy_documents_init(struct policy_documents *documents)
{
    *documents = (struct policy_documents){0};
    arena_init(&documents->arena, NULL);
}

void policy_documents_fini(struct policy_documents *documents)
{
    for (size_t i = 0; i < documents->count; i++) {
        object_unref(&documents->objects[i]);
    }
    arena_fini(&documents->arena);
    *documents = (struct policy_documents){0};
}

/* One file on its way into objects. */
struct file_parse {
    const char *file;
    struct arena *arena; /* for nodes and scratch; goes with the file */
    struct policy_documents *documents;
    struct policy_problems *problems;
};

static void broken_add(struct policy_documents *documents, const char *file, const char *id)
{
    struct policy_broken broken = {
        .file = arena_text(&documents->arena, slice_of_text(file)),
        .id = id != NULL ? arena_text(&documents->arena, slice_of_text(id)) : NULL,
    };
    ARRAY_PUSH(&documents->arena, documents->broken, documents->broken_count, broken);
}

static void file_problem(struct file_parse *parse, uint32_t line, const char *path,
                         const char *text)
{
    struct policy_where where = {parse->file, line, "", path};
    policy_problem_add(parse->problems, POLICY_SEVERITY_ERROR, where, "%s", text);
}

/* ---- the hash of what an object says, wherever it stands ---- */

static uint64_t hash_mix(uint64_t hash, uint64_t more)
{
    hash ^= more + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
    return hash * 0xff51afd7ed558ccdULL;
}

static uint64_t hash_node(const struct yaml_node *node)
{
    uint64_t hash = hash_mix((uint64_t)node->kind, slice_hash(node->key, 1));
    if (node->kind < YAML_KIND_SEQUENCE) {
        return hash_mix(hash, slice_hash(node->text, 2));
    }
    YAML_EACH(node, child)
    {
        hash = hash_mix(hash, hash_node(child)); /* the depth is bounded by the YAML reader */
    }
    return hash;
}

/* What Kubernetes writes into an object by itself does not make it another one. */
static uint64_t hash_object(const struct yaml_node *root)
{
    static const char *const kept[] = {"name", "namespace", "labels", "annotations", "uid"};
    uint64_t hash = 0;
    YAML_EACH(root, child)
    {
        if (slice_eq(child->key, SLICE("metadata"))) {
            for (size_t i = 0; i < COUNT_OF(kept); i++) {
                const struct yaml_node *node = yaml_get(child, kept[i]);
                hash = hash_mix(hash, node != NULL ? hash_node(node) : 0);
            }
        } else if (!slice_eq(child->key, SLICE("status")) &&
                   !slice_eq(child->key, SLICE("apiVersion"))) {
            hash = hash_mix(hash, hash_node(child));
        }
    }
    return hash;
}

/* ---- apiVersion and kind ---- */

/* Kinds that are on their way, so that the refusal can say so. */
static const char *const later_kinds[] = {
    "AuthorizationPolicy",
    "BackendTLSPolicy",
    "EnvoyFilter",
    "GRPCRoute",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "ReferenceGrant",
    "RequestAuthentication",
    "ServiceEntry",
    "Sidecar",
    "TCPRoute",
    "TLSRoute",
    "Telemetry",
    "WorkloadGroup",
};

static bool version_known(enum object_kind kind, struct slice version)
{
    if (slice_eq(version, SLICE("v1"))) {
        return true;
    }
    /* Istio's three versions are one. */
    return slice_ends(slice_of_text(object_kind_group(kind)), SLICE(".istio.io")) &&
           (slice_eq(version, SLICE("v1beta1")) || slice_eq(version, SLICE("v1alpha3")));
}

/* "apps/v1" -> "apps", "v1"; "v1" -> "", "v1". */
static void api_version_cut(struct slice api, struct slice *group, struct slice *version)
{
    size_t slash = slice_find(api, '/');
    *group = slash < api.len ? slice_head(api, slash) : slice_head(api, 0);
    *version = slash < api.len ? slice_from(api, slash + 1) : api;
}

static void kind_refuse(struct file_parse *parse, const struct yaml_node *node)
{
    for (size_t i = 0; i < COUNT_OF(later_kinds); i++) {
        if (slice_eq(node->text, slice_of_text(later_kinds[i]))) {
            file_problem(parse, node->line, "kind",
                         arena_printf(parse->arena, "%s is not supported yet", later_kinds[i]));
            return;
        }
    }
    const char *names = "";
    for (int kind = 0; kind <= OBJECT_KIND_PEER_AUTHENTICATION; kind++) {
        names = arena_printf(parse->arena, "%s%s%s", names, kind > 0 ? ", " : "",
                             object_kind_name((enum object_kind)kind));
    }
    file_problem(parse, node->line, "kind",
                 arena_printf(parse->arena,
                              "%.*s of that apiVersion is not an object of the mesh; allowed: %s",
                              SLICE_ARG(slice_head(node->text, 64)), names));
}

/* The kind of a document; false with a problem. */
static bool kind_read(struct file_parse *parse, const struct yaml_node *root,
                      enum object_kind *kind)
{
    const struct yaml_node *api = yaml_get(root, "apiVersion");
    const struct yaml_node *name = yaml_get(root, "kind");
    if (api == NULL || api->kind != YAML_KIND_STRING || name == NULL ||
        name->kind != YAML_KIND_STRING) {
        file_problem(parse, root->line, api == NULL ? "apiVersion" : "kind",
                     "an object starts with apiVersion and kind, two strings");
        return false;
    }
    struct slice group;
    struct slice version;
    api_version_cut(api->text, &group, &version);
    if (!object_kind_find(arena_text(parse->arena, group), arena_text(parse->arena, name->text),
                          kind)) {
        kind_refuse(parse, name);
        return false;
    }
    if (!version_known(*kind, version)) {
        file_problem(
            parse, api->line, "apiVersion",
            arena_printf(parse->arena, "version %.*s of %s is not supported; allowed: %s",
                         SLICE_ARG(slice_head(version, 64)), object_kind_name(*kind),
                         version_known(*kind, SLICE("v1beta1")) ? "v1, v1beta1, v1alpha3" : "v1"));
        return false;
    }
    return true;
}

/* ---- one object ---- */

/* Kubernetes' names: lower case letters, digits, "-", and "." where `dots`; RFC 1123. */
static bool name_valid(const char *name, size_t max, bool dots)
{
    size_t len = strlen(name);
    if (len == 0 || len > max) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool inner = c == '-' || (dots && c == '.');
        bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!letter && !(inner && i > 0 && i + 1 < len)) {
            return false;
        }
    }
    return true;
}

static void metadata_read(struct field_reader *reader, const struct yaml_node *node)
{
    struct object *object = reader->object;
    struct parse_metadata metadata = {0};
    fields_read(reader, node, &metadata, &parse_metadata_shape);
    object->labels = metadata.labels;
    object->annotations = metadata.annotations;
    if (metadata.uid.value != NULL) {
        object->uid = metadata.uid.value;
    }
    if (metadata.namespace.value != NULL && metadata.namespace.value[0] != '\0') {
        object->namespace = metadata.namespace.value;
    }
    object->name = metadata.name.value != NULL ? metadata.name.value : "";
    if (!name_valid(object->namespace, 63, false)) {
        size_t path = field_enter(reader, SLICE("namespace"));
        field_problem(reader, metadata.namespace.line,
                      "not a namespace; allowed: lower case letters, digits and \"-\"");
        field_leave(reader, path);
        return;
    }
    if (!name_valid(object->name, 253, true)) {
        size_t path = field_enter(reader, SLICE("name"));
        field_problem(reader, metadata.name.line > 0 ? metadata.name.line : node->line,
                      "an object needs a name; allowed: lower case letters, digits, \"-\" and "
                      "\".\"");
        field_leave(reader, path);
        return;
    }
    object->id = arena_printf(&object->arena, "%s/%s/%s", object_kind_name(object->kind),
                              object->namespace, object->name);
}

/* A member beside metadata and spec. */
static void member_read(struct field_reader *reader, const struct yaml_node *node,
                        const struct parse_kind *kind)
{
    if (slice_eq(node->key, SLICE("spec")) && kind->has_spec) {
        if (node->kind != YAML_KIND_NULL) {
            fields_read(reader, node, &reader->object->spec, kind->shape);
        }
        return;
    }
    for (size_t i = 0; !kind->has_spec && i < kind->shape->count; i++) {
        const struct field *field = &kind->shape->fields[i];
        if (slice_eq(node->key, slice_of_text(field->name))) {
            if (node->kind != YAML_KIND_NULL) {
                field->read(reader, node, (char *)&reader->object->spec + field->offset, field);
            }
            return;
        }
    }
    field_problem(reader, node->key_line, "unknown field; allowed: apiVersion, kind, metadata, %s",
                  kind->has_spec ? "spec" : "and the lists of this kind");
}

static void object_read(struct field_reader *reader, const struct yaml_node *root)
{
    const struct parse_kind *kind = parse_kind_get(reader->object->kind);
    /* Metadata first, wherever it stands: problems name the object. */
    const struct yaml_node *metadata = yaml_get(root, "metadata");
    size_t path = field_enter(reader, SLICE("metadata"));
    if (metadata != NULL) {
        metadata_read(reader, metadata);
    } else {
        field_problem(reader, root->line, "an object needs metadata with a name");
    }
    field_leave(reader, path);

    YAML_EACH(root, child)
    {
        if (slice_eq(child->key, SLICE("apiVersion")) || slice_eq(child->key, SLICE("kind")) ||
            slice_eq(child->key, SLICE("metadata")) || slice_eq(child->key, SLICE("status"))) {
            continue;
        }
        path = field_enter(reader, child->key);
        member_read(reader, child, kind);
        field_leave(reader, path);
    }
    if (kind->has_spec && yaml_get(root, "spec") == NULL) {
        field_problem(reader, root->line, "an object of this kind needs a spec");
    }
}

static void document_read(struct file_parse *parse, const struct yaml_node *root)
{
    enum object_kind kind = OBJECT_KIND_SERVICE;
    if (root->kind != YAML_KIND_MAPPING) {
        file_problem(parse, root->line, "", "an object is a mapping with apiVersion and kind");
        return;
    }
    if (!kind_read(parse, root, &kind)) {
        return;
    }
    struct object *object = object_new(kind, parse->file, root->line);
    struct field_reader reader = {.object = object, .problems = parse->problems};
    object_read(&reader, root);
    object->hash = hash_object(root);
    if (reader.failed) {
        broken_add(parse->documents, parse->file, object->id[0] != '\0' ? object->id : NULL);
        object_unref(&object);
        return;
    }
    struct policy_documents *documents = parse->documents;
    ARRAY_PUSH(&documents->arena, documents->objects, documents->count, object);
}

/* `kubectl get -o yaml` gives a List. */
static void list_read(struct file_parse *parse, const struct yaml_node *root)
{
    const struct yaml_node *items = yaml_get(root, "items");
    if (items == NULL || items->kind != YAML_KIND_SEQUENCE) {
        file_problem(parse, root->line, "items", "a List has items");
        return;
    }
    YAML_EACH(items, item)
    {
        document_read(parse, item);
    }
}

static bool is_list(const struct yaml_node *root)
{
    const struct yaml_node *kind = yaml_get(root, "kind");
    return kind != NULL && kind->kind == YAML_KIND_STRING && slice_eq(kind->text, SLICE("List"));
}

const char *const policy_file_endings[] = {".yaml", ".yml", ".json", NULL};

void policy_parse(struct slice text, const char *file, struct policy_documents *documents,
                  struct policy_problems *problems)
{
    struct yaml_reader yaml;
    yaml_reader_init(&yaml, text, NULL);
    for (;;) {
        struct arena arena;
        arena_init(&arena, NULL);
        struct file_parse parse = {file, &arena, documents, problems};
        struct yaml_node *root = NULL;
        struct error err = {0};
        enum yaml_read got = yaml_read(&yaml, &arena, &root, &err);
        if (got == YAML_READ_BAD) {
            file_problem(&parse, yaml.error_line, "", err.text);
            broken_add(documents, file, NULL);
        } else if (got == YAML_READ_DOCUMENT) {
            if (is_list(root)) {
                list_read(&parse, root);
            } else {
                document_read(&parse, root);
            }
        }
        arena_fini(&arena);
        if (got == YAML_READ_END) {
            return;
        }
    }
}

void policy_parse_failed(const char *file, struct policy_documents *documents)
{
    broken_add(documents, file, NULL);
}
