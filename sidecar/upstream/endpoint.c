#include "sidecar/upstream/endpoint.h"

#include "base/alloc.h"
#include "sidecar/observe/stats.h"
#include "sidecar/upstream/cluster.h"

/* All texts and labels of one endpoint lie in one block, which config.labels points to. */

static size_t text_bytes(const struct endpoint_config *config)
{
    size_t bytes =
        config->hostname.len + config->identity.len + config->uid.len + config->workload.len;
    for (unsigned i = 0; i < config->label_count; i++) {
        bytes += config->labels[i].key.len + config->labels[i].value.len;
    }
    return bytes;
}

static struct slice keep(uint8_t **at, struct slice text)
{
    struct slice kept = slice_of(*at, text.len);
    if (text.len > 0) {
        memcpy(*at, text.at, text.len);
        *at += text.len;
    }
    return kept;
}

static struct endpoint_config copy_config(const struct endpoint_config *config,
                                          struct label **block)
{
    struct endpoint_config copy = *config;
    size_t label_bytes = sizeof(struct label) * config->label_count;
    *block = mem_new(label_bytes + text_bytes(config) + 1);
    uint8_t *at = (uint8_t *)*block + label_bytes;
    copy.hostname = keep(&at, config->hostname);
    copy.identity = keep(&at, config->identity);
    copy.uid = keep(&at, config->uid);
    copy.workload = keep(&at, config->workload);
    for (unsigned i = 0; i < config->label_count; i++) {
        (*block)[i].key = keep(&at, config->labels[i].key);
        (*block)[i].value = keep(&at, config->labels[i].value);
    }
    copy.labels = *block;
    return copy;
}

/* Who drains is gone by then, or it is another under the same address that nobody has asked yet. */
#define WORD_HOLDS_US UINT64_C(35000000)

static void set_word(struct endpoint *endpoint, bool draining, bool overloaded)
{
    bool changed = endpoint->peer_shy != (draining || overloaded);
    endpoint->peer_shy = draining || overloaded;
    endpoint->peer_overloaded = overloaded;
    if (changed && endpoint->cluster != NULL) {
        cluster_touch(endpoint->cluster);
    }
}

static void forget_word(struct task *task)
{
    struct endpoint *endpoint = CONTAINER_OF(task, struct endpoint, peer_task);
    timer_clear(&endpoint->peer_timer);
    set_word(endpoint, false, false);
}

struct endpoint *endpoint_new(struct cluster *cluster, const struct endpoint_config *config,
                              struct shared_endpoint **shared, uint64_t now_us)
{
    CHECK(*shared != NULL);
    struct endpoint *endpoint = NEW(struct endpoint);
    endpoint->cluster = cluster;
    endpoint->config = copy_config(config, &endpoint->block);
    endpoint->stats_hash = stats_hash_endpoint(&endpoint->config);
    endpoint->shared = *shared;
    endpoint->references = 1;
    endpoint->peer_task.run = forget_word;
    endpoint->peer_timer.task = &endpoint->peer_task;
    endpoint->listed = true;
    endpoint->listed_at_us = now_us;
    endpoint->last_used_us = now_us;
    *shared = NULL;
    return endpoint;
}

void endpoint_apply(struct endpoint *endpoint, const struct endpoint_config *config)
{
    CHECK(addr_eq(&endpoint->config.addr, &config->addr));
    struct label *old = endpoint->block;
    endpoint->config = copy_config(config, &endpoint->block);
    endpoint->stats_hash = stats_hash_endpoint(&endpoint->config);
    mem_free(old);
}

void endpoint_take_word(struct endpoint *endpoint, struct loop *loop, bool draining,
                        bool overloaded)
{
    set_word(endpoint, draining, overloaded);
    if (draining || overloaded) {
        timer_set(loop, &endpoint->peer_timer, loop->now_us + WORD_HOLDS_US);
    } else {
        timer_clear(&endpoint->peer_timer);
    }
}

void endpoint_ref(struct endpoint *endpoint)
{
    CHECK(endpoint->references > 0);
    endpoint->references++;
}

void endpoint_unref(struct endpoint **endpoint)
{
    struct endpoint *it = *endpoint;
    *endpoint = NULL;
    if (it == NULL) {
        return;
    }
    CHECK(it->references > 0);
    if (--it->references > 0) {
        return;
    }
    CHECK(!it->listed);
    CHECK(it->pool == NULL);
    timer_clear(&it->peer_timer);
    task_cancel(&it->peer_task);
    shared_endpoint_unref(&it->shared);
    mem_free(it->block);
    mem_free(it);
}
