#include "cli/objects.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/list.h"
#include "cli/table.h"

#define FILE_BYTES_MAX ((size_t)16 << 20) /* what YAML's reader takes */
#define DEPTH_MAX      16U
#define FILES_MAX      100000U

static void problem(struct objects *objects, const char *file, const char *text)
{
    struct policy_where where = {file, 0, "", ""};
    policy_problem_add(&objects->problems, POLICY_SEVERITY_ERROR, where, "%s", text);
}

static void problem_errno(struct objects *objects, const char *file)
{
    struct error err = {.text = ""};
    (void)error_errno(&err, "cannot be read");
    problem(objects, file, err.text);
}

static void file_read_objects(struct objects *objects, const char *path, const char *shown)
{
    struct slice bytes = {NULL, 0};
    struct error err = {.text = ""};
    struct arena *arena = objects->problems.arena;
    objects->files++;
    if (!file_read(path, FILE_BYTES_MAX, arena, &bytes, &err)) {
        /* The reason begins with the path, which the problem has already. */
        struct slice reason = slice_of_text(err.text);
        struct slice prefix = slice_of_text(arena_printf(arena, "%s: ", path));
        reason = slice_starts(reason, prefix) ? slice_from(reason, prefix.len) : reason;
        problem(objects, shown, arena_text(arena, reason));
        policy_parse_failed(shown, &objects->documents);
        return;
    }
    policy_parse(bytes, shown, &objects->documents, &objects->problems);
}

/* ---- folders ---- */

struct name {
    struct list link;
    const char *path;
};

static int name_compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Paths of what is in the folder, sorted; null where it cannot be read. */
static const char **folder_list(struct objects *objects, const char *folder, size_t *count)
{
    struct arena *arena = objects->problems.arena;
    struct list names;
    list_init(&names);
    *count = 0;
    DIR *open = opendir(folder);
    if (open == NULL) {
        return NULL;
    }
    const struct dirent *entry = NULL;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the folder was opened here, nobody else reads it
    while (*count < FILES_MAX && (entry = readdir(open)) != NULL) {
        if (entry->d_name[0] != '.') {
            struct name *name = ARENA_NEW(arena, struct name);
            size_t len = strlen(folder);
            name->path = arena_printf(arena, "%s%s%s", folder, folder[len - 1] == '/' ? "" : "/",
                                      entry->d_name);
            list_append(&names, &name->link);
            ++*count;
        }
    }
    (void)closedir(open);
    const char **paths = ARENA_ARRAY(arena, const char *, *count + 1);
    size_t at = 0;
    for (struct list *node = list_pop(&names); node != NULL; node = list_pop(&names)) {
        paths[at++] = CONTAINER_OF(node, struct name, link)->path;
    }
    qsort(paths, *count, sizeof *paths, name_compare);
    return paths;
}

static bool has_ending(const char *path)
{
    struct slice text = slice_of_text(path);
    return slice_ends(text, SLICE(".yaml")) || slice_ends(text, SLICE(".yml")) ||
           slice_ends(text, SLICE(".json"));
}

static void folder_read(struct objects *objects, const char *folder, unsigned depth);

static void entry_read(struct objects *objects, const char *path, unsigned depth)
{
    struct stat status;
    if (lstat(path, &status) != 0) {
        return; /* gone meanwhile */
    }
    if (S_ISDIR(status.st_mode)) {
        folder_read(objects, path, depth + 1);
    } else if (has_ending(path) && objects->files < FILES_MAX) {
        /* A link that leads nowhere is read all the same: that fails, and says why. */
        if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
            problem(objects, path, "not a file");
        } else {
            file_read_objects(objects, path, path);
        }
    }
}

/* Recurses DEPTH_MAX deep at most. */
static void folder_read(struct objects *objects, const char *folder, unsigned depth)
{
    if (depth > DEPTH_MAX) {
        problem(objects, folder, "folders lie too deep inside each other; 16 are allowed");
        return;
    }
    size_t count = 0;
    const char **paths = folder_list(objects, folder, &count);
    if (paths == NULL) {
        problem_errno(objects, folder);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        entry_read(objects, paths[i], depth);
    }
}

static void named_read(struct objects *objects, const char *path)
{
    struct stat status;
    if (strcmp(path, "-") == 0) {
        file_read_objects(objects, "/dev/stdin", "(standard input)");
    } else if (path[0] == '\0' || stat(path, &status) != 0) {
        errno = path[0] == '\0' ? ENOENT : errno;
        problem_errno(objects, path);
    } else if (!S_ISDIR(status.st_mode)) {
        file_read_objects(objects, path, path);
    } else {
        size_t before = objects->files + objects->problems.count;
        folder_read(objects, path, 0);
        if (objects->files + objects->problems.count == before) {
            problem(objects, path, "there is no *.yaml, *.yml or *.json file in this folder");
        }
    }
}

void objects_read(struct objects *objects, const struct option_list *paths, struct arena *arena)
{
    *objects = (struct objects){.files = 0};
    policy_documents_init(&objects->documents);
    policy_problems_init(&objects->problems, arena);
    for (size_t i = 0; i < paths->count; i++) {
        named_read(objects, paths->items[i]);
    }
}

void objects_fini(struct objects *objects)
{
    policy_documents_fini(&objects->documents);
}

/* ---- problems ---- */

static int problem_compare(const void *left, const void *right)
{
    const struct policy_problem *a = left;
    const struct policy_problem *b = right;
    int order = strcmp(a->file, b->file);
    if (order == 0) {
        order = (a->line > b->line) - (a->line < b->line);
    }
    return order != 0 ? order : strcmp(a->text, b->text);
}

void objects_print_problems(const struct objects *objects, FILE *out)
{
    const struct policy_problems *problems = &objects->problems;
    if (problems->count == 0) {
        return;
    }
    qsort(problems->at, problems->count, sizeof *problems->at, problem_compare);
    for (size_t i = 0; i < problems->count; i++) {
        const char *text = policy_problem_text(problems->arena, &problems->at[i]);
        (void)fprintf(out, "%s\n", table_text(problems->arena, slice_of_text(text)));
    }
}
