/* Three workers share one listening socket: each ends up with its share of connections, all of
 * which are served, also when workers end while connections are on their way. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "sidecar/accept/listener.h"
#include "sidecar/upstream/shared.h"
#include "sidecar/worker.h"
#include "tests/unit/sidecar/config_json.h"

#define WORKERS     3
#define CONNECTIONS 30

static const char config_text[] =
    "{'static_resources':{'listeners':[{'name':'l','address':{'socket_address':{'address':"
    "'127.0.0.1','port_value':0}},'filter_chains':[{'filters':[{'name':"
    "'envoy.filters.network.http_connection_manager','typed_config':{'@type':"
    "'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
    "HttpConnectionManager','stat_prefix':'t','route_config':{'name':'r','virtual_hosts':[{'name':"
    "'v','domains':['*'],'routes':[{'match':{'prefix':'/'},'direct_response':{'status':204}}]}]},"
    "'http_filters':[{'name':'envoy.filters.http.router','typed_config':{'@type':"
    "'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router'}}]}}]}]}]}}";

struct bed {
    struct worker_settings settings;
    struct shared_registry *registry;
    struct bootstrap *config;
    struct worker workers[WORKERS];
    struct worker *list[WORKERS];
    struct stop {
        struct mail mail;
    } stops[WORKERS];
    struct addr at;
};

static void deliver_stop(struct mail *mail, struct loop *loop)
{
    (void)mail;
    loop_stop(loop);
}

static void begin(struct bed *bed)
{
    struct error err = {.text = ""};
    json_t *json = config_json(config_text);
    bed->config = compile_bootstrap(json, NULL, &err);
    json_decref(json);
    if (bed->config == NULL) {
        fail_msg("%s", err.text);
    }
    worker_settings_init(&bed->settings);
    bed->registry = shared_registry_new();
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *worker = &bed->workers[i];
        bed->list[i] = worker;
        worker_init(worker, i, loop_new(), bed->registry, &bed->settings, i + 1);
        worker->siblings = bed->list;
        worker->sibling_count = WORKERS;
        bed->stops[i].mail.deliver = deliver_stop;
    }
    const struct addr any = addr_ipv4(127, 0, 0, 1, 0);
    struct net_listener *first = net_listen(bed->workers[0].loop, &any, 64, &err);
    assert_non_null(first);
    first->ops->local(first, &bed->at);
    for (unsigned i = 1; i < WORKERS; i++) {
        struct net_listener *other = first->ops->share(first, bed->workers[i].loop);
        (void)listener_new(&bed->workers[i], &bed->config->listeners[0], &other);
    }
    (void)listener_new(&bed->workers[0], &bed->config->listeners[0], &first);
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_start(&bed->workers[i]);
    }
}

static void end(struct bed *bed)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        loop_send(bed->workers[i].loop, &bed->stops[i].mail);
        worker_join(&bed->workers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        loop_drain(bed->workers[i].loop);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        loop_free(&bed->workers[i].loop);
    }
    shared_registry_free(&bed->registry);
    snapshot_free(&bed->config->owner);
}

static int open_connection(const struct bed *bed)
{
    struct sockaddr_storage name;
    socklen_t len = addr_to_socket(&bed->at, &name);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, len), 0);
    return fd;
}

static void ask(int fd)
{
    static const char request[] = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    char answer[512];
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    ssize_t len = recv(fd, answer, sizeof answer, 0);
    assert_true(len > 12);
    assert_memory_equal(answer, "HTTP/1.1 204", 12);
}

static void test_each_gets_its_share(void **state)
{
    (void)state;
    struct bed bed = {.config = NULL};
    int fds[CONNECTIONS];
    begin(&bed);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        fds[i] = open_connection(&bed);
        ask(fds[i]); /* it is counted where it is served */
    }
    uint32_t sum = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        uint32_t load = worker_get_load(&bed.workers[i]);
        sum += load;
        assert_in_range(load, CONNECTIONS / WORKERS - 2, CONNECTIONS / WORKERS + 2);
    }
    assert_int_equal(sum, CONNECTIONS);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        ask(fds[i]);
        (void)close(fds[i]);
    }
    end(&bed);
}

static void test_an_end_loses_no_memory(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 10; round++) {
        struct bed bed = {.config = NULL};
        int fds[CONNECTIONS];
        begin(&bed);
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            fds[i] = open_connection(&bed);
        }
        end(&bed);
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            (void)close(fds[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_gets_its_share),
        cmocka_unit_test(test_an_end_loses_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
