/* An ask is one request that waits for the workers. Its parts are mails: one goes to each worker,
 * which fills it and sends it back. A part that is under way is not freed, whatever became of the
 * request; so an ask lives until its last part is home, or until the workers' threads have ended.
 */
#include "sidecar/admin/admin.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/loop.h"
#include "http/server.h"
#include "sidecar/admin/show.h"
#include "sidecar/observe/stats.h"
#include "sidecar/worker.h"

#define PATIENCE_US  UINT64_C(2000000)
#define EXPIRE_US    UINT64_C(60000000)
#define ARGUMENT_MAX 128U
#define PROMETHEUS   "text/plain; version=0.0.4; charset=utf-8"
#define JSON_TYPE    "application/json"

struct admin {
    struct admin_parts parts;
    struct worker **workers;
    struct stats_worker *own; /* the admin thread's shard */
    struct http_server *server;
    struct http_server *metrics;
    struct list asks;
    struct task expire;
    struct timer expire_timer;
    bool ready;
};

/* ---- asking the workers ---- */

struct ask;
typedef json_t *ask_worker(struct worker *worker, struct slice argument);
/* Consumes the call. `answers`: of the workers that answered; null where one did not. */
typedef void ask_answer(struct ask *ask, struct http_call **call);

struct part {
    struct mail mail;
    struct ask *ask;
    struct worker *worker;
    json_t *answer;
};

struct ask {
    struct list link; /* in admin->asks */
    struct admin *admin;
    struct http_call *call; /* null: answered */
    ask_worker *worker;
    ask_answer *answer;
    struct task task; /* patience is over */
    struct timer timer;
    unsigned waiting; /* parts under way */
    unsigned part_count;
    size_t argument_len;
    uint8_t argument[ARGUMENT_MAX];
    struct part parts[];
};

static void free_ask(struct ask *ask)
{
    for (unsigned i = 0; i < ask->part_count; i++) {
        json_decref(ask->parts[i].answer);
    }
    timer_clear(&ask->timer);
    task_cancel(&ask->task);
    list_remove(&ask->link);
    mem_free(ask);
}

static void deliver_answer(struct mail *mail, struct loop *loop)
{
    (void)loop;
    struct ask *ask = CONTAINER_OF(mail, struct part, mail)->ask;
    if (--ask->waiting > 0) {
        return;
    }
    if (ask->call != NULL) {
        ask->answer(ask, &ask->call);
    }
    free_ask(ask);
}

static void deliver_question(struct mail *mail, struct loop *loop)
{
    struct part *part = CONTAINER_OF(mail, struct part, mail);
    struct ask *ask = part->ask;
    CHECK(part->worker->loop == loop);
    part->answer = ask->worker(part->worker, slice_of(ask->argument, ask->argument_len));
    part->mail.deliver = deliver_answer;
    loop_send(ask->admin->parts.loop, &part->mail);
}

/* A worker does not answer: which one would be worth knowing, but only its next tick will tell. */
static void run_impatience(struct task *task)
{
    struct ask *ask = CONTAINER_OF(task, struct ask, task);
    timer_clear(&ask->timer);
    if (ask->call != NULL) {
        log_limited(LOG_LEVEL_WARNING, "a worker does not answer the admin thread",
                    LOG_U64("missing", ask->waiting));
        struct http_reply reply = {.status = 503, .body = SLICE("a worker does not answer\n")};
        http_call_answer_take(&ask->call, &reply);
    }
}

static void ask(struct admin *admin, struct http_call *call, unsigned count, ask_worker *worker,
                ask_answer *answer, struct slice argument)
{
    struct ask *it = mem_new(sizeof *it + count * sizeof it->parts[0]);
    it->admin = admin;
    it->call = call;
    it->worker = worker;
    it->answer = answer;
    it->task.run = run_impatience;
    it->timer.task = &it->task;
    it->waiting = count;
    it->part_count = count;
    it->argument_len = argument.len < ARGUMENT_MAX ? argument.len : ARGUMENT_MAX;
    if (argument.len > 0) {
        (void)memcpy(it->argument, argument.at, it->argument_len);
    }
    list_append(&admin->asks, &it->link);
    timer_set(admin->parts.loop, &it->timer, admin->parts.loop->now_us + PATIENCE_US);
    for (unsigned i = 0; i < count; i++) {
        struct part *part = &it->parts[i];
        part->ask = it;
        part->worker = admin->workers[i];
        part->mail.deliver = deliver_question;
        loop_send(part->worker->loop, &part->mail);
    }
}

/* ---- answers ---- */

static void answer_text(struct http_call *call, uint16_t status, struct slice text)
{
    struct http_reply reply = {.status = status, .body = text};
    http_call_answer_take(&call, &reply);
}

/* Takes the reference. */
static void answer_json(struct http_call **call, json_t *value)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct http_reply reply = {.content_type = JSON_TYPE, .body = json_text(&arena, value, false)};
    http_call_answer_take(call, &reply);
    arena_fini(&arena);
    json_decref(value);
}

static json_t *named(const char *name, json_t *value)
{
    json_t *object = json_object();
    CHECK(json_object_set_new(object, name, value) == 0);
    return object;
}

static void answer_first(struct ask *ask, struct http_call **call)
{
    answer_json(call, json_incref(ask->parts[0].answer));
}

static void answer_certs(struct ask *ask, struct http_call **call)
{
    answer_json(call, named("certificates", json_incref(ask->parts[0].answer)));
}

static void answer_clusters(struct ask *ask, struct http_call **call)
{
    json_t *sum = json_incref(ask->parts[0].answer);
    for (unsigned i = 1; i < ask->part_count; i++) {
        show_add_clusters(sum, ask->parts[i].answer);
    }
    answer_json(call, named("clusters", sum));
}

static void answer_exchanges(struct ask *ask, struct http_call **call)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < ask->part_count; i++) {
        CHECK(json_array_extend(list, ask->parts[i].answer) == 0);
    }
    answer_json(call, named("exchanges", list));
}

/* ---- metrics ---- */

static void take_text(void *owner, struct slice text)
{
    buf_append(owner, text);
}

static void answer_metrics(struct ask *ask, struct http_call **call)
{
    struct admin *admin = ask->admin;
    stats_set(admin->own, STAT_MEMORY_LIVE, (int64_t)worker_memory_used());
    struct buf text;
    buf_init(&text, &admin->parts.loop->bufs);
    metrics_write(stats_get_metrics(admin->parts.stats), take_text, &text);
    struct http_reply reply = {.content_type = PROMETHEUS, .from = &text};
    http_call_answer_take(call, &reply);
    buf_clear(&text);
}

/* For reading by eye: the samples alone, and only the totals of histograms. */
struct plain {
    struct buf *out;
    struct buf line;
};

static void end_line(struct plain *plain)
{
    uint8_t bytes[BUF_CHUNK_BYTES];
    size_t len = buf_peek(&plain->line, (struct span){bytes, sizeof bytes});
    struct slice line = slice_of(bytes, len);
    bool bucket = slice_search(line, SLICE("_bucket{")) < line.len;
    if (len > 0 && line.at[0] != '#' && !bucket) {
        buf_move(plain->out, &plain->line, plain->line.len);
        buf_append(plain->out, SLICE("\n"));
    }
    buf_clear(&plain->line);
}

static void take_plain(void *owner, struct slice text)
{
    struct plain *plain = owner;
    while (text.len > 0) {
        size_t end = slice_find(text, '\n');
        buf_append(&plain->line, slice_head(text, end));
        if (end < text.len) {
            end_line(plain);
        }
        text = slice_from(text, end + 1);
    }
}

static void answer_stats(struct ask *ask, struct http_call **call)
{
    struct admin *admin = ask->admin;
    stats_set(admin->own, STAT_MEMORY_LIVE, (int64_t)worker_memory_used());
    struct buf text;
    buf_init(&text, &admin->parts.loop->bufs);
    struct plain plain = {.out = &text};
    buf_init(&plain.line, &admin->parts.loop->bufs);
    metrics_write(stats_get_metrics(admin->parts.stats), take_plain, &plain);
    buf_clear(&plain.line);
    struct http_reply reply = {.content_type = "text/plain; charset=utf-8", .from = &text};
    http_call_answer_take(call, &reply);
    buf_clear(&text);
}

/* ---- rows ---- */

static void serve_ready(void *owner, struct http_call *call)
{
    const struct admin *admin = owner;
    answer_text(call, admin->ready ? 200 : 503,
                admin->ready ? SLICE("ready\n") : SLICE("not ready\n"));
}

static void serve_live(void *owner, struct http_call *call)
{
    (void)owner;
    answer_text(call, 200, SLICE("live\n"));
}

static void serve_prometheus(void *owner, struct http_call *call)
{
    struct admin *admin = owner;
    ask(admin, call, admin->parts.worker_count, show_gauges, answer_metrics, (struct slice){0});
}

static void serve_stats(void *owner, struct http_call *call)
{
    struct admin *admin = owner;
    struct slice format;
    if (http_request_query(http_call_get_request(call), SLICE("format"), &format) &&
        slice_eq(format, SLICE("prometheus"))) {
        serve_prometheus(owner, call);
        return;
    }
    ask(admin, call, admin->parts.worker_count, show_gauges, answer_stats, (struct slice){0});
}

/* Every worker has the same configuration: the first one's is shown. */
static void serve_config(void *owner, struct http_call *call)
{
    ask(owner, call, 1, show_config, answer_first, (struct slice){0});
}

static void serve_certs(void *owner, struct http_call *call)
{
    ask(owner, call, 1, show_certs, answer_certs, (struct slice){0});
}

static void serve_clusters(void *owner, struct http_call *call)
{
    struct admin *admin = owner;
    ask(admin, call, admin->parts.worker_count, show_clusters, answer_clusters, (struct slice){0});
}

static void serve_exchanges(void *owner, struct http_call *call)
{
    struct admin *admin = owner;
    struct slice id = {NULL, 0};
    (void)http_request_query(http_call_get_request(call), SLICE("id"), &id);
    ask(admin, call, admin->parts.worker_count, show_exchanges, answer_exchanges, id);
}

static void answer_level(struct http_call *call)
{
    answer_json(&call, named("level", json_string(log_level_name(log_get_level()))));
}

static void serve_level(void *owner, struct http_call *call)
{
    (void)owner;
    answer_level(call);
}

static void serve_set_level(void *owner, struct http_call *call)
{
    (void)owner;
    struct slice text;
    enum log_level level;
    if (!http_request_query(http_call_get_request(call), SLICE("level"), &text) ||
        !log_level_parse(text, &level)) {
        answer_text(call, 400, SLICE("level: allowed are error, warning, info and debug\n"));
        return;
    }
    log_set_level(level);
    answer_level(call);
}

static void serve_drain(void *owner, struct http_call *call)
{
    const struct admin *admin = owner;
    loop_post(admin->parts.loop, admin->parts.drain);
    answer_text(call, 202, SLICE("draining\n"));
}

static const struct http_route admin_routes[] = {
    {.path = "/ready", .method = "GET", .plain = serve_ready},
    {.path = "/stats", .method = "GET", .plain = serve_stats},
    {.path = "/stats/prometheus", .method = "GET", .plain = serve_prometheus},
    {.path = "/config_dump", .method = "GET", .plain = serve_config},
    {.path = "/clusters", .method = "GET", .plain = serve_clusters},
    {.path = "/certs", .method = "GET", .plain = serve_certs},
    {.path = "/exchanges", .method = "GET", .plain = serve_exchanges},
    {.path = "/logging", .method = "GET", .plain = serve_level},
    {.path = "/logging", .method = "POST", .plain = serve_set_level},
    {.path = "/drain", .method = "POST", .plain = serve_drain},
};

static const struct http_route metrics_routes[] = {
    {.path = "/metrics", .method = "GET", .plain = serve_prometheus},
    {.path = "/stats/prometheus", .method = "GET", .plain = serve_prometheus},
    {.path = "/healthz/ready", .method = "GET", .plain = serve_ready},
    {.path = "/healthz/live", .method = "GET", .plain = serve_live},
};

/* ---- life ---- */

static void run_expire(struct task *task)
{
    struct admin *admin = CONTAINER_OF(task, struct admin, expire);
    struct loop *loop = admin->parts.loop;
    stats_expire(admin->parts.stats, loop->now_us);
    timer_set(loop, &admin->expire_timer, loop->now_us + EXPIRE_US);
}

static struct http_server *open_server(struct admin *admin, const struct http_route *routes,
                                       size_t count, const struct addr *at)
{
    if (at->family == ADDR_NONE) {
        return NULL;
    }
    struct http_server_options options = {
        .routes = routes, .route_count = count, .owner = admin, .max_connections = 64};
    struct http_server *server = http_server_new(admin->parts.loop, &options);
    struct error err = {.text = ""};
    char text[ADDR_TEXT_MAX];
    struct addr bound;
    if (!http_server_listen(server, at, NULL, NULL, &bound, &err)) {
        log_error("admin port not served", LOG_TEXT("address", addr_format(at, text)),
                  LOG_CAUSE(&err));
        http_server_free(&server);
        return NULL;
    }
    return server;
}

struct admin *admin_new(const struct admin_parts *parts)
{
    CHECK(parts->worker_count > 0);
    struct admin *admin = NEW(struct admin);
    admin->parts = *parts;
    admin->workers = NEW_ARRAY(struct worker *, parts->worker_count);
    (void)memcpy(admin->workers, parts->workers, parts->worker_count * sizeof *parts->workers);
    admin->parts.workers = admin->workers;
    list_init(&admin->asks);
    admin->own = stats_worker_new(parts->stats);
    admin->expire.run = run_expire;
    admin->expire_timer.task = &admin->expire;
    timer_set(parts->loop, &admin->expire_timer, parts->loop->now_us + EXPIRE_US);
    admin->server = open_server(admin, admin_routes, COUNT_OF(admin_routes), &parts->admin);
    admin->metrics = open_server(admin, metrics_routes, COUNT_OF(metrics_routes), &parts->metrics);
    return admin;
}

void admin_free(struct admin **admin_at)
{
    struct admin *admin = *admin_at;
    if (admin == NULL) {
        return;
    }
    *admin_at = NULL;
    LIST_EACH(&admin->asks, node)
    {
        struct ask *it = LIST_ITEM(node, struct ask, link);
        if (it->call != NULL) {
            struct http_reply reply = {.status = 503};
            http_call_answer_take(&it->call, &reply);
        }
        free_ask(it);
    }
    http_server_free(&admin->server);
    http_server_free(&admin->metrics);
    timer_clear(&admin->expire_timer);
    task_cancel(&admin->expire);
    stats_worker_free(&admin->own);
    mem_free(admin->workers);
    mem_free(admin);
}

struct stats_worker *admin_get_stats(struct admin *admin)
{
    return admin->own;
}

void admin_set_ready(struct admin *admin, bool ready)
{
    admin->ready = ready;
}
