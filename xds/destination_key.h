#pragma once
/* Names of the on-demand resource pillion.config.v1.Destination:
 *
 *     ip/<network>/<address>:<port>    an original destination; the network is empty by default
 *     host/<authority>:<port>          an authority, once a request's head is known
 *
 * A name has one spelling only, because both ends compare names as bytes: addresses as RFC 5952
 * writes them (brackets around IPv6, IPv4-mapped ones as IPv4), hosts in lower case without a dot
 * at the end, ports in decimal without leading zeros. Port 0 means any. Pure; any thread. */

#include "base/addr.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"

/* Longest host (RFC 1035 2.3.4 allows 253) and network. */
#define DESTINATION_HOST_MAX    253
#define DESTINATION_NETWORK_MAX 63

enum destination_kind { DESTINATION_IP, DESTINATION_HOST };

struct destination_key {
    enum destination_kind kind;
    struct slice network; /* IP only */
    struct addr addr;     /* IP only; with the port */
    struct slice host;    /* HOST only; IPv6 literals keep their brackets */
    uint16_t port;        /* both */
};

/* The name, null-terminated, in the arena. The address must not be ADDR_NONE. */
const char *destination_key_of_addr(struct arena *arena, struct slice network,
                                    const struct addr *addr);
/* From a host as it came in a request's authority, without its port: case is folded, a dot at the
 * end dropped. Null with err when no host can be written so: empty, too long, or bytes that a host
 * cannot have. */
const char *destination_key_of_host(struct arena *arena, struct slice host, uint16_t port,
                                    struct error *err) MUST_USE;
/* Reads a name in its one spelling; slices are borrowed from it. */
bool destination_key_parse(struct slice name, struct destination_key *key,
                           struct error *err) MUST_USE;
