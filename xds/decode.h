#pragma once
/* The only door by which protobuf bytes become messages. Bytes come from a peer or an operator, so
 * everything is bounded before it is believed: size, nesting, and the memory that the message would
 * take. protobuf-c's own unpacker is not used: it has no limit of depth (some 74 KB of nesting
 * overrun its stack), allocates scratch memory that an arena could not give back, keeps unknown
 * fields, and does not say which field was wrong. This one reads protobuf-c's descriptors and makes
 * protobuf-c's structs. Pure; any thread.
 *
 * Unknown fields are skipped, as Envoy does with what arrives by xDS. A string that is no UTF-8, or
 * holds a zero byte (in C it would end there, and two different names would be the same), is
 * refused. */

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"

/* Messages inside messages; the outermost counts as 1. */
#define DECODE_DEPTH_MAX 64
/* Memory that one call may take for a message of n bytes: a fixed part and a multiple of n. An
 * empty sub-message takes 2 bytes on the wire and up to 500 in memory. */
#define DECODE_MEMORY_BASE   ((size_t)1024 * 1024)
#define DECODE_MEMORY_FACTOR ((size_t)32)

/* The message, in the arena, or null with the field's path and the reason in err
 * ("clusters[2].load_assignment.endpoints[0]: truncated"). Strings and bytes are copies; absent
 * strings are "". err may be null. */
void *decode_message(struct arena *arena, const ProtobufCMessageDescriptor *type,
                     struct slice bytes, struct error *err) MUST_USE;

/* The message inside an Any, or null when its type URL names another type or the bytes are bad.
 * type_url and value are the two fields of google.protobuf.Any. */
void *decode_any(struct arena *arena, const ProtobufCMessageDescriptor *type, const char *type_url,
                 ProtobufCBinaryData value, struct error *err) MUST_USE;

/* The bytes of a message; cannot fail. Map entries keep their order, so equal messages built alike
 * give equal bytes. */
struct slice encode_message(struct arena *arena, const ProtobufCMessage *message);

/* True when the URL is "<anything>/<full name of type>" (google.protobuf.Any: the last segment). */
bool decode_names_type(const char *type_url, const ProtobufCMessageDescriptor *type);
