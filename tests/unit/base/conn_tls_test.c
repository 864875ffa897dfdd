/* Real handshakes over pipes in memory: who is accepted, what both sides say, and how bytes travel
 * in whatever pieces. */
#include <openssl/ssl.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/conn_tls.h"
#include "base/loop.h"
#include "tests/support/pipe_net.h"
#include "tests/support/test_ca.h"
#include "tests/support/unit.h"

#define CLIENT_ID "spiffe://cluster.local/ns/shop/sa/web"
#define SERVER_ID "spiffe://cluster.local/ns/shop/sa/orders"

enum { CLIENT, SERVER, SIDES };

/* Two ends and all that they need. */
struct pair {
    struct loop *loop;
    struct test_ca *ca;
    struct tls_keys keys[SIDES];
    struct tls_options options[SIDES];
    struct tls_context *contexts[SIDES];
    struct net_conn *nets[SIDES];
    struct conn *conns[SIDES];
    struct error errors[SIDES];
    enum io results[SIDES];
};

static void keys_of(struct tls_keys *keys, struct tls_identity *identity, struct tls_trust *trust)
{
    tls_keys_set_identity_take(keys, &identity);
    tls_keys_set_trust_take(keys, &trust);
}

static void pair_init(struct pair *pair)
{
    *pair = (struct pair){.loop = loop_new_stepped(pipe_net(), NULL)};
    uint64_t next;
    (void)loop_step(pair->loop, 1, TEST_CA_NOW_US, &next);
    pair->ca = test_ca_new("mesh root");
    for (unsigned side = 0; side < SIDES; side++) {
        tls_keys_init(&pair->keys[side], tls_openssl());
        pair->options[side] = tls_options_mesh(side == SERVER);
        const char *uri = side == CLIENT ? CLIENT_ID : SERVER_ID;
        const char *uid = side == CLIENT ? "uid-of-web" : "uid-of-orders";
        keys_of(&pair->keys[side],
                test_ca_identity(pair->ca, &(struct test_leaf){.uri = uri, .uid = uid}),
                test_ca_trust(pair->ca));
    }
}

/* Connects; `how` may be null: a client that demands nothing. */
static void pair_connect(struct pair *pair, const struct pipe_limits *limits,
                         const struct tls_client *how)
{
    struct tls_client client = how != NULL ? *how : (struct tls_client){.sni = {NULL, 0}};
    pipe_net_pair(pair->loop, limits, pair->nets);
    for (unsigned side = 0; side < SIDES; side++) {
        if (pair->contexts[side] == NULL) {
            pair->contexts[side] = tls_context_new(&pair->options[side], &pair->errors[side]);
            assert_non_null(pair->contexts[side]);
        }
    }
    client.keys = &pair->keys[CLIENT];
    client.context = pair->contexts[CLIENT];
    struct net_conn *net = pair->nets[CLIENT];
    pair->conns[CLIENT] = conn_tls_client(&net, &client);
    assert_null(net);
    net = pair->nets[SERVER];
    pair->conns[SERVER] = conn_tls_server(
        &net, &(struct tls_server){&pair->keys[SERVER], pair->contexts[SERVER]}, SLICE(""));
}

/* Drives both until neither moves. */
static void pair_handshake(struct pair *pair)
{
    for (unsigned round = 0; round < 100000; round++) {
        unsigned before = pipe_net_calls(pair->nets[0]) + pipe_net_calls(pair->nets[1]);
        for (unsigned side = 0; side < SIDES; side++) {
            pair->results[side] = conn_handshake(pair->conns[side], &pair->errors[side]);
        }
        if (before == pipe_net_calls(pair->nets[0]) + pipe_net_calls(pair->nets[1])) {
            return;
        }
    }
    fail_msg("a handshake without end");
}

static void pair_disconnect(struct pair *pair)
{
    for (unsigned side = 0; side < SIDES; side++) {
        conn_close(&pair->conns[side]);
    }
}

static void pair_fini(struct pair *pair)
{
    pair_disconnect(pair);
    for (unsigned side = 0; side < SIDES; side++) {
        tls_context_unref(&pair->contexts[side]);
        tls_keys_fini(&pair->keys[side]);
    }
    test_ca_free(&pair->ca);
    assert_int_equal(pair->loop->bufs.bytes, 0); /* no buffer is held */
    loop_free(&pair->loop);
}

static void assert_open(struct pair *pair)
{
    pair_handshake(pair);
    assert_string_equal(pair->errors[CLIENT].text, "");
    assert_string_equal(pair->errors[SERVER].text, "");
    assert_int_equal(pair->results[CLIENT], IO_OK);
    assert_int_equal(pair->results[SERVER], IO_OK);
}

/* Moves the text from one side to the other, all of it. */
static void assert_moves(struct pair *pair, unsigned from, struct slice text)
{
    struct buf out;
    uint8_t into[64];
    size_t total = 0;
    buf_init(&out, &pair->loop->bufs);
    buf_append(&out, text);
    for (unsigned round = 0; total < text.len; round++) {
        assert_true(round < 100000);
        assert_int_not_equal(conn_send(pair->conns[from], &out), IO_RESET);
        size_t got = 0;
        enum io result = conn_recv(pair->conns[1 - from], (struct span){into, sizeof into}, &got);
        assert_true(result == IO_OK || result == IO_AGAIN);
        assert_memory_equal(into, text.at + total, got);
        total += got;
    }
    assert_true(buf_empty(&out));
    buf_clear(&out);
}

/* What the side says when it is read to its end. */
static const char *failure_of(struct pair *pair, unsigned side)
{
    if (pair->results[side] == IO_OK) {
        uint8_t into[64];
        size_t got = 0;
        assert_int_equal(conn_recv(pair->conns[side], (struct span){into, sizeof into}, &got),
                         IO_RESET);
    }
    struct slice text = conn_tls_failure(pair->conns[side]);
    assert_true(text.len > 0);
    return (const char *)text.at;
}

static void assert_fails(struct pair *pair, const char *client, const char *server)
{
    pair_handshake(pair);
    const char *says = failure_of(pair, CLIENT);
    if (strstr(says, client) == NULL) {
        fail_msg("the client says \"%s\", not \"%s\"", says, client);
    }
    says = failure_of(pair, SERVER);
    if (strstr(says, server) == NULL) {
        fail_msg("the server says \"%s\", not \"%s\"", says, server);
    }
}

static const struct pipe_limits no_limits;

/* ---------------------------------------------------------------------------------- handshakes */

static void two_peers_of_one_mesh(void **state)
{
    (void)state;
    struct pair pair;
    static const struct slice alpn[] = {{(const uint8_t *)"pillion-h2", 10},
                                        {(const uint8_t *)"h2", 2}};
    pair_init(&pair);
    pair.options[CLIENT].alpn = pair.options[SERVER].alpn = alpn;
    pair.options[CLIENT].alpn_count = pair.options[SERVER].alpn_count = 2;
    pair_connect(&pair, &no_limits,
                 &(struct tls_client){.sni = SLICE("outbound_.8000_._.orders.shop"),
                                      .identity = SLICE(SERVER_ID),
                                      .uid = SLICE("uid-of-orders")});
    assert_open(&pair);
    const struct conn_peer *peer = conn_peer(pair.conns[CLIENT]);
    assert_true(slice_eq(peer->identity, SLICE(SERVER_ID)));
    assert_true(slice_eq(peer->uid, SLICE("uid-of-orders")));
    assert_int_equal(peer->not_after_us, TEST_CA_NOW_US + TEST_CA_DAY_US);
    peer = conn_peer(pair.conns[SERVER]);
    assert_true(slice_eq(peer->identity, SLICE(CLIENT_ID)));
    assert_true(slice_eq(conn_alpn(pair.conns[CLIENT]), SLICE("pillion-h2")));
    assert_true(slice_eq(conn_alpn(pair.conns[SERVER]), SLICE("pillion-h2")));
    assert_true(slice_eq(conn_sni(pair.conns[SERVER]), SLICE("outbound_.8000_._.orders.shop")));
    assert_true(pair.conns[CLIENT]->ops->tls);
    assert_int_equal(conn_tls_failure(pair.conns[CLIENT]).len, 0);
    assert_moves(&pair, CLIENT, SLICE("question"));
    assert_moves(&pair, SERVER, SLICE("answer"));
    assert_false(conn_pending(pair.conns[CLIENT]));
    pair_fini(&pair);
}

static void the_servers_order_of_protocols_decides(void **state)
{
    (void)state;
    struct pair pair;
    static const struct slice servers[] = {{(const uint8_t *)"h2", 2},
                                           {(const uint8_t *)"http/1.1", 8}};
    static const struct slice both[] = {{(const uint8_t *)"http/1.1", 8},
                                        {(const uint8_t *)"h2", 2}};
    static const struct slice none[] = {{(const uint8_t *)"h", 1},
                                        {(const uint8_t *)"istio-peer-exchange", 19}};
    pair_init(&pair);
    pair.options[SERVER].alpn = servers;
    pair.options[SERVER].alpn_count = 2;
    pair_connect(&pair, &no_limits, &(struct tls_client){.alpn = both, .alpn_count = 2});
    assert_open(&pair);
    assert_true(slice_eq(conn_alpn(pair.conns[CLIENT]), SLICE("h2")));
    pair_disconnect(&pair);
    pair_connect(&pair, &no_limits, &(struct tls_client){.alpn = none, .alpn_count = 2});
    assert_open(&pair); /* nothing in common: without, not refused */
    assert_int_equal(conn_alpn(pair.conns[CLIENT]).len, 0);
    pair_fini(&pair);
}

static void one_byte_at_a_time(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_connect(&pair, &(struct pipe_limits){.recv_max = 1, .send_max = 1}, NULL);
    assert_open(&pair);
    assert_moves(&pair, CLIENT, SLICE("each byte alone"));
    assert_moves(&pair, SERVER, SLICE("and back"));
    pair_fini(&pair);
}

/* What intake has read before it knew that this is TLS comes first, wherever it was cut. */
static void a_hello_that_was_read_early(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 400; cut += 57) {
        struct pair pair;
        pair_init(&pair);
        pair_connect(&pair, &no_limits, NULL);
        pair.results[CLIENT] = conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]);
        assert_int_equal(pair.results[CLIENT], IO_AGAIN);
        struct net_conn *net = pair.conns[SERVER]->net;
        pair.conns[SERVER]->ops->free(pair.conns[SERVER]);
        uint8_t early[400];
        size_t got = 0;
        assert_int_equal(net_recv(net, (struct span){early, cut}, &got), IO_OK);
        pair.conns[SERVER] =
            conn_tls_server(&net, &(struct tls_server){&pair.keys[SERVER], pair.contexts[SERVER]},
                            slice_of(early, got));
        assert_true(conn_pending(pair.conns[SERVER]));
        assert_open(&pair);
        assert_moves(&pair, CLIENT, SLICE("after it"));
        pair_fini(&pair);
    }
}

/* ------------------------------------------------------------------------------ who is refused */

static void another_identity_than_wanted(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_connect(&pair, &no_limits,
                 &(struct tls_client){.identity = SLICE("spiffe://cluster.local/ns/shop/sa/pay")});
    assert_fails(&pair, "peer identity " SERVER_ID " is not spiffe://cluster.local/ns/shop/sa/pay",
                 "peer refuses our certificate or identity (alert bad_certificate)");
    pair_fini(&pair);
}

static void another_pod_at_the_same_address(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_connect(&pair, &no_limits,
                 &(struct tls_client){.identity = SLICE(SERVER_ID), .uid = SLICE("the-old-one")});
    assert_fails(&pair, "is pod uid-of-orders, not pod the-old-one", "alert bad_certificate");
    pair_fini(&pair);
}

static void a_client_that_no_match_welcomes(void **state)
{
    (void)state;
    struct pair pair;
    static const struct tls_peer_match welcome[] = {
        {.san = TLS_SAN_URI, .kind = TLS_MATCH_TRUST_DOMAIN, .value = {(const uint8_t *)"td", 2}},
        {.san = TLS_SAN_URI,
         .kind = TLS_MATCH_PREFIX,
         .value = {(const uint8_t *)"spiffe://cluster.local/ns/pay/", 30}}};
    pair_init(&pair);
    pair.options[SERVER].peers = welcome;
    pair.options[SERVER].peer_count = 2;
    pair_connect(&pair, &no_limits, NULL);
    assert_fails(&pair, "peer refuses our certificate or identity",
                 "peer identity " CLIENT_ID " is not one of td, spiffe://cluster.local/ns/pay/");
    pair_fini(&pair);
}

static bool ends_in_web(const void *argument, struct slice name)
{
    return slice_ends(name, slice_of_text(argument));
}

static void every_kind_of_match(void **state)
{
    (void)state;
    static const struct {
        enum tls_match_kind kind;
        enum tls_san san;
        bool ignore_case;
        const char *value;
        bool welcome;
    } rows[] = {
        {TLS_MATCH_EXACT, TLS_SAN_URI, false, CLIENT_ID, true},
        {TLS_MATCH_EXACT, TLS_SAN_ANY, false, CLIENT_ID, true},
        {TLS_MATCH_EXACT, TLS_SAN_DNS, false, CLIENT_ID, false},
        {TLS_MATCH_EXACT, TLS_SAN_URI, false, "SPIFFE://cluster.local/ns/shop/sa/web", false},
        {TLS_MATCH_EXACT, TLS_SAN_URI, true, "SPIFFE://cluster.local/ns/shop/sa/web", true},
        {TLS_MATCH_EXACT, TLS_SAN_DNS, false, "a.web.shop", true}, /* by the wildcard */
        {TLS_MATCH_EXACT, TLS_SAN_DNS, false, "a.b.web.shop", false},
        {TLS_MATCH_EXACT, TLS_SAN_DNS, false, "web.shop", false},
        {TLS_MATCH_PREFIX, TLS_SAN_URI, false, "spiffe://cluster.local/", true},
        {TLS_MATCH_PREFIX, TLS_SAN_URI, false, "spiffe://cluster.locax/", false},
        {TLS_MATCH_PREFIX, TLS_SAN_URI, true, "Spiffe://", true},
        {TLS_MATCH_SUFFIX, TLS_SAN_URI, false, "/sa/web", true},
        {TLS_MATCH_SUFFIX, TLS_SAN_URI, true, "/SA/web", true},
        {TLS_MATCH_SUFFIX, TLS_SAN_URI, false, "/SA/web", false},
        {TLS_MATCH_CONTAINS, TLS_SAN_URI, false, "/ns/shop/", true},
        {TLS_MATCH_CONTAINS, TLS_SAN_URI, true, "/NS/shop/", true},
        {TLS_MATCH_CONTAINS, TLS_SAN_DNS, false, "/ns/shop/", false},
        {TLS_MATCH_TRUST_DOMAIN, TLS_SAN_URI, false, "cluster.local", true},
        {TLS_MATCH_TRUST_DOMAIN, TLS_SAN_URI, false, "cluster", false},
        {TLS_MATCH_TEST, TLS_SAN_URI, false, "a test", true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct pair pair;
        struct tls_peer_match match = {.san = rows[i].san,
                                       .kind = rows[i].kind,
                                       .ignore_case = rows[i].ignore_case,
                                       .value = slice_of_text(rows[i].value),
                                       .test = ends_in_web,
                                       .argument = "/web"};
        pair_init(&pair);
        keys_of(
            &pair.keys[CLIENT],
            test_ca_identity(pair.ca, &(struct test_leaf){.uri = CLIENT_ID, .dns = "*.web.shop"}),
            test_ca_trust(pair.ca));
        pair.options[SERVER].peers = &match;
        pair.options[SERVER].peer_count = 1;
        pair_connect(&pair, &no_limits, NULL);
        pair_handshake(&pair);
        assert_int_equal(pair.results[SERVER], rows[i].welcome ? IO_OK : IO_RESET);
        pair_fini(&pair);
    }
}

static void a_certificate_out_of_its_time(void **state)
{
    (void)state;
    static const struct {
        unsigned side;
        uint64_t begin_us, end_us;
        const char *client, *server;
    } rows[] = {
        {SERVER, 0, TEST_CA_NOW_US - 1000000,
         "peer certificate of " SERVER_ID " expired at 2025-12-31T23:59:59",
         "peer says that our certificate is expired"},
        {CLIENT, 0, TEST_CA_NOW_US - 1000000, "peer says that our certificate is expired",
         "peer certificate of " CLIENT_ID " expired at 2025-12-31T23:59:59"},
        {CLIENT, TEST_CA_NOW_US + 1000000, 0, "peer refuses our certificate",
         "peer certificate of " CLIENT_ID " is not valid before 2026-01-01T00:00:01"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct pair pair;
        pair_init(&pair);
        keys_of(
            &pair.keys[rows[i].side],
            test_ca_identity(
                pair.ca, &(struct test_leaf){.uri = rows[i].side == CLIENT ? CLIENT_ID : SERVER_ID,
                                             .begin_us = rows[i].begin_us,
                                             .end_us = rows[i].end_us}),
            test_ca_trust(pair.ca));
        pair_connect(&pair, &no_limits, NULL);
        assert_fails(&pair, rows[i].client, rows[i].server);
        pair_fini(&pair);
    }
}

static void an_issuer_that_nobody_knows(void **state)
{
    (void)state;
    struct test_ca *other = test_ca_new("mesh root"); /* of the same name, with another key */
    for (unsigned side = 0; side < SIDES; side++) {
        struct pair pair;
        pair_init(&pair);
        keys_of(&pair.keys[side],
                test_ca_identity(
                    other, &(struct test_leaf){.uri = side == CLIENT ? CLIENT_ID : SERVER_ID}),
                test_ca_trust(pair.ca));
        pair_connect(&pair, &no_limits, NULL);
        if (side == CLIENT) {
            assert_fails(&pair, "peer does not know the issuer of our certificate",
                         "peer certificate of " CLIENT_ID " has an unknown issuer");
        } else {
            assert_fails(&pair, "peer certificate of " SERVER_ID " has an unknown issuer",
                         "peer does not know the issuer of our certificate");
        }
        pair_fini(&pair);
    }
    test_ca_free(&other);
}

static void a_client_certificate_serves_no_server(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    keys_of(
        &pair.keys[SERVER],
        test_ca_identity(pair.ca, &(struct test_leaf){.uri = SERVER_ID, .only_for_client = true}),
        test_ca_trust(pair.ca));
    pair_connect(&pair, &no_limits, NULL);
    assert_fails(&pair, "peer certificate of " SERVER_ID ":", "alert unsupported_certificate");
    pair_fini(&pair);
}

static void a_client_without_a_certificate(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.options[CLIENT].mesh_identity = false;
    pair_connect(&pair, &no_limits, NULL);
    assert_fails(&pair, "peer demands a certificate of ours", "peer sent no certificate");
    pair_fini(&pair);
    pair_init(&pair);
    pair.options[CLIENT].mesh_identity = false;
    pair.options[SERVER].verify = TLS_VERIFY_IF_GIVEN;
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    assert_null(conn_peer(pair.conns[SERVER]));
    assert_non_null(conn_peer(pair.conns[CLIENT]));
    pair_fini(&pair);
}

static void a_peer_that_is_not_verified_has_no_name(void **state)
{
    (void)state;
    struct pair pair;
    struct test_ca *other = test_ca_new("elsewhere");
    pair_init(&pair);
    keys_of(&pair.keys[SERVER], test_ca_identity(other, &(struct test_leaf){.dns = "a.example"}),
            test_ca_trust(pair.ca));
    pair.options[CLIENT].verify = TLS_VERIFY_NONE;
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    assert_null(conn_peer(pair.conns[CLIENT]));
    pair_disconnect(&pair);
    pair_connect(&pair, &no_limits, &(struct tls_client){.identity = SLICE(SERVER_ID)});
    assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_RESET);
    assert_non_null(strstr(pair.errors[CLIENT].text, "not to be verified"));
    pair_fini(&pair);
    test_ca_free(&other);
}

static void no_version_in_common(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.options[CLIENT].min = pair.options[CLIENT].max = TLS_VERSION_1_2;
    pair_connect(&pair, &no_limits, NULL);
    assert_fails(&pair, "peer speaks no TLS version of ours (alert protocol_version)",
                 "peer speaks no TLS version of ours");
    pair_fini(&pair);
}

static void tls_1_2_where_it_is_allowed(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.options[CLIENT].min = pair.options[CLIENT].max = TLS_VERSION_1_2;
    pair.options[CLIENT].signatures = pair.options[SERVER].signatures = NULL;
    pair.options[SERVER].min = TLS_VERSION_1_2;
    pair_connect(&pair, &no_limits, &(struct tls_client){.identity = SLICE(SERVER_ID)});
    assert_open(&pair);
    assert_moves(&pair, CLIENT, SLICE("over TLS 1.2"));
    assert_moves(&pair, SERVER, SLICE("too"));
    pair_fini(&pair);
}

static void keys_that_have_not_come_yet(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    keys_of(&pair.keys[SERVER], NULL, test_ca_trust(pair.ca));
    keys_of(&pair.keys[CLIENT], test_ca_identity(pair.ca, &(struct test_leaf){.uri = CLIENT_ID}),
            NULL);
    pair_connect(&pair, &no_limits, NULL);
    pair_handshake(&pair);
    assert_int_equal(pair.results[SERVER], IO_RESET);
    assert_string_equal(pair.errors[SERVER].text, "there is no certificate of our own yet");
    assert_int_equal(pair.results[CLIENT], IO_RESET);
    assert_string_equal(pair.errors[CLIENT].text, "there are no roots to trust yet");
    pair_fini(&pair);
}

static void names_that_cannot_be_sent(void **state)
{
    (void)state;
    static const char long_text[2000] = "x";
    const struct slice alpn[] = {slice_of(long_text, 256)};
    const struct tls_client bad[] = {{.sni = slice_of(long_text, 256)},
                                     {.sni = slice_of("a\0b", 3)},
                                     {.alpn = alpn, .alpn_count = 1}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct pair pair;
        pair_init(&pair);
        pair_connect(&pair, &no_limits, &bad[i]);
        assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_RESET);
        assert_int_equal(strncmp(pair.errors[CLIENT].text, "the ", 4), 0);
        assert_int_equal(pipe_net_waiting(pair.nets[SERVER]), 0);
        pair_fini(&pair);
    }
}

/* A server that answers without TLS, and a client that speaks without. */
static void a_peer_that_speaks_no_tls(void **state)
{
    (void)state;
    struct pair pair;
    struct iovec http = {(void *)(uintptr_t) "HTTP/1.1 400 Bad Request\r\n\r\n", 28};
    size_t sent = 0;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_int_equal(net_send(pair.nets[SERVER], &http, 1, &sent), IO_OK);
    assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_RESET);
    assert_string_equal(pair.errors[CLIENT].text, "peer does not speak TLS");
    pair_disconnect(&pair);
    struct iovec get = {(void *)(uintptr_t) "GET / HTTP/1.1\r\n\r\n", 18};
    pair_connect(&pair, &no_limits, NULL);
    assert_int_equal(net_send(pair.nets[CLIENT], &get, 1, &sent), IO_OK);
    assert_int_equal(conn_handshake(pair.conns[SERVER], &pair.errors[SERVER]), IO_RESET);
    assert_string_equal(pair.errors[SERVER].text, "peer speaks HTTP without TLS");
    pair_fini(&pair);
}

static void a_peer_that_leaves_in_the_handshake(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_AGAIN);
    pair.nets[SERVER]->ops->shutdown_send(pair.nets[SERVER]);
    assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_RESET);
    assert_string_equal(pair.errors[CLIENT].text,
                        "peer closed the connection during the handshake");
    pair_disconnect(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_AGAIN);
    conn_reset(&pair.conns[SERVER]);
    assert_int_equal(conn_handshake(pair.conns[CLIENT], &pair.errors[CLIENT]), IO_RESET);
    assert_string_equal(pair.errors[CLIENT].text, "connection reset by peer");
    pair_fini(&pair);
}

/* ----------------------------------------------------------------------------- rotation and cache
 */

static void a_new_certificate_for_new_connections(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    struct conn *old[SIDES] = {pair.conns[0], pair.conns[1]};
    uint8_t old_hash[32];
    (void)memcpy(old_hash, conn_peer(old[CLIENT])->leaf_hash, sizeof old_hash);
    struct tls_identity *renewed =
        test_ca_identity(pair.ca, &(struct test_leaf){.uri = SERVER_ID, .uid = "uid-of-orders"});
    tls_keys_set_identity_take(&pair.keys[SERVER], &renewed);
    assert_null(renewed);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    assert_memory_not_equal(old_hash, conn_peer(pair.conns[CLIENT])->leaf_hash, 32);
    assert_moves(&pair, SERVER, SLICE("new"));
    pair_disconnect(&pair);
    pair.conns[0] = old[0];
    pair.conns[1] = old[1];
    assert_moves(&pair, SERVER, SLICE("the old one lives"));
    pair_fini(&pair);
}

static void a_root_that_was_removed(void **state)
{
    (void)state;
    struct pair pair;
    struct test_ca *other = test_ca_new("new root");
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    struct error err = {{0}};
    assert_true(conn_tls_recheck(pair.conns[CLIENT], &err));
    char bundle[8192];
    (void)snprintf(bundle, sizeof bundle, "%.*s%.*s", SLICE_ARG(test_ca_get_root(pair.ca)),
                   SLICE_ARG(test_ca_get_root(other)));
    struct tls_trust *both = tls_trust_new(slice_of_text(bundle), &err);
    assert_non_null(both);
    uint64_t before = tls_trust_get_id(pair.keys[CLIENT].trust);
    assert_int_not_equal(tls_trust_get_id(both), before);
    tls_keys_set_trust_take(&pair.keys[CLIENT], &both);
    assert_true(conn_tls_recheck(pair.conns[CLIENT], &err));
    struct tls_trust *only_new = test_ca_trust(other);
    tls_keys_set_trust_take(&pair.keys[CLIENT], &only_new);
    assert_false(conn_tls_recheck(pair.conns[CLIENT], &err));
    assert_non_null(strstr(err.text, "unknown issuer"));
    struct conn *old[SIDES] = {pair.conns[0], pair.conns[1]};
    pair_connect(&pair, &no_limits, NULL); /* the cache knows the chain, under another trust */
    assert_fails(&pair, "unknown issuer", "alert unknown_ca");
    pair_disconnect(&pair);
    pair.conns[0] = old[0];
    pair.conns[1] = old[1];
    assert_moves(&pair, CLIENT, SLICE("until its owner closes it"));
    pair_fini(&pair);
    test_ca_free(&other);
}

/* A chain that is remembered still ends in its time, and its names are looked at each time. */
static void a_chain_that_is_remembered(void **state)
{
    (void)state;
    struct pair pair;
    uint64_t next;
    pair_init(&pair);
    for (unsigned i = 0; i < 3; i++) {
        pair_connect(&pair, &no_limits, &(struct tls_client){.identity = SLICE(SERVER_ID)});
        assert_open(&pair);
        assert_true(slice_eq(conn_peer(pair.conns[SERVER])->identity, SLICE(CLIENT_ID)));
        pair_disconnect(&pair);
    }
    pair_connect(&pair, &no_limits, &(struct tls_client){.identity = SLICE(CLIENT_ID)});
    assert_fails(&pair, "is not " CLIENT_ID, "alert bad_certificate");
    pair_disconnect(&pair);
    (void)loop_step(pair.loop, 2, TEST_CA_NOW_US + 2 * TEST_CA_DAY_US, &next);
    pair_connect(&pair, &no_limits, NULL);
    assert_fails(&pair, "expired", "expired");
    pair_fini(&pair);
}

/* ------------------------------------------------------------------------------------- the stream
 */

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

/* Sends `total` bytes each way at once under the limits; checks each byte, and that what waits
 * inside stays bounded. */
static void transfer(const struct pipe_limits *limits, size_t total, size_t piece, size_t room)
{
    struct pair pair;
    struct buf out[SIDES];
    size_t queued[SIDES] = {0, 0};
    size_t received[SIDES] = {0, 0};
    uint8_t *into = mem_raw(room);
    pair_init(&pair);
    pair.options[CLIENT].rekey_records = 3; /* new keys all the time */
    pair.options[SERVER].rekey_records = 5;
    pair_connect(&pair, limits, NULL);
    assert_open(&pair);
    for (unsigned side = 0; side < SIDES; side++) {
        buf_init(&out[side], &pair.loop->bufs);
    }
    for (unsigned round = 0; received[0] < total || received[1] < total; round++) {
        assert_true(round < 400000);
        for (unsigned side = 0; side < SIDES; side++) {
            while (queued[side] < total && out[side].len < 100000) {
                uint8_t bytes[512];
                size_t len = total - queued[side] < piece ? total - queued[side] : piece;
                for (size_t i = 0; i < len; i++) {
                    bytes[i] = pattern(queued[side] + i);
                }
                buf_append(&out[side], slice_of(bytes, len));
                queued[side] += len;
            }
            assert_int_not_equal(conn_send(pair.conns[side], &out[side]), IO_RESET);
            size_t got = 0;
            enum io result = conn_recv(pair.conns[side], (struct span){into, room}, &got);
            assert_true(result == IO_OK || result == IO_AGAIN);
            for (size_t i = 0; i < got; i++) {
                assert_int_equal(into[i], pattern(received[side] + i));
            }
            received[side] += got;
        }
        /* 100 KB of plain text, 64 KiB and one record of sealed text, a side; whole chunks. */
        assert_true(pair.loop->bufs.bytes < 2 * (100000 + 6 * 16384 + 10 * 16384));
    }
    for (unsigned side = 0; side < SIDES; side++) {
        assert_true(buf_empty(&out[side]));
        buf_clear(&out[side]);
    }
    mem_free(into);
    pair_fini(&pair);
}

static void much_in_both_directions(void **state)
{
    (void)state;
    transfer(&no_limits, 3000000, 512, 65536);
    transfer(&(struct pipe_limits){.room = 5000}, 300000, 100, 65536);
    transfer(&(struct pipe_limits){.recv_max = 7, .send_max = 1000, .room = 3000}, 60000, 33, 100);
    transfer(&(struct pipe_limits){.recv_max = 1, .send_max = 1}, 3000, 500, 9);
}

/* Many small pieces of one tick are one record and one call. */
static void small_pieces_travel_together(void **state)
{
    (void)state;
    struct pair pair;
    struct buf out;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    buf_init(&out, &pair.loop->bufs);
    static const char text[] = "0123456789";
    for (unsigned i = 0; i < 100; i++) {
        buf_borrow(&out, slice_of(text, 10)); /* pieces of their own */
    }
    unsigned before = pipe_net_calls(pair.nets[CLIENT]);
    assert_int_equal(conn_send(pair.conns[CLIENT], &out), IO_OK);
    assert_int_equal(pipe_net_calls(pair.nets[CLIENT]), before + 1);
    assert_int_equal(pipe_net_waiting(pair.nets[SERVER]), 1000 + 5 + 1 + 16); /* one record */
    uint8_t into[2000];
    size_t got = 0;
    before = pipe_net_calls(pair.nets[SERVER]);
    assert_int_equal(conn_recv(pair.conns[SERVER], (struct span){into, 10}, &got), IO_OK);
    assert_int_equal(got, 10);
    assert_true(conn_pending(pair.conns[SERVER])); /* which no event announces */
    assert_int_equal(conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got), IO_OK);
    assert_int_equal(got, 990);
    assert_int_equal(pipe_net_calls(pair.nets[SERVER]), before + 1);
    assert_false(conn_pending(pair.conns[SERVER]));
    assert_int_equal(conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got),
                     IO_AGAIN);
    buf_clear(&out);
    pair_fini(&pair);
}

/* Half of a record is nothing to read. */
static void half_a_record_is_not_pending(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t record[64];
    uint8_t into[64];
    size_t got = 0;
    size_t sent = 0;
    struct buf out;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    buf_init(&out, &pair.loop->bufs);
    buf_append(&out, SLICE("a whole record"));
    assert_int_equal(conn_send(pair.conns[CLIENT], &out), IO_OK);
    size_t len = pipe_net_waiting(pair.nets[SERVER]);
    assert_int_equal(net_recv(pair.nets[SERVER], (struct span){record, sizeof record}, &got),
                     IO_OK);
    assert_int_equal(got, len);
    for (size_t i = 0; i < len; i++) {
        struct iovec byte = {record + i, 1};
        assert_int_equal(net_send(pair.nets[CLIENT], &byte, 1, &sent), IO_OK);
        enum io result = conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got);
        assert_int_equal(result, i + 1 < len ? IO_AGAIN : IO_OK);
        assert_false(conn_pending(pair.conns[SERVER]));
    }
    assert_true(slice_eq(slice_of(into, got), SLICE("a whole record")));
    pair_fini(&pair);
}

static void an_end_and_a_cut(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t into[16];
    size_t got = 0;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    conn_shutdown_send(pair.conns[CLIENT]);
    conn_shutdown_send(pair.conns[CLIENT]); /* twice is once */
    assert_int_equal(conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got), IO_EOF);
    assert_false(conn_pending(pair.conns[SERVER]));
    assert_moves(&pair, SERVER, SLICE("half open")); /* the other direction still flows */
    conn_close(&pair.conns[SERVER]);                 /* with close_notify of its own */
    assert_int_equal(conn_recv(pair.conns[CLIENT], (struct span){into, sizeof into}, &got), IO_EOF);
    pair_disconnect(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    pair.nets[CLIENT]->ops->shutdown_send(pair.nets[CLIENT]); /* FIN without close_notify */
    assert_int_equal(conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got),
                     IO_RESET);
    assert_non_null(
        strstr((const char *)conn_tls_failure(pair.conns[SERVER]).at, "without close_notify"));
    conn_reset(&pair.conns[SERVER]);
    conn_reset(&pair.conns[CLIENT]);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    conn_reset(&pair.conns[SERVER]);
    assert_int_equal(conn_recv(pair.conns[CLIENT], (struct span){into, sizeof into}, &got),
                     IO_RESET);
    assert_string_equal((const char *)conn_tls_failure(pair.conns[CLIENT]).at,
                        "connection reset by peer");
    pair_fini(&pair);
}

/* close_notify that finds no room leaves later, and FIN after it. */
static void an_end_that_has_to_wait(void **state)
{
    (void)state;
    struct pair pair;
    struct buf out;
    uint8_t into[4096];
    size_t got = 0;
    size_t total = 0;
    pair_init(&pair);
    pair_connect(&pair, &(struct pipe_limits){.room = 3000}, NULL);
    assert_open(&pair);
    buf_init(&out, &pair.loop->bufs);
    for (unsigned i = 0; i < 20; i++) {
        buf_append(&out, slice_of(into, 1000));
    }
    assert_int_equal(conn_send(pair.conns[CLIENT], &out), IO_AGAIN);
    assert_true(buf_empty(&out)); /* all of it is inside */
    assert_int_equal(pair.nets[CLIENT]->wanted & NET_WRITE, NET_WRITE);
    conn_shutdown_send(pair.conns[CLIENT]);
    enum io result = IO_AGAIN;
    for (unsigned round = 0; round < 1000 && result != IO_EOF; round++) {
        result = conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got);
        total += got;
        (void)conn_send(pair.conns[CLIENT], &out);
    }
    assert_int_equal(result, IO_EOF);
    assert_int_equal(total, 20000);
    pair_fini(&pair);
}

static void a_damaged_record(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t into[64];
    size_t got = 0;
    pair_init(&pair);
    pair_connect(&pair, &no_limits, NULL);
    assert_open(&pair);
    uint8_t junk[40] = {23, 3, 3, 0, 35};
    struct iovec vector = {junk, sizeof junk};
    size_t sent = 0;
    assert_int_equal(net_send(pair.nets[CLIENT], &vector, 1, &sent), IO_OK);
    assert_int_equal(conn_recv(pair.conns[SERVER], (struct span){into, sizeof into}, &got),
                     IO_RESET);
    assert_string_equal((const char *)conn_tls_failure(pair.conns[SERVER]).at,
                        "a record was damaged on its way");
    struct buf out;
    buf_init(&out, &pair.loop->bufs);
    assert_int_equal(conn_send(pair.conns[SERVER], &out), IO_RESET);
    pair_fini(&pair);
}

/* Moves what OpenSSL has written to the pipe, and what came through it to OpenSSL. */
static void pump(SSL *peer, struct net_conn *net)
{
    uint8_t bytes[4096];
    int len;
    size_t size = 0;
    while ((len = BIO_read(SSL_get_wbio(peer), bytes, sizeof bytes)) > 0) {
        struct iovec vector = {bytes, (size_t)len};
        assert_int_equal(net_send(net, &vector, 1, &size), IO_OK);
    }
    while (net_recv(net, (struct span){bytes, sizeof bytes}, &size) == IO_OK) {
        assert_int_equal(BIO_write(SSL_get_rbio(peer), bytes, (int)size), size);
    }
}

static void change_keys(SSL *peer, unsigned times)
{
    while (times-- > 0) {
        assert_int_equal(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(peer), 1);
    }
}

/* A client of OpenSSL alone, which says what ours never would. */
static void a_peer_that_changes_keys_all_the_time(void **state)
{
    (void)state;
    struct pair pair;
    uint8_t into[64];
    size_t got = 0;
    pair_init(&pair);
    pair.options[SERVER].verify = TLS_VERIFY_NONE;
    pair_connect(&pair, &no_limits, NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *peer = SSL_new(context);
    SSL_set_bio(peer, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(peer);
    for (unsigned i = 0; i < 4; i++) {
        (void)SSL_do_handshake(peer);
        pump(peer, pair.nets[CLIENT]);
        pair.results[SERVER] = conn_handshake(pair.conns[SERVER], &pair.errors[SERVER]);
        pump(peer, pair.nets[CLIENT]);
    }
    assert_int_equal(pair.results[SERVER], IO_OK);
    struct span room = {into, sizeof into};
    for (unsigned round = 0; round < 10; round++) { /* often, with bytes in between, is fine */
        change_keys(peer, 20);
        assert_int_equal(SSL_write(peer, "x", 1), 1);
        pump(peer, pair.nets[CLIENT]);
        assert_int_equal(conn_recv(pair.conns[SERVER], room, &got), IO_OK);
        assert_int_equal(got, 1);
        assert_false(conn_pending(pair.conns[SERVER]));
        pump(peer, pair.nets[CLIENT]);
        assert_int_equal(SSL_read(peer, into, 1), -1); /* it takes the answers */
    }
    enum io result = IO_AGAIN;
    for (unsigned round = 0; round < 100 && result == IO_AGAIN; round++) {
        change_keys(peer, 30); /* and never reads the answers */
        pump(peer, pair.nets[CLIENT]);
        result = conn_recv(pair.conns[SERVER], room, &got);
    }
    assert_int_equal(result, IO_RESET);
    assert_non_null(strstr((const char *)conn_tls_failure(pair.conns[SERVER]).at, "changes keys"));
    SSL_free(peer);
    SSL_CTX_free(context);
    pair_fini(&pair);
}

/* --------------------------------------------------------------------------- what is refused */

static void options_that_make_no_context(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct tls_options options = tls_options_mesh(true);
    options.groups = "X25519:nonsense";
    assert_null(tls_context_new(&options, &err));
    assert_non_null(strstr(err.text, "groups \"X25519:nonsense\""));
    options = tls_options_mesh(true);
    options.signatures = "nonsense";
    assert_null(tls_context_new(&options, &err));
    assert_non_null(strstr(err.text, "signature algorithms"));
    options = tls_options_mesh(true);
    options.ciphers = "nonsense";
    assert_null(tls_context_new(&options, &err));
    assert_non_null(strstr(err.text, "cipher suites"));
    options = tls_options_mesh(true);
    options.max = TLS_VERSION_1_2;
    assert_null(tls_context_new(&options, &err));
    options = tls_options_mesh(true);
    options.mesh_identity = false;
    assert_null(tls_context_new(&options, &err));
    assert_string_equal(err.text, "a server needs a certificate");
    options = tls_options_mesh(false);
    options.mesh_trust = false;
    assert_null(tls_context_new(&options, &err));
    struct slice empty = SLICE("");
    options = tls_options_mesh(false);
    options.alpn = &empty;
    options.alpn_count = 1;
    assert_null(tls_context_new(&options, &err));
}

static void chains_and_bundles_that_are_none(void **state)
{
    (void)state;
    struct error err = {{0}};
    struct test_ca *ca = test_ca_new("root");
    struct crypto_key *key = crypto_key_new();
    struct crypto_key *other = crypto_key_new();
    char *pem = test_ca_issue(ca, key, &(struct test_leaf){.uri = CLIENT_ID});
    assert_null(tls_identity_new(slice_of_text(pem), other, &err));
    assert_string_equal(err.text, "the private key is not that of the certificate");
    assert_null(tls_identity_new(SLICE("nothing"), key, &err));
    assert_string_equal(err.text, "no certificate in PEM");
    assert_null(tls_trust_new(SLICE(""), &err));
    assert_null(tls_trust_new(slice_of(pem, strlen(pem) / 3), &err));
    assert_non_null(strstr(err.text, "certificate 1"));
    struct tls_identity *identity = tls_identity_new(slice_of_text(pem), key, &err);
    assert_non_null(identity);
    assert_string_equal(tls_identity_get_names(identity)->identity, CLIENT_ID);
    assert_int_equal(tls_identity_get_validity(identity)->not_after_us,
                     TEST_CA_NOW_US + TEST_CA_DAY_US);
    assert_true(strlen(tls_identity_get_validity(identity)->serial) > 0);
    tls_identity_unref(&identity);
    crypto_key_unref(&key);
    crypto_key_unref(&other);
    mem_free(pem);
    test_ca_free(&ca);
}

int main(void)
{
    crypto_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_peers_of_one_mesh),
        cmocka_unit_test(the_servers_order_of_protocols_decides),
        cmocka_unit_test(one_byte_at_a_time),
        cmocka_unit_test(a_hello_that_was_read_early),
        cmocka_unit_test(another_identity_than_wanted),
        cmocka_unit_test(another_pod_at_the_same_address),
        cmocka_unit_test(a_client_that_no_match_welcomes),
        cmocka_unit_test(every_kind_of_match),
        cmocka_unit_test(a_certificate_out_of_its_time),
        cmocka_unit_test(an_issuer_that_nobody_knows),
        cmocka_unit_test(a_client_certificate_serves_no_server),
        cmocka_unit_test(a_client_without_a_certificate),
        cmocka_unit_test(a_peer_that_is_not_verified_has_no_name),
        cmocka_unit_test(no_version_in_common),
        cmocka_unit_test(tls_1_2_where_it_is_allowed),
        cmocka_unit_test(keys_that_have_not_come_yet),
        cmocka_unit_test(names_that_cannot_be_sent),
        cmocka_unit_test(a_peer_that_speaks_no_tls),
        cmocka_unit_test(a_peer_that_leaves_in_the_handshake),
        cmocka_unit_test(a_new_certificate_for_new_connections),
        cmocka_unit_test(a_root_that_was_removed),
        cmocka_unit_test(a_chain_that_is_remembered),
        cmocka_unit_test(much_in_both_directions),
        cmocka_unit_test(small_pieces_travel_together),
        cmocka_unit_test(half_a_record_is_not_pending),
        cmocka_unit_test(an_end_and_a_cut),
        cmocka_unit_test(an_end_that_has_to_wait),
        cmocka_unit_test(a_damaged_record),
        cmocka_unit_test(a_peer_that_changes_keys_all_the_time),
        cmocka_unit_test(options_that_make_no_context),
        cmocka_unit_test(chains_and_bundles_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
