#pragma once
/* Who this sidecar is: a key that never leaves memory, and the certificate for it, which the
 * control plane signs in exchange for the service account's token, or for the certificate before.
 * It is renewed at about half of its life; connections live on over that. The admin thread's, which
 * hands certificate and roots to each worker by mail. */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/loop.h"
#include "base/tls.h"
#include "http/grpc_client.h"

struct control_place;
struct worker;

struct identity_options {
    struct loop *loop;
    struct control_place *place; /* of the control plane; outlives the identity */
    const char *authority;       /* HOST:PORT as it was given, for ":authority" */
    const char *mesh_root;       /* PEM file; read again with each certificate */
    const char *token_file;      /* read again whenever it is needed */
    const char *trust_domain;    /* of the mesh */
    const char *namespace;       /* of the service account */
    const char *account;
    struct worker **workers; /* who get what comes; as long as this */
    unsigned worker_count;
    struct task *changed; /* posted with each new certificate; may be null */
    uint64_t seed;        /* of jitter */
};

struct identity;

/* The texts live as long as the options' owner. Asks at once. Null with *err where the roots cannot
 * be read, or the names make no SPIFFE id. */
struct identity *identity_new(const struct identity_options *options, struct error *err) MUST_USE;
void identity_free(struct identity **identity);

/* The SPIFFE id; as long as the identity. */
struct slice identity_get_id(const struct identity *identity);
/* Of the certificate in use; null: none came yet. Until the next one. */
const struct tls_validity *identity_get_validity(const struct identity *identity);
/* A certificate is there and has not ended. */
bool identity_is_valid(const struct identity *identity);
/* A connection to the control plane came to nothing. The next one goes to another of its addresses.
 * Our certificate may be one that it does not know (any more): asks for another, with the token;
 * not more often than every 2 s. */
void identity_doubt(struct identity *identity);
/* Why the last attempt to get one failed; empty: it did not. */
const char *identity_get_trouble(const struct identity *identity);

/* A connection to the control plane, which must show the mesh's certificate for it: with our
 * certificate where it is valid, else *authorization (in the arena) is what to say instead. Null
 * with *err where there is neither. */
struct grpc_client *identity_connect(struct identity *identity, struct task *owner,
                                     struct arena *arena, struct slice *authorization,
                                     struct error *err) MUST_USE;
