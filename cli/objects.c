#include "cli/objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/tree.h"
#include "cli/table.h"

#define FILE_BYTES_MAX ((size_t)16 << 20) /* what YAML's reader takes */

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

static void folder_read(struct objects *objects, const char *folder)
{
    struct arena *arena = objects->problems.arena;
    size_t len = strlen(folder);
    const char *between = folder[len - 1] == '/' ? "" : "/";
    struct tree tree =
        tree_list(arena, &(struct tree_plan){.root = folder, .endings = policy_file_endings});
    for (size_t i = 0; i < tree.trouble_count; i++) {
        const char *path = tree.troubles[i].path;
        path = path[0] == '\0' ? folder : arena_printf(arena, "%s%s%s", folder, between, path);
        problem(objects, path, tree.troubles[i].text);
    }
    for (size_t i = 0; i < tree.file_count; i++) {
        const char *path = arena_printf(arena, "%s%s%s", folder, between, tree.files[i]);
        file_read_objects(objects, path, path);
    }
    if (tree.file_count + tree.trouble_count == 0) {
        problem(objects, folder, "there is no *.yaml, *.yml or *.json file in this folder");
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
        folder_read(objects, path);
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
