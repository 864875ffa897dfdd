#include "http/raw.h"

#include "base/alloc.h"

struct raw {
    struct codec codec;
    bool in_end;
    bool in_end_told;
    bool out_end;
};

static struct raw *raw_of(struct codec *codec)
{
    return CONTAINER_OF(codec, struct raw, codec);
}

static enum codec_step raw_read(struct codec *codec, struct slice *in, struct codec_event *ev)
{
    if (in->len == 0 || raw_of(codec)->in_end) {
        return CODEC_MORE;
    }
    *ev = (struct codec_event){.kind = CODEC_EV_DATA, .stream = 1, .data = *in};
    *in = slice_from(*in, in->len);
    return CODEC_EVENT;
}

static enum codec_step raw_eof(struct codec *codec, struct codec_event *ev)
{
    struct raw *raw = raw_of(codec);
    raw->in_end = true;
    if (raw->in_end_told) {
        return CODEC_MORE;
    }
    raw->in_end_told = true;
    *ev = (struct codec_event){.kind = CODEC_EV_END, .stream = 1};
    return CODEC_EVENT;
}

static enum codec_room raw_write(struct codec *codec, struct buf *out, struct codec_cmd *cmd)
{
    if (cmd == NULL) {
        return CODEC_DONE;
    }
    if (cmd->kind == CODEC_CMD_DATA) {
        CHECK(!raw_of(codec)->out_end);
        buf_move(out, cmd->data, cmd->data->len);
    }
    if (cmd->kind == CODEC_CMD_END || cmd->kind == CODEC_CMD_RESET || cmd->end) {
        raw_of(codec)->out_end = true;
    }
    if (cmd->kind == CODEC_CMD_RESET) {
        raw_of(codec)->in_end = true; /* nobody listens any more: the connection is finished */
    }
    return CODEC_DONE;
}

static uint32_t raw_open(struct codec *codec)
{
    (void)codec;
    return 1;
}

static uint32_t raw_window(const struct codec *codec, uint32_t stream)
{
    (void)codec;
    (void)stream;
    return UINT32_MAX;
}

static bool raw_finished(const struct codec *codec)
{
    const struct raw *raw = CONTAINER_OF_CONST(codec, struct raw, codec);
    return raw->in_end && raw->out_end;
}

static void raw_free(struct codec *codec)
{
    mem_free(raw_of(codec));
}

static const struct codec_ops raw_ops = {
    .name = "raw",
    .multiplexes = false,
    .read = raw_read,
    .eof = raw_eof,
    .write = raw_write,
    .open = raw_open,
    .window = raw_window,
    .finished = raw_finished,
    .free = raw_free,
};

struct codec *codec_raw_new(void)
{
    struct raw *raw = NEW(struct raw);
    raw->codec.ops = &raw_ops;
    return &raw->codec;
}

bool codec_is_raw(const struct codec *codec)
{
    return codec->ops == &raw_ops;
}
