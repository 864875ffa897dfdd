#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/crypto.h"
#include "tests/support/unit.h"

/* ------------------------------------------------------------------------------------ base64 */

static void base64_of_the_rfc(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *standard, *url;
    } rows[] = {{"", "", ""},
                {"f", "Zg==", "Zg"},
                {"fo", "Zm8=", "Zm8"},
                {"foo", "Zm9v", "Zm9v"},
                {"foob", "Zm9vYg==", "Zm9vYg"},
                {"fooba", "Zm9vYmE=", "Zm9vYmE"},
                {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
                {"\xfb\xff\xfe", "+//+", "-__-"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct slice plain = slice_of_text(rows[i].plain);
        char text[32];
        uint8_t back[32];
        size_t len = 0;
        assert_int_equal(base64_encode(BASE64_STANDARD, plain, text), strlen(rows[i].standard));
        assert_string_equal(text, rows[i].standard);
        assert_true(base64_decode(BASE64_STANDARD, slice_of_text(text),
                                  (struct span){back, sizeof back}, &len));
        assert_true(slice_eq(slice_of(back, len), plain));
        assert_int_equal(base64_encode(BASE64_URL, plain, text), strlen(rows[i].url));
        assert_string_equal(text, rows[i].url);
        assert_true(
            base64_decode(BASE64_URL, slice_of_text(text), (struct span){back, sizeof back}, &len));
        assert_true(slice_eq(slice_of(back, len), plain));
    }
}

static void base64_has_one_text_for_a_value(void **state)
{
    (void)state;
    static const struct {
        enum base64 kind;
        const char *text;
    } bad[] = {{BASE64_STANDARD, "Zg"},   {BASE64_STANDARD, "Zg="},  {BASE64_STANDARD, "Zg==="},
               {BASE64_STANDARD, "Zh=="}, {BASE64_STANDARD, "Zm9="}, {BASE64_STANDARD, "===="},
               {BASE64_STANDARD, "Zm-v"}, {BASE64_STANDARD, "Zm 9"}, {BASE64_STANDARD, "Zm9v\n"},
               {BASE64_URL, "Zg=="},      {BASE64_URL, "Zh"},        {BASE64_URL, "Z"},
               {BASE64_URL, "Zm9v+///"},  {BASE64_STANDARD, "Z==="}, {BASE64_URL, "Zm9"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        uint8_t back[16];
        size_t len = 0;
        assert_false(base64_decode(bad[i].kind, slice_of_text(bad[i].text),
                                   (struct span){back, sizeof back}, &len));
    }
    uint8_t two[2];
    size_t len = 0;
    assert_false(base64_decode(BASE64_URL, SLICE("Zm9v"), (struct span){two, 2}, &len));
}

/* ------------------------------------------------------------------------------------ hashes */

static void hex(const uint8_t *bytes, size_t len, char *text)
{
    for (size_t i = 0; i < len; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void hashes_of_known_answers(void **state)
{
    (void)state;
    uint8_t out[CRYPTO_SHA256_BYTES];
    char text[2 * CRYPTO_SHA256_BYTES + 1];
    crypto_sha256(SLICE("abc"), out); /* FIPS 180-2 B.1 */
    hex(out, sizeof out, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    crypto_sha256(slice_of(NULL, 0), out);
    hex(out, sizeof out, text);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    crypto_hmac_sha256(SLICE("Jefe"), SLICE("what do ya want for nothing?"),
                       out); /* RFC 4231 4.3 */
    hex(out, sizeof out, text);
    assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_true(crypto_equal(SLICE("same"), SLICE("same")));
    assert_false(crypto_equal(SLICE("same"), SLICE("sane")));
    assert_false(crypto_equal(SLICE("same"), SLICE("sam")));
    uint8_t a[32] = {0};
    uint8_t b[32] = {0};
    crypto_random((struct span){a, sizeof a});
    crypto_random((struct span){b, sizeof b});
    assert_memory_not_equal(a, b, sizeof a);
}

static void the_library_allocates_through_us(void **state)
{
    (void)state;
    uint64_t before = alloc_counts().calls;
    struct crypto_key *key = crypto_key_new();
    assert_true(alloc_counts().calls > before + 1); /* more than our own struct */
    crypto_key_unref(&key);
    assert_null(key);
    crypto_init(); /* a second call does nothing */
}

/* -------------------------------------------------------------------------------------- keys */

static void a_key_signs_what_its_public_half_verifies(void **state)
{
    (void)state;
    struct error err;
    struct crypto_key *key = crypto_key_new();
    char *pem = crypto_key_to_pem(key);
    struct crypto_key *again = crypto_key_from_pem(slice_of_text(pem), &err);
    assert_non_null(again);
    assert_true(crypto_key_signs_es256(again));
    char *public_pem = crypto_key_public_to_pem(again);
    struct crypto_key *public = crypto_key_public_from_pem(slice_of_text(public_pem), &err);
    assert_non_null(public);
    assert_false(crypto_key_signs_es256(public));
    /* Often, so that numbers with leading zero bytes come up. */
    for (unsigned i = 0; i < 600; i++) {
        uint8_t signature[CRYPTO_ES256_BYTES];
        struct slice text = slice_of(&i, sizeof i);
        crypto_sign_es256(again, text, signature);
        assert_true(crypto_verify(public, CRYPTO_ES256, text, slice_of(signature, 64)));
        signature[i % 64] ^= 1;
        assert_false(crypto_verify(public, CRYPTO_ES256, text, slice_of(signature, 64)));
    }
    uint8_t signature[CRYPTO_ES256_BYTES];
    crypto_sign_es256(key, SLICE("text"), signature);
    assert_false(crypto_verify(key, CRYPTO_ES256, SLICE("text"), slice_of(signature, 63)));
    assert_false(crypto_verify(key, CRYPTO_RS256, SLICE("text"), slice_of(signature, 64)));
    assert_false(crypto_verify(key, CRYPTO_ES256, SLICE("Text"), slice_of(signature, 64)));
    uint8_t zeros[64] = {0};
    assert_false(crypto_verify(key, CRYPTO_ES256, SLICE("text"), slice_of(zeros, 64)));
    crypto_key_unref(&key);
    crypto_key_unref(&again);
    crypto_key_unref(&public);
    mem_free(pem);
    mem_free(public_pem);
}

static size_t decode_url(const char *text, uint8_t *into, size_t room)
{
    size_t len = 0;
    assert_true(base64_decode(BASE64_URL, slice_of_text(text), (struct span){into, room}, &len));
    return len;
}

/* RFC 7515 A.3: a key, a text and its signature, made by others. */
static void a_signature_of_the_rfc_with_es256(void **state)
{
    (void)state;
    uint8_t x[32];
    uint8_t y[32];
    uint8_t signature[64];
    assert_int_equal(decode_url("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", x, 32), 32);
    assert_int_equal(decode_url("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", y, 32), 32);
    assert_int_equal(
        decode_url("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKT"
                   "UJqPP3-Kg6NU1Q",
                   signature, 64),
        64);
    struct slice text =
        SLICE("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0"
              "dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ");
    struct error err;
    struct crypto_key *key = crypto_key_from_point(slice_of(x, 32), slice_of(y, 32), &err);
    assert_non_null(key);
    assert_true(crypto_verify(key, CRYPTO_ES256, text, slice_of(signature, 64)));
    crypto_key_unref(&key);
    x[0] ^= 1; /* no longer a point of the curve */
    assert_null(crypto_key_from_point(slice_of(x, 32), slice_of(y, 32), &err));
    assert_null(crypto_key_from_point(slice_of(x, 31), slice_of(y, 32), &err));
}

/* RFC 7515 A.2. */
static void a_signature_of_the_rfc_with_rs256(void **state)
{
    (void)state;
    uint8_t n[256];
    uint8_t e[3];
    uint8_t signature[256];
    assert_int_equal(
        decode_url(
            "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEz"
            "P1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf6"
            "3kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwK"
            "h9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyu"
            "XpoQ",
            n, sizeof n),
        256);
    assert_int_equal(decode_url("AQAB", e, sizeof e), 3);
    assert_int_equal(
        decode_url(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt"
            "_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArL"
            "IARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7no"
            "OPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQ"
            "Ge77Rw",
            signature, sizeof signature),
        256);
    struct slice text =
        SLICE("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0"
              "dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ");
    struct error err;
    struct crypto_key *key = crypto_key_from_rsa(slice_of(n, 256), slice_of(e, 3), &err);
    assert_non_null(key);
    assert_true(crypto_verify(key, CRYPTO_RS256, text, slice_of(signature, 256)));
    assert_false(crypto_verify(key, CRYPTO_ES256, text, slice_of(signature, 64)));
    signature[10] ^= 4;
    assert_false(crypto_verify(key, CRYPTO_RS256, text, slice_of(signature, 256)));
    crypto_key_unref(&key);
    assert_null(crypto_key_from_rsa(slice_of(n, 128), slice_of(e, 3), &err)); /* 1024 bits */
}

static void what_is_no_key_says_so(void **state)
{
    (void)state;
    struct error err = {{0}};
    assert_null(crypto_key_from_pem(SLICE(""), &err));
    assert_non_null(strstr(err.text, "not a private key in PEM"));
    assert_null(crypto_key_from_pem(SLICE("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE "
                                          "KEY-----\n"),
                                    &err));
    assert_null(crypto_key_public_from_pem(SLICE("junk"), &err));
    assert_non_null(strstr(err.text, "not a public key in PEM"));
}

/* ----------------------------------------------------------------------------------- secrets */

static void a_secret_is_its_owners_alone(void **state)
{
    (void)state;
    char folder[] = "/tmp/pillion-crypto-XXXXXX";
    char path[64];
    struct error err = {{0}};
    struct stat about;
    size_t len = 0;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/key", folder);
    assert_true(crypto_save_secret(path, SLICE("first"), &err));
    assert_true(crypto_save_secret(path, SLICE("second"), &err));
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    char *text = crypto_load_secret(path, 6, &len, &err);
    assert_non_null(text);
    assert_string_equal(text, "second");
    assert_int_equal(len, 6);
    mem_free(text);
    assert_null(crypto_load_secret(path, 5, &len, &err));
    assert_non_null(strstr(err.text, "File too large"));
    assert_int_equal(chmod(path, 0640), 0);
    assert_null(crypto_load_secret(path, 6, &len, &err));
    assert_non_null(strstr(err.text, "others than its owner"));
    assert_null(crypto_load_secret(folder, 6, &len, &err));
    assert_int_equal(unlink(path), 0);
    assert_null(crypto_load_secret(path, 6, &len, &err));
    assert_int_equal(rmdir(folder), 0); /* nothing was left beside it */
    assert_false(crypto_save_secret(path, SLICE("x"), &err));
    assert_non_null(strstr(err.text, path));
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_of_the_rfc),
        cmocka_unit_test(base64_has_one_text_for_a_value),
        cmocka_unit_test(hashes_of_known_answers),
        cmocka_unit_test(the_library_allocates_through_us),
        cmocka_unit_test(a_key_signs_what_its_public_half_verifies),
        cmocka_unit_test(a_signature_of_the_rfc_with_es256),
        cmocka_unit_test(a_signature_of_the_rfc_with_rs256),
        cmocka_unit_test(what_is_no_key_says_so),
        cmocka_unit_test(a_secret_is_its_owners_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
