/* `pillion status`: which sidecars there are, and which of them has what it should have. */
#include "cli/status.h"

#include <inttypes.h>

#include "cli/command.h"
#include "cli/control_api.h"
#include "cli/table.h"

#define O         struct status_options
#define ANY       UINT64_MAX
#define HEADING   1
#define NODE_PART 2 /* of TYPE~IP~NAME.NS~DOMAIN */

/* ---- the answer ---- */

struct sidecar {
    struct slice id;
    struct slice version;
    uint64_t generation;
    uint64_t acknowledged;
    uint64_t resources;
    uint64_t pending;
    uint64_t rejected;
    uint64_t certificate_rest_s; /* ANY: not known */
    bool behind;
    json_t *nacks;
};

struct mesh {
    struct slice version;
    struct slice trust_domain;
    struct slice changed; /* empty: never */
    uint64_t generation;
    bool state_saved;
    struct sidecar *sidecars;
    size_t count;
    size_t behind;
    json_t *problems;
};

static bool sidecar_read(const json_t *json, struct sidecar *sidecar, struct error *err)
{
    *sidecar = (struct sidecar){.certificate_rest_s = ANY};
    return json_get_text(json, "id", &sidecar->id, err) &&
           json_get_text(json, "version", &sidecar->version, err) &&
           json_get_u64(json, "generation", ANY, &sidecar->generation, err) &&
           json_get_u64(json, "acknowledged", ANY, &sidecar->acknowledged, err) &&
           json_get_u64(json, "resources", ANY, &sidecar->resources, err) &&
           json_get_u64(json, "pending", ANY, &sidecar->pending, err) &&
           json_get_u64(json, "rejected", ANY, &sidecar->rejected, err) &&
           json_get_u64(json, "certificate_rest_s", ANY, &sidecar->certificate_rest_s, err) &&
           json_get_bool(json, "behind", &sidecar->behind, err) &&
           json_get_array(json, "nacks", &sidecar->nacks, err);
}

static bool sidecars_read(const json_t *list, struct mesh *mesh, struct arena *arena,
                          struct error *err)
{
    mesh->count = json_array_size(list);
    mesh->sidecars = ARENA_ARRAY(arena, struct sidecar, mesh->count + 1);
    for (size_t i = 0; i < mesh->count; i++) {
        const json_t *json = json_array_get(list, i);
        if (!json_is_object(json)) {
            return error_set(err, "sidecars[%zu]: wants an object, has %s", i,
                             json_type_name(json));
        }
        if (!sidecar_read(json, &mesh->sidecars[i], err)) {
            return error_wrap(err, "sidecars[%zu]", i);
        }
        mesh->behind += mesh->sidecars[i].behind;
    }
    return true;
}

static bool mesh_read(const json_t *json, struct mesh *mesh, struct arena *arena, struct error *err)
{
    json_t *sidecars = NULL;
    *mesh = (struct mesh){.state_saved = true};
    return json_get_text(json, "version", &mesh->version, err) &&
           json_get_text(json, "trust_domain", &mesh->trust_domain, err) &&
           json_get_text(json, "changed", &mesh->changed, err) &&
           json_get_u64(json, "generation", ANY, &mesh->generation, err) &&
           json_get_bool(json, "state_saved", &mesh->state_saved, err) &&
           json_get_array(json, "problems", &mesh->problems, err) &&
           json_get_array(json, "sidecars", &sidecars, err) &&
           sidecars_read(sidecars, mesh, arena, err);
}

struct slice status_name(struct slice node_id)
{
    struct slice rest = node_id;
    struct slice name = {NULL, 0};
    for (int part = 0; part <= NODE_PART && rest.at != NULL; part++) {
        name = slice_cut(&rest, '~');
    }
    return rest.at != NULL && name.len > 0 ? name : node_id;
}

/* ---- as text ---- */

static void mesh_print(FILE *out, const struct mesh *mesh, struct arena *arena)
{
    (void)fprintf(out, "mesh %s, generation %" PRIu64 "%s%s; sidecars: %zu, behind: %zu\n",
                  table_text(arena, mesh->trust_domain), mesh->generation,
                  mesh->changed.len > 0 ? " since " : "", table_text(arena, mesh->changed),
                  mesh->count, mesh->behind);
    if (!mesh->state_saved) {
        (void)fputs("pillion-control cannot write its state: a restart would lose what changed\n",
                    out);
    }
}

static const char *resources_text(const struct sidecar *sidecar, struct arena *arena)
{
    const char *text = arena_printf(arena, "%" PRIu64, sidecar->resources);
    if (sidecar->pending > 0) {
        text = arena_printf(arena, "%s, %" PRIu64 " pending", text, sidecar->pending);
    }
    if (sidecar->rejected > 0) {
        text = arena_printf(arena, "%s, %" PRIu64 " refused", text, sidecar->rejected);
    }
    return text;
}

static const char *certificate_text(uint64_t rest_s, struct arena *arena)
{
    if (rest_s == ANY) {
        return "-";
    }
    return rest_s == 0 ? "expired" : table_duration(arena, rest_s);
}

static void sidecars_print(FILE *out, const struct mesh *mesh, struct arena *arena)
{
    enum { NAME, VERSION, STATE, GENERATION, CERTIFICATE, RESOURCES, COLUMNS };
    static const char *const heading[COLUMNS] = {
        [NAME] = "SIDECAR",       [VERSION] = "VERSION",         [STATE] = "STATE",
        [GENERATION] = "LIVE AT", [CERTIFICATE] = "CERTIFICATE", [RESOURCES] = "RESOURCES"};
    const char **cells = ARENA_ARRAY(arena, const char *, (mesh->count + HEADING) * COLUMNS);
    memcpy(cells, heading, sizeof heading);
    for (size_t i = 0; i < mesh->count; i++) {
        const struct sidecar *sidecar = &mesh->sidecars[i];
        const char **row = cells + (i + HEADING) * COLUMNS;
        row[NAME] = table_text(arena, status_name(sidecar->id));
        row[VERSION] = sidecar->version.len > 0 ? table_text(arena, sidecar->version) : "-";
        row[STATE] = sidecar->behind ? "behind" : "current";
        row[GENERATION] = sidecar->behind ? arena_printf(arena, "%" PRIu64 " of %" PRIu64,
                                                         sidecar->acknowledged, sidecar->generation)
                                          : arena_printf(arena, "%" PRIu64, sidecar->acknowledged);
        row[CERTIFICATE] = certificate_text(sidecar->certificate_rest_s, arena);
        row[RESOURCES] = resources_text(sidecar, arena);
    }
    (void)fputc('\n', out);
    table_print(out, cells, mesh->count + HEADING, COLUMNS);
}

/* A member that is text, made fit for a terminal; "" for anything else. */
static const char *member(const json_t *object, const char *key, struct arena *arena)
{
    return table_text(arena, json_slice(json_object_get(object, key)));
}

static void nacks_print(FILE *out, const struct mesh *mesh, struct arena *arena)
{
    bool first = true;
    for (size_t i = 0; i < mesh->count; i++) {
        const struct sidecar *sidecar = &mesh->sidecars[i];
        for (size_t k = 0; k < json_array_size(sidecar->nacks); k++) {
            const json_t *nack = json_array_get(sidecar->nacks, k);
            (void)fprintf(out, "%s  %s: %s %s: %s\n", first ? "\nrefused by sidecars:\n" : "",
                          table_text(arena, status_name(sidecar->id)), member(nack, "type", arena),
                          member(nack, "name", arena), member(nack, "text", arena));
            first = false;
        }
    }
}

static void problems_print(FILE *out, const struct mesh *mesh, struct arena *arena)
{
    for (size_t i = 0; i < json_array_size(mesh->problems); i++) {
        const json_t *problem = json_array_get(mesh->problems, i);
        const char *object = member(problem, "object", arena);
        const char *path = member(problem, "path", arena);
        uint64_t line = 0;
        bool has_line = json_get_u64(problem, "line", ANY, &line, NULL) && line > 0;
        (void)fprintf(out, "%s  %s%s: %s: %s%s%s%s%s\n", i == 0 ? "\nproblems of policy:\n" : "",
                      member(problem, "file", arena),
                      has_line ? arena_printf(arena, ":%" PRIu64, line) : "",
                      member(problem, "severity", arena), object, object[0] != '\0' ? ": " : "",
                      path, path[0] != '\0' ? ": " : "", member(problem, "text", arena));
    }
}

bool status_print(FILE *out, const json_t *answer, struct arena *arena, struct error *err)
{
    struct mesh mesh;
    if (!mesh_read(answer, &mesh, arena, err)) {
        return false;
    }
    mesh_print(out, &mesh, arena);
    if (mesh.count > 0) {
        sidecars_print(out, &mesh, arena);
    }
    nacks_print(out, &mesh, arena);
    problems_print(out, &mesh, arena);
    return true;
}

/* ---- the command ---- */

struct status_options {
    const char *api_address;
    unsigned output; /* enum output, in the order of `outputs` */
};

enum output { OUTPUT_TABLE, OUTPUT_JSON };
static const char *const outputs[] = {"table", "json", NULL};

static const struct option options[] = {
    OPTION("api-address", TARGET, O, api_address, .fallback = CONTROL_API_DEFAULT,
           .meaning = "pillion-control's --api-address"),
    OPTION("output", CHOICE, O, output, .letter = 'o', .choices = outputs, .fallback = "table",
           .meaning = "json: the API's own answer"),
};

static const struct options_program program = {
    .name = "pillion status",
    .summary = "shows each sidecar: its version, what it has acknowledged, its certificate",
    .options = options,
    .count = COUNT_OF(options),
};

static int run(const struct call *call, struct error *err)
{
    const struct status_options *given = call->options;
    struct control_question question = {.server = given->api_address, .path = "/api/status"};
    json_t *answer = NULL;
    if (control_ask(&question, &answer, err) != CONTROL_ANSWER) {
        return EXIT_NO;
    }
    bool printed = true;
    if (given->output == OUTPUT_JSON) {
        struct slice text = json_text(call->arena, answer, false);
        (void)fprintf(call->out, "%.*s\n", SLICE_ARG(text));
    } else {
        printed = status_print(call->out, answer, call->arena, err) ||
                  error_wrap(err, "%s/api/status", given->api_address);
    }
    json_decref(answer);
    return printed ? EXIT_DONE : EXIT_NO;
}

const struct command command_status = {
    .name = "status",
    .program = &program,
    .options_bytes = sizeof(O),
    .run = run,
};
