/* The small server as its clients see it: a child process serves, this one asks with curl, gRPC's
 * Python client, http/client, and by hand where it must be bad. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/loop.h"
#include "http/client.h"
#include "http/grpc.h"
#include "http/server.h"
#include "tests/support/test_ca.h"
#include "tests/support/unit.h"

#define BIG_BYTES  (8U << 20)
#define BODY_MAX   65536U
#define PATIENCE_S 20
#define MS         UINT64_C(1000)

enum { PORT_PLAIN, PORT_TLS, PORT_STRICT, PORT_COUNT };

/* ---- what the child serves ---- */

struct place {
    struct loop *loop;
    struct task stop;
    unsigned gone; /* clients that left held calls */
    unsigned held;
};

struct later {
    struct place *place;
    struct http_call *call;
    struct task task;
    struct timer timer;
    struct grave grave;
};

static void free_later(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct later, grave));
}

static void run_later(struct task *task)
{
    struct later *later = CONTAINER_OF(task, struct later, task);
    if (http_call_gone(later->call)) {
        later->place->gone++;
    } else if (!timer_due(&later->timer, later->place->loop)) {
        return;
    }
    later->place->held--;
    timer_clear(&later->timer);
    http_call_answer_take(&later->call, &(struct http_reply){.body = SLICE("at last\n")});
    loop_bury(later->place->loop, &later->grave);
}

static void hold(struct place *place, struct http_call *call, uint64_t us)
{
    struct later *later = NEW(struct later);
    later->place = place;
    later->call = call;
    later->task.run = run_later;
    later->timer.task = &later->task;
    later->grave.free = free_later;
    place->held++;
    http_call_set_owner(call, &later->task);
    timer_set(place->loop, &later->timer, place->loop->now_us + us);
}

static void serve_later(void *owner, struct http_call *call)
{
    hold(owner, call, 50 * MS);
}

static void serve_never(void *owner, struct http_call *call)
{
    hold(owner, call, 3600 * 1000 * MS);
}

static void serve_counts(void *owner, struct http_call *call)
{
    struct place *place = owner;
    char text[64];
    int len = snprintf(text, sizeof text, "held %u gone %u\n", place->held, place->gone);
    http_call_answer_take(&call, &(struct http_reply){.body = slice_of(text, (size_t)len)});
}

static void serve_hello(void *owner, struct http_call *call)
{
    (void)owner;
    http_call_answer_take(&call, &(struct http_reply){.body = SLICE("hello\n")});
}

static void serve_echo(void *owner, struct http_call *call)
{
    (void)owner;
    struct header field = {.name = SLICE("x-more"), .value = SLICE("yes")};
    struct http_reply reply = {.status = 201,
                               .content_type = "application/octet-stream",
                               .body = http_call_get_request(call)->body,
                               .headers = &field,
                               .header_count = 1};
    http_call_answer_take(&call, &reply);
}

static void serve_who(void *owner, struct http_call *call)
{
    (void)owner;
    const struct http_request *request = http_call_get_request(call);
    struct slice name = {NULL, 0};
    (void)!http_request_query(request, SLICE("name"), &name);
    char text[512];
    int len = snprintf(text, sizeof text, "%.*s|%.*s|%.*s|%s|%s|%.*s|%.*s\n",
                       SLICE_ARG(request->method), SLICE_ARG(request->rest), SLICE_ARG(name),
                       request->loopback ? "loopback" : "far", request->tls ? "tls" : "plain",
                       SLICE_ARG(request->identity), SLICE_ARG(http_request_bearer(request)));
    http_call_answer_take(&call, &(struct http_reply){.body = slice_of(text, (size_t)len)});
}

static void serve_big(void *owner, struct http_call *call)
{
    struct place *place = owner;
    struct buf big;
    static const uint8_t block[4096] = {'b'};
    buf_init(&big, &place->loop->bufs);
    while (big.len < BIG_BYTES) {
        buf_append(&big, slice_of(block, sizeof block));
    }
    http_call_answer_take(&call, &(struct http_reply){.from = &big});
}

static void serve_nothing(void *owner, struct http_call *call)
{
    (void)owner;
    http_call_answer_take(&call, &(struct http_reply){.status = 204});
}

static void serve_unary(void *owner, struct http_call *call)
{
    (void)owner;
    struct slice body = http_call_get_request(call)->body;
    bool fail = slice_eq(body, SLICE("fail"));
    http_call_answer_grpc_take(&call, fail ? GRPC_ABORTED : GRPC_OK,
                               fail ? SLICE("100 % no") : SLICE(""), body);
}

struct echo {
    struct loop *loop;
    struct grpc_stream *stream;
    struct task task;
    struct grave grave;
};

static void free_echo(struct grave *grave)
{
    mem_free(CONTAINER_OF(grave, struct echo, grave));
}

static void run_echo(struct task *task)
{
    struct echo *echo = CONTAINER_OF(task, struct echo, task);
    struct slice message;
    enum grpc_next next;
    while ((next = grpc_stream_next(echo->stream, &message)) == GRPC_NEXT_MESSAGE) {
        (void)!grpc_stream_send(echo->stream, message); /* the test sends little */
    }
    if (next != GRPC_NEXT_NONE) {
        grpc_stream_finish_take(&echo->stream, GRPC_OK, SLICE(""));
        task_cancel(task);
        loop_bury(echo->loop, &echo->grave);
    }
}

static void serve_stream(void *owner, struct grpc_stream *stream)
{
    struct echo *echo = NEW(struct echo);
    echo->loop = ((struct place *)owner)->loop;
    echo->stream = stream;
    echo->task.run = run_echo;
    echo->grave.free = free_echo;
    grpc_stream_set_owner(stream, &echo->task);
}

static const struct http_route routes[] = {
    {.path = "/hello", .method = "GET", .plain = serve_hello},
    {.path = "/echo", .method = "POST", .plain = serve_echo},
    {.path = "/echo", .method = "PUT", .plain = serve_echo},
    {.path = "/big", .method = "GET", .plain = serve_big},
    {.path = "/later", .method = "GET", .plain = serve_later},
    {.path = "/never", .method = "GET", .plain = serve_never},
    {.path = "/counts", .method = "GET", .plain = serve_counts},
    {.path = "/nothing", .method = "DELETE", .plain = serve_nothing},
    {.path = "/who/", .prefix = true, .plain = serve_who},
    {.path = "/test.Echo/Unary", .kind = HTTP_ROUTE_UNARY, .plain = serve_unary},
    {.path = "/test.Echo/Stream", .kind = HTTP_ROUTE_STREAM, .stream = serve_stream},
};

/* ---- the child ---- */

static void stop(struct task *task)
{
    loop_stop(CONTAINER_OF(task, struct place, stop)->loop);
}

static uint16_t listen_on(struct http_server *server, struct tls_context *tls,
                          struct tls_keys *keys)
{
    struct addr any = addr_ipv4(127, 0, 0, 1, 0);
    struct addr bound;
    struct error err = {.text = ""};
    CHECK(http_server_listen(server, &any, tls, keys, &bound, &err));
    return bound.port;
}

static struct tls_context *server_context(struct tls_keys *keys)
{
    struct test_ca *ca = test_ca_new("root");
    struct test_leaf leaf = {.uri = "spiffe://td/ns/a/sa/b",
                             .dns = "localhost",
                             .end_us = clock_wall_us() + TEST_CA_DAY_US};
    tls_keys_init(keys, tls_openssl());
    struct tls_identity *identity = test_ca_identity(ca, &leaf);
    struct tls_trust *trust = test_ca_trust(ca);
    tls_keys_set_identity_take(keys, &identity);
    tls_keys_set_trust_take(keys, &trust);
    test_ca_free(&ca);
    struct tls_options options = tls_options_mesh(true);
    static const struct slice alpn[] = {{(const uint8_t *)"h2", 2},
                                        {(const uint8_t *)"http/1.1", 8}};
    options.alpn = alpn;
    options.alpn_count = COUNT_OF(alpn);
    options.verify = TLS_VERIFY_IF_GIVEN;
    struct error err = {.text = ""};
    struct tls_context *context = tls_context_new(&options, &err);
    CHECK(context != NULL);
    return context;
}

static void serve(int tell)
{
    struct place place = {.loop = loop_new(), .stop.run = stop};
    struct http_server_options options = {
        .routes = routes, .route_count = COUNT_OF(routes), .owner = &place, .body_max = BODY_MAX};
    struct http_server *server = http_server_new(place.loop, &options);
    options.max_connections = 4;
    options.head_us = 200 * MS;
    options.body_us = 200 * MS;
    options.idle_us = 400 * MS;
    options.stall_us = 300 * MS;
    options.ping_us = 200 * MS;
    options.bodies_max = BODY_MAX;
    struct http_server *strict = http_server_new(place.loop, &options);
    struct tls_keys keys;
    struct tls_context *context = server_context(&keys);
    uint16_t ports[PORT_COUNT] = {listen_on(server, NULL, NULL), listen_on(server, context, &keys),
                                  listen_on(strict, NULL, NULL)};
    loop_on_signal(place.loop, SIGTERM, &place.stop);
    CHECK(write(tell, ports, sizeof ports) == (ssize_t)sizeof ports);
    loop_run(place.loop);
    http_server_free(&server);
    http_server_free(&strict);
    while (place.held > 0) { /* those who hold calls learn that nobody waits */
        place.loop->stopped = false;
        loop_post(place.loop, &place.stop);
        loop_run(place.loop);
    }
    tls_context_unref(&context);
    tls_keys_fini(&keys);
    loop_free(&place.loop);
}

static struct {
    pid_t child;
    uint16_t ports[PORT_COUNT];
} server;

static int start(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)fflush(NULL);
    server.child = fork();
    if (server.child == 0) {
        (void)close(ends[0]);
        serve(ends[1]);
        exit(0); /* leaks are looked for on the way */
    }
    (void)close(ends[1]);
    ssize_t got = read(ends[0], server.ports, sizeof server.ports);
    (void)close(ends[0]);
    return got == (ssize_t)sizeof server.ports ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    int status = -1;
    (void)kill(server.child, SIGTERM);
    (void)waitpid(server.child, &status, 0);
    return status;
}

/* ---- asking ---- */

/* The output of a command; valid until the next one. */
static char *output_of(const char *command)
{
    static char text[16384];
    FILE *from = popen(command, "r"); /* NOLINT: the commands are ours */
    assert_non_null(from);
    size_t len = fread(text, 1, sizeof text - 1, from);
    text[len] = '\0';
    (void)pclose(from);
    return text;
}

/* curl; the `@` among the arguments is where the server's URL goes. */
static char *curl(int port, const char *arguments)
{
    const char *at = strchr(arguments, '@');
    assert_non_null(at);
    char command[1024];
    (void)snprintf(command, sizeof command, "curl -sk --max-time %d %.*shttp%s://127.0.0.1:%u%s",
                   PATIENCE_S, (int)(at - arguments), arguments, port == PORT_TLS ? "s" : "",
                   server.ports[port], at + 1);
    return output_of(command);
}

static int dial(int port, int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_bytes > 0) {
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes), 0);
    }
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(server.ports[port]),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static bool wait_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, PATIENCE_S * 1000) == 1;
}

/* Reads to the end; returns how many bytes; the first of them in `text`. *reset: it ended so. */
static size_t read_to_end(int fd, char *text, size_t room, bool *reset)
{
    size_t total = 0;
    char rest[65536];
    *reset = false;
    for (;;) {
        assert_true(wait_readable(fd));
        ssize_t got = recv(fd, rest, sizeof rest, 0);
        if (got <= 0) {
            *reset = got < 0;
            text[total < room ? total : room] = '\0';
            (void)close(fd);
            return total;
        }
        if (total < room) {
            size_t part = (size_t)got < room - total ? (size_t)got : room - total;
            (void)memcpy(text + total, rest, part);
        }
        total += (size_t)got;
    }
}

/* Sends raw bytes and returns all that came until the end. */
static const char *raw(int port, const char *bytes)
{
    static char text[8192];
    bool reset;
    int fd = dial(port, 0);
    say(fd, bytes);
    (void)read_to_end(fd, text, sizeof text - 1, &reset);
    return text;
}

static void assert_starts(const char *text, const char *wanted)
{
    if (strncmp(text, wanted, strlen(wanted)) != 0) {
        fail_msg("expected \"%s\", got \"%.200s\"", wanted, text);
    }
}

static void assert_holds(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL) {
        fail_msg("expected \"%s\" in \"%.400s\"", wanted, text);
    }
}

/* ---- tests ---- */

static void curl_is_served_over_every_protocol(void **state)
{
    (void)state;
    static const struct {
        int port;
        const char *flags;
        const char *version;
    } ways[] = {
        {PORT_PLAIN, "--http1.1", "1.1"},
        {PORT_PLAIN, "--http1.0", "1.1"},
        {PORT_PLAIN, "--http2", "1.1"}, /* an Upgrade to h2c, which is ignored */
        {PORT_PLAIN, "--http2-prior-knowledge", "2"},
        {PORT_TLS, "--http1.1", "1.1"},
        {PORT_TLS, "--http2", "2"},
    };
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        char arguments[256];
        (void)snprintf(arguments, sizeof arguments,
                       "%s -w '%%{http_code} %%{http_version}' @/hello", ways[i].flags);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "hello\n200 %s", ways[i].version);
        assert_string_equal(curl(ways[i].port, arguments), expected);
        (void)snprintf(arguments, sizeof arguments,
                       "%s -w '%%{http_code}' -d some=body -X PUT @/echo", ways[i].flags);
        assert_string_equal(curl(ways[i].port, arguments), "some=body201");
        (void)snprintf(arguments, sizeof arguments, "%s -w '%%{http_code}' @/later", ways[i].flags);
        assert_string_equal(curl(ways[i].port, arguments), "at last\n200");
        (void)snprintf(arguments, sizeof arguments, "%s -o /dev/null -w '%%{size_download}' @/big",
                       ways[i].flags);
        assert_string_equal(curl(ways[i].port, arguments), "8388608");
        (void)snprintf(arguments, sizeof arguments,
                       "%s -I -w '%%{http_code} %%{size_download}' @/big", ways[i].flags);
        char *head = curl(ways[i].port, arguments);
        assert_holds(head, " GMT\r\n");
        assert_holds(head, "ontent-");
        assert_holds(head, "8388608");
        assert_holds(head, "200 0");
        (void)snprintf(arguments, sizeof arguments, "%s -w '%%{http_code}' -X DELETE @/nothing",
                       ways[i].flags);
        assert_string_equal(curl(ways[i].port, arguments), "204");
    }
}

static void a_handler_sees_the_request(void **state)
{
    (void)state;
    assert_string_equal(curl(PORT_PLAIN, "-H 'Authorization: bearer  t0ken' "
                                         "'@/x/../who/a%62c?other=1&name=v%20w'"),
                        "GET|abc|v%20w|loopback|plain||t0ken\n");
    assert_string_equal(curl(PORT_TLS, "-X PATCH @/who/"), "PATCH|||loopback|tls||\n");
}

static void what_is_not_served_is_refused_by_its_status(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *flags = i == 0 ? "--http1.1" : "--http2-prior-knowledge";
        char arguments[256];
        (void)snprintf(arguments, sizeof arguments, "%s -o /dev/null -w '%%{http_code}' @/nowhere",
                       flags);
        assert_string_equal(curl(PORT_PLAIN, arguments), "404");
        (void)snprintf(arguments, sizeof arguments, "%s -i -X POST @/hello", flags);
        char *answer = curl(PORT_PLAIN, arguments);
        assert_holds(answer, " 405 ");
        assert_holds(answer, "llow: GET, HEAD\r\n");
        (void)snprintf(arguments, sizeof arguments, "%s -i @/echo", flags);
        assert_holds(curl(PORT_PLAIN, arguments), "llow: POST, PUT\r\n");
        (void)snprintf(arguments, sizeof arguments,
                       "%s -o /dev/null -w '%%{http_code}' -X POST @/test.Echo/Unary", flags);
        assert_string_equal(curl(PORT_PLAIN, arguments), "415");
    }
    assert_string_equal(curl(PORT_PLAIN, "--http1.1 -o /dev/null -w '%{http_code}' -X POST "
                                         "-H 'content-type: application/grpc' @/test.Echo/Unary"),
                        "505");
}

static void a_large_body_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *flags = i == 0 ? "--http1.1" : "--http2-prior-knowledge";
        char command[512];
        (void)snprintf(
            command, sizeof command,
            "head -c %u /dev/zero 2>/dev/null | curl -s --max-time %d %s -o /dev/null -w "
            "'%%{http_code} %%{size_download}' --data-binary @- "
            "http://127.0.0.1:%u/echo",
            BODY_MAX, PATIENCE_S, flags, server.ports[PORT_PLAIN]);
        assert_string_equal(output_of(command), "201 65536");
        (void)snprintf(
            command, sizeof command,
            "head -c %u /dev/zero 2>/dev/null | curl -s --max-time %d %s -o /dev/null -w "
            "'%%{http_code}' --data-binary @- http://127.0.0.1:%u/echo",
            4 * BODY_MAX, PATIENCE_S, flags, server.ports[PORT_PLAIN]);
        assert_string_equal(output_of(command), "413");
        /* Without a length it is refused once too much has come. */
        (void)snprintf(
            command, sizeof command,
            "head -c %u /dev/zero 2>/dev/null | curl -s --max-time %d %s -o /dev/null -w "
            "'%%{http_code}' -X POST -T - http://127.0.0.1:%u/echo",
            4 * BODY_MAX, PATIENCE_S, flags, server.ports[PORT_PLAIN]);
        assert_string_equal(output_of(command), "413");
    }
}

static void an_expected_100_is_given_for_what_is_taken(void **state)
{
    (void)state;
    char *answer = curl(PORT_PLAIN, "--http1.1 -i -H 'Expect: 100-continue' -d small @/echo");
    assert_starts(answer, "HTTP/1.1 100 ");
    assert_holds(answer, "HTTP/1.1 201 ");
    assert_starts(raw(PORT_PLAIN, "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                                  "Content-Length: 1000000\r\n\r\n"),
                  "HTTP/1.1 413 ");
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    const char *text =
        raw(PORT_PLAIN, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
                        "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
                        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                        "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const char *first = strstr(text, "hello\n");
    const char *second = strstr(text, "at last\n");
    const char *third = strstr(text, "\r\n\r\nabc");
    const char *fourth = third != NULL ? strstr(third, "hello\n") : NULL;
    assert_non_null(first);
    assert_non_null(second);
    assert_non_null(third);
    assert_non_null(fourth);
    assert_true(first < second && second < third);
    assert_non_null(strstr(third, "onnection: close\r\n"));
}

static void bad_requests_are_answered_and_closed(void **state)
{
    (void)state;
    assert_starts(raw(PORT_PLAIN, "GET  /hello HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 ");
    assert_starts(raw(PORT_PLAIN, "GET /hello HTTP/1.1\r\nHost : a\r\n\r\n"), "HTTP/1.1 400 ");
    assert_starts(raw(PORT_PLAIN, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                  "HTTP/1.1 400 ");
    assert_starts(raw(PORT_PLAIN, "POST /echo HTTP/1.1\r\nHost: a\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
                  "HTTP/1.1 400 ");
    assert_starts(raw(PORT_PLAIN, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"), "HTTP/1.1 404 ");
    static char large[70000];
    (void)memset(large, 'a', sizeof large - 1);
    (void)memcpy(large, "GET /hello HTTP/1.1\r\nHost: a\r\nX: ", 33);
    assert_starts(raw(PORT_PLAIN, large), "HTTP/1.1 431 ");
    assert_starts(raw(PORT_PLAIN, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), "HTTP/1.1 ");
}

static void many_clients_are_served_at_once(void **state)
{
    (void)state;
    enum { CLIENTS = 200 };
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = dial(PORT_PLAIN, 0);
        say(fds[i], "GET /hel");
    }
    for (int i = 0; i < CLIENTS; i++) {
        say(fds[i], "lo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    for (int i = CLIENTS; i-- > 0;) {
        char text[512];
        bool reset;
        (void)read_to_end(fds[i], text, sizeof text - 1, &reset);
        assert_false(reset);
        assert_starts(text, "HTTP/1.1 200 ");
        assert_holds(text, "\r\n\r\nhello\n");
    }
}

static void connections_above_the_limit_wait(void **state)
{
    (void)state;
    int fds[5];
    char text[512];
    bool reset;
    for (int i = 0; i < 5; i++) {
        fds[i] = dial(PORT_STRICT, 0);
        say(fds[i], "GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    for (int i = 0; i < 5; i++) {
        (void)read_to_end(fds[i], text, sizeof text - 1, &reset);
        assert_holds(text, "at last\n");
    }
}

static void a_slow_reader_gets_everything(void **state)
{
    (void)state;
    int fd = dial(PORT_PLAIN, 4096);
    say(fd, "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    (void)usleep(200000);
    char text[512];
    bool reset;
    size_t total = read_to_end(fd, text, sizeof text - 1, &reset);
    assert_false(reset);
    size_t head = (size_t)(strstr(text, "\r\n\r\n") - text) + 4;
    assert_int_equal(total - head, BIG_BYTES);
}

static void a_reader_that_stands_still_is_cut(void **state)
{
    (void)state;
    int fd = dial(PORT_STRICT, 4096);
    char text[512];
    bool reset;
    say(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    (void)sleep(2); /* several times the limit; then what was sent is read */
    size_t total = read_to_end(fd, text, sizeof text - 1, &reset);
    assert_true(total < BIG_BYTES);
}

static void slow_clients_are_closed(void **state)
{
    (void)state;
    assert_string_equal(raw(PORT_STRICT, "GET /hello HT"), "");
    assert_string_equal(raw(PORT_STRICT, "PRI * HT"), "");
    assert_starts(raw(PORT_STRICT, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"),
                  "HTTP/1.1 408 ");
    const char *text = raw(PORT_STRICT, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"); /* then idle */
    assert_holds(text, "hello\n");
    assert_string_equal(raw(PORT_STRICT, ""), "");
}

static void a_client_that_leaves_is_noticed(void **state)
{
    (void)state;
    int fd = dial(PORT_PLAIN, 0);
    say(fd, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    for (unsigned i = 0; strstr(curl(PORT_PLAIN, "@/counts"), "held 1 ") == NULL; i++) {
        assert_true(i < 100);
        (void)usleep(20000);
    }
    (void)close(fd);
    for (unsigned i = 0; strstr(curl(PORT_PLAIN, "@/counts"), "held 0 gone 1") == NULL; i++) {
        assert_true(i < 100);
        (void)usleep(20000);
    }
}

static void bodies_share_a_budget(void **state)
{
    (void)state;
    static char part[BODY_MAX * 3 / 4];
    bool reset;
    char text[512];
    int fds[2];
    for (int i = 0; i < 2; i++) { /* each has a body that is taken, both together are not */
        fds[i] = dial(PORT_STRICT, 0);
        say(fds[i], "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
        assert_int_equal(send(fds[i], part, sizeof part, MSG_NOSIGNAL), sizeof part);
    }
    unsigned refused = 0;
    for (int i = 0; i < 2; i++) {
        (void)read_to_end(fds[i], text, sizeof text - 1, &reset);
        refused += strncmp(text, "HTTP/1.1 503 ", 13) == 0;
    }
    assert_int_equal(refused, 1); /* the other one is too slow: 408 */
    assert_string_equal(curl(PORT_STRICT, "-d again @/echo"), "again"); /* it was given back */
}

static void a_request_may_be_cut_anywhere(void **state)
{
    (void)state;
    static const char request[] = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                                  "Connection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (size_t cut = 1; cut < sizeof request - 1; cut++) {
        char text[512];
        bool reset;
        int fd = dial(PORT_PLAIN, 0);
        int on = 1;
        assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
        assert_int_equal(send(fd, request, cut, MSG_NOSIGNAL), cut);
        (void)usleep(200);
        say(fd, request + cut);
        (void)read_to_end(fd, text, sizeof text - 1, &reset);
        assert_starts(text, "HTTP/1.1 201 Created\r\n");
        assert_holds(text, "\r\n\r\nabc");
    }
}

/* A client of HTTP/2 that opens a stream and says nothing more, not even to PING. */
static void a_dead_stream_is_found(void **state)
{
    (void)state;
    static const char bytes[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0"               /* SETTINGS */
                                "\0\0\x2b\1\4\0\0\0\1\x83\x86"     /* HEADERS: POST, http */
                                "\x04\x11/test.Echo/Stream\x01\1a" /* :path, :authority */
                                "\x0f\x10\x10"
                                "application/grpc";
    char text[512];
    bool reset;
    int fd = dial(PORT_STRICT, 0);
    assert_int_equal(send(fd, bytes, sizeof bytes - 1, MSG_NOSIGNAL), sizeof bytes - 1);
    size_t len = read_to_end(fd, text, sizeof text - 1, &reset);
    static const char ping[] = "\0\0\x08\6\0\0\0\0\0idleness";
    assert_true(len < sizeof text);
    assert_non_null(memmem(text, len, ping, sizeof ping - 1));
    assert_true(reset);
}

static void grpc_of_python_is_served(void **state)
{
    (void)state;
    char command[2048];
    (void)snprintf(command, sizeof command,
                   "/usr/bin/python3 - %u <<'END' 2>&1\n"
                   "import grpc, sys\n"
                   "channel = grpc.insecure_channel('127.0.0.1:' + sys.argv[1])\n"
                   "unary = channel.unary_unary('/test.Echo/Unary')\n"
                   "print(unary(b'x' * 50000, timeout=20) == b'x' * 50000)\n"
                   "def error_of(call):\n"
                   "    try:\n"
                   "        call()\n"
                   "    except grpc.RpcError as e:\n"
                   "        return e.code().name, e.details()\n"
                   "print(error_of(lambda: unary(b'fail', timeout=20)))\n"
                   "print(error_of(lambda: unary(b'x' * 70000, timeout=20)))\n"
                   "print(error_of(lambda: channel.unary_unary('/no/Thing')(b'', timeout=20)))\n"
                   "stream = channel.stream_stream('/test.Echo/Stream')\n"
                   "want = [bytes([i %% 256]) * i for i in range(400)]\n"
                   "print(list(stream(iter(want), timeout=20)) == want)\n"
                   "END\n",
                   server.ports[PORT_PLAIN]);
    assert_string_equal(output_of(command),
                        "True\n('ABORTED', '100 % no')\n"
                        "('RESOURCE_EXHAUSTED', 'a message is larger than is taken here')\n"
                        "('UNIMPLEMENTED', 'no such method here')\nTrue\n");
}

static const char *server_text(int port)
{
    static char text[64];
    (void)snprintf(text, sizeof text, "127.0.0.1:%u", server.ports[port]);
    return text;
}

static void the_blocking_client_asks(void **state)
{
    (void)state;
    struct error err = {.text = ""};
    struct http_client_answer answer;
    struct http_client_request get = {.server = server_text(PORT_PLAIN), .path = "/hello"};
    assert_true(http_client_ask(&get, &answer, &err));
    assert_int_equal(answer.status, 200);
    assert_string_equal((const char *)answer.body.at, "hello\n");
    assert_true(slice_eq(answer.content_type, SLICE("text/plain; charset=utf-8")));
    http_client_answer_fini(&answer);

    struct http_client_request post = {.server = server_text(PORT_PLAIN),
                                       .path = "/echo",
                                       .authorization = "Bearer x",
                                       .body = SLICE("{}")};
    assert_true(http_client_ask(&post, &answer, &err));
    assert_int_equal(answer.status, 201);
    assert_string_equal((const char *)answer.body.at, "{}");
    http_client_answer_fini(&answer);

    struct http_client_request big = {.server = server_text(PORT_PLAIN), .path = "/big"};
    assert_true(http_client_ask(&big, &answer, &err));
    assert_int_equal(answer.body.len, BIG_BYTES);
    http_client_answer_fini(&answer);

    struct http_client_request missing = {.server = server_text(PORT_PLAIN), .path = "/no"};
    assert_true(http_client_ask(&missing, &answer, &err));
    assert_int_equal(answer.status, 404);
    http_client_answer_fini(&answer);
}

static void assert_refused(struct http_client_request *request, const char *wanted)
{
    struct error err = {.text = ""};
    struct http_client_answer answer = {.status = 0};
    assert_false(http_client_ask(request, &answer, &err));
    assert_string_equal(err.text, wanted);
    http_client_answer_fini(&answer);
}

static void the_blocking_client_says_what_went_wrong(void **state)
{
    (void)state;
    char wanted[128];
    struct http_client_request request = {.path = "/never", .timeout_ms = 100};
    request.server = server_text(PORT_PLAIN);
    (void)snprintf(wanted, sizeof wanted, "read the answer of %s: timed out", request.server);
    assert_refused(&request, wanted);
    request.path = "/big";
    request.timeout_ms = 0;
    request.body_max = 1000;
    (void)snprintf(wanted, sizeof wanted, "read the answer of %s: too large", request.server);
    assert_refused(&request, wanted);
    request.server = "127.0.0.1:1";
    assert_refused(&request, "connect to 127.0.0.1:1: connection refused");
    request.server = "localhost:1";
    assert_refused(&request, "connect to localhost:1: connection refused");
    request.server = "control:15014";
    assert_refused(&request,
                   "\"control:15014\" is no server: an IP address, or localhost, and a port");
    request.server = server_text(PORT_TLS); /* which takes plain HTTP for a broken handshake */
    struct error err = {.text = ""};
    struct http_client_answer answer = {.status = 0};
    assert_false(http_client_ask(&request, &answer, &err));
    assert_starts(err.text, "read the answer of 127.0.0.1:");
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curl_is_served_over_every_protocol),
        cmocka_unit_test(a_handler_sees_the_request),
        cmocka_unit_test(what_is_not_served_is_refused_by_its_status),
        cmocka_unit_test(a_large_body_is_refused),
        cmocka_unit_test(an_expected_100_is_given_for_what_is_taken),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(bad_requests_are_answered_and_closed),
        cmocka_unit_test(many_clients_are_served_at_once),
        cmocka_unit_test(connections_above_the_limit_wait),
        cmocka_unit_test(a_slow_reader_gets_everything),
        cmocka_unit_test(a_reader_that_stands_still_is_cut),
        cmocka_unit_test(slow_clients_are_closed),
        cmocka_unit_test(a_client_that_leaves_is_noticed),
        cmocka_unit_test(bodies_share_a_budget),
        cmocka_unit_test(a_request_may_be_cut_anywhere),
        cmocka_unit_test(a_dead_stream_is_found),
        cmocka_unit_test(grpc_of_python_is_served),
        cmocka_unit_test(the_blocking_client_asks),
        cmocka_unit_test(the_blocking_client_says_what_went_wrong),
    };
    return cmocka_run_group_tests(tests, start, end);
}
