#pragma once
/* The tables of all fields that are read. Private to policy/. */

#include "policy/fields.h"

/* How objects of a kind are laid out. */
struct parse_kind {
    const struct field_shape *shape; /* of the spec, or of the whole object */
    bool has_spec;                   /* else the fields stand beside metadata */
};

const struct parse_kind *parse_kind_get(enum object_kind kind);

/* What metadata is read into. */
struct parse_metadata {
    uint32_t line;
    struct text name;
    struct text namespace;
    struct text uid;
    struct labels labels;
    struct labels annotations;
};

extern const struct field_shape parse_metadata_shape;
