#pragma once
/* Where one address is that of several services, a request's authority says which one it is for
 * (Destination.by_authority): that name is asked for like any other destination, and the request
 * waits for the answer. One worker. */

#include <stdint.h>

#include "sidecar/config/destinations.h"

/* service.choose of such an address. The service whose this is serves what its names do not: an
 * authority that the mesh has nothing for, where there are routes beside by_authority.
 * `port` stands for one that the authority does not say, where the connection was not captured. */
struct service_choice *destinations_choose(struct destinations *destinations,
                                           struct service *shared, uint16_t port,
                                           const struct service_question *question) MUST_USE;
