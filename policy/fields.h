#pragma once
/* The machine under policy/parse: a table says which fields a struct has, one line each, and
 * fields_read fills the struct from a YAML mapping by it. A field that no table names is refused.
 * Private to policy/. */

#include <stddef.h>
#include <stdint.h>

#include "base/yaml.h"
#include "policy/object.h"
#include "policy/problem.h"

#define FIELD_PATH_MAX 512

/* Where the reading stands: for problems, and the arena of what is read. */
struct field_reader {
    struct object *object; /* its arena and file; id "" while it is not known */
    struct policy_problems *problems;
    bool failed;
    char path[FIELD_PATH_MAX]; /* "spec.http[0]"; cut where it is longer */
    size_t path_len;
};

struct field;
/* Reads `node` (never null, never YAML_KIND_NULL) into `to`. */
typedef void field_read_fn(struct field_reader *reader, const struct yaml_node *node, void *to,
                           const struct field *field);

struct field {
    const char *name;
    field_read_fn *read;
    size_t offset;
    const void *of; /* what `read` wants: a shape, a list of values, a text */
};

/* A struct that is read from a mapping. Its first member is `uint32_t line`. */
struct field_shape {
    const struct field *fields;
    size_t count;
    size_t size;
};

#define FIELD(type, member, name, reader, of)                                                      \
    {                                                                                              \
        name, reader, offsetof(type, member), of                                                   \
    }
/* Known, and refused by name until it is supported. */
#define FIELD_LATER(name)                                                                          \
    {                                                                                              \
        name, field_later, 0, NULL                                                                 \
    }
/* Says nothing that the mesh could follow; read by Kubernetes only. */
#define FIELD_TOLERATED(name)                                                                      \
    {                                                                                              \
        name, field_tolerated, 0, NULL                                                             \
    }
#define FIELD_SHAPE(type, table)                                                                   \
    {                                                                                              \
        table, COUNT_OF(table), sizeof(type)                                                       \
    }

/* A list of texts that ends with null. */
typedef const char *const field_values[];

field_read_fn field_text;     /* struct text */
field_read_fn field_number;   /* struct number, 0 to 2^31-1 */
field_read_fn field_port;     /* struct number, 1 to 65535 */
field_read_fn field_percent;  /* struct number, 0 to 100 */
field_read_fn field_flag;     /* struct flag */
field_read_fn field_duration; /* struct duration: "1h", "1m30s", "1.5s", "500ms" */
field_read_fn field_choice;   /* struct choice; of: field_values */
field_read_fn field_labels;   /* struct labels, from a mapping of strings */
field_read_fn field_texts;    /* struct texts, from a list of strings */
field_read_fn field_message;  /* a struct in place; of: its shape */
field_read_fn field_pointer;  /* a pointer to a struct; of: its shape */
field_read_fn field_list;     /* OBJECT_LIST; of: the shape of an item */
field_read_fn field_only;     /* nothing is kept; of: field_values, the only allowed ones; also a
                                 list of them */
field_read_fn field_later;
field_read_fn field_tolerated;

/* Fills the struct at `to` from a mapping; its line is set. */
void fields_read(struct field_reader *reader, const struct yaml_node *node, void *to,
                 const struct field_shape *shape);
/* Whether `node` is of that kind; a problem if not. */
bool field_expect(struct field_reader *reader, const struct yaml_node *node, enum yaml_kind kind);
/* A problem at `line` of the current path; fails the reader. */
void field_problem(struct field_reader *reader, uint32_t line, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* The path goes one step down, to a member or an item; the result goes back up with field_leave. */
size_t field_enter(struct field_reader *reader, struct slice name);
size_t field_enter_key(struct field_reader *reader, struct slice key); /* ["x-canary"] */
size_t field_enter_item(struct field_reader *reader, size_t index);
void field_leave(struct field_reader *reader, size_t path_len);

/* A copy in the object's arena; a problem and "" where the text has a zero byte. */
const char *field_copy(struct field_reader *reader, const struct yaml_node *node);
/* Go's and protobuf's texts for a time; false when it is none, negative, or above 100 years. */
bool duration_parse(struct slice text, uint64_t *us) MUST_USE;
