/* The parser's verdict may not depend on how the bytes arrive: what is BAD stays BAD with more
 * bytes behind, what is DONE stays DONE with the same names, and a list of protocols can always be
 * walked to its end. */
#include "base/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void check_same(const struct client_hello *a, const struct client_hello *b)
{
    CHECK(slice_eq(client_hello_sni(a), client_hello_sni(b)));
    CHECK(slice_eq(client_hello_alpn(a), client_hello_alpn(b)));
    CHECK(a->tls13 == b->tls13);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct client_hello whole;
    enum client_hello_step verdict = client_hello_parse(slice_of(input, len), &whole);
    size_t step = len / 64 + 1;
    for (size_t cut = 0; cut < len; cut += step) {
        struct client_hello part;
        enum client_hello_step early = client_hello_parse(slice_of(input, cut), &part);
        CHECK(early == CLIENT_HELLO_MORE || early == verdict);
        if (early == CLIENT_HELLO_DONE) {
            check_same(&part, &whole);
        }
    }
    if (verdict == CLIENT_HELLO_DONE) {
        struct slice list = client_hello_alpn(&whole);
        while (client_hello_next_alpn(&list).len > 0) {
        }
        CHECK(list.len == 0);
    }
    return 0;
}
