/* The log is the one thing that every layer reaches for, so it is the process's, not a parameter of
 * each function: the state below is set before threads start, and what changes later is atomic.
 *
 * A pipe whose reader stalls must not stall the mesh. Making stderr non-blocking was refused: the
 * flag belongs to the open file, which the shell and other processes share. Instead the line waits
 * for nothing: poll says whether there is room now (for a pipe: for one line in one piece), and a
 * mutex keeps a second thread from taking that room in between. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"

#define LIMIT_SITES  64U
#define LIMIT_PERIOD 1000000U /* microseconds */

/* How often one message was written in its current second. */
struct limit_site {
    _Atomic uintptr_t message; /* whose entry this is; 0: free */
    _Atomic uint64_t began_us;
    _Atomic uint32_t written;
    _Atomic uint32_t held;
};

static struct log_config config = {.level = LOG_LEVEL_INFO, .fd = STDERR_FILENO};
static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic uint64_t dropped;
static _Atomic uint64_t held_back;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static struct limit_site sites[LIMIT_SITES];

void log_open(const struct log_config *wanted)
{
    config = *wanted;
    log_set_level(wanted->level);
    for (size_t i = 0; i < LIMIT_SITES; i++) {
        atomic_store_explicit(&sites[i].began_us, 0, memory_order_relaxed);
    }
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

bool log_wants(enum log_level level)
{
    return level <= log_get_level();
}

const char *log_level_name(enum log_level level)
{
    static const char *const names[] = {
#define LOG_LEVEL_NAME(name, text, meaning) text,
        LOG_LEVELS(LOG_LEVEL_NAME)
#undef LOG_LEVEL_NAME
    };
    CHECK((size_t)level < COUNT_OF(names));
    return names[level];
}

bool log_level_parse(struct slice text, enum log_level *level)
{
    for (int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
        if (slice_eq(text, slice_of_text(log_level_name((enum log_level)i)))) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&dropped, memory_order_relaxed);
}

uint64_t log_held_back(void)
{
    return atomic_load_explicit(&held_back, memory_order_relaxed);
}

/* ---- a line ---- */

/* The end of every line fits always: room for it is kept aside. */
#define TAIL_JSON     ",\"cut\":true}\n"
#define TAIL_TEXT     " cut=true\n"
#define TAIL_RESERVED sizeof TAIL_JSON

struct line {
    size_t len;
    bool cut; /* something did not fit */
    char bytes[LOG_LINE_MAX];
};

static size_t room(const struct line *line)
{
    return LOG_LINE_MAX - TAIL_RESERVED - line->len;
}

/* All of the text or nothing. */
static void put(struct line *line, const char *text)
{
    size_t len = strlen(text);
    if (len > room(line)) {
        line->cut = true;
        return;
    }
    (void)memcpy(line->bytes + line->len, text, len);
    line->len += len;
}

/* A quoted JSON string; a value that is too long loses its end, never its closing quote. */
static void put_quoted(struct line *line, struct slice text)
{
    if (room(line) < 2) {
        line->cut = true;
        return;
    }
    line->bytes[line->len++] = '"';
    struct span rest = {(uint8_t *)line->bytes + line->len, room(line) - 1};
    line->len += json_escape(rest, text);
    line->bytes[line->len++] = '"';
    /* It stops before the character that does not fit, the longest of which is six bytes. */
    line->cut = line->cut || room(line) < 6;
}

/* Text that needs no quotes in the text format. */
static bool is_bare(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] <= ' ' || text.at[i] >= 0x7F || strchr("\"=\\", text.at[i]) != NULL) {
            return false;
        }
    }
    return text.len > 0;
}

static void put_string(struct line *line, struct slice text)
{
    if (config.format == LOG_FORMAT_TEXT && is_bare(text) && text.len <= room(line)) {
        (void)memcpy(line->bytes + line->len, text.at, text.len);
        line->len += text.len;
        return;
    }
    put_quoted(line, text);
}

static void put_value(struct line *line, const struct log_field *field)
{
    char number[24];
    switch (field->kind) {
    case LOG_VALUE_NONE:
        break;
    case LOG_VALUE_TEXT:
        if (field->text == NULL) {
            put(line, "null");
        } else {
            put_string(line, slice_of_text(field->text));
        }
        break;
    case LOG_VALUE_SLICE:
        put_string(line, field->slice);
        break;
    case LOG_VALUE_U64:
        (void)snprintf(number, sizeof number, "%" PRIu64, field->u64);
        put(line, number);
        break;
    case LOG_VALUE_I64:
        (void)snprintf(number, sizeof number, "%" PRId64, field->i64);
        put(line, number);
        break;
    case LOG_VALUE_BOOL:
        put(line, field->boolean ? "true" : "false");
        break;
    }
}

/* A field is there whole (a long text may lose its end) or not at all. */
static void put_field(struct line *line, const struct log_field *field)
{
    bool json = config.format == LOG_FORMAT_JSON;
    if (room(line) < strlen(field->name) + 32) {
        line->cut = true;
        return;
    }
    put(line, json ? ",\"" : " ");
    put(line, field->name);
    put(line, json ? "\":" : "=");
    put_value(line, field);
}

static void put_head(struct line *line, enum log_level level, const char *message)
{
    char time[CLOCK_TEXT_BYTES];
    clock_text(config.wall != NULL ? config.wall(config.owner) : clock_wall_us(), time);
    bool json = config.format == LOG_FORMAT_JSON;
    put(line, json ? "{\"time\":\"" : "");
    put(line, time);
    put(line, json ? "\",\"level\":\"" : " ");
    put(line, log_level_name(level));
    put(line, json ? "\",\"message\":" : " ");
    if (json) {
        put_quoted(line, slice_of_text(message));
    } else {
        put(line, message);
    }
}

static void put_tail(struct line *line)
{
    bool json = config.format == LOG_FORMAT_JSON;
    const char *tail = json ? "}\n" : "\n";
    if (line->cut) {
        tail = json ? TAIL_JSON : TAIL_TEXT;
    }
    size_t len = strlen(tail);
    CHECK(len <= sizeof line->bytes - line->len);
    (void)memcpy(line->bytes + line->len, tail, len);
    line->len += len;
}

/* ---- where it goes ---- */

/* One write, or none where the reader is not ready. */
static bool send_line(const struct line *line)
{
    struct pollfd ready = {.fd = config.fd, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) {
        return false;
    }
    ssize_t written = write(config.fd, line->bytes, line->len);
    for (int i = 0; i < 8 && written < 0 && errno == EINTR; i++) {
        written = write(config.fd, line->bytes, line->len);
    }
    return written == (ssize_t)line->len;
}

static void emit(enum log_level level, const char *message, const struct log_field *fields,
                 const struct log_field *extra)
{
    struct line line;
    line.len = 0;
    line.cut = false;
    put_head(&line, level, message);
    for (const struct log_field *field = fields; field->kind != LOG_VALUE_NONE; field++) {
        put_field(&line, field);
    }
    if (extra != NULL) {
        put_field(&line, extra);
    }
    put_tail(&line);
    if (config.sink != NULL) {
        config.sink(config.owner, slice_of(line.bytes, line.len));
        return;
    }
    int saved = errno;
    CHECK(pthread_mutex_lock(&writing) == 0);
    bool sent = send_line(&line);
    CHECK(pthread_mutex_unlock(&writing) == 0);
    errno = saved;
    if (!sent) {
        (void)atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
    }
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    emit(level, message, fields, NULL);
}

/* ---- limits ---- */

/* The entry of a message; when all are taken, those without one share the last. */
static struct limit_site *find_site(const char *message)
{
    uintptr_t key = (uintptr_t)message;
    size_t start = (size_t)((key >> 3) * 0x9E3779B97F4A7C15U >> 32) % LIMIT_SITES;
    for (size_t i = 0; i < LIMIT_SITES; i++) {
        struct limit_site *site = &sites[(start + i) % LIMIT_SITES];
        uintptr_t owner = atomic_load_explicit(&site->message, memory_order_relaxed);
        if (owner == 0) {
            (void)atomic_compare_exchange_strong_explicit(
                &site->message, &owner, key, memory_order_relaxed, memory_order_relaxed);
            owner = atomic_load_explicit(&site->message, memory_order_relaxed);
        }
        if (owner == key) {
            return site;
        }
    }
    return &sites[LIMIT_SITES - 1];
}

void log_write_limited(enum log_level level, const char *message, const struct log_field *fields)
{
    struct limit_site *site = find_site(message);
    uint64_t now = config.wall != NULL ? config.wall(config.owner) : clock_monotonic_us();
    uint64_t began = atomic_load_explicit(&site->began_us, memory_order_relaxed);
    uint32_t held = 0;
    /* now < began: a clock of tests went back. Two threads may both begin the second: the limit is
     * a few lines off then, never a lock. */
    if (began == 0 || now - began >= LIMIT_PERIOD || now < began) {
        atomic_store_explicit(&site->began_us, now > 0 ? now : 1, memory_order_relaxed);
        atomic_store_explicit(&site->written, 0, memory_order_relaxed);
        held = atomic_exchange_explicit(&site->held, 0, memory_order_relaxed);
    }
    if (atomic_fetch_add_explicit(&site->written, 1, memory_order_relaxed) >=
        LOG_LIMIT_PER_SECOND) {
        (void)atomic_fetch_add_explicit(&site->held, 1, memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&held_back, 1, memory_order_relaxed);
        return;
    }
    struct log_field extra = LOG_U64("held_back", held);
    emit(level, message, fields, held > 0 ? &extra : NULL);
}
