#include "base/append.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

struct append {
    int fd;
    bool regular;
};

struct append *append_open(const char *path, struct error *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
    if (fd < 0) {
        (void)error_errno(err, "%s", path);
        return NULL;
    }
    struct stat about;
    struct append *append = NEW(struct append);
    append->fd = fd;
    append->regular = fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
    return append;
}

void append_close(struct append **append)
{
    if (*append != NULL) {
        (void)close((*append)->fd);
        FREE(*append);
    }
}

/* The longest run of whole lines within `max` bytes; the first line, where even that is longer. */
static struct slice whole_lines(struct slice lines, size_t max)
{
    if (lines.len <= max) {
        return lines;
    }
    for (size_t len = max; len > 0; len--) {
        if (lines.at[len - 1] == '\n') {
            return slice_head(lines, len);
        }
    }
    return slice_head(lines, slice_find(lines, '\n') + 1);
}

size_t append_lines(struct append *append, struct slice lines)
{
    size_t taken = 0;
    while (taken < lines.len) {
        struct slice part = slice_from(lines, taken);
        part = append->regular ? part : whole_lines(part, PIPE_BUF);
        ssize_t written = write(append->fd, part.at, part.len);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            break;
        }
        taken += (size_t)written;
        if ((size_t)written < part.len) {
            struct slice rest = slice_from(part, (size_t)written);
            size_t end = slice_find(rest, '\n');
            taken += part.at[written - 1] == '\n' ? 0 : end < rest.len ? end + 1 : rest.len;
            break;
        }
    }
    return taken;
}
