#include "sidecar/config/control_place.h"

#include "base/alloc.h"
#include "base/log.h"
#include "sidecar/upstream/name_rules.h"

#define SECONDS UINT64_C(1000000)

/* All addresses count, whichever the family: one of them may be the only way. */
static const struct name_rules rules = {
    .family = DNS_ALL, .refresh_us = SECONDS, .respect_ttl = true};

struct control_place {
    struct control_place_options options;
    char *name;       /* null: an address was given */
    uint16_t port;    /* with a name */
    struct addr addr; /* without */
    struct resolve_query query;
    struct name_state state;
    uint32_t turn;       /* of the address to try */
    struct task *waiter; /* null: nobody waits */
    struct task task;
    struct timer timer; /* the next question while there is no address */
};

static void ask(struct control_place *place)
{
    if (place->query.state == RESOLVE_IDLE) {
        place->options.ask(place->options.asker, &place->query, place->name,
                           name_rules_families(&rules));
    }
}

/* To have no address any more is no reason to give up one that may still be good. */
static void take_answer(struct control_place *place)
{
    struct resolve_answer answer = place->query.answer;
    place->query.state = RESOLVE_IDLE;
    if (answer.outcome != RESOLVE_FOUND) {
        answer.outcome = RESOLVE_FAILED;
        log_limited(LOG_LEVEL_WARNING, "the control plane's name does not resolve",
                    LOG_TEXT("name", place->name), LOG_TEXT("reason", answer.why));
    }
    if (name_state_take(&place->state, &rules, &answer, place->options.loop->now_us, 0)) {
        place->turn = 0;
    }
}

static void run(struct task *task)
{
    struct control_place *place = CONTAINER_OF(task, struct control_place, task);
    struct loop *loop = place->options.loop;
    if (place->query.state == RESOLVE_ANSWERED) {
        take_answer(place);
    }
    if (place->state.count > 0) {
        timer_clear(&place->timer);
        if (place->waiter != NULL) {
            loop_post(loop, place->waiter);
            place->waiter = NULL;
        }
    } else if (loop->now_us >= place->state.ask_at_us) {
        ask(place);
    } else {
        timer_set(loop, &place->timer, place->state.ask_at_us);
    }
}

struct control_place *control_place_new(const struct control_place_options *options,
                                        const char *text, struct error *err)
{
    struct control_place *place = NEW(struct control_place);
    place->options = *options;
    place->task.run = run;
    place->query.task = &place->task;
    place->timer.task = &place->task;
    struct slice host = slice_of_text(text);
    uint64_t port = 0;
    if (addr_parse(host, &place->addr)) {
        return place;
    }
    size_t colon = host.len;
    while (colon > 0 && host.at[colon - 1] != ':') {
        colon--;
    }
    bool good = colon > 1 &&
                slice_to_u64(slice_of(host.at + colon, host.len - colon), UINT16_MAX, &port) &&
                port > 0 && slice_find(slice_head(host, colon - 1), ':') == colon - 1;
    if (!good) {
        (void)error_set(err, "--control-address %s: expected HOST:PORT or [IP]:PORT", text);
        control_place_free(&place);
        return NULL;
    }
    place->name = mem_dup(host.at, colon - 1);
    place->port = (uint16_t)port;
    ask(place);
    return place;
}

void control_place_free(struct control_place **place)
{
    struct control_place *it = *place;
    *place = NULL;
    if (it == NULL) {
        return;
    }
    resolve_query_fini(&it->query);
    name_state_fini(&it->state);
    task_cancel(&it->task);
    timer_clear(&it->timer);
    mem_free(it->name);
    mem_free(it);
}

void control_place_await(struct control_place *place, struct task *waiter)
{
    place->waiter = waiter;
    if (control_place_is_known(place)) {
        loop_post(place->options.loop, waiter);
        place->waiter = NULL;
    }
}

bool control_place_is_known(const struct control_place *place)
{
    return place->name == NULL || place->state.count > 0;
}

bool control_place_next(struct control_place *place, struct addr *addr, struct error *err)
{
    if (place->name == NULL) {
        *addr = place->addr;
        return true;
    }
    if (place->options.loop->now_us >= place->state.ask_at_us) {
        ask(place);
    }
    if (place->state.count == 0) {
        return error_set(err, "no address of %s is known yet", place->name);
    }
    *addr = place->state.addrs[place->turn % place->state.count];
    addr->port = place->port;
    return true;
}

void control_place_failed(struct control_place *place)
{
    place->turn++;
    if (place->state.count > 0 && place->turn % place->state.count == 0) {
        place->state.ask_at_us = 0; /* none of them: there may be others by now */
    }
}
