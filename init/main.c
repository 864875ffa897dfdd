#include <stdio.h>
#include <stdlib.h>

#include "init/loopback.h"
#include "init/nft.h"
#include "init/options.h"
#include "init/rules.h"

#include "base/alloc.h"
#include "base/version.h"

extern char **environ;

/* The address before the rules: once they hold, the sidecar may need it. */
static bool write_rules(const char *table_text, struct arena *arena, struct error *err)
{
    if (!nft_check_kernel(err)) {
        return false;
    }
    switch (loopback_add(err)) {
    case LOOPBACK_DONE:
    case LOOPBACK_ABSENT:
        break;
    case LOOPBACK_NO_IPV6:
        (void)fputs("pillion-init: IPv6 is off in this network namespace: only IPv4 is captured\n",
                    stderr);
        break;
    case LOOPBACK_FAILED:
        return false;
    }
    return nft_run(rules_write_script(table_text, arena), err);
}

static bool check_rules(const char *table_text, struct arena *arena, struct error *err)
{
    const char *found = NULL;
    if (!nft_list(RULES_TABLE, arena, &found, err)) {
        return false;
    }
    if (found == NULL) {
        return error_set(err, "no capture rules: there is no table inet " RULES_TABLE);
    }
    const char *difference = rules_difference(table_text, found, arena);
    if (difference != NULL) {
        return error_set(err, "other capture rules are in force: %s", difference);
    }
    switch (loopback_check(err)) {
    case LOOPBACK_DONE:
    case LOOPBACK_NO_IPV6:
        return true;
    case LOOPBACK_ABSENT:
        return error_set(err, "the rules are in force, but ::6/128 is missing on lo");
    case LOOPBACK_FAILED:
        break;
    }
    return false;
}

static bool remove_rules(struct error *err)
{
    return nft_run(rules_remove_script(), err) && loopback_remove(err) != LOOPBACK_FAILED;
}

/* 0; 1 where the kernel or a check says no; 2 where the options are wrong. */
static int run(const struct init_options *given, struct arena *arena)
{
    struct error err = {.text = ""};
    struct rules rules;
    if (!init_options_check(given, &err) || !rules_read(&rules, given, arena, &err)) {
        (void)fprintf(stderr, "pillion-init: %s\n", err.text);
        return 2;
    }
    bool done = true;
    if (given->remove) {
        done = remove_rules(&err);
    } else {
        const char *text = rules_text(&rules, arena);
        if (given->print) {
            (void)fputs(text, stdout);
        } else if (given->check) {
            done = check_rules(text, arena, &err);
        } else {
            done = write_rules(text, arena, &err);
        }
    }
    if (!done) {
        (void)fprintf(stderr, "pillion-init: %s\n", err.text);
    }
    return done ? 0 : 1;
}

int main(int argc, char **argv)
{
    alloc_init();
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    struct init_options given = {.user = 0};
    struct options_input input = {.argc = argc, .argv = argv, .environment = environ};
    int status = 0;
    switch (options_parse(&init_program, &input, &arena, &given, NULL, &err)) {
    case OPTIONS_RUN:
        status = run(&given, &arena);
        break;
    case OPTIONS_HELP:
        options_print_help(&init_program, stdout);
        break;
    case OPTIONS_VERSION:
        (void)puts("pillion-init " PILLION_VERSION);
        break;
    case OPTIONS_BAD:
        (void)fprintf(stderr, "pillion-init: %s\n", err.text);
        status = 2;
        break;
    }
    arena_fini(&arena);
    return status;
}
