/* A pool's HTTP/2 connection: peers that go silent, deaths that many streams share, endpoints that
 * are no longer listed. */
#include "base/alloc.h"
#include "http/h2_frame.h"
#include "sidecar/upstream/cluster.h"
#include "sidecar/upstream/pool.h"
#include "sidecar/worker.h"
#include "tests/support/pipe_net.h"
#include "tests/support/unit.h"

#define SECOND  UINT64_C(1000000)
#define STREAMS 3

/* Both ends of the connection that was opened last. */
static struct net_conn *client_end;
static struct net_conn *server_end;
static unsigned dials;

static struct net_conn *dial_pipe(struct loop *loop, const struct addr *to, const struct addr *from,
                                  enum net_error *error)
{
    (void)to;
    (void)from;
    struct net_conn *ends[2];
    *error = NET_ERROR_NONE;
    pipe_net_pair(loop, &(struct pipe_limits){.room = 0}, ends);
    client_end = ends[0];
    server_end = ends[1];
    dials++;
    return ends[0];
}

struct scene {
    struct net_ops net;
    struct loop *loop;
    struct worker_settings settings;
    struct worker worker;
    struct shared_registry *registry;
    struct cluster_config config;
    struct cluster *cluster;
    struct endpoint_config endpoint_config;
    struct locality locality;
    struct endpoint_set set;
    struct endpoint *endpoint;
    struct arena arena;
    struct task owner;
    struct stream streams[STREAMS];
    struct ticket tickets[STREAMS];
    uint64_t now_us;
};

static void run_owner(struct task *task)
{
    (void)task;
}

static void step(struct scene *scene, uint64_t by_us)
{
    uint64_t next_us = 0;
    scene->now_us += by_us;
    (void)loop_step(scene->loop, scene->now_us, scene->now_us, &next_us);
}

static void apply_set(struct scene *scene)
{
    struct shared_endpoint **shared =
        shared_registry_endpoints(scene->registry, scene->config.name, &scene->set);
    cluster_apply_endpoints(scene->cluster, &scene->set, &shared, scene->now_us);
}

/* What the server's end has received. */
static size_t heard(uint8_t *into, size_t room)
{
    size_t got = 0;
    if (pipe_net_waiting(server_end) > 0) {
        assert_int_equal(server_end->ops->recv(server_end, (struct span){into, room}, &got), IO_OK);
    }
    return got;
}

static void answer(const void *bytes, size_t len)
{
    union {
        const void *in;
        void *out;
    } base = {.in = bytes};
    struct iovec vector = {.iov_base = base.out, .iov_len = len};
    size_t sent = 0;
    assert_int_equal(server_end->ops->send(server_end, &vector, 1, &sent), IO_OK);
    assert_int_equal(sent, len);
}

/* One connection with STREAMS requests on it. */
static void scene_init(struct scene *scene)
{
    static const uint8_t settings[] = {0, 0, 0, H2_FRAME_SETTINGS, 0, 0, 0, 0, 0};
    *scene = (struct scene){.net = *pipe_net(), .owner.run = run_owner, .now_us = SECOND};
    scene->net.connect = dial_pipe;
    dials = 0;
    scene->loop = loop_new_stepped(&scene->net, NULL);
    worker_settings_init(&scene->settings);
    scene->settings.ping_us = 30 * SECOND;
    scene->registry = shared_registry_new();
    worker_init(&scene->worker, 0, scene->loop, scene->registry, &scene->settings, 7);
    scene->config = (struct cluster_config){
        .name = SLICE("c"),
        .type = CLUSTER_EDS,
        .connect_timeout_us = SECOND,
        .limits = {{.connections = 9, .pending = 9, .requests = 9, .retries = 9},
                   {.connections = 9, .pending = 9, .requests = 9, .retries = 9}},
    };
    scene->endpoint_config =
        (struct endpoint_config){.addr = addr_ipv4(10, 0, 0, 1, 80), .weight = 1};
    scene->locality.weight = 1;
    scene->set = (struct endpoint_set){.cluster = SLICE("c"),
                                       .endpoints = &scene->endpoint_config,
                                       .localities = &scene->locality,
                                       .endpoint_count = 1,
                                       .locality_count = 1,
                                       .priority_count = 1,
                                       .overprovisioning = 140};
    struct shared_cluster *shared = shared_registry_cluster(scene->registry, scene->config.name);
    scene->cluster = cluster_new(&scene->config, &shared, 0);
    step(scene, 0);
    apply_set(scene);
    scene->endpoint = cluster_find(scene->cluster, &scene->endpoint_config.addr);
    endpoint_ref(scene->endpoint);
    arena_init(&scene->arena, NULL);
    for (unsigned i = 0; i < STREAMS; i++) {
        stream_init(&scene->streams[i], scene->loop, &scene->arena, &scene->owner);
        scene->tickets[i] = (struct ticket){.stream = &scene->streams[i]};
        pool_ask(&scene->worker, scene->endpoint, POOL_HTTP2, &scene->tickets[i]);
    }
    net_want(client_end, NET_READ | NET_WRITE); /* connected */
    step(scene, 1000);
    answer(settings, sizeof settings);
    step(scene, 1000);
    const struct message request = {.method = SLICE("GET"),
                                    .path = SLICE("/"),
                                    .authority = SLICE("c"),
                                    .content_length = MESSAGE_LENGTH_UNKNOWN};
    for (unsigned i = 0; i < STREAMS; i++) {
        assert_int_equal(scene->tickets[i].state, TICKET_READY);
        assert_true(stream_open(&scene->streams[i]));
        stream_write_head(&scene->streams[i], &request, true);
    }
    step(scene, 1000);
    assert_int_equal(dials, 1);
    uint8_t bytes[4096];
    assert_true(heard(bytes, sizeof bytes) > H2_PREFACE_BYTES);
}

static void scene_fini(struct scene *scene)
{
    for (unsigned i = 0; i < STREAMS; i++) {
        stream_fini(&scene->streams[i]);
        pool_finish(&scene->tickets[i]);
    }
    if (server_end != NULL) {
        server_end->ops->close(&server_end);
    }
    endpoint_unref(&scene->endpoint);
    worker_fini(&scene->worker);
    cluster_free(&scene->cluster);
    loop_drain(scene->loop);
    arena_fini(&scene->arena);
    shared_registry_sweep(scene->registry);
    shared_registry_free(&scene->registry);
    loop_free(&scene->loop);
}

static void assert_ping(void)
{
    uint8_t bytes[64];
    assert_int_equal(heard(bytes, sizeof bytes), H2_FRAME_HEAD_BYTES + 8);
    assert_int_equal(bytes[3], H2_FRAME_PING);
    assert_int_equal(bytes[4], 0);
    assert_memory_equal(bytes + H2_FRAME_HEAD_BYTES, "pillion?", 8);
}

static void a_silent_peer_is_asked_then_left(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    step(&scene, 31 * SECOND);
    assert_int_equal(pipe_net_waiting(server_end), 0); /* its SETTINGS came meanwhile */
    step(&scene, 29 * SECOND);
    assert_int_equal(pipe_net_waiting(server_end), 0);
    step(&scene, 2 * SECOND);
    assert_ping();
    /* An answer buys it as long again. */
    static const uint8_t pong[] = {0,   0,   8,   H2_FRAME_PING, H2_FLAG_ACK, 0,   0,   0,  0,
                                   'p', 'i', 'l', 'l',           'i',         'o', 'n', '?'};
    answer(pong, sizeof pong);
    step(&scene, 1000);
    step(&scene, 30 * SECOND);
    assert_non_null(scene.streams[0].channel);
    step(&scene, 30 * SECOND);
    assert_ping();
    step(&scene, 29 * SECOND);
    assert_non_null(scene.streams[0].channel);
    step(&scene, 2 * SECOND);
    for (unsigned i = 0; i < STREAMS; i++) {
        assert_null(scene.streams[i].channel);
        assert_true((scene.streams[i].events & STREAM_LOST) != 0);
    }
    scene_fini(&scene);
}

static void one_death_is_charged_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    server_end->ops->reset(&server_end);
    step(&scene, 1000);
    unsigned charged = 0;
    for (unsigned i = 0; i < STREAMS; i++) {
        assert_null(scene.streams[i].channel);
        charged += !scene.streams[i].shared_death;
    }
    assert_int_equal(charged, 1);
    scene_fini(&scene);
}

static void an_unlisted_endpoint_takes_no_more(void **state)
{
    (void)state;
    struct scene scene;
    scene_init(&scene);
    const struct pool *pool = scene.endpoint->pool;
    assert_int_equal(pool_counts(pool).busy, 1);
    scene.set.endpoint_count = 0;
    apply_set(&scene);
    assert_false(scene.endpoint->listed);
    step(&scene, 1000);
    /* Those that it has go on to their end; then it closes. */
    for (unsigned i = 0; i < STREAMS; i++) {
        const uint8_t status_200[] = {0, 0, 1, H2_FRAME_HEADERS,     5,
                                      0, 0, 0, (uint8_t)(2 * i + 1), 0x88};
        answer(status_200, sizeof status_200);
        step(&scene, 1000);
        assert_non_null(scene.streams[i].channel);
        assert_true(scene.streams[i].in_end);
        stream_detach(&scene.streams[i]);
        pool_finish(&scene.tickets[i]);
        step(&scene, 1000);
    }
    uint8_t bytes[4096];
    (void)heard(bytes, sizeof bytes);
    size_t got = 0;
    assert_int_equal(server_end->ops->recv(server_end, (struct span){bytes, sizeof bytes}, &got),
                     IO_EOF);
    scene_fini(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_peer_is_asked_then_left),
        cmocka_unit_test(one_death_is_charged_once),
        cmocka_unit_test(an_unlisted_endpoint_takes_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
