#include <stdio.h>

#include "base/alloc.h"
#include "base/client_hello.h"
#include "tests/support/unit.h"

/* A hello under construction: the message without record headers. */
struct draft {
    uint8_t bytes[CLIENT_HELLO_MAX_BYTES + 2048];
    size_t len;
};

static void put(struct draft *draft, const void *bytes, size_t len)
{
    assert_true(draft->len + len <= sizeof draft->bytes);
    (void)memcpy(draft->bytes + draft->len, bytes, len);
    draft->len += len;
}

static void put_number(struct draft *draft, unsigned width, size_t value)
{
    while (width-- > 0) {
        uint8_t byte = (uint8_t)(value >> (8 * width));
        put(draft, &byte, 1);
    }
}

static void put_extension(struct draft *draft, size_t type, const void *bytes, size_t len)
{
    put_number(draft, 2, type);
    put_number(draft, 2, len);
    put(draft, bytes, len);
}

/* Fills in the length of `width` bytes at `at`. */
static void patch(struct draft *draft, size_t at, unsigned width, size_t value)
{
    for (unsigned i = 0; i < width; i++) {
        draft->bytes[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
    }
}

static const char ALPN[] = "\x00\x0e\x0apillion-h2\x02h2";
static const char SNI[] = "\x00\x12\x00\x00\x0forders.internal";
static const char VERSIONS[] = "\x04\x03\x04\x03\x03";

/* The extensions are `list`, or absent where it is null. */
static struct draft draft_of(const struct draft *list)
{
    struct draft draft = {.len = 0};
    uint8_t random[32] = {7};
    put_number(&draft, 1, 1);
    put_number(&draft, 3, 0);
    put_number(&draft, 2, 0x0303);
    put(&draft, random, sizeof random);
    put_number(&draft, 1, 32);
    put(&draft, random, sizeof random);
    put_number(&draft, 2, 4);
    put_number(&draft, 4, 0x13011302);
    put_number(&draft, 2, 0x0100);
    if (list != NULL) {
        put_number(&draft, 2, list->len);
        put(&draft, list->bytes, list->len);
    }
    patch(&draft, 1, 3, draft.len - 4);
    return draft;
}

static struct draft usual(void)
{
    struct draft list = {.len = 0};
    put_extension(&list, 0x0a0a, "", 0); /* GREASE (RFC 8701) */
    put_extension(&list, 0, SNI, sizeof SNI - 1);
    put_extension(&list, 16, ALPN, sizeof ALPN - 1);
    put_extension(&list, 43, VERSIONS, sizeof VERSIONS - 1);
    put_extension(&list, 51, "0123456789", 10);
    return draft_of(&list);
}

/* Into records of at most `piece` bytes. */
static struct draft in_records(const struct draft *message, size_t piece)
{
    struct draft wire = {.len = 0};
    for (size_t at = 0; at < message->len; at += piece) {
        size_t len = message->len - at < piece ? message->len - at : piece;
        put_number(&wire, 1, 22);
        put_number(&wire, 2, 0x0301);
        put_number(&wire, 2, len);
        put(&wire, message->bytes + at, len);
    }
    return wire;
}

/* Parses a copy of exact size, so that the sanitizer sees an over-read. */
static enum client_hello_step parse(const uint8_t *bytes, size_t len, struct client_hello *hello)
{
    char *exact = mem_raw(len > 0 ? len : 1);
    (void)memcpy(exact, bytes, len);
    enum client_hello_step step = client_hello_parse(slice_of(exact, len), hello);
    mem_free(exact);
    return step;
}

static void assert_usual(const struct client_hello *hello)
{
    assert_true(slice_eq(client_hello_sni(hello), SLICE("orders.internal")));
    assert_true(hello->tls13);
    struct slice list = client_hello_alpn(hello);
    assert_true(slice_eq(client_hello_next_alpn(&list), SLICE("pillion-h2")));
    assert_true(slice_eq(client_hello_next_alpn(&list), SLICE("h2")));
    assert_int_equal(client_hello_next_alpn(&list).len, 0);
}

/* MORE for every true prefix, whatever the records; DONE from the last byte on. */
static void a_hello_in_every_split(void **state)
{
    (void)state;
    struct draft message = usual();
    static const size_t pieces[] = {1, 2, 3, 5, 16, 100, SIZE_MAX / 2};
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        size_t piece = pieces[i] < message.len ? pieces[i] : message.len;
        struct draft wire = in_records(&message, piece);
        struct client_hello hello;
        for (size_t len = 0; len < wire.len; len++) {
            assert_int_equal(parse(wire.bytes, len, &hello), CLIENT_HELLO_MORE);
        }
        assert_int_equal(parse(wire.bytes, wire.len, &hello), CLIENT_HELLO_DONE);
        assert_usual(&hello);
        put(&wire, "more", 4);
        assert_int_equal(parse(wire.bytes, wire.len, &hello), CLIENT_HELLO_DONE);
        assert_usual(&hello);
    }
}

static void a_hello_without_extensions(void **state)
{
    (void)state;
    struct draft message = draft_of(NULL);
    struct draft wire = in_records(&message, message.len);
    struct client_hello hello;
    assert_int_equal(parse(wire.bytes, wire.len, &hello), CLIENT_HELLO_DONE);
    assert_int_equal(hello.sni_len, 0);
    assert_int_equal(hello.alpn_len, 0);
    assert_false(hello.tls13);
}

/* The first byte that cannot be TLS decides. */
static void what_is_no_tls_is_known_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len; /* so many are BAD, one less is MORE */
    } rows[] = {
        {"GET / HTTP/1.1", 1},
        {"\x80\x2e\x01\x03\x01", 1},     /* SSLv2 */
        {"\x16\x02", 2},                 /* no version 2 */
        {"\x16\x03\x05", 3},             /* nor 3.5 */
        {"\x16\x03\x01\x41", 4},         /* a record over 16 KiB */
        {"\x16\x03\x01\x40\x01", 5},     /* by one byte */
        {"\x16\x03\x01\x00\x00", 5},     /* an empty record */
        {"\x16\x03\x01\x00\x50\x02", 6}, /* ServerHello */
        {"\x16\x03\x01\x01\x00\x01\x01\x00\x00",
         9}, /* a message of 64 KiB: known by its last digit */
        {"\x16\x03\x01\x00\x80\x01\x00\x00\x28", 9},         /* too short for what it must hold */
        {"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x02", 10},    /* client_version 2 */
        {"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03", 8},     /* application data in between */
        {"\x16\x03\x01\x00\x01\x01\x16\x03\x03\x00\x00", 11} /* an empty record in between */
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const uint8_t *bytes = (const uint8_t *)rows[i].bytes;
        struct client_hello hello;
        assert_int_equal(parse(bytes, rows[i].len - 1, &hello), CLIENT_HELLO_MORE);
        assert_int_equal(parse(bytes, rows[i].len, &hello), CLIENT_HELLO_BAD);
    }
}

static enum client_hello_step with_extension(size_t type, const char *bytes, size_t len,
                                             struct client_hello *hello)
{
    struct draft list = {.len = 0};
    put_extension(&list, type, bytes, len);
    struct draft message = draft_of(&list);
    struct draft wire = in_records(&message, message.len);
    return parse(wire.bytes, wire.len, hello);
}

#define WITH(type, text, hello) with_extension(type, text, sizeof(text) - 1, hello)

static void broken_extensions(void **state)
{
    (void)state;
    struct client_hello hello;
    assert_int_equal(WITH(0, "", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(0, "\0\0", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(0, "\0\3\0\0\0", &hello), CLIENT_HELLO_BAD);    /* an empty name */
    assert_int_equal(WITH(0, "\0\4\0\0\2a", &hello), CLIENT_HELLO_BAD);   /* longer than its list */
    assert_int_equal(WITH(0, "\0\5\0\0\2a\0", &hello), CLIENT_HELLO_BAD); /* a zero byte */
    assert_int_equal(WITH(0, "\0\4\0\0\1ab", &hello), CLIENT_HELLO_BAD);  /* a byte behind */
    assert_int_equal(WITH(0, "\0\x8\0\0\1a\0\0\1b", &hello), CLIENT_HELLO_BAD);  /* two names */
    assert_int_equal(WITH(0, "\0\x8\1\0\1a\0\0\1b", &hello), CLIENT_HELLO_DONE); /* of two types */
    assert_true(slice_eq(client_hello_sni(&hello), SLICE("b")));
    assert_int_equal(WITH(16, "\0\0", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(16, "\0\2\0\0", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(16, "\0\3\3h2", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(16, "\0\3\2h2x", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(43, "\0", &hello), CLIENT_HELLO_BAD);
    assert_int_equal(WITH(43, "\3\3\4\3", &hello), CLIENT_HELLO_BAD);
    struct draft list = {.len = 0};
    put_extension(&list, 43, VERSIONS, sizeof VERSIONS - 1);
    put_extension(&list, 43, VERSIONS, sizeof VERSIONS - 1);
    struct draft message = draft_of(&list);
    struct draft wire = in_records(&message, message.len);
    assert_int_equal(parse(wire.bytes, wire.len, &hello), CLIENT_HELLO_BAD);
}

/* Every byte of a good hello, damaged: any verdict, but no harm, and a good length after it. */
static void a_damaged_byte_does_no_harm(void **state)
{
    (void)state;
    struct draft message = usual();
    struct draft wire = in_records(&message, 50);
    for (size_t i = 0; i < wire.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct client_hello hello;
            wire.bytes[i] ^= (uint8_t)(1U << bit);
            (void)parse(wire.bytes, wire.len, &hello);
            wire.bytes[i] ^= (uint8_t)(1U << bit);
        }
    }
}

static void protocols_that_do_not_fit_are_left_out(void **state)
{
    (void)state;
    struct draft alpn = {.len = 0};
    struct client_hello hello;
    put_number(&alpn, 2, 10 * 100);
    for (unsigned i = 0; i < 10; i++) {
        uint8_t name[99];
        (void)memset(name, (int)('a' + i), sizeof name);
        put_number(&alpn, 1, sizeof name);
        put(&alpn, name, sizeof name);
    }
    struct draft list = {.len = 0};
    put_extension(&list, 16, alpn.bytes, alpn.len);
    struct draft message = draft_of(&list);
    struct draft wire = in_records(&message, message.len);
    assert_int_equal(parse(wire.bytes, wire.len, &hello), CLIENT_HELLO_DONE);
    assert_int_equal(hello.alpn_len, 500);
}

static void a_hello_without_end_is_not_waited_for(void **state)
{
    (void)state;
    struct draft list = {.len = 0};
    struct client_hello hello;
    static const uint8_t padding[15000];
    put_extension(&list, 21, padding, sizeof padding);
    struct draft message = draft_of(&list);
    struct draft wire = in_records(&message, 8000);
    assert_int_equal(parse(wire.bytes, wire.len, &hello), CLIENT_HELLO_DONE);
    wire = in_records(&message, 50); /* 1.5 KB of record headers: over the bound */
    assert_true(wire.len > CLIENT_HELLO_MAX_BYTES);
    assert_int_equal(parse(wire.bytes, CLIENT_HELLO_MAX_BYTES - 1, &hello), CLIENT_HELLO_MORE);
    assert_int_equal(parse(wire.bytes, CLIENT_HELLO_MAX_BYTES, &hello), CLIENT_HELLO_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_in_every_split),
        cmocka_unit_test(a_hello_without_extensions),
        cmocka_unit_test(what_is_no_tls_is_known_at_once),
        cmocka_unit_test(broken_extensions),
        cmocka_unit_test(a_damaged_byte_does_no_harm),
        cmocka_unit_test(protocols_that_do_not_fit_are_left_out),
        cmocka_unit_test(a_hello_without_end_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
