/* OpenSSL 3.0 reads a certificate's public key by asking every decoder of the library whether it
 * could be the one, and to find those it walks every algorithm that the library context has ever
 * made: 1.5 million instructions for a P-256 key, more than the rest of a handshake's work on that
 * certificate, signature check included. Neither is cached (that came with OpenSSL 3.2).
 *
 * So TLS gets a library context with one provider, which is OpenSSL's default provider behind short
 * lists: the same implementations, with the default provider's own context, but a few of them. A
 * key is then read with 0.4 million. What is in no list does not exist for TLS: no DSA, no finite
 * fields, no ciphers but AES and ChaCha20, no decoder but those of public keys.
 *
 * Refused: an ENGINE for EC keys, whose registration makes OpenSSL take its old, direct parser
 * first (deprecated, and then each verification converts the key again); resumption of sessions,
 * which skips the chain altogether. */
#include "base/tls_library.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/provider.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/slice.h"

/* The first names that OpenSSL gives its algorithms, by operation. X(operation, names, property)
 * `property`: what the definition must say besides; "" for anything. */
#define OPERATIONS(X)                                                                              \
    X(OSSL_OP_DIGEST, "SHA1:SHA2-224:SHA2-256:SHA2-384:SHA2-512:MD5:MD5-SHA1", "")                 \
    X(OSSL_OP_CIPHER,                                                                              \
      "AES-128-GCM:AES-256-GCM:AES-128-CCM:AES-256-CCM:ChaCha20-Poly1305:AES-128-CBC:AES-256-CBC:" \
      "NULL",                                                                                      \
      "")                                                                                          \
    X(OSSL_OP_MAC, "HMAC", "")                                                                     \
    X(OSSL_OP_KDF, "HKDF:TLS13-KDF:TLS1-PRF", "")                                                  \
    X(OSSL_OP_RAND, "CTR-DRBG:SEED-SRC", "")                                                       \
    X(OSSL_OP_KEYMGMT, "EC:RSA:RSA-PSS:ED25519:ED448:X25519:X448", "")                             \
    X(OSSL_OP_KEYEXCH, "ECDH:X25519:X448", "")                                                     \
    X(OSSL_OP_SIGNATURE, "ECDSA:RSA:ED25519:ED448", "")                                            \
    X(OSSL_OP_ASYM_CIPHER, "RSA", "")                                                              \
    X(OSSL_OP_DECODER, "EC:RSA:RSA-PSS:ED25519:ED448", "input=der,structure=SubjectPublicKeyInfo")

enum operation {
#define X(number, names, property) OPERATION_OF_##number,
    OPERATIONS(X)
#undef X
        OPERATION_COUNT
};

static const struct {
    int number;
    const char *names;
    const char *property;
} operations[OPERATION_COUNT] = {
#define X(operation, wanted, says) {.number = (operation), .names = (wanted), .property = (says)},
    OPERATIONS(X)
#undef X
};

struct library {
    OSSL_PROVIDER *whole; /* OpenSSL's default provider, in its default library context */
    OSSL_LIB_CTX *context;
    OSSL_ALGORITHM *lists[OPERATION_COUNT]; /* each ends with an empty entry */
};

/* OpenSSL's calls to a provider carry that provider's context, which here is the default one's: so
 * ours cannot travel with it. Written once, below. */
static struct library *library;

static bool is_wanted(const OSSL_ALGORITHM *algorithm, enum operation operation)
{
    struct slice all = slice_of_text(algorithm->algorithm_names);
    struct slice first = slice_cut(&all, ':');
    struct slice wanted = slice_of_text(operations[operation].names);
    bool named = false;
    while (wanted.at != NULL && !named) {
        named = slice_eq(slice_cut(&wanted, ':'), first);
    }
    return named && strstr(algorithm->property_definition, operations[operation].property) != NULL;
}

static OSSL_ALGORITHM *shorten(const OSSL_PROVIDER *whole, enum operation operation)
{
    int no_cache = 0;
    const OSSL_ALGORITHM *all =
        OSSL_PROVIDER_query_operation(whole, operations[operation].number, &no_cache);
    CHECK(all != NULL);
    size_t count = 0;
    for (const OSSL_ALGORITHM *at = all; at->algorithm_names != NULL; at++) {
        count += is_wanted(at, operation);
    }
    CHECK(count > 0);
    OSSL_ALGORITHM *list = NEW_ARRAY(OSSL_ALGORITHM, count + 1);
    size_t to = 0;
    for (const OSSL_ALGORITHM *at = all; at->algorithm_names != NULL; at++) {
        if (is_wanted(at, operation)) {
            list[to++] = *at;
        }
    }
    return list;
}

/* ------------------------------------------------------------------- what OpenSSL asks a provider
 */

static const OSSL_ALGORITHM *query(void *provider, int number, int *no_cache)
{
    (void)provider;
    *no_cache = 0;
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        if (operations[i].number == number) {
            return library->lists[i];
        }
    }
    return NULL;
}

/* The groups of TLS: OpenSSL leaves out those whose keys are in no list. */
static int capabilities(void *provider, const char *name, OSSL_CALLBACK *tell, void *argument)
{
    (void)provider;
    return OSSL_PROVIDER_get_capabilities(library->whole, name, tell, argument);
}

static const OSSL_DISPATCH calls[] = {
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
    {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
    {0, NULL},
};

static int begin(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *theirs,
                 const OSSL_DISPATCH **ours, void **provider)
{
    (void)core;
    (void)theirs;
    *ours = calls;
    *provider = OSSL_PROVIDER_get0_provider_ctx(library->whole);
    return 1;
}

/* -------------------------------------------------------------------------------- made but once */

static void make(void)
{
    library = NEW(struct library);
    library->whole = OSSL_PROVIDER_load(NULL, "default");
    CHECK(library->whole != NULL);
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        library->lists[i] = shorten(library->whole, (enum operation)i);
    }
    library->context = OSSL_LIB_CTX_new();
    CHECK(library->context != NULL);
    CHECK(OSSL_PROVIDER_add_builtin(library->context, "pillion-tls", begin) == 1);
    CHECK(OSSL_PROVIDER_load(library->context, "pillion-tls") != NULL);
}

struct ossl_lib_ctx_st *tls_library(void)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
    CHECK(CRYPTO_THREAD_run_once(&once, make) == 1);
    return library->context;
}
