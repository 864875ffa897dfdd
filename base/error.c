#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Behind `used` bytes of text: ": rest", cut where it does not fit. */
static void append(struct error *err, int used, const char *rest)
{
    int wanted = used;
    if (used >= 0 && used < ERROR_TEXT_MAX && rest != NULL) {
        wanted += snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s", rest);
    }
    if (wanted >= ERROR_TEXT_MAX) {
        (void)memcpy(err->text + ERROR_TEXT_MAX - 4, "...", 4);
    }
}

bool error_set(struct error *err, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        append(err, vsnprintf(err->text, sizeof err->text, format, args), NULL);
        va_end(args);
    }
    return false;
}

bool error_wrap(struct error *err, const char *format, ...)
{
    if (err != NULL) {
        char inner[ERROR_TEXT_MAX];
        (void)memcpy(inner, err->text, sizeof inner);
        va_list args;
        va_start(args, format);
        append(err, vsnprintf(err->text, sizeof err->text, format, args), inner);
        va_end(args);
    }
    return false;
}

bool error_errno(struct error *err, const char *format, ...)
{
    int number = errno;
    if (err != NULL) {
        char reason[128];
        va_list args;
        va_start(args, format);
        append(err, vsnprintf(err->text, sizeof err->text, format, args),
               strerror_r(number, reason, sizeof reason));
        va_end(args);
    }
    return false;
}
