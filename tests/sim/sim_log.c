#include "tests/sim/sim_log.h"

#include <inttypes.h>

#include "base/log.h"
#include "tests/sim/world.h"

static void take_line(void *owner, struct slice line)
{
    struct sim_log *log = owner;
    for (size_t i = 0; i < SIM_LOG_WANTED_MAX; i++) {
        if (log->wanted[i] != NULL) {
            struct slice wanted = slice_of_text(log->wanted[i]);
            log->hits[i] += slice_search(line, wanted) < line.len;
        }
    }
    if (log->world != NULL && log->world->trace != NULL) {
        (void)fprintf(log->world->trace, "%" PRIu64 " # %.*s\n", log->world->now_us,
                      SLICE_ARG(slice_trim(line)));
    }
}

static uint64_t wall(void *owner)
{
    const struct sim_log *log = owner;
    return WORLD_WALL_OFFSET_US + (log->world != NULL ? log->world->now_us : 0);
}

void sim_log_open(struct sim_log *log)
{
    const struct log_config config = {
        .level = LOG_LEVEL_ERROR, .sink = take_line, .wall = wall, .owner = log};
    log_open(&config);
}

void sim_log_begin(struct sim_log *log, struct world *world)
{
    *log = (struct sim_log){.world = world};
    sim_log_open(log); /* the limits of the run before are not this one's */
}

void sim_log_end(struct sim_log *log)
{
    *log = (struct sim_log){.world = NULL};
}
