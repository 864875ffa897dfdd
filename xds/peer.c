#include "xds/peer.h"

#include "pillion/mesh/v1/peer.pb-c.h"

#include "xds/decode.h"

/* Six names of at most 128 bytes, with their tags and lengths, and five numbers stay below 1 KiB.
 * Kubernetes allows 63 in a label and 253 in a name; what is cut only loses a metric's label. */
#define NAME_MAX_BYTES 128

static_assert(6 * (NAME_MAX_BYTES + 3) + 5 * 11 <= PEER_NOTE_MAX_BYTES, "every note fits");

/* Cut at a character, so that what is left is UTF-8 still. */
static char *name_text(struct arena *arena, struct slice name)
{
    if (name.len > NAME_MAX_BYTES) {
        size_t len = NAME_MAX_BYTES;
        while (len > 0 && (name.at[len] & 0xc0) == 0x80) {
            len--;
        }
        name.len = len;
    }
    return arena_text(arena, name);
}

struct slice peer_note_write(struct arena *arena, const struct peer_note *note)
{
    CHECK(note != NULL);
    Pillion__Mesh__V1__Peer peer;
    pillion__mesh__v1__peer__init(&peer);
    peer.workload = name_text(arena, note->workload);
    peer.namespace_ = name_text(arena, note->namespace);
    peer.app = name_text(arena, note->app);
    peer.version = name_text(arena, note->version);
    peer.pod_uid = name_text(arena, note->pod_uid);
    peer.generation = note->generation;
    peer.draining = note->draining;
    peer.overloaded = note->overloaded;
    peer.requests_in_flight = note->requests_in_flight;
    peer.latency_us = note->latency_us;
    peer.fail = name_text(arena, note->fail);
    struct slice payload = encode_message(arena, &peer.base);
    CHECK(payload.len <= PEER_NOTE_MAX_BYTES);
    return payload;
}

bool peer_note_read(struct arena *arena, struct slice payload, struct peer_note *note,
                    struct error *err)
{
    CHECK(note != NULL);
    if (payload.len > PEER_NOTE_MAX_BYTES) {
        return error_set(err, "a PEER frame of %zu bytes; %d are allowed", payload.len,
                         PEER_NOTE_MAX_BYTES);
    }
    const Pillion__Mesh__V1__Peer *peer =
        decode_message(arena, &pillion__mesh__v1__peer__descriptor, payload, err);
    if (peer == NULL) {
        return error_wrap(err, "PEER frame");
    }
    *note = (struct peer_note){
        .workload = slice_of_text(peer->workload),
        .namespace = slice_of_text(peer->namespace_),
        .app = slice_of_text(peer->app),
        .version = slice_of_text(peer->version),
        .pod_uid = slice_of_text(peer->pod_uid),
        .generation = peer->generation,
        .draining = peer->draining,
        .overloaded = peer->overloaded,
        .requests_in_flight = peer->requests_in_flight,
        .latency_us = peer->latency_us,
        .fail = slice_of_text(peer->fail),
    };
    return true;
}
