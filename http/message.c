#include "http/message.h"

#include "base/check.h"

static struct slice copied(struct arena *arena, struct slice bytes)
{
    return bytes.len > 0 ? arena_dup(arena, bytes) : (struct slice){NULL, 0};
}

void message_copy(struct message *to, struct arena *arena, const struct message *from,
                  unsigned extra)
{
    CHECK(to != from);
    *to = *from;
    to->method = copied(arena, from->method);
    to->scheme = copied(arena, from->scheme);
    to->authority = copied(arena, from->authority);
    to->path = copied(arena, from->path);
    to->protocol = copied(arena, from->protocol);
    to->reason = copied(arena, from->reason);
    headers_copy(&to->headers, arena, &from->headers, extra);
}

bool message_method_idempotent(struct slice method)
{
    static const struct {
        uint8_t text[8];
        uint8_t len;
    } methods[] = {
        {"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"TRACE", 5}, {"PUT", 3}, {"DELETE", 6},
    };
    for (unsigned i = 0; i < COUNT_OF(methods); i++) {
        if (slice_eq(method, slice_of(methods[i].text, methods[i].len))) {
            return true;
        }
    }
    return false;
}
