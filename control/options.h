#pragma once
/* What pillion-control can be told: one table, from which flags, environment, --help and errors
 * follow. Texts are borrowed from argv, the environment and the table. */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/options.h"

struct control_options {
    const char *source;    /* "files:DIR" */
    const char *state_dir; /* authority, token key, generations */
    struct addr xds;       /* TLS: xDS and certificates */
    struct addr xds_plain; /* xDS without credentials, on loopback only */
    struct addr api;
    const char *trust_domain;
    const char *root_namespace;
    unsigned unknown; /* 0: pass, 1: block */
    uint64_t cert_ttl_us;
    uint64_t cert_backdate_us;
    const char *ca_cert; /* null: the authority in STATE/ca, made where there is none */
    const char *ca_key;
    struct option_list dns_names; /* of the certificate on the xDS port */
    const char *log_level;
    unsigned log_format; /* 0: text, 1: JSON */
};

extern const struct options_program control_program;

/* What the table cannot say: options that need each other, the form of --source, loopback. False
 * with the option's name, its value and what is allowed. */
bool control_options_check(const struct control_options *options, struct error *err) MUST_USE;
/* DIR of "files:DIR", which control_options_check has seen. */
const char *control_options_folder(const struct control_options *options);
