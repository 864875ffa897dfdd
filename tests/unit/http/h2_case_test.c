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
    list->field[list->headers.count++] =
        (struct header){.name = slice_of_text(name), .spelled = true};
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

/* Names are looked at eight bytes at a time. */
static void words_that_begin_anywhere(void **state)
{
    (void)state;
    CHECK_VALUE("T", "Abcdefg-Hijk", "Abcdefgh-I", "Abcdefghijklmno-P", "A-B-C-D-E-F-G-H-I");
    CHECK_VALUE("T,Abcdefg-hijk", "Accept", "Abcdefg-hijk");
    CHECK_VALUE("T,Abcdefgh-i", "Accept", "Abcdefgh-i");
    CHECK_VALUE("T,AbcdefgHijk", "Accept", "AbcdefgHijk");
    CHECK_VALUE("T,Abcdefgh-IJ", "Accept", "Abcdefgh-IJ");
    CHECK_VALUE("l", "abcdefgh", "abcdefg-h", "abcdefgh-ijklmnop-q");
    CHECK_VALUE("l,abcdefgh-ijklmnop-Q", "abcdefgh-ijklmnop-Q", "a", "b");
    CHECK_VALUE("T,A--b", "Accept", "A--B", "A--b", "-A-0");
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

static void fields_of_our_own_say_nothing(void **state)
{
    (void)state;
    struct list list = {.headers = {.capacity = FIELDS_MAX}};
    uint8_t room[H2_CASE_BYTES_MAX];
    add(&list, "Accept");
    add(&list, "x-request-id");
    list.field[1].spelled = false;
    assert_true(slice_eq(h2_case_write(&list.headers, room), SLICE("T")));
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
    for (unsigned i = 0; i < 3; i++) {
        list.field[i].spelled = false; /* HTTP/2 brought them */
    }
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
        cmocka_unit_test(words_that_begin_anywhere),
        cmocka_unit_test(dropped_fields_say_nothing),
        cmocka_unit_test(fields_of_our_own_say_nothing),
        cmocka_unit_test(a_value_ends_at_its_limit),
        cmocka_unit_test(names_are_spelled_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
