#pragma once
/* What a scalar of YAML means, as kubectl reads it: the rules that base/yaml.h names. Used by
 * base/yaml.c alone. */

#include <stdbool.h>

#include "base/yaml.h"

/* Sets kind and value of a plain scalar from its text; false: .inf or .nan, which JSON lacks. */
bool yaml_scalar_resolve(struct yaml_node *node) MUST_USE;

enum yaml_tag {
    YAML_TAG_FITS,
    YAML_TAG_MISFIT, /* the text is no value of the tag */
    YAML_TAG_UNKNOWN,
};

/* Applies an explicit tag of the core schema ("str", "int", ...) to a scalar that was resolved. */
enum yaml_tag yaml_scalar_tag(struct yaml_node *node, struct slice tag) MUST_USE;
