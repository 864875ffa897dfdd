/* The metric table, names into labels, and the cache from hashes to series. */

#include <string.h>

#include "base/alloc.h"
#include "sidecar/observe/stats.h"
#include "tests/support/unit.h"

#define SECOND  UINT64_C(1000000)
#define SELF_ID "spiffe://cluster.local/ns/shop/sa/self"
#define OTHER                                                                                      \
    "source_workload=\"client\",source_workload_namespace=\"shop\",source_principal=\"" SELF_ID    \
    "\","                                                                                          \
    "source_app=\"client\",source_version=\"unknown\",source_canonical_service=\"client\","        \
    "source_canonical_revision=\"latest\""

struct page {
    size_t len;
    char text[262144];
};

static void take(void *owner, struct slice part)
{
    struct page *page = owner;
    assert_true(page->len + part.len < sizeof page->text);
    (void)memcpy(page->text + page->len, part.at, part.len);
    page->len += part.len;
    page->text[page->len] = '\0';
}

struct bed {
    struct stats *stats;
    struct stats_worker *worker;
    struct page page;
};

static struct bed *bed_new(size_t max_series)
{
    struct bed *bed = NEW(struct bed);
    struct stats_workload self = {.name = SLICE("client"),
                                  .namespace = SLICE("shop"),
                                  .principal = SLICE(SELF_ID),
                                  .app = SLICE("client"),
                                  .canonical_service = SLICE("client"),
                                  .canonical_revision = SLICE("latest")};
    bed->stats = stats_new(&self, max_series, 1);
    bed->worker = stats_worker_new(bed->stats);
    return bed;
}

static const char *bed_text(struct bed *bed)
{
    bed->page.len = 0;
    metrics_write(stats_get_metrics(bed->stats), take, &bed->page);
    return bed->page.text;
}

static void bed_free(struct bed *bed)
{
    stats_worker_free(&bed->worker);
    stats_free(&bed->stats);
    mem_free(bed);
}

static void has(struct bed *bed, const char *line)
{
    if (strstr(bed_text(bed), line) == NULL) {
        fail_msg("not there: %s\nin:\n%s", line, bed->page.text);
    }
}

static void has_not(struct bed *bed, const char *line)
{
    if (strstr(bed_text(bed), line) != NULL) {
        fail_msg("there: %s", line);
    }
}

/* SLICE is no constant to -Wpedantic. */
#define CONSTANT(text)                                                                             \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }
#define CLUSTER_NAME "outbound|8000|v2|order-service.shop.svc.cluster.local"
static const struct label labels_v2[] = {{CONSTANT("app"), CONSTANT("order")},
                                         {CONSTANT("version"), CONSTANT("v2")}};
static const struct endpoint_config endpoint = {
    .workload = CONSTANT("order-v2;shop;order-service;v2;mesh"),
    .identity = CONSTANT("spiffe://cluster.local/ns/shop/sa/order"),
    .labels = labels_v2,
    .label_count = 2,
};
#define CLUSTER SLICE(CLUSTER_NAME)

static struct stats_key outbound(uint16_t status)
{
    return (struct stats_key){.cluster = stats_hash_text(CLUSTER),
                              .endpoint = stats_hash_endpoint(&endpoint),
                              .status = status,
                              .grpc = -1};
}

static const struct stats_names names = {.cluster = CONSTANT(CLUSTER_NAME), .endpoint = &endpoint};

static void test_request_has_istios_labels(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    struct stats_key key = outbound(200);
    struct stats_amounts amounts = {.duration_us = 700, .request_bytes = 5, .answer_bytes = 1000};
    stats_ended(bed->worker, &key, &names, &amounts, SECOND);
    stats_ended(bed->worker, &key, &names, &amounts, SECOND);
    has(bed,
        "istio_requests_total{reporter=\"source\"," OTHER ",destination_workload=\"order-v2\","
        "destination_workload_namespace=\"shop\","
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/order\","
        "destination_app=\"order\",destination_version=\"v2\","
        "destination_canonical_service=\"order-service\",destination_canonical_revision=\"v2\","
        "destination_service=\"order-service.shop.svc.cluster.local\","
        "destination_service_name=\"order-service\",destination_service_namespace=\"shop\","
        "request_protocol=\"http\",response_flags=\"-\",connection_security_policy=\"unknown\","
        "response_code=\"200\",grpc_response_status=\"\"} 2\n");
    has(bed, "le=\"0.5\"} 0\n");
    has(bed, "le=\"1\"} 2\n");
    bed_free(bed);
}

static void test_failure_shows_its_flags(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    struct stats_key key = outbound(503);
    key.fail = FAIL_CONNECT_REFUSED;
    key.retries_ended = true;
    key.protocol = STATS_GRPC;
    key.grpc = 14;
    struct stats_amounts amounts = {.duration_us = 1};
    stats_ended(bed->worker, &key, &names, &amounts, SECOND);
    has(bed, "request_protocol=\"grpc\",response_flags=\"UF,URX\",");
    has(bed, "response_code=\"503\",grpc_response_status=\"14\"} 1\n");
    bed_free(bed);
}

static void test_inbound_knows_the_peer(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    struct slice peer = SLICE("spiffe://cluster.local/ns/web/sa/front");
    struct stats_key key = {
        .peer = stats_hash_text(peer), .status = 200, .grpc = -1, .inbound = true};
    struct stats_names who = {.cluster = SLICE("inbound|8000||"), .peer = peer};
    struct stats_amounts amounts = {.duration_us = 1};
    stats_ended(bed->worker, &key, &who, &amounts, SECOND);
    has(bed, "istio_requests_total{reporter=\"destination\",source_workload=\"unknown\","
             "source_workload_namespace=\"web\","
             "source_principal=\"spiffe://cluster.local/ns/web/sa/front\"");
    has(bed, "connection_security_policy=\"mutual_tls\"");
    has(bed, "destination_principal=\"" SELF_ID "\"");
    who.peer = (struct slice){NULL, 0};
    key.peer = 0;
    stats_ended(bed->worker, &key, &who, &amounts, SECOND);
    has(bed, "destination_principal=\"unknown\""); /* who came without a certificate saw none */
    has(bed, "destination_workload=\"client\"");
    bed_free(bed);
}

static void test_inbound_believes_what_the_peers_sidecar_says_but_its_principal(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    struct stats_workload says = {.name = SLICE("front-v1"),
                                  .namespace = SLICE("web"),
                                  .principal = SLICE("spiffe://cluster.local/ns/x/sa/root"),
                                  .version = SLICE("v1")};
    struct stats_key key = {
        .peer = stats_hash_workload(&says), .status = 200, .grpc = -1, .inbound = true};
    struct stats_names who = {.peer = SLICE("spiffe://cluster.local/ns/web/sa/front"),
                              .peer_says = &says};
    struct stats_amounts amounts = {.duration_us = 1};
    stats_ended(bed->worker, &key, &who, &amounts, SECOND);
    has(bed, "source_workload=\"front-v1\",source_workload_namespace=\"web\","
             "source_principal=\"spiffe://cluster.local/ns/web/sa/front\"");
    has(bed, "source_version=\"v1\"");
    bed_free(bed);
}

static void test_opaque_connection(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    struct stats_key key = outbound(0);
    key.protocol = STATS_TCP;
    stats_opened(bed->worker, &key, &names, SECOND);
    struct stats_amounts amounts = {.request_bytes = 70, .answer_bytes = 90};
    stats_moved(bed->worker, &key, &names, &amounts, SECOND);
    has(bed, "response_flags=\"-\",connection_security_policy=\"unknown\"} 90\n");
    has(bed, "response_flags=\"-\",connection_security_policy=\"unknown\"} 70\n");
    amounts = (struct stats_amounts){.request_bytes = 7, .answer_bytes = 9};
    key.fail = FAIL_UPSTREAM_CLOSED; /* ends under other flags than it began */
    stats_ended(bed->worker, &key, &names, &amounts, SECOND);
    has(bed,
        "request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"unknown\"} 1");
    has(bed, "# TYPE istio_tcp_sent_bytes_total counter");
    has(bed, "response_flags=\"UC\",connection_security_policy=\"unknown\"} 9\n");
    has(bed, "response_flags=\"UC\",connection_security_policy=\"unknown\"} 7\n");
    bed_free(bed);
}

static void test_plain_and_indexed_counts(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    stats_count(bed->worker, STAT_ATTEMPTS, 3);
    stats_count_by(bed->worker, STAT_FAILURES, FAIL_NO_ROUTE, fail_name(FAIL_NO_ROUTE));
    stats_count_by(bed->worker, STAT_FAILURES, FAIL_NO_ROUTE, fail_name(FAIL_NO_ROUTE));
    stats_set(bed->worker, STAT_EXCHANGES_OPEN, 4);
    stats_set_by(bed->worker, STAT_CONNECTIONS_OPEN, STATS_UPSTREAM, "upstream", 6);
    stats_count_up_to(bed->worker, STAT_ALLOCATIONS, 10);
    stats_count_up_to(bed->worker, STAT_ALLOCATIONS, 15);
    has(bed, "pillion_attempts_total 3\n");
    has(bed, "pillion_exchange_failures_total{fail=\"NO_ROUTE\"} 2\n");
    has(bed, "pillion_exchanges_open 4\n");
    has(bed, "pillion_connections_open{side=\"upstream\"} 6\n");
    has(bed, "pillion_allocations_total 15\n");
    stats_count(NULL, STAT_ATTEMPTS, 1); /* a worker that counts nothing */
    bed_free(bed);
}

static void test_unused_series_go(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100);
    struct stats_amounts amounts = {.duration_us = 1};
    struct stats_key old = outbound(200);
    struct stats_key young = outbound(404);
    stats_ended(bed->worker, &old, &names, &amounts, SECOND);
    stats_ended(bed->worker, &young, &names, &amounts, 1000 * SECOND);
    stats_worker_sweep(bed->worker, 1001 * SECOND);
    stats_expire(bed->stats, 1001 * SECOND);
    has(bed, "response_code=\"200\"");
    stats_expire(bed->stats, 2000 * SECOND);
    has_not(bed, "response_code=\"200\"");
    has(bed, "response_code=\"404\"");
    stats_ended(bed->worker, &young, &names, &amounts, 2000 * SECOND); /* still found */
    has(bed, "response_code=\"404\",grpc_response_status=\"\"} 2\n");
    bed_free(bed);
}

static void test_more_than_the_cache_holds_is_one_series(void **state)
{
    (void)state;
    struct bed *bed = bed_new(100000);
    struct stats_amounts amounts = {.duration_us = 1};
    for (uint16_t status = 100; status < 1000; status++) {
        struct stats_key key = outbound(status);
        stats_ended(bed->worker, &key, &names, &amounts, SECOND);
        stats_ended(bed->worker, &key, &names, &amounts, SECOND);
    }
    struct metrics_counts counts = metrics_counts(stats_get_metrics(bed->stats));
    assert_true(counts.series < 4000);
    bed_free(bed);
}

static void test_service_names(void **state)
{
    (void)state;
    struct stats_service of = stats_service_of_cluster(SLICE("outbound|443||api.example.com"));
    assert_true(slice_eq(of.host, SLICE("api.example.com")));
    assert_true(slice_eq(of.name, SLICE("api.example.com")));
    assert_int_equal(of.namespace.len, 0);
    of = stats_service_of_cluster(SLICE("outbound|80|"));
    assert_int_equal(of.host.len, 0);
    of = stats_service_of_cluster(SLICE("backend"));
    assert_true(slice_eq(of.name, SLICE("backend")));
}

static void labels_say_who_we_are(void **state)
{
    (void)state;
    const struct label plain[] = {{SLICE("app"), SLICE("order")}, {SLICE("version"), SLICE("v2")}};
    struct stats_workload of = stats_workload_of_labels(SLICE("order-1"), SLICE("shop"), plain, 2);
    assert_true(slice_eq(of.name, SLICE("order-1")));
    assert_true(slice_eq(of.app, SLICE("order")));
    assert_true(slice_eq(of.version, SLICE("v2")));
    assert_true(slice_eq(of.canonical_service, SLICE("order")));
    assert_true(slice_eq(of.canonical_revision, SLICE("v2")));
    const struct label all[] = {{SLICE("app"), SLICE("order")},
                                {SLICE("service.istio.io/canonical-name"), SLICE("orders")},
                                {SLICE("app.kubernetes.io/version"), SLICE("7")}};
    of = stats_workload_of_labels(SLICE("order-1"), SLICE("shop"), all, 3);
    assert_true(slice_eq(of.app, SLICE("order")));
    assert_true(slice_eq(of.version, SLICE("7")));
    assert_true(slice_eq(of.canonical_service, SLICE("orders")));
    of = stats_workload_of_labels(SLICE("order-1"), SLICE("shop"), NULL, 0);
    assert_true(slice_eq(of.app, SLICE("order-1")));
    assert_true(slice_eq(of.version, SLICE("latest")));
}

static void who_we_are_may_be_learnt_later(void **state)
{
    struct bed *bed = bed_new(100);
    struct stats_workload self = {.name = SLICE("client-7"),
                                  .namespace = SLICE("shop"),
                                  .app = SLICE("client"),
                                  .version = SLICE("v3")};
    struct stats_key key = {.cluster = 1, .status = 200, .grpc = -1, .protocol = STATS_HTTP};
    const struct stats_names other = {.cluster = SLICE("order")};
    struct stats_amounts amounts = {.duration_us = 1};
    (void)state;
    stats_ended(bed->worker, &key, &other, &amounts, 1);
    stats_worker_set_self(bed->worker, &self);
    stats_ended(bed->worker, &key, &other, &amounts, 2);
    has(bed, "source_workload=\"client\"");
    has(bed, "source_workload=\"client-7\"");
    has(bed, "source_version=\"v3\"");
    assert_true(slice_eq(stats_worker_get_self(bed->worker)->principal, SLICE(SELF_ID)));
    bed_free(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_has_istios_labels),
        cmocka_unit_test(test_failure_shows_its_flags),
        cmocka_unit_test(test_inbound_knows_the_peer),
        cmocka_unit_test(test_inbound_believes_what_the_peers_sidecar_says_but_its_principal),
        cmocka_unit_test(test_opaque_connection),
        cmocka_unit_test(test_plain_and_indexed_counts),
        cmocka_unit_test(test_unused_series_go),
        cmocka_unit_test(test_more_than_the_cache_holds_is_one_series),
        cmocka_unit_test(test_service_names),
        cmocka_unit_test(labels_say_who_we_are),
        cmocka_unit_test(who_we_are_may_be_learnt_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
