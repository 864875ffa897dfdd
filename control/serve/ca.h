#pragma once
/* The mesh's certificate authority. It signs what the caller has established, never what a request
 * claims: of a request it takes the public key alone (whose private half the request proves), the
 * names come from the caller. One thread; no I/O after ca_open. */

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"
#include "base/tls.h"

struct ca;

#define CA_TTL_DEFAULT_S      (24U * 60 * 60)
#define CA_BACKDATE_DEFAULT_S 60U
#define CA_CHAIN_MAX          5

struct ca_options {
    const char *folder;    /* STATE/ca: the authority is made there at the first start (0700) */
    const char *cert_path; /* given instead: issuer's certificate first, then its issuers, PEM */
    const char *key_path;  /* and the issuer's key; both or none */
    struct slice trust_domain;
    uint32_t ttl_s;      /* of a leaf, at most; 0: CA_TTL_DEFAULT_S */
    uint32_t backdate_s; /* how far a leaf begins in the past, for clocks that differ */
};

/* Null with *err, which names the file and what is wrong with it. */
struct ca *ca_open(const struct ca_options *options, uint64_t wall_us, struct error *err) MUST_USE;
void ca_free(struct ca **ca);

/* What peers and --mesh-root are given to believe: the last certificate of the chain, PEM. Borrowed
 * from the authority. */
struct slice ca_get_root(const struct ca *ca);
/* "spiffe://TD/ns/pillion-system/sa/pillion-control"; borrowed. */
struct slice ca_get_control_identity(const struct ca *ca);

/* Who gets a certificate. */
struct ca_subject {
    struct slice identity; /* a valid SPIFFE id, in the authority's trust domain */
    struct slice uid;      /* the pod's unique id; empty: not proved */
    uint32_t ttl_s;        /* wanted; 0, or more than the options allow: the options' */
};

/* A leaf and its issuers up to the root, one PEM text each. */
struct ca_chain {
    char *pems[CA_CHAIN_MAX];
    size_t count;
    uint64_t not_after_us;
};
void ca_chain_fini(struct ca_chain *chain);

/* Signs for the key of the request (PKCS#10, PEM; at most 16 KiB). False with *err: not a request,
 * not signed by its own key, a weak key, a subject that is not ours, an authority that has expired.
 */
bool ca_issue(const struct ca *ca, struct slice request_pem, const struct ca_subject *subject,
              uint64_t wall_us, struct ca_chain *chain, struct error *err) MUST_USE;

/* The control plane's own certificate, with a fresh key that is nowhere else; `dns`: names under
 * which clients that know no SPIFFE reach it. Null with *err. */
struct tls_identity *ca_issue_own(const struct ca *ca, const struct slice *dns, size_t dns_count,
                                  uint64_t wall_us, struct error *err) MUST_USE;
