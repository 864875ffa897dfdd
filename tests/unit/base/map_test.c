#include <stdio.h>

#include "base/map.h"
#include "base/rng.h"
#include "tests/support/unit.h"

static struct slice number_key(char *room, size_t size, unsigned number)
{
    return slice_of(room, (size_t)snprintf(room, size, "key-%u", number));
}

static void test_set_get_remove(void **state)
{
    (void)state;
    struct map map;
    int one = 1;
    int two = 2;
    map_init(&map, 7, MAP_KEYS_COPIED);
    assert_null(map_get(&map, SLICE("a")));
    assert_null(map_remove(&map, SLICE("a")));
    assert_null(map_set(&map, SLICE("a"), &one));
    assert_ptr_equal(map_set(&map, SLICE("a"), &two), &one);
    assert_null(map_set(&map, SLICE(""), &one));
    assert_ptr_equal(map_get(&map, SLICE("a")), &two);
    assert_ptr_equal(map_get(&map, (struct slice){NULL, 0}), &one);
    assert_int_equal(map_count(&map), 2);
    assert_ptr_equal(map_remove(&map, SLICE("a")), &two);
    assert_null(map_get(&map, SLICE("a")));
    assert_int_equal(map_count(&map), 1);
    map_fini(&map);
    assert_int_equal(map_count(&map), 0);
    assert_null(map_get(&map, SLICE("")));
}

static void test_walk_is_in_order_of_insertion_whatever_the_seed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        static int values[200];
        struct map map;
        char room[16];
        map_init(&map, seed, MAP_KEYS_COPIED);
        for (unsigned i = 0; i < 200; i++) {
            (void)map_set(&map, number_key(room, sizeof room, i), &values[i]);
        }
        for (unsigned i = 0; i < 200; i += 3) {
            (void)map_remove(&map, number_key(room, sizeof room, i));
        }
        unsigned expected = 1;
        MAP_EACH(&map, entry)
        {
            assert_ptr_equal(entry->value, &values[expected]);
            expected += expected % 3 == 2 ? 2 : 1;
        }
        assert_int_equal(expected, 200);
        map_fini(&map);
    }
}

static void test_an_entry_may_go_while_walked(void **state)
{
    (void)state;
    static int values[50];
    struct map map;
    char room[16];
    map_init(&map, 3, MAP_KEYS_COPIED);
    for (unsigned i = 0; i < 50; i++) {
        (void)map_set(&map, number_key(room, sizeof room, i), &values[i]);
    }
    unsigned seen = 0;
    MAP_EACH(&map, entry)
    {
        seen++;
        assert_non_null(map_remove(&map, entry->key));
    }
    assert_int_equal(seen, 50);
    assert_int_equal(map_count(&map), 0);
    map_fini(&map);
}

static void test_borrowed_keys_are_borrowed_anew(void **state)
{
    (void)state;
    char first[] = "same";
    char second[] = "same";
    int value;
    struct map map;
    map_init(&map, 3, MAP_KEYS_BORROWED);
    (void)map_set(&map, slice_of(first, 4), &value);
    (void)map_set(&map, slice_of(second, 4), &value);
    assert_ptr_equal(map_entry_from(&map, 0)->key.at, second);
    map_fini(&map);
}

/* Many changes against a plain array; the table stays as small as what lives in it. */
static void test_against_an_array(void **state)
{
    (void)state;
    static int values[300];
    bool there[300] = {false};
    struct map map;
    struct rng rng;
    rng_seed(&rng, 42);
    map_init(&map, 11, MAP_KEYS_COPIED);
    for (int round = 0; round < 20000; round++) {
        unsigned i = (unsigned)rng_below(&rng, 300);
        char room[16];
        struct slice key = number_key(room, sizeof room, i);
        if (rng_below(&rng, 2) == 0) {
            assert_ptr_equal(map_set(&map, key, &values[i]), there[i] ? &values[i] : NULL);
            there[i] = true;
        } else {
            assert_ptr_equal(map_remove(&map, key), there[i] ? &values[i] : NULL);
            there[i] = false;
        }
    }
    uint32_t count = 0;
    for (unsigned i = 0; i < 300; i++) {
        char room[16];
        assert_ptr_equal(map_get(&map, number_key(room, sizeof room, i)),
                         there[i] ? &values[i] : NULL);
        count += there[i];
    }
    assert_int_equal(map_count(&map), count);
    assert_true(map.slot_count <= 1024);
    map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_get_remove),
        cmocka_unit_test(test_walk_is_in_order_of_insertion_whatever_the_seed),
        cmocka_unit_test(test_an_entry_may_go_while_walked),
        cmocka_unit_test(test_borrowed_keys_are_borrowed_anew),
        cmocka_unit_test(test_against_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
