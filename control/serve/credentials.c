#include "control/serve/credentials.h"

#include <stdio.h>
#include <string.h>

#include "base/token.h"

static bool certificate_check(const struct credentials *credentials,
                              const struct http_request *request, struct caller *caller,
                              struct error *err)
{
    if (!spiffe_is_in(request->identity, credentials->trust_domain)) {
        return error_set(err, "the certificate names %.*s, which is not in trust domain %.*s",
                         SLICE_ARG(request->identity), SLICE_ARG(credentials->trust_domain));
    }
    if (request->identity.len >= sizeof caller->identity ||
        request->uid.len >= sizeof caller->uid) {
        return error_set(err, "the names in the certificate are too long");
    }
    memcpy(caller->identity, request->identity.at, request->identity.len);
    if (request->uid.len > 0) {
        memcpy(caller->uid, request->uid.at, request->uid.len);
    }
    return true;
}

static bool token_check(const struct credentials *credentials, struct slice token, uint64_t wall_us,
                        struct caller *caller, struct error *err)
{
    struct token_subject subject;
    if (!token_verify(credentials->token_key, token, wall_us, &subject, err)) {
        return false;
    }
    struct spiffe_id id = {credentials->trust_domain, slice_of_text(subject.namespace),
                           slice_of_text(subject.account)};
    if (spiffe_format(&id, caller->identity) == 0) {
        return error_set(err, "the service account of the token makes no SPIFFE id");
    }
    caller->by_token = true;
    return true;
}

bool credentials_check(const struct credentials *credentials, const struct http_request *request,
                       uint64_t wall_us, struct caller *caller, struct error *err)
{
    *caller = (struct caller){0};
    if (!request->tls) {
        return true;
    }
    if (request->identity.len > 0) {
        return certificate_check(credentials, request, caller, err);
    }
    struct slice token = http_request_bearer(request);
    if (token.len == 0) {
        return error_set(err, "neither a client certificate nor \"authorization: Bearer TOKEN\"");
    }
    return token_check(credentials, token, wall_us, caller, err);
}
