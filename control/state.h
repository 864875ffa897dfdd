#pragma once
/* STATE/objects.json: for each object in force its hash, its generation, and the text it came from,
 * so that neither a restart nor a file that is broken meanwhile changes anything. The text is the
 * whole YAML document, kept with its place, so that problems and decision records name the right
 * line after a restart too. One thread; blocks for the length of a write. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/map.h"
#include "base/slice.h"
#include "policy/set.h"

/* A document of the source, shared by the objects that it holds. */
struct state_document {
    char *file;    /* as problems name it */
    uint32_t line; /* of the file, on which `text` begins */
    char *text;
    size_t len;
    uint32_t refs;
};

/* Copies; one reference. */
struct state_document *state_document_new(const char *file, uint32_t line,
                                          struct slice text) MUST_USE;
void state_document_unref(struct state_document **document);

/* Which document each object in force came from: id -> struct state_document. */
struct state_texts {
    struct map by_id;
};

void state_texts_init(struct state_texts *texts);
void state_texts_fini(struct state_texts *texts);
/* Takes a reference of its own. */
void state_texts_set(struct state_texts *texts, const char *id, struct state_document *document);
void state_texts_remove(struct state_texts *texts, const char *id);
/* Null: none. Borrowed until the next change. */
struct state_document *state_texts_get(const struct state_texts *texts, const char *id);

/* The file's bytes for what is in force; mem_free them. The same set and texts give the same bytes.
 */
char *state_write(const struct policy_set *set, const struct state_texts *texts,
                  size_t *len) MUST_USE;

/* Puts back what state_write wrote, into an empty set and texts. What cannot be restored (an object
 * that this version refuses) is left out and counted in *lost. False with *err where the bytes are
 * no state at all: the set is empty then. */
bool state_read(struct slice bytes, struct policy_set *set, struct state_texts *texts, size_t *lost,
                struct error *err) MUST_USE;
