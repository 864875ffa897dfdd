#include "http/client.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "http/channel.h"
#include "http/h1.h"

#define TIMEOUT_MS 10000U
#define BODY_MAX   (64U << 20)
#define US_PER_MS  1000U

/* X(value, meaning) */
#define ASK_STATES(X)                                                                              \
    X(CONNECTING, "TCP")                                                                           \
    X(WAITING, "the request goes out, the answer comes")                                           \
    X(DONE, "answered, or `err` says why not")

enum ask_state {
#define X(value, meaning) ASK_##value,
    ASK_STATES(X)
#undef X
};

struct ask {
    struct loop *loop;
    const struct http_client_request *request;
    struct http_client_answer *answer;
    struct error *err;
    struct conn *conn; /* CONNECTING */
    struct channel channel;
    struct stream stream;
    struct task task;
    struct timer timer;
    struct arena arena;
    struct buf upload;
    struct buf download;
    struct h1_limits limits;
    struct h1_scratch *scratch;
    enum ask_state state;
    bool opened; /* there is a channel */
    bool answered;
};

static void done(struct ask *ask, bool answered)
{
    ask->state = ASK_DONE;
    ask->answered = answered;
    timer_clear(&ask->timer);
    loop_stop(ask->loop);
}

static void fail(struct ask *ask, const char *doing, const char *what)
{
    (void)error_set(ask->err, "%s %s: %s", doing, ask->request->server, what);
    done(ask, false);
}

static void add(struct ask *ask, struct message *head, const char *name, const char *value)
{
    if (value != NULL) {
        (void)!headers_add(&head->headers, &ask->arena, slice_of_text(name), slice_of_text(value));
    }
}

static void write_request(struct ask *ask)
{
    const struct http_client_request *request = ask->request;
    bool body = request->body.len > 0;
    const char *method = request->method != NULL ? request->method : body ? "POST" : "GET";
    struct message head = {.kind = MESSAGE_REQUEST,
                           .version = MESSAGE_HTTP_1_1,
                           .method = slice_of_text(method),
                           .scheme = SLICE("http"),
                           .authority = slice_of_text(request->server),
                           .path = slice_of_text(request->path),
                           .content_length = body ? request->body.len : MESSAGE_LENGTH_UNKNOWN,
                           .has_body = body,
                           .keep_alive = false};
    add(ask, &head, "user-agent", "pillion");
    add(ask, &head, "accept", "*/*");
    add(ask, &head, "authorization", request->authorization);
    if (body) {
        const char *type = request->content_type;
        add(ask, &head, "content-type", type != NULL ? type : "application/json");
        buf_append(&ask->upload, request->body);
    }
    stream_write_head(&ask->stream, &head, !body);
}

/* The whole answer is here: one block of memory holds what is given out. */
static void finish(struct ask *ask)
{
    const struct message *head = ask->stream.head;
    struct slice type = headers_value(&head->headers, HEADER_CONTENT_TYPE);
    size_t len = ask->download.len;
    uint8_t *memory = mem_new(len + 1 + type.len + 1);
    (void)buf_peek(&ask->download, (struct span){memory, len});
    for (size_t i = 0; i < type.len; i++) {
        memory[len + 1 + i] = type.at[i];
    }
    *ask->answer = (struct http_client_answer){.status = head->status,
                                               .content_type = slice_of(memory + len + 1, type.len),
                                               .body = slice_of(memory, len),
                                               .memory = memory};
    done(ask, true);
}

static void take_stream(struct ask *ask)
{
    struct stream *stream = &ask->stream;
    uint32_t max = ask->request->body_max != 0 ? ask->request->body_max : BODY_MAX;
    if (stream->in.len > max - ask->download.len) {
        fail(ask, "read the answer of", "too large");
        return;
    }
    size_t len = stream->in.len;
    buf_move(&ask->download, &stream->in, len);
    stream_consumed(stream, len);
    if (stream->in_end && stream->head != NULL) {
        finish(ask);
    } else if ((stream->events & STREAM_RESET) != 0) {
        fail(ask, "read the answer of", "cut off");
    } else if (!stream->out_end && stream->channel != NULL) {
        (void)stream_write_data(stream, &ask->upload, true);
    }
}

static void run_waiting(struct ask *ask)
{
    struct codec_event ev;
    channel_begin(&ask->channel);
    enum channel_step step = channel_next(&ask->channel, &ev);
    for (; step == CHANNEL_EVENT; step = channel_next(&ask->channel, &ev)) {
        (void)channel_deliver(&ask->channel, &ev);
    }
    take_stream(ask);
    if (ask->state == ASK_DONE) {
        return;
    }
    if (step == CHANNEL_BAD) {
        fail(ask, "read the answer of", "this is no HTTP");
    } else if (step == CHANNEL_EOF || step == CHANNEL_GONE) {
        fail(ask, "read the answer of", "the connection was closed before it came");
    } else if (channel_flush(&ask->channel) == IO_RESET) {
        fail(ask, "send the request to", "the connection was reset");
    }
}

static void run_connecting(struct ask *ask)
{
    struct error why = {.text = ""};
    switch (conn_handshake(ask->conn, &why)) {
    case IO_OK:
        break;
    case IO_AGAIN:
        return;
    case IO_EOF:
    case IO_RESET:
        fail(ask, "connect to", why.text);
        return;
    }
    struct codec *codec = h1_client_new(&ask->limits, ask->scratch);
    channel_init(&ask->channel, ask->loop, &ask->conn, &codec, &ask->task);
    ask->opened = true;
    ask->state = ASK_WAITING;
    stream_attach(&ask->stream, &ask->channel, codec_open(ask->channel.codec));
    write_request(ask);
    run_waiting(ask);
}

static void run(struct task *task)
{
    struct ask *ask = CONTAINER_OF(task, struct ask, task);
    if (ask->state == ASK_DONE) {
        return;
    }
    if (timer_due(&ask->timer, ask->loop)) {
        fail(ask, ask->state == ASK_CONNECTING ? "connect to" : "read the answer of", "timed out");
    } else if (ask->state == ASK_CONNECTING) {
        run_connecting(ask);
    } else {
        run_waiting(ask);
    }
}

/* "localhost" is the one name that is known without asking anybody (RFC 6761 6.3). */
static bool parse_server(const char *server, struct addr *addr, struct error *err)
{
    struct slice text = slice_of_text(server);
    struct slice name = SLICE("localhost:");
    uint64_t port = 0;
    if (slice_starts(text, name) && slice_to_u64(slice_from(text, name.len), UINT16_MAX, &port) &&
        port != 0) {
        *addr = addr_ipv4(127, 0, 0, 1, (uint16_t)port);
        return true;
    }
    if (!addr_parse(text, addr) || addr->port == 0) {
        return error_set(err, "\"%s\" is no server: an IP address, or localhost, and a port",
                         server);
    }
    return true;
}

static void begin(struct ask *ask, const struct addr *to)
{
    uint32_t timeout_ms = ask->request->timeout_ms != 0 ? ask->request->timeout_ms : TIMEOUT_MS;
    timer_set(ask->loop, &ask->timer, ask->loop->now_us + (uint64_t)timeout_ms * US_PER_MS);
    enum net_error error = NET_ERROR_NONE;
    struct net_conn *net = net_connect(ask->loop, to, NULL, &error);
    if (net == NULL) {
        fail(ask, "connect to", net_error_text(error));
        return;
    }
    net->owner = &ask->task;
    ask->conn = conn_plain(&net, (struct slice){NULL, 0});
    loop_run(ask->loop);
}

bool http_client_ask(const struct http_client_request *request, struct http_client_answer *answer,
                     struct error *err)
{
    CHECK(request->server != NULL);
    CHECK(request->path != NULL);
    struct addr to;
    *answer = (struct http_client_answer){.status = 0};
    if (!parse_server(request->server, &to, err)) {
        return false;
    }
    struct ask ask = {.loop = loop_new(),
                      .request = request,
                      .answer = answer,
                      .err = err,
                      .limits = H1_LIMITS_DEFAULT,
                      .scratch = NEW(struct h1_scratch),
                      .state = ASK_CONNECTING};
    ask.task.run = run;
    ask.timer.task = &ask.task;
    arena_init(&ask.arena, &ask.loop->arenas);
    buf_init(&ask.upload, &ask.loop->bufs);
    buf_init(&ask.download, &ask.loop->bufs);
    stream_init(&ask.stream, ask.loop, &ask.arena, &ask.task);
    begin(&ask, &to);
    stream_fini(&ask.stream);
    if (ask.opened) {
        channel_fini(&ask.channel, false);
    } else {
        conn_close(&ask.conn);
    }
    task_cancel(&ask.task);
    timer_clear(&ask.timer);
    buf_clear(&ask.upload);
    buf_clear(&ask.download);
    arena_fini(&ask.arena);
    mem_free(ask.scratch);
    loop_free(&ask.loop);
    return ask.answered;
}

void http_client_answer_fini(struct http_client_answer *answer)
{
    mem_free(answer->memory);
    *answer = (struct http_client_answer){.status = 0};
}
