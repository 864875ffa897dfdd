#pragma once
/* What protobuf-c's descriptors leave to be known of a field. Pure. */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* Bytes that one value of the type takes in its message's struct; of an array, that one element. */
size_t field_bytes(ProtobufCType type);
