/* Files of an authority of our own: root.key, then root.pem; the second one's presence says that
 * both are whole (crypto_save_secret renames into place). A key without a certificate is what a
 * crash between the two left, and is made anew: nothing can have been signed with it. */
#include "control/serve/ca.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/spiffe.h"

#define ROOT_LIFETIME_S   (UINT64_C(10) * 365 * 24 * 60 * 60)
#define FILE_BYTES_MAX    65536
#define REQUEST_BYTES_MAX 16384
#define CONTROL_NAMESPACE "pillion-system"
#define CONTROL_ACCOUNT   "pillion-control"

struct ca {
    struct crypto_key *key;
    STACK_OF(X509) * chain; /* the issuer first, the root last */
    char *chain_pems[CA_CHAIN_MAX];
    char *trust_domain;
    char control_identity[SPIFFE_TEXT_MAX + 1];
    uint32_t ttl_s;
    uint32_t backdate_s;
};

/* ------------------------------------------------------------------------- making certificates */

static X509_EXTENSION *extension_of(X509V3_CTX *about, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, about, nid, value);
    CHECK(extension != NULL);
    return extension;
}

static void add_take(X509 *certificate, X509_EXTENSION *extension)
{
    CHECK(X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void add(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX about;
    X509V3_set_ctx_nodb(&about);
    X509V3_set_ctx(&about, issuer, certificate, NULL, NULL, 0);
    add_take(certificate, extension_of(&about, nid, value));
}

/* A certificate without names yet; its serial number is random (CA/Browser Forum 7.1 wants 64 bits,
 * here are 127) and positive (RFC 5280 4.1.2.2). */
static X509 *draft_new(EVP_PKEY *key, uint64_t begin_us, uint64_t end_us)
{
    uint8_t serial[16];
    crypto_random((struct span){serial, sizeof serial});
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40);
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    CHECK(number != NULL);
    X509 *draft = X509_new();
    CHECK(draft != NULL);
    CHECK(X509_set_version(draft, X509_VERSION_3) == 1);
    CHECK(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(draft)) != NULL);
    BN_free(number);
    CHECK(ASN1_TIME_set(X509_getm_notBefore(draft), (time_t)(begin_us / 1000000)) != NULL);
    CHECK(ASN1_TIME_set(X509_getm_notAfter(draft), (time_t)(end_us / 1000000)) != NULL);
    CHECK(X509_set_pubkey(draft, key) == 1);
    return draft;
}

static void add_entry(X509_NAME *name, int nid, struct slice text)
{
    CHECK(text.len <= INT_MAX);
    CHECK(X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8, text.at, (int)text.len, -1, 0) == 1);
}

static void sign(X509 *draft, const struct crypto_key *key)
{
    CHECK(X509_sign(draft, crypto_key_get_openssl(key), EVP_sha256()) > 0);
}

/* When a certificate made now begins. */
static uint64_t begin_of(uint64_t wall_us, uint32_t backdate_s)
{
    uint64_t back_us = (uint64_t)backdate_s * 1000000;
    return wall_us > back_us ? wall_us - back_us : 0;
}

static X509 *root_new(const struct crypto_key *key, struct slice trust_domain, uint64_t wall_us,
                      uint32_t backdate_s)
{
    X509 *root = draft_new(crypto_key_get_openssl(key), begin_of(wall_us, backdate_s),
                           wall_us + ROOT_LIFETIME_S * 1000000);
    X509_NAME *name = X509_get_subject_name(root);
    add_entry(name, NID_organizationName, SLICE("pillion"));
    add_entry(name, NID_commonName,
              slice_head(trust_domain, 64)); /* ub-common-name, RFC 5280 A.1 */
    CHECK(X509_set_issuer_name(root, name) == 1);
    add(root, root, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add(root, root, NID_key_usage, "critical,keyCertSign,cRLSign");
    add(root, root, NID_subject_key_identifier, "hash");
    sign(root, key);
    return root;
}

static char *pem_of(X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    CHECK(PEM_write_bio_X509(bio, certificate) == 1);
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);
    char *pem = mem_dup(at, (size_t)len);
    BIO_free(bio);
    return pem;
}

/* Wall time in µs; 0 where it cannot be read. */
static uint64_t end_of(const X509 *certificate)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) != 1) {
        return 0;
    }
    time_t seconds = timegm(&parts);
    return seconds > 0 ? (uint64_t)seconds * 1000000 : 0;
}

/* ------------------------------------------------------------------------------------- opening */

static void forget(char *secret, size_t len)
{
    if (secret != NULL) {
        crypto_wipe((struct span){(uint8_t *)secret, len});
        mem_free(secret);
    }
}

static bool load_key(struct ca *ca, const char *path, bool ours, struct error *err)
{
    size_t len = 0;
    char *pem = ours ? crypto_load_secret(path, FILE_BYTES_MAX, &len, err)
                     : crypto_load_file(path, FILE_BYTES_MAX, &len, err);
    if (pem == NULL) {
        return false;
    }
    ca->key = crypto_key_from_pem(slice_of(pem, len), err);
    forget(pem, len);
    return ca->key != NULL || error_wrap(err, "%s", path);
}

static bool load_chain(struct ca *ca, const char *path, struct error *err)
{
    size_t len = 0;
    char *pem = crypto_load_file(path, FILE_BYTES_MAX, &len, err);
    if (pem == NULL) {
        return false;
    }
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    CHECK(bio != NULL);
    X509 *certificate;
    ERR_clear_error();
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        CHECK(sk_X509_push(ca->chain, certificate) > 0);
    }
    BIO_free(bio);
    mem_free(pem);
    int count = sk_X509_num(ca->chain);
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        return crypto_error(err, "%s: certificate %d", path, count + 1);
    }
    ERR_clear_error();
    if (count == 0 || count > CA_CHAIN_MAX - 1) {
        return error_set(err, "%s: holds %d certificates, wanted are 1 to %d", path, count,
                         CA_CHAIN_MAX - 1);
    }
    return true;
}

/* Does each certificate sign the one before, and may the first one sign at all? */
static bool check_chain(const struct ca *ca, const char *path, uint64_t wall_us, struct error *err)
{
    char when[CLOCK_TEXT_BYTES];
    X509 *issuer = sk_X509_value(ca->chain, 0);
    if (X509_check_private_key(issuer, crypto_key_get_openssl(ca->key)) != 1) {
        ERR_clear_error();
        return error_set(err, "%s: the private key is not that of the certificate", path);
    }
    /* 1 is a CA by its extensions; the other positive values are guesses about old forms. */
    if (X509_check_ca(issuer) != 1 || (X509_get_key_usage(issuer) & X509v3_KU_KEY_CERT_SIGN) == 0) {
        return error_set(err, "%s: the certificate is not one of an authority", path);
    }
    for (int i = 0; i < sk_X509_num(ca->chain); i++) {
        X509 *at = sk_X509_value(ca->chain, i);
        if (end_of(at) <= wall_us) {
            clock_text(end_of(at), when);
            return error_set(err, "%s: certificate %d expired at %s", path, i + 1, when);
        }
        if (i > 0 && X509_check_issued(at, sk_X509_value(ca->chain, i - 1)) != X509_V_OK) {
            return error_set(err, "%s: certificate %d is not the issuer of the one before", path,
                             i + 1);
        }
    }
    return true;
}

/* Makes the authority's files, the certificate last. */
static bool make_files(const struct ca_options *options, const char *cert_path,
                       const char *key_path, uint64_t wall_us, struct error *err)
{
    if (mkdir(options->folder, 0700) != 0 && errno != EEXIST) {
        return error_errno(err, "%s: cannot create", options->folder);
    }
    struct crypto_key *key = crypto_key_new();
    X509 *root = root_new(key, options->trust_domain, wall_us, options->backdate_s);
    char *key_pem = crypto_key_to_pem(key);
    char *root_pem = pem_of(root);
    bool saved = crypto_save_secret(key_path, slice_of_text(key_pem), err) &&
                 crypto_save_secret(cert_path, slice_of_text(root_pem), err);
    forget(key_pem, strlen(key_pem));
    mem_free(root_pem);
    X509_free(root);
    crypto_key_unref(&key);
    return saved;
}

static bool open_own(struct ca *ca, const struct ca_options *options, uint64_t wall_us,
                     struct error *err)
{
    char cert_path[PATH_MAX];
    char key_path[PATH_MAX];
    struct stat about;
    int len = snprintf(cert_path, sizeof cert_path, "%s/root.pem", options->folder);
    if (len < 0 || (size_t)len >= sizeof cert_path) {
        return error_set(err, "%s: the path is too long", options->folder);
    }
    (void)snprintf(key_path, sizeof key_path, "%s/root.key", options->folder);
    if (stat(cert_path, &about) != 0) {
        if (errno != ENOENT) {
            return error_errno(err, "%s", cert_path);
        }
        if (!make_files(options, cert_path, key_path, wall_us, err)) {
            return false;
        }
    }
    return load_key(ca, key_path, true, err) && load_chain(ca, cert_path, err) &&
           check_chain(ca, cert_path, wall_us, err);
}

static bool open_given(struct ca *ca, const struct ca_options *options, uint64_t wall_us,
                       struct error *err)
{
    if (options->cert_path == NULL || options->key_path == NULL) {
        return error_set(err, "a given authority needs both, its certificate and its key");
    }
    return load_key(ca, options->key_path, false, err) && load_chain(ca, options->cert_path, err) &&
           check_chain(ca, options->cert_path, wall_us, err);
}

static bool name_control(struct ca *ca, struct error *err)
{
    struct spiffe_id id = {.trust_domain = slice_of_text(ca->trust_domain),
                           .namespace = SLICE(CONTROL_NAMESPACE),
                           .account = SLICE(CONTROL_ACCOUNT)};
    return spiffe_format(&id, ca->control_identity) > 0 ||
           error_set(err, "\"%s\" is no trust domain", ca->trust_domain);
}

struct ca *ca_open(const struct ca_options *options, uint64_t wall_us, struct error *err)
{
    struct ca *ca = NEW(struct ca);
    ca->chain = sk_X509_new_null();
    CHECK(ca->chain != NULL);
    ca->ttl_s = options->ttl_s > 0 ? options->ttl_s : CA_TTL_DEFAULT_S;
    ca->backdate_s = options->backdate_s;
    ca->trust_domain = mem_dup(options->trust_domain.at, options->trust_domain.len);
    bool given = options->cert_path != NULL || options->key_path != NULL;
    if (!name_control(ca, err) ||
        !(given ? open_given(ca, options, wall_us, err) : open_own(ca, options, wall_us, err))) {
        ca_free(&ca);
        return NULL;
    }
    for (int i = 0; i < sk_X509_num(ca->chain); i++) {
        ca->chain_pems[i] = pem_of(sk_X509_value(ca->chain, i));
    }
    return ca;
}

void ca_free(struct ca **ca)
{
    struct ca *mine = *ca;
    *ca = NULL;
    if (mine == NULL) {
        return;
    }
    crypto_key_unref(&mine->key);
    sk_X509_pop_free(mine->chain, X509_free);
    for (size_t i = 0; i < CA_CHAIN_MAX; i++) {
        mem_free(mine->chain_pems[i]);
    }
    mem_free(mine->trust_domain);
    mem_free(mine);
}

struct slice ca_get_root(const struct ca *ca)
{
    return slice_of_text(ca->chain_pems[sk_X509_num(ca->chain) - 1]);
}

struct slice ca_get_control_identity(const struct ca *ca)
{
    return slice_of_text(ca->control_identity);
}

/* ------------------------------------------------------------------------------------- issuing */

void ca_chain_fini(struct ca_chain *chain)
{
    for (size_t i = 0; i < chain->count; i++) {
        mem_free(chain->pems[i]);
    }
    *chain = (struct ca_chain){.count = 0};
}

static bool check_subject(const struct ca *ca, const struct ca_subject *subject, struct error *err)
{
    if (!spiffe_is_valid(subject->identity)) {
        return error_set(err, "\"%.*s\" is no SPIFFE id", SLICE_ARG(subject->identity));
    }
    if (!spiffe_is_in(subject->identity, slice_of_text(ca->trust_domain))) {
        return error_set(err, "%.*s is not in the trust domain %s", SLICE_ARG(subject->identity),
                         ca->trust_domain);
    }
    return subject->uid.len == 0 || spiffe_is_uid(subject->uid) ||
           error_set(err, "\"%.*s\" is no unique id", SLICE_ARG(subject->uid));
}

/* Signs a leaf for the key; null with *err where the authority has expired. */
static X509 *leaf_new(const struct ca *ca, EVP_PKEY *key, const struct ca_subject *subject,
                      const struct slice *dns, size_t dns_count, uint64_t wall_us,
                      struct error *err)
{
    X509 *issuer = sk_X509_value(ca->chain, 0);
    uint64_t issuer_end_us = end_of(issuer);
    uint32_t ttl_s = subject->ttl_s > 0 && subject->ttl_s < ca->ttl_s ? subject->ttl_s : ca->ttl_s;
    uint64_t end_us = wall_us + (uint64_t)ttl_s * 1000000;
    if (issuer_end_us <= wall_us) {
        (void)error_set(err, "the authority's own certificate has expired");
        return NULL;
    }
    end_us = end_us < issuer_end_us ? end_us : issuer_end_us;
    X509 *leaf = draft_new(key, begin_of(wall_us, ca->backdate_s), end_us);
    CHECK(X509_set_issuer_name(leaf, X509_get_subject_name(issuer)) == 1);
    if (subject->uid.len > 0) {
        add_entry(X509_get_subject_name(leaf), NID_serialNumber, subject->uid);
    }
    add_take(leaf, spiffe_extension_new(subject->identity, dns, dns_count, subject->uid.len == 0));
    add(leaf, issuer, NID_basic_constraints, "critical,CA:FALSE");
    add(leaf, issuer, NID_key_usage, "critical,digitalSignature");
    add(leaf, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
    if (X509_get0_subject_key_id(issuer) != NULL) {
        add(leaf, issuer, NID_authority_key_identifier, "keyid:always");
    }
    sign(leaf, ca->key);
    return leaf;
}

static void fill_chain(const struct ca *ca, X509 *leaf, struct ca_chain *chain)
{
    *chain = (struct ca_chain){.not_after_us = end_of(leaf)};
    chain->pems[chain->count++] = pem_of(leaf);
    for (int i = 0; i < sk_X509_num(ca->chain); i++) {
        chain->pems[chain->count++] = mem_dup_text(ca->chain_pems[i]);
    }
}

/* The request's public key, once it is known to be good; null with *err. Borrowed from it. */
static EVP_PKEY *check_request(X509_REQ *request, struct error *err)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(request);
    if (key == NULL) {
        (void)crypto_error(err, "the request's public key cannot be read");
        return NULL;
    }
    char group[32] = "";
    bool p256 = EVP_PKEY_is_a(key, "EC") &&
                EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
                strcmp(group, "prime256v1") == 0;
    int bits = EVP_PKEY_get_bits(key);
    bool rsa = EVP_PKEY_is_a(key, "RSA") && bits >= 2048 && bits <= 8192;
    if (!p256 && !rsa) {
        (void)error_set(err, "the request's key is neither EC on P-256 nor RSA of 2048 to 8192 "
                             "bits");
        return NULL;
    }
    if (X509_REQ_verify(request, key) != 1) {
        ERR_clear_error();
        (void)error_set(err, "the request is not signed by its own key");
        return NULL;
    }
    return key;
}

bool ca_issue(const struct ca *ca, struct slice request_pem, const struct ca_subject *subject,
              uint64_t wall_us, struct ca_chain *chain, struct error *err)
{
    *chain = (struct ca_chain){.count = 0};
    if (request_pem.len == 0 || request_pem.len > REQUEST_BYTES_MAX) {
        return error_set(err, "a request has 1 to %d bytes", REQUEST_BYTES_MAX);
    }
    if (!check_subject(ca, subject, err)) {
        return false;
    }
    BIO *bio = BIO_new_mem_buf(request_pem.at, (int)request_pem.len);
    CHECK(bio != NULL);
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (request == NULL) {
        return crypto_error(err, "not a certificate signing request in PEM");
    }
    EVP_PKEY *key = check_request(request, err);
    X509 *leaf = key != NULL ? leaf_new(ca, key, subject, NULL, 0, wall_us, err) : NULL;
    if (leaf != NULL) {
        fill_chain(ca, leaf, chain);
    }
    X509_free(leaf);
    X509_REQ_free(request);
    return chain->count > 0;
}

struct tls_identity *ca_issue_own(const struct ca *ca, const struct slice *dns, size_t dns_count,
                                  uint64_t wall_us, struct error *err)
{
    struct ca_subject subject = {.identity = ca_get_control_identity(ca)};
    struct crypto_key *key = crypto_key_new();
    struct tls_identity *identity = NULL;
    X509 *leaf = leaf_new(ca, crypto_key_get_openssl(key), &subject, dns, dns_count, wall_us, err);
    if (leaf != NULL) {
        struct ca_chain chain;
        char text[FILE_BYTES_MAX];
        size_t len = 0;
        fill_chain(ca, leaf, &chain);
        for (size_t i = 0; i < chain.count; i++) {
            size_t more = strlen(chain.pems[i]);
            CHECK(len + more <= sizeof text);
            (void)memcpy(text + len, chain.pems[i], more);
            len += more;
        }
        identity = tls_identity_new(slice_of(text, len), key, err);
        ca_chain_fini(&chain);
    }
    X509_free(leaf);
    crypto_key_unref(&key);
    return identity;
}
