#pragma once
/* How an HTTP/1 sender spelled its field names, over an HTTP/2 hop between sidecars, where names
 * are lower case (RFC 9113 8.2.1): the field x-pillion-case. Its value begins with T (names are
 * Title-Case) or l (lower case), whichever is true of more of them, and lists the others as they
 * are spelled: "T,ETag,x-b3-flags". It names fields, not places, so that fields may be added and
 * removed on the way, and one application's value hardly changes, so that HPACK sends it as one
 * byte. That it is there tells the other end that HTTP/1 was spoken. Pure. */

#include "base/slice.h"
#include "http/message.h"

/* Of a value; names beyond it lose their spelling. */
#define H2_CASE_BYTES_MAX 1024

/* The value for a message that came over HTTP/1, of its fields that are `spelled`; lies in `room`,
 * of H2_CASE_BYTES_MAX bytes. */
struct slice h2_case_write(const struct headers *headers, uint8_t *room);
/* Spells the names of a message that came with `value`; they then borrow from it. */
void h2_case_read(struct message *message, struct slice value);
