#include "base/json.h"

#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

void json_init_library(void)
{
    json_set_alloc_funcs(alloc_for_library, alloc_free_for_library);
}

/* Where a byte stands, for errors that we find before jansson does. */
static bool refuse_at(struct slice text, size_t at, struct error *err, const char *what)
{
    unsigned line = 1;
    unsigned column = 1;
    for (size_t i = 0; i < at; i++) {
        line += text.at[i] == '\n';
        column = text.at[i] == '\n' ? 1 : column + 1;
    }
    return error_set(err, "line %u, column %u: %s", line, column, what);
}

/* jansson recurses on nesting up to a depth fixed when it was built, far above what we allow: so
 * the depth is counted over the text, strings skipped, before jansson sees it. */
static bool check_depth(struct slice text, unsigned max, struct error *err)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max) {
                return refuse_at(text, i, err, "nested too deeply");
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

json_t *json_parse(struct slice text, const struct json_limits *limits, struct error *err)
{
    size_t max_bytes = limits != NULL && limits->bytes > 0 ? limits->bytes : JSON_DEFAULT_MAX_BYTES;
    unsigned max_depth =
        limits != NULL && limits->depth > 0 ? limits->depth : JSON_DEFAULT_MAX_DEPTH;
    if (text.len > max_bytes) {
        (void)error_set(err, "%zu bytes of JSON, allowed are %zu", text.len, max_bytes);
        return NULL;
    }
    if (!check_depth(text, max_depth, err)) {
        return NULL;
    }
    json_error_t reason;
    const char *bytes = text.len > 0 ? (const char *)text.at : "";
    json_t *root = json_loadb(bytes, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason);
    if (root == NULL) {
        (void)error_set(err, "line %d, column %d: %s", reason.line, reason.column, reason.text);
    }
    return root;
}

/* One step of a pointer: what stands before the next slash, unescaped into `key`. */
static bool pointer_step(struct slice step, char *key, size_t size, size_t *len)
{
    size_t used = 0;
    for (size_t i = 0; i < step.len; i++) {
        uint8_t c = step.at[i];
        if (c == '~') {
            uint8_t which = i + 1 < step.len ? step.at[++i] : 0;
            if (which != '0' && which != '1') {
                return false;
            }
            c = which == '0' ? '~' : '/';
        }
        if (used + 1 >= size) {
            return false;
        }
        key[used++] = (char)c;
    }
    key[used] = '\0';
    *len = used;
    return true;
}

json_t *json_at(json_t *root, const char *pointer)
{
    CHECK(pointer[0] == '\0' || pointer[0] == '/');
    json_t *value = root;
    struct slice rest = slice_from(slice_of_text(pointer), 1);
    rest.at = pointer[0] == '\0' ? NULL : rest.at;
    while (rest.at != NULL && value != NULL) {
        char key[256];
        size_t len;
        struct slice step = slice_cut(&rest, '/');
        if (!pointer_step(step, key, sizeof key, &len)) {
            return NULL;
        }
        uint64_t index;
        if (!json_is_array(value)) {
            value = json_object_getn(value, key, len);
        } else if (slice_to_u64(slice_of(key, len), SIZE_MAX, &index)) {
            value = json_array_get(value, index);
        } else {
            value = NULL;
        }
    }
    return value;
}

struct slice json_slice(const json_t *string)
{
    return json_is_string(string) ? slice_of(json_string_value(string), json_string_length(string))
                                  : (struct slice){NULL, 0};
}

const char *json_type_name(const json_t *value)
{
    if (value == NULL) {
        return "nothing";
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

/* The member, or null where it is absent or null (protobuf's and Kubernetes' JSON take both alike).
 */
static json_t *member(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static bool wrong_type(const char *key, const char *wanted, const json_t *value, struct error *err)
{
    return error_set(err, "%s: wants %s, has %s", key, wanted, json_type_name(value));
}

bool json_get_text(const json_t *object, const char *key, struct slice *out, struct error *err)
{
    const json_t *value = member(object, key);
    if (value != NULL && !json_is_string(value)) {
        return wrong_type(key, "a string", value, err);
    }
    *out = value != NULL ? json_slice(value) : *out;
    return true;
}

bool json_get_bool(const json_t *object, const char *key, bool *out, struct error *err)
{
    const json_t *value = member(object, key);
    if (value != NULL && !json_is_boolean(value)) {
        return wrong_type(key, "true or false", value, err);
    }
    *out = value != NULL ? json_is_true(value) : *out;
    return true;
}

bool json_get_u64(const json_t *object, const char *key, uint64_t max, uint64_t *out,
                  struct error *err)
{
    const json_t *value = member(object, key);
    if (value == NULL) {
        return true;
    }
    if (!json_is_integer(value)) {
        return wrong_type(key, "an integer", value, err);
    }
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number > max) {
        return error_set(err, "%s: %" JSON_INTEGER_FORMAT " is outside 0 to %" PRIu64, key, number,
                         max);
    }
    *out = (uint64_t)number;
    return true;
}

bool json_get_double(const json_t *object, const char *key, double *out, struct error *err)
{
    const json_t *value = member(object, key);
    if (value != NULL && !json_is_number(value)) {
        return wrong_type(key, "a number", value, err);
    }
    *out = value != NULL ? json_number_value(value) : *out;
    return true;
}

bool json_get_object(const json_t *object, const char *key, json_t **out, struct error *err)
{
    json_t *value = member(object, key);
    if (value != NULL && !json_is_object(value)) {
        return wrong_type(key, "an object", value, err);
    }
    *out = value != NULL ? value : *out;
    return true;
}

bool json_get_array(const json_t *object, const char *key, json_t **out, struct error *err)
{
    json_t *value = member(object, key);
    if (value != NULL && !json_is_array(value)) {
        return wrong_type(key, "an array", value, err);
    }
    *out = value != NULL ? value : *out;
    return true;
}

struct slice json_text(struct arena *arena, const json_t *value, bool sorted)
{
    CHECK(value != NULL);
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | (sorted ? JSON_SORT_KEYS : 0);
    size_t len = json_dumpb(value, NULL, 0, flags);
    CHECK(len > 0);
    char *text = (char *)arena_bytes(arena, len);
    CHECK(json_dumpb(value, text, len, flags) == len);
    return slice_of(text, len);
}

/* The escaped form of a control character, quote or backslash; its length. */
static size_t escape_one(uint8_t c, char out[6])
{
    static const char hex[] = "0123456789abcdef";
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    out[0] = '\\';
    for (size_t i = 0; i + 1 < sizeof shorts; i += 2) {
        if ((char)c == shorts[i]) {
            out[1] = shorts[i + 1];
            return 2;
        }
    }
    out[1] = 'u';
    out[2] = '0';
    out[3] = '0';
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

size_t json_escape(struct span to, struct slice text)
{
    size_t used = 0;
    for (size_t at = 0; at < text.len;) {
        char escaped[6];
        const void *piece = text.at + at;
        size_t taken = utf8_length(slice_from(text, at));
        size_t len = taken;
        if (taken == 0) {
            piece = UTF8_REPLACEMENT;
            len = sizeof UTF8_REPLACEMENT - 1;
            taken = 1;
        } else if (text.at[at] < 0x20 || text.at[at] == '"' || text.at[at] == '\\' ||
                   text.at[at] == 0x7F) {
            len = escape_one(text.at[at], escaped);
            piece = escaped;
        }
        if (len > to.len - used) {
            break;
        }
        (void)memcpy(to.at + used, piece, len);
        used += len;
        at += taken;
    }
    return used;
}
