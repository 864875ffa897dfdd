#include "sidecar/config/snapshot.h"

#include "base/regex.h"

struct snapshot_regex {
    struct snapshot_regex *next;
    struct regex *regex;
};

void snapshot_init(struct snapshot *snapshot)
{
    arena_init(&snapshot->arena, NULL);
    snapshot->regexes = NULL;
}

void snapshot_fini(struct snapshot *snapshot)
{
    for (struct snapshot_regex *link = snapshot->regexes; link != NULL; link = link->next) {
        regex_free(&link->regex);
    }
    snapshot->regexes = NULL;
    arena_fini(&snapshot->arena);
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
