#include "sidecar/upstream/peer_link.h"

#include "sidecar/alpn.h"
#include "sidecar/worker.h"

#define H2_INTERNAL_ERROR 2U /* RFC 9113 7 */
#define H2_REFUSED_STREAM 7U
#define SECOND_US         UINT64_C(1000000)

static void write_note(struct channel *channel, uint32_t stream, const struct peer_note *note)
{
    struct arena arena;
    arena_init(&arena, &channel->loop->arenas);
    struct codec_cmd cmd = {
        .kind = CODEC_CMD_PEER, .stream = stream, .bytes = peer_note_write(&arena, note)};
    (void)codec_write(channel->codec, &channel->out, &cmd);
    arena_fini(&arena);
    channel_flush_soon(channel);
}

void peer_link_tell(const struct peer_link *link, struct worker *worker, struct channel *channel)
{
    if (!link->mesh || channel->gone) {
        return;
    }
    struct peer_note note = worker->self;
    note.draining = worker->draining;
    note.overloaded = worker->overloaded;
    write_note(channel, 0, &note);
}

void peer_link_open(struct peer_link *link, struct worker *worker, struct channel *channel)
{
    *link = (struct peer_link){.mesh = alpn_is_pillion(conn_alpn(channel->conn))};
    peer_link_tell(link, worker, channel);
}

static void end_with_note(struct stream *stream, enum fail fail, uint32_t code)
{
    if (stream->channel != NULL) {
        struct peer_note note = {.fail = slice_of_text(fail_name(fail))};
        write_note(stream->channel, stream->id, &note);
        stream_reset(stream, code);
    }
}

void peer_link_refuse(const struct peer_link *link, struct stream *stream, enum fail fail)
{
    CHECK(link->mesh);
    CHECK(fail_unseen(fail));
    end_with_note(stream, fail, H2_REFUSED_STREAM);
}

void peer_link_cut(const struct peer_link *link, struct stream *stream, enum fail fail)
{
    CHECK(link->mesh);
    CHECK(fail_cause(fail) == FAIL_CAUSE_RESET);
    end_with_note(stream, fail, H2_INTERNAL_ERROR);
}

bool peer_link_read(struct peer_link *link, const struct worker *worker,
                    const struct codec_event *ev, struct arena *arena, struct peer_note *note)
{
    CHECK(ev->kind == CODEC_EV_PEER);
    uint64_t now_us = worker->loop->now_us;
    if (now_us - link->since_us >= SECOND_US) {
        link->since_us = now_us;
        link->taken = 0;
    }
    struct error err = {.text = ""};
    return link->mesh && ev->stream == 0 && link->taken++ < PEER_LINK_NOTES_PER_SECOND &&
           peer_note_read(arena, ev->data, note, &err);
}

enum fail peer_link_refusal(const struct stream *stream)
{
    struct peer_note note;
    struct error err = {.text = ""};
    enum fail fail;
    bool said = stream->note.len > 0 && peer_note_read(stream->arena, stream->note, &note, &err) &&
                fail_from_name(note.fail, &fail);
    return said ? fail : FAIL_NONE;
}
