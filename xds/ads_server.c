/* Per type: a map of names, each with what the client was sent last and how that stands. A response
 * is the difference between that and what the source says now, so nothing has to be queued: what
 * changes while a response is out is simply found by the next look. Wildcards put their names into
 * the same map.
 *
 * State-of-the-world differs in three places only: how a request names its subscription, that LDS
 * and CDS responses are whole (absence means removal), and that there are no removals to send for
 * the other types. */

#include "xds/ads_server.h"

#include <stdio.h>
#include <string.h>

#include "envoy/service/discovery/v3/discovery.pb-c.h"

#include "base/alloc.h"
#include "base/map.h"
#include "xds/decode.h"

struct name {
    char *text;
    struct resource *sent; /* counted; null: nothing, or the client brought its own version */
    char version[RESOURCE_VERSION_TEXT]; /* that the client has, or was sent; "": none */
    uint64_t acked_generation;
    enum ads_standing standing;
    bool subscribed; /* by name; else a wildcard covers it */
    bool asked;      /* to be answered even if nothing changed */
    bool absent;     /* the client knows that there is none */
    bool in_flight;  /* in the response that is out */
    bool seen;       /* by the walk over a wildcard */
};

struct subscription {
    struct map names; /* text -> struct name */
    bool opened;      /* a request of the type has come */
    bool wildcard;
    bool named;   /* SotW: names were given once, so an empty list means none */
    bool changed; /* to be looked at */
    bool waiting; /* a response is out */
    bool owed;    /* one is due even if it is empty */
    uint64_t sent_at_ms;
    char nonce[24]; /* of the last response */
    char version[RESOURCE_VERSION_TEXT];
};

struct ads_stream {
    const struct ads_source *source;
    void *viewer;
    enum ads_protocol protocol;
    enum xds_resource only;
    bool admitted;
    uint64_t nonces;
    uint32_t name_count;
    char *rejection;
    uint64_t rejections;
    struct subscription types[XDS_RESOURCE_COUNT];
};

/* A response being made. */
struct draft {
    struct ads_stream *stream;
    struct subscription *subscription;
    struct arena *arena;
    enum xds_resource type;
    bool with_removals;
    bool full;     /* no more room: the rest comes next time */
    bool withheld; /* removals that must wait */
    size_t bytes;
    size_t resources;
    size_t removals;
    struct map put;             /* name -> resource */
    struct resource **resource; /* room for all names */
    char **removed;
};

/* ---- life ---- */

struct ads_stream *ads_stream_new(const struct ads_stream_options *options)
{
    CHECK(options->source != NULL);
    CHECK(options->only <= XDS_RESOURCE_COUNT);
    struct ads_stream *stream = NEW(struct ads_stream);
    stream->source = options->source;
    stream->viewer = options->viewer;
    stream->protocol = options->protocol;
    stream->only = options->only;
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        map_init(&stream->types[i].names, options->seed, MAP_KEYS_BORROWED);
    }
    return stream;
}

static void name_free(struct name *name)
{
    resource_unref(&name->sent);
    mem_free(name->text);
    mem_free(name);
}

void ads_stream_free(struct ads_stream **stream)
{
    struct ads_stream *gone = *stream;
    *stream = NULL;
    if (gone == NULL) {
        return;
    }
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        MAP_EACH(&gone->types[i].names, entry)
        {
            name_free(entry->value);
        }
        map_fini(&gone->types[i].names);
    }
    mem_free(gone->rejection);
    mem_free(gone);
}

/* ---- names ---- */

static struct name *name_of(struct ads_stream *stream, struct subscription *subscription,
                            struct slice text)
{
    struct name *name = map_get(&subscription->names, text);
    if (name == NULL) {
        name = NEW(struct name);
        name->text = mem_dup(text.at, text.len);
        name->standing = ADS_SENT;
        (void)map_set(&subscription->names, slice_of(name->text, text.len), name);
        stream->name_count++;
    }
    return name;
}

static void name_remove(struct ads_stream *stream, struct subscription *subscription,
                        struct name *name)
{
    (void)map_remove(&subscription->names, slice_of_text(name->text));
    name_free(name);
    stream->name_count--;
}

static bool is_star(const char *name)
{
    return strcmp(name, "*") == 0;
}

/* A wildcard no longer covers what was not asked for by name. */
static void end_wildcard(struct ads_stream *stream, struct subscription *subscription)
{
    subscription->wildcard = false;
    MAP_EACH(&subscription->names, entry)
    {
        struct name *name = entry->value;
        if (!name->subscribed) {
            name_remove(stream, subscription, name);
        }
    }
}

static bool names_fit(const struct ads_stream *stream, char *const *names, size_t count,
                      struct error *err)
{
    uint32_t room = stream->name_count < ADS_NAMES_MAX ? ADS_NAMES_MAX - stream->name_count : 0;
    if (count > room) {
        return error_set(err, "more than %u names on one stream", ADS_NAMES_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);
        if (len == 0 || len > ADS_NAME_BYTES_MAX) {
            return error_set(err, "a resource name of %zu bytes; 1 to %u are allowed", len,
                             ADS_NAME_BYTES_MAX);
        }
    }
    return true;
}

/* ---- requests: what both protocols share ---- */

/* Types whose SotW responses say all there is, and of which an empty first request means all. */
static bool is_whole(enum xds_resource type)
{
    return type == XDS_RESOURCE_LISTENER || type == XDS_RESOURCE_CLUSTER;
}

static bool admit(struct ads_stream *stream, const Envoy__Config__Core__V3__Node *node,
                  struct error *err)
{
    if (stream->admitted) {
        return true;
    }
    if (node == NULL) {
        return error_set(err, "the first request of a stream must carry the node");
    }
    stream->admitted = stream->source->admit == NULL ||
                       stream->source->admit(stream->source->owner, stream->viewer, node, err);
    return stream->admitted;
}

/* The subscription that a request is about. Null without err: a type that we have nothing of, which
 * is not answered. */
static struct subscription *subscription_of(struct ads_stream *stream, const char *type_url,
                                            struct error *err)
{
    err->text[0] = '\0';
    if (stream->only < XDS_RESOURCE_COUNT && type_url[0] == '\0') {
        return &stream->types[stream->only];
    }
    const struct xds_type *type = xds_type_find(type_url);
    if (stream->only < XDS_RESOURCE_COUNT && (type == NULL || type->resource != stream->only)) {
        (void)error_set(err, "this service is for %s, not %s",
                        xds_type_of_resource(stream->only)->url, type_url);
        return NULL;
    }
    if (type_url[0] == '\0') {
        (void)error_set(err, "a request must name its type");
        return NULL;
    }
    return type != NULL && type->kind == XDS_RESOURCE ? &stream->types[type->resource] : NULL;
}

static void acknowledge(struct subscription *subscription)
{
    MAP_EACH(&subscription->names, entry)
    {
        struct name *name = entry->value;
        if (name->in_flight) {
            name->in_flight = false;
            name->standing = ADS_ACKED;
            name->acked_generation = name->sent != NULL ? name->sent->generation : 0;
        }
    }
}

/* Which resource of the response is meant is in words only, so all of it counts as rejected; but
 * that something is not there cannot be refused. */
static void reject(struct ads_stream *stream, struct subscription *subscription,
                   const Google__Rpc__Status *why)
{
    mem_free(stream->rejection);
    stream->rejection = mem_dup_text(why->message);
    stream->rejections++;
    MAP_EACH(&subscription->names, entry)
    {
        struct name *name = entry->value;
        if (name->in_flight) {
            name->in_flight = false;
            name->standing = name->absent ? ADS_ACKED : ADS_REJECTED;
        }
    }
}

/* An answer to the response that is out; with any other nonce it is stale and says nothing. */
static void answered(struct ads_stream *stream, struct subscription *subscription,
                     const char *nonce, const Google__Rpc__Status *error_detail)
{
    bool stale = strcmp(nonce, subscription->nonce) != 0 && !MUTANT(23);
    if (!subscription->waiting || stale) {
        return;
    }
    subscription->waiting = false;
    if (error_detail != NULL) {
        reject(stream, subscription, error_detail);
    } else {
        acknowledge(subscription);
    }
}

/* ---- Delta requests ---- */

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest delta_request;

/* What the client says that it has. It is believed: at worst it is sent again. */
static void take_versions(struct ads_stream *stream, struct subscription *subscription,
                          const delta_request *request)
{
    for (size_t i = 0; i < request->n_initial_resource_versions; i++) {
        struct slice text = slice_of_text(request->initial_resource_versions[i]->key);
        struct name *name = subscription->wildcard ? name_of(stream, subscription, text)
                                                   : map_get(&subscription->names, text);
        if (name != NULL) {
            (void)snprintf(name->version, sizeof name->version, "%s",
                           request->initial_resource_versions[i]->value);
            name->standing = ADS_ACKED;
            name->asked = false;
        }
    }
}

static void subscribe(struct ads_stream *stream, struct subscription *subscription,
                      const delta_request *request)
{
    for (size_t i = 0; i < request->n_resource_names_subscribe; i++) {
        const char *text = request->resource_names_subscribe[i];
        if (is_star(text)) {
            subscription->owed = subscription->owed || !subscription->wildcard;
            subscription->wildcard = true;
            continue;
        }
        /* Asking again means that the client may have lost it: it is always answered. */
        struct name *name = name_of(stream, subscription, slice_of_text(text));
        name->subscribed = true;
        name->asked = true;
    }
}

static void unsubscribe(struct ads_stream *stream, struct subscription *subscription,
                        const delta_request *request)
{
    for (size_t i = 0; i < request->n_resource_names_unsubscribe; i++) {
        const char *text = request->resource_names_unsubscribe[i];
        if (is_star(text)) {
            end_wildcard(stream, subscription);
            continue;
        }
        struct name *name = map_get(&subscription->names, slice_of_text(text));
        if (name == NULL) {
            continue;
        }
        if (subscription->wildcard) {
            /* The client drops it now, but the wildcard covers it still: said again or removed. */
            name->subscribed = false;
            name->asked = true;
        } else {
            name_remove(stream, subscription, name);
        }
    }
}

static bool receive_delta(struct ads_stream *stream, const delta_request *request,
                          struct error *err)
{
    if (!admit(stream, request->node, err)) {
        return false;
    }
    struct subscription *subscription = subscription_of(stream, request->type_url, err);
    if (subscription == NULL) {
        return err->text[0] == '\0';
    }
    if (!names_fit(stream, request->resource_names_subscribe, request->n_resource_names_subscribe,
                   err)) {
        return error_wrap(err, "%s", request->type_url);
    }
    if (request->n_initial_resource_versions > ADS_NAMES_MAX) {
        return error_set(err, "%s: more than %u versions", request->type_url, ADS_NAMES_MAX);
    }
    enum xds_resource type = (enum xds_resource)(subscription - stream->types);
    bool first = !subscription->opened;
    subscription->opened = true;
    if (first && is_whole(type) && request->n_resource_names_subscribe == 0 &&
        request->n_resource_names_unsubscribe == 0) {
        subscription->wildcard = true; /* the older form of "*" */
        subscription->owed = true;
    }
    subscribe(stream, subscription, request);
    if (first) {
        take_versions(stream, subscription, request);
    }
    unsubscribe(stream, subscription, request);
    if (request->response_nonce[0] != '\0') {
        answered(stream, subscription, request->response_nonce, request->error_detail);
    }
    subscription->changed = true;
    return true;
}

/* ---- state-of-the-world requests ---- */

typedef Envoy__Service__Discovery__V3__DiscoveryRequest world_request;

/* The request's names take the place of those before. */
static void replace_names(struct ads_stream *stream, struct subscription *subscription,
                          const world_request *request)
{
    bool wildcard = request->n_resource_names == 0 && !subscription->named;
    MAP_EACH(&subscription->names, entry)
    {
        ((struct name *)entry->value)->seen = false;
    }
    for (size_t i = 0; i < request->n_resource_names; i++) {
        const char *text = request->resource_names[i];
        subscription->named = true;
        if (is_star(text)) {
            wildcard = true;
            continue;
        }
        struct name *name = name_of(stream, subscription, slice_of_text(text));
        name->seen = true;
        name->asked = name->asked || !name->subscribed;
        name->subscribed = true;
    }
    subscription->owed = subscription->owed || (wildcard && !subscription->wildcard);
    subscription->wildcard = wildcard;
    MAP_EACH(&subscription->names, entry)
    {
        struct name *name = entry->value;
        name->subscribed = name->seen;
        if (!name->subscribed && !wildcard) {
            name_remove(stream, subscription, name);
        }
    }
}

static bool receive_world(struct ads_stream *stream, const world_request *request,
                          struct error *err)
{
    if (!admit(stream, request->node, err)) {
        return false;
    }
    struct subscription *subscription = subscription_of(stream, request->type_url, err);
    if (subscription == NULL) {
        return err->text[0] == '\0';
    }
    if (!names_fit(stream, request->resource_names, request->n_resource_names, err)) {
        return error_wrap(err, "%s", request->type_url);
    }
    enum xds_resource type = (enum xds_resource)(subscription - stream->types);
    /* An empty list means "all" for LDS and CDS only, and only until names were given. */
    if (!is_whole(type)) {
        subscription->named = true;
    }
    subscription->opened = true;
    replace_names(stream, subscription, request);
    if (request->response_nonce[0] != '\0') {
        answered(stream, subscription, request->response_nonce, request->error_detail);
    }
    subscription->changed = true;
    return true;
}

bool ads_stream_receive(struct ads_stream *stream, struct slice request, struct error *err)
{
    CHECK(err != NULL);
    bool delta = stream->protocol == ADS_DELTA;
    struct arena arena;
    arena_init(&arena, NULL);
    const void *message =
        decode_message(&arena,
                       delta ? &envoy__service__discovery__v3__delta_discovery_request__descriptor
                             : &envoy__service__discovery__v3__discovery_request__descriptor,
                       request, err);
    bool good = message != NULL &&
                (delta ? receive_delta(stream, message, err) : receive_world(stream, message, err));
    arena_fini(&arena);
    return good;
}

void ads_stream_changed(struct ads_stream *stream, enum xds_resource type)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    stream->types[type].changed = true;
}

/* ---- responses: what both protocols share ---- */

static void show_wildcard(void *to, struct resource *resource)
{
    struct draft *draft = to;
    struct name *name = name_of(draft->stream, draft->subscription, resource->name);
    name->seen = true;
}

/* Gives every resource that the wildcard covers a place in the map. */
static void walk_wildcard(struct draft *draft)
{
    const struct ads_source *source = draft->stream->source;
    MAP_EACH(&draft->subscription->names, entry)
    {
        ((struct name *)entry->value)->seen = false;
    }
    source->each(source->owner, draft->stream->viewer, draft->type, show_wildcard, draft);
}

static struct resource *look_up(const struct draft *draft, const struct name *name)
{
    const struct ads_source *source = draft->stream->source;
    if (!name->subscribed && !name->seen) {
        return NULL; /* a wildcard's name that is gone; an alias must not bring it back */
    }
    return source->get(source->owner, draft->stream->viewer, draft->type,
                       slice_of_text(name->text));
}

static void draft_init(struct draft *draft, struct ads_stream *stream, enum xds_resource type,
                       struct arena *arena)
{
    *draft = (struct draft){.stream = stream,
                            .subscription = &stream->types[type],
                            .arena = arena,
                            .type = type,
                            .with_removals = true};
    if (draft->subscription->wildcard) {
        walk_wildcard(draft);
    }
    size_t room = map_count(&draft->subscription->names) + 1;
    map_init(&draft->put, stream->nonces, MAP_KEYS_BORROWED);
    draft->resource = ARENA_ARRAY(arena, struct resource *, room);
    draft->removed = ARENA_ARRAY(arena, char *, room);
}

/* Two names of one resource (an alias) put it once: a response must not repeat a name. */
static void put(struct draft *draft, struct name *name, struct resource *resource)
{
    if (map_set(&draft->put, resource->name, resource) == NULL) {
        draft->resource[draft->resources++] = resource;
        draft->bytes += resource->body.len + resource->name.len + 128;
    }
    resource_unref(&name->sent);
    name->sent = resource_ref(resource);
    (void)memcpy(name->version, resource->version, sizeof name->version);
    name->standing = ADS_SENT;
    name->asked = false;
    name->absent = false;
    name->in_flight = true;
}

static void sent(struct draft *draft, uint64_t now_ms)
{
    struct subscription *subscription = draft->subscription;
    subscription->waiting = true;
    subscription->owed = false;
    subscription->sent_at_ms = now_ms;
    (void)snprintf(subscription->nonce, sizeof subscription->nonce, "%llu",
                   (unsigned long long)++draft->stream->nonces);
}

static Google__Protobuf__Any *any_of(const struct draft *draft, const struct resource *resource)
{
    Google__Protobuf__Any *any = ARENA_NEW(draft->arena, Google__Protobuf__Any);
    google__protobuf__any__init(any);
    any->type_url = arena_text(draft->arena, slice_of_text(xds_type_of_resource(draft->type)->url));
    any->value.len = resource->body.len;
    any->value.data = (uint8_t *)(uintptr_t)resource->body.at;
    return any;
}

/* Envoy warms a cluster that was sent again until its endpoints come again too, changed or not. */
static void ask_endpoints_again(struct draft *draft)
{
    if (draft->type != XDS_RESOURCE_CLUSTER) {
        return;
    }
    struct subscription *endpoints = &draft->stream->types[XDS_RESOURCE_ENDPOINTS];
    for (size_t i = 0; i < draft->resources; i++) {
        struct name *name = map_get(&endpoints->names, draft->resource[i]->name);
        if (name != NULL) {
            name->asked = true;
            endpoints->changed = true;
        }
    }
}

/* ---- Delta responses ---- */

/* The same content may come from newer objects: they are in force by the same acknowledgement. */
static void keep(struct name *name, struct resource *resource)
{
    if (name->sent != resource) {
        resource_unref(&name->sent);
        name->sent = resource_ref(resource);
    }
    if (name->standing == ADS_ACKED) {
        name->acked_generation = resource->generation;
    }
}

static void draft_name(struct draft *draft, struct name *name)
{
    struct resource *resource = look_up(draft, name);
    if (resource != NULL) {
        if (!name->asked && strcmp(name->version, resource->version) == 0) {
            keep(name, resource);
            return; /* has it, or refused just this */
        }
        if (draft->bytes > ADS_RESPONSE_BYTES) {
            draft->full = true;
            return;
        }
        put(draft, name, resource);
        return;
    }
    if (name->absent && !name->asked) {
        return;
    }
    bool had = name->version[0] != '\0';
    if (!draft->with_removals && had && !name->asked && !MUTANT(22)) {
        draft->withheld = true;
        return;
    }
    draft->removed[draft->removals++] = arena_text(draft->arena, slice_of_text(name->text));
    resource_unref(&name->sent);
    name->version[0] = '\0';
    name->standing = ADS_SENT;
    name->asked = false;
    name->absent = true;
    name->in_flight = true;
}

/* Names that only a wildcard brought, and that are gone: the client is told, nothing is kept. */
static void forget_gone(struct draft *draft)
{
    MAP_EACH(&draft->subscription->names, entry)
    {
        struct name *name = entry->value;
        if (name->absent && !name->subscribed) {
            name_remove(draft->stream, draft->subscription, name);
        }
    }
}

/* The newest that any of them was made from; empty where none was. */
static char *generation_text(const struct draft *draft)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < draft->resources; i++) {
        uint64_t generation = draft->resource[i]->generation;
        newest = generation > newest ? generation : newest;
    }
    return newest > 0 ? arena_printf(draft->arena, "%llu", (unsigned long long)newest)
                      : arena_text(draft->arena, SLICE(""));
}

static struct slice encode_delta(const struct draft *draft)
{
    typedef Envoy__Service__Discovery__V3__Resource wire_resource;
    struct arena *arena = draft->arena;
    Envoy__Service__Discovery__V3__DeltaDiscoveryResponse response;
    envoy__service__discovery__v3__delta_discovery_response__init(&response);
    response.type_url = arena_text(arena, slice_of_text(xds_type_of_resource(draft->type)->url));
    response.nonce = draft->subscription->nonce;
    response.system_version_info = generation_text(draft);
    response.n_removed_resources = draft->removals;
    response.removed_resources = draft->removed;
    response.n_resources = draft->resources;
    response.resources = ARENA_ARRAY(arena, wire_resource *, draft->resources + 1);
    for (size_t i = 0; i < draft->resources; i++) {
        struct resource *from = draft->resource[i];
        wire_resource *to = ARENA_NEW(arena, wire_resource);
        envoy__service__discovery__v3__resource__init(to);
        to->name = arena_text(arena, from->name);
        to->version = from->version;
        to->resource = any_of(draft, from);
        to->n_aliases = from->alias_count;
        to->aliases = ARENA_ARRAY(arena, char *, from->alias_count + 1);
        for (size_t k = 0; k < from->alias_count; k++) {
            to->aliases[k] = arena_text(arena, from->aliases[k]);
        }
        response.resources[i] = to;
    }
    return encode_message(arena, &response.base);
}

/* The client has asked for the type and may not have the newest of it yet. */
static bool is_unsettled(const struct subscription *subscription)
{
    return subscription->opened && (subscription->changed || subscription->waiting);
}

/* Clusters and endpoints go last: no route or listener may still name them (make before break). */
static bool may_remove(const struct ads_stream *stream, enum xds_resource type)
{
    if (type != XDS_RESOURCE_CLUSTER && type != XDS_RESOURCE_ENDPOINTS) {
        return true;
    }
    return !is_unsettled(&stream->types[XDS_RESOURCE_LISTENER]) &&
           !is_unsettled(&stream->types[XDS_RESOURCE_ROUTES]);
}

static bool delta_response(struct ads_stream *stream, enum xds_resource type, uint64_t now_ms,
                           struct arena *arena, struct slice *response)
{
    struct draft draft;
    draft_init(&draft, stream, type, arena);
    draft.with_removals = may_remove(stream, type);
    struct subscription *subscription = draft.subscription;
    MAP_EACH(&subscription->names, entry)
    {
        draft_name(&draft, entry->value);
    }
    map_fini(&draft.put);
    forget_gone(&draft);
    subscription->changed = draft.full || draft.withheld;
    if (draft.resources == 0 && draft.removals == 0 && !subscription->owed) {
        return false;
    }
    ask_endpoints_again(&draft);
    sent(&draft, now_ms);
    *response = encode_delta(&draft);
    return true;
}

/* ---- state-of-the-world responses ---- */

/* True when the response is needed: something is new, asked for, or gone. */
static bool draft_world(struct draft *draft)
{
    bool whole = is_whole(draft->type);
    bool needed = draft->subscription->owed;
    MAP_EACH(&draft->subscription->names, entry)
    {
        struct name *name = entry->value;
        struct resource *resource = look_up(draft, name);
        if (resource == NULL || !slice_eq(resource->name, entry->key)) {
            /* An alias cannot be expressed in this protocol, so it names nothing. Only a whole type
             * can say that something is not there. */
            needed = needed || (whole && (name->asked || name->version[0] != '\0'));
            resource_unref(&name->sent);
            name->version[0] = '\0';
            name->standing = ADS_ACKED;
            name->asked = false;
            name->absent = true;
            continue;
        }
        bool fresh = name->asked || strcmp(name->version, resource->version) != 0;
        needed = needed || fresh;
        if (!fresh) {
            keep(name, resource);
        }
        if (fresh || whole) {
            draft->resource[draft->resources++] = resource;
        }
    }
    return needed;
}

/* What the response says, as a hash; in whole types it is the version too. */
static uint64_t hash_of(const struct draft *draft)
{
    uint64_t hash = draft->resources + 1;
    for (size_t i = 0; i < draft->resources; i++) {
        hash = slice_hash(draft->resource[i]->name, hash);
        hash = slice_hash(slice_of_text(draft->resource[i]->version), hash);
    }
    return hash != 0 ? hash : 1;
}

static struct slice encode_world(const struct draft *draft)
{
    struct arena *arena = draft->arena;
    Envoy__Service__Discovery__V3__DiscoveryResponse response;
    envoy__service__discovery__v3__discovery_response__init(&response);
    response.type_url = arena_text(arena, slice_of_text(xds_type_of_resource(draft->type)->url));
    response.nonce = draft->subscription->nonce;
    response.version_info = draft->subscription->version;
    response.n_resources = draft->resources;
    response.resources = ARENA_ARRAY(arena, Google__Protobuf__Any *, draft->resources + 1);
    for (size_t i = 0; i < draft->resources; i++) {
        response.resources[i] = any_of(draft, draft->resource[i]);
    }
    return encode_message(arena, &response.base);
}

static bool world_response(struct ads_stream *stream, enum xds_resource type, uint64_t now_ms,
                           struct arena *arena, struct slice *response)
{
    struct draft draft;
    draft_init(&draft, stream, type, arena);
    struct subscription *subscription = draft.subscription;
    subscription->changed = false;
    bool needed = draft_world(&draft);
    uint64_t hash = hash_of(&draft);
    forget_gone(&draft);
    if (!needed || (!is_whole(type) && draft.resources == 0)) {
        return false;
    }
    size_t count = draft.resources;
    draft.resources = 0;
    for (size_t i = 0; i < count; i++) {
        struct resource *resource = draft.resource[i];
        struct name *name = map_get(&subscription->names, resource->name);
        CHECK(name != NULL);
        put(&draft, name, resource);
    }
    map_fini(&draft.put);
    ask_endpoints_again(&draft);
    sent(&draft, now_ms);
    (void)snprintf(subscription->version, sizeof subscription->version, "%016llx",
                   (unsigned long long)hash);
    *response = encode_world(&draft);
    return true;
}

bool ads_stream_response(struct ads_stream *stream, uint64_t now_ms, struct arena *arena,
                         struct slice *response)
{
    /* Twice: removals that waited for listeners and routes may go once those were looked at. */
    for (unsigned i = 0; i < 2 * XDS_RESOURCE_COUNT; i++) {
        enum xds_resource type = (enum xds_resource)(i % XDS_RESOURCE_COUNT);
        const struct subscription *subscription = &stream->types[type];
        if (!subscription->opened || !subscription->changed || subscription->waiting) {
            continue;
        }
        if (stream->protocol == ADS_DELTA ? delta_response(stream, type, now_ms, arena, response)
                                          : world_response(stream, type, now_ms, arena, response)) {
            return true;
        }
    }
    return false;
}

/* ---- what the client has ---- */

uint64_t ads_stream_waiting_since(const struct ads_stream *stream)
{
    uint64_t oldest = UINT64_MAX;
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        const struct subscription *subscription = &stream->types[i];
        if (subscription->waiting && subscription->sent_at_ms < oldest) {
            oldest = subscription->sent_at_ms;
        }
    }
    return oldest;
}

void ads_stream_each_held(const struct ads_stream *stream,
                          void (*show)(void *to, const struct ads_held *held), void *to)
{
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        MAP_EACH(&stream->types[i].names, entry)
        {
            const struct name *name = entry->value;
            if (name->sent == NULL && name->version[0] == '\0') {
                continue;
            }
            struct ads_held held = {.type = (enum xds_resource)i,
                                    .name = entry->key,
                                    .standing = name->standing,
                                    .acked_generation = name->acked_generation,
                                    .version = name->version,
                                    .generation = name->sent != NULL ? name->sent->generation : 0};
            show(to, &held);
        }
    }
}

struct ads_progress ads_stream_progress(const struct ads_stream *stream)
{
    struct ads_progress progress = {.settled = true, .last_rejection = stream->rejection};
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        const struct subscription *subscription = &stream->types[i];
        progress.settled = progress.settled && !is_unsettled(subscription);
        MAP_EACH(&subscription->names, entry)
        {
            const struct name *name = entry->value;
            progress.names++;
            progress.pending += name->standing == ADS_SENT;
            progress.rejected += name->standing == ADS_REJECTED;
            if (name->acked_generation > progress.acked_generation) {
                progress.acked_generation = name->acked_generation;
            }
        }
    }
    return progress;
}

uint64_t ads_stream_rejections(const struct ads_stream *stream)
{
    return stream->rejections;
}

uint32_t ads_stream_names(const struct ads_stream *stream)
{
    return stream->name_count;
}
