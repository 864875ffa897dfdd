#pragma once
/* How a compiled snapshot reaches the workers and comes home to be freed, without a lock and
 * without an atomic on the request path. The admin thread publishes a snapshot and makes a parcel
 * of it for each worker that gets it. The parcel is counted by that worker alone: by what it
 * serves, and by requests that began with it. Its last reference sends it home by mail; the
 * snapshot is freed on the admin thread when every parcel is home and the admin has let go too. */

#include <stdint.h>

#include "base/check.h"
#include "base/loop.h"
#include "sidecar/config/snapshot.h"

/* The admin thread's. */
struct published;

struct published *published_new_take(struct loop *home, struct snapshot **snapshot) MUST_USE;
/* Another owner on the admin thread. */
struct published *published_ref(struct published *published);
void published_unref(struct published **published);

/* One worker's hold of a published snapshot. */
struct parcel;

/* Admin thread. One reference, which goes to the worker with the mail that carries it. */
struct parcel *parcel_new(struct published *published) MUST_USE;
/* The worker's thread. */
struct parcel *parcel_ref(struct parcel *parcel);
/* The last one sends it home. Null is allowed. */
void parcel_unref(struct parcel **parcel);
