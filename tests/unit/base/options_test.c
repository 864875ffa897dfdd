#include <stdio.h>
#include <stdlib.h>

#include "base/options.h"
#include "tests/support/unit.h"

struct sample {
    const char *control;
    uint64_t workers;
    uint64_t drain_us;
    uint64_t limit_bytes;
    double sampling;
    bool verbose;
    const char *name;
    struct option_list inbound;
    unsigned level;
    struct addr admin;
};

static const char *const levels[] = {"error", "info", "debug", NULL};

static const struct option rows[] = {
    OPTION("control-address", TARGET, struct sample, control, .fallback = "127.0.0.1:15012",
           .meaning = "where the control plane is"),
    OPTION("workers", INT, struct sample, workers, .min = 1, .max = 64, .unit = "THREADS",
           .fallback_words = "the cgroup's limit, 1 to 4", .meaning = "worker threads"),
    OPTION("drain-min", DURATION, struct sample, drain_us, .fallback = "5s",
           .max = 600 * OPTION_SECOND, .meaning = "shortest drain"),
    OPTION("memory-limit", SIZE, struct sample, limit_bytes, .fallback = "64MiB", .min = 1 << 20,
           .meaning = "hard ceiling"),
    OPTION("sampling", FRACTION, struct sample, sampling, .fallback = "0.01",
           .meaning = "share of traces"),
    OPTION("verbose", BOOL, struct sample, verbose, .letter = 'v', .meaning = "say more"),
    OPTION("name", STRING, struct sample, name, .letter = 'n', .unit = "NAME",
           .meaning = "what it is called"),
    OPTION("inbound", LIST, struct sample, inbound, .unit = "LISTEN=APP", .meaning = "a listener"),
    OPTION("log-level", CHOICE, struct sample, level, .choices = levels, .fallback = "info",
           .meaning = "least level"),
    OPTION("admin", ADDRESS, struct sample, admin, .fallback = "127.0.0.1:15000",
           .meaning = "the admin port"),
};

static const struct options_program program = {.name = "sample",
                                               .summary = "A sample.",
                                               .words = "[FILE]...",
                                               .max_words = 2,
                                               .options = rows,
                                               .count = COUNT_OF(rows)};

static struct arena arena;
static struct sample sample;
static struct option_list words;
static struct error err;

/* argv and environment are texts with the parts separated by '|'. */
static enum options_result parse(const char *args, const char *environment)
{
    char *argv[24] = {arena_text(&arena, SLICE("sample"))};
    char *env[16] = {NULL};
    int argc = 1;
    int envc = 0;
    struct slice rest = slice_of_text(args);
    while (rest.len > 0) {
        argv[argc++] = arena_text(&arena, slice_cut(&rest, '|'));
    }
    rest = slice_of_text(environment);
    while (rest.len > 0) {
        env[envc++] = arena_text(&arena, slice_cut(&rest, '|'));
    }
    sample = (struct sample){0};
    err.text[0] = '\0';
    struct options_input input = {.argc = argc, .argv = argv, .environment = env};
    return options_parse(&program, &input, &arena, &sample, &words, &err);
}

static void refused(const char *args, const char *environment, const char *why)
{
    assert_int_equal(parse(args, environment), OPTIONS_BAD);
    assert_string_equal(err.text, why);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("", ""), OPTIONS_RUN);
    assert_string_equal(sample.control, "127.0.0.1:15012");
    assert_int_equal(sample.workers, 0);
    assert_int_equal(sample.drain_us, 5000000);
    assert_int_equal(sample.limit_bytes, 64 << 20);
    assert_true(sample.sampling > 0.0099 && sample.sampling < 0.0101);
    assert_false(sample.verbose);
    assert_null(sample.name);
    assert_int_equal(sample.inbound.count, 0);
    assert_int_equal(sample.level, 1);
    assert_int_equal(sample.admin.port, 15000);
}

static void test_flags(void **state)
{
    (void)state;
    assert_int_equal(parse("--workers|4|--drain-min=1m30s|-v|-n|x|--inbound|a=b|--inbound=c=d|"
                           "--inbound|e|--log-level|debug|--admin=[::1]:0|file|--|--odd",
                           ""),
                     OPTIONS_RUN);
    assert_int_equal(sample.workers, 4);
    assert_int_equal(sample.drain_us, 90000000);
    assert_true(sample.verbose);
    assert_string_equal(sample.name, "x");
    assert_int_equal(sample.inbound.count, 3);
    assert_string_equal(sample.inbound.items[1], "c=d");
    assert_string_equal(sample.inbound.items[2], "e");
    assert_int_equal(sample.level, 2);
    assert_int_equal(sample.admin.family, ADDR_IPV6);
    assert_int_equal(words.count, 2);
    assert_string_equal(words.items[1], "--odd");
    assert_int_equal(parse("--verbose=false|--workers|1|--workers|2", ""), OPTIONS_RUN);
    assert_false(sample.verbose);
    assert_int_equal(sample.workers, 2);
}

static void test_environment(void **state)
{
    (void)state;
    assert_int_equal(parse("--workers=2", "PILLION_WORKERS=3|PILLION_DRAIN_MIN=7s|PILLION_NAME=|"
                                          "PILLION_INBOUND=a=b, c=d,|OTHER=x|PILLION_VERBOSE=true"),
                     OPTIONS_RUN);
    assert_int_equal(sample.workers, 2);
    assert_int_equal(sample.drain_us, 7000000);
    assert_null(sample.name);
    assert_int_equal(sample.inbound.count, 2);
    assert_string_equal(sample.inbound.items[1], "c=d");
    assert_true(sample.verbose);
}

static void test_refusals_say_what_is_allowed(void **state)
{
    (void)state;
    refused("--workers|0", "",
            "--workers: \"0\" is not allowed; allowed: a whole number, from 1 to 64");
    refused("", "PILLION_WORKERS=many",
            "PILLION_WORKERS: \"many\" is not allowed; allowed: a whole number, from 1 to 64");
    refused("--drain-min=11m", "",
            "--drain-min: \"11m\" is not allowed; allowed: a time as 500ms, 5s, 1m30s, 24h, from "
            "0 to 10m");
    refused("--memory-limit=5", "",
            "--memory-limit: \"5\" is not allowed; allowed: bytes as 4096, 64KiB, 16MiB, 1GiB, at "
            "least 1MiB");
    refused("--log-level|loud", "",
            "--log-level: \"loud\" is not allowed; allowed: error, info, debug");
    refused("--admin|localhost:1", "",
            "--admin: \"localhost:1\" is not allowed; allowed: an address as 127.0.0.1:15000 or "
            "[::1]:15000");
    refused("--verbose=1", "", "--verbose: \"1\" is not allowed; allowed: true or false");
    refused("--name|--workers|2", "", "--name needs a value; allowed: any text");
    refused("--contrl-adress|x", "",
            "unknown option --contrl-adress; did you mean --control-address?");
    refused("--zzzzzzzz", "", "unknown option --zzzzzzzz; --help lists all");
    refused("-x", "", "unknown option -x; --help lists all");
    refused("a|b|c", "", "\"c\" is one word too many; --help shows the usage");
}

static void test_durations_and_sizes(void **state)
{
    (void)state;
    uint64_t value;
    assert_true(options_parse_duration(SLICE("500ms"), &value) && value == 500000);
    assert_true(options_parse_duration(SLICE("1h"), &value) && value == 3600000000);
    assert_true(options_parse_duration(SLICE("1.5s"), &value) && value == 1500000);
    assert_true(options_parse_duration(SLICE("1h1m1s1ms1us"), &value) && value == 3661001001);
    assert_true(options_parse_duration(SLICE("0"), &value) && value == 0);
    assert_true(options_parse_size(SLICE("64KiB"), &value) && value == 65536);
    assert_true(options_parse_size(SLICE("1.5Gi"), &value) && value == 1610612736);
    assert_true(options_parse_size(SLICE("123"), &value) && value == 123);
    static const char *const bad[] = {"",
                                      "s",
                                      "5",
                                      "-1s",
                                      "1 s",
                                      "1.s",
                                      ".5s",
                                      "0.1us",
                                      "1S",
                                      "99999999999999999999s",
                                      "1s-2s",
                                      "1e3s",
                                      "5000000000000h"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_false(options_parse_duration(slice_of_text(bad[i]), &value));
    }
    assert_false(options_parse_size(SLICE("1KiB2"), &value));
    assert_false(options_parse_size(SLICE("0.3B"), &value));
    assert_false(options_parse_size(SLICE("99999999999GiB"), &value));
}

static void test_targets(void **state)
{
    (void)state;
    assert_true(options_check_target(SLICE("example.com:443")));
    assert_true(options_check_target(SLICE("[::1]:443")));
    assert_false(options_check_target(SLICE("example.com")));
    assert_false(options_check_target(SLICE("example.com:0")));
    assert_false(options_check_target(SLICE("a b:1")));
    assert_false(options_check_target(SLICE("::1:443")));
    assert_false(options_check_target(SLICE("[::1:443")));
    assert_false(options_check_target(SLICE(":443")));
    assert_false(options_check_target(SLICE("")));
}

static void test_help(void **state)
{
    (void)state;
    assert_int_equal(parse("--help", ""), OPTIONS_HELP);
    assert_int_equal(parse("--version", ""), OPTIONS_VERSION);
    char text[8192] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    options_print_help(&program, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "usage: sample [OPTION]... [FILE]...\nA sample.\n"));
    assert_non_null(strstr(text, "  --workers THREADS\n      worker threads\n"
                                 "      allowed: a whole number, from 1 to 64\n"
                                 "      PILLION_WORKERS; default the cgroup's limit, 1 to 4\n"));
    assert_non_null(
        strstr(text, "  -n, --name NAME\n      what it is called\n      PILLION_NAME\n"));
    assert_non_null(strstr(text, "may be repeated; PILLION_INBOUND\n"));
}

static int fresh_arena(void **state)
{
    (void)state;
    arena_init(&arena, NULL);
    return 0;
}

static int free_arena(void **state)
{
    (void)state;
    arena_fini(&arena);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh_arena, free_arena)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_flags),
        TEST(test_environment),
        TEST(test_refusals_say_what_is_allowed),
        TEST(test_durations_and_sizes),
        TEST(test_targets),
        TEST(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
