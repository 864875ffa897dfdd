#include "tests/sim/authority.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/token.h"
#include "tests/sim/chance.h"
#include "tests/sim/world.h"

#define AUTHORITY_SEED UINT64_C(0x5EED)
#define TOKEN_LIFE_S   (24 * 60 * 60)

static const char *const accounts[] = {"client", "server", "second"};
static const char *const files[] = {"root.pem",     "token.key",         "client.token",
                                    "server.token", "second.token",      "ca/root.key",
                                    "ca/root.pem",  "stranger/root.key", "stranger/root.pem"};

static const char *path_of(struct authority *authority, const char *name)
{
    return arena_printf(&authority->arena, "%s/%s", authority->folder, name);
}

static struct ca *open_ca(const char *folder, uint32_t ttl_s)
{
    struct ca_options options = {
        .folder = folder, .trust_domain = slice_of_text("cluster.local"), .ttl_s = ttl_s};
    struct error err = {.text = ""};
    struct ca *ca = ca_open(&options, WORLD_WALL_OFFSET_US, &err);
    if (ca == NULL) {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    CHECK(ca != NULL);
    return ca;
}

static void write_token(struct authority *authority, const char *account)
{
    struct error err = {.text = ""};
    char *token = token_make(authority->key, slice_of_text("default"), slice_of_text(account),
                             TOKEN_LIFE_S, WORLD_WALL_OFFSET_US, &err);
    CHECK(token != NULL);
    CHECK(crypto_save_secret(authority_token(authority, account), slice_of_text(token), &err));
    mem_free(token);
}

void authority_open(struct authority *authority)
{
    struct error err = {.text = ""};
    if (authority->folder != NULL) {
        return;
    }
    const char *base = getenv("TMPDIR");
    arena_init(&authority->arena, NULL);
    char *folder = arena_text(&authority->arena,
                              slice_of_text(arena_printf(&authority->arena, "%s/pillion-sim-XXXXXX",
                                                         base != NULL ? base : "/tmp")));
    CHECK(mkdtemp(folder) != NULL);
    authority->folder = folder;
    chance_seed(AUTHORITY_SEED);
    authority->mesh = open_ca(path_of(authority, "ca"), 0);
    authority->stranger = open_ca(path_of(authority, "stranger"), 0);
    authority->mesh_root = path_of(authority, "root.pem");
    authority->token_key = path_of(authority, "token.key");
    CHECK(crypto_save_secret(authority->mesh_root, ca_get_root(authority->mesh), &err));
    authority->key = token_key_open(authority->token_key, &err);
    CHECK(authority->key != NULL);
    for (size_t i = 0; i < COUNT_OF(accounts); i++) {
        write_token(authority, accounts[i]);
    }
}

void authority_close(struct authority *authority)
{
    if (authority->folder == NULL) {
        return;
    }
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        (void)unlink(path_of(authority, files[i]));
    }
    (void)rmdir(path_of(authority, "ca"));
    (void)rmdir(path_of(authority, "stranger"));
    (void)rmdir(authority->folder);
    ca_free(&authority->mesh);
    ca_free(&authority->stranger);
    crypto_key_unref(&authority->key);
    arena_fini(&authority->arena);
    authority->folder = NULL;
}

struct ca *authority_reopen(const struct authority *authority, uint32_t ttl_s)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct ca *ca = open_ca(arena_printf(&arena, "%s/ca", authority->folder), ttl_s);
    arena_fini(&arena);
    return ca;
}

const char *authority_token(struct authority *authority, const char *account)
{
    return path_of(authority, arena_printf(&authority->arena, "%s.token", account));
}

struct tls_identity *authority_issue(const struct ca *ca, const char *identity, uint32_t ttl_s,
                                     uint64_t wall_us)
{
    struct error err = {.text = ""};
    struct crypto_key *key = crypto_key_new();
    char *request = spiffe_request_new(key, slice_of_text(identity));
    struct ca_subject subject = {.identity = slice_of_text(identity), .ttl_s = ttl_s};
    struct ca_chain chain;
    CHECK(ca_issue(ca, slice_of_text(request), &subject, wall_us, &chain, &err));
    struct tls_identity *made = tls_identity_new(slice_of_text(chain.pems[0]), key, &err);
    CHECK(made != NULL);
    ca_chain_fini(&chain);
    mem_free(request);
    crypto_key_unref(&key);
    return made;
}

struct tls_trust *authority_trust(const struct authority *authority)
{
    struct error err = {.text = ""};
    struct tls_trust *trust = tls_trust_new(ca_get_root(authority->mesh), &err);
    CHECK(trust != NULL);
    return trust;
}
