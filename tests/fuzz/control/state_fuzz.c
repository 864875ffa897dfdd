/* A state file: what was read once is written, and reads again to the same bytes. */

#include <stdint.h>

#include "base/alloc.h"
#include "control/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct policy_set set;
    struct state_texts texts;
};

static char *read_and_write(struct world *world, struct slice bytes, size_t *len)
{
    struct error err = {.text = ""};
    size_t lost = 0;
    policy_set_init(&world->set);
    state_texts_init(&world->texts);
    if (!state_read(bytes, &world->set, &world->texts, &lost, &err)) {
        CHECK(err.text[0] != '\0');
        CHECK(world->set.count == 0);
        return NULL;
    }
    CHECK(world->set.count == map_count(&world->texts.by_id));
    return state_write(&world->set, &world->texts, len);
}

static void world_fini(struct world *world)
{
    policy_set_fini(&world->set);
    state_texts_fini(&world->texts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world first;
    size_t len = 0;
    char *written = read_and_write(&first, slice_of(data, size), &len);
    if (written != NULL) {
        struct world second;
        size_t again_len = 0;
        char *again = read_and_write(&second, slice_of(written, len), &again_len);
        CHECK(again != NULL);
        CHECK(slice_eq(slice_of(again, again_len), slice_of(written, len)));
        world_fini(&second);
        mem_free(again);
        mem_free(written);
    }
    world_fini(&first);
    return 0;
}
