#include "control/serve/api.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/loop.h"
#include "control/serve/scrape.h"
#include "control/status.h"

#define MILLISECOND_US UINT64_C(1000)

/* A POST /api/wait that is not answered yet. */
struct waiter {
    struct list link; /* in api->waiters */
    struct http_call *call;
    struct arena arena; /* of what it waits for */
    struct status_wanted *wanted;
    size_t count;
    struct timer timer;
};

struct api {
    struct loop *loop;
    struct status_sources sources;
    struct scrape *scrape;
    struct task task; /* looks at the waiters: posted when anything has moved */
    struct list waiters;
    unsigned waiter_count;
};

static struct status_sources sources_now(const struct api *api)
{
    struct status_sources sources = api->sources;
    sources.wall_us = api->loop->wall_us;
    return sources;
}

/* ---- answers ---- */

static void answer_json(struct http_call **call, uint16_t status, json_t *json)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct http_reply reply = {.status = status,
                               .content_type = "application/json",
                               .body = json_text(&arena, json, false)};
    http_call_answer_take(call, &reply);
    json_decref(json);
    arena_fini(&arena);
}

static void answer_error(struct http_call **call, uint16_t status, const char *text)
{
    json_t *json = json_object();
    json_t *value = json_string(text);
    CHECK(json_object_set_new(json, "error", value != NULL ? value : json_null()) == 0);
    answer_json(call, status, json);
}

static void on_health(void *owner, struct http_call *call)
{
    (void)owner;
    http_call_answer_take(&call, &(struct http_reply){.body = SLICE("ok\n")});
}

static void on_metrics(void *owner, struct http_call *call)
{
    struct api *api = owner;
    struct status_sources sources = sources_now(api);
    struct buf text;
    buf_init(&text, &api->loop->bufs);
    scrape_write(api->scrape, &sources, &text);
    http_call_answer_take(
        &call, &(struct http_reply){.content_type = "text/plain; version=0.0.4; charset=utf-8",
                                    .from = &text});
}

static void on_status(void *owner, struct http_call *call)
{
    struct status_sources sources = sources_now(owner);
    answer_json(&call, 200, status_to_json(&sources));
}

static void on_objects(void *owner, struct http_call *call)
{
    const struct api *api = owner;
    answer_json(&call, 200, status_objects_to_json(api->sources.picture));
}

/* ---- waiting ---- */

static void waiter_end(struct api *api, struct waiter *waiter, json_t *answer)
{
    answer_json(&waiter->call, 200, answer);
    timer_clear(&waiter->timer);
    list_remove(&waiter->link);
    arena_fini(&waiter->arena);
    mem_free(waiter);
    api->waiter_count--;
}

static void waiter_look(struct api *api, struct waiter *waiter, bool last)
{
    struct status_sources sources = sources_now(api);
    bool live = false;
    json_t *answer = status_wait_to_json(&sources, waiter->wanted, waiter->count, &live);
    if (live || last || http_call_gone(waiter->call) || timer_due(&waiter->timer, api->loop)) {
        waiter_end(api, waiter, answer);
    } else {
        json_decref(answer);
    }
}

static void api_run(struct task *task)
{
    struct api *api = CONTAINER_OF(task, struct api, task);
    LIST_EACH(&api->waiters, node)
    {
        waiter_look(api, CONTAINER_OF(node, struct waiter, link), false);
    }
}

static void on_wait(void *owner, struct http_call *call)
{
    struct api *api = owner;
    struct error err = {{0}};
    uint64_t timeout_ms = 0;
    if (api->waiter_count >= API_WAITERS_MAX) {
        answer_error(&call, 503, "too many wait already");
        return;
    }
    struct waiter *waiter = NEW(struct waiter);
    arena_init(&waiter->arena, NULL);
    if (!status_wait_read(&waiter->arena, http_call_get_request(call)->body, &waiter->wanted,
                          &waiter->count, &timeout_ms, &err)) {
        answer_error(&call, 400, err.text);
        arena_fini(&waiter->arena);
        mem_free(waiter);
        return;
    }
    waiter->call = call;
    waiter->timer.task = &api->task;
    list_append(&api->waiters, &waiter->link);
    api->waiter_count++;
    if (timeout_ms > 0) {
        timer_set(api->loop, &waiter->timer, api->loop->now_us + timeout_ms * MILLISECOND_US);
        http_call_set_owner(call, &api->task);
    }
    waiter_look(api, waiter, timeout_ms == 0);
}

/* ---- life ---- */

static const struct http_route routes[] = {
    {.path = "/healthz", .method = "GET", .plain = on_health},
    {.path = "/healthz/live", .method = "GET", .plain = on_health},
    {.path = "/healthz/ready", .method = "GET", .plain = on_health},
    {.path = "/metrics", .method = "GET", .plain = on_metrics},
    {.path = "/api/status", .method = "GET", .plain = on_status},
    {.path = "/api/objects", .method = "GET", .plain = on_objects},
    {.path = "/api/wait", .method = "POST", .body_max = API_WAIT_BODY, .plain = on_wait},
};

const struct http_route *api_get_routes(size_t *count)
{
    *count = COUNT_OF(routes);
    return routes;
}

struct api *api_new(const struct api_options *options)
{
    struct api *api = NEW(struct api);
    api->loop = options->loop;
    api->sources =
        (struct status_sources){.picture = options->picture, .certificates = options->certificates};
    api->scrape = scrape_new();
    api->task.run = api_run;
    list_init(&api->waiters);
    return api;
}

void api_free(struct api **api_at)
{
    struct api *api = *api_at;
    *api_at = NULL;
    if (api == NULL) {
        return;
    }
    LIST_EACH(&api->waiters, node)
    {
        waiter_look(api, CONTAINER_OF(node, struct waiter, link), true);
    }
    task_cancel(&api->task);
    scrape_free(&api->scrape);
    mem_free(api);
}

void api_set_ads(struct api *api, const struct ads *ads)
{
    api->sources.ads = ads;
}

struct task *api_get_task(struct api *api)
{
    return &api->task;
}
