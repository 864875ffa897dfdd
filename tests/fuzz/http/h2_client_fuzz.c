/* A client connection under a hostile server, with a GET, a HEAD, a POST that is still open and a
 * tunnel in flight. Oracles as for the server. */
#include "tests/support/h2_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void on_event(struct h2_end *end, const struct codec_event *ev)
{
    h2_rules_check(end->owner, ev);
    if (ev->kind == CODEC_EV_REFUSED) {
        (void)h2_end_write(end, (struct codec_cmd){.kind = CODEC_CMD_RESET,
                                                   .stream = ev->stream,
                                                   .code = codec_bad_code(ev->bad)});
    }
}

static void ask(struct h2_end *end, const char *method, const char *protocol, bool last)
{
    struct message message = {.kind = MESSAGE_REQUEST,
                              .method = slice_of_text(method),
                              .authority = SLICE("a"),
                              .path = SLICE("/"),
                              .protocol = slice_of_text(protocol),
                              .content_length = MESSAGE_LENGTH_UNKNOWN};
    uint32_t id = codec_open(end->codec);
    CHECK(id != 0);
    (void)h2_end_write(
        end,
        (struct codec_cmd){.kind = CODEC_CMD_HEAD, .stream = id, .message = &message, .end = last});
}

static void run(struct h2_end *end, struct slice bytes, size_t step)
{
    struct h2_options options = h2_options_default(CODEC_CLIENT);
    options.max_header_list = 4096;
    struct h2_rules *rules = NEW(struct h2_rules);
    rules->client = true;
    h2_end_init(end, &options);
    end->owner = rules;
    end->on_event = on_event;
    ask(end, "GET", NULL, true);
    ask(end, "HEAD", NULL, true);
    ask(end, "POST", NULL, false);
    ask(end, "GET", "websocket", false);
    h2_end_feed(end, bytes, step);
    CHECK(h2_memory(end->codec) < 65536);
    h2_rules_output(end);
    h2_end_eof(end);
    CHECK(end->bad || h2_streams(end->codec) == 0);
    mem_free(rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    if (len < 1 || len > 65536) {
        return 0;
    }
    struct slice bytes = slice_of(input + 1, len - 1);
    struct h2_end whole;
    struct h2_end cut;
    run(&whole, bytes, 0);
    run(&cut, bytes, 1 + (input[0] & 0x3f));
    CHECK(strcmp(whole.text, cut.text) == 0);
    h2_end_fini(&whole);
    h2_end_fini(&cut);
    return 0;
}
