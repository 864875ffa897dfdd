/* OpenSSL sees a BIO of ours. Its read side takes the bytes that came early, then the socket's,
 * straight into OpenSSL's own buffer (read-ahead: one call for many records), and does not ask a
 * socket that has said it is dry. Its write side never blocks: it appends to `sealed`, from where
 * one sendmsg takes all that a tick has encrypted. As SSL_write therefore always succeeds,
 * OpenSSL's rule that a write must be retried with the same bytes never applies; instead nothing
 * more is encrypted while `sealed` is above its mark. Refused: letting the write side push into the
 * socket itself, which makes each record a system call and brings the retries back.
 *
 * Everything OpenSSL says goes through fail() once, into one line of text that is kept. */
#include "base/conn_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/alloc.h"
#include "base/loop.h"

#define RECORD_BYTES 16384
#define SEALED_MAX   (64 * 1024)
/* Only answers to KeyUpdate take `sealed` this far. A lower bound for reading would let two peers
 * that both send wait for each other. */
#define ANSWERS_MAX (2 * SEALED_MAX)
/* Bytes in a row that bring none of the stream: 2,400 KeyUpdates, each of which costs us a key
 * derivation and an answer. A record that is not whole yet has at most a quarter of it. */
#define BARREN_MAX (64 * 1024)
/* Alert numbers stand behind this in reason codes. */
#define REASON_OF_ALERT 1000

/* The life of a TLS connection. X(value, meaning) */
#define TLS_STATES(X)                                                                              \
    X(HANDSHAKE, "not yet agreed on keys")                                                         \
    X(OPEN, "bytes flow")                                                                          \
    X(ENDED, "the peer sent close_notify; ours may still flow")                                    \
    X(FAILED, "an error ended it; `failure` says which")

enum tls_state {
#define X(value, meaning) TLS_STATE_##value,
    TLS_STATES(X)
#undef X
};

/* What is needed until the handshake is done. */
struct handshake {
    struct tls_trust *trust;  /* null: the peer is not verified */
    struct tls_demand demand; /* points behind the struct */
    struct error refusal;     /* our own verdict on the peer; empty: none */
};

struct tls_conn {
    struct conn conn;
    SSL *ssl;
    struct tls_context *context;
    struct tls_keys *keys;
    struct handshake *handshake; /* null after it */
    struct buf early;            /* bytes that were read before the connection was made */
    struct buf sealed;           /* encrypted, not yet sent */
    struct conn_peer peer;       /* its slices point into peer_text */
    char *peer_text;             /* null: no certificate was verified */
    char *failure;               /* null: none */
    uint32_t read_records;       /* since the keys were changed last */
    uint32_t written_records;
    uint8_t state;         /* enum tls_state */
    uint32_t barren_bytes; /* received since the last record with bytes of the stream */
    bool starved;          /* OpenSSL asked for more than the socket has */
    bool dry;              /* the last read found no whole record */
    bool eof;              /* the socket has said so */
    bool end_told;         /* conn_recv has returned IO_EOF or IO_RESET */
    bool notified;         /* our close_notify is in `sealed`, or sent */
    bool fin_due;          /* FIN when `sealed` is empty */
};

static struct tls_conn *tls_of(struct conn *conn)
{
    return CONTAINER_OF(conn, struct tls_conn, conn);
}

static const struct tls_conn *tls_of_const(const struct conn *conn)
{
    return CONTAINER_OF_CONST(conn, struct tls_conn, conn);
}

static void state_set(struct tls_conn *tls, enum tls_state to)
{
    static const uint8_t allowed[] = {
        [TLS_STATE_HANDSHAKE] = 1U << TLS_STATE_OPEN | 1U << TLS_STATE_FAILED,
        [TLS_STATE_OPEN] = 1U << TLS_STATE_ENDED | 1U << TLS_STATE_FAILED,
        [TLS_STATE_ENDED] = 1U << TLS_STATE_FAILED,
        [TLS_STATE_FAILED] = 0,
    };
    CHECK((allowed[tls->state] & 1U << to) != 0);
    tls->state = (uint8_t)to;
}

/* -------------------------------------------------------------------------------------- the BIO */

static int bio_read(BIO *bio, char *into, size_t room, size_t *got)
{
    struct tls_conn *tls = BIO_get_data(bio);
    struct net_conn *net = tls->conn.net;
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (!buf_empty(&tls->early)) {
        *got = buf_peek(&tls->early, (struct span){(uint8_t *)into, room});
        buf_consume(&tls->early, *got);
        return 1;
    }
    enum io result = IO_AGAIN;
    if ((net->ready & NET_READ) != 0) {
        result = net_recv(net, (struct span){(uint8_t *)into, room}, got);
    }
    switch (result) {
    case IO_OK:
        tls->barren_bytes += (uint32_t)*got;
        return 1;
    case IO_AGAIN:
        tls->starved = true;
        BIO_set_retry_read(bio);
        return 0;
    case IO_EOF:
        tls->eof = true;
        return 0;
    case IO_RESET:
        return 0;
    }
    return 0;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *written)
{
    struct tls_conn *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    buf_append(&tls->sealed, slice_of(bytes, len));
    *written = len;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const struct tls_conn *tls = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1; /* the connection flushes, once for all */
    case BIO_CTRL_EOF:
        return tls->eof;
    default: /* OpenSSL's list grows; 0 is "not supported" */
        return 0;
    }
}

struct bio_method_st *conn_tls_bio_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "pillion connection");
    CHECK(method != NULL);
    CHECK(BIO_meth_set_read_ex(method, bio_read) == 1);
    CHECK(BIO_meth_set_write_ex(method, bio_write) == 1);
    CHECK(BIO_meth_set_ctrl(method, bio_ctrl) == 1);
    return method;
}

/* ------------------------------------------------------------------------------------- failures */

/* OpenSSL's reason codes, and the alerts of RFC 8446 6.2 that arrive, in our words. */
static const struct words {
    int reason;
    const char *text;
} words[] = {
    {REASON_OF_ALERT + SSL_AD_HANDSHAKE_FAILURE,
     "peer finds no parameters in common (alert handshake_failure)"},
    {REASON_OF_ALERT + SSL_AD_BAD_CERTIFICATE,
     "peer refuses our certificate or identity (alert bad_certificate)"},
    {REASON_OF_ALERT + SSL_AD_UNSUPPORTED_CERTIFICATE,
     "peer does not support our certificate (alert unsupported_certificate)"},
    {REASON_OF_ALERT + SSL_AD_CERTIFICATE_REVOKED,
     "peer says that our certificate is revoked (alert certificate_revoked)"},
    {REASON_OF_ALERT + SSL_AD_CERTIFICATE_EXPIRED,
     "peer says that our certificate is expired or not yet valid (alert certificate_expired)"},
    {REASON_OF_ALERT + SSL_AD_CERTIFICATE_UNKNOWN,
     "peer refuses our certificate (alert certificate_unknown)"},
    {REASON_OF_ALERT + SSL_AD_UNKNOWN_CA,
     "peer does not know the issuer of our certificate (alert unknown_ca)"},
    {REASON_OF_ALERT + SSL_AD_ACCESS_DENIED, "peer denies us access (alert access_denied)"},
    {REASON_OF_ALERT + SSL_AD_DECRYPT_ERROR, "peer finds a signature wrong (alert decrypt_error)"},
    {REASON_OF_ALERT + SSL_AD_PROTOCOL_VERSION,
     "peer speaks no TLS version of ours (alert protocol_version)"},
    {REASON_OF_ALERT + SSL_AD_UNRECOGNIZED_NAME,
     "peer has no server of this name (alert unrecognized_name)"},
    {REASON_OF_ALERT + TLS13_AD_CERTIFICATE_REQUIRED,
     "peer demands a certificate of ours (alert certificate_required)"},
    {REASON_OF_ALERT + SSL_AD_NO_APPLICATION_PROTOCOL,
     "peer speaks none of the protocols that we offer (alert no_application_protocol)"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "peer sent no certificate, and must"},
    {SSL_R_UNSUPPORTED_PROTOCOL, "peer speaks no TLS version of ours"},
    {SSL_R_VERSION_TOO_LOW, "peer speaks no TLS version of ours"},
    {SSL_R_WRONG_SSL_VERSION, "peer speaks no TLS version of ours"},
    {SSL_R_WRONG_VERSION_NUMBER, "peer does not speak TLS"},
    {SSL_R_HTTP_REQUEST, "peer speaks HTTP without TLS"},
    {SSL_R_NO_SHARED_CIPHER, "no cipher suite in common"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, "no group for the key exchange in common"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "no signature algorithm in common"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, "a record was damaged on its way"},
};

/* Null where we have no words of our own. */
static const char *words_for(int reason)
{
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (words[i].reason == reason) {
            return words[i].text;
        }
    }
    return NULL;
}

static void fail_as(struct tls_conn *tls, const char *text)
{
    state_set(tls, TLS_STATE_FAILED);
    tls->failure = mem_dup_text(text);
}

/* Ends the connection with the reason of what OpenSSL has just returned. */
static void fail(struct tls_conn *tls, int ssl_error)
{
    unsigned long code = ERR_get_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    const char *text = reason != 0 ? words_for(reason) : NULL;
    struct error other = {{0}};
    tls->conn.refused_us = reason >= REASON_OF_ALERT ? text : NULL;
    if (tls->handshake != NULL && tls->handshake->refusal.text[0] != '\0') {
        text = tls->handshake->refusal.text;
        tls->conn.peer_refused = true;
        tls->conn.peer_is_other = SSL_get_verify_result(tls->ssl) == X509_V_ERR_HOSTNAME_MISMATCH;
    } else if (tls->eof) {
        text = tls->handshake != NULL ? "peer closed the connection during the handshake"
                                      : "peer closed without close_notify: the end may be cut off";
    } else if (ssl_error == SSL_ERROR_SYSCALL) {
        text = net_error_text(tls->conn.net->ops->error(tls->conn.net));
    } else if (text == NULL) {
        const char *theirs = code != 0 ? ERR_reason_error_string(code) : NULL;
        (void)error_set(&other, "TLS: %s", theirs != NULL ? theirs : "unknown error");
        text = other.text;
    }
    ERR_clear_error();
    fail_as(tls, text);
}

/* ------------------------------------------------------------------------------------ handshake */

static void handshake_free(struct tls_conn *tls)
{
    if (tls->handshake != NULL) {
        tls_trust_unref(&tls->handshake->trust);
        FREE(tls->handshake);
    }
}

static void note_peer(struct tls_conn *tls, const struct tls_verified *verified)
{
    size_t identity = strlen(verified->names.identity);
    size_t uid = strlen(verified->names.uid);
    mem_free(tls->peer_text);
    tls->peer_text = mem_raw(identity + uid + 1);
    (void)memcpy(tls->peer_text, verified->names.identity, identity);
    (void)memcpy(tls->peer_text + identity, verified->names.uid, uid);
    tls->peer.identity = slice_of(tls->peer_text, identity);
    tls->peer.uid = slice_of(tls->peer_text + identity, uid);
    tls->peer.not_after_us = verified->not_after_us;
    (void)memcpy(tls->peer.leaf_hash, verified->leaf_hash, sizeof tls->peer.leaf_hash);
}

int conn_tls_verify(struct x509_store_ctx_st *store, void *unused)
{
    (void)unused;
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_conn *tls = SSL_get_app_data(ssl);
    struct handshake *handshake = tls->handshake;
    CHECK(handshake != NULL); /* no renegotiation, no later authentication */
    if (handshake->trust == NULL) {
        return 1;
    }
    struct tls_judge judge = {
        .context = tls->context,
        .keys = tls->keys,
        .trust = handshake->trust,
        .demand = handshake->demand,
        .wall_us = tls->conn.net->loop->wall_us,
    };
    struct tls_verified verified;
    if (!tls_judge(&judge, store, &verified, &handshake->refusal)) {
        return 0;
    }
    note_peer(tls, &verified);
    return 1;
}

static enum io tls_handshake(struct conn *conn, struct error *err)
{
    struct tls_conn *tls = tls_of(conn);
    switch ((enum tls_state)tls->state) {
    case TLS_STATE_OPEN:
    case TLS_STATE_ENDED:
        return IO_OK;
    case TLS_STATE_FAILED:
        (void)error_set(err, "%s", tls->failure);
        return IO_RESET;
    case TLS_STATE_HANDSHAKE:
        break;
    }
    if (conn->net->connecting) {
        return IO_AGAIN;
    }
    enum net_error failed = conn->net->ops->error(conn->net);
    if (failed != NET_ERROR_NONE) {
        fail_as(tls, net_error_text(failed));
        (void)error_set(err, "%s", tls->failure);
        return IO_RESET;
    }
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    int why = result == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, result);
    if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ) {
        fail(tls, why);
    }
    /* Also where it failed: the alert tells the peer. */
    enum io sent = conn_send_net(conn->net, &tls->sealed);
    if (tls->state != TLS_STATE_FAILED && sent == IO_RESET) {
        fail(tls, SSL_ERROR_SYSCALL);
    }
    if (tls->state == TLS_STATE_FAILED) {
        (void)error_set(err, "%s", tls->failure);
        return IO_RESET;
    }
    if (why == SSL_ERROR_WANT_READ || sent == IO_AGAIN) {
        return IO_AGAIN; /* done is when our last message has left, too */
    }
    state_set(tls, TLS_STATE_OPEN);
    handshake_free(tls);
    return IO_OK;
}

/* ------------------------------------------------------------------------------------ the stream
 */

/* Sends what is sealed; when that is all, and no more will come, FIN. */
static enum io send_sealed(struct tls_conn *tls)
{
    enum io result = conn_send_net(tls->conn.net, &tls->sealed);
    if (result == IO_OK && tls->fin_due) {
        tls->fin_due = false;
        tls->conn.net->ops->shutdown_send(tls->conn.net);
    }
    return result;
}

/* New keys before a key has sealed more than it may (RFC 8446 5.5): our own alone after what we
 * have written, both after what we have read. TLS 1.2 has no such message; its connections are
 * short of the limit by their age. */
static void rekey_where_due(struct tls_conn *tls)
{
    uint32_t limit = tls_context_get_rekey(tls->context);
    bool read = tls->read_records >= limit;
    if ((!read && tls->written_records < limit) || tls->notified ||
        SSL_version(tls->ssl) != TLS1_3_VERSION) {
        return;
    }
    /* Without a write that is pending, which never is, it can only fail for want of memory. */
    CHECK(SSL_key_update(tls->ssl,
                         read ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    CHECK(SSL_do_handshake(tls->ssl) == 1);
    tls->written_records = 0;
    tls->read_records = read ? 0 : tls->read_records;
}

/* What SSL_read's refusal means; true where it was only a record without bytes. */
static bool read_on(struct tls_conn *tls, int why)
{
    if (why == SSL_ERROR_WANT_READ && tls->barren_bytes > BARREN_MAX) {
        fail_as(tls, "peer changes keys again and again, without sending anything");
    } else if (why == SSL_ERROR_WANT_READ) {
        tls->dry = tls->starved;
        return !tls->starved;
    } else if (why == SSL_ERROR_ZERO_RETURN) {
        state_set(tls, TLS_STATE_ENDED);
    } else {
        fail(tls, why);
    }
    return false;
}

/* Reads records until `into` is full or none is whole; the state says how it went on. */
static size_t open_records(struct tls_conn *tls, struct span into)
{
    size_t got = 0;
    while (got < into.len) {
        size_t len = 0;
        tls->starved = false;
        ERR_clear_error();
        int result = SSL_read_ex(tls->ssl, into.at + got, into.len - got, &len);
        if (result != 1) {
            if (read_on(tls, SSL_get_error(tls->ssl, result))) {
                continue;
            }
            break;
        }
        tls->dry = false;
        tls->barren_bytes = 0;
        tls->read_records += SSL_pending(tls->ssl) == 0; /* it was the record's last piece */
        got += len;
    }
    return got;
}

static enum io tls_recv(struct conn *conn, struct span into, size_t *got)
{
    struct tls_conn *tls = tls_of(conn);
    CHECK(tls->state != TLS_STATE_HANDSHAKE);
    CHECK(into.len > 0);
    *got = 0;
    if (!buf_empty(&tls->sealed)) {
        /* A peer that makes us answer (KeyUpdate) and never reads is not read further. A broken
         * socket is no reason not to read what came before: the next read tells. */
        if (send_sealed(tls) == IO_AGAIN && tls->sealed.len > ANSWERS_MAX) {
            return IO_AGAIN;
        }
    }
    if (tls->state == TLS_STATE_OPEN) {
        *got = open_records(tls, into);
    }
    if (tls->state == TLS_STATE_OPEN) {
        rekey_where_due(tls);
    }
    if (!buf_empty(&tls->sealed)) {
        (void)send_sealed(tls);
    }
    if (*got > 0) {
        return IO_OK;
    }
    tls->end_told = tls->state != TLS_STATE_OPEN;
    return tls->state == TLS_STATE_FAILED  ? IO_RESET
           : tls->state == TLS_STATE_ENDED ? IO_EOF
                                           : IO_AGAIN;
}

/* Encrypts one record from the front of `out`, whose small pieces it gathers. */
static void seal_record(struct tls_conn *tls, struct buf *out)
{
    uint8_t gathered[RECORD_BYTES];
    size_t want = out->len < RECORD_BYTES ? out->len : RECORD_BYTES;
    struct slice plain = slice_head(buf_front(out), want);
    if (plain.len < want) {
        plain = slice_of(gathered, buf_peek(out, (struct span){gathered, want}));
    }
    size_t written = 0;
    ERR_clear_error();
    int result = SSL_write_ex(tls->ssl, plain.at, plain.len, &written);
    if (result != 1) {
        fail(tls, SSL_get_error(tls->ssl, result));
        return;
    }
    CHECK(written == plain.len); /* the write side takes all */
    buf_consume(out, written);
    tls->written_records++;
    rekey_where_due(tls);
}

static enum io tls_send(struct conn *conn, struct buf *out)
{
    struct tls_conn *tls = tls_of(conn);
    CHECK(tls->state != TLS_STATE_HANDSHAKE);
    CHECK(buf_empty(out) || !tls->notified);
    enum io result = IO_OK;
    do {
        while (tls->state != TLS_STATE_FAILED && !buf_empty(out) && tls->sealed.len < SEALED_MAX) {
            seal_record(tls, out);
        }
        result = tls->state == TLS_STATE_FAILED ? IO_RESET : send_sealed(tls);
    } while (result == IO_OK && !buf_empty(out));
    return result;
}

static bool tls_pending(const struct conn *conn)
{
    const struct tls_conn *tls = tls_of_const(conn);
    switch ((enum tls_state)tls->state) {
    case TLS_STATE_HANDSHAKE:
        return !buf_empty(&tls->early);
    case TLS_STATE_OPEN:
        return !tls->dry && (!buf_empty(&tls->early) || SSL_has_pending(tls->ssl) == 1);
    case TLS_STATE_ENDED:
    case TLS_STATE_FAILED:
        return !tls->end_told;
    }
    return false;
}

static void tls_shutdown_send(struct conn *conn)
{
    struct tls_conn *tls = tls_of(conn);
    if ((tls->state == TLS_STATE_OPEN || tls->state == TLS_STATE_ENDED) && !tls->notified) {
        tls->notified = true;
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl); /* into `sealed`; what it says of the peer is not asked */
        ERR_clear_error();
        tls->fin_due = true;
        (void)send_sealed(tls);
    } else if (!tls->notified) {
        conn->net->ops->shutdown_send(conn->net);
    }
}

static const struct conn_peer *tls_peer(const struct conn *conn)
{
    const struct tls_conn *tls = tls_of_const(conn);
    return tls->peer_text != NULL ? &tls->peer : NULL;
}

static struct slice tls_alpn(const struct conn *conn)
{
    const unsigned char *name = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(tls_of_const(conn)->ssl, &name, &len);
    return slice_of(name, len);
}

static struct slice tls_sni(const struct conn *conn)
{
    return slice_of_text(SSL_get_servername(tls_of_const(conn)->ssl, TLSEXT_NAMETYPE_host_name));
}

static void tls_free(struct conn *conn)
{
    struct tls_conn *tls = tls_of(conn);
    SSL_free(tls->ssl);
    handshake_free(tls);
    buf_clear(&tls->early);
    buf_clear(&tls->sealed);
    tls_context_unref(&tls->context);
    mem_free(tls->peer_text);
    mem_free(tls->failure);
    mem_free(tls);
}

static const struct conn_ops tls_ops = {
    .tls = true,
    .handshake = tls_handshake,
    .recv = tls_recv,
    .send = tls_send,
    .pending = tls_pending,
    .shutdown_send = tls_shutdown_send,
    .peer = tls_peer,
    .alpn = tls_alpn,
    .sni = tls_sni,
    .free = tls_free,
};

/* ------------------------------------------------------------------------------ how they are made
 */

static struct handshake *handshake_new(const struct tls_demand *demand)
{
    size_t identity = demand->identity.len;
    size_t uid = demand->uid.len;
    struct handshake *handshake = mem_new(sizeof *handshake + identity + uid);
    uint8_t *at = (uint8_t *)(handshake + 1);
    handshake->demand.identity = slice_of(at, identity);
    handshake->demand.uid = slice_of(at + identity, uid);
    if (identity > 0) {
        (void)memcpy(at, demand->identity.at, identity);
    }
    if (uid > 0) {
        (void)memcpy(at + identity, demand->uid.at, uid);
    }
    return handshake;
}

/* A connection that cannot be begun: its handshake says why. The first reason stands. */
static void refuse(struct tls_conn *tls, const char *text)
{
    if (tls->state != TLS_STATE_FAILED) {
        fail_as(tls, text);
    }
}

static struct tls_conn *tls_new(struct net_conn **net, struct tls_keys *keys,
                                struct tls_context *context, const struct tls_demand *demand)
{
    struct tls_conn *tls = NEW(struct tls_conn);
    tls->conn = (struct conn){.ops = &tls_ops, .net = *net};
    *net = NULL;
    tls->context = tls_context_ref(context);
    tls->keys = keys;
    tls->handshake = handshake_new(demand);
    buf_init(&tls->early, &tls->conn.net->loop->bufs);
    buf_init(&tls->sealed, &tls->conn.net->loop->bufs);
    tls->ssl = SSL_new(tls_context_get_openssl(context));
    CHECK(tls->ssl != NULL);
    CHECK(SSL_set_app_data(tls->ssl, tls) == 1);
    BIO *bio = BIO_new(tls_context_get_bio(context));
    CHECK(bio != NULL);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    struct error err = {{0}};
    if (!tls_context_equip(context, keys, tls->ssl, &tls->handshake->trust, &err)) {
        refuse(tls, err.text);
    } else if (demand->identity.len + demand->uid.len > 0 && tls->handshake->trust == NULL) {
        refuse(tls, "an identity is demanded of a peer that is not to be verified");
    }
    return tls;
}

/* Offers the protocols of the connection instead of its context's; false where they are none. */
static bool offer_alpn(SSL *ssl, const struct slice *names, size_t count)
{
    uint8_t list[1024];
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (names[i].len == 0 || names[i].len > UINT8_MAX || len + 1 + names[i].len > sizeof list) {
            return false;
        }
        list[len++] = (uint8_t)names[i].len;
        (void)memcpy(list + len, names[i].at, names[i].len);
        len += names[i].len;
    }
    CHECK(SSL_set_alpn_protos(ssl, list, (unsigned)len) == 0);
    return true;
}

/* False where it is no name of a host (RFC 6066 3). */
static bool name_server(SSL *ssl, struct slice sni)
{
    char name[256];
    if (sni.len >= sizeof name || memchr(sni.at, 0, sni.len) != NULL) {
        return false;
    }
    (void)memcpy(name, sni.at, sni.len);
    name[sni.len] = '\0';
    return SSL_set_tlsext_host_name(ssl, name) == 1;
}

static struct conn *openssl_client(struct net_conn **net, const struct tls_client *how)
{
    CHECK(!tls_context_is_server(how->context));
    struct tls_demand demand = {.identity = how->identity, .uid = how->uid};
    struct tls_conn *tls = tls_new(net, how->keys, how->context, &demand);
    SSL_set_connect_state(tls->ssl);
    /* What is wrong with the configuration ends the connection, not the process. */
    if (how->sni.len > 0 && !name_server(tls->ssl, how->sni)) {
        refuse(tls, "the server name is no name of a host");
    }
    if (how->alpn_count > 0 && !offer_alpn(tls->ssl, how->alpn, how->alpn_count)) {
        refuse(tls, "the protocols to offer are none, or too long");
    }
    return &tls->conn;
}

static struct conn *openssl_server(struct net_conn **net, const struct tls_server *how,
                                   struct slice early)
{
    CHECK(tls_context_is_server(how->context));
    struct tls_demand demand = {.identity = {NULL, 0}};
    struct tls_conn *tls = tls_new(net, how->keys, how->context, &demand);
    SSL_set_accept_state(tls->ssl);
    buf_append(&tls->early, early);
    return &tls->conn;
}

static const struct tls_provider openssl_provider = {
    .client = openssl_client,
    .server = openssl_server,
};

const struct tls_provider *tls_openssl(void)
{
    return &openssl_provider;
}

struct conn *conn_tls_client(struct net_conn **net, const struct tls_client *how)
{
    CHECK(*net != NULL);
    return how->keys->provider->client(net, how);
}

struct conn *conn_tls_server(struct net_conn **net, const struct tls_server *how,
                             struct slice early)
{
    CHECK(*net != NULL);
    return how->keys->provider->server(net, how, early);
}

struct slice conn_tls_failure(const struct conn *conn)
{
    if (conn->ops != &tls_ops) {
        return (struct slice){NULL, 0};
    }
    return slice_of_text(tls_of_const(conn)->failure);
}

bool conn_tls_recheck(struct conn *conn, struct error *err)
{
    if (conn->ops != &tls_ops || tls_of(conn)->peer_text == NULL) {
        return true;
    }
    struct tls_conn *tls = tls_of(conn);
    SSL *ssl = tls->ssl;
    struct tls_judge judge = {
        .context = tls->context,
        .keys = tls->keys,
        .wall_us = conn->net->loop->wall_us,
    };
    return tls_judge_again(&judge, ssl, err);
}
