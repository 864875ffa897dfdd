#include <inttypes.h>

#include "base/yaml.h"

json_t *yaml_to_json(const struct yaml_node *node)
{
    json_t *value = NULL;
    switch (node->kind) {
    case YAML_KIND_NULL:
        value = json_null();
        break;
    case YAML_KIND_BOOL:
        value = json_boolean(node->boolean);
        break;
    case YAML_KIND_INT:
        value = json_integer(node->integer);
        break;
    case YAML_KIND_FLOAT:
        value = json_real(node->number);
        break;
    case YAML_KIND_STRING:
        value = json_stringn((const char *)node->text.at, node->text.len);
        break;
    case YAML_KIND_SEQUENCE:
        value = json_array();
        YAML_EACH(node, child)
        {
            CHECK(json_array_append_new(value, yaml_to_json(child)) == 0);
        }
        break;
    case YAML_KIND_MAPPING:
        value = json_object();
        YAML_EACH(node, child)
        {
            CHECK(json_object_setn_new(value, (const char *)child->key.at, child->key.len,
                                       yaml_to_json(child)) == 0);
        }
        break;
    }
    CHECK(value != NULL);
    return value;
}

static void scalar_from_json(struct arena *arena, struct yaml_node *node, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        node->kind = YAML_KIND_STRING;
        node->text = arena_dup(arena, json_slice(value));
        break;
    case JSON_INTEGER:
        node->kind = YAML_KIND_INT;
        node->integer = json_integer_value(value);
        node->text = slice_of_text(arena_printf(arena, "%" PRId64, node->integer));
        break;
    case JSON_REAL:
        node->kind = YAML_KIND_FLOAT;
        node->number = json_real_value(value);
        node->text = slice_of_text(arena_printf(arena, "%.17g", node->number));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        node->kind = YAML_KIND_BOOL;
        node->boolean = json_is_true(value);
        node->text = node->boolean ? SLICE("true") : SLICE("false");
        break;
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        node->kind = YAML_KIND_NULL;
        node->text = SLICE("null");
        break;
    }
}

/* Makes `child` the last below `parent`; *last is the one before, or null. */
static void adopt(struct yaml_node *parent, struct yaml_node **last, struct yaml_node *child)
{
    if (*last != NULL) {
        (*last)->next = child;
    } else {
        parent->first = child;
    }
    *last = child;
    parent->count++;
    parent->weight += child->weight;
    parent->height = child->height >= parent->height ? child->height + 1 : parent->height;
}

struct yaml_node *yaml_from_json(struct arena *arena, json_t *value)
{
    struct yaml_node *node = ARENA_NEW(arena, struct yaml_node);
    struct yaml_node *last = NULL;
    node->weight = 1;
    if (json_is_array(value)) {
        node->kind = YAML_KIND_SEQUENCE;
        node->height = 1;
        for (size_t i = 0; i < json_array_size(value); i++) {
            adopt(node, &last, yaml_from_json(arena, json_array_get(value, i)));
        }
    } else if (json_is_object(value)) {
        node->kind = YAML_KIND_MAPPING;
        node->height = 1;
        void *at = json_object_iter(value);
        for (; at != NULL; at = json_object_iter_next(value, at)) {
            struct yaml_node *child = yaml_from_json(arena, json_object_iter_value(at));
            struct slice key = slice_of(json_object_iter_key(at), json_object_iter_key_len(at));
            child->key = arena_dup(arena, key);
            adopt(node, &last, child);
        }
    } else {
        scalar_from_json(arena, node, value);
    }
    return node;
}
