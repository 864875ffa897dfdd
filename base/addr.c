#include "base/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void fold_mapped(struct addr *addr)
{
    if (addr->family == ADDR_IPV6 && memcmp(addr->ip, mapped_prefix, sizeof mapped_prefix) == 0) {
        (void)memcpy(addr->ip, addr->ip + 12, 4);
        (void)memset(addr->ip + 4, 0, 12);
        addr->family = ADDR_IPV4;
    }
}

bool addr_parse_ip(struct slice text, struct addr *addr)
{
    char copy[INET6_ADDRSTRLEN];
    if (text.len == 0 || text.len >= sizeof copy) {
        return false;
    }
    (void)memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    *addr = (struct addr){.family = ADDR_NONE};
    if (inet_pton(AF_INET, copy, addr->ip) == 1) {
        addr->family = ADDR_IPV4;
        return true;
    }
    if (inet_pton(AF_INET6, copy, addr->ip) == 1) {
        addr->family = ADDR_IPV6;
        fold_mapped(addr);
        return true;
    }
    return false;
}

bool addr_parse(struct slice text, struct addr *addr)
{
    size_t colon = text.len;
    while (colon > 0 && text.at[colon - 1] != ':') {
        colon--;
    }
    if (colon == 0) {
        return false;
    }
    uint64_t port;
    struct slice host = slice_head(text, colon - 1);
    if (!slice_to_u64(slice_from(text, colon), UINT16_MAX, &port)) {
        return false;
    }
    bool bracketed = host.len >= 2 && host.at[0] == '[' && host.at[host.len - 1] == ']';
    if (bracketed) {
        host = slice_of(host.at + 1, host.len - 2);
    }
    if (bracketed != (slice_find(host, ':') < host.len) || !addr_parse_ip(host, addr)) {
        return false;
    }
    addr->port = (uint16_t)port;
    return true;
}

struct addr addr_ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    return (struct addr){.ip = {a, b, c, d}, .port = port, .family = ADDR_IPV4};
}

char *addr_format_ip(const struct addr *addr, char text[ADDR_TEXT_MAX])
{
    switch ((enum addr_family)addr->family) {
    case ADDR_IPV4:
        (void)inet_ntop(AF_INET, addr->ip, text, ADDR_TEXT_MAX);
        break;
    case ADDR_IPV6:
        (void)inet_ntop(AF_INET6, addr->ip, text, ADDR_TEXT_MAX);
        break;
    case ADDR_NONE:
        (void)snprintf(text, ADDR_TEXT_MAX, "-");
        break;
    }
    return text;
}

char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX])
{
    char ip[ADDR_TEXT_MAX];
    (void)snprintf(text, ADDR_TEXT_MAX, addr->family == ADDR_IPV6 ? "[%.45s]:%u" : "%.45s:%u",
                   addr_format_ip(addr, ip), addr->port);
    return text;
}

bool addr_ip_eq(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    return a->port == b->port && addr_ip_eq(a, b);
}

bool addr_is_loopback(const struct addr *addr)
{
    static const uint8_t six[16] = {[15] = 1};
    return addr->family == ADDR_IPV4 ? addr->ip[0] == 127
                                     : addr->family == ADDR_IPV6 && memcmp(addr->ip, six, 16) == 0;
}

bool addr_is_any(const struct addr *addr)
{
    static const uint8_t zero[16];
    return memcmp(addr->ip, zero, sizeof zero) == 0;
}

bool addr_in_prefix(const struct addr *addr, const struct addr *prefix, unsigned prefix_len)
{
    if (addr->family != prefix->family) {
        return false;
    }
    unsigned whole = prefix_len / 8;
    CHECK(whole <= sizeof addr->ip);
    if (memcmp(addr->ip, prefix->ip, whole) != 0) {
        return false;
    }
    unsigned rest = prefix_len % 8;
    return rest == 0 || ((addr->ip[whole] ^ prefix->ip[whole]) >> (8 - rest)) == 0;
}

uint64_t addr_hash(const struct addr *addr, uint64_t seed)
{
    uint64_t extra = ((uint64_t)addr->port << 8) | addr->family;
    return slice_hash(slice_of(addr->ip, sizeof addr->ip), seed ^ (extra * 0x9E3779B97F4A7C15U));
}

unsigned addr_to_socket(const struct addr *addr, struct sockaddr_storage *to)
{
    (void)memset(to, 0, sizeof *to);
    if (addr->family == ADDR_IPV4) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        in->sin_family = AF_INET;
        in->sin_port = htons(addr->port);
        (void)memcpy(&in->sin_addr, addr->ip, 4);
        return sizeof *in;
    }
    CHECK(addr->family == ADDR_IPV6);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(addr->port);
    (void)memcpy(&in6->sin6_addr, addr->ip, 16);
    return sizeof *in6;
}

struct addr addr_from_socket(const struct sockaddr_storage *from)
{
    struct addr addr = {.family = ADDR_NONE};
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        addr.family = ADDR_IPV4;
        addr.port = ntohs(in->sin_port);
        (void)memcpy(addr.ip, &in->sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        addr.family = ADDR_IPV6;
        addr.port = ntohs(in6->sin6_port);
        (void)memcpy(addr.ip, &in6->sin6_addr, 16);
        fold_mapped(&addr);
    }
    return addr;
}
