/* Our client against our server, driven by the input as a script of commands of three bytes: what,
 * which stream, how much. Oracles: neither end ever finds fault with the other; a body arrives byte
 * by byte as it was sent; what was ended and not reset arrives whole; in the end nothing is left.
 */
#include "http/h2_hpack.h"
#include "tests/support/h2_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define STREAMS 128

struct way {
    uint32_t sent;     /* body bytes taken by the sender's codec */
    uint32_t got;      /* of the receiver */
    uint32_t consumed; /* given back by the receiver */
    bool head_sent;
    bool ended; /* the sender's codec took the end */
    bool end_got;
};

struct pair {
    struct h2_end end[2]; /* 0: client */
    struct h2_rules rules[2];
    struct way way[STREAMS][2]; /* 0: from the client */
    bool reset[STREAMS];
    unsigned opened;
};

static uint8_t byte_at(uint32_t id, uint32_t at)
{
    return (uint8_t)(id * 31 + at * 7 + at / 251);
}

static unsigned slot_of(uint32_t id)
{
    CHECK(id % 2 == 1 && id / 2 < STREAMS);
    return id / 2;
}

static void on_event(struct h2_end *end, const struct codec_event *ev)
{
    struct pair *pair = end->owner;
    unsigned side = end == &pair->end[0] ? 0 : 1;
    h2_rules_check(&pair->rules[side], ev);
    CHECK(ev->kind != CODEC_EV_REFUSED);
    if (ev->stream == 0 || ev->kind == CODEC_EV_GOAWAY) {
        return;
    }
    unsigned slot = slot_of(ev->stream);
    struct way *way = &pair->way[slot][1 - side];
    if (ev->kind == CODEC_EV_DATA) {
        for (size_t i = 0; i < ev->data.len; i++) {
            CHECK(ev->data.at[i] == byte_at(ev->stream, way->got + (uint32_t)i));
        }
        way->got += (uint32_t)ev->data.len;
        CHECK(way->got <= way->sent);
    } else if (ev->kind == CODEC_EV_END) {
        CHECK(way->ended);
        CHECK(way->got == way->sent);
        way->end_got = true;
    } else if (ev->kind == CODEC_EV_RESET) {
        pair->reset[slot] = true;
    }
}

static void carry(struct pair *pair, unsigned from, size_t step)
{
    (void)h2_end_carry(&pair->end[from], &pair->end[1 - from], step);
    CHECK(!pair->end[0].bad);
    CHECK(!pair->end[1].bad);
}

static void open_stream(struct pair *pair, uint8_t much)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
    if (pair->opened == STREAMS) {
        return;
    }
    uint32_t id = codec_open(pair->end[0].codec);
    if (id == 0) {
        return;
    }
    CHECK(slot_of(id) == pair->opened);
    char value[64];
    (void)snprintf(value, sizeof value, "%u", much % 16);
    struct header fields[] = {
        {.name = SLICE("X-Same"), .value = SLICE("always")},
        {.name = SLICE("x-some"), .value = slice_of_text(value)},
    };
    struct message message = {.kind = MESSAGE_REQUEST,
                              .method = slice_of_text(methods[much % 4]),
                              .scheme = SLICE("http"),
                              .authority = SLICE("a"),
                              .path = SLICE("/"),
                              .headers = {fields, 2, 2, 0},
                              .content_length = MESSAGE_LENGTH_UNKNOWN};
    (void)h2_end_write(&pair->end[0], (struct codec_cmd){.kind = CODEC_CMD_HEAD,
                                                         .stream = id,
                                                         .message = &message,
                                                         .end = much >= 0xc0});
    pair->way[pair->opened][0].head_sent = true;
    pair->way[pair->opened][0].ended = much >= 0xc0;
    pair->opened++;
}

static void answer(struct pair *pair, uint32_t id, uint8_t much)
{
    struct way *way = &pair->way[slot_of(id)][1];
    if (way->head_sent || pair->reset[slot_of(id)] || !pair->rules[1].count) {
        return;
    }
    bool known = false;
    for (unsigned i = 0; i < pair->rules[1].count; i++) {
        known |= pair->rules[1].stream[i].id == id && pair->rules[1].stream[i].head;
    }
    if (!known) {
        return;
    }
    struct message message = {.kind = MESSAGE_RESPONSE,
                              .status = (uint16_t)(200 + much % 4),
                              .content_length = MESSAGE_LENGTH_UNKNOWN};
    (void)h2_end_write(&pair->end[1], (struct codec_cmd){.kind = CODEC_CMD_HEAD,
                                                         .stream = id,
                                                         .message = &message,
                                                         .end = much >= 0xe0});
    way->head_sent = true;
    way->ended = much >= 0xe0;
}

static void send_body(struct pair *pair, unsigned side, uint32_t id, uint8_t much, bool last)
{
    struct way *way = &pair->way[slot_of(id)][side];
    if (!way->head_sent || way->ended || pair->reset[slot_of(id)]) {
        return;
    }
    size_t len = (size_t)much * much; /* up to 64 KiB */
    uint8_t *bytes = mem_raw(len > 0 ? len : 1);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(id, way->sent + (uint32_t)i);
    }
    struct buf body;
    buf_init(&body, &pair->end[side].bufs);
    buf_append(&body, slice_of(bytes, len));
    mem_free(bytes);
    enum codec_room room = h2_end_write(
        &pair->end[side],
        (struct codec_cmd){.kind = CODEC_CMD_DATA, .stream = id, .data = &body, .end = last});
    way->sent += (uint32_t)(len - body.len);
    CHECK((room == CODEC_DONE) == (body.len == 0));
    way->ended = last && room == CODEC_DONE;
    buf_clear(&body);
}

static void give_back(struct pair *pair, unsigned side, uint32_t id)
{
    struct way *way = &pair->way[slot_of(id)][1 - side];
    if (pair->reset[slot_of(id)] || way->got == way->consumed) {
        return;
    }
    (void)h2_end_write(&pair->end[side], (struct codec_cmd){.kind = CODEC_CMD_CONSUMED,
                                                            .stream = id,
                                                            .len = way->got - way->consumed});
    way->consumed = way->got;
}

static void command(struct pair *pair, const uint8_t *script)
{
    unsigned side = script[0] >> 7;
    uint32_t id = 2U * (script[1] % STREAMS) + 1;
    uint8_t much = script[2];
    if (script[1] % STREAMS >= pair->opened) {
        id = 1;
    }
    switch (script[0] % 12) {
    case 0:
    case 1:
        open_stream(pair, much);
        return;
    case 2:
    case 3:
        carry(pair, side, much);
        return;
    case 11:
        (void)h2_end_write(&pair->end[side],
                           (struct codec_cmd){.kind = CODEC_CMD_PING, .bytes = SLICE("12345678")});
        return;
    default:
        break;
    }
    if (pair->opened == 0) {
        return;
    }
    switch (script[0] % 12) {
    case 4:
        answer(pair, id, much);
        break;
    case 5:
    case 6:
        send_body(pair, side, id, much, false);
        break;
    case 7:
        send_body(pair, side, id, much, true);
        break;
    case 8:
    case 9:
        give_back(pair, side, id);
        break;
    default:
        if (much > 0xf0 && (side == 0 || pair->way[slot_of(id)][1].head_sent)) {
            (void)h2_end_write(
                &pair->end[side],
                (struct codec_cmd){.kind = CODEC_CMD_RESET, .stream = id, .code = H2_CANCEL});
            pair->reset[slot_of(id)] = true;
        }
        break;
    }
}

/* Everything that can still move, moves; then the books must balance. */
static void settle(struct pair *pair)
{
    bool moved = true;
    for (int round = 0; round < 4000 && moved; round++) {
        moved = h2_end_carry(&pair->end[0], &pair->end[1], 0);
        moved |= h2_end_carry(&pair->end[1], &pair->end[0], 0);
        for (unsigned i = 0; i < pair->opened; i++) {
            give_back(pair, 0, 2 * i + 1);
            give_back(pair, 1, 2 * i + 1);
        }
    }
    CHECK(!moved);
    for (unsigned i = 0; i < pair->opened; i++) {
        for (int side = 0; side < 2 && !pair->reset[i]; side++) {
            const struct way *way = &pair->way[i][side];
            CHECK(way->got == way->sent);
            CHECK(way->end_got == way->ended);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    if (len < 4 || len > 3000) {
        return 0;
    }
    struct pair *pair = NEW(struct pair);
    struct h2_options options[2] = {h2_options_default(CODEC_CLIENT),
                                    h2_options_default(CODEC_SERVER)};
    for (int side = 0; side < 2; side++) {
        options[side].huffman = (input[0] & 1) != 0;
        options[side].initial_window = (input[0] & 2) != 0 ? 1000 : H2_WINDOW_DEFAULT;
        options[side].encoder_table_bytes = (input[0] & 4) != 0 ? 200 : HPACK_TABLE_DEFAULT;
        options[side].max_concurrent_streams = (input[0] & 8) != 0 ? 5 : 100;
        h2_end_init(&pair->end[side], &options[side]);
        pair->end[side].owner = pair;
        pair->end[side].on_event = on_event;
        pair->end[side].keep_window = true;
        pair->end[side].quiet = true;
    }
    pair->rules[0].client = true;
    for (size_t at = 1; at + 3 <= len; at += 3) {
        command(pair, input + at);
    }
    settle(pair);
    h2_end_fini(&pair->end[0]);
    h2_end_fini(&pair->end[1]);
    mem_free(pair);
    return 0;
}
