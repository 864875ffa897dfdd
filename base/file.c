#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_all(int fd, uint8_t *into, size_t len, size_t *got)
{
    *got = 0;
    while (*got < len) {
        ssize_t part = read(fd, into + *got, len - *got);
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part < 0) {
            return false;
        }
        if (part == 0) {
            return true;
        }
        *got += (size_t)part;
    }
    return true;
}

static bool read_open(int fd, const char *path, size_t max, struct arena *arena,
                      struct slice *bytes, struct error *err)
{
    struct stat about;
    if (fstat(fd, &about) != 0) {
        return error_errno(err, "%s", path);
    }
    if (S_ISDIR(about.st_mode)) {
        return error_set(err, "%s: is a directory", path);
    }
    /* A pipe says 0: then the most is read. A file may grow under us: no more than it had is taken.
     */
    size_t len = S_ISREG(about.st_mode) ? (size_t)about.st_size : max;
    if (len > max) {
        return error_set(err, "%s: larger than %zu bytes", path, max);
    }
    uint8_t *text = arena_bytes(arena, len + 1);
    size_t got;
    if (!read_all(fd, text, len, &got)) {
        return error_errno(err, "%s", path);
    }
    text[got] = 0;
    *bytes = slice_of(text, got);
    return true;
}

bool file_read(const char *path, size_t max, struct arena *arena, struct slice *bytes,
               struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_errno(err, "%s", path);
    }
    bool read = read_open(fd, path, max, arena, bytes, err);
    (void)close(fd);
    return read;
}
