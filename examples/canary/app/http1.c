#include "examples/canary/app/http1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

size_t http1_head_size(const char *text, size_t len)
{
    const char *end = memmem(text, len, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - text) + 4;
}

bool http1_header(const char *head, size_t head_len, const char *name, char *value, size_t size)
{
    const char *end = head + head_len;
    size_t name_len = strlen(name);
    const char *line = memmem(head, head_len, "\r\n", 2);
    while (line != NULL && (line += 2) < end) {
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (stop == NULL) {
            return false;
        }
        if ((size_t)(stop - line) > name_len && line[name_len] == ':' &&
            strncasecmp(line, name, name_len) == 0) {
            const char *begin = line + name_len + 1;
            while (begin < stop && (*begin == ' ' || *begin == '\t')) {
                begin++;
            }
            size_t len = (size_t)(stop - begin) < size - 1 ? (size_t)(stop - begin) : size - 1;
            memcpy(value, begin, len);
            value[len] = '\0';
            return true;
        }
        line = stop;
    }
    return false;
}

bool http1_body_size(const char *head, size_t head_len, size_t *bytes)
{
    char text[24];
    *bytes = 0;
    if (http1_header(head, head_len, "transfer-encoding", text, sizeof text) ||
        !http1_header(head, head_len, "content-length", text, sizeof text)) {
        return false;
    }
    char *end = NULL;
    errno = 0;
    *bytes = strtoul(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}
