#include "init/options.h"

#define O        struct init_options
#define PORT_MAX 65535
#define UID_MAX  UINT64_C(4294967294) /* 2^32 - 1 means "no user" to the kernel */

static const struct option options[] = {
    OPTION("user", INT, O, user, .min = 1, .max = UID_MAX, .unit = "UID",
           .meaning = "user id of the sidecar: what it sends is not captured"),
    OPTION("outbound-port", INT, O, outbound_port, .min = 1, .max = PORT_MAX, .fallback = "15001",
           .meaning = "where the sidecar takes what the workload opens"),
    OPTION("inbound-port", INT, O, inbound_port, .min = 1, .max = PORT_MAX, .fallback = "15006",
           .meaning = "where the sidecar takes what is opened to the workload"),
    OPTION("metrics-port", INT, O, metrics_port, .min = 1, .max = PORT_MAX, .fallback = "15020",
           .meaning = "the sidecar's own port for scrapers and probes, never captured"),
    OPTION("skip-inbound-ports", LIST, O, skip_inbound_ports, .unit = "PORT,...",
           .meaning = "ports of the workload that stay as they are"),
    OPTION("skip-outbound-ports", LIST, O, skip_outbound_ports, .unit = "PORT,...",
           .meaning = "ports to which the workload goes by itself"),
    OPTION("skip-outbound-cidrs", LIST, O, skip_outbound_cidrs, .unit = "CIDR,...",
           .meaning = "addresses to which the workload goes by itself: 10.0.0.0/8, 2001:db8::/32"),
    OPTION("check", BOOL, O, check,
           .meaning = "change nothing; exit 0 where exactly these rules are in force, else 1"),
    OPTION("remove", BOOL, O, remove, .meaning = "take the rules away; no rules are no error"),
    OPTION("print", BOOL, O, print, .meaning = "change nothing; show the rules in nft's language"),
};

const struct options_program init_program = {
    .name = "pillion-init",
    .summary = "redirects the TCP connections of this network namespace to its sidecar",
    .options = options,
    .count = COUNT_OF(options),
};

bool init_options_check(const struct init_options *given, struct error *err)
{
    if (given->check + given->remove + given->print > 1) {
        return error_set(err, "--check, --remove and --print: one of them at a time");
    }
    if (given->user == 0 && !given->remove) {
        return error_set(err, "--user is needed: the user id of the sidecar alone, since what this "
                              "user sends is not captured");
    }
    if (given->outbound_port == given->inbound_port ||
        given->outbound_port == given->metrics_port || given->inbound_port == given->metrics_port) {
        return error_set(err, "--outbound-port, --inbound-port and --metrics-port must differ");
    }
    return true;
}
