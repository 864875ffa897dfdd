#include "base/tree.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/list.h"
#include "base/slice.h"

struct folder {
    struct list link;
    const char *path;
    unsigned depth;
};

struct walk {
    const struct tree_plan *plan;
    struct arena *arena;
    struct tree tree;
    struct list folders; /* that are still to be read */
};

static void trouble(struct walk *walk, const char *path, const char *text, bool unread)
{
    struct tree *tree = &walk->tree;
    tree->troubles = arena_room_for_one(walk->arena, tree->troubles, tree->trouble_count,
                                        sizeof *tree->troubles);
    tree->troubles[tree->trouble_count++] = (struct tree_trouble){path, text, unread};
}

static const char *whole_path(const struct walk *walk, const char *path)
{
    const char *root = walk->plan->root;
    size_t len = strlen(root);
    const char *between = len > 0 && root[len - 1] == '/' ? "" : "/";
    return path[0] == '\0' ? root : arena_printf(walk->arena, "%s%s%s", root, between, path);
}

static bool is_wanted(const struct walk *walk, const char *path)
{
    struct slice text = slice_of_text(path);
    for (const char *const *ending = walk->plan->endings; *ending != NULL; ending++) {
        if (slice_ends(text, slice_of_text(*ending))) {
            return true;
        }
    }
    return false;
}

static void folder_push(struct walk *walk, const char *path, unsigned depth)
{
    if (depth > TREE_DEPTH_MAX) {
        trouble(walk, path, "folders lie too deep inside each other; 16 are allowed", false);
        return;
    }
    struct folder *folder = ARENA_NEW(walk->arena, struct folder);
    folder->path = path;
    folder->depth = depth;
    list_append(&walk->folders, &folder->link);
}

static void file_push(struct walk *walk, const char *path)
{
    struct tree *tree = &walk->tree;
    tree->files =
        arena_room_for_one(walk->arena, tree->files, tree->file_count, sizeof *tree->files);
    tree->files[tree->file_count++] = path;
}

/* What can be told of a name without opening it: a folder is walked, a file listed. */
static void name_sort(struct walk *walk, const char *path, unsigned depth)
{
    struct stat status;
    const char *whole = whole_path(walk, path);
    if (lstat(whole, &status) != 0) {
        return; /* gone meanwhile */
    }
    if (S_ISDIR(status.st_mode)) {
        folder_push(walk, path, depth);
    } else if (is_wanted(walk, path)) {
        /* A link that leads nowhere is listed all the same: reading it fails, and says why. */
        if (stat(whole, &status) == 0 && !S_ISREG(status.st_mode)) {
            trouble(walk, path, "not a file", false);
        } else {
            file_push(walk, path);
        }
    }
}

static void folder_read(struct walk *walk, const struct folder *folder)
{
    const char *whole = whole_path(walk, folder->path);
    if (walk->plan->before != NULL) {
        walk->plan->before(walk->plan->owner, whole);
    }
    DIR *open = opendir(whole);
    if (open == NULL) {
        bool gone = errno == ENOENT && folder->path[0] != '\0';
        if (!gone) {
            struct error err;
            (void)error_errno(&err, "the folder cannot be read");
            trouble(walk, folder->path, arena_text(walk->arena, slice_of_text(err.text)), true);
        }
        return;
    }
    /* NOLINTBEGIN(concurrency-mt-unsafe): nobody else reads this stream */
    for (const struct dirent *entry = readdir(open); entry != NULL; entry = readdir(open)) {
        if (entry->d_name[0] != '.' && walk->tree.file_count < TREE_FILES_MAX) {
            const char *path =
                folder->path[0] == '\0'
                    ? arena_text(walk->arena, slice_of_text(entry->d_name))
                    : arena_printf(walk->arena, "%s/%s", folder->path, entry->d_name);
            name_sort(walk, path, folder->depth + 1);
        }
    }
    /* NOLINTEND(concurrency-mt-unsafe) */
    (void)closedir(open);
}

static int path_compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

struct tree tree_list(struct arena *arena, const struct tree_plan *plan)
{
    struct walk walk = {.plan = plan, .arena = arena};
    list_init(&walk.folders);
    folder_push(&walk, "", 0);
    for (struct list *node = list_pop(&walk.folders); node != NULL;
         node = list_pop(&walk.folders)) {
        folder_read(&walk, CONTAINER_OF(node, struct folder, link));
    }
    if (walk.tree.file_count > 0) {
        qsort(walk.tree.files, walk.tree.file_count, sizeof(const char *), path_compare);
    }
    if (walk.tree.file_count >= TREE_FILES_MAX) {
        trouble(&walk, "", "too many files; 100000 are read", false);
    }
    return walk.tree;
}
