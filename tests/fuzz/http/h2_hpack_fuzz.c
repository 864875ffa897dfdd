/* HPACK: the input is a row of blocks, each behind its length in two bytes; a length above 0xf000
 * changes table sizes instead. What was decoded is encoded again and must come back the same; the
 * tables of both ends of our own code stay equal. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "http/h2_hpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define FIELDS   64
#define LIST_MAX 8192

struct side {
    struct hpack_decoder decoder;
    struct header fields[FIELDS];
    struct hpack_list list;
};

static void side_init(struct side *side)
{
    hpack_decoder_init(&side->decoder);
    side->list = (struct hpack_list){
        .field = side->fields,
        .capacity = FIELDS,
        .scratch = {mem_raw(HPACK_SCRATCH(LIST_MAX)), HPACK_SCRATCH(LIST_MAX)},
        .list_max = LIST_MAX,
    };
}

static void side_fini(struct side *side)
{
    hpack_decoder_fini(&side->decoder);
    mem_free(side->list.scratch.at);
}

/* Encodes what `from` holds and decodes it with `to`. */
static void round_trip(struct hpack_encoder *encoder, const struct side *from, struct side *to)
{
    size_t room = HPACK_START_BOUND;
    for (unsigned i = 0; i < from->list.count; i++) {
        room += HPACK_FIELD_BOUND(from->fields[i].name.len, from->fields[i].value.len);
    }
    uint8_t *block = mem_raw(room);
    uint8_t *end = hpack_encode_start(encoder, block);
    for (unsigned i = 0; i < from->list.count; i++) {
        const struct header *field = &from->fields[i];
        if (field->id < HPACK_AUTHORITY) {
            end = hpack_encode_field(encoder, end, field);
        } else if (field->id < HPACK_PSEUDO_UNKNOWN) {
            end = hpack_encode_pseudo(encoder, end, (enum hpack_pseudo)field->id, field->value);
        } else {
            struct header other = *field;
            other.id = HEADER_OTHER;
            end = hpack_encode_field(encoder, end, &other);
        }
    }
    CHECK((size_t)(end - block) <= room);
    size_t len = (size_t)(end - block);
    uint8_t *exact = mem_raw(len > 0 ? len : 1);
    memcpy(exact, block, len);
    CHECK(hpack_decode(&to->decoder, slice_of(exact, len), &to->list));
    CHECK(to->list.count == from->list.count);
    for (unsigned i = 0; i < from->list.count; i++) {
        CHECK(slice_eq_nocase(to->fields[i].name, from->fields[i].name));
        CHECK(slice_eq(to->fields[i].value, from->fields[i].value));
        /* ":Path" is nobody's, and ":path", as which it leaves here, is. */
        bool unknown = from->fields[i].id == HPACK_PSEUDO_UNKNOWN;
        CHECK(unknown || to->fields[i].id == from->fields[i].id);
        bool pseudo = from->fields[i].id >= HPACK_AUTHORITY; /* a message has no mark for those */
        CHECK(pseudo || to->fields[i].no_index || !from->fields[i].no_index);
    }
    CHECK(to->decoder.table.size == encoder->table.size);
    CHECK(to->decoder.table.count == encoder->table.count);
    mem_free(exact);
    mem_free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct side *peer = NEW(struct side);
    struct side *back = NEW(struct side);
    struct hpack_encoder encoder;
    side_init(peer);
    side_init(back);
    hpack_encoder_init(&encoder, HPACK_TABLE_DEFAULT, len % 2 == 1);
    while (len >= 2) {
        size_t size = (size_t)input[0] << 8 | input[1];
        input += 2;
        len -= 2;
        if (size >= 0xf000) {
            uint32_t limit = (uint32_t)(size - 0xf000) * 2;
            hpack_encoder_limit(&encoder, limit);
            if (limit <= HPACK_TABLE_DEFAULT) {
                hpack_decoder_limit(&peer->decoder, limit);
            }
            continue;
        }
        size = size < len ? size : len;
        uint8_t *exact = mem_raw(size > 0 ? size : 1);
        memcpy(exact, input, size);
        input += size;
        len -= size;
        bool ok = hpack_decode(&peer->decoder, slice_of(exact, size), &peer->list);
        CHECK(peer->decoder.table.size <= peer->decoder.table.max);
        if (ok) {
            CHECK(peer->list.over_size || peer->list.list_size <= LIST_MAX);
            round_trip(&encoder, peer, back);
        }
        mem_free(exact);
        if (!ok) {
            break;
        }
    }
    side_fini(peer);
    side_fini(back);
    hpack_encoder_fini(&encoder);
    mem_free(peer);
    mem_free(back);
    return 0;
}
