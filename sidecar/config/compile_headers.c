#include "sidecar/config/compile_headers.h"

#include <stdio.h>

#include "http/headers.h"

#define CORE(type) Envoy__Config__Core__V3__##type
#define PARTS_MAX  16

/* Envoy refuses these: they are the message's frame, or choose the virtual host. */
static bool may_be_changed(struct compiler *c, const char *field, const char *name)
{
    if (name[0] == ':' || slice_eq_nocase(slice_of_text(name), SLICE("host"))) {
        return compile_refuse(c, field, ":-prefixed or host headers may not be modified");
    }
    return compile_header_name(c, field, name);
}

/* ---- values ---- */

struct value_parts {
    struct header_part list[PARTS_MAX];
    uint16_t count;
};

static bool add_part(struct compiler *c, struct value_parts *parts, enum header_variable variable,
                     struct slice text)
{
    if (parts->count == PARTS_MAX) {
        return compile_refuse(c, "header.value", "has more than %d parts", PARTS_MAX);
    }
    parts->list[parts->count++] = (struct header_part){variable, arena_dup(c->arena, text)};
    return true;
}

/* "REQ(x-name)" between two '%'. */
static bool add_operator(struct compiler *c, struct value_parts *parts, struct slice inside)
{
    static const struct {
        enum header_variable variable;
        const char *text;
        bool argument;
    } known[] = {
#define X(value, text, argument) {HEADER_VARIABLE_##value, text, argument},
        HEADER_OPERATORS(X)
#undef X
    };
    struct slice rest = inside;
    struct slice name = slice_cut(&rest, '(');
    bool has_argument = rest.at != NULL && rest.len > 1 && rest.at[rest.len - 1] == ')';
    for (unsigned i = 0; i < COUNT_OF(known); i++) {
        if (!slice_eq(name, slice_of_text(known[i].text)) || known[i].argument != has_argument ||
            (!has_argument && rest.at != NULL)) {
            continue;
        }
        struct slice argument = has_argument ? slice_head(rest, rest.len - 1) : slice_of_text("");
        char *text = arena_text(c->scratch, argument);
        return (!has_argument || compile_header_name(c, "header.value", text)) &&
               add_part(c, parts, known[i].variable, compile_lower(c, text));
    }
    return compile_refuse(c, "header.value", "%%%.*s%% is not supported", SLICE_ARG(inside));
}

static bool add_value(struct compiler *c, struct slice value, struct value_parts *parts)
{
    while (value.len > 0) {
        size_t percent = slice_find(value, '%');
        if (percent > 0) {
            if (!add_part(c, parts, HEADER_VARIABLE_LITERAL, slice_head(value, percent))) {
                return false;
            }
            value = slice_from(value, percent);
            continue;
        }
        value = slice_from(value, 1);
        size_t end = slice_find(value, '%');
        if (end == value.len) {
            return compile_refuse(c, "header.value", "a single '%%': write %%%% for the sign");
        }
        bool good = end == 0 ? add_part(c, parts, HEADER_VARIABLE_LITERAL, SLICE("%"))
                             : add_operator(c, parts, slice_head(value, end));
        if (!good) {
            return false;
        }
        value = slice_from(value, end + 1);
    }
    return true;
}

static bool value_is_clean(struct compiler *c, struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((value.at[i] < 0x20 && value.at[i] != '\t') || value.at[i] == 0x7f) {
            return compile_refuse(c, "header.value", "holds a control character");
        }
    }
    return true;
}

static bool add_action(struct compiler *c, const CORE(HeaderValueOption) * option, uint8_t *action)
{
    switch (option->append_action) {
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD:
        /* The older field, where it was set. */
        *action = compile_bool(option->append, true) ? HEADER_APPEND : HEADER_OVERWRITE;
        return true;
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__ADD_IF_ABSENT:
        *action = HEADER_ADD_IF_ABSENT;
        break;
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD:
        *action = HEADER_OVERWRITE;
        break;
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS:
        *action = HEADER_OVERWRITE_IF_PRESENT;
        break;
    default:
        return compile_refuse(c, "append_action", "has no value %d", (int)option->append_action);
    }
    if (option->append != NULL) {
        return compile_refuse(c, "append", "and append_action may not both be set");
    }
    return true;
}

static bool add_of(struct compiler *c, const CORE(HeaderValueOption) * option,
                   struct header_add *out)
{
    if (option->header == NULL) {
        return compile_refuse(c, "header", "is required");
    }
    struct slice value = slice_of_text(option->header->value);
    struct value_parts parts = {.count = 0};
    if (!may_be_changed(c, "header.key", option->header->key) || !value_is_clean(c, value) ||
        !add_value(c, value, &parts) || !add_action(c, option, &out->action)) {
        return false;
    }
    out->name = compile_name(c, option->header->key);
    out->id = (uint8_t)header_id_of(out->name);
    out->keep_empty = option->keep_empty_value;
    struct header_part *list = COMPILE_ARRAY(c, struct header_part, parts.count);
    if (parts.count > 0) {
        memcpy(list, parts.list, sizeof(*list) * parts.count);
    }
    out->parts = list;
    out->part_count = parts.count;
    return true;
}

/* ---- one level ---- */

static bool fill_adds(struct compiler *c, const char *name,
                      const struct compile_header_lists *lists, struct header_ops *ops)
{
    struct header_add *adds = COMPILE_ARRAY(c, struct header_add, lists->add_count);
    for (size_t i = 0; i < lists->add_count; i++) {
        if (!COMPILE_IN(c, add_of(c, lists->adds[i], &adds[i]), "%s_headers_to_add[%zu]", name,
                        i)) {
            return false;
        }
    }
    ops->adds = adds;
    return compile_count(c, "headers_to_add", lists->add_count, &ops->add_count);
}

static bool fill_removes(struct compiler *c, const char *name,
                         const struct compile_header_lists *lists, struct header_ops *ops)
{
    struct header_remove *removes = COMPILE_ARRAY(c, struct header_remove, lists->remove_count);
    for (size_t i = 0; i < lists->remove_count; i++) {
        if (!COMPILE_IN(c, may_be_changed(c, NULL, lists->removes[i]), "%s_headers_to_remove[%zu]",
                        name, i)) {
            return false;
        }
        removes[i].name = compile_name(c, lists->removes[i]);
        removes[i].id = (uint8_t)header_id_of(removes[i].name);
    }
    ops->removes = removes;
    return compile_count(c, "headers_to_remove", lists->remove_count, &ops->remove_count);
}

bool compile_header_ops(struct compiler *c, const char *name,
                        const struct compile_header_lists *lists, const struct header_ops **out)
{
    *out = NULL;
    if (lists->add_count == 0 && lists->remove_count == 0) {
        return true;
    }
    struct header_ops *ops = ARENA_NEW(c->arena, struct header_ops);
    *out = ops;
    return fill_removes(c, name, lists, ops) && fill_adds(c, name, lists, ops);
}
