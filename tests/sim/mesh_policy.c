/* What people would write for the simulated mesh, and the one static configuration in it: of an
 * intruder, whom no control plane configures. */
#include "base/arena.h"
#include "tests/sim/mesh.h"

static const char *entry(struct arena *arena, const char *name, const char *address,
                         const char *account, const char *labels)
{
    return arena_printf(arena,
                        "apiVersion: networking.istio.io/v1beta1\nkind: WorkloadEntry\n"
                        "metadata: {name: %s}\nspec:\n  address: %s\n  serviceAccount: %s\n"
                        "  labels: {%s}\n---\n",
                        name, address, account, labels);
}

const char *mesh_account(unsigned server)
{
    return server == 1 ? "second" : "server";
}

static const char *workloads(struct arena *arena, const struct mesh_plan *plan, unsigned from)
{
    const char *text = entry(arena, "client", "10.0.0.1", "client", "app: client");
    for (unsigned i = from; i < plan->servers; i++) {
        const char *labels =
            arena_printf(arena, "app: order, version: v%u, security.istio.io/tlsMode: istio",
                         i < plan->first ? 1 : 2);
        text =
            arena_printf(arena, "%s%s", text,
                         entry(arena, arena_printf(arena, "server-%u", i),
                               arena_printf(arena, "10.0.1.%u", i + 1), mesh_account(i), labels));
    }
    return text;
}

static const char *rules(struct arena *arena, const unsigned *weight)
{
    const char *routes = "";
    for (unsigned i = 0; i < 2; i++) {
        routes = arena_printf(arena,
                              "%s    - destination: {host: order-service, subset: v%u, port: "
                              "{number: 8000}}\n      weight: %u\n",
                              routes, i + 1, weight[i]);
    }
    return arena_printf(arena,
                        "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\n"
                        "metadata: {name: order-service}\nspec:\n  hosts: [order-service]\n"
                        "  http:\n  - route:\n%s---\n"
                        "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\n"
                        "metadata: {name: order-service}\nspec:\n  host: order-service\n"
                        "  subsets:\n  - {name: v1, labels: {version: v1}}\n"
                        "  - {name: v2, labels: {version: v2}}\n---\n",
                        routes);
}

const char *mesh_policy(struct arena *arena, const struct mesh_plan *plan,
                        const struct mesh_objects *objects)
{
    static const char service[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: order-service}\nspec:\n"
        "  clusterIP: 10.96.0.10\n  selector: {app: order}\n"
        "  ports: [{name: http, port: 8000, targetPort: 8000}]\n---\n";
    static const char others[] =
        "apiVersion: v1\nkind: Service\nmetadata: {name: bytes-service}\nspec:\n"
        "  clusterIP: 10.96.0.20\n  selector: {app: order}\n"
        "  ports: [{name: tcp, port: 9000, targetPort: 9000}]\n---\n"
        "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\n"
        "metadata: {name: default, namespace: pillion-system}\nspec: {mtls: {mode: STRICT}}\n";
    return arena_printf(arena, "%s%s%s%s", workloads(arena, plan, objects->left ? 1 : 0),
                        objects->removed ? "" : service,
                        objects->removed ? "" : rules(arena, objects->weight), others);
}
