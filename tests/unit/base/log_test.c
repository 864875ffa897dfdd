#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "tests/support/unit.h"

/* A sink that keeps the last line and a clock that is set by hand. */
struct capture {
    uint64_t now_us;
    unsigned lines;
    char last[LOG_LINE_MAX + 1];
};

static struct capture captured;

static void keep_line(void *owner, struct slice line)
{
    struct capture *capture = owner;
    capture->lines++;
    (void)memcpy(capture->last, line.at, line.len);
    capture->last[line.len] = '\0';
}

static uint64_t hand_clock(void *owner)
{
    return ((const struct capture *)owner)->now_us;
}

static void open_captured(enum log_format format)
{
    captured = (struct capture){.now_us = 1795184153123456};
    log_open(&(struct log_config){.level = LOG_LEVEL_INFO,
                                  .format = format,
                                  .sink = keep_line,
                                  .wall = hand_clock,
                                  .owner = &captured});
}

static void test_text(void **state)
{
    (void)state;
    open_captured(LOG_FORMAT_TEXT);
    log_info("listening", LOG_TEXT("address", "127.0.0.1"), LOG_U64("port", 15001),
             LOG_SLICE("why", SLICE("two words")), LOG_BOOL("tls", true), LOG_I64("skew", -3),
             LOG_TEXT("none", NULL), LOG_TEXT("empty", ""));
    assert_string_equal(captured.last,
                        "2026-11-20T14:15:53.123456Z info listening address=127.0.0.1 port=15001 "
                        "why=\"two words\" tls=true skew=-3 none=null empty=\"\"\n");
    log_warning("no fields at all");
    assert_string_equal(captured.last, "2026-11-20T14:15:53.123456Z warning no fields at all\n");
}

static void test_json(void **state)
{
    (void)state;
    struct error err;
    open_captured(LOG_FORMAT_JSON);
    (void)error_set(&err, "no such \"file\"\n");
    log_error("cannot read", LOG_CAUSE(&err), LOG_U64("line", 7));
    assert_string_equal(captured.last,
                        "{\"time\":\"2026-11-20T14:15:53.123456Z\",\"level\":\"error\","
                        "\"message\":\"cannot read\",\"error\":\"no such \\\"file\\\"\\n\","
                        "\"line\":7}\n");
}

/* Values cannot forge a second line or a field. */
static void test_values_stay_inside(void **state)
{
    (void)state;
    open_captured(LOG_FORMAT_TEXT);
    log_info("seen", LOG_SLICE("host", SLICE("a\n2026 error forged=1")));
    assert_non_null(strstr(captured.last, "host=\"a\\n2026 error forged=1\"\n"));
}

static void test_long_lines_are_cut_whole(void **state)
{
    (void)state;
    static char text[3 * LOG_LINE_MAX];
    (void)memset(text, '\n', sizeof text - 1);
    open_captured(LOG_FORMAT_JSON);
    log_info("long", LOG_TEXT("text", text), LOG_U64("after", 1));
    struct error err = {""};
    json_t *value = json_parse(slice_of_text(captured.last), NULL, &err);
    assert_non_null(value);
    assert_true(json_is_true(json_at(value, "/cut")));
    json_decref(value);
    assert_true(strlen(captured.last) <= LOG_LINE_MAX);
    open_captured(LOG_FORMAT_TEXT);
    (void)memset(text, 'x', sizeof text - 1);
    log_info("long", LOG_TEXT("text", text));
    assert_true(slice_ends(slice_of_text(captured.last), SLICE("x\" cut=true\n")));
}

static void test_levels(void **state)
{
    (void)state;
    enum log_level level;
    open_captured(LOG_FORMAT_TEXT);
    log_debug("unseen");
    assert_int_equal(captured.lines, 0);
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("seen");
    assert_int_equal(captured.lines, 1);
    assert_true(log_level_parse(SLICE("warning"), &level));
    assert_int_equal(level, LOG_LEVEL_WARNING);
    assert_false(log_level_parse(SLICE("loud"), &level));
    assert_int_equal(log_get_level(), LOG_LEVEL_DEBUG);
}

static void test_what_a_peer_drives_is_limited(void **state)
{
    (void)state;
    open_captured(LOG_FORMAT_TEXT);
    uint64_t before = log_held_back();
    for (unsigned i = 0; i < 100; i++) {
        log_limited(LOG_LEVEL_WARNING, "peer is odd", LOG_U64("i", i));
        log_limited(LOG_LEVEL_DEBUG, "not wanted at this level");
    }
    assert_int_equal(captured.lines, LOG_LIMIT_PER_SECOND);
    assert_int_equal(log_held_back() - before, 100 - LOG_LIMIT_PER_SECOND);
    log_limited(LOG_LEVEL_WARNING, "another message");
    assert_int_equal(captured.lines, LOG_LIMIT_PER_SECOND + 1);
    captured.now_us += 1000000;
    log_limited(LOG_LEVEL_WARNING, "peer is odd", LOG_U64("i", 100));
    assert_non_null(strstr(captured.last, "i=100 held_back=95\n"));
    log_limited(LOG_LEVEL_WARNING, "peer is odd", LOG_U64("i", 101));
    assert_null(strstr(captured.last, "held_back"));
}

/* A pipe that nobody reads: lines are dropped and counted, the caller goes on. */
static void test_a_stalled_reader_stops_nobody(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    log_open(&(struct log_config){.level = LOG_LEVEL_INFO, .fd = ends[1]});
    uint64_t before = log_dropped();
    for (unsigned i = 0; i < 5000; i++) {
        log_info("nobody reads this", LOG_U64("i", i));
    }
    assert_true(log_dropped() > before);
    char room[65536];
    ssize_t got = read(ends[0], room, sizeof room);
    assert_true(got > 0);
    assert_int_equal(room[got - 1], '\n');
    before = log_dropped();
    log_info("there is room again");
    assert_true(log_dropped() == before);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(close(ends[1]), 0);
    log_info("the fd is gone");
    assert_true(log_dropped() == before + 1);
}

static void test_clock(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_BYTES];
    clock_text(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    clock_text(UINT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    char date[CLOCK_HTTP_DATE_BYTES];
    clock_http_date(UINT64_C(784111777) * 1000000, date);
    assert_string_equal(date, "Sun, 06 Nov 1994 08:49:37 GMT"); /* RFC 9110 5.6.7 */
    uint64_t first = clock_monotonic_us();
    assert_true(clock_monotonic_us() >= first);
    assert_true(clock_wall_us() > UINT64_C(1600000000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_values_stay_inside),
        cmocka_unit_test(test_long_lines_are_cut_whole),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_what_a_peer_drives_is_limited),
        cmocka_unit_test(test_a_stalled_reader_stops_nobody),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
