/* Whatever PEM holds, as a bundle of roots, a chain, a key: it is taken or refused with a reason;
 * an identity that was read is valid, and a chain is never taken with a key that is not its own. */
#include "base/alloc.h"
#include "base/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static struct crypto_key *stranger(void)
{
    static struct crypto_key *key;
    if (key == NULL) {
        crypto_init();
        key = crypto_key_new();
    }
    return key;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct slice pem = slice_of(input, len);
    struct crypto_key *other = stranger();
    struct error err = {{0}};
    struct spiffe_names names;
    struct tls_trust *trust = tls_trust_new(pem, &err);
    CHECK(trust != NULL || err.text[0] != '\0');
    tls_trust_unref(&trust);
    err.text[0] = '\0';
    if (spiffe_read_pem(pem, &names, &err)) {
        CHECK(names.identity[0] == '\0' || spiffe_is_valid(slice_of_text(names.identity)));
    } else {
        CHECK(err.text[0] != '\0');
    }
    struct crypto_key *key = crypto_key_public_from_pem(pem, &err);
    crypto_key_unref(&key);
    CHECK(tls_identity_new(pem, other, &err) == NULL);
    key = crypto_key_from_pem(pem, &err);
    if (key != NULL) {
        struct tls_identity *identity = tls_identity_new(pem, key, &err);
        tls_identity_unref(&identity);
        char *text = crypto_key_to_pem(key);
        struct crypto_key *again = crypto_key_from_pem(slice_of_text(text), &err);
        CHECK(again != NULL);
        crypto_key_unref(&again);
        mem_free(text);
    }
    crypto_key_unref(&key);
    return 0;
}
