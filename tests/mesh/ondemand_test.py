"""Sidecars that a real pillion-control configures: identity, inbound, destinations on demand."""

import contextlib
import unittest

from support.control import SUBSETS, running, service, split, workload
from support.net import free_port
from support.sidecar import App, Sidecar, ask

ORDER = "order-service:8000"
UNKNOWN = "no-such-service:8000"


class Mesh:
    """A client and two versions of a service, each with its sidecar."""

    def __init__(self, stack, outbound=(ORDER,), options=()):
        self.apps = {v: stack.enter_context(App(v)) for v in ("v1", "v2")}
        self.ports = {v: free_port() for v in self.apps}
        objects = [service("order-service"), SUBSETS,
                   workload("client", "client", "v1", free_port(), True, "client")]
        objects += [workload(f"{v}-a", "order-service", v, self.ports[v], True) for v in self.apps]
        self.control = stack.enter_context(running(*objects))
        self.sidecars = {
            v: stack.enter_context(Sidecar(self.control, f"{v}-a", "order-service",
                                           inbound={self.ports[v]: self.apps[v].port}))
            for v in self.apps}
        self.client = stack.enter_context(
            Sidecar(self.control, "client", "client", outbound=outbound, options=options))


class OnDemand(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def test_a_request_travels_over_two_sidecars(self):
        mesh = Mesh(self.stack)
        connection = mesh.client.connect(ORDER)
        self.addCleanup(connection.close)
        for _ in range(20):
            status, _, body = ask(connection, "/orders")
            self.assertEqual((status, body["path"]), (200, "/orders"))
            self.assertEqual(body["from"][0], "127.0.0.6")
            self.assertIn("URI=spiffe://cluster.local/ns/default/sa/client",
                          body["headers"]["x-forwarded-client-cert"])


if __name__ == "__main__":
    unittest.main()
