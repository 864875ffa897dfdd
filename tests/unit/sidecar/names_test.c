/* Names as endpoints: what answers come to (rules), and what workers get of them. The resolver is
 * played by the test; time is stepped. */
#include "config_json.h"

#include "base/alloc.h"
#include "sidecar/config/control_place.h"
#include "sidecar/config/names.h"
#include "sidecar/config/parcel.h"
#include "sidecar/upstream/lb.h"
#include "sidecar/upstream/name_rules.h"
#include "sidecar/upstream/shared.h"
#include "sidecar/worker.h"

#define SECOND UINT64_C(1000000)

/* ---- rules ---- */

static struct addr v4(uint8_t last)
{
    return addr_ipv4(10, 0, 0, last, 0);
}

static struct addr v6(uint8_t last)
{
    struct addr addr = {.family = ADDR_IPV6};
    addr.ip[0] = 0xfd;
    addr.ip[15] = last;
    return addr;
}

static const struct name_rules strict = {.family = DNS_ALL, .refresh_us = 5 * SECOND};

static bool found(struct name_state *state, const struct name_rules *rules, struct addr *addrs,
                  uint32_t count, uint32_t ttl_s)
{
    struct resolve_answer answer = {
        .outcome = RESOLVE_FOUND, .addrs = addrs, .count = count, .ttl_s = ttl_s};
    return name_state_take(state, rules, &answer, SECOND, 0);
}

static bool without(struct name_state *state, const struct name_rules *rules,
                    enum resolve_outcome outcome)
{
    struct resolve_answer answer = {.outcome = outcome, .why = "test"};
    return name_state_take(state, rules, &answer, SECOND, 0);
}

static void the_same_addresses_in_another_order_are_no_change(void **state)
{
    struct name_state name = {.addrs = NULL};
    struct addr first[] = {v4(1), v4(2)};
    struct addr turned[] = {v4(2), v4(1), v4(1)};
    struct addr other[] = {v4(2), v4(3)};
    (void)state;
    assert_true(found(&name, &strict, first, 2, 0));
    assert_false(found(&name, &strict, turned, 3, 0));
    assert_true(found(&name, &strict, other, 2, 0));
    assert_int_equal(name.count, 2);
    name_state_fini(&name);
}

static void a_failure_keeps_what_was_known_and_waits_longer_each_time(void **state)
{
    struct name_state name = {.addrs = NULL};
    struct addr addrs[] = {v4(1)};
    (void)state;
    assert_true(found(&name, &strict, addrs, 1, 0));
    assert_int_equal(name.ask_at_us, 6 * SECOND);
    const uint64_t pauses_s[] = {5, 10, 20, 40, 60, 60};
    for (size_t i = 0; i < COUNT_OF(pauses_s); i++) {
        assert_false(without(&name, &strict, RESOLVE_FAILED));
        assert_int_equal(name.count, 1);
        assert_int_equal(name.ask_at_us, (1 + pauses_s[i]) * SECOND);
    }
    for (int i = 0; i < 100; i++) {
        assert_false(without(&name, &strict, RESOLVE_FAILED));
    }
    assert_int_equal(name.ask_at_us, 61 * SECOND);
    assert_false(found(&name, &strict, addrs, 1, 0));
    assert_int_equal(name.ask_at_us, 6 * SECOND);
    name_state_fini(&name);
}

static void that_there_is_none_ends_strict_addresses_and_no_logical_one(void **state)
{
    struct name_rules logical = strict;
    struct name_state one = {.addrs = NULL};
    struct name_state other = {.addrs = NULL};
    struct addr addrs[] = {v4(1)};
    (void)state;
    logical.logical = true;
    assert_true(found(&one, &strict, addrs, 1, 0));
    assert_true(found(&other, &logical, addrs, 1, 0));
    assert_true(without(&one, &strict, RESOLVE_NONE));
    assert_int_equal(one.count, 0);
    assert_false(without(&other, &logical, RESOLVE_NONE));
    assert_int_equal(other.count, 1);
    name_state_fini(&one);
    name_state_fini(&other);
}

static void a_first_answer_without_addresses_is_news_and_a_first_failure_is_not(void **state)
{
    struct name_state name = {.addrs = NULL};
    (void)state;
    assert_false(without(&name, &strict, RESOLVE_FAILED));
    assert_false(name.known);
    assert_true(without(&name, &strict, RESOLVE_NONE));
    assert_true(name.known);
    assert_false(without(&name, &strict, RESOLVE_NONE));
    name_state_fini(&name);
}

static void families_are_chosen_as_the_cluster_says(void **state)
{
    static const struct {
        enum dns_family family;
        enum resolve_families asked;
        uint32_t v4_of_both, v6_of_both, v4_alone;
    } rows[] = {
        {DNS_AUTO, RESOLVE_BOTH, 0, 2, 1},
        {DNS_V4, RESOLVE_V4, 1, 0, 1},
        {DNS_V6, RESOLVE_V6, 0, 2, 0},
        {DNS_ALL, RESOLVE_BOTH, 1, 2, 1},
        {DNS_V4_PREFERRED, RESOLVE_BOTH, 1, 0, 1},
    };
    struct addr both[] = {v4(1), v6(1), v6(2)};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct name_rules rules = {.family = rows[i].family, .refresh_us = SECOND};
        struct name_state name = {.addrs = NULL};
        assert_int_equal(name_rules_families(&rules), rows[i].asked);
        (void)found(&name, &rules, both, 3, 0);
        uint32_t fourth = 0;
        for (uint32_t a = 0; a < name.count; a++) {
            fourth += name.addrs[a].family == ADDR_IPV4;
        }
        assert_int_equal(fourth, rows[i].v4_of_both);
        assert_int_equal(name.count - fourth, rows[i].v6_of_both);
        (void)found(&name, &rules, both, 1, 0);
        assert_int_equal(name.count, rows[i].v4_alone);
        name_state_fini(&name);
    }
}

static void a_logical_name_is_one_address_that_stays_while_it_is_there(void **state)
{
    struct name_rules logical = strict;
    struct name_state name = {.addrs = NULL};
    struct addr first[] = {v4(1), v4(2)};
    struct addr turned[] = {v4(2), v4(1)};
    struct addr gone[] = {v4(2), v4(3)};
    (void)state;
    logical.logical = true;
    assert_true(found(&name, &logical, first, 2, 0));
    assert_int_equal(name.count, 1);
    assert_false(found(&name, &logical, turned, 2, 0));
    assert_true(addr_eq(&name.addrs[0], &first[0]));
    assert_true(found(&name, &logical, gone, 2, 0));
    assert_true(addr_eq(&name.addrs[0], &gone[0]));
    name_state_fini(&name);
}

static void the_time_to_live_counts_where_the_cluster_respects_it(void **state)
{
    struct name_rules rules = {
        .family = DNS_ALL, .refresh_us = 5 * SECOND, .respect_ttl = true, .jitter_us = SECOND};
    struct name_state name = {.addrs = NULL};
    struct addr addrs[] = {v4(1)};
    struct resolve_answer answer = {
        .outcome = RESOLVE_FOUND, .addrs = addrs, .count = 1, .ttl_s = 30};
    (void)state;
    (void)name_state_take(&name, &rules, &answer, SECOND, SECOND / 2);
    assert_int_equal(name.ask_at_us, 31 * SECOND + SECOND / 2);
    answer.ttl_s = 0; /* the hosts file has none */
    (void)name_state_take(&name, &rules, &answer, SECOND, 0);
    assert_int_equal(name.ask_at_us, 6 * SECOND);
    name_state_fini(&name);
}

/* ---- clusters ---- */

#define QUERIES_MAX 8

struct bed {
    struct worker_settings settings;
    struct shared_registry *registry;
    struct loop *home;
    struct loop *loop;
    struct worker worker;
    struct worker *workers[1];
    struct names *names;
    struct resolve_query *queries[QUERIES_MAX];
    char asked[QUERIES_MAX][32];
    unsigned query_count;
    uint64_t now_us;
};

static void note_ask(void *asker, struct resolve_query *query, const char *name,
                     enum resolve_families families)
{
    struct bed *bed = asker;
    (void)families;
    assert_true(bed->query_count < QUERIES_MAX);
    resolve_query_fini(query);
    query->state = RESOLVE_ASKED;
    (void)snprintf(bed->asked[bed->query_count], sizeof bed->asked[0], "%s", name);
    bed->queries[bed->query_count++] = query;
}

static void pass(struct bed *bed, uint64_t us)
{
    uint64_t next_us;
    bed->now_us += us;
    for (int i = 0; i < 3; i++) {
        (void)loop_step(bed->home, bed->now_us, bed->now_us, &next_us);
        (void)loop_step(bed->loop, bed->now_us, bed->now_us, &next_us);
    }
}

static void reply(struct bed *bed, unsigned number, enum resolve_outcome outcome, uint8_t last)
{
    struct resolve_query *query = bed->queries[number];
    query->answer = (struct resolve_answer){.outcome = outcome, .why = "test"};
    if (outcome == RESOLVE_FOUND) {
        query->answer.addrs = NEW(struct addr);
        query->answer.addrs[0] = v4(last);
        query->answer.count = 1;
    }
    query->state = RESOLVE_ANSWERED;
    loop_post(bed->home, query->task);
    pass(bed, 0);
}

static struct bed *bed_new(void)
{
    struct bed *bed = NEW(struct bed);
    bed->now_us = SECOND;
    bed->registry = shared_registry_new();
    bed->home = loop_new_stepped(net_sockets(), NULL);
    bed->loop = loop_new_stepped(net_sockets(), NULL);
    worker_settings_init(&bed->settings);
    worker_init(&bed->worker, 0, bed->loop, bed->registry, &bed->settings, 7);
    bed->workers[0] = &bed->worker;
    struct names_options options = {.loop = bed->home,
                                    .workers = bed->workers,
                                    .worker_count = 1,
                                    .seed = 7,
                                    .ask = note_ask,
                                    .asker = bed};
    bed->names = names_new(&options);
    pass(bed, 0);
    return bed;
}

static void bed_free(struct bed **bed)
{
    worker_fini(&(*bed)->worker);
    names_free(&(*bed)->names);
    loop_drain((*bed)->home);
    loop_free(&(*bed)->loop);
    loop_free(&(*bed)->home);
    shared_registry_free(&(*bed)->registry);
    FREE(*bed);
}

#define PLACE(host)                                                                                \
    "{'endpoint':{'address':{'socket_address':{'address':'" host "','port_value':80}}}}"
#define NAMED(type, places)                                                                        \
    "{'name':'c','type':'" type "','connect_timeout':'1s','load_assignment':{'cluster_name':'c',"  \
    "'endpoints':[{'lb_endpoints':[" places "]}]}}"

/* As CDS brings it: to the names, and to the worker. */
static struct published *bring(struct bed *bed, const char *text)
{
    struct compiled compiled = config_good(XDS_RESOURCE_CLUSTER, "c", text);
    const struct cluster_config *config = compiled.cluster;
    struct published *published = published_new_take(bed->home, &compiled.owner);
    struct parcel *parcel = parcel_new(published);
    directory_put(&bed->worker.clusters, config, parcel, bed->now_us, 0);
    parcel_unref(&parcel);
    names_put(bed->names, config, published);
    published_unref(&published);
    pass(bed, 0);
    return published;
}

static struct cluster *cluster_of(struct bed *bed)
{
    struct cluster *cluster = directory_find(&bed->worker.clusters, SLICE("c"));
    assert_non_null(cluster);
    return cluster;
}

static enum fail pick(struct bed *bed)
{
    struct lb_query query = {.now_us = bed->now_us};
    struct lb_choice choice = lb_pick(cluster_of(bed), &query);
    return choice.endpoint != NULL ? FAIL_NONE : choice.fail;
}

static void a_cluster_of_names_has_nobody_until_one_resolves(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)bring(bed, NAMED("STRICT_DNS", PLACE("one.test") "," PLACE("two.test")));
    assert_int_equal(bed->query_count, 2);
    assert_string_equal(bed->asked[0], "one.test");
    assert_int_equal(pick(bed), FAIL_DNS);
    reply(bed, 0, RESOLVE_FAILED, 0);
    assert_int_equal(pick(bed), FAIL_DNS);
    reply(bed, 1, RESOLVE_FOUND, 9);
    assert_int_equal(pick(bed), FAIL_NONE);
    struct addr expected = addr_ipv4(10, 0, 0, 9, 80);
    assert_true(addr_eq(&cluster_of(bed)->endpoints[0]->config.addr, &expected));
    pass(bed, 5 * SECOND);
    assert_int_equal(bed->query_count, 4);
    reply(bed, 2, RESOLVE_FOUND, 8);
    assert_int_equal(cluster_of(bed)->endpoint_count, 2);
    bed_free(&bed);
}

static void an_address_needs_no_answer_and_a_change_keeps_what_is_known(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)bring(bed, NAMED("STRICT_DNS", PLACE("10.0.0.1") "," PLACE("one.test")));
    assert_int_equal(cluster_of(bed)->endpoint_count, 1);
    reply(bed, 0, RESOLVE_FOUND, 2);
    assert_int_equal(cluster_of(bed)->endpoint_count, 2);
    (void)bring(bed, NAMED("STRICT_DNS", PLACE("one.test") "," PLACE("two.test")));
    assert_int_equal(cluster_of(bed)->endpoint_count, 1);
    assert_int_equal(bed->query_count, 2);
    assert_string_equal(bed->asked[1], "two.test");
    bed_free(&bed);
}

static void a_cluster_that_is_no_longer_of_names_is_asked_for_no_more(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)bring(bed, NAMED("LOGICAL_DNS", PLACE("one.test")));
    reply(bed, 0, RESOLVE_FOUND, 2);
    (void)bring(bed, NAMED("STATIC", PLACE("10.0.0.7")));
    pass(bed, 60 * SECOND);
    assert_int_equal(bed->query_count, 1);
    assert_int_equal(cluster_of(bed)->endpoint_count, 1);
    bed_free(&bed);
}

static void answers_that_share_a_cluster_keep_it_together(void **state)
{
    struct bed *bed = bed_new();
    static const char text[] = "{'outcome':'EXTERNAL','default_cluster':'c','clusters':[" NAMED(
        "STRICT_DNS", PLACE("one.test")) "]}";
    (void)state;
    struct compiled one = config_good(XDS_RESOURCE_DESTINATION, "host/a:80", text);
    struct compiled two = config_good(XDS_RESOURCE_DESTINATION, "host/b:80", text);
    const struct destination *first = one.destination;
    const struct destination *second = two.destination;
    struct published *first_kept = published_new_take(bed->home, &one.owner);
    struct published *second_kept = published_new_take(bed->home, &two.owner);
    names_hold(bed->names, first, first_kept);
    pass(bed, 0);
    reply(bed, 0, RESOLVE_FOUND, 3);
    names_hold(bed->names, second, second_kept);
    names_release(bed->names, second);
    published_unref(&second_kept);
    /* A worker that is new to it is told what is known. */
    directory_put(&bed->worker.clusters, first->default_cluster, NULL, bed->now_us, 0);
    names_send(bed->names, &bed->worker, first);
    pass(bed, 0);
    assert_int_equal(cluster_of(bed)->endpoint_count, 1);
    names_release(bed->names, first);
    pass(bed, 60 * SECOND);
    assert_int_equal(bed->query_count, 1);
    directory_remove(&bed->worker.clusters, SLICE("c"));
    published_unref(&first_kept);
    bed_free(&bed);
}

/* ---- the control plane's place ---- */

struct waiter {
    struct task task;
    unsigned woken;
};

static void wake(struct task *task)
{
    CONTAINER_OF(task, struct waiter, task)->woken++;
}

static struct control_place *place_new(struct bed *bed, const char *text)
{
    struct control_place_options options = {.loop = bed->home, .ask = note_ask, .asker = bed};
    struct error err = {.text = ""};
    return control_place_new(&options, text, &err);
}

static void the_control_planes_addresses_are_tried_in_turn(void **state)
{
    struct bed *bed = bed_new();
    struct waiter waiter = {.task.run = wake};
    struct error err = {.text = ""};
    struct addr addr;
    (void)state;
    struct control_place *place = place_new(bed, "control.test:15012");
    control_place_await(place, &waiter.task);
    assert_false(control_place_next(place, &addr, &err));
    reply(bed, 0, RESOLVE_FAILED, 0);
    assert_int_equal(waiter.woken, 0);
    pass(bed, 6 * SECOND);
    assert_int_equal(bed->query_count, 2);
    struct resolve_query *query = bed->queries[1];
    query->answer = (struct resolve_answer){
        .outcome = RESOLVE_FOUND, .addrs = NEW_ARRAY(struct addr, 2), .count = 2};
    query->answer.addrs[0] = v6(1);
    query->answer.addrs[1] = v4(1);
    query->state = RESOLVE_ANSWERED;
    loop_post(bed->home, query->task);
    pass(bed, 0);
    assert_int_equal(waiter.woken, 1);
    assert_true(control_place_next(place, &addr, &err));
    assert_int_equal(addr.family, ADDR_IPV6);
    assert_int_equal(addr.port, 15012);
    control_place_failed(place);
    assert_true(control_place_next(place, &addr, &err));
    assert_int_equal(addr.family, ADDR_IPV4);
    control_place_failed(place); /* none of them: asked again, and the first is tried meanwhile */
    assert_true(control_place_next(place, &addr, &err));
    assert_int_equal(addr.family, ADDR_IPV6);
    assert_int_equal(bed->query_count, 3);
    reply(bed, 2, RESOLVE_NONE, 0);
    assert_true(control_place_next(place, &addr, &err));
    control_place_free(&place);
    bed_free(&bed);
}

static void an_address_is_not_asked_for_and_nonsense_is_refused(void **state)
{
    static const char *const bad[] = {"control", "control:", ":1", "a:b:1", "control:99999", "x:0"};
    struct bed *bed = bed_new();
    struct error err = {.text = ""};
    struct addr addr;
    (void)state;
    struct control_place *place = place_new(bed, "[::1]:15012");
    assert_true(control_place_next(place, &addr, &err));
    assert_int_equal(addr.family, ADDR_IPV6);
    control_place_free(&place);
    assert_int_equal(bed->query_count, 0);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_null(place_new(bed, bad[i]));
    }
    bed_free(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_addresses_in_another_order_are_no_change),
        cmocka_unit_test(a_failure_keeps_what_was_known_and_waits_longer_each_time),
        cmocka_unit_test(that_there_is_none_ends_strict_addresses_and_no_logical_one),
        cmocka_unit_test(a_first_answer_without_addresses_is_news_and_a_first_failure_is_not),
        cmocka_unit_test(families_are_chosen_as_the_cluster_says),
        cmocka_unit_test(a_logical_name_is_one_address_that_stays_while_it_is_there),
        cmocka_unit_test(the_time_to_live_counts_where_the_cluster_respects_it),
        cmocka_unit_test(a_cluster_of_names_has_nobody_until_one_resolves),
        cmocka_unit_test(an_address_needs_no_answer_and_a_change_keeps_what_is_known),
        cmocka_unit_test(a_cluster_that_is_no_longer_of_names_is_asked_for_no_more),
        cmocka_unit_test(answers_that_share_a_cluster_keep_it_together),
        cmocka_unit_test(the_control_planes_addresses_are_tried_in_turn),
        cmocka_unit_test(an_address_is_not_asked_for_and_nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
