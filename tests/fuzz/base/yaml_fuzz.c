/* Any bytes as a file of YAML documents. Beyond "no crash": a good document is within its bounds,
 * becomes JSON, that JSON text, read as JSON, is the same value again, and
 * a tree of the same shape comes from it. */
#include <stdint.h>

#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static uint32_t walk(const struct yaml_node *node, unsigned depth)
{
    uint32_t visited = 1;
    CHECK(depth <= 16);
    CHECK(node->line > 0);
    YAML_EACH(node, child)
    {
        visited += walk(child, depth + (child->kind >= YAML_KIND_SEQUENCE));
    }
    CHECK(visited == node->weight);
    return visited;
}

static void check_document(struct arena *arena, const struct yaml_node *root)
{
    CHECK(walk(root, root->kind >= YAML_KIND_SEQUENCE) <= 1000);
    json_t *value = yaml_to_json(root);
    struct error err = {""};
    json_t *again = json_parse(json_text(arena, value, false), NULL, &err);
    CHECK(again != NULL);
    CHECK(json_equal(value, again));
    const struct yaml_node *tree = yaml_from_json(arena, again);
    CHECK(tree->weight == root->weight);
    CHECK(tree->height == root->height);
    json_decref(value);
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct arena arena;
    struct yaml_reader reader;
    struct yaml_node *root = NULL;
    struct error err = {""};
    struct yaml_limits limits = {.depth = 16, .nodes = 1000};
    arena_init(&arena, NULL);
    yaml_reader_init(&reader, slice_of(input, len), &limits);
    for (enum yaml_read read = YAML_READ_BAD; read != YAML_READ_END;) {
        read = yaml_read(&reader, &arena, &root, &err);
        if (read == YAML_READ_DOCUMENT) {
            check_document(&arena, root);
        }
        if (read == YAML_READ_BAD) {
            CHECK(reader.error_line > 0);
        }
    }
    arena_fini(&arena);
    return 0;
}
