/* The input's lines are the arguments; what stands behind an empty line is the environment. Beyond
 * "no crash": a refusal says why, and what was taken is within the row's bounds. */
#include <stdint.h>

#include "base/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

struct sample {
    uint64_t number;
    uint64_t bytes;
    uint64_t time_us;
    double share;
    bool flag;
    const char *text;
    const char *target;
    struct option_list list;
    unsigned choice;
    struct addr addr;
};

static const char *const choices[] = {"one", "two", NULL};

static const struct option rows[] = {
    OPTION("number", INT, struct sample, number, .fallback = "5", .min = 5, .max = 50),
    OPTION("bytes", SIZE, struct sample, bytes, .fallback = "1KiB", .max = 1 << 20),
    OPTION("time", DURATION, struct sample, time_us, .max = 1000000),
    OPTION("share", FRACTION, struct sample, share, .fallback = "0.5"),
    OPTION("flag", BOOL, struct sample, flag, .letter = 'f'),
    OPTION("text", STRING, struct sample, text, .letter = 't'),
    OPTION("target", TARGET, struct sample, target, .unit = "HOST:PORT"),
    OPTION("list", LIST, struct sample, list, .fallback = "a,b"),
    OPTION("choice", CHOICE, struct sample, choice, .choices = choices),
    OPTION("addr", ADDRESS, struct sample, addr, .unit = "IP:PORT"),
};

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    enum { PARTS_MAX = 32 };
    const struct options_program program = {
        .name = "fuzz", .max_words = 3, .options = rows, .count = COUNT_OF(rows)};
    struct arena arena;
    char *parts[2][PARTS_MAX + 1] = {{NULL}, {NULL}};
    int counts[2] = {1, 0};
    int part = 0;
    arena_init(&arena, NULL);
    parts[0][0] = arena_text(&arena, SLICE("fuzz"));
    struct slice rest = slice_of(input, len);
    while (rest.len > 0 && counts[part] < PARTS_MAX) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.len == 0 && part == 0) {
            part = 1;
            continue;
        }
        parts[part][counts[part]++] = arena_text(&arena, line);
    }
    struct sample sample = {.number = 0};
    struct option_list words;
    struct error err = {""};
    struct options_input in = {.argc = counts[0], .argv = parts[0], .environment = parts[1]};
    enum options_result result = options_parse(&program, &in, &arena, &sample, &words, &err);
    CHECK((result == OPTIONS_BAD) == (err.text[0] != '\0'));
    if (result == OPTIONS_RUN) {
        CHECK(sample.number >= 5 && sample.number <= 50);
        CHECK(sample.bytes <= 1 << 20);
        CHECK(sample.time_us <= 1000000);
        CHECK(sample.share >= 0);
        CHECK(sample.choice < 2);
        CHECK(words.count <= 3);
        CHECK(sample.target == NULL || options_check_target(slice_of_text(sample.target)));
    }
    arena_fini(&arena);
    return 0;
}
