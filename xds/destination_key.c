#include "xds/destination_key.h"

const char *destination_key_of_addr(struct arena *arena, struct slice network,
                                    const struct addr *addr)
{
    CHECK(addr->family != ADDR_NONE);
    CHECK(network.len <= DESTINATION_NETWORK_MAX);
    char text[ADDR_TEXT_MAX];
    return arena_printf(arena, "ip/%.*s/%s", SLICE_ARG(network), addr_format(addr, text));
}

/* What may stand in a host or a network: names, IPv4, and IPv6 in brackets (RFC 3986 3.2.2 without
 * percent-encoding). No slash, no space, nothing that a log line would have to escape. */
static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static bool is_name(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_name_byte(text.at[i])) {
            return false;
        }
    }
    return true;
}

static bool is_bracketed_ip(struct slice host)
{
    struct addr addr;
    if (host.len < 4 || host.at[0] != '[' || host.at[host.len - 1] != ']') {
        return false;
    }
    return addr_parse_ip(slice_head(slice_from(host, 1), host.len - 2), &addr);
}

/* In lower case already. */
static bool is_host(struct slice host)
{
    return host.len > 0 && host.len <= DESTINATION_HOST_MAX && host.at[host.len - 1] != '.' &&
           (is_name(host) || is_bracketed_ip(host));
}

const char *destination_key_of_host(struct arena *arena, struct slice host, uint16_t port,
                                    struct error *err)
{
    if (host.len > 1 && host.at[host.len - 1] == '.') {
        host.len--;
    }
    uint8_t lower[DESTINATION_HOST_MAX];
    if (host.len <= sizeof lower) {
        for (size_t i = 0; i < host.len; i++) {
            lower[i] = slice_lower(host.at[i]);
        }
        struct slice folded = slice_of(lower, host.len);
        if (is_host(folded)) {
            return arena_printf(arena, "host/%.*s:%u", SLICE_ARG(folded), (unsigned)port);
        }
    }
    (void)error_set(err, "not a host of at most %d bytes", DESTINATION_HOST_MAX);
    return NULL;
}

/* Decimal without leading zeros. */
static bool parse_port(struct slice text, uint16_t *port)
{
    uint64_t value = 0;
    if (!slice_to_u64(text, UINT16_MAX, &value) || (text.len > 1 && text.at[0] == '0')) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* "HOST:PORT" at its last colon; false without one. */
static bool split_port(struct slice text, struct slice *host, struct slice *port)
{
    size_t colon = text.len;
    while (colon > 0 && text.at[colon - 1] != ':') {
        colon--;
    }
    if (colon == 0) {
        return false;
    }
    *host = slice_head(text, colon - 1);
    *port = slice_from(text, colon);
    return true;
}

static bool parse_ip(struct slice rest, struct destination_key *key)
{
    char text[ADDR_TEXT_MAX];
    struct slice network = slice_cut(&rest, '/');
    struct slice host = {0};
    struct slice port = {0};
    if (rest.at == NULL || network.len > DESTINATION_NETWORK_MAX || !is_name(network) ||
        !split_port(rest, &host, &port) || !parse_port(port, &key->port)) {
        return false;
    }
    bool bracketed = host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']';
    struct slice ip = bracketed ? slice_head(slice_from(host, 1), host.len - 2) : host;
    if (!addr_parse_ip(ip, &key->addr)) {
        return false;
    }
    key->addr.port = key->port;
    key->network = network;
    return slice_eq(rest, slice_of_text(addr_format(&key->addr, text)));
}

static bool parse_host(struct slice rest, struct destination_key *key)
{
    struct slice port = {0};
    return split_port(rest, &key->host, &port) && is_host(key->host) &&
           parse_port(port, &key->port);
}

bool destination_key_parse(struct slice name, struct destination_key *key, struct error *err)
{
    CHECK(key != NULL);
    *key = (struct destination_key){0};
    if (slice_starts(name, SLICE("ip/"))) {
        key->kind = DESTINATION_IP;
        return parse_ip(slice_from(name, 3), key) ||
               error_set(err, "not ip/NETWORK/ADDRESS:PORT in its one spelling");
    }
    if (slice_starts(name, SLICE("host/"))) {
        key->kind = DESTINATION_HOST;
        return parse_host(slice_from(name, 5), key) ||
               error_set(err, "not host/AUTHORITY:PORT in its one spelling");
    }
    return error_set(err, "neither ip/NETWORK/ADDRESS:PORT nor host/AUTHORITY:PORT");
}
