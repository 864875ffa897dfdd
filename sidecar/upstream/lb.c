#include "sidecar/upstream/lb.h"

#include <math.h>

#include "base/alloc.h"

/* The view holds every listed endpoint once, in `order`: by priority, within it those that may be
 * picked first, these by locality. So the candidates of a priority, of one of its localities, and
 * all endpoints of a priority (panic) are each one run of `order`.
 *
 * Within a priority, endpoints that are healthy and not leaving come first; degraded ones, and
 * those whose sidecar says that it is draining, are candidates only where no other is.
 *
 * Alternative refused: Envoy's EDF heaps. A heap must be made again on every change of weight, and
 * round robin over equal weights, the common case, needs none; unequal weights walk the run. */

struct run {
    uint32_t first;
    uint32_t count;
    uint64_t weight; /* sum of the endpoints' */
    bool equal;      /* all weights are the same */
};

struct view_locality {
    struct run candidates;
    uint64_t weight; /* of the locality, cut where few of its endpoints are available */
};

struct view_priority {
    struct run candidates;
    struct run all;
    struct view_locality *localities;
    uint32_t locality_count;
    uint64_t locality_weight;
    uint32_t load; /* percent */
    bool panic;
};

struct cluster_view {
    struct endpoint **order;
    struct view_priority *priorities;
    struct view_locality *localities;
    uint32_t priority_count;
};

/* One draw feeds several choices. */
static uint64_t next_draw(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t draw_below(uint64_t *state, uint64_t bound)
{
    CHECK(bound > 0);
    return next_draw(state) % bound; /* bounds are far below 2^64: no bias that matters */
}

const char *lb_kind_name(enum lb_kind kind)
{
    switch (kind) {
    case LB_ROUND_ROBIN:
        return "round_robin";
    case LB_LEAST_REQUEST:
        return "least_request";
    case LB_RANDOM:
        return "random";
    case LB_ORIGINAL_DST:
        return "original_dst";
    }
    return "unknown";
}

/* ---- priorities ---- */

void lb_priority_load(const uint32_t *available, const uint32_t *total, uint32_t count,
                      uint32_t overprovisioning, uint32_t *load)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t health = total[i] == 0 ? 0 : (uint64_t)available[i] * overprovisioning / total[i];
        load[i] = health < 100 ? (uint32_t)health : 100;
        sum += load[i];
    }
    uint64_t whole = sum < 100 ? sum : 100;
    uint32_t left = whole == 0 ? 0 : 100;
    uint32_t first = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t share = whole == 0 ? 0 : (uint32_t)(load[i] * UINT64_C(100) / whole);
        load[i] = share < left ? share : left;
        left -= load[i];
        first = first == count && load[i] > 0 ? i : first;
    }
    if (first < count) {
        load[first] += left; /* what rounding left over */
    }
}

/* ---- the view ---- */

void lb_view_free(struct cluster_view **view)
{
    if (*view != NULL) {
        mem_free((*view)->order);
        mem_free((*view)->priorities);
        mem_free((*view)->localities);
        FREE(*view);
    }
}

/* 0: first choice; 1: only where there is no other; 2: not to be picked. */
static int rank(const struct endpoint *endpoint)
{
    if (!endpoint_available(endpoint)) {
        return 2;
    }
    return endpoint->peer_shy || endpoint->config.health == ENDPOINT_DEGRADED;
}

static void add_to_run(struct run *run, const struct cluster_view *view, uint32_t at)
{
    uint32_t weight = view->order[at]->config.weight;
    if (run->count == 0) {
        run->first = at;
        run->equal = true;
    } else if (view->order[run->first]->config.weight != weight) {
        run->equal = false;
    }
    run->count++;
    run->weight += weight;
}

/* Which rank of a priority is picked from: the best that any endpoint has; 2: none. */
static int best_rank(const struct cluster *cluster, uint32_t priority)
{
    int best = 2;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        const struct endpoint *endpoint = cluster->endpoints[i];
        if (endpoint->priority == priority && rank(endpoint) < best) {
            best = rank(endpoint);
        }
    }
    return best;
}

static uint32_t locality_total(const struct cluster *cluster, uint32_t locality)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        total += cluster->endpoints[i]->config.locality == locality;
    }
    return total;
}

/* A locality's weight counts in full while its available share, overprovisioned, is whole (Envoy,
 * locality weighted load balancing). */
static uint64_t locality_weight(const struct cluster *cluster, uint32_t locality,
                                uint32_t available)
{
    uint64_t health = (uint64_t)available * cluster->overprovisioning;
    uint64_t total = (uint64_t)locality_total(cluster, locality) * 100;
    uint64_t weight = (uint64_t)cluster->localities[locality].weight * 10000;
    return health >= total ? weight : weight * health / total;
}

static void view_localities(const struct cluster *cluster, struct cluster_view *view,
                            struct view_priority *priority, uint32_t number, int best, uint32_t *at)
{
    for (uint32_t l = 0; l < cluster->locality_count; l++) {
        if (cluster->localities[l].priority != number) {
            continue;
        }
        struct view_locality *locality = &priority->localities[priority->locality_count];
        *locality = (struct view_locality){.weight = 0};
        for (uint32_t i = 0; i < cluster->endpoint_count && best < 2; i++) {
            struct endpoint *endpoint = cluster->endpoints[i];
            if (endpoint->config.locality == l && rank(endpoint) == best) {
                view->order[*at] = endpoint;
                add_to_run(&locality->candidates, view, *at);
                add_to_run(&priority->candidates, view, *at);
                add_to_run(&priority->all, view, *at);
                (*at)++;
            }
        }
        if (locality->candidates.count > 0) {
            locality->weight = locality_weight(cluster, l, locality->candidates.count);
            priority->locality_weight += locality->weight;
            priority->locality_count++;
        }
    }
}

static void view_priority(const struct cluster *cluster, struct cluster_view *view, uint32_t number,
                          uint32_t *at)
{
    struct view_priority *priority = &view->priorities[number];
    int best = best_rank(cluster, number);
    view_localities(cluster, view, priority, number, best, at);
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        struct endpoint *endpoint = cluster->endpoints[i];
        if (endpoint->priority == number && (best == 2 || rank(endpoint) != best)) {
            view->order[*at] = endpoint;
            add_to_run(&priority->all, view, *at);
            (*at)++;
        }
    }
}

/* Panic (Envoy, healthy_panic_threshold): where all priorities together cannot carry the load, one
 * whose available share is below the threshold uses all its endpoints; and where nothing at all is
 * available, load goes by number. */
static void view_load(const struct cluster *cluster, struct cluster_view *view)
{
    uint32_t count = view->priority_count;
    uint32_t *numbers = NEW_ARRAY(uint32_t, (size_t)count * 3);
    uint32_t *available = numbers;
    uint32_t *total = numbers + count;
    uint32_t *load = numbers + (size_t)count * 2;
    uint64_t health = 0;
    for (uint32_t i = 0; i < count; i++) {
        available[i] = view->priorities[i].candidates.count;
        total[i] = view->priorities[i].all.count;
        health += total[i] == 0 ? 0 : (uint64_t)available[i] * cluster->overprovisioning / total[i];
    }
    for (uint32_t i = 0; i < count && health < 100; i++) {
        view->priorities[i].panic =
            (uint64_t)available[i] * 100 < (uint64_t)cluster->config->panic_percent * total[i];
    }
    lb_priority_load(health == 0 && cluster->config->panic_percent > 0 ? total : available, total,
                     count, cluster->overprovisioning, load);
    for (uint32_t i = 0; i < count; i++) {
        view->priorities[i].load = load[i];
    }
    FREE(numbers);
}

static void refresh(struct cluster *cluster)
{
    uint32_t version = atomic_load_explicit(&cluster->shared->version.value, memory_order_acquire);
    bool same = version == cluster->view_version || MUTANT(41);
    if (cluster->view != NULL && !cluster->view_stale && same) {
        return;
    }
    lb_view_free(&cluster->view);
    struct cluster_view *view = NEW(struct cluster_view);
    view->priority_count = cluster->priority_count;
    view->order = NEW_ARRAY(struct endpoint *, cluster->endpoint_count);
    view->priorities = NEW_ARRAY(struct view_priority, cluster->priority_count);
    view->localities = NEW_ARRAY(struct view_locality, cluster->locality_count);
    uint32_t at = 0;
    uint32_t used = 0;
    for (uint32_t i = 0; i < cluster->priority_count; i++) {
        view->priorities[i].localities = view->localities + used;
        view_priority(cluster, view, i, &at);
        used += view->priorities[i].locality_count;
    }
    CHECK(at == cluster->endpoint_count);
    view_load(cluster, view);
    cluster->view = view;
    cluster->view_version = version;
    cluster->view_stale = false;
}

/* ---- one endpoint of a run ---- */

struct picking {
    struct cluster *cluster;
    const struct lb_query *query;
    struct endpoint *const *order; /* the run's first */
    const struct run *run;
    uint64_t draw;
};

static bool was_tried(const struct lb_query *query, const struct endpoint *endpoint)
{
    for (uint32_t i = 0; i < query->tried_count; i++) {
        if (query->tried[i] == endpoint) {
            return true;
        }
    }
    return false;
}

/* In slow start an endpoint takes only a part of its turns, growing with its age: Envoy's
 * max(min_weight, (age / window) ^ (1 / aggression)). */
static bool warm_enough(struct picking *picking, const struct endpoint *endpoint)
{
    const struct slow_start *slow = &picking->cluster->config->slow_start;
    uint64_t age = picking->query->now_us - endpoint->listed_at_us;
    if (slow->window_us == 0 || age >= slow->window_us) {
        return true;
    }
    double share = pow((double)age / (double)slow->window_us, 1.0 / slow->aggression);
    double least = slow->min_weight_percent / 100.0;
    share = share > least ? share : least;
    return (double)(next_draw(&picking->draw) >> 11) * 0x1p-53 < share;
}

static bool welcome(struct picking *picking, const struct endpoint *endpoint)
{
    return !was_tried(picking->query, endpoint) && warm_enough(picking, endpoint);
}

/* By weight, at random. */
static struct endpoint *any_of(struct picking *picking)
{
    const struct run *run = picking->run;
    if (run->equal) {
        return picking->order[draw_below(&picking->draw, run->count)];
    }
    uint64_t at = draw_below(&picking->draw, run->weight);
    for (uint32_t i = 0; i < run->count; i++) {
        if (at < picking->order[i]->config.weight) {
            return picking->order[i];
        }
        at -= picking->order[i]->config.weight;
    }
    return picking->order[run->count - 1];
}

static struct endpoint *pick_random(struct picking *picking)
{
    struct endpoint *endpoint = NULL;
    for (unsigned attempt = 0; attempt < 4; attempt++) {
        endpoint = any_of(picking);
        if (welcome(picking, endpoint)) {
            return endpoint;
        }
    }
    return endpoint;
}

/* Fewer requests per weight is better. */
static bool less_busy(const struct endpoint *a, const struct endpoint *b)
{
    return (uint64_t)endpoint_active(a) * b->config.weight <
           (uint64_t)endpoint_active(b) * a->config.weight;
}

/* The least busy of choice_count random ones. Two that are equally likely are drawn apart: of two
 * endpoints the idle one is always seen. */
static struct endpoint *pick_least_request(struct picking *picking)
{
    const struct run *run = picking->run;
    uint32_t choices = picking->cluster->config->choice_count;
    struct endpoint *best = pick_random(picking);
    for (uint32_t i = 1; i < choices && run->count > 1; i++) {
        struct endpoint *other = any_of(picking);
        if (run->equal && other == best) {
            uint64_t step = 1 + draw_below(&picking->draw, run->count - 1);
            for (uint32_t at = 0; at < run->count; at++) {
                if (picking->order[at] == best) {
                    other = picking->order[(at + step) % run->count];
                    break;
                }
            }
        }
        if (!welcome(picking, other)) {
            continue;
        }
        best = was_tried(picking->query, best) || less_busy(other, best) ? other : best;
    }
    return best;
}

/* Unequal weights: smooth weighted round robin, whose credits sum to 0. */
static struct endpoint *next_by_credit(struct picking *picking)
{
    const struct run *run = picking->run;
    struct endpoint *best = picking->order[0];
    for (uint32_t i = 0; i < run->count; i++) {
        struct endpoint *endpoint = picking->order[i];
        endpoint->credit += endpoint->config.weight;
        best = endpoint->credit > best->credit ? endpoint : best;
    }
    best->credit -= (int64_t)run->weight;
    return best;
}

static struct endpoint *pick_round_robin(struct picking *picking)
{
    const struct run *run = picking->run;
    struct endpoint *endpoint = NULL;
    for (uint32_t i = 0; i < run->count; i++) {
        endpoint = run->equal ? picking->order[picking->cluster->turn++ % run->count]
                              : next_by_credit(picking);
        if (welcome(picking, endpoint)) {
            break;
        }
    }
    return endpoint;
}

static struct endpoint *pick_from(struct cluster *cluster, const struct run *run,
                                  const struct lb_query *query, uint64_t draw)
{
    struct picking picking = {cluster, query, cluster->view->order + run->first, run, draw};
    switch (cluster->config->lb) {
    case LB_LEAST_REQUEST:
        return pick_least_request(&picking);
    case LB_RANDOM:
        return pick_random(&picking);
    case LB_ROUND_ROBIN:
    case LB_ORIGINAL_DST:
        return pick_round_robin(&picking);
    }
    return NULL;
}

/* ---- the whole choice ---- */

static const struct view_priority *choose_priority(const struct cluster_view *view, uint64_t *draw)
{
    uint64_t at = draw_below(draw, 100);
    for (uint32_t i = 0; i < view->priority_count; i++) {
        if (at < view->priorities[i].load) {
            return &view->priorities[i];
        }
        at -= view->priorities[i].load;
    }
    return NULL; /* no priority takes any load */
}

static const struct run *choose_locality(const struct cluster *cluster,
                                         const struct view_priority *priority, uint64_t *draw)
{
    if (!cluster->config->locality_weighted || priority->locality_weight == 0) {
        return &priority->candidates;
    }
    uint64_t at = draw_below(draw, priority->locality_weight);
    for (uint32_t i = 0; i < priority->locality_count; i++) {
        if (at < priority->localities[i].weight) {
            return &priority->localities[i].candidates;
        }
        at -= priority->localities[i].weight;
    }
    return &priority->candidates;
}

static bool priority_was_tried(const struct lb_query *query, uint32_t priority)
{
    for (uint32_t i = 0; i < query->tried_count; i++) {
        if (query->tried[i]->priority == priority) {
            return true;
        }
    }
    return false;
}

/* Any available endpoint that was not tried, near priorities first; null: none. `fresh`: only of
 * priorities without a tried one. */
static struct endpoint *find_untried(const struct cluster_view *view, const struct lb_query *query,
                                     bool fresh, uint64_t *draw)
{
    for (uint32_t p = 0; p < view->priority_count; p++) {
        const struct run *run = &view->priorities[p].candidates;
        if (run->count == 0 || (fresh && priority_was_tried(query, p))) {
            continue;
        }
        uint64_t from = draw_below(draw, run->count);
        for (uint32_t i = 0; i < run->count; i++) {
            struct endpoint *endpoint = view->order[run->first + (from + i) % run->count];
            if (!was_tried(query, endpoint)) {
                return endpoint;
            }
        }
    }
    return NULL;
}

static struct lb_choice pick_original(struct cluster *cluster, const struct lb_query *query)
{
    struct addr addr = query->original;
    if (cluster->config->original_port != 0) {
        addr.port = cluster->config->original_port;
    }
    if (addr.family == ADDR_NONE || addr.port == 0) {
        return (struct lb_choice){.fail = FAIL_NO_HOST};
    }
    struct endpoint *endpoint = cluster_original(cluster, &addr, query->now_us);
    return (struct lb_choice){.endpoint = endpoint, .repeated = was_tried(query, endpoint)};
}

/* A cluster of names has nobody until one of them resolves. */
static enum fail nobody(const struct cluster *cluster)
{
    bool unresolved = cluster_is_named(cluster->config) && cluster->endpoint_count == 0;
    return unresolved ? FAIL_DNS : FAIL_NO_HOST;
}

struct lb_choice lb_pick(struct cluster *cluster, const struct lb_query *query)
{
    if (cluster->config->type == CLUSTER_ORIGINAL_DST) {
        return pick_original(cluster, query);
    }
    refresh(cluster);
    uint64_t draw = query->draw;
    if (query->leave_priorities && query->tried_count >= 2) {
        struct endpoint *elsewhere = find_untried(cluster->view, query, true, &draw);
        if (elsewhere != NULL) {
            return (struct lb_choice){.endpoint = elsewhere};
        }
    }
    const struct view_priority *priority = choose_priority(cluster->view, &draw);
    if (priority == NULL) {
        return (struct lb_choice){.fail = nobody(cluster)};
    }
    const struct run *run =
        priority->panic ? &priority->all : choose_locality(cluster, priority, &draw);
    CHECK(run->count > 0);
    struct endpoint *endpoint = pick_from(cluster, run, query, next_draw(&draw));
    if (was_tried(query, endpoint)) {
        struct endpoint *other = find_untried(cluster->view, query, false, &draw);
        endpoint = other != NULL ? other : endpoint;
    }
    return (struct lb_choice){
        .endpoint = endpoint, .panic = priority->panic, .repeated = was_tried(query, endpoint)};
}
