#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "base/json.h"
#include "base/log.h"
#include "base/version.h"
#include "sidecar/lifecycle.h"

extern char **environ;

static bool open_log(const struct sidecar_options *options, struct error *err)
{
    struct log_config config = {.format = (enum log_format)options->log_format, .fd = 2};
    if (!log_level_parse(slice_of_text(options->log_level), &config.level)) {
        return error_set(err, "--log-level %s: allowed are error, warning, info and debug",
                         options->log_level);
    }
    log_open(&config);
    return true;
}

static int run(const struct sidecar_options *options)
{
    struct error err = {.text = ""};
    struct sidecar *sidecar = NEW(struct sidecar);
    bool started = open_log(options, &err) && sidecar_init(sidecar, options, &err);
    if (started) {
        sidecar_run(sidecar);
    } else {
        (void)fprintf(stderr, "pillion-sidecar: %s\n", err.text);
    }
    sidecar_fini(sidecar);
    mem_free(sidecar);
    return started ? 0 : 1;
}

int main(int argc, char **argv)
{
    alloc_init();
    crypto_init();
    json_init_library();
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    struct sidecar_options options = {.workers = options_default_workers(),
                                      .memory_limit = options_default_memory()};
    struct options_input input = {.argc = argc, .argv = argv, .environment = environ};
    int status = 0;
    switch (options_parse(&sidecar_program, &input, &arena, &options, NULL, &err)) {
    case OPTIONS_RUN:
        status = run(&options);
        break;
    case OPTIONS_HELP:
        options_print_help(&sidecar_program, stdout);
        break;
    case OPTIONS_VERSION:
        (void)puts("pillion-sidecar " PILLION_VERSION);
        break;
    case OPTIONS_BAD:
        (void)fprintf(stderr, "pillion-sidecar: %s\n", err.text);
        status = 2;
        break;
    }
    arena_fini(&arena);
    return status;
}
