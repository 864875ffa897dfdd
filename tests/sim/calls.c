#include "tests/sim/calls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/scenario.h"

#define CALLS_OF_A_KIND_MAX 300

bool calls_parse(const char *text, enum world_failing *how, uint64_t *at)
{
    const char *colon = strchr(text, ':');
    for (unsigned i = 0; i < WORLD_FAILING_COUNT && colon != NULL; i++) {
        const char *name = world_failing_name((enum world_failing)i);
        size_t len = (size_t)(colon - text);
        if (strlen(name) == len && strncmp(name, text, len) == 0) {
            *how = (enum world_failing)i;
            *at = strtoull(colon + 1, NULL, 10);
            return *at > 0;
        }
    }
    return false;
}

static struct run_result run_one(const struct run_process *process, const struct calls_asked *asked,
                                 enum world_failing how, uint64_t at)
{
    struct run_result result;
    struct run_start start = {.seed = asked->seed,
                              .only = asked->scenario,
                              .trace = asked->trace,
                              .calls = true,
                              .fail_how = how,
                              .fail_at = at};
    run_seed(process, &start, &result);
    if (result.failed) {
        (void)printf("FAILED sim --seed %" PRIu64 " --call %s:%" PRIu64 ": %s\n", asked->seed,
                     world_failing_name(how), at, result.failure);
    }
    return result;
}

bool calls_run(const struct run_process *process, const struct calls_asked *asked)
{
    if (asked->at != 0) {
        return !run_one(process, asked, asked->how, asked->at).failed;
    }
    struct run_result whole = run_one(process, asked, (enum world_failing)0, 0);
    unsigned runs = 0;
    unsigned failed = whole.failed;
    for (unsigned i = 0; i < WORLD_FAILING_COUNT && !whole.failed; i++) {
        enum world_failing how = (enum world_failing)i;
        uint64_t count = whole.calls[world_failing_call(how)];
        count = count < CALLS_OF_A_KIND_MAX ? count : CALLS_OF_A_KIND_MAX;
        for (uint64_t at = 1; at <= count; at++, runs++) {
            failed += run_one(process, asked, how, at).failed;
        }
    }
    (void)printf("seed %" PRIu64 ": %u calls failed in turn, %u runs failed\n", asked->seed, runs,
                 failed);
    return failed == 0;
}
