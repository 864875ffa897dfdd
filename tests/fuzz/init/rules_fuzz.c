/* Three skip lists, a line each -> capture rules. What holds of every input: it is refused with a
 * reason, or there is one rule for each entry, in lines that nft can take: no rule is cut, and
 * nothing of the input's own bytes gets into the script (only digits, letters and what addresses
 * are written with). */
#include <stdio.h>
#include <string.h>

#include "init/rules.h"

#include "base/check.h"

/* Of the table without any skip list. */
#define LINES_WITHOUT 20

static size_t entries(const char *list)
{
    size_t count = 1;
    for (const char *c = list; *c != '\0'; c++) {
        count += *c == ',';
    }
    return count;
}

static size_t check_lines(const char *text)
{
    size_t count = 0;
    struct slice rest = slice_of_text(text);
    while (rest.len > 0) {
        struct slice line = slice_cut(&rest, '\n');
        for (size_t i = 0; i < line.len; i++) {
            CHECK(line.at[i] == '\t' || (line.at[i] >= 0x20 && line.at[i] < 0x7F));
        }
        if (slice_starts(line, SLICE("\t\ttcp dport ")) ||
            slice_starts(line, SLICE("\t\tip daddr ")) ||
            slice_starts(line, SLICE("\t\tip6 daddr "))) {
            CHECK(slice_ends(line, SLICE(" return")));
        }
        count++;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct arena arena;
    arena_init(&arena, NULL);
    struct init_options given = {
        .user = 1337, .outbound_port = 15001, .inbound_port = 15006, .metrics_port = 15020};
    struct option_list *lists[] = {&given.skip_inbound_ports, &given.skip_outbound_ports,
                                   &given.skip_outbound_cidrs};
    const char *items[COUNT_OF(lists)];
    size_t wanted = LINES_WITHOUT;
    struct slice rest = slice_of(bytes, len);
    for (size_t i = 0; i < COUNT_OF(lists) && rest.at != NULL; i++) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.len > 0) { /* an option without a value is none */
            items[i] = arena_text(&arena, line);
            *lists[i] = (struct option_list){.items = &items[i], .count = 1};
            wanted += entries(items[i]);
        }
    }
    struct rules rules;
    struct error err = {.text = ""};
    if (rules_read(&rules, &given, &arena, &err)) {
        const char *text = rules_text(&rules, &arena);
        CHECK(check_lines(text) == wanted);
        CHECK(rules_difference(text, text, &arena) == NULL);
    } else {
        CHECK(err.text[0] != '\0');
    }
    arena_fini(&arena);
    return 0;
}
