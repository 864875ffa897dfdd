#pragma once
/* Hashes, random bytes, keys and signatures: what is needed of cryptography outside TLS. OpenSSL
 * stands behind it, and no header of ours shows it. Keys are immutable once made and counted with
 * an atomic, so any thread may use and share them.
 *
 * Private keys stay in memory: only crypto_save_secret writes one to a disk, and only the keys of
 * the certificate authority and of tokens go through it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

/* OpenSSL's types, by their own tags; only the files that lint lists look inside. */
struct evp_pkey_st;

/* Once, in main after alloc_init and before any other use of base/crypto, base/tls or base/spiffe:
 * has OpenSSL allocate through base/alloc, counted, and read no configuration file. A second call
 * does nothing. */
void crypto_init(void);

/* Fills `into` with bytes that no peer can guess. Aborts where the system has none. */
void crypto_random(struct span into);

/* For protocols that name it where no secret hangs on it (RFC 6455). */
#define CRYPTO_SHA1_BYTES 20
void crypto_sha1(struct slice bytes, uint8_t hash[CRYPTO_SHA1_BYTES]);
#define CRYPTO_SHA256_BYTES 32
void crypto_sha256(struct slice bytes, uint8_t hash[CRYPTO_SHA256_BYTES]);
void crypto_hmac_sha256(struct slice key, struct slice bytes, uint8_t mac[CRYPTO_SHA256_BYTES]);
/* Compares in a time that tells nothing about where they differ. */
bool crypto_equal(struct slice a, struct slice b) MUST_USE;
/* Overwrites a secret, and is not optimised away. */
void crypto_wipe(struct span secret);

/* A private or a public key: EC on P-256, or RSA of 2048 to 8192 bits. */
struct crypto_key;

/* A fresh EC P-256 pair. */
struct crypto_key *crypto_key_new(void) MUST_USE;
/* From PEM (PKCS#8, SEC 1 or PKCS#1, not encrypted). Null with *err. */
struct crypto_key *crypto_key_from_pem(struct slice pem, struct error *err) MUST_USE;
/* From PEM "PUBLIC KEY". Null with *err. */
struct crypto_key *crypto_key_public_from_pem(struct slice pem, struct error *err) MUST_USE;
/* Public keys from the members of a JWK (RFC 7518 6.2.1, 6.3.1), decoded: x and y of 32 bytes; n
 * and e big-endian. Null with *err. */
struct crypto_key *crypto_key_from_point(struct slice x, struct slice y,
                                         struct error *err) MUST_USE;
struct crypto_key *crypto_key_from_rsa(struct slice n, struct slice e, struct error *err) MUST_USE;
struct crypto_key *crypto_key_ref(struct crypto_key *key);
void crypto_key_unref(struct crypto_key **key);

/* PKCS#8, with a zero byte behind; wipe and mem_free it. The key must be private. */
char *crypto_key_to_pem(const struct crypto_key *key) MUST_USE;
/* SubjectPublicKeyInfo; mem_free it. */
char *crypto_key_public_to_pem(const struct crypto_key *key) MUST_USE;
/* Borrowed, for the files of base/ and control/serve/ca that speak OpenSSL. */
struct evp_pkey_st *crypto_key_get_openssl(const struct crypto_key *key);
/* Is it a private key on P-256, so that crypto_sign_es256 takes it? */
bool crypto_key_signs_es256(const struct crypto_key *key) MUST_USE;

/* Signatures of JWS (RFC 7518 3.1). */
enum crypto_alg {
    CRYPTO_ES256, /* ECDSA on P-256 with SHA-256; 64 bytes, r then s (RFC 7518 3.4) */
    CRYPTO_RS256  /* RSASSA-PKCS1-v1_5 with SHA-256; verified only */
};

#define CRYPTO_ES256_BYTES 64
/* `key`: one that crypto_key_signs_es256. */
void crypto_sign_es256(const struct crypto_key *key, struct slice bytes,
                       uint8_t signature[CRYPTO_ES256_BYTES]);
/* False too where the key is not of the algorithm's kind. */
bool crypto_verify(const struct crypto_key *key, enum crypto_alg alg, struct slice bytes,
                   struct slice signature) MUST_USE;

/* Writes a secret so that it is there whole or not at all, for its owner alone: a file beside it
 * (mode 0600), fsync, rename, fsync of the folder. */
bool crypto_save_secret(const char *path, struct slice secret, struct error *err) MUST_USE;
/* Reads a file of at most `max` bytes; refuses one that others than its owner may read or write.
 * The text has a zero byte behind; wipe and mem_free it. Null with *err; *err then begins with the
 * path, and errno is ENOENT where there is no such file. */
char *crypto_load_secret(const char *path, size_t max, size_t *len, struct error *err) MUST_USE;
/* The same of a file whose mode is its giver's affair: certificates, keys that an orchestrator
 * mounts. */
char *crypto_load_file(const char *path, size_t max, size_t *len, struct error *err) MUST_USE;

/* Takes everything out of OpenSSL's error queue and puts the reason of the oldest entry behind the
 * text, as error_errno does with errno; returns false. */
bool crypto_error(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3);
