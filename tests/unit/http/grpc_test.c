#include <string.h>

#include "http/grpc.h"
#include "tests/support/unit.h"

static void assert_text(struct slice got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.at, expected, got.len);
}

static void test_timeouts_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us; /* -1: refused */
    } cases[] = {
        {"1n", 1},       {"1001n", 2},      {"5u", 5},   {"250m", 250000},
        {"3S", 3000000}, {"2M", 120000000}, {"0S", 0},   {"99999999H", 359999996400000000},
        {"", -1},        {"S", -1},         {"5", -1},   {"5s", -1},
        {"-1S", -1},     {"1.5S", -1},      {" 1S", -1}, {"123456789S", -1},
    };
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        uint64_t us = 0;
        bool good = grpc_timeout_parse(slice_of_text(cases[i].text), &us);
        assert_int_equal(good, cases[i].us >= 0);
        if (good) {
            assert_int_equal(us, cases[i].us);
        }
    }
}

static void test_timeouts_are_written_shortest_and_never_shorter(void **state)
{
    (void)state;
    char text[GRPC_TIMEOUT_TEXT];
    assert_text(grpc_timeout_format(0, text), "0u");
    assert_text(grpc_timeout_format(5, text), "5u");
    assert_text(grpc_timeout_format(250000, text), "250m");
    assert_text(grpc_timeout_format(60000000, text), "1M");
    assert_text(grpc_timeout_format(UINT64_C(7200000000), text), "2H");
    assert_text(grpc_timeout_format(100000001, text), "100001m");
    assert_text(grpc_timeout_format(UINT64_MAX, text), "99999999H");
    for (uint64_t us = 1; us < UINT64_C(300000000000000); us = us * 3 + 1) {
        uint64_t back = 0;
        assert_true(grpc_timeout_parse(grpc_timeout_format(us, text), &back));
        assert_true(back >= us && back - us <= us / 1000 + 1);
    }
}

static void test_statuses(void **state)
{
    (void)state;
    enum grpc_status status;
    assert_true(grpc_status_parse(SLICE("14"), &status));
    assert_int_equal(status, GRPC_UNAVAILABLE);
    assert_false(grpc_status_parse(SLICE("17"), &status));
    assert_false(grpc_status_parse(SLICE(""), &status));
    assert_string_equal(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_int_equal(grpc_status_of_http(503), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_status_of_http(404), GRPC_UNIMPLEMENTED);
    assert_int_equal(grpc_status_of_http(418), GRPC_UNKNOWN);
    for (int i = 0; i < GRPC_STATUS_COUNT; i++) {
        assert_true(grpc_status_to_http((enum grpc_status)i) >= 200);
    }
}

static void test_messages_are_escaped(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    assert_text(grpc_message_encode(&arena, SLICE("50% \xc3\xa9\n")), "50%25 %C3%A9%0A");
    assert_text(grpc_message_decode(&arena, SLICE("50%25 %c3%A9%0A")), "50% \xc3\xa9\n");
    assert_text(grpc_message_decode(&arena, SLICE("%zz%4")), "%zz%4");
    assert_text(grpc_message_encode(&arena, SLICE("")), "");
    arena_fini(&arena);
}

static void test_frames_in_every_cut(void **state)
{
    (void)state;
    static const uint8_t bytes[] = "\0\0\0\0\3abc\0\0\0\0\0\0\0\0\0\5hello";
    const size_t len = sizeof bytes - 1;
    for (size_t cut = 0; cut <= len; cut++) {
        struct grpc_reader reader;
        char seen[32] = "";
        grpc_reader_init(&reader, 5);
        struct slice halves[] = {slice_of(bytes, cut), slice_of(bytes + cut, len - cut)};
        for (int half = 0; half < 2; half++) {
            struct slice message;
            enum grpc_read step;
            while ((step = grpc_reader_next(&reader, &halves[half], &message)) ==
                   GRPC_READ_MESSAGE) {
                (void)strncat(seen, "[", 2);
                (void)strncat(seen, (const char *)message.at, message.len);
            }
            assert_int_equal(step, GRPC_READ_MORE);
            assert_int_equal(halves[half].len, 0);
        }
        assert_string_equal(seen, "[abc[[hello");
        assert_true(grpc_reader_idle(&reader));
        grpc_reader_fini(&reader);
    }
}

static void test_frames_that_are_refused(void **state)
{
    (void)state;
    struct grpc_reader reader;
    struct slice message;
    struct slice large = SLICE("\0\0\0\0\6");
    struct slice compressed = SLICE("\1\0\0\0\1");
    struct slice bad = SLICE("\2\0\0\0\1");
    grpc_reader_init(&reader, 5);
    assert_int_equal(grpc_reader_next(&reader, &large, &message), GRPC_READ_LARGE);
    grpc_reader_init(&reader, 5);
    assert_int_equal(grpc_reader_next(&reader, &compressed, &message), GRPC_READ_COMPRESSED);
    grpc_reader_init(&reader, 5);
    assert_int_equal(grpc_reader_next(&reader, &bad, &message), GRPC_READ_BAD);
    uint8_t head[GRPC_FRAME_HEAD];
    grpc_frame_head(head, 0x01020304);
    assert_memory_equal(head, "\0\1\2\3\4", 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeouts_are_read),
        cmocka_unit_test(test_timeouts_are_written_shortest_and_never_shorter),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_messages_are_escaped),
        cmocka_unit_test(test_frames_in_every_cut),
        cmocka_unit_test(test_frames_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
