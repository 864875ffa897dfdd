#include "tests/sim/app.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "tests/sim/reader.h"
#include "tests/sim/wire.h"

#define PIECE_BYTES 4096
#define WRITE_HIGH  32768
#define LINGER_US   UINT64_C(200000)
#define HANG_US     UINT64_C(400000000)

enum app_phase {
    APP_READING,
    APP_WAITING, /* until the timer */
    APP_WRITING,
    APP_LINGERING /* has said its last; waits for the peer's end */
};

struct app_conn {
    struct list link;
    struct app *app;
    struct wire wire;
    struct task task;
    struct timer timer;
    struct grave grave;
    struct reader reader;
    enum app_phase phase;
    enum app_habit habit;
    uint64_t number; /* of the request */
    unsigned tried;
    uint64_t answer_len;
    uint64_t answer_at;
    uint64_t stop_at; /* of the answer's bytes, for halves */
    bool chunked;
    bool head_request;
    bool gone;
    uint8_t *pipelined; /* behind the present request */
    size_t pipelined_len;
};

static void free_conn(struct grave *grave)
{
    struct app_conn *conn = CONTAINER_OF(grave, struct app_conn, grave);
    mem_free(conn->pipelined);
    mem_free(conn);
}

static void leave(struct app_conn *conn, bool reset)
{
    if (conn->gone) {
        return;
    }
    conn->gone = true;
    if (reset) {
        wire_reset(&conn->wire);
    } else {
        wire_close(&conn->wire);
    }
    list_remove(&conn->link);
    timer_clear(&conn->timer);
    task_cancel(&conn->task);
    loop_bury(conn->app->host->loop, &conn->grave);
}

static struct world *world_of(const struct app_conn *conn)
{
    return conn->app->host->world;
}

static void wait_for(struct app_conn *conn, uint64_t us)
{
    struct loop *loop = conn->app->host->loop;
    timer_set(loop, &conn->timer, loop->now_us + us);
}

/* ---- the answer ---- */

static struct ledger_try *try_of(const struct app_conn *conn)
{
    return &conn->app->ledger->rows[conn->number - 1].tries[conn->tried];
}

static unsigned status_of(enum app_habit habit)
{
    switch (habit) {
    case APP_ERROR:
        return 503;
    case APP_BROKEN:
        return 500;
    case APP_EMPTY:
        return 204;
    case APP_ANSWER:
    case APP_CHUNKED:
    case APP_UNTIL_CLOSE:
    case APP_LAST:
    case APP_QUIET_LAST:
    case APP_EARLY:
    case APP_INTERIM:
    case APP_SLOW:
    case APP_DRIP:
    case APP_CLOSE:
    case APP_RESET:
    case APP_HALF_CLOSE:
    case APP_HALF_RESET:
    case APP_HANG:
    case APP_GARBAGE:
    case APP_HABIT_COUNT:
        break;
    }
    return 200;
}

static bool closes_behind(const struct app_conn *conn)
{
    return conn->habit == APP_UNTIL_CLOSE || conn->habit == APP_LAST ||
           conn->habit == APP_QUIET_LAST || conn->habit == APP_EARLY;
}

static void write_head(struct app_conn *conn)
{
    struct world *world = world_of(conn);
    unsigned status = status_of(conn->habit);
    bool half = conn->habit == APP_HALF_CLOSE || conn->habit == APP_HALF_RESET;
    conn->chunked = conn->habit == APP_CHUNKED || (half && rng_below(&world->rng, 2) == 0);
    bool until_close = conn->habit == APP_UNTIL_CLOSE;
    conn->answer_len = status == 204 ? 0 : world_between(world, 0, conn->app->mix.answer_max);
    conn->answer_at = 0;
    conn->stop_at = half ? rng_below(&world->rng, conn->answer_len + 1) : conn->answer_len;
    struct ledger_try *given = try_of(conn);
    given->status = status;
    given->answer_len = conn->answer_len;
    if (conn->habit == APP_INTERIM) {
        wire_text(&conn->wire, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
    wire_text(&conn->wire, "HTTP/1.1 %u Of Course\r\nx-sim-id: %" PRIu64 "\r\nx-sim-try: %u\r\n",
              status, conn->number, conn->tried);
    if (conn->chunked) {
        wire_text(&conn->wire, "transfer-encoding: chunked\r\n");
    } else if (!until_close && status != 204) {
        wire_text(&conn->wire, "content-length: %" PRIu64 "\r\n", conn->answer_len);
    }
    bool says_close = closes_behind(conn) && conn->habit != APP_QUIET_LAST;
    wire_text(&conn->wire, "%s\r\n", says_close ? "connection: close\r\n" : "");
    if (conn->head_request) {
        conn->answer_at = conn->answer_len;
        conn->stop_at = conn->answer_len;
    }
    conn->phase = APP_WRITING;
}

static void write_piece(struct app_conn *conn, size_t len)
{
    uint8_t bytes[PIECE_BYTES];
    ledger_fill(conn->number, LEDGER_ANSWER_BODY, conn->answer_at, bytes, len);
    if (conn->chunked) {
        wire_text(&conn->wire, "%zx\r\n", len);
    }
    wire_put(&conn->wire, bytes, len);
    if (conn->chunked) {
        wire_text(&conn->wire, "\r\n");
    }
    conn->answer_at += len;
}

static void next_request(struct app_conn *conn);

static void linger(struct app_conn *conn)
{
    conn->phase = APP_LINGERING;
    wire_fin(&conn->wire);
    wait_for(conn, LINGER_US);
}

static void end_answer(struct app_conn *conn)
{
    bool half = conn->habit == APP_HALF_CLOSE || conn->habit == APP_HALF_RESET;
    bool whole =
        !half || conn->head_request || (!conn->chunked && conn->answer_at == conn->answer_len);
    if (whole && conn->chunked && !conn->head_request) {
        wire_text(&conn->wire, "0\r\n\r\n");
    }
    try_of(conn)->whole = whole;
    if (half) {
        wire_send(&conn->wire);
        leave(conn, conn->habit == APP_HALF_RESET);
    } else if (closes_behind(conn)) {
        linger(conn);
    } else {
        next_request(conn);
    }
}

static void write_on(struct app_conn *conn)
{
    struct world *world = world_of(conn);
    while (conn->answer_at < conn->stop_at) {
        if (wire_waiting(&conn->wire) > WRITE_HIGH) {
            return;
        }
        uint64_t left = conn->stop_at - conn->answer_at;
        size_t most = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        if (conn->habit == APP_DRIP) {
            write_piece(conn, (size_t)world_between(world, 1, most));
            wire_send(&conn->wire);
            if (conn->answer_at == conn->stop_at) {
                break;
            }
            wait_for(conn, world_between(world, 1000, 1000 + conn->app->mix.slow_max_us));
            return;
        }
        write_piece(conn, conn->chunked ? (size_t)world_between(world, 1, most) : most);
        wire_send(&conn->wire);
    }
    end_answer(conn);
}

/* The request is whole (or does not matter any more). */
static void answer(struct app_conn *conn)
{
    switch (conn->habit) {
    case APP_CLOSE:
        leave(conn, false);
        return;
    case APP_RESET:
        leave(conn, true);
        return;
    case APP_HANG:
        conn->phase = APP_WAITING;
        wait_for(conn, HANG_US);
        return;
    case APP_GARBAGE:
        wire_text(&conn->wire, "HTTP/1.1 2x0 What\r\n: \r\n\r\n");
        linger(conn);
        return;
    case APP_SLOW:
        if (conn->phase == APP_READING) {
            conn->phase = APP_WAITING;
            wait_for(conn, world_between(world_of(conn), 1, 1 + conn->app->mix.slow_max_us));
            return;
        }
        break;
    case APP_ANSWER:
    case APP_CHUNKED:
    case APP_UNTIL_CLOSE:
    case APP_LAST:
    case APP_QUIET_LAST:
    case APP_EARLY:
    case APP_INTERIM:
    case APP_DRIP:
    case APP_ERROR:
    case APP_BROKEN:
    case APP_EMPTY:
    case APP_HALF_CLOSE:
    case APP_HALF_RESET:
    case APP_HABIT_COUNT:
        break;
    }
    write_head(conn);
    write_on(conn);
}

/* ---- the request ---- */

static enum app_habit draw_habit(struct app *app)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < APP_HABIT_COUNT; i++) {
        sum += app->mix.weight[i];
    }
    uint64_t draw = rng_below(&app->host->world->rng, sum);
    for (unsigned i = 0; i < APP_HABIT_COUNT; i++) {
        if (draw < app->mix.weight[i]) {
            return (enum app_habit)i;
        }
        draw -= app->mix.weight[i];
    }
    return APP_ANSWER;
}

static void take_body(void *owner, const uint8_t *bytes, size_t len)
{
    struct app_conn *conn = owner;
    ledger_check(conn->app->ledger, conn->number, LEDGER_REQUEST_BODY, conn->reader.body_len, bytes,
                 len);
}

static void take_head(struct app_conn *conn)
{
    struct app *app = conn->app;
    conn->number = reader_number(&conn->reader, "x-sim-id", 0);
    const struct ledger_row *row = ledger_row(app->ledger, conn->number);
    if (row == NULL) {
        conn->habit = APP_RESET;
        return;
    }
    app->requests++;
    conn->tried = ledger_seen(app->ledger, conn->number, app->number);
    conn->head_request = row->method == LEDGER_HEAD;
    conn->habit = draw_habit(app);
    world_note(app->host->world, "habit", conn->number, conn->habit, app->number);
}

static void check_request(struct app_conn *conn)
{
    const struct ledger_row *row = ledger_row(conn->app->ledger, conn->number);
    if (row != NULL && conn->reader.body_len != row->body_len) {
        world_fail(world_of(conn),
                   "request %" PRIu64 ": a whole body of %" PRIu64 " bytes, sent were %" PRIu64,
                   conn->number, conn->reader.body_len, row->body_len);
    }
}

static void take(void *owner, const uint8_t *bytes, size_t len);

static void read_request(struct app_conn *conn, const uint8_t *bytes, size_t len)
{
    bool had_head = conn->reader.head_done;
    size_t used = 0;
    /* One byte at a time until the head is there: the body's function needs to know its number. */
    while (used < len && !conn->reader.head_done && conn->reader.state != READER_BAD) {
        used += reader_feed(&conn->reader, bytes + used, 1);
    }
    if (!had_head && conn->reader.head_done) {
        take_head(conn);
        if (conn->habit == APP_EARLY && conn->reader.state != READER_DONE) {
            answer(conn);
            return;
        }
    }
    used += reader_feed(&conn->reader, bytes + used, len - used);
    if (conn->reader.state == READER_BAD) {
        world_fail(world_of(conn), "an application got what is no HTTP: %.200s", conn->reader.head);
        leave(conn, true);
        return;
    }
    if (used < len) {
        conn->pipelined = mem_resize(conn->pipelined, conn->pipelined_len + len - used);
        (void)memcpy(conn->pipelined + conn->pipelined_len, bytes + used, len - used);
        conn->pipelined_len += len - used;
    }
    if (conn->reader.state == READER_DONE) {
        check_request(conn);
        answer(conn);
    }
}

static void next_request(struct app_conn *conn)
{
    uint8_t *bytes = conn->pipelined;
    size_t len = conn->pipelined_len;
    conn->pipelined = NULL;
    conn->pipelined_len = 0;
    conn->phase = APP_READING;
    reader_next(&conn->reader);
    if (len > 0) {
        world_fail(world_of(conn), "a sidecar pipelined to an application");
    }
    mem_free(bytes);
}

static void take(void *owner, const uint8_t *bytes, size_t len)
{
    struct app_conn *conn = owner;
    if (conn->app->mix.echo) {
        conn->app->echoed += len;
        wire_put(&conn->wire, bytes, len);
        return;
    }
    switch (conn->phase) {
    case APP_READING:
        read_request(conn, bytes, len);
        break;
    case APP_WAITING:
    case APP_WRITING:
    case APP_LINGERING:
        break; /* the rest of a body that an early answer made pointless */
    }
}

static void run(struct task *task)
{
    struct app_conn *conn = CONTAINER_OF(task, struct app_conn, task);
    if (conn->gone) {
        return;
    }
    bool due = timer_due(&conn->timer, conn->app->host->loop);
    if (due) {
        timer_clear(&conn->timer);
    }
    wire_run(&conn->wire, take, conn);
    if (conn->gone) {
        return;
    }
    if (conn->wire.failed || (conn->wire.eof && !conn->app->mix.echo)) {
        leave(conn, false);
        return;
    }
    if (conn->app->mix.echo) {
        if (conn->wire.eof && !conn->wire.fin_wanted) {
            wire_fin(&conn->wire);
        }
        wire_send(&conn->wire);
        if (conn->wire.fin_sent) {
            leave(conn, false);
        }
        return;
    }
    if (due && (conn->phase == APP_LINGERING || conn->habit == APP_HANG)) {
        leave(conn, false);
    } else if (due && conn->phase == APP_WAITING) {
        answer(conn);
    } else if (conn->phase == APP_WRITING && conn->timer.at_us == 0) {
        write_on(conn);
    }
    if (!conn->gone) {
        wire_send(&conn->wire);
    }
}

static void accept_all(struct task *task)
{
    struct app *app = CONTAINER_OF(task, struct app, task);
    if (app->net == NULL) {
        return;
    }
    for (struct net_conn *net = app->net->ops->accept(app->net); net != NULL;
         net = app->net->ops->accept(app->net)) {
        struct app_conn *conn = NEW(struct app_conn);
        conn->app = app;
        conn->wire.net = net;
        conn->task.run = run;
        conn->timer.task = &conn->task;
        conn->grave.free = free_conn;
        net->owner = &conn->task;
        reader_init(&conn->reader, false, take_body, conn);
        list_append(&app->conns, &conn->link);
    }
}

void app_start(struct app *app)
{
    struct error err;
    CHECK(app->net == NULL);
    world_touch(app->host);
    app->net = net_listen(app->host->loop, &app->at, 128, &err);
    CHECK(app->net != NULL);
    app->net->owner = &app->task;
    app->net->ops->accepting(app->net, true);
    world_note(app->host->world, "app starts", app->number, 0, 0);
}

void app_stop(struct app *app)
{
    if (app->net == NULL) {
        return;
    }
    world_note(app->host->world, "app stops", app->number, 0, 0);
    world_touch(app->host);
    task_cancel(&app->task);
    app->net->ops->unlisten(&app->net);
    LIST_EACH(&app->conns, node)
    {
        leave(LIST_ITEM(node, struct app_conn, link), rng_below(&app->host->world->rng, 2) == 0);
    }
}

void app_init(struct app *app, struct host *host, struct ledger *ledger, const struct addr *at,
              unsigned number, const struct app_mix *mix)
{
    *app = (struct app){.host = host, .ledger = ledger, .mix = *mix, .at = *at, .number = number};
    app->task.run = accept_all;
    list_init(&app->conns);
    app_start(app);
}

void app_fini(struct app *app)
{
    app_stop(app);
    loop_drain(app->host->loop);
}
