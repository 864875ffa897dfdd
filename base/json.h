#pragma once
/* JSON, as jansson holds it: this header adds the bounds that text from a peer or an operator
 * needs, errors with a position, and the few reads that every decoder of ours wants. Objects keep
 * the order in which their members were written. A json_t belongs to one thread; whoever was given
 * a new reference ends it with json_decref. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

#define JSON_DEFAULT_MAX_BYTES ((size_t)64 << 20)
#define JSON_DEFAULT_MAX_DEPTH 64U

struct json_limits {
    size_t bytes;   /* of the whole text; 0: JSON_DEFAULT_MAX_BYTES */
    unsigned depth; /* arrays and objects inside each other; 0: JSON_DEFAULT_MAX_DEPTH */
};

/* Once, early in main: jansson's memory comes from base/alloc from then on. No json_t may exist. */
void json_init_library(void);

/* One JSON value (RFC 8259), alone in the text; a name that comes twice in an object is refused,
 * and so is a string with a zero byte. `limits` may be null. A new reference, or null with "line L,
 * column C: what is wrong" in err. */
json_t *json_parse(struct slice text, const struct json_limits *limits, struct error *err) MUST_USE;

/* The value at a JSON pointer (RFC 6901: "/spec/http/0", ~1 for a slash inside a name, ~0 for a
 * tilde); "" is the root itself. Null when there is none. Borrowed from root. */
json_t *json_at(json_t *root, const char *pointer);

/* The bytes of a string; the empty slice with a null pointer for anything else, null included.
 * Borrowed from the value. */
struct slice json_slice(const json_t *string);

/* Members of `object` by type. Absent or null: true, and *out stays as the caller set it. Another
 * type or out of range: false, with "KEY: wants a string, has an integer" in err. */
bool json_get_text(const json_t *object, const char *key, struct slice *out,
                   struct error *err) MUST_USE;
bool json_get_bool(const json_t *object, const char *key, bool *out, struct error *err) MUST_USE;
/* `max`: largest value allowed; the smallest is 0. */
bool json_get_u64(const json_t *object, const char *key, uint64_t max, uint64_t *out,
                  struct error *err) MUST_USE;
bool json_get_double(const json_t *object, const char *key, double *out,
                     struct error *err) MUST_USE;
bool json_get_object(const json_t *object, const char *key, json_t **out,
                     struct error *err) MUST_USE;
bool json_get_array(const json_t *object, const char *key, json_t **out,
                    struct error *err) MUST_USE;

/* "an object", "a string", ...; "nothing" for a null pointer. For messages. */
const char *json_type_name(const json_t *value);

/* The text of a value without any white space, members sorted by name where `sorted` (so that equal
 * values have equal text), else in their order. */
struct slice json_text(struct arena *arena, const json_t *value, bool sorted);

/* Writes `text` into `to` as the inside of a JSON string (quotes not included): what must be
 * escaped is, bytes that are no UTF-8 become U+FFFD. Returns the bytes written; stops before the
 * character that does not fit, so what was written is always whole. */
size_t json_escape(struct span to, struct slice text);
