/* Two state machines: the client is the connection, the call one stream on it. Calls that are made
 * while the connection is not there yet, or while the server takes no more streams, wait in a list
 * in their order.
 *
 * How a call ended is settled once, by whoever learns it first: trailers, a reset, the connection's
 * end, the deadline. Messages that came before are still given out; the stream stays attached until
 * the owner has read them. */
#include "http/grpc_client.h"

#include <string.h>

#include "base/alloc.h"
#include "base/conn_tls.h"
#include "http/grpc_pipe.h"
#include "http/h2.h"

#define CONNECT_US      UINT64_C(5000000)
#define PING_US         UINT64_C(30000000)
#define STALL_US        UINT64_C(30000000)
#define MESSAGE_MAX     (4U << 20)
#define USER_TIMEOUT_MS 30000
#define US_PER_MS       1000
#define INITIAL_WINDOW  (256U * 1024)
#define H2_CANCEL       8U
#define H2_ENHANCE      11U
#define H2_REFUSED      7U
#define H2_INADEQUATE   12U

struct grpc_client {
    struct loop *loop;
    struct grpc_client_options options; /* its slices point into `texts` */
    char *texts;
    struct task task;
    struct timer timer;
    struct conn *conn;      /* CONNECTING */
    struct channel channel; /* OPEN, DRAINING */
    struct h2_options h2_options;
    struct h2_pool *h2;
    struct list waiting; /* calls without a stream yet */
    struct list calls;   /* calls with one */
    uint64_t begun_us;
    uint64_t in_us;
    uint64_t out_us; /* output waits without moving since; 0: none waits */
    uint64_t bytes_in;
    uint64_t bytes_out;
    struct error why;
    uint8_t state; /* enum grpc_client_state */
    bool pinged;
};

/* X(value, meaning) */
#define CALL_STATES(X)                                                                             \
    X(WAITING, "no stream yet")                                                                    \
    X(OPEN, "messages go both ways")                                                               \
    X(ENDED, "status is settled; messages that came may still be read")

enum grpc_call_state {
#define X(value, meaning) CALL_##value,
    CALL_STATES(X)
#undef X
};

struct grpc_call {
    struct list link; /* in its client's waiting or calls */
    struct loop *loop;
    struct grpc_client *client; /* null: it is gone, or the call left it */
    struct arena arena;
    struct grpc_pipe pipe;
    struct task task;
    struct timer timer; /* the deadline */
    struct task *owner;
    struct grave grave;
    struct slice path;
    struct slice authorization;
    struct slice text;
    uint64_t deadline_us; /* from now on, as the caller said; 0: none */
    enum grpc_status status;
    uint8_t state; /* enum grpc_call_state */
    bool unary;
    bool answered; /* unary: its message was given out */
    bool ending;   /* we send no more */
    bool read_out; /* the owner has seen CLOSED */
};

const char *grpc_client_state_name(enum grpc_client_state state)
{
    static const char *const names[] = {
#define X(value, meaning) [GRPC_CLIENT_##value] = #value,
        GRPC_CLIENT_STATES(X)
#undef X
    };
    CHECK((size_t)state < COUNT_OF(names));
    return names[state];
}

/* ---- the call's end ---- */

static void notify_call(struct grpc_call *call)
{
    if (call->owner != NULL) {
        loop_post(call->loop, call->owner);
    }
}

static void leave_client(struct grpc_call *call)
{
    if (call->client != NULL) {
        list_remove(&call->link);
        loop_post(call->loop, &call->client->task); /* another that waits has room now */
        call->client = NULL;
    }
}

/* The first word on how it ended counts. */
static void settle(struct grpc_call *call, enum grpc_status status, struct slice text)
{
    if (call->state == CALL_ENDED) {
        return;
    }
    call->state = CALL_ENDED;
    call->status = status;
    call->text = arena_dup(&call->arena, text);
    timer_clear(&call->timer);
    buf_clear(&call->pipe.out);
    notify_call(call);
}

/* Off the connection. What is still open of the stream is given up. */
static void leave(struct grpc_call *call)
{
    if (!call->pipe.stream.out_end || !call->pipe.stream.in_end) {
        stream_reset(&call->pipe.stream, H2_CANCEL);
    }
    grpc_pipe_leave(&call->pipe);
    leave_client(call);
}

/* We end it: what comes is of no more use. */
static void cancel(struct grpc_call *call, enum grpc_status status, struct slice text)
{
    settle(call, status, text);
    leave(call);
}

/* What gRPC makes of HTTP/2's codes (PROTOCOL-HTTP2, "Errors"). */
static enum grpc_status status_of_reset(uint32_t code)
{
    switch (code) {
    case H2_REFUSED:
        return GRPC_UNAVAILABLE;
    case H2_CANCEL:
        return GRPC_CANCELLED;
    case H2_ENHANCE:
        return GRPC_RESOURCE_EXHAUSTED;
    case H2_INADEQUATE:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

static bool is_grpc_head(const struct message *head)
{
    return head->status == 200 &&
           grpc_pipe_is_content_type(headers_value(&head->headers, HEADER_CONTENT_TYPE));
}

/* An answer without grpc-status: a proxy's error page, or a server of another kind. */
static void settle_without_status(struct grpc_call *call, const struct message *head)
{
    if (head == NULL) {
        settle(call, GRPC_INTERNAL, SLICE("the stream ends without an answer"));
    } else if (head->status != 200) {
        settle(
            call, grpc_status_of_http(head->status),
            slice_of_text(arena_printf(&call->arena, "the server answered HTTP %u", head->status)));
    } else if (!is_grpc_head(head)) {
        settle(call, GRPC_UNKNOWN, SLICE("the answer is not application/grpc"));
    } else {
        settle(call, GRPC_INTERNAL, SLICE("the answer ends without grpc-status"));
    }
}

/* grpc-status and grpc-message stand in the trailers, or in a head that is all there is. */
static void take_end(struct grpc_call *call)
{
    const struct message *head = call->pipe.stream.head;
    const struct message *fields =
        call->pipe.stream.trailers != NULL ? call->pipe.stream.trailers : head;
    if (fields == NULL || headers_find(&fields->headers, HEADER_GRPC_STATUS) == NULL) {
        settle_without_status(call, head);
        return;
    }
    enum grpc_status status = GRPC_UNKNOWN;
    if (!grpc_status_parse(headers_value(&fields->headers, HEADER_GRPC_STATUS), &status)) {
        settle(call, GRPC_UNKNOWN, SLICE("the answer's grpc-status is none"));
        return;
    }
    struct slice text = headers_value(&fields->headers, HEADER_GRPC_MESSAGE);
    settle(call, status, grpc_message_decode(&call->arena, text));
}

/* A body that is not gRPC's is not waited for. */
static void take_head(struct grpc_call *call)
{
    const struct message *head = call->pipe.stream.head;
    if (headers_find(&head->headers, HEADER_GRPC_STATUS) == NULL && !is_grpc_head(head)) {
        settle_without_status(call, head);
        cancel(call, call->status, call->text);
    }
}

/* ---- the call's run ---- */

static void pump(struct grpc_call *call)
{
    if (call->state == CALL_OPEN && !call->pipe.stream.out_end) {
        (void)grpc_pipe_pump(&call->pipe, call->ending);
    }
}

static void run_call(struct task *task)
{
    struct grpc_call *call = CONTAINER_OF(task, struct grpc_call, task);
    struct stream *stream = &call->pipe.stream;
    unsigned events = stream->events;
    stream->events = 0;
    if ((events & STREAM_HEAD) != 0) {
        take_head(call);
    }
    if ((events & STREAM_END) != 0) {
        take_end(call);
    }
    if ((events & STREAM_REFUSED) != 0) {
        cancel(call, GRPC_INTERNAL, SLICE("the answer is malformed"));
    }
    if ((events & STREAM_RESET) != 0) {
        settle(call, status_of_reset(stream->reset_code),
               slice_of_text(arena_printf(&call->arena, "the server reset the stream with code %u",
                                          stream->reset_code)));
    }
    if ((events & STREAM_LOST) != 0) {
        settle(call, GRPC_UNAVAILABLE, SLICE("the connection is gone"));
    }
    if (timer_due(&call->timer, call->loop)) {
        cancel(call, GRPC_DEADLINE_EXCEEDED, SLICE("no answer within the deadline"));
    }
    pump(call);
    notify_call(call);
}

/* ---- the call's beginning ---- */

static void add(struct grpc_call *call, struct message *message, struct slice name,
                struct slice value)
{
    (void)!headers_add(&message->headers, &call->arena, name, value); /* far below the limit */
}

static void write_head(struct grpc_call *call)
{
    struct grpc_client *client = call->client;
    struct message head = {.kind = MESSAGE_REQUEST,
                           .version = MESSAGE_HTTP_2,
                           .method = SLICE("POST"),
                           .scheme = client->options.tls != NULL ? SLICE("https") : SLICE("http"),
                           .authority = client->options.authority,
                           .path = call->path,
                           .te_trailers = true,
                           .content_length = MESSAGE_LENGTH_UNKNOWN,
                           .has_body = true,
                           .keep_alive = true};
    add(call, &head, SLICE("content-type"), SLICE("application/grpc"));
    add(call, &head, SLICE("user-agent"), client->options.user_agent);
    if (call->authorization.len > 0) {
        add(call, &head, SLICE("authorization"), call->authorization);
        head.headers.field[head.headers.count - 1].no_index = true;
    }
    if (call->deadline_us != 0) {
        char *text = (char *)arena_bytes(&call->arena, GRPC_TIMEOUT_TEXT);
        add(call, &head, SLICE("grpc-timeout"), grpc_timeout_format(call->deadline_us, text));
    }
    stream_write_head(&call->pipe.stream, &head, false);
}

/* Gives streams to calls that wait, as far as the server lets us. */
static void start_waiting(struct grpc_client *client)
{
    while (client->state == GRPC_CLIENT_OPEN && !list_empty(&client->waiting)) {
        uint32_t id = codec_open(client->channel.codec);
        struct list *first = id != 0 ? list_pop(&client->waiting) : NULL;
        if (first == NULL) {
            return; /* until one ends, or SETTINGS say more */
        }
        struct grpc_call *call = LIST_ITEM(first, struct grpc_call, link);
        list_append(&client->calls, &call->link);
        stream_attach(&call->pipe.stream, &client->channel, id);
        call->state = CALL_OPEN;
        write_head(call);
        pump(call);
    }
}

static void free_call(struct grave *grave)
{
    struct grpc_call *call = CONTAINER_OF(grave, struct grpc_call, grave);
    grpc_pipe_fini(&call->pipe);
    arena_fini(&call->arena);
    mem_free(call);
}

static struct grpc_call *call_new(struct grpc_client *client,
                                  const struct grpc_call_options *options)
{
    struct grpc_call *call = NEW(struct grpc_call);
    call->loop = client->loop;
    call->task.run = run_call;
    call->timer.task = &call->task;
    call->grave.free = free_call;
    call->owner = options->owner;
    call->deadline_us = options->deadline_us;
    arena_init(&call->arena, &client->loop->arenas);
    call->path = arena_dup(&call->arena, options->path);
    call->authorization = arena_dup(&call->arena, options->authorization);
    grpc_pipe_init(&call->pipe, client->loop, &call->arena, &call->task,
                   options->message_max != 0 ? options->message_max : MESSAGE_MAX);
    if (options->deadline_us != 0) {
        timer_set(call->loop, &call->timer, call->loop->now_us + options->deadline_us);
    }
    return call;
}

/* Its messages may be queued already. */
static void enter(struct grpc_call *call, struct grpc_client *client)
{
    if (client->state == GRPC_CLIENT_CLOSED) {
        settle(call, GRPC_UNAVAILABLE, slice_of_text(client->why.text));
        return;
    }
    if (client->state == GRPC_CLIENT_DRAINING) {
        settle(call, GRPC_UNAVAILABLE, SLICE("the server takes no more calls on this connection"));
        return;
    }
    call->client = client;
    list_append(&client->waiting, &call->link);
    start_waiting(client);
}

struct grpc_call *grpc_client_stream(struct grpc_client *client,
                                     const struct grpc_call_options *options)
{
    struct grpc_call *call = call_new(client, options);
    enter(call, client);
    return call;
}

struct grpc_call *grpc_client_unary(struct grpc_client *client,
                                    const struct grpc_call_options *options, struct slice message)
{
    struct grpc_call *call = call_new(client, options);
    call->unary = true;
    call->ending = true;
    CHECK(grpc_pipe_queue(&call->pipe, message)); /* the first is always taken */
    enter(call, client);
    return call;
}

/* ---- the call's owner ---- */

void grpc_call_free(struct grpc_call **call_at)
{
    struct grpc_call *call = *call_at;
    if (call == NULL) {
        return;
    }
    *call_at = NULL;
    call->owner = NULL;
    cancel(call, GRPC_CANCELLED, SLICE("cancelled"));
    timer_clear(&call->timer);
    task_cancel(&call->task);
    loop_bury(call->loop, &call->grave);
}

static enum grpc_next closed(struct grpc_call *call)
{
    call->read_out = true;
    leave(call);
    return GRPC_NEXT_CLOSED;
}

enum grpc_next grpc_call_next(struct grpc_call *call, struct slice *message)
{
    if (call->read_out || call->state == CALL_WAITING) {
        return call->read_out ? GRPC_NEXT_CLOSED : GRPC_NEXT_NONE;
    }
    switch (grpc_pipe_next(&call->pipe, message)) {
    case GRPC_NEXT_MESSAGE:
        call->answered = true;
        return GRPC_NEXT_MESSAGE;
    case GRPC_NEXT_NONE:
    case GRPC_NEXT_END:
        break;
    case GRPC_NEXT_CLOSED:
        settle(call, call->pipe.broken, grpc_pipe_broken_text(&call->pipe));
        if (call->status == GRPC_OK) { /* the trailers were right, the messages were not */
            call->status = call->pipe.broken;
            call->text = grpc_pipe_broken_text(&call->pipe);
        }
        return closed(call);
    }
    if (call->state != CALL_ENDED) {
        return GRPC_NEXT_NONE;
    }
    if (call->unary && call->status == GRPC_OK && !call->answered) {
        call->status = GRPC_INTERNAL;
        call->text = SLICE("the server says OK, but sent no message");
    }
    return closed(call);
}

bool grpc_call_send(struct grpc_call *call, struct slice message)
{
    CHECK(!call->ending || call->state == CALL_ENDED);
    if (call->state == CALL_ENDED) {
        return true;
    }
    if (!grpc_pipe_queue(&call->pipe, message)) {
        return false;
    }
    pump(call);
    return true;
}

void grpc_call_end(struct grpc_call *call)
{
    if (!call->ending) {
        call->ending = true;
        pump(call);
    }
}

bool grpc_call_closed(const struct grpc_call *call)
{
    return call->read_out;
}

unsigned grpc_call_get_status(const struct grpc_call *call)
{
    return call->status;
}

struct slice grpc_call_get_text(const struct grpc_call *call)
{
    return call->text;
}

/* ---- the connection ---- */

static void notify(struct grpc_client *client)
{
    if (client->options.owner != NULL) {
        loop_post(client->loop, client->options.owner);
    }
}

static void lose_calls(struct grpc_client *client, struct list *calls)
{
    for (struct list *node = list_pop(calls); node != NULL; node = list_pop(calls)) {
        struct grpc_call *call = LIST_ITEM(node, struct grpc_call, link);
        call->client = NULL;
        settle(call, GRPC_UNAVAILABLE, slice_of_text(client->why.text));
    }
}

/* `why` stands in client->why. */
static void close_client(struct grpc_client *client)
{
    enum grpc_client_state was = (enum grpc_client_state)client->state;
    if (was == GRPC_CLIENT_CLOSED) {
        return;
    }
    client->state = GRPC_CLIENT_CLOSED;
    if (was == GRPC_CLIENT_CONNECTING) {
        conn_reset(&client->conn);
    } else {
        /* What has come for a call is read before it learns of the loss. */
        LIST_EACH(&client->calls, node)
        {
            struct grpc_call *call = LIST_ITEM(node, struct grpc_call, link);
            if ((call->pipe.stream.events & STREAM_END) != 0) {
                take_end(call);
            }
        }
        channel_fini(&client->channel, false);
    }
    lose_calls(client, &client->waiting);
    lose_calls(client, &client->calls);
    timer_clear(&client->timer);
    notify(client);
}

static void fail(struct grpc_client *client, const char *what)
{
    if (client->state != GRPC_CLIENT_CLOSED) {
        (void)error_set(&client->why, "connection to %.*s: %s",
                        SLICE_ARG(client->options.authority), what);
        close_client(client);
    }
}

static void fail_connect(struct grpc_client *client, const char *what)
{
    char text[ADDR_TEXT_MAX];
    (void)error_set(&client->why, "connect to %s: %s", addr_format(&client->options.to, text),
                    what);
    close_client(client);
}

static uint64_t connect_deadline(const struct grpc_client *client)
{
    return client->begun_us + client->options.connect_us;
}

static void look_at_traffic(struct grpc_client *client)
{
    const struct channel *channel = &client->channel;
    uint64_t now = client->loop->now_us;
    if (channel->bytes_in != client->bytes_in) {
        client->bytes_in = channel->bytes_in;
        client->in_us = now;
        client->pinged = false;
    }
    if (!channel_unsent(channel)) {
        client->out_us = 0;
    } else if (channel->bytes_out != client->bytes_out || client->out_us == 0) {
        client->bytes_out = channel->bytes_out;
        client->out_us = now;
    }
}

/* PING where nothing came for a while; gone where nothing came of that either. */
static void keep_alive(struct grpc_client *client)
{
    uint64_t now = client->loop->now_us;
    uint64_t ping_us = client->options.ping_us;
    if (client->pinged && now >= client->in_us + 2 * ping_us) {
        fail(client, "the server does not answer");
        return;
    }
    if (client->out_us != 0 && now >= client->out_us + STALL_US) {
        fail(client, "the server does not read");
        return;
    }
    if (!client->pinged && now >= client->in_us + ping_us) {
        struct codec_cmd cmd = {.kind = CODEC_CMD_PING, .bytes = SLICE("alive?!?")};
        client->pinged = true;
        (void)codec_write(client->channel.codec, &client->channel.out, &cmd);
        channel_flush_soon(&client->channel);
    }
    uint64_t at = client->in_us + (client->pinged ? 2 : 1) * ping_us;
    if (client->out_us != 0 && client->out_us + STALL_US < at) {
        at = client->out_us + STALL_US;
    }
    timer_set(client->loop, &client->timer, at);
}

static void take_event(struct grpc_client *client, const struct codec_event *ev)
{
    if (ev->kind == CODEC_EV_GOAWAY && client->state == GRPC_CLIENT_OPEN) {
        client->state = GRPC_CLIENT_DRAINING;
        (void)error_set(&client->why, "the server takes no more calls on this connection");
        lose_calls(client, &client->waiting);
        notify(client);
    }
}

static void run_open(struct grpc_client *client)
{
    struct channel *channel = &client->channel;
    struct codec_event ev;
    h2_tick(channel->codec, client->loop->now_us / US_PER_MS);
    channel_begin(channel);
    enum channel_step step = channel_next(channel, &ev);
    for (; step == CHANNEL_EVENT; step = channel_next(channel, &ev)) {
        if (!channel_deliver(channel, &ev)) {
            take_event(client, &ev);
        }
    }
    if (step == CHANNEL_BAD) {
        (void)channel_flush(channel); /* what the codec owes: GOAWAY */
        fail(client, codec_bad_name(channel->codec->bad));
        return;
    }
    if (step == CHANNEL_GONE || step == CHANNEL_EOF) {
        struct slice failure =
            client->options.tls != NULL ? conn_tls_failure(channel->conn) : (struct slice){NULL, 0};
        char *text = mem_dup(failure.at, failure.len);
        fail(client, failure.len > 0       ? text
                     : step == CHANNEL_EOF ? "closed by the server"
                                           : "reset by the server");
        mem_free(text);
        return;
    }
    if (client->state == GRPC_CLIENT_DRAINING && list_empty(&client->calls)) {
        fail(client, "the server takes no more calls on this connection");
        return;
    }
    start_waiting(client);
    channel_flush_soon(channel);
    look_at_traffic(client);
    keep_alive(client);
}

static void run_connecting(struct grpc_client *client)
{
    struct error err = {.text = ""};
    if (timer_due(&client->timer, client->loop)) {
        fail_connect(client, "timed out");
        return;
    }
    switch (conn_handshake(client->conn, &err)) {
    case IO_OK:
        break;
    case IO_AGAIN:
        timer_set(client->loop, &client->timer, connect_deadline(client));
        return;
    case IO_EOF:
    case IO_RESET:
        fail_connect(client, err.text);
        return;
    }
    if (client->options.tls != NULL && !slice_eq(conn_alpn(client->conn), SLICE("h2"))) {
        fail_connect(client, "the server does not speak HTTP/2");
        return;
    }
    struct codec *codec = h2_new(client->h2, &client->h2_options);
    client->state = GRPC_CLIENT_OPEN;
    client->in_us = client->loop->now_us;
    channel_init(&client->channel, client->loop, &client->conn, &codec, &client->task);
    notify(client);
    run_open(client);
}

static void run(struct task *task)
{
    struct grpc_client *client = CONTAINER_OF(task, struct grpc_client, task);
    switch ((enum grpc_client_state)client->state) {
    case GRPC_CLIENT_CONNECTING:
        run_connecting(client);
        break;
    case GRPC_CLIENT_OPEN:
    case GRPC_CLIENT_DRAINING:
        run_open(client);
        break;
    case GRPC_CLIENT_CLOSED:
        break;
    }
}

/* ---- life ---- */

static struct slice keep(char **at, struct slice text)
{
    struct slice kept = slice_of(*at, text.len);
    if (text.len > 0) {
        (void)memcpy(*at, text.at, text.len);
    }
    *at += text.len;
    return kept;
}

static void copy_options(struct grpc_client *client, const struct grpc_client_options *from)
{
    struct grpc_client_options *own = &client->options;
    *own = *from;
    own->connect_us = from->connect_us != 0 ? from->connect_us : CONNECT_US;
    own->ping_us = from->ping_us != 0 ? from->ping_us : PING_US;
    if (own->user_agent.len == 0) {
        own->user_agent = SLICE("pillion");
    }
    client->texts = mem_raw(own->authority.len + own->user_agent.len + 1);
    char *at = client->texts;
    own->authority = keep(&at, own->authority);
    own->user_agent = keep(&at, own->user_agent);
}

struct grpc_client *grpc_client_new(struct loop *loop, const struct grpc_client_options *options)
{
    CHECK(options->tls == NULL || options->keys != NULL);
    struct grpc_client *client = NEW(struct grpc_client);
    client->loop = loop;
    client->task.run = run;
    client->timer.task = &client->task;
    client->begun_us = loop->now_us;
    client->h2 = h2_pool_new();
    client->h2_options = h2_options_default(CODEC_CLIENT);
    client->h2_options.huffman = true;
    client->h2_options.initial_window = INITIAL_WINDOW;
    list_init(&client->waiting);
    list_init(&client->calls);
    copy_options(client, options);
    enum net_error error = NET_ERROR_NONE;
    struct net_conn *net = net_connect(loop, &client->options.to, NULL, &error);
    if (net == NULL) {
        fail_connect(client, net_error_text(error));
        return client;
    }
    net->owner = &client->task;
    net->ops->set_option(net, NET_USER_TIMEOUT_MS, USER_TIMEOUT_MS);
    if (options->tls != NULL) {
        struct tls_client how = {.keys = options->keys,
                                 .context = options->tls,
                                 .sni = options->sni,
                                 .identity = options->identity};
        client->conn = options->keys->provider->client(&net, &how);
    } else {
        client->conn = conn_plain(&net, (struct slice){NULL, 0});
    }
    timer_set(loop, &client->timer, connect_deadline(client));
    loop_post(loop, &client->task);
    return client;
}

void grpc_client_free(struct grpc_client **client_at)
{
    struct grpc_client *client = *client_at;
    if (client == NULL) {
        return;
    }
    client->options.owner = NULL;
    if (client->state != GRPC_CLIENT_CLOSED) {
        (void)error_set(&client->why, "the connection was given up");
        close_client(client);
    }
    task_cancel(&client->task);
    h2_pool_free(&client->h2);
    mem_free(client->texts);
    FREE(*client_at);
}

enum grpc_client_state grpc_client_get_state(const struct grpc_client *client)
{
    return (enum grpc_client_state)client->state;
}

struct slice grpc_client_why(const struct grpc_client *client)
{
    return client->state == GRPC_CLIENT_CLOSED ? slice_of_text(client->why.text)
                                               : (struct slice){NULL, 0};
}
