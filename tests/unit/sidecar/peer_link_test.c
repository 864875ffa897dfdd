/* What is taken from a peer's notes, and for how long its word about itself holds. */
#include "sidecar/upstream/cluster.h"
#include "sidecar/upstream/peer_link.h"
#include "sidecar/worker.h"
#include "tests/support/unit.h"

static struct codec_event event_of(struct arena *arena, const struct peer_note *note)
{
    return (struct codec_event){.kind = CODEC_EV_PEER, .data = peer_note_write(arena, note)};
}

static void test_only_so_many_notes_are_read(void **state)
{
    (void)state;
    struct loop loop = {.now_us = 5000000};
    struct worker worker = {.loop = &loop};
    struct peer_link link = {.mesh = true};
    struct peer_note note = {.workload = SLICE("front"), .draining = true};
    struct peer_note got;
    struct arena arena;
    arena_init(&arena, NULL);
    struct codec_event ev = event_of(&arena, &note);
    for (unsigned i = 0; i < PEER_LINK_NOTES_PER_SECOND; i++) {
        assert_true(peer_link_read(&link, &worker, &ev, &arena, &got));
        assert_true(got.draining);
        assert_true(slice_eq(got.workload, note.workload));
    }
    assert_false(peer_link_read(&link, &worker, &ev, &arena, &got));
    loop.now_us += 1000000;
    assert_true(peer_link_read(&link, &worker, &ev, &arena, &got));
    arena_fini(&arena);
}

static void test_notes_of_others_are_not_read(void **state)
{
    (void)state;
    struct loop loop = {.now_us = 5000000};
    struct worker worker = {.loop = &loop};
    struct peer_link stranger = {.mesh = false};
    struct peer_link link = {.mesh = true};
    struct peer_note note = {.draining = true};
    struct peer_note got;
    struct arena arena;
    arena_init(&arena, NULL);
    struct codec_event ev = event_of(&arena, &note);
    assert_false(peer_link_read(&stranger, &worker, &ev, &arena, &got));
    ev.stream = 3;
    assert_false(peer_link_read(&link, &worker, &ev, &arena, &got));
    struct codec_event bad = {.kind = CODEC_EV_PEER, .data = SLICE("\xff\xff\xff")};
    assert_false(peer_link_read(&link, &worker, &bad, &arena, &got));
    arena_fini(&arena);
}

static void test_a_refusal_is_named_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum fail fail;
    } cases[] = {{"CONNECT_REFUSED", FAIL_CONNECT_REFUSED},
                 {"OVERFLOW", FAIL_OVERFLOW},
                 {"OF_THE_FUTURE", FAIL_NONE},
                 {"", FAIL_NONE}};
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        struct arena arena;
        arena_init(&arena, NULL);
        struct peer_note note = {.fail = slice_of_text(cases[i].name)};
        struct stream stream = {.arena = &arena, .note = peer_note_write(&arena, &note)};
        assert_int_equal(peer_link_refusal(&stream), cases[i].fail);
        arena_fini(&arena);
    }
}

static void test_a_word_holds_until_it_is_taken_back_or_forgotten(void **state)
{
    (void)state;
    struct loop *loop = loop_new_stepped(net_sockets(), NULL);
    uint64_t next_us;
    (void)loop_step(loop, 1000000, 0, &next_us);
    struct cluster cluster = {.view_stale = false};
    struct endpoint_config config = {.weight = 1};
    struct shared_endpoint *shared = shared_endpoint_new();
    struct endpoint *endpoint = endpoint_new(&cluster, &config, &shared, loop->now_us);

    endpoint_take_word(endpoint, loop, true, false);
    assert_true(endpoint->peer_shy);
    assert_false(endpoint->peer_overloaded);
    assert_true(cluster.view_stale);
    endpoint_take_word(endpoint, loop, false, true);
    assert_true(endpoint->peer_shy);
    assert_true(endpoint->peer_overloaded);
    endpoint_take_word(endpoint, loop, false, false);
    assert_false(endpoint->peer_shy);

    endpoint_take_word(endpoint, loop, true, false);
    (void)loop_step(loop, 31000000, 0, &next_us);
    assert_true(endpoint->peer_shy); /* a drain takes 30 s at most */
    (void)loop_step(loop, 41000000, 0, &next_us);
    assert_false(endpoint->peer_shy);

    endpoint->listed = false;
    endpoint_unref(&endpoint);
    loop_free(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_so_many_notes_are_read),
        cmocka_unit_test(test_notes_of_others_are_not_read),
        cmocka_unit_test(test_a_refusal_is_named_or_not),
        cmocka_unit_test(test_a_word_holds_until_it_is_taken_back_or_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
