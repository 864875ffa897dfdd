#pragma once
/* Tokens that stand for a service account where no Kubernetes gives them out: JWS ES256 (RFC 7515)
 * with the claims iss, sub, aud, exp and jti (RFC 7519 4.1). `pillion token` makes them,
 * pillion-control takes them in exchange for a first certificate; both read the key file. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"

#define TOKEN_ISSUER         "pillion"
#define TOKEN_AUDIENCE       "pillion"
#define TOKEN_LIFETIME_MAX_S (24 * 60 * 60)
#define TOKEN_BYTES_MAX      4096

/* The key in this file (0600); made, and saved there, where there is none. Null with *err. */
struct crypto_key *token_key_open(const char *path, struct error *err) MUST_USE;

/* A token for the service account, good from now on for `lifetime_s` (1 to TOKEN_LIFETIME_MAX_S);
 * mem_free it. Null with *err, which names what is wrong with the request. */
char *token_make(const struct crypto_key *key, struct slice namespace, struct slice account,
                 uint32_t lifetime_s, uint64_t wall_us, struct error *err) MUST_USE;

/* Whom a token names. */
struct token_subject {
    char namespace[64];
    char account[254];
    uint64_t expires_us; /* wall time */
};

/* False with *err, which names the one thing that is wrong: not a token, another algorithm, another
 * key, issuer, audience or subject, not valid yet, expired, lives too long. Nothing of the token
 * itself is in the text. */
bool token_verify(const struct crypto_key *key, struct slice token, uint64_t wall_us,
                  struct token_subject *subject, struct error *err) MUST_USE;
