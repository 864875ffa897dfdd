#pragma once
/* Protobuf messages as JSON and back, by their descriptors (the proto3 JSON mapping). Reading is
 * for what people write (`--config FILE`, an Envoy bootstrap), so it is strict: a field that we do
 * not know, a wrong type, two members of a oneof, an extension that is not in xds/types.h, all are
 * refused with the path of the field, "static_resources.clusters[0].foo". Writing is for
 * /config_dump and golden tests: names as in the .proto files, as Envoy writes them. Pure; one
 * thread at a time per json_t. */

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

/* Objects and arrays inside each other, in either direction. */
#define XDS_JSON_DEPTH_MAX 100

/* The message that `value` (an object, for most types) stands for, in the arena; null with the path
 * and the reason in err. Accepted, as the mapping wants: names in lowerCamelCase or as in the
 * .proto file; null for absent; 64-bit numbers and floats as strings; enums by name or number;
 * bytes in either base64 alphabet; Duration as "1.5s"; Any as an object with "@type". */
void *xds_json_read(struct arena *arena, const ProtobufCMessageDescriptor *type,
                    const json_t *value, struct error *err) MUST_USE;

/* A new reference; never null. What is absent or has its default is left out. An Any of a type that
 * is not in xds/types.h is written as {"@type", "value": base64}; private keys and generic secrets
 * as "[redacted]". `scratch` holds what is inside of Any messages while this runs. */
json_t *xds_json_write(struct arena *scratch, const ProtobufCMessage *message) MUST_USE;
