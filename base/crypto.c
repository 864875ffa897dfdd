/* Only the provider-neutral EVP calls of OpenSSL 3 are used. ECDSA signatures cross between DER, as
 * OpenSSL has them, and the two numbers side by side that JWS wants. Everything that can only fail
 * for want of memory, or because the library is broken, is a CHECK: callers would have nothing to
 * say about it. */
#include "base/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

struct crypto_key {
    EVP_PKEY *pkey;
    atomic_uint refs;
    bool private;
};

static void *library_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return size > 0 ? alloc_for_library(size) : NULL;
}

static void library_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    alloc_free_for_library(memory);
}

static void *library_resize(void *old, size_t size, const char *file, int line)
{
    if (size == 0) { /* as CRYPTO_realloc has it */
        library_free(old, file, line);
        return NULL;
    }
    return alloc_resize_for_library(old, size);
}

void crypto_init(void)
{
    CRYPTO_malloc_fn set = NULL;
    CRYPTO_get_mem_functions(&set, NULL, NULL);
    if (set == library_malloc) {
        return;
    }
    /* Refused once OpenSSL has allocated: then crypto_init came too late. */
    CHECK(CRYPTO_set_mem_functions(library_malloc, library_resize, library_free) == 1);
    CHECK(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1);
}

void crypto_random(struct span into)
{
    CHECK(into.len <= INT_MAX);
    CHECK(RAND_bytes(into.at, (int)into.len) == 1);
}

void crypto_sha1(struct slice bytes, uint8_t hash[CRYPTO_SHA1_BYTES])
{
    unsigned len = 0;
    CHECK(EVP_Digest(bytes.at, bytes.len, hash, &len, EVP_sha1(), NULL) == 1);
    CHECK(len == CRYPTO_SHA1_BYTES);
}

void crypto_sha256(struct slice bytes, uint8_t hash[CRYPTO_SHA256_BYTES])
{
    unsigned len = 0;
    CHECK(EVP_Digest(bytes.at, bytes.len, hash, &len, EVP_sha256(), NULL) == 1);
    CHECK(len == CRYPTO_SHA256_BYTES);
}

void crypto_hmac_sha256(struct slice key, struct slice bytes, uint8_t mac[CRYPTO_SHA256_BYTES])
{
    CHECK(key.len <= INT_MAX);
    unsigned len = 0;
    const void *secret = key.len > 0 ? (const void *)key.at : "";
    CHECK(HMAC(EVP_sha256(), secret, (int)key.len, bytes.at, bytes.len, mac, &len) != NULL);
    CHECK(len == CRYPTO_SHA256_BYTES);
}

bool crypto_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.at, b.at, a.len) == 0);
}

void crypto_wipe(struct span secret)
{
    OPENSSL_cleanse(secret.at, secret.len);
}

bool crypto_error(struct error *err, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return reason != NULL ? error_set(err, "%s: %s", text, reason) : error_set(err, "%s", text);
}

/* ------------------------------------------------------------------------------------- keys */

static struct crypto_key *wrap(EVP_PKEY *pkey, bool private)
{
    struct crypto_key *key = NEW(struct crypto_key);
    key->pkey = pkey;
    key->private = private;
    atomic_init(&key->refs, 1);
    return key;
}

/* Is it an EC key on P-256? */
static bool is_p256(const EVP_PKEY *pkey)
{
    char group[32];
    size_t len = 0;
    return EVP_PKEY_is_a(pkey, "EC") &&
           EVP_PKEY_get_group_name(pkey, group, sizeof group, &len) == 1 &&
           (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0);
}

static bool is_rsa(const EVP_PKEY *pkey)
{
    int bits = EVP_PKEY_get_bits(pkey);
    return EVP_PKEY_is_a(pkey, "RSA") && bits >= 2048 && bits <= 8192;
}

/* Takes a key of a kind that we know into ours, or says why not. */
static struct crypto_key *wrap_known(EVP_PKEY *pkey, bool private, struct error *err)
{
    if (!is_p256(pkey) && !is_rsa(pkey)) {
        EVP_PKEY_free(pkey);
        (void)error_set(err, "the key is neither EC on P-256 nor RSA of 2048 to 8192 bits");
        return NULL;
    }
    return wrap(pkey, private);
}

struct crypto_key *crypto_key_new(void)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    CHECK(pkey != NULL);
    return wrap(pkey, true);
}

static BIO *bio_over(struct slice bytes)
{
    CHECK(bytes.len <= INT_MAX);
    BIO *bio = BIO_new_mem_buf(bytes.len > 0 ? (const void *)bytes.at : "", (int)bytes.len);
    CHECK(bio != NULL);
    return bio;
}

/* An encrypted key is refused, never asked about on a terminal. */
/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL's pem_password_cb */
static int no_password(char *buffer, int size, int writing, void *argument)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)argument;
    return -1;
}

struct crypto_key *crypto_key_from_pem(struct slice pem, struct error *err)
{
    if (pem.len > INT_MAX) {
        (void)error_set(err, "private key is too long");
        return NULL;
    }
    BIO *bio = bio_over(pem);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    if (pkey == NULL) {
        (void)crypto_error(err, "not a private key in PEM");
        return NULL;
    }
    return wrap_known(pkey, true, err);
}

struct crypto_key *crypto_key_public_from_pem(struct slice pem, struct error *err)
{
    if (pem.len > INT_MAX) {
        (void)error_set(err, "public key is too long");
        return NULL;
    }
    BIO *bio = bio_over(pem);
    EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL);
    BIO_free(bio);
    if (pkey == NULL) {
        (void)crypto_error(err, "not a public key in PEM");
        return NULL;
    }
    return wrap_known(pkey, false, err);
}

/* A public key from its parameters; takes *build. */
static struct crypto_key *from_params(const char *type, OSSL_PARAM_BLD *build, struct error *err)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    CHECK(params != NULL);
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    CHECK(maker != NULL);
    CHECK(EVP_PKEY_fromdata_init(maker) == 1);
    EVP_PKEY *pkey = NULL;
    bool made = EVP_PKEY_fromdata(maker, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(maker);
    OSSL_PARAM_free(params);
    if (!made) {
        (void)crypto_error(err, "not a public key (%s)", type);
        return NULL;
    }
    return wrap_known(pkey, false, err);
}

struct crypto_key *crypto_key_from_point(struct slice x, struct slice y, struct error *err)
{
    uint8_t point[65] = {0x04}; /* uncompressed (SEC 1 2.3.3) */
    if (x.len != 32 || y.len != 32) {
        (void)error_set(err, "a coordinate on P-256 has 32 bytes");
        return NULL;
    }
    (void)memcpy(point + 1, x.at, 32);
    (void)memcpy(point + 33, y.at, 32);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    CHECK(build != NULL);
    CHECK(OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1);
    CHECK(OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) ==
          1);
    struct crypto_key *key = from_params("EC", build, err);
    OSSL_PARAM_BLD_free(build);
    return key;
}

struct crypto_key *crypto_key_from_rsa(struct slice n, struct slice e, struct error *err)
{
    if (n.len < 256 || n.len > 1024 || e.len == 0 || e.len > 8) {
        (void)error_set(err, "an RSA key has a modulus of 256 to 1024 bytes, and an exponent of at "
                             "most 8");
        return NULL;
    }
    BIGNUM *modulus = BN_bin2bn(n.at, (int)n.len, NULL);
    BIGNUM *exponent = BN_bin2bn(e.at, (int)e.len, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    CHECK(build != NULL);
    CHECK(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1);
    CHECK(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1);
    struct crypto_key *key = from_params("RSA", build, err);
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

struct crypto_key *crypto_key_ref(struct crypto_key *key)
{
    (void)atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void crypto_key_unref(struct crypto_key **key)
{
    struct crypto_key *mine = *key;
    *key = NULL;
    if (mine != NULL && atomic_fetch_sub_explicit(&mine->refs, 1, memory_order_acq_rel) == 1) {
        EVP_PKEY_free(mine->pkey);
        mem_free(mine);
    }
}

struct evp_pkey_st *crypto_key_get_openssl(const struct crypto_key *key)
{
    return key->pkey;
}

bool crypto_key_signs_es256(const struct crypto_key *key)
{
    return key->private && is_p256(key->pkey);
}

/* What a memory BIO holds, with a zero byte behind; frees the BIO. */
static char *bio_text(BIO *bio)
{
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);
    CHECK(len > 0);
    char *text = mem_dup(at, (size_t)len);
    OPENSSL_cleanse(at, (size_t)len);
    BIO_free(bio);
    return text;
}

char *crypto_key_to_pem(const struct crypto_key *key)
{
    CHECK(key->private);
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    CHECK(PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) == 1);
    return bio_text(bio);
}

char *crypto_key_public_to_pem(const struct crypto_key *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    CHECK(PEM_write_bio_PUBKEY(bio, key->pkey) == 1);
    return bio_text(bio);
}

/* -------------------------------------------------------------------------------- signatures */

#define P256_BYTES    32
#define ES256_DER_MAX 72

void crypto_sign_es256(const struct crypto_key *key, struct slice bytes,
                       uint8_t signature[CRYPTO_ES256_BYTES])
{
    CHECK(crypto_key_signs_es256(key));
    uint8_t der[ES256_DER_MAX];
    size_t der_len = sizeof der;
    EVP_MD_CTX *signer = EVP_MD_CTX_new();
    CHECK(signer != NULL);
    CHECK(EVP_DigestSignInit(signer, NULL, EVP_sha256(), NULL, key->pkey) == 1);
    CHECK(EVP_DigestSign(signer, der, &der_len, bytes.at, bytes.len) == 1);
    EVP_MD_CTX_free(signer);
    const uint8_t *at = der;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)der_len);
    CHECK(pair != NULL);
    CHECK(BN_bn2binpad(ECDSA_SIG_get0_r(pair), signature, P256_BYTES) == P256_BYTES);
    CHECK(BN_bn2binpad(ECDSA_SIG_get0_s(pair), signature + P256_BYTES, P256_BYTES) == P256_BYTES);
    ECDSA_SIG_free(pair);
}

/* The DER form of r and s; its length. */
static size_t es256_to_der(struct slice signature, uint8_t der[ES256_DER_MAX])
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    CHECK(pair != NULL);
    BIGNUM *r = BN_bin2bn(signature.at, P256_BYTES, NULL);
    BIGNUM *s = BN_bin2bn(signature.at + P256_BYTES, P256_BYTES, NULL);
    CHECK(ECDSA_SIG_set0(pair, r, s) == 1);
    CHECK(i2d_ECDSA_SIG(pair, NULL) <= ES256_DER_MAX);
    uint8_t *at = der;
    int len = i2d_ECDSA_SIG(pair, &at);
    ECDSA_SIG_free(pair);
    CHECK(len > 0);
    return (size_t)len;
}

bool crypto_verify(const struct crypto_key *key, enum crypto_alg alg, struct slice bytes,
                   struct slice signature)
{
    uint8_t der[ES256_DER_MAX];
    switch (alg) {
    case CRYPTO_ES256:
        if (!is_p256(key->pkey) || signature.len != CRYPTO_ES256_BYTES) {
            return false;
        }
        signature = slice_of(der, es256_to_der(signature, der));
        break;
    case CRYPTO_RS256: /* the padding is PKCS#1 1.5 unless asked for another */
        if (!is_rsa(key->pkey)) {
            return false;
        }
        break;
    }
    EVP_MD_CTX *verifier = EVP_MD_CTX_new();
    CHECK(verifier != NULL);
    CHECK(EVP_DigestVerifyInit(verifier, NULL, EVP_sha256(), NULL, key->pkey) == 1);
    bool good = EVP_DigestVerify(verifier, signature.at, signature.len, bytes.at, bytes.len) == 1;
    EVP_MD_CTX_free(verifier);
    ERR_clear_error();
    return good;
}

/* ---------------------------------------------------------------------------- secrets on disk */

static bool write_all(int fd, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t wrote = write(fd, bytes.at, bytes.len);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return false;
        }
        bytes = slice_from(bytes, (size_t)wrote);
    }
    return true;
}

/* Makes the rename itself durable. */
static bool sync_folder_of(const char *path)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        (void)snprintf(folder, sizeof folder, ".");
    } else {
        slash[slash == folder ? 1 : 0] = '\0';
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool synced = fsync(fd) == 0;
    (void)close(fd);
    return synced;
}

bool crypto_save_secret(const char *path, struct slice secret, struct error *err)
{
    char beside[PATH_MAX];
    int len = snprintf(beside, sizeof beside, "%s.new", path);
    if (len < 0 || (size_t)len >= sizeof beside) {
        return error_set(err, "%s: the path is too long", path);
    }
    /* What a crash left behind may have another owner or mode: begin with a file of our own. */
    (void)unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return error_errno(err, "%s: cannot create", beside);
    }
    bool written = write_all(fd, secret) && fsync(fd) == 0;
    int reason = errno;
    written = close(fd) == 0 && written;
    if (!written || rename(beside, path) != 0) {
        reason = written ? errno : reason;
        (void)unlink(beside);
        errno = reason;
        return error_errno(err, "%s: cannot write", path);
    }
    return sync_folder_of(path) || error_errno(err, "%s: cannot sync its folder", path);
}

/* Reads at most `max` bytes and the end of the file; null with errno, EFBIG where it goes on. */
static char *read_all(int fd, size_t max, size_t *len)
{
    char *text = mem_raw(max + 2);
    *len = 0;
    for (;;) {
        ssize_t got = read(fd, text + *len, max + 1 - *len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0 || *len + (size_t)got > max) {
            if (got == 0) {
                text[*len] = '\0';
                return text;
            }
            int reason = got > 0 ? EFBIG : errno;
            crypto_wipe((struct span){(uint8_t *)text, max});
            mem_free(text);
            errno = reason;
            return NULL;
        }
        *len += (size_t)got;
    }
}

static char *load(const char *path, size_t max, bool secret, size_t *len, struct error *err)
{
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int reason = errno;
    if (fd < 0) {
        (void)error_errno(err, "%s: cannot open", path);
        errno = reason;
        return NULL;
    }
    struct stat about;
    char *text = NULL;
    reason = 0;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        (void)error_set(err, "%s: not a file", path);
    } else if (secret && (about.st_mode & 077) != 0) {
        (void)error_set(err, "%s: others than its owner may use it (mode %o, wanted 600)", path,
                        (unsigned)about.st_mode & 0777);
    } else {
        text = read_all(fd, max, len);
        reason = errno;
        if (text == NULL) {
            (void)error_errno(err, "%s: cannot read", path);
        }
    }
    (void)close(fd);
    errno = reason;
    return text;
}

char *crypto_load_secret(const char *path, size_t max, size_t *len, struct error *err)
{
    return load(path, max, true, len, err);
}

char *crypto_load_file(const char *path, size_t max, size_t *len, struct error *err)
{
    return load(path, max, false, len, err);
}
