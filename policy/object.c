#include "policy/object.h"

#include <string.h>

#include "base/alloc.h"

static const struct {
    const char *name;
    const char *group;
} kinds[] = {
#define OBJECT_KIND_ROW(name, kind, group, member) {kind, group},
    OBJECT_KINDS(OBJECT_KIND_ROW)
#undef OBJECT_KIND_ROW
};

struct object *object_new(enum object_kind kind, const char *file, uint32_t line)
{
    CHECK((size_t)kind < COUNT_OF(kinds));
    struct object *object = NEW(struct object);
    arena_init(&object->arena, NULL);
    object->kind = kind;
    object->refs = 1;
    object->file = arena_text(&object->arena, slice_of_text(file));
    object->line = line;
    object->namespace = "default";
    object->name = "";
    object->id = "";
    object->uid = "";
    return object;
}

struct object *object_ref(struct object *object)
{
    CHECK(object->refs > 0);
    object->refs++;
    return object;
}

void object_unref(struct object **object)
{
    struct object *gone = *object;
    *object = NULL;
    if (gone == NULL) {
        return;
    }
    CHECK(gone->refs > 0);
    gone->refs--;
    if (gone->refs == 0) {
        arena_fini(&gone->arena);
        mem_free(gone);
    }
}

const char *object_kind_name(enum object_kind kind)
{
    CHECK((size_t)kind < COUNT_OF(kinds));
    return kinds[kind].name;
}

const char *object_kind_group(enum object_kind kind)
{
    CHECK((size_t)kind < COUNT_OF(kinds));
    return kinds[kind].group;
}

bool object_kind_find(const char *group, const char *name, enum object_kind *kind)
{
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0 && strcmp(kinds[i].group, group) == 0) {
            *kind = (enum object_kind)i;
            return true;
        }
    }
    return false;
}

const char *mtls_mode_name(enum mtls_mode mode)
{
    static const char *const names[] = {
#define X(name, text) text,
        MTLS_MODES(X)
#undef X
    };
    CHECK((size_t)mode < COUNT_OF(names));
    return names[mode];
}

const char *tls_mode_name(enum tls_mode mode)
{
    static const char *const names[] = {
#define X(name, text) text,
        TLS_MODES(X)
#undef X
    };
    CHECK((size_t)mode < COUNT_OF(names));
    return names[mode];
}

const char *labels_get(const struct labels *labels, const char *key)
{
    for (size_t i = 0; i < labels->count; i++) {
        if (strcmp(labels->at[i].key, key) == 0) {
            return labels->at[i].value;
        }
    }
    return NULL;
}

bool labels_match(const struct labels *wanted, const struct labels *labels)
{
    for (size_t i = 0; i < wanted->count; i++) {
        const char *value = labels_get(labels, wanted->at[i].key);
        if (value == NULL || strcmp(value, wanted->at[i].value) != 0) {
            return false;
        }
    }
    return true;
}

bool policy_subnet_parse(const char *text, struct addr *addr, unsigned *prefix)
{
    struct slice bits = slice_of_text(text);
    struct slice ip = slice_cut(&bits, '/');
    uint64_t value;
    if (!addr_parse_ip(ip, addr)) {
        return false;
    }
    unsigned whole = addr->family == ADDR_IPV4 ? 32 : 128;
    *prefix = whole;
    if (bits.at == NULL) {
        return true;
    }
    if (!slice_to_u64(bits, whole, &value)) {
        return false;
    }
    *prefix = (unsigned)value;
    return true;
}
