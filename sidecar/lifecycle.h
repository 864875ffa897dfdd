#pragma once
/* From start to exit: loops and threads are made, configuration is handed to the workers, SIGTERM
 * drains. The admin thread is the process's first; workers are threads of their own. */

#include "base/error.h"
#include "base/loop.h"
#include "sidecar/config/snapshot.h"
#include "sidecar/options.h"
#include "sidecar/worker.h"

struct admin;
struct control_place;
struct feed;
struct identity;
struct listener_place;
struct names;
struct resolver;
struct stats;
struct worker_thread;

struct sidecar {
    struct sidecar_options options;
    struct worker_settings settings;
    struct loop *loop; /* the admin thread's */
    struct shared_registry *registry;
    struct worker_thread *workers;
    unsigned worker_count;
    struct stats *stats;         /* what all threads count */
    struct admin *admin;         /* null: before everything else is made */
    struct bootstrap *bootstrap; /* --config; null: none */
    struct resolver *resolver;   /* of names that are endpoints, and of the control plane's */
    struct names *names;
    struct control_place *place; /* --control-address; null: none */
    struct identity *identity;   /* --control-address; null: none */
    struct feed *feed;           /* the same */
    struct worker **worker_list; /* by index; for those two */
    struct arena arena;          /* what options became; as long as this */
    struct listener_place *places;
    size_t place_count;
    struct task changed;   /* identity or feed has */
    bool ready;            /* logged */
    struct task terminate; /* SIGTERM, SIGINT */
    struct task drain;     /* looks whether the drain is over */
    struct timer drain_timer;
    uint64_t drain_began_us; /* 0: not draining */
};

/* Makes everything up to open listeners; nothing is accepted yet. */
bool sidecar_init(struct sidecar *sidecar, const struct sidecar_options *options,
                  struct error *err) MUST_USE;
/* Runs until the drain is over. */
void sidecar_run(struct sidecar *sidecar);
void sidecar_fini(struct sidecar *sidecar);
/* Traffic can be served: with a control plane, the first certificate and the first listener are
 * there; and it is not leaving. Admin thread. */
bool sidecar_is_ready(const struct sidecar *sidecar);
/* Requests and connections that are open in all workers; any moment's sum. */
uint32_t sidecar_exchanges_open(const struct sidecar *sidecar);
