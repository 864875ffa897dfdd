#include "control/serve/ads.h"

#include <stdio.h>
#include <string.h>

#include "envoy/config/core/v3/core.pb-c.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/rng.h"
#include "http/grpc.h"

/* A client answers each response at once, whatever it makes of it. */
#define ANSWER_US UINT64_C(60000000)
/* Requests of one client in one go, before others have their turn. */
#define REQUESTS_A_RUN 64U

struct ads_peer {
    struct list link; /* in ads->peers */
    struct ads *ads;
    struct task task;
    struct timer timer; /* while a response is not answered */
    struct grpc_stream *grpc;
    struct ads_stream *stream;
    struct view view;
    struct caller caller;
    struct addr addr;
    uint64_t since_us;
    uint64_t certificate_end_us; /* 0: it came without one */
    enum ads_protocol protocol;
    uint64_t acknowledged_us; /* wall time of the last answer that left none to wait for */
    bool waiting;             /* for answers, when it last ran */
    uint64_t rejections;      /* that were logged */
    bool mismatch;            /* the node does not agree with the credentials */
    struct grave grave;
};

struct ads {
    struct loop *loop;
    const struct picture *picture;
    const struct credentials *credentials;
    struct task *progress;
    struct ads_source source;
    struct list peers;
    struct rng rng;
    struct ads_counts counts;
};

/* ---- the source of a stream's resources ---- */

/* A node that proved who it is may only be a workload of that service account. */
static bool agrees(const struct ads_peer *peer, const struct translate_node *node,
                   struct error *err)
{
    struct spiffe_id id;
    struct slice identity = slice_of_text(peer->caller.identity);
    const struct view_node *said = &peer->view.said;
    if (!spiffe_parse(identity, &id)) {
        return error_set(err, "%s is not the identity of a workload", peer->caller.identity);
    }
    if (!slice_eq(id.namespace, slice_of_text(node->namespace))) {
        return error_set(err, "node %.200s is in namespace %.64s, the credentials are of %s",
                         said->id, node->namespace, peer->caller.identity);
    }
    if (said->account[0] != '\0' && !slice_eq(id.account, slice_of_text(said->account))) {
        return error_set(err, "node %.200s says service account %.64s, the credentials are of %s",
                         said->id, said->account, peer->caller.identity);
    }
    const char *expected = node->workload != NULL ? node->workload->identity : NULL;
    if (expected != NULL && !slice_eq(slice_of_text(expected), identity)) {
        return error_set(err, "node %.200s is the workload of %s, the credentials are of %s",
                         said->id, expected, peer->caller.identity);
    }
    return true;
}

static bool source_admit(void *owner, void *viewer,
                         const struct Envoy__Config__Core__V3__Node *node, struct error *err)
{
    struct ads_peer *peer = viewer;
    (void)owner;
    if (node->id == NULL || node->id[0] == '\0' || strlen(node->id) > ADS_NAME_BYTES_MAX) {
        return error_set(err, "node.id must be there, of at most %u bytes", ADS_NAME_BYTES_MAX);
    }
    view_set_node(&peer->view, node);
    if (peer->caller.identity[0] != '\0' && !agrees(peer, view_get_node(&peer->view), err)) {
        peer->mismatch = true;
        return false;
    }
    log_limited(LOG_LEVEL_INFO, "client", LOG_TEXT("node", peer->view.said.id),
                LOG_TEXT("identity", peer->caller.identity),
                LOG_TEXT("agent", peer->view.said.agent));
    return true;
}

static struct resource *source_get(void *owner, void *viewer, enum xds_resource type,
                                   struct slice name)
{
    struct ads_peer *peer = viewer;
    (void)owner;
    return view_get(&peer->view, type, name)->resource;
}

static void source_each(void *owner, void *viewer, enum xds_resource type,
                        void (*show)(void *to, struct resource *resource), void *to)
{
    struct ads_peer *peer = viewer;
    struct arena arena;
    size_t count = 0;
    (void)owner;
    arena_init(&arena, NULL);
    const char **names = view_wildcard(&peer->view, type, &arena, &count);
    for (size_t i = 0; i < count; i++) {
        struct resource *resource = view_get(&peer->view, type, slice_of_text(names[i]))->resource;
        if (resource != NULL) {
            show(to, resource);
        }
    }
    arena_fini(&arena);
}

/* ---- life ---- */

struct ads *ads_new(struct loop *loop, const struct picture *picture,
                    const struct credentials *credentials, struct task *progress, uint64_t seed)
{
    struct ads *ads = NEW(struct ads);
    ads->loop = loop;
    ads->picture = picture;
    ads->credentials = credentials;
    ads->progress = progress;
    ads->source = (struct ads_source){
        .owner = ads, .admit = source_admit, .get = source_get, .each = source_each};
    list_init(&ads->peers);
    rng_seed(&ads->rng, seed);
    return ads;
}

static void peer_free(struct grave *grave)
{
    struct ads_peer *peer = CONTAINER_OF(grave, struct ads_peer, grave);
    ads_stream_free(&peer->stream);
    view_fini(&peer->view);
    mem_free(peer);
}

static void progress_tell(const struct ads *ads)
{
    if (ads->progress != NULL) {
        loop_post(ads->loop, ads->progress);
    }
}

static void peer_end(struct ads_peer *peer, enum grpc_status status, const char *text)
{
    struct ads *ads = peer->ads;
    if (status != GRPC_OK) {
        log_limited(LOG_LEVEL_WARNING, "stream ended", LOG_TEXT("node", peer->view.said.id),
                    LOG_TEXT("identity", peer->caller.identity),
                    LOG_TEXT("status", grpc_status_name(status)), LOG_TEXT("reason", text));
    }
    grpc_stream_finish_take(&peer->grpc, status, slice_of_text(text));
    timer_clear(&peer->timer);
    task_cancel(&peer->task);
    list_remove(&peer->link);
    ads->counts.streams--;
    loop_bury(ads->loop, &peer->grave);
    progress_tell(ads);
}

void ads_free(struct ads **ads_at)
{
    struct ads *ads = *ads_at;
    *ads_at = NULL;
    if (ads == NULL) {
        return;
    }
    LIST_EACH(&ads->peers, node)
    {
        peer_end(CONTAINER_OF(node, struct ads_peer, link), GRPC_UNAVAILABLE, "shutting down");
    }
    loop_drain(ads->loop); /* what was buried goes while this is still there */
    mem_free(ads);
}

struct ads_counts ads_get_counts(const struct ads *ads)
{
    return ads->counts;
}

/* ---- a stream's run ---- */

static void rejection_log(struct ads_peer *peer)
{
    uint64_t rejections = ads_stream_rejections(peer->stream);
    if (rejections == peer->rejections) {
        return;
    }
    peer->ads->counts.rejected += rejections - peer->rejections;
    peer->rejections = rejections;
    struct ads_progress progress = ads_stream_progress(peer->stream);
    log_limited(LOG_LEVEL_ERROR, "a client rejected what it was sent",
                LOG_TEXT("node", peer->view.said.id), LOG_U64("resources", progress.rejected),
                LOG_TEXT("reason", progress.last_rejection));
}

/* False: the peer is gone. */
static bool receive(struct ads_peer *peer)
{
    struct slice message;
    for (unsigned i = 0; i < REQUESTS_A_RUN; i++) {
        struct error err = {{0}};
        switch (grpc_stream_next(peer->grpc, &message)) {
        case GRPC_NEXT_MESSAGE:
            if (!ads_stream_receive(peer->stream, message, &err)) {
                peer->ads->counts.refused += peer->mismatch;
                peer_end(peer, peer->mismatch ? GRPC_PERMISSION_DENIED : GRPC_INVALID_ARGUMENT,
                         err.text);
                return false;
            }
            rejection_log(peer);
            break;
        case GRPC_NEXT_NONE:
            return true;
        case GRPC_NEXT_END:
        case GRPC_NEXT_CLOSED:
            peer_end(peer, GRPC_OK, "");
            return false;
        }
    }
    loop_post(peer->ads->loop, &peer->task);
    return true;
}

/* A response, once made, is owed: it is made only when it will be taken. */
static void respond(struct ads_peer *peer)
{
    struct ads *ads = peer->ads;
    while (grpc_stream_backlog(peer->grpc) < GRPC_STREAM_BACKLOG) {
        struct arena arena;
        struct slice response;
        arena_init(&arena, NULL);
        bool any = ads_stream_response(peer->stream, ads->loop->now_us / 1000, &arena, &response);
        if (any) {
            CHECK(grpc_stream_send(peer->grpc, response));
            ads->counts.pushes++;
        }
        arena_fini(&arena);
        if (!any) {
            return;
        }
    }
}

static void answer_expect(struct ads_peer *peer)
{
    uint64_t since_ms = ads_stream_waiting_since(peer->stream);
    peer->waiting = since_ms != UINT64_MAX;
    if (!peer->waiting) {
        timer_clear(&peer->timer);
    } else {
        timer_set(peer->ads->loop, &peer->timer, since_ms * 1000 + ANSWER_US);
    }
}

static void answers_note(struct ads_peer *peer)
{
    if (peer->waiting && ads_stream_waiting_since(peer->stream) == UINT64_MAX) {
        peer->acknowledged_us = peer->ads->loop->wall_us;
    }
}

static void peer_run(struct task *task)
{
    struct ads_peer *peer = CONTAINER_OF(task, struct ads_peer, task);
    if (!receive(peer)) {
        return;
    }
    answers_note(peer);
    respond(peer);
    answer_expect(peer);
    if (timer_due(&peer->timer, peer->ads->loop)) {
        peer_end(peer, GRPC_DEADLINE_EXCEEDED, "a response was not answered for 60 seconds");
        return;
    }
    view_trim(&peer->view, ads_stream_names(peer->stream));
    progress_tell(peer->ads);
}

/* ---- its beginning ---- */

static const struct {
    const char *path;
    enum ads_protocol protocol;
    enum xds_resource only;
} services[] = {
#define X(path, protocol, only) {path, protocol, only},
    ADS_SERVICES(X)
#undef X
};

static struct ads_stream *stream_open(struct ads_peer *peer, struct slice path)
{
    size_t i = 0;
    while (!slice_eq(path, slice_of_text(services[i].path))) {
        CHECK(++i < COUNT_OF(services));
    }
    peer->protocol = services[i].protocol;
    struct ads_stream_options options = {
        .source = &peer->ads->source,
        .viewer = peer,
        .protocol = services[i].protocol,
        .only = services[i].only,
        .seed = rng_u64(&peer->ads->rng),
    };
    return ads_stream_new(&options);
}

void ads_accept_take(struct ads *ads, struct grpc_stream **stream)
{
    const struct http_request *request = grpc_stream_get_request(*stream);
    struct caller caller;
    struct error err = {{0}};
    if (!credentials_check(ads->credentials, request, ads->loop->wall_us, &caller, &err)) {
        char text[ADDR_TEXT_MAX];
        ads->counts.refused++;
        log_limited(LOG_LEVEL_WARNING, "refused a client",
                    LOG_TEXT("peer", addr_format(&request->peer, text)), LOG_CAUSE(&err));
        grpc_stream_finish_take(stream, GRPC_UNAUTHENTICATED, slice_of_text(err.text));
        return;
    }
    struct ads_peer *peer = NEW(struct ads_peer);
    peer->ads = ads;
    peer->grpc = *stream;
    *stream = NULL;
    peer->task.run = peer_run;
    peer->timer.task = &peer->task;
    peer->grave.free = peer_free;
    peer->caller = caller;
    peer->addr = request->peer;
    peer->since_us = ads->loop->wall_us;
    peer->certificate_end_us = request->certificate_end_us;
    view_init(&peer->view, ads->picture, rng_u64(&ads->rng));
    peer->stream = stream_open(peer, request->path);
    list_append(&ads->peers, &peer->link);
    ads->counts.streams++;
    ads->counts.opened++;
    grpc_stream_set_owner(peer->grpc, &peer->task);
}

/* ---- all of them ---- */

void ads_picture_changed(struct ads *ads)
{
    LIST_EACH(&ads->peers, node)
    {
        struct ads_peer *peer = CONTAINER_OF(node, struct ads_peer, link);
        struct error err = {{0}};
        bool known = peer->view.said.id[0] != '\0' && peer->caller.identity[0] != '\0';
        if (known && !agrees(peer, view_get_node(&peer->view), &err)) {
            ads->counts.refused++;
            peer_end(peer, GRPC_PERMISSION_DENIED, err.text);
            continue;
        }
        for (unsigned type = 0; type < XDS_RESOURCE_COUNT; type++) {
            ads_stream_changed(peer->stream, (enum xds_resource)type);
        }
        loop_post(ads->loop, &peer->task);
    }
    progress_tell(ads);
}

void ads_each_client(const struct ads *ads, void (*show)(void *to, const struct ads_client *client),
                     void *to)
{
    for (struct list *node = ads->peers.next; node != &ads->peers; node = node->next) {
        struct ads_peer *peer = CONTAINER_OF(node, struct ads_peer, link);
        struct ads_client client = {
            .stream = peer->stream,
            .view = &peer->view,
            .node = &peer->view.said,
            .identity = slice_of_text(peer->caller.identity),
            .uid = slice_of_text(peer->caller.uid),
            .peer = peer->addr,
            .since_us = peer->since_us,
            .acknowledged_us = peer->acknowledged_us,
            .certificate_end_us = peer->certificate_end_us,
            .delta = peer->protocol == ADS_DELTA,
        };
        show(to, &client);
    }
}
