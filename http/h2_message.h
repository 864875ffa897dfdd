#pragma once
/* Between HTTP/2's field lists and messages (RFC 9113 8.2, 8.3, 8.5). Pure. */

#include "base/check.h"
#include "http/codec.h"
#include "http/h2_hpack.h"
#include "http/message.h"

struct h2_message_rules {
    uint16_t max_headers;
    bool connect_protocol; /* requests: extended CONNECT is taken */
    bool spelling;         /* x-pillion-case is believed */
};

/* Each turns a decoded list into *out, in place: fields that frame the message become members,
 * out's headers are the rest of list->field. has_body and keep_alive are left to the caller. NONE,
 * or why the message is malformed or too large. */
enum codec_bad h2_message_request(struct hpack_list *list, const struct h2_message_rules *rules,
                                  struct message *out) MUST_USE;
enum codec_bad h2_message_response(struct hpack_list *list, const struct h2_message_rules *rules,
                                   struct message *out) MUST_USE;
enum codec_bad h2_message_trailers(struct hpack_list *list, const struct h2_message_rules *rules,
                                   struct message *out) MUST_USE;

/* How a field block is written. */
struct h2_message_style {
    bool trailers; /* the fields alone */
    bool spelling; /* the peer believes x-pillion-case */
};

/* Upper bound of what h2_message_write takes. */
size_t h2_message_bound(const struct message *message, const struct h2_message_style *style);
/* Writes the field block of a head or of trailers; returns its end. Fields that belong to a
 * connection are left out, those that frame the message are made from members. */
uint8_t *h2_message_write(struct hpack_encoder *encoder, uint8_t *at, const struct message *message,
                          const struct h2_message_style *style);
