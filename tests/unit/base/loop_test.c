#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/conn.h"
#include "base/loop.h"
#include "tests/support/unit.h"

/* ---- timers, on stepped time ---- */

struct alarm {
    struct task task;
    struct timer timer;
    struct loop *loop;
    uint64_t fired_us;
    unsigned fired;
};

static void on_alarm(struct task *task)
{
    struct alarm *alarm = CONTAINER_OF(task, struct alarm, task);
    assert_true(timer_due(&alarm->timer, alarm->loop));
    alarm->fired_us = alarm->loop->now_us;
    alarm->fired++;
    timer_clear(&alarm->timer);
}

static void alarm_init(struct alarm *alarm, struct loop *loop)
{
    *alarm = (struct alarm){.task.run = on_alarm, .timer.task = &alarm->task, .loop = loop};
}

static void test_timers_fire_once_and_within_a_millisecond(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252U;
    for (unsigned round = 0; round < 20; round++) {
        struct loop *loop = loop_new_stepped(NULL, NULL);
        enum { COUNT = 300 };
        static struct alarm alarms[COUNT];
        static uint64_t want[COUNT];
        for (unsigned i = 0; i < COUNT; i++) {
            alarm_init(&alarms[i], loop);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            unsigned bits = (unsigned)(random % 36);
            want[i] = 1 + (random >> 20) % (UINT64_C(1) << bits);
            timer_set(loop, &alarms[i].timer, want[i]);
            if (i % 3 == 0) { /* moved: later, or earlier */
                want[i] = i % 2 == 0 ? want[i] * 3 : want[i] / 3 + 1;
                timer_set(loop, &alarms[i].timer, want[i]);
            }
            if (i % 7 == 0) {
                timer_clear(&alarms[i].timer);
                want[i] = 0;
            }
            if (i % 11 == 0) { /* paused: for ever, or until it is set again */
                timer_pause(&alarms[i].timer);
                want[i] = i % 2 == 0 ? 0 : i % 3 == 0 ? want[i] / 2 + 1 : want[i] * 2 + 1;
                if (want[i] != 0) {
                    timer_set(loop, &alarms[i].timer, want[i]);
                }
            }
        }
        uint64_t next = 0;
        uint64_t now = 0;
        unsigned steps = 0;
        while (next != UINT64_MAX && steps++ < 20000) {
            now = next > now ? next : now;
            (void)loop_step(loop, now, now, &next);
            assert_true(next > now);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(alarms[i].fired, want[i] == 0 ? 0 : 1);
            if (want[i] != 0) {
                assert_true(alarms[i].fired_us >= want[i]);
                assert_true(alarms[i].fired_us <= want[i] + 1000);
            }
        }
        loop_free(&loop);
    }
}

/* ---- order of a tick ---- */

struct noted {
    struct task task;
    struct grave grave;
    char letter;
    char *trace;
};

static void note(struct task *task)
{
    struct noted *noted = CONTAINER_OF(task, struct noted, task);
    size_t len = strlen(noted->trace);
    noted->trace[len] = noted->letter;
    noted->trace[len + 1] = '\0';
}

static void note_grave(struct grave *grave)
{
    note(&CONTAINER_OF(grave, struct noted, grave)->task);
}

static void test_tick_runs_posted_then_flushes_then_graves(void **state)
{
    (void)state;
    struct loop *loop = loop_new_stepped(NULL, NULL);
    char trace[16] = "";
    struct noted tasks[5];
    for (unsigned i = 0; i < 5; i++) {
        tasks[i] = (struct noted){.task.run = note, .letter = (char)('a' + i), .trace = trace};
        tasks[i].grave.free = note_grave;
    }
    loop_bury(loop, &tasks[4].grave);
    loop_flush_later(loop, &tasks[3].task);
    loop_post(loop, &tasks[1].task);
    loop_post(loop, &tasks[1].task); /* once, however often it is posted */
    loop_post(loop, &tasks[2].task);
    loop_post_next(loop, &tasks[0].task);
    uint64_t next;
    assert_true(loop_step(loop, 1, 1, &next));
    assert_string_equal(trace, "abcde");
    assert_false(loop_step(loop, 2, 2, &next));
    assert_int_equal(next, UINT64_MAX);
    loop_free(&loop);
}

static void test_what_is_posted_for_later_runs_in_the_next_tick(void **state)
{
    (void)state;
    struct loop *loop = loop_new_stepped(NULL, NULL);
    char trace[16] = "";
    struct noted tasks[3];
    for (unsigned i = 0; i < 3; i++) {
        tasks[i] = (struct noted){.task.run = note, .letter = (char)('a' + i), .trace = trace};
    }
    loop_post_later(loop, &tasks[1].task);
    uint64_t next;
    loop_post(loop, &tasks[0].task);
    assert_true(loop_step(loop, 1, 1, &next));
    assert_string_equal(trace, "ab"); /* this tick is the next from outside one */
    loop_post_later(loop, &tasks[2].task);
    loop_post(loop, &tasks[2].task); /* once, and not earlier */
    loop_post_later(loop, &tasks[1].task);
    task_cancel(&tasks[1].task);
    assert_true(loop_step(loop, 2, 2, &next));
    assert_string_equal(trace, "abc");
    assert_false(loop_step(loop, 3, 3, &next));
    assert_int_equal(next, UINT64_MAX);
    loop_free(&loop);
}

struct again {
    struct task task;
    struct loop *loop;
    unsigned runs;
};

static void run_again(struct task *task)
{
    struct again *again = CONTAINER_OF(task, struct again, task);
    again->runs++;
    loop_post_later(again->loop, task);
}

/* Work without end takes turns with all else, and the loop does not block meanwhile. */
static void test_work_without_end_does_not_hold_the_tick(void **state)
{
    (void)state;
    struct loop *loop = loop_new_stepped(NULL, NULL);
    struct again again = {.task.run = run_again, .loop = loop};
    loop_post(loop, &again.task);
    for (unsigned i = 1; i <= 5; i++) {
        uint64_t next;
        assert_true(loop_step(loop, 10, 10, &next));
        assert_int_equal(again.runs, i);
        assert_int_equal(next, 10);
    }
    task_cancel(&again.task);
    loop_free(&loop);
}

/* ---- sockets: an echo over the real table ---- */

struct echo {
    struct task accept_task;
    struct task server_task;
    struct task client_task;
    struct timer give_up;
    struct loop *loop;
    struct net_listener *listener;
    struct conn *server;
    struct conn *client;
    struct buf server_out;
    struct buf client_out;
    size_t want;
    size_t got;
    bool started;
};

static void on_accept(struct task *task)
{
    struct echo *echo = CONTAINER_OF(task, struct echo, accept_task);
    struct net_conn *net = echo->listener->ops->accept(echo->listener);
    assert_non_null(net);
    assert_null(echo->listener->ops->accept(echo->listener));
    net->owner = &echo->server_task;
    echo->server = conn_plain(&net, (struct slice){NULL, 0});
}

static void on_server(struct task *task)
{
    struct echo *echo = CONTAINER_OF(task, struct echo, server_task);
    size_t got;
    struct span span = loop_recv_span(echo->loop);
    enum io result = conn_recv(echo->server, span, &got);
    if (result == IO_OK) {
        buf_borrow(&echo->server_out, slice_of(span.at, got));
    }
    (void)conn_send(echo->server, &echo->server_out);
    if (result == IO_EOF && buf_empty(&echo->server_out)) {
        conn_shutdown_send(echo->server);
        net_want(echo->server->net, 0);
    }
}

static void on_client(struct task *task)
{
    struct echo *echo = CONTAINER_OF(task, struct echo, client_task);
    struct error err;
    if (timer_due(&echo->give_up, echo->loop)) {
        loop_stop(echo->loop);
        return;
    }
    enum io opened = conn_handshake(echo->client, &err);
    if (opened == IO_AGAIN) {
        return;
    }
    assert_int_equal(opened, IO_OK);
    if (!echo->started) {
        echo->started = true;
        for (size_t i = 0; i < echo->want; i++) {
            buf_append(&echo->client_out, slice_of(&"0123456789"[i % 10], 1));
        }
    }
    if (!buf_empty(&echo->client_out) && conn_send(echo->client, &echo->client_out) == IO_OK) {
        conn_shutdown_send(echo->client);
    }
    size_t got;
    struct span span = loop_recv_span(echo->loop);
    enum io result = conn_recv(echo->client, span, &got);
    for (size_t i = 0; i < got; i++) {
        assert_int_equal(span.at[i], '0' + (int)((echo->got + i) % 10));
    }
    echo->got += got;
    if (result == IO_EOF) {
        loop_stop(echo->loop);
    }
}

static void test_sockets_echo_a_megabyte_and_half_close(void **state)
{
    (void)state;
    struct echo echo = {.accept_task.run = on_accept,
                        .server_task.run = on_server,
                        .client_task.run = on_client,
                        .want = 1 << 20};
    echo.loop = loop_new();
    echo.give_up.task = &echo.client_task;
    timer_set(echo.loop, &echo.give_up, echo.loop->now_us + 20000000);
    buf_init(&echo.server_out, &echo.loop->bufs);
    buf_init(&echo.client_out, &echo.loop->bufs);
    struct addr at = addr_ipv4(127, 0, 0, 1, 0);
    struct error err = {.text = ""};
    echo.listener = net_listen(echo.loop, &at, 16, &err);
    assert_non_null(echo.listener);
    echo.listener->owner = &echo.accept_task;
    echo.listener->ops->accepting(echo.listener, true);
    echo.listener->ops->local(echo.listener, &at);
    struct net_listener *twice = net_listen(echo.loop, &at, 16, &err);
    assert_null(twice);
    assert_non_null(strstr(err.text, "Address already in use"));
    enum net_error failed;
    struct net_conn *net = net_connect(echo.loop, &at, NULL, &failed);
    assert_non_null(net);
    net->owner = &echo.client_task;
    echo.client = conn_plain(&net, (struct slice){NULL, 0});
    loop_run(echo.loop);
    assert_int_equal(echo.got, echo.want);
    timer_clear(&echo.give_up);
    conn_close(&echo.client);
    conn_close(&echo.server);
    echo.listener->ops->unlisten(&echo.listener);
    loop_free(&echo.loop);
}

static void on_refused(struct task *task)
{
    struct echo *echo = CONTAINER_OF(task, struct echo, client_task);
    struct error err = {.text = ""};
    if (conn_handshake(echo->client, &err) == IO_RESET) {
        assert_string_equal(err.text, "connection refused");
        echo->got = 1;
        loop_stop(echo->loop);
    }
}

static void test_a_refused_connection_says_so(void **state)
{
    (void)state;
    struct echo echo = {.client_task.run = on_refused};
    echo.loop = loop_new();
    struct addr at = addr_ipv4(127, 0, 0, 1, 0);
    struct net_listener *listener = net_listen(echo.loop, &at, 1, NULL);
    listener->ops->local(listener, &at);
    listener->ops->unlisten(&listener); /* a port that nobody listens on now */
    enum net_error failed;
    struct net_conn *net = net_connect(echo.loop, &at, NULL, &failed);
    if (net != NULL) {
        net->owner = &echo.client_task;
        echo.client = conn_plain(&net, (struct slice){NULL, 0});
        loop_run(echo.loop);
        assert_int_equal(echo.got, 1);
        conn_close(&echo.client);
    } else {
        assert_int_equal(failed, NET_ERROR_REFUSED);
    }
    loop_free(&echo.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_once_and_within_a_millisecond),
        cmocka_unit_test(test_tick_runs_posted_then_flushes_then_graves),
        cmocka_unit_test(test_what_is_posted_for_later_runs_in_the_next_tick),
        cmocka_unit_test(test_work_without_end_does_not_hold_the_tick),
        cmocka_unit_test(test_sockets_echo_a_megabyte_and_half_close),
        cmocka_unit_test(test_a_refused_connection_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
