#include "tests/sim/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define RECV_BYTES 16384

void wire_put(struct wire *wire, const void *bytes, size_t len)
{
    struct wire_bytes *out = &wire->out;
    if (out->from == out->len) {
        out->from = 0;
        out->len = 0;
    }
    if (out->len + len > out->cap) {
        out->cap = 2 * (out->len + len);
        out->at = mem_resize(out->at, out->cap);
    }
    (void)memcpy(out->at + out->len, bytes, len);
    out->len += len;
}

void wire_text(struct wire *wire, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHECK(len >= 0 && (size_t)len < sizeof text);
    wire_put(wire, text, (size_t)len);
}

static void want(struct wire *wire, bool write)
{
    net_want(wire->net, (write ? NET_WRITE : 0U) | (wire->deaf || wire->eof ? 0U : NET_READ));
}

void wire_send(struct wire *wire)
{
    struct wire_bytes *out = &wire->out;
    if (wire->net == NULL || wire->failed || wire->net->connecting) {
        return;
    }
    while (out->from < out->len) {
        struct iovec vector = {.iov_base = out->at + out->from, .iov_len = out->len - out->from};
        size_t sent = 0;
        switch (net_send(wire->net, &vector, 1, &sent)) {
        case IO_OK:
            out->from += sent;
            continue;
        case IO_AGAIN:
            want(wire, true);
            return;
        case IO_EOF:
        case IO_RESET:
            wire->failed = true;
            return;
        }
    }
    want(wire, false);
    if (wire->fin_wanted && !wire->fin_sent) {
        wire->fin_sent = true;
        wire->net->ops->shutdown_send(wire->net);
    }
}

static void receive(struct wire *wire, wire_take *take, void *owner)
{
    uint8_t bytes[RECV_BYTES];
    while (wire->net != NULL && !wire->failed && !wire->eof && !wire->deaf &&
           (wire->net->ready & NET_READ) != 0) {
        size_t got = 0;
        switch (net_recv(wire->net, (struct span){bytes, sizeof bytes}, &got)) {
        case IO_OK:
            take(owner, bytes, got);
            continue;
        case IO_AGAIN:
            return;
        case IO_EOF:
            wire->eof = true;
            want(wire, (wire->net->wanted & NET_WRITE) != 0);
            return;
        case IO_RESET:
            wire->failed = true;
            return;
        }
    }
}

void wire_run(struct wire *wire, wire_take *take, void *owner)
{
    if (wire->net == NULL || wire->failed || wire->net->connecting) {
        return;
    }
    if (wire->net->ops->error(wire->net) == NET_ERROR_REFUSED) {
        wire->failed = true;
        return;
    }
    receive(wire, take, owner);
    wire_send(wire);
}

void wire_set_deaf(struct wire *wire, bool deaf)
{
    if (wire->net != NULL && wire->deaf != deaf) {
        wire->deaf = deaf;
        want(wire, (wire->net->wanted & NET_WRITE) != 0);
    }
}

void wire_fin(struct wire *wire)
{
    wire->fin_wanted = true;
    wire_send(wire);
}

static void forget(struct wire *wire)
{
    mem_free(wire->out.at);
    *wire = (struct wire){.net = NULL};
}

void wire_close(struct wire *wire)
{
    if (wire->net != NULL) {
        wire->net->ops->close(&wire->net);
    }
    forget(wire);
}

void wire_reset(struct wire *wire)
{
    if (wire->net != NULL) {
        wire->net->ops->reset(&wire->net);
    }
    forget(wire);
}
