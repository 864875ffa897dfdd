#include <string.h>

#include "base/alloc.h"
#include "tests/support/h1_trace.h"
#include "tests/support/unit.h"

/* The text of one input however it is cut: whole, byte by byte, and in two at every place. */
static void assert_trace(const char *input, const char *expected)
{
    struct slice bytes = slice_of_text(input);
    for (size_t cut = 0; cut <= bytes.len + 1; cut++) {
        struct relay relay;
        relay_init(&relay);
        if (cut <= bytes.len) {
            relay_run(&relay, bytes, cut_once, &cut);
        } else {
            relay_run(&relay, bytes, cut_every_byte, NULL);
        }
        assert_string_equal(relay.trace.text, expected);
        relay_fini(&relay);
    }
}

static void assert_refused(const char *input, const char *label)
{
    struct slice bytes = slice_of_text(input);
    for (size_t cut = 0; cut < bytes.len; cut++) {
        struct relay relay;
        relay_init(&relay);
        relay_run(&relay, bytes, cut_once, &cut);
        assert_true(relay.stopped);
        assert_string_equal(codec_bad_name(relay.refused), label);
        assert_true(codec_finished(relay.server));
        relay_fini(&relay);
    }
}

static void assert_up(const char *input, const char *expected)
{
    struct relay relay;
    relay_init(&relay);
    relay_run(&relay, slice_of_text(input), NULL, NULL);
    char text[4096];
    size_t len = buf_peek(&relay.up, (struct span){(uint8_t *)text, sizeof text - 1});
    text[len] = '\0';
    assert_string_equal(text, expected);
    relay_fini(&relay);
}

static void assert_down(const char *input, const char *expected)
{
    struct relay relay;
    relay_init(&relay);
    relay_run(&relay, slice_of_text(input), NULL, NULL);
    char text[4096];
    size_t len = buf_peek(&relay.down, (struct span){(uint8_t *)text, sizeof text - 1});
    text[len] = '\0';
    assert_string_equal(text, expected);
    relay_fini(&relay);
}

static void test_a_plain_request(void **state)
{
    (void)state;
    assert_trace("GET /a?b HTTP/1.1\r\nHost: h\r\nX-Mine:  v \r\n\r\n",
                 "HEAD 1\n  :method: GET\n  :authority: h\n  :path: /a?b\n  :protocol: \n"
                 "  connect=0 expect=0 te=0\n  body=0 length=-1\n  X-Mine  : v\nEND 1\n"
                 "finished=0\n");
}

static void test_pipelined_requests_with_bodies(void **state)
{
    (void)state;
    assert_trace("\r\nPOST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                 "PUT /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
                 "2;x=\"a\\\"b\" ; y\r\nde\r\n1\r\nf\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n"
                 "HEAD * HTTP/1.1\r\n",
                 "HEAD 1\n  :method: POST\n  :authority: h\n  :path: /\n  :protocol: \n"
                 "  connect=0 expect=0 te=0\n  body=1 length=3\nDATA 1 [abc]\nEND 1\n"
                 "HEAD 2\n  :method: PUT\n  :authority: h\n  :path: /2\n  :protocol: \n"
                 "  connect=0 expect=0 te=1\n  body=1 length=-1\nDATA 2 [def]\nTRAILERS 2\n"
                 "  X-Sum  : 1\nEND 2\nREFUSED 3\n  target\nfinished=1\n");
}

/* Trailers of which every field may only stand in a head are none: what goes up has none either. */
static void test_a_trailer_section_of_head_fields_is_none(void **state)
{
    (void)state;
    assert_trace("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "2\r\nde\r\n0\r\nHost: i\r\nContent-Length: 5\r\n\r\n",
                 "HEAD 1\n  :method: PUT\n  :authority: h\n  :path: /\n  :protocol: \n"
                 "  connect=0 expect=0 te=0\n  body=1 length=-1\nDATA 1 [de]\nEND 1\n"
                 "finished=0\n");
}

static void test_http_1_0_closes_unless_asked(void **state)
{
    (void)state;
    assert_down("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_down("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
    assert_down("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n",
                "HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static void test_hop_fields_go_and_others_stay(void **state)
{
    (void)state;
    assert_up(
        "GET http://target:81?q HTTP/1.1\r\nHost: other\r\nConnection: X-Hop, "
        "x-forwarded-for, Host, TE\r\nX-Hop: 1\r\nX-Forwarded-For: 10.0.0.1\r\nTE: trailers\r\n"
        "Keep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        "GET /?q HTTP/1.1\r\nHost: target:81\r\nX-Forwarded-For: 10.0.0.1\r\n"
        "TE: trailers\r\nConnection: TE\r\n\r\n");
    assert_up("POST /a/../%62 HTTP/1.1\r\nhost:h\r\nCONTENT-LENGTH: 0\r\n\r\n",
              "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_up("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nTransfer-Encoding: , Chunked"
              "\r\n\r\n5\r\nhello\r\n00\r\n\r\n",
              "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue"
              "\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_up("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
              "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", "obs_fold"},
        {"GET / HTTP/1.1\r\n Host: h\r\n\r\n", "obs_fold"},
        {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", "space_before_colon"},
        {"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n", "bare_cr"},
        {"GET / HTTP/1.1\nHost: h\n\n", "bare_lf"},
        {"GET / HTTP/1.1\r\nHost: h\x01\r\n\r\n", "field"},
        {"GET / HTTP/1.1\r\n: h\r\n\r\n", "field"},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", "field"},
        {"GET / HTTP/1.1\r\n\r\n", "host"},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host"},
        {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "host"},
        {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "host"},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version"},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "request_line"},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "target"},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", "request_line"},
        {"GET /\r\nHost: a\r\n\r\n", "request_line"},
        {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "request_line"},
        {"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "request_line"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
         "content_length"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", "content_length"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", "content_length"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "content_length"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
         "content_length"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         "length_and_coding"},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_coding_in_1_0"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
         "transfer_coding"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
         "transfer_coding_order"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
         "transfer_coding_order"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n",
         "transfer_coding_order"},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \r\n\r\n", "transfer_coding_order"},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n", "expect"},
        {"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 1\r\n\r\n", "content_length"},
        {"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: chunked\r\n\r\n",
         "transfer_coding_order"},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        assert_refused(cases[i][0], cases[i][1]);
    }
}

#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static void test_bad_chunks_are_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "x\r\n",
        "\r\n",
        "0x1\r\n",
        "1 \r\n",
        "-1\r\n",
        "1\n",
        "1\r\r\n",
        "1;\r\n",
        "1;a=\r\n",
        "1;=a\r\n",
        "1;a b\r\n",
        "1;a=b c\r\n",
        "1;a=\"\x01\"\r\n",
        "1;a=\"x\"y\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na0\r\n",
        "10000000000000000\r\n",
        "1000000000000000\r\n",
        " 1\r\n",
        "1;a\n",
        "1;a=\"\\\r\n\"\r\n",
    };
    char input[256];
    for (unsigned i = 0; i < COUNT_OF(bodies); i++) {
        (void)snprintf(input, sizeof input, "%s%s", CHUNKED, bodies[i]);
        assert_refused(input, "chunk");
    }
    assert_refused(CHUNKED "0\r\nX : y\r\n\r\n", "space_before_colon");
    assert_refused(CHUNKED "0\r\nX: y\n\r\n", "bare_lf");
}

/* A long run of `byte` in the middle. */
static void fill_and_run(struct relay *relay, const char *before, size_t count, const char *after)
{
    static uint8_t input[200000];
    size_t len = strlen(before);
    assert_true(len + count + strlen(after) < sizeof input);
    memcpy(input, before, len);
    memset(input + len, 'a', count);
    memcpy(input + len + count, after, strlen(after));
    relay_init(relay);
    size_t cut = len + count / 2;
    relay_run(relay, slice_of(input, len + count + strlen(after)), cut_once, &cut);
}

static void test_heads_have_limits(void **state)
{
    (void)state;
    struct relay relay;
    fill_and_run(&relay, "GET /", 8192 - 16, " HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(relay.requests, 1);
    relay_fini(&relay);
    fill_and_run(&relay, "GET /", 8192 - 15, " HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(relay.refused, CODEC_BAD_TARGET_LONG);
    relay_fini(&relay);
    fill_and_run(&relay, "GET / HTTP/1.1\r\nHost: a\r\nX: ", 61440 - 32, "\r\n\r\n");
    assert_int_equal(relay.requests, 1);
    relay_fini(&relay);
    fill_and_run(&relay, "GET / HTTP/1.1\r\nHost: a\r\nX: ", 61440 - 31, "\r\n\r\n");
    assert_int_equal(relay.refused, CODEC_BAD_HEAD_LARGE);
    assert_int_equal(codec_bad_status(relay.refused), 431);
    relay_fini(&relay);
    fill_and_run(&relay, "", 70, " / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(codec_bad_status(relay.refused), 501);
    relay_fini(&relay);

    char input[2048] = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (int i = 0; i < 99; i++) {
        (void)strncat(input, "a: b\r\n", sizeof input - strlen(input) - 1);
    }
    size_t before = strlen(input);
    (void)strncat(input, "\r\n", sizeof input - strlen(input) - 1);
    relay_init(&relay);
    relay_run(&relay, slice_of_text(input), cut_every_byte, NULL);
    assert_int_equal(relay.requests, 1);
    relay_fini(&relay);
    input[before] = '\0';
    (void)strncat(input, "a: b\r\n\r\n", sizeof input - strlen(input) - 1);
    relay_init(&relay);
    relay_run(&relay, slice_of_text(input), NULL, NULL);
    assert_int_equal(relay.refused, CODEC_BAD_HEAD_COUNT);
    relay_fini(&relay);
}

static void test_extensions_are_bounded(void **state)
{
    (void)state;
    struct relay relay;
    fill_and_run(&relay, CHUNKED "1;", 16380, "\r\na\r\n0\r\n\r\n");
    assert_int_equal(relay.requests, 1);
    relay_fini(&relay);
    fill_and_run(&relay, CHUNKED "1;", 16390, "\r\na\r\n0\r\n\r\n");
    assert_int_equal(relay.refused, CODEC_BAD_CHUNK);
    relay_fini(&relay);
}

static void test_an_upgrade_becomes_a_tunnel(void **state)
{
    (void)state;
    struct relay relay;
    relay_init(&relay);
    relay.switch_protocols = true;
    struct slice input = SLICE("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n"
                               "Upgrade: websocket\r\n\r\nGET / not http");
    relay_run(&relay, input, cut_every_byte, NULL);
    assert_non_null(strstr(relay.trace.text, "DATA 1 [GET / not http]"));
    assert_null(strstr(relay.trace.text, "END"));
    char down[256] = {0};
    (void)buf_peek(&relay.down, (struct span){(uint8_t *)down, sizeof down - 1});
    assert_string_equal(down, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\n\r\n");
    struct codec_event ev;
    assert_int_equal(codec_eof(relay.server, &ev), CODEC_EVENT);
    assert_int_equal(ev.kind, CODEC_EV_END);
    assert_int_equal(codec_eof(relay.server, &ev), CODEC_MORE);
    assert_false(codec_finished(relay.server));
    struct buf data;
    buf_init(&data, &relay.pool);
    buf_append(&data, SLICE("bye"));
    relay_command(relay.server, &relay.down,
                  (struct codec_cmd){.kind = CODEC_CMD_DATA, .stream = 1, .data = &data});
    relay_command(relay.server, &relay.down,
                  (struct codec_cmd){.kind = CODEC_CMD_END, .stream = 1});
    assert_true(codec_finished(relay.server));
    relay_fini(&relay);
}

static void test_connect_is_a_tunnel_or_an_answer(void **state)
{
    (void)state;
    struct relay relay;
    relay_init(&relay);
    relay.switch_protocols = true;
    relay_run(&relay, SLICE("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\nabc"), NULL, NULL);
    assert_non_null(strstr(relay.trace.text, "DATA 1 [abc]"));
    char down[256] = {0};
    (void)buf_peek(&relay.down, (struct span){(uint8_t *)down, sizeof down - 1});
    assert_string_equal(down, "HTTP/1.1 200 \r\n\r\n");
    relay_fini(&relay);
    assert_down("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
                "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n");
}

static void test_eof_says_what_was_cut(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        int event; /* -1: BAD, -2: MORE at once */
    } cases[] = {
        {"", -2},
        {"\r\n", -2},
        {"GET", -1},
        {"GET / HTTP/1.1\r\nHost: h\r\n", -1},
        {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", -2},
        {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na", CODEC_EV_RESET},
        {CHUNKED "0\r\n", CODEC_EV_RESET},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct relay relay;
        struct codec_event ev;
        relay_init(&relay);
        relay_run(&relay, slice_of_text(cases[i].input), NULL, NULL);
        enum codec_step step = codec_eof(relay.server, &ev);
        if (cases[i].event >= 0) {
            assert_int_equal(step, CODEC_EVENT);
            assert_int_equal((int)ev.kind, cases[i].event);
            assert_int_equal(codec_eof(relay.server, &ev), CODEC_MORE);
        } else {
            assert_int_equal(step, cases[i].event == -1 ? CODEC_BAD : CODEC_MORE);
        }
        relay_fini(&relay);
    }
}

static struct message response(uint16_t status, bool has_body, uint64_t length)
{
    return (struct message){.kind = MESSAGE_RESPONSE,
                            .version = MESSAGE_HTTP_1_1,
                            .status = status,
                            .reason = SLICE("R"),
                            .content_length = length,
                            .has_body = has_body,
                            .keep_alive = true};
}

/* One request, one response with the body "abc" in two pieces; what the client gets. */
static void assert_response(const char *request, struct message message, const char *expected)
{
    struct relay relay;
    relay_init(&relay);
    struct slice in = slice_of_text(request);
    struct codec_event ev;
    while (codec_read(relay.server, &in, &ev) == CODEC_EVENT) {
    }
    struct codec_cmd cmd = {.kind = CODEC_CMD_HEAD, .stream = 1, .message = &message};
    relay_command(relay.server, &relay.down, cmd);
    struct buf data;
    buf_init(&data, &relay.pool);
    cmd = (struct codec_cmd){.kind = CODEC_CMD_DATA, .stream = 1, .data = &data};
    if (message.has_body) {
        buf_append(&data, SLICE("a"));
        relay_command(relay.server, &relay.down, cmd);
        buf_append(&data, SLICE("bc"));
        cmd.end = true;
        relay_command(relay.server, &relay.down, cmd);
        assert_true(buf_empty(&data));
    }
    cmd = (struct codec_cmd){.kind = CODEC_CMD_END, .stream = 1};
    relay_command(relay.server, &relay.down, cmd);
    char down[512] = {0};
    (void)buf_peek(&relay.down, (struct span){(uint8_t *)down, sizeof down - 1});
    assert_string_equal(down, expected);
    relay_fini(&relay);
}

static void test_responses_are_framed_for_their_request(void **state)
{
    (void)state;
    const uint64_t unknown = MESSAGE_LENGTH_UNKNOWN;
    const char *get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const char *head = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
    const char *old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_response(get, response(200, true, 3), "HTTP/1.1 200 R\r\nContent-Length: 3\r\n\r\nabc");
    assert_response(get, response(200, true, unknown),
                    "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n"
                    "0\r\n\r\n");
    assert_response(old, response(200, true, unknown),
                    "HTTP/1.1 200 R\r\nConnection: close\r\n\r\nabc");
    assert_response(old, response(200, true, 3),
                    "HTTP/1.1 200 R\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc");
    assert_response(head, response(200, false, 3), "HTTP/1.1 200 R\r\nContent-Length: 3\r\n\r\n");
    assert_response(head, response(200, true, 3), "HTTP/1.1 200 R\r\nContent-Length: 3\r\n\r\n");
    assert_response(head, response(200, false, unknown), "HTTP/1.1 200 R\r\n\r\n");
    assert_response(get, response(204, false, unknown), "HTTP/1.1 204 R\r\n\r\n");
    assert_response(get, response(204, false, 0), "HTTP/1.1 204 R\r\n\r\n");
    assert_response(get, response(304, false, 9), "HTTP/1.1 304 R\r\nContent-Length: 9\r\n\r\n");
    assert_response(get, response(200, false, unknown),
                    "HTTP/1.1 200 R\r\nContent-Length: 0\r\n\r\n");
}

static void test_a_wrong_length_ends_the_connection(void **state)
{
    (void)state;
    for (int length = 2; length <= 4; length++) {
        struct relay relay;
        relay_init(&relay);
        struct slice in = SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        struct codec_event ev;
        while (codec_read(relay.server, &in, &ev) == CODEC_EVENT) {
        }
        struct message message = response(200, true, (uint64_t)length);
        struct buf data;
        buf_init(&data, &relay.pool);
        buf_append(&data, SLICE("abc"));
        relay_command(relay.server, &relay.down,
                      (struct codec_cmd){.kind = CODEC_CMD_HEAD, .stream = 1, .message = &message});
        relay_command(
            relay.server, &relay.down,
            (struct codec_cmd){.kind = CODEC_CMD_DATA, .stream = 1, .data = &data, .end = true});
        assert_true(buf_empty(&data));
        assert_int_equal(codec_finished(relay.server), length != 3);
        relay_fini(&relay);
    }
}

static void test_titles_for_names_from_http2(void **state)
{
    (void)state;
    struct message message = response(200, false, MESSAGE_LENGTH_UNKNOWN);
    struct header fields[] = {
        {.name = SLICE("x-request-id"), .value = SLICE("a-b"), .id = HEADER_X_REQUEST_ID},
        {.name = SLICE("te"), .value = SLICE("x"), .id = HEADER_TE},
        {.name = SLICE("gone"), .value = SLICE("x"), .dropped = true},
    };
    message.version = MESSAGE_HTTP_2;
    message.headers = (struct headers){fields, 3, 3, 0};
    assert_response("GET / HTTP/1.1\r\nHost: h\r\n\r\n", message,
                    "HTTP/1.1 200 OK\r\nX-Request-Id: a-b\r\nContent-Length: 0\r\n\r\n");
}

static void test_goaway_makes_the_next_answer_the_last(void **state)
{
    (void)state;
    struct relay relay;
    relay_init(&relay);
    relay_command(relay.server, &relay.down,
                  (struct codec_cmd){.kind = CODEC_CMD_GOAWAY, .len = 1});
    assert_false(codec_finished(relay.server));
    relay_run(&relay, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n"), NULL, NULL);
    assert_int_equal(relay.requests, 1);
    assert_true(codec_finished(relay.server));
    relay_fini(&relay);
    relay_init(&relay);
    relay_command(relay.server, &relay.down, (struct codec_cmd){.kind = CODEC_CMD_GOAWAY});
    assert_true(codec_finished(relay.server));
    relay_fini(&relay);
}

/* Whoever counts the time says that it is over; the codec has a stream for the answer, once. */
static void test_a_late_head_can_be_answered(void **state)
{
    (void)state;
    struct relay relay;
    relay_init(&relay);
    relay_run(&relay, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /late HTTP/1.1\r\nHo"), NULL,
              NULL);
    assert_int_equal(relay.requests, 1);
    assert_int_equal(codec_give_up_head(relay.server), 2);
    assert_int_equal(codec_give_up_head(relay.server), 0);
    assert_false(codec_finished(relay.server)); /* it owes the answer */
    relay_answer(&relay, 2, 408);
    assert_true(codec_finished(relay.server));
    struct slice rest = SLICE("st: h\r\n\r\n");
    struct codec_event ev;
    assert_int_equal(codec_read(relay.server, &rest, &ev), CODEC_MORE);
    assert_int_equal(rest.len, 0);
    relay_fini(&relay);
}

/* Request after request over one server and one client codec. */
static void test_a_steady_request_allocates_nothing(void **state)
{
    (void)state;
    struct relay relay;
    struct codec_event ev;
    uint64_t calls = 0;
    relay_init(&relay);
    for (int i = 0; i < 20; i++) {
        struct slice in = SLICE("POST /a/../b HTTP/1.1\r\nHost: h\r\nX-Mine: v\r\n"
                                "Content-Length: 3\r\n\r\nabc");
        if (i == 2) {
            calls = alloc_counts().calls;
        }
        while (codec_read(relay.server, &in, &ev) == CODEC_EVENT) {
            relay_up(&relay, &ev);
        }
        relay_upstream_answers(&relay);
        relay_answer(&relay, ev.stream, 200);
        buf_consume(&relay.up, relay.up.len);
        buf_consume(&relay.down, relay.down.len);
    }
    assert_int_equal(alloc_counts().calls, calls);
    relay_fini(&relay);
}

static void test_a_body_that_was_not_called_for_closes(void **state)
{
    (void)state;
    const char *expecting = "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                            "Content-Length: 3\r\n\r\n";
    assert_response(expecting, response(413, false, 0),
                    "HTTP/1.1 413 R\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_request),
        cmocka_unit_test(test_pipelined_requests_with_bodies),
        cmocka_unit_test(test_a_trailer_section_of_head_fields_is_none),
        cmocka_unit_test(test_http_1_0_closes_unless_asked),
        cmocka_unit_test(test_hop_fields_go_and_others_stay),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_bad_chunks_are_refused),
        cmocka_unit_test(test_heads_have_limits),
        cmocka_unit_test(test_extensions_are_bounded),
        cmocka_unit_test(test_an_upgrade_becomes_a_tunnel),
        cmocka_unit_test(test_connect_is_a_tunnel_or_an_answer),
        cmocka_unit_test(test_eof_says_what_was_cut),
        cmocka_unit_test(test_responses_are_framed_for_their_request),
        cmocka_unit_test(test_a_wrong_length_ends_the_connection),
        cmocka_unit_test(test_titles_for_names_from_http2),
        cmocka_unit_test(test_goaway_makes_the_next_answer_the_last),
        cmocka_unit_test(test_a_late_head_can_be_answered),
        cmocka_unit_test(test_a_steady_request_allocates_nothing),
        cmocka_unit_test(test_a_body_that_was_not_called_for_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
