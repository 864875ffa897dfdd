#pragma once
/* What a worker knows about where its connections may go: one entry for each destination that they
 * asked for, by name or through the prefixes that an answer covers. What is not known is asked of
 * the admin thread once, however many wait for it; waiters have time limits of their own. An answer
 * makes new services; connections that were there before go over to them with their next request.
 * Negative answers are forgotten after a while, unused positive ones after a long one, and then the
 * admin is told. Without a control plane what is known serves for ever. One worker. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/exchange/server.h"

struct parcel;
struct worker;

/* X(value, meaning) */
#define DESTINATION_STATES(X)                                                                      \
    X(ASKED, "no answer yet")                                                                      \
    X(KNOWN, "an answer is in force")                                                              \
    X(UNKNOWN, "the control plane has nothing of this name")                                       \
    X(REFUSED, "the answer was no good")

enum destination_state {
#define X(value, meaning) DESTINATION_##value,
    DESTINATION_STATES(X)
#undef X
};
const char *destination_state_name(enum destination_state state);

/* What is counted of them. X(value, "label") */
#define DESTINATION_EVENTS(X)                                                                      \
    X(ASKED, "asked")         /* of the control plane */                                           \
    X(ANSWERED, "answered")   /* for the first time */                                             \
    X(NEGATIVE, "negative")   /* there is none, or no longer */                                    \
    X(REFUSED, "refused")     /* the answer was no good */                                         \
    X(COALESCED, "coalesced") /* waits for an answer that others wait for */                       \
    X(TIMED_OUT, "timed_out") /* no answer came in time */                                         \
    X(EVICTED, "evicted")     /* forgotten */

/* Whether a port's servers speak first, as its connections showed (architecture.md, detection). */
struct destination_habit {
    uint32_t silent;     /* connections that stayed without a byte, none of HTTP among them */
    bool http_seen;      /* ever */
    uint64_t skip_by_us; /* until then the hold is skipped */
};

struct destination_entry {
    struct slice key;
    enum destination_state state;
    const struct destination *config; /* KNOWN */
    struct parcel *pin;               /* KNOWN */
    struct service *http;    /* for requests; what has no configuration refuses them. Null: ASKED,
                              * and nobody was refused meanwhile */
    struct service *opaque;  /* for bytes; null: there is no way for them */
    struct service **by_sni; /* of config's TCP routes, in order; null: bytes of any kind */
    struct service_line *http_line;  /* from the first answer on */
    struct service_line *plain_line; /* of `opaque` */
    struct list waiters;             /* struct destination_waiter */
    struct destination_habit habit;
    uint32_t holders; /* connections on their way to it, for which it stays */
    uint64_t used_us;
    uint64_t forget_us; /* when to look whether it may be forgotten; 0: ASKED */
    char text[];        /* the key's */
};

/* Posted once when the entry's state has changed, and out of the list by then. */
struct destination_waiter {
    struct list link;
    struct task *task;
};

struct destinations_options {
    uint64_t negative_us;
    uint64_t idle_us;
    uint32_t waiters_max; /* of all entries together */
    uint32_t entries_max;
    /* Tells the admin thread that this worker wants the name, or no longer. */
    void (*ask)(void *asker, struct slice key, bool want);
    void *asker;
};

struct destinations {
    struct worker *worker;
    struct destinations_options options;
    struct map entries;       /* struct destination_entry */
    struct map held;          /* names of clusters -> struct held: how many entries have them */
    struct service *refusing; /* for requests whose answer did not come in time */
    uint32_t waiter_count;
    struct task sweep;
    struct timer timer;
};

struct destinations *destinations_new(struct worker *worker,
                                      const struct destinations_options *options) MUST_USE;
/* Before the worker's directory ends; after every waiter is gone. */
void destinations_free(struct destinations **destinations);

/* The entry for that key: its own, or the one whose prefix covers `addr` (null for names) most
 * narrowly; else a new one, asked for. Null: too many wait, or are known. Marks it used. */
struct destination_entry *destinations_get(struct destinations *destinations, struct slice key,
                                           const struct addr *addr);
/* Of an ASKED entry. False: too many wait. */
bool destinations_wait(struct destinations *destinations, struct destination_entry *entry,
                       struct destination_waiter *waiter) MUST_USE;
/* While it is held, an entry stays where it is, whatever becomes of its state. */
void destination_hold(struct destination_entry *entry);
void destination_release(struct destination_entry **entry);
/* For a connection whose answer did not come in time: refuses its requests until there is one. */
struct service *destinations_refusal(struct destinations *destinations,
                                     struct destination_entry *entry);
/* The answer did not come in time: counted, and waits no more. */
void destinations_time_out(struct destinations *destinations, struct destination_waiter *waiter);
/* For TLS that passes: the service of the first route for that name; null: no route has it. */
struct service *destination_find_sni(const struct destination_entry *entry, struct slice sni);
/* Whether names of TLS matter. */
bool destination_asks_sni(const struct destination_entry *entry);
/* Waits no more; nothing where it was woken already. */
void destinations_leave(struct destinations *destinations, struct destination_waiter *waiter);

/* An answer. `pin` is referenced. */
void destinations_put(struct destinations *destinations, const struct destination *config,
                      struct parcel *pin);
/* There is none, or no longer: what is KNOWN ends. */
void destinations_put_unknown(struct destinations *destinations, struct slice key);
/* There is one that cannot be used: what is KNOWN serves on. */
void destinations_put_refused(struct destinations *destinations, struct slice key);

/* A connection to it was silent until the hold was over, or spoke HTTP. */
void destination_note_silent(struct destination_entry *entry, uint64_t now_us);
void destination_note_http(struct destination_entry *entry);
/* Bytes of the client need not be waited for. */
bool destination_skips_hold(const struct destination_entry *entry, uint64_t now_us);
