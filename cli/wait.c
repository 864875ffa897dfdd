/* `pillion wait`: returns when what stands in files is in force in the mesh, and every connected
 * sidecar that holds something made from it has acknowledged it.
 *
 * An object is waited for by its hash, so a control that has not read the file yet cannot say yes.
 * A control that does not answer (it may be restarting) is asked again until the time is up. */
#include "cli/wait.h"

#include <inttypes.h>
#include <time.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/control_api.h"
#include "cli/objects.h"
#include "cli/status.h"
#include "cli/table.h"

#define O             struct wait_options
#define US_PER_MS     UINT64_C(1000)
#define AGAIN_US      (200 * OPTION_MILLISECOND)
#define ANSWER_MS     5000U /* for the answer to arrive once control has it */
#define OBJECTS_MAX   10000U
#define TIMEOUT_MAX_S 600

/* ---- question and answer ---- */

static void put(json_t *object, const char *key, json_t *value)
{
    CHECK(value != NULL);
    CHECK(json_object_set_new(object, key, value) == 0);
}

json_t *wait_question(const struct policy_documents *documents, uint64_t timeout_ms)
{
    json_t *list = json_array();
    for (size_t i = 0; i < documents->count; i++) {
        const struct object *object = documents->objects[i];
        char hash[17];
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, object->hash);
        json_t *json = json_object();
        put(json, "kind", json_string(object_kind_name(object->kind)));
        put(json, "namespace", json_string(object->namespace));
        put(json, "name", json_string(object->name));
        put(json, "hash", json_string(hash));
        CHECK(json_array_append_new(list, json) == 0);
    }
    json_t *question = json_object();
    put(question, "objects", list);
    put(question, "timeout_ms", json_integer((json_int_t)timeout_ms));
    return question;
}

struct standing {
    struct slice id;
    struct slice state;
    struct slice problem;
    uint64_t generation;
    uint64_t holders;
    uint64_t acknowledged;
    json_t *behind;
};

static bool standing_read(const json_t *json, struct standing *standing, struct error *err)
{
    *standing = (struct standing){.generation = 0};
    return json_get_text(json, "id", &standing->id, err) &&
           json_get_text(json, "state", &standing->state, err) &&
           json_get_text(json, "problem", &standing->problem, err) &&
           json_get_u64(json, "generation", UINT64_MAX, &standing->generation, err) &&
           json_get_u64(json, "holders", UINT64_MAX, &standing->holders, err) &&
           json_get_u64(json, "acknowledged", UINT64_MAX, &standing->acknowledged, err) &&
           json_get_array(json, "behind", &standing->behind, err);
}

static const char *names_of(const json_t *node_ids, struct arena *arena)
{
    const char *text = "";
    for (size_t i = 0; i < json_array_size(node_ids); i++) {
        struct slice name = status_name(json_slice(json_array_get(node_ids, i)));
        text = arena_printf(arena, "%s%s%s", text, i > 0 ? ", " : "", table_text(arena, name));
    }
    return text;
}

static const char *standing_text(const struct standing *standing, struct arena *arena)
{
    if (slice_eq(standing->state, SLICE("live"))) {
        return standing->holders == 0 ? arena_printf(arena,
                                                     "in force at generation %" PRIu64
                                                     "; no connected sidecar holds it",
                                                     standing->generation)
                                      : arena_printf(arena,
                                                     "live at generation %" PRIu64
                                                     " in all %" PRIu64 " sidecars that hold it",
                                                     standing->generation, standing->holders);
    }
    if (slice_eq(standing->state, SLICE("behind"))) {
        return arena_printf(arena,
                            "in force at generation %" PRIu64 "; %" PRIu64 " of %" PRIu64
                            " sidecars have it, behind: %s",
                            standing->generation, standing->acknowledged, standing->holders,
                            names_of(standing->behind, arena));
    }
    if (standing->problem.len > 0) {
        return arena_printf(arena, "refused: %s", table_text(arena, standing->problem));
    }
    if (slice_eq(standing->state, SLICE("other"))) {
        return "another version is in force; pillion-control does not have this one";
    }
    if (slice_eq(standing->state, SLICE("absent"))) {
        return "not in force: pillion-control does not have it";
    }
    return table_text(arena, standing->state);
}

bool wait_print(FILE *out, const json_t *answer, struct arena *arena, bool *live, struct error *err)
{
    json_t *objects = NULL;
    *live = false;
    if (!json_get_bool(answer, "live", live, err) ||
        !json_get_array(answer, "objects", &objects, err)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(objects); i++) {
        struct standing standing;
        if (!standing_read(json_array_get(objects, i), &standing, err)) {
            return error_wrap(err, "objects[%zu]", i);
        }
        (void)fprintf(out, "%s: %s\n", table_text(arena, standing.id),
                      standing_text(&standing, arena));
    }
    return true;
}

/* ---- the command ---- */

struct wait_options {
    struct option_list files;
    const char *api_address;
    uint64_t timeout_us;
};

static const struct option options[] = {
    OPTION("file", LIST, O, files, .letter = 'f', .unit = "FILE|DIR",
           .meaning = "the objects to wait for; - is standard input"),
    OPTION("timeout", DURATION, O, timeout_us, .fallback = "60s",
           .max = TIMEOUT_MAX_S * OPTION_SECOND, .meaning = "exit 1 when it is not so by then"),
    OPTION("api-address", TARGET, O, api_address, .fallback = CONTROL_API_DEFAULT,
           .meaning = "pillion-control's --api-address"),
};

static const struct options_program program = {
    .name = "pillion wait",
    .summary = "returns when the objects in files are live in every sidecar",
    .options = options,
    .count = COUNT_OF(options),
};

static void sleep_us(uint64_t us)
{
    struct timespec pause = {.tv_sec = (time_t)(us / OPTION_SECOND),
                             .tv_nsec = (long)(us % OPTION_SECOND * 1000)};
    (void)nanosleep(&pause, NULL);
}

/* Null with *err. */
static json_t *ask_until(const struct call *call, const struct policy_documents *documents,
                         struct error *err)
{
    const struct wait_options *given = call->options;
    uint64_t end_us = clock_monotonic_us() + given->timeout_us;
    bool told = false;
    for (;;) {
        uint64_t now_us = clock_monotonic_us();
        uint64_t rest_us = end_us > now_us ? end_us - now_us : 0;
        json_t *body = wait_question(documents, rest_us / US_PER_MS);
        struct control_question question = {
            .server = given->api_address,
            .path = "/api/wait",
            .body = body,
            .timeout_ms = (uint32_t)(rest_us / US_PER_MS) + ANSWER_MS,
        };
        json_t *answer = NULL;
        enum control_answer result = control_ask(&question, &answer, err);
        json_decref(body);
        if (result != CONTROL_SILENT || clock_monotonic_us() + AGAIN_US >= end_us) {
            return answer;
        }
        if (!told) {
            (void)fprintf(call->notes, "pillion wait: %s; asking again\n", err->text);
            told = true;
        }
        *err = (struct error){.text = ""};
        sleep_us(AGAIN_US);
    }
}

static bool wait_live(const struct call *call, const struct policy_documents *documents,
                      struct error *err)
{
    bool live = false;
    json_t *answer = ask_until(call, documents, err);
    if (answer == NULL) {
        return false;
    }
    if (!wait_print(call->out, answer, call->arena, &live, err)) {
        live = error_wrap(err, "/api/wait");
    } else if (!live) {
        (void)error_set(err, "not live everywhere within the time");
    }
    json_decref(answer);
    return live;
}

static int run(const struct call *call, struct error *err)
{
    const struct wait_options *given = call->options;
    if (given->files.count == 0) {
        (void)error_set(err, "--file is needed: the objects to wait for");
        return EXIT_USAGE;
    }
    struct objects objects;
    objects_read(&objects, &given->files, call->arena);
    objects_print_problems(&objects, call->notes);
    bool live = false;
    if (policy_problems_count(&objects.problems, POLICY_SEVERITY_ERROR) > 0) {
        (void)error_set(err, "what is refused never gets live");
    } else if (objects.documents.count == 0) {
        (void)error_set(err, "there is no object in what was named");
    } else if (objects.documents.count > OBJECTS_MAX) {
        (void)error_set(err, "%zu objects; at most %u are waited for at once",
                        objects.documents.count, OBJECTS_MAX);
    } else {
        live = wait_live(call, &objects.documents, err);
    }
    objects_fini(&objects);
    return live ? EXIT_DONE : EXIT_NO;
}

const struct command command_wait = {
    .name = "wait",
    .program = &program,
    .options_bytes = sizeof(O),
    .run = run,
};
