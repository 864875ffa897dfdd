#pragma once
/* How a connection to an endpoint comes about: address, source, TLS with the endpoint's identity,
 * and which codec the handshake agreed on. The pool owns the connection. One worker. */

#include <stdbool.h>

#include "base/conn.h"
#include "http/codec.h"
#include "sidecar/fail.h"
#include "sidecar/upstream/endpoint.h"
#include "sidecar/upstream/pool.h"

struct worker;

enum dial_step { DIAL_WAIT, DIAL_READY, DIAL_FAILED };

/* Begins to connect. Null with *fail. */
struct conn *dial_start(struct worker *worker, struct endpoint *endpoint, enum fail *fail) MUST_USE;
/* On readiness. READY: *protocol is what the handshake made of it. FAILED: *fail, and the reason
 * for people in *err. */
enum dial_step dial_drive(struct conn *conn, const struct endpoint *endpoint,
                          enum pool_protocol *protocol, enum fail *fail,
                          struct error *err) MUST_USE;
/* The HTTP/2 client codec for what the connection agreed on: frames of pillion-h2, or plain h2. */
struct codec *dial_mux_codec(struct worker *worker, const struct conn *conn) MUST_USE;
/* What an attempt should ask the pool for: by the endpoint's transport, the cluster's protocol and
 * the version in which the request came. */
enum pool_protocol dial_protocol(const struct endpoint *endpoint, const struct message *request);

/* Either end of a connection between sidecars: many requests hang on it, and new ones would go on
 * being put on it after the other machine has gone without a word. */
void dial_watch_peer(struct net_conn *net);
