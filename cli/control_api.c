#include "cli/control_api.h"

#include "base/arena.h"
#include "cli/table.h"
#include "http/client.h"

#define QUOTE_BYTES 200 /* of an answer that is not understood */

/* {"error": "..."} is what control says; others may say anything. */
static const char *refusal_text(json_t *json, struct slice body, struct arena *arena)
{
    struct slice text = body;
    if (json != NULL && json_is_object(json) && !json_get_text(json, "error", &text, NULL)) {
        text = body;
    }
    struct slice rest = slice_head(text, QUOTE_BYTES);
    return table_text(arena, slice_cut(&rest, '\n'));
}

static bool understand(const struct control_question *question,
                       const struct http_client_answer *answer, json_t **json, struct error *err)
{
    *json = json_parse(answer->body, NULL, err);
    if (answer->status == 200 && *json != NULL && json_is_object(*json)) {
        return true;
    }
    struct arena arena;
    arena_init(&arena, NULL);
    (void)error_set(err, "%s%s answered %u: %s", question->server, question->path,
                    (unsigned)answer->status, refusal_text(*json, answer->body, &arena));
    arena_fini(&arena);
    json_decref(*json);
    *json = NULL;
    return false;
}

enum control_answer control_ask(const struct control_question *question, json_t **answer,
                                struct error *err)
{
    CHECK(question->server != NULL);
    CHECK(question->path[0] == '/');
    *answer = NULL;
    struct arena arena;
    arena_init(&arena, NULL);
    struct http_client_request request = {
        .server = question->server,
        .path = question->path,
        .body = question->body != NULL ? json_text(&arena, question->body, false)
                                       : (struct slice){NULL, 0},
        .timeout_ms = question->timeout_ms,
    };
    struct http_client_answer got = {.status = 0};
    enum control_answer result = CONTROL_SILENT;
    if (http_client_ask(&request, &got, err)) {
        result = understand(question, &got, answer, err) ? CONTROL_ANSWER : CONTROL_REFUSED;
    }
    http_client_answer_fini(&got);
    arena_fini(&arena);
    return result;
}
