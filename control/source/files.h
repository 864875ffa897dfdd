#pragma once
/* The source of objects on one machine: a folder of *.yaml, *.yml and *.json files, read
 * recursively (base/tree) and watched. A change is reported when nothing has moved for
 * FILES_QUIET_US, so that a save in several steps is read once it is whole.
 *
 * Files are named by their path inside the folder. On the loop's thread; reading blocks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"
#include "base/tree.h"
#include "policy/parse.h"
#include "policy/problem.h"

struct loop;
struct task;
struct files;

#define FILES_QUIET_US  UINT64_C(100000)
#define FILES_QUIET_MAX UINT64_C(10000000) /* read at the latest so long after the first change */
#define FILES_POLL_US   UINT64_C(5000000)  /* where the kernel cannot watch */
#define FILES_BYTES_MAX ((size_t)16 << 20) /* of one file; what YAML's reader takes */

/* `changed` is posted when the folder is to be read again. Null with *err where the folder cannot
 * be read at all. */
struct files *files_open(struct loop *loop, const char *folder, struct task *changed,
                         struct error *err) MUST_USE;
void files_free(struct files **files);

/* A document as it stands in a file. */
struct files_text {
    const char *file;
    uint32_t line; /* on which it begins */
    struct slice text;
};

/* What one look at the folder gave; the caller owns it. */
struct files_look {
    struct arena arena;
    struct policy_documents documents;
    struct policy_problems problems;
    struct files_text *texts; /* by file, then line */
    size_t text_count;
    struct tree tree;    /* what lies in the folder; what came from below a folder that could not be
                            read is to stay in force */
    size_t unread_count; /* such folders */
};

/* Reads all files now. Always gives a look; what could not be read is among its problems. */
void files_read(struct files *files, struct files_look *look);
void files_look_fini(struct files_look *look);
/* The document in which that line of that file stands; null: none. */
const struct files_text *files_look_find(const struct files_look *look, const char *file,
                                         uint32_t line);
