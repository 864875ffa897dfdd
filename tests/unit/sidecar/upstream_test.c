/* Clusters, balancers, breakers and outlier detection: what a worker decides about endpoints. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "sidecar/upstream/breaker.h"
#include "sidecar/upstream/cluster.h"
#include "sidecar/upstream/lb.h"
#include "sidecar/upstream/outlier.h"

#include <cmocka.h>

#define ENDPOINTS_MAX 32
#define SECOND        UINT64_C(1000000)

struct bed {
    struct shared_registry *registry;
    struct cluster *cluster;
    struct cluster_config config;
    struct endpoint_config endpoints[ENDPOINTS_MAX];
    struct locality localities[4];
    struct endpoint_set set;
    struct rng rng;
};

static void bed_apply(struct bed *bed, uint64_t now_us)
{
    struct shared_endpoint **shared =
        shared_registry_endpoints(bed->registry, bed->config.name, &bed->set);
    cluster_apply_endpoints(bed->cluster, &bed->set, &shared, now_us);
}

static struct bed *bed_new(uint32_t endpoints, enum lb_kind lb)
{
    struct bed *bed = NEW(struct bed);
    rng_seed(&bed->rng, 7);
    bed->registry = shared_registry_new();
    bed->config = (struct cluster_config){
        .name = SLICE("c"),
        .type = CLUSTER_EDS,
        .lb = lb,
        .choice_count = 2,
        .slow_start = {.aggression = 1.0, .min_weight_percent = 10},
        .limits = {{.connections = 2, .pending = 1, .requests = 3, .retries = 2},
                   {.connections = 9, .pending = 9, .requests = 9, .retries = 9}},
        .outlier = {.consecutive_5xx = 5,
                    .enforce_5xx = 100,
                    .max_ejection_percent = 10,
                    .interval_us = 10 * SECOND,
                    .base_ejection_us = 30 * SECOND,
                    .max_ejection_us = 300 * SECOND},
        .has_outlier = true,
    };
    bed->set = (struct endpoint_set){.cluster = SLICE("c"),
                                     .endpoints = bed->endpoints,
                                     .localities = bed->localities,
                                     .endpoint_count = endpoints,
                                     .locality_count = 1,
                                     .priority_count = 1,
                                     .overprovisioning = 140};
    bed->localities[0].weight = 1;
    for (uint32_t i = 0; i < endpoints; i++) {
        bed->endpoints[i].addr = addr_ipv4(10, 0, 0, (uint8_t)(i + 1), 80);
        bed->endpoints[i].weight = 1;
    }
    struct shared_cluster *shared = shared_registry_cluster(bed->registry, bed->config.name);
    bed->cluster = cluster_new(&bed->config, &shared, 0);
    assert_null(shared);
    bed_apply(bed, SECOND);
    return bed;
}

static void bed_free(struct bed **bed)
{
    cluster_free(&(*bed)->cluster);
    shared_registry_sweep((*bed)->registry);
    shared_registry_free(&(*bed)->registry);
    FREE(*bed);
}

static struct lb_choice pick(struct bed *bed)
{
    struct lb_query query = {.draw = rng_u64(&bed->rng), .now_us = SECOND};
    return lb_pick(bed->cluster, &query);
}

/* Its place among bed->endpoints. */
static uint32_t place(const struct endpoint *endpoint)
{
    return (uint32_t)endpoint->config.addr.ip[3] - 1;
}

static void count_picks(struct bed *bed, unsigned picks, unsigned counts[ENDPOINTS_MAX])
{
    memset(counts, 0, sizeof(unsigned) * ENDPOINTS_MAX);
    for (unsigned i = 0; i < picks; i++) {
        struct lb_choice choice = pick(bed);
        assert_non_null(choice.endpoint);
        assert_int_equal(choice.fail, FAIL_NONE);
        counts[place(choice.endpoint)]++;
    }
}

static struct endpoint *at(struct bed *bed, uint32_t index)
{
    return cluster_find(bed->cluster, &bed->endpoints[index].addr);
}

static enum outlier_cause report(struct bed *bed, uint32_t index, uint16_t status, enum fail fail,
                                 uint64_t now_us)
{
    struct outlier_event event = {.fail = fail, .status = status};
    return outlier_report(bed->cluster, at(bed, index), &event, now_us, rng_u64(&bed->rng));
}

static bool eject(struct bed *bed, uint32_t index, uint64_t now_us)
{
    for (unsigned i = 0; i < bed->config.outlier.consecutive_5xx; i++) {
        if (report(bed, index, 500, FAIL_NONE, now_us) != OUTLIER_NONE) {
            return true;
        }
    }
    return false;
}

/* ---- balancers ---- */

static void round_robin_is_even(void **state)
{
    (void)state;
    struct bed *bed = bed_new(5, LB_ROUND_ROBIN);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 1000, counts);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(counts[i], 200);
    }
    bed_free(&bed);
}

static void round_robin_follows_weights(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    bed->endpoints[0].weight = 5;
    bed->endpoints[1].weight = 3;
    bed->endpoints[2].weight = 2;
    bed_apply(bed, SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 1000, counts);
    assert_int_equal(counts[0], 500);
    assert_int_equal(counts[1], 300);
    assert_int_equal(counts[2], 200);
    bed_free(&bed);
}

static void random_is_fair(void **state)
{
    (void)state;
    struct bed *bed = bed_new(4, LB_RANDOM);
    bed->endpoints[3].weight = 5;
    bed_apply(bed, SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 8000, counts);
    for (unsigned i = 0; i < 3; i++) {
        assert_in_range(counts[i], 850, 1150);
    }
    assert_in_range(counts[3], 4700, 5300);
    bed_free(&bed);
}

static void least_request_sees_the_idle_one(void **state)
{
    (void)state;
    struct bed *bed = bed_new(2, LB_LEAST_REQUEST);
    endpoint_begin(at(bed, 0), SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 100, counts);
    assert_int_equal(counts[1], 100);
    endpoint_end(at(bed, 0));
    count_picks(bed, 1000, counts);
    assert_in_range(counts[0], 400, 600);
    bed_free(&bed);
}

static void least_request_avoids_the_busy_of_many(void **state)
{
    (void)state;
    struct bed *bed = bed_new(10, LB_LEAST_REQUEST);
    for (unsigned i = 0; i < 50; i++) {
        endpoint_begin(at(bed, 4), SECOND);
    }
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 1000, counts);
    assert_int_equal(counts[4], 0); /* it always meets a second choice that is another */
    for (unsigned i = 0; i < 50; i++) {
        endpoint_end(at(bed, 4));
    }
    bed_free(&bed);
}

static void a_retry_avoids_what_was_tried(void **state)
{
    (void)state;
    static const enum lb_kind kinds[] = {LB_ROUND_ROBIN, LB_LEAST_REQUEST, LB_RANDOM};
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        struct bed *bed = bed_new(3, kinds[k]);
        for (unsigned i = 0; i < 300; i++) {
            struct endpoint *tried[3];
            for (uint32_t n = 0; n < 3; n++) {
                struct lb_query query = {
                    .tried = tried, .tried_count = n, .draw = rng_u64(&bed->rng), .now_us = SECOND};
                struct lb_choice choice = lb_pick(bed->cluster, &query);
                assert_false(choice.repeated);
                for (uint32_t j = 0; j < n; j++) {
                    assert_ptr_not_equal(tried[j], choice.endpoint);
                }
                tried[n] = choice.endpoint;
            }
            struct lb_query query = {
                .tried = tried, .tried_count = 3, .draw = rng_u64(&bed->rng), .now_us = SECOND};
            struct lb_choice choice = lb_pick(bed->cluster, &query);
            assert_non_null(choice.endpoint);
            assert_true(choice.repeated);
        }
        bed_free(&bed);
    }
}

static void no_endpoint_is_no_host(void **state)
{
    (void)state;
    struct bed *bed = bed_new(0, LB_ROUND_ROBIN);
    struct lb_choice choice = pick(bed);
    assert_null(choice.endpoint);
    assert_int_equal(choice.fail, FAIL_NO_HOST);
    bed->set.endpoint_count = 2;
    for (unsigned i = 0; i < 2; i++) {
        bed->endpoints[i] = (struct endpoint_config){
            .addr = addr_ipv4(10, 0, 0, (uint8_t)(i + 1), 80), .weight = 1};
        bed->endpoints[i].health = ENDPOINT_UNHEALTHY;
    }
    bed_apply(bed, SECOND);
    assert_int_equal(pick(bed).fail, FAIL_NO_HOST);
    bed->config.panic_percent = 50;
    cluster_apply_config(bed->cluster, &bed->config);
    choice = pick(bed);
    assert_non_null(choice.endpoint);
    assert_true(choice.panic);
    bed_free(&bed);
}

static void panic_uses_all(void **state)
{
    (void)state;
    struct bed *bed = bed_new(10, LB_ROUND_ROBIN);
    for (unsigned i = 0; i < 7; i++) {
        bed->endpoints[i].health = ENDPOINT_UNHEALTHY;
    }
    bed_apply(bed, SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 300, counts);
    assert_int_equal(counts[0], 0);
    assert_int_equal(counts[9], 100);
    bed->config.panic_percent = 50;
    cluster_apply_config(bed->cluster, &bed->config);
    count_picks(bed, 300, counts);
    assert_int_equal(counts[0], 30);
    bed_free(&bed);
}

static void leaving_peers_come_last(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_LEAST_REQUEST);
    at(bed, 0)->peer_shy = true;
    cluster_touch(bed->cluster);
    bed->endpoints[1].health = ENDPOINT_DEGRADED;
    bed_apply(bed, SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 100, counts);
    assert_int_equal(counts[2], 100);
    bed->endpoints[2].health = ENDPOINT_DRAINING;
    bed_apply(bed, SECOND);
    count_picks(bed, 100, counts);
    assert_int_equal(counts[2], 0);
    assert_true(counts[0] > 0);
    assert_true(counts[1] > 0);
    bed_free(&bed);
}

static void priority_load_as_envoy_documents_it(void **state)
{
    (void)state;
    /* Envoy docs, priority levels: overprovisioning 140, two and three levels. */
    static const struct {
        uint32_t healthy[3];
        uint32_t load[3];
    } rows[] = {
        {{100, 100, 100}, {100, 0, 0}}, {{72, 72, 100}, {100, 0, 0}},
        {{71, 71, 100}, {99, 1, 0}},    {{50, 50, 100}, {70, 30, 0}},
        {{25, 100, 100}, {35, 65, 0}},  {{25, 25, 100}, {35, 35, 30}},
        {{25, 25, 20}, {36, 35, 28}},   {{0, 0, 0}, {0, 0, 0}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint32_t total[3] = {100, 100, 100};
        uint32_t load[3];
        lb_priority_load(rows[i].healthy, total, 3, 140, load);
        uint32_t sum = load[0] + load[1] + load[2];
        assert_true(sum == 100 || sum == 0);
        for (unsigned p = 0; p < 3; p++) {
            assert_in_range(load[p], rows[i].load[p] > 0 ? rows[i].load[p] - 1 : 0,
                            rows[i].load[p] + 1);
        }
    }
}

static void far_priority_only_when_near_is_short(void **state)
{
    (void)state;
    struct bed *bed = bed_new(8, LB_ROUND_ROBIN);
    bed->set.locality_count = 2;
    bed->set.priority_count = 2;
    bed->localities[1].priority = 1;
    for (unsigned i = 4; i < 8; i++) {
        bed->endpoints[i].locality = 1;
    }
    bed_apply(bed, SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 400, counts);
    assert_int_equal(counts[0] + counts[1] + counts[2] + counts[3], 400);
    bed->endpoints[0].health = ENDPOINT_UNHEALTHY;
    bed->endpoints[1].health = ENDPOINT_UNHEALTHY;
    bed_apply(bed, SECOND);
    count_picks(bed, 4000, counts);
    assert_int_equal(counts[0] + counts[1], 0);
    assert_in_range(counts[2] + counts[3], 2600, 3000); /* 70 % */
    bed_free(&bed);
}

static void a_later_retry_may_leave_its_priority(void **state)
{
    (void)state;
    struct bed *bed = bed_new(8, LB_LEAST_REQUEST);
    bed->set.locality_count = 2;
    bed->set.priority_count = 2;
    bed->localities[1].priority = 1;
    for (unsigned i = 4; i < 8; i++) {
        bed->endpoints[i].locality = 1;
    }
    bed_apply(bed, SECOND);
    struct endpoint *tried[] = {at(bed, 0), at(bed, 1)};
    struct lb_query query = {.tried = tried, .tried_count = 2, .now_us = SECOND};
    for (unsigned i = 0; i < 50; i++) {
        query.draw = rng_u64(&bed->rng);
        query.leave_priorities = false;
        assert_in_range(place(lb_pick(bed->cluster, &query).endpoint), 2, 3);
        query.leave_priorities = true;
        assert_in_range(place(lb_pick(bed->cluster, &query).endpoint), 4, 7);
        query.tried_count = 1;
        assert_in_range(place(lb_pick(bed->cluster, &query).endpoint), 1, 3);
        query.tried_count = 2;
    }
    bed_free(&bed);
}

static void localities_by_their_weight(void **state)
{
    (void)state;
    struct bed *bed = bed_new(4, LB_RANDOM);
    bed->config.locality_weighted = true;
    bed->set.locality_count = 2;
    bed->localities[0].weight = 1;
    bed->localities[1].weight = 3;
    bed->endpoints[3].locality = 1;
    bed_apply(bed, SECOND);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 4000, counts);
    assert_in_range(counts[3], 2850, 3150);
    bed_free(&bed);
}

static void slow_start_grows(void **state)
{
    (void)state;
    struct bed *bed = bed_new(2, LB_ROUND_ROBIN);
    bed->set.endpoint_count = 1;
    bed_apply(bed, SECOND);
    bed->config.slow_start.window_us = 100 * SECOND;
    bed->set.endpoint_count = 2;
    bed_apply(bed, 200 * SECOND);
    unsigned early = 0;
    unsigned late = 0;
    for (unsigned i = 0; i < 2000; i++) {
        struct lb_query query = {.draw = rng_u64(&bed->rng), .now_us = 201 * SECOND};
        early += place(lb_pick(bed->cluster, &query).endpoint) == 1;
    }
    for (unsigned i = 0; i < 2000; i++) {
        struct lb_query query = {.draw = rng_u64(&bed->rng), .now_us = 350 * SECOND};
        late += place(lb_pick(bed->cluster, &query).endpoint) == 1;
    }
    assert_in_range(early, 50, 350);
    assert_in_range(late, 900, 1100);
    bed_free(&bed);
}

static void original_destinations_come_and_go(void **state)
{
    (void)state;
    struct bed *bed = bed_new(0, LB_ORIGINAL_DST);
    bed->config.type = CLUSTER_ORIGINAL_DST;
    bed->config.cleanup_us = 5 * SECOND;
    struct lb_query query = {.original = addr_ipv4(10, 1, 1, 1, 8000), .now_us = SECOND};
    struct endpoint *first = lb_pick(bed->cluster, &query).endpoint;
    assert_non_null(first);
    assert_ptr_equal(lb_pick(bed->cluster, &query).endpoint, first);
    bed->config.original_port = 15008;
    struct endpoint *other = lb_pick(bed->cluster, &query).endpoint;
    assert_ptr_not_equal(first, other);
    assert_int_equal(other->config.addr.port, 15008);
    endpoint_begin(other, SECOND);
    assert_int_equal(cluster_forget(bed->cluster, 3 * SECOND), 0);
    assert_int_equal(cluster_forget(bed->cluster, 7 * SECOND), 1);
    endpoint_end(other);
    query.original = (struct addr){.family = ADDR_NONE};
    assert_int_equal(lb_pick(bed->cluster, &query).fail, FAIL_NO_HOST);
    bed_free(&bed);
}

/* ---- twins ---- */

static void what_was_learnt_survives_an_update(void **state)
{
    (void)state;
    struct bed *bed = bed_new(4, LB_ROUND_ROBIN);
    struct endpoint *kept = at(bed, 2);
    assert_true(eject(bed, 2, 2 * SECOND));
    endpoint_begin(kept, SECOND);
    /* Another order, one less, one more; texts that go with their set. */
    struct endpoint_config second = bed->endpoints[1];
    bed->endpoints[1] = bed->endpoints[2];
    bed->endpoints[2] = second;
    bed->endpoints[3].addr = addr_ipv4(10, 0, 0, 9, 80);
    char identity[] = "spiffe://cluster.local/ns/default/sa/x";
    bed->endpoints[1].identity = slice_of_text(identity);
    bed_apply(bed, 3 * SECOND);
    memset(identity, 'z', sizeof(identity) - 1);
    assert_ptr_equal(at(bed, 1), kept);
    assert_true(endpoint_ejected(kept));
    assert_int_equal(endpoint_active(kept), 1);
    assert_true(slice_eq(kept->config.identity, SLICE("spiffe://cluster.local/ns/default/sa/x")));
    endpoint_end(kept);
    assert_int_equal(cluster_available(bed->cluster), 3);
    bed_free(&bed);
}

static void an_unlisted_endpoint_drains(void **state)
{
    (void)state;
    struct bed *bed = bed_new(2, LB_ROUND_ROBIN);
    struct endpoint *held = at(bed, 1);
    endpoint_ref(held);
    bed->set.endpoint_count = 1;
    bed_apply(bed, 2 * SECOND);
    assert_false(held->listed);
    assert_null(held->cluster);
    assert_false(endpoint_available(held));
    endpoint_unref(&held);
    assert_null(held);
    bed_free(&bed);
}

static void workers_share_what_they_learn(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    struct shared_cluster *shared = shared_registry_cluster(bed->registry, bed->config.name);
    struct cluster *other = cluster_new(&bed->config, &shared, 0);
    struct shared_endpoint **list =
        shared_registry_endpoints(bed->registry, bed->config.name, &bed->set);
    cluster_apply_endpoints(other, &bed->set, &list, SECOND);
    struct lb_query query = {.now_us = SECOND};
    (void)lb_pick(other, &query); /* its view is made */
    assert_true(eject(bed, 1, 2 * SECOND));
    for (unsigned i = 0; i < 30; i++) {
        assert_int_not_equal(place(lb_pick(other, &query).endpoint), 1);
    }
    assert_true(breaker_begin(other, BREAKER_PENDING, false));
    assert_false(breaker_begin(bed->cluster, BREAKER_PENDING, false));
    breaker_end(other, BREAKER_PENDING);
    cluster_free(&other);
    bed_free(&bed);
}

static void transport_by_labels(void **state)
{
    (void)state;
    struct bed *bed = bed_new(2, LB_ROUND_ROBIN);
    static const struct tls_config mesh = {.server = false};
    const struct label wanted[] = {{SLICE("tlsMode"), SLICE("istio")}};
    const struct transport_match matches[] = {
        {.name = SLICE("mesh"), .labels = wanted, .label_count = 1, .tls = &mesh},
        {.name = SLICE("plain")},
    };
    bed->endpoints[1].labels = wanted;
    bed->endpoints[1].label_count = 1;
    bed_apply(bed, SECOND);
    assert_null(at(bed, 1)->tls);
    bed->config.matches = matches;
    bed->config.match_count = 2;
    cluster_apply_config(bed->cluster, &bed->config);
    assert_null(at(bed, 0)->tls);
    assert_ptr_equal(at(bed, 1)->tls, &mesh);
    bed->config.matches = NULL;
    bed->config.match_count = 0;
    bed_free(&bed);
}

/* ---- outlier detection ---- */

static void five_in_a_row_eject_at_once(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(report(bed, 0, 500, FAIL_NONE, SECOND), OUTLIER_NONE);
    }
    assert_int_equal(report(bed, 0, 200, FAIL_NONE, SECOND), OUTLIER_NONE);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(report(bed, 0, 500, FAIL_NONE, SECOND), OUTLIER_NONE);
    }
    assert_int_equal(report(bed, 0, 500, FAIL_NONE, SECOND), OUTLIER_CONSECUTIVE_5XX);
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 100, counts);
    assert_int_equal(counts[0], 0);
    bed_free(&bed);
}

static void failures_without_an_answer_count(void **state)
{
    (void)state;
    static const enum fail failing[] = {
        FAIL_CONNECT_REFUSED, FAIL_CONNECT_TIMEOUT, FAIL_UPSTREAM_CLOSED, FAIL_UPSTREAM_RESET,
        FAIL_TRY_TIMEOUT,     FAIL_ANSWER_BAD,      FAIL_REFUSED_STREAM,  FAIL_ROUTE_TIMEOUT};
    for (size_t i = 0; i < COUNT_OF(failing); i++) {
        struct bed *bed = bed_new(2, LB_ROUND_ROBIN);
        enum outlier_cause cause = OUTLIER_NONE;
        for (unsigned n = 0; n < 5; n++) {
            cause = report(bed, 0, 0, failing[i], SECOND);
        }
        assert_int_equal(cause, OUTLIER_CONSECUTIVE_5XX);
        bed_free(&bed);
    }
    static const enum fail harmless[] = {FAIL_UNSENT, FAIL_OVERFLOW, FAIL_CLIENT_GONE,
                                         FAIL_DEADLINE};
    for (size_t i = 0; i < COUNT_OF(harmless); i++) {
        struct bed *bed = bed_new(2, LB_ROUND_ROBIN);
        for (unsigned n = 0; n < 20; n++) {
            assert_int_equal(report(bed, 0, 0, harmless[i], SECOND), OUTLIER_NONE);
        }
        bed_free(&bed);
    }
}

static void gateway_and_local_have_their_own_counts(void **state)
{
    (void)state;
    struct bed *bed = bed_new(4, LB_ROUND_ROBIN);
    bed->config.outlier.consecutive_5xx = 0;
    bed->config.outlier.consecutive_gateway = 2;
    bed->config.outlier.enforce_gateway = 100;
    assert_int_equal(report(bed, 0, 503, FAIL_NONE, SECOND), OUTLIER_NONE);
    assert_int_equal(report(bed, 0, 500, FAIL_NONE, SECOND), OUTLIER_NONE);
    assert_int_equal(report(bed, 0, 502, FAIL_NONE, SECOND), OUTLIER_NONE);
    assert_int_equal(report(bed, 0, 504, FAIL_NONE, SECOND), OUTLIER_CONSECUTIVE_GATEWAY);
    bed->config.outlier.max_ejection_percent = 50;
    bed->config.outlier.split_local = true;
    bed->config.outlier.consecutive_local = 3;
    bed->config.outlier.enforce_local = 100;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(report(bed, 1, 0, FAIL_CONNECT_REFUSED, SECOND), OUTLIER_NONE);
    }
    assert_int_equal(report(bed, 1, 0, FAIL_CONNECT_REFUSED, SECOND), OUTLIER_CONSECUTIVE_LOCAL);
    bed_free(&bed);
}

static void never_the_last_nor_more_than_allowed(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 30; n++) {
        for (unsigned percent = 0; percent <= 100; percent += 10) {
            struct bed *bed = bed_new(n, LB_ROUND_ROBIN);
            bed->config.outlier.max_ejection_percent = (uint8_t)percent;
            for (uint32_t i = 0; i < n; i++) {
                (void)eject(bed, i, 2 * SECOND);
            }
            uint32_t limit = n * percent / 100 > 1 ? n * percent / 100 : 1;
            uint32_t wanted = limit < n - 1 ? limit : n - 1;
            assert_int_equal(n - cluster_available(bed->cluster), wanted);
            bed_free(&bed);
        }
    }
}

/* Unhealthy by EDS is not available either: the last one stays. */
static void the_last_available_counts_health(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    bed->config.outlier.max_ejection_percent = 100;
    bed->endpoints[0].health = ENDPOINT_UNHEALTHY;
    bed_apply(bed, SECOND);
    assert_true(eject(bed, 1, SECOND));
    assert_false(eject(bed, 2, SECOND));
    bed_free(&bed);
}

static void return_is_checked_at_the_interval(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    assert_int_equal(outlier_sweep(bed->cluster, SECOND, 0).returned, 0); /* starts the clock */
    assert_int_equal(outlier_next_us(bed->cluster), 11 * SECOND);
    assert_true(eject(bed, 0, 2 * SECOND));
    /* Until 32 s; intervals turn at 11, 21, 31, 41. */
    assert_int_equal(outlier_sweep(bed->cluster, 11 * SECOND, 0).returned, 0);
    assert_int_equal(outlier_sweep(bed->cluster, 21 * SECOND, 0).returned, 0);
    assert_int_equal(outlier_sweep(bed->cluster, 31 * SECOND, 0).returned, 0);
    assert_int_equal(outlier_sweep(bed->cluster, 33 * SECOND, 0).returned, 0);
    assert_true(endpoint_ejected(at(bed, 0)));
    assert_int_equal(outlier_sweep(bed->cluster, 41 * SECOND, 0).returned, 1);
    assert_false(endpoint_ejected(at(bed, 0)));
    unsigned counts[ENDPOINTS_MAX];
    count_picks(bed, 30, counts);
    assert_int_equal(counts[0], 10);
    /* The second time is twice as long: until 102 s. */
    assert_true(eject(bed, 0, 42 * SECOND));
    for (uint64_t now = 51; now < 102; now += 10) {
        assert_int_equal(outlier_sweep(bed->cluster, now * SECOND, 0).returned, 0);
    }
    assert_int_equal(outlier_sweep(bed->cluster, 111 * SECOND, 0).returned, 1);
    /* Two good intervals wipe the slate. */
    (void)outlier_sweep(bed->cluster, 121 * SECOND, 0);
    (void)outlier_sweep(bed->cluster, 131 * SECOND, 0);
    assert_true(eject(bed, 0, 132 * SECOND));
    for (uint64_t now = 141; now < 162; now += 10) {
        assert_int_equal(outlier_sweep(bed->cluster, now * SECOND, 0).returned, 0);
    }
    assert_int_equal(outlier_sweep(bed->cluster, 171 * SECOND, 0).returned, 1);
    bed_free(&bed);
}

/* Who is out when times become shorter comes back by the new ones. */
static void a_shorter_ejection_holds_at_once(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    (void)outlier_sweep(bed->cluster, SECOND, 0);
    assert_true(eject(bed, 0, 2 * SECOND));
    bed->config.outlier.interval_us = SECOND;
    bed->config.outlier.base_ejection_us = SECOND;
    assert_int_equal(outlier_sweep(bed->cluster, 4 * SECOND, 0).returned, 0); /* the clock anew */
    assert_int_equal(outlier_next_us(bed->cluster), 5 * SECOND);
    assert_int_equal(outlier_sweep(bed->cluster, 5 * SECOND, 0).returned, 1);
    bed_free(&bed);
}

static void ejection_time_is_capped(void **state)
{
    (void)state;
    struct outlier_config config = {.base_ejection_us = 30 * SECOND,
                                    .max_ejection_us = 300 * SECOND};
    assert_int_equal(outlier_ejection_us(&config, 1), 30 * SECOND);
    assert_int_equal(outlier_ejection_us(&config, 10), 300 * SECOND);
    assert_int_equal(outlier_ejection_us(&config, 4000000000U), 300 * SECOND);
    config.max_ejection_us = SECOND;
    assert_int_equal(outlier_ejection_us(&config, 3), 30 * SECOND);
    assert_int_equal(outlier_limit(5, 10), 1);
    assert_int_equal(outlier_limit(29, 10), 2);
    assert_int_equal(outlier_limit(0, 100), 1);
}

static void the_odd_one_by_success_rate(void **state)
{
    (void)state;
    struct bed *bed = bed_new(6, LB_ROUND_ROBIN);
    bed->config.outlier.consecutive_5xx = 0;
    bed->config.outlier.enforce_success_rate = 100;
    bed->config.outlier.success_rate_hosts = 5;
    bed->config.outlier.success_rate_volume = 100;
    bed->config.outlier.success_rate_factor = 1900;
    (void)outlier_sweep(bed->cluster, SECOND, 0);
    for (unsigned i = 0; i < 100; i++) {
        for (uint32_t n = 0; n < 6; n++) {
            (void)report(bed, n, n == 3 && i % 2 == 0 ? 500 : 200, FAIL_NONE, SECOND);
        }
    }
    struct outlier_swept swept = outlier_sweep(bed->cluster, 11 * SECOND, 0);
    assert_int_equal(swept.ejected, 1);
    assert_true(endpoint_ejected(at(bed, 3)));
    bed_free(&bed);
}

static void the_bad_one_by_failure_percentage(void **state)
{
    (void)state;
    struct bed *bed = bed_new(5, LB_ROUND_ROBIN);
    bed->config.outlier.consecutive_5xx = 0;
    bed->config.outlier.enforce_failure_percentage = 100;
    bed->config.outlier.failure_percentage = 85;
    bed->config.outlier.failure_percentage_hosts = 5;
    bed->config.outlier.failure_percentage_volume = 20;
    (void)outlier_sweep(bed->cluster, SECOND, 0);
    for (unsigned i = 0; i < 20; i++) {
        for (uint32_t n = 0; n < 5; n++) {
            bool bad = (n == 1 && i < 17) || (n == 2 && i < 16);
            (void)report(bed, n, bad ? 500 : 200, FAIL_NONE, SECOND);
        }
    }
    assert_int_equal(outlier_sweep(bed->cluster, 11 * SECOND, 0).ejected, 1);
    assert_true(endpoint_ejected(at(bed, 1)));
    bed_free(&bed);
}

static void off_means_off(void **state)
{
    (void)state;
    struct bed *bed = bed_new(3, LB_ROUND_ROBIN);
    bed->config.has_outlier = false;
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(report(bed, 0, 500, FAIL_NONE, SECOND), OUTLIER_NONE);
    }
    assert_int_equal(outlier_next_us(bed->cluster), 0);
    bed->config.has_outlier = true;
    bed->config.outlier.enforce_5xx = 0;
    assert_false(eject(bed, 0, SECOND));
    bed_free(&bed);
}

/* ---- breakers ---- */

static void breakers_hold_their_limits(void **state)
{
    (void)state;
    struct bed *bed = bed_new(1, LB_ROUND_ROBIN);
    static const struct {
        enum breaker breaker;
        uint32_t limit;
    } rows[] = {{BREAKER_CONNECTIONS, 2}, {BREAKER_PENDING, 1}, {BREAKER_REQUESTS, 3}};
    uint64_t overflows = 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (uint32_t n = 0; n < rows[i].limit; n++) {
            assert_false(breaker_open(bed->cluster, rows[i].breaker, false));
            assert_true(breaker_begin(bed->cluster, rows[i].breaker, false));
        }
        assert_true(breaker_open(bed->cluster, rows[i].breaker, false));
        assert_false(breaker_begin(bed->cluster, rows[i].breaker, false));
        assert_int_equal(atomic_load(&bed->cluster->shared->overflows), ++overflows);
        assert_true(breaker_begin(bed->cluster, rows[i].breaker, true));
        breaker_end(bed->cluster, rows[i].breaker);
        for (uint32_t n = 0; n < rows[i].limit; n++) {
            breaker_end(bed->cluster, rows[i].breaker);
        }
        assert_true(breaker_begin(bed->cluster, rows[i].breaker, false));
        breaker_end_shared(bed->cluster->shared, rows[i].breaker);
    }
    bed_free(&bed);
}

static void retries_have_a_budget(void **state)
{
    (void)state;
    struct bed *bed = bed_new(1, LB_ROUND_ROBIN);
    struct breaker_limits *limits = &bed->config.limits[0];
    struct budget_state busy = {.active = 0};
    assert_int_equal(budget_limit(limits, &busy), 2);
    limits->has_budget = true;
    limits->budget_ppm = 200000;
    limits->budget_concurrency = 3;
    limits->requests = 100;
    assert_int_equal(budget_limit(limits, &busy), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(breaker_begin(bed->cluster, BREAKER_RETRIES, false));
    }
    assert_false(breaker_begin(bed->cluster, BREAKER_RETRIES, false));
    for (unsigned i = 0; i < 20; i++) {
        assert_true(breaker_begin(bed->cluster, BREAKER_REQUESTS, false));
    }
    assert_true(breaker_begin(bed->cluster, BREAKER_RETRIES, false)); /* 20 % of 20 */
    assert_false(breaker_begin(bed->cluster, BREAKER_RETRIES, false));
    busy = breaker_budget(bed->cluster);
    assert_int_equal(busy.active, 20);
    assert_int_equal(busy.retries, 4);
    assert_false(budget_allows(limits, &busy));
    bed_free(&bed);
}

/* Found by the simulator: 24 requests of which some waited allowed five retries. */
static void who_waits_counts_once_for_the_budget(void **state)
{
    (void)state;
    struct bed *bed = bed_new(1, LB_ROUND_ROBIN);
    struct breaker_limits *limits = &bed->config.limits[0];
    limits->has_budget = true;
    limits->budget_ppm = 200000;
    limits->budget_concurrency = 3;
    limits->requests = 100;
    limits->pending = 100;
    for (unsigned i = 0; i < 24; i++) {
        assert_true(breaker_begin(bed->cluster, BREAKER_REQUESTS, false));
        assert_true(i % 2 == 0 || breaker_begin(bed->cluster, BREAKER_PENDING, false));
    }
    struct budget_state busy = breaker_budget(bed->cluster);
    assert_int_equal(busy.active, 12);
    assert_int_equal(busy.pending, 12);
    assert_int_equal(budget_limit(limits, &busy), 4);
    bed_free(&bed);
}

static void names_are_there(void **state)
{
    (void)state;
    assert_string_equal(breaker_name(BREAKER_PENDING), "pending");
    assert_string_equal(outlier_cause_name(OUTLIER_CONSECUTIVE_GATEWAY), "CONSECUTIVE_GATEWAY");
    assert_string_equal(lb_kind_name(LB_LEAST_REQUEST), "least_request");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_is_even),
        cmocka_unit_test(round_robin_follows_weights),
        cmocka_unit_test(random_is_fair),
        cmocka_unit_test(least_request_sees_the_idle_one),
        cmocka_unit_test(least_request_avoids_the_busy_of_many),
        cmocka_unit_test(a_retry_avoids_what_was_tried),
        cmocka_unit_test(no_endpoint_is_no_host),
        cmocka_unit_test(panic_uses_all),
        cmocka_unit_test(leaving_peers_come_last),
        cmocka_unit_test(priority_load_as_envoy_documents_it),
        cmocka_unit_test(far_priority_only_when_near_is_short),
        cmocka_unit_test(a_later_retry_may_leave_its_priority),
        cmocka_unit_test(localities_by_their_weight),
        cmocka_unit_test(slow_start_grows),
        cmocka_unit_test(original_destinations_come_and_go),
        cmocka_unit_test(what_was_learnt_survives_an_update),
        cmocka_unit_test(an_unlisted_endpoint_drains),
        cmocka_unit_test(workers_share_what_they_learn),
        cmocka_unit_test(transport_by_labels),
        cmocka_unit_test(five_in_a_row_eject_at_once),
        cmocka_unit_test(failures_without_an_answer_count),
        cmocka_unit_test(gateway_and_local_have_their_own_counts),
        cmocka_unit_test(never_the_last_nor_more_than_allowed),
        cmocka_unit_test(the_last_available_counts_health),
        cmocka_unit_test(return_is_checked_at_the_interval),
        cmocka_unit_test(a_shorter_ejection_holds_at_once),
        cmocka_unit_test(ejection_time_is_capped),
        cmocka_unit_test(the_odd_one_by_success_rate),
        cmocka_unit_test(the_bad_one_by_failure_percentage),
        cmocka_unit_test(off_means_off),
        cmocka_unit_test(breakers_hold_their_limits),
        cmocka_unit_test(retries_have_a_budget),
        cmocka_unit_test(who_waits_counts_once_for_the_budget),
        cmocka_unit_test(names_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
