#pragma once
/* Delta and state-of-the-world messages as short lines of text, so that a test reads as a trace:
 *
 *     "CDS node=n +a +* -b =c:v1 nonce=2 NACK(c: bad)"     a request; = is an initial version
 *     "EDS a:v1~alias b:v2 -c nonce=1"                     a response; ~ an alias, - removed
 */

#include <stdio.h>
#include <string.h>

#include "envoy/service/discovery/v3/discovery.pb-c.h"

#include "xds/decode.h"
#include "xds/types.h"

struct trace {
    struct arena arena;
    char text[4096];
};

__attribute__((unused, format(printf, 2, 3))) static void trace_add(struct trace *trace,
                                                                    const char *format, ...)
{
    size_t used = strlen(trace->text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(trace->text + used, sizeof trace->text - used, format, args);
    va_end(args);
}

static inline const char *trace_type(const char *url)
{
    const struct xds_type *type = xds_type_find(url);
    return type != NULL ? type->short_name : url;
}

static inline const char *trace_delta_request(struct trace *trace, struct slice bytes)
{
    struct error err;
    const Envoy__Service__Discovery__V3__DeltaDiscoveryRequest *m = decode_message(
        &trace->arena, &envoy__service__discovery__v3__delta_discovery_request__descriptor, bytes,
        &err);
    CHECK(m != NULL);
    trace->text[0] = '\0';
    trace_add(trace, "%s", trace_type(m->type_url));
    if (m->node != NULL) {
        trace_add(trace, " node=%s", m->node->id);
    }
    for (size_t i = 0; i < m->n_resource_names_subscribe; i++) {
        trace_add(trace, " +%s", m->resource_names_subscribe[i]);
    }
    for (size_t i = 0; i < m->n_resource_names_unsubscribe; i++) {
        trace_add(trace, " -%s", m->resource_names_unsubscribe[i]);
    }
    for (size_t i = 0; i < m->n_initial_resource_versions; i++) {
        trace_add(trace, " =%s:%s", m->initial_resource_versions[i]->key,
                  m->initial_resource_versions[i]->value);
    }
    if (m->response_nonce[0] != '\0') {
        trace_add(trace, " nonce=%s", m->response_nonce);
    }
    if (m->error_detail != NULL) {
        trace_add(trace, " NACK(%s)", m->error_detail->message);
    }
    return trace->text;
}

/* Bodies of the tests are their own versions. */
static inline const char *trace_delta_response(struct trace *trace, struct slice bytes)
{
    struct error err;
    const Envoy__Service__Discovery__V3__DeltaDiscoveryResponse *m = decode_message(
        &trace->arena, &envoy__service__discovery__v3__delta_discovery_response__descriptor, bytes,
        &err);
    CHECK(m != NULL);
    trace->text[0] = '\0';
    trace_add(trace, "%s", trace_type(m->type_url));
    for (size_t i = 0; i < m->n_resources; i++) {
        const Envoy__Service__Discovery__V3__Resource *r = m->resources[i];
        trace_add(trace, " %s:%.*s", r->name, (int)r->resource->value.len,
                  (const char *)r->resource->value.data);
        for (size_t k = 0; k < r->n_aliases; k++) {
            trace_add(trace, "~%s", r->aliases[k]);
        }
    }
    for (size_t i = 0; i < m->n_removed_resources; i++) {
        trace_add(trace, " -%s", m->removed_resources[i]);
    }
    trace_add(trace, " nonce=%s", m->nonce);
    return trace->text;
}

static inline const char *trace_world_response(struct trace *trace, struct slice bytes)
{
    struct error err;
    const Envoy__Service__Discovery__V3__DiscoveryResponse *m = decode_message(
        &trace->arena, &envoy__service__discovery__v3__discovery_response__descriptor, bytes, &err);
    CHECK(m != NULL);
    trace->text[0] = '\0';
    trace_add(trace, "%s", trace_type(m->type_url));
    for (size_t i = 0; i < m->n_resources; i++) {
        trace_add(trace, " %.*s", (int)m->resources[i]->value.len,
                  (const char *)m->resources[i]->value.data);
    }
    trace_add(trace, " nonce=%s", m->nonce);
    return trace->text;
}

/* Builds a request or response from the same short form. Words are cut at spaces. */
struct trace_words {
    char *word[32];
    size_t count;
    char copy[1024];
};

static inline void trace_cut(struct trace_words *words, const char *text)
{
    (void)snprintf(words->copy, sizeof words->copy, "%s", text);
    words->count = 0;
    char *rest = words->copy;
    while (*rest != '\0') {
        CHECK(words->count < COUNT_OF(words->word));
        words->word[words->count++] = rest;
        char *space = strchr(rest, ' ');
        if (space == NULL) {
            break;
        }
        *space = '\0';
        rest = space + 1;
    }
}

static inline char *trace_url(const char *short_name)
{
    for (unsigned i = 0; i < XDS_RESOURCE_COUNT; i++) {
        const struct xds_type *type = xds_type_of_resource((enum xds_resource)i);
        if (strcmp(type->short_name, short_name) == 0) {
            return (char *)(uintptr_t)type->url;
        }
    }
    return (char *)(uintptr_t)short_name;
}

/* "CDS node=n +a -b =c:v1 nonce=2 NACK" */
static inline struct slice trace_make_delta_request(struct trace *trace, const char *text)
{
    struct trace_words words;
    char *add[32];
    char *leave[32];
    Envoy__Service__Discovery__V3__DeltaDiscoveryRequest__InitialResourceVersionsEntry entry[32];
    Envoy__Service__Discovery__V3__DeltaDiscoveryRequest__InitialResourceVersionsEntry *entries[32];
    Envoy__Service__Discovery__V3__DeltaDiscoveryRequest m;
    envoy__service__discovery__v3__delta_discovery_request__init(&m);
    Envoy__Config__Core__V3__Node node;
    envoy__config__core__v3__node__init(&node);
    Google__Rpc__Status status;
    google__rpc__status__init(&status);
    m.resource_names_subscribe = add;
    m.resource_names_unsubscribe = leave;
    m.initial_resource_versions = entries;
    trace_cut(&words, text);
    m.type_url = trace_url(words.word[0]);
    for (size_t i = 1; i < words.count; i++) {
        char *word = words.word[i];
        if (word[0] == '+') {
            add[m.n_resource_names_subscribe++] = word + 1;
        } else if (word[0] == '-') {
            leave[m.n_resource_names_unsubscribe++] = word + 1;
        } else if (word[0] == '=') {
            size_t k = m.n_initial_resource_versions++;
            envoy__service__discovery__v3__delta_discovery_request__initial_resource_versions_entry__init(
                &entry[k]);
            entry[k].key = word + 1;
            entry[k].value = strchr(word, ':') + 1;
            entry[k].value[-1] = '\0';
            entries[k] = &entry[k];
        } else if (strncmp(word, "node=", 5) == 0) {
            node.id = word + 5;
            m.node = &node;
        } else if (strncmp(word, "nonce=", 6) == 0) {
            m.response_nonce = word + 6;
        } else if (strcmp(word, "NACK") == 0) {
            status.code = 3;
            status.message = words.word[0];
            m.error_detail = &status;
        }
    }
    return encode_message(&trace->arena, &m.base);
}

/* "CDS node=n a b nonce=2 v=1 NACK" */
static inline struct slice trace_make_world_request(struct trace *trace, const char *text)
{
    struct trace_words words;
    char *names[32];
    Envoy__Service__Discovery__V3__DiscoveryRequest m;
    envoy__service__discovery__v3__discovery_request__init(&m);
    Envoy__Config__Core__V3__Node node;
    envoy__config__core__v3__node__init(&node);
    Google__Rpc__Status status;
    google__rpc__status__init(&status);
    m.resource_names = names;
    trace_cut(&words, text);
    m.type_url = trace_url(words.word[0]);
    for (size_t i = 1; i < words.count; i++) {
        char *word = words.word[i];
        if (strncmp(word, "node=", 5) == 0) {
            node.id = word + 5;
            m.node = &node;
        } else if (strncmp(word, "nonce=", 6) == 0) {
            m.response_nonce = word + 6;
        } else if (strncmp(word, "v=", 2) == 0) {
            m.version_info = word + 2;
        } else if (strcmp(word, "NACK") == 0) {
            status.message = words.word[0];
            m.error_detail = &status;
        } else {
            names[m.n_resource_names++] = word;
        }
    }
    return encode_message(&trace->arena, &m.base);
}

/* "CDS a:v1~alias b:v2@VERSION c: -d nonce=1": no bytes behind the colon: a Resource without body;
 * "!a:v1" puts it under another type. "generation=7": system_version_info. */
static inline struct slice trace_make_response(struct trace *trace, const char *text)
{
    struct trace_words words;
    Envoy__Service__Discovery__V3__Resource resource[32];
    Envoy__Service__Discovery__V3__Resource *resources[32];
    Google__Protobuf__Any body[32];
    char *alias[32];
    char *removed[32];
    Envoy__Service__Discovery__V3__DeltaDiscoveryResponse m;
    envoy__service__discovery__v3__delta_discovery_response__init(&m);
    m.resources = resources;
    m.removed_resources = removed;
    trace_cut(&words, text);
    m.type_url = trace_url(words.word[0]);
    for (size_t i = 1; i < words.count; i++) {
        char *word = words.word[i];
        if (word[0] == '-') {
            removed[m.n_removed_resources++] = word + 1;
            continue;
        }
        if (strncmp(word, "nonce=", 6) == 0) {
            m.nonce = word + 6;
            continue;
        }
        if (strncmp(word, "generation=", 11) == 0) {
            m.system_version_info = word + 11;
            continue;
        }
        size_t k = m.n_resources++;
        bool foreign = word[0] == '!';
        resources[k] = &resource[k];
        envoy__service__discovery__v3__resource__init(&resource[k]);
        google__protobuf__any__init(&body[k]);
        resource[k].name = word + (foreign ? 1 : 0);
        char *tilde = strchr(word, '~');
        if (tilde != NULL) {
            *tilde = '\0';
            alias[k] = tilde + 1;
            resource[k].n_aliases = 1;
            resource[k].aliases = &alias[k];
        }
        char *at = strchr(word, '@');
        if (at != NULL) {
            *at = '\0';
            resource[k].version = at + 1;
        }
        char *colon = strchr(word, ':');
        CHECK(colon != NULL);
        *colon = '\0';
        if (colon[1] != '\0') {
            body[k].type_url = foreign ? (char *)(uintptr_t) "x/y" : m.type_url;
            body[k].value.len = strlen(colon + 1);
            body[k].value.data = (uint8_t *)colon + 1;
            resource[k].resource = &body[k];
        }
    }
    return encode_message(&trace->arena, &m.base);
}
