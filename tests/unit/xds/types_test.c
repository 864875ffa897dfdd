#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "xds/types.h"

#include <cmocka.h>

static void every_url_is_its_descriptors_name(void **state)
{
    (void)state;
    size_t count = 0;
    const struct xds_type *types = xds_types(&count);
    for (size_t i = 0; i < count; i++) {
        const char *slash = strrchr(types[i].url, '/');
        assert_non_null(slash);
        if (types[i].descriptor != NULL) {
            assert_string_equal(slash + 1, types[i].descriptor->name);
        }
        assert_ptr_equal(xds_type_find(types[i].url), &types[i]);
        assert_true(xds_kind_name(types[i].kind)[0] != '\0');
        assert_true(xds_verdict_name(types[i].verdict)[0] != '\0');
        assert_int_equal(types[i].kind == XDS_RESOURCE, types[i].resource < XDS_RESOURCE_COUNT);
    }
}

static void resources_stand_in_the_order_of_sending(void **state)
{
    (void)state;
    static const char *const order[] = {"CDS", "EDS", "LDS", "RDS", "VHDS", "SDS", "ECDS"};
    for (unsigned i = 0; i < COUNT_OF(order); i++) {
        assert_string_equal(xds_type_of_resource((enum xds_resource)i)->short_name, order[i]);
    }
    assert_string_equal(xds_type_of_resource(XDS_RESOURCE_DESTINATION)->url,
                        "type.googleapis.com/pillion.config.v1.Destination");
}

static void only_the_last_segment_counts(void **state)
{
    (void)state;
    assert_ptr_equal(xds_type_find("example.com/a/envoy.config.cluster.v3.Cluster"),
                     xds_type_of_resource(XDS_RESOURCE_CLUSTER));
    assert_null(xds_type_find("envoy.config.cluster.v3.Cluster"));
    assert_null(xds_type_find("type.googleapis.com/envoy.config.cluster.v3.Cluster2"));
    assert_null(xds_type_find(""));
}

static void what_would_change_traffic_is_never_ignored(void **state)
{
    (void)state;
    assert_int_equal(
        xds_type_find("type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz")
            ->verdict,
        XDS_REFUSE);
    assert_int_equal(xds_type_find("type.googleapis.com/stats.PluginConfig")->verdict, XDS_IGNORE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_url_is_its_descriptors_name),
        cmocka_unit_test(resources_stand_in_the_order_of_sending),
        cmocka_unit_test(only_the_last_segment_counts),
        cmocka_unit_test(what_would_change_traffic_is_never_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
