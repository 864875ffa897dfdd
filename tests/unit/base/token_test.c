#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/token.h"
#include "tests/support/unit.h"

#define NOW_S  UINT64_C(1767225600)
#define NOW_US (NOW_S * 1000000)

/* A token with any header and claims, signed by the key. */
static char *sign(const struct crypto_key *key, const char *header, const char *claims)
{
    char *token = mem_raw(2 * TOKEN_BYTES_MAX);
    size_t at = base64_encode(BASE64_URL, slice_of_text(header), token);
    token[at++] = '.';
    at += base64_encode(BASE64_URL, slice_of_text(claims), token + at);
    uint8_t signature[CRYPTO_ES256_BYTES];
    crypto_sign_es256(key, slice_of(token, at), signature);
    token[at++] = '.';
    (void)base64_encode(BASE64_URL, slice_of(signature, sizeof signature), token + at);
    return token;
}

static void a_token_names_its_account(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct crypto_key *key = crypto_key_new();
    struct token_subject subject;
    char *token = token_make(key, SLICE("shop"), SLICE("orders.v1"), 3600, NOW_US, &err);
    assert_non_null(token);
    assert_true(token_verify(key, slice_of_text(token), NOW_US, &subject, &err));
    assert_string_equal(subject.namespace, "shop");
    assert_string_equal(subject.account, "orders.v1");
    assert_int_equal(subject.expires_us, NOW_US + UINT64_C(3600000000));
    assert_true(
        token_verify(key, slice_of_text(token), NOW_US + UINT64_C(3599000000), &subject, &err));
    assert_false(
        token_verify(key, slice_of_text(token), NOW_US + UINT64_C(3600000000), &subject, &err));
    assert_string_equal(err.text, "the token expired at 2026-01-01T01:00:00.000000Z");
    char *other = token_make(key, SLICE("shop"), SLICE("orders.v1"), 3600, NOW_US, &err);
    assert_string_not_equal(token, other); /* its jti */
    mem_free(token);
    mem_free(other);
    crypto_key_unref(&key);
}

static void what_cannot_be_asked_for(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct crypto_key *key = crypto_key_new();
    assert_null(token_make(key, SLICE("shop"), SLICE("orders"), 86401, NOW_US, &err));
    assert_string_equal(err.text, "a token lives 1 s to 24 h, not 86401 s");
    assert_null(token_make(key, SLICE("shop"), SLICE("orders"), 0, NOW_US, &err));
    assert_null(token_make(key, SLICE("sh:op"), SLICE("orders"), 1, NOW_US, &err));
    assert_string_equal(err.text, "\"sh:op\" is no name of a namespace");
    assert_null(token_make(key, SLICE("shop"), SLICE("or\"ders"), 1, NOW_US, &err));
    assert_null(token_make(key, SLICE(""), SLICE("orders"), 1, NOW_US, &err));
    assert_null(token_make(key, SLICE("shop"), SLICE("-orders"), 1, NOW_US, &err));
    crypto_key_unref(&key);
}

/* One thing wrong at a time, each with a text of its own. */
static void each_refusal_says_why(void **state)
{
    (void)state;
    static const char good[] = "{\"alg\":\"ES256\"}";
#define CLAIMS(iss, sub, aud, exp) "{\"iss\":" iss ",\"sub\":" sub ",\"aud\":" aud exp "}"
#define SUB                        "\"system:serviceaccount:shop:orders\""
#define EXP                        ",\"exp\":1767229200"
    static const struct {
        const char *header, *claims, *says; /* says null: accepted */
    } rows[] = {
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", EXP), NULL},
        {good, CLAIMS("\"pillion\"", SUB, "[\"x\",\"pillion\"]", EXP), NULL},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", EXP ",\"nbf\":1767225600"), NULL},
        {"{\"alg\":\"none\"}", "{}", "the token is not signed with ES256"},
        {"{\"alg\":\"HS256\"}", "{}", "the token is not signed with ES256"},
        {"{}", "{}", "the token is not signed with ES256"},
        {"[]", "{}", "not a token: its header is no JSON object"},
        {"{\"alg\":\"ES256\",\"crit\":[\"x\"]}", "{}", "the token has critical extensions"},
        {good, "7", "not a token: its body is no JSON object"},
        {good, CLAIMS("\"else\"", SUB, "\"pillion\"", EXP),
         "the token is from another issuer than pillion"},
        {good, "{\"aud\":\"pillion\"}", "the token is from another issuer than pillion"},
        {good, CLAIMS("\"pillion\"", SUB, "\"vault\"", EXP),
         "the token is for another audience than pillion"},
        {good, CLAIMS("\"pillion\"", SUB, "[]", EXP),
         "the token is for another audience than pillion"},
        {good, CLAIMS("\"pillion\"", SUB, "7", EXP),
         "the token is for another audience than pillion"},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", ""),
         "the token does not say when it expires"},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", ",\"exp\":\"1767229200\""),
         "the token does not say when it expires"},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", ",\"exp\":-1"),
         "the token does not say when it expires"},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", ",\"exp\":1767225600"),
         "the token expired at 2026-01-01T00:00:00.000000Z"},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", ",\"exp\":9223372036854775807"),
         "the token lives longer than 24 h"},
        {good, CLAIMS("\"pillion\"", SUB, "\"pillion\"", EXP ",\"nbf\":1767225900"),
         "the token is not valid yet"},
        {good, CLAIMS("\"pillion\"", "\"shop/orders\"", "\"pillion\"", EXP),
         "the token's subject is no service account"},
        {good, CLAIMS("\"pillion\"", "\"system:serviceaccount:shop\"", "\"pillion\"", EXP),
         "the token's subject is no service account"},
        {good, CLAIMS("\"pillion\"", "\"system:serviceaccount:shop:a:b\"", "\"pillion\"", EXP),
         "the token's subject is no service account"},
        {good, CLAIMS("\"pillion\"", "\"system:serviceaccount:../x:a\"", "\"pillion\"", EXP),
         "the token's subject is no service account"},
    };
    struct crypto_key *key = crypto_key_new();
    struct crypto_key *other = crypto_key_new();
    struct token_subject subject;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct error err = {{0}};
        char *token = sign(key, rows[i].header, rows[i].claims);
        assert_int_equal(token_verify(key, slice_of_text(token), NOW_US, &subject, &err),
                         rows[i].says == NULL);
        assert_string_equal(err.text, rows[i].says != NULL ? rows[i].says : "");
        if (rows[i].says == NULL) {
            assert_false(token_verify(other, slice_of_text(token), NOW_US, &subject, &err));
            assert_string_equal(err.text, "the token is signed by another key");
        }
        mem_free(token);
    }
    crypto_key_unref(&key);
    crypto_key_unref(&other);
}

static void what_is_no_token(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct crypto_key *key = crypto_key_new();
    struct token_subject subject;
    static const char *const bad[] = {"", "a", "a.b", "a.b.c.d", "..", "!.b.c", "e30.e30."};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(token_verify(key, slice_of_text(bad[i]), NOW_US, &subject, &err));
    }
    char *token = token_make(key, SLICE("shop"), SLICE("orders"), 60, NOW_US, &err);
    size_t len = strlen(token);
    for (size_t i = 0; i < len; i++) { /* cut, and damaged, at every place */
        assert_false(token_verify(key, slice_of(token, i), NOW_US, &subject, &err));
        char was = token[i];
        token[i] = was == 'A' ? 'B' : 'A';
        assert_false(token_verify(key, slice_of(token, len), NOW_US, &subject, &err));
        token[i] = was;
    }
    assert_true(token_verify(key, slice_of(token, len), NOW_US, &subject, &err));
    static const uint8_t much[TOKEN_BYTES_MAX + 1];
    assert_false(token_verify(key, slice_of(much, sizeof much), NOW_US, &subject, &err));
    assert_non_null(strstr(err.text, "longer than"));
    mem_free(token);
    crypto_key_unref(&key);
}

static void a_key_file_is_made_once(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct token_subject subject;
    char folder[] = "/tmp/pillion-token-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/token.key", folder);
    struct crypto_key *made = token_key_open(path, &err);
    assert_non_null(made);
    struct crypto_key *read = token_key_open(path, &err);
    assert_non_null(read);
    char *token = token_make(made, SLICE("shop"), SLICE("orders"), 60, NOW_US, &err);
    assert_true(token_verify(read, slice_of_text(token), NOW_US, &subject, &err));
    mem_free(token);
    crypto_key_unref(&made);
    crypto_key_unref(&read);
    assert_int_equal(chmod(path, 0644), 0);
    assert_null(token_key_open(path, &err));
    assert_non_null(strstr(err.text, "others than its owner"));
    assert_true(crypto_save_secret(path, SLICE("junk"), &err));
    assert_null(token_key_open(path, &err));
    assert_non_null(strstr(err.text, path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_null(token_key_open(path, &err)); /* nowhere to save it */
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_names_its_account), cmocka_unit_test(what_cannot_be_asked_for),
        cmocka_unit_test(each_refusal_says_why),     cmocka_unit_test(what_is_no_token),
        cmocka_unit_test(a_key_file_is_made_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
