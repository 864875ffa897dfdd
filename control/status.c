#include "control/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/version.h"
#include "control/serve/api.h"

#define BEHIND_NAMES_MAX 20U
#define SECOND_US        UINT64_C(1000000)

/* ---- JSON that cannot fail ---- */

static void put(json_t *object, const char *key, json_t *value)
{
    CHECK(value != NULL);
    CHECK(json_object_set_new(object, key, value) == 0);
}

static void push(json_t *array, json_t *value)
{
    CHECK(value != NULL);
    CHECK(json_array_append_new(array, value) == 0);
}

/* What clients say may be any bytes: what is no UTF-8 is not shown. */
static json_t *text_or_null(struct slice text)
{
    json_t *json = text.len > 0 ? json_stringn((const char *)text.at, text.len) : NULL;
    return json != NULL ? json : json_null();
}

static json_t *text(const char *value)
{
    json_t *json = json_string(value);
    return json != NULL ? json : json_string("(not UTF-8)");
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)(value <= INT64_MAX ? value : INT64_MAX));
}

static json_t *instant(uint64_t wall_us)
{
    char when[CLOCK_TEXT_BYTES];
    if (wall_us == 0) {
        return json_null();
    }
    clock_text(wall_us, when);
    return json_string(when);
}

/* ---- one client ---- */

/* Whether the client has in force what it should have of that name. */
static bool is_live(const struct ads_held *held, const struct view_entry *entry)
{
    if (held->standing != ADS_ACKED) {
        return false;
    }
    const char *wanted = entry->resource != NULL ? entry->resource->version : "";
    return strcmp(held->version, wanted) == 0;
}

struct client_sum {
    struct view *view;
    const char *rejection;
    json_t *nacks;
    uint64_t acknowledged;
    uint64_t resources;
    uint64_t pending;
    uint64_t rejected;
};

static void held_sum(void *to, const struct ads_held *held)
{
    struct client_sum *sum = to;
    sum->resources++;
    sum->pending +=
        held->standing == ADS_SENT || !is_live(held, view_get(sum->view, held->type, held->name));
    if (held->acked_generation > sum->acknowledged) {
        sum->acknowledged = held->acked_generation;
    }
    if (held->standing == ADS_REJECTED) {
        json_t *nack = json_object();
        put(nack, "type", text(xds_type_of_resource(held->type)->short_name));
        put(nack, "name", text_or_null(held->name));
        put(nack, "text", text(sum->rejection != NULL ? sum->rejection : ""));
        push(sum->nacks, nack);
        sum->rejected++;
        sum->pending--;
    }
}

struct clients {
    const struct status_sources *sources;
    json_t *list;
};

static json_t *certificate_rest(const struct status_sources *sources,
                                const struct ads_client *client)
{
    uint64_t end = 0;
    if (client->identity.len > 0 && sources->certificates != NULL) {
        end = ca_service_not_after(sources->certificates, client->identity, client->uid);
    }
    if (client->certificate_end_us > end) {
        end = client->certificate_end_us;
    }
    if (end == 0) {
        return json_null();
    }
    return number(end > sources->wall_us ? (end - sources->wall_us) / SECOND_US : 0);
}

static void client_show(void *to, const struct ads_client *client)
{
    struct clients *clients = to;
    const struct status_sources *sources = clients->sources;
    struct client_sum sum = {.view = client->view,
                             .rejection = ads_stream_progress(client->stream).last_rejection,
                             .nacks = json_array()};
    ads_stream_each_held(client->stream, held_sum, &sum);
    uint64_t generation = sources->picture->set.generation;
    bool behind = sum.pending + sum.rejected > 0;
    char peer[ADDR_TEXT_MAX];
    json_t *json = json_object();
    put(json, "id", text(client->node->id));
    put(json, "version", text(client->node->agent));
    put(json, "identity", text_or_null(client->identity));
    put(json, "peer", text(addr_format(&client->peer, peer)));
    put(json, "protocol", text(client->delta ? "delta" : "sotw"));
    put(json, "since", instant(client->since_us));
    put(json, "generation", number(generation));
    put(json, "acknowledged", number(behind ? sum.acknowledged : generation));
    put(json, "acknowledged_at", instant(client->acknowledged_us));
    put(json, "behind", json_boolean(behind));
    put(json, "resources", number(sum.resources));
    put(json, "pending", number(sum.pending));
    put(json, "rejected", number(sum.rejected));
    put(json, "certificate_rest_s", certificate_rest(sources, client));
    put(json, "nacks", sum.nacks);
    push(clients->list, json);
}

/* ---- /api/status and /api/objects ---- */

static json_t *problems_to_json(const struct policy_problems *problems)
{
    json_t *list = json_array();
    for (size_t i = 0; i < problems->count; i++) {
        const struct policy_problem *problem = &problems->at[i];
        json_t *json = json_object();
        put(json, "severity", text(policy_severity_name(problem->severity)));
        put(json, "file", text(problem->file));
        put(json, "line", number(problem->line));
        put(json, "object", text(problem->object));
        put(json, "path", text(problem->path));
        put(json, "text", text(problem->text));
        push(list, json);
    }
    return list;
}

json_t *status_to_json(const struct status_sources *sources)
{
    struct clients clients = {sources, json_array()};
    if (sources->ads != NULL) {
        ads_each_client(sources->ads, client_show, &clients);
    }
    const struct picture *picture = sources->picture;
    json_t *json = json_object();
    put(json, "version", text(PILLION_VERSION));
    put(json, "trust_domain", text(picture->options.trust_domain));
    put(json, "generation", number(picture->set.generation));
    put(json, "changed", instant(picture->changed_us));
    put(json, "state_saved", json_boolean(!picture->save_failed));
    put(json, "sidecars", clients.list);
    put(json, "problems", problems_to_json(&picture->problems));
    return json;
}

json_t *status_objects_to_json(const struct picture *picture)
{
    json_t *list = json_array();
    for (size_t i = 0; i < picture->set.count; i++) {
        const struct object *object = picture->set.objects[i];
        char hash[17];
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, object->hash);
        json_t *json = json_object();
        put(json, "id", text(object->id));
        put(json, "kind", text(object_kind_name(object->kind)));
        put(json, "namespace", text(object->namespace));
        put(json, "name", text(object->name));
        put(json, "file", text(object->file));
        put(json, "line", number(object->line));
        put(json, "generation", number(object->generation));
        put(json, "hash", text(hash));
        push(list, json);
    }
    json_t *json = json_object();
    put(json, "generation", number(picture->set.generation));
    put(json, "objects", list);
    return json;
}

/* ---- /api/wait ---- */

static bool hash_read(struct slice digits, uint64_t *hash, struct error *err)
{
    if (digits.len != 16) {
        return error_set(err, "hash: 16 hexadecimal digits are wanted");
    }
    *hash = 0;
    for (size_t i = 0; i < digits.len; i++) {
        uint8_t c = slice_lower(digits.at[i]);
        bool decimal = c >= '0' && c <= '9';
        if (!decimal && !(c >= 'a' && c <= 'f')) {
            return error_set(err, "hash: 16 hexadecimal digits are wanted");
        }
        *hash = (*hash << 4) | (uint64_t)(decimal ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static bool wanted_read(struct arena *arena, const json_t *json, struct status_wanted *wanted,
                        struct error *err)
{
    struct slice kind = {NULL, 0};
    struct slice namespace = SLICE("default");
    struct slice name = {NULL, 0};
    struct slice hash = {NULL, 0};
    if (!json_get_text(json, "kind", &kind, err) ||
        !json_get_text(json, "namespace", &namespace, err) ||
        !json_get_text(json, "name", &name, err) || !json_get_text(json, "hash", &hash, err)) {
        return false;
    }
    if (kind.len == 0 || name.len == 0) {
        return error_set(err, "kind and name are wanted");
    }
    wanted->id = arena_printf(arena, "%.*s/%.*s/%.*s", SLICE_ARG(kind), SLICE_ARG(namespace),
                              SLICE_ARG(name));
    wanted->any_version = hash.at == NULL;
    return wanted->any_version || hash_read(hash, &wanted->hash, err);
}

static bool wait_read(struct arena *arena, const json_t *root, struct status_wanted **wanted,
                      size_t *count, uint64_t *timeout_ms, struct error *err)
{
    json_t *objects = NULL;
    *timeout_ms = 0;
    if (!json_is_object(root)) {
        return error_set(err, "an object with \"objects\" is wanted");
    }
    if (!json_get_array(root, "objects", &objects, err) ||
        !json_get_u64(root, "timeout_ms", API_WAIT_MAX_MS, timeout_ms, err)) {
        return false;
    }
    *count = json_array_size(objects);
    if (*count == 0 || *count > API_WAIT_OBJECTS) {
        return error_set(err, "objects: 1 to %u are allowed", API_WAIT_OBJECTS);
    }
    *wanted = ARENA_ARRAY(arena, struct status_wanted, *count);
    for (size_t i = 0; i < *count; i++) {
        if (!wanted_read(arena, json_array_get(objects, i), &(*wanted)[i], err)) {
            return error_wrap(err, "objects[%zu]", i);
        }
    }
    return true;
}

bool status_wait_read(struct arena *arena, struct slice body, struct status_wanted **wanted,
                      size_t *count, uint64_t *timeout_ms, struct error *err)
{
    json_t *root = json_parse(body, NULL, err);
    bool good = root != NULL && wait_read(arena, root, wanted, count, timeout_ms, err);
    json_decref(root);
    return good;
}

/* What became of one wanted object at all clients. */
struct standing {
    const struct status_wanted *wanted;
    json_t *behind; /* node ids */
    uint64_t holders;
    uint64_t acknowledged;
    bool held_here; /* by the client that is looked at */
    bool late_here;
};

struct wait {
    struct map by_id; /* -> struct standing */
    struct standing *standings;
    size_t count;
    struct view *view;
};

static void held_stand(void *to, const struct ads_held *held)
{
    struct wait *wait = to;
    const struct view_entry *entry = view_get(wait->view, held->type, held->name);
    for (size_t i = 0; i < entry->object_count; i++) {
        struct standing *standing = map_get(&wait->by_id, slice_of_text(entry->objects[i]));
        if (standing != NULL) {
            standing->held_here = true;
            standing->late_here = standing->late_here || !is_live(held, entry);
        }
    }
}

static void client_stand(void *to, const struct ads_client *client)
{
    struct wait *wait = to;
    wait->view = client->view;
    ads_stream_each_held(client->stream, held_stand, wait);
    for (size_t i = 0; i < wait->count; i++) {
        struct standing *standing = &wait->standings[i];
        standing->holders += standing->held_here;
        standing->acknowledged += standing->held_here && !standing->late_here;
        if (standing->late_here && json_array_size(standing->behind) < BEHIND_NAMES_MAX) {
            push(standing->behind, text(client->node->id));
        }
        standing->held_here = false;
        standing->late_here = false;
    }
}

/* The first thing that is wrong with an object, in words. */
static json_t *problem_of(const struct policy_problems *problems, const char *id)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct policy_problem *problem = &problems->at[i];
        if (problem->severity != POLICY_SEVERITY_WARNING && strcmp(problem->object, id) == 0) {
            struct arena arena;
            arena_init(&arena, NULL);
            json_t *json = text(policy_problem_text(&arena, problem));
            arena_fini(&arena);
            return json;
        }
    }
    return json_null();
}

static const char *state_of(const struct standing *standing, const struct object *object)
{
    if (object == NULL) {
        return "absent";
    }
    if (!standing->wanted->any_version && object->hash != standing->wanted->hash) {
        return "other";
    }
    return standing->acknowledged == standing->holders ? "live" : "behind";
}

static json_t *standing_to_json(const struct picture *picture, struct standing *standing,
                                bool *live)
{
    const struct object *object = policy_set_find(&picture->set, standing->wanted->id);
    const char *state = state_of(standing, object);
    *live = *live && strcmp(state, "live") == 0;
    json_t *json = json_object();
    put(json, "id", text(standing->wanted->id));
    put(json, "state", text(state));
    put(json, "generation", number(object != NULL ? object->generation : 0));
    put(json, "holders", number(standing->holders));
    put(json, "acknowledged", number(standing->acknowledged));
    put(json, "behind", standing->behind);
    put(json, "problem", problem_of(&picture->problems, standing->wanted->id));
    return json;
}

json_t *status_wait_to_json(const struct status_sources *sources,
                            const struct status_wanted *wanted, size_t count, bool *live)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct wait wait = {.standings = ARENA_ARRAY(&arena, struct standing, count), .count = count};
    map_init(&wait.by_id, 0, MAP_KEYS_BORROWED);
    for (size_t i = 0; i < count; i++) {
        wait.standings[i] = (struct standing){.wanted = &wanted[i], .behind = json_array()};
        (void)map_set(&wait.by_id, slice_of_text(wanted[i].id), &wait.standings[i]);
    }
    if (sources->ads != NULL) {
        ads_each_client(sources->ads, client_stand, &wait);
    }
    *live = true;
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        push(list, standing_to_json(sources->picture, &wait.standings[i], live));
    }
    map_fini(&wait.by_id);
    arena_fini(&arena);
    json_t *json = json_object();
    put(json, "live", json_boolean(*live));
    put(json, "generation", number(sources->picture->set.generation));
    put(json, "objects", list);
    return json;
}
