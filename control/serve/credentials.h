#pragma once
/* Who a caller of the TLS port is: the identity in its certificate, or the service account of its
 * token. Pure but for the log. */

#include <stdbool.h>

#include "base/check.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"
#include "base/spiffe.h"
#include "http/server.h"

struct credentials {
    const struct crypto_key *token_key;
    struct slice trust_domain;
};

struct caller {
    char identity[SPIFFE_TEXT_MAX + 1]; /* empty: nothing proved (the plain port) */
    char uid[SPIFFE_UID_MAX + 1];       /* of a certificate; empty: none */
    bool by_token;
};

/* False with what is wrong with the token, or that there is neither: UNAUTHENTICATED. A certificate
 * has been checked by TLS; it decides where both are there. Without TLS: true, nothing proved. */
bool credentials_check(const struct credentials *credentials, const struct http_request *request,
                       uint64_t wall_us, struct caller *caller, struct error *err) MUST_USE;
