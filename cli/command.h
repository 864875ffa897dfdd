#pragma once
/* A subcommand of `pillion`: its options, and what it does. cli/main.c has the table; each file
 * named like a subcommand has its row. One thread. */

#include <stddef.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/options.h"

/* Exit codes, the same for all of them. */
#define EXIT_DONE  0
#define EXIT_NO    1 /* the answer is no, or there is none: *err or the output says why */
#define EXIT_USAGE 2 /* the command line is wrong */

/* One run of a subcommand. */
struct call {
    struct arena *arena; /* ends with the program */
    const void *options; /* the subcommand's own struct */
    struct option_list words;
    FILE *out;
    FILE *notes; /* what is not the answer: stderr */
};

struct command {
    const char *name;
    const struct options_program *program; /* named "pillion NAME" */
    size_t options_bytes;                  /* of the struct that its table fills */
    /* An exit code; with another than EXIT_DONE, *err is shown, where it is set. */
    int (*run)(const struct call *call, struct error *err);
};

extern const struct command command_status;
extern const struct command command_token;
extern const struct command command_validate;
extern const struct command command_wait;

/* The command line as main gets it; returns the exit code. */
int command_run(int argc, char *const *argv, char *const *environment, FILE *out, FILE *notes);
