#include "http/grpc_pipe.h"

void grpc_pipe_init(struct grpc_pipe *pipe, struct loop *loop, struct arena *arena,
                    struct task *task, uint32_t message_max)
{
    CHECK(message_max > 0);
    *pipe = (struct grpc_pipe){.broken = GRPC_OK};
    stream_init(&pipe->stream, loop, arena, task);
    grpc_reader_init(&pipe->reader, message_max);
    buf_init(&pipe->out, &loop->bufs);
}

void grpc_pipe_fini(struct grpc_pipe *pipe)
{
    stream_fini(&pipe->stream);
    grpc_reader_fini(&pipe->reader);
    buf_clear(&pipe->out);
}

void grpc_pipe_leave(struct grpc_pipe *pipe)
{
    pipe->held = 0;
    buf_clear(&pipe->out);
    buf_clear(&pipe->stream.in);
    stream_detach(&pipe->stream);
}

/* The bytes of the message before were borrowed until now. */
static void release(struct grpc_pipe *pipe)
{
    if (pipe->held > 0) {
        buf_consume(&pipe->stream.in, pipe->held);
        stream_consumed(&pipe->stream, pipe->held);
        pipe->held = 0;
    }
}

static enum grpc_next broken(struct grpc_pipe *pipe, enum grpc_status status)
{
    pipe->broken = status;
    return GRPC_NEXT_CLOSED;
}

enum grpc_next grpc_pipe_next(struct grpc_pipe *pipe, struct slice *message)
{
    if (pipe->broken != GRPC_OK) {
        return GRPC_NEXT_CLOSED;
    }
    release(pipe);
    for (;;) { /* one round a piece of `in`, or a message */
        struct slice front = buf_front(&pipe->stream.in);
        if (front.len == 0) {
            break;
        }
        size_t before = front.len;
        enum grpc_read read = grpc_reader_next(&pipe->reader, &front, message);
        pipe->held = before - front.len;
        switch (read) {
        case GRPC_READ_MESSAGE:
            return GRPC_NEXT_MESSAGE;
        case GRPC_READ_MORE:
            release(pipe); /* the reader has gathered them */
            continue;
        case GRPC_READ_LARGE:
            return broken(pipe, GRPC_RESOURCE_EXHAUSTED);
        case GRPC_READ_COMPRESSED:
            return broken(pipe, GRPC_UNIMPLEMENTED);
        case GRPC_READ_BAD:
            return broken(pipe, GRPC_INTERNAL);
        }
    }
    if (!pipe->stream.in_end) {
        return GRPC_NEXT_NONE;
    }
    return grpc_reader_idle(&pipe->reader) ? GRPC_NEXT_END : broken(pipe, GRPC_INTERNAL);
}

bool grpc_pipe_queue(struct grpc_pipe *pipe, struct slice message)
{
    CHECK(message.len <= UINT32_MAX);
    if (pipe->out.len >= GRPC_STREAM_BACKLOG) {
        return false;
    }
    uint8_t head[GRPC_FRAME_HEAD];
    grpc_frame_head(head, (uint32_t)message.len);
    buf_append(&pipe->out, slice_of(head, sizeof head));
    buf_append(&pipe->out, message);
    return true;
}

bool grpc_pipe_pump(struct grpc_pipe *pipe, bool end)
{
    if (buf_empty(&pipe->out) && !end) {
        return true;
    }
    return stream_write_data(&pipe->stream, &pipe->out, end) == CODEC_DONE;
}

bool grpc_pipe_is_content_type(struct slice value)
{
    struct slice name = SLICE("application/grpc");
    if (!slice_starts_nocase(value, name)) {
        return false;
    }
    return value.len == name.len || value.at[name.len] == '+' || value.at[name.len] == ';';
}

struct slice grpc_pipe_broken_text(const struct grpc_pipe *pipe)
{
    if (pipe->broken == GRPC_RESOURCE_EXHAUSTED) {
        return SLICE("a message is larger than is taken here");
    }
    if (pipe->broken == GRPC_UNIMPLEMENTED) {
        return SLICE("compressed messages are not taken");
    }
    return SLICE("the stream ends inside a message, or holds what is none");
}
