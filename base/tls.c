/* Judging a peer comes in two steps. The chain: signatures, validity and roots, by OpenSSL, at the
 * loop's time; a chain that held once is remembered by its leaf's hash, under the id of the roots
 * that it held against, until its first certificate ends (a handshake between known peers then
 * checks one signature, that of the handshake itself). The names: always, because each connection
 * may demand another. */
#include "base/tls.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/tls_library.h"

#define DEFAULT_GROUPS "X25519:P-256"
#define DEFAULT_CIPHERS                                                                            \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"     \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* AES-128 first: the cheapest that is strong enough, with a short transcript hash. */
#define TLS13_CIPHERS   "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define DEFAULT_REKEY   (1U << 23)
#define CHAIN_DEPTH_MAX 4
#define CHAIN_BYTES_MAX (32 * 1024)
#define CHAINS_SLOTS    128

struct tls_identity {
    atomic_uint refs;
    X509 *leaf;
    STACK_OF(X509) * issuers;
    struct crypto_key *key;
    struct tls_validity validity;
    struct spiffe_names names;
};

struct tls_trust {
    atomic_uint refs;
    X509_STORE *store;
    uint64_t id;
};

/* A chain that was verified. */
struct chain_entry {
    uint8_t leaf_hash[CRYPTO_SHA256_BYTES];
    uint64_t trust_id;
    uint64_t not_after_us; /* 0: empty */
    bool of_server;        /* the peer's role: each has its own extended key usage */
};

struct tls_chains {
    struct chain_entry slots[CHAINS_SLOTS];
};

struct tls_context {
    atomic_uint refs;
    SSL_CTX *ssl;
    BIO_METHOD *bio;
    struct tls_identity *identity;
    struct tls_trust *trust;
    struct tls_peer_match *peers; /* their values stand behind them */
    size_t peer_count;
    uint8_t *alpn; /* as on the wire */
    size_t alpn_len;
    uint32_t rekey_records;
    enum tls_verify verify;
    bool server;
    bool mesh_identity;
    bool mesh_trust;
};

static void count_up(atomic_uint *refs)
{
    (void)atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

/* True for the last one. */
static bool count_down(atomic_uint *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

/* --------------------------------------------------------------------------- identity and trust */

static uint64_t time_us(const ASN1_TIME *at)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(at, &parts) != 1) {
        return 0;
    }
    time_t seconds = timegm(&parts);
    return seconds > 0 ? (uint64_t)seconds * 1000000 : 0;
}

static BIO *bio_over(struct slice pem)
{
    BIO *bio = BIO_new_mem_buf(pem.len > 0 ? (const void *)pem.at : "", (int)pem.len);
    CHECK(bio != NULL);
    return bio;
}

/* All certificates of a PEM text; null with *err where there is none, or something broken. */
static STACK_OF(X509) * read_certificates(struct slice pem, struct error *err)
{
    if (pem.len > INT_MAX) {
        (void)error_set(err, "the certificates are too long");
        return NULL;
    }
    BIO *bio = bio_over(pem);
    STACK_OF(X509) *all = sk_X509_new_null();
    CHECK(all != NULL);
    ERR_clear_error();
    X509 *certificate;
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        CHECK(sk_X509_push(all, certificate) > 0);
    }
    BIO_free(bio);
    /* The one way to end well: no further "BEGIN" line. */
    bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    int count = sk_X509_num(all);
    if (end && count > 0) {
        ERR_clear_error();
        return all;
    }
    sk_X509_pop_free(all, X509_free);
    if (end) {
        ERR_clear_error();
        (void)error_set(err, "no certificate in PEM");
    } else {
        (void)crypto_error(err, "certificate %d", count + 1);
    }
    return NULL;
}

static void read_validity(const X509 *leaf, struct tls_validity *validity)
{
    validity->not_before_us = time_us(X509_get0_notBefore(leaf));
    validity->not_after_us = time_us(X509_get0_notAfter(leaf));
    const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf);
    int len = ASN1_STRING_length(serial) < 20 ? ASN1_STRING_length(serial) : 20;
    for (int i = 0; i < len; i++) {
        (void)snprintf(validity->serial + 2 * i, 3, "%02x", ASN1_STRING_get0_data(serial)[i]);
    }
}

/* Peers have the root, or would not believe it: it need not travel. */
static void drop_roots(STACK_OF(X509) * chain)
{
    for (int i = sk_X509_num(chain) - 1; i >= 0; i--) {
        if ((X509_get_extension_flags(sk_X509_value(chain, i)) & EXFLAG_SS) != 0) {
            X509_free(sk_X509_delete(chain, i));
        }
    }
}

struct tls_identity *tls_identity_new(struct slice chain_pem, struct crypto_key *key,
                                      struct error *err)
{
    STACK_OF(X509) *chain = read_certificates(chain_pem, err);
    if (chain == NULL) {
        return NULL;
    }
    struct tls_identity *identity = NEW(struct tls_identity);
    atomic_init(&identity->refs, 1);
    identity->leaf = sk_X509_shift(chain);
    drop_roots(chain);
    identity->issuers = chain;
    if (X509_check_private_key(identity->leaf, crypto_key_get_openssl(key)) != 1) {
        ERR_clear_error();
        (void)error_set(err, "the private key is not that of the certificate");
        tls_identity_unref(&identity);
        return NULL;
    }
    identity->key = crypto_key_ref(key);
    if (!spiffe_read_certificate(identity->leaf, &identity->names, err)) {
        tls_identity_unref(&identity);
        return NULL;
    }
    read_validity(identity->leaf, &identity->validity);
    return identity;
}

struct tls_identity *tls_identity_ref(struct tls_identity *identity)
{
    count_up(&identity->refs);
    return identity;
}

void tls_identity_unref(struct tls_identity **identity)
{
    struct tls_identity *mine = *identity;
    *identity = NULL;
    if (mine != NULL && count_down(&mine->refs)) {
        X509_free(mine->leaf);
        sk_X509_pop_free(mine->issuers, X509_free);
        crypto_key_unref(&mine->key);
        mem_free(mine);
    }
}

const struct tls_validity *tls_identity_get_validity(const struct tls_identity *identity)
{
    return &identity->validity;
}

const struct spiffe_names *tls_identity_get_names(const struct tls_identity *identity)
{
    return &identity->names;
}

/* A hash over the certificates in their order. */
static uint64_t hash_of(const STACK_OF(X509) * all)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    CHECK(hash != NULL);
    CHECK(EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1);
    for (int i = 0; i < sk_X509_num(all); i++) {
        uint8_t one[CRYPTO_SHA256_BYTES];
        CHECK(X509_digest(sk_X509_value(all, i), EVP_sha256(), one, NULL) == 1);
        CHECK(EVP_DigestUpdate(hash, one, sizeof one) == 1);
    }
    uint8_t sum[CRYPTO_SHA256_BYTES];
    CHECK(EVP_DigestFinal_ex(hash, sum, NULL) == 1);
    EVP_MD_CTX_free(hash);
    uint64_t id;
    (void)memcpy(&id, sum, sizeof id);
    return id;
}

struct tls_trust *tls_trust_new(struct slice bundle_pem, struct error *err)
{
    STACK_OF(X509) *all = read_certificates(bundle_pem, err);
    if (all == NULL) {
        return NULL;
    }
    struct tls_trust *trust = NEW(struct tls_trust);
    atomic_init(&trust->refs, 1);
    trust->store = X509_STORE_new();
    CHECK(trust->store != NULL);
    for (int i = 0; i < sk_X509_num(all); i++) {
        /* One that is there already is no error. */
        CHECK(X509_STORE_add_cert(trust->store, sk_X509_value(all, i)) == 1);
    }
    trust->id = hash_of(all);
    sk_X509_pop_free(all, X509_free);
    return trust;
}

struct tls_trust *tls_trust_ref(struct tls_trust *trust)
{
    count_up(&trust->refs);
    return trust;
}

void tls_trust_unref(struct tls_trust **trust)
{
    struct tls_trust *mine = *trust;
    *trust = NULL;
    if (mine != NULL && count_down(&mine->refs)) {
        X509_STORE_free(mine->store);
        mem_free(mine);
    }
}

uint64_t tls_trust_get_id(const struct tls_trust *trust)
{
    return trust->id;
}

/* ------------------------------------------------------------------------------- of one thread */

void tls_keys_init(struct tls_keys *keys, const struct tls_provider *provider)
{
    CHECK(provider != NULL);
    *keys = (struct tls_keys){.provider = provider};
}

void tls_keys_fini(struct tls_keys *keys)
{
    tls_identity_unref(&keys->identity);
    tls_trust_unref(&keys->trust);
    FREE(keys->chains);
}

void tls_keys_set_identity_take(struct tls_keys *keys, struct tls_identity **identity)
{
    tls_identity_unref(&keys->identity);
    keys->identity = *identity;
    *identity = NULL;
}

void tls_keys_set_trust_take(struct tls_keys *keys, struct tls_trust **trust)
{
    tls_trust_unref(&keys->trust);
    keys->trust = *trust;
    *trust = NULL;
}

static struct chain_entry *chain_slot(struct tls_keys *keys, const uint8_t *leaf_hash)
{
    if (keys->chains == NULL) {
        keys->chains = NEW(struct tls_chains);
    }
    return &keys->chains->slots[leaf_hash[0] % CHAINS_SLOTS];
}

/* ------------------------------------------------------------------------------------- contexts */

struct tls_options tls_options_mesh(bool server)
{
    return (struct tls_options){
        .server = server,
        .mesh_identity = true,
        .mesh_trust = true,
        .verify = TLS_VERIFY_REQUIRED,
        .min = TLS_VERSION_1_3,
        .max = TLS_VERSION_1_3,
        .groups = "X25519:P-256",
        .signatures = "ecdsa_secp256r1_sha256",
    };
}

static int openssl_version(enum tls_version version)
{
    return version == TLS_VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
}

/* The server's choice: the first of its own that the client offers; none in common: the handshake
 * goes on without (RFC 7301 3.2 would allow an alert; other meshes' clients offer names of their
 * own and count on silence). */
static int choose_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_len,
                       const unsigned char *offered, unsigned offered_len, void *argument)
{
    (void)ssl;
    const struct tls_context *context = argument;
    for (size_t own = 0; own < context->alpn_len; own += 1 + (size_t)context->alpn[own]) {
        struct slice name = slice_of(context->alpn + own, 1 + (size_t)context->alpn[own]);
        for (size_t at = 0; at < offered_len; at += 1 + (size_t)offered[at]) {
            /* The length stands before each name, so a name is found whole. */
            if (slice_starts(slice_of(offered + at, offered_len - at), name)) {
                *chosen = context->alpn + own + 1;
                *chosen_len = context->alpn[own];
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static bool set_alpn(struct tls_context *context, const struct tls_options *options,
                     struct error *err)
{
    size_t len = 0;
    for (size_t i = 0; i < options->alpn_count; i++) {
        if (options->alpn[i].len == 0 || options->alpn[i].len > UINT8_MAX) {
            return error_set(err, "alpn %zu: a name has 1 to 255 bytes", i);
        }
        len += 1 + options->alpn[i].len;
    }
    if (len > UINT16_MAX) {
        return error_set(err, "alpn: the names are too long together");
    }
    if (len == 0) {
        return true;
    }
    context->alpn = mem_raw(len);
    for (size_t i = 0; i < options->alpn_count; i++) {
        context->alpn[context->alpn_len++] = (uint8_t)options->alpn[i].len;
        (void)memcpy(context->alpn + context->alpn_len, options->alpn[i].at, options->alpn[i].len);
        context->alpn_len += options->alpn[i].len;
    }
    if (context->server) {
        SSL_CTX_set_alpn_select_cb(context->ssl, choose_alpn, context);
    } else {
        CHECK(SSL_CTX_set_alpn_protos(context->ssl, context->alpn, (unsigned)len) == 0);
    }
    return true;
}

static void copy_peers(struct tls_context *context, const struct tls_options *options)
{
    if (options->peer_count == 0) {
        return;
    }
    size_t text = 0;
    for (size_t i = 0; i < options->peer_count; i++) {
        text += options->peers[i].value.len;
    }
    context->peers = mem_new(options->peer_count * sizeof *context->peers + text);
    context->peer_count = options->peer_count;
    uint8_t *at = (uint8_t *)(context->peers + options->peer_count);
    for (size_t i = 0; i < options->peer_count; i++) {
        struct slice value = options->peers[i].value;
        context->peers[i] = options->peers[i];
        context->peers[i].value = slice_of(at, value.len);
        if (value.len > 0) {
            (void)memcpy(at, value.at, value.len);
        }
        at += value.len;
    }
}

/* OpenSSL's macros for lists drop a const that it keeps to. */
static bool set_list(SSL_CTX *ssl, int command, const char *list)
{
    return SSL_CTX_ctrl(ssl, command, 0, (void *)(uintptr_t)list) == 1;
}

static bool set_algorithms(SSL_CTX *ssl, const struct tls_options *options, struct error *err)
{
    const char *groups = options->groups != NULL ? options->groups : DEFAULT_GROUPS;
    const char *ciphers = options->ciphers != NULL ? options->ciphers : DEFAULT_CIPHERS;
    CHECK(SSL_CTX_set_ciphersuites(ssl, TLS13_CIPHERS) == 1);
    if (SSL_CTX_set_cipher_list(ssl, ciphers) != 1) {
        return crypto_error(err, "cipher suites \"%s\"", ciphers);
    }
    if (!set_list(ssl, SSL_CTRL_SET_GROUPS_LIST, groups)) {
        return crypto_error(err, "groups \"%s\"", groups);
    }
    if (options->signatures != NULL &&
        !set_list(ssl, SSL_CTRL_SET_SIGALGS_LIST, options->signatures)) {
        return crypto_error(err, "signature algorithms \"%s\"", options->signatures);
    }
    if (options->min > options->max) {
        return error_set(err, "the lowest TLS version is above the highest");
    }
    CHECK(SSL_CTX_set_min_proto_version(ssl, openssl_version(options->min)) == 1);
    CHECK(SSL_CTX_set_max_proto_version(ssl, openssl_version(options->max)) == 1);
    return true;
}

static void set_modes(SSL_CTX *ssl, const struct tls_options *options)
{
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                    SSL_MODE_NO_AUTO_CHAIN);
    /* SSL_read comes back when a buffer brought nothing, so that conn_tls can end what never does.
     */
    (void)SSL_CTX_clear_mode(ssl, SSL_MODE_AUTO_RETRY);
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    CHECK(SSL_CTX_set_num_tickets(ssl, 0) == 1);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_verify_depth(ssl, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(ssl, CHAIN_BYTES_MAX);
    int verify = SSL_VERIFY_NONE;
    if (options->verify != TLS_VERIFY_NONE) {
        verify = SSL_VERIFY_PEER;
    }
    if (options->verify == TLS_VERIFY_REQUIRED) {
        verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(ssl, verify, NULL);
}

struct tls_context *tls_context_new(const struct tls_options *options, struct error *err)
{
    if (options->verify != TLS_VERIFY_NONE && !options->mesh_trust && options->trust == NULL) {
        (void)error_set(err, "peers are to be verified, but no roots to trust are given");
        return NULL;
    }
    if (options->server && !options->mesh_identity && options->identity == NULL) {
        (void)error_set(err, "a server needs a certificate");
        return NULL;
    }
    struct tls_context *context = NEW(struct tls_context);
    atomic_init(&context->refs, 1);
    context->server = options->server;
    context->verify = options->verify;
    context->mesh_identity = options->mesh_identity;
    context->mesh_trust = options->mesh_trust;
    context->rekey_records = options->rekey_records > 0 ? options->rekey_records : DEFAULT_REKEY;
    context->identity = options->identity != NULL ? tls_identity_ref(options->identity) : NULL;
    context->trust = options->trust != NULL ? tls_trust_ref(options->trust) : NULL;
    context->ssl = SSL_CTX_new_ex(tls_library(), NULL,
                                  options->server ? TLS_server_method() : TLS_client_method());
    CHECK(context->ssl != NULL);
    context->bio = conn_tls_bio_new();
    SSL_CTX_set_cert_verify_callback(context->ssl, conn_tls_verify, NULL);
    set_modes(context->ssl, options);
    copy_peers(context, options);
    if (!set_algorithms(context->ssl, options, err) || !set_alpn(context, options, err)) {
        tls_context_unref(&context);
    }
    return context;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    count_up(&context->refs);
    return context;
}

void tls_context_unref(struct tls_context **context)
{
    struct tls_context *mine = *context;
    *context = NULL;
    if (mine != NULL && count_down(&mine->refs)) {
        SSL_CTX_free(mine->ssl);
        BIO_meth_free(mine->bio);
        tls_identity_unref(&mine->identity);
        tls_trust_unref(&mine->trust);
        mem_free(mine->peers);
        mem_free(mine->alpn);
        mem_free(mine);
    }
}

struct ssl_ctx_st *tls_context_get_openssl(const struct tls_context *context)
{
    return context->ssl;
}

struct bio_method_st *tls_context_get_bio(const struct tls_context *context)
{
    return context->bio;
}

const struct tls_identity *tls_context_get_identity(const struct tls_context *context)
{
    return context->identity;
}

struct slice tls_context_get_alpn(const struct tls_context *context)
{
    return slice_of(context->alpn, context->alpn_len);
}

bool tls_context_is_server(const struct tls_context *context)
{
    return context->server;
}

uint32_t tls_context_get_rekey(const struct tls_context *context)
{
    return context->rekey_records;
}

bool tls_context_equip(const struct tls_context *context, const struct tls_keys *keys,
                       struct ssl_st *ssl, struct tls_trust **trust, struct error *err)
{
    const struct tls_identity *identity =
        context->mesh_identity ? keys->identity : context->identity;
    struct tls_trust *roots = context->mesh_trust ? keys->trust : context->trust;
    *trust = NULL;
    if (identity == NULL && (context->server || context->mesh_identity)) {
        return error_set(err, "there is no certificate of our own yet");
    }
    if (roots == NULL && context->verify != TLS_VERIFY_NONE) {
        return error_set(err, "there are no roots to trust yet");
    }
    if (identity != NULL &&
        SSL_use_cert_and_key(ssl, identity->leaf, crypto_key_get_openssl(identity->key),
                             identity->issuers, 1) != 1) {
        return crypto_error(err, "our own certificate cannot be used");
    }
    if (context->verify != TLS_VERIFY_NONE) {
        CHECK(SSL_set1_verify_cert_store(ssl, roots->store) == 1);
        *trust = tls_trust_ref(roots);
    }
    return true;
}

/* -------------------------------------------------------------------------- judging a peer's chain
 */

static bool text_matches(const struct tls_peer_match *match, struct slice name)
{
    struct slice value = match->value;
    bool nocase = match->ignore_case;
    switch (match->kind) {
    case TLS_MATCH_EXACT:
        return nocase ? slice_eq_nocase(name, value) : slice_eq(name, value);
    case TLS_MATCH_PREFIX:
        return nocase ? slice_starts_nocase(name, value) : slice_starts(name, value);
    case TLS_MATCH_SUFFIX:
        return name.len >= value.len &&
               (nocase ? slice_eq_nocase(slice_from(name, name.len - value.len), value)
                       : slice_ends(name, value));
    case TLS_MATCH_CONTAINS:
        for (size_t at = 0; at + value.len <= name.len; at++) {
            struct slice part = slice_head(slice_from(name, at), value.len);
            if (nocase ? slice_eq_nocase(part, value) : slice_eq(part, value)) {
                return true;
            }
        }
        return false;
    case TLS_MATCH_TRUST_DOMAIN:
        return spiffe_is_in(name, value);
    case TLS_MATCH_TEST:
        return match->test(match->argument, name);
    }
    return false;
}

static bool name_matches(const struct tls_peer_match *match, const GENERAL_NAME *name)
{
    const ASN1_STRING *text = NULL;
    if (name->type == GEN_URI && match->san != TLS_SAN_DNS) {
        text = name->d.uniformResourceIdentifier;
    } else if (name->type == GEN_DNS && match->san != TLS_SAN_URI) {
        text = name->d.dNSName;
    } else {
        return false;
    }
    struct slice bytes = slice_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
    return text_matches(match, bytes);
}

static bool is_welcome(const struct tls_context *context, X509 *leaf)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool welcome = false;
    for (size_t i = 0; i < context->peer_count && !welcome; i++) {
        const struct tls_peer_match *match = &context->peers[i];
        /* X509_check_host knows about wildcards; it must not look at the Subject. */
        welcome = match->kind == TLS_MATCH_EXACT && match->san == TLS_SAN_DNS &&
                  match->value.len > 0 &&
                  X509_check_host(leaf, (const char *)match->value.at, match->value.len,
                                  X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
        for (int j = 0; j < sk_GENERAL_NAME_num(names) && !welcome; j++) {
            welcome = name_matches(match, sk_GENERAL_NAME_value(names, j));
        }
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return welcome;
}

/* How messages name a certificate: its SPIFFE id, else its Subject. */
static void describe(const X509 *certificate, char *text, size_t room)
{
    struct spiffe_names names;
    if (spiffe_read_certificate(certificate, &names, NULL) && names.identity[0] != '\0') {
        (void)snprintf(text, room, "%.200s", names.identity);
        return;
    }
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    (void)X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);
    (void)snprintf(text, room, "\"%.*s\"", (int)len, at != NULL ? at : "");
    BIO_free(bio);
}

/* Says why OpenSSL refused the chain, naming the certificate and, for time, the time. */
static bool refuse_chain(X509_STORE_CTX *store, struct error *err)
{
    char whose[256] = "";
    char when[CLOCK_TEXT_BYTES] = "";
    int reason = X509_STORE_CTX_get_error(store);
    const X509 *at = X509_STORE_CTX_get_current_cert(store);
    at = at != NULL ? at : X509_STORE_CTX_get0_cert(store);
    const char *what =
        X509_STORE_CTX_get_error_depth(store) > 0 ? "issuer's certificate" : "peer certificate";
    describe(at, whose, sizeof whose);
    ERR_clear_error();
    switch (reason) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        clock_text(time_us(X509_get0_notAfter(at)), when);
        return error_set(err, "%s of %s expired at %s", what, whose, when);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        clock_text(time_us(X509_get0_notBefore(at)), when);
        return error_set(err, "%s of %s is not valid before %s", what, whose, when);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* a root of the same name with another key */
        return error_set(err, "peer certificate of %s has an unknown issuer", whose);
    default: /* OpenSSL's list grows */
        return error_set(err, "%s of %s: %s", what, whose, X509_verify_cert_error_string(reason));
    }
}

/* Until when the whole chain is valid. */
static uint64_t chain_end(const X509_STORE_CTX *store)
{
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    uint64_t end = UINT64_MAX;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        uint64_t at = time_us(X509_get0_notAfter(sk_X509_value(chain, i)));
        end = at < end ? at : end;
    }
    return end;
}

static bool verify_chain(const struct tls_judge *judge, X509_STORE_CTX *store,
                         struct tls_verified *verified, struct error *err)
{
    const X509 *leaf = X509_STORE_CTX_get0_cert(store);
    bool of_server = !judge->context->server;
    CHECK(X509_digest(leaf, EVP_sha256(), verified->leaf_hash, NULL) == 1);
    struct chain_entry *known = chain_slot(judge->keys, verified->leaf_hash);
    if (known->trust_id == judge->trust->id && known->not_after_us > judge->wall_us &&
        known->of_server == of_server &&
        memcmp(known->leaf_hash, verified->leaf_hash, sizeof known->leaf_hash) == 0) {
        verified->not_after_us = known->not_after_us;
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return true;
    }
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(store),
                               (time_t)(judge->wall_us / 1000000));
    if (X509_verify_cert(store) != 1) {
        return refuse_chain(store, err);
    }
    verified->not_after_us = chain_end(store);
    *known = (struct chain_entry){.trust_id = judge->trust->id,
                                  .not_after_us = verified->not_after_us,
                                  .of_server = of_server};
    (void)memcpy(known->leaf_hash, verified->leaf_hash, sizeof known->leaf_hash);
    return true;
}

static bool meets(const struct tls_demand *demand, const struct spiffe_names *names,
                  struct error *err)
{
    const char *shown = names->identity[0] != '\0' ? names->identity : "none";
    bool named = slice_eq(demand->identity, slice_of_text(names->identity)) || MUTANT(27);
    if (demand->identity.len > 0 && !named) {
        return error_set(err, "peer identity %s is not %.*s", shown, SLICE_ARG(demand->identity));
    }
    if (demand->uid.len > 0 && !slice_eq(demand->uid, slice_of_text(names->uid))) {
        return error_set(err, "peer %s is pod %s, not pod %.*s", shown,
                         names->uid[0] != '\0' ? names->uid : "(unknown)", SLICE_ARG(demand->uid));
    }
    return true;
}

/* "peer identity X is not one of A, B, ...". */
static bool refuse_names(const struct tls_context *context, const X509 *leaf, struct error *err)
{
    char whose[256];
    char list[512] = "";
    size_t len = 0;
    describe(leaf, whose, sizeof whose);
    for (size_t i = 0; i < context->peer_count; i++) {
        int added = snprintf(list + len, sizeof list - len, "%s%.*s", i > 0 ? ", " : "",
                             SLICE_ARG(context->peers[i].value));
        if (added < 0 || len + (size_t)added >= sizeof list) {
            break;
        }
        len += (size_t)added;
    }
    return error_set(err, "peer identity %s is not one of %s", whose, list);
}

bool tls_judge(const struct tls_judge *judge, struct x509_store_ctx_st *store,
               struct tls_verified *verified, struct error *err)
{
    CHECK(judge->trust != NULL);
    if (!verify_chain(judge, store, verified, err)) {
        return false;
    }
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    const struct tls_context *context = judge->context;
    if (spiffe_read_certificate(leaf, &verified->names, err) &&
        meets(&judge->demand, &verified->names, err) &&
        (context->peer_count == 0 || is_welcome(context, leaf) ||
         refuse_names(context, leaf, err))) {
        return true;
    }
    /* Becomes the alert bad_certificate. */
    X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
    return false;
}

bool tls_judge_again(const struct tls_judge *judge, const struct ssl_st *ssl, struct error *err)
{
    X509 *leaf = SSL_get0_peer_certificate(ssl);
    const struct tls_context *context = judge->context;
    struct tls_judge now = *judge;
    now.trust = context->mesh_trust ? judge->keys->trust : context->trust;
    CHECK(leaf != NULL);
    if (now.trust == NULL) {
        return error_set(err, "there are no roots to trust any more");
    }
    X509_STORE_CTX *store = X509_STORE_CTX_new();
    CHECK(store != NULL);
    CHECK(X509_STORE_CTX_init(store, now.trust->store, leaf, SSL_get_peer_cert_chain(ssl)) == 1);
    CHECK(X509_STORE_CTX_set_default(store, context->server ? "ssl_client" : "ssl_server") == 1);
    X509_VERIFY_PARAM_set_depth(X509_STORE_CTX_get0_param(store), CHAIN_DEPTH_MAX);
    struct tls_verified verified;
    bool good = tls_judge(&now, store, &verified, err);
    X509_STORE_CTX_free(store);
    return good;
}
