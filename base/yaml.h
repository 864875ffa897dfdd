#pragma once
/* YAML as Kubernetes reads it, with the place of every value: the tree that policy/ decodes, so
 * that its errors can name line and column, and the way from there to JSON.
 *
 * A file is cut into its documents first, and each is parsed alone: one that is broken does not
 * take the others with it. Plain scalars mean what they mean to kubectl (sigs.k8s.io/yaml, that is
 * YAML 1.1 as go-yaml 2 has it): yes, no, on, off, y and n are booleans, 0x, 0o, 0b and a leading 0
 * are bases, underscores in numbers are ignored; base 60 is a string. A date stays the string that
 * it is. Names of a mapping are always the text as written. Other than there: a tag outside of the
 * core schema, .inf, .nan, a zero character and a name that comes twice are refused.
 *
 * Aliases share the nodes that they name, and merge keys ("<<") copy one level of them; the bounds
 * count what a walk over the tree would visit, so a small text cannot stand for a large tree.
 *
 * All nodes live in the caller's arena. libyaml's own memory, which lives for the length of a call,
 * does not pass through base/alloc: libyaml has no hook. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "base/slice.h"

#define YAML_KINDS(X)                                                                              \
    X(NULL, "null")                                                                                \
    X(BOOL, "true or false")                                                                       \
    X(INT, "an integer")                                                                           \
    X(FLOAT, "a number")                                                                           \
    X(STRING, "a string")                                                                          \
    X(SEQUENCE, "a list")                                                                          \
    X(MAPPING, "a mapping")

enum yaml_kind {
#define YAML_KIND_ENUM(name, meaning) YAML_KIND_##name,
    YAML_KINDS(YAML_KIND_ENUM)
#undef YAML_KIND_ENUM
};

struct yaml_node {
    enum yaml_kind kind;
    uint32_t line;     /* in the whole file, from 1; 0: the value came as JSON */
    uint32_t column;   /* from 1 */
    struct slice text; /* a scalar as written, quotes and escapes resolved; numbers too */
    union {
        bool boolean;
        int64_t integer;
        double number;           /* FLOAT, and integers beyond 64 bits with sign */
        struct yaml_node *first; /* of a sequence or mapping; null: empty */
    };
    struct yaml_node *next; /* the sibling behind it */
    struct slice key;       /* its name; null outside of a mapping */
    uint32_t key_line;      /* where the name stands */
    uint32_t key_column;
    uint32_t count;  /* children */
    uint32_t height; /* levels below */
    uint32_t weight; /* nodes that a walk would visit, itself included */
};

#define YAML_DEFAULT_MAX_BYTES ((size_t)16 << 20)
#define YAML_DEFAULT_MAX_DEPTH 64U
#define YAML_DEFAULT_MAX_NODES 500000U

struct yaml_limits {
    size_t bytes;   /* of the whole file; 0: YAML_DEFAULT_MAX_BYTES */
    unsigned depth; /* levels of one document; 0: YAML_DEFAULT_MAX_DEPTH */
    uint32_t nodes; /* of one document, aliases expanded; 0: YAML_DEFAULT_MAX_NODES */
};

/* Goes over the documents of a file. */
struct yaml_reader {
    struct slice rest; /* text not yet read */
    uint32_t line;     /* where rest begins */
    struct yaml_limits limits;
    uint32_t document_line; /* first line of the document that was read last */
    uint32_t error_line;    /* set by YAML_READ_BAD */
    uint32_t error_column;
};

enum yaml_read {
    YAML_READ_DOCUMENT, /* *root is set */
    YAML_READ_END,      /* no document is left */
    YAML_READ_BAD,      /* err says why, error_line and error_column where; read on for the rest */
};

/* `text` is borrowed until the last yaml_read; limits may be null. */
void yaml_reader_init(struct yaml_reader *reader, struct slice text,
                      const struct yaml_limits *limits);

/* The next document that is not empty. The text of err has no position in it. */
enum yaml_read yaml_read(struct yaml_reader *reader, struct arena *arena, struct yaml_node **root,
                         struct error *err) MUST_USE;

/* For a file that must be one document: its root; null with "line L, column C: ..." in err, also
 * where there is none or more than one. */
struct yaml_node *yaml_parse(struct arena *arena, struct slice text,
                             const struct yaml_limits *limits, struct error *err) MUST_USE;

/* The member of a mapping; null when there is none or `mapping` is null or no mapping. */
struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);

/* "a mapping", "an integer", ...: for messages. */
const char *yaml_kind_name(enum yaml_kind kind);

/* The same tree as JSON: a new reference, never null. Integers that 64 bits do not hold are reals.
 */
json_t *yaml_to_json(const struct yaml_node *node) MUST_USE;

/* The other way, for objects that come as JSON (from the Kubernetes API): a tree without places,
 * all lines and columns 0. The depth is bounded by whoever parsed the JSON (json_parse). Copied
 * into the arena; nothing is borrowed from `value`. */
struct yaml_node *yaml_from_json(struct arena *arena, json_t *value);

/* Walks the children of a sequence or mapping. */
#define YAML_EACH(node, child)                                                                     \
    for (const struct yaml_node *child = (node)->kind >= YAML_KIND_SEQUENCE ? (node)->first        \
                                                                            : NULL;                \
         child != NULL; child = child->next)
