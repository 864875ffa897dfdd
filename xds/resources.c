#include "xds/resources.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

/* Two hashes under fixed seeds: a version is compared by clients that outlive this process. Nobody
 * gains by a collision: who writes the content decides about it anyway. */
#define SEED_HIGH 0x70696c6c696f6e31U
#define SEED_LOW  0x7864732d76657273U

void resource_version_of(struct slice body, char version[RESOURCE_VERSION_TEXT])
{
    int len = snprintf(version, RESOURCE_VERSION_TEXT, "%016llx%016llx",
                       (unsigned long long)slice_hash(body, SEED_HIGH),
                       (unsigned long long)slice_hash(body, SEED_LOW));
    CHECK(len == RESOURCE_VERSION_TEXT - 1);
}

static struct slice copied(struct slice bytes)
{
    return slice_of(mem_dup(bytes.len > 0 ? bytes.at : (const uint8_t *)"", bytes.len), bytes.len);
}

static void drop(struct slice *bytes)
{
    mem_free((void *)(uintptr_t)bytes->at);
    *bytes = (struct slice){0};
}

struct resource *resource_new(struct slice name, struct slice body, const struct slice *aliases,
                              size_t alias_count, uint64_t generation)
{
    CHECK(name.len > 0);
    struct resource *resource = NEW(struct resource);
    resource->refs = 1;
    resource->name = copied(name);
    resource->body = copied(body);
    resource->generation = generation;
    resource->alias_count = alias_count;
    resource->aliases = NEW_ARRAY(struct slice, alias_count);
    for (size_t i = 0; i < alias_count; i++) {
        resource->aliases[i] = copied(aliases[i]);
    }
    resource_version_of(resource->body, resource->version);
    /* A client learns new aliases only from an answer, so they are part of the version. */
    for (size_t i = 0; i < alias_count; i++) {
        char both[2 * RESOURCE_VERSION_TEXT];
        char one[RESOURCE_VERSION_TEXT];
        resource_version_of(resource->aliases[i], one);
        (void)snprintf(both, sizeof both, "%s%s", resource->version, one);
        resource_version_of(slice_of_text(both), resource->version);
    }
    return resource;
}

struct resource *resource_ref(struct resource *resource)
{
    CHECK(resource->refs > 0);
    resource->refs++;
    return resource;
}

void resource_unref(struct resource **resource)
{
    struct resource *gone = *resource;
    *resource = NULL;
    if (gone == NULL || --gone->refs > 0) {
        return;
    }
    for (size_t i = 0; i < gone->alias_count; i++) {
        drop(&gone->aliases[i]);
    }
    mem_free(gone->aliases);
    drop(&gone->name);
    drop(&gone->body);
    mem_free(gone);
}

void resources_init(struct resources *set, uint64_t seed)
{
    map_init(&set->by_name, seed, MAP_KEYS_BORROWED);
    map_init(&set->by_alias, seed + 1, MAP_KEYS_BORROWED);
}

void resources_fini(struct resources *set)
{
    map_fini(&set->by_alias);
    MAP_EACH(&set->by_name, entry)
    {
        struct resource *resource = entry->value;
        resource_unref(&resource);
    }
    map_fini(&set->by_name);
}

/* Its aliases, where they still lead to it. */
static void forget_aliases(struct resources *set, const struct resource *resource)
{
    for (size_t i = 0; i < resource->alias_count; i++) {
        if (map_get(&set->by_alias, resource->aliases[i]) == resource) {
            (void)map_remove(&set->by_alias, resource->aliases[i]);
        }
    }
}

bool resources_put_take(struct resources *set, struct resource **resource)
{
    struct resource *fresh = *resource;
    *resource = NULL;
    CHECK(fresh != NULL);
    struct resource *old = map_get(&set->by_name, fresh->name);
    bool changed = old == NULL || strcmp(old->version, fresh->version) != 0;
    if (old != NULL) {
        forget_aliases(set, old);
    }
    (void)map_set(&set->by_name, fresh->name, fresh); /* borrows the fresh one's bytes */
    for (size_t i = 0; i < fresh->alias_count; i++) {
        (void)map_set(&set->by_alias, fresh->aliases[i], fresh);
    }
    resource_unref(&old);
    return changed;
}

bool resources_remove(struct resources *set, struct slice name)
{
    struct resource *old = map_get(&set->by_name, name);
    if (old == NULL) {
        return false;
    }
    forget_aliases(set, old);
    (void)map_remove(&set->by_name, name);
    resource_unref(&old);
    return true;
}

struct resource *resources_get(const struct resources *set, struct slice name_or_alias)
{
    struct resource *found = map_get(&set->by_name, name_or_alias);
    return found != NULL ? found : map_get(&set->by_alias, name_or_alias);
}
