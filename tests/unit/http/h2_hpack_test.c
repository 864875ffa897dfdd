/* HPACK: the examples of RFC 7541 Appendix C, the limits, and the encoder's habits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "http/h2_hpack.h"
#include "http/h2_huffman.h"

#include <cmocka.h>

#define LIST_MAX 65536
#define FIELDS   200

struct bench {
    struct hpack_decoder decoder;
    struct hpack_encoder encoder;
    struct header fields[FIELDS];
    struct hpack_list list;
    uint8_t wire[65536];
    size_t wire_len;
};

static int set_up(void **state)
{
    struct bench *bench = NEW(struct bench);
    hpack_decoder_init(&bench->decoder);
    hpack_encoder_init(&bench->encoder, HPACK_TABLE_DEFAULT, false);
    bench->list = (struct hpack_list){
        .field = bench->fields,
        .capacity = FIELDS,
        .scratch = {mem_raw(HPACK_SCRATCH(LIST_MAX)), HPACK_SCRATCH(LIST_MAX)},
        .list_max = LIST_MAX,
    };
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    hpack_decoder_fini(&bench->decoder);
    hpack_encoder_fini(&bench->encoder);
    mem_free(bench->list.scratch.at);
    mem_free(bench);
    return 0;
}

/* Hexadecimal text to bytes of exact size, so that a sanitizer sees an over-read. */
static uint8_t *from_hex(const char *text, size_t *len)
{
    uint8_t *bytes = mem_raw(strlen(text) / 2 + 1);
    *len = 0;
    for (; text[0] != '\0'; text++) {
        if (text[0] == ' ') {
            continue;
        }
        const char pair[3] = {text[0], text[1], '\0'};
        bytes[(*len)++] = (uint8_t)strtoul(pair, NULL, 16);
        text++;
    }
    return mem_resize(bytes, *len > 0 ? *len : 1);
}

static bool decode_hex(struct bench *bench, const char *hex)
{
    size_t len;
    uint8_t *bytes = from_hex(hex, &len);
    bool ok = hpack_decode(&bench->decoder, slice_of(bytes, len), &bench->list);
    /* Borrowed fields are moved to the wire buffer, so that tests may look at them later. */
    size_t at = 0;
    for (unsigned i = 0; ok && i < bench->list.count; i++) {
        struct header *field = &bench->fields[i];
        memcpy(bench->wire + at, field->name.at, field->name.len);
        field->name.at = bench->wire + at;
        at += field->name.len;
        memcpy(bench->wire + at, field->value.at, field->value.len);
        field->value.at = bench->wire + at;
        at += field->value.len;
    }
    mem_free(bytes);
    return ok;
}

static void expect_text(struct bench *bench, const char *text)
{
    char made[4096];
    size_t at = 0;
    for (unsigned i = 0; i < bench->list.count; i++) {
        const struct header *field = &bench->fields[i];
        at += (size_t)snprintf(made + at, sizeof made - at, "%.*s: %.*s\n", SLICE_ARG(field->name),
                               SLICE_ARG(field->value));
    }
    made[at] = '\0';
    assert_string_equal(made, text);
}

static void decodes_the_requests_of_appendix_c(void **state)
{
    static const char *const plain[] = {
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    };
    static const char *const huffman[] = {
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    };
    for (int round = 0; round < 2; round++) {
        struct bench *bench = *state;
        const char *const *wire = round == 0 ? plain : huffman;
        hpack_decoder_fini(&bench->decoder);
        hpack_decoder_init(&bench->decoder);
        assert_true(decode_hex(bench, wire[0]));
        expect_text(bench, ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n");
        assert_int_equal(bench->fields[3].id, HPACK_AUTHORITY);
        assert_int_equal(bench->decoder.table.size, 57);
        assert_true(decode_hex(bench, wire[1]));
        expect_text(bench, ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
                           "cache-control: no-cache\n");
        assert_true(decode_hex(bench, wire[2]));
        expect_text(bench, ":method: GET\n:scheme: https\n:path: /index.html\n"
                           ":authority: www.example.com\ncustom-key: custom-value\n");
        assert_int_equal(bench->decoder.table.size, 164);
        assert_int_equal(bench->list.malformed, 0);
    }
}

static void evicts_as_appendix_c6(void **state)
{
    struct bench *bench = *state;
    hpack_decoder_limit(&bench->decoder, 4096);
    assert_true(decode_hex(bench, "3fe101" /* the table's size becomes 256 */
                                  "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a6"
                                  "2d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3"));
    assert_int_equal(bench->decoder.table.size, 222);
    assert_true(decode_hex(bench, "4883640effc1c0bf"));
    expect_text(bench, ":status: 307\ncache-control: private\n"
                       "date: Mon, 21 Oct 2013 20:13:21 GMT\n"
                       "location: https://www.example.com\n");
    assert_int_equal(bench->decoder.table.size, 222);
    assert_true(decode_hex(bench, "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab"
                                  "77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f"
                                  "9587316065c003ed4ee5b1063d5007"));
    expect_text(bench, ":status: 200\ncache-control: private\n"
                       "date: Mon, 21 Oct 2013 20:13:22 GMT\n"
                       "location: https://www.example.com\ncontent-encoding: gzip\n"
                       "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n");
    assert_int_equal(bench->decoder.table.size, 215);
}

static void refuses_what_cannot_be_decoded(void **state)
{
    static const char *const bad[] = {
        "80",                /* index 0 */
        "be",                /* an empty dynamic table */
        "ff80808080808001",  /* an integer without end */
        "ffffffffff0f",      /* an integer above all tables */
        "7f",                /* a cut integer */
        "40",                /* no name */
        "400a6162",          /* a cut name */
        "40016105",          /* a cut value */
        "4001618000",        /* a byte behind: index 0 as a literal without value */
        "3fe21f",            /* size above what we allow (4097) */
        "8220",              /* size update behind a field */
        "408161ff",          /* a cut Huffman string */
        "400161 82ffff",     /* Huffman padding of a whole byte */
        "400161 84ffffffff", /* EOS */
        "400161 8118",       /* padding that is not ones */
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct bench *bench = *state;
        if (decode_hex(bench, bad[i])) {
            fail_msg("accepted: %s", bad[i]);
        }
        hpack_decoder_fini(&bench->decoder);
        hpack_decoder_init(&bench->decoder);
    }
}

static void flags_fields_that_may_not_be(void **state)
{
    static const struct {
        const char *hex;
        bool malformed;
    } cases[] = {
        {"00 0161 0162", false},
        {"00 0141 0162", true}, /* upper case */
        {"00 00 0162", true},
        {"00 0161 022062", true},
        {"00 0161 026220", true},
        {"00 0161 026209", true},
        {"00 0161 03620962", false},
        {"00 0161 03620062", true},
        {"00 0161 03620d62", true},
        {"00 0161 00", false},
        {"00 0161 0b61616161616161616162ff", false},
        {"00 0161 0a616161616161616161 7f", true},
        {"00 0161 0a6161616161610a616161", true},
        {"00 02613a 0162", true}, /* a colon inside */
        {"00 026120 0162", true},
        {"00 013a 0162", true},
        {"40 0141 0162 be", true}, /* also from the table */
        {"0f 00 026220", true},    /* accept-charset with a blank behind */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bench *bench = *state;
        hpack_decoder_fini(&bench->decoder);
        hpack_decoder_init(&bench->decoder);
        assert_true(decode_hex(bench, cases[i].hex));
        if (bench->list.malformed != cases[i].malformed) {
            fail_msg("%s", cases[i].hex);
        }
    }
    struct bench *bench = *state;
    assert_true(decode_hex(bench, "40 0141 0162"));
    assert_true(bench->list.malformed);
    assert_true(decode_hex(bench, "be")); /* a later block, by its index */
    assert_true(bench->list.malformed);
    assert_true(decode_hex(bench, "10 0161 0162"));
    assert_false(bench->list.malformed);
    assert_true(bench->fields[0].no_index);
}

static void owes_an_update_after_a_lower_limit(void **state)
{
    struct bench *bench = *state;
    hpack_decoder_limit(&bench->decoder, 100);
    assert_false(decode_hex(bench, "82"));
    assert_true(decode_hex(bench, "3f45 82")); /* 100 */
    assert_false(decode_hex(bench, "3f46 82"));
    assert_true(decode_hex(bench, "82"));
}

/* Fields that point into the table survive its moving, growing and evicting in the same block. */
static void fields_survive_a_moving_table(void **state)
{
    struct bench *bench = *state;
    uint8_t block[8192];
    size_t len = 0;
    block[len++] = 0x40; /* k: a value of 60 bytes, inserted */
    block[len++] = 1;
    block[len++] = 'k';
    block[len++] = 60;
    memset(block + len, 'v', 60);
    len += 60;
    for (unsigned i = 0; i < 90; i++) {
        block[len++] = 0x80 | 62; /* the newest entry */
        block[len++] = 0x7e;      /* its name (62), with a new value, inserted */
        block[len++] = 50;
        memset(block + len, 'a' + (int)(i % 26), 50);
        len += 50;
    }
    assert_true(hpack_decode(&bench->decoder, slice_of(block, len), &bench->list));
    assert_int_equal(bench->list.count, 181);
    for (unsigned i = 0; i < bench->list.count; i++) {
        const struct header *field = &bench->fields[i];
        assert_int_equal(field->name.len, 1);
        assert_int_equal(field->name.at[0], 'k');
        uint8_t want = (uint8_t)(i < 2 ? 'v' : 'a' + (int)((i - 2) / 2 % 26));
        assert_int_equal(field->value.len, i < 2 ? 60 : 50);
        assert_int_equal(field->value.at[0], want);
        assert_int_equal(field->value.at[49], want);
    }
    assert_true(bench->decoder.table.size <= 4096);
}

/* A block of one byte a field that names an entry of 4 KiB each time. */
static void a_bomb_costs_nothing(void **state)
{
    struct bench *bench = *state;
    static uint8_t block[20000];
    size_t len = 0;
    block[len++] = 0x40;
    block[len++] = 1;
    block[len++] = 'k';
    block[len++] = 0x7f;
    block[len++] = 0xa1; /* 4000 */
    block[len++] = 0x1e;
    memset(block + len, 'v', 4000);
    len += 4000;
    memset(block + len, 0x80 | 62, 15000);
    len += 15000;
    assert_true(hpack_decode(&bench->decoder, slice_of(block, len), &bench->list));
    assert_true(bench->list.over_size);
    assert_int_equal(bench->list.count, 0);
    assert_int_equal(bench->list.used, 0);
    assert_true(decode_hex(bench, "be"));
    assert_int_equal(bench->list.count, 1);
}

/* What is inserted while a list is too large must be known as well as any other. */
static void a_list_too_large_leaves_a_true_table(void **state)
{
    struct bench *bench = *state;
    static uint8_t block[80000];
    size_t len = 0;
    block[len++] = 0x00; /* a: 70000 bytes */
    block[len++] = 1;
    block[len++] = 'a';
    block[len++] = 0x7f;
    block[len++] = 0xf1; /* 70000 - 127 = 69873 = 0x110f1 */
    block[len++] = 0xa1;
    block[len++] = 0x04;
    memset(block + len, 'v', 70000);
    len += 70000;
    static const char tail[] = "\x40\x0e"
                               "content-length\x01"
                               "5\x40\x01"
                               "B\x01"
                               "x";
    memcpy(block + len, tail, sizeof tail - 1);
    len += sizeof tail - 1;
    assert_true(hpack_decode(&bench->decoder, slice_of(block, len), &bench->list));
    assert_true(bench->list.over_size);
    assert_true(decode_hex(bench, "bf"));
    assert_int_equal(bench->fields[0].id, HEADER_CONTENT_LENGTH);
    assert_false(bench->list.malformed);
    assert_true(decode_hex(bench, "be"));
    assert_true(bench->list.malformed);
}

static void encode_one(struct bench *bench, const char *name, const char *value)
{
    struct header field = {.name = slice_of_text(name), .value = slice_of_text(value)};
    field.id = (uint8_t)header_id_of(field.name);
    uint8_t *end = hpack_encode_field(&bench->encoder, bench->wire + bench->wire_len, &field);
    bench->wire_len = (size_t)(end - bench->wire);
}

static size_t encode_block(struct bench *bench, const char *name, const char *value)
{
    bench->wire_len = (size_t)(hpack_encode_start(&bench->encoder, bench->wire) - bench->wire);
    encode_one(bench, name, value);
    assert_true(
        hpack_decode(&bench->decoder, slice_of(bench->wire, bench->wire_len), &bench->list));
    assert_int_equal(bench->list.count, 1);
    assert_true(slice_eq_nocase(bench->fields[0].name, slice_of_text(name)));
    assert_true(slice_eq(bench->fields[0].value, slice_of_text(value)));
    assert_int_equal(bench->decoder.table.size, bench->encoder.table.size);
    return bench->wire_len;
}

static void indexes_what_comes_twice(void **state)
{
    struct bench *bench = *state;
    assert_true(encode_block(bench, "X-Custom", "some value") > 10);
    assert_null(bench->encoder.table.memory);
    assert_true(encode_block(bench, "x-custom", "some value") > 10);
    assert_int_equal(encode_block(bench, "x-CUSTOM", "some value"), 1);
    for (int i = 0; i < 5; i++) {
        assert_true(encode_block(bench, "x-request-id", "3f0c9b6e-0000-4000-8000-1234567890ab") >
                    36);
        assert_true(encode_block(bench, "authorization", "secret") > 6);
        assert_true(bench->fields[0].no_index);
        assert_true(encode_block(bench, "cookie", "short=1") > 6);
        assert_true(bench->fields[0].no_index);
    }
    assert_int_equal(bench->encoder.table.count, 1);
}

static void follows_the_peers_table_size(void **state)
{
    struct bench *bench = *state;
    for (int i = 0; i < 2; i++) {
        (void)encode_block(bench, "x-custom", "some value");
    }
    assert_int_equal(bench->decoder.table.count, 1);
    hpack_encoder_limit(&bench->encoder, 0);
    hpack_encoder_limit(&bench->encoder, 200);
    assert_null(bench->encoder.table.memory);
    (void)encode_block(bench, "x-custom", "some value");
    assert_int_equal(bench->decoder.table.max, 200);
    assert_int_equal(bench->decoder.table.count, 0);
}

static void writes_huffman_when_shorter(void **state)
{
    struct bench *bench = *state;
    bench->encoder.huffman = true;
    assert_true(encode_block(bench, "x-custom", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") < 32);
    (void)encode_block(bench, "x-custom", "\xff\xfe\xfd");
}

/* The tables in the source, rebuilt from the code's own rule: by length, then by symbol. */
static void huffman_is_canonical(void **state)
{
    (void)state;
    for (unsigned symbol = 0; symbol < 256; symbol++) {
        uint8_t text[3] = {(uint8_t)symbol, 'a', (uint8_t)symbol};
        uint8_t wire[16];
        uint8_t back[3];
        size_t len;
        uint8_t *end = huffman_encode(slice_of(text, 3), wire);
        assert_int_equal((size_t)(end - wire), huffman_length(slice_of(text, 3)));
        assert_true(
            huffman_decode(slice_of(wire, (size_t)(end - wire)), (struct span){back, 3}, &len));
        assert_int_equal(len, 3);
        assert_memory_equal(text, back, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(decodes_the_requests_of_appendix_c),
        TEST(evicts_as_appendix_c6),
        TEST(refuses_what_cannot_be_decoded),
        TEST(flags_fields_that_may_not_be),
        TEST(owes_an_update_after_a_lower_limit),
        TEST(fields_survive_a_moving_table),
        TEST(a_bomb_costs_nothing),
        TEST(a_list_too_large_leaves_a_true_table),
        TEST(indexes_what_comes_twice),
        TEST(follows_the_peers_table_size),
        TEST(writes_huffman_when_shorter),
        TEST(huffman_is_canonical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
