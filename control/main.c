/* pillion-control: reads its options, opens what it needs, and runs one loop until SIGTERM or
 * SIGINT. Whatever is missing at the start ends it with a line that names it; what goes missing
 * later is logged, and everything else goes on. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/rng.h"
#include "base/tls.h"
#include "base/token.h"
#include "base/version.h"
#include "control/options.h"
#include "control/picture.h"
#include "control/serve/ads.h"
#include "control/serve/api.h"
#include "control/serve/ca.h"
#include "control/serve/ca_service.h"
#include "control/source/files.h"
#include "http/server.h"

#define SECOND_US UINT64_C(1000000)
/* Another try where our own certificate could not be renewed. */
#define RENEW_AGAIN_US (60 * SECOND_US)
/* And where the state could not be saved. */
#define SAVE_AGAIN_US (5 * SECOND_US)

/* gRPC's channels to one address share a connection, however many clients they are. */
#define CLIENT_STREAMS 1000U

#define ROOT_MAX 65536U

enum { EXIT_OPTIONS = 2 };

struct daemon {
    struct control_options options;
    struct arena arena; /* options, paths */
    int lock;           /* held on STATE/lock as long as we live; -1: not yet */
    struct loop *loop;
    struct picture picture;
    struct files *files;
    struct ca *ca;
    struct crypto_key *token_key;
    struct credentials credentials;
    struct ads *ads;
    struct ca_service *certificates;
    struct api *api;
    struct tls_context *tls;
    struct tls_keys keys;
    struct http_server *secure;
    struct http_server *plain;
    struct http_server *open; /* API and metrics */
    struct task changed;      /* the source has */
    struct task save;         /* the state, which the disk did not take */
    struct timer save_timer;
    struct task renew;
    struct timer renew_timer;
    struct task stop;
};

extern char **environ;

/* ---- what is served ---- */

static void on_stream(void *owner, struct grpc_stream *stream)
{
    struct daemon *daemon = owner;
    ads_accept_take(daemon->ads, &stream);
}

static void on_certificate(void *owner, struct http_call *call)
{
    struct daemon *daemon = owner;
    ca_service_answer_take(daemon->certificates, &call);
}

#define X(service_path, protocol, only)                                                            \
    {.path = (service_path),                                                                       \
     .kind = HTTP_ROUTE_STREAM,                                                                    \
     .body_max = ADS_REQUEST_BYTES,                                                                \
     .stream = on_stream},
static const struct http_route plain_routes[] = {ADS_SERVICES(X)};
static const struct http_route secure_routes[] = {
    ADS_SERVICES(X){.path = CA_SERVICE_PATH,
                    .kind = HTTP_ROUTE_UNARY,
                    .body_max = CA_REQUEST_BYTES,
                    .plain = on_certificate},
};
#undef X

/* ---- tasks ---- */

static void save_again(struct daemon *daemon)
{
    if (daemon->picture.save_failed) {
        timer_set(daemon->loop, &daemon->save_timer, daemon->loop->now_us + SAVE_AGAIN_US);
    }
}

static void on_save(struct task *task)
{
    struct daemon *daemon = CONTAINER_OF(task, struct daemon, save);
    timer_clear(&daemon->save_timer);
    picture_save(&daemon->picture);
    save_again(daemon);
}

static void source_read(struct daemon *daemon)
{
    struct files_look look;
    files_read(daemon->files, &look);
    (void)picture_apply(&daemon->picture, &look, daemon->loop->wall_us);
    files_look_fini(&look);
    alloc_trim();
    save_again(daemon);
}

static void on_changed(struct task *task)
{
    struct daemon *daemon = CONTAINER_OF(task, struct daemon, changed);
    source_read(daemon);
    ads_picture_changed(daemon->ads);
}

/* A fresh certificate of our own; half-way through its life the next. */
static bool identity_renew(struct daemon *daemon, uint64_t wall_us, struct error *err)
{
    const struct option_list *names = &daemon->options.dns_names;
    struct slice *dns = NEW_ARRAY(struct slice, names->count);
    for (size_t i = 0; i < names->count; i++) {
        dns[i] = slice_of_text(names->items[i]);
    }
    struct tls_identity *identity = ca_issue_own(daemon->ca, dns, names->count, wall_us, err);
    mem_free(dns);
    if (identity == NULL) {
        return false;
    }
    uint64_t end_us = tls_identity_get_validity(identity)->not_after_us;
    uint64_t life_us = end_us > wall_us ? end_us - wall_us : 2 * SECOND_US;
    tls_keys_set_identity_take(&daemon->keys, &identity);
    timer_set(daemon->loop, &daemon->renew_timer, daemon->loop->now_us + life_us / 2);
    return true;
}

static void on_renew(struct task *task)
{
    struct daemon *daemon = CONTAINER_OF(task, struct daemon, renew);
    struct error err = {{0}};
    timer_clear(&daemon->renew_timer);
    if (!identity_renew(daemon, daemon->loop->wall_us, &err)) {
        log_error("the own certificate cannot be renewed", LOG_CAUSE(&err));
        timer_set(daemon->loop, &daemon->renew_timer, daemon->loop->now_us + RENEW_AGAIN_US);
    }
}

static void on_stop(struct task *task)
{
    struct daemon *daemon = CONTAINER_OF(task, struct daemon, stop);
    log_info("stopping");
    loop_stop(daemon->loop);
}

/* ---- start ---- */

static bool folder_make(const char *path, struct error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return error_errno(err, "%s", path);
    }
    return true;
}

/* Where whoever starts a sidecar finds what to give it as --mesh-root, whoever made the authority.
 */
static bool root_save(struct daemon *daemon, struct error *err)
{
    const char *path = arena_printf(&daemon->arena, "%s/root.pem", daemon->options.state_dir);
    struct slice root = ca_get_root(daemon->ca);
    struct slice there = {NULL, 0};
    if (file_read(path, ROOT_MAX, &daemon->arena, &there, NULL) && slice_eq(there, root)) {
        return true;
    }
    return crypto_save_secret(path, root, err);
}

/* Two daemons on one state would give the same generation to different objects. */
static bool state_lock(struct daemon *daemon, struct error *err)
{
    const char *folder = daemon->options.state_dir;
    const char *path = arena_printf(&daemon->arena, "%s/lock", folder);
    if (!folder_make(folder, err)) {
        return false;
    }
    daemon->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (daemon->lock < 0) {
        return error_errno(err, "%s", path);
    }
    if (flock(daemon->lock, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? error_set(err, "%s: another pillion-control uses this folder", folder)
                   : error_errno(err, "%s", path);
    }
    return true;
}

static bool authority_open(struct daemon *daemon, struct error *err)
{
    const struct control_options *given = &daemon->options;
    const char *key = arena_printf(&daemon->arena, "%s/token.key", given->state_dir);
    struct ca_options options = {
        .folder = arena_printf(&daemon->arena, "%s/ca", given->state_dir),
        .cert_path = given->ca_cert,
        .key_path = given->ca_key,
        .trust_domain = slice_of_text(given->trust_domain),
        .ttl_s = (uint32_t)(given->cert_ttl_us / SECOND_US),
        .backdate_s = (uint32_t)(given->cert_backdate_us / SECOND_US),
    };
    daemon->ca = ca_open(&options, daemon->loop->wall_us, err);
    if (daemon->ca == NULL) {
        return error_wrap(err, "certificate authority");
    }
    if (!root_save(daemon, err)) {
        return error_wrap(err, "root certificate");
    }
    daemon->token_key = token_key_open(key, err);
    if (daemon->token_key == NULL) {
        return error_wrap(err, "token key");
    }
    daemon->credentials = (struct credentials){daemon->token_key, options.trust_domain};
    return true;
}

static bool tls_open(struct daemon *daemon, struct error *err)
{
    static const struct slice alpn[] = {{(const uint8_t *)"h2", 2}};
    tls_keys_init(&daemon->keys, tls_openssl());
    struct tls_trust *trust = tls_trust_new(ca_get_root(daemon->ca), err);
    if (trust == NULL) {
        return error_wrap(err, "root certificate");
    }
    tls_keys_set_trust_take(&daemon->keys, &trust);
    struct tls_options options = {
        .server = true,
        .mesh_identity = true,
        .mesh_trust = true,
        .verify = TLS_VERIFY_IF_GIVEN,
        .min = TLS_VERSION_1_2,
        .max = TLS_VERSION_1_3,
        .alpn = alpn,
        .alpn_count = COUNT_OF(alpn),
    };
    daemon->tls = tls_context_new(&options, err);
    if (daemon->tls == NULL) {
        return error_wrap(err, "tls");
    }
    daemon->renew.run = on_renew;
    daemon->renew_timer.task = &daemon->renew;
    if (!identity_renew(daemon, daemon->loop->wall_us, err)) {
        return error_wrap(err, "own certificate");
    }
    return true;
}

static bool source_open(struct daemon *daemon, struct error *err)
{
    const struct control_options *given = &daemon->options;
    struct model_options options = {.trust_domain = given->trust_domain,
                                    .root_namespace = given->root_namespace,
                                    .block_unknown = given->unknown == 1};
    daemon->changed.run = on_changed;
    daemon->save.run = on_save;
    daemon->save_timer.task = &daemon->save;
    daemon->files = files_open(daemon->loop, control_options_folder(given), &daemon->changed, err);
    if (daemon->files == NULL) {
        return error_wrap(err, "--source");
    }
    picture_init(&daemon->picture, given->state_dir, &options);
    source_read(daemon);
    return true;
}

static void services_open(struct daemon *daemon)
{
    daemon->certificates = ca_service_new(daemon->loop, daemon->ca, &daemon->credentials);
    daemon->api = api_new(&(struct api_options){
        .loop = daemon->loop, .picture = &daemon->picture, .certificates = daemon->certificates});
    struct rng rng;
    rng_seed_from_system(&rng);
    daemon->ads = ads_new(daemon->loop, &daemon->picture, &daemon->credentials,
                          api_get_task(daemon->api), rng_u64(&rng));
    api_set_ads(daemon->api, daemon->ads);
}

struct port {
    const char *option;
    const struct addr *at;
    struct http_server **server;
    struct http_server_options options;
    struct tls_context *tls;
};

static bool port_open(struct daemon *daemon, const struct port *port, struct error *err)
{
    struct addr bound;
    char text[ADDR_TEXT_MAX];
    *port->server = http_server_new(daemon->loop, &port->options);
    if (!http_server_listen(*port->server, port->at, port->tls,
                            port->tls != NULL ? &daemon->keys : NULL, &bound, err)) {
        return error_wrap(err, "--%s", port->option);
    }
    log_info("listening", LOG_TEXT("for", port->option),
             LOG_TEXT("address", addr_format(&bound, text)));
    return true;
}

static bool ports_open(struct daemon *daemon, struct error *err)
{
    size_t api_count = 0;
    const struct http_route *api_rows = api_get_routes(&api_count);
    const struct port ports[] = {
        {.option = "xds-address",
         .at = &daemon->options.xds,
         .server = &daemon->secure,
         .options = {.routes = secure_routes,
                     .route_count = COUNT_OF(secure_routes),
                     .owner = daemon,
                     .max_connections = 16384,
                     .max_streams = CLIENT_STREAMS},
         .tls = daemon->tls},
        {.option = "xds-plain-address",
         .at = &daemon->options.xds_plain,
         .server = &daemon->plain,
         .options = {.routes = plain_routes,
                     .route_count = COUNT_OF(plain_routes),
                     .owner = daemon,
                     .max_streams = CLIENT_STREAMS}},
        {.option = "api-address",
         .at = &daemon->options.api,
         .server = &daemon->open,
         .options = {.routes = api_rows, .route_count = api_count, .owner = daemon->api}},
    };
    for (size_t i = 0; i < COUNT_OF(ports); i++) {
        if (!port_open(daemon, &ports[i], err)) {
            return false;
        }
    }
    return true;
}

static bool daemon_open(struct daemon *daemon, struct error *err)
{
    daemon->stop.run = on_stop;
    if (!state_lock(daemon, err)) {
        return error_wrap(err, "--state-dir");
    }
    if (!authority_open(daemon, err) || !tls_open(daemon, err) || !source_open(daemon, err)) {
        return false;
    }
    services_open(daemon);
    if (!ports_open(daemon, err)) {
        return false;
    }
    loop_on_signal(daemon->loop, SIGTERM, &daemon->stop);
    loop_on_signal(daemon->loop, SIGINT, &daemon->stop);
    log_info("ready", LOG_TEXT("version", PILLION_VERSION),
             LOG_SLICE("identity", ca_get_control_identity(daemon->ca)),
             LOG_U64("generation", daemon->picture.set.generation));
    return true;
}

static void daemon_close(struct daemon *daemon)
{
    /* Services first: their last words still find the connections. */
    ads_free(&daemon->ads);
    api_free(&daemon->api);
    ca_service_free(&daemon->certificates);
    http_server_free(&daemon->secure);
    http_server_free(&daemon->plain);
    http_server_free(&daemon->open);
    loop_drain(daemon->loop);
    files_free(&daemon->files);
    timer_clear(&daemon->save_timer);
    if (daemon->picture.path != NULL) {
        picture_fini(&daemon->picture);
    }
    if (daemon->keys.provider != NULL) {
        timer_clear(&daemon->renew_timer);
        tls_keys_fini(&daemon->keys);
    }
    tls_context_unref(&daemon->tls);
    crypto_key_unref(&daemon->token_key);
    ca_free(&daemon->ca);
    if (daemon->lock >= 0) {
        (void)close(daemon->lock);
    }
    loop_free(&daemon->loop);
}

static void log_start(const struct control_options *options)
{
    struct log_config config = {
        .format = options->log_format == 1 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT, .fd = 2};
    CHECK(log_level_parse(slice_of_text(options->log_level), &config.level));
    log_open(&config);
}

/* As many connections as the system lets us have: a mesh may have thousands of sidecars. */
static void files_allow(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int daemon_run(struct daemon *daemon)
{
    struct error err = {{0}};
    log_start(&daemon->options);
    files_allow();
    daemon->loop = loop_new();
    bool opened = daemon_open(daemon, &err);
    if (opened) {
        loop_run(daemon->loop);
    } else {
        (void)fprintf(stderr, "pillion-control: %s\n", err.text);
    }
    daemon_close(daemon);
    return opened ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct error err = {{0}};
    struct daemon daemon = {.lock = -1};
    alloc_init();
    crypto_init();
    json_init_library();
    (void)signal(SIGPIPE, SIG_IGN);
    arena_init(&daemon.arena, NULL);
    struct options_input input = {argc, argv, environ};
    int code = EXIT_SUCCESS;
    switch (options_parse(&control_program, &input, &daemon.arena, &daemon.options, NULL, &err)) {
    case OPTIONS_HELP:
        options_print_help(&control_program, stdout);
        break;
    case OPTIONS_VERSION:
        (void)printf("pillion-control %s\n", PILLION_VERSION);
        break;
    case OPTIONS_BAD:
        (void)fprintf(stderr, "pillion-control: %s\n", err.text);
        code = EXIT_OPTIONS;
        break;
    case OPTIONS_RUN:
        if (control_options_check(&daemon.options, &err)) {
            code = daemon_run(&daemon);
        } else {
            (void)fprintf(stderr, "pillion-control: %s\n", err.text);
            code = EXIT_OPTIONS;
        }
        break;
    }
    arena_fini(&daemon.arena);
    return code;
}
