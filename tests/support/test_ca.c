#include "tests/support/test_ca.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/alloc.h"

struct test_ca {
    struct crypto_key *key;
    X509 *root;
    char *pem;
    long serial;
};

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX about;
    X509V3_set_ctx_nodb(&about);
    X509V3_set_ctx(&about, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &about, nid, value);
    CHECK(extension != NULL);
    CHECK(X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static X509 *certificate_new(long serial, uint64_t begin_us, uint64_t end_us,
                             const struct crypto_key *key)
{
    X509 *certificate = X509_new();
    CHECK(certificate != NULL);
    CHECK(X509_set_version(certificate, X509_VERSION_3) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial) == 1);
    CHECK(ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)(begin_us / 1000000)) != NULL);
    CHECK(ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)(end_us / 1000000)) != NULL);
    CHECK(X509_set_pubkey(certificate, crypto_key_get_openssl(key)) == 1);
    return certificate;
}

static void add_subject(X509_NAME *subject, int nid, const char *text)
{
    CHECK(X509_NAME_add_entry_by_NID(subject, nid, MBSTRING_UTF8, (const unsigned char *)text, -1,
                                     -1, 0) == 1);
}

static char *to_pem(X509 *first, X509 *second)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    CHECK(PEM_write_bio_X509(bio, first) == 1);
    CHECK(second == NULL || PEM_write_bio_X509(bio, second) == 1);
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);
    char *pem = mem_dup(at, (size_t)len);
    BIO_free(bio);
    return pem;
}

struct test_ca *test_ca_new(const char *name)
{
    struct test_ca *ca = NEW(struct test_ca);
    ca->key = crypto_key_new();
    ca->root = certificate_new(1, TEST_CA_NOW_US - 100 * TEST_CA_DAY_US,
                               TEST_CA_NOW_US + 3650 * TEST_CA_DAY_US, ca->key);
    add_subject(X509_get_subject_name(ca->root), NID_commonName, name);
    CHECK(X509_set_issuer_name(ca->root, X509_get_subject_name(ca->root)) == 1);
    add_extension(ca->root, ca->root, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(ca->root, ca->root, NID_subject_key_identifier, "hash");
    CHECK(X509_sign(ca->root, crypto_key_get_openssl(ca->key), EVP_sha256()) > 0);
    ca->pem = to_pem(ca->root, NULL);
    return ca;
}

void test_ca_free(struct test_ca **ca)
{
    crypto_key_unref(&(*ca)->key);
    X509_free((*ca)->root);
    mem_free((*ca)->pem);
    FREE(*ca);
}

struct slice test_ca_get_root(const struct test_ca *ca)
{
    return slice_of_text(ca->pem);
}

struct tls_trust *test_ca_trust(const struct test_ca *ca)
{
    struct error err;
    struct tls_trust *trust = tls_trust_new(test_ca_get_root(ca), &err);
    CHECK(trust != NULL);
    return trust;
}

char *test_ca_issue(const struct test_ca *ca, const struct crypto_key *key,
                    const struct test_leaf *leaf)
{
    static long serial = 1000;
    uint64_t begin_us = leaf->begin_us > 0 ? leaf->begin_us : TEST_CA_NOW_US - TEST_CA_DAY_US;
    uint64_t end_us = leaf->end_us > 0 ? leaf->end_us : TEST_CA_NOW_US + TEST_CA_DAY_US;
    X509 *certificate = certificate_new(++serial, begin_us, end_us, key);
    CHECK(X509_set_issuer_name(certificate, X509_get_subject_name(ca->root)) == 1);
    if (leaf->uid != NULL) {
        add_subject(X509_get_subject_name(certificate), NID_serialNumber, leaf->uid);
    }
    char names[2048];
    (void)snprintf(names, sizeof names, "%s%s%s%s%s%s", leaf->uri != NULL ? ",URI:" : "",
                   leaf->uri != NULL ? leaf->uri : "", leaf->uri2 != NULL ? ",URI:" : "",
                   leaf->uri2 != NULL ? leaf->uri2 : "", leaf->dns != NULL ? ",DNS:" : "",
                   leaf->dns != NULL ? leaf->dns : "");
    if (names[0] != '\0') {
        add_extension(certificate, ca->root, NID_subject_alt_name, names + 1);
    }
    add_extension(certificate, ca->root, NID_ext_key_usage,
                  leaf->only_for_client ? "clientAuth" : "clientAuth,serverAuth");
    add_extension(certificate, ca->root, NID_authority_key_identifier, "keyid:always");
    CHECK(X509_sign(certificate, crypto_key_get_openssl(ca->key), EVP_sha256()) > 0);
    char *pem = to_pem(certificate, ca->root);
    X509_free(certificate);
    return pem;
}

struct tls_identity *test_ca_identity(const struct test_ca *ca, const struct test_leaf *leaf)
{
    struct error err;
    struct crypto_key *key = crypto_key_new();
    char *pem = test_ca_issue(ca, key, leaf);
    struct tls_identity *identity = tls_identity_new(slice_of_text(pem), key, &err);
    CHECK(identity != NULL);
    crypto_key_unref(&key);
    mem_free(pem);
    return identity;
}
