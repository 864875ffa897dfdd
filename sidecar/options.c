#include "sidecar/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define O   struct sidecar_options
#define DAY (UINT64_C(86400) * OPTION_SECOND)

static const char *const log_formats[] = {"text", "json", NULL};
static const char *const captures[] = {"nft", "none", NULL};
static const char *const trace_headers[] = {"w3c", "b3", "both", NULL}; /* enum trace_headers */

static const struct option options[] = {
    OPTION("config", STRING, O, config, .unit = "FILE",
           .meaning = "static configuration: an Envoy v3 bootstrap, JSON, or YAML by its ending"),
    OPTION("control-address", TARGET, O, control_address,
           .meaning = "where pillion-control serves xDS and signs certificates"),
    OPTION("mesh-root", STRING, O, mesh_root, .unit = "FILE",
           .meaning = "PEM roots against which the control's certificate is checked"),
    OPTION("token-file", STRING, O, token_file, .unit = "FILE",
           .meaning = "service-account token, read again whenever it is needed"),
    OPTION("workload", STRING, O, workload, .unit = "NS/NAME",
           .meaning = "the WorkloadEntry (or pod) that this is the sidecar of"),
    OPTION("address", STRING, O, address, .unit = "IP",
           .fallback_words = "of the first --inbound, else of the first interface",
           .meaning = "the workload's own address, as the control plane knows it"),
    OPTION("label", LIST, O, label, .unit = "KEY=VALUE",
           .meaning =
               "a label of the workload (app, version, ...), until the control plane says more"),
    OPTION("service-account", STRING, O, service_account, .unit = "NS/SA",
           .meaning = "the service account that the token is for"),
    OPTION("trust-domain", STRING, O, trust_domain, .fallback = "cluster.local",
           .meaning = "trust domain of the mesh"),
    OPTION("network", STRING, O, network, .fallback = "",
           .meaning = "network of this workload, where the mesh has several"),
    OPTION("dns-server", STRING, O, dns_server, .unit = "IP[:PORT],...",
           .fallback_words = "of /etc/resolv.conf",
           .meaning = "who resolves names of endpoints outside the mesh, and the control plane's"),
    OPTION("capture", CHOICE, O, capture, .choices = captures, .fallback = "nft",
           .meaning = "nft: connections come redirected, with their original destination; none: as "
                      "--inbound and --outbound say"),
    OPTION("inbound", LIST, O, inbound, .unit = "LISTEN=APPADDR",
           .meaning = "capture none: serve LISTEN (IP:PORT) as inbound for the application there"),
    OPTION("outbound", LIST, O, outbound, .unit = "LISTEN=HOST:PORT[/tcp]",
           .meaning = "capture none: serve LISTEN as the way to HOST:PORT"),
    OPTION("outbound-address", ADDRESS, O, outbound_port, .fallback = "127.0.0.1:15001",
           .meaning = "where captured outbound connections arrive; never wider than loopback"),
    OPTION("inbound-address", ADDRESS, O, inbound_port, .fallback = "0.0.0.0:15006",
           .meaning = "where captured inbound connections arrive"),
    OPTION("admin-address", ADDRESS, O, admin, .fallback = "127.0.0.1:15000",
           .meaning = "admin paths"),
    OPTION("metrics-address", ADDRESS, O, metrics, .fallback = "0.0.0.0:15020",
           .meaning = "/metrics, /healthz/ready, /healthz/live"),
    OPTION("workers", INT, O, workers, .min = 1, .max = 64,
           .fallback_words = "the cgroup's processors, 1 to 4", .meaning = "data-plane threads"),
    OPTION("drain-min", DURATION, O, drain_min_us, .fallback = "5s", .max = 600 * OPTION_SECOND,
           .meaning = "shortest time between SIGTERM and exit"),
    OPTION("drain-max", DURATION, O, drain_max_us, .fallback = "30s", .max = DAY,
           .meaning = "longest time between SIGTERM and exit"),
    OPTION("detect-hold", DURATION, O, detect_hold_us, .fallback = "20ms",
           .max = 10 * OPTION_SECOND,
           .meaning = "how long a silent client is waited for before the server may speak first"),
    OPTION("on-demand-timeout", DURATION, O, on_demand_timeout_us, .fallback = "5s",
           .min = OPTION_MILLISECOND, .max = 60 * OPTION_SECOND,
           .meaning = "how long a connection waits for the answer about its destination"),
    OPTION("negative", DURATION, O, negative_us, .fallback = "10s", .max = 3600 * OPTION_SECOND,
           .meaning = "how long an unknown destination is remembered"),
    OPTION("idle", DURATION, O, idle_us, .fallback = "15m", .min = OPTION_SECOND, .max = 7 * DAY,
           .meaning = "an unused destination's configuration is given back after"),
    OPTION("xds-max-message", SIZE, O, xds_max_message, .fallback = "64MiB", .min = 65536,
           .max = UINT64_C(1) << 31, .meaning = "largest message taken from the control plane"),
    OPTION("head-timeout", DURATION, O, head_timeout_us, .fallback = "10s",
           .min = OPTION_MILLISECOND, .max = 3600 * OPTION_SECOND,
           .meaning = "a request's head must be there so long after its first byte"),
    OPTION("max-head", SIZE, O, max_head_bytes, .fallback = "60KiB", .min = 1024, .max = 61440,
           .meaning = "largest head of a request or an answer"),
    OPTION("ping", DURATION, O, ping_us, .fallback = "30s", .max = 3600 * OPTION_SECOND,
           .meaning = "an HTTP/2 peer that has requests open and says nothing is asked whether it "
                      "lives after so long, and given up in the end; 0: never"),
    OPTION("h2-max-streams", INT, O, h2_max_streams, .fallback = "1000", .min = 1, .max = 100000,
           .meaning = "requests that a client may have open on one HTTP/2 connection"),
    OPTION("h2-resets", INT, O, h2_resets, .fallback = "1000", .min = 1, .max = 1000000,
           .meaning = "streams that an HTTP/2 peer may give up before their answer's end, beyond a "
                      "tenth of it a second and one for each answer; then its connection ends"),
    OPTION("h2-errors", INT, O, h2_errors, .fallback = "500", .min = 1, .max = 1000000,
           .meaning = "the same of streams that its errors make us reset"),
    OPTION("h2-control", INT, O, h2_control, .fallback = "2000", .min = 1, .max = 1000000,
           .meaning = "the same of frames without use: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, "
                      "empty DATA, unknown ones"),
    OPTION("replay", SIZE, O, replay_bytes, .fallback = "64KiB", .max = UINT64_C(1) << 24,
           .meaning = "of a request's body held for a retry; a larger one is not retried"),
    OPTION("memory-limit", SIZE, O, memory_limit, .fallback_words = "the cgroup's, less a tenth",
           .meaning = "above it requests are refused with 503; 0: none"),
    OPTION("log-level", STRING, O, log_level, .fallback = "info",
           .meaning = "error, warning, info or debug"),
    OPTION("trace-headers", CHOICE, O, trace_headers, .choices = trace_headers, .fallback = "w3c",
           .meaning =
               "what a request without any gets: traceparent, b3, or both with the same ids; "
               "what it brings is passed on as it is"),
    OPTION("log-format", CHOICE, O, log_format, .choices = log_formats, .fallback = "text",
           .meaning = "how log lines look"),
};

const struct options_program sidecar_program = {
    .name = "pillion-sidecar",
    .summary = "the data plane beside one workload",
    .options = options,
    .count = sizeof options / sizeof options[0],
};

/* First line of a file of the kernel's; false where there is none. */
static bool read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool got = fgets(line, size, file) != NULL;
    (void)fclose(file);
    return got;
}

uint64_t options_default_workers(void)
{
    char line[128];
    uint64_t count = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    char *rest = NULL;
    if (read_line("/sys/fs/cgroup/cpu.max", line, sizeof line) && line[0] != 'm') {
        uint64_t quota = strtoull(line, &rest, 10);
        uint64_t period = strtoull(rest, NULL, 10);
        if (period > 0) {
            count = (quota + period - 1) / period;
        }
    }
    return count < 1 ? 1 : count > 4 ? 4 : count;
}

uint64_t options_default_memory(void)
{
    char line[128];
    if (!read_line("/sys/fs/cgroup/memory.max", line, sizeof line) || line[0] == 'm') {
        return 0;
    }
    uint64_t limit = strtoull(line, NULL, 10);
    return limit - limit / 10;
}
