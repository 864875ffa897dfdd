#pragma once
/* What two sidecars of ours tell each other over one connection, in PEER frames (xds/peer.h): who
 * they are, once; how they are, whenever that changes; and of a stream that is given back unseen,
 * why. All of it is a hint: a peer that says nothing, or the wrong thing, costs a label or a better
 * choice, never correctness. On connections to others nothing is written and nothing comes.
 *
 * Embedded beside the channel that it is about: a pool's connection, a server's. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "http/channel.h"
#include "sidecar/fail.h"
#include "xds/peer.h"

struct worker;

/* Of a connection's own frames as many are read in a second; more are skipped. A stream's frame is
 * read when the stream was refused, so there is at most one each. */
#define PEER_LINK_NOTES_PER_SECOND 10

struct peer_link {
    bool mesh;      /* the other end is a sidecar of ours */
    uint32_t taken; /* notes read in this second */
    uint64_t since_us;
};

/* For a channel that is ready: looks at what the handshake agreed on and introduces us. */
void peer_link_open(struct peer_link *link, struct worker *worker, struct channel *channel);
/* Something changed: says again how we are. Leaves at the end of the tick. */
void peer_link_tell(const struct peer_link *link, struct worker *worker, struct channel *channel);
/* Gives a stream back of which no application saw anything: the reason, then REFUSED_STREAM. The
 * stream is detached. */
void peer_link_refuse(const struct peer_link *link, struct stream *stream, enum fail fail);

/* What a PEER event on the connection itself says; slices live as long as the arena. False: it is
 * not read (too many, or no note). */
bool peer_link_read(struct peer_link *link, const struct worker *worker,
                    const struct codec_event *ev, struct arena *arena,
                    struct peer_note *note) MUST_USE;
/* The application's end came before a byte of its answer, under a request that the caller may
 * repeat elsewhere: cause RESET, which the caller takes as if it had happened to itself. */
void peer_link_cut(const struct peer_link *link, struct stream *stream, enum fail fail);
/* Why the peer refused or cut the stream; FAIL_NONE: it did not say, or in words that are none of
 * ours. */
enum fail peer_link_refusal(const struct stream *stream);
