#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/xds/ads_trace.h"
#include "xds/ads_client.h"
#include "xds/resources.h"

#include <cmocka.h>

struct fixture {
    struct ads_client *client;
    struct trace trace;
};

static struct fixture fixture;

static int begin(void **state)
{
    (void)state;
    arena_init(&fixture.trace.arena, NULL);
    Envoy__Config__Core__V3__Node node;
    envoy__config__core__v3__node__init(&node);
    char id[] = "me";
    node.id = id;
    struct ads_client_options options = {.node = encode_message(&fixture.trace.arena, &node.base),
                                         .seed = 7};
    fixture.client = ads_client_new(&options);
    return 0;
}

static int end(void **state)
{
    (void)state;
    ads_client_free(&fixture.client);
    arena_fini(&fixture.trace.arena);
    return 0;
}

static const char *next_request(void)
{
    struct slice bytes;
    return ads_client_request(fixture.client, &fixture.trace.arena, &bytes)
               ? trace_delta_request(&fixture.trace, bytes)
               : "nothing";
}

#define SENDS(text) assert_string_equal(next_request(), (text))

static void respond(const char *text)
{
    struct error err = {.text = ""};
    struct slice bytes = trace_make_response(&fixture.trace, text);
    assert_true(ads_client_receive(fixture.client, bytes, &err));
}

/* The update to settle now: "put a=v1", "removed a", "silence a", or "none". */
static const char *next_update(void)
{
    const struct ads_update *update = ads_client_update(fixture.client);
    fixture.trace.text[0] = '\0';
    if (update == NULL) {
        return "none";
    }
    static const char *const kinds[] = {"put", "removed", "silence"};
    trace_add(&fixture.trace, "%s %.*s", kinds[update->kind], SLICE_ARG(update->name));
    if (update->kind == ADS_UPDATE_PUT) {
        trace_add(&fixture.trace, "=%.*s", SLICE_ARG(update->body));
    }
    return fixture.trace.text;
}

#define TAKES(text)                                                                                \
    do {                                                                                           \
        assert_string_equal(next_update(), (text));                                                \
        ads_client_settle(fixture.client, NULL);                                                   \
    } while (0)
#define REJECTS(text, reason)                                                                      \
    do {                                                                                           \
        struct error rejected;                                                                     \
        (void)error_set(&rejected, "%s", (reason));                                                \
        assert_string_equal(next_update(), (text));                                                \
        ads_client_settle(fixture.client, &rejected);                                              \
    } while (0)
#define NO_UPDATE() assert_string_equal(next_update(), "none")

static void want(enum xds_resource type, const char *name)
{
    ads_client_want(fixture.client, type, slice_of_text(name), 0);
}

static void unwant(enum xds_resource type, const char *name)
{
    ads_client_unwant(fixture.client, type, slice_of_text(name));
}

static void types_are_asked_for_in_order_and_the_node_goes_first(void **state)
{
    (void)state;
    want(XDS_RESOURCE_DESTINATION, "host/a:80");
    want(XDS_RESOURCE_ROUTES, "80");
    want(XDS_RESOURCE_ENDPOINTS, "c1");
    want(XDS_RESOURCE_ENDPOINTS, "c2");
    ads_client_want_all(fixture.client, XDS_RESOURCE_CLUSTER);
    ads_client_want_all(fixture.client, XDS_RESOURCE_LISTENER);
    ads_client_opened(fixture.client, 0);
    SENDS("CDS node=me +*");
    SENDS("EDS +c1 +c2");
    SENDS("LDS +*");
    SENDS("RDS +80");
    SENDS("destinations +host/a:80");
    SENDS("nothing");
}

static void a_response_is_acknowledged_when_all_of_it_is_in_force(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    want(XDS_RESOURCE_ENDPOINTS, "b");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a +b");
    respond("EDS a:v1 b:v2 nonce=1");
    SENDS("nothing");
    TAKES("put a=v1");
    SENDS("nothing");
    TAKES("put b=v2");
    SENDS("EDS nonce=1");
    SENDS("nothing");
    NO_UPDATE();
}

static void a_rejection_names_resource_and_field(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ROUTES, "a");
    want(XDS_RESOURCE_ROUTES, "b");
    ads_client_opened(fixture.client, 0);
    SENDS("RDS node=me +a +b");
    respond("RDS a:v1 b:v2 nonce=1");
    REJECTS("put a=v1", "virtual_hosts[0].domains: empty");
    TAKES("put b=v2");
    SENDS("RDS nonce=1 NACK(a: virtual_hosts[0].domains: empty)");

    /* The good one counts; the bad one is as if it had never come. */
    ads_client_closed(fixture.client, 0);
    ads_client_opened(fixture.client, 0);
    char expected[128];
    char version[RESOURCE_VERSION_TEXT];
    resource_version_of(SLICE("v2"), version);
    (void)snprintf(expected, sizeof expected, "RDS node=me +a +b =b:%s", version);
    SENDS(expected);
}

static void what_is_wrong_in_the_response_itself_is_rejected_too(void **state)
{
    (void)state;
    ads_client_want_all(fixture.client, XDS_RESOURCE_CLUSTER);
    ads_client_opened(fixture.client, 0);
    SENDS("CDS node=me +*");
    respond("CDS a:v1 a:v2 !b:v1 c:v1 -c :v1 d:v1 nonce=1");
    TAKES("put d=v1");
    SENDS(
        "CDS nonce=1 NACK(a: given twice in one response; (unnamed): a resource must have a name; "
        "c: both given and removed in one response; b: has type x/y in a response of type "
        "type.googleapis.com/envoy.config.cluster.v3.Cluster)");
    respond("LDS a:v1 nonce=2");
    NO_UPDATE();
    SENDS("LDS nonce=2 NACK(type.googleapis.com/envoy.config.listener.v3.Listener: nobody asked "
          "for this type)");
    respond("a.b/C a:v1 nonce=3");
    SENDS("a.b/C nonce=3 NACK(a.b/C: nobody asked for this type)");
}

static void a_name_that_is_given_and_removed_keeps_what_it_had(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a:v1@1 nonce=1");
    TAKES("put a=v1");
    SENDS("EDS nonce=1");
    respond("EDS a:v2@2 -a nonce=2");
    NO_UPDATE();
    SENDS("EDS nonce=2 NACK(a: both given and removed in one response)");
    respond("EDS -a -a nonce=3");
    TAKES("removed a");
    SENDS("EDS nonce=3");
}

static void the_newest_generation_that_was_taken_whole_is_known(void **state)
{
    struct error bad = {.text = "no"};
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    assert_int_equal(ads_client_generation(fixture.client), 0);
    respond("EDS a:v1@1 nonce=1 generation=7");
    assert_int_equal(ads_client_generation(fixture.client), 0);
    TAKES("put a=v1");
    assert_int_equal(ads_client_generation(fixture.client), 7);
    respond("EDS a:v2@2 nonce=2 generation=8");
    ads_client_settle(fixture.client, &bad);
    assert_int_equal(ads_client_generation(fixture.client), 7);
    respond("EDS -a nonce=3 generation=6");
    TAKES("removed a");
    respond("EDS nonce=4 generation=x");
    assert_int_equal(ads_client_generation(fixture.client), 7);
}

static void what_did_not_change_is_no_update(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a:v1@1 nonce=1");
    TAKES("put a=v1");
    SENDS("EDS nonce=1");
    respond("EDS a:v1@2 nonce=2");
    NO_UPDATE();
    SENDS("EDS nonce=2");
    respond("EDS a:v2@2 nonce=3");
    TAKES("put a=v2");
}

static void rejected_content_is_judged_again_when_it_comes_again(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a:v1 nonce=1");
    REJECTS("put a=v1", "no");
    SENDS("EDS nonce=1 NACK(a: no)");
    respond("EDS a:v1 nonce=2");
    TAKES("put a=v1");
    SENDS("EDS nonce=2");
}

static void subscriptions_never_ride_on_an_acknowledgement(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a:v1 nonce=1");
    TAKES("put a=v1");
    want(XDS_RESOURCE_ENDPOINTS, "b");
    want(XDS_RESOURCE_ENDPOINTS, "c");
    unwant(XDS_RESOURCE_ENDPOINTS, "a");
    SENDS("EDS nonce=1");
    SENDS("EDS +b +c -a");
    SENDS("nothing");
}

static void a_name_that_comes_back_before_it_left_is_not_mentioned(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    unwant(XDS_RESOURCE_ENDPOINTS, "a");
    want(XDS_RESOURCE_ENDPOINTS, "a");
    want(XDS_RESOURCE_ENDPOINTS, "b");
    unwant(XDS_RESOURCE_ENDPOINTS, "b");
    SENDS("nothing");
    assert_true(ads_client_wants(fixture.client, XDS_RESOURCE_ENDPOINTS, SLICE("a")));
    assert_false(ads_client_wants(fixture.client, XDS_RESOURCE_ENDPOINTS, SLICE("b")));
}

static void what_nobody_wants_any_more_is_no_update(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    unwant(XDS_RESOURCE_ENDPOINTS, "a");
    respond("EDS a:v1 unasked:v1 -gone nonce=1");
    NO_UPDATE();
    SENDS("EDS nonce=1");
    SENDS("EDS -a");
}

static void a_reconnect_asks_for_all_and_says_what_it_has(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    want(XDS_RESOURCE_ENDPOINTS, "b");
    ads_client_want_all(fixture.client, XDS_RESOURCE_CLUSTER);
    ads_client_opened(fixture.client, 0);
    SENDS("CDS node=me +*");
    SENDS("EDS +a +b");
    respond("CDS c:v1@1 d:v1@2 nonce=1");
    TAKES("put c=v1");
    TAKES("put d=v1");
    respond("EDS a:v1@3 nonce=2");
    TAKES("put a=v1");
    /* Neither acknowledgement was sent: a nonce is good on its own stream only. */
    unwant(XDS_RESOURCE_ENDPOINTS, "b");
    ads_client_closed(fixture.client, 0);
    ads_client_opened(fixture.client, 0);
    SENDS("CDS node=me +* =c:1 =d:2");
    SENDS("EDS +a =a:3");
    SENDS("nothing");
    respond("CDS -c nonce=1");
    TAKES("removed c");
    SENDS("CDS nonce=1");
    ads_client_closed(fixture.client, 0);
    ads_client_opened(fixture.client, 0);
    SENDS("CDS node=me +* =d:2");
}

static void an_alias_answers_for_its_name(void **state)
{
    (void)state;
    want(XDS_RESOURCE_DESTINATION, "ip//10.0.0.1");
    ads_client_opened(fixture.client, 100);
    SENDS("destinations node=me +ip//10.0.0.1");
    respond("destinations host/a:v1~ip//10.0.0.1 nonce=1");
    const struct ads_update *update = ads_client_update(fixture.client);
    assert_non_null(update);
    assert_int_equal(update->alias_count, 1);
    assert_true(slice_eq(update->aliases[0], SLICE("ip//10.0.0.1")));
    ads_client_settle(fixture.client, NULL);
    assert_true(ads_client_deadline(fixture.client) == UINT64_MAX);
}

static void a_removed_name_stays_wanted(void **state)
{
    (void)state;
    want(XDS_RESOURCE_DESTINATION, "host/a");
    ads_client_opened(fixture.client, 0);
    SENDS("destinations node=me +host/a");
    respond("destinations -host/a -host/a nonce=1");
    TAKES("removed host/a");
    NO_UPDATE();
    SENDS("destinations nonce=1");
    assert_true(ads_client_deadline(fixture.client) == UINT64_MAX);
    respond("destinations host/a:v1 nonce=2");
    TAKES("put host/a=v1");
}

static void a_resource_without_a_body_is_no_update(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a: nonce=1");
    NO_UPDATE();
    SENDS("EDS nonce=1");
    respond("EDS b:~a nonce=2");
    TAKES("removed a");
}

static void silence_is_reported_once(void **state)
{
    (void)state;
    ads_client_want(fixture.client, XDS_RESOURCE_DESTINATION, SLICE("a"), 1000);
    assert_true(ads_client_deadline(fixture.client) == 6000);
    ads_client_opened(fixture.client, 2000);
    assert_true(ads_client_deadline(fixture.client) == 7000);
    SENDS("destinations node=me +a");
    ads_client_want(fixture.client, XDS_RESOURCE_DESTINATION, SLICE("b"), 3000);
    ads_client_tick(fixture.client, 6999);
    NO_UPDATE();
    ads_client_tick(fixture.client, 7000);
    TAKES("silence a");
    NO_UPDATE();
    assert_true(ads_client_deadline(fixture.client) == 8000);
    ads_client_tick(fixture.client, 9000);
    TAKES("silence b");
    assert_true(ads_client_deadline(fixture.client) == UINT64_MAX);
    /* A late answer is an answer. */
    respond("destinations a:v1 nonce=1");
    TAKES("put a=v1");
}

static void backoff_doubles_with_jitter_and_starts_over_after_a_response(void **state)
{
    (void)state;
    assert_true(ads_client_connect_at(fixture.client) == 0);
    uint64_t ceiling = 500;
    uint64_t highest = 0;
    for (unsigned i = 0; i < 12; i++) {
        ads_client_opened(fixture.client, 0);
        ads_client_closed(fixture.client, 1000);
        uint64_t wait = ads_client_connect_at(fixture.client) - 1000;
        assert_true(wait <= ceiling);
        highest = wait > highest ? wait : highest;
        ceiling = ceiling * 2 < 30000 ? ceiling * 2 : 30000;
    }
    assert_true(highest > 2000);
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a:v1 nonce=1");
    TAKES("put a=v1");
    ads_client_closed(fixture.client, 1000);
    assert_true(ads_client_connect_at(fixture.client) <= 1500);
}

static void updates_may_be_settled_after_the_stream_closed(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    respond("EDS a:v1@1 nonce=1");
    ads_client_closed(fixture.client, 0);
    TAKES("put a=v1");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a =a:1");
    SENDS("nothing");
}

static void garbage_ends_the_stream(void **state)
{
    (void)state;
    want(XDS_RESOURCE_ENDPOINTS, "a");
    ads_client_opened(fixture.client, 0);
    SENDS("EDS node=me +a");
    struct error err;
    assert_false(ads_client_receive(fixture.client, SLICE("\x12\xff"), &err));
    assert_string_equal(err.text, "response: truncated");
    assert_false(
        ads_client_receive(fixture.client, trace_make_response(&fixture.trace, "EDS a:v1"), &err));
    assert_string_equal(err.text, "response without a nonce");
    SENDS("nothing");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    static const struct CMUnitTest tests[] = {
        TEST(types_are_asked_for_in_order_and_the_node_goes_first),
        TEST(a_response_is_acknowledged_when_all_of_it_is_in_force),
        TEST(a_rejection_names_resource_and_field),
        TEST(what_is_wrong_in_the_response_itself_is_rejected_too),
        TEST(a_name_that_is_given_and_removed_keeps_what_it_had),
        TEST(the_newest_generation_that_was_taken_whole_is_known),
        TEST(what_did_not_change_is_no_update),
        TEST(rejected_content_is_judged_again_when_it_comes_again),
        TEST(subscriptions_never_ride_on_an_acknowledgement),
        TEST(a_name_that_comes_back_before_it_left_is_not_mentioned),
        TEST(what_nobody_wants_any_more_is_no_update),
        TEST(a_reconnect_asks_for_all_and_says_what_it_has),
        TEST(an_alias_answers_for_its_name),
        TEST(a_removed_name_stays_wanted),
        TEST(a_resource_without_a_body_is_no_update),
        TEST(silence_is_reported_once),
        TEST(backoff_doubles_with_jitter_and_starts_over_after_a_response),
        TEST(updates_may_be_settled_after_the_stream_closed),
        TEST(garbage_ends_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
