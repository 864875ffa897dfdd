#include "control/options.h"

#include <string.h>

#include "base/log.h"
#include "base/spiffe.h"

#define O     struct control_options
#define DAY   (UINT64_C(86400) * OPTION_SECOND)
#define FILES "files:"

static const char *const log_formats[] = {"text", "json", NULL};
static const char *const unknowns[] = {"pass", "block", NULL};

static const struct option options[] = {
    OPTION("source", STRING, O, source, .unit = "files:DIR",
           .meaning = "where the mesh's objects are: a folder of YAML and JSON files, watched"),
    OPTION("state-dir", STRING, O, state_dir, .unit = "DIR",
           .meaning = "keeps the certificate authority, the token key and the generations"),
    OPTION("xds-address", ADDRESS, O, xds, .fallback = "0.0.0.0:15012",
           .meaning = "xDS and certificates over TLS, for sidecars with a token or a certificate"),
    OPTION("xds-plain-address", ADDRESS, O, xds_plain, .fallback = "127.0.0.1:15010",
           .meaning = "xDS without credentials, for gRPC's clients and Envoy; loopback only"),
    OPTION("api-address", ADDRESS, O, api, .fallback = "127.0.0.1:15014",
           .meaning = "/metrics, /healthz and /api; it asks for no credentials"),
    OPTION("trust-domain", STRING, O, trust_domain, .fallback = "cluster.local",
           .meaning = "trust domain of the mesh"),
    OPTION("root-namespace", STRING, O, root_namespace, .fallback = "pillion-system", .unit = "NS",
           .meaning = "objects in it may speak for the whole mesh"),
    OPTION("unknown-destinations", CHOICE, O, unknown, .choices = unknowns, .fallback = "pass",
           .meaning = "what sidecars do with connections to what the mesh does not know"),
    OPTION("cert-ttl", DURATION, O, cert_ttl_us, .fallback = "24h", .min = 10 * OPTION_SECOND,
           .max = 365 * DAY, .meaning = "life of a certificate"),
    OPTION("cert-backdate", DURATION, O, cert_backdate_us, .fallback = "60s", .max = DAY,
           .meaning = "how far a certificate begins in the past, for clocks that differ"),
    OPTION("ca-cert", STRING, O, ca_cert, .unit = "FILE",
           .meaning = "PEM chain of an authority of your own, its own certificate first"),
    OPTION("ca-key", STRING, O, ca_key, .unit = "FILE", .meaning = "the key of --ca-cert, PEM"),
    OPTION("dns-name", LIST, O, dns_names, .unit = "NAME",
           .meaning = "names in the certificate on the xDS port, for clients without SPIFFE"),
    OPTION("log-level", STRING, O, log_level, .fallback = "info",
           .meaning = "error, warning, info or debug"),
    OPTION("log-format", CHOICE, O, log_format, .choices = log_formats, .fallback = "text",
           .meaning = "how log lines look"),
};

const struct options_program control_program = {
    .name = "pillion-control",
    .summary = "gives every sidecar of a mesh its policy over xDS, and its certificate",
    .options = options,
    .count = sizeof options / sizeof options[0],
};

static bool source_check(const char *source, struct error *err)
{
    if (source == NULL) {
        return error_set(err, "--source is needed: files:DIR");
    }
    if (strncmp(source, FILES, strlen(FILES)) != 0 || source[strlen(FILES)] == '\0') {
        return error_set(err, "--source %s: allowed is files:DIR, a folder of YAML and JSON files",
                         source);
    }
    return true;
}

/* A trust domain and a namespace are good when they make a SPIFFE id. */
static bool names_check(const struct control_options *given, struct error *err)
{
    char text[SPIFFE_TEXT_MAX + 1];
    struct spiffe_id id = {slice_of_text(given->trust_domain), SLICE("ns"), SLICE("sa")};
    if (spiffe_format(&id, text) == 0) {
        return error_set(err,
                         "--trust-domain %s: allowed are lower case letters, digits, \"-\", \"_\" "
                         "and \".\"",
                         given->trust_domain);
    }
    id = (struct spiffe_id){SLICE("td"), slice_of_text(given->root_namespace), SLICE("sa")};
    if (spiffe_format(&id, text) == 0) {
        return error_set(err,
                         "--root-namespace %s: allowed are lower case letters, digits and \"-\"",
                         given->root_namespace);
    }
    return true;
}

bool control_options_check(const struct control_options *given, struct error *err)
{
    enum log_level level = LOG_LEVEL_INFO;
    if (!source_check(given->source, err) || !names_check(given, err)) {
        return false;
    }
    if (given->state_dir == NULL || given->state_dir[0] == '\0') {
        return error_set(err, "--state-dir is needed: a folder that only this daemon writes to");
    }
    if (!addr_is_loopback(&given->xds_plain)) {
        char text[ADDR_TEXT_MAX];
        return error_set(err,
                         "--xds-plain-address %s: it asks for no credentials, so only 127.0.0.0/8 "
                         "and [::1] are allowed",
                         addr_format(&given->xds_plain, text));
    }
    if ((given->ca_cert == NULL) != (given->ca_key == NULL)) {
        return error_set(err, "--ca-cert and --ca-key belong together; --%s is missing",
                         given->ca_cert == NULL ? "ca-cert" : "ca-key");
    }
    if (!log_level_parse(slice_of_text(given->log_level), &level)) {
        return error_set(err, "--log-level %s: allowed are error, warning, info, debug",
                         given->log_level);
    }
    return true;
}

const char *control_options_folder(const struct control_options *given)
{
    CHECK(given->source != NULL);
    return given->source + strlen(FILES);
}
