/* A server connection under a hostile client. The first byte chooses how the input is cut and
 * whether requests are answered. Oracles: the order of events, whole frames out, bounded memory,
 * and the same events for every cut. */
#include "tests/support/h2_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void answer(struct h2_end *end, const struct codec_event *ev)
{
    h2_rules_check(end->owner, ev);
    bool body = ev->stream % 4 == 1;
    if ((ev->kind == CODEC_EV_HEAD && body) || ev->kind == CODEC_EV_REFUSED) {
        struct message message = {
            .kind = MESSAGE_RESPONSE, .status = 200, .content_length = MESSAGE_LENGTH_UNKNOWN};
        (void)h2_end_write(
            end, (struct codec_cmd){.kind = CODEC_CMD_HEAD,
                                    .stream = ev->stream,
                                    .message = &message,
                                    .end = ev->stream % 8 == 1 || ev->kind == CODEC_EV_REFUSED});
    } else if (ev->kind == CODEC_EV_END && body && ev->stream % 8 != 1) {
        struct buf data;
        buf_init(&data, &end->bufs);
        buf_append(&data, SLICE("hello"));
        (void)h2_end_write(
            end, (struct codec_cmd){
                     .kind = CODEC_CMD_DATA, .stream = ev->stream, .data = &data, .end = true});
        buf_clear(&data);
    }
}

static void run(struct h2_end *end, struct slice bytes, size_t step, uint8_t flags)
{
    struct h2_options options = h2_options_default(CODEC_SERVER);
    options.enable_connect_protocol = (flags & 0x80) != 0;
    options.peer_frames = (flags & 0x40) != 0;
    options.max_concurrent_streams = 20;
    options.max_header_list = 4096;
    struct h2_rules *rules = NEW(struct h2_rules);
    h2_end_init(end, &options);
    end->owner = rules;
    end->on_event = answer;
    h2_end_feed(end, slice_of(H2_PREFACE, H2_PREFACE_BYTES), 0);
    h2_end_feed(end, bytes, step);
    CHECK(h2_memory(end->codec) < 65536);
    CHECK(h2_streams(end->codec) <= 20);
    h2_rules_output(end);
    h2_end_eof(end);
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
    run(&whole, bytes, 0, input[0]);
    run(&cut, bytes, 1 + (input[0] & 0x3f), input[0]);
    CHECK(strcmp(whole.text, cut.text) == 0);
    h2_end_fini(&whole);
    h2_end_fini(&cut);
    return 0;
}
