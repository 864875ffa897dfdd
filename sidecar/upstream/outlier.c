#include "sidecar/upstream/outlier.h"

#include <math.h>

const char *outlier_cause_name(enum outlier_cause cause)
{
    static const char *const names[] = {
#define X(value, meaning) #value,
        OUTLIER_CAUSES(X)
#undef X
    };
    CHECK((unsigned)cause < COUNT_OF(names));
    return names[cause];
}

uint32_t outlier_limit(uint32_t endpoints, uint8_t max_percent)
{
    uint64_t share = (uint64_t)endpoints * max_percent / 100;
    return share > 1 ? (uint32_t)share : 1;
}

uint64_t outlier_ejection_us(const struct outlier_config *config, uint32_t times)
{
    uint64_t most = config->max_ejection_us > config->base_ejection_us ? config->max_ejection_us
                                                                       : config->base_ejection_us;
    if (config->base_ejection_us == 0 || times > most / config->base_ejection_us) {
        return most;
    }
    return config->base_ejection_us * times;
}

/* ---- ejecting ---- */

/* May one more go? Asked while shared->ejecting is held. */
static bool may_eject(const struct cluster *cluster, const struct endpoint *endpoint)
{
    uint32_t ejected = 0;
    uint32_t others = 0;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        const struct endpoint *other = cluster->endpoints[i];
        ejected += endpoint_ejected(other);
        others += other != endpoint && endpoint_available(other);
    }
    if (others == 0 && !MUTANT(3)) {
        return false;
    }
    return ejected <
           outlier_limit(cluster->endpoint_count, cluster->config->outlier.max_ejection_percent);
}

static bool eject(struct cluster *cluster, struct endpoint *endpoint, uint64_t now_us)
{
    /* Another worker is at it: the failures are counted, so the next one asks again. */
    if (atomic_flag_test_and_set_explicit(&cluster->shared->ejecting, memory_order_acquire)) {
        return false;
    }
    struct shared_endpoint *shared = endpoint->shared;
    bool done = endpoint_available(endpoint) && may_eject(cluster, endpoint);
    if (done) {
        (void)atomic_fetch_add_explicit(&shared->times_ejected, 1, memory_order_relaxed);
        atomic_store_explicit(&shared->ejected_at_us, now_us > 0 ? now_us : 1,
                              memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&cluster->shared->ejections, 1, memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&cluster->shared->version.value, 1, memory_order_release);
    }
    atomic_flag_clear_explicit(&cluster->shared->ejecting, memory_order_release);
    return done;
}

/* ---- one attempt's end ---- */

enum judgement { JUDGE_IGNORE, JUDGE_SUCCESS, JUDGE_5XX, JUDGE_GATEWAY, JUDGE_LOCAL };

/* An answer speaks for itself. No answer counts as one of 5xx, unless it says nothing of the
 * endpoint: our own limits, the client's doing, an idle connection that was closed under us. */
static enum judgement judge(const struct outlier_event *event)
{
    switch (fail_cause(event->fail)) {
    case FAIL_CAUSE_NONE:
        if (event->status >= 502 && event->status <= 504) {
            return JUDGE_GATEWAY;
        }
        return event->status >= 500 ? JUDGE_5XX : JUDGE_SUCCESS;
    case FAIL_CAUSE_CONNECT:
    case FAIL_CAUSE_REFUSED:
    case FAIL_CAUSE_RESET:
    case FAIL_CAUSE_TRY_TIMEOUT:
    case FAIL_CAUSE_BAD_ANSWER:
        return JUDGE_LOCAL;
    case FAIL_CAUSE_DEADLINE:
        return event->fail == FAIL_ROUTE_TIMEOUT ? JUDGE_LOCAL : JUDGE_IGNORE;
    case FAIL_CAUSE_LOCAL:
    case FAIL_CAUSE_UNSENT:
    case FAIL_CAUSE_CLIENT:
        return JUDGE_IGNORE;
    }
    return JUDGE_IGNORE;
}

static uint32_t count_up(atomic_uint *count)
{
    return 1 + atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

static void clear(atomic_uint *count)
{
    if (atomic_load_explicit(count, memory_order_relaxed) != 0) {
        atomic_store_explicit(count, 0, memory_order_relaxed);
    }
}

static bool enforced(uint8_t percent, uint64_t draw)
{
    return draw % 100 < percent;
}

/* Counts in a row, and the detector that has enough of it; a limit of 0 is off. */
static enum outlier_cause count_failure(const struct outlier_config *config,
                                        struct shared_endpoint *shared, enum judgement judgement,
                                        uint64_t draw)
{
    if (judgement == JUDGE_LOCAL && config->split_local) {
        uint32_t local = count_up(&shared->consecutive_local);
        bool enough = config->consecutive_local > 0 && local >= config->consecutive_local;
        return enough && enforced(config->enforce_local, draw) ? OUTLIER_CONSECUTIVE_LOCAL
                                                               : OUTLIER_NONE;
    }
    clear(&shared->consecutive_local);
    uint32_t failures = count_up(&shared->consecutive_5xx);
    uint32_t gateway = 0;
    if (judgement == JUDGE_5XX) {
        clear(&shared->consecutive_gateway);
    } else {
        gateway = count_up(&shared->consecutive_gateway);
    }
    if (config->consecutive_gateway > 0 && gateway >= config->consecutive_gateway &&
        enforced(config->enforce_gateway, draw)) {
        return OUTLIER_CONSECUTIVE_GATEWAY;
    }
    if (config->consecutive_5xx > 0 && failures >= config->consecutive_5xx &&
        enforced(config->enforce_5xx, draw)) {
        return OUTLIER_CONSECUTIVE_5XX;
    }
    return OUTLIER_NONE;
}

static void forget_failures(struct shared_endpoint *shared)
{
    clear(&shared->consecutive_5xx);
    clear(&shared->consecutive_gateway);
    clear(&shared->consecutive_local);
}

enum outlier_cause outlier_report(struct cluster *cluster, struct endpoint *endpoint,
                                  const struct outlier_event *event, uint64_t now_us, uint64_t draw)
{
    enum judgement judgement = judge(event);
    if (!cluster->config->has_outlier || judgement == JUDGE_IGNORE) {
        return OUTLIER_NONE;
    }
    struct shared_endpoint *shared = endpoint->shared;
    (void)count_up(&shared->interval_total);
    if (judgement == JUDGE_SUCCESS) {
        (void)count_up(&shared->interval_success);
        forget_failures(shared);
        return OUTLIER_NONE;
    }
    enum outlier_cause cause = count_failure(&cluster->config->outlier, shared, judgement, draw);
    if (cause == OUTLIER_NONE || !eject(cluster, endpoint, now_us)) {
        return OUTLIER_NONE;
    }
    forget_failures(shared);
    return cause;
}

/* ---- the turn of an interval ---- */

uint64_t outlier_next_us(const struct cluster *cluster)
{
    if (!cluster->config->has_outlier) {
        return 0;
    }
    return atomic_load_explicit(&cluster->shared->next_sweep_us, memory_order_relaxed);
}

/* One worker of all wins the interval. The first call only starts the clock, and so does the first
 * after a change that made the interval shorter than what is left of it. */
static bool take_interval(struct cluster *cluster, uint64_t now_us)
{
    uint64_t due = atomic_load_explicit(&cluster->shared->next_sweep_us, memory_order_relaxed);
    uint64_t next = now_us + cluster->config->outlier.interval_us;
    bool start = due == 0 || due > next;
    if (now_us < due && !start) {
        return false;
    }
    return atomic_compare_exchange_strong_explicit(&cluster->shared->next_sweep_us, &due, next,
                                                   memory_order_relaxed, memory_order_relaxed) &&
           !start;
}

static bool let_back(struct cluster *cluster, struct endpoint *endpoint, uint64_t now_us)
{
    struct shared_endpoint *shared = endpoint->shared;
    uint64_t since = atomic_load_explicit(&shared->ejected_at_us, memory_order_relaxed);
    uint32_t times = atomic_load_explicit(&shared->times_ejected, memory_order_relaxed);
    if (since == 0) {
        if (times > 0) {
            atomic_store_explicit(&shared->times_ejected, times - 1, memory_order_relaxed);
        }
        return false;
    }
    /* By the policy of now: a shorter time that was written since holds for who is out already. */
    if (now_us - since < outlier_ejection_us(&cluster->config->outlier, times) || MUTANT(4)) {
        return false;
    }
    forget_failures(shared);
    atomic_store_explicit(&shared->ejected_at_us, 0, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&cluster->shared->version.value, 1, memory_order_release);
    return true;
}

struct rates {
    double mean;
    double deviation;
    uint32_t judged; /* endpoints with enough requests */
};

/* Percent of successes; below 0: too few requests to say. */
static double success_percent(const struct endpoint *endpoint, uint32_t volume)
{
    uint32_t total = atomic_load_explicit(&endpoint->shared->interval_total, memory_order_relaxed);
    uint32_t success =
        atomic_load_explicit(&endpoint->shared->interval_success, memory_order_relaxed);
    if (total == 0 || total < volume || endpoint_ejected(endpoint)) {
        return -1;
    }
    return 100.0 * (success < total ? success : total) / total;
}

static struct rates rates_of(const struct cluster *cluster, uint32_t volume)
{
    struct rates rates = {0, 0, 0};
    double squares = 0;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        double percent = success_percent(cluster->endpoints[i], volume);
        if (percent >= 0) {
            rates.judged++;
            rates.mean += percent;
            squares += percent * percent;
        }
    }
    if (rates.judged > 0) {
        rates.mean /= rates.judged;
        double variance = squares / rates.judged - rates.mean * rates.mean;
        rates.deviation = variance > 0 ? sqrt(variance) : 0;
    }
    return rates;
}

/* Ejects whoever's share of successes is below `least`. */
static uint32_t eject_below(struct cluster *cluster, uint32_t volume, double least, bool equal_too,
                            uint8_t enforce, uint64_t now_us, uint64_t draw)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        struct endpoint *endpoint = cluster->endpoints[i];
        double percent = success_percent(endpoint, volume);
        bool low = percent >= 0 && (percent < least || (equal_too && percent <= least));
        if (low && enforced(enforce, draw + i * UINT64_C(0x9e3779b97f4a7c15))) {
            count += eject(cluster, endpoint, now_us);
        }
    }
    return count;
}

/* Envoy outlier.rst: success rate, and failure percentage. */
static uint32_t eject_by_rates(struct cluster *cluster, uint64_t now_us, uint64_t draw)
{
    const struct outlier_config *config = &cluster->config->outlier;
    uint32_t count = 0;
    if (config->enforce_success_rate > 0) {
        struct rates rates = rates_of(cluster, config->success_rate_volume);
        if (rates.judged > 0 && rates.judged >= config->success_rate_hosts) {
            double least = rates.mean - rates.deviation * config->success_rate_factor / 1000.0;
            count += eject_below(cluster, config->success_rate_volume, least, false,
                                 config->enforce_success_rate, now_us, draw);
        }
    }
    if (config->enforce_failure_percentage > 0) {
        struct rates rates = rates_of(cluster, config->failure_percentage_volume);
        if (rates.judged > 0 && rates.judged >= config->failure_percentage_hosts) {
            count += eject_below(cluster, config->failure_percentage_volume,
                                 100.0 - config->failure_percentage, true,
                                 config->enforce_failure_percentage, now_us, draw);
        }
    }
    return count;
}

struct outlier_swept outlier_sweep(struct cluster *cluster, uint64_t now_us, uint64_t draw)
{
    struct outlier_swept swept = {0, 0};
    if (!cluster->config->has_outlier || !take_interval(cluster, now_us)) {
        return swept;
    }
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        swept.returned += let_back(cluster, cluster->endpoints[i], now_us);
    }
    swept.ejected = eject_by_rates(cluster, now_us, draw);
    for (uint32_t i = 0; i < cluster->endpoint_count; i++) {
        clear(&cluster->endpoints[i]->shared->interval_total);
        clear(&cluster->endpoints[i]->shared->interval_success);
    }
    return swept;
}
