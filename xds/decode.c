/* A message is read twice: once to count the elements of each repeated field and to check the
 * framing, once to fill. So every array is allocated once and exactly, and nothing has to grow.
 * The alternative, a walk over the wire before protobuf-c's unpacker, was refused: it reads twice
 * too, and keeps all of that unpacker's faults but one.
 *
 * A field that occurs twice is merged as the specification says: the last scalar wins, messages
 * merge, repeated fields append. */

#include "xds/decode.h"

#include <stdio.h>
#include <string.h>

#include "xds/field.h"

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LENGTH = 2, WIRE_32 = 5 };

/* One field of the path from the outermost message to here; lives on the stack. */
struct frame {
    const struct frame *outer;
    const ProtobufCFieldDescriptor *field;
    size_t index; /* of a repeated field */
};

struct decoder {
    struct arena *arena;
    struct error *err;
    size_t memory_left;
};

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t number_value; /* varint, 32 or 64 bits */
    struct slice bytes;    /* length-delimited */
};

static bool decode_into(struct decoder *decoder, ProtobufCMessage *message, struct slice bytes,
                        const struct frame *frame, unsigned depth);

static int path_print(const struct frame *frame, char *text, size_t size)
{
    int used = frame->outer != NULL ? path_print(frame->outer, text, size) : 0;
    if (used < 0 || (size_t)used >= size) {
        return used;
    }
    const char *dot = frame->outer != NULL ? "." : "";
    if (frame->field->label == PROTOBUF_C_LABEL_REPEATED) {
        return used + snprintf(text + used, size - (size_t)used, "%s%s[%zu]", dot,
                               frame->field->name, frame->index);
    }
    return used + snprintf(text + used, size - (size_t)used, "%s%s", dot, frame->field->name);
}

static bool refuse(struct decoder *decoder, const struct frame *frame, const char *reason)
{
    (void)error_set(decoder->err, "%s", reason);
    if (frame != NULL) {
        char path[512];
        (void)path_print(frame, path, sizeof path);
        (void)error_wrap(decoder->err, "%s", path);
    }
    return false;
}

static bool charge(struct decoder *decoder, const struct frame *frame, size_t bytes)
{
    if (bytes > decoder->memory_left) {
        return refuse(decoder, frame, "takes more memory than a message of this size may");
    }
    decoder->memory_left -= bytes;
    return true;
}

static bool take_varint(struct slice *in, uint64_t *value)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 10 && i < in->len; i++) {
        uint8_t byte = in->at[i];
        if (i == 9 && byte > 1) {
            return false;
        }
        sum |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *in = slice_from(*in, i + 1);
            *value = sum;
            return true;
        }
    }
    return false;
}

static bool take_fixed(struct slice *in, unsigned width, uint64_t *value)
{
    if (in->len < width) {
        return false;
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < width; i++) {
        sum |= (uint64_t)in->at[i] << (8 * i);
    }
    *in = slice_from(*in, width);
    *value = sum;
    return true;
}

/* Null: the next field is in *field; else what is wrong with the framing. */
static const char *take_field(struct slice *in, struct wire_field *field)
{
    uint64_t tag = 0;
    if (!take_varint(in, &tag)) {
        return "bad field tag";
    }
    if (tag >> 3 == 0 || tag >> 3 > 536870911) {
        return "field number out of range";
    }
    *field = (struct wire_field){.number = (uint32_t)(tag >> 3)};
    switch (tag & 7) {
    case WIRE_VARINT:
        field->type = WIRE_VARINT;
        return take_varint(in, &field->number_value) ? NULL : "bad varint";
    case WIRE_64:
        field->type = WIRE_64;
        return take_fixed(in, 8, &field->number_value) ? NULL : "truncated";
    case WIRE_32:
        field->type = WIRE_32;
        return take_fixed(in, 4, &field->number_value) ? NULL : "truncated";
    case WIRE_LENGTH: {
        uint64_t len = 0;
        field->type = WIRE_LENGTH;
        if (!take_varint(in, &len) || len > in->len) {
            return "truncated";
        }
        field->bytes = slice_head(*in, (size_t)len);
        *in = slice_from(*in, (size_t)len);
        return NULL;
    }
    default:
        return "unknown wire type (groups are not supported)";
    }
}

static enum wire_type wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LENGTH;
    }
    check_failed("the field has a type", __FILE__, __LINE__);
}

/* A repeated scalar may arrive packed or one by one, whatever the .proto says. */
static bool is_packed(const ProtobufCFieldDescriptor *field, const struct wire_field *wire)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED && wire->type == WIRE_LENGTH &&
           wire_type_of(field->type) != WIRE_LENGTH;
}

static uint8_t *member(ProtobufCMessage *message, unsigned offset)
{
    return (uint8_t *)message + offset;
}

static size_t *count_of(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return (size_t *)(void *)member(message, field->quantifier_offset);
}

/* Elements that this occurrence of a repeated field brings; false: malformed. */
static bool elements_in(const ProtobufCFieldDescriptor *field, const struct wire_field *wire,
                        size_t *elements)
{
    if (!is_packed(field, wire)) {
        *elements = 1;
        return true;
    }
    enum wire_type type = wire_type_of(field->type);
    if (type == WIRE_VARINT) {
        *elements = 0;
        for (size_t i = 0; i < wire->bytes.len; i++) {
            *elements += wire->bytes.at[i] < 0x80;
        }
        return true;
    }
    size_t width = type == WIRE_32 ? 4 : 8;
    *elements = wire->bytes.len / width;
    return wire->bytes.len % width == 0;
}

/* RFC 3629, without surrogates and overlong forms; a zero byte is refused too. */
static bool is_text(struct slice s)
{
    for (size_t i = 0; i < s.len;) {
        uint8_t c = s.at[i];
        if (c != 0 && c < 0x80) {
            i++;
            continue;
        }
        unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        if (c < 0xc2 || c > 0xf4 || s.len - i <= more) {
            return false;
        }
        uint8_t next = s.at[i + 1];
        if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) ||
            (c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f)) {
            return false;
        }
        for (unsigned k = 1; k <= more; k++) {
            if ((s.at[i + k] & 0xc0) != 0x80) {
                return false;
            }
        }
        i += more + 1;
    }
    return true;
}

static void put_number(const ProtobufCFieldDescriptor *field, uint64_t value, uint8_t *to)
{
    uint32_t low = (uint32_t)value;
    switch (field->type) {
    case PROTOBUF_C_TYPE_SINT32:
        low = (low >> 1) ^ (0U - (low & 1));
        (void)memcpy(to, &low, sizeof low);
        return;
    case PROTOBUF_C_TYPE_SINT64:
        value = (value >> 1) ^ (0U - (value & 1));
        (void)memcpy(to, &value, sizeof value);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        (void)memcpy(to, &value, sizeof value);
        return;
    case PROTOBUF_C_TYPE_BOOL: {
        protobuf_c_boolean yes = value != 0;
        (void)memcpy(to, &yes, sizeof yes);
        return;
    }
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        (void)memcpy(to, &low, sizeof low);
        return;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    check_failed("the field is a number", __FILE__, __LINE__);
}

static ProtobufCMessage *message_new(struct decoder *decoder, const struct frame *frame,
                                     const ProtobufCMessageDescriptor *type)
{
    if (!charge(decoder, frame, type->sizeof_message)) {
        return NULL;
    }
    ProtobufCMessage *message = arena_alloc(decoder->arena, type->sizeof_message);
    protobuf_c_message_init(type, message);
    return message;
}

/* One value to its place. `old` says that the place holds a value of this field already, with which
 * a message is merged. */
static bool put_value(struct decoder *decoder, const ProtobufCFieldDescriptor *field,
                      const struct wire_field *wire, uint8_t *to, bool old, unsigned depth,
                      const struct frame *frame)
{
    if (wire_type_of(field->type) != WIRE_LENGTH) {
        put_number(field, wire->number_value, to);
        return true;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *inner = NULL;
        if (old) {
            (void)memcpy(&inner, to, sizeof(ProtobufCMessage *));
        }
        if (inner == NULL) {
            inner = message_new(decoder, frame, field->descriptor);
            if (inner == NULL) {
                return false;
            }
            (void)memcpy(to, &inner, sizeof(ProtobufCMessage *));
        }
        return decode_into(decoder, inner, wire->bytes, frame, depth + 1);
    }
    if (!charge(decoder, frame, wire->bytes.len + 1)) {
        return false;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        if (!is_text(wire->bytes)) {
            return refuse(decoder, frame, "not UTF-8, or a zero byte in it");
        }
        char *text = arena_text(decoder->arena, wire->bytes);
        (void)memcpy(to, &text, sizeof(char *));
        return true;
    }
    ProtobufCBinaryData data = {.len = wire->bytes.len};
    if (data.len > 0) {
        data.data = arena_bytes(decoder->arena, data.len);
        (void)memcpy(data.data, wire->bytes.at, data.len);
    }
    (void)memcpy(to, &data, sizeof data);
    return true;
}

/* The next element of a repeated field; its array is large enough already. */
static bool append(struct decoder *decoder, ProtobufCMessage *message,
                   const ProtobufCFieldDescriptor *field, const struct wire_field *wire,
                   unsigned depth, struct frame *frame)
{
    size_t *count = count_of(message, field);
    uint8_t *array = NULL;
    (void)memcpy(&array, member(message, field->offset), sizeof array);
    frame->index = *count;
    if (!put_value(decoder, field, wire, array + *count * field_bytes(field->type), false, depth,
                   frame)) {
        return false;
    }
    (*count)++;
    return true;
}

static bool append_packed(struct decoder *decoder, ProtobufCMessage *message,
                          const ProtobufCFieldDescriptor *field, const struct wire_field *wire,
                          struct frame *frame)
{
    struct slice in = wire->bytes;
    enum wire_type type = wire_type_of(field->type);
    while (in.len > 0) {
        struct wire_field one = {.number = wire->number, .type = type};
        bool good = type == WIRE_VARINT
                        ? take_varint(&in, &one.number_value)
                        : take_fixed(&in, type == WIRE_32 ? 4 : 8, &one.number_value);
        if (!good) {
            return refuse(decoder, frame, "bad varint");
        }
        if (!append(decoder, message, field, &one, 0, frame)) {
            return false;
        }
    }
    return true;
}

static bool put_single(struct decoder *decoder, ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field, const struct wire_field *wire,
                       unsigned depth, const struct frame *frame)
{
    uint8_t *to = member(message, field->offset);
    bool old = true;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t *chosen = (uint32_t *)(void *)member(message, field->quantifier_offset);
        old = *chosen == field->id;
        *chosen = field->id;
    }
    return put_value(decoder, field, wire, to, old, depth, frame);
}

static bool fits(const ProtobufCFieldDescriptor *field, const struct wire_field *wire)
{
    return wire->type == wire_type_of(field->type) || is_packed(field, wire);
}

/* First reading: the framing is checked, and each repeated field's count holds its new elements.
 * `old` keeps what the field had before (a message that is merged). */
static bool count_elements(struct decoder *decoder, ProtobufCMessage *message, struct slice in,
                           const struct frame *outer)
{
    while (in.len > 0) {
        struct wire_field wire;
        const char *reason = take_field(&in, &wire);
        if (reason != NULL) {
            return refuse(decoder, outer, reason);
        }
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(message->descriptor, wire.number);
        if (field == NULL) {
            continue;
        }
        struct frame frame = {.outer = outer, .field = field};
        size_t elements = 0;
        if (!fits(field, &wire) || !elements_in(field, &wire, &elements)) {
            return refuse(decoder, &frame, "another wire type than the field's");
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            *count_of(message, field) += elements;
        }
    }
    return true;
}

/* Makes room in every repeated field that grew; leaves the counts at what is filled already. */
static bool make_room(struct decoder *decoder, ProtobufCMessage *message, const size_t *before,
                      const struct frame *outer)
{
    for (unsigned i = 0, k = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            continue;
        }
        size_t filled = before[k++];
        size_t *count = count_of(message, field);
        size_t wanted = *count;
        if (wanted > filled) {
            struct frame frame = {.outer = outer, .field = field, .index = wanted - 1};
            size_t bytes = wanted * field_bytes(field->type);
            if (!charge(decoder, &frame, bytes)) {
                return false;
            }
            uint8_t *array = arena_alloc(decoder->arena, bytes);
            if (filled > 0) {
                uint8_t *old = NULL;
                (void)memcpy(&old, member(message, field->offset), sizeof old);
                (void)memcpy(array, old, filled * field_bytes(field->type));
            }
            (void)memcpy(member(message, field->offset), &array, sizeof(uint8_t *));
        }
        *count = filled;
    }
    return true;
}

/* Repeated fields of one message; the largest of ours has 14 (hcm.HttpConnectionManager). */
#define REPEATED_MAX 32

static void remember_counts(ProtobufCMessage *message, size_t before[REPEATED_MAX])
{
    unsigned k = 0;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            CHECK(k < REPEATED_MAX);
            before[k++] = *count_of(message, field);
        }
    }
}

/* Second reading. The framing is good: the first one saw to it. */
static bool fill(struct decoder *decoder, ProtobufCMessage *message, struct slice in,
                 const struct frame *outer, unsigned depth)
{
    while (in.len > 0) {
        struct wire_field wire;
        const char *reason = take_field(&in, &wire);
        CHECK(reason == NULL);
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(message->descriptor, wire.number);
        if (field == NULL) {
            continue;
        }
        struct frame frame = {.outer = outer, .field = field};
        bool good = is_packed(field, &wire) ? append_packed(decoder, message, field, &wire, &frame)
                    : field->label == PROTOBUF_C_LABEL_REPEATED
                        ? append(decoder, message, field, &wire, depth, &frame)
                        : put_single(decoder, message, field, &wire, depth, &frame);
        if (!good) {
            return false;
        }
    }
    return true;
}

static bool decode_into(struct decoder *decoder, ProtobufCMessage *message, struct slice bytes,
                        const struct frame *frame, unsigned depth)
{
    if (depth > DECODE_DEPTH_MAX && !MUTANT(28)) {
        return refuse(decoder, frame, "nested deeper than 64 messages");
    }
    size_t before[REPEATED_MAX] = {0};
    remember_counts(message, before);
    return count_elements(decoder, message, bytes, frame) &&
           make_room(decoder, message, before, frame) &&
           fill(decoder, message, bytes, frame, depth);
}

void *decode_message(struct arena *arena, const ProtobufCMessageDescriptor *type,
                     struct slice bytes, struct error *err)
{
    CHECK(arena != NULL);
    CHECK(type != NULL);
    struct decoder decoder = {.arena = arena,
                              .err = err,
                              .memory_left = DECODE_MEMORY_BASE + bytes.len * DECODE_MEMORY_FACTOR};
    ProtobufCMessage *message = message_new(&decoder, NULL, type);
    return message != NULL && decode_into(&decoder, message, bytes, NULL, 1) ? message : NULL;
}

bool decode_names_type(const char *type_url, const ProtobufCMessageDescriptor *type)
{
    CHECK(type_url != NULL);
    const char *slash = strrchr(type_url, '/');
    return slash != NULL && strcmp(slash + 1, type->name) == 0;
}

void *decode_any(struct arena *arena, const ProtobufCMessageDescriptor *type, const char *type_url,
                 ProtobufCBinaryData value, struct error *err)
{
    if (!decode_names_type(type_url, type)) {
        (void)error_set(err, "%s expected, not %s", type->name,
                        type_url[0] != '\0' ? type_url : "an empty Any");
        return NULL;
    }
    return decode_message(arena, type, slice_of(value.data, value.len), err);
}

struct slice encode_message(struct arena *arena, const ProtobufCMessage *message)
{
    CHECK(message != NULL);
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_bytes(arena, len > 0 ? len : 1);
    size_t packed = protobuf_c_message_pack(message, bytes);
    CHECK(packed == len);
    return slice_of(bytes, len);
}
