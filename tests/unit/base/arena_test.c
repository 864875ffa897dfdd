#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "tests/support/unit.h"

static void blocks_are_used_again(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init(&arena, &pool);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *at = arena_alloc(&arena, 100);
        assert_int_equal((uintptr_t)at % 16, 0);
        assert_int_equal(at[0] | at[99], 0);
        memset(at, 0xff, 100);
    }
    assert_int_equal(arena.bytes, 3 * ARENA_BLOCK_BYTES);
    arena_fini(&arena);
    assert_int_equal(pool.kept, 2);
    arena_pool_fini(&pool);
}

static void large_things_get_a_block_of_their_own(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    uint8_t *first = arena_bytes(&arena, 10);
    memset(arena_bytes(&arena, 100000), 1, 100000);
    uint8_t *second = arena_bytes(&arena, 10);
    assert_ptr_equal(second, first + 10); /* the rest of the common block is not lost */
    arena_fini(&arena);
}

static void a_small_arena_takes_small_blocks(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 2);
    arena_init_small(&arena, &pool, 2000, 500);
    assert_int_equal(arena.bytes, 0);           /* none before it is used */
    memset(arena_alloc(&arena, 1900), 1, 1900); /* its first thing may fill its first block */
    assert_int_equal(arena.bytes, 2000);
    memset(arena_bytes(&arena, 80), 2, 80);
    assert_int_equal(arena.bytes, 2000);
    memset(arena_bytes(&arena, 80), 3, 80);
    assert_int_equal(arena.bytes, 2500);
    memset(arena_alloc(&arena, 3000), 4, 3000);
    assert_true(arena.bytes >= 5500 && arena.bytes < 5600);
    arena_fini(&arena);
    assert_int_equal(pool.kept, 0);
    arena_pool_fini(&pool);
}

/* What was used since the last trim stays, what was not goes: all of it, where nothing was. */
static void blocks_that_nobody_asked_for_are_given_back(void **state)
{
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool, 8);
    arena_init(&arena, &pool);
    for (unsigned i = 0; i < 4; i++) {
        memset(arena_alloc(&arena, 2000), 1, 2000);
        memset(arena_alloc(&arena, 2000), 1, 2000);
    }
    arena_fini(&arena);
    assert_int_equal(pool.kept, 4);
    arena_pool_trim(&pool);
    assert_int_equal(pool.kept, 4); /* all were in use a moment ago */
    memset(arena_alloc(&arena, 2000), 1, 2000);
    arena_fini(&arena);
    arena_pool_trim(&pool);
    assert_int_equal(pool.kept, 1);
    arena_pool_trim(&pool);
    assert_int_equal(pool.kept, 0);
    arena_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_used_again),
        cmocka_unit_test(large_things_get_a_block_of_their_own),
        cmocka_unit_test(a_small_arena_takes_small_blocks),
        cmocka_unit_test(blocks_that_nobody_asked_for_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
