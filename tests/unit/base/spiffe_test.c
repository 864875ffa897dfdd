#include <stdio.h>

#include "base/alloc.h"
#include "base/spiffe.h"
#include "tests/support/test_ca.h"
#include "tests/support/unit.h"

#define ORDERS "spiffe://cluster.local/ns/shop/sa/orders"

static void an_id_in_parts_and_back(void **state)
{
    (void)state;
    struct spiffe_id id;
    assert_true(spiffe_parse(SLICE(ORDERS), &id));
    assert_true(slice_eq(id.trust_domain, SLICE("cluster.local")));
    assert_true(slice_eq(id.namespace, SLICE("shop")));
    assert_true(slice_eq(id.account, SLICE("orders")));
    char text[SPIFFE_TEXT_MAX + 1];
    assert_int_equal(spiffe_format(&id, text), strlen(ORDERS));
    assert_string_equal(text, ORDERS);
    assert_true(spiffe_is_in(SLICE(ORDERS), SLICE("cluster.local")));
    assert_false(spiffe_is_in(SLICE(ORDERS), SLICE("cluster.loca")));
    assert_false(spiffe_is_in(SLICE(ORDERS), SLICE("cluster.local/ns")));
    assert_true(spiffe_is_in(SLICE("spiffe://a"), SLICE("a")));
}

static void ids_of_other_forms(void **state)
{
    (void)state;
    static const char *const valid[] = {
        "spiffe://example.org", "spiffe://example.org/billing", "spiffe://td_1/a/b.c/d-E_9",
        "spiffe://td/ns/shop/sa/orders/more", "spiffe://td/ns/shop/sb/orders"};
    static const char *const invalid[] = {"",
                                          "spiffe:/",
                                          "spiffe://",
                                          "spiffe:///ns/a/sa/b",
                                          "https://td/ns/a/sa/b",
                                          "SPIFFE://td/ns/a/sa/b",
                                          "spiffe://TD/ns/a/sa/b",
                                          "spiffe://td:80/ns/a/sa/b",
                                          "spiffe://u@td/ns/a/sa/b",
                                          "spiffe://td/ns/a/sa/b/",
                                          "spiffe://td/ns//sa/b",
                                          "spiffe://td/ns/../sa/b",
                                          "spiffe://td/ns/./sa/b",
                                          "spiffe://td/ns/a%41/sa/b",
                                          "spiffe://td/ns/a/sa/b?c",
                                          "spiffe://td/ns/a/sa/b#c",
                                          "spiffe://td/ns/a b/sa/b",
                                          "spiffe://td/ns/a/sa/b,URI:spiffe://td/x"};
    struct spiffe_id id;
    for (size_t i = 0; i < COUNT_OF(valid); i++) {
        assert_true(spiffe_is_valid(slice_of_text(valid[i])));
        assert_false(spiffe_parse(slice_of_text(valid[i]), &id));
    }
    for (size_t i = 0; i < COUNT_OF(invalid); i++) {
        assert_false(spiffe_is_valid(slice_of_text(invalid[i])));
        assert_false(spiffe_parse(slice_of_text(invalid[i]), &id));
    }
    assert_false(spiffe_is_valid(slice_of("spiffe://td/a\0b", 15)));
}

static void parts_that_make_no_id(void **state)
{
    (void)state;
    char text[SPIFFE_TEXT_MAX + 1];
    char long_text[256];
    (void)memset(long_text, 'a', sizeof long_text);
    const struct spiffe_id bad[] = {
        {SLICE(""), SLICE("a"), SLICE("b")},
        {SLICE("td"), SLICE(""), SLICE("b")},
        {SLICE("td"), SLICE("a"), SLICE("")},
        {SLICE("td"), SLICE("a/b"), SLICE("b")},
        {SLICE("td"), SLICE("a"), SLICE("..")},
        {slice_of(long_text, 256), SLICE("a"), SLICE("b")},
        {SLICE("td"), slice_of(long_text, 64), SLICE("b")},
        {SLICE("td"), SLICE("a"), slice_of(long_text, 254)},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(spiffe_format(&bad[i], text), 0);
    }
    struct spiffe_id longest = {slice_of(long_text, 255), slice_of(long_text, 63),
                                slice_of(long_text, 253)};
    assert_true(spiffe_format(&longest, text) > 570);
    assert_true(spiffe_is_valid(slice_of_text(text)));
}

/* Reads what a certificate with these names says. */
static bool read_back(const struct test_leaf *leaf, struct spiffe_names *names, struct error *err)
{
    struct test_ca *ca = test_ca_new("root");
    struct crypto_key *key = crypto_key_new();
    char *pem = test_ca_issue(ca, key, leaf);
    bool read = spiffe_read_pem(slice_of_text(pem), names, err);
    mem_free(pem);
    crypto_key_unref(&key);
    test_ca_free(&ca);
    return read;
}

static void names_out_of_a_certificate(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct spiffe_names names;
    assert_true(read_back(&(struct test_leaf){.uri = ORDERS, .uid = "1a2b-3c", .dns = "orders"},
                          &names, &err));
    assert_string_equal(names.identity, ORDERS);
    assert_string_equal(names.uid, "1a2b-3c");
    assert_true(read_back(&(struct test_leaf){.dns = "orders", .uid = "7"}, &names, &err));
    assert_string_equal(names.identity, "");
    assert_string_equal(names.uid, ""); /* without an id, serialNumber means something else */
    assert_true(
        read_back(&(struct test_leaf){.uri = "https://a", .uri2 = "https://b"}, &names, &err));
    assert_string_equal(names.identity, "");
    assert_false(read_back(&(struct test_leaf){.uri = ORDERS, .uri2 = "https://b"}, &names, &err));
    assert_non_null(strstr(err.text, "2 URI names"));
    assert_false(read_back(&(struct test_leaf){.uri = "spiffe://TD/x"}, &names, &err));
    assert_non_null(strstr(err.text, "not valid"));
    assert_false(read_back(&(struct test_leaf){.uri = ORDERS, .uid = "a b"}, &names, &err));
    assert_false(spiffe_read_pem(SLICE("junk"), &names, &err));
    assert_false(spiffe_read_pem(SLICE(""), &names, &err));
}

static void a_request_is_a_request(void **state)
{
    (void)state;
    struct crypto_key *key = crypto_key_new();
    char *pem = spiffe_request_new(key, SLICE(ORDERS));
    assert_non_null(strstr(pem, "BEGIN CERTIFICATE REQUEST"));
    crypto_key_unref(&key);
    mem_free(pem);
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_in_parts_and_back), cmocka_unit_test(ids_of_other_forms),
        cmocka_unit_test(parts_that_make_no_id),   cmocka_unit_test(names_out_of_a_certificate),
        cmocka_unit_test(a_request_is_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
