#include "policy/fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DURATION_MAX_US (UINT64_C(100) * 366 * 24 * 3600 * 1000000)

/* ---- the path, and problems at it ---- */

static size_t path_add(struct field_reader *reader, const char *text, size_t len)
{
    size_t before = reader->path_len;
    size_t room = sizeof reader->path - 1 - before;
    size_t take = len < room ? len : room;
    memcpy(reader->path + before, text, take);
    reader->path_len = before + take;
    reader->path[reader->path_len] = '\0';
    return before;
}

size_t field_enter(struct field_reader *reader, struct slice name)
{
    size_t before = reader->path_len;
    if (before > 0) {
        (void)path_add(reader, ".", 1);
    }
    (void)path_add(reader, (const char *)name.at, name.len < 64 ? name.len : 64);
    return before;
}

size_t field_enter_key(struct field_reader *reader, struct slice key)
{
    size_t before = path_add(reader, "[\"", 2);
    (void)path_add(reader, (const char *)key.at, key.len < 64 ? key.len : 64);
    (void)path_add(reader, "\"]", 2);
    return before;
}

size_t field_enter_item(struct field_reader *reader, size_t index)
{
    char text[32];
    int len = snprintf(text, sizeof text, "[%zu]", index);
    CHECK(len > 0);
    return path_add(reader, text, (size_t)len);
}

void field_leave(struct field_reader *reader, size_t path_len)
{
    CHECK(path_len <= reader->path_len);
    reader->path_len = path_len;
    reader->path[path_len] = '\0';
}

void field_problem(struct field_reader *reader, uint32_t line, const char *format, ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct policy_where where = {reader->object->file, line, reader->object->id, reader->path};
    policy_problem_add(reader->problems, POLICY_SEVERITY_ERROR, where, "%s", text);
    reader->failed = true;
}

bool field_expect(struct field_reader *reader, const struct yaml_node *node, enum yaml_kind kind)
{
    if (node->kind == kind) {
        return true;
    }
    const char *hint =
        kind == YAML_KIND_STRING && node->kind < YAML_KIND_STRING ? "; put it in quotes" : "";
    field_problem(reader, node->line, "wants %s, has %s%s", yaml_kind_name(kind),
                  yaml_kind_name(node->kind), hint);
    return false;
}

const char *field_copy(struct field_reader *reader, const struct yaml_node *node)
{
    if (slice_find(node->text, '\0') < node->text.len) {
        field_problem(reader, node->line, "has a zero byte");
        return "";
    }
    return arena_text(&reader->object->arena, node->text);
}

/* ---- scalars ---- */

void field_text(struct field_reader *reader, const struct yaml_node *node, void *to,
                const struct field *field)
{
    (void)field;
    if (field_expect(reader, node, YAML_KIND_STRING)) {
        struct text *text = to;
        text->value = field_copy(reader, node);
        text->line = node->line;
    }
}

static void number_read(struct field_reader *reader, const struct yaml_node *node, void *to,
                        int64_t least, int64_t most)
{
    if (!field_expect(reader, node, YAML_KIND_INT)) {
        return;
    }
    if (node->integer < least || node->integer > most) {
        field_problem(reader, node->line, "%lld is out of range; allowed: %lld to %lld",
                      (long long)node->integer, (long long)least, (long long)most);
        return;
    }
    struct number *number = to;
    number->value = (uint32_t)node->integer;
    number->line = node->line;
}

void field_number(struct field_reader *reader, const struct yaml_node *node, void *to,
                  const struct field *field)
{
    (void)field;
    number_read(reader, node, to, 0, INT32_MAX);
}

void field_port(struct field_reader *reader, const struct yaml_node *node, void *to,
                const struct field *field)
{
    (void)field;
    number_read(reader, node, to, 1, 65535);
}

void field_percent(struct field_reader *reader, const struct yaml_node *node, void *to,
                   const struct field *field)
{
    (void)field;
    number_read(reader, node, to, 0, 100);
}

void field_flag(struct field_reader *reader, const struct yaml_node *node, void *to,
                const struct field *field)
{
    (void)field;
    if (field_expect(reader, node, YAML_KIND_BOOL)) {
        struct flag *flag = to;
        flag->value = node->boolean;
        flag->line = node->line;
    }
}

/* Longer units stand first where a shorter one begins alike. */
static const struct {
    const char *name;
    double us;
} units[] = {
    {"ns", 1e-3}, {"us", 1}, {"\xc2\xb5s", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6},
};

/* "1.5" off the front of *text. */
static bool decimal_cut(struct slice *text, double *value)
{
    double number = 0;
    double scale = 0;
    size_t digits = 0;
    for (; text->len > 0; *text = slice_from(*text, 1)) {
        uint8_t c = text->at[0];
        if (c == '.' && scale == 0) {
            scale = 1;
            continue;
        }
        if (c < '0' || c > '9' || digits > 18) {
            break;
        }
        digits++;
        number = number * 10 + (c - '0');
        scale *= 10;
    }
    *value = scale > 1 ? number / scale : number;
    return digits > 0;
}

static bool unit_cut(struct slice *text, double *us)
{
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        struct slice name = slice_of_text(units[i].name);
        if (slice_starts(*text, name)) {
            *text = slice_from(*text, name.len);
            *us = units[i].us;
            return true;
        }
    }
    return false;
}

bool duration_parse(struct slice text, uint64_t *us)
{
    if (slice_eq(text, SLICE("0"))) {
        *us = 0;
        return true;
    }
    double sum = 0;
    bool any = false;
    while (text.len > 0) {
        double value = 0;
        double unit = 0;
        if (!decimal_cut(&text, &value) || !unit_cut(&text, &unit)) {
            return false;
        }
        sum += value * unit;
        any = true;
    }
    if (!any || sum > (double)DURATION_MAX_US) {
        return false;
    }
    *us = (uint64_t)(sum + 0.5);
    return true;
}

void field_duration(struct field_reader *reader, const struct yaml_node *node, void *to,
                    const struct field *field)
{
    (void)field;
    struct duration *duration = to;
    if (!field_expect(reader, node, YAML_KIND_STRING)) {
        return;
    }
    if (!duration_parse(node->text, &duration->us)) {
        field_problem(reader, node->line,
                      "\"%.*s\" is not a duration; allowed: numbers with h, m, s, ms, as in "
                      "\"1.5s\" or \"1m30s\"",
                      SLICE_ARG(slice_head(node->text, 64)));
        return;
    }
    duration->line = node->line;
}

/* "A, B or C" in the arena of the problems. */
static const char *values_text(struct field_reader *reader, const char *const *values)
{
    const char *text = "";
    for (size_t i = 0; values[i] != NULL; i++) {
        if (values[i][0] != '\0') {
            text = arena_printf(reader->problems->arena, "%s%s%s", text,
                                text[0] != '\0' ? ", " : "", values[i]);
        }
    }
    return text;
}

static bool value_find(const char *const *values, struct slice text, unsigned *index)
{
    for (unsigned i = 0; values[i] != NULL; i++) {
        if (text.len > 0 && slice_eq(slice_of_text(values[i]), text)) {
            *index = i;
            return true;
        }
    }
    return false;
}

void field_choice(struct field_reader *reader, const struct yaml_node *node, void *to,
                  const struct field *field)
{
    const char *const *values = field->of;
    struct choice *choice = to;
    if (!field_expect(reader, node, YAML_KIND_STRING)) {
        return;
    }
    if (!value_find(values, node->text, &choice->value)) {
        field_problem(reader, node->line, "\"%.*s\" is not supported; allowed: %s",
                      SLICE_ARG(slice_head(node->text, 64)), values_text(reader, values));
        return;
    }
    choice->line = node->line;
}

void field_only(struct field_reader *reader, const struct yaml_node *node, void *to,
                const struct field *field)
{
    if (node->kind == YAML_KIND_SEQUENCE) {
        size_t index = 0;
        YAML_EACH(node, item)
        {
            size_t path = field_enter_item(reader, index++);
            field_only(reader, item, to, field);
            field_leave(reader, path);
        }
        return;
    }
    unsigned ignored = 0;
    const char *const *values = field->of;
    if (node->kind >= YAML_KIND_SEQUENCE || !value_find(values, node->text, &ignored)) {
        field_problem(reader, node->line, "only %s is supported", values_text(reader, values));
    }
}

void field_later(struct field_reader *reader, const struct yaml_node *node, void *to,
                 const struct field *field)
{
    (void)to;
    field_problem(reader, node->key_line > 0 ? node->key_line : node->line,
                  "`%s` is not supported yet", field->name);
}

void field_tolerated(struct field_reader *reader, const struct yaml_node *node, void *to,
                     const struct field *field)
{
    (void)reader;
    (void)node;
    (void)to;
    (void)field;
}

/* ---- lists and mappings ---- */

void field_labels(struct field_reader *reader, const struct yaml_node *node, void *to,
                  const struct field *field)
{
    (void)field;
    if (!field_expect(reader, node, YAML_KIND_MAPPING)) {
        return;
    }
    struct labels *labels = to;
    labels->line = node->line;
    labels->at =
        node->count > 0 ? ARENA_ARRAY(&reader->object->arena, struct label, node->count) : NULL;
    YAML_EACH(node, child)
    {
        size_t path = field_enter_key(reader, child->key);
        if (slice_find(child->key, '\0') < child->key.len) {
            field_problem(reader, child->line, "the name has a zero byte");
        } else if (child->kind == YAML_KIND_NULL || child->kind == YAML_KIND_STRING) {
            /* Kubernetes takes a null for the empty string. */
            CHECK(labels->at != NULL);
            struct label *label = &labels->at[labels->count++];
            label->key = arena_text(&reader->object->arena, child->key);
            label->value = child->kind == YAML_KIND_NULL ? "" : field_copy(reader, child);
            label->line = child->line;
        } else {
            (void)field_expect(reader, child, YAML_KIND_STRING);
        }
        field_leave(reader, path);
    }
}

void field_texts(struct field_reader *reader, const struct yaml_node *node, void *to,
                 const struct field *field)
{
    if (!field_expect(reader, node, YAML_KIND_SEQUENCE)) {
        return;
    }
    struct texts *texts = to;
    texts->line = node->line;
    texts->at =
        node->count > 0 ? ARENA_ARRAY(&reader->object->arena, struct text, node->count) : NULL;
    YAML_EACH(node, child)
    {
        size_t path = field_enter_item(reader, texts->count);
        struct text text = {0};
        field_text(reader, child, &text, field);
        CHECK(texts->at != NULL);
        texts->at[texts->count++] = text.value != NULL ? text : (struct text){"", child->line};
        field_leave(reader, path);
    }
}

/* "a, b, c": the names that a table takes. */
static const char *shape_names(struct field_reader *reader, const struct field_shape *shape)
{
    const char *text = "";
    for (size_t i = 0; i < shape->count; i++) {
        const struct field *field = &shape->fields[i];
        if (field->read != field_later && field->read != field_tolerated) {
            text = arena_printf(reader->problems->arena, "%s%s%s", text,
                                text[0] != '\0' ? ", " : "", field->name);
        }
    }
    return text;
}

static const struct field *shape_find(const struct field_shape *shape, struct slice name)
{
    for (size_t i = 0; i < shape->count; i++) {
        if (slice_eq(slice_of_text(shape->fields[i].name), name)) {
            return &shape->fields[i];
        }
    }
    return NULL;
}

void fields_read(struct field_reader *reader, const struct yaml_node *node, void *to,
                 const struct field_shape *shape)
{
    if (!field_expect(reader, node, YAML_KIND_MAPPING)) {
        return;
    }
    memcpy(to, &node->line, sizeof node->line);
    YAML_EACH(node, child)
    {
        const struct field *field = shape_find(shape, child->key);
        size_t path = field_enter(reader, child->key);
        if (field == NULL) {
            field_problem(reader, child->key_line, "unknown field; allowed: %s",
                          shape_names(reader, shape));
        } else if (child->kind != YAML_KIND_NULL) { /* null is the same as absent */
            field->read(reader, child, (char *)to + field->offset, field);
        }
        field_leave(reader, path);
    }
}

void field_message(struct field_reader *reader, const struct yaml_node *node, void *to,
                   const struct field *field)
{
    fields_read(reader, node, to, field->of);
}

void field_pointer(struct field_reader *reader, const struct yaml_node *node, void *to,
                   const struct field *field)
{
    const struct field_shape *shape = field->of;
    void *message = arena_alloc(&reader->object->arena, shape->size);
    fields_read(reader, node, message, shape);
    memcpy(to, &message, sizeof message);
}

void field_list(struct field_reader *reader, const struct yaml_node *node, void *to,
                const struct field *field)
{
    const struct field_shape *shape = field->of;
    if (!field_expect(reader, node, YAML_KIND_SEQUENCE) || node->count == 0) {
        return;
    }
    OBJECT_LIST(void) list = {.line = node->line};
    char *items = arena_alloc(&reader->object->arena, shape->size * node->count);
    list.at = items;
    YAML_EACH(node, child)
    {
        size_t path = field_enter_item(reader, list.count);
        fields_read(reader, child, items + shape->size * list.count, shape);
        list.count++;
        field_leave(reader, path);
    }
    memcpy(to, &list, sizeof list);
}
