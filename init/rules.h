#pragma once
/* The capture rules of one network namespace: what is redirected to the sidecar, and what is left
 * alone, for IPv4 and IPv6 in one table. Pure: options in, text in nft's language out. The text is
 * the one in which nft lists these rules again, so that a check is a comparison. */

#include <stddef.h>
#include <stdint.h>

#include "init/options.h"

#include "base/addr.h"
#include "base/arena.h"
#include "base/error.h"

#define RULES_TABLE     "pillion"
#define RULES_SKIPS_MAX 1024 /* entries of one skip list */

struct rules_prefix {
    struct addr base; /* bits behind the prefix are 0 */
    unsigned len;
};

struct rules {
    uint32_t user;
    uint16_t outbound_port;
    uint16_t inbound_port;
    uint16_t metrics_port;
    uint16_t *skip_inbound_ports;
    size_t skip_inbound_port_count;
    uint16_t *skip_outbound_ports;
    size_t skip_outbound_port_count;
    struct rules_prefix *skip_outbound_cidrs;
    size_t skip_outbound_cidr_count;
};

/* From options that init_options_check has passed; lists in the arena. False with *err, which names
 * the option, the entry and what is allowed. */
bool rules_read(struct rules *rules, const struct init_options *given, struct arena *arena,
                struct error *err) MUST_USE;

/* The table, as nft prints it (priorities as numbers, no counters). In the arena. */
const char *rules_text(const struct rules *rules, struct arena *arena);
/* One transaction that puts exactly that table in the place of whatever stands there. */
const char *rules_write_script(const char *table_text, struct arena *arena);
/* One transaction that takes the table away, whether it is there or not. */
const char *rules_remove_script(void);

/* The first line in which two texts differ but for indentation, for people: "line 5: wanted
 * \"...\", there is \"...\""; null where they are the same. In the arena. */
const char *rules_difference(const char *wanted, const char *found, struct arena *arena);
