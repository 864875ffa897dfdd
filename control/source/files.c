/* Watching is inotify over every folder; each event only says "look again", since the names in
 * events tell nothing that reading does not tell better (a rename over a file, a folder that came
 * with files in it, a queue that overflowed). Files are all read again after a change: it costs
 * milliseconds for a thousand objects and cannot miss anything. */

#include "control/source/files.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
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

static void before_reading(void *owner, const char *folder)
{
    folder_watch(owner, folder);
}

static void problem_add(struct files_look *look, const char *file, const char *text)
{
    struct policy_where where = {file, 0, "", ""};
    policy_problem_add(&look->problems, POLICY_SEVERITY_ERROR, where, "%s", text);
}

static void list_files(struct files *files, struct files_look *look)
{
    look->tree = tree_list(&look->arena, &(struct tree_plan){.root = files->folder,
                                                             .endings = policy_file_endings,
                                                             .before = before_reading,
                                                             .owner = files});
    for (size_t i = 0; i < look->tree.trouble_count; i++) {
        const struct tree_trouble *trouble = &look->tree.troubles[i];
        const char *text =
            trouble->unread
                ? arena_printf(&look->arena, "%s, what came from it stays in force", trouble->text)
                : trouble->text;
        problem_add(look, trouble->path[0] != '\0' ? trouble->path : files->folder, text);
        look->unread_count += trouble->unread;
    }
}

/* ---- reading ---- */

static void text_push(struct files_look *look, struct files_text text)
{
    look->texts = arena_room_for_one(&look->arena, look->texts, look->text_count, sizeof text);
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
    list_files(files, look);
    for (size_t i = 0; i < look->tree.file_count; i++) {
        file_look(files, look, look->tree.files[i]);
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
