#pragma once
/* What pillion-sidecar can be told: one table, from which flags, environment, --help and errors
 * follow. */

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"

struct sidecar_options {
    const char *config;          /* static bootstrap; null: a control plane configures */
    const char *control_address; /* HOST:PORT of pillion-control; null: none */
    const char
        *mesh_root; /* PEM file of the roots that the control's certificate is checked against */
    const char *token_file;
    const char *address;         /* IP of the workload; null: of the first --inbound */
    const char *workload;        /* NS/NAME */
    const char *service_account; /* NS/SA */
    const char *trust_domain;
    const char *network;
    const char *dns_server; /* IP[:PORT], more after commas; null: /etc/resolv.conf says */
    const char *log_level;
    unsigned log_format;         /* 0: text, 1: JSON */
    unsigned trace_headers;      /* enum trace_headers */
    unsigned capture;            /* enum capture_mode */
    struct option_list label;    /* KEY=VALUE */
    struct option_list inbound;  /* LISTEN=APPADDR */
    struct option_list outbound; /* LISTEN=HOST:PORT[/tcp] */
    struct addr outbound_port;   /* capture: where redirected outbound connections come */
    struct addr inbound_port;
    struct addr admin;
    struct addr metrics;
    uint64_t workers;
    uint64_t drain_min_us;
    uint64_t drain_max_us;
    uint64_t detect_hold_us;
    uint64_t on_demand_timeout_us;
    uint64_t negative_us;
    uint64_t idle_us;
    uint64_t xds_max_message;
    uint64_t head_timeout_us;
    uint64_t max_head_bytes;
    uint64_t ping_us;
    uint64_t h2_max_streams;
    uint64_t h2_resets;
    uint64_t h2_errors;
    uint64_t h2_control;
    uint64_t replay_bytes;
    uint64_t memory_limit;
};

enum capture_mode { CAPTURE_NFT, CAPTURE_NONE };

extern const struct options_program sidecar_program;

/* The cgroup's limits (v2, else v1), for defaults: processors rounded up, 1 to 4; bytes, 0: none.
 */
uint64_t options_default_workers(void);
uint64_t options_default_memory(void);
