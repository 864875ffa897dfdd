/* The short list of algorithms that TLS has: what certificates and handshakes need is in it. */
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/crypto.h"
#include "base/slice.h"
#include "base/tls_library.h"
#include "tests/support/unit.h"

/* A certificate that the key signed itself, made with all of OpenSSL, in DER; OPENSSL_free it. */
static uint8_t *self_signed(EVP_PKEY *key, const EVP_MD *digest, int *len)
{
    X509 *made = X509_new();
    assert_int_equal(X509_set_version(made, X509_VERSION_3), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(made), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(made), 3600));
    assert_int_equal(X509_set_pubkey(made, key), 1);
    assert_true(X509_sign(made, key, digest) > 0);
    uint8_t *der = NULL;
    *len = i2d_X509(made, &der);
    assert_true(*len > 0);
    X509_free(made);
    return der;
}

/* Whether TLS can read the key of such a certificate, and check what it signed. */
static bool is_usable(EVP_PKEY *key, const EVP_MD *digest)
{
    assert_non_null(key);
    int len = 0;
    uint8_t *der = self_signed(key, digest, &len);
    const uint8_t *at = der;
    X509 *read = X509_new_ex(tls_library(), NULL);
    assert_non_null(d2i_X509(&read, &at, len));
    EVP_PKEY *found = X509_get0_pubkey(read);
    bool usable = found != NULL && X509_verify(read, found) == 1;
    X509_free(read);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    return usable;
}

static void keys_of_certificates(void **state)
{
    (void)state;
    const EVP_MD *sha256 = EVP_sha256();
    assert_true(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), sha256));
    assert_true(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), EVP_sha384()));
    assert_true(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521"), EVP_sha512()));
    assert_true(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048), sha256));
    assert_true(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL));
    assert_true(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), NULL));
    /* The library as a whole knows SM2 as well. */
    assert_false(is_usable(EVP_PKEY_Q_keygen(NULL, NULL, "SM2"), EVP_sm3()));
}

static void suites_and_groups(void **state)
{
    (void)state;
    SSL_CTX *context = SSL_CTX_new_ex(tls_library(), NULL, TLS_method());
    assert_non_null(context);
    static const char *const groups[] = {"X25519", "P-256", "P-384", "P-521", "X448"};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        assert_int_equal(SSL_CTX_set1_groups_list(context, groups[i]), 1);
    }
    static const char *const suites[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
                                         "ECDHE-RSA-AES256-GCM-SHA384",
                                         "ECDHE-RSA-CHACHA20-POLY1305",
                                         "ECDHE-ECDSA-AES128-SHA",
                                         "ECDHE-RSA-AES256-SHA",
                                         "AES128-GCM-SHA256",
                                         "AES256-SHA"};
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        assert_int_equal(SSL_CTX_set_cipher_list(context, suites[i]), 1);
    }
    assert_int_equal(SSL_CTX_set_cipher_list(context, "ECDHE-ECDSA-CAMELLIA128-SHA256"), 0);
    SSL_CTX_free(context);
}

static void one_library_for_all(void **state)
{
    (void)state;
    assert_non_null(tls_library());
    assert_ptr_equal(tls_library(), tls_library());
    uint8_t hash[CRYPTO_SHA256_BYTES];
    crypto_sha256(SLICE("the rest of OpenSSL is as it was"), hash);
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_certificates),
        cmocka_unit_test(suites_and_groups),
        cmocka_unit_test(one_library_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
