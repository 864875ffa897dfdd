#include "sidecar/config/tls_make.h"

#include "base/regex.h"
#include "sidecar/alpn.h"

#define PEERS_MAX 64

static enum tls_version version_of(uint8_t version)
{
    return version == TLS_PROTOCOL_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2;
}

static enum tls_san san_of(uint8_t kind)
{
    switch ((enum san_kind)kind) {
    case SAN_DNS:
        return TLS_SAN_DNS;
    case SAN_URI:
        return TLS_SAN_URI;
    case SAN_ANY:
    case SAN_EMAIL:
    case SAN_IP:
        break;
    }
    return TLS_SAN_ANY;
}

static bool name_fits(const void *argument, struct slice name)
{
    const struct string_match *match = argument;
    struct regex_scratch *scratch = regex_scratch_new();
    bool fits = regex_match(match->regex, scratch, name) == REGEX_MATCH;
    regex_scratch_free(&scratch);
    return fits;
}

static struct tls_peer_match peer_of(const struct san_match *san)
{
    static const enum tls_match_kind kinds[] = {
        [STRING_MATCH_EXACT] = TLS_MATCH_EXACT,   [STRING_MATCH_PREFIX] = TLS_MATCH_PREFIX,
        [STRING_MATCH_SUFFIX] = TLS_MATCH_SUFFIX, [STRING_MATCH_CONTAINS] = TLS_MATCH_CONTAINS,
        [STRING_MATCH_REGEX] = TLS_MATCH_TEST,
    };
    bool regex = san->string.kind == STRING_MATCH_REGEX;
    return (struct tls_peer_match){.san = san_of(san->kind),
                                   .kind = kinds[san->string.kind],
                                   .ignore_case = san->string.ignore_case,
                                   .value = san->string.text,
                                   .test = regex ? name_fits : NULL,
                                   .argument = regex ? &san->string : NULL};
}

/* What the configuration holds inline, loaded. */
static bool load(const struct tls_config *config, struct tls_options *options, struct error *err)
{
    options->mesh_identity = config->certificate_sds.len > 0;
    options->mesh_trust = config->validation_sds.len > 0;
    if (config->certificate_count > 0) {
        const struct tls_certificate *certificate = &config->certificates[0];
        struct crypto_key *key = crypto_key_from_pem(certificate->key_pem, err);
        if (key == NULL) {
            return error_wrap(err, "private_key");
        }
        options->identity = tls_identity_new(certificate->chain_pem, key, err);
        crypto_key_unref(&key);
        if (options->identity == NULL) {
            return error_wrap(err, "certificate_chain");
        }
    }
    if (config->validation.ca_pem.len > 0) {
        options->trust = tls_trust_new(config->validation.ca_pem, err);
        if (options->trust == NULL) {
            return error_wrap(err, "trusted_ca");
        }
    }
    return true;
}

static enum tls_verify verify_of(const struct tls_config *config)
{
    if (!config->verify || config->validation.accept_untrusted) {
        return TLS_VERIFY_NONE;
    }
    return config->server && !config->require_client_certificate ? TLS_VERIFY_IF_GIVEN
                                                                 : TLS_VERIFY_REQUIRED;
}

/* Between our own sidecars: one version, one group, one signature algorithm. */
static bool is_mesh(const struct tls_config *config)
{
    return config->alpn_count > 0 && alpn_is_pillion(config->alpn[0]);
}

static struct tls_context *make(const struct tls_config *config, struct tls_options *options,
                                struct error *err)
{
    struct tls_peer_match peers[PEERS_MAX];
    if (config->validation.san_count > PEERS_MAX) {
        (void)error_set(err, "match_typed_subject_alt_names: at most %d", PEERS_MAX);
        return NULL;
    }
    for (unsigned i = 0; i < config->validation.san_count; i++) {
        peers[i] = peer_of(&config->validation.sans[i]);
    }
    options->peers = peers;
    options->peer_count = config->validation.san_count;
    options->alpn = config->alpn;
    options->alpn_count = config->alpn_count;
    struct tls_context *context = tls_context_new(options, err);
    options->peers = NULL; /* copied by then */
    return context;
}

struct tls_context *tls_make(const struct tls_config *config, struct error *err)
{
    struct tls_options options = {.server = config->server};
    if (is_mesh(config)) {
        options = tls_options_mesh(config->server);
    } else {
        options.min = version_of(config->min_version);
        options.max = version_of(config->max_version);
    }
    options.verify = verify_of(config);
    struct tls_context *context = NULL;
    if (load(config, &options, err)) {
        context = make(config, &options, err);
    }
    tls_identity_unref(&options.identity);
    tls_trust_unref(&options.trust);
    return context;
}
