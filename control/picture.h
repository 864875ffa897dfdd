#pragma once
/* The mesh as it stands: which version of each object is in force, the model made from them, what
 * is wrong with what people wrote, and the state on disk that survives a restart. Who serves it
 * reads; main alone changes it, by picture_apply. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "control/source/files.h"
#include "control/state.h"
#include "policy/model.h"
#include "policy/problem.h"
#include "policy/set.h"

struct picture {
    struct policy_set set;
    struct model *model; /* never null */
    struct model_options options;
    uint64_t epoch;      /* counts the models: what was made from another one is stale */
    uint64_t changed_us; /* wall time of the newest generation; 0: before this start */
    struct arena problem_arena;
    struct policy_problems problems; /* of the last look */
    struct state_texts texts;
    char *path;          /* of objects.json */
    uint64_t saved_hash; /* of what is on disk */
    bool save_failed;    /* the disk is behind */
};

/* Reads STATE/objects.json where there is one; what is wrong with it is logged, and the file set
 * aside as objects.json.bad. `options` is copied, its texts are borrowed. */
void picture_init(struct picture *picture, const char *state_dir,
                  const struct model_options *options);
void picture_fini(struct picture *picture);

/* Takes a look at the source into force and saves the state; a disk that refuses is logged, and
 * save_failed says so. True when the model changed. */
bool picture_apply(struct picture *picture, struct files_look *look, uint64_t wall_us);

/* Tries again to save what the disk did not take; for now and then. */
void picture_save(struct picture *picture);
