/* From a request to its route and cluster, over tables compiled from what a control plane sends. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/regex.h"
#include "sidecar/route/chain.h"
#include "sidecar/route/router.h"
#include "tests/unit/sidecar/config_json.h"

#include <cmocka.h>

#define FIELDS_MAX 8

struct request {
    struct message message;
    struct header fields[FIELDS_MAX];
};

static void request_init(struct request *request, const char *method, const char *authority,
                         const char *path)
{
    *request = (struct request){.message = {.kind = MESSAGE_REQUEST,
                                            .method = slice_of_text(method),
                                            .authority = slice_of_text(authority),
                                            .path = slice_of_text(path),
                                            .scheme = SLICE("http"),
                                            .content_length = MESSAGE_LENGTH_UNKNOWN}};
    request->message.headers.field = request->fields;
    request->message.headers.capacity = FIELDS_MAX;
}

static void add(struct request *request, const char *name, const char *value)
{
    struct header *field = &request->fields[request->message.headers.count++];
    *field = (struct header){.name = slice_of_text(name), .value = slice_of_text(value)};
    field->id = (uint8_t)header_id_of(field->name);
}

static struct matcher new_matcher(void)
{
    return (struct matcher){.scratch = regex_scratch_new()};
}

/* The name of the route that takes the request; "" for none. */
static const char *route_of(const struct compiled *table, const struct request *request)
{
    static char name[64];
    struct matcher matcher = new_matcher();
    struct route_found found;
    enum fail fail = router_find(table->routes, &request->message, &matcher, 0, &found);
    regex_scratch_free(&matcher.scratch);
    assert_int_equal(fail, found.route != NULL ? FAIL_NONE : FAIL_NO_ROUTE);
    struct slice shown = found.route != NULL ? found.route->name : SLICE("");
    (void)snprintf(name, sizeof(name), "%.*s", SLICE_ARG(shown));
    return name;
}

static const char *get(const struct compiled *table, const char *authority, const char *path)
{
    struct request request;
    request_init(&request, "GET", authority, path);
    return route_of(table, &request);
}

#define HOST(name, domains)                                                                        \
    "{'name':'" name "','domains':[" domains "],'routes':[{'name':'" name                          \
    "','match':{'prefix':'/'},'route':{'cluster':'c'}}]}"

/* The JSON is laid out by hand. */
/* clang-format off */

static void domains_have_envoys_precedence(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        "{'name':'t','virtual_hosts':[" HOST("any", "'*'") ","
        HOST("exact", "'A.example.com'") ","
        HOST("short", "'*.com'") ","
        HOST("long", "'*.example.com'") ","
        HOST("dash", "'*-x.example.com'") ","
        HOST("prefix", "'a.*'") "]}");
    assert_string_equal(get(&table, "a.example.com", "/"), "exact");
    assert_string_equal(get(&table, "a.EXAMPLE.com", "/"), "exact");
    assert_string_equal(get(&table, "b.example.com", "/"), "long");
    assert_string_equal(get(&table, "b-x.example.com", "/"), "dash");
    assert_string_equal(get(&table, "-x.example.com", "/"), "long");
    assert_string_equal(get(&table, ".example.com", "/"), "short");
    assert_string_equal(get(&table, "a.org", "/"), "prefix");
    assert_string_equal(get(&table, "a.", "/"), "any");
    assert_string_equal(get(&table, "a.com", "/"), "short");
    assert_string_equal(get(&table, "other", "/"), "any");
    assert_string_equal(get(&table, "", "/"), "any");
    compiled_free(&table);
}

static void the_port_counts_unless_told(void **state)
{
    (void)state;
    struct compiled strict =
        config_good(XDS_RESOURCE_ROUTES, "t",
                    "{'name':'t','virtual_hosts':[" HOST("a", "'a'") ","
        HOST("b", "'b:80'") "]}");
    assert_string_equal(get(&strict, "a", "/"), "a");
    assert_string_equal(get(&strict, "a:80", "/"), "");
    assert_string_equal(get(&strict, "b:80", "/"), "b");
    compiled_free(&strict);
    struct compiled loose =
        config_good(XDS_RESOURCE_ROUTES, "t",
                    "{'name':'t','ignore_port_in_host_matching':true,'virtual_hosts':[" HOST(
                        "a", "'a'") ","
        HOST("v6", "'[::1]'") "]}");
    assert_string_equal(get(&loose, "a:8080", "/"), "a");
    assert_string_equal(get(&loose, "a", "/"), "a");
    assert_string_equal(get(&loose, "[::1]:8080", "/"), "v6");
    assert_string_equal(get(&loose, "[::1]", "/"), "v6");
    compiled_free(&loose);
}

#define ROUTE(name, match) "{'name':'" name "','match':{" match "},'route':{'cluster':'c'}}"
#define TABLE(routes)                                                                              \
    "{'name':'t','virtual_hosts':[{'name':'v','domains':['*'],'routes':[" routes "]}]}"

static void paths_match_as_written(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        TABLE(ROUTE("exact", "'path':'/exact'") ","
        ROUTE("fold", "'path':'/"
            "Fold','case_sensitive':"
            "false") ","
        ROUTE("segment", "'path_separated_prefix':'/seg'") ","
        ROUTE("regex", "'safe_regex':{'regex':'"
            "/"
            "r[0-9]+'}") ","
        ROUTE("prefix", "'prefix"
            "':'/"
            "p'")));
    static const struct {
        const char *path;
        const char *route;
    } rows[] = {
        {"/exact", "exact"},
        {"/exact?a=b", "exact"},
        {"/exact/", ""},
        {"/Exact", ""},
        {"/fOLD", "fold"},
        {"/seg", "segment"},
        {"/seg/", "segment"},
        {"/seg?x", "segment"},
        {"/seg/a", "segment"},
        {"/segment", ""},
        {"/r12", "regex"},
        {"/r12?q", "regex"},
        {"/r12/x", ""},
        {"/xr1", ""},
        {"/p", "prefix"},
        {"/pqr", "prefix"},
        {"/P", ""},
        {"*", ""},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_string_equal(get(&table, "h", rows[i].path), rows[i].route);
    }
    compiled_free(&table);
}

static void connect_needs_its_own_matcher(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        TABLE(ROUTE("tunnel", "'connect_matcher':{}") ","
        ROUTE("rest", "'prefix':'/'")));
    struct request request;
    request_init(&request, "CONNECT", "h:80", "");
    request.message.connect = true;
    assert_string_equal(route_of(&table, &request), "tunnel");
    request_init(&request, "CONNECT", "h:80", "/chat");
    request.message.protocol = SLICE("websocket");
    assert_string_equal(route_of(&table, &request), "rest");
    compiled_free(&table);
}

static void header_matches(void **state)
{
    (void)state;
    static const struct {
        const char *match;
        const char *value; /* of x-h; null: absent */
        bool fits;
    } rows[] = {
        {"'name':'x-h'", "a", true},
        {"'name':'x-h'", NULL, false},
        {"'name':'x-h','present_match':false", NULL, true},
        {"'name':'x-h','present_match':false", "a", false},
        {"'name':'x-h','present_match':true,'invert_match':true", NULL, true},
        {"'name':'x-h','present_match':true,'invert_match':true", "a", false},
        {"'name':'X-H','string_match':{'exact':'a'}", "a", true},
        {"'name':'x-h','string_match':{'exact':'a'}", "A", false},
        {"'name':'x-h','string_match':{'exact':'a','ignore_case':true}", "A", true},
        {"'name':'x-h','string_match':{'prefix':'ab'}", "abc", true},
        {"'name':'x-h','string_match':{'suffix':'BC','ignore_case':true}", "abc", true},
        {"'name':'x-h','string_match':{'suffix':'abcd'}", "bcd", false},
        {"'name':'x-h','string_match':{'contains':'B','ignore_case':true}", "abc", true},
        {"'name':'x-h','string_match':{'contains':'d'}", "abc", false},
        {"'name':'x-h','string_match':{'safe_regex':{'regex':'[0-9]{2}'}}", "12", true},
        {"'name':'x-h','string_match':{'safe_regex':{'regex':'[0-9]{2}'}}", "123", false},
        {"'name':'x-h','exact_match':'a'", "a", true},
        {"'name':'x-h','prefix_match':'a'", "ab", true},
        {"'name':'x-h','range_match':{'start':'-5','end':'5'}", "-5", true},
        {"'name':'x-h','range_match':{'start':'-5','end':'5'}", "5", false},
        {"'name':'x-h','range_match':{'start':'-5','end':'5'}", "four", false},
        {"'name':'x-h','string_match':{'exact':'a'},'invert_match':true", "b", true},
        {"'name':'x-h','string_match':{'exact':'a'},'invert_match':true", "a", false},
        {"'name':'x-h','string_match':{'exact':'a'},'invert_match':true", NULL, false},
        {"'name':'x-h','string_match':{'exact':'a'},'invert_match':true,"
         "'treat_missing_header_as_empty':true",
         NULL, true},
        {"'name':'x-h','string_match':{'exact':''},'treat_missing_header_as_empty':true", NULL,
         true},
        {"'name':':method','string_match':{'exact':'GET'}", NULL, true},
        {"'name':':method','string_match':{'exact':'POST'}", NULL, false},
        {"'name':':path','string_match':{'exact':'/?a=1'}", NULL, true},
        {"'name':':authority','string_match':{'exact':'h'}", NULL, true},
        {"'name':'Host','string_match':{'exact':'h'}", NULL, true},
        {"'name':':scheme','string_match':{'exact':'https'}", NULL, false},
        {"'name':'content-length','range_match':{'start':'1','end':'9'}", NULL, true},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arena arena;
        arena_init(&arena, NULL);
        char *text = arena_printf(&arena, TABLE(ROUTE("hit", "'prefix':'/','headers':[{%s}]")),
                                  rows[i].match);
        struct compiled table = config_good(XDS_RESOURCE_ROUTES, "t", text);
        struct request request;
        request_init(&request, "GET", "h", "/?a=1");
        request.message.content_length = 5;
        add(&request, "x-other", "zzz");
        if (rows[i].value != NULL) {
            add(&request, "X-h", rows[i].value);
        }
        if ((route_of(&table, &request)[0] != '\0') != rows[i].fits) {
            fail_msg("row %zu: %s", i, rows[i].match);
        }
        compiled_free(&table);
        arena_fini(&arena);
    }
}

static void repeated_lines_match_one_by_one(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        TABLE(ROUTE("no", "'prefix':'/','headers':[{'name':'x','string_match':{'exact':'b'},"
                    "'invert_match':true}]") ","
        ROUTE("yes", "'prefix':'/','headers':[{'name':'x',"
            "'string_match':{'exact':'b'}}]")));
    struct request request;
    request_init(&request, "GET", "h", "/");
    add(&request, "x", "a");
    add(&request, "x", "b");
    assert_string_equal(route_of(&table, &request), "yes");
    request.fields[1].dropped = true;
    assert_string_equal(route_of(&table, &request), "no");
    compiled_free(&table);
}

static void query_and_grpc(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        TABLE(ROUTE("value", "'prefix':'/','query_parameters':[{'name':'v',"
                    "'string_match':{'exact':'a%20b'}}]") ","
        ROUTE("there", "'prefix':'/"
            "','query_parameters':"
            "[{'name':'p',"
            "'present_match':true}"
            "]") ","
        ROUTE("grpc", "'prefi"
            "x':'/"
            "','"
            "grpc':"
            "{}")));
    assert_string_equal(get(&table, "h", "/?v=a%20b"), "value");
    assert_string_equal(get(&table, "h", "/?x=1&v=a%20b&y"), "value");
    assert_string_equal(get(&table, "h", "/?v=a b"), "");
    assert_string_equal(get(&table, "h", "/?p"), "there");
    assert_string_equal(get(&table, "h", "/?p=3"), "there");
    assert_string_equal(get(&table, "h", "/?pp"), "");
    struct request request;
    request_init(&request, "POST", "h", "/s/m");
    add(&request, "content-type", "application/grpc+proto");
    assert_string_equal(route_of(&table, &request), "grpc");
    request.fields[0].value = SLICE("application/grpc-web");
    assert_string_equal(route_of(&table, &request), "");
    compiled_free(&table);
}

static void fractions_take_their_share(void **state)
{
    (void)state;
    struct compiled table = config_good(
        XDS_RESOURCE_ROUTES, "t",
        TABLE(ROUTE("some", "'prefix':'/','runtime_fraction':{'default_value':{'numerator':25,"
                            "'denominator':'HUNDRED'}}")));
    struct request request;
    request_init(&request, "GET", "h", "/");
    struct matcher matcher = new_matcher();
    unsigned hits = 0;
    for (uint64_t draw = 0; draw < 1000; draw++) {
        struct route_found found;
        hits += router_find(table.routes, &request.message, &matcher, draw, &found) == FAIL_NONE;
    }
    assert_int_equal(hits, 250);
    regex_scratch_free(&matcher.scratch);
    compiled_free(&table);
}

/* ---- weighted routes ---- */

#define SPLIT(route, v1, v2)                                                                       \
    "{'name':'" route "','match':{'prefix':'/'},'route':{'weighted_clusters':{'clusters':["        \
    "{'name':'v1','weight':" #v1 "},{'name':'v2','weight':" #v2 "}]}}}"

static unsigned picks_of_second(struct splits *splits, const struct compiled *table, unsigned count)
{
    unsigned second = 0;
    const struct route *route = &table->routes->hosts[0].routes[0];
    for (unsigned i = 0; i < count; i++) {
        int picked = splits_pick(splits, route);
        assert_in_range(picked, 0, 1);
        second += picked == 1;
    }
    return second;
}

static void splits_are_exact_and_survive_updates(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct compiled first = config_good(XDS_RESOURCE_ROUTES, "t", TABLE(SPLIT("r", 90, 10)));
        struct compiled second = config_good(XDS_RESOURCE_ROUTES, "t", TABLE(SPLIT("r", 50, 50)));
        struct compiled third = config_good(XDS_RESOURCE_ROUTES, "t", TABLE(SPLIT("r", 0, 100)));
        struct splits *splits = splits_new(first.routes, seed);
        assert_in_range(picks_of_second(splits, &first, 1000), 99, 101);
        /* Updates of the same weights every few requests lose nothing. */
        unsigned total = 0;
        for (unsigned i = 0; i < 100; i++) {
            splits_update(splits, first.routes, i);
            total += picks_of_second(splits, &first, 3);
        }
        assert_in_range(total, 29, 31);
        splits_update(splits, second.routes, seed);
        assert_in_range(picks_of_second(splits, &second, 100), 49, 51);
        splits_update(splits, third.routes, seed);
        assert_int_equal(picks_of_second(splits, &third, 10), 10);
        splits_free(&splits);
        compiled_free(&first);
        compiled_free(&second);
        compiled_free(&third);
    }
}

static void a_plain_route_needs_no_split(void **state)
{
    (void)state;
    struct compiled table =
        config_good(XDS_RESOURCE_ROUTES, "t", TABLE(ROUTE("plain", "'prefix':'/'")));
    struct splits *splits = splits_new(table.routes, 0);
    assert_int_equal(splits_pick(splits, &table.routes->hosts[0].routes[0]), 0);
    splits_free(&splits);
    compiled_free(&table);
}

/* ---- filter chains ---- */

#define TCP_FILTER                                                                                 \
    "'filters':[{'name':'tcp','typed_config':{'@type':'type.googleapis.com/"                       \
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy','stat_prefix':'s','cluster':'c'}}]"
#define CHAIN(name, match) "{'name':'" name "','filter_chain_match':{" match "}," TCP_FILTER "}"
#define LISTENER(chains)                                                                           \
    "{'name':'l','address':{'socket_address':{'address':'0.0.0.0','port_value':15006}},"           \
    "'filter_chains':[" chains "],'default_filter_chain':{'name':'default'," TCP_FILTER "}}"

struct connection {
    const char *to;
    const char *from;
    const char *server_name;
    const char *transport;
    const char *alpn[3];
    const char *chain;
};

static void assert_chain(const struct compiled *listener, const struct connection *connection)
{
    struct slice alpn[3];
    struct chain_query query = {.server_name = slice_of_text(connection->server_name),
                                .transport = slice_of_text(connection->transport),
                                .alpn = alpn};
    assert_true(addr_parse(slice_of_text(connection->to), &query.destination));
    assert_true(addr_parse(slice_of_text(connection->from), &query.source));
    query.direct_source = query.source;
    while (query.alpn_count < 3 && connection->alpn[query.alpn_count] != NULL) {
        alpn[query.alpn_count] = slice_of_text(connection->alpn[query.alpn_count]);
        query.alpn_count++;
    }
    const struct filter_chain *chain = chain_find(listener->listener, &query);
    assert_non_null(chain);
    if (!slice_eq(chain->name, slice_of_text(connection->chain))) {
        fail_msg("%s: got %.*s", connection->chain, SLICE_ARG(chain->name));
    }
}

static void permissive_chains(void **state)
{
    (void)state;
    struct compiled listener = config_good(
        XDS_RESOURCE_LISTENER, "l",
        LISTENER(CHAIN(
            "mesh",
            "'destination_port':8000,'transport_protocol':'tls',"
            "'application_protocols':['pillion-h2']") ","
        CHAIN("own-tls", "'destination_port':8000,"
            "'transport_protocol':'"
            "tls'") ","
        CHAIN("http", "'desti"
            "nation"
            "_port'"
            ":8000,"
            "'trans"
            "port_"
            "protoc"
            "ol':'"
            "raw_"
            "buffer"
            "','"
            "applic"
            "ation_"
            "protoc"
            "ols':"
            "['"
            "http/"
            "1.1','"
            "h2c']") ","
        CHAIN("tcp", "'destination_port':8000,'transport_protocol':'raw_buffer'") ","
        CHAIN("any-tls", "'transport_protocol':'tls'") ","
        CHAIN("blackhole", "'destination_port':15006")));
    static const struct connection rows[] = {
        {"10.0.0.1:8000", "10.0.0.9:5", "", "tls", {"pillion-h2"}, "mesh"},
        {"10.0.0.1:8000", "10.0.0.9:5", "", "tls", {"h2", "pillion-h2"}, "mesh"},
        {"10.0.0.1:8000", "10.0.0.9:5", "", "tls", {"h2"}, "own-tls"},
        {"10.0.0.1:8000", "10.0.0.9:5", "", "tls", {NULL}, "own-tls"},
        {"10.0.0.1:8000", "10.0.0.9:5", "", "raw_buffer", {"http/1.1"}, "http"},
        {"10.0.0.1:8000", "10.0.0.9:5", "", "raw_buffer", {NULL}, "tcp"},
        {"10.0.0.1:9000", "10.0.0.9:5", "", "tls", {"pillion-h2"}, "any-tls"},
        {"10.0.0.1:9000", "10.0.0.9:5", "", "raw_buffer", {NULL}, "default"},
        {"10.0.0.1:15006", "10.0.0.9:5", "", "tls", {NULL}, "blackhole"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_chain(&listener, &rows[i]);
    }
    compiled_free(&listener);
}

/* The most specific value of a level wins, and there is no way back from it. */
static void levels_do_not_backtrack(void **state)
{
    (void)state;
    struct compiled listener = config_good(
        XDS_RESOURCE_LISTENER, "l",
        LISTENER(CHAIN("wide", "'prefix_ranges':[{'address_prefix':'10.0.0.0','prefix_len':8}]") ","
        CHAIN("narrow", "'prefix_ranges':[{'address_prefix':'10.1.0.0','prefix_len':16}],"
            "'transport_protocol':'tls'") ","
        CHAIN("one", "'prefix_ranges':[{'address_prefix':'10."
            "1.1.1'}],'server_names':['a.b','*.c.d',"
            "'*.d']") ","
        CHAIN("local", "'prefix_ranges':[{'"
            "address_prefix':'"
            "10.2.0.0','prefix_"
            "len':16}],'source_"
            "type':"
            "'SAME_IP_OR_"
            "LOOPBACK'") ","
        CHAIN("fro"
            "m",
            "'pr"
            "efi"
            "x_"
            "ran"
            "ges"
            "':["
            "{'"
            "add"
            "res"
            "s_"
            "pre"
            "fix"
            "':'"
            "10."
            "2."
            "0."
            "0',"
            "'pr"
            "efi"
            "x_"
            "len"
            "':"
            "16}"
            "],"
            "'so"
            "urc"
            "e_"
            "pre"
            "fix"
            "_ra"
            "nge"
            "s':"
            "[{'"
            "add"
            "res"
            "s_"
            "pre"
            "fix"
            "':'"
            "10."
            "9."
            "0."
            "0',"
            "'pr"
            "efi"
            "x_"
            "len"
            "':"
            "16}"
            "],"
            "'so"
            "urc"
            "e_"
            "por"
            "ts'"
            ":["
            "77"
            "]")));
    static const struct connection rows[] = {
        {"10.3.0.1:1", "10.0.0.9:5", "", "raw_buffer", {NULL}, "wide"},
        {"10.1.2.1:1", "10.0.0.9:5", "", "tls", {NULL}, "narrow"},
        {"10.1.2.1:1", "10.0.0.9:5", "", "raw_buffer", {NULL}, "default"}, /* not "wide" */
        {"10.1.1.1:1", "10.0.0.9:5", "a.b", "tls", {NULL}, "one"},
        {"10.1.1.1:1", "10.0.0.9:5", "x.c.d", "raw_buffer", {NULL}, "one"},
        {"10.1.1.1:1", "10.0.0.9:5", "c.d", "raw_buffer", {NULL}, "one"},
        {"10.1.1.1:1", "10.0.0.9:5", "b.a", "tls", {NULL}, "default"},
        {"10.1.1.1:1", "10.0.0.9:5", "", "tls", {NULL}, "default"},
        {"10.2.1.1:1", "10.2.1.1:5", "", "raw_buffer", {NULL}, "local"},
        {"10.2.1.1:1", "127.0.0.1:5", "", "raw_buffer", {NULL}, "local"},
        {"10.2.1.1:1", "10.9.1.1:77", "", "raw_buffer", {NULL}, "from"},
        {"10.2.1.1:1", "10.9.1.1:78", "", "raw_buffer", {NULL}, "default"},
        {"10.2.1.1:1", "10.8.1.1:77", "", "raw_buffer", {NULL}, "default"},
        {"[2001:db8::1]:1", "[::1]:5", "", "tls", {NULL}, "default"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_chain(&listener, &rows[i]);
    }
    compiled_free(&listener);
}

/* clang-format on */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domains_have_envoys_precedence),
        cmocka_unit_test(the_port_counts_unless_told),
        cmocka_unit_test(paths_match_as_written),
        cmocka_unit_test(connect_needs_its_own_matcher),
        cmocka_unit_test(header_matches),
        cmocka_unit_test(repeated_lines_match_one_by_one),
        cmocka_unit_test(query_and_grpc),
        cmocka_unit_test(fractions_take_their_share),
        cmocka_unit_test(splits_are_exact_and_survive_updates),
        cmocka_unit_test(a_plain_route_needs_no_split),
        cmocka_unit_test(permissive_chains),
        cmocka_unit_test(levels_do_not_backtrack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
