#pragma once
/* YAML or JSON text -> objects. A field that Pillion does not know, or does not support yet, is
 * refused by name; nothing is silently ignored, but what Kubernetes itself keeps in an object
 * (status, managedFields, and the like, listed in policy/parse_tables.c). One bad document does not
 * take the others of its file with it. Pure. */

#include "base/slice.h"
#include "policy/object.h"
#include "policy/problem.h"

/* Of the files that are read where a folder is named; null behind the last. */
extern const char *const policy_file_endings[];

/* A document that did not become an object, as far as it could be named: so that policy/set keeps
 * the last good version of what it was meant to be. */
struct policy_broken {
    const char *file;
    const char *id; /* null: not even kind and name could be read */
};

/* What the files hold; the caller owns it. */
struct policy_documents {
    struct arena arena;
    struct object **objects; /* one reference each, given up by policy_documents_fini */
    size_t count;
    struct policy_broken *broken;
    size_t broken_count;
};

void policy_documents_init(struct policy_documents *documents);
void policy_documents_fini(struct policy_documents *documents);

/* Adds what stands in `text` to `documents` and what is wrong with it to `problems`. `file` is the
 * name that problems and decision records show. Kind `List` is taken apart. */
void policy_parse(struct slice text, const char *file, struct policy_documents *documents,
                  struct policy_problems *problems);
/* As above, for a file that could not be read at all: whatever came from it stays in force. */
void policy_parse_failed(const char *file, struct policy_documents *documents);
