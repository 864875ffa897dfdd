#include "google/protobuf/struct.pb-c.h"

#include "policy/translate_private.h"
#include "xds/decode.h"

#define TYPE_PREFIX "type.googleapis.com/"

void *pb_new(struct arena *arena, const ProtobufCMessageDescriptor *type)
{
    void *message = arena_alloc(arena, type->sizeof_message);
    protobuf_c_message_init(type, message);
    return message;
}

char *pb_text(struct arena *arena, const char *text)
{
    return arena_text(arena, slice_of_text(text));
}

Google__Protobuf__UInt32Value *pb_u32(struct arena *arena, uint32_t value)
{
    Google__Protobuf__UInt32Value *wrapper = MESSAGE(arena, google__protobuf__uint32_value);
    wrapper->value = value;
    return wrapper;
}

Google__Protobuf__BoolValue *pb_bool(struct arena *arena, bool value)
{
    Google__Protobuf__BoolValue *wrapper = MESSAGE(arena, google__protobuf__bool_value);
    wrapper->value = value;
    return wrapper;
}

Google__Protobuf__Duration *pb_duration(struct arena *arena, uint64_t us)
{
    Google__Protobuf__Duration *duration = MESSAGE(arena, google__protobuf__duration);
    duration->seconds = (int64_t)(us / 1000000);
    duration->nanos = (int32_t)(us % 1000000 * 1000);
    return duration;
}

Google__Protobuf__Any *pb_any_bytes(struct arena *arena, const char *type_url, struct slice bytes)
{
    Google__Protobuf__Any *any = MESSAGE(arena, google__protobuf__any);
    struct slice copy = arena_dup(arena, bytes);
    any->type_url = pb_text(arena, type_url);
    any->value.len = copy.len;
    any->value.data = arena_bytes(arena, copy.len > 0 ? copy.len : 1);
    for (size_t i = 0; i < copy.len; i++) {
        any->value.data[i] = copy.at[i];
    }
    return any;
}

Google__Protobuf__Any *pb_any(struct arena *arena, const void *message)
{
    const ProtobufCMessage *base = message;
    const char *url = arena_printf(arena, "%s%s", TYPE_PREFIX, base->descriptor->name);
    return pb_any_bytes(arena, url, encode_message(arena, base));
}

CORE(Address) * pb_address(struct arena *arena, const char *ip, uint32_t port)
{
    CORE(SocketAddress) *socket = MESSAGE(arena, envoy__config__core__v3__socket_address);
    socket->address = pb_text(arena, ip);
    socket->port_specifier_case = CORE_IS(SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE);
    socket->port_value = port;
    CORE(Address) *address = MESSAGE(arena, envoy__config__core__v3__address);
    address->address_case = CORE_IS(ADDRESS__ADDRESS_SOCKET_ADDRESS);
    address->socket_address = socket;
    return address;
}

CORE(ConfigSource) * pb_ads(struct arena *arena)
{
    CORE(ConfigSource) *source = MESSAGE(arena, envoy__config__core__v3__config_source);
    source->config_source_specifier_case = CORE_IS(CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS);
    source->ads = MESSAGE(arena, envoy__config__core__v3__aggregated_config_source);
    source->resource_api_version = CORE_IS(API_VERSION__V3);
    return source;
}

/* The Struct of a space; made when it is not there yet. */
static Google__Protobuf__Struct *metadata_space(struct arena *arena, CORE(Metadata) * *metadata,
                                                const char *space)
{
    if (*metadata == NULL) {
        *metadata = MESSAGE(arena, envoy__config__core__v3__metadata);
    }
    CORE(Metadata) *all = *metadata;
    for (size_t i = 0; i < all->n_filter_metadata; i++) {
        if (strcmp(all->filter_metadata[i]->key, space) == 0) {
            return all->filter_metadata[i]->value;
        }
    }
    CORE(Metadata__FilterMetadataEntry) *entry =
        MESSAGE(arena, envoy__config__core__v3__metadata__filter_metadata_entry);
    entry->key = pb_text(arena, space);
    entry->value = MESSAGE(arena, google__protobuf__struct);
    ARRAY_PUSH(arena, all->filter_metadata, all->n_filter_metadata, entry);
    return entry->value;
}

static Google__Protobuf__Value *metadata_value(struct arena *arena, CORE(Metadata) * *metadata,
                                               const char *space, const char *key)
{
    Google__Protobuf__Struct *fields = metadata_space(arena, metadata, space);
    Google__Protobuf__Struct__FieldsEntry *entry =
        MESSAGE(arena, google__protobuf__struct__fields_entry);
    entry->key = pb_text(arena, key);
    entry->value = MESSAGE(arena, google__protobuf__value);
    ARRAY_PUSH(arena, fields->fields, fields->n_fields, entry);
    return entry->value;
}

void pb_metadata_text(struct arena *arena, CORE(Metadata) * *metadata, const char *space,
                      const char *key, const char *text)
{
    Google__Protobuf__Value *value = metadata_value(arena, metadata, space, key);
    value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
    value->string_value = pb_text(arena, text);
}

void pb_metadata_number(struct arena *arena, CORE(Metadata) * *metadata, const char *space,
                        const char *key, double number)
{
    Google__Protobuf__Value *value = metadata_value(arena, metadata, space, key);
    value->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
    value->number_value = number;
}

CORE(Metadata) * pb_origin(struct translation *t, const struct object *object, uint32_t line)
{
    CORE(Metadata) *metadata = NULL;
    translation_uses(t, object);
    if (object != NULL) {
        pb_metadata_text(t->arena, &metadata, PILLION_METADATA, "object", object->id);
        pb_metadata_number(t->arena, &metadata, PILLION_METADATA, "generation",
                           (double)object->generation);
        pb_metadata_text(t->arena, &metadata, PILLION_METADATA, "file", object->file);
        pb_metadata_number(t->arena, &metadata, PILLION_METADATA, "line",
                           line > 0 ? line : object->line);
    }
    return metadata;
}
