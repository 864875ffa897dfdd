#pragma once
/* Istio's certificate service, over the authority of control/serve/ca: a caller that proved who it
 * is by a token, or by a certificate that it has, gets a certificate for just that identity.
 * Whatever names its request carries are not looked at. On the loop's thread. */

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"
#include "control/serve/ca.h"
#include "control/serve/credentials.h"
#include "http/server.h"

struct loop;

#define CA_SERVICE_PATH  "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define CA_REQUEST_BYTES 65536U

struct ca_service;

struct ca_service_counts {
    uint64_t issued;
    uint64_t refused;
};

/* `ca` and `credentials` are borrowed, and outlive it. */
struct ca_service *ca_service_new(struct loop *loop, const struct ca *ca,
                                  const struct credentials *credentials) MUST_USE;
void ca_service_free(struct ca_service **service);

/* A call at CA_SERVICE_PATH. */
void ca_service_answer_take(struct ca_service *service, struct http_call **call);
struct ca_service_counts ca_service_get_counts(const struct ca_service *service);
/* When the newest certificate of that identity (and pod, where its id was proved) ends, wall time;
 * 0: none was issued since the start. */
uint64_t ca_service_not_after(const struct ca_service *service, struct slice identity,
                              struct slice uid);
