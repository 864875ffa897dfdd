#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/conn_tls.h"
#include "base/loop.h"
#include "control/serve/ca.h"
#include "tests/support/pipe_net.h"
#include "tests/support/unit.h"

#define NOW_US UINT64_C(1767225600000000)
#define DAY_US UINT64_C(86400000000)
#define ORDERS "spiffe://cluster.local/ns/shop/sa/orders"

struct place {
    char state[40];
    char folder[64];
    char key[80];
    char cert[80];
    struct ca_options options;
};

static void place_init(struct place *place)
{
    *place = (struct place){.state = "/tmp/pillion-ca-XXXXXX"};
    assert_non_null(mkdtemp(place->state));
    (void)snprintf(place->folder, sizeof place->folder, "%s/ca", place->state);
    (void)snprintf(place->key, sizeof place->key, "%s/root.key", place->folder);
    (void)snprintf(place->cert, sizeof place->cert, "%s/root.pem", place->folder);
    place->options = (struct ca_options){.folder = place->folder,
                                         .trust_domain = SLICE("cluster.local"),
                                         .backdate_s = CA_BACKDATE_DEFAULT_S};
}

static void place_fini(struct place *place)
{
    (void)unlink(place->key);
    (void)unlink(place->cert);
    (void)rmdir(place->folder);
    assert_int_equal(rmdir(place->state), 0);
}

/* Has the authority sign for a fresh key; the identity that comes of it. */
static struct tls_identity *identity_of(const struct ca *ca, const struct ca_subject *subject)
{
    struct error err = {{0}};
    struct ca_chain chain;
    struct crypto_key *key = crypto_key_new();
    /* What the request says of itself is not looked at. */
    char *request = spiffe_request_new(key, SLICE("spiffe://elsewhere/ns/x/sa/admin"));
    assert_true(ca_issue(ca, slice_of_text(request), subject, NOW_US, &chain, &err));
    char text[32768];
    size_t len = 0;
    for (size_t i = 0; i < chain.count; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s", chain.pems[i]);
    }
    struct tls_identity *identity = tls_identity_new(slice_of(text, len), key, &err);
    assert_non_null(identity);
    assert_int_equal(chain.not_after_us, tls_identity_get_validity(identity)->not_after_us);
    ca_chain_fini(&chain);
    crypto_key_unref(&key);
    mem_free(request);
    return identity;
}

static void an_authority_made_at_the_first_start(void **state)
{
    (void)state;
    struct place place;
    struct error err = {{0}};
    struct stat about;
    place_init(&place);
    struct ca *ca = ca_open(&place.options, NOW_US, &err);
    assert_non_null(ca);
    assert_int_equal(stat(place.key, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(stat(place.cert, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_true(slice_eq(ca_get_control_identity(ca),
                         SLICE("spiffe://cluster.local/ns/pillion-system/sa/pillion-control")));
    struct ca *again = ca_open(&place.options, NOW_US + 100 * DAY_US, &err);
    assert_non_null(again);
    assert_true(slice_eq(ca_get_root(ca), ca_get_root(again)));
    ca_free(&again);
    ca_free(&ca);
    assert_null(ca_open(&place.options, NOW_US + 3651 * DAY_US, &err));
    assert_non_null(strstr(err.text, "root.pem: certificate 1 expired at 20"));
    /* A crash between the two files: the key is there, the certificate is not. */
    assert_int_equal(unlink(place.cert), 0);
    ca = ca_open(&place.options, NOW_US, &err);
    assert_non_null(ca);
    ca_free(&ca);
    assert_int_equal(unlink(place.key), 0); /* the certificate without its key is an error */
    assert_null(ca_open(&place.options, NOW_US, &err));
    assert_non_null(strstr(err.text, "root.key: cannot open"));
    place_fini(&place);
    assert_null(ca_open(&place.options, NOW_US, &err)); /* no state folder */
    assert_non_null(strstr(err.text, place.folder));
}

static void a_leaf_says_what_the_caller_said(void **state)
{
    (void)state;
    struct place place;
    struct error err = {{0}};
    place_init(&place);
    struct ca *ca = ca_open(&place.options, NOW_US, &err);
    assert_non_null(ca);
    struct tls_identity *identity =
        identity_of(ca, &(struct ca_subject){.identity = SLICE(ORDERS), .uid = SLICE("uid-7")});
    assert_string_equal(tls_identity_get_names(identity)->identity, ORDERS);
    assert_string_equal(tls_identity_get_names(identity)->uid, "uid-7");
    const struct tls_validity *validity = tls_identity_get_validity(identity);
    assert_int_equal(validity->not_before_us, NOW_US - UINT64_C(60000000));
    assert_int_equal(validity->not_after_us, NOW_US + DAY_US);
    assert_int_equal(strlen(validity->serial), 32);
    tls_identity_unref(&identity);
    identity = identity_of(ca, &(struct ca_subject){.identity = SLICE(ORDERS), .ttl_s = 600});
    assert_int_equal(tls_identity_get_validity(identity)->not_after_us,
                     NOW_US + UINT64_C(600000000));
    assert_string_equal(tls_identity_get_names(identity)->uid, "");
    tls_identity_unref(&identity);
    identity = identity_of(ca, &(struct ca_subject){.identity = SLICE(ORDERS), .ttl_s = 900000});
    assert_int_equal(tls_identity_get_validity(identity)->not_after_us, NOW_US + DAY_US);
    tls_identity_unref(&identity);
    ca_free(&ca);
    place_fini(&place);
}

static void what_is_not_signed(void **state)
{
    (void)state;
    struct place place;
    struct error err = {{0}};
    struct ca_chain chain;
    struct ca_subject good = {.identity = SLICE(ORDERS)};
    place_init(&place);
    struct ca *ca = ca_open(&place.options, NOW_US, &err);
    struct crypto_key *key = crypto_key_new();
    char *request = spiffe_request_new(key, SLICE(ORDERS));
    assert_false(ca_issue(ca, SLICE(""), &good, NOW_US, &chain, &err));
    assert_false(ca_issue(ca, SLICE("junk"), &good, NOW_US, &chain, &err));
    assert_non_null(strstr(err.text, "not a certificate signing request"));
    struct ca_subject other = {.identity = SLICE("spiffe://other.domain/ns/shop/sa/orders")};
    assert_false(ca_issue(ca, slice_of_text(request), &other, NOW_US, &chain, &err));
    assert_non_null(strstr(err.text, "is not in the trust domain cluster.local"));
    other = (struct ca_subject){.identity = SLICE(ORDERS), .uid = SLICE("a b")};
    assert_false(ca_issue(ca, slice_of_text(request), &other, NOW_US, &chain, &err));
    assert_string_equal(err.text, "\"a b\" is no unique id");
    other.identity = SLICE("orders");
    assert_false(ca_issue(ca, slice_of_text(request), &other, NOW_US, &chain, &err));
    assert_non_null(strstr(err.text, "is no SPIFFE id"));
    assert_false(ca_issue(ca, slice_of_text(request), &good, NOW_US + 3651 * DAY_US, &chain, &err));
    assert_non_null(strstr(err.text, "expired"));
    /* Damaged inside its base64: parses, or not, but is never signed. */
    size_t body = (size_t)(strchr(request, '\n') - request) + 1;
    unsigned refused = 0;
    for (size_t i = body; i < body + 300; i++) {
        char was = request[i];
        if (was == '\n' || was == '-') {
            continue;
        }
        request[i] = was == 'A' ? 'B' : 'A';
        assert_false(ca_issue(ca, slice_of_text(request), &good, NOW_US, &chain, &err));
        refused += strstr(err.text, "not signed by its own key") != NULL;
        request[i] = was;
    }
    assert_true(refused > 50);
    assert_true(ca_issue(ca, slice_of_text(request), &good, NOW_US, &chain, &err));
    ca_chain_fini(&chain);
    mem_free(request);
    crypto_key_unref(&key);
    ca_free(&ca);
    place_fini(&place);
}

static void an_authority_that_is_given(void **state)
{
    (void)state;
    struct place own;
    struct place other;
    struct error err = {{0}};
    place_init(&own);
    place_init(&other);
    struct ca *ca = ca_open(&own.options, NOW_US, &err);
    struct ca *stranger = ca_open(&other.options, NOW_US, &err);
    assert_non_null(ca);
    assert_non_null(stranger);
    struct ca_options given = {
        .cert_path = own.cert, .key_path = own.key, .trust_domain = SLICE("cluster.local")};
    struct ca *same = ca_open(&given, NOW_US, &err);
    assert_non_null(same);
    assert_true(slice_eq(ca_get_root(same), ca_get_root(ca)));
    ca_free(&same);
    given.key_path = other.key;
    assert_null(ca_open(&given, NOW_US, &err));
    assert_non_null(strstr(err.text, "the private key is not that of the certificate"));
    given.key_path = NULL;
    assert_null(ca_open(&given, NOW_US, &err));
    assert_non_null(strstr(err.text, "needs both"));
    given.key_path = own.cert;
    assert_null(ca_open(&given, NOW_US, &err));
    assert_non_null(strstr(err.text, "not a private key"));
    /* A leaf is no authority. */
    struct ca_chain chain;
    struct crypto_key *key = crypto_key_new();
    char *request = spiffe_request_new(key, SLICE(ORDERS));
    char *key_pem = crypto_key_to_pem(key);
    assert_true(ca_issue(ca, slice_of_text(request),
                         &(struct ca_subject){.identity = SLICE(ORDERS)}, NOW_US, &chain, &err));
    assert_true(crypto_save_secret(other.cert, slice_of_text(chain.pems[0]), &err));
    assert_true(crypto_save_secret(other.key, slice_of_text(key_pem), &err));
    given.cert_path = other.cert;
    given.key_path = other.key;
    assert_null(ca_open(&given, NOW_US, &err));
    assert_non_null(strstr(err.text, "is not one of an authority"));
    given.trust_domain = SLICE("Bad Domain");
    assert_null(ca_open(&given, NOW_US, &err));
    assert_non_null(strstr(err.text, "no trust domain"));
    ca_chain_fini(&chain);
    mem_free(request);
    mem_free(key_pem);
    crypto_key_unref(&key);
    ca_free(&ca);
    ca_free(&stranger);
    place_fini(&own);
    place_fini(&other);
}

/* The whole of it: a workload's certificate and the control plane's, in a handshake. */
static void a_workload_meets_the_control_plane(void **state)
{
    (void)state;
    struct place place;
    struct error err = {{0}};
    struct slice dns[] = {SLICE("pillion-control.pillion-system.svc"), SLICE("localhost")};
    place_init(&place);
    struct ca *ca = ca_open(&place.options, NOW_US, &err);
    struct loop *loop = loop_new_stepped(pipe_net(), NULL);
    uint64_t next;
    (void)loop_step(loop, 1, NOW_US, &next);
    struct tls_keys keys[2];
    struct tls_context *contexts[2];
    struct tls_identity *identities[2] = {
        identity_of(ca, &(struct ca_subject){.identity = SLICE(ORDERS), .uid = SLICE("uid-7")}),
        ca_issue_own(ca, dns, COUNT_OF(dns), NOW_US, &err)};
    assert_non_null(identities[1]);
    for (unsigned i = 0; i < 2; i++) {
        struct tls_options options = tls_options_mesh(i == 1);
        struct tls_trust *trust = tls_trust_new(ca_get_root(ca), &err);
        tls_keys_init(&keys[i], tls_openssl());
        tls_keys_set_identity_take(&keys[i], &identities[i]);
        tls_keys_set_trust_take(&keys[i], &trust);
        contexts[i] = tls_context_new(&options, &err);
    }
    struct net_conn *nets[2];
    pipe_net_pair(loop, &(struct pipe_limits){.recv_max = 0}, nets);
    struct conn *conns[2] = {
        conn_tls_client(&nets[0], &(struct tls_client){.keys = &keys[0],
                                                       .context = contexts[0],
                                                       .identity = ca_get_control_identity(ca)}),
        conn_tls_server(&nets[1], &(struct tls_server){&keys[1], contexts[1]}, SLICE(""))};
    enum io results[2] = {IO_AGAIN, IO_AGAIN};
    for (unsigned i = 0; i < 20; i++) {
        results[i % 2] = conn_handshake(conns[i % 2], &err);
    }
    assert_string_equal(err.text, "");
    assert_int_equal(results[0], IO_OK);
    assert_int_equal(results[1], IO_OK);
    assert_true(slice_eq(conn_peer(conns[1])->identity, SLICE(ORDERS)));
    assert_true(slice_eq(conn_peer(conns[1])->uid, SLICE("uid-7")));
    for (unsigned i = 0; i < 2; i++) {
        conn_close(&conns[i]);
        tls_context_unref(&contexts[i]);
        tls_keys_fini(&keys[i]);
    }
    loop_free(&loop);
    ca_free(&ca);
    place_fini(&place);
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authority_made_at_the_first_start),
        cmocka_unit_test(a_leaf_says_what_the_caller_said),
        cmocka_unit_test(what_is_not_signed),
        cmocka_unit_test(an_authority_that_is_given),
        cmocka_unit_test(a_workload_meets_the_control_plane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
