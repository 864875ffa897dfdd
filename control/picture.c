#include "control/picture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "base/log.h"

#define STATE_FILE "objects.json"
#define STATE_MAX  ((size_t)1 << 30)

/* ---- the state on disk ---- */

static void state_set_aside(const struct picture *picture, const struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    const char *bad = arena_printf(&arena, "%s.bad", picture->path);
    (void)rename(picture->path, bad);
    log_error("the state is not readable: generations begin anew, the file was set aside",
              LOG_TEXT("file", bad), LOG_CAUSE(err));
    arena_fini(&arena);
}

static void state_load(struct picture *picture)
{
    size_t len = 0;
    size_t lost = 0;
    struct error err = {{0}};
    char *bytes = crypto_load_file(picture->path, STATE_MAX, &len, &err);
    if (bytes == NULL) {
        if (errno != ENOENT) {
            log_error("the state cannot be read: generations begin anew", LOG_CAUSE(&err));
        }
        return;
    }
    if (!state_read(slice_of(bytes, len), &picture->set, &picture->texts, &lost, &err)) {
        state_set_aside(picture, &err);
    } else if (lost > 0) {
        log_warning("objects of the state are not understood any more", LOG_U64("objects", lost));
    }
    picture->saved_hash = slice_hash(slice_of(bytes, len), 0);
    mem_free(bytes);
}

void picture_save(struct picture *picture)
{
    size_t len = 0;
    char *bytes = state_write(&picture->set, &picture->texts, &len);
    uint64_t hash = slice_hash(slice_of(bytes, len), 0);
    struct error err = {{0}};
    if (hash != picture->saved_hash || picture->save_failed) {
        bool saved = crypto_save_secret(picture->path, slice_of(bytes, len), &err);
        if (saved) {
            picture->saved_hash = hash;
        } else if (!picture->save_failed) {
            log_error("the state cannot be saved: a restart now would begin from the files alone",
                      LOG_CAUSE(&err));
        }
        picture->save_failed = !saved;
    }
    mem_free(bytes);
}

/* ---- life ---- */

static void model_replace(struct picture *picture)
{
    model_free(&picture->model);
    picture->model = model_new(picture->set.objects, picture->set.count, &picture->options);
    picture->epoch++;
}

void picture_init(struct picture *picture, const char *state_dir,
                  const struct model_options *options)
{
    *picture = (struct picture){.options = *options};
    policy_set_init(&picture->set);
    state_texts_init(&picture->texts);
    arena_init(&picture->problem_arena, NULL);
    policy_problems_init(&picture->problems, &picture->problem_arena);
    size_t size = strlen(state_dir) + sizeof "/" STATE_FILE;
    picture->path = mem_raw(size);
    (void)snprintf(picture->path, size, "%s/%s", state_dir, STATE_FILE);
    state_load(picture);
    model_replace(picture);
}

void picture_fini(struct picture *picture)
{
    model_free(&picture->model);
    state_texts_fini(&picture->texts);
    policy_set_fini(&picture->set);
    arena_fini(&picture->problem_arena);
    mem_free(picture->path);
    *picture = (struct picture){0};
}

/* ---- a look ---- */

static bool lies_below(const char *file, const char *folder)
{
    size_t len = strlen(folder);
    return len == 0 || (strncmp(file, folder, len) == 0 && file[len] == '/');
}

/* What came from a folder that cannot be read stays: as if each of its files could not be. */
static void unread_keep(const struct picture *picture, struct files_look *look)
{
    for (size_t i = 0; i < picture->set.count; i++) {
        for (size_t k = 0; k < look->tree.trouble_count; k++) {
            const struct tree_trouble *trouble = &look->tree.troubles[k];
            if (trouble->unread && lies_below(picture->set.objects[i]->file, trouble->path)) {
                policy_parse_failed(picture->set.objects[i]->file, &look->documents);
                break;
            }
        }
    }
}

/* Notes the text of every object that this look brought into force, drops that of those gone. */
static void texts_update(struct picture *picture, const struct files_look *look)
{
    struct state_texts old = picture->texts;
    state_texts_init(&picture->texts);
    const struct files_text *last = NULL;
    struct state_document *document = NULL;
    for (size_t i = 0; i < look->documents.count; i++) {
        const struct object *object = look->documents.objects[i];
        if (policy_set_find(&picture->set, object->id) != object) {
            continue;
        }
        const struct files_text *text = files_look_find(look, object->file, object->line);
        CHECK(text != NULL);
        if (text != last) {
            state_document_unref(&document);
            document = state_document_new(text->file, text->line, text->text);
            last = text;
        }
        state_texts_set(&picture->texts, object->id, document);
    }
    state_document_unref(&document);
    for (size_t i = 0; i < picture->set.count; i++) {
        const char *id = picture->set.objects[i]->id;
        struct state_document *kept = state_texts_get(&old, id);
        if (kept != NULL && state_texts_get(&picture->texts, id) == NULL) {
            state_texts_set(&picture->texts, id, kept);
        }
    }
    state_texts_fini(&old);
}

static enum log_level level_of(enum policy_severity severity)
{
    switch (severity) {
    case POLICY_SEVERITY_ERROR:
        return LOG_LEVEL_ERROR;
    case POLICY_SEVERITY_PENDING:
    case POLICY_SEVERITY_WARNING:
        return LOG_LEVEL_WARNING;
    }
    return LOG_LEVEL_ERROR;
}

static bool problem_known(const struct policy_problems *problems,
                          const struct policy_problem *problem)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct policy_problem *known = &problems->at[i];
        if (known->line == problem->line && strcmp(known->file, problem->file) == 0 &&
            strcmp(known->path, problem->path) == 0 && strcmp(known->text, problem->text) == 0) {
            return true;
        }
    }
    return false;
}

/* A line for each problem that the look before did not have. */
static void problems_log(const struct picture *picture, const struct policy_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct policy_problem *problem = &problems->at[i];
        if (problem_known(&picture->problems, problem)) {
            continue;
        }
        LOG_LINE(log_write, level_of(problem->severity),
                 problem->severity == POLICY_SEVERITY_ERROR     ? "refused"
                 : problem->severity == POLICY_SEVERITY_PENDING ? "waiting"
                                                                : "in force, but",
                 LOG_TEXT("file", problem->file), LOG_U64("line", problem->line),
                 LOG_TEXT("object", problem->object), LOG_TEXT("field", problem->path),
                 LOG_TEXT("problem", problem->text), LOG_NO_FIELD);
    }
}

static void problems_keep(struct picture *picture, const struct policy_problems *problems)
{
    arena_fini(&picture->problem_arena);
    policy_problems_init(&picture->problems, &picture->problem_arena);
    for (size_t i = 0; i < problems->count; i++) {
        const struct policy_problem *from = &problems->at[i];
        struct policy_where where = {from->file, from->line, from->object, from->path};
        policy_problem_add(&picture->problems, from->severity, where, "%s", from->text);
    }
}

bool picture_apply(struct picture *picture, struct files_look *look, uint64_t wall_us)
{
    unread_keep(picture, look);
    bool changed =
        policy_set_apply(&picture->set, &look->documents, &picture->options, &look->problems);
    texts_update(picture, look);
    problems_log(picture, &look->problems);
    problems_keep(picture, &look->problems);
    /* Also where nothing changed: places did, perhaps, and decisions are told by place. */
    model_replace(picture);
    if (changed) {
        picture->changed_us = wall_us;
        log_info("objects taken", LOG_U64("generation", picture->set.generation),
                 LOG_U64("objects", picture->set.count));
    }
    picture_save(picture);
    return changed;
}
