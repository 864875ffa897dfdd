#include "sidecar/config/compile.h"

#include "sidecar/config/compile_cluster.h"
#include "sidecar/config/compile_destination.h"
#include "sidecar/config/compile_endpoint.h"
#include "sidecar/config/compile_listener.h"
#include "sidecar/config/compile_route.h"
#include "sidecar/config/compile_tls.h"
#include "xds/decode.h"

static bool same_name(struct compiler *c, const char *field, const char *inner, struct slice name)
{
    return slice_eq(slice_of_text(inner), name) ||
           compile_refuse(c, field, "is '%.200s', but the resource is named '%.*s'", inner,
                          SLICE_ARG(slice_head(name, 200)));
}

static bool listener_resource(struct compiler *c, struct slice name, const void *message,
                              struct compiled *out)
{
    const Envoy__Config__Listener__V3__Listener *given = message;
    struct listener_config *listener = ARENA_NEW(c->arena, struct listener_config);
    out->listener = listener;
    return same_name(c, "name", given->name, name) && compile_listener(c, given, listener);
}

static bool routes_resource(struct compiler *c, struct slice name, const void *message,
                            struct compiled *out)
{
    const Envoy__Config__Route__V3__RouteConfiguration *given = message;
    return same_name(c, "name", given->name, name) && compile_routes(c, given, &out->routes);
}

static bool cluster_resource(struct compiler *c, struct slice name, const void *message,
                             struct compiled *out)
{
    const Envoy__Config__Cluster__V3__Cluster *given = message;
    struct cluster_config *cluster = ARENA_NEW(c->arena, struct cluster_config);
    out->cluster = cluster;
    return same_name(c, "name", given->name, name) && compile_cluster(c, given, cluster);
}

static bool endpoints_resource(struct compiler *c, struct slice name, const void *message,
                               struct compiled *out)
{
    const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *given = message;
    struct endpoint_set *set = ARENA_NEW(c->arena, struct endpoint_set);
    out->endpoints = set;
    return same_name(c, "cluster_name", given->cluster_name, name) &&
           compile_endpoints(c, given, false, set);
}

static bool secret_resource(struct compiler *c, struct slice name, const void *message,
                            struct compiled *out)
{
    const Envoy__Extensions__TransportSockets__Tls__V3__Secret *given = message;
    struct named_secret *secret = ARENA_NEW(c->arena, struct named_secret);
    out->secret = secret;
    return same_name(c, "name", given->name, name) && compile_secret(c, given, secret);
}

static bool destination_resource(struct compiler *c, struct slice name, const void *message,
                                 struct compiled *out)
{
    struct destination *destination = ARENA_NEW(c->arena, struct destination);
    out->destination = destination;
    return compile_destination(c, name, message, destination);
}

static bool resource_of(struct compiler *c, enum xds_resource type, struct slice name,
                        const void *message, struct compiled *out)
{
    switch (type) {
    case XDS_RESOURCE_LISTENER:
        return listener_resource(c, name, message, out);
    case XDS_RESOURCE_ROUTES:
        return routes_resource(c, name, message, out);
    case XDS_RESOURCE_CLUSTER:
        return cluster_resource(c, name, message, out);
    case XDS_RESOURCE_ENDPOINTS:
        return endpoints_resource(c, name, message, out);
    case XDS_RESOURCE_SECRET:
        return secret_resource(c, name, message, out);
    case XDS_RESOURCE_DESTINATION:
        return destination_resource(c, name, message, out);
    case XDS_RESOURCE_VIRTUAL_HOST:
    case XDS_RESOURCE_EXTENSION:
    case XDS_RESOURCE_COUNT:
        break;
    }
    return compile_refuse(c, "type", "this resource type is not supported");
}

bool compile_resource(enum xds_resource type, struct slice name, struct slice bytes,
                      const struct compile_options *options, struct compiled *out,
                      struct error *err)
{
    CHECK(type < XDS_RESOURCE_COUNT);
    *out = (struct compiled){.owner = snapshot_new(), .type = type};
    struct arena scratch;
    arena_init(&scratch, NULL);
    const ProtobufCMessageDescriptor *descriptor = xds_type_of_resource(type)->descriptor;
    const void *message = decode_message(&scratch, descriptor, bytes, err);
    bool good = false;
    if (message != NULL) {
        struct compiler c;
        compiler_init(&c, out->owner, &scratch, options, err);
        good = resource_of(&c, type, name, message, out);
        compiler_fini(&c);
    }
    arena_fini(&scratch);
    if (!good) {
        compiled_free(out);
    }
    return good;
}

void compiled_free(struct compiled *compiled)
{
    snapshot_free(&compiled->owner);
    *compiled = (struct compiled){.owner = NULL};
}
