#include <string.h>

#include "tests/support/h1_trace.h"
#include "tests/support/unit.h"

static const struct message get_request = {.kind = MESSAGE_REQUEST,
                                           .version = MESSAGE_HTTP_1_1,
                                           .method = {(const uint8_t *)"GET", 3},
                                           .path = {(const uint8_t *)"/", 1},
                                           .authority = {(const uint8_t *)"h", 1},
                                           .content_length = MESSAGE_LENGTH_UNKNOWN};

static struct message request(const char *method)
{
    struct message message = get_request;
    message.method = slice_of_text(method);
    return message;
}

/* The text of a response however it is cut. */
static void assert_reply(const struct message *to, const char *input, bool eof,
                         const char *expected)
{
    struct slice bytes = slice_of_text(input);
    for (size_t cut = 0; cut <= bytes.len + 1; cut++) {
        struct reply reply;
        reply_init(&reply, to);
        if (cut <= bytes.len) {
            reply_run(&reply, bytes, cut_once, &cut, eof);
        } else {
            reply_run(&reply, bytes, cut_every_byte, NULL, eof);
        }
        assert_string_equal(reply.trace.text, expected);
        reply_fini(&reply);
    }
}

static void assert_bad(const struct message *to, const char *input, const char *label)
{
    struct reply reply;
    reply_init(&reply, to);
    reply_run(&reply, slice_of_text(input), cut_every_byte, NULL, false);
    assert_int_equal(reply.last, CODEC_BAD);
    assert_string_equal(codec_bad_name(reply.client->bad), label);
    assert_true(codec_finished(reply.client));
    assert_int_equal(codec_open(reply.client), 0);
    reply_fini(&reply);
}

#define OK_HEAD(framing, rest) "HEAD 1\n  status=200\n  reason: OK\n  " framing "\n" rest

static void test_bodies_of_every_framing(void **state)
{
    (void)state;
    assert_reply(&get_request, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false,
                 OK_HEAD("body=1 length=3", "DATA 1 [abc]\nEND 1\nfinished=0\n"));
    assert_reply(
        &get_request,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        false,
        OK_HEAD("body=1 length=-1", "DATA 1 [abc]\nTRAILERS 1\n  X  : y\nEND 1\nfinished=0\n"));
    assert_reply(&get_request, "HTTP/1.1 200 OK\r\n\r\nabc", true,
                 OK_HEAD("body=1 length=-1", "DATA 1 [abc]\nEND 1\nfinished=1\n"));
    assert_reply(&get_request, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", false,
                 OK_HEAD("body=1 length=1", "DATA 1 [a]\nEND 1\nfinished=1\n"));
    assert_reply(&get_request,
                 "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na", false,
                 OK_HEAD("body=1 length=1", "DATA 1 [a]\nEND 1\nfinished=0\n"));
    assert_reply(&get_request, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                 false, OK_HEAD("body=0 length=0", "END 1\nfinished=1\n"));
}

static void test_heads_without_a_body(void **state)
{
    (void)state;
    struct message head = request("HEAD");
    assert_reply(&head, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false,
                 OK_HEAD("body=0 length=3", "END 1\nfinished=0\n"));
    assert_reply(&head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false,
                 OK_HEAD("body=0 length=-1", "END 1\nfinished=0\n"));
    assert_reply(&get_request, "HTTP/1.1 304 OK\r\nContent-Length: 3\r\n\r\n", false,
                 "HEAD 1\n  status=304\n  reason: OK\n  body=0 length=3\nEND 1\nfinished=0\n");
    assert_reply(&get_request, "HTTP/1.1 204\r\nContent-Length: 3\r\n\r\n", false,
                 "HEAD 1\n  status=204\n  reason: \n  body=0 length=-1\nEND 1\nfinished=0\n");
}

static void test_interims_come_before_the_answer(void **state)
{
    (void)state;
    assert_reply(&get_request,
                 "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n"
                 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                 false,
                 "INTERIM 1\n  status=100\n  reason: \n  body=0 length=-1\n"
                 "INTERIM 1\n  status=103\n  reason: E\n  body=0 length=-1\n  Link  : x\n" OK_HEAD(
                     "body=0 length=0", "END 1\nfinished=0\n"));
}

static void test_tunnels(void **state)
{
    (void)state;
    struct message upgrade = get_request;
    upgrade.protocol = SLICE("websocket");
    assert_reply(&upgrade,
                 "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 x",
                 true,
                 "HEAD 1\n  status=101\n  reason: S\n  body=0 length=-1\nDATA 1 [HTTP/1.1 x]\n"
                 "END 1\nfinished=0\n");
    assert_reply(&upgrade, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", false,
                 OK_HEAD("body=1 length=1", "DATA 1 [a]\nEND 1\nfinished=0\n"));
    struct message connect = request("CONNECT");
    connect.connect = true;
    assert_reply(&connect, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", true,
                 OK_HEAD("body=0 length=-1", "DATA 1 [ab]\nEND 1\nfinished=0\n"));
    assert_bad(&get_request, "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
               "protocol_error");
}

static void test_what_is_cut(void **state)
{
    (void)state;
    assert_reply(&get_request, "", true, "RESET 1\nfinished=1\n");
    assert_reply(&get_request, "HTTP/1.1 2", true, "RESET 1\nfinished=1\n");
    assert_reply(&get_request, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true,
                 OK_HEAD("body=1 length=3", "DATA 1 [ab]\nRESET 1\nfinished=1\n"));
    assert_reply(&get_request, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", true,
                 OK_HEAD("body=1 length=-1", "RESET 1\nfinished=1\n"));
}

static void test_bad_responses_lose_the_connection(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"HTTP/2.0 200 OK\r\n\r\n", "status_line"},
        {"HTTP/1.1 20 OK\r\n\r\n", "status_line"},
        {"HTTP/1.1 2000 OK\r\n\r\n", "status_line"},
        {"HTTP/1.1 099 OK\r\n\r\n", "status_line"},
        {"HTTP/1.1  200 OK\r\n\r\n", "status_line"},
        {"HTTP/1.1\t200 OK\r\n\r\n", "status_line"},
        {"http/1.1 200 OK\r\n\r\n", "status_line"},
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", "status_line"},
        {"ICY 200 OK\r\n\r\n", "status_line"},
        {"HTTP/1.1 200 OK\n\n", "bare_lf"},
        {"HTTP/1.1 200 O\rK\r\n\r\n", "bare_cr"},
        {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "obs_fold"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "content_length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "content_length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         "length_and_coding"},
        {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_coding_in_1_0"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer_coding"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "transfer_coding_order"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", "chunk"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx", "protocol_error"},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        assert_bad(&get_request, cases[i][0], cases[i][1]);
    }
    char flood[2048] = "";
    for (int i = 0; i <= H1_INTERIM_MAX; i++) {
        (void)strncat(flood, "HTTP/1.1 100 \r\n\r\n", sizeof flood - strlen(flood) - 1);
    }
    assert_bad(&get_request, flood, "flood");
}

static void assert_written(struct message *message, const char *expected)
{
    struct reply reply;
    reply_init(&reply, message);
    char text[512] = {0};
    (void)buf_peek(&reply.out, (struct span){(uint8_t *)text, sizeof text - 1});
    assert_string_equal(text, expected);
    reply_fini(&reply);
}

static void test_requests_are_written(void **state)
{
    (void)state;
    struct message message = request("POST");
    message.has_body = true;
    assert_written(&message, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    message.content_length = 12345;
    message.expect_continue = true;
    assert_written(&message, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12345\r\n"
                             "Expect: 100-continue\r\n\r\n");
    message = request("CONNECT");
    message.version = MESSAGE_HTTP_2;
    message.protocol = SLICE("websocket");
    assert_written(&message, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\n\r\n");
    message = request("CONNECT");
    message.connect = true;
    assert_written(&message, "CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n");
}

/* Fields beyond one chunk of output. */
static void test_a_large_head_is_written_whole(void **state)
{
    (void)state;
    static uint8_t value[30000];
    memset(value, 'v', sizeof value);
    struct header fields[] = {{.name = SLICE("a"), .value = slice_of(value, sizeof value)},
                              {.name = SLICE("b"), .value = slice_of(value, sizeof value)}};
    struct message message = get_request;
    message.headers = (struct headers){fields, 2, 2, 0};
    struct reply reply;
    reply_init(&reply, &message);
    static uint8_t text[70000];
    size_t len = buf_peek(&reply.out, (struct span){text, sizeof text});
    assert_int_equal(len, strlen("GET / HTTP/1.1\r\nHost: h\r\na: \r\nb: \r\n\r\n") + 60000);
    assert_memory_equal(text + len - 8, "vvvv\r\n\r\n", 8);
    reply_fini(&reply);
}

static void test_large_chunks_are_moved_and_small_ones_copied(void **state)
{
    (void)state;
    static uint8_t body[5000];
    memset(body, 'b', sizeof body);
    struct message message = request("POST");
    message.has_body = true;
    struct reply reply;
    reply_init(&reply, &message);
    buf_consume(&reply.out, reply.out.len);
    struct buf data;
    buf_init(&data, &reply.pool);
    buf_append(&data, slice_of(body, sizeof body));
    struct codec_cmd cmd = {.kind = CODEC_CMD_DATA, .stream = 1, .data = &data};
    assert_int_equal(codec_write(reply.client, &reply.out, &cmd), CODEC_DONE);
    buf_append(&data, slice_of(body, 26));
    cmd.end = true;
    assert_int_equal(codec_write(reply.client, &reply.out, &cmd), CODEC_DONE);
    assert_true(buf_empty(&data));
    char text[6000] = {0};
    assert_int_equal(buf_peek(&reply.out, (struct span){(uint8_t *)text, sizeof text - 1}),
                     6 + 5000 + 2 + 4 + 26 + 2 + 5);
    assert_memory_equal(text, "1388\r\nbb", 8);
    assert_string_equal(text + 5000, "bbbbbb\r\n1a\r\nbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n0\r\n\r\n");
    reply_fini(&reply);
}

static void test_a_connection_serves_one_request_after_the_other(void **state)
{
    (void)state;
    struct reply reply;
    reply_init(&reply, &get_request);
    assert_int_equal(codec_open(reply.client), 0);
    reply_run(&reply, SLICE("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"), NULL, NULL, false);
    assert_int_equal(codec_open(reply.client), 2);
    struct message message = request("POST");
    message.has_body = true;
    struct codec_cmd cmd = {.kind = CODEC_CMD_HEAD, .stream = 2, .message = &message};
    assert_int_equal(codec_write(reply.client, &reply.out, &cmd), CODEC_DONE);
    /* An answer before the end of the request: the connection is not used again. */
    reply_run(&reply, SLICE("HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n"), NULL, NULL, false);
    assert_int_equal(codec_open(reply.client), 0);
    cmd = (struct codec_cmd){.kind = CODEC_CMD_END, .stream = 2};
    assert_int_equal(codec_write(reply.client, &reply.out, &cmd), CODEC_DONE);
    assert_true(codec_finished(reply.client));
    reply_fini(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_of_every_framing),
        cmocka_unit_test(test_heads_without_a_body),
        cmocka_unit_test(test_interims_come_before_the_answer),
        cmocka_unit_test(test_tunnels),
        cmocka_unit_test(test_what_is_cut),
        cmocka_unit_test(test_bad_responses_lose_the_connection),
        cmocka_unit_test(test_requests_are_written),
        cmocka_unit_test(test_a_large_head_is_written_whole),
        cmocka_unit_test(test_large_chunks_are_moved_and_small_ones_copied),
        cmocka_unit_test(test_a_connection_serves_one_request_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
