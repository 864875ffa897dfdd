#pragma once
/* Moves a body from one stream to the other: the only mover of bodies. Each way has its marks in
 * the streams and channels; what cannot go on waits in the source, which thereby stops reading. One
 * worker. */

#include <stdbool.h>
#include <stdint.h>

#include "http/channel.h"

/* X(value, meaning) */
#define RELAY_RESULTS(X)                                                                           \
    X(OPEN, "goes on when more comes or there is room")                                            \
    X(ENDED, "the end was written")

enum relay_result {
#define X(value, meaning) RELAY_##value,
    RELAY_RESULTS(X)
#undef X
};

struct relay_way {
    struct stream *from;
    struct stream *to;
    struct buf *first; /* sent before from->in: a replayed body; may be null */
    struct buf *tee;   /* gets a copy of what is taken from from->in; may be null */
    size_t tee_max;    /* above it the tee is dropped and *tee_ok becomes false */
    bool *tee_ok;
    bool trailers; /* the receiver takes them; else dropped */
};

/* Moves what can be moved now, the end and the trailers included. *moved: body bytes. */
enum relay_result relay_move(const struct relay_way *way, uint64_t *moved);
