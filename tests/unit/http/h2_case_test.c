/* x-pillion-case: how HTTP/1's names are spelled over the hop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "http/h2_case.h"

#include <cmocka.h>

#define FIELDS_MAX 64

struct list {
    struct header field[FIELDS_MAX];
    struct headers headers;
};

static void add(struct list *list, const char *name)
{
    list->headers.field = list->field;
    list->field[list->headers.count++] = (struct header){.name = slice_of_text(name)};
}

static void check_value(const char *const *names, const char *expected)
{
    struct list list = {.headers = {.capacity = FIELDS_MAX}};
    uint8_t room[H2_CASE_BYTES_MAX];
    for (; *names != NULL; names++) {
        add(&list, *names);
    }
    struct slice value = h2_case_write(&list.headers, room);
    assert_int_equal(value.len, strlen(expected));
    assert_memory_equal(value.at, expected, value.len);
}

#define CHECK_VALUE(expected, ...) check_value((const char *const[]){__VA_ARGS__, NULL}, expected)

static void the_commoner_spelling_is_not_listed(void **state)
{
    (void)state;
    CHECK_VALUE("T", "Accept", "X-Request-Id");
    CHECK_VALUE("l", "accept", "x-request-id");
    CHECK_VALUE("T", "1", "-");
    CHECK_VALUE("T,ETag", "Accept", "ETag", "Date");
    CHECK_VALUE("T,x-a", "Accept", "x-a", "x-a", "Date");
    CHECK_VALUE("l,X-A,DNT", "accept", "X-A", "date", "x-b", "DNT");
    CHECK_VALUE("T,x-B,WWW-Authenticate", "x-B", "WWW-Authenticate");
}

static void dropped_fields_say_nothing(void **state)
{
    (void)state;
    struct list list = {.headers = {.capacity = FIELDS_MAX}};
    uint8_t room[H2_CASE_BYTES_MAX];
    add(&list, "Accept");
    add(&list, "ETag");
    list.field[1].dropped = true;
    assert_int_equal(h2_case_write(&list.headers, room).len, 1);
}

static void a_value_ends_at_its_limit(void **state)
{
    (void)state;
    static char names[FIELDS_MAX][40];
    struct list list = {.headers = {.capacity = FIELDS_MAX}};
    uint8_t room[H2_CASE_BYTES_MAX];
    for (unsigned i = 0; i < FIELDS_MAX; i++) {
        memset(names[i], 'A', sizeof names[i] - 1);
        names[i][0] = 'x';
        names[i][1] = (char)('a' + i / 26);
        names[i][2] = (char)('a' + i % 26);
        add(&list, names[i]);
    }
    struct slice value = h2_case_write(&list.headers, room);
    assert_true(value.len <= H2_CASE_BYTES_MAX);
    assert_true(value.len > H2_CASE_BYTES_MAX - 41);
}

static void names_are_spelled_again(void **state)
{
    (void)state;
    struct list list = {.headers = {.capacity = FIELDS_MAX}};
    add(&list, "etag");
    add(&list, "accept");
    add(&list, "x-added-on-the-way");
    struct message message = {.version = MESSAGE_HTTP_2, .headers = list.headers};
    assert_true(message_spoke_http2(&message));
    h2_case_read(&message, SLICE("T,ETag,X-GONE,acc ept,,"));
    assert_false(message_spoke_http2(&message));
    assert_int_equal(message.spelling, MESSAGE_SPELLING_TITLE);
    assert_true(slice_eq(list.field[0].name, SLICE("ETag")));
    assert_true(list.field[0].spelled);
    assert_true(slice_eq(list.field[1].name, SLICE("accept")));
    assert_false(list.field[1].spelled);
    h2_case_read(&message, SLICE("l"));
    assert_int_equal(message.spelling, MESSAGE_SPELLING_LOWER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_commoner_spelling_is_not_listed),
        cmocka_unit_test(dropped_fields_say_nothing),
        cmocka_unit_test(a_value_ends_at_its_limit),
        cmocka_unit_test(names_are_spelled_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
