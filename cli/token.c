/* `pillion token`: a service account's token, signed with the key of a pillion-control without
 * Kubernetes. Whoever can read STATE/token.key can be anybody in the mesh. */
#include "base/token.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "cli/command.h"

#define O          struct token_options
#define LIFETIME_S (TOKEN_LIFETIME_MAX_S * OPTION_SECOND)

struct token_options {
    const char *service_account;
    const char *state_dir;
    uint64_t ttl_us;
};

static const struct option options[] = {
    OPTION("service-account", STRING, O, service_account, .unit = "NS/SA",
           .meaning = "whom the token stands for"),
    OPTION("state-dir", STRING, O, state_dir, .unit = "DIR",
           .meaning =
               "as pillion-control is given it; its token.key signs, and is made where there "
               "is none"),
    OPTION("ttl", DURATION, O, ttl_us, .fallback = "24h", .min = OPTION_SECOND, .max = LIFETIME_S,
           .meaning = "how long it can be exchanged for a certificate"),
};

static const struct options_program program = {
    .name = "pillion token",
    .summary = "prints a token for a service account, where there is no Kubernetes",
    .options = options,
    .count = COUNT_OF(options),
};

/* "NS/SA" in two. */
static bool account_read(const char *text, struct slice *namespace, struct slice *account,
                         struct error *err)
{
    if (text == NULL) {
        return error_set(err, "--service-account is needed: NAMESPACE/NAME");
    }
    *account = slice_of_text(text);
    *namespace = slice_cut(account, '/');
    if (namespace->len == 0 || account->len == 0) {
        return error_set(err, "--service-account: \"%.100s\": allowed is NAMESPACE/NAME", text);
    }
    return true;
}

static bool token_print(const struct call *call, struct slice namespace, struct slice account,
                        struct error *err)
{
    const struct token_options *given = call->options;
    const char *path = arena_printf(call->arena, "%s/token.key", given->state_dir);
    struct crypto_key *key = token_key_open(path, err);
    if (key == NULL) {
        return false;
    }
    char *token = token_make(key, namespace, account, (uint32_t)(given->ttl_us / OPTION_SECOND),
                             clock_wall_us(), err);
    crypto_key_unref(&key);
    if (token == NULL) {
        return error_wrap(err, "--service-account");
    }
    (void)fprintf(call->out, "%s\n", token);
    mem_free(token);
    return true;
}

static int run(const struct call *call, struct error *err)
{
    const struct token_options *given = call->options;
    struct slice namespace = {NULL, 0};
    struct slice account = {NULL, 0};
    if (!account_read(given->service_account, &namespace, &account, err)) {
        return EXIT_USAGE;
    }
    if (given->state_dir == NULL || given->state_dir[0] == '\0') {
        (void)error_set(err, "--state-dir is needed: the one of pillion-control");
        return EXIT_USAGE;
    }
    return token_print(call, namespace, account, err) ? EXIT_DONE : EXIT_NO;
}

const struct command command_token = {
    .name = "token",
    .program = &program,
    .options_bytes = sizeof(O),
    .run = run,
};
