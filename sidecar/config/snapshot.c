#include "sidecar/config/snapshot.h"

#include "base/alloc.h"
#include "base/regex.h"

struct snapshot_regex {
    struct snapshot_regex *next;
    struct regex *regex;
};

struct snapshot *snapshot_new(void)
{
    struct snapshot *snapshot = NEW(struct snapshot);
    arena_init(&snapshot->arena, NULL);
    return snapshot;
}

void snapshot_free(struct snapshot **snapshot)
{
    if (*snapshot == NULL) {
        return;
    }
    for (struct snapshot_regex *link = (*snapshot)->regexes; link != NULL; link = link->next) {
        regex_free(&link->regex);
    }
    arena_fini(&(*snapshot)->arena);
    FREE(*snapshot);
}

const struct regex *snapshot_take_regex(struct snapshot *snapshot, struct regex **regex)
{
    CHECK(*regex != NULL);
    struct snapshot_regex *link = ARENA_NEW(&snapshot->arena, struct snapshot_regex);
    link->regex = *regex;
    link->next = snapshot->regexes;
    snapshot->regexes = link;
    *regex = NULL;
    return link->regex;
}
