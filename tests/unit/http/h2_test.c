/* The HTTP/2 codec: our client against our server, and scripted peers, frame by frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/h2_end.h"

#include <cmocka.h>

/* --- a scripted peer: frames into a growing buffer ------------------------------------------- */

struct script {
    uint8_t bytes[400000];
    size_t len;
};

static struct script *script_new(bool preface)
{
    struct script *script = NEW(struct script);
    if (preface) {
        memcpy(script->bytes, H2_PREFACE, H2_PREFACE_BYTES);
        script->len = H2_PREFACE_BYTES;
    }
    return script;
}

static void frame(struct script *script, int type, int flags, uint32_t stream, const void *payload,
                  size_t len)
{
    CHECK(script->len + len + 9 <= sizeof script->bytes);
    uint8_t *at = h2_frame_write(script->bytes + script->len, (uint32_t)len,
                                 (enum h2_frame_type)type, (uint8_t)flags, stream);
    if (len > 0) {
        memcpy(at, payload, len);
    }
    script->len += len + 9;
}

static void word(struct script *script, int type, uint32_t stream, uint32_t value)
{
    uint8_t bytes[4];
    (void)h2_put_u32(bytes, value);
    frame(script, type, 0, stream, bytes, 4);
}

static void setting(struct script *script, uint32_t name, uint32_t value)
{
    uint8_t bytes[6];
    (void)h2_put_u32(h2_put_u16(bytes, name), value);
    frame(script, H2_FRAME_SETTINGS, 0, 0, bytes, 6);
}

/* Fields as literals without indexing, "name\0value\0name\0value\0" in `text`. */
static size_t literals(uint8_t *block, const char *const *fields)
{
    size_t at = 0;
    for (; fields[0] != NULL; fields += 2) {
        block[at++] = 0;
        for (int i = 0; i < 2; i++) {
            size_t len = strlen(fields[i]);
            CHECK(len < 127);
            block[at++] = (uint8_t)len;
            memcpy(block + at, fields[i], len);
            at += len;
        }
    }
    return at;
}

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void head(struct script *script, uint32_t stream, bool end, const char *const *fields)
{
    uint8_t block[4096];
    size_t len = literals(block, fields);
    frame(script, H2_FRAME_HEADERS, H2_FLAG_END_HEADERS | (end ? H2_FLAG_END_STREAM : 0), stream,
          block, len);
}

#define GET  FIELDS(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
#define POST FIELDS(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a")

static void begin(struct script *script)
{
    frame(script, H2_FRAME_SETTINGS, 0, 0, NULL, 0);
}

static void data(struct script *script, uint32_t stream, bool end, const char *text)
{
    frame(script, H2_FRAME_DATA, end ? H2_FLAG_END_STREAM : 0, stream, text, strlen(text));
}

/* A server or client that has heard the script. */
static void hear(struct h2_end *end, struct script *script, size_t step)
{
    h2_end_feed(end, slice_of(script->bytes, script->len), step);
    script->len = 0;
}

static void expect_frames(struct h2_end *end, const char *want)
{
    char *frames = h2_end_frames(end);
    assert_string_equal(frames, want);
    mem_free(frames);
}

static void drop_output(struct h2_end *end)
{
    size_t len;
    mem_free(h2_end_take(end, &len));
}

/* --- our client against our server ----------------------------------------------------------- */

struct pair {
    struct h2_end client;
    struct h2_end server;
};

static struct pair *pair_new(const struct h2_options *client, const struct h2_options *server)
{
    struct pair *pair = NEW(struct pair);
    h2_end_init(&pair->client, client);
    h2_end_init(&pair->server, server);
    return pair;
}

static void carry(struct pair *pair, size_t step)
{
    for (int i = 0; i < 1000; i++) {
        bool moved = h2_end_carry(&pair->client, &pair->server, step);
        moved |= h2_end_carry(&pair->server, &pair->client, step);
        if (!moved) {
            return;
        }
    }
    fail_msg("the ends never stop talking");
}

static struct pair *pair_default(void)
{
    struct h2_options client = h2_options_default(CODEC_CLIENT);
    struct h2_options server = h2_options_default(CODEC_SERVER);
    client.peer_frames = true;
    server.peer_frames = true;
    client.output_mark = 1U << 30; /* only windows hold it back */
    server.enable_connect_protocol = true;
    return pair_new(&client, &server);
}

static void pair_free(struct pair **pair)
{
    h2_end_fini(&(*pair)->client);
    h2_end_fini(&(*pair)->server);
    FREE(*pair);
}

static void pair_clear(struct pair *pair)
{
    h2_end_clear(&pair->client);
    h2_end_clear(&pair->server);
}

static struct header field(const char *name, const char *value)
{
    struct header made = {.name = slice_of_text(name), .value = slice_of_text(value)};
    made.id = (uint8_t)header_id_of(made.name);
    return made;
}

static struct message request(const char *method, const char *path)
{
    return (struct message){.kind = MESSAGE_REQUEST,
                            .method = slice_of_text(method),
                            .scheme = SLICE("http"),
                            .authority = SLICE("order-service:8000"),
                            .path = slice_of_text(path),
                            .content_length = MESSAGE_LENGTH_UNKNOWN};
}

static struct message response(uint16_t status)
{
    return (struct message){
        .kind = MESSAGE_RESPONSE, .status = status, .content_length = MESSAGE_LENGTH_UNKNOWN};
}

static void send_head(struct h2_end *end, uint32_t stream, const struct message *message, bool last)
{
    struct codec_cmd cmd = {.kind = message_is_informational(message) && message->status != 0 &&
                                            message->kind == MESSAGE_RESPONSE
                                        ? CODEC_CMD_INTERIM
                                        : CODEC_CMD_HEAD,
                            .stream = stream,
                            .message = message,
                            .end = last};
    assert_int_equal(h2_end_write(end, cmd), CODEC_DONE);
}

static enum codec_room send_data(struct h2_end *end, uint32_t stream, struct buf *bytes, bool last)
{
    return h2_end_write(
        end,
        (struct codec_cmd){.kind = CODEC_CMD_DATA, .stream = stream, .data = bytes, .end = last});
}

static void send_text(struct h2_end *end, uint32_t stream, const char *text, bool last)
{
    struct buf bytes;
    buf_init(&bytes, &end->bufs);
    buf_append(&bytes, slice_of_text(text));
    assert_int_equal(send_data(end, stream, &bytes, last), CODEC_DONE);
    assert_true(buf_empty(&bytes));
}

static void command(struct h2_end *end, enum codec_cmd_kind kind, uint32_t stream, uint32_t code,
                    uint64_t len)
{
    (void)h2_end_write(
        end, (struct codec_cmd){.kind = kind, .stream = stream, .code = code, .len = len});
}

static void a_request_and_its_answer(void **state)
{
    (void)state;
    static const size_t steps[] = {0, 1, 2, 3, 7, 9, 10, 23, 24, 25};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        struct pair *pair = pair_default();
        uint32_t id = codec_open(pair->client.codec);
        assert_int_equal(id, 1);
        struct header fields[] = {field("X-Custom", "1"), field("Connection", "close"),
                                  field("x-request-id", "abc"), field("Host", "other"),
                                  field("content-length", "99")};
        struct message message = request("POST", "/orders?x=1");
        message.headers = (struct headers){.field = fields, .count = 5, .capacity = 5};
        message.content_length = 5;
        message.te_trailers = true;
        send_head(&pair->client, id, &message, false);
        send_text(&pair->client, id, "hello", true);
        carry(pair, steps[i]);
        assert_string_equal(pair->server.text,
                            "SETTINGS\nHEAD 1 POST http order-service:8000 /orders?x=1 te "
                            "x-custom=1 x-request-id=abc length:5\nDATA 1 hello\nEND 1\n");
        struct message early = response(103);
        send_head(&pair->server, 1, &early, false);
        struct message answer = response(200);
        struct header answer_fields[] = {field("server", "x")};
        answer.headers = (struct headers){.field = answer_fields, .count = 1, .capacity = 1};
        send_head(&pair->server, 1, &answer, false);
        send_text(&pair->server, 1, "wor", false);
        send_text(&pair->server, 1, "ld", false);
        struct message trailers = response(0);
        struct header trailer_fields[] = {field("grpc-status", "0"), field("x-t", "1")};
        trailers.headers = (struct headers){.field = trailer_fields, .count = 2, .capacity = 2};
        (void)h2_end_write(
            &pair->server,
            (struct codec_cmd){.kind = CODEC_CMD_TRAILERS, .stream = 1, .message = &trailers});
        carry(pair, steps[i]);
        assert_string_equal(pair->client.text,
                            "SETTINGS\nINTERIM 1 103\nHEAD 1 200 server=x\nDATA 1 world\n"
                            "TRAILERS 1 grpc-status=0 x-t=1 end\nEND 1\n");
        assert_int_equal(h2_streams(pair->client.codec), 0);
        assert_int_equal(h2_streams(pair->server.codec), 0);
        assert_true(h2_settled(pair->client.codec));
        assert_true(h2_settled(pair->server.codec));
        pair_free(&pair);
    }
}

static void head_and_end_in_one(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    struct message message = request("GET", "/");
    send_head(&pair->client, codec_open(pair->client.codec), &message, true);
    carry(pair, 0);
    assert_string_equal(pair->server.text, "SETTINGS\nHEAD 1 GET http order-service:8000 / end\n"
                                           "END 1\n");
    struct message answer = response(204);
    answer.content_length = 0; /* not written with a 204 */
    send_head(&pair->server, 1, &answer, true);
    carry(pair, 0);
    assert_string_equal(pair->client.text, "SETTINGS\nHEAD 1 204 end\nEND 1\n");
    assert_int_equal(h2_streams(pair->client.codec), 0);
    pair_free(&pair);
}

static void extended_connect_is_an_upgrade(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    carry(pair, 0);
    assert_true(h2_peer_takes_connect_protocol(pair->client.codec));
    pair_clear(pair);
    struct message message = request("GET", "/chat");
    message.protocol = SLICE("websocket");
    send_head(&pair->client, codec_open(pair->client.codec), &message, false);
    carry(pair, 0);
    assert_string_equal(pair->server.text,
                        "HEAD 1 GET http order-service:8000 /chat protocol:websocket\n");
    struct message answer = response(101);
    (void)h2_end_write(&pair->server,
                       (struct codec_cmd){.kind = CODEC_CMD_HEAD, .stream = 1, .message = &answer});
    send_text(&pair->server, 1, "frames", false);
    send_text(&pair->client, 1, "up", true);
    carry(pair, 0);
    assert_string_equal(pair->client.text, "HEAD 1 200\nDATA 1 frames");
    assert_string_equal(pair->server.text,
                        "HEAD 1 GET http order-service:8000 /chat protocol:websocket\n"
                        "DATA 1 up\nEND 1\n");
    message = request("CONNECT", "");
    message.connect = true;
    send_head(&pair->client, codec_open(pair->client.codec), &message, false);
    pair_clear(pair);
    carry(pair, 0);
    assert_string_equal(pair->server.text, "HEAD 3 CONNECT  order-service:8000  connect\n");
    pair_free(&pair);
}

/* A body larger than every window, read slowly, arrives whole; the window grows on the way. */
static void a_large_body_flows(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    struct message message = request("PUT", "/");
    uint32_t id = codec_open(pair->client.codec);
    send_head(&pair->client, id, &message, false);
    struct buf body;
    buf_init(&body, &pair->client.bufs);
    uint8_t *bytes = mem_new(3000000);
    buf_append(&body, slice_of(bytes, 3000000));
    mem_free(bytes);
    size_t fulls = 0;
    while (send_data(&pair->client, id, &body, true) == CODEC_FULL) {
        assert_true(++fulls < 200);
        (void)h2_end_carry(&pair->client, &pair->server, 0);
        (void)h2_end_carry(&pair->server, &pair->client, 0);
        h2_end_clear(&pair->server);
    }
    carry(pair, 0);
    assert_int_equal(pair->server.data_bytes, 3000000);
    assert_int_equal(pair->server.ends, 1);
    assert_non_null(strstr(pair->client.text, "WINDOW 1\n"));
    pair_free(&pair);
}

/* How many rounds of sending and receiving a body of 12 MB takes, where each takes so long. */
static size_t rounds_of_body(const uint64_t *trips_us, unsigned count)
{
    struct pair *pair = pair_default();
    struct message message = request("PUT", "/");
    uint32_t id = codec_open(pair->client.codec);
    send_head(&pair->client, id, &message, false);
    struct buf body;
    buf_init(&body, &pair->client.bufs);
    uint8_t *bytes = mem_new(12000000);
    buf_append(&body, slice_of(bytes, 12000000));
    mem_free(bytes);
    uint64_t now_us = 1000000;
    size_t rounds = 0;
    while (send_data(&pair->client, id, &body, true) == CODEC_FULL) {
        codec_tick(pair->server.codec, now_us);
        (void)h2_end_carry(&pair->client, &pair->server, 0);
        (void)h2_end_carry(&pair->server, &pair->client, 0);
        h2_end_clear(&pair->server);
        now_us += trips_us[rounds < count ? rounds : count - 1];
        rounds++;
    }
    pair_free(&pair);
    return rounds;
}

/* A window grows while the path, not a queue, is what takes the time. */
static void a_window_grows_with_the_round_trip_alone(void **state)
{
    (void)state;
    const uint64_t far[] = {20000};
    const uint64_t queued[] = {100, 100, 1000};
    const uint64_t forgotten[] = {100, 100, 61000000, 1000};
    size_t grown = rounds_of_body(far, COUNT_OF(far));
    size_t stopped = rounds_of_body(queued, COUNT_OF(queued));
    assert_true(grown < 25);
    assert_true(stopped > 2 * grown);
    assert_true(rounds_of_body(forgotten, COUNT_OF(forgotten)) < stopped);
}

static void a_window_that_is_kept_stops_its_stream_only(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    pair->server.keep_window = true;
    struct buf body;
    buf_init(&body, &pair->client.bufs);
    uint8_t *bytes = mem_new(100000);
    for (int i = 0; i < 4; i++) {
        struct message message = request("PUT", "/");
        uint32_t id = codec_open(pair->client.codec);
        send_head(&pair->client, id, &message, false);
        buf_append(&body, slice_of(bytes, 100000));
        assert_int_equal(send_data(&pair->client, id, &body, true), CODEC_FULL);
        carry(pair, 0);
        assert_int_equal(send_data(&pair->client, id, &body, true), CODEC_FULL);
        assert_int_equal(body.len, 100000 - 65535);
        assert_int_equal(pair->client.codec->ops->window(pair->client.codec, id), 0);
        carry(pair, 0);
        buf_clear(&body);
    }
    mem_free(bytes);
    assert_int_equal(pair->server.data_bytes, 4 * 65535);
    pair->server.keep_window = false;
    uint32_t id = codec_open(pair->client.codec);
    struct message message = request("PUT", "/");
    send_head(&pair->client, id, &message, false);
    send_text(&pair->client, id, "free", true);
    pair_clear(pair);
    carry(pair, 0);
    assert_non_null(strstr(pair->server.text, "DATA 9 free\nEND 9\n"));
    command(&pair->server, CODEC_CMD_CONSUMED, 3, 0, 65535);
    pair_clear(pair);
    carry(pair, 0);
    assert_string_equal(pair->client.text, "WINDOW 3\n");
    pair_free(&pair);
}

static void streams_are_counted(void **state)
{
    (void)state;
    struct h2_options client = h2_options_default(CODEC_CLIENT);
    struct h2_options server = h2_options_default(CODEC_SERVER);
    server.max_concurrent_streams = 2;
    client.max_concurrent_streams = 3; /* before the server's SETTINGS came */
    struct pair *pair = pair_new(&client, &server);
    struct message message = request("GET", "/");
    for (unsigned i = 0; i < 3; i++) {
        send_head(&pair->client, codec_open(pair->client.codec), &message, true);
    }
    assert_int_equal(codec_open(pair->client.codec), 0);
    carry(pair, 0);
    assert_string_equal(pair->client.text, "SETTINGS\nRESET 5 REFUSED_STREAM\n");
    assert_int_equal(pair->server.heads, 2);
    assert_int_equal(codec_open(pair->client.codec), 0);
    struct message answer = response(200);
    send_head(&pair->server, 1, &answer, true);
    carry(pair, 0);
    assert_int_equal(codec_open(pair->client.codec), 7);
    pair_free(&pair);
}

static void going_away_in_two_steps(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    struct message message = request("GET", "/");
    send_head(&pair->client, codec_open(pair->client.codec), &message, true);
    carry(pair, 0);
    pair_clear(pair);
    command(&pair->server, CODEC_CMD_GOAWAY, 0, H2_NO_ERROR, 1);
    send_head(&pair->client, codec_open(pair->client.codec), &message, true); /* crosses it */
    carry(pair, 0);
    assert_string_equal(pair->client.text, "GOAWAY 2147483647 NO_ERROR\n");
    assert_int_equal(pair->server.heads, 2);
    assert_int_equal(codec_open(pair->client.codec), 0);
    assert_false(codec_finished(pair->server.codec));
    command(&pair->server, CODEC_CMD_GOAWAY, 0, H2_NO_ERROR, 0);
    carry(pair, 0);
    struct message answer = response(200);
    send_head(&pair->server, 1, &answer, true);
    send_head(&pair->server, 3, &answer, true);
    pair_clear(pair);
    carry(pair, 0);
    assert_string_equal(pair->client.text, "HEAD 1 200 end\nEND 1\nHEAD 3 200 end\nEND 3\n");
    assert_true(codec_finished(pair->server.codec));
    assert_true(codec_finished(pair->client.codec));
    pair_free(&pair);
}

static void streams_above_goaway_are_refused(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    struct message message = request("GET", "/");
    carry(pair, 0);
    command(&pair->server, CODEC_CMD_GOAWAY, 0, H2_NO_ERROR, 0);
    for (int i = 0; i < 3; i++) {
        send_head(&pair->client, codec_open(pair->client.codec), &message, true);
    }
    pair_clear(pair);
    carry(pair, 0);
    assert_int_equal(pair->server.heads, 0);
    assert_int_equal(pair->client.resets, 3);
    assert_non_null(strstr(pair->client.text, "RESET 5 REFUSED_STREAM\n"));
    assert_int_equal(h2_streams(pair->client.codec), 0);
    pair_free(&pair);
}

static void resets_pings_and_peer_frames_travel(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    struct message message = request("GET", "/");
    send_head(&pair->client, codec_open(pair->client.codec), &message, false);
    send_head(&pair->client, codec_open(pair->client.codec), &message, false);
    carry(pair, 0);
    pair_clear(pair);
    command(&pair->client, CODEC_CMD_RESET, 1, H2_CANCEL, 0);
    command(&pair->server, CODEC_CMD_RESET, 3, H2_INTERNAL_ERROR, 0);
    send_text(&pair->client, 3, "too late", true);
    (void)h2_end_write(&pair->client,
                       (struct codec_cmd){.kind = CODEC_CMD_PING, .bytes = SLICE("8 bytes.")});
    (void)h2_end_write(
        &pair->server,
        (struct codec_cmd){.kind = CODEC_CMD_PEER, .stream = 0, .bytes = SLICE("draining")});
    carry(pair, 0);
    assert_string_equal(pair->server.text, "RESET 1 CANCEL\n");
    assert_string_equal(pair->client.text,
                        "RESET 3 INTERNAL_ERROR\nPEER 0 draining\nPONG 0 8 bytes.\n");
    command(&pair->client, CODEC_CMD_CONSUMED, 3, 0, 0);
    send_head(&pair->server, 3, &(struct message){.kind = MESSAGE_RESPONSE, .status = 200}, true);
    carry(pair, 0);
    send_head(&pair->client, codec_open(pair->client.codec), &message, false);
    carry(pair, 0);
    pair_clear(pair);
    h2_end_eof(&pair->server);
    assert_string_equal(pair->server.text, "RESET 5 INTERNAL_ERROR\n");
    assert_true(codec_finished(pair->server.codec));
    pair_free(&pair);
}

static void a_head_of_many_frames(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    static char value[50001];
    memset(value, 'v', 50000);
    struct header fields[] = {field("x-long", value), field("x-short", "s")};
    struct message message = request("GET", "/");
    message.headers = (struct headers){.field = fields, .count = 2, .capacity = 2};
    send_head(&pair->client, codec_open(pair->client.codec), &message, true);
    carry(pair, 1000);
    assert_non_null(strstr(pair->server.text, " x-short=s end\nEND 1\n"));
    /* Larger than the server takes: 431, and the connection goes on. */
    static char larger[62001];
    memset(larger, 'v', 62000);
    fields[0] = field("x-long", larger);
    pair_clear(pair);
    send_head(&pair->client, codec_open(pair->client.codec), &message, true);
    carry(pair, 0);
    assert_string_equal(pair->server.text, "REFUSED 3 head_too_large\n");
    struct message answer = response(431);
    send_head(&pair->server, 3, &answer, true);
    carry(pair, 0);
    assert_string_equal(pair->client.text, "HEAD 3 431 end\nEND 3\n");
    assert_int_equal(h2_streams(pair->server.codec), 1);
    pair_free(&pair);
}

/* The contract's promise: a steady exchange takes nothing from the heap, and an idle connection is
 * small. */
static void a_steady_exchange_allocates_nothing(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    uint64_t calls = 0;
    struct message message = request("GET", "/orders");
    struct header fields[] = {field("user-agent", "test"), field("x-custom", "same"),
                              field("x-request-id", "0123456789abcdef")};
    message.headers = (struct headers){.field = fields, .count = 3, .capacity = 3};
    struct message answer = response(200);
    answer.content_length = 5;
    for (int i = 0; i < 100; i++) {
        uint8_t wire[2048];
        uint64_t before = alloc_counts().calls;
        uint32_t id = codec_open(pair->client.codec);
        send_head(&pair->client, id, &message, true);
        struct h2_end *ends[] = {&pair->server, &pair->client};
        for (int leg = 0; leg < 2; leg++) {
            struct h2_end *from = ends[1 - leg];
            (void)codec_write(from->codec, &from->out, NULL);
            size_t len = buf_peek(&from->out, (struct span){wire, sizeof wire});
            buf_clear(&from->out);
            struct slice in = slice_of(wire, len);
            struct codec_event ev;
            unsigned events = 0;
            while (codec_read(ends[leg]->codec, &in, &ev) == CODEC_EVENT) {
                events++;
            }
            assert_true(events >= 2);
            if (leg == 0) {
                send_head(&pair->server, id, &answer, false);
                send_text(&pair->server, id, "hello", true);
            }
        }
        calls = alloc_counts().calls - before;
    }
    assert_int_equal(calls, 0);
    assert_true(h2_memory(pair->server.codec) < 2560);
    assert_true(h2_memory(pair->client.codec) < 2560);
    pair_free(&pair);
}

/* --- scripted peers -------------------------------------------------------------------------- */

static const uint8_t zeros[H2_FRAME_MAX + 1];

struct attack {
    const char *name;
    void (*play)(struct script *script);
    const char *events; /* of the server, in the end */
    const char *frames; /* that it wrote after its opening */
};

static void expect_attack(const struct attack *attack)
{
    static const size_t steps[] = {0, 1, 5};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        struct h2_options options = h2_options_default(CODEC_SERVER);
        struct h2_end server;
        struct script *script = script_new(true);
        h2_end_init(&server, &options);
        begin(script);
        hear(&server, script, 0);
        drop_output(&server);
        h2_end_clear(&server);
        attack->play(script);
        hear(&server, script, steps[i]);
        if (strcmp(server.text, attack->events) != 0) {
            fail_msg("%s: events:\n%s", attack->name, server.text);
        }
        char *frames = h2_end_frames(&server);
        if (strcmp(frames, attack->frames) != 0) {
            fail_msg("%s: frames:\n%s", attack->name, frames);
        }
        mem_free(frames);
        h2_end_fini(&server);
        mem_free(script);
    }
}

#define GOAWAY(label_len, last, code) "GOAWAY 0 0 " label_len " " last " " code "\n"
#define PROTOCOL(last)                GOAWAY("22", last, "PROTOCOL_ERROR")

#define ATTACKS(X)                                                                                 \
    X(data_on_idle, data(s, 1, true, "x"), "BAD protocol_error\n", PROTOCOL("0"))                  \
    X(rst_on_idle, word(s, H2_FRAME_RST_STREAM, 1, 0), "BAD protocol_error\n", PROTOCOL("0"))      \
    X(window_on_idle, word(s, H2_FRAME_WINDOW_UPDATE, 1, 5), "BAD protocol_error\n",               \
      PROTOCOL("0"))                                                                               \
    X(even_stream, head(s, 2, true, GET), "BAD protocol_error\n", PROTOCOL("0"))                   \
    X(stream_zero, head(s, 0, true, GET), "BAD protocol_error\n", PROTOCOL("0"))                   \
    X(lower_stream, (head(s, 5, false, GET), head(s, 3, true, GET)),                               \
      "HEAD 5 GET http a /\nBAD protocol_error\n", PROTOCOL("5"))                                  \
    X(reused_stream, (head(s, 1, true, GET), head(s, 1, true, GET)),                               \
      "HEAD 1 GET http a / end\nEND 1\nRESET 1 STREAM_CLOSED\n",                                   \
      "RST_STREAM 1 0 4 STREAM_CLOSED\n")                                                          \
    X(data_after_end, (head(s, 1, true, GET), data(s, 1, false, "x")),                             \
      "HEAD 1 GET http a / end\nEND 1\nRESET 1 STREAM_CLOSED\n",                                   \
      "RST_STREAM 1 0 4 STREAM_CLOSED\n")                                                          \
    X(head_after_rst,                                                                              \
      (head(s, 1, false, GET), word(s, H2_FRAME_RST_STREAM, 1, 8), head(s, 1, true, GET)),         \
      "HEAD 1 GET http a /\nRESET 1 CANCEL\nBAD stream_closed\n",                                  \
      GOAWAY("21", "1", "STREAM_CLOSED"))                                                          \
    X(data_after_rst,                                                                              \
      (head(s, 1, false, GET), word(s, H2_FRAME_RST_STREAM, 1, 8), data(s, 1, false, "x")),        \
      "HEAD 1 GET http a /\nRESET 1 CANCEL\n", "RST_STREAM 1 0 4 STREAM_CLOSED\n")                 \
    X(ping_on_stream, frame(s, H2_FRAME_PING, 0, 1, "12345678", 8), "BAD protocol_error\n",        \
      PROTOCOL("0"))                                                                               \
    X(ping_short, frame(s, H2_FRAME_PING, 0, 0, "1234567", 7), "BAD frame_size\n",                 \
      GOAWAY("18", "0", "FRAME_SIZE_ERROR"))                                                       \
    X(ping, frame(s, H2_FRAME_PING, 0, 0, "12345678", 8), "", "PING 0 1 8\n")                      \
    X(settings_on_stream, frame(s, H2_FRAME_SETTINGS, 0, 1, NULL, 0), "BAD protocol_error\n",      \
      PROTOCOL("0"))                                                                               \
    X(settings_odd, frame(s, H2_FRAME_SETTINGS, 0, 0, "12345", 5), "BAD frame_size\n",             \
      GOAWAY("18", "0", "FRAME_SIZE_ERROR"))                                                       \
    X(settings_ack_full, frame(s, H2_FRAME_SETTINGS, 1, 0, "123456", 6), "BAD frame_size\n",       \
      GOAWAY("18", "0", "FRAME_SIZE_ERROR"))                                                       \
    X(settings_push, setting(s, 2, 2), "BAD protocol_error\n", PROTOCOL("0"))                      \
    X(settings_window, setting(s, 4, 0x80000000U), "BAD flow_control\n",                           \
      GOAWAY("20", "0", "FLOW_CONTROL_ERROR"))                                                     \
    X(settings_frame_size, setting(s, 5, 16383), "BAD protocol_error\n", PROTOCOL("0"))            \
    X(settings_connect, setting(s, 8, 2), "BAD protocol_error\n", PROTOCOL("0"))                   \
    X(settings_unknown, setting(s, 99, 2), "SETTINGS\n", "SETTINGS 0 1 0\n")                       \
    X(settings_moves_window_over,                                                                  \
      (head(s, 1, false, GET), word(s, H2_FRAME_WINDOW_UPDATE, 1, 0x7fff0000),                     \
       setting(s, 4, 0x7fffffff)),                                                                 \
      "HEAD 1 GET http a /\nBAD flow_control\n", GOAWAY("20", "1", "FLOW_CONTROL_ERROR"))          \
    X(push_promise, frame(s, H2_FRAME_PUSH_PROMISE, 4, 1, "\0\0\0\2\x82", 5),                      \
      "BAD protocol_error\n", PROTOCOL("0"))                                                       \
    X(frame_too_large, frame(s, H2_FRAME_HEADERS, 4, 1, zeros, sizeof zeros), "BAD frame_size\n",  \
      GOAWAY("18", "0", "FRAME_SIZE_ERROR"))                                                       \
    X(unknown_frame, frame(s, 0x99, 0xff, 7, "abc", 3), "", "")                                    \
    X(peer_frame_not_asked_for, frame(s, 0xe7, 0, 0, "abc", 3), "", "")                            \
    X(window_zero, word(s, H2_FRAME_WINDOW_UPDATE, 0, 0), "BAD protocol_error\n", PROTOCOL("0"))   \
    X(window_zero_on_stream, (head(s, 1, false, GET), word(s, H2_FRAME_WINDOW_UPDATE, 1, 0)),      \
      "HEAD 1 GET http a /\nRESET 1 PROTOCOL_ERROR\n", "RST_STREAM 1 0 4 PROTOCOL_ERROR\n")        \
    X(window_over, word(s, H2_FRAME_WINDOW_UPDATE, 0, 0x7fffffff), "BAD flow_control\n",           \
      GOAWAY("20", "0", "FLOW_CONTROL_ERROR"))                                                     \
    X(window_over_on_stream,                                                                       \
      (head(s, 1, false, GET), word(s, H2_FRAME_WINDOW_UPDATE, 1, 0x7fffffff)),                    \
      "HEAD 1 GET http a /\nRESET 1 FLOW_CONTROL_ERROR\n",                                         \
      "RST_STREAM 1 0 4 FLOW_CONTROL_ERROR\n")                                                     \
    X(window_short, frame(s, H2_FRAME_WINDOW_UPDATE, 0, 0, "123", 3), "BAD frame_size\n",          \
      GOAWAY("18", "0", "FRAME_SIZE_ERROR"))                                                       \
    X(rst_short, (head(s, 1, false, GET), frame(s, H2_FRAME_RST_STREAM, 0, 1, "123", 3)),          \
      "HEAD 1 GET http a /\nBAD frame_size\n", GOAWAY("18", "1", "FRAME_SIZE_ERROR"))              \
    X(priority_short, (head(s, 1, false, GET), frame(s, H2_FRAME_PRIORITY, 0, 1, "123", 3)),       \
      "HEAD 1 GET http a /\nRESET 1 FRAME_SIZE_ERROR\n", "RST_STREAM 1 0 4 FRAME_SIZE_ERROR\n")    \
    X(priority_idle, frame(s, H2_FRAME_PRIORITY, 0, 7, "\0\0\0\1\5", 5), "", "")                   \
    X(continuation_alone, frame(s, H2_FRAME_CONTINUATION, 4, 1, "\x82", 1),                        \
      "BAD protocol_error\n", PROTOCOL("0"))                                                       \
    X(block_interrupted,                                                                           \
      (frame(s, H2_FRAME_HEADERS, 0, 1, "\x82", 1), frame(s, H2_FRAME_PING, 0, 0, "12345678", 8)), \
      "BAD protocol_error\n", PROTOCOL("0"))                                                       \
    X(block_of_another_stream,                                                                     \
      (frame(s, H2_FRAME_HEADERS, 0, 1, "\x82", 1),                                                \
       frame(s, H2_FRAME_CONTINUATION, 4, 3, "\x84", 1)),                                          \
      "BAD protocol_error\n", PROTOCOL("0"))                                                       \
    X(padding_too_long, frame(s, H2_FRAME_HEADERS, 0xc, 1, "\x09\x82", 2), "BAD protocol_error\n", \
      PROTOCOL("0"))                                                                               \
    X(data_padding_too_long, (head(s, 1, false, POST), frame(s, H2_FRAME_DATA, 8, 1, "\x02x", 2)), \
      "HEAD 1 POST http a /\nBAD protocol_error\n", PROTOCOL("1"))                                 \
    X(data_padded, (head(s, 1, false, POST), frame(s, H2_FRAME_DATA, 9, 1, "\x02xyz\0\0", 6)),     \
      "HEAD 1 POST http a /\nDATA 1 xyz\nEND 1\n", "")                                             \
    X(hpack_broken, frame(s, H2_FRAME_HEADERS, 5, 1, "\xff\xff\xff\xff\xff", 5),                   \
      "BAD compression\n", GOAWAY("19", "0", "COMPRESSION_ERROR"))                                 \
    X(self_dependent, frame(s, H2_FRAME_HEADERS, 0x25, 1, "\0\0\0\1\5\x82\x84\x86\x41\1a", 11),    \
      "", "RST_STREAM 1 0 4 PROTOCOL_ERROR\n")                                                     \
    X(length_too_short,                                                                            \
      (head(s, 1, false,                                                                           \
            FIELDS(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a",          \
                   "content-length", "3")),                                                        \
       data(s, 1, true, "ab")),                                                                    \
      "HEAD 1 POST http a / length:3\nREFUSED 1 content_length\n", "")                             \
    X(length_too_long,                                                                             \
      (head(s, 1, false,                                                                           \
            FIELDS(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a",          \
                   "content-length", "1")),                                                        \
       data(s, 1, false, "ab"), data(s, 1, true, "ab")),                                           \
      "HEAD 1 POST http a / length:1\nREFUSED 1 content_length\n", "")                             \
    X(length_without_body,                                                                         \
      head(s, 1, true,                                                                             \
           FIELDS(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",            \
                  "content-length", "3")),                                                         \
      "REFUSED 1 content_length\n", "")                                                            \
    X(trailers_without_end, (head(s, 1, false, POST), head(s, 1, false, FIELDS("x-t", "1"))),      \
      "HEAD 1 POST http a /\nREFUSED 1 protocol_error\n", "")                                      \
    X(trailers_with_pseudo, (head(s, 1, false, POST), head(s, 1, true, FIELDS(":path", "/x"))),    \
      "HEAD 1 POST http a /\nREFUSED 1 field\n", "")                                               \
    X(goaway, frame(s, H2_FRAME_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\2", 8), "GOAWAY 0 INTERNAL_ERROR\n", \
      "")                                                                                          \
    X(goaway_on_stream, frame(s, H2_FRAME_GOAWAY, 0, 1, "\0\0\0\0\0\0\0\2", 8),                    \
      "BAD protocol_error\n", PROTOCOL("0"))

#define X(attack, steps, seen, wrote)                                                              \
    static void play_##attack(struct script *s)                                                    \
    {                                                                                              \
        steps;                                                                                     \
    }
ATTACKS(X)
#undef X

static void each_wrong_frame_gets_what_its_rule_says(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
#define X(attack, steps, seen, wrote) {#attack, play_##attack, seen, wrote},
        ATTACKS(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(attacks); i++) {
        expect_attack(&attacks[i]);
    }
}

#define REQUEST_HEADS(X)                                                                           \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",   \
      "Upper", "1")                                                                                \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",   \
      "connection", "close")                                                                       \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",   \
      "transfer-encoding", "chunked")                                                              \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",   \
      "te", "gzip")                                                                                \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",   \
      "x", " v")                                                                                   \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",   \
      "x y", "v")                                                                                  \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", "x", "1",            \
      ":authority", "a")                                                                           \
    X("REFUSED 1 field\n", ":method", "GET", ":method", "GET", ":scheme", "http", ":path", "/",    \
      ":authority", "a")                                                                           \
    X("REFUSED 1 field\n", ":method", "GET", ":path", "/", ":authority", "a")                      \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":authority", "a")                 \
    X("REFUSED 1 field\n", ":scheme", "http", ":path", "/", ":authority", "a")                     \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":status", "200")    \
    X("REFUSED 1 field\n", ":method", "GET", ":scheme", "http", ":path", "/", ":other", "200")     \
    X("REFUSED 1 field\n", ":method", "G T", ":scheme", "http", ":path", "/", ":authority", "a")   \
    X("REFUSED 1 target\n", ":method", "GET", ":scheme", "http", ":path", "", ":authority", "a")   \
    X("REFUSED 1 target\n", ":method", "GET", ":scheme", "http", ":path", "x", ":authority", "a")  \
    X("REFUSED 1 target\n", ":method", "GET", ":scheme", "http", ":path", "*", ":authority", "a")  \
    X("REFUSED 1 target\n", ":method", "GET", ":scheme", "http", ":path", "/a b", ":authority",    \
      "a")                                                                                         \
    X("REFUSED 1 target\n", ":method", "GET", ":scheme", "http", ":path", "/a#b", ":authority",    \
      "a")                                                                                         \
    X("REFUSED 1 host\n", ":method", "GET", ":scheme", "http", ":path", "/")                       \
    X("REFUSED 1 host\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a")  \
    X("REFUSED 1 host\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",    \
      "host", "b")                                                                                 \
    X("REFUSED 1 host\n", ":method", "GET", ":scheme", "http", ":path", "/", "host", "b", "host",  \
      "b")                                                                                         \
    X("REFUSED 1 content_length\n", ":method", "GET", ":scheme", "http", ":path", "/",             \
      ":authority", "a", "content-length", "0", "content-length", "0")                             \
    X("REFUSED 1 content_length\n", ":method", "GET", ":scheme", "http", ":path", "/",             \
      ":authority", "a", "content-length", "+1")                                                   \
    X("REFUSED 1 expect\n", ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",  \
      "expect", "more")                                                                            \
    X("REFUSED 1 field\n", ":method", "CONNECT", ":scheme", "http", ":path", "/", ":authority",    \
      "a")                                                                                         \
    X("REFUSED 1 field\n", ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http",      \
      ":path", "/", ":authority", "a")                                                             \
    X("REFUSED 1 host\n", ":method", "CONNECT", "host", "a")                                       \
    X("HEAD 1 CONNECT  a:80  connect end\nEND 1\n", ":method", "CONNECT", ":authority", "a:80")    \
    X("HEAD 1 OPTIONS http a * end\nEND 1\n", ":method", "OPTIONS", ":scheme", "http", ":path",    \
      "*", ":authority", "a")                                                                      \
    X("HEAD 1 GET http b / end\nEND 1\n", ":method", "GET", ":scheme", "http", ":path", "/",       \
      "host", "b")                                                                                 \
    X("HEAD 1 GET http a / te end\nEND 1\n", ":method", "GET", ":scheme", "http", ":path", "/",    \
      ":authority", "a", "te", "trailers", "host", "A")                                            \
    X("HEAD 1 GET http a /c end\nEND 1\n", ":method", "GET", ":scheme", "http", ":path",           \
      "/a/../%63", ":authority", "a")                                                              \
    X("HEAD 1 GET http a / cookie=a=1; b=2; c x=y end\nEND 1\n", ":method", "GET", ":scheme",      \
      "http", ":path", "/", ":authority", "a", "cookie", "a=1", "x", "y", "cookie", "b=2",         \
      "cookie", "c")                                                                               \
    X("HEAD 1 PUT http a / expect length:0 end\nEND 1\n", ":method", "PUT", ":scheme", "http",     \
      ":path", "/", ":authority", "a", "expect", "100-continue", "content-length", "0")

static void heads_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *want;
        const char *fields[24];
    } heads[] = {
#define X(text, ...) {text, {__VA_ARGS__, NULL}},
        REQUEST_HEADS(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct h2_options options = h2_options_default(CODEC_SERVER);
        struct h2_end server;
        struct script *script = script_new(true);
        h2_end_init(&server, &options);
        begin(script);
        head(script, 1, true, heads[i].fields);
        hear(&server, script, 0);
        if (strcmp(server.text + strlen("SETTINGS\n"), heads[i].want) != 0) {
            fail_msg("head %zu wanted\n%sgot\n%s", i, heads[i].want, server.text);
        }
        if (server.refused == 1) { /* the caller answers, the codec makes the error known */
            struct message answer = response(400);
            drop_output(&server);
            send_head(&server, 1, &answer, true);
            char *frames = h2_end_frames(&server);
            assert_memory_equal(frames, "HEADERS 1 5 ", strlen("HEADERS 1 5 "));
            bool expect = strstr(heads[i].want, "expect") != NULL;
            assert_int_equal(strstr(frames, "RST_STREAM 1 0 4 PROTOCOL_ERROR") == NULL, expect);
            mem_free(frames);
            assert_int_equal(h2_streams(server.codec), 0);
        }
        h2_end_fini(&server);
        mem_free(script);
    }
}

static void responses_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *want;
        bool end;
        const char *fields[10];
    } heads[] = {
        {"HEAD 1 200 end\nEND 1\n", true, {":status", "200"}},
        {"HEAD 1 200 x=y\n", false, {":status", "200", "x", "y"}},
        {"INTERIM 1 100\n", false, {":status", "100"}},
        {"REFUSED 1 protocol_error\n", true, {":status", "100"}},
        {"REFUSED 1 status_line\n", false, {":status", "101"}},
        {"REFUSED 1 status_line\n", false, {":status", "99"}},
        {"REFUSED 1 status_line\n", false, {":status", "2000"}},
        {"REFUSED 1 status_line\n", false, {"x", "y"}},
        {"REFUSED 1 field\n", false, {":status", "200", ":status", "200"}},
        {"REFUSED 1 field\n", false, {":status", "200", ":path", "/"}},
        {"REFUSED 1 field\n", false, {":status", "200", "connection", "close"}},
        {"REFUSED 1 content_length\n", true, {":status", "200", "content-length", "5"}},
        {"HEAD 1 304 length:5 end\nEND 1\n", true, {":status", "304", "content-length", "5"}},
        {"HEAD 1 204\n", false, {":status", "204", "content-length", "5"}},
    };
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        struct h2_options options = h2_options_default(CODEC_CLIENT);
        struct h2_end client;
        struct script *script = script_new(false);
        h2_end_init(&client, &options);
        struct message message = request("GET", "/");
        send_head(&client, codec_open(client.codec), &message, true);
        begin(script);
        head(script, 1, heads[i].end, heads[i].fields);
        hear(&client, script, 0);
        if (strcmp(client.text + strlen("SETTINGS\n"), heads[i].want) != 0) {
            fail_msg("head %zu wanted\n%sgot\n%s", i, heads[i].want, client.text);
        }
        h2_end_fini(&client);
        mem_free(script);
    }
}

static void a_client_judges_frames_too(void **state)
{
    (void)state;
    struct h2_options options = h2_options_default(CODEC_CLIENT);
    for (int i = 0; i < 6; i++) {
        struct h2_end client;
        struct script *script = script_new(false);
        h2_end_init(&client, &options);
        struct message message = request("GET", "/");
        send_head(&client, codec_open(client.codec), &message, true);
        begin(script);
        switch (i) {
        case 0:
            head(script, 3, true, FIELDS(":status", "200"));
            break;
        case 1:
            head(script, 2, true, FIELDS(":status", "200"));
            break;
        case 2:
            setting(script, 2, 1);
            break;
        case 3:
            data(script, 1, true, "x");
            break;
        case 4:
            frame(script, H2_FRAME_PUSH_PROMISE, 4, 1, "\0\0\0\2\x82", 5);
            break;
        default:
            head(script, 1, true, FIELDS(":status", "200"));
            head(script, 1, true, FIELDS(":status", "200"));
            break;
        }
        hear(&client, script, 0);
        static const char *const want[] = {
            "SETTINGS\nBAD protocol_error\n",
            "SETTINGS\nBAD protocol_error\n",
            "SETTINGS\nBAD protocol_error\n",
            "SETTINGS\nREFUSED 1 protocol_error\n",
            "SETTINGS\nBAD protocol_error\n",
            "SETTINGS\nHEAD 1 200 end\nEND 1\nBAD stream_closed\n",
        };
        assert_string_equal(client.text, want[i]);
        h2_end_fini(&client);
        mem_free(script);
    }
}

static void a_bad_opening_ends_it(void **state)
{
    (void)state;
    static const char *const openings[] = {"GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nXX"};
    for (size_t i = 0; i < COUNT_OF(openings); i++) {
        struct h2_options options = h2_options_default(CODEC_SERVER);
        struct h2_end server;
        h2_end_init(&server, &options);
        h2_end_feed(&server, slice_of_text(openings[i]), i);
        assert_string_equal(server.text, "BAD protocol_error\n");
        expect_frames(&server, "SETTINGS 0 0 12\nWINDOW_UPDATE 0 0 4 2147418112\n" PROTOCOL("0"));
        h2_end_fini(&server);
    }
    struct h2_options options = h2_options_default(CODEC_CLIENT);
    struct h2_end client;
    struct script *script = script_new(false);
    h2_end_init(&client, &options);
    frame(script, H2_FRAME_PING, 0, 0, "12345678", 8);
    hear(&client, script, 0);
    assert_string_equal(client.text, "BAD protocol_error\n");
    mem_free(script);
    h2_end_fini(&client);
}

/* --- floods: each ends the connection, within its budget, whatever the peer reads ------------- */

typedef void (*flood_step)(struct script *script, uint32_t round);

static void flood_ping(struct script *s, uint32_t round)
{
    (void)round;
    frame(s, H2_FRAME_PING, 0, 0, "12345678", 8);
}

static void flood_settings(struct script *s, uint32_t round)
{
    (void)round;
    frame(s, H2_FRAME_SETTINGS, 0, 0, NULL, 0);
}

static void flood_priority(struct script *s, uint32_t round)
{
    frame(s, H2_FRAME_PRIORITY, 0, 1 + 2 * (round % 50), "\x7f\0\0\1\5", 5);
}

static void flood_window(struct script *s, uint32_t round)
{
    (void)round;
    word(s, H2_FRAME_WINDOW_UPDATE, 0, 1);
}

static void flood_empty_data(struct script *s, uint32_t round)
{
    if (round == 0) {
        head(s, 1, false, POST);
    }
    data(s, 1, false, "");
}

static void flood_unknown(struct script *s, uint32_t round)
{
    (void)round;
    frame(s, 0x77, 0, 0, NULL, 0);
}

static void flood_rapid_reset(struct script *s, uint32_t round)
{
    head(s, 1 + 2 * round, true, GET);
    word(s, H2_FRAME_RST_STREAM, 1 + 2 * round, H2_CANCEL);
}

static void flood_made_you_reset(struct script *s, uint32_t round)
{
    head(s, 1 + 2 * round, true, GET);
    word(s, H2_FRAME_WINDOW_UPDATE, 1 + 2 * round, 0);
}

static void flood_made_you_reset_by_data(struct script *s, uint32_t round)
{
    head(s, 1 + 2 * round, true, GET);
    data(s, 1 + 2 * round, false, "x");
}

static void flood_malformed(struct script *s, uint32_t round)
{
    head(s, 1 + 2 * round, true, FIELDS(":method", "GET"));
    word(s, H2_FRAME_RST_STREAM, 1 + 2 * round, H2_CANCEL);
}

static void flood_refused(struct script *s, uint32_t round)
{
    head(s, 1 + 2 * round, true, GET);
}

static void flood_continuation(struct script *s, uint32_t round)
{
    frame(s, round == 0 ? H2_FRAME_HEADERS : H2_FRAME_CONTINUATION, 0, 1, NULL, 0);
}

static void flood_goaway(struct script *s, uint32_t round)
{
    (void)round;
    frame(s, H2_FRAME_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
}

static void flood_late_data(struct script *s, uint32_t round)
{
    if (round == 0) {
        head(s, 1, false, POST);
        word(s, H2_FRAME_RST_STREAM, 1, H2_CANCEL);
    }
    data(s, 1, false, "x");
}

static void floods_end_within_their_budget(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        flood_step step;
        uint32_t most; /* rounds that it may go on */
    } floods[] = {
        {"ping", flood_ping, 2001},
        {"settings", flood_settings, 2001},
        {"priority", flood_priority, 2001},
        {"window_update", flood_window, 2001},
        {"empty data", flood_empty_data, 2010},
        {"unknown frames", flood_unknown, 2001},
        {"rapid reset", flood_rapid_reset, 1001},
        {"made you reset", flood_made_you_reset, 501},
        {"made you reset by data", flood_made_you_reset_by_data, 501},
        {"malformed", flood_malformed, 501},
        {"refused streams", flood_refused, 1102},
        {"continuation", flood_continuation, 18},
        {"goaway", flood_goaway, 2001},
        {"late data", flood_late_data, 503},
    };
    for (size_t i = 0; i < COUNT_OF(floods); i++) {
        for (int reads = 0; reads < 2; reads++) { /* a peer that reads our answers, and one that
                                                     does not */
            struct h2_options options = h2_options_default(CODEC_SERVER);
            struct h2_end server;
            struct script *script = script_new(true);
            h2_end_init(&server, &options);
            begin(script);
            hear(&server, script, 0);
            uint32_t round = 0;
            size_t memory = 0;
            for (; round < 5000 && !server.bad; round++) {
                floods[i].step(script, round);
                hear(&server, script, 0);
                if (reads == 1 && !server.bad) {
                    drop_output(&server);
                }
                h2_end_clear(&server);
                memory = h2_memory(server.codec) > memory ? h2_memory(server.codec) : memory;
            }
            if (!server.bad || round > floods[i].most) {
                fail_msg("%s: %u rounds", floods[i].name, round);
            }
            assert_int_equal(server.codec->bad, CODEC_BAD_FLOOD);
            assert_true(memory < 60000);
            char *frames = h2_end_frames(&server);
            assert_non_null(strstr(frames, "ENHANCE_YOUR_CALM"));
            mem_free(frames);
            h2_end_fini(&server);
            mem_free(script);
        }
    }
}

/* What an honest peer does for hours never trips: time refills, and so do answers. */
static void time_and_answers_refill(void **state)
{
    (void)state;
    struct h2_options options = h2_options_default(CODEC_SERVER);
    struct h2_end server;
    struct script *script = script_new(true);
    h2_end_init(&server, &options);
    begin(script);
    for (uint32_t i = 0; i < 5000; i++) {
        codec_tick(server.codec, (uint64_t)i * 1000000);
        for (int j = 0; j < 150; j++) {
            flood_ping(script, 0);
        }
        hear(&server, script, 0);
        drop_output(&server);
    }
    assert_false(server.bad);
    for (uint32_t i = 0; i < 5000; i++) { /* half of all requests cancelled */
        head(script, 1 + 4 * i, true, GET);
        head(script, 3 + 4 * i, true, GET);
        word(script, H2_FRAME_RST_STREAM, 1 + 4 * i, H2_CANCEL);
        hear(&server, script, 0);
        struct message answer = response(200);
        send_head(&server, 3 + 4 * i, &answer, true);
        drop_output(&server);
        h2_end_clear(&server);
    }
    assert_false(server.bad);
    h2_end_fini(&server);
    mem_free(script);
}

/* A peer that hands out its window byte by byte makes us write frames of one byte: not for ever. */
static void a_window_by_the_byte_runs_out(void **state)
{
    (void)state;
    struct h2_options options = h2_options_default(CODEC_SERVER);
    struct h2_end server;
    struct script *script = script_new(true);
    h2_end_init(&server, &options);
    setting(script, H2_SETTING_INITIAL_WINDOW_SIZE, 0);
    head(script, 1, true, GET);
    hear(&server, script, 0);
    struct message answer = response(200);
    send_head(&server, 1, &answer, false);
    struct buf body;
    buf_init(&body, &server.bufs);
    uint8_t *bytes = mem_new(50000);
    buf_append(&body, slice_of(bytes, 50000));
    mem_free(bytes);
    unsigned rounds = 0;
    for (; rounds < 10000 && !server.bad; rounds++) {
        assert_int_equal(send_data(&server, 1, &body, true), CODEC_FULL);
        word(script, H2_FRAME_WINDOW_UPDATE, 1, 1);
        hear(&server, script, 0);
        drop_output(&server);
        h2_end_clear(&server);
    }
    assert_true(server.bad);
    assert_true(rounds < 2100);
    buf_clear(&body);
    h2_end_fini(&server);
    mem_free(script);
}

static void a_stream_window_is_kept_to(void **state)
{
    (void)state;
    struct h2_options options = h2_options_default(CODEC_SERVER);
    options.initial_window = 10;
    options.window_max = 10;
    struct h2_end server;
    struct script *script = script_new(true);
    h2_end_init(&server, &options);
    server.keep_window = true;
    begin(script);
    head(script, 1, false, POST);
    hear(&server, script, 0);
    data(script, 1, false, "more than ten bytes"); /* sent before it knew our SETTINGS */
    frame(script, H2_FRAME_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    head(script, 3, false, POST);
    data(script, 3, false, "ten bytes.");
    hear(&server, script, 0);
    drop_output(&server);
    h2_end_clear(&server);
    data(script, 3, false, "x");
    hear(&server, script, 0);
    assert_string_equal(server.text, "RESET 3 FLOW_CONTROL_ERROR\n");
    expect_frames(&server, "RST_STREAM 3 0 4 FLOW_CONTROL_ERROR\n");
    command(&server, CODEC_CMD_CONSUMED, 1, 0, 19);
    expect_frames(&server, "WINDOW_UPDATE 1 0 4 19\n");
    h2_end_fini(&server);
    mem_free(script);
}

static void windows_shrink_under_pressure(void **state)
{
    (void)state;
    struct pair *pair = pair_default();
    struct message message = request("PUT", "/");
    uint32_t id = codec_open(pair->client.codec);
    send_head(&pair->client, id, &message, false);
    struct buf body;
    buf_init(&body, &pair->client.bufs);
    uint8_t *bytes = mem_new(4000000);
    buf_append(&body, slice_of(bytes, 4000000));
    mem_free(bytes);
    uint32_t widest = 0;
    for (int round = 0; round < 400; round++) {
        enum codec_room room = send_data(&pair->client, id, &body, false);
        (void)h2_end_carry(&pair->client, &pair->server, 0);
        (void)h2_end_carry(&pair->server, &pair->client, 0);
        h2_end_clear(&pair->server);
        uint32_t window = pair->client.codec->ops->window(pair->client.codec, id);
        widest = window > widest ? window : widest;
        if (pair->server.data_bytes > 2500000) {
            h2_limit_windows(pair->server.codec, 65535);
        }
        if (room == CODEC_DONE) {
            break;
        }
    }
    carry(pair, 0);
    assert_int_equal(pair->server.data_bytes, 4000000);
    assert_true(widest > 200000);
    assert_true(pair->client.codec->ops->window(pair->client.codec, id) <= 65535);
    pair_free(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_and_its_answer),
        cmocka_unit_test(head_and_end_in_one),
        cmocka_unit_test(extended_connect_is_an_upgrade),
        cmocka_unit_test(a_large_body_flows),
        cmocka_unit_test(a_window_grows_with_the_round_trip_alone),
        cmocka_unit_test(a_window_that_is_kept_stops_its_stream_only),
        cmocka_unit_test(streams_are_counted),
        cmocka_unit_test(going_away_in_two_steps),
        cmocka_unit_test(streams_above_goaway_are_refused),
        cmocka_unit_test(resets_pings_and_peer_frames_travel),
        cmocka_unit_test(a_head_of_many_frames),
        cmocka_unit_test(a_steady_exchange_allocates_nothing),
        cmocka_unit_test(each_wrong_frame_gets_what_its_rule_says),
        cmocka_unit_test(heads_are_judged),
        cmocka_unit_test(responses_are_judged),
        cmocka_unit_test(a_client_judges_frames_too),
        cmocka_unit_test(a_bad_opening_ends_it),
        cmocka_unit_test(floods_end_within_their_budget),
        cmocka_unit_test(time_and_answers_refill),
        cmocka_unit_test(a_window_by_the_byte_runs_out),
        cmocka_unit_test(a_stream_window_is_kept_to),
        cmocka_unit_test(windows_shrink_under_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
