#include "control/serve/ca_service.h"

#include <stdio.h>
#include <string.h>

#include "istio/v1/auth/auth.pb-c.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "http/grpc.h"
#include "xds/decode.h"

/* What is remembered for /api/status only; beyond it the oldest are not worth their memory. */
#define REMEMBERED_MAX 100000U

struct issued {
    uint64_t not_after_us;
};

struct ca_service {
    struct loop *loop;
    const struct ca *ca;
    const struct credentials *credentials;
    struct ca_service_counts counts;
    struct map issued; /* "identity uid" -> struct issued */
};

#define KEY_MAX (SPIFFE_TEXT_MAX + SPIFFE_UID_MAX + 2)

static struct slice key_of(char key[KEY_MAX], struct slice identity, struct slice uid)
{
    int len = snprintf(key, KEY_MAX, "%.*s %.*s", SLICE_ARG(identity), SLICE_ARG(uid));
    return slice_of(key, len > 0 && len < KEY_MAX ? (size_t)len : 0);
}

struct ca_service *ca_service_new(struct loop *loop, const struct ca *ca,
                                  const struct credentials *credentials)
{
    struct ca_service *service = NEW(struct ca_service);
    service->loop = loop;
    service->ca = ca;
    service->credentials = credentials;
    /* Only identities that were proved become keys. */
    map_init(&service->issued, 0, MAP_KEYS_COPIED);
    return service;
}

static void issued_clear(struct ca_service *service)
{
    MAP_EACH(&service->issued, entry)
    {
        mem_free(entry->value);
    }
    map_fini(&service->issued);
    map_init(&service->issued, 0, MAP_KEYS_COPIED);
}

void ca_service_free(struct ca_service **service)
{
    if (*service != NULL) {
        issued_clear(*service);
        FREE(*service);
    }
}

static void remember(struct ca_service *service, const struct caller *caller, uint64_t not_after_us)
{
    char key[KEY_MAX];
    struct slice name = key_of(key, slice_of_text(caller->identity), slice_of_text(caller->uid));
    if (map_count(&service->issued) >= REMEMBERED_MAX) {
        issued_clear(service);
    }
    struct issued *issued = map_get(&service->issued, name);
    if (issued == NULL) {
        issued = NEW(struct issued);
        (void)map_set(&service->issued, name, issued);
    }
    issued->not_after_us = not_after_us;
}

uint64_t ca_service_not_after(const struct ca_service *service, struct slice identity,
                              struct slice uid)
{
    char key[KEY_MAX];
    const struct issued *issued = map_get(&service->issued, key_of(key, identity, uid));
    return issued != NULL ? issued->not_after_us : 0;
}

struct ca_service_counts ca_service_get_counts(const struct ca_service *service)
{
    return service->counts;
}

/* ---- a call ---- */

static void refuse(struct ca_service *service, struct http_call **call, enum grpc_status status,
                   const struct error *err)
{
    char peer[ADDR_TEXT_MAX];
    service->counts.refused++;
    log_limited(LOG_LEVEL_WARNING, "refused a certificate",
                LOG_TEXT("peer", addr_format(&http_call_get_request(*call)->peer, peer)),
                LOG_TEXT("status", grpc_status_name(status)), LOG_CAUSE(err));
    http_call_answer_grpc_take(call, status, slice_of_text(err->text), (struct slice){NULL, 0});
}

static void answer(struct http_call **call, struct arena *arena, const struct ca_chain *chain)
{
    Istio__V1__Auth__IstioCertificateResponse response;
    istio__v1__auth__istio_certificate_response__init(&response);
    char *pems[CA_CHAIN_MAX];
    for (size_t i = 0; i < chain->count; i++) {
        pems[i] = chain->pems[i];
    }
    response.n_cert_chain = chain->count;
    response.cert_chain = pems;
    http_call_answer_grpc_take(call, GRPC_OK, (struct slice){NULL, 0},
                               encode_message(arena, &response.base));
}

/* What a request asks for, of what it may. */
static uint32_t ttl_of(const Istio__V1__Auth__IstioCertificateRequest *request)
{
    if (request->validity_duration <= 0) {
        return 0;
    }
    return request->validity_duration < UINT32_MAX ? (uint32_t)request->validity_duration
                                                   : UINT32_MAX;
}

static void issue(struct ca_service *service, struct http_call **call, const struct caller *caller,
                  struct arena *arena)
{
    struct error err = {{0}};
    const Istio__V1__Auth__IstioCertificateRequest *request =
        decode_message(arena, &istio__v1__auth__istio_certificate_request__descriptor,
                       http_call_get_request(*call)->body, &err);
    if (request == NULL) {
        refuse(service, call, GRPC_INVALID_ARGUMENT, &err);
        return;
    }
    struct ca_subject subject = {.identity = slice_of_text(caller->identity),
                                 .uid = slice_of_text(caller->uid),
                                 .ttl_s = ttl_of(request)};
    struct ca_chain chain;
    if (!ca_issue(service->ca, slice_of_text(request->csr), &subject, service->loop->wall_us,
                  &chain, &err)) {
        refuse(service, call, GRPC_INVALID_ARGUMENT, &err);
        return;
    }
    service->counts.issued++;
    remember(service, caller, chain.not_after_us);
    log_limited(LOG_LEVEL_INFO, "certificate issued", LOG_TEXT("identity", caller->identity),
                LOG_TEXT("by", caller->by_token ? "token" : "certificate"));
    answer(call, arena, &chain);
    ca_chain_fini(&chain);
}

void ca_service_answer_take(struct ca_service *service, struct http_call **call)
{
    struct caller caller;
    struct error err = {{0}};
    if (!credentials_check(service->credentials, http_call_get_request(*call),
                           service->loop->wall_us, &caller, &err)) {
        refuse(service, call, GRPC_UNAUTHENTICATED, &err);
        return;
    }
    if (caller.identity[0] == '\0') {
        (void)error_set(&err, "certificates are given over TLS only");
        refuse(service, call, GRPC_UNAUTHENTICATED, &err);
        return;
    }
    struct arena arena;
    arena_init(&arena, NULL);
    issue(service, call, &caller, &arena);
    arena_fini(&arena);
}
