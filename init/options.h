#pragma once
/* What pillion-init is asked for. */

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"

struct init_options {
    uint64_t user; /* 0: not given */
    uint64_t outbound_port;
    uint64_t inbound_port;
    uint64_t metrics_port;
    struct option_list skip_inbound_ports;
    struct option_list skip_outbound_ports;
    struct option_list skip_outbound_cidrs;
    bool check;
    bool remove;
    bool print;
};

extern const struct options_program init_program;

/* What the table cannot say: which options go together, which are needed. */
bool init_options_check(const struct init_options *given, struct error *err) MUST_USE;
