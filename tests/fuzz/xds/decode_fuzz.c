/* The decoder against protobuf-c's own. What ours accepted and packed again, theirs must accept as
 * the same message; and where theirs accepts the original bytes, both hold the same (unknown fields
 * set aside). Not where a message has to be merged: protobuf-c 1.4.1 refuses to, or loses the first
 * one's oneof. The first byte picks the type. */

#include <stdint.h>
#include <stdlib.h>

#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "pillion/config/v1/destination.pb-c.h"

#include "xds/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unknown fields are kept by protobuf-c; without them the two are the same. */
static void forget_unknown(ProtobufCMessage *message)
{
    message->n_unknown_fields = 0;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        uint8_t *base = (uint8_t *)message;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(size_t *)(void *)(base + field->quantifier_offset);
            ProtobufCMessage **inner = *(ProtobufCMessage ***)(void *)(base + field->offset);
            for (size_t k = 0; k < count; k++) {
                forget_unknown(inner[k]);
            }
        } else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 ||
                   *(uint32_t *)(void *)(base + field->quantifier_offset) == field->id) {
            ProtobufCMessage *inner = *(ProtobufCMessage **)(void *)(base + field->offset);
            if (inner != NULL) {
                forget_unknown(inner);
            }
        }
    }
}

static uint64_t take_varint(struct slice *in)
{
    uint64_t value = 0;
    for (unsigned shift = 0; in->len > 0; shift += 7) {
        uint8_t byte = in->at[0];
        *in = slice_from(*in, 1);
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (byte < 0x80) {
            break;
        }
    }
    return value;
}

/* True when a message that is not repeated occurs twice; the bytes are well-formed. */
static bool merges(const ProtobufCMessageDescriptor *type, struct slice in)
{
    uint64_t seen = 0;
    while (in.len > 0) {
        uint64_t tag = take_varint(&in);
        size_t len = (tag & 7) == 1 ? 8 : (tag & 7) == 5 ? 4 : 0;
        if ((tag & 7) == 0) {
            (void)take_varint(&in);
        } else if ((tag & 7) == 2) {
            len = take_varint(&in);
        }
        struct slice inner = slice_head(in, len);
        in = slice_from(in, len);
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        uint64_t bit = 1ULL << (field - type->fields);
        if ((field->label != PROTOBUF_C_LABEL_REPEATED && (seen & bit) != 0) ||
            merges(field->descriptor, inner)) {
            return true;
        }
        seen |= bit;
    }
    return false;
}

static void *scratch_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size > 0 ? size : 1);
}

static void scratch_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

/* Unpacked and packed again by protobuf-c, without what it does not know; a null slice where it
 * refuses. */
static struct slice unpacked_by_theirs(struct arena *arena, const ProtobufCMessageDescriptor *type,
                                       struct slice bytes)
{
    ProtobufCAllocator allocator = {
        .alloc = scratch_alloc, .free = scratch_free, .allocator_data = arena};
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, bytes.len, bytes.at);
    if (message == NULL) {
        return slice_of(NULL, 0);
    }
    forget_unknown(message);
    return encode_message(arena, message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &envoy__service__discovery__v3__delta_discovery_response__descriptor,
        &envoy__config__bootstrap__v3__bootstrap__descriptor,
        &envoy__config__route__v3__route_configuration__descriptor,
        &pillion__config__v1__destination__descriptor,
        &google__protobuf__struct__descriptor,
    };
    if (size < 1) {
        return 0;
    }
    const ProtobufCMessageDescriptor *type = types[data[0] % COUNT_OF(types)];
    struct slice bytes = slice_of(data + 1, size - 1);
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    ProtobufCMessage *ours = decode_message(&arena, type, bytes, &err);
    if (ours == NULL) {
        CHECK(err.text[0] != '\0');
    } else {
        struct slice packed = encode_message(&arena, ours);
        CHECK(slice_eq(packed, unpacked_by_theirs(&arena, type, packed)));
        if (!merges(type, bytes)) {
            struct slice same = unpacked_by_theirs(&arena, type, bytes);
            CHECK(same.at == NULL || slice_eq(packed, same));
        }
    }
    arena_fini(&arena);
    return 0;
}
