/* Responses through the client codec and out of the server codec. The first byte chooses the
 * request that is answered. Oracles: the events do not depend on how the input is cut; what is
 * written downstream parses to the same response. */
#include "tests/support/h1_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

enum asked { ASKED_GET, ASKED_HEAD, ASKED_UPGRADE, ASKED_CONNECT, ASKED_COUNT };

static struct message request_of(enum asked asked)
{
    struct message message = {.kind = MESSAGE_REQUEST,
                              .version = MESSAGE_HTTP_1_1,
                              .method = SLICE("GET"),
                              .path = SLICE("/"),
                              .authority = SLICE("h:1"),
                              .content_length = MESSAGE_LENGTH_UNKNOWN};
    switch (asked) {
    case ASKED_HEAD:
        message.method = SLICE("HEAD");
        break;
    case ASKED_UPGRADE:
        message.protocol = SLICE("websocket");
        break;
    case ASKED_CONNECT:
        message.method = SLICE("CONNECT");
        message.connect = true;
        break;
    case ASKED_GET:
    case ASKED_COUNT:
        break;
    }
    return message;
}

static void check_cuts(const struct message *request, struct slice input, const char *expected,
                       size_t (*cut)(void *cuts, size_t at))
{
    struct reply reply;
    uint32_t seed = (uint32_t)input.len;
    reply_init(&reply, request);
    reply_run(&reply, input, cut, &seed, true);
    CHECK(strcmp(reply.trace.text, expected) == 0);
    reply_fini(&reply);
}

/* A server codec that has read the request that `reply` wrote. */
static void open_server(struct relay *relay, const struct reply *reply)
{
    struct slice request = trace_flatten(&reply->out);
    struct slice in = request;
    struct codec_event ev;
    relay_init(relay);
    while (codec_read(relay->server, &in, &ev) == CODEC_EVENT) {
    }
    CHECK(in.len == 0);
    free((void *)(uintptr_t)request.at);
}

static void pass_down(struct relay *relay, const struct codec_event *ev)
{
    struct codec_cmd cmd = {.stream = 1, .message = ev->message};
    struct buf data;
    buf_init(&data, &relay->pool);
    switch (ev->kind) {
    case CODEC_EV_HEAD:
        ev->message->keep_alive = true;
        cmd.kind = CODEC_CMD_HEAD;
        cmd.end = ev->end;
        break;
    case CODEC_EV_INTERIM:
        cmd.kind = CODEC_CMD_INTERIM;
        break;
    case CODEC_EV_DATA:
        buf_append(&data, ev->data);
        cmd.kind = CODEC_CMD_DATA;
        cmd.data = &data;
        break;
    case CODEC_EV_TRAILERS:
        cmd.kind = CODEC_CMD_TRAILERS;
        break;
    default: /* END, and RESET, which leaves the body open */
        cmd.kind = CODEC_CMD_END;
        if (ev->kind == CODEC_EV_RESET) {
            return;
        }
        break;
    }
    relay_command(relay->server, &relay->down, cmd);
    buf_clear(&data);
}

static void check_again(const struct message *request, struct slice input, struct trace *expected)
{
    struct reply first;
    struct reply again;
    struct relay relay;
    reply_init(&first, request);
    open_server(&relay, &first);
    struct slice in = input;
    struct codec_event ev;
    enum codec_step step;
    while ((step = codec_read(first.client, &in, &ev)) == CODEC_EVENT) {
        pass_down(&relay, &ev);
    }
    while (step != CODEC_BAD && (step = codec_eof(first.client, &ev)) == CODEC_EVENT) {
        pass_down(&relay, &ev);
    }
    struct slice down = trace_flatten(&relay.down);
    reply_init(&again, request);
    again.limits = (struct h1_limits){1 << 20, H1_LINE_BYTES_MAX, HEADERS_MAX};
    reply_run(&again, down, NULL, NULL, false);
    CHECK(again.last != CODEC_BAD);
    trace_keep_messages(expected);
    trace_keep_messages(&again.trace);
    CHECK(strcmp(expected->text, again.trace.text) == 0);
    free((void *)(uintptr_t)down.at);
    relay_fini(&relay);
    reply_fini(&first);
    reply_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) {
        return 0;
    }
    enum asked asked = (enum asked)(bytes[0] % ASKED_COUNT);
    struct message request = request_of(asked);
    struct slice input = slice_of(bytes + 1, len - 1);
    struct reply reply;
    reply_init(&reply, &request);
    reply_run(&reply, input, NULL, NULL, true);
    check_cuts(&request, input, reply.trace.text, cut_by_seed);
    if (len < 512) {
        check_cuts(&request, input, reply.trace.text, cut_every_byte);
    }
    if (asked == ASKED_GET || asked == ASKED_HEAD) {
        check_again(&request, input, &reply.trace);
    }
    reply_fini(&reply);
    return 0;
}
