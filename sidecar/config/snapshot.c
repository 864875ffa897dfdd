#include "sidecar/config/snapshot.h"

#include "base/alloc.h"
#include "base/regex.h"
#include "base/tls.h"

struct snapshot_regex {
    struct snapshot_regex *next;
    struct regex *regex;
};

struct snapshot_tls {
    struct snapshot_tls *next;
    struct tls_context *context;
};

struct snapshot *snapshot_new(void)
{
    struct snapshot *snapshot = NEW(struct snapshot);
    arena_init(&snapshot->arena, NULL);
    return snapshot;
}

void snapshot_free(struct snapshot **snapshot)
{
    struct snapshot *it = *snapshot;
    if (it == NULL) {
        return;
    }
    *snapshot = NULL; /* first: the pointer itself may lie in the tree (destination->owner) */
    for (struct snapshot_regex *link = it->regexes; link != NULL; link = link->next) {
        regex_free(&link->regex);
    }
    for (struct snapshot_tls *link = it->contexts; link != NULL; link = link->next) {
        tls_context_unref(&link->context);
    }
    arena_fini(&it->arena);
    mem_free(it);
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

struct tls_context *snapshot_take_tls(struct snapshot *snapshot, struct tls_context **context)
{
    CHECK(*context != NULL);
    struct snapshot_tls *link = ARENA_NEW(&snapshot->arena, struct snapshot_tls);
    link->context = *context;
    link->next = snapshot->contexts;
    snapshot->contexts = link;
    *context = NULL;
    return link->context;
}
