#pragma once
/* What every part of the compiler uses: where it is in the message, how it refuses, and the small
 * types that all messages share. Admin thread. */

#include "envoy/config/core/v3/core.pb-c.h"
#include "envoy/type/v3/type.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

#include "base/error.h"
#include "base/map.h"
#include "sidecar/config/compile.h"

#define COMPILE_PATH_MAX  512
#define COMPILE_DEPTH_MAX 64
#define SECOND_US         UINT64_C(1000000)

struct compiler {
    struct snapshot *out;
    struct arena *arena;   /* of `out` */
    struct arena *scratch; /* messages inside of Any; freed when the resource is done */
    const struct compile_options *options;
    struct error *err;
    struct map names;       /* interned texts -> struct slice in `out` */
    bool unknown_extension; /* what was refused is an extension that we do not have */
    uint16_t depth;
    uint16_t marks[COMPILE_DEPTH_MAX];
    char path[COMPILE_PATH_MAX];
};

void compiler_init(struct compiler *c, struct snapshot *out, struct arena *scratch,
                   const struct compile_options *options, struct error *err);
void compiler_fini(struct compiler *c);

/* ---- where we are ---- */

void compile_enter(struct compiler *c, const char *format, ...) PRINTF_LIKE(2, 3);
bool compile_leave(struct compiler *c, bool result);
/* `call` runs one step deeper in the path: COMPILE_IN(c, compile_x(c, ...), "routes[%zu]", i). */
#define COMPILE_IN(c, call, ...) (compile_enter((c), __VA_ARGS__), compile_leave((c), (call)))

/* Sets "<path>.<field>: <reason>"; field may be null: the path alone. Returns false. */
bool compile_refuse(struct compiler *c, const char *field, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* The same for an extension that we do not have: may be quarantined. */
bool compile_unknown(struct compiler *c, const char *field, const char *type_url);

/* ---- text ---- */

/* A copy in the snapshot. */
struct slice compile_text(struct compiler *c, const char *text);
struct slice compile_bytes(struct compiler *c, ProtobufCBinaryData bytes);
/* The same, each text once; for names that come again and again. */
struct slice compile_name(struct compiler *c, const char *text);
struct slice compile_lower(struct compiler *c, const char *text);
/* A field that must not be empty. */
bool compile_required(struct compiler *c, const char *field, const char *text);
/* A copy of a list of texts, in the snapshot; null when empty. */
const struct slice *compile_texts(struct compiler *c, char *const *texts, size_t count);
/* A header field's name (RFC 9110 5.6.2, a token). */
bool compile_header_name(struct compiler *c, const char *field, const char *name) MUST_USE;

/* ---- numbers and times ---- */

/* Absent: `absent_us`. Negative or malformed: refused. */
bool compile_duration(struct compiler *c, const char *field,
                      const Google__Protobuf__Duration *duration, uint64_t absent_us,
                      uint64_t *us) MUST_USE;
/* The same, and 0 is refused. */
bool compile_duration_positive(struct compiler *c, const char *field,
                               const Google__Protobuf__Duration *duration, uint64_t absent_us,
                               uint64_t *us) MUST_USE;
/* Absent: `absent`, which may lie outside of the bounds. */
bool compile_u32(struct compiler *c, const char *field, const Google__Protobuf__UInt32Value *value,
                 uint32_t absent, uint32_t least, uint32_t most, uint32_t *out) MUST_USE;
bool compile_bool(const Google__Protobuf__BoolValue *value, bool absent);
/* 0 to 100; absent: `absent`. */
bool compile_percent(struct compiler *c, const char *field, const Envoy__Type__V3__Percent *percent,
                     double absent, double *out) MUST_USE;
bool compile_fraction(struct compiler *c, const Envoy__Type__V3__FractionalPercent *percent,
                      struct fraction *out) MUST_USE;
/* Absent: always. */
bool compile_runtime_fraction(struct compiler *c, const char *field,
                              const Envoy__Config__Core__V3__RuntimeFractionalPercent *percent,
                              struct fraction *out) MUST_USE;

/* ---- core messages ---- */

/* An IP and a port (TCP); other kinds of address are refused. */
bool compile_address(struct compiler *c, const char *field,
                     const Envoy__Config__Core__V3__Address *address, struct addr *out) MUST_USE;
bool compile_socket_address(struct compiler *c,
                            const Envoy__Config__Core__V3__SocketAddress *address,
                            struct addr *out) MUST_USE;
bool compile_cidr(struct compiler *c, const Envoy__Config__Core__V3__CidrRange *range,
                  struct cidr *out) MUST_USE;
/* Absent: the empty slice. */
bool compile_data(struct compiler *c, const char *field,
                  const Envoy__Config__Core__V3__DataSource *source, struct slice *out) MUST_USE;
/* The message inside an Any, of the type that its URL names in the table; `kind` must fit. A type
 * that the table refuses or does not have, or another kind: refused as unknown. IGNORE: *message is
 * null. */
bool compile_any(struct compiler *c, const char *field, const Google__Protobuf__Any *any,
                 enum xds_kind kind, const struct xds_type **type, void **message) MUST_USE;

/* filter_metadata["pillion.io"]; null where there is none. */
const struct origin *compile_origin(struct compiler *c,
                                    const Envoy__Config__Core__V3__Metadata *metadata);
/* A space of filter_metadata; null. */
const Google__Protobuf__Struct *compile_metadata(const Envoy__Config__Core__V3__Metadata *metadata,
                                                 const char *space);
const Google__Protobuf__Value *compile_struct_get(const Google__Protobuf__Struct *fields,
                                                  const char *key);
/* Empty where it is no text. */
struct slice compile_struct_text(struct compiler *c, const Google__Protobuf__Struct *fields,
                                 const char *key);
/* Texts, numbers and booleans of a Struct; what is deeper is left out. */
const struct label *compile_labels(struct compiler *c, const Google__Protobuf__Struct *fields,
                                   uint16_t *count);

/* An array of the snapshot, zeroed; null for none. */
#define COMPILE_ARRAY(c, type, count) ((count) > 0 ? ARENA_ARRAY((c)->arena, type, (count)) : NULL)
/* Counts that the snapshot keeps in 16 bits. */
bool compile_count(struct compiler *c, const char *field, size_t count, uint16_t *out) MUST_USE;
