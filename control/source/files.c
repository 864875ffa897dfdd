/* Watching is inotify over every folder; each event only says "look again", since the names in
 * events tell nothing that reading does not tell better (a rename over a file, a folder that came
 * with files in it, a queue that overflowed). Files are all read again after a change: it costs
 * milliseconds for a thousand objects and cannot miss anything. */

#include "control/source/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/yaml.h"

#define WATCHED                                                                                    \
    (IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |            \
     IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct files {
    struct loop *loop;
    char *folder;
    struct task *changed;
    struct task task;
    struct timer timer;
    struct loop_watch *watch; /* null: the kernel cannot watch at all */
    int fd;                   /* -1 then */
    uint64_t first_us;        /* of the changes that wait to be reported; 0: none */
    bool polling;             /* something is not watched: look now and then */
};

/* ---- noticing ---- */

/* Empties the queue. True when anything was in it. */
static bool events_drain(const struct files *files)
{
    union {
        struct inotify_event aligned;
        char bytes[16384];
    } room;
    bool any = false;
    while (read(files->fd, room.bytes, sizeof room.bytes) > 0) {
        any = true;
    }
    return any;
}

static uint64_t report_at(const struct files *files)
{
    uint64_t quiet = files->loop->now_us + FILES_QUIET_US;
    uint64_t latest = files->first_us + FILES_QUIET_MAX;
    return quiet < latest ? quiet : latest;
}

static void files_run(struct task *task)
{
    struct files *files = CONTAINER_OF(task, struct files, task);
    if (files->watch != NULL && loop_watch_ready(files->watch) != 0 && events_drain(files)) {
        if (files->first_us == 0) {
            files->first_us = files->loop->now_us;
        }
        timer_clear(&files->timer); /* it may have to come earlier than a poll */
        timer_set(files->loop, &files->timer, report_at(files));
    }
    if (timer_due(&files->timer, files->loop)) {
        timer_clear(&files->timer);
        files->first_us = 0;
        loop_post(files->loop, files->changed);
    }
}

static void watch_open(struct files *files)
{
    files->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (files->fd < 0) {
        struct error err;
        (void)error_errno(&err, "inotify");
        log_warning("changes of files are looked for every 5 seconds: inotify is not to be had",
                    LOG_CAUSE(&err));
        files->polling = true;
        return;
    }
    files->watch = loop_watch_new(files->loop, files->fd, NET_READ, &files->task);
}

/* Watching comes before reading, so that nothing falls between; a folder that is watched already
 * stays so. */
static void folder_watch(struct files *files, const char *path)
{
    if (files->fd >= 0 && inotify_add_watch(files->fd, path, WATCHED) < 0 && errno != ENOENT &&
        errno != ENOTDIR && !files->polling) {
        struct error err;
        (void)error_errno(&err, "%s", path);
        log_warning("changes of files are looked for every 5 seconds: a folder cannot be watched",
                    LOG_CAUSE(&err));
        files->polling = true;
    }
}

struct files *files_open(struct loop *loop, const char *folder, struct task *changed,
                         struct error *err)
{
    DIR *probe = opendir(folder);
    if (probe == NULL) {
        (void)error_errno(err, "%s", folder);
        return NULL;
    }
    (void)closedir(probe);
    struct files *files = NEW(struct files);
    files->loop = loop;
    files->folder = mem_dup_text(folder);
    files->changed = changed;
    files->task.run = files_run;
    files->timer.task = &files->task;
    watch_open(files);
    return files;
}

void files_free(struct files **files_at)
{
    struct files *files = *files_at;
    *files_at = NULL;
    if (files == NULL) {
        return;
    }
    timer_clear(&files->timer);
    task_cancel(&files->task);
    loop_watch_free(&files->watch);
    if (files->fd >= 0) {
        (void)close(files->fd);
    }
    mem_free(files->folder);
    mem_free(files);
}

/* ---- listing ---- */

/* Grows in the arena: doubled where the count is a power of two. */
static void *room_for_one(struct arena *arena, const void *at, size_t count, size_t size)
{
    if ((count & (count - 1)) != 0) {
        return NULL;
    }
    void *grown = arena_alloc(arena, size * (count > 0 ? count * 2 : 1));
    if (count > 0) {
        memcpy(grown, at, count * size);
    }
    return grown;
}

static void name_push(struct arena *arena, const char ***names, size_t *count, const char *name)
{
    const char **grown = room_for_one(arena, *names, *count, sizeof(const char *));
    *names = grown != NULL ? grown : *names;
    (*names)[(*count)++] = name;
}

static int name_compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void problem_add(struct files_look *look, const char *file, const char *text)
{
    struct policy_where where = {file, 0, "", ""};
    policy_problem_add(&look->problems, POLICY_SEVERITY_ERROR, where, "%s", text);
}

static bool is_object_file(const char *name)
{
    struct slice text = slice_of_text(name);
    return slice_ends(text, SLICE(".yaml")) || slice_ends(text, SLICE(".yml")) ||
           slice_ends(text, SLICE(".json"));
}

/* "sub" and "a.yaml" -> "sub/a.yaml"; the root folder is "". */
static const char *path_join(struct arena *arena, const char *folder, const char *name)
{
    return folder[0] == '\0' ? name : arena_printf(arena, "%s/%s", folder, name);
}

struct folder {
    struct list link;
    const char *path;
    unsigned depth;
};

static void folder_push(struct files_look *look, struct list *folders, const char *path,
                        unsigned depth)
{
    struct folder *folder = ARENA_NEW(&look->arena, struct folder);
    folder->path = path;
    folder->depth = depth;
    list_append(folders, &folder->link);
}

/* What can be told of a name without opening it: a folder is walked, a file listed. */
static void name_sort(const struct files *files, struct files_look *look, const char *path,
                      struct list *folders)
{
    struct stat status;
    const char *whole = arena_printf(&look->arena, "%s/%s", files->folder, path);
    if (lstat(whole, &status) != 0) {
        return; /* gone meanwhile */
    }
    if (S_ISDIR(status.st_mode)) {
        unsigned depth = 1;
        for (const char *c = path; *c != '\0'; c++) {
            depth += *c == '/';
        }
        if (depth <= FILES_DEPTH_MAX) {
            folder_push(look, folders, path, depth);
        } else {
            problem_add(look, path, "folders lie too deep inside each other; 16 are allowed");
        }
        return;
    }
    if (!is_object_file(path)) {
        return;
    }
    /* A link that leads nowhere is read all the same: that fails, and says why. */
    if (stat(whole, &status) == 0 && !S_ISREG(status.st_mode)) {
        problem_add(look, path, "not a file"); /* reading a pipe would never end */
        return;
    }
    name_push(&look->arena, &look->files, &look->file_count, path);
}

/* errno says why. */
static void folder_unread(const struct files *files, struct files_look *look,
                          const struct folder *folder)
{
    struct error err;
    (void)error_errno(&err, "the folder cannot be read, what came from it stays in force");
    problem_add(look, folder->path[0] != '\0' ? folder->path : files->folder, err.text);
    name_push(&look->arena, &look->unread, &look->unread_count, folder->path);
}

static void folder_list(struct files *files, struct files_look *look, const struct folder *folder,
                        struct list *folders)
{
    const char *whole = folder->path[0] == '\0'
                            ? files->folder
                            : arena_printf(&look->arena, "%s/%s", files->folder, folder->path);
    folder_watch(files, whole);
    DIR *open = opendir(whole);
    if (open == NULL) {
        if (errno != ENOENT || folder->path[0] == '\0') {
            folder_unread(files, look, folder);
        }
        return;
    }
    /* NOLINTBEGIN(concurrency-mt-unsafe): nobody else reads this stream */
    for (const struct dirent *entry = readdir(open); entry != NULL; entry = readdir(open)) {
        if (entry->d_name[0] != '.' && look->file_count < FILES_COUNT_MAX) {
            const char *name = arena_text(&look->arena, slice_of_text(entry->d_name));
            name_sort(files, look, path_join(&look->arena, folder->path, name), folders);
        }
    }
    /* NOLINTEND(concurrency-mt-unsafe) */
    (void)closedir(open);
}

static void tree_list(struct files *files, struct files_look *look)
{
    struct list folders;
    list_init(&folders);
    folder_push(look, &folders, "", 0);
    for (struct list *node = list_pop(&folders); node != NULL; node = list_pop(&folders)) {
        folder_list(files, look, CONTAINER_OF(node, struct folder, link), &folders);
    }
    if (look->file_count > 0) {
        qsort(look->files, look->file_count, sizeof(const char *), name_compare);
    }
    if (look->file_count >= FILES_COUNT_MAX) {
        problem_add(look, files->folder, "too many files; 100000 are read");
    }
}

/* ---- reading ---- */

static void text_push(struct files_look *look, struct files_text text)
{
    struct files_text *grown =
        room_for_one(&look->arena, look->texts, look->text_count, sizeof *look->texts);
    look->texts = grown != NULL ? grown : look->texts;
    look->texts[look->text_count++] = text;
}

/* Where each document of the file begins. policy_parse cuts the same text by the same reader. */
static void texts_cut(struct files_look *look, const char *file, struct slice bytes)
{
    struct arena scratch;
    arena_init(&scratch, NULL);
    struct yaml_reader reader;
    yaml_reader_init(&reader, bytes, NULL);
    struct slice before = reader.rest;
    uint32_t line = reader.line;
    struct yaml_node *root = NULL;
    struct error err = {{0}};
    for (enum yaml_read got = yaml_read(&reader, &scratch, &root, &err); got != YAML_READ_END;
         got = yaml_read(&reader, &scratch, &root, &err)) {
        if (got == YAML_READ_DOCUMENT) {
            size_t len = before.len - reader.rest.len;
            text_push(look, (struct files_text){file, line, slice_head(before, len)});
        }
        before = reader.rest;
        line = reader.line;
    }
    arena_fini(&scratch);
}

static void file_look(const struct files *files, struct files_look *look, const char *file)
{
    struct slice bytes = {NULL, 0};
    struct error err = {{0}};
    const char *whole = arena_printf(&look->arena, "%s/%s", files->folder, file);
    if (!file_read(whole, FILES_BYTES_MAX, &look->arena, &bytes, &err)) {
        problem_add(look, file, err.text);
        policy_parse_failed(file, &look->documents);
        return;
    }
    policy_parse(bytes, file, &look->documents, &look->problems);
    texts_cut(look, file, bytes);
}

void files_read(struct files *files, struct files_look *look)
{
    *look = (struct files_look){0};
    arena_init(&look->arena, NULL);
    policy_documents_init(&look->documents);
    policy_problems_init(&look->problems, &look->arena);
    tree_list(files, look);
    for (size_t i = 0; i < look->file_count; i++) {
        file_look(files, look, look->files[i]);
    }
    if ((files->polling || look->unread_count > 0) && files->first_us == 0) {
        timer_set(files->loop, &files->timer, files->loop->now_us + FILES_POLL_US);
    }
}

void files_look_fini(struct files_look *look)
{
    policy_documents_fini(&look->documents);
    arena_fini(&look->arena);
    *look = (struct files_look){0};
}

const struct files_text *files_look_find(const struct files_look *look, const char *file,
                                         uint32_t line)
{
    const struct files_text *found = NULL;
    for (size_t low = 0, high = look->text_count; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct files_text *text = &look->texts[middle];
        int order = strcmp(text->file, file);
        if (order < 0 || (order == 0 && text->line <= line)) {
            found = text;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return found != NULL && strcmp(found->file, file) == 0 ? found : NULL;
}
