#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "envoy/config/core/v3/core.pb-c.h"

#include "tests/unit/xds/ads_trace.h"
#include "xds/ads_server.h"

#include <cmocka.h>

/* A source of resources that a test fills by hand. */
struct world {
    struct resources of[XDS_RESOURCE_COUNT];
    const char *refuse; /* what admit says; null: welcome */
};

struct fixture {
    struct world world;
    struct ads_source source;
    struct ads_stream *stream;
    struct trace trace;
    uint64_t now_ms;
};

static struct fixture fixture;

static bool admit(void *owner, void *viewer, const Envoy__Config__Core__V3__Node *node,
                  struct error *err)
{
    (void)viewer;
    const struct world *world = owner;
    return world->refuse == NULL || error_set(err, "%s: %s", node->id, world->refuse);
}

static struct resource *get(void *owner, void *viewer, enum xds_resource type, struct slice name)
{
    (void)viewer;
    struct world *world = owner;
    return resources_get(&world->of[type], name);
}

static void each(void *owner, void *viewer, enum xds_resource type,
                 void (*show)(void *to, struct resource *resource), void *to)
{
    (void)viewer;
    struct world *world = owner;
    MAP_EACH(&world->of[type].by_name, entry)
    {
        show(to, entry->value);
    }
}

static void open_stream(enum ads_protocol protocol, enum xds_resource only)
{
    ads_stream_free(&fixture.stream);
    struct ads_stream_options options = {
        .source = &fixture.source, .protocol = protocol, .only = only, .seed = 3};
    fixture.stream = ads_stream_new(&options);
}

static int begin(void **state)
{
    (void)state;
    memset(&fixture, 0, sizeof fixture);
    arena_init(&fixture.trace.arena, NULL);
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        resources_init(&fixture.world.of[i], 5);
    }
    fixture.source =
        (struct ads_source){.owner = &fixture.world, .admit = admit, .get = get, .each = each};
    open_stream(ADS_DELTA, XDS_RESOURCE_COUNT);
    return 0;
}

static int end(void **state)
{
    (void)state;
    ads_stream_free(&fixture.stream);
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        resources_fini(&fixture.world.of[i]);
    }
    arena_fini(&fixture.trace.arena);
    return 0;
}

static void put_of(enum xds_resource type, const char *name, const char *body, const char *alias,
                   uint64_t generation)
{
    struct slice aliases[] = {slice_of_text(alias)};
    struct resource *resource = resource_new(slice_of_text(name), slice_of_text(body), aliases,
                                             alias != NULL ? 1 : 0, generation);
    (void)resources_put_take(&fixture.world.of[type], &resource);
    ads_stream_changed(fixture.stream, type);
}

static void put(enum xds_resource type, const char *name, const char *body)
{
    put_of(type, name, body, NULL, 1);
}

static void take_away(enum xds_resource type, const char *name)
{
    assert_true(resources_remove(&fixture.world.of[type], slice_of_text(name)));
    ads_stream_changed(fixture.stream, type);
}

static void receive(const char *text)
{
    struct error err = {.text = ""};
    bool good =
        ads_stream_receive(fixture.stream, trace_make_delta_request(&fixture.trace, text), &err);
    assert_string_equal(err.text, "");
    assert_true(good);
}

static void receive_world(const char *text)
{
    struct error err = {.text = ""};
    bool good =
        ads_stream_receive(fixture.stream, trace_make_world_request(&fixture.trace, text), &err);
    assert_string_equal(err.text, "");
    assert_true(good);
}

static const char *next_response(const char *(*show)(struct trace *, struct slice))
{
    struct slice bytes;
    return ads_stream_response(fixture.stream, fixture.now_ms, &fixture.trace.arena, &bytes)
               ? show(&fixture.trace, bytes)
               : "nothing";
}

#define SENDS(text)       assert_string_equal(next_response(trace_delta_response), (text))
#define SENDS_WORLD(text) assert_string_equal(next_response(trace_world_response), (text))

/* ---- Delta ---- */

static void names_get_what_there_is_and_the_rest_is_removed(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    receive("EDS node=n +a +b");
    SENDS("EDS a:1 -b nonce=1");
    SENDS("nothing");
    receive("EDS nonce=1");
    SENDS("nothing");
}

static void a_name_that_was_not_there_is_remembered(void **state)
{
    (void)state;
    receive("EDS node=n +b");
    SENDS("EDS -b nonce=1");
    receive("EDS nonce=1");
    put(XDS_RESOURCE_ENDPOINTS, "b", "1");
    SENDS("EDS b:1 nonce=2");
    receive("EDS nonce=2");
    take_away(XDS_RESOURCE_ENDPOINTS, "b");
    SENDS("EDS -b nonce=3");
    receive("EDS nonce=3");
    ads_stream_changed(fixture.stream, XDS_RESOURCE_ENDPOINTS);
    SENDS("nothing");
}

static void a_wildcard_brings_all_and_follows_it(void **state)
{
    (void)state;
    put(XDS_RESOURCE_CLUSTER, "a", "1");
    put(XDS_RESOURCE_CLUSTER, "b", "1");
    receive("CDS node=n +*");
    SENDS("CDS a:1 b:1 nonce=1");
    receive("CDS nonce=1");
    put(XDS_RESOURCE_CLUSTER, "c", "1");
    take_away(XDS_RESOURCE_CLUSTER, "a");
    SENDS("CDS c:1 -a nonce=2");
    receive("CDS nonce=2");
    SENDS("nothing");
}

static void an_empty_first_request_is_a_wildcard_for_lds_and_cds_only(void **state)
{
    (void)state;
    put(XDS_RESOURCE_LISTENER, "l", "1");
    put(XDS_RESOURCE_ENDPOINTS, "e", "1");
    receive("LDS node=n");
    receive("EDS");
    SENDS("LDS l:1 nonce=1");
    SENDS("nothing");
}

static void an_empty_wildcard_is_answered_once(void **state)
{
    (void)state;
    receive("CDS node=n +*");
    SENDS("CDS nonce=1");
    receive("CDS nonce=1");
    SENDS("nothing");
}

static void subscribing_to_nothing_opens_the_type(void **state)
{
    (void)state;
    put(XDS_RESOURCE_DESTINATION, "a", "1");
    receive("destinations node=n +* -*");
    ads_stream_free(&fixture.stream);
    open_stream(ADS_DELTA, XDS_RESOURCE_COUNT);
    receive("destinations node=n +* -* +a");
    SENDS("destinations a:1 nonce=1");
    receive("destinations nonce=1");
    put(XDS_RESOURCE_DESTINATION, "b", "1");
    SENDS("nothing");
}

static void only_one_response_of_a_type_is_out_and_changes_gather(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    put(XDS_RESOURCE_ROUTES, "r", "1");
    receive("EDS node=n +a +b");
    receive("RDS +r");
    SENDS("EDS a:1 -b nonce=1");
    put(XDS_RESOURCE_ENDPOINTS, "a", "2");
    put(XDS_RESOURCE_ENDPOINTS, "b", "1");
    SENDS("RDS r:1 nonce=2");
    SENDS("nothing");
    put(XDS_RESOURCE_ENDPOINTS, "a", "3");
    receive("EDS nonce=1");
    SENDS("EDS a:3 b:1 nonce=3");
    SENDS("nothing");
}

static void types_go_in_order_and_clusters_leave_last(void **state)
{
    (void)state;
    static const enum xds_resource types[] = {XDS_RESOURCE_ROUTES, XDS_RESOURCE_LISTENER,
                                              XDS_RESOURCE_ENDPOINTS, XDS_RESOURCE_CLUSTER};
    receive("RDS node=n +x");
    receive("LDS +x");
    receive("EDS +x");
    receive("CDS +x");
    for (unsigned i = 0; i < COUNT_OF(types); i++) {
        put(types[i], "x", "1");
    }
    SENDS("CDS x:1 nonce=1");
    SENDS("EDS x:1 nonce=2");
    SENDS("LDS x:1 nonce=3");
    SENDS("RDS x:1 nonce=4");
    receive("CDS nonce=1");
    receive("EDS nonce=2");
    receive("LDS nonce=3");
    receive("RDS nonce=4");
    SENDS("nothing");

    take_away(XDS_RESOURCE_CLUSTER, "x");
    put(XDS_RESOURCE_ROUTES, "x", "2");
    SENDS("RDS x:2 nonce=5");
    SENDS("nothing");
    receive("RDS nonce=5");
    SENDS("CDS -x nonce=6");
}

static void removals_do_not_wait_for_types_that_nobody_asked_for(void **state)
{
    (void)state;
    put(XDS_RESOURCE_CLUSTER, "x", "1");
    receive("CDS node=n +*");
    SENDS("CDS x:1 nonce=1");
    receive("CDS nonce=1");
    put(XDS_RESOURCE_ROUTES, "x", "1");
    take_away(XDS_RESOURCE_CLUSTER, "x");
    SENDS("CDS -x nonce=2");
}

static void a_cluster_that_is_sent_again_brings_its_endpoints_again(void **state)
{
    (void)state;
    put(XDS_RESOURCE_CLUSTER, "c", "1");
    put(XDS_RESOURCE_ENDPOINTS, "c", "1");
    receive("CDS node=n +*");
    receive("EDS +c");
    SENDS("CDS c:1 nonce=1");
    SENDS("EDS c:1 nonce=2");
    receive("CDS nonce=1");
    receive("EDS nonce=2");
    put(XDS_RESOURCE_CLUSTER, "c", "2");
    SENDS("CDS c:2 nonce=3");
    SENDS("EDS c:1 nonce=4");
}

static void rejected_bytes_are_not_sent_again_until_they_change(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ROUTES, "r", "1");
    receive("RDS node=n +r");
    SENDS("RDS r:1 nonce=1");
    receive("RDS nonce=1 NACK");
    SENDS("nothing");
    ads_stream_changed(fixture.stream, XDS_RESOURCE_ROUTES);
    SENDS("nothing");
    struct ads_progress progress = ads_stream_progress(fixture.stream);
    assert_int_equal(progress.rejected, 1);
    assert_string_equal(progress.last_rejection, "RDS");
    put(XDS_RESOURCE_ROUTES, "r", "2");
    SENDS("RDS r:2 nonce=2");
    receive("RDS nonce=2");
    assert_int_equal(ads_stream_progress(fixture.stream).rejected, 0);
}

static void a_removal_beside_rejected_content_is_not_rejected(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    receive("EDS node=n +a +b");
    SENDS("EDS a:1 -b nonce=1");
    receive("EDS nonce=1 NACK");
    assert_int_equal(ads_stream_progress(fixture.stream).rejected, 1);
}

static void subscriptions_count_in_stale_requests_and_in_rejections(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    put(XDS_RESOURCE_ENDPOINTS, "b", "1");
    put(XDS_RESOURCE_ENDPOINTS, "c", "1");
    receive("EDS node=n +a");
    SENDS("EDS a:1 nonce=1");
    receive("EDS +b nonce=77"); /* stale: no answer to nonce 1 */
    SENDS("nothing");
    receive("EDS +c nonce=1 NACK");
    SENDS("EDS b:1 c:1 nonce=2");
    receive("EDS nonce=1"); /* stale: nonce 2 is out */
    SENDS("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).pending, 2);
}

static void subscribing_again_is_answered_again(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    receive("EDS node=n +a +b");
    SENDS("EDS a:1 -b nonce=1");
    receive("EDS nonce=1");
    receive("EDS +a +b");
    SENDS("EDS a:1 -b nonce=2");
}

static void unsubscribing_ends_it_and_a_wildcard_speaks_up(void **state)
{
    (void)state;
    put(XDS_RESOURCE_CLUSTER, "a", "1");
    receive("CDS node=n +a +b +*");
    SENDS("CDS a:1 -b nonce=1");
    receive("CDS nonce=1 -a -b");
    SENDS("CDS a:1 -b nonce=2");
    receive("CDS nonce=2");
    receive("CDS -*");
    put(XDS_RESOURCE_CLUSTER, "a", "2");
    SENDS("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).names, 0);
}

static void a_reconnect_gets_the_differences(void **state)
{
    (void)state;
    char request[256];
    char version[RESOURCE_VERSION_TEXT];
    put(XDS_RESOURCE_CLUSTER, "same", "1");
    put(XDS_RESOURCE_CLUSTER, "other", "2");
    resource_version_of(SLICE("1"), version);
    (void)snprintf(request, sizeof request, "CDS node=n +* =same:%s =other:%s =gone:%s", version,
                   version, version);
    receive(request);
    SENDS("CDS other:2 -gone nonce=1");
    receive("CDS nonce=1");
    SENDS("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).pending, 0);
    assert_int_equal(ads_stream_progress(fixture.stream).acked_generation, 1);
}

static void an_alias_is_answered_under_the_resources_name_once(void **state)
{
    (void)state;
    put_of(XDS_RESOURCE_DESTINATION, "host/a", "1", "ip/1", 1);
    receive("destinations node=n +ip/1 +host/a");
    SENDS("destinations host/a:1~ip/1 nonce=1");
    receive("destinations nonce=1");
    put_of(XDS_RESOURCE_DESTINATION, "host/a", "1", "ip/2", 1);
    /* Another alias is another version; the alias that it lost is gone. */
    SENDS("destinations host/a:1~ip/2 -ip/1 nonce=2");
}

static void large_answers_come_in_parts(void **state)
{
    (void)state;
    static char body[700 * 1024];
    memset(body, 'x', sizeof body - 1);
    for (char name[] = "a"; name[0] <= 'd'; name[0]++) {
        put(XDS_RESOURCE_ENDPOINTS, name, body);
    }
    receive("EDS node=n +a +b +c +d");
    struct slice bytes;
    assert_true(ads_stream_response(fixture.stream, 0, &fixture.trace.arena, &bytes));
    assert_true(bytes.len > sizeof body && bytes.len < 3 * sizeof body);
    assert_false(ads_stream_response(fixture.stream, 0, &fixture.trace.arena, &bytes));
    receive("EDS nonce=1");
    assert_true(ads_stream_response(fixture.stream, 0, &fixture.trace.arena, &bytes));
    receive("EDS nonce=2");
    assert_false(ads_stream_response(fixture.stream, 0, &fixture.trace.arena, &bytes));
    assert_int_equal(ads_stream_progress(fixture.stream).pending, 0);
}

static void generations_are_known_by_acknowledgement(void **state)
{
    (void)state;
    put_of(XDS_RESOURCE_ROUTES, "r", "1", NULL, 4);
    receive("RDS node=n +r");
    fixture.now_ms = 50;
    SENDS("RDS r:1 nonce=1");
    assert_int_equal(ads_stream_progress(fixture.stream).acked_generation, 0);
    assert_int_equal(ads_stream_progress(fixture.stream).pending, 1);
    assert_true(ads_stream_waiting_since(fixture.stream) == 50);
    receive("RDS nonce=1");
    SENDS("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).acked_generation, 4);
    assert_true(ads_stream_progress(fixture.stream).settled);
    assert_true(ads_stream_waiting_since(fixture.stream) == UINT64_MAX);

    /* A newer object that makes the same bytes is in force without a word. */
    put_of(XDS_RESOURCE_ROUTES, "r", "1", NULL, 6);
    assert_false(ads_stream_progress(fixture.stream).settled);
    SENDS("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).acked_generation, 6);

    put_of(XDS_RESOURCE_ROUTES, "r", "2", NULL, 7);
    SENDS("RDS r:2 nonce=2");
    receive("RDS nonce=2 NACK");
    SENDS("nothing");
    struct ads_progress progress = ads_stream_progress(fixture.stream);
    assert_int_equal(progress.acked_generation, 6);
    assert_int_equal(progress.rejected, 1);
}

static void note_held(void *to, const struct ads_held *held)
{
    static const char *const standings[] = {"acked", "sent", "rejected"};
    trace_add(to, "%.*s=%llu/%llu %s;", SLICE_ARG(held->name),
              (unsigned long long)held->acked_generation, (unsigned long long)held->generation,
              standings[held->standing]);
}

static void what_a_client_holds_can_be_listed(void **state)
{
    (void)state;
    put_of(XDS_RESOURCE_ROUTES, "r", "1", NULL, 4);
    receive("RDS node=n +r +missing");
    SENDS("RDS r:1 -missing nonce=1");
    receive("RDS nonce=1");
    put_of(XDS_RESOURCE_ROUTES, "r", "2", NULL, 5);
    SENDS("RDS r:2 nonce=2");
    fixture.trace.text[0] = '\0';
    ads_stream_each_held(fixture.stream, note_held, &fixture.trace);
    assert_string_equal(fixture.trace.text, "r=4/5 sent;");
}

static void refused(const char *text, const char *reason)
{
    struct error err = {.text = ""};
    assert_false(
        ads_stream_receive(fixture.stream, trace_make_delta_request(&fixture.trace, text), &err));
    assert_string_equal(err.text, reason);
}

static void a_stream_begins_with_a_node_that_is_welcome(void **state)
{
    (void)state;
    refused("CDS +*", "the first request of a stream must carry the node");
    fixture.world.refuse = "not you";
    refused("CDS node=n +*", "n: not you");
    fixture.world.refuse = NULL;
    receive("CDS node=n +*");
    receive("EDS +a");
}

static void unknown_types_and_bad_names(void **state)
{
    (void)state;
    receive("x/unknown.Type node=n +a"); /* waits for ever, as with any server that has none */
    SENDS("nothing");
    refused(" +a", "a request must name its type");
    refused("EDS +", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment: a "
                     "resource name of 0 bytes; 1 to 1024 are allowed");
}

static void a_service_of_one_type_takes_no_other(void **state)
{
    (void)state;
    put(XDS_RESOURCE_ROUTES, "r", "1");
    open_stream(ADS_DELTA, XDS_RESOURCE_ROUTES);
    receive(" node=n +r");
    SENDS("RDS r:1 nonce=1");
    refused("CDS +*",
            "this service is for type.googleapis.com/envoy.config.route.v3."
            "RouteConfiguration, not type.googleapis.com/envoy.config.cluster.v3.Cluster");
}

/* ---- state of the world ---- */

static void the_session_of_a_grpc_client(void **state)
{
    (void)state;
    open_stream(ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_COUNT);
    put(XDS_RESOURCE_LISTENER, "echo", "L");
    put(XDS_RESOURCE_LISTENER, "another", "X");
    put(XDS_RESOURCE_ROUTES, "rc", "R");
    put(XDS_RESOURCE_CLUSTER, "c1", "C");
    put(XDS_RESOURCE_ENDPOINTS, "svc-c1", "E");
    receive_world("LDS node=n echo");
    SENDS_WORLD("LDS L nonce=1");
    receive_world("LDS echo nonce=1 v=1");
    SENDS_WORLD("nothing");
    receive_world("RDS rc");
    SENDS_WORLD("RDS R nonce=2");
    receive_world("RDS rc nonce=2 v=1");
    receive_world("CDS c1");
    SENDS_WORLD("CDS C nonce=3");
    receive_world("CDS c1 nonce=3 v=1");
    receive_world("EDS svc-c1");
    SENDS_WORLD("EDS E nonce=4");
    receive_world("EDS svc-c1 nonce=4 v=1");
    SENDS_WORLD("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).pending, 0);
    put(XDS_RESOURCE_ROUTES, "rc", "R2");
    SENDS_WORLD("RDS R2 nonce=5");
    receive_world("RDS rc nonce=5 NACK");
    SENDS_WORLD("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).rejected, 1);
}

static void listeners_and_clusters_come_whole_the_rest_in_parts(void **state)
{
    (void)state;
    open_stream(ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_COUNT);
    put(XDS_RESOURCE_CLUSTER, "a", "A");
    put(XDS_RESOURCE_CLUSTER, "b", "B");
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    put(XDS_RESOURCE_ENDPOINTS, "b", "1");
    receive_world("CDS node=n a b");
    SENDS_WORLD("CDS A B nonce=1");
    receive_world("CDS a b nonce=1");
    receive_world("EDS a b");
    SENDS_WORLD("EDS 1 1 nonce=2");
    receive_world("EDS a b nonce=2");
    put(XDS_RESOURCE_ENDPOINTS, "b", "2");
    SENDS_WORLD("EDS 2 nonce=3");
    receive_world("EDS a b nonce=3");
    take_away(XDS_RESOURCE_CLUSTER, "a");
    SENDS_WORLD("CDS B nonce=4");
    SENDS_WORLD("EDS 2 nonce=5"); /* b was sent again, so its endpoints are */
}

static void new_names_are_answered_whatever_the_nonce(void **state)
{
    (void)state;
    open_stream(ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_COUNT);
    put(XDS_RESOURCE_ENDPOINTS, "a", "1");
    put(XDS_RESOURCE_ENDPOINTS, "b", "1");
    receive_world("EDS node=n a");
    SENDS_WORLD("EDS 1 nonce=1");
    put(XDS_RESOURCE_ENDPOINTS, "a", "2");
    receive_world("EDS a nonce=1");
    SENDS_WORLD("EDS 2 nonce=2");
    receive_world("EDS a b nonce=1"); /* crossed with the push */
    SENDS_WORLD("nothing");           /* nonce 2 is out */
    receive_world("EDS a b nonce=2");
    SENDS_WORLD("EDS 1 nonce=3");
    receive_world("EDS nonce=3");
    assert_int_equal(ads_stream_progress(fixture.stream).names, 0);
}

static void no_names_mean_all_until_names_were_given(void **state)
{
    (void)state;
    open_stream(ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_COUNT);
    put(XDS_RESOURCE_CLUSTER, "a", "A");
    put(XDS_RESOURCE_CLUSTER, "b", "B");
    receive_world("CDS node=n");
    SENDS_WORLD("CDS A B nonce=1");
    receive_world("CDS nonce=1");
    put(XDS_RESOURCE_CLUSTER, "c", "C");
    SENDS_WORLD("CDS A B C nonce=2");
    receive_world("CDS a nonce=2");
    assert_int_equal(ads_stream_progress(fixture.stream).names, 1);
    receive_world("CDS");
    SENDS_WORLD("nothing");
    assert_int_equal(ads_stream_progress(fixture.stream).names, 0);
    receive_world("EDS"); /* never a wildcard */
    SENDS_WORLD("nothing");
}

static void a_missing_name_is_told_by_absence(void **state)
{
    (void)state;
    open_stream(ADS_STATE_OF_THE_WORLD, XDS_RESOURCE_COUNT);
    receive_world("LDS node=n none");
    SENDS_WORLD("LDS nonce=1");
    receive_world("LDS none nonce=1");
    SENDS_WORLD("nothing");
    receive_world("RDS none");
    SENDS_WORLD("nothing");
    put(XDS_RESOURCE_ROUTES, "none", "R");
    SENDS_WORLD("RDS R nonce=2");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    static const struct CMUnitTest tests[] = {
        TEST(names_get_what_there_is_and_the_rest_is_removed),
        TEST(a_name_that_was_not_there_is_remembered),
        TEST(a_wildcard_brings_all_and_follows_it),
        TEST(an_empty_first_request_is_a_wildcard_for_lds_and_cds_only),
        TEST(an_empty_wildcard_is_answered_once),
        TEST(subscribing_to_nothing_opens_the_type),
        TEST(only_one_response_of_a_type_is_out_and_changes_gather),
        TEST(types_go_in_order_and_clusters_leave_last),
        TEST(removals_do_not_wait_for_types_that_nobody_asked_for),
        TEST(a_cluster_that_is_sent_again_brings_its_endpoints_again),
        TEST(rejected_bytes_are_not_sent_again_until_they_change),
        TEST(a_removal_beside_rejected_content_is_not_rejected),
        TEST(subscriptions_count_in_stale_requests_and_in_rejections),
        TEST(subscribing_again_is_answered_again),
        TEST(unsubscribing_ends_it_and_a_wildcard_speaks_up),
        TEST(a_reconnect_gets_the_differences),
        TEST(an_alias_is_answered_under_the_resources_name_once),
        TEST(large_answers_come_in_parts),
        TEST(generations_are_known_by_acknowledgement),
        TEST(what_a_client_holds_can_be_listed),
        TEST(a_stream_begins_with_a_node_that_is_welcome),
        TEST(unknown_types_and_bad_names),
        TEST(a_service_of_one_type_takes_no_other),
        TEST(the_session_of_a_grpc_client),
        TEST(listeners_and_clusters_come_whole_the_rest_in_parts),
        TEST(new_names_are_answered_whatever_the_nonce),
        TEST(no_names_mean_all_until_names_were_given),
        TEST(a_missing_name_is_told_by_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
