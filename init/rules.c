/* Why the rules are as they are, from the top of each chain:
 *
 * output (what this namespace sends; S is the sidecar's user):
 *   - only TCP is captured: redirecting UDP would lose its original destination.
 *   - 127.0.0.6 and ::6 are the addresses from which the sidecar dials the workload itself.
 *   - S to an address of this namespace that is not loopback: a workload that calls its own service
 *     and was balanced to itself. It enters by the inbound side, as from any other pod.
 *   - all else of S is on its way out, captured already.
 *   - other users over lo: the workload talks to itself.
 * prerouting (what comes in):
 *   - lo was decided by output. The metrics port is the sidecar's own; all else is the workload's.
 *
 * A skip list is a rule for each entry, not a set: nft joins neighbours in sets when it lists them,
 * so that a listing could not be compared, and a rule is looked at once for each connection. */
#include "init/rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define HEAD "table inet " RULES_TABLE
#define LINE 96 /* bytes of a rule of a skip list */

/* ---- options -> rules ---- */

/* Entries of a list, which may hold several, separated by commas. */
static size_t entries_count(const struct option_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct slice rest = slice_of_text(list->items[i]);
        while (rest.at != NULL) {
            (void)slice_cut(&rest, ',');
            count++;
        }
    }
    return count;
}

typedef bool entry_read(void *to, struct slice entry, struct error *err);

/* Reads each entry into an element of an array at `*array`. */
static bool entries_read(const struct option_list *list, const char *option, entry_read *read,
                         size_t element_bytes, struct arena *arena, void **array, size_t *count,
                         struct error *err)
{
    size_t wanted = entries_count(list);
    if (wanted > RULES_SKIPS_MAX) {
        return error_set(err, "--%s: at most %d entries are allowed", option, RULES_SKIPS_MAX);
    }
    uint8_t *at = arena_alloc(arena, element_bytes * (wanted > 0 ? wanted : 1));
    *array = at;
    *count = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct slice rest = slice_of_text(list->items[i]);
        while (rest.at != NULL) {
            struct slice entry = slice_trim(slice_cut(&rest, ','));
            if (!read(at + *count * element_bytes, entry, err)) {
                return error_wrap(err, "--%s: \"%.*s\"", option, SLICE_ARG(slice_head(entry, 80)));
            }
            ++*count;
        }
    }
    CHECK(*count == wanted);
    return true;
}

static bool port_read(void *to, struct slice entry, struct error *err)
{
    uint64_t port = 0;
    if (!slice_to_u64(entry, UINT16_MAX, &port) || port == 0) {
        return error_set(err, "allowed is a port, 1 to 65535");
    }
    *(uint16_t *)to = (uint16_t)port;
    return true;
}

static void clear_behind(struct addr *addr, unsigned prefix_len)
{
    for (unsigned bit = prefix_len; bit < 8 * sizeof addr->ip; bit++) {
        addr->ip[bit / 8] &= (uint8_t) ~(0x80U >> (bit % 8));
    }
}

/* "10.0.0.0/8", "2001:db8::/32"; an address alone is itself. Bits behind the prefix do not count,
 * as everywhere in Kubernetes. */
static bool prefix_read(void *to, struct slice entry, struct error *err)
{
    struct rules_prefix *prefix = to;
    struct slice rest = entry;
    struct slice address = slice_cut(&rest, '/');
    if (!addr_parse_ip(address, &prefix->base)) {
        return error_set(err, "allowed is a network, as 10.0.0.0/8 or 2001:db8::/32");
    }
    unsigned bits = prefix->base.family == ADDR_IPV4 ? 32 : 128;
    uint64_t len = bits;
    if (rest.at != NULL && !slice_to_u64(rest, bits, &len)) {
        return error_set(err, "the prefix is 0 to %u", bits);
    }
    prefix->len = (unsigned)len;
    clear_behind(&prefix->base, prefix->len);
    return true;
}

bool rules_read(struct rules *rules, const struct init_options *given, struct arena *arena,
                struct error *err)
{
    *rules = (struct rules){
        .user = (uint32_t)given->user,
        .outbound_port = (uint16_t)given->outbound_port,
        .inbound_port = (uint16_t)given->inbound_port,
        .metrics_port = (uint16_t)given->metrics_port,
    };
    void *inbound = NULL;
    void *outbound = NULL;
    void *cidrs = NULL;
    if (!entries_read(&given->skip_inbound_ports, "skip-inbound-ports", port_read, sizeof(uint16_t),
                      arena, &inbound, &rules->skip_inbound_port_count, err) ||
        !entries_read(&given->skip_outbound_ports, "skip-outbound-ports", port_read,
                      sizeof(uint16_t), arena, &outbound, &rules->skip_outbound_port_count, err) ||
        !entries_read(&given->skip_outbound_cidrs, "skip-outbound-cidrs", prefix_read,
                      sizeof(struct rules_prefix), arena, &cidrs, &rules->skip_outbound_cidr_count,
                      err)) {
        return false;
    }
    rules->skip_inbound_ports = inbound;
    rules->skip_outbound_ports = outbound;
    rules->skip_outbound_cidrs = cidrs;
    return true;
}

/* ---- rules -> text ---- */

static const char *port_lines(const uint16_t *ports, size_t count, struct arena *arena)
{
    char *text = arena_alloc(arena, count * LINE + 1);
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        len += (size_t)snprintf(text + len, LINE, "\t\ttcp dport %u return\n", ports[i]);
    }
    return text;
}

static const char *prefix_lines(const struct rules_prefix *prefixes, size_t count,
                                struct arena *arena)
{
    char *text = arena_alloc(arena, count * LINE + 1);
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        const struct rules_prefix *prefix = &prefixes[i];
        bool four = prefix->base.family == ADDR_IPV4;
        char address[ADDR_TEXT_MAX];
        char behind[8] = "";
        if (prefix->len < (four ? 32U : 128U)) {
            (void)snprintf(behind, sizeof behind, "/%u", prefix->len);
        }
        len += (size_t)snprintf(text + len, LINE, "\t\t%s daddr %s%s return\n", four ? "ip" : "ip6",
                                addr_format_ip(&prefix->base, address), behind);
    }
    return text;
}

const char *rules_text(const struct rules *rules, struct arena *arena)
{
    CHECK(rules->user > 0);
    CHECK(rules->outbound_port > 0);
    CHECK(rules->inbound_port > 0);
    const char *user = arena_printf(arena, "meta skuid %" PRIu32, rules->user);
    const char *output = arena_printf(
        arena,
        "\tchain output {\n"
        "\t\ttype nat hook output priority -100; policy accept;\n"
        "\t\tmeta l4proto != tcp return\n"
        "\t\tip saddr 127.0.0.6 return\n"
        "\t\tip6 saddr ::6 return\n"
        "\t\t%s oif \"lo\" ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :%u\n"
        "\t\t%s oif \"lo\" ip6 daddr != ::1 meta l4proto tcp redirect to :%u\n"
        "\t\t%s return\n"
        "\t\toif \"lo\" return\n"
        "%s%s"
        "\t\tmeta l4proto tcp redirect to :%u\n"
        "\t}\n",
        user, rules->inbound_port, user, rules->inbound_port, user,
        port_lines(rules->skip_outbound_ports, rules->skip_outbound_port_count, arena),
        prefix_lines(rules->skip_outbound_cidrs, rules->skip_outbound_cidr_count, arena),
        rules->outbound_port);
    return arena_printf(
        arena,
        HEAD " {\n"
             "%s\n"
             "\tchain prerouting {\n"
             "\t\ttype nat hook prerouting priority -100; policy accept;\n"
             "\t\tiif \"lo\" return\n"
             "\t\ttcp dport %u return\n"
             "%s"
             "\t\tmeta l4proto tcp redirect to :%u\n"
             "\t}\n"
             "}\n",
        output, rules->metrics_port,
        port_lines(rules->skip_inbound_ports, rules->skip_inbound_port_count, arena),
        rules->inbound_port);
}

/* A table is made first, so that deleting it is no error where there was none. */
const char *rules_remove_script(void)
{
    return HEAD "\ndelete " HEAD "\n";
}

const char *rules_write_script(const char *table_text, struct arena *arena)
{
    return arena_printf(arena, "%s%s", rules_remove_script(), table_text);
}

/* Without its indentation; empty behind the end. */
static struct slice next_line(struct slice *rest)
{
    return rest->at != NULL ? slice_trim(slice_cut(rest, '\n')) : SLICE("");
}

const char *rules_difference(const char *wanted, const char *found, struct arena *arena)
{
    struct slice left = slice_of_text(wanted);
    struct slice right = slice_of_text(found);
    for (unsigned line = 1; left.at != NULL || right.at != NULL; line++) {
        struct slice a = next_line(&left);
        struct slice b = next_line(&right);
        if (!slice_eq(a, b)) {
            return arena_printf(arena, "line %u: wanted \"%.*s\", there is \"%.*s\"", line,
                                SLICE_ARG(a), SLICE_ARG(b));
        }
    }
    return NULL;
}
