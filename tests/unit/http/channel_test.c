/* When a connection that many streams share sends: once a tick, or as soon as there is much. */
#include "base/alloc.h"
#include "http/channel.h"
#include "tests/support/pipe_net.h"
#include "tests/support/unit.h"

#define CODEC_MARK (64U * 1024)

/* A protocol of many streams whose DATA is bytes without a frame. */
struct toy {
    struct codec codec;
};

static enum codec_step toy_read(struct codec *codec, struct slice *in, struct codec_event *ev)
{
    (void)codec;
    (void)ev;
    *in = slice_from(*in, in->len);
    return CODEC_MORE;
}

static enum codec_step toy_eof(struct codec *codec, struct codec_event *ev)
{
    (void)codec;
    (void)ev;
    return CODEC_MORE;
}

static enum codec_room toy_write(struct codec *codec, struct buf *out, struct codec_cmd *cmd)
{
    (void)codec;
    if (cmd == NULL || cmd->kind != CODEC_CMD_DATA) {
        return CODEC_DONE;
    }
    size_t room = out->len < CODEC_MARK ? CODEC_MARK - out->len : 0;
    buf_move(out, cmd->data, cmd->data->len < room ? cmd->data->len : room);
    return buf_empty(cmd->data) ? CODEC_DONE : CODEC_FULL;
}

static bool toy_finished(const struct codec *codec)
{
    (void)codec;
    return false;
}

static void toy_free(struct codec *codec)
{
    mem_free(CONTAINER_OF(codec, struct toy, codec));
}

static const struct codec_ops toy_ops = {
    .name = "toy",
    .multiplexes = true,
    .read = toy_read,
    .eof = toy_eof,
    .write = toy_write,
    .finished = toy_finished,
    .free = toy_free,
};

struct scene {
    struct loop *loop;
    struct arena arena;
    struct net_conn *ends[2];
    struct channel channel;
    struct task owner;
    struct stream streams[2];
    struct task tasks[2];
    unsigned woken[8]; /* streams, in the order in which their tasks ran */
    unsigned woken_count;
    struct buf body;
    unsigned runs;
};

static void run_owner(struct task *task)
{
    CONTAINER_OF(task, struct scene, owner)->runs++;
}

static void run_stream(struct scene *scene, unsigned stream)
{
    assert_true(scene->woken_count < COUNT_OF(scene->woken));
    scene->woken[scene->woken_count++] = stream;
    scene->streams[stream].events = 0;
}

static void run_first(struct task *task)
{
    run_stream(CONTAINER_OF(task, struct scene, tasks[0]), 0);
}

static void run_second(struct task *task)
{
    run_stream(CONTAINER_OF(task, struct scene, tasks[1]), 1);
}

static void scene_init(struct scene *scene, const struct pipe_limits *limits)
{
    *scene = (struct scene){.loop = loop_new_stepped(pipe_net(), NULL),
                            .owner.run = run_owner,
                            .tasks = {{.run = run_first}, {.run = run_second}}};
    arena_init(&scene->arena, NULL);
    pipe_net_pair(scene->loop, limits, scene->ends);
    struct net_conn *net = scene->ends[0];
    struct conn *conn = conn_plain(&net, SLICE(""));
    struct toy *toy = NEW(struct toy);
    toy->codec.ops = &toy_ops;
    struct codec *codec = &toy->codec;
    channel_init(&scene->channel, scene->loop, &conn, &codec, &scene->owner);
    for (uint32_t i = 0; i < 2; i++) {
        stream_init(&scene->streams[i], scene->loop, &scene->arena, &scene->tasks[i]);
        stream_attach(&scene->streams[i], &scene->channel, 2 * i + 1);
    }
    buf_init(&scene->body, &scene->loop->bufs);
}

static void scene_fini(struct scene *scene)
{
    for (uint32_t i = 0; i < 2; i++) {
        stream_fini(&scene->streams[i]);
    }
    channel_fini(&scene->channel, false);
    if (scene->ends[1] != NULL) {
        scene->ends[1]->ops->close(&scene->ends[1]);
    }
    buf_clear(&scene->body);
    arena_fini(&scene->arena);
    loop_drain(scene->loop);
    loop_free(&scene->loop);
}

/* `len` bytes for the stream; what it did not take stays in scene->body. */
static enum codec_room write_body(struct scene *scene, unsigned stream, size_t len)
{
    static const uint8_t zeros[4096];
    for (; len > 0; len -= len < sizeof zeros ? len : sizeof zeros) {
        buf_append(&scene->body, slice_of(zeros, len < sizeof zeros ? len : sizeof zeros));
    }
    return stream_write_data(&scene->streams[stream], &scene->body, false);
}

static void little_waits_for_the_end_of_the_tick(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, &(struct pipe_limits){.room = 0});
    assert_int_equal(write_body(&scene, 0, 1000), CODEC_DONE);
    assert_int_equal(write_body(&scene, 1, 1000), CODEC_DONE);
    assert_int_equal(pipe_net_waiting(scene.ends[1]), 0);
    unsigned calls = pipe_net_calls(scene.ends[0]);
    uint64_t next;
    (void)loop_step(scene.loop, 1, 1, &next);
    assert_int_equal(pipe_net_waiting(scene.ends[1]), 2000);
    assert_int_equal(pipe_net_calls(scene.ends[0]), calls + 1);
    scene_fini(&scene);
}

static void much_leaves_at_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, &(struct pipe_limits){.room = 0});
    assert_int_equal(write_body(&scene, 0, CHANNEL_OUT_MUCH), CODEC_DONE);
    assert_int_equal(pipe_net_waiting(scene.ends[1]), CHANNEL_OUT_MUCH);
    assert_true(buf_empty(&scene.channel.out));
    /* More than the codec takes at once: it goes on where it stopped. */
    assert_int_equal(write_body(&scene, 1, 3 * CODEC_MARK), CODEC_DONE);
    assert_int_equal(pipe_net_waiting(scene.ends[1]), CHANNEL_OUT_MUCH + 3 * CODEC_MARK);
    assert_int_equal(scene.streams[1].out_bytes, 3 * CODEC_MARK);
    scene_fini(&scene);
}

static void a_full_socket_is_not_asked_again(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, &(struct pipe_limits){.room = 10000});
    assert_int_equal(write_body(&scene, 0, 3 * CODEC_MARK), CODEC_FULL);
    unsigned calls = pipe_net_calls(scene.ends[0]);
    assert_int_equal(pipe_net_waiting(scene.ends[1]), 10000);
    assert_true(scene.channel.out.len >= CHANNEL_OUT_HIGH);
    assert_int_equal(stream_write_data(&scene.streams[0], &scene.body, false), CODEC_FULL);
    assert_int_equal(stream_write_data(&scene.streams[1], &scene.body, false), CODEC_FULL);
    assert_int_equal(pipe_net_calls(scene.ends[0]), calls);
    assert_false(list_empty(&scene.channel.blocked)); /* they hear of it when there is room */
    scene_fini(&scene);
}

/* The other end reads, and the channel sends, until no more comes; then whoever was woken runs. */
static void drain(struct scene *scene)
{
    uint8_t bytes[16384];
    size_t got;
    uint64_t next;
    while (pipe_net_waiting(scene->ends[1]) > 0) {
        assert_int_equal(net_recv(scene->ends[1], (struct span){bytes, sizeof bytes}, &got), IO_OK);
        (void)channel_flush(&scene->channel);
    }
    (void)loop_step(scene->loop, 1, 1, &next);
}

/* A stream with much to write fills all room that there is. Whoever found none stands before it in
 * the queue the next time, and whoever comes later behind both. */
static void who_got_no_room_is_woken_first(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, &(struct pipe_limits){.room = 20000});
    assert_int_equal(write_body(&scene, 0, 3 * CODEC_MARK), CODEC_FULL);
    struct buf little;
    buf_init(&little, &scene.loop->bufs);
    buf_append(&little, SLICE("little"));
    assert_int_equal(stream_write_data(&scene.streams[1], &little, false), CODEC_FULL);
    drain(&scene);
    assert_int_equal(scene.woken_count, 2);
    assert_int_equal(scene.woken[0], 1);
    assert_int_equal(scene.woken[1], 0);
    assert_int_equal(stream_write_data(&scene.streams[1], &little, false), CODEC_DONE);
    assert_int_equal(stream_write_data(&scene.streams[0], &scene.body, false), CODEC_FULL);

    scene.woken_count = 0;
    uint8_t bytes[20000];
    size_t got;
    assert_int_equal(net_recv(scene.ends[1], (struct span){bytes, sizeof bytes}, &got), IO_OK);
    (void)channel_flush(&scene.channel); /* room, but not enough to wake anybody */
    assert_true(scene.channel.out.len > CHANNEL_OUT_LOW);
    assert_true(scene.channel.out.len < CHANNEL_OUT_HIGH);
    buf_append(&little, SLICE("more"));
    assert_int_equal(stream_write_data(&scene.streams[1], &little, false), CODEC_FULL);
    assert_int_equal(little.len, 4);
    drain(&scene);
    assert_int_equal(scene.woken[0], 1);
    assert_int_equal(stream_write_data(&scene.streams[1], &little, false), CODEC_DONE);
    buf_clear(&little);
    scene_fini(&scene);
}

static void a_reset_that_the_early_send_meets(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, &(struct pipe_limits){.room = 0});
    scene.ends[1]->ops->reset(&scene.ends[1]);
    assert_int_equal(write_body(&scene, 0, 3 * CODEC_MARK), CODEC_DONE);
    assert_null(scene.streams[0].channel);
    assert_true((scene.streams[0].events & STREAM_LOST) != 0);
    assert_true((scene.streams[1].events & STREAM_LOST) != 0);
    assert_int_equal(write_body(&scene, 1, 10), CODEC_DONE);
    scene_fini(&scene);
}

static void streams_are_found_however_many(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene, &(struct pipe_limits){.room = 0});
    static struct stream many[300];
    for (uint32_t i = 0; i < 300; i++) {
        stream_init(&many[i], scene.loop, &scene.arena, NULL);
        stream_attach(&many[i], &scene.channel, 2 * i + 5);
    }
    for (uint32_t i = 0; i < 300; i++) {
        struct codec_event ev = {.kind = CODEC_EV_END, .stream = 2 * i + 5};
        assert_true(channel_deliver(&scene.channel, &ev));
        assert_true(many[i].in_end);
    }
    struct codec_event ev = {.kind = CODEC_EV_END, .stream = 2 * 300 + 5};
    assert_false(channel_deliver(&scene.channel, &ev));
    for (uint32_t i = 0; i < 300; i += 2) {
        stream_fini(&many[i]);
    }
    channel_lose_streams(&scene.channel);
    for (uint32_t i = 1; i < 300; i += 2) {
        assert_null(many[i].channel);
        assert_true((many[i].events & STREAM_LOST) != 0);
    }
    scene_fini(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_waits_for_the_end_of_the_tick),
        cmocka_unit_test(much_leaves_at_once),
        cmocka_unit_test(a_full_socket_is_not_asked_again),
        cmocka_unit_test(who_got_no_room_is_woken_first),
        cmocka_unit_test(a_reset_that_the_early_send_meets),
        cmocka_unit_test(streams_are_found_however_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
