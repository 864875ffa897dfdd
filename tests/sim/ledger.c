#include "tests/sim/ledger.h"

#include <inttypes.h>

#include "base/alloc.h"

void ledger_init(struct ledger *ledger, struct world *world)
{
    *ledger = (struct ledger){.world = world};
}

void ledger_fini(struct ledger *ledger)
{
    mem_free(ledger->rows);
}

uint64_t ledger_begin(struct ledger *ledger, unsigned client, enum ledger_method method,
                      uint64_t body_len)
{
    if (ledger->count == ledger->cap) {
        ledger->cap = ledger->cap == 0 ? 64 : 2 * ledger->cap;
        ledger->rows = mem_resize(ledger->rows, ledger->cap * sizeof *ledger->rows);
    }
    ledger->rows[ledger->count] = (struct ledger_row){.client = client,
                                                      .method = method,
                                                      .body_len = body_len,
                                                      .begun_us = ledger->world->now_us};
    world_note(ledger->world, "request", ledger->count + 1, method, body_len);
    return ++ledger->count;
}

struct ledger_row *ledger_row(struct ledger *ledger, uint64_t number)
{
    if (number == 0 || number > ledger->count) {
        world_fail(ledger->world, "request %" PRIu64 " was never sent", number);
        return NULL;
    }
    return &ledger->rows[number - 1];
}

const char *ledger_method_name(enum ledger_method method)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "POST"};
    return names[method];
}

bool ledger_idempotent(enum ledger_method method)
{
    return method != LEDGER_POST;
}

unsigned ledger_seen(struct ledger *ledger, uint64_t number, unsigned app)
{
    struct ledger_row *row = ledger_row(ledger, number);
    if (row == NULL || row->heads == LEDGER_TRIES_MAX) {
        world_fail(ledger->world, "request %" PRIu64 " came too often", number);
        return 0;
    }
    unsigned tried = row->heads++;
    row->tries[tried] = (struct ledger_try){.app = app, .at_us = ledger->world->now_us};
    world_note(ledger->world, "seen", number, app, tried);
    if (tried > 0 && !ledger_idempotent(row->method) && !ledger->posts_may_repeat) {
        world_fail(ledger->world, "request %" PRIu64 " is not idempotent and came %u times", number,
                   row->heads);
    }
    return tried;
}

/* The answer that the client takes for whole is the one that the application gave. */
static void check_answer(struct ledger *ledger, uint64_t number, const struct ledger_row *row,
                         const struct ledger_got *got)
{
    if (got->tried >= row->heads) {
        world_fail(ledger->world, "request %" PRIu64 ": an answer that no application gave",
                   number);
        return;
    }
    const struct ledger_try *given = &row->tries[got->tried];
    if (got->status != given->status) {
        world_fail(ledger->world, "request %" PRIu64 ": status %u became %u", number, given->status,
                   got->status);
    } else if (row->method != LEDGER_HEAD && (!given->whole || got->len != given->answer_len)) {
        world_fail(ledger->world,
                   "request %" PRIu64 ": the client has a whole answer of %" PRIu64
                   " bytes, the application meant %" PRIu64 " and %s",
                   number, got->len, given->answer_len,
                   given->whole ? "sent them" : "did not send all");
    }
}

void ledger_end(struct ledger *ledger, uint64_t number, enum ledger_end end,
                const struct ledger_got *got)
{
    struct ledger_row *row = ledger_row(ledger, number);
    if (row == NULL) {
        return;
    }
    if (row->end != LEDGER_OPEN) {
        world_fail(ledger->world, "request %" PRIu64 " ended twice", number);
        return;
    }
    row->end = end;
    row->status = got->status;
    row->ended_us = ledger->world->now_us;
    world_note(ledger->world, "end", number, end, got->status);
    if (end == LEDGER_ANSWERED) {
        check_answer(ledger, number, row, got);
    }
}

void ledger_close(struct ledger *ledger)
{
    uint64_t open = ledger_ends(ledger, LEDGER_OPEN);
    if (open > 0) {
        world_fail(ledger->world, "%" PRIu64 " requests have no end", open);
    }
}

uint64_t ledger_ends(const struct ledger *ledger, enum ledger_end end)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < ledger->count; i++) {
        count += ledger->rows[i].end == end;
    }
    return count;
}

static uint8_t byte_at(uint64_t number, unsigned which, uint64_t at)
{
    return (uint8_t)(number * 37 + which * 101 + at * 7 + (at >> 8));
}

void ledger_fill(uint64_t number, unsigned which, uint64_t from, uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(number, which, from + i);
    }
}

void ledger_check(struct ledger *ledger, uint64_t number, unsigned which, uint64_t from,
                  const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != byte_at(number, which, from + i)) {
            world_fail(ledger->world, "request %" PRIu64 ": byte %" PRIu64 " of its %s is wrong",
                       number, from + i, which == LEDGER_REQUEST_BODY ? "request" : "answer");
            return;
        }
    }
}
