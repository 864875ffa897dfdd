#include "policy/translate_tls.h"

#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"

#define TLS(type)    Envoy__Extensions__TransportSockets__Tls__V3__##type
#define TLS_IS(name) ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__##name

static TLS(SdsSecretConfig) * secret(struct arena *arena, const char *name)
{
    TLS(SdsSecretConfig) *config =
        MESSAGE(arena, envoy__extensions__transport_sockets__tls__v3__sds_secret_config);
    config->name = pb_text(arena, name);
    config->sds_config = pb_ads(arena);
    return config;
}

static void san_add(struct arena *arena, TLS(CertificateValidationContext) * validation,
                    const char *text, bool exact)
{
    Envoy__Type__Matcher__V3__StringMatcher *matcher =
        MESSAGE(arena, envoy__type__matcher__v3__string_matcher);
    if (exact) {
        matcher->match_pattern_case = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT;
        matcher->exact = pb_text(arena, text);
    } else {
        matcher->match_pattern_case =
            ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX;
        matcher->prefix = pb_text(arena, text);
    }
    /* Of URI names only: a DNS name that looks like a SPIFFE id is none. */
    TLS(SubjectAltNameMatcher) *name =
        MESSAGE(arena, envoy__extensions__transport_sockets__tls__v3__subject_alt_name_matcher);
    name->san_type = TLS_IS(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI);
    name->matcher = matcher;
    ARRAY_PUSH(arena, validation->match_typed_subject_alt_names,
               validation->n_match_typed_subject_alt_names, name);
}

/* TLS 1.3 only: both ends are the mesh's. */
static TLS(CommonTlsContext) *
    common_context(struct arena *arena, TLS(CertificateValidationContext) * validation)
{
    TLS(CommonTlsContext) *common =
        MESSAGE(arena, envoy__extensions__transport_sockets__tls__v3__common_tls_context);
    common->tls_params =
        MESSAGE(arena, envoy__extensions__transport_sockets__tls__v3__tls_parameters);
    common->tls_params->tls_minimum_protocol_version =
        TLS_IS(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3);
    common->tls_params->tls_maximum_protocol_version =
        TLS_IS(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3);
    char *alpn = pb_text(arena, "pillion-h2");
    ARRAY_PUSH(arena, common->alpn_protocols, common->n_alpn_protocols, alpn);
    TLS(SdsSecretConfig) *certificate = secret(arena, "default");
    ARRAY_PUSH(arena, common->tls_certificate_sds_secret_configs,
               common->n_tls_certificate_sds_secret_configs, certificate);

    TLS(CommonTlsContext__CombinedCertificateValidationContext) *combined = MESSAGE(
        arena,
        envoy__extensions__transport_sockets__tls__v3__common_tls_context__combined_certificate_validation_context);
    combined->default_validation_context = validation;
    combined->validation_context_sds_secret_config = secret(arena, "ROOTCA");
    common->validation_context_type_case =
        TLS_IS(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT);
    common->combined_validation_context = combined;
    return common;
}

static CORE(TransportSocket) * tls_socket(struct arena *arena, const void *context)
{
    CORE(TransportSocket) *socket = MESSAGE(arena, envoy__config__core__v3__transport_socket);
    socket->name = pb_text(arena, "envoy.transport_sockets.tls");
    socket->config_type_case = CORE_IS(TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG);
    socket->typed_config = pb_any(arena, context);
    return socket;
}

CORE(TransportSocket) * tls_upstream(struct arena *arena, const char *sni,
                                     const char *const *identities, size_t count,
                                     const char *trust_domain)
{
    TLS(CertificateValidationContext) *validation = MESSAGE(
        arena, envoy__extensions__transport_sockets__tls__v3__certificate_validation_context);
    for (size_t i = 0; i < count; i++) {
        san_add(arena, validation, identities[i], true);
    }
    if (count == 0) {
        san_add(arena, validation, arena_printf(arena, "spiffe://%s/", trust_domain), false);
    }
    TLS(UpstreamTlsContext) *context =
        MESSAGE(arena, envoy__extensions__transport_sockets__tls__v3__upstream_tls_context);
    context->common_tls_context = common_context(arena, validation);
    context->sni = pb_text(arena, sni);
    return tls_socket(arena, context);
}

CORE(TransportSocket) * tls_downstream(struct arena *arena, const char *trust_domain)
{
    TLS(CertificateValidationContext) *validation = MESSAGE(
        arena, envoy__extensions__transport_sockets__tls__v3__certificate_validation_context);
    san_add(arena, validation, arena_printf(arena, "spiffe://%s/", trust_domain), false);
    TLS(DownstreamTlsContext) *context =
        MESSAGE(arena, envoy__extensions__transport_sockets__tls__v3__downstream_tls_context);
    context->common_tls_context = common_context(arena, validation);
    context->require_client_certificate = pb_bool(arena, true);
    return tls_socket(arena, context);
}
