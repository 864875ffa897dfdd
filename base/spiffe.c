#include "base/spiffe.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/alloc.h"

#define SCHEME "spiffe://"

static bool is_segment_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

static bool is_trust_domain(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_segment_byte(text.at[i]) || (text.at[i] >= 'A' && text.at[i] <= 'Z')) {
            return false;
        }
    }
    return text.len > 0 && text.len <= 255;
}

/* One part of a path; "." and ".." are none (SPIFFE-ID 2.2). */
static bool is_segment(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_segment_byte(text.at[i])) {
            return false;
        }
    }
    return text.len > 0 && !slice_eq(text, SLICE(".")) && !slice_eq(text, SLICE(".."));
}

bool spiffe_is_uid(struct slice text)
{
    return text.len <= SPIFFE_UID_MAX && is_segment(text);
}

/* Splits an id after the scheme into trust domain and path, without the slash between them; the
 * path has a null pointer where there is none. */
static bool split(struct slice text, struct slice *trust_domain, struct slice *path)
{
    if (text.len > SPIFFE_TEXT_MAX || !slice_starts(text, SLICE(SCHEME))) {
        return false;
    }
    *path = slice_from(text, sizeof SCHEME - 1);
    *trust_domain = slice_cut(path, '/');
    return is_trust_domain(*trust_domain);
}

bool spiffe_is_valid(struct slice text)
{
    struct slice trust_domain;
    struct slice path;
    if (!split(text, &trust_domain, &path)) {
        return false;
    }
    while (path.at != NULL) {
        if (!is_segment(slice_cut(&path, '/'))) {
            return false;
        }
    }
    return true;
}

bool spiffe_parse(struct slice text, struct spiffe_id *id)
{
    struct slice path;
    if (!split(text, &id->trust_domain, &path) || !slice_eq(slice_cut(&path, '/'), SLICE("ns")) ||
        path.at == NULL) {
        return false;
    }
    id->namespace = slice_cut(&path, '/');
    if (path.at == NULL || !slice_eq(slice_cut(&path, '/'), SLICE("sa")) || path.at == NULL) {
        return false;
    }
    id->account = path;
    return is_segment(id->namespace) && is_segment(id->account);
}

size_t spiffe_format(const struct spiffe_id *id, char text[SPIFFE_TEXT_MAX + 1])
{
    if (!is_trust_domain(id->trust_domain) || !is_segment(id->namespace) ||
        !is_segment(id->account) || id->namespace.len > 63 || id->account.len > 253) {
        return 0;
    }
    int len =
        snprintf(text, SPIFFE_TEXT_MAX + 1, SCHEME "%.*s/ns/%.*s/sa/%.*s",
                 SLICE_ARG(id->trust_domain), SLICE_ARG(id->namespace), SLICE_ARG(id->account));
    CHECK(len > 0 && len <= SPIFFE_TEXT_MAX);
    return (size_t)len;
}

bool spiffe_is_in(struct slice text, struct slice trust_domain)
{
    struct slice own;
    struct slice path;
    return split(text, &own, &path) && slice_eq(own, trust_domain);
}

/* ------------------------------------------------------------------------------- certificates */

/* Takes over the one SPIFFE id among the names; `uris` counts all URIs. */
static bool take_uri(const ASN1_STRING *uri, struct spiffe_names *names, struct error *err)
{
    struct slice text = slice_of(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri));
    if (!slice_starts(text, SLICE(SCHEME))) {
        return true;
    }
    if (!spiffe_is_valid(text)) {
        return error_set(err, "the certificate's SPIFFE id is not valid");
    }
    (void)memcpy(names->identity, text.at, text.len);
    names->identity[text.len] = '\0';
    return true;
}

static bool read_identity(const X509 *certificate, struct spiffe_names *names, struct error *err)
{
    int critical = 0;
    GENERAL_NAMES *all = X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, NULL);
    if (all == NULL) {
        ERR_clear_error();
        return critical == -1 || error_set(err, "the certificate's names cannot be read");
    }
    bool good = true;
    int uris = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(all) && good; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);
        if (name->type == GEN_URI) {
            uris++;
            good = take_uri(name->d.uniformResourceIdentifier, names, err);
        }
    }
    GENERAL_NAMES_free(all);
    if (good && names->identity[0] != '\0' && uris > 1) {
        return error_set(err, "the certificate has %d URI names, a SPIFFE one stands alone", uris);
    }
    return good;
}

static bool read_uid(const X509 *certificate, struct spiffe_names *names, struct error *err)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_serialNumber, -1);
    if (at < 0) {
        return true;
    }
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    struct slice text = slice_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    if (!spiffe_is_uid(text)) {
        return error_set(err, "the certificate's serialNumber is no unique id");
    }
    (void)memcpy(names->uid, text.at, text.len);
    names->uid[text.len] = '\0';
    return true;
}

bool spiffe_read_certificate(const struct x509_st *certificate, struct spiffe_names *names,
                             struct error *err)
{
    names->identity[0] = '\0';
    names->uid[0] = '\0';
    if (!read_identity(certificate, names, err)) {
        return false;
    }
    /* Only beside a SPIFFE id does serialNumber mean a pod: others give it other meanings. */
    return names->identity[0] == '\0' || read_uid(certificate, names, err);
}

bool spiffe_read_pem(struct slice pem, struct spiffe_names *names, struct error *err)
{
    if (pem.len == 0 || pem.len > INT_MAX) {
        return error_set(err, "not a certificate in PEM");
    }
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    CHECK(bio != NULL);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (certificate == NULL) {
        return crypto_error(err, "not a certificate in PEM");
    }
    bool read = spiffe_read_certificate(certificate, names, err);
    X509_free(certificate);
    return read;
}

/* --------------------------------------------------------------------------------- requests */

static void add_name(GENERAL_NAMES *all, int type, struct slice value)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    CHECK(name != NULL);
    CHECK(text != NULL);
    CHECK(value.len <= INT_MAX);
    CHECK(ASN1_STRING_set(text, value.at, (int)value.len) == 1);
    GENERAL_NAME_set0_value(name, type, text);
    CHECK(sk_GENERAL_NAME_push(all, name) > 0);
}

/* Built from its parts: OpenSSL's text form would let a comma in a name begin another one. */
struct X509_extension_st *spiffe_extension_new(struct slice identity, const struct slice *dns,
                                               size_t dns_count, bool critical)
{
    CHECK(spiffe_is_valid(identity));
    GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
    CHECK(all != NULL);
    add_name(all, GEN_URI, identity);
    for (size_t i = 0; i < dns_count; i++) {
        add_name(all, GEN_DNS, dns[i]);
    }
    X509_EXTENSION *extension = X509V3_EXT_i2d(NID_subject_alt_name, critical ? 1 : 0, all);
    CHECK(extension != NULL);
    sk_GENERAL_NAME_pop_free(all, GENERAL_NAME_free);
    return extension;
}

char *spiffe_request_new(const struct crypto_key *key, struct slice identity)
{
    X509_REQ *request = X509_REQ_new();
    CHECK(request != NULL);
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    CHECK(extensions != NULL);
    CHECK(sk_X509_EXTENSION_push(extensions, spiffe_extension_new(identity, NULL, 0, true)) > 0);
    CHECK(X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1);
    CHECK(X509_REQ_set_pubkey(request, crypto_key_get_openssl(key)) == 1);
    CHECK(X509_REQ_add_extensions(request, extensions) == 1);
    CHECK(X509_REQ_sign(request, crypto_key_get_openssl(key), EVP_sha256()) > 0);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(bio != NULL);
    CHECK(PEM_write_bio_X509_REQ(bio, request) == 1);
    X509_REQ_free(request);
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);
    char *pem = mem_dup(at, (size_t)len);
    BIO_free(bio);
    return pem;
}
