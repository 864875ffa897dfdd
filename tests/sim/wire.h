#pragma once
/* An actor's end of a connection: bytes to send, which go as the network lets them, and bytes that
 * came. Reads all that is there on each run. Embedded in the actor; one thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net.h"

struct wire_bytes {
    uint8_t *at;
    size_t from; /* taken off the front */
    size_t len;
    size_t cap;
};

struct wire {
    struct net_conn *net; /* null: not open */
    struct wire_bytes out;
    bool eof;        /* the peer's FIN */
    bool failed;     /* reset, or never connected */
    bool fin_wanted; /* FIN behind what is in `out` */
    bool fin_sent;
    bool deaf; /* reads nothing, for an actor that is slow */
};

typedef void wire_take(void *owner, const uint8_t *bytes, size_t len);

void wire_put(struct wire *wire, const void *bytes, size_t len);
void wire_text(struct wire *wire, const char *format, ...) PRINTF_LIKE(2, 3);
/* Receives into `take` and sends; when its owner's task runs. */
void wire_run(struct wire *wire, wire_take *take, void *owner);
void wire_send(struct wire *wire);
void wire_set_deaf(struct wire *wire, bool deaf);
void wire_fin(struct wire *wire);
static inline size_t wire_waiting(const struct wire *wire)
{
    return wire->out.len - wire->out.from;
}
/* Drops what was not sent. */
void wire_close(struct wire *wire);
void wire_reset(struct wire *wire);
