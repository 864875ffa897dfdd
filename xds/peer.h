#pragma once
/* The payload of the PEER frame (xds/proto/pillion/mesh/v1/peer.proto) as a plain struct: what one
 * sidecar tells the other about itself and about a stream that it refuses. Protobuf stops here. A
 * note that a peer sends is a hint and may say anything; nothing may depend on it for correctness.
 * Pure; any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"

/* A longer payload is neither sent nor read. */
#define PEER_NOTE_MAX_BYTES 1024

struct peer_note {
    /* Who: empty where the frame does not say. */
    struct slice workload;
    struct slice namespace;
    struct slice app;
    struct slice version;
    struct slice pod_uid;
    uint64_t generation; /* of the configuration in force; 0: not said */

    /* How it is. */
    bool draining;
    bool overloaded; /* do not retry here */
    uint32_t requests_in_flight;
    uint32_t latency_us; /* recent, of its application; 0: not said */

    /* Why the stream that carries the frame is refused: a name of sidecar/fail.h; else empty. */
    struct slice fail;
};

/* The payload, in the arena. Names that would make it longer than PEER_NOTE_MAX_BYTES are cut. */
struct slice peer_note_write(struct arena *arena, const struct peer_note *note);
/* False when the bytes are too long or no Peer; the slices live as long as the arena. */
bool peer_note_read(struct arena *arena, struct slice payload, struct peer_note *note,
                    struct error *err) MUST_USE;
