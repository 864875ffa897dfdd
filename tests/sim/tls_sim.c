/* Handshake: ClientHello (real, with a private extension that carries the client's identity),
 * one record back with the chosen protocol and the server's identity, one record "finished". Then
 * records of data as TLS frames them, and an alert as close_notify; a FIN without it is a cut, as
 * with the real one. A record is only readable when it is whole. */
#include "tests/sim/tls_sim.h"

#include <string.h>

#include "base/alloc.h"
#include "base/client_hello.h"
#include "base/conn.h"
#include "base/conn_tls.h"
#include "base/loop.h"
#include "sidecar/worker.h"

#define RECORD_MAX   16384
#define HEADER_BYTES 5
#define NAME_MAX_LEN 255
#define FOR_EVER_US  (UINT64_MAX / 2)

enum record_type { RECORD_ALERT = 21, RECORD_HANDSHAKE = 22, RECORD_DATA = 23 };
enum handshake_type { CLIENT_HELLO = 1, SERVER_HELLO = 2, FINISHED = 20 };
enum extension {
    EXTENSION_SNI = 0,
    EXTENSION_ALPN = 16,
    EXTENSION_VERSIONS = 43,
    EXTENSION_WHO = 0xFF51
};

struct bytes {
    uint8_t *at;
    size_t from;
    size_t len;
    size_t cap;
};

struct name {
    size_t len;
    uint8_t text[NAME_MAX_LEN];
};

enum step { STEP_HELLO, STEP_ANSWER, STEP_FINISHED, STEP_READY, STEP_FAILED };

struct sim_tls {
    struct conn conn;
    struct tls_context *context;
    struct slice own;   /* identity; the worker's */
    struct name wanted; /* client: whom the endpoint must be; empty: anyone */
    struct name who;
    struct name alpn;
    struct name sni;
    struct conn_peer peer;
    struct bytes in;
    struct bytes out;
    size_t readable; /* of the record at the front of `in` */
    enum step step;
    bool server;
    bool eof;      /* FIN */
    bool notified; /* close_notify */
    bool fin_wanted;
    bool fin_sent;
    bool closing; /* close_notify is in `out`, or gone */
};

static struct sim_tls *sim_of(struct conn *conn)
{
    return CONTAINER_OF(conn, struct sim_tls, conn);
}

/* ---- bytes ---- */

static void put(struct bytes *bytes, const void *from, size_t len)
{
    if (bytes->from > 0) {
        bytes->len -= bytes->from;
        (void)memmove(bytes->at, bytes->at + bytes->from, bytes->len);
        bytes->from = 0;
    }
    if (bytes->len + len > bytes->cap) {
        bytes->cap = 2 * (bytes->len + len);
        bytes->at = mem_resize(bytes->at, bytes->cap);
    }
    if (len > 0) {
        (void)memcpy(bytes->at + bytes->len, from, len);
    }
    bytes->len += len;
}

static void put_number(struct bytes *bytes, size_t value, unsigned width)
{
    for (unsigned i = width; i-- > 0;) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        put(bytes, &byte, 1);
    }
}

static void put_slice(struct bytes *bytes, struct slice slice, unsigned width)
{
    put_number(bytes, slice.len, width);
    put(bytes, slice.at, slice.len);
}

static void take(struct bytes *bytes, size_t len)
{
    bytes->from += len;
    if (bytes->from == bytes->len) {
        bytes->from = 0;
        bytes->len = 0;
    }
}

static struct slice front(const struct bytes *bytes)
{
    size_t len = bytes->len - bytes->from;
    return len > 0 ? slice_of(bytes->at + bytes->from, len) : (struct slice){NULL, 0};
}

static void free_bytes(struct bytes *bytes)
{
    mem_free(bytes->at);
}

static void set_name(struct name *name, struct slice text)
{
    CHECK(text.len <= sizeof name->text);
    name->len = text.len;
    if (text.len > 0) {
        (void)memcpy(name->text, text.at, text.len);
    }
}

static struct slice name_of(const struct name *name)
{
    return slice_of(name->text, name->len);
}

static void put_record(struct sim_tls *tls, enum record_type type, struct slice body)
{
    put_number(&tls->out, type, 1);
    put_number(&tls->out, 0x0303, 2);
    put_slice(&tls->out, body, 2);
}

/* ---- to and from the network ---- */

static enum io flush(struct sim_tls *tls)
{
    struct net_conn *net = tls->conn.net;
    while (tls->out.from < tls->out.len) {
        struct slice rest = front(&tls->out);
        struct iovec vector = {.iov_base = tls->out.at + tls->out.from, .iov_len = rest.len};
        size_t sent = 0;
        enum io result = net_send(net, &vector, 1, &sent);
        take(&tls->out, sent);
        if (result == IO_AGAIN) {
            net_want(net, net->wanted | NET_WRITE);
        }
        if (result != IO_OK) {
            return result;
        }
    }
    net_want(net, net->wanted & ~(unsigned)NET_WRITE);
    if (tls->fin_wanted && !tls->fin_sent) {
        tls->fin_sent = true;
        net->ops->shutdown_send(net);
    }
    return IO_OK;
}

/* One receive into `in`. */
static enum io fill(struct sim_tls *tls)
{
    uint8_t bytes[4096];
    size_t got = 0;
    if (tls->eof) {
        return IO_EOF;
    }
    enum io result = net_recv(tls->conn.net, (struct span){bytes, sizeof bytes}, &got);
    put(&tls->in, bytes, got);
    tls->eof = result == IO_EOF;
    return result;
}

/* The record at the front of `in`, if it is there whole. */
static bool whole_record(const struct sim_tls *tls, uint8_t *type, struct slice *body)
{
    struct slice in = front(&tls->in);
    if (in.len < HEADER_BYTES) {
        return false;
    }
    size_t len = (size_t)in.at[3] << 8 | in.at[4];
    if (in.len < HEADER_BYTES + len) {
        return false;
    }
    *type = in.at[0];
    *body = slice_of(in.at + HEADER_BYTES, len);
    return true;
}

/* ---- handshake ---- */

static void put_extension(struct bytes *to, enum extension kind, const struct bytes *body)
{
    put_number(to, kind, 2);
    put_slice(to, front(body), 2);
}

static void put_client_hello(struct sim_tls *tls)
{
    struct bytes part = {.at = NULL};
    struct bytes extensions = {.at = NULL};
    struct bytes hello = {.at = NULL};
    if (tls->sni.len > 0) {
        put_number(&part, tls->sni.len + 3, 2);
        put_number(&part, 0, 1);
        put_slice(&part, name_of(&tls->sni), 2);
        put_extension(&extensions, EXTENSION_SNI, &part);
    }
    part.len = 0;
    put_slice(&part, tls_context_get_alpn(tls->context), 2);
    put_extension(&extensions, EXTENSION_ALPN, &part);
    part.len = 0;
    put_number(&part, 0x020304, 3);
    put_extension(&extensions, EXTENSION_VERSIONS, &part);
    part.len = 0;
    put_slice(&part, tls->own, 1);
    put_extension(&extensions, EXTENSION_WHO, &part);

    put_number(&hello, 0x0303, 2);
    for (unsigned i = 0; i < 32; i++) {
        put_number(&hello, i, 1);
    }
    put_number(&hello, 0, 1);          /* no session */
    put_number(&hello, 0x00021301, 4); /* one cipher */
    put_number(&hello, 0x0100, 2);     /* no compression */
    put_slice(&hello, front(&extensions), 2);

    part.len = 0;
    put_number(&part, CLIENT_HELLO, 1);
    put_slice(&part, front(&hello), 3);
    put_record(tls, RECORD_HANDSHAKE, front(&part));
    free_bytes(&part);
    free_bytes(&extensions);
    free_bytes(&hello);
}

static enum io fail(struct sim_tls *tls, struct error *err, const char *text)
{
    tls->step = STEP_FAILED;
    (void)error_set(err, "%s", text);
    return IO_RESET;
}

/* The server picks the first of its own that the client offers. */
static bool choose_alpn(struct sim_tls *tls, const struct client_hello *hello)
{
    struct slice own = tls_context_get_alpn(tls->context);
    for (struct slice mine = client_hello_next_alpn(&own); mine.len > 0;
         mine = client_hello_next_alpn(&own)) {
        struct slice offered = client_hello_alpn(hello);
        for (struct slice each = client_hello_next_alpn(&offered); each.len > 0;
             each = client_hello_next_alpn(&offered)) {
            if (slice_eq(each, mine)) {
                set_name(&tls->alpn, mine);
                return true;
            }
        }
    }
    return false;
}

/* Our own extension is the last one. */
static bool read_who(struct sim_tls *tls, struct slice hello)
{
    size_t at = slice_search(hello, SLICE("\xFF\x51"));
    if (at + 5 > hello.len || at + 5 + hello.at[at + 4] > hello.len) {
        return false;
    }
    set_name(&tls->who, slice_of(hello.at + at + 5, hello.at[at + 4]));
    return tls->who.len > 0;
}

static enum io take_client_hello(struct sim_tls *tls, struct slice body, struct error *err)
{
    struct client_hello hello;
    if (client_hello_parse(front(&tls->in), &hello) != CLIENT_HELLO_DONE) {
        return fail(tls, err, "no ClientHello");
    }
    set_name(&tls->sni, client_hello_sni(&hello));
    if (!choose_alpn(tls, &hello)) {
        return fail(tls, err, "no protocol in common");
    }
    if (!read_who(tls, body)) {
        return fail(tls, err, "the client has no identity");
    }
    struct bytes answer = {.at = NULL};
    put_number(&answer, SERVER_HELLO, 1);
    put_slice(&answer, name_of(&tls->alpn), 1);
    put_slice(&answer, tls->own, 1);
    put_record(tls, RECORD_HANDSHAKE, front(&answer));
    free_bytes(&answer);
    tls->step = STEP_FINISHED;
    return IO_OK;
}

static enum io take_server_hello(struct sim_tls *tls, struct slice body, struct error *err)
{
    if (body.len < 3 || body.at[0] != SERVER_HELLO || (size_t)body.at[1] + 3 > body.len ||
        (size_t)body.at[1] + 3 + body.at[2 + body.at[1]] != body.len) {
        return fail(tls, err, "no ServerHello");
    }
    set_name(&tls->alpn, slice_of(body.at + 2, body.at[1]));
    set_name(&tls->who, slice_from(body, 3 + (size_t)body.at[1]));
    if (tls->wanted.len > 0 && !slice_eq(name_of(&tls->wanted), name_of(&tls->who))) {
        return fail(tls, err, "the peer is somebody else");
    }
    put_record(tls, RECORD_HANDSHAKE, SLICE("\x14"));
    tls->step = STEP_READY;
    return IO_OK;
}

static enum io take_handshake(struct sim_tls *tls, uint8_t type, struct slice body,
                              struct error *err)
{
    enum io result = IO_OK;
    if (type != RECORD_HANDSHAKE) {
        return fail(tls, err, "an alert, or what is no TLS");
    }
    switch (tls->step) {
    case STEP_HELLO:
        result = take_client_hello(tls, body, err);
        break;
    case STEP_ANSWER:
        result = take_server_hello(tls, body, err);
        break;
    case STEP_FINISHED:
        if (body.len != 1 || body.at[0] != FINISHED) {
            return fail(tls, err, "no Finished");
        }
        tls->step = STEP_READY;
        break;
    case STEP_READY:
    case STEP_FAILED:
        CHECK(false);
    }
    take(&tls->in, HEADER_BYTES + body.len);
    return result;
}

static enum io handshake(struct conn *conn, struct error *err)
{
    struct sim_tls *tls = sim_of(conn);
    if (conn->net->connecting) {
        return IO_AGAIN;
    }
    if (conn->net->ops->error(conn->net) != NET_ERROR_NONE) {
        return fail(tls, err, net_error_text(conn->net->ops->error(conn->net)));
    }
    if (!tls->server && tls->step == STEP_HELLO) {
        put_client_hello(tls);
        tls->step = STEP_ANSWER;
    }
    while (tls->step < STEP_READY) {
        uint8_t type;
        struct slice body;
        if (whole_record(tls, &type, &body)) {
            if (take_handshake(tls, type, body, err) != IO_OK) {
                return IO_RESET;
            }
            continue;
        }
        if (flush(tls) == IO_RESET) {
            return fail(tls, err, "the connection was reset");
        }
        switch (fill(tls)) {
        case IO_OK:
            break;
        case IO_AGAIN:
            return IO_AGAIN;
        case IO_EOF:
        case IO_RESET:
            return fail(tls, err, "the connection ended in the handshake");
        }
    }
    if (tls->step == STEP_FAILED) {
        return IO_RESET;
    }
    tls->peer = (struct conn_peer){.identity = name_of(&tls->who), .not_after_us = FOR_EVER_US};
    return flush(tls);
}

/* ---- data ---- */

/* Makes the next record of data readable. False where none is whole. */
static bool next_record(struct sim_tls *tls)
{
    uint8_t type;
    struct slice body;
    while (tls->readable == 0 && !tls->notified && whole_record(tls, &type, &body)) {
        if (type == RECORD_DATA) {
            take(&tls->in, HEADER_BYTES);
            tls->readable = body.len;
        } else {
            tls->notified = type == RECORD_ALERT;
            take(&tls->in, HEADER_BYTES + body.len);
        }
    }
    return tls->readable > 0;
}

static enum io recv_data(struct conn *conn, struct span into, size_t *got)
{
    struct sim_tls *tls = sim_of(conn);
    *got = 0;
    while (!next_record(tls)) {
        if (tls->notified) {
            return IO_EOF;
        }
        switch (fill(tls)) {
        case IO_OK:
            break;
        case IO_AGAIN:
            return IO_AGAIN;
        case IO_EOF: /* without close_notify: a cut */
        case IO_RESET:
            return IO_RESET;
        }
    }
    size_t part = tls->readable < into.len ? tls->readable : into.len;
    (void)memcpy(into.at, front(&tls->in).at, part);
    take(&tls->in, part);
    tls->readable -= part;
    *got = part;
    return IO_OK;
}

static enum io send_data(struct conn *conn, struct buf *out)
{
    struct sim_tls *tls = sim_of(conn);
    uint8_t bytes[RECORD_MAX];
    enum io result = flush(tls);
    while (result == IO_OK && !buf_empty(out)) {
        size_t len = buf_peek(out, (struct span){bytes, sizeof bytes});
        put_record(tls, RECORD_DATA, slice_of(bytes, len));
        buf_consume(out, len);
        result = flush(tls);
    }
    return result;
}

static bool pending(const struct conn *conn)
{
    const struct sim_tls *tls = CONTAINER_OF_CONST(conn, struct sim_tls, conn);
    uint8_t type;
    struct slice body;
    return tls->readable > 0 || tls->notified || whole_record(tls, &type, &body);
}

static void shutdown_send(struct conn *conn)
{
    struct sim_tls *tls = sim_of(conn);
    if (tls->closing || tls->step != STEP_READY || conn->net->connecting) {
        return;
    }
    tls->closing = true;
    tls->fin_wanted = true;
    put_record(tls, RECORD_ALERT, SLICE("\x01"));
    (void)flush(tls);
}

static const struct conn_peer *peer(const struct conn *conn)
{
    const struct sim_tls *tls = CONTAINER_OF_CONST(conn, struct sim_tls, conn);
    return tls->step == STEP_READY ? &tls->peer : NULL;
}

static struct slice alpn(const struct conn *conn)
{
    return name_of(&CONTAINER_OF_CONST(conn, struct sim_tls, conn)->alpn);
}

static struct slice sni(const struct conn *conn)
{
    return name_of(&CONTAINER_OF_CONST(conn, struct sim_tls, conn)->sni);
}

static void free_tls(struct conn *conn)
{
    struct sim_tls *tls = sim_of(conn);
    tls_context_unref(&tls->context);
    free_bytes(&tls->in);
    free_bytes(&tls->out);
    mem_free(tls);
}

static const struct conn_ops sim_tls_ops = {
    .tls = true,
    .handshake = handshake,
    .recv = recv_data,
    .send = send_data,
    .pending = pending,
    .shutdown_send = shutdown_send,
    .peer = peer,
    .alpn = alpn,
    .sni = sni,
    .free = free_tls,
};

static struct sim_tls *new_tls(struct net_conn **net, const struct tls_keys *keys,
                               struct tls_context *context)
{
    struct sim_tls *tls = NEW(struct sim_tls);
    tls->conn = (struct conn){.ops = &sim_tls_ops, .net = *net};
    *net = NULL;
    tls->context = tls_context_ref(context);
    tls->own = CONTAINER_OF_CONST(keys, struct worker, keys)->identity;
    return tls;
}

static struct conn *sim_client(struct net_conn **net, const struct tls_client *how)
{
    struct sim_tls *tls = new_tls(net, how->keys, how->context);
    set_name(&tls->wanted, how->identity);
    set_name(&tls->sni, how->sni);
    return &tls->conn;
}

static struct conn *sim_server(struct net_conn **net, const struct tls_server *how,
                               struct slice early)
{
    struct sim_tls *tls = new_tls(net, how->keys, how->context);
    tls->server = true;
    put(&tls->in, early.at, early.len);
    return &tls->conn;
}

static const struct tls_provider sim_provider = {.client = sim_client, .server = sim_server};

const struct tls_provider *tls_sim(void)
{
    return &sim_provider;
}
