#include "base/arena.h"
#include "http/codec.h"
#include "http/headers.h"
#include "http/message.h"
#include "tests/support/unit.h"

static void test_every_name_is_recognised_in_any_case(void **state)
{
    (void)state;
    for (int id = HEADER_OTHER + 1; id < HEADER_ID_COUNT; id++) {
        struct slice name = header_name((enum header_id)id);
        uint8_t upper[64];
        assert_true(name.len > 0 && name.len < sizeof upper);
        for (size_t i = 0; i < name.len; i++) {
            upper[i] =
                (uint8_t)(name.at[i] >= 'a' && name.at[i] <= 'z' ? name.at[i] - 32 : name.at[i]);
        }
        assert_int_equal(header_id_of(name), id);
        assert_int_equal(header_id_of(slice_of(upper, name.len)), id);
        assert_int_equal(header_id_of(slice_head(name, name.len - 1)) == (unsigned)id, false);
    }
}

/* Only a letter may differ by 0x20: '-' (0x2d) is not a carriage return (0x0d). */
static void test_one_wrong_byte_is_another_name(void **state)
{
    (void)state;
    for (int id = HEADER_OTHER + 1; id < HEADER_ID_COUNT; id++) {
        struct slice name = header_name((enum header_id)id);
        uint8_t copy[64];
        for (size_t at = 0; at < name.len; at++) {
            for (int byte = 0; byte < 256; byte++) {
                memcpy(copy, name.at, name.len);
                copy[at] = (uint8_t)byte;
                struct slice other = slice_of(copy, name.len);
                bool same = slice_eq_nocase(other, name);
                assert_int_equal(header_id_of(other) == (unsigned)id, same);
            }
        }
    }
    assert_int_equal(header_id_of(SLICE("")), HEADER_OTHER);
    assert_int_equal(header_id_of(SLICE("x")), HEADER_OTHER);
}

static void test_fields_are_found_dropped_and_copied(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct headers list = {.count = 0};
    assert_true(headers_add(&list, &arena, SLICE("X-Request-Id"), SLICE("7")));
    assert_true(headers_add(&list, &arena, SLICE("X-Mine"), SLICE("a")));
    assert_true(headers_add(&list, &arena, SLICE("x-mine"), SLICE("")));
    assert_true(headers_add(&list, &arena, SLICE("Te"), SLICE("gzip , Trailers")));
    assert_true(slice_eq(headers_value(&list, HEADER_X_REQUEST_ID), SLICE("7")));
    assert_true(headers_has_token(&list, HEADER_TE, SLICE("trailers")));
    assert_false(headers_has_token(&list, HEADER_TE, SLICE("trailer")));
    assert_true(slice_eq(headers_find_name(&list, SLICE("X-MINE"))->value, SLICE("a")));
    list.field[1].dropped = true;
    assert_int_equal(headers_find_name(&list, SLICE("X-MINE"))->value.len, 0);
    headers_drop(&list, HEADER_TE);
    assert_null(headers_find(&list, HEADER_TE));

    struct headers copy;
    headers_copy(&copy, &arena, &list, 3);
    assert_int_equal(copy.count, 2);
    assert_true(copy.capacity >= 5);
    assert_true(slice_eq(copy.field[0].name, SLICE("X-Request-Id")));
    assert_ptr_not_equal(copy.field[0].name.at, list.field[0].name.at);
    headers_drop_name(&copy, SLICE("x-MINE"));
    assert_null(headers_find_name(&copy, SLICE("x-mine")));
    arena_fini(&arena);
}

static void test_the_list_ends_at_its_maximum(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct headers list = {.count = 0};
    for (int i = 0; i < HEADERS_MAX; i++) {
        assert_true(headers_add(&list, &arena, SLICE("a"), SLICE("b")));
    }
    assert_false(headers_add(&list, &arena, SLICE("a"), SLICE("b")));
    struct headers copy;
    headers_copy(&copy, &arena, &list, 50);
    assert_int_equal(copy.count, HEADERS_MAX);
    arena_fini(&arena);
}

static void test_a_copied_message_outlives_its_bytes(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    uint8_t bytes[] = "GET/pathhost";
    struct message message = {.method = slice_of(bytes, 3),
                              .path = slice_of(bytes + 3, 5),
                              .authority = slice_of(bytes + 8, 4),
                              .content_length = MESSAGE_LENGTH_UNKNOWN};
    struct message copy;
    message_copy(&copy, &arena, &message, 0);
    memset(bytes, 0, sizeof bytes);
    assert_true(slice_eq(copy.method, SLICE("GET")));
    assert_true(slice_eq(copy.path, SLICE("/path")));
    assert_true(slice_eq(copy.authority, SLICE("host")));
    assert_true(message_method_idempotent(copy.method));
    assert_false(message_method_idempotent(SLICE("POST")));
    assert_false(message_method_idempotent(SLICE("get")));
    arena_fini(&arena);
}

static void test_every_reason_has_label_status_and_code(void **state)
{
    (void)state;
    for (int bad = 0; bad < CODEC_BAD_COUNT; bad++) {
        assert_true(codec_bad_name((enum codec_bad)bad)[0] != '\0');
        assert_int_equal(codec_bad_status((enum codec_bad)bad) >= 400, bad != CODEC_BAD_NONE);
        assert_int_equal(codec_bad_code((enum codec_bad)bad) != 0, bad != CODEC_BAD_NONE);
    }
    assert_string_equal(codec_event_name(CODEC_EV_TRAILERS), "TRAILERS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_name_is_recognised_in_any_case),
        cmocka_unit_test(test_one_wrong_byte_is_another_name),
        cmocka_unit_test(test_fields_are_found_dropped_and_copied),
        cmocka_unit_test(test_the_list_ends_at_its_maximum),
        cmocka_unit_test(test_a_copied_message_outlives_its_bytes),
        cmocka_unit_test(test_every_reason_has_label_status_and_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
