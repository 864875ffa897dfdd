#pragma once
/* The objects in files and folders that somebody named, read as pillion-control reads its folder:
 * every *.yaml, *.yml and *.json below it; names that begin with a dot are not looked at, links to
 * folders are not followed. A file that is named itself may have any ending; "-" is standard input.
 * Blocks. One thread. */

#include <stddef.h>

#include "base/arena.h"
#include "base/options.h"
#include "policy/parse.h"
#include "policy/problem.h"

struct objects {
    struct policy_documents documents;
    struct policy_problems problems; /* in the arena that objects_read was given */
    size_t files;                    /* that were looked at */
};

/* Always gives what there is; what could not be read, and a folder without any file, are among the
 * problems. */
void objects_read(struct objects *objects, const struct option_list *paths, struct arena *arena);
void objects_fini(struct objects *objects);

/* The problems by file and line, one each line. */
void objects_print_problems(const struct objects *objects, FILE *out);
