#pragma once
/* The name of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, as text,
 * in a certificate and in a request for one (SPIFFE-ID and X509-SVID of the SPIFFE project). Any
 * thread. */

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"

/* OpenSSL's, by their own tags. */
struct x509_st;
struct X509_extension_st;

/* A longest name of ours: trust domain 255, namespace 63, service account 253, and the rest. */
#define SPIFFE_TEXT_MAX 640
#define SPIFFE_UID_MAX  64

/* The parts, borrowed from the text. */
struct spiffe_id {
    struct slice trust_domain;
    struct slice namespace;
    struct slice account;
};

/* Is it a SPIFFE id of any form: lower-case trust domain, a path of plain segments, without port,
 * query or fragment (SPIFFE-ID 2)? */
bool spiffe_is_valid(struct slice text) MUST_USE;
/* False too for ids of another form than ours. */
bool spiffe_parse(struct slice text, struct spiffe_id *id) MUST_USE;
/* Writes the id and a zero byte; returns its length. 0 where a part is empty, too long or has a
 * byte that is not allowed in it. */
size_t spiffe_format(const struct spiffe_id *id, char text[SPIFFE_TEXT_MAX + 1]) MUST_USE;
/* Is it an id in this trust domain? */
bool spiffe_is_in(struct slice text, struct slice trust_domain) MUST_USE;

/* Can it be a pod's unique id: 1 to SPIFFE_UID_MAX letters, digits, "-", "." or "_"? */
bool spiffe_is_uid(struct slice text) MUST_USE;

/* Whom a certificate names. */
struct spiffe_names {
    char identity[SPIFFE_TEXT_MAX + 1]; /* URI SAN; empty: none */
    char uid[SPIFFE_UID_MAX + 1];       /* Subject serialNumber: the pod's unique id; empty: none */
};

/* A certificate without SPIFFE id is in order (*names is empty then). False with *err where it has
 * a SPIFFE id that is not valid, or another URI beside it (X509-SVID 2: exactly one). */
bool spiffe_read_certificate(const struct x509_st *certificate, struct spiffe_names *names,
                             struct error *err) MUST_USE;
/* The same of the first certificate in PEM text. */
bool spiffe_read_pem(struct slice pem, struct spiffe_names *names, struct error *err) MUST_USE;

/* A certificate signing request (PKCS#10, PEM) of this key for this id; mem_free it. The key must
 * be private, the id valid. */
char *spiffe_request_new(const struct crypto_key *key, struct slice identity) MUST_USE;
/* The extension subjectAltName with this id and these DNS names, for those who make certificates.
 * Critical where the certificate has no Subject (RFC 5280 4.1.2.6). */
struct X509_extension_st *spiffe_extension_new(struct slice identity, const struct slice *dns,
                                               size_t dns_count, bool critical) MUST_USE;
