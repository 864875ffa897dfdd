#pragma once
/* A certificate authority for unit tests, which makes good certificates and bad ones. Aborts where
 * OpenSSL fails. */

#include <stdint.h>

#include "base/crypto.h"
#include "base/tls.h"

/* 2026-01-01T00:00:00Z: the wall time of tests that use it. */
#define TEST_CA_NOW_US UINT64_C(1767225600000000)
#define TEST_CA_DAY_US UINT64_C(86400000000)

struct test_ca;

struct test_ca *test_ca_new(const char *name);
void test_ca_free(struct test_ca **ca);
/* The root in PEM; borrowed. */
struct slice test_ca_get_root(const struct test_ca *ca);
/* The root as trust. */
struct tls_trust *test_ca_trust(const struct test_ca *ca);

struct test_leaf {
    const char *uri;      /* null: none */
    const char *uri2;     /* a second one */
    const char *dns;      /* null: none */
    const char *uid;      /* Subject serialNumber; null: none */
    uint64_t begin_us;    /* 0: a day before TEST_CA_NOW_US */
    uint64_t end_us;      /* 0: a day after */
    bool only_for_client; /* extended key usage; else both */
};

/* A chain in PEM (leaf, root) for `key`; mem_free it. */
char *test_ca_issue(const struct test_ca *ca, const struct crypto_key *key,
                    const struct test_leaf *leaf);
/* The same with a fresh key, as an identity. */
struct tls_identity *test_ca_identity(const struct test_ca *ca, const struct test_leaf *leaf);
