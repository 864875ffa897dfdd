/* What a worker knows of its destinations: asked once, answered, covered, forgotten. Time is
 * stepped; the admin thread's loop is played by a second one, where parcels come home to. */
#include "config_json.h"

#include "base/alloc.h"
#include "sidecar/config/destinations.h"
#include "sidecar/config/parcel.h"
#include "sidecar/route/weights.h"
#include "sidecar/upstream/shared.h"
#include "sidecar/worker.h"

#define SECOND    UINT64_C(1000000)
#define ORDER     "host/order:80"
#define ASKED_MAX 16

struct asked {
    char key[64];
    bool want;
};

struct bed {
    struct worker_settings settings;
    struct shared_registry *registry;
    struct loop *home;
    struct loop *loop;
    struct worker worker;
    struct destinations *table;
    struct asked asked[ASKED_MAX];
    unsigned asked_count;
    uint64_t now_us;
};

static void note_ask(void *asker, struct slice key, bool want)
{
    struct bed *bed = asker;
    assert_true(bed->asked_count < ASKED_MAX);
    struct asked *asked = &bed->asked[bed->asked_count++];
    assert_true(key.len < sizeof asked->key);
    memcpy(asked->key, key.at, key.len);
    asked->key[key.len] = '\0';
    asked->want = want;
}

static void pass(struct bed *bed, uint64_t us)
{
    uint64_t next_us;
    bed->now_us += us;
    (void)loop_step(bed->loop, bed->now_us, bed->now_us, &next_us);
    (void)loop_step(bed->home, bed->now_us, bed->now_us, &next_us);
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
    pass(bed, 0);
    struct destinations_options options = {.negative_us = 10 * SECOND,
                                           .idle_us = 900 * SECOND,
                                           .waiters_max = 2,
                                           .entries_max = 4,
                                           .ask = note_ask,
                                           .asker = bed};
    bed->table = destinations_new(&bed->worker, &options);
    bed->worker.destinations = bed->table;
    return bed;
}

static void bed_free(struct bed **bed)
{
    worker_fini(&(*bed)->worker);
    loop_drain((*bed)->home);
    loop_free(&(*bed)->loop);
    loop_free(&(*bed)->home);
    shared_registry_free(&(*bed)->registry);
    FREE(*bed);
}

static struct destination_entry *get(struct bed *bed, const char *key)
{
    return destinations_get(bed->table, slice_of_text(key), NULL);
}

static struct destination_entry *get_addr(struct bed *bed, const char *key, struct addr addr)
{
    return destinations_get(bed->table, slice_of_text(key), &addr);
}

/* An answer as the admin thread would send it. */
static void answer(struct bed *bed, const char *key, const char *text)
{
    struct compiled compiled = config_good(XDS_RESOURCE_DESTINATION, key, text);
    const struct destination *config = compiled.destination;
    struct published *published = published_new_take(bed->home, &compiled.owner);
    struct parcel *parcel = parcel_new(published);
    published_unref(&published);
    destinations_put(bed->table, config, parcel);
    parcel_unref(&parcel);
    pass(bed, 0);
}

#define SERVICE(cluster) "{" SERVICE_FIELDS(cluster)
#define SERVICE_FIELDS(cluster)                                                                    \
    "'outcome':'SERVICE','clusters':[{'name':'" cluster "','connect_timeout':'1s'}],"              \
    "'default_cluster':'" cluster "',"                                                             \
    "'route_config':{'virtual_hosts':[{'name':'all','domains':['*'],'routes':["                    \
    "{'match':{'prefix':'/'},'route':{'cluster':'" cluster "'}}]}]}}"

static bool has_cluster(struct bed *bed, const char *name)
{
    return directory_find(&bed->worker.clusters, slice_of_text(name)) != NULL;
}

struct waiting {
    struct task task;
    struct destination_waiter waiter;
    unsigned woken;
};

static void wake(struct task *task)
{
    CONTAINER_OF(task, struct waiting, task)->woken++;
}

static struct waiting waiting_new(void)
{
    return (struct waiting){.task.run = wake};
}

static void a_miss_asks_once_and_wakes_all_who_wait(void **state)
{
    struct bed *bed = bed_new();
    struct waiting one = waiting_new();
    struct waiting two = waiting_new();
    struct waiting three = waiting_new();
    one.waiter.task = &one.task;
    two.waiter.task = &two.task;
    three.waiter.task = &three.task;
    (void)state;
    struct destination_entry *entry = get(bed, ORDER);
    assert_ptr_equal(entry, get(bed, ORDER));
    assert_int_equal(entry->state, DESTINATION_ASKED);
    assert_int_equal(bed->asked_count, 1);
    assert_string_equal(bed->asked[0].key, ORDER);
    assert_true(destinations_wait(bed->table, entry, &one.waiter));
    assert_true(destinations_wait(bed->table, entry, &two.waiter));
    assert_false(destinations_wait(bed->table, entry, &three.waiter)); /* bounded */
    answer(bed, ORDER, SERVICE("order"));
    assert_int_equal(entry->state, DESTINATION_KNOWN);
    assert_int_equal(one.woken + two.woken, 2);
    assert_int_equal(bed->table->waiter_count, 0);
    assert_true(has_cluster(bed, "order"));
    assert_non_null(entry->http->binding.table);
    assert_non_null(entry->opaque);
    assert_int_equal(entry->http->refusal, FAIL_NONE);
    bed_free(&bed);
}

static void one_who_leaves_is_not_woken(void **state)
{
    struct bed *bed = bed_new();
    struct waiting one = waiting_new();
    one.waiter.task = &one.task;
    (void)state;
    assert_true(destinations_wait(bed->table, get(bed, ORDER), &one.waiter));
    destinations_leave(bed->table, &one.waiter);
    answer(bed, ORDER, SERVICE("order"));
    assert_int_equal(one.woken, 0);
    bed_free(&bed);
}

static void a_negative_answer_is_remembered_for_a_while(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    struct destination_entry *entry = get(bed, ORDER);
    destinations_put_unknown(bed->table, slice_of_text(ORDER));
    assert_int_equal(entry->state, DESTINATION_UNKNOWN);
    assert_int_equal(entry->http->refusal, FAIL_NO_CONFIG);
    assert_null(entry->opaque);
    pass(bed, 9 * SECOND);
    assert_ptr_equal(get(bed, ORDER), entry);
    assert_int_equal(bed->asked_count, 1);
    pass(bed, 2 * SECOND);
    assert_int_equal(bed->asked_count, 2);
    assert_false(bed->asked[1].want);
    assert_int_equal(get(bed, ORDER)->state, DESTINATION_ASKED);
    assert_true(bed->asked[2].want);
    bed_free(&bed);
}

static void what_is_refused_wakes_and_leaves_what_is_known(void **state)
{
    struct bed *bed = bed_new();
    struct waiting one = waiting_new();
    one.waiter.task = &one.task;
    (void)state;
    struct destination_entry *entry = get(bed, ORDER);
    assert_true(destinations_wait(bed->table, entry, &one.waiter));
    destinations_put_refused(bed->table, slice_of_text(ORDER));
    pass(bed, 0);
    assert_int_equal(one.woken, 1);
    assert_int_equal(entry->state, DESTINATION_REFUSED);
    answer(bed, ORDER, SERVICE("order"));
    destinations_put_refused(bed->table, slice_of_text(ORDER));
    assert_int_equal(entry->state, DESTINATION_KNOWN);
    assert_true(has_cluster(bed, "order"));
    bed_free(&bed);
}

static void the_narrowest_cover_answers(void **state)
{
    static const char wide[] = "ip//203.0.113.9:80";
    static const char narrow[] = "ip//203.0.113.130:80";
    struct bed *bed = bed_new();
    (void)state;
    (void)get_addr(bed, wide, addr_ipv4(203, 0, 113, 9, 80));
    answer(bed, wide,
           "{'outcome':'PASSTHROUGH','covers':[{'addr':'ywAAAA==','prefix_len':8,"
           "'port_lo':0,'port_hi':65535}]}"); /* 203.0.0.0/8 */
    struct destination_entry *entry = get_addr(bed, wide, addr_ipv4(203, 0, 113, 9, 80));
    assert_ptr_equal(get_addr(bed, narrow, addr_ipv4(203, 0, 113, 130, 80)), entry);
    assert_null(entry->http->binding.table);
    assert_non_null(entry->opaque);
    assert_int_equal(bed->asked_count, 1);
    assert_ptr_not_equal(get_addr(bed, "ip//204.0.0.1:80", addr_ipv4(204, 0, 0, 1, 80)), entry);
    assert_int_equal(bed->asked_count, 2);
    answer(bed, "ip//204.0.0.1:80",
           "{'outcome':'BLOCK','covers':[{'addr':'y2+AAA==','prefix_len':16,"
           "'port_lo':1,'port_hi':79}]}"); /* 203.111.0.0/16, other ports */
    assert_ptr_equal(get_addr(bed, "ip//203.111.0.1:80", addr_ipv4(203, 111, 0, 1, 80)), entry);
    struct destination_entry *blocked =
        get_addr(bed, "ip//203.111.0.1:79", addr_ipv4(203, 111, 0, 1, 79));
    assert_ptr_not_equal(blocked, entry);
    assert_int_equal(blocked->http->refusal, FAIL_BLOCKED);
    assert_null(blocked->opaque);
    bed_free(&bed);
}

static void what_idles_is_forgotten_what_is_used_is_not(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    struct destination_entry *entry = get(bed, ORDER);
    answer(bed, ORDER, SERVICE("order"));
    pass(bed, 800 * SECOND);
    (void)get(bed, ORDER);
    pass(bed, 200 * SECOND);
    assert_true(has_cluster(bed, "order"));
    struct service *kept = entry->http; /* a connection's */
    service_ref(kept);
    pass(bed, 2000 * SECOND);
    assert_true(has_cluster(bed, "order"));
    service_unref(&kept);
    pass(bed, 901 * SECOND);
    assert_false(has_cluster(bed, "order"));
    assert_int_equal(bed->asked_count, 2);
    assert_false(bed->asked[1].want);
    bed_free(&bed);
}

static void a_change_goes_to_the_next_request_and_no_other(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    struct destination_entry *entry = get(bed, ORDER);
    answer(bed, ORDER, SERVICE("one"));
    struct service *connection = entry->http;
    struct service *request = entry->http;
    service_ref(connection);
    service_ref(request);
    answer(bed, ORDER, SERVICE("two"));
    assert_false(has_cluster(bed, "one"));
    assert_true(has_cluster(bed, "two"));
    service_renew(&connection);
    assert_ptr_equal(connection, entry->http);
    assert_string_equal((const char *)request->binding.table->clusters[0].at, "one");
    destinations_put_unknown(bed->table, entry->key);
    service_renew(&connection);
    assert_int_equal(connection->refusal, FAIL_NO_CONFIG);
    service_unref(&connection);
    service_unref(&request);
    pass(bed, 0);
    bed_free(&bed);
}

static void a_cluster_of_two_answers_stays_until_both_are_gone(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)get(bed, ORDER);
    (void)get(bed, "host/other:80");
    answer(bed, ORDER, SERVICE("order"));
    answer(bed, "host/other:80", SERVICE("order"));
    destinations_put_unknown(bed->table, slice_of_text(ORDER));
    assert_true(has_cluster(bed, "order"));
    destinations_put_unknown(bed->table, SLICE("host/other:80"));
    assert_false(has_cluster(bed, "order"));
    bed_free(&bed);
}

static void there_is_a_limit_to_what_is_known(void **state)
{
    static const char *const keys[] = {"host/a:1", "host/b:1", "host/c:1", "host/d:1"};
    struct bed *bed = bed_new();
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_non_null(get(bed, keys[i]));
    }
    assert_null(get(bed, "host/e:1"));
    assert_non_null(get(bed, "host/a:1"));
    bed_free(&bed);
}

static void server_first_is_learnt_after_three_and_never_where_http_was(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    struct destination_entry *entry = get(bed, ORDER);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(destination_skips_hold(entry, SECOND));
        destination_note_silent(entry, SECOND);
    }
    assert_true(destination_skips_hold(entry, SECOND));
    assert_false(destination_skips_hold(entry, 3602 * SECOND));
    destination_note_http(entry);
    for (unsigned i = 0; i < 9; i++) {
        destination_note_silent(entry, SECOND);
    }
    assert_false(destination_skips_hold(entry, SECOND));
    bed_free(&bed);
}

/* ---- several services under one address ---- */

#define SHARED  "ip//10.0.0.5:80"
#define WAIT_US (5 * SECOND)

struct asking {
    struct arena arena;
    struct waiting waiting;
    struct service_choice *choice;
};

static struct asking *ask_for(struct bed *bed, const char *authority)
{
    static const struct addr original = {.ip = {10, 0, 0, 5}, .port = 80, .family = ADDR_IPV4};
    struct asking *asking = NEW(struct asking);
    struct service *shared = get(bed, SHARED)->http;
    arena_init(&asking->arena, NULL);
    asking->waiting = waiting_new();
    struct service_question question = {.arena = &asking->arena,
                                        .task = &asking->waiting.task,
                                        .authority = slice_of_text(authority),
                                        .original = &original};
    assert_non_null(shared->choose);
    asking->choice = shared->choose(shared, &question);
    return asking;
}

static void asking_free(struct asking **asking)
{
    arena_fini(&(*asking)->arena);
    FREE(*asking);
}

/* The name of the service that was chosen. */
static void expect_choice(struct bed *bed, const char *authority, const struct service *expected)
{
    struct asking *asking = ask_for(bed, authority);
    struct service *chosen = asking->choice->take(asking->choice);
    assert_ptr_equal(chosen, expected);
    service_unref(&chosen);
    asking_free(&asking);
}

static void an_authority_chooses_among_the_services_of_an_address(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)get(bed, SHARED);
    answer(bed, SHARED, "{'by_authority':true,'outcome':'SERVICE'}");
    struct asking *asking = ask_for(bed, "Order:80");
    assert_null(asking->choice->take(asking->choice));
    assert_int_equal(bed->asked_count, 2);
    assert_string_equal(bed->asked[1].key, ORDER);
    answer(bed, ORDER, SERVICE("order"));
    assert_int_equal(asking->waiting.woken, 1);
    struct service *chosen = asking->choice->take(asking->choice);
    assert_ptr_equal(chosen, get(bed, ORDER)->http);
    service_unref(&chosen);
    asking_free(&asking);
    expect_choice(bed, "order", get(bed, ORDER)->http); /* the port of the original destination */
    bed_free(&bed);
}

static void what_an_authority_does_not_name_has_no_service_but_the_address_own(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)get(bed, SHARED);
    (void)get(bed, ORDER);
    destinations_put_unknown(bed->table, slice_of_text(ORDER));
    answer(bed, SHARED, "{'by_authority':true,'outcome':'SERVICE'}");
    expect_choice(bed, "order", get(bed, ORDER)->http); /* which refuses */
    expect_choice(bed, "no host", bed->table->refusing);
    expect_choice(bed, "order:port", bed->table->refusing);
    answer(bed, SHARED, "{'by_authority':true," SERVICE_FIELDS("first"));
    expect_choice(bed, "order", get(bed, SHARED)->http);
    expect_choice(bed, "no host", get(bed, SHARED)->http);
    bed_free(&bed);
}

static void a_request_waits_for_its_authority_no_longer_than_others(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)get(bed, SHARED);
    answer(bed, SHARED, "{'by_authority':true,'outcome':'SERVICE'}");
    struct asking *asking = ask_for(bed, "order");
    struct asking *gone = ask_for(bed, "order");
    assert_null(asking->choice->take(asking->choice));
    assert_null(gone->choice->take(gone->choice));
    gone->choice->leave(gone->choice);
    asking_free(&gone);
    pass(bed, WAIT_US + SECOND);
    assert_int_equal(asking->waiting.woken, 1);
    struct service *chosen = asking->choice->take(asking->choice);
    assert_ptr_equal(chosen, bed->table->refusing);
    service_unref(&chosen);
    asking_free(&asking);
    assert_int_equal(bed->table->waiter_count, 0);
    bed_free(&bed);
}

/* ---- bytes ---- */

#define CLUSTER(name) "{'name':'" name "','connect_timeout':'1s'}"
#define WEIGHTED(one, two)                                                                         \
    "{'tcp_proxy':{'stat_prefix':'x','weighted_clusters':{'clusters':["                            \
    "{'name':'one','weight':" one "},{'name':'two','weight':" two "}]}}}"
#define NAMED(host, cluster)                                                                       \
    "{'sni_hosts':['" host "'],'tcp_proxy':{'stat_prefix':'x','cluster':'" cluster "'}}"
#define BYTES(routes)                                                                              \
    "{'outcome':'SERVICE','clusters':[" CLUSTER("one") "," CLUSTER(                                \
        "two") "],"                                                                                \
               "'default_cluster':'one','tcp_routes':[" routes "]}"

static void routes_of_bytes_are_drawn_by_connection_and_keep_their_credits(void **state)
{
    struct bed *bed = bed_new();
    unsigned drawn[2] = {0};
    (void)state;
    (void)get(bed, ORDER);
    answer(bed, ORDER, BYTES(WEIGHTED("3", "1")));
    for (unsigned i = 0; i < 40; i++) {
        struct service *opaque = get(bed, ORDER)->opaque;
        assert_int_equal(opaque->tcp->target_count, 2);
        drawn[weights_pick(opaque->weights)]++;
        if (i == 17) {
            answer(bed, ORDER, BYTES(WEIGHTED("3", "1")));
        }
    }
    assert_in_range(drawn[0], 29, 31);
    answer(bed, ORDER, BYTES(""));
    assert_null(get(bed, ORDER)->opaque->weights);
    bed_free(&bed);
}

static const char *sni_cluster(struct bed *bed, const char *sni)
{
    static char text[32];
    const struct service *found = destination_find_sni(get(bed, ORDER), slice_of_text(sni));
    (void)snprintf(text, sizeof text, "%.*s",
                   found != NULL ? (int)found->tcp->targets[0].cluster.len : 0,
                   found != NULL ? (const char *)found->tcp->targets[0].cluster.at : "");
    return text;
}

static void names_of_tls_choose_the_first_route_that_has_them(void **state)
{
    struct bed *bed = bed_new();
    (void)state;
    (void)get(bed, ORDER);
    answer(bed, ORDER,
           BYTES(NAMED("A.test", "one") "," NAMED("*.test", "two") "," WEIGHTED("1", "1")));
    assert_true(destination_asks_sni(get(bed, ORDER)));
    assert_string_equal(sni_cluster(bed, "a.TEST"), "one");
    assert_string_equal(sni_cluster(bed, "b.test"), "two");
    assert_string_equal(sni_cluster(bed, "c.b.test"), "two");
    assert_string_equal(sni_cluster(bed, "test"), "");
    assert_string_equal(sni_cluster(bed, ".test"), "");
    assert_string_equal(sni_cluster(bed, ""), "");
    answer(bed, ORDER, BYTES(NAMED("*", "two")));
    assert_string_equal(sni_cluster(bed, "x"), "two");
    assert_string_equal(sni_cluster(bed, ""), "");
    answer(bed, ORDER, BYTES(WEIGHTED("1", "1")));
    assert_false(destination_asks_sni(get(bed, ORDER)));
    bed_free(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_miss_asks_once_and_wakes_all_who_wait),
        cmocka_unit_test(one_who_leaves_is_not_woken),
        cmocka_unit_test(a_negative_answer_is_remembered_for_a_while),
        cmocka_unit_test(what_is_refused_wakes_and_leaves_what_is_known),
        cmocka_unit_test(the_narrowest_cover_answers),
        cmocka_unit_test(what_idles_is_forgotten_what_is_used_is_not),
        cmocka_unit_test(a_change_goes_to_the_next_request_and_no_other),
        cmocka_unit_test(a_cluster_of_two_answers_stays_until_both_are_gone),
        cmocka_unit_test(there_is_a_limit_to_what_is_known),
        cmocka_unit_test(server_first_is_learnt_after_three_and_never_where_http_was),
        cmocka_unit_test(an_authority_chooses_among_the_services_of_an_address),
        cmocka_unit_test(what_an_authority_does_not_name_has_no_service_but_the_address_own),
        cmocka_unit_test(a_request_waits_for_its_authority_no_longer_than_others),
        cmocka_unit_test(routes_of_bytes_are_drawn_by_connection_and_keep_their_credits),
        cmocka_unit_test(names_of_tls_choose_the_first_route_that_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
