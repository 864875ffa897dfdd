#pragma once
/* The client's end of a Delta ADS stream as a step machine: bytes, names and the time go in,
 * requests and updates come out. No I/O, no clock, no randomness of its own.
 *
 * The owner drives it so:
 *
 *     ads_client_connect_at()       when to open the stream; then ads_client_opened()
 *     ads_client_want()             whenever a name is needed
 *     ads_client_receive()          a message came; then, until there is none,
 *         ads_client_update()           look at the next change, apply it,
 *         ads_client_settle()           say whether it was taken; the last one queues ACK or NACK
 *     ads_client_tick()             when ads_client_deadline() has come; makes updates too
 *     ads_client_request()          until it gives nothing: what to send now
 *     ads_client_closed()           the stream ended, for whatever reason
 *
 * What was accepted stays in force while disconnected; a new stream is told its versions, so that
 * only differences come. Requests that answer a response never carry subscriptions and the other
 * way round, because istiod drops subscriptions from requests that it takes for stale. One thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/slice.h"
#include "xds/types.h"

#define ADS_CLIENT_BACKOFF_MIN_MS 500
#define ADS_CLIENT_BACKOFF_MAX_MS 30000
#define ADS_CLIENT_ANSWER_MS      5000 /* how long a name may stay without an answer */
#define ADS_CLIENT_NACK_TEXT_MAX  4096

struct ads_client;

#define ADS_UPDATES(X)                                                                             \
    X(PUT, "a new or changed resource")                                                            \
    X(REMOVED, "the server has no resource of this name, or no longer")                            \
    X(SILENCE, "no answer for this name in time; one may still come")

enum ads_update_kind {
#define X(name, text) ADS_UPDATE_##name,
    ADS_UPDATES(X)
#undef X
};

/* Borrowed from the client until ads_client_settle. */
struct ads_update {
    enum ads_update_kind kind;
    enum xds_resource type;
    struct slice name;
    struct slice body;           /* PUT: the encoded message */
    const struct slice *aliases; /* PUT: other names of the same resource */
    size_t alias_count;
};

struct ads_client_options {
    struct slice node; /* an encoded envoy.config.core.v3.Node; copied */
    uint64_t seed;     /* of hashing and back-off */
};

struct ads_client *ads_client_new(const struct ads_client_options *options) MUST_USE;
void ads_client_free(struct ads_client **client);

/* Subscribes to a name; nothing where it is wanted already. */
void ads_client_want(struct ads_client *client, enum xds_resource type, struct slice name,
                     uint64_t now_ms);
/* Ends the subscription; the client forgets what it had of it. */
void ads_client_unwant(struct ads_client *client, enum xds_resource type, struct slice name);
/* Subscribes to all that the server has of the type. Before the type's first request. */
void ads_client_want_all(struct ads_client *client, enum xds_resource type);
bool ads_client_wants(const struct ads_client *client, enum xds_resource type, struct slice name);

/* When to open the next stream (milliseconds; 0: at once). Only while closed. */
uint64_t ads_client_connect_at(const struct ads_client *client);
void ads_client_opened(struct ads_client *client, uint64_t now_ms);
void ads_client_closed(struct ads_client *client, uint64_t now_ms);

/* A whole DeltaDiscoveryResponse. All updates must be settled before. False: the stream cannot be
 * trusted any more and must be closed. */
bool ads_client_receive(struct ads_client *client, struct slice response,
                        struct error *err) MUST_USE;
/* The update to look at now; null: none. */
const struct ads_update *ads_client_update(const struct ads_client *client);
/* Done with that update. rejected: null where it is in force; else why not, with the field's path
 * ("virtual_hosts[0].routes[3]: ..."), which the server gets to read. Only a PUT can be rejected.
 */
void ads_client_settle(struct ads_client *client, const struct error *rejected);

/* The newest generation of the mesh's configuration that a response named (system_version_info, as
 * pillion-control writes it) and that was taken whole; 0: none did. */
uint64_t ads_client_generation(const struct ads_client *client);

/* The next request to send, in the arena; false: none now. Only while open. */
bool ads_client_request(struct ads_client *client, struct arena *arena, struct slice *request);

/* When ads_client_tick is due (milliseconds); UINT64_MAX: never. */
uint64_t ads_client_deadline(const struct ads_client *client);
void ads_client_tick(struct ads_client *client, uint64_t now_ms);
