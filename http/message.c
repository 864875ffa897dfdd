#include "http/message.h"

#include "base/check.h"

void message_copy(struct message *to, struct arena *arena, const struct message *from,
                  unsigned extra)
{
    CHECK(to != from);
    struct block_copy bytes = block_copy_begin(arena, from->block);
    bytes.lower = from->version == MESSAGE_HTTP_2;
    *to = *from;
    to->method = block_copy_slice(&bytes, from->method);
    to->scheme = block_copy_slice(&bytes, from->scheme);
    to->authority = block_copy_slice(&bytes, from->authority);
    to->path = block_copy_slice(&bytes, from->path);
    to->protocol = block_copy_slice(&bytes, from->protocol);
    to->reason = block_copy_slice(&bytes, from->reason);
    to->block = (struct slice){NULL, 0};
    headers_copy_with(&to->headers, &bytes, &from->headers, extra);
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
