/* Reading and writing mirror each other: message, field, value, and a table of the types of
 * google.protobuf that JSON spells in a way of its own. Generated converters were refused: the
 * descriptors say it all, and a config is read once. */

#include "xds/json.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

#include "xds/decode.h"
#include "xds/field.h"
#include "xds/json_text.h"
#include "xds/types.h"

/* Where the reader is: one step from the outer value to this one. Lives on the stack. */
struct step {
    const struct step *outer;
    const char *name; /* of a field or a map's key; null: an array's index */
    size_t index;
    bool is_key;
};

struct reader {
    struct arena *arena;
    struct error *err;
    unsigned depth;
};

struct writer {
    struct arena *scratch;
    unsigned depth;
};

/* How google.protobuf's types are spelled; `scalar`: by their only field. */
struct well_known {
    const ProtobufCMessageDescriptor *type;
    bool (*read)(struct reader *, ProtobufCMessage *, const json_t *, const struct step *);
    json_t *(*write)(struct writer *, const ProtobufCMessage *);
};

static const struct well_known *well_known(const ProtobufCMessageDescriptor *type);
static bool read_message(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                         const struct step *step);
static json_t *write_message(struct writer *writer, const ProtobufCMessage *message);

/* ---- paths and refusals ---- */

static size_t path_print(const struct step *step, char *text, size_t size)
{
    if (step == NULL) {
        return 0;
    }
    size_t used = path_print(step->outer, text, size);
    if (used + 1 >= size) {
        return used;
    }
    int more = 0;
    if (step->name == NULL) {
        more = snprintf(text + used, size - used, "[%zu]", step->index);
    } else if (step->is_key) {
        more = snprintf(text + used, size - used, "[\"%s\"]", step->name);
    } else {
        more = snprintf(text + used, size - used, "%s%s", used > 0 ? "." : "", step->name);
    }
    CHECK(more >= 0);
    return used + (size_t)more < size ? used + (size_t)more : size - 1;
}

static bool refuse(struct reader *reader, const struct step *step, const char *format, ...)
    PRINTF_LIKE(3, 4);

static bool refuse(struct reader *reader, const struct step *step, const char *format, ...)
{
    char reason[512];
    char path[ERROR_TEXT_MAX / 2] = "";
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (path_print(step, path, sizeof path) == 0) {
        return error_set(reader->err, "%s", reason);
    }
    return error_set(reader->err, "%s: %s", path, reason);
}

static bool refuse_type(struct reader *reader, const struct step *step, const char *wanted,
                        const json_t *value)
{
    return refuse(reader, step, "wants %s, has %s", wanted, json_type_name(value));
}

/* ---- descriptors ---- */

/* As protoc derives the JSON name: letters after an underscore become capitals. */
static bool is_camel_of(const char *camel, const char *name)
{
    for (; *name != '\0'; name++) {
        char c = *name;
        if (c == '_') {
            name++;
            c = (char)(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name);
            if (c == '\0') {
                break;
            }
        }
        if (*camel++ != c) {
            return false;
        }
    }
    return *camel == '\0';
}

static const ProtobufCFieldDescriptor *field_find(const ProtobufCMessageDescriptor *type,
                                                  const char *key)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (strcmp(type->fields[i].name, key) == 0 || is_camel_of(key, type->fields[i].name)) {
            return &type->fields[i];
        }
    }
    return NULL;
}

/* protobuf-c keeps no mark of maps. protoc names a map's entry after its field: "some_map" has
 * SomeMapEntry {1 key, 2 value}; no message of ours is called so and is not one. */
static bool is_map(const ProtobufCFieldDescriptor *field)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return false;
    }
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t len = strlen(entry->short_name);
    char camel[96];
    if (len < 6 || len - 5 >= sizeof camel || entry->n_fields != 2 ||
        strcmp(entry->short_name + len - 5, "Entry") != 0) {
        return false;
    }
    (void)memcpy(camel, entry->short_name, len - 5);
    camel[len - 5] = '\0';
    if (camel[0] >= 'A' && camel[0] <= 'Z') {
        camel[0] = (char)(camel[0] - 'A' + 'a');
    }
    return is_camel_of(camel, field->name) && entry->fields[0].type == PROTOBUF_C_TYPE_STRING &&
           strcmp(entry->fields[0].name, "key") == 0 && strcmp(entry->fields[1].name, "value") == 0;
}

static bool is_oneof(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

static uint8_t *place(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

static const uint8_t *place_of(const ProtobufCMessage *message, unsigned offset)
{
    return (const uint8_t *)message + offset;
}

static ProtobufCMessage *message_new(struct arena *arena, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = arena_alloc(arena, type->sizeof_message);
    protobuf_c_message_init(type, message);
    return message;
}

/* ---- reading ---- */

/* A whole number between low and high, from an integer, a real without a fraction, or either as a
 * string. Both bounds fit int64; what is above it (uint64) comes through read_u64. */
static bool read_i64(struct reader *reader, const json_t *value, int64_t low, int64_t high,
                     int64_t *number, const struct step *step)
{
    if (json_is_integer(value)) {
        *number = json_integer_value(value);
    } else if (json_is_real(value) && fabs(json_real_value(value)) < 9.0e15 &&
               floor(json_real_value(value)) == json_real_value(value)) {
        *number = (int64_t)json_real_value(value);
    } else if (!json_is_string(value) || !json_text_read_i64(json_slice(value), number)) {
        return refuse_type(reader, step, "a whole number", value);
    }
    if (*number < low || *number > high) {
        return refuse(reader, step, "%lld is out of range (%lld to %lld)", (long long)*number,
                      (long long)low, (long long)high);
    }
    return true;
}

static bool read_u64(struct reader *reader, const json_t *value, uint64_t *number,
                     const struct step *step)
{
    if (json_is_string(value) && slice_to_u64(json_slice(value), UINT64_MAX, number)) {
        return true;
    }
    int64_t whole = 0;
    if (!read_i64(reader, value, 0, INT64_MAX, &whole, step)) {
        return false;
    }
    *number = (uint64_t)whole;
    return true;
}

static bool read_double(struct reader *reader, const json_t *value, double *number,
                        const struct step *step)
{
    if (json_is_number(value)) {
        *number = json_number_value(value);
        return true;
    }
    if (json_is_string(value) && json_text_read_double(json_slice(value), number)) {
        return true;
    }
    return refuse_type(reader, step, "a number", value);
}

static bool read_enum(struct reader *reader, const ProtobufCEnumDescriptor *type,
                      const json_t *value, uint8_t *to, const struct step *step)
{
    int64_t number = 0;
    if (json_is_string(value)) {
        const ProtobufCEnumValue *named =
            protobuf_c_enum_descriptor_get_value_by_name(type, json_string_value(value));
        if (named == NULL) {
            return refuse(reader, step, "%s has no value \"%s\"", type->name,
                          json_string_value(value));
        }
        number = named->value;
    } else if (!json_is_integer(value)) {
        return refuse_type(reader, step, "the name or number of an enum's value", value);
    } else if (!read_i64(reader, value, INT32_MIN, INT32_MAX, &number, step)) {
        return false;
    }
    int32_t small = (int32_t)number;
    (void)memcpy(to, &small, sizeof small);
    return true;
}

static bool read_bytes(struct reader *reader, const json_t *value, ProtobufCBinaryData *data,
                       const struct step *step)
{
    if (!json_is_string(value)) {
        return refuse_type(reader, step, "base64 in a string", value);
    }
    struct slice bytes;
    if (!json_text_read_base64(reader->arena, json_slice(value), &bytes)) {
        return refuse(reader, step, "not base64");
    }
    data->len = bytes.len;
    data->data = bytes.len > 0 ? arena_bytes(reader->arena, bytes.len) : NULL;
    if (bytes.len > 0) {
        (void)memcpy(data->data, bytes.at, bytes.len);
    }
    return true;
}

static bool read_string(struct reader *reader, const json_t *value, char **text,
                        const struct step *step)
{
    if (!json_is_string(value)) {
        return refuse_type(reader, step, "a string", value);
    }
    *text = arena_text(reader->arena, json_slice(value));
    return true;
}

/* A number of `width` bytes between low and high, to its place. */
static bool read_whole(struct reader *reader, const json_t *value, int64_t low, int64_t high,
                       size_t width, uint8_t *to, const struct step *step)
{
    int64_t whole = 0;
    if (!read_i64(reader, value, low, high, &whole, step)) {
        return false;
    }
    uint32_t half = (uint32_t)whole;
    (void)memcpy(to, width == sizeof half ? (const void *)&half : (const void *)&whole, width);
    return true;
}

static bool read_large(struct reader *reader, const json_t *value, uint8_t *to,
                       const struct step *step)
{
    uint64_t large = 0;
    bool good = read_u64(reader, value, &large, step);
    (void)memcpy(to, &large, sizeof large);
    return good;
}

static bool read_real(struct reader *reader, const json_t *value, bool narrow, uint8_t *to,
                      const struct step *step)
{
    double real = 0;
    if (!read_double(reader, value, &real, step)) {
        return false;
    }
    if (narrow && isfinite(real) && fabs(real) > (double)FLT_MAX) {
        return refuse(reader, step, "out of range for a float");
    }
    float single = narrow ? (float)real : 0;
    (void)memcpy(to, narrow ? (const void *)&single : (const void *)&real,
                 narrow ? sizeof single : sizeof real);
    return true;
}

static bool read_bool(struct reader *reader, const json_t *value, uint8_t *to,
                      const struct step *step)
{
    if (!json_is_boolean(value)) {
        return refuse_type(reader, step, "true or false", value);
    }
    protobuf_c_boolean yes = json_is_true(value);
    (void)memcpy(to, &yes, sizeof yes);
    return true;
}

static bool read_number(struct reader *reader, const ProtobufCFieldDescriptor *field,
                        const json_t *value, uint8_t *to, const struct step *step)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return read_whole(reader, value, INT32_MIN, INT32_MAX, 4, to, step);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return read_whole(reader, value, 0, UINT32_MAX, 4, to, step);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_whole(reader, value, INT64_MIN, INT64_MAX, 8, to, step);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_large(reader, value, to, step);
    case PROTOBUF_C_TYPE_FLOAT:
        return read_real(reader, value, true, to, step);
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_real(reader, value, false, to, step);
    case PROTOBUF_C_TYPE_BOOL:
        return read_bool(reader, value, to, step);
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(reader, field->descriptor, value, to, step);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    check_failed("the field is a number", __FILE__, __LINE__);
}

static bool read_value(struct reader *reader, const ProtobufCFieldDescriptor *field,
                       const json_t *value, uint8_t *to, const struct step *step)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *inner = message_new(reader->arena, field->descriptor);
        (void)memcpy(to, &inner, sizeof(ProtobufCMessage *));
        return read_message(reader, inner, value, step);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        char *text = NULL;
        bool good = read_string(reader, value, &text, step);
        (void)memcpy(to, &text, sizeof(char *));
        return good;
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        ProtobufCBinaryData data = {0};
        bool good = read_bytes(reader, value, &data, step);
        (void)memcpy(to, &data, sizeof data);
        return good;
    }
    return read_number(reader, field, value, to, step);
}

static uint8_t *array_new(struct reader *reader, ProtobufCMessage *message,
                          const ProtobufCFieldDescriptor *field, size_t count)
{
    uint8_t *array =
        count > 0 ? arena_alloc(reader->arena, count * field_bytes(field->type)) : NULL;
    (void)memcpy(place(message, field->offset), &array, sizeof(uint8_t *));
    (void)memcpy(place(message, field->quantifier_offset), &count, sizeof count);
    return array;
}

static bool read_array(struct reader *reader, ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field, const json_t *value,
                       const struct step *step)
{
    if (!json_is_array(value)) {
        return refuse_type(reader, step, "an array", value);
    }
    size_t count = json_array_size(value);
    uint8_t *array = array_new(reader, message, field, count);
    for (size_t i = 0; i < count; i++) {
        struct step at = {.outer = step, .index = i};
        if (!read_value(reader, field, json_array_get(value, i),
                        array + i * field_bytes(field->type), &at)) {
            return false;
        }
    }
    return true;
}

static bool read_map(struct reader *reader, ProtobufCMessage *message,
                     const ProtobufCFieldDescriptor *field, const json_t *value,
                     const struct step *step)
{
    if (!json_is_object(value)) {
        return refuse_type(reader, step, "an object", value);
    }
    const ProtobufCMessageDescriptor *type = field->descriptor;
    uint8_t *array = array_new(reader, message, field, json_object_size(value));
    size_t i = 0;
    for (void *at = json_object_iter((json_t *)(uintptr_t)value); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)value, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *member = json_object_iter_value(at);
        struct step here = {.outer = step, .name = key, .is_key = true};
        ProtobufCMessage *entry = message_new(reader->arena, type);
        char *text = arena_text(reader->arena, slice_of_text(key));
        (void)memcpy(place(entry, type->fields[0].offset), &text, sizeof(char *));
        (void)memcpy(array + i++ * sizeof entry, &entry, sizeof(ProtobufCMessage *));
        if (!read_value(reader, &type->fields[1], member, place(entry, type->fields[1].offset),
                        &here)) {
            return false;
        }
    }
    return true;
}

static bool read_field(struct reader *reader, ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field, const json_t *value,
                       const struct step *step)
{
    if (is_map(field)) {
        return read_map(reader, message, field, value, step);
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return read_array(reader, message, field, value, step);
    }
    if (is_oneof(field)) {
        uint32_t chosen = 0;
        (void)memcpy(&chosen, place(message, field->quantifier_offset), sizeof chosen);
        if (chosen != 0) {
            const ProtobufCFieldDescriptor *other =
                protobuf_c_message_descriptor_get_field(message->descriptor, chosen);
            return refuse(reader, step, "cannot be set together with %s", other->name);
        }
        chosen = field->id;
        (void)memcpy(place(message, field->quantifier_offset), &chosen, sizeof chosen);
    }
    return read_value(reader, field, value, place(message, field->offset), step);
}

/* null stands for "absent", but google.protobuf.Value has a null of its own. */
static bool means_absent(const ProtobufCFieldDescriptor *field, const json_t *value)
{
    return json_is_null(value) && field->descriptor != &google__protobuf__value__descriptor;
}

/* All members of an object, but "@type", as fields of the message. */
static bool read_fields(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                        bool in_any, const struct step *step)
{
    if (!json_is_object(value)) {
        return refuse_type(reader, step, "an object", value);
    }
    uint64_t seen = 0;
    const ProtobufCMessageDescriptor *type = message->descriptor;
    CHECK(type->n_fields <= 64);
    for (void *at = json_object_iter((json_t *)(uintptr_t)value); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)value, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *member = json_object_iter_value(at);
        struct step here = {.outer = step, .name = key};
        if (in_any && strcmp(key, "@type") == 0) {
            continue;
        }
        const ProtobufCFieldDescriptor *field = field_find(type, key);
        if (field == NULL) {
            return refuse(reader, &here, "%s has no such field, or it is not supported",
                          type->name);
        }
        here.name = field->name;
        uint64_t bit = 1ULL << (unsigned)(field - type->fields);
        if ((seen & bit) != 0) {
            return refuse(reader, &here, "given twice");
        }
        seen |= bit;
        if (!means_absent(field, member) && !read_field(reader, message, field, member, &here)) {
            return false;
        }
    }
    return true;
}

static bool read_message(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                         const struct step *step)
{
    if (reader->depth >= XDS_JSON_DEPTH_MAX) {
        return refuse(reader, step, "nested deeper than %d", XDS_JSON_DEPTH_MAX);
    }
    reader->depth++;
    const struct well_known *known = well_known(message->descriptor);
    bool good = known != NULL ? known->read(reader, message, value, step)
                              : read_fields(reader, message, value, false, step);
    reader->depth--;
    return good;
}

void *xds_json_read(struct arena *arena, const ProtobufCMessageDescriptor *type,
                    const json_t *value, struct error *err)
{
    CHECK(arena != NULL);
    CHECK(type != NULL);
    CHECK(value != NULL);
    struct reader reader = {.arena = arena, .err = err};
    ProtobufCMessage *message = message_new(arena, type);
    return read_message(&reader, message, value, NULL) ? message : NULL;
}

/* ---- writing ---- */

static json_t *owned(json_t *value)
{
    CHECK(value != NULL);
    return value;
}

static void set(json_t *object, const char *key, json_t *value)
{
    int failed = json_object_set_new(object, key, value);
    CHECK(failed == 0);
}

static void append(json_t *array, json_t *value)
{
    int failed = json_array_append_new(array, value);
    CHECK(failed == 0);
}

static json_t *write_text(const char *text)
{
    return owned(json_string(text));
}

static json_t *write_double(double number)
{
    if (isnan(number)) {
        return write_text("NaN");
    }
    if (isinf(number)) {
        return write_text(number > 0 ? "Infinity" : "-Infinity");
    }
    /* Whole numbers without a fraction, as every JSON library writes them. */
    if (floor(number) == number && fabs(number) < 9.0e15) {
        return owned(json_integer((json_int_t)number));
    }
    return owned(json_real(number));
}

static json_t *write_enum(const ProtobufCEnumDescriptor *type, int32_t number)
{
    const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value(type, number);
    return named != NULL ? write_text(named->name) : owned(json_integer(number));
}

static json_t *write_number(const ProtobufCFieldDescriptor *field, const uint8_t *from)
{
    int32_t small = 0;
    uint32_t natural = 0;
    int64_t whole = 0;
    uint64_t large = 0;
    char digits[32];
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        (void)memcpy(&small, from, sizeof small);
        return owned(json_integer(small));
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        (void)memcpy(&natural, from, sizeof natural);
        return owned(json_integer(natural));
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        (void)memcpy(&whole, from, sizeof whole);
        (void)snprintf(digits, sizeof digits, "%lld", (long long)whole);
        return write_text(digits);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        (void)memcpy(&large, from, sizeof large);
        (void)snprintf(digits, sizeof digits, "%llu", (unsigned long long)large);
        return write_text(digits);
    case PROTOBUF_C_TYPE_FLOAT: {
        float narrow = 0;
        (void)memcpy(&narrow, from, sizeof narrow);
        return write_double((double)narrow);
    }
    case PROTOBUF_C_TYPE_DOUBLE: {
        double real = 0;
        (void)memcpy(&real, from, sizeof real);
        return write_double(real);
    }
    case PROTOBUF_C_TYPE_BOOL: {
        protobuf_c_boolean yes = 0;
        (void)memcpy(&yes, from, sizeof yes);
        return owned(json_boolean(yes));
    }
    case PROTOBUF_C_TYPE_ENUM:
        (void)memcpy(&small, from, sizeof small);
        return write_enum(field->descriptor, small);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    check_failed("the field is a number", __FILE__, __LINE__);
}

static json_t *write_bytes(struct writer *writer, ProtobufCBinaryData data)
{
    struct slice text = json_text_write_base64(writer->scratch, slice_of(data.data, data.len));
    return owned(json_stringn((const char *)text.at, text.len));
}

static json_t *write_value(struct writer *writer, const ProtobufCFieldDescriptor *field,
                           const uint8_t *from)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessage *inner = NULL;
        (void)memcpy(&inner, from, sizeof(ProtobufCMessage *));
        return inner != NULL ? write_message(writer, inner) : owned(json_null());
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = NULL;
        (void)memcpy(&text, from, sizeof(char *));
        return write_text(text != NULL ? text : "");
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        ProtobufCBinaryData data;
        (void)memcpy(&data, from, sizeof data);
        return write_bytes(writer, data);
    }
    return write_number(field, from);
}

static json_t *write_repeated(struct writer *writer, const ProtobufCFieldDescriptor *field,
                              const uint8_t *array, size_t count)
{
    bool map = is_map(field);
    json_t *list = owned(map ? json_object() : json_array());
    for (size_t i = 0; i < count; i++) {
        const uint8_t *from = array + i * field_bytes(field->type);
        if (!map) {
            append(list, write_value(writer, field, from));
            continue;
        }
        const ProtobufCMessageDescriptor *type = field->descriptor;
        const ProtobufCMessage *entry = NULL;
        const char *key = NULL;
        (void)memcpy(&entry, from, sizeof(ProtobufCMessage *));
        (void)memcpy(&key, place_of(entry, type->fields[0].offset), sizeof(char *));
        set(list, key,
            write_value(writer, &type->fields[1], place_of(entry, type->fields[1].offset)));
    }
    return list;
}

/* proto3 has no presence for scalars outside of a oneof: the default is the same as absent. */
static bool is_default(const ProtobufCFieldDescriptor *field, const uint8_t *from)
{
    static const uint8_t zero[sizeof(ProtobufCBinaryData)];
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = NULL;
        (void)memcpy(&text, from, sizeof(char *));
        return text == NULL || text[0] == '\0';
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        size_t len = 0;
        (void)memcpy(&len, from + offsetof(ProtobufCBinaryData, len), sizeof len);
        return len == 0;
    }
    return memcmp(from, zero, field_bytes(field->type)) == 0;
}

static bool is_secret(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field)
{
    return (type == &envoy__extensions__transport_sockets__tls__v3__tls_certificate__descriptor &&
            strcmp(field->name, "private_key") == 0) ||
           (type == &envoy__extensions__transport_sockets__tls__v3__generic_secret__descriptor &&
            strcmp(field->name, "secret") == 0);
}

static void write_field(struct writer *writer, const ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field, json_t *object)
{
    const uint8_t *from = place_of(message, field->offset);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = 0;
        const uint8_t *array = NULL;
        (void)memcpy(&count, place_of(message, field->quantifier_offset), sizeof count);
        (void)memcpy(&array, from, sizeof(uint8_t *));
        if (count > 0) {
            set(object, field->name, write_repeated(writer, field, array, count));
        }
        return;
    }
    if (is_oneof(field)) {
        uint32_t chosen = 0;
        (void)memcpy(&chosen, place_of(message, field->quantifier_offset), sizeof chosen);
        if (chosen != field->id) {
            return;
        }
    } else if (is_default(field, from)) {
        return;
    }
    set(object, field->name,
        is_secret(message->descriptor, field) ? write_text("[redacted]")
                                              : write_value(writer, field, from));
}

static json_t *write_fields(struct writer *writer, const ProtobufCMessage *message, json_t *object)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        write_field(writer, message, &message->descriptor->fields[i], object);
    }
    return object;
}

static json_t *write_message(struct writer *writer, const ProtobufCMessage *message)
{
    if (writer->depth >= XDS_JSON_DEPTH_MAX) {
        return write_text("[nested too deeply]");
    }
    writer->depth++;
    const struct well_known *known = well_known(message->descriptor);
    json_t *value = known != NULL ? known->write(writer, message)
                                  : write_fields(writer, message, owned(json_object()));
    writer->depth--;
    return value;
}

json_t *xds_json_write(struct arena *scratch, const ProtobufCMessage *message)
{
    CHECK(scratch != NULL);
    CHECK(message != NULL);
    struct writer writer = {.scratch = scratch};
    return write_message(&writer, message);
}

/* ---- google.protobuf's own spellings ---- */

static bool read_any(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                     const struct step *step)
{
    Google__Protobuf__Any *any = (Google__Protobuf__Any *)message;
    if (!json_is_object(value)) {
        return refuse_type(reader, step, "an object with \"@type\"", value);
    }
    if (json_object_size(value) == 0) {
        return true;
    }
    const json_t *url = json_object_get(value, "@type");
    if (!json_is_string(url)) {
        return refuse(reader, step, "has no \"@type\"");
    }
    const struct xds_type *type = xds_type_find(json_string_value(url));
    if (type == NULL || type->descriptor == NULL) {
        return refuse(reader, step, "unknown or unsupported type %s", json_string_value(url));
    }
    ProtobufCMessage *inner = message_new(reader->arena, type->descriptor);
    if (well_known(type->descriptor) == NULL) {
        if (!read_fields(reader, inner, value, true, step)) {
            return false;
        }
    } else {
        const json_t *spelled = json_object_get(value, "value");
        struct step here = {.outer = step, .name = "value"};
        if (spelled == NULL || json_object_size(value) != 2) {
            return refuse(reader, step, "wants \"@type\" and \"value\", nothing else");
        }
        if (!read_message(reader, inner, spelled, &here)) {
            return false;
        }
    }
    struct slice bytes = encode_message(reader->arena, inner);
    any->type_url = arena_text(reader->arena, json_slice(url));
    any->value.len = bytes.len;
    any->value.data = (uint8_t *)(uintptr_t)bytes.at;
    return true;
}

static json_t *write_any(struct writer *writer, const ProtobufCMessage *message)
{
    const Google__Protobuf__Any *any = (const Google__Protobuf__Any *)message;
    json_t *object = owned(json_object());
    if (any->type_url[0] == '\0') {
        return object;
    }
    set(object, "@type", write_text(any->type_url));
    const struct xds_type *type = xds_type_find(any->type_url);
    const ProtobufCMessage *inner =
        type != NULL && type->descriptor != NULL
            ? decode_any(writer->scratch, type->descriptor, any->type_url, any->value, NULL)
            : NULL;
    if (inner == NULL) {
        set(object, "value", write_bytes(writer, any->value));
    } else if (well_known(inner->descriptor) != NULL) {
        set(object, "value", write_message(writer, inner));
    } else {
        (void)write_fields(writer, inner, object);
    }
    return object;
}

static bool read_duration(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                          const struct step *step)
{
    Google__Protobuf__Duration *duration = (Google__Protobuf__Duration *)message;
    if (!json_is_string(value)) {
        return refuse_type(reader, step, "a duration such as \"1.5s\"", value);
    }
    if (!json_text_read_duration(json_slice(value), &duration->seconds, &duration->nanos)) {
        return refuse(reader, step, "\"%s\" is no duration such as \"1.5s\"",
                      json_string_value(value));
    }
    return true;
}

static json_t *write_duration(struct writer *writer, const ProtobufCMessage *message)
{
    const Google__Protobuf__Duration *duration = (const Google__Protobuf__Duration *)message;
    return write_text(
        json_text_write_duration(writer->scratch, duration->seconds, duration->nanos));
}

static bool read_timestamp(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                           const struct step *step)
{
    Google__Protobuf__Timestamp *time = (Google__Protobuf__Timestamp *)message;
    if (!json_is_string(value) ||
        !json_text_read_time(json_slice(value), &time->seconds, &time->nanos)) {
        return refuse(reader, step, "wants a time such as \"2026-01-31T12:00:00Z\"");
    }
    return true;
}

static json_t *write_timestamp(struct writer *writer, const ProtobufCMessage *message)
{
    const Google__Protobuf__Timestamp *time = (const Google__Protobuf__Timestamp *)message;
    return write_text(json_text_write_time(writer->scratch, time->seconds, time->nanos));
}

/* Struct, ListValue: their one field is the object, the array. */
static bool read_struct(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                        const struct step *step)
{
    return read_map(reader, message, &message->descriptor->fields[0], value, step);
}

static bool read_list(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                      const struct step *step)
{
    return read_array(reader, message, &message->descriptor->fields[0], value, step);
}

static json_t *write_struct_or_list(struct writer *writer, const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[0];
    size_t count = 0;
    const uint8_t *array = NULL;
    (void)memcpy(&count, place_of(message, field->quantifier_offset), sizeof count);
    (void)memcpy(&array, place_of(message, field->offset), sizeof(uint8_t *));
    return write_repeated(writer, field, array, count);
}

static unsigned value_field_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
    case JSON_INTEGER:
    case JSON_REAL:
        return GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
    case JSON_STRING:
        return GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
    case JSON_TRUE:
    case JSON_FALSE:
        return GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
    case JSON_OBJECT:
        return GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
    case JSON_ARRAY:
        return GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
    }
    check_failed("the value has a JSON type", __FILE__, __LINE__);
}

static bool read_any_value(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                           const struct step *step)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(message->descriptor, value_field_of(value));
    uint32_t chosen = field->id;
    (void)memcpy(place(message, field->quantifier_offset), &chosen, sizeof chosen);
    return json_is_null(value) ||
           read_value(reader, field, value, place(message, field->offset), step);
}

static json_t *write_any_value(struct writer *writer, const ProtobufCMessage *message)
{
    const Google__Protobuf__Value *value = (const Google__Protobuf__Value *)message;
    if (value->kind_case == GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET ||
        value->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE) {
        return owned(json_null());
    }
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(message->descriptor, (unsigned)value->kind_case);
    return write_value(writer, field, place_of(message, field->offset));
}

/* UInt32Value and its like: the bare value. */
static bool read_wrapper(struct reader *reader, ProtobufCMessage *message, const json_t *value,
                         const struct step *step)
{
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[0];
    return read_value(reader, field, value, place(message, field->offset), step);
}

static json_t *write_wrapper(struct writer *writer, const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[0];
    return write_value(writer, field, place_of(message, field->offset));
}

static const struct well_known *well_known(const ProtobufCMessageDescriptor *type)
{
    static const struct well_known table[] = {
        {&google__protobuf__any__descriptor, read_any, write_any},
        {&google__protobuf__duration__descriptor, read_duration, write_duration},
        {&google__protobuf__timestamp__descriptor, read_timestamp, write_timestamp},
        {&google__protobuf__struct__descriptor, read_struct, write_struct_or_list},
        {&google__protobuf__list_value__descriptor, read_list, write_struct_or_list},
        {&google__protobuf__value__descriptor, read_any_value, write_any_value},
        {&google__protobuf__double_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__float_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__int64_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__uint64_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__int32_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__uint32_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__bool_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__string_value__descriptor, read_wrapper, write_wrapper},
        {&google__protobuf__bytes_value__descriptor, read_wrapper, write_wrapper},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (table[i].type == type) {
            return &table[i];
        }
    }
    return NULL;
}
