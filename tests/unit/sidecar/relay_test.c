/* The relay between two streams, over a codec that takes as much as the test lets it: what arrives,
 * what is kept for a retry, and how ends and trailers go. */
#include <string.h>

#include "base/rng.h"
#include "sidecar/exchange/relay.h"
#include "tests/support/unit.h"

/* Takes `room` bytes of bodies, then says FULL. */
struct narrow {
    struct codec codec;
    size_t room;
    unsigned data_commands;
    bool ended;
    bool trailers;
};

static enum codec_room narrow_write(struct codec *codec, struct buf *out, struct codec_cmd *cmd)
{
    struct narrow *narrow = CONTAINER_OF(codec, struct narrow, codec);
    if (cmd->kind == CODEC_CMD_TRAILERS) {
        narrow->trailers = true;
    } else {
        size_t len = cmd->data->len < narrow->room ? cmd->data->len : narrow->room;
        assert_int_equal(cmd->kind, CODEC_CMD_DATA);
        narrow->data_commands++;
        narrow->room -= len;
        buf_move(out, cmd->data, len);
        if (!buf_empty(cmd->data)) {
            return CODEC_FULL;
        }
    }
    narrow->ended = narrow->ended || cmd->end;
    return CODEC_DONE;
}

static const struct codec_ops narrow_ops = {.name = "narrow", .write = narrow_write};

/* A way from a stream that has no connection any more to one over the narrow codec. */
struct scene {
    struct loop *loop;
    struct narrow narrow;
    struct channel channel;
    struct stream from;
    struct stream to;
    struct buf resend;
    struct buf replay;
    bool replayable;
    struct relay_way way;
};

static void begin(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    scene->loop = loop_new_stepped(NULL, NULL);
    scene->narrow.codec.ops = &narrow_ops;
    scene->channel.loop = scene->loop;
    scene->channel.codec = &scene->narrow.codec;
    scene->channel.buckets = &scene->channel.one;
    list_init(&scene->channel.blocked);
    buf_init(&scene->channel.out, &scene->loop->bufs);
    stream_init(&scene->from, scene->loop, NULL, NULL);
    stream_init(&scene->to, scene->loop, NULL, NULL);
    stream_attach(&scene->to, &scene->channel, 1);
    buf_init(&scene->resend, &scene->loop->bufs);
    buf_init(&scene->replay, &scene->loop->bufs);
    scene->replayable = true;
    scene->way = (struct relay_way){.from = &scene->from,
                                    .to = &scene->to,
                                    .first = &scene->resend,
                                    .tee = &scene->replay,
                                    .tee_max = 4096,
                                    .tee_ok = &scene->replayable,
                                    .trailers = true};
}

static void end(struct scene *scene)
{
    struct buf *const bufs[] = {&scene->channel.out, &scene->from.in, &scene->to.in, &scene->resend,
                                &scene->replay};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) {
        buf_clear(bufs[i]);
    }
    loop_free(&scene->loop);
}

static void come(struct scene *scene, const uint8_t *bytes, size_t len)
{
    buf_append(&scene->from.in, slice_of(bytes, len));
}

static void assert_holds(const struct buf *buf, const uint8_t *bytes, size_t len)
{
    uint8_t held[8192];
    assert_int_equal(buf->len, len);
    assert_int_equal(buf_peek(buf, (struct span){held, sizeof held}), len);
    assert_memory_equal(held, bytes, len);
}

/* Random pieces through random room: what arrived is what came, and the copy is what arrived. */
static void what_was_sent_is_what_is_kept(void **state)
{
    (void)state;
    struct rng rng;
    uint8_t bytes[4000];
    rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)rng_u64(&rng);
    }
    for (unsigned round = 0; round < 200; round++) {
        struct scene scene;
        size_t came = 0;
        uint64_t moved = 0;
        uint64_t sum = 0;
        begin(&scene);
        enum relay_result result = RELAY_OPEN;
        while (result == RELAY_OPEN) {
            size_t len = (size_t)rng_below(&rng, 700);
            len = len < sizeof bytes - came ? len : sizeof bytes - came;
            come(&scene, bytes + came, len);
            came += len;
            scene.from.in_end = came == sizeof bytes;
            scene.narrow.room += (size_t)rng_below(&rng, 700);
            result = relay_move(&scene.way, &moved);
            sum += moved;
            assert_int_equal(scene.channel.out.len, sum);
            assert_holds(&scene.replay, bytes, sum);
        }
        assert_true(scene.narrow.ended && scene.replayable);
        assert_holds(&scene.channel.out, bytes, sizeof bytes);
        end(&scene);
    }
}

static void what_was_kept_goes_first(void **state)
{
    (void)state;
    static const uint8_t bytes[] = "0123456789";
    struct scene scene;
    uint64_t moved;
    begin(&scene);
    buf_append(&scene.replay, slice_of(bytes, 6));
    buf_share(&scene.resend, &scene.replay, 0, 6);
    come(&scene, bytes + 6, 4);
    scene.from.in_end = true;
    scene.narrow.room = 4;
    assert_int_equal(relay_move(&scene.way, &moved), RELAY_OPEN);
    assert_int_equal(moved, 4);
    scene.narrow.room = 100;
    assert_int_equal(relay_move(&scene.way, &moved), RELAY_ENDED);
    assert_holds(&scene.channel.out, bytes, 10);
    assert_holds(&scene.replay, bytes, 10);
    end(&scene);
}

static void too_much_is_not_kept(void **state)
{
    (void)state;
    static const uint8_t bytes[4097];
    struct scene scene;
    uint64_t moved;
    begin(&scene);
    scene.narrow.room = 1 << 20;
    come(&scene, bytes, 4096);
    (void)relay_move(&scene.way, &moved);
    assert_true(scene.replayable);
    come(&scene, bytes, 1);
    (void)relay_move(&scene.way, &moved);
    assert_false(scene.replayable);
    assert_true(buf_empty(&scene.replay));
    assert_int_equal(scene.channel.out.len, 4097);
    end(&scene);
}

static void the_end_goes_with_the_last_bytes(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t moved;
    begin(&scene);
    scene.narrow.room = 100;
    come(&scene, (const uint8_t *)"x", 1);
    scene.from.in_end = true;
    assert_int_equal(relay_move(&scene.way, &moved), RELAY_ENDED);
    assert_true(scene.narrow.ended);
    assert_int_equal(scene.narrow.data_commands, 1);
    assert_int_equal(relay_move(&scene.way, &moved), RELAY_ENDED);
    assert_int_equal(scene.narrow.data_commands, 1);
    end(&scene);
}

static void trailers_end_a_message_where_they_are_taken(void **state)
{
    (void)state;
    for (unsigned taken = 0; taken < 2; taken++) {
        struct scene scene;
        struct message trailers = {.kind = MESSAGE_REQUEST};
        uint64_t moved;
        begin(&scene);
        scene.narrow.room = 100;
        scene.way.trailers = taken == 1;
        come(&scene, (const uint8_t *)"x", 1);
        scene.from.in_end = true;
        scene.from.trailers = &trailers;
        assert_int_equal(relay_move(&scene.way, &moved), RELAY_ENDED);
        assert_int_equal(scene.narrow.trailers, taken == 1);
        assert_true(scene.narrow.ended);
        end(&scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_sent_is_what_is_kept),
        cmocka_unit_test(what_was_kept_goes_first),
        cmocka_unit_test(too_much_is_not_kept),
        cmocka_unit_test(the_end_goes_with_the_last_bytes),
        cmocka_unit_test(trailers_end_a_message_where_they_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
