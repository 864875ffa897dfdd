/* sim --seed N | --seeds A..B [--scenario NAME] [--trace]: runs each seed twice; the trace of both
 * must be the same. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "base/json.h"
#include "tests/sim/authority.h"
#include "tests/sim/calls.h"
#include "tests/sim/ledger.h"
#include "tests/sim/run.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_log.h"

struct asked {
    uint64_t first;
    uint64_t last;
    const struct scenario *only;
    bool trace;
    bool calls;                  /* each one in turn */
    enum world_failing call_how; /* or this one */
    uint64_t call_at;            /* 0: not asked for */
};

static int usage(void)
{
    (void)fprintf(stderr, "usage: sim --seed N | --seeds A..B [--scenario NAME] [--trace]\n"
                          "       sim --seed N | --seeds A..B --calls [--scenario mesh-calls]: "
                          "each call fails in turn\n"
                          "       sim --seed N --call RECV_RESET:17 [--trace]: that one\n");
    for (unsigned i = 0; i < scenario_count; i++) {
        (void)fprintf(stderr, "  %-16s %s\n", scenarios[i].name, scenarios[i].meaning);
    }
    return 2;
}

static bool read_number(const char *text, const char *end_wanted, uint64_t *number,
                        const char **rest)
{
    char *end;
    *number = strtoull(text, &end, 10);
    size_t len = strlen(end_wanted);
    bool good = end != text && strncmp(end, end_wanted, len) == 0;
    *rest = end + len;
    return good;
}

static bool read_option(struct asked *asked, const char *name, const char *value)
{
    const char *rest;
    if (strcmp(name, "--seed") == 0) {
        bool good = read_number(value, "", &asked->first, &rest);
        asked->last = asked->first;
        return good && *rest == '\0';
    }
    if (strcmp(name, "--seeds") == 0) {
        return read_number(value, "..", &asked->first, &rest) &&
               read_number(rest, "", &asked->last, &rest) && *rest == '\0' &&
               asked->first <= asked->last;
    }
    if (strcmp(name, "--call") == 0) {
        return calls_parse(value, &asked->call_how, &asked->call_at);
    }
    if (strcmp(name, "--scenario") == 0) {
        asked->only = scenario_find(value);
        return asked->only != NULL;
    }
    return false;
}

static bool read_arguments(struct asked *asked, int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--trace") == 0) {
            asked->trace = true;
        } else if (strcmp(arguments[i], "--calls") == 0) {
            asked->calls = true;
        } else if (i + 1 < count && read_option(asked, arguments[i], arguments[i + 1])) {
            i++;
        } else {
            return false;
        }
    }
    return asked->last > 0;
}

static bool run_twice(const struct run_process *process, const struct asked *asked, uint64_t seed)
{
    const struct scenario *scenario = asked->only != NULL ? asked->only : run_scenario_of(seed);
    struct run_result first;
    struct run_result second;
    struct run_start start = {
        .seed = seed, .only = asked->only, .trace = asked->trace ? stdout : NULL};
    run_seed(process, &start, &first);
    start.trace = NULL;
    run_seed(process, &start, &second);
    bool same = first.hash == second.hash && first.notes == second.notes;
    if (asked->first == asked->last) {
        (void)printf("seed %" PRIu64 " %s: hash %016" PRIx64 ", %" PRIu64 " lines, %" PRIu64
                     " requests, %" PRIu64 " exchanges; answered %" PRIu64 ", local %" PRIu64
                     ", cut %" PRIu64 ", lost %" PRIu64 ", abandoned %" PRIu64 "\n",
                     seed, scenario->name, first.hash, first.notes, first.requests, first.exchanges,
                     first.ends[LEDGER_ANSWERED], first.ends[LEDGER_LOCAL], first.ends[LEDGER_CUT],
                     first.ends[LEDGER_LOST], first.ends[LEDGER_ABANDONED]);
    }
    if (!same) {
        (void)printf("FAILED sim --seed %" PRIu64 " (%s): two runs differ: %016" PRIx64
                     " and %016" PRIx64 "\n",
                     seed, scenario->name, first.hash, second.hash);
    }
    if (first.failed) {
        (void)printf("FAILED sim --seed %" PRIu64 " (%s): %s\n", seed, scenario->name,
                     first.failure);
    }
    if (!same || first.failed) {
        bool only = asked->only != NULL;
        (void)printf("  again: ./tests/run sim --seed %" PRIu64 "%s%s --trace\n", seed,
                     only ? " --scenario " : "", only ? scenario->name : "");
    }
    (void)fflush(stdout);
    return same && !first.failed;
}

static bool run_calls(const struct run_process *process, const struct asked *asked, uint64_t seed)
{
    struct calls_asked calls = {.seed = seed,
                                .scenario =
                                    asked->only != NULL ? asked->only : scenario_find("calls"),
                                .how = asked->call_how,
                                .at = asked->call_at,
                                .trace = asked->trace ? stdout : NULL};
    return calls_run(process, &calls);
}

int main(int count, char **arguments)
{
    struct asked asked = {.last = 0};
    if (!read_arguments(&asked, count, arguments)) {
        return usage();
    }
    alloc_init();
    json_init_library();
    crypto_init();
    struct authority authority = {.folder = NULL};
    struct sim_log log = {.world = NULL};
    sim_log_open(&log);
    const struct run_process process = {.authority = &authority, .log = &log};
    uint64_t failed = 0;
    for (uint64_t seed = asked.first; seed <= asked.last; seed++) {
        bool calls = asked.calls || asked.call_at != 0;
        failed += calls ? !run_calls(&process, &asked, seed) : !run_twice(&process, &asked, seed);
    }
    if (asked.first != asked.last) {
        (void)printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", asked.last - asked.first + 1,
                     failed);
    }
    authority_close(&authority);
    return failed > 0;
}
