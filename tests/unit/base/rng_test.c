#include "base/rng.h"
#include "tests/support/unit.h"

static void test_a_seed_gives_its_numbers(void **state)
{
    (void)state;
    struct rng a;
    struct rng b;
    rng_seed(&a, 1);
    rng_seed(&b, 1);
    for (int i = 0; i < 100; i++) {
        assert_true(rng_u64(&a) == rng_u64(&b));
    }
    rng_seed(&b, 2);
    assert_true(rng_u64(&a) != rng_u64(&b));
}

/* The state {1, 2, 3, 4} gives these first numbers (the authors' reference). */
static void test_known_numbers(void **state)
{
    (void)state;
    static const uint64_t known[] = {11520, 0, 1509978240, 1215971899390074240};
    struct rng rng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_true(rng_u64(&rng) == known[i]);
    }
}

static void test_below_is_fair(void **state)
{
    (void)state;
    struct rng rng;
    unsigned seen[6] = {0};
    rng_seed(&rng, 99);
    for (int i = 0; i < 60000; i++) {
        uint64_t value = rng_below(&rng, 6);
        assert_true(value < 6);
        seen[value]++;
    }
    for (int i = 0; i < 6; i++) {
        assert_in_range(seen[i], 9600, 10400);
    }
    assert_true(rng_below(&rng, 1) == 0);
    uint64_t huge = (UINT64_MAX / 2) + 2;
    for (int i = 0; i < 100; i++) {
        assert_true(rng_below(&rng, huge) < huge);
    }
}

static void test_unit_stays_below_one(void **state)
{
    (void)state;
    struct rng rng;
    double sum = 0;
    rng_seed(&rng, 5);
    for (int i = 0; i < 10000; i++) {
        double value = rng_unit(&rng);
        assert_true(value >= 0 && value < 1);
        sum += value;
    }
    assert_true(sum > 4850 && sum < 5150);
}

static void test_system_seeds_differ(void **state)
{
    (void)state;
    struct rng a;
    struct rng b;
    rng_seed_from_system(&a);
    rng_seed_from_system(&b);
    assert_true(rng_u64(&a) != rng_u64(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_seed_gives_its_numbers),
        cmocka_unit_test(test_known_numbers),
        cmocka_unit_test(test_below_is_fair),
        cmocka_unit_test(test_unit_stays_below_one),
        cmocka_unit_test(test_system_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
