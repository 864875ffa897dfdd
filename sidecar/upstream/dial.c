#include "sidecar/upstream/dial.h"

#include "base/conn_tls.h"
#include "sidecar/alpn.h"
#include "sidecar/worker.h"

/* More in the kernel's queue would only make a small answer wait behind a large one. */
#define MUX_NOTSENT_BYTES (64 * 1024)
#define DEAD_PEER_S       30 /* a peer that acknowledges nothing for so long is gone */

static enum fail fail_of(enum net_error error)
{
    switch (error) {
    case NET_ERROR_REFUSED:
        return FAIL_CONNECT_REFUSED;
    case NET_ERROR_TIMEOUT:
        return FAIL_CONNECT_TIMEOUT;
    case NET_ERROR_UNREACHABLE:
    case NET_ERROR_LIMIT:
        return FAIL_CONNECT_UNREACHABLE;
    case NET_ERROR_NONE:
    case NET_ERROR_RESET:
    case NET_ERROR_OTHER:
        break;
    }
    return FAIL_CONNECT_RESET;
}

static bool offers(const struct tls_config *tls, enum alpn_codec codec)
{
    for (unsigned i = 0; i < tls->alpn_count; i++) {
        if (alpn_codec_of(tls->alpn[i]) == codec) {
            return true;
        }
    }
    return false;
}

/* Among sidecars everything is a stream of HTTP/2, whatever the application speaks. */
static bool offers_h2(const struct tls_config *tls)
{
    return offers(tls, ALPN_HTTP2);
}

void dial_watch_peer(struct net_conn *net)
{
    net->ops->set_option(net, NET_KEEPALIVE_S, DEAD_PEER_S);
    net->ops->set_option(net, NET_NOTSENT_LOWAT, MUX_NOTSENT_BYTES);
    net->ops->set_option(net, NET_USER_TIMEOUT_MS, DEAD_PEER_S * 1000);
}

struct conn *dial_start(struct worker *worker, struct endpoint *endpoint, enum fail *fail)
{
    const struct addr *to = &endpoint->config.addr;
    const struct cluster_config *cluster = endpoint->cluster->config;
    const struct addr *from = &cluster->bind[to->family == ADDR_IPV6];
    enum net_error error;
    CHECK(to->family != ADDR_NONE); /* names become addresses before they are endpoints */
    struct net_conn *net =
        net_connect(worker->loop, to, from->family == to->family ? from : NULL, &error);
    if (net == NULL) {
        *fail = fail_of(error);
        return NULL;
    }
    const struct tls_config *tls = endpoint->tls;
    if (tls == NULL) {
        return conn_plain(&net, (struct slice){NULL, 0});
    }
    if (offers_h2(tls)) {
        dial_watch_peer(net);
    }
    struct tls_client how = {.keys = &worker->keys,
                             .context = tls->context,
                             .sni = tls->sni,
                             .identity = endpoint->config.identity,
                             .uid = endpoint->config.uid};
    how.identity.len = MUTANT(40) ? 0 : how.identity.len;
    return worker->keys.provider->client(&net, &how);
}

/* HTTP/1 may come of it where that was offered too, also from a peer that knows no ALPN. */
static bool agree(const struct conn *conn, const struct endpoint *endpoint,
                  enum pool_protocol *protocol)
{
    if (*protocol != POOL_HTTP2 || !conn->ops->tls ||
        alpn_codec_of(conn_alpn(conn)) == ALPN_HTTP2) {
        return true;
    }
    *protocol = POOL_HTTP1;
    return endpoint->tls != NULL && offers(endpoint->tls, ALPN_HTTP1);
}

enum dial_step dial_drive(struct conn *conn, const struct endpoint *endpoint,
                          enum pool_protocol *protocol, enum fail *fail, struct error *err)
{
    bool connecting = conn->net->connecting;
    switch (conn_handshake(conn, err)) {
    case IO_OK:
        if (!agree(conn, endpoint, protocol)) {
            *fail = FAIL_TLS;
            (void)error_set(err, "the peer did not agree on HTTP/2 (ALPN)");
            return DIAL_FAILED;
        }
        return DIAL_READY;
    case IO_AGAIN:
        return DIAL_WAIT;
    case IO_EOF:
    case IO_RESET:
        break;
    }
    enum net_error error = conn->net->ops->error(conn->net);
    /* A refusal is known as one also when its event had come before the handshake was driven. */
    bool unreached = connecting || error == NET_ERROR_REFUSED || error == NET_ERROR_UNREACHABLE;
    bool in_handshake = conn->ops->tls && !unreached;
    enum fail of_tls = conn->peer_refused ? FAIL_TLS_PEER : FAIL_TLS;
    *fail = in_handshake ? of_tls : fail_of(error);
    return DIAL_FAILED;
}

struct codec *dial_mux_codec(struct worker *worker, const struct conn *conn)
{
    return worker_h2(worker, CODEC_CLIENT, conn_alpn(conn));
}

enum pool_protocol dial_protocol(const struct endpoint *endpoint, const struct message *request)
{
    if (endpoint->tls != NULL && offers_h2(endpoint->tls)) {
        return endpoint->chose_http1 ? POOL_HTTP1 : POOL_HTTP2;
    }
    if (request->connect) {
        return POOL_RAW;
    }
    switch (endpoint->cluster->config->protocol) {
    case CLUSTER_PROTOCOL_HTTP2:
        return POOL_HTTP2;
    case CLUSTER_PROTOCOL_DOWNSTREAM:
        return message_spoke_http2(request) ? POOL_HTTP2 : POOL_HTTP1;
    case CLUSTER_PROTOCOL_HTTP1:
    case CLUSTER_PROTOCOL_ALPN:
        break;
    }
    return POOL_HTTP1;
}
