#pragma once
/* Which version of each object is in force. Every look at the source (a directory, an API server)
 * gives all its documents; this says what they change: an object that is new or changed takes the
 * next generation, one that is refused keeps its last good version, and a VirtualService that names
 * a subset or a host which is not there (yet) keeps its last good version until it is. Pure: who
 * reads the files, and who keeps the state on disk, is control/. */

#include "policy/model.h"
#include "policy/object.h"
#include "policy/parse.h"
#include "policy/problem.h"

struct policy_set {
    struct object **objects; /* in force, by id; one reference each */
    size_t count;
    uint64_t generation; /* of the newest change, removals too; 0: nothing ever */
};

void policy_set_init(struct policy_set *set);
void policy_set_fini(struct policy_set *set);

/* Puts a version in force that is known from before (a state file), under the generations that it
 * had (object->generation and object->born). Takes the reference. Not for an id that is in the set
 * already. */
void policy_set_restore(struct policy_set *set, struct object **object, uint64_t generation,
                        uint64_t born);

/* The next picture from all documents of the source; `problems` gets what is wrong, and every
 * object in the set has a generation. True when anything changed. */
bool policy_set_apply(struct policy_set *set, const struct policy_documents *documents,
                      const struct model_options *options, struct policy_problems *problems);

/* The object in force; null when there is none. Borrowed until the next change. */
const struct object *policy_set_find(const struct policy_set *set, const char *id);
