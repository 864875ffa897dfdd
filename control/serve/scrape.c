#include "control/serve/scrape.h"

#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/rng.h"

#define SERIES_MAX 20000U

#define PLAIN_FAMILIES(X)                                                                          \
    X(GENERATION, "pillion_control_generation", GAUGE, "Newest generation of the mesh's objects.") \
    X(OBJECTS, "pillion_control_objects", GAUGE, "Objects in force.")                              \
    X(CLIENTS, "pillion_control_clients", GAUGE, "Open xDS streams.")                              \
    X(OPENED, "pillion_control_streams_total", COUNTER, "xDS streams that were opened.")           \
    X(REFUSED, "pillion_control_refused_streams_total", COUNTER,                                   \
      "xDS streams refused for their credentials or their node.")                                  \
    X(PUSHES, "pillion_control_pushes_total", COUNTER, "xDS responses sent.")                      \
    X(REJECTED, "pillion_control_rejected_pushes_total", COUNTER,                                  \
      "xDS responses that a client rejected.")                                                     \
    X(ISSUED, "pillion_control_certificates_issued_total", COUNTER, "Certificates signed.")        \
    X(UNISSUED, "pillion_control_certificates_refused_total", COUNTER,                             \
      "Requests for a certificate that were refused.")                                             \
    X(UNSAVED, "pillion_control_state_unsaved", GAUGE,                                             \
      "1 while what is in force could not be saved to the state folder.")                          \
    X(LOG_DROPPED, "pillion_control_log_dropped_total", COUNTER,                                   \
      "Log lines that their reader did not take.")                                                 \
    X(MEMORY, "pillion_control_memory_bytes", GAUGE, "Memory allocated now.")

enum family {
#define X(value, name, kind, help) FAMILY_##value,
    PLAIN_FAMILIES(X)
#undef X
        PLAIN_FAMILY_COUNT,
    FAMILY_FILE_REJECTED = PLAIN_FAMILY_COUNT,
    FAMILY_COUNT
};

static const char *const file_labels[] = {"file", NULL};

static const struct metric_family families[] = {
#define X(value, family_name, family_kind, family_help)                                            \
    [FAMILY_##value] = {.name = (family_name), .kind = METRIC_##family_kind, .help = (family_help)},
    PLAIN_FAMILIES(X)
#undef X
        [FAMILY_FILE_REJECTED] = {.name = "pillion_control_file_rejected",
                                  .kind = METRIC_GAUGE,
                                  .help = "Errors in a file of the source; its last good objects "
                                          "stay in force.",
                                  .labels = file_labels},
};

struct file_errors {
    struct metric metric;
    int64_t errors;
};

struct scrape {
    struct metrics *metrics;
    struct metrics_shard *shard;
    struct metric plain[PLAIN_FAMILY_COUNT];
    uint64_t seen[PLAIN_FAMILY_COUNT]; /* counters: what was added already */
    struct map files;                  /* name -> struct file_errors; once bad, shown for good */
};

struct scrape *scrape_new(void)
{
    struct rng rng;
    rng_seed_from_system(&rng);
    struct scrape *scrape = NEW(struct scrape);
    scrape->metrics = metrics_new(families, FAMILY_COUNT, SERIES_MAX, rng_u64(&rng));
    scrape->shard = metrics_shard_new(scrape->metrics);
    for (unsigned i = 0; i < PLAIN_FAMILY_COUNT; i++) {
        scrape->plain[i] = metrics_resolve(scrape->metrics, i, NULL);
    }
    map_init(&scrape->files, 0, MAP_KEYS_COPIED);
    return scrape;
}

void scrape_free(struct scrape **scrape_at)
{
    struct scrape *scrape = *scrape_at;
    *scrape_at = NULL;
    if (scrape == NULL) {
        return;
    }
    MAP_EACH(&scrape->files, entry)
    {
        mem_free(entry->value);
    }
    map_fini(&scrape->files);
    metrics_free(&scrape->metrics);
    mem_free(scrape);
}

static void show(struct scrape *scrape, enum family family, uint64_t value)
{
    switch (families[family].kind) {
    case METRIC_COUNTER:
        metrics_add(scrape->shard, scrape->plain[family], value - scrape->seen[family]);
        scrape->seen[family] = value;
        break;
    case METRIC_GAUGE:
        metrics_set(scrape->shard, scrape->plain[family], (int64_t)value);
        break;
    case METRIC_HISTOGRAM:
        check_failed("no histogram here", __FILE__, __LINE__);
    }
}

static void files_show(struct scrape *scrape, const struct policy_problems *problems)
{
    MAP_EACH(&scrape->files, entry)
    {
        ((struct file_errors *)entry->value)->errors = 0;
    }
    for (size_t i = 0; i < problems->count; i++) {
        if (problems->at[i].severity != POLICY_SEVERITY_ERROR) {
            continue;
        }
        struct slice file = slice_of_text(problems->at[i].file);
        struct file_errors *errors = map_get(&scrape->files, file);
        if (errors == NULL) {
            errors = NEW(struct file_errors);
            errors->metric = metrics_resolve(scrape->metrics, FAMILY_FILE_REJECTED, &file);
            (void)map_set(&scrape->files, file, errors);
        }
        errors->errors++;
    }
    MAP_EACH(&scrape->files, entry)
    {
        const struct file_errors *errors = entry->value;
        metrics_set(scrape->shard, errors->metric, errors->errors);
    }
}

static void append(void *owner, struct slice text)
{
    buf_append(owner, text);
}

void scrape_write(struct scrape *scrape, const struct status_sources *sources, struct buf *out)
{
    const struct picture *picture = sources->picture;
    struct ads_counts ads = {0};
    struct ca_service_counts certificates = {0};
    if (sources->ads != NULL) {
        ads = ads_get_counts(sources->ads);
    }
    if (sources->certificates != NULL) {
        certificates = ca_service_get_counts(sources->certificates);
    }
    show(scrape, FAMILY_GENERATION, picture->set.generation);
    show(scrape, FAMILY_OBJECTS, picture->set.count);
    show(scrape, FAMILY_CLIENTS, ads.streams);
    show(scrape, FAMILY_OPENED, ads.opened);
    show(scrape, FAMILY_REFUSED, ads.refused);
    show(scrape, FAMILY_PUSHES, ads.pushes);
    show(scrape, FAMILY_REJECTED, ads.rejected);
    show(scrape, FAMILY_ISSUED, certificates.issued);
    show(scrape, FAMILY_UNISSUED, certificates.refused);
    show(scrape, FAMILY_UNSAVED, picture->save_failed);
    show(scrape, FAMILY_LOG_DROPPED, log_dropped());
    show(scrape, FAMILY_MEMORY, alloc_counts().live_bytes);
    files_show(scrape, &picture->problems);
    metrics_write(scrape->metrics, append, out);
}
