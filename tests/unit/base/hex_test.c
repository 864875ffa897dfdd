#include <stdio.h>

#include "base/hex.h"
#include "tests/support/unit.h"

static void test_hex_is_what_printf_says(void **state)
{
    (void)state;
    uint64_t value = 0x0123456789ABCDEFU;
    for (unsigned i = 0; i < 100000; i++) {
        char ours[17] = "";
        char theirs[17];
        hex_u64(value, ours);
        (void)snprintf(theirs, sizeof theirs, "%016llx", (unsigned long long)value);
        assert_string_equal(ours, theirs);
        value = value * 6364136223846793005U + 1442695040888963407U;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex_is_what_printf_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
