#pragma once
/* Log lines: a level, a message that is always the same text, and named values, so that a line can
 * be searched for by machine and read by people:
 *
 *     log_info("listening", LOG_TEXT("address", text), LOG_U64("port", port));
 *     log_limited(LOG_LEVEL_WARNING, "peer sent a malformed head", LOG_SLICE("peer", peer));
 *
 *     2026-11-20T14:15:53.123456Z info listening address=127.0.0.1 port=15001
 *     {"time":"2026-11-20T14:15:53.123456Z","level":"info","message":"listening","port":15001}
 *
 * A line is built on the stack, of at most LOG_LINE_MAX bytes, and goes out in one write(2). It
 * allocates nothing and never waits for the reader of the log: what the reader does not take is
 * dropped and counted. Payload never goes into a line. Lines that a peer can cause are limited.
 *
 * One log a process. log_open comes before threads; all else from any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

#define LOG_LINE_MAX         4096 /* PIPE_BUF: what a pipe takes in one piece or not at all */
#define LOG_LIMIT_PER_SECOND 5    /* lines of one message through log_limited */

#define LOG_LEVELS(X)                                                                              \
    X(ERROR, "error", "something is broken and needs a person")                                    \
    X(WARNING, "warning", "something was refused or given up, service goes on")                    \
    X(INFO, "info", "start, stop, configuration taken")                                            \
    X(DEBUG, "debug", "what happens on each connection and request")

enum log_level {
#define LOG_LEVEL_ENUM(name, text, meaning) LOG_LEVEL_##name,
    LOG_LEVELS(LOG_LEVEL_ENUM)
#undef LOG_LEVEL_ENUM
};

enum log_format {
    LOG_FORMAT_TEXT,
    LOG_FORMAT_JSON,
};

/* Takes one whole line, its line feed included; must not log. */
typedef void log_sink(void *owner, struct slice line);
/* Microseconds since 1970; the simulator's own time, for one. */
typedef uint64_t log_clock(void *owner);

struct log_config {
    enum log_level level;
    enum log_format format;
    int fd;          /* where lines go without a sink: 2 for stderr */
    log_sink *sink;  /* may be null */
    log_clock *wall; /* null: the kernel's */
    void *owner;     /* for sink and wall */
};

/* Without it: text, level info, to stderr. What log_limited counts begins anew. */
void log_open(const struct log_config *config);

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
/* False when the text names no level. */
bool log_level_parse(struct slice text, enum log_level *level) MUST_USE;

/* Lines that the reader did not take, since the start. */
uint64_t log_dropped(void);
/* Lines that log_limited held back, since the start. */
uint64_t log_held_back(void);

enum log_value {
    LOG_VALUE_NONE, /* ends the list */
    LOG_VALUE_TEXT,
    LOG_VALUE_SLICE,
    LOG_VALUE_U64,
    LOG_VALUE_I64,
    LOG_VALUE_BOOL,
};

struct log_field {
    const char *name; /* a plain identifier, no escape needed */
    enum log_value kind;
    union {
        const char *text; /* null is written as null */
        struct slice slice;
        uint64_t u64;
        int64_t i64;
        bool boolean;
    };
};

/* clang-format off */
#define LOG_TEXT(field, value)  {.name = (field), .kind = LOG_VALUE_TEXT, .text = (value)}
#define LOG_SLICE(field, value) {.name = (field), .kind = LOG_VALUE_SLICE, .slice = (value)}
#define LOG_U64(field, value)   {.name = (field), .kind = LOG_VALUE_U64, .u64 = (value)}
#define LOG_I64(field, value)   {.name = (field), .kind = LOG_VALUE_I64, .i64 = (value)}
#define LOG_BOOL(field, value)  {.name = (field), .kind = LOG_VALUE_BOOL, .boolean = (value)}
/* The text of a struct error. */
#define LOG_CAUSE(err)          LOG_TEXT("error", (err)->text)
#define LOG_NO_FIELD            {.name = NULL, .kind = LOG_VALUE_NONE}
/* clang-format on */

/* True when a line of the level would be written. */
bool log_wants(enum log_level level);
/* `message`: text that never changes, no values in it. `fields` ends with LOG_NO_FIELD. */
void log_write(enum log_level level, const char *message, const struct log_field *fields);
/* As log_write, but at most LOG_LIMIT_PER_SECOND lines of this message (told apart by its address)
 * in a second; the first line after a pause says how many were held back. */
void log_write_limited(enum log_level level, const char *message, const struct log_field *fields);

#define LOG_LINE(write, level, message, ...)                                                       \
    do {                                                                                           \
        if (log_wants(level)) {                                                                    \
            write((level), (message), (const struct log_field[]){__VA_ARGS__});                    \
        }                                                                                          \
    } while (0)

/* Message, then fields. */
#define log_error(...)   LOG_LINE(log_write, LOG_LEVEL_ERROR, __VA_ARGS__, LOG_NO_FIELD)
#define log_warning(...) LOG_LINE(log_write, LOG_LEVEL_WARNING, __VA_ARGS__, LOG_NO_FIELD)
#define log_info(...)    LOG_LINE(log_write, LOG_LEVEL_INFO, __VA_ARGS__, LOG_NO_FIELD)
#define log_debug(...)   LOG_LINE(log_write, LOG_LEVEL_DEBUG, __VA_ARGS__, LOG_NO_FIELD)
/* Level, message, then fields. */
#define log_limited(...)             LOG_LIMITED_LINE(__VA_ARGS__, LOG_NO_FIELD)
#define LOG_LIMITED_LINE(level, ...) LOG_LINE(log_write_limited, level, __VA_ARGS__)
