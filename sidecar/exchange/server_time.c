#include "sidecar/exchange/server_time.h"

#include "http/h2.h"
#include "sidecar/exchange/server.h"
#include "sidecar/worker.h"

static bool is_mux(const struct server *server)
{
    return server->channel.codec->ops->multiplexes;
}

/* It may take its time to acknowledge ours: a client that does not read before its first request.
 */
static bool is_unsettled(const struct server *server)
{
    return is_mux(server) && !h2_heard_settings(server->channel.codec);
}

/* HTTP/1 without a request: the beginning of a head. HTTP/2: that, or a block without its end,
 * which holds up everything else on the connection. */
static bool awaits_head(struct server *server)
{
    const struct channel *channel = &server->channel;
    uint32_t stream = is_mux(server) ? h2_unfinished_block(channel->codec) : 0;
    bool same = stream == server->time.head_stream;
    server->time.head_stream = stream;
    if (!same) {
        server->time.head_at_us = 0;
    }
    return stream != 0 || (channel->stream_count == 0 && channel->tail_len > 0);
}

static uint64_t idle_us(const struct server *server)
{
    const struct hcm_config *http = server->service->http;
    return http != NULL && http->idle_us != 0 ? http->idle_us
                                              : server->worker->settings->downstream_idle_us;
}

static void set_end(struct server *server)
{
    struct server_time *time = &server->time;
    const struct worker_settings *settings = server->worker->settings;
    uint64_t now_us = server->worker->loop->now_us;
    bool open = server->channel.stream_count > 0;
    if (awaits_head(server) || (!open && is_unsettled(server))) {
        if (time->head_at_us == 0) {
            time->head_at_us = now_us + settings->head_timeout_us;
        }
        time->end_at_us = time->head_at_us;
        return;
    }
    time->head_at_us = 0;
    time->end_at_us = open ? 0 : now_us + idle_us(server);
}

static void set_look(struct server *server)
{
    struct server_time *time = &server->time;
    uint64_t every_us = server->worker->settings->ping_us;
    if (server->channel.stream_count == 0 || every_us == 0) {
        time->look_at_us = 0;
    } else if (time->look_at_us == 0) {
        time->look_at_us = server->worker->loop->now_us + every_us;
        time->bytes_seen = server->channel.bytes_in;
        time->pings = 0;
    }
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

void server_time_arm(struct server *server)
{
    struct server_time *time = &server->time;
    set_end(server);
    if (is_mux(server)) {
        set_look(server);
    }
    uint64_t at_us = sooner(sooner(time->end_at_us, time->old_at_us),
                            sooner(time->last_step_at_us, time->look_at_us));
    if (at_us != 0) {
        timer_set(server->worker->loop, &server->timer, at_us);
    } else {
        timer_pause(&server->timer);
    }
}

/* False: it was asked often enough. */
static bool look(struct server *server)
{
    struct server_time *time = &server->time;
    struct channel *channel = &server->channel;
    bool silent = channel->bytes_in == time->bytes_seen;
    time->bytes_seen = channel->bytes_in;
    time->look_at_us = server->worker->loop->now_us + server->worker->settings->ping_us;
    if (!silent) {
        time->pings = 0;
        return true;
    }
    if (time->pings == SERVER_PINGS_MAX) {
        return false;
    }
    time->pings++;
    struct codec_cmd cmd = {.kind = CODEC_CMD_PING, .bytes = SLICE("pillion?")};
    (void)codec_write(channel->codec, &channel->out, &cmd);
    channel_flush_soon(channel);
    return true;
}

static bool is_due(uint64_t at_us, const struct server *server)
{
    return at_us != 0 && server->worker->loop->now_us >= at_us;
}

enum server_due server_time_take(struct server *server)
{
    struct server_time *time = &server->time;
    if (is_due(time->end_at_us, server)) {
        return is_unsettled(server) ? SERVER_DUE_SETTINGS : SERVER_DUE_END;
    }
    if (is_due(time->look_at_us, server) && !look(server)) {
        return SERVER_DUE_SILENT;
    }
    if (is_due(time->last_step_at_us, server)) {
        time->last_step_at_us = 0;
        return SERVER_DUE_LAST_STEP;
    }
    if (is_due(time->old_at_us, server)) {
        time->old_at_us = 0;
        return SERVER_DUE_OLD;
    }
    return SERVER_DUE_NOTHING;
}
