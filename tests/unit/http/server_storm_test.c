/* The small server among clients that behave, and others, over a network that takes bytes in small
 * pieces, on virtual time: one seed, one storm. What must hold whatever happens: each call is
 * answered by its handler once, what comes back over a stream is what was sent, in order, and when
 * all is over nothing is left: no connection, no byte. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/loop.h"
#include "base/rng.h"
#include "http/grpc.h"
#include "http/grpc_client.h"
#include "http/server.h"
#include "tests/support/pipe_net.h"
#include "tests/support/unit.h"

#define SEEDS      100
#define STEPS      600
#define HELD_MAX   4096
#define CLIENTS    6
#define CALLS      8
#define CALM_STEPS 5000
#define STEP_US    UINT64_C(20000)
#define BACKLOG    64
#define SCRIPT_MAX 4096

struct raw_client {
    struct net_conn *net; /* null: gone */
    uint8_t script[SCRIPT_MAX];
    size_t len;
    size_t at;
    bool reads;
};

struct calling {
    struct grpc_call *call;
    uint32_t sent;
    uint32_t received;
};

struct storm {
    struct rng rng;
    struct loop *loop;
    struct net_ops ops;
    struct net_listener listener;
    bool accepting;
    struct net_conn *backlog[BACKLOG];
    unsigned waiting;
    struct http_server *server;
    struct http_call *calls[HELD_MAX];
    struct grpc_stream *streams[HELD_MAX];
    unsigned call_count;
    unsigned stream_count;
    struct raw_client raw[CLIENTS];
    struct grpc_client *client;
    struct calling calling[CALLS];
    uint64_t served;
    uint64_t echoed;
    bool calm; /* nobody breaks off */
};

static struct storm *storm_of(struct loop *loop)
{
    return loop->world;
}

static bool chance(struct storm *storm, unsigned percent)
{
    return rng_below(&storm->rng, 100) < percent;
}

/* ---- the network ---- */

static struct net_listener *storm_listen(struct loop *loop, const struct addr *at, int backlog,
                                         struct error *err)
{
    (void)at;
    (void)backlog;
    (void)err;
    struct storm *storm = storm_of(loop);
    storm->listener = (struct net_listener){.ops = &storm->ops, .loop = loop};
    return &storm->listener;
}

static void storm_local(const struct net_listener *listener, struct addr *at)
{
    (void)listener;
    *at = addr_ipv4(10, 0, 0, 1, 80);
}

static void storm_accepting(struct net_listener *listener, bool accepting)
{
    struct storm *storm = storm_of(listener->loop);
    storm->accepting = accepting;
    if (accepting && storm->waiting > 0) {
        loop_post(storm->loop, listener->owner);
    }
}

static void storm_unlisten(struct net_listener **listener)
{
    storm_of((*listener)->loop)->accepting = false;
    *listener = NULL;
}

static struct net_conn *storm_accept(struct net_listener *listener)
{
    struct storm *storm = storm_of(listener->loop);
    return storm->waiting > 0 ? storm->backlog[--storm->waiting] : NULL;
}

static struct net_conn *storm_connect(struct loop *loop, const struct addr *to,
                                      const struct addr *from, enum net_error *error)
{
    (void)to;
    (void)from;
    struct storm *storm = storm_of(loop);
    struct pipe_limits limits = {.recv_max = 1 + rng_below(&storm->rng, 3000),
                                 .send_max = 1 + rng_below(&storm->rng, 3000),
                                 .room = 1 + rng_below(&storm->rng, 20000)};
    struct net_conn *ends[2];
    CHECK(storm->waiting < BACKLOG);
    pipe_net_pair(loop, &limits, ends);
    ends[0]->ops = &storm->ops;
    ends[1]->ops = &storm->ops;
    storm->backlog[storm->waiting++] = ends[1];
    if (storm->accepting) {
        loop_post(loop, storm->listener.owner);
    }
    *error = NET_ERROR_NONE;
    return ends[0];
}

static void storm_addrs(const struct net_conn *conn, struct addr *local, struct addr *peer)
{
    (void)conn;
    *local = addr_ipv4(10, 0, 0, 1, 80);
    *peer = addr_ipv4(10, 0, 0, 2, 4000);
}

/* ---- what is served ---- */

static void keep_call(void *owner, struct http_call *call)
{
    struct storm *storm = owner;
    CHECK(storm->call_count < HELD_MAX);
    storm->calls[storm->call_count++] = call;
}

static void keep_stream(void *owner, struct grpc_stream *stream)
{
    struct storm *storm = owner;
    CHECK(storm->stream_count < HELD_MAX);
    storm->streams[storm->stream_count++] = stream;
}

static void answer_plain(void *owner, struct http_call *call)
{
    struct storm *storm = owner;
    static const uint8_t bytes[30000];
    storm->served++;
    size_t len = chance(storm, 50) ? 5 : rng_below(&storm->rng, sizeof bytes);
    http_call_answer_take(&call, &(struct http_reply){.body = slice_of(bytes, len)});
}

static void serve_plain(void *owner, struct http_call *call)
{
    if (chance(owner, 50)) {
        answer_plain(owner, call);
    } else {
        keep_call(owner, call);
    }
}

static const struct http_route routes[] = {
    {.path = "/plain", .plain = serve_plain},
    {.path = "/get", .method = "GET", .plain = serve_plain},
    {.path = "/Unary", .kind = HTTP_ROUTE_UNARY, .plain = keep_call},
    {.path = "/Stream", .kind = HTTP_ROUTE_STREAM, .stream = keep_stream},
};

static void answer_one(struct storm *storm, unsigned at)
{
    struct http_call *call = storm->calls[at];
    storm->calls[at] = storm->calls[--storm->call_count];
    const struct http_request *request = http_call_get_request(call);
    if (!slice_eq(request->path, SLICE("/Unary"))) {
        answer_plain(storm, call);
        return;
    }
    storm->served++;
    http_call_answer_grpc_take(&call, GRPC_OK, SLICE(""), request->body);
}

/* Echoes some messages; false: it was given back. */
static bool serve_some(struct storm *storm, unsigned at)
{
    struct grpc_stream *stream = storm->streams[at];
    enum grpc_next next = GRPC_NEXT_NONE;
    for (uint64_t some = rng_below(&storm->rng, 20);
         some > 0 && grpc_stream_backlog(stream) < GRPC_STREAM_BACKLOG; some--) {
        struct slice message;
        next = grpc_stream_next(stream, &message);
        if (next != GRPC_NEXT_MESSAGE) {
            break;
        }
        CHECK(grpc_stream_send(stream, message));
        storm->echoed++;
    }
    if (next == GRPC_NEXT_END || next == GRPC_NEXT_CLOSED || (!storm->calm && chance(storm, 1))) {
        storm->streams[at] = storm->streams[--storm->stream_count];
        grpc_stream_finish_take(&stream, chance(storm, 50) ? GRPC_OK : GRPC_ABORTED, SLICE("over"));
        return false;
    }
    return true;
}

static void serve_randomly(struct storm *storm)
{
    if (storm->call_count > 0 && chance(storm, 60)) {
        answer_one(storm, (unsigned)rng_below(&storm->rng, storm->call_count));
    }
    for (unsigned i = 0; i < storm->stream_count; i++) {
        if (chance(storm, 50) && !serve_some(storm, i)) {
            i--;
        }
    }
}

/* ---- clients that speak bytes ---- */

static void script_add(struct raw_client *raw, struct slice bytes)
{
    if (raw->len + bytes.len <= SCRIPT_MAX) {
        (void)memcpy(raw->script + raw->len, bytes.at, bytes.len);
        raw->len += bytes.len;
    }
}

static void script_http1(struct storm *storm, struct raw_client *raw)
{
    static const char *const requests[] = {
        "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /get?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
        "POST /plain HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
        "chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST /plain HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
        "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n0123456789",
        "POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "GET /nowhere HTTP/1.0\r\n\r\n",
        "GET /plain HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        "POST /Unary HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n"
        "Content-Length: 0\r\n\r\n",
        "GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    };
    for (uint64_t count = 1 + rng_below(&storm->rng, 6); count > 0; count--) {
        script_add(raw, slice_of_text(requests[rng_below(&storm->rng, COUNT_OF(requests))]));
    }
}

static void script_http2(struct storm *storm, struct raw_client *raw)
{
    static const char opening[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                  "\0\0\0\4\0\0\0\0\0";
    static const char unary[] = "\0\0\x20\1\4\0\0\0\1\x83\x86\x04\6/Unary\x01\1a\x0f\x10\x10"
                                "application/grpc";
    static const char data[] = "\0\0\7\0\1\0\0\0\1\0\0\0\0\2hi";
    script_add(raw, slice_of(opening, sizeof opening - 1));
    for (uint8_t id = 1; id < 2 * rng_below(&storm->rng, 12); id += 2) {
        script_add(raw, slice_of(unary, sizeof unary - 1));
        raw->script[raw->len - sizeof unary + 1 + 8] = id;
        if (chance(storm, 80)) {
            script_add(raw, slice_of(data, sizeof data - 1));
            raw->script[raw->len - sizeof data + 1 + 8] = id;
        }
    }
}

static void raw_begin(struct storm *storm, struct raw_client *raw)
{
    enum net_error error;
    raw->net = storm_connect(storm->loop, NULL, NULL, &error);
    raw->len = 0;
    raw->at = 0;
    raw->reads = chance(storm, 85);
    if (chance(storm, 50)) {
        script_http1(storm, raw);
    } else {
        script_http2(storm, raw);
    }
    for (uint64_t flips = chance(storm, 40) ? rng_below(&storm->rng, 4) : 0; flips > 0; flips--) {
        raw->script[rng_below(&storm->rng, raw->len)] ^= (uint8_t)(1U << rng_below(&storm->rng, 8));
    }
}

static void raw_step(struct storm *storm, struct raw_client *raw)
{
    if (raw->net == NULL) {
        if (chance(storm, 20) && storm->waiting < BACKLOG - 1) {
            raw_begin(storm, raw);
        }
        return;
    }
    static uint8_t sink[65536];
    size_t moved = 0;
    enum io result = IO_OK;
    if (raw->at < raw->len) {
        struct iovec part = {raw->script + raw->at, 1 + rng_below(&storm->rng, raw->len - raw->at)};
        result = net_send(raw->net, &part, 1, &moved);
        raw->at += moved;
    }
    while (raw->reads && (result == IO_OK || result == IO_AGAIN) &&
           (raw->net->ready & NET_READ) != 0) {
        result = net_recv(raw->net, (struct span){sink, sizeof sink}, &moved);
    }
    if (result == IO_EOF || result == IO_RESET || chance(storm, 3)) {
        if (chance(storm, 50)) {
            raw->net->ops->reset(&raw->net);
        } else {
            raw->net->ops->close(&raw->net);
        }
    }
}

/* ---- clients that speak gRPC ---- */

static void call_begin(struct storm *storm, struct calling *calling)
{
    struct grpc_call_options options = {.path = SLICE("/Stream"),
                                        .deadline_us = chance(storm, 30) ? 50 * STEP_US : 0};
    if (chance(storm, 30)) {
        options.path = SLICE("/Unary");
        calling->call = grpc_client_unary(storm->client, &options, SLICE("\0\0\0\0"));
    } else {
        calling->call = grpc_client_stream(storm->client, &options);
    }
    calling->sent = slice_eq(options.path, SLICE("/Unary")) ? UINT32_MAX : 0;
    calling->received = 0;
}

static void call_step(struct storm *storm, struct calling *calling)
{
    static uint8_t bytes[20000];
    if (calling->call == NULL) {
        if (chance(storm, 30)) {
            call_begin(storm, calling);
        }
        return;
    }
    for (uint64_t count = rng_below(&storm->rng, 4);
         count > 0 && calling->sent < 1000 && !grpc_call_closed(calling->call); count--) {
        (void)memcpy(bytes, &calling->sent, sizeof calling->sent);
        if (!grpc_call_send(calling->call, slice_of(bytes, 4 + rng_below(&storm->rng, 6000)))) {
            break;
        }
        calling->sent++;
    }
    if (calling->sent < 1000 && chance(storm, 3)) {
        grpc_call_end(calling->call);
        calling->sent = 1000;
    }
    enum grpc_next next = GRPC_NEXT_NONE;
    for (uint64_t count = rng_below(&storm->rng, 30); count > 0; count--) {
        struct slice message;
        next = grpc_call_next(calling->call, &message);
        if (next != GRPC_NEXT_MESSAGE) {
            break;
        }
        uint32_t number;
        assert_true(message.len >= sizeof number);
        (void)memcpy(&number, message.at, sizeof number);
        assert_int_equal(number, calling->received);
        calling->received++;
    }
    if (next == GRPC_NEXT_CLOSED || chance(storm, 2)) {
        grpc_call_free(&calling->call);
    }
}

static void client_step(struct storm *storm)
{
    if (storm->client == NULL || grpc_client_get_state(storm->client) == GRPC_CLIENT_CLOSED ||
        chance(storm, 1)) {
        grpc_client_free(&storm->client);
        if (storm->waiting < BACKLOG - 1) {
            struct grpc_client_options options = {.to = addr_ipv4(10, 0, 0, 1, 80),
                                                  .authority = SLICE("storm")};
            storm->client = grpc_client_new(storm->loop, &options);
        }
    }
    for (unsigned i = 0; i < CALLS && storm->client != NULL; i++) {
        call_step(storm, &storm->calling[i]);
    }
}

/* ---- a storm ---- */

static void step(struct storm *storm)
{
    uint64_t next_us;
    uint64_t by_us =
        rng_below(&storm->rng, 50) == 0 ? 100 * STEP_US : rng_below(&storm->rng, STEP_US);
    uint64_t now_us = storm->loop->now_us + by_us;
    for (unsigned i = 0; i < 3; i++) {
        (void)loop_step(storm->loop, now_us, now_us, &next_us);
    }
}

static void storm_begin(struct storm *storm, uint64_t seed)
{
    *storm = (struct storm){.ops = *pipe_net()};
    rng_seed(&storm->rng, seed);
    storm->ops.listen = storm_listen;
    storm->ops.local = storm_local;
    storm->ops.accepting = storm_accepting;
    storm->ops.unlisten = storm_unlisten;
    storm->ops.accept = storm_accept;
    storm->ops.connect = storm_connect;
    storm->ops.addrs = storm_addrs;
    storm->loop = loop_new_stepped(&storm->ops, storm);
    uint64_t next_us;
    (void)loop_step(storm->loop, STEP_US, STEP_US, &next_us);
    struct http_server_options options = {.routes = routes,
                                          .route_count = COUNT_OF(routes),
                                          .owner = storm,
                                          .max_connections =
                                              3 + (uint32_t)rng_below(&storm->rng, 5),
                                          .max_streams = 1 + (uint32_t)rng_below(&storm->rng, 10),
                                          .body_max = 20000,
                                          .bodies_max = 30000};
    storm->server = http_server_new(storm->loop, &options);
    struct addr at = addr_ipv4(10, 0, 0, 1, 80);
    assert_true(http_server_listen(storm->server, &at, NULL, NULL, NULL, NULL));
}

/* After the storm everybody behaves: each call must come to its end, if no wake-up was lost. */
static void calm(struct storm *storm)
{
    for (unsigned i = 0; i < CALLS; i++) {
        if (storm->calling[i].call != NULL && storm->calling[i].sent < 1000) {
            grpc_call_end(storm->calling[i].call);
        }
    }
    unsigned open = CALLS;
    storm->calm = true;
    for (unsigned i = 0; i < CALM_STEPS && open > 0; i++) {
        while (storm->call_count > 0) {
            answer_one(storm, 0);
        }
        for (unsigned at = 0; at < storm->stream_count; at++) {
            at -= serve_some(storm, at) ? 0 : 1;
        }
        open = 0;
        for (unsigned at = 0; at < CALLS; at++) {
            struct slice message;
            struct grpc_call *call = storm->calling[at].call;
            while (call != NULL && grpc_call_next(call, &message) == GRPC_NEXT_MESSAGE) {
                storm->calling[at].received++;
            }
            open += call != NULL && !grpc_call_closed(call);
        }
        step(storm);
    }
    assert_int_equal(open, 0);
}

static void storm_end(struct storm *storm)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (storm->raw[i].net != NULL) {
            storm->raw[i].net->ops->close(&storm->raw[i].net);
        }
    }
    calm(storm);
    if (chance(storm, 50)) {
        http_server_drain(storm->server, NULL);
        for (unsigned i = 0; i < 20; i++) {
            step(storm);
        }
    }
    for (unsigned i = 0; i < CALLS; i++) {
        grpc_call_free(&storm->calling[i].call);
    }
    grpc_client_free(&storm->client);
    step(storm);
    http_server_free(&storm->server);
    step(storm);
    while (storm->call_count > 0) {
        assert_true(http_call_gone(storm->calls[0]));
        answer_one(storm, 0);
    }
    while (storm->stream_count > 0) {
        assert_true(grpc_stream_closed(storm->streams[0]));
        grpc_stream_finish_take(&storm->streams[0], GRPC_OK, SLICE(""));
        storm->streams[0] = storm->streams[--storm->stream_count];
    }
    while (storm->waiting > 0) {
        struct net_conn *net = storm->backlog[--storm->waiting];
        net->ops->close(&net);
    }
    step(storm);
    assert_int_equal(storm->loop->bufs.bytes, 0);
    loop_free(&storm->loop);
}

static void storms_leave_nothing_behind(void **state)
{
    (void)state;
    static struct storm storm;
    uint64_t served = 0;
    uint64_t echoed = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        storm_begin(&storm, seed);
        for (unsigned i = 0; i < STEPS; i++) {
            for (unsigned c = 0; c < CLIENTS; c++) {
                raw_step(&storm, &storm.raw[c]);
            }
            client_step(&storm);
            serve_randomly(&storm);
            step(&storm);
        }
        served += storm.served;
        echoed += storm.echoed;
        storm_end(&storm);
    }
    print_message("%llu calls answered, %llu messages echoed\n", (unsigned long long)served,
                  (unsigned long long)echoed);
    assert_true(served > 10 * SEEDS);
    assert_true(echoed > 10 * SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(storms_leave_nothing_behind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
