#include "policy/set.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "policy/validate.h"

void policy_set_init(struct policy_set *set)
{
    *set = (struct policy_set){0};
}

static void objects_free(struct object ***objects, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        object_unref(&(*objects)[i]);
    }
    FREE(*objects);
}

void policy_set_fini(struct policy_set *set)
{
    objects_free(&set->objects, set->count);
    *set = (struct policy_set){0};
}

/* By id; of the same in two places, by place. */
static int id_compare(const void *left, const void *right)
{
    const struct object *a = *(struct object *const *)left;
    const struct object *b = *(struct object *const *)right;
    int order = strcmp(a->id, b->id);
    if (order == 0) {
        order = strcmp(a->file, b->file);
    }
    return order != 0 ? order : (a->line > b->line) - (a->line < b->line);
}

static struct object *find(struct object *const *objects, size_t count, const char *id)
{
    for (size_t low = 0, high = count; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(objects[middle]->id, id);
        if (order == 0) {
            return objects[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const struct object *policy_set_find(const struct policy_set *set, const char *id)
{
    return find(set->objects, set->count, id);
}

void policy_set_restore(struct policy_set *set, struct object **object, uint64_t generation,
                        uint64_t born)
{
    struct object *taken = *object;
    *object = NULL;
    CHECK(taken != NULL);
    CHECK(policy_set_find(set, taken->id) == NULL);
    taken->generation = generation;
    taken->born = born;
    set->objects = mem_resize(set->objects, (set->count + 1) * sizeof *set->objects);
    set->objects[set->count++] = taken;
    qsort(set->objects, set->count, sizeof *set->objects, id_compare);
    if (generation > set->generation) {
        set->generation = generation;
    }
}

/* ---- what the next set is made of ---- */

/* The next set while it grows; borrowed pointers only, references are taken at the end. */
struct next {
    const struct policy_set *set; /* that is in force now */
    const struct policy_documents *documents;
    struct policy_problems *problems;
    struct object **candidates; /* of the documents, by id */
    size_t candidate_count;
    struct object **chosen;
    size_t count;
    uint64_t counter; /* the next generation is one above it */
};

/* The same object in two documents: all of them are named, and none counts. */
static void duplicates_refuse(struct next *next, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        const struct object *object = next->candidates[i];
        const struct object *other = next->candidates[i == first ? first + 1 : first];
        struct policy_where where = {object->file, object->line, object->id, ""};
        policy_problem_add(next->problems, POLICY_SEVERITY_ERROR, where,
                           "it is also in %s:%u; none of them counts", other->file,
                           (unsigned)other->line);
    }
}

/* A version that is as good as in force: the old generation where it says the same. */
static void choose(struct next *next, struct object *object)
{
    const struct object *old = policy_set_find(next->set, object->id);
    if (old == object) {
        next->chosen[next->count++] = object;
        return;
    }
    bool same = old != NULL && old->hash == object->hash;
    object->generation = same ? old->generation : ++next->counter;
    object->born = old != NULL ? old->born : object->generation;
    next->chosen[next->count++] = object;
}

static void candidates_choose(struct next *next)
{
    size_t count = 0;
    for (size_t i = 0; i < next->candidate_count; i += count) {
        const char *id = next->candidates[i]->id;
        for (count = 1; i + count < next->candidate_count &&
                        strcmp(next->candidates[i + count]->id, id) == 0;) {
            count++;
        }
        bool good = false;
        if (count > 1 && !MUTANT(24)) {
            duplicates_refuse(next, i, count);
        } else {
            good = policy_validate_object(next->candidates[i], next->problems);
        }
        struct object *last = find(next->set->objects, next->set->count, id);
        if (good) {
            choose(next, next->candidates[i]);
        } else if (last != NULL) {
            choose(next, last);
        }
    }
}

/* Whether an object that no document holds any more is only broken in its file. */
static bool is_broken(const struct next *next, const struct object *old)
{
    for (size_t i = 0; i < next->documents->broken_count; i++) {
        const struct policy_broken *broken = &next->documents->broken[i];
        if (broken->id != NULL ? strcmp(broken->id, old->id) == 0
                               : strcmp(broken->file, old->file) == 0) {
            return true;
        }
    }
    return false;
}

/* True when something is gone. */
static bool broken_choose(struct next *next)
{
    bool gone = false;
    for (size_t i = 0; i < next->set->count; i++) {
        struct object *old = next->set->objects[i];
        if (find(next->candidates, next->candidate_count, old->id) != NULL) {
            continue;
        }
        if (is_broken(next, old)) {
            choose(next, old);
        } else {
            gone = true;
        }
    }
    return gone;
}

/* A changed VirtualService that names what is not there yet waits, where a last good one is. */
static void pending_hold(struct next *next, const struct model_options *options)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct policy_problems problems;
    policy_problems_init(&problems, &arena);
    struct model *model = model_new(next->chosen, next->count, options);
    policy_validate_model(model, &problems);
    model_free(&model);
    for (size_t i = 0; i < problems.count; i++) {
        struct object *old = find(next->set->objects, next->set->count, problems.at[i].object);
        if (problems.at[i].severity != POLICY_SEVERITY_PENDING || old == NULL) {
            continue;
        }
        for (size_t c = 0; c < next->count; c++) {
            bool changed = next->chosen[c]->generation != old->generation;
            if (strcmp(next->chosen[c]->id, old->id) == 0 && changed) {
                const struct policy_problem *problem = &problems.at[i];
                struct policy_where where = {problem->file, problem->line, problem->object,
                                             problem->path};
                policy_problem_add(next->problems, POLICY_SEVERITY_PENDING, where,
                                   "%s; the version before it stays until then", problem->text);
                next->chosen[c] = old;
            }
        }
    }
    arena_fini(&arena);
}

/* Puts what was chosen in force; true when it says something else than before. */
static bool set_replace(struct policy_set *set, struct next *next, bool gone)
{
    uint64_t newest = set->generation;
    struct object **objects = NEW_ARRAY(struct object *, next->count);
    for (size_t i = 0; i < next->count; i++) {
        objects[i] = object_ref(next->chosen[i]);
        if (objects[i]->generation > newest) {
            newest = objects[i]->generation;
        }
    }
    if (next->count > 0) {
        qsort(objects, next->count, sizeof(struct object *), id_compare);
    }
    /* A removal changes the mesh too, under the next value. */
    uint64_t generation = gone && newest == set->generation ? newest + 1 : newest;
    bool changed = generation != set->generation;
    objects_free(&set->objects, set->count);
    set->objects = objects;
    set->count = next->count;
    set->generation = generation;
    return changed;
}

bool policy_set_apply(struct policy_set *set, const struct policy_documents *documents,
                      const struct model_options *options, struct policy_problems *problems)
{
    struct next next = {
        .set = set,
        .documents = documents,
        .problems = problems,
        .candidates = NEW_ARRAY(struct object *, documents->count),
        .candidate_count = documents->count,
        .chosen = NEW_ARRAY(struct object *, documents->count + set->count),
        .counter = set->generation,
    };
    for (size_t i = 0; i < documents->count; i++) {
        next.candidates[i] = documents->objects[i];
    }
    if (documents->count > 0) {
        qsort(next.candidates, documents->count, sizeof(struct object *), id_compare);
    }
    candidates_choose(&next);
    bool gone = broken_choose(&next);
    pending_hold(&next, options);
    bool changed = set_replace(set, &next, gone);
    mem_free(next.candidates);
    mem_free(next.chosen);

    /* What is said of the picture is said of the one in force. */
    struct model *model = model_new(set->objects, set->count, options);
    policy_validate_model(model, problems);
    model_free(&model);
    return changed;
}
