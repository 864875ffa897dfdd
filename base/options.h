#pragma once
/* The options of a program, as one table from which parsing, --help and the errors follow:
 *
 *     static const struct option options[] = {
 *         OPTION("control-address", TARGET, struct sidecar_options, control,
 *                .fallback = "127.0.0.1:15012", .meaning = "where pillion-control serves xDS"),
 *         OPTION("drain-min", DURATION, struct sidecar_options, drain_min_us, .fallback = "5s",
 *                .max = 600 * OPTION_SECOND, .meaning = "shortest time between SIGTERM and exit"),
 *     };
 *
 * Each option can be given as a flag (--drain-min 5s or --drain-min=5s), as an environment variable
 * (PILLION_DRAIN_MIN; empty counts as not given) or not at all, in that order of precedence; of a
 * flag given twice the last counts, but for LIST, which collects. A list in the environment is
 * separated by commas. Texts are borrowed from argv, the environment and the table. At start only,
 * one thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/error.h"
#include "base/slice.h"

/* Kind, type of the field, word in --help, what is allowed. */
#define OPTION_KINDS(X)                                                                            \
    X(BOOL, bool, "", "true or false")                                                             \
    X(INT, uint64_t, "N", "a whole number")                                                        \
    X(SIZE, uint64_t, "SIZE", "bytes as 4096, 64KiB, 16MiB, 1GiB")                                 \
    X(DURATION, uint64_t, "TIME", "a time as 500ms, 5s, 1m30s, 24h")                               \
    X(FRACTION, double, "X", "a number as 0.01")                                                   \
    X(STRING, const char *, "TEXT", "any text")                                                    \
    X(LIST, struct option_list, "TEXT", "any text")                                                \
    X(CHOICE, unsigned, "WORD", "one of the words listed")                                         \
    X(ADDRESS, struct addr, "IP:PORT", "an address as 127.0.0.1:15000 or [::1]:15000")             \
    X(TARGET, const char *, "HOST:PORT", "a host and port as example.com:443 or [::1]:443")

enum option_kind {
#define OPTION_KIND_ENUM(name, type, word, allowed) OPTION_KIND_##name,
    OPTION_KINDS(OPTION_KIND_ENUM)
#undef OPTION_KIND_ENUM
};

struct option_list {
    const char **items;
    size_t count;
};

/* Bounds of a DURATION are microseconds, as its field is. */
#define OPTION_MILLISECOND UINT64_C(1000)
#define OPTION_SECOND      UINT64_C(1000000)

struct option {
    const char *name; /* without dashes: "control-address" */
    enum option_kind kind;
    size_t offset;        /* of the field in the program's struct */
    char letter;          /* -f; 0: none */
    const char *fallback; /* the default as one would write it; null: the field is left alone */
    const char *fallback_words; /* says in --help what happens then: "the cgroup's limit" */
    uint64_t min;               /* smallest INT, SIZE or DURATION */
    uint64_t max;               /* largest; 0: no bound */
    const char *const
        *choices;        /* CHOICE: the words, null behind the last; the field is the index */
    const char *unit;    /* the word in --help where the kind's is too general: "FILE" */
    const char *meaning; /* one sentence without a full stop */
};

/* A row; fails to compile where the field's type is not the kind's. */
#define OPTION(option_name, kind_name, type, member, ...)                                          \
    {                                                                                              \
        .name = (option_name), .kind = OPTION_KIND_##kind_name,                                    \
        .offset = OPTION_OFFSET_##kind_name(type, member), __VA_ARGS__                             \
    }
#define OPTION_OFFSET(type, member, wanted)                                                        \
    _Generic(((type *)0)->member, wanted : offsetof(type, member))
#define OPTION_OFFSET_BOOL(type, member)     OPTION_OFFSET(type, member, bool)
#define OPTION_OFFSET_INT(type, member)      OPTION_OFFSET(type, member, uint64_t)
#define OPTION_OFFSET_SIZE(type, member)     OPTION_OFFSET(type, member, uint64_t)
#define OPTION_OFFSET_DURATION(type, member) OPTION_OFFSET(type, member, uint64_t)
#define OPTION_OFFSET_FRACTION(type, member) OPTION_OFFSET(type, member, double)
#define OPTION_OFFSET_STRING(type, member)   OPTION_OFFSET(type, member, const char *)
#define OPTION_OFFSET_LIST(type, member)     OPTION_OFFSET(type, member, struct option_list)
#define OPTION_OFFSET_CHOICE(type, member)   OPTION_OFFSET(type, member, unsigned)
#define OPTION_OFFSET_ADDRESS(type, member)  OPTION_OFFSET(type, member, struct addr)
#define OPTION_OFFSET_TARGET(type, member)   OPTION_OFFSET(type, member, const char *)

struct options_program {
    const char *name;    /* "pillion wait" */
    const char *summary; /* what it is for, in --help */
    const char *words;   /* "FILE..." in the usage line; null: it takes no words */
    size_t max_words;
    const struct option *options;
    size_t count;
};

struct options_input {
    int argc; /* with the program's name in front, which is skipped */
    char *const *argv;
    char *const *environment; /* "NAME=value", null behind the last; may be null */
};

enum options_result {
    OPTIONS_RUN,
    OPTIONS_HELP,    /* --help or -h was given: options_print_help, exit 0 */
    OPTIONS_VERSION, /* --version */
    OPTIONS_BAD,     /* err names the option, the value and what is allowed */
};

/* Fills the struct at `into`, which the caller has zeroed. `words` (may be null where the program
 * takes none) gets what is no option; "--" ends the options. Lists live in the arena. */
enum options_result options_parse(const struct options_program *program,
                                  const struct options_input *input, struct arena *arena,
                                  void *into, struct option_list *words,
                                  struct error *err) MUST_USE;

void options_print_help(const struct options_program *program, FILE *out);

/* "500ms", "5s", "1m30s", "1.5h", "0"; units us, ms, s, m, h. Microseconds; false where the text is
 * none, finer than that, or beyond 64 bits. */
bool options_parse_duration(struct slice text, uint64_t *us) MUST_USE;
/* "4096", "64KiB", "64Ki", "16MiB", "1GiB". False where the text is none or beyond 64 bits. */
bool options_parse_size(struct slice text, uint64_t *bytes) MUST_USE;
/* "name:port" or "[ip6]:port", port 1 to 65535. */
bool options_check_target(struct slice text) MUST_USE;
