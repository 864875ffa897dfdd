#include <stdio.h>
#include <stdlib.h>

#include "cli/status.h"
#include "tests/support/unit.h"

/* The text of an answer, to be freed; null with *err. */
static char *shown(const char *answer, struct error *err)
{
    struct arena arena;
    arena_init(&arena, NULL);
    json_t *json = json_parse(slice_of_text(answer), NULL, err);
    assert_non_null(json);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool printed = status_print(out, json, &arena, err);
    (void)fclose(out);
    json_decref(json);
    arena_fini(&arena);
    if (!printed) {
        assert_int_equal(len, 0);
        free(text);
        return NULL;
    }
    return text;
}

static void expect(const char *answer, const char *wanted)
{
    struct error err = {.text = ""};
    char *text = shown(answer, &err);
    assert_string_equal(err.text, "");
    assert_string_equal(text, wanted);
    free(text);
}

static void test_a_mesh(void **state)
{
    (void)state;
    expect(
        "{\"version\":\"0.1.0\",\"trust_domain\":\"cluster.local\",\"generation\":7,"
        "\"changed\":\"2026-11-20T14:15:53.123456Z\",\"state_saved\":true,\"sidecars\":["
        "{\"id\":\"sidecar~10.1.0.9~web.shop~shop.svc.cluster.local\",\"version\":\"pillion/"
        "0.1.0\","
        "\"generation\":7,\"acknowledged\":7,\"behind\":false,\"resources\":12,\"pending\":0,"
        "\"rejected\":0,\"certificate_rest_s\":83100,\"nacks\":[]},"
        "{\"id\":\"sidecar~10.1.0.8~order-v1.default~default.svc.cluster.local\",\"version\":\"\","
        "\"generation\":7,\"acknowledged\":5,\"behind\":true,\"resources\":3,\"pending\":1,"
        "\"rejected\":1,\"certificate_rest_s\":0,\"nacks\":[{\"type\":\"CDS\","
        "\"name\":\"outbound|80||x\",\"text\":\"clusters[0]: bad \\u001b[31m\"}]},"
        "{\"id\":\"grpc\",\"generation\":7,\"acknowledged\":7,\"certificate_rest_s\":null}],"
        "\"problems\":[{\"severity\":\"error\",\"file\":\"a.yaml\",\"line\":3,"
        "\"object\":\"VirtualService/default/x\",\"path\":\"spec.http[0]\",\"text\":\"no\"},"
        "{\"severity\":\"error\",\"file\":\"b.yaml\",\"line\":0,\"object\":\"\",\"path\":\"\","
        "\"text\":\"cannot be read\"}]}",
        "mesh cluster.local, generation 7 since 2026-11-20T14:15:53.123456Z; sidecars: 3, behind: "
        "1\n"
        "\n"
        "SIDECAR           VERSION        STATE    LIVE AT  CERTIFICATE  RESOURCES\n"
        "web.shop          pillion/0.1.0  current  7        23h05m       12\n"
        "order-v1.default  -              behind   5 of 7   expired      3, 1 pending, 1 refused\n"
        "grpc              -              current  7        -            0\n"
        "\n"
        "refused by sidecars:\n"
        "  order-v1.default: CDS outbound|80||x: clusters[0]: bad ?[31m\n"
        "\n"
        "problems of policy:\n"
        "  a.yaml:3: error: VirtualService/default/x: spec.http[0]: no\n"
        "  b.yaml: error: cannot be read\n");
}

static void test_an_empty_mesh(void **state)
{
    (void)state;
    expect("{\"trust_domain\":\"cluster.local\",\"generation\":0,\"changed\":null,"
           "\"state_saved\":false,\"sidecars\":[]}",
           "mesh cluster.local, generation 0; sidecars: 0, behind: 0\n"
           "pillion-control cannot write its state: a restart would lose what changed\n");
    expect("{}", "mesh , generation 0; sidecars: 0, behind: 0\n");
}

struct refusal {
    const char *answer;
    const char *error;
};

static const struct refusal refusals[] = {
    {"{\"sidecars\":7}", "sidecars: wants an array, has an integer"},
    {"{\"sidecars\":[7]}", "sidecars[0]: wants an object, has an integer"},
    {"{\"sidecars\":[{},{\"behind\":\"no\"}]}",
     "sidecars[1]: behind: wants true or false, has a string"},
    {"{\"generation\":-1}", NULL},
};

static void test_another_form_is_an_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        struct error err = {.text = ""};
        assert_null(shown(refusals[i].answer, &err));
        if (refusals[i].error != NULL) {
            assert_string_equal(err.text, refusals[i].error);
        }
    }
}

static void test_names_of_nodes(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"sidecar~10.0.0.1~a.b~b.svc.cluster.local", "a.b"},
        {"sidecar~10.0.0.1~a.b", "sidecar~10.0.0.1~a.b"},
        {"sidecar~10.0.0.1~~x", "sidecar~10.0.0.1~~x"},
        {"", ""},
        {"node", "node"},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_true(slice_eq(status_name(slice_of_text(names[i][0])), slice_of_text(names[i][1])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mesh),
        cmocka_unit_test(test_an_empty_mesh),
        cmocka_unit_test(test_another_form_is_an_error),
        cmocka_unit_test(test_names_of_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
