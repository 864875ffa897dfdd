#pragma once
/* The server's end of one xDS stream as a step machine: Delta or state-of-the-world, aggregated or
 * of one type, for sidecars of ours, for Envoy and for gRPC's clients. Requests and "something
 * changed" go in, responses come out. No I/O and no clock.
 *
 *     ads_stream_new()        a client opened a stream
 *     ads_stream_receive()    it sent a request
 *     ads_stream_changed()    resources changed; the caller has gathered changes first (debounce)
 *     ads_stream_response()   until it gives nothing: what to send now
 *     ads_stream_progress()   what the client has in force
 *
 * Per type there is one response at most that the client has not answered; what changes meanwhile
 * is gathered into the next one. Content that a client rejected is not sent again until it changes.
 * Subscriptions in a request always count, however stale its nonce. One thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"
#include "xds/resources.h"
#include "xds/types.h"

/* A Delta response is closed when its resources pass this; the rest follows once it is answered.
 * State-of-the-world responses of LDS and CDS must be whole. */
#define ADS_RESPONSE_BYTES ((size_t)1024 * 1024)
/* Names that one stream may be subscribed to, all types together. */
#define ADS_NAMES_MAX      100000U
#define ADS_NAME_BYTES_MAX 1024U

struct Envoy__Config__Core__V3__Node;

/* Where resources come from. The viewer is whatever the caller gave to ads_stream_new: who asks
 * decides what is there. */
struct ads_source {
    void *owner;
    /* Once, at the first request: does the node agree with the viewer's credentials? The node is
     * borrowed for the call. False with err ends the stream. */
    bool (*admit)(void *owner, void *viewer, const struct Envoy__Config__Core__V3__Node *node,
                  struct error *err);
    /* The resource of this name or alias, or null. Borrowed for the call. */
    struct resource *(*get)(void *owner, void *viewer, enum xds_resource type, struct slice name);
    /* Shows all that a wildcard covers. */
    void (*each)(void *owner, void *viewer, enum xds_resource type,
                 void (*show)(void *to, struct resource *resource), void *to);
};

enum ads_protocol { ADS_DELTA, ADS_STATE_OF_THE_WORLD };

struct ads_stream_options {
    const struct ads_source *source; /* must outlive the stream */
    void *viewer;
    enum ads_protocol protocol;
    /* XDS_RESOURCE_COUNT: aggregated; else the type of a service of its own (StreamRoutes, ...). */
    enum xds_resource only;
    uint64_t seed; /* of hashing */
};

struct ads_stream;

struct ads_stream *ads_stream_new(const struct ads_stream_options *options) MUST_USE;
void ads_stream_free(struct ads_stream **stream);

/* False: the stream must end, with err as its INVALID_ARGUMENT. */
bool ads_stream_receive(struct ads_stream *stream, struct slice request,
                        struct error *err) MUST_USE;

/* Resources of the type may have changed. Costs a look at each name of the stream's subscription
 * when the next response is made. */
void ads_stream_changed(struct ads_stream *stream, enum xds_resource type);

/* The next response to send at `now_ms`, in the arena; false: none now. */
bool ads_stream_response(struct ads_stream *stream, uint64_t now_ms, struct arena *arena,
                         struct slice *response);

/* When the oldest response that is not answered was sent; UINT64_MAX: none. A client that does not
 * answer for long should lose its stream. */
uint64_t ads_stream_waiting_since(const struct ads_stream *stream);

enum ads_standing {
    ADS_ACKED,    /* in force at the client */
    ADS_SENT,     /* not answered yet, or not even sent */
    ADS_REJECTED, /* the client refused this content */
};

/* One resource that the stream's client is subscribed to. */
struct ads_held {
    enum xds_resource type;
    struct slice name;
    enum ads_standing standing;
    uint64_t generation;       /* sent last, whatever became of it; 0: nothing sent yet */
    uint64_t acked_generation; /* in force */
    const char *version;       /* sent last, or said by the client to be there; "": none */
};

/* Shows every name of the subscription for which the server has, or had, a resource. */
void ads_stream_each_held(const struct ads_stream *stream,
                          void (*show)(void *to, const struct ads_held *held), void *to);

struct ads_progress {
    uint64_t acked_generation; /* newest generation among resources in force */
    uint32_t names;            /* subscribed, by name or by wildcard */
    uint32_t pending;          /* sent or to be sent, not acknowledged */
    uint32_t rejected;
    bool settled; /* nothing pending and nothing to look at */
    const char
        *last_rejection; /* the client's words; null: never. Borrowed until the next request */
};

struct ads_progress ads_stream_progress(const struct ads_stream *stream);

/* Responses that the client has rejected, ever. */
uint64_t ads_stream_rejections(const struct ads_stream *stream);
/* Names of all types that the stream is subscribed to, by name or by wildcard. */
uint32_t ads_stream_names(const struct ads_stream *stream);
