#pragma once
/* The files below a folder that an operator filled, by their endings. Names that begin with a dot
 * are not looked at (an editor's files, the links of a mounted ConfigMap), links to folders are not
 * followed, and what is no file (a pipe would block its reader for ever) is trouble. Blocks: at
 * start, or on an admin thread. */

#include <stddef.h>

#include "base/arena.h"
#include "base/check.h"

#define TREE_DEPTH_MAX 16U
#define TREE_FILES_MAX 100000U

/* Paths are relative to the root, "sub/a.yaml"; the root is "". */
struct tree_trouble {
    const char *path;
    const char *text;
    bool unread; /* a folder that could not be read: nothing is known of what is below it */
};

struct tree {
    const char **files; /* sorted */
    struct tree_trouble *troubles;
    size_t file_count;
    size_t trouble_count;
};

/* How the walk is done; all borrowed for the call. */
struct tree_plan {
    const char *root;
    const char *const *endings;                      /* ".yaml", ...; null behind the last */
    void (*before)(void *owner, const char *folder); /* each folder, before it is read; may be null.
                                                        The path can be opened as it is */
    void *owner;
};

/* Always gives what there is. Everything lives in the arena. */
struct tree tree_list(struct arena *arena, const struct tree_plan *plan);
