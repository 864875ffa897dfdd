#pragma once
/* One gRPC call's two directions of messages over a stream: what http/server and http/grpc_client
 * share. Embedded in its call, whose task owns the stream. One thread. */

#include "http/channel.h"
#include "http/grpc.h"
#include "http/server.h" /* enum grpc_next, GRPC_STREAM_BACKLOG */

struct grpc_pipe {
    struct stream stream;
    struct grpc_reader reader;
    struct buf out;          /* framed messages that the connection has not taken */
    size_t held;             /* bytes at the front of stream.in that the last message may borrow */
    enum grpc_status broken; /* why messages cannot be read any further; GRPC_OK: they can */
};

void grpc_pipe_init(struct grpc_pipe *pipe, struct loop *loop, struct arena *arena,
                    struct task *task, uint32_t message_max);
void grpc_pipe_fini(struct grpc_pipe *pipe);

/* The next message; END where the peer's direction ended between messages; CLOSED with `broken`
 * where its bytes are no messages that we take. */
enum grpc_next grpc_pipe_next(struct grpc_pipe *pipe, struct slice *message) MUST_USE;
/* Queues a copy behind its frame head; false: no room. Nothing is written before grpc_pipe_pump. */
bool grpc_pipe_queue(struct grpc_pipe *pipe, struct slice message) MUST_USE;
/* Hands the connection what it takes; with `end` the direction ends behind it. True when nothing is
 * left. */
bool grpc_pipe_pump(struct grpc_pipe *pipe, bool end);
/* Bytes from both directions are dropped and the stream is left; not reset. */
void grpc_pipe_leave(struct grpc_pipe *pipe);

/* "application/grpc", with "+proto" or parameters. */
bool grpc_pipe_is_content_type(struct slice value);
/* What `broken` says to the peer. */
struct slice grpc_pipe_broken_text(const struct grpc_pipe *pipe);
