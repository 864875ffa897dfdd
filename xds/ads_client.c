/* Two maps a type: what we want (names, each with a state) and what we have (accepted resources
 * with their versions). A stream's state is only: is it open, which types were opened on it, which
 * names it knows, and the answers that it is owed. All of that goes when it closes; wants and haves
 * stay. */

#include "xds/ads_client.h"

#include <stdio.h>
#include <string.h>

#include "envoy/service/discovery/v3/discovery.pb-c.h"

#include "base/alloc.h"
#include "base/list.h"
#include "base/map.h"
#include "xds/decode.h"
#include "xds/resources.h"

/* google.rpc.Code: INVALID_ARGUMENT. */
#define INVALID_ARGUMENT 3

#define WANT_STATES(X)                                                                             \
    X(UNSENT, "not yet asked for on this stream")                                                  \
    X(ASKED, "asked for, no answer yet")                                                           \
    X(ANSWERED, "the server has spoken about it on this stream")                                   \
    X(LEAVING, "no longer wanted, the server is to be told")

enum want_state {
#define X(name, text) WANT_##name,
    WANT_STATES(X)
#undef X
};

struct want {
    struct list waiting; /* in client->waiting while a deadline runs */
    enum xds_resource type;
    enum want_state state;
    bool settled; /* answered once, or silence reported: no deadline runs any more */
    uint64_t deadline_ms;
    char *name;
};

struct have {
    char *version; /* as the server named it, for initial_resource_versions */
    char hash[RESOURCE_VERSION_TEXT];
    struct slice *aliases;
    size_t alias_count;
};

struct subscription {
    struct map want; /* name -> struct want */
    struct map have; /* resource name -> struct have */
    bool all;        /* wildcard */
    bool opened;     /* its first request has gone out on this stream */
};

/* A response's answer, to be sent; one a response. */
struct answer {
    struct list link;
    enum xds_resource type;
    char *type_url;
    char *nonce;
    char *reason; /* null: ACK */
    uint64_t generation;
};

struct staged {
    struct ads_update update;
    const char *version;
    char hash[RESOURCE_VERSION_TEXT];
};

struct ads_client {
    struct subscription types[XDS_RESOURCE_COUNT];
    struct list waiting; /* wants without an answer, earliest deadline first */
    struct list answers;
    struct rng rng;
    char *node;
    size_t node_len;

    bool open;
    bool node_sent;  /* on this stream */
    bool responded;  /* a response came on this stream */
    unsigned failed; /* streams in a row without a response */
    uint64_t connect_at_ms;
    uint64_t generation; /* taken */

    /* The response being settled, or the silences of a tick. */
    struct arena arena;
    struct staged *staged;
    size_t staged_count;
    size_t staged_at;
    struct answer *answer;
};

/* ---- life ---- */

struct ads_client *ads_client_new(const struct ads_client_options *options)
{
    struct ads_client *client = NEW(struct ads_client);
    rng_seed(&client->rng, options->seed);
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        map_init(&client->types[i].want, options->seed, MAP_KEYS_BORROWED);
        map_init(&client->types[i].have, options->seed, MAP_KEYS_COPIED);
    }
    list_init(&client->waiting);
    list_init(&client->answers);
    arena_init(&client->arena, NULL);
    client->node = mem_dup(options->node.at, options->node.len);
    client->node_len = options->node.len;
    return client;
}

static void want_free(struct want *want)
{
    list_remove(&want->waiting);
    mem_free(want->name);
    mem_free(want);
}

static void have_free(struct have *have)
{
    for (size_t i = 0; i < have->alias_count; i++) {
        mem_free((void *)(uintptr_t)have->aliases[i].at);
    }
    mem_free(have->aliases);
    mem_free(have->version);
    mem_free(have);
}

static void answer_free(struct answer *answer)
{
    mem_free(answer->type_url);
    mem_free(answer->nonce);
    mem_free(answer->reason);
    mem_free(answer);
}

static void drop_answers(struct ads_client *client)
{
    struct list *link = NULL;
    while ((link = list_pop(&client->answers)) != NULL) {
        answer_free(LIST_ITEM(link, struct answer, link));
    }
}

static void drop_staged(struct ads_client *client)
{
    client->staged = NULL;
    client->staged_count = 0;
    client->staged_at = 0;
    if (client->answer != NULL) {
        answer_free(client->answer);
        client->answer = NULL;
    }
    arena_fini(&client->arena);
}

void ads_client_free(struct ads_client **client)
{
    struct ads_client *gone = *client;
    *client = NULL;
    if (gone == NULL) {
        return;
    }
    drop_staged(gone);
    drop_answers(gone);
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        MAP_EACH(&gone->types[i].want, entry)
        {
            want_free(entry->value);
        }
        MAP_EACH(&gone->types[i].have, entry)
        {
            have_free(entry->value);
        }
        map_fini(&gone->types[i].want);
        map_fini(&gone->types[i].have);
    }
    mem_free(gone->node);
    mem_free(gone);
}

/* ---- wants ---- */

static void wait_for(struct ads_client *client, struct want *want, uint64_t now_ms)
{
    list_remove(&want->waiting);
    want->deadline_ms = now_ms + ADS_CLIENT_ANSWER_MS;
    list_append(&client->waiting, &want->waiting);
}

void ads_client_want(struct ads_client *client, enum xds_resource type, struct slice name,
                     uint64_t now_ms)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    CHECK(name.len > 0);
    struct subscription *subscription = &client->types[type];
    struct want *want = map_get(&subscription->want, name);
    if (want != NULL) {
        if (want->state == WANT_LEAVING) {
            /* The server does not know yet that we left, so what we have is still kept fresh. */
            want->state = want->settled ? WANT_ANSWERED : WANT_ASKED;
            if (!want->settled) {
                wait_for(client, want, now_ms);
            }
        }
        return;
    }
    want = NEW(struct want);
    want->type = type;
    want->name = mem_dup(name.at, name.len);
    (void)map_set(&subscription->want, slice_of(want->name, name.len), want);
    wait_for(client, want, now_ms);
}

static bool is_wanted(const struct subscription *subscription, struct slice name)
{
    const struct want *want = map_get(&subscription->want, name);
    return want != NULL && want->state != WANT_LEAVING;
}

/* By name or by one of its aliases. */
static bool have_is_wanted(const struct subscription *subscription, struct slice name,
                           const struct have *have)
{
    if (subscription->all || is_wanted(subscription, name)) {
        return true;
    }
    for (size_t i = 0; i < have->alias_count; i++) {
        if (is_wanted(subscription, have->aliases[i])) {
            return true;
        }
    }
    return false;
}

static void forget_unwanted(struct subscription *subscription)
{
    MAP_EACH(&subscription->have, entry)
    {
        struct have *have = entry->value;
        if (!have_is_wanted(subscription, entry->key, have)) {
            (void)map_remove(&subscription->have, entry->key);
            have_free(have);
        }
    }
}

static void want_remove(struct subscription *subscription, struct want *want)
{
    (void)map_remove(&subscription->want, slice_of_text(want->name));
    want_free(want);
}

void ads_client_unwant(struct ads_client *client, enum xds_resource type, struct slice name)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    struct subscription *subscription = &client->types[type];
    struct want *want = map_get(&subscription->want, name);
    if (want == NULL || want->state == WANT_LEAVING) {
        return;
    }
    if (want->state == WANT_UNSENT) {
        want_remove(subscription, want);
        forget_unwanted(subscription);
        return;
    }
    want->settled = want->state == WANT_ANSWERED;
    want->state = WANT_LEAVING;
    list_remove(&want->waiting);
}

void ads_client_want_all(struct ads_client *client, enum xds_resource type)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    CHECK(!client->types[type].opened);
    client->types[type].all = true;
}

bool ads_client_wants(const struct ads_client *client, enum xds_resource type, struct slice name)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    return client->types[type].all || is_wanted(&client->types[type], name);
}

/* ---- the stream ---- */

uint64_t ads_client_connect_at(const struct ads_client *client)
{
    CHECK(!client->open);
    return client->connect_at_ms;
}

void ads_client_opened(struct ads_client *client, uint64_t now_ms)
{
    CHECK(!client->open);
    client->open = true;
    client->node_sent = false;
    client->responded = false;
    /* Names that still wait begin anew: they are only asked for now. */
    struct list again;
    list_init(&again);
    list_splice(&again, &client->waiting);
    LIST_EACH(&again, node)
    {
        wait_for(client, LIST_ITEM(node, struct want, waiting), now_ms);
    }
}

/* Full jitter between nothing and a ceiling that doubles. A stream that brought a response was
 * good, so its end starts over. */
static uint64_t backoff_ms(struct ads_client *client)
{
    uint64_t ceiling = ADS_CLIENT_BACKOFF_MIN_MS;
    for (unsigned i = 0; i < client->failed && ceiling < ADS_CLIENT_BACKOFF_MAX_MS; i++) {
        ceiling *= 2;
    }
    if (ceiling > ADS_CLIENT_BACKOFF_MAX_MS) {
        ceiling = ADS_CLIENT_BACKOFF_MAX_MS;
    }
    return rng_below(&client->rng, ceiling + 1);
}

void ads_client_closed(struct ads_client *client, uint64_t now_ms)
{
    client->open = false;
    if (client->responded) {
        client->failed = 0;
    }
    client->connect_at_ms = now_ms + backoff_ms(client);
    client->failed++;
    drop_answers(client);
    if (client->answer != NULL) {
        /* Updates that are still to be settled may be; only their answer has nobody to go to. */
        answer_free(client->answer);
        client->answer = NULL;
    }
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        struct subscription *subscription = &client->types[i];
        subscription->opened = false;
        MAP_EACH(&subscription->want, entry)
        {
            struct want *want = entry->value;
            if (want->state == WANT_LEAVING) {
                want_remove(subscription, want);
            } else {
                want->state = WANT_UNSENT;
            }
        }
        forget_unwanted(subscription);
    }
}

/* ---- requests ---- */

static void request_init(struct ads_client *client, struct arena *arena,
                         Envoy__Service__Discovery__V3__DeltaDiscoveryRequest *request,
                         const char *type_url)
{
    envoy__service__discovery__v3__delta_discovery_request__init(request);
    request->type_url = arena_text(arena, slice_of_text(type_url));
    if (!client->node_sent) {
        struct error err;
        client->node_sent = true;
        request->node = decode_message(arena, &envoy__config__core__v3__node__descriptor,
                                       slice_of(client->node, client->node_len), &err);
        CHECK(request->node != NULL);
    }
}

static void answer_request(struct ads_client *client, struct arena *arena, struct slice *bytes)
{
    struct list *link = list_pop(&client->answers);
    CHECK(link != NULL);
    struct answer *answer = LIST_ITEM(link, struct answer, link);
    Envoy__Service__Discovery__V3__DeltaDiscoveryRequest request;
    Google__Rpc__Status status;
    google__rpc__status__init(&status);
    request_init(client, arena, &request, answer->type_url);
    request.response_nonce = answer->nonce;
    if (answer->reason != NULL && !MUTANT(20)) {
        status.code = INVALID_ARGUMENT;
        status.message = answer->reason;
        request.error_detail = &status;
    }
    *bytes = encode_message(arena, &request.base);
    answer_free(answer);
}

/* Versions of what we have, so that a new stream brings the differences only. */
static void add_versions(const struct subscription *subscription, struct arena *arena,
                         Envoy__Service__Discovery__V3__DeltaDiscoveryRequest *request)
{
    typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest__InitialResourceVersionsEntry
        entry_t;
    request->initial_resource_versions =
        ARENA_ARRAY(arena, entry_t *, map_count(&subscription->have) + 1);
    MAP_EACH(&subscription->have, item)
    {
        const struct have *have = item->value;
        if (!have_is_wanted(subscription, item->key, have) || MUTANT(21)) {
            continue;
        }
        entry_t *entry = ARENA_NEW(arena, entry_t);
        envoy__service__discovery__v3__delta_discovery_request__initial_resource_versions_entry__init(
            entry);
        entry->key = arena_text(arena, item->key);
        entry->value = have->version;
        request->initial_resource_versions[request->n_initial_resource_versions++] = entry;
    }
}

/* What changed since the last request of the type; all of it in its first one. */
static bool subscription_request(struct ads_client *client, enum xds_resource type,
                                 struct arena *arena, struct slice *bytes)
{
    struct subscription *subscription = &client->types[type];
    uint32_t names = map_count(&subscription->want);
    char **add = ARENA_ARRAY(arena, char *, names + 1);
    char **leave = ARENA_ARRAY(arena, char *, names + 1);
    size_t adds = 0;
    size_t leaves = 0;
    if (subscription->all && !subscription->opened) {
        add[adds++] = arena_text(arena, SLICE("*"));
    }
    MAP_EACH(&subscription->want, entry)
    {
        struct want *want = entry->value;
        if (want->state == WANT_UNSENT) {
            want->state = WANT_ASKED;
            add[adds++] = want->name;
        } else if (want->state == WANT_LEAVING) {
            leave[leaves++] = arena_text(arena, entry->key);
            want_remove(subscription, want);
        }
    }
    if (adds == 0 && leaves == 0) {
        return false;
    }
    if (leaves > 0) {
        forget_unwanted(subscription);
    }
    Envoy__Service__Discovery__V3__DeltaDiscoveryRequest request;
    request_init(client, arena, &request, xds_type_of_resource(type)->url);
    request.n_resource_names_subscribe = adds;
    request.resource_names_subscribe = add;
    request.n_resource_names_unsubscribe = leaves;
    request.resource_names_unsubscribe = leave;
    if (!subscription->opened) {
        subscription->opened = true;
        add_versions(subscription, arena, &request);
    }
    *bytes = encode_message(arena, &request.base);
    return true;
}

bool ads_client_request(struct ads_client *client, struct arena *arena, struct slice *request)
{
    CHECK(client->open);
    if (!list_empty(&client->answers)) {
        answer_request(client, arena, request);
        return true;
    }
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        if (subscription_request(client, (enum xds_resource)i, arena, request)) {
            return true;
        }
    }
    return false;
}

/* ---- responses ---- */

static void want_answered(struct ads_client *client, enum xds_resource type, struct slice name)
{
    struct want *want = map_get(&client->types[type].want, name);
    if (want == NULL) {
        return;
    }
    list_remove(&want->waiting);
    want->settled = true;
    if (want->state == WANT_ASKED) {
        want->state = WANT_ANSWERED;
    }
}

/* Adds "name: reason" to what the NACK will say. */
static void complain(struct ads_client *client, struct slice name, const char *reason)
{
    if (client->answer == NULL) {
        return; /* the stream is gone */
    }
    char text[ADS_CLIENT_NACK_TEXT_MAX];
    const char *before = client->answer->reason != NULL ? client->answer->reason : "";
    (void)snprintf(text, sizeof text, "%s%s%.*s: %s", before, before[0] != '\0' ? "; " : "",
                   SLICE_ARG(name), reason);
    mem_free(client->answer->reason);
    client->answer->reason = mem_dup_text(text);
}

static struct staged *stage(struct ads_client *client, enum ads_update_kind kind,
                            enum xds_resource type, struct slice name)
{
    struct staged *staged = &client->staged[client->staged_count++];
    *staged = (struct staged){.update = {.kind = kind, .type = type, .name = name}};
    return staged;
}

static bool is_unchanged(const struct subscription *subscription, struct slice name,
                         const struct staged *staged)
{
    const struct have *have = map_get(&subscription->have, name);
    return have != NULL && strcmp(have->hash, staged->hash) == 0;
}

static void stage_put(struct ads_client *client, enum xds_resource type, const char *type_url,
                      const Envoy__Service__Discovery__V3__Resource *resource)
{
    struct slice name = slice_of_text(resource->name);
    struct slice *aliases = ARENA_ARRAY(&client->arena, struct slice, resource->n_aliases + 1);
    bool wanted = ads_client_wants(client, type, name);
    for (size_t i = 0; i < resource->n_aliases; i++) {
        aliases[i] = slice_of_text(resource->aliases[i]);
        wanted = wanted || ads_client_wants(client, type, aliases[i]);
        want_answered(client, type, aliases[i]);
    }
    want_answered(client, type, name);
    if (resource->resource == NULL) {
        /* Without a body: only its time to live is renewed; with an alias it says that nothing is
         * there (VHDS). */
        for (size_t i = 0; i < resource->n_aliases; i++) {
            (void)stage(client, ADS_UPDATE_REMOVED, type, aliases[i]);
        }
        return;
    }
    if (strcmp(resource->resource->type_url, type_url) != 0) {
        char reason[256];
        (void)snprintf(reason, sizeof reason, "has type %.100s in a response of type %.100s",
                       resource->resource->type_url, type_url);
        complain(client, name, reason);
        return;
    }
    if (!wanted) {
        return; /* unasked, or no longer wanted */
    }
    struct staged *staged = stage(client, ADS_UPDATE_PUT, type, name);
    staged->update.body = slice_of(resource->resource->value.data, resource->resource->value.len);
    staged->update.aliases = aliases;
    staged->update.alias_count = resource->n_aliases;
    resource_version_of(staged->update.body, staged->hash);
    staged->version = resource->version[0] != '\0' ? resource->version : staged->hash;
    if (is_unchanged(&client->types[type], name, staged)) {
        client->staged_count--;
    }
}

/* What a response says of a name, as marks in a set. */
static const char given_mark[] = "given";
static const char removed_mark[] = "removed";
static const char bad_mark[] = "bad"; /* contradicts itself, or is staged already */

/* What the name was marked with before. */
static const char *mark(struct map *seen, struct slice name, const char *as)
{
    return map_set(seen, name, (void *)(uintptr_t)as);
}

/* The name as `as`, unless it was there before: then it is bad, and nothing of it is staged. */
static void mark_once(struct ads_client *client, struct map *seen, struct slice name,
                      const char *as, const char *complaint)
{
    const char *before = mark(seen, name, as);
    if (before != NULL && (before != removed_mark || as != removed_mark)) {
        complain(client, name, complaint);
        (void)mark(seen, name, bad_mark);
    }
}

/* The owner would miss something if it did not hear of the name. */
static bool matters(const struct subscription *subscription, struct slice name)
{
    return is_wanted(subscription, name) || map_get(&subscription->have, name) != NULL;
}

/* A name that a response contradicts itself about keeps what it had: which of the two was meant, or
 * came first, nobody knows. */
static void mark_names(struct ads_client *client, struct map *seen,
                       const Envoy__Service__Discovery__V3__DeltaDiscoveryResponse *response)
{
    for (size_t i = 0; i < response->n_resources; i++) {
        struct slice name = slice_of_text(response->resources[i]->name);
        if (name.len == 0) {
            complain(client, SLICE("(unnamed)"), "a resource must have a name");
        } else {
            mark_once(client, seen, name, given_mark, "given twice in one response");
        }
    }
    for (size_t i = 0; i < response->n_removed_resources; i++) {
        mark_once(client, seen, slice_of_text(response->removed_resources[i]), removed_mark,
                  "both given and removed in one response");
    }
}

static void stage_response(struct ads_client *client, enum xds_resource type,
                           const Envoy__Service__Discovery__V3__DeltaDiscoveryResponse *response)
{
    struct map seen;
    map_init(&seen, rng_u64(&client->rng), MAP_KEYS_BORROWED);
    size_t room = response->n_removed_resources;
    for (size_t i = 0; i < response->n_resources; i++) {
        room += response->resources[i]->n_aliases + 1;
    }
    client->staged = ARENA_ARRAY(&client->arena, struct staged, room + 1);
    mark_names(client, &seen, response);
    for (size_t i = 0; i < response->n_resources; i++) {
        const Envoy__Service__Discovery__V3__Resource *resource = response->resources[i];
        if (map_get(&seen, slice_of_text(resource->name)) == given_mark) {
            stage_put(client, type, response->type_url, resource);
        }
    }
    for (size_t i = 0; i < response->n_removed_resources; i++) {
        struct slice name = slice_of_text(response->removed_resources[i]);
        if (map_get(&seen, name) == removed_mark && matters(&client->types[type], name)) {
            (void)mark(&seen, name, bad_mark); /* may be in the list again */
            want_answered(client, type, name);
            (void)stage(client, ADS_UPDATE_REMOVED, type, name);
        }
    }
    map_fini(&seen);
}

/* Every response is answered once: after its last update, or at once where it brought none. */
static void answer_when_settled(struct ads_client *client)
{
    if (client->staged_at < client->staged_count) {
        return;
    }
    if (client->answer != NULL) {
        bool newer = client->answer->generation > client->generation;
        if (client->answer->reason == NULL && newer) {
            client->generation = client->answer->generation;
        }
        list_append(&client->answers, &client->answer->link);
        client->answer = NULL;
    }
    drop_staged(client);
}

bool ads_client_receive(struct ads_client *client, struct slice response, struct error *err)
{
    CHECK(client->open);
    CHECK(client->staged_count == client->staged_at);
    const Envoy__Service__Discovery__V3__DeltaDiscoveryResponse *message = decode_message(
        &client->arena, &envoy__service__discovery__v3__delta_discovery_response__descriptor,
        response, err);
    if (message == NULL) {
        drop_staged(client);
        return error_wrap(err, "response");
    }
    if (message->nonce[0] == '\0') {
        drop_staged(client);
        return error_set(err, "response without a nonce");
    }
    client->responded = true;
    const struct xds_type *type = xds_type_find(message->type_url);
    client->answer = NEW(struct answer);
    client->answer->nonce = mem_dup_text(message->nonce);
    client->answer->type_url = mem_dup_text(message->type_url);
    (void)slice_to_u64(slice_of_text(message->system_version_info), UINT64_MAX,
                       &client->answer->generation);
    if (type == NULL || type->kind != XDS_RESOURCE || !client->types[type->resource].opened) {
        complain(client, slice_of_text(message->type_url), "nobody asked for this type");
    } else {
        stage_response(client, type->resource, message);
    }
    answer_when_settled(client);
    return true;
}

uint64_t ads_client_generation(const struct ads_client *client)
{
    return client->generation;
}

const struct ads_update *ads_client_update(const struct ads_client *client)
{
    return client->staged_at < client->staged_count ? &client->staged[client->staged_at].update
                                                    : NULL;
}

static void remember(struct subscription *subscription, const struct staged *staged)
{
    struct have *have = NEW(struct have);
    have->version = mem_dup_text(staged->version);
    (void)memcpy(have->hash, staged->hash, sizeof have->hash);
    have->alias_count = staged->update.alias_count;
    have->aliases = NEW_ARRAY(struct slice, have->alias_count);
    for (size_t i = 0; i < have->alias_count; i++) {
        struct slice alias = staged->update.aliases[i];
        have->aliases[i] = slice_of(mem_dup(alias.at, alias.len), alias.len);
    }
    struct have *old = map_set(&subscription->have, staged->update.name, have);
    if (old != NULL) {
        have_free(old);
    }
}

static void forget(struct subscription *subscription, struct slice name)
{
    struct have *old = map_remove(&subscription->have, name);
    if (old != NULL) {
        have_free(old);
    }
}

void ads_client_settle(struct ads_client *client, const struct error *rejected)
{
    CHECK(client->staged_at < client->staged_count);
    const struct staged *staged = &client->staged[client->staged_at++];
    struct subscription *subscription = &client->types[staged->update.type];
    switch (staged->update.kind) {
    case ADS_UPDATE_PUT:
        if (rejected != NULL) {
            complain(client, staged->update.name, rejected->text);
        } else {
            remember(subscription, staged);
        }
        break;
    case ADS_UPDATE_REMOVED:
        CHECK(rejected == NULL);
        forget(subscription, staged->update.name);
        break;
    case ADS_UPDATE_SILENCE:
        CHECK(rejected == NULL);
        break;
    }
    answer_when_settled(client);
}

/* ---- time ---- */

uint64_t ads_client_deadline(const struct ads_client *client)
{
    if (list_empty(&client->waiting)) {
        return UINT64_MAX;
    }
    return LIST_ITEM(client->waiting.next, struct want, waiting)->deadline_ms;
}

void ads_client_tick(struct ads_client *client, uint64_t now_ms)
{
    CHECK(client->staged_count == client->staged_at);
    size_t due = 0;
    LIST_EACH(&client->waiting, node)
    {
        due += LIST_ITEM(node, struct want, waiting)->deadline_ms <= now_ms;
    }
    if (due == 0) {
        return;
    }
    client->staged = ARENA_ARRAY(&client->arena, struct staged, due);
    for (size_t i = 0; i < due; i++) {
        struct list *link = list_pop(&client->waiting);
        CHECK(link != NULL);
        struct want *want = LIST_ITEM(link, struct want, waiting);
        CHECK(want->deadline_ms <= now_ms);
        struct slice name = arena_dup(&client->arena, slice_of_text(want->name));
        (void)stage(client, ADS_UPDATE_SILENCE, want->type, name);
    }
}
