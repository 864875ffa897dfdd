/* Two small machines, one for each direction, and the rule that joins them: a connection goes on to
 * the next request when both have ended and nobody wants it closed. Server and client differ only
 * in which of the two reads the request, so they share the machines; what is theirs alone is named
 * server_ and client_. */
#include "http/h1.h"

#include "base/alloc.h"
#include "http/h1_body.h"
#include "http/h1_head.h"
#include "http/h1_write.h"

#define CODE_CANCEL       8
#define PROTOCOL_NAME_MAX 24 /* of an Upgrade that is followed; "websocket" has nine */
#define SMALL_CODEC_BYTES 160

/* X(value, meaning) */
#define H1_RECVS(X)                                                                                \
    X(IDLE, "client: no request was written; a byte is an error")                                  \
    X(HEAD, "before or in a head")                                                                 \
    X(BODY, "in a body")                                                                           \
    X(TRAILERS, "behind the last chunk")                                                           \
    X(HELD, "server: the request may become a tunnel; its end is held back")                       \
    X(ENDING, "complete; END is due")                                                              \
    X(ENDED, "END was handed up")                                                                  \
    X(TUNNEL, "bytes of another protocol")                                                         \
    X(LOST, "bad, cut or given up; all further bytes are thrown away")

/* X(value, meaning) */
#define H1_SENDS(X)                                                                                \
    X(IDLE, "no stream")                                                                           \
    X(HEAD, "our head is to be written")                                                           \
    X(BODY, "our body is to be written")                                                           \
    X(HELD, "client: the request may become a tunnel")                                             \
    X(TUNNEL, "bytes of another protocol")                                                         \
    X(ENDED, "our message is complete")

enum h1_recv {
#define X(value, meaning) RECV_##value,
    H1_RECVS(X)
#undef X
        RECV_COUNT
};

enum h1_send {
#define X(value, meaning) SEND_##value,
    H1_SENDS(X)
#undef X
        SEND_COUNT
};

struct h1 {
    struct codec codec;
    const struct h1_limits *limits;
    struct h1_scratch *scratch;
    uint64_t write_left; /* LENGTH: bytes of our body still to come */
    struct h1_body body; /* what we read */
    struct h1_parser parser;
    uint32_t stream;
    uint8_t side;       /* enum codec_side */
    uint8_t recv;       /* enum h1_recv */
    uint8_t send;       /* enum h1_send */
    uint8_t write_kind; /* enum h1_body_kind of our body */
    uint8_t empty_lines;
    uint8_t interims;
    uint8_t protocol_len;
    struct h1_asked asked; /* what this exchange's request was */
    bool old;              /* server: the request is HTTP/1.0 */
    bool closing;          /* no request follows this one */
    bool last_wanted;      /* GOAWAY: say so with the next head */
    bool unfilled;         /* our head told a length, and nothing will follow */
    bool untold;           /* server: a body was announced with Expect, and no 100 was written */
    uint8_t protocol[PROTOCOL_NAME_MAX];
};

static_assert(sizeof(struct h1) <= SMALL_CODEC_BYTES, "an idle connection stays small");

#define BIT(state) (1U << (state))

static void set_recv(struct h1 *h1, enum h1_recv to)
{
    static const uint16_t allowed[RECV_COUNT] = {
        [RECV_IDLE] = BIT(RECV_HEAD) | BIT(RECV_LOST),
        [RECV_HEAD] =
            BIT(RECV_BODY) | BIT(RECV_HELD) | BIT(RECV_ENDING) | BIT(RECV_TUNNEL) | BIT(RECV_LOST),
        [RECV_BODY] = BIT(RECV_TRAILERS) | BIT(RECV_ENDING) | BIT(RECV_ENDED) | BIT(RECV_LOST),
        [RECV_TRAILERS] = BIT(RECV_ENDING) | BIT(RECV_LOST),
        [RECV_HELD] = BIT(RECV_ENDING) | BIT(RECV_TUNNEL) | BIT(RECV_LOST),
        [RECV_ENDING] = BIT(RECV_ENDED) | BIT(RECV_LOST),
        [RECV_ENDED] = BIT(RECV_HEAD) | BIT(RECV_IDLE) | BIT(RECV_LOST),
        [RECV_TUNNEL] = BIT(RECV_ENDED) | BIT(RECV_LOST),
        [RECV_LOST] = BIT(RECV_LOST),
    };
    CHECK((allowed[h1->recv] & BIT(to)) != 0);
    h1->recv = (uint8_t)to;
}

static void set_send(struct h1 *h1, enum h1_send to)
{
    static const uint16_t allowed[SEND_COUNT] = {
        [SEND_IDLE] = BIT(SEND_HEAD) | BIT(SEND_ENDED),
        [SEND_HEAD] = BIT(SEND_BODY) | BIT(SEND_HELD) | BIT(SEND_TUNNEL) | BIT(SEND_ENDED),
        [SEND_BODY] = BIT(SEND_ENDED),
        [SEND_HELD] = BIT(SEND_TUNNEL) | BIT(SEND_ENDED),
        [SEND_TUNNEL] = BIT(SEND_ENDED),
        [SEND_ENDED] = BIT(SEND_IDLE) | BIT(SEND_ENDED),
    };
    CHECK((allowed[h1->send] & BIT(to)) != 0);
    h1->send = (uint8_t)to;
}

static struct h1 *h1_of(struct codec *codec)
{
    return CONTAINER_OF(codec, struct h1, codec);
}

static const struct h1 *h1_of_const(const struct codec *codec)
{
    return (const struct h1 *)(const void *)((const char *)codec - offsetof(struct h1, codec));
}

/* The connection is of no more use: what comes is thrown away. */
static void lose(struct h1 *h1)
{
    h1->closing = true;
    set_recv(h1, RECV_LOST);
}

/* Both directions have ended: on to the next request, or to the end. */
static void next_exchange(struct h1 *h1)
{
    if (h1->recv != RECV_ENDED || h1->send != SEND_ENDED) {
        return;
    }
    if (h1->closing || h1->stream == UINT32_MAX) {
        lose(h1);
        return;
    }
    set_recv(h1, h1->side == CODEC_SERVER ? RECV_HEAD : RECV_IDLE);
    set_send(h1, SEND_IDLE);
    h1->empty_lines = 0;
    h1->interims = 0;
    h1->protocol_len = 0;
    h1->unfilled = false;
    h1->untold = false;
    h1->asked = (struct h1_asked){.head = false};
}

static enum codec_step event(const struct h1 *h1, struct codec_event *ev,
                             enum codec_event_kind kind)
{
    *ev = (struct codec_event){.kind = kind, .stream = h1->stream};
    return CODEC_EVENT;
}

static NOINLINE enum codec_step end_event(struct h1 *h1, struct codec_event *ev)
{
    set_recv(h1, RECV_ENDED);
    enum codec_step step = event(h1, ev, CODEC_EV_END);
    next_exchange(h1);
    return step;
}

static enum codec_step reset_event(struct h1 *h1, struct codec_event *ev)
{
    lose(h1);
    enum codec_step step = event(h1, ev, CODEC_EV_RESET);
    ev->code = CODE_CANCEL;
    return step;
}

/* Server: the request is refused. Client: the connection is lost. */
static NOINLINE enum codec_step bad_input(struct h1 *h1, struct codec_event *ev,
                                          enum codec_bad reason)
{
    lose(h1);
    if (h1->side == CODEC_CLIENT) {
        h1->codec.bad = reason;
        return CODEC_BAD;
    }
    enum codec_step step = event(h1, ev, CODEC_EV_REFUSED);
    ev->bad = reason;
    return step;
}

/* ---- reading ---------------------------------------------------------------------------- */

static struct message *fresh_message(struct h1 *h1, enum message_kind kind)
{
    struct message *message = &h1->scratch->message;
    *message = (struct message){
        .kind = kind,
        .headers = {.field = h1->scratch->fields, .capacity = HEADERS_MAX},
    };
    return message;
}

/* Server: a new request has begun. */
static void server_begin(struct h1 *h1)
{
    h1->stream++;
    set_send(h1, SEND_HEAD);
}

static void server_remember(struct h1 *h1, const struct message *message)
{
    h1->old = message->version == MESSAGE_HTTP_1_0;
    h1->closing |= !message->keep_alive;
    h1->untold = message->expect_continue;
    h1->asked.head = slice_eq(message->method, SLICE("HEAD"));
    h1->asked.connect = message->connect;
    h1->asked.upgrade = message->protocol.len > 0;
    h1->protocol_len = (uint8_t)message->protocol.len;
    if (message->protocol.len > 0) {
        memcpy(h1->protocol, message->protocol.at, message->protocol.len);
    }
}

static enum codec_step head_event(struct h1 *h1, struct codec_event *ev, struct message *message)
{
    enum codec_step step = event(h1, ev, CODEC_EV_HEAD);
    ev->message = message;
    ev->end = h1->recv == RECV_ENDING;
    return step;
}

static enum codec_step server_head(struct h1 *h1, struct codec_event *ev, struct message *message)
{
    struct h1_framing framing;
    server_begin(h1);
    enum codec_bad reason = h1_head_request(
        message, (struct span){h1->scratch->path, sizeof h1->scratch->path}, &framing);
    if (reason != CODEC_BAD_NONE) {
        return bad_input(h1, ev, reason);
    }
    if (message->protocol.len > PROTOCOL_NAME_MAX) {
        message->protocol = (struct slice){NULL, 0};
    }
    server_remember(h1, message);
    h1_body_init(&h1->body, framing.kind, framing.length);
    set_recv(h1, framing.kind != H1_BODY_NONE                    ? RECV_BODY
                 : message->connect || message->protocol.len > 0 ? RECV_HELD
                                                                 : RECV_ENDING);
    return head_event(h1, ev, message);
}

/* Empty lines before a request line are skipped, some (RFC 9112 2.2). */
static enum codec_bad skip_empty_lines(struct h1 *h1, struct slice *in)
{
    while (in->len >= 2 && in->at[0] == '\r' && in->at[1] == '\n') {
        if (h1->empty_lines == H1_EMPTY_LINES_MAX) {
            return CODEC_BAD_REQUEST_LINE;
        }
        h1->empty_lines++;
        *in = slice_from(*in, 2);
    }
    return CODEC_BAD_NONE;
}

static NOINLINE enum codec_step server_read_head(struct h1 *h1, struct slice *in,
                                                 struct codec_event *ev)
{
    enum codec_bad reason = CODEC_BAD_NONE;
    if (h1->parser.line == 0 && h1->parser.scanned == 0) {
        reason = skip_empty_lines(h1, in);
    }
    if (reason == CODEC_BAD_NONE) {
        struct message *message = fresh_message(h1, MESSAGE_REQUEST);
        size_t used = 0;
        switch (h1_parse_head(&h1->parser, h1->limits, *in, message, &used)) {
        case H1_PARSED_MORE:
            return CODEC_MORE;
        case H1_PARSED_DONE:
            message->block = slice_head(*in, used);
            *in = slice_from(*in, used);
            return server_head(h1, ev, message);
        case H1_PARSED_BAD:
            reason = (enum codec_bad)h1->parser.bad;
            break;
        }
    }
    server_begin(h1);
    return bad_input(h1, ev, reason);
}

/* The state that a final response's head leads to; ends or opens the request too. */
static void client_settle(struct h1 *h1, const struct message *message, enum h1_body_kind kind)
{
    bool tunnel = message->status == 101 || (h1->asked.connect && message->status / 100 == 2);
    if (h1->send == SEND_HELD) {
        set_send(h1, tunnel ? SEND_TUNNEL : SEND_ENDED);
    }
    /* An answer before the request's end: the rest may never be read (RFC 9112 9.6). */
    bool early = h1->send != SEND_ENDED;
    h1->closing |= !message->keep_alive || early;
    set_recv(h1, tunnel ? RECV_TUNNEL : kind == H1_BODY_NONE ? RECV_ENDING : RECV_BODY);
}

static enum codec_step client_head(struct h1 *h1, struct codec_event *ev, struct message *message)
{
    struct h1_framing framing;
    enum codec_bad reason = h1_head_response(message, &h1->asked, &framing);
    if (reason != CODEC_BAD_NONE) {
        return bad_input(h1, ev, reason);
    }
    if (message_is_informational(message) && message->status != 101) {
        if (h1->interims == H1_INTERIM_MAX) {
            return bad_input(h1, ev, CODEC_BAD_FLOOD);
        }
        h1->interims++;
        enum codec_step step = event(h1, ev, CODEC_EV_INTERIM);
        ev->message = message;
        return step;
    }
    h1_body_init(&h1->body, framing.kind, framing.length);
    client_settle(h1, message, framing.kind);
    return head_event(h1, ev, message);
}

static NOINLINE enum codec_step client_read_head(struct h1 *h1, struct slice *in,
                                                 struct codec_event *ev)
{
    struct message *message = fresh_message(h1, MESSAGE_RESPONSE);
    size_t used = 0;
    switch (h1_parse_head(&h1->parser, h1->limits, *in, message, &used)) {
    case H1_PARSED_MORE:
        return CODEC_MORE;
    case H1_PARSED_DONE:
        message->block = slice_head(*in, used);
        *in = slice_from(*in, used);
        return client_head(h1, ev, message);
    case H1_PARSED_BAD:
        break;
    }
    return bad_input(h1, ev, (enum codec_bad)h1->parser.bad);
}

static NOINLINE enum codec_step read_trailers(struct h1 *h1, struct slice *in,
                                              struct codec_event *ev)
{
    enum message_kind kind = h1->side == CODEC_SERVER ? MESSAGE_REQUEST : MESSAGE_RESPONSE;
    struct message *message = fresh_message(h1, kind);
    size_t used = 0;
    switch (h1_parse_trailers(&h1->parser, h1->limits, *in, message, &used)) {
    case H1_PARSED_MORE:
        return CODEC_MORE;
    case H1_PARSED_BAD:
        return bad_input(h1, ev, (enum codec_bad)h1->parser.bad);
    case H1_PARSED_DONE:
        break;
    }
    *in = slice_from(*in, used);
    set_recv(h1, RECV_ENDING);
    if (!h1_head_trailers(message)) {
        return end_event(h1, ev);
    }
    message->version = MESSAGE_HTTP_1_1; /* nothing else is chunked */
    enum codec_step step = event(h1, ev, CODEC_EV_TRAILERS);
    ev->message = message;
    ev->end = true;
    return step;
}

static NOINLINE enum codec_step read_body(struct h1 *h1, struct slice *in, struct codec_event *ev)
{
    struct slice bytes = {NULL, 0};
    switch (h1_body_next(&h1->body, in, &bytes)) {
    case H1_BODY_DATA: {
        enum codec_step step = event(h1, ev, CODEC_EV_DATA);
        ev->data = bytes;
        if (h1_body_complete(&h1->body)) {
            ev->end = true;
            set_recv(h1, RECV_ENDING);
        }
        return step;
    }
    case H1_BODY_MORE:
        return CODEC_MORE;
    case H1_BODY_END:
        return end_event(h1, ev);
    case H1_BODY_TRAILERS:
        set_recv(h1, RECV_TRAILERS);
        return read_trailers(h1, in, ev);
    case H1_BODY_BAD:
        break;
    }
    return bad_input(h1, ev, CODEC_BAD_CHUNK);
}

static enum codec_step read_tunnel(struct h1 *h1, struct slice *in, struct codec_event *ev)
{
    if (in->len == 0) {
        return CODEC_MORE;
    }
    enum codec_step step = event(h1, ev, CODEC_EV_DATA);
    ev->data = *in;
    *in = slice_from(*in, in->len);
    return step;
}

static enum codec_step h1_read(struct codec *codec, struct slice *in, struct codec_event *ev)
{
    struct h1 *h1 = h1_of(codec);
    switch ((enum h1_recv)h1->recv) {
    case RECV_IDLE:
        return in->len > 0 ? bad_input(h1, ev, CODEC_BAD_PROTOCOL) : CODEC_MORE;
    case RECV_HEAD:
        if (in->len == 0) {
            return CODEC_MORE;
        }
        return h1->side == CODEC_SERVER ? server_read_head(h1, in, ev)
                                        : client_read_head(h1, in, ev);
    case RECV_BODY:
        return read_body(h1, in, ev);
    case RECV_TRAILERS:
        return read_trailers(h1, in, ev);
    case RECV_ENDING:
        return end_event(h1, ev);
    case RECV_TUNNEL:
        return read_tunnel(h1, in, ev);
    case RECV_HELD:
        return CODEC_MORE;
    case RECV_ENDED:
        /* A server leaves the next request with the caller; a client was sent what it did not ask
         * for. */
        if (h1->side == CODEC_CLIENT && in->len > 0) {
            return bad_input(h1, ev, CODEC_BAD_PROTOCOL);
        }
        return CODEC_MORE;
    case RECV_LOST:
        *in = slice_from(*in, in->len);
        return CODEC_MORE;
    case RECV_COUNT:
        break;
    }
    CHECK(h1->recv < RECV_COUNT);
    return CODEC_MORE;
}

static enum codec_step eof_in_head(struct h1 *h1, struct codec_event *ev)
{
    if (h1->side == CODEC_CLIENT) {
        return reset_event(h1, ev);
    }
    bool begun = h1->parser.line > 0 || h1->parser.scanned > 0;
    lose(h1);
    if (!begun) {
        return CODEC_MORE;
    }
    h1->codec.bad = CODEC_BAD_CUT;
    return CODEC_BAD;
}

static enum codec_step h1_eof(struct codec *codec, struct codec_event *ev)
{
    struct h1 *h1 = h1_of(codec);
    switch ((enum h1_recv)h1->recv) {
    case RECV_IDLE:
        lose(h1);
        return CODEC_MORE;
    case RECV_HEAD:
        return eof_in_head(h1, ev);
    case RECV_BODY:
        if (h1->body.kind == H1_BODY_CLOSE) {
            return end_event(h1, ev);
        }
        return reset_event(h1, ev);
    case RECV_TRAILERS:
    case RECV_HELD:
        return reset_event(h1, ev);
    case RECV_ENDING:
        return end_event(h1, ev);
    case RECV_TUNNEL:
        h1->closing = true;
        return end_event(h1, ev);
    case RECV_ENDED:
        /* In a tunnel that is half-closed our side goes on. A server's client is gone. */
        if (h1->side == CODEC_SERVER && h1->send != SEND_TUNNEL) {
            return reset_event(h1, ev);
        }
        h1->closing = true;
        return CODEC_MORE;
    case RECV_LOST:
        return CODEC_MORE;
    case RECV_COUNT:
        break;
    }
    CHECK(h1->recv < RECV_COUNT);
    return CODEC_MORE;
}

/* ---- writing ---------------------------------------------------------------------------- */

static void end_send(struct h1 *h1)
{
    set_send(h1, SEND_ENDED);
    next_exchange(h1);
}

/* How our body is framed, once it is known that there may be one. */
static void choose_framing(struct h1 *h1, const struct message *message, bool end,
                           struct h1_style *style)
{
    bool known = message->content_length != MESSAGE_LENGTH_UNKNOWN;
    bool body = message->has_body && !end;
    if (known) {
        style->framing = H1_BODY_LENGTH;
        style->length = message->content_length;
    } else if (body) {
        style->framing = H1_BODY_CHUNKED;
    }
    h1->write_kind = (uint8_t)(body ? style->framing : H1_BODY_NONE);
    h1->write_left = style->length;
    h1->unfilled = end && known && message->content_length > 0;
}

/* Behind a head: a body that is still to come, or the end. */
static void after_head(struct h1 *h1, bool end)
{
    if (end) {
        end_send(h1);
    } else {
        set_send(h1, SEND_BODY);
    }
}

static bool response_has_no_body(const struct h1 *h1, uint16_t status)
{
    return h1->asked.head || status < 200 || status == 204 || status == 304;
}

static void server_choose_framing(struct h1 *h1, const struct message *message, bool end,
                                  struct h1_style *style)
{
    choose_framing(h1, message, end, style);
    if (response_has_no_body(h1, message->status)) {
        /* The length of what GET would give may be said (RFC 9110 8.6), not for 1xx and 204. */
        if (style->framing != H1_BODY_LENGTH || message->status < 200 || message->status == 204) {
            style->framing = H1_BODY_NONE;
        }
        h1->write_kind = H1_BODY_NONE;
        h1->unfilled = false;
    } else if (style->framing == H1_BODY_NONE) {
        style->framing = H1_BODY_LENGTH; /* of 0: else a client would read until close */
    } else if (style->framing == H1_BODY_CHUNKED && h1->old) {
        style->framing = H1_BODY_CLOSE;
        h1->write_kind = H1_BODY_CLOSE;
        h1->closing = true;
    }
}

static bool opens_tunnel(const struct h1 *h1, const struct message *message)
{
    if (h1->recv != RECV_HELD) {
        return false;
    }
    bool success = message->status / 100 == 2;
    if (h1->asked.connect) {
        return success;
    }
    return message->status == 101 || (success && message->version == MESSAGE_HTTP_2);
}

static void server_write_tunnel(struct h1 *h1, struct buf *out, const struct message *message)
{
    struct h1_style style = {.framing = H1_BODY_NONE};
    if (h1->asked.upgrade) {
        style.status = 101;
        style.connection = H1_CONNECTION_UPGRADE;
        style.protocol = slice_of(h1->protocol, h1->protocol_len);
    }
    h1_write_response(out, message, &style);
    h1->closing = true;
    set_recv(h1, RECV_TUNNEL);
    set_send(h1, SEND_TUNNEL);
}

static NOINLINE void server_write_head(struct h1 *h1, struct buf *out, const struct codec_cmd *cmd)
{
    const struct message *message = cmd->message;
    if (opens_tunnel(h1, message)) {
        server_write_tunnel(h1, out, message);
        return;
    }
    CHECK(message->status >= 200);
    if (h1->recv == RECV_HELD) {
        set_recv(h1, RECV_ENDING);
    }
    struct h1_style style = {.framing = H1_BODY_NONE};
    bool end = cmd->end || !message->has_body;
    server_choose_framing(h1, message, end, &style);
    /* The client may send the body that it announced, or not: nobody can tell where the next
     * request begins (RFC 9110 10.1.1). */
    bool undecided = h1->untold && h1->recv == RECV_BODY;
    h1->closing |= !message->keep_alive || h1->last_wanted || undecided || h1->unfilled;
    style.connection = h1->closing ? H1_CONNECTION_CLOSE
                       : h1->old   ? H1_CONNECTION_KEEP_ALIVE
                                   : H1_CONNECTION_NONE;
    h1_write_response(out, message, &style);
    after_head(h1, end);
}

static NOINLINE void client_write_head(struct h1 *h1, struct buf *out, const struct codec_cmd *cmd)
{
    const struct message *message = cmd->message;
    struct h1_style style = {.framing = H1_BODY_NONE};
    h1->asked.head = slice_eq(message->method, SLICE("HEAD"));
    h1->asked.connect = message->connect;
    h1->asked.upgrade = message->protocol.len > 0;
    bool may_tunnel = message->connect || h1->asked.upgrade;
    if (!may_tunnel) {
        choose_framing(h1, message, cmd->end || !message->has_body, &style);
    }
    h1->closing |= h1->last_wanted || h1->unfilled;
    if (h1->asked.upgrade) {
        style.connection = H1_CONNECTION_UPGRADE;
        style.protocol = message->protocol;
    } else if (h1->closing) {
        style.connection = H1_CONNECTION_CLOSE;
    }
    h1_write_request(out, message, &style);
    set_recv(h1, RECV_HEAD);
    if (may_tunnel) {
        set_send(h1, SEND_HELD);
    } else {
        after_head(h1, cmd->end || !message->has_body);
    }
}

static void write_head(struct h1 *h1, struct buf *out, const struct codec_cmd *cmd)
{
    CHECK(cmd->message != NULL);
    CHECK(h1->send == SEND_HEAD);
    if (h1->side == CODEC_SERVER) {
        server_write_head(h1, out, cmd);
    } else {
        client_write_head(h1, out, cmd);
    }
}

static NOINLINE void write_interim(struct h1 *h1, struct buf *out, const struct message *message)
{
    CHECK(h1->side == CODEC_SERVER);
    CHECK(message_is_informational(message) && message->status != 101);
    CHECK(h1->send == SEND_HEAD);
    if (h1->old) {
        return; /* RFC 9110 15.2 */
    }
    const struct h1_style style = {.framing = H1_BODY_NONE};
    h1_write_response(out, message, &style);
    if (message->status == 100) {
        h1->untold = false;
    }
}

/* RESET, or a body that is longer or shorter than its head said. */
static NOINLINE void give_up(struct h1 *h1)
{
    if (h1->send != SEND_ENDED) {
        set_send(h1, SEND_ENDED);
    }
    lose(h1);
}

static NOINLINE void write_end(struct h1 *h1, struct buf *out)
{
    switch ((enum h1_send)h1->send) {
    case SEND_BODY:
        if (h1->write_kind == H1_BODY_LENGTH && h1->write_left > 0) {
            give_up(h1);
            return;
        }
        if (h1->write_kind == H1_BODY_CHUNKED) {
            h1_write_last_chunk(out);
        }
        end_send(h1);
        return;
    case SEND_TUNNEL:
        end_send(h1);
        return;
    case SEND_HELD:  /* still undecided: the answer says whether there is a way to close */
    case SEND_ENDED: /* the head said it already */
    case SEND_IDLE:
        return;
    case SEND_HEAD:
    case SEND_COUNT:
        break;
    }
    CHECK(h1->send != SEND_HEAD);
}

static void write_body(struct h1 *h1, struct buf *out, struct buf *data)
{
    size_t len = data->len;
    switch ((enum h1_body_kind)h1->write_kind) {
    case H1_BODY_NONE:
        buf_clear(data);
        return;
    case H1_BODY_LENGTH:
        len = len < h1->write_left ? len : (size_t)h1->write_left;
        buf_move(out, data, len);
        h1->write_left -= len;
        if (!buf_empty(data)) {
            buf_clear(data);
            give_up(h1);
        }
        return;
    case H1_BODY_CHUNKED:
        h1_write_chunk(out, data);
        return;
    case H1_BODY_CLOSE:
        buf_move(out, data, len);
        return;
    }
}

static NOINLINE void write_data(struct h1 *h1, struct buf *out, struct buf *data)
{
    CHECK(data != NULL);
    CHECK(h1->send != SEND_HEAD);
    if (buf_empty(data)) {
        return;
    }
    if (h1->send == SEND_TUNNEL) {
        buf_move(out, data, data->len);
    } else if (h1->send == SEND_BODY) {
        write_body(h1, out, data);
    } else {
        buf_clear(data); /* nobody reads it: the end was said, or the answer is not here yet */
        h1->closing = true;
    }
}

static NOINLINE void write_trailers(struct h1 *h1, struct buf *out, const struct message *message)
{
    CHECK(message != NULL);
    if (h1->send == SEND_BODY && h1->write_kind == H1_BODY_CHUNKED) {
        h1_write_trailers(out, message);
        end_send(h1);
        return;
    }
    write_end(h1, out);
}

static NOINLINE void go_away(struct h1 *h1, bool first_step)
{
    h1->last_wanted = true;
    bool idle = h1->send == SEND_IDLE && (h1->recv == RECV_HEAD || h1->recv == RECV_IDLE);
    if (!first_step && idle) {
        lose(h1);
    }
}

/* For a request that is over, while the next one is here already: only an end may be said twice. */
static enum codec_room late_command(const struct codec_cmd *cmd)
{
    CHECK(cmd->kind == CODEC_CMD_DATA || cmd->kind == CODEC_CMD_TRAILERS ||
          cmd->kind == CODEC_CMD_END || cmd->kind == CODEC_CMD_RESET);
    if (cmd->kind == CODEC_CMD_DATA) {
        buf_clear(cmd->data);
    }
    return CODEC_DONE;
}

static enum codec_room h1_write(struct codec *codec, struct buf *out, struct codec_cmd *cmd)
{
    struct h1 *h1 = h1_of(codec);
    if (cmd == NULL) {
        return CODEC_DONE;
    }
    switch (cmd->kind) {
    case CODEC_CMD_GOAWAY:
        go_away(h1, cmd->len == 1);
        return CODEC_DONE;
    case CODEC_CMD_CONSUMED:
    case CODEC_CMD_PING:
    case CODEC_CMD_PEER:
        return CODEC_DONE;
    case CODEC_CMD_HEAD:
    case CODEC_CMD_INTERIM:
    case CODEC_CMD_DATA:
    case CODEC_CMD_TRAILERS:
    case CODEC_CMD_END:
    case CODEC_CMD_RESET:
        break;
    }
    CHECK(cmd->stream <= h1->stream && cmd->stream != 0);
    if (cmd->stream < h1->stream) {
        return late_command(cmd);
    }
    switch (cmd->kind) {
    case CODEC_CMD_HEAD:
        write_head(h1, out, cmd);
        break;
    case CODEC_CMD_INTERIM:
        write_interim(h1, out, cmd->message);
        break;
    case CODEC_CMD_DATA:
        write_data(h1, out, cmd->data);
        if (cmd->end) {
            write_end(h1, out);
        }
        break;
    case CODEC_CMD_TRAILERS:
        write_trailers(h1, out, cmd->message);
        break;
    case CODEC_CMD_END:
        write_end(h1, out);
        break;
    case CODEC_CMD_RESET:
        give_up(h1);
        break;
    case CODEC_CMD_CONSUMED:
    case CODEC_CMD_GOAWAY:
    case CODEC_CMD_PING:
    case CODEC_CMD_PEER:
        break;
    }
    return CODEC_DONE;
}

/* ---- the rest of the contract ----------------------------------------------------------- */

static uint32_t server_open(struct codec *codec)
{
    (void)codec;
    return 0;
}

static uint32_t server_give_up_head(struct codec *codec)
{
    struct h1 *h1 = h1_of(codec);
    if (h1->recv != RECV_HEAD) {
        return 0;
    }
    server_begin(h1);
    lose(h1);
    return h1->stream;
}

static uint32_t client_open(struct codec *codec)
{
    struct h1 *h1 = h1_of(codec);
    if (h1->recv != RECV_IDLE || h1->send != SEND_IDLE || h1->closing || h1->last_wanted) {
        return 0;
    }
    set_send(h1, SEND_HEAD);
    return ++h1->stream;
}

static uint32_t h1_window(const struct codec *codec, uint32_t stream)
{
    (void)codec;
    (void)stream;
    return UINT32_MAX;
}

static bool h1_finished(const struct codec *codec)
{
    const struct h1 *h1 = h1_of_const(codec);
    bool owes = h1->send != SEND_IDLE && h1->send != SEND_ENDED;
    if (h1->recv == RECV_LOST) {
        return h1->side == CODEC_CLIENT || !owes;
    }
    return h1->recv == RECV_ENDED && !owes && h1->closing;
}

static void h1_free(struct codec *codec)
{
    mem_free(h1_of(codec));
}

static struct codec *new_codec(const struct codec_ops *ops, const struct h1_limits *limits,
                               struct h1_scratch *scratch)
{
    CHECK(limits->line_bytes <= H1_LINE_BYTES_MAX);
    CHECK(limits->fields <= HEADERS_MAX);
    struct h1 *h1 = NEW(struct h1);
    h1->codec.ops = ops;
    h1->limits = limits;
    h1->scratch = scratch;
    return &h1->codec;
}

struct codec *h1_server_new(const struct h1_limits *limits, struct h1_scratch *scratch)
{
    static const struct codec_ops ops = {
        .name = "HTTP/1.1",
        .read = h1_read,
        .eof = h1_eof,
        .write = h1_write,
        .open = server_open,
        .window = h1_window,
        .give_up_head = server_give_up_head,
        .finished = h1_finished,
        .free = h1_free,
    };
    struct codec *codec = new_codec(&ops, limits, scratch);
    h1_of(codec)->side = CODEC_SERVER;
    h1_of(codec)->recv = RECV_HEAD;
    return codec;
}

struct codec *h1_client_new(const struct h1_limits *limits, struct h1_scratch *scratch)
{
    static const struct codec_ops ops = {
        .name = "HTTP/1.1",
        .read = h1_read,
        .eof = h1_eof,
        .write = h1_write,
        .open = client_open,
        .window = h1_window,
        .finished = h1_finished,
        .free = h1_free,
    };
    struct codec *codec = new_codec(&ops, limits, scratch);
    h1_of(codec)->side = CODEC_CLIENT;
    h1_of(codec)->recv = RECV_IDLE;
    return codec;
}
