/* A call is a small state machine that its task runs: gather the request, give it to a handler,
 * send what the handler said. The handler's functions only leave something to send and post the
 * task, so that nothing here is entered from below or above twice.
 *
 * A call that has lost its connection keeps its place in the machine: reading it gives CLOSED,
 * sending goes nowhere, and giving it back buries it. */
#include "http/server_call.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/conn.h"
#include "http/h1_write.h"

#define H2_NO_ERROR 0U
#define H2_CANCEL   8U
/* Of a request that was answered before its end; as in sidecar/exchange. */
#define DISCARD_US    UINT64_C(1000000)
#define DISCARD_BYTES (256U * 1024)

/* ---- life ---- */

static void state_set(struct http_call *call, enum call_state to)
{
    static const uint8_t allowed[] = {
        [CALL_BODY] = 1U << CALL_HELD | 1U << CALL_SENDING | 1U << CALL_ENDED,
        [CALL_HELD] = 1U << CALL_SENDING | 1U << CALL_ENDED,
        [CALL_SENDING] = 1U << CALL_DISCARDING | 1U << CALL_ENDED,
        [CALL_DISCARDING] = 1U << CALL_ENDED,
        [CALL_ENDED] = 0,
    };
    CHECK((allowed[call->state] & 1U << to) != 0);
    call->state = (uint8_t)to;
}

static void free_call(struct grave *grave)
{
    struct http_call *call = CONTAINER_OF(grave, struct http_call, grave);
    grpc_pipe_fini(&call->pipe);
    buf_clear(&call->body);
    mem_free(call->body_bytes);
    arena_fini(&call->arena);
    mem_free(call);
}

static void charge(struct http_call *call, uint64_t bytes)
{
    uint64_t *total = conn_place(call->conn).bodies_bytes;
    CHECK(*total >= call->charged);
    *total = *total - call->charged + bytes;
    call->charged = bytes;
}

/* Off its connection, which may close or go on to the next request. */
static void leave(struct http_call *call)
{
    struct http_conn *conn = call->conn;
    grpc_pipe_leave(&call->pipe);
    if (conn != NULL) {
        charge(call, 0);
        call->conn = NULL;
        list_remove(&call->link);
        conn_call_left(conn);
    }
}

static void end(struct http_call *call)
{
    state_set(call, CALL_ENDED);
    leave(call);
    timer_clear(&call->timer);
    task_cancel(&call->task);
    loop_bury(call->loop, &call->grave);
}

static void notify(struct http_call *call)
{
    if (call->owner != NULL) {
        loop_post(call->loop, call->owner);
    }
}

/* The client is gone, whoever said so. */
static void lost(struct http_call *call)
{
    leave(call);
    switch ((enum call_state)call->state) {
    case CALL_BODY:
    case CALL_SENDING:
    case CALL_DISCARDING:
        end(call);
        break;
    case CALL_HELD:
        call->ending = ENDING_SENT;
        notify(call);
        break;
    case CALL_ENDED:
        break;
    }
}

void call_lose(struct http_call *call)
{
    charge(call, 0);
    call->conn = NULL;
    list_remove(&call->link);
    loop_post(call->loop, &call->task); /* its stream says LOST */
}

/* ---- answers ---- */

static void arm_stall(struct http_call *call)
{
    call->moved_bytes = call->pipe.stream.out_bytes;
    timer_set(call->loop, &call->timer, call->loop->now_us + call->options->stall_us);
}

/* The answer is complete. An HTTP/1 connection whose request is not is of no more use. */
static void answered(struct http_call *call)
{
    struct stream *stream = &call->pipe.stream;
    if (stream->channel != NULL) {
        channel_push(stream->channel);
    }
    if (stream->channel != NULL && !stream->in_end && call->conn != NULL) {
        conn_close_after(call->conn);
    }
}

static void discard(struct http_call *call)
{
    struct stream *stream = &call->pipe.stream;
    size_t len = stream->in.len;
    buf_consume(&stream->in, len);
    stream_consumed(stream, len);
    if (stream->in_end) {
        end(call);
    } else if (stream->in_bytes - call->moved_bytes > DISCARD_BYTES) {
        stream_reset(stream, H2_NO_ERROR);
        end(call);
    }
}

/* What still comes of the request is not wanted. A gRPC client expects to be told so at once
 * (RFC 9113 8.1); others may drop the answer when they read RST_STREAM beside it, so they get the
 * time to stop by themselves. */
static void after_answer(struct http_call *call)
{
    struct stream *stream = &call->pipe.stream;
    if (stream->channel == NULL || stream->in_end || !stream->channel->codec->ops->multiplexes) {
        end(call);
    } else if (call->grpc) {
        stream_reset(stream, H2_NO_ERROR);
        end(call);
    } else {
        state_set(call, CALL_DISCARDING);
        call->moved_bytes = stream->in_bytes;
        timer_set(call->loop, &call->timer, call->loop->now_us + DISCARD_US);
        discard(call);
    }
}

static struct message response(struct http_call *call, uint16_t status)
{
    return (struct message){.kind = MESSAGE_RESPONSE,
                            .version = MESSAGE_HTTP_1_1,
                            .status = status,
                            .reason = h1_reason(status),
                            .content_length = MESSAGE_LENGTH_UNKNOWN,
                            .keep_alive = call->conn != NULL && !conn_place(call->conn).closing};
}

static void add(struct http_call *call, struct message *message, struct slice name,
                struct slice value)
{
    (void)!headers_add(&message->headers, &call->arena, name, value); /* far below the limit */
}

/* status 0 and no text say OK in as many words: grpc-status must be there. */
static void add_status(struct http_call *call, struct message *message)
{
    add(call, message, SLICE("grpc-status"),
        slice_of_text(arena_printf(&call->arena, "%u", (unsigned)call->status)));
    if (call->text.len > 0) {
        add(call, message, SLICE("grpc-message"), grpc_message_encode(&call->arena, call->text));
    }
}

static void write_grpc_head(struct http_call *call)
{
    struct message head = response(call, 200);
    add(call, &head, SLICE("content-type"), SLICE("application/grpc"));
    head.has_body = true;
    call->head_sent = true;
    stream_write_head(&call->pipe.stream, &head, false);
}

/* Status and text: behind the messages, or in a head that is all there is. */
static void write_grpc_end(struct http_call *call)
{
    struct message message = response(call, 200);
    if (!call->head_sent) {
        add(call, &message, SLICE("content-type"), SLICE("application/grpc"));
        add_status(call, &message);
        call->head_sent = true;
        stream_write_head(&call->pipe.stream, &message, true);
    } else {
        add_status(call, &message);
        stream_write_trailers(&call->pipe.stream, &message);
    }
    call->ending = ENDING_SENT;
    answered(call);
}

/* Sends what waits. True when the answer is complete, or nobody reads it. */
static bool pump_grpc(struct http_call *call)
{
    if (call->pipe.stream.channel == NULL) {
        return true;
    }
    if (call->ending == ENDING_SENT) {
        return true;
    }
    if (!call->head_sent && !buf_empty(&call->pipe.out)) {
        write_grpc_head(call);
    }
    if (grpc_pipe_pump(&call->pipe, false) && call->ending == ENDING_DUE) {
        write_grpc_end(call);
        return true;
    }
    return false;
}

static bool pump_plain(struct http_call *call)
{
    struct stream *stream = &call->pipe.stream;
    if (stream->channel == NULL || stream->out_end) {
        return true;
    }
    bool done = stream_write_data(stream, &call->pipe.out, true) == CODEC_DONE;
    if (done) {
        answered(call);
    } else {
        channel_push(stream->channel);
    }
    return done;
}

static void pump(struct http_call *call)
{
    if (call->grpc ? pump_grpc(call) : pump_plain(call)) {
        after_answer(call);
    }
}

static void set_ending(struct http_call *call, enum grpc_status status, struct slice text)
{
    call->status = status;
    call->text = arena_dup(&call->arena, text);
    call->ending = ENDING_DUE;
}

/* The server's own answer to a gRPC call. */
static void refuse_grpc(struct http_call *call, enum grpc_status status, struct slice text)
{
    set_ending(call, status, text);
    state_set(call, CALL_SENDING);
    arm_stall(call);
    pump(call);
}

static bool has_no_body(const struct http_call *call, uint16_t status)
{
    return slice_eq(call->request.method, SLICE("HEAD")) || status == 204 || status == 304;
}

static void send_reply(struct http_call *call, const struct http_reply *reply)
{
    struct stream *stream = &call->pipe.stream;
    state_set(call, CALL_SENDING);
    if (reply->from != NULL) {
        buf_move(&call->pipe.out, reply->from, reply->from->len);
    } else {
        buf_append(&call->pipe.out, reply->body);
    }
    if (stream->channel == NULL) {
        end(call);
        return;
    }
    if (!stream->in_end && !stream->channel->codec->ops->multiplexes) {
        conn_close_after(call->conn); /* what is left of the request is not read */
    }
    struct message head = response(call, reply->status != 0 ? reply->status : 200);
    char date[CLOCK_HTTP_DATE_BYTES];
    clock_http_date(call->loop->wall_us, date);
    add(call, &head, SLICE("date"), slice_of_text(date));
    const char *type = reply->content_type;
    if (type == NULL && !buf_empty(&call->pipe.out)) {
        type = "text/plain; charset=utf-8";
    }
    if (type != NULL) {
        add(call, &head, SLICE("content-type"), slice_of_text(type));
    }
    for (size_t i = 0; i < reply->header_count; i++) {
        add(call, &head, reply->headers[i].name, reply->headers[i].value);
    }
    head.content_length = call->pipe.out.len;
    bool no_body = has_no_body(call, head.status);
    if (no_body || buf_empty(&call->pipe.out)) {
        buf_clear(&call->pipe.out);
        stream_write_head(stream, &head, true);
        answered(call);
        after_answer(call);
        return;
    }
    head.has_body = true;
    stream_write_head(stream, &head, false);
    arm_stall(call);
    pump(call);
}

static void answer_status(struct http_call *call, uint16_t status, const char *text)
{
    struct http_reply reply = {.status = status, .body = slice_of_text(text)};
    send_reply(call, &reply);
}

/* A request without a row, or too large, or too slow. */
static void refuse(struct http_call *call, uint16_t status, const char *text)
{
    if (call->grpc) {
        refuse_grpc(call,
                    status == 404   ? GRPC_UNIMPLEMENTED
                    : status == 413 ? GRPC_RESOURCE_EXHAUSTED
                    : status == 503 ? GRPC_UNAVAILABLE
                    : status == 408 ? GRPC_DEADLINE_EXCEEDED
                                    : GRPC_INTERNAL,
                    slice_of_text(text));
    } else {
        answer_status(call, status, text);
    }
}

/* ---- rows ---- */

static bool path_fits(const struct http_route *route, struct slice path)
{
    struct slice wanted = slice_of_text(route->path);
    return route->prefix ? slice_starts(path, wanted) : slice_eq(path, wanted);
}

static bool method_fits(const struct http_route *route, struct slice method)
{
    if (route->kind != HTTP_ROUTE_PLAIN) {
        return slice_eq(method, SLICE("POST"));
    }
    struct slice wanted = slice_of_text(route->method);
    return route->method == NULL || slice_eq(method, wanted) ||
           (slice_eq(wanted, SLICE("GET")) && slice_eq(method, SLICE("HEAD")));
}

/* "GET, HEAD, POST": what rows of this path take (RFC 9110 15.5.6 wants it said). */
static struct slice allowed_methods(struct http_call *call)
{
    char *text = NULL;
    for (size_t i = 0; i < call->options->route_count; i++) {
        const struct http_route *route = &call->options->routes[i];
        if (path_fits(route, call->request.path)) {
            const char *method = route->kind == HTTP_ROUTE_PLAIN ? route->method : "POST";
            const char *more = strcmp(method, "GET") == 0 ? ", HEAD" : "";
            text = arena_printf(&call->arena, "%s%s%s%s", text != NULL ? text : "",
                                text != NULL ? ", " : "", method, more);
        }
    }
    return slice_of_text(text);
}

/* Null: no row's path fits, or (*wrong_method) no row's method does. */
static const struct http_route *find_route(const struct http_call *call, bool *wrong_method)
{
    *wrong_method = false;
    for (size_t i = 0; i < call->options->route_count; i++) {
        const struct http_route *route = &call->options->routes[i];
        if (path_fits(route, call->request.path)) {
            if (method_fits(route, call->request.method)) {
                return route;
            }
            *wrong_method = true;
        }
    }
    return NULL;
}

/* ---- the request ---- */

static void hand_over(struct http_call *call)
{
    state_set(call, CALL_HELD);
    timer_clear(&call->timer);
    if (call->route->kind == HTTP_ROUTE_STREAM) {
        call->route->stream(call->options->owner, CONTAINER_OF(call, struct grpc_stream, call));
    } else {
        call->route->plain(call->options->owner, call);
    }
}

/* The whole body, in one piece. */
static void finish_body(struct http_call *call)
{
    size_t len = call->body.len;
    if (len > 0) {
        call->body_bytes = mem_raw(len);
        (void)buf_peek(&call->body, (struct span){call->body_bytes, len});
        buf_clear(&call->body);
        call->request.body = slice_of(call->body_bytes, len);
    }
    hand_over(call);
}

/* Charges what the call holds; too much of all calls together is refused. False: it was. */
static bool afford(struct http_call *call)
{
    struct call_place place = conn_place(call->conn);
    charge(call, call->body.len + call->pipe.reader.room + call->request.body.len);
    if (*place.bodies_bytes <= place.options->bodies_max) {
        return true;
    }
    refuse(call, 503, "too much is under way here; try again later\n");
    return false;
}

static void gather_plain(struct http_call *call)
{
    struct stream *stream = &call->pipe.stream;
    size_t len = stream->in.len;
    if (len > call->body_max - call->body.len) {
        refuse(call, 413, "the body is larger than is taken here\n");
        return;
    }
    buf_move(&call->body, &stream->in, len);
    stream_consumed(stream, len);
    if (afford(call) && stream->in_end) {
        finish_body(call);
    }
}

/* Exactly one message, then the end. */
static void gather_unary(struct http_call *call)
{
    struct slice message;
    for (;;) {
        switch (grpc_pipe_next(&call->pipe, &message)) {
        case GRPC_NEXT_MESSAGE:
            if (call->body_bytes != NULL) {
                refuse_grpc(call, GRPC_UNIMPLEMENTED, SLICE("one message is taken, more came"));
                return;
            }
            call->body_bytes = (uint8_t *)mem_dup(message.at, message.len);
            call->request.body = slice_of(call->body_bytes, message.len);
            if (!afford(call)) {
                return;
            }
            continue;
        case GRPC_NEXT_NONE:
            (void)afford(call);
            return;
        case GRPC_NEXT_CLOSED:
            refuse_grpc(call, call->pipe.broken, grpc_pipe_broken_text(&call->pipe));
            return;
        case GRPC_NEXT_END:
            if (call->body_bytes == NULL) {
                refuse_grpc(call, GRPC_UNIMPLEMENTED, SLICE("no message came"));
            } else {
                hand_over(call);
            }
            return;
        }
    }
}

static void gather(struct http_call *call)
{
    if (call->route->kind == HTTP_ROUTE_UNARY) {
        gather_unary(call);
    } else {
        gather_plain(call);
    }
}

/* ---- the task ---- */

static void run_timer(struct http_call *call)
{
    if (call->state == CALL_BODY) {
        refuse(call, 408, "the request took too long to come\n");
    } else if (call->state == CALL_DISCARDING) {
        stream_reset(&call->pipe.stream, H2_NO_ERROR);
        end(call);
    } else if (call->pipe.stream.out_bytes != call->moved_bytes) {
        arm_stall(call);
    } else {
        stream_reset(&call->pipe.stream, H2_CANCEL);
        if (call->conn != NULL && !conn_place(call->conn).http2) {
            conn_close_after(call->conn);
        }
        lost(call);
    }
}

static void run_held(struct http_call *call)
{
    if (call->grpc) {
        (void)pump_grpc(call);
    }
    if (call->route->kind == HTTP_ROUTE_STREAM) {
        notify(call);
    }
}

static void run(struct task *task)
{
    struct http_call *call = CONTAINER_OF(task, struct http_call, task);
    struct stream *stream = &call->pipe.stream;
    unsigned events = stream->events;
    stream->events = 0;
    if ((events & (STREAM_RESET | STREAM_LOST)) != 0) {
        lost(call);
        return;
    }
    if ((events & STREAM_REFUSED) != 0) {
        if (call->state == CALL_BODY && !call->grpc) {
            answer_status(call, codec_bad_status((enum codec_bad)stream->bad), "bad request\n");
        } else {
            stream_reset(stream, codec_bad_code((enum codec_bad)stream->bad));
            lost(call);
        }
        return;
    }
    if (timer_due(&call->timer, call->loop)) {
        run_timer(call);
        return;
    }
    switch ((enum call_state)call->state) {
    case CALL_BODY:
        gather(call);
        break;
    case CALL_HELD:
        run_held(call);
        break;
    case CALL_SENDING:
        pump(call);
        break;
    case CALL_DISCARDING:
        discard(call);
        break;
    case CALL_ENDED:
        break;
    }
}

/* ---- the beginning ---- */

static struct http_call *call_new(struct http_conn *conn, uint32_t stream)
{
    struct call_place place = conn_place(conn);
    struct grpc_stream *whole = NEW(struct grpc_stream);
    struct http_call *call = &whole->call;
    call->loop = place.loop;
    call->conn = conn;
    call->options = place.options;
    call->task.run = run;
    call->timer.task = &call->task;
    call->grave.free = free_call;
    call->body_max = place.options->body_max;
    arena_init(&call->arena, &place.loop->arenas);
    buf_init(&call->body, &place.loop->bufs);
    grpc_pipe_init(&call->pipe, place.loop, &call->arena, &call->task, call->body_max);
    list_append(place.calls, &call->link);
    stream_attach(&call->pipe.stream, place.channel, stream);
    call->request.peer = place.peer;
    call->request.local = place.local;
    call->request.loopback = addr_is_loopback(&place.peer);
    call->request.tls = place.tls;
    if (place.identity != NULL) {
        call->request.identity = arena_dup(&call->arena, place.identity->identity);
        call->request.uid = arena_dup(&call->arena, place.identity->uid);
        call->request.certificate_end_us = place.identity->not_after_us;
    }
    return call;
}

static void read_head(struct http_call *call, const struct message *from)
{
    struct message *message = ARENA_NEW(&call->arena, struct message);
    message_copy(message, &call->arena, from, 0);
    struct http_request *request = &call->request;
    size_t end = slice_find(message->path, '?');
    request->method = message->method;
    request->path = slice_head(message->path, end);
    request->query = slice_from(message->path, end + 1);
    request->authority = message->authority;
    request->headers = &message->headers;
    call->grpc = grpc_pipe_is_content_type(headers_value(&message->headers, HEADER_CONTENT_TYPE));
}

/* What the head alone refuses. True: answered. */
static bool refuse_head(struct http_call *call, const struct message *message, bool http2)
{
    bool wrong_method = false;
    call->route = find_route(call, &wrong_method);
    if (call->grpc && !http2) {
        call->grpc = false;
        answer_status(call, 505, "gRPC needs HTTP/2\n");
        return true;
    }
    bool row_is_grpc = call->route != NULL && call->route->kind != HTTP_ROUTE_PLAIN;
    if (call->grpc && !row_is_grpc) {
        refuse_grpc(call, GRPC_UNIMPLEMENTED, SLICE("no such method here"));
        return true;
    }
    if (wrong_method && call->route == NULL) {
        struct header allow = {.name = SLICE("allow"), .value = allowed_methods(call)};
        struct http_reply reply = {.status = 405,
                                   .body = SLICE("this path does not take this method\n"),
                                   .headers = &allow,
                                   .header_count = 1};
        send_reply(call, &reply);
        return true;
    }
    if (call->route == NULL) {
        answer_status(call, 404, "nothing is served at this path\n");
        return true;
    }
    if (row_is_grpc && !call->grpc) {
        answer_status(call, 415, "this path takes application/grpc\n");
        return true;
    }
    if (call->route->body_max != 0) {
        call->body_max = call->route->body_max;
        call->pipe.reader.max_bytes = call->body_max;
    }
    if (!row_is_grpc && message->content_length != MESSAGE_LENGTH_UNKNOWN &&
        message->content_length > call->body_max) {
        refuse(call, 413, "the body is larger than is taken here\n");
        return true;
    }
    return false;
}

void call_begin(struct http_conn *conn, const struct codec_event *ev)
{
    struct http_call *call = call_new(conn, ev->stream);
    read_head(call, ev->message);
    if (refuse_head(call, ev->message, conn_place(conn).http2)) {
        return;
    }
    if (call->route->prefix) {
        call->request.rest = slice_from(call->request.path, strlen(call->route->path));
    }
    bool upgrade =
        ev->message->protocol.len > 0; /* ignored; the request's end waits for an answer */
    if (call->route->kind == HTTP_ROUTE_STREAM || upgrade) {
        hand_over(call);
        return;
    }
    if (ev->message->expect_continue) {
        struct message go_on = response(call, 100);
        stream_write_interim(&call->pipe.stream, &go_on);
        channel_push(call->pipe.stream.channel);
    }
    timer_set(call->loop, &call->timer, call->loop->now_us + call->options->body_us);
}

void call_begin_refused(struct http_conn *conn, const struct codec_event *ev)
{
    struct http_call *call = call_new(conn, ev->stream);
    conn_close_after(conn);
    answer_status(call, codec_bad_status(ev->bad), "bad request\n");
}

/* ---- the handler's side: plain and unary ---- */

const struct http_request *http_call_get_request(const struct http_call *call)
{
    return &call->request;
}

bool http_call_gone(const struct http_call *call)
{
    return call->pipe.stream.channel == NULL;
}

void http_call_set_owner(struct http_call *call, struct task *owner)
{
    call->owner = owner;
}

void http_call_answer_take(struct http_call **call_at, const struct http_reply *reply)
{
    struct http_call *call = *call_at;
    *call_at = NULL;
    CHECK(call->state == CALL_HELD);
    CHECK(call->route->kind == HTTP_ROUTE_PLAIN);
    call->owner = NULL;
    send_reply(call, reply);
}

/* The handler gave it back: the rest is ours. */
static void give_back(struct http_call *call)
{
    call->owner = NULL;
    state_set(call, CALL_SENDING);
    if (call->pipe.stream.channel != NULL) {
        arm_stall(call);
    }
    pump(call);
}

void http_call_answer_grpc_take(struct http_call **call_at, unsigned status, struct slice text,
                                struct slice message)
{
    struct http_call *call = *call_at;
    *call_at = NULL;
    CHECK(call->state == CALL_HELD);
    CHECK(call->route->kind == HTTP_ROUTE_UNARY);
    CHECK(status < GRPC_STATUS_COUNT);
    if (status == GRPC_OK) {
        CHECK(grpc_pipe_queue(&call->pipe, message)); /* the first is always taken */
    }
    set_ending(call, (enum grpc_status)status, text);
    give_back(call);
}

/* ---- the handler's side: streams ---- */

const struct http_request *grpc_stream_get_request(const struct grpc_stream *stream)
{
    return &stream->call.request;
}

void grpc_stream_set_owner(struct grpc_stream *stream, struct task *owner)
{
    stream->call.owner = owner;
    notify(&stream->call);
}

bool grpc_stream_closed(const struct grpc_stream *stream)
{
    return stream->call.pipe.stream.channel == NULL || stream->call.ending != ENDING_NONE;
}

enum grpc_next grpc_stream_next(struct grpc_stream *stream, struct slice *message)
{
    struct http_call *call = &stream->call;
    if (grpc_stream_closed(stream)) {
        return GRPC_NEXT_CLOSED;
    }
    enum grpc_next next = grpc_pipe_next(&call->pipe, message);
    if (next == GRPC_NEXT_CLOSED) {
        set_ending(call, call->pipe.broken, grpc_pipe_broken_text(&call->pipe));
        loop_post(call->loop, &call->task);
    }
    return next;
}

bool grpc_stream_send(struct grpc_stream *stream, struct slice message)
{
    struct http_call *call = &stream->call;
    if (grpc_stream_closed(stream)) {
        return true;
    }
    if (!grpc_pipe_queue(&call->pipe, message)) {
        return false;
    }
    (void)pump_grpc(call);
    return true;
}

size_t grpc_stream_backlog(const struct grpc_stream *stream)
{
    return stream->call.pipe.out.len;
}

void grpc_stream_finish_take(struct grpc_stream **stream_at, unsigned status, struct slice text)
{
    struct http_call *call = &(*stream_at)->call;
    *stream_at = NULL;
    CHECK(call->state == CALL_HELD);
    CHECK(call->route->kind == HTTP_ROUTE_STREAM);
    CHECK(status < GRPC_STATUS_COUNT);
    if (call->ending == ENDING_NONE) {
        set_ending(call, (enum grpc_status)status, text);
    }
    give_back(call);
}

/* ---- what a request says ---- */

bool http_request_query(const struct http_request *request, struct slice name, struct slice *value)
{
    struct slice rest = request->query;
    while (rest.at != NULL && rest.len > 0) {
        struct slice pair = slice_cut(&rest, '&');
        size_t equals = slice_find(pair, '=');
        if (slice_eq(slice_head(pair, equals), name)) {
            *value = slice_from(pair, equals + 1);
            return true;
        }
    }
    return false;
}

struct slice http_request_bearer(const struct http_request *request)
{
    const struct header *field = headers_find_name(request->headers, SLICE("authorization"));
    if (field == NULL || !slice_starts_nocase(field->value, SLICE("bearer "))) {
        return (struct slice){NULL, 0};
    }
    return slice_trim(slice_from(field->value, sizeof("bearer ") - 1));
}
