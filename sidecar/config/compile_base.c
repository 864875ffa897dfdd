#include "sidecar/config/compile_base.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "udpa/type/v1/type.pb-c.h"

#include "base/alloc.h"
#include "xds/decode.h"
#include "xds/type/v3/type.pb-c.h"

/* Names come from the control plane; nothing depends on their order. */
#define NAME_SEED 0x636f6d70696c65
/* google.protobuf.Duration: 10,000 years. */
#define DURATION_SECONDS_MAX INT64_C(315576000000)

void compiler_init(struct compiler *c, struct snapshot *out, struct arena *scratch,
                   const struct compile_options *options, struct error *err)
{
    static const struct compile_options none = {.quarantine = false};
    *c = (struct compiler){
        .out = out, .arena = &out->arena, .scratch = scratch, .options = options, .err = err};
    if (options == NULL) {
        c->options = &none;
    }
    map_init(&c->names, NAME_SEED, MAP_KEYS_BORROWED);
}

void compiler_fini(struct compiler *c)
{
    map_fini(&c->names);
}

/* ---- where we are ---- */

void compile_enter(struct compiler *c, const char *format, ...)
{
    CHECK(c->depth < COMPILE_DEPTH_MAX);
    size_t len = strlen(c->path);
    c->marks[c->depth++] = (uint16_t)len;
    if (len > 0 && len + 1 < sizeof(c->path)) {
        c->path[len++] = '.';
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->path + len, sizeof(c->path) - len, format, args);
    va_end(args);
}

bool compile_leave(struct compiler *c, bool result)
{
    CHECK(c->depth > 0);
    c->path[c->marks[--c->depth]] = '\0';
    return result;
}

bool compile_refuse(struct compiler *c, const char *field, const char *format, ...)
{
    char reason[ERROR_TEXT_MAX / 2];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    const char *path = c->path;
    const char *dot = path[0] != '\0' && field != NULL ? "." : "";
    const char *name = field != NULL ? field : "";
    const char *colon = path[0] != '\0' || field != NULL ? ": " : "";
    return error_set(c->err, "%s%s%s%s%s", path, dot, name, colon, reason);
}

bool compile_unknown(struct compiler *c, const char *field, const char *type_url)
{
    c->unknown_extension = true;
    return compile_refuse(c, field, "%.200s is not supported", type_url);
}

/* ---- text ---- */

struct slice compile_text(struct compiler *c, const char *text)
{
    return text[0] == '\0' ? slice_of_text("") : arena_dup(c->arena, slice_of_text(text));
}

struct slice compile_bytes(struct compiler *c, ProtobufCBinaryData bytes)
{
    return arena_dup(c->arena, slice_of(bytes.data, bytes.len));
}

struct slice compile_name(struct compiler *c, const char *text)
{
    struct slice key = slice_of_text(text);
    struct slice *known = map_get(&c->names, key);
    if (known == NULL) {
        known = ARENA_NEW(c->arena, struct slice);
        *known = compile_text(c, text);
        (void)map_set(&c->names, *known, known);
    }
    return *known;
}

struct slice compile_lower(struct compiler *c, const char *text)
{
    size_t len = strlen(text);
    uint8_t *copy = arena_bytes(c->arena, len + 1);
    for (size_t i = 0; i < len; i++) {
        copy[i] = slice_lower((uint8_t)text[i]);
    }
    copy[len] = 0;
    return slice_of(copy, len);
}

bool compile_required(struct compiler *c, const char *field, const char *text)
{
    return text[0] != '\0' || compile_refuse(c, field, "must not be empty");
}

const struct slice *compile_texts(struct compiler *c, char *const *texts, size_t count)
{
    struct slice *list = COMPILE_ARRAY(c, struct slice, count);
    for (size_t i = 0; i < count; i++) {
        list[i] = compile_name(c, texts[i]);
    }
    return list;
}

static bool is_token_byte(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z') || (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

bool compile_header_name(struct compiler *c, const char *field, const char *name)
{
    if (!compile_required(c, field, name)) {
        return false;
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (!is_token_byte((uint8_t)*at)) {
            return compile_refuse(c, field, "'%.80s' is no name of a header field", name);
        }
    }
    return true;
}

bool compile_count(struct compiler *c, const char *field, size_t count, uint16_t *out)
{
    if (count > UINT16_MAX) {
        return compile_refuse(c, field, "has %zu items; at most 65535 are allowed", count);
    }
    *out = (uint16_t)count;
    return true;
}

/* ---- numbers and times ---- */

bool compile_duration(struct compiler *c, const char *field,
                      const Google__Protobuf__Duration *duration, uint64_t absent_us, uint64_t *us)
{
    *us = absent_us;
    if (duration == NULL) {
        return true;
    }
    if (duration->seconds < 0 || duration->seconds > DURATION_SECONDS_MAX || duration->nanos < 0 ||
        duration->nanos > 999999999) {
        return compile_refuse(c, field, "is no duration from 0 to 10000 years");
    }
    /* Rounded up: a nanosecond is not "off". */
    *us = (uint64_t)duration->seconds * SECOND_US + ((uint64_t)duration->nanos + 999) / 1000;
    return true;
}

bool compile_duration_positive(struct compiler *c, const char *field,
                               const Google__Protobuf__Duration *duration, uint64_t absent_us,
                               uint64_t *us)
{
    return compile_duration(c, field, duration, absent_us, us) &&
           (duration == NULL || *us > 0 || compile_refuse(c, field, "must be above 0"));
}

bool compile_u32(struct compiler *c, const char *field, const Google__Protobuf__UInt32Value *value,
                 uint32_t absent, uint32_t least, uint32_t most, uint32_t *out)
{
    *out = absent;
    if (value == NULL) {
        return true;
    }
    if (value->value < least || value->value > most) {
        return compile_refuse(c, field, "is %u; allowed is %u to %u", value->value, least, most);
    }
    *out = value->value;
    return true;
}

bool compile_bool(const Google__Protobuf__BoolValue *value, bool absent)
{
    return value == NULL ? absent : value->value != 0;
}

bool compile_percent(struct compiler *c, const char *field, const Envoy__Type__V3__Percent *percent,
                     double absent, double *out)
{
    *out = absent;
    if (percent == NULL) {
        return true;
    }
    /* Written so that a NaN is refused. */
    if (!(percent->value >= 0 && percent->value <= 100)) {
        return compile_refuse(c, field, "must be 0 to 100");
    }
    *out = percent->value;
    return true;
}

bool compile_fraction(struct compiler *c, const Envoy__Type__V3__FractionalPercent *percent,
                      struct fraction *out)
{
    out->numerator = percent->numerator;
    switch (percent->denominator) {
    case ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__HUNDRED:
        out->denominator = 100;
        return true;
    case ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__TEN_THOUSAND:
        out->denominator = 10000;
        return true;
    case ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__MILLION:
        out->denominator = 1000000;
        return true;
    default: /* the wire may carry any number */
        return compile_refuse(c, "denominator", "has no value %d", (int)percent->denominator);
    }
}

bool compile_runtime_fraction(struct compiler *c, const char *field,
                              const Envoy__Config__Core__V3__RuntimeFractionalPercent *percent,
                              struct fraction *out)
{
    *out = (struct fraction){0, 0};
    if (percent == NULL) {
        return true;
    }
    if (percent->default_value == NULL) {
        return compile_refuse(c, field, "default_value is required");
    }
    return COMPILE_IN(c, compile_fraction(c, percent->default_value, out), "%s.default_value",
                      field);
}

/* ---- core messages ---- */

#define CORE(type)     Envoy__Config__Core__V3__##type
#define CORE_IS(value) ENVOY__CONFIG__CORE__V3__##value

bool compile_socket_address(struct compiler *c, const CORE(SocketAddress) * address,
                            struct addr *out)
{
    if (address->protocol != CORE_IS(SOCKET_ADDRESS__PROTOCOL__TCP)) {
        return compile_refuse(c, "protocol", "only TCP is supported");
    }
    if (address->port_specifier_case != CORE_IS(SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE)) {
        return compile_refuse(c, "port_value", "is required");
    }
    if (address->port_value > UINT16_MAX) {
        return compile_refuse(c, "port_value", "is %u; at most 65535 is allowed",
                              address->port_value);
    }
    if (!compile_required(c, "address", address->address)) {
        return false;
    }
    if (!addr_parse_ip(slice_of_text(address->address), out)) {
        return compile_refuse(c, "address", "'%.80s' is no IP address", address->address);
    }
    out->port = (uint16_t)address->port_value;
    return true;
}

bool compile_address(struct compiler *c, const char *field, const CORE(Address) * address,
                     struct addr *out)
{
    if (address == NULL) {
        return compile_refuse(c, field, "is required");
    }
    if (address->address_case != CORE_IS(ADDRESS__ADDRESS_SOCKET_ADDRESS)) {
        return compile_refuse(c, field, "only socket_address is supported");
    }
    return COMPILE_IN(c, compile_socket_address(c, address->socket_address, out),
                      "%s.socket_address", field);
}

bool compile_cidr(struct compiler *c, const CORE(CidrRange) * range, struct cidr *out)
{
    if (!addr_parse_ip(slice_of_text(range->address_prefix), &out->addr)) {
        return compile_refuse(c, "address_prefix", "'%.80s' is no IP address",
                              range->address_prefix);
    }
    uint32_t bits = out->addr.family == ADDR_IPV4 ? 32 : 128;
    uint32_t prefix_len;
    /* Ours: without a length it is a single address, not everything. */
    if (!compile_u32(c, "prefix_len", range->prefix_len, bits, 0, bits, &prefix_len)) {
        return false;
    }
    out->prefix_len = (uint8_t)prefix_len;
    return true;
}

static bool read_file(struct compiler *c, const char *field, const char *path, struct slice *out)
{
    struct error reason = {.text = "files are read for a static bootstrap only"};
    if (!compile_required(c, field, path)) {
        return false;
    }
    if (c->options->read_file == NULL ||
        !c->options->read_file(c->options->reader, path, c->arena, out, &reason)) {
        return compile_refuse(c, field, "%.400s", reason.text);
    }
    return true;
}

bool compile_data(struct compiler *c, const char *field, const CORE(DataSource) * source,
                  struct slice *out)
{
    *out = slice_of_text("");
    if (source == NULL) {
        return true;
    }
    switch (source->specifier_case) {
    case CORE_IS(DATA_SOURCE__SPECIFIER_INLINE_BYTES):
        *out = compile_bytes(c, source->inline_bytes);
        return true;
    case CORE_IS(DATA_SOURCE__SPECIFIER_INLINE_STRING):
        *out = compile_text(c, source->inline_string);
        return true;
    case CORE_IS(DATA_SOURCE__SPECIFIER_FILENAME):
        return COMPILE_IN(c, read_file(c, "filename", source->filename, out), "%s", field);
    case CORE_IS(DATA_SOURCE__SPECIFIER_ENVIRONMENT_VARIABLE):
        return compile_refuse(c, field, "environment_variable is not supported");
    default:
        return compile_refuse(c, field, "one of filename, inline_bytes, inline_string is required");
    }
}

/* What a TypedStruct stands for; null where it is none. Only types that are ignored may come so. */
static const char *typed_struct_url(struct compiler *c, const struct xds_type *type,
                                    const Google__Protobuf__Any *any)
{
    if (type->descriptor == &xds__type__v3__typed_struct__descriptor) {
        const Xds__Type__V3__TypedStruct *inner =
            decode_any(c->scratch, type->descriptor, any->type_url, any->value, NULL);
        return inner != NULL ? inner->type_url : NULL;
    }
    if (type->descriptor == &udpa__type__v1__typed_struct__descriptor) {
        const Udpa__Type__V1__TypedStruct *inner =
            decode_any(c->scratch, type->descriptor, any->type_url, any->value, NULL);
        return inner != NULL ? inner->type_url : NULL;
    }
    return NULL;
}

bool compile_any(struct compiler *c, const char *field, const Google__Protobuf__Any *any,
                 enum xds_kind kind, const struct xds_type **type, void **message)
{
    *message = NULL;
    if (any == NULL || any->type_url[0] == '\0') {
        return compile_refuse(c, field, "is required");
    }
    const char *url = any->type_url;
    *type = xds_type_find(url);
    const char *inner = *type != NULL ? typed_struct_url(c, *type, any) : NULL;
    if (inner != NULL) {
        *type = xds_type_find(inner);
        if (*type == NULL || (*type)->verdict != XDS_IGNORE) {
            return compile_unknown(c, field, inner);
        }
    }
    if (*type == NULL || (*type)->verdict == XDS_REFUSE || (*type)->kind != kind) {
        return compile_unknown(c, field, url);
    }
    if ((*type)->verdict == XDS_IGNORE) {
        return true;
    }
    struct error reason = {.text = ""};
    *message = decode_any(c->scratch, (*type)->descriptor, url, any->value, &reason);
    return *message != NULL || compile_refuse(c, field, "%.400s", reason.text);
}

/* ---- metadata ---- */

const Google__Protobuf__Struct *compile_metadata(const CORE(Metadata) * metadata, const char *space)
{
    for (size_t i = 0; metadata != NULL && i < metadata->n_filter_metadata; i++) {
        if (strcmp(metadata->filter_metadata[i]->key, space) == 0) {
            return metadata->filter_metadata[i]->value;
        }
    }
    return NULL;
}

const Google__Protobuf__Value *compile_struct_get(const Google__Protobuf__Struct *fields,
                                                  const char *key)
{
    for (size_t i = 0; fields != NULL && i < fields->n_fields; i++) {
        if (strcmp(fields->fields[i]->key, key) == 0) {
            return fields->fields[i]->value;
        }
    }
    return NULL;
}

struct slice compile_struct_text(struct compiler *c, const Google__Protobuf__Struct *fields,
                                 const char *key)
{
    const Google__Protobuf__Value *value = compile_struct_get(fields, key);
    if (value == NULL || value->kind_case != GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE) {
        return slice_of_text("");
    }
    return compile_name(c, value->string_value);
}

/* 0 where it is none, or none that fits. */
static uint64_t struct_number(const Google__Protobuf__Struct *fields, const char *key, double most)
{
    const Google__Protobuf__Value *value = compile_struct_get(fields, key);
    if (value == NULL || value->kind_case != GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE ||
        !(value->number_value >= 0 && value->number_value <= most)) {
        return 0;
    }
    return (uint64_t)value->number_value;
}

const struct origin *compile_origin(struct compiler *c, const CORE(Metadata) * metadata)
{
    const Google__Protobuf__Struct *fields = compile_metadata(metadata, "pillion.io");
    struct slice object = compile_struct_text(c, fields, "object");
    if (object.len == 0) {
        return NULL;
    }
    struct origin *origin = ARENA_NEW(c->arena, struct origin);
    origin->object = object;
    origin->file = compile_struct_text(c, fields, "file");
    origin->generation = struct_number(fields, "generation", 9007199254740992.0);
    origin->line = (uint32_t)struct_number(fields, "line", UINT32_MAX);
    uint64_t hash = slice_hash(origin->object, origin->generation * 31 + origin->line);
    hash = slice_hash(origin->file, hash);
    origin->id = (uint32_t)hash != 0 ? (uint32_t)hash : 1;
    return origin;
}

static bool label_value(struct compiler *c, const Google__Protobuf__Value *value,
                        struct slice *text)
{
    switch (value != NULL ? value->kind_case : GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET) {
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        *text = compile_name(c, value->string_value);
        return true;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        *text = compile_name(c, value->bool_value ? "true" : "false");
        return true;
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        *text = compile_name(c, arena_printf(c->scratch, "%.17g", value->number_value));
        return true;
    default:
        return false;
    }
}

const struct label *compile_labels(struct compiler *c, const Google__Protobuf__Struct *fields,
                                   uint16_t *count)
{
    *count = 0;
    size_t most = fields != NULL && fields->n_fields < UINT16_MAX ? fields->n_fields : 0;
    struct label *labels = COMPILE_ARRAY(c, struct label, most);
    for (size_t i = 0; i < most; i++) {
        if (label_value(c, fields->fields[i]->value, &labels[*count].value)) {
            labels[*count].key = compile_name(c, fields->fields[i]->key);
            (*count)++;
        }
    }
    return labels;
}
