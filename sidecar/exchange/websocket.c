#include "sidecar/exchange/websocket.h"

#include <string.h>

#include "base/base64.h"
#include "base/crypto.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/worker.h"

#define KEY_BYTES 16
#define KEY_TEXT  24 /* in base64 */
/* RFC 6455 1.3 */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#define KEY_NAME    SLICE("sec-websocket-key")
#define ACCEPT_NAME SLICE("sec-websocket-accept")

static bool is_websocket(const struct exchange *x)
{
    return slice_eq_nocase(x->request.protocol, SLICE("websocket"));
}

static struct slice base64(struct exchange *x, struct slice bytes)
{
    char *text = (char *)arena_bytes(&x->arena, BASE64_TEXT_MAX(bytes.len));
    return slice_of(text, base64_encode(BASE64_STANDARD, bytes, text));
}

void websocket_key_for_server(struct exchange *x)
{
    struct headers *headers = &x->request.headers;
    if (!is_websocket(x) || headers_find_name(headers, KEY_NAME) != NULL) {
        return;
    }
    uint8_t key[KEY_BYTES]; /* against caches, not secret (RFC 6455 10.3) */
    for (unsigned i = 0; i < KEY_BYTES; i += sizeof(uint64_t)) {
        uint64_t word = rng_u64(&x->worker->rng);
        memcpy(key + i, &word, sizeof word);
    }
    x->websocket_key_made =
        headers_add(headers, &x->arena, KEY_NAME, base64(x, slice_of(key, KEY_BYTES)));
}

void websocket_answer_for_client(struct exchange *x)
{
    if (!is_websocket(x) || !x->tunnel) {
        return;
    }
    struct headers *headers = &x->answer->headers;
    if (x->websocket_key_made) {
        headers_drop_name(headers, ACCEPT_NAME); /* of our key, which the client does not know */
        return;
    }
    const struct header *key = headers_find_name(&x->request.headers, KEY_NAME);
    bool http1 = x->down.channel != NULL && !x->down.channel->codec->ops->multiplexes;
    if (!http1 || key == NULL || key->value.len != KEY_TEXT ||
        headers_find_name(headers, ACCEPT_NAME) != NULL) {
        return;
    }
    uint8_t text[KEY_TEXT + sizeof GUID - 1];
    uint8_t hash[CRYPTO_SHA1_BYTES];
    memcpy(text, key->value.at, KEY_TEXT);
    memcpy(text + KEY_TEXT, GUID, sizeof GUID - 1);
    crypto_sha1(slice_of(text, sizeof text), hash);
    /* Where the list is full the client refuses the handshake, as it would without us. */
    (void)!headers_add(headers, &x->arena, ACCEPT_NAME, base64(x, slice_of(hash, sizeof hash)));
}
