#include "sidecar/config/compile_tls.h"

#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"

#include "sidecar/config/compile_match.h"
#include "sidecar/config/tls_make.h"

#define TLS(type)            Envoy__Extensions__TransportSockets__Tls__V3__##type
#define TLS_IS(name)         ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__##name
#define CORE(type)           Envoy__Config__Core__V3__##type
#define TLS_DESCRIPTOR(name) envoy__extensions__transport_sockets__tls__v3__##name##__descriptor
#define RAW_BUFFER           envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor

#define ALPN_NAME_MAX 255 /* RFC 7301 3.1 */

/* ---- versions and ciphers ---- */

static bool version_of(struct compiler *c, const char *field, TLS(TlsParameters__TlsProtocol) wire,
                       uint8_t absent, uint8_t *out)
{
    switch (wire) {
    case TLS_IS(TLS_PARAMETERS__TLS_PROTOCOL__TLS_AUTO):
        *out = absent;
        return true;
    case TLS_IS(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2):
        *out = TLS_PROTOCOL_1_2;
        return true;
    case TLS_IS(TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3):
        *out = TLS_PROTOCOL_1_3;
        return true;
    default:
        return compile_refuse(c, field, "only TLSv1_2 and TLSv1_3 are supported");
    }
}

/* OpenSSL's lists are joined by ':'. Envoy also allows "[a|b]" for equal preference. */
static bool join(struct compiler *c, const char *field, char *const *names, size_t count,
                 struct slice *out)
{
    const char *text = "";
    for (size_t i = 0; i < count; i++) {
        if (names[i][0] == '\0' || strpbrk(names[i], ":,[]| ") != NULL) {
            return compile_refuse(c, field, "'%.80s' is not supported", names[i]);
        }
        text = arena_printf(c->scratch, "%s%s%s", text, i > 0 ? ":" : "", names[i]);
    }
    *out = compile_text(c, text);
    return true;
}

static bool tls_parameters(struct compiler *c, const TLS(TlsParameters) * parameters,
                           struct tls_config *out)
{
    /* Envoy's defaults (tls common.proto); the mesh's own contexts say 1.3. */
    uint8_t most = out->server ? TLS_PROTOCOL_1_3 : TLS_PROTOCOL_1_2;
    out->min_version = TLS_PROTOCOL_1_2;
    out->max_version = most;
    if (parameters == NULL) {
        return true;
    }
    if (!version_of(c, "tls_minimum_protocol_version", parameters->tls_minimum_protocol_version,
                    TLS_PROTOCOL_1_2, &out->min_version) ||
        !version_of(c, "tls_maximum_protocol_version", parameters->tls_maximum_protocol_version,
                    most, &out->max_version)) {
        return false;
    }
    if (out->min_version > out->max_version) {
        return compile_refuse(c, "tls_minimum_protocol_version", "is above the maximum");
    }
    return join(c, "cipher_suites", parameters->cipher_suites, parameters->n_cipher_suites,
                &out->ciphers) &&
           join(c, "ecdh_curves", parameters->ecdh_curves, parameters->n_ecdh_curves, &out->curves);
}

/* ---- certificates ---- */

static bool certificate_of(struct compiler *c, const TLS(TlsCertificate) * certificate,
                           struct tls_certificate *out)
{
    if (!compile_data(c, "certificate_chain", certificate->certificate_chain, &out->chain_pem) ||
        !compile_data(c, "private_key", certificate->private_key, &out->key_pem)) {
        return false;
    }
    if (out->chain_pem.len == 0) {
        return compile_refuse(c, "certificate_chain", "is required");
    }
    return out->key_pem.len > 0 || compile_refuse(c, "private_key", "is required");
}

static bool certificates(struct compiler *c, const TLS(CommonTlsContext) * common,
                         struct tls_config *out)
{
    if (common->tls_certificate_certificate_provider_instance != NULL ||
        common->tls_certificate_provider_instance != NULL) {
        return compile_refuse(c, "tls_certificate_provider_instance", "is not supported");
    }
    struct tls_certificate *list =
        COMPILE_ARRAY(c, struct tls_certificate, common->n_tls_certificates);
    for (size_t i = 0; i < common->n_tls_certificates; i++) {
        if (!COMPILE_IN(c, certificate_of(c, common->tls_certificates[i], &list[i]),
                        "tls_certificates[%zu]", i)) {
            return false;
        }
    }
    out->certificates = list;
    if (!compile_count(c, "tls_certificates", common->n_tls_certificates,
                       &out->certificate_count)) {
        return false;
    }
    if (common->n_tls_certificate_sds_secret_configs > 1) {
        return compile_refuse(c, "tls_certificate_sds_secret_configs", "has more than one item");
    }
    if (common->n_tls_certificate_sds_secret_configs == 1) {
        const char *name = common->tls_certificate_sds_secret_configs[0]->name;
        out->certificate_sds = compile_name(c, name);
        return compile_required(c, "tls_certificate_sds_secret_configs[0].name", name);
    }
    return true;
}

/* ---- validation ---- */

static bool san_of(struct compiler *c, const TLS(SubjectAltNameMatcher) * matcher,
                   struct san_match *out)
{
    switch (matcher->san_type) {
    case TLS_IS(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__EMAIL):
        out->kind = SAN_EMAIL;
        break;
    case TLS_IS(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS):
        out->kind = SAN_DNS;
        break;
    case TLS_IS(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI):
        out->kind = SAN_URI;
        break;
    case TLS_IS(SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__IP_ADDRESS):
        out->kind = SAN_IP;
        break;
    default:
        return compile_refuse(c, "san_type", "has no supported value %d", (int)matcher->san_type);
    }
    return compile_string_match(c, "matcher", matcher->matcher, &out->string);
}

/* The typed list, then the older one, which matches any kind of name. */
static bool sans_of(struct compiler *c, const TLS(CertificateValidationContext) * context,
                    struct tls_validation *out)
{
    size_t typed = context->n_match_typed_subject_alt_names;
    size_t plain = context->n_match_subject_alt_names;
    struct san_match *list = COMPILE_ARRAY(c, struct san_match, typed + plain);
    for (size_t i = 0; i < typed; i++) {
        if (!COMPILE_IN(c, san_of(c, context->match_typed_subject_alt_names[i], &list[i]),
                        "match_typed_subject_alt_names[%zu]", i)) {
            return false;
        }
    }
    for (size_t i = 0; i < plain; i++) {
        struct san_match *match = &list[typed + i];
        match->kind = SAN_ANY;
        if (!COMPILE_IN(
                c,
                compile_string_match(c, NULL, context->match_subject_alt_names[i], &match->string),
                "match_subject_alt_names[%zu]", i)) {
            return false;
        }
    }
    out->sans = list;
    return compile_count(c, "match_typed_subject_alt_names", typed + plain, &out->san_count);
}

/* What would narrow whom we trust, and we do not look at: refused, since to pass over it would be
 * to trust more than was asked for. */
static bool refuse_unchecked(struct compiler *c, const TLS(CertificateValidationContext) * context)
{
    const char *field = context->n_verify_certificate_hash > 0   ? "verify_certificate_hash"
                        : context->n_verify_certificate_spki > 0 ? "verify_certificate_spki"
                        : context->crl != NULL                   ? "crl"
                                                                 : NULL;
    return field == NULL || compile_refuse(c, field, "is not supported");
}

static bool validation_of(struct compiler *c, const TLS(CertificateValidationContext) * context,
                          struct tls_validation *out)
{
    if (context->custom_validator_config != NULL) {
        return compile_unknown(c, "custom_validator_config",
                               context->custom_validator_config->name);
    }
    if (context->ca_certificate_provider_instance != NULL || context->system_root_certs != NULL) {
        return compile_refuse(c, NULL, "only trusted_ca is supported for roots");
    }
    out->accept_untrusted =
        context->trust_chain_verification ==
        TLS_IS(CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED);
    return compile_data(c, "trusted_ca", context->trusted_ca, &out->ca_pem) &&
           sans_of(c, context, out) && refuse_unchecked(c, context);
}

static bool validation_sds(struct compiler *c, const char *field,
                           const TLS(SdsSecretConfig) * config, struct tls_config *out)
{
    if (config == NULL) {
        return compile_refuse(c, field, "is required");
    }
    out->validation_sds = compile_name(c, config->name);
    return COMPILE_IN(c, compile_required(c, "name", config->name), "%s", field);
}

static bool combined_of(struct compiler *c,
                        const TLS(CommonTlsContext__CombinedCertificateValidationContext) *
                            combined,
                        struct tls_config *out)
{
    if (combined->default_validation_context == NULL) {
        return compile_refuse(c, "default_validation_context", "is required");
    }
    return validation_sds(c, "validation_context_sds_secret_config",
                          combined->validation_context_sds_secret_config, out) &&
           COMPILE_IN(c, validation_of(c, combined->default_validation_context, &out->validation),
                      "default_validation_context");
}

static bool validation(struct compiler *c, const TLS(CommonTlsContext) * common,
                       struct tls_config *out)
{
    out->verify = true;
    switch (common->validation_context_type_case) {
    case TLS_IS(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE__NOT_SET):
        out->verify = false;
        return true;
    case TLS_IS(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT):
        if (!COMPILE_IN(c, validation_of(c, common->validation_context, &out->validation),
                        "validation_context")) {
            return false;
        }
        out->verify = out->validation.ca_pem.len > 0;
        if (!out->verify && out->validation.san_count > 0) {
            /* Envoy refuses names that no chain proves. */
            return compile_refuse(c, "validation_context",
                                  "names are matched, but there is no trusted_ca");
        }
        return true;
    case TLS_IS(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG):
        return validation_sds(c, "validation_context_sds_secret_config",
                              common->validation_context_sds_secret_config, out);
    case TLS_IS(COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT):
        return COMPILE_IN(c, combined_of(c, common->combined_validation_context, out),
                          "combined_validation_context");
    default:
        return compile_refuse(c, NULL, "this kind of validation context is not supported");
    }
}

/* ---- contexts ---- */

static bool alpn_of(struct compiler *c, const TLS(CommonTlsContext) * common,
                    struct tls_config *out)
{
    for (size_t i = 0; i < common->n_alpn_protocols; i++) {
        size_t len = strlen(common->alpn_protocols[i]);
        if (len == 0 || len > ALPN_NAME_MAX) {
            return compile_refuse(c, "alpn_protocols", "[%zu] must have 1 to 255 bytes", i);
        }
    }
    out->alpn = compile_texts(c, common->alpn_protocols, common->n_alpn_protocols);
    return compile_count(c, "alpn_protocols", common->n_alpn_protocols, &out->alpn_count);
}

static bool common_of(struct compiler *c, const TLS(CommonTlsContext) * common,
                      struct tls_config *out)
{
    return COMPILE_IN(c, tls_parameters(c, common->tls_params, out), "tls_params") &&
           certificates(c, common, out) && validation(c, common, out) && alpn_of(c, common, out);
}

static bool upstream_of(struct compiler *c, const TLS(UpstreamTlsContext) * context,
                        struct tls_config *out)
{
    if (context->common_tls_context != NULL &&
        !COMPILE_IN(c, common_of(c, context->common_tls_context, out), "common_tls_context")) {
        return false;
    }
    if (context->common_tls_context == NULL) {
        (void)tls_parameters(c, NULL, out);
    }
    if (context->auto_sni_san_validation) {
        return compile_refuse(c, "auto_sni_san_validation", "is not supported");
    }
    if (strlen(context->sni) > 255) {
        return compile_refuse(c, "sni", "has more than 255 bytes");
    }
    out->sni = compile_name(c, context->sni);
    out->auto_sni = context->auto_host_sni;
    return true;
}

static bool downstream_of(struct compiler *c, const TLS(DownstreamTlsContext) * context,
                          struct tls_config *out)
{
    out->server = true;
    if (context->common_tls_context == NULL) {
        return compile_refuse(c, "common_tls_context", "is required");
    }
    if (!COMPILE_IN(c, common_of(c, context->common_tls_context, out), "common_tls_context")) {
        return false;
    }
    if (out->certificate_count == 0 && out->certificate_sds.len == 0) {
        return compile_refuse(c, "common_tls_context", "a server needs a certificate");
    }
    if (compile_bool(context->require_sni, false)) {
        return compile_refuse(c, "require_sni", "is not supported");
    }
    out->require_client_certificate = compile_bool(context->require_client_certificate, false);
    return !out->require_client_certificate || out->verify ||
           compile_refuse(c, "require_client_certificate", "needs a validation context");
}

/* What does not load is refused with the configuration, not with the first connection. */
static bool make_context(struct compiler *c, struct tls_config *config)
{
    struct error why = {.text = ""};
    struct tls_context *context = tls_make(config, &why);
    if (context == NULL) {
        return compile_refuse(c, "common_tls_context", "%s", why.text);
    }
    config->context = snapshot_take_tls(c->out, &context);
    return true;
}

bool compile_transport(struct compiler *c, const char *field, const CORE(TransportSocket) * socket,
                       bool server, const struct tls_config **out)
{
    *out = NULL;
    if (socket == NULL) {
        return true;
    }
    if (socket->config_type_case !=
        ENVOY__CONFIG__CORE__V3__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG) {
        return compile_refuse(c, field, "typed_config is required");
    }
    const struct xds_type *type;
    void *message;
    compile_enter(c, "%s.typed_config", field);
    bool good = compile_any(c, NULL, socket->typed_config, XDS_TRANSPORT_SOCKET, &type, &message);
    struct tls_config *tls = NULL;
    if (good && type->descriptor == (server ? &TLS_DESCRIPTOR(downstream_tls_context)
                                            : &TLS_DESCRIPTOR(upstream_tls_context))) {
        tls = ARENA_NEW(c->arena, struct tls_config);
        good = server ? downstream_of(c, message, tls) : upstream_of(c, message, tls);
        good = good && make_context(c, tls);
    } else if (good && type->descriptor != &RAW_BUFFER) {
        good = compile_refuse(c, NULL, "%.200s cannot stand here", type->url);
    }
    *out = tls;
    return compile_leave(c, good);
}

bool compile_secret(struct compiler *c, const TLS(Secret) * secret, struct named_secret *out)
{
    if (!compile_required(c, "name", secret->name)) {
        return false;
    }
    out->name = compile_name(c, secret->name);
    struct tls_certificate *certificate;
    struct tls_validation *roots;
    switch (secret->type_case) {
    case TLS_IS(SECRET__TYPE_TLS_CERTIFICATE):
        certificate = ARENA_NEW(c->arena, struct tls_certificate);
        out->certificate = certificate;
        return COMPILE_IN(c, certificate_of(c, secret->tls_certificate, certificate),
                          "tls_certificate");
    case TLS_IS(SECRET__TYPE_VALIDATION_CONTEXT):
        roots = ARENA_NEW(c->arena, struct tls_validation);
        out->validation = roots;
        return COMPILE_IN(c, validation_of(c, secret->validation_context, roots),
                          "validation_context");
    default:
        return compile_refuse(c, NULL, "one of tls_certificate, validation_context is required");
    }
}
