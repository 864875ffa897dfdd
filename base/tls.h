#pragma once
/* What TLS connections are made from. Three things, so that a certificate can change while
 * connections live, without a lock:
 *
 *   tls_identity   our certificate chain and its key      immutable, counted with an atomic
 *   tls_trust      the roots that we believe              the same
 *   tls_context    how to speak: role, versions, ALPN,    the same; belongs to the configuration
 *                  which peers are welcome
 *   tls_keys       one thread's identity, trust, and      of that thread alone
 *                  cache of chains that it has verified
 *
 * A renewed certificate is a new tls_identity, sent to each thread by mail and put into its
 * tls_keys: connections made from then on use it, older ones live on. A context names its own
 * identity and trust (of a file), or says that it takes the thread's, which are the mesh's.
 *
 * There are no session tickets: a resumed session would skip the checks of the chain. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/net.h"
#include "base/slice.h"
#include "base/spiffe.h"

struct conn;
struct tls_client;
struct tls_server;
/* OpenSSL's, by their own tags; only base/conn_tls.c looks inside. */
struct ssl_ctx_st;
struct ssl_st;
struct bio_method_st;
struct x509_store_ctx_st;

/* --------------------------------------------------------------------------- identity and trust */

struct tls_identity;

/* `chain_pem`: the leaf first, then its issuers; a self-signed root at the end is not sent to
 * peers. Null with *err where that is no chain, or the key is not the leaf's. */
struct tls_identity *tls_identity_new(struct slice chain_pem, struct crypto_key *key,
                                      struct error *err) MUST_USE;
struct tls_identity *tls_identity_ref(struct tls_identity *identity);
void tls_identity_unref(struct tls_identity **identity);

/* Of the leaf; for renewal, and for those who look. */
struct tls_validity {
    uint64_t not_before_us; /* wall time */
    uint64_t not_after_us;
    char serial[41]; /* hexadecimal */
};
const struct tls_validity *tls_identity_get_validity(const struct tls_identity *identity);
const struct spiffe_names *tls_identity_get_names(const struct tls_identity *identity);

struct tls_trust;

/* One or more certificates in PEM. Null with *err. */
struct tls_trust *tls_trust_new(struct slice bundle_pem, struct error *err) MUST_USE;
struct tls_trust *tls_trust_ref(struct tls_trust *trust);
void tls_trust_unref(struct tls_trust **trust);
/* Equal for equal bundles, and only for them. */
uint64_t tls_trust_get_id(const struct tls_trust *trust);

/* ------------------------------------------------------------------------------- of one thread */

struct tls_chains;

/* How connections come about: OpenSSL's, or the simulator's plain ones that carry an identity. */
struct tls_provider {
    struct conn *(*client)(struct net_conn **, const struct tls_client *);
    struct conn *(*server)(struct net_conn **, const struct tls_server *, struct slice early);
};
const struct tls_provider *tls_openssl(void);

struct tls_keys {
    const struct tls_provider *provider;
    struct tls_identity *identity; /* null: none yet */
    struct tls_trust *trust;       /* null: none yet */
    struct tls_chains *chains;     /* null: nothing verified yet */
};

void tls_keys_init(struct tls_keys *keys, const struct tls_provider *provider);
void tls_keys_fini(struct tls_keys *keys);
/* For connections made from now on. A null identity or trust takes away what was there. */
void tls_keys_set_identity_take(struct tls_keys *keys, struct tls_identity **identity);
/* Living connections keep what they verified: see conn_tls_recheck. */
void tls_keys_set_trust_take(struct tls_keys *keys, struct tls_trust **trust);

/* ------------------------------------------------------------------------------------- contexts */

enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };

enum tls_verify {
    TLS_VERIFY_NONE,     /* any peer, unchecked; a server asks for no certificate */
    TLS_VERIFY_IF_GIVEN, /* a server asks; a client without a certificate may come */
    TLS_VERIFY_REQUIRED  /* chain, validity, and the matches below */
};

enum tls_san { TLS_SAN_ANY, TLS_SAN_URI, TLS_SAN_DNS };

enum tls_match_kind {
    TLS_MATCH_EXACT, /* a DNS name also through a wildcard of the certificate (RFC 6125 6.4.3) */
    TLS_MATCH_PREFIX,
    TLS_MATCH_SUFFIX,
    TLS_MATCH_CONTAINS,
    TLS_MATCH_TRUST_DOMAIN, /* a SPIFFE id in the trust domain `value` */
    TLS_MATCH_TEST          /* what `test` says; `value` is its name in messages */
};

/* One way for a peer to be welcome: a name (SAN) of its certificate matches. */
struct tls_peer_match {
    enum tls_san san;
    enum tls_match_kind kind;
    bool ignore_case; /* not for TRUST_DOMAIN and TEST */
    struct slice value;
    bool (*test)(const void *argument, struct slice name);
    const void *argument; /* must outlive the context */
};

struct tls_options {
    bool server;
    bool mesh_identity;            /* show the thread's identity; else `identity` */
    bool mesh_trust;               /* believe the thread's roots; else `trust` */
    struct tls_identity *identity; /* borrowed, counted by the context; null: none */
    struct tls_trust *trust;       /* the same; null: only with TLS_VERIFY_NONE */
    enum tls_verify verify;
    enum tls_version min;
    enum tls_version max;
    const char *ciphers;      /* of TLS 1.2, OpenSSL's names with ":"; null: ECDHE with AEAD */
    const char *groups;       /* the first is the key share; null: X25519:P-256 */
    const char *signatures;   /* null: OpenSSL's */
    const struct slice *alpn; /* a client offers them; a server picks the first that was offered */
    size_t alpn_count;
    const struct tls_peer_match *peers; /* one must match; none: no demand on names */
    size_t peer_count;
    uint32_t rekey_records; /* new keys after so many records each way; 0: 2^23 */
};

/* What mesh peers speak among themselves: TLS 1.3, one group and one signature algorithm, the
 * thread's identity and trust, a certificate from both. Add ALPN and matches. */
struct tls_options tls_options_mesh(bool server);

struct tls_context;

/* Null with *err, which names the option that OpenSSL refuses. */
struct tls_context *tls_context_new(const struct tls_options *options, struct error *err) MUST_USE;
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context **context);
/* Its own identity, borrowed; null: it has none, or shows the thread's. */
const struct tls_identity *tls_context_get_identity(const struct tls_context *context);

/* --------------------------------------------------------------- between tls.c and conn_tls.c only
 */

/* Whom a connection demands, beyond its context's matches; empty slices: no demand. */
struct tls_demand {
    struct slice identity; /* exact SPIFFE id */
    struct slice uid;
};

/* Of a certificate that was accepted. */
struct tls_verified {
    struct spiffe_names names;
    uint8_t leaf_hash[CRYPTO_SHA256_BYTES];
    uint64_t not_after_us; /* of the first certificate of the chain to end */
};

struct ssl_ctx_st *tls_context_get_openssl(const struct tls_context *context);
struct bio_method_st *tls_context_get_bio(const struct tls_context *context);
bool tls_context_is_server(const struct tls_context *context);
/* The protocols that it offers or takes, as on the wire; for other providers. */
struct slice tls_context_get_alpn(const struct tls_context *context);
uint32_t tls_context_get_rekey(const struct tls_context *context);
/* Gives `ssl` its certificate and its roots; *trust: those, counted for the caller, null where the
 * peer is not verified. False with *err where something needed is missing. */
bool tls_context_equip(const struct tls_context *context, const struct tls_keys *keys,
                       struct ssl_st *ssl, struct tls_trust **trust, struct error *err) MUST_USE;

/* What a peer is judged by. */
struct tls_judge {
    const struct tls_context *context;
    struct tls_keys *keys;         /* for its cache */
    const struct tls_trust *trust; /* the roots of the `store` that is judged */
    struct tls_demand demand;
    uint64_t wall_us;
};
/* Judges the chain that the peer has sent. False with *err; the store's error is set so that a
 * fitting alert goes out. */
bool tls_judge(const struct tls_judge *judge, struct x509_store_ctx_st *store,
               struct tls_verified *verified, struct error *err) MUST_USE;
/* The same of a chain that was accepted before, against the roots of now; judge->trust is not
 * looked at. */
bool tls_judge_again(const struct tls_judge *judge, const struct ssl_st *ssl,
                     struct error *err) MUST_USE;

/* Of base/conn_tls.c: what every SSL_CTX calls, with the connection as the SSL's app data. */
struct bio_method_st *conn_tls_bio_new(void);
int conn_tls_verify(struct x509_store_ctx_st *store, void *unused);
