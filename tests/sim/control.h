#pragma once
/* The control plane of the simulated mesh: the real picture, views, streams and certificate service
 * behind the real server, on a stepped loop, over OpenSSL's TLS. In place of a watched folder it is
 * given text; in place of a disk the picture itself outlives a restart, unless it is to be
 * forgotten. Opaque: control's headers and the sidecar's do not go together. */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "tests/sim/authority.h"
#include "tests/sim/world.h"

struct control_options {
    struct world *world;
    struct pod *pod;
    const struct authority *authority;
    uint32_t ttl_s; /* of certificates; 0: a day */
    bool block_unknown;
};

struct control;

/* Not started yet. */
struct control *control_new(const struct control_options *options) MUST_USE;
void control_free(struct control **control);
struct addr control_get_addr(const struct control *control);
void control_start(struct control *control);
/* As SIGKILL does. `forget`: its state is lost too. */
void control_kill(struct control *control, bool forget);

/* The objects that there are from now on, as YAML; refused ones end the program. */
void control_apply(struct control *control, const char *text);
/* The next thing that clients are sent of their destinations is no Destination at all; until the
 * next control_apply. */
void control_spoil(struct control *control);
/* So many clients have a stream, and all of them acknowledged all that there is. */
bool control_is_acknowledged(const struct control *control, unsigned clients);
/* Responses that were sent, since the start. */
uint64_t control_pushes(const struct control *control);
/* Responses that clients rejected, since the start. */
uint64_t control_rejections(const struct control *control);
/* Destinations that its clients are subscribed to, all together. */
unsigned control_destinations(const struct control *control);
