#include "cli/command.h"

#include <string.h>

#include "base/check.h"
#include "base/version.h"

#define NO_OPTIONS_BYTES 1 /* an arena gives no empty memory */

static int run_version(const struct call *call, struct error *err)
{
    (void)err;
    (void)fputs("pillion " PILLION_VERSION "\n", call->out);
    return EXIT_DONE;
}

static const struct options_program version_program = {
    .name = "pillion version",
    .summary = "says which version this is",
};

static const struct command command_version = {
    .name = "version",
    .program = &version_program,
    .options_bytes = NO_OPTIONS_BYTES,
    .run = run_version,
};

/* In the order in which they are shown. */
static const struct command *const commands[] = {
    &command_validate, &command_wait, &command_status, &command_token, &command_version,
};

static void print_commands(FILE *out)
{
    (void)fputs("usage: pillion COMMAND [OPTION]...\n"
                "checks, watches and explains a mesh\n\n",
                out);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        (void)fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->program->summary);
    }
    (void)fputs("\n`pillion COMMAND --help` has the options of one.\n", out);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int run_parsed(const struct command *command, const struct call *call)
{
    struct error err = {.text = ""};
    int code = command->run(call, &err);
    /* What a step tried in vain on the way to its success is not worth a word. */
    if (code != EXIT_DONE && err.text[0] != '\0') {
        (void)fprintf(call->notes, "%s: %s\n", command->program->name, err.text);
    }
    /* A full disk must not look like an answer. */
    if (fflush(call->out) != 0 || ferror(call->out)) {
        (void)fprintf(call->notes, "%s: the output could not be written\n", command->program->name);
        return EXIT_NO;
    }
    return code;
}

static int run_command(const struct command *command, const struct options_input *input, FILE *out,
                       FILE *notes)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    void *options = arena_alloc(&arena, command->options_bytes);
    struct call call = {.arena = &arena, .options = options, .out = out, .notes = notes};
    int code = EXIT_DONE;
    switch (options_parse(command->program, input, &arena, options, &call.words, &err)) {
    case OPTIONS_RUN:
        code = run_parsed(command, &call);
        break;
    case OPTIONS_HELP:
        options_print_help(command->program, out);
        break;
    case OPTIONS_VERSION:
        code = run_version(&call, &err);
        break;
    case OPTIONS_BAD:
        (void)fprintf(notes, "%s: %s\n", command->program->name, err.text);
        code = EXIT_USAGE;
        break;
    }
    arena_fini(&arena);
    return code;
}

int command_run(int argc, char *const *argv, char *const *environment, FILE *out, FILE *notes)
{
    if (argc < 2) {
        print_commands(notes);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_commands(out);
        return EXIT_DONE;
    }
    if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const struct command *command = find(name);
    if (command == NULL) {
        (void)fprintf(notes, "pillion: there is no command \"%.40s\"\n\n", name);
        print_commands(notes);
        return EXIT_USAGE;
    }
    struct options_input input = {argc - 1, argv + 1, environment};
    return run_command(command, &input, out, notes);
}
