/* Envoy's format strings: what is taken, what is refused, what a line looks like; and files that
 * take no more. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/append.h"
#include "base/loop.h"
#include "sidecar/observe/access_log.h"
#include "sidecar/observe/stats.h"
#include "tests/support/unit.h"

struct bed {
    struct arena arena;
    struct message request;
    struct message answer;
    struct addr client;
    struct addr upstream;
    struct access_facts facts;
    char line[8192];
};

static void add(struct bed *bed, struct message *message, const char *name, const char *value)
{
    assert_true(
        headers_add(&message->headers, &bed->arena, slice_of_text(name), slice_of_text(value)));
}

static void bed_init(struct bed *bed)
{
    *bed = (struct bed){.client = addr_ipv4(10, 1, 2, 3, 4567),
                        .upstream = addr_ipv4(10, 9, 8, 7, 80)};
    arena_init(&bed->arena, NULL);
    bed->request = (struct message){.version = MESSAGE_HTTP_1_1,
                                    .method = SLICE("GET"),
                                    .path = SLICE("/x?secret=1"),
                                    .scheme = SLICE("http"),
                                    .authority = SLICE("shop")};
    add(bed, &bed->request, "User-Agent", "say \"hi\"");
    add(bed, &bed->answer, "content-type", "text/html");
    bed->facts = (struct access_facts){.request = &bed->request,
                                       .answer = &bed->answer,
                                       .original_path = SLICE("/x?secret=1"),
                                       .details = SLICE("via_upstream"),
                                       .cluster = SLICE("orders"),
                                       .cluster_stat = SLICE("orders"),
                                       .route = SLICE("all"),
                                       .flags = "-",
                                       .client = &bed->client,
                                       .upstream = &bed->upstream,
                                       .start_wall_us = UINT64_C(1700000000123456),
                                       .duration_us = 12999,
                                       .bytes_received = 5,
                                       .bytes_sent = 70,
                                       .attempts = 1,
                                       .status = 200,
                                       .grpc = -1};
}

static const char *bed_line(struct bed *bed, const struct access_format *format)
{
    assert_non_null(format);
    struct span to = {(uint8_t *)bed->line, sizeof bed->line - 1};
    bed->line[access_format_write(format, &bed->facts, to)] = '\0';
    return bed->line;
}

static void check_text(const char *format, const char *wanted)
{
    struct bed bed;
    struct error err = {.text = ""};
    bed_init(&bed);
    const struct access_format *compiled =
        access_format_compile(&bed.arena, slice_of_text(format), &err);
    assert_string_equal(err.text, "");
    assert_string_equal(bed_line(&bed, compiled), wanted);
    arena_fini(&bed.arena);
}

static void check_json(const char *object, const char *wanted)
{
    struct bed bed;
    struct error err = {.text = ""};
    bed_init(&bed);
    const struct access_format *compiled =
        access_format_compile_json(&bed.arena, slice_of_text(object), &err);
    assert_string_equal(err.text, "");
    assert_string_equal(bed_line(&bed, compiled), wanted);
    arena_fini(&bed.arena);
}

static void check_refused(const char *format, const char *error)
{
    struct bed bed;
    struct error err = {.text = ""};
    bed_init(&bed);
    assert_null(access_format_compile(&bed.arena, slice_of_text(format), &err));
    assert_string_equal(err.text, error);
    arena_fini(&bed.arena);
}

static void test_text(void **state)
{
    (void)state;
    check_text("plain", "plain\n");
    check_text("100%% %RESPONSE_CODE%\n", "100% 200\n");
    check_text("%START_TIME%", "2023-11-14T22:13:20.123Z\n");
    check_text("%REQ(:METHOD)% %REQ(:PATH)% %REQ_WITHOUT_QUERY(:PATH)% %PROTOCOL%",
               "GET /x?secret=1 /x HTTP/1.1\n");
    check_text("%REQ(USER-AGENT)% %REQ(user-agent):3% %REQ(NONE?USER-AGENT):1% %REQ(NONE)%",
               "say \"hi\" say s -\n");
    check_text("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/x?secret=1\n");
    check_text("%RESP(Content-Type)% %RESP(:STATUS)% %TRAILER(grpc-status)%", "text/html 200 -\n");
    check_text("%DURATION% %RESPONSE_DURATION% %BYTES_RECEIVED% %BYTES_SENT%", "12 - 5 70\n");
    check_text("%UPSTREAM_HOST% %UPSTREAM_CLUSTER:3% %ROUTE_NAME% %RESPONSE_FLAGS%",
               "10.9.8.7:80 ord all -\n");
    check_text("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
               "10.1.2.3:4567 10.1.2.3\n");
    check_text("%DOWNSTREAM_LOCAL_ADDRESS% %REQUESTED_SERVER_NAME%", "- -\n");
    check_text("%RESPONSE_CODE_DETAILS% %GRPC_STATUS_NUMBER%", "via_upstream -\n");
    check_text("", "[2023-11-14T22:13:20.123Z] \"GET /x?secret=1 HTTP/1.1\" 200 - 5 70 12 \"-\" "
                   "\"say \"hi\"\" \"-\" \"shop\" \"10.9.8.7:80\"\n");
}

static void test_json(void **state)
{
    (void)state;
    check_json("{}", "{}\n");
    check_json("{\"code\":\"%RESPONSE_CODE%\",\"agent\":\"%REQ(USER-AGENT)%\"}",
               "{\"code\":200,\"agent\":\"say \\\"hi\\\"\"}\n");
    check_json("{\"a\\\"b\":\"x %REQ(USER-AGENT)% \\\"%REQ(NONE)%\\\"\"}",
               "{\"a\\\"b\":\"x say \\\"hi\\\" \\\"-\\\"\"}\n");
    check_json("{\"none\":\"%REQ(NONE)%\",\"deep\":{\"n\":1,\"t\":true,\"r\":\"%ROUTE_NAME%\"}}",
               "{\"none\":null,\"deep\":{\"n\":1,\"t\":true,\"r\":\"all\"}}\n");
}

static void test_refused(void **state)
{
    (void)state;
    check_refused("%NO_SUCH%", "%NO_SUCH%: no such operator");
    check_refused("a % b", "a percent sign without its second");
    check_refused("%REQ%", "%REQ%: a field's name is wanted");
    check_refused("%REQ(%", "%REQ(%: no closing parenthesis");
    check_refused("%DURATION(x)%", "%DURATION(x)%: takes no argument");
    check_refused("%REQ(a):b%", "%REQ(a):b%: a length is wanted behind the colon");
    struct bed bed;
    struct error err = {.text = ""};
    bed_init(&bed);
    assert_null(access_format_compile_json(&bed.arena, SLICE("{\"a\":[\"%DURATION%\"]}"), &err));
    assert_string_equal(err.text, "a list is not supported");
    arena_fini(&bed.arena);
}

/* Every length from the shortest: never beyond its room, always one line. */
static void test_a_line_that_does_not_fit_is_cut(void **state)
{
    (void)state;
    struct bed bed;
    struct error err = {.text = ""};
    bed_init(&bed);
    const struct access_format *format = access_format_compile(&bed.arena, SLICE(""), &err);
    for (size_t len = 2; len < 200; len++) {
        uint8_t bytes[201];
        bytes[len] = 0xEE;
        size_t written = access_format_write(format, &bed.facts, (struct span){bytes, len});
        assert_in_range(written, 1, len);
        assert_int_equal(bytes[written - 1], '\n');
        assert_int_equal(bytes[len], 0xEE);
    }
    arena_fini(&bed.arena);
}

static void test_a_pipe_that_nobody_reads_takes_whole_lines(void **state)
{
    (void)state;
    char path[] = "/tmp/pillion-append-XXXXXX";
    assert_non_null(mkdtemp(path));
    char fifo[64];
    (void)snprintf(fifo, sizeof fifo, "%s/fifo", path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    struct error err = {.text = ""};
    assert_null(append_open(fifo, &err)); /* no reader yet: does not wait for one */
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct append *append = append_open(fifo, &err);
    assert_non_null(append);
    char lines[10000];
    (void)memset(lines, 'x', sizeof lines);
    for (size_t i = 99; i < sizeof lines; i += 100) {
        lines[i] = '\n';
    }
    size_t taken = sizeof lines;
    size_t total = 0;
    for (int i = 0; i < 1000 && taken == sizeof lines; i++) {
        taken = append_lines(append, slice_of(lines, sizeof lines));
        total += taken;
    }
    assert_true(taken < sizeof lines); /* it is full */
    assert_int_equal(total % 100, 0);
    append_close(&append);
    assert_int_equal(close(reader), 0);
    assert_int_equal(unlink(fifo), 0);
    assert_int_equal(rmdir(path), 0);
}

static void test_lines_that_are_lost_are_counted(void **state)
{
    (void)state;
    struct bed bed;
    struct error err = {.text = ""};
    bed_init(&bed);
    struct stats_workload self = {.name = SLICE("a")};
    struct stats *stats = stats_new(&self, 100, 1);
    struct stats_worker *worker = stats_worker_new(stats);
    struct loop *loop = loop_new();
    struct access_logs *logs = access_logs_new(loop, worker);
    struct access_log_config config = {.kind = ACCESS_LOG_FILE, .path = SLICE("/dev/full")};
    config.compiled = access_format_compile(&bed.arena, SLICE("%RESPONSE_CODE%\n"), &err);
    for (int i = 0; i < 3; i++) {
        access_logs_write(logs, &config, &bed.facts);
    }
    access_logs_free(&logs);
    struct metric lost = metrics_resolve(stats_get_metrics(stats), STAT_LOG_DROPPED, NULL);
    assert_int_equal(metrics_read(stats_get_metrics(stats), lost), 3);
    metrics_release(stats_get_metrics(stats), &lost);
    loop_free(&loop);
    stats_worker_free(&worker);
    stats_free(&stats);
    arena_fini(&bed.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_a_line_that_does_not_fit_is_cut),
        cmocka_unit_test(test_a_pipe_that_nobody_reads_takes_whole_lines),
        cmocka_unit_test(test_lines_that_are_lost_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
