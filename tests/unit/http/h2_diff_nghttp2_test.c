/* The HTTP/2 codec against nghttp2: the same bytes in, the same events; our bytes read by it, its
 * bytes read by us. Everything is generated from printed seeds. */
#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/h2_end.h"

#include <cmocka.h>

#define TEXT_MAX (1 << 21)

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
    return (uint32_t)(*seed >> 33);
}

static bool one_in(uint64_t *seed, uint32_t n)
{
    return next(seed) % n == 0;
}

/* --- what an end saw, in one notation for both ----------------------------------------------- */

struct seen {
    char *text;
    size_t len;
    uint32_t data_stream;
    uint32_t failed; /* code of the connection's error; 0: none */
};

PRINTF_LIKE(2, 3) static void say(struct seen *seen, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(seen->text + seen->len, TEXT_MAX - seen->len, format, args);
    va_end(args);
    CHECK(len >= 0 && (size_t)len < TEXT_MAX - seen->len);
    seen->len += (size_t)len;
}

static void say_data(struct seen *seen, uint32_t stream, const uint8_t *at, size_t len)
{
    if (seen->data_stream != stream && len > 0) {
        say(seen, "\nDATA %u ", stream);
        seen->data_stream = stream;
    }
    say(seen, "%.*s", (int)len, (const char *)at);
}

static void say_line(struct seen *seen, const char *what, uint32_t stream)
{
    seen->data_stream = 0;
    say(seen, "\n%s %u", what, stream);
}

/* Pseudo fields, fields, and what becomes a member, in a fixed order. */
struct fields {
    char pseudo[6][300];
    char cookies[2000];
    char rest[20000];
    bool trailers;
};

static void add_field(struct fields *fields, struct slice name, struct slice value)
{
    static const char *const pseudos[] = {":method", ":scheme",   ":path",
                                          ":status", ":protocol", ":authority"};
    for (size_t i = 0; i < COUNT_OF(pseudos); i++) {
        if (slice_eq(name, slice_of_text(pseudos[i]))) {
            (void)snprintf(fields->pseudo[i], sizeof fields->pseudo[i], "%.*s", SLICE_ARG(value));
            return;
        }
    }
    if (slice_eq(name, SLICE("host"))) {
        if (fields->pseudo[5][0] == '\0') {
            (void)snprintf(fields->pseudo[5], sizeof fields->pseudo[5], "%.*s", SLICE_ARG(value));
        }
        return;
    }
    if (slice_eq(name, SLICE("content-length")) || slice_eq(name, SLICE("te"))) {
        return;
    }
    char *text = slice_eq(name, SLICE("cookie")) ? fields->cookies : fields->rest;
    size_t room = text == fields->cookies ? sizeof fields->cookies : sizeof fields->rest;
    size_t len = strlen(text);
    if (text == fields->cookies) {
        (void)snprintf(text + len, room - len, "%s%.*s", len > 0 ? "; " : "", SLICE_ARG(value));
    } else {
        (void)snprintf(text + len, room - len, " %.*s=%.*s", SLICE_ARG(name), SLICE_ARG(value));
    }
}

static void say_fields(struct seen *seen, const struct fields *fields)
{
    for (size_t i = 0; i < 6; i++) {
        say(seen, " %s", fields->pseudo[i]);
    }
    say(seen, "%s cookie:%s", fields->rest, fields->cookies);
}

/* --- our end --------------------------------------------------------------------------------- */

static void see_event(struct seen *seen, struct codec *codec, struct buf *out,
                      const struct codec_event *ev)
{
    switch (ev->kind) {
    case CODEC_EV_HEAD:
    case CODEC_EV_INTERIM:
    case CODEC_EV_TRAILERS: {
        struct fields *fields = NEW(struct fields);
        const struct message *message = ev->message;
        say_line(seen, ev->kind == CODEC_EV_TRAILERS ? "TRAILERS" : "HEAD", ev->stream);
        if (ev->kind != CODEC_EV_TRAILERS && message->kind == MESSAGE_REQUEST) {
            add_field(fields, SLICE(":method"), message->method);
            add_field(fields, SLICE(":scheme"), message->scheme);
            add_field(fields, SLICE(":path"), message->path);
            add_field(fields, SLICE(":authority"), message->authority);
        } else if (ev->kind != CODEC_EV_TRAILERS) {
            char status[8];
            (void)snprintf(status, sizeof status, "%u", message->status);
            add_field(fields, SLICE(":status"), slice_of_text(status));
        }
        for (unsigned i = 0; i < message->headers.count; i++) {
            const struct header *field = &message->headers.field[i];
            if (!field->dropped) {
                add_field(fields, field->name, field->value);
            }
        }
        say_fields(seen, fields);
        mem_free(fields);
        break;
    }
    case CODEC_EV_DATA: {
        say_data(seen, ev->stream, ev->data.at, ev->data.len);
        struct codec_cmd cmd = {
            .kind = CODEC_CMD_CONSUMED, .stream = ev->stream, .len = ev->data.len};
        (void)codec_write(codec, out, &cmd);
        break;
    }
    case CODEC_EV_END:
        say_line(seen, "END", ev->stream);
        break;
    case CODEC_EV_REFUSED: {
        say_line(seen, "RST", ev->stream);
        struct codec_cmd cmd = {.kind = CODEC_CMD_RESET, .stream = ev->stream, .code = 1};
        (void)codec_write(codec, out, &cmd);
        break;
    }
    case CODEC_EV_RESET:
        say_line(seen, "RST", ev->stream);
        break;
    case CODEC_EV_GOAWAY:
        say_line(seen, "GOAWAY", ev->stream);
        break;
    case CODEC_EV_WINDOW:
    case CODEC_EV_SETTINGS:
    case CODEC_EV_PONG:
    case CODEC_EV_PEER:
        break;
    }
}

static void ours_reads(struct seen *seen, struct codec *codec, struct buf *out, struct slice *in)
{
    struct codec_event ev;
    enum codec_step step;
    while ((step = codec_read(codec, in, &ev)) == CODEC_EVENT) {
        see_event(seen, codec, out, &ev);
    }
    if (step == CODEC_BAD) {
        seen->failed = codec_bad_code(codec->bad);
    }
}

/* --- nghttp2's end --------------------------------------------------------------------------- */

struct theirs {
    struct seen seen;
    struct fields *fields;
};

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct theirs *theirs = user;
    (void)session;
    (void)frame;
    memset(theirs->fields, 0, sizeof *theirs->fields);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct theirs *theirs = user;
    (void)session;
    (void)frame;
    (void)flags;
    add_field(theirs->fields, slice_of(name, name_len), slice_of(value, value_len));
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct theirs *theirs = user;
    uint32_t id = (uint32_t)frame->hd.stream_id;
    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
        bool pseudo = theirs->fields->pseudo[0][0] != '\0' || theirs->fields->pseudo[3][0] != '\0';
        say_line(&theirs->seen, pseudo ? "HEAD" : "TRAILERS", id);
        say_fields(&theirs->seen, theirs->fields);
        break;
    }
    case NGHTTP2_RST_STREAM:
        say_line(&theirs->seen, "RST", id);
        break;
    case NGHTTP2_GOAWAY:
        say_line(&theirs->seen, "GOAWAY", (uint32_t)frame->goaway.last_stream_id);
        break;
    default:
        break;
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        say_line(&theirs->seen, "END", id);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *at,
                         size_t len, void *user)
{
    struct theirs *theirs = user;
    (void)session;
    (void)flags;
    say_data(&theirs->seen, (uint32_t)id, at, len);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct theirs *theirs = user;
    (void)session;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        say_line(&theirs->seen, "RST", (uint32_t)frame->hd.stream_id);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        theirs->seen.failed = frame->goaway.error_code;
    }
    return 0;
}

static nghttp2_session *theirs_new(struct theirs *theirs, bool server)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    *theirs = (struct theirs){.seen.text = NEW_ARRAY(char, TEXT_MAX), .fields = NEW(struct fields)};
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    int result = server ? nghttp2_session_server_new(&session, callbacks, theirs)
                        : nghttp2_session_client_new(&session, callbacks, theirs);
    assert_int_equal(result, 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 100}};
    assert_int_equal(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 1), 0);
    return session;
}

static void theirs_free(struct theirs *theirs, nghttp2_session *session)
{
    nghttp2_session_del(session);
    mem_free(theirs->seen.text);
    mem_free(theirs->fields);
}

static void theirs_drain(nghttp2_session *session)
{
    const uint8_t *bytes;
    while (nghttp2_session_mem_send(session, &bytes) > 0) {
    }
}

/* --- a generated client ---------------------------------------------------------------------- */

struct wire {
    uint8_t bytes[300000];
    size_t len;
    size_t piece[2000]; /* where frames end */
    size_t pieces;
    nghttp2_hd_deflater *deflater;
    uint64_t seed;
};

static void put_frame(struct wire *wire, int type, int flags, uint32_t stream, const void *payload,
                      size_t len)
{
    CHECK(wire->len + len + 9 <= sizeof wire->bytes);
    CHECK(wire->pieces < COUNT_OF(wire->piece));
    uint8_t *at = h2_frame_write(wire->bytes + wire->len, (uint32_t)len, (enum h2_frame_type)type,
                                 (uint8_t)flags, stream);
    if (len > 0) {
        memcpy(at, payload, len);
    }
    wire->len += len + 9;
    wire->piece[wire->pieces++] = wire->len;
}

static void put_word(struct wire *wire, int type, uint32_t stream, uint32_t value)
{
    uint8_t bytes[4];
    (void)h2_put_u32(bytes, value);
    put_frame(wire, type, 0, stream, bytes, 4);
}

static nghttp2_nv pair_of(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

/* A block in one frame or several, with padding or priority perhaps. */
static void put_block(struct wire *wire, uint32_t stream, bool end, const nghttp2_nv *nv,
                      size_t count)
{
    uint8_t block[20000];
    ssize_t made = nghttp2_hd_deflate_hd(wire->deflater, block, sizeof block, nv, count);
    assert_true(made >= 0);
    size_t len = (size_t)made;
    size_t first = one_in(&wire->seed, 4) && len > 0 ? next(&wire->seed) % len : len;
    uint8_t payload[20300];
    size_t at = 0;
    int flags = end ? H2_FLAG_END_STREAM : 0;
    size_t padding = 0;
    if (one_in(&wire->seed, 4)) {
        flags |= H2_FLAG_PADDED;
        padding = next(&wire->seed) % 256;
        payload[at++] = (uint8_t)padding;
    }
    if (one_in(&wire->seed, 6)) {
        flags |= H2_FLAG_PRIORITY;
        memcpy(payload + at, "\0\0\0\0\x10", 5);
        at += 5;
    }
    memcpy(payload + at, block, first);
    at += first;
    memset(payload + at, 0, padding);
    at += padding;
    put_frame(wire, H2_FRAME_HEADERS, flags | (first == len ? H2_FLAG_END_HEADERS : 0), stream,
              payload, at);
    if (first == len) {
        return;
    }
    size_t second = first + next(&wire->seed) % (len - first);
    put_frame(wire, H2_FRAME_CONTINUATION, 0, stream, block + first, second - first);
    put_frame(wire, H2_FRAME_CONTINUATION, H2_FLAG_END_HEADERS, stream, block + second,
              len - second);
}

/* Of the fields that the proxy knows, we drop from trailers what may only stand in a head; the
 * first names are no such fields. */
static size_t some_fields(struct wire *wire, nghttp2_nv *nv, char (*values)[64], size_t room,
                          bool trailers)
{
    static const char *const names[] = {"x-a",          "grpc-status", "x-nobody-knows", "accept",
                                        "x-request-id", "user-agent",  "cookie",         "via"};
    size_t count = next(&wire->seed) % room;
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(values[i], 64, "v%u", next(&wire->seed) % 30);
        nv[i] = pair_of(names[next(&wire->seed) % (trailers ? 4 : COUNT_OF(names))], values[i]);
    }
    return count;
}

static void put_body(struct wire *wire, uint32_t stream, size_t len, bool end)
{
    static const uint8_t text[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    while (len > 0) {
        size_t part = 1 + next(&wire->seed) % 36;
        part = part < len ? part : len;
        len -= part;
        bool last = end && len == 0;
        if (one_in(&wire->seed, 4)) {
            uint8_t payload[300];
            size_t padding = next(&wire->seed) % 200;
            payload[0] = (uint8_t)padding;
            memcpy(payload + 1, text, part);
            memset(payload + 1 + part, 0, padding);
            put_frame(wire, H2_FRAME_DATA, H2_FLAG_PADDED | (last ? H2_FLAG_END_STREAM : 0), stream,
                      payload, 1 + part + padding);
        } else {
            put_frame(wire, H2_FRAME_DATA, last ? H2_FLAG_END_STREAM : 0, stream, text, part);
        }
    }
}

/* Stream errors by `fault`, 0 to 7: none; the rest break one rule. */
static void put_request(struct wire *wire, uint32_t stream, unsigned fault)
{
    static const char *const paths[] = {"/", "/a", "/orders/1?x=y"};
    nghttp2_nv nv[40];
    char values[20][64];
    char length[24];
    size_t count = 0;
    size_t body = one_in(&wire->seed, 2) ? next(&wire->seed) % 200 : 0;
    bool trailers = one_in(&wire->seed, 4);
    bool told = body > 0 && one_in(&wire->seed, 2);
    (void)snprintf(length, sizeof length, "%zu", body + (fault == 1 ? 1 : 0));
    nv[count++] = pair_of(":method", body > 0 ? "POST" : "GET");
    if (fault != 2) {
        nv[count++] = pair_of(":scheme", one_in(&wire->seed, 2) ? "http" : "https");
    }
    nv[count++] = pair_of(":path", fault == 3 ? "" : paths[next(&wire->seed) % COUNT_OF(paths)]);
    nv[count++] = pair_of(":authority", "host.example:80");
    if (fault == 4) {
        nv[count++] = pair_of("connection", "close");
    } else if (fault == 5) {
        nv[count++] = pair_of("te", "gzip");
    } else if (fault == 6) {
        nv[count++] = pair_of(":method", "GET");
    } else if (fault == 7) {
        nv[count++] = pair_of(":status", "200");
    }
    if (told || fault == 1) {
        nv[count++] = pair_of("content-length", length);
    }
    count += some_fields(wire, nv + count, values, 20, false);
    put_block(wire, stream, body == 0 && !trailers, nv, count);
    /* A body that is too short is seen at its last frame by us, behind it by nghttp2. */
    bool apart = fault == 1 && body > 0 && !trailers;
    put_body(wire, stream, body, !trailers && !apart);
    if (apart) {
        put_frame(wire, H2_FRAME_DATA, H2_FLAG_END_STREAM, stream, NULL, 0);
    }
    if (trailers) {
        count = some_fields(wire, nv, values, 5, true);
        nv[count++] = pair_of("x-trailer", "t");
        put_block(wire, stream, true, nv, count);
    }
}

static void put_noise(struct wire *wire)
{
    uint8_t setting[6];
    switch (next(&wire->seed) % 5) {
    case 0:
        put_frame(wire, H2_FRAME_PING, 0, 0, "12345678", 8);
        break;
    case 1:
        (void)h2_put_u32(h2_put_u16(setting, 4), 1000 + next(&wire->seed) % 100000);
        put_frame(wire, H2_FRAME_SETTINGS, 0, 0, setting, 6);
        break;
    case 2:
        put_frame(wire, H2_FRAME_PRIORITY, 0, 1 + 2 * (next(&wire->seed) % 100), "\0\0\0\0\5", 5);
        break;
    case 3:
        put_word(wire, H2_FRAME_WINDOW_UPDATE, 0, 1 + next(&wire->seed) % 1000);
        break;
    default:
        put_frame(wire, 0x55, 0xff, next(&wire->seed) % 9, "unknown", 7);
        break;
    }
}

/* Ends the connection, by a rule that leaves no choice. */
static void put_fatal(struct wire *wire, uint32_t idle)
{
    uint8_t setting[6];
    switch (next(&wire->seed) % 12) {
    case 0:
        put_frame(wire, H2_FRAME_DATA, 0, idle, "x", 1);
        break;
    case 1:
        put_frame(wire, H2_FRAME_PING, 0, 0, "1234567", 7);
        break;
    case 2:
        put_frame(wire, H2_FRAME_PING, 0, 3, "12345678", 8);
        break;
    case 3:
        put_frame(wire, H2_FRAME_SETTINGS, 0, 0, "12345", 5);
        break;
    case 4:
        (void)h2_put_u32(h2_put_u16(setting, 4), 0x80000000U);
        put_frame(wire, H2_FRAME_SETTINGS, 0, 0, setting, 6);
        break;
    case 5:
        put_word(wire, H2_FRAME_WINDOW_UPDATE, 0, 0x7fffffff);
        break;
    case 6:
        put_word(wire, H2_FRAME_WINDOW_UPDATE, 0, 0);
        break;
    case 7:
        put_frame(wire, H2_FRAME_CONTINUATION, 4, 1, "\x82", 1);
        break;
    case 8:
        put_frame(wire, H2_FRAME_HEADERS, 5, idle, "\xff\xff\xff\xff\xff\xff", 6);
        break;
    case 9:
        put_word(wire, H2_FRAME_RST_STREAM, idle, 8);
        break;
    case 10:
        (void)h2_put_u32(h2_put_u16(setting, 2), 2);
        put_frame(wire, H2_FRAME_SETTINGS, 0, 0, setting, 6);
        break;
    default:
        put_frame(wire, H2_FRAME_HEADERS, 0, idle, "\x82", 1);
        put_frame(wire, H2_FRAME_PING, 0, 0, "12345678", 8);
        break;
    }
}

static void generate(struct wire *wire, uint64_t seed)
{
    wire->seed = seed;
    wire->pieces = 0;
    memcpy(wire->bytes, H2_PREFACE, H2_PREFACE_BYTES);
    wire->len = H2_PREFACE_BYTES;
    assert_int_equal(nghttp2_hd_deflate_new(&wire->deflater, 4096), 0);
    put_frame(wire, H2_FRAME_SETTINGS, 0, 0, NULL, 0);
    uint32_t stream = 1;
    unsigned steps = 1 + next(&wire->seed) % 12;
    for (unsigned i = 0; i < steps; i++) {
        unsigned what = next(&wire->seed) % 8;
        if (what < 2) {
            put_noise(wire);
            continue;
        }
        put_request(wire, stream, what == 2 ? 1 + next(&wire->seed) % 7 : 0);
        if (what == 3) {
            put_word(wire, H2_FRAME_RST_STREAM, stream, 8);
        }
        stream += 2 + 2 * (next(&wire->seed) % 3);
    }
    if (one_in(&wire->seed, 3)) {
        put_fatal(wire, stream);
    } else if (one_in(&wire->seed, 3)) {
        put_frame(wire, H2_FRAME_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0debug", 13);
    }
    nghttp2_hd_deflate_del(wire->deflater);
}

static void same_bytes_in_same_events(void **state)
{
    (void)state;
    struct wire *wire = NEW(struct wire);
    unsigned failed = 0;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        generate(wire, seed);
        struct theirs theirs;
        nghttp2_session *session = theirs_new(&theirs, true);
        struct h2_options options = h2_options_default(CODEC_SERVER);
        struct h2_end ours;
        h2_end_init(&ours, &options);
        struct seen seen = {.text = NEW_ARRAY(char, TEXT_MAX)};
        size_t from = 0;
        for (size_t i = 0; i < wire->pieces; i++) { /* frame by frame, so that resets keep pace */
            size_t len = wire->piece[i] - from;
            uint8_t *exact = mem_raw(len);
            memcpy(exact, wire->bytes + from, len);
            if (theirs.seen.failed == 0) {
                ssize_t used = nghttp2_session_mem_recv(session, exact, len);
                theirs_drain(session);
                assert_true(used == (ssize_t)len || theirs.seen.failed != 0 || used < 0);
            }
            struct slice in = slice_of(exact, len);
            ours_reads(&seen, ours.codec, &ours.out, &in);
            (void)codec_write(ours.codec, &ours.out, NULL);
            buf_clear(&ours.out);
            mem_free(exact);
            from = wire->piece[i];
        }
        if (strcmp(seen.text, theirs.seen.text) != 0 || seen.failed != theirs.seen.failed) {
            size_t same = 0;
            while (seen.text[same] != '\0' && seen.text[same] == theirs.seen.text[same]) {
                same++;
            }
            same = same > 100 ? same - 100 : 0;
            print_message("seed %u\nours (%u):...%.300s\n", (unsigned)seed, seen.failed,
                          seen.text + same);
            print_message("nghttp2 (%u):...%.300s\n", theirs.seen.failed, theirs.seen.text + same);
            fail();
        }
        failed += seen.failed != 0;
        mem_free(seen.text);
        h2_end_fini(&ours);
        theirs_free(&theirs, session);
    }
    assert_true(failed > 300);
    mem_free(wire);
}

/* Every cut of the same bytes gives the same events. */
static void every_split_gives_the_same_events(void **state)
{
    (void)state;
    struct wire *wire = NEW(struct wire);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        generate(wire, seed);
        size_t stride = 1 + wire->len / 300;
        char *whole = NULL;
        for (size_t cut = 0; cut < wire->len + 2 * stride; cut += stride) {
            struct h2_options options = h2_options_default(CODEC_SERVER);
            struct h2_end ours;
            h2_end_init(&ours, &options);
            struct slice bytes = slice_of(wire->bytes, wire->len);
            if (cut < wire->len) {
                h2_end_feed(&ours, slice_head(bytes, cut), 0);
                h2_end_feed(&ours, slice_from(bytes, cut), 0);
            } else {
                h2_end_feed(&ours, bytes, 1); /* byte by byte */
            }
            if (whole == NULL) {
                whole = mem_dup_text(ours.text);
            }
            assert_string_equal(ours.text, whole);
            h2_end_fini(&ours);
        }
        mem_free(whole);
    }
    mem_free(wire);
}

/* --- whole exchanges ------------------------------------------------------------------------- */

#define EXCHANGES 12

static uint8_t body_byte(uint32_t stream, size_t at)
{
    return (uint8_t)('a' + (stream * 7 + at) % 26);
}

struct source {
    uint32_t stream;
    size_t at;
    size_t len;
    bool trailers;
};

static ssize_t read_source(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room,
                           uint32_t *flags, nghttp2_data_source *from, void *user)
{
    struct source *source = from->ptr;
    (void)user;
    size_t len = source->len - source->at < room ? source->len - source->at : room;
    for (size_t i = 0; i < len; i++) {
        to[i] = body_byte(source->stream, source->at + i);
    }
    source->at += len;
    if (source->at == source->len) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (source->trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_nv nv[] = {pair_of("grpc-status", "0")};
            assert_int_equal(nghttp2_submit_trailer(session, stream, nv, 1), 0);
        }
    }
    return (ssize_t)len;
}

/* Bytes of our end to theirs and back, until both are quiet. */
static void exchange_bytes(struct h2_end *ours, nghttp2_session *session)
{
    for (int i = 0; i < 10000; i++) {
        size_t len;
        uint8_t *bytes = h2_end_take(ours, &len);
        if (len > 0) {
            assert_int_equal(nghttp2_session_mem_recv(session, bytes, len), len);
        }
        mem_free(bytes);
        const uint8_t *theirs;
        ssize_t got = nghttp2_session_mem_send(session, &theirs);
        assert_true(got >= 0);
        if (got > 0) {
            h2_end_feed(ours, slice_of(theirs, (size_t)got), 0);
        } else if (len == 0) {
            return;
        }
    }
    fail_msg("the ends never stop talking");
}

static void expect_body(const char *text, uint32_t stream, size_t len)
{
    char mark[32];
    (void)snprintf(mark, sizeof mark, "DATA %u ", stream);
    size_t got = 0;
    for (const char *at = strstr(text, mark); at != NULL; at = strstr(at, mark)) {
        at += strlen(mark);
        for (; *at != '\n' && *at != '\0'; at++, got++) {
            assert_int_equal((uint8_t)*at, body_byte(stream, got));
        }
    }
    assert_int_equal(got, len);
}

static void fill(struct buf *body, uint32_t stream, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = body_byte(stream, i);
        buf_append(body, slice_of(&byte, 1));
    }
}

static void our_client_with_their_server(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 30; round++) {
        uint64_t seed = round * 77;
        struct theirs theirs;
        nghttp2_session *session = theirs_new(&theirs, true);
        struct h2_options options = h2_options_default(CODEC_CLIENT);
        options.huffman = round % 2 == 0;
        struct h2_end ours;
        h2_end_init(&ours, &options);
        struct source sources[EXCHANGES];
        struct buf bodies[EXCHANGES];
        size_t lens[EXCHANGES];
        for (unsigned i = 0; i < EXCHANGES; i++) {
            struct header field = {.name = SLICE("X-Round"), .value = SLICE("value")};
            struct message message = {.kind = MESSAGE_REQUEST,
                                      .method = SLICE("POST"),
                                      .scheme = SLICE("https"),
                                      .authority = SLICE("a.example"),
                                      .path = SLICE("/p"),
                                      .headers = {&field, 1, 1, 0},
                                      .content_length = MESSAGE_LENGTH_UNKNOWN};
            uint32_t id = codec_open(ours.codec);
            assert_int_equal(id, 2 * i + 1);
            lens[i] = one_in(&seed, 3) ? next(&seed) % 100000 : next(&seed) % 300;
            buf_init(&bodies[i], &ours.bufs);
            fill(&bodies[i], id, lens[i]);
            (void)h2_end_write(
                &ours,
                (struct codec_cmd){.kind = CODEC_CMD_HEAD, .stream = id, .message = &message});
            sources[i] = (struct source){id, 0, next(&seed) % 3000, one_in(&seed, 2)};
        }
        bool waiting = true;
        for (int turn = 0; turn < 1000 && waiting; turn++) {
            waiting = false;
            for (unsigned i = 0; i < EXCHANGES; i++) {
                struct codec_cmd cmd = {.kind = CODEC_CMD_DATA,
                                        .stream = sources[i].stream,
                                        .data = &bodies[i],
                                        .end = true};
                if (lens[i] != SIZE_MAX && h2_end_write(&ours, cmd) == CODEC_DONE) {
                    lens[i] = SIZE_MAX;
                }
                waiting |= lens[i] != SIZE_MAX;
            }
            exchange_bytes(&ours, session);
        }
        assert_false(waiting);
        for (unsigned i = 0; i < EXCHANGES; i++) {
            nghttp2_data_provider provider = {.source.ptr = &sources[i],
                                              .read_callback = read_source};
            nghttp2_nv nv[] = {pair_of(":status", "200"), pair_of("server", "nghttp2")};
            assert_int_equal(
                nghttp2_submit_response(session, (int32_t)sources[i].stream, nv, 2, &provider), 0);
        }
        exchange_bytes(&ours, session);
        h2_end_say(&ours, "\n");
        for (unsigned i = 0; i < EXCHANGES; i++) {
            char want[64];
            (void)snprintf(want, sizeof want, "HEAD %u 200 server=nghttp2\n", sources[i].stream);
            assert_non_null(strstr(ours.text, want));
            (void)snprintf(want, sizeof want, "END %u\n", sources[i].stream);
            assert_non_null(strstr(ours.text, want));
            expect_body(ours.text, sources[i].stream, sources[i].len);
            (void)snprintf(want, sizeof want, "TRAILERS %u grpc-status=0 end\n", sources[i].stream);
            assert_int_equal(strstr(ours.text, want) != NULL, sources[i].trailers);
            (void)snprintf(want, sizeof want, "\nEND %u\n", sources[i].stream);
        }
        say(&theirs.seen, "\n");
        for (unsigned i = 0; i < EXCHANGES; i++) {
            char want[128];
            (void)snprintf(want, sizeof want, "\nEND %u\n", sources[i].stream);
            assert_non_null(strstr(theirs.seen.text, want));
            (void)snprintf(want, sizeof want,
                           "\nHEAD %u POST https /p   a.example x-round=value cookie:\n",
                           sources[i].stream);
            assert_non_null(strstr(theirs.seen.text, want));
        }
        assert_int_equal(h2_streams(ours.codec), 0);
        assert_int_equal(theirs.seen.failed, 0);
        h2_end_fini(&ours);
        theirs_free(&theirs, session);
    }
}

static void their_client_with_our_server(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 30; round++) {
        uint64_t seed = round * 99;
        struct theirs theirs;
        nghttp2_session *session = theirs_new(&theirs, false);
        struct h2_options options = h2_options_default(CODEC_SERVER);
        options.huffman = round % 2 == 0;
        struct h2_end ours;
        h2_end_init(&ours, &options);
        struct source sources[EXCHANGES];
        for (unsigned i = 0; i < EXCHANGES; i++) {
            sources[i] = (struct source){2 * i + 1, 0, next(&seed) % 9000, one_in(&seed, 2)};
            nghttp2_data_provider provider = {.source.ptr = &sources[i],
                                              .read_callback = read_source};
            nghttp2_nv nv[] = {pair_of(":method", "PUT"), pair_of(":scheme", "http"),
                               pair_of(":path", "/p"),    pair_of(":authority", "a"),
                               pair_of("cookie", "a=1"),  pair_of("cookie", "b=2")};
            assert_int_equal(
                nghttp2_submit_request(session, NULL, nv, COUNT_OF(nv), &provider, NULL),
                (int32_t)sources[i].stream);
        }
        exchange_bytes(&ours, session);
        struct buf bodies[EXCHANGES];
        size_t lens[EXCHANGES];
        bool done[EXCHANGES] = {false};
        for (unsigned i = 0; i < EXCHANGES; i++) {
            uint32_t id = sources[i].stream;
            struct message message = {.kind = MESSAGE_RESPONSE, .status = 203};
            lens[i] = one_in(&seed, 3) ? next(&seed) % 90000 : next(&seed) % 300;
            message.content_length = one_in(&seed, 2) ? lens[i] : MESSAGE_LENGTH_UNKNOWN;
            (void)h2_end_write(
                &ours,
                (struct codec_cmd){.kind = CODEC_CMD_HEAD, .stream = id, .message = &message});
            buf_init(&bodies[i], &ours.bufs);
            fill(&bodies[i], id, lens[i]);
        }
        bool waiting = true;
        for (int turn = 0; turn < 1000 && waiting; turn++) {
            waiting = false;
            for (unsigned i = 0; i < EXCHANGES; i++) {
                struct codec_cmd cmd = {.kind = CODEC_CMD_DATA,
                                        .stream = sources[i].stream,
                                        .data = &bodies[i],
                                        .end = true};
                done[i] = done[i] || h2_end_write(&ours, cmd) == CODEC_DONE;
                waiting |= !done[i];
            }
            exchange_bytes(&ours, session);
        }
        assert_false(waiting);
        h2_end_say(&ours, "\n");
        say(&theirs.seen, "\n");
        for (unsigned i = 0; i < EXCHANGES; i++) {
            char want[128];
            (void)snprintf(want, sizeof want, "HEAD %u PUT http a /p cookie=a=1; b=2\n",
                           sources[i].stream);
            assert_non_null(strstr(ours.text, want));
            (void)snprintf(want, sizeof want, "\nEND %u\n", sources[i].stream);
            assert_non_null(strstr(ours.text, want));
            assert_non_null(strstr(theirs.seen.text, want));
            expect_body(ours.text, sources[i].stream, sources[i].len);
            expect_body(theirs.seen.text, sources[i].stream, lens[i]);
        }
        assert_int_equal(h2_streams(ours.codec), 0);
        assert_int_equal(theirs.seen.failed, 0);
        h2_end_fini(&ours);
        theirs_free(&theirs, session);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes_in_same_events),
        cmocka_unit_test(every_split_gives_the_same_events),
        cmocka_unit_test(our_client_with_their_server),
        cmocka_unit_test(their_client_with_our_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
