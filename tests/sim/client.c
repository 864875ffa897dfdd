#include "tests/sim/client.h"

#include <inttypes.h>

#define PIECE_BYTES 4096
#define WRITE_HIGH  32768
#define LOCAL_STATUSES                                                                             \
    {                                                                                              \
        400, 403, 404, 408, 413, 431, 502, 503, 504                                                \
    }

static struct world *world_of(const struct client *client)
{
    return client->host->world;
}

static uint64_t now_of(const struct client *client)
{
    return client->host->loop->now_us;
}

/* ---- ends of requests ---- */

static void pop(struct client *client)
{
    CHECK(client->waiting_count > 0);
    client->waiting_count--;
    for (unsigned i = 0; i < client->waiting_count; i++) {
        client->waiting[i] = client->waiting[i + 1];
    }
}

static void end_first(struct client *client, enum ledger_end end)
{
    const struct reader *reader = &client->reader;
    struct ledger_got got = {.status = reader->status,
                             .tried = (unsigned)reader_number(reader, "x-sim-try", 0),
                             .len = reader->body_len};
    ledger_end(client->ledger, client->waiting[0], end, &got);
    pop(client);
}

/* The connection is over: what waits has had its chance. */
static void end_connection(struct client *client, enum ledger_end for_all, bool reset)
{
    bool begun = client->reader.head_done && client->reader.state != READER_DONE;
    for (bool first = true; client->waiting_count > 0; first = false) {
        struct ledger_got nothing = {.status = 0};
        enum ledger_end end = for_all;
        if (end == LEDGER_LOST && first && begun) {
            end = LEDGER_CUT;
        }
        ledger_end(client->ledger, client->waiting[0], end, &nothing);
        pop(client);
    }
    if (reset) {
        wire_reset(&client->wire);
    } else {
        wire_close(&client->wire);
    }
    client->sending = 0;
    client->abort_at_us = 0;
    client->give_up_at_us = 0;
    client->hear_at_us = 0;
    client->next_at_us =
        now_of(client) + world_between(world_of(client), 1, 1 + client->plan.gap_max_us);
}

static void check_local(struct client *client)
{
    static const unsigned allowed[] = LOCAL_STATUSES;
    for (size_t i = 0; i < COUNT_OF(allowed); i++) {
        if (client->reader.status == allowed[i]) {
            return;
        }
    }
    world_fail(world_of(client), "request %" PRIu64 ": a sidecar answered %u", client->waiting[0],
               client->reader.status);
}

static void expect_next_answer(struct client *client)
{
    reader_next(&client->reader);
    if (client->waiting_count > 0) {
        const struct ledger_row *row = ledger_row(client->ledger, client->waiting[0]);
        client->reader.bodiless = row != NULL && row->method == LEDGER_HEAD;
        client->give_up_at_us = now_of(client) + client->plan.patience_us;
    } else {
        client->give_up_at_us = 0;
    }
}

/* An answer is there, whole. */
static void end_answer(struct client *client)
{
    struct world *world = world_of(client);
    uint64_t number = reader_number(&client->reader, "x-sim-id", 0);
    bool close = client->reader.close || client->reader.state != READER_DONE;
    if (number == 0) {
        check_local(client);
        end_first(client, LEDGER_LOCAL);
    } else if (number != client->waiting[0]) {
        world_fail(world, "the answer to request %" PRIu64 " came for request %" PRIu64, number,
                   client->waiting[0]);
        return;
    } else {
        end_first(client, LEDGER_ANSWERED);
    }
    if (client->waiting_count == 0) {
        client->abort_at_us = 0;
        client->next_at_us = now_of(client) + world_between(world, 1, 1 + client->plan.gap_max_us);
    }
    expect_next_answer(client);
    bool upload_is_pointless = client->waiting_count == 0 && client->sending != 0;
    if (close || upload_is_pointless ||
        (client->waiting_count == 0 && world_chance(world, client->plan.reconnect_ppm))) {
        end_connection(client, LEDGER_LOST, upload_is_pointless);
    }
}

/* ---- reading ---- */

static void take_body(void *owner, const uint8_t *bytes, size_t len)
{
    struct client *client = owner;
    if (client->plan.opaque) {
        return;
    }
    uint64_t number = reader_number(&client->reader, "x-sim-id", 0);
    if (number != 0) {
        ledger_check(client->ledger, number, LEDGER_ANSWER_BODY, client->reader.body_len, bytes,
                     len);
    }
}

static void take(void *owner, const uint8_t *bytes, size_t len)
{
    struct client *client = owner;
    if (client->plan.opaque) {
        ledger_check(client->ledger, client->waiting[0], LEDGER_REQUEST_BODY, client->echo_got,
                     bytes, len);
        client->echo_got += len;
        return;
    }
    while (len > 0 && client->wire.net != NULL) {
        if (client->waiting_count == 0) {
            world_fail(world_of(client), "bytes came that nobody asked for");
            return;
        }
        size_t used = reader_feed(&client->reader, bytes, len);
        bytes += used;
        len -= used;
        if (client->reader.state == READER_BAD) {
            world_fail(world_of(client), "a client got what is no HTTP: %.200s",
                       client->reader.head);
            return;
        }
        if (client->reader.state != READER_DONE) {
            return;
        }
        end_answer(client);
    }
}

static void end_opaque(struct client *client)
{
    struct world *world = world_of(client);
    const struct ledger_row *row = ledger_row(client->ledger, client->waiting[0]);
    bool whole = client->wire.eof && row != NULL && client->echo_got == row->body_len;
    world_note(world, "tunnel ends", client->echo_got, client->wire.eof, whole);
    if (client->wire.eof && !client->wire.failed && !whole && client->wire.fin_sent) {
        world_fail(world, "tunnel %" PRIu64 ": ended cleanly after %" PRIu64 " bytes",
                   client->waiting[0], client->echo_got);
    }
    struct ledger_got got = {.len = client->echo_got};
    ledger_end(client->ledger, client->waiting[0], whole ? LEDGER_LOCAL : LEDGER_CUT, &got);
    pop(client);
    end_connection(client, LEDGER_LOST, false);
}

/* FIN or reset from the sidecar. */
static void take_end(struct client *client)
{
    if (client->plan.opaque && client->waiting_count > 0) {
        end_opaque(client);
        return;
    }
    if (client->wire.eof && client->waiting_count > 0 && client->reader.head_done &&
        reader_eof(&client->reader)) {
        end_first(client, reader_number(&client->reader, "x-sim-id", 0) != 0 ? LEDGER_ANSWERED
                                                                             : LEDGER_LOCAL);
        reader_next(&client->reader);
    }
    end_connection(client, LEDGER_LOST, false);
}

/* ---- writing ---- */

static enum ledger_method draw_method(struct client *client)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        sum += client->plan.method[i];
    }
    uint64_t draw = rng_below(&world_of(client)->rng, sum);
    for (unsigned i = 0; i < 4; i++) {
        if (draw < client->plan.method[i]) {
            return (enum ledger_method)i;
        }
        draw -= client->plan.method[i];
    }
    return LEDGER_GET;
}

static void begin_request(struct client *client)
{
    struct world *world = world_of(client);
    const struct client_plan *plan = &client->plan;
    enum ledger_method method = draw_method(client);
    bool has_body = method == LEDGER_PUT || method == LEDGER_POST;
    uint64_t len = has_body || plan->opaque ? world_between(world, 0, plan->body_max) : 0;
    uint64_t number = ledger_begin(client->ledger, client->number, method, len);
    client->left--;
    client->waiting[client->waiting_count++] = number;
    client->sending_chunked = has_body && !plan->opaque && world_chance(world, plan->chunked_ppm);
    client->sending_drip = world_chance(world, plan->drip_ppm);
    if (!plan->opaque) {
        wire_text(&client->wire,
                  "%s /thing/%" PRIu64 " HTTP/1.1\r\nHost: %s\r\nx-sim-id: %" PRIu64 "\r\n",
                  ledger_method_name(method), number, client->authority, number);
        if (client->sending_chunked) {
            wire_text(&client->wire, "transfer-encoding: chunked\r\n");
        } else if (has_body) {
            wire_text(&client->wire, "content-length: %" PRIu64 "\r\n", len);
        }
        wire_text(&client->wire, "\r\n");
    }
    client->sending = has_body || plan->opaque ? number : 0;
    client->sent = 0;
    client->echo_got = 0;
    if (client->waiting_count == 1) {
        expect_next_answer(client);
        client->give_up_at_us = world->now_us + plan->patience_us;
    }
    if (client->abort_at_us == 0 && world_chance(world, plan->abort_ppm)) {
        client->abort_at_us = world->now_us + world_between(world, 1, 1 + plan->abort_max_us);
    }
    if (world_chance(world, plan->deaf_ppm)) {
        wire_set_deaf(&client->wire, true);
        client->hear_at_us = world->now_us + world_between(world, 1, 1 + plan->drip_max_us);
    }
}

static void end_body(struct client *client)
{
    if (client->plan.opaque) {
        wire_fin(&client->wire);
    } else if (client->sending_chunked) {
        wire_text(&client->wire, "0\r\n\r\n");
    }
    client->sending = 0;
}

static void write_body(struct client *client)
{
    struct world *world = world_of(client);
    const struct ledger_row *row = ledger_row(client->ledger, client->sending);
    if (row == NULL) {
        return;
    }
    uint64_t len = row->body_len;
    while (client->sent < len) {
        uint8_t bytes[PIECE_BYTES];
        if (wire_waiting(&client->wire) > WRITE_HIGH ||
            (client->sending_drip && now_of(client) < client->next_at_us)) {
            return;
        }
        uint64_t left = len - client->sent;
        size_t part = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        if (client->sending_drip || client->sending_chunked) {
            part = (size_t)world_between(world, 1, part);
        }
        ledger_fill(client->sending, LEDGER_REQUEST_BODY, client->sent, bytes, part);
        if (client->sending_chunked) {
            wire_text(&client->wire, "%zx\r\n", part);
        }
        wire_put(&client->wire, bytes, part);
        if (client->sending_chunked) {
            wire_text(&client->wire, "\r\n");
        }
        client->sent += part;
        wire_send(&client->wire);
        if (client->sending_drip) {
            client->next_at_us =
                now_of(client) + world_between(world, 1, 1 + client->plan.drip_max_us);
        }
    }
    end_body(client);
}

static void write_on(struct client *client)
{
    if (client->wire.net == NULL || client->wire.net->connecting) {
        return;
    }
    for (;;) {
        if (client->sending != 0) {
            write_body(client);
        }
        bool may = client->sending == 0 && client->left > 0 &&
                   client->waiting_count < client->plan.depth &&
                   now_of(client) >= client->next_at_us;
        if (!may) {
            break;
        }
        begin_request(client);
    }
    wire_send(&client->wire);
}

/* ---- the run ---- */

static void open_connection(struct client *client)
{
    enum net_error error;
    client->wire.net = net_connect(client->host->loop, &client->to, NULL, &error);
    CHECK(client->wire.net != NULL);
    client->wire.net->owner = &client->task;
    client->give_up_at_us = now_of(client) + client->plan.patience_us;
    reader_next(&client->reader);
}

static bool passed(uint64_t at_us, uint64_t now_us)
{
    return at_us != 0 && now_us >= at_us;
}

static void take_time(struct client *client)
{
    struct world *world = world_of(client);
    uint64_t now_us = now_of(client);
    if (passed(client->hear_at_us, now_us)) {
        client->hear_at_us = 0;
        wire_set_deaf(&client->wire, false);
    }
    if (client->wire.net != NULL && passed(client->abort_at_us, now_us)) {
        world_note(world, "aborts", client->waiting_count, 0, 0);
        end_connection(client, LEDGER_ABANDONED, rng_below(&world->rng, 2) == 0);
    } else if (client->wire.net != NULL && passed(client->give_up_at_us, now_us)) {
        if (!client->plan.hasty_is_fine) {
            world_fail(world, "request %" PRIu64 ": no answer in time",
                       client->waiting_count > 0 ? client->waiting[0] : 0);
        }
        end_connection(client, LEDGER_ABANDONED, true);
    }
}

static void arm(struct client *client)
{
    const uint64_t times[] = {client->give_up_at_us, client->abort_at_us, client->hear_at_us,
                              client->next_at_us > now_of(client) ? client->next_at_us : 0};
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        first = times[i] != 0 && times[i] < first ? times[i] : first;
    }
    if (first != UINT64_MAX && !client->done) {
        timer_set(client->host->loop, &client->timer, first);
    } else {
        timer_clear(&client->timer);
    }
}

static void run(struct task *task)
{
    struct client *client = CONTAINER_OF(task, struct client, task);
    if (client->done) {
        return;
    }
    wire_run(&client->wire, take, client);
    if (client->wire.net != NULL && (client->wire.failed || client->wire.eof)) {
        take_end(client);
    }
    take_time(client);
    if (client->wire.net == NULL && client->left > 0 && now_of(client) >= client->next_at_us) {
        open_connection(client);
    }
    write_on(client);
    if (client->wire.net != NULL && client->wire.failed) {
        take_end(client);
    }
    if (client->left == 0 && client->waiting_count == 0) {
        client->done = true;
        if (client->wire.net != NULL) {
            end_connection(client, LEDGER_LOST, rng_below(&world_of(client)->rng, 4) == 0);
        }
    }
    arm(client);
}

void client_init(struct client *client, unsigned number, struct host *host, struct ledger *ledger,
                 const struct addr *to, const char *authority, const struct client_plan *plan)
{
    *client = (struct client){.number = number,
                              .host = host,
                              .ledger = ledger,
                              .plan = *plan,
                              .to = *to,
                              .authority = authority};
    CHECK(plan->depth >= 1);
    CHECK(plan->depth <= CLIENT_DEPTH_MAX);
    client->task.run = run;
    client->timer.task = &client->task;
    reader_init(&client->reader, true, take_body, client);
    client_more(client, plan->requests);
}

void client_more(struct client *client, unsigned requests)
{
    world_touch(client->host);
    client->left += requests;
    client->done = client->left == 0;
    client->next_at_us =
        world_of(client)->now_us + world_between(world_of(client), 1, 1 + client->plan.gap_max_us);
    timer_set(client->host->loop, &client->timer, client->next_at_us);
}

void client_fini(struct client *client)
{
    if (client->wire.net != NULL) {
        end_connection(client, LEDGER_ABANDONED, true);
    }
    client->done = true;
    timer_clear(&client->timer);
    task_cancel(&client->task);
}
