#include "sidecar/config/destinations_choice.h"

#include "base/log.h"
#include "sidecar/worker.h"
#include "xds/destination_key.h"

struct choice {
    struct service_choice outer;
    struct destinations *destinations;
    struct service *shared;          /* a reference */
    struct destination_entry *entry; /* held; null: there is nothing to wait for */
    struct destination_waiter waiter;
    struct timer timer;
};

/* "HOST", "HOST:PORT", "[IP]", "[IP]:PORT"; the host as it stands. False: the port is none. */
static bool split_authority(struct slice authority, struct slice *host, uint16_t *port)
{
    uint64_t number;
    size_t colon = authority.len;
    while (colon > 0 && authority.at[colon - 1] != ':' && authority.at[colon - 1] != ']') {
        colon--;
    }
    *host = authority;
    if (colon == 0 || authority.at[colon - 1] == ']') {
        return true;
    }
    if (!slice_to_u64(slice_from(authority, colon), UINT16_MAX, &number)) {
        return false;
    }
    *host = slice_head(authority, colon - 1);
    *port = (uint16_t)number;
    return true;
}

static void settle(struct choice *choice)
{
    timer_clear(&choice->timer);
    if (choice->entry != NULL) {
        destinations_leave(choice->destinations, &choice->waiter);
        destination_release(&choice->entry);
    }
    service_unref(&choice->shared);
}

static void leave(struct service_choice *outer)
{
    settle(CONTAINER_OF(outer, struct choice, outer));
}

static struct service *take_it(struct choice *choice, struct service *service)
{
    service_ref(service);
    settle(choice);
    return service;
}

/* An authority that is no service of the mesh is none of the others' either. */
static struct service *take_known(struct choice *choice)
{
    struct service *named = choice->entry->http;
    bool nothing = named->refusal == FAIL_NO_CONFIG && choice->entry->state != DESTINATION_REFUSED;
    return take_it(choice,
                   nothing && choice->shared->binding.table != NULL ? choice->shared : named);
}

static struct service *take(struct service_choice *outer)
{
    struct choice *choice = CONTAINER_OF(outer, struct choice, outer);
    struct destinations *destinations = choice->destinations;
    struct destination_entry *entry = choice->entry;
    if (entry == NULL) {
        return take_it(choice, choice->shared->binding.table != NULL ? choice->shared
                                                                     : destinations->refusing);
    }
    if (entry->state != DESTINATION_ASKED) {
        return take_known(choice);
    }
    bool over = timer_due(&choice->timer, destinations->worker->loop);
    if (over) {
        destinations_time_out(destinations, &choice->waiter);
    }
    bool waits = list_linked(&choice->waiter.link) ||
                 (!over && destinations_wait(destinations, entry, &choice->waiter));
    if (over || !waits) {
        log_limited(LOG_LEVEL_WARNING, "no answer about an authority in time",
                    LOG_SLICE("key", entry->key));
        return take_it(choice, destinations->refusing);
    }
    return NULL;
}

struct service_choice *destinations_choose(struct destinations *destinations,
                                           struct service *shared, uint16_t port,
                                           const struct service_question *question)
{
    struct worker *worker = destinations->worker;
    struct choice *choice = ARENA_NEW(question->arena, struct choice);
    *choice = (struct choice){.outer = {.take = take, .leave = leave},
                              .destinations = destinations,
                              .shared = shared,
                              .waiter.task = question->task,
                              .timer.task = question->task};
    service_ref(shared);
    struct slice host;
    uint16_t asked = question->original->family != ADDR_NONE ? question->original->port : port;
    const char *key = split_authority(question->authority, &host, &asked)
                          ? destination_key_of_host(question->arena, host, asked, NULL)
                          : NULL;
    if (key != NULL) {
        choice->entry = destinations_get(destinations, slice_of_text(key), NULL);
    }
    if (choice->entry != NULL) {
        destination_hold(choice->entry);
        timer_set(worker->loop, &choice->timer,
                  worker->loop->now_us + worker->settings->on_demand_timeout_us);
    }
    return &choice->outer;
}
