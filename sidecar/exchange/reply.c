#include "sidecar/exchange/reply.h"

#include <inttypes.h>
#include <stdio.h>

#include "http/grpc.h"
#include "http/h1_write.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/exchange/server.h"
#include "sidecar/route/match.h"

static struct message *new_answer(struct exchange *x, uint16_t status)
{
    struct message *answer = ARENA_NEW(&x->arena, struct message);
    *answer = (struct message){.kind = MESSAGE_RESPONSE,
                               .version = MESSAGE_HTTP_1_1,
                               .status = status,
                               .reason = h1_reason(status),
                               .keep_alive = true};
    x->source = ANSWER_LOCAL;
    x->answer = answer;
    return answer;
}

static void add(struct exchange *x, struct slice name, struct slice value)
{
    bool added = headers_add(&x->answer->headers, &x->arena, name, value);
    CHECK(added);
}

static void set_body(struct exchange *x, struct slice body)
{
    x->answer->content_length = body.len;
    x->answer->has_body = body.len > 0;
    if (body.len > 0) {
        add(x, SLICE("content-type"), SLICE("text/plain"));
    }
    if (!slice_eq(x->request.method, SLICE("HEAD"))) {
        buf_append(&x->local_body, body);
    }
}

/* Trailers-only: the whole answer is one head (gRPC over HTTP/2, Responses). */
static void make_trailers_only(struct exchange *x, unsigned status, struct slice detail)
{
    add(x, SLICE("content-type"), SLICE("application/grpc"));
    add(x, SLICE("grpc-status"), slice_of_text(arena_printf(&x->arena, "%u", status)));
    add(x, SLICE("grpc-message"), grpc_message_encode(&x->arena, detail));
    x->answer->content_length = MESSAGE_LENGTH_UNKNOWN;
}

void reply_direct(struct exchange *x, const struct route_direct *direct)
{
    if (x->grpc) {
        (void)new_answer(x, 200);
        bool ok = direct->status == 200;
        make_trailers_only(x, ok ? GRPC_OK : grpc_status_of_http(direct->status), direct->body);
        return;
    }
    (void)new_answer(x, direct->status);
    set_body(x, direct->body);
}

/* RFC 9110 10.2.2; the parts that the route does not name stay as the request had them. */
void reply_redirect(struct exchange *x, const struct route_redirect *redirect)
{
    (void)new_answer(x, redirect->status);
    struct slice host = redirect->host.len > 0 ? redirect->host : x->request.authority;
    struct slice scheme = redirect->scheme.len > 0 ? redirect->scheme : x->request.scheme;
    struct slice path = redirect->path.len > 0 ? redirect->path : x->request.path;
    struct slice rest = {NULL, 0};
    if (redirect->has_prefix && x->found.route->match.path.len <= x->request.path.len) {
        path = redirect->prefix;
        rest = slice_from(x->request.path, x->found.route->match.path.len);
    }
    if (redirect->strip_query) {
        path = slice_head(path, slice_find(path, '?'));
        rest = slice_head(rest, slice_find(rest, '?'));
    }
    char port[8] = "";
    if (redirect->port != 0) {
        host =
            slice_head(host, host.len > 0 && host.at[0] == '[' ? slice_search(host, SLICE("]:")) + 1
                                                               : slice_find(host, ':'));
        (void)snprintf(port, sizeof port, ":%u", redirect->port);
    }
    char *location = arena_printf(&x->arena, "%.*s://%.*s%s%.*s%.*s", SLICE_ARG(scheme),
                                  SLICE_ARG(host), port, SLICE_ARG(path), SLICE_ARG(rest));
    add(x, SLICE("location"), slice_of_text(location));
    set_body(x, (struct slice){NULL, 0});
}

static void add_proxy_status(struct exchange *x, const char *detail)
{
    const struct fail_facts *facts = fail_facts(x->fail);
    if (facts->proxy_status[0] == '\0') {
        return;
    }
    const char *object = "";
    const struct origin *origin = x->found.route != NULL ? x->found.route->origin : NULL;
    if (origin != NULL) {
        object = arena_printf(&x->arena, " (%.*s, generation %" PRIu64 ")",
                              SLICE_ARG(origin->object), origin->generation);
    }
    add(x, SLICE("proxy-status"),
        slice_of_text(arena_printf(&x->arena, "pillion; error=%s; details=\"%s%s\"",
                                   facts->proxy_status, detail, object)));
}

void reply_failure(struct exchange *x)
{
    const struct fail_facts *facts = fail_facts(x->fail);
    bool grpc = match_is_grpc(&x->request);
    uint16_t status = facts->http;
    const char *detail = facts->meaning;
    if (x->fail == FAIL_REQUEST_BAD && x->bad != CODEC_BAD_NONE) {
        status = codec_bad_status((enum codec_bad)x->bad);
        detail = codec_bad_name((enum codec_bad)x->bad);
    } else if (x->attempt.ticket.state == TICKET_FAILED && x->attempt.ticket.detail != NULL) {
        detail = x->attempt.ticket.detail;
    } else if ((x->fail == FAIL_NO_HOST || x->fail == FAIL_TLS_PEER) && x->tried_detail != NULL) {
        detail =
            arena_printf(&x->arena, "%s; the last one tried: %s", facts->meaning, x->tried_detail);
    } else if (x->fail == FAIL_REFUSED_STREAM && x->attempt.refusal != FAIL_NONE) {
        detail = fail_facts(x->attempt.refusal)->meaning;
    } else if (x->fail == FAIL_TLS && x->attempt.up.refusal != NULL) {
        detail = x->attempt.up.refusal;
    }
    struct message *answer = new_answer(x, grpc ? 200 : status);
    x->reply_detail = slice_of_text(detail);
    add_proxy_status(x, detail);
    if (grpc) {
        make_trailers_only(x, facts->grpc, slice_of_text(detail));
    } else {
        set_body(x, slice_of_text(arena_printf(&x->arena, "%s\n", detail)));
    }
    if (x->fail == FAIL_REQUEST_BAD) {
        answer->keep_alive = false;
    }
}
