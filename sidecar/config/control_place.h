#pragma once
/* Where the control plane is: an address, or a name with the addresses that it has now, which are
 * tried in turn. The admin thread's. */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/check.h"
#include "base/error.h"
#include "base/loop.h"
#include "sidecar/upstream/resolve.h"

struct control_place_options {
    struct loop *loop; /* the admin thread's */
    void (*ask)(void *asker, struct resolve_query *query, const char *name,
                enum resolve_families families);
    void *asker; /* as names_options has it */
};

struct control_place;

/* "HOST:PORT", "IP:PORT" or "[IP]:PORT". Null with *err. A name is asked for at once, and again
 * until it has an address. */
struct control_place *control_place_new(const struct control_place_options *options,
                                        const char *text, struct error *err) MUST_USE;
void control_place_free(struct control_place **place);

/* Posts the task when the first address has become known. */
void control_place_await(struct control_place *place, struct task *waiter);
bool control_place_is_known(const struct control_place *place);
/* The address to connect to next. False with *err: none is known yet. A name whose answer has grown
 * old is asked for again meanwhile; what was known stays until there is another. */
bool control_place_next(struct control_place *place, struct addr *addr, struct error *err) MUST_USE;
/* Nothing came of the address that was given last: the next one is another, where there is one. */
void control_place_failed(struct control_place *place);
