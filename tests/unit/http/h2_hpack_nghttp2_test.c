/* HPACK against nghttp2's, both ways, over generated lists: tables, sizes, Huffman. */
#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/alloc.h"
#include "http/h2_hpack.h"

#include <cmocka.h>

#define FIELDS   40
#define LIST_MAX 65536

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
    return (uint32_t)(*seed >> 33);
}

struct text_list {
    char text[FIELDS][2][600];
    unsigned count;
};

static void generate(struct text_list *list, uint64_t *seed)
{
    static const char *const names[] = {"accept",       "x-request-id",
                                        "content-type", "cookie",
                                        "user-agent",   "date",
                                        "x-a",          "x-b",
                                        "etag",         "x-long-name-that-is-nobodys",
                                        "via",          "te"};
    list->count = 1 + next(seed) % FIELDS;
    for (unsigned i = 0; i < list->count; i++) {
        (void)snprintf(list->text[i][0], sizeof list->text[i][0], "%s",
                       names[next(seed) % COUNT_OF(names)]);
        unsigned shape = next(seed) % 10;
        unsigned len = shape < 7 ? next(seed) % 12 : shape < 9 ? next(seed) % 60 : next(seed) % 590;
        unsigned letters = 1 + next(seed) % 4;
        for (unsigned j = 0; j < len; j++) {
            list->text[i][1][j] = (char)('!' + (int)(next(seed) % (letters * 23)));
        }
        list->text[i][1][len] = '\0';
        if (shape < 3) { /* often the same */
            (void)snprintf(list->text[i][1], sizeof list->text[i][1], "value-%u", next(seed) % 5);
        }
    }
}

static void expect_same(const struct text_list *list, unsigned at, struct slice name,
                        struct slice value)
{
    assert_true(at < list->count);
    assert_true(slice_eq(name, slice_of_text(list->text[at][0])));
    assert_true(slice_eq(value, slice_of_text(list->text[at][1])));
}

static void ours_read_by_nghttp2(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 40; round++) {
        uint64_t seed = round + 1;
        struct hpack_encoder encoder;
        nghttp2_hd_inflater *inflater;
        hpack_encoder_init(&encoder, round % 4 == 3 ? 1000 : HPACK_TABLE_DEFAULT, round % 2 == 1);
        assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
        struct text_list *list = NEW(struct text_list);
        uint8_t *wire = mem_raw(FIELDS * 1400);
        for (unsigned block = 0; block < 60; block++) {
            generate(list, &seed);
            if (next(&seed) % 20 == 0) {
                uint32_t size = next(&seed) % 5000;
                hpack_encoder_limit(&encoder, size);
                (void)nghttp2_hd_inflate_change_table_size(inflater, size);
            }
            uint8_t *end = hpack_encode_start(&encoder, wire);
            for (unsigned i = 0; i < list->count; i++) {
                struct header field = {.name = slice_of_text(list->text[i][0]),
                                       .value = slice_of_text(list->text[i][1])};
                field.id = (uint8_t)header_id_of(field.name);
                end = hpack_encode_field(&encoder, end, &field);
            }
            const uint8_t *at = wire;
            unsigned got = 0;
            for (;;) {
                nghttp2_nv nv;
                int flags = 0;
                ssize_t used =
                    nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, (size_t)(end - at), 1);
                assert_true(used >= 0);
                at += used;
                if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
                    expect_same(list, got++, slice_of(nv.name, nv.namelen),
                                slice_of(nv.value, nv.valuelen));
                }
                if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
                    (void)nghttp2_hd_inflate_end_headers(inflater);
                    break;
                }
            }
            assert_int_equal(got, list->count);
            assert_int_equal(nghttp2_hd_inflate_get_dynamic_table_size(inflater),
                             encoder.table.size);
        }
        mem_free(wire);
        mem_free(list);
        nghttp2_hd_inflate_del(inflater);
        hpack_encoder_fini(&encoder);
    }
}

static void nghttp2s_read_by_us(void **state)
{
    (void)state;
    struct header fields[FIELDS];
    struct hpack_list out = {
        .field = fields,
        .capacity = FIELDS,
        .scratch = {mem_raw(HPACK_SCRATCH(LIST_MAX)), HPACK_SCRATCH(LIST_MAX)},
        .list_max = LIST_MAX,
    };
    for (uint64_t round = 0; round < 40; round++) {
        uint64_t seed = round + 1000;
        struct hpack_decoder decoder;
        nghttp2_hd_deflater *deflater;
        hpack_decoder_init(&decoder);
        assert_int_equal(nghttp2_hd_deflate_new(&deflater, HPACK_TABLE_DEFAULT), 0);
        struct text_list *list = NEW(struct text_list);
        uint8_t *wire = mem_raw(FIELDS * 1400);
        for (unsigned block = 0; block < 60; block++) {
            generate(list, &seed);
            if (next(&seed) % 20 == 0) {
                uint32_t size = next(&seed) % 4096;
                hpack_decoder_limit(&decoder, size);
                (void)nghttp2_hd_deflate_change_table_size(deflater, size);
            }
            nghttp2_nv nv[FIELDS];
            for (unsigned i = 0; i < list->count; i++) {
                nv[i] = (nghttp2_nv){(uint8_t *)list->text[i][0], (uint8_t *)list->text[i][1],
                                     strlen(list->text[i][0]), strlen(list->text[i][1]),
                                     next(&seed) % 8 == 0 ? NGHTTP2_NV_FLAG_NO_INDEX
                                                          : NGHTTP2_NV_FLAG_NONE};
            }
            ssize_t len = nghttp2_hd_deflate_hd(deflater, wire, FIELDS * 1400, nv, list->count);
            assert_true(len > 0);
            assert_true(hpack_decode(&decoder, slice_of(wire, (size_t)len), &out));
            assert_int_equal(out.count, list->count);
            for (unsigned i = 0; i < out.count; i++) {
                expect_same(list, i, fields[i].name, fields[i].value);
                if (nv[i].flags == NGHTTP2_NV_FLAG_NO_INDEX) {
                    assert_true(fields[i].no_index);
                }
            }
            assert_int_equal(nghttp2_hd_deflate_get_dynamic_table_size(deflater),
                             decoder.table.size);
        }
        mem_free(wire);
        mem_free(list);
        nghttp2_hd_deflate_del(deflater);
        hpack_decoder_fini(&decoder);
    }
    mem_free(out.scratch.at);
}

/* Random bytes: both decoders say yes or both say no, and the fields are the same. */
static void random_bytes_judged_alike(void **state)
{
    (void)state;
    struct header fields[200];
    struct hpack_list out = {
        .field = fields,
        .capacity = 200,
        .scratch = {mem_raw(HPACK_SCRATCH(LIST_MAX)), HPACK_SCRATCH(LIST_MAX)},
        .list_max = LIST_MAX,
    };
    unsigned accepted = 0;
    for (uint64_t round = 0; round < 30000; round++) {
        uint64_t seed = round;
        uint8_t wire[40];
        size_t len = 1 + next(&seed) % sizeof wire;
        for (size_t i = 0; i < len; i++) {
            static const uint8_t common[] = {0x40, 0x82, 0xbe, 0xbf, 0x00, 0x01, 0x02, 0x61, 0x20};
            wire[i] =
                next(&seed) % 2 == 0 ? (uint8_t)next(&seed) : common[next(&seed) % sizeof common];
        }
        struct hpack_decoder decoder;
        nghttp2_hd_inflater *inflater;
        hpack_decoder_init(&decoder);
        assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
        bool ours = hpack_decode(&decoder, slice_of(wire, len), &out);
        const uint8_t *at = wire;
        bool theirs = true;
        unsigned got = 0;
        for (;;) {
            nghttp2_nv nv;
            int flags = 0;
            ssize_t used =
                nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, (size_t)(wire + len - at), 1);
            if (used < 0) {
                theirs = false;
                break;
            }
            at += used;
            if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
                if (ours) {
                    assert_true(got < out.count);
                    assert_true(slice_eq(fields[got].name, slice_of(nv.name, nv.namelen)));
                    assert_true(slice_eq(fields[got].value, slice_of(nv.value, nv.valuelen)));
                }
                got++;
            }
            if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
                break;
            }
        }
        if (ours != theirs) {
            fail_msg("round %u: ours %d, nghttp2 %d", (unsigned)round, ours, theirs);
        }
        accepted += ours;
        hpack_decoder_fini(&decoder);
        nghttp2_hd_inflate_del(inflater);
    }
    assert_true(accepted > 100);
    mem_free(out.scratch.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours_read_by_nghttp2),
        cmocka_unit_test(nghttp2s_read_by_us),
        cmocka_unit_test(random_bytes_judged_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
