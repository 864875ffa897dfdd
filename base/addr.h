#pragma once
/* An IP address and port as a value. IPv4-mapped IPv6 addresses are folded to IPv4 on every way in,
 * so that equal endpoints compare equal (RFC 4291 2.5.5.2). */

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum addr_family { ADDR_NONE, ADDR_IPV4, ADDR_IPV6 };

struct addr {
    uint8_t ip[16]; /* IPv4: the first four bytes */
    uint16_t port;  /* host order; 0: none */
    uint8_t family; /* enum addr_family */
};

#define ADDR_TEXT_MAX 56 /* "[...]:65535" and its zero byte */

/* "1.2.3.4", "::1", without brackets or port. */
bool addr_parse_ip(struct slice text, struct addr *addr) MUST_USE;
/* "1.2.3.4:80", "[::1]:80"; the port is needed. */
bool addr_parse(struct slice text, struct addr *addr) MUST_USE;
struct addr addr_ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);
/* With port and brackets (RFC 5952); returns `text`. */
char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX]);
/* The address alone, without brackets. */
char *addr_format_ip(const struct addr *addr, char text[ADDR_TEXT_MAX]);
bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_ip_eq(const struct addr *a, const struct addr *b);
/* 127.0.0.0/8 or ::1. */
bool addr_is_loopback(const struct addr *addr);
/* 0.0.0.0 or ::. */
bool addr_is_any(const struct addr *addr);
/* True when the first `prefix_len` bits of both are the same and the families are. */
bool addr_in_prefix(const struct addr *addr, const struct addr *prefix, unsigned prefix_len);
uint64_t addr_hash(const struct addr *addr, uint64_t seed);

struct sockaddr_storage;
/* Length of what was written. */
unsigned addr_to_socket(const struct addr *addr, struct sockaddr_storage *to);
/* ADDR_NONE for families other than IP. */
struct addr addr_from_socket(const struct sockaddr_storage *from);
