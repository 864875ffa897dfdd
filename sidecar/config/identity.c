#include "sidecar/config/identity.h"

#include <stdio.h>
#include <string.h>

#include "istio/v1/auth/auth.pb-c.h"

#include "base/alloc.h"
#include "base/conn_tls.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/spiffe.h"
#include "base/version.h"
#include "http/grpc.h"
#include "sidecar/config/control_place.h"
#include "sidecar/exchange/server.h"
#include "sidecar/upstream/pool.h"
#include "sidecar/worker.h"
#include "xds/decode.h"

#define CREATE_CERTIFICATE "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define CONTROL_NAMESPACE  "pillion-system"
#define CONTROL_ACCOUNT    "pillion-control"

#define SECONDS          UINT64_C(1000000)
#define CALL_US          (10 * SECONDS)
#define BACKOFF_MIN_US   (SECONDS / 2)
#define BACKOFF_MAX_US   (30 * SECONDS)
#define DOUBT_US         (2 * SECONDS)
#define VALIDITY_S       86400
#define TOKEN_BYTES_MAX  65536U
#define ROOTS_BYTES_MAX  ((size_t)1 << 20)
#define ANSWER_BYTES_MAX ((uint32_t)1 << 20)
#define CHAIN_MAX        16U

struct identity {
    struct identity_options options;
    char id[SPIFFE_TEXT_MAX + 1];
    char control_id[SPIFFE_TEXT_MAX + 1];
    struct task task;
    struct timer timer; /* the next attempt, or renewal */
    struct rng rng;
    struct tls_context *anonymous; /* for a first certificate: with a token instead */
    struct tls_context *own;       /* with ours */
    struct tls_keys keys;          /* the admin thread's */
    struct tls_validity validity;
    bool has_certificate;
    struct crypto_key *key; /* of the certificate that is being asked for */
    struct grpc_client *client;
    struct grpc_call *call;
    bool answered;     /* this call brought a certificate */
    void *newest_text; /* of the root at the end of the last chain */
    struct slice newest_root;
    uint64_t pause_us; /* before the next attempt, once one has failed */
    uint64_t begun_us; /* the last attempt */
    bool doubted;      /* our certificate was refused: the token speaks for us */
    struct error trouble;
};

/* ---- to the workers ---- */

/* Certificate and roots on their way to one worker. */
struct delivery {
    struct mail mail;
    struct worker *worker;
    struct tls_identity *identity;
    struct tls_trust *trust;
    struct slice id;
};

/* Callers whom the roots of now would not let in go at once: a root was taken away for a reason. */
static void close_untrusted(struct worker *worker)
{
    LIST_EACH(&worker->servers, node)
    {
        struct server *server = LIST_ITEM(node, struct server, link);
        struct error err = {.text = ""};
        struct conn *conn = server->closed ? NULL : server->channel.conn;
        if (conn != NULL && !conn_tls_recheck(conn, &err)) {
            log_limited(LOG_LEVEL_WARNING, "a caller is trusted no more", LOG_CAUSE(&err));
            server_close(server);
        }
    }
}

static void deliver(struct mail *mail, struct loop *loop)
{
    struct delivery *delivery = CONTAINER_OF(mail, struct delivery, mail);
    struct worker *worker = delivery->worker;
    const struct tls_trust *before = worker->keys.trust;
    bool changed = before != NULL && tls_trust_get_id(before) != tls_trust_get_id(delivery->trust);
    (void)loop;
    tls_keys_set_identity_take(&worker->keys, &delivery->identity);
    tls_keys_set_trust_take(&worker->keys, &delivery->trust);
    if (changed) {
        close_untrusted(worker);
        pool_recheck_all(worker);
    }
    worker->identity = delivery->id;
    mem_free(delivery);
}

/* Takes both. */
static void hand_out(struct identity *identity, struct tls_identity **certificate,
                     struct tls_trust **trust)
{
    for (unsigned i = 0; i < identity->options.worker_count; i++) {
        struct delivery *delivery = NEW(struct delivery);
        *delivery = (struct delivery){.mail.deliver = deliver,
                                      .worker = identity->options.workers[i],
                                      .identity = tls_identity_ref(*certificate),
                                      .trust = tls_trust_ref(*trust),
                                      .id = identity_get_id(identity)};
        loop_send(delivery->worker->loop, &delivery->mail);
    }
    tls_keys_set_identity_take(&identity->keys, certificate);
    tls_keys_set_trust_take(&identity->keys, trust);
}

/* ---- what comes ---- */

static void append(struct arena *arena, struct slice *text, struct slice more)
{
    uint8_t *both = arena_alloc(arena, text->len + more.len + 1);
    if (text->len > 0) {
        memcpy(both, text->at, text->len);
    }
    if (more.len > 0) {
        memcpy(both + text->len, more.at, more.len);
    }
    both[text->len + more.len] = '\n';
    *text = slice_of(both, text->len + more.len + 1);
}

/* The roots of the file, and the one at the end of the chain, which may be newer than that. */
static struct tls_trust *read_trust(struct identity *identity, struct arena *arena,
                                    struct slice newest, struct error *err)
{
    struct slice roots;
    if (!file_read(identity->options.mesh_root, ROOTS_BYTES_MAX, arena, &roots, err)) {
        return NULL;
    }
    struct slice bundle = SLICE("");
    append(arena, &bundle, roots);
    append(arena, &bundle, newest);
    return tls_trust_new(bundle, err);
}

static bool take_chain(struct identity *identity, struct arena *arena,
                       const Istio__V1__Auth__IstioCertificateResponse *answer, struct error *err)
{
    if (answer->n_cert_chain == 0 || answer->n_cert_chain > CHAIN_MAX) {
        return error_set(err, "a chain of %zu certificates", answer->n_cert_chain);
    }
    struct slice chain = SLICE("");
    for (size_t i = 0; i < answer->n_cert_chain; i++) {
        append(arena, &chain, slice_of_text(answer->cert_chain[i]));
    }
    struct tls_identity *certificate = tls_identity_new(chain, identity->key, err);
    if (certificate == NULL) {
        return false;
    }
    const char *given = tls_identity_get_names(certificate)->identity;
    if (strcmp(given, identity->id) != 0) {
        (void)error_set(err, "the certificate is for %s, not for %s", given, identity->id);
        tls_identity_unref(&certificate);
        return false;
    }
    struct slice last = answer->n_cert_chain > 1
                            ? slice_of_text(answer->cert_chain[answer->n_cert_chain - 1])
                            : SLICE("");
    struct tls_trust *trust = read_trust(identity, arena, last, err);
    if (trust == NULL) {
        tls_identity_unref(&certificate);
        return false;
    }
    mem_free(identity->newest_text);
    identity->newest_text = mem_dup(last.at, last.len);
    identity->newest_root = slice_of(identity->newest_text, last.len);
    identity->validity = *tls_identity_get_validity(certificate);
    identity->has_certificate = true;
    hand_out(identity, &certificate, &trust);
    return true;
}

static bool take_answer(struct identity *identity, struct slice bytes, struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    const Istio__V1__Auth__IstioCertificateResponse *answer = decode_message(
        &arena, &istio__v1__auth__istio_certificate_response__descriptor, bytes, err);
    bool taken = answer != NULL && take_chain(identity, &arena, answer, err);
    arena_fini(&arena);
    return taken;
}

/* ---- one attempt ---- */

static bool read_token(const struct identity *identity, struct arena *arena,
                       struct slice *authorization, struct error *err)
{
    struct slice token;
    if (!file_read(identity->options.token_file, TOKEN_BYTES_MAX, arena, &token, err)) {
        return error_wrap(err, "token");
    }
    token = slice_trim(token);
    while (token.len > 0 && (token.at[token.len - 1] == '\n' || token.at[token.len - 1] == '\r')) {
        token = slice_trim(slice_of(token.at, token.len - 1));
    }
    if (token.len == 0) {
        return error_set(err, "token: %s is empty", identity->options.token_file);
    }
    *authorization = slice_of_text(arena_printf(arena, "Bearer %.*s", SLICE_ARG(token)));
    return true;
}

struct grpc_client *identity_connect(struct identity *identity, struct task *owner,
                                     struct arena *arena, struct slice *authorization,
                                     struct error *err)
{
    bool valid = identity_is_valid(identity);
    bool own = valid && !identity->doubted;
    struct addr to;
    *authorization = (struct slice){NULL, 0};
    if (!control_place_next(identity->options.place, &to, err)) {
        return NULL;
    }
    if (!own && !read_token(identity, arena, authorization, err)) {
        if (!valid) {
            return NULL;
        }
        own = true;
    }
    struct grpc_client_options options = {
        .to = to,
        .authority = slice_of_text(identity->options.authority),
        .tls = own ? identity->own : identity->anonymous,
        .keys = &identity->keys,
        .identity = slice_of_text(identity->control_id),
        .user_agent = SLICE("pillion-sidecar/" PILLION_VERSION),
        .owner = owner,
    };
    return grpc_client_new(identity->options.loop, &options);
}

static void drop_call(struct identity *identity)
{
    grpc_call_free(&identity->call);
    grpc_client_free(&identity->client);
    crypto_key_unref(&identity->key);
}

static uint64_t now_of(const struct identity *identity)
{
    return identity->options.loop->now_us;
}

/* Between half and all of the pause, so that many that failed together do not return so. */
static void try_later(struct identity *identity)
{
    uint64_t pause_us = identity->pause_us * 2;
    pause_us = pause_us < BACKOFF_MIN_US ? BACKOFF_MIN_US : pause_us;
    identity->pause_us = pause_us > BACKOFF_MAX_US ? BACKOFF_MAX_US : pause_us;
    uint64_t wait_us = identity->pause_us / 2 + rng_below(&identity->rng, identity->pause_us / 2);
    timer_set(identity->options.loop, &identity->timer, now_of(identity) + wait_us);
    log_limited(LOG_LEVEL_WARNING, "no certificate", LOG_CAUSE(&identity->trouble),
                LOG_U64("again_in_ms", wait_us / 1000));
}

/* At half of what is left, give or take a tenth of that. */
static void renew_later(struct identity *identity)
{
    uint64_t wall_us = identity->options.loop->wall_us;
    uint64_t left_us =
        identity->validity.not_after_us > wall_us ? identity->validity.not_after_us - wall_us : 0;
    uint64_t wait_us = left_us / 2 - left_us / 20 + rng_below(&identity->rng, left_us / 10 + 1);
    identity->pause_us = 0;
    identity->doubted = false;
    identity->trouble = (struct error){.text = ""};
    wait_us += MUTANT(38) ? left_us : 0;
    timer_set(identity->options.loop, &identity->timer,
              now_of(identity) + (wait_us > SECONDS ? wait_us : SECONDS));
    log_info("certificate", LOG_TEXT("identity", identity->id),
             LOG_TEXT("serial", identity->validity.serial),
             LOG_U64("ends_in_s", left_us / SECONDS));
    if (identity->options.changed != NULL) {
        loop_post(identity->options.loop, identity->options.changed);
    }
}

static struct slice make_request(struct identity *identity, struct arena *arena)
{
    Istio__V1__Auth__IstioCertificateRequest request;
    istio__v1__auth__istio_certificate_request__init(&request);
    identity->key = crypto_key_new();
    char *csr = spiffe_request_new(identity->key, identity_get_id(identity));
    request.csr = csr;
    request.validity_duration = VALIDITY_S;
    struct slice bytes = encode_message(arena, &request.base);
    mem_free(csr);
    return bytes;
}

/* The file may have been given a new root since, by which alone the control plane can be known. */
static void refresh_trust(struct identity *identity, struct arena *arena)
{
    struct error err = {.text = ""};
    struct tls_trust *trust = read_trust(identity, arena, identity->newest_root, &err);
    if (trust == NULL) {
        log_limited(LOG_LEVEL_WARNING, "the roots cannot be read", LOG_CAUSE(&err));
        return;
    }
    tls_keys_set_trust_take(&identity->keys, &trust);
}

static void begin_call(struct identity *identity)
{
    if (!control_place_is_known(identity->options.place)) {
        control_place_await(identity->options.place, &identity->task);
        return;
    }
    struct arena arena;
    arena_init(&arena, NULL);
    refresh_trust(identity, &arena);
    identity->begun_us = now_of(identity);
    struct slice authorization;
    timer_clear(&identity->timer);
    identity->answered = false;
    identity->client =
        identity_connect(identity, &identity->task, &arena, &authorization, &identity->trouble);
    if (identity->client != NULL) {
        struct grpc_call_options options = {.path = SLICE(CREATE_CERTIFICATE),
                                            .authorization = authorization,
                                            .deadline_us = CALL_US,
                                            .message_max = ANSWER_BYTES_MAX,
                                            .owner = &identity->task};
        identity->call =
            grpc_client_unary(identity->client, &options, make_request(identity, &arena));
    } else {
        try_later(identity);
    }
    arena_fini(&arena);
}

static void end_call(struct identity *identity)
{
    unsigned status = grpc_call_get_status(identity->call);
    if (!identity->answered && status != GRPC_OK) {
        struct slice why = grpc_client_get_state(identity->client) == GRPC_CLIENT_CLOSED
                               ? grpc_client_why(identity->client)
                               : grpc_call_get_text(identity->call);
        (void)error_set(&identity->trouble, "%s: %.*s", grpc_status_name((enum grpc_status)status),
                        SLICE_ARG(why));
    }
    bool answered = identity->answered;
    identity->doubted = !answered;
    drop_call(identity);
    if (answered) {
        renew_later(identity);
    } else {
        control_place_failed(identity->options.place);
        try_later(identity);
    }
}

static void run(struct task *task)
{
    struct identity *identity = CONTAINER_OF(task, struct identity, task);
    if (identity->call == NULL) {
        if (identity->timer.at_us == 0 || timer_due(&identity->timer, identity->options.loop)) {
            begin_call(identity);
        }
        return;
    }
    for (;;) {
        struct slice message;
        switch (grpc_call_next(identity->call, &message)) {
        case GRPC_NEXT_MESSAGE:
            identity->answered = take_answer(identity, message, &identity->trouble);
            break;
        case GRPC_NEXT_NONE:
            return;
        case GRPC_NEXT_END:
        case GRPC_NEXT_CLOSED:
            end_call(identity);
            return;
        }
    }
}

void identity_doubt(struct identity *identity)
{
    control_place_failed(identity->options.place);
    bool retrying = identity->call != NULL || identity->pause_us != 0;
    if (!retrying && identity->has_certificate &&
        now_of(identity) >= identity->begun_us + DOUBT_US) {
        identity->doubted = true;
        timer_clear(&identity->timer);
        loop_post(identity->options.loop, &identity->task);
    }
}

/* ---- life ---- */

static bool make_contexts(struct identity *identity, struct error *err)
{
    static const struct slice alpn[] = {{(const uint8_t *)"h2", 2}};
    struct tls_options options = tls_options_mesh(false);
    options.alpn = alpn;
    options.alpn_count = COUNT_OF(alpn);
    identity->own = tls_context_new(&options, err);
    options.mesh_identity = false;
    identity->anonymous = tls_context_new(&options, err);
    return identity->own != NULL && identity->anonymous != NULL;
}

static bool make_names(struct identity *identity, struct error *err)
{
    const struct identity_options *options = &identity->options;
    struct spiffe_id id = {slice_of_text(options->trust_domain), slice_of_text(options->namespace),
                           slice_of_text(options->account)};
    struct spiffe_id control = {slice_of_text(options->trust_domain), SLICE(CONTROL_NAMESPACE),
                                SLICE(CONTROL_ACCOUNT)};
    if (spiffe_format(&id, identity->id) == 0 ||
        spiffe_format(&control, identity->control_id) == 0) {
        return error_set(err, "trust domain %s, service account %s/%s make no SPIFFE id",
                         options->trust_domain, options->namespace, options->account);
    }
    return true;
}

struct identity *identity_new(const struct identity_options *options, struct error *err)
{
    struct identity *identity = NEW(struct identity);
    identity->options = *options;
    identity->task.run = run;
    identity->timer.task = &identity->task;
    rng_seed(&identity->rng, options->seed);
    tls_keys_init(&identity->keys, tls_openssl());
    struct arena arena;
    arena_init(&arena, NULL);
    struct tls_trust *trust = read_trust(identity, &arena, SLICE(""), err);
    arena_fini(&arena);
    if (trust == NULL) {
        (void)error_wrap(err, "--mesh-root");
        identity_free(&identity);
        return NULL;
    }
    tls_keys_set_trust_take(&identity->keys, &trust);
    if (!make_names(identity, err) || !make_contexts(identity, err)) {
        identity_free(&identity);
        return NULL;
    }
    loop_post(options->loop, &identity->task);
    return identity;
}

void identity_free(struct identity **identity)
{
    struct identity *it = *identity;
    *identity = NULL;
    if (it == NULL) {
        return;
    }
    drop_call(it);
    timer_clear(&it->timer);
    task_cancel(&it->task);
    tls_keys_fini(&it->keys);
    tls_context_unref(&it->own);
    tls_context_unref(&it->anonymous);
    mem_free(it->newest_text);
    mem_free(it);
}

struct slice identity_get_id(const struct identity *identity)
{
    return slice_of_text(identity->id);
}

const struct tls_validity *identity_get_validity(const struct identity *identity)
{
    return identity->has_certificate ? &identity->validity : NULL;
}

bool identity_is_valid(const struct identity *identity)
{
    return identity->has_certificate &&
           identity->options.loop->wall_us < identity->validity.not_after_us;
}

const char *identity_get_trouble(const struct identity *identity)
{
    return identity->trouble.text;
}
