/* gRPC calls between http/grpc_client and http/server, both on one loop over loopback sockets. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/loop.h"
#include "http/grpc.h"
#include "http/grpc_client.h"
#include "http/server.h"
#include "tests/support/test_ca.h"
#include "tests/support/unit.h"

#define ECHOES     10000
#define GIVE_UP_US UINT64_C(20000000)
#define KIB        1024U

struct bench;

/* The server's end of a stream: echoes each message, in order, as fast as it is read. */
struct echo {
    struct bench *bench;
    struct grpc_stream *stream;
    struct task task;
    struct grave grave;
    uint8_t *kept; /* a message that there was no room for */
    size_t kept_len;
};

struct bench {
    struct loop *loop;
    struct http_server *server;
    struct grpc_client *client;
    struct grpc_call *call;
    struct addr at;
    struct task client_task;
    struct task call_task;
    struct timer give_up;
    struct task give_up_task;
    void (*on_call)(struct bench *);
    struct http_call *held;
    struct grpc_stream *held_stream;
    unsigned echoes;
    unsigned streams;
    unsigned refusals; /* sends that found no room */
    uint64_t sent;
    uint64_t received;
    uint64_t wanted;
    size_t size;
    bool timed_out;
    bool authorized;
    char identity[64]; /* of the last unary call's client */
};

static void free_echo(struct grave *grave)
{
    struct echo *echo = CONTAINER_OF(grave, struct echo, grave);
    mem_free(echo->kept);
    mem_free(echo);
}

static void echo_end(struct echo *echo, unsigned status, const char *text)
{
    grpc_stream_finish_take(&echo->stream, status, slice_of_text(text));
    task_cancel(&echo->task);
    loop_bury(echo->bench->loop, &echo->grave);
    echo->bench->streams--;
}

static void run_echo(struct task *task)
{
    struct echo *echo = CONTAINER_OF(task, struct echo, task);
    if (echo->kept != NULL) {
        if (!grpc_stream_send(echo->stream, slice_of(echo->kept, echo->kept_len))) {
            return;
        }
        FREE(echo->kept);
    }
    for (;;) {
        struct slice message;
        switch (grpc_stream_next(echo->stream, &message)) {
        case GRPC_NEXT_MESSAGE:
            echo->bench->echoes++;
            if (!grpc_stream_send(echo->stream, message)) {
                echo->bench->refusals++;
                echo->kept = (uint8_t *)mem_dup(message.at, message.len);
                echo->kept_len = message.len;
                return;
            }
            continue;
        case GRPC_NEXT_NONE:
            return;
        case GRPC_NEXT_END:
            echo_end(echo, GRPC_OK, "");
            return;
        case GRPC_NEXT_CLOSED:
            echo_end(echo, GRPC_CANCELLED, "");
            return;
        }
    }
}

static void serve_echo(void *owner, struct grpc_stream *stream)
{
    struct bench *bench = owner;
    struct echo *echo = NEW(struct echo);
    echo->bench = bench;
    echo->stream = stream;
    echo->task.run = run_echo;
    echo->grave.free = free_echo;
    bench->streams++;
    bench->authorized =
        slice_eq(http_request_bearer(grpc_stream_get_request(stream)), SLICE("secret"));
    grpc_stream_set_owner(stream, &echo->task);
}

static void serve_unary(void *owner, struct http_call *call)
{
    struct bench *bench = owner;
    struct slice body = http_call_get_request(call)->body;
    (void)snprintf(bench->identity, sizeof bench->identity, "%.*s",
                   SLICE_ARG(http_call_get_request(call)->identity));
    if (slice_eq(body, SLICE("hold"))) {
        bench->held = call;
    } else if (slice_eq(body, SLICE("fail"))) {
        http_call_answer_grpc_take(&call, GRPC_PERMISSION_DENIED, SLICE("nicht f\xc3\xbcr dich"),
                                   SLICE(""));
    } else {
        http_call_answer_grpc_take(&call, GRPC_OK, SLICE(""), body);
    }
}

static void serve_hold(void *owner, struct grpc_stream *stream)
{
    ((struct bench *)owner)->held_stream = stream;
}

static void serve_early(void *owner, struct grpc_stream *stream)
{
    (void)owner;
    (void)!grpc_stream_send(stream, SLICE("one"));
    (void)!grpc_stream_send(stream, SLICE(""));
    grpc_stream_finish_take(&stream, GRPC_NOT_FOUND, SLICE("enough"));
}

static void serve_text(void *owner, struct http_call *call)
{
    (void)owner;
    http_call_answer_take(&call, &(struct http_reply){.body = SLICE("no gRPC")});
}

static const struct http_route routes[] = {
    {.path = "/test.Echo/Stream",
     .kind = HTTP_ROUTE_STREAM,
     .body_max = 1U << 20,
     .stream = serve_echo},
    {.path = "/test.Echo/Hold", .kind = HTTP_ROUTE_STREAM, .stream = serve_hold},
    {.path = "/test.Echo/Early", .kind = HTTP_ROUTE_STREAM, .stream = serve_early},
    {.path = "/test.Echo/Unary", .kind = HTTP_ROUTE_UNARY, .plain = serve_unary},
    {.path = "/text", .method = "POST", .plain = serve_text},
};

static void give_up(struct task *task)
{
    struct bench *bench = CONTAINER_OF(task, struct bench, give_up_task);
    bench->timed_out = true;
    loop_stop(bench->loop);
}

static void run_call(struct task *task)
{
    struct bench *bench = CONTAINER_OF(task, struct bench, call_task);
    if (bench->call != NULL && bench->on_call != NULL) {
        bench->on_call(bench);
    }
}

static void run_client(struct task *task)
{
    struct bench *bench = CONTAINER_OF(task, struct bench, client_task);
    if (bench->call == NULL && grpc_client_get_state(bench->client) == GRPC_CLIENT_CLOSED) {
        loop_stop(bench->loop);
    }
}

static void connect_client(struct bench *bench, const struct addr *to)
{
    struct grpc_client_options options = {
        .to = *to, .authority = SLICE("test"), .owner = &bench->client_task};
    bench->client = grpc_client_new(bench->loop, &options);
}

static void bench_init(struct bench *bench)
{
    *bench = (struct bench){.loop = loop_new()};
    struct http_server_options options = {
        .routes = routes, .route_count = COUNT_OF(routes), .owner = bench};
    bench->server = http_server_new(bench->loop, &options);
    struct addr any = addr_ipv4(127, 0, 0, 1, 0);
    struct error err = {.text = ""};
    assert_true(http_server_listen(bench->server, &any, NULL, NULL, &bench->at, &err));
    assert_int_not_equal(bench->at.port, 0);
    bench->client_task.run = run_client;
    bench->call_task.run = run_call;
    bench->give_up_task.run = give_up;
    bench->give_up.task = &bench->give_up_task;
    connect_client(bench, &bench->at);
}

static void bench_run(struct bench *bench)
{
    timer_set(bench->loop, &bench->give_up, bench->loop->now_us + GIVE_UP_US);
    bench->loop->stopped = false;
    loop_run(bench->loop);
    timer_clear(&bench->give_up);
    assert_false(bench->timed_out);
}

static void stop(struct task *task)
{
    struct bench *bench = CONTAINER_OF(task, struct bench, call_task);
    loop_stop(bench->loop);
}

/* Lets everything that was posted and buried happen. */
static void bench_settle(struct bench *bench)
{
    bench->call_task.run = stop;
    loop_post(bench->loop, &bench->call_task);
    bench_run(bench);
    bench->call_task.run = run_call;
}

static void bench_fini(struct bench *bench)
{
    grpc_call_free(&bench->call);
    grpc_client_free(&bench->client);
    http_server_free(&bench->server);
    bench_settle(bench); /* owners of streams learn that they are closed */
    assert_int_equal(bench->streams, 0);
    task_cancel(&bench->client_task);
    task_cancel(&bench->call_task);
    assert_int_equal(bench->loop->bufs.bytes, 0);
    loop_free(&bench->loop);
}

static struct grpc_call_options call_options(struct bench *bench, struct slice path)
{
    return (struct grpc_call_options){
        .path = path, .authorization = SLICE("Bearer secret"), .owner = &bench->call_task};
}

static void open_stream(struct bench *bench, struct slice path, void (*on_call)(struct bench *))
{
    struct grpc_call_options options = call_options(bench, path);
    bench->on_call = on_call;
    bench->call = grpc_client_stream(bench->client, &options);
    loop_post(bench->loop, &bench->call_task);
}

static void open_unary(struct bench *bench, struct slice path, struct slice message,
                       void (*on_call)(struct bench *))
{
    struct grpc_call_options options = call_options(bench, path);
    bench->on_call = on_call;
    bench->call = grpc_client_unary(bench->client, &options, message);
}

static void assert_closed(struct bench *bench, unsigned status, const char *text)
{
    assert_true(grpc_call_closed(bench->call));
    if (grpc_call_get_status(bench->call) != status) {
        fail_msg("status %u: %.*s", grpc_call_get_status(bench->call),
                 SLICE_ARG(grpc_call_get_text(bench->call)));
    }
    char *said = mem_dup(grpc_call_get_text(bench->call).at, grpc_call_get_text(bench->call).len);
    assert_string_equal(said, text);
    mem_free(said);
}

/* Reads until CLOSED. */
static void drain_call(struct bench *bench)
{
    struct slice message;
    enum grpc_next next;
    while ((next = grpc_call_next(bench->call, &message)) == GRPC_NEXT_MESSAGE) {
        bench->received++;
    }
    if (next == GRPC_NEXT_CLOSED) {
        loop_stop(bench->loop);
    }
}

/* ---- many messages ---- */

/* Message n: its number, then bytes that follow from it. */
static size_t make_message(uint8_t *bytes, uint64_t number, size_t size)
{
    size_t len = 8 + (size == 0 ? number * 37 % 700 : size);
    (void)memcpy(bytes, &number, 8);
    (void)memset(bytes + 8, (int)(number & 0xff), len - 8);
    return len;
}

static void pump_echoes(struct bench *bench)
{
    static uint8_t bytes[1U << 20];
    struct slice message;
    enum grpc_next next;
    while ((next = grpc_call_next(bench->call, &message)) == GRPC_NEXT_MESSAGE) {
        size_t len = make_message(bytes, bench->received, bench->size);
        assert_int_equal(message.len, len);
        assert_memory_equal(message.at, bytes, len);
        bench->received++;
    }
    if (next == GRPC_NEXT_CLOSED) {
        loop_stop(bench->loop);
        return;
    }
    while (bench->sent < bench->wanted) {
        size_t len = make_message(bytes, bench->sent, bench->size);
        if (!grpc_call_send(bench->call, slice_of(bytes, len))) {
            bench->refusals++;
            return;
        }
        bench->sent++;
    }
    grpc_call_end(bench->call);
}

static void ten_thousand_messages_return_in_order(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.wanted = ECHOES;
    open_stream(&bench, SLICE("/test.Echo/Stream"), pump_echoes);
    bench_run(&bench);
    assert_closed(&bench, GRPC_OK, "");
    assert_int_equal(bench.received, ECHOES);
    assert_int_equal(bench.echoes, ECHOES);
    assert_true(bench.authorized);
    assert_true(bench.refusals > 0); /* the backlog's bound was felt */
    bench_fini(&bench);
}

static void messages_above_a_window_pass(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.wanted = 20;
    bench.size = 900 * KIB;
    open_stream(&bench, SLICE("/test.Echo/Stream"), pump_echoes);
    bench_run(&bench);
    assert_closed(&bench, GRPC_OK, "");
    assert_int_equal(bench.received, 20);
    bench_fini(&bench);
}

/* ---- back-pressure ---- */

static void send_and_never_read(struct bench *bench)
{
    static const uint8_t bytes[32 * KIB];
    while (grpc_call_send(bench->call, slice_of(bytes, sizeof bytes))) {
        bench->sent += sizeof bytes;
        assert_true(bench->sent < 64U << 20);
    }
}

static void stop_soon(struct task *task)
{
    loop_stop(CONTAINER_OF(task, struct bench, give_up_task)->loop);
}

static void run_for(struct bench *bench, uint64_t us)
{
    bench->give_up_task.run = stop_soon;
    timer_set(bench->loop, &bench->give_up, bench->loop->now_us + us);
    bench->loop->stopped = false;
    loop_run(bench->loop);
    timer_clear(&bench->give_up);
    bench->give_up_task.run = give_up;
}

static void a_peer_that_does_not_read_costs_bounded_memory(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    open_stream(&bench, SLICE("/test.Echo/Stream"), send_and_never_read);
    run_for(&bench, 300000);
    uint64_t sent = bench.sent;
    run_for(&bench, 100000);
    assert_int_equal(bench.sent, sent); /* everything stands still */
    assert_true(bench.refusals > 0);
    assert_true(bench.loop->bufs.bytes < 8U << 20);
    bench_fini(&bench);
}

static void a_held_stream_holds_a_window_at_most(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    open_stream(&bench, SLICE("/test.Echo/Hold"), send_and_never_read);
    run_for(&bench, 200000);
    assert_non_null(bench.held_stream);
    assert_true(bench.sent < 2U << 20);
    struct slice message;
    assert_int_equal(grpc_stream_next(bench.held_stream, &message), GRPC_NEXT_MESSAGE);
    assert_int_equal(message.len, 32 * KIB);
    grpc_stream_finish_take(&bench.held_stream, GRPC_ABORTED, SLICE("50 % seen"));
    bench.on_call = drain_call;
    bench_run(&bench);
    assert_closed(&bench, GRPC_ABORTED, "50 % seen");
    bench_fini(&bench);
}

/* ---- how calls end ---- */

static void unary_calls_return_message_or_status(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    open_unary(&bench, SLICE("/test.Echo/Unary"), SLICE("hello"), drain_call);
    bench_run(&bench);
    assert_closed(&bench, GRPC_OK, "");
    assert_int_equal(bench.received, 1);
    grpc_call_free(&bench.call);
    open_unary(&bench, SLICE("/test.Echo/Unary"), SLICE("fail"), drain_call);
    bench_run(&bench);
    assert_closed(&bench, GRPC_PERMISSION_DENIED, "nicht f\xc3\xbcr dich");
    assert_int_equal(bench.received, 1);
    bench_fini(&bench);
}

static void an_unknown_method_is_unimplemented(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    open_unary(&bench, SLICE("/test.Echo/Nothing"), SLICE(""), drain_call);
    bench_run(&bench);
    assert_closed(&bench, GRPC_UNIMPLEMENTED, "no such method here");
    grpc_call_free(&bench.call);
    open_unary(&bench, SLICE("/text"), SLICE(""), drain_call);
    bench_run(&bench);
    assert_closed(&bench, GRPC_UNIMPLEMENTED, "no such method here");
    bench_fini(&bench);
}

static void messages_before_an_early_end_are_given(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    for (unsigned i = 0; i < 300; i++) { /* more than streams at once: each is given back */
        bench.received = 0;
        open_stream(&bench, SLICE("/test.Echo/Early"), drain_call);
        bench_run(&bench);
        assert_int_equal(bench.received, 2);
        assert_closed(&bench, GRPC_NOT_FOUND, "enough");
        grpc_call_free(&bench.call);
    }
    bench_fini(&bench);
}

static void a_message_above_the_bound_ends_the_stream(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.wanted = 1;
    bench.size = (1U << 20) - 8;
    open_stream(&bench, SLICE("/test.Echo/Stream"), pump_echoes);
    bench_run(&bench);
    assert_closed(&bench, GRPC_OK, "");
    grpc_call_free(&bench.call);
    static const uint8_t large[(1U << 20) + 1];
    open_stream(&bench, SLICE("/test.Echo/Stream"), drain_call);
    assert_true(grpc_call_send(bench.call, slice_of(large, sizeof large)));
    bench_run(&bench);
    assert_closed(&bench, GRPC_RESOURCE_EXHAUSTED, "a message is larger than is taken here");
    bench_fini(&bench);
}

static void an_answer_above_the_bound_ends_the_call(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    struct grpc_call_options options = call_options(&bench, SLICE("/test.Echo/Unary"));
    options.message_max = 4;
    bench.on_call = drain_call;
    bench.call = grpc_client_unary(bench.client, &options, SLICE("12345"));
    bench_run(&bench);
    assert_closed(&bench, GRPC_RESOURCE_EXHAUSTED, "a message is larger than is taken here");
    bench_fini(&bench);
}

static void a_deadline_ends_a_call_and_the_handler_learns_it(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    struct grpc_call_options options = call_options(&bench, SLICE("/test.Echo/Unary"));
    options.deadline_us = 50000;
    bench.on_call = drain_call;
    bench.call = grpc_client_unary(bench.client, &options, SLICE("hold"));
    bench_run(&bench);
    assert_closed(&bench, GRPC_DEADLINE_EXCEEDED, "no answer within the deadline");
    run_for(&bench, 50000);
    assert_non_null(bench.held);
    assert_true(http_call_gone(bench.held));
    struct slice sent =
        headers_value(http_call_get_request(bench.held)->headers, HEADER_GRPC_TIMEOUT);
    assert_true(slice_eq(sent, SLICE("50m")));
    http_call_answer_grpc_take(&bench.held, GRPC_OK, SLICE(""), SLICE("late"));
    bench_fini(&bench);
}

static void a_call_outlives_its_server(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    open_unary(&bench, SLICE("/test.Echo/Unary"), SLICE("hold"), drain_call);
    run_for(&bench, 50000);
    assert_non_null(bench.held);
    struct grpc_call *unary = bench.call;
    open_stream(&bench, SLICE("/test.Echo/Hold"), drain_call);
    run_for(&bench, 50000);
    assert_non_null(bench.held_stream);
    http_server_free(&bench.server);
    assert_true(http_call_gone(bench.held));
    assert_true(grpc_stream_closed(bench.held_stream));
    bench_run(&bench);
    assert_closed(&bench, GRPC_UNAVAILABLE, "connection to test: closed by the server");
    assert_int_equal(grpc_client_get_state(bench.client), GRPC_CLIENT_CLOSED);
    http_call_answer_grpc_take(&bench.held, GRPC_OK, SLICE(""), SLICE("late"));
    assert_true(grpc_stream_send(bench.held_stream, SLICE("late")));
    grpc_stream_finish_take(&bench.held_stream, GRPC_OK, SLICE(""));
    grpc_call_free(&unary);
    bench_fini(&bench);
}

static void a_draining_server_lets_streams_end(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    open_stream(&bench, SLICE("/test.Echo/Hold"), drain_call);
    run_for(&bench, 50000);
    assert_non_null(bench.held_stream);
    http_server_drain(bench.server, NULL);
    run_for(&bench, 50000);
    assert_int_equal(grpc_client_get_state(bench.client), GRPC_CLIENT_DRAINING);
    struct grpc_call_options options = call_options(&bench, SLICE("/test.Echo/Unary"));
    struct grpc_call *refused = grpc_client_unary(bench.client, &options, SLICE("x"));
    struct slice message;
    assert_int_equal(grpc_call_next(refused, &message), GRPC_NEXT_CLOSED);
    assert_int_equal(grpc_call_get_status(refused), GRPC_UNAVAILABLE);
    grpc_call_free(&refused);
    grpc_stream_finish_take(&bench.held_stream, GRPC_OK, SLICE(""));
    bench_run(&bench);
    assert_closed(&bench, GRPC_OK, "");
    grpc_call_free(&bench.call);
    run_for(&bench, 1500000); /* second GOAWAY, and the end */
    assert_int_equal(http_server_connections(bench.server), 0);
    bench_fini(&bench);
}

static void a_refused_connection_says_so(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    grpc_client_free(&bench.client);
    http_server_free(&bench.server); /* its port is closed now */
    connect_client(&bench, &bench.at);
    struct grpc_call_options options = call_options(&bench, SLICE("/test.Echo/Unary"));
    struct grpc_call *call = grpc_client_unary(bench.client, &options, SLICE("x"));
    bench_run(&bench);
    char text[128];
    (void)snprintf(text, sizeof text, "connect to 127.0.0.1:%u: connection refused", bench.at.port);
    assert_true(slice_eq(grpc_client_why(bench.client), slice_of_text(text)));
    struct slice message;
    assert_int_equal(grpc_call_next(call, &message), GRPC_NEXT_CLOSED);
    assert_int_equal(grpc_call_get_status(call), GRPC_UNAVAILABLE);
    assert_true(slice_eq(grpc_call_get_text(call), slice_of_text(text)));
    grpc_call_free(&call);
    bench_fini(&bench);
}

static void a_silent_server_is_given_up(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    grpc_client_free(&bench.client);
    struct addr any = addr_ipv4(127, 0, 0, 1, 0);
    struct net_listener *mute = net_listen(bench.loop, &any, 4, NULL); /* accepts nothing */
    assert_non_null(mute);
    mute->ops->local(mute, &any);
    struct grpc_client_options options = {
        .to = any, .authority = SLICE("mute"), .ping_us = 50000, .owner = &bench.client_task};
    bench.client = grpc_client_new(bench.loop, &options);
    bench_run(&bench);
    assert_true(slice_eq(grpc_client_why(bench.client),
                         SLICE("connection to mute: the server does not answer")));
    mute->ops->unlisten(&mute);
    bench_fini(&bench);
}

static void an_idle_stream_lives_on_pings(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    grpc_client_free(&bench.client);
    struct grpc_client_options options = {
        .to = bench.at, .authority = SLICE("test"), .ping_us = 150000, .owner = &bench.client_task};
    bench.client = grpc_client_new(bench.loop, &options);
    open_stream(&bench, SLICE("/test.Echo/Hold"), NULL);
    run_for(&bench, 800000);
    if (grpc_client_get_state(bench.client) != GRPC_CLIENT_OPEN) {
        fail_msg("%.*s", SLICE_ARG(grpc_client_why(bench.client)));
    }
    assert_false(grpc_stream_closed(bench.held_stream));
    grpc_stream_finish_take(&bench.held_stream, GRPC_OK, SLICE(""));
    bench_fini(&bench);
}

/* ---- TLS ---- */

#define SERVER_ID "spiffe://td/ns/pillion-system/sa/pillion-control"
#define CLIENT_ID "spiffe://td/ns/shop/sa/cart"

struct secrets {
    struct test_ca *ca;
    struct tls_keys server;
    struct tls_keys client;
    struct tls_context *accept;
    struct tls_context *dial;
    struct tls_context *dial_bare; /* without a certificate of its own */
};

static void give_identity(struct secrets *secrets, struct tls_keys *keys, const char *id)
{
    struct test_leaf leaf = {.uri = id, .end_us = clock_wall_us() + TEST_CA_DAY_US};
    struct tls_identity *identity = test_ca_identity(secrets->ca, &leaf);
    tls_keys_set_identity_take(keys, &identity);
}

static struct tls_context *context_of(bool server, bool certified)
{
    static const struct slice alpn[] = {{(const uint8_t *)"h2", 2}};
    struct tls_options options = tls_options_mesh(server);
    options.alpn = alpn;
    options.alpn_count = COUNT_OF(alpn);
    options.mesh_identity = certified;
    options.verify = server ? TLS_VERIFY_IF_GIVEN : TLS_VERIFY_REQUIRED;
    struct error err = {.text = ""};
    struct tls_context *context = tls_context_new(&options, &err);
    assert_non_null(context);
    return context;
}

/* The bench's server listens with TLS instead; its client is the caller's to make. */
static void secrets_init(struct secrets *secrets, struct bench *bench)
{
    bench_init(bench);
    grpc_client_free(&bench->client);
    *secrets = (struct secrets){.ca = test_ca_new("root")};
    struct tls_keys *both[] = {&secrets->server, &secrets->client};
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        tls_keys_init(both[i], tls_openssl());
        struct tls_trust *trust = test_ca_trust(secrets->ca);
        tls_keys_set_trust_take(both[i], &trust);
    }
    give_identity(secrets, &secrets->server, SERVER_ID);
    secrets->accept = context_of(true, true);
    secrets->dial = context_of(false, true);
    secrets->dial_bare = context_of(false, false);
    give_identity(secrets, &secrets->client, CLIENT_ID);
    struct addr any = addr_ipv4(127, 0, 0, 1, 0);
    assert_true(http_server_listen(bench->server, &any, secrets->accept, &secrets->server,
                                   &bench->at, NULL));
}

static void secrets_fini(struct secrets *secrets, struct bench *bench)
{
    bench_fini(bench);
    tls_context_unref(&secrets->accept);
    tls_context_unref(&secrets->dial);
    tls_context_unref(&secrets->dial_bare);
    tls_keys_fini(&secrets->server);
    tls_keys_fini(&secrets->client);
    test_ca_free(&secrets->ca);
}

static void connect_tls(struct secrets *secrets, struct bench *bench, struct tls_context *context,
                        struct slice identity)
{
    struct grpc_client_options options = {.to = bench->at,
                                          .authority = SLICE("control"),
                                          .tls = context,
                                          .keys = &secrets->client,
                                          .sni = SLICE("control"),
                                          .identity = identity,
                                          .owner = &bench->client_task};
    bench->client = grpc_client_new(bench->loop, &options);
}

static void calls_go_over_tls_with_both_identities(void **state)
{
    (void)state;
    struct bench bench;
    struct secrets secrets;
    secrets_init(&secrets, &bench);
    for (int i = 0; i < 2; i++) {
        connect_tls(&secrets, &bench, i == 0 ? secrets.dial_bare : secrets.dial, SLICE(SERVER_ID));
        open_unary(&bench, SLICE("/test.Echo/Unary"), SLICE("hello"), drain_call);
        bench_run(&bench);
        assert_closed(&bench, GRPC_OK, "");
        assert_string_equal(bench.identity, i == 0 ? "" : CLIENT_ID);
        grpc_call_free(&bench.call);
        grpc_client_free(&bench.client);
    }
    bench.received = 0;
    bench.wanted = ECHOES / 4;
    connect_tls(&secrets, &bench, secrets.dial, (struct slice){NULL, 0});
    open_stream(&bench, SLICE("/test.Echo/Stream"), pump_echoes);
    bench_run(&bench);
    assert_closed(&bench, GRPC_OK, "");
    assert_int_equal(bench.received, bench.wanted);
    secrets_fini(&secrets, &bench);
}

static void a_server_of_another_name_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    struct secrets secrets;
    secrets_init(&secrets, &bench);
    connect_tls(&secrets, &bench, secrets.dial, SLICE("spiffe://td/ns/other/sa/other"));
    struct grpc_call_options options = call_options(&bench, SLICE("/test.Echo/Unary"));
    struct grpc_call *call = grpc_client_unary(bench.client, &options, SLICE("x"));
    bench_run(&bench);
    struct slice why = grpc_client_why(bench.client);
    assert_true(slice_starts(why, SLICE("connect to 127.0.0.1:")));
    if (slice_search(why, SLICE(SERVER_ID)) == why.len) { /* who it is instead */
        fail_msg("%.*s", SLICE_ARG(why));
    }
    assert_int_equal(grpc_call_get_status(call), GRPC_UNAVAILABLE);
    assert_string_equal(bench.identity, "");
    grpc_call_free(&call);
    secrets_fini(&secrets, &bench);
}

static void a_plain_port_is_no_tls_server(void **state)
{
    (void)state;
    struct bench bench;
    struct secrets secrets;
    secrets_init(&secrets, &bench);
    struct addr any = addr_ipv4(127, 0, 0, 1, 0);
    assert_true(http_server_listen(bench.server, &any, NULL, NULL, &bench.at, NULL));
    connect_tls(&secrets, &bench, secrets.dial, SLICE(SERVER_ID));
    bench_run(&bench);
    assert_int_equal(grpc_client_get_state(bench.client), GRPC_CLIENT_CLOSED);
    secrets_fini(&secrets, &bench);
}

/* ---- many at once ---- */

#define MANY 250

struct crowd {
    struct bench *bench;
    struct grpc_call *calls[MANY];
    struct task task;
};

static void run_crowd(struct task *task)
{
    struct crowd *crowd = CONTAINER_OF(task, struct crowd, task);
    unsigned closed = 0;
    for (unsigned i = 0; i < MANY; i++) {
        struct slice message;
        while (grpc_call_next(crowd->calls[i], &message) == GRPC_NEXT_MESSAGE) {
            crowd->bench->received++;
        }
        closed += grpc_call_closed(crowd->calls[i]);
    }
    if (closed == MANY) {
        loop_stop(crowd->bench->loop);
    }
}

static void more_calls_than_streams_take_turns(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    struct crowd crowd = {.bench = &bench, .task.run = run_crowd};
    struct grpc_call_options options = {.path = SLICE("/test.Echo/Unary"), .owner = &crowd.task};
    for (unsigned i = 0; i < MANY; i++) {
        crowd.calls[i] = grpc_client_unary(bench.client, &options, SLICE("message"));
    }
    bench_run(&bench);
    assert_int_equal(bench.received, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(grpc_call_get_status(crowd.calls[i]), GRPC_OK);
        grpc_call_free(&crowd.calls[i]);
    }
    task_cancel(&crowd.task);
    bench_fini(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_messages_return_in_order),
        cmocka_unit_test(messages_above_a_window_pass),
        cmocka_unit_test(a_peer_that_does_not_read_costs_bounded_memory),
        cmocka_unit_test(a_held_stream_holds_a_window_at_most),
        cmocka_unit_test(unary_calls_return_message_or_status),
        cmocka_unit_test(an_unknown_method_is_unimplemented),
        cmocka_unit_test(messages_before_an_early_end_are_given),
        cmocka_unit_test(a_message_above_the_bound_ends_the_stream),
        cmocka_unit_test(an_answer_above_the_bound_ends_the_call),
        cmocka_unit_test(a_deadline_ends_a_call_and_the_handler_learns_it),
        cmocka_unit_test(a_call_outlives_its_server),
        cmocka_unit_test(a_draining_server_lets_streams_end),
        cmocka_unit_test(a_refused_connection_says_so),
        cmocka_unit_test(a_silent_server_is_given_up),
        cmocka_unit_test(an_idle_stream_lives_on_pings),
        cmocka_unit_test(calls_go_over_tls_with_both_identities),
        cmocka_unit_test(a_server_of_another_name_is_refused),
        cmocka_unit_test(a_plain_port_is_no_tls_server),
        cmocka_unit_test(more_calls_than_streams_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
