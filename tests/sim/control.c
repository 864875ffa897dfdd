#include "tests/sim/control.h"

#include "base/alloc.h"
#include "base/tls.h"
#include "control/picture.h"
#include "control/serve/ads.h"
#include "control/serve/ca_service.h"
#include "http/server.h"

#define PORT           15012
#define CLIENT_STREAMS 1000U

struct control {
    struct control_options options;
    struct host *host;
    struct addr at;
    struct picture picture; /* what is not on disk: set, model, options, epoch */
    struct ca *ca;
    struct credentials credentials;
    struct ads *ads; /* null: it is down */
    struct ca_service *certificates;
    struct tls_context *tls;
    struct tls_keys keys;
    struct http_server *server;
    struct task renew;
    struct timer renew_timer;
};

/* ---- the picture ---- */

static void replace_model(struct picture *picture)
{
    model_free(&picture->model);
    picture->model = model_new(picture->set.objects, picture->set.count, &picture->options);
    picture->epoch++;
}

void control_apply(struct control *control, const char *text)
{
    struct picture *picture = &control->picture;
    struct policy_documents documents;
    struct policy_problems problems;
    struct arena arena;
    arena_init(&arena, NULL);
    policy_documents_init(&documents);
    policy_problems_init(&problems, &arena);
    policy_parse(slice_of_text(text), "mesh.yaml", &documents, &problems);
    (void)policy_set_apply(&picture->set, &documents, &picture->options, &problems);
    for (size_t i = 0; i < problems.count; i++) {
        (void)fprintf(stderr, "%s\n", policy_problem_text(&arena, &problems.at[i]));
    }
    CHECK(policy_problems_count(&problems, POLICY_SEVERITY_ERROR) == 0);
    policy_documents_fini(&documents);
    arena_fini(&arena);
    replace_model(picture);
    world_touch(control->host);
    world_note(control->options.world, "objects", picture->set.generation, picture->set.count, 0);
    if (control->ads != NULL) {
        ads_picture_changed(control->ads);
    }
}

/* ---- what is served ---- */

static void on_stream(void *owner, struct grpc_stream *stream)
{
    struct control *control = owner;
    ads_accept_take(control->ads, &stream);
}

static void on_certificate(void *owner, struct http_call *call)
{
    struct control *control = owner;
    ca_service_answer_take(control->certificates, &call);
}

#define X(service_path, protocol, only)                                                            \
    {.path = (service_path),                                                                       \
     .kind = HTTP_ROUTE_STREAM,                                                                    \
     .body_max = ADS_REQUEST_BYTES,                                                                \
     .stream = on_stream},
static const struct http_route routes[] = {
    ADS_SERVICES(X){.path = CA_SERVICE_PATH,
                    .kind = HTTP_ROUTE_UNARY,
                    .body_max = CA_REQUEST_BYTES,
                    .plain = on_certificate},
};
#undef X

static void renew(struct control *control)
{
    struct error err = {.text = ""};
    uint64_t wall_us = control->options.world->now_us + WORLD_WALL_OFFSET_US;
    struct tls_identity *own = ca_issue_own(control->ca, NULL, 0, wall_us, &err);
    CHECK(own != NULL);
    uint64_t life_us = tls_identity_get_validity(own)->not_after_us - wall_us;
    tls_keys_set_identity_take(&control->keys, &own);
    timer_set(control->host->loop, &control->renew_timer,
              control->options.world->now_us + life_us / 2);
}

static void on_renew(struct task *task)
{
    struct control *control = CONTAINER_OF(task, struct control, renew);
    timer_clear(&control->renew_timer);
    renew(control);
}

static void open_tls(struct control *control)
{
    static const struct slice alpn[] = {{(const uint8_t *)"h2", 2}};
    struct error err = {.text = ""};
    tls_keys_init(&control->keys, tls_openssl());
    struct tls_trust *trust = authority_trust(control->options.authority);
    tls_keys_set_trust_take(&control->keys, &trust);
    struct tls_options options = {.server = true,
                                  .mesh_identity = true,
                                  .mesh_trust = true,
                                  .verify = TLS_VERIFY_IF_GIVEN,
                                  .min = TLS_VERSION_1_2,
                                  .max = TLS_VERSION_1_3,
                                  .alpn = alpn,
                                  .alpn_count = COUNT_OF(alpn)};
    control->tls = tls_context_new(&options, &err);
    CHECK(control->tls != NULL);
    renew(control);
}

void control_start(struct control *control)
{
    struct loop *loop = control->host->loop;
    CHECK(control->ads == NULL);
    world_touch(control->host);
    world_note(control->options.world, "control starts", control->picture.set.generation, 0, 0);
    control->ca = authority_reopen(control->options.authority, control->options.ttl_s);
    control->credentials = (struct credentials){
        control->options.authority->key, slice_of_text(control->picture.options.trust_domain)};
    open_tls(control);
    control->certificates = ca_service_new(loop, control->ca, &control->credentials);
    control->ads = ads_new(loop, &control->picture, &control->credentials, NULL,
                           rng_u64(&control->options.world->rng));
    struct http_server_options options = {.routes = routes,
                                          .route_count = COUNT_OF(routes),
                                          .owner = control,
                                          .max_streams = CLIENT_STREAMS};
    control->server = http_server_new(loop, &options);
    struct error err = {.text = ""};
    CHECK(http_server_listen(control->server, &control->at, control->tls, &control->keys, NULL,
                             &err));
}

/* ---- life ---- */

static void stop(struct control *control)
{
    if (control->ads == NULL) {
        return;
    }
    ads_free(&control->ads);
    ca_service_free(&control->certificates);
    http_server_free(&control->server);
    loop_drain(control->host->loop);
    timer_clear(&control->renew_timer);
    task_cancel(&control->renew);
    tls_keys_fini(&control->keys);
    tls_context_unref(&control->tls);
    ca_free(&control->ca);
}

static void forget_all(struct picture *picture)
{
    policy_set_fini(&picture->set);
    policy_set_init(&picture->set);
    replace_model(picture);
}

void control_kill(struct control *control, bool forget)
{
    world_kill(control->options.world, control->host);
    stop(control);
    if (forget) {
        forget_all(&control->picture);
    }
}

struct control *control_new(const struct control_options *options)
{
    struct control *control = NEW(struct control);
    control->options = *options;
    control->host = world_host(options->world, options->pod, "control", false);
    control->at = options->pod->ip;
    control->at.port = PORT;
    control->renew.run = on_renew;
    control->renew_timer.task = &control->renew;
    control->picture.options = (struct model_options){.trust_domain = "cluster.local",
                                                      .root_namespace = "pillion-system",
                                                      .block_unknown = options->block_unknown};
    policy_set_init(&control->picture.set);
    replace_model(&control->picture);
    return control;
}

void control_free(struct control **control)
{
    struct control *it = *control;
    *control = NULL;
    stop(it);
    model_free(&it->picture.model);
    policy_set_fini(&it->picture.set);
    mem_free(it);
}

struct addr control_get_addr(const struct control *control)
{
    return control->at;
}

/* ---- what clients have ---- */

struct look {
    unsigned clients;
    unsigned settled;
    unsigned destinations;
};

static void count_held(void *to, const struct ads_held *held)
{
    struct look *look = to;
    look->destinations += held->type == XDS_RESOURCE_DESTINATION;
}

static void look_at(void *to, const struct ads_client *client)
{
    struct look *look = to;
    struct ads_progress progress = ads_stream_progress(client->stream);
    look->clients++;
    look->settled += progress.settled && progress.pending == 0 && progress.rejected == 0;
    ads_stream_each_held(client->stream, count_held, look);
}

bool control_is_acknowledged(const struct control *control, unsigned clients)
{
    struct look look = {.clients = 0};
    if (control->ads == NULL) {
        return false;
    }
    ads_each_client(control->ads, look_at, &look);
    return look.clients == clients && look.settled == clients;
}

uint64_t control_rejections(const struct control *control)
{
    return control->ads != NULL ? ads_get_counts(control->ads).rejected : 0;
}

uint64_t control_pushes(const struct control *control)
{
    return control->ads != NULL ? ads_get_counts(control->ads).pushes : 0;
}

unsigned control_destinations(const struct control *control)
{
    struct look look = {.clients = 0};
    if (control->ads != NULL) {
        ads_each_client(control->ads, look_at, &look);
    }
    return look.destinations;
}

/* ---- a resource that is no good ---- */

/* The view keeps what it made until the picture changes: the stream will find it there. */
static void spoil_held(void *to, const struct ads_held *held)
{
    struct view *view = to;
    if (held->type != XDS_RESOURCE_DESTINATION) {
        return;
    }
    struct resource *resource = view_get(view, held->type, held->name)->resource;
    if (resource != NULL) {
        for (size_t i = 0; i < resource->body.len; i++) {
            ((uint8_t *)(uintptr_t)resource->body.at)[i] = 0xFF;
        }
        resource_version_of(resource->body, resource->version);
    }
}

static void spoil_client(void *to, const struct ads_client *client)
{
    (void)to;
    ads_stream_each_held(client->stream, spoil_held, client->view);
}

void control_spoil(struct control *control)
{
    CHECK(control->ads != NULL);
    replace_model(&control->picture);
    ads_each_client(control->ads, spoil_client, NULL);
    ads_picture_changed(control->ads);
}
