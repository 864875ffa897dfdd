/* One task for all names: there are few, and it looks at each. An answer makes its cluster stale,
 * and the cluster's endpoints are written anew at the end of the walk, however many names it has.
 */
#include "sidecar/config/names.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/map.h"
#include "base/rng.h"
#include "sidecar/config/delivery.h"
#include "sidecar/upstream/name_rules.h"

/* One endpoint of a cluster that is a name. */
struct target {
    struct resolve_query query;
    struct name_state state;
    char *name;
    uint32_t endpoint; /* its number in the cluster's set */
};

struct named {
    const struct cluster_config *config;
    struct published *published; /* keeps it; null: it outlives us */
    struct target *targets;
    uint32_t target_count;
    uint32_t users;         /* answers that have it */
    bool fixed;             /* CDS or the bootstrap has it */
    bool stale;             /* its endpoints are to be written */
    struct published *made; /* keeps `set`; null: nothing is known yet */
    const struct endpoint_set *set;
};

struct names {
    struct names_options options;
    struct map clusters; /* name -> struct named */
    struct rng rng;
    struct task task;
    struct timer timer;
};

/* ---- what the workers get ---- */

static struct endpoint_config copy_endpoint(struct arena *arena,
                                            const struct endpoint_config *endpoint)
{
    struct endpoint_config copy = *endpoint;
    copy.hostname = arena_dup(arena, endpoint->hostname);
    copy.identity = arena_dup(arena, endpoint->identity);
    copy.uid = arena_dup(arena, endpoint->uid);
    copy.workload = arena_dup(arena, endpoint->workload);
    struct label *labels = ARENA_ARRAY(arena, struct label, endpoint->label_count + 1U);
    for (unsigned i = 0; i < endpoint->label_count; i++) {
        labels[i].key = arena_dup(arena, endpoint->labels[i].key);
        labels[i].value = arena_dup(arena, endpoint->labels[i].value);
    }
    copy.labels = labels;
    return copy;
}

static const struct locality *copy_localities(struct arena *arena, const struct endpoint_set *from)
{
    struct locality *list = ARENA_ARRAY(arena, struct locality, from->locality_count + 1U);
    for (unsigned i = 0; i < from->locality_count; i++) {
        list[i] = from->localities[i];
        list[i].region = arena_dup(arena, list[i].region);
        list[i].zone = arena_dup(arena, list[i].zone);
        list[i].sub_zone = arena_dup(arena, list[i].sub_zone);
    }
    return list;
}

static const struct target *target_of(const struct named *named, uint32_t endpoint)
{
    for (uint32_t i = 0; i < named->target_count; i++) {
        if (named->targets[i].endpoint == endpoint) {
            return &named->targets[i];
        }
    }
    return NULL;
}

static uint32_t count_endpoints(const struct named *named)
{
    uint32_t count = named->config->endpoints->endpoint_count - named->target_count;
    for (uint32_t i = 0; i < named->target_count; i++) {
        count += named->targets[i].state.count;
    }
    return count;
}

/* The cluster's own set, with each name's addresses in its place. Nothing in it refers to the
 * configuration, which may be another by the time a worker reads this. */
static struct endpoint_set *write_set(struct arena *arena, const struct named *named)
{
    const struct endpoint_set *from = named->config->endpoints;
    struct endpoint_config *list =
        ARENA_ARRAY(arena, struct endpoint_config, count_endpoints(named) + 1U);
    struct endpoint_set *set = ARENA_NEW(arena, struct endpoint_set);
    *set = *from;
    set->cluster = arena_dup(arena, named->config->name);
    set->localities = copy_localities(arena, from);
    set->endpoints = list;
    set->endpoint_count = 0;
    set->drops = NULL;
    set->drop_count = 0;
    for (uint32_t i = 0; i < from->endpoint_count; i++) {
        const struct target *target = target_of(named, i);
        if (target == NULL) {
            list[set->endpoint_count++] = copy_endpoint(arena, &from->endpoints[i]);
            continue;
        }
        for (uint32_t a = 0; a < target->state.count; a++) {
            struct endpoint_config *endpoint = &list[set->endpoint_count++];
            *endpoint = copy_endpoint(arena, &from->endpoints[i]);
            endpoint->addr = target->state.addrs[a];
            endpoint->addr.port = endpoint->port;
        }
    }
    return set;
}

/* Something is known: a name was answered, or an endpoint needs no answer. */
static bool is_known(const struct named *named)
{
    for (uint32_t i = 0; i < named->target_count; i++) {
        if (named->targets[i].state.known) {
            return true;
        }
    }
    return named->target_count < named->config->endpoints->endpoint_count;
}

static void write_out(struct names *names, struct named *named)
{
    named->stale = false;
    if (!is_known(named)) {
        return;
    }
    struct snapshot *snapshot = snapshot_new();
    named->set = write_set(&snapshot->arena, named);
    published_unref(&named->made);
    named->made = published_new_take(names->options.loop, &snapshot);
    log_info("names resolved", LOG_SLICE("cluster", named->config->name),
             LOG_U64("endpoints", named->set->endpoint_count));
    for (unsigned i = 0; i < names->options.worker_count; i++) {
        delivery_send(names->options.workers[i], DELIVERY_RESOLVED, named->made, named->set,
                      SLICE(""));
    }
}

/* ---- asking ---- */

static bool take_answer(struct names *names, struct named *named, struct target *target)
{
    struct name_rules rules = name_rules_of(named->config);
    const struct resolve_answer *answer = &target->query.answer;
    target->query.state = RESOLVE_IDLE;
    if (answer->outcome != RESOLVE_FOUND) {
        log_limited(LOG_LEVEL_WARNING, "a name does not resolve",
                    LOG_SLICE("cluster", named->config->name), LOG_TEXT("name", target->name),
                    LOG_TEXT("reason", answer->why));
    }
    return name_state_take(&target->state, &rules, answer, names->options.loop->now_us,
                           rng_u64(&names->rng));
}

/* Returns when to look at it again. */
static uint64_t run_target(struct names *names, struct named *named, struct target *target)
{
    if (target->query.state == RESOLVE_ANSWERED && take_answer(names, named, target)) {
        named->stale = true;
    }
    if (target->query.state == RESOLVE_ASKED) {
        return UINT64_MAX; /* the answer posts us */
    }
    if (target->state.ask_at_us <= names->options.loop->now_us) {
        struct name_rules rules = name_rules_of(named->config);
        names->options.ask(names->options.asker, &target->query, target->name,
                           name_rules_families(&rules));
        return UINT64_MAX;
    }
    return target->state.ask_at_us;
}

static void run(struct task *task)
{
    struct names *names = CONTAINER_OF(task, struct names, task);
    uint64_t next_us = UINT64_MAX;
    MAP_EACH(&names->clusters, entry)
    {
        struct named *named = entry->value;
        for (uint32_t i = 0; i < named->target_count; i++) {
            uint64_t at_us = run_target(names, named, &named->targets[i]);
            next_us = at_us < next_us ? at_us : next_us;
        }
        if (named->stale) {
            write_out(names, named);
        }
    }
    timer_clear(&names->timer);
    if (next_us != UINT64_MAX) {
        timer_set(names->options.loop, &names->timer, next_us);
    }
}

/* ---- which there are ---- */

static void free_targets(struct target *targets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        resolve_query_fini(&targets[i].query);
        name_state_fini(&targets[i].state);
        mem_free(targets[i].name);
    }
    mem_free(targets);
}

/* What is known of a name stays known over a change of its cluster. */
static void inherit(struct target *target, struct target *old, uint32_t old_count)
{
    for (uint32_t i = 0; i < old_count; i++) {
        if (strcmp(old[i].name, target->name) == 0 && old[i].state.known) {
            target->state = old[i].state;
            old[i].state = (struct name_state){.addrs = NULL};
            return;
        }
    }
}

static void make_targets(struct names *names, struct named *named)
{
    const struct endpoint_set *set = named->config->endpoints;
    struct target *old = named->targets;
    uint32_t old_count = named->target_count;
    named->targets = NEW_ARRAY(struct target, set->endpoint_count);
    named->target_count = 0;
    for (uint32_t i = 0; i < set->endpoint_count; i++) {
        if (set->endpoints[i].addr.family == ADDR_NONE) {
            struct slice name = set->endpoints[i].hostname;
            struct target *target = &named->targets[named->target_count++];
            *target = (struct target){
                .query.task = &names->task, .name = mem_dup(name.at, name.len), .endpoint = i};
            inherit(target, old, old_count);
        }
    }
    free_targets(old, old_count);
}

static struct named *put(struct names *names, const struct cluster_config *config,
                         struct published *published)
{
    struct named *named = map_get(&names->clusters, config->name);
    if (named == NULL) {
        named = NEW(struct named);
        (void)map_set(&names->clusters, config->name, named);
    }
    struct published *old = named->published;
    named->config = config;
    named->published = published != NULL ? published_ref(published) : NULL;
    make_targets(names, named);
    published_unref(&old);
    named->stale = true;
    loop_post(names->options.loop, &names->task);
    return named;
}

static void free_named(struct named *named)
{
    free_targets(named->targets, named->target_count);
    published_unref(&named->made);
    published_unref(&named->published);
    mem_free(named);
}

static void drop_unused(struct names *names, struct slice cluster)
{
    struct named *named = map_get(&names->clusters, cluster);
    if (named != NULL && named->users == 0 && !named->fixed) {
        (void)map_remove(&names->clusters, cluster);
        free_named(named);
    }
}

void names_put(struct names *names, const struct cluster_config *config,
               struct published *published)
{
    if (cluster_is_named(config)) {
        put(names, config, published)->fixed = true;
    } else {
        names_remove(names, config->name);
    }
}

void names_remove(struct names *names, struct slice cluster)
{
    struct named *named = map_get(&names->clusters, cluster);
    if (named != NULL) {
        named->fixed = false;
        drop_unused(names, cluster);
    }
}

void names_hold(struct names *names, const struct destination *destination,
                struct published *published)
{
    for (uint32_t i = 0; i < destination->cluster_count; i++) {
        if (cluster_is_named(&destination->clusters[i])) {
            put(names, &destination->clusters[i], published)->users++;
        }
    }
}

void names_release(struct names *names, const struct destination *destination)
{
    for (uint32_t i = 0; i < destination->cluster_count; i++) {
        if (cluster_is_named(&destination->clusters[i])) {
            struct named *named = map_get(&names->clusters, destination->clusters[i].name);
            CHECK(named != NULL && named->users > 0);
            named->users--;
            drop_unused(names, destination->clusters[i].name);
        }
    }
}

void names_send(struct names *names, struct worker *worker, const struct destination *destination)
{
    for (uint32_t i = 0; i < destination->cluster_count; i++) {
        const struct named *named = map_get(&names->clusters, destination->clusters[i].name);
        if (named != NULL && named->made != NULL) {
            delivery_send(worker, DELIVERY_RESOLVED, named->made, named->set, SLICE(""));
        }
    }
}

/* ---- life ---- */

struct names *names_new(const struct names_options *options)
{
    struct names *names = NEW(struct names);
    names->options = *options;
    names->task.run = run;
    names->timer.task = &names->task;
    rng_seed(&names->rng, options->seed);
    map_init(&names->clusters, options->seed, MAP_KEYS_COPIED);
    return names;
}

void names_free(struct names **names)
{
    struct names *it = *names;
    *names = NULL;
    if (it == NULL) {
        return;
    }
    loop_drain(it->options.loop); /* parcels that come home */
    MAP_EACH(&it->clusters, entry)
    {
        free_named(entry->value);
    }
    map_fini(&it->clusters);
    timer_clear(&it->timer);
    task_cancel(&it->task);
    mem_free(it);
}
