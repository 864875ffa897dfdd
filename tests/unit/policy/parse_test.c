/* Documents that are refused, each with the whole line that says why; and what good ones become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "policy/parse.h"
#include "policy/validate.h"

#include <cmocka.h>

struct parsed {
    struct arena arena;
    struct policy_problems problems;
    struct policy_documents documents;
};

static void parse(struct parsed *parsed, const char *text)
{
    arena_init(&parsed->arena, NULL);
    policy_problems_init(&parsed->problems, &parsed->arena);
    policy_documents_init(&parsed->documents);
    policy_parse(slice_of_text(text), "f.yaml", &parsed->documents, &parsed->problems);
    for (size_t i = 0; i < parsed->documents.count; i++) {
        (void)!policy_validate_object(parsed->documents.objects[i], &parsed->problems);
    }
}

static void parsed_fini(struct parsed *parsed)
{
    policy_documents_fini(&parsed->documents);
    arena_fini(&parsed->arena);
}

#define SERVICE "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n"
#define ENTRY                                                                                      \
    "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\nspec:\n"
#define VIRTUAL                                                                                    \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n"
#define HTTP  VIRTUAL "  hosts: [a]\n  http:\n"
#define ROUTE "    route: [{destination: {host: a}}]\n"
#define RULE                                                                                       \
    "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {name: a}\n"        \
    "spec:\n  host: a\n"
#define PEER                                                                                       \
    "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec:\n"

/* Line 1 is apiVersion, so the first line of a spec is 5. */
static const struct {
    const char *text;
    const char *problem;
} refused[] = {
    /* Documents. */
    {"[1, 2]", "f.yaml:1: error: an object is a mapping with apiVersion and kind"},
    {"kind: Service\n",
     "f.yaml:1: error: apiVersion: an object starts with apiVersion and kind, two strings"},
    {"apiVersion: v1\nkind: 7\n",
     "f.yaml:1: error: kind: an object starts with apiVersion and kind, two strings"},
    {"apiVersion: apps/v1\nkind: Deployment\n",
     "f.yaml:2: error: kind: Deployment of that apiVersion is not an object of the mesh; allowed: "
     "Service, Endpoints, EndpointSlice, WorkloadEntry, VirtualService, DestinationRule, "
     "PeerAuthentication"},
    {"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n",
     "f.yaml:2: error: kind: ServiceEntry is not supported yet"},
    {"apiVersion: networking.istio.io/v2\nkind: VirtualService\n",
     "f.yaml:1: error: apiVersion: version v2 of VirtualService is not supported; allowed: v1, "
     "v1beta1, v1alpha3"},
    {"apiVersion: v1\nkind: Service\nspec: {}\n",
     "f.yaml:1: error: metadata: an object needs metadata with a name"},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: A_b}\nspec: {}\n",
     "f.yaml:3: error: metadata.name: an object needs a name; allowed: lower case letters, "
     "digits, \"-\" and \".\""},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: a/b}\nspec: {}\n",
     "f.yaml:3: error: metadata.namespace: not a namespace; allowed: lower case letters, digits "
     "and \"-\""},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: a, label: {}}\nspec: {}\n",
     "f.yaml:3: error: metadata.label: unknown field; allowed: name, namespace, uid, labels, "
     "annotations"},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
     "f.yaml:1: error: Service/default/a: an object of this kind needs a spec"},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspecs: {}\nspec: {}\n",
     "f.yaml:4: error: Service/default/a: specs: unknown field; allowed: apiVersion, kind, "
     "metadata, spec"},
    /* Fields. */
    {SERVICE "  ports: {}\n",
     "f.yaml:5: error: Service/default/a: spec.ports: wants a list, has a mapping"},
    {SERVICE "  selector: {app: 1}\n",
     "f.yaml:5: error: Service/default/a: spec.selector[\"app\"]: wants a string, has an integer; "
     "put it in quotes"},
    {SERVICE "  ports:\n  - port: 70000\n",
     "f.yaml:6: error: Service/default/a: spec.ports[0].port: 70000 is out of range; allowed: 1 "
     "to 65535"},
    {SERVICE "  ports:\n  - port: 80\n    protocol: QUIC\n",
     "f.yaml:7: error: Service/default/a: spec.ports[0].protocol: \"QUIC\" is not supported; "
     "allowed: TCP, UDP, SCTP"},
    {SERVICE "  type: ExternalName\n",
     "f.yaml:5: error: Service/default/a: spec.type: only ClusterIP, NodePort, LoadBalancer is "
     "supported"},
    {SERVICE "  externalName: x.org\n",
     "f.yaml:5: error: Service/default/a: spec.externalName: `externalName` is not supported yet"},
    {SERVICE "  clusterIP: 10.0.0\n",
     "f.yaml:5: error: Service/default/a: spec.clusterIP: \"10.0.0\" is no address; allowed: an "
     "IP or None"},
    {SERVICE "  ports:\n  - {port: 80, name: x}\n  - {port: 81}\n",
     "f.yaml:7: error: Service/default/a: spec.ports[1].name: each of several ports needs a name"},
    {SERVICE "  ports:\n  - {port: 80, name: x}\n  - {port: 80, name: z}\n",
     "f.yaml:7: error: Service/default/a: spec.ports[1].port: the port is there twice"},
    {ENTRY "  address: example.org\n",
     "f.yaml:5: error: WorkloadEntry/default/a: spec.address: \"example.org\" is no address; "
     "allowed: an IPv4 or IPv6 address"},
    {ENTRY "  address: 10.0.0.1\n  ports: {http: 0}\n",
     "f.yaml:6: error: WorkloadEntry/default/a: spec.ports[\"http\"]: 0 is out of range; allowed: "
     "1 to 65535"},
    {ENTRY "  address: 10.0.0.1\n  serviceAccount: a/b\n",
     "f.yaml:6: error: WorkloadEntry/default/a: spec.serviceAccount: \"a/b\" is no service "
     "account; allowed: a DNS name"},
    /* VirtualService. */
    {VIRTUAL "  hosts: []\n  http:\n  - name: x\n" ROUTE,
     "f.yaml:5: error: VirtualService/default/a: spec.hosts: at least one host is needed"},
    {VIRTUAL "  hosts: [a]\n", "f.yaml:5: error: VirtualService/default/a: spec.http: at least one "
                               "rule of http, tls or tcp is needed"},
    {HTTP "  - mirror: {host: b}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].mirror: `mirror` is not supported "
     "yet"},
    {HTTP "  - timeout: 0s\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].timeout: 0s is not a timeout; "
     "allowed: 1ms or more; leave it out for none"},
    {HTTP "  - timeout: fast\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].timeout: \"fast\" is not a "
     "duration; allowed: numbers with h, m, s, ms, as in \"1.5s\" or \"1m30s\""},
    {HTTP "  - retries: {attempts: 0, retryOn: 5xx}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].retries.attempts: 0 attempts turn "
     "retries off, so nothing else can be set; allowed: 1 or more"},
    {HTTP "  - retries: {attempts: 1, retryOn: 'sometimes,5xx'}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].retries.retryOn: \"sometimes\" is "
     "not a condition; allowed: Envoy's (5xx, gateway-error, reset, connect-failure, ...) and "
     "statuses"},
    {HTTP "  - name: x\n",
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].route: a rule needs a route; "
     "allowed: 1 to 1024 destinations"},
    {HTTP "  - route:\n    - destination: {host: a}\n      weight: 0\n"
          "    - destination: {host: b}\n",
     "f.yaml:8: error: VirtualService/default/a: spec.http[0].route: the weights sum to 0; "
     "allowed: at least one above 0"},
    {HTTP "  - route:\n    - weight: 1\n",
     "f.yaml:8: error: VirtualService/default/a: spec.http[0].route[0].destination.host: a host "
     "is needed"},
    {HTTP "  - match: [{uri: {regex: '(a'}}]\n" ROUTE, "spec.http[0].match[0].uri: regex: "},
    {HTTP "  - match: [{headers: {'x y': {exact: a}}}]\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].match[0].headers[\"x y\"]: not a "
     "header name; allowed: letters, digits and !#$%&'*+-.^_`|~"},
    {HTTP "  - match: [{headers: {uri: {exact: a}}}]\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].match[0].headers[\"uri\"]: not a "
     "header; use the match field of that name"},
    {HTTP "  - match: [{uri: {exact: a, prefix: b}}]\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].match[0].uri.prefix: only one of "
     "exact, prefix, regex can be set"},
    {HTTP "  - match: [{uri: {exact: orders}}]\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].match[0].uri: \"orders\" never "
     "matches; allowed: a path that begins with \"/\""},
    {HTTP "  - headers: {request: {set: {'a b': c}}}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].headers.request.set[\"a b\"]: not a "
     "header name; allowed: letters, digits and !#$%&'*+-.^_`|~"},
    {HTTP "  - headers: {request: {set: {a: 100%}}}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].headers.request.set[\"a\"]: \"%\" "
     "is no operator; allowed: Envoy's, as %REQ(x-name)%, and %% for the sign"},
    {HTTP "  - headers: {request: {add: {a: 'b %NOTHING% c'}}}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].headers.request.add[\"a\"]: "
     "\"%NOTHING\" is no operator; allowed: Envoy's, as %REQ(x-name)%, and %% for the sign"},
    {HTTP "  - headers: {request: {add: {a: '%REQ()%'}}}\n" ROUTE, "\"%REQ()\" is no operator"},
    {HTTP "  - headers: {request: {add: {Host: b}}}\n" ROUTE,
     "Host can only be set, and only on requests"},
    {"apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\nspec: {}\n",
     "f.yaml:1: error: Service/default/a.b: metadata.name: a Service's name has no dots and at "
     "most 63 letters"},
    {HTTP "  - headers: {response: {remove: [Host]}}\n" ROUTE,
     "f.yaml:7: error: VirtualService/default/a: spec.http[0].headers.response.remove[0]: "
     "\"Host\" cannot be removed; allowed: header names but Host"},
    {VIRTUAL "  hosts: [a]\n  gateways: [mesh, edge]\n  http:\n  - name: x\n" ROUTE,
     "f.yaml:6: error: VirtualService/default/a: spec.gateways[1]: only mesh is supported"},
    /* DestinationRule. */
    {RULE "  subsets: [{labels: {v: a}}]\n",
     "f.yaml:6: error: DestinationRule/default/a: spec.subsets[0].name: a subset needs a name; "
     "allowed: at most 63 letters, digits, \"-\" and \".\""},
    {RULE "  subsets: [{name: a}, {name: a}]\n",
     "f.yaml:6: error: DestinationRule/default/a: spec.subsets[1].name: the name is used twice"},
    {RULE "  trafficPolicy: {tls: {mode: SIMPLE}}\n",
     "f.yaml:6: error: DestinationRule/default/a: spec.trafficPolicy.tls.mode: \"SIMPLE\" is not "
     "supported; allowed: DISABLE, ISTIO_MUTUAL"},
    {RULE "  trafficPolicy: {portLevelSettings: [{tls: {mode: DISABLE}}]}\n",
     "f.yaml:6: error: DestinationRule/default/a: spec.trafficPolicy.portLevelSettings[0].port."
     "number: settings of a port need its number"},
    {RULE "  trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}\n",
     "f.yaml:6: error: DestinationRule/default/a: spec.trafficPolicy.outlierDetection."
     "maxEjectionPercent: 101 is out of range; allowed: 0 to 100"},
    {RULE "  trafficPolicy: {loadBalancer: {consistentHash: {}}}\n",
     "f.yaml:6: error: DestinationRule/default/a: spec.trafficPolicy.loadBalancer.consistentHash: "
     "`consistentHash` is not supported yet"},
    /* Connections. */
    {VIRTUAL "  hosts: [a]\n  tcp: [{route: []}]\n",
     "f.yaml:6: error: VirtualService/default/a: spec.tcp[0].route: a rule needs a route; allowed: "
     "1 to 1024 destinations"},
    {VIRTUAL "  hosts: [a]\n  tcp: [{match: [{destinationSubnets: [10.0.0.0/33]}], route: "
             "[{destination: {host: "
             "a}}]}]\n",
     "f.yaml:6: error: VirtualService/default/a: spec.tcp[0].match[0].destinationSubnets[0]: "
     "\"10.0.0.0/33\" is no subnet; allowed: an address, or ADDRESS/BITS"},
    {VIRTUAL
     "  hosts: [a]\n  tcp: [{match: [{sniHosts: [a]}], route: [{destination: {host: a}}]}]\n",
     "f.yaml:6: error: VirtualService/default/a: spec.tcp[0].match[0].sniHosts: unknown field"},
    {VIRTUAL "  hosts: [a]\n  tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: "
             "{host: a}}]}]\n",
     "spec.tcp[0].match[0].sourceSubnet: `sourceSubnet` is not supported yet"},
    {VIRTUAL "  hosts: [a]\n  tls: [{route: [{destination: {host: a}}]}]\n",
     "spec.tls[0].match: a rule of tls needs a match with sniHosts"},
    {VIRTUAL "  hosts: [a]\n  tls: [{match: [{port: 443}], route: [{destination: {host: a}}]}]\n",
     "spec.tls[0].match[0].sniHosts: at least one name is needed"},
    {VIRTUAL "  hosts: [a]\n  tcp: [{route: [{destination: {host: a}, weight: 0}, {destination: "
             "{host: b}}]}]\n",
     "spec.tcp[0].route: the weights sum to 0; allowed: at least one above 0"},
    /* PeerAuthentication. */
    {PEER "  mtls: {mode: ALWAYS}\n",
     "f.yaml:5: error: PeerAuthentication/default/a: spec.mtls.mode: \"ALWAYS\" is not supported; "
     "allowed: UNSET, DISABLE, PERMISSIVE, STRICT"},
    {PEER "  portLevelMtls: {80: {mode: STRICT}}\n",
     "f.yaml:5: error: PeerAuthentication/default/a: spec.portLevelMtls: only with a selector: "
     "ports are those of workloads"},
    {PEER "  portLevelMtls: {http: {mode: STRICT}}\n",
     "f.yaml:5: error: PeerAuthentication/default/a: spec.portLevelMtls[\"http\"]: the name must "
     "be a port; allowed: 1 to 65535"},
};

static void test_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct parsed parsed;
        parse(&parsed, refused[i].text);
        if (parsed.problems.count == 0) {
            fail_msg("nothing wrong in:\n%s", refused[i].text);
        }
        const char *said = policy_problem_text(&parsed.arena, &parsed.problems.at[0]);
        if (strstr(said, refused[i].problem) == NULL) {
            fail_msg("wanted %s\nhas    %s", refused[i].problem, said);
        }
        parsed_fini(&parsed);
    }
}

static void test_one_bad_document_leaves_the_others(void **state)
{
    (void)state;
    struct parsed parsed;
    parse(&parsed, SERVICE "  nonsense: 1\n---\n{ not yaml\n---\n" PEER
                           "  mtls: {mode: STRICT}\n---\n" RULE);
    assert_int_equal(parsed.documents.count, 2);
    assert_string_equal(parsed.documents.objects[0]->id, "PeerAuthentication/default/a");
    assert_string_equal(parsed.documents.objects[1]->id, "DestinationRule/default/a");
    assert_int_equal(parsed.documents.broken_count, 2);
    assert_string_equal(parsed.documents.broken[0].id, "Service/default/a");
    assert_null(parsed.documents.broken[1].id);
    parsed_fini(&parsed);
}

static void test_kubernetes_own_fields_are_tolerated(void **state)
{
    (void)state;
    struct parsed parsed;
    parse(&parsed, "apiVersion: v1\nkind: List\nitems:\n"
                   "- apiVersion: v1\n  kind: Service\n"
                   "  metadata: {name: a, namespace: shop, uid: u-1, resourceVersion: '7',\n"
                   "    creationTimestamp: 2024-01-01T00:00:00Z, managedFields: [{}]}\n"
                   "  spec: {clusterIP: None, ipFamilies: [IPv4], type: ClusterIP,\n"
                   "    sessionAffinity: None, ports: [{port: 80, targetPort: web}]}\n"
                   "  status: {loadBalancer: {}}\n");
    assert_int_equal(parsed.problems.count, 0);
    assert_int_equal(parsed.documents.count, 1);
    const struct object *object = parsed.documents.objects[0];
    assert_string_equal(object->id, "Service/shop/a");
    assert_string_equal(object->uid, "u-1");
    const struct service *service = object_service(object);
    assert_string_equal(service->ports.at[0].target_port_name.value, "web");
    assert_int_equal(service->ports.at[0].line, 9);
    parsed_fini(&parsed);
}

static uint64_t hash_of(const char *text)
{
    struct parsed parsed;
    parse(&parsed, text);
    assert_int_equal(parsed.documents.count, 1);
    uint64_t hash = parsed.documents.objects[0]->hash;
    parsed_fini(&parsed);
    return hash;
}

static void test_hash_is_of_what_is_said(void **state)
{
    (void)state;
    uint64_t hash = hash_of(PEER "  mtls: {mode: STRICT}\n");
    /* Another place, another version, status: the same object. */
    assert_true(hash == hash_of("\n\napiVersion: security.istio.io/v1beta1\n"
                                "kind: PeerAuthentication\nmetadata: {name: a}\nspec:\n"
                                "  mtls: {mode: STRICT}\nstatus: {x: 1}\n"));
    assert_true(hash != hash_of(PEER "  mtls: {mode: PERMISSIVE}\n"));
    assert_true(hash != hash_of("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
                                "metadata: {name: a, labels: {x: z}}\nspec:\n"
                                "  mtls: {mode: STRICT}\n"));
}

static void test_header_templates_that_are_fine(void **state)
{
    (void)state;
    static const char *const values[] = {
        "plain", "", "100%%", "%%", "%REQ(x-a)%", "a %PROTOCOL% b %REQ(x-b)% c", "%%%PROTOCOL%%%",
    };
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        struct parsed parsed;
        char text[256];
        assert_true(snprintf(text, sizeof text,
                             HTTP "  - headers: {request: {set: {a: '%s'}}}\n" ROUTE,
                             values[i]) > 0);
        parse(&parsed, text);
        if (parsed.problems.count > 0) {
            fail_msg("%s", policy_problem_text(&parsed.arena, &parsed.problems.at[0]));
        }
        parsed_fini(&parsed);
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us; /* -1: none */
    } rows[] = {
        {"30s", 30000000},  {"1.5s", 1500000}, {"1m30s", 90000000}, {"500ms", 500000},
        {"1h", 3600000000}, {"0", 0},          {"0s", 0},           {"0.000001s", 1},
        {"", -1},           {"s", -1},         {"5", -1},           {"-5s", -1},
        {"1d", -1},         {"1..5s", -1},     {"5s ", -1},         {"9999999h", -1},
        {".s", -1},         {"1s1", -1},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct parsed parsed;
        char text[256];
        assert_true(snprintf(text, sizeof text, HTTP "  - timeout: '%s'\n" ROUTE, rows[i].text) >
                    0);
        parse(&parsed, text);
        /* 0 is a duration; that it is no timeout is said later. */
        assert_int_equal(parsed.documents.count, rows[i].us >= 0 ? 1 : 0);
        if (rows[i].us >= 0) {
            const struct virtual_service *spec =
                object_virtual_service(parsed.documents.objects[0]);
            assert_int_equal(spec->http.at[0].timeout.us, rows[i].us);
        }
        parsed_fini(&parsed);
    }
}

int main(void)
{
    json_init_library();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_by_name),
        cmocka_unit_test(test_one_bad_document_leaves_the_others),
        cmocka_unit_test(test_kubernetes_own_fields_are_tolerated),
        cmocka_unit_test(test_hash_is_of_what_is_said),
        cmocka_unit_test(test_header_templates_that_are_fine),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests_name("policy/parse", tests, NULL, NULL);
}
