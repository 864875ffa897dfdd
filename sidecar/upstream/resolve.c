/* c-ares says which of its sockets it wants to hear of; each becomes a watch of the loop, and all
 * of them post one task. The answer of a question may come within the question itself (the hosts
 * file), so it is always the owner's task that looks at it. A job outlives its query when that
 * leaves early: c-ares cannot take back one question of several. */
#include "sidecar/upstream/resolve.h"

#include <ares.h>
#include <netdb.h>
#include <string.h>

#include "base/alloc.h"

#define TRY_MS        2000
#define TRIES         3
#define ADDRESSES_MAX 256U

struct resolver {
    struct loop *loop;
    ares_channel channel;
    struct list watches; /* struct watch */
    struct task task;
    struct timer timer;
    bool closing;
};

struct watch {
    struct list link;
    struct loop_watch *watch;
    ares_socket_t fd;
};

struct resolve_job {
    struct resolver *resolver;
    struct resolve_query *query; /* null: it has left */
};

/* ---- sockets ---- */

static struct watch *find_watch(const struct resolver *resolver, ares_socket_t fd)
{
    LIST_EACH(&resolver->watches, node)
    {
        struct watch *watch = LIST_ITEM(node, struct watch, link);
        if (watch->fd == fd) {
            return watch;
        }
    }
    return NULL;
}

static void drop_watch(struct watch *watch)
{
    list_remove(&watch->link);
    loop_watch_free(&watch->watch);
    mem_free(watch);
}

/* c-ares wants to hear of other things of the socket, or is about to close it. */
static void on_socket(void *of, ares_socket_t fd, int readable, int writable)
{
    struct resolver *resolver = of;
    struct watch *watch = find_watch(resolver, fd);
    unsigned wanted = (readable != 0 ? NET_READ : 0U) | (writable != 0 ? NET_WRITE : 0U);
    if (watch != NULL) {
        drop_watch(watch);
    }
    if (wanted != 0) {
        watch = NEW(struct watch);
        watch->fd = fd;
        watch->watch = loop_watch_new(resolver->loop, fd, wanted, &resolver->task);
        list_append(&resolver->watches, &watch->link);
    }
}

/* A socket that something happened on, once per event; false: none. What is done about it may end
 * any watch, so the walk begins anew each time. */
static bool next_event(const struct resolver *resolver, ares_socket_t *fd, unsigned *events)
{
    LIST_EACH(&resolver->watches, node)
    {
        const struct watch *watch = LIST_ITEM(node, struct watch, link);
        *fd = watch->fd;
        *events = loop_watch_ready(watch->watch);
        if (*events != 0) {
            return true;
        }
    }
    return false;
}

/* c-ares measures its own time limits; it is asked when it wants to look at them. */
static void arm(struct resolver *resolver)
{
    struct timeval left;
    if (ares_timeout(resolver->channel, NULL, &left) == NULL) {
        timer_clear(&resolver->timer);
        return;
    }
    uint64_t us = (uint64_t)left.tv_sec * 1000000 + (uint64_t)left.tv_usec;
    timer_set(resolver->loop, &resolver->timer, resolver->loop->now_us + us + 1000);
}

static void run(struct task *task)
{
    struct resolver *resolver = CONTAINER_OF(task, struct resolver, task);
    ares_socket_t fd;
    unsigned events;
    while (next_event(resolver, &fd, &events)) {
        ares_process_fd(resolver->channel, (events & NET_READ) != 0 ? fd : ARES_SOCKET_BAD,
                        (events & NET_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
    }
    if (timer_due(&resolver->timer, resolver->loop)) {
        ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
    arm(resolver);
}

/* ---- answers ---- */

static void drop_answer(struct resolve_query *query)
{
    mem_free(query->answer.addrs);
    query->answer = (struct resolve_answer){.outcome = RESOLVE_FAILED};
    query->state = RESOLVE_IDLE;
}

static void take_addresses(const struct ares_addrinfo *found, struct resolve_answer *answer)
{
    uint32_t count = 0;
    for (const struct ares_addrinfo_node *node = found->nodes; node != NULL; node = node->ai_next) {
        count++;
    }
    count = count < ADDRESSES_MAX ? count : ADDRESSES_MAX;
    answer->addrs = NEW_ARRAY(struct addr, count);
    for (const struct ares_addrinfo_node *node = found->nodes;
         node != NULL && answer->count < count; node = node->ai_next) {
        struct sockaddr_storage socket = {.ss_family = AF_UNSPEC};
        if (node->ai_addrlen <= sizeof socket) {
            memcpy(&socket, node->ai_addr, node->ai_addrlen);
        }
        struct addr addr = addr_from_socket(&socket);
        uint32_t ttl_s = node->ai_ttl > 0 ? (uint32_t)node->ai_ttl : 0;
        if (addr.family != ADDR_NONE) {
            answer->addrs[answer->count++] = addr;
            answer->ttl_s = answer->ttl_s == 0 || ttl_s < answer->ttl_s ? ttl_s : answer->ttl_s;
        }
    }
    answer->outcome = answer->count > 0 ? RESOLVE_FOUND : RESOLVE_NONE;
}

static void on_answer(void *of, int status, int timeouts, struct ares_addrinfo *found)
{
    struct resolve_job *job = of;
    struct resolve_query *query = job->query;
    (void)timeouts;
    if (query != NULL) {
        struct resolve_answer *answer = &query->answer;
        query->job = NULL;
        query->state = RESOLVE_ANSWERED;
        answer->why = ares_strerror(status);
        if (status == ARES_SUCCESS) {
            take_addresses(found, answer);
        } else if (status == ARES_ENODATA || status == ARES_ENOTFOUND) {
            answer->outcome = RESOLVE_NONE;
        }
        if (!job->resolver->closing) {
            loop_post(job->resolver->loop, query->task);
        }
    }
    if (found != NULL) {
        ares_freeaddrinfo(found);
    }
    mem_free(job);
}

void resolver_ask(struct resolver *resolver, struct resolve_query *query, const char *name,
                  enum resolve_families families)
{
    static const int of[] = {
        [RESOLVE_BOTH] = AF_UNSPEC, [RESOLVE_V4] = AF_INET, [RESOLVE_V6] = AF_INET6};
    CHECK(query->state != RESOLVE_ASKED);
    CHECK((size_t)families < COUNT_OF(of));
    drop_answer(query);
    struct ares_addrinfo_hints hints = {.ai_family = of[families], .ai_flags = ARES_AI_NOSORT};
    struct resolve_job *job = NEW(struct resolve_job);
    *job = (struct resolve_job){.resolver = resolver, .query = query};
    query->job = job;
    query->state = RESOLVE_ASKED;
    ares_getaddrinfo(resolver->channel, name, NULL, &hints, on_answer, job);
    arm(resolver);
}

void resolve_query_fini(struct resolve_query *query)
{
    if (query->job != NULL) {
        query->job->query = NULL;
        query->job = NULL;
    }
    drop_answer(query);
}

/* ---- life ---- */

struct resolver *resolver_new(struct loop *loop, const char *servers, struct error *err)
{
    CHECK(ares_library_init_mem(ARES_LIB_INIT_ALL, alloc_for_library, alloc_free_for_library,
                                alloc_resize_for_library) == ARES_SUCCESS);
    struct resolver *resolver = NEW(struct resolver);
    resolver->loop = loop;
    list_init(&resolver->watches);
    resolver->task.run = run;
    resolver->timer.task = &resolver->task;
    struct ares_options options = {.timeout = TRY_MS,
                                   .tries = TRIES,
                                   .sock_state_cb = on_socket,
                                   .sock_state_cb_data = resolver};
    int status = ares_init_options(&resolver->channel, &options,
                                   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (status == ARES_SUCCESS && servers != NULL) {
        status = ares_set_servers_ports_csv(resolver->channel, servers);
    }
    if (status != ARES_SUCCESS) {
        (void)error_set(err, "%s: %s", servers != NULL ? servers : "/etc/resolv.conf",
                        ares_strerror(status));
        resolver_free(&resolver);
    }
    return resolver;
}

void resolver_free(struct resolver **resolver)
{
    struct resolver *it = *resolver;
    *resolver = NULL;
    if (it == NULL) {
        return;
    }
    it->closing = true;
    if (it->channel != NULL) {
        ares_destroy(it->channel); /* ends what is under way */
    }
    ares_library_cleanup();
    CHECK(list_empty(&it->watches));
    timer_clear(&it->timer);
    task_cancel(&it->task);
    mem_free(it);
}
