#pragma once
/* HPACK (RFC 7541): header lists in and out, and the two dynamic tables. Pure; one thread.
 *
 * Both tables take their memory when the first entry goes in, and grow with what they hold, so that
 * an idle connection does not pay for 4 KiB that it never used. The decoder copies nothing: a field
 * points into the input, the dynamic table or, where Huffman was undone, the caller's scratch; only
 * when the table has to move its bytes are the fields that point there copied out first.
 *
 * The encoder inserts a field when it sees it for the second time: request ids and one-off values
 * never push useful entries out, and a connection of one request never takes memory for a table. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"
#include "http/headers.h"

#define HPACK_TABLE_DEFAULT 4096  /* SETTINGS_HEADER_TABLE_SIZE's initial value (RFC 9113 6.5.2) */
#define HPACK_TABLE_MAX     16384 /* what either side may be configured to hold */
#define HPACK_ENTRY_EXTRA   32    /* what an entry costs beyond its bytes (RFC 7541 4.1) */
#define HPACK_STATIC_COUNT  61
#define HPACK_SEEN          128

/* `id` of a decoded field: an enum header_id, or one of these for a name that begins with ':'. */
enum hpack_pseudo {
    HPACK_AUTHORITY = 0xf0,
    HPACK_METHOD,
    HPACK_PATH,
    HPACK_SCHEME,
    HPACK_STATUS,
    HPACK_PROTOCOL,
    HPACK_PSEUDO_UNKNOWN
};

struct hpack_table {
    uint8_t *memory; /* the ring of entries, then their bytes; null while nothing was inserted */
    uint32_t room;   /* bytes that the memory is cut for: a power of two, or 0 */
    uint32_t max;    /* size limit in force */
    uint32_t size;   /* by HPACK's count */
    uint16_t newest; /* position of the newest entry in the ring */
    uint16_t count;
    uint32_t end; /* where the next entry's bytes go */
};

struct hpack_decoder {
    struct hpack_table table;
    uint32_t allowed; /* our SETTINGS_HEADER_TABLE_SIZE, as far as it was acknowledged */
};

/* Where a decoded block goes. The storage is the caller's and may be shared by all connections of a
 * thread. */
struct hpack_list {
    struct header *field;
    uint16_t capacity;
    uint16_t count;
    struct span scratch; /* at least HPACK_SCRATCH(list_max) bytes */
    size_t used;
    size_t list_size; /* sum of name + value + 32, as SETTINGS_MAX_HEADER_LIST_SIZE counts */
    size_t list_max;
    bool over_size;  /* more than list_max: no field is kept */
    bool over_count; /* more than `capacity` fields: no field is kept */
    bool malformed;  /* a name or a value that no field may have (RFC 9113 8.2.1) */
};

/* Scratch for a list of at most `list_max`: each byte is stored once by Huffman or by settling, and
 * once more by the caller who joins what was split. */
#define HPACK_SCRATCH(list_max) (2 * (size_t)(list_max) + 2 * (size_t)HPACK_TABLE_MAX)

struct hpack_encoder {
    struct hpack_table table;
    uint16_t *slots;     /* hash -> number of an insertion; null while nothing was inserted */
    uint32_t inserted;   /* insertions ever */
    uint32_t cap;        /* what we want to hold at most */
    uint32_t update_min; /* smallest limit since the last block, to be announced first */
    bool update_due;
    bool huffman;
    uint8_t turn;
    uint8_t seen[HPACK_SEEN]; /* marks of fields met once */
};

void hpack_decoder_init(struct hpack_decoder *decoder);
/* The peer acknowledged our SETTINGS_HEADER_TABLE_SIZE, at most HPACK_TABLE_MAX. Where that is
 * below the limit in force, the next block must begin with an update (RFC 7541 4.2). */
void hpack_decoder_limit(struct hpack_decoder *decoder, uint32_t allowed);
void hpack_decoder_fini(struct hpack_decoder *decoder);

/* Decodes one whole block into `list`, whose storage and list_max are set by the caller; the rest
 * is reset here. Fields borrow from `in`, the scratch and the decoder, until the next block. False:
 * the block cannot be decoded, COMPRESSION_ERROR (RFC 9113 4.3). A list that is too large is
 * decoded to its end, for the table's sake, and flagged. */
bool hpack_decode(struct hpack_decoder *decoder, struct slice in, struct hpack_list *list) MUST_USE;

/* `cap`: bytes of dynamic table to use at most (<= HPACK_TABLE_MAX), whatever the peer allows. */
void hpack_encoder_init(struct hpack_encoder *encoder, uint32_t cap, bool huffman);
void hpack_encoder_fini(struct hpack_encoder *encoder);
/* Heap bytes in use. */
size_t hpack_decoder_memory(const struct hpack_decoder *decoder);
size_t hpack_encoder_memory(const struct hpack_encoder *encoder);
/* The peer's SETTINGS_HEADER_TABLE_SIZE changed; announced at the start of the next block. */
void hpack_encoder_limit(struct hpack_encoder *encoder, uint32_t peer_max);

/* Upper bound of what one field takes, and of what the start of a block takes. */
#define HPACK_FIELD_BOUND(name_len, value_len) ((name_len) + (value_len) + 18)
#define HPACK_START_BOUND                      12

/* Each writes at `at`, where the bound's bytes are free, and returns the position behind. */
uint8_t *hpack_encode_start(struct hpack_encoder *encoder, uint8_t *at);
/* field->id may be an enum hpack_pseudo (then name is not read). Names are written in lower case.
 */
uint8_t *hpack_encode_field(struct hpack_encoder *encoder, uint8_t *at, const struct header *field);
uint8_t *hpack_encode_pseudo(struct hpack_encoder *encoder, uint8_t *at, enum hpack_pseudo pseudo,
                             struct slice value);
uint8_t *hpack_encode_status(struct hpack_encoder *encoder, uint8_t *at, uint16_t status);
