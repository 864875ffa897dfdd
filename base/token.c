/* Nothing inside a token is looked at before its signature is known to be good, but for the
 * algorithm: the key decides that it is ES256, the header may only agree (RFC 8725 3.1). */
#include "base/token.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/json.h"

#define SUBJECT_PREFIX "system:serviceaccount:"
#define JSON_MAX       3072
#define KEY_BYTES_MAX  4096
/* Clocks of two machines may differ by this much. */
#define LEEWAY_S 60

struct crypto_key *token_key_open(const char *path, struct error *err)
{
    size_t len = 0;
    char *pem = crypto_load_secret(path, KEY_BYTES_MAX, &len, err);
    if (pem == NULL && errno == ENOENT) {
        struct crypto_key *fresh = crypto_key_new();
        pem = crypto_key_to_pem(fresh);
        len = strlen(pem);
        crypto_key_unref(&fresh);
        if (!crypto_save_secret(path, slice_of(pem, len), err)) {
            crypto_wipe((struct span){(uint8_t *)pem, len});
            FREE(pem);
        }
    }
    if (pem == NULL) {
        return NULL;
    }
    struct crypto_key *key = crypto_key_from_pem(slice_of(pem, len), err);
    crypto_wipe((struct span){(uint8_t *)pem, len});
    mem_free(pem);
    if (key == NULL) {
        (void)error_wrap(err, "%s", path);
    } else if (!crypto_key_signs_es256(key)) {
        (void)error_set(err, "%s: not an EC key on P-256", path);
        crypto_key_unref(&key);
    }
    return key;
}

/* A name of Kubernetes: lower-case letters, digits, "-" and "." inside (RFC 1123 2.1). */
static bool is_name(struct slice text, size_t max)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool inside = (c == '-' || c == '.') && i > 0 && i + 1 < text.len;
        if (!plain && !inside) {
            return false;
        }
    }
    return text.len > 0 && text.len <= max;
}

static bool is_subject(struct slice namespace, struct slice account, struct error *err)
{
    const struct token_subject *room = NULL;
    if (!is_name(namespace, sizeof room->namespace - 1) ||
        slice_find(namespace, '.') < namespace.len) {
        return error_set(err, "\"%.*s\" is no name of a namespace", SLICE_ARG(namespace));
    }
    if (!is_name(account, sizeof room->account - 1)) {
        return error_set(err, "\"%.*s\" is no name of a service account", SLICE_ARG(account));
    }
    return true;
}

/* ------------------------------------------------------------------------------------- making */

static size_t append_base64(char *token, size_t at, struct slice bytes)
{
    CHECK(at + BASE64_TEXT_MAX(bytes.len) < TOKEN_BYTES_MAX);
    return at + base64_encode(BASE64_URL, bytes, token + at);
}

char *token_make(const struct crypto_key *key, struct slice namespace, struct slice account,
                 uint32_t lifetime_s, uint64_t wall_us, struct error *err)
{
    if (!is_subject(namespace, account, err)) {
        return NULL;
    }
    if (lifetime_s == 0 || lifetime_s > TOKEN_LIFETIME_MAX_S) {
        (void)error_set(err, "a token lives 1 s to 24 h, not %" PRIu32 " s", lifetime_s);
        return NULL;
    }
    uint8_t random[16];
    char id[BASE64_TEXT_MAX(sizeof random)];
    crypto_random((struct span){random, sizeof random});
    (void)base64_encode(BASE64_URL, slice_of(random, sizeof random), id);
    char claims[1024];
    int len =
        snprintf(claims, sizeof claims,
                 "{\"iss\":\"" TOKEN_ISSUER "\",\"sub\":\"" SUBJECT_PREFIX
                 "%.*s:%.*s\",\"aud\":\"" TOKEN_AUDIENCE "\",\"exp\":%" PRIu64 ",\"jti\":\"%s\"}",
                 SLICE_ARG(namespace), SLICE_ARG(account), wall_us / 1000000 + lifetime_s, id);
    CHECK(len > 0 && (size_t)len < sizeof claims);
    char *token = mem_raw(TOKEN_BYTES_MAX);
    size_t at = append_base64(token, 0, SLICE("{\"alg\":\"ES256\",\"typ\":\"JWT\"}"));
    token[at++] = '.';
    at = append_base64(token, at, slice_of(claims, (size_t)len));
    uint8_t signature[CRYPTO_ES256_BYTES];
    crypto_sign_es256(key, slice_of(token, at), signature);
    token[at++] = '.';
    (void)append_base64(token, at, slice_of(signature, sizeof signature));
    return token;
}

/* ----------------------------------------------------------------------------------- verifying */

static json_t *decode_json(struct slice part, const char *what, struct error *err)
{
    uint8_t bytes[JSON_MAX];
    size_t len = 0;
    static const struct json_limits limits = {.bytes = JSON_MAX, .depth = 8};
    if (!base64_decode(BASE64_URL, part, (struct span){bytes, sizeof bytes}, &len)) {
        (void)error_set(err, "not a token: its %s is no base64url", what);
        return NULL;
    }
    json_t *value = json_parse(slice_of(bytes, len), &limits, NULL);
    if (value == NULL || !json_is_object(value)) {
        json_decref(value);
        (void)error_set(err, "not a token: its %s is no JSON object", what);
        return NULL;
    }
    return value;
}

static bool check_header(struct slice part, struct error *err)
{
    json_t *header = decode_json(part, "header", err);
    if (header == NULL) {
        return false;
    }
    bool es256 = slice_eq(json_slice(json_object_get(header, "alg")), SLICE("ES256"));
    bool critical = json_object_get(header, "crit") != NULL;
    json_decref(header);
    if (!es256) {
        return error_set(err, "the token is not signed with ES256");
    }
    /* Extensions that must be understood, and are not (RFC 7515 4.1.11). */
    return !critical || error_set(err, "the token has critical extensions");
}

/* "aud" is one text or a list of them (RFC 7519 4.1.3). */
static bool is_for_us(const json_t *audience)
{
    if (json_is_string(audience)) {
        return slice_eq(json_slice(audience), SLICE(TOKEN_AUDIENCE));
    }
    for (size_t i = 0; i < json_array_size(audience); i++) {
        if (slice_eq(json_slice(json_array_get(audience, i)), SLICE(TOKEN_AUDIENCE))) {
            return true;
        }
    }
    return false;
}

/* A claim that is a time, in seconds; false where it is not one, or absent. */
static bool time_claim(const json_t *claims, const char *name, uint64_t *seconds)
{
    const json_t *value = json_object_get(claims, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *seconds = (uint64_t)json_integer_value(value);
    return true;
}

static bool check_times(const json_t *claims, uint64_t now_s, uint64_t *expires_us,
                        struct error *err)
{
    char when[CLOCK_TEXT_BYTES];
    uint64_t expires = 0;
    uint64_t begins = 0;
    if (!time_claim(claims, "exp", &expires)) {
        return error_set(err, "the token does not say when it expires");
    }
    if (expires <= now_s && !MUTANT(26)) {
        clock_text(expires * 1000000, when);
        return error_set(err, "the token expired at %s", when);
    }
    if (expires > now_s + TOKEN_LIFETIME_MAX_S + LEEWAY_S) {
        return error_set(err, "the token lives longer than 24 h");
    }
    if (json_object_get(claims, "nbf") != NULL &&
        (!time_claim(claims, "nbf", &begins) || begins > now_s + LEEWAY_S)) {
        return error_set(err, "the token is not valid yet");
    }
    *expires_us = expires * 1000000;
    return true;
}

static bool check_subject(struct slice text, struct token_subject *subject, struct error *err)
{
    if (!slice_starts(text, SLICE(SUBJECT_PREFIX))) {
        return error_set(err, "the token's subject is no service account");
    }
    struct slice account = slice_from(text, sizeof SUBJECT_PREFIX - 1);
    struct slice namespace = slice_cut(&account, ':');
    if (account.at == NULL || !is_subject(namespace, account, NULL)) {
        return error_set(err, "the token's subject is no service account");
    }
    (void)memcpy(subject->namespace, namespace.at, namespace.len);
    subject->namespace[namespace.len] = '\0';
    (void)memcpy(subject->account, account.at, account.len);
    subject->account[account.len] = '\0';
    return true;
}

static bool check_claims(struct slice part, uint64_t wall_us, struct token_subject *subject,
                         struct error *err)
{
    json_t *claims = decode_json(part, "body", err);
    if (claims == NULL) {
        return false;
    }
    bool good;
    if (!slice_eq(json_slice(json_object_get(claims, "iss")), SLICE(TOKEN_ISSUER))) {
        good = error_set(err, "the token is from another issuer than " TOKEN_ISSUER);
    } else if (!is_for_us(json_object_get(claims, "aud"))) {
        good = error_set(err, "the token is for another audience than " TOKEN_AUDIENCE);
    } else {
        good = check_times(claims, wall_us / 1000000, &subject->expires_us, err) &&
               check_subject(json_slice(json_object_get(claims, "sub")), subject, err);
    }
    json_decref(claims);
    return good;
}

bool token_verify(const struct crypto_key *key, struct slice token, uint64_t wall_us,
                  struct token_subject *subject, struct error *err)
{
    if (token.len > TOKEN_BYTES_MAX) {
        return error_set(err, "not a token: it is longer than %d bytes", TOKEN_BYTES_MAX);
    }
    struct slice rest = token;
    struct slice header = slice_cut(&rest, '.');
    struct slice body = slice_cut(&rest, '.');
    struct slice signature = rest;
    if (signature.at == NULL || slice_find(signature, '.') < signature.len) {
        return error_set(err, "not a token: it has not three parts");
    }
    uint8_t bytes[CRYPTO_ES256_BYTES];
    size_t len = 0;
    if (!check_header(header, err)) {
        return false;
    }
    if (!base64_decode(BASE64_URL, signature, (struct span){bytes, sizeof bytes}, &len)) {
        return error_set(err, "not a token: its signature is no base64url of 64 bytes");
    }
    struct slice text = slice_head(token, header.len + 1 + body.len);
    if (!crypto_verify(key, CRYPTO_ES256, text, slice_of(bytes, len))) {
        return error_set(err, "the token is signed by another key");
    }
    return check_claims(body, wall_us, subject, err);
}
