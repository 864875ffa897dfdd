#include <string.h>

#include "init/rules.h"

#include "tests/support/unit.h"

static char *environment[] = {NULL};

/* Runs a command line as main does, up to the text of the rules; null with err. */
static const char *rules_of(struct arena *arena, struct error *err, const char *line)
{
    char *argv[24] = {NULL};
    int argc = 0;
    struct slice rest = slice_of_text(line);
    while (rest.at != NULL) {
        assert_true(argc < 24);
        argv[argc++] = arena_text(arena, slice_cut(&rest, ' '));
    }
    struct init_options given = {.user = 0};
    struct rules rules;
    struct options_input input = {.argc = argc, .argv = argv, .environment = environment};
    if (options_parse(&init_program, &input, arena, &given, NULL, err) != OPTIONS_RUN ||
        !init_options_check(&given, err) || !rules_read(&rules, &given, arena, err)) {
        return NULL;
    }
    return given.remove ? rules_remove_script() : rules_text(&rules, arena);
}

/* tests/mesh/capture_test.py shows that nft lists what is written here byte for byte. */
static void test_all_rules(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    const char *text =
        rules_of(&arena, &err,
                 "pillion-init --user 1337 --outbound-port 1 --inbound-port 2 --metrics-port 3 "
                 "--skip-inbound-ports 22,3306 --skip-inbound-ports 9 --skip-outbound-ports 443 "
                 "--skip-outbound-cidrs 10.1.2.3/8,192.168.0.1,2001:DB8::7/32,::1,0.0.0.0/0");
    assert_non_null(text);
    assert_string_equal(
        text,
        "table inet pillion {\n"
        "\tchain output {\n"
        "\t\ttype nat hook output priority -100; policy accept;\n"
        "\t\tmeta l4proto != tcp return\n"
        "\t\tip saddr 127.0.0.6 return\n"
        "\t\tip6 saddr ::6 return\n"
        "\t\tmeta skuid 1337 oif \"lo\" ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :2\n"
        "\t\tmeta skuid 1337 oif \"lo\" ip6 daddr != ::1 meta l4proto tcp redirect to :2\n"
        "\t\tmeta skuid 1337 return\n"
        "\t\toif \"lo\" return\n"
        "\t\ttcp dport 443 return\n"
        "\t\tip daddr 10.0.0.0/8 return\n"
        "\t\tip daddr 192.168.0.1 return\n"
        "\t\tip6 daddr 2001:db8::/32 return\n"
        "\t\tip6 daddr ::1 return\n"
        "\t\tip daddr 0.0.0.0/0 return\n"
        "\t\tmeta l4proto tcp redirect to :1\n"
        "\t}\n"
        "\n"
        "\tchain prerouting {\n"
        "\t\ttype nat hook prerouting priority -100; policy accept;\n"
        "\t\tiif \"lo\" return\n"
        "\t\ttcp dport 3 return\n"
        "\t\ttcp dport 22 return\n"
        "\t\ttcp dport 3306 return\n"
        "\t\ttcp dport 9 return\n"
        "\t\tmeta l4proto tcp redirect to :2\n"
        "\t}\n"
        "}\n");
    arena_fini(&arena);
}

static void test_defaults_are_the_ports_of_the_mesh(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct error err = {.text = ""};
    const char *text = rules_of(&arena, &err, "pillion-init --user 1337");
    assert_non_null(text);
    assert_non_null(strstr(text, "\t\tmeta l4proto tcp redirect to :15001\n"));
    assert_non_null(strstr(text, "\t\tmeta l4proto tcp redirect to :15006\n"));
    assert_non_null(strstr(text, "\t\ttcp dport 15020 return\n"));
    arena_fini(&arena);
}

static void test_scripts_are_whole_transactions(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    assert_string_equal(rules_write_script("table inet pillion {\n}\n", &arena),
                        "table inet pillion\ndelete table inet pillion\ntable inet pillion {\n}\n");
    struct error err = {.text = ""};
    assert_string_equal(rules_of(&arena, &err, "pillion-init --remove"),
                        "table inet pillion\ndelete table inet pillion\n");
    arena_fini(&arena);
}

struct refusal {
    const char *line;
    const char *error;
};

static const struct refusal refusals[] = {
    {"pillion-init", "--user is needed: the user id of the sidecar alone, since what this user "
                     "sends is not captured"},
    {"pillion-init --check", "--user is needed: the user id of the sidecar alone, since what this "
                             "user sends is not captured"},
    {"pillion-init --user 5 --check --remove",
     "--check, --remove and --print: one of them at a time"},
    {"pillion-init --user 5 --inbound-port 15001",
     "--outbound-port, --inbound-port and --metrics-port must differ"},
    {"pillion-init --user 5 --skip-inbound-ports 80,0",
     "--skip-inbound-ports: \"0\": allowed is a port, 1 to 65535"},
    {"pillion-init --user 5 --skip-outbound-ports 80,",
     "--skip-outbound-ports: \"\": allowed is a port, 1 to 65535"},
    {"pillion-init --user 5 --skip-outbound-ports 65536",
     "--skip-outbound-ports: \"65536\": allowed is a port, 1 to 65535"},
    {"pillion-init --user 5 --skip-outbound-cidrs 10.0.0.0/33",
     "--skip-outbound-cidrs: \"10.0.0.0/33\": the prefix is 0 to 32"},
    {"pillion-init --user 5 --skip-outbound-cidrs 2001:db8::/129",
     "--skip-outbound-cidrs: \"2001:db8::/129\": the prefix is 0 to 128"},
    {"pillion-init --user 5 --skip-outbound-cidrs 10.0.0.0/",
     "--skip-outbound-cidrs: \"10.0.0.0/\": the prefix is 0 to 32"},
    {"pillion-init --user 5 --skip-outbound-cidrs example.com",
     "--skip-outbound-cidrs: \"example.com\": allowed is a network, as 10.0.0.0/8 or "
     "2001:db8::/32"},
};

static void test_refusals_name_the_entry(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct arena arena;
        arena_init(&arena, NULL);
        struct error err = {.text = ""};
        assert_null(rules_of(&arena, &err, refusals[i].line));
        assert_string_equal(err.text, refusals[i].error);
        arena_fini(&arena);
    }
}

static void test_a_list_has_an_end(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    char many[2 * (RULES_SKIPS_MAX + 1)];
    for (size_t i = 0; i < sizeof many; i += 2) {
        many[i] = '7';
        many[i + 1] = ',';
    }
    many[sizeof many - 1] = '\0';
    struct error err = {.text = ""};
    const char *line = arena_printf(&arena, "pillion-init --user 5 --skip-inbound-ports %s", many);
    assert_null(rules_of(&arena, &err, line));
    assert_string_equal(err.text, "--skip-inbound-ports: at most 1024 entries are allowed");
    arena_fini(&arena);
}

static void test_difference(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    assert_null(rules_difference("a\n\tb\n", "a\n\tb\n", &arena));
    assert_string_equal(rules_difference("a\n\tb\n", "a\n\tc\n", &arena),
                        "line 2: wanted \"b\", there is \"c\"");
    assert_string_equal(rules_difference("a\nb", "a", &arena),
                        "line 2: wanted \"b\", there is \"\"");
    assert_string_equal(rules_difference("a", "a\nb", &arena),
                        "line 2: wanted \"\", there is \"b\"");
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_rules),
        cmocka_unit_test(test_defaults_are_the_ports_of_the_mesh),
        cmocka_unit_test(test_scripts_are_whole_transactions),
        cmocka_unit_test(test_refusals_name_the_entry),
        cmocka_unit_test(test_a_list_has_an_end),
        cmocka_unit_test(test_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
