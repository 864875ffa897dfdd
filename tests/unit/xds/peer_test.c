#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "xds/peer.h"

#include <cmocka.h>

static void a_note_survives_the_wire(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct peer_note note = {.workload = SLICE("orders-v2-1"),
                             .namespace = SLICE("shop"),
                             .app = SLICE("orders"),
                             .version = SLICE("v2"),
                             .pod_uid = SLICE("0a1b"),
                             .generation = 1ULL << 40,
                             .draining = true,
                             .overloaded = true,
                             .requests_in_flight = 7,
                             .latency_us = 1500,
                             .fail = SLICE("drain")};
    struct peer_note read;
    struct error err;
    assert_true(peer_note_read(&arena, peer_note_write(&arena, &note), &read, &err));
    assert_true(slice_eq(read.workload, note.workload));
    assert_true(slice_eq(read.namespace, note.namespace));
    assert_true(slice_eq(read.app, note.app));
    assert_true(slice_eq(read.version, note.version));
    assert_true(slice_eq(read.pod_uid, note.pod_uid));
    assert_true(slice_eq(read.fail, note.fail));
    assert_true(read.generation == note.generation);
    assert_true(read.draining);
    assert_true(read.overloaded);
    assert_int_equal(read.requests_in_flight, 7);
    assert_int_equal(read.latency_us, 1500);
    arena_fini(&arena);
}

static void an_empty_frame_is_an_empty_note(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    struct peer_note note;
    assert_true(peer_note_read(&arena, slice_of(NULL, 0), &note, NULL));
    assert_int_equal(note.workload.len, 0);
    assert_false(note.draining);
    arena_fini(&arena);
}

static void long_names_are_cut_at_a_character(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    char name[400];
    for (size_t i = 0; i < sizeof name; i += 4) {
        (void)memcpy(name + i, "\xf0\x9f\x98\x80", 4);
    }
    struct slice most = slice_of(name + 1, 399); /* begins inside a character: read refuses that */
    struct slice whole = slice_of(name, 398);
    struct peer_note note = {.workload = whole,
                             .namespace = whole,
                             .app = whole,
                             .version = whole,
                             .pod_uid = whole,
                             .fail = whole,
                             .generation = UINT64_MAX};
    struct peer_note read;
    struct slice payload = peer_note_write(&arena, &note);
    assert_true(payload.len <= PEER_NOTE_MAX_BYTES);
    assert_true(peer_note_read(&arena, payload, &read, NULL));
    assert_int_equal(read.workload.len, 128);

    note = (struct peer_note){.workload = most};
    struct error err;
    assert_false(peer_note_read(&arena, peer_note_write(&arena, &note), &read, &err));
    assert_string_equal(err.text, "PEER frame: workload: not UTF-8, or a zero byte in it");
    arena_fini(&arena);
}

static void a_long_frame_is_refused(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, NULL);
    uint8_t bytes[PEER_NOTE_MAX_BYTES + 1] = {0};
    struct peer_note note;
    struct error err;
    assert_false(peer_note_read(&arena, slice_of(bytes, sizeof bytes), &note, &err));
    assert_string_equal(err.text, "a PEER frame of 1025 bytes; 1024 are allowed");
    arena_fini(&arena);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_note_survives_the_wire),
        cmocka_unit_test(an_empty_frame_is_an_empty_note),
        cmocka_unit_test(long_names_are_cut_at_a_character),
        cmocka_unit_test(a_long_frame_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
