/* A JSON format becomes a row of parts too: its own punctuation as literals, and a part for each
 * operator, which knows whether it stands alone (then numbers stay numbers, and nothing is null) or
 * inside a string (then it is escaped). */
#include "sidecar/observe/access_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/append.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "sidecar/observe/stats.h"

#define PARTS_MAX   256U
#define LINE_BYTES  8192U
#define BATCH_BYTES (64U * 1024)
#define AGAIN_US    UINT64_C(1000000)

/* ---- compiling ---- */

enum place {
    PLACE_TEXT,   /* as it is; "-" where there is nothing */
    PLACE_INSIDE, /* of a JSON string: escaped; "-" where there is nothing */
    PLACE_ALONE   /* a JSON value of its own; null where there is nothing */
};

struct part {
    uint8_t operator;   /* enum access_operator */
    uint8_t place;      /* enum place */
    uint32_t max;       /* bytes; 0: all */
    struct slice text;  /* LITERAL: the text; else the field's name */
    struct slice other; /* the field to take where the first is absent; empty: none */
};

struct access_format {
    struct part *parts;
    uint32_t count;
    bool json;
};

static const struct {
    const char *name;
    bool field;
} operators[ACCESS_OPERATOR_COUNT] = {
#define NONE                           false
#define FIELD                          true
#define X(id, text, argument, meaning) [ACCESS_##id] = {(text), argument},
    ACCESS_OPERATORS(X)
#undef X
#undef NONE
#undef FIELD
};

#define DEFAULT_TEXT                                                                               \
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "             \
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "                   \
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "                    \
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"

struct compiling {
    struct arena *arena;
    struct access_format *format;
    struct error *err;
};

static struct part *add_part(struct compiling *c, enum access_operator op, enum place place)
{
    struct access_format *format = c->format;
    if (format->count == PARTS_MAX) {
        (void)error_set(c->err, "more than %u parts", PARTS_MAX);
        return NULL;
    }
    struct part *part = &format->parts[format->count++];
    *part = (struct part){.operator=(uint8_t) op, .place = (uint8_t)place};
    return part;
}

static bool add_literal(struct compiling *c, struct slice text)
{
    if (text.len == 0) {
        return true;
    }
    struct part *part = add_part(c, ACCESS_LITERAL, PLACE_TEXT);
    if (part == NULL) {
        return false;
    }
    part->text = arena_dup(c->arena, text);
    return true;
}

static struct slice lower(struct arena *arena, struct slice name)
{
    uint8_t *to = arena_bytes(arena, name.len + 1);
    for (size_t i = 0; i < name.len; i++) {
        to[i] = slice_lower(name.at[i]);
    }
    return slice_of(to, name.len);
}

/* NAME, NAME(ARGUMENT), each perhaps with :LENGTH behind. */
static bool add_operator(struct compiling *c, struct slice text, enum place place)
{
    size_t open = slice_find(text, '(');
    struct slice name = slice_head(text, open);
    struct slice argument = {NULL, 0};
    struct slice rest = {NULL, 0};
    if (open < text.len) {
        size_t close = slice_find(text, ')');
        if (close == text.len || close < open) {
            return error_set(c->err, "%%%.*s%%: no closing parenthesis", SLICE_ARG(text));
        }
        argument = slice_of(text.at + open + 1, close - open - 1);
        rest = slice_from(text, close + 1);
    } else {
        size_t colon = slice_find(name, ':');
        rest = slice_from(name, colon);
        name = slice_head(name, colon);
    }
    uint64_t max = 0;
    if (rest.len > 0 && (rest.at[0] != ':' || !slice_to_u64(slice_from(rest, 1), 65536, &max))) {
        return error_set(c->err, "%%%.*s%%: a length is wanted behind the colon", SLICE_ARG(text));
    }
    for (unsigned i = 0; i < ACCESS_OPERATOR_COUNT; i++) {
        if (!slice_eq(name, slice_of_text(operators[i].name))) {
            continue;
        }
        if (operators[i].field != (argument.len > 0)) {
            return error_set(c->err, "%%%.*s%%: %s", SLICE_ARG(text),
                             operators[i].field ? "a field's name is wanted" : "takes no argument");
        }
        struct part *part = add_part(c, (enum access_operator)i, place);
        if (part == NULL) {
            return false;
        }
        part->max = (uint32_t)max;
        part->text = lower(c->arena, slice_cut(&argument, '?'));
        part->other = lower(c->arena, argument);
        return true;
    }
    return error_set(c->err, "%%%.*s%%: no such operator", SLICE_ARG(name));
}

/* Up to the closing '%', which an argument may not hold. */
static bool add_text(struct compiling *c, struct slice text, enum place place)
{
    while (text.len > 0) {
        size_t at = slice_find(text, '%');
        if (!add_literal(c, slice_head(text, at))) {
            return false;
        }
        if (at == text.len) {
            return true;
        }
        text = slice_from(text, at + 1);
        size_t end = slice_find(text, '%');
        if (end == text.len) {
            return error_set(c->err, "a percent sign without its second");
        }
        if (!(end == 0 ? add_literal(c, SLICE("%"))
                       : add_operator(c, slice_head(text, end), place))) {
            return false;
        }
        text = slice_from(text, end + 1);
    }
    return true;
}

static struct access_format *new_format(struct arena *arena, bool json)
{
    struct access_format *format = ARENA_NEW(arena, struct access_format);
    format->parts = ARENA_ARRAY(arena, struct part, PARTS_MAX);
    format->json = json;
    return format;
}

const struct access_format *access_format_compile(struct arena *arena, struct slice text,
                                                  struct error *err)
{
    struct compiling c = {.arena = arena, .format = new_format(arena, false), .err = err};
    struct slice used = text.len > 0 ? text : SLICE(DEFAULT_TEXT);
    return add_text(&c, used, PLACE_TEXT) ? c.format : NULL;
}

/* ---- compiling JSON ---- */

/* The text as it stands in a JSON string. */
static struct slice escaped(struct arena *arena, struct slice text)
{
    struct span room = {arena_bytes(arena, text.len * 6 + 1), text.len * 6 + 1};
    return slice_of(room.at, json_escape(room, text));
}

static bool stands_alone(struct slice text)
{
    return text.len > 2 && text.at[0] == '%' &&
           slice_find(slice_from(text, 1), '%') == text.len - 2;
}

static bool add_json(struct compiling *c, const json_t *value);

static bool add_json_string(struct compiling *c, struct slice text)
{
    if (stands_alone(text)) {
        return add_operator(c, slice_of(text.at + 1, text.len - 2), PLACE_ALONE);
    }
    return add_literal(c, SLICE("\"")) && add_text(c, escaped(c->arena, text), PLACE_INSIDE) &&
           add_literal(c, SLICE("\""));
}

/* As deep as the parser let it be. */
static bool add_json_object(struct compiling *c,
                            const json_t *object) /* NOLINT(misc-no-recursion) */
{
    const char *key;
    json_t *member;
    const char *before = "{";
    json_object_foreach((json_t *)(uintptr_t)object, key, member)
    {
        struct slice name = escaped(c->arena, slice_of_text(key));
        char *text = arena_printf(c->arena, "%s\"%.*s\":", before, SLICE_ARG(name));
        if (!add_literal(c, slice_of_text(text)) || !add_json(c, member)) {
            return false;
        }
        before = ",";
    }
    return add_literal(c, before[0] == '{' ? SLICE("{}") : SLICE("}"));
}

static bool add_json(struct compiling *c, const json_t *value) /* NOLINT(misc-no-recursion) */
{
    if (json_is_object(value)) {
        return add_json_object(c, value);
    }
    if (json_is_string(value)) {
        return add_json_string(c, json_slice(value));
    }
    if (json_is_array(value)) {
        return error_set(c->err, "a list is not supported");
    }
    return add_literal(c, json_text(c->arena, value, false));
}

const struct access_format *access_format_compile_json(struct arena *arena, struct slice object,
                                                       struct error *err)
{
    struct json_limits limits = {.bytes = 65536, .depth = 8};
    json_t *value = json_parse(object, &limits, err);
    if (value == NULL) {
        return NULL;
    }
    struct compiling c = {.arena = arena, .format = new_format(arena, true), .err = err};
    bool good = add_json(&c, value) && add_literal(&c, SLICE("\n"));
    json_decref(value);
    return good ? c.format : NULL;
}

/* ---- writing ---- */

struct line {
    struct span to; /* what is left of it */
    size_t len;
};

static void put(struct line *line, struct slice text)
{
    size_t len = text.len < line->to.len ? text.len : line->to.len;
    if (len > 0) {
        (void)memcpy(line->to.at, text.at, len);
    }
    line->to.at += len;
    line->to.len -= len;
    line->len += len;
}

static void put_escaped(struct line *line, struct slice text)
{
    size_t len = json_escape(line->to, text);
    line->to.at += len;
    line->to.len -= len;
    line->len += len;
}

/* A value, in `scratch` where it has to be made. A null pointer: there is none. */
struct value {
    struct slice text;
    bool number;
    char scratch[ADDR_TEXT_MAX + 8];
};

static void set_number(struct value *value, uint64_t number)
{
    (void)snprintf(value->scratch, sizeof value->scratch, "%" PRIu64, number);
    value->text = slice_of_text(value->scratch);
    value->number = true;
}

static void set_text(struct value *value, struct slice text)
{
    value->text = text.len > 0 ? text : (struct slice){NULL, 0};
}

static void set_addr(struct value *value, const struct addr *addr, bool port)
{
    if (addr != NULL && addr->family != ADDR_NONE) {
        (void)(port ? addr_format(addr, value->scratch) : addr_format_ip(addr, value->scratch));
        value->text = slice_of_text(value->scratch);
    }
}

static struct slice request_field(const struct access_facts *facts, struct slice name)
{
    const struct message *request = facts->request;
    if (request == NULL) {
        return (struct slice){NULL, 0};
    }
    if (name.len > 0 && name.at[0] == ':') {
        return slice_eq(name, SLICE(":path"))        ? request->path
               : slice_eq(name, SLICE(":method"))    ? request->method
               : slice_eq(name, SLICE(":authority")) ? request->authority
               : slice_eq(name, SLICE(":scheme"))    ? request->scheme
                                                     : (struct slice){NULL, 0};
    }
    if (slice_eq(name, SLICE("x-envoy-original-path"))) {
        bool rewritten = !slice_eq(facts->original_path, request->path);
        return rewritten ? facts->original_path : (struct slice){NULL, 0};
    }
    const struct header *field = headers_find_name(&request->headers, name);
    return field != NULL ? field->value : (struct slice){NULL, 0};
}

static struct slice either_request_field(const struct access_facts *facts, const struct part *part)
{
    struct slice first = request_field(facts, part->text);
    return first.len > 0 || part->other.len == 0 ? first : request_field(facts, part->other);
}

static void set_field(struct value *value, const struct message *message, const struct part *part)
{
    const struct header *field = NULL;
    if (message != NULL) {
        field = headers_find_name(&message->headers, part->text);
        if (field == NULL && part->other.len > 0) {
            field = headers_find_name(&message->headers, part->other);
        }
    }
    set_text(value, field != NULL ? field->value : (struct slice){NULL, 0});
}

static void set_protocol(struct value *value, const struct message *request)
{
    static const char *const names[] = {"HTTP/1.0", "HTTP/1.1", "HTTP/2"};
    if (request != NULL) {
        value->text = slice_of_text(names[request->version]);
    }
}

static void set_time(struct value *value, uint64_t wall_us)
{
    char text[CLOCK_TEXT_BYTES];
    clock_text(wall_us, text);
    /* Envoy's default has milliseconds. */
    (void)snprintf(value->scratch, sizeof value->scratch, "%.23sZ", text);
    value->text = slice_of_text(value->scratch);
}

/* A table in disguise: one line an operator. */
static void evaluate(const struct part *part, const struct access_facts *facts, struct value *value)
{
    struct slice text;
    switch ((enum access_operator)part->operator) {
    case ACCESS_START_TIME:
        set_time(value, facts->start_wall_us);
        break;
    case ACCESS_REQ:
        set_text(value, either_request_field(facts, part));
        break;
    case ACCESS_REQ_PLAIN:
        text = either_request_field(facts, part);
        set_text(value, slice_head(text, slice_find(text, '?')));
        break;
    case ACCESS_RESP:
        if (slice_eq(part->text, SLICE(":status"))) {
            set_number(value, facts->status);
        } else {
            set_field(value, facts->answer, part);
        }
        break;
    case ACCESS_TRAILER:
        set_field(value, facts->trailers, part);
        break;
    case ACCESS_PROTOCOL:
        set_protocol(value, facts->request);
        break;
    case ACCESS_RESPONSE_CODE:
        set_number(value, facts->status);
        break;
    case ACCESS_RESPONSE_CODE_DETAILS:
        set_text(value, facts->details);
        break;
    case ACCESS_RESPONSE_FLAGS:
        set_text(value, slice_of_text(facts->flags));
        break;
    case ACCESS_GRPC_STATUS:
        if (facts->grpc >= 0) {
            set_number(value, (uint64_t)facts->grpc);
        }
        break;
    case ACCESS_TRANSPORT_FAILURE:
        set_text(value, facts->transport_failure);
        break;
    case ACCESS_BYTES_RECEIVED:
        set_number(value, facts->bytes_received);
        break;
    case ACCESS_BYTES_SENT:
        set_number(value, facts->bytes_sent);
        break;
    case ACCESS_DURATION:
        set_number(value, facts->duration_us / 1000);
        break;
    case ACCESS_RESPONSE_DURATION:
        if (facts->response_us > 0) {
            set_number(value, facts->response_us / 1000);
        }
        break;
    case ACCESS_UPSTREAM_HOST:
        set_addr(value, facts->upstream, true);
        break;
    case ACCESS_UPSTREAM_CLUSTER:
        set_text(value, facts->cluster_stat);
        break;
    case ACCESS_UPSTREAM_CLUSTER_RAW:
        set_text(value, facts->cluster);
        break;
    case ACCESS_ATTEMPTS:
        set_number(value, facts->attempts);
        break;
    case ACCESS_ROUTE_NAME:
        set_text(value, facts->route);
        break;
    case ACCESS_CLIENT:
    case ACCESS_CLIENT_DIRECT:
        set_addr(value, facts->client, true);
        break;
    case ACCESS_CLIENT_IP:
        set_addr(value, facts->client, false);
        break;
    case ACCESS_LOCAL:
        set_addr(value, facts->local, true);
        break;
    case ACCESS_LOCAL_IP:
        set_addr(value, facts->local, false);
        break;
    case ACCESS_CLIENT_URI:
        set_text(value, facts->client_identity);
        break;
    case ACCESS_OBJECT:
        set_text(value, facts->object);
        break;
    case ACCESS_TERMINATION:
    case ACCESS_UPSTREAM_LOCAL:
    case ACCESS_SNI:
    case ACCESS_LITERAL:
        break;
    }
}

static void put_part(struct line *line, const struct part *part, const struct access_facts *facts)
{
    if (part->operator== ACCESS_LITERAL) {
        put(line, part->text);
        return;
    }
    struct value value = {.number = false};
    evaluate(part, facts, &value);
    struct slice text = part->max > 0 ? slice_head(value.text, part->max) : value.text;
    if (part->place == PLACE_ALONE && text.at == NULL) {
        put(line, SLICE("null"));
    } else if (part->place == PLACE_ALONE && !value.number) {
        put(line, SLICE("\""));
        put_escaped(line, text);
        put(line, SLICE("\""));
    } else if (text.at == NULL) {
        put(line, SLICE("-"));
    } else if (part->place == PLACE_INSIDE) {
        put_escaped(line, text);
    } else {
        put(line, text);
    }
}

size_t access_format_write(const struct access_format *format, const struct access_facts *facts,
                           struct span to)
{
    CHECK(to.len >= 2);
    struct line line = {.to = {to.at, to.len - 1}};
    for (uint32_t i = 0; i < format->count; i++) {
        put_part(&line, &format->parts[i], facts);
    }
    if (line.len == 0 || to.at[line.len - 1] != '\n') {
        to.at[line.len++] = '\n';
    }
    return line.len;
}

/* ---- files ---- */

struct file {
    struct list link; /* in access_logs->files */
    char *path;
    struct append *append; /* null: not open */
    uint64_t try_at_us;    /* not before, where it is not open */
    size_t len;
    uint8_t bytes[BATCH_BYTES];
};

struct access_logs {
    struct loop *loop;
    struct stats_worker *stats;
    struct list files;
    struct task flush;
};

static void lose(struct access_logs *logs, struct slice lines)
{
    uint64_t count = 0;
    for (size_t i = 0; i < lines.len; i++) {
        count += lines.at[i] == '\n';
    }
    stats_count(logs->stats, STAT_LOG_DROPPED, count);
}

static bool open_file(const struct access_logs *logs, struct file *file)
{
    struct error err = {.text = ""};
    if (file->append != NULL) {
        return true;
    }
    if (logs->loop->now_us < file->try_at_us) {
        return false;
    }
    file->try_at_us = logs->loop->now_us + AGAIN_US;
    file->append = append_open(file->path, &err);
    if (file->append == NULL) {
        log_limited(LOG_LEVEL_ERROR, "access log cannot be opened", LOG_CAUSE(&err));
    }
    return file->append != NULL;
}

static void flush_file(struct access_logs *logs, struct file *file)
{
    struct slice lines = slice_of(file->bytes, file->len);
    size_t taken = open_file(logs, file) ? append_lines(file->append, lines) : 0;
    if (taken < lines.len) {
        lose(logs, slice_from(lines, taken));
    }
    file->len = 0;
}

static void run_flush(struct task *task)
{
    struct access_logs *logs = CONTAINER_OF(task, struct access_logs, flush);
    LIST_EACH(&logs->files, node)
    {
        struct file *file = LIST_ITEM(node, struct file, link);
        if (file->len > 0) {
            flush_file(logs, file);
        }
    }
}

struct access_logs *access_logs_new(struct loop *loop, struct stats_worker *stats)
{
    struct access_logs *logs = NEW(struct access_logs);
    logs->loop = loop;
    logs->stats = stats;
    logs->flush.run = run_flush;
    list_init(&logs->files);
    return logs;
}

void access_logs_free(struct access_logs **logs_at)
{
    struct access_logs *logs = *logs_at;
    if (logs == NULL) {
        return;
    }
    *logs_at = NULL;
    run_flush(&logs->flush);
    task_cancel(&logs->flush);
    LIST_EACH(&logs->files, node)
    {
        struct file *file = LIST_ITEM(node, struct file, link);
        list_remove(&file->link);
        append_close(&file->append);
        mem_free(file->path);
        mem_free(file);
    }
    mem_free(logs);
}

static struct slice path_of(const struct access_log_config *config)
{
    switch ((enum access_log_kind)config->kind) {
    case ACCESS_LOG_FILE:
        return config->path;
    case ACCESS_LOG_STDOUT:
        return SLICE("/dev/stdout");
    case ACCESS_LOG_STDERR:
        break;
    }
    return SLICE("/dev/stderr");
}

/* There are one or two. */
static struct file *file_of(struct access_logs *logs, struct slice path)
{
    LIST_EACH(&logs->files, node)
    {
        struct file *file = LIST_ITEM(node, struct file, link);
        if (slice_eq(path, slice_of_text(file->path))) {
            return file;
        }
    }
    struct file *file = NEW(struct file);
    file->path = mem_dup(path.at, path.len);
    list_append(&logs->files, &file->link);
    return file;
}

void access_logs_write(struct access_logs *logs, const struct access_log_config *config,
                       const struct access_facts *facts)
{
    struct file *file = file_of(logs, path_of(config));
    if (sizeof file->bytes - file->len < LINE_BYTES) {
        flush_file(logs, file);
    }
    struct span room = {file->bytes + file->len, LINE_BYTES};
    file->len += access_format_write(config->compiled, facts, room);
    loop_flush_later(logs->loop, &logs->flush);
}
