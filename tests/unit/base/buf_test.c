#include <string.h>

#include "base/buf.h"
#include "tests/support/unit.h"

/* A model of the queue: one flat array. Every operation is done to both and compared. */
#define MODEL_MAX (1 << 20)

struct model {
    uint8_t *bytes;
    size_t len;
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

static void assert_same(const struct buf *buf, const struct model *model)
{
    assert_int_equal(buf->len, model->len);
    static uint8_t copy[MODEL_MAX];
    assert_int_equal(buf_peek(buf, (struct span){copy, sizeof copy}), model->len);
    if (model->len > 0) {
        assert_memory_equal(copy, model->bytes, model->len);
    }
    struct iovec vectors[1024];
    size_t sum = 0;
    int count = buf_iovec(buf, vectors, 1024);
    for (int i = 0; i < count; i++) {
        sum += vectors[i].iov_len;
    }
    assert_int_equal(sum, model->len);
}

static void test_random_operations_match_a_flat_array(void **state)
{
    (void)state;
    static uint8_t storage[MODEL_MAX];
    static uint8_t lent[70000];
    for (uint32_t seed = 1; seed <= 40; seed++) {
        uint32_t rng = seed;
        struct buf_pool pool;
        buf_pool_init(&pool, 4);
        struct buf buf;
        buf_init(&buf, &pool);
        struct buf other;
        buf_init(&other, &pool);
        struct model model = {storage, 0};
        for (int step = 0; step < 200; step++) {
            size_t size = next_random(&rng) % (next_random(&rng) % 4 == 0 ? 40000 : 300);
            if (model.len + size > MODEL_MAX / 2) {
                buf_consume(&buf, model.len);
                model.len = 0;
            }
            uint8_t fill = (uint8_t)next_random(&rng);
            switch (next_random(&rng) % 6) {
            case 0:
                memset(lent, fill, size);
                buf_append(&buf, slice_of(lent, size));
                memset(model.bytes + model.len, fill, size);
                model.len += size;
                break;
            case 1: /* borrow, move on to another buf and back, then the lender takes its memory */
                memset(lent, fill, size);
                buf_borrow(&buf, slice_of(lent, size));
                memset(model.bytes + model.len, fill, size);
                model.len += size;
                buf_move(&other, &buf, model.len / 2);
                buf_move(&other, &buf, buf.len);
                buf_pool_settle(&pool);
                memset(lent, 0xEE, sizeof lent);
                buf_move(&buf, &other, other.len);
                break;
            case 2: {
                size_t part = model.len > 0 ? next_random(&rng) % (model.len + 1) : 0;
                buf_consume(&buf, part);
                memmove(model.bytes, model.bytes + part, model.len - part);
                model.len -= part;
                break;
            }
            case 3: {
                size_t want = size % BUF_CHUNK_BYTES;
                struct span room = buf_reserve(&buf, want);
                assert_true(room.len >= want);
                memset(room.at, fill, want);
                buf_commit(&buf, want);
                memset(model.bytes + model.len, fill, want);
                model.len += want;
                break;
            }
            case 4: { /* what is shared stays whole while the source goes on */
                size_t from = model.len / 3;
                size_t len = model.len - from;
                buf_share(&other, &buf, from, len);
                struct model tail = {model.bytes + from, len};
                buf_append(&buf, slice_of("tail", 4));
                memcpy(model.bytes + model.len, "tail", 4);
                model.len += 4;
                assert_same(&other, &tail);
                buf_clear(&other);
                break;
            }
            default: {
                struct slice front = buf_front(&buf);
                assert_true(front.len <= model.len);
                assert_int_equal(front.len == 0, model.len == 0);
                break;
            }
            }
            assert_same(&buf, &model);
        }
        buf_clear(&buf);
        assert_int_equal(pool.bytes, 0);
        buf_pool_fini(&pool);
    }
}

static void test_an_empty_buf_holds_no_memory(void **state)
{
    (void)state;
    struct buf_pool pool;
    buf_pool_init(&pool, 0);
    struct buf buf;
    buf_init(&buf, &pool);
    assert_true(buf_reserve(&buf, 10).len >= 10);
    buf_commit(&buf, 0);
    assert_null(buf.first);
    assert_int_equal(pool.bytes, 0);
    buf_append(&buf, SLICE("x"));
    buf_consume(&buf, 1);
    assert_int_equal(pool.bytes, 0);
    buf_pool_fini(&pool);
}

/* A tunnel's first words wait for its other end: they must not hold a chunk of 16 KiB each. */
static void test_few_bytes_are_kept_in_few_bytes(void **state)
{
    (void)state;
    struct buf_pool pool;
    buf_pool_init(&pool, 4);
    struct buf settled;
    struct buf shared;
    buf_init(&settled, &pool);
    buf_init(&shared, &pool);
    buf_borrow(&settled, SLICE("lent by the receive buffer"));
    buf_share(&shared, &settled, 5, 3);
    assert_int_equal(pool.bytes, 3);
    buf_pool_settle(&pool);
    assert_int_equal(pool.bytes, 3 + 26);
    assert_true(slice_eq(buf_front(&settled), SLICE("lent by the receive buffer")));
    assert_true(slice_eq(buf_front(&shared), SLICE("by ")));
    buf_append(&settled, SLICE(", and more")); /* the small chunk is full */
    assert_int_equal(settled.len, 36);
    assert_int_equal(pool.bytes, 3 + 26 + BUF_CHUNK_BYTES);
    buf_clear(&settled);
    buf_clear(&shared);
    assert_int_equal(pool.bytes, 0);
    assert_int_equal(pool.kept, 1); /* the small ones went back to the heap */
    buf_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_match_a_flat_array),
        cmocka_unit_test(test_an_empty_buf_holds_no_memory),
        cmocka_unit_test(test_few_bytes_are_kept_in_few_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
