/* The input is the header and the claims of a token, with a zero byte between them, signed by a key
 * of ours: what is accepted must name an account in order and a time to come. Without our signature
 * nothing may be accepted. */
#include "base/alloc.h"
#include "base/base64.h"
#include "base/token.h"

#define NOW_US UINT64_C(1767225600000000)

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static struct crypto_key *signer(void)
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
    struct crypto_key *key = signer();
    struct token_subject subject;
    struct error err = {{0}};
    CHECK(!token_verify(key, slice_of(input, len), NOW_US, &subject, &err));
    CHECK(err.text[0] != '\0');
    if (len > 2000) {
        return 0;
    }
    struct slice claims = slice_of(input, len);
    struct slice header = slice_cut(&claims, '\0');
    char token[TOKEN_BYTES_MAX];
    size_t at = base64_encode(BASE64_URL, header, token);
    token[at++] = '.';
    at += base64_encode(BASE64_URL, claims, token + at);
    uint8_t signature[CRYPTO_ES256_BYTES];
    crypto_sign_es256(key, slice_of(token, at), signature);
    token[at++] = '.';
    at += base64_encode(BASE64_URL, slice_of(signature, sizeof signature), token + at);
    if (token_verify(key, slice_of(token, at), NOW_US, &subject, &err)) {
        CHECK(subject.expires_us > NOW_US);
        CHECK(subject.namespace[0] != '\0');
        CHECK(subject.account[0] != '\0');
        CHECK(strchr(subject.namespace, '/') == NULL);
        CHECK(strchr(subject.account, '/') == NULL);
    }
    return 0;
}
