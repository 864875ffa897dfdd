#pragma once
/* Resources as a control plane keeps them: encoded once, whoever subscribes, and versioned by their
 * content, so that a reconnecting client that names its versions gets the differences only.
 *
 * A resource is immutable and counted: the set, and each stream that has sent it, hold one. One
 * thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"

#define RESOURCE_VERSION_TEXT 33 /* 128 bits in hexadecimal, and the zero byte */

struct resource {
    struct slice name;
    struct slice body; /* the encoded message */
    struct slice *aliases;
    size_t alias_count;
    uint64_t generation; /* of the newest object that it was made from; 0: of none */
    char version[RESOURCE_VERSION_TEXT];
    uint32_t refs;
};

/* Hash of bytes as a version. The same bytes give the same version on every machine. */
void resource_version_of(struct slice body, char version[RESOURCE_VERSION_TEXT]);

/* Copies all that it is given; the version comes from body and aliases. */
struct resource *resource_new(struct slice name, struct slice body, const struct slice *aliases,
                              size_t alias_count, uint64_t generation) MUST_USE;
struct resource *resource_ref(struct resource *resource) MUST_USE;
void resource_unref(struct resource **resource);

/* Resources of one type and one view, by name and by alias. */
struct resources {
    struct map by_name;
    struct map by_alias; /* to the same resources; a name wins over an alias */
};

void resources_init(struct resources *set, uint64_t seed);
void resources_fini(struct resources *set);

/* Takes the place of the one with its name. False when nothing changed for a client: same version
 * (then the newer generation is kept all the same). */
bool resources_put_take(struct resources *set, struct resource **resource);
/* False when there was none. */
bool resources_remove(struct resources *set, struct slice name);
/* By name, else by alias; null: none. Borrowed until the set changes. */
struct resource *resources_get(const struct resources *set, struct slice name_or_alias);
